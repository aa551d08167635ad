//! Work by the configuration that counts now, and by the next one after a reload.

use crate::pipeline::{Pipeline, Pipelines};
use std::future::{Future, pending};
use std::sync::Arc;
use tokio_util::sync::CancellationToken;

/// Works by one configuration after the other until `stop`. Work is dropped where it stands when another
/// configuration counts; what ends before is not begun again under the same one.
pub(super) async fn by_each<F: Future<Output = ()>>(
    mut pipelines: Pipelines,
    stop: CancellationToken,
    work: impl Fn(Arc<Pipeline>) -> F,
) {
    loop {
        let pipeline = Arc::clone(&pipelines.borrow_and_update());
        let working = async {
            work(pipeline).await;
            pending::<()>().await;
        };
        let succeeded = async {
            // Whoever reloads is gone: the last configuration counts to the end.
            if pipelines.changed().await.is_err() {
                pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = succeeded => {}
            () = working => {}
        }
    }
}
