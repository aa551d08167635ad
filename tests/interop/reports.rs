//! Reports as foreign programs read them (RFC 3464): Python's email package, flufl.bounce (what
//! Mailman reads bounces with), Sisimai; and as Postfix takes and makes them (RFC 3461 §5.2.1).

use crate::daemon::run_ok;
use crate::delivery::PATIENCE;
use crate::postfix::Mail;
use crate::world::{Tlsa, World};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What `email` of Python makes of a report: no defects, and its fields a recipient a line.
const BY_EMAIL: &str = r#"
import email, email.policy, sys
message = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
defects = [defect for part in message.walk() for defect in part.defects]
assert not defects, defects
assert message.get_content_type() == "multipart/report"
status = list(message.iter_parts())[1]
assert status.get_content_type() == "message/delivery-status"
for block in status.get_payload()[1:]:
    print(block["Final-Recipient"].split(";")[1].strip(), block["Action"], block["Status"])
"#;

/// What flufl.bounce makes of it: those who failed for now, and those who failed for good.
const BY_FLUFL: &str = r#"
import email, sys
from flufl.bounce import all_failures
temporary, permanent = all_failures(email.message_from_binary_file(open(sys.argv[1], "rb")))
for name, addresses in [("delayed", temporary), ("failed", permanent)]:
    for address in sorted(addresses):
        print(address.decode(), name)
"#;

/// What Sisimai makes of it.
const BY_SISIMAI: &str = r#"
for my $found (@{ Sisimai->make($ARGV[0], delivered => 1) || [] }) {
    print join(" ", $found->recipient->address, $found->action, $found->deliverystatus), "\n";
}
"#;

fn by_email(file: &Path) -> String {
    run_ok(Command::new("/usr/bin/python3").args(["-c", BY_EMAIL]).arg(file))
}

fn by_flufl(file: &Path) -> String {
    run_ok(Command::new("/usr/bin/python3").args(["-c", BY_FLUFL]).arg(file))
}

fn by_sisimai(file: &Path) -> String {
    run_ok(Command::new("perl").args(["-MSisimai", "-e", BY_SISIMAI]).arg(file))
}

fn kept(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/dsn").join(name)
}

#[test]
fn rfc3464_foreign_programs_read_every_kind_of_report_alike() {
    let (bob, eve) = ("bob@partner.example", "eve@partner.example");
    let many: Vec<String> = (0..25).map(|n| format!("r{n:03}@domain-{n:03}.example")).collect();
    for (name, expected) in [
        ("rejected.eml", vec![(bob, "failed", "5.1.1")]),
        ("expired-dane.eml", vec![(bob, "failed", "5.4.7")]),
        ("expired-dns.eml", vec![(bob, "failed", "5.4.7")]),
        ("eight-bit-header.eml", vec![(bob, "failed", "5.3.0")]),
        ("redacted.eml", vec![(bob, "failed", "5.1.1")]),
        ("dutch.eml", vec![(bob, "failed", "5.4.7")]),
        ("dutch-english.eml", vec![(bob, "failed", "5.4.7")]),
        ("german.eml", vec![(bob, "failed", "5.4.7")]),
        ("french.eml", vec![(bob, "failed", "5.4.7")]),
        ("plain.eml", vec![(bob, "failed", "5.1.1")]),
        ("delayed.eml", vec![(bob, "delayed", "4.4.1")]),
        ("held-back-dns.eml", vec![(bob, "delayed", "4.4.3")]),
        ("held-back-dane.eml", vec![(bob, "delayed", "4.7.323"), (eve, "delayed", "4.7.323")]),
        ("relayed.eml", vec![(bob, "relayed", "2.6.0")]),
        ("report-lost.eml", vec![("ann@corp.example", "failed", "5.1.1")]),
        ("many-recipients.eml", many.iter().map(|to| (to.as_str(), "failed", "5.1.1")).collect()),
    ] {
        let file = kept(name);
        let whole: String = expected.iter().map(|(who, what, status)| format!("{who} {what} {status}\n")).collect();
        assert_eq!(by_email(&file), whole, "{name}, by email");
        assert_eq!(by_sisimai(&file), whole, "{name}, by Sisimai");
        let failures = expected.iter().filter(|(_, what, _)| *what != "relayed");
        let failures: String = failures.map(|(who, what, _)| format!("{who} {what}\n")).collect();
        assert_eq!(by_flufl(&file), failures, "{name}, by flufl.bounce");
    }
}

#[test]
fn rfc3464_2_odd_addresses_are_read_by_pythons_email_at_least() {
    // flufl.bounce knows the address type rfc822 alone; Sisimai divides quoted local-parts.
    let several =
        "bob@partner.example failed 5.1.1\n\"c  d\"@[192.0.2.9] failed 5.3.0\neve@partner.example failed 5.1.1\n";
    assert_eq!(by_email(&kept("several-recipients.eml")), several);
    let utf8 = "j\\x{FC}rgen\\x{2B}x@b\\x{FC}cher.example failed 5.1.1\n";
    assert_eq!(by_email(&kept("utf8-recipient.eml")), utf8);
}

/// Hands a message in with Python's smtplib, which can ask for notifications.
fn hand_in(server: SocketAddr, to: &str, asked: &str) {
    let script = r#"
import smtplib, sys
host, port, to, asked = sys.argv[1:]
with smtplib.SMTP(host, int(port)) as client:
    content = f"From: <a@sender.test>\r\nTo: <{to}>\r\nSubject: Offer\r\nMessage-ID: <1@sender.test>\r\n\r\nbody\r\n"
    client.sendmail("a@sender.test", [to], content, ["RET=HDRS", "ENVID=QQ+20314"], [asked])
"#;
    let (host, port) = (server.ip().to_string(), server.port().to_string());
    run_ok(Command::new("/usr/bin/python3").args(["-c", script, &host, &port, to, asked]));
}

/// Waits for the report with these words in its header.
fn report(world: &World, words: &str) -> (Mail, PathBuf) {
    let fits = |mail: &Mail| mail.recipient() == "a@sender.test" && mail.text().contains(words);
    let found = || world.postfix.mailbox().into_iter().find(fits);
    let mail = crate::daemon::wait_for(&format!("a report with {words}"), PATIENCE, found);
    let file = world.dir().join("report.eml");
    std::fs::write(&file, mail.bytes()).unwrap();
    (mail, file)
}

#[test]
fn rfc3461_5_2_postfix_takes_our_reports_and_makes_those_of_success_itself() {
    let world = World::start(&[
        ("wrong.test", Tlsa::NoneFitsOf(2)),
        ("good.test", Tlsa::OneFitsOf(1)),
        ("sender.test", Tlsa::Absent),
    ]);
    let relay = world.start_relay(
        "[retry]\nfirst = \"1s\"\nlongest = \"1s\"\nexpire_after = \"6s\"\n[notify]\npolicy_failure_after = \"1s\"\n",
    );
    hand_in(relay.smtp, "b@wrong.test", "NOTIFY=FAILURE,DELAY");
    hand_in(relay.smtp, "c@good.test", "NOTIFY=SUCCESS");

    let (held_back, file) = report(&world, "Subject: Held back for safety: Offer");
    assert!(held_back.text().starts_with("Return-Path: <>\n"), "{}", held_back.text());
    assert_eq!(by_email(&file), "b@wrong.test delayed 4.7.323\n");
    assert_eq!(by_sisimai(&file), "b@wrong.test delayed 4.7.323\n");
    assert_eq!(by_flufl(&file), "b@wrong.test delayed\n");
    let (failed, file) = report(&world, "Subject: Undeliverable: Offer");
    assert!(failed.text().contains("Original-Envelope-Id: QQ 314\n"), "{}", failed.text());
    assert_eq!(by_email(&file), "b@wrong.test failed 5.4.7\n");
    assert_eq!(by_flufl(&file), "b@wrong.test failed\n");

    // Postfix offers DSN, so it is asked to tell of success, and we make no report of our own.
    let (told, _) = report(&world, "Action: delivered");
    for expected in ["Final-Recipient: rfc822; c@good.test", "Original-Envelope-Id: QQ"] {
        assert!(told.text().contains(expected), "{}", told.text());
    }
    assert!(relay.metrics().contains("relay_reports_queued_total 2\n"), "{}", relay.metrics());
}
