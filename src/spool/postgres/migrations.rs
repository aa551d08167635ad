//! The versions of the schema, in order.
//!
//! A list in the program and a number in the database, and no library for it: a migration is a file of SQL, and
//! what a library would bring besides (other databases, files read at run time) is more than what it spares.

use super::store::{Database, text};
use crate::spool::cluster::SchemaState;
use crate::spool::{EngineError, SpoolError};
use tokio_postgres::Client;

/// From one version to the next.
struct SchemaStep {
    sql: &'static str,
    /// The oldest version whose programs may go on beside what it makes: a step that only adds keeps that of the one before,
    /// so that nodes can be updated one after the other.
    works_with: i64,
}

/// From each version to the next, beginning with an empty database.
const MIGRATIONS: &[SchemaStep] = &[
    SchemaStep { sql: include_str!("schema_1.sql"), works_with: 1 },
    SchemaStep { sql: include_str!("schema_2.sql"), works_with: 1 },
];

/// The oldest version that this program works with, until it is migrated: without what is newer.
const OLDEST: i64 = 1;

/// For what others have locked: while this waits for a table, nobody else gets it.
const LOCK_PATIENCE: &str = "SET lock_timeout = '5s'";

/// A node that was not heard of for longer does not count as one that runs.
const RUNS_FOR: f64 = 20.0;

/// What this program works with.
pub(super) fn newest() -> i64 {
    i64::try_from(MIGRATIONS.len()).unwrap_or(i64::MAX)
}

/// Held while the schema is changed, so that two who begin at once do not do it twice.
const LOCK: i64 = 0x5245_4c41_5953_5131;

/// The version that is there.
pub(super) async fn version(client: &Client) -> Result<SchemaState, tokio_postgres::Error> {
    let there = client.query_one("SELECT to_regclass('relay_meta') IS NOT NULL", &[]).await?;
    if !there.get::<_, bool>(0) {
        return Ok(SchemaState::Empty);
    }
    let select = "SELECT coalesce(max(value) FILTER (WHERE name = 'schema_version'), 0),
                         max(value) FILTER (WHERE name = 'works_with') FROM relay_meta";
    let row = client.query_one(select, &[]).await?;
    let (version, works_with): (i64, Option<i64>) = (row.get(0), row.get(1));
    Ok(state(version, works_with.unwrap_or(version)))
}

/// What a version is for this program.
fn state(version: i64, works_with: i64) -> SchemaState {
    if version < OLDEST {
        SchemaState::Older(version)
    } else if version < newest() {
        SchemaState::Behind(version)
    } else if works_with <= newest() {
        SchemaState::Current(version)
    } else {
        SchemaState::Newer(version)
    }
}

/// Brings the database to the newest version, each step in a transaction. Gives the version before.
pub(super) async fn migrate(database: &Database) -> Result<SchemaState, SpoolError> {
    migrate_by(database, MIGRATIONS).await
}

async fn migrate_by(database: &Database, steps: &[SchemaStep]) -> Result<SchemaState, SpoolError> {
    let client = database.connect_alone().await?;
    let failed = |error: tokio_postgres::Error| database.failed(error);
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map_err(failed)?;
    client.batch_execute(LOCK_PATIENCE).await.map_err(failed)?;
    let before = version(&client).await.map_err(failed)?;
    let there = match before {
        SchemaState::Empty => 0,
        SchemaState::Older(version)
        | SchemaState::Behind(version)
        | SchemaState::Current(version)
        | SchemaState::Newer(version) => usize::try_from(version).unwrap_or(0),
    };
    let coming = steps.get(there..).unwrap_or_default();
    let needed = coming.iter().map(|step| step.works_with).max().unwrap_or(0);
    if let Some(why) = hindrance(&client, there, needed).await.map_err(failed)? {
        return Err(SpoolError::Unusable(why));
    }
    for (number, step) in (there + 1..).zip(coming) {
        apply(&client, number, step).await?;
    }
    Ok(before)
}

async fn apply(client: &Client, number: usize, step: &SchemaStep) -> Result<(), SpoolError> {
    let sql = format!(
        "BEGIN; {}\nINSERT INTO relay_meta (name, value) VALUES ('schema_version', {number}), ('works_with', {}) \
         ON CONFLICT (name) DO UPDATE SET value = excluded.value; COMMIT",
        step.sql, step.works_with
    );
    client.batch_execute(&sql).await.map_err(|error| {
        SpoolError::Engine(EngineError { store: "the schema of the spool", source: text(&error).into() })
    })
}

/// Why a schema must not come that programs before `needed` cannot work with: relays that run would end at it, one and
/// all. What each knows it says by its heartbeat; one that says nothing knows the first version.
async fn hindrance(client: &Client, there: usize, needed: i64) -> Result<Option<String>, tokio_postgres::Error> {
    if there == 0 {
        return Ok(None);
    }
    let knows = if there == 1 { "1::bigint" } else { "CASE WHEN knows_since = incarnation THEN knows ELSE 1 END" };
    let select = format!(
        "SELECT name, version FROM nodes WHERE stopped_at IS NULL AND {knows} < $1
           AND seen_at > clock_timestamp() - $2 * interval '1 second' ORDER BY name"
    );
    let rows = client.query(&select, &[&needed, &RUNS_FOR]).await?;
    let names: Vec<String> =
        rows.iter().map(|row| format!("{} ({})", row.get::<_, &str>(0), row.get::<_, &str>(1))).collect();
    Ok((!names.is_empty()).then(|| {
        format!(
            "relays run that cannot work with the new schema, and would end at it: {}. Update them, or stop them, first; \
             nothing was changed",
            names.join(", ")
        )
    }))
}

/// Whether this program may work with the database as it is.
pub(super) async fn usable(client: &Client) -> Result<Result<(), String>, tokio_postgres::Error> {
    Ok(match version(client).await? {
        SchemaState::Current(_) | SchemaState::Behind(_) => Ok(()),
        SchemaState::Empty => Err("the database holds no spool yet: run `relay spool init`".to_owned()),
        SchemaState::Older(found) => Err(format!(
            "the schema of the spool has version {found}, and this relay needs {}: run `relay spool migrate`",
            newest()
        )),
        SchemaState::Newer(found) => Err(format!(
            "the schema of the spool has version {found}, and this relay knows {}: it was migrated by a newer relay",
            newest()
        )),
    })
}

#[cfg(test)]
#[path = "migrations_tests.rs"]
mod tests;
