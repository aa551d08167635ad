//! A page of what waits in another order than its age. There is no index for these, which each message would pay for:
//! all that waits is read once, and no more of it is kept than the page.

use super::list::QueueLine;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::RecipientState;
use crate::spool::ledger::{LedgerMessage, MessageState};
use std::collections::BTreeMap;

/// What messages are sorted by, where it is not their age; the older first where it is the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SortKey {
    /// The domain of the first recipient that fits.
    Domain,
    /// The next attempt, the soonest first; what is held comes last.
    Next,
    /// The size, the largest first.
    Size,
    /// Attempts made, most first.
    Attempts,
}

/// The place of a message in such an order.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SortPlace {
    number: i64,
    domain: String,
    accepted_at: i64,
    id: u64,
}

impl SortKey {
    /// The key of that word.
    pub(super) fn of_word(word: &str) -> Option<Self> {
        match word {
            "domain" => Some(Self::Domain),
            "next" => Some(Self::Next),
            "size" => Some(Self::Size),
            "attempts" => Some(Self::Attempts),
            _ => None,
        }
    }

    fn place(self, message: &LedgerMessage, recipients: &[usize]) -> SortPlace {
        let is_held = message.standing == MessageState::Held;
        let descending = |number: u64| -i64::try_from(number).unwrap_or(i64::MAX);
        let number = match self {
            Self::Domain => 0,
            Self::Next if is_held => i64::MAX,
            Self::Next => message.due_at.0,
            Self::Size => descending(message.size),
            Self::Attempts => {
                descending(recipients.iter().map(|index| tries(message, *index)).max().unwrap_or_default())
            }
        };
        let domain = match self {
            Self::Domain => domain(message, recipients),
            Self::Next | Self::Size | Self::Attempts => String::new(),
        };
        SortPlace { number, domain, accepted_at: message.envelope.accepted_at.0, id: message.id.0 }
    }
}

fn domain(message: &LedgerMessage, recipients: &[usize]) -> String {
    let first = recipients.first().and_then(|index| message.recipients.get(*index)?.as_ref());
    let domain = first.and_then(|first| first.address.rsplit_once('@')).map_or("", |(_, domain)| domain);
    domain.to_ascii_lowercase()
}

fn tries(message: &LedgerMessage, index: usize) -> u64 {
    match message.recipients.get(index).and_then(Option::as_ref).map(|known| &known.state) {
        Some(RecipientState::Queued(pending)) => u64::from(pending.tries),
        Some(RecipientState::Owed(owed)) => u64::from(owed.tries),
        Some(RecipientState::Done { .. } | RecipientState::Removed) | None => 0,
    }
}

impl SortPlace {
    /// As the address of the next page has it.
    pub(super) fn cursor(&self) -> String {
        format!("{}.{}.{}.{}", self.number, self.accepted_at, QueueId(self.id), self.domain)
    }

    /// The place that an address names.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '.');
        let (number, accepted_at) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        let QueueId(id) = parts.next()?.parse().ok()?;
        let domain = parts.next()?.to_owned();
        Some(Self { number, domain, accepted_at, id })
    }
}

/// The first messages behind a place, while all pass by: never more than a page, and one.
pub(super) struct SortedPage {
    key: SortKey,
    after: Option<SortPlace>,
    limit: usize,
    first: BTreeMap<SortPlace, QueueLine>,
}

impl SortedPage {
    pub(super) fn new(key: SortKey, after: Option<SortPlace>, limit: usize) -> Self {
        Self { key, after, limit, first: BTreeMap::new() }
    }

    /// One that fits, by these recipients.
    pub(super) fn take(&mut self, message: &LedgerMessage, recipients: &[usize], now: Timestamp) {
        let place = self.key.place(message, recipients);
        let is_full = self.first.len() > self.limit;
        let is_behind = is_full && self.first.last_key_value().is_some_and(|(last, _)| *last < place);
        if is_behind || self.after.as_ref().is_some_and(|after| place <= *after) {
            return;
        }
        self.first.insert(place, QueueLine::new(message, recipients, now));
        if is_full {
            self.first.pop_last();
        }
    }

    /// The page, and where the next one begins.
    pub(super) fn end(mut self) -> (Vec<QueueLine>, Option<String>) {
        let is_last = self.first.len() <= self.limit;
        while self.first.len() > self.limit {
            self.first.pop_last();
        }
        let next = self.first.last_key_value().filter(|_| !is_last).map(|(place, _)| place.cursor());
        (self.first.into_values().collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::queue::testing::{NOW, message};

    fn numbered(id: u64) -> LedgerMessage {
        LedgerMessage { id: QueueId(id), size: id * 7 % 100, due_at: Timestamp(1_000 - id.cast_signed()), ..message() }
    }

    #[test]
    fn pages_of_any_order_one_after_the_other_are_all_messages_once() {
        for key in [SortKey::Domain, SortKey::Next, SortKey::Size, SortKey::Attempts] {
            let (mut after, mut all) = (None, Vec::new());
            loop {
                let mut page = SortedPage::new(key, after.clone(), 7);
                for id in 1..=100 {
                    page.take(&numbered(id), &[0, 1], NOW);
                    assert!(page.first.len() <= 8, "no more than a page is kept");
                }
                let (lines, next) = page.end();
                all.extend(lines);
                let Some(next) = next else { break };
                after = SortPlace::parse(&next);
                assert!(after.is_some(), "{next}");
            }
            let mut ids: Vec<u64> = all.iter().map(|line| line.id.0).collect();
            let sizes: Vec<u64> = all.iter().map(|line| line.size).collect();
            assert!(key != SortKey::Size || sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
            assert!(key != SortKey::Next || ids.is_sorted_by(|a, b| a >= b), "{ids:?}");
            ids.sort_unstable();
            assert_eq!(ids, (1..=100).collect::<Vec<_>>(), "{key:?}");
        }
    }

    #[test]
    fn what_is_held_comes_last_and_domains_are_those_of_the_recipients_that_fit() {
        let held = LedgerMessage { standing: MessageState::Held, ..numbered(1) };
        assert!(SortKey::Next.place(&held, &[0]) > SortKey::Next.place(&numbered(1), &[0]));
        let domain = |recipients: &[usize]| SortKey::Domain.place(&numbered(1), recipients).domain;
        assert_eq!([domain(&[0, 1]), domain(&[1])], ["one.example", "two.example"]);
        assert!(SortKey::Attempts.place(&numbered(1), &[0]) < SortKey::Attempts.place(&numbered(1), &[1]));
    }
}
