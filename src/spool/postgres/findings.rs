//! What the relays tell each other, in rows that each of them reads once.
//!
//! A reader goes on from the oldest transaction that was under way when it read: what is written and not committed
//! then is read later, and some rows twice, which changes nothing. No lock is held from one statement to the next.

use super::shared::SharedStore;
use super::store::Database;
use crate::clock::Timestamp;
use crate::spool::SpoolError;
use crate::spool::findings::{
    FINDING_NAME_LIMIT, FINDING_VALUE_LIMIT, Finding, FindingMark, FindingOwner, FindingPlace, FindingTopic,
    HeardFinding, HeardFindings,
};
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio_postgres::Row;

/// The first version of the schema that has them.
pub(super) const SCHEMA: i64 = 2;

/// Findings of one statement.
const MOST_TOLD: usize = 500;
/// Read at once.
const MOST_READ: i64 = 200;
/// Removed at once.
const MOST_REMOVED: i64 = 5000;

/// The commit waits for no disk and no standby. An older finding of all takes the place of none that is younger, unless
/// that one is of a time still to come.
const TELL: &str = "INSERT INTO findings AS known (topic, name, owner, at, expires_at, value)
    SELECT topic, name, owner, at, now() + lives_ms * interval '1 millisecond', value
    FROM unnest($1::text[], $2::text[], $3::smallint[], $4::bigint[], $5::bigint[], $6::bytea[])
           AS new (topic, name, owner, at, lives_ms, value),
         (SELECT set_config('synchronous_commit', 'off', true)) AS quick
    ON CONFLICT (topic, name, owner) DO UPDATE SET at = excluded.at, expires_at = excluded.expires_at,
           value = excluded.value, written = excluded.written
       WHERE excluded.at > known.at OR known.at > extract(epoch FROM now()) * 1000";

/// With the oldest transaction under way, also where there is no finding.
const HEAR: &str = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text::bigint, f.topic, f.name, f.owner, f.at,
           (extract(epoch FROM f.expires_at - now()) * 1000)::bigint, f.value, f.written::text::bigint
    FROM (SELECT 1) one LEFT JOIN (SELECT * FROM findings
        WHERE written >= $1::text::xid8 AND (written, topic, name, owner) > ($2::text::xid8, $3, $4, $5::smallint)
          AND (owner <> $6 OR $7) AND expires_at > now()
        ORDER BY written, topic, name, owner LIMIT $8) f ON true
    ORDER BY f.written, f.topic, f.name, f.owner";

/// Tells the others. What is too long for it is left out.
pub(super) async fn tell(shared: &SharedStore, findings: &[Finding]) -> Result<(), SpoolError> {
    if shared.schema() < SCHEMA {
        return Ok(());
    }
    let fits = |finding: &&Finding| {
        finding.name.len() <= FINDING_NAME_LIMIT && finding.value.len() <= FINDING_VALUE_LIMIT && has_text(finding)
    };
    let findings: Vec<&Finding> = findings.iter().filter(fits).collect();
    for some in findings.chunks(MOST_TOLD) {
        tell_some(shared, some).await?;
    }
    Ok(())
}

/// The database takes no NUL in a text.
fn has_text(finding: &Finding) -> bool {
    !finding.name.contains('\0')
}

async fn tell_some(shared: &SharedStore, findings: &[&Finding]) -> Result<(), SpoolError> {
    let (clock, own) = (shared.clock(), shared.node.slot);
    let topics: Vec<&str> = findings.iter().map(|one| one.topic.name()).collect();
    let names: Vec<&str> = findings.iter().map(|one| one.name.as_str()).collect();
    let owners: Vec<i16> = findings.iter().map(|one| if one.topic.is_of_each() { own } else { 0 }).collect();
    let at: Vec<i64> = findings.iter().map(|one| clock.by_database(one.at)).collect();
    let lives: Vec<i64> = findings.iter().map(|one| i64::try_from(one.lives.as_millis()).unwrap_or(i64::MAX)).collect();
    let lives: Vec<i64> = lives.into_iter().map(|ms| ms.min(LONGEST_LIFE_MS)).collect();
    let values: Vec<&[u8]> = findings.iter().map(|one| one.value.as_slice()).collect();
    let client = shared.database.client().await?;
    let failed = |error| shared.database.failed(error);
    let tell = client.prepare_cached(TELL).await.map_err(failed)?;
    client.execute(&tell, &[&topics, &names, &owners, &at, &lives, &values]).await.map(drop).map_err(failed)
}

/// A year and a day is the longest life of a policy (RFC 8461 §3.2).
const LONGEST_LIFE_MS: i64 = 366 * 86_400_000;

/// What is new since, a piece at a time; nothing where the schema has no findings yet.
pub(super) async fn hear(shared: &SharedStore, since: FindingMark) -> Result<Option<HeardFindings>, SpoolError> {
    if shared.schema() < SCHEMA {
        return Ok(None);
    }
    let outage = shared.outages.load(Ordering::SeqCst);
    let since = if since.outage == outage { since } else { FindingMark { outage, ..FindingMark::default() } };
    let (from, first) = (since.from.unwrap_or(0).to_string(), since.from.is_none());
    let start = FindingPlace { written: 0, topic: String::new(), name: String::new(), owner: 0 };
    let FindingPlace { written, topic, name, owner } = since.after.clone().unwrap_or(start);
    let client = shared.database.client().await?;
    let failed = |error| shared.database.failed(error);
    let hear = client.prepare_cached(HEAR).await.map_err(failed)?;
    let (written, own) = (written.to_string(), shared.node.slot);
    let rows = client
        .query(&hear, &[&from, &written, &topic, &name, &owner, &own, &first, &MOST_READ])
        .await
        .map_err(failed)?;
    Ok(Some(heard(shared, &rows, since)))
}

fn heard(shared: &SharedStore, rows: &[Row], since: FindingMark) -> HeardFindings {
    let findings = rows.iter().filter_map(|row| finding(shared, row)).collect();
    let oldest = rows.first().map_or(0, |row| row.get(0));
    let next = since.next.unwrap_or(oldest);
    let is_full = i64::try_from(rows.len()).is_ok_and(|read| read >= MOST_READ);
    let last = rows.last().filter(|_| is_full).map(|row| FindingPlace {
        written: row.get(7),
        topic: row.get(1),
        name: row.get(2),
        owner: row.get(3),
    });
    let mark = match last {
        Some(last) => FindingMark { next: Some(next), after: Some(last), ..since },
        None => FindingMark { outage: since.outage, from: Some(next), next: None, after: None },
    };
    HeardFindings { findings, mark }
}

/// None for a topic that only a newer relay knows.
fn finding(shared: &SharedStore, row: &Row) -> Option<HeardFinding> {
    let topic = FindingTopic::named(row.get::<_, Option<&str>>(1)?)?;
    let owner = match row.get::<_, i16>(3) {
        0 => FindingOwner::All,
        own if own == shared.node.slot => FindingOwner::Own,
        other => FindingOwner::Other(other),
    };
    let lives = Duration::from_millis(u64::try_from(row.get::<_, i64>(5)).unwrap_or(0));
    let at: Timestamp = shared.clock().by_node(row.get(4));
    Some(HeardFinding { owner, finding: Finding { topic, name: row.get(2), at, lives, value: row.get(6) } })
}

/// Removes what nobody needs any more. A dump that was restored has transactions that are still to come here: they
/// would be read again and again.
pub(super) async fn prune(shared: &SharedStore) -> Result<(), SpoolError> {
    if shared.schema() < SCHEMA {
        return Ok(());
    }
    let database: &Database = &shared.database;
    let client = database.client().await?;
    let failed = |error| database.failed(error);
    let over = "DELETE FROM findings WHERE (topic, name, owner) IN
        (SELECT topic, name, owner FROM findings WHERE expires_at < now() LIMIT $1 FOR UPDATE SKIP LOCKED)";
    client.execute(over, &[&MOST_REMOVED]).await.map_err(failed)?;
    let restored = "UPDATE findings SET written = pg_current_xact_id()
                    WHERE written >= pg_snapshot_xmax(pg_current_snapshot())";
    client.execute(restored, &[]).await.map(drop).map_err(failed)
}
