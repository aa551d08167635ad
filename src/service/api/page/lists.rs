//! *Incidents*, *Reports*, *Exceptions*: short lists, and who may hand nothing in.

use super::dutch_faults::NOT_SUSPENDED;
use super::words::{PageLanguage, PageWords};
use super::{Form, Frame, in_address, made, needs, pairs, see, shown, told};
use crate::accept::suspended::{Resumption, Suspension, SuspensionChange, SuspensionRecord};
use crate::command::incidents;
use crate::config::users::UserRole;
use crate::policy::exceptions::Exception;
use crate::service::api::answer::{self, ApiFault};
use crate::service::api::visitor::Visitor;
use crate::service::api::wanted::{AskedOver, SuspensionBody, resumption, suspended_kind};
use crate::service::api::{Api, Visit};
use crate::service::suspensions::SuspensionOrder;
use crate::smtp::address::Domain;
use crate::spool::incident::Incident;
use crate::spool::tls_session::{ReportDay, TlsReportId, TlsReportRow, TlsReportState};
use crate::text::harmless;
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;

/// Rows about reports on TLS.
const MOST_REPORTS: usize = 200;
/// Incidents that are shown.
const MOST_INCIDENTS_SHOWN: usize = 50;
/// Records of who suspended and let in again.
const MOST_RECORDS: usize = 30;
/// Domains of an incident that are named.
const MOST_NAMED: usize = 10;

#[derive(Template)]
#[template(path = "incidents.html", config = "src/service/api/askama.toml")]
struct IncidentsPage {
    f: Frame,
    incidents: Vec<ShownIncident>,
}

struct ShownIncident {
    id: String,
    is_open: bool,
    cause: String,
    sentence: String,
    since: String,
    until: Option<String>,
    whose: String,
    domains: String,
    messages: u64,
    what_to_do: Vec<String>,
    evidence: Vec<String>,
}

/// The page of incidents.
pub(super) async fn incidents(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/incidents");
    let all = incidents::incidents(api.operator.ledger().await?.as_ref()).await?;
    made(&IncidentsPage { incidents: all.iter().take(MOST_INCIDENTS_SHOWN).map(|one| incident(one, f.w)).collect(), f })
}

fn incident(one: &Incident, w: &PageWords) -> ShownIncident {
    let named = one.domains.iter().take(MOST_NAMED).map(|domain| shown(domain)).collect::<Vec<_>>().join(", ");
    ShownIncident {
        id: one.id.to_string(),
        is_open: one.is_open(),
        cause: shown(&one.cause),
        sentence: shown(told::incident(one, w)),
        since: one.since.rfc3339(),
        until: one.until.map(|until| until.rfc3339()),
        whose: told::whose(one.side, one.certainty, w),
        domains: format!("{} ({named})", one.domain_count),
        messages: one.messages,
        what_to_do: told::to_do(one, w),
        evidence: told::evidence(one, w),
    }
}

#[derive(Template)]
#[template(path = "reports.html", config = "src/service/api/askama.toml")]
struct ReportsPage {
    f: Frame,
    rows: Vec<ReportLine>,
}

struct ReportLine {
    day: String,
    domain: String,
    /// As an address has it.
    link: String,
    succeeded: u64,
    failed: u64,
    report: &'static str,
}

/// The page of reports on TLS.
pub(super) async fn reports(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/reports");
    let (first, last) = (ReportDay(0), ReportDay::of(api.operator.now()));
    let rows = api.operator.ledger().await?.tls_reports(first, last, MOST_REPORTS).await?;
    let line = |row: &TlsReportRow| ReportLine {
        day: row.id.day.to_string(),
        domain: shown(&row.id.domain),
        link: in_address(&row.id.domain),
        succeeded: row.succeeded,
        failed: row.failed,
        report: told::report(row.report.as_ref(), f.w),
    };
    made(&ReportsPage { rows: rows.iter().map(line).collect(), f })
}

#[derive(Template)]
#[template(path = "report.html", config = "src/service/api/askama.toml")]
struct TlsReportPage {
    f: Frame,
    domain: String,
    day: String,
    link: String,
    state: Option<String>,
    text: Option<String>,
}

/// One report on TLS, in full.
pub(super) async fn report(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/reports");
    let asked = Form(pairs(visit.uri.query().unwrap_or_default()));
    let wrong = || ApiFault::new(StatusCode::BAD_REQUEST, "name a domain and a day such as 2026-11-21");
    let domain: Domain = asked.one("domain").parse().map_err(|_| wrong())?;
    let day = ReportDay::try_from(asked.one("day").to_owned()).map_err(|_| wrong())?;
    let id = TlsReportId { day, domain: domain.to_string() };
    let text = answer::tls_report(api, &id).await?.map(|document| indented(&document.json()));
    let rows = api.operator.ledger().await?.tls_reports(day, day, MOST_REPORTS).await?;
    let row = rows.into_iter().find(|row| row.id == id);
    let state = row.and_then(|row| row.report).map(|state| shown(&state_of(&state, f.w)));
    let (domain, day, link) = (shown(&id.domain), day.to_string(), in_address(&id.domain));
    made(&TlsReportPage { f, domain, day, link, state, text })
}

/// What has become of it, with the places that have it or the reason why none has.
fn state_of(state: &TlsReportState, w: &PageWords) -> String {
    let word = told::report(Some(state), w);
    // Why it is so, others said, or the relay when it was so: in English, whoever looks.
    let because = |because: &str| match w.language {
        PageLanguage::English => format!(": {because}"),
        PageLanguage::Dutch => format!("; in het Engels: {because}"),
    };
    match state {
        TlsReportState::Waiting { due, last, .. } => {
            let last = last.as_deref().map(because).unwrap_or_default();
            format!("{word}, {} {}{last}", w.next_try.to_lowercase(), due.to_second())
        }
        TlsReportState::Sent { at, to } => format!("{word} {}: {}", at.to_second(), to.join(", ")),
        TlsReportState::NotWanted { at, because: why } | TlsReportState::GivenUp { at, because: why } => {
            format!("{word} {}{}", at.to_second(), because(why))
        }
    }
}

/// JSON for people.
fn indented(json: &str) -> String {
    let value: serde_json::Value = serde_json::from_str(json).unwrap_or_default();
    harmless(&format!("{value:#}")).into_owned()
}

#[derive(Template)]
#[template(path = "exceptions.html", config = "src/service/api/askama.toml")]
struct ExceptionsPage {
    f: Frame,
    in_force: Vec<String>,
    over: Vec<String>,
    suspended: Vec<SuspendedLine>,
    records: Vec<ShownRecordOf>,
    fault: Option<String>,
    may_suspend: bool,
}

/// Who suspended, or let in again.
struct ShownRecordOf {
    at: String,
    line: String,
}

struct SuspendedLine {
    kind: String,
    name: String,
    line: String,
}

/// The page of exceptions and suspensions.
pub(super) async fn exceptions(
    api: &Api,
    visit: &Visit,
    visitor: &Visitor,
    fault: Option<String>,
) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/exceptions");
    let status = api.operator.pipeline().out.exceptions_now();
    let until = f.w.until.to_lowercase();
    let line = |one: &Exception| shown(&format!("{} {}, {until} {}: {}", one.domains, one.kind, one.until, one.reason));
    let (in_force, over) = (status.in_force.iter().map(line).collect(), status.over.iter().map(line).collect());
    let suspended = answer::suspended(api, SuspensionOrder::Look, visitor).await?;
    let records = suspended.records.iter().take(MOST_RECORDS).map(|one| record_line(one, f.w)).collect();
    let suspended = suspended.suspended.iter().map(|one| suspended_line(one, &f)).collect();
    let may_suspend = visitor.role >= UserRole::Operator;
    let fault = fault.map(|why| told::by_language(&why, NOT_SUSPENDED, f.w));
    made(&ExceptionsPage { f, in_force, over, suspended, records, fault, may_suspend })
}

fn record_line(one: &SuspensionRecord, w: &PageWords) -> ShownRecordOf {
    let done = match one.change {
        SuspensionChange::Suspended => w.was_suspended,
        SuspensionChange::Resumed => w.was_resumed,
    };
    let reason = if one.reason.is_empty() { String::new() } else { format!(": {}", one.reason) };
    let kind = told::suspended(one.kind, w);
    let line = shown(&format!("{kind} {} {done}, {} {}{reason}", one.name, w.by, one.by));
    ShownRecordOf { at: one.at.to_second(), line }
}

fn suspended_line(one: &Suspension, f: &Frame) -> SuspendedLine {
    let until =
        one.until.map(|until| format!(", {} {}", f.w.until.to_lowercase(), until.to_second())).unwrap_or_default();
    let by = one.by.as_ref().map(|by| format!(" ({} {by})", f.w.by)).unwrap_or_default();
    let kind = told::suspended(one.kind, f.w);
    let line = shown(&format!("{kind} {}{until}: {}{by}", one.name, one.reason));
    SuspendedLine { kind: one.kind.to_string(), name: one.name.clone(), line }
}

/// The form of a new suspension was sent.
pub(super) async fn suspend(api: &Api, visit: &Visit, visitor: &Visitor, form: &Form) -> Result<Response, ApiFault> {
    needs(visitor, UserRole::Operator)?;
    let kind = suspended_kind(form.one("kind"));
    let kind = kind.ok_or_else(|| ApiFault::new(StatusCode::BAD_REQUEST, "there is no such kind"))?;
    let text = |name: &str| form.one(name).to_owned();
    let asked = SuspensionBody { kind, name: text("name"), reason: text("reason"), lasts: Some(text("for")) };
    let fault = match asked.suspension(AskedOver::Network, api.operator.now()) {
        Err(why) => why,
        Ok(wanted) => {
            let order = SuspensionOrder::Suspend(Suspension { by: Some(visitor.name.clone()), ..wanted });
            match answer::suspended(api, order, visitor).await {
                Ok(_) => return Ok(see("/exceptions")),
                Err(fault) => fault.why,
            }
        }
    };
    exceptions(api, visit, visitor, Some(fault)).await
}

/// A suspension is to end.
pub(super) async fn resume(api: &Api, visit: &Visit, visitor: &Visitor, form: &Form) -> Result<Response, ApiFault> {
    needs(visitor, UserRole::Operator)?;
    let kind = suspended_kind(form.one("kind"));
    let kind = kind.ok_or_else(|| ApiFault::new(StatusCode::BAD_REQUEST, "there is no such kind"))?;
    let asked = Resumption { kind, name: form.one("name").to_owned(), reason: form.one("reason").to_owned() };
    let wanted = match resumption(asked, AskedOver::Network) {
        Ok(wanted) => wanted,
        Err(why) => return exceptions(api, visit, visitor, Some(why)).await,
    };
    match answer::suspended(api, SuspensionOrder::Resume(wanted), visitor).await {
        Ok(_) => Ok(see("/exceptions")),
        // Somebody else was quicker: it is as wanted.
        Err(fault) if fault.status == StatusCode::NOT_FOUND => Ok(see("/exceptions")),
        Err(fault) => exceptions(api, visit, visitor, Some(fault.why)).await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn a_report_says_why_it_is_as_it_is_in_either_language() {
        let (at, because) = (Timestamp(1_795_261_468_000), "the host says 451".to_owned());
        let waiting = TlsReportState::Waiting { due: at, tries: 2, last: Some(because.clone()) };
        let not_wanted = TlsReportState::NotWanted { at, because: because.clone() };
        for state in [waiting, not_wanted, TlsReportState::GivenUp { at, because }] {
            for (language, before) in [("en", ": "), ("nl", "; in het Engels: ")] {
                let told = state_of(&state, PageWords::preferred(Some(language)));
                assert!(told.ends_with(&format!("{before}the host says 451")), "{told}");
            }
        }
        let sent = TlsReportState::Sent { at, to: vec!["mailto:tls@a.example".to_owned()] };
        assert!(state_of(&sent, PageWords::preferred(Some("nl"))).ends_with("mailto:tls@a.example"));
    }
}
