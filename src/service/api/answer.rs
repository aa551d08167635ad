//! The answers of `/api/v1`: what the commands say with `--json`, made by the same functions.

use super::Api;
use super::acts;
use super::domain::known;
use super::question::{ApiQuestion, RouteNeeds};
pub(super) use super::reading::{ApiFault, blocking, policies};
use super::summary::CountedQueue;
use super::visitor::{LoginProof, Visitor};
use super::wanted::{ActWanted, ApiOrder, AskedOver, needed_for};
use crate::accept::suspended::{Suspension, SuspensionRecord};
use crate::check::posture;
use crate::clock::Timestamp;
use crate::command::content::{self, ContentPart};
use crate::command::queue::page::{self, MOST_SORTED, PageError, PageOrder, PageWanted, QueuePage};
use crate::command::queue::summary::QueueSummary;
use crate::command::tls_reports::SentReport;
use crate::command::{incidents, json, why};
use crate::envelope::QueueId;
use crate::report::tls::TlsReportDocument;
use crate::service::order::OrderEvent;
use crate::service::suspensions::{SuspendedNow, SuspensionOrder};
use crate::service::tls_reports::{self, preview};
use crate::spool::tls_session::{ReportDay, TlsReportId};
use axum::http::StatusCode;
use bytes::Bytes;
use serde::Serialize;
use serde_json::json;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc, watch};

use super::checks::CheckProgress;

/// The description of the interface.
const OPEN_API: &str = include_str!("../../../deploy/openapi.json");
/// Rows about reports on TLS.
const MOST_REPORTS: usize = 1_000;
/// How long an answer of the DNS may be waited for.
const LOOKING_UP: Duration = Duration::from_secs(3);
/// How long a count of what waits may be waited for.
const COUNTING: Duration = Duration::from_secs(2);

/// An answer.
pub(super) enum ApiAnswer {
    /// JSON.
    Json(String),
    /// JSON about something that has begun.
    Begun(String),
    /// A file, which no browser shows as a page.
    File(ApiFile),
    /// The progress of a check, as it comes.
    Events(watch::Receiver<CheckProgress>),
    /// What an order has brought so far, as it comes.
    Replies(OrderReplies),
}

/// A file to be kept.
pub(super) struct ApiFile {
    /// Its media type.
    pub(super) kind: &'static str,
    /// The name that is proposed for it; of our own words and those of domains alone.
    pub(super) name: String,
    /// What is in it.
    pub(super) octets: Bytes,
}

/// What is told of an order while it is carried out.
pub(super) struct OrderReplies {
    /// What comes.
    pub(super) replies: mpsc::Receiver<OrderEvent>,
    /// Given back at the end; users of this host need none.
    pub(super) place: Option<OwnedSemaphorePermit>,
}

/// Who is suspended, and who did that.
#[derive(Serialize)]
struct SuspensionsShown<'a> {
    suspended: &'a [Suspension],
    records: &'a [SuspensionRecord],
}

/// What waited at a moment.
#[derive(Serialize)]
struct CountedAnswer<'a> {
    at: Timestamp,
    #[serde(flatten)]
    summary: &'a QueueSummary,
}

/// Answers; the role for the way has been looked at.
pub(super) async fn answer(api: &Api, question: ApiQuestion, visitor: &Visitor) -> Result<ApiAnswer, ApiFault> {
    let json = match question {
        ApiQuestion::Me => me(api, visitor),
        ApiQuestion::OpenApi => OPEN_API.to_owned(),
        ApiQuestion::Status => json::object(&api.operator.running().await),
        ApiQuestion::Settings => json::object(&json!({ "settings": api.operator.reloading.settings().await })),
        ApiQuestion::Queue(wanted) => json::object(&queue_page(api, &wanted).await?),
        ApiQuestion::Summary => match api.summary.counted(&api.operator, COUNTING).await {
            Some(CountedQueue { at, summary }) => json::object(&CountedAnswer { at, summary: &summary }),
            None => return Err(ApiFault::new(StatusCode::SERVICE_UNAVAILABLE, "it is being counted: ask again")),
        },
        ApiQuestion::Stories { subject, limit } => {
            let ledger = api.operator.ledger().await?;
            json::object(&why::look_up(ledger.as_ref(), &subject, limit).await?)
        }
        ApiQuestion::Content(id) => return content(api, id, visitor).await,
        ApiQuestion::Incidents => {
            json::list("incidents", &incidents::incidents(api.operator.ledger().await?.as_ref()).await?)
        }
        ApiQuestion::Posture => json::list("domains", &blocking(api, posture::view::list).await?),
        ApiQuestion::PostureOf(domain) => {
            let known = blocking(api, move |config| posture::view::show(config, &domain)).await?;
            json::object(&known.ok_or_else(ApiFault::not_found)?)
        }
        ApiQuestion::DomainView(domain) => json::object(&Box::pin(known(api, &domain, LOOKING_UP)).await?),
        ApiQuestion::Exceptions => json::object(&api.operator.pipeline().out.exceptions_now()),
        ApiQuestion::Policies => json::list("policies", &policies(api).await?),
        ApiQuestion::TlsReports => {
            let (first, last) = (ReportDay(0), ReportDay::of(api.operator.now()));
            let rows = api.operator.ledger().await?.tls_reports(first, last, MOST_REPORTS).await?;
            json::list("reports", &rows)
        }
        ApiQuestion::TlsReportOf(id) => return tls_report_file(api, &id).await,
        ApiQuestion::Checks => json::list("checks", &api.checks.all()),
        ApiQuestion::Check(id) => json::object(&*followed(api, &id)?.borrow()),
        ApiQuestion::CheckEvents(id) => return Ok(ApiAnswer::Events(followed(api, &id)?)),
        ApiQuestion::Suspensions => suspended_json(&suspended(api, SuspensionOrder::Look, visitor).await?),
        ApiQuestion::Order(order) => return Box::pin(obey(api, order, visitor)).await,
    };
    Ok(ApiAnswer::Json(json))
}

/// What changes something.
async fn obey(api: &Api, order: ApiOrder, visitor: &Visitor) -> Result<ApiAnswer, ApiFault> {
    let json = match order {
        ApiOrder::Act(wanted) => json::object(&act(api, wanted, visitor).await?),
        ApiOrder::ActInEvents(wanted) => return act_in_events(api, wanted, visitor),
        ApiOrder::StartCheck(domain) => {
            let out = api.operator.pipeline().out.clone();
            let begun = api.checks.begin(&out.config, out.clock, domain, &visitor.name);
            let begun = begun.map_err(|why| ApiFault::new(StatusCode::TOO_MANY_REQUESTS, why))?;
            return Ok(ApiAnswer::Begun(json::object(&begun)));
        }
        ApiOrder::CancelCheck(id) => json::object(&api.checks.cancel(&id).await.ok_or_else(ApiFault::not_found)?),
        ApiOrder::Suspend(suspension) => {
            let order = SuspensionOrder::Suspend(by_visitor(suspension, visitor));
            suspended_json(&suspended(api, order, visitor).await?)
        }
        ApiOrder::Resume(wanted) => suspended_json(&suspended(api, SuspensionOrder::Resume(wanted), visitor).await?),
        ApiOrder::Reload => {
            let changes = Box::pin(api.operator.reloading.reload()).await;
            json::list("changes", &changes.map_err(|refused| ApiFault::unusable(refused.to_string()))?)
        }
        ApiOrder::LogLevel { level, lasts } => {
            json::object(&api.operator.log_level(&level, lasts).map_err(ApiFault::unusable)?)
        }
        ApiOrder::SendTlsReports(domain) => {
            let sent = tls_reports::send_now(&api.operator.pipeline(), domain.as_ref()).await;
            let sent = sent.map_err(|error| ApiFault::conflict(error.to_string()))?.into_iter();
            let told = sent.map(|(report, state)| SentReport { report, state }).collect::<Vec<_>>();
            json::list("reports", &told)
        }
        ApiOrder::Drain => return Ok(ApiAnswer::Replies(OrderReplies { replies: api.operator.drain(), place: None })),
    };
    Ok(ApiAnswer::Json(json))
}

fn suspended_json(now: &SuspendedNow) -> String {
    let SuspendedNow { suspended, records, .. } = now;
    json::object(&SuspensionsShown { suspended, records })
}

/// An order about what waits, where the role allows it.
pub(super) async fn act(api: &Api, wanted: ActWanted, visitor: &Visitor) -> Result<acts::ActSum, ApiFault> {
    RouteNeeds::Role(needed_for(wanted.act)).met_by(visitor)?;
    acts::carry_out(&api.operator, wanted, visitor).await.map_err(ApiFault::conflict)
}

/// The same, told message by message.
fn act_in_events(api: &Api, wanted: ActWanted, visitor: &Visitor) -> Result<ApiAnswer, ApiFault> {
    RouteNeeds::Role(needed_for(wanted.act)).met_by(visitor)?;
    let place = match visitor.over() {
        AskedOver::Network => Some(api.follower()?),
        AskedOver::Socket => None,
    };
    Ok(ApiAnswer::Replies(OrderReplies { replies: acts::begin(&api.operator, wanted, visitor), place }))
}

/// With the name of whoever comes from elsewhere.
fn by_visitor(suspension: Suspension, visitor: &Visitor) -> Suspension {
    let by = match visitor.over() {
        AskedOver::Network => Some(visitor.name.clone()),
        AskedOver::Socket => None,
    };
    Suspension { by, ..suspension }
}

impl RouteNeeds {
    /// Whether the visitor is that.
    ///
    /// # Errors
    /// What the visitor would have to be.
    pub(super) fn met_by(self, visitor: &Visitor) -> Result<(), ApiFault> {
        match self {
            Self::Role(needs) if visitor.role < needs => Err(ApiFault::denied(needs)),
            Self::ThisHost if visitor.over() == AskedOver::Network => {
                Err(ApiFault::new(StatusCode::FORBIDDEN, "this is asked over the control socket alone"))
            }
            Self::Role(_) | Self::ThisHost => Ok(()),
        }
    }
}

/// Who is suspended, once that is done.
pub(super) async fn suspended(api: &Api, order: SuspensionOrder, visitor: &Visitor) -> Result<SuspendedNow, ApiFault> {
    let resumes = matches!(order, SuspensionOrder::Resume(_));
    let now = api.operator.suspended(order, &visitor.name).await.map_err(ApiFault::conflict)?;
    if now.changed {
        tracing::warn!(
            user = visitor.name,
            suspended = now.suspended.len(),
            "suspensions were changed by the operator"
        );
    }
    if resumes && !now.changed { Err(ApiFault::not_found()) } else { Ok(now) }
}

fn me(api: &Api, visitor: &Visitor) -> String {
    let proof = match visitor.proof {
        LoginProof::Token => "token",
        LoginProof::Session(_) => "session",
        LoginProof::Vouched => "proxy",
        LoginProof::Socket(_) => "socket",
    };
    let csrf = visitor.form_subject().map(|of| api.sessions().form_token(&of));
    json::object(&json!({ "name": visitor.name, "role": visitor.role.word(), "by": proof, "csrf_token": csrf }))
}

async fn content(api: &Api, id: QueueId, visitor: &Visitor) -> Result<ApiAnswer, ApiFault> {
    let ledger = api.operator.ledger().await?;
    if ledger.message(id).await?.is_none() {
        return Err(ApiFault::not_found());
    }
    acts::record_reading(&api.operator, id, visitor).await.map_err(ApiFault::conflict)?;
    let content = content::content(ledger.as_ref(), id, ContentPart::Whole).await?;
    let file = |octets| ApiFile { kind: "application/octet-stream", name: "message.eml".to_owned(), octets };
    content.map(file).map(ApiAnswer::File).ok_or_else(ApiFault::not_found)
}

async fn tls_report_file(api: &Api, id: &TlsReportId) -> Result<ApiAnswer, ApiFault> {
    let document = tls_report(api, id).await?.ok_or_else(ApiFault::not_found)?;
    let (name, octets) = (format!("{}_{}.json", id.domain, id.day), Bytes::from(document.json()));
    Ok(ApiAnswer::File(ApiFile { kind: "application/tlsrpt+json", name, octets }))
}

/// The report on TLS to a domain about a day, as it is made of what is counted.
///
/// # Errors
/// When that cannot be read, or the configuration does not say who reports.
pub(super) async fn tls_report(api: &Api, id: &TlsReportId) -> Result<Option<TlsReportDocument>, ApiFault> {
    let (out, ledger) = (api.operator.pipeline().out.clone(), api.operator.ledger().await?);
    let document = preview::of_day(&out, ledger.as_ref(), id).await;
    document.map_err(|error| ApiFault::conflict(error.to_string()))
}

/// A page of what waits. Where more waits than is sorted, that is known without a look at it; one is sorted at a time.
///
/// # Errors
/// When the ledger cannot be read, or too much waits for this order.
pub(super) async fn queue_page(api: &Api, wanted: &PageWanted) -> Result<QueuePage, PageError> {
    let waiting = api.operator.pipeline().spool.stats().queued_messages;
    let _alone = match wanted.order {
        PageOrder::By(..) if waiting > MOST_SORTED as u64 => return Err(PageError::TooManyToSort),
        PageOrder::By(..) => Some(api.sorting.try_acquire().map_err(|_| PageError::Sorting)?),
        PageOrder::Age(_) => None,
    };
    page::page(api.operator.ledger().await?.as_ref(), wanted, api.operator.now()).await
}

impl From<PageError> for ApiFault {
    fn from(error: PageError) -> Self {
        match error {
            PageError::Ledger(error) => error.into(),
            PageError::TooManyToSort => Self::unusable(error.to_string()),
            PageError::Sorting => Self::new(StatusCode::TOO_MANY_REQUESTS, error.to_string()),
        }
    }
}

fn followed(api: &Api, id: &str) -> Result<watch::Receiver<CheckProgress>, ApiFault> {
    api.checks.follow(id).ok_or_else(ApiFault::not_found)
}

/// A fault as JSON.
pub(super) fn fault_json(fault: &ApiFault) -> String {
    #[derive(Serialize)]
    struct FaultBody<'a> {
        error: &'a str,
    }
    json::object(&FaultBody { error: &fault.why })
}
