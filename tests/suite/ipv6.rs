//! IPv6 wherever the relay has an address: MX hosts, its own listeners, the DNS, address literals,
//! and how all of them are written (RFC 5321 §4.1.3, §5.1; RFC 6724 §6).
//!
//! All of it is on `::1`. On a machine without IPv6 there is nothing to look at, and each of these
//! tests says so and passes.

use crate::check::check;
use crate::relay::{SENDER, World, content, get, hand_in, heard, lab, saw_no_mail, until};
use crate::report::Report;
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::command::why::{self, Story};
use dane_relay::config::{Config, Upstream};
use dane_relay::envelope::QueueId;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::mx::host::has_ipv6;
use dane_relay::lab::{Block, Certificate, Identity, LabBuilder};
use dane_relay::outcome::DeliveryOutcome;
use dane_relay::spool::event::Event;
use dane_relay::spool::ledger::MessageState;
use dane_relay::spool::open_ledger;
use hickory_proto::rr::RData;
use std::net::{Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Whether there is anything to test here.
#[expect(clippy::print_stdout, reason = "a test that had nothing to look at says so")]
async fn is_here() -> bool {
    let here = has_ipv6().await;
    if !here {
        println!("not tested: this machine has no IPv6, not even on loopback");
    }
    here
}

/// A domain whose host has no IPv4 address.
fn six() -> LabBuilder {
    lab().domain("six.test", |d| d.host(|h| h.ipv6_alone().known(&["bob"])))
}

/// A domain whose host has both; the server at `::1` is `mx.both.test#2`.
fn both(at_ipv6: impl FnOnce(&Arc<Identity>) -> Certificate) -> LabBuilder {
    let identity = Arc::new(Identity::self_signed(&["mx.both.test"]).unwrap());
    let at_ipv6 = at_ipv6(&identity);
    lab().domain("both.test", |d| d.host(|h| h.certificate(Certificate::Given(identity)).and_at_ipv6(at_ipv6)))
}

fn same(identity: &Arc<Identity>) -> Certificate {
    Certificate::Given(Arc::clone(identity))
}

const V6: &str = "mx.both.test#2";

fn v6_loopback() -> SocketAddr {
    (Ipv6Addr::LOCALHOST, 0).into()
}

async fn world(lab: LabBuilder) -> (World, Config) {
    let mut kept: Option<Config> = None;
    let world = World::with(lab, |_, config| {
        config.delivery.connect_timeout = Duration::from_secs(2);
        kept = Some(config.clone());
    });
    (world.await, kept.unwrap())
}

#[tokio::test]
async fn rfc5321_5_1_a_host_with_ipv6_alone_gets_its_mail_over_dane() {
    if !is_here().await {
        return;
    }
    let (world, config) = world(six()).await;
    let id = world.mail(&["bob@six.test"]).await;
    assert_eq!(world.delivered(id, "bob@six.test").await.tls, "dane");
    let story = story(&config, id).await.text();
    assert!(story.contains("tried mx.six.test [::1]:"), "{story}");
    let report = check(&Checker::new(config, Clock::system()).unwrap(), "six.test").await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert!(report.hosts[0].addresses[0].address.starts_with("[::1]:"), "{}", report.text());
}

#[tokio::test]
async fn rfc6724_6_of_both_families_ipv6_is_tried_first() {
    if !is_here().await {
        return;
    }
    let (world, _) = world(both(same)).await;
    assert_eq!(world.delivers("bob@both.test").await.tls, "dane");
    assert_eq!((world.mx(V6).messages().len(), world.mx("mx.both.test").connections()), (1, 0));
}

#[tokio::test]
async fn rfc5321_5_1_when_one_family_refuses_the_other_gets_the_mail_at_once() {
    if !is_here().await {
        return;
    }
    for closed in [V6, "mx.both.test"] {
        let (world, config) = world(both(same)).await;
        world.mx(closed).block(Block::Refused).await.unwrap();
        let id = world.mail(&["bob@both.test"]).await;
        assert_eq!(world.delivered(id, "bob@both.test").await.tls, "dane");
        let attempts = attempts(&config, id).await;
        let ipv6_fails = [("[::1]", "connect-failed"), ("127.", "delivered")];
        let expected = if closed == V6 { ipv6_fails.to_vec() } else { vec![("[::1]", "delivered")] };
        assert_eq!(attempts.len(), expected.len(), "{attempts:?}");
        for ((address, end), (starts, wanted)) in attempts.iter().zip(expected) {
            assert!(address.starts_with(starts) && end == wanted, "{attempts:?}");
        }
    }
}

/// What the ledger says of a message, once it is finished.
async fn story(config: &Config, id: QueueId) -> Story {
    let told = || async {
        let ledger = open_ledger(&config.spool).await.unwrap();
        let story = why::look_up(ledger.as_ref(), &id.to_string(), 1).await.unwrap().stories.pop()?;
        (story.message.standing == MessageState::Finished).then_some(story)
    };
    until(told, "the end of the message").await
}

/// Address and end of each attempt at a message with one recipient, oldest first.
async fn attempts(config: &Config, id: QueueId) -> Vec<(String, String)> {
    let story = story(config, id).await;
    let attempt = |event: &Event| match event {
        Event::Attempt(attempt) => {
            let end = match &attempt.results[0].outcome {
                DeliveryOutcome::Delivered { .. } => "delivered",
                DeliveryOutcome::Failed { cause } => cause.row().word,
            };
            Some((attempt.peer.address.to_string(), end.to_owned()))
        }
        Event::NotTried { .. }
        | Event::Waits { .. }
        | Event::Ended { .. }
        | Event::Told { .. }
        | Event::NotTold { .. }
        | Event::Operator { .. }
        | Event::Broken { .. }
        | Event::Unreadable { .. } => None,
    };
    story.history.iter().filter_map(|happening| attempt(&happening.event)).collect()
}

#[tokio::test]
async fn a_family_that_stays_silent_costs_one_message_its_patience_and_not_the_next() {
    if !is_here().await {
        return;
    }
    let (world, config) = world(both(same)).await;
    world.mx(V6).block(Block::Silent).await.unwrap();
    let mut tried = Vec::new();
    for _ in 0..2 {
        let id = world.mail(&["bob@both.test"]).await;
        assert_eq!(world.delivered(id, "bob@both.test").await.tls, "dane");
        tried.push(attempts(&config, id).await.into_iter().map(|(_, end)| end).collect::<Vec<_>>());
    }
    assert_eq!(tried, [vec!["timed-out", "delivered"], vec!["delivered"]]);
}

#[tokio::test]
async fn rfc7672_2_2_a_server_that_is_wrong_over_ipv6_sees_no_mail_and_the_one_over_ipv4_gets_it() {
    if !is_here().await {
        return;
    }
    let (world, _) = world(both(|_| Certificate::SelfSigned)).await;
    assert_eq!(world.delivers("bob@both.test").await.tls, "dane");
    saw_no_mail(world.mx(V6));
    assert_eq!(world.mx("mx.both.test").messages().len(), 1);
}

#[tokio::test]
async fn rfc6724_6_an_address_without_a_way_to_it_is_no_fault_of_a_domain_that_has_others() {
    // An address of a link, and nobody says which link. This one needs no IPv6.
    let nowhere = RData::AAAA("fe80::25".parse::<Ipv6Addr>().unwrap().into());
    let lab = lab().domain("link.test", |d| d.record("mx.link.test", nowhere));
    let (world, config) = world(lab).await;
    let id = world.mail(&["bob@link.test"]).await;
    assert_eq!(world.delivered(id, "bob@link.test").await.tls, "dane");
    assert_eq!(attempts(&config, id).await.len(), 1, "nobody tried what cannot work");
    let report = check(&Checker::new(config, Clock::system()).unwrap(), "link.test").await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert!(report.notes.iter().any(|note| note.contains("no way to fe80::25")), "{:?}", report.notes);
}

#[tokio::test]
async fn rfc5321_4_1_3_mail_comes_in_and_goes_out_by_ipv6_literals_and_reports_write_them_right() {
    if !is_here().await {
        return;
    }
    let world = World::with(six(), |_, config| {
        config.listen.smtp = vec![v6_loopback()];
        config.listen.address_literals = true;
        config.admin.listen = v6_loopback();
    })
    .await;
    assert!(world.smtp().is_ipv6() && world.relay.admin.is_ipv6());
    let to = "bob@[IPv6:::1]";
    let id = hand_in(world.smtp(), SENDER, &[to], content(to).as_bytes()).await;
    world.delivered(id, to).await;
    let received = &world.mx("six.test").messages()[0];
    assert_eq!(received.rcpt_to, [to]);
    let top = String::from_utf8_lossy(&received.content[..60]).into_owned();
    assert!(top.starts_with("Received: from client.test ([IPv6:::1])\r\n"), "{top}");

    let to = "nobody@[IPv6:::1]";
    hand_in(world.smtp(), SENDER, &[to], content(to).as_bytes()).await;
    let report = Report::read(&world.reports(1).await[0]);
    assert_eq!(report.groups[1]["Remote-MTA"], "dns; [IPv6:::1]");
    assert_eq!(report.groups[1]["Final-Recipient"], format!("rfc822; {to}"));
    assert!(report.text.contains("[::1]"), "{}", report.text);
    assert_eq!(get(world.relay.admin, "/healthz").await.0, 200);
}

#[tokio::test]
async fn rfc5321_4_1_3_loopback_by_an_ipv6_literal_is_refused_unless_it_is_allowed() {
    let world = World::with(lab(), |_, config| {
        config.delivery.allow_loopback = false;
        config.listen.address_literals = true;
    })
    .await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    for literal in ["[IPv6:::1]", "[IPv6:::ffff:127.0.0.1]"] {
        let handed = client.send(SENDER, &[&format!("bob@{literal}")], b"Subject: x\r\n\r\n").await.unwrap();
        assert_eq!(handed.rcpt[0].enhanced.map(|code| code.to_string()).as_deref(), Some("5.4.4"), "{literal}");
        client.command("RSET").await.unwrap();
    }
}

#[tokio::test]
async fn the_dns_is_asked_over_ipv6_by_udp_and_by_tcp() {
    if !is_here().await {
        return;
    }
    for scheme in ["udp", "tcp"] {
        let lab = lab().domain("dane.test", |d| d).start().await.unwrap();
        let resolver = lab.another_dns_on_ipv6().await.unwrap();
        let upstream = resolver.upstream().replace("udp://", &format!("{scheme}://"));
        assert!(upstream.contains("://[::1]:"), "{upstream}");
        let mut kept: Option<Config> = None;
        let world = World::beside(lab, |_, config| {
            config.dns.upstreams = vec![upstream.parse::<Upstream>().unwrap()];
            kept = Some(config.clone());
        })
        .await;
        assert_eq!(world.delivers("bob@dane.test").await.tls, "dane", "{upstream}");
        assert_eq!(world.lab.dns().questions().len(), 0, "all questions went over IPv6");
        let report = check(&Checker::new(kept.unwrap(), Clock::system()).unwrap(), "dane.test").await;
        assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
        assert!(report.dns.iter().all(|t| t.path.as_ref().is_some_and(|p| p.contains("[::1]"))), "{:?}", report.dns);
        assert_eq!(heard(world.mx("dane.test"), "MAIL"), 1);
    }
}
