//! Reports stay mails, however many they are about (RFC 3464 §2.3, RFC 3461 §4.3).

use super::*;
use crate::accept::{LimitLevel, LimitNews};
use crate::report::limit_notice;
use crate::report::{LostReport, digest};
use crate::smtp::reply::REPLY_TEXT_LIMIT;
use crate::spool::owed::{Owed, Rounds};

/// So many recipients, each refused by its own host in many words.
fn crowd(count: usize) -> ReportCase {
    let words = format!("550 5.1.1 {}", "no such user here, and none of that name was ever known; ".repeat(17));
    assert!(words.len() < REPLY_TEXT_LIMIT);
    let refused = |n: usize| Cause::Rejected {
        peer: Peer { host: format!("mx.domain-{n:03}.example"), ..peer() },
        phase: Phase::RcptTo,
        reply: reply(&[words.as_bytes()]),
    };
    let failures: Vec<_> = (0..count).map(|n| (format!("r{n:03}@domain-{n:03}.example"), refused(n))).collect();
    ReportCase::new(&failures.iter().map(|(to, cause)| (to.as_str(), cause)).collect::<Vec<_>>(), HEADER)
}

#[test]
fn rfc3464_2_3_a_report_about_a_thousand_hosts_names_each_recipient_and_says_what_it_leaves_out() {
    let report = crowd(1000).report();
    assert!(report.len() < 750_000, "{} octets", report.len());
    let status = status_of(&report);
    assert_eq!(status.matches("Final-Recipient: ").count(), 1000);
    assert_eq!(status.matches("Diagnostic-Code: ").count(), 200);
    let text = filled(&parts(&report)[0].1);
    for told in [
        "The same holds for further recipients (980): r020@domain-020.example (rejected, status 5.1.1)",
        "And 780 more recipients. The second part of this report names each of them.",
    ] {
        assert!(text.contains(told), "{told} is not in {text}");
    }
    let same = rejected(&[b"550 5.7.1 your domain is on a list"]);
    let to: Vec<String> = (0..1000).map(|n| format!("r{n}@domain-{n}.example")).collect();
    let alike = ReportCase::new(&to.iter().map(|to| (to.as_str(), &same)).collect::<Vec<_>>(), HEADER).report();
    assert!(alike.len() < 250_000, "{} octets", alike.len());
    assert!(filled(&parts(&alike)[0].1).contains("And 800 more recipients."));
}

fn filled(text: &str) -> String {
    text.split_ascii_whitespace().collect::<Vec<_>>().join(" ")
}

#[test]
fn rfc3464_2_3_a_report_about_many_is_read_as_one_about_few() {
    let mut case = crowd(25);
    let said = |n: usize| rejected(&[format!("550 5.1.1 no r{n:03} here").as_bytes()]);
    case.states = (0..25).map(|n| failed(&said(n))).collect();
    let expected = ["The same holds for further recipients (5):", "r024@domain-024.example (rejected, status 5.1.1)"];
    check_kind("many-recipients.eml", &case, &expected);
}

#[test]
fn rfc3461_4_3_a_message_comes_back_whole_with_its_first_report_only() {
    let mut case = ReportCase::new(&[("bob@partner.example", &rejected(&[b"550 5.1.1 no"]))], HEADER);
    case.envelope.dsn.ret = Some(Ret::Full);
    assert_eq!(parts(&case.report())[2].0, "message/rfc822");
    case.reported.failed = Rounds { made: 1, last: NOW };
    let later = case.report();
    assert_eq!(parts(&later)[2].0, "text/rfc822-headers");
    assert!(filled(&parts(&later)[0].1).contains("Your message came back with the first report about it"));
}

#[test]
fn rfc3464_2_3_7_what_is_told_later_says_when_it_was_tried() {
    let mut case = ReportCase::new(&[("bob@partner.example", &rejected(&[b"550 5.1.1 no"]))], HEADER);
    let outcome = DeliveryOutcome::Failed { cause: rejected(&[b"550 5.1.1 no"]) };
    let tried = Timestamp(NOW.0 - 600_000);
    case.states = vec![RecipientState::Owed(Owed { outcome, tries: 3, tried_at: Some(tried), due: NOW })];
    case.before = Some(case.states.clone());
    let report = case.report();
    assert!(report.contains(&format!("Last-Attempt-Date: {}", tried.rfc5322())), "{report}");
    assert!(report.contains("Attempts:           3\r\n"), "{report}");
}

#[test]
fn rfc5321_6_1_a_mail_about_many_lost_reports_names_a_hundred_and_counts_the_others() {
    let outcome = DeliveryOutcome::Failed { cause: rejected(&[b"550 5.1.1 no such user"]) };
    let owed = RecipientState::Owed(Owed { outcome, tries: 1, tried_at: Some(NOW), due: NOW });
    let entry = |n: u64| {
        let (origin, to) = (Origin::Report { about: QueueId(n) }, format!("false{n}@partner.example"));
        let envelope = Envelope { origin, accepted_at: NOW, ..testing::report(&[&to]) };
        let entry = SpoolEntry::new(QueueId(ID.0 + n), envelope, 9);
        SpoolEntry { recipients: vec![owed.clone()], ..entry }
    };
    let entries: Vec<SpoolEntry> = (0..150).map(entry).collect();
    let lost: Vec<LostReport<'_>> = entries.iter().map(LostReport).collect();
    let (hostname, texts) = ("relay.corp.example".parse().unwrap(), Texts::english());
    let context = ReportContext { hostname: &hostname, texts: &texts, return_full_below: 0, html: true };
    let report = digest(&context, &"postmaster@corp.example".parse().unwrap(), &lost, NOW);
    assert_is_deliverable_anywhere(&report.content);
    let text = String::from_utf8(report.content.to_vec()).unwrap();
    assert!(text.contains("Subject: 150 reports could not be delivered\r\n") && text.len() < 60_000, "{text}");
    assert_eq!(text.matches("  Report:   relay why ").count(), 100);
    assert!(text.contains("And 50 more."), "{text}");
    assert_eq!((report.envelope.reverse_path, report.envelope.recipients.len()), (ReversePath::Null, 1));
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
fn limits_that_were_reached_are_told_with_who_and_how_much() {
    let (hostname, texts) = ("relay.corp.example".parse().unwrap(), Texts::english());
    let context = ReportContext { hostname: &hostname, texts: &texts, return_full_below: 0, html: true };
    let one = |who: &str| LimitNews {
        rule: "accounts".to_owned(),
        who: who.to_owned(),
        limit: "messages 60/m".to_owned(),
        level: LimitLevel::Reached,
    };
    let to = "postmaster@corp.example".parse().unwrap();
    let notice = limit_notice(&context, &to, &[one("printer"), one("scanner")], NOW);
    assert_is_deliverable_anywhere(&notice.content);
    let body = MessageParser::default().parse(&notice.content).unwrap().body_text(0).unwrap().into_owned();
    assert!(body.contains("printer (accounts: messages 60/m)") && body.contains("scanner"), "{body}");
}

#[test]
fn rfc3461_4_3_what_counts_is_the_message_as_it_was_handed_in_without_our_received_line() {
    let no = rejected(&[b"550 5.1.1 no such user"]);
    let trace = "Received: from ex ([192.0.2.1])\r\n\tby relay.example with ESMTP id 1;\r\n\tTue, 17 Nov 2026\r\n";
    for (sent, kind) in [(999, "message/rfc822"), (1000, "text/rfc822-headers")] {
        let head = "Received: from a by b\r\nSubject: x\r\n\r\n";
        let content = format!("{trace}{head}{}\r\n", "x".repeat(sent - head.len() - 2));
        let mut case = ReportCase::new(&[("bob@partner.example", &no)], content.as_bytes());
        case.envelope.dsn.ret = Some(Ret::Full);
        assert_eq!(parts(&case.report())[2].0, kind, "{sent}");
    }
}

#[test]
fn damage_is_told_in_plain_words() {
    let (hostname, texts) = ("relay.corp.example".parse().unwrap(), Texts::english());
    let context = ReportContext { hostname: &hostname, texts: &texts, return_full_below: 0, html: true };
    let notice = damage_notice(&context, &"postmaster@corp.example".parse().unwrap(), 3, NOW);
    assert_is_deliverable_anywhere(&notice.content);
    let text = String::from_utf8(notice.content.to_vec()).unwrap();
    let body = MessageParser::default().parse(&notice.content).unwrap().body_text(0).unwrap().into_owned();
    assert!(body.contains("at its start: 3.") && body.contains("damaged/"), "{text}");
    assert_eq!(notice.envelope.reverse_path, ReversePath::Null);
}
