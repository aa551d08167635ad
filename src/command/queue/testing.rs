//! Messages that wait, for the tests of what is shown of them.

use crate::clock::Timestamp;
use crate::envelope::{Envelope, Origin, QueueId};
use crate::outcome::{Cause, DeliveryOutcome};
use crate::smtp::address::ReversePath;
use crate::spool::ledger::{LedgerMessage, LedgerRecipient, MessageState};
use crate::spool::owed::{Owed, Reported};
use crate::spool::{Pending, RecipientState};

pub(super) const NOW: Timestamp = Timestamp(10_000_000);

/// One that fits many conditions.
pub(super) fn message() -> LedgerMessage {
    let waits = waits(null_mx());
    let states = [waits, RecipientState::NEW, RecipientState::NEW, RecipientState::Removed];
    one(7, &["a@One.example", "b@two.example", "c@[192.0.2.1]", "d@one.example"], states.into())
}

fn null_mx() -> Cause {
    Cause::NullMx { domain: "one.example".parse().unwrap() }
}

/// How a recipient waits that was tried twice and met this.
pub(super) fn waits(cause: Cause) -> RecipientState {
    RecipientState::Queued(Pending { last: Some(cause), tries: 2, ..Pending::NEW })
}

/// How one stands that has failed, and whose report goes out in a minute.
pub(super) fn owed() -> RecipientState {
    let outcome = DeliveryOutcome::Failed { cause: null_mx() };
    RecipientState::Owed(Owed { outcome, tries: 1, tried_at: None, due: Timestamp(NOW.0 + 60_000) })
}

fn one(id: u64, addresses: &[&str], states: Vec<RecipientState>) -> LedgerMessage {
    let recipients = addresses.iter().map(|a| a.parse().unwrap()).collect();
    let sender = ReversePath::Mailbox("alice@office.example".parse().unwrap());
    let known = states.into_iter().zip(addresses);
    LedgerMessage {
        id: QueueId(id),
        message_id: None,
        envelope: Envelope::new(sender, recipients, Timestamp(0), Origin::Report { about: QueueId(1) }),
        size: 5,
        standing: MessageState::Queued,
        due_at: NOW,
        finished_at: None,
        attempts: 2,
        reported: Reported::NOTHING,
        recipients: known
            .map(|(state, a)| Some(LedgerRecipient { address: (*a).to_owned(), state, told: None }))
            .collect(),
    }
}

/// What screens show: one that is held, one for many, one that has only its report to come, one that is new
/// and comes from a stranger's pen.
pub(super) fn sample() -> Vec<LedgerMessage> {
    let shifted = |mut message: LedgerMessage, accepted_ms: i64, due_ms: i64, size: u64| {
        message.envelope.accepted_at = Timestamp(NOW.0 - accepted_ms);
        (message.due_at, message.size) = (Timestamp(NOW.0 + due_ms), size);
        message
    };
    let bogus = || Cause::DnsUnavailable {
        question: crate::outcome::every::cause()
            .into_iter()
            .find_map(|cause| if let Cause::DnsUnavailable { question, .. } = cause { Some(question) } else { None })
            .unwrap(),
        tried: Vec::new(),
    };
    let id = |n: u64| 0x0300_0000_0000_0000 + n;
    let mut held = one(id(1), &["postmaster@a-rather-long-name.of-a-partner.example"], vec![waits(bogus())]);
    held.standing = MessageState::Held;
    let mut strange = one(id(4), &["eve@busy.example"], vec![RecipientState::NEW]);
    strange.recipients[0].as_mut().unwrap().address = "\u{202e}eve@busy.example\u{1b}[2J".to_owned();
    vec![
        shifted(held, 9_000_000, 60_000, 30_000_000),
        shifted(message(), 4_000_000, 754_000, 5),
        shifted(one(id(3), &["bob@one.example"], vec![owed()]), 200_000, 60_000, 2_048),
        shifted(strange, 1_000, 0, 700),
    ]
}
