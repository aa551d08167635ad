//! Another version of the schema, while nodes run and mail waits.

use super::ClusterScene;
use super::load::Load;
use crate::relay::until;
use dane_relay::lab::Trouble;

/// The schema as the first version of the programme made it.
const FIRST: &str = include_str!("../../../src/spool/postgres/schema_1.sql");

impl ClusterScene {
    /// The same on a database that the first version has made.
    async fn of_the_first_version() -> Self {
        let scene = Self::new().await;
        scene.server.answer("postgres", "DROP DATABASE relay");
        scene.server.answer("postgres", "CREATE DATABASE relay");
        let versions = "INSERT INTO relay_meta (name, value) VALUES ('schema_version', 1), ('works_with', 1)";
        scene.server.answer("relay", &format!("BEGIN; {FIRST} {versions}; COMMIT"));
        scene
    }

    fn findings(&self) -> String {
        self.server.answer("relay", "SELECT count(*) FROM findings")
    }
}

#[tokio::test]
async fn rfc5321_4_2_5_a_database_of_the_first_version_is_migrated_under_load_beside_nodes_that_work_with_it() {
    let scene = ClusterScene::of_the_first_version().await;
    let status = scene.run("one", &["spool", "status"]).await;
    assert!(status.code == 0 && status.stdout.contains("run `relay spool migrate`"), "{status:?}");
    let made = scene.run("one", &["spool", "init"]).await;
    assert!(made.code == 78 && made.stderr.contains("relay spool migrate"), "{made:?}");
    let one = scene.serve("one").await;
    scene.hang(Some(Trouble::Hang));
    let waiting = scene.mail(&one, 3).await;
    scene.carries("one", 3).await;
    let load = Load::on(&[one.smtp]);
    load.more(20).await;
    let migrated = scene.run("two", &["spool", "migrate"]).await;
    assert_eq!(
        (migrated.code, migrated.stdout.as_str()),
        (0, "the schema had version 1, and is migrated\n"),
        "{migrated:?}"
    );
    load.more(20).await;
    let again = scene.run("two", &["spool", "migrate"]).await;
    assert_eq!((again.code, again.stdout.as_str()), (0, "the schema has version 2 already\n"), "{again:?}");
    let two = scene.serve("two").await;
    load.goes_to(&[one.smtp, two.smtp]);
    load.more(20).await;
    // The node that was started before the migration uses what it has brought.
    let knows = "SELECT count(*) FROM nodes WHERE knows = 2 AND knows_since = incarnation";
    until(|| async { (scene.server.answer("relay", knows) == "2").then_some(()) }, "both to say what they know").await;
    scene.hang(None);
    let acknowledged = load.end().await;
    scene.all_ends().await;
    let of_one = "SELECT count(DISTINCT owner) FROM findings WHERE topic = 'hosts'";
    until(|| async { (scene.server.answer("relay", of_one) != "0").then_some(()) }, "findings").await;
    scene.nothing_is_lost(&acknowledged, 0).await;
    for id in &waiting {
        let story = scene.run("two", &["why", id]).await;
        assert!(story.stdout.contains("delivered"), "{story:?}");
    }
    assert_ne!(scene.findings(), "0");
}
