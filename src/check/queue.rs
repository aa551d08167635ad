//! What waits in the queue for a domain: one look at the spool's state, which is only read.
//!
//! The spool may belong to a running relay or not be there at all; then there is nothing to say.

use super::evidence::Queue;
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use rusqlite::{Connection, OpenFlags, params};
use std::path::Path;
use std::time::Duration;

/// How long a writer may hold us up.
const LOCK_PATIENCE: Duration = Duration::from_millis(500);

/// Messages with a recipient of the domain that still waits; none when it cannot be found out.
pub(super) async fn waiting(spool: &Path, domain: &Domain) -> Option<Queue> {
    let (state, ending) = (spool.join("state.sqlite"), format!("%@{domain}"));
    let looked = tokio::task::spawn_blocking(move || count(&state, &ending)).await;
    looked.ok()?.ok()
}

fn count(state: &Path, ending: &str) -> rusqlite::Result<Queue> {
    let connection = open(state)?;
    connection.query_row(
        "SELECT count(DISTINCT m.id), min(m.accepted_at) FROM messages m JOIN recipients r ON r.message = m.id
         WHERE m.finished_at IS NULL AND r.address LIKE ?1 AND r.state LIKE '{\"state\":\"queued\"%'",
        params![ending],
        |row| {
            let messages: i64 = row.get(0)?;
            let oldest: Option<i64> = row.get(1)?;
            Ok(Queue { messages: u64::try_from(messages).unwrap_or(0), oldest: oldest.map(Timestamp) })
        },
    )
}

fn open(state: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(state, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    connection.busy_timeout(LOCK_PATIENCE)?;
    Ok(connection)
}

/// The domains of all recipients that wait, most messages first; at most `most`.
pub(super) async fn domains(spool: &Path, most: usize) -> Vec<Domain> {
    let state = spool.join("state.sqlite");
    let looked = tokio::task::spawn_blocking(move || list(&state, most)).await;
    looked.ok().and_then(Result::ok).unwrap_or_default()
}

fn list(state: &Path, most: usize) -> rusqlite::Result<Vec<Domain>> {
    let connection = open(state)?;
    let mut statement = connection.prepare(
        "SELECT lower(substr(r.address, instr(r.address, '@') + 1)) AS domain, count(*) AS n
         FROM messages m JOIN recipients r ON r.message = m.id
         WHERE m.finished_at IS NULL AND r.state LIKE '{\"state\":\"queued\"%'
         GROUP BY domain ORDER BY n DESC, domain LIMIT ?1",
    )?;
    let rows = statement.query_map(params![i64::try_from(most).unwrap_or(i64::MAX)], |row| row.get::<_, String>(0))?;
    Ok(rows.filter_map(Result::ok).filter_map(|domain| domain.parse().ok()).collect())
}
