//! Compaction: what is still alive in an old segment is copied forward, so that a few messages
//! that wait for days do not hold gigabytes.
//!
//! ```text
//! state writer: reads a batch ──► log writer: appends and syncs it ──► state writer: one
//! transaction names the new places ──► the old segment, once nothing in it is alive, is removed
//! ```
//! Guarantee (RFC 5321 §6.1): at every moment the place that the database names holds the record;
//! a copy that a crash left without its transaction is known by its kind and counts for nothing.
//! Envelope and content stay as they are, checksums included.

use super::jobs::{LogJob, Moved, Moving, RecordPlace};
use super::shared::SharedState;
use super::state::State;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::SpoolError;
use crate::spool::record::{NewRecord, RecordKind};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// How long a segment is sparse before it is touched. Most mail is gone after seconds, and what
/// goes by itself is not worth a copy.
const PATIENCE: Duration = Duration::from_secs(300);

/// After a copy that found no room.
const REST: Duration = Duration::from_secs(60);

/// Records and octets in one batch: acceptance waits for it, for some milliseconds.
const BATCH_RECORDS: u32 = 200;
const BATCH_OCTETS: u64 = 1024 * 1024;

/// What the state writer knows of compaction.
pub(super) struct Forwarding {
    log: Sender<LogJob>,
    /// One batch at a time.
    under_way: bool,
    /// Since when a segment is sparse.
    sparse: BTreeMap<u32, Timestamp>,
    /// They hold a record that cannot be read, and stay until that message has its end.
    left_alone: BTreeSet<u32>,
    refused_at: Option<Timestamp>,
}

impl Forwarding {
    pub(super) const fn new(log: Sender<LogJob>) -> Self {
        Self { log, under_way: false, sparse: BTreeMap::new(), left_alone: BTreeSet::new(), refused_at: None }
    }

    /// Sends the next batch to the log writer, if there is one. True when it did.
    pub(super) fn begin(&mut self, shared: &SharedState, state: &State) -> rusqlite::Result<bool> {
        let now = shared.latest_time();
        if self.under_way || shared.is_stopped() || shared.is_closing() {
            return Ok(false);
        }
        if self.refused_at.is_some_and(|refused_at| between(refused_at, now) < REST) {
            return Ok(false);
        }
        let Some(segment) = self.ripe(&shared.sparse_segments(), now) else { return Ok(false) };
        let batch = self.batch(shared, state, segment)?;
        self.under_way = !batch.is_empty() && self.log.send(LogJob::Forward(batch)).is_ok();
        Ok(self.under_way)
    }

    /// The log writer has answered: with nothing, when there was no room.
    pub(super) fn answered(&mut self, moved: &[Moved], now: Timestamp) {
        self.under_way = false;
        self.refused_at = moved.is_empty().then_some(now);
    }

    /// A segment that has been sparse for long enough.
    fn ripe(&mut self, sparse: &BTreeSet<u32>, now: Timestamp) -> Option<u32> {
        self.sparse.retain(|segment, _| sparse.contains(segment));
        for segment in sparse {
            self.sparse.entry(*segment).or_insert(now);
        }
        let ripe = |(segment, since): &(&u32, &Timestamp)| {
            !self.left_alone.contains(*segment) && between(**since, now) >= PATIENCE
        };
        self.sparse.iter().find(ripe).map(|(segment, _)| *segment)
    }

    /// Reads what is alive at the beginning of a segment.
    fn batch(&mut self, shared: &SharedState, state: &State, segment: u32) -> rusqlite::Result<Vec<Moving>> {
        let mut batch = Vec::new();
        let mut octets = 0;
        for (id, from) in state.living(segment, BATCH_RECORDS)? {
            if octets >= BATCH_OCTETS {
                break;
            }
            octets += from.length;
            match copy(shared, id, from) {
                Ok(record) => batch.push(Moving { id, from, record }),
                Err(_counted_already) => {
                    self.left_alone.insert(segment);
                }
            }
        }
        Ok(batch)
    }
}

fn copy(shared: &SharedState, id: QueueId, from: RecordPlace) -> Result<NewRecord, SpoolError> {
    let stored = shared.read_record(id, from)?;
    NewRecord::new(id, stored.envelope, stored.content, RecordKind::Forwarded).map_err(|_| SpoolError::Damaged)
}

/// A clock that was set back counts as one that went on.
fn between(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "a test damages a segment")]
mod tests {
    use super::*;
    use crate::spool::embedded::manual::tests::{NOW, by_turning, config, poll, store};
    use crate::spool::embedded::{CrashObserver, EmbeddedSpool, ManualWriters, Step};
    use crate::spool::{RecipientState, Settlement, Spool};
    use std::pin::pin;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::Poll;
    use tempfile::TempDir;

    const LATER: Timestamp = Timestamp(NOW.0 + 3_600_000);

    /// A disk that may be full.
    #[derive(Default)]
    struct DiskAtLimit(AtomicBool);

    impl CrashObserver for DiskAtLimit {
        fn at(&self, _: Step) {}

        fn has_room(&self, _: u64) -> bool {
            !self.0.load(Ordering::SeqCst)
        }
    }

    struct ForwardWorld {
        folder: TempDir,
        disk: Arc<DiskAtLimit>,
        spool: EmbeddedSpool,
        writers: ManualWriters,
        waiting: Vec<QueueId>,
    }

    impl ForwardWorld {
        /// A closed segment with so many small messages that wait, and much that is finished.
        fn with_waiting(messages: usize) -> Self {
            let folder = TempDir::new().unwrap();
            let disk = Arc::new(DiskAtLimit::default());
            let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config(&folder), NOW, disk.clone()).unwrap();
            let large: Vec<_> = (0..6).map(|_| store(&spool, &mut writers, &[b'x'; 200_000])).collect();
            let waiting = (0..messages).map(|n| store(&spool, &mut writers, format!("no. {n}").as_bytes())).collect();
            for id in large {
                end(&spool, &mut writers, id);
            }
            writers.finish();
            drop(spool);
            let (spool, writers) = EmbeddedSpool::open_by_hand(&config(&folder), NOW, disk.clone()).unwrap();
            Self { folder, disk, spool, writers, waiting }
        }

        /// The writers do all there is to do at a time.
        fn settle_down(&mut self, now: Timestamp) {
            drop(self.spool.begin(now));
            while self.writers.turn() {}
        }

        fn segments(&self) -> usize {
            std::fs::read_dir(self.folder.path().join("spool/segments")).unwrap().count()
        }

        fn read(&mut self, id: QueueId) -> Result<Vec<u8>, SpoolError> {
            by_turning(&mut self.writers, async {
                Ok(self.spool.open_body(id).await?.next().await?.map(Vec::from).unwrap_or_default())
            })
        }
    }

    fn end(spool: &EmbeddedSpool, writers: &mut ManualWriters, id: QueueId) {
        let claim = by_turning(writers, spool.claim_one(id, NOW)).unwrap().unwrap();
        let settlement = Settlement { recipients: vec![(0, RecipientState::Removed)], ..Settlement::default() };
        by_turning(writers, spool.settle(claim, settlement)).unwrap();
    }

    #[test]
    fn a_segment_sparse_for_long_enough_is_copied_batch_by_batch_and_goes() {
        let mut world = ForwardWorld::with_waiting(usize::try_from(BATCH_RECORDS).unwrap() + 5);
        let before = world.spool.stats().bytes;
        world.settle_down(NOW);
        world.settle_down(NOW.plus(PATIENCE / 2));
        assert_eq!(world.segments(), 2, "what goes by itself is not worth a copy");
        world.settle_down(LATER);
        assert_eq!(world.segments(), 1);
        assert!(world.spool.stats().bytes < before / 4);
        for (n, id) in world.waiting.clone().into_iter().enumerate() {
            assert_eq!(world.read(id).unwrap(), format!("no. {n}").as_bytes());
            end(&world.spool, &mut world.writers, id);
        }
        assert_eq!((world.spool.stats().damaged_records, world.spool.stats().queued_messages), (0, 0));
    }

    #[test]
    fn a_reader_who_knows_the_old_place_finds_the_record_at_the_new_one() {
        let mut world = ForwardWorld::with_waiting(1);
        world.settle_down(NOW);
        drop(world.spool.begin(LATER));
        let mut opening = pin!(world.spool.open_body(world.waiting[0]));
        assert!(poll(opening.as_mut()).is_pending());
        while world.writers.turn() {}
        assert_eq!(std::fs::read_dir(world.folder.path().join("spool/segments")).unwrap().count(), 1);
        assert!(poll(opening.as_mut()).is_pending(), "it asks again");
        world.writers.turn();
        assert!(matches!(poll(opening), Poll::Ready(Ok(_))));
        assert_eq!(world.spool.stats().damaged_records, 0);
    }

    #[test]
    fn a_record_that_cannot_be_read_keeps_its_segment_and_no_other_record() {
        let mut world = ForwardWorld::with_waiting(3);
        let segments = world.folder.path().join("spool/segments");
        let old = std::fs::read_dir(segments).unwrap().map(|item| item.unwrap().path()).min().unwrap();
        let mut octets = std::fs::read(&old).unwrap();
        let place = octets.windows(5).rposition(|window| window == b"no. 1").unwrap();
        octets[place] ^= 1;
        std::fs::write(&old, octets).unwrap();
        for hour in 0..4 {
            world.settle_down(NOW.plus(PATIENCE * 12 * hour));
        }
        assert_eq!((world.segments(), world.spool.stats().damaged_records), (2, 1), "it was tried once");
        let read = world.waiting.clone().into_iter().map(|id| world.read(id).is_ok()).collect::<Vec<_>>();
        assert_eq!(read, [true, false, true]);
        let [stays, moved] = [1, 2].map(|segment| world.spool.shared.index().living_octets(segment));
        assert_eq!(stays * 2, moved, "records of the same length");
        end(&world.spool, &mut world.writers, world.waiting[1]);
        assert_eq!(world.segments(), 1);
    }

    #[test]
    fn on_a_full_disk_nothing_is_copied_until_there_is_room() {
        let mut world = ForwardWorld::with_waiting(3);
        world.settle_down(NOW);
        world.disk.0.store(true, Ordering::SeqCst);
        world.settle_down(LATER);
        assert_eq!(world.segments(), 2);
        world.disk.0.store(false, Ordering::SeqCst);
        world.settle_down(LATER);
        assert_eq!(world.segments(), 2, "it rests for a minute");
        world.settle_down(LATER.plus(REST));
        assert_eq!(world.segments(), 1);
    }
}
