//! Many messages at once from smtp-source, counted at smtp-sink; and the metrics page of a relay
//! that has worked, read by promtool.

use crate::client::{Sink, smtp_source};
use crate::daemon::{both, run_ok, wait_for};
use crate::delivery::PATIENCE;
use crate::postfix::Postfix;
use crate::relay::Relay;
use crate::world::open_temp_dir;
use std::collections::BTreeSet;
use std::io::Write;
use std::path::Path;
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
    assert_eq!((messages.len(), distinct(&messages)), (MESSAGES, MESSAGES), "each message once");
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

#[test]
fn the_alerts_fire_in_the_story_and_end_with_it() {
    let deploy = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy");
    run_ok(Command::new("promtool").args(["test", "rules"]).arg(deploy.join("alerts_test.yml")));
}

/// Grafana puts values in the place of its variables; the rest is for Prometheus to understand.
#[test]
fn prometheus_understands_each_query_of_the_dashboard() {
    let text = include_str!("../../deploy/grafana-dashboard.json");
    let queries = text.lines().filter_map(|line| line.trim().strip_prefix("\"expr\": "));
    let rule = |(number, query): (usize, &str)| {
        let query = query.trim_end_matches(',').replace("$__rate_interval", "5m").replace("$instance", ".*");
        format!("  - record: query:{number}\n    expr: {query}\n")
    };
    let rules: Vec<String> = queries.enumerate().map(rule).collect();
    assert!(rules.len() > 50, "{}", rules.len());
    let dir = open_temp_dir();
    let file = dir.path().join("rules.yml");
    std::fs::write(&file, format!("groups:\n- name: dashboard\n  rules:\n{}", rules.concat())).unwrap();
    run_ok(Command::new("promtool").args(["check", "rules"]).arg(file));
}

#[test]
fn rfc5321_4_2_5_what_was_acknowledged_survives_kill_9() {
    let dir = open_temp_dir();
    let sink = Sink::start(dir.path());
    let mut relay = Relay::start(dir.path(), &everything_to(&sink));
    // Postfix keeps what the relay has not acknowledged, and forgets what it has.
    let (_postfix, address) = Postfix::start_in_front_of(dir.path(), relay.smtp);
    let handing_in = std::thread::spawn(move || smtp_source(address, SESSIONS, MESSAGES, OCTETS, "b@many.test"));
    for share in [MESSAGES / 8, MESSAGES / 4, MESSAGES / 2] {
        wait_for("a share of the messages", PATIENCE * 2, || (sink.messages().len() >= share).then_some(()));
        relay.crash_and_restart();
    }
    handing_in.join().unwrap();
    wait_for("every message at the sink", PATIENCE * 2, || (distinct(&sink.messages()) == MESSAGES).then_some(()));
}

/// How many different messages these are, by Message-ID.
fn distinct(messages: &[String]) -> usize {
    let id = |text: &String| text.lines().find(|line| line.starts_with("Message-Id:")).unwrap().to_owned();
    messages.iter().map(id).collect::<BTreeSet<String>>().len()
}

/// `promtool check metrics`: the page parses, and names and types follow the conventions.
pub(crate) fn promtool_is_content_with(page: &str) {
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
