//! One message from its claim to its record: every route goes its own way, and what it brings is
//! durable when it ends (RFC 5321 §6.1). A next hop that hangs holds up neither the record nor the
//! NDR of the other recipients; the last route gives the claim back. Failures of routes that end
//! together share an NDR. The claim is renewed meanwhile; where it is lost, all routes are given up.

use super::Pipeline;
use super::backoff::{Leave, is_out_of_reach};
use super::lease;
use super::limits::{Entry, Unrecorded};
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::{Cause, DeliveryOutcome};
use crate::route::{self, Route};
use crate::spool::conclude::{Conclusion, conclude, wait};
use crate::spool::event::{Event, grouped};
use crate::spool::schedule::{self, mix};
use crate::spool::{Claim, Pending, RecipientState, Settlement, Spool, SpoolEntry, SpoolError};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// Messages that waited for a next hop come back over this part of the wait, not all at once.
const SPREAD_DIVISOR: u32 = 10;

/// How long a failure waits for those of other routes, so that the sender gets one report of what
/// failed together. What was delivered does not wait.
const GATHER: Duration = Duration::from_secs(2);

/// The claim, in the hands of whichever route ends.
struct Held {
    claim: Option<Claim>,
    /// Routes that have not ended.
    running: usize,
    /// Failures of routes that have ended, which wait for others.
    gathered: Progress,
    /// When a route that did not begin wants another chance.
    again: Option<Timestamp>,
}

/// One message under way.
struct Carried {
    held: Mutex<Held>,
    all_ended: Notify,
}

impl Carried {
    /// Not while something is recorded: that changes the claim.
    async fn renew(&self, spool: &dyn Spool) -> Result<(), SpoolError> {
        match &self.held.lock().await.claim {
            Some(claim) => spool.renew(claim).await,
            // It was given back; nothing depends on it any more.
            None => Ok(()),
        }
    }
}

/// What a route brought.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) conclusion: Conclusion,
    pub(super) events: Vec<Event>,
    /// When to come again, where nothing is recorded.
    pub(super) again: Option<Timestamp>,
}

impl Progress {
    fn is_empty(&self) -> bool {
        self.conclusion.recipients.is_empty()
    }

    /// What can be recorded at once, and the failures, which may wait for those of other routes.
    fn apart(self) -> (Self, Self) {
        let Self { conclusion, events, again } = self;
        let Conclusion { recipients, failures } = conclusion;
        let has_failed = |index: usize| failures.iter().any(|(failed, _)| *failed == index);
        let (failed, settled) = recipients.into_iter().partition(|(index, _)| has_failed(*index));
        let failed = Conclusion { recipients: failed, failures };
        let settled = Conclusion { recipients: settled, failures: Vec::new() };
        let waits = Self { conclusion: failed, ..Self::default() };
        // The events tell of both, and stay together.
        if settled.recipients.is_empty() {
            return (Self::default(), Self { events, again, ..waits });
        }
        (Self { conclusion: settled, events, again }, waits)
    }

    fn add(&mut self, more: Self) {
        self.conclusion.recipients.extend(more.conclusion.recipients);
        self.conclusion.failures.extend(more.conclusion.failures);
        self.events.extend(more.events);
    }
}

impl Pipeline {
    /// All that is due of one message.
    pub(super) async fn carry(&self, claim: Claim) {
        let entry = claim.entry.clone();
        let due = due_recipients(&entry, self.span());
        let config = &self.out.config;
        let named = due.iter().filter_map(|&index| Some((index, entry.envelope.recipients.get(index)?)));
        let routes = route::group(named, &config.destination, config.delivery.port);
        if routes.is_empty() {
            // All have their end already: a crash came between the last of them and this.
            return self.give_back(claim, Progress::default()).await;
        }
        let gathered = Progress::default();
        let held = Mutex::new(Held { claim: Some(claim), running: routes.len(), gathered, again: None });
        let carried = Carried { held, all_ended: Notify::new() };
        let all = join_all(routes.iter().map(|(route, indices)| self.carry_route(&carried, &entry, route, indices)));
        let lost = lease::keep(self.spool.lease(), || carried.renew(self.spool.as_ref()));
        tokio::select! {
            biased;
            _all_recorded = all => {}
            error = lost => self.observer.spool_failed("renew a claim; the message is left to others", &error),
        }
    }

    async fn carry_route(&self, carried: &Carried, entry: &SpoolEntry, route: &Route, indices: &[usize]) {
        let attempt = AssertUnwindSafe(self.try_route(entry, route, indices)).catch_unwind().await;
        let (progress, place) = attempt.unwrap_or_else(|_panic| {
            // A bug of ours must not cost the message: it waits like any other.
            self.observer.spool_failed("attempt", &"a bug in the relay; the message waits");
            (self.broken(entry, route, indices), None)
        });
        self.record(carried, progress, place).await;
    }

    /// What is left of the place comes back, too, to be held until the record.
    async fn try_route(&self, entry: &SpoolEntry, route: &Route, indices: &[usize]) -> (Progress, Option<Unrecorded>) {
        let looked = self.backoff().look(&route.hop, self.out.clock.now());
        if let Leave::Wait { until, cause } = looked {
            return (self.wait_for_hop(entry, indices, (&cause, until)), None);
        }
        let place = match self.hops.enter(&route.hop).await {
            Entry::Place(place) => place,
            Entry::Busy(pause) => {
                let again = Some(self.out.clock.now().plus(pause));
                return (Progress { again, ..Progress::default() }, None);
            }
        };
        let leave = self.backoff().ask(&route.hop, self.out.clock.now());
        if let Leave::Wait { until, cause } = leave {
            return (self.wait_for_hop(entry, indices, (&cause, until)), None);
        }
        // In a box, so that those who wait for a place are small.
        let (outcomes, mut events) = Box::pin(self.deliver(entry, route, indices)).await;
        let now = self.out.clock.now();
        match out_of_reach(&outcomes) {
            Some(cause) => self.backoff().failed(&route.hop, cause.clone(), &self.out.config.retry, now),
            None => self.backoff().reached(&route.hop),
        }
        let conclusion = conclude(entry, outcomes, &self.out.config.retry, now);
        self.observe_states(entry, &conclusion);
        events.extend(conclusion_events(&conclusion, None));
        (Progress { conclusion, events, again: None }, Some(place.leave()))
    }

    /// The next hop is left in peace. The first time that is recorded with its cause; after that
    /// the message comes back without a trace, until its time is up.
    fn wait_for_hop(&self, entry: &SpoolEntry, indices: &[usize], (cause, until): (&Cause, Timestamp)) -> Progress {
        let now = self.out.clock.now();
        let until = spread(entry.id, until, now);
        let expires_at = schedule::expires_at(&self.out.config.retry, entry.envelope.accepted_at);
        let pending = |index: &usize| entry.recipients.get(*index).and_then(RecipientState::pending);
        let is_known = indices.iter().filter_map(pending).all(|pending| pending.last.is_some());
        let next_notice = self.next_notice(entry, indices, now);
        let is_notice_due = next_notice.is_some_and(|notice| notice <= now);
        if is_known && !is_notice_due && now < expires_at && until < expires_at {
            let again = next_notice.map_or(until, |notice| until.min(notice));
            return Progress { again: Some(again), ..Progress::default() };
        }
        let conclusion = wait(entry, indices, (cause, until), (&self.out.config.retry, now));
        // Nobody was asked, so nothing is told of those who go on waiting.
        self.observe_states_at_end(entry, &conclusion);
        let events = conclusion_events(&conclusion, Some(cause));
        Progress { conclusion, events, again: None }
    }

    fn broken(&self, entry: &SpoolEntry, route: &Route, indices: &[usize]) -> Progress {
        let now = self.out.clock.now();
        let waits = |&index: &usize| {
            let pending = entry.recipients.get(index)?.pending()?;
            let tries = pending.tries.saturating_add(1);
            let due = schedule::next_attempt(&self.out.config.retry, entry.id, tries, now);
            Some((index, RecipientState::Queued(Pending { tries, due: Some(due), ..pending.clone() })))
        };
        let recipients = indices.iter().filter_map(waits).collect();
        let conclusion = Conclusion { recipients, ..Conclusion::default() };
        Progress { conclusion, events: vec![Event::Broken { next_hop: route.hop.to_string() }], again: None }
    }

    /// Makes durable what a route brought: at once, together with what was gathered when it is the
    /// last, and after a short while when it brings failures.
    async fn record(&self, carried: &Carried, progress: Progress, place: Option<Unrecorded>) {
        let mut held = carried.held.lock().await;
        held.running = held.running.saturating_sub(1);
        held.again = held.again.into_iter().chain(progress.again).min();
        if held.running == 0 {
            carried.all_ended.notify_waiters();
            let mut all = std::mem::take(&mut held.gathered);
            all.add(progress);
            all.again = held.again;
            if let Some(claim) = held.claim.take() {
                self.give_back(claim, all).await;
            }
            return;
        }
        let (settled, failed) = progress.apart();
        self.settle_part(&mut held, settled).await;
        if failed.is_empty() {
            return;
        }
        held.gathered.add(failed);
        let all_ended = carried.all_ended.notified();
        drop(held);
        // A failure handed nothing over; nobody has to wait for its record.
        drop(place);
        // Whoever ends last takes along what was gathered.
        let _time_or_end = tokio::time::timeout(GATHER, all_ended).await;
        let mut held = carried.held.lock().await;
        let gathered = std::mem::take(&mut held.gathered);
        self.settle_part(&mut held, gathered).await;
    }

    async fn settle_part(&self, held: &mut Held, progress: Progress) {
        if progress.is_empty() {
            return;
        }
        let Some(mut claim) = held.claim.take() else { return };
        let settlement = self.settlement(&claim.entry, progress).await;
        let (id, told) = (claim.entry.id, told_by(&settlement));
        match self.spool.settle_part(&mut claim, settlement).await {
            Ok(()) => {
                held.claim = Some(claim);
                self.observe_told(id, &told);
            }
            Err(error) => self.observer.spool_failed("settle", &error),
        }
    }

    async fn give_back(&self, claim: Claim, progress: Progress) {
        let again = progress.again;
        let is_empty = progress.is_empty();
        let mut settlement = self.settlement(&claim.entry, progress).await;
        let span = self.span();
        settlement.next_due = again.map(|again| next_due(&claim.entry, &settlement.recipients, &span, again));
        if let (true, Some(next_due)) = (is_empty, settlement.next_due) {
            if let Err(error) = self.spool.postpone(claim, next_due).await {
                self.observer.spool_failed("postpone", &error);
            }
            return;
        }
        let (id, told) = (claim.entry.id, told_by(&settlement));
        match self.spool.settle(claim, settlement).await {
            Ok(()) => self.observe_told(id, &told),
            Err(error) => self.observer.spool_failed("settle", &error),
        }
    }

    /// With the reports that the failures cause.
    pub(super) async fn settlement(&self, entry: &SpoolEntry, progress: Progress) -> Settlement {
        let Progress { mut conclusion, events, .. } = progress;
        let now = self.out.clock.now();
        let (reports, told) = self.reports(entry, &mut conclusion, &events, now).await;
        let (recipients, at) = (conclusion.recipients, Some(now));
        Settlement { recipients, at, reports, told, events, ..Settlement::default() }
    }

    pub(super) fn span(&self) -> Span {
        let now = self.out.clock.now();
        now..=schedule::horizon(&self.out.config.retry, now)
    }

    pub(super) fn observe_told(&self, id: QueueId, told: &[String]) {
        told.iter().for_each(|to| self.observer.report_queued(id, to));
    }

    /// Of recipients that have an end; who waits has waited before.
    pub(super) fn observe_states_at_end(&self, entry: &SpoolEntry, conclusion: &Conclusion) {
        for (index, state) in &conclusion.recipients {
            if let (Some(recipient), RecipientState::Done { outcome }) = (entry.envelope.recipients.get(*index), state)
            {
                self.observer.recipient(entry.id, recipient, outcome);
            }
        }
    }

    fn observe_states(&self, entry: &SpoolEntry, conclusion: &Conclusion) {
        for (index, state) in &conclusion.recipients {
            let Some(recipient) = entry.envelope.recipients.get(*index) else { continue };
            match state {
                RecipientState::Done { outcome } => self.observer.recipient(entry.id, recipient, outcome),
                RecipientState::Queued(Pending { last: Some(cause), .. }) => {
                    let outcome = DeliveryOutcome::Failed { cause: cause.clone() };
                    self.observer.recipient(entry.id, recipient, &outcome);
                }
                RecipientState::Queued(Pending { last: None, .. }) | RecipientState::Removed => {}
            }
        }
    }
}

/// When a message comes back to a next hop that is left in peace `until` then: at that moment or a
/// little later, always the same for the same message.
fn spread(id: QueueId, until: Timestamp, now: Timestamp) -> Timestamp {
    let spread = until.since(now) / SPREAD_DIVISOR;
    let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
    until.plus(Duration::from_millis(mix(id.0) % spread_ms.saturating_add(1)))
}

/// From now to the latest moment for which anything is planned. A recipient whose time lies beyond
/// it is due: the clock was set back, and its wait must not become longer for that.
pub(super) type Span = RangeInclusive<Timestamp>;

/// The recipients whose time has come; at least those that are due first, for somebody has found
/// the message due.
fn due_recipients(entry: &SpoolEntry, span: Span) -> Vec<usize> {
    let waiting = entry.recipients.iter().enumerate();
    let waiting: Vec<(usize, Option<Timestamp>)> = waiting
        .filter_map(|(index, state)| Some((index, state.pending()?.due.filter(|due| due <= span.end()))))
        .collect();
    let first = waiting.iter().map(|(_, due)| *due).min().flatten();
    let now = *span.start();
    let by = first.map_or(now, |first| first.max(now));
    waiting.into_iter().filter(|(_, due)| due.is_none_or(|due| due <= by)).map(|(index, _)| index).collect()
}

/// When the message is due again: those who could not begin come at `again`, the others when
/// they are due.
fn next_due(entry: &SpoolEntry, changed: &[(usize, RecipientState)], span: &Span, again: Timestamp) -> Timestamp {
    let changed: BTreeMap<usize, &RecipientState> = changed.iter().map(|(index, state)| (*index, state)).collect();
    let states =
        entry.recipients.iter().enumerate().map(|(index, state)| changed.get(&index).copied().unwrap_or(state));
    let is_to_come = |due: &Timestamp| due > span.start() && due <= span.end();
    let dues = states.filter_map(RecipientState::pending).map(|pending| pending.due.filter(is_to_come));
    dues.map(|due| due.unwrap_or(again)).min().unwrap_or(again)
}

/// The cause, when nothing at all came back from any server.
fn out_of_reach(outcomes: &BTreeMap<usize, DeliveryOutcome>) -> Option<&Cause> {
    let mut causes = outcomes.values().map(|outcome| match outcome {
        DeliveryOutcome::Failed { cause } if is_out_of_reach(cause) => Some(cause),
        DeliveryOutcome::Failed { .. } | DeliveryOutcome::Delivered { .. } => None,
    });
    let first = causes.next()??;
    causes.all(|cause| cause.is_some()).then_some(first)
}

/// What a conclusion adds to the history: who waits until when, and who has an end.
fn conclusion_events(conclusion: &Conclusion, backing_off: Option<&Cause>) -> Vec<Event> {
    let known = conclusion.recipients.iter().map(|(index, state)| {
        let end = match state {
            RecipientState::Queued(pending) => Err(pending.due),
            RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } } => Ok(Some(cause)),
            RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } } | RecipientState::Removed => Ok(None),
        };
        (*index, end)
    });
    let event = |(recipients, end): (Vec<usize>, Result<Option<&Cause>, Option<Timestamp>>)| match end {
        Ok(cause) => Event::Ended { recipients, cause: cause.cloned() },
        Err(due) => Event::Waits { recipients, due: due.unwrap_or(Timestamp(0)), backing_off: backing_off.cloned() },
    };
    grouped(known).into_iter().map(event).collect()
}

/// Who gets the reports of a settlement.
pub(super) fn told_by(settlement: &Settlement) -> Vec<String> {
    settlement.reports.iter().flat_map(|report| &report.envelope.recipients).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, Origin, QueueId};
    use crate::smtp::address::ReversePath;

    fn entry(dues: &[Option<i64>]) -> SpoolEntry {
        let recipients = vec!["a@x.example".parse().unwrap(); dues.len()];
        let origin = Origin::Report { about: QueueId(1) };
        let mut entry =
            SpoolEntry::new(QueueId(2), Envelope::new(ReversePath::Null, recipients, Timestamp(0), origin), 0);
        for (state, due) in entry.recipients.iter_mut().zip(dues) {
            *state = RecipientState::Queued(Pending { due: due.map(Timestamp), ..Pending::default() });
        }
        entry
    }

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

    #[test]
    fn each_recipient_comes_in_its_time_and_a_claimed_message_has_one_that_does() {
        let due = |dues: &[Option<i64>]| due_recipients(&entry(dues), Timestamp(10)..=Timestamp(100));
        assert_eq!(due(&[None, Some(10), Some(11)]), [0, 1]);
        assert_eq!(due(&[Some(20), Some(30), Some(20)]), [0, 2], "after the clock was set back");
        assert_eq!(due(&[Some(5), Some(101), Some(100)]), [0, 1], "so that it is further away than any plan");
        let mut done = entry(&[None]);
        done.recipients[0] = RecipientState::Removed;
        assert!(due_recipients(&done, Timestamp(10)..=Timestamp(100)).is_empty());
    }

    #[test]
    fn a_route_that_could_not_begin_does_not_bring_the_others_back_early() {
        let entry = entry(&[None, Some(5000)]);
        let (span, again) = (Timestamp(10)..=Timestamp(9000), Timestamp(1010));
        assert_eq!(next_due(&entry, &[], &span, again), again);
        let later = RecipientState::Queued(Pending { due: Some(Timestamp(700)), ..Pending::default() });
        assert_eq!(next_due(&entry, &[(1, later)], &span, again), Timestamp(700));
        assert_eq!(next_due(&entry, &[(0, RecipientState::Removed)], &span, again), Timestamp(5000));
        let short = Timestamp(10)..=Timestamp(4000);
        assert_eq!(next_due(&entry, &[(0, RecipientState::Removed)], &short, again), again, "the clock was set back");
    }
}
