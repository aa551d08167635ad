//! What the tasks of the engine and its callers share.

use super::counts::Counts;
use super::store::{Database, DatabaseReach};
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::envelope::QueueId;
use crate::spool::cluster::NodeShare;
use crate::spool::schedule::mix;
use crate::spool::stored::{MICROSECONDS, REPORT_IDS};
use crate::spool::{SpoolError, Unwritten};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;

/// Ids of messages are microseconds times so many, and the slot of the node.
pub(super) const SLOTS: u64 = 1024;

/// Callers read the clock before they come here, and small corrections of it do not matter.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Clocks that are nearer to each other than this are the same: an answer takes its time.
const SAME_CLOCK_MS: i64 = 2000;

/// This relay among those that share the spool.
#[derive(Clone, Debug)]
pub(super) struct NodeIdentity {
    pub(super) name: String,
    pub(super) slot: i16,
    pub(super) incarnation: i64,
}

/// The clock of a node beside that of the database, which tells when a message is due: so it is due at the same moment
/// whichever node looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct NodeClock {
    pub(super) slot: i16,
    /// How far it is ahead; none while that is less than anybody notices.
    pub(super) ahead_ms: i64,
}

impl NodeClock {
    pub(super) const fn by_database(self, at: Timestamp) -> i64 {
        at.0.saturating_sub(self.ahead_ms)
    }

    pub(super) const fn by_node(self, at: i64) -> Timestamp {
        Timestamp(at.saturating_add(self.ahead_ms))
    }
}

/// A claim that is given up; the message is due when it was, or then.
pub(super) struct ClaimReturn {
    pub(super) id: i64,
    pub(super) generation: i64,
    pub(super) due: Option<i64>,
}

/// See the module.
pub(super) struct SharedStore {
    pub(super) database: Database,
    pub(super) node: NodeIdentity,
    pub(super) lease: Duration,
    pub(super) counts: Counts,
    /// The set of due messages may have changed.
    pub(super) changed: Notify,
    /// The other nodes are to hear of it.
    pub(super) tell: Notify,
    pub(super) closing: CancellationToken,
    /// Whether claims that ran out may be taken over; not soon after the start, nor after the database was away.
    pub(super) may_take_over: AtomicBool,
    /// How often the database was away.
    pub(super) outages: AtomicU64,
    failure: watch::Sender<Option<String>>,
    last_id: AtomicU64,
    sequence: AtomicU64,
    latest: AtomicI64,
    ahead_ms: AtomicI64,
    schema: AtomicI64,
    share: Mutex<NodeShare>,
    /// The nodes that ran at the last heartbeat.
    running: Mutex<BTreeSet<i16>>,
    pub(super) tidied: AtomicI64,
    keep_history_ms: AtomicI64,
    unrecorded: Mutex<BTreeSet<i64>>,
    /// For when the database is there again.
    returns: Mutex<Vec<ClaimReturn>>,
    unwritten_messages: AtomicU64,
    unwritten_outcomes: AtomicU64,
}

impl SharedStore {
    pub(super) fn new(database: Database, node: NodeIdentity, config: &SpoolConfig, now: Timestamp) -> Self {
        let shared = Self {
            database,
            node,
            lease: config.lease,
            counts: Counts::default(),
            changed: Notify::new(),
            tell: Notify::new(),
            closing: CancellationToken::new(),
            may_take_over: AtomicBool::new(false),
            outages: AtomicU64::new(0),
            failure: watch::Sender::new(None),
            last_id: AtomicU64::new(0),
            sequence: AtomicU64::new(0),
            latest: AtomicI64::new(now.0),
            ahead_ms: AtomicI64::new(0),
            schema: AtomicI64::new(0),
            share: Mutex::new(NodeShare::ALONE),
            running: Mutex::default(),
            tidied: AtomicI64::new(now.0),
            keep_history_ms: AtomicI64::new(0),
            unrecorded: Mutex::default(),
            returns: Mutex::default(),
            unwritten_messages: AtomicU64::new(0),
            unwritten_outcomes: AtomicU64::new(0),
        };
        shared.set_limits(config);
        shared
    }

    pub(super) fn set_limits(&self, config: &SpoolConfig) {
        let keep = i64::try_from(config.keep_history.as_millis()).unwrap_or(i64::MAX);
        self.keep_history_ms.store(keep, Ordering::Relaxed);
    }

    /// What finished before then may be forgotten.
    pub(super) fn history_until(&self, now: Timestamp) -> Timestamp {
        Timestamp(now.0.saturating_sub(self.keep_history_ms.load(Ordering::Relaxed)))
    }

    /// The lease as the database takes it.
    pub(super) fn lease_seconds(&self) -> f64 {
        self.lease.as_secs_f64()
    }

    /// Whether anything is still done here.
    pub(super) fn running(&self) -> Result<(), SpoolError> {
        if self.closing.is_cancelled() || self.failure.borrow().is_some() { Err(SpoolError::Stopped) } else { Ok(()) }
    }

    /// Whether the database answers.
    pub(super) fn reached(&self) -> Result<(), SpoolError> {
        match &*self.database.reach().borrow() {
            DatabaseReach::Reached => Ok(()),
            DatabaseReach::Away(why) => Err(SpoolError::Unreachable(why.clone())),
        }
    }

    /// Waits while the database is away: that is told once, and not with every question.
    pub(super) async fn until_reached(&self) -> Result<(), SpoolError> {
        let mut reach = self.database.reach();
        let reached = reach.wait_for(|reach| *reach == DatabaseReach::Reached);
        let _closing = self.closing.run_until_cancelled(reached).await;
        self.running()
    }

    /// This node may not go on.
    pub(super) fn stop(&self, why: String) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert(why);
            first
        });
        self.changed.notify_one();
    }

    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// Ids are above this one from now on.
    pub(super) fn begin_ids_after(&self, last: u64) {
        self.last_id.fetch_max(last / SLOTS, Ordering::Relaxed);
    }

    /// Strictly increasing; unlike those of any other slot.
    pub(super) fn next_id(&self, now: Timestamp) -> QueueId {
        let most = (REPORT_IDS - 1) / SLOTS;
        let time = u64::try_from(now.0).unwrap_or(0).saturating_mul(MICROSECONDS).min(most);
        let next = |last: u64| time.max(last.saturating_add(1)).min(most);
        let before = self.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        let slot = u64::try_from(self.node.slot).unwrap_or(0) % SLOTS;
        QueueId(next(before.unwrap_or_else(|last| last)) * SLOTS + slot)
    }

    /// A number that no settlement of any node has had before.
    pub(super) fn next_settlement(&self) -> u64 {
        let sequence = self.sequence.fetch_add(1, Ordering::Relaxed);
        mix(mix(self.node.incarnation.cast_unsigned()) ^ sequence) | 1
    }

    /// A caller has named the time. Gives by how much the clock was set back since the last one did, beyond what it was
    /// known to be ahead: what was planned by it is due too late by that.
    pub(super) fn see_time(&self, now: Timestamp) -> Option<Duration> {
        let last = Timestamp(self.latest.swap(now.0, Ordering::Relaxed));
        let known = Duration::from_millis(u64::try_from(self.clock().ahead_ms).unwrap_or(0));
        Some(last.since(now).saturating_sub(known)).filter(|back| *back > CLOCK_SLACK)
    }

    /// How this node's clock stands.
    pub(super) fn clock(&self) -> NodeClock {
        NodeClock { slot: self.node.slot, ahead_ms: self.ahead_ms.load(Ordering::Relaxed) }
    }

    /// The same moment by both clocks.
    pub(super) fn compare_clocks(&self, ours: Timestamp, of_database: Timestamp) {
        let ahead = ours.0.saturating_sub(of_database.0);
        self.ahead_ms.store(if ahead.abs() < SAME_CLOCK_MS { 0 } else { ahead }, Ordering::Relaxed);
    }

    /// The version of the schema, as the last heartbeat found it: it may be migrated while this node runs.
    pub(super) fn schema(&self) -> i64 {
        self.schema.load(Ordering::Relaxed)
    }

    pub(super) fn schema_is(&self, version: i64) {
        self.schema.store(version, Ordering::Relaxed);
    }

    /// The time that the last caller named.
    pub(super) fn latest_time(&self) -> Timestamp {
        Timestamp(self.latest.load(Ordering::Relaxed))
    }

    /// These nodes run, and this one. When somebody ran before who does not any more, or nobody knows who ran, gives those
    /// that go on from before.
    pub(super) fn nodes_run(&self, slots: &[i16]) -> Option<Vec<i16>> {
        let running: BTreeSet<i16> = slots.iter().copied().chain([self.node.slot]).collect();
        let rank = running.iter().position(|slot| *slot == self.node.slot).unwrap_or(0);
        *self.share.lock().unwrap_or_else(PoisonError::into_inner) = NodeShare::new(rank, running.len());
        let mut known = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, running.clone());
        // An earlier process of this node is gone as well.
        let is_first = before.is_empty();
        let going_on = || running.iter().copied().filter(|slot| !is_first || *slot != self.node.slot).collect();
        (is_first || !before.is_subset(&running)).then(going_on)
    }

    /// The part of this node in what all may do together.
    pub(super) fn share(&self) -> NodeShare {
        *self.share.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something may be due, here and elsewhere.
    pub(super) fn something_changed(&self) {
        self.changed.notify_one();
        self.tell.notify_one();
    }

    /// Messages whose outcome is known here and not recorded yet: nobody here may claim them again.
    pub(super) fn unrecorded(&self) -> Vec<i64> {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).iter().copied().collect()
    }

    pub(super) fn remember_unrecorded(&self, ids: &[i64]) {
        self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner).extend(ids);
    }

    pub(super) fn forget_unrecorded(&self, ids: &[i64]) {
        let mut unrecorded = self.unrecorded.lock().unwrap_or_else(PoisonError::into_inner);
        unrecorded.retain(|id| !ids.contains(id));
    }

    /// Claims that were given up and could not be given back yet.
    pub(super) fn returns(&self) -> MutexGuard<'_, Vec<ClaimReturn>> {
        self.returns.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn messages_begin(&self) {
        self.unwritten_messages.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn messages_end(&self) {
        self.unwritten_messages.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn outcomes_begin(&self, many: usize) {
        self.unwritten_outcomes.fetch_add(many as u64, Ordering::Relaxed);
    }

    pub(super) fn outcomes_end(&self, many: usize) {
        self.unwritten_outcomes.fetch_sub(many as u64, Ordering::Relaxed);
    }

    pub(super) fn unwritten(&self) -> Unwritten {
        Unwritten {
            messages: self.unwritten_messages.load(Ordering::Relaxed),
            outcomes: self.unwritten_outcomes.load(Ordering::Relaxed),
        }
    }
}
