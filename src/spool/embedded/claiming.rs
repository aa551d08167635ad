//! Messages on their way from the index to whoever claims them.

use super::index::Taken;
use super::shared::SharedState;
use crate::spool::{Claim, SpoolEntry};

/// Messages taken and not yet handed out. If the caller goes away meanwhile, they are due again.
pub(super) struct Claiming<'a> {
    pub(super) shared: &'a SharedState,
    pub(super) taken: Vec<Taken>,
}

impl Claiming<'_> {
    pub(super) fn fill(&mut self, entry: SpoolEntry) {
        if let Some(taken) = self.taken.iter_mut().find(|taken| taken.id == entry.id) {
            taken.entry = Some(entry);
        }
    }

    /// What could not be read at all stays taken until a restart: it would only come round again
    /// at once.
    pub(super) fn claims(mut self) -> Vec<Claim> {
        let claim = |taken: Taken| taken.entry.map(|entry| Claim { entry, generation: taken.generation });
        std::mem::take(&mut self.taken).into_iter().filter_map(claim).collect()
    }
}

impl Drop for Claiming<'_> {
    fn drop(&mut self) {
        for taken in &self.taken {
            self.shared.index().release(taken.id, taken.generation);
        }
    }
}
