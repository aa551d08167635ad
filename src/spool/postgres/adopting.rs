//! Messages of another spool ([`CarryingSpool`]), each in one transaction: with it the message is there as a whole, or
//! not at all.

use super::PostgresSpool;
use super::content::{ReceivedContent, RowWriter};
use super::numbers::{bigint, number};
use super::rows::{json, rows_of};
use super::shared::SharedStore;
use super::tls_counts::NumberedJson;
use crate::clock::Timestamp;
use crate::spool::carrying::{Adoption, CarriedMessage, CarryingSpool};
use crate::spool::ledger::{LedgerMessage, MessageState, ToldBy};
use crate::spool::stored::{lookup_hash, names, told_number};
use crate::spool::tls_session::{TlsCount, TlsReportRow, TlsReportState};
use crate::spool::{BodyReader, BodyWriter as _, RecipientState, SpoolError};
use async_trait::async_trait;
use deadpool_postgres::Transaction;
use std::sync::Arc;
use std::sync::PoisonError;
use tokio_postgres::Error;

/// Since when the mail belongs to another spool, in `relay_meta`.
const CARRIED_SINCE: &str = "carried_since";

const MESSAGE: &str = "INSERT INTO messages
    (id, message_id, envelope, size, content_crc, accepted_at, due_at, planned_by, attempts, held, finished_at, reported)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12) ON CONFLICT DO NOTHING";
const RECIPIENTS: &str = "INSERT INTO recipients (message, recipient, address, state, told)
    SELECT $1, * FROM unnest($2::int[], $3::text[], $4::text[], $5::bigint[])";
const LOOKUPS: &str = "INSERT INTO lookups (hash, accepted_at, message)
    SELECT hash, $2, $1 FROM unnest($3::bigint[]) AS new (hash) ON CONFLICT DO NOTHING";
const HISTORY: &str = "INSERT INTO history (message, number, at, event)
    SELECT $1, * FROM unnest($2::int[], $3::bigint[], $4::text[])";
const CONTENT: &str = "INSERT INTO content (message, number, octets)
    SELECT $1, * FROM unnest($2::int[], $3::bytea[])";

/// Since when the mail here belongs to another spool.
pub(super) async fn carried_since(client: &tokio_postgres::Client) -> Result<Option<Timestamp>, Error> {
    let select = "SELECT value FROM relay_meta WHERE name = $1";
    Ok(client.query_opt(select, &[&CARRIED_SINCE]).await?.map(|row| Timestamp(row.get(0))))
}

#[async_trait]
impl CarryingSpool for PostgresSpool {
    fn carried_since(&self) -> Option<Timestamp> {
        *self.carried_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn set_carried_since(&self, since: Option<Timestamp>) -> Result<(), SpoolError> {
        let client = self.shared.database.client().await?;
        let kept = match since {
            Some(since) => {
                let keep = "INSERT INTO relay_meta (name, value) VALUES ($1, $2)
                            ON CONFLICT (name) DO UPDATE SET value = excluded.value";
                client.execute(keep, &[&CARRIED_SINCE, &since.0]).await
            }
            None => client.execute("DELETE FROM relay_meta WHERE name = $1", &[&CARRIED_SINCE]).await,
        };
        kept.map_err(|error| self.shared.database.failed(error))?;
        *self.carried_since.lock().unwrap_or_else(PoisonError::into_inner) = since;
        Ok(())
    }

    async fn adopt(
        &self,
        carried: CarriedMessage,
        content: Option<Box<dyn BodyReader>>,
    ) -> Result<Adoption, SpoolError> {
        self.shared.running()?;
        if is_there(&self.shared, &carried.message).await? {
            return Ok(Adoption::Known);
        }
        let content = match content {
            Some(content) => Some(received(&self.shared, &carried.message, content).await?),
            None => None,
        };
        let rows = CarriedRows::new(&carried)?;
        let mut client = self.shared.database.client().await?;
        let failed = |error| self.shared.database.failed(error);
        let transaction = client.transaction().await.map_err(failed)?;
        let is_new = rows.insert(&transaction, &self.shared, content.as_ref()).await.map_err(failed)?;
        transaction.commit().await.map_err(failed)?;
        if let Some(draft) = content.and_then(|content| content.draft).as_mut().filter(|_| is_new) {
            draft.keep();
        }
        Ok(if is_new { Adoption::New } else { Adoption::Known })
    }

    async fn adopt_counts(&self, report: &TlsReportRow, counts: Vec<TlsCount>) -> Result<(), SpoolError> {
        let mut client = self.shared.database.client().await?;
        let failed = |error| self.shared.database.failed(error);
        let transaction = client.transaction().await.map_err(failed)?;
        let (day, domain) = (report.id.day.0, report.id.domain.as_str());
        for count in &counts {
            let (policy, failure) = (NumberedJson::new(&count.policy)?, NumberedJson::failure(count.failure.as_ref())?);
            let name = "INSERT INTO tls_policies (day, domain, number, policy) VALUES ($1, $2, $3, $4)
                        ON CONFLICT DO NOTHING";
            transaction.execute(name, &[&day, &domain, &policy.number, &policy.text]).await.map_err(failed)?;
            let count_it = "INSERT INTO tls_sessions (day, domain, policy, failure_number, shard, failure, sessions)
                            VALUES ($1, $2, $3, $4, 0, $5, $6) ON CONFLICT DO NOTHING";
            let sessions = bigint(count.sessions);
            let row: [&(dyn tokio_postgres::types::ToSql + Sync); 6] =
                [&day, &domain, &policy.number, &failure.number, &failure.text, &sessions];
            transaction.execute(count_it, &row).await.map_err(failed)?;
        }
        if let Some(state) = &report.report {
            let due = TlsReportState::due(state).map(|due| due.0);
            let keep = "INSERT INTO tls_reports (day, domain, state, due_at) VALUES ($1, $2, $3, $4)
                        ON CONFLICT DO NOTHING";
            transaction.execute(keep, &[&day, &domain, &json(state)?, &due]).await.map_err(failed)?;
        }
        transaction.commit().await.map_err(failed)
    }

    async fn adopt_horizon(&self, complete_since: Timestamp) -> Result<(), SpoolError> {
        let client = self.shared.database.client().await?;
        let keep = "INSERT INTO relay_meta (name, value) VALUES ('pruned_accepted_at', $1)
                    ON CONFLICT (name) DO UPDATE SET value = greatest(relay_meta.value, excluded.value)";
        client.execute(keep, &[&complete_since.0]).await.map(drop).map_err(|error| self.shared.database.failed(error))
    }
}

async fn is_there(shared: &SharedStore, message: &LedgerMessage) -> Result<bool, SpoolError> {
    let client = shared.database.client().await?;
    let known = client.query_opt("SELECT 1 FROM messages WHERE id = $1", &[&number(message.id)]).await;
    Ok(known.map_err(|error| shared.database.failed(error))?.is_some())
}

/// Reads content to its end, where its checksum is known; what is long is in rows by then.
async fn received(
    shared: &Arc<SharedStore>,
    message: &LedgerMessage,
    mut content: Box<dyn BodyReader>,
) -> Result<ReceivedContent, SpoolError> {
    let client = shared.database.client().await?;
    // What an earlier run has left of it.
    let clear = "WITH draft AS (DELETE FROM drafts WHERE message = $1) DELETE FROM content WHERE message = $1";
    client.execute(clear, &[&number(message.id)]).await.map_err(|error| shared.database.failed(error))?;
    drop(client);
    let mut writer = RowWriter::new(Arc::clone(shared), message.id);
    while let Some(piece) = content.next().await? {
        writer.write(&piece).await?;
    }
    Ok(writer.finish())
}

/// A message as rows.
struct CarriedRows<'a> {
    message: &'a LedgerMessage,
    envelope: String,
    reported: String,
    numbers: Vec<i32>,
    addresses: Vec<String>,
    states: Vec<String>,
    told: Vec<Option<i64>>,
    hashes: Vec<i64>,
    nth_events: Vec<i32>,
    moments: Vec<i64>,
    events: Vec<String>,
}

impl<'a> CarriedRows<'a> {
    fn new(carried: &'a CarriedMessage) -> Result<Self, SpoolError> {
        let CarriedMessage { message, history } = carried;
        let mut rows = Self {
            message,
            envelope: json(&message.envelope)?,
            reported: json(&message.reported)?,
            numbers: Vec::new(),
            addresses: Vec::new(),
            states: Vec::new(),
            told: Vec::new(),
            hashes: names(&message.envelope, message.message_id.as_deref()).map(|name| lookup_hash(&name)).collect(),
            nth_events: (1..).take(history.len()).collect(),
            moments: history.iter().map(|(at, _)| at.0).collect(),
            events: history.iter().map(|(_, event)| event.to_json()).collect(),
        };
        for (nth, (address, known)) in (0..).zip(message.envelope.recipients.iter().zip(&message.recipients)) {
            // One that is missing waits, which errs towards a duplicate.
            let state = known.as_ref().map_or(&RecipientState::NEW, |known| &known.state);
            rows.numbers.push(nth);
            rows.addresses.push(address.to_string());
            rows.states.push(json(state)?);
            rows.told.push(known.as_ref().and_then(|known| known.told).map(|told| match told {
                ToldBy::Report(id) => number(id),
                ToldBy::Nobody(because) => told_number(because),
            }));
        }
        Ok(rows)
    }

    /// False when the message is there already.
    async fn insert(
        &self,
        transaction: &Transaction<'_>,
        shared: &SharedStore,
        content: Option<&ReceivedContent>,
    ) -> Result<bool, Error> {
        let (id, message) = (number(self.message.id), self.message);
        let clock = shared.clock();
        let crc = content.map_or(0, |content| i64::from(content.crc.clone().finalize()));
        let accepted_at = message.envelope.accepted_at.0;
        let due_at = message.due_at.0.saturating_sub(clock.ahead_ms);
        let attempts = i32::try_from(message.attempts).unwrap_or(i32::MAX);
        let (held, finished_at) = (message.standing == MessageState::Held, message.finished_at.map(|at| at.0));
        let size = bigint(message.size);
        let row: [&(dyn tokio_postgres::types::ToSql + Sync); 12] = [
            &id,
            &message.message_id,
            &self.envelope,
            &size,
            &crc,
            &accepted_at,
            &due_at,
            &clock.slot,
            &attempts,
            &held,
            &finished_at,
            &self.reported,
        ];
        let statement = transaction.prepare_cached(MESSAGE).await?;
        if transaction.execute(&statement, &row).await? == 0 {
            return Ok(false);
        }
        let statement = transaction.prepare_cached(RECIPIENTS).await?;
        transaction.execute(&statement, &[&id, &self.numbers, &self.addresses, &self.states, &self.told]).await?;
        let statement = transaction.prepare_cached(LOOKUPS).await?;
        transaction.execute(&statement, &[&id, &accepted_at, &self.hashes]).await?;
        let statement = transaction.prepare_cached(HISTORY).await?;
        transaction.execute(&statement, &[&id, &self.nth_events, &self.moments, &self.events]).await?;
        if let Some(content) = content {
            let first = content.draft.as_ref().map_or(0, |draft| draft.rows);
            let rows = rows_of(&content.memory);
            let numbers: Vec<i32> = (first..).take(rows.len()).collect();
            let rows: Vec<Vec<u8>> = rows.iter().map(|row| row.to_vec()).collect();
            let statement = transaction.prepare_cached(CONTENT).await?;
            transaction.execute(&statement, &[&id, &numbers, &rows]).await?;
            transaction.execute("DELETE FROM drafts WHERE message = $1", &[&id]).await?;
        }
        Ok(true)
    }
}
