//! Lists of next hops: the next one within the same attempt, the first one again once it is back, equals
//! by their weights, and the same demands of each (RFC 5321 §4.5.4.1, RFC 7672 §6).

use crate::relay::{World, expect, heard, lab, saw_no_mail, says};
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::{Block, Lab, LabBuilder, StartTls, Tlsa, TroubleAt};
use std::path::Path;

/// `exch1.test` and `exch2.test`, in front of which mail for `office2.test` arrives.
fn two() -> LabBuilder {
    let plain = |lab: LabBuilder, name: &str| lab.domain(name, |d| d.plain().host(|h| h.tlsa([])));
    plain(plain(lab(), "exch1.test"), "exch2.test")
}

fn host(name: &str, lab: &Lab) -> String {
    format!("mx.{name}:{}", lab.port())
}

async fn world(lab: LabBuilder, keys: impl Fn(&Lab) -> String) -> (World, Config) {
    let mut shared = None;
    let world = World::with(lab, |lab, config| {
        let text = format!("[[destination]]\ndomains = [\"inside.example\"]\n{}\n", keys(lab));
        config.destination = Config::parse(&text, Path::new("suite.toml")).unwrap().destination;
        shared = Some(config.clone());
    });
    (world.await, shared.unwrap())
}

fn in_order(lab: &Lab) -> String {
    format!("next_hop = [{:?}, {:?}]", host("exch1.test", lab), host("exch2.test", lab))
}

#[tokio::test]
async fn a_dead_first_next_hop_costs_no_attempt_and_each_is_named() {
    let (world, config) = world(two(), in_order).await;
    assert_eq!(world.delivers("bob@inside.example").await.host, "mx.exch1.test");
    world.mx("exch1.test").block(Block::Refused).await.unwrap();
    let id = world.mail(&["bob@inside.example"]).await;
    let news = world.news(id, "bob@inside.example", |news| !news.is_empty()).await;
    assert_eq!(news.len(), 1, "one attempt, and it delivers: {news:?}");
    assert_eq!(world.delivered(id, "bob@inside.example").await.host, "mx.exch2.test");
    let report = Checker::new(config, Clock::system()).unwrap().check(&"inside.example".parse().unwrap()).await;
    assert_eq!(report.verdict, Verdict::Warning, "{}", report.text());
    let (first, second) = (host("exch1.test", &world.lab), host("exch2.test", &world.lab));
    assert_eq!(report.next_hop, format!("{first}, {second}"));
    assert!(
        report.summary.contains("but not by every server") && report.summary.contains("mx.exch1.test"),
        "{}",
        report.summary
    );
    assert_eq!(
        report.hosts.iter().map(|host| host.name.as_str()).collect::<Vec<_>>(),
        ["mx.exch1.test", "mx.exch2.test"]
    );
}

#[tokio::test]
async fn equals_share_the_mail_by_their_weights() {
    let keys = |lab: &Lab| {
        let entry = |name: &str, weight: u16| format!("{{ host = {:?}, weight = {weight} }}", host(name, lab));
        format!("next_hop = [{}, {}]", entry("exch1.test", 3), entry("exch2.test", 1))
    };
    let (world, _) = world(two(), keys).await;
    for n in 0..40 {
        world.delivers(&format!("u{n}@inside.example")).await;
    }
    let (first, second) = (world.mx("exch1.test").messages().len(), world.mx("exch2.test").messages().len());
    assert!(first + second == 40 && first > second && second > 2, "{first} and {second}");
}

#[tokio::test]
async fn rfc7672_6_the_second_next_hop_is_held_to_what_the_first_is() {
    let strict = lab()
        .domain("exch1.test", |d| d)
        .domain("exch2.test", |d| d.plain().host(|h| h.tlsa([]).starttls(StartTls::NotOffered)))
        .domain("exch3.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])));
    let keys = |lab: &Lab| {
        let hosts = ["exch1.test", "exch2.test", "exch3.test"].map(|name| format!("{:?}", host(name, lab)));
        format!("next_hop = [{}]\ntls = \"encrypt\"", hosts.join(", "))
    };
    let (world, _) = world(strict, keys).await;
    assert_eq!(world.delivers("bob@inside.example").await.tls, "dane");
    world.mx("exch1.test").block(Block::Refused).await.unwrap();
    let cause = world.defers("bob@inside.example").await;
    expect(&cause, "tlsa-invalid", "4.7.323");
    saw_no_mail(world.mx("exch2.test"));
    assert_eq!(heard(world.mx("exch3.test"), "MAIL"), 0);
}

#[tokio::test]
async fn a_refusal_of_the_recipient_is_final_and_asked_of_nobody_else() {
    let (world, _) = world(two(), in_order).await;
    world.mx("exch1.test").trouble(TroubleAt::Rcpt, says("550 5.1.1 no such user"));
    expect(&world.fails("eve@inside.example").await, "rejected", "5.1.1");
    assert_eq!(world.mx("exch2.test").connections(), 0);
}
