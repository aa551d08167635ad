//! A primary with two standbys, of which one has to have a commit: which of them takes its place, and what becomes of the
//! other.

use super::ClusterScene;
use super::load::Load;
use crate::postgres_server::{PostgresServer, url};
use crate::relay::until;

/// On all three, so that whichever is the primary waits for one of the others.
fn waits_for_one_of(servers: &[&PostgresServer]) {
    for server in servers {
        for setting in ["synchronous_standby_names = 'ANY 1 (a, b)'", "synchronous_commit = 'remote_apply'"] {
            server.answer("postgres", &format!("ALTER SYSTEM SET {setting}"));
        }
        server.answer("postgres", "SELECT pg_reload_conf()");
    }
}

/// Until so many standbys count for its commits.
async fn counts(primary: &PostgresServer, standbys: &str) {
    let count = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
    let counted = || async { (primary.answer("postgres", count) == standbys).then_some(()) };
    until(counted, "the standbys to count for commits").await;
}

/// Octets of WAL that a standby has.
fn received(standby: &PostgresServer) -> u64 {
    standby.answer("postgres", "SELECT (pg_last_wal_receive_lsn() - '0/0')::bigint").parse().unwrap()
}

#[tokio::test]
async fn rfc5321_4_2_5_of_two_standbys_the_one_that_is_ahead_takes_over_under_load_and_the_other_follows_it() {
    let mut scene = ClusterScene::new().await;
    let (a, mut b) = (scene.server.standby("a"), scene.server.standby("b"));
    waits_for_one_of(&[&scene.server, &a, &b]);
    counts(&scene.server, "2").await;
    scene.url = url(&[scene.server.port(), a.port(), b.port()], "relay");
    std::fs::remove_dir_all(scene.folder.path().join("one")).unwrap();
    let nodes = [scene.serve("one").await, scene.serve("two").await];
    let load = Load::on(&nodes.each_ref().map(|node| node.smtp));
    load.more(40).await;
    // One of them is away for a time; the other is enough.
    b.kill();
    load.more(40).await;
    scene.server.kill();
    b.run();
    assert!(received(&a) > received(&b), "the one that was away lacks what was acknowledged meanwhile");
    a.promote();
    // Its commits wait until the other one follows.
    let primary = format!("host=127.0.0.1 port={} user=relay application_name=b", a.port());
    b.answer("postgres", &format!("ALTER SYSTEM SET primary_conninfo = '{primary}'"));
    b.answer("postgres", "SELECT pg_reload_conf()");
    counts(&a, "1").await;
    scene.server = a;
    load.more(40).await;
    let acknowledged = load.end().await;
    scene.all_ends().await;
    scene.nothing_is_lost(&acknowledged, 0).await;
    let of = |server: &PostgresServer| server.answer("relay", "SELECT count(*), max(finished_at) FROM messages");
    until(|| async { (of(&b) == of(&scene.server)).then_some(()) }, "the other standby to have it all").await;
    drop(nodes);
}
