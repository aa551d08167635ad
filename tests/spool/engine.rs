//! What the suite needs of an engine, and the engines there are.
//!
//! A new engine implements [`Engine`] and is named once more in `main.rs`: then every promise is
//! held against it.

use crate::sample::config;
use async_trait::async_trait;
use dane_relay::clock::Timestamp;
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::QueueId;
use dane_relay::spool::ledger::Ledger;
use dane_relay::spool::{Opened, SpoolError, open, open_ledger};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

/// A store that can be opened, and whose process can die.
#[async_trait]
pub(crate) trait Engine: Send + Sync + Sized {
    /// A store with nothing in it.
    async fn new() -> Self;

    /// Opens the spool; what was left by a crash is recovered.
    async fn open(&self, now: Timestamp) -> Result<Opened, SpoolError>;

    /// Opens the ledger, beside a spool that is open or without one.
    async fn ledger(&self) -> Box<dyn Ledger>;

    /// The process that has the spool open is killed: nothing of it has any further effect, and
    /// nothing was told to it. The spool that is open is of no use afterwards.
    async fn kill(&mut self, opened: Opened);

    /// The envelope of a message cannot be read any more.
    fn damage_envelope(&self, id: QueueId);
}

/// Segments and SQLite in a directory. The configuration chooses it, as in service.
pub(crate) struct Embedded {
    folder: TempDir,
}

impl Embedded {
    fn config(&self) -> SpoolConfig {
        config(self.folder.path())
    }
}

#[async_trait]
impl Engine for Embedded {
    async fn new() -> Self {
        Self { folder: TempDir::new().unwrap() }
    }

    async fn open(&self, now: Timestamp) -> Result<Opened, SpoolError> {
        open(&self.config(), now).await
    }

    async fn ledger(&self) -> Box<dyn Ledger> {
        open_ledger(&self.config()).await.unwrap()
    }

    /// A kill takes nothing that the system has already been given: a copy made while the spool is
    /// open, oldest truth first, is what it would leave.
    async fn kill(&mut self, opened: Opened) {
        let after = TempDir::new().unwrap();
        copy(&self.config().path, &after.path().join("spool"));
        self.folder = after;
        opened.spool.close().await;
    }

    fn damage_envelope(&self, id: QueueId) {
        let database = rusqlite::Connection::open(self.config().path.join("state.sqlite")).unwrap();
        let damage = "UPDATE messages SET envelope = 'gone' WHERE id = ?1";
        database.execute(damage, [id.0.cast_signed()]).unwrap();
    }
}

/// The database before the segments that it follows: a crash never has it the other way round.
fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    let mut items: Vec<PathBuf> = std::fs::read_dir(from).unwrap().map(|item| item.unwrap().path()).collect();
    items.sort_by_key(|path| (path.is_dir(), path.clone()));
    for item in items {
        let target = to.join(item.file_name().unwrap());
        if item.is_dir() {
            copy(&item, &target);
        } else if item.is_file() {
            std::fs::copy(&item, &target).unwrap();
        }
    }
}
