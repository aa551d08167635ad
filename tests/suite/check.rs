//! `relay check` tells what delivery would do: both are asked about the same domains in the same
//! world, and their answers are compared. A check never begins a message.

use crate::relay::{World, expect, heard, lab, says, until};
use dane_relay::check::{CheckReport, Checker, Color, Detail, StsSource, Verdict, analyse};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::sts::spec::PolicyAnswer;
use dane_relay::lab::{AnswerFault, Certificate, HostSpec, LabBuilder, SignatureFault, StartTls, Tlsa, TroubleAt};
use dane_relay::outcome::DeliveryOutcome;
use dane_relay::resolve::{Security, TlsaRecord};
use hickory_proto::rr::RecordType;
use std::time::Duration;

/// A domain in some condition, and what both must say of it: the verdict, and the word for the
/// cause where mail is not delivered or not by every host.
type Situation = (&'static str, Verdict, Option<&'static str>);

const SITUATIONS: [Situation; 16] = [
    ("dane.test", Verdict::Ok, None),
    ("plain.test", Verdict::Ok, None),
    ("clear.test", Verdict::Ok, None),
    ("unusable.test", Verdict::Ok, None),
    ("implicit.test", Verdict::Ok, None),
    ("second.test", Verdict::Warning, Some("tlsa-invalid")),
    ("half.test", Verdict::Warning, Some("dns-unavailable")),
    ("mismatch.test", Verdict::Fault, Some("tlsa-invalid")),
    ("expired.test", Verdict::Fault, Some("certificate-expired")),
    ("notls.test", Verdict::Fault, Some("starttls-not-supported")),
    ("down.test", Verdict::Fault, Some("connect-failed")),
    ("closed.test", Verdict::Fault, Some("rejected")),
    ("null.test", Verdict::Fault, Some("null-mx")),
    ("nowhere.test", Verdict::Fault, Some("domain-not-found")),
    ("forged.test", Verdict::Fault, Some("dnssec-invalid")),
    ("servfail.test", Verdict::Inconclusive, Some("dns-unavailable")),
];

fn situations() -> LabBuilder {
    let misfit = || [Tlsa::Misfits(3, 1, 1, 0)];
    let tlsa_fails =
        |d: dane_relay::lab::DomainSpec, host: &str| d.fault(host, RecordType::TLSA, AnswerFault::ServFail);
    lab()
        .domain("dane.test", |d| d)
        .domain("plain.test", |d| d.plain())
        .domain("clear.test", |d| d.plain().host(|h| h.starttls(StartTls::NotOffered)))
        .domain("unusable.test", |d| d.host(|h| h.tlsa([Tlsa::Fits(1, 1, 1)])))
        .domain("implicit.test", |d| d.without_mx())
        .domain("second.test", |d| d.host(|h| h.tlsa(misfit())).add_host("mx2.second.test", 20, |h| h))
        .domain("half.test", |d| tlsa_fails(d, "mx.half.test").add_host("mx2.half.test", 20, |h| h))
        .domain("mismatch.test", |d| d.host(|h| h.tlsa(misfit())))
        .domain("expired.test", |d| d.host(|h| h.certificate(Certificate::IssuedExpired).tlsa([Tlsa::Fits(2, 0, 1)])))
        .domain("notls.test", |d| d.host(|h| h.starttls(StartTls::NotOffered)))
        .domain("down.test", |d| d.host(|h| h.down()))
        .domain("closed.test", |d| d.host(|h| h.trouble(TroubleAt::Connect, says("554 5.7.1 not from you"))))
        .domain("null.test", |d| d.null_mx())
        .domain("forged.test", |d| {
            d.fault("mx.forged.test", RecordType::TLSA, AnswerFault::Signature(SignatureFault::Bogus))
        })
        .domain("servfail.test", |d| tlsa_fails(d, "mx.servfail.test"))
}

/// A world with a checker that has the relay's own configuration.
async fn world(lab: LabBuilder) -> (World, Checker) {
    let mut shared: Option<Config> = None;
    let world = World::with(lab, |_, config| shared = Some(config.clone())).await;
    (world, Checker::new(shared.unwrap(), Clock::system()).unwrap())
}

pub(crate) async fn check(checker: &Checker, domain: &str) -> CheckReport {
    checker.check(&domain.parse().unwrap()).await
}

#[tokio::test]
async fn the_verdict_of_a_check_is_what_delivery_does() {
    let (world, checker) = world(situations()).await;
    for (domain, verdict, cause) in SITUATIONS {
        let report = check(&checker, domain).await;
        let found = (report.verdict, report.fault.as_ref().map(|fault| fault.cause));
        assert_eq!(found, (verdict, cause), "{}", report.text());
    }
    for (domain, verdict, cause) in SITUATIONS {
        let to = format!("bob@{domain}");
        let id = world.mail(&[&to]).await;
        let first = world.news(id, &to, |known| !known.is_empty()).await.remove(0);
        match (first, verdict) {
            (DeliveryOutcome::Delivered { .. }, Verdict::Ok | Verdict::Warning) => {}
            (DeliveryOutcome::Failed { cause: met }, Verdict::Fault | Verdict::Inconclusive) => {
                assert_eq!(Some(met.row().word), cause, "{domain}");
            }
            (outcome, _) => panic!("{domain}: the check said {verdict:?}, delivery {outcome:?}"),
        }
    }
}

#[tokio::test]
async fn a_check_begins_no_message_and_takes_its_leave() {
    let (world, checker) = world(situations()).await;
    for (domain, ..) in SITUATIONS {
        check(&checker, domain).await;
    }
    for host in world.lab.hosts().filter(|host| host.connections() > 0) {
        for verb in ["MAIL", "RCPT", "DATA", "BDAT", "HELO"] {
            assert_eq!(heard(host, verb), 0, "{}: {:?}", host.name(), host.seen());
        }
        // RFC 5321 §4.1.1.10; a connection whose handshake failed is beyond words.
        let farewells = host.connections() - host.handshakes_failed();
        let expected = if host.name() == "mx.closed.test" { 0 } else { farewells };
        assert_eq!(heard(host, "QUIT"), expected, "{}: {:?}", host.name(), host.seen());
    }
}

#[tokio::test]
async fn a_check_says_of_every_tlsa_record_whether_it_counts_and_matches() {
    let counts = [1, 5, 13, 60];
    let name = |count: usize| format!("n{count}.test");
    let with = |lab: LabBuilder, count: usize| lab.domain(&name(count), |d| d.host(|h| h.and_misfits(count - 1)));
    let short = TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![1; 31] };
    let mixed = [Tlsa::Fits(1, 1, 1), Tlsa::Exactly(short), Tlsa::Misfits(2, 0, 1, 0), Tlsa::Fits(3, 1, 1)];
    let lab = counts.into_iter().fold(lab(), with).domain("mixed.test", |d| d.host(|h| h.tlsa(mixed)));
    let (_world, checker) = world(lab).await;
    let tally = |report: &CheckReport| {
        let tlsa = &report.hosts[0].tlsa;
        (tlsa.len(), tlsa.iter().filter(|t| t.usable).count(), tlsa.iter().filter(|t| t.matched).count())
    };
    for count in counts {
        let report = check(&checker, &name(count)).await;
        assert_eq!(tally(&report), (count, count, 1), "{}", report.text());
        let all = report.shown(Detail::Everything, Color::Plain);
        assert!(all.contains(&format!("{count} usable, 1 matched")), "{all}");
    }
    let report = check(&checker, "mixed.test").await;
    assert_eq!(tally(&report), (4, 2, 1), "{}", report.text());
    let matched = report.hosts[0].tlsa.iter().find(|t| t.matched).unwrap();
    assert!(matched.usable && matched.record.starts_with("3 1 1 "), "{matched:?}");
}

#[tokio::test]
async fn a_check_of_a_mismatch_still_shows_what_the_host_presented() {
    let lab =
        lab().domain("mismatch.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0), Tlsa::Misfits(3, 1, 1, 1)])));
    let (_world, checker) = world(lab).await;
    let report = check(&checker, "mismatch.test").await;
    let host = &report.hosts[0];
    assert_eq!((host.name.as_str(), host.preference, host.policy), ("mx.mismatch.test", 10, "dane"));
    assert_eq!((host.security, report.mx_security), (Security::Secure, Some(Security::Secure)));
    assert_eq!(host.tlsa_base_domain.as_deref(), Some("mx.mismatch.test"));
    assert_eq!(host.addresses[0].fault.as_ref().unwrap().status, "4.7.323");
    assert_eq!(host.addresses[0].fault.as_ref().unwrap().result_type, Some("tlsa-invalid"));
    let fault = report.fault.as_ref().unwrap();
    assert_eq!(fault.side, "recipient");
    assert!(report.text().starts_with("FAULT  recipient  likely  tlsa-invalid  mismatch.test  ("), "{}", report.text());
}

#[tokio::test]
async fn a_check_says_why_there_is_no_dane() {
    let lab = lab().domain("plain.test", |d| d.plain()).domain("signed.test", |d| d.host(|h| h.tlsa([])));
    let (world, checker) = world(lab).await;
    let plain = check(&checker, "plain.test").await;
    assert_eq!(
        (plain.hosts[0].no_dane, plain.hosts[0].security),
        (Some("the host's addresses are not signed"), Security::Insecure)
    );
    assert_eq!(world.lab.dns().asked_type(RecordType::TLSA), 0);
    let signed = check(&checker, "signed.test").await;
    assert_eq!(signed.hosts[0].no_dane, Some("the signed zone has no TLSA records for the host"));
    assert_eq!(signed.hosts[0].policy, "opportunistic");
}

#[tokio::test]
async fn a_check_of_a_silent_dns_is_inconclusive() {
    let lab = lab()
        .domain("silent.test", |d| d.fault("silent.test", RecordType::MX, AnswerFault::Silent))
        .start()
        .await
        .unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::relay::config(&lab, folder.path());
    config.dns.timeout = Duration::from_secs(1);
    let report = check(&Checker::new(config, Clock::system()).unwrap(), "silent.test").await;
    assert_eq!((report.verdict, report.fault.unwrap().cause), (Verdict::Inconclusive, "dns-unavailable"));
    assert_eq!(lab.mx("silent.test").unwrap().connections(), 0);
}

#[tokio::test]
async fn mail_that_waits_is_counted_and_its_domains_are_checked_one_by_one() {
    let (world, checker) = world(situations()).await;
    for domain in ["mismatch.test", "mismatch.test", "notls.test"] {
        let to = format!("bob@{domain}");
        let id = world.mail(&[&to]).await;
        world.news(id, &to, |known| !known.is_empty()).await;
    }
    // The news is out before the ledger has it.
    let both_wait = async || {
        let report = check(&checker, "mismatch.test").await;
        report.evidence.queue.as_ref().is_some_and(|queue| queue.messages == 2).then_some(report)
    };
    let report = until(both_wait, "two messages in the queue").await;
    let text = report.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("2 messages wait, the oldest since ") && text.contains("nothing is lost"), "{text}");
    let queued = checker.queued().await;
    assert_eq!(queued.iter().map(|domain| domain.as_str()).collect::<Vec<_>>(), ["mismatch.test", "notls.test"]);
    let reports = checker.check_all(&queued).await;
    assert_eq!(reports.iter().map(|report| report.verdict).collect::<Vec<_>>(), [Verdict::Fault; 2]);
}

#[tokio::test]
async fn a_check_that_finds_nothing_says_what_mail_in_the_queue_was_refused_for() {
    let (world, checker) = world(lab().domain("busy.test", |d| d)).await;
    assert_eq!(check(&checker, "busy.test").await.verdict, Verdict::Ok);
    world.mx("busy.test").trouble(TroubleAt::Rcpt, says("450 4.2.1 this mailbox is over quota"));
    let id = world.mail(&["bob@busy.test"]).await;
    world.deferred(id, "bob@busy.test", 1).await;
    let told = async || {
        let report = check(&checker, "busy.test").await;
        (report.verdict == Verdict::Warning).then_some(report)
    };
    let report = until(told, "the cause in the queue").await;
    let text = report.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(text.contains("rejected-for-now") && text.contains("450 4.2.1 this mailbox is over quota"), "{text}");
    assert!(text.contains("mail: 1 message waits") && !text.contains("mail is delivered; "), "{text}");
}

#[tokio::test]
async fn what_the_check_does_not_wait_for_is_no_fault_and_keeps_no_exception_alive() {
    use dane_relay::lab::TroubleAt;
    let lab = lab().domain("late.test", |d| d).domain("mute.test", |d| d);
    let mut shared: Option<Config> = None;
    let world = World::with(lab, |_, config| shared = Some(config.clone())).await;
    let config = shared.unwrap();
    let checker = Checker::new(config.clone(), Clock::system()).unwrap();
    // Longer than the check waits, and not longer than delivery does.
    world.mx("late.test").delay(TroubleAt::Connect, Duration::from_secs(11));
    let report = check(&checker, "late.test").await;
    let text = report.text();
    assert_eq!((report.verdict, report.diagnosis.word.as_str()), (Verdict::Inconclusive, "slow"), "{text}");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("nothing came in 10.0 s") && flat.contains("delivery waits up to 20.0 s"), "{text}");
    assert!(flat.contains("relay check late.test --patient") && !flat.contains("not delivered now"), "{text}");
    let patient = Checker::patient(config, Clock::system()).unwrap();
    let report = check(&patient, "late.test").await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert!(report.is_delivered_everywhere());
    let delivered = world.delivers("bob@late.test").await;
    assert_eq!(delivered.tls, "dane", "and that is what delivery does");
}

#[tokio::test]
async fn rfc8461_3_3_a_policy_host_that_is_slower_than_the_check_is_slow_and_no_fault() {
    let slow = |answer: PolicyAnswer| answer.delay(Duration::from_secs(18));
    let lab = lab().domain("waits.test", |d| {
        d.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.mx(&["other.test"]).answer(slow))
    });
    let (world, checker) = world(lab).await;
    let report = check(&checker, "waits.test").await;
    let (text, found) = (report.text(), &report.diagnosis);
    assert_eq!((report.verdict, found.word.as_str()), (Verdict::Warning, "slow"), "{text}");
    assert_eq!(found.certainty, analyse::Certainty::Inconclusive, "{text}");
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("no MTA-STS policy came in 15.0 s; delivery waits up to 60.0 s"), "{text}");
    assert!(flat.contains("relay check waits.test --patient") && !flat.contains("cannot be used"), "{text}");
    assert!(!report.is_delivered_everywhere(), "nobody has seen the policy");
    // Delivery waits for it, and it decides.
    expect(&world.defers("bob@waits.test").await, "sts-mx-not-listed", "4.4.8");
    assert!(world.mx("waits.test").messages().is_empty());
}

#[tokio::test]
async fn rfc8460_3_the_details_have_the_record_for_reports_and_the_chain() {
    let report_to = "v=TLSRPTv1; rua=mailto:tls@dane.test";
    let lab = lab().domain("dane.test", |d| {
        let text = hickory_proto::rr::rdata::TXT::new(vec![report_to.to_owned()]);
        d.record("_smtp._tls.dane.test", hickory_proto::rr::RData::TXT(text))
    });
    let (_world, checker) = world(lab).await;
    let all = check(&checker, "dane.test").await.shown(Detail::Everything, Color::Plain);
    let flat = all.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains(&format!("tlsrpt: {report_to}")), "{all}");
    assert!(flat.contains("issued by CN=") && flat.contains("1 certificate sent"), "{all}");
}

#[tokio::test]
async fn rfc8460_3_p01_the_check_says_where_reports_go_or_what_is_wrong_with_the_record() {
    for (records, words) in [
        (
            &["v=TLSRPTv1; rua=mailto:tls@dane.test,https://r.dane.test/x,ftp://a"][..],
            &[
                "secure, reports go to mailto:tls@dane.test, https://r.dane.test/x",
                "passed over: ftp://a: it is neither mailto: nor https:",
            ][..],
        ),
        (&["v=TLSRPTv1; x=y"], &["secure, no report can go out: the TXT record has no rua"]),
        (&["v=TLSRPTv1 rua=mailto:a@b.test"], &["no report can go out: its record does not begin with v=TLSRPTv1;"]),
        (&["v=TLSRPTv1; rua=mailto:a@b.test", "v=TLSRPTv1;"], &["no report can go out: several TXT records"]),
    ] {
        let text =
            |record: &str| hickory_proto::rr::RData::TXT(hickory_proto::rr::rdata::TXT::new(vec![record.to_owned()]));
        let lab = lab().domain("dane.test", |d| {
            records.iter().fold(d, |d, record| d.record("_smtp._tls.dane.test", text(record)))
        });
        let (_world, checker) = world(lab).await;
        let report = check(&checker, "dane.test").await;
        let shown = report.shown(Detail::Everything, Color::Plain).split_whitespace().collect::<Vec<_>>().join(" ");
        for words in words {
            assert!(shown.contains(words), "{words}: {shown}");
        }
        let json = serde_json::to_value(&report).unwrap();
        let asked = &json["evidence"]["tls_reports"];
        assert_eq!(asked["security"], "secure", "{json:#}");
        assert_eq!(asked["problem"].is_null(), shown.contains("reports go to"), "{asked}");
    }
}

#[tokio::test]
async fn one_of_two_addresses_is_counted() {
    let lab = lab().domain("half.test", |d| d.host(|h| h.and_at_another_address(Certificate::SelfSigned)));
    let (_world, checker) = world(lab).await;
    let report = check(&checker, "half.test").await;
    assert_eq!(report.verdict, Verdict::Warning, "{}", report.text());
    assert!(report.evidence.delivery.sentence.contains("(1 of 2 addresses are good)"), "{}", report.text());
}

/// STANDARDS O-05: what a check prints of each MX host, and where the policy comes from.
#[tokio::test]
async fn o05_the_details_and_the_json_have_all_that_decides_about_a_host() {
    let lab = lab().domain("all.test", |d| {
        let text = hickory_proto::rr::rdata::TXT::new(vec!["v=TLSRPTv1; rua=mailto:tls@all.test".to_owned()]);
        let report_to = hickory_proto::rr::RData::TXT(text);
        let host = |h: HostSpec| h.tlsa([Tlsa::Fits(3, 1, 1), Tlsa::Misfits(3, 1, 1, 0), Tlsa::Misfits(1, 1, 1, 1)]);
        d.host(host).mta_sts(|p| p).record("_smtp._tls.all.test", report_to)
    });
    let (world, checker) = world(lab).await;
    let report = check(&checker, "all.test").await;
    let flat = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let all = report.shown(Detail::Everything, Color::Plain);
    let address = world.mx("all.test").address().to_string();
    for words in [
        "host: 10 mx.all.test, addresses secure, policy dane",
        "3 TLSA records of",
        "2 usable, 1 matched:",
        "TLSv1.3, authenticated by DANE",
        &format!("cert: {address} shows "),
        "issued by CN=",
        "until 2099-01-01",
        "1 certificate sent",
        "MTA-STS policy, mode enforce, id 1, until",
        "fetched just now,",
        "tlsrpt: v=TLSRPTv1; rua=mailto:tls@all.test",
    ] {
        assert!(flat(&all).contains(words), "{words:?} is not in\n{all}");
    }
    assert!(flat(&report.text()).contains("MTA-STS enforce, fetched just now; wants TLS reports"), "{}", report.text());
    let json = serde_json::to_value(&report).unwrap();
    for (path, value) in [
        ("/verdict", "ok"),
        ("/hosts/0/name", "mx.all.test"),
        ("/hosts/0/security", "secure"),
        ("/hosts/0/policy", "dane"),
        ("/mta_sts/source", "live"),
        ("/evidence/tlsrpt", "v=TLSRPTv1; rua=mailto:tls@all.test"),
        ("/evidence/servers/0/address", &address),
        ("/evidence/servers/0/negotiated/version", "TLSv1.3"),
    ] {
        assert_eq!(json.pointer(path).and_then(serde_json::Value::as_str), Some(value), "{path} in {json:#}");
    }
    assert_eq!(json.pointer("/hosts/0/preference"), Some(&10.into()));
    assert!(json.pointer("/evidence/servers/0/certificate/not_after").is_some_and(serde_json::Value::is_i64));
    let tlsa = json.pointer("/hosts/0/tlsa").and_then(serde_json::Value::as_array).unwrap();
    let states = tlsa.iter().map(|one| (one["usable"].as_bool(), one["matched"].as_bool()));
    let counts = |usable, matched| states.clone().filter(|one| *one == (Some(usable), Some(matched))).count();
    assert_eq!((counts(true, true), counts(true, false), counts(false, false)), (1, 1, 1));
    // The next one finds the policy where the first has kept it.
    let again = check(&checker, "all.test").await;
    let since = again.mta_sts.as_ref().and_then(|sts| sts.fetched.clone()).unwrap();
    assert_eq!(again.mta_sts.as_ref().and_then(|sts| sts.source), Some(StsSource::Cache));
    assert!(flat(&again.text()).contains(&format!("MTA-STS enforce, kept since {since}")), "{}", again.text());
}

/// STANDARDS O-08: the words of TLS reports (RFC 8460 §4.3), where those of the log are others, too.
#[tokio::test]
async fn o08_a_check_says_the_result_type_of_tls_reports() {
    let lab = lab()
        .domain("notls.test", |d| d.host(|h| h.starttls(StartTls::NotOffered)))
        .domain("mismatch.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
        .domain("unlisted.test", |d| {
            d.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.mx(&["other.unlisted.test"]))
        });
    let (_world, checker) = world(lab).await;
    for (domain, cause, result_type) in [
        ("notls.test", "starttls-not-supported", "starttls-not-supported"),
        ("mismatch.test", "tlsa-invalid", "tlsa-invalid"),
        ("unlisted.test", "sts-mx-not-listed", "validation-failure"),
    ] {
        let report = check(&checker, domain).await;
        let (text, fault) = (report.text(), report.fault.as_ref().unwrap());
        assert_eq!((fault.cause, fault.result_type), (cause, Some(result_type)), "{text}");
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["fault"]["result_type"], result_type, "{json:#}");
        let flat = text.split_whitespace().collect::<Vec<_>>().join(" ");
        let is_said =
            flat.contains(cause) && (cause == result_type || flat.contains(&format!("in TLS reports: {result_type}")));
        assert!(is_said, "{text}");
    }
}
