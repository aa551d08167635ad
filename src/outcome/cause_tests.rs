//! What the table says of replies and of causes behind causes, and that causes survive storage.

use super::*;

fn peer() -> Peer {
    Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() }
}

fn rejected(code: u16, text: &str) -> Cause {
    let mut parser = crate::smtp::reply::ReplyParser::default();
    let reply = parser.line(format!("{code} {text}").as_bytes()).unwrap().unwrap();
    Cause::Rejected { peer: peer(), phase: Phase::RcptTo, reply }
}

#[test]
fn rfc3463_status_comes_from_the_reply_or_is_mapped() {
    let status = |cause: Cause| cause.row().status.to_string();
    assert_eq!(status(rejected(550, "5.2.1 disabled")), "5.2.1");
    assert_eq!(status(rejected(550, "no such user")), "5.1.1");
    assert_eq!(status(rejected(451, "5.1.1 odd")), "4.0.0");
    assert_eq!(rejected(451, "later").class(), Class::Transient);
}

#[test]
fn expiry_keeps_the_last_real_cause() {
    let cause = Cause::Expired { waited_s: 345_600, last: Some(Box::new(rejected(450, "greylisted"))) };
    assert_eq!(cause.row().status.to_string(), "5.4.7");
    assert!(cause.sentence().contains("4 days"), "{}", cause.sentence());
    assert!(cause.sentence().contains("greylisted"));
    assert_eq!(cause.root(), &rejected(450, "greylisted"));
}

#[test]
fn what_an_older_relay_recorded_is_still_read() {
    let stored = r#"{"state":"delivered","peer":{"host":"mx.example","address":"192.0.2.1:25"},
        "tls":{"tls":"clear-text"},"reply":{"code":250,"enhanced":null,"lines":["ok"]}}"#;
    let reply = Reply::plain(250, "ok");
    let expected =
        DeliveryOutcome::Delivered { peer: peer(), tls: TlsVerdict::ClearText, reply, notify_passed_on: false };
    assert_eq!(serde_json::from_str::<DeliveryOutcome>(stored).unwrap(), expected);
    let stored = r#"{"cause":"smtputf8-not-offered","peer":{"host":"mx.example","address":"192.0.2.1:25"}}"#;
    let utf8 = Cause::SmtpUtf8NotOffered { peer: peer() };
    assert_eq!(serde_json::from_str::<Cause>(stored).unwrap(), utf8);
    let later = r#"{"cause":"expired","waited_s":60,"last":{"cause":"dns-bogus",
        "question":{"name":"mx.example","record_type":"A"},"detail":"no signature"}}"#;
    let read = serde_json::from_str::<Cause>(later).unwrap();
    assert_eq!(read.root().row().word, "dnssec-invalid");
}

#[test]
fn causes_survive_storage() {
    let cause = Cause::Expired { waited_s: 1, last: Some(Box::new(rejected(450, "4.2.0 greylisted"))) };
    let json = serde_json::to_string(&cause).unwrap();
    assert_eq!(serde_json::from_str::<Cause>(&json).unwrap(), cause);
}
