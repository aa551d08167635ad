//! The engine on PostgreSQL for the suite: one server for the whole program, and a database for each test.
#![expect(clippy::disallowed_methods, reason = "the server lives in a folder of its own")]

use crate::engine::Engine;
use crate::postgres_server::PostgresServer;
use crate::sample;
use async_trait::async_trait;
use dane_relay::clock::Timestamp;
use dane_relay::config::{SpoolConfig, SpoolEngine};
use dane_relay::spool::ledger::Ledger;
use dane_relay::spool::{Opened, SpoolError, migrate, open, open_ledger};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;
use tempfile::TempDir;

static SERVER: OnceLock<PostgresServer> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Long enough for a slow machine, and waited for after every crash.
const LEASE: Duration = Duration::from_secs(2);

fn server() -> &'static PostgresServer {
    SERVER.get_or_init(PostgresServer::start)
}

fn new_name() -> String {
    format!("relay_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A database of its own.
pub(crate) struct Postgres {
    folder: TempDir,
    name: String,
}

impl Postgres {
    pub(crate) fn config(&self) -> SpoolConfig {
        SpoolConfig {
            engine: SpoolEngine::Postgresql,
            url: Some(server().url(&self.name)),
            node: Some("one.example".to_owned()),
            lease: LEASE,
            max_connections: 8,
            ..sample::config(self.folder.path())
        }
    }
}

#[async_trait]
impl Engine for Postgres {
    async fn new() -> Self {
        let new = Self { folder: TempDir::new().unwrap(), name: new_name() };
        server().answer("postgres", &format!("CREATE DATABASE {}", new.name));
        migrate(&new.config()).await.unwrap();
        new
    }

    async fn open(&self, now: Timestamp) -> Result<Opened, SpoolError> {
        open(&self.config(), now).await
    }

    async fn ledger(&self) -> Box<dyn Ledger> {
        open_ledger(&self.config()).await.unwrap()
    }

    /// The database goes on as another one, which the process that is killed cannot reach.
    async fn kill(&mut self, opened: Opened) {
        let (old, new) = (std::mem::replace(&mut self.name, new_name()), &self.name);
        let cut_off = format!(
            "ALTER DATABASE {old} ALLOW_CONNECTIONS false;
             SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{old}';"
        );
        server().answer("postgres", &cut_off);
        server().answer("postgres", &format!("CREATE DATABASE {new} TEMPLATE {old}"));
        opened.spool.close().await;
    }
}
