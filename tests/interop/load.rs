//! Many messages at once from smtp-source, counted at smtp-sink; and the metrics page of a relay
//! that has worked, read by promtool.

use crate::client::{Sink, smtp_source};
use crate::daemon::{both, wait_for};
use crate::delivery::PATIENCE;
use crate::relay::Relay;
use crate::world::open_temp_dir;
use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

/// Sessions at once.
const SESSIONS: usize = 10;
/// Messages over all of them.
const MESSAGES: usize = 2_000;
/// Octets of each.
const OCTETS: usize = 4_096;

#[test]
fn smtp_source_hands_in_many_messages() {
    let dir = open_temp_dir();
    let sink = Sink::start(dir.path());
    let relay = Relay::start(dir.path(), &everything_to(&sink));
    smtp_source(relay.smtp, SESSIONS, MESSAGES, OCTETS, "b@many.test");

    let messages = wait_for("all messages at the sink", PATIENCE * 2, || {
        Some(sink.messages()).filter(|messages| messages.len() >= MESSAGES)
    });
    let id = |text: &str| text.lines().find(|line| line.starts_with("Message-Id:")).unwrap().to_owned();
    let distinct: BTreeSet<String> = messages.iter().map(|text| id(text)).collect();
    assert_eq!((messages.len(), distinct.len()), (MESSAGES, MESSAGES), "each message once");
    for text in &messages {
        let body = text.rsplit_once("\n\n1XXX").unwrap().1;
        assert!(body.len() > OCTETS - 100, "{text}");
    }

    // The sink has a message a moment before the relay has recorded that it does.
    let accounts = [
        format!("relay_recipients_accepted_total {MESSAGES}\n"),
        format!("relay_recipients_delivered_total{{tls=\"clear-text\"}} {MESSAGES}\n"),
        "relay_queue_messages 0\n".to_owned(),
    ];
    let page = wait_for(&format!("{accounts:?} among the metrics"), PATIENCE, || {
        Some(relay.metrics()).filter(|page| accounts.iter().all(|line| page.contains(line)))
    });
    promtool_is_content_with(&page);
}

/// `promtool check metrics`: the page parses, and names and types follow the conventions.
fn promtool_is_content_with(page: &str) {
    let mut command = Command::new("promtool");
    command.args(["check", "metrics"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut promtool = command.spawn().unwrap();
    promtool.stdin.take().unwrap().write_all(page.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    assert!(output.status.success(), "{}\n{page}", both(&output));
}

/// All mail goes to the sink.
fn everything_to(sink: &Sink) -> String {
    format!("[delivery]\nallow_loopback = true\n[[destination]]\ndomains = [\"*\"]\nnext_hop = \"{}\"\n", sink.address)
}
