//! Nodes that die, stand still, come and go.

use super::ClusterScene;
use super::load::{Load, UNDER_WAY, rounds};
use crate::process::{Serving, run, run_with};
use crate::relay::{metrics, says, until};
use dane_relay::lab::{Trouble, TroubleAt};
use serde_json::Value;
use std::ffi::OsStr;
use std::path::PathBuf;

#[tokio::test]
async fn what_a_killed_node_had_goes_out_by_the_other() {
    let scene = ClusterScene::new().await;
    let one = scene.serve("one").await;
    scene.hang(Some(Trouble::Hang));
    let ids = scene.mail(&one, 5).await;
    scene.carries("one", 5).await;
    let two = scene.serve("two").await;
    let listed = scene.run("two", &["queue", "list", "--json"]).await;
    assert_eq!(listed.stdout.lines().count(), 5, "each node sees the whole queue: {listed:?}");
    one.signal("KILL");
    scene.hang(None);
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 5, "each of them once");
    let story = scene.run("two", &["why", &ids[0]]).await;
    assert!(story.code == 0 && story.stdout.contains("bob0@good.test: delivered"), "{story:?}");
    scene.is_whole(5).await;
    assert_eq!(scene.node("two").await["state"], "running");
    // A node that comes back has its name again at once, and what it takes in goes out.
    let one = scene.serve("one").await;
    scene.mail(&one, 2).await;
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 7);
    two.terminate();
    assert_eq!(two.ended().await, 0);
    assert_eq!(scene.node("two").await["state"], "stopped");
    scene.is_whole(7).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_past_its_lease_records_nothing() {
    let scene = ClusterScene::new().await;
    let one = scene.serve("one").await;
    scene.hang(Some(Trouble::Hang));
    let ids = scene.mail(&one, 3).await;
    scene.carries("one", 3).await;
    let two = scene.serve("two").await;
    one.signal("STOP");
    scene.hang(None);
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 3);
    one.signal("CONT");
    let gives_up = || async { (metrics(one.admin).await["relay_spool_failures_total"] >= 3.0).then_some(()) };
    until(gives_up, "the node to find its claims gone").await;
    assert!(one.log().iter().any(|line| line.contains("left to others")), "{:#?}", one.log());
    assert_eq!(scene.arrived(), 3, "and nothing comes twice");
    for id in &ids {
        let story = scene.run("one", &["why", id, "--json"]).await;
        let why: Value = serde_json::from_str(&story.stdout).unwrap();
        let attempts = why["stories"][0]["history"].as_array().unwrap().iter().filter(|e| e["event"] == "attempt");
        assert_eq!(attempts.count(), 1, "{story:?}");
    }
    scene.is_whole(3).await;
    assert_eq!(scene.node("one").await["state"], "running");
    drop(two);
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_database_without_a_spool_are_refused_with_what_to_do() {
    let scene = ClusterScene::new().await;
    let one = scene.serve("one").await;
    let folder = scene.folder.path().join("twin");
    std::fs::create_dir(&folder).unwrap();
    scene.write(&folder, "one", &format!("url = {:?}", scene.url));
    let refused = run(["serve", "--config", folder.join("relay.toml").to_str().unwrap()]).await;
    assert!(refused.code != 0 && refused.stderr.contains("has the node name one"), "{refused:?}");
    scene.server.answer("postgres", "CREATE DATABASE empty");
    let text = std::fs::read_to_string(folder.join("relay.toml")).unwrap();
    std::fs::write(folder.join("relay.toml"), text.replace("/relay\"", "/empty\"")).unwrap();
    let refused = run(["serve", "--config", folder.join("relay.toml").to_str().unwrap()]).await;
    assert!(refused.code == 78 && refused.stderr.contains("relay spool init"), "{refused:?}");
    let status = run(["spool", "status", "--config", folder.join("relay.toml").to_str().unwrap()]).await;
    assert!(status.code == 2 && status.stdout.contains("none: run `relay spool init`"), "{status:?}");
    drop(one);
}

/// Under load, one node after the other is killed and comes back, and at last one stays dead.
async fn killed_under_load(names: &[&str]) {
    let scene = ClusterScene::new().await;
    let mut nodes = Vec::new();
    for name in names {
        nodes.push(scene.serve(name).await);
    }
    let smtp = |nodes: &[Serving]| nodes.iter().map(|node| node.smtp).collect::<Vec<_>>();
    let load = Load::on(&smtp(&nodes));
    for round in 0..rounds() {
        let victim = round % names.len();
        load.more(40).await;
        nodes[victim].signal("KILL");
        load.more(20).await;
        nodes[victim] = scene.serve(names[victim]).await;
        load.goes_to(&smtp(&nodes));
    }
    load.more(40).await;
    nodes.remove(0).signal("KILL");
    load.goes_to(&smtp(&nodes));
    load.more(20).await;
    let acknowledged = load.end().await;
    scene.all_ends().await;
    scene.nothing_is_lost(&acknowledged, UNDER_WAY * (rounds() + 1)).await;
}

#[tokio::test]
async fn rfc5321_4_2_5_of_two_nodes_under_load_one_is_killed_and_nothing_is_lost() {
    killed_under_load(&["one", "two"]).await;
}

#[tokio::test]
async fn rfc5321_4_2_5_of_three_nodes_under_load_one_is_killed_and_nothing_is_lost() {
    killed_under_load(&["one", "two", "three"]).await;
}

/// A node whose clock is off.
async fn off_by(scene: &ClusterScene, node: &str, by: &str) -> Serving {
    let libraries = std::fs::read_dir("/usr/lib").unwrap().map(|one| one.unwrap().path());
    let found: Vec<PathBuf> =
        libraries.map(|one| one.join("faketime/libfaketimeMT.so.1")).filter(|path| path.exists()).collect();
    let library = found.first().unwrap_or_else(|| panic!("faketime (Debian: faketime) sets the clock of one process"));
    let (by, real) = (OsStr::new(by), OsStr::new("1"));
    let variables = [("LD_PRELOAD", library.as_os_str()), ("FAKETIME", by), ("FAKETIME_DONT_FAKE_MONOTONIC", real)];
    Serving::start_in(&variables, &scene.config(node)).await
}

#[tokio::test]
async fn the_mail_of_a_node_whose_clock_is_off_is_due_at_the_others_when_it_should_be() {
    for (by, sign) in [("+1h", 1), ("-1h", -1)] {
        let scene = ClusterScene::new().await;
        let odd = off_by(&scene, "odd", by).await;
        // Some of it waits for its first attempt, some was tried and waits for the next.
        let host = || scene.lab.mx("good.test").unwrap();
        host().trouble(TroubleAt::Rcpt, says("450 4.2.1 not yet"));
        scene.mail(&odd, 3).await;
        let tried = || async { (host().connections() >= 3).then_some(()) };
        until(tried, "the first attempts").await;
        scene.hang(Some(Trouble::Hang));
        scene.mail(&odd, 2).await;
        let ahead = scene.node("odd").await["clock_ahead_ms"].as_i64().unwrap();
        assert!((3_590_000..3_610_000).contains(&(ahead * sign)), "{ahead}");
        let status = scene.run("odd", &["cluster", "status"]).await;
        assert!(status.code == 1 && status.stdout.contains("See to its NTP"), "{status:?}");
        let right = scene.serve("right").await;
        odd.signal("KILL");
        host().trouble(TroubleAt::Rcpt, None);
        scene.hang(None);
        scene.all_ends().await;
        assert_eq!(scene.arrived(), 5, "{by}");
        scene.is_whole(5).await;
        drop(right);
    }
}

#[tokio::test]
async fn two_nodes_of_which_one_has_the_wrong_time_share_the_work_under_load() {
    let scene = ClusterScene::new().await;
    let nodes = [scene.serve("right").await, off_by(&scene, "odd", "+1h").await];
    let load = Load::on(&nodes.each_ref().map(|node| node.smtp));
    load.more(80).await;
    nodes[1].signal("KILL");
    load.more(20).await;
    let acknowledged = load.end().await;
    scene.all_ends().await;
    scene.nothing_is_lost(&acknowledged, UNDER_WAY).await;
}

#[tokio::test]
async fn a_node_goes_on_beside_a_newer_schema_that_allows_it_and_ends_at_one_that_does_not() {
    let scene = ClusterScene::new().await;
    let one = scene.serve("one").await;
    let load = Load::on(&[one.smtp]);
    load.more(20).await;
    // As the next version may do while this one serves: it adds, and takes nothing away.
    let add = "BEGIN; ALTER TABLE messages ADD COLUMN news text;
               INSERT INTO relay_meta VALUES ('works_with', 1)
                 ON CONFLICT (name) DO UPDATE SET value = excluded.value;
               UPDATE relay_meta SET value = 3 WHERE name = 'schema_version'; COMMIT";
    scene.server.answer("relay", add);
    load.more(20).await;
    let status = scene.run("one", &["spool", "status"]).await;
    assert!(status.code == 0 && status.stdout.contains("version 3, of a newer relay"), "{status:?}");
    let two = scene.serve("two").await;
    load.goes_to(&[one.smtp, two.smtp]);
    load.more(20).await;
    let acknowledged = load.end().await;
    scene.all_ends().await;
    scene.nothing_is_lost(&acknowledged, 0).await;
    two.terminate();
    assert_eq!(two.ended().await, 0);
    scene.server.answer("relay", "UPDATE relay_meta SET value = 3 WHERE name = 'works_with'");
    assert_ne!(one.ended().await, 0, "it would write what the newer ones do not expect");
    let refused = scene.run("one", &["serve"]).await;
    assert!(refused.code == 78 && refused.stderr.contains("migrated by a newer relay"), "{refused:?}");
}

#[tokio::test]
async fn the_url_may_come_from_a_file_or_from_the_service_manager() {
    let scene = ClusterScene::new().await;
    let folder = scene.folder.path().join("other");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("spool.url"), format!("{}\n", scene.url)).unwrap();
    let config = folder.join("relay.toml");
    let status = ["spool", "status", "--config", config.to_str().unwrap()];
    scene.write(&folder, "other", &format!("url_file = {:?}", folder.join("spool.url")));
    let said = run(status).await;
    assert!(said.code == 0 && said.stdout.contains("postgresql"), "{said:?}");
    scene.write(&folder, "other", "url_credential = \"spool.url\"");
    let said = run_with(&[("CREDENTIALS_DIRECTORY", folder.as_os_str())], status).await;
    assert!(said.code == 0 && said.stdout.contains("postgresql"), "{said:?}");
    let missing = folder.join("missing");
    let said = run_with(&[("CREDENTIALS_DIRECTORY", missing.as_os_str())], status).await;
    assert!(said.code == 78 && said.stderr.contains("LoadCredential"), "{said:?}");
}
