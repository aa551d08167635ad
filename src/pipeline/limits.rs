//! How many connections may be open at once (RFC 5321 §4.5.4.1 asks senders to limit them).

use crate::route::NextHop;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// At most so many connections to one next hop at once, and so many to all of them: a message
/// for a thousand domains must not open a thousand.
///
/// Counted are those at work. A connection that waits for its next message holds no place: it
/// had one a moment ago, and who enters takes it before opening another. See
/// [`crate::deliver::pool`] for what bounds them.
pub struct HopLimits {
    most: usize,
    all: Arc<Semaphore>,
    hops: Mutex<BTreeMap<NextHop, Arc<Semaphore>>>,
}

impl HopLimits {
    /// Limits every next hop to `most`, and all together to `all`.
    #[must_use]
    pub fn new(most: usize, all: usize) -> Self {
        Self { most, all: Arc::new(Semaphore::new(all)), hops: Mutex::new(BTreeMap::new()) }
    }

    /// Waits for a place. The narrow door first, so that nobody who waits at it holds a place
    /// that others could use.
    pub(super) async fn enter(&self, hop: &NextHop) -> Option<(OwnedSemaphorePermit, OwnedSemaphorePermit)> {
        let semaphore = {
            let mut hops = self.hops.lock().unwrap_or_else(PoisonError::into_inner);
            // A semaphore that nobody holds or waits for is at rest and can be made anew.
            hops.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            Arc::clone(hops.entry(hop.clone()).or_insert_with(|| Arc::new(Semaphore::new(self.most))))
        };
        let at_hop = semaphore.acquire_owned().await.ok()?;
        let among_all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some((at_hop, among_all))
    }
}
