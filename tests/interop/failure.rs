//! Mail that must not go out (RFC 7672 §2.2), and what its sender is told (RFC 3464).

use crate::client::Swaks;
use crate::daemon::run_ok;
use crate::delivery::{ODD_MESSAGE, PATIENCE};
use crate::world::{Tlsa, World};
use std::process::Command;

/// Reads an NDR with Python's email package and prints what is in it, one fact a line.
const NDR_FACTS: &str = r#"
import email, email.policy, sys
message = email.message_from_binary_file(open(sys.argv[1], "rb"), policy=email.policy.default)
assert not message.defects, message.defects
print("type", message.get_content_type(), message.get_param("report-type"))
print("auto-submitted", message["Auto-Submitted"])
print("from", message["From"].addresses[0].addr_spec)
print("to", message["To"].addresses[0].addr_spec)
print("parts", *[part.get_content_type() for part in message.iter_parts()])
status = [part for part in message.walk() if part.get_content_type() == "message/delivery-status"][0]
blocks = status.get_payload()
print("reporting-mta", blocks[0]["Reporting-MTA"])
for block in blocks[1:]:
    for field in ["Final-Recipient", "Action", "Status", "X-Relay-Cause"]:
        print(field.lower(), block[field])
"#;

#[test]
fn wrong_tlsa_set_defers_and_expires_with_an_ndr() {
    let world = World::start(&[("wrong.test", Tlsa::NoneFitsOf(6)), ("sender.test", Tlsa::Absent)]);
    let relay = world.start_relay("[retry]\nfirst = \"1s\"\nlongest = \"2s\"\nexpire_after = \"5s\"\n");
    let message =
        Swaks { server: relay.smtp, from: "a@sender.test", to: "b@wrong.test", options: &[], content: ODD_MESSAGE };
    message.hand_in(world.dir());

    relay.wait_for_log(&["deferred", "tlsa-invalid", "4.7.323", "b@wrong.test"], PATIENCE);
    let ndr = world.postfix.wait_for_mail_to("a@sender.test", PATIENCE);
    let file = world.dir().join("ndr.eml");
    std::fs::write(&file, ndr.bytes()).unwrap();
    let facts = run_ok(Command::new("python3").args(["-c", NDR_FACTS]).arg(&file));
    for expected in [
        "type multipart/report delivery-status\n",
        "auto-submitted auto-replied\n",
        "to a@sender.test\n",
        "reporting-mta dns; relay.test\n",
        "final-recipient rfc822; b@wrong.test\n",
        "action failed\n",
        "status 5.4.7\n",
        "x-relay-cause tlsa-invalid\n",
    ] {
        assert!(facts.contains(expected), "{expected}in\n{facts}\n{}", ndr.text());
    }
    assert!(ndr.text().starts_with("Return-Path: <>\n"), "{}", ndr.text());
    assert!(ndr.text().contains("odd.1@sender.test"), "the original is recognisable: {}", ndr.text());
    for expected in [
        "relay_recipient_deferrals_total{cause=\"tlsa-invalid\",side=\"recipient\"} ",
        "relay_recipients_failed_total{cause=\"expired\",side=\"recipient\"} 1\n",
        "relay_recipients_expired_total{cause=\"tlsa-invalid\",side=\"recipient\"} 1\n",
        "relay_reports_queued_total 1\n",
    ] {
        let metrics = relay.metrics();
        assert!(metrics.contains(expected), "{expected}in\n{metrics}");
    }
    let mailbox = world.postfix.mailbox();
    assert_eq!(mailbox.len(), 1, "one NDR, and nothing to the host that failed authentication");
    assert!(!world.postfix.log().contains("b@wrong.test"), "{}", world.postfix.log());
}

#[test]
fn rfc7672_2_2_no_clear_text_to_a_host_with_tlsa_records_and_no_starttls() {
    let world = World::start(&[("clear.test", Tlsa::WithoutStarttls)]);
    let relay = world.start_relay("");
    let message =
        Swaks { server: relay.smtp, from: "a@sender.test", to: "b@clear.test", options: &[], content: ODD_MESSAGE };
    message.hand_in(world.dir());
    relay.wait_for_log(&["deferred", "starttls-not-supported", "4.7.321", "b@clear.test"], PATIENCE);
    let log = world.postfix.log();
    assert!(log.contains("ehlo=1"), "it was asked: {log}");
    assert!(!log.contains("mail=1"), "it was told nothing: {log}");
}
