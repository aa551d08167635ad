//! A database that dies, comes back, is full, or is replaced by its standby.

use super::load::{Load, rounds};
use super::{ClusterScene, LEASE};
use crate::full_disk::with_own_mounts;
use crate::postgres_server::{PostgresServer, url};
use crate::relay::{SENDER, get, heard, metrics, until, within};
use dane_relay::lab::TroubleAt;
use dane_relay::lab::mx::client::SmtpClient;
use std::io::Write as _;
use std::time::Duration;

#[tokio::test]
async fn a_database_that_is_killed_costs_time_and_no_mail() {
    let mut scene = ClusterScene::new().await;
    let relay = scene.serve("one").await;
    let host = || scene.lab.mx("good.test").unwrap();
    host().delay(TroubleAt::EndOfData, Duration::from_secs(3));
    scene.mail(&relay, 1).await;
    let under_way = || async { (heard(host(), "DATA") + heard(host(), "BDAT") > 0).then_some(()) };
    until(under_way, "the delivery to begin").await;
    // The content is read from the database once the host has asked for it; the end of it takes the host three seconds.
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.server.kill();
    let not_ready = || async {
        let (status, text) = get(relay.admin, "/readyz").await;
        (status == 503).then_some(text)
    };
    let why = until(not_ready, "the relay to notice").await;
    assert!(why.contains("the database of the spool cannot be used since"), "{why}");
    let mut client = SmtpClient::ready(relay.smtp).await.unwrap();
    let reply = client.command(&format!("MAIL FROM:<{SENDER}>")).await.unwrap().to_string();
    assert!(reply.starts_with("451") && reply.contains("4.3.0"), "{reply}");
    assert_eq!(metrics(relay.admin).await["relay_spool_unreachable"], 1.0);
    let is_logged =
        |log: &[String]| log.iter().any(|line| line.contains("ERROR") && line.contains("cannot be used since"));
    assert!(is_logged(&relay.log()), "{:#?}", relay.log());
    // The delivery ends while nothing can be recorded.
    until(|| async { (scene.lab.mx("good.test").unwrap().messages().len() == 1).then_some(()) }, "the delivery").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.server.run();
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 1, "it is recorded, and not sent again");
    let ready = || async { (get(relay.admin, "/readyz").await.0 == 200).then_some(()) };
    until(ready, "the relay to be ready again").await;
    assert_eq!(metrics(relay.admin).await["relay_spool_unreachable"], 0.0);
    scene.takes(Duration::ZERO);
    scene.mail(&relay, 2).await;
    scene.all_ends().await;
    scene.is_whole(3).await;
    relay.terminate();
    within(relay.ended(), "the end").await;
}

#[tokio::test]
async fn rfc5321_6_1_what_ends_in_an_outage_longer_than_a_lease_is_recorded_and_not_sent_again() {
    let mut scene = ClusterScene::new().await;
    let (one, two) = (scene.serve("one").await, scene.serve("two").await);
    // The server says that it has the message when the claim on it has long run out.
    scene.takes(LEASE + Duration::from_secs(3));
    scene.mail(&one, 1).await;
    let host = || scene.lab.mx("good.test").unwrap();
    let under_way = || async { (heard(host(), "DATA") + heard(host(), "BDAT") > 0).then_some(()) };
    until(under_way, "the delivery to begin").await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    scene.server.kill();
    until(|| async { (scene.arrived() == 1).then_some(()) }, "the delivery").await;
    tokio::time::sleep(LEASE).await;
    scene.server.run();
    scene.all_ends().await;
    tokio::time::sleep(LEASE).await;
    assert_eq!(scene.arrived(), 1, "and the other node does not take it, either");
    scene.is_whole(1).await;
    drop((one, two));
}

#[tokio::test]
async fn rfc5321_4_2_5_a_database_that_is_killed_under_load_loses_nothing() {
    let mut scene = ClusterScene::new().await;
    let nodes = [scene.serve("one").await, scene.serve("two").await];
    let load = Load::on(&nodes.each_ref().map(|node| node.smtp));
    for _ in 0..rounds() {
        load.more(40).await;
        scene.server.kill();
        tokio::time::sleep(Duration::from_secs(1)).await;
        scene.server.run();
        load.more(40).await;
    }
    let acknowledged = load.end().await;
    scene.all_ends().await;
    scene.nothing_is_lost(&acknowledged, 0).await;
}

#[tokio::test]
async fn rfc5321_4_2_5_a_standby_takes_the_place_of_its_primary_under_load_and_has_all_that_was_acknowledged() {
    let mut scene = ClusterScene::new().await;
    let standby = scene.server.standby("standby");
    for setting in ["synchronous_standby_names = 'ANY 1 (standby)'", "synchronous_commit = 'remote_apply'"] {
        scene.server.answer("postgres", &format!("ALTER SYSTEM SET {setting}"));
    }
    scene.server.answer("postgres", "SELECT pg_reload_conf()");
    scene.url = url(&[scene.server.port(), standby.port()], "relay");
    std::fs::remove_dir_all(scene.folder.path().join("one")).unwrap();
    let waits = || async {
        let follows = "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'quorum'";
        (scene.server.answer("postgres", follows) == "1").then_some(())
    };
    until(waits, "the standby to count for commits").await;
    let status = scene.run("one", &["spool", "status"]).await;
    assert!(status.stdout.contains("remote_apply") && status.stdout.contains("ANY 1 (standby)"), "{status:?}");
    let nodes = [scene.serve("one").await, scene.serve("two").await];
    let load = Load::on(&nodes.each_ref().map(|node| node.smtp));
    load.more(60).await;
    scene.server.kill();
    standby.promote();
    scene.server = standby;
    load.more(60).await;
    let acknowledged = load.end().await;
    scene.all_ends().await;
    scene.nothing_is_lost(&acknowledged, 0).await;
}

#[test]
fn rfc5321_4_2_5_a_database_whose_disk_is_full_takes_nothing_loses_nothing_and_goes_on_when_there_is_room() {
    let name = "cluster::database::rfc5321_4_2_5_a_database_whose_disk_is_full_takes_nothing_loses_nothing_and_goes_on_when_there_is_room";
    with_own_mounts(name, async {
        let disk = tempfile::tempdir_in("/tmp").unwrap();
        let mount = ["-t", "tmpfs", "-o", "size=220m,mode=755", "none"];
        let mounted = std::process::Command::new("mount").args(mount).arg(disk.path()).status().unwrap();
        assert!(mounted.success());
        let scene = ClusterScene::on(PostgresServer::start_in(disk.path())).await;
        let nodes = [scene.serve("one").await, scene.serve("two").await];
        let load = Load::on(&nodes.each_ref().map(|node| node.smtp));
        load.more(40).await;
        let filler = disk.path().join("filler");
        let fill = || {
            let mut file = std::fs::OpenOptions::new().append(true).create(true).open(&filler).unwrap();
            let octets = vec![0; 1 << 20];
            while file.write_all(&octets).is_ok() {}
        };
        let refuses = || async {
            fill();
            let mut client = SmtpClient::ready(nodes[0].smtp).await.unwrap();
            let reply = client.command(&format!("MAIL FROM:<{SENDER}>")).await.unwrap().to_string();
            (reply.starts_with("452") || reply.starts_with("451")).then_some(reply)
        };
        until(refuses, "mail to be refused").await;
        std::fs::remove_file(&filler).unwrap();
        load.more(40).await;
        let acknowledged = load.end().await;
        scene.all_ends().await;
        scene.nothing_is_lost(&acknowledged, 0).await;
        drop(nodes);
        drop(scene);
        assert!(std::process::Command::new("umount").arg("-l").arg(disk.path()).status().unwrap().success());
    });
}
