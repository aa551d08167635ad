//! Messages of another spool ([`CarryingSpool`]): their records go the way of all records, and what is known of them
//! beside follows in a transaction of its own. Between the two a message may stand here as if it were new: it has no
//! history then, and is completed when it is adopted again.

use super::EmbeddedSpool;
use super::content::ContentWriter;
use super::jobs::{AdoptedRows, KeptRows, StateJob, TlsReportUpdate};
use super::schema::{day_of, json, lookup_hash, names, number, octets};
use super::settle::encode_envelope;
use super::state::State;
use super::storing::storing;
use crate::clock::Timestamp;
use crate::spool::carrying::{Adoption, CarriedMessage, CarryingSpool};
use crate::spool::ledger::{LedgerMessage, LedgerRecipient, MessageState, ToldBy};
use crate::spool::stored::{text_number, told_number};
use crate::spool::tls_session::{TlsCount, TlsReportRow, TlsReportState};
use crate::spool::{BodyReader, BodyWriter as _, RecipientState, SpoolEntry, SpoolError};
use async_trait::async_trait;
use rusqlite::params;
use std::sync::Arc;

/// Since when the mail belongs to another spool, in `meta`.
const CARRIED_SINCE: &str = "carried_since";

#[async_trait]
impl CarryingSpool for EmbeddedSpool {
    fn carried_since(&self) -> Option<Timestamp> {
        self.carried_since
    }

    async fn set_carried_since(&self, since: Option<Timestamp>) -> Result<(), SpoolError> {
        self.adopt_rows(AdoptedRows::CarriedSince(since)).await
    }

    async fn adopt(
        &self,
        carried: CarriedMessage,
        content: Option<Box<dyn BodyReader>>,
    ) -> Result<Adoption, SpoolError> {
        self.running()?;
        let id = carried.message.id;
        let is_there = self.ask(|answer| StateJob::Place(id, answer)).await?.is_some();
        let is_whole = is_there && !self.ask(|answer| StateJob::History(id, answer)).await?.is_empty();
        if is_whole {
            return Ok(Adoption::Known);
        }
        if let Some(content) = content.filter(|_| !is_there) {
            self.store_record(&carried.message, content).await?;
        }
        self.adopt_rows(AdoptedRows::Message(Box::new(carried))).await?;
        Ok(if is_there { Adoption::Known } else { Adoption::New })
    }

    async fn adopt_counts(&self, report: &TlsReportRow, counts: Vec<TlsCount>) -> Result<(), SpoolError> {
        self.adopt_rows(AdoptedRows::Counts(report.clone(), counts)).await
    }

    async fn adopt_horizon(&self, complete_since: Timestamp) -> Result<(), SpoolError> {
        self.adopt_rows(AdoptedRows::Horizon(complete_since)).await
    }
}

impl EmbeddedSpool {
    async fn adopt_rows(&self, rows: AdoptedRows) -> Result<(), SpoolError> {
        self.ask(|answer| StateJob::Keep(Box::new(KeptRows::Adopted(rows)), answer)).await
    }

    /// Makes the record of a message durable, under its own id.
    async fn store_record(&self, message: &LedgerMessage, mut content: Box<dyn BodyReader>) -> Result<(), SpoolError> {
        let mut writer = ContentWriter::new(Arc::clone(&self.shared), message.id);
        while let Some(piece) = content.next().await? {
            writer.write(&piece).await?;
        }
        self.shared.space.admit(writer.in_memory())?;
        let mut stored = storing(message.id, message.envelope.clone(), writer.finish().await?)?;
        stored.message.due = message.due_at;
        stored.message.entry = SpoolEntry {
            attempts: message.attempts,
            recipients: states(message).collect(),
            reported: message.reported,
            ..stored.message.entry
        };
        self.make_durable(vec![stored]).await
    }
}

/// The states of all recipients: one that is missing waits, which errs towards a duplicate.
fn states(message: &LedgerMessage) -> impl Iterator<Item = RecipientState> {
    let state =
        |known: &Option<LedgerRecipient>| known.as_ref().map_or(RecipientState::NEW, |known| known.state.clone());
    message.recipients.iter().map(state)
}

/// Who was told, as the database keeps it.
fn told(recipient: Option<&LedgerRecipient>) -> Option<i64> {
    recipient.and_then(|recipient| recipient.told).map(|told| match told {
        ToldBy::Report(id) => number(id),
        ToldBy::Nobody(because) => told_number(because),
    })
}

impl State {
    /// Since when the mail here belongs to another spool.
    pub(super) fn carried_since(&self) -> rusqlite::Result<Option<Timestamp>> {
        Ok(self.get(CARRIED_SINCE)?.map(Timestamp))
    }

    /// Keeps rows as they are.
    pub(super) fn keep(&self, rows: &KeptRows) -> rusqlite::Result<()> {
        match rows {
            KeptRows::Incident(row) => self.keep_incident(row),
            KeptRows::Adopted(rows) => self.adopt(rows),
        }
    }

    /// Writes what comes from another spool.
    fn adopt(&self, rows: &AdoptedRows) -> rusqlite::Result<()> {
        match rows {
            AdoptedRows::Message(carried) => self.adopt_message(carried),
            AdoptedRows::Counts(report, counts) => self.adopt_counts(report, counts),
            AdoptedRows::Horizon(since) => self.forget_until(*since),
            AdoptedRows::CarriedSince(Some(since)) => self.set(CARRIED_SINCE, since.0),
            AdoptedRows::CarriedSince(None) => {
                self.connection.execute("DELETE FROM meta WHERE name = ?1", [CARRIED_SINCE]).map(drop)
            }
        }
    }

    fn adopt_message(&self, carried: &CarriedMessage) -> rusqlite::Result<()> {
        let message = &carried.message;
        let id = number(message.id);
        self.adopt_row(id, message)?;
        let mut keep = self.connection.prepare_cached(
            "INSERT OR REPLACE INTO recipients (message, recipient, address, state, told) VALUES (?1, ?2, ?3, ?4, ?5)",
        )?;
        let known = message.recipients.iter().map(Option::as_ref);
        let all = message.envelope.recipients.iter().zip(states(message)).zip(known);
        for (nth, ((address, state), known)) in (0_i64..).zip(all) {
            keep.execute(params![id, nth, address.to_string(), json(&state)?, told(known)])?;
        }
        let mut find =
            self.connection.prepare_cached("INSERT OR IGNORE INTO lookups (day, hash, message) VALUES (?1, ?2, ?3)")?;
        for name in names(&message.envelope, message.message_id.as_deref()) {
            find.execute(params![day_of(message.envelope.accepted_at), lookup_hash(&name), id])?;
        }
        let mut tell = self
            .connection
            .prepare_cached("INSERT OR REPLACE INTO history (message, number, at, event) VALUES (?1, ?2, ?3, ?4)")?;
        for (nth, (at, event)) in (1_i64..).zip(&carried.history) {
            tell.execute(params![id, nth, at.0, event.to_json()])?;
        }
        Ok(())
    }

    /// The row of a message that has a record here, or is finished and needs none.
    fn adopt_row(&self, id: i64, message: &LedgerMessage) -> rusqlite::Result<()> {
        let conversion = |error: SpoolError| rusqlite::Error::ToSqlConversionFailure(Box::new(error));
        let envelope = encode_envelope(&message.envelope).map_err(conversion)?;
        let envelope = std::str::from_utf8(&envelope).unwrap_or("{}");
        if message.finished_at.is_some() {
            self.connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO messages (id, segment, offset, length, content_in_file, size, accepted_at, \
                     due_at, attempts, state, envelope, message_id) \
                     VALUES (?1, 0, 0, 0, 0, ?2, ?3, ?4, ?5, 'finished', ?6, ?7)",
                )?
                .execute(params![
                    id,
                    octets(message.size),
                    message.envelope.accepted_at.0,
                    message.due_at.0,
                    message.attempts,
                    envelope,
                    message.message_id
                ])?;
        }
        let reported = serde_json::to_string(&message.reported).ok();
        let (held, finished_at) = (message.standing == MessageState::Held, message.finished_at.map(|at| at.0));
        let mut keep = self.connection.prepare_cached(
            "UPDATE messages SET due_at = ?2, attempts = ?3, held = ?4, reported = ?5, finished_at = ?6, \
             state = iif(?6 IS NULL, 'queued', 'finished') WHERE id = ?1",
        )?;
        keep.execute(params![id, message.due_at.0, message.attempts, held, reported, finished_at]).map(drop)
    }

    fn adopt_counts(&self, report: &TlsReportRow, counts: &[TlsCount]) -> rusqlite::Result<()> {
        let (day, domain) = (report.id.day.0, report.id.domain.as_str());
        let text = |value: Result<String, serde_json::Error>| {
            value.map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
        };
        for count in counts {
            let policy = text(serde_json::to_string(&count.policy))?;
            let failure = count.failure.as_ref().map(serde_json::to_string).transpose();
            let failure = text(failure.map(Option::unwrap_or_default))?;
            let policy_number = text_number(&policy);
            self.connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO tls_policies (day, domain, number, policy) VALUES (?1, ?2, ?3, ?4)",
                )?
                .execute(params![day, domain, policy_number, policy])?;
            self.connection
                .prepare_cached(
                    "INSERT OR IGNORE INTO tls_sessions (day, domain, policy, failure, sessions) \
                     VALUES (?1, ?2, ?3, ?4, ?5)",
                )?
                .execute(params![day, domain, policy_number, failure, octets(count.sessions)])?;
        }
        if let Some(state) = &report.report {
            let due = TlsReportState::due(state);
            let state = text(serde_json::to_string(state))?;
            self.keep_tls_report(&TlsReportUpdate { id: report.id.clone(), state, due })?;
        }
        Ok(())
    }
}
