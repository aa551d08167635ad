//! Claims that are given back without a record: those that come while one statement runs are the next one. A node that
//! drains gives back all it has at once.

use super::shared::{ClaimReturn, SharedStore};
use super::storing::same;
use crate::spool::SpoolError;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Claims of one statement.
const MOST_TOGETHER: usize = 1000;

/// A claim that is given back, and who waits for that.
pub(super) struct PendingReturn {
    given: ClaimReturn,
    answer: oneshot::Sender<Result<(), SpoolError>>,
}

/// Takes what is given back.
pub(super) type ReturnQueue = mpsc::Sender<PendingReturn>;

/// Starts the task that gives back.
pub(super) fn start(shared: &Arc<SharedStore>) -> ReturnQueue {
    let (gives, given) = mpsc::channel(MOST_TOGETHER);
    tokio::spawn(work(Arc::clone(shared), given));
    gives
}

/// Ends a claim without a record. While the database is away, that waits for it.
pub(super) async fn give_back(gives: &ReturnQueue, given: ClaimReturn) -> Result<(), SpoolError> {
    let (answer, answered) = oneshot::channel();
    gives.send(PendingReturn { given, answer }).await.map_err(|_| SpoolError::Stopped)?;
    answered.await.unwrap_or(Err(SpoolError::Stopped))
}

async fn work(shared: Arc<SharedStore>, mut given: mpsc::Receiver<PendingReturn>) {
    let mut batch = Vec::new();
    while given.recv_many(&mut batch, MOST_TOGETHER).await > 0 {
        let (given, answers): (Vec<_>, Vec<_>) =
            batch.drain(..).map(|PendingReturn { given, answer }| (given, answer)).unzip();
        let returned = shared.give_back(given).await;
        for answer in answers {
            // Whoever does not wait any more has no use for it.
            let _gone = answer.send(returned.as_ref().map(|_done| ()).map_err(same));
        }
    }
}
