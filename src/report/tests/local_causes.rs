//! What a report says where no server spoke, and whom it sends to act where one spoke of us (RFC 3464 §2.3.6).

use super::*;
use crate::spool::event::{Attempt, Group};

#[test]
fn rfc3464_2_3_6_a_local_cause_has_a_diagnostic_code_of_our_own_type() {
    for cause in every::cause() {
        let status = status_of(&report(&[("bob@partner.example", &cause)], HEADER)).replace("\r\n ", " ");
        let group = status.split("\r\n\r\n").nth(1).unwrap();
        let word = cause.root().row().word;
        assert_eq!(group.matches("Diagnostic-Code: ").count(), 1, "{word}: {group}");
        assert!(group.contains(&format!("X-Relay-Cause: {word}\r\n")), "{group}");
        let own = format!("Diagnostic-Code: X-Relay; {word}: ");
        assert_eq!(group.contains(&own), !group.contains("Remote-MTA: "), "{group}");
    }
    let status = status_of(&report(&[("bob@partner.example", &expired(tlsa_unavailable()))], HEADER));
    let unfolded = status.replace("\r\n ", " ");
    assert!(
        unfolded.contains(
            "Diagnostic-Code: X-Relay; dns-unavailable: The DNS gave no usable answer to the question \
             \"_25._tcp.mx1.partner.example TLSA\""
        ),
        "{unfolded}"
    );
}

#[test]
fn a_refusal_of_our_address_or_proofs_sends_our_administrators_to_act_and_nobody_else() {
    for said in [
        &b"550 5.7.1 Service unavailable; client host [192.0.2.7] blocked using zen.spamhaus.org"[..],
        b"550 client host [192.0.2.7] is on our blocklist",
        b"550 5.7.23 SPF validation failed",
        b"550 5.7.26 unauthenticated mail is not accepted: DKIM did not pass",
        b"550 5.7.509 corp.example does not pass DMARC verification",
    ] {
        let text = parts(&report(&[("bob@partner.example", &rejected(&[said]))], HEADER)).swap_remove(0).1;
        let text = text.replace("\r\n", " ");
        let (reader, administrators) = text.split_once("For administrators").unwrap();
        assert!(reader.contains("The administrators of the sending mail system (yours) must act."), "{reader}");
        assert!(reader.contains("pass this report on to your help desk"), "{reader}");
        for other in ["check the address", "recipient's mail system must act", "reach the recipient", "yourself"] {
            assert!(!reader.contains(other), "{other} in {reader}");
        }
        assert!(administrators.contains("Advice: "), "{administrators}");
        assert!(!administrators.contains("the other side's own reason"), "{administrators}");
    }
}

/// A try of one mail server.
fn tried(host: &str, recipients: &[usize]) -> Event {
    let outcome = DeliveryOutcome::Failed { cause: dane_mismatch() };
    Event::Attempt(Box::new(Attempt {
        next_hop: "partner.example".to_owned(),
        peer: Peer { host: host.to_owned(), ..peer() },
        policy: "dane".to_owned(),
        tls: None,
        exception: None,
        took_ms: 1,
        results: vec![Group { recipients: recipients.to_vec(), outcome }],
        group: None,
        dns: Vec::new(),
    }))
}

#[test]
fn no_two_lines_of_a_report_say_the_same() {
    let (no, other) = (rejected(&[b"550 5.1.1 no bob here"]), rejected(&[b"550 5.1.1 no eve here"]));
    let gone = expired(dane_mismatch());
    let failures = [("bob@partner.example", &no), ("eve@partner.example", &other), ("sue@partner.example", &gone)];
    let mut case = ReportCase::new(&failures, HEADER);
    let hosts = ["mx1.partner.example", "mx2.partner.example"];
    let moments = (0..40_i64).map(|nth| {
        let host = hosts[usize::try_from(nth % 2).unwrap()];
        (Timestamp(ARRIVED.0 + nth * 3_600_000), tried(host, &[2]))
    });
    case.history = moments.collect();
    let text = parts(&case.report()).swap_remove(0).1;
    let administrators = text.split_once("For administrators").unwrap().1.replace("\r\n                    ", " ");
    let mut lines: Vec<&str> = administrators.split("\r\n").filter(|line| line.contains(": ")).collect();
    assert_eq!(lines.iter().filter(|line| line.contains("Earlier try: ")).count(), 2, "one of each server: {text}");
    assert!(administrators.contains("20 times from 2026-11-17 11:44 UTC to 2026-11-19 01:44 UTC"), "{text}");
    // Who refuses two recipients is named with each.
    lines.retain(|line| !["Cause:", "Mail server:", "While:"].iter().any(|label| line.contains(label)));
    let all = lines.len();
    lines.sort_unstable();
    lines.dedup();
    assert_eq!(lines.len(), all, "{text}");
    assert_eq!(text.matches("relay why").count(), 1, "{text}");
    // The same for the reader: two are to be checked, and one is not; nothing is tried again.
    let reader = text.split_once("For administrators").unwrap().0.replace("\r\n", " ");
    for (said, times) in [("Please check the address", 1), ("system must act", 2), ("will not be tried again", 1)] {
        assert_eq!(reader.matches(said).count(), times, "{said}: {text}");
    }
}
