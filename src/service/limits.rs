//! Sending limits that were reached: the postmaster is told, of many in one mail and not too often.

use crate::accept::{AcceptEvent, LimitLevel, LimitNews};
use crate::pipeline::Pipelines;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

/// News that wait to be told; of more the log knows.
const MOST_WAITING: usize = 1000;
/// From the first of them to the mail: what is reached at once is told at once.
const GATHERED_FOR: Duration = Duration::from_secs(2);
/// From one mail to the next.
const AT_MOST_EVERY: Duration = Duration::from_secs(900);

/// Takes the news from the listeners.
#[derive(Clone)]
pub(super) struct LimitTeller(Sender<LimitNews>);

/// Both ends.
pub(super) fn teller() -> (LimitTeller, Receiver<LimitNews>) {
    let (sender, receiver) = channel(MOST_WAITING);
    (LimitTeller(sender), receiver)
}

impl LimitTeller {
    /// Remembers that a limit was reached; other events are none of this.
    pub(super) fn told(&self, event: &AcceptEvent) {
        if let AcceptEvent::Limit(news) = event
            && news.level == LimitLevel::Reached
        {
            let _the_log_knows = self.0.try_send(news.clone());
        }
    }
}

/// Tells the postmaster, until the stop.
pub(super) async fn watch(mut news: Receiver<LimitNews>, pipelines: Pipelines, stop: CancellationToken) {
    let telling = async {
        while let Some(first) = news.recv().await {
            tokio::time::sleep(GATHERED_FOR).await;
            let mut all = vec![first];
            while let Ok(more) = news.try_recv() {
                all.push(more);
            }
            let pipeline = Arc::clone(&pipelines.borrow());
            if let Err(error) = pipeline.tell_of_limits(&all).await {
                pipeline.observer.spool_failed("tell the postmaster of limits", &error);
            }
            tokio::time::sleep(AT_MOST_EVERY).await;
        }
    };
    let _stopped = stop.run_until_cancelled(telling).await;
}
