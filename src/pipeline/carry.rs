//! One message from its claim to its record: every route goes its own way, and what it brings is
//! durable when it ends (RFC 5321 §6.1). A next hop that hangs holds up neither the record nor the
//! NDR of the other recipients; the last route gives the claim back. Who failed while others are under
//! way is owed a report from then on, and the reports go out in their time (`report/gather.rs`). The
//! claim is renewed meanwhile; where it is lost, all routes are given up.

use super::LONGEST_SLEEP;
use super::Pipeline;
use super::backoff::{Leave, is_out_of_reach};
use super::lease;
use super::limits::{Entry, Unrecorded};
use super::postmaster::is_lost_report;
use super::reports::Told;
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
use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;
use std::panic::AssertUnwindSafe;
use std::time::Duration;
use tokio::sync::{Mutex, Notify};

/// Messages that waited for a next hop come back over this part of the wait, not all at once.
const SPREAD_DIVISOR: u32 = 10;

/// The claim, in the hands of whichever route ends.
struct Held {
    claim: Option<Claim>,
    /// Routes that have not ended.
    running: usize,
    /// Their recipients.
    under_way: BTreeSet<usize>,
    /// When a route that did not begin wants another chance.
    again: Option<Timestamp>,
    /// When the next report is due.
    next_report: Option<Timestamp>,
}

/// One message under way.
struct Carried {
    held: Mutex<Held>,
    /// The time of the next report may have changed.
    news: Notify,
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
}

impl Pipeline {
    /// All that is due of one message.
    pub(super) async fn carry(&self, claim: Claim) {
        let entry = claim.entry.clone();
        if is_lost_report(&entry) {
            return self.tell_postmaster(claim).await;
        }
        let why =
            if self.has_to_tell(&entry, *self.span().start()) { DueFor::MayBeForReport } else { DueFor::ForAttempt };
        let due = due_recipients(&entry, self.span(), why);
        let config = &self.out.config;
        let named = due.iter().filter_map(|&index| Some((index, entry.envelope.recipients.get(index)?)));
        let routes = route::group(named, &entry.envelope.reverse_path, &config.destination, config.delivery.port);
        if routes.is_empty() {
            // A report is due; or all have their end already: a crash came between the last of them and this.
            return self.give_back(claim, Progress::default()).await;
        }
        let under_way = routes.values().flatten().copied().collect();
        let (running, claim) = (routes.len(), Some(claim));
        let held = Mutex::new(Held { claim, running, under_way, again: None, next_report: None });
        let carried = Carried { held, news: Notify::new() };
        let all = join_all(routes.iter().map(|(route, indices)| self.carry_route(&carried, &entry, route, indices)));
        let lost = lease::keep(self.spool.lease(), || carried.renew(self.spool.as_ref()));
        tokio::select! {
            biased;
            _ended = all => {}
            () = self.tell_meanwhile(&carried) => {}
            error = lost => self.observer.spool_failed("renew a claim; the message is left to others", &error),
        }
    }

    /// Writes the reports that are due while routes are under way. Never ends by itself; it holds the
    /// message only while it writes, so that it is never cut off in the middle.
    async fn tell_meanwhile(&self, carried: &Carried) {
        loop {
            let next = carried.held.lock().await.next_report;
            let Some(next) = next else {
                carried.news.notified().await;
                continue;
            };
            let wait = next.since(self.out.clock.now()).min(LONGEST_SLEEP);
            if tokio::time::timeout(wait, carried.news.notified()).await.is_ok() {
                continue;
            }
            let mut held = carried.held.lock().await;
            if held.next_report.is_some_and(|next| next <= self.out.clock.now()) {
                held.next_report = None;
                self.settle_part(&mut held, Progress::default()).await;
            }
        }
    }

    async fn carry_route(&self, carried: &Carried, entry: &SpoolEntry, route: &Route, indices: &[usize]) {
        let attempt = AssertUnwindSafe(self.try_route(entry, route, indices)).catch_unwind().await;
        let (progress, place) = attempt.unwrap_or_else(|_panic| {
            // A bug of ours must not cost the message: it waits like any other.
            self.observer.spool_failed("attempt", &"a bug in the relay; the message waits");
            (self.broken(entry, route, indices), None)
        });
        self.record(carried, indices, progress).await;
        // Held until the record, so that a crash can deliver little twice.
        drop(place);
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

    /// The relay is backing off from the next hop. The first time that is recorded with its cause; after that
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

    /// Makes durable what a route brought.
    async fn record(&self, carried: &Carried, indices: &[usize], progress: Progress) {
        let mut held = carried.held.lock().await;
        held.running = held.running.saturating_sub(1);
        held.under_way.retain(|index| !indices.contains(index));
        held.again = held.again.into_iter().chain(progress.again).min();
        if held.running > 0 {
            if !progress.is_empty() {
                self.settle_part(&mut held, progress).await;
            }
            return carried.news.notify_one();
        }
        let all = Progress { again: held.again, ..progress };
        if let Some(claim) = held.claim.take() {
            self.give_back(claim, all).await;
        }
    }

    /// Records states, and the reports that are due.
    async fn settle_part(&self, held: &mut Held, progress: Progress) {
        let Some(mut claim) = held.claim.take() else { return };
        let (settlement, next_report) = self.settlement(&claim.entry, progress, &held.under_way).await;
        held.next_report = next_report;
        if says_nothing(&settlement) {
            held.claim = Some(claim);
            return;
        }
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
        let (mut settlement, next_report) = self.settlement(&claim.entry, progress, &BTreeSet::new()).await;
        let next = next_due(&claim.entry, &settlement.recipients, &self.span(), again);
        settlement.next_due = next.into_iter().chain(next_report).min();
        if let (true, Some(next_due)) = (says_nothing(&settlement), settlement.next_due) {
            return self.postpone(claim, next_due).await;
        }
        let (id, told) = (claim.entry.id, told_by(&settlement));
        match self.spool.settle(claim, settlement).await {
            Ok(()) => self.observe_told(id, &told),
            Err(error) => self.observer.spool_failed("settle", &error),
        }
    }

    pub(super) async fn postpone(&self, claim: Claim, until: Timestamp) {
        if let Err(error) = self.spool.postpone(claim, until).await {
            self.observer.spool_failed("postpone", &error);
        }
    }

    /// With the reports that are due, and when the next one is; `under_way` are recipients of whom
    /// nothing is told yet.
    pub(super) async fn settlement(
        &self,
        entry: &SpoolEntry,
        progress: Progress,
        under_way: &BTreeSet<usize>,
    ) -> (Settlement, Option<Timestamp>) {
        let Progress { mut conclusion, events, .. } = progress;
        let now = self.out.clock.now();
        let Told { reports, told, reported, next } =
            self.reports(entry, &mut conclusion, (&events, under_way), now).await;
        let (recipients, at) = (conclusion.recipients, Some(now));
        (Settlement { recipients, at, reports, told, reported, events, ..Settlement::default() }, next)
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
                RecipientState::Queued(Pending { last: None, .. })
                | RecipientState::Owed(_)
                | RecipientState::Removed => {}
            }
        }
    }
}

/// When a message comes back to a next hop that the relay backs off from `until` then: at that moment or a
/// little later, always the same for the same message.
fn spread(id: QueueId, until: Timestamp, now: Timestamp) -> Timestamp {
    let spread = until.since(now) / SPREAD_DIVISOR;
    let spread_ms = u64::try_from(spread.as_millis()).unwrap_or(u64::MAX);
    until.plus(Duration::from_millis(mix(id.0) % spread_ms.saturating_add(1)))
}

/// From now to the latest moment for which anything is planned. A recipient whose time lies beyond
/// it is due: the clock was set back, and its wait must not become longer for that.
pub(super) type Span = RangeInclusive<Timestamp>;

/// Why somebody may have found a message due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DueFor {
    /// For an attempt, and nothing else.
    ForAttempt,
    /// There is a report to write, too.
    MayBeForReport,
}

/// The recipients whose time has come; where the message was found due for an attempt, at least those
/// that are due first.
fn due_recipients(entry: &SpoolEntry, span: Span, found: DueFor) -> Vec<usize> {
    let waiting = entry.recipients.iter().enumerate();
    let waiting: Vec<(usize, Option<Timestamp>)> = waiting
        .filter_map(|(index, state)| Some((index, state.pending()?.due.filter(|due| due <= span.end()))))
        .collect();
    let first = waiting.iter().map(|(_, due)| *due).min().flatten().filter(|_| found == DueFor::ForAttempt);
    let now = *span.start();
    let by = first.map_or(now, |first| first.max(now));
    waiting.into_iter().filter(|(_, due)| due.is_none_or(|due| due <= by)).map(|(index, _)| index).collect()
}

/// When the message is due again for an attempt: those who could not begin come at `again`, the others
/// when they are due. `None` when nobody waits.
pub(super) fn next_due(
    entry: &SpoolEntry,
    changed: &[(usize, RecipientState)],
    span: &Span,
    again: Option<Timestamp>,
) -> Option<Timestamp> {
    let changed: BTreeMap<usize, &RecipientState> = changed.iter().map(|(index, state)| (*index, state)).collect();
    let states =
        entry.recipients.iter().enumerate().map(|(index, state)| changed.get(&index).copied().unwrap_or(state));
    let is_to_come = |due: &Timestamp| due > span.start() && due <= span.end();
    let at_once = again.unwrap_or_else(|| *span.start());
    let dues = states.filter_map(RecipientState::pending).map(|pending| pending.due.filter(is_to_come));
    dues.map(|due| due.unwrap_or(at_once)).min()
}

/// Whether there is nothing to record.
fn says_nothing(settlement: &Settlement) -> bool {
    let Settlement { recipients, reports, told, events, .. } = settlement;
    recipients.is_empty() && reports.is_empty() && told.is_empty() && events.is_empty()
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
            RecipientState::Owed(_)
            | RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } }
            | RecipientState::Removed => Ok(None),
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
        let due =
            |dues: &[Option<i64>]| due_recipients(&entry(dues), Timestamp(10)..=Timestamp(100), DueFor::ForAttempt);
        assert_eq!(due(&[None, Some(10), Some(11)]), [0, 1]);
        assert_eq!(due(&[Some(20), Some(30), Some(20)]), [0, 2], "after the clock was set back");
        assert_eq!(due(&[Some(5), Some(101), Some(100)]), [0, 1], "so that it is further away than any plan");
        let mut done = entry(&[None]);
        done.recipients[0] = RecipientState::Removed;
        assert!(due_recipients(&done, Timestamp(10)..=Timestamp(100), DueFor::ForAttempt).is_empty());
        let early =
            due_recipients(&entry(&[Some(20), Some(10)]), Timestamp(10)..=Timestamp(100), DueFor::MayBeForReport);
        assert_eq!(early, [1], "a report that is due makes no attempt early");
    }

    #[test]
    fn a_route_that_could_not_begin_does_not_bring_the_others_back_early() {
        let entry = entry(&[None, Some(5000)]);
        let (span, again) = (Timestamp(10)..=Timestamp(9000), Some(Timestamp(1010)));
        assert_eq!(next_due(&entry, &[], &span, again), again);
        let later = RecipientState::Queued(Pending { due: Some(Timestamp(700)), ..Pending::default() });
        assert_eq!(next_due(&entry, &[(1, later)], &span, again), Some(Timestamp(700)));
        assert_eq!(next_due(&entry, &[(0, RecipientState::Removed)], &span, again), Some(Timestamp(5000)));
        let short = Timestamp(10)..=Timestamp(4000);
        assert_eq!(next_due(&entry, &[(0, RecipientState::Removed)], &short, again), again, "the clock was set back");
    }
}
