//! One connection: its socket, its TLS, its timeouts (RFC 5321 §4.5.3.2.7, RFC 3207 §4, RFC 8314 §3.3).
//!
//! It does what the `Conversation` wishes and brings back what came of it.

use super::acceptor::{Acceptor, Stop};
use super::conversation::{Action, Conversation};
use super::copies::IncomingMessage;
use super::door::{Door, PlaceHere};
use super::intake::SpoolFault;
use super::logins::LoginEnd;
use super::meters::{Allowance, Meters};
use super::places::TakenPlace;
use super::step::{Admission, AdmitFault, LoginOutcome};
use super::{AcceptEvent, Accepted, ClientAccess, CloseReason, RefusalReason, proxied};
use crate::config::{ClientTls, LimitSubject};
use crate::envelope::{Envelope, Origin, QueueId};
use crate::smtp::address::{Mailbox, ReversePath};
use crate::smtp::sasl::Credentials;
use crate::spool::SpoolError;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Octets asked of the socket at once: a usual message in one call.
const READ_SIZE: usize = 32 * 1024;
/// Replies are sent at the latest when so many octets wait: a client that sends commands
/// without end and reads nothing must not fill the memory.
const OUTPUT_LIMIT: usize = 16 * 1024;
/// How long a handshake may take. Far above any honest one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a balancer may take to say for whom it connects: it says so in its first packet.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a client may be silent that has not proven yet who it is: anybody can be that.
const UNPROVEN_TIMEOUT: Duration = Duration::from_secs(60);
/// How long, and how many octets, a client that was told goodbye may still send. Closing with
/// input unread would reset the connection, and the last reply could be lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;

/// Somebody with a place.
pub(super) enum Arrival {
    /// Who is there is who speaks.
    Client(ClientConnection),
    /// It says first for whom it connects.
    Balancer(BalancerConnection),
}

impl Arrival {
    /// Serves it to the end.
    pub(super) async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        match self {
            Self::Client(client) => client.run(stream).await,
            Self::Balancer(balancer) => balancer.run(stream).await,
        }
    }
}

/// The connection of a balancer that has not said anything yet.
pub(super) struct BalancerConnection {
    pub(super) acceptor: Arc<Acceptor>,
    pub(super) door: Arc<Door>,
    pub(super) peer: SocketAddr,
    pub(super) stop: Stop,
    pub(super) place: TakenPlace,
}

impl BalancerConnection {
    async fn run<S>(self, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { acceptor, door, peer, stop, place } = self;
        let header = tokio::select! {
            biased;
            () = stop.begun.cancelled() => return,
            header = timeout(HEADER_TIMEOUT, proxied::client(&mut stream)) => {
                header.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
            }
        };
        let client = match header {
            Ok(client) => client.unwrap_or(peer),
            Err(error) => {
                acceptor.tell(AcceptEvent::ProxyHeaderFailed { peer, error: error.to_string() });
                return;
            }
        };
        let placed = ClientConnection::placed(&acceptor, &door, client, &stop);
        drop(place);
        match placed {
            Ok(connection) => connection.run(stream).await,
            Err(reason) => acceptor.refuse(stream, client, reason),
        }
    }
}

/// One client's connection.
pub(super) struct ClientConnection {
    acceptor: Arc<Acceptor>,
    door: Arc<Door>,
    peer: SocketAddr,
    standing: ClientAccess,
    stop: Stop,
    /// Both are given back at the end.
    _place: TakenPlace,
    _here: PlaceHere,
    /// Given back when the client has proven who it is.
    unproven: Mutex<Option<TakenPlace>>,
}

/// Why a stream is left.
enum Left {
    StartTls,
    Closed(CloseReason),
}

impl ClientConnection {
    /// A client with its place, or why there is none.
    ///
    /// # Errors
    /// Why there is none.
    pub(super) fn placed(
        acceptor: &Arc<Acceptor>,
        door: &Arc<Door>,
        peer: SocketAddr,
        stop: &Stop,
    ) -> Result<Self, RefusalReason> {
        acceptor.arrives(peer.ip())?;
        let standing = door.standing(peer.ip());
        let (places, most, reason) = acceptor.places_for(standing);
        let (place, mut here) = (places.take(most).ok_or(reason)?, door.place(standing)?);
        let unproven = Mutex::new(here.unproven.take());
        let (acceptor, door, stop) = (Arc::clone(acceptor), Arc::clone(door), stop.clone());
        Ok(Self { acceptor, door, peer, standing, stop, _place: place, _here: here, unproven })
    }

    pub(super) async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (acceptor, peer) = (Arc::clone(&self.acceptor), self.peer);
        acceptor.tell(AcceptEvent::SessionOpened { peer, standing: self.standing });
        let reason = tokio::select! {
            biased;
            reason = self.serve(stream) => reason,
            () = self.stop.dropped.cancelled() => CloseReason::Stopped,
        };
        // Its place is free before anyone hears of it.
        drop(self);
        acceptor.tell(AcceptEvent::SessionClosed { peer, reason });
    }

    async fn serve<S>(&self, mut stream: S) -> CloseReason
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let rules = Arc::clone(&self.door.rules);
        let mut conversation = Conversation::new(rules, self.peer.ip(), self.standing);
        if self.door.listener.tls != ClientTls::Implicit {
            match self.converse(&mut stream, &mut conversation).await {
                Left::Closed(reason) => {
                    self.part(stream).await;
                    return reason;
                }
                Left::StartTls => {}
            }
        }
        let mut secured = match self.shake_hands(stream).await {
            Ok(secured) => secured,
            Err(reason) => return reason,
        };
        conversation.secured();
        if self.door.opens_for(secured.get_ref().1.peer_certificates(), self.acceptor.clock.now()) {
            conversation.proven();
            self.is_proven();
        }
        let reason = match self.converse(&mut secured, &mut conversation).await {
            // STARTTLS is refused within TLS, so this does not happen.
            Left::StartTls => CloseReason::TlsFailed,
            Left::Closed(reason) => reason,
        };
        self.part(secured).await;
        reason
    }

    async fn shake_hands<S>(&self, stream: S) -> Result<TlsStream<S>, CloseReason>
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Some(tls) = self.door.tls() else { return Err(CloseReason::TlsFailed) };
        let handshake = timeout(HANDSHAKE_TIMEOUT, TlsAcceptor::from(Arc::clone(&tls.server)).accept(stream));
        let handshake = tokio::select! {
            biased;
            handshake = handshake => handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            () = self.stop.begun.cancelled() => return Err(CloseReason::Stopped),
        };
        handshake.map_err(|error| {
            self.observe(AcceptEvent::TlsFailed { peer: self.peer, error: error.to_string() });
            CloseReason::TlsFailed
        })
    }

    /// The place of a stranger is free for the next one.
    fn is_proven(&self) {
        drop(self.unproven.lock().unwrap_or_else(PoisonError::into_inner).take());
    }

    fn idle_timeout(&self) -> Duration {
        let idle_timeout = self.acceptor.config.listen.idle_timeout;
        let is_stranger = self.unproven.lock().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_stranger { idle_timeout.min(UNPROVEN_TIMEOUT) } else { idle_timeout }
    }

    /// Finds out whether the client is that user. A wrong answer waits: guessing is to be slow.
    async fn log_in(&self, credentials: Credentials) -> LoginOutcome {
        let Some(users) = &self.door.files.users else { return LoginOutcome::NotNow };
        let (client, now) = (self.peer.ip(), self.acceptor.clock.now());
        let looking = self.acceptor.logins.log_in(users.users(), credentials, client, now);
        let LoginEnd { outcome, result, user, wait } = looking.await;
        self.observe(AcceptEvent::Login { peer: self.peer, user, result });
        tokio::select! {
            biased;
            () = self.stop.begun.cancelled() => {}
            () = sleep(wait) => {}
        }
        if matches!(outcome, LoginOutcome::Right(_)) {
            self.is_proven();
        }
        outcome
    }

    /// Does what the conversation wishes, until it ends or asks for TLS.
    async fn converse<S>(&self, stream: &mut S, conversation: &mut Conversation) -> Left
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let mut draft = None;
        loop {
            let action = conversation.next();
            let wants_output = match action {
                Action::Read | Action::StartTls | Action::Close(_) => true,
                Action::LogIn(_)
                | Action::Admit(_)
                | Action::Open
                | Action::Write
                | Action::Store(_)
                | Action::Tell(_) => conversation.output().len() > OUTPUT_LIMIT,
            };
            if wants_output && !self.send(stream, conversation.output()).await {
                return Left::Closed(CloseReason::Disconnected);
            }
            match action {
                Action::Read => {
                    if !conversation.inside_message() {
                        // After RSET, EHLO or a refusal: what was received is given up.
                        draft = None;
                    }
                    if !self.read(stream, conversation).await {
                        return Left::Closed(CloseReason::Disconnected);
                    }
                }
                Action::StartTls => return Left::StartTls,
                Action::Close(reason) => return Left::Closed(reason),
                Action::LogIn(credentials) => conversation.logged_in(self.log_in(credentials).await),
                Action::Admit(admission) => conversation.admitted(self.admitted(&admission)),
                Action::Open => {
                    let now = self.acceptor.clock.now();
                    let begun = self.acceptor.spool.begin(now);
                    conversation.opened(begun.id, now);
                    draft = Some(IncomingMessage::new(begun, &self.acceptor.config.archive));
                }
                Action::Write => conversation.written(self.write(draft.as_mut(), conversation.piece()).await),
                Action::Store(envelope) => {
                    let protocol = conversation.protocol();
                    conversation.stored(self.store(draft.take(), *envelope, protocol).await);
                }
                Action::Tell(refusal) => {
                    self.observe(AcceptEvent::MessageRefused { peer: self.peer, refusal });
                }
            }
        }
    }

    /// Reads more input, or tells the conversation why there is none. False when the client
    /// is gone.
    async fn read<S>(&self, stream: &mut S, conversation: &mut Conversation) -> bool
    where
        S: AsyncRead + Unpin + Send,
    {
        let (inside_message, between_messages) = (conversation.inside_message(), conversation.between_messages());
        let idle_timeout = self.idle_timeout();
        let input = conversation.input();
        input.reserve(READ_SIZE);
        tokio::select! {
            biased;
            () = self.stop.cut.cancelled() => conversation.stop(),
            () = self.stop.begun.cancelled(), if !inside_message => conversation.stop(),
            () = self.acceptor.succeeded.cancelled(), if between_messages => conversation.reconfigured(),
            read = timeout(idle_timeout, stream.read_buf(input)) => match read {
                Ok(Ok(0) | Err(_)) => return false,
                Ok(Ok(_)) => {}
                Err(_) => conversation.timed_out(),
            }
        }
        true
    }

    /// Sends what waits. False when the client does not take it.
    async fn send<S>(&self, stream: &mut S, output: &mut Vec<u8>) -> bool
    where
        S: AsyncWrite + Unpin + Send,
    {
        let sending = async {
            stream.write_all(output).await?;
            stream.flush().await
        };
        let idle_timeout = self.idle_timeout();
        let sent = tokio::select! {
            biased;
            sent = timeout(idle_timeout, sending) => matches!(sent, Ok(Ok(()))),
            () = self.stop.cut.cancelled() => false,
        };
        output.clear();
        sent
    }

    /// Whether a message may come that MAIL announces.
    fn admitted(&self, admission: &Admission) -> Result<Allowance, AdmitFault> {
        let Admission { size, sender, user } = admission;
        let subject = LimitSubject { user: user.as_deref(), sender, client: self.peer.ip() };
        let (rules, now) = (&self.acceptor.config.limit, self.acceptor.clock.now());
        if !self.acceptor.suspensions.let_in(sender, user.as_deref(), now) {
            return Err(AdmitFault::Suspended);
        }
        let mut allowance = self.meters().allowance(rules, &subject, now).map_err(|_rule| AdmitFault::Limit)?;
        self.admit(*size).map_err(AdmitFault::Spool)?;
        allowance.closed = self.acceptor.suspensions.destinations(now);
        Ok(allowance)
    }

    /// A message is in.
    fn count(&self, user: Option<&str>, sender: &ReversePath, recipients: usize) {
        let subject = LimitSubject { user, sender, client: self.peer.ip() };
        let (rules, now) = (&self.acceptor.config.limit, self.acceptor.clock.now());
        let news = self.meters().count(rules, &subject, recipients, now);
        news.into_iter().for_each(|news| self.observe(AcceptEvent::Limit(news)));
    }

    fn meters(&self) -> MutexGuard<'_, Meters> {
        self.acceptor.meters.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn admit(&self, size: u64) -> Result<(), SpoolFault> {
        self.acceptor.spool.admit(size).map_err(|error| self.fault(&error))
    }

    async fn write(&self, draft: Option<&mut IncomingMessage>, piece: &[u8]) -> Result<(), SpoolFault> {
        let Some(draft) = draft else { return Err(SpoolFault::Failed) };
        draft.write(piece).await.map_err(|error| self.fault(&error))
    }

    /// Makes the message durable, and the copies that archives get of it. Space is asked for again: the declared
    /// size may have been a lie, and others have written since.
    async fn store(
        &self,
        draft: Option<IncomingMessage>,
        envelope: Envelope,
        protocol: &'static str,
    ) -> Result<QueueId, SpoolFault> {
        let Some(incoming) = draft else { return Err(SpoolFault::Failed) };
        let size = incoming.size();
        let (draft, copies) = incoming.complete(&self.acceptor.config, &envelope);
        let id = draft.id;
        // Each copy takes as much again.
        self.admit(size.saturating_mul(copies.len() as u64 + 1))?;
        let (client, reverse_path) = (self.peer.ip().to_canonical(), envelope.reverse_path.clone());
        let recipients = envelope.recipients.len();
        let user = match &envelope.origin {
            Origin::Client(client) => client.user.clone(),
            Origin::Report { .. } | Origin::TlsReport { .. } | Origin::Copy { .. } => None,
        };
        let archives: Vec<Mailbox> = copies.iter().flat_map(|copy| copy.envelope.recipients.clone()).collect();
        let stored = self.acceptor.spool.enqueue_with(draft, envelope, copies).await;
        let copies = stored.map_err(|error| self.fault(&error))?;
        self.count(user.as_deref(), &reverse_path, recipients);
        let accepted = Accepted { id, client, protocol, user, reverse_path, recipients, size };
        self.observe(AcceptEvent::MessageAccepted(accepted));
        for (copy, to) in copies.into_iter().zip(archives) {
            self.observe(AcceptEvent::MessageCopied { id: copy, of: id, to });
        }
        Ok(id)
    }

    /// What the client is told; the operator is told the rest.
    fn fault(&self, error: &SpoolError) -> SpoolFault {
        if matches!(error, SpoolError::Full) {
            return SpoolFault::Full;
        }
        self.observe(AcceptEvent::SpoolFailed { peer: self.peer, error: error.to_string() });
        SpoolFault::Failed
    }

    fn observe(&self, event: AcceptEvent) {
        self.acceptor.tell(event);
    }

    /// Closes so that the last reply arrives; see [`LINGER`].
    async fn part<S>(&self, mut stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let lingering = async {
            if stream.shutdown().await.is_err() {
                return;
            }
            let (mut sink, mut left) = ([0_u8; 4096], LINGER_OCTETS);
            while let Ok(octets @ 1..) = stream.read(&mut sink).await {
                left = left.saturating_sub(octets);
                if left == 0 {
                    return;
                }
            }
        };
        let _ = timeout(LINGER, lingering).await;
    }
}
