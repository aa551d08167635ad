//! The story of a message: claim, route, resolve, decide, plan, deliver, conclude, report, record.
//!
//! The only module that calls stages. Nothing is forgotten before [`Spool::settle`] has made it
//! durable; a crash at any point leads to another attempt, never to silence.

use crate::clock::Clock;
use crate::config::Config;
use crate::deliver::driver::{Mailer, OpenBody};
use crate::deliver::session::Message;
use crate::deliver::{Loopback, Planned, Target, plan};
use crate::envelope::QueueId;
use crate::observe::Observer;
use crate::outcome::{Cause, Class, DeliveryOutcome, Phase};
use crate::policy;
use crate::report;
use crate::resolve::{Resolution, driver::Dns, mail};
use crate::route::{self, ChosenBy, NextHop};
use crate::spool::conclude::{Conclusion, conclude};
use crate::spool::schedule;
use crate::spool::{BodyReader, Claim, RecipientState, Report, Settlement, Spool, SpoolEntry, SpoolError};
use async_trait::async_trait;
use futures_util::FutureExt;
use futures_util::future::join_all;
use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Recipients offered in one transaction; RFC 5321 §4.5.3.1.8 makes every server take 100.
const RECIPIENTS_PER_TRANSACTION: usize = 100;
/// How long deliveries that are under way may go on after the stop.
const STOP_GRACE: Duration = Duration::from_secs(30);
/// The pause after the spool failed to give work, in case it recovers.
const SPOOL_PAUSE: Duration = Duration::from_secs(1);

/// All that a message needs on its way out.
pub struct Pipeline {
    /// The operator's choices.
    pub config: Arc<Config>,
    /// Where messages wait.
    pub spool: Arc<dyn Spool>,
    /// The ways to the DNS.
    pub dns: Arc<Dns>,
    /// Speaks to mail servers.
    pub mailer: Mailer,
    /// Metrics and log.
    pub observer: Arc<Observer>,
    /// The time.
    pub clock: Clock,
    /// Connections in use by next hop.
    pub hops: HopLimits,
}

/// At most so many connections to one next hop at once, and so many to all of them: a message
/// for a thousand domains must not open a thousand.
pub struct HopLimits {
    most: usize,
    all: Arc<Semaphore>,
    hops: Mutex<BTreeMap<NextHop, Arc<Semaphore>>>,
}

impl HopLimits {
    /// Limits every next hop to `most`, and all together to `all`.
    #[must_use]
    pub fn new(most: usize, all: usize) -> Self {
        Self { most, all: Arc::new(Semaphore::new(all)), hops: Mutex::new(BTreeMap::new()) }
    }

    /// Waits for a place. The narrow door first, so that nobody who waits at it holds a place
    /// that others could use.
    async fn enter(&self, hop: &NextHop) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let semaphore = {
            let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
            // A semaphore that nobody holds or waits for is at rest and can be made anew.
            hops.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            Arc::clone(hops.entry(hop.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.most))))
        };
        let at_hop = semaphore.acquire_owned().await.ok()?;
        let among_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some((at_hop, among_all))
    }
}

/// Takes due messages from the spool until `stop`, then lets what is under way end.
pub async fn run(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    let slots = Arc::new(Semaphore::new(pipeline.config.delivery.max_concurrent));
    let tasks = TaskTracker::new();
    while !stop.is_cancelled() {
        let now = pipeline.clock.now();
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
    let until_due = pipeline.spool.next_due().map(|due| due.since(pipeline.clock.now()));
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
            let next = schedule::next_attempt(&self.config.retry, id, claim.entry.attempts + 1, self.clock.now());
            Settlement { next_due: Some(next), ..Settlement::default() }
        });
        let told: Vec<String> =
            settlement.reports.iter().flat_map(|r| &r.envelope.recipients).map(ToString::to_string).collect();
        match self.spool.settle(claim, settlement).await {
            Ok(()) if told.is_empty() => {}
            Ok(()) => self.observer.report_queued(id, &told.join(", ")),
            Err(error) => self.observer.spool_failed("settle", &error),
        }
    }

    async fn attempt(&self, entry: &SpoolEntry) -> Settlement {
        let waiting = entry.envelope.recipients.iter().enumerate().zip(&entry.recipients);
        let due = waiting.filter(|(_, state)| matches!(state, RecipientState::Queued { .. })).map(|(r, _)| r);
        let groups = route::group(due, &self.config.destination, self.config.delivery.port);
        let outcomes = join_all(groups.iter().map(|(hop, indices)| self.deliver(entry, hop, indices))).await;
        let now = self.clock.now();
        let conclusion = conclude(entry, outcomes.into_iter().flatten().collect(), &self.config.retry, now);
        self.observe_states(entry, &conclusion);
        let reports: Vec<Report> = self.reports(entry, &conclusion).await.into_iter().collect();
        let events = deferrals(&conclusion);
        Settlement { recipients: conclusion.recipients, at: Some(now), next_due: conclusion.next_due, reports, events }
    }

    /// Delivers to the recipients that share a next hop.
    async fn deliver(&self, entry: &SpoolEntry, hop: &NextHop, indices: &[usize]) -> Vec<(usize, DeliveryOutcome)> {
        let all_failed = |cause: Cause| {
            self.observer.no_attempt(entry.id, &hop.to_string(), &cause);
            indices.iter().map(|&index| (index, DeliveryOutcome::Failed { cause: cause.clone() })).collect()
        };
        let _place = self.hops.enter(hop).await;
        // Every attempt shuffles anew, and a log line is enough to tell how.
        let seed = entry.id.0.wrapping_add(u64::from(entry.attempts));
        let resolution = match resolve(&self.dns, hop, self.config.delivery.port, seed).await {
            Ok(resolution) => resolution,
            Err(cause) => return all_failed(cause),
        };
        let steps = match plan_for(&self.config, &resolution, hop) {
            Ok(steps) => steps,
            Err(cause) => return all_failed(cause),
        };
        let mut results = BTreeMap::new();
        for step in steps {
            let pending: Vec<usize> =
                indices.iter().copied().filter(|i| results.get(i).is_none_or(may_try_elsewhere)).collect();
            if pending.is_empty() {
                break;
            }
            match step {
                Planned::Try(target) => results.extend(self.try_server(entry, hop, &target, &pending).await),
                Planned::Skip(cause) => {
                    self.observer.no_attempt(entry.id, &hop.to_string(), &cause);
                    let failed = DeliveryOutcome::Failed { cause };
                    // A reason found by talking to a server says more than a host left alone.
                    for index in pending {
                        results.entry(index).or_insert_with(|| failed.clone());
                    }
                }
            }
        }
        results.into_iter().collect()
    }

    /// Offers the message to one server, in transactions of a size every server takes.
    async fn try_server(
        &self,
        entry: &SpoolEntry,
        hop: &NextHop,
        target: &Target,
        pending: &[usize],
    ) -> Vec<(usize, DeliveryOutcome)> {
        let body = SpooledBody { spool: Arc::clone(&self.spool), id: entry.id };
        let mut outcomes = Vec::with_capacity(pending.len());
        for some in pending.chunks(RECIPIENTS_PER_TRANSACTION) {
            let recipient = |i: &usize| entry.envelope.recipients.get(*i).map(|r| (*i, r.clone()));
            let message = Message {
                reverse_path: entry.envelope.reverse_path.clone(),
                recipients: some.iter().filter_map(recipient).collect(),
                size: entry.size,
                body: entry.envelope.body,
            };
            let report = self.mailer.attempt(target, message, &body).await;
            self.observer.attempt(entry.id, &hop.to_string(), &report);
            outcomes.extend(report.outcomes);
        }
        outcomes
    }

    fn observe_states(&self, entry: &SpoolEntry, conclusion: &Conclusion) {
        for (index, state) in &conclusion.recipients {
            let Some(recipient) = entry.envelope.recipients.get(*index) else { continue };
            match state {
                RecipientState::Done { outcome } => self.observer.recipient(entry.id, recipient, outcome),
                RecipientState::Queued { last: Some(cause) } => {
                    let outcome = DeliveryOutcome::Failed { cause: cause.clone() };
                    self.observer.recipient(entry.id, recipient, &outcome);
                }
                RecipientState::Queued { last: None } => {}
            }
        }
    }

    /// The NDR for the recipients that failed for good; none without failures, and none for a
    /// null reverse-path.
    async fn reports(&self, entry: &SpoolEntry, conclusion: &Conclusion) -> Option<Report> {
        let failure = |(index, cause): &(usize, Cause)| {
            entry.envelope.recipients.get(*index).map(|recipient| (recipient.clone(), cause.clone()))
        };
        let failed: Vec<_> = conclusion.failures.iter().filter_map(failure).collect();
        if failed.is_empty() {
            return None;
        }
        let header = self.header(entry.id).await;
        let failures: Vec<report::Failure<'_>> =
            failed.iter().map(|(recipient, cause)| report::Failure { recipient, cause }).collect();
        let original = report::Original { id: entry.id, envelope: &entry.envelope, header: &header };
        let report = report::compose(&self.config.hostname, &original, &failures, self.clock.now());
        if report.is_none() {
            self.observer.report_suppressed(entry.id, failures.len());
        }
        report
    }

    /// The start of the original, with its header; an NDR without it is better than none.
    async fn header(&self, id: QueueId) -> Vec<u8> {
        let mut header = Vec::new();
        let mut reader = match self.spool.open_body(id).await {
            Ok(reader) => reader,
            Err(error) => {
                self.observer.spool_failed("read the header for an NDR", &error);
                return header;
            }
        };
        while header.len() < report::HEADER_LIMIT {
            let Ok(Some(piece)) = reader.next().await else { break };
            header.extend_from_slice(&piece);
        }
        header.truncate(report::HEADER_LIMIT);
        header
    }
}

/// Every answer the DNS has about a next hop; the same for delivery and for `relay check`.
///
/// # Errors
/// The cause that stops all its recipients.
pub async fn resolve(dns: &Dns, hop: &NextHop, port: u16, seed: u64) -> Result<Resolution, Cause> {
    match hop {
        NextHop::Domain(domain) => mail::resolve_domain(dns, domain, port, seed).await,
        NextHop::Host { name, port } => mail::resolve_named_host(dns, name, *port).await,
        NextHop::Address { address, port, .. } => Ok(mail::literal(*address, *port)),
    }
}

/// The servers to try for a resolution; the same for delivery and for `relay check`.
///
/// # Errors
/// As [`plan`].
pub fn plan_for(config: &Config, resolution: &Resolution, hop: &NextHop) -> Result<Vec<Planned>, Cause> {
    let verdicts = resolution.hosts.iter().map(|host| policy::decide(resolution, host)).collect();
    let chosen = match hop {
        NextHop::Domain(_) | NextHop::Address { chosen_by: ChosenBy::Recipient, .. } => ChosenBy::Recipient,
        NextHop::Host { .. } | NextHop::Address { chosen_by: ChosenBy::Operator, .. } => ChosenBy::Operator,
    };
    let allowed = config.delivery.allow_loopback || chosen == ChosenBy::Operator;
    let loopback = if allowed { Loopback::Allowed } else { Loopback::Refused };
    plan(resolution, verdicts, &config.hostname, loopback)
}

/// The tries that failed for now: the final state of a recipient is kept with the recipient,
/// these only in the history.
fn deferrals(conclusion: &Conclusion) -> Vec<serde_json::Value> {
    let deferral = |(index, state): &(usize, RecipientState)| match state {
        RecipientState::Queued { last: Some(cause) } => {
            Some(serde_json::json!({ "recipient": index, "deferred": cause }))
        }
        RecipientState::Queued { last: None } | RecipientState::Done { .. } => None,
    };
    conclusion.recipients.iter().filter_map(deferral).collect()
}

/// Whether the next server may be asked about a recipient. A refusal of the recipient is final;
/// a server that refuses us as such is not. After the dot the message may be theirs already, and
/// another server would make a duplicate certain.
fn may_try_elsewhere(outcome: &DeliveryOutcome) -> bool {
    let cause = match outcome {
        DeliveryOutcome::Delivered { .. } => return false,
        DeliveryOutcome::Failed { cause } => cause,
    };
    let about_this_server = matches!(
        cause,
        Cause::Rejected { phase: Phase::Greeting | Phase::Ehlo | Phase::EhloInTls, .. }
            | Cause::MessageTooLarge { .. }
            | Cause::EightBitNotOffered { .. }
            | Cause::AddressForbidden { .. }
    );
    let perhaps_taken = matches!(
        cause,
        Cause::TimedOut { phase: Phase::EndOfData, .. } | Cause::ConnectionLost { phase: Phase::EndOfData, .. }
    );
    about_this_server || (cause.class() == Class::Transient && !perhaps_taken)
}

struct SpooledBody {
    spool: Arc<dyn Spool>,
    id: QueueId,
}

#[async_trait]
impl OpenBody for SpooledBody {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        self.spool.open_body(self.id).await
    }
}
