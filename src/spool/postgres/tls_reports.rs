//! The reports on TLS: who makes one, what has become of it, and what it is made of (RFC 8460 §4, §5).
//!
//! Every node looks for reports that are due. Whoever makes one holds its row in `tls_reports` for as long as that may
//! take, by the clock of the database; of a node that dies in the middle the report passes to another. What is done
//! with stays as it is, whoever comes late.

use super::numbers::{number, unsigned};
use super::reader;
use super::rows::{NewContent, NewMessageRow, insert, json};
use super::shared::SharedStore;
use super::store::Database;
use crate::clock::{ReportDay, Timestamp};
use crate::envelope::QueueId;
use crate::spool::ledger::LedgerError;
use crate::spool::schedule::mix;
use crate::spool::stored::{REPORT_IDS, digest_octets, first_day_kept};
use crate::spool::tls_session::{
    DueTlsReport, DueTlsReports, SessionFailure, TlsCount, TlsReportId, TlsReportRow, TlsReportState,
};
use crate::spool::{Report, SpoolError};
use deadpool_postgres::Transaction;
use tokio_postgres::{Client, Error, Row};

/// For how long one node makes a report: longer than all servers that it may be posted to are waited for.
const MAKING_SECONDS: f64 = 900.0;
/// Rows that are removed at once.
const MOST_REMOVED: i64 = 5000;
/// Held by the node that prunes.
const LOCK: i64 = 0x5245_4c41_5950_5232;

/// Makes this node the one that makes a report that is still as it was found. False when another one is, or was.
pub(super) async fn claim(shared: &SharedStore, due: &DueTlsReport) -> Result<bool, SpoolError> {
    let known_due = due.state.as_ref().and_then(TlsReportState::due).map(|due| due.0);
    let claim = "INSERT INTO tls_reports (day, domain, holder, lease_until)
        VALUES ($1, $2, $3, clock_timestamp() + $4 * interval '1 second')
        ON CONFLICT (day, domain) DO UPDATE SET holder = excluded.holder, lease_until = excluded.lease_until
        WHERE (tls_reports.holder IS NULL OR tls_reports.holder = $3 OR tls_reports.lease_until < clock_timestamp())
          AND tls_reports.due_at IS NOT DISTINCT FROM $5
          AND (tls_reports.state IS NULL OR tls_reports.due_at IS NOT NULL)";
    let client = shared.database.client().await?;
    let TlsReportId { day, domain } = &due.id;
    let claimed = client.execute(claim, &[&day.0, domain, &shared.node.slot, &MAKING_SECONDS, &known_due]).await;
    Ok(claimed.map_err(|error| shared.database.failed(error))? == 1)
}

/// Gives back what a node was making.
pub(super) async fn give_up_all(client: &Client, slot: i16) -> Result<(), Error> {
    let give_up = "UPDATE tls_reports SET holder = NULL, lease_until = NULL WHERE holder = $1";
    client.execute(give_up, &[&slot]).await.map(drop)
}

/// Keeps what has become of a report, and puts its mails into the queue that are not there.
pub(super) async fn record(
    shared: &SharedStore,
    report: &TlsReportId,
    state: &TlsReportState,
    mails: Vec<Report>,
) -> Result<(), SpoolError> {
    let failed = |error| shared.database.failed(error);
    let mails = (0..).zip(mails).map(|(place, mail)| new_mail(report, place, mail)).collect::<Result<Vec<_>, _>>()?;
    let mut client = shared.database.client().await?;
    let transaction = client.transaction().await.map_err(failed)?;
    let kept =
        TlsReportEntry { report, state: json(state)?, due: state.due().map(|due| due.0), slot: shared.node.slot };
    if !kept.keep(&transaction).await.map_err(failed)? {
        return Err(SpoolError::Fenced);
    }
    // The row of the report is this transaction's: no other puts the same mails there meanwhile.
    let ids: Vec<i64> = mails.iter().map(|mail| number(mail.id)).collect();
    let there = "SELECT id FROM messages WHERE id = ANY($1)";
    let there: Vec<i64> = transaction.query(there, &[&ids]).await.map_err(failed)?.iter().map(|r| r.get(0)).collect();
    let new: Vec<&NewMessageRow> = mails.iter().filter(|mail| !there.contains(&number(mail.id))).collect();
    if !new.is_empty() {
        insert(&transaction, shared.clock(), &new).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    shared.database.wrote();
    if !new.is_empty() {
        shared.counts.came(new.len(), shared.latest_time());
        shared.something_changed();
    }
    Ok(())
}

/// A row of `tls_reports`, as it is to be.
struct TlsReportEntry<'a> {
    report: &'a TlsReportId,
    state: String,
    due: Option<i64>,
    slot: i16,
}

impl TlsReportEntry<'_> {
    /// False when the report is done with, or another node has it.
    async fn keep(&self, transaction: &Transaction<'_>) -> Result<bool, Error> {
        let keep = "INSERT INTO tls_reports (day, domain, state, due_at) VALUES ($1, $2, $3, $4)
            ON CONFLICT (day, domain) DO UPDATE
            SET state = excluded.state, due_at = excluded.due_at, holder = NULL, lease_until = NULL
            WHERE (tls_reports.state IS NULL OR tls_reports.due_at IS NOT NULL)
              AND (tls_reports.holder IS NULL OR tls_reports.holder = $5)";
        let TlsReportId { day, domain } = self.report;
        let kept = transaction.execute(keep, &[&day.0, domain, &self.state, &self.due, &self.slot]).await?;
        Ok(kept == 1)
    }
}

/// A mail under an id that follows from report, place and recipients.
fn new_mail(report: &TlsReportId, place: u64, mail: Report) -> Result<NewMessageRow, SpoolError> {
    let Report { envelope, content } = mail;
    let mut seed = digest_octets(mix(report.day.0.cast_unsigned()), report.domain.as_bytes());
    seed = mix(seed ^ mix(place));
    for recipient in &envelope.recipients {
        seed = digest_octets(seed, recipient.as_str().as_bytes());
    }
    let id = QueueId((seed & (REPORT_IDS - 1)) | REPORT_IDS);
    NewMessageRow::new(id, envelope, NewContent::whole(&content))
}

/// Removes what is about days that are over for long, a piece at a time, and gives how many rows it were.
pub(super) async fn prune(database: &Database, before: Timestamp, now: Timestamp) -> Result<u64, SpoolError> {
    let mut client = database.client().await?;
    let failed = |error| database.failed(error);
    let transaction = client.transaction().await.map_err(failed)?;
    let alone = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    if !alone.get::<_, bool>(0) {
        return Ok(0);
    }
    let day = first_day_kept(before, now).0;
    let mut removed = 0;
    for table in ["tls_sessions", "tls_policies", "tls_reports"] {
        let delete = format!(
            "DELETE FROM {table} WHERE ctid = ANY (ARRAY(SELECT ctid FROM {table} WHERE day < $1 LIMIT {MOST_REMOVED}))"
        );
        removed += transaction.execute(&delete, &[&day]).await.map_err(failed)?;
    }
    transaction.commit().await.map_err(failed)?;
    Ok(removed)
}

/// The domains of some days, the newest day first.
pub(super) async fn list(
    client: &Client,
    from: ReportDay,
    to: ReportDay,
    most: usize,
) -> Result<Vec<TlsReportRow>, LedgerError> {
    let select = "SELECT s.day, s.domain, min(r.state),
               coalesce(sum(s.sessions) FILTER (WHERE s.failure = ''), 0)::bigint,
               coalesce(sum(s.sessions) FILTER (WHERE s.failure <> ''), 0)::bigint
        FROM tls_sessions s LEFT JOIN tls_reports r ON r.day = s.day AND r.domain = s.domain
        WHERE s.day BETWEEN $1 AND $2 GROUP BY s.day, s.domain ORDER BY s.day DESC, s.domain LIMIT $3";
    let rows = client.query(select, &[&from.0, &to.0, &limit(most)]).await.map_err(reader::failed)?;
    let row = |row: &Row| {
        let (succeeded, failed) = (unsigned(row.get(3)), unsigned(row.get(4)));
        TlsReportRow { id: id_of(row), succeeded, failed, report: state_of(row) }
    };
    Ok(rows.iter().map(row).collect())
}

/// What was counted for a report. A row that cannot be understood is left out.
pub(super) async fn counts(client: &Client, report: &TlsReportId) -> Result<Vec<TlsCount>, LedgerError> {
    let select = "SELECT p.policy, min(s.failure), sum(s.sessions)::bigint FROM tls_sessions s
        JOIN tls_policies p ON p.day = s.day AND p.domain = s.domain AND p.number = s.policy
        WHERE s.day = $1 AND s.domain = $2
        GROUP BY p.day, p.domain, p.number, s.failure_number ORDER BY p.number, 2";
    let rows = client.query(select, &[&report.day.0, &report.domain]).await.map_err(reader::failed)?;
    Ok(rows.iter().filter_map(count_of).collect())
}

fn count_of(row: &Row) -> Option<TlsCount> {
    let failure = match row.get(1) {
        "" => None,
        failure => Some(serde_json::from_str::<SessionFailure>(failure).ok()?),
    };
    Some(TlsCount { policy: serde_json::from_str(row.get(0)).ok()?, failure, sessions: unsigned(row.get(2)) })
}

/// Reports that are due, the oldest day first; also those that a node is making.
pub(super) async fn due(client: &Client, due: &DueTlsReports) -> Result<Vec<DueTlsReport>, LedgerError> {
    let select = "SELECT DISTINCT s.day, s.domain, r.state
        FROM tls_sessions s LEFT JOIN tls_reports r ON r.day = s.day AND r.domain = s.domain
        WHERE s.day >= $1 AND s.day < $2 AND (r.state IS NULL OR r.due_at <= $3)
        ORDER BY s.day, s.domain LIMIT $4";
    let rows = client.query(select, &[&due.from.0, &due.before.0, &due.now.0, &limit(due.most)]).await;
    let rows = rows.map_err(reader::failed)?;
    Ok(rows.iter().map(|row| DueTlsReport { id: id_of(row), state: state_of(row) }).collect())
}

fn id_of(row: &Row) -> TlsReportId {
    TlsReportId { day: ReportDay(row.get(0)), domain: row.get(1) }
}

/// One that cannot be understood is as none.
fn state_of(row: &Row) -> Option<TlsReportState> {
    serde_json::from_str(row.get::<_, Option<&str>>(2)?).ok()
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}
