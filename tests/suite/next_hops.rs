//! The operator's own names: next hops that only the inside knows, views of its own of zones that
//! are signed outside, and private zones. An unsigned resolver stands for the inside; the lab's
//! signed DNS for the world.

use crate::process::{Serving, run};
use crate::relay::{World, config, configuration_file, expect, lab};
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::dns::server::DnsServer;
use dane_relay::lab::dns::world;
use dane_relay::lab::{AnswerFault, Lab, LabBuilder, Signing, Tlsa};
use dane_relay::outcome::{Cause, Class, Side};
use dane_relay::resolve::Security;
use dane_relay::resolve::answer::{Answer, Data, RecordType as Asked};
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::event::nobody;
use hickory_proto::rr::rdata::{A, MX};
use hickory_proto::rr::{Name, RData, RecordType};
use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// An unsigned resolver inside, where these names have the address of this host of the lab.
async fn inside(lab: &Lab, names: &[(&str, &str)]) -> DnsServer {
    let world = world::World::new(Clock::system()).unwrap();
    for (name, host) in names {
        let zone = name.split_once('.').unwrap().1;
        // Two hosts may share a zone.
        let _there_already = world.add_zone(zone, Signing::Unsigned);
        let IpAddr::V4(address) = lab.mx(host).unwrap().address().ip() else { panic!("{host}") };
        world.add(&format!("{name}."), RData::A(A(address))).unwrap();
        let exchange = Name::from_ascii(format!("{name}.")).unwrap();
        world.add(&format!("{zone}."), RData::MX(MX::new(10, exchange))).unwrap();
    }
    DnsServer::start(Arc::new(world)).await.unwrap()
}

/// Mail to the sender's domain goes to this next hop.
fn back_to(name: &str, lab: &Lab) -> String {
    to("office.test", name, lab)
}

fn to(domain: &str, name: &str, lab: &Lab) -> String {
    format!("[[destination]]\ndomains = [\"{domain}\"]\nnext_hop = \"{name}:{}\"\n", lab.port())
}

/// Overlays what a text says of `[dns]` and of destinations.
fn set(config: &mut Config, text: &str) {
    let said = Config::parse(text, Path::new("suite.toml")).unwrap();
    config.dns.private_zones = said.dns.private_zones;
    config.destination = said.destination;
}

async fn beside(lab: Lab, inside: &DnsServer, text: &str) -> World {
    World::beside(lab, |_, config| {
        config.dns.system_servers = vec![inside.address()];
        set(config, text);
    })
    .await
}

/// Exchange, which only the inside has a name for.
fn with_exchange() -> LabBuilder {
    lab().domain("exchange.test", |d| d.plain().host(|h| h.tlsa([])))
}

async fn report_comes_back(world: &World) {
    expect(&world.fails("bob@nowhere.test").await, "domain-not-found", "5.1.2");
    let reports = world.mx("exchange.test").wait_for_messages(1, crate::relay::PATIENCE).await.unwrap();
    assert_eq!(reports[0].mail_from, "", "a report");
}

#[tokio::test]
async fn rfc6762_a_report_goes_back_to_a_host_that_the_root_proves_not_to_be_there() {
    let lab = with_exchange().start().await.unwrap();
    let inside = inside(&lab, &[("exch.corp.local", "exchange.test")]).await;
    let text = back_to("Exch.Corp.local.", &lab);
    let world = beside(lab, &inside, &text).await;
    report_comes_back(&world).await;
    let leaked =
        world.lab.dns().questions().into_iter().filter(|(name, ..)| name.contains("local")).collect::<Vec<_>>();
    assert!(leaked.is_empty(), "special names are nothing for the public DNS: {leaked:?}");
}

#[tokio::test]
async fn an_unsigned_view_inside_of_a_signed_zone_names_the_next_hop() {
    // The zone is signed outside, and has no such host there.
    let lab = with_exchange().domain("corp.test", |d| d).start().await.unwrap();
    let inside = inside(&lab, &[("exch.corp.test", "exchange.test")]).await;
    let text = back_to("exch.corp.test", &lab);
    let world = World::beside(lab, |_, config| {
        config.dns.system_servers = vec![inside.address()];
        // As by default: the system first, whose unsigned answers prove nothing.
        config.dns.upstreams.insert(0, format!("udp://{}", inside.address()).parse().unwrap());
        set(config, &text);
    });
    report_comes_back(&world.await).await;
}

#[tokio::test]
async fn the_hosts_file_comes_before_any_dns() {
    let lab = with_exchange().start().await.unwrap();
    let hosts = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(hosts.path(), format!("{} exch.corp.local exch\n", lab.mx("exchange.test").unwrap().address().ip()))
        .unwrap();
    let text = back_to("exch", &lab);
    let world = World::beside(lab, |_, config| {
        config.dns.hosts = hosts.path().to_owned();
        set(config, &text);
    });
    report_comes_back(&world.await).await;
}

#[tokio::test]
async fn rfc7672_2_neither_inside_nor_hosts_file_frees_a_next_hop_of_its_tlsa_records() {
    let lab = with_exchange().domain("smart.test", |d| d).start().await.unwrap();
    // Forged, or outdated: the name leads to another host, whose certificate is another one.
    let inside = inside(&lab, &[("mx.smart.test", "exchange.test")]).await;
    let hosts = tempfile::NamedTempFile::new().unwrap();
    let pin = |host: &str| format!("{} mx.smart.test\n", lab.mx(host).unwrap().address().ip());
    let (wrong, right) = (pin("exchange.test"), pin("smart.test"));
    let text = to("partner.example", "mx.smart.test", &lab);
    let world = World::beside(lab, |_, config| {
        config.dns.system_servers = vec![inside.address()];
        config.dns.hosts = hosts.path().to_owned();
        set(config, &text);
    });
    let world = world.await;
    let delivered = world.delivers("bob@partner.example").await;
    assert_eq!((delivered.host.as_str(), delivered.tls), ("mx.smart.test", "dane"));
    std::fs::write(hosts.path(), wrong).unwrap();
    expect(&world.defers("eve@partner.example").await, "tlsa-invalid", "4.7.323");
    assert_eq!(world.mx("exchange.test").messages().len(), 0);
    std::fs::write(hosts.path(), right + "# and so it is longer\n").unwrap();
    assert_eq!(world.delivers("carol@partner.example").await.tls, "dane");
}

#[tokio::test]
async fn rfc7672_2_1_while_nobody_knows_of_tlsa_records_a_next_hop_waits_unless_they_are_nothing_to_it() {
    let forge = |d: dane_relay::lab::DomainSpec| {
        d.fault("mx.smart.test", RecordType::A, AnswerFault::ServFail).fault(
            "mx.smart.test",
            RecordType::AAAA,
            AnswerFault::ServFail,
        )
    };
    let lab = with_exchange().domain("smart.test", forge).start().await.unwrap();
    let inside = inside(&lab, &[("mx.smart.test", "exchange.test")]).await;
    let free = to("free.example", "mx.smart.test", &lab)
        + "tls = \"opportunistic\"\nreason = \"inside\"\nuntil = 2199-12-31\n";
    let text = to("partner.example", "mx.smart.test", &lab) + &free;
    let world = beside(lab, &inside, &text).await;
    let cause = world.defers("bob@partner.example").await;
    expect(&cause, "next-hop-unknown", "4.4.4");
    assert!(cause.advice().contains("[dns] private_zones"), "{}", cause.advice());
    assert_eq!(world.delivers("bob@free.example").await.host, "mx.smart.test");
}

#[tokio::test]
async fn a_next_hop_that_nobody_knows_is_ours_and_ends_only_with_the_time_of_the_message() {
    let lab = with_exchange().start().await.unwrap();
    let inside = inside(&lab, &[("exch.corp.local", "exchange.test")]).await;
    let text = to("partner.example", "gone.corp.local", &lab)
        + &to("public.example", "gone.office.test", &lab)
        + &to("onion.example", "a.onion", &lab)
        + &back_to("exch.corp.local", &lab);
    let world = World::beside(lab, |_, config| {
        config.dns.system_servers = vec![inside.address()];
        config.retry.expire_after = Duration::from_secs(2);
        set(config, &text);
    });
    let world = world.await;
    for domain in ["partner.example", "public.example", "onion.example"] {
        let (to, id) = (format!("bob@{domain}"), world.mail(&[&format!("bob@{domain}")]).await);
        let first = world.deferred(id, &to, 1).await;
        assert_eq!(
            (first.row().word, first.row().side, first.class()),
            ("next-hop-unknown", Side::Here, Class::Transient)
        );
        let last = world.failed(id, &to).await;
        assert!(matches!(&last, Cause::Expired { last: Some(root), .. } if **root == first), "{last:?}");
        assert_eq!(last.row().side, Side::Here);
    }
}

#[tokio::test]
async fn rfc7646_below_a_private_zone_only_its_own_servers_are_asked_and_nothing_is_validated() {
    let lab = with_exchange().domain("corp.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])));
    let lab = lab.start().await.unwrap();
    let server = inside(&lab, &[("mx.corp.test", "exchange.test")]).await;
    let zone = format!("[dns]\nprivate_zones = [{{ zone = \"corp.test\", servers = [\"{}\"] }}]\n", server.address());
    let text = zone + &to("partner.example", "mx.corp.test", &lab);
    let world = World::beside(lab, |_, config| set(config, &text)).await;
    for to in ["bob@corp.test", "bob@partner.example"] {
        let delivered = world.delivers(to).await;
        assert_eq!((delivered.host.as_str(), delivered.tls), ("mx.corp.test", "unauthenticated"), "{to}");
    }
    assert_eq!(world.mx("exchange.test").messages().len(), 2);
    let public = world.lab.dns().questions().into_iter().filter(|(name, ..)| name.contains("corp.test"));
    assert_eq!(public.collect::<Vec<_>>(), []);
}

/// Public DNS has signed records for the private name, which do not fit: nothing of them counts.
#[tokio::test]
async fn rfc7646_an_alias_from_outside_into_a_private_zone_is_followed_inside() {
    let lab = with_exchange().domain("corp.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])));
    let lab = lab.domain("signed.test", |d| d).start().await.unwrap();
    let outside = lab.world();
    for (owner, to) in [("host.signed.test", "mx.corp.test"), ("deep.signed.test", "none.corp.test")] {
        outside.add_cname(owner, to).unwrap();
    }
    let server = inside(&lab, &[("mx.corp.test", "exchange.test")]).await;
    let zone = format!("[dns]\nprivate_zones = [{{ zone = \"corp.test\", servers = [\"{}\"] }}]\n", server.address());
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&lab, folder.path());
    set(&mut config, &zone);
    let dns = Dns::new(&config, Clock::system(), nobody()).unwrap();
    let host = lab.mx("exchange.test").unwrap().address().ip();
    let (answer, _) = dns.lookup("host.signed.test", Asked::A).await;
    let Answer::Found(found) = answer else { panic!("{answer:?}") };
    assert_eq!((found.security, found.data), (Security::Insecure, vec![Data::Address(host)]));
    let (answer, _) = dns.lookup("deep.signed.test", Asked::A).await;
    assert!(matches!(answer, Answer::NxDomain(Security::Insecure)), "{answer:?}");
    let public = lab.dns().questions().into_iter().filter(|(name, ..)| name.contains("corp.test"));
    assert_eq!(public.collect::<Vec<_>>(), [], "nobody outside is asked about a name inside");
}

#[tokio::test]
async fn rfc6761_mail_to_a_special_name_goes_back_in_plain_words_and_nobody_is_asked() {
    let world = World::start(lab()).await;
    for domain in ["host.local", "office.internal", "nas.home.arpa", "a.onion", "localhost", "x.invalid"] {
        let cause = world.fails(&format!("bob@{domain}")).await;
        expect(&cause, "special-use-domain", "5.1.2");
        assert_eq!(cause.row().side, Side::Sender);
        assert!(cause.advice().contains("[[destination]]"), "{}", cause.advice());
    }
    let questions = world.lab.dns().questions();
    let leaked = |name: &str| {
        ["local.", "internal.", "arpa.", "onion.", "localhost.", "invalid."].iter().any(|s| name.ends_with(s))
    };
    assert_eq!(questions.iter().filter(|(name, ..)| leaked(name)).collect::<Vec<_>>(), Vec::<&_>::new());
}

#[tokio::test]
async fn a_check_blames_the_configuration_for_a_next_hop_that_is_not_found() {
    let broken = |d: dane_relay::lab::DomainSpec| {
        d.fault("mx.smart.test", RecordType::A, AnswerFault::ServFail).fault(
            "mx.smart.test",
            RecordType::AAAA,
            AnswerFault::ServFail,
        )
    };
    let lab = with_exchange().domain("smart.test", broken).start().await.unwrap();
    let inside = inside(&lab, &[("exch.corp.local", "exchange.test")]).await;
    let text = to("gone.example", "gone.corp.local", &lab)
        + &to("public.example", "gone.office.test", &lab)
        + &to("broken.example", "mx.smart.test", &lab)
        + &back_to("exch.corp.local", &lab);
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&lab, folder.path());
    config.dns.system_servers = vec![inside.address()];
    set(&mut config, &text);
    let checker = Checker::new(config, Clock::system()).unwrap();
    for domain in ["gone.example", "public.example", "broken.example"] {
        let report = checker.check(&domain.parse().unwrap()).await;
        let text = report.text();
        assert_eq!(report.fault.as_ref().map(|fault| fault.cause), Some("next-hop-unknown"), "{text}");
        assert_ne!(report.diagnosis.side, Some(Side::Recipient), "{text}");
        assert_eq!(report.verdict, Verdict::Fault, "{text}");
        assert!(text.contains("nothing is lost") && !text.contains("goes back to its sender"), "{text}");
    }
    let good = checker.check(&"office.test".parse().unwrap()).await;
    assert_eq!(good.verdict, Verdict::Ok, "{}", good.text());
    assert!(good.hosts[0].no_dane.is_some_and(|why| why.contains("private")), "{}", good.text());
    let special = checker.check(&"host.local".parse().unwrap()).await;
    assert_eq!(special.diagnosis.word, "special-use-domain", "{}", special.text());
}

#[tokio::test]
async fn the_start_and_config_check_warn_of_names_that_are_not_found_and_status_shows_private_zones() {
    let lab = with_exchange().domain("smart.test", |d| d.host(|h| h.tlsa([]))).start().await.unwrap();
    let inside = inside(&lab, &[("exch.corp.local", "exchange.test")]).await;
    let folder = tempfile::tempdir().unwrap();
    let path = configuration_file(&lab, folder.path());
    let own = format!(
        "system_servers = [\"{server}\"]\nprivate_zones = [\"corp.local\", {{ zone = \"dead.test\", servers = [\"127.0.0.1:9\"] }}]\n",
        server = inside.address()
    );
    let text = std::fs::read_to_string(&path).unwrap();
    let mut text = text.replace(&format!("system_servers = [\"{}\"]\n", lab.dns().address()), &own);
    assert!(text.contains(&own), "{text}");
    let next_hops = to("gone.example", "gone.corp.local", &lab) + &back_to("exch.corp.local", &lab);
    write!(text, "{next_hops}").unwrap();
    std::fs::write(&path, &text).unwrap();
    let file = path.to_str().unwrap();

    let checked = run(["config", "check", "--config", file]).await;
    assert_eq!(checked.code, 0, "{checked:?}");
    for words in [
        "[[destination]] gone.example: next_hop gone.corp.local: ",
        "[dns] private_zones: dead.test (asked at 127.0.0.1:9)",
    ] {
        assert!(checked.stderr.contains(words), "{words} is not in {}", checked.stderr);
    }
    assert!(!checked.stderr.contains("exch.corp.local"), "{}", checked.stderr);

    let relay = Serving::start(&path).await;
    let status = run(["status", "--config", file]).await.stdout;
    let status = status.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(status.contains("corp.local (asked at the resolvers of the system): nothing is validated"), "{status}");
    let found = run(["dns", "exch.corp.local", "A", "--config", file]).await;
    assert!(found.code == 0 && found.stdout.starts_with("INSECURE"), "{found:?}");
    assert!(found.stdout.contains("private zone of the configuration"), "{found:?}");
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
}
