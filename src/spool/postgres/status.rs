//! What an operator is told of the database and of the nodes that share it.

use super::migrations;
use super::numbers::unsigned;
use super::store::Database;
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::spool::SpoolError;
use crate::spool::cluster::{ClusterNode, DatabaseStatus, NodeState, SchemaState};

/// A node that was not heard of for longer is silent: five heartbeats, and the patience for one.
const SILENT_AFTER_MS: u64 = 20_000;

/// How the database stands.
pub(in crate::spool) async fn status(config: &SpoolConfig) -> Result<DatabaseStatus, SpoolError> {
    let database = Database::new(config)?;
    let client = database.connect_alone().await?;
    let failed = |error| database.failed(error);
    let schema = migrations::version(&client).await.map_err(failed)?;
    let settings =
        "SELECT version(), current_setting('synchronous_commit'), current_setting('synchronous_standby_names')";
    let row = client.query_one(settings, &[]).await.map_err(failed)?;
    let (commits_wait_for, standbys): (String, String) = (row.get(1), row.get(2));
    let server = row.get::<_, &str>(0).split(" on ").next().unwrap_or_default().to_owned();
    let (waiting, bytes) = match schema {
        SchemaState::Current(_) | SchemaState::Behind(_) => {
            let counts = super::counts::Counts::default();
            counts.count(&client).await.map_err(failed)?;
            let stats = counts.now();
            (stats.queued_messages, stats.bytes)
        }
        SchemaState::Empty | SchemaState::Older(_) | SchemaState::Newer(_) => (0, 0),
    };
    let standbys = Some(standbys).filter(|names| !names.is_empty());
    Ok(DatabaseStatus { schema, needs: migrations::newest(), server, commits_wait_for, standbys, bytes, waiting })
}

/// The nodes that ever were, by name.
pub(in crate::spool) async fn nodes(config: &SpoolConfig) -> Result<Vec<ClusterNode>, SpoolError> {
    let database = Database::new(config)?;
    let client = database.connect_alone().await?;
    let failed = |error| database.failed(error);
    migrations::usable(&client).await.map_err(failed)?.map_err(SpoolError::Unusable)?;
    let select = "SELECT name, version, host, pid, (extract(epoch FROM started_at) * 1000)::bigint,
                         (extract(epoch FROM seen_at) * 1000)::bigint,
                         (extract(epoch FROM clock_timestamp()) * 1000)::bigint, clock_ms,
                         stopped_at IS NOT NULL, (SELECT count(*) FROM messages WHERE holder = slot)
                  FROM nodes ORDER BY name";
    let rows = client.query(select, &[]).await.map_err(failed)?;
    let node = |row: &tokio_postgres::Row| {
        let (seen, now, stopped): (i64, i64, bool) = (row.get(5), row.get(6), row.get(8));
        let ago = unsigned(now.saturating_sub(seen));
        let state = if stopped {
            NodeState::Stopped
        } else if ago > SILENT_AFTER_MS {
            NodeState::Silent
        } else {
            NodeState::Running
        };
        ClusterNode {
            name: row.get(0),
            state,
            version: row.get(1),
            host: row.get(2),
            pid: i64::from(row.get::<_, i32>(3)),
            started: Timestamp(row.get(4)),
            seen: Timestamp(seen),
            seen_ago_ms: ago,
            clock_ahead_ms: row.get::<_, i64>(7).saturating_sub(seen),
            carries: unsigned(row.get(9)),
        }
    };
    Ok(rows.iter().map(node).collect())
}
