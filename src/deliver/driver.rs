//! Opens connections and lets a session speak: the sockets, the handshake, the time limits.
//!
//! Content streams from the spool to the socket; a damaged copy is noticed before the final dot,
//! and then the dot is never sent.

#![expect(clippy::disallowed_methods, reason = "this driver opens connections to mail servers")]

use super::message::Message;
use super::session::{Event, Fault, Job, Session, StartTlsUse, Step};
use super::tls::{Tls, Trust};
use super::{AttemptReport, Target, WatchReport, time_limit};
use crate::clock::Clock;
use crate::config::Config;
use crate::outcome::{Cause, DemandedBy, Phase, TlsVerdict};
use crate::policy::TlsPolicy;
use crate::policy::webpki::WebPki;
use crate::smtp::address::{Domain, ReversePath};
use crate::smtp::data::DotStuffer;
use crate::smtp::reply::{Capabilities, REPLY_LINE_LIMIT, Reply, ReplyError, ReplyParser};
use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// How long we wait for a reply to QUIT; its text matters to nobody.
const GOODBYE_LIMIT: Duration = Duration::from_secs(5);
/// One read from the socket.
const READ_BYTES: usize = 4096;

/// Opens the content of the message, when and if a server wants it.
#[async_trait]
pub trait OpenBody: Send + Sync {
    /// A fresh reader from the start of the content.
    ///
    /// # Errors
    /// As [`crate::spool::Spool::open_body`].
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError>;
}

/// Speaks to mail servers.
pub struct Mailer {
    hostname: Domain,
    connect_timeout: Duration,
    reply_timeout: Duration,
    clear_text_fallback: bool,
    trust: Trust,
    clock: Clock,
}

/// A conversation that stopped before MAIL FROM: what `relay check` shows.
#[derive(Debug)]
pub struct Probe {
    /// How the connection was protected, when it came that far.
    pub tls: Option<TlsVerdict>,
    /// What the server offered last.
    pub offered: Capabilities,
    /// What went wrong, if anything did.
    pub failure: Option<Cause>,
    /// What the watched policy says.
    pub watched: Option<WatchReport>,
    /// The certificates the server presented, leaf first, in DER; also when they were refused.
    pub certificates: Vec<Vec<u8>>,
    /// How long it took.
    pub took: Duration,
}

/// How far one conversation came.
struct Conversation {
    session: Session,
    /// Still open, for QUIT.
    connection: Option<Connection>,
    certificates: Vec<Vec<u8>>,
    /// What the watched policy disliked inside TLS, or the handshake that failed.
    watched_failure: Option<Cause>,
}

impl Conversation {
    /// The judgement of the watched policy, once the way the connection is protected is settled.
    fn watch_report(&self, target: &Target) -> Option<WatchReport> {
        let watched = target.watched.as_ref()?;
        let because = watched.because;
        let failure = match (&watched.demand, self.session.tls()?) {
            (Err(cause), _) => Some(cause.clone()),
            (Ok(policy), TlsVerdict::ClearText) => Some(self.watched_failure.clone().unwrap_or_else(|| {
                let demanded_by = policy.demanded_by().unwrap_or(DemandedBy::Operator);
                Cause::StarttlsNotOffered { peer: target.peer.clone(), demanded_by }
            })),
            (Ok(_), TlsVerdict::Unauthenticated { .. } | TlsVerdict::Dane { .. } | TlsVerdict::WebPki { .. }) => {
                self.watched_failure.clone()
            }
        };
        Some(WatchReport { because, failure })
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

struct Connection {
    stream: Box<dyn Stream>,
    buffer: Vec<u8>,
    parser: ReplyParser,
}

impl Mailer {
    /// A mailer that introduces itself by our host name. `roots` vouch for certificates where
    /// DANE does not.
    #[must_use]
    pub fn new(config: &Config, roots: WebPki, clock: Clock) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self {
            hostname: config.hostname.clone(),
            connect_timeout: config.delivery.connect_timeout,
            reply_timeout: config.delivery.reply_timeout,
            clear_text_fallback: config.tls.clear_text_fallback,
            trust: Trust { provider, roots },
            clock,
        }
    }

    /// Offers the message to one server. Every recipient of `message` has an outcome in the
    /// report.
    pub async fn attempt(&self, target: &Target, message: Message, body: &dyn OpenBody) -> AttemptReport {
        let started = Instant::now();
        let talk = self.converse(target, Some(message), Some(body)).await;
        let watched = talk.watch_report(target);
        let Conversation { session, connection, .. } = talk;
        if let Some(connection) = connection {
            // The outcome is known; the farewell must not hold it up.
            tokio::spawn(goodbye(connection));
        }
        AttemptReport {
            peer: target.peer.clone(),
            policy: target.policy.clone(),
            tls: session.tls().cloned(),
            watched,
            outcomes: session.outcomes(),
            left: session.left(),
            took: started.elapsed(),
        }
    }

    /// The same conversation, stopped before MAIL FROM.
    pub async fn probe(&self, target: &Target) -> Probe {
        let started = Instant::now();
        let talk = self.converse(target, None, None).await;
        let watched = talk.watch_report(target);
        let Conversation { session, connection, certificates, .. } = talk;
        let took = started.elapsed();
        if let Some(connection) = connection {
            goodbye(connection).await;
        }
        Probe {
            tls: session.tls().cloned(),
            offered: session.offered().clone(),
            failure: session.failure().cloned(),
            watched,
            certificates,
            took,
        }
    }

    /// Opportunistic TLS that fails in the handshake is tried again in clear text, on a fresh
    /// connection, unless the operator wants none of it: nothing was promised for this host
    /// (RFC 7435 §3).
    async fn converse(&self, target: &Target, message: Option<Message>, body: Option<&dyn OpenBody>) -> Conversation {
        let starttls = match (&target.policy, target.policy.demanded_by()) {
            (TlsPolicy::Off, _) => StartTlsUse::Never,
            (_, Some(demanded_by)) => StartTlsUse::Required(demanded_by),
            (_, None) => StartTlsUse::IfOffered,
        };
        let first = self.one_connection(target, starttls, message.clone(), body).await;
        let handshake_failed = matches!(first.session.failure(), Some(Cause::TlsHandshake { .. }));
        if handshake_failed && starttls == StartTlsUse::IfOffered && self.clear_text_fallback {
            let watched_failure = first.session.failure().cloned();
            let second = self.one_connection(target, StartTlsUse::Never, message, body).await;
            return Conversation { watched_failure, ..second };
        }
        first
    }

    async fn one_connection(
        &self,
        target: &Target,
        starttls: StartTlsUse,
        message: Option<Message>,
        body: Option<&dyn OpenBody>,
    ) -> Conversation {
        let mut talk = Conversation {
            session: Session::new(self.job(target, starttls, message)),
            connection: None,
            certificates: Vec::new(),
            watched_failure: None,
        };
        let mut connection = match self.connect(target).await {
            Ok(connection) => connection,
            Err(fault) => {
                let _finish = talk.session.on(Event::Broken(fault));
                return talk;
            }
        };
        let mut step = talk.session.on(Event::Connected);
        loop {
            let event = match step {
                Step::Finish => break,
                Step::Send(bytes, phase) => self.send(&mut connection, &bytes, phase).await,
                Step::Await(phase) => self.reply(&mut connection, phase).await,
                Step::SendBody => self.send_body(&mut connection, body).await,
                Step::StartTls => match self.start_tls(connection, target, &mut talk).await {
                    Ok((secured, verdict)) => {
                        connection = secured;
                        Event::Secured(verdict)
                    }
                    Err(fault) => {
                        let _finish = talk.session.on(Event::Broken(fault));
                        return talk;
                    }
                },
            };
            step = talk.session.on(tls_failure(event, &talk.session, target));
        }
        talk.connection = Some(connection);
        talk
    }

    /// Mail with the null reverse-path, an NDR, is not held up because a server does not offer
    /// REQUIRETLS (RFC 8689 §5); TLS and certificate are demanded all the same.
    fn job(&self, target: &Target, starttls: StartTlsUse, message: Option<Message>) -> Job {
        let is_report = message.as_ref().is_some_and(|message| message.reverse_path == ReversePath::Null);
        Job {
            hostname: self.hostname.to_string(),
            peer: target.peer.clone(),
            starttls,
            require_tls: target.require_tls && !is_report,
            message,
        }
    }

    async fn connect(&self, target: &Target) -> Result<Connection, Fault> {
        let connecting = TcpStream::connect(target.peer.address);
        match timeout(self.connect_timeout, connecting).await {
            Err(_elapsed) => Err(Fault::TimedOut),
            Ok(Err(error)) => Err(Fault::Lost(error.to_string())),
            Ok(Ok(stream)) => {
                // Commands are small and each waits for its reply: never hold them back.
                stream.set_nodelay(true).map_err(|e| Fault::Lost(e.to_string()))?;
                Ok(Connection { stream: Box::new(stream), buffer: Vec::new(), parser: ReplyParser::default() })
            }
        }
    }

    async fn send(&self, connection: &mut Connection, bytes: &[u8], phase: Phase) -> Event {
        match self.within(phase, connection.write(bytes)).await {
            Ok(()) => self.reply(connection, phase).await,
            Err(fault) => self.last_words(connection, fault).await,
        }
    }

    async fn reply(&self, connection: &mut Connection, phase: Phase) -> Event {
        match timeout(self.limit(phase), connection.read_reply()).await {
            Err(_elapsed) => Event::Broken(Fault::TimedOut),
            Ok(Ok(reply)) => Event::Reply(reply),
            Ok(Err(fault)) => Event::Broken(fault),
        }
    }

    async fn send_body(&self, connection: &mut Connection, body: Option<&dyn OpenBody>) -> Event {
        let Some(body) = body else { return Event::Broken(Fault::ContentDamaged) };
        let mut reader = match body.open().await {
            Ok(reader) => reader,
            Err(error) => return Event::Broken(content_fault(&error)),
        };
        let mut stuffer = DotStuffer::default();
        let mut wire = Vec::new();
        loop {
            let piece = match reader.next().await {
                Ok(None) => break,
                Err(error) => return Event::Broken(content_fault(&error)),
                Ok(Some(piece)) => piece,
            };
            // One piece is held back, so that a small message and its dot, which goes out only
            // after the checksum was found right, are one write.
            if let Err(fault) = self.content(connection, &wire).await {
                return self.last_words(connection, fault).await;
            }
            wire.clear();
            stuffer.feed(&piece, &mut wire);
        }
        stuffer.finish(&mut wire);
        match self.content(connection, &wire).await {
            Ok(()) => Event::BodySent,
            Err(fault) => self.last_words(connection, fault).await,
        }
    }

    async fn content(&self, connection: &mut Connection, wire: &[u8]) -> Result<(), Fault> {
        if wire.is_empty() {
            return Ok(());
        }
        self.within(Phase::Content, connection.write(wire)).await
    }

    /// A server that closes while we write has often said why; that reply is the better cause.
    async fn last_words(&self, connection: &mut Connection, fault: Fault) -> Event {
        match timeout(GOODBYE_LIMIT, connection.read_reply()).await {
            Ok(Ok(reply)) => Event::Reply(reply),
            Ok(Err(_)) | Err(_) => Event::Broken(fault),
        }
    }

    async fn start_tls(
        &self,
        connection: Connection,
        target: &Target,
        talk: &mut Conversation,
    ) -> Result<(Connection, TlsVerdict), Fault> {
        let peer = || target.peer.clone();
        let tls = Tls::new(&self.trust, target, self.clock.now())
            .map_err(|detail| Fault::Handshake(Cause::TlsHandshake { peer: peer(), detail }))?;
        // What came in clear text behind the reply to STARTTLS dies with the old buffer
        // (RFC 3207 §4.2).
        let handshake = TlsConnector::from(Arc::clone(&tls.config)).connect(tls.server_name.clone(), connection.stream);
        let shaken = timeout(self.limit(Phase::Handshake), handshake).await;
        talk.certificates.extend(tls.presented());
        talk.watched_failure = tls.watched_failure(peer());
        match shaken {
            Err(_elapsed) => Err(Fault::TimedOut),
            Ok(Err(error)) => Err(Fault::Handshake(tls.cause(&error, peer()))),
            Ok(Ok(stream)) => {
                let verdict = tls.verdict(stream.get_ref().1.protocol_version());
                let secured =
                    Connection { stream: Box::new(stream), buffer: Vec::new(), parser: ReplyParser::default() };
                Ok((secured, verdict))
            }
        }
    }

    async fn within(&self, phase: Phase, action: impl Future<Output = io::Result<()>>) -> Result<(), Fault> {
        match timeout(self.limit(phase), action).await {
            Err(_elapsed) => Err(Fault::TimedOut),
            Ok(done) => done.map_err(|e| Fault::Lost(e.to_string())),
        }
    }

    fn limit(&self, phase: Phase) -> Duration {
        time_limit(phase, self.connect_timeout, self.reply_timeout)
    }
}

/// In TLS 1.3 a server that insists on a client certificate, or dislikes something else, says so
/// only at the first read after the handshake: that is still a failure of TLS.
fn tls_failure(event: Event, session: &Session, target: &Target) -> Event {
    match event {
        Event::Broken(Fault::Lost(detail)) if session.phase() == Phase::EhloInTls => {
            Event::Broken(Fault::Handshake(Cause::TlsHandshake { peer: target.peer.clone(), detail }))
        }
        other @ (Event::Broken(_) | Event::Reply(_) | Event::Connected | Event::Secured(_) | Event::BodySent) => other,
    }
}

fn content_fault(error: &SpoolError) -> Fault {
    match error {
        SpoolError::Damaged => Fault::ContentDamaged,
        SpoolError::Full
        | SpoolError::Io { .. }
        | SpoolError::State(_)
        | SpoolError::Fenced
        | SpoolError::Stopped
        | SpoolError::Unusable(_) => Fault::Lost(format!("our own spool: {error}")),
    }
}

async fn goodbye(mut connection: Connection) {
    let farewell = async {
        connection.write(b"QUIT\r\n").await?;
        let _any_reply = connection.read_reply().await;
        connection.stream.shutdown().await
    };
    let _whatever_happens = timeout(GOODBYE_LIMIT, farewell).await;
}

impl Connection {
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    async fn read_reply(&mut self) -> Result<Reply, Fault> {
        loop {
            while let Some(end) = self.buffer.iter().position(|&b| b == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                if let Some(reply) = self.parser.line(&line).map_err(Fault::NotSmtp)? {
                    return Ok(reply);
                }
            }
            if self.buffer.len() > REPLY_LINE_LIMIT {
                return Err(Fault::NotSmtp(ReplyError::LineTooLong));
            }
            let mut piece = [0_u8; READ_BYTES];
            let count = self.stream.read(&mut piece).await.map_err(|e| Fault::Lost(e.to_string()))?;
            if count == 0 {
                return Err(Fault::Lost("the other side closed the connection".into()));
            }
            self.buffer.extend_from_slice(piece.get(..count).unwrap_or_default());
        }
    }
}
