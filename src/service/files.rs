//! Certificates and passwords are renewed beside the configuration: their files are read again every minute,
//! and with every reload.

use crate::accept::ports::Acceptors;
use crate::pipeline::Pipelines;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// Whoever renews a file waits a minute, or reloads.
const READ_EVERY: Duration = Duration::from_secs(60);

/// Reads until `stop`, and tells what has changed and when certificates end.
pub(in crate::service) async fn watch(acceptors: Acceptors, mut pipelines: Pipelines, stop: CancellationToken) {
    loop {
        // A reload has read all of them.
        tell(&acceptors, &pipelines);
        let reading = async {
            loop {
                tokio::time::sleep(READ_EVERY).await;
                let acceptor = Arc::clone(&acceptors.borrow());
                acceptor.reread_files().await;
                reread_egress(&pipelines).await;
            }
        };
        let mut reloads = pipelines.clone();
        reloads.mark_unchanged();
        let reloaded = async {
            if reloads.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = reading => {}
            () = reloaded => {}
        }
        pipelines.mark_unchanged();
    }
}

fn tell(acceptors: &Acceptors, pipelines: &Pipelines) {
    let (acceptor, pipeline) = (Arc::clone(&acceptors.borrow()), Arc::clone(&pipelines.borrow()));
    acceptor.tell_certificate();
    pipeline.observer.client_certificates(&pipeline.out.egress.certificates());
}

async fn reread_egress(pipelines: &Pipelines) {
    let pipeline = Arc::clone(&pipelines.borrow());
    let reading = Arc::clone(&pipeline.out.egress);
    if let Ok(news) = tokio::task::spawn_blocking(move || reading.reload()).await {
        pipeline.observer.egress_reread(&news);
    }
    pipeline.observer.client_certificates(&pipeline.out.egress.certificates());
}
