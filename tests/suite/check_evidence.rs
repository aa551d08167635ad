//! The analysis alone, on evidence from files: what real checks saw in the lab, and the same with
//! one fact changed. A contradicted hypothesis is out, a missing control counts as nothing, and the
//! recipient is not accused while anybody has the records.
//!
//! The files of `testdata/check` are what `tests/suite/check_situations.rs` keeps when
//! `RELAY_KEEP_EVIDENCE` names a folder.

use dane_relay::check::Verdict;
use dane_relay::check::analyse::{Certainty, Diagnosis, analyse};
use dane_relay::check::compare::compare;
use dane_relay::check::evidence::{CertificateEnd, DnsProbe, Evidence, ProbeRole, Whom};
use dane_relay::clock::Timestamp;
use dane_relay::outcome::Side;
use dane_relay::resolve::probe::{ProbeReply, ProbeTransport};
use std::path::{Path, PathBuf};

/// What each file must lead to.
const EXPECTED: &[(&str, Side, &str)] = &[
    ("any-count-filter", Side::Path, "local-dns-count-filter"),
    ("banner-masked", Side::Path, "local-smtp-rewritten"),
    ("count-filter", Side::Path, "local-dns-count-filter"),
    ("count-filter-beyond-serv-fail", Side::Path, "local-dns-count-filter"),
    ("count-filter-over-udp", Side::Path, "local-dns-count-filter"),
    ("edns-filter", Side::Path, "local-dns-edns-filter"),
    ("port25-refused", Side::Path, "local-port25-blocked"),
    ("proxy-for-everyone", Side::Path, "local-smtp-rewritten"),
    ("recipient-serv-fail", Side::Recipient, "recipient-dns"),
    ("resolver-strips", Side::Resolver, "resolver-strips-dnssec"),
    ("size-filter", Side::Path, "local-dns-size-filter"),
    ("start-tls-stripped", Side::Path, "local-smtp-rewritten"),
    ("tcp53-blocked", Side::Path, "local-tcp53-blocked"),
    ("tls-intercepted", Side::Path, "local-tls-intercepted"),
    ("tlsa-forged", Side::Path, "local-dns-type-filter"),
    ("type-filter", Side::Path, "local-dns-type-filter"),
    ("wrong-clock", Side::Here, "local-clock-wrong"),
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/check")
}

fn evidence(name: &str) -> Evidence {
    let text = std::fs::read_to_string(folder().join(format!("{name}.json"))).unwrap();
    serde_json::from_str(&text).unwrap()
}

/// The diagnosis after something has been changed.
fn changed(name: &str, change: impl FnOnce(&mut Evidence)) -> Diagnosis {
    let mut evidence = evidence(name);
    change(&mut evidence);
    analyse(&evidence)
}

fn probes<'a>(
    evidence: &'a mut Evidence,
    is: impl Fn(&DnsProbe) -> bool + 'a,
) -> impl Iterator<Item = &'a mut DnsProbe> {
    evidence.dns.iter_mut().filter(move |probe| is(probe))
}

const fn is_control(probe: &DnsProbe) -> bool {
    matches!(probe.role, ProbeRole::Control(_) | ProbeRole::Addresses(_) | ProbeRole::Large)
}

#[test]
fn every_file_leads_to_its_diagnosis() {
    for (name, side, word) in EXPECTED {
        let found = analyse(&evidence(name));
        assert_eq!((found.side, found.word.as_str()), (Some(*side), *word), "{name}: {found:#?}");
    }
    let mut files: Vec<String> = std::fs::read_dir(folder())
        .unwrap()
        .map(|file| file.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    files.sort();
    assert_eq!(files, EXPECTED.iter().map(|(name, ..)| (*name).to_owned()).collect::<Vec<_>>());
}

#[test]
fn without_controls_a_count_filter_is_only_likely_and_the_other_causes_are_said() {
    let found = changed("count-filter", |e| e.dns.retain(|probe| !is_control(probe)));
    assert_eq!((found.side, found.certainty), (Some(Side::Path), Certainty::Likely), "{found:#?}");
    assert!(!found.also.is_empty(), "{found:#?}");
    assert_eq!(found.level, Verdict::Fault);
}

#[test]
fn without_controls_and_references_nothing_is_claimed() {
    let found = changed("count-filter", |e| {
        e.dns.retain(|probe| !is_control(probe) && probe.whom != Whom::Reference);
    });
    assert_eq!((found.certainty, found.level), (Certainty::Inconclusive, Verdict::Inconclusive), "{found:#?}");
    assert_eq!(found.word, "inconclusive");
    for word in ["local-dns-count-filter", "recipient-dns"] {
        assert!(found.also.iter().any(|also| also == word), "{found:#?}");
    }
}

#[test]
fn an_answer_with_as_many_records_contradicts_a_count_filter() {
    let found = changed("count-filter", |e| {
        for probe in probes(e, is_control) {
            probe.seen.reply = ProbeReply::Records;
            probe.seen.octets = 900;
        }
    });
    assert_ne!(found.word, "local-dns-count-filter", "{found:#?}");
}

#[test]
fn a_tlsa_answer_contradicts_a_type_filter() {
    let found = changed("type-filter", |e| {
        for probe in probes(e, |probe| probe.role == ProbeRole::TlsaWithout) {
            probe.seen.reply = ProbeReply::NoData;
        }
    });
    assert_ne!(found.word, "local-dns-type-filter", "{found:#?}");
}

#[test]
fn a_larger_answer_contradicts_a_size_filter() {
    let found = changed("size-filter", |e| {
        for probe in probes(e, |probe| probe.role == ProbeRole::Root && probe.seen.transport == ProbeTransport::Udp) {
            probe.seen.octets = 1139;
        }
    });
    assert_ne!(found.word, "local-dns-size-filter", "{found:#?}");
}

#[test]
fn a_harmless_question_that_fails_at_the_end_is_an_outage_and_no_filter() {
    let found = changed("count-filter", |e| {
        for probe in probes(e, |probe| probe.role == ProbeRole::Again) {
            probe.seen.reply = ProbeReply::Silence;
        }
    });
    assert_eq!(found.word, "inconclusive", "{found:#?}");
    assert!(found.sentence.contains("stopped answering"), "{found:#?}");
}

#[test]
fn silence_everywhere_is_an_outage_and_no_filter() {
    let found = changed("count-filter", |e| {
        for probe in &mut e.dns {
            probe.seen.reply = ProbeReply::Silence;
        }
    });
    assert_eq!(found.word, "resolver-side", "{found:#?}");
    assert!(found.sentence.contains("an outage"), "{found:#?}");
}

#[test]
fn the_recipient_is_not_accused_while_an_encrypted_way_has_the_records() {
    let found = changed("recipient-serv-fail", |e| {
        for probe in probes(e, |probe| probe.whom == Whom::Reference && probe.role == ProbeRole::Subject) {
            probe.seen.reply = ProbeReply::Records;
            probe.seen.records = 1;
        }
    });
    assert_ne!(found.side, Some(Side::Recipient), "{found:#?}");
}

#[test]
fn a_control_with_starttls_clears_the_way_and_the_recipient_has_lost_it() {
    let found = changed("start-tls-stripped", |e| {
        for server in e.servers.iter_mut().filter(|server| server.control) {
            server.ehlo.push("STARTTLS".into());
            server.tls = true;
        }
    });
    assert_eq!((found.side, found.word.as_str()), (Some(Side::Recipient), "starttls-not-supported"), "{found:#?}");
}

#[test]
fn without_a_control_missing_starttls_is_not_proven_to_be_anybodys() {
    let found = changed("start-tls-stripped", |e| e.servers.retain(|server| !server.control));
    assert_eq!((found.word.as_str(), found.certainty), ("local-smtp-rewritten", Certainty::Likely), "{found:#?}");
    assert_eq!(found.also, ["starttls-not-supported"]);
}

#[test]
fn a_control_that_is_reached_clears_port_25() {
    let found = changed("port25-refused", |e| {
        for server in e.servers.iter_mut().filter(|server| server.control) {
            server.cause = None;
        }
    });
    assert_eq!((found.word.as_str(), found.certainty), ("connect-failed", Certainty::Likely), "{found:#?}");
    let alone = changed("port25-refused", |e| e.servers.retain(|server| !server.control));
    assert_eq!(alone.word, "connect-failed", "a missing control counts as nothing");
}

#[test]
fn a_control_with_another_issuer_clears_the_way_of_tls() {
    let found = changed("tls-intercepted", |e| {
        for certificate in e.servers.iter_mut().filter(|s| s.control).filter_map(|s| s.certificate.as_mut()) {
            certificate.issuer = "CN=Somebody else".into();
            certificate.sha256 = "00".into();
        }
    });
    assert_eq!((found.side, found.word.as_str()), (Some(Side::Recipient), "tlsa-invalid"), "{found:#?}");
}

#[test]
fn rfc7671_5_1_the_end_of_a_certificate_counts_only_where_somebody_looks_at_it() {
    let soon = |end| {
        changed("tls-intercepted", |e| {
            e.delivery.cause = None;
            e.delivery.delivers = true;
            for server in &mut e.servers {
                server.cause = None;
                let certificate = server.certificate.as_mut().unwrap();
                (certificate.end, certificate.not_after) = (end, Timestamp(e.at.0 + 3 * 86_400_000));
            }
        })
    };
    let found = soon(CertificateEnd::Counts);
    assert_eq!((found.level, found.word.as_str()), (Verdict::Warning, "certificate-expires-soon"), "{found:#?}");
    assert!(found.sentence.contains("in 3 days"), "{found:#?}");
    assert_eq!(soon(CertificateEnd::Ignored).level, Verdict::Ok);
}

#[test]
fn waiting_mail_is_counted_and_nothing_is_lost() {
    let found = changed("count-filter", |e| {
        let oldest = Some(Timestamp(1_795_261_468_000));
        e.queue = Some(dane_relay::check::evidence::Queue { messages: 7, oldest, refused: None });
    });
    assert_eq!(found.mail, "7 messages wait, the oldest since 2026-11-21T11:44:28Z; nothing is lost");
}

#[test]
fn a_comparison_says_on_which_side_the_cause_is() {
    let inside = evidence("count-filter");
    let mut outside = inside.clone();
    outside.dns.clear();
    outside.troubled.clear();
    (outside.delivery.delivers, outside.delivery.cause) = (true, None);
    let name = inside.subject.clone().unwrap().name;
    outside.delivery.tlsa = vec![dane_relay::check::evidence::TlsaCount { name, records: 6 }];
    let text = compare(&inside, &outside);
    let flat = text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("none here, 6 there"), "{text}");
    assert!(text.contains("the cause is on this side"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    assert!(compare(&inside, &inside).contains("Both meet the same fault"));
    assert!(compare(&outside, &outside).contains("good order"));
}

#[test]
fn there_is_no_advice_about_dane_of_a_domain_of_which_nobody_has_seen_any() {
    let seen = analyse(&evidence("count-filter"));
    assert!(seen.do_not.as_ref().is_some_and(|words| words.contains("DANE")), "{seen:#?}");
    let unseen = changed("count-filter", |e| {
        e.delivery.tlsa.clear();
        e.outside = None;
        for probe in probes(e, |probe| probe.role == ProbeRole::Subject) {
            probe.seen.records = 0;
        }
    });
    assert_eq!(unseen.do_not, None, "{unseen:#?}");
    let said = [unseen.bridge, unseen.advice].into_iter().flatten().collect::<String>();
    assert!(!said.contains("DANE"), "{said}");
}

#[test]
fn no_bridge_is_advised_that_the_configuration_has_already() {
    let encrypted = |e: &Evidence| {
        let mut references = e.dns.iter().filter(|probe| probe.whom == Whom::Reference);
        references.find(|probe| probe.server.starts_with("tls://")).map(|probe| probe.server.clone()).unwrap()
    };
    let reference = encrypted(&evidence("count-filter"));
    let bridge = |e: Diagnosis| e.bridge.unwrap_or_default();
    assert!(bridge(analyse(&evidence("count-filter"))).contains(&reference));
    let with_it = bridge(changed("count-filter", |e| e.upstreams.push(reference.clone())));
    assert!(!with_it.contains(&reference), "{with_it}");
    let with_both = bridge(changed("count-filter", |e| {
        e.upstreams.extend([reference.clone(), "authoritative".to_owned()]);
    }));
    assert_eq!(with_both, "", "nothing is left to advise");
}
