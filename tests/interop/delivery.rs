//! Mail through the relay to Postfix over DANE (RFC 7672), handed in by swaks.

use crate::client::Swaks;
use crate::postfix::Mail;
use crate::world::{Tlsa, World};
use serde_json::Value;
use std::time::Duration;

/// How long mail may take. Generous: CI machines are slow and full.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Everything that mail systems like to change: lone dots, dots in front, blanks at line ends,
/// folded and odd header lines, octets above 127, long lines, empty lines at the end.
pub(crate) const ODD_MESSAGE: &[u8] = b"From:  \"A. Sender\"   <a@sender.test>\r\n\
To: b@dane.test\r\n\
Subject: =?utf-8?q?gr=C3=BC=C3=9Fe?= folded\r\n\
\t over   two lines\r\n\
X-eMPTY:\r\n\
Message-ID: <odd.1@sender.test>\r\n\
Date: Sat, 21 Nov 2026 10:00:00 +0100\r\n\
\r\n\
.\r\n\
..\r\n\
.leading dot\r\n\
blanks at the end  \t\r\n\
From here on\r\n\
\xc3\xa4\xff\xfe\x80\x01\x7f octets\r\n\
aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\
bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\r\n\
\r\n\
\r\n";

/// Content as a Maildir keeps it.
pub(crate) fn with_lf(content: &[u8]) -> Vec<u8> {
    let text = content.split(|&b| b == b'\r').collect::<Vec<_>>();
    text.concat()
}

/// What lies below the relay's Received line, which must be the second from the top.
fn below_our_received_line(mail: &Mail) -> Vec<u8> {
    let received: Vec<String> = mail.fields().into_iter().filter(|field| field.starts_with("Received:")).collect();
    assert_eq!(received.len(), 2, "Postfix's line and ours: {}", mail.text());
    let ours = format!("{}\n", received[1]);
    assert!(ours.contains("by relay.test"), "{ours}");
    let start = mail.bytes().windows(ours.len()).position(|window| window == ours.as_bytes()).unwrap();
    mail.bytes()[start + ours.len()..].to_vec()
}

#[test]
fn message_reaches_postfix_over_dane_byte_identical() {
    let world = World::start(&[("dane.test", Tlsa::OneFitsOf(6))]);
    let mut relay = world.start_relay("");
    let message =
        Swaks { server: relay.smtp, from: "a@sender.test", to: "b@dane.test", options: &[], content: ODD_MESSAGE };
    let dialogue = message.hand_in(world.dir());
    assert!(dialogue.contains("250 2.0.0"), "{dialogue}");

    let mail = world.postfix.wait_for_mail_to("b@dane.test", PATIENCE);
    assert_eq!(
        String::from_utf8_lossy(&below_our_received_line(&mail)),
        String::from_utf8_lossy(&with_lf(ODD_MESSAGE)),
        "changed on the way"
    );
    assert!(mail.bytes().ends_with(&with_lf(ODD_MESSAGE)));
    assert!(mail.fields()[3].contains("using TLSv1.3"), "{}", mail.text());
    assert!(mail.text().starts_with("Return-Path: <a@sender.test>\n"), "{}", mail.text());
    relay.wait_for_log(&["delivered", "mx.dane.test", "tls=\"dane\""], PATIENCE);
    assert_eq!(relay.stop(), Some(0), "SIGTERM is an orderly end");
}

#[test]
fn rfc7672_3_1_2_a_chain_below_a_trust_anchor_is_accepted() {
    let world = World::start(&[("anchor.test", Tlsa::TrustAnchor)]);
    let relay = world.start_relay("");
    let message =
        Swaks { server: relay.smtp, from: "a@sender.test", to: "b@anchor.test", options: &[], content: ODD_MESSAGE };
    message.hand_in(world.dir());
    world.postfix.wait_for_mail_to("b@anchor.test", PATIENCE);
    relay.wait_for_log(&["delivered", "mx.anchor.test", "tls=\"dane\""], PATIENCE);
}

#[test]
fn rfc3207_swaks_hands_in_over_starttls() {
    let world = World::start(&[("dane.test", Tlsa::OneFitsOf(1))]);
    let relay = world.start_relay("");
    let options = ["--tls", "--pipeline"];
    let message =
        Swaks { server: relay.smtp, from: "a@sender.test", to: "b@dane.test", options: &options, content: ODD_MESSAGE };
    let dialogue = message.hand_in(world.dir());
    assert!(dialogue.contains("TLS started"), "{dialogue}");

    let mail = world.postfix.wait_for_mail_to("b@dane.test", PATIENCE);
    assert_eq!(below_our_received_line(&mail), with_lf(ODD_MESSAGE), "{}", mail.text());
    assert!(mail.fields()[4].contains("with ESMTPS"), "{}", mail.text());
}

#[test]
fn tlsa_sets_of_1_5_13_and_60_records_are_all_usable() {
    let sets = [("one.test", 1), ("five.test", 5), ("thirteen.test", 13), ("sixty.test", 60)];
    let domains = sets.map(|(domain, count)| (domain, Tlsa::OneFitsOf(count)));
    let world = World::start(&domains);
    let relay = world.start_relay("");
    for (domain, count) in sets {
        let (code, report) = relay.command(&["check", domain, "--json"]);
        assert_eq!(code, Some(0), "{domain}: {report}");
        let report: Value = serde_json::from_str(&report).unwrap();
        let records = report["hosts"][0]["tlsa"].as_array().unwrap();
        let count_of = |fact: &str| records.iter().filter(|record| record[fact] == true).count();
        assert_eq!(
            (report["verdict"].as_str(), count_of("usable"), count_of("matched")),
            (Some("ok"), count, 1),
            "{report}"
        );

        let to = format!("b@{domain}");
        let (from, server) = ("a@sender.test", relay.smtp);
        Swaks { server, from, to: &to, options: &[], content: ODD_MESSAGE }.hand_in(world.dir());
        world.postfix.wait_for_mail_to(&to, PATIENCE);
        relay.wait_for_log(&["delivered", &format!("mx.{domain}"), "tls=\"dane\""], PATIENCE);
    }
}
