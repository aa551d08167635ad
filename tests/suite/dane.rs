//! DANE for SMTP, from the signed record to the mailbox (RFC 7672; RFC 6698, RFC 7671), and what
//! is done where it does not apply (RFC 7435).
//!
//! What a host may never get under a policy that demands TLS is asked of the host itself: it
//! remembers every command and whether it came through TLS.

use crate::relay::{World, expect, heard, lab, saw_no_mail};
use dane_relay::config::Config;
use dane_relay::lab::mx::behaviour::reply;
use dane_relay::lab::{Authority, Certificate, HostSpec, Identity, LabBuilder, StartTls, Tlsa};
use dane_relay::resolve::TlsaRecord;
use std::path::Path;
use std::sync::Arc;

/// The ways in which a host spoils STARTTLS.
fn spoilt() -> [(&'static str, StartTls, &'static str); 4] {
    [
        ("none.test", StartTls::NotOffered, "starttls-not-supported"),
        ("refused.test", StartTls::Refused(reply("454 4.7.0 not now").unwrap()), "starttls-not-supported"),
        ("broken.test", StartTls::BrokenHandshake, "tls-handshake-failed"),
        ("drop.test", StartTls::DropAfter, "tls-handshake-failed"),
    ]
}

fn with_host(lab: LabBuilder, domain: &str, change: impl FnOnce(HostSpec) -> HostSpec) -> LabBuilder {
    lab.domain(domain, |d| d.host(change))
}

fn sni(world: &World, host: &str) -> String {
    world.mx(host).messages()[0].tls.clone().unwrap().sni.unwrap()
}

#[tokio::test]
async fn rfc7672_3_1_every_usable_form_of_record_authenticates_the_host() {
    let forms = [(3, 1, 1), (3, 0, 1), (3, 1, 2), (3, 0, 0), (2, 1, 1), (2, 0, 1), (2, 0, 2), (2, 1, 0)];
    let name = |(usage, selector, matching)| format!("d{usage}{selector}{matching}.test");
    let mut lab = lab();
    for form in forms {
        let certificate = if form.0 == 2 { Certificate::Issued } else { Certificate::SelfSigned };
        let record = Tlsa::Fits(form.0, form.1, form.2);
        lab = with_host(lab, &name(form), |h| h.certificate(certificate).tlsa([record]));
    }
    let world = World::start(lab).await;
    for form in forms {
        let domain = name(form);
        assert_eq!(world.delivers(&format!("bob@{domain}")).await.tls, "dane", "{form:?}");
        // RFC 7672 §8.1: SNI is the TLSA base domain.
        assert_eq!(sni(&world, &domain), format!("mx.{domain}"));
    }
}

#[tokio::test]
async fn rfc7672_2_2_a_mismatch_defers_and_the_host_sees_no_envelope() {
    let world = World::start(with_host(lab(), "bad.test", |h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)]))).await;
    expect(&world.defers("bob@bad.test").await, "tlsa-invalid", "4.7.323");
    saw_no_mail(world.mx("bad.test"));
}

#[tokio::test]
async fn rfc7672_2_2_after_a_mismatch_the_next_host_gets_the_mail() {
    let lab = lab()
        .domain("two.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])).add_host("mx2.two.test", 20, |h| h));
    let world = World::start(lab).await;
    let delivered = world.delivers("bob@two.test").await;
    assert_eq!((delivered.host.as_str(), delivered.tls), ("mx2.two.test", "dane"));
    saw_no_mail(world.mx("mx.two.test"));
}

#[tokio::test]
async fn rfc7672_3_1_2_a_trust_anchor_demands_a_valid_time() {
    let expired = |h: HostSpec| h.certificate(Certificate::IssuedExpired).tlsa([Tlsa::Fits(2, 1, 1)]);
    let world = World::start(with_host(lab(), "old.test", expired)).await;
    expect(&world.defers("bob@old.test").await, "certificate-expired", "4.7.322");
    saw_no_mail(world.mx("old.test"));
}

#[tokio::test]
async fn rfc7672_3_2_2_a_trust_anchor_demands_the_name_of_the_host_or_of_the_domain() {
    let for_name =
        |h: HostSpec, name: &str| h.certificate(Certificate::IssuedFor(name.into())).tlsa([Tlsa::Fits(2, 0, 1)]);
    let mut lab = with_host(lab(), "other.test", |h| for_name(h, "mx.elsewhere.test"));
    lab = with_host(lab, "domain.test", |h| for_name(h, "domain.test"));
    // The MX records that lead to this one are not signed: then only the host's own name counts.
    lab = with_host(lab, "provider.test", |h| for_name(h, "tenant.test"));
    lab = lab.domain("tenant.test", |d| d.plain().hosted_by(10, "mx.provider.test"));
    let world = World::start(lab).await;
    expect(&world.defers("bob@other.test").await, "certificate-host-mismatch", "4.7.325");
    saw_no_mail(world.mx("other.test"));
    assert_eq!(world.delivers("bob@domain.test").await.tls, "dane");
    expect(&world.defers("bob@tenant.test").await, "certificate-host-mismatch", "4.7.325");
    saw_no_mail(world.mx("provider.test"));
}

#[tokio::test]
async fn rfc7672_3_1_1_an_end_entity_record_looks_at_neither_time_nor_name() {
    let mut lab = with_host(lab(), "old.test", |h| h.certificate(Certificate::SelfSignedExpired));
    lab = with_host(lab, "named.test", |h| h.certificate(Certificate::SelfSignedFor("something.invalid".into())));
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@old.test").await.tls, "dane");
    assert_eq!(world.delivers("bob@named.test").await.tls, "dane");
}

#[tokio::test]
async fn rfc7671_5_2_a_trust_anchor_missing_from_the_chain_fits_only_as_a_full_record() {
    let authority = Authority::new("Own Root").unwrap();
    let bare = |host: &str| {
        let whole = authority.issue(&[host]).unwrap();
        let (digest, full) = (whole.tlsa(2, 0, 1).unwrap(), whole.tlsa(2, 0, 0).unwrap());
        (Certificate::Given(Arc::new(whole.without_issuers())), Tlsa::Exactly(digest), Tlsa::Exactly(full))
    };
    let ((first, digest, _), (second, _, full)) = (bare("mx.digest.test"), bare("mx.full.test"));
    let mut lab = with_host(lab(), "digest.test", |h| h.certificate(first).tlsa([digest]));
    lab = with_host(lab, "full.test", |h| h.certificate(second).tlsa([full]));
    let world = World::start(lab).await;
    expect(&world.defers("bob@digest.test").await, "tlsa-invalid", "4.7.323");
    assert_eq!(world.delivers("bob@full.test").await.tls, "dane");
}

#[tokio::test]
async fn rfc7671_9_one_fitting_record_of_the_strongest_digest_suffices() {
    let short = |usage, matching| Tlsa::Exactly(TlsaRecord { usage, selector: 1, matching, data: vec![7; 5] });
    let delivered = [
        ("malformed.test", [short(3, 1), Tlsa::Fits(3, 1, 1)]),
        ("mixed.test", [Tlsa::Misfits(3, 1, 1, 0), Tlsa::Fits(2, 0, 1)]),
        ("strong.test", [Tlsa::Fits(3, 1, 2), Tlsa::Misfits(3, 1, 1, 0)]),
        ("broken512.test", [short(3, 2), Tlsa::Fits(3, 1, 1)]),
    ];
    let weak = [Tlsa::Misfits(3, 1, 2, 0), Tlsa::Fits(3, 1, 1)];
    let mut lab = with_host(lab(), "weak.test", |h| h.tlsa(weak));
    for (domain, records) in &delivered {
        lab = with_host(lab, domain, |h| h.certificate(Certificate::Issued).tlsa(records.clone()));
    }
    let world = World::start(lab).await;
    for (domain, _) in &delivered {
        assert_eq!(world.delivers(&format!("bob@{domain}")).await.tls, "dane", "{domain}");
    }
    expect(&world.defers("bob@weak.test").await, "tlsa-invalid", "4.7.323");
}

#[tokio::test]
async fn rfc7672_2_2_without_working_tls_a_dane_host_gets_nothing() {
    let lab = spoilt().into_iter().fold(lab(), |lab, (domain, how, _)| with_host(lab, domain, |h| h.starttls(how)));
    let world = World::start(lab).await;
    for (domain, _, word) in spoilt() {
        expect(&world.defers(&format!("bob@{domain}")).await, word, "4.7.321");
        saw_no_mail(world.mx(domain));
    }
}

#[tokio::test]
async fn rfc7672_2_2_without_usable_records_tls_is_a_must_and_authentication_is_not() {
    let unusable = || {
        let short = TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![1; 31] };
        let unknown = TlsaRecord { usage: 3, selector: 1, matching: 9, data: vec![1; 32] };
        [Tlsa::Fits(0, 0, 1), Tlsa::Fits(1, 1, 1), Tlsa::Exactly(short), Tlsa::Exactly(unknown)]
    };
    let mut lab = with_host(lab(), "unusable.test", |h| h.tlsa(unusable()));
    for (domain, how, _) in spoilt() {
        lab = with_host(lab, domain, |h| h.tlsa(unusable()).starttls(how));
    }
    let world = World::start(lab).await;
    assert_eq!(world.delivers("bob@unusable.test").await.tls, "unauthenticated");
    for (domain, _, word) in spoilt() {
        expect(&world.defers(&format!("bob@{domain}")).await, word, "4.7.321");
        saw_no_mail(world.mx(domain));
    }
}

#[tokio::test]
async fn rfc7672_2_2_1_the_order_of_preference_is_not_changed_for_security() {
    let lab = lab()
        .domain("other.test", |d| d.plain())
        .domain("first.test", |d| d.hosted_by(10, "mx.other.test").hosted_by(20, "mx.dane.test"))
        .domain("dane.test", |d| d);
    let world = World::start(lab).await;
    let delivered = world.delivers("bob@first.test").await;
    assert_eq!((delivered.host.as_str(), delivered.tls), ("mx.other.test", "unauthenticated"));
    assert_eq!(world.mx("dane.test").connections(), 0);
}

#[tokio::test]
async fn rfc7672_2_2_1_a_signed_host_of_an_unsigned_domain_is_held_to_dane() {
    let lab = with_host(lab(), "provider.test", |h| h)
        .domain("tenant.test", |d| d.plain().hosted_by(10, "mx.provider.test"))
        .domain("badly.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
        .domain("victim.test", |d| d.plain().hosted_by(10, "mx.badly.test"));
    let world = World::start(lab).await;
    // The host is authenticated; nothing is claimed for the domain.
    assert_eq!(world.delivers("bob@tenant.test").await.tls, "dane-host-only");
    expect(&world.defers("bob@victim.test").await, "tlsa-invalid", "4.7.323");
}

#[tokio::test]
async fn rfc7672_2_2_3_the_base_domain_follows_the_host_and_not_the_records() {
    let lab = lab()
        .domain("real.test", |d| d)
        // The MX host is an alias: its expansion is the base domain.
        .domain("alias.test", |d| d.hosted_by(10, "mail.alias.test").alias("mail.alias.test", "mx.real.test"))
        .domain("records.test", |d| d.host(|h| h.tlsa([])));
    let lab = lab.start().await.unwrap();
    // The TLSA records are an alias: the base domain stays what it was.
    let identity = Identity::self_signed(&["mx.records.test"]).unwrap();
    let record = Tlsa::Exactly(identity.tlsa(3, 1, 1).unwrap());
    lab.set_certificate("mx.records.test", &Certificate::Given(Arc::new(identity))).unwrap();
    lab.world().add_cname(&lab.tlsa_owner("mx.records.test"), "_dane.records.test").unwrap();
    let Tlsa::Exactly(record) = record else { panic!("made above") };
    lab.world().add("_dane.records.test", dane_relay::lab::tls::certificate::rdata(&record)).unwrap();
    let world = World::beside(lab, |_, _| {}).await;
    assert_eq!(world.delivers("bob@alias.test").await.tls, "dane");
    assert_eq!(sni(&world, "mx.real.test"), "mx.real.test");
    assert_eq!(world.delivers("bob@records.test").await.tls, "dane");
    assert_eq!(sni(&world, "mx.records.test"), "mx.records.test");
}

#[tokio::test]
async fn rfc7672_2_2_2_an_alias_is_its_own_base_domain_where_its_end_has_none_and_one_midway_never() {
    let lab = lab()
        .domain("unsigned.test", |d| d.plain())
        .domain("bare.test", |d| d.host(|h| h.tlsa([])))
        // Secure at its start, not at its end: only the original name may have records.
        .domain("start.test", |d| d.hosted_by(10, "mx.start.test").alias("mx.start.test", "mx.unsigned.test"))
        // Secure to the end, which has no records: then the original name.
        .domain("whole.test", |d| d.hosted_by(10, "mx.whole.test").alias("mx.whole.test", "mx.bare.test"))
        .domain("midway.test", |d| {
            let d = d.hosted_by(10, "mx.midway.test").alias("mx.midway.test", "mid.midway.test");
            d.alias("mid.midway.test", "mx.bare.test")
        });
    let lab = lab.start().await.unwrap();
    let misfit = dane_relay::lab::tls::certificate::rdata(&dane_relay::lab::tls::ca::misfit(3, 1, 1, 0));
    for owner in ["mx.start.test", "mx.whole.test", "mid.midway.test"] {
        lab.world().add(&lab.tlsa_owner(owner), misfit.clone()).unwrap();
    }
    let world = World::beside(lab, |_, _| {}).await;
    for domain in ["start.test", "whole.test"] {
        let cause = world.defers(&format!("bob@{domain}")).await;
        expect(&cause, "tlsa-invalid", "4.7.323");
        assert!(cause.sentence().contains(&format!("TLSA records of mx.{domain}")), "{}", cause.sentence());
    }
    assert_eq!(world.delivers("bob@midway.test").await.tls, "unauthenticated");
}

#[tokio::test]
async fn rfc7672_2_2_3_a_next_hop_of_the_operator_is_held_to_the_records_of_its_own_port() {
    let lab = lab().domain("smart.test", |d| d).domain("bad.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])));
    let world = World::with(lab, |lab, config| {
        // The records are published for the port that the next hop names, and for no other.
        let to = |pattern: &str, host: &str| {
            format!("[[destination]]\ndomains = [\"{pattern}\"]\nnext_hop = \"{host}:{}\"\n", lab.port())
        };
        let text = to("partner.example", "mx.smart.test") + &to("other.example", "mx.bad.test");
        config.destination = Config::parse(&text, Path::new("suite.toml")).unwrap().destination;
        config.delivery.port = 25;
        config.delivery.allow_loopback = false;
    });
    let world = world.await;
    let delivered = world.delivers("bob@partner.example").await;
    assert_eq!((delivered.host.as_str(), delivered.tls), ("mx.smart.test", "dane"));
    expect(&world.defers("bob@other.example").await, "tlsa-invalid", "4.7.323");
    saw_no_mail(world.mx("bad.test"));
}

#[tokio::test]
async fn rfc7672_3_every_connection_is_checked_again_and_a_repaired_host_gets_the_mail() {
    let right = Arc::new(Identity::self_signed(&["mx.dane.test"]).unwrap());
    let given = Certificate::Given(Arc::clone(&right));
    let world = World::start(with_host(lab(), "dane.test", |h| h.certificate(given.clone()))).await;
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    // Session tickets of the first connection must not carry the second.
    world.lab.set_certificate("mx.dane.test", &Certificate::SelfSigned).unwrap();
    let waiting = world.mail(&["carol@dane.test"]).await;
    expect(&world.deferred(waiting, "carol@dane.test", 1).await, "tlsa-invalid", "4.7.323");
    world.lab.set_certificate("mx.dane.test", &given).unwrap();
    assert_eq!(world.delivered(waiting, "carol@dane.test").await.tls, "dane");
    assert_eq!(world.mx("dane.test").messages().len(), 2);
}

#[tokio::test]
async fn rfc7435_without_dane_any_certificate_will_do() {
    let lab = lab()
        .domain("self.test", |d| d.plain())
        .domain("old.test", |d| d.plain().host(|h| h.certificate(Certificate::IssuedExpired)))
        // Signed, and proven to have no TLSA records.
        .domain("signed.test", |d| d.host(|h| h.tlsa([])));
    let world = World::start(lab).await;
    for domain in ["self.test", "old.test", "signed.test"] {
        assert_eq!(world.delivers(&format!("bob@{domain}")).await.tls, "unauthenticated", "{domain}");
    }
}

#[tokio::test]
async fn rfc7435_without_dane_spoilt_tls_means_clear_text_at_the_first_attempt() {
    let plain = |lab: LabBuilder, (domain, how, _)| lab.domain(domain, |d| d.plain().host(|h| h.starttls(how)));
    let world = World::start(spoilt().into_iter().fold(lab(), plain)).await;
    for (domain, how, _) in spoilt() {
        assert_eq!(world.delivers(&format!("bob@{domain}")).await.tls, "clear-text", "{domain}");
        let fresh = match how {
            // A handshake that failed leaves no connection to go on with.
            StartTls::Alert(_) => 2..=2,
            // Nor does one whose hello was not heard, and a smaller one has its turn before.
            StartTls::DropAfter | StartTls::Hang => 3..=3,
            // Words that are not TLS may be lost in the reset behind them.
            StartTls::BrokenHandshake => 2..=3,
            StartTls::NotOffered | StartTls::Refused(_) | StartTls::Offered(_) | StartTls::LosesLargeHello(_) => 1..=1,
        };
        let (connections, mails) = (world.mx(domain).connections(), heard(world.mx(domain), "MAIL"));
        assert!(fresh.contains(&connections) && mails == 1, "{domain}: {connections} connections, {mails} MAIL");
    }
}
