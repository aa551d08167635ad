//! `relay why QUEUE-ID|MESSAGE-ID|ADDRESS`: what happened to a message, attempt by attempt.
//!
//! Read from the ledger, with a relay that runs or without one. The words of every failure are
//! those of its cause; where it comes again and again, its sentence stands in the timeline once.
//! Exit codes: 0 when something was found, 1 when not.

use crate::clock::Timestamp;
use crate::command::incidents;
use crate::envelope::{Origin, QueueId};
use crate::outcome::{Cause, DeliveryOutcome, TlsVerdict};
use crate::smtp::address::ReversePath;
use crate::spool::RecipientState;
use crate::spool::event::{Answered, Attempt, Event};
use crate::spool::incident::Incident;
use crate::spool::ledger::{Ledger, LedgerError, LedgerMessage, Matches, MessageState, More, ToldBy};
use crate::text::table::{Column, TableView, TextTable};
use crate::text::{counted, paragraph};
use serde::Serialize;
use std::collections::BTreeSet;
use std::time::Duration;

#[cfg(test)]
mod cause_tests;

/// Messages told of where nobody says how many; an address may have thousands.
pub const USUAL_MESSAGES: usize = 20;

/// The columns of the table of messages.
pub const COLUMNS: &[Column] = &[
    Column::words("ID"),
    Column::words("ACCEPTED"),
    Column::words("STANDING").at_least(8),
    Column::numbers("TRIES").rank(1),
    Column::words("TO").at_least(16),
    Column::words("FROM").at_least(16).rank(2),
];

/// Copies named of one message.
const MOST_COPIES: usize = 20;

/// Recipients named in one line of the timeline; more are counted.
const MOST_NAMES: usize = 3;

/// Where the words of the head begin in their line.
const HEAD: usize = 14;

/// Where the words of the timeline begin: behind `2026-11-21 15:30:12.123Z`.
const COLUMN: usize = 26;

/// What is known about a subject.
#[derive(Debug, Serialize)]
pub struct Explanation {
    /// What was asked for.
    pub subject: String,
    /// The newest message first.
    pub stories: Vec<Story>,
    /// Whether there are older messages that are not told of.
    pub more: bool,
    /// Messages that may be meant, and whose rows in the ledger cannot be read.
    pub unreadable: Vec<QueueId>,
}

/// A message and what happened to it.
#[derive(Debug, Serialize)]
pub struct Story {
    /// The message as it is now.
    pub message: LedgerMessage,
    /// Oldest first.
    pub history: Vec<Happening>,
    /// The incidents that it met: it failed as many others did.
    pub incidents: Vec<Incident>,
    /// The copies of it for archives, the newest first.
    pub copies: Vec<QueueId>,
}

/// Something that happened.
#[derive(Debug, Serialize)]
pub struct Happening {
    /// When it happened.
    pub at: Timestamp,
    /// What happened.
    #[serde(flatten)]
    pub event: Event,
}

/// Something that happened, in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEntry {
    /// When it happened.
    pub at: Timestamp,
    /// The first says it, further ones belong to it.
    pub lines: Vec<String>,
}

/// Looks a subject up in the ledger: the newest messages of it, at most `most`.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn look_up(ledger: &dyn Ledger, subject: &str, most: usize) -> Result<Explanation, LedgerError> {
    let by_id = match subject.parse::<QueueId>() {
        Ok(id) => ledger.message(id).await?,
        Err(_not_an_id) => None,
    };
    let found = match by_id {
        Some(message) => Matches { messages: vec![message], more: More::No, unreadable: Vec::new() },
        None => ledger.find(subject, most).await?,
    };
    let incidents = incidents::incidents(ledger).await?;
    let mut stories = Vec::new();
    for message in found.messages {
        stories.push(story(ledger, message, &incidents).await?);
    }
    let (more, unreadable) = (found.more == More::Yes, found.unreadable);
    Ok(Explanation { subject: subject.to_owned(), stories, more, unreadable })
}

async fn story(ledger: &dyn Ledger, message: LedgerMessage, all: &[Incident]) -> Result<Story, LedgerError> {
    let happening = |(at, event): (Timestamp, Event)| Happening { at, event };
    let history = ledger.history(message.id).await?;
    let incidents = incidents::met(all, history.iter().map(|(at, event)| (*at, event)));
    let found = ledger.find(&message.id.to_string(), MOST_COPIES).await?.messages.into_iter();
    let copies = found.filter(|found| found.envelope.copy_of() == Some(message.id)).map(|copy| copy.id).collect();
    Ok(Story { message, history: history.into_iter().map(happening).collect(), incidents, copies })
}

/// Whose stories are told to people where several messages are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stories {
    /// Of the newest message.
    Newest,
    /// Of each.
    All,
}

impl Explanation {
    /// The exit code.
    #[must_use]
    pub fn exit_code(&self) -> u8 {
        u8::from(self.stories.is_empty())
    }

    /// For people: the story where there is one message; a table where there are more, and the story of the
    /// newest, or of each.
    #[must_use]
    pub fn text(&self, view: &TableView, stories: Stories) -> String {
        if self.stories.is_empty() && self.unreadable.is_empty() {
            return self.nothing();
        }
        let mut text = String::new();
        if self.stories.len() > 1 {
            text.push_str(&self.table(view).text(view.width));
            if self.more {
                text.push_str("There are older messages; --limit says how many are shown.\n");
            }
            text.push('\n');
        }
        let told = match stories {
            Stories::Newest => 1,
            Stories::All => usize::MAX,
        };
        text.push_str(&self.stories.iter().take(told).map(Story::text).collect::<Vec<_>>().join("\n"));
        if let Some(next) = self.stories.get(told) {
            text.push_str(&format!("\nAnother: relay why {}; --stories tells all\n", next.message.id));
        }
        for id in &self.unreadable {
            text.push_str(&format!("\n{}\n", LedgerError::Row(*id)));
        }
        text
    }

    fn table(&self, view: &TableView) -> TextTable {
        let mut table = TextTable::new(COLUMNS);
        for Story { message, .. } in &self.stories {
            let to = message.envelope.recipients.first().map_or_else(String::new, ToString::to_string);
            let more = message.envelope.recipients.len().saturating_sub(1);
            let to = if more == 0 { to } else { format!("{to} +{more}") };
            let row = vec![
                message.id.to_string().into(),
                message.envelope.accepted_at.to_second().into(),
                standing(message).into(),
                u64::from(message.attempts).into(),
                to.into(),
                message.envelope.reverse_path.to_string().into(),
            ];
            table.push(row, ());
        }
        table.arrange(view);
        table
    }

    fn nothing(&self) -> String {
        let subject = self.subject.as_str();
        let age = "It may be older than [spool] keep_history, or never have been here.";
        let domain = if !subject.contains('@') && subject.contains('.') {
            format!(" What waits for a domain: `relay queue list --domain {subject}`.")
        } else {
            String::new()
        };
        paragraph("", &format!("Nothing is known of {subject}. {age}{domain}"), 0)
    }
}

impl Story {
    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        let LedgerMessage { id, envelope, size, message_id, .. } = &self.message;
        let mut text = format!("{id}  {}\n", standing(&self.message));
        let mut head = |label: &str, words: &str| text.push_str(&paragraph(&format!("  {label}"), words, HEAD));
        head("From", &envelope.reverse_path.to_string());
        let came = match &envelope.origin {
            Origin::Client(client) => {
                let user = client.user.as_ref().map(|user| format!(" by the user {user}")).unwrap_or_default();
                format!("from {} [{}] with {}{user}", client.helo, client.address, client.protocol)
            }
            Origin::Report { about } => format!("as a report about {about}"),
            Origin::TlsReport { domain, day } => format!("as the report on TLS to {domain} about {day}"),
            Origin::Copy { of } => format!("as a copy of {of} for an archive"),
        };
        head("Accepted", &format!("{} {came}, {size} octets", envelope.accepted_at.to_second()));
        if let Some(message_id) = message_id {
            head("Message-ID", &format!("<{message_id}>"));
        }
        for index in 0..self.message.recipients.len() {
            head(if index == 0 { "To" } else { "" }, &self.recipient(index));
        }
        if !self.copies.is_empty() {
            let ids = self.copies.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
            head("Copies", &format!("{ids}, for an archive"));
        }
        for incident in &self.incidents {
            let (id, cause, side) = (incident.id, &incident.cause, incident.side.word());
            let sure = incident.certainty.word();
            let met = format!("{id}: {cause}, side: {side}, {sure}. Many domains failed alike; see `relay incidents`.");
            text.push_str(&paragraph("  Incident", &met, HEAD));
        }
        text.push('\n');
        text.push_str(&line(envelope.accepted_at, "accepted"));
        let mut said = ToldSentences::default();
        for TimelineEntry { at, lines } in self.entries(&mut said) {
            let mut lines = lines.iter();
            text.extend(lines.next().map(|first| line(at, first)));
            lines.for_each(|further| text.push_str(&paragraph("", further, COLUMN)));
        }
        text
    }

    /// What happened, oldest first, in words: what [`Story::text`] says below the head.
    #[must_use]
    pub fn timeline(&self) -> Vec<TimelineEntry> {
        let accepted = TimelineEntry { at: self.message.envelope.accepted_at, lines: vec!["accepted".to_owned()] };
        std::iter::once(accepted).chain(self.entries(&mut ToldSentences::default())).collect()
    }

    /// How the message stands, in words.
    #[must_use]
    pub fn standing(&self) -> String {
        standing(&self.message)
    }

    /// How each recipient stands, a line each: what a caller can be told.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        (0..self.message.recipients.len()).map(|index| self.recipient(index)).collect()
    }

    fn entries(&self, said: &mut ToldSentences) -> Vec<TimelineEntry> {
        let entry = |happening: &Happening| TimelineEntry { at: happening.at, lines: self.happening(happening, said) };
        self.history.iter().map(entry).collect()
    }

    fn recipient(&self, index: usize) -> String {
        let name = self.names(&[index]);
        let Some(Some(recipient)) = self.message.recipients.get(index) else {
            return format!("{name}: not among the relay's records; run `relay audit`");
        };
        let told = match recipient.told {
            None => String::new(),
            Some(ToldBy::Report(report)) => format!("; report {report} tells {}", self.who_is_told()),
            Some(ToldBy::Nobody(because)) => format!("; nobody is told, because {}", because.words()),
        };
        match &recipient.state {
            RecipientState::Done { outcome } => {
                let end = end_of(outcome, &mut ToldSentences::default());
                format!("{name}: {}{told}", end.trim_end_matches('.'))
            }
            RecipientState::Owed(owed) => {
                let end = end_of(&owed.outcome, &mut ToldSentences::default());
                let (reader, due) = (self.who_is_told(), owed.due.to_second());
                format!("{name}: {}; the report to {reader} goes out at {due} or before", end.trim_end_matches('.'))
            }
            RecipientState::Removed => format!("{name}: removed by the operator"),
            RecipientState::Queued(pending) => {
                let last = pending.last.as_ref().map_or_else(String::new, |cause| format!(" ({})", cause.row().word));
                match pending.due {
                    Some(due) => {
                        let tried = counted(pending.tries.into(), "time");
                        format!("{name}: waits until {}{last}, tried {tried}", due.to_second())
                    }
                    None => format!("{name}: waits{last}"),
                }
            }
        }
    }

    /// Nobody is told of mail from nobody but the postmaster.
    const fn who_is_told(&self) -> &'static str {
        match self.message.envelope.reverse_path {
            ReversePath::Null => "the postmaster",
            ReversePath::Mailbox(_) => "the sender",
        }
    }

    fn happening(&self, happening: &Happening, said: &mut ToldSentences) -> Vec<String> {
        let first = match &happening.event {
            Event::Attempt(attempt) => return self.attempt(attempt, said),
            Event::NotTried { next_hop, cause, .. } => format!("{next_hop} not tried: {}", said.failure(cause)),
            Event::Waits { recipients, due, backing_off } => {
                let because = backing_off.as_ref().map_or_else(String::new, |cause| {
                    format!(", without an attempt, backing off from the next hop: {}", said.failure(cause))
                });
                format!("{}: waits until {}{because}", self.names(recipients), due.to_second())
            }
            Event::Ended { recipients, cause: None } => format!("{}: delivered", self.names(recipients)),
            Event::Ended { recipients, cause: Some(cause) } => {
                format!("{}: failed for good: {}", self.names(recipients), said.failure(cause))
            }
            Event::Told { recipients, report, to, notice } => {
                let what = if *notice { "notice" } else { "report" };
                format!("{what} {report} about {} is in the queue, to {}", self.names(recipients), to.join(", "))
            }
            Event::NotTold { recipients, because } => {
                format!("nobody is told about {}, because {}", self.names(recipients), because.words())
            }
            Event::Operator { act, recipients, actor } => {
                let who = Some(actor.words()).filter(|words| !words.is_empty());
                let who = who.map_or_else(String::new, |words| format!(" ({words})"));
                format!("by the operator{who}: {} {}", self.names(recipients), act.done())
            }
            Event::Broken { next_hop } => format!("an attempt at {next_hop} ended by a bug in the relay"),
            Event::Unreadable { text } => text.clone(),
        };
        vec![first]
    }

    fn attempt(&self, attempt: &Attempt, said: &mut ToldSentences) -> Vec<String> {
        let Attempt { next_hop, peer, policy, tls, group, exception, took_ms, results, dns } = attempt;
        let tls = match tls {
            None => "no mail session came about".to_owned(),
            Some(tls) => protection(tls, group.as_deref()),
        };
        let exception = exception.as_ref().map_or_else(String::new, |exception| format!(", exception: {exception}"));
        let took = humantime::format_duration(Duration::from_millis(*took_ms));
        let tried = format!("tried {peer} for {next_hop}; policy {policy}, {tls}{exception}; took {took}");
        let mut lines = vec![tried];
        for ((path, despite), questions) in by_way(dns) {
            lines.push(format!("DNS: {questions} by {path}{despite}"));
        }
        for group in results {
            lines.push(format!("{}: {}", self.names(&group.recipients), end_of(&group.outcome, said)));
        }
        lines
    }

    fn names(&self, recipients: &[usize]) -> String {
        let all = &self.message.envelope.recipients;
        let name = |index: &usize| all.get(*index).map_or_else(|| format!("recipient {index}"), ToString::to_string);
        let named: Vec<String> = recipients.iter().take(MOST_NAMES).map(name).collect();
        match recipients.len().saturating_sub(MOST_NAMES) {
            0 => named.join(", "),
            more => format!("{} and {more} more", named.join(", ")),
        }
    }
}

/// The questions that were answered by the same path after the same failures, in words.
fn by_way(dns: &[Answered]) -> Vec<((&str, String), String)> {
    let mut ways: Vec<((&str, String), String)> = Vec::new();
    for Answered { question, path, despite } in dns {
        let failed = despite.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ");
        let despite = if failed.is_empty() { failed } else { format!(", despite {failed}") };
        match ways.iter_mut().find(|((known, failed), _)| known == path && *failed == despite) {
            Some((_, questions)) => questions.push_str(&format!(", {question}")),
            None => ways.push(((path, despite), question.to_string())),
        }
    }
    ways
}

fn standing(message: &LedgerMessage) -> String {
    match (message.standing, message.finished_at) {
        (MessageState::Held, _) => "held by the operator".to_owned(),
        (MessageState::Finished, Some(at)) => format!("finished {}", at.to_second()),
        (MessageState::Finished, None) => "finished".to_owned(),
        (MessageState::Queued, _) if message.waiting().next().is_none() => {
            format!("every recipient has an end, next report {}", message.due_at.to_second())
        }
        (MessageState::Queued, _) => format!("in the queue, next attempt {}", message.due_at.to_second()),
    }
}

fn end_of(outcome: &DeliveryOutcome, said: &mut ToldSentences) -> String {
    match outcome {
        DeliveryOutcome::Delivered { peer, reply, .. } => format!("delivered to {}: {reply}", peer.host),
        DeliveryOutcome::Failed { cause } => said.failure(cause),
    }
}

/// The sentences that have been said: four days of waiting are a hundred attempts.
#[derive(Default)]
struct ToldSentences(BTreeSet<String>);

impl ToldSentences {
    fn failure(&mut self, cause: &Cause) -> String {
        let (row, sentence) = (cause.row(), cause.sentence());
        let words = format!("{}, status {}", row.word, row.status);
        let text = format!("{words}: {sentence}");
        if self.0.insert(text.clone()) { text } else { format!("{words}, as above") }
    }
}

fn protection(tls: &TlsVerdict, group: Option<&str>) -> String {
    let version = tls.version().map(|version| format!(" {version}")).unwrap_or_default();
    let matched = tls.matched().map(|matched| format!(" ({matched})")).unwrap_or_default();
    let group = group.map(|group| format!(" {group}")).unwrap_or_default();
    format!("{}{version}{group}{matched}", tls.word())
}

fn line(at: Timestamp, words: &str) -> String {
    paragraph(&at.rfc3339().replacen('T', " ", 1), words, COLUMN)
}
