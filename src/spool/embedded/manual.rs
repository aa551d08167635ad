//! The engine without its threads: its writers work when somebody turns a handle.
//!
//! A simulation in virtual time must decide itself when something becomes durable; with threads
//! two runs of the same seed would differ. Everything else is the engine as it is in service.

use super::jobs::{LogJob, StateJob};
use super::log::Log;
use super::shared::SharedState;
use super::steps::{CrashObserver, Step, Steps};
use super::writer::Writer;
use super::{EmbeddedSpool, SpoolError};
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use std::sync::Arc;
use std::sync::mpsc::Receiver;

/// Both writers, with what they are asked for.
pub(super) struct Writers {
    pub(super) log: Log,
    pub(super) log_jobs: Receiver<LogJob>,
    pub(super) state: Writer,
    pub(super) state_jobs: Receiver<StateJob>,
}

/// Does the work of the writers. Dropping it is a crash (RFC 5321 §6.1 is what is tried with it):
/// nothing more is written, and the directory is free. Drop it before the tasks that use the
/// spool: what they remove when they end, a process that is killed does not.
pub struct ManualWriters {
    shared: Arc<SharedState>,
    /// Until the end.
    writers: Option<Writers>,
}

impl EmbeddedSpool {
    /// As [`EmbeddedSpool::open`], without threads: whoever holds the [`ManualWriters`] does the writers'
    /// work, and what blocks is done by whoever asks for it. [`crate::spool::Spool::close`] does
    /// nothing here; [`ManualWriters::finish`] does.
    ///
    /// # Errors
    /// As [`EmbeddedSpool::open`].
    pub fn open_by_hand(
        config: &SpoolConfig,
        now: Timestamp,
        observer: Arc<dyn CrashObserver>,
    ) -> Result<(Self, ManualWriters), SpoolError> {
        let (spool, writers) = Self::prepare(config, now, Steps::by_hand(observer))?;
        let writers = ManualWriters { shared: Arc::clone(&spool.shared), writers: Some(writers) };
        Ok((spool, writers))
    }
}

impl ManualWriters {
    /// Both writers take what waits for them, one batch each: first the log, then the state. Never
    /// waits. False when there was nothing to do, or nothing that could be done on a full disk.
    pub fn turn(&mut self) -> bool {
        let Some(writers) = &mut self.writers else { return false };
        let logged = writers.log.turn(&writers.log_jobs);
        let stated = writers.state.turn(&writers.state_jobs);
        logged || stated
    }

    /// As [`crate::spool::Spool::close`]: does all that waits, and frees the directory.
    pub fn finish(mut self) {
        self.shared.begin_closing();
        while self.turn() {}
        if let Some(Writers { log, state, .. }) = self.writers.take() {
            log.give_up();
            drop(state);
            self.shared.paths.at(Step::StateClosed);
        }
        self.shared.unlock();
    }
}

impl Drop for ManualWriters {
    fn drop(&mut self) {
        if let Some(writers) = self.writers.take() {
            self.shared.paths.steps().end();
            self.shared.stop(&SpoolError::Stopped);
            writers.state.abandon();
            self.shared.unlock();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::envelope::{Envelope, QueueId, testing};
    use crate::spool::embedded::Work;
    use crate::spool::event::Event;
    use crate::spool::{Claim, Hold, Pending, RecipientState, Settlement, Spool};
    use std::future::Future;
    use std::pin::pin;
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll, Waker};
    use std::time::Duration;

    pub(in crate::spool::embedded) const NOW: Timestamp = Timestamp(1_795_261_468_000);

    #[derive(Default)]
    struct Notes(Mutex<Vec<Step>>);

    impl CrashObserver for Notes {
        fn at(&self, step: Step) {
            self.0.lock().unwrap().push(step);
        }
    }

    pub(in crate::spool::embedded) fn config(folder: &tempfile::TempDir) -> SpoolConfig {
        let path = folder.path().join("spool");
        SpoolConfig { path, min_free_bytes: 0, min_free_inodes: 0, ..SpoolConfig::default() }
    }

    pub(in crate::spool::embedded) fn envelope() -> Envelope {
        Envelope { accepted_at: NOW, ..testing::report(&["a@one.example"]) }
    }

    /// Whether it is ready without anybody else's work.
    pub(in crate::spool::embedded) fn poll<T>(future: impl Future<Output = T>) -> Poll<T> {
        pin!(future).poll(&mut Context::from_waker(Waker::noop()))
    }

    /// Polls and turns until it is ready.
    pub(in crate::spool::embedded) fn by_turning<T>(writers: &mut ManualWriters, future: impl Future<Output = T>) -> T {
        let mut future = pin!(future);
        loop {
            if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                return output;
            }
            assert!(writers.turn(), "it waits, and there is nothing to do");
        }
    }

    pub(in crate::spool::embedded) fn store(
        spool: &EmbeddedSpool,
        writers: &mut ManualWriters,
        content: &[u8],
    ) -> QueueId {
        by_turning(writers, async {
            let mut draft = spool.begin(NOW);
            draft.body.write(content).await.unwrap();
            spool.enqueue(draft, envelope()).await.unwrap()
        })
    }

    pub(in crate::spool::embedded) fn claim(spool: &EmbeddedSpool, writers: &mut ManualWriters) -> Option<Claim> {
        by_turning(writers, spool.claim_due(NOW, 1)).unwrap().pop()
    }

    #[test]
    fn rfc5321_4_2_5_nothing_is_acknowledged_before_somebody_turns_and_syncs() {
        let folder = tempfile::TempDir::new().unwrap();
        let notes = Arc::new(Notes::default());
        let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config(&folder), NOW, notes.clone()).unwrap();
        assert!(!writers.turn(), "nothing waits");
        notes.0.lock().unwrap().clear();
        let mut storing = pin!(spool.enqueue(spool.begin(NOW), envelope()));
        let mut context = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(storing.as_mut().poll(&mut context).is_pending());
        }
        assert!(writers.turn());
        assert!(matches!(storing.as_mut().poll(&mut context), Poll::Ready(Ok(_))));
        assert!(writers.turn(), "its row waits for a batch");
        assert!(!writers.turn());
        let new_message =
            [Step::BatchWritten, Step::BatchSynced, Step::Committing(Work::Messages), Step::Committed(Work::Messages)];
        assert_eq!(*notes.0.lock().unwrap(), new_message);
    }

    #[test]
    fn finished_by_hand_it_is_as_if_closed_and_the_directory_is_free() {
        let folder = tempfile::TempDir::new().unwrap();
        let (spool, mut writers) =
            EmbeddedSpool::open_by_hand(&config(&folder), NOW, Arc::new(Notes::default())).unwrap();
        let id = store(&spool, &mut writers, b"one");
        let held = claim(&spool, &mut writers).unwrap();
        let mut settling = pin!(spool.settle(held, Settlement::default()));
        assert!(settling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        assert!(matches!(poll(spool.close()), Poll::Ready(())), "it must not hang");
        writers.finish();
        assert!(matches!(poll(settling), Poll::Ready(Ok(()))));
        assert!(matches!(poll(spool.enqueue(spool.begin(NOW), envelope())), Poll::Ready(Err(_))));
        let spool = EmbeddedSpool::open(&config(&folder), NOW).unwrap();
        assert_eq!((spool.stats().queued_messages, spool.recovery().caught_up), (1, 0));
        assert!(matches!(poll(spool.claim_one(id, NOW)), Poll::Pending | Poll::Ready(Ok(Some(_)))));
    }

    #[test]
    fn rfc5321_6_1_hands_that_let_go_change_nothing_more() {
        let folder = tempfile::TempDir::new().unwrap();
        let notes = Arc::new(Notes::default());
        let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config(&folder), NOW, notes.clone()).unwrap();
        let id = store(&spool, &mut writers, b"one");
        let mut draft = spool.begin(NOW);
        assert!(matches!(poll(draft.body.write(&[b'x'; 300_000])), Poll::Ready(Ok(()))));
        let wal = folder.path().join("spool/state.sqlite-wal");
        assert!(wal.exists());
        let before = notes.0.lock().unwrap().len();
        drop(writers);
        assert!(matches!(poll(draft.body.write(&[b'x'; 300_000])), Poll::Ready(Err(SpoolError::Stopped))));
        drop(draft);
        assert!(wal.exists(), "a process that is killed does not tidy up");
        assert!(matches!(poll(spool.claim_due(NOW, 1)), Poll::Ready(Err(_))));
        drop(spool);
        assert_eq!(notes.0.lock().unwrap().len(), before);
        let spool = EmbeddedSpool::open(&config(&folder), NOW).unwrap();
        assert_eq!(spool.recovery().orphaned_files, 1);
        assert!(spool.shared.index().claim_one(id, NOW).is_some());
    }

    #[test]
    fn rfc5321_6_1_no_id_is_given_twice_though_its_history_is_gone_and_the_clock_was_set_back() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = SpoolConfig { keep_history: Duration::from_secs(60), ..config(&folder) };
        let later = NOW.plus(Duration::from_secs(3600));
        let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config, later, Arc::new(Notes::default())).unwrap();
        let first = by_turning(&mut writers, spool.enqueue(spool.begin(later), envelope())).unwrap();
        let claim = by_turning(&mut writers, spool.claim_one(first, later)).unwrap().unwrap();
        let removed = Settlement { recipients: vec![(0, RecipientState::Removed)], ..Settlement::default() };
        by_turning(&mut writers, spool.settle(claim, removed)).unwrap();
        by_turning(&mut writers, spool.claim_due(later.plus(Duration::from_secs(180)), 1)).unwrap();
        assert!(by_turning(&mut writers, spool.history(first)).unwrap().is_empty(), "it was not pruned");
        writers.finish();
        let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config, NOW, Arc::new(Notes::default())).unwrap();
        // A segment may hold the first one still: by the same id it would stand for the second.
        assert!(store(&spool, &mut writers, b"two") > first);
    }

    /// The writers' state, when the log alone has done its work.
    fn log_turns(writers: &mut ManualWriters) {
        let writers = writers.writers.as_mut().unwrap();
        assert!(writers.log.turn(&writers.log_jobs));
    }

    /// Two messages whose records are durable while neither has its row.
    fn two_in_the_log(spool: &EmbeddedSpool, writers: &mut ManualWriters) -> [QueueId; 2] {
        let mut storing = [0; 2].map(|_| Box::pin(spool.enqueue(spool.begin(NOW), envelope())));
        let mut context = Context::from_waker(Waker::noop());
        storing.iter_mut().for_each(|storing| assert!(storing.as_mut().poll(&mut context).is_pending()));
        log_turns(writers);
        storing.map(|mut storing| match storing.as_mut().poll(&mut context) {
            Poll::Ready(Ok(id)) => id,
            Poll::Ready(Err(_)) | Poll::Pending => panic!("not stored"),
        })
    }

    /// The second of two messages is at its end before the first has its row.
    fn second_ends_first(spool: &EmbeddedSpool, writers: &mut ManualWriters) -> [QueueId; 2] {
        let ids = two_in_the_log(spool, writers);
        let Poll::Ready(Ok(Some(claim))) = poll(spool.claim_one(ids[1], NOW)) else { panic!("not in memory") };
        let removed = Settlement { recipients: vec![(0, RecipientState::Removed)], ..Settlement::default() };
        let mut settling = pin!(spool.settle(claim, removed));
        assert!(settling.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        let turned = writers.writers.as_mut().unwrap();
        assert!(turned.state.turn(&turned.state_jobs));
        assert!(matches!(poll(settling), Poll::Ready(Ok(()))));
        ids
    }

    #[test]
    fn rfc5321_6_1_a_crash_keeps_what_has_no_row_though_a_later_message_has_its_end() {
        let folder = tempfile::TempDir::new().unwrap();
        let (spool, mut writers) =
            EmbeddedSpool::open_by_hand(&config(&folder), NOW, Arc::new(Notes::default())).unwrap();
        // It prunes now, and not while the first of the two has no row.
        assert!(!writers.turn());
        let [first, second] = second_ends_first(&spool, &mut writers);
        drop(writers);
        drop(spool);
        let spool = EmbeddedSpool::open(&config(&folder), NOW).unwrap();
        assert_eq!((spool.stats().queued_messages, spool.recovery().caught_up), (1, 1));
        assert!(spool.shared.index().claim_one(second, NOW).is_none(), "it would be delivered again");
        assert!(spool.shared.index().claim_one(first, NOW).is_some());
    }

    /// A disk that is full while somebody says so.
    #[derive(Default)]
    struct FullWhenToldSo(AtomicBool);

    impl CrashObserver for FullWhenToldSo {
        fn at(&self, _step: Step) {}

        fn has_room(&self, _octets: u64) -> bool {
            !self.0.load(Ordering::SeqCst)
        }
    }

    /// The first of two messages is at its end while a full disk keeps both from having their rows.
    fn first_ends_on_a_full_disk(
        spool: &EmbeddedSpool,
        writers: &mut ManualWriters,
        disk: &FullWhenToldSo,
    ) -> [QueueId; 2] {
        store(spool, writers, b"one");
        let before = claim(spool, writers).unwrap();
        let ids = two_in_the_log(spool, writers);
        let removed = || Settlement { recipients: vec![(0, RecipientState::Removed)], ..Settlement::default() };
        let mut context = Context::from_waker(Waker::noop());
        disk.0.store(true, Ordering::SeqCst);
        let mut given_back = pin!(spool.settle(before, removed()));
        assert!(given_back.as_mut().poll(&mut context).is_pending());
        while writers.turn() {}
        let Poll::Ready(Ok(Some(claim))) = poll(spool.claim_one(ids[0], NOW)) else { panic!("not in memory") };
        let mut between = pin!(spool.settle(claim, removed()));
        assert!(between.as_mut().poll(&mut context).is_pending());
        while writers.turn() {}
        assert!(given_back.as_mut().poll(&mut context).is_pending(), "the disk is full");
        disk.0.store(false, Ordering::SeqCst);
        while writers.turn() {}
        assert!(matches!(given_back.poll(&mut context), Poll::Ready(Ok(()))));
        assert!(matches!(between.poll(&mut context), Poll::Ready(Ok(()))));
        ids
    }

    #[test]
    fn rfc5321_6_1_an_outcome_finds_the_row_that_a_full_disk_has_kept_from_being_written() {
        let (folder, disk) = (tempfile::TempDir::new().unwrap(), Arc::new(FullWhenToldSo::default()));
        let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config(&folder), NOW, disk.clone()).unwrap();
        let [first, second] = first_ends_on_a_full_disk(&spool, &mut writers, &disk);
        drop(writers);
        drop(spool);
        let spool = EmbeddedSpool::open(&config(&folder), NOW).unwrap();
        assert_eq!(spool.stats().queued_messages, 1);
        assert!(spool.shared.index().claim_one(first, NOW).is_none(), "it would be delivered again");
        assert!(spool.shared.index().claim_one(second, NOW).is_some());
    }

    #[test]
    fn rfc5321_6_1_what_is_pruned_does_not_come_back_for_what_has_no_row() {
        let folder = tempfile::TempDir::new().unwrap();
        let config = SpoolConfig { keep_history: Duration::from_secs(60), ..config(&folder) };
        let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config, NOW, Arc::new(Notes::default())).unwrap();
        spool.shared.see_time(NOW.plus(Duration::from_secs(3600)));
        let [first, second] = second_ends_first(&spool, &mut writers);
        drop(writers);
        drop(spool);
        let (spool, mut writers) = EmbeddedSpool::open_by_hand(&config, NOW, Arc::new(Notes::default())).unwrap();
        assert!(by_turning(&mut writers, spool.history(second)).unwrap().is_empty(), "it was not pruned");
        assert_eq!(spool.stats().queued_messages, 1);
        assert!(spool.shared.index().claim_one(first, NOW).is_some());
    }

    /// All that the database says of a message, but its number and place.
    fn rows(folder: &tempfile::TempDir, id: QueueId) -> Vec<String> {
        let state = rusqlite::Connection::open(folder.path().join("spool/state.sqlite")).unwrap();
        let tables = [
            ("messages", "id", "size, due_at, attempts, state, finished_at, held, envelope, message_id"),
            ("recipients", "message", "recipient, address, state, told"),
            ("history", "message", "number, at, event"),
        ];
        let of = |(table, key, columns)| {
            let of_one = format!("SELECT json_array({columns}) FROM {table} WHERE {key} = ?1");
            let mut select = state.prepare(&of_one).unwrap();
            let rows = select.query_map([id.0.cast_signed()], |row| row.get::<_, String>(0)).unwrap();
            rows.map(Result::unwrap).collect::<Vec<_>>()
        };
        tables.into_iter().flat_map(of).collect()
    }

    #[test]
    fn a_row_written_with_its_settlement_is_as_if_written_before_it() {
        let later = NOW.plus(Duration::from_secs(600));
        let waits = RecipientState::Queued(Pending { due: Some(later), ..Pending::default() });
        let endings = [
            (RecipientState::Removed, None, Hold::Scheduled),
            (waits.clone(), Some(later), Hold::Scheduled),
            (waits, Some(later), Hold::Held),
        ];
        for (state, next_due, hold) in endings {
            let folder = tempfile::TempDir::new().unwrap();
            let (spool, mut writers) =
                EmbeddedSpool::open_by_hand(&config(&folder), NOW, Arc::new(Notes::default())).unwrap();
            let settle = |writers: &mut ManualWriters, id| {
                let Poll::Ready(Ok(Some(claim))) = poll(spool.claim_one(id, NOW)) else { panic!("not in memory") };
                let events = vec![Event::Ended { recipients: vec![0], cause: None }];
                let recipients = vec![(0, state.clone())];
                let settlement = Settlement { recipients, events, next_due, hold, ..Settlement::default() };
                by_turning(writers, spool.settle(claim, settlement)).unwrap();
            };
            let [before, _] = two_in_the_log(&spool, &mut writers);
            while writers.turn() {}
            settle(&mut writers, before);
            let [_, with_it] = two_in_the_log(&spool, &mut writers);
            settle(&mut writers, with_it);
            assert_eq!(rows(&folder, before), rows(&folder, with_it));
        }
    }
}
