//! The story of a message: claim, route, resolve, decide, plan, deliver, conclude, report, record.
//!
//! The only module that calls stages; `outbound.rs` holds what delivery and `relay check` do
//! alike. Nothing is forgotten before [`Spool::settle`] has made it durable; a crash at any point
//! leads to another attempt, never to silence.

mod hop;
mod limits;
pub mod outbound;
mod reports;

use crate::observe::Observer;
use crate::outcome::DeliveryOutcome;
use crate::report::Texts;
use crate::route;
use crate::spool::conclude::{Conclusion, conclude};
use crate::spool::schedule;
use crate::spool::{Claim, RecipientState, Settlement, Spool, SpoolEntry};
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use limits::HopLimits;
use outbound::Outbound;

/// How long deliveries that are under way may go on after the stop.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// The pause after the spool failed to give work, in case it recovers.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Carries messages from the spool to their outcomes.
pub struct Pipeline {
    /// What delivery needs.
    pub out: Outbound,
    /// Where messages wait.
    pub spool: Arc<dyn Spool>,
    /// Metrics and log.
    pub observer: Arc<Observer>,
    /// Connections in use by next hop.
    pub hops: HopLimits,
    /// The words of reports.
    pub texts: Texts,
}

/// Takes due messages from the spool until `stop`, then lets what is under way end.
pub async fn run(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(pipeline.out.config.delivery.max_concurrent));
    let tasks = TaskTracker::new();
    while !stop.is_cancelled() {
        let now = pipeline.out.clock.now();
        let claims = match pipeline.spool.claim_due(now, slots.available_permits()).await {
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
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let pipeline = Arc::clone(&pipeline);
            tasks.spawn(async move {
                pipeline.carry(claim).await;
                drop(slot);
            });
        }
    }
    tasks.close();
    // What does not end in time is cut off; its recipients are still in the spool.
    let _ended_or_not = tokio::time::timeout(STOP_GRACE, tasks.wait()).await;
    pipeline.out.mailer.close().await;
}

async fn wait_for_work(pipeline: &Pipeline, slots: &Semaphore, stop: &CancellationToken) {
    if slots.available_permits() == 0 {
        tokio::select! {
            _free = slots.acquire() => {}
            () = stop.cancelled() => {}
        }
        return;
    }
    let changed = pipeline.spool.changed();
    let until_due = pipeline.spool.next_due().map(|due| due.since(pipeline.out.clock.now()));
    let due = async {
        match until_due {
            Some(wait) => tokio::time::sleep(wait).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = changed => {}
        () = due => {}
        () = stop.cancelled() => {}
    }
}

impl Pipeline {
    /// One attempt for one message, from the claim to its durable record.
    async fn carry(&self, claim: Claim) {
        let attempt = AssertUnwindSafe(self.attempt(&claim.entry)).catch_unwind().await;
        let id = claim.entry.id;
        let settlement = attempt.unwrap_or_else(|_panic| {
            // A bug of ours must not cost the message: it waits like any other.
            self.observer.spool_failed("attempt", &"a bug in the relay; the message waits");
            let next =
                schedule::next_attempt(&self.out.config.retry, id, claim.entry.attempts + 1, self.out.clock.now());
            Settlement { next_due: Some(next), ..Settlement::default() }
        });
        let told: Vec<String> =
            settlement.reports.iter().flat_map(|r| &r.envelope.recipients).map(ToString::to_string).collect();
        match self.spool.settle(claim, settlement).await {
            Ok(()) => told.iter().for_each(|to| self.observer.report_queued(id, to)),
            Err(error) => self.observer.spool_failed("settle", &error),
        }
    }

    async fn attempt(&self, entry: &SpoolEntry) -> Settlement {
        let waiting = entry.envelope.recipients.iter().enumerate().zip(&entry.recipients);
        let due = waiting.filter(|(_, state)| matches!(state, RecipientState::Queued { .. })).map(|(r, _)| r);
        let config = &self.out.config;
        let groups = route::group(due, &config.destination, config.delivery.port);
        let outcomes = join_all(groups.iter().map(|(route, indices)| self.deliver(entry, route, indices))).await;
        let now = self.out.clock.now();
        let mut conclusion = conclude(entry, outcomes.into_iter().flatten().collect(), &self.out.config.retry, now);
        self.observe_states(entry, &conclusion);
        let reports = self.reports(entry, &mut conclusion, now).await;
        let events = deferrals(&conclusion);
        Settlement { recipients: conclusion.recipients, at: Some(now), next_due: conclusion.next_due, reports, events }
    }

    fn observe_states(&self, entry: &SpoolEntry, conclusion: &Conclusion) {
        for (index, state) in &conclusion.recipients {
            let Some(recipient) = entry.envelope.recipients.get(*index) else { continue };
            match state {
                RecipientState::Done { outcome } => self.observer.recipient(entry.id, recipient, outcome),
                RecipientState::Queued { last: Some(cause), .. } => {
                    let outcome = DeliveryOutcome::Failed { cause: cause.clone() };
                    self.observer.recipient(entry.id, recipient, &outcome);
                }
                RecipientState::Queued { last: None, .. } => {}
            }
        }
    }
}

/// The tries that failed for now: the final state of a recipient is kept with the recipient,
/// these only in the history.
fn deferrals(conclusion: &Conclusion) -> Vec<serde_json::Value> {
    let deferral = |(index, state): &(usize, RecipientState)| match state {
        RecipientState::Queued { last: Some(cause), .. } => {
            Some(serde_json::json!({ "recipient": index, "deferred": cause }))
        }
        RecipientState::Queued { last: None, .. } | RecipientState::Done { .. } => None,
    };
    conclusion.recipients.iter().filter_map(deferral).collect()
}
