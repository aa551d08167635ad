//! *Now*: whether mail flows, what waits, and what needs a person, in seconds.

use super::chart::bars;
use super::words::PageWords;
use super::{Frame, in_address, made, shown, shown_all};
use crate::check::posture;
use crate::command::incidents;
use crate::command::queue::summary::{CauseCount, DomainSummary, QueueSummary};
use crate::command::status::Running;
use crate::observe::traffic::Traffic;
use crate::service::admin::readiness;
use crate::service::api::answer::{ApiFault, blocking};
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
    let found = found.map(|domain| format!("{}: {}", domain.domain, domain.verdict));
    let mut needs = needs(&running, &open, f.w);
    needs.extend(readiness::doubts(&api.operator.pipeline().out.dns));
    needs.extend(found.take(MOST_DOMAINS));
    let situation = NowSituation {
        running: &running,
        open: &open,
        summary: counted.as_ref().map(|counted| &*counted.summary),
        needs: &needs,
    };
    let (sign, sentence) = situation.told(f.w);
    // One after the other: each holds the counts for itself.
    let hour = api.rates().hour();
    let day = api.rates().day();
    let (hour, day) = (traffic(&hour, 60, f.w.last_hour), traffic(&day, 24, f.w.last_day));
    let waiting = counted.filter(|counted| counted.summary.messages > 0);
    let waiting = waiting.map(|counted| queue(&counted.summary, counted.at.rfc3339(), f.w));
    made(&NowPage { sign, sentence: shown(&sentence), needs: shown_all(&needs), hour, day, waiting, f })
}

/// Whatever does not go by itself, a line each.
fn needs(running: &Running, open: &[Incident], w: &PageWords) -> Vec<String> {
    let mut needs: Vec<String> = running.refuses.iter().cloned().collect();
    needs.extend(open.iter().map(|incident| incident.sentence.clone()));
    let refused = running.config.as_ref().and_then(|config| config.refused.as_ref());
    needs.extend(refused.map(|(at, why)| format!("{}: {why}", at.to_second())));
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
            return (Sign { class: "bad", word: w.act_now }, format!("{}: {why}", w.stopped));
        }
        let queue = match (self.running.queued_messages, self.summary) {
            (0, _) => w.nothing_waits.to_owned(),
            (some, None) => format!("{}: {some}; {}", w.messages.to_lowercase(), w.counting),
            (_, Some(summary)) => format!("{}: {}", w.domains_wait, summary.domains.len()),
        };
        let goes_on = match self.open {
            [] => String::new(),
            [one] => format!("; {}", one.sentence),
            several => format!("; {}: {}", w.go_on, several.len()),
        };
        let sign = match (self.open, self.needs) {
            ([], []) => Sign { class: "good", word: w.good },
            _ => Sign { class: "look", word: w.look_at },
        };
        (sign, format!("{}; {queue}{goes_on}", w.flows))
    }
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
