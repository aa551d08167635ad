//! Migrations that take something away, among nodes that run: by a real server.
#![expect(clippy::disallowed_methods, reason = "the server of a test is made in a folder, and run")]

use super::*;
use crate::clock::Timestamp;
use crate::config::{SpoolConfig, SpoolEngine};
use crate::spool::postgres::PostgresSpool;
use crate::spool::{Spool as _, SpoolError};
use postgres_server::PostgresServer;
use std::path::Path;
use std::time::Duration;

#[path = "../../../tests/support/postgres_server.rs"]
#[expect(dead_code, reason = "other tests need the rest of it")]
mod postgres_server;

const NOW: Timestamp = Timestamp(1_795_261_468_000);

fn config(server: &PostgresServer, folder: &Path, node: &str) -> SpoolConfig {
    SpoolConfig {
        path: folder.join(node),
        engine: SpoolEngine::Postgresql,
        url: Some(server.url("relay")),
        node: Some(node.to_owned()),
        lease: Duration::from_secs(5),
        ..SpoolConfig::default()
    }
}

/// The versions that there are, and one that none before `works_with` can work with.
fn with_another(works_with: i64) -> Vec<SchemaStep> {
    let there = MIGRATIONS.iter().map(|step| SchemaStep { sql: step.sql, works_with: step.works_with });
    there.chain([SchemaStep { sql: "CREATE TABLE news (a bigint);", works_with }]).collect()
}

fn refused(migrated: Result<SchemaState, SpoolError>) -> String {
    match migrated {
        Err(SpoolError::Unusable(why)) => why,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_schema_that_running_nodes_cannot_work_with_does_not_come_and_they_are_named() {
    let server = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap();
    server.answer("postgres", "CREATE DATABASE relay");
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(&config(&server, folder.path(), "one")).unwrap();
    let version = || server.answer("relay", "SELECT value FROM relay_meta WHERE name = 'schema_version'");
    let first = &MIGRATIONS[..1];
    assert_eq!(migrate_by(&database, first).await.unwrap(), SchemaState::Empty);
    let (one, _) = PostgresSpool::open(&config(&server, folder.path(), "one"), NOW).await.unwrap();
    // In the first version no node says what it knows.
    let why = refused(migrate_by(&database, &with_another(2)).await);
    assert!(why.contains(&format!("one ({})", env!("CARGO_PKG_VERSION"))), "{why}");
    assert_eq!(version(), "1", "not even what only adds");
    assert_eq!(migrate_by(&database, MIGRATIONS).await.unwrap(), SchemaState::Behind(1));
    let why = refused(migrate_by(&database, &with_another(3)).await);
    assert!(why.contains("one (") && version() == "2", "{why}");
    let says = async {
        while server.answer("relay", "SELECT knows FROM nodes WHERE knows_since = incarnation").is_empty() {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), says).await.unwrap();
    let why = refused(migrate_by(&database, &with_another(3)).await);
    assert!(why.contains("one (") && version() == "2", "{why}");
    // An older program takes the place of the node, which says nothing.
    server.answer("relay", "UPDATE nodes SET knows = 3");
    let (two, _) = PostgresSpool::open(&config(&server, folder.path(), "two"), NOW).await.unwrap();
    two.close().await;
    server.answer("relay", "UPDATE nodes SET stopped_at = NULL, incarnation = incarnation + 100 WHERE name = 'two'");
    let why = refused(migrate_by(&database, &with_another(2)).await);
    assert!(why.contains("two (") && !why.contains("one ("), "{why}");
    server.answer("relay", "UPDATE nodes SET stopped_at = now() WHERE name = 'two'");
    one.close().await;
    assert_eq!(migrate_by(&database, &with_another(3)).await.unwrap(), SchemaState::Current(2));
    assert_eq!(version(), "3");
    let Err(SpoolError::Unusable(why)) = PostgresSpool::open(&config(&server, folder.path(), "one"), NOW).await else {
        panic!("it would write what the newer ones do not expect");
    };
    assert!(why.contains("migrated by a newer relay"), "{why}");
}

#[tokio::test]
async fn a_node_that_was_not_heard_of_for_long_holds_up_no_schema() {
    let server = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap();
    server.answer("postgres", "CREATE DATABASE relay");
    let folder = tempfile::tempdir().unwrap();
    let database = Database::new(&config(&server, folder.path(), "one")).unwrap();
    migrate_by(&database, MIGRATIONS).await.unwrap();
    let gone = "INSERT INTO nodes VALUES (7, 'gone', 1, '0.0.9', 'mx7', 1, now(), now() - interval '30 s', 0)";
    server.answer("relay", gone);
    assert_eq!(migrate_by(&database, &with_another(3)).await.unwrap(), SchemaState::Current(2));
}

#[test]
fn a_schema_is_one_to_work_with_by_its_version_and_by_what_it_says_itself() {
    assert_eq!(state(0, 0), SchemaState::Older(0));
    assert_eq!(state(1, 1), SchemaState::Behind(1));
    assert_eq!(state(2, 1), SchemaState::Current(2));
    assert_eq!(state(3, 2), SchemaState::Current(3));
    assert_eq!(state(3, 3), SchemaState::Newer(3));
}
