//! Looks whether the disk of the spool has room and its database answers, so that a change of that is told at once and not with the next mail.

use crate::pipeline::Pipelines;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// From one look to the next: a look is one system call.
const EVERY: Duration = Duration::from_secs(1);

/// Looks until the stop.
pub(super) async fn watch(pipelines: Pipelines, stop: CancellationToken) {
    loop {
        let pipeline = pipelines.borrow().clone();
        let now = pipeline.out.clock.now();
        pipeline.observer.disk(pipeline.spool.full_disk(now));
        pipeline.observer.store_away(pipeline.spool.away(now));
        if stop.run_until_cancelled(tokio::time::sleep(EVERY)).await.is_none() {
            return;
        }
    }
}
