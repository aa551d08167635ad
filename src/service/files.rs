//! Certificates and passwords are renewed beside the configuration: their files are read again every minute,
//! and with every reload.

use super::successive::by_each;
use crate::accept::ports::Acceptors;
use crate::pipeline::{Pipeline, Pipelines};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Whoever renews a file waits a minute, or reloads.
const READ_EVERY: Duration = Duration::from_secs(60);

/// Reads until `stop`, and tells what has changed and when certificates end.
pub(in crate::service) async fn watch(acceptors: Acceptors, pipelines: Pipelines, stop: CancellationToken) {
    by_each(pipelines, stop, |pipeline| reread_by(pipeline, acceptors.clone())).await;
}

/// Reads under one configuration; never ends.
async fn reread_by(pipeline: Arc<Pipeline>, acceptors: Acceptors) {
    // A reload has read all of them.
    let acceptor = Arc::clone(&acceptors.borrow());
    acceptor.tell_certificate();
    pipeline.observer.client_certificates(&pipeline.out.egress.certificates());
    loop {
        tokio::time::sleep(READ_EVERY).await;
        let acceptor = Arc::clone(&acceptors.borrow());
        acceptor.reread_files().await;
        reread_egress(&pipeline).await;
    }
}

async fn reread_egress(pipeline: &Pipeline) {
    let reading = Arc::clone(&pipeline.out.egress);
    if let Ok(news) = tokio::task::spawn_blocking(move || reading.reload()).await {
        pipeline.observer.egress_reread(&news);
    }
    pipeline.observer.client_certificates(&pipeline.out.egress.certificates());
}
