//! What is counted for the reports on TLS, in the transaction of the settlement (RFC 8460 §4).
//!
//! A domain has a bounded share of a day: beyond it, what is new is counted in the rows that stand for others. Nodes
//! that find something new at the same moment may go over it by as many rows.
//!
//! A transaction keeps the rows that it changes to itself until its commit is on the disk. So each count is in several
//! rows, of which a settlement takes one by chance, and whoever reads adds them up: mail to one domain does not wait
//! for other mail to it. All change rows in the order of their keys, so that no two wait for each other.

use super::rows::json;
use crate::clock::{ReportDay, Timestamp};
use crate::spool::SpoolError;
use crate::spool::stored::text_number;
use crate::spool::tls_session::{MOST_FAILURES, MOST_POLICIES, SessionFailure, TlsSession};
use deadpool_postgres::Transaction;
use std::collections::{BTreeMap, BTreeSet};
use tokio_postgres::{Error, Row};

/// Rows over which one count is spread.
const SHARDS: i64 = 16;

/// JSON, and the number that stands for it in keys: an index takes no text of any length.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct NumberedJson {
    pub(super) number: i64,
    pub(super) text: String,
}

impl NumberedJson {
    pub(super) fn new(value: &impl serde::Serialize) -> Result<Self, SpoolError> {
        let text = json(value)?;
        Ok(Self { number: text_number(&text), text })
    }

    /// Nothing for a try that succeeded.
    pub(super) fn failure(failure: Option<&SessionFailure>) -> Result<Self, SpoolError> {
        failure.map_or_else(|| Ok(Self::default()), Self::new)
    }
}

/// A try to speak TLS, as it is counted: under its own policy and failure, or as one of the others.
#[derive(Debug)]
pub(super) struct CountableSession {
    day: i64,
    domain: String,
    policy: NumberedJson,
    other_policy: NumberedJson,
    failure: NumberedJson,
    other_failure: NumberedJson,
}

impl CountableSession {
    /// Tries that ended at a moment.
    pub(super) fn all(at: Timestamp, sessions: &[TlsSession]) -> Result<Vec<Self>, SpoolError> {
        let countable = |session: &TlsSession| {
            Ok(Self {
                day: ReportDay::of(at).0,
                domain: session.domain.clone(),
                policy: NumberedJson::new(&session.policy)?,
                other_policy: NumberedJson::new(&session.policy.other(&session.domain))?,
                failure: NumberedJson::failure(session.failure.as_ref())?,
                other_failure: NumberedJson::failure(session.failure.as_ref().map(SessionFailure::other).as_ref())?,
            })
        };
        sessions.iter().map(countable).collect()
    }
}

/// A row of `tls_policies`, as its key; without the number, the share of a domain in a day.
type PolicyKey<'a> = (i64, &'a str, i64);

/// What was counted for a domain in a day.
#[derive(Debug, Default)]
struct DomainShare {
    policies: BTreeSet<i64>,
    /// By policy and failure.
    failures: BTreeSet<(i64, i64)>,
}

impl DomainShare {
    /// The policy and the failure under which a try is counted, which are known from then on.
    fn place<'a>(&mut self, session: &'a CountableSession) -> [&'a NumberedJson; 2] {
        let is_known = self.policies.contains(&session.policy.number);
        let has_room = is_known || self.policies.len() < MOST_POLICIES;
        let policy = if has_room { &session.policy } else { &session.other_policy };
        self.policies.insert(policy.number);
        if session.failure.text.is_empty() {
            return [policy, &session.failure];
        }
        let is_known = self.failures.contains(&(policy.number, session.failure.number));
        let has_room = is_known || self.failures.len() < MOST_FAILURES;
        let failure = if has_room { &session.failure } else { &session.other_failure };
        self.failures.insert((policy.number, failure.number));
        [policy, failure]
    }
}

/// The rows that a transaction changes, in the order of their keys.
#[derive(Debug, Default)]
struct CountedRows<'a> {
    /// New policies.
    policies: BTreeMap<PolicyKey<'a>, &'a str>,
    /// By policy and failure: the failure, and how many tries.
    sessions: BTreeMap<(PolicyKey<'a>, i64), (&'a str, i64)>,
}

impl<'a> CountedRows<'a> {
    fn add(&mut self, session: &'a CountableSession, [policy, failure]: [&'a NumberedJson; 2]) {
        let key = ((session.day, session.domain.as_str(), policy.number), failure.number);
        self.sessions.entry(key).or_insert((&failure.text, 0)).1 += 1;
    }
}

/// Counts tries; `chance` is any number.
pub(super) async fn count(
    transaction: &Transaction<'_>,
    sessions: &[&CountableSession],
    chance: i64,
) -> Result<(), Error> {
    if sessions.is_empty() {
        return Ok(());
    }
    let known = known(transaction, sessions).await?;
    let is_known = |nth: &usize| known.contains(nth);
    let new: BTreeSet<(i64, &str)> = sessions
        .iter()
        .enumerate()
        .filter(|(nth, _)| !is_known(nth))
        .map(|(_, session)| (session.day, session.domain.as_str()))
        .collect();
    let mut shares = shares(transaction, &new).await?;
    let mut rows = CountedRows::default();
    for (nth, session) in sessions.iter().enumerate() {
        if is_known(&nth) {
            rows.add(session, [&session.policy, &session.failure]);
            continue;
        }
        let share = shares.entry((session.day, session.domain.clone())).or_default();
        let [policy, failure] = share.place(session);
        rows.policies.insert((session.day, &session.domain, policy.number), &policy.text);
        rows.add(session, [policy, failure]);
    }
    write_policies(transaction, &rows).await?;
    write_sessions(transaction, &rows, chance.rem_euclid(SHARDS)).await
}

/// The places of those tries whose like was counted before.
async fn known(transaction: &Transaction<'_>, sessions: &[&CountableSession]) -> Result<BTreeSet<usize>, Error> {
    let select = "SELECT k.nth FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[])
            WITH ORDINALITY AS k (day, domain, policy, failure, nth)
        WHERE EXISTS (SELECT 1 FROM tls_sessions s WHERE s.day = k.day AND s.domain = k.domain
            AND s.policy = k.policy AND s.failure_number = k.failure)";
    let select = transaction.prepare_cached(select).await?;
    let days: Vec<i64> = sessions.iter().map(|session| session.day).collect();
    let domains: Vec<&str> = sessions.iter().map(|session| session.domain.as_str()).collect();
    let policies: Vec<i64> = sessions.iter().map(|session| session.policy.number).collect();
    let failures: Vec<i64> = sessions.iter().map(|session| session.failure.number).collect();
    let rows = transaction.query(&select, &[&days, &domains, &policies, &failures]).await?;
    Ok(rows.iter().filter_map(|row| usize::try_from(row.get::<_, i64>(0)).ok()?.checked_sub(1)).collect())
}

/// What was counted for some domains.
async fn shares(
    transaction: &Transaction<'_>,
    domains: &BTreeSet<(i64, &str)>,
) -> Result<BTreeMap<(i64, String), DomainShare>, Error> {
    let mut shares: BTreeMap<(i64, String), DomainShare> = BTreeMap::new();
    if domains.is_empty() {
        return Ok(shares);
    }
    let (days, domains): (Vec<i64>, Vec<&str>) = domains.iter().copied().unzip();
    let policies = "SELECT p.day, p.domain, p.number FROM tls_policies p
        JOIN unnest($1::bigint[], $2::text[]) AS d (day, domain) ON p.day = d.day AND p.domain = d.domain";
    let failures = "SELECT DISTINCT s.day, s.domain, s.policy, s.failure_number FROM tls_sessions s
        JOIN unnest($1::bigint[], $2::text[]) AS d (day, domain) ON s.day = d.day AND s.domain = d.domain
        WHERE s.failure <> ''";
    let key = |row: &Row| (row.get(0), row.get(1));
    let policies = transaction.prepare_cached(policies).await?;
    for row in transaction.query(&policies, &[&days, &domains]).await? {
        shares.entry(key(&row)).or_default().policies.insert(row.get(2));
    }
    let failures = transaction.prepare_cached(failures).await?;
    for row in transaction.query(&failures, &[&days, &domains]).await? {
        shares.entry(key(&row)).or_default().failures.insert((row.get(2), row.get(3)));
    }
    Ok(shares)
}

async fn write_policies(transaction: &Transaction<'_>, rows: &CountedRows<'_>) -> Result<(), Error> {
    if rows.policies.is_empty() {
        return Ok(());
    }
    let insert = "INSERT INTO tls_policies (day, domain, number, policy)
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::text[]) ON CONFLICT DO NOTHING";
    let insert = transaction.prepare_cached(insert).await?;
    let days: Vec<i64> = rows.policies.keys().map(|key| key.0).collect();
    let domains: Vec<&str> = rows.policies.keys().map(|key| key.1).collect();
    let numbers: Vec<i64> = rows.policies.keys().map(|key| key.2).collect();
    let policies: Vec<&str> = rows.policies.values().copied().collect();
    transaction.execute(&insert, &[&days, &domains, &numbers, &policies]).await.map(drop)
}

async fn write_sessions(transaction: &Transaction<'_>, rows: &CountedRows<'_>, shard: i64) -> Result<(), Error> {
    let count = "INSERT INTO tls_sessions (day, domain, policy, failure_number, shard, failure, sessions)
        SELECT day, domain, policy, number, $7::bigint, failure, sessions
        FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::text[], $6::bigint[])
          AS new (day, domain, policy, number, failure, sessions)
        ON CONFLICT (day, domain, policy, failure_number, shard)
          DO UPDATE SET sessions = tls_sessions.sessions + excluded.sessions";
    let count = transaction.prepare_cached(count).await?;
    let days: Vec<i64> = rows.sessions.keys().map(|(key, _)| key.0).collect();
    let domains: Vec<&str> = rows.sessions.keys().map(|(key, _)| key.1).collect();
    let policies: Vec<i64> = rows.sessions.keys().map(|(key, _)| key.2).collect();
    let numbers: Vec<i64> = rows.sessions.keys().map(|(_, number)| *number).collect();
    let failures: Vec<&str> = rows.sessions.values().map(|(failure, _)| *failure).collect();
    let sessions: Vec<i64> = rows.sessions.values().map(|(_, sessions)| *sessions).collect();
    let parameters: [&(dyn tokio_postgres::types::ToSql + Sync); 7] =
        [&days, &domains, &policies, &numbers, &failures, &sessions, &shard];
    transaction.execute(&count, &parameters).await.map(drop)
}
