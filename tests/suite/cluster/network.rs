//! A network between a node and its database that is cut, or swallows what is sent.

use super::load::{Load, UNDER_WAY, rounds};
use super::proxy::{NetworkState, Proxy};
use super::{ClusterScene, LEASE};
use crate::postgres_server::url;
use crate::process::Serving;
use crate::relay::{get, heard, until};
use std::time::Duration;

/// A node whose way to the database can be disturbed.
async fn behind(scene: &ClusterScene, proxy: &Proxy, node: &str) -> Serving {
    let folder = scene.folder.path().join(node);
    std::fs::create_dir(&folder).unwrap();
    scene.write(&folder, node, &format!("url = {:?}", url(&[proxy.port()], "relay")));
    scene.serve(node).await
}

async fn is_ready(node: &Serving, status: u16) {
    let ready = || async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        (get(node.admin, "/readyz").await.0 == status).then_some(())
    };
    until(ready, "the node to notice").await;
}

/// Under load, one node of two loses its database for longer than a lease and has it again.
async fn loses_its_way(state: NetworkState) {
    let scene = ClusterScene::new().await;
    let proxy = Proxy::to(scene.server.port()).await;
    let nodes = [scene.serve("one").await, behind(&scene, &proxy, "two").await];
    let load = Load::on(&nodes.each_ref().map(|node| node.smtp));
    for _ in 0..rounds() {
        load.more(40).await;
        proxy.is(state);
        is_ready(&nodes[1], 503).await;
        load.more(40).await;
        tokio::time::sleep(LEASE).await;
        proxy.is(NetworkState::Whole);
        is_ready(&nodes[1], 200).await;
        load.more(40).await;
    }
    let acknowledged = load.end().await;
    scene.all_ends().await;
    scene.nothing_is_lost(&acknowledged, UNDER_WAY * rounds()).await;
    assert_eq!(scene.node("two").await["state"], "running");
}

#[tokio::test]
async fn rfc5321_4_2_5_a_node_that_is_cut_off_takes_no_mail_and_loses_none() {
    loses_its_way(NetworkState::Cut).await;
}

#[tokio::test]
async fn rfc5321_4_2_5_a_node_whose_database_falls_silent_takes_no_mail_and_loses_none() {
    loses_its_way(NetworkState::Silent).await;
}

#[tokio::test]
async fn rfc5321_6_1_a_node_that_is_cut_off_past_its_lease_begins_nothing_and_records_nothing() {
    let scene = ClusterScene::new().await;
    let proxy = Proxy::to(scene.server.port()).await;
    let two = behind(&scene, &proxy, "two").await;
    scene.takes(LEASE * 2);
    scene.mail(&two, 1).await;
    let host = || scene.lab.mx("good.test").unwrap();
    let begun = || heard(host(), "DATA") + heard(host(), "BDAT");
    until(|| async { (begun() > 0).then_some(()) }, "the delivery to begin").await;
    // Its content is with the server by then, which takes its time to say so.
    tokio::time::sleep(Duration::from_secs(1)).await;
    proxy.is(NetworkState::Cut);
    scene.takes(Duration::ZERO);
    let one = scene.serve("one").await;
    scene.all_ends().await;
    // The one that is cut off brings to its end what it has begun, and does not know of the other.
    until(|| async { (scene.arrived() == 2).then_some(()) }, "the end of what was begun").await;
    proxy.is(NetworkState::Whole);
    is_ready(&two, 200).await;
    let says = || async { two.log().iter().any(|line| line.contains("passed to another worker")).then_some(()) };
    until(says, "it to find its claim gone").await;
    scene.is_whole(1).await;
    assert_eq!(begun(), 2);
    drop(one);
}
