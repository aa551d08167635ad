//! What waits, counted by age and domain: beside whoever asks, at most once in a while, so that a queue of a million
//! holds up no page.

use crate::clock::Timestamp;
use crate::command::queue::Filter;
use crate::command::queue::summary::{QueueSummary, summary};
use crate::service::operator::Operator;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// For so long a count is good.
const GOOD_FOR: Duration = Duration::from_secs(10);
/// After a count that took long, the rest is so many times longer: a tenth of one core.
const REST: u32 = 9;

/// What waited at a moment.
#[derive(Clone)]
pub(super) struct CountedQueue {
    /// When it was counted.
    pub(super) at: Timestamp,
    /// The counts.
    pub(super) summary: Arc<QueueSummary>,
}

/// The last count, and whether another one is under way.
pub(super) struct SummaryOfQueue {
    last: watch::Sender<Option<CountedQueue>>,
    next: Arc<Mutex<NextCount>>,
}

/// When it is counted again.
#[derive(Clone, Copy)]
enum NextCount {
    /// Not before this moment.
    After(Timestamp),
    /// It is being counted.
    UnderWay,
}

impl Default for SummaryOfQueue {
    fn default() -> Self {
        Self { last: watch::Sender::new(None), next: Arc::new(Mutex::new(NextCount::After(Timestamp(0)))) }
    }
}

impl SummaryOfQueue {
    /// The last count; where there is none or it is old, another one is begun, and waited for no longer than
    /// `patience`.
    pub(super) async fn counted(&self, operator: &Arc<Operator>, patience: Duration) -> Option<CountedQueue> {
        let mut news = self.last.subscribe();
        news.mark_unchanged();
        if self.begin(operator.now()) {
            tokio::spawn(count(Arc::clone(operator), self.last.clone(), Arc::clone(&self.next)));
        }
        let is_fresh = |known: &Option<CountedQueue>| {
            known.as_ref().is_some_and(|known| operator.now().since(known.at) < GOOD_FOR)
        };
        let _none_yet = tokio::time::timeout(patience, news.wait_for(is_fresh)).await;
        self.last.borrow().clone()
    }

    fn begin(&self, now: Timestamp) -> bool {
        let mut next = locked(&self.next);
        match *next {
            NextCount::After(moment) if moment <= now => {
                *next = NextCount::UnderWay;
                true
            }
            NextCount::After(_) | NextCount::UnderWay => false,
        }
    }
}

async fn count(operator: Arc<Operator>, last: watch::Sender<Option<CountedQueue>>, next: Arc<Mutex<NextCount>>) {
    let at = operator.now();
    let counting = async {
        let ledger = operator.ledger().await?;
        summary(ledger.as_ref(), &Filter::default(), at).await
    };
    if let Ok(mut counted) = counting.await {
        counted.hosts = Some(operator.pipeline().hosts());
        last.send_replace(Some(CountedQueue { at, summary: Arc::new(counted) }));
    }
    let now = operator.now();
    let rest = now.since(at).saturating_mul(REST).max(GOOD_FOR);
    *locked(&next) = NextCount::After(now.plus(rest));
}

fn locked(next: &Mutex<NextCount>) -> MutexGuard<'_, NextCount> {
    next.lock().unwrap_or_else(PoisonError::into_inner)
}
