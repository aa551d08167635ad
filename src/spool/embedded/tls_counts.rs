//! The tables of the reports on TLS: counting in the transaction of the settlement, reading, pruning.
//!
//! A domain has a bounded share of a day: beyond it, what is new is counted in the rows that stand for others
//! ([`AppliedPolicy::other`], [`SessionFailure::other`]). After damage to the database what was counted is gone, as is
//! the history.

use super::jobs::TlsReportUpdate;
use super::reader::StateReader;
use super::schema::unsigned;
use super::state::State;
use crate::clock::Timestamp;
use crate::spool::ledger::LedgerError;
use crate::spool::stored::{first_day_kept, text_number};
use crate::spool::tls_session::{
    AppliedPolicy, DueTlsReport, DueTlsReports, MOST_FAILURES, MOST_POLICIES, ReportDay, SessionFailure, TlsCount,
    TlsReportId, TlsReportRow, TlsSession,
};
use rusqlite::{Row, params};
use serde::Serialize;

/// A row of `tls_sessions`, as its key.
struct SessionKey<'a> {
    day: i64,
    domain: &'a str,
    policy: i64,
    failure: String,
}

impl State {
    /// Counts tries to speak TLS that ended at a moment.
    pub(super) fn count_sessions(&self, at: Timestamp, sessions: &[TlsSession]) -> rusqlite::Result<()> {
        let day = ReportDay::of(at).0;
        sessions.iter().try_for_each(|session| self.count_session(day, session))
    }

    fn count_session(&self, day: i64, session: &TlsSession) -> rusqlite::Result<()> {
        let domain = session.domain.as_str();
        let policy = numbered(&session.policy)?;
        let failure = session.failure.as_ref().map(json).transpose()?.unwrap_or_default();
        let key = SessionKey { day, domain, policy: policy.0, failure };
        if self.count_again(&key)? {
            return Ok(());
        }
        let policy = self.name_policy(&key, policy.1, &session.policy)?;
        let failure = match &session.failure {
            Some(failure) if self.failures(day, domain)? >= MOST_FAILURES => json(&failure.other())?,
            Some(_) | None => key.failure,
        };
        let key = SessionKey { policy, failure, ..key };
        if !self.count_again(&key)? {
            self.connection
                .prepare_cached(
                    "INSERT INTO tls_sessions (day, domain, policy, failure, sessions) VALUES (?1, ?2, ?3, ?4, 1)",
                )?
                .execute(params![key.day, key.domain, key.policy, key.failure])?;
        }
        Ok(())
    }

    /// False when nothing like it was counted that day.
    fn count_again(&self, key: &SessionKey<'_>) -> rusqlite::Result<bool> {
        let mut update = self.connection.prepare_cached(
            "UPDATE tls_sessions SET sessions = sessions + 1 \
             WHERE day = ?1 AND domain = ?2 AND policy = ?3 AND failure = ?4",
        )?;
        Ok(update.execute(params![key.day, key.domain, key.policy, key.failure])? > 0)
    }

    /// The number under which a policy is kept: its own, or that of the others.
    fn name_policy(&self, key: &SessionKey<'_>, text: String, policy: &AppliedPolicy) -> rusqlite::Result<i64> {
        let known = "SELECT 1 FROM tls_policies WHERE day = ?1 AND domain = ?2 AND number = ?3";
        if self.connection.prepare_cached(known)?.exists(params![key.day, key.domain, key.policy])? {
            return Ok(key.policy);
        }
        let count = "SELECT count(*) FROM tls_policies WHERE day = ?1 AND domain = ?2";
        let policies: i64 =
            self.connection.prepare_cached(count)?.query_row(params![key.day, key.domain], |row| row.get(0))?;
        let is_one_too_many = usize::try_from(policies).unwrap_or(usize::MAX) >= MOST_POLICIES;
        let (number, text) = if is_one_too_many { numbered(&policy.other(key.domain))? } else { (key.policy, text) };
        self.connection
            .prepare_cached("INSERT OR IGNORE INTO tls_policies (day, domain, number, policy) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![key.day, key.domain, number, text])?;
        Ok(number)
    }

    fn failures(&self, day: i64, domain: &str) -> rusqlite::Result<usize> {
        let count = "SELECT count(*) FROM tls_sessions WHERE day = ?1 AND domain = ?2 AND failure <> ''";
        let failures: i64 = self.connection.prepare_cached(count)?.query_row(params![day, domain], |row| row.get(0))?;
        Ok(usize::try_from(failures).unwrap_or(usize::MAX))
    }

    /// Keeps what has become of a report.
    pub(super) fn keep_tls_report(&self, update: &TlsReportUpdate) -> rusqlite::Result<()> {
        let TlsReportUpdate { id, state, due } = update;
        self.connection
            .prepare_cached("INSERT OR REPLACE INTO tls_reports (day, domain, state, due_at) VALUES (?1, ?2, ?3, ?4)")?
            .execute(params![id.day.0, id.domain, state, due.map(|due| due.0)])?;
        Ok(())
    }

    /// Removes up to `most` rows of each table about days before `before`. Gives how many it were.
    pub(super) fn prune_sessions(&self, before: Timestamp, now: Timestamp, most: u32) -> rusqlite::Result<usize> {
        let day = first_day_kept(before, now).0;
        let mut removed = 0;
        for delete in [
            "DELETE FROM tls_sessions WHERE (day, domain, policy, failure) IN \
             (SELECT day, domain, policy, failure FROM tls_sessions WHERE day < ?1 LIMIT ?2)",
            "DELETE FROM tls_policies WHERE (day, domain, number) IN \
             (SELECT day, domain, number FROM tls_policies WHERE day < ?1 LIMIT ?2)",
            "DELETE FROM tls_reports WHERE (day, domain) IN \
             (SELECT day, domain FROM tls_reports WHERE day < ?1 LIMIT ?2)",
        ] {
            removed += self.connection.prepare_cached(delete)?.execute(params![day, most])?;
        }
        Ok(removed)
    }
}

impl StateReader {
    /// The domains of some days, the newest day first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tls_reports(&self, from: ReportDay, to: ReportDay, most: usize) -> Result<Vec<TlsReportRow>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT s.day, s.domain, sum(iif(s.failure = '', s.sessions, 0)), \
             sum(iif(s.failure = '', 0, s.sessions)), r.state \
             FROM tls_sessions s LEFT JOIN tls_reports r ON r.day = s.day AND r.domain = s.domain \
             WHERE s.day BETWEEN ?1 AND ?2 GROUP BY s.day, s.domain ORDER BY s.day DESC, s.domain LIMIT ?3",
        )?;
        let rows = select.query_map(params![from.0, to.0, limit(most)], |row| {
            let (succeeded, failed) = (unsigned(row.get(2)?), unsigned(row.get(3)?));
            Ok(TlsReportRow { id: id_of(row)?, succeeded, failed, report: state_of(row, 4)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// What was counted for a report. A row that cannot be understood is left out.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tls_counts(&self, report: &TlsReportId) -> Result<Vec<TlsCount>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT p.policy, s.failure, s.sessions FROM tls_sessions s \
             JOIN tls_policies p ON p.day = s.day AND p.domain = s.domain AND p.number = s.policy \
             WHERE s.day = ?1 AND s.domain = ?2 ORDER BY s.policy, s.failure",
        )?;
        let mut rows = select.query(params![report.day.0, report.domain])?;
        let mut counts = Vec::new();
        while let Some(row) = rows.next()? {
            let (policy, failure): (String, String) = (row.get(0)?, row.get(1)?);
            let sessions = unsigned(row.get(2)?);
            let failure =
                if failure.is_empty() { Ok(None) } else { serde_json::from_str::<SessionFailure>(&failure).map(Some) };
            if let (Ok(policy), Ok(failure)) = (serde_json::from_str(&policy), failure) {
                counts.push(TlsCount { policy, failure, sessions });
            }
        }
        Ok(counts)
    }

    /// Reports that are due, the oldest day first.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn tls_reports_due(&self, due: &DueTlsReports) -> Result<Vec<DueTlsReport>, LedgerError> {
        let mut select = self.connection.prepare_cached(
            "SELECT DISTINCT s.day, s.domain, r.state \
             FROM tls_sessions s LEFT JOIN tls_reports r ON r.day = s.day AND r.domain = s.domain \
             WHERE s.day >= ?1 AND s.day < ?2 AND (r.day IS NULL OR r.due_at <= ?3) \
             ORDER BY s.day, s.domain LIMIT ?4",
        )?;
        let rows = select.query_map(params![due.from.0, due.before.0, due.now.0, limit(due.most)], |row| {
            Ok(DueTlsReport { id: id_of(row)?, state: state_of(row, 2)? })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }
}

fn id_of(row: &Row<'_>) -> rusqlite::Result<TlsReportId> {
    Ok(TlsReportId { day: ReportDay(row.get(0)?), domain: row.get(1)? })
}

/// One that cannot be understood is as none: the report is made again, under its own name.
fn state_of<T: serde::de::DeserializeOwned>(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<T>> {
    let text = row.get::<_, Option<String>>(column)?;
    Ok(text.and_then(|text| serde_json::from_str(&text).ok()))
}

fn limit(most: usize) -> i64 {
    i64::try_from(most).unwrap_or(i64::MAX)
}

fn json(value: &impl Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|e| rusqlite::Error::ToSqlConversionFailure(Box::new(e)))
}

/// A policy as JSON, and a number that follows from it.
fn numbered(policy: &AppliedPolicy) -> rusqlite::Result<(i64, String)> {
    let text = json(policy)?;
    Ok((text_number(&text), text))
}
