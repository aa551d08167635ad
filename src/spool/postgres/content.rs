//! Content on its way in and out, in rows of 256 KiB.
//!
//! In: up to one row stays in memory and is stored with the message; what is longer is stored row by row as it comes
//! in, under a draft that nobody was told 250 for (RFC 5321 §4.2.5). Out: a row at a time, with no connection held
//! while it is sent on. A reader ends with [`SpoolError::Damaged`] in place of its last `None` when the checksum does
//! not fit.

use super::numbers::{bigint, number, unsigned};
use super::shared::SharedStore;
use crate::envelope::QueueId;
use crate::spool::message_id::HEAD_LIMIT;
use crate::spool::{BodyReader, BodyWriter, SpoolError};
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

/// Octets of a row.
pub(super) const ROW: usize = 256 * 1024;

/// How long a reader waits for a database that is away: a server that takes the message waits for the next octets for three
/// minutes (RFC 5321 §4.5.3.2.5).
const AWAY: Duration = Duration::from_secs(60);

/// Between two questions for the same row.
const PAUSE: Duration = Duration::from_millis(200);

/// What a reader hands out at once.
const PIECE: usize = 64 * 1024;

/// Content being received.
pub(super) struct RowWriter {
    shared: Arc<SharedStore>,
    id: QueueId,
    memory: Vec<u8>,
    crc: crc32fast::Hasher,
    size: u64,
    draft: Option<StoredDraft>,
}

/// Rows that are stored before their message is. Dropped, they go.
pub(super) struct StoredDraft {
    shared: Arc<SharedStore>,
    pub(super) id: QueueId,
    /// How many there are.
    pub(super) rows: i32,
    /// The first octets, for copies and for the header field.
    pub(super) head: Bytes,
    kept: bool,
}

/// Content that is complete.
pub(super) struct ReceivedContent {
    pub(super) size: u64,
    pub(super) crc: crc32fast::Hasher,
    /// What is not stored yet: at most a row.
    pub(super) memory: Bytes,
    pub(super) draft: Option<StoredDraft>,
}

impl ReceivedContent {
    /// The first octets.
    pub(super) fn head(&self) -> &Bytes {
        self.draft.as_ref().map_or(&self.memory, |draft| &draft.head)
    }
}

impl RowWriter {
    pub(super) fn new(shared: Arc<SharedStore>, id: QueueId) -> Self {
        Self { shared, id, memory: Vec::new(), crc: crc32fast::Hasher::new(), size: 0, draft: None }
    }

    pub(super) const fn id(&self) -> QueueId {
        self.id
    }

    pub(super) fn finish(self) -> ReceivedContent {
        ReceivedContent { size: self.size, crc: self.crc, memory: Bytes::from(self.memory), draft: self.draft }
    }

    /// Stores what is in memory as a row of a draft.
    async fn store_row(&mut self) -> Result<(), SpoolError> {
        self.shared.running()?;
        let client = self.shared.database.client().await?;
        let failed = |error| self.shared.database.failed(error);
        let draft = self.draft.get_or_insert_with(|| StoredDraft {
            shared: Arc::clone(&self.shared),
            id: self.id,
            rows: 0,
            head: Bytes::copy_from_slice(self.memory.get(..HEAD_LIMIT).unwrap_or(&self.memory)),
            kept: false,
        });
        let store = "WITH draft AS (INSERT INTO drafts (message, node) VALUES ($1, $2) ON CONFLICT DO NOTHING)
                     INSERT INTO content (message, number, octets) VALUES ($1, $3, $4)";
        let store = client.prepare_cached(store).await.map_err(failed)?;
        client
            .execute(&store, &[&number(self.id), &self.shared.node.slot, &draft.rows, &self.memory])
            .await
            .map_err(failed)?;
        draft.rows += 1;
        self.memory.clear();
        Ok(())
    }
}

impl StoredDraft {
    /// The message is stored: its rows stay.
    pub(super) fn keep(&mut self) {
        self.kept = true;
    }
}

impl Drop for StoredDraft {
    fn drop(&mut self) {
        let Ok(runtime) = tokio::runtime::Handle::try_current() else { return };
        if self.kept || self.shared.closing.is_cancelled() {
            return;
        }
        let (shared, id) = (Arc::clone(&self.shared), number(self.id));
        runtime.spawn(async move {
            // What stays is removed at the next start of this node.
            let Ok(client) = shared.database.client().await else { return };
            let remove = "WITH gone AS (DELETE FROM drafts WHERE message = $1 RETURNING message)
                          DELETE FROM content USING gone WHERE content.message = gone.message";
            let _left = client.execute(remove, &[&id]).await;
        });
    }
}

#[async_trait]
impl BodyWriter for RowWriter {
    async fn write(&mut self, mut piece: &[u8]) -> Result<(), SpoolError> {
        self.crc.update(piece);
        self.size = self.size.saturating_add(piece.len() as u64);
        while !piece.is_empty() {
            if self.memory.len() >= ROW {
                self.store_row().await?;
            }
            let (now, later) = piece.split_at(piece.len().min(ROW - self.memory.len()));
            self.memory.extend_from_slice(now);
            piece = later;
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

/// Content being handed out.
pub(super) struct RowReader {
    shared: Arc<SharedStore>,
    id: QueueId,
    next: i32,
    row: Bytes,
    left: u64,
    crc: crc32fast::Hasher,
    expected: i64,
}

impl RowReader {
    pub(super) async fn open(shared: Arc<SharedStore>, id: QueueId) -> Result<Self, SpoolError> {
        let open = "SELECT m.size, m.content_crc, c.octets FROM messages m
                    LEFT JOIN content c ON c.message = m.id AND c.number = 0
                    WHERE m.id = $1 AND m.finished_at IS NULL";
        let row = read(&shared, open, &[&number(id)]).await?;
        let Some(row) = row else { return Err(damaged(&shared, id)) };
        let size = unsigned(row.get(0));
        let first = row.get::<_, Option<Vec<u8>>>(2).map(Bytes::from);
        let mut reader = Self {
            shared,
            id,
            next: 1,
            row: Bytes::new(),
            left: size,
            crc: crc32fast::Hasher::new(),
            expected: row.get(1),
        };
        reader.take(first)?;
        Ok(reader)
    }

    /// A row, which must be no longer than what is left; none when nothing is.
    fn take(&mut self, row: Option<Bytes>) -> Result<(), SpoolError> {
        let row = row.unwrap_or_default();
        let fits = row.is_empty() == (self.left == 0) && row.len() as u64 <= self.left;
        if !fits {
            return Err(damaged(&self.shared, self.id));
        }
        self.crc.update(&row);
        self.left -= row.len() as u64;
        self.row = row;
        Ok(())
    }

    async fn next_row(&mut self) -> Result<(), SpoolError> {
        let select = "SELECT octets FROM content WHERE message = $1 AND number = $2";
        let row = read(&self.shared, select, &[&number(self.id), &self.next]).await?;
        self.next = self.next.saturating_add(1);
        self.take(row.map(|row| Bytes::from(row.get::<_, Vec<u8>>(0))))
    }
}

#[async_trait]
impl BodyReader for RowReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        if self.row.is_empty() && self.left > 0 {
            self.next_row().await?;
        }
        if !self.row.is_empty() {
            return Ok(Some(self.row.split_to(self.row.len().min(PIECE))));
        }
        if bigint(u64::from(self.crc.clone().finalize())) == self.expected {
            Ok(None)
        } else {
            Err(damaged(&self.shared, self.id))
        }
    }
}

/// Asks for a row, again and again while the database is away for a short time.
async fn read(shared: &SharedStore, sql: &str, of: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, SpoolError> {
    let end = Instant::now() + AWAY;
    loop {
        match read_once(shared, sql, of).await {
            Err(SpoolError::Unreachable(why)) => {
                let back = timeout_at(end, async {
                    sleep(PAUSE).await;
                    shared.until_reached().await
                });
                back.await.map_err(|_elapsed| SpoolError::Unreachable(why))??;
            }
            other => return other,
        }
    }
}

async fn read_once(shared: &SharedStore, sql: &str, of: &[&(dyn ToSql + Sync)]) -> Result<Option<Row>, SpoolError> {
    let client = shared.database.client().await?;
    let failed = |error| shared.database.failed(error);
    let statement = client.prepare_cached(sql).await.map_err(failed)?;
    client.query_opt(&statement, of).await.map_err(failed)
}

fn damaged(shared: &SharedStore, id: QueueId) -> SpoolError {
    shared.counts.damaged(id);
    SpoolError::Damaged
}
