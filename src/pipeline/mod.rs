//! The story of a message: claim, route, resolve, decide, plan, deliver, conclude, report, record.
//!
//! The only module that calls stages; `outbound.rs` holds what delivery and `relay check` do
//! alike. Nothing is forgotten before [`Spool::settle`] has made it durable; a crash at any point
//! leads to another attempt, never to silence.

mod backoff;
mod carry;
mod failover;
mod hop;
mod journal;
mod lease;
mod limits;
pub mod operate;
pub mod outbound;
mod postmaster;
mod reports;

use crate::observe::Observer;
use crate::report::Texts;
use crate::spool::Spool;
use backoff::Backoff;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use limits::HopLimits;
use outbound::Outbound;

/// How long deliveries that are under way may go on after the stop.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// The pause after the spool failed to give work, in case it recovers.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// Messages taken from the spool at once. They are small while they wait for a connection, and
/// those for one next hop wait in a line of bounded length, so that it takes many dead next hops to
/// fill this.
const MOST_CARRIED: usize = 10_000;
/// Messages claimed in one go, so that reading them does not hold up the writing of outcomes.
const MOST_CLAIMED: usize = 500;
/// The longest sleep: the clock may be set, and then what is due is to be asked anew.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Carries messages from the spool to their outcomes.
pub struct Pipeline {
    /// What delivery needs.
    pub out: Outbound,
    /// Where messages wait.
    pub spool: Arc<dyn Spool>,
    /// Metrics and log.
    pub observer: Arc<Observer>,
    /// The words of reports.
    pub texts: Texts,
    hops: HopLimits,
    backoff: Mutex<Backoff>,
    failover: Mutex<failover::Failover>,
    postmaster: postmaster::Postmaster,
}

/// Takes due messages from the spool until `stop`, then lets what is under way end.
pub async fn run(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(MOST_CARRIED));
    let tasks = TaskTracker::new();
    // The clock may have been set back while the relay was down.
    let span = pipeline.span();
    if let Err(error) = pipeline.spool.bring_forward(*span.start(), *span.end()).await {
        pipeline.observer.spool_failed("bring forward", &error);
    }
    while !stop.is_cancelled() {
        let now = pipeline.out.clock.now();
        let claims = match pipeline.spool.claim_due(now, slots.available_permits().min(MOST_CLAIMED)).await {
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
    /// Everything needed to carry messages.
    #[must_use]
    pub fn new(out: Outbound, spool: Arc<dyn Spool>, observer: Arc<Observer>, texts: Texts) -> Self {
        let hops = HopLimits::new(out.config.delivery.max_per_next_hop, out.config.delivery.max_concurrent);
        Self {
            out,
            spool,
            observer,
            texts,
            hops,
            backoff: Mutex::default(),
            failover: Mutex::default(),
            postmaster: postmaster::Postmaster::default(),
        }
    }

    /// Next hops that nobody dials now.
    #[must_use]
    pub fn backing_off(&self) -> usize {
        self.backoff().count(self.out.clock.now())
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failover(&self) -> MutexGuard<'_, failover::Failover> {
        self.failover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
