//! The same thing done once at a time: who comes while it is under way waits for its result.
//!
//! When the one who does it goes away, the next one who waits takes over; nobody waits for
//! somebody who is gone. What shall go on without anybody is given to a task by whoever comes.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::OnceCell;

type Cells<K, V> = BTreeMap<K, Arc<OnceCell<V>>>;

/// What is under way.
pub(crate) struct Flights<K: Ord, V> {
    cells: Arc<Mutex<Cells<K, V>>>,
}

impl<K: Ord, V> Default for Flights<K, V> {
    fn default() -> Self {
        Self { cells: Arc::default() }
    }
}

impl<K: Ord, V> Flights<K, V> {
    fn cells(&self) -> MutexGuard<'_, Cells<K, V>> {
        self.cells.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone, V: Clone> Flights<K, V> {
    /// Does `work`, or waits for the one who does it already. Whose work it will be is settled when
    /// this is called, not when it is waited for.
    pub(crate) fn once<W, F>(&self, key: K, work: W) -> impl Future<Output = V> + use<K, V, W, F>
    where
        W: FnOnce() -> F,
        F: Future<Output = V>,
    {
        let cell = Arc::clone(self.cells().entry(key.clone()).or_default());
        let seat = Seat { flights: Self { cells: Arc::clone(&self.cells) }, key, cell };
        async move { seat.cell.get_or_init(work).await.clone() }
    }
}

/// Someone who waits. Whoever leaves a finished work, or leaves as the last, clears it away.
struct Seat<K: Ord, V> {
    flights: Flights<K, V>,
    key: K,
    cell: Arc<OnceCell<V>>,
}

impl<K: Ord, V> Drop for Seat<K, V> {
    fn drop(&mut self) {
        let mut cells = self.flights.cells();
        let is_ours = cells.get(&self.key).is_some_and(|cell| Arc::ptr_eq(cell, &self.cell));
        // The table and this seat hold it.
        let is_last = Arc::strong_count(&self.cell) <= 2;
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
    use tokio::sync::Notify;
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
        assert_eq!(ask().await, 1, "later it is asked again");
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

    #[tokio::test]
    async fn what_is_given_to_a_task_is_shared_and_goes_on_without_anybody() {
        let (flights, started, go) = (Flights::default(), Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let join = || {
            let (started, go) = (Arc::clone(&started), Arc::clone(&go));
            tokio::spawn(flights.once("a", || async move {
                go.notified().await;
                started.fetch_add(1, Ordering::SeqCst)
            }))
        };
        drop(join());
        let (first, second) = (join(), join());
        go.notify_one();
        let (first, second) = tokio::join!(first, second);
        assert_eq!((first.unwrap(), second.unwrap()), (0, 0));
        assert!(flights.cells().is_empty());
        let later = join();
        go.notify_one();
        assert_eq!(later.await.unwrap(), 1);
    }

    #[tokio::test]
    async fn a_panic_blocks_nobody() {
        let flights = Flights::<_, u32>::default();
        let panics = tokio::spawn(flights.once("a", || async { panic!("a bug") }));
        let waits = tokio::spawn(flights.once("a", || async { 7 }));
        assert!(panics.await.unwrap_err().is_panic());
        assert_eq!(waits.await.unwrap(), 7);
        assert!(flights.cells().is_empty());
    }
}
