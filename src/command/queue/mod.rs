//! `relay queue summary|list|show`: what waits, and which of it an order concerns.
//!
//! Read from the ledger, with a relay that runs or without one. A filter names recipients: what
//! is done to a message is done to those of them who fit. A message whose row is damaged hides no
//! other; how many there are is told.

pub mod list;
pub mod page;
mod sorted;
pub mod summary;
#[cfg(test)]
mod testing;

use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::NAMES;
use crate::smtp::address::{Host, Mailbox, ReversePath};
use crate::spool::event::Act;
use crate::spool::ledger::{Ledger, LedgerError, LedgerMessage, LedgerRecipient, Listed, MessageState};
use crate::spool::{Hold, RecipientState};
use clap::Args;
use std::ops::ControlFlow;
use std::time::Duration;

/// Messages that one order concerns; more need another one.
pub const MOST_SELECTED: usize = 100_000;

/// What is said when nothing fits.
pub const NOTHING_FITS: &str = "No message that waits fits.\n";

/// In place of a cause, for recipients that no attempt has met.
const NOT_TRIED: &str = "not-tried";

/// In place of a cause, for recipients of whose delivery the sender is still to be told.
const DELIVERED: &str = "delivered";

/// Which messages, and which of their recipients. Conditions add up; without any it is all.
#[derive(Args, Clone, Debug, Default)]
pub struct Filter {
    /// Recipients in this domain.
    #[arg(long, value_name = "DOMAIN", value_parser = domain)]
    pub domain: Option<String>,
    /// Recipients whose last attempt met this cause, such as tlsa-invalid, or not-tried.
    #[arg(long, value_name = "WORD", value_parser = cause)]
    pub cause: Option<String>,
    /// Messages that wait for longer than this, such as 4h.
    #[arg(long, value_name = "DURATION", value_parser = humantime::parse_duration)]
    pub older: Option<Duration>,
    /// Messages from this address; <> is the null reverse-path.
    #[arg(long, value_name = "ADDRESS", value_parser = sender)]
    pub sender: Option<String>,
    /// This message; may be given several times.
    #[arg(long, value_name = "QUEUE-ID")]
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

    /// The same with one more condition, as an address bar has it: `domain`, `cause`, `older`, `sender`, `id`.
    ///
    /// # Errors
    /// When there is no such condition, or its value is none.
    pub fn with(mut self, name: &str, value: &str) -> Result<Self, String> {
        match name {
            "domain" => self.domain = Some(domain(value)?),
            "cause" => self.cause = Some(cause(value)?),
            "older" => self.older = Some(humantime::parse_duration(value).map_err(|error| error.to_string())?),
            "sender" => self.sender = Some(sender(value)?),
            "id" => self.id.push(value.parse().map_err(|_| "that is no queue id".to_owned())?),
            _ => return Err("there is no such condition".to_owned()),
        }
        Ok(self)
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
        let cause = cause_word(&open.state);
        self.domain.as_ref().is_none_or(|domain| domain.eq_ignore_ascii_case(&name_of(mailbox.host())))
            && self.cause.as_ref().is_none_or(|word| cause == word)
    }

    /// What an order concerns in the ledger, oldest first; at most `most`. Who is held
    /// already needs no hold, and who is not held no release; who has its end waits for nothing but its
    /// report.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub async fn select(
        &self,
        ledger: &dyn Ledger,
        act: Act,
        most: usize,
        now: Timestamp,
    ) -> Result<Vec<Selected>, LedgerError> {
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
                (Act::Hold | Act::Release | Act::Retry | Act::Bounce | Act::Delete | Act::Read, _) => {}
            }
            selected.push(Selected { id: message.id, recipients, hold });
            if selected.len() < most { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
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
fn cause_word(state: &RecipientState) -> &'static str {
    let cause = match state {
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

#[cfg(test)]
mod tests {
    use super::testing::{NOW, message};
    use super::*;

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
}
