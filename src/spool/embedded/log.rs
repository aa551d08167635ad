//! The segment log: one writer thread, append only.
//!
//! The writer takes everything that waits, writes it at once, syncs once, and answers all
//! (RFC 5321 §4.2.5: 250 means that we have taken responsibility). A sync or write that fails is
//! never tried again as if it had worked: everyone waiting gets an error and the spool stops.
//! Only "no space" on a write is survived, because the segment can be cut back to where it was.
//!
//! Whatever follows from a durable record (the row in the state database, the settlement that a
//! report belongs to) is handed on from here, in the order of the log, so that nothing is lost
//! when the task that asked for it has gone away.

use super::jobs::{
    Accepting, ContentPlace, LogJob, Moved, Moving, NewMessage, RecordPlace, Settling, StateJob, Storing,
};
use super::paths::{create_new, full_or_io, segment_name, sync_folder};
use super::segments::Segment;
use super::shared::SharedState;
use super::steps::Step;
use crate::spool::SpoolError;
use crate::spool::record::{Mark, NewRecord, RecordContent};
use std::fs::File;
use std::hash::{BuildHasher, Hasher};
use std::io::Error;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError};
use std::time::Duration;

/// A segment that has grown to this is followed by a new one. Large enough to make files rare,
/// small enough to be read whole into memory at recovery.
const SEGMENT_SIZE: u64 = 64 * 1024 * 1024;

/// The most octets written before a sync, so that those who wait do not wait for megabytes more.
const BATCH_SIZE: usize = 8 * 1024 * 1024;

/// How long a settlement waits for space before it is tried again.
const FULL_DISK_PAUSE: Duration = Duration::from_secs(1);

/// The segment being written.
pub(super) struct Log {
    shared: Arc<SharedState>,
    state: Sender<StateJob>,
    number: u32,
    mark: Mark,
    /// None until there is room for its inode.
    file: Option<File>,
    end: u64,
    buffer: Vec<u8>,
    /// Settlements that wait for space.
    postponed: Vec<(Box<Settling>, Vec<NewMessage>)>,
}

impl Log {
    /// Starts a new segment after `last`; an old one may end in a torn record.
    pub(super) fn start(shared: Arc<SharedState>, state: Sender<StateJob>, last: u32) -> Result<Self, SpoolError> {
        let (number, mark) = (last.saturating_add(1), random_mark());
        let file = match new_segment(&shared, number, mark) {
            Err(SpoolError::Full) => None,
            made => Some(made?),
        };
        Ok(Self { shared, state, number, mark, file, end: 0, buffer: Vec::new(), postponed: Vec::new() })
    }

    /// Serves until [`LogJob::Close`].
    pub(super) fn run(mut self, jobs: &Receiver<LogJob>) {
        loop {
            let first = if self.postponed.is_empty() {
                jobs.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else {
                jobs.recv_timeout(FULL_DISK_PAUSE)
            };
            let (batch, next) = self.collect(first, jobs);
            self.store(batch);
            match next {
                AfterJob::More => {}
                AfterJob::Close => break,
            }
        }
        // What waits for space may have got it from the reserve.
        let (last, _) = self.collect(Err(RecvTimeoutError::Timeout), jobs);
        self.store(last);
        self.give_up();
    }

    /// Does what waits, without waiting for more. False when that was nothing, or the disk has no
    /// room for it.
    pub(super) fn turn(&mut self, jobs: &Receiver<LogJob>) -> bool {
        let first = take_one(jobs);
        let (come, before) = (first.is_ok(), self.postponed.len());
        let (batch, _) = self.collect(first, jobs);
        self.store(batch);
        come || self.postponed.len() < before
    }

    /// Nothing comes any more: what waits for space has waited in vain.
    pub(super) fn give_up(mut self) {
        for (settling, _) in std::mem::take(&mut self.postponed) {
            self.shared.give_up(*settling, SpoolError::Full);
        }
    }

    /// Encodes a job, if one came, and all that wait with it.
    fn collect(
        &mut self,
        first: Result<LogJob, RecvTimeoutError>,
        jobs: &Receiver<LogJob>,
    ) -> (Vec<Encoded>, AfterJob) {
        self.buffer.clear();
        let mut batch = Vec::new();
        let mut next = first;
        for (settling, reports) in std::mem::take(&mut self.postponed) {
            batch.push(self.encode_settlement(settling, reports));
        }
        loop {
            match next {
                Ok(LogJob::Accept(accepting)) => {
                    let places = accepting.messages.iter().map(|storing| self.encode(&storing.message)).collect();
                    batch.push(Encoded::Accept(accepting, places));
                }
                Ok(LogJob::Settle(settling, reports)) => batch.push(self.encode_settlement(settling, reports)),
                Ok(LogJob::Forward(moving)) => batch.push(self.encode_copies(moving)),
                Ok(LogJob::Close) | Err(RecvTimeoutError::Disconnected) => return (batch, AfterJob::Close),
                Err(RecvTimeoutError::Timeout) => return (batch, AfterJob::More),
            }
            if self.buffer.len() >= BATCH_SIZE {
                return (batch, AfterJob::More);
            }
            next = take_one(jobs);
        }
    }

    fn encode_settlement(&mut self, settling: Box<Settling>, reports: Vec<NewMessage>) -> Encoded {
        let place = |report: NewMessage| {
            let place = self.encode(&report);
            (report, place)
        };
        Encoded::Settle(settling, reports.into_iter().map(place).collect())
    }

    fn encode_copies(&mut self, moving: Vec<Moving>) -> Encoded {
        let copy = |Moving { id, from, record }| Moved { id, from, to: self.append(&record, from.content) };
        Encoded::Forward(moving.into_iter().map(copy).collect())
    }

    fn encode(&mut self, message: &NewMessage) -> RecordPlace {
        self.append(&message.record, message.content)
    }

    fn append(&mut self, record: &NewRecord, content: ContentPlace) -> RecordPlace {
        let offset = self.end + self.buffer.len() as u64;
        let length = record.encode(self.mark, &mut self.buffer);
        RecordPlace { segment: self.number, offset, length, content }
    }

    fn store(&mut self, batch: Vec<Encoded>) {
        if batch.is_empty() {
            return;
        }
        let written = if self.shared.is_stopped() { Err(SpoolError::Stopped) } else { self.write() };
        match written {
            Ok(()) => {}
            Err(SpoolError::Full) => return self.postpone(batch),
            Err(error) => {
                self.shared.stop(&error);
                return self.refuse(batch);
            }
        }
        self.shared.log_waits.store(false, Ordering::Relaxed);
        for encoded in batch {
            self.hand_on(encoded);
        }
        self.shared.changed.notify_one();
        if self.end >= SEGMENT_SIZE {
            self.rotate();
        }
    }

    /// New mail is refused on a full disk. A settlement waits: refused, its message would be
    /// delivered again and again.
    fn postpone(&mut self, batch: Vec<Encoded>) {
        for encoded in batch {
            match encoded {
                Encoded::Accept(accepting, _) => {
                    self.shared.unwritten.message_ends();
                    let _ = accepting.answer.send(Err(SpoolError::Full));
                }
                Encoded::Settle(settling, reports) => {
                    self.postponed.push((settling, reports.into_iter().map(|(report, _)| report).collect()));
                }
                Encoded::Forward(_) => {
                    let _ = self.state.send(StateJob::Forward(Vec::new()));
                }
            }
        }
        // What the reserve gives is tried first.
        if !self.postponed.is_empty() && !self.shared.reserve.give_free() {
            self.shared.log_waits.store(true, Ordering::Relaxed);
        }
    }

    /// The disk has failed. Dropping an accepted message's file removes it: nobody was told 250.
    fn refuse(&self, batch: Vec<Encoded>) {
        for encoded in batch {
            match encoded {
                Encoded::Accept(accepting, _) => {
                    self.shared.unwritten.message_ends();
                    let _ = accepting.answer.send(Err(SpoolError::Stopped));
                }
                Encoded::Settle(settling, _) => self.shared.give_up(*settling, SpoolError::Stopped),
                Encoded::Forward(_) => {}
            }
        }
    }

    fn write(&mut self) -> Result<(), SpoolError> {
        let file = match self.file.take() {
            Some(file) => file,
            None => new_segment(&self.shared, self.number, self.mark)?,
        };
        let file = &*self.file.insert(file);
        let room = self.shared.paths.steps().room(self.buffer.len() as u64);
        if let Err(error) = room.and_then(|()| file.write_all_at(&self.buffer, self.end)) {
            let error = full_or_io("writing to the spool", error);
            if matches!(error, SpoolError::Full) {
                file.set_len(self.end).map_err(|e| failed("cutting a segment back", e))?;
                self.shared.paths.at(Step::BatchCutBack);
            }
            return Err(error);
        }
        self.shared.paths.at(Step::BatchWritten);
        file.sync_data().map_err(|e| failed("syncing the spool", e))?;
        self.shared.paths.at(Step::BatchSynced);
        self.end += self.buffer.len() as u64;
        self.shared.grow(self.number, self.buffer.len() as u64);
        if self.buffer.capacity() > BATCH_SIZE {
            self.buffer = Vec::new();
        }
        Ok(())
    }

    /// What follows from a durable record. A closed state thread is no loss here: the next start
    /// catches up from the segments.
    fn hand_on(&self, encoded: Encoded) {
        match encoded {
            Encoded::Accept(accepting, places) => self.hand_on_accepted(*accepting, &places),
            Encoded::Settle(mut settling, reports) => {
                let mut index = self.shared.index();
                reports.iter().for_each(|(_, place)| index.count_record(*place));
                drop(index);
                settling.reports = reports.iter().map(|(report, place)| report.row(*place)).collect();
                let _ = self.state.send(StateJob::Settle(settling));
            }
            Encoded::Forward(moved) => {
                let mut index = self.shared.index();
                moved.iter().for_each(|moved| index.count_record(moved.to));
                drop(index);
                let _ = self.state.send(StateJob::Forward(moved));
            }
        }
    }

    fn hand_on_accepted(&self, accepting: Accepting, places: &[RecordPlace]) {
        let Accepting { messages, permit, answer } = accepting;
        let (mut permit, last) = (Some(permit), messages.len().saturating_sub(1));
        for (nth, (storing, place)) in messages.into_iter().zip(places).enumerate() {
            let Storing { message, file } = storing;
            if let (Some(file), RecordContent::External { size, .. }) = (file, message.record.content()) {
                file.keep();
                self.shared.add_bytes(*size);
            }
            let row = message.row(*place);
            let (waiting, due, id) = (row.waiting.clone(), row.due, message.entry.id);
            let _ = self.state.send(StateJob::Insert(Box::new(row), permit.take_if(|_| nth == last)));
            let mut index = self.shared.index();
            index.count_record(*place);
            index.add(waiting, due);
            match message.record.content() {
                RecordContent::Inline { bytes, .. } => index.keep_content(id, bytes),
                RecordContent::External { .. } => {}
            }
            drop(index);
        }
        self.shared.unwritten.message_ends();
        let _ = answer.send(Ok(()));
    }

    /// Without a new segment nothing can be accepted: that is a failure like that of a write,
    /// unless the disk is full; then the old segment grows on.
    fn rotate(&mut self) {
        let (number, mark) = (self.number.saturating_add(1), random_mark());
        match new_segment(&self.shared, number, mark) {
            Ok(file) => {
                (self.number, self.mark, self.file, self.end) = (number, mark, Some(file), 0);
                let _ = self.state.send(StateJob::Sweep);
            }
            Err(SpoolError::Full) => {}
            Err(error) => self.shared.stop(&error),
        }
    }
}

/// Whether more may come.
enum AfterJob {
    More,
    Close,
}

/// A job whose records are in the buffer.
enum Encoded {
    Accept(Box<Accepting>, Vec<RecordPlace>),
    Settle(Box<Settling>, Vec<(NewMessage, RecordPlace)>),
    Forward(Vec<Moved>),
}

/// The next job, if one waits.
fn take_one(jobs: &Receiver<LogJob>) -> Result<LogJob, RecvTimeoutError> {
    jobs.try_recv().map_err(|e| match e {
        TryRecvError::Empty => RecvTimeoutError::Timeout,
        TryRecvError::Disconnected => RecvTimeoutError::Disconnected,
    })
}

fn new_segment(shared: &SharedState, number: u32, mark: Mark) -> Result<File, SpoolError> {
    let path = shared.paths.segments().join(segment_name(number, mark));
    let file = create_new(&path).map_err(|e| full_or_io("making a segment", e))?;
    shared.paths.at(Step::SegmentMade);
    sync_folder(&shared.paths.segments()).map_err(|e| failed("syncing the segment folder", e))?;
    shared.paths.at(Step::SegmentFolderSynced);
    shared.begin_segment(number, Segment { mark, path, bytes: 0 });
    Ok(file)
}

/// Octets that a sender cannot guess: the standard library keys its hashers from the system's
/// source of randomness.
fn random_mark() -> Mark {
    Mark(std::collections::hash_map::RandomState::new().build_hasher().finish().to_be_bytes())
}

fn failed(action: &'static str, source: Error) -> SpoolError {
    SpoolError::Io { action, source }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests put a file in place that cannot be written")]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::config::SpoolConfig;
    use crate::envelope::{QueueId, testing};
    use crate::spool::SpoolEntry;
    use crate::spool::embedded::paths::SpoolPaths;
    use crate::spool::embedded::reserve::Reserve;
    use crate::spool::embedded::segments::Segments;
    use crate::spool::embedded::settle::encode_envelope;
    use crate::spool::embedded::shared::{HistoryLimits, Start};
    use crate::spool::embedded::space::Space;
    use crate::spool::embedded::steps::Steps;
    use crate::spool::record::RecordKind;
    use bytes::Bytes;
    use std::sync::mpsc::channel;
    use tokio::sync::oneshot;

    fn shared(folder: &std::path::Path) -> Arc<SharedState> {
        let paths = SpoolPaths::create(folder, Steps::unobserved()).unwrap();
        let lock = paths.lock().unwrap();
        Arc::new(SharedState::new(Start {
            reserve: Reserve::new(paths.clone(), &SpoolConfig::default()),
            paths,
            space: Space::new(&SpoolConfig::default()),
            history: HistoryLimits::new(&SpoolConfig::default()),
            segments: Segments::default(),
            index: crate::spool::embedded::index::Index::default(),
            bytes: 0,
            damaged: 0,
            now: Timestamp(0),
            lock,
        }))
    }

    fn accept(id: u64) -> (LogJob, oneshot::Receiver<Result<(), SpoolError>>) {
        let envelope = testing::report(&[]);
        let json = encode_envelope(&envelope).unwrap();
        let content = RecordContent::Inline { bytes: Bytes::new(), crc: 0 };
        let record = NewRecord::new(QueueId(id), json.clone(), content, RecordKind::OnItsOwn).unwrap();
        let entry = SpoolEntry::new(QueueId(id), envelope, 0);
        let (content, due, message_id) = (ContentPlace::Inline, Timestamp(0), None);
        let message = NewMessage { entry, envelope: json, record, content, due, message_id };
        let permit = Arc::new(tokio::sync::Semaphore::new(1)).try_acquire_owned().unwrap();
        let (answer, answered) = oneshot::channel();
        let messages = vec![Storing { message, file: None }];
        (LogJob::Accept(Box::new(Accepting { messages, permit, answer })), answered)
    }

    #[test]
    fn rfc5321_4_2_5_a_failed_write_is_an_error_for_all_who_wait_and_stops_the_spool() {
        let folder = tempfile::TempDir::new().unwrap();
        let shared = shared(folder.path());
        let (state, state_jobs) = channel();
        let mut log = Log::start(Arc::clone(&shared), state, 0).unwrap();
        let good = log.file.replace(File::open("/dev/null").unwrap());
        let (jobs, queue) = channel();
        let answers: Vec<_> = (0..3)
            .map(|id| {
                let (job, answered) = accept(id);
                jobs.send(job).unwrap();
                answered
            })
            .collect();
        let (batch, _) = log.collect(take_one(&queue), &queue);
        log.store(batch);
        for mut answered in answers {
            assert!(matches!(answered.try_recv(), Ok(Err(SpoolError::Stopped))));
        }
        assert!(shared.is_stopped() && shared.backlog.is_closed());
        // A disk that works again changes nothing: only a restart finds out what is on it.
        log.file = good;
        let (job, mut answered) = accept(4);
        jobs.send(job).unwrap();
        let (batch, _) = log.collect(take_one(&queue), &queue);
        log.store(batch);
        assert!(matches!(answered.try_recv(), Ok(Err(SpoolError::Stopped))));
        assert_eq!(log.file.unwrap().metadata().unwrap().len(), 0);
        assert!(state_jobs.try_recv().is_err(), "nothing was handed on");
        assert_eq!(shared.failure().borrow().as_deref().map(|f| f.starts_with("writing to the spool")), Some(true));
    }
}
