//! One value of every kind of cause, for tests that go through all of them.
//!
//! [`rank`] does not compile when a variant is added, and a test fails until the variant has a
//! value here.

use super::*;

/// The reply of these lines.
pub(crate) fn reply(lines: &[&[u8]]) -> Reply {
    let mut parser = crate::smtp::reply::ReplyParser::default();
    lines.iter().find_map(|line| parser.line(line).unwrap()).unwrap()
}

pub(crate) fn peer() -> Peer {
    Peer { host: "mx1.partner.example".into(), address: "192.0.2.25:25".parse().unwrap() }
}

const DIGEST: &str = "d42192a5e1ca3655ab1d1afc3c799ad4a3c8a9251904deee33dacfe54ffc2418";

/// A number for each variant; the order means nothing.
fn rank(cause: &Cause) -> usize {
    match cause {
        Cause::DomainNotFound { .. } => 0,
        Cause::NullMx { .. } => 1,
        Cause::NoMailHost { .. } => 2,
        Cause::DnsUnavailable { .. } => 3,
        Cause::DnsBogus { .. } => 4,
        Cause::MailLoop { .. } => 5,
        Cause::AddressForbidden { .. } => 6,
        Cause::ConnectFailed { .. } => 7,
        Cause::TimedOut { .. } => 8,
        Cause::ConnectionLost { .. } => 9,
        Cause::ProtocolError { .. } => 10,
        Cause::Rejected { .. } => 11,
        Cause::StarttlsNotOffered { .. } => 12,
        Cause::StarttlsRefused { .. } => 13,
        Cause::TlsHandshake { .. } => 14,
        Cause::DaneMismatch { .. } => 15,
        Cause::CertificateRejected { .. } => 16,
        Cause::StsMxNotListed { .. } => 17,
        Cause::DaneRequired { .. } => 18,
        Cause::StsRequired { .. } => 19,
        Cause::RequireTlsUnmet { .. } => 20,
        Cause::MessageTooLarge { .. } => 21,
        Cause::EightBitNotOffered { .. } => 22,
        Cause::ContentDamaged => 23,
        Cause::Expired { .. } => 24,
        Cause::SmtpUtf8NotOffered { .. } => 25,
        Cause::BouncedByOperator { .. } => 26,
        Cause::SpecialUseDomain { .. } => 27,
        Cause::NextHopUnknown { .. } => 28,
        Cause::StsPolicyLost { .. } => 29,
        Cause::PerhapsTaken { .. } => 30,
        Cause::EgressFailed { .. } => 31,
        Cause::NoRoute { .. } => 32,
        Cause::NotSigned { .. } => 33,
    }
}

/// Variants of [`Cause`]: one more than the highest rank.
const VARIANTS: usize = 34;

/// One of each, and of those that differ in their row one of each row.
pub(crate) fn cause() -> Vec<Cause> {
    let mut all = about_the_dns();
    all.extend(about_the_conversation());
    all.extend(about_protection());
    let last = all.iter().filter(|cause| cause.class() == Class::Transient).cloned().collect::<Vec<_>>();
    all.extend(last.into_iter().map(|last| Cause::Expired { waited_s: 345_600, last: Some(Box::new(last)) }));
    all.push(Cause::Expired { waited_s: 345_600, last: None });
    let last = Some(Box::new(Cause::ConnectFailed { peer: peer(), detail: "refused".into() }));
    all.extend([last, None].map(|last| Cause::BouncedByOperator { last }));
    all
}

fn about_the_dns() -> Vec<Cause> {
    let domain = || "partner.example".parse().unwrap();
    let question = |name: &str, kind: &str| Question { name: name.into(), record_type: kind.into() };
    let tried = vec![PathFailure { upstream: "udp://127.0.0.1:53".into(), detail: "timeout".into() }];
    let next_hop_unknown = |question: Option<Question>| {
        let tried = if question.is_some() { tried.clone() } else { Vec::new() };
        Cause::NextHopUnknown { name: domain(), detail: "no such name".into(), question, tried }
    };
    vec![
        Cause::SpecialUseDomain { domain: "office.local".parse().unwrap() },
        next_hop_unknown(None),
        next_hop_unknown(Some(question("partner.example", "A"))),
        Cause::DomainNotFound { domain: domain() },
        Cause::NullMx { domain: domain() },
        Cause::NoMailHost { domain: domain() },
        Cause::DnsUnavailable { question: question("partner.example", "MX"), tried: tried.clone() },
        Cause::DnsUnavailable { question: question("_25._tcp.mx1.partner.example", "TLSA"), tried },
        Cause::DnsBogus { question: question("partner.example", "MX"), detail: "signature expired".into() },
        Cause::MailLoop { domain: domain() },
        Cause::AddressForbidden { host: "mx1.partner.example".into(), address: "127.0.0.1".parse().unwrap() },
    ]
}

fn about_the_conversation() -> Vec<Cause> {
    let detail = || "reset by peer".to_owned();
    let phase = Phase::MailFrom;
    let rejected =
        |line: &str| Cause::Rejected { peer: peer(), phase: Phase::RcptTo, reply: reply(&[line.as_bytes()]) };
    vec![
        Cause::NoRoute { peer: peer(), detail: "network is unreachable".to_owned() },
        Cause::ConnectFailed { peer: peer(), detail: detail() },
        Cause::TimedOut { peer: peer(), phase },
        Cause::ConnectionLost { peer: peer(), phase, detail: detail() },
        Cause::ProtocolError { peer: peer(), phase, detail: detail() },
        Cause::PerhapsTaken { peer: peer(), detail: "it did not answer in time".into() },
        rejected("550 5.1.1 no such user"),
        rejected("450 4.2.0 greylisted"),
        rejected("554 no"),
        rejected("554 5.7.1 client host [192.0.2.7] is listed at blocklist.example"),
        Cause::NotSigned { domain: Some("office.example".parse().unwrap()), failure: Unsignable::TooManyFields },
        Cause::NotSigned { domain: None, failure: Unsignable::HeaderTooLarge },
        Cause::NotSigned { domain: Some("office.example".parse().unwrap()), failure: Unsignable::KeyUnusable },
        Cause::MessageTooLarge { peer: peer(), limit: 10, size: 11 },
        Cause::EightBitNotOffered { peer: peer(), unconvertible: None },
        Cause::EightBitNotOffered { peer: peer(), unconvertible: Some(Unconvertible::Signed) },
        Cause::SmtpUtf8NotOffered { peer: peer() },
        Cause::ContentDamaged,
    ]
}

fn about_protection() -> Vec<Cause> {
    let (host, presented) = ("mx1.partner.example", || vec!["other.example".to_owned()]);
    let missing = |fault| MissingPolicy { detail: "the policy host does not answer".into(), fault };
    let sts_required = |fault| Cause::StsRequired { domain: "partner.example".into(), missing: missing(fault) };
    let require_tls = |failure| Cause::RequireTlsUnmet { host: host.into(), failure };
    let mut all = vec![
        Cause::TlsHandshake { peer: peer(), detail: "no shared cipher".into() },
        Cause::StsMxNotListed {
            domain: "partner.example".parse().unwrap(),
            host: host.into(),
            listed: vec!["mail.partner.example".into()],
            policy_id: Some("20261101".into()),
        },
        Cause::DaneRequired { host: host.into(), because: "its zone is not signed".into() },
        sts_required(None),
        sts_required(Some(StsFault::FetchError)),
        sts_required(Some(StsFault::Invalid)),
        sts_required(Some(StsFault::WebPkiInvalid)),
        Cause::StsPolicyLost {
            domain: "partner.example".parse().unwrap(),
            lost: LostPolicy {
                detail: "the file is damaged: its checksum is wrong".into(),
                until: Some(crate::clock::Timestamp(1_826_819_068_000)),
                fetch: Some("the policy host took too long".into()),
            },
        },
        require_tls(RequireTlsFailure::HostNotProven),
        require_tls(RequireTlsFailure::NotOffered { peer: peer() }),
        require_tls(RequireTlsFailure::Tls { cause: Box::new(dane(DaneFailure::NoMatch)) }),
    ];
    all.extend(egress::every());
    let all_of_them =
        [DemandedBy::Dane, DemandedBy::MtaSts, DemandedBy::RequireTls, DemandedBy::Operator, DemandedBy::Server];
    for demanded_by in all_of_them {
        all.push(Cause::StarttlsNotOffered { peer: peer(), demanded_by });
        all.push(Cause::StarttlsRefused { peer: peer(), demanded_by, reply: reply(&[b"454 4.7.0 not now"]) });
    }
    let (detail, other) = ("no basic constraints".to_owned(), presented());
    all.extend([DaneFailure::NoMatch, DaneFailure::Expired, DaneFailure::NotYetValid].map(dane));
    all.push(dane(DaneFailure::NameMismatch { presented: other }));
    all.extend(
        [DaneFailure::Chain { detail: detail.clone() }, DaneFailure::Unreadable { detail: detail.clone() }].map(dane),
    );
    let certificate = |failure| Cause::CertificateRejected {
        peer: peer(),
        failure,
        demanded_by: DemandedBy::MtaSts,
        certificate_sha256: DIGEST.into(),
    };
    all.push(certificate(CertificateFailure::NotTrusted { detail: detail.clone() }));
    all.extend([CertificateFailure::Expired, CertificateFailure::NotYetValid].map(certificate));
    all.push(certificate(CertificateFailure::NameMismatch { presented: presented() }));
    all.push(certificate(CertificateFailure::Unreadable { detail }));
    all
}

/// A certificate that no TLSA record vouches for.
pub(crate) fn dane(failure: DaneFailure) -> Cause {
    Cause::DaneMismatch {
        peer: peer(),
        failure,
        base_domain: "mx1.partner.example".into(),
        usable_records: 2,
        certificate_sha256: DIGEST.into(),
    }
}

#[test]
fn no_kind_of_cause_is_left_out() {
    let mut met: Vec<_> = cause().iter().map(rank).collect();
    met.sort_unstable();
    met.dedup();
    assert_eq!(met, (0..VARIANTS).collect::<Vec<_>>());
}

#[test]
fn rfc3463_every_cause_has_words_and_a_status_that_fits_its_class() {
    for cause in cause() {
        let row = cause.row();
        assert_eq!(row.status.class, row.class.digit(), "{cause:?}");
        assert!(!cause.sentence().is_empty() && cause.advice().ends_with('.'), "{cause:?}");
        assert!(row.word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'), "{}", row.word);
        let stored = serde_json::to_value(&cause).unwrap();
        assert_eq!(stored["cause"], row.word, "one word everywhere, and so in the state database");
        assert_eq!(serde_json::from_value::<Cause>(stored).unwrap(), cause);
    }
}

#[test]
fn what_stops_mail_for_safety_is_told_from_other_trouble() {
    for cause in cause() {
        let root = cause.root();
        let expected = root.unprotected().is_some() || matches!(rank(root), 3 | 4 | 19 | 28 | 29);
        assert_eq!(cause.is_about_safety(), expected, "{cause:?}");
    }
    assert!(!Cause::ConnectFailed { peer: peer(), detail: String::new() }.is_about_safety());
    assert!(dane(DaneFailure::Expired).is_about_safety());
}
