//! Listener, sockets, TLS, timeouts, limits: the part of the stage that touches the world
//! (RFC 5321 §3.8, §4.5.3.2.7; RFC 3207 §4).
//!
//! It does what the [`Conversation`] wishes and brings back what came of it. A stop lets a
//! message that is on its way in finish, closes everything else with 421 at once, and cuts what
//! remains after a grace of half a minute.
#![expect(clippy::disallowed_methods, reason = "this is the driver: it listens")]

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
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// Octets asked of the socket at once: a usual message in one call.
const READ_SIZE: usize = 32 * 1024;
/// Replies are sent at the latest when so many octets wait: a client that sends commands
/// without end and reads nothing must not fill the memory.
const OUTPUT_LIMIT: usize = 16 * 1024;
/// How long a handshake may take. Far above any honest one.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(60);
/// How long a message on its way in may go on after a stop.
const GRACE: Duration = Duration::from_secs(30);
/// How long sessions may take to end once they are cut; after it they are dropped.
const CUT_WAIT: Duration = Duration::from_secs(10);
/// How long, and how many octets, a client that was told goodbye may still send. Closing with
/// input unread would reset the connection, and the last reply could be lost with it.
const LINGER: Duration = Duration::from_secs(1);
const LINGER_OCTETS: usize = 256 * 1024;
/// The most sessions of clients that may not relay: they must not take the places of those that
/// may.
const DENIED_SESSIONS: usize = 20;
/// How often the files of the certificate are looked at: whoever renews one waits a minute, or
/// sends SIGHUP.
const CERTIFICATE_CHECK: Duration = Duration::from_secs(60);
/// The wait after the system could not give us a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Told what happens.
pub type AcceptObserver = Arc<dyn Fn(AcceptEvent) + Send + Sync>;

/// What all sessions share.
pub struct Acceptor {
    config: Arc<Config>,
    spool: Arc<dyn Spool>,
    clock: Clock,
    tls: Option<TlsAcceptor>,
    certificate: Option<Arc<KeyPairInUse>>,
    certificate_check: Duration,
    observe: AcceptObserver,
    rules: Arc<Rules>,
    places: Arc<Semaphore>,
    denied_places: Arc<Semaphore>,
    grace: Duration,
}

impl Acceptor {
    /// Without `tls`, STARTTLS is not offered; see [`super::tls::server_config`].
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        spool: Arc<dyn Spool>,
        clock: Clock,
        tls: Option<ListenerTls>,
        observe: AcceptObserver,
    ) -> Self {
        let listen = &config.listen;
        let offer = if tls.is_some() { TlsOffer::Available } else { TlsOffer::Unavailable };
        let rules = Arc::new(Rules::new(&config, offer));
        let places = Arc::new(Semaphore::new(listen.max_sessions.min(Semaphore::MAX_PERMITS)));
        let denied_places = Arc::new(Semaphore::new(DENIED_SESSIONS));
        let certificate = tls.as_ref().map(|tls| Arc::clone(&tls.certificate));
        let tls = tls.map(|tls| TlsAcceptor::from(tls.server));
        let (grace, certificate_check) = (GRACE, CERTIFICATE_CHECK);
        Self { config, spool, clock, tls, certificate, certificate_check, observe, rules, places, denied_places, grace }
    }

    /// Another time than the usual minute between two looks at the files of the certificate.
    #[must_use]
    pub fn with_certificate_check(self, certificate_check: Duration) -> Self {
        Self { certificate_check, ..self }
    }

    /// Another time than the usual half minute for messages on their way in after a stop.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// A connection with its place, or why there is none.
    fn place(self: &Arc<Self>, peer: SocketAddr, stop: &Stop) -> Result<ClientConnection, RefusalReason> {
        let standing = standing(&self.config.listen.clients, peer.ip());
        let (places, reason) = match standing {
            ClientAccess::Permitted => (&self.places, RefusalReason::TooManySessions),
            ClientAccess::Denied => (&self.denied_places, RefusalReason::TooManyDenied),
        };
        let place = Arc::clone(places).try_acquire_owned().map_err(|_| reason)?;
        Ok(ClientConnection { acceptor: Arc::clone(self), peer, standing, stop: stop.clone(), _place: place })
    }

    /// Sends a client away for whom there is no place.
    fn refuse<S>(&self, mut stream: S, peer: SocketAddr, reason: RefusalReason)
    where
        S: AsyncWrite + Unpin,
    {
        // A fresh stream has room for one line; a client that cannot take it gets none.
        let line = replies::too_many_sessions().to_wire();
        let _taken_or_not = stream.write_all(&line).now_or_never();
        (self.observe)(AcceptEvent::SessionRefused { peer, reason });
    }
}

/// Opens the listening sockets, so that a port in use is an error of the start.
///
/// # Errors
/// The address that could not be had, and what the system said.
pub async fn bind(addresses: &[SocketAddr]) -> Result<Vec<TcpListener>, (SocketAddr, io::Error)> {
    let mut listeners = Vec::with_capacity(addresses.len());
    for &address in addresses {
        listeners.push(TcpListener::bind(address).await.map_err(|error| (address, error))?);
    }
    Ok(listeners)
}

/// How far a stop has gone.
#[derive(Clone, Default)]
struct Stop {
    /// No new session, no new message.
    begun: CancellationToken,
    /// Not even the rest of a message.
    cut: CancellationToken,
    /// Sessions that do not end are dropped.
    dropped: CancellationToken,
}

impl Stop {
    fn new(begun: CancellationToken) -> Self {
        Self { begun, ..Self::default() }
    }

    /// Waits for the stop, and then presses whoever has not ended harder and harder. Never ends.
    async fn press(&self, grace: Duration) {
        self.begun.cancelled().await;
        sleep(grace).await;
        self.cut.cancel();
        sleep(CUT_WAIT).await;
        self.dropped.cancel();
        std::future::pending().await
    }
}

/// Serves until `stop`, then until every session has ended.
pub async fn run(acceptor: Arc<Acceptor>, listeners: Vec<TcpListener>, stop: CancellationToken) {
    let stop = Stop::new(stop);
    let tasks = TaskTracker::new();
    if let Some(certificate) = &acceptor.certificate {
        let watching = watch_certificate(Arc::clone(&acceptor), Arc::clone(certificate), stop.begun.clone());
        tasks.spawn(watching);
    }
    for listener in listeners {
        tasks.spawn(listen(Arc::clone(&acceptor), listener, tasks.clone(), stop.clone()));
    }
    let all_end = async {
        stop.begun.cancelled().await;
        tasks.close();
        tasks.wait().await;
    };
    tokio::select! {
        biased;
        () = all_end => {}
        () = stop.press(acceptor.grace) => {}
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

/// Exchanges the certificate when its files change (looked at now and then, and at SIGHUP).
async fn watch_certificate(acceptor: Arc<Acceptor>, certificate: Arc<KeyPairInUse>, stop: CancellationToken) {
    let tell = |event| (acceptor.observe)(event);
    tell(AcceptEvent::CertificateInUse { expires_at: certificate.expires_at() });
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
            () = sleep(acceptor.certificate_check) => {}
            _signal = hung_up => {}
        }
        let reading = Arc::clone(&certificate);
        match tokio::task::spawn_blocking(move || reading.reload()).await {
            Ok(Ok(Reload::Unchanged)) => {}
            Ok(Ok(Reload::Replaced)) => {
                tell(AcceptEvent::CertificateInUse { expires_at: certificate.expires_at() });
            }
            Ok(Err(error)) => tell(AcceptEvent::CertificateRefused { error: error.to_string() }),
            Err(panicked) => tell(AcceptEvent::CertificateRefused { error: panicked.to_string() }),
        }
    }
}

async fn listen(acceptor: Arc<Acceptor>, listener: TcpListener, tasks: TaskTracker, stop: Stop) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.begun.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (socket, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                let (listener, error) = (listener.local_addr().ok(), error.to_string());
                (acceptor.observe)(AcceptEvent::ListenerFailed { listener, error });
                sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        match acceptor.place(peer, &stop) {
            Ok(connection) => {
                // Replies are written in whole groups; waiting for more to send would only delay them.
                let _ = socket.set_nodelay(true);
                tasks.spawn(connection.run(socket));
            }
            Err(reason) => acceptor.refuse(socket, peer, reason),
        }
    }
}

/// One client's connection.
struct ClientConnection {
    acceptor: Arc<Acceptor>,
    peer: SocketAddr,
    standing: ClientAccess,
    stop: Stop,
    /// Given back at the end.
    _place: OwnedSemaphorePermit,
}

/// Why a stream is left.
enum Left {
    StartTls,
    Closed(CloseReason),
}

impl ClientConnection {
    async fn run<S>(self, stream: S)
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
        let inside_message = conversation.inside_message();
        let idle_timeout = self.acceptor.config.listen.idle_timeout;
        let input = conversation.input();
        input.reserve(READ_SIZE);
        tokio::select! {
            biased;
            () = self.stop.cut.cancelled() => conversation.stop(),
            () = self.stop.begun.cancelled(), if !inside_message => conversation.stop(),
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
