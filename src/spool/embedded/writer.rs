//! The state writer: one thread, one connection, one transaction for all that waits.
//!
//! Jobs come in the order of the log. What a commit means for memory and for files (a message
//! due again, a segment without anything alive) is done here after the commit and never before,
//! so that it happens also when the task that asked has gone away.
//!
//! A database that cannot be written for want of space or because someone holds a lock is tried
//! again: a settlement given up would deliver its message twice. Any other failure stops the spool.

use super::batch::{Batch, Write, collect, first_record, last_settlements};
use super::forward::Forwarding;
use super::jobs::{Ending, LogJob, LogMark, Moved, Settling, StateJob};
use super::paths;
use super::schema::{can_pass, is_damage, is_full};
use super::shared::{PRUNE_EVERY, SharedState};
use super::state::{RowState, State, Sync};
use super::steps::{Step, Work, Workers};
use crate::clock::Timestamp;
use crate::spool::{Hold, SpoolError};
use std::collections::BTreeSet;
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

/// How long new messages wait for their end, and a batch for more where much goes through: as long as a few syncs.
const GATHERING: Duration = Duration::from_millis(5);
/// How often it is looked meanwhile whether anybody may still come.
const LOOK_EVERY: Duration = Duration::from_millis(1);

/// Outcomes in one batch from which on the next one waits for more.
const BUSY: usize = 2;

/// The thread's own things.
pub(super) struct Writer {
    pub(super) shared: Arc<SharedState>,
    pub(super) state: State,
    mark: LogMark,
    /// Behind the last record that was ever written.
    reached: LogMark,
    /// The first record that was left to the next start.
    left_out: Option<LogMark>,
    pruned_at: Timestamp,
    more_to_prune: bool,
    forwarding: Forwarding,
    /// New messages that wait for the next batch, in the order of the log.
    held: Vec<Write>,
    /// Whether the last batch was a large one.
    is_busy: bool,
    /// What could not be written yet, when it is worked by hand.
    later: Option<Batch>,
}

impl Writer {
    pub(super) const fn new(shared: Arc<SharedState>, state: State, mark: LogMark, log: Sender<LogJob>) -> Self {
        let forwarding = Forwarding::new(log);
        Self {
            shared,
            state,
            mark,
            reached: mark,
            left_out: None,
            pruned_at: Timestamp(0),
            more_to_prune: false,
            forwarding,
            held: Vec::new(),
            is_busy: false,
            later: None,
        }
    }

    /// Serves until [`StateJob::Close`].
    pub(super) fn run(mut self, jobs: &Receiver<StateJob>) {
        loop {
            let mut batch = match jobs.recv_timeout(self.patience()) {
                Ok(first) => self.gather(first, jobs),
                Err(RecvTimeoutError::Timeout) if self.held.is_empty() => {
                    self.tidy();
                    continue;
                }
                Err(RecvTimeoutError::Timeout) => Batch::of(std::mem::take(&mut self.held)),
                Err(RecvTimeoutError::Disconnected) => break,
            };
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

    fn patience(&self) -> Duration {
        match (self.held.is_empty(), self.more_to_prune) {
            (false, _) => GATHERING,
            // Where a batch was not all, the next one waits for nobody.
            (true, true) => Duration::ZERO,
            (true, false) => PRUNE_EVERY,
        }
    }

    /// What waits, and where much goes through what comes within a moment: a transaction costs about the same for one
    /// outcome as for twenty. Nobody comes any more when everything that was claimed is here.
    fn gather(&mut self, first: StateJob, jobs: &Receiver<StateJob>) -> Batch {
        let mut batch = collect(std::mem::take(&mut self.held), first, jobs);
        let mut waited = Duration::ZERO;
        while self.is_busy
            && batch.can_wait()
            && waited < GATHERING
            && batch.settlements() < self.shared.index().claimed()
        {
            std::thread::sleep(LOOK_EVERY);
            waited += LOOK_EVERY;
            batch.gather(jobs);
        }
        batch
    }

    /// Does what waits, without waiting for more. False when that was nothing, or could not be
    /// done now.
    pub(super) fn turn(&mut self, jobs: &Receiver<StateJob>) -> bool {
        let batch = match self.later.take() {
            Some(mut later) => {
                later.take_in(jobs);
                Some(later)
            }
            None => match jobs.try_recv() {
                Ok(first) => Some(collect(std::mem::take(&mut self.held), first, jobs)),
                Err(_) if self.held.is_empty() => None,
                Err(_) => Some(Batch::of(std::mem::take(&mut self.held))),
            },
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
    fn serve(&mut self, mut batch: Batch) -> Option<Batch> {
        // By hand always: what is tried there is what happens under load.
        if self.is_busy || self.shared.paths.steps().workers() == Workers::ByHand {
            self.held.extend(batch.hold_back());
        }
        let Batch { writes, reads, closing, .. } = batch;
        self.is_busy = writes.len() + self.held.len() >= BUSY;
        if let Err(mut writes) = self.write_what_fits(writes) {
            // An outcome that comes meanwhile must find the row of its message before it.
            writes.append(&mut self.held);
            let mut left = Batch::of(writes);
            left.reads = reads.into_iter().filter_map(|read| self.read_meanwhile(read)).collect();
            left.closing = closing;
            return Some(left);
        }
        for read in reads {
            self.read(read);
        }
        None
    }

    /// Writes in smaller and smaller parts where the disk is full: the octets that the log of the database has
    /// already are enough for little at a time.
    fn write_what_fits(&mut self, writes: Vec<Write>) -> Result<(), Vec<Write>> {
        let mut waiting = writes;
        let mut part = waiting.len();
        loop {
            let rest = waiting.split_off(part.min(waiting.len()));
            match self.write(waiting, first_record(&rest)) {
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

    /// Gives the writes back when the disk is full or the database locked. `before`: the first record that is written
    /// after them.
    fn write(&mut self, writes: Vec<Write>, before: Option<LogMark>) -> Result<(), Vec<Write>> {
        if writes.is_empty() {
            return Ok(());
        }
        if self.shared.is_stopped() {
            self.refuse(writes, || SpoolError::Stopped);
            return Ok(());
        }
        let mut result = self.transaction(&writes, before);
        if result.as_ref().is_err_and(is_full) {
            self.make_room();
            result = self.transaction(&writes, before);
        }
        let known = match result {
            Ok(known) => known,
            Err(error) if can_pass(&error) && (writes.len() > 1 || !self.shared.is_closing()) => {
                self.shared.state_waits.store(is_full(&error) && writes.len() == 1, Ordering::Relaxed);
                return Err(writes);
            }
            Err(error) => {
                self.left_out = self.left_out.into_iter().chain(first_record(&writes)).min();
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
    fn transaction(&mut self, writes: &[Write], before: Option<LogMark>) -> rusqlite::Result<Vec<Vec<usize>>> {
        let reached = writes.iter().filter_map(Write::end).fold(self.reached, LogMark::max);
        let unwritten = [before, first_record(&self.held), self.left_out].into_iter().flatten().min();
        let mark = unwritten.map_or(reached, |first| first.min(reached));
        match self.try_transaction(writes, mark) {
            Ok(known) => {
                (self.mark, self.reached) = (mark, reached);
                Ok(known)
            }
            Err(error) => {
                self.state.roll_back();
                Err(error)
            }
        }
    }

    fn try_transaction(&self, writes: &[Write], mark: LogMark) -> rusqlite::Result<Vec<Vec<usize>>> {
        let mut known = Vec::new();
        let outcomes = writes.iter().any(|write| matches!(write, Write::Settle(_) | Write::Keep(..)));
        let forwards = writes.iter().any(|write| matches!(write, Write::Forward(_)));
        let work = match (outcomes, forwards) {
            (true, _) => Work::Outcomes,
            (false, true) => Work::Forwarding,
            (false, false) => Work::Messages,
        };
        self.state.begin_with(if work.is_synced() { Sync::AtCommit } else { Sync::Later })?;
        let settlements = last_settlements(writes);
        let mut whole = BTreeSet::new();
        for write in writes {
            match write {
                Write::Insert(row, _) => {
                    let settling = settlements.get(&row.waiting.entry.id).copied();
                    if self.state.insert_settled(row, settling)? && settling.is_some() {
                        whole.insert(row.waiting.entry.id);
                    }
                }
                Write::Settle(settling) => {
                    let row = if whole.contains(&settling.entry.id) { RowState::Settled } else { RowState::Before };
                    known.push(self.state.settle(settling, row)?);
                }
                Write::Forward(moved) => known.push(self.state.forward(moved)?),
                Write::Keep(rows, _) => self.state.keep(rows)?,
            }
        }
        if mark != self.mark {
            self.state.set_mark(mark)?;
        }
        self.state.commit(&self.shared.paths, work)?;
        Ok(known)
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
    pub(super) fn sweep(&self) {
        let dead = self.shared.dead_segments();
        // Before their records go, the database must not depend on its own log any more: with
        // that damaged, finished messages would come back without content.
        if !dead.is_empty() && self.state.checkpoint().is_ok() {
            self.shared.paths.at(Step::Checkpointed);
            self.shared.remove_segments(&dead);
        }
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
        // What is pruned must lie before the mark, or the next start brings it back.
        let held = std::mem::take(&mut self.held);
        if let Err(held) = self.write_what_fits(held) {
            self.held = held;
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
    pub(super) fn fail(&self, error: rusqlite::Error) {
        if is_damage(&error) {
            let _ = paths::create_new(&self.shared.paths.state_suspect());
            self.shared.paths.at(Step::PutAside);
        }
        self.shared.stop(&error.into());
    }
}
