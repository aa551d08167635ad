//! Reads what the state database knows, beside a relay that runs or without one.
//!
//! Read-only: SQLite's WAL lets readers in while the writer writes, so nobody has to be asked and
//! nobody is held up. Every answer is bounded by its caller.

use super::paths::SpoolPaths;
use super::schema::{
    MICROSECONDS, REPORT_IDS, SCHEMA_VERSION, is_of_the_row, lookup_hash, message_columns, message_of, octets, told_of,
};
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::DeliveryOutcome;
use crate::smtp::address::Domain;
use crate::spool::RecipientState;
use crate::spool::event::Event;
use crate::spool::incident::Incident;
use crate::spool::ledger::{
    DeliveriesWanted, LedgerError, LedgerMessage, LedgerRecipient, Listed, Matches, More, PastDelivery, WaitingFrom,
    WaitingOrder,
};
use rusqlite::{Connection, OpenFlags, OptionalExtension, Rows, params};
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// How long a reader waits for a lock, which only recovery takes.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);

/// From the begin of a message's content to its acknowledgement, at the most: a day, in milliseconds.
const LONGEST_ARRIVAL_MS: i64 = 86_400_000;

/// Domains that are counted; further ones are not.
const MOST_DESTINATIONS: usize = 100_000;

/// Recipients of a domain, the newest messages first; what comes first is there at once.
const ALL_DELIVERIES: &str = "SELECT r.message, r.address, r.state, m.accepted_at \
     FROM recipients r JOIN messages m ON m.id = r.message \
     WHERE r.address LIKE '%@' || replace(?1, '_', '\\_') ESCAPE '\\' ORDER BY r.message DESC";

/// The same among the last ones of what clients handed in.
const LAST_DELIVERIES: &str = "SELECT r.message, r.address, r.state, m.accepted_at \
     FROM (SELECT message, address, state FROM recipients WHERE message < ?2 ORDER BY message DESC LIMIT ?3) r \
     JOIN messages m ON m.id = r.message \
     WHERE r.address LIKE '%@' || replace(?1, '_', '\\_') ESCAPE '\\' AND r.state LIKE '%\"delivered\"%' \
     ORDER BY r.message DESC";

/// The state database, open for reading; every question blocks.
pub struct StateReader {
    pub(super) connection: Connection,
    pub(super) paths: SpoolPaths,
}

impl StateReader {
    /// Opens the state database of a spool directory.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub fn open(spool: &Path) -> Result<Self, LedgerError> {
        let paths = SpoolPaths::of(spool);
        let path = paths.state();
        match path.try_exists() {
            Ok(true) => {}
            Ok(false) => return Err(LedgerError::NoSpool(spool.display().to_string())),
            Err(_denied) => return Err(LedgerError::Denied(spool.display().to_string())),
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(&path, flags)?;
        connection.busy_timeout(LOCK_PATIENCE)?;
        let version: i64 = connection
            .query_row("SELECT value FROM meta WHERE name = 'schema_version'", [], |row| row.get(0))
            .optional()?
            .unwrap_or(0);
        if version != SCHEMA_VERSION {
            return Err(LedgerError::OtherVersion(path.display().to_string()));
        }
        Ok(Self { connection, paths })
    }

    /// One message.
    ///
    /// # Errors
    /// When the database cannot be read, or this row of it.
    pub fn message(&self, id: QueueId) -> Result<Option<LedgerMessage>, LedgerError> {
        let mut select =
            self.connection.prepare_cached(concat!("SELECT ", message_columns!(), " FROM messages WHERE id = ?1"))?;
        match select.query_row([id.0.cast_signed()], message_of).optional() {
            Ok(message) => message.map(|message| self.with_recipients(message)).transpose(),
            Err(error) if is_of_the_row(&error) => Err(LedgerError::Row(id)),
            Err(error) => Err(error.into()),
        }
    }

    /// What happened to a message, oldest first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, LedgerError> {
        let mut select =
            self.connection.prepare_cached("SELECT at, event FROM history WHERE message = ?1 ORDER BY number")?;
        let rows = select.query_map([id.0.cast_signed()], |row| {
            Ok((Timestamp(row.get(0)?), Event::from_json(&row.get::<_, String>(1)?)))
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// The newest incidents. One that cannot be understood is left out: it hides no other.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn incidents(&self, most: usize) -> Result<Vec<Incident>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT incident FROM incidents ORDER BY id DESC LIMIT ?1")?;
        let rows = select.query_map([i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
        let rows: Vec<String> = rows.collect::<Result<_, _>>()?;
        Ok(rows.iter().filter_map(|row| serde_json::from_str(row).ok()).collect())
    }

    /// Deliveries to recipients of a domain, the newest messages first. Goes through the recipients until it
    /// has as many as were asked for, or has seen as many as it may.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn delivered(&self, wanted: &DeliveriesWanted) -> Result<Vec<PastDelivery>, LedgerError> {
        let DeliveriesWanted { domain, most, among } = wanted;
        let mut select =
            self.connection.prepare_cached(if among.is_some() { LAST_DELIVERIES } else { ALL_DELIVERIES })?;
        let mut rows = match among {
            None => select.query(params![domain.as_str()])?,
            Some(among) => select.query(params![domain.as_str(), REPORT_IDS.cast_signed(), among])?,
        };
        let mut found = Vec::new();
        while found.len() < *most
            && let Some(row) = rows.next()?
        {
            let Ok(state) = serde_json::from_str(&row.get::<_, String>(2)?) else { continue };
            let RecipientState::Done { outcome: DeliveryOutcome::Delivered { peer, tls, .. } } = state else {
                continue;
            };
            let id = QueueId(row.get::<_, i64>(0)?.cast_unsigned());
            let (recipient, accepted_at) = (row.get(1)?, Timestamp(row.get(3)?));
            found.push(PastDelivery { id, recipient, accepted_at, peer, tls });
        }
        Ok(found)
    }

    /// The domains that mail was accepted for, those with most recipients first. Reports of ours do not count.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn destinations(&self, most: usize) -> Result<Vec<Domain>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT address FROM recipients WHERE message < ?1")?;
        let mut rows = select.query([REPORT_IDS.cast_signed()])?;
        let mut counts: BTreeMap<String, u64> = BTreeMap::new();
        while let Some(row) = rows.next()? {
            let address: String = row.get(0)?;
            let Some((_, domain)) = address.rsplit_once('@') else { continue };
            if let Some(count) = counts.get_mut(domain) {
                *count += 1;
            } else if counts.len() < MOST_DESTINATIONS {
                counts.insert(domain.to_ascii_lowercase(), 1);
            }
        }
        let mut counted: Vec<(u64, String)> = counts.into_iter().map(|(domain, count)| (count, domain)).collect();
        counted.sort_by(|a, b| b.0.cmp(&a.0).then_with(|| a.1.cmp(&b.1)));
        Ok(counted.iter().filter_map(|(_, domain)| domain.parse().ok()).take(most).collect())
    }

    /// Messages with this Message-ID, sender or recipient.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn find(&self, name: &str, most: usize) -> Result<Matches, LedgerError> {
        let name = name.trim_start_matches('<').trim_end_matches('>');
        let mut found = Matches { messages: Vec::new(), more: More::No, unreadable: Vec::new() };
        let mut before = i64::MAX;
        let mut looked_up = self
            .connection
            .prepare_cached("SELECT message FROM lookups WHERE day = ?1 AND hash = ?2 ORDER BY message DESC")?;
        while let Some(day) = self.day_before(before)? {
            before = day;
            // Row by row: a million may go to one address, and few are asked for.
            let mut rows = looked_up.query(params![day, lookup_hash(name)])?;
            while let Some(row) = rows.next()? {
                let message = match self.message(QueueId(row.get::<_, i64>(0)?.cast_unsigned())) {
                    Ok(Some(message)) if message.is_named(name) => message,
                    Ok(_of_the_same_hash) => continue,
                    Err(LedgerError::Row(id)) => {
                        found.unreadable.push(id);
                        continue;
                    }
                    Err(error) => return Err(error),
                };
                if found.messages.len() >= most {
                    found.more = More::Yes;
                    return Ok(found);
                }
                found.messages.push(message);
            }
        }
        Ok(found)
    }

    /// Calls `each` with every message that waits, oldest first, until it says that it is enough.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn for_each_waiting(&self, each: impl FnMut(Listed) -> ControlFlow<()>) -> Result<(), LedgerError> {
        let mut select = self.connection.prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE finished_at IS NULL ORDER BY accepted_at, id",
        ))?;
        self.for_each(select.query([])?, each)
    }

    /// The same from a place of that list on, or from its end back. The first row is found by an index.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn for_each_waiting_from(
        &self,
        from: &WaitingFrom,
        each: impl FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let select = match from.order {
            WaitingOrder::Oldest => concat!(
                "SELECT ",
                message_columns!(),
                " FROM messages INDEXED BY waiting_messages WHERE finished_at IS NULL AND (accepted_at, id) > (?1, ?2) \
                  ORDER BY accepted_at, id",
            ),
            WaitingOrder::Newest => concat!(
                "SELECT ",
                message_columns!(),
                " FROM messages INDEXED BY waiting_messages WHERE finished_at IS NULL AND (accepted_at, id) < (?1, ?2) \
                  ORDER BY accepted_at DESC, id DESC",
            ),
        };
        let end = match from.order {
            WaitingOrder::Oldest => (i64::MIN, i64::MIN),
            WaitingOrder::Newest => (i64::MAX, i64::MAX),
        };
        let (accepted_at, id) = from.after.map_or(end, |place| (place.accepted_at.0, place.id.0.cast_signed()));
        let mut select = self.connection.prepare_cached(select)?;
        self.for_each(select.query(params![accepted_at, id])?, each)
    }

    /// Calls `each` with every message that a client handed in from the one moment to the other,
    /// oldest first, until it says that it is enough.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn for_each_accepted(
        &self,
        from: Timestamp,
        to: Timestamp,
        each: impl FnMut(Listed) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        // The id of a client's message is the time at which its content began to come in, or later
        // where the clock was set back: the primary key spares the years before.
        let mut select = self.connection.prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE id >= ?1 AND id < ?2 AND accepted_at BETWEEN ?3 AND ?4 ORDER BY accepted_at, id",
        ))?;
        let first_id = from.0.saturating_sub(LONGEST_ARRIVAL_MS).saturating_mul(MICROSECONDS.cast_signed());
        self.for_each(select.query(params![first_id, octets(REPORT_IDS), from.0, to.0])?, each)
    }

    /// See [`crate::spool::ledger::Ledger::page`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn page(
        &self,
        after: Option<QueueId>,
        most: usize,
    ) -> Result<Vec<Result<LedgerMessage, QueueId>>, LedgerError> {
        let mut select = self.connection.prepare_cached(concat!(
            "SELECT ",
            message_columns!(),
            " FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2",
        ))?;
        let after = after.map_or(-1, |id| id.0.cast_signed());
        let mut rows = select.query(params![after, i64::try_from(most).unwrap_or(i64::MAX)])?;
        let mut page = Vec::new();
        while let Some(row) = rows.next()? {
            page.push(match message_of(row) {
                Ok(message) => Ok(self.with_recipients(message)?),
                Err(error) if is_of_the_row(&error) => Err(QueueId(row.get::<_, i64>(0)?.cast_unsigned())),
                Err(error) => return Err(error.into()),
            });
        }
        Ok(page)
    }

    /// See [`crate::spool::ledger::Ledger::complete_since`].
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn complete_since(&self) -> Result<Option<Timestamp>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT value FROM meta WHERE name = 'pruned_accepted_at'")?;
        Ok(select.query_row([], |row| row.get(0).map(Timestamp)).optional()?)
    }

    fn for_each(&self, mut rows: Rows<'_>, mut each: impl FnMut(Listed) -> ControlFlow<()>) -> Result<(), LedgerError> {
        while let Some(row) = rows.next()? {
            let listed = match message_of(row) {
                Ok(message) => Listed::Message(Box::new(self.with_recipients(message)?)),
                Err(error) if is_of_the_row(&error) => Listed::Unreadable,
                Err(error) => return Err(error.into()),
            };
            if each(listed).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Days are few: each is found from the one after it.
    fn day_before(&self, day: i64) -> Result<Option<i64>, LedgerError> {
        let mut select = self.connection.prepare_cached("SELECT max(day) FROM lookups WHERE day < ?1")?;
        Ok(select.query_row([day], |row| row.get(0))?)
    }

    pub(super) fn with_recipients(&self, mut message: LedgerMessage) -> Result<LedgerMessage, LedgerError> {
        let mut select = self
            .connection
            .prepare_cached("SELECT recipient, address, state, told FROM recipients WHERE message = ?1")?;
        let mut rows = select.query([message.id.0.cast_signed()])?;
        while let Some(row) = rows.next()? {
            let place = usize::try_from(row.get::<_, i64>(0)?).ok().and_then(|i| message.recipients.get_mut(i));
            let (Some(place), Ok(state)) = (place, serde_json::from_str(&row.get::<_, String>(2)?)) else { continue };
            let told = row.get::<_, Option<i64>>(3)?.and_then(told_of);
            *place = Some(LedgerRecipient { address: row.get(1)?, state, told });
        }
        Ok(message)
    }
}
