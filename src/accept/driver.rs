//! Sockets, TLS, timeouts, limits: the part of the stage that touches the world
//! (RFC 5321 §3.8, §4.5.3.2.7; RFC 3207 §4).
//!
//! It does what the `Conversation` wishes and brings back what came of it. A stop lets a
//! message that is on its way in finish, closes everything else with 421 at once, and cuts what
//! remains after a grace of half a minute.

use super::certificate::{KeyPairInUse, Reload};
use super::conversation::{Action, Conversation};
use super::intake::SpoolFault;
use super::rules::{Rules, TlsOffer};
use super::tls::ListenerTls;
use super::{AcceptEvent, Accepted, ClientAccess, CloseReason, RefusalReason, replies, standing};
use crate::clock::Clock;
use crate::config::Config;
use crate::envelope::{Envelope, QueueId};
use crate::spool::{Draft, Spool, SpoolError};
use futures_util::FutureExt as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

/// Octets asked of the socket at once: a usual message in one call.
const READ_SIZE: usize = 32 * 1024;
/// Replies are sent at the latest when so many octets wait: a client that sends commands
/// without end and reads nothing must not fill the memory.
const OUTPUT_LIMIT: usize = 16 * 1024;
/// How long a handshake may take. Far above any honest one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a message on its way in may go on after a stop.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How long sessions may take to end once they are cut; after it they are dropped.
const CUT_WAIT: Duration = Duration::from_secs(10);
/// How long, and how many octets, a client that was told goodbye may still send. Closing with
/// input unread would reset the connection, and the last reply could be lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;
/// The most sessions of clients that may not relay: they must not take the places of those that
/// may.
const DENIED_SESSIONS: usize = 20;

/// Told what happens.
pub type AcceptObserver = Arc<dyn Fn(AcceptEvent) + Send + Sync>;

/// What all sessions share.
pub struct Acceptor {
    config: Arc<Config>,
    spool: Arc<dyn Spool>,
    clock: Clock,
    tls: Option<TlsAcceptor>,
    certificate: Option<Arc<KeyPairInUse>>,
    observe: AcceptObserver,
    rules: Arc<Rules>,
    places: Places,
    denied_places: Places,
    grace: Duration,
    /// Another one has taken its place.
    succeeded: CancellationToken,
}

impl Acceptor {
    /// Without `tls`, STARTTLS is not offered; see `super::tls::server_config`.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        spool: Arc<dyn Spool>,
        clock: Clock,
        tls: Option<ListenerTls>,
        observe: AcceptObserver,
    ) -> Self {
        let rules = Arc::new(Rules::new(&config, offer(tls.as_ref())));
        let certificate = tls.as_ref().map(|tls| Arc::clone(&tls.certificate));
        let tls = tls.map(|tls| TlsAcceptor::from(tls.server));
        let (places, denied_places) = (Places::default(), Places::default());
        let (grace, succeeded) = (GRACE, CancellationToken::new());
        Self { config, spool, clock, tls, certificate, observe, rules, places, denied_places, grace, succeeded }
    }

    /// The one by another configuration, which may be the same: sessions have no reason to end where nothing
    /// is different for them. Otherwise those of this one end between two messages.
    #[must_use]
    pub fn succeeded_by(self: &Arc<Self>, config: Arc<Config>, tls: ListenerTls) -> Arc<Self> {
        let is_alike = self.tls.is_some()
            && *self.rules == Rules::new(&config, offer(Some(&tls)))
            && self.config.listen.is_alike_for_sessions(&config.listen);
        match (&self.certificate, is_alike) {
            (Some(certificate), true) => {
                certificate.take_over(&tls.certificate);
                Arc::clone(self)
            }
            (Some(_) | None, _) => {
                let (spool, observe) = (Arc::clone(&self.spool), Arc::clone(&self.observe));
                // Sessions of both are counted together.
                let (places, denied_places) = (self.places.clone(), self.denied_places.clone());
                let new = Self::new(config, spool, self.clock.clone(), Some(tls), observe);
                Arc::new(Self { places, denied_places, grace: self.grace, ..new })
            }
        }
    }

    /// Lets the sessions end that have begun with this one, each between two messages.
    pub fn let_go(&self) {
        self.succeeded.cancel();
    }

    /// Another time than the usual half minute for messages on their way in after a stop.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// A connection with its place, or why there is none.
    pub(super) fn place(self: &Arc<Self>, peer: SocketAddr, stop: &Stop) -> Result<ClientConnection, RefusalReason> {
        let standing = standing(&self.config.listen.clients, peer.ip());
        let (places, most, reason) = match standing {
            ClientAccess::Permitted => (&self.places, self.config.listen.max_sessions, RefusalReason::TooManySessions),
            ClientAccess::Denied => (&self.denied_places, DENIED_SESSIONS, RefusalReason::TooManyDenied),
        };
        let place = places.take(most).ok_or(reason)?;
        Ok(ClientConnection { acceptor: Arc::clone(self), peer, standing, stop: stop.clone(), _place: place })
    }

    /// Why the next client, who may relay, would be sent away: in words, with the key to change.
    #[must_use]
    pub(crate) fn sends_away(&self) -> Option<String> {
        let listen = &self.config.listen;
        if listen.clients.is_empty() {
            return Some("nobody may hand mail in: [listen] clients is empty".to_owned());
        }
        let is_full = self.places.taken() >= listen.max_sessions;
        is_full.then(|| {
            let most = listen.max_sessions;
            format!("all {most} sessions of [listen] max_sessions are taken, and the next client gets 421")
        })
    }

    /// Says until when the certificate of the listener is good.
    pub fn tell_certificate(&self) {
        if let Some(certificate) = &self.certificate {
            self.tell(AcceptEvent::CertificateInUse { expires_at: certificate.expires_at() });
        }
    }

    /// Exchanges the certificate when its files have changed; sessions keep the one they have.
    pub async fn reread_certificate(&self) {
        let Some(certificate) = self.certificate.clone() else { return };
        match tokio::task::spawn_blocking(move || certificate.reload()).await {
            Ok(Ok(Reload::Unchanged)) => {}
            Ok(Ok(Reload::Replaced)) => self.tell_certificate(),
            Ok(Err(error)) => self.tell(AcceptEvent::CertificateRefused { error: error.to_string() }),
            Err(panicked) => self.tell(AcceptEvent::CertificateRefused { error: panicked.to_string() }),
        }
    }

    pub(super) fn tell(&self, event: AcceptEvent) {
        (self.observe)(event);
    }

    /// Sends a client away for whom there is no place.
    pub(super) fn refuse<S>(&self, mut stream: S, peer: SocketAddr, reason: RefusalReason)
    where
        S: AsyncWrite + Unpin,
    {
        // A fresh stream has room for one line; a client that cannot take it gets none.
        let line = replies::too_many_sessions().to_wire();
        let _taken_or_not = stream.write_all(&line).now_or_never();
        (self.observe)(AcceptEvent::SessionRefused { peer, reason });
    }
}

fn offer(tls: Option<&ListenerTls>) -> TlsOffer {
    tls.map_or(TlsOffer::Unavailable, |_| TlsOffer::Available)
}

/// How many sessions there are.
#[derive(Clone, Default)]
struct Places(Arc<AtomicUsize>);

/// One of them; given back when it is dropped.
struct TakenPlace(Places);

impl Places {
    fn taken(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }

    /// None where that many are taken.
    fn take(&self, most: usize) -> Option<TakenPlace> {
        let one_more = |taken| (taken < most).then_some(taken + 1);
        self.0.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_more).ok()?;
        Some(TakenPlace(self.clone()))
    }
}

impl Drop for TakenPlace {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// How far a stop has gone.
#[derive(Clone, Default)]
pub(super) struct Stop {
    /// No new session, no new message.
    pub(super) begun: CancellationToken,
    /// Not even the rest of a message.
    cut: CancellationToken,
    /// Sessions that do not end are dropped.
    dropped: CancellationToken,
}

impl Stop {
    pub(super) fn new(begun: CancellationToken) -> Self {
        Self { begun, ..Self::default() }
    }

    /// Waits for the stop, and then presses whoever has not ended harder and harder. Never ends.
    pub(super) async fn press(&self, grace: Duration) {
        self.begun.cancelled().await;
        sleep(grace).await;
        self.cut.cancel();
        sleep(CUT_WAIT).await;
        self.dropped.cancel();
        std::future::pending().await
    }
}

/// Serves one client that came by another way than a listener's, to the end of its session. It
/// has the limits, the place among all and the rights of whoever comes from `peer` by TCP, and a
/// stop treats it alike.
pub async fn session<S>(acceptor: Arc<Acceptor>, stream: S, peer: SocketAddr, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let stop = Stop::new(stop);
    match acceptor.place(peer, &stop) {
        Ok(connection) => tokio::select! {
            biased;
            () = connection.run(stream) => {}
            () = stop.press(acceptor.grace) => {}
        },
        Err(reason) => acceptor.refuse(stream, peer, reason),
    }
}

/// One client's connection.
pub(super) struct ClientConnection {
    acceptor: Arc<Acceptor>,
    peer: SocketAddr,
    standing: ClientAccess,
    stop: Stop,
    /// Given back at the end.
    _place: TakenPlace,
}

/// Why a stream is left.
enum Left {
    StartTls,
    Closed(CloseReason),
}

impl ClientConnection {
    pub(super) async fn run<S>(self, stream: S)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let (acceptor, peer) = (Arc::clone(&self.acceptor), self.peer);
        (acceptor.observe)(AcceptEvent::SessionOpened { peer, standing: self.standing });
        let reason = tokio::select! {
            biased;
            reason = self.serve(stream) => reason,
            () = self.stop.dropped.cancelled() => CloseReason::Stopped,
        };
        // Its place is free before anyone hears of it.
        drop(self);
        (acceptor.observe)(AcceptEvent::SessionClosed { peer, reason });
    }

    async fn serve<S>(&self, mut stream: S) -> CloseReason
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let rules = Arc::clone(&self.acceptor.rules);
        let mut conversation = Conversation::new(rules, self.peer.ip(), self.standing);
        match self.converse(&mut stream, &mut conversation).await {
            Left::Closed(reason) => {
                self.part(stream).await;
                return reason;
            }
            Left::StartTls => {}
        }
        let Some(tls) = &self.acceptor.tls else { return CloseReason::TlsFailed };
        let handshake = timeout(HANDSHAKE_TIMEOUT, tls.accept(stream));
        let handshake = tokio::select! {
            biased;
            handshake = handshake => handshake.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())),
            () = self.stop.begun.cancelled() => return CloseReason::Stopped,
        };
        let mut secured = match handshake {
            Ok(secured) => secured,
            Err(error) => {
                self.observe(AcceptEvent::TlsFailed { peer: self.peer, error: error.to_string() });
                return CloseReason::TlsFailed;
            }
        };
        conversation.secured();
        let reason = match self.converse(&mut secured, &mut conversation).await {
            // STARTTLS is refused within TLS, so this does not happen.
            Left::StartTls => CloseReason::TlsFailed,
            Left::Closed(reason) => reason,
        };
        self.part(secured).await;
        reason
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
                Action::Admit { .. } | Action::Open | Action::Write | Action::Store(_) | Action::Tell(_) => {
                    conversation.output().len() > OUTPUT_LIMIT
                }
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
                Action::Admit { size } => conversation.admitted(self.admit(size)),
                Action::Open => {
                    let now = self.acceptor.clock.now();
                    let begun = self.acceptor.spool.begin(now);
                    conversation.opened(begun.id, now);
                    draft = Some(begun);
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
        let idle_timeout = self.acceptor.config.listen.idle_timeout;
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
        let idle_timeout = self.acceptor.config.listen.idle_timeout;
        let sent = tokio::select! {
            biased;
            sent = timeout(idle_timeout, sending) => matches!(sent, Ok(Ok(()))),
            () = self.stop.cut.cancelled() => false,
        };
        output.clear();
        sent
    }

    fn admit(&self, size: u64) -> Result<(), SpoolFault> {
        self.acceptor.spool.admit(size).map_err(|error| self.fault(&error))
    }

    async fn write(&self, draft: Option<&mut Draft>, piece: &[u8]) -> Result<(), SpoolFault> {
        let Some(draft) = draft else { return Err(SpoolFault::Failed) };
        draft.body.write(piece).await.map_err(|error| self.fault(&error))
    }

    /// Makes the message durable. Space is asked for again: the declared size may have been a
    /// lie, and others have written since.
    async fn store(
        &self,
        draft: Option<Draft>,
        envelope: Envelope,
        protocol: &'static str,
    ) -> Result<QueueId, SpoolFault> {
        let Some(draft) = draft else { return Err(SpoolFault::Failed) };
        let size = draft.body.size();
        self.admit(size)?;
        let (client, reverse_path) = (self.peer.ip().to_canonical(), envelope.reverse_path.clone());
        let recipients = envelope.recipients.len();
        let id = self.acceptor.spool.enqueue(draft, envelope).await.map_err(|error| self.fault(&error))?;
        self.observe(AcceptEvent::MessageAccepted(Accepted { id, client, protocol, reverse_path, recipients, size }));
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
        (self.acceptor.observe)(event);
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
