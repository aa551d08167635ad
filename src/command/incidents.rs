//! `relay incidents`: faults that many domains have in common, those that go on and those that ended.
//!
//! Read from the ledger, with a relay that runs or without one. [`incidents`] is what a page reads, too.
//! The JSON form is stable: a list of [`Incident`], those that go on first.

use crate::clock::Timestamp;
use crate::outcome::{Cause, DeliveryOutcome};
use crate::spool::MOST_INCIDENTS;
use crate::spool::event::Event;
use crate::spool::incident::{Incident, IncidentEnd, OpenedBy};
use crate::spool::ledger::{Ledger, LedgerError};
use crate::text::{counted, paragraph};

/// Ended incidents that are shown to people; the JSON form has all.
const MOST_ENDED_SHOWN: usize = 10;

/// Domains that are named to people; the JSON form has more.
const MOST_DOMAINS_SHOWN: usize = 10;

/// Where a check of the host came before the mail.
const NO_MAIL: &str = "no mail is known to have met it";

/// Where the words begin in their line.
const COLUMN: usize = 13;

/// Every incident that the ledger has: those that go on first, then the newest.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn incidents(ledger: &dyn Ledger) -> Result<Vec<Incident>, LedgerError> {
    let mut all = ledger.incidents(MOST_INCIDENTS).await?;
    all.sort_by_key(|incident| !incident.is_open());
    Ok(all)
}

/// Those of `all` that a message met, by its history.
#[must_use]
pub fn met<'a>(all: &'a [Incident], history: impl Iterator<Item = (Timestamp, &'a Event)>) -> Vec<Incident> {
    let mut met: Vec<Incident> = Vec::new();
    for (at, event) in history {
        for incident in causes(event).into_iter().filter_map(|cause| Incident::behind(all, cause, at)) {
            if !met.iter().any(|known| known.id == incident.id) {
                met.push(incident.clone());
            }
        }
    }
    met
}

/// What stopped recipients in an event.
fn causes(event: &Event) -> Vec<&Cause> {
    match event {
        Event::Attempt(attempt) => {
            let failed = attempt.results.iter().filter_map(|group| match &group.outcome {
                DeliveryOutcome::Failed { cause } => Some(cause),
                DeliveryOutcome::Delivered { .. } => None,
            });
            failed.collect()
        }
        Event::NotTried { cause, .. } => vec![cause],
        Event::Waits { backing_off, .. } => backing_off.iter().collect(),
        Event::Ended { cause, .. } => cause.iter().collect(),
        Event::Told { .. }
        | Event::NotTold { .. }
        | Event::Operator { .. }
        | Event::Broken { .. }
        | Event::Unreadable { .. } => Vec::new(),
    }
}

/// For people.
#[must_use]
pub fn text(all: &[Incident]) -> String {
    let (open, ended): (Vec<&Incident>, Vec<&Incident>) = all.iter().partition(|incident| incident.is_open());
    let mut text = match open.len() {
        0 => "No incident goes on.\n".to_owned(),
        1 => "1 incident goes on.\n".to_owned(),
        more => format!("{more} incidents go on.\n"),
    };
    for incident in open.iter().chain(ended.iter().take(MOST_ENDED_SHOWN)) {
        text.push('\n');
        text.push_str(&one(incident));
    }
    if let Some(more @ 1..) = ended.len().checked_sub(MOST_ENDED_SHOWN) {
        text.push_str(&format!("\n{} that ended earlier: --json has all.\n", counted(more as u64, "incident")));
    }
    text
}

fn one(incident: &Incident) -> String {
    let mut text = format!("{}\n", headline(incident));
    let mut line = |label: &str, words: &str| text.push_str(&paragraph(&format!("  {label}"), words, COLUMN));
    line("what", &incident.sentence);
    let since = incident.since.to_second();
    match incident.until {
        None => line("since", &since),
        Some(until) => {
            let how = incident.ended.map_or("", IncidentEnd::words);
            line("when", &format!("from {since} to {}: {how}", until.to_second()));
        }
    }
    if incident.reopened > 0 {
        line("", &format!("it came back {} soon after its end", counted(incident.reopened.into(), "time")));
    }
    let named: Vec<&str> = incident.domains.iter().take(MOST_DOMAINS_SHOWN).map(String::as_str).collect();
    let named = if named.is_empty() { String::new() } else { format!(": {}", named.join(", ")) };
    let (domains, messages) = (counted(incident.domain_count, "domain"), counted(incident.messages, "message"));
    let affected = if incident.has_met_mail() { format!("{messages} to {domains}{named}") } else { NO_MAIL.to_owned() };
    line("affected", &affected);
    if let OpenedBy::Check(check) = &incident.opened_by {
        line("opened by", &format!("the check \"{check}\" of this host"));
    }
    for (nth, seen) in incident.evidence.iter().enumerate() {
        line(if nth == 0 { "seen" } else { "" }, seen);
    }
    for (nth, what) in incident.what_to_do.iter().enumerate() {
        line(if nth == 0 { "to do" } else { "" }, what);
    }
    text
}

/// An incident in a line: its name, the fault, whose, and how sure that is.
#[must_use]
pub fn headline(incident: &Incident) -> String {
    let Incident { id, cause, side, certainty, .. } = incident;
    let state = if incident.is_open() { "open" } else { "ended" };
    format!("{id}  {state}  {cause}, side: {}, {}", side.word(), certainty.word())
}
