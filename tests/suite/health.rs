//! Health that tells the truth: with a box on the path that drops the answers of rolled-over domains, and with a
//! DNS that is dead, metrics, `/readyz` and the look at this host say so; and they say when it is over.

use crate::relay::{World, config, get, lab, until};
use dane_relay::check::Verdict;
use dane_relay::check::selfcheck::{self, SelfCheck};
use dane_relay::clock::Clock;
use dane_relay::lab::LabBuilder;
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::story::stage::{CANARY, canary_zone};
use dane_relay::net::{Network, Stream};
use dane_relay::pipeline::outbound::Outbound;
use dane_relay::resolve::answer::RecordType;
use std::net::SocketAddr;
use std::sync::Arc;

const COUNTS: [usize; 3] = [5, 13, 60];

/// Domains that are rolling their keys over, and some that are not.
fn rollovers() -> LabBuilder {
    let with =
        |lab: LabBuilder, count: usize| lab.domain(&format!("n{count}.test"), |d| d.host(|h| h.and_misfits(count - 1)));
    COUNTS.into_iter().chain([1, 2, 4]).fold(lab().domain(CANARY, canary_zone), with)
}

async fn path_healthy(world: &World) -> Option<f64> {
    let metrics = world.metrics().await;
    let of_udp = |name: &&String| name.starts_with("relay_dns_path_healthy") && name.contains("\"udp\"");
    metrics.keys().find(of_udp).map(|name| metrics[name])
}

/// Until the metric of the path has this value.
async fn until_healthy(world: &World, expected: f64) {
    let is_so = async || (path_healthy(world).await == Some(expected)).then_some(());
    until(is_so, "the path in the metrics").await;
}

async fn mail_to_all(world: &World, counts: &[usize]) {
    for count in counts {
        let to = format!("bob@n{count}.test");
        let id = world.mail(&[&to]).await;
        world.news(id, &to, |known| !known.is_empty()).await;
    }
}

#[tokio::test]
async fn a_path_that_loses_the_sets_of_rolled_over_domains_is_not_healthy_and_is_again_afterwards() {
    let world = World::with(rollovers(), |_, _| {}).await;
    mail_to_all(&world, &[1, 2, 4]).await;
    until_healthy(&world, 1.0).await;
    assert_eq!(world.admin("/readyz").await, "ready\n");
    world.lab.dns().set_path([PathFault::DropTlsaOver(4)]);
    mail_to_all(&world, &COUNTS).await;
    until_healthy(&world, 0.0).await;
    let ready = world.admin("/readyz").await;
    assert!(ready.starts_with("ready\ndegraded: DNS by udp://") && ready.contains("lost lately"), "{ready}");
    let metrics = world.metrics().await;
    let lost = |result: &str, kind: &str| {
        let of = |name: &&String| {
            name.starts_with("relay_dns_path_names_lately")
                && [result, kind, "udp"].iter().all(|label| name.contains(&format!("\"{label}\"")))
        };
        metrics.keys().find(of).map(|name| metrics[name])
    };
    assert_eq!((lost("lost", "TLSA"), lost("lost", "A")), (Some(3.0), Some(0.0)), "by type: {metrics:#?}");
    world.lab.dns().set_path([]);
    until_healthy(&world, 1.0).await;
    assert_eq!(world.admin("/readyz").await, "ready\n");
}

#[tokio::test]
async fn with_a_dead_dns_no_path_is_healthy() {
    let world = World::with(rollovers(), |_, config| config.dns.timeout = std::time::Duration::from_millis(300)).await;
    world.lab.dns().set_path([PathFault::DropAll]);
    mail_to_all(&world, &COUNTS).await;
    until_healthy(&world, 0.0).await;
    assert!(world.admin("/readyz").await.contains("degraded: DNS"));
}

#[tokio::test]
async fn one_dead_domain_says_nothing_about_the_path() {
    let world = World::with(rollovers(), |_, _| {}).await;
    world.lab.world().zone_fault("n5.test", dane_relay::lab::AnswerFault::ServFail).unwrap();
    mail_to_all(&world, &[1, 5]).await;
    until_healthy(&world, 1.0).await;
}

fn status<'a>(seen: &'a [SelfCheck], check: &str) -> &'a SelfCheck {
    seen.iter().find(|one| one.check == check).unwrap_or_else(|| panic!("no {check} in {seen:#?}"))
}

#[tokio::test]
async fn the_look_at_this_host_tries_the_canary_and_the_relays_own_history() {
    let (lab, folder) = (rollovers().start().await.unwrap(), tempfile::tempdir().unwrap());
    let mut config = config(&lab, folder.path());
    config.dns.timeout = std::time::Duration::from_millis(300);
    config.check.canary = Some(CANARY.parse().unwrap());
    let out = Outbound::for_command(config, Clock::system()).unwrap();
    for count in [2, 5, 60] {
        let owner = format!("_{}._tcp.mx.n{count}.test", lab.port());
        out.dns.lookup(&owner, RecordType::Tlsa).await;
    }
    let well = selfcheck::look(&out).await;
    for check in ["resolver", "canary", "history"] {
        assert_eq!(status(&well, check).number(), 0, "{well:#?}");
    }
    lab.dns().set_path([PathFault::DropTlsaOver(4)]);
    let seen = selfcheck::look(&out).await;
    let canary = status(&seen, "canary");
    assert_eq!(canary.status, Verdict::Fault, "{seen:#?}");
    assert!(canary.detail.contains("5, 8, 16") && canary.detail.contains("1, 4 come"), "{canary:?}");
    assert_eq!(status(&seen, "history").status, Verdict::Fault, "{seen:#?}");
    assert_eq!(status(&seen, "resolver").status, Verdict::Fault, "what was seen just now counts: {seen:#?}");
    assert_eq!(status(&seen, "validation").status, Verdict::Ok, "the root's keys still come");
}

#[tokio::test]
async fn what_nobody_looked_at_has_a_value_of_its_own() {
    let (lab, folder) = (lab().start().await.unwrap(), tempfile::tempdir().unwrap());
    let out = Outbound::for_command(config(&lab, folder.path()), Clock::system()).unwrap();
    let seen = selfcheck::look(&out).await;
    for check in ["port-25", "canary", "history", "next-hops", "policy-host"] {
        assert_eq!(status(&seen, check).number(), 4, "{seen:#?}");
    }
}

async fn unready(world: &World) -> String {
    let (status, text) = get(world.relay.admin, "/readyz").await;
    assert_eq!(status, 503, "{text}");
    text
}

#[tokio::test]
async fn a_relay_whose_sessions_are_all_taken_is_not_ready_until_one_ends() {
    let world = World::with(lab(), |_, config| config.listen.max_sessions = 2).await;
    let first = SmtpClient::ready(world.smtp()).await.unwrap();
    assert_eq!(world.admin("/readyz").await, "ready\n");
    let second = SmtpClient::ready(world.smtp()).await.unwrap();
    let text = unready(&world).await;
    assert!(text.starts_with("not ready: all 2 sessions of [listen] max_sessions are taken"), "{text}");
    assert!(SmtpClient::ready(world.smtp()).await.is_err(), "and so the next client is sent away");
    second.quit().await.unwrap();
    until(async || (world.admin("/readyz").await == "ready\n").then_some(()), "a free session").await;
    first.quit().await.unwrap();
}

#[tokio::test]
async fn a_relay_to_which_nobody_may_hand_mail_in_is_not_ready() {
    let world = World::with(lab(), |_, config| config.listen.clients = Vec::new()).await;
    assert_eq!(unready(&world).await, "not ready: nobody may hand mail in: [listen] clients is empty\n");
}

/// A fault of our own, in every attempt at a server.
struct Faulty;

#[async_trait::async_trait]
impl Network for Faulty {
    async fn connect(&self, _address: SocketAddr) -> std::io::Result<Box<dyn Stream>> {
        panic!("a fault that a test makes")
    }
}

#[tokio::test]
async fn a_relay_that_breaks_in_every_delivery_is_not_ready_and_loses_nothing() {
    let lab = lab().domain("dane.test", |d| d).start().await.unwrap();
    let world = World::over(Arc::new(Faulty), lab, |_, _| {}).await;
    assert_eq!(world.admin("/readyz").await, "ready\n");
    world.mail(&["bob@dane.test"]).await;
    let broken = async || (get(world.relay.admin, "/readyz").await.0 == 503).then_some(());
    until(broken, "three broken attempts").await;
    let text = unready(&world).await;
    assert!(text.starts_with("not ready: a fault of the relay itself ended the last "), "{text}");
    assert_eq!(world.metrics().await["relay_queue_messages"], 1.0, "the mail waits");
}
