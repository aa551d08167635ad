//! The story of a message: claim, route, resolve, decide, plan, deliver, conclude, report, record.
//!
//! The only module that calls stages. `Pipeline::carry` tells the story; `claim.rs` says what begins,
//! `admission.rs` (with `backoff.rs`) when, `attempt.rs` goes from server to server, `eight_bit.rs` converts
//! what servers want converted, `signing.rs` signs it, `conclude.rs` says what that means, `reports.rs` who is told, and
//! `settle.rs` records it. `outbound.rs` holds what delivery and `relay check` do alike. Nothing is forgotten
//! before [`Spool::settle`] has made it durable; a crash at any point leads to another attempt, never to
//! silence.

mod admission;
mod attempt;
mod backoff;
mod body;
mod claim;
mod conclude;
mod counting;
mod eight_bit;
mod failover;
pub(crate) mod incidents;
mod journal;
mod lease;
pub mod operate;
pub mod outbound;
mod outcomes;
mod postmaster;
mod reports;
mod settle;
mod signing;
mod tls_sessions;

pub use claim::{Pipelines, run};

use crate::deliver::hosts::HostBounds;
use crate::deliver::hosts::driver::{Call, HostLimits, HostSeat};
use crate::deliver::hosts::view::HostsView;
use crate::observe::Observer;
use crate::observe::spans::WorkSpan;
use crate::report::Texts;
use crate::route::{self, Route};
use crate::spool::{Claim, Spool};
use attempt::DeliveryAttempt;
use backoff::Backoff;
use futures_util::future::join_all;
use incidents::Incidents;
use outbound::Outbound;
use outcomes::Outcomes;
use settle::UnderWay;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;

/// The longest sleep: the clock may be set, and then what is due is to be asked again.
const LONGEST_SLEEP: Duration = Duration::from_secs(60);

/// Places among all that are held until what was delivered is recorded: that bounds what a crash can
/// deliver twice.
type Unrecorded = Vec<Arc<HostSeat>>;

/// Messages that are called, for the one that runs the pipeline.
type Calls = Arc<tokio::sync::Mutex<mpsc::UnboundedReceiver<Call>>>;

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
    /// What many domains have in common.
    pub(crate) incidents: Arc<Incidents>,
    pub(crate) hosts: HostLimits,
    /// Messages that wait for a place and are called to it.
    calls: Calls,
    backoff: Arc<Mutex<Backoff>>,
    failover: Arc<Mutex<failover::Failover>>,
    postmaster: Arc<postmaster::Postmaster>,
    /// Attempts in a row that a fault of the relay itself ended.
    broken: Arc<AtomicU32>,
    /// Whether the relay ends: nothing is begun any more.
    ends: Arc<AtomicBool>,
    /// Held by whoever sends reports on TLS, so that no two send the same.
    pub(crate) tls_reporting: Arc<tokio::sync::Mutex<()>>,
}

/// Work, and the span that lasts as long.
async fn within<T>(_span: WorkSpan, work: impl Future<Output = T>) -> T {
    work.await
}

impl Pipeline {
    /// Everything needed to carry messages.
    #[must_use]
    pub fn new(out: Outbound, spool: Arc<dyn Spool>, observer: Arc<Observer>, texts: Texts) -> Self {
        let (hosts, calls) = HostLimits::new(HostBounds::of(&out.config), out.clock.clone());
        Self {
            out,
            spool,
            observer,
            texts,
            incidents: Arc::default(),
            hosts,
            calls: Arc::new(tokio::sync::Mutex::new(calls)),
            backoff: Arc::default(),
            failover: Arc::default(),
            postmaster: Arc::default(),
            broken: Arc::default(),
            ends: Arc::default(),
            tls_reporting: Arc::default(),
        }
    }

    /// One by another configuration, with the same spool and all that was learnt of next hops and hosts.
    /// What this one has begun it ends by its own.
    #[must_use]
    pub fn succeeded_by(&self, out: Outbound, texts: Texts) -> Self {
        Self {
            out,
            texts,
            spool: Arc::clone(&self.spool),
            observer: Arc::clone(&self.observer),
            incidents: Arc::clone(&self.incidents),
            hosts: self.hosts.clone(),
            calls: Arc::clone(&self.calls),
            backoff: Arc::clone(&self.backoff),
            failover: Arc::clone(&self.failover),
            postmaster: Arc::clone(&self.postmaster),
            broken: Arc::clone(&self.broken),
            ends: Arc::clone(&self.ends),
            tls_reporting: Arc::clone(&self.tls_reporting),
        }
    }

    /// Its configuration counts from now on, also where one configuration counts for all.
    pub fn takes_over(&self) {
        self.hosts.set_limits(&self.out.config);
        self.spool.set_limits(&self.out.config.spool);
    }

    /// The story of a message that [`crate::accept`] has put into the spool, from its claim to the record
    /// of what became of it. Every route goes its own way.
    async fn carry(&self, claim: Claim) {
        let entry = &claim.entry.clone();
        let config = &self.out.config;
        let routes =
            route::group(self.due(entry), &entry.envelope.reverse_path, &config.destination, config.delivery.port);
        let message = &UnderWay::new(claim, &routes);
        if routes.is_empty() {
            return self.end(message).await;
        }
        let ways = routes.iter().map(|(route, recipients)| async move {
            let work = || async move {
                let attempt = &mut self.begin(entry, route, recipients, &message.commons);
                while let Some(hop) = self.turn(attempt) {
                    let brought = self.try_next_hop(attempt, &hop).await;
                    self.took_turn(attempt, &hop, brought);
                }
                self.conclude(attempt)
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

    /// The part of the story that belongs to one next hop: of a list each has its turn.
    async fn try_next_hop(&self, attempt: &DeliveryAttempt<'_>, hop: &Route) -> Outcomes {
        let resolution = match within(attempt.part("resolve"), self.out.resolve(&hop.hop, attempt.seed())).await {
            Ok(resolution) => resolution,
            Err(cause) => return self.none_found(attempt, &cause),
        };
        let request = self.out.request_of(&attempt.entry.envelope);
        let policies = self.out.ask_policies(hop, request, resolution);
        let facts = within(attempt.part("policies"), policies).await;
        let tried = self.out.try_and_look_again(hop, facts, Outcomes::new(), |facts, outcomes| async move {
            let verdicts = self.out.decide(&facts);
            let plan = self.out.plan(&hop.hop, &facts, verdicts);
            self.deliver(attempt, &facts, plan, outcomes).await
        });
        Box::pin(tried).await.outcomes
    }

    /// Next hops that nobody dials now.
    #[must_use]
    pub fn backing_off(&self) -> usize {
        self.backoff().count(self.out.clock.now())
    }

    /// Attempts in a row that a fault of the relay itself has ended: 0 once one came to any other end.
    #[must_use]
    pub fn broken_in_a_row(&self) -> u32 {
        self.broken.load(Ordering::Relaxed)
    }

    /// How receiving hosts stand: who is at work, who waits, what was learnt.
    #[must_use]
    pub fn hosts(&self) -> HostsView {
        self.hosts.view()
    }

    fn backoff(&self) -> MutexGuard<'_, Backoff> {
        self.backoff.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failover(&self) -> MutexGuard<'_, failover::Failover> {
        self.failover.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
