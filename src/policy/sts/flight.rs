//! Fetches under way: a domain has one at a time, and everybody who wants its policy shares it,
//! whatever id its record shows them.
//!
//! A fetch runs by itself, so it goes on when nobody waits for it (any more), and who waits may
//! go away.

use super::StsPolicy;
use super::failure::FetchFailure;
use crate::smtp::address::Domain;
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
pub(super) struct Fetches {
    under_way: Arc<Mutex<BTreeMap<Domain, Fetch>>>,
}

impl Fetches {
    fn under_way(&self) -> MutexGuard<'_, BTreeMap<Domain, Fetch>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts `work`, or joins it.
    pub(super) fn join<W: Future<Output = Fetched> + Send + 'static>(
        &self,
        domain: &Domain,
        work: impl FnOnce() -> W,
    ) -> Fetch {
        let mut under_way = self.under_way();
        if let Some(fetch) = under_way.get(domain) {
            return fetch.clone();
        }
        let landing = Landing { flights: self.clone(), domain: domain.clone() };
        let work = work();
        let running = tokio::spawn(async move {
            let _landing = landing;
            work.await
        });
        let ended = |ended: Result<Fetched, tokio::task::JoinError>| {
            ended.unwrap_or_else(|panicked| Err(FetchFailure::Internal { detail: panicked.to_string() }))
        };
        let fetch = running.map(ended).boxed().shared();
        under_way.insert(domain.clone(), fetch.clone());
        fetch
    }
}

/// Clears a fetch away when it ends, however it does.
struct Landing {
    flights: Fetches,
    domain: Domain,
}

impl Drop for Landing {
    fn drop(&mut self) {
        self.flights.under_way().remove(&self.domain);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use tokio::sync::Notify;

    #[tokio::test]
    async fn rfc8461_3_3_a_fetch_is_shared_and_goes_on_without_anybody() {
        let (flights, started, go) = (Fetches::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let domain: Domain = "a.test".parse().unwrap();
        let join = || {
            let (started, go) = (Arc::clone(&started), Arc::clone(&go));
            flights.join(&domain, || async move {
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
        let flights = Fetches::default();
        let domain: Domain = "a.test".parse().unwrap();
        let fetch = flights.join(&domain, || async { panic!("a bug") });
        assert!(matches!(fetch.await, Err(FetchFailure::Internal { .. })));
        assert!(flights.under_way().is_empty());
    }
}
