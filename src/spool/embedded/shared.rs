//! What the threads of the engine and its callers share.
#![expect(clippy::disallowed_methods, reason = "this file is one of the engine's doors to the disk")]

use super::index::Index;
use super::jobs::{ContentPlace, RecordPlace, Settling};
use super::paths::SpoolPaths;
use super::reserve::Reserve;
use super::segments::{Segment, Segments, StoredRecord};
use super::space::Space;
use super::steps::Step;
use super::unwritten::UnwrittenCounts;
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::envelope::QueueId;
use crate::spool::SpoolError;
use crate::spool::room::StoppedWork;
use std::collections::BTreeSet;
use std::fs::File;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, Semaphore, watch};

/// Messages that are durable in the log but not yet in the state database: a tenth of a second of
/// work for it. More makes acceptance wait.
pub(super) const MOST_BACKLOG: usize = 2000;

/// Callers read the clock before they come here, so that one may name a time that is a little
/// before another's; and small corrections of the clock do not matter.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// A segment is sparse when less than one part in so many of it is alive: what is copied is then
/// a third at most of what is freed.
const SPARSE: u64 = 4;

/// How often finished messages are looked at for pruning, by the clock of the caller.
pub(super) const PRUNE_EVERY: Duration = Duration::from_secs(60);

/// See the module.
pub(super) struct SharedState {
    pub(super) paths: SpoolPaths,
    pub(super) space: Space,
    pub(super) reserve: Reserve,
    history: HistoryLimits,
    /// The set of due messages may have changed.
    pub(super) changed: Notify,
    /// Places between log and state database.
    pub(super) backlog: Arc<Semaphore>,
    segments: Segments,
    index: Mutex<Index>,
    bytes: AtomicU64,
    damaged: AtomicU64,
    /// The messages among them that were met since the start.
    met_damaged: Mutex<BTreeSet<QueueId>>,
    /// The time that the last caller named.
    latest: AtomicI64,
    /// When the state database was asked to tidy.
    tidied: AtomicI64,
    /// What made the spool stop.
    failure: watch::Sender<Option<String>>,
    closing: AtomicBool,
    /// Settlements wait in the log for room.
    pub(super) log_waits: AtomicBool,
    /// The state database waits for room.
    pub(super) state_waits: AtomicBool,
    pub(super) unwritten: UnwrittenCounts,
    /// Held until the writers have ended.
    lock: Mutex<Option<File>>,
}

/// How much history is kept.
#[derive(Debug)]
pub(super) struct HistoryLimits {
    /// Milliseconds.
    keep_ms: AtomicI64,
    most_bytes: AtomicU64,
}

impl HistoryLimits {
    pub(super) fn new(config: &SpoolConfig) -> Self {
        let limits = Self { keep_ms: AtomicI64::new(0), most_bytes: AtomicU64::new(0) };
        limits.set(config);
        limits
    }

    fn set(&self, config: &SpoolConfig) {
        let keep = i64::try_from(config.keep_history.as_millis()).unwrap_or(i64::MAX);
        self.keep_ms.store(keep, Ordering::Relaxed);
        self.most_bytes.store(config.max_history_bytes, Ordering::Relaxed);
    }
}

/// What [`SharedState`] starts from.
pub(super) struct Start {
    pub(super) paths: SpoolPaths,
    pub(super) space: Space,
    pub(super) reserve: Reserve,
    pub(super) history: HistoryLimits,
    pub(super) segments: Segments,
    pub(super) index: Index,
    pub(super) bytes: u64,
    pub(super) damaged: u64,
    pub(super) now: Timestamp,
    pub(super) lock: File,
}

impl SharedState {
    pub(super) fn new(start: Start) -> Self {
        Self {
            paths: start.paths,
            space: start.space,
            reserve: start.reserve,
            history: start.history,
            changed: Notify::new(),
            backlog: Arc::new(Semaphore::new(MOST_BACKLOG)),
            segments: start.segments,
            index: Mutex::new(start.index),
            bytes: AtomicU64::new(start.bytes),
            damaged: AtomicU64::new(start.damaged),
            met_damaged: Mutex::default(),
            latest: AtomicI64::new(start.now.0),
            tidied: AtomicI64::new(start.now.0),
            failure: watch::Sender::new(None),
            closing: AtomicBool::new(false),
            log_waits: AtomicBool::new(false),
            state_waits: AtomicBool::new(false),
            unwritten: UnwrittenCounts::default(),
            lock: Mutex::new(Some(start.lock)),
        }
    }

    /// Other limits from now on; the directory stays.
    pub(super) fn set_limits(&self, config: &SpoolConfig) {
        self.space.set_floor(config);
        self.reserve.set_floor(config);
        self.history.set(config);
    }

    /// What finished before then may be forgotten, and how large the state database may become.
    pub(super) fn history_until(&self, now: Timestamp) -> (Timestamp, u64) {
        let keep = self.history.keep_ms.load(Ordering::Relaxed);
        (Timestamp(now.0.saturating_sub(keep)), self.history.most_bytes.load(Ordering::Relaxed))
    }

    pub(super) fn index(&self) -> MutexGuard<'_, Index> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The disk has failed: nothing more is taken, and whoever waits is told.
    pub(super) fn stop(&self, error: &SpoolError) {
        self.failure.send_if_modified(|failure| {
            let first = failure.is_none();
            failure.get_or_insert_with(|| error.to_string());
            first
        });
        self.backlog.close();
        self.changed.notify_one();
    }

    pub(super) fn is_stopped(&self) -> bool {
        self.failure.borrow().is_some()
    }

    pub(super) fn failure(&self) -> watch::Receiver<Option<String>> {
        self.failure.subscribe()
    }

    /// The engine is being closed: nothing waits for better times any more.
    pub(super) fn begin_closing(&self) {
        self.closing.store(true, Ordering::SeqCst);
    }

    /// What has met a full disk and waits for room, besides new mail.
    pub(super) fn waits_for_room(&self) -> Option<StoppedWork> {
        let waits = self.log_waits.load(Ordering::Relaxed) || self.state_waits.load(Ordering::Relaxed);
        waits.then_some(StoppedWork::Everything)
    }

    pub(super) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// The writers have ended: another process may have the directory.
    pub(super) fn unlock(&self) {
        let held = self.lock.lock().unwrap_or_else(PoisonError::into_inner).take();
        // A process that begins at this moment may have the descriptor until it runs its program: closing ours does
        // not give the lock back.
        let _ = held.map(|file| rustix::fs::flock(&file, rustix::fs::FlockOperation::Unlock));
    }

    /// A caller has named the time. When that is well before what the last one named, the clock
    /// was set back: then no message waits longer for it.
    pub(super) fn see_time(&self, now: Timestamp) {
        let last = Timestamp(self.latest.swap(now.0, Ordering::Relaxed));
        let back = last.since(now);
        if back > CLOCK_SLACK {
            self.index().set_back(back);
            self.changed.notify_one();
        }
    }

    /// Whether the time has come to do what is nobody's work, without anybody asking for anything. True once.
    pub(super) fn is_time_to_tidy(&self, now: Timestamp) -> bool {
        let last = Timestamp(self.tidied.load(Ordering::Relaxed));
        let is_time = now.since(last).max(last.since(now)) >= PRUNE_EVERY;
        if is_time {
            self.tidied.store(now.0, Ordering::Relaxed);
        }
        is_time
    }

    pub(super) fn latest_time(&self) -> Timestamp {
        Timestamp(self.latest.load(Ordering::Relaxed))
    }

    /// A message is damaged. It is read at every attempt, and for its report, and counts once.
    pub(super) fn count_damage(&self, id: QueueId) {
        if self.met_damaged.lock().unwrap_or_else(PoisonError::into_inner).insert(id) {
            self.damaged.fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    pub(super) fn add_bytes(&self, octets: u64) {
        self.bytes.fetch_add(octets, Ordering::Relaxed);
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    pub(super) fn begin_segment(&self, number: u32, segment: Segment) {
        self.segments.begin(number, segment);
    }

    /// A segment has become longer.
    pub(super) fn grow(&self, number: u32, by: u64) {
        self.segments.grow(number, by);
        self.add_bytes(by);
    }

    /// Reads the record of a message, if it is still at this place; blocks.
    pub(super) fn try_record(&self, id: QueueId, place: RecordPlace) -> Result<StoredRecord, SpoolError> {
        self.segments.read(&self.paths, id, place)
    }

    /// Reads the record of a message; blocks. Damage is counted.
    pub(super) fn read_record(&self, id: QueueId, place: RecordPlace) -> Result<StoredRecord, SpoolError> {
        let record = self.try_record(id, place);
        if matches!(record, Err(SpoolError::Damaged)) {
            self.count_damage(id);
        }
        record
    }

    /// A settlement is not recorded: its message is due again, and those that go with it are.
    pub(super) fn give_up(&self, settling: Settling, error: SpoolError) {
        for other in settling.others {
            self.give_up(other, SpoolError::Stopped);
        }
        self.index().release(settling.entry.id, settling.generation);
        let _ = settling.answer.send(Err(error));
    }

    /// Closed segments in which nothing is alive.
    pub(super) fn dead_segments(&self) -> Vec<u32> {
        let closed = self.segments.closed();
        let index = self.index();
        closed.into_iter().filter(|number| index.is_dead(*number)).collect()
    }

    /// Closed segments in which something is alive, but little.
    pub(super) fn sparse_segments(&self) -> BTreeSet<u32> {
        let closed = self.segments.closed_sizes();
        let index = self.index();
        let is_sparse = |(number, bytes): &(u32, u64)| (1..bytes / SPARSE).contains(&index.living_octets(*number));
        closed.into_iter().filter(is_sparse).map(|(number, _)| number).collect()
    }

    pub(super) fn remove_segments(&self, dead: &[u32]) {
        for number in dead {
            let freed = self.segments.remove(*number);
            self.paths.at(Step::SegmentRemoved);
            self.bytes.fetch_sub(freed, Ordering::Relaxed);
            self.index().drop_segment(*number);
        }
    }

    /// A message is finished: its own file, if it has one, is not needed any more.
    pub(super) fn remove_content(&self, id: QueueId, content: ContentPlace, size: u64) {
        match content {
            ContentPlace::Inline => {}
            ContentPlace::OwnFile => {
                // What cannot be removed now is removed as an orphan at the next start.
                let _ = std::fs::remove_file(self.paths.content(id));
                self.paths.at(Step::ContentRemoved);
                self.bytes.fetch_sub(size, Ordering::Relaxed);
            }
        }
    }
}
