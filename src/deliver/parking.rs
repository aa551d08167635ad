//! Keeps connections open between messages, and says goodbye to those nobody needs
//! (RFC 5321 §4.1.1.10).
//!
//! Which one fits is decided in `pool.rs`; here are the lock, the clock that runs while they
//! wait, and the last words. Nothing runs while nothing is parked.

use super::connection::{GOODBYE_LIMIT, SmtpConnection};
use super::pool::{History, Pool, ReuseKey};
use super::session::Learned;
use crate::config::DeliveryConfig;
use crate::outcome::Cause;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};
use tokio_util::task::TaskTracker;

/// A connection between two messages, with what is known of it.
pub(super) struct Idle {
    pub(super) connection: SmtpConnection,
    pub(super) learned: Learned,
    pub(super) history: History,
    /// What the watched policy disliked in the handshake.
    pub(super) watched_failure: Option<Cause>,
    /// The key exchange of TLS.
    pub(super) group: Option<&'static str>,
}

/// The place where they wait.
#[derive(Clone)]
pub(super) struct Parking {
    started: Instant,
    lot: Arc<Mutex<Lot>>,
    farewells: TaskTracker,
}

struct Lot {
    pool: Pool<Idle>,
    watch: Watch,
}

/// Whether a task waits for the next connection whose time is over.
#[derive(PartialEq, Eq)]
enum Watch {
    Asleep,
    Awake,
}

impl Parking {
    /// A place with the limits of the configuration; with none where connections are not reused.
    pub(super) fn new(delivery: &DeliveryConfig) -> Self {
        let all = if delivery.reuse_connections { delivery.max_concurrent } else { 0 };
        let pool = Pool::new(delivery.max_per_next_hop, all);
        let lot = Arc::new(Mutex::new(Lot { pool, watch: Watch::Asleep }));
        Self { started: Instant::now(), lot, farewells: TaskTracker::new() }
    }

    /// What has passed since the start.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// A connection of that identity which still stands. Those that do not are forgotten.
    pub(super) fn take(&self, identity: &ReuseKey) -> Option<Idle> {
        loop {
            let mut idle = self.lot().pool.take(identity, self.now())?;
            if idle.connection.is_quiet() {
                return Some(idle);
            }
        }
    }

    /// Lets connections go that wait for a message to an address, until no more than `most` do: another
    /// one is to be opened there. That they are closed is waited for, as the server counts them.
    pub(super) async fn make_room(&self, most: usize, address: SocketAddr) {
        loop {
            let Some(surplus) = self.lot().pool.above(most, address) else { return };
            surplus.connection.goodbye().await;
        }
    }

    /// Parks a connection, or lets it go when it is not quiet, has carried `most` messages, or is one too
    /// many.
    pub(super) fn park(&self, identity: &ReuseKey, mut idle: Idle, most: u32) {
        let now = self.now();
        if !idle.connection.is_quiet() || !may_carry_more(&idle, most, now) {
            return self.let_go(idle.connection);
        }
        let history = idle.history;
        let (surplus, watch) = {
            let mut lot = self.lot();
            let surplus = lot.pool.park(identity, idle, history, now);
            (surplus, std::mem::replace(&mut lot.watch, Watch::Awake))
        };
        if watch == Watch::Asleep {
            tokio::spawn(self.clone().watch());
        }
        if let Some(surplus) = surplus {
            self.let_go(surplus.connection);
        }
    }

    /// Says QUIT on the side: the outcome is known, and the farewell must not hold it up.
    pub(super) fn let_go(&self, connection: SmtpConnection) {
        self.farewells.spawn(connection.goodbye());
    }

    /// Says QUIT on all that wait, parks none from now on, and waits until that is done.
    pub(super) async fn close(&self) {
        let parked = self.lot().pool.close();
        for idle in parked {
            self.let_go(idle.connection);
        }
        self.farewells.close();
        let _done_or_not = timeout(GOODBYE_LIMIT, self.farewells.wait()).await;
    }

    /// Lets those go whose time is over, until none is left.
    async fn watch(self) {
        loop {
            let wait = {
                let mut lot = self.lot();
                let Some(next) = lot.pool.next_expiry() else {
                    lot.watch = Watch::Asleep;
                    return;
                };
                next.saturating_sub(self.now())
            };
            sleep(wait).await;
            let over = self.lot().pool.expired(self.now());
            for idle in over {
                self.let_go(idle.connection);
            }
        }
    }

    fn lot(&self) -> MutexGuard<'_, Lot> {
        self.lot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A server that counts the domains of a connection (RFC 9422 §4.3) hears one message on each.
fn may_carry_more(idle: &Idle, most: u32, now: Duration) -> bool {
    let limits = idle.learned.offered.limits;
    limits.rcpt_domain.is_none() && idle.history.has_room(most, limits.mail, now)
}
