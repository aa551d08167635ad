//! The ledger of this engine: questions on a connection of their own, beside relays that run or without any.

use super::audit::DatabaseAudit;
use super::brief::DatabaseBriefs;
use super::listing::DatabaseListing;
use super::migrations;
use super::numbers::{bigint, number, unsigned};
use super::reader::{cannot, failed, ledger_columns, with_recipients};
use super::store::{Database, STORE};
use super::tls_reports;
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::envelope::QueueId;
use crate::outcome::DeliveryOutcome;
use crate::smtp::address::Domain;
use crate::spool::audit::Depth;
use crate::spool::event::Event;
use crate::spool::incident::Incident;
use crate::spool::ledger::{
    AuditRun, BriefListing, DeliveriesWanted, Ledger, LedgerError, LedgerMessage, Listing, Matches, More, PastDelivery,
    WaitingFrom, WaitingOrder,
};
use crate::spool::stored::{REPORT_IDS, lookup_hash};
use crate::spool::tls_session::{DueTlsReport, DueTlsReports, ReportDay, TlsCount, TlsReportId, TlsReportRow};
use crate::spool::{EngineError, RecipientState, SpoolError};
use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use std::sync::Arc;
use tokio_postgres::Client;

/// Domains that are counted; further ones are not.
const MOST_DESTINATIONS: i64 = 100_000;

/// Messages that are read at once while somebody looks for one.
const PAGE: i64 = 200;

/// The most of a message that is read whole: above the largest `max_message_bytes`.
const MOST_CONTENT: u64 = 1_200_000_000;

/// A database, open for reading.
pub(in crate::spool) struct DatabaseLedger {
    database: Arc<Database>,
    client: Client,
}

impl DatabaseLedger {
    /// Opens the ledger.
    pub(in crate::spool) async fn open(config: &SpoolConfig) -> Result<Self, LedgerError> {
        let database = Arc::new(Database::new(config).map_err(cannot)?);
        let client = database.connect_alone().await.map_err(cannot)?;
        migrations::usable(&client).await.map_err(failed)?.map_err(|why| cannot(SpoolError::Unusable(why)))?;
        Ok(Self { database, client })
    }

    async fn read(&self, rows: &[tokio_postgres::Row]) -> Result<Vec<Result<LedgerMessage, QueueId>>, LedgerError> {
        with_recipients(&self.client, rows).await.map_err(failed)
    }
}

#[async_trait]
impl Ledger for DatabaseLedger {
    async fn message(&self, id: QueueId) -> Result<Option<LedgerMessage>, LedgerError> {
        let select = concat!("SELECT ", ledger_columns!(), " FROM messages m WHERE m.id = $1");
        let rows = self.client.query(select, &[&number(id)]).await.map_err(failed)?;
        self.read(&rows).await?.pop().transpose().map_err(LedgerError::Row)
    }

    async fn page(
        &self,
        after: Option<QueueId>,
        most: usize,
    ) -> Result<Vec<Result<LedgerMessage, QueueId>>, LedgerError> {
        let select = concat!("SELECT ", ledger_columns!(), " FROM messages m WHERE m.id > $1 ORDER BY m.id LIMIT $2");
        let (after, most) = (after.map_or(-1, number), i64::try_from(most).unwrap_or(i64::MAX));
        let rows = self.client.query(select, &[&after, &most]).await.map_err(failed)?;
        self.read(&rows).await
    }

    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, LedgerError> {
        let history = "SELECT at, event FROM history WHERE message = $1 ORDER BY number";
        let rows = self.client.query(history, &[&number(id)]).await.map_err(failed)?;
        Ok(rows.iter().map(|row| (Timestamp(row.get(0)), Event::from_json(row.get(1)))).collect())
    }

    async fn content(&self, id: QueueId) -> Result<Option<Bytes>, LedgerError> {
        let select = "SELECT size, content_crc FROM messages WHERE id = $1 AND finished_at IS NULL";
        let Some(row) = self.client.query_opt(select, &[&number(id)]).await.map_err(failed)? else { return Ok(None) };
        let (size, crc) = (unsigned(row.get(0)), row.get::<_, i64>(1));
        let mut content = BytesMut::new();
        let select = "SELECT octets FROM content WHERE message = $1 AND number = $2";
        for nth in 0_i32.. {
            let Some(row) = self.client.query_opt(select, &[&number(id), &nth]).await.map_err(failed)? else { break };
            content.extend_from_slice(row.get(0));
            if content.len() as u64 > size.min(MOST_CONTENT) {
                break;
            }
        }
        if content.len() as u64 == size && bigint(u64::from(crc32fast::hash(&content))) == crc {
            return Ok(Some(content.freeze()));
        }
        // It may have been finished meanwhile.
        let waits = "SELECT 1 FROM messages WHERE id = $1 AND finished_at IS NULL";
        if self.client.query_opt(waits, &[&number(id)]).await.map_err(failed)?.is_none() {
            return Ok(None);
        }
        let why = "the content does not fit its checksum; `relay audit` says more";
        Err(LedgerError::Engine(EngineError { store: STORE, source: why.into() }))
    }

    async fn find(&self, name: &str, most: usize) -> Result<Matches, LedgerError> {
        let name = name.trim_start_matches('<').trim_end_matches('>');
        let mut found = Matches { messages: Vec::new(), more: More::No, unreadable: Vec::new() };
        let select = concat!(
            "SELECT ",
            ledger_columns!(),
            " FROM lookups l JOIN messages m ON m.id = l.message
             WHERE l.hash = $1 AND (l.accepted_at, l.message) < ($2, $3)
             ORDER BY l.accepted_at DESC, l.message DESC LIMIT $4"
        );
        let mut before = (i64::MAX, i64::MAX);
        loop {
            let rows =
                self.client.query(select, &[&lookup_hash(name), &before.0, &before.1, &PAGE]).await.map_err(failed)?;
            let Some(last) = rows.last() else { return Ok(found) };
            before = (last.get(9), last.get(0));
            for message in self.read(&rows).await? {
                match message {
                    Err(id) => found.unreadable.push(id),
                    // Of the same hash.
                    Ok(message) if !message.is_named(name) => {}
                    Ok(_) if found.messages.len() >= most => {
                        found.more = More::Yes;
                        return Ok(found);
                    }
                    Ok(message) => found.messages.push(message),
                }
            }
        }
    }

    async fn waiting(&self) -> Result<Box<dyn Listing>, LedgerError> {
        let waiting = concat!(
            "SELECT ",
            ledger_columns!(),
            " FROM messages m WHERE m.finished_at IS NULL ORDER BY m.accepted_at, m.id"
        );
        Ok(Box::new(DatabaseListing::open(&self.database, waiting).await?))
    }

    async fn waiting_in_brief(&self) -> Result<Box<dyn BriefListing>, LedgerError> {
        Ok(Box::new(DatabaseBriefs::open(&self.database).await?))
    }

    async fn waiting_from(&self, from: WaitingFrom) -> Result<Box<dyn Listing>, LedgerError> {
        let (than, order) = match from.order {
            WaitingOrder::Oldest => (">", "m.accepted_at, m.id"),
            WaitingOrder::Newest => ("<", "m.accepted_at DESC, m.id DESC"),
        };
        // Numbers of our own, and a cursor takes no parameters.
        let behind = from.after.map_or_else(String::new, |place| {
            format!(" AND (m.accepted_at, m.id) {than} ({}, {})", place.accepted_at.0, number(place.id))
        });
        let select = format!(
            concat!("SELECT ", ledger_columns!(), " FROM messages m WHERE m.finished_at IS NULL{} ORDER BY {}"),
            behind, order
        );
        Ok(Box::new(DatabaseListing::open(&self.database, &select).await?))
    }

    async fn accepted(&self, from: Timestamp, to: Timestamp) -> Result<Box<dyn Listing>, LedgerError> {
        // Numbers of our own, and a cursor takes no parameters.
        let accepted = format!(
            concat!(
                "SELECT ",
                ledger_columns!(),
                " FROM messages m WHERE m.id < {} AND m.accepted_at BETWEEN {} AND {} ORDER BY m.accepted_at, m.id"
            ),
            bigint(REPORT_IDS),
            from.0,
            to.0
        );
        Ok(Box::new(DatabaseListing::open(&self.database, &accepted).await?))
    }

    async fn complete_since(&self) -> Result<Option<Timestamp>, LedgerError> {
        let select = "SELECT value FROM relay_meta WHERE name = 'pruned_accepted_at'";
        let row = self.client.query_opt(select, &[]).await.map_err(failed)?;
        Ok(row.map(|row| Timestamp(row.get(0))))
    }

    async fn incidents(&self, most: usize) -> Result<Vec<Incident>, LedgerError> {
        let most = i64::try_from(most).unwrap_or(i64::MAX);
        let select = "SELECT incident FROM incidents ORDER BY id DESC LIMIT $1";
        let rows = self.client.query(select, &[&most]).await.map_err(failed)?;
        // One that cannot be understood hides no other.
        Ok(rows.iter().filter_map(|row| serde_json::from_str(row.get(0)).ok()).collect())
    }

    async fn tls_reports(&self, from: ReportDay, to: ReportDay, most: usize) -> Result<Vec<TlsReportRow>, LedgerError> {
        tls_reports::list(&self.client, from, to, most).await
    }

    async fn tls_counts(&self, report: &TlsReportId) -> Result<Vec<TlsCount>, LedgerError> {
        tls_reports::counts(&self.client, report).await
    }

    async fn tls_reports_due(&self, due: &DueTlsReports) -> Result<Vec<DueTlsReport>, LedgerError> {
        tls_reports::due(&self.client, due).await
    }

    async fn delivered(&self, wanted: &DeliveriesWanted) -> Result<Vec<PastDelivery>, LedgerError> {
        let DeliveriesWanted { domain, most, among } = wanted;
        let below = if among.is_some() { bigint(REPORT_IDS) } else { i64::MAX };
        let among = among.map(i64::from);
        let select = "SELECT r.message, r.address, r.state, m.accepted_at, r.recipient
                      FROM (SELECT message, recipient, address, state FROM recipients WHERE message < $5
                            ORDER BY message DESC, recipient DESC LIMIT $6) r
                      JOIN messages m ON m.id = r.message
                      WHERE lower(r.address) LIKE '%@' || replace($1, '_', '\\_') AND (r.message, r.recipient) < ($2, $3)
                        AND r.state LIKE '%\"delivered\"%'
                      ORDER BY r.message DESC, r.recipient DESC LIMIT $4";
        let (mut found, mut before) = (Vec::new(), (i64::MAX, i32::MAX));
        while found.len() < *most {
            let name = domain.as_str().to_ascii_lowercase();
            let rows = self
                .client
                .query(select, &[&name, &before.0, &before.1, &PAGE, &below, &among])
                .await
                .map_err(failed)?;
            let Some(last) = rows.last() else { break };
            before = (last.get(0), last.get(4));
            for row in rows {
                let Ok(RecipientState::Done { outcome: DeliveryOutcome::Delivered { peer, tls, .. } }) =
                    serde_json::from_str(row.get(2))
                else {
                    continue;
                };
                let id = QueueId(row.get::<_, i64>(0).cast_unsigned());
                found.push(PastDelivery { id, recipient: row.get(1), accepted_at: Timestamp(row.get(3)), peer, tls });
            }
        }
        found.truncate(*most);
        Ok(found)
    }

    async fn destinations(&self, most: usize) -> Result<Vec<Domain>, LedgerError> {
        let select = "SELECT lower(substring(address FROM '@([^@]*)$')) AS domain, count(*) AS recipients
                      FROM recipients WHERE message < $1 GROUP BY 1 ORDER BY 2 DESC, 1 LIMIT $2";
        let rows = self.client.query(select, &[&bigint(REPORT_IDS), &MOST_DESTINATIONS]).await.map_err(failed)?;
        let domains = rows.iter().filter_map(|row| row.get::<_, Option<&str>>(0)?.parse().ok());
        Ok(domains.take(most).collect())
    }

    async fn audit(&self, depth: Depth) -> Result<Box<dyn AuditRun>, LedgerError> {
        let client = self.database.connect_alone().await.map_err(cannot)?;
        Ok(Box::new(DatabaseAudit::new(client, depth)))
    }
}
