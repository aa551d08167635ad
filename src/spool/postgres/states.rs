//! What the nodes know together and belongs to no message: a value under a name, changed by one at a time.

use super::store::Database;
use crate::spool::SpoolError;
use crate::spool::cluster::ClusterState;

/// What is under a name.
pub(super) async fn read(database: &Database, name: &str) -> Result<Option<ClusterState>, SpoolError> {
    let client = database.client().await?;
    let failed = |error| database.failed(error);
    let select = client.prepare_cached("SELECT revision, value FROM shared_states WHERE name = $1").await;
    let row = client.query_opt(&select.map_err(failed)?, &[&name]).await.map_err(failed)?;
    Ok(row.map(|row| ClusterState { revision: row.get(0), value: row.get(1) }))
}

/// Puts a value in the place of that with this revision. Nothing is changed where that is there no more.
pub(super) async fn replace(
    database: &Database,
    name: &str,
    value: &[u8],
    revision: Option<i64>,
) -> Result<(), SpoolError> {
    let client = database.client().await?;
    let failed = |error| database.failed(error);
    let replace = "INSERT INTO shared_states AS known (name, value) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value, revision = nextval('revisions')
            WHERE known.revision = $3";
    let changed = client.execute(replace, &[&name, &value, &revision]).await.map_err(failed)?;
    if changed == 1 { Ok(()) } else { Err(SpoolError::Fenced) }
}
