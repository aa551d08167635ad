//! The connections to the database, and whether it can be reached.
//!
//! Guarantee (RFC 5321 §4.2.5): on every connection a commit is on the disk of the database when it returns.

use super::address::DatabaseAddress;
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::spool::room::{AwayStore, DiskLack, FullDisk, StoppedWork};
use crate::spool::{EngineError, SpoolError};
use deadpool_postgres::{Hook, Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod, Runtime, TimeoutType};
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::watch;
use tokio_postgres::error::SqlState;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Connection, Error, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

/// For a connection to become free, or to be made to one of several hosts.
const PATIENCE: Duration = Duration::from_secs(15);

/// In the directory of this host: the same file for every engine.
const LOCK_FILE: &str = "lock";

/// Before anything else is asked on a connection. What the operator chose above `on` stays. A process that is stopped
/// in the middle of a transaction must not keep its locks.
const SETUP: &str = "SELECT set_config('synchronous_commit', CASE current_setting('synchronous_commit')
         WHEN 'remote_apply' THEN 'remote_apply' ELSE 'on' END, false),
       set_config('statement_timeout', '60s', false),
       set_config('idle_in_transaction_session_timeout', '30s', false),
       set_config('tcp_keepalives_idle', '10', false),
       set_config('tcp_keepalives_interval', '5', false),
       set_config('tcp_keepalives_count', '3', false),
       set_config('client_min_messages', 'error', false)";

/// What drives a connection; its end is that of the connection.
pub(super) type DatabaseConnection = Connection<Socket, <MakeRustlsConnect as MakeTlsConnect<Socket>>::Stream>;

/// Whether the database can be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum DatabaseReach {
    /// It answered last time.
    Reached,
    /// It did not, and why.
    Away(String),
}

/// The connections, and how the database stands.
pub(super) struct Database {
    address: DatabaseAddress,
    pool: Pool,
    reach: watch::Sender<DatabaseReach>,
    full: Mutex<Fullness>,
    away_since: Mutex<Option<Timestamp>>,
}

/// Whether the disk of the database is full.
#[derive(Clone, Copy, Debug)]
enum Fullness {
    HasRoom,
    /// Since when, once somebody has asked.
    Full(Option<Timestamp>),
}

impl Database {
    /// Makes no connection yet.
    pub(super) fn new(config: &SpoolConfig) -> Result<Self, SpoolError> {
        let address = DatabaseAddress::new(config)?;
        let recycling = ManagerConfig { recycling_method: RecyclingMethod::Fast };
        let manager = Manager::from_config(address.config.clone(), address.tls.clone(), recycling);
        let setup = Hook::async_fn(|client, _| {
            Box::pin(async move { client.batch_execute(SETUP).await.map_err(deadpool_postgres::HookError::Backend) })
        });
        let pool = Pool::builder(manager)
            .max_size(config.max_connections)
            .wait_timeout(Some(PATIENCE))
            .create_timeout(Some(PATIENCE))
            .recycle_timeout(Some(PATIENCE))
            .runtime(Runtime::Tokio1)
            .post_create(setup)
            .build()
            .map_err(|error| SpoolError::Unusable(error.to_string()))?;
        let (reach, full) = (watch::Sender::new(DatabaseReach::Reached), Mutex::new(Fullness::HasRoom));
        Ok(Self { address, pool, reach, full, away_since: Mutex::default() })
    }

    /// A connection of the pool.
    pub(super) async fn client(&self) -> Result<Object, SpoolError> {
        self.pool.get().await.map_err(|error| match error {
            PoolError::Backend(error) | PoolError::PostCreateHook(deadpool_postgres::HookError::Backend(error)) => {
                self.failed(error)
            }
            PoolError::Closed => SpoolError::Stopped,
            PoolError::Timeout(TimeoutType::Wait) => {
                SpoolError::Unreachable("all connections to it are in use; see [spool] max_connections".to_owned())
            }
            PoolError::Timeout(TimeoutType::Create | TimeoutType::Recycle)
            | PoolError::NoRuntimeSpecified
            | PoolError::PostCreateHook(_) => self.away("it does not answer".to_owned()),
        })
    }

    /// A connection of its own, and what drives it.
    pub(super) async fn connect(&self) -> Result<(Client, DatabaseConnection), SpoolError> {
        let connecting = self.address.config.connect(self.address.tls.clone());
        match tokio::time::timeout(PATIENCE, connecting).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(error)) => Err(self.failed(error)),
            Err(_elapsed) => Err(self.away("it does not answer".to_owned())),
        }
    }

    /// A connection of its own, driven until it is dropped.
    pub(super) async fn connect_alone(&self) -> Result<Client, SpoolError> {
        let (client, connection) = self.connect().await?;
        tokio::spawn(connection);
        self.set_up(&client).await?;
        Ok(client)
    }

    /// See [`SETUP`].
    pub(super) async fn set_up(&self, client: &Client) -> Result<(), SpoolError> {
        client.batch_execute(SETUP).await.map_err(|error| self.failed(error))
    }

    /// What an error means; one that says that the database is away is remembered.
    pub(super) fn failed(&self, error: Error) -> SpoolError {
        if error.code().is_some_and(is_full) {
            let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
            if matches!(*full, Fullness::HasRoom) {
                *full = Fullness::Full(None);
            }
            return SpoolError::Full;
        }
        if error.code() == Some(&SqlState::READ_ONLY_SQL_TRANSACTION) {
            // It is a standby by now: the next connections look for the one to write to.
            self.pool.retain(|_, _| false);
        }
        match remedy(&error) {
            DatabaseRemedy::Reconnect => self.away(text(&error)),
            DatabaseRemedy::Again => SpoolError::Unreachable(text(&error)),
            DatabaseRemedy::None => SpoolError::Engine(EngineError { store: STORE, source: text(&error).into() }),
        }
    }

    /// The database did not answer.
    pub(super) fn away(&self, why: String) -> SpoolError {
        self.reach.send_if_modified(|reach| {
            let changes = *reach == DatabaseReach::Reached;
            if changes {
                *reach = DatabaseReach::Away(why.clone());
            }
            changes
        });
        SpoolError::Unreachable(why)
    }

    /// It answers again.
    pub(super) fn reached(&self) {
        self.reach.send_if_modified(|reach| std::mem::replace(reach, DatabaseReach::Reached) != DatabaseReach::Reached);
    }

    /// How it stands that it cannot be used; `now` is remembered as the beginning.
    pub(super) fn away_since(&self, now: Timestamp) -> Option<AwayStore> {
        let mut since = self.away_since.lock().unwrap_or_else(PoisonError::into_inner);
        match &*self.reach.borrow() {
            DatabaseReach::Reached => {
                *since = None;
                None
            }
            DatabaseReach::Away(why) => Some(AwayStore { since: *since.get_or_insert(now), why: why.clone() }),
        }
    }

    /// Something was written: its disk has room.
    pub(super) fn wrote(&self) {
        *self.full.lock().unwrap_or_else(PoisonError::into_inner) = Fullness::HasRoom;
    }

    pub(super) fn reach(&self) -> watch::Receiver<DatabaseReach> {
        self.reach.subscribe()
    }

    pub(super) fn is_full(&self) -> bool {
        matches!(*self.full.lock().unwrap_or_else(PoisonError::into_inner), Fullness::Full(_))
    }

    /// How its disk stands; `now` is remembered as the beginning.
    pub(super) fn full_disk(&self, now: Timestamp) -> Option<FullDisk> {
        let mut full = self.full.lock().unwrap_or_else(PoisonError::into_inner);
        let Fullness::Full(since) = &mut *full else { return None };
        let since = *since.get_or_insert(now);
        Some(FullDisk { since, lacks: DiskLack::Blocks, stops: StoppedWork::Everything })
    }

    /// No connection is made any more; those that are out are closed when they come back.
    pub(super) fn close(&self) {
        self.pool.close();
    }
}

/// As an operator knows it.
pub(super) const STORE: &str = "the database of the spool";

/// Without its detail, which may hold values.
pub(super) fn text(error: &Error) -> String {
    match error.as_db_error() {
        Some(told) => format!("{} (SQLSTATE {})", told.message(), told.code().code()),
        None => {
            let source = std::error::Error::source(error);
            source.map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
        }
    }
}

fn is_full(code: &SqlState) -> bool {
    *code == SqlState::DISK_FULL
}

/// What may help after an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DatabaseRemedy {
    /// Another connection: this one broke, the server stops or starts, or is not the one to write to any more.
    Reconnect,
    /// The same once more: it met others, or the server has too much to do.
    Again,
    /// Nothing.
    None,
}

fn remedy(error: &Error) -> DatabaseRemedy {
    let Some(code) = error.code() else { return DatabaseRemedy::Reconnect };
    let begins = |classes: &[&str]| classes.iter().any(|class| code.code().starts_with(class));
    let again = [
        SqlState::T_R_SERIALIZATION_FAILURE,
        SqlState::T_R_DEADLOCK_DETECTED,
        SqlState::QUERY_CANCELED,
        SqlState::LOCK_NOT_AVAILABLE,
        SqlState::IDLE_IN_TRANSACTION_SESSION_TIMEOUT,
    ];
    if begins(&["08", "57P"]) || *code == SqlState::READ_ONLY_SQL_TRANSACTION {
        DatabaseRemedy::Reconnect
    } else if begins(&["53", "58"]) || again.contains(code) {
        DatabaseRemedy::Again
    } else {
        DatabaseRemedy::None
    }
}

/// The lock of the directory of this host: two relays must not have one.
pub(super) struct FolderLock(#[expect(dead_code, reason = "held, and given back with the end of it")] File);

impl FolderLock {
    /// Makes the directory, and holds it.
    pub(super) fn take(path: &Path) -> Result<Self, SpoolError> {
        let unusable =
            |error| SpoolError::Unusable(format!("the directory {} cannot be used: {error}", path.display()));
        DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(unusable)?;
        let mut lock = OpenOptions::new();
        let mut lock =
            lock.read(true).write(true).create(true).mode(0o600).open(path.join(LOCK_FILE)).map_err(unusable)?;
        if rustix::fs::flock(&lock, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            // Who holds it is a courtesy.
            let _unknown = Read::by_ref(&mut lock).take(20).read_to_string(&mut holder);
            return Err(SpoolError::InUse { path: path.display().to_string(), holder: holder.trim().to_owned() });
        }
        let told = lock.set_len(0).and_then(|()| lock.write_all(format!("{}\n", std::process::id()).as_bytes()));
        told.map_err(unusable)?;
        Ok(Self(lock))
    }
}
