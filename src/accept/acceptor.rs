//! What all sessions of one configuration share: its doors, their places, and how far a stop has gone
//! (RFC 5321 §3.8).
//!
//! A stop lets a message that is on its way in finish, closes everything else with 421 at once, and cuts what
//! remains after a grace of half a minute.

use super::arrivals::Arrivals;
use super::certificate::{KeyPairInUse, Reload};
use super::door::Door;
use super::logins::{Logins, UsersInUse};
use super::meters::Meters;
use super::places::Places;
use super::suspended::Suspensions;
use super::tls::ListenerFiles;
use super::{AcceptEvent, ClientAccess, RefusalReason, replies};
use crate::clock::Clock;
use crate::config::Config;
use crate::spool::Spool;
use crate::spool::findings::{Finding, HeardFinding};
use futures_util::FutureExt as _;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;
use tokio::io::{AsyncWrite, AsyncWriteExt};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

/// How long a message on its way in may go on after a stop.
pub(super) const GRACE: Duration = Duration::from_secs(30);
/// How long sessions may take to end once they are cut; after it they are dropped.
const CUT_WAIT: Duration = Duration::from_secs(10);
/// The most sessions of clients that may not relay: they must not take the places of those that
/// may.
const DENIED_SESSIONS: usize = 20;

/// Told what happens.
pub type AcceptObserver = Arc<dyn Fn(AcceptEvent) + Send + Sync>;

/// What all sessions share.
pub struct Acceptor {
    pub(super) config: Arc<Config>,
    pub(super) spool: Arc<dyn Spool>,
    pub(super) clock: Clock,
    pub(super) observe: AcceptObserver,
    pub(super) logins: Logins,
    pub(super) meters: Arc<Mutex<Meters>>,
    pub(super) suspensions: Arc<Suspensions>,
    /// That of `[listen]` is the first.
    doors: Vec<Arc<Door>>,
    /// Which door an address leads to, as the configuration names it.
    ways: RwLock<BTreeMap<SocketAddr, usize>>,
    places: Places,
    denied_places: Places,
    arrivals: Arc<Mutex<Arrivals>>,
    pub(super) grace: Duration,
    /// Another one has taken its place.
    pub(super) succeeded: CancellationToken,
}

impl Acceptor {
    /// With what the files of the listeners held, in the order of [`Config::listeners`]; a listener without
    /// its TLS side cannot offer STARTTLS. See `super::tls::listener_files`.
    #[must_use]
    pub fn new(
        config: Arc<Config>,
        spool: Arc<dyn Spool>,
        clock: Clock,
        files: Vec<ListenerFiles>,
        observe: AcceptObserver,
    ) -> Self {
        let doors = Door::all(&config, files);
        Self {
            ways: RwLock::new(ways(&doors)),
            doors,
            config,
            spool,
            clock,
            observe,
            logins: Logins::default(),
            meters: Arc::default(),
            suspensions: Arc::default(),
            places: Places::default(),
            denied_places: Places::default(),
            arrivals: Arc::default(),
            grace: GRACE,
            succeeded: CancellationToken::new(),
        }
    }

    /// The one by another configuration, which may be the same: sessions have no reason to end where nothing
    /// is different for them. Otherwise those of this one end between two messages.
    #[must_use]
    pub fn succeeded_by(self: &Arc<Self>, config: Arc<Config>, files: Vec<ListenerFiles>) -> Arc<Self> {
        let doors = Door::all(&config, files);
        let is_alike = self.doors.len() == doors.len()
            && self.doors.iter().zip(&doors).all(|(mine, other)| mine.is_alike(other))
            && self.config.limit == config.limit
            && self.config.archive == config.archive
            && self.config.listen.is_alike_for_sessions(&config.listen);
        if is_alike {
            for (mine, other) in self.doors.iter().zip(&doors) {
                mine.files.take_over(&other.files);
            }
            *self.ways.write().unwrap_or_else(PoisonError::into_inner) = ways(&doors);
            return Arc::clone(self);
        }
        let doors: Vec<Arc<Door>> = doors.iter().map(|door| door.after(&self.doors)).collect();
        Arc::new(Self {
            ways: RwLock::new(ways(&doors)),
            doors,
            config,
            spool: Arc::clone(&self.spool),
            clock: self.clock.clone(),
            observe: Arc::clone(&self.observe),
            logins: self.logins.clone(),
            meters: Arc::clone(&self.meters),
            suspensions: Arc::clone(&self.suspensions),
            // Sessions of both are counted together.
            places: self.places.clone(),
            denied_places: self.denied_places.clone(),
            arrivals: Arc::clone(&self.arrivals),
            grace: self.grace,
            succeeded: CancellationToken::new(),
        })
    }

    /// What was counted against limits, and the relays that share the spool were not told yet.
    #[must_use]
    pub fn tell_limits(&self) -> Vec<Finding> {
        let now = self.clock.now();
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).tell(now)
    }

    /// Another of them has counted something, or this one had before its last start.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn hear_limit(&self, heard: &HeardFinding) -> Result<(), String> {
        let now = self.clock.now();
        self.meters.lock().unwrap_or_else(PoisonError::into_inner).hear(&self.config.limit, heard, now)
    }

    /// Lets the sessions end that have begun with this one, each between two messages.
    pub fn let_go(&self) {
        self.succeeded.cancel();
    }

    /// With those whom the operator has suspended.
    #[must_use]
    pub fn with_suspensions(self, suspensions: Arc<Suspensions>) -> Self {
        Self { suspensions, ..self }
    }

    /// Whom the operator has suspended.
    #[must_use]
    pub fn suspensions(&self) -> Arc<Suspensions> {
        Arc::clone(&self.suspensions)
    }

    /// Another time than the usual half minute for messages on their way in after a stop.
    #[must_use]
    pub fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// The door behind an address of the configuration; that of `[listen]` for whoever came by no port.
    pub(super) fn door(&self, named: Option<SocketAddr>) -> Option<&Arc<Door>> {
        let ways = self.ways.read().unwrap_or_else(PoisonError::into_inner);
        self.doors.get(named.and_then(|named| ways.get(&named)).copied().unwrap_or(0))
    }

    /// The places of all listeners that somebody with this standing takes one of: how many there are, and how a
    /// refusal is called.
    pub(super) fn places_for(&self, standing: ClientAccess) -> (&Places, usize, RefusalReason) {
        match standing {
            ClientAccess::Permitted | ClientAccess::MayLogIn | ClientAccess::MayShowCertificate => {
                (&self.places, self.config.listen.max_sessions, RefusalReason::TooManySessions)
            }
            ClientAccess::Denied => (&self.denied_places, DENIED_SESSIONS, RefusalReason::TooManyDenied),
        }
    }

    /// Counts a connection that a client begins.
    ///
    /// # Errors
    /// When it has begun too many.
    pub(super) fn arrives(&self, client: IpAddr) -> Result<(), RefusalReason> {
        let (most, now) = (self.config.listen.max_new_connections, self.clock.now());
        let within = self.arrivals.lock().unwrap_or_else(PoisonError::into_inner).count(client, most, now);
        if within { Ok(()) } else { Err(RefusalReason::TooManyNewConnections) }
    }

    /// Why the next client, who may relay, would be sent away: in words, with the key to change.
    #[must_use]
    pub(crate) fn sends_away(&self) -> Option<String> {
        if self.doors.iter().all(|door| door.listener.admits_nobody()) {
            return Some("nobody may hand mail in: [listen] clients is empty".to_owned());
        }
        let most = self.config.listen.max_sessions;
        let is_full = self.places.taken() >= most;
        is_full.then(|| format!("all {most} sessions of [listen] max_sessions are taken, and the next client gets 421"))
    }

    /// Says until when the certificates of the listeners are good: the one that ends first counts.
    pub fn tell_certificate(&self) {
        let ends = self.certificates().into_iter().map(|certificate| certificate.expires_at());
        if let Some(expires_at) = ends.min() {
            self.tell(AcceptEvent::CertificateInUse { expires_at });
        }
    }

    /// Exchanges certificates and users when their files have changed; sessions keep what they have.
    pub async fn reread_files(&self) {
        for certificate in self.certificates() {
            match tokio::task::spawn_blocking(move || certificate.reload()).await {
                Ok(Ok(Reload::Unchanged)) => {}
                Ok(Ok(Reload::Replaced)) => self.tell_certificate(),
                Ok(Err(error)) => self.tell(AcceptEvent::CertificateRefused { error: error.to_string() }),
                Err(panicked) => self.tell(AcceptEvent::CertificateRefused { error: panicked.to_string() }),
            }
        }
        for users in self.users() {
            match tokio::task::spawn_blocking(move || users.reload()).await {
                Ok(Ok(None)) => {}
                Ok(Ok(Some(users))) => self.tell(AcceptEvent::UsersInUse { users }),
                Ok(Err(error)) => self.tell(AcceptEvent::UsersRefused { error: error.to_string() }),
                Err(panicked) => self.tell(AcceptEvent::UsersRefused { error: panicked.to_string() }),
            }
        }
    }

    /// Each once, however many listeners show it.
    fn certificates(&self) -> Vec<Arc<KeyPairInUse>> {
        let all = self.doors.iter().filter_map(|door| door.files.tls.as_ref()).flat_map(|tls| &tls.certificates);
        distinct(all)
    }

    fn users(&self) -> Vec<Arc<UsersInUse>> {
        distinct(self.doors.iter().filter_map(|door| door.files.users.as_ref()))
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
        let line = replies::no_session(reason).to_wire();
        let _taken_or_not = stream.write_all(&line).now_or_never();
        self.tell(AcceptEvent::SessionRefused { peer, reason });
    }
}

fn ways(doors: &[Arc<Door>]) -> BTreeMap<SocketAddr, usize> {
    let named = doors.iter().enumerate();
    named.flat_map(|(index, door)| door.listener.addresses.iter().map(move |address| (*address, index))).collect()
}

fn distinct<'a, T: 'a>(all: impl Iterator<Item = &'a Arc<T>>) -> Vec<Arc<T>> {
    all.fold(Vec::new(), |mut met: Vec<Arc<T>>, one| {
        if !met.iter().any(|other| Arc::ptr_eq(other, one)) {
            met.push(Arc::clone(one));
        }
        met
    })
}

/// How far a stop has gone.
#[derive(Clone, Default)]
pub(super) struct Stop {
    /// No new session, no new message.
    pub(super) begun: CancellationToken,
    /// Not even the rest of a message.
    pub(super) cut: CancellationToken,
    /// Sessions that do not end are dropped.
    pub(super) dropped: CancellationToken,
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
