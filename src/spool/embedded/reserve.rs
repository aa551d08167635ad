//! The reserve: octets on the disk that nobody has, until the disk is full to the last block.
//!
//! The floors of `space.rs` stop new mail long before that, but others write to the same disk.
//! Then the reserve is given free, so that outcomes and the reports they cause are written (RFC
//! 5321 §6.1: what cannot be delivered is told of, not forgotten), mail goes out, space comes
//! back, and a relay that was stopped opens its spool again. It is made again when there is room
//! above the floor. New mail gets nothing of it: the floor is larger. A few files without octets are kept
//! with it, for the inodes that an opening needs.
//!
//! All of it is best effort: without a reserve a full disk only means waiting.

use super::paths::SpoolPaths;
use super::space::{LEAST_FLOOR, Space};
use super::steps::Step;
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};
use std::time::Duration;

/// The most it is: what the log of the state database grows to before it is written again. With
/// that moved into the database, outcomes and reports go on for longer.
const MOST: u64 = 16 * 1024 * 1024;

/// The least it is, whatever the floor: enough to open the spool and to record outcomes for a while.
const LEAST: u64 = LEAST_FLOOR / 2;

/// Inodes below which it is given free: with those of its own, an opening has enough.
const FEW_INODES: u64 = 4;

/// Above [`LEAST`] it is at most one part in so many of the floor, so that giving it free lets no new mail in.
const PART_OF_FLOOR: u64 = 8;

/// One part in so many of it is claimed behind the end of each file that is written on a full disk.
const PARTS_CLAIMED: u64 = 4;

/// How often it is tried to make it again, by the clock of the caller.
const TRY_EVERY: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub(super) struct Reserve {
    paths: SpoolPaths,
    octets: AtomicU64,
    is_there: AtomicBool,
    tried_at: AtomicI64,
}

impl Reserve {
    /// Sees what there is.
    pub(super) fn new(paths: SpoolPaths, config: &SpoolConfig) -> Self {
        let octets = AtomicU64::new(size(config));
        let is_there = AtomicBool::new(paths.reserved() > 0);
        Self { paths, octets, is_there, tried_at: AtomicI64::new(i64::MIN) }
    }

    /// Another floor from now on; what is there keeps its size until it is given free.
    pub(super) fn set_floor(&self, config: &SpoolConfig) {
        self.octets.store(size(config), Ordering::SeqCst);
    }

    /// The disk is full: gives it free. False when there was nothing to give.
    pub(super) fn give_free(&self) -> bool {
        let given = self.let_go();
        if given {
            self.claim();
            self.paths.at(Step::ReserveGivenFree);
        }
        given
    }

    fn let_go(&self) -> bool {
        self.is_there.swap(false, Ordering::SeqCst) && self.paths.give_reserve_free().is_ok()
    }

    /// Takes a part of it for the files that are written on a full disk, before others have it; the rest is for
    /// what is new.
    fn claim(&self) {
        self.paths.claim_room(self.octets.load(Ordering::SeqCst) / PARTS_CLAIMED);
    }

    /// The spool is open: where it was given free for that, the log of the database and the segment are there now to
    /// claim room for.
    pub(super) fn opened(&self, space: &Space, now: Timestamp) {
        self.restore(space, now);
        if !self.is_there.load(Ordering::SeqCst) {
            self.claim();
        }
    }

    /// The spool is closed: what is left of the disk is for the next start, before others have it.
    pub(super) fn keep_for_the_next_start(&self, space: &Space) {
        let octets = self.octets.load(Ordering::SeqCst);
        if self.is_there.load(Ordering::SeqCst) {
            return;
        }
        // Where there is not even the least of it, the next start makes do with what it finds.
        let made = |octets| space.has(octets, FEW_INODES) && self.paths.make_reserve(octets).is_ok();
        let _made = [octets, LEAST, LEAST / 2, LEAST / 4].into_iter().any(made);
    }

    /// Whether there is less room than it has itself.
    pub(super) fn is_short(&self, space: &Space) -> bool {
        !space.has(self.octets.load(Ordering::SeqCst), FEW_INODES)
    }

    /// Gives it free if there is less room than it has itself: opening needs a little.
    pub(super) fn give_free_if_full(&self, space: &Space) {
        if self.is_short(space) && self.let_go() {
            self.paths.at(Step::ReserveGivenFree);
        }
    }

    /// Makes it, when it is not there and there is room above the floor.
    pub(super) fn restore(&self, space: &Space, now: Timestamp) {
        let octets = self.octets.load(Ordering::SeqCst);
        if self.is_there.load(Ordering::SeqCst) {
            return;
        }
        let last = Timestamp(self.tried_at.load(Ordering::SeqCst));
        if last.since(now).max(now.since(last)) < TRY_EVERY {
            return;
        }
        self.tried_at.store(now.0, Ordering::SeqCst);
        if !space.has_above_floor(octets, FEW_INODES) {
            return;
        }
        if self.paths.steps().room(octets).is_ok() && self.paths.make_reserve(octets).is_ok() {
            self.is_there.store(true, Ordering::SeqCst);
            self.claim();
            self.paths.at(Step::ReserveMade);
        }
    }
}

fn size(config: &SpoolConfig) -> u64 {
    MOST.min(config.min_free_bytes / PART_OF_FLOOR).max(LEAST)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, Origin, QueueId};
    use crate::outcome::{Cause, DeliveryOutcome};
    use crate::spool::embedded::manual::tests::{NOW, by_turning, claim, config, envelope, poll, store};
    use crate::spool::embedded::{CrashObserver, EmbeddedSpool, ManualWriters};
    use crate::spool::{Notification, RecipientState, Report, Settlement, Spool, SpoolError};
    use std::pin::pin;
    use std::sync::Arc;
    use tempfile::TempDir;

    /// Small, so that any disk has room above it.
    const FLOOR: u64 = LEAST * PART_OF_FLOOR;
    const PLENTY: u64 = 1 << 40;

    /// A disk with so much room.
    struct MeteredDisk(AtomicU64);

    impl CrashObserver for MeteredDisk {
        fn at(&self, step: Step) {
            if step == Step::ReserveGivenFree {
                self.0.fetch_add(FLOOR / PART_OF_FLOOR, Ordering::SeqCst);
            }
        }

        fn has_room(&self, octets: u64) -> bool {
            self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(octets)).is_ok()
        }
    }

    struct ReserveWorld {
        folder: TempDir,
        disk: Arc<MeteredDisk>,
        spool: EmbeddedSpool,
        writers: ManualWriters,
    }

    impl ReserveWorld {
        fn new(floor: u64) -> Self {
            let folder = TempDir::new().unwrap();
            let disk = Arc::new(MeteredDisk(AtomicU64::new(PLENTY)));
            let config = SpoolConfig { min_free_bytes: floor, ..config(&folder) };
            let (spool, writers) = EmbeddedSpool::open_by_hand(&config, NOW, disk.clone()).unwrap();
            Self { folder, disk, spool, writers }
        }

        fn room(&self, octets: u64) {
            self.disk.0.store(octets, Ordering::SeqCst);
        }

        fn reserved(&self) -> u64 {
            self.spool.shared.paths.reserved()
        }

        fn fail(&mut self, reports: Vec<Report>) -> Result<(), SpoolError> {
            let held = claim(&self.spool, &mut self.writers).unwrap();
            let told = reports.iter().map(|_| (0, Notification::ByReport(0))).collect();
            let settlement = Settlement { recipients: vec![(0, failed())], reports, told, ..Settlement::default() };
            by_turning(&mut self.writers, self.spool.settle(held, settlement))
        }
    }

    fn failed() -> RecipientState {
        let cause = Cause::DomainNotFound { domain: "gone.example".parse().unwrap() };
        RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } }
    }

    fn report(about: QueueId) -> Report {
        let envelope = Envelope { origin: Origin::Report { about }, ..envelope() };
        Report { envelope, content: "Subject: Undeliverable\r\n\r\n".into() }
    }

    #[test]
    fn rfc5321_6_1_on_a_full_disk_a_failure_and_its_report_are_recorded_out_of_the_reserve() {
        let mut world = ReserveWorld::new(FLOOR);
        assert_eq!(world.reserved(), FLOOR / PART_OF_FLOOR);
        let id = store(&world.spool, &mut world.writers, b"one");
        world.room(0);
        let refused = by_turning(&mut world.writers, world.spool.enqueue(world.spool.begin(NOW), envelope()));
        assert!(matches!(refused, Err(SpoolError::Full)));
        assert!(world.reserved() > 0, "it is not for new mail");
        world.fail(vec![report(id)]).unwrap();
        assert_eq!(world.reserved(), 0);
        let told = claim(&world.spool, &mut world.writers).unwrap();
        assert!(matches!(told.entry.envelope.origin, Origin::Report { about } if about == id));
        // It is made again once there is room, and not before a minute has passed.
        world.room(PLENTY);
        world.writers.turn();
        assert_eq!(world.reserved(), 0);
        drop(world.spool.begin(NOW.plus(TRY_EVERY)));
        world.writers.turn();
        assert_eq!(world.reserved(), FLOOR / PART_OF_FLOOR);
        world.writers.finish();
        let spool = EmbeddedSpool::open(&config(&world.folder), NOW).unwrap();
        assert_eq!((spool.stats().queued_messages, spool.recovery().caught_up), (1, 0));
    }

    #[test]
    fn an_outcome_alone_is_recorded_out_of_the_reserve_also_while_closing() {
        let mut world = ReserveWorld::new(FLOOR);
        store(&world.spool, &mut world.writers, b"one");
        store(&world.spool, &mut world.writers, b"two");
        world.room(0);
        world.fail(Vec::new()).unwrap();
        assert_eq!(world.reserved(), 0);
        let mut world = ReserveWorld::new(FLOOR);
        let id = store(&world.spool, &mut world.writers, b"one");
        let held = claim(&world.spool, &mut world.writers).unwrap();
        world.room(0);
        let settlement =
            Settlement { recipients: vec![(0, failed())], reports: vec![report(id)], ..Settlement::default() };
        let mut settling = pin!(world.spool.settle(held, settlement));
        assert!(poll(settling.as_mut()).is_pending());
        world.writers.finish();
        assert!(matches!(poll(settling), std::task::Poll::Ready(Ok(()))));
    }

    #[test]
    fn without_a_floor_there_is_a_small_reserve_and_without_that_a_settlement_waits_for_room() {
        let mut world = ReserveWorld::new(0);
        assert_eq!(world.reserved(), LEAST);
        let id = store(&world.spool, &mut world.writers, b"one");
        let held = claim(&world.spool, &mut world.writers).unwrap();
        world.spool.shared.reserve.give_free();
        world.room(0);
        let settlement =
            Settlement { recipients: vec![(0, failed())], reports: vec![report(id)], ..Settlement::default() };
        let mut settling = pin!(world.spool.settle(held, settlement));
        assert!(poll(settling.as_mut()).is_pending());
        assert!(world.writers.turn(), "it came");
        assert!(!world.writers.turn(), "and cannot be done");
        assert!(poll(settling.as_mut()).is_pending());
        world.room(PLENTY);
        while world.writers.turn() {}
        assert!(matches!(poll(settling), std::task::Poll::Ready(Ok(()))));
    }
}
