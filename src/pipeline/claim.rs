//! Which messages are taken from the spool, and which of their recipients are due.

use super::LONGEST_SLEEP;
use super::Pipeline;
use super::postmaster::is_lost_report;
use crate::clock::Timestamp;
use crate::outcome::Cause;
use crate::smtp::address::Mailbox;
use crate::spool::{Claim, Lease, Pending, SpoolEntry, schedule};
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long deliveries that are under way may go on after the stop.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// How long connections that wait for a message may take to be closed at the stop.
const FAREWELL: Duration = Duration::from_secs(5);
/// The pause after the spool failed to give work, in case it recovers.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Messages taken from the spool at once. They are small while they wait for a connection, and those
/// for one next hop or host wait in short lines: what does not fit goes back into the spool, and is
/// called when there is room.
const MOST_CARRIED: usize = 10_000;
/// Messages claimed in one go, so that reading them does not hold up the writing of outcomes.
const MOST_CLAIMED: usize = 500;
/// Messages called in one go.
const MOST_CALLED: usize = 500;

/// The pipeline by the configuration that counts now: the latest one carries what is claimed next.
pub type Pipelines = watch::Receiver<Arc<Pipeline>>;

/// Takes due messages from the spool until `stop`, then lets what is under way end. Gives the number of messages that did
/// not end in time.
pub async fn run(pipelines: Pipelines, stop: CancellationToken) -> usize {
    let latest = || Arc::clone(&pipelines.borrow());
    let pipeline = latest();
    let slots = Arc::new(Semaphore::new(MOST_CARRIED));
    let tasks = TaskTracker::new();
    // The clock may have been set back while the relay was down.
    let span = pipeline.span();
    if let Err(error) = pipeline.spool.bring_forward(*span.start(), *span.end()).await {
        pipeline.observer.spool_failed("bring forward", &error);
    }
    let calling = tokio::spawn(call(Arc::clone(&pipeline), stop.clone()));
    while !stop.is_cancelled() {
        let now = pipeline.out.clock.now();
        pipeline.hosts.set_share(pipeline.spool.share());
        let claiming = pipeline.spool.claim_due(now, slots.available_permits().min(MOST_CLAIMED));
        // A disk may not answer; what is claimed meanwhile is in the spool at the next start.
        let Some(claimed) = stop.run_until_cancelled(claiming).await else { break };
        let claims = match claimed {
            Ok(claims) => claims,
            Err(error) => {
                pipeline.observer.spool_failed("claim", &error);
                tokio::time::sleep(SPOOL_PAUSE).await;
                continue;
            }
        };
        if claims.is_empty() {
            wait_for_work(&pipeline, &slots, &stop).await;
            continue;
        }
        for claim in claims {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return tasks.len() };
            let pipeline = latest();
            tasks.spawn(async move {
                pipeline.take_up(claim).await;
                drop(slot);
            });
        }
    }
    tasks.close();
    calling.abort();
    // Where others share the spool, they have at once what has not begun. A relay that has it for itself sends all
    // that it can: nobody else will, and it may not come back soon.
    if pipeline.spool.lease() != Lease::Process {
        pipeline.ends.store(true, Ordering::SeqCst);
        pipeline.hosts.send_away();
    }
    // What does not end in time is cut off; its recipients are still in the spool.
    let _ended_or_not = tokio::time::timeout(STOP_GRACE, tasks.wait()).await;
    let left = tasks.len();
    // Connections that wait are told; one that does not listen must not hold the stop.
    let _told_or_not = tokio::time::timeout(FAREWELL, latest().out.mailer.close()).await;
    left
}

/// Makes due what is called to a place. A spool that is away for a while is asked again: nobody else calls these messages, and
/// by themselves they come minutes later.
async fn call(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    let mut calls = pipeline.calls.lock().await;
    let mut called = Vec::new();
    while !stop.is_cancelled() && calls.recv_many(&mut called, MOST_CALLED).await > 0 {
        while let Err(error) = pipeline.spool.hasten(&called, pipeline.out.clock.now()).await {
            pipeline.observer.spool_failed("hasten", &error);
            if stop.run_until_cancelled(tokio::time::sleep(SPOOL_PAUSE)).await.is_none() {
                return;
            }
        }
        called.clear();
    }
}

async fn wait_for_work(pipeline: &Pipeline, slots: &Semaphore, stop: &CancellationToken) {
    if slots.available_permits() == 0 {
        tokio::select! {
            biased;
            () = stop.cancelled() => {}
            _free = slots.acquire() => {}
        }
        return;
    }
    let changed = pipeline.spool.changed();
    let until_due = match pipeline.spool.next_due().await {
        Ok(due) => due.map_or(LONGEST_SLEEP, |due| due.since(pipeline.out.clock.now()).min(LONGEST_SLEEP)),
        Err(error) => {
            pipeline.observer.spool_failed("next due", &error);
            SPOOL_PAUSE
        }
    };
    tokio::select! {
        biased;
        () = stop.cancelled() => {}
        () = changed => {}
        () = tokio::time::sleep(until_due) => {}
    }
}

impl Pipeline {
    async fn take_up(&self, claim: Claim) {
        self.hosts.is_claimed(claim.entry.id);
        if is_lost_report(&claim.entry) { self.tell_postmaster(claim).await } else { self.carry(claim).await }
    }

    /// The recipients whose time has come, by index in the envelope.
    pub(super) fn due<'a>(&self, entry: &'a SpoolEntry) -> impl Iterator<Item = (usize, &'a Mailbox)> {
        let why =
            if self.has_to_tell(entry, *self.span().start()) { DueFor::MayBeForReport } else { DueFor::ForAttempt };
        let due = due_recipients(entry, self.span(), why);
        due.into_iter().filter_map(|index| Some((index, entry.envelope.recipients.get(index)?)))
    }

    pub(super) fn span(&self) -> Span {
        let now = self.out.clock.now();
        now..=schedule::horizon(&self.out.config.retry, now)
    }
}

/// From now to the latest moment for which anything usual is planned. A recipient whose time lies beyond
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
    let (waiting, span) = (entry.recipients.iter().enumerate(), &span);
    // Whoever may have the message is never asked early: every attempt can make a copy.
    let (unclear, waiting): (Vec<_>, Vec<_>) =
        waiting.filter_map(|(index, state)| Some((index, state.pending()?))).partition(|(_, p)| may_have_it(p));
    let now = *span.start();
    let of_those = |waiting: Vec<(usize, &Pending)>, by: Timestamp| {
        let is_due = |pending: &Pending| planned(pending, span).is_none_or(|due| due <= by);
        waiting.into_iter().filter(|(_, pending)| is_due(pending)).map(|(index, _)| index).collect::<Vec<_>>()
    };
    let first = waiting.iter().map(|(_, pending)| planned(pending, span)).min().flatten();
    let by = first.filter(|_| found == DueFor::ForAttempt).map_or(now, |first| first.max(now));
    let mut due = of_those(waiting, by);
    due.extend(of_those(unclear, now));
    due.sort_unstable();
    due
}

fn may_have_it(pending: &Pending) -> bool {
    pending.last.as_ref().is_some_and(Cause::may_be_delivered)
}

/// When a recipient is due, unless that lies beyond anything that is ever planned for it.
pub(super) fn planned(pending: &Pending, span: &Span) -> Option<Timestamp> {
    let end = if may_have_it(pending) { schedule::horizon_after_perhaps_taken(*span.start()) } else { *span.end() };
    pending.due.filter(|due| *due <= end)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::envelope::{Envelope, Origin, QueueId};
    use crate::smtp::address::ReversePath;
    use crate::spool::RecipientState;

    /// A message with a recipient for each of these times.
    pub(in crate::pipeline) fn entry(dues: &[Option<i64>]) -> SpoolEntry {
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
    fn rfc5321_6_1_whoever_may_have_the_message_is_never_asked_early() {
        let (now, hour) = (Timestamp(10), 3_600_000);
        let span = || now..=Timestamp(100);
        let mut entry = entry(&[Some(6 * hour), Some(50)]);
        let peer = crate::outcome::Peer { host: "mx".into(), address: "192.0.2.1:25".parse().unwrap() };
        let last = Some(Cause::PerhapsTaken { peer, detail: String::new() });
        let due = Some(Timestamp(6 * hour));
        entry.recipients[0] = RecipientState::Queued(Pending { due, last, unclear: 2, ..Pending::default() });
        assert_eq!(due_recipients(&entry, span(), DueFor::ForAttempt), [1]);
        entry.recipients[1] = RecipientState::Removed;
        assert!(due_recipients(&entry, span(), DueFor::ForAttempt).is_empty(), "not after a start either");
        assert_eq!(super::super::settle::next_due(&entry, &[], &span(), None), due);
        let then = Timestamp(6 * hour)..=Timestamp(6 * hour + 90);
        assert_eq!(due_recipients(&entry, then, DueFor::ForAttempt), [0]);
    }
}
