//! *Domain*: what is known of a receiving domain, and a check of it that can be watched.

use super::queue::{QueueRow, rows};
use super::words::PageWords;
use super::{Form, Frame, in_address, made, needs, pairs, see, shown, told};
use crate::command::queue::Filter;
use crate::command::queue::page::{PageOrder, PageWanted};
use crate::config::users::UserRole;
use crate::resolve::HostsFrom;
use crate::service::api::answer::{ApiFault, queue_page};
use crate::service::api::checks::CheckState;
use crate::service::api::domain::{DomainDns, DomainView, HostDns, MarkedTlsa, known};
use crate::service::api::visitor::Visitor;
use crate::service::api::{Api, Visit};
use crate::smtp::address::Domain;
use crate::spool::ledger::{PastDelivery, WaitingFrom, WaitingOrder};
use askama::Template;
use axum::http::StatusCode;
use axum::response::Response;
use std::time::Duration;

/// Messages that are shown.
const MOST: usize = 20;
/// How long the page waits for the DNS; what comes later is on the next one.
const LOOKING_UP: Duration = Duration::from_millis(60);
/// Characters of a TLSA record that are shown: a digest of SHA-512 is whole.
const LONGEST_RECORD: usize = 160;

#[derive(Template)]
#[template(path = "domain.html", config = "src/service/api/askama.toml")]
struct DomainPage {
    f: Frame,
    name: String,
    link: String,
    known: Option<ShownDomainView>,
    fault: Option<String>,
    may_check: bool,
    rows: Vec<QueueRow>,
}

struct ShownDomainView {
    dns: Option<ShownDns>,
    policy: Option<String>,
    posture: Option<ShownPosture>,
    deliveries: Vec<ShownDelivery>,
    among: u32,
}

struct ShownDns {
    at: String,
    sentence: String,
    fault: Option<String>,
    hosts: Vec<ShownHost>,
}

struct ShownHost {
    name: String,
    about: String,
    no_dane: Option<&'static str>,
    fault: Option<String>,
    tlsa: Vec<ShownRecord>,
}

/// A TLSA record: by sign and word as well as by colour.
struct ShownRecord {
    class: &'static str,
    mark: &'static str,
    word: &'static str,
    text: String,
}

struct ShownDelivery {
    id: String,
    accepted: String,
    to: String,
    server: String,
    tls: String,
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
    steps: Vec<String>,
    text: Option<String>,
    english: Option<String>,
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
        known: None,
        fault: None,
        may_check: visitor.role >= UserRole::HelpDesk,
        rows: Vec::new(),
    };
    match (name.as_str(), name.parse::<Domain>()) {
        ("", _) => {}
        (_, Err(error)) => page.fault = Some(shown(&error.to_string())),
        (_, Ok(domain)) => {
            let known = Box::pin(known(api, &domain, LOOKING_UP)).await?;
            // A page that waits for the DNS comes again by itself.
            page.f.refresh = known.dns.is_none();
            page.known = Some(view(&known, page.f.w));
            page.rows = waiting(api, &domain, page.f.w).await?;
        }
    }
    made(&page)
}

async fn waiting(api: &Api, domain: &Domain, w: &PageWords) -> Result<Vec<QueueRow>, ApiFault> {
    let filter = Filter { domain: Some(domain.to_string()), ..Filter::default() };
    let newest = PageOrder::Age(WaitingFrom { order: WaitingOrder::Newest, after: None });
    let wanted = PageWanted { filter, order: newest, limit: MOST };
    let waits = queue_page(api, &wanted).await?;
    Ok(rows(&waits, api.operator.now(), w))
}

fn view(known: &DomainView, w: &PageWords) -> ShownDomainView {
    let policy = known.policy.as_ref().map(|policy| {
        let mode = policy.mode.unwrap_or("-");
        shown(&format!("{mode}, {}, mx: {}", policy.state, policy.mx.join(" ")))
    });
    let posture = known.posture.as_ref().map(|known| ShownPosture {
        verdict: shown(told::verdict(known, w)),
        at: known.at.rfc3339(),
        findings: known.findings.iter().map(|one| told::finding(one, w)).collect(),
    });
    ShownDomainView {
        dns: known.dns.as_ref().map(|dns| shown_dns(dns, w)),
        policy,
        posture,
        deliveries: known.deliveries.iter().map(delivery).collect(),
        among: known.deliveries_among,
    }
}

fn shown_dns(dns: &DomainDns, w: &PageWords) -> ShownDns {
    let from = match dns.hosts_from {
        Some(HostsFrom::Mx) => "MX",
        Some(HostsFrom::ImplicitMx) => w.no_mx,
        Some(HostsFrom::Configuration) => w.by_configuration,
        None => w.no_answer,
    };
    let signed = dns.mx_security.map(|security| format!(", DNSSEC: {}", security.word())).unwrap_or_default();
    ShownDns {
        at: dns.at.to_second(),
        sentence: shown(&format!("{}: {from}{signed}", dns.next_hop)),
        fault: dns.fault.as_ref().map(|fault| shown(&told::cause(&fault.0, w))),
        hosts: dns.hosts.iter().map(|host| shown_host(host, w)).collect(),
    }
}

fn shown_host(host: &HostDns, w: &PageWords) -> ShownHost {
    let (preference, security) = (host.preference, host.security.word());
    ShownHost {
        name: shown(&host.name),
        about: shown(&format!("{preference}; DNSSEC: {security}; {}", host.addresses.join(", "))),
        no_dane: host.no_dane.map(|because| told::no_dane(because, w)),
        fault: host.fault.as_ref().map(|fault| shown(&told::cause(&fault.0, w))),
        tlsa: host.tlsa.iter().map(|record| shown_record(record, w)).collect(),
    }
}

fn shown_record(record: &MarkedTlsa, w: &PageWords) -> ShownRecord {
    let (class, mark, word) = match (record.usable, record.matched) {
        (true, true) => ("good", "\u{2714}", w.matched),
        (true, false) => ("look", "\u{25cb}", w.usable),
        (false, _) => ("bad", "\u{2718}", w.unusable),
    };
    ShownRecord { class, mark, word, text: record.record.chars().take(LONGEST_RECORD).collect() }
}

fn delivery(one: &PastDelivery) -> ShownDelivery {
    let version = one.tls.version().map(|version| format!(", {version}")).unwrap_or_default();
    ShownDelivery {
        id: one.id.to_string(),
        accepted: one.accepted_at.to_second(),
        to: shown(&one.recipient),
        server: shown(&one.peer.to_string()),
        tls: shown(&format!("{}{version}", one.tls.word())),
    }
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
    let (text, english) = told::check(&known, f.w);
    let (link, elapsed_s) = (in_address(&known.domain), known.elapsed_s);
    let steps = told::steps(&known.steps, f.w);
    made(&CheckPage { f, id: known.id, domain: known.domain, link, elapsed_s, steps, text, english })
}

fn unknown() -> ApiFault {
    ApiFault::new(StatusCode::NOT_FOUND, "that check is not known any more: begin another one")
}
