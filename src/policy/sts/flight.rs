//! Fetches under way: the same one is done once at a time, and everybody who wants it shares it.
//!
//! A fetch runs by itself, so it goes on when nobody waits for it (any more), and who waits may
//! go away.

use super::StsPolicy;
use super::attempts::Key;
use super::failure::FetchFailure;
use futures_util::FutureExt as _;
use futures_util::future::{BoxFuture, Shared};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a fetch comes to.
pub(super) type Fetched = Result<Arc<StsPolicy>, FetchFailure>;
/// A fetch to wait for.
pub(super) type Fetch = Shared<BoxFuture<'static, Fetched>>;

/// The fetches under way.
#[derive(Clone, Default)]
pub(super) struct Flights {
    under_way: Arc<Mutex<BTreeMap<Key, Fetch>>>,
}

impl Flights {
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<Key, Fetch>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts `work`, or joins it.
    pub(super) fn join<W: Future<Output = Fetched> + Send + 'static>(
        &self,
        key: &Key,
        work: impl FnOnce() -> W,
    ) -> Fetch {
        let mut under_way = self.under_way();
        if let Some(fetch) = under_way.get(key) {
            return fetch.clone();
        }
        let landing = Landing { flights: self.clone(), key: key.clone() };
        let work = work();
        let running = tokio::spawn(async move {
            let _landing = landing;
            work.await
        });
        let ended = |ended: Result<Fetched, tokio::task::JoinError>| {
            ended.unwrap_or_else(|panicked| Err(FetchFailure::Internal { detail: panicked.to_string() }))
        };
        let fetch = running.map(ended).boxed().shared();
        under_way.insert(key.clone(), fetch.clone());
        fetch
    }
}

/// Clears a fetch away when it ends, however it does.
struct Landing {
    flights: Flights,
    key: Key,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.under_way().remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn rfc8461_3_3_a_fetch_is_shared_and_goes_on_without_anybody() {
        let (flights, started, go) = (Flights::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let key: Key = ("a.test".parse().unwrap(), None);
        let join = || {
            let (started, go) = (Arc::clone(&started), Arc::clone(&go));
            flights.join(&key, || async move {
                started.fetch_add(1, Ordering::SeqCst);
                go.notified().await;
                Err(FetchFailure::TimedOut)
            })
        };
        drop(join());
        let (first, second) = (join(), join());
        go.notify_one();
        assert_eq!(tokio::join!(first, second), (Err(FetchFailure::TimedOut), Err(FetchFailure::TimedOut)));
        assert_eq!(started.load(Ordering::SeqCst), 1);
        assert!(flights.under_way().is_empty());
        let later = join();
        go.notify_one();
        later.await.unwrap_err();
        assert_eq!(started.load(Ordering::SeqCst), 2);
    }

    #[tokio::test]
    async fn a_panic_is_a_failure_and_blocks_nobody() {
        let flights = Flights::default();
        let key: Key = ("a.test".parse().unwrap(), None);
        let fetch = flights.join(&key, || async { panic!("a bug") });
        assert!(matches!(fetch.await, Err(FetchFailure::Internal { .. })));
        assert!(flights.under_way().is_empty());
    }
}
