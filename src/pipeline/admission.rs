//! Whether an attempt may begin: the relay may be backing off from the next hop, and there are only so
//! many places at each (RFC 5321 §4.5.4.1).

use super::backoff::Leave;
use super::conclude::{Progress, conclusion_events};
use super::{Pipeline, Unrecorded};
use crate::clock::Timestamp;
use crate::deliver::hosts::Away;
use crate::envelope::QueueId;
use crate::outcome::Cause;
use crate::route::Route;
use crate::spool::conclude::{MessageTime, wait};
use crate::spool::schedule::{self, mix};
use crate::spool::{RecipientState, SpoolEntry};
use futures_util::FutureExt;
use std::panic::AssertUnwindSafe;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Messages that waited for a next hop come back over this part of the wait, not all at once.
const SPREAD_DIVISOR: u32 = 10;

impl Pipeline {
    /// Does `work` where the next hop may be dialled and has a place; otherwise the recipients wait. What
    /// is left of the place comes back, too: held until the record, it bounds what a crash can deliver twice.
    pub(super) async fn admitted<F>(
        &self,
        entry: &SpoolEntry,
        route: &Route,
        recipients: &[usize],
        work: impl FnOnce() -> F,
    ) -> (Progress, Unrecorded)
    where
        F: Future<Output = Progress>,
    {
        let ended = AssertUnwindSafe(self.work_in_turn(entry, route, recipients, work)).catch_unwind().await;
        ended.unwrap_or_else(|_panic| {
            // A bug of ours must not cost the message: it waits like any other.
            self.observer.spool_failed("attempt", &"a bug in the relay; the message waits");
            (self.broken(entry, route, recipients), Unrecorded::new())
        })
    }

    async fn work_in_turn<F>(
        &self,
        entry: &SpoolEntry,
        route: &Route,
        recipients: &[usize],
        work: impl FnOnce() -> F,
    ) -> (Progress, Unrecorded)
    where
        F: Future<Output = Progress>,
    {
        let (hop, none) = (&route.hop, Unrecorded::new());
        if !self.goes_on() {
            return (self.given_back(), none);
        }
        let looked = self.backoff().look(hop, self.out.clock.now());
        if let Leave::Wait { until, cause } = looked {
            return (self.wait_for_hop(entry, recipients, &cause, until), none);
        }
        let rule = route.rule.and_then(|index| self.out.config.destination.get(index));
        let most = rule.and_then(|rule| rule.max_connections).unwrap_or(self.out.config.delivery.max_per_next_hop);
        let place = match self.hosts.enter_hop(hop, most, rule.and_then(|rule| rule.rate)).await {
            Ok(place) => place,
            Err(_ends) if !self.goes_on() => return (self.given_back(), none),
            Err(away) => return (self.sent_away(entry, recipients, away), none),
        };
        let leave = self.backoff().ask(hop, self.out.clock.now());
        if let Leave::Wait { until, cause } = leave {
            return (self.wait_for_hop(entry, recipients, &cause, until), none);
        }
        // In a box, so that those who wait for a place are small.
        let mut progress = Box::pin(work()).await;
        if let Some(away) = progress.away.take() {
            // Nobody was asked, so this says nothing of the next hop.
            self.backoff().not_tried(hop);
            progress = if self.goes_on() { self.sent_away(entry, recipients, away) } else { self.given_back() };
        }
        drop(place);
        let seats = std::mem::take(&mut progress.seats);
        (progress, seats)
    }

    /// Whether anything is begun: not once the relay ends, nor while the spool cannot be asked.
    pub(super) fn goes_on(&self) -> bool {
        !self.ends.load(Ordering::SeqCst) && self.spool.away(self.out.clock.now()).is_none()
    }

    /// The recipients come again without a trace, here or at another relay.
    pub(super) fn given_back(&self) -> Progress {
        Progress { again: Some(self.out.clock.now()), ..Progress::default() }
    }

    /// No server was asked: there is no place, or the relay backs off from all of them.
    fn sent_away(&self, entry: &SpoolEntry, recipients: &[usize], away: Away) -> Progress {
        match away {
            Away::Full { gate, until } => {
                Progress { again: Some(until), outside_of: Some(gate), ..Progress::default() }
            }
            Away::Elsewhere => Progress { is_elsewhere: true, ..self.given_back() },
            Away::BackingOff { until, cause } => self.wait_for_hop(entry, recipients, &cause, until),
        }
    }

    /// The relay is backing off from the next hop. The first time that is recorded with its cause; after that
    /// the message comes back without a trace, until its time is up.
    fn wait_for_hop(&self, entry: &SpoolEntry, recipients: &[usize], cause: &Cause, until: Timestamp) -> Progress {
        let now = self.out.clock.now();
        let until = spread(entry.id, until, now);
        let expires_at = schedule::expires_at(&self.out.config.retry, &entry.envelope);
        let pending = |index: &usize| entry.recipients.get(*index).and_then(RecipientState::pending);
        let is_known = recipients.iter().filter_map(pending).all(|pending| pending.last.is_some());
        let next_notice = self.next_notice(entry, recipients, now);
        let is_notice_due = next_notice.is_some_and(|notice| notice <= now);
        if is_known && !is_notice_due && now < expires_at && until < expires_at {
            let again = next_notice.map_or(until, |notice| until.min(notice));
            return Progress { again: Some(again), ..Progress::default() };
        }
        let conclusion = wait(MessageTime { entry, retry: &self.out.config.retry, now }, recipients, cause, until);
        // Nobody was asked, so nothing is told of those who go on waiting.
        self.observe_states_at_end(entry, &conclusion);
        let events = conclusion_events(&conclusion, Some(cause));
        Progress { conclusion, events, ..Progress::default() }
    }
}

/// When a message comes back to a next hop that the relay backs off from `until` then: at that moment or a
/// little later, always the same for the same message.
fn spread(id: QueueId, until: Timestamp, now: Timestamp) -> Timestamp {
    let spread = until.since(now) / SPREAD_DIVISOR;
    let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
    until.plus(Duration::from_millis(mix(id.0) % spread_ms.saturating_add(1)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    #[test]
    fn those_who_waited_for_one_next_hop_come_back_over_a_while() {
        let (now, until) = (Timestamp(1_000_000), Timestamp(1_600_000));
        let back: Vec<i64> = (0..100).map(|n| spread(QueueId(n), until, now).0 - until.0).collect();
        assert!(back.iter().all(|later| (0..=60_000).contains(later)), "{back:?}");
        let tenths: BTreeMap<i64, ()> = back.iter().map(|later| (later / 6_001, ())).collect();
        assert_eq!(tenths.len(), 10, "{back:?}");
        assert_eq!(spread(QueueId(7), until, now), spread(QueueId(7), until, now));
        assert_eq!(spread(QueueId(7), now, now), now, "who need not wait comes now");
    }
}
