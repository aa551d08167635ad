//! The state writer: one thread, one connection, one transaction for all that waits.
//!
//! Jobs come in the order of the log. What a commit means for memory and for files (a message
//! due again, a segment without anything alive) is done here after the commit and never before,
//! so that it happens also when the task that asked has gone away.
//!
//! A database that cannot be written for want of space or because someone holds a lock is tried
//! again: a settlement given up would deliver its message twice. Any other failure stops the spool.

use super::batch::{Batch, Write, collect};
use super::forward::Forwarding;
use super::jobs::{Ending, LogJob, LogMark, Moved, RecordPlace, Settling, StateJob, Waiting};
use super::paths;
use super::schema::{can_pass, is_damage, is_full};
use super::shared::{PRUNE_EVERY, SharedState};
use super::state::{State, Sync};
use super::steps::{Step, Work};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::spool::{Hold, SpoolEntry, SpoolError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::Duration;

/// Into how many parts a batch is cut that a full disk does not take as a whole.
const PARTS_OF_BATCH: usize = 8;

/// Between two tries while the disk is full or the database locked.
const PAUSE: Duration = Duration::from_millis(500);

/// Messages pruned in one transaction: a few milliseconds of work.
const PRUNE_BATCH: u32 = 200;

/// The thread's own things.
pub(super) struct Writer {
    shared: Arc<SharedState>,
    state: State,
    mark: LogMark,
    pruned_at: Timestamp,
    more_to_prune: bool,
    forwarding: Forwarding,
    /// What could not be written yet, when it is worked by hand.
    later: Option<Batch>,
}

impl Writer {
    pub(super) const fn new(shared: Arc<SharedState>, state: State, mark: LogMark, log: Sender<LogJob>) -> Self {
        let forwarding = Forwarding::new(log);
        Self { shared, state, mark, pruned_at: Timestamp(0), more_to_prune: false, forwarding, later: None }
    }

    /// Serves until [`StateJob::Close`].
    pub(super) fn run(mut self, jobs: &Receiver<StateJob>) {
        loop {
            // Where a batch was not all, the next one waits for nobody.
            let patience = if self.more_to_prune { Duration::ZERO } else { PRUNE_EVERY };
            let first = match jobs.recv_timeout(patience) {
                Ok(first) => first,
                Err(RecvTimeoutError::Timeout) => {
                    self.tidy();
                    continue;
                }
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let mut batch = collect(first, jobs);
            let mut closing = batch.closing;
            while let Some(later) = self.serve(batch) {
                std::thread::sleep(PAUSE);
                batch = later;
                // Whoever reads does not wait for the disk to have room.
                batch.take_in(jobs);
                closing |= batch.closing;
            }
            if closing {
                break;
            }
            self.tidy();
        }
        // Closed properly, the log of the database would go, and the next start would find no room for another.
        if self.shared.reserve.is_short(&self.shared.space) {
            self.abandon();
        }
    }

    /// Does what waits, without waiting for more. False when that was nothing, or could not be
    /// done now.
    pub(super) fn turn(&mut self, jobs: &Receiver<StateJob>) -> bool {
        let batch = match self.later.take() {
            Some(mut later) => {
                later.take_in(jobs);
                Some(later)
            }
            None => jobs.try_recv().ok().map(|first| collect(first, jobs)),
        };
        let worked = batch.is_some();
        self.later = batch.and_then(|batch| self.serve(batch));
        if self.later.is_some() {
            return false;
        }
        self.tidy() || worked
    }

    /// It is as if the process had been killed: closing the database must not change its files.
    pub(super) fn abandon(self) {
        self.state.abandon();
    }

    /// Does a batch, or gives it back when that may work later.
    fn serve(&mut self, batch: Batch) -> Option<Batch> {
        let Batch { writes, reads, closing } = batch;
        if let Err(writes) = self.write_what_fits(writes) {
            let reads = reads.into_iter().filter_map(|read| self.read_meanwhile(read)).collect();
            return Some(Batch { writes, reads, closing });
        }
        for read in reads {
            self.read(read);
        }
        None
    }

    /// Reads while writes wait. Gives back what asks for a row that may be among them.
    fn read_meanwhile(&self, read: StateJob) -> Option<StateJob> {
        let is_there = |id: &QueueId| matches!(self.state.place(*id), Ok(Some(_)));
        let can_be_read = match &read {
            StateJob::Load(ids, _) => ids.iter().all(is_there),
            StateJob::Place(id, _) => is_there(id),
            StateJob::History(..) => true,
            StateJob::Insert(..)
            | StateJob::Settle(..)
            | StateJob::Forward(_)
            | StateJob::Keep(..)
            | StateJob::Sweep
            | StateJob::Tidy
            | StateJob::Close => false,
        };
        if !can_be_read {
            return Some(read);
        }
        self.read(read);
        None
    }

    /// Writes in smaller and smaller parts where the disk is full: the octets that the log of the database has
    /// already are enough for little at a time.
    fn write_what_fits(&mut self, writes: Vec<Write>) -> Result<(), Vec<Write>> {
        let mut waiting = writes;
        let mut part = waiting.len();
        loop {
            let rest = waiting.split_off(part.min(waiting.len()));
            match self.write(waiting) {
                Ok(()) if rest.is_empty() => return Ok(()),
                Ok(()) => waiting = rest,
                Err(mut unwritten) if part > 1 => {
                    unwritten.extend(rest);
                    waiting = unwritten;
                    part = part.div_ceil(PARTS_OF_BATCH);
                }
                Err(mut unwritten) => {
                    unwritten.extend(rest);
                    return Err(unwritten);
                }
            }
        }
    }

    /// Gives the writes back when the disk is full or the database locked.
    fn write(&mut self, writes: Vec<Write>) -> Result<(), Vec<Write>> {
        if writes.is_empty() {
            return Ok(());
        }
        if self.shared.is_stopped() {
            self.refuse(writes, || SpoolError::Stopped);
            return Ok(());
        }
        let mut result = self.transaction(&writes);
        if result.as_ref().is_err_and(is_full) {
            self.make_room();
            result = self.transaction(&writes);
        }
        let known = match result {
            Ok(known) => known,
            Err(error) if can_pass(&error) && (writes.len() > 1 || !self.shared.is_closing()) => {
                self.shared.state_waits.store(is_full(&error) && writes.len() == 1, Ordering::Relaxed);
                return Err(writes);
            }
            Err(error) => {
                if can_pass(&error) {
                    self.refuse(writes, || SpoolError::Full);
                } else {
                    self.fail(error);
                    self.refuse(writes, || SpoolError::Stopped);
                }
                return Ok(());
            }
        };
        self.shared.state_waits.store(false, Ordering::Relaxed);
        let mut known = known.into_iter();
        for write in writes {
            match write {
                Write::Insert(_, permit) => drop(permit),
                Write::Settle(settling) => self.settled(*settling, &known.next().unwrap_or_default()),
                Write::Forward(moved) => self.forwarded(&moved, &known.next().unwrap_or_default()),
                Write::Keep(_, answer) => {
                    let _nobody_waits = answer.send(Ok(()));
                }
            }
        }
        self.shared.changed.notify_one();
        self.sweep();
        Ok(())
    }

    /// Inserts need no answer: their records are durable, and the next start finds them.
    fn refuse(&self, writes: Vec<Write>, error: impl Fn() -> SpoolError) {
        for write in writes {
            match write {
                Write::Insert(..) | Write::Forward(_) => {}
                Write::Settle(settling) => self.shared.give_up(*settling, error()),
                Write::Keep(_, answer) => {
                    let _nobody_waits = answer.send(Err(error()));
                }
            }
        }
    }

    /// Gives for each settlement the positions of the reports that were known before, and for each
    /// batch of copies those that nobody needs.
    fn transaction(&mut self, writes: &[Write]) -> rusqlite::Result<Vec<Vec<usize>>> {
        let result = self.try_transaction(writes);
        match result {
            Ok((known, mark)) => {
                self.mark = mark;
                Ok(known)
            }
            Err(error) => {
                self.state.roll_back();
                Err(error)
            }
        }
    }

    fn try_transaction(&self, writes: &[Write]) -> rusqlite::Result<(Vec<Vec<usize>>, LogMark)> {
        let mut known = Vec::new();
        let mut mark = self.mark;
        let outcomes = writes.iter().any(|write| matches!(write, Write::Settle(_) | Write::Keep(..)));
        let forwards = writes.iter().any(|write| matches!(write, Write::Forward(_)));
        let work = match (outcomes, forwards) {
            (true, _) => Work::Outcomes,
            (false, true) => Work::Forwarding,
            (false, false) => Work::Messages,
        };
        self.state.begin_with(if work.is_synced() { Sync::AtCommit } else { Sync::Later })?;
        for write in writes {
            match write {
                Write::Insert(row, _) => {
                    self.state.insert(row)?;
                    let place = row.waiting.place;
                    mark = LogMark::after(place);
                }
                Write::Settle(settling) => known.push(self.state.settle(settling)?),
                Write::Forward(moved) => {
                    known.push(self.state.forward(moved)?);
                    mark = moved.last().map_or(mark, |last| LogMark::after(last.to));
                }
                Write::Keep(rows, _) => self.state.keep(rows)?,
            }
        }
        if mark != self.mark {
            self.state.set_mark(mark)?;
        }
        self.state.commit(&self.shared.paths, work)?;
        Ok((known, mark))
    }

    /// What a committed settlement means for memory and files.
    fn settled(&self, mut settling: Settling, known: &[usize]) {
        for other in std::mem::take(&mut settling.others) {
            self.settled(other, &[]);
        }
        let mut index = self.shared.index();
        for (position, report) in std::mem::take(&mut settling.reports).into_iter().enumerate() {
            if known.contains(&position) {
                index.forget_record(report.waiting.place);
            } else {
                index.add(report.waiting, report.due);
            }
        }
        let ended = match settling.ending {
            Ending::Continues => {
                index.update(&settling.entry);
                None
            }
            Ending::Waits { due, held } => {
                index.wait_again(settling.entry.id, (held == Hold::Scheduled).then_some(due));
                None
            }
            Ending::Finished => index.finish(&settling.entry),
        };
        drop(index);
        if let Some(place) = ended {
            self.shared.remove_content(settling.entry.id, place.content, settling.entry.size);
        }
        self.shared.unwritten.outcome_ends();
        let _ = settling.answer.send(Ok(()));
    }

    /// What committed places of copies mean for memory.
    fn forwarded(&mut self, moved: &[Moved], unneeded: &[usize]) {
        let mut index = self.shared.index();
        for (position, moved) in moved.iter().enumerate() {
            if unneeded.contains(&position) {
                index.forget_record(moved.to);
            } else {
                index.move_record(moved);
            }
        }
        drop(index);
        self.forwarding.answered(moved, self.shared.latest_time());
    }

    /// The disk is full. Besides what the reserve gives, the log of the database can be written
    /// again once all of it was moved into the database.
    fn make_room(&self) {
        self.shared.reserve.give_free();
        if self.state.checkpoint().is_ok() {
            self.shared.paths.at(Step::Checkpointed);
        }
    }

    /// Removes segments in which nothing is alive.
    fn sweep(&self) {
        let dead = self.shared.dead_segments();
        // Before their records go, the database must not depend on its own log any more: with
        // that damaged, finished messages would come back without content.
        if !dead.is_empty() && self.state.checkpoint().is_ok() {
            self.shared.paths.at(Step::Checkpointed);
            self.shared.remove_segments(&dead);
        }
    }

    fn read(&self, job: StateJob) {
        match job {
            StateJob::Load(ids, answer) => {
                let loaded = ids.into_iter().map(|id| self.load(id)).collect::<rusqlite::Result<Vec<_>>>();
                let _ = answer.send(match loaded {
                    Ok(loaded) => Ok(self.hand_to_leases(loaded.into_iter().flatten().collect())),
                    Err(error) => {
                        self.fail(error);
                        Err(SpoolError::Stopped)
                    }
                });
            }
            StateJob::Place(id, answer) => {
                let _ = answer.send(self.state.place(id).map_err(SpoolError::from));
            }
            StateJob::History(id, answer) => {
                let _ = answer.send(self.state.history(id).map_err(SpoolError::from));
            }
            StateJob::Sweep => self.sweep(),
            // It follows every batch.
            StateJob::Tidy => {}
            StateJob::Insert(..)
            | StateJob::Settle(..)
            | StateJob::Forward(_)
            | StateJob::Keep(..)
            | StateJob::Close => {}
        }
    }

    /// Memory has them before anything else can happen to their records.
    fn hand_to_leases(&self, loaded: Vec<Waiting>) -> Vec<Waiting> {
        let mut index = self.shared.index();
        loaded.iter().for_each(|waiting| index.loaded(waiting.clone()));
        drop(index);
        loaded
    }

    /// Reads a message; if its row makes no sense, from its record, which errs towards a
    /// duplicate. `None` when neither can be read: it is counted, and stays claimed until a restart.
    fn load(&self, id: QueueId) -> rusqlite::Result<Option<Waiting>> {
        let Some(place) = self.state.place(id)? else {
            self.shared.count_damage(id);
            return Ok(None);
        };
        match self.state.load(id, place) {
            Ok(waiting) => Ok(Some(waiting)),
            Err(error) if error.sqlite_error_code().is_some() => Err(error),
            Err(_) => Ok(self.load_from_record(id, place)),
        }
    }

    fn load_from_record(&self, id: QueueId, place: RecordPlace) -> Option<Waiting> {
        let record = self.shared.read_record(id, place).ok()?;
        let envelope: Envelope = serde_json::from_slice(&record.envelope).ok()?;
        let mut entry = SpoolEntry::new(id, envelope, record.content.size());
        if let Ok(states) = self.state.recipients(id, entry.recipients.len()) {
            entry.recipients = states;
        }
        Some(Waiting { entry, place })
    }

    /// Work that is nobody's. True when there is more at once.
    fn tidy(&mut self) -> bool {
        self.prune();
        self.shared.reserve.restore(&self.shared.space, self.shared.latest_time());
        match self.forwarding.begin(&self.shared, &self.state) {
            Ok(begun) => begun,
            Err(error) => {
                if !can_pass(&error) {
                    self.fail(error);
                }
                false
            }
        }
    }

    /// Removes a batch of what was finished long ago. That it fails is no harm: it comes round again.
    fn prune(&mut self) {
        let now = self.shared.latest_time();
        if now.since(self.pruned_at).max(self.pruned_at.since(now)) < PRUNE_EVERY || self.shared.is_stopped() {
            return;
        }
        let (over, most_bytes) = self.shared.history_until(now);
        let pruned = self.state.begin().and_then(|()| {
            let too_large = self.state.used_bytes()? > most_bytes;
            let before = if too_large { Timestamp(i64::MAX) } else { over };
            let pruned = self.state.prune(before, PRUNE_BATCH)?;
            if pruned + self.state.prune_sessions(before, now, PRUNE_BATCH)? > 0 {
                self.state.commit(&self.shared.paths, Work::Pruning)?;
            }
            Ok(pruned)
        });
        self.state.roll_back();
        // That it failed is no reason to try again at once.
        self.more_to_prune = pruned.as_ref().is_ok_and(|pruned| *pruned == PRUNE_BATCH as usize);
        if pruned.is_ok_and(|pruned| pruned < PRUNE_BATCH as usize) {
            self.pruned_at = now;
        }
    }

    /// The database has failed. After damage a note tells the next start to check all of it.
    fn fail(&self, error: rusqlite::Error) {
        if is_damage(&error) {
            let _ = paths::create_new(&self.shared.paths.state_suspect());
            self.shared.paths.at(Step::PutAside);
        }
        self.shared.stop(&error.into());
    }
}
