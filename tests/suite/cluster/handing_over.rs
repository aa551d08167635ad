//! Nodes that end in order, and what all nodes keep and know together.

use super::ClusterScene;
use crate::process::Serving;
use crate::relay::{SENDER, content, until};
use dane_relay::lab::mx::client::SmtpClient;
use std::time::Duration;

#[tokio::test]
async fn a_node_that_drains_or_stops_hands_over_at_once_and_brings_to_its_end_what_it_has_begun() {
    for by_command in ["drain", "a signal"] {
        let scene = ClusterScene { delivery: "max_connections = 2\n", ..ClusterScene::new().await };
        std::fs::remove_dir_all(scene.folder.path().join("one")).unwrap();
        let one = scene.serve("one").await;
        // Two are under way, and the others wait for their places.
        scene.takes(Duration::from_secs(15));
        scene.mail(&one, 5).await;
        until(|| async { (scene.under_way() == 2).then_some(()) }, "two deliveries").await;
        scene.carries("one", 5).await;
        let two = scene.serve("two").await;
        let (config, draining) = (scene.config("one"), by_command == "drain");
        let drained = tokio::spawn(async move {
            if draining {
                Some(crate::process::run(["drain", "--config", config.to_str().unwrap()]).await)
            } else {
                None
            }
        });
        if !draining {
            one.terminate();
        }
        scene.carries("two", 3).await;
        assert_eq!(scene.arrived(), 0, "{by_command}: long before what was begun is done");
        scene.carries("one", 2).await;
        scene.takes(Duration::ZERO);
        assert_eq!(one.ended().await, 0);
        if let Some(said) = drained.await.unwrap() {
            assert!(said.code == 0 && said.stdout.ends_with("The relay has ended.\n"), "{said:?}");
        }
        scene.all_ends().await;
        assert_eq!(scene.arrived(), 5, "{by_command}");
        assert_eq!(scene.node("one").await["state"], "stopped");
        scene.is_whole(5).await;
        drop(two);
    }
}

#[tokio::test]
async fn a_host_has_as_many_connections_from_all_nodes_as_the_configuration_allows() {
    let scene = ClusterScene { delivery: "max_connections = 4\n", ..ClusterScene::new().await };
    std::fs::remove_dir_all(scene.folder.path().join("one")).unwrap();
    let nodes = [scene.serve("one").await, scene.serve("two").await];
    // Both have heard of each other by now, and know the host.
    for node in &nodes {
        scene.mail(node, 3).await;
    }
    scene.all_ends().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    scene.takes(Duration::from_secs(1));
    for node in &nodes {
        scene.mail(node, 10).await;
    }
    let mut most = 0;
    let done = || {
        most = most.max(scene.under_way());
        let arrived = scene.arrived();
        async move { (arrived == 26).then_some(()) }
    };
    until(done, "all mail").await;
    assert_eq!(most, 4, "both together");
    // Of a node that is gone the other has the part when its lease is over.
    nodes[0].signal("KILL");
    scene.takes(Duration::from_secs(3));
    scene.mail(&nodes[1], 12).await;
    until(|| async { (scene.under_way() == 4).then_some(()) }, "the whole limit").await;
    scene.all_ends().await;
    scene.is_whole(38).await;
}

#[tokio::test]
async fn a_host_that_takes_one_connection_gets_one_and_all_mail_goes_out() {
    let scene = ClusterScene { delivery: "max_connections = 1\n", ..ClusterScene::new().await };
    std::fs::remove_dir_all(scene.folder.path().join("one")).unwrap();
    let nodes = [scene.serve("one").await, scene.serve("two").await];
    tokio::time::sleep(Duration::from_secs(3)).await;
    for node in &nodes {
        scene.mail(node, 4).await;
    }
    let mut most = 0;
    let done = || {
        most = most.max(scene.under_way());
        let arrived = scene.arrived();
        async move { (arrived == 8).then_some(()) }
    };
    until(done, "all mail").await;
    assert_eq!(most, 1);
    scene.all_ends().await;
    scene.is_whole(8).await;
}

#[tokio::test]
async fn whom_one_node_suspends_gets_in_at_none() {
    let scene = ClusterScene::new().await;
    let (one, two) = (scene.serve("one").await, scene.serve("two").await);
    let lets_in = async |node: &Serving| {
        let mut client = SmtpClient::ready(node.smtp).await.unwrap();
        client.send(SENDER, &["bob@good.test"], content("bob@good.test").as_bytes()).await.unwrap().accepted()
    };
    assert!(lets_in(&two).await);
    // At the same time at both: neither takes back what the other says.
    let suspend = async |node: &str, kind: &str, name: &str| {
        scene.run(node, &["suspend", kind, name, "--reason", "taken over"]).await
    };
    let (first, second) = tokio::join!(suspend("one", "sender", SENDER), suspend("two", "user", "printer"));
    assert_eq!((first.code, second.code), (0, 0), "{first:?} {second:?}");
    for node in [&one, &two] {
        until(|| async { (!lets_in(node).await).then_some(()) }, "the node to hear of it").await;
    }
    let resumed = scene.run("two", &["resume", "sender", SENDER]).await;
    assert_eq!(resumed.code, 0, "{resumed:?}");
    until(|| async { lets_in(&one).await.then_some(()) }, "the node to hear of it").await;
    // A node that comes knows it before the first client does.
    assert_eq!(suspend("one", "sender", SENDER).await.code, 0);
    let three = scene.serve("three").await;
    assert!(!lets_in(&three).await);
}
