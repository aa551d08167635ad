//! Reports as their readers see them (RFC 3464, RFC 6522): parsed by an ordinary mail library,
//! and whole ones compared with those in `testdata/dsn`.
//!
//! `UPDATE_DSN=1 cargo test` writes them again; look at the difference before it is committed.

#![expect(clippy::disallowed_methods, reason = "the expected mails are files")]

use super::due::{EndedTries, Moment, ReportRules, due, lost, mark};
use super::*;
use crate::config::NotifyConfig;
use crate::envelope::{DsnRequest, RecipientDsn, TlsRequest, testing};
use crate::outcome::every::{self, peer, reply};
use crate::outcome::{DaneFailure, DeliveryOutcome, PathFailure, Phase, Question};
use crate::smtp::dsn::Ret;
use crate::spool::owed::Reported;
use crate::spool::{Pending, RecipientState};
use mail_parser::{MessageParser, MimeHeaders as _};
use std::path::Path;

mod bounds;
mod incidents;
mod local_causes;
mod page;

const ARRIVED: Timestamp = Timestamp(1_794_915_868_000);
const NOW: Timestamp = Timestamp(1_795_261_468_000);
const ID: QueueId = QueueId(1_795_261_468_000_123);
const HEADER: &[u8] = b"Received: from ex.corp.example by relay.corp.example\r\n\tid 0; today\r\n\
    From: Ann <ann@corp.example>\r\nTo: bob@partner.example\r\nSubject: Offer\r\n 2026\r\n\
    Date: Tue, 17 Nov 2026 12:44:00 +0100\r\nMessage-ID: <abc.1@ex.corp.example>\r\n\r\nbody stays here\r\n";

fn rejected(lines: &[&[u8]]) -> Cause {
    Cause::Rejected { peer: peer(), phase: Phase::RcptTo, reply: reply(lines) }
}

fn dane_mismatch() -> Cause {
    every::dane(DaneFailure::NoMatch)
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

fn envelope(reverse_path: &str, recipients: &[&str]) -> Envelope {
    Envelope { accepted_at: ARRIVED, ..testing::envelope(reverse_path, recipients) }
}

fn failed(cause: &Cause) -> RecipientState {
    RecipientState::Done { outcome: DeliveryOutcome::Failed { cause: cause.clone() } }
}

/// A message and what an attempt brought for its recipients.
struct ReportCase {
    envelope: Envelope,
    states: Vec<RecipientState>,
    content: Vec<u8>,
    size: Option<u64>,
    texts: Texts,
    history: Vec<(Timestamp, Event)>,
    tries_now: u32,
    reported: Reported,
    before: Option<Vec<RecipientState>>,
    incidents: Vec<Incident>,
    html: bool,
}

impl ReportCase {
    fn new(failures: &[(&str, &Cause)], content: &[u8]) -> Self {
        let recipients: Vec<_> = failures.iter().map(|(recipient, _)| *recipient).collect();
        let states = failures.iter().map(|(_, cause)| failed(cause)).collect();
        let envelope = envelope("<ann@corp.example>", &recipients);
        let (content, texts, history) = (content.to_vec(), Texts::english(), Vec::new());
        Self {
            envelope,
            states,
            content,
            size: None,
            texts,
            history,
            tries_now: 1,
            reported: Reported::NOTHING,
            before: None,
            incidents: Vec::new(),
            html: true,
        }
    }

    /// The reports, each with its kind.
    fn reports(&self) -> Vec<(Kind, spool::Report)> {
        let size = self.size.unwrap_or(self.content.len() as u64);
        let mut entry = SpoolEntry::new(ID, self.envelope.clone(), size);
        entry.reported = self.reported;
        if let Some(before) = &self.before {
            entry.recipients.clone_from(before);
        }
        let notify = NotifyConfig::default();
        let mut changes: Vec<_> = self.states.iter().cloned().enumerate().collect();
        let postmaster = "postmaster@corp.example".parse().unwrap();
        let rules = ReportRules { notify: &notify, postmaster: Some(&postmaster) };
        let mut notifications = due(&entry, &changes, &rules, &Moment::at_rest(NOW));
        if entry.envelope.reverse_path == ReversePath::Null {
            let _reported = mark(
                &entry,
                &mut changes,
                &notifications,
                &EndedTries { notify: &notify, tries: self.tries_now, now: NOW },
            );
            entry.recipients = changes.into_iter().map(|(_, state)| state).collect();
            notifications.reports.extend(lost(&entry, &rules));
        }
        let hostname = "relay.corp.example".parse().unwrap();
        let context =
            ReportContext { hostname: &hostname, texts: &self.texts, return_full_below: 1000, html: self.html };
        let wanted = content_wanted(&entry, &notifications.reports, context.return_full_below).min(self.content.len());
        let until = Timestamp(NOW.0 + 3_600_000);
        let (content, history) = (&self.content[..wanted], &self.history);
        let original = Original {
            entry: &entry,
            content,
            until,
            history,
            tries_now: self.tries_now,
            earlier: &BTreeSet::new(),
            incidents: &self.incidents,
        };
        notifications.reports.iter().map(|due| (due.kind, compose(&context, &original, due, NOW))).collect()
    }

    /// The only report, as text.
    fn report(&self) -> String {
        let mut reports = self.reports();
        assert_eq!(reports.len(), 1);
        let report = reports.remove(0).1;
        assert_eq!(report.envelope.reverse_path, ReversePath::Null);
        if report.envelope.charset == Charset::Ascii {
            assert_is_deliverable_anywhere(&report.content);
        }
        String::from_utf8(report.content.to_vec()).unwrap()
    }
}

#[test]
fn rfc5322_3_6_4_reports_of_one_moment_about_different_recipients_have_different_message_ids() {
    let cause = dane_mismatch();
    let (one, other) = (("a@one.example", &cause), ("b@other.example", &cause));
    let both = ReportCase::new(&[one, other], HEADER);
    let message_id = |states: [RecipientState; 2]| {
        let report = ReportCase { states: states.to_vec(), ..ReportCase::new(&[one, other], HEADER) }.report();
        report.lines().find(|line| line.starts_with("Message-ID: ")).unwrap().to_owned()
    };
    let [first, second] = both.states.try_into().unwrap();
    assert_ne!(message_id([first, RecipientState::NEW]), message_id([RecipientState::NEW, second]));
}

fn report(failures: &[(&str, &Cause)], content: &[u8]) -> String {
    ReportCase::new(failures, content).report()
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
fn leaves(report: &str) -> Vec<(String, String)> {
    let message = MessageParser::default().parse(report.as_bytes()).unwrap();
    let outer = message.content_type().unwrap();
    assert_eq!((outer.ctype(), outer.subtype()), ("multipart", Some("report")));
    assert_eq!(outer.attribute("report-type"), Some("delivery-status"));
    let leaf = |part: &mail_parser::MessagePart<'_>| {
        let kind = part.content_type().unwrap();
        let content = String::from_utf8_lossy(part.contents()).into_owned();
        (format!("{}/{}", kind.ctype(), kind.subtype().unwrap()), content)
    };
    message.parts.iter().filter(|part| !part.is_multipart()).map(leaf).collect()
}

/// The same without the page: text, status, what came back.
fn parts(report: &str) -> Vec<(String, String)> {
    leaves(report).into_iter().filter(|(kind, _)| kind != "text/html").collect()
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

/// A report of each kind, compared with what is kept, so that a change of words is looked at.
fn check_kind(name: &str, case: &ReportCase, expected: &[&str]) -> String {
    let report = case.report();
    let text = parts(&report).swap_remove(0).1.replace("\r\n", " ");
    for expected in expected {
        assert!(text.contains(expected), "{expected:?} is not in\n{text}");
    }
    check_golden(name, &report);
    report
}

fn waiting(recipients: &[&str], cause: &Cause) -> ReportCase {
    let failures: Vec<_> = recipients.iter().map(|recipient| (*recipient, cause)).collect();
    let told = spool::Told::NOTHING;
    let states =
        vec![RecipientState::Queued(Pending { last: Some(cause.clone()), told, ..Pending::NEW }); recipients.len()];
    ReportCase { states, ..ReportCase::new(&failures, HEADER) }
}

fn dsn(notify: Option<&str>, original: Option<&str>) -> RecipientDsn {
    RecipientDsn { notify: notify.map(|n| n.parse().unwrap()), original: original.map(|o| o.parse().unwrap()) }
}

#[test]
fn rfc3464_2_3_9_who_waits_is_told_until_when() {
    let refused = Cause::ConnectFailed { peer: peer(), detail: "connection refused".into() };
    let expected = ["has not reached bob@partner.example yet", "keep trying until 2026-11-21 12:44 UTC"];
    let status = status_of(&check_kind("delayed.eml", &waiting(&["bob@partner.example"], &refused), &expected));
    assert!(status.contains("Action: delayed\r\nStatus: 4.4.1\r\n"), "{status}");
    assert!(status.contains("Will-Retry-Until: Sat, 21 Nov 2026 12:44:28 +0000\r\n"), "{status}");
}

#[test]
fn mail_held_back_for_safety_is_said_to_be_neither_lost_nor_the_senders_fault() {
    let case = waiting(&["bob@partner.example", "eve@partner.example"], &dane_mismatch());
    let expected =
        ["It is not lost, and it is not your fault", "keep trying until", "recipient's mail system must act"];
    let status = status_of(&check_kind("held-back-dane.eml", &case, &expected));
    assert_eq!(status.matches("Action: delayed\r\nStatus: 4.7.323\r\n").count(), 2, "{status}");
    let dns = waiting(&["bob@partner.example"], &tlsa_unavailable());
    check_kind("held-back-dns.eml", &dns, &["It is not known yet whose fault this is", "until 2026-11-21 12:44 UTC"]);
}

#[test]
fn rfc3461_5_2_2_success_is_reported_as_relayed() {
    let mut case = ReportCase::new(&[("bob@partner.example", &Cause::ContentDamaged)], HEADER);
    let tls = crate::outcome::TlsVerdict::ClearText;
    let outcome = DeliveryOutcome::Delivered {
        peer: peer(),
        tls,
        reply: reply(&[b"250 2.6.0 queued as 4711"]),
        notify_passed_on: false,
    };
    case.states = vec![RecipientState::Done { outcome }];
    assert!(case.reports().is_empty(), "nobody asked");
    case.envelope.dsn.recipients = vec![dsn(Some("SUCCESS"), None)];
    let status = status_of(&check_kind("relayed.eml", &case, &["handed over to the next mail system"]));
    assert!(status.contains("Action: relayed\r\nStatus: 2.6.0\r\n"), "{status}");
    assert!(status.contains("Remote-MTA: dns; mx1.partner.example\r\nDiagnostic-Code: smtp; 250 2.6.0 queued"));
    assert!(!status.contains("X-Relay-Cause") && !status.contains("Will-Retry-Until"));
}

#[test]
fn rfc3464_2_2_1_what_the_sender_named_comes_back_decoded() {
    let no = rejected(&[b"550 5.1.1 no such user"]);
    let mut case = ReportCase::new(&[("bob@partner.example", &no), ("eve@partner.example", &no)], HEADER);
    let envelope_id = Some("QQ+20314+2B".parse().unwrap());
    let recipients = vec![dsn(None, Some("rfc822;Bob+2Bold@partner.example")), dsn(None, Some("x400;/G+3DEve/"))];
    case.envelope.dsn = DsnRequest { envelope_id, recipients, ..DsnRequest::default() };
    let status = status_of(&case.report());
    let groups: Vec<_> = status.split("\r\n\r\n").collect();
    assert!(groups[0].starts_with("Original-Envelope-Id: QQ 314+\r\nReporting-MTA: dns;"), "{status}");
    let original =
        "Original-Recipient: rfc822; Bob+old@partner.example\r\nFinal-Recipient: rfc822; bob@partner.example";
    assert!(groups[1].starts_with(original), "{status}");
    assert!(groups[2].starts_with("Original-Recipient: x400; /G=Eve/\r\n"), "{status}");
}

#[test]
fn rfc3461_4_3_ret_decides_what_comes_back_of_a_failed_message() {
    let no = rejected(&[b"550 5.1.1 no such user"]);
    let third = |ret, content: &[u8], size: Option<u64>| {
        let mut case = ReportCase { size, ..ReportCase::new(&[("bob@partner.example", &no)], content) };
        case.envelope.dsn.ret = ret;
        let report = case.report();
        let noted = report.replace("\r\n", " ").contains("cannot be attached whole");
        (parts(&report).swap_remove(2), noted)
    };
    let ((kind, content), noted) = third(Some(Ret::Full), HEADER, None);
    assert_eq!(
        (kind.as_str(), content.as_bytes().trim_ascii_end(), noted),
        ("message/rfc822", HEADER.trim_ascii_end(), false)
    );
    for (ret, is_asked) in [(Some(Ret::Headers), false), (None, false), (Some(Ret::Full), true)] {
        let large = [HEADER, "x\r\n".repeat(400).as_bytes()].concat();
        let ((kind, content), noted) = third(ret, &large, None);
        assert_eq!((kind.as_str(), noted), ("text/rfc822-headers", is_asked));
        assert!(!content.contains("body stays here"));
    }
    // RFC 2046 §5.2.1: 8-bit content cannot stand in a report that must arrive everywhere.
    let ((kind, _), noted) = third(Some(Ret::Full), b"Subject: x\r\n\r\n\xe9\r\n", None);
    assert_eq!((kind.as_str(), noted), ("text/rfc822-headers", true));
    // By BDAT a message may end without a line end, which would run into the boundary.
    let ((kind, _), noted) = third(Some(Ret::Full), b"Subject: x\r\n\r\nno line end", None);
    assert_eq!((kind.as_str(), noted), ("text/rfc822-headers", true));
    // What could not be read whole does not come back as if it were.
    let ((kind, _), _) = third(Some(Ret::Full), HEADER, Some(HEADER.len() as u64 + 1));
    assert_eq!(kind, "text/rfc822-headers");
    let mut case = waiting(&["bob@partner.example"], &no);
    case.envelope.dsn.ret = Some(Ret::Full);
    assert_eq!(parts(&case.report())[2].0, "text/rfc822-headers", "only for failures");
}

#[test]
fn rfc8689_5_a_report_about_a_message_with_requiretls_shows_only_its_id_and_date() {
    let mut case = ReportCase::new(&[("bob@partner.example", &rejected(&[b"550 5.1.1 no such user"]))], HEADER);
    case.envelope.tls = TlsRequest::Required;
    case.envelope.dsn.ret = Some(Ret::Full);
    let report = check_kind("redacted.eml", &case, &["nothing of your message but its id and date"]);
    let third = parts(&report).swap_remove(2).1;
    assert_eq!(third.trim_end(), "Message-ID: <abc.1@ex.corp.example>\r\nDate: Tue, 17 Nov 2026 12:44:00 +0100");
    assert!(!report.contains("Offer") && !report.contains("body stays here") && !report.contains("From: Ann"));
    assert_eq!(case.reports()[0].1.envelope.tls, TlsRequest::ByPolicy);
}

#[test]
fn rfc6533_3_addresses_outside_ascii_stay_readable_on_every_way() {
    let no = rejected(&[b"550 5.1.1 no such user"]);
    let header = "From: Ann <ann@corp.example>\r\nSubject: Grüße\r\n\r\n";
    let mut case = ReportCase::new(&[("jürgen+x@bücher.example", &no)], header.as_bytes());
    case.envelope.charset = Charset::Utf8;
    case.envelope.dsn.recipients = vec![dsn(None, Some("utf-8;j\\x{FC}rgen@bücher.example"))];
    let seven_bit = case.report();
    check_golden("utf8-recipient.eml", &seven_bit);
    let status = status_of(&seven_bit);
    assert!(status.contains("Final-Recipient: utf-8; j\\x{FC}rgen\\x{2B}x@b\\x{FC}cher.example\r\n"), "{status}");
    assert!(status.contains("Original-Recipient: utf-8; j\\x{FC}rgen@b\\x{FC}cher.example\r\n"), "{status}");
    assert_eq!(parts(&seven_bit)[2], ("message/global-headers".to_owned(), header.trim_end().to_owned() + "\r\n"));
    assert!(parts(&seven_bit)[0].1.contains("jürgen+x@bücher.example"));

    case.envelope.reverse_path = ReversePath::Mailbox("änn@corp.example".parse().unwrap());
    let reports = case.reports();
    assert!(reports[0].1.envelope.needs_smtp_utf8() && reports[0].1.envelope.body == BodyType::EightBitMime);
    let global = case.report();
    check_golden("utf8-sender.eml", &global);
    assert_eq!(parts(&global)[1].0, "message/global-delivery-status");
    assert!(status_of(&global).contains("Final-Recipient: utf-8; jürgen+x@bücher.example\r\n"));
}

#[test]
fn rfc5321_6_1_the_postmaster_reads_of_a_report_that_was_lost_and_what_it_said() {
    let first = ReportCase::new(&[("bob@partner.example", &rejected(&[b"550 5.1.1 no such user"]))], HEADER).report();
    let mut case = ReportCase::new(&[("ann@corp.example", &rejected(&[b"550 5.1.1 ann has left"]))], first.as_bytes());
    case.envelope.reverse_path = ReversePath::Null;
    case.envelope.origin = Origin::Report { about: ID };
    let expected =
        ["A report to ann@corp.example about a message of theirs could not be delivered", "What the report said"];
    let lost = check_kind("report-lost.eml", &case, &expected);
    assert!(lost.contains("To: <postmaster@corp.example>\r\n"));
    assert!(parts(&lost)[0].1.contains("Your message was not delivered to bob@partner.example."));
    let third = &parts(&lost)[2];
    assert!(third.0 == "text/rfc822-headers" && third.1.contains("report-type=delivery-status"), "{third:?}");
    assert!(!lost.contains("Action: failed\r\nStatus: 5.1.1\r\nRemote-MTA: dns; mx1.partner.example\r\nDiagnostic-Code: smtp; 550 5.1.1 no"), "reports do not nest");
}

#[test]
fn rfc5890_2_3_2_1_readers_see_names_as_they_know_them_and_administrators_what_is_looked_up() {
    let (host, address) = ("mx.xn--mller-kva.example".to_owned(), peer().address);
    let reply = reply(&[b"550 5.1.1 no bob at xn--mller-kva.example"]);
    let cause = Cause::Rejected { peer: Peer { host, address }, phase: Phase::RcptTo, reply };
    let dutch = Texts::parse(include_str!("../../deploy/templates/nl/reports.toml"), Path::new("nl")).unwrap();
    for (texts, spoke) in [(Texts::english(), "The mail server"), (dutch, "De mailserver")] {
        let addresses = ["bob@xn--mller-kva.example", "eve@XN--mller-kva.example"];
        let mut case = ReportCase::new(&addresses.map(|address| (address, &cause)), HEADER);
        case.texts = texts;
        let report = case.report();
        let text = parts(&report)[0].1.replace("\r\n", " ");
        let (readers, administrators) = text.split_once("-----").unwrap();
        assert!(readers.contains(&format!("{spoke} mx.müller.example [192.0.2.25]:25")), "{readers}");
        assert!(readers.contains("bob@müller.example     eve@müller.example"), "{readers}");
        assert!(readers.contains("no bob at xn--mller-kva.example"), "what was said is kept: {readers}");
        assert!(!administrators.contains('ü') && administrators.contains("relay check xn--mller-kva.example"));
        assert!(status_of(&report).contains("rfc822; bob@xn--mller-kva.example"));
    }
}

#[test]
fn the_operators_texts_are_used_and_may_be_outside_ascii() {
    let dutch = include_str!("../../deploy/templates/nl/reports.toml");
    let own = dutch
        .replace("Niet bezorgd: {subject}", "Niét bezorgd: {subject}")
        .replace("Uw bericht is niet", "Uw berícht is niet");
    let mut case = ReportCase::new(&[("bob@partner.example", &expired(dane_mismatch()))], HEADER);
    case.texts = Texts::parse(dutch, Path::new("nl")).unwrap();
    let expected = ["Uw bericht is niet bezorgd bij bob@partner.example.", "We hebben het 4 dagen", "moeten iets doen"];
    check_kind("dutch.eml", &case, &expected);
    case.texts = Texts::parse(&own, Path::new("nl")).unwrap();
    let report = case.report();
    let message = MessageParser::default().parse(report.as_bytes()).unwrap();
    assert_eq!(message.subject(), Some("Niét bezorgd: Offer 2026"));
    assert!(parts(&report)[0].1.starts_with("Uw berícht is niet bezorgd bij"));
    let encoded = b"Subject: =?UTF-8?Q?Gr=C3=BC=C3=9Fe?=\r\n\r\n";
    let report = ReportCase { content: encoded.to_vec(), ..case }.report();
    let message = MessageParser::default().parse(report.as_bytes()).unwrap();
    assert_eq!(message.subject(), Some("Niét bezorgd: Grüße"));
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
fn rfc3463_3_2_a_sender_is_told_to_check_the_address_where_it_may_be_wrong() {
    let says = |lines: &[&[u8]]| parts(&report(&[("bob@partner.example", &rejected(lines))], HEADER)).swap_remove(0).1;
    for wrong in [&b"550 5.1.1 no such user"[..], b"553 5.1.3 bad address", b"550 unknown"] {
        let text = says(&[wrong]);
        assert!(text.contains("\r\nPlease check the address, and whether"), "{text}");
    }
    for other in [&b"550 5.7.1 spam"[..], b"552 5.2.2 full", b"554 no"] {
        let text = says(&[other]);
        assert!(text.contains("\r\nThe administrators of the recipient's mail system must act."), "{text}");
    }
}

#[test]
fn rfc3464_2_3_6_a_diagnostic_code_of_smtp_stands_only_for_a_real_reply() {
    let status = status_of(&report(&[("bob@partner.example", &rejected(&[b"550 5.1.1 no such user"]))], HEADER));
    assert!(status.contains("Remote-MTA: dns; mx1.partner.example\r\n"), "{status}");
    assert!(status.contains("Diagnostic-Code: smtp; 550 5.1.1 no such user\r\n"), "{status}");
    assert!(status.contains("Status: 5.1.1\r\n"));
    let status = status_of(&report(&[("bob@partner.example", &expired(dane_mismatch()))], HEADER));
    assert!(!status.contains("Diagnostic-Code: smtp") && !status.contains("Remote-MTA"), "{status}");
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
fn rfc3464_2_3_7_the_date_of_the_last_attempt_is_that_of_an_attempt() {
    let earlier = Timestamp(NOW.0 - 7_200_000);
    let next_hop = || "partner.example".to_owned();
    let not_tried = |recipients: &[usize], at: Timestamp| {
        (at, Event::NotTried { next_hop: next_hop(), recipients: recipients.to_vec(), cause: tlsa_unavailable() })
    };
    let history = vec![not_tried(&[0], earlier), not_tried(&[1], Timestamp(NOW.0 - 3_600_000))];
    let date = |state: RecipientState, tries_now: u32, history: &[(Timestamp, Event)]| {
        let two = [("bob@partner.example", &dane_mismatch()), ("eve@other.example", &dane_mismatch())];
        let states = vec![state, RecipientState::NEW];
        let report =
            ReportCase { states, tries_now, history: history.to_vec(), ..ReportCase::new(&two, HEADER) }.report();
        let status = status_of(&report);
        status.lines().find_map(|line| line.strip_prefix("Last-Attempt-Date: ")).map(str::to_owned)
    };
    let (expired, returned) = (expired(dane_mismatch()), Cause::BouncedByOperator { last: None });
    let waits = || RecipientState::Queued(Pending { last: Some(dane_mismatch()), ..Pending::NEW });
    let now = Some(NOW.rfc5322());
    assert_eq!(date(failed(&rejected(&[b"550 no"])), 0, &[]), now, "its record waited for that of another route");
    assert_eq!(date(failed(&expired), 1, &history), now);
    assert_eq!(date(failed(&expired), 0, &history), Some(earlier.rfc5322()), "the relay was backing off");
    assert_eq!(date(failed(&expired), 0, &[]), None);
    assert_eq!(date(waits(), 1, &[]), now);
    assert_eq!(date(waits(), 0, &[]), None);
    assert_eq!(date(failed(&returned), 0, &history), Some(earlier.rfc5322()));
    assert_eq!(date(failed(&returned), 0, &[]), None, "the operator's word is no attempt");
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
        "We tried for 4 days",
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
    let raw = report.split("quoted-printable\r\n\r\n").last().unwrap().split("\r\n--=_").next().unwrap();
    let decoded = mail_parser::decoders::quoted_printable::quoted_printable_decode(raw.as_bytes()).unwrap();
    assert_eq!(decoded, &header[..header.len() - 2]);
    check_golden("eight-bit-header.eml", &report);
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
