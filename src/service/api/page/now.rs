//! *Now*: whether mail flows, what waits, and what needs a person, in seconds.

use super::chart::bars;
use super::dutch_faults::{CONFIGURATION_REFUSED, REFUSES};
use super::words::PageWords;
use super::{Frame, in_address, made, shown, shown_all, told};
use crate::check::posture;
use crate::clock::Timestamp;
use crate::command::incidents;
use crate::command::queue::summary::{CauseCount, DomainSummary, QueueSummary};
use crate::command::status::Running;
use crate::observe::traffic::Traffic;
use crate::resolve::driver::Dns;
use crate::resolve::paths::standing::PathStanding;
use crate::service::api::answer::{ApiFault, blocking};
use crate::service::api::paths::BrokenPath;
use crate::service::api::rates::sum;
use crate::service::api::visitor::Visitor;
use crate::service::api::{Api, Visit};
use crate::smtp::address::Domain;
use crate::spool::incident::Incident;
use crate::text::table::span;
use askama::Template;
use axum::response::Response;
use std::time::Duration;

/// How long the first count of what waits may hold the page up.
const COUNTING: Duration = Duration::from_millis(50);
/// Incidents and paths that the sentence names.
const MOST_IN_SENTENCE: usize = 3;
/// Domains that are shown.
const MOST_DOMAINS: usize = 25;

#[derive(Template)]
#[template(path = "now.html", config = "src/service/api/askama.toml")]
struct NowPage {
    f: Frame,
    sign: Sign,
    sentence: String,
    needs: Vec<String>,
    hour: ShownTraffic,
    day: ShownTraffic,
    waiting: Option<ShownQueue>,
}

/// How it stands: by shape and word as well as by colour.
struct Sign {
    class: &'static str,
    word: &'static str,
}

struct ShownTraffic {
    accepted: u64,
    delivered: u64,
    chart: String,
}

struct ShownQueue {
    at: String,
    ages: Vec<ShownAge>,
    domains: Vec<ShownDomain>,
}

struct ShownAge {
    age: String,
    messages: u64,
    recipients: u64,
}

struct ShownDomain {
    domain: String,
    /// As an address has it; empty where it is no domain.
    link: String,
    recipients: u64,
    oldest: String,
    causes: String,
}

/// What the sentence is made of.
struct NowSituation<'a> {
    running: &'a Running,
    open: &'a [Incident],
    summary: Option<&'a QueueSummary>,
    needs: &'a [String],
    broken: &'a [BrokenPath],
    now: Timestamp,
}

/// The page.
pub(super) async fn page(api: &Api, visit: &Visit, visitor: &Visitor) -> Result<Response, ApiFault> {
    let f = Frame::new(api, visit, visitor, "/");
    let running = api.operator.running().await;
    let mut open = incidents::incidents(api.operator.ledger().await?.as_ref()).await?;
    open.retain(Incident::is_open);
    let counted = api.summary.counted(&api.operator, COUNTING).await;
    let watched = blocking(api, posture::view::list).await?;
    let found = watched.iter().filter(|domain| !domain.findings.is_empty());
    let found = found.map(|domain| format!("{}: {}", domain.domain, told::verdict(domain, f.w)));
    let (broken, now) = (api.broken_paths(), api.operator.now());
    let mut needs = needs(&running, &open, f.w);
    needs.extend(doubts(&api.operator.pipeline().out.dns, f.w));
    needs.extend(found.take(MOST_DOMAINS));
    let situation = NowSituation {
        running: &running,
        open: &open,
        summary: counted.as_ref().map(|counted| &*counted.summary),
        needs: &needs,
        broken: &broken,
        now,
    };
    let (sign, sentence) = situation.told(f.w);
    // One after the other: each holds the counts for itself.
    let until_now = api.operator.pipeline().observer.traffic();
    let hour = api.rates().hour(until_now);
    let day = api.rates().day(until_now);
    let (hour, day) = (traffic(&hour, 60, f.w.last_hour), traffic(&day, 24, f.w.last_day));
    let waiting = counted.filter(|counted| counted.summary.messages > 0);
    let waiting = waiting.map(|counted| queue(&counted.summary, counted.at.to_second(), f.w));
    made(&NowPage { sign, sentence: shown(&sentence), needs: shown_all(&needs), hour, day, waiting, f })
}

/// Paths to the DNS in trouble, a line each.
fn doubts(dns: &Dns, w: &PageWords) -> Vec<String> {
    let troubled = dns.standings().filter(|(_, standing)| *standing != PathStanding::Good);
    troubled.map(|(path, standing)| told::path(&path.to_string(), standing, w)).collect()
}

/// Whatever does not go by itself, a line each.
fn needs(running: &Running, open: &[Incident], w: &PageWords) -> Vec<String> {
    let refuses = running.refuses.iter();
    let mut needs: Vec<String> = refuses.map(|why| told::by_language(why, REFUSES, w)).collect();
    needs.extend(open.iter().map(|one| told::incident(one, w).to_owned()));
    let refused = running.config.as_ref().and_then(|config| config.refused.as_ref());
    needs.extend(
        refused.map(|(at, why)| format!("{}: {}", at.to_second(), told::by_language(why, CONFIGURATION_REFUSED, w))),
    );
    if running.damaged_records > 0 {
        needs.push(format!("{}: {}", w.records_damaged, running.damaged_records));
    }
    if running.held_messages > 0 {
        needs.push(format!("{}: {}", w.messages_held, running.held_messages));
    }
    needs
}

impl NowSituation<'_> {
    /// One sign, one sentence.
    fn told(&self, w: &PageWords) -> (Sign, String) {
        if let Some(why) = &self.running.refuses {
            let why = told::by_language(why, REFUSES, w);
            return (Sign { class: "bad", word: w.act_now }, format!("{}: {why}", w.stopped));
        }
        let queue = match (self.running.queued_messages, self.summary) {
            (0, _) => w.nothing_waits.to_owned(),
            (some, None) => format!("{}: {some}; {}", w.messages.to_lowercase(), w.counting),
            (_, Some(summary)) if summary.domains.len() == 1 => w.one_waits.to_owned(),
            (_, Some(summary)) => format!("{} {}", summary.domains.len(), w.domains_wait),
        };
        let since = |since: Timestamp| format!("{} {}", w.since.to_lowercase(), short(since, self.now));
        let broken = self.broken.iter().take(MOST_IN_SENTENCE);
        let broken = broken.map(|one| format!("; {} {} {}", w.dns_path_broken, one.path, since(one.since)));
        let open = self.open.iter().take(MOST_IN_SENTENCE);
        let open = open.map(|one| format!("; {} ({}) {}", one.cause, one.kind.word(), since(one.since)));
        let further = self.open.len().saturating_sub(MOST_IN_SENTENCE);
        let further = if further > 0 { format!("; {}: +{further}", w.go_on) } else { String::new() };
        let goes_on = broken.chain(open).chain([further]).collect::<String>();
        let sign = match (self.open, self.needs) {
            ([], []) => Sign { class: "good", word: w.good },
            _ => Sign { class: "look", word: w.look_at },
        };
        (sign, format!("{}; {queue}{goes_on}", w.flows))
    }
}

/// A moment in a sentence: of the same day without the day.
fn short(at: Timestamp, now: Timestamp) -> String {
    let (at, now) = (at.rfc3339(), now.rfc3339());
    let (day, time) = at.split_once('T').unwrap_or((&at, ""));
    let time: String = time.chars().take(5).collect();
    if now.starts_with(day) { format!("{time} UTC") } else { format!("{day} {time} UTC") }
}

fn traffic(parts: &[Traffic], most: usize, title: &str) -> ShownTraffic {
    let Traffic { accepted, delivered } = sum(parts);
    ShownTraffic { accepted, delivered, chart: bars(parts, most, &format!("{title}: {accepted}, {delivered}")) }
}

fn queue(summary: &QueueSummary, at: String, w: &PageWords) -> ShownQueue {
    let age =
        |under: Option<u64>| under.map_or_else(|| w.older.to_owned(), |under| format!("{} {}", w.under, span(under)));
    let ages = summary.ages.iter();
    let ages = ages.map(|row| ShownAge { age: age(row.under_s), messages: row.messages, recipients: row.recipients });
    ShownQueue { at, ages: ages.collect(), domains: summary.domains.iter().take(MOST_DOMAINS).map(domain).collect() }
}

fn domain(row: &DomainSummary) -> ShownDomain {
    let causes = row.causes.iter().map(|CauseCount { cause, recipients }| format!("{recipients} {cause}"));
    let is_domain = row.domain.parse::<Domain>().is_ok();
    ShownDomain {
        domain: shown(&row.domain),
        link: if is_domain { in_address(&row.domain) } else { String::new() },
        recipients: row.recipients,
        oldest: span(row.oldest_s),
        causes: causes.collect::<Vec<_>>().join(", "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn running(refuses: Option<&str>) -> Running {
        let told = json!({
            "relay_version": "0.1.0", "pid": 1, "since": NOW.0 - 90_000, "smtp": [], "admin": "127.0.0.1:1",
            "refuses": refuses, "queued_messages": 0, "oldest": null, "spool_bytes": 0, "damaged_records": 0,
            "next_hops_backing_off": 0,
        });
        serde_json::from_value(told).unwrap()
    }

    fn incident(since: Timestamp) -> Incident {
        let told = json!({
            "id": "I1", "kind": "dns-unavailable", "cause": "local-dns-count-filter", "side": "here",
            "certainty": "proven", "since": since, "until": null, "ended": null, "opened_by": "domains",
            "domains": [], "domain_count": 3, "messages": 4, "sentence": "A box drops answers.", "evidence": [],
            "what_to_do": [],
        });
        serde_json::from_value(told).unwrap()
    }

    fn told(open: &[Incident], broken: &[BrokenPath], refuses: Option<&str>) -> (Sign, String) {
        let needs: Vec<String> = broken.iter().map(|one| one.path.clone()).collect();
        let running = running(refuses);
        let situation = NowSituation { running: &running, open, summary: None, needs: &needs, broken, now: NOW };
        situation.told(PageWords::preferred(Some("en")))
    }

    #[test]
    fn one_sentence_names_what_is_broken_and_since_when() {
        let (sign, sentence) = told(&[], &[], None);
        assert_eq!((sign.class, sentence.as_str()), ("good", "Mail flows; nothing waits"));
        let ago = |seconds: i64| Timestamp(NOW.0 - seconds * 1_000);
        let broken = [BrokenPath { path: "udp://192.0.2.1:53".to_owned(), since: ago(3_600) }];
        let (sign, sentence) = told(&[], &broken, None);
        assert_eq!(sign.class, "look");
        assert_eq!(sentence, "Mail flows; nothing waits; DNS path broken: udp://192.0.2.1:53 since 10:44 UTC");
        let (_, sentence) = told(&[incident(ago(86_400))], &broken, None);
        assert!(
            sentence.ends_with("; local-dns-count-filter (dns-unavailable) since 2026-11-20 11:44 UTC"),
            "{sentence}"
        );
        let five = [0; 5].map(|_| incident(ago(60)));
        assert!(told(&five, &[], None).1.ends_with("; incidents that go on: +2"), "the rest is counted");
        let (sign, sentence) = told(&five, &broken, Some("the disk is full"));
        assert_eq!((sign.class, sentence.as_str()), ("bad", "No new mail is taken: the disk is full"));
    }
}
