//! `relay audit --exchange-tracking`: what Exchange says it handed over against what the ledger
//! says was taken, in both directions.
//!
//! A message is named by its Message-ID, and a recipient by the address; time decides only what can
//! be compared at all. Exit codes: 0 both agree, 2 they do not, or something could not be read.

use super::tracking::{HandedOver, TrackingLog};
use crate::clock::Timestamp;
use crate::envelope::{ClientInfo, Origin, QueueId};
use crate::spool::ledger::{Ledger, LedgerError, LedgerMessage, Listed};
use crate::text::{counted, paragraph};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::IpAddr;

/// Messages of one Message-ID that are looked at: Exchange splits a message by its recipients.
const MOST_OF_ONE_ID: usize = 1_000;

/// Findings of the ledger's side that are held.
const MOST_FINDINGS: usize = 100_000;

/// How far the clocks may be apart where the history was cut: five minutes, as Kerberos allows.
const CLOCKS_APART_MS: i64 = 300_000;

/// Where the words of the sum begin.
const COLUMN: usize = 24;

/// A message of one side whose recipients, all or some, the other side does not know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// The Message-ID without brackets; nothing where the header has none.
    pub message_id: Option<String>,
    /// Its name in our queue, where we have it.
    pub id: Option<QueueId>,
    /// When it was handed over, or taken.
    pub at: Timestamp,
    /// The sender.
    pub sender: String,
    /// Those that are missing.
    pub recipients: Vec<String>,
}

/// What the comparison found.
#[derive(Debug, Default)]
pub struct Reconciliation {
    /// Messages that Exchange handed over.
    pub handed_over: u64,
    /// The time of the first and the last event.
    pub span: Option<(Timestamp, Timestamp)>,
    /// Those of which we have every recipient.
    pub in_both: u64,
    /// Handed over, and not in the ledger.
    pub not_in_ledger: Vec<Difference>,
    /// Older than the history that is kept, and not in it.
    pub not_comparable: u64,
    /// Taken in that time from the same clients, and not in the log.
    pub not_in_log: Vec<Difference>,
    /// Whether there are more of these.
    pub more_not_in_log: bool,
    /// Messages of the ledger whose row cannot be read.
    pub unreadable_rows: u64,
    /// Lines of the log that could not be read; the first of them.
    pub unreadable_lines: Vec<String>,
    /// How many those are.
    pub unreadable_line_count: u64,
}

/// Compares.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn reconcile(ledger: &dyn Ledger, log: TrackingLog) -> Result<Reconciliation, LedgerError> {
    let mut found = Reconciliation {
        handed_over: log.messages.len() as u64,
        span: log.span,
        unreadable_lines: log.unreadable.clone(),
        unreadable_line_count: log.unreadable_lines,
        ..Reconciliation::default()
    };
    let clients = found.look_in_ledger(ledger, &log).await?;
    if let Some((first, last)) = log.span {
        found.look_in_log(ledger.accepted(first, last).await?, &log, &clients).await?;
    }
    Ok(found)
}

impl Reconciliation {
    /// Looks up what Exchange handed over. Gives the clients that it came from.
    async fn look_in_ledger(
        &mut self,
        ledger: &dyn Ledger,
        log: &TrackingLog,
    ) -> Result<BTreeSet<IpAddr>, LedgerError> {
        let complete_since = ledger.complete_since().await?;
        let may_be_cut =
            |at: Timestamp| complete_since.is_some_and(|cut| at.0 <= cut.0.saturating_add(CLOCKS_APART_MS));
        let mut clients = BTreeSet::new();
        for (id, handed_over) in &log.messages {
            let matches = ledger.find(id, MOST_OF_ONE_ID).await?;
            self.unreadable_rows += matches.unreadable.len() as u64;
            let taken: Vec<_> = matches.messages.iter().filter(|message| is_of(message, id)).collect();
            clients.extend(taken.iter().filter_map(|message| client(message)).map(|client| client.address));
            let known: BTreeSet<String> = taken.iter().flat_map(|message| recipients(message)).collect();
            let missing: Vec<String> = handed_over.recipients.difference(&known).cloned().collect();
            if missing.is_empty() && !taken.is_empty() {
                self.in_both += 1;
            } else if may_be_cut(handed_over.at) {
                self.not_comparable += 1;
            } else if matches.unreadable.is_empty() {
                self.not_in_ledger.push(lacking(id, handed_over, missing));
            }
        }
        Ok(clients)
    }

    /// Looks up what we took from those clients; from all where none is known.
    async fn look_in_log(
        &mut self,
        mut listing: Box<dyn crate::spool::ledger::Listing>,
        log: &TrackingLog,
        clients: &BTreeSet<IpAddr>,
    ) -> Result<(), LedgerError> {
        while let Some(listed) = listing.next().await? {
            let Listed::Message(message) = listed else {
                self.unreadable_rows += 1;
                continue;
            };
            let is_of_interest =
                client(&message).is_some_and(|client| clients.is_empty() || clients.contains(&client.address));
            let handed_over = message.message_id.as_ref().and_then(|id| log.messages.get(id));
            let unknown = |address: &String| handed_over.is_none_or(|event| !event.recipients.contains(address));
            let missing: Vec<String> = recipients(&message).filter(unknown).collect();
            if !is_of_interest || missing.is_empty() {
                continue;
            }
            if self.not_in_log.len() >= MOST_FINDINGS {
                self.more_not_in_log = true;
                break;
            }
            self.not_in_log.push(Difference {
                message_id: message.message_id.clone(),
                id: Some(message.id),
                at: message.envelope.accepted_at,
                sender: message.envelope.reverse_path.to_string().trim_matches(['<', '>']).to_owned(),
                recipients: missing,
            });
        }
        Ok(())
    }

    /// The exit code.
    #[must_use]
    pub const fn exit_code(&self) -> u8 {
        let agree = self.not_in_ledger.is_empty() && self.not_in_log.is_empty();
        if agree && self.unreadable_line_count == 0 && self.unreadable_rows == 0 { 0 } else { 2 }
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let mut text = String::new();
        let span = match self.span {
            Some((first, last)) => format!("messages, {} to {}", first.to_second(), last.to_second()),
            None => "messages: no SEND or SENDEXTERNAL event that counts; see --connector".to_owned(),
        };
        let not_in_log = self.not_in_log.len() as u64;
        for (label, count, words) in [
            ("Exchange handed over", self.handed_over, span.as_str()),
            ("= known here", self.in_both, "with every recipient"),
            ("+ not known here", self.not_in_ledger.len() as u64, "with all or some recipients; must be 0"),
            ("+ cannot be compared", self.not_comparable, "older than the history that is kept"),
            ("Only known here", not_in_log, "taken in that time from the same clients; must be 0"),
        ] {
            // Writing to a string does not fail.
            let _ = writeln!(text, "{label:COLUMN$}{count:>10}  {words}");
        }
        text.push_str(&listed("Handed over, and not known here", &self.not_in_ledger));
        text.push_str(&listed("Known here, and not in the tracking log", &self.not_in_log));
        if self.more_not_in_log {
            text.push_str("  and more\n");
        }
        if self.unreadable_rows > 0 {
            let rows = counted(self.unreadable_rows, "message");
            let _ = writeln!(text, "\n{rows} of the spool cannot be read: `relay audit` names them");
        }
        if self.unreadable_line_count > 0 {
            let lines = counted(self.unreadable_line_count, "line");
            let _ = writeln!(text, "\n{lines} of the tracking log cannot be read:");
        }
        for line in &self.unreadable_lines {
            let _ = writeln!(text, "  {line}");
        }
        text
    }

    /// For programs: one object, times in RFC 3339.
    #[must_use]
    pub fn json(&self) -> Value {
        let differences = |all: &[Difference]| all.iter().map(Difference::json).collect::<Vec<_>>();
        json!({
            "from": self.span.map(|(first, _)| first.rfc3339()),
            "to": self.span.map(|(_, last)| last.rfc3339()),
            "handed_over": self.handed_over,
            "in_both": self.in_both,
            "not_comparable": self.not_comparable,
            "not_in_ledger": differences(&self.not_in_ledger),
            "not_in_log": differences(&self.not_in_log),
            "more_not_in_log": self.more_not_in_log,
            "unreadable_rows": self.unreadable_rows,
            "unreadable_lines": self.unreadable_line_count,
            "unreadable": self.unreadable_lines,
        })
    }
}

impl Difference {
    fn json(&self) -> Value {
        json!({
            "message_id": self.message_id,
            "id": self.id,
            "at": self.at.rfc3339(),
            "sender": self.sender,
            "recipients": self.recipients,
        })
    }
}

fn listed(title: &str, differences: &[Difference]) -> String {
    if differences.is_empty() {
        return String::new();
    }
    let mut text = format!("\n{title}\n");
    for difference in differences {
        let id = difference.message_id.as_ref().map_or_else(|| "no Message-ID".to_owned(), |id| format!("<{id}>"));
        let queue_id = difference.id.map(|id| format!(", {id}")).unwrap_or_default();
        let sender = if difference.sender.is_empty() { "<>" } else { &difference.sender };
        let to = difference.recipients.join(", ");
        let words = format!("{id}{queue_id}, from {sender} to {to}");
        text.push_str(&paragraph(&difference.at.to_second(), &words, COLUMN));
    }
    text
}

fn lacking(id: &str, handed_over: &HandedOver, recipients: Vec<String>) -> Difference {
    let HandedOver { at, sender, .. } = handed_over;
    Difference { message_id: Some(id.to_owned()), id: None, at: *at, sender: sender.clone(), recipients }
}

/// Whether a client handed it in under this Message-ID; the ledger finds by addresses, too.
fn is_of(message: &LedgerMessage, id: &str) -> bool {
    client(message).is_some() && message.message_id.as_deref().is_some_and(|own| own.eq_ignore_ascii_case(id))
}

const fn client(message: &LedgerMessage) -> Option<&ClientInfo> {
    match &message.envelope.origin {
        Origin::Client(client) => Some(client),
        Origin::Report { .. } | Origin::TlsReport { .. } | Origin::Copy { .. } => None,
    }
}

/// In lower case: Exchange keeps no difference.
fn recipients(message: &LedgerMessage) -> impl Iterator<Item = String> {
    message.envelope.recipients.iter().map(|recipient| recipient.as_str().to_lowercase())
}
