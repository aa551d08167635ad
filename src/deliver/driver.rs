//! Opens connections and lets a session speak: the network, the handshake, the time limits.

use super::connection::SmtpConnection;
use super::content::{ContentForm, Patience};
use super::conversation::{Before, MailConversation};
use super::crowd::Crowds;
use super::families::{SilentFamily, WaysOut};
use super::handshake::{TlsStart, tls_failure};
use super::hello::{HelloSize, LargeHello, Providers, SmallFirst};
use super::hosts::driver::HostSeat;
use super::message::Message;
use super::parking::{Idle, Parking};
use super::pool::{History, ReuseKey};
use super::routes::KnownRoutes;
use super::session::{Event, Job, LoginJob, Session, StartTlsUse, Step, Transfer, TransportFault, spoilt};
use super::tls::Trust;
use super::{AttemptReport, Target, WatchReport};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, TlsMode};
use crate::net::{Network, SourceUnavailable};
use crate::outcome::{Cause, EgressFailure, Phase, TlsVerdict};
use crate::policy::TlsPolicy;
use crate::policy::x509::webpki::WebPki;
use crate::resolve::{HostAddresses, Resolution};
use crate::smtp::address::{Domain, ReversePath};
use crate::smtp::reply::Capabilities;
use data_encoding::BASE64URL_NOPAD;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

pub use super::body::OpenBody;

/// How long the first reply on a connection that was parked may take: what hangs has lost its
/// other end, and the message need not wait on it for minutes, because a fresh connection is free
/// to have.
const PARKED_REPLY_LIMIT: Duration = Duration::from_secs(30);

/// The replies up to the content together may take as long as so many of them: half an hour with
/// the usual five minutes (RFC 5321 §4.5.3.2) for what an honest server does in seconds. One that
/// draws out every reply must not hold a connection, of which there are few, for five minutes a
/// recipient.
const REPLIES_IN_ALL: u32 = 6;

/// What makes a login another one each time, in octets.
const NONCE_OCTETS: usize = 24;

/// Speaks to mail servers.
#[derive(Clone)]
pub struct Mailer {
    hostname: Domain,
    patience: Patience,
    clear_text_fallback: bool,
    trust: Trust,
    parking: Parking,
    silence: Arc<SilentFamily>,
    routes: Arc<KnownRoutes>,
    crowds: Arc<Crowds>,
    small_first: Arc<SmallFirst>,
    most_messages: u32,
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
    /// The key exchange of TLS, by the name of its group.
    pub group: Option<&'static str>,
    /// What became of the large ClientHello.
    pub large_hello: LargeHello,
    /// What the watched policy says.
    pub watched: Option<WatchReport>,
    /// The certificates the server presented, leaf first, in DER; also when they were refused.
    pub certificates: Vec<Vec<u8>>,
    /// How long it took.
    pub took: Duration,
}

impl Mailer {
    /// A mailer that introduces itself by our host name. `roots` vouch for certificates where
    /// DANE does not.
    #[must_use]
    pub fn new(config: &Config, roots: WebPki, network: Arc<dyn Network>, clock: Clock) -> Self {
        Self {
            hostname: config.hostname.clone(),
            patience: Patience {
                connect: config.delivery.connect_timeout,
                reply: config.delivery.reply_timeout,
                seat: None,
            },
            clear_text_fallback: config.tls.clear_text_fallback,
            trust: Trust { providers: Providers::new(), roots },
            parking: Parking::new(&config.delivery),
            silence: Arc::default(),
            routes: Arc::default(),
            crowds: Arc::default(),
            small_first: Arc::default(),
            most_messages: config.delivery.max_messages_per_connection,
            network,
            clock,
        }
    }

    /// One by another configuration, with what was learnt of servers and none of the connections.
    #[must_use]
    pub fn succeeded_by(&self, config: &Config, roots: WebPki) -> Self {
        let Self { silence, crowds, small_first, network, clock, .. } = self.clone();
        Self { silence, crowds, small_first, ..Self::new(config, roots, network, clock) }
    }

    /// The same, speaking from a place at a server, with at most so many messages on a connection.
    #[must_use]
    pub fn seated(&self, seat: &Arc<HostSeat>, most_messages: u32) -> Self {
        let patience = Patience { seat: Some(Arc::clone(seat)), ..self.patience.clone() };
        Self { patience, most_messages, ..self.clone() }
    }

    /// Offers the message to one server, on a parked connection of the same security identity
    /// where there is one. Every recipient of `message` has an outcome in the report, or is left
    /// for a further transaction.
    pub async fn attempt(&self, target: &Target, message: Message, body: &dyn OpenBody) -> AttemptReport {
        let started = Instant::now();
        let identity = ReuseKey::of(target);
        let parked = self.parking.take(&identity);
        let talk = match parked {
            Some(idle) => {
                // It was greeted on when it was opened.
                self.patience.seat.iter().for_each(|seat| seat.greeted());
                self.converse_on(idle, target, message, body).await
            }
            None => self.converse(target, Some(message), Some(body)).await,
        };
        let report = AttemptReport {
            peer: target.peer.clone(),
            policy: target.policy.clone(),
            tls: talk.session.tls().cloned(),
            tls_failure: talk.session.tls_failure().cloned(),
            group: talk.group,
            watched: talk.watch_report(target),
            outcomes: talk.before.outcomes.iter().cloned().chain(talk.session.outcomes()).collect(),
            left: talk.before.left.iter().copied().chain(talk.session.left()).collect(),
            nth_on_connection: talk.history.messages,
            signatures: talk.session.signatures(),
            took: started.elapsed(),
        };
        self.keep_or_leave(&identity, talk);
        report
    }

    /// What is known of the ways to the hosts of a next hop; of routes only about hosts with a choice.
    #[must_use]
    pub fn ways_out(&self, resolution: &Resolution) -> WaysOut {
        let choices = resolution.hosts.iter().filter_map(|host| match &host.addresses {
            HostAddresses::Known(addresses) if addresses.len() > 1 => Some(addresses),
            HostAddresses::Known(_) | HostAddresses::Unavailable(_) => None,
        });
        let now = self.clock.now();
        let route = |address: &IpAddr| self.routes.to(*address, self.network.as_ref(), now);
        let without_route = choices.flatten().copied().filter(|address| !route(address).is_there).collect();
        let addresses = resolution.hosts.iter().filter_map(|host| match &host.addresses {
            HostAddresses::Known(addresses) => Some(addresses),
            HostAddresses::Unavailable(_) => None,
        });
        let own = addresses.flatten().copied().filter(|address| route(address).is_own).collect();
        WaysOut { without_route, silent: self.silence.family(now), choice: None, own }
    }

    /// Says QUIT on all parked connections, and parks none from now on. Takes seconds at most.
    pub async fn close(&self) {
        self.parking.close().await;
    }

    fn keep_or_leave(&self, identity: &ReuseKey, talk: MailConversation) {
        let MailConversation { session, connection, history, watched_failure, group, .. } = talk;
        match (connection, session.learned()) {
            (Some(connection), Some(learned)) => {
                self.parking.park(
                    identity,
                    Idle { connection, learned, history, watched_failure, group },
                    self.most_messages,
                );
            }
            (Some(connection), None) => self.parking.let_go(connection),
            (None, _) => {}
        }
    }

    /// Whether the roots that are trusted here vouch for a chain, DER, leaf first, of this host at that time.
    #[must_use]
    pub fn trusts(&self, chain: &[Vec<u8>], host: &Domain, at: Timestamp) -> bool {
        let chain: Vec<&[u8]> = chain.iter().map(Vec::as_slice).collect();
        self.trust.roots.check(&chain, host, at).is_ok()
    }

    /// The same conversation, stopped before MAIL FROM.
    pub async fn probe(&self, target: &Target) -> Probe {
        let started = Instant::now();
        let talk = self.converse(target, None, None).await;
        let watched = talk.watch_report(target);
        let MailConversation { session, connection, certificates, group, large_hello, .. } = talk;
        let took = started.elapsed();
        if let Some(connection) = connection {
            connection.goodbye().await;
        }
        Probe {
            tls: session.tls().cloned(),
            offered: session.offered().clone(),
            failure: session.failure().cloned(),
            group,
            large_hello,
            watched,
            certificates,
            took,
        }
    }

    /// The message on a connection that carried one before. What the server may have said only of
    /// the connection does not count: for those recipients the message goes on a fresh one at once.
    /// So it does when the server has left the connection in the meantime.
    async fn converse_on(
        &self,
        idle: Idle,
        target: &Target,
        message: Message,
        body: &dyn OpenBody,
    ) -> MailConversation {
        let Idle { mut connection, learned, history, watched_failure, group } = idle;
        let job = self.job(target, self.starttls_use(target), Some(message.clone()));
        connection.hurry = Some(PARKED_REPLY_LIMIT);
        let history = History { messages: history.messages.saturating_add(1), ..history };
        let beginning = MailConversation::beginning(Session::ready(job, learned), history);
        let talk = MailConversation { watched_failure, group, ..beginning };
        let talk = Box::pin(self.talk(talk, connection, target, Some(body))).await;
        let again = talk.session.to_ask_again();
        if again.is_empty() {
            return talk;
        }
        if let Some(connection) = talk.connection {
            self.parking.let_go(connection);
        }
        let settled = talk.session.outcomes().into_iter().filter(|(index, _)| !again.contains(index));
        let before = Before { outcomes: settled.collect(), left: talk.session.left() };
        let fresh = self.converse(target, Some(message.only_for(&again)), Some(body)).await;
        MailConversation { before, ..fresh }
    }

    /// Opportunistic TLS that fails is tried again in clear text, on a fresh connection, unless the
    /// operator wants none of it: nothing was promised for this host (RFC 7435 §3).
    async fn converse(
        &self,
        target: &Target,
        message: Option<Message>,
        body: Option<&dyn OpenBody>,
    ) -> MailConversation {
        let job = self.job(target, self.starttls_use(target), message);
        let starttls = job.starttls;
        let mut first = self.heard_connection(target, &job, body).await;
        if first.session.knows_no_chunks() {
            if let Some(connection) = first.connection.take() {
                self.parking.let_go(connection);
            }
            let by_data = Job { transfer: Transfer::Data, ..once_more(&job) };
            first = self.heard_connection(target, &by_data, body).await;
        }
        match first.session.failure() {
            Some(failure) if spoilt(failure) && starttls == StartTlsUse::IfOffered => {
                let failure = failure.clone();
                if let Some(connection) = first.connection {
                    self.parking.let_go(connection);
                }
                let in_clear = Session::stepping_down(job, failure.clone());
                let second = self.one_connection(target, in_clear, HelloSize::Small, body).await;
                MailConversation { watched_failure: Some(failure), ..second }
            }
            Some(_) | None => first,
        }
    }

    /// Where the large ClientHello is not heard, the small one has its turn on a fresh connection.
    async fn heard_connection(&self, target: &Target, job: &Job, body: Option<&dyn OpenBody>) -> MailConversation {
        let (address, now) = (target.peer.address.ip(), self.clock.now());
        let hello = self.small_first.hello(address, now);
        let first = self.one_connection(target, Session::new(job.clone()), hello, body).await;
        if !first.unheard || hello == HelloSize::Small {
            return first;
        }
        let mut second = self.one_connection(target, Session::new(once_more(job)), HelloSize::Small, body).await;
        if second.group.is_some() {
            self.small_first.lost_large(address, now);
            second.large_hello = LargeHello::Lost;
        }
        second
    }

    async fn one_connection(
        &self,
        target: &Target,
        session: Session,
        hello: HelloSize,
        body: Option<&dyn OpenBody>,
    ) -> MailConversation {
        let history = History { opened: self.parking.now(), messages: 1 };
        let mut talk = MailConversation { hello, ..MailConversation::beginning(session, history) };
        match self.connect(target).await {
            // In a box, so that those who wait for a connection are small.
            Ok(connection) => Box::pin(self.talk(talk, connection, target, body)).await,
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
        let end = Instant::now() + self.patience.reply.saturating_mul(REPLIES_IN_ALL);
        let mut step = talk.session.on(Event::Connected);
        loop {
            let event = match step {
                Step::Finish => break,
                Step::Send(bytes, phase) => self.patience.send(&mut connection, &bytes, phase, end).await,
                Step::SendSecret(line) => self.patience.send(&mut connection, line.wire(), Phase::Auth, end).await,
                Step::Await(phase) => self.patience.answer(&mut connection, phase, end).await,
                Step::SendBody => {
                    self.patience.send_content(&mut connection, &talk.session, body, ContentForm::Lines).await
                }
                Step::SendChunks => {
                    self.patience.send_content(&mut connection, &talk.session, body, ContentForm::Chunks).await
                }
                Step::StartTls => match self.tls_start().secure(connection, target, &mut talk).await {
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
        if let Some(recipients) = talk.session.bore() {
            self.crowds.bore(&target.peer.host, recipients, self.clock.now());
        }
        if talk.session.knows_no_chunks() {
            self.crowds.knows_no_chunks(&target.peer.host, self.clock.now());
        }
        talk.connection = Some(connection);
        talk
    }

    fn starttls_use(&self, target: &Target) -> StartTlsUse {
        match (target.egress.tls_mode, &target.policy, target.policy.demanded_by()) {
            (_, TlsPolicy::Off, _) => StartTlsUse::Never,
            (TlsMode::Implicit, _, _) => StartTlsUse::FromTheStart,
            (TlsMode::Starttls, _, Some(demanded_by)) => StartTlsUse::Required(demanded_by),
            (TlsMode::Starttls, _, None) if self.clear_text_fallback => StartTlsUse::IfOffered,
            (TlsMode::Starttls, _, None) => StartTlsUse::AsOffered,
        }
    }

    /// Mail with the null reverse-path, an NDR, is not held up because a server does not offer
    /// REQUIRETLS (RFC 8689 §5); TLS and certificate are demanded all the same.
    fn job(&self, target: &Target, starttls: StartTlsUse, message: Option<Message>) -> Job {
        let is_report = message.as_ref().is_some_and(|message| message.reverse_path == ReversePath::Null);
        let egress = target.egress.as_ref();
        Job {
            hostname: egress.source.ehlo.as_ref().unwrap_or(&self.hostname).to_string(),
            login: egress.login.clone().map(|login| LoginJob { login, nonce: nonce() }),
            peer: target.peer.clone(),
            starttls,
            require_tls: target.require_tls && !is_report,
            most_recipients: self.crowds.most(&target.peer.host, self.clock.now()),
            transfer: self.crowds.transfer(&target.peer.host, self.clock.now()),
            message,
        }
    }

    async fn connect(&self, target: &Target) -> Result<SmtpConnection, TransportFault> {
        let address = target.peer.address;
        let source = target.egress.source.towards(address.ip());
        if let Some(seat) = &self.patience.seat {
            self.parking.make_room(seat.spare(), address).await;
        }
        match self.patience.listen(self.patience.connect, self.network.connect_from(source, address)).await {
            Err(_silent) => {
                self.silence.met(target.peer.address.ip(), self.clock.now());
                Err(TransportFault::TimedOut)
            }
            Ok(Err(error)) => match (SourceUnavailable::behind(&error), source) {
                (Some(detail), Some(source)) => {
                    let failure = EgressFailure::SourceUnavailable { source, detail };
                    Err(TransportFault::Ours(Cause::EgressFailed { host: target.peer.host.clone(), failure }))
                }
                // What a router far away says is the way's; that no packet could leave is this host's.
                (_, _) if !self.network.has_way_to(target.peer.address.ip()) => {
                    Err(TransportFault::Ours(Cause::NoRoute { peer: target.peer.clone(), detail: error.to_string() }))
                }
                (_, _) => Err(TransportFault::Lost(error.to_string())),
            },
            Ok(Ok(stream)) => {
                self.silence.broken(target.peer.address.ip());
                Ok(SmtpConnection::new(stream))
            }
        }
    }

    fn tls_start(&self) -> TlsStart<'_> {
        TlsStart { trust: &self.trust, limit: self.patience.limit(Phase::Handshake), now: self.clock.now() }
    }
}

/// The same on another connection, where a login is another one.
fn once_more(job: &Job) -> Job {
    let login = job.login.clone().map(|login| LoginJob { nonce: nonce(), ..login });
    Job { login, ..job.clone() }
}

/// Random, for one login.
fn nonce() -> String {
    let mut octets = [0; NONCE_OCTETS];
    let _the_system_has_random_octets = aws_lc_rs::rand::fill(&mut octets);
    BASE64URL_NOPAD.encode(&octets)
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
