//! What waits, in brief: one statement for all, whose rows are read as they come. However many they are, those that are
//! not read yet wait in the database.

use super::reader::{cannot, failed};
use super::store::Database;
use crate::clock::Timestamp;
use crate::spool::Hold;
use crate::spool::brief::{BriefRow, Gathering};
use crate::spool::ledger::{BriefListing, BriefPart, LedgerError};
use async_trait::async_trait;
use futures_util::stream::{Fuse, StreamExt as _, TryStreamExt as _};
use std::pin::Pin;
use tokio_postgres::{Client, Error, RowStream};
use tokio_util::task::AbortOnDropHandle;

/// Somebody may read for long; the other limits are for relays.
const LIMIT: &str = "SET statement_timeout = '15min'";

const WAITING: &str = "SELECT m.id, m.accepted_at, m.held, m.envelope LIKE '{%}', r.address, r.state
    FROM messages m JOIN recipients r ON r.message = m.id
    WHERE m.finished_at IS NULL ORDER BY m.accepted_at, m.id";

/// See the module.
pub(super) struct DatabaseBriefs {
    rows: Pin<Box<Fuse<RowStream>>>,
    gathering: Gathering,
    _client: Client,
    /// Whoever has seen enough closes the connection, which ends the statement.
    _connection: AbortOnDropHandle<Result<(), Error>>,
}

impl DatabaseBriefs {
    pub(super) async fn open(database: &Database) -> Result<Self, LedgerError> {
        let (client, connection) = database.connect().await.map_err(cannot)?;
        let connection = AbortOnDropHandle::new(tokio::spawn(connection));
        database.set_up(&client).await.map_err(cannot)?;
        client.batch_execute(LIMIT).await.map_err(failed)?;
        let rows = client.query_raw(WAITING, std::iter::empty::<i64>()).await.map_err(failed)?;
        Ok(Self {
            rows: Box::pin(rows.fuse()),
            gathering: Gathering::default(),
            _client: client,
            _connection: connection,
        })
    }
}

#[async_trait]
impl BriefListing for DatabaseBriefs {
    async fn next(&mut self) -> Result<Option<BriefPart>, LedgerError> {
        while let Some(row) = self.rows.try_next().await.map_err(failed)? {
            let part = self.gathering.add(&BriefRow {
                message: row.get(0),
                accepted_at: Timestamp(row.get(1)),
                hold: if row.get(2) { Hold::Held } else { Hold::Scheduled },
                is_whole: row.get(3),
                address: row.get(4),
                state: row.get(5),
            });
            if part.is_some() {
                return Ok(part);
            }
        }
        Ok(self.gathering.rest())
    }
}
