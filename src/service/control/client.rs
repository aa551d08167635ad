//! The other end of the control socket: what commands ask a relay that runs, over `/api/v1`.

use super::path;
use crate::accept::suspended::{Resumption, Suspension, SuspensionRecord};
use crate::command::queue::Filter;
use crate::command::status::Running;
use crate::command::tls_reports::SentReport;
use crate::config::settings::{KeyChange, Settings};
use crate::observe::log_level::LogLevel;
use crate::service::order::OrderEvent;
use crate::smtp::address::Domain;
use crate::spool::event::Act;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::header::{ACCEPT, HOST};
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio::net::UnixStream;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// How long a relay may be silent. While it looks through what waits it gives signs of life.
const PATIENCE: Duration = Duration::from_secs(60);

/// The longest answer that is read, in octets: some thousand suspensions or reports.
const ANSWER_LIMIT: usize = 16 * 1024 * 1024;

/// The longest event, in octets.
const EVENT_LIMIT: usize = 64 * 1024;

/// Why a relay cannot be asked, or does not do it.
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
    Odd(String),
    /// What is asked cannot be used, and what was before stays.
    #[error("{0}")]
    Refused(String),
    /// It is not there.
    #[error("{0}")]
    NotThere(String),
    /// It could not be done.
    #[error("{0}")]
    Failed(String),
}

/// Asks the relay that runs on a spool, if one does: a connection for each question.
#[derive(Clone, Debug)]
pub struct ControlClient {
    spool: PathBuf,
    patience: Duration,
}

/// A question.
struct ControlQuestion<'a> {
    method: Method,
    /// Below `/api/v1/`.
    target: &'a str,
    body: Option<Value>,
    accept: &'static str,
}

impl<'a> ControlQuestion<'a> {
    const fn get(target: &'a str) -> Self {
        Self { method: Method::GET, target, body: None, accept: "application/json" }
    }

    const fn post(target: &'a str, body: Value) -> Self {
        Self { method: Method::POST, target, body: Some(body), accept: "application/json" }
    }
}

/// An answer, as long as its connection is there.
struct ControlAnswer {
    response: Response<Incoming>,
    _connection: AbortOnDropHandle<()>,
}

#[derive(Deserialize)]
struct SettingsAnswer {
    settings: Settings,
}

#[derive(Deserialize)]
struct ChangesAnswer {
    changes: Vec<KeyChange>,
}

/// Who is suspended.
#[derive(Debug, Serialize, Deserialize)]
pub struct SuspendedAnswer {
    /// All of them.
    pub suspended: Vec<Suspension>,
    /// Who suspended and let in again, when and why, the newest first.
    pub records: Vec<SuspensionRecord>,
}

#[derive(Deserialize)]
struct ReportsAnswer {
    reports: Vec<SentReport>,
}

#[derive(Deserialize)]
struct FaultAnswer {
    error: String,
}

impl ControlClient {
    /// The client of whichever relay runs on that spool.
    #[must_use]
    pub fn of(spool: &Path) -> Self {
        Self { spool: spool.to_owned(), patience: PATIENCE }
    }

    /// How the relay is.
    ///
    /// # Errors
    /// When none runs, or it cannot be asked.
    pub async fn status(&self) -> Result<Running, AskError> {
        self.whole(ControlQuestion::get("status")).await
    }

    /// Which configuration is in force.
    ///
    /// # Errors
    /// When none runs, or it cannot be asked.
    pub async fn settings(&self) -> Result<Settings, AskError> {
        self.whole::<SettingsAnswer>(ControlQuestion::get("settings")).await.map(|answer| answer.settings)
    }

    /// Lets it take over the configuration as it is in its file now. Gives what is different.
    ///
    /// # Errors
    /// When it cannot be used, none runs, or it cannot be asked.
    pub async fn reload(&self) -> Result<Vec<KeyChange>, AskError> {
        self.whole::<ChangesAnswer>(ControlQuestion::post("reload", json!({}))).await.map(|answer| answer.changes)
    }

    /// Lets it say more or less in its log, for a time or until that is changed again.
    ///
    /// # Errors
    /// When that is no level, none runs, or it cannot be asked.
    pub async fn log_level(&self, level: &str, lasts: Option<Duration>) -> Result<LogLevel, AskError> {
        let lasts = lasts.map(|lasts| humantime::format_duration(lasts).to_string());
        self.whole(ControlQuestion::post("log-level", json!({ "level": level, "for": lasts }))).await
    }

    /// Who is suspended.
    ///
    /// # Errors
    /// When none runs, or it cannot be asked.
    pub async fn suspended(&self) -> Result<SuspendedAnswer, AskError> {
        self.whole(ControlQuestion::get("suspensions")).await
    }

    /// Lets nothing further in from somebody, or to somewhere, for so long. Gives who is suspended then.
    ///
    /// # Errors
    /// When that is no name of the kind, none runs, or it cannot be asked.
    pub async fn suspend(&self, wanted: &Suspension, lasts: Option<Duration>) -> Result<SuspendedAnswer, AskError> {
        let Suspension { kind, name, reason, .. } = wanted;
        let lasts = lasts.map(|lasts| humantime::format_duration(lasts).to_string());
        let body = json!({ "kind": kind, "name": name, "reason": reason, "for": lasts });
        self.whole(ControlQuestion::post("suspensions", body)).await
    }

    /// Lets it in again. Gives who is suspended then.
    ///
    /// # Errors
    /// When that is not suspended, none runs, or it cannot be asked.
    pub async fn resume(&self, wanted: &Resumption) -> Result<SuspendedAnswer, AskError> {
        let Resumption { kind, name, reason } = wanted;
        let mut query = form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("kind", &kind.to_string()).append_pair("name", name);
        let query = query.append_pair("reason", reason).finish();
        let target = format!("suspensions?{query}");
        let asking = ControlQuestion { method: Method::DELETE, ..ControlQuestion::get(&target) };
        self.whole(asking).await
    }

    /// Lets it make the reports on TLS about days that are over, also those that wait for their time.
    ///
    /// # Errors
    /// When none runs, it cannot be asked, or what was counted cannot be read.
    pub async fn send_tls_reports(&self, domain: Option<&Domain>) -> Result<Vec<SentReport>, AskError> {
        let body = json!({ "domain": domain });
        self.whole::<ReportsAnswer>(ControlQuestion::post("tls-reports", body)).await.map(|answer| answer.reports)
    }

    /// Lets it do something with what waits; `each` hears how it goes, message by message, and the sum at the end.
    ///
    /// # Errors
    /// When none runs, or it cannot be asked.
    pub async fn act(
        &self,
        act: Act,
        filter: &Filter,
        reason: Option<&str>,
        each: impl FnMut(OrderEvent),
    ) -> Result<(), AskError> {
        let body = json!({
            "act": act,
            "domain": filter.domain,
            "cause": filter.cause,
            "older": filter.older.map(|older| humantime::format_duration(older).to_string()),
            "sender": filter.sender,
            "id": filter.id,
            "all": filter.is_everything(),
            "reason": reason,
        });
        self.follow(ControlQuestion::post("acts", body), each).await
    }

    /// Lets it hand over what has not begun, and end; `each` hears how that goes until it has.
    ///
    /// # Errors
    /// When none runs, it cannot be asked, or it ends in the midst of a word.
    pub async fn drain(&self, each: impl FnMut(OrderEvent)) -> Result<(), AskError> {
        self.follow(ControlQuestion::post("drain", json!({})), each).await
    }

    async fn whole<T: DeserializeOwned>(&self, asking: ControlQuestion<'_>) -> Result<T, AskError> {
        let answered = self.ask(asking).await?;
        serde_json::from_slice(&self.body(answered).await?).map_err(|error| AskError::Odd(error.to_string()))
    }

    async fn follow(&self, asking: ControlQuestion<'_>, mut each: impl FnMut(OrderEvent)) -> Result<(), AskError> {
        let ControlAnswer { response, _connection } =
            self.ask(ControlQuestion { accept: "text/event-stream", ..asking }).await?;
        let (mut body, mut events) = (response.into_body(), EventLines::default());
        while let Some(frame) = timeout(self.patience, body.frame()).await.map_err(|_| self.silent())? {
            if let Ok(octets) = frame.map_err(broken)?.into_data() {
                for data in events.take(&octets)? {
                    each(serde_json::from_slice(&data).map_err(|error| AskError::Odd(error.to_string()))?);
                }
            }
        }
        Ok(())
    }

    /// An answer that is none of a fault.
    async fn ask(&self, asking: ControlQuestion<'_>) -> Result<ControlAnswer, AskError> {
        let answered = timeout(self.patience, self.sent(asking)).await.map_err(|_| self.silent())??;
        let status = answered.response.status();
        if status.is_success() {
            return Ok(answered);
        }
        let body = self.body(answered).await?;
        let why = serde_json::from_slice::<FaultAnswer>(&body).map_or_else(|_| status.to_string(), |fault| fault.error);
        Err(match status {
            StatusCode::UNPROCESSABLE_ENTITY | StatusCode::BAD_REQUEST => AskError::Refused(why),
            StatusCode::NOT_FOUND => AskError::NotThere(why),
            _ => AskError::Failed(why),
        })
    }

    async fn sent(&self, asking: ControlQuestion<'_>) -> Result<ControlAnswer, AskError> {
        let stream = UnixStream::connect(path(&self.spool)).await.map_err(|error| self.no_connection(error))?;
        let body = asking.body.map(|body| body.to_string()).unwrap_or_default();
        let request = Request::builder()
            .method(asking.method)
            .uri(format!("/api/v1/{}", asking.target))
            .header(HOST, "relay")
            .header(ACCEPT, asking.accept)
            .body(Full::new(Bytes::from(body)))
            .map_err(|error| AskError::Odd(error.to_string()))?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(async move {
            let _ended = connection.await;
        }));
        let response = sender.send_request(request).await.map_err(broken)?;
        Ok(ControlAnswer { response, _connection: connection })
    }

    async fn body(&self, answered: ControlAnswer) -> Result<Bytes, AskError> {
        let ControlAnswer { response, _connection } = answered;
        let whole = Limited::new(response.into_body(), ANSWER_LIMIT).collect();
        let whole = timeout(self.patience, whole).await.map_err(|_| self.silent())?;
        Ok(whole.map_err(|error| AskError::Io(io::Error::other(error)))?.to_bytes())
    }

    fn silent(&self) -> AskError {
        AskError::Silent(self.spool.display().to_string())
    }

    fn no_connection(&self, error: io::Error) -> AskError {
        let spool = || self.spool.display().to_string();
        let nobody = [io::ErrorKind::NotFound, io::ErrorKind::ConnectionRefused].contains(&error.kind());
        let denied = error.kind() == io::ErrorKind::PermissionDenied;
        if nobody {
            AskError::NotRunning(spool())
        } else if denied {
            AskError::Denied(spool())
        } else {
            AskError::Io(error)
        }
    }
}

/// What hyper says of a conversation that failed.
fn broken(error: hyper::Error) -> AskError {
    if error.is_parse() { AskError::Odd(error.to_string()) } else { AskError::Io(io::Error::other(error)) }
}

/// Takes server-sent events apart, of which each has its data in one line.
#[derive(Default)]
struct EventLines {
    rest: Vec<u8>,
}

impl EventLines {
    /// The data of those that are whole now.
    fn take(&mut self, octets: &[u8]) -> Result<Vec<Vec<u8>>, AskError> {
        self.rest.extend_from_slice(octets);
        let mut whole: Vec<Vec<u8>> = self.rest.split(|octet| *octet == b'\n').map(<[u8]>::to_vec).collect();
        self.rest = whole.pop().unwrap_or_default();
        if self.rest.len() > EVENT_LIMIT {
            return Err(AskError::Odd("an event has no end".to_owned()));
        }
        let data = whole.into_iter().filter_map(|line| line.strip_prefix(b"data: ").map(<[u8]>::to_vec));
        Ok(data.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::control::bind;

    #[tokio::test]
    async fn a_relay_that_hangs_does_not_hang_its_operator() {
        let folder = tempfile::tempdir().unwrap();
        let listener = bind(folder.path()).unwrap();
        let client = ControlClient { patience: Duration::from_millis(10), ..ControlClient::of(folder.path()) };
        let asked = client.status().await;
        assert!(matches!(asked, Err(AskError::Silent(_))), "{asked:?}");
        drop(listener);
        let asked = client.status().await;
        assert!(matches!(asked, Err(AskError::NotRunning(_))), "{asked:?}");
    }

    #[test]
    fn events_come_whole_however_they_are_cut_and_none_is_without_end() {
        let text = b": alive\n\nevent: order\ndata: {\"a\":1}\n\nevent: order\ndata: {\"b\":2}\n\n";
        for cut in 0..text.len() {
            let mut events = EventLines::default();
            let mut data = events.take(&text[..cut]).unwrap();
            data.extend(events.take(&text[cut..]).unwrap());
            assert_eq!(data, [br#"{"a":1}"#, br#"{"b":2}"#], "{cut}");
        }
        assert!(EventLines::default().take(&vec![b'x'; EVENT_LIMIT + 1]).is_err());
    }
}
