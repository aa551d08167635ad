//! *Domain*: what is known of a receiving domain, and a check of it that can be watched.

use super::queue::{QueueRow, rows};
use super::{Form, Frame, in_address, made, needs, pairs, see, shown};
use crate::check::posture;
use crate::command::queue::Filter;
use crate::command::queue::page::{self, PageWanted};
use crate::config::users::UserRole;
use crate::service::api::answer::{ApiFault, blocking, policies};
use crate::service::api::checks::CheckState;
use crate::service::api::visitor::Visitor;
use crate::service::api::{Api, Visit};
use crate::smtp::address::Domain;
use crate::spool::ledger::{WaitingFrom, WaitingOrder};
use crate::text::harmless;
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

/// Messages that are shown.
const MOST: usize = 20;

#[derive(Template)]
#[template(path = "domain.html", config = "src/service/api/askama.toml")]
struct DomainPage {
    f: Frame,
    name: String,
    link: String,
    known: bool,
    fault: Option<String>,
    may_check: bool,
    posture: Option<ShownPosture>,
    policy: Option<String>,
    rows: Vec<QueueRow>,
}

struct ShownPosture {
    verdict: String,
    at: String,
    findings: Vec<String>,
}

#[derive(Template)]
#[template(path = "check.html", config = "src/service/api/askama.toml")]
struct CheckPage {
    f: Frame,
    id: String,
    domain: String,
    link: String,
    elapsed_s: u64,
    text: Option<String>,
}

/// The page.
pub(super) async fn page(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/domain");
    let asked = Form(pairs(visit.uri.query().unwrap_or_default()));
    let name = asked.one("name").trim().trim_start_matches('@').to_owned();
    let mut page = DomainPage {
        f,
        link: in_address(&name),
        name: shown(&name),
        known: false,
        fault: None,
        may_check: visitor.role >= UserRole::HelpDesk,
        posture: None,
        policy: None,
        rows: Vec::new(),
    };
    match (name.as_str(), name.parse::<Domain>()) {
        ("", _) => {}
        (_, Err(error)) => page.fault = Some(shown(&error.to_string())),
        (_, Ok(domain)) => known(api, &domain, &mut page).await?,
    }
    made(&page)
}

async fn known(api: &Api, domain: &Domain, page: &mut DomainPage) -> Result<(), ApiFault> {
    page.known = true;
    let asked = domain.clone();
    let posture = blocking(api, move |config| posture::view::show(config, &asked)).await?;
    page.posture = posture.map(|known| ShownPosture {
        verdict: shown(&known.verdict),
        at: known.at.rfc3339(),
        findings: known.findings.iter().map(|finding| shown(&finding.detail)).collect(),
    });
    let policy = policies(api).await?.into_iter().find(|policy| policy.domain == domain.as_str());
    page.policy = policy.map(|policy| {
        let mode = policy.mode.unwrap_or("-");
        shown(&format!("{mode}, {}, mx: {}", policy.state, policy.mx.join(" ")))
    });
    let filter = Filter { domain: Some(domain.to_string()), ..Filter::default() };
    let wanted = PageWanted { filter, from: WaitingFrom { order: WaitingOrder::Newest, after: None }, limit: MOST };
    let waits = page::page(api.operator.ledger().await?.as_ref(), &wanted, api.operator.now()).await?;
    page.rows = rows(&waits, api.operator.now(), page.f.w);
    Ok(())
}

/// Begins a check, and leads to its page.
pub(super) fn begin(api: &Api, visitor: &Visitor, form: &Form) -> Result<Response, ApiFault> {
    needs(visitor, UserRole::HelpDesk)?;
    let wrong = |_| ApiFault::new(StatusCode::BAD_REQUEST, "that is no domain");
    let domain: Domain = form.one("domain").parse().map_err(wrong)?;
    let out = api.operator.pipeline().out.clone();
    let begun = api.checks.begin(&out.config, out.clock, domain, &visitor.name);
    let begun = begun.map_err(|why| ApiFault::new(StatusCode::TOO_MANY_REQUESTS, why))?;
    Ok(see(&format!("/check?id={}", begun.id)))
}

/// Ends a check.
pub(super) async fn stop(api: &Api, visitor: &Visitor, form: &Form) -> Result<Response, ApiFault> {
    needs(visitor, UserRole::HelpDesk)?;
    let ended = api.checks.cancel(form.one("id")).await;
    ended.map(|ended| see(&format!("/check?id={}", ended.id))).ok_or_else(unknown)
}

/// A check as it stands.
pub(super) fn check(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let asked = Form(pairs(visit.uri.query().unwrap_or_default()));
    let progress = api.checks.follow(asked.one("id")).ok_or_else(unknown)?;
    let known = progress.borrow().clone();
    let f = Frame { refresh: known.state == CheckState::Running, ..Frame::new(api, visit, visitor, "/domain") };
    let text = known.text.as_deref().map(|text| harmless(text).into_owned());
    let (link, elapsed_s) = (in_address(&known.domain), known.elapsed_s);
    made(&CheckPage { f, id: known.id, domain: known.domain, link, elapsed_s, text })
}

fn unknown() -> ApiFault {
    ApiFault::new(StatusCode::NOT_FOUND, "that check is not known any more: begin another one")
}
