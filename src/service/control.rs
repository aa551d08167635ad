//! The control socket: how the operator's commands reach a relay that runs.
//!
//! A Unix socket in the spool directory, for its owner alone. One request is one line of JSON; the
//! answers are lines of JSON, the last of which says that it is the last. Whoever may open the
//! socket may read the whole spool anyway, so there is no further authentication; who asked is
//! recorded with what was done.
#![expect(clippy::disallowed_methods, reason = "this driver owns the control socket and replaces a stale one")]

use crate::clock::Timestamp;
use crate::command::queue::{Filter, MOST_SELECTED, Selected};
use crate::command::status::Running;
use crate::config::SpoolConfig;
use crate::observe::log_level;
use crate::pipeline::Pipeline;
use crate::pipeline::operate::{Acted, Order};
use crate::service::admin::readiness;
pub use crate::service::order::{ControlReply, Request};
use crate::service::reload::Reloading;
use crate::service::suspensions;
use crate::service::tls_reports;
use crate::smtp::address::Domain;
use crate::spool::event::Act;
use crate::spool::ledger::LedgerError;
use crate::spool::open_ledger;
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

/// The longest request: some thousand queue ids fit.
const REQUEST_LIMIT: u64 = 64 * 1024;

/// How long a client may take to ask.
const REQUEST_PATIENCE: Duration = Duration::from_secs(2);

/// How long a client may take to take an answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// How long one line of an answer may take: before the first one, a hundred thousand messages are
/// looked through.
const LINE_PATIENCE: Duration = Duration::from_secs(60);

/// From one line about a relay that ends to the next.
const DRAIN_LOOK: Duration = Duration::from_millis(200);

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

/// What the socket serves.
pub(super) struct Control {
    /// The spool of the relay, which no reload changes.
    pub spool: SpoolConfig,
    /// Who takes over another configuration, and knows the one in force.
    pub reloading: Arc<Reloading>,
    /// When the relay started.
    pub since: Timestamp,
    /// What ends it.
    pub stop: CancellationToken,
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
pub(super) async fn run(control: Arc<Control>, listener: UnixListener, stop: CancellationToken) {
    let (silent, clients) = (Arc::new(Semaphore::new(MOST_SILENT)), Arc::new(Semaphore::new(MOST_CLIENTS)));
    let serving = async {
        loop {
            let Ok(place) = Arc::clone(&silent).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => {
                    tokio::spawn(answered(Arc::clone(&control), stream, place, Arc::clone(&clients)));
                }
                Err(error) => {
                    control.pipeline().observer.spool_failed("accept on the control socket", &error);
                    tokio::time::sleep(PATIENCE).await;
                }
            }
        }
    };
    let _stopped = stop.run_until_cancelled(serving).await;
    let _gone = std::fs::remove_file(path(&control.spool.path));
}

/// One client. It gives its place among the silent ones back when it has asked.
async fn answered(control: Arc<Control>, stream: UnixStream, place: OwnedSemaphorePermit, clients: Arc<Semaphore>) {
    let mut stream = BufReader::new(stream);
    let asked = request(&mut stream).await;
    drop(place);
    let (Ok(line), Ok(_place)) = (asked, clients.acquire_owned().await) else { return };
    // Who goes away early needs no answer.
    let _gone = control.serve(stream.get_mut(), &line).await;
}

/// The line in which a client asks.
async fn request(stream: &mut BufReader<UnixStream>) -> io::Result<String> {
    let mut line = String::new();
    timeout(REQUEST_PATIENCE, stream.take(REQUEST_LIMIT).read_line(&mut line)).await??;
    Ok(line)
}

impl Control {
    fn pipeline(&self) -> Arc<Pipeline> {
        self.reloading.service().pipeline()
    }

    async fn serve(&self, stream: &mut UnixStream, line: &str) -> io::Result<()> {
        let uid = stream.peer_cred().ok().map(|peer| peer.uid());
        match serde_json::from_str(line) {
            Err(error) => say(stream, &ControlReply::Failed { error: error.to_string() }).await,
            Ok(Request::Status) => say(stream, &ControlReply::Status(Box::new(self.running().await))).await,
            Ok(Request::Settings) => {
                let settings = self.reloading.settings().await;
                say(stream, &ControlReply::Settings { settings }).await
            }
            Ok(Request::Reload) => {
                let answer = match Box::pin(self.reloading.reload()).await {
                    Ok(changes) => ControlReply::Reloaded { changes },
                    Err(refused) => ControlReply::Refused { why: refused.to_string() },
                };
                say(stream, &answer).await
            }
            Ok(Request::LogLevel { level, for_s }) => say(stream, &self.set_log_level(&level, for_s)).await,
            Ok(request @ (Request::Suspend { .. } | Request::Resume { .. } | Request::Suspended)) => {
                let now = self.pipeline().out.clock.now();
                let answer = suspensions::order(self.reloading.service(), &request, now).await;
                say(stream, &answer).await
            }
            Ok(Request::Drain) => self.drain(stream).await,
            Ok(Request::SendTlsReports { domain }) => self.send_tls_reports(stream, domain.as_ref()).await,
            Ok(Request::Act { act, filter }) => {
                let selected = match self.select(&filter, act).await {
                    Ok(selected) => selected,
                    Err(error) => return say(stream, &ControlReply::Failed { error: error.to_string() }).await,
                };
                self.act(stream, Order { act, uid }, selected).await
            }
        }
    }

    fn set_log_level(&self, level: &str, for_s: Option<u64>) -> ControlReply {
        match log_level::set(level, for_s.map(Duration::from_secs), &self.pipeline().out.clock) {
            Ok(in_force) => {
                tracing::warn!(level = in_force.level, "how much is logged was changed by the operator");
                ControlReply::LogLevel(in_force)
            }
            Err(why) => ControlReply::Refused { why },
        }
    }

    /// Ends the relay. Tells how that goes until the end of the process ends the connection.
    async fn drain(&self, stream: &mut UnixStream) -> io::Result<()> {
        tracing::info!("the operator drains this relay: what has not begun goes back, and it ends");
        self.stop.cancel();
        loop {
            let under_way = self.pipeline().hosts().at_work();
            say(stream, &ControlReply::Draining { under_way }).await?;
            tokio::time::sleep(DRAIN_LOOK).await;
        }
    }

    async fn act(&self, stream: &mut UnixStream, order: Order, selected: Vec<Selected>) -> io::Result<()> {
        let more = selected.len() >= MOST_SELECTED;
        let (mut acted, mut left_alone) = (0, 0);
        for Selected { id, recipients, hold } in selected {
            match self.pipeline().operate(order, id, &recipients, hold).await {
                Ok(Acted::Done) => {
                    acted += 1;
                    self.pipeline().observer.operated(id, order.act, recipients.len());
                    say(stream, &ControlReply::Acted { id, recipients: recipients.len() }).await?;
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

    async fn send_tls_reports(&self, stream: &mut UnixStream, domain: Option<&Domain>) -> io::Result<()> {
        match tls_reports::send_now(&self.pipeline(), domain).await {
            Ok(sent) => {
                for (report, state) in sent {
                    say(stream, &ControlReply::TlsReport { report, state }).await?;
                }
                say(stream, &ControlReply::TlsReportsSent).await
            }
            Err(error) => say(stream, &ControlReply::Failed { error: error.to_string() }).await,
        }
    }

    async fn select(&self, filter: &Filter, act: Act) -> Result<Vec<Selected>, LedgerError> {
        let ledger = open_ledger(&self.spool).await?;
        filter.select(ledger.as_ref(), act, self.pipeline().out.clock.now()).await
    }

    async fn running(&self) -> Running {
        let (pipeline, config) = (self.pipeline(), self.reloading.status().await);
        let stats = pipeline.spool.stats();
        Running {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            since: self.since,
            smtp: self.reloading.smtp(),
            admin: self.reloading.admin(),
            config: Some(config),
            log_level: log_level::in_force(),
            refuses: readiness::no_room(pipeline.spool.as_ref(), pipeline.out.clock.now()),
            full_disk: pipeline.spool.full_disk(pipeline.out.clock.now()),
            queued_messages: stats.queued_messages,
            held_messages: stats.held_messages,
            oldest: stats.oldest,
            spool_bytes: stats.bytes,
            damaged_records: stats.damaged_records,
            next_hops_backing_off: pipeline.backing_off(),
            hosts: pipeline.hosts(),
            exceptions: pipeline.out.exceptions_now(),
            private_zones: pipeline.out.config.dns.private_zones.iter().map(ToString::to_string).collect(),
            client_certificates: pipeline.out.egress.certificates(),
        }
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
