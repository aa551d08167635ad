//! The control socket: how the operator's commands reach a relay that runs.
//!
//! A Unix socket in the spool directory, for its owner alone, on which `/api/v1` is spoken as on the admin port
//! (`api/local.rs`). Whoever may open it may read the whole spool anyway, so there is no further authentication: the
//! system says who asks, and that is recorded with what was done. `client.rs` is the other end.
#![expect(clippy::disallowed_methods, reason = "this driver owns the control socket and replaces a stale one")]

mod client;

use crate::service::api::LocalApi;
pub use client::{AskError, ControlClient, SuspendedAnswer};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

/// Its name in the spool directory.
const NAME: &str = "control";

/// How long a client may take to ask.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);

/// The wait after the system could not give us a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_secs(1);

/// The longest header of a request, in octets.
const HEADER_LIMIT: usize = 16 * 1024;

/// Connections at once; each carries one request.
const MOST_CLIENTS: usize = 64;

/// Where the socket of a spool is.
#[must_use]
pub fn path(spool: &Path) -> PathBuf {
    spool.join(NAME)
}

/// Opens the socket. Only the owner of the spool calls this: what is there was left by a relay
/// that is gone.
///
/// # Errors
/// What the system says.
pub fn bind(spool: &Path) -> io::Result<UnixListener> {
    let path = path(spool);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        Ok(()) | Err(_) => {}
    }
    let listener = UnixListener::bind(&path)?;
    // Nobody else can come into the directory anyway.
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600))?;
    Ok(listener)
}

/// Serves until the relay stops; then removes the socket. What is being answered then is answered.
pub(super) async fn run(api: LocalApi, listener: UnixListener, stop: CancellationToken) {
    let (api, places) = (Arc::new(api), Arc::new(Semaphore::new(MOST_CLIENTS)));
    let serving = async {
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answered(Arc::clone(&api), stream, place));
                }
                Err(error) => {
                    api.not_accepted(&error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    };
    let _stopped = stop.run_until_cancelled(serving).await;
    let _gone = std::fs::remove_file(path(api.spool()));
}

/// One client, and its one request.
async fn answered(api: Arc<LocalApi>, stream: UnixStream, place: OwnedSemaphorePermit) {
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    let answer = service_fn(|request| {
        let api = Arc::clone(&api);
        async move { Ok::<_, std::convert::Infallible>(api.answer(uid, request).await) }
    });
    // Who goes away early needs no answer.
    let _gone = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(REQUEST_PATIENCE)
        .max_buf_size(HEADER_LIMIT)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), answer)
        .await;
    drop(place);
}
