//! The spool of a simulated relay: the real one, whose writers are turned by hand.

use crate::wrapped_spool::{Around, Call, WrappedSpool};
use dane_relay::spool::embedded::EmbeddedSpool;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// What one turn of the writers takes: whoever comes within it shares their sync.
pub(crate) const TURN: Duration = Duration::from_millis(2);

/// The spool as the relay sees it. It tells when somebody waits for the writers.
pub(crate) type ManualSpool = WrappedSpool<Arc<Waiters>>;

/// Those who wait for the writers.
#[derive(Default)]
pub(crate) struct Waiters {
    count: AtomicUsize,
    work: Notify,
}

/// Somebody who waits.
pub(crate) struct Waiting(Arc<Waiters>);

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Around for Arc<Waiters> {
    type During = Waiting;

    fn call(&self, _call: Call) -> Waiting {
        self.count.fetch_add(1, Ordering::SeqCst);
        self.work.notify_one();
        Waiting(Self::clone(self))
    }
}

impl ManualSpool {
    pub(crate) fn new(spool: EmbeddedSpool) -> Self {
        Self { inner: Arc::new(spool), around: Arc::default() }
    }

    /// Waits until the writers have something to do.
    pub(crate) async fn work(&self) {
        if self.around.count.load(Ordering::SeqCst) == 0 {
            self.around.work.notified().await;
        }
    }
}
