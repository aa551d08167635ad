//! What the tables of the state database hold and mean, told once for all who read or write them.
//! The tables themselves are in `schema.sql`.

use super::jobs::{ContentPlace, RecordPlace};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::spool::ledger::{LedgerError, LedgerMessage, MessageState};
pub(super) use crate::spool::stored::{MICROSECONDS, REPORT_IDS, lookup_hash, names, reported_of, told_of};
use crate::spool::{EngineError, RecipientState, SpoolError};
use rusqlite::{ErrorCode, Row, ffi};

pub(super) const SCHEMA: &str = include_str!("schema.sql");
/// From each version to the next.
pub(super) const UPGRADES: &[&str] = &[
    include_str!("schema_1_to_2.sql"),
    include_str!("schema_2_to_3.sql"),
    include_str!("schema_3_to_4.sql"),
    include_str!("schema_4_to_5.sql"),
    include_str!("schema_5_to_6.sql"),
    include_str!("schema_6_to_7.sql"),
];
pub(super) const SCHEMA_VERSION: i64 = 7;

/// The columns of a message, in the order in which [`message_of`] reads them.
macro_rules! message_columns {
    () => {
        "id, message_id, envelope, size, held, due_at, finished_at, attempts, reported"
    };
}

/// The columns of the place of a record, in the order in which [`place_of`] reads them.
macro_rules! place_columns {
    () => {
        "segment, offset, length, content_in_file"
    };
}

pub(super) use {message_columns, place_columns};

/// How many columns a message has.
pub(super) const MESSAGE_COLUMNS: usize = 9;

impl From<rusqlite::Error> for EngineError {
    fn from(error: rusqlite::Error) -> Self {
        Self { store: "state database", source: Box::new(error) }
    }
}

impl From<rusqlite::Error> for SpoolError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error.into())
    }
}

impl From<rusqlite::Error> for LedgerError {
    fn from(error: rusqlite::Error) -> Self {
        Self::Engine(error.into())
    }
}

/// Whether the file of the database is damaged.
pub(super) fn is_damage(error: &rusqlite::Error) -> bool {
    matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase))
}

/// The same of an error that has passed through the trait's type.
pub(super) fn is_damaged_database(error: &SpoolError) -> bool {
    let SpoolError::Engine(EngineError { source, .. }) = error else { return false };
    source.downcast_ref().is_some_and(is_damage)
}

/// Whether the disk had no room for what the database writes.
pub(super) fn is_full_database(error: &SpoolError) -> bool {
    let SpoolError::Engine(EngineError { source, .. }) = error else { return false };
    source.downcast_ref().is_some_and(is_full)
}

/// Whether the disk is full. Where there is no room for the index of its log, the database says that as a fault of
/// the disk: it cannot make the file longer, or cannot make it.
pub(super) fn is_full(error: &rusqlite::Error) -> bool {
    let no_index = [ffi::SQLITE_IOERR_SHMSIZE, ffi::SQLITE_IOERR_SHMOPEN];
    error.sqlite_error_code() == Some(ErrorCode::DiskFull)
        || error.sqlite_error().is_some_and(|error| no_index.contains(&error.extended_code))
}

/// Whether the same transaction may work later.
pub(super) fn can_pass(error: &rusqlite::Error) -> bool {
    is_full(error) || matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked))
}

/// Queue ids have 63 bits, so that SQLite's integers hold them.
pub(super) const fn number(id: QueueId) -> i64 {
    id.0.cast_signed()
}

/// A count as the database keeps it.
pub(super) fn octets(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A count as it was kept.
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}

/// Whether one row cannot be understood, and not the database.
pub(super) fn is_of_the_row(error: &rusqlite::Error) -> bool {
    error.sqlite_error_code().is_none()
}

/// A row of [`message_columns`].
pub(super) fn message_of(row: &Row<'_>) -> rusqlite::Result<LedgerMessage> {
    let envelope: String = row.get(2)?;
    let envelope: Envelope = serde_json::from_str(&envelope)
        .map_err(|e| rusqlite::Error::FromSqlConversionFailure(2, rusqlite::types::Type::Text, Box::new(e)))?;
    let finished_at = row.get::<_, Option<i64>>(6)?.map(Timestamp);
    let standing = match (finished_at, row.get(4)?) {
        (Some(_), _) => MessageState::Finished,
        (None, true) => MessageState::Held,
        (None, false) => MessageState::Queued,
    };
    Ok(LedgerMessage {
        id: QueueId(row.get::<_, i64>(0)?.cast_unsigned()),
        message_id: row.get(1)?,
        recipients: vec![None; envelope.recipients.len()],
        envelope,
        size: u64::try_from(row.get::<_, i64>(3)?).unwrap_or(0),
        standing,
        due_at: Timestamp(row.get(5)?),
        finished_at,
        attempts: row.get(7)?,
        reported: reported_of(row.get::<_, Option<String>>(8)?.as_deref()),
    })
}

/// A row with [`place_columns`], the first of which is named.
pub(super) fn place_of(row: &Row<'_>, first: usize) -> rusqlite::Result<RecordPlace> {
    let content = if row.get(first + 3)? { ContentPlace::OwnFile } else { ContentPlace::Inline };
    let (offset, length) = (unsigned(row.get(first + 1)?), unsigned(row.get(first + 2)?));
    Ok(RecordPlace { segment: row.get(first)?, offset, length, content })
}

/// Days since 1970.
pub(super) const fn day_of(at: Timestamp) -> i64 {
    at.0.div_euclid(86_400_000)
}

/// A recipient state as the database keeps it.
pub(super) fn json(state: &RecipientState) -> rusqlite::Result<String> {
    serde_json::to_string(state).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}
