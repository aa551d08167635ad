//! Jobs of the state writer that share a transaction.

use super::jobs::{KeptRows, MessageRow, Moved, ReplyTo, Settling, StateJob};
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
}

pub(super) enum Write {
    Insert(Box<MessageRow>, Option<OwnedSemaphorePermit>),
    Settle(Box<Settling>),
    Forward(Vec<Moved>),
    Keep(Box<KeptRows>, ReplyTo<()>),
}

/// What waits, behind the first of it.
pub(super) fn collect(first: StateJob, jobs: &Receiver<StateJob>) -> Batch {
    let mut batch = Batch::default();
    let mut next = Some(first);
    while let Some(job) = next {
        batch.add(job);
        let is_full = batch.closing || batch.writes.len() >= BATCH_JOBS;
        next = if is_full { None } else { jobs.try_recv().ok() };
    }
    batch
}

impl Batch {
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
