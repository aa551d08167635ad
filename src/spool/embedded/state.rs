//! The state database: what the engine asks of SQLite, statement by statement.
//!
//! The tables are in `schema.sql`, what their columns mean in `schema.rs`. WAL and
//! `synchronous=FULL`: an outcome that is committed survives a power cut. The database follows the
//! segments: the mark in `meta` says up to where their records are here. Lost, it is rebuilt from
//! them.

use super::jobs::{
    ContentPlace, Ending, IncidentRow, LogMark, MessageRow, Moved, RecordPlace, Settling, Waiting, WaitingRow,
};
use super::paths::SpoolPaths;
use super::schema::{
    REPORT_IDS, SCHEMA, SCHEMA_VERSION, UPGRADES, day_of, json, lookup_hash, names, number, octets, place_columns,
    place_of, reported_of, unsigned,
};
use super::steps::{Step, Work};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::spool::event::Event;
use crate::spool::{Hold, MOST_INCIDENTS, RecipientState, SpoolEntry};
use rusqlite::config::DbConfig;
use rusqlite::types::Type;
use rusqlite::{Connection, OptionalExtension, params};
use std::cell::Cell;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Events kept of one message: the first, which tell how it began, and the last. Hourly attempts
/// at a few hosts for five days stay below it.
const FIRST_EVENTS: i64 = 100;
const LAST_EVENTS: i64 = 900;

/// An operator's `sqlite3` may hold a lock for a moment.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// Statements kept compiled: all there are, with room.
const STATEMENTS: usize = 32;

/// What a commit takes on the disk at least: a page.
const LEAST_COMMIT: u64 = 4096;

/// Whether the database has ever been complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Completeness {
    /// It followed the segments from their beginning, or has been rebuilt to the end.
    Complete,
    /// It is new, or a rebuild was cut off.
    Rebuilding,
}

/// When a transaction has to be on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sync {
    /// When its commit returns: it holds outcomes, which are nowhere else.
    AtCommit,
    /// With the next one that is: it holds only what the segments hold too.
    Later,
}

/// What the row of a message says when its settlement is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum RowState {
    /// How it was before.
    Before,
    /// How it is after it: the row was written with it.
    Settled,
}

/// The state database.
pub(super) struct State {
    pub(super) connection: Connection,
    sync: Cell<Sync>,
}

/// What is there is not what was made.
pub(super) fn damaged() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), None)
}

/// Every column of every table.
fn columns(connection: &Connection) -> rusqlite::Result<BTreeSet<String>> {
    let every =
        "SELECT t.name || '.' || c.name FROM sqlite_schema t, pragma_table_info(t.name) c WHERE t.type = 'table'";
    connection.prepare(every)?.query_map([], |row| row.get(0))?.collect()
}

fn full() -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_FULL), None)
}

impl State {
    /// Opens the database, and makes it when there is none.
    pub(super) fn open(paths: &SpoolPaths) -> rusqlite::Result<Self> {
        // Where it cannot be made, SQLite says why in its own words.
        let _made = paths.make_state();
        let connection = Connection::open(paths.state())?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        // A plan does not follow from the values: otherwise statements are planned again for each of them.
        connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        // A larger cache helps where the history is long, and costs: SQLite goes through all of it at each commit for which it
        // split a page.
        connection.execute_batch(
            "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA cache_size = -16000;
             PRAGMA wal_autocheckpoint = 4000; PRAGMA journal_size_limit = 67108864;",
        )?;
        let state = Self { connection, sync: Cell::new(Sync::AtCommit) };
        paths.at(Step::StateOpened);
        let tables: i64 = state.connection.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
        if tables == 0 {
            state.begin()?;
            state.connection.execute_batch(SCHEMA)?;
            state.set("schema_version", SCHEMA_VERSION)?;
            state.set("rebuilding", 1)?;
            state.commit(paths, Work::Schema)?;
        } else {
            state.upgrade(paths)?;
        }
        Ok(state)
    }

    /// Brings an older schema to this version. One that is not known stays as it is.
    fn upgrade(&self, paths: &SpoolPaths) -> rusqlite::Result<()> {
        let version = usize::try_from(self.version()?).unwrap_or(0);
        let steps = version.checked_sub(1).and_then(|known| UPGRADES.get(known..)).unwrap_or_default();
        if steps.is_empty() {
            return Ok(());
        }
        self.begin()?;
        steps.iter().try_for_each(|step| self.connection.execute_batch(step))?;
        self.set("schema_version", SCHEMA_VERSION)?;
        self.commit(paths, Work::Schema)
    }

    /// Every version has said which one it is; without that, tables are gone or rows are.
    fn version(&self) -> rusqlite::Result<i64> {
        let has_it = self.connection.table_exists(None, "meta")?;
        let version = if has_it { self.get("schema_version")? } else { None };
        version.ok_or_else(damaged)
    }

    /// Whether this program understands the database.
    pub(super) fn is_understood(&self) -> rusqlite::Result<bool> {
        Ok(self.version()? == SCHEMA_VERSION)
    }

    /// Whether every table is there, with every column.
    pub(super) fn is_whole(&self) -> rusqlite::Result<bool> {
        let model = Connection::open_in_memory()?;
        model.execute_batch(SCHEMA)?;
        Ok(columns(&model)?.is_subset(&columns(&self.connection)?))
    }

    /// Reads all of it and says whether it is sound. Slow: only after damage was met.
    pub(super) fn is_sound(&self) -> rusqlite::Result<bool> {
        self.connection
            .query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0))
            .map(|said| said == "ok")
    }

    /// Starts a transaction whose commit is on the disk when it returns.
    pub(super) fn begin(&self) -> rusqlite::Result<()> {
        self.begin_with(Sync::AtCommit)
    }

    /// Starts a transaction; see [`Sync`].
    pub(super) fn begin_with(&self, sync: Sync) -> rusqlite::Result<()> {
        if self.sync.replace(sync) != sync {
            self.connection.execute_batch(match sync {
                Sync::AtCommit => "PRAGMA synchronous = FULL",
                Sync::Later => "PRAGMA synchronous = NORMAL",
            })?;
        }
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    /// Commits, and tells the observer before and after.
    pub(super) fn commit(&self, paths: &SpoolPaths, work: Work) -> rusqlite::Result<()> {
        paths.at(Step::Committing(work));
        paths.steps().room(LEAST_COMMIT).map_err(|_| full())?;
        self.connection.execute_batch("COMMIT")?;
        paths.at(Step::Committed(work));
        Ok(())
    }

    /// Closes the database and leaves its files as they are: closed properly, SQLite would move
    /// its log into it.
    pub(super) fn abandon(self) {
        let _ = self.connection.set_db_config(DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, true);
    }

    /// Undoes the transaction, if one is open.
    pub(super) fn roll_back(&self) {
        if !self.connection.is_autocommit() {
            // SQLite undoes it at the next opening if it cannot do so now.
            let _ = self.connection.execute_batch("ROLLBACK");
        }
    }

    /// Moves the log of the database into the database, so that damage to it cannot bring back
    /// what was finished.
    pub(super) fn checkpoint(&self) -> rusqlite::Result<()> {
        self.connection.query_row("PRAGMA wal_checkpoint(FULL)", [], |_| Ok(()))
    }

    pub(super) fn completeness(&self) -> rusqlite::Result<Completeness> {
        let rebuilding = self.get("rebuilding")? != Some(0);
        Ok(if rebuilding { Completeness::Rebuilding } else { Completeness::Complete })
    }

    pub(super) fn set_complete(&self) -> rusqlite::Result<()> {
        self.set("rebuilding", 0)
    }

    pub(super) fn mark(&self) -> rusqlite::Result<LogMark> {
        let segment = self.get("applied_segment")?.unwrap_or(0);
        let offset = self.get("applied_offset")?.unwrap_or(0);
        Ok(LogMark { segment: u32::try_from(segment).unwrap_or(0), offset: unsigned(offset) })
    }

    pub(super) fn set_mark(&self, mark: LogMark) -> rusqlite::Result<()> {
        self.set("applied_segment", i64::from(mark.segment))?;
        self.set("applied_offset", octets(mark.offset))
    }

    /// Stores a new message. False when the database knows it already.
    pub(super) fn insert(&self, row: &MessageRow) -> rusqlite::Result<bool> {
        self.insert_settled(row, None)
    }

    /// The same, as it is after a settlement. What else that says is for [`State::settle`].
    pub(super) fn insert_settled(&self, row: &MessageRow, settling: Option<&Settling>) -> rusqlite::Result<bool> {
        let entry = settling.map_or(&row.waiting.entry, |settling| &settling.entry);
        let SpoolEntry { envelope, size, attempts, recipients, .. } = entry;
        let (due, finished_at, held) = match settling.map(|settling| (settling.ending, settling.at)) {
            None | Some((Ending::Continues, _)) => (row.due, None, Hold::Scheduled),
            Some((Ending::Waits { due, held }, _)) => (due, None, held),
            Some((Ending::Finished, at)) => (row.due, Some(at.0), Hold::Scheduled),
        };
        let place = row.waiting.place;
        let text = std::str::from_utf8(&row.envelope).unwrap_or("{}");
        let mut insert = self.connection.prepare_cached(
            "INSERT OR IGNORE INTO messages (id, segment, offset, length, content_in_file, size, accepted_at, due_at, \
             attempts, state, finished_at, envelope, message_id, held) \
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14)",
        )?;
        let in_file = place.content == ContentPlace::OwnFile;
        let (offset, length, size) = (octets(place.offset), octets(place.length), octets(*size));
        let id = number(row.waiting.entry.id);
        let new = insert.execute(params![
            id,
            place.segment,
            offset,
            length,
            in_file,
            size,
            envelope.accepted_at.0,
            due.0,
            attempts,
            if finished_at.is_some() { "finished" } else { "queued" },
            finished_at,
            text,
            row.message_id,
            held == Hold::Held
        ])?;
        if new == 0 {
            return Ok(false);
        }
        let mut insert = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO recipients (message, recipient, address, state) VALUES (?1, ?2, ?3, ?4)",
        )?;
        for (i, (recipient, state)) in (0_i64..).zip(envelope.recipients.iter().zip(recipients)) {
            insert.execute(params![id, i, recipient.to_string(), json(state)?])?;
        }
        self.make_findable(id, row)?;
        Ok(true)
    }

    fn make_findable(&self, id: i64, row: &MessageRow) -> rusqlite::Result<()> {
        let envelope = &row.waiting.entry.envelope;
        let mut insert =
            self.connection.prepare_cached("INSERT OR IGNORE INTO lookups (day, hash, message) VALUES (?1, ?2, ?3)")?;
        for name in names(envelope, row.message_id.as_deref()) {
            insert.execute(params![day_of(envelope.accepted_at), lookup_hash(&name), id])?;
        }
        Ok(())
    }

    /// Undoes [`State::make_findable`]. What cannot be read is left, and leads nowhere.
    fn make_unfindable(&self, id: i64) -> rusqlite::Result<()> {
        let (envelope, message_id): (String, Option<String>) = self
            .connection
            .prepare_cached("SELECT envelope, message_id FROM messages WHERE id = ?1")?
            .query_row([id], |row| Ok((row.get(0)?, row.get(1)?)))?;
        let Ok(envelope) = serde_json::from_str::<Envelope>(&envelope) else { return Ok(()) };
        let mut delete =
            self.connection.prepare_cached("DELETE FROM lookups WHERE day = ?1 AND hash = ?2 AND message = ?3")?;
        for name in names(&envelope, message_id.as_deref()) {
            delete.execute(params![day_of(envelope.accepted_at), lookup_hash(&name), id])?;
        }
        Ok(())
    }

    /// Records a settlement, and what goes with it. Gives the positions of reports that are known already.
    pub(super) fn settle(&self, settling: &Settling, row: RowState) -> rusqlite::Result<Vec<usize>> {
        for other in &settling.others {
            self.settle(other, RowState::Before)?;
        }
        match row {
            RowState::Before => {
                self.settle_recipients(settling)?;
                self.settle_message(settling)?;
            }
            RowState::Settled => {}
        }
        self.settle_notices(settling)?;
        self.settle_history(settling)?;
        self.count_sessions(settling.at, &settling.sessions)?;
        if let Some(update) = &settling.tls_report {
            self.keep_tls_report(update)?;
        }
        let mut known = Vec::new();
        for (position, report) in settling.reports.iter().enumerate() {
            if !self.insert(report)? {
                known.push(position);
            }
        }
        Ok(known)
    }

    fn settle_recipients(&self, settling: &Settling) -> rusqlite::Result<()> {
        let id = number(settling.entry.id);
        let mut update =
            self.connection.prepare_cached("UPDATE recipients SET state = ?3 WHERE message = ?1 AND recipient = ?2")?;
        for (recipient, state) in &settling.recipients {
            let place = i64::try_from(*recipient).unwrap_or(i64::MAX);
            if update.execute(params![id, place, state])? == 0 {
                // A row that is gone counts as a recipient that waits: unrecorded, it would get every attempt.
                let address = settling.entry.envelope.recipients.get(*recipient).map(ToString::to_string);
                self.connection
                    .prepare_cached(
                        "INSERT INTO recipients (message, recipient, address, state) VALUES (?1, ?2, ?3, ?4)",
                    )?
                    .execute(params![id, place, address.unwrap_or_default(), state])?;
            }
        }
        Ok(())
    }

    /// Who was told of whom, and how often the sender was.
    fn settle_notices(&self, settling: &Settling) -> rusqlite::Result<()> {
        let id = number(settling.entry.id);
        let mut tell =
            self.connection.prepare_cached("UPDATE recipients SET told = ?3 WHERE message = ?1 AND recipient = ?2")?;
        for (recipient, told) in &settling.told {
            tell.execute(params![id, i64::try_from(*recipient).unwrap_or(i64::MAX), told])?;
        }
        if let Some(reported) = &settling.reported {
            let mut update = self.connection.prepare_cached("UPDATE messages SET reported = ?2 WHERE id = ?1")?;
            update.execute(params![id, reported])?;
        }
        Ok(())
    }

    fn settle_message(&self, settling: &Settling) -> rusqlite::Result<()> {
        let id = number(settling.entry.id);
        match settling.ending {
            Ending::Continues => {}
            Ending::Waits { due, held } => {
                let mut wait = self
                    .connection
                    .prepare_cached("UPDATE messages SET due_at = ?2, attempts = ?3, held = ?4 WHERE id = ?1")?;
                wait.execute(params![id, due.0, settling.entry.attempts, held == Hold::Held])?;
            }
            Ending::Finished => {
                let mut finish = self.connection.prepare_cached(
                    "UPDATE messages SET state = 'finished', finished_at = ?2, attempts = ?3 WHERE id = ?1",
                )?;
                finish.execute(params![id, settling.at.0, settling.entry.attempts])?;
            }
        }
        Ok(())
    }

    fn settle_history(&self, settling: &Settling) -> rusqlite::Result<()> {
        if settling.events.is_empty() {
            return Ok(());
        }
        let id = number(settling.entry.id);
        let mut last = self
            .connection
            .prepare_cached("SELECT number FROM history WHERE message = ?1 ORDER BY number DESC LIMIT 1")?
            .query_row([id], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        let mut insert = self
            .connection
            .prepare_cached("INSERT INTO history (message, number, at, event) VALUES (?1, ?2, ?3, ?4)")?;
        for event in &settling.events {
            last += 1;
            insert.execute(params![id, last, settling.at.0, event])?;
        }
        if last > FIRST_EVENTS + LAST_EVENTS {
            self.connection
                .prepare_cached("DELETE FROM history WHERE message = ?1 AND number > ?2 AND number <= ?3")?
                .execute(params![id, FIRST_EVENTS, last - LAST_EVENTS])?;
        }
        Ok(())
    }

    /// Keeps an incident, and lets the oldest go that are too many.
    pub(super) fn keep_incident(&self, row: &IncidentRow) -> rusqlite::Result<()> {
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO incidents (id, incident) VALUES (?1, ?2)")?
            .execute(params![octets(row.id), row.incident])?;
        self.connection
            .prepare_cached(
                "DELETE FROM incidents WHERE id NOT IN (SELECT id FROM incidents ORDER BY id DESC LIMIT ?1)",
            )?
            .execute([i64::try_from(MOST_INCIDENTS).unwrap_or(i64::MAX)])?;
        Ok(())
    }

    /// Whether the database has a message, finished or not.
    pub(super) fn knows(&self, id: QueueId) -> rusqlite::Result<bool> {
        self.connection.prepare_cached("SELECT 1 FROM messages WHERE id = ?1")?.exists([number(id)])
    }

    /// Where the record of a message is.
    pub(super) fn place(&self, id: QueueId) -> rusqlite::Result<Option<RecordPlace>> {
        self.connection
            .prepare_cached(concat!("SELECT ", place_columns!(), " FROM messages WHERE id = ?1"))?
            .query_row([number(id)], |row| place_of(row, 0))
            .optional()
    }

    /// Records in a segment whose messages are not finished, at most so many.
    pub(super) fn living(&self, segment: u32, most: u32) -> rusqlite::Result<Vec<(QueueId, RecordPlace)>> {
        let mut select = self.connection.prepare_cached(concat!(
            "SELECT id, ",
            place_columns!(),
            " FROM messages INDEXED BY queued_messages WHERE segment = ?1 AND finished_at IS NULL LIMIT ?2",
        ))?;
        let rows =
            select.query_map(params![segment, most], |row| Ok((QueueId(unsigned(row.get(0)?)), place_of(row, 1)?)))?;
        rows.collect()
    }

    /// Names the new places of records. Gives the positions of those that are not needed any
    /// more: their messages were finished meanwhile.
    pub(super) fn forward(&self, moved: &[Moved]) -> rusqlite::Result<Vec<usize>> {
        let mut update = self.connection.prepare_cached(
            "UPDATE messages SET segment = ?4, offset = ?5, length = ?6 \
             WHERE id = ?1 AND segment = ?2 AND offset = ?3 AND finished_at IS NULL",
        )?;
        let mut unneeded = Vec::new();
        for (position, Moved { id, from, to }) in moved.iter().enumerate() {
            let (old, new) = (octets(from.offset), octets(to.offset));
            let named = params![number(*id), from.segment, old, to.segment, new, octets(to.length)];
            if update.execute(named)? == 0 {
                unneeded.push(position);
            }
        }
        Ok(unneeded)
    }

    /// Reads a message. An envelope that cannot be read is an error of conversion; recipient
    /// states that cannot are taken as waiting, which errs towards a duplicate.
    pub(super) fn load(&self, id: QueueId, place: RecordPlace) -> rusqlite::Result<Waiting> {
        let mut message =
            self.connection.prepare_cached("SELECT envelope, size, attempts, reported FROM messages WHERE id = ?1")?;
        let (envelope, size, attempts, reported) = message.query_row([number(id)], |row| {
            Ok((row.get::<_, String>(0)?, row.get(1)?, row.get(2)?, row.get::<_, Option<String>>(3)?))
        })?;
        let envelope: Envelope = serde_json::from_str(&envelope)
            .map_err(|e| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(e)))?;
        let recipients = self.recipients(id, envelope.recipients.len())?;
        let reported = reported_of(reported.as_deref());
        let entry =
            SpoolEntry { id, envelope: Arc::new(envelope), size: unsigned(size), attempts, recipients, reported };
        Ok(Waiting { entry, place })
    }

    /// The states of `count` recipients.
    pub(super) fn recipients(&self, id: QueueId, count: usize) -> rusqlite::Result<Vec<RecipientState>> {
        let mut states = vec![RecipientState::NEW; count];
        let mut select =
            self.connection.prepare_cached("SELECT recipient, state FROM recipients WHERE message = ?1")?;
        let mut rows = select.query([number(id)])?;
        while let Some(row) = rows.next()? {
            let place = usize::try_from(row.get::<_, i64>(0)?).ok().and_then(|i| states.get_mut(i));
            if let (Some(place), Ok(state)) = (place, serde_json::from_str(&row.get::<_, String>(1)?)) {
                *place = state;
            }
        }
        Ok(states)
    }

    /// What happened to a message, oldest first.
    pub(super) fn history(&self, id: QueueId) -> rusqlite::Result<Vec<(Timestamp, Event)>> {
        let mut select =
            self.connection.prepare_cached("SELECT at, event FROM history WHERE message = ?1 ORDER BY number")?;
        let rows = select
            .query_map([number(id)], |row| Ok((Timestamp(row.get(0)?), Event::from_json(&row.get::<_, String>(1)?))))?;
        rows.collect()
    }

    /// Calls `each` with every waiting message, held ones among them.
    pub(super) fn for_each_waiting(&self, mut each: impl FnMut(WaitingRow)) -> rusqlite::Result<()> {
        let mut select = self.connection.prepare(
            "SELECT id, due_at, accepted_at, segment, held, length FROM messages INDEXED BY queued_messages \
             WHERE finished_at IS NULL",
        )?;
        let mut rows = select.query([])?;
        while let Some(row) = rows.next()? {
            let (due, accepted_at) = (Timestamp(row.get(1)?), Timestamp(row.get(2)?));
            let (id, segment, held) = (QueueId(unsigned(row.get(0)?)), row.get(3)?, row.get(4)?);
            each(WaitingRow { id, due, accepted_at, segment, length: unsigned(row.get(5)?), held });
        }
        Ok(())
    }

    /// Whether a message waits and has its content in a file of its own.
    pub(super) fn needs_file(&self, id: QueueId) -> rusqlite::Result<bool> {
        self.connection
            .prepare_cached("SELECT 1 FROM messages WHERE id = ?1 AND finished_at IS NULL AND content_in_file = 1")?
            .exists([number(id)])
    }

    /// The highest id that is a time, also of what was pruned: segments may hold that still.
    pub(super) fn last_time_id(&self) -> rusqlite::Result<u64> {
        let highest: Option<i64> =
            self.connection
                .query_row("SELECT max(id) FROM messages WHERE id < ?1", [octets(REPORT_IDS)], |row| row.get(0))?;
        Ok(highest.max(self.get("pruned_time_id")?).map_or(0, unsigned))
    }

    /// Octets of the database that are in use.
    pub(super) fn used_bytes(&self) -> rusqlite::Result<u64> {
        let pragma = |name: &str| -> rusqlite::Result<u64> {
            self.connection.query_row(&format!("PRAGMA {name}"), [], |row| row.get(0)).map(unsigned)
        };
        Ok(pragma("page_count")?.saturating_sub(pragma("freelist_count")?).saturating_mul(pragma("page_size")?))
    }

    /// Removes up to `most` messages that were finished before `before`. Gives how many it were.
    /// A report stays for as long as what it tells of: it is the proof that somebody was told.
    pub(super) fn prune(&self, before: Timestamp, most: u32) -> rusqlite::Result<usize> {
        let mut select = self.connection.prepare_cached(
            "SELECT id FROM messages WHERE finished_at < ?1 \
             AND NOT (id > ?3 AND EXISTS (SELECT 1 FROM recipients WHERE told = messages.id)) \
             ORDER BY finished_at LIMIT ?2",
        )?;
        let reports = octets(REPORT_IDS);
        let ids: Vec<i64> =
            select.query_map(params![before.0, most, reports], |row| row.get(0))?.collect::<Result<_, _>>()?;
        let mut latest = Timestamp(i64::MIN);
        for id in &ids {
            let accepted_at = self
                .connection
                .prepare_cached("SELECT accepted_at FROM messages WHERE id = ?1")?
                .query_row([id], |row| row.get(0).map(Timestamp))?;
            latest = latest.max(accepted_at);
            self.make_unfindable(*id)?;
            for delete in [
                "DELETE FROM recipients WHERE message = ?1",
                "DELETE FROM history WHERE message = ?1",
                "DELETE FROM messages WHERE id = ?1",
            ] {
                self.connection.prepare_cached(delete)?.execute([id])?;
            }
        }
        if !ids.is_empty() {
            self.forget_until(latest)?;
        }
        if let Some(highest) = ids.iter().copied().filter(|id| *id < reports).max() {
            let before = self.get("pruned_time_id")?.unwrap_or(0);
            self.set("pruned_time_id", highest.max(before))?;
        }
        Ok(ids.len())
    }

    /// Messages accepted up to then may be unknown here though a segment has them: they were
    /// finished. The audit must not miss them.
    pub(super) fn forget_until(&self, accepted_at: Timestamp) -> rusqlite::Result<()> {
        let before = self.get("pruned_accepted_at")?.unwrap_or(i64::MIN);
        self.set("pruned_accepted_at", accepted_at.0.max(before))
    }

    pub(super) fn get(&self, name: &str) -> rusqlite::Result<Option<i64>> {
        let mut select = self.connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        select.query_row([name], |row| row.get(0)).optional()
    }

    pub(super) fn set(&self, name: &str, value: i64) -> rusqlite::Result<()> {
        let mut set = self.connection.prepare_cached("INSERT OR REPLACE INTO meta (name, value) VALUES (?1, ?2)")?;
        set.execute(params![name, value]).map(|_| ())
    }
}
