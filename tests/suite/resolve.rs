//! From a domain to its hosts: MX, addresses, TLSA, and every way in which the DNS can fail
//! (RFC 5321 §5.1, RFC 7505, RFC 7672 §2).
//!
//! "Could not find out" is never "there is none": such mail waits, and nobody is connected to.

use crate::relay::{PATIENCE, SENDER, World, config, expect, heard, lab, says};
use dane_relay::clock::Clock;
use dane_relay::config::Upstream;
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{AnswerFault, Lab, LabBuilder, SignatureFault, Signing, Tlsa, TroubleAt};
use dane_relay::outcome::Cause;
use dane_relay::resolve::HostAddresses;
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::event::nobody;
use dane_relay::resolve::mail::resolve_domain;
use futures_util::future::join_all;
use hickory_proto::rr::rdata::{A, AAAA, MX};
use hickory_proto::rr::{Name, RData, RecordType};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

fn mx(preference: u16, host: &str) -> RData {
    RData::MX(MX::new(preference, Name::from_ascii(host).unwrap()))
}

fn upstream(text: &str) -> Upstream {
    text.parse().unwrap()
}

#[tokio::test]
async fn rfc5321_5_1_hosts_are_tried_in_their_order_until_one_takes_the_mail() {
    let lab = lab()
        .domain("down.test", |d| d.host(|h| h.down()).add_host("mx2.down.test", 20, |h| h))
        .domain("busy.test", |d| {
            d.host(|h| h.trouble(TroubleAt::Connect, says("421 4.3.2 busy"))).add_host("mx2.busy.test", 20, |h| h)
        })
        .domain("closed.test", |d| {
            d.host(|h| h.trouble(TroubleAt::Connect, says("554 5.7.1 go away"))).add_host("mx2.closed.test", 20, |h| h)
        })
        .domain("later.test", |d| {
            d.host(|h| h.trouble(TroubleAt::Rcpt, says("451 4.2.0 later"))).add_host("mx2.later.test", 20, |h| h)
        })
        .domain("best.test", |d| d.add_host("mx0.best.test", 5, |h| h).add_host("mx2.best.test", 20, |h| h));
    let world = World::start(lab).await;
    for domain in ["down.test", "busy.test", "closed.test", "later.test"] {
        let delivered = world.delivers(&format!("bob@{domain}")).await;
        assert_eq!((delivered.host, delivered.tls), (format!("mx2.{domain}"), "dane"));
    }
    assert_eq!(world.delivers("bob@best.test").await.host, "mx0.best.test");
    assert_eq!(world.mx("mx.best.test").connections() + world.mx("mx2.best.test").connections(), 0);
}

#[tokio::test]
async fn rfc5321_5_1_a_host_with_hundreds_of_addresses_costs_no_more_than_one_with_some() {
    let many = (0..300_u32).map(|n| RData::A(A(Ipv4Addr::from(0xC633_6400 + n))));
    let lab = lab().domain("many.test", |d| many.fold(d, |d, address| d.record("mx.many.test", address)));
    let (lab, folder) = (lab.start().await.unwrap(), tempfile::tempdir().unwrap());
    let dns = Dns::new(&config(&lab, folder.path()), Clock::system(), nobody()).unwrap();
    let resolution = resolve_domain(&dns, &"many.test".parse().unwrap(), lab.port(), 1).await.unwrap();
    let HostAddresses::Known(addresses) = &resolution.hosts[0].addresses else { panic!("{resolution:?}") };
    assert_eq!(addresses.len(), 16);
}

#[tokio::test]
async fn rfc5321_5_1_load_spreads_over_hosts_of_equal_preference() {
    let world = World::start(lab().domain("equal.test", |d| d.add_host("mx2.equal.test", 10, |h| h))).await;
    let users: Vec<String> = (0..24).map(|n| format!("u{n}@equal.test")).collect();
    for user in &users {
        world.delivers(user).await;
    }
    let counts = ["mx.equal.test", "mx2.equal.test"].map(|host| world.mx(host).messages().len());
    assert!(counts[0] > 0 && counts[1] > 0 && counts[0] + counts[1] == users.len(), "{counts:?}");
}

#[tokio::test]
async fn rfc5321_5_1_a_refused_recipient_is_not_offered_to_the_next_host() {
    let lab = lab().domain("two.test", |d| d.host(|h| h.known(&["carol"])).add_host("mx2.two.test", 20, |h| h));
    let world = World::start(lab).await;
    expect(&world.fails("bob@two.test").await, "rejected", "5.1.1");
    assert_eq!(world.mx("mx2.two.test").connections(), 0);
}

#[tokio::test]
async fn rfc5321_5_1_without_mx_records_the_domain_is_its_own_host() {
    let world = World::start(lab().domain("implicit.test", |d| d.without_mx())).await;
    let delivered = world.delivers("bob@implicit.test").await;
    assert_eq!((delivered.host.as_str(), delivered.tls), ("implicit.test", "dane"));
}

#[tokio::test]
async fn rfc5321_5_1_unusable_mx_records_do_not_lead_to_the_address_of_the_domain() {
    let lab = lab().domain("lost.test", |d| d.without_mx().record("lost.test", mx(10, "nowhere.lost.test.")));
    let world = World::start(lab).await;
    expect(&world.fails("bob@lost.test").await, "no-mail-host", "5.4.4");
    assert_eq!(world.mx("lost.test").connections(), 0);
}

#[tokio::test]
async fn rfc5321_5_1_an_alias_of_a_domain_is_followed() {
    let lab = lab().domain("real.test", |d| d).domain("names.test", |d| {
        let d = d.alias("old.names.test", "real.test");
        d.alias("a.names.test", "b.names.test").alias("b.names.test", "a.names.test")
    });
    let world = World::start(lab).await;
    let delivered = world.delivers("bob@old.names.test").await;
    assert_eq!((delivered.host.as_str(), delivered.tls), ("mx.real.test", "dane"));
    expect(&world.defers("bob@a.names.test").await, "dns-unavailable", "4.4.3");
}

#[tokio::test]
async fn rfc5321_5_1_a_long_chain_of_aliases_is_followed_to_its_end() {
    let chain = |d: dane_relay::lab::DomainSpec| {
        (0..8).fold(d, |d, n| {
            let target = if n == 7 { "real.test".to_owned() } else { format!("n{}.names.test", n + 1) };
            d.alias(&format!("n{n}.names.test"), &target)
        })
    };
    let world = World::start(lab().domain("real.test", |d| d).domain("names.test", chain)).await;
    assert_eq!(world.delivers("bob@n0.names.test").await.tls, "dane");
}

#[tokio::test]
async fn rfc5321_5_2_an_address_of_the_other_family_that_does_not_answer_costs_no_attempt() {
    let nobody = RData::AAAA(AAAA(Ipv6Addr::LOCALHOST));
    let world = World::start(lab().domain("dual.test", |d| d.record("mx.dual.test", nobody))).await;
    let id = world.mail(&["bob@dual.test"]).await;
    let known = world.news(id, "bob@dual.test", |known| !known.is_empty()).await;
    assert_eq!(known.len(), 1);
    assert_eq!(world.delivered(id, "bob@dual.test").await.tls, "dane");
}

/// RFC 4035 §5: each answer proves itself, and RFC 7672 §2.2.2: what was found decides about DANE.
#[tokio::test]
async fn rfc4035_5_a_family_that_fails_costs_that_family_and_takes_no_dane_away() {
    let faults = [
        AnswerFault::ServFail,
        AnswerFault::NotImplemented,
        AnswerFault::ForgedNoData,
        AnswerFault::Signature(SignatureFault::Bogus),
        AnswerFault::Signature(SignatureFault::Missing),
    ];
    for fault in faults {
        let aaaa = |d: dane_relay::lab::DomainSpec, name: &str| d.fault(&format!("mx.{name}"), RecordType::AAAA, fault);
        let lab = lab()
            .domain("dane.test", |d| aaaa(d, "dane.test"))
            .domain("strict.test", |d| aaaa(d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])), "strict.test"))
            .domain("plain.test", |d| aaaa(d.plain(), "plain.test"));
        let world = World::start(lab).await;
        assert_eq!(world.delivers("bob@dane.test").await.tls, "dane", "{fault:?}");
        assert_eq!(world.delivers("bob@plain.test").await.tls, "unauthenticated", "{fault:?}");
        world.defers("bob@strict.test").await;
        assert_eq!(world.mx("strict.test").messages().len(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn rfc7672_2_1_2_a_host_whose_only_family_is_not_known_is_not_without_addresses() {
    for fault in [AnswerFault::ServFail, AnswerFault::ForgedNoData, AnswerFault::Signature(SignatureFault::Bogus)] {
        let world = World::start(lab().domain("dane.test", |d| d.fault("mx.dane.test", RecordType::A, fault))).await;
        let cause = world.defers("bob@dane.test").await;
        assert!(matches!(cause, Cause::DnsUnavailable { .. } | Cause::DnsBogus { .. }), "{fault:?}: {cause:?}");
        assert_eq!(world.mx("dane.test").connections(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn rfc7672_2_2_2_an_mx_record_that_names_an_address_leads_nowhere_and_an_alias_does() {
    let lab = lab()
        .domain("numbers.test", |d| d.record("numbers.test", mx(5, "192.0.2.1.")))
        .domain("alias.test", |d| d.hosted_by(10, "mail.alias.test").alias("mail.alias.test", "mx.numbers.test"));
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@numbers.test").await.tls, "dane");
    assert_eq!(world.delivers("bob@alias.test").await.host, "mail.alias.test");
}

#[tokio::test]
async fn rfc7505_null_mx_fails_at_once_and_counts_only_alone() {
    let lab = lab()
        .domain("null.test", |d| d.null_mx())
        .domain("both.test", |d| d.record("both.test", RData::MX(MX::new(0, Name::root()))));
    let world = World::start(lab).await;
    let id = world.mail(&["bob@null.test"]).await;
    let known = world.news(id, "bob@null.test", |known| !known.is_empty()).await;
    assert_eq!(known.len(), 1);
    expect(&world.failed(id, "bob@null.test").await, "null-mx", "5.1.10");
    assert_eq!(world.delivers("bob@both.test").await.tls, "dane");
}

#[tokio::test]
async fn rfc3463_3_2_a_domain_proven_not_to_exist_fails_at_once() {
    let world = World::start(lab().domain("unsigned.test", |d| d.plain())).await;
    expect(&world.fails("bob@nowhere.test").await, "domain-not-found", "5.1.2");
    expect(&world.fails("bob@nowhere.unsigned.test").await, "domain-not-found", "5.1.2");
}

/// RFC 7672 §2.1.2 and RFC 5321 §5.1: the mail waits, and whoever has the address gets nothing.
async fn mx_fault_defers(fault: AnswerFault, word: &str, status: &str) {
    // With a proof there would be no MX record, and the domain itself would be the host.
    let world =
        World::start(lab().domain("hidden.test", |d| d.without_mx().fault("hidden.test", RecordType::MX, fault))).await;
    expect(&world.defers("bob@hidden.test").await, word, status);
    assert_eq!(world.mx("hidden.test").connections(), 0);
}

#[tokio::test]
async fn rfc7672_2_1_2_servfail_for_mx_is_not_the_absence_of_mx() {
    mx_fault_defers(AnswerFault::ServFail, "dns-unavailable", "4.4.3").await;
}

#[tokio::test]
async fn rfc7672_2_1_2_a_refused_question_is_not_the_absence_of_mx() {
    mx_fault_defers(AnswerFault::Refused, "dns-unavailable", "4.4.3").await;
}

#[tokio::test]
async fn rfc4035_5_4_an_unproven_nodata_is_not_the_absence_of_mx() {
    mx_fault_defers(AnswerFault::ForgedNoData, "dnssec-invalid", "4.7.324").await;
}

#[tokio::test]
async fn rfc4035_5_4_an_unproven_nxdomain_is_not_the_absence_of_the_domain() {
    mx_fault_defers(AnswerFault::ForgedNxDomain, "dnssec-invalid", "4.7.324").await;
}

#[tokio::test]
async fn rfc4035_5_5_a_forged_proof_is_not_the_absence_of_mx() {
    mx_fault_defers(AnswerFault::Signature(SignatureFault::Bogus), "dnssec-invalid", "4.7.324").await;
}

#[tokio::test]
async fn rfc4035_5_5_forged_mx_records_are_not_followed() {
    for fault in [SignatureFault::Bogus, SignatureFault::Expired, SignatureFault::Missing] {
        let lab =
            lab().domain("forged.test", |d| d.fault("forged.test", RecordType::MX, AnswerFault::Signature(fault)));
        let world = World::start(lab).await;
        expect(&world.defers("bob@forged.test").await, "dnssec-invalid", "4.7.324");
        assert_eq!(world.mx("forged.test").connections(), 0, "{fault:?}");
    }
}

#[tokio::test]
async fn rfc7672_2_1_2_a_silent_dns_defers_and_mail_goes_out_once_it_speaks() {
    let lab = lab().domain("silent.test", |d| d.fault("silent.test", RecordType::MX, AnswerFault::Silent));
    let world = World::with(lab, |_, config| config.dns.timeout = Duration::from_secs(1)).await;
    let id = world.mail(&["bob@silent.test"]).await;
    expect(&world.deferred(id, "bob@silent.test", 1).await, "dns-unavailable", "4.4.3");
    assert_eq!(world.mx("silent.test").connections(), 0);
    world.lab.world().fault("silent.test", RecordType::MX, None).unwrap();
    assert_eq!(world.delivered(id, "bob@silent.test").await.tls, "dane");
}

#[tokio::test]
async fn rfc4035_4_3_a_broken_delegation_defers_and_an_insecure_one_delivers() {
    let broken = |lab: LabBuilder, (name, signing)| lab.domain(name, |d| d.signing(signing));
    let zones = [("wrong.test", Signing::WrongDs), ("bare.test", Signing::DsButUnsigned)];
    let lab = zones.into_iter().fold(lab(), broken).domain("island.test", |d| d.signing(Signing::NoDs));
    let world = World::start(lab).await;
    for (domain, _) in zones {
        expect(&world.defers(&format!("bob@{domain}")).await, "dnssec-invalid", "4.7.324");
        assert_eq!(world.mx(domain).connections(), 0, "{domain}");
    }
    assert_eq!(world.delivers("bob@island.test").await.tls, "unauthenticated");
}

#[tokio::test]
async fn foreign_mx_records_must_not_lead_to_loopback() {
    let mapped = Ipv4Addr::LOCALHOST.to_ipv6_mapped();
    let lab = lab()
        .domain("inward.test", |d| d)
        .domain("mapped.test", |d| {
            d.hosted_by(10, "in.mapped.test").record("in.mapped.test", RData::AAAA(AAAA(mapped)))
        })
        .domain("zero.test", |d| {
            d.hosted_by(10, "in.zero.test").record("in.zero.test", RData::A(A(Ipv4Addr::UNSPECIFIED)))
        });
    let world = World::with(lab, |_, config| {
        config.delivery.allow_loopback = false;
        config.listen.address_literals = true;
    })
    .await;
    for domain in ["inward.test", "mapped.test", "zero.test"] {
        expect(&world.fails(&format!("bob@{domain}")).await, "address-forbidden", "5.4.4");
    }
    // What needs no DNS is refused before it is taken.
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let handed = client.send(SENDER, &["bob@[127.0.0.1]"], b"Subject: x\r\n\r\n").await.unwrap();
    assert_eq!(handed.rcpt[0].enhanced.map(|code| code.to_string()).as_deref(), Some("5.4.4"));
    assert_eq!(world.mx("inward.test").connections(), 0);
}

/// A domain whose mail goes to the relay itself, and perhaps to others.
fn with_own_name(name: &str, preference: u16, lab: LabBuilder) -> LabBuilder {
    lab.domain(name, |d| {
        d.host(|h| h.tlsa([]))
            .add_host(&format!("worse.{name}"), 30, |h| h)
            .record(name, mx(preference, "relay.own.test."))
    })
}

#[tokio::test]
async fn rfc5321_5_1_our_own_name_and_all_worse_hosts_are_no_way_forward() {
    let address = RData::A(A(Ipv4Addr::LOCALHOST));
    let lab = lab().domain("own.test", |d| d.record("relay.own.test", address));
    // One domain has a better host than us, the other one only hosts that are as good or worse.
    let lab = with_own_name("loop.test", 10, with_own_name("backup.test", 20, lab));
    let world = World::with(lab, |_, config| config.hostname = "relay.own.test".parse().unwrap()).await;
    assert_eq!(world.delivers("bob@backup.test").await.host, "mx.backup.test");
    let cause = world.fails("bob@loop.test").await;
    expect(&cause, "mail-loop", "5.4.6");
    assert!(cause.sentence().contains("loop.test"), "{}", cause.sentence());
    world.mx("mx.backup.test").trouble(TroubleAt::Connect, says("421 4.3.2 busy"));
    world.defers("bob@backup.test").await;
    for host in ["worse.backup.test", "mx.loop.test", "worse.loop.test"] {
        assert_eq!(world.mx(host).connections(), 0, "{host}");
    }
}

#[tokio::test]
async fn rfc5321_4_1_3_an_address_literal_is_connected_to_without_dane() {
    let lab = lab().domain("dane.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])));
    let world = World::with(lab, |_, config| config.listen.address_literals = true).await;
    let address = world.mx("dane.test").address().ip();
    assert_eq!(world.delivers(&format!("bob@[{address}]")).await.tls, "unauthenticated");
    assert_eq!(world.lab.dns().asked_type(RecordType::TLSA), 0);
}

#[tokio::test]
async fn rfc7671_8_large_sets_of_tlsa_records_are_all_used() {
    let name = |count: usize| format!("n{count}.test");
    let counts = [1, 5, 13, 60];
    let with = |lab: LabBuilder, count: usize| lab.domain(&name(count), |d| d.host(|h| h.and_misfits(count - 1)));
    let world = World::start(counts.into_iter().fold(lab(), with)).await;
    for count in counts {
        assert_eq!(world.delivers(&format!("bob@{}", name(count))).await.tls, "dane", "{count}");
    }
}

#[tokio::test]
async fn rfc7766_truncated_answers_are_fetched_over_tcp_or_the_mail_waits() {
    let lab = lab().domain("large.test", |d| d.host(|h| h.and_misfits(59)));
    let world = World::with(lab, |_, config| config.dns.timeout = Duration::from_secs(1)).await;
    world.lab.dns().set_path([PathFault::BlockTcp]);
    let id = world.mail(&["bob@large.test"]).await;
    expect(&world.deferred(id, "bob@large.test", 1).await, "dns-unavailable", "4.4.3");
    assert_eq!(world.mx("large.test").connections(), 0);
    world.lab.dns().set_path([]);
    assert_eq!(world.delivered(id, "bob@large.test").await.tls, "dane");
}

#[tokio::test]
async fn rfc7672_2_2_2_insecure_addresses_mean_no_question_for_tlsa() {
    let lab = lab().domain("plain.test", |d| d.plain()).domain("island.test", |d| d.signing(Signing::NoDs));
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@plain.test").await.tls, "unauthenticated");
    assert_eq!(world.delivers("bob@island.test").await.tls, "unauthenticated");
    assert_eq!(world.lab.dns().asked_type(RecordType::TLSA), 0, "{:?}", world.lab.dns().questions());
}

/// RFC 7672 §2.1.2, §2.2.1: the host is not connected to and the next one gets the mail.
async fn tlsa_fault_skips_the_host(fault: AnswerFault) {
    let broken = |name: &str| {
        let host = format!("mx.{name}");
        move |d: dane_relay::lab::DomainSpec| d.fault(&host, RecordType::TLSA, fault)
    };
    let lab = lab()
        .domain("two.test", |d| broken("two.test")(d).add_host("mx2.two.test", 20, |h| h))
        .domain("one.test", broken("one.test"));
    let world = World::with(lab, |_, config| config.dns.timeout = Duration::from_secs(1)).await;
    let delivered = world.delivers("bob@two.test").await;
    assert_eq!((delivered.host.as_str(), delivered.tls), ("mx2.two.test", "dane"), "{fault:?}");
    let cause = world.defers("bob@one.test").await;
    assert!(matches!(cause, Cause::DnsUnavailable { .. } | Cause::DnsBogus { .. }), "{fault:?}: {cause:?}");
    assert_eq!(cause.row().result_type, Some("dnssec-invalid"));
    assert_eq!((world.mx("two.test").connections(), world.mx("one.test").connections()), (0, 0), "{fault:?}");
}

#[tokio::test]
async fn rfc7672_2_1_2_servfail_for_tlsa_alone_skips_the_host() {
    tlsa_fault_skips_the_host(AnswerFault::ServFail).await;
}

#[tokio::test]
async fn rfc7672_2_1_2_silence_for_tlsa_alone_skips_the_host() {
    tlsa_fault_skips_the_host(AnswerFault::Silent).await;
}

#[tokio::test]
async fn rfc7672_2_1_2_notimp_for_tlsa_of_a_signed_host_skips_the_host() {
    tlsa_fault_skips_the_host(AnswerFault::NotImplemented).await;
}

#[tokio::test]
async fn rfc4035_5_4_forged_denials_of_tlsa_skip_the_host() {
    tlsa_fault_skips_the_host(AnswerFault::ForgedNxDomain).await;
    tlsa_fault_skips_the_host(AnswerFault::ForgedNoData).await;
}

#[tokio::test]
async fn rfc4035_5_5_badly_signed_tlsa_records_skip_the_host() {
    let faults = [SignatureFault::Bogus, SignatureFault::Expired, SignatureFault::NotYetValid, SignatureFault::Missing];
    join_all(faults.map(|fault| tlsa_fault_skips_the_host(AnswerFault::Signature(fault)))).await;
}

#[tokio::test]
async fn a_filter_on_the_path_does_not_take_dane_away() {
    let faults = [PathFault::DropTlsaOver(4), PathFault::DropType(RecordType::TLSA), PathFault::StripDnssec];
    join_all(faults.map(a_filter_means_waiting)).await;
}

async fn a_filter_means_waiting(fault: PathFault) {
    let lab = lab().domain("dane.test", |d| d.host(|h| h.and_misfits(4)));
    let world = World::with(lab, |lab, config| {
        config.dns.timeout = Duration::from_millis(500);
        lab.dns().set_path([fault]);
    });
    let world = world.await;
    world.defers("bob@dane.test").await;
    assert_eq!(world.mx("dane.test").connections(), 0, "{fault:?}");
}

#[tokio::test]
async fn the_next_upstream_is_asked_when_one_gives_no_usable_answer() {
    let faults = [
        PathFault::DropAll,
        PathFault::ServFail,
        PathFault::DropTlsaOver(4),
        PathFault::DropType(RecordType::TLSA),
        PathFault::StripDnssec,
    ];
    join_all(faults.map(the_next_upstream_is_asked_after)).await;
}

async fn the_next_upstream_is_asked_after(fault: PathFault) {
    let lab = lab().domain("dane.test", |d| d.host(|h| h.and_misfits(4))).start().await.unwrap();
    let second = lab.another_dns().await.unwrap();
    lab.dns().set_path([fault]);
    let world = World::beside(lab, |lab, config| {
        // A slow machine makes this another attempt, not another outcome.
        config.dns.timeout = Duration::from_millis(500);
        config.dns.upstreams = vec![upstream(&lab.dns().upstream()), upstream(&second.upstream())];
    });
    let world = world.await;
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane", "{fault:?}");
    assert!(second.asked_type(RecordType::TLSA) > 0, "{fault:?}");
}

#[tokio::test]
async fn an_upstream_where_nobody_listens_is_passed_over() {
    let lab = lab().domain("dane.test", |d| d).start().await.unwrap();
    let nobody = { std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap() };
    let world = World::beside(lab, |lab: &Lab, config| {
        config.dns.timeout = Duration::from_millis(500);
        config.dns.upstreams = vec![Upstream::Udp(nobody), upstream(&lab.dns().upstream())];
    });
    let world = world.await;
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    world.mx("dane.test").wait_for_messages(1, PATIENCE).await.unwrap();
    assert_eq!(heard(world.mx("dane.test"), "MAIL"), 1);
}
