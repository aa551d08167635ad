//! Jobs of the state writer that share a transaction.

use super::jobs::{KeptRows, LogMark, MessageRow, Moved, ReplyTo, Settling, StateJob};
use crate::envelope::QueueId;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Receiver;
use tokio::sync::OwnedSemaphorePermit;

/// Jobs in one transaction: enough to share a sync, few enough to answer soon.
const BATCH_JOBS: usize = 1000;

/// Jobs taken together, by what is done with them.
#[derive(Default)]
pub(super) struct Batch {
    /// In the order they came.
    pub(super) writes: Vec<Write>,
    pub(super) reads: Vec<StateJob>,
    pub(super) closing: bool,
    /// The first of the writes, that another batch has held back.
    held_before: usize,
}

pub(super) enum Write {
    Insert(Box<MessageRow>, Option<OwnedSemaphorePermit>),
    Settle(Box<Settling>),
    Forward(Vec<Moved>),
    Keep(Box<KeptRows>, ReplyTo<()>),
}

/// What waits, behind the first of it and what was held back.
pub(super) fn collect(held: Vec<Write>, first: StateJob, jobs: &Receiver<StateJob>) -> Batch {
    let mut batch = Batch::of(held);
    batch.add(first);
    batch.gather(jobs);
    batch
}

/// Whom settlements are of.
fn settled(writes: &[Write]) -> BTreeSet<QueueId> {
    let settlements = writes.iter().filter_map(Write::settlement);
    settlements.flat_map(|settling| settling.others.iter().chain([settling])).map(|s| s.entry.id).collect()
}

/// The last settlement of each message, unless one comes with that of another message.
pub(super) fn last_settlements(writes: &[Write]) -> BTreeMap<QueueId, &Settling> {
    let settlements = || writes.iter().filter_map(Write::settlement);
    let beside: BTreeSet<QueueId> = settlements().flat_map(|s| &s.others).map(|other| other.entry.id).collect();
    settlements().map(|s| (s.entry.id, s)).filter(|(id, _)| !beside.contains(id)).collect()
}

/// Where the first new message begins.
pub(super) fn first_record(writes: &[Write]) -> Option<LogMark> {
    writes.iter().filter_map(Write::begin).min()
}

impl Write {
    /// Of a new message: where its record begins.
    fn begin(&self) -> Option<LogMark> {
        match self {
            Self::Insert(row, _) => Some(LogMark::before(row.waiting.place)),
            Self::Settle(_) | Self::Forward(_) | Self::Keep(..) => None,
        }
    }

    /// Of what follows from the log: where its last record ends.
    pub(super) fn end(&self) -> Option<LogMark> {
        match self {
            Self::Insert(row, _) => Some(LogMark::after(row.waiting.place)),
            Self::Forward(moved) => moved.last().map(|last| LogMark::after(last.to)),
            Self::Settle(_) | Self::Keep(..) => None,
        }
    }

    fn settlement(&self) -> Option<&Settling> {
        match self {
            Self::Settle(settling) => Some(settling),
            Self::Insert(..) | Self::Forward(_) | Self::Keep(..) => None,
        }
    }
}

impl Batch {
    /// What was held back.
    pub(super) fn of(held: Vec<Write>) -> Self {
        Self { held_before: held.len(), writes: held, ..Self::default() }
    }

    /// Takes in what waits, until it is enough for one transaction.
    pub(super) fn gather(&mut self, jobs: &Receiver<StateJob>) {
        while !self.closing && self.writes.len() < BATCH_JOBS {
            let Ok(job) = jobs.try_recv() else { break };
            self.add(job);
        }
    }

    /// How many outcomes there are in it.
    pub(super) fn settlements(&self) -> usize {
        self.writes.iter().filter_map(Write::settlement).count()
    }

    /// Whether nobody waits for an answer but those whose outcomes are written. What is kept beside messages may belong to
    /// one whose row comes just before it.
    pub(super) fn can_wait(&self) -> bool {
        let is_read = |job: &StateJob| !matches!(job, StateJob::Sweep | StateJob::Tidy);
        let is_kept = |write: &Write| matches!(write, Write::Keep(..));
        !self.closing && !self.reads.iter().any(is_read) && !self.writes.iter().any(is_kept)
    }

    /// Takes out new messages that are not settled here. What comes in goes out a moment later, as a rule, and a
    /// row that is written with its end is written once. Nothing is held back twice, nor from whoever reads.
    pub(super) fn hold_back(&mut self) -> Vec<Write> {
        if !self.can_wait() {
            return Vec::new();
        }
        let settled = settled(&self.writes);
        let is_early = |(place, write): &(usize, Write)| match write {
            Write::Insert(row, _) => *place >= self.held_before && !settled.contains(&row.waiting.entry.id),
            Write::Settle(_) | Write::Forward(_) | Write::Keep(..) => false,
        };
        let (early, now): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.writes).into_iter().enumerate().partition(is_early);
        self.writes = now.into_iter().map(|(_, write)| write).collect();
        early.into_iter().map(|(_, write)| write).collect()
    }

    /// Takes in what has come since, all of it: whoever reads stands behind whoever writes.
    pub(super) fn take_in(&mut self, jobs: &Receiver<StateJob>) {
        while let Some(job) = (!self.closing).then(|| jobs.try_recv().ok()).flatten() {
            self.add(job);
        }
    }

    fn add(&mut self, job: StateJob) {
        match job {
            StateJob::Insert(row, permit) => self.writes.push(Write::Insert(row, permit)),
            StateJob::Settle(settling) => self.writes.push(Write::Settle(settling)),
            StateJob::Forward(moved) => self.writes.push(Write::Forward(moved)),
            StateJob::Keep(rows, answer) => self.writes.push(Write::Keep(rows, answer)),
            StateJob::Close => self.closing = true,
            read @ (StateJob::Load(..)
            | StateJob::Place(..)
            | StateJob::History(..)
            | StateJob::Sweep
            | StateJob::Tidy) => self.reads.push(read),
        }
    }
}
