//! The places for sessions: all listeners together have so many, and each may have fewer of its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many sessions there are.
#[derive(Clone, Default)]
pub(super) struct Places(Arc<AtomicUsize>);

/// One of them; given back when it is dropped.
pub(super) struct TakenPlace(Places);

impl Places {
    pub(super) fn taken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// None where that many are taken.
    pub(super) fn take(&self, most: usize) -> Option<TakenPlace> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(TakenPlace(self.clone()))
    }
}

impl Drop for TakenPlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}
