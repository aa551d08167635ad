//! The control socket: how the operator's commands reach a relay that runs.
//!
//! A Unix socket in the spool directory, for its owner alone. One request is one line of JSON; the
//! answers are lines of JSON, the last of which says that it is the last. Whoever may open the
//! socket may read the whole spool anyway, so there is no further authentication; who asked is
//! recorded with what was done.
#![expect(clippy::disallowed_methods, reason = "this driver owns the control socket and replaces a stale one")]

use crate::accept::suspended::Suspension;
use crate::command::queue::{MOST_SELECTED, Selected};
use crate::observe::log_level;
use crate::pipeline::operate::{Acted, Order};
use crate::service::operator::Operator;
pub use crate::service::order::{ControlReply, Request};
use crate::service::suspensions::{SuspendedNow, SuspensionOrder};
use crate::service::tls_reports;
use crate::smtp::address::Domain;
use crate::spool::event::Actor;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// Its name in the spool directory.
const NAME: &str = "control";

/// From one line about a relay that ends to the next.
const DRAIN_LOOK: Duration = Duration::from_millis(200);

/// The longest request: some thousand queue ids fit.
const REQUEST_LIMIT: u64 = 64 * 1024;

/// How long a client may take to ask.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a client may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one line of an answer may take: before the first one, a hundred thousand messages are
/// looked through.
const LINE_PATIENCE: Duration = Duration::from_secs(60);

/// Clients that are answered at once; more wait.
const MOST_CLIENTS: usize = 8;

/// Clients that have not asked yet: they hold up nobody who has.
const MOST_SILENT: usize = 64;

/// Why a relay cannot be asked.
#[derive(Debug, thiserror::Error)]
pub enum AskError {
    /// None runs on this spool.
    #[error("no relay runs on the spool {0}: start `relay serve`, or give its --config")]
    NotRunning(String),
    /// It belongs to somebody else.
    #[error("{0}: the relay takes orders from the user it runs as and from root alone (permission denied)")]
    Denied(String),
    /// It is there and does not answer.
    #[error("the relay on the spool {0} does not answer: look at its log, and whether its process hangs")]
    Silent(String),
    /// The conversation failed.
    #[error("the relay cannot be asked: {0}")]
    Io(#[from] io::Error),
    /// The answer makes no sense.
    #[error("the relay answers in another way than this version knows: {0}")]
    Odd(#[from] serde_json::Error),
}

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

/// Serves until the relay stops; then removes the socket.
pub(super) async fn run(operator: Arc<Operator>, listener: UnixListener, stop: CancellationToken) {
    let (silent, clients) = (Arc::new(Semaphore::new(MOST_SILENT)), Arc::new(Semaphore::new(MOST_CLIENTS)));
    let serving = async {
        loop {
            let Ok(place) = Arc::clone(&silent).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answered(Arc::clone(&operator), stream, place, Arc::clone(&clients)));
                }
                Err(error) => {
                    operator.pipeline().observer.spool_failed("accept on the control socket", &error);
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    };
    let _stopped = stop.run_until_cancelled(serving).await;
    let _gone = std::fs::remove_file(path(&operator.spool.path));
}

/// One client. It gives its place among the silent ones back when it has asked.
async fn answered(operator: Arc<Operator>, stream: UnixStream, place: OwnedSemaphorePermit, clients: Arc<Semaphore>) {
    let mut stream = BufReader::new(stream);
    let asked = request(&mut stream).await;
    drop(place);
    let (Ok(line), Ok(_place)) = (asked, clients.acquire_owned().await) else { return };
    // Who goes away early needs no answer.
    let _gone = serve(&operator, stream.get_mut(), &line).await;
}

/// The line in which a client asks.
async fn request(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    timeout(REQUEST_PATIENCE, stream.take(REQUEST_LIMIT).read_line(&mut line)).await??;
    Ok(line)
}

async fn serve(operator: &Operator, stream: &mut UnixStream, line: &str) -> io::Result<()> {
    let uid = stream.peer_cred().ok().map(|peer| peer.uid());
    match serde_json::from_str(line) {
        Err(error) => say(stream, &ControlReply::Failed { error: error.to_string() }).await,
        Ok(Request::Status) => say(stream, &ControlReply::Status(Box::new(operator.running().await))).await,
        Ok(Request::Settings) => {
            let settings = operator.reloading.settings().await;
            say(stream, &ControlReply::Settings { settings }).await
        }
        Ok(Request::Reload) => {
            let answer = match Box::pin(operator.reloading.reload()).await {
                Ok(changes) => ControlReply::Reloaded { changes },
                Err(refused) => ControlReply::Refused { why: refused.to_string() },
            };
            say(stream, &answer).await
        }
        Ok(Request::LogLevel { level, for_s }) => say(stream, &set_log_level(operator, &level, for_s)).await,
        Ok(Request::Suspend { suspension }) => {
            suspended(operator, stream, SuspensionOrder::Suspend(Suspension { by: None, ..suspension })).await
        }
        Ok(Request::Resume { kind, name }) => suspended(operator, stream, SuspensionOrder::Resume { kind, name }).await,
        Ok(Request::Suspended) => suspended(operator, stream, SuspensionOrder::Look).await,
        Ok(Request::Drain) => drain(operator, stream).await,
        Ok(Request::SendTlsReports { domain }) => send_tls_reports(operator, stream, domain.as_ref()).await,
        Ok(Request::Act { act, filter, reason }) => {
            let order = Order { act, actor: Actor::process(uid, reason.as_deref()) };
            match operator.select(&filter, act).await {
                Ok(selected) => carry_out(operator, stream, &order, selected).await,
                Err(error) => say(stream, &ControlReply::Failed { error: error.to_string() }).await,
            }
        }
    }
}

fn set_log_level(operator: &Operator, level: &str, for_s: Option<u64>) -> ControlReply {
    match log_level::set(level, for_s.map(Duration::from_secs), &operator.pipeline().out.clock) {
        Ok(in_force) => {
            tracing::warn!(level = in_force.level, "how much is logged was changed by the operator");
            ControlReply::LogLevel(in_force)
        }
        Err(why) => ControlReply::Refused { why },
    }
}

async fn suspended(operator: &Operator, stream: &mut UnixStream, order: SuspensionOrder) -> io::Result<()> {
    let answer = match operator.suspended(order).await {
        Ok(SuspendedNow { suspended, changed }) => ControlReply::Suspended { suspended, changed },
        Err(error) => ControlReply::Failed { error },
    };
    say(stream, &answer).await
}

/// Ends the relay. Tells how that goes until the end of the process ends the connection.
async fn drain(operator: &Operator, stream: &mut UnixStream) -> io::Result<()> {
    tracing::info!("the operator drains this relay: what has not begun goes back, and it ends");
    operator.stop.cancel();
    loop {
        let under_way = operator.pipeline().hosts().at_work();
        say(stream, &ControlReply::Draining { under_way }).await?;
        tokio::time::sleep(DRAIN_LOOK).await;
    }
}

async fn carry_out(
    operator: &Operator,
    stream: &mut UnixStream,
    order: &Order,
    selected: Vec<Selected>,
) -> io::Result<()> {
    let more = selected.len() >= MOST_SELECTED;
    let (mut acted, mut left_alone) = (0, 0);
    for one in selected {
        let id = one.id;
        match operator.act(order, &one).await {
            Ok(Acted::Done) => {
                acted += 1;
                say(stream, &ControlReply::Acted { id, recipients: one.recipients.len() }).await?;
            }
            Ok(Acted::Busy) => {
                left_alone += 1;
                say(stream, &ControlReply::Busy { id }).await?;
            }
            Ok(Acted::Held) => {
                left_alone += 1;
                say(stream, &ControlReply::Held { id }).await?;
            }
            Err(error) => return say(stream, &ControlReply::Failed { error: error.to_string() }).await,
        }
    }
    say(stream, &ControlReply::Done { acted, left_alone, more }).await
}

async fn send_tls_reports(operator: &Operator, stream: &mut UnixStream, domain: Option<&Domain>) -> io::Result<()> {
    match tls_reports::send_now(&operator.pipeline(), domain).await {
        Ok(sent) => {
            for (report, state) in sent {
                say(stream, &ControlReply::TlsReport { report, state }).await?;
            }
            say(stream, &ControlReply::TlsReportsSent).await
        }
        Err(error) => say(stream, &ControlReply::Failed { error: error.to_string() }).await,
    }
}

async fn say(stream: &mut UnixStream, answer: &ControlReply) -> io::Result<()> {
    let line = serde_json::to_string(answer).map_err(io::Error::other)? + "\n";
    timeout(PATIENCE, stream.write_all(line.as_bytes())).await?
}

/// Asks the relay that runs on a spool; every line of its answer is handed to `each`.
///
/// # Errors
/// When none runs, or it cannot be asked.
pub async fn ask(spool: &Path, request: &Request, each: impl FnMut(ControlReply)) -> Result<(), AskError> {
    ask_patiently(spool, request, LINE_PATIENCE, each).await
}

async fn ask_patiently(
    spool: &Path,
    request: &Request,
    patience: Duration,
    mut each: impl FnMut(ControlReply),
) -> Result<(), AskError> {
    let mut stream = UnixStream::connect(path(spool)).await.map_err(|error| {
        let spool = || spool.display().to_string();
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind());
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        if nobody {
            AskError::NotRunning(spool())
        } else if denied {
            AskError::Denied(spool())
        } else {
            AskError::Io(error)
        }
    })?;
    stream.write_all((serde_json::to_string(request)? + "\n").as_bytes()).await?;
    let mut lines = BufReader::new(stream).lines();
    let silent = |_elapsed| AskError::Silent(spool.display().to_string());
    while let Some(line) = timeout(patience, lines.next_line()).await.map_err(silent)?? {
        each(serde_json::from_str(&line)?);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_asks_nothing_or_without_an_end_is_left_after_a_moment() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let silent = request(&mut BufReader::new(ours)).await;
        assert_eq!(silent.unwrap_err().kind(), io::ErrorKind::TimedOut);
        drop(theirs);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        theirs.write_all(b"{\"ask\":").await.unwrap();
        let slow = request(&mut BufReader::new(ours)).await;
        assert_eq!(slow.unwrap_err().kind(), io::ErrorKind::TimedOut);
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let endless = tokio::spawn(async move { theirs.write_all(&vec![b' '; 1 << 20]).await });
        let read = request(&mut BufReader::new(ours)).await.unwrap();
        assert_eq!(read.len() as u64, REQUEST_LIMIT);
        assert!(endless.await.unwrap().is_err(), "nobody reads the rest");
    }

    #[tokio::test]
    async fn a_relay_that_hangs_does_not_hang_its_operator() {
        let folder = tempfile::tempdir().unwrap();
        let listener = bind(folder.path()).unwrap();
        let asked = ask_patiently(folder.path(), &Request::Status, Duration::from_millis(10), |_| {}).await;
        assert!(matches!(asked, Err(AskError::Silent(_))), "{asked:?}");
        drop(listener);
        let asked = ask_patiently(folder.path(), &Request::Status, Duration::from_millis(10), |_| {}).await;
        assert!(matches!(asked, Err(AskError::NotRunning(_))), "{asked:?}");
    }
}
