//! What the admin port gives to those who log in: `/api/v1` for programs (`question.rs`, `answer.rs`), and a page for
//! people (`page/`). The control socket gives the same `/api/v1` to the operator's commands (`local.rs`).
//!
//! Who asks is found out first (`visitor.rs`), then what is asked, then whether the one may have the other. All of it
//! is bounded: few questions at once, each within its time, so that whoever looks cannot slow mail.

mod acts;
mod answer;
mod checks;
mod domain;
mod forwarded;
mod local;
mod pace;
mod page;
mod paths;
mod question;
mod rates;
mod reading;
mod sessions;
mod summary;
mod visitor;
mod wanted;

use crate::accept::logins::Logins;
use crate::command::json;
use crate::service::admin::FurtherRoutes;
use crate::service::admin::gate::AdminGate;
use crate::service::admin::listener::AdminPeer;
use crate::service::operator::Operator;
use answer::{ApiAnswer, ApiFault, ApiFile, OrderReplies, answer, fault_json};
use axum::body::{Body, to_bytes};
use axum::extract::{ConnectInfo, Request};
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header};
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use checks::{CheckProgress, CheckState, Checks};
use domain::DomainLookUps;
use futures_util::stream;
pub(super) use local::LocalApi;
use pace::{PaceVerdict, VisitorPace};
use paths::{BrokenPath, BrokenPaths};
use question::{AnswerForm, ApiRequest, QuestionFault, ROOT};
use rates::Rates;
use sessions::Sessions;
use std::convert::Infallible;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use summary::SummaryOfQueue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use visitor::{FORM_TOKEN_FIELD, Visitor};

/// Questions that are answered at once; more wait, as many as there are connections.
const AT_ONCE: usize = 4;
/// Streams of events at once: each holds a connection.
const MOST_FOLLOWERS: usize = 8;
/// How long a question may wait and take, in all. A connection is given a little longer.
const PATIENCE: Duration = Duration::from_secs(4);
/// The largest body of a request, in octets: some thousand queue ids.
const BODY_LIMIT: usize = 64 * 1024;
/// From one count of what came in and went out to the next.
const MINUTE: Duration = Duration::from_secs(60);
/// From one sign of life on a stream of events to the next.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

/// What every answer says to browsers: nothing from elsewhere, no frame around it, nothing kept.
const GUARDS: [(HeaderName, &str); 6] = [
    (
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
         form-action 'self'; frame-ancestors 'none'; base-uri 'none'",
    ),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::X_FRAME_OPTIONS, "DENY"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CACHE_CONTROL, "no-store"),
    (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
];

/// What the interface is made over.
pub(super) struct Api {
    operator: Arc<Operator>,
    gate: Arc<AdminGate>,
    checks: Arc<Checks>,
    look_ups: DomainLookUps,
    summary: SummaryOfQueue,
    sessions: Mutex<Sessions>,
    logins: Logins,
    rates: Mutex<Rates>,
    broken_paths: Mutex<BrokenPaths>,
    pace: Mutex<VisitorPace>,
    places: Semaphore,
    /// All that waits is looked through for one at a time.
    sorting: Semaphore,
    followers: Arc<Semaphore>,
}

impl Api {
    /// Over a relay that runs.
    ///
    /// # Errors
    /// When there is no randomness.
    pub(super) fn new(operator: Arc<Operator>, gate: Arc<AdminGate>, stop: CancellationToken) -> Result<Self, String> {
        Ok(Self {
            operator,
            gate,
            checks: Arc::new(Checks::new(stop)),
            look_ups: DomainLookUps::default(),
            summary: SummaryOfQueue::default(),
            sessions: Mutex::new(Sessions::new()?),
            logins: Logins::default(),
            rates: Mutex::default(),
            broken_paths: Mutex::default(),
            pace: Mutex::default(),
            places: Semaphore::new(AT_ONCE),
            sorting: Semaphore::new(1),
            followers: Arc::new(Semaphore::new(MOST_FOLLOWERS)),
        })
    }

    /// A place for one who follows what happens.
    ///
    /// # Errors
    /// When there is none.
    fn follower(&self) -> Result<OwnedSemaphorePermit, ApiFault> {
        let place = Arc::clone(&self.followers).try_acquire_owned();
        let many = "too many follow what happens: ask for it as a whole";
        place.map_err(|_| ApiFault::new(StatusCode::TOO_MANY_REQUESTS, many))
    }

    fn rates(&self) -> MutexGuard<'_, Rates> {
        self.rates.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The paths to the DNS that are in trouble now, and since when.
    fn broken_paths(&self) -> Vec<BrokenPath> {
        let troubled = paths::troubled(&self.operator.pipeline().out.dns);
        let mut known = self.broken_paths.lock().unwrap_or_else(PoisonError::into_inner);
        known.seen(troubled, self.operator.now())
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request, with all that is known of it.
struct Visit {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    /// Who has connected: a browser, or a proxy.
    peer: AdminPeer,
    /// From where the browser asks.
    client: IpAddr,
    body: Bytes,
}

/// Counts what comes in and goes out, minute by minute, until the stop.
pub(super) async fn count(api: Arc<Api>, stop: CancellationToken) {
    let counting = async {
        loop {
            tokio::time::sleep(MINUTE).await;
            let traffic = api.operator.pipeline().observer.traffic();
            api.rates().minute(traffic);
        }
    };
    let _stopped = stop.run_until_cancelled(counting).await;
}

/// Looks which paths to the DNS are broken, until the stop: since when is then known also where nobody looks at a page.
pub(super) async fn watch_paths(api: Arc<Api>, stop: CancellationToken) {
    let watching = async {
        loop {
            tokio::time::sleep(paths::LOOK_EVERY).await;
            let _remembered = api.broken_paths();
        }
    };
    let _stopped = stop.run_until_cancelled(watching).await;
}

/// Answers what the admin port itself does not.
pub(super) fn routes(api: Arc<Api>) -> FurtherRoutes {
    Arc::new(move |request| {
        let api = Arc::clone(&api);
        Box::pin(async move {
            let mut response = handled(&api, request).await;
            let headers = response.headers_mut();
            for (name, value) in GUARDS {
                headers.entry(name).or_insert(HeaderValue::from_static(value));
            }
            response
        })
    })
}

async fn handled(api: &Api, request: Request) -> Response {
    if !api.gate.has_users() {
        return StatusCode::NOT_FOUND.into_response();
    }
    let Some(ConnectInfo(peer)) = request.extensions().get::<ConnectInfo<AdminPeer>>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let (parts, body) = request.into_parts();
    let pipeline = api.operator.pipeline();
    let admin = &pipeline.out.config.admin;
    let client = forwarded::client(&parts.headers, peer, admin);
    let peer = AdminPeer { transport: forwarded::transport(&parts.headers, peer, admin), ..peer };
    let Ok(body) = to_bytes(body, BODY_LIMIT).await else { return StatusCode::PAYLOAD_TOO_LARGE.into_response() };
    let visit = Visit { method: parts.method, uri: parts.uri, headers: parts.headers, peer, client, body };
    let answering = async {
        let Ok(_place) = api.places.acquire().await else { return StatusCode::SERVICE_UNAVAILABLE.into_response() };
        if visit.uri.path().starts_with(ROOT) { by_interface(api, &visit).await } else { page::page(api, &visit).await }
    };
    match timeout(PATIENCE, Box::pin(answering)).await {
        Ok(response) => response,
        Err(_elapsed) => {
            refused(&ApiFault::new(StatusCode::SERVICE_UNAVAILABLE, "it took too long: ask again, or for less"))
        }
    }
}

async fn by_interface(api: &Api, visit: &Visit) -> Response {
    response_of(api, asked(api, visit).await)
}

fn response_of(api: &Api, answered: Result<ApiAnswer, ApiFault>) -> Response {
    match answered {
        Ok(ApiAnswer::Json(json)) => json_response(StatusCode::OK, json),
        Ok(ApiAnswer::Begun(json)) => json_response(StatusCode::CREATED, json),
        Ok(ApiAnswer::File(ApiFile { kind, name, octets })) => {
            let download = (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\""));
            ([(header::CONTENT_TYPE, kind.to_owned()), download], Body::from(octets)).into_response()
        }
        Ok(ApiAnswer::Events(progress)) => events(api, progress),
        Ok(ApiAnswer::Replies(replies)) => order_events(replies),
        Err(fault) => refused(&fault),
    }
}

async fn asked(api: &Api, visit: &Visit) -> Result<ApiAnswer, ApiFault> {
    let visitor = known_visitor(api, visit).await?;
    let request = ApiRequest {
        method: visit.method.as_str(),
        path: visit.uri.path(),
        query: visit.uri.query().unwrap_or_default(),
        body: &visit.body,
        form: AnswerForm::accepted(visit.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok())),
        over: visitor.over(),
        now: api.operator.now(),
    };
    let route = request.route().map_err(fault_of)?;
    route.needs.met_by(&visitor)?;
    if !visitor::only_looks(&visit.method) {
        let offered = visit.headers.get(FORM_TOKEN_FIELD).and_then(|value| value.to_str().ok());
        not_forged(api, visit, &visitor, offered.unwrap_or_default())?;
    }
    let question = request.question(route).map_err(fault_of)?;
    Box::pin(answer(api, question, &visitor)).await
}

/// Who asks, where they may ask at all.
async fn known_visitor(api: &Api, visit: &Visit) -> Result<Visitor, ApiFault> {
    let unknown = || ApiFault::new(StatusCode::UNAUTHORIZED, "log in, or bring a token");
    let gate = Arc::clone(&api.gate);
    let users = tokio::task::spawn_blocking(move || gate.users()).await.ok().flatten().ok_or_else(unknown)?;
    let pipeline = api.operator.pipeline();
    let claimed = visitor::claimed(&visit.headers, visit.peer, &pipeline.out.config.admin);
    let now = api.operator.now();
    let visitor = visitor::visitor(claimed, &users, &mut api.sessions(), now).ok_or_else(unknown)?;
    let pace = api.pace.lock().unwrap_or_else(PoisonError::into_inner).one_more(&visitor.name, now);
    match pace {
        PaceVerdict::Come => Ok(visitor),
        PaceVerdict::Wait => Err(ApiFault::new(StatusCode::TOO_MANY_REQUESTS, "too many questions: wait a second")),
    }
}

/// What changes something comes from a page of ours, where a browser sent it.
fn not_forged(api: &Api, visit: &Visit, visitor: &Visitor, offered: &str) -> Result<(), ApiFault> {
    let Some(subject) = visitor.form_subject() else { return Ok(()) };
    let genuine = visitor::is_same_origin(&visit.headers) && api.sessions().is_form_token(&subject, offered);
    let forged = "the form token is missing or old: load the page again";
    if genuine { Ok(()) } else { Err(ApiFault::new(StatusCode::FORBIDDEN, forged)) }
}

fn fault_of(fault: QuestionFault) -> ApiFault {
    match fault {
        QuestionFault::NotFound => ApiFault::new(StatusCode::NOT_FOUND, "there is no such thing"),
        QuestionFault::Method => ApiFault::new(StatusCode::METHOD_NOT_ALLOWED, "not by this method"),
        QuestionFault::Malformed(why) => ApiFault::new(StatusCode::BAD_REQUEST, why),
    }
}

fn json_response(status: StatusCode, json: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], json).into_response()
}

fn refused(fault: &ApiFault) -> Response {
    let mut response = json_response(fault.status, fault_json(fault));
    if fault.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

/// Each state of a check as an event, until it has ended.
fn events(api: &Api, progress: watch::Receiver<CheckProgress>) -> Response {
    let place = match api.follower() {
        Ok(place) => place,
        Err(fault) => return refused(&fault),
    };
    let coming = stream::unfold(Some((progress, place)), |following| async {
        let (mut progress, place) = following?;
        let now = progress.borrow_and_update().clone();
        let event = Event::default().event("progress").data(json::value(&now).to_string());
        let goes_on = now.state == CheckState::Running && progress.changed().await.is_ok();
        Some((Ok::<_, Infallible>(event), goes_on.then_some((progress, place))))
    });
    Sse::new(coming).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response()
}

/// What an order brings, as it comes.
fn order_events(replies: OrderReplies) -> Response {
    let OrderReplies { replies, place } = replies;
    let coming = stream::unfold((replies, place), |(mut replies, place)| async {
        let event = Event::default().event("order").data(json::line(&replies.recv().await?).trim_end());
        Some((Ok::<_, Infallible>(event), (replies, place)))
    });
    Sse::new(coming).keep_alive(KeepAlive::new().interval(SIGN_OF_LIFE)).into_response()
}
