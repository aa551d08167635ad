//! What the writers were handed and have not answered: counted for whoever stops the relay, and wants to know what
//! a disk that is full or hangs leaves undone. The count outlives the tasks that asked.

use crate::spool::Unwritten;
use std::sync::atomic::{AtomicU64, Ordering};

/// See the module.
#[derive(Debug, Default)]
pub(super) struct UnwrittenCounts {
    messages: AtomicU64,
    outcomes: AtomicU64,
}

impl UnwrittenCounts {
    /// A message is handed to the log.
    pub(super) fn message_begins(&self) {
        self.messages.fetch_add(1, Ordering::Relaxed);
    }

    /// It is durable, or refused.
    pub(super) fn message_ends(&self) {
        self.messages.fetch_sub(1, Ordering::Relaxed);
    }

    /// Settlements are handed to the writers.
    pub(super) fn outcomes_begin(&self, many: usize) {
        self.outcomes.fetch_add(many as u64, Ordering::Relaxed);
    }

    /// It is durable. One that was given up for want of room stays counted: nobody records it any more.
    pub(super) fn outcome_ends(&self) {
        self.outcomes.fetch_sub(1, Ordering::Relaxed);
    }

    pub(super) fn now(&self) -> Unwritten {
        Unwritten { messages: self.messages.load(Ordering::Relaxed), outcomes: self.outcomes.load(Ordering::Relaxed) }
    }
}
