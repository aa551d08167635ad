//! Reports as their readers see them (RFC 3464, RFC 6522): parsed by an ordinary mail library,
//! and whole ones compared with those in `testdata/dsn`.
//!
//! `UPDATE_DSN=1 cargo test` writes them anew; look at the difference before it is committed.

#![expect(clippy::disallowed_methods, reason = "the expected mails are files")]

use super::*;
use crate::envelope::ClientInfo;
use crate::outcome::{DaneFailure, PathFailure, Peer, Phase, Question};
use crate::smtp::reply::{Reply, ReplyParser};
use mail_parser::{MessageParser, MimeHeaders as _};
use std::path::Path;

const ARRIVED: Timestamp = Timestamp(1_794_915_868_000);
const NOW: Timestamp = Timestamp(1_795_261_468_000);
const ID: QueueId = QueueId(1_795_261_468_000_123);
const HEADER: &[u8] = b"Received: from ex.corp.example by relay.corp.example\r\n\tid 0; today\r\n\
    From: Ann <ann@corp.example>\r\nTo: bob@partner.example\r\nSubject: Offer\r\n 2026\r\n\
    Message-ID: <abc.1@ex.corp.example>\r\n\r\nbody stays here\r\n";

fn peer() -> Peer {
    Peer { host: "mx1.partner.example".into(), address: "192.0.2.25:25".parse().unwrap() }
}

fn reply(lines: &[&[u8]]) -> Reply {
    let mut parser = ReplyParser::default();
    lines.iter().find_map(|line| parser.line(line).unwrap()).unwrap()
}

fn rejected(lines: &[&[u8]]) -> Cause {
    Cause::Rejected { peer: peer(), phase: Phase::RcptTo, reply: reply(lines) }
}

fn dane_mismatch() -> Cause {
    Cause::DaneMismatch {
        peer: peer(),
        failure: DaneFailure::NoMatch,
        base_domain: "mx1.partner.example".into(),
        usable_records: 2,
        certificate_sha256: "d42192a5e1ca3655ab1d1afc3c799ad4a3c8a9251904deee33dacfe54ffc2418".into(),
    }
}

fn tlsa_unavailable() -> Cause {
    let question = Question { name: "_25._tcp.mx1.partner.example".into(), record_type: "TLSA".into() };
    let tried = [("udp://127.0.0.1:53", "timeout"), ("tcp://127.0.0.1:53", "SERVFAIL")];
    let tried = tried.map(|(upstream, detail)| PathFailure { upstream: upstream.into(), detail: detail.into() });
    Cause::DnsUnavailable { question, tried: tried.to_vec() }
}

fn expired(last: Cause) -> Cause {
    Cause::Expired { waited_s: 345_600, last: Some(Box::new(last)) }
}

fn envelope(reverse_path: &str) -> Envelope {
    let client =
        ClientInfo { address: "192.0.2.10".parse().unwrap(), helo: "ex.corp.example".into(), protocol: "ESMTP".into() };
    let sender = crate::smtp::address::parse_reverse_path(reverse_path).unwrap();
    Envelope::new(sender, vec!["bob@partner.example".parse().unwrap()], ARRIVED, Origin::Client(client))
}

fn report(failures: &[(&str, &Cause)], header: &[u8]) -> String {
    let recipients: Vec<Mailbox> = failures.iter().map(|(recipient, _)| recipient.parse().unwrap()).collect();
    let failures: Vec<_> =
        recipients.iter().zip(failures).map(|(recipient, (_, cause))| Failure { recipient, cause }).collect();
    let envelope = envelope("<ann@corp.example>");
    let original = Original { id: ID, envelope: &envelope, header };
    let report = compose(&"relay.corp.example".parse().unwrap(), &original, &failures, NOW).unwrap();
    assert_is_deliverable_anywhere(&report.content);
    String::from_utf8(report.content.to_vec()).unwrap()
}

/// RFC 5321 §2.3.8, RFC 5322 §2.1.1: no bare CR or LF, short lines, 7-bit, printable.
fn assert_is_deliverable_anywhere(content: &[u8]) {
    let text = std::str::from_utf8(content).unwrap();
    assert!(text.ends_with("\r\n"));
    for line in text.split("\r\n") {
        assert!(line.len() <= 998, "{line}");
        assert!(line.bytes().all(|b| b == b'\t' || (32..127).contains(&b)), "{line:?}");
    }
}

/// Content types and contents of the parts, by a mail library.
fn parts(report: &str) -> Vec<(String, String)> {
    let message = MessageParser::default().parse(report.as_bytes()).unwrap();
    let outer = message.content_type().unwrap();
    assert_eq!((outer.ctype(), outer.subtype()), ("multipart", Some("report")));
    assert_eq!(outer.attribute("report-type"), Some("delivery-status"));
    let leaves = message.parts.iter().skip(1);
    leaves
        .map(|part| {
            let kind = part.content_type().unwrap();
            let content = String::from_utf8_lossy(part.contents()).into_owned();
            (format!("{}/{}", kind.ctype(), kind.subtype().unwrap()), content)
        })
        .collect()
}

fn status_of(report: &str) -> String {
    parts(report).swap_remove(1).1
}

fn check_golden(name: &str, report: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dsn").join(name);
    if std::env::var_os("UPDATE_DSN").is_some() {
        std::fs::write(&path, report).unwrap();
    }
    let expected = std::fs::read_to_string(&path).unwrap();
    assert_eq!(report, expected, "{} differs", path.display());
}

#[test]
fn rfc5321_4_5_5_nobody_is_told_about_mail_from_the_null_reverse_path() {
    let (recipient, cause) = ("bob@partner.example".parse().unwrap(), Cause::ContentDamaged);
    let failures = [Failure { recipient: &recipient, cause: &cause }];
    let hostname = "relay.corp.example".parse().unwrap();
    let null = envelope("<>");
    assert!(compose(&hostname, &Original { id: ID, envelope: &null, header: HEADER }, &failures, NOW).is_none());
    let from_ann = envelope("<ann@corp.example>");
    let original = Original { id: ID, envelope: &from_ann, header: HEADER };
    assert!(compose(&hostname, &original, &[], NOW).is_none(), "nothing failed");
    let report = compose(&hostname, &original, &failures, NOW).unwrap();
    assert_eq!(report.envelope.reverse_path, ReversePath::Null);
    assert_eq!(report.envelope.recipients, ["ann@corp.example".parse().unwrap()]);
    assert_eq!(report.envelope.origin, Origin::Report { about: ID });
}

#[test]
fn rfc6522_3_the_three_parts_stand_in_order() {
    let report = report(&[("bob@partner.example", &rejected(&[b"550 5.1.1 no such user"]))], HEADER);
    let parts = parts(&report);
    let kinds: Vec<_> = parts.iter().map(|(kind, _)| kind.as_str()).collect();
    assert_eq!(kinds, ["text/plain", "message/delivery-status", "text/rfc822-headers"]);
    let end = HEADER.windows(4).position(|w| w == b"\r\n\r\n").unwrap();
    assert_eq!(parts[2].1.as_bytes().trim_ascii_end(), &HEADER[..end], "the header and nothing of the body");
    check_golden("rejected.eml", &report);
}

#[test]
fn rfc3834_3_1_header_names_the_original_and_marks_itself_automatic() {
    let report = report(&[("bob@partner.example", &Cause::ContentDamaged)], HEADER);
    let message = MessageParser::default().parse(report.as_bytes()).unwrap();
    assert_eq!(message.subject(), Some("Undeliverable: Offer 2026"));
    assert_eq!(message.in_reply_to().as_text(), Some("abc.1@ex.corp.example"));
    assert_eq!(message.references().as_text(), Some("abc.1@ex.corp.example"));
    assert_eq!(message.header_raw("Auto-Submitted").map(str::trim), Some("auto-replied"));
    assert_eq!(message.from().unwrap().first().unwrap().address(), Some("mailer-daemon@relay.corp.example"));
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("ann@corp.example"));
    assert_eq!(message.date().unwrap().to_timestamp(), NOW.unix_seconds());
    assert!(message.message_id().unwrap().ends_with("@relay.corp.example"));
}

#[test]
fn rfc3464_2_3_6_diagnostic_code_stands_only_for_a_real_reply() {
    let status = status_of(&report(&[("bob@partner.example", &rejected(&[b"550 5.1.1 no such user"]))], HEADER));
    assert!(status.contains("Remote-MTA: dns; mx1.partner.example\r\n"), "{status}");
    assert!(status.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"), "{status}");
    assert!(status.contains("Status: 5.1.1\r\n"));
    let status = status_of(&report(&[("bob@partner.example", &expired(dane_mismatch()))], HEADER));
    assert!(!status.contains("Diagnostic-Code") && !status.contains("Remote-MTA"), "{status}");
    let greylisted = expired(rejected(&[b"450 4.2.0 greylisted"]));
    let status = status_of(&report(&[("bob@partner.example", &greylisted)], HEADER));
    assert!(status.contains("Status: 5.4.7\r\n") && status.contains("smtp; 450 4.2.0 greylisted"), "{status}");
}

#[test]
fn rfc3464_2_every_recipient_has_a_group_of_its_own() {
    let (no, damaged) = (rejected(&[b"550 no"]), Cause::ContentDamaged);
    let failures = [("bob@partner.example", &no), ("\"c  d\"@[192.0.2.9]", &damaged), ("eve@partner.example", &no)];
    let report = report(&failures, HEADER);
    let status = status_of(&report);
    let groups: Vec<_> = status.split("\r\n\r\n").collect();
    assert_eq!(groups.len(), 4, "{status}");
    assert!(groups[0].contains("Reporting-MTA: dns; relay.corp.example\r\n"));
    assert!(groups[0].contains("Received-From-MTA: dns; ex.corp.example\r\n"));
    assert!(groups[0].contains("Arrival-Date: Tue, 17 Nov 2026 11:44:28 +0000"));
    for (group, (recipient, _)) in groups[1..].iter().zip(failures) {
        assert!(group.starts_with(&format!("Final-Recipient: rfc822; {recipient}\r\nAction: failed\r\n")), "{group}");
        assert!(!group.contains("Will-Retry-Until"));
    }
    check_golden("several-recipients.eml", &report);
}

#[test]
fn rfc3464_2_3_6_remote_text_cannot_add_fields_or_octets() {
    let hostile = rejected(&[b"550-5.7.1 gr\xfc\xdf \x1b[31m", b"550-5.7.1 a\rBcc: x@y", b"550 5.7.1 --=_0001JXH"]);
    let report = report(&[("bob@partner.example", &hostile)], HEADER);
    assert!(!report.contains("\r\nBcc") && !report.contains("\r\n--=_0001JXH"));
    assert_eq!(parts(&report).len(), 3);
}

#[test]
fn expiry_tells_how_long_and_the_last_real_cause() {
    let report = report(&[("bob@partner.example", &expired(dane_mismatch()))], HEADER);
    let text = parts(&report).swap_remove(0).1;
    for expected in [
        "Your message was not delivered to bob@partner.example.",
        "We tried for 4days",
        "DANE",
        "The administrators of the recipient's mail system must act.",
        "expired, status 5.4.7",
        "tlsa-invalid, status 4.7.323",
        "2 usable at mx1.partner.example",
        "d42192a5e1ca3655ab1d1afc3c799ad4a3c8a9251904deee33dacfe54ffc2418",
        "relay check partner.example",
    ] {
        assert!(text.replace("\r\n", " ").contains(expected), "{expected:?} is not in\n{text}");
    }
    check_golden("expired-dane.eml", &report);
}

#[test]
fn dns_paths_that_were_tried_are_named() {
    let report = report(&[("bob@partner.example", &expired(tlsa_unavailable()))], HEADER);
    let text = parts(&report).swap_remove(0).1;
    assert!(text.contains("udp://127.0.0.1:53: timeout") && text.contains("tcp://127.0.0.1:53: SERVFAIL"), "{text}");
    assert!(text.contains("your"), "the sender's side must act");
    check_golden("expired-dns.eml", &report);
}

#[test]
fn rfc6522_4_an_8_bit_header_survives_in_quoted_printable() {
    let header = b"Subject: Gr\xc3\xbc\xc3\x9fe\r\nX-Odd: \xff\xfe lone\rcr\r\n\r\n";
    let report = report(&[("bob@partner.example", &Cause::ContentDamaged)], header);
    let message = MessageParser::default().parse(report.as_bytes()).unwrap();
    assert_eq!(message.subject(), Some("Undeliverable: Grüße"));
    let raw = report.split("quoted-printable\r\n\r\n").nth(1).unwrap().split("\r\n--=_").next().unwrap();
    let decoded = mail_parser::decoders::quoted_printable::quoted_printable_decode(raw.as_bytes()).unwrap();
    assert_eq!(decoded, &header[..header.len() - 2]);
    check_golden("eight-bit-header.eml", &report);
}

#[test]
fn a_header_above_the_limit_is_cut_at_a_line_and_that_is_said() {
    let line = b"X-Filler: 0123456789 0123456789 0123456789\r\n";
    let mut header = b"Subject: long\r\n".to_vec();
    while header.len() < HEADER_LIMIT + 100 {
        header.extend_from_slice(line);
    }
    let cut = report(&[("bob@partner.example", &Cause::ContentDamaged)], &header);
    let note = "only its beginning is attached";
    assert!(cut.replace("\r\n", " ").contains(note));
    let returned = parts(&cut).swap_remove(2).1;
    assert!(returned.len() <= HEADER_LIMIT && returned.trim_end().ends_with("0123456789"));
    // A message without a body, or with nothing at all, is not a cut one.
    for whole in [&b"Subject: x\r\n"[..], b"", b"\r\nbody", b"Subject: x\r\n\r\n"] {
        let whole = report(&[("bob@partner.example", &Cause::ContentDamaged)], whole);
        assert!(!whole.replace("\r\n", " ").contains(note));
    }
}

#[test]
fn rfc2046_5_1_1_the_boundary_is_in_no_part() {
    let guess = format!("=_{ID}.{}.0", NOW.0);
    let header = format!("Subject: x\r\nX-Trap: --{guess}\r\nX-More: {guess}--\r\n\r\n");
    let report = report(&[("bob@partner.example", &Cause::ContentDamaged)], header.as_bytes());
    assert!(parts(&report)[2].1.contains("X-More"));
}

#[test]
fn hostile_subjects_and_ids_do_no_harm() {
    let long_words = format!("Subject: {}\r\n\r\n", "=?UTF-8?Q?=41=42?= ".repeat(40));
    for (header, expected) in [
        ("Subject:\r\n\r\n", "Undeliverable: your message"),
        ("From: x\r\n\r\n", "Undeliverable: your message"),
        ("Subject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\r\n", "Undeliverable: Grüße"),
        ("Subject: a\u{0}b\u{1b}c\r\n\r\n", "Undeliverable: a?b?c"),
    ] {
        let report = report(&[("bob@partner.example", &Cause::ContentDamaged)], header.as_bytes());
        let message = MessageParser::default().parse(report.as_bytes()).unwrap();
        assert_eq!(message.subject(), Some(expected), "{header:?}");
    }
    let shortened = report(&[("bob@partner.example", &Cause::ContentDamaged)], long_words.as_bytes());
    let message = MessageParser::default().parse(shortened.as_bytes()).unwrap();
    let subject = message.subject().unwrap();
    assert!(subject.starts_with("Undeliverable: ABAB") && subject.ends_with("...") && !subject.contains("=?"));
    for id in ["no-at-sign", "a b@c", "<a@b> <c@d", &"x@".repeat(300)] {
        let header = format!("Message-ID: <{id}>\r\n\r\n");
        let report = report(&[("bob@partner.example", &Cause::ContentDamaged)], header.as_bytes());
        assert!(!report.contains(&format!("In-Reply-To: <{id}>")), "{id}");
    }
}
