//! The same thing done once at a time: who comes while it is under way waits for its result.
//!
//! When the one who does it goes away, the next one who waits takes over; nobody waits for
//! somebody who is gone.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

type Cells<K, V> = BTreeMap<K, Arc<OnceCell<V>>>;

/// What is under way.
pub(super) struct Flights<K: Ord, V> {
    cells: Mutex<Cells<K, V>>,
}

impl<K: Ord, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { cells: Mutex::default() }
    }
}

impl<K: Ord + Clone, V: Clone> Flights<K, V> {
    /// Does `work`, or waits for the one who does it already.
    pub(super) async fn once<F: Future<Output = V>>(&self, key: K, work: impl FnOnce() -> F) -> V {
        let cell = Arc::clone(self.cells().entry(key.clone()).or_default());
        let _seat = Seat { flights: self, key, cell: Arc::clone(&cell) };
        cell.get_or_init(work).await.clone()
    }

    fn cells(&self) -> MutexGuard<'_, Cells<K, V>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Someone who waits. Whoever leaves a finished work, or leaves as the last, clears it away.
struct Seat<'a, K: Ord + Clone, V: Clone> {
    flights: &'a Flights<K, V>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<K: Ord + Clone, V: Clone> Drop for Seat<'_, K, V> {
    fn drop(&mut self) {
        let mut cells = self.flights.cells();
        let is_ours = cells.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // The table, this seat and the future that is just being dropped hold it.
        let is_last = Arc::strong_count(&self.cell) <= 3;
        if is_ours && (self.cell.initialized() || is_last) {
            cells.remove(&self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;
    use tokio::time::{sleep, timeout};

    #[tokio::test]
    async fn the_same_question_is_asked_once_at_a_time() {
        let (flights, done) = (Flights::default(), AtomicUsize::new(0));
        let ask = || {
            flights.once("a", || async {
                sleep(Duration::from_millis(20)).await;
                done.fetch_add(1, Ordering::SeqCst)
            })
        };
        let all = futures_util::future::join_all((0..50).map(|_| ask())).await;
        assert_eq!(all, vec![0; 50]);
        assert_eq!(ask().await, 1, "later it is asked anew");
        assert!(flights.cells().is_empty());
    }

    #[tokio::test]
    async fn when_the_asker_goes_away_the_next_one_takes_over() {
        let flights = Flights::default();
        let never = flights.once("a", std::future::pending::<u32>);
        let second = async {
            sleep(Duration::from_millis(5)).await;
            flights.once("a", || async { 7 }).await
        };
        let first = timeout(Duration::from_millis(30), never);
        let (first, second) = tokio::join!(first, second);
        assert!(first.is_err());
        assert_eq!(second, 7);
        assert!(flights.cells().is_empty());
    }

    #[tokio::test]
    async fn who_goes_away_as_the_last_leaves_nothing_behind() {
        let flights = Flights::default();
        let gone = timeout(Duration::from_millis(5), flights.once("a", std::future::pending::<u32>)).await;
        assert!(gone.is_err());
        assert!(flights.cells().is_empty());
    }
}
