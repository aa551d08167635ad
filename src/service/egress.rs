//! The passwords and client certificates that destinations name, exchanged while mail goes on: their
//! files are read again every minute, and at SIGHUP.

use crate::deliver::egress::store::EgressStore;
use crate::observe::Observer;
use std::sync::Arc;
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// Whoever renews a file waits a minute, or sends SIGHUP.
const READ_EVERY: Duration = Duration::from_secs(60);

/// Reads until `stop`, and tells what has changed and when certificates end.
pub(super) async fn watch(store: Arc<EgressStore>, observer: Arc<Observer>, stop: CancellationToken) {
    observer.client_certificates(&store.certificates());
    // Without the signal, which the system may refuse, the clock alone does it.
    let mut hangup = signal(SignalKind::hangup()).ok();
    loop {
        let hung_up = async {
            match &mut hangup {
                Some(hangup) => hangup.recv().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            biased;
            () = stop.cancelled() => return,
            () = tokio::time::sleep(READ_EVERY) => {}
            _signal = hung_up => {}
        }
        let reading = Arc::clone(&store);
        if let Ok(news) = tokio::task::spawn_blocking(move || reading.reload()).await {
            observer.egress_reread(&news);
        }
        observer.client_certificates(&store.certificates());
    }
}
