//! Opens connections and lets a session speak: the network, the handshake, the time limits.
//!
//! Content streams from the spool to the socket; a damaged copy is noticed before the final dot,
//! and then the dot is never sent.

use super::connection::{GOODBYE_LIMIT, SmtpConnection};
use super::families::{SilentFamily, WaysOut};
use super::message::Message;
use super::parking::{Idle, Parking};
use super::pool::{History, Identity};
use super::session::{Event, Job, Session, StartTlsUse, Step, TransportFault};
use super::tls::{Tls, Trust};
use super::{AttemptReport, Target, WatchReport, time_limit};
use crate::clock::Clock;
use crate::config::Config;
use crate::net::Network;
use crate::outcome::{Cause, DemandedBy, Phase, TlsVerdict};
use crate::policy::TlsPolicy;
use crate::policy::x509::webpki::WebPki;
use crate::resolve::{HostAddresses, Resolution};
use crate::smtp::address::{Domain, ReversePath};
use crate::smtp::data::DotStuffer;
use crate::smtp::reply::Capabilities;
use crate::spool::{BodyReader, SpoolError};
use async_trait::async_trait;
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, timeout};
use tokio_rustls::TlsConnector;

/// How long the first reply on a connection that was parked may take: what hangs has lost its
/// other end, and the message need not wait on it for minutes, because a fresh connection is free
/// to have.
const PARKED_REPLY_LIMIT: Duration = Duration::from_secs(30);

/// The replies up to the content together may take as long as so many of them: half an hour with
/// the usual five minutes (RFC 5321 §4.5.3.2) for what an honest server does in seconds. One that
/// draws out every reply must not hold a connection, of which there are few, for five minutes a
/// recipient.
const REPLIES_IN_ALL: u32 = 6;

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
    parking: Parking,
    silence: SilentFamily,
    network: Arc<dyn Network>,
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
struct MailConversation {
    session: Session,
    /// Still open, for the next message or for QUIT.
    connection: Option<SmtpConnection>,
    history: History,
    certificates: Vec<Vec<u8>>,
    /// What the watched policy disliked inside TLS, or the handshake that failed.
    watched_failure: Option<Cause>,
}

impl MailConversation {
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
            (
                Ok(_),
                TlsVerdict::Unauthenticated { .. }
                | TlsVerdict::Dane { .. }
                | TlsVerdict::WebPki { .. }
                | TlsVerdict::WebPkiAndDane { .. },
            ) => self.watched_failure.clone(),
        };
        Some(WatchReport { because, failure })
    }
}

impl Mailer {
    /// A mailer that introduces itself by our host name. `roots` vouch for certificates where
    /// DANE does not.
    #[must_use]
    pub fn new(config: &Config, roots: WebPki, network: Arc<dyn Network>, clock: Clock) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        Self {
            hostname: config.hostname.clone(),
            connect_timeout: config.delivery.connect_timeout,
            reply_timeout: config.delivery.reply_timeout,
            clear_text_fallback: config.tls.clear_text_fallback,
            trust: Trust { provider, roots },
            parking: Parking::new(&config.delivery),
            silence: SilentFamily::default(),
            network,
            clock,
        }
    }

    /// Offers the message to one server, on a parked connection of the same security identity
    /// where there is one. Every recipient of `message` has an outcome in the report, or is left
    /// for a further transaction.
    pub async fn attempt(&self, target: &Target, message: Message, body: &dyn OpenBody) -> AttemptReport {
        let started = Instant::now();
        let identity = Identity::of(target);
        let parked = self.parking.take(&identity);
        let talk = match parked {
            Some(idle) => self.converse_on(idle, target, message, body).await,
            None => self.converse(target, Some(message), Some(body)).await,
        };
        let report = AttemptReport {
            peer: target.peer.clone(),
            policy: target.policy.clone(),
            tls: talk.session.tls().cloned(),
            watched: talk.watch_report(target),
            outcomes: talk.session.outcomes(),
            left: talk.session.left(),
            nth_on_connection: talk.history.messages,
            took: started.elapsed(),
        };
        self.keep_or_leave(&identity, talk);
        report
    }

    /// What is known of the ways to the hosts of a next hop; only about hosts with a choice.
    #[must_use]
    pub fn ways_out(&self, resolution: &Resolution) -> WaysOut {
        let choices = resolution.hosts.iter().filter_map(|host| match &host.addresses {
            HostAddresses::Known(addresses) if addresses.len() > 1 => Some(addresses),
            HostAddresses::Known(_) | HostAddresses::Unavailable(_) => None,
        });
        let without_route = choices.flatten().copied().filter(|address| !self.network.has_way_to(*address)).collect();
        WaysOut { without_route, silent: self.silence.family(self.clock.now()) }
    }

    /// Says QUIT on all parked connections, and parks none from now on. Takes seconds at most.
    pub async fn close(&self) {
        self.parking.close().await;
    }

    fn keep_or_leave(&self, identity: &Identity, talk: MailConversation) {
        let MailConversation { session, connection, history, watched_failure, .. } = talk;
        match (connection, session.learned()) {
            (Some(connection), Some(learned)) => {
                self.parking.park(identity, Idle { connection, learned, history, watched_failure });
            }
            (Some(connection), None) => self.parking.let_go(connection),
            (None, _) => {}
        }
    }

    /// The same conversation, stopped before MAIL FROM.
    pub async fn probe(&self, target: &Target) -> Probe {
        let started = Instant::now();
        let talk = self.converse(target, None, None).await;
        let watched = talk.watch_report(target);
        let MailConversation { session, connection, certificates, .. } = talk;
        let took = started.elapsed();
        if let Some(connection) = connection {
            connection.goodbye().await;
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

    /// The message on a connection that carried one before. When the server has left it in the
    /// meantime, the message goes on a fresh one at once, and nothing of that counts: not a word
    /// of the message was answered.
    async fn converse_on(
        &self,
        idle: Idle,
        target: &Target,
        message: Message,
        body: &dyn OpenBody,
    ) -> MailConversation {
        let Idle { mut connection, learned, history, watched_failure } = idle;
        let job = self.job(target, starttls_use(&target.policy), Some(message.clone()));
        connection.hurry = Some(PARKED_REPLY_LIMIT);
        let talk = MailConversation {
            session: Session::ready(job, learned),
            connection: None,
            history: History { messages: history.messages.saturating_add(1), ..history },
            certificates: Vec::new(),
            watched_failure,
        };
        let talk = self.talk(talk, connection, target, Some(body)).await;
        if !talk.session.met_a_closed_door() {
            return talk;
        }
        if let Some(connection) = talk.connection {
            self.parking.let_go(connection);
        }
        self.converse(target, Some(message), Some(body)).await
    }

    /// Opportunistic TLS that fails in the handshake is tried again in clear text, on a fresh
    /// connection, unless the operator wants none of it: nothing was promised for this host
    /// (RFC 7435 §3).
    async fn converse(
        &self,
        target: &Target,
        message: Option<Message>,
        body: Option<&dyn OpenBody>,
    ) -> MailConversation {
        let starttls = starttls_use(&target.policy);
        let first = self.one_connection(target, starttls, message.clone(), body).await;
        if first.session.failure().is_some_and(spoilt_handshake)
            && starttls == StartTlsUse::IfOffered
            && self.clear_text_fallback
        {
            let watched_failure = first.session.failure().cloned();
            let second = self.one_connection(target, StartTlsUse::NotAgain, message, body).await;
            return MailConversation { watched_failure, ..second };
        }
        first
    }

    async fn one_connection(
        &self,
        target: &Target,
        starttls: StartTlsUse,
        message: Option<Message>,
        body: Option<&dyn OpenBody>,
    ) -> MailConversation {
        let mut talk = MailConversation {
            session: Session::new(self.job(target, starttls, message)),
            connection: None,
            history: History { opened: self.parking.now(), messages: 1 },
            certificates: Vec::new(),
            watched_failure: None,
        };
        match self.connect(target).await {
            Ok(connection) => self.talk(talk, connection, target, body).await,
            Err(fault) => {
                let _finish = talk.session.on(Event::Broken(fault));
                talk
            }
        }
    }

    /// Lets the session speak on an open connection until it has nothing more to say.
    async fn talk(
        &self,
        mut talk: MailConversation,
        mut connection: SmtpConnection,
        target: &Target,
        body: Option<&dyn OpenBody>,
    ) -> MailConversation {
        let end = Instant::now() + self.reply_timeout.saturating_mul(REPLIES_IN_ALL);
        let mut step = talk.session.on(Event::Connected);
        loop {
            let event = match step {
                Step::Finish => break,
                Step::Send(bytes, phase) => self.send(&mut connection, &bytes, phase, end).await,
                Step::Await(phase) => self.reply(&mut connection, phase, end).await,
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

    async fn connect(&self, target: &Target) -> Result<SmtpConnection, TransportFault> {
        match timeout(self.connect_timeout, self.network.connect(target.peer.address)).await {
            Err(_elapsed) => {
                self.silence.met(target.peer.address.ip(), self.clock.now());
                Err(TransportFault::TimedOut)
            }
            Ok(Err(error)) => Err(TransportFault::Lost(error.to_string())),
            Ok(Ok(stream)) => {
                self.silence.broken(target.peer.address.ip());
                Ok(SmtpConnection::new(stream))
            }
        }
    }

    async fn send(&self, connection: &mut SmtpConnection, bytes: &[u8], phase: Phase, end: Instant) -> Event {
        match self.within(phase, connection.write(bytes)).await {
            Ok(()) => self.reply(connection, phase, end).await,
            Err(fault) => self.last_words(connection, fault).await,
        }
    }

    async fn reply(&self, connection: &mut SmtpConnection, phase: Phase, end: Instant) -> Event {
        let hurry = connection.hurry.take().unwrap_or(Duration::MAX);
        let limit = self.limit(phase).min(hurry).min(until(end, phase));
        match timeout(limit, connection.read_reply()).await {
            Err(_elapsed) => Event::Broken(TransportFault::TimedOut),
            Ok(Ok(reply)) => Event::Reply(reply),
            Ok(Err(fault)) => Event::Broken(fault),
        }
    }

    async fn send_body(&self, connection: &mut SmtpConnection, body: Option<&dyn OpenBody>) -> Event {
        let Some(body) = body else { return Event::Broken(TransportFault::ContentDamaged) };
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

    async fn content(&self, connection: &mut SmtpConnection, wire: &[u8]) -> Result<(), TransportFault> {
        if wire.is_empty() {
            return Ok(());
        }
        self.within(Phase::Content, connection.write(wire)).await
    }

    /// A server that closes while we write has often said why; that reply is the better cause.
    async fn last_words(&self, connection: &mut SmtpConnection, fault: TransportFault) -> Event {
        match timeout(GOODBYE_LIMIT, connection.read_reply()).await {
            Ok(Ok(reply)) => Event::Reply(reply),
            Ok(Err(_)) | Err(_) => Event::Broken(fault),
        }
    }

    async fn start_tls(
        &self,
        connection: SmtpConnection,
        target: &Target,
        talk: &mut MailConversation,
    ) -> Result<(SmtpConnection, TlsVerdict), TransportFault> {
        let peer = || target.peer.clone();
        let tls = Tls::new(&self.trust, target, self.clock.now())
            .map_err(|detail| TransportFault::Handshake(Cause::TlsHandshake { peer: peer(), detail }))?;
        // What came in clear text behind the reply to STARTTLS dies with the old buffer
        // (RFC 3207 §4.2).
        let handshake =
            TlsConnector::from(Arc::clone(&tls.config)).connect(tls.server_name.clone(), connection.into_stream());
        let shaken = timeout(self.limit(Phase::Handshake), handshake).await;
        talk.certificates.extend(tls.presented());
        talk.watched_failure = tls.watched_failure(peer());
        match shaken {
            Err(_elapsed) => Err(TransportFault::TimedOut),
            Ok(Err(error)) => Err(TransportFault::Handshake(tls.cause(&error, peer()))),
            Ok(Ok(stream)) => {
                let verdict = tls.verdict(stream.get_ref().1.protocol_version());
                Ok((SmtpConnection::new(Box::new(stream)), verdict))
            }
        }
    }

    async fn within(&self, phase: Phase, action: impl Future<Output = io::Result<()>>) -> Result<(), TransportFault> {
        match timeout(self.limit(phase), action).await {
            Err(_elapsed) => Err(TransportFault::TimedOut),
            Ok(done) => done.map_err(|e| TransportFault::Lost(e.to_string())),
        }
    }

    fn limit(&self, phase: Phase) -> Duration {
        time_limit(phase, self.connect_timeout, self.reply_timeout)
    }
}

/// The replies before the content have one end in common. After it a server may have taken the
/// message, so whoever stops listening delivers it twice.
fn until(end: Instant, phase: Phase) -> Duration {
    match phase {
        Phase::Content | Phase::EndOfData => Duration::MAX,
        Phase::Connect
        | Phase::Greeting
        | Phase::Ehlo
        | Phase::StartTls
        | Phase::Handshake
        | Phase::EhloInTls
        | Phase::MailFrom
        | Phase::RcptTo
        | Phase::Data => end.saturating_duration_since(Instant::now()),
    }
}

fn starttls_use(policy: &TlsPolicy) -> StartTlsUse {
    match (policy, policy.demanded_by()) {
        (TlsPolicy::Off, _) => StartTlsUse::Never,
        (_, Some(demanded_by)) => StartTlsUse::Required(demanded_by),
        (_, None) => StartTlsUse::IfOffered,
    }
}

/// A server, or a box before it, that falls silent at our ClientHello spoils TLS as one that says
/// no does.
const fn spoilt_handshake(cause: &Cause) -> bool {
    matches!(cause, Cause::TlsHandshake { .. } | Cause::TimedOut { phase: Phase::Handshake, .. })
}

/// In TLS 1.3 a server that insists on a client certificate, or dislikes something else, says so
/// only at the first read after the handshake: that is still a failure of TLS.
fn tls_failure(event: Event, session: &Session, target: &Target) -> Event {
    match event {
        Event::Broken(TransportFault::Lost(detail)) if session.phase() == Phase::EhloInTls => {
            Event::Broken(TransportFault::Handshake(Cause::TlsHandshake { peer: target.peer.clone(), detail }))
        }
        other @ (Event::Broken(_) | Event::Reply(_) | Event::Connected | Event::Secured(_) | Event::BodySent) => other,
    }
}

fn content_fault(error: &SpoolError) -> TransportFault {
    match error {
        SpoolError::Damaged => TransportFault::ContentDamaged,
        SpoolError::Full
        | SpoolError::Io { .. }
        | SpoolError::Engine(_)
        | SpoolError::Fenced
        | SpoolError::Stopped
        | SpoolError::InUse { .. }
        | SpoolError::Unusable(_) => TransportFault::Lost(format!("our own spool: {error}")),
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
