//! MTA-STS on the way out: what an enforced policy stops, what a testing one only counts, and
//! that no policy stands in for DANE (RFC 8461). The fetching itself is tested beside its code.

use crate::relay::{World, expect, heard, lab, saw_no_mail};
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::config::{Config, Destination};
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::sts::spec::PolicyHostManner;
use dane_relay::lab::{AnswerFault, Certificate, DomainSpec, HostSpec, LabBuilder, StartTls, Tlsa};
use hickory_proto::rr::RecordType;
use std::path::Path;
use std::time::Duration;

/// A host whose certificate the lab's authority has issued for its name.
fn issued(host: HostSpec) -> HostSpec {
    host.certificate(Certificate::Issued)
}

async fn with_checker(lab: LabBuilder) -> (World, Checker) {
    with_config(lab, |_config| {}).await
}

async fn with_config(lab: LabBuilder, change: impl FnOnce(&mut Config)) -> (World, Checker) {
    let mut shared: Option<Config> = None;
    let world = World::with(lab, |_lab, config| {
        change(config);
        shared = Some(config.clone());
    });
    (world.await, Checker::new(shared.unwrap(), Clock::system()).unwrap())
}

fn destinations(text: &str) -> Vec<Destination> {
    Config::parse(text, Path::new("suite.toml")).unwrap().destination
}

/// What a check says of a domain: how mail is protected, or what stops it.
async fn foretold(checker: &Checker, domain: &str) -> Result<&'static str, &'static str> {
    let report = checker.check(&domain.parse().unwrap()).await;
    let tls = report.hosts.iter().flat_map(|host| &host.addresses).find_map(|address| address.tls.as_ref());
    match &report.fault {
        Some(fault) => Err(fault.cause),
        None => Ok(tls.map_or("nothing", |tls| tls.word())),
    }
}

#[tokio::test]
async fn rfc8461_4_2_the_certificate_must_be_for_the_host_and_not_for_the_domain() {
    let lab = lab()
        .domain("good.test", |d| d.plain().host(issued).mta_sts(|p| p))
        .domain("owndomain.test", |d| {
            d.plain().host(|h| h.certificate(Certificate::IssuedFor("owndomain.test".into()))).mta_sts(|p| p)
        })
        .domain("commonname.test", |d| d.plain().host(|h| h.certificate(Certificate::IssuedCommonName)).mta_sts(|p| p))
        .domain("selfsigned.test", |d| d.plain().mta_sts(|p| p));
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@good.test").await.tls, "webpki");
    // RFC 8461 §7.1: SNI is the MX host.
    let sni = world.mx("good.test").messages()[0].tls.clone().unwrap().sni;
    assert_eq!(sni.as_deref(), Some("mx.good.test"));
    for (domain, word) in [
        ("owndomain.test", "certificate-host-mismatch"),
        ("commonname.test", "certificate-host-mismatch"),
        ("selfsigned.test", "certificate-not-trusted"),
    ] {
        expect(&world.defers(&format!("bob@{domain}")).await, word, "4.7.5");
        saw_no_mail(world.mx(domain));
    }
}

#[tokio::test]
async fn rfc8461_5_the_next_listed_host_is_tried_in_the_usual_order() {
    let lab = lab()
        .domain("two.test", |d| d.plain().add_host("mx2.two.test", 20, issued).mta_sts(|p| p.mx(&["*.two.test"])))
        .domain("unlisted.test", |d| {
            d.plain().host(issued).add_host("mx2.unlisted.test", 20, issued).mta_sts(|p| p.mx(&["mx2.unlisted.test"]))
        });
    let world = World::start(lab).await;
    // The first host has a certificate of its own making.
    assert_eq!(world.delivers("bob@two.test").await.host, "mx2.two.test");
    assert!(heard(world.mx("mx.two.test"), "STARTTLS") > 0, "it was tried first");
    assert_eq!(world.delivers("bob@unlisted.test").await.host, "mx2.unlisted.test");
    assert_eq!(heard(world.mx("mx.unlisted.test"), "EHLO"), 0, "what is not listed is not spoken to");
}

#[tokio::test]
async fn rfc8461_4_1_a_host_outside_the_policy_gets_nothing() {
    let world =
        World::start(lab().domain("moved.test", |d| d.plain().host(issued).mta_sts(|p| p.mx(&["old.moved.test"]))))
            .await;
    expect(&world.defers("bob@moved.test").await, "sts-mx-not-listed", "4.4.8");
    assert_eq!(heard(world.mx("moved.test"), "EHLO"), 0);
}

/// As behind a resolver that lets no AAAA records through: with an answer of its own, or with none.
#[tokio::test]
async fn rfc4035_5_a_filter_of_one_family_does_not_switch_the_policy_off() {
    for fault in
        [AnswerFault::ServFail, AnswerFault::NotImplemented, AnswerFault::ForgedNoData, AnswerFault::ForgedNxDomain]
    {
        let moved = |d: DomainSpec, name: &str| {
            let listed = [format!("old.{name}")];
            d.mta_sts(|p| p.mx(&[listed[0].as_str()])).fault(&format!("mta-sts.{name}"), RecordType::AAAA, fault)
        };
        let lab = lab()
            .domain("plain.test", |d| moved(d.plain().host(issued), "plain.test"))
            .domain("signed.test", |d| moved(d.host(|h| issued(h).tlsa([])), "signed.test"));
        let world = World::start(lab).await;
        for domain in ["signed.test", "plain.test"] {
            // In an unsigned zone anybody can deny the whole name.
            if domain == "plain.test" && fault == AnswerFault::ForgedNxDomain {
                continue;
            }
            expect(&world.defers(&format!("bob@{domain}")).await, "sts-mx-not-listed", "4.4.8");
            assert_eq!(heard(world.mx(domain), "EHLO"), 0, "{domain} {fault:?}");
        }
    }
}

#[tokio::test]
async fn rfc4035_5_a_resolver_that_says_there_is_no_ipv6_does_not_switch_the_policy_off() {
    let listed = |d: DomainSpec| d.mta_sts(|p| p.mx(&["old.moved.test"]));
    let lab = lab().domain("moved.test", |d| listed(d.host(|h| issued(h).tlsa([]))));
    let world = World::with(lab, |lab, _| lab.dns().set_path([PathFault::ForgeNoData(RecordType::AAAA)])).await;
    expect(&world.defers("bob@moved.test").await, "sts-mx-not-listed", "4.4.8");
    assert_eq!(heard(world.mx("moved.test"), "EHLO"), 0);
}

#[tokio::test]
async fn rfc8461_5_1_a_policy_that_has_changed_is_noticed_before_mail_fails() {
    let lab = lab().domain("moving.test", |d| d.plain().host(issued).mta_sts(|p| p.id("1").mx(&["old.moving.test"])));
    let world = World::start(lab).await;
    let id = world.mail(&["bob@moving.test"]).await;
    expect(&world.deferred(id, "bob@moving.test", 1).await, "sts-mx-not-listed", "4.4.8");
    // The TXT record in our cache is good for a long time yet; the failure looks past it.
    world.lab.set_mta_sts("moving.test", |p| p.id("2").mx(&["mx.moving.test"])).unwrap();
    assert_eq!(world.delivered(id, "bob@moving.test").await.tls, "webpki");
}

#[tokio::test]
async fn rfc8461_5_1_a_policy_that_has_changed_is_noticed_though_a_better_host_cannot_be_looked_up() {
    let lost = |d: DomainSpec| {
        let types = [RecordType::A, RecordType::AAAA];
        types.into_iter().fold(d, |d, rtype| d.fault("mx.lost.test", rtype, AnswerFault::ServFail))
    };
    let lab =
        lab().domain("lost.test", lost).domain("good.test", |d| d.plain().host(issued)).domain("moving.test", |d| {
            let d = d.plain().hosted_by(10, "mx.lost.test").hosted_by(20, "mx.good.test");
            d.mta_sts(|p| p.id("1").mx(&["old.moving.test"]))
        });
    let world = World::start(lab).await;
    let id = world.mail(&["bob@moving.test"]).await;
    expect(&world.deferred(id, "bob@moving.test", 1).await, "dns-unavailable", "4.4.3");
    world.lab.set_mta_sts("moving.test", |p| p.id("2").mx(&["mx.good.test"])).unwrap();
    assert_eq!(world.delivered(id, "bob@moving.test").await.tls, "webpki");
}

#[tokio::test]
async fn rfc8461_2_a_good_policy_is_no_way_around_a_failed_dane() {
    let misfit = |h: HostSpec| issued(h).tlsa([Tlsa::Misfits(3, 1, 1, 0)]);
    let lab = lab()
        .domain("both.test", |d| d.host(issued).mta_sts(|p| p))
        .domain("enforced.test", |d| d.host(misfit).mta_sts(|p| p))
        .domain("tested.test", |d| d.host(misfit).mta_sts(|p| p.testing()))
        .domain("unusable.test", |d| d.host(|h| issued(h).tlsa([Tlsa::Fits(1, 1, 1)])).mta_sts(|p| p));
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@both.test").await.tls, "dane");
    assert!(world.lab.policy_host("both.test").unwrap().requests().is_empty(), "DANE waits for no policy host");
    for domain in ["enforced.test", "tested.test"] {
        expect(&world.defers(&format!("bob@{domain}")).await, "tlsa-invalid", "4.7.323");
    }
    assert_eq!(world.delivers("bob@unusable.test").await.tls, "webpki", "the policy gives what the records cannot");
}

#[tokio::test]
async fn rfc8461_2_where_dane_passes_a_host_that_the_policy_misses_dane_wins_and_check_says_so() {
    let lab = lab().domain("forgotten.test", |d| d.host(issued).mta_sts(|p| p.mx(&["old.forgotten.test"])));
    let (world, checker) = with_checker(lab).await;
    assert_eq!(world.delivers("bob@forgotten.test").await.tls, "dane");
    let report = checker.check(&"forgotten.test".parse().unwrap()).await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    let text = report.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("does not list mx.forgotten.test, but its certificate is right by DANE"), "{text}");
}

/// An unsigned domain at the host of a signed one, which has published TLSA records for it. The
/// policy of the domain lists `listed`.
fn tenant(d: DomainSpec, host: &str, listed: &str) -> DomainSpec {
    d.plain().hosted_by(10, host).mta_sts(|p| p.mx(&[listed]))
}

#[tokio::test]
async fn rfc8461_4_a_forged_mx_record_at_a_host_with_dane_gets_nothing_of_a_domain_with_a_policy() {
    // Anybody can sign a zone and publish records for a certificate of his own.
    let lab = lab()
        .domain("evil.test", |d| d.host(issued))
        .domain("x.test", |d| tenant(d, "mx.evil.test", "mx.x.test"))
        .domain("encrypt.test", |d| tenant(d, "mx.evil.test", "mx.encrypt.test"))
        .domain("mta-sts.test", |d| tenant(d, "mx.evil.test", "mx.mta-sts.test"))
        .domain("unpublished.test", |d| d.plain().hosted_by(10, "mx.evil.test"));
    let rules = "[[destination]]\ndomains = [\"encrypt.test\"]\ntls = \"encrypt\"\n\
                 [[destination]]\ndomains = [\"mta-sts.test\", \"unpublished.test\"]\ntls = \"mta-sts\"\n";
    let (world, checker) = with_config(lab, |config| config.destination = destinations(rules)).await;
    for (domain, word, status) in [
        ("x.test", "sts-mx-not-listed", "4.4.8"),
        ("encrypt.test", "sts-mx-not-listed", "4.4.8"),
        ("mta-sts.test", "sts-mx-not-listed", "4.4.8"),
        ("unpublished.test", "sts-required", "4.7.10"),
    ] {
        expect(&world.defers(&format!("bob@{domain}")).await, word, status);
        assert_eq!(foretold(&checker, domain).await, Err(word));
    }
    assert_eq!(heard(world.mx("evil.test"), "MAIL"), 0);
}

#[tokio::test]
async fn rfc8461_4_2_a_listed_host_behind_an_unsigned_mx_is_held_to_the_policy_and_to_its_own_dane() {
    let lab = lab()
        .domain("public.test", |d| d.host(issued))
        .domain("selfsigned.test", |d| d)
        .domain("misfit.test", |d| d.host(|h| issued(h).tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
        .domain("silent.test", |d| d.host(issued).fault("mx.silent.test", RecordType::TLSA, AnswerFault::ServFail));
    let hosts = ["public.test", "selfsigned.test", "misfit.test", "silent.test"];
    let with_tenant = |lab: LabBuilder, host: &str| {
        let mx = format!("mx.{host}");
        lab.domain(&format!("tenant-of-{host}"), |d| tenant(d, &mx, &mx))
    };
    let (world, checker) = with_checker(hosts.into_iter().fold(lab, with_tenant)).await;
    assert_eq!(world.delivers("bob@tenant-of-public.test").await.tls, "webpki-and-dane");
    let sni = world.mx("public.test").messages()[0].tls.clone().unwrap().sni;
    assert_eq!(sni.as_deref(), Some("mx.public.test"));
    assert_eq!(foretold(&checker, "tenant-of-public.test").await, Ok("webpki-and-dane"));
    for (host, word, status) in [
        ("selfsigned.test", "certificate-not-trusted", "4.7.5"),
        ("misfit.test", "tlsa-invalid", "4.7.323"),
        ("silent.test", "dns-unavailable", "4.4.3"),
    ] {
        let domain = format!("tenant-of-{host}");
        expect(&world.defers(&format!("bob@{domain}")).await, word, status);
        assert_eq!(foretold(&checker, &domain).await, Err(word));
        assert_eq!(heard(world.mx(host), "MAIL"), 0, "{host}");
    }
}

#[tokio::test]
async fn rfc8461_5_the_next_host_is_tried_where_the_first_satisfies_one_of_both_only() {
    let lab =
        lab().domain("selfsigned.test", |d| d).domain("public.test", |d| d.host(issued)).domain("two.test", |d| {
            let hosted = d.plain().hosted_by(10, "mx.selfsigned.test").hosted_by(20, "mx.public.test");
            hosted.mta_sts(|p| p.mx(&["*.selfsigned.test", "*.public.test"]))
        });
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@two.test").await.host, "mx.public.test");
    saw_no_mail(world.mx("selfsigned.test"));
}

#[tokio::test]
async fn rfc7672_2_2_1_leaving_dane_out_behind_unsigned_mx_records_leaves_the_policy_in_force() {
    let clear = |h: HostSpec| issued(h).starttls(StartTls::NotOffered);
    let lab = lab()
        .domain("public.test", |d| d.host(issued))
        .domain("clear.test", |d| d.host(clear))
        .domain("good.test", |d| tenant(d, "mx.public.test", "mx.public.test"))
        .domain("strict.test", |d| tenant(d, "mx.public.test", "mx.public.test"))
        .domain("stripped.test", |d| tenant(d, "mx.clear.test", "mx.clear.test"));
    let rules = "[[destination]]\ndomains = [\"strict.test\"]\ntls = \"mta-sts\"\n";
    let (world, checker) = with_config(lab, |config| {
        config.destination = destinations(rules);
        config.tls.dane_behind_insecure_mx = false;
    })
    .await;
    for domain in ["good.test", "strict.test"] {
        assert_eq!(world.delivers(&format!("bob@{domain}")).await.tls, "webpki", "{domain}");
        assert_eq!(foretold(&checker, domain).await, Ok("webpki"));
    }
    expect(&world.defers("bob@stripped.test").await, "starttls-not-supported", "4.7.321");
    assert_eq!(foretold(&checker, "stripped.test").await, Err("starttls-not-supported"));
    saw_no_mail(world.mx("clear.test"));
}

#[tokio::test]
async fn rfc8461_5_testing_and_none_stop_nothing_and_testing_is_counted() {
    let lab = lab()
        .domain("tested.test", |d| d.plain().mta_sts(|p| p.testing()))
        .domain("fine.test", |d| d.plain().host(issued).mta_sts(|p| p.testing()))
        .domain("none.test", |d| d.plain().mta_sts(|p| p.none()));
    let world = World::start(lab).await;
    for domain in ["tested.test", "fine.test", "none.test"] {
        assert_eq!(world.delivers(&format!("bob@{domain}")).await.tls, "unauthenticated", "{domain}");
    }
    let metrics = world.metrics().await;
    let watched = |result: &str| {
        metrics.get(&format!("relay_policy_watched_total{{because=\"mta-sts-testing\",result=\"{result}\"}}")).copied()
    };
    assert_eq!(watched("certificate-not-trusted"), Some(1.0));
    assert_eq!(watched("ok"), Some(1.0));
}

#[tokio::test]
async fn rfc8461_3_4_the_policy_of_the_parent_is_nobody_elses() {
    let lab = lab()
        .domain("parent.test", |d| d.plain().host(issued).mta_sts(|p| p.mx(&["none-of.parent.test"])))
        .domain("sub.parent.test", |d| d.plain());
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@sub.parent.test").await.tls, "unauthenticated");
    assert!(world.lab.policy_host("parent.test").unwrap().requests().is_empty());
}

#[tokio::test]
async fn rfc8461_3_3_a_policy_host_that_is_down_stops_nobody_who_never_had_a_policy() {
    let lab = lab().domain("down.test", |d| d.plain().mta_sts(|p| p.down()));
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@down.test").await.tls, "unauthenticated");
    let metrics = world.metrics().await;
    assert_eq!(metrics["relay_mta_sts_fetches_total{result=\"sts-policy-fetch-error\"}"], 1.0);
}

#[tokio::test]
async fn rfc8461_5_1_a_policy_host_that_hangs_delays_no_other_domain() {
    let lab = lab()
        .domain("hangs.test", |d| d.plain().mta_sts(|p| p.answer(|a| a.manner(PolicyHostManner::Hang))))
        .domain("other.test", |d| d.plain().host(issued).mta_sts(|p| p));
    let world = World::with(lab, |_, config| config.mta_sts.fetch_timeout = Duration::from_secs(3600)).await;
    world.mail(&["bob@hangs.test"]).await;
    let host = world.lab.policy_host("hangs.test").unwrap();
    host.wait_for_requests(1, Duration::from_secs(60)).await.unwrap();
    assert_eq!(world.delivers("bob@other.test").await.tls, "webpki");
    // Nothing has become of it, and nothing is lost.
    assert_eq!(heard(world.mx("hangs.test"), "EHLO"), 0);
}

#[tokio::test]
async fn rfc8461_5_1_a_kept_policy_holds_after_a_restart_when_host_and_record_are_gone() {
    let lab = lab().domain("kept.test", |d| d.plain().host(issued).mta_sts(|p| p)).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = crate::relay::config(&lab, folder.path());
    let relay = dane_relay::service::start::start(config.clone(), Clock::system()).await.unwrap();
    crate::relay::hand_in(relay.smtp[0], crate::relay::SENDER, &["bob@kept.test"], b"Subject: 1\r\n\r\n").await;
    let mx = lab.mx("kept.test").unwrap();
    mx.wait_for_messages(1, Duration::from_secs(60)).await.unwrap();
    relay.stop();
    relay.ended().await.unwrap();

    lab.set_mta_sts_txt("kept.test", &[]).unwrap();
    lab.policy_host("kept.test").unwrap().switch_off().await;
    lab.set_certificate("mx.kept.test", &Certificate::SelfSigned).unwrap();
    let checker = Checker::new(config, Clock::system()).unwrap();
    let report = checker.check(&"kept.test".parse().unwrap()).await;
    assert_eq!(report.fault.as_ref().map(|fault| fault.cause), Some("certificate-not-trusted"), "{}", report.text());
}

/// What a recipient's mail waits for, and the same said by `relay check`.
async fn waits(world: &World, checker: &Checker, domain: &str, cause: &str, status: &str) {
    expect(&world.defers(&format!("bob@{domain}")).await, cause, status);
    let report = checker.check(&domain.parse().unwrap()).await;
    assert_eq!(report.fault.as_ref().map(|fault| fault.cause), Some(cause), "{}", report.text());
    assert_eq!(heard(world.mx(domain), "EHLO"), 0, "nobody spoke to its host");
}

#[tokio::test]
async fn rfc8461_3_3_a_record_that_cannot_be_looked_up_stops_mail_in_a_signed_zone_alone() {
    let hides = |d: DomainSpec, domain: &str| {
        d.mta_sts(|p| p).fault(&format!("_mta-sts.{domain}"), RecordType::TXT, AnswerFault::ServFail)
    };
    let lab = lab()
        .domain("signed.test", |d| hides(d.host(|h| h.tlsa([])), "signed.test"))
        .domain("unsigned.test", |d| hides(d.plain(), "unsigned.test"))
        .domain("dane.test", |d| hides(d, "dane.test"));
    let (world, checker) = with_checker(lab).await;
    waits(&world, &checker, "signed.test", "dns-unavailable", "4.4.3").await;
    assert_eq!(world.delivers("bob@unsigned.test").await.tls, "unauthenticated");
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane", "where DANE protects every host nobody asks");
}

#[tokio::test]
async fn rfc8461_5_1_a_damaged_policy_stops_mail_until_it_is_fetched_again() {
    let lab = lab().domain("kept.test", |d| d.plain().host(issued).mta_sts(|p| p.down()));
    let mut shared: Option<Config> = None;
    let world = World::with(lab, |_lab, config| {
        let folder = config.spool.path.join("mta-sts");
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("kept.test"), "").unwrap();
        shared = Some(config.clone());
    })
    .await;
    let checker = Checker::new(shared.unwrap(), Clock::system()).unwrap();
    world.lab.set_mta_sts_txt("kept.test", &[]).unwrap();
    waits(&world, &checker, "kept.test", "sts-policy-lost", "4.3.0").await;
}
