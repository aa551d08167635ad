//! A host without a route to the recipient's server: what is this host's own is said as this host's own, by
//! delivery and by the check alike.
//!
//! The test runs itself once more in a network of its own, where there is loopback and nothing else.

use crate::relay::{World, lab};
use dane_relay::check::analyse::Certainty;
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::outcome::{DeliveryOutcome, Side};
use hickory_proto::rr::RData;
use hickory_proto::rr::rdata::A;
use std::net::Ipv4Addr;
use std::process::Command;

/// Set for the run inside.
const INSIDE: &str = "RELAY_TEST_WITHOUT_ROUTES";
/// An address for documentation, which is nobody's (RFC 5737).
const AWAY: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 9);

#[test]
fn a_missing_route_is_this_hosts_own_and_the_check_says_what_delivery_meets() {
    if std::env::var_os(INSIDE).is_some() {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        return runtime.block_on(without_routes());
    }
    let name = "no_route::a_missing_route_is_this_hosts_own_and_the_check_says_what_delivery_meets";
    let script = "ip link set lo up && exec \"$0\" \"$@\"";
    let mut inside = Command::new("unshare");
    // Whoever is root needs no user namespace, which a container may forbid.
    let is_root = Command::new("unshare").args(["--net", "true"]).output().is_ok_and(|out| out.status.success());
    let namespaces: &[&str] = if is_root { &["--net"] } else { &["--user", "--map-root-user", "--net"] };
    inside.args(namespaces).args(["sh", "-c", script]);
    inside.arg(std::env::current_exe().unwrap()).args(["--exact", name, "--nocapture"]).env(INSIDE, "1");
    let ended = inside.output().expect("unshare (util-linux) makes a network of its own");
    let said = format!("{}{}", String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success() && said.contains("1 passed"), "{said}");
}

async fn without_routes() {
    let mut shared: Option<Config> = None;
    let lab = lab()
        .domain("elsewhere.test", |d| d.null_mx().record("mx.elsewhere.test", RData::A(A(AWAY))))
        .domain("away.test", |d| d.hosted_by(10, "mx.elsewhere.test"));
    let world = World::with(lab, |_, config| shared = Some(config.clone())).await;
    let id = world.mail(&["bob@away.test"]).await;
    let first = world.news(id, "bob@away.test", |known| !known.is_empty()).await.remove(0);
    let DeliveryOutcome::Failed { cause } = first else { panic!("{first:?}") };
    assert_eq!((cause.row().word, cause.row().side), ("no-route", Side::Here), "{cause:?}");
    let report = Checker::new(shared.unwrap(), Clock::system()).unwrap().check(&"away.test".parse().unwrap()).await;
    let found = &report.diagnosis;
    assert_eq!(
        (report.verdict, found.word.as_str(), found.side, found.certainty),
        (Verdict::Fault, "no-route", Some(Side::Here), Certainty::Proven),
        "{}",
        report.text()
    );
    assert!(report.text().starts_with("FAULT  here  proven  no-route  away.test"), "{}", report.text());
}
