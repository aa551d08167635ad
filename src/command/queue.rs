//! `relay queue summary|list|show`: what waits, and which of it an order concerns.
//!
//! Read from the ledger, with a relay that runs or without one. A filter names recipients: what
//! is done to a message is done to those of them who fit. The JSON form is one line a message. A
//! message whose row is damaged hides no other; how many there are is told.

use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::NAMES;
use crate::smtp::address::{Host, Mailbox, ReversePath};
use crate::spool::event::Act;
use crate::spool::ledger::{Ledger, LedgerError, LedgerMessage, LedgerRecipient, Listed, MessageState};
use crate::spool::{Hold, RecipientState};
use crate::text::{counted, paragraph};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::ops::ControlFlow;
use std::time::Duration;

/// Messages that one order concerns; more need another one.
pub const MOST_SELECTED: usize = 100_000;

/// Domains in a summary.
const MOST_DOMAINS: usize = 50;

/// Recipients printed of one message in a list.
const MOST_RECIPIENTS: usize = 5;

/// Where the words of a list begin.
const COLUMN: usize = 15;

/// What is said when nothing fits.
pub const NOTHING_FITS: &str = "No message that waits fits.\n";

/// In place of a cause, for recipients that no attempt has met.
const NOT_TRIED: &str = "not-tried";

/// In place of a cause, for recipients of whose delivery the sender is still to be told.
const DELIVERED: &str = "delivered";

/// Which messages, and which of their recipients. Conditions add up; without any it is all.
#[derive(Args, Clone, Debug, Default, Serialize, Deserialize)]
pub struct Filter {
    /// Recipients in this domain.
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    #[serde(default)]
    pub domain: Option<String>,
    /// Recipients whose last attempt met this cause, such as tlsa-invalid, or not-tried.
    #[arg(long, value_name = "WORD", value_parser = cause)]
    #[serde(default)]
    pub cause: Option<String>,
    /// Messages that wait for longer than this, such as 4h.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    #[serde(default)]
    pub older: Option<Duration>,
    /// Messages from this address; <> is the null reverse-path.
    #[arg(long, value_name = "ADDRESS", value_parser = sender)]
    #[serde(default)]
    pub sender: Option<String>,
    /// This message; may be given several times.
    #[arg(long, value_name = "QUEUE-ID")]
    #[serde(default)]
    pub id: Vec<QueueId>,
}

/// A message with the recipients that fit.
#[derive(Clone, Debug)]
pub struct Selected {
    /// The message.
    pub id: QueueId,
    /// By index in the envelope.
    pub recipients: Vec<usize>,
    /// Whether the operator holds it.
    pub hold: Hold,
}

impl Filter {
    /// Whether it is all messages.
    #[must_use]
    pub const fn is_everything(&self) -> bool {
        self.domain.is_none()
            && self.cause.is_none()
            && self.older.is_none()
            && self.sender.is_none()
            && self.id.is_empty()
    }

    /// The recipients of a message that wait, for an attempt or for the report about their end, and fit.
    #[must_use]
    pub fn fitting(&self, message: &LedgerMessage, now: Timestamp) -> Vec<usize> {
        let fits = (self.id.is_empty() || self.id.contains(&message.id))
            && self.older.is_none_or(|older| now.since(message.envelope.accepted_at) >= older)
            && self.sender.as_ref().is_none_or(|sender| is_sender(sender, &message.envelope.reverse_path));
        if !fits {
            return Vec::new();
        }
        let recipients = message.recipients.iter().zip(&message.envelope.recipients).enumerate();
        recipients.filter(|(_, (known, mailbox))| self.fits(known.as_ref(), mailbox)).map(|(index, _)| index).collect()
    }

    fn fits(&self, known: Option<&LedgerRecipient>, mailbox: &Mailbox) -> bool {
        let Some(open) = known.filter(|recipient| recipient.state.is_open()) else { return false };
        let cause = cause_word(open);
        self.domain.as_ref().is_none_or(|domain| domain.eq_ignore_ascii_case(&name_of(mailbox.host())))
            && self.cause.as_ref().is_none_or(|word| cause == word)
    }

    /// What an order concerns in the ledger, oldest first; at most [`MOST_SELECTED`]. Who is held
    /// already needs no hold, and who is not held no release; who has its end waits for nothing but its
    /// report.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn select(&self, ledger: &dyn Ledger, act: Act, now: Timestamp) -> Result<Vec<Selected>, LedgerError> {
        let mut selected = Vec::new();
        let each = |message: LedgerMessage, mut recipients: Vec<usize>| {
            recipients.retain(|index| {
                let known = message.recipients.get(*index).and_then(Option::as_ref);
                known.is_some_and(|known| known.state.pending().is_some())
            });
            if recipients.is_empty() {
                return ControlFlow::Continue(());
            }
            let hold = if message.standing == MessageState::Held { Hold::Held } else { Hold::Scheduled };
            match (act, hold) {
                (Act::Hold, Hold::Held) | (Act::Release, Hold::Scheduled) => return ControlFlow::Continue(()),
                (Act::Hold | Act::Release | Act::Retry | Act::Bounce | Act::Delete, _) => {}
            }
            selected.push(Selected { id: message.id, recipients, hold });
            if selected.len() < MOST_SELECTED { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
        };
        let _unreadable = self.for_each(ledger, now, each).await?;
        Ok(selected)
    }

    /// Gives the number of messages that cannot be read.
    async fn for_each(
        &self,
        ledger: &dyn Ledger,
        now: Timestamp,
        mut each: impl FnMut(LedgerMessage, Vec<usize>) -> ControlFlow<()> + Send,
    ) -> Result<u64, LedgerError> {
        let mut look = |message: LedgerMessage| match self.fitting(&message, now) {
            none if none.is_empty() => ControlFlow::Continue(()),
            recipients => each(message, recipients),
        };
        for id in &self.id {
            let waiting = ledger.message(*id).await?.filter(|message| message.standing != MessageState::Finished);
            if waiting.is_some_and(|message| look(message).is_break()) {
                break;
            }
        }
        if !self.id.is_empty() {
            return Ok(0);
        }
        let (mut listing, mut unreadable) = (ledger.waiting().await?, 0);
        while let Some(listed) = listing.next().await? {
            match listed {
                Listed::Unreadable => unreadable += 1,
                Listed::Message(message) => {
                    if look(*message).is_break() {
                        break;
                    }
                }
            }
        }
        Ok(unreadable)
    }
}

/// What stopped a recipient, in the word of its cause.
fn cause_word(recipient: &LedgerRecipient) -> &'static str {
    let cause = match &recipient.state {
        RecipientState::Queued(pending) => pending.last.as_ref(),
        RecipientState::Owed(owed) if owed.cause().is_none() => return DELIVERED,
        RecipientState::Owed(owed) => owed.cause(),
        RecipientState::Done { .. } | RecipientState::Removed => None,
    };
    cause.map_or(NOT_TRIED, |cause| cause.row().word)
}

/// A domain as lists show it, however it is typed.
fn domain(text: &str) -> Result<String, String> {
    let host = text.trim_start_matches('@').parse::<Host>();
    host.map(|host| name_of(&host)).map_err(|_| "write a domain such as example.org".to_owned())
}

fn cause(text: &str) -> Result<String, String> {
    let known = NAMES.iter().map(|(word, _)| *word).chain([NOT_TRIED]);
    if known.clone().any(|word| word == text) {
        return Ok(text.to_owned());
    }
    Err(format!("there is no such cause; known are: {}", known.collect::<Vec<_>>().join(", ")))
}

fn sender(text: &str) -> Result<String, String> {
    let bare = text.trim_start_matches('<').trim_end_matches('>');
    let known = bare.is_empty() || bare.parse::<Mailbox>().is_ok();
    if known { Ok(text.to_owned()) } else { Err("write an address such as alice@example.org, or <>".to_owned()) }
}

fn is_sender(asked: &str, reverse_path: &ReversePath) -> bool {
    let bare = asked.trim_start_matches('<').trim_end_matches('>');
    match reverse_path {
        ReversePath::Null => bare.is_empty(),
        ReversePath::Mailbox(mailbox) => mailbox.as_str().eq_ignore_ascii_case(bare),
    }
}

fn name_of(host: &Host) -> String {
    match host {
        Host::Domain(domain) => domain.to_string(),
        Host::Literal(address) => format!("[{address}]"),
    }
}

/// How something is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputForm {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// A message in a list.
#[derive(Debug, Serialize)]
struct QueueLine {
    id: QueueId,
    accepted: String,
    age_s: u64,
    due: String,
    standing: MessageState,
    sender: String,
    size: u64,
    message_id: Option<String>,
    recipients: Vec<WaitingRecipient>,
}

/// A recipient in a list.
#[derive(Debug, Serialize)]
struct WaitingRecipient {
    address: String,
    tries: u32,
    cause: Option<&'static str>,
    detail: Option<String>,
    /// When the report goes out, of one that has its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    report_due: Option<String>,
}

impl WaitingRecipient {
    fn text(&self) -> String {
        if let Some(report) = &self.report_due {
            let end = self.cause.map_or_else(|| "delivered".to_owned(), |cause| format!("failed: {cause}"));
            return format!("{end}; the report goes out at {report} or before");
        }
        match (self.tries, self.cause) {
            (0, None) => "not tried yet".to_owned(),
            (0, Some(cause)) => format!("not tried, backing off from the next hop: {cause}"),
            (tries, None) => format!("tried {}", counted(tries.into(), "time")),
            (tries, Some(cause)) => format!("tried {}: {cause}", counted(tries.into(), "time")),
        }
    }
}

impl QueueLine {
    fn new(message: &LedgerMessage, recipients: &[usize], now: Timestamp) -> Self {
        let waiting = |&index: &usize| {
            let known = message.recipients.get(index)?.as_ref()?;
            let (tries, last, report_due) = match &known.state {
                RecipientState::Queued(pending) => (pending.tries, pending.last.as_ref(), None),
                RecipientState::Owed(owed) => (owed.tries, owed.cause(), Some(owed.due.to_second())),
                RecipientState::Done { .. } | RecipientState::Removed => return None,
            };
            let (cause, detail) = (last.map(|cause| cause.row().word), last.map(|cause| cause.sentence()));
            Some(WaitingRecipient { address: known.address.clone(), tries, cause, detail, report_due })
        };
        Self {
            id: message.id,
            accepted: message.envelope.accepted_at.rfc3339(),
            age_s: now.since(message.envelope.accepted_at).as_secs(),
            due: message.due_at.rfc3339(),
            standing: message.standing,
            sender: message.envelope.reverse_path.to_string(),
            size: message.size,
            message_id: message.message_id.clone(),
            recipients: recipients.iter().filter_map(waiting).collect(),
        }
    }

    /// Whether only reports are to come.
    fn is_over(&self) -> bool {
        self.recipients.iter().all(|waiting| waiting.report_due.is_some())
    }

    fn text(&self, due: Timestamp, now: Timestamp) -> String {
        let age = humantime::format_duration(Duration::from_secs(self.age_s));
        let next = match self.standing {
            MessageState::Held => "held".to_owned(),
            MessageState::Queued | MessageState::Finished if due <= now => "in delivery, or about to be".to_owned(),
            MessageState::Queued | MessageState::Finished if self.is_over() => {
                format!("next report {}", due.to_second())
            }
            MessageState::Queued | MessageState::Finished => format!("next attempt {}", due.to_second()),
        };
        let head = format!("from {}, {} octets, {age} old, {next}", self.sender, self.size);
        let mut text = paragraph(&self.id.to_string(), &head, COLUMN);
        for waiting in self.recipients.iter().take(MOST_RECIPIENTS) {
            text.push_str(&paragraph("", &format!("{} {}", waiting.address, waiting.text()), COLUMN));
        }
        if let Some(more @ 1..) = self.recipients.len().checked_sub(MOST_RECIPIENTS) {
            text.push_str(&paragraph("", &format!("and {} more", counted(more as u64, "recipient")), COLUMN));
        }
        text
    }
}

/// The messages that fit, oldest first; each is handed to `print`, until it says that it is
/// enough. Gives the number of messages that cannot be read.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn list(
    ledger: &dyn Ledger,
    filter: &Filter,
    form: OutputForm,
    now: Timestamp,
    mut print: impl FnMut(&str) -> ControlFlow<()> + Send,
) -> Result<u64, LedgerError> {
    let mut found = false;
    let each = |message: LedgerMessage, recipients: Vec<usize>| {
        found = true;
        let line = QueueLine::new(&message, &recipients, now);
        print(&match form {
            OutputForm::Text => line.text(message.due_at, now),
            OutputForm::Json => serde_json::to_string(&line).unwrap_or_default() + "\n",
        })
    };
    let unreadable = filter.for_each(ledger, now, each).await?;
    if !found && form == OutputForm::Text {
        let _enough = print(if filter.is_everything() { "No message waits.\n" } else { NOTHING_FITS });
    }
    Ok(unreadable)
}

/// What waits for one recipient domain.
#[derive(Debug, Default, Serialize)]
struct DomainSummary {
    domain: String,
    messages: u64,
    recipients: u64,
    held: u64,
    oldest_s: u64,
    causes: BTreeMap<&'static str, u64>,
}

/// What waits, by recipient domain, the most recipients first, and the number of messages that
/// cannot be read.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn summary(
    ledger: &dyn Ledger,
    filter: &Filter,
    form: OutputForm,
    now: Timestamp,
) -> Result<(String, u64), LedgerError> {
    let mut domains: BTreeMap<String, DomainSummary> = BTreeMap::new();
    let mut messages = 0_u64;
    let each = |message: LedgerMessage, recipients: Vec<usize>| {
        messages += 1;
        count(&mut domains, &message, &recipients, now);
        ControlFlow::Continue(())
    };
    let unreadable = filter.for_each(ledger, now, each).await?;
    let mut domains: Vec<DomainSummary> = domains.into_values().collect();
    domains.sort_by(|a, b| b.recipients.cmp(&a.recipients).then_with(|| a.domain.cmp(&b.domain)));
    let text = match form {
        OutputForm::Json => domains.iter().map(|d| serde_json::to_string(d).unwrap_or_default() + "\n").collect(),
        OutputForm::Text => summary_text(&domains, messages),
    };
    Ok((text, unreadable))
}

fn count(domains: &mut BTreeMap<String, DomainSummary>, message: &LedgerMessage, recipients: &[usize], now: Timestamp) {
    let mut seen = Vec::new();
    for &index in recipients {
        let Some(mailbox) = message.envelope.recipients.get(index) else { continue };
        let name = name_of(mailbox.host());
        let domain = domains.entry(name.clone()).or_default();
        if !seen.contains(&name) {
            domain.messages += 1;
            domain.held += u64::from(message.standing == MessageState::Held);
            domain.oldest_s = domain.oldest_s.max(now.since(message.envelope.accepted_at).as_secs());
            domain.domain.clone_from(&name);
            seen.push(name);
        }
        domain.recipients += 1;
        let known = message.recipients.get(index).and_then(Option::as_ref);
        *domain.causes.entry(known.map_or(NOT_TRIED, cause_word)).or_default() += 1;
    }
}

fn summary_text(domains: &[DomainSummary], messages: u64) -> String {
    if messages == 0 {
        return NOTHING_FITS.to_owned();
    }
    let recipients: u64 = domains.iter().map(|domain| domain.recipients).sum();
    let [wait, with, within] = [(messages, "message"), (recipients, "recipient"), (domains.len() as u64, "domain")]
        .map(|(n, w)| counted(n, w));
    let verb = if messages == 1 { "waits" } else { "wait" };
    let mut text = format!("{wait} {verb}, with {with} in {within}\n");
    for domain in domains.iter().take(MOST_DOMAINS) {
        let oldest = humantime::format_duration(Duration::from_secs(domain.oldest_s));
        let held = if domain.held > 0 { format!(", {} held", domain.held) } else { String::new() };
        let causes = domain.causes.iter().map(|(word, count)| format!("{count} {word}"));
        let causes = causes.collect::<Vec<_>>().join(", ");
        // Writing to a string does not fail.
        let _ = writeln!(text, "\n{}", domain.domain);
        let [recipients, messages] =
            [(domain.recipients, "recipient"), (domain.messages, "message")].map(|(n, w)| counted(n, w));
        let words = format!("{recipients} in {messages}{held}, the oldest {oldest} old");
        text.push_str(&paragraph("", &words, 2));
        text.push_str(&paragraph("", &causes, 2));
    }
    if domains.len() > MOST_DOMAINS {
        let _ = writeln!(text, "\nand {} more", counted((domains.len() - MOST_DOMAINS) as u64, "domain"));
    }
    let puzzling = |domain: &&DomainSummary| {
        domain.causes.keys().any(|word| *word != NOT_TRIED) && !domain.domain.starts_with('[')
    };
    if let Some(domain) = domains.iter().find(puzzling) {
        let _ = writeln!(text, "\nWho has to act: relay check {}", domain.domain);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, Origin};
    use crate::outcome::Cause;
    use crate::spool::Pending;
    use crate::spool::ledger::LedgerRecipient;
    use crate::spool::owed::Owed;

    const NOW: Timestamp = Timestamp(10_000_000);

    fn message() -> LedgerMessage {
        let addresses = ["a@One.example", "b@two.example", "c@[192.0.2.1]", "d@one.example"];
        let recipients = addresses.iter().map(|a| a.parse().unwrap()).collect();
        let sender = ReversePath::Mailbox("alice@office.example".parse().unwrap());
        let envelope = Envelope::new(sender, recipients, Timestamp(0), Origin::Report { about: QueueId(1) });
        let last = Some(Cause::NullMx { domain: "one.example".parse().unwrap() });
        let waits = RecipientState::Queued(Pending { last, tries: 2, ..Pending::NEW });
        let states = [waits, RecipientState::NEW, RecipientState::NEW, RecipientState::Removed];
        let known = states.into_iter().zip(addresses);
        LedgerMessage {
            id: QueueId(7),
            message_id: None,
            envelope,
            size: 5,
            standing: MessageState::Queued,
            due_at: NOW,
            finished_at: None,
            attempts: 2,
            recipients: known
                .map(|(state, a)| Some(LedgerRecipient { address: a.to_owned(), state, told: None }))
                .collect(),
        }
    }

    #[test]
    fn conditions_add_up_and_only_who_waits_fits() {
        let fits = |filter: Filter| filter.fitting(&message(), NOW);
        let word = |text: &str| Some(text.to_owned());
        assert_eq!(fits(Filter::default()), [0, 1, 2]);
        assert_eq!(fits(Filter { domain: word("ONE.example"), ..Filter::default() }), [0]);
        assert_eq!(fits(Filter { domain: word("[192.0.2.1]"), ..Filter::default() }), [2]);
        assert_eq!(fits(Filter { cause: word("null-mx"), ..Filter::default() }), [0]);
        assert!(fits(Filter { cause: word("null-mx"), domain: word("two.example"), ..Filter::default() }).is_empty());
        assert_eq!(fits(Filter { older: Some(Duration::from_secs(10_000)), ..Filter::default() }).len(), 3);
        assert!(fits(Filter { older: Some(Duration::from_secs(10_001)), ..Filter::default() }).is_empty());
        assert_eq!(fits(Filter { sender: word("<Alice@office.example>"), ..Filter::default() }).len(), 3);
        assert!(fits(Filter { sender: word("<>"), ..Filter::default() }).is_empty());
        assert_eq!(fits(Filter { id: vec![QueueId(6), QueueId(7)], ..Filter::default() }).len(), 3);
        assert!(fits(Filter { id: vec![QueueId(6)], ..Filter::default() }).is_empty());
    }

    #[test]
    fn who_has_an_end_and_is_owed_a_report_is_listed_with_both() {
        let mut message = message();
        let cause = Cause::NullMx { domain: "one.example".parse().unwrap() };
        let outcome = crate::outcome::DeliveryOutcome::Failed { cause };
        let owed = Owed { outcome, tries: 1, tried_at: None, due: Timestamp(NOW.0 + 60_000) };
        message.recipients[0].as_mut().unwrap().state = RecipientState::Owed(owed);
        let filter = Filter { cause: Some("null-mx".to_owned()), ..Filter::default() };
        let fitting = filter.fitting(&message, NOW);
        assert_eq!(fitting, [0]);
        let text = QueueLine::new(&message, &fitting, NOW).text(Timestamp(NOW.0 + 60_000), NOW);
        let text = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
        assert!(text.contains("next report 1970-01-01 02:47:40Z"), "{text}");
        assert!(text.contains("a@One.example failed: null-mx; the report goes out at 1970-01-01 02:47:40Z"), "{text}");
    }

    #[test]
    fn conditions_are_checked_and_brought_into_the_form_of_the_list() {
        for (typed, meant) in
            [("DEAD.test.", "dead.test"), ("@dead.test", "dead.test"), ("bücher.example", "xn--bcher-kva.example")]
        {
            assert_eq!(domain(typed).as_deref(), Ok(meant));
        }
        assert_eq!(domain("[192.0.2.1]").as_deref(), Ok("[192.0.2.1]"));
        assert!(domain("not..a domain").unwrap_err().contains("example.org"));
        assert!(cause("tlsa-invalid").is_ok() && cause("not-tried").is_ok());
        assert!(cause("tlsa").unwrap_err().contains("tlsa-invalid"), "a typing error finds nothing in silence");
        assert!(sender("<>").is_ok() && sender("<alice@office.example>").is_ok() && sender("alice").is_err());
    }

    #[test]
    fn who_was_never_tried_fits_that_word() {
        let filter = Filter { cause: Some("not-tried".to_owned()), ..Filter::default() };
        assert_eq!(filter.fitting(&message(), NOW), [1, 2]);
    }

    #[test]
    fn every_cause_has_its_words_in_the_list_and_in_the_summary() {
        for cause in crate::outcome::every::cause() {
            let (word, mut message) = (cause.row().word, message());
            let last = Some(cause.clone());
            message.recipients[0].as_mut().unwrap().state =
                RecipientState::Queued(Pending { last, tries: 2, ..Pending::NEW });
            let line = QueueLine::new(&message, &[0], NOW);
            assert!(line.text(NOW, NOW).contains(&format!("a@One.example tried 2 times: {word}\n")), "{word}");
            let told = &serde_json::to_value(&line).unwrap()["recipients"][0];
            assert_eq!((&told["cause"], &told["detail"]), (&word.into(), &cause.sentence().into()));
            let mut domains = BTreeMap::new();
            count(&mut domains, &message, &[0], NOW);
            let text = summary_text(&domains.into_values().collect::<Vec<_>>(), 1);
            assert!(text.contains(&format!("1 {word}\n")), "{text}");
            assert_eq!(super::cause(word).as_deref(), Ok(word), "it can be asked for");
        }
    }

    #[test]
    fn a_summary_counts_messages_recipients_and_causes() {
        let mut domains = BTreeMap::new();
        count(&mut domains, &message(), &[0, 1, 2], NOW);
        count(&mut domains, &message(), &[0], NOW);
        let one = &domains["one.example"];
        assert_eq!((one.messages, one.recipients, one.oldest_s, one.causes["null-mx"]), (2, 2, 10_000, 2));
        let text = summary_text(&domains.into_values().collect::<Vec<_>>(), 2);
        assert!(text.starts_with("2 messages wait, with 4 recipients in 3 domains\n"), "{text}");
        assert!(text.ends_with("\nWho has to act: relay check one.example\n"), "{text}");
        assert!(text.contains("1 not-tried") && text.lines().all(|line| line.len() <= 80), "{text}");
    }
}
