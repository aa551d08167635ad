//! From the end of a route to its record: every route goes its own way, and what it brings is durable
//! when it ends (RFC 5321 §6.1). A next hop that hangs holds up neither the record nor the NDR of the
//! other recipients; the last route gives the claim back. Who failed while others are under way is owed
//! a report from then on, and the reports go out in their time (`report/gather.rs`). The claim is
//! renewed meanwhile; where it is lost, all routes are given up, and where it is in doubt, nothing further is begun.

use super::LONGEST_SLEEP;
use super::Pipeline;
use super::attempt::RouteCommons;
use super::claim::{Span, planned};
use super::conclude::Progress;
use super::lease;
use super::reports::DueReports;
use crate::clock::Timestamp;
use crate::deliver::hosts::Gate;
use crate::envelope::QueueId;
use crate::observe::spans;
use crate::route::Route;
use crate::spool::{Claim, RecipientState, Settlement, Spool, SpoolEntry, SpoolError};
use std::collections::{BTreeMap, BTreeSet};
use tokio::sync::{Mutex, MutexGuard, Notify};

/// The claim, in the hands of whichever route ends.
pub(super) struct HeldClaim {
    claim: Option<Claim>,
    /// Routes that have not ended.
    running: usize,
    /// Their recipients.
    under_way: BTreeSet<usize>,
    /// When a route that did not begin wants another chance.
    again: Option<Timestamp>,
    /// Whether its place is another relay's.
    is_elsewhere: bool,
    /// Where it found no place.
    outside_of: Option<Gate>,
    /// When the next report is due.
    next_report: Option<Timestamp>,
}

/// One message under way.
pub(super) struct UnderWay {
    held: Mutex<HeldClaim>,
    /// What all routes share.
    pub(super) commons: RouteCommons,
    /// The time of the next report may have changed.
    news: Notify,
}

impl UnderWay {
    pub(super) fn new(claim: Claim, routes: &BTreeMap<Route, Vec<usize>>) -> Self {
        let under_way = routes.values().flatten().copied().collect();
        let held = HeldClaim {
            claim: Some(claim),
            running: routes.len(),
            under_way,
            again: None,
            is_elsewhere: false,
            outside_of: None,
            next_report: None,
        };
        Self { held: Mutex::new(held), commons: RouteCommons::default(), news: Notify::new() }
    }

    /// A route has ended: whoever has the claim now records what it brought. `None` where that is
    /// nothing and others are under way.
    pub(super) async fn ended(&self, recipients: &[usize], progress: &Progress) -> Option<MutexGuard<'_, HeldClaim>> {
        let mut held = self.held.lock().await;
        held.running = held.running.saturating_sub(1);
        held.under_way.retain(|index| !recipients.contains(index));
        held.is_elsewhere |= progress.is_elsewhere;
        held.again = held.again.into_iter().chain(progress.again).min();
        held.outside_of = held.outside_of.take().or_else(|| progress.outside_of.clone());
        // Whoever waits for the news waits for the lock, too, and so for the record.
        self.news.notify_one();
        (held.running == 0 || !progress.is_empty()).then_some(held)
    }

    /// Not while something is recorded: that changes the claim.
    async fn renew(&self, spool: &dyn Spool) -> Result<(), SpoolError> {
        match &self.held.lock().await.claim {
            Some(claim) => spool.renew(claim).await,
            // It was given back; nothing depends on it any more.
            None => Ok(()),
        }
    }
}

impl Pipeline {
    /// Lets the routes of a message go on for as long as the claim holds.
    pub(super) async fn while_claimed(&self, message: &UnderWay, routes: impl Future<Output = Vec<()>>) {
        let lost = lease::keep(self.spool.lease(), &message.commons.hold, || message.renew(self.spool.as_ref()));
        tokio::select! {
            biased;
            _ended = routes => {}
            () = self.tell_meanwhile(message) => {}
            error = lost => self.observer.spool_failed("renew a claim; the message is left to others", &error),
        }
    }

    /// Writes the reports that are due while routes are under way. Never ends by itself; it holds the
    /// message only while it writes, so that it is never cut off in the middle.
    async fn tell_meanwhile(&self, message: &UnderWay) {
        loop {
            let next = message.held.lock().await.next_report;
            let Some(next) = next else {
                message.news.notified().await;
                continue;
            };
            let wait = next.since(self.out.clock.now()).min(LONGEST_SLEEP);
            if tokio::time::timeout(wait, message.news.notified()).await.is_ok() {
                continue;
            }
            let mut held = message.held.lock().await;
            if held.next_report.is_some_and(|next| next <= self.out.clock.now()) {
                held.next_report = None;
                self.report_alone(&mut held).await;
            }
        }
    }

    /// For a message of which nothing is to be tried: a report is due, or all have their end already,
    /// and a crash came between the last of them and this.
    pub(super) async fn end(&self, message: &UnderWay) {
        self.report_alone(&mut *message.held.lock().await).await;
    }

    async fn report_alone(&self, held: &mut HeldClaim) {
        if let Some(settlement) = self.with_reports(held, Progress::default()).await {
            self.settle(held, settlement).await;
        }
    }

    /// What is to be recorded: the states and, in one with them, the reports that are due.
    pub(super) async fn with_reports(&self, held: &mut HeldClaim, progress: Progress) -> Option<Settlement> {
        let entry = &held.claim.as_ref()?.entry;
        let (settlement, next_report) = self.settlement(entry, progress, &held.under_way).await;
        if held.running > 0 {
            held.next_report = next_report;
            return Some(settlement);
        }
        let next = next_due(entry, &settlement.recipients, &self.span(), held.again);
        Some(Settlement { next_due: next.into_iter().chain(next_report).min(), ..settlement })
    }

    /// Makes it durable; with the last route the message leaves the hands of the pipeline.
    pub(super) async fn settle(&self, held: &mut HeldClaim, settlement: Settlement) {
        let Some(mut claim) = held.claim.take() else { return };
        let (id, accepted_at) = (claim.entry.id, claim.entry.envelope.accepted_at);
        let is_end = held.running == 0 && settlement.next_due.is_none();
        // Called from there once it is in the spool again, or not at all while others are under way.
        let outside_of = held.outside_of.take_if(|_| held.running == 0).zip(settlement.next_due);
        if says_nothing(&settlement) {
            match settlement.next_due {
                _ if held.running > 0 => return held.claim = Some(claim),
                Some(_) if held.is_elsewhere => return self.pass_on(claim).await,
                Some(next_due) => {
                    self.postpone(claim, next_due).await;
                    return self.wait_outside(id, outside_of);
                }
                None => {}
            }
        }
        let told = told_by(&settlement);
        let sessions = settlement.sessions.clone();
        let settled = if held.running > 0 {
            let settled = self.spool.settle_part(&mut claim, settlement).await;
            settled.map(|()| held.claim = Some(claim))
        } else {
            self.spool.settle(claim, settlement).await
        };
        match settled {
            Ok(()) => {
                self.observe_told(id, &told);
                self.observer.tls_reports.counted(&sessions);
                if is_end {
                    spans::message_ended(id, accepted_at);
                }
                self.wait_outside(id, outside_of);
            }
            Err(error) => self.observer.spool_failed("settle", &error),
        }
    }

    fn wait_outside(&self, id: QueueId, outside_of: Option<(Gate, Timestamp)>) {
        if let Some((gate, until)) = outside_of {
            self.hosts.put_outside(id, gate, until);
        }
    }

    async fn pass_on(&self, claim: Claim) {
        if let Err(error) = self.spool.pass_on(claim).await {
            self.observer.spool_failed("pass on", &error);
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
        mut progress: Progress,
        under_way: &BTreeSet<usize>,
    ) -> (Settlement, Option<Timestamp>) {
        let now = self.out.clock.now();
        let DueReports { reports, told, reported, next } = self.reports(entry, &mut progress, under_way, now).await;
        let Progress { conclusion, events, sessions, .. } = progress;
        let recipients = conclusion.recipients;
        let at = Some(now);
        (Settlement { recipients, at, reports, told, reported, events, sessions, ..Settlement::default() }, next)
    }

    pub(super) fn observe_told(&self, id: QueueId, told: &[String]) {
        told.iter().for_each(|to| self.observer.report_queued(id, to));
    }
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
    let is_to_come = |due: &Timestamp| due > span.start();
    let at_once = again.unwrap_or_else(|| *span.start());
    let dues = states.filter_map(RecipientState::pending).map(|pending| planned(pending, span).filter(is_to_come));
    dues.map(|due| due.unwrap_or(at_once)).min()
}

/// Whether there is nothing to record.
fn says_nothing(settlement: &Settlement) -> bool {
    let Settlement { recipients, reports, told, events, sessions, .. } = settlement;
    recipients.is_empty() && reports.is_empty() && told.is_empty() && events.is_empty() && sessions.is_empty()
}

/// Who gets the reports of a settlement.
pub(super) fn told_by(settlement: &Settlement) -> Vec<String> {
    settlement.reports.iter().flat_map(|report| &report.envelope.recipients).map(ToString::to_string).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pipeline::claim::tests::entry;
    use crate::spool::Pending;

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
