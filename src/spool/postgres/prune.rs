//! History that is over its time goes, a piece at a time.

use super::numbers::{bigint, number};
use super::store::Database;
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::spool::SpoolError;
use crate::spool::stored::{REPORT_IDS, lookup_hash, names};

/// Messages of one transaction.
const MOST: i64 = 500;
/// Held by the node that prunes.
const LOCK: i64 = 0x5245_4c41_5950_5231;

/// Removes some messages that were finished before then, and gives how many it were. A report stays for as long as
/// what it tells of: it is the proof that somebody was told.
pub(super) async fn prune(database: &Database, before: Timestamp) -> Result<usize, SpoolError> {
    let mut client = database.client().await?;
    let failed = |error| database.failed(error);
    let transaction = client.transaction().await.map_err(failed)?;
    let alone = transaction.query_one("SELECT pg_try_advisory_xact_lock($1)", &[&LOCK]).await.map_err(failed)?;
    if !alone.get::<_, bool>(0) {
        return Ok(0);
    }
    let old = "SELECT id, accepted_at, envelope, message_id FROM messages WHERE finished_at < $1
                 AND NOT (id > $2 AND EXISTS (SELECT 1 FROM recipients WHERE told = messages.id AND told > 0))
               ORDER BY finished_at LIMIT $3";
    let rows = transaction.query(old, &[&before.0, &bigint(REPORT_IDS), &MOST]).await.map_err(failed)?;
    let Some(latest) = rows.iter().map(|row| row.get::<_, i64>(1)).max() else { return Ok(0) };
    let ids: Vec<i64> = rows.iter().map(|row| row.get(0)).collect();
    let (mut hashes, mut times, mut messages) = (Vec::new(), Vec::new(), Vec::new());
    for row in &rows {
        // What cannot be read is left findable, and leads nowhere.
        let Ok(envelope) = serde_json::from_str::<Envelope>(row.get(2)) else { continue };
        for name in names(&envelope, row.get(3)) {
            hashes.push(lookup_hash(&name));
            times.push(row.get::<_, i64>(1));
            messages.push(row.get::<_, i64>(0));
        }
    }
    let lookups = "DELETE FROM lookups l USING unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS d (h, a, m)
                   WHERE l.hash = d.h AND l.accepted_at = d.a AND l.message = d.m";
    transaction.execute(lookups, &[&hashes, &times, &messages]).await.map_err(failed)?;
    for table in ["recipients", "history", "content"] {
        let delete = format!("DELETE FROM {table} WHERE message = ANY($1)");
        transaction.execute(&delete, &[&ids]).await.map_err(failed)?;
    }
    transaction.execute("DELETE FROM messages WHERE id = ANY($1)", &[&ids]).await.map_err(failed)?;
    let highest = ids.iter().copied().filter(|id| *id < number(QueueId(REPORT_IDS))).max().unwrap_or(0);
    let marks = "INSERT INTO relay_meta (name, value) VALUES ('pruned_accepted_at', $1), ('pruned_time_id', $2)
                 ON CONFLICT (name) DO UPDATE SET value = greatest(relay_meta.value, excluded.value)";
    transaction.execute(marks, &[&latest, &highest]).await.map_err(failed)?;
    transaction.commit().await.map_err(failed)?;
    Ok(ids.len())
}
