//! The story of a message: claim, route, resolve, decide, plan, deliver, conclude, report, record.
//!
//! The only module that calls stages. [`Pipeline::carry`] tells the story; `claim.rs` says what begins,
//! `admission.rs` (with `backoff.rs` and `limits.rs`) when, `attempt.rs` goes from server to server,
//! `conclude.rs` says what that means, `reports.rs` who is told, and `settle.rs` records it. `outbound.rs`
//! holds what delivery and `relay check` do alike. Nothing is forgotten before [`Spool::settle`] has made
//! it durable; a crash at any point leads to another attempt, never to silence.

mod admission;
mod attempt;
mod backoff;
mod claim;
mod conclude;
mod journal;
mod lease;
mod limits;
pub mod operate;
pub mod outbound;
mod postmaster;
mod reports;
mod settle;

pub use claim::run;

use crate::observe::Observer;
use crate::report::Texts;
use crate::route;
use crate::spool::{Claim, Spool};
use attempt::{DeliveryAttempt, Outcomes};
use backoff::Backoff;
use futures_util::future::join_all;
use limits::HopLimits;
use outbound::Outbound;
use settle::UnderWay;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// The longest sleep: the clock may be set, and then what is due is to be asked again.
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
    postmaster: postmaster::Postmaster,
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
            postmaster: postmaster::Postmaster::default(),
        }
    }

    /// The story of a message that [`crate::accept`] has put into the spool, from its claim to the record
    /// of what became of it. Every route goes its own way.
    async fn carry(&self, claim: Claim) {
        let entry = &claim.entry.clone();
        let config = &self.out.config;
        let routes = route::group(self.due(entry), &config.destination, config.delivery.port);
        let message = &UnderWay::new(claim, &routes);
        if routes.is_empty() {
            return self.end(message).await;
        }
        let ways = routes.iter().map(|(route, recipients)| async move {
            let work = || async move {
                let attempt = &DeliveryAttempt::begin(entry, route, recipients, self.out.clock.now());
                let resolution = match self.out.resolve(&route.hop, attempt.seed()).await {
                    Ok(resolution) => resolution,
                    Err(cause) => return self.conclude(attempt, self.none_tried(attempt, recipients, &cause)),
                };
                let facts = self.out.ask_policies(route, entry.envelope.tls, resolution).await;
                let tried = self.out.try_and_look_again(route, facts, Outcomes::new(), |facts, outcomes| async move {
                    let verdicts = self.out.decide(&facts);
                    let plan = self.out.plan(&route.hop, &facts, verdicts);
                    self.deliver(attempt, &facts, plan, outcomes).await
                });
                self.conclude(attempt, tried.await.outcomes)
            };
            let (progress, _until_recorded) = self.admitted(entry, route, recipients, work).await;
            if let Some(mut held) = message.ended(recipients, &progress).await
                && let Some(settlement) = self.with_reports(&mut held, progress).await
            {
                // Durable, with the reports, before anything is forgotten.
                self.settle(&mut held, settlement).await;
            }
        });
        self.while_claimed(message, join_all(ways)).await;
    }

    /// Next hops that nobody dials now.
    #[must_use]
    pub fn backing_off(&self) -> usize {
        self.backoff().count(self.out.clock.now())
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
