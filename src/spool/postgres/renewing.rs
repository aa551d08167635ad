//! Renewals of claims: those that are asked for while one statement runs are the next one.

use super::numbers::number;
use super::shared::SharedStore;
use super::storing::same;
use crate::spool::{Claim, SpoolError};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Renewals of one statement.
const MOST_TOGETHER: usize = 1000;

/// Makes claims hold for a whole lease from now. Locked in one order, whatever else is recorded at the time.
const RENEW: &str = "WITH ours AS (SELECT m.id FROM messages m
        JOIN unnest($1::bigint[], $2::bigint[]) AS asked (id, generation)
          ON m.id = asked.id AND m.generation = asked.generation
        WHERE m.holder = $3 ORDER BY m.id FOR UPDATE OF m)
    UPDATE messages m SET lease_until = now() + $4 * interval '1 second' FROM ours WHERE m.id = ours.id
    RETURNING m.id, m.generation";

/// A claim, and who waits for its renewal.
pub(super) struct PendingRenewal {
    id: i64,
    generation: i64,
    answer: oneshot::Sender<Result<(), SpoolError>>,
}

/// Takes what is to be renewed.
pub(super) type RenewalQueue = mpsc::Sender<PendingRenewal>;

/// Starts the task that renews.
pub(super) fn start(shared: &Arc<SharedStore>) -> RenewalQueue {
    let (asks, asked) = mpsc::channel(MOST_TOGETHER);
    tokio::spawn(work(Arc::clone(shared), asked));
    asks
}

/// Makes a claim hold for a whole lease from now.
pub(super) async fn renew(asks: &RenewalQueue, claim: &Claim) -> Result<(), SpoolError> {
    let (answer, answered) = oneshot::channel();
    let (id, generation) = (number(claim.entry.id), claim.generation.cast_signed());
    asks.send(PendingRenewal { id, generation, answer }).await.map_err(|_| SpoolError::Stopped)?;
    answered.await.unwrap_or(Err(SpoolError::Stopped))
}

async fn work(shared: Arc<SharedStore>, mut asked: mpsc::Receiver<PendingRenewal>) {
    let mut batch = Vec::new();
    while asked.recv_many(&mut batch, MOST_TOGETHER).await > 0 {
        let renewals = std::mem::take(&mut batch);
        let held = held(&shared, &renewals).await;
        for PendingRenewal { id, generation, answer } in renewals {
            let told = match &held {
                Ok(held) if held.contains(&(id, generation)) => Ok(()),
                Ok(_) => Err(SpoolError::Fenced),
                Err(error) => Err(same(error)),
            };
            // Whoever does not wait any more has given the claim up.
            let _gone = answer.send(told);
        }
    }
}

/// Those that are still ours.
async fn held(shared: &SharedStore, renewals: &[PendingRenewal]) -> Result<BTreeSet<(i64, i64)>, SpoolError> {
    shared.running()?;
    let (ids, generations): (Vec<i64>, Vec<i64>) = renewals.iter().map(|one| (one.id, one.generation)).unzip();
    let client = shared.database.client().await?;
    let failed = |error| shared.database.failed(error);
    let renew = client.prepare_cached(RENEW).await.map_err(failed)?;
    let rows = client.query(&renew, &[&ids, &generations, &shared.node.slot, &shared.lease_seconds()]).await;
    Ok(rows.map_err(failed)?.iter().map(|row| (row.get(0), row.get(1))).collect())
}
