//! The first start: `relay setup` writes a configuration and says what is wrong around it, `relay send-test`
//! sends a message through the relay and tells what becomes of it.

use crate::process::{ProgramOutput, Serving, run};
use crate::relay::{configuration_file, lab, says};
use dane_relay::lab::dns::world::AnchorForm;
use dane_relay::lab::{Lab, LabBuilder, TroubleAt};
use hickory_proto::rr::rdata::{A, PTR, TXT};
use hickory_proto::rr::{Name, RData};
use serde_json::Value;
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use tempfile::TempDir;

/// Where mail leaves from.
const EGRESS: &str = "203.0.113.5";

fn text(record: &str) -> RData {
    RData::TXT(TXT::new(vec![record.to_owned()]))
}

/// A world in which the relay is named as it should be.
fn named() -> LabBuilder {
    let name = Name::from_ascii("relay.office.test.").unwrap();
    Lab::builder()
        .domain("office.test", |d| {
            d.null_mx()
                .record("relay.office.test", RData::A(A(EGRESS.parse().unwrap())))
                .record("office.test", text("v=spf1 a:relay.office.test -all"))
                .record("_spf.office.test", text("v=spf1 ip4:203.0.113.0/29 -all"))
        })
        .domain("113.0.203.in-addr.arpa", |d| d.null_mx().record("5.113.0.203.in-addr.arpa", RData::PTR(PTR(name))))
}

/// A lab, and a folder to write to.
struct FirstStart {
    lab: Lab,
    folder: TempDir,
}

impl FirstStart {
    async fn of(lab: LabBuilder) -> Self {
        Self { lab: lab.start().await.unwrap(), folder: tempfile::tempdir().unwrap() }
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("relay.toml")
    }

    /// `relay setup` with the DNS of the lab, and these options.
    async fn setup(&self, more: &[&str]) -> ProgramOutput {
        let anchors = self.folder.path().join("root.key");
        std::fs::write(&anchors, self.lab.world().trust_anchor(AnchorForm::DnsKey).unwrap()).unwrap();
        let (output, upstream) = (self.output(), self.lab.dns().upstream());
        let spool = self.folder.path().join("spool");
        let own = ["setup", "--hostname", "relay.office.test", "--exchange", "127.0.0.10", "--upstream", &upstream];
        let files = [
            ["--trust-anchors", anchors.to_str().unwrap()],
            ["--output", output.to_str().unwrap()],
            ["--spool", spool.to_str().unwrap()],
        ];
        run([&own, files.as_flattened(), more].concat()).await
    }
}

/// The line of a check.
fn line<'a>(said: &'a ProgramOutput, check: &str, about: &str) -> &'a str {
    let is_it = |line: &&str| line.split_whitespace().nth(1) == Some(check) && line.contains(about);
    said.stdout.lines().find(is_it).unwrap_or_else(|| panic!("no {check} about {about} in:\n{}", said.stdout))
}

#[tokio::test]
async fn a_first_start_in_good_order_ends_with_a_file_that_is_accepted() {
    let first = FirstStart::of(named()).await;
    let said = first.setup(&["--sender-domain", "office.test", "--egress", EGRESS, "--listen", "127.0.0.1:0"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    for (check, about) in [
        ("validation", "the root's keys validate"),
        ("reverse-dns", "203.0.113.5 is relay.office.test., and back"),
        ("forward-name", "relay.office.test leads to 203.0.113.5"),
        ("spf", "office.test lets mail leave from 203.0.113.5"),
        ("port-here", "is free"),
    ] {
        assert!(line(&said, check, about).starts_with("OK"), "{}", said.stdout);
    }
    assert!(said.stdout.contains("office.test. has a record that will do"), "{}", said.stdout);
    let path = first.output();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o640);
    let checked = run(["config", "check", "--config", path.to_str().unwrap()]).await;
    // The test cannot know a port that is free.
    let warned: Vec<&str> = checked.stderr.lines().filter(|line| !line.contains("port 0 is another")).collect();
    assert_eq!((checked.code, warned.len()), (0, 0), "{checked:?}");
    let shown = run(["config", "show", "--config", path.to_str().unwrap()]).await;
    assert!(shown.stdout.contains("next_hop = [\"127.0.0.10:25\"]"), "reports go to Exchange: {}", shown.stdout);
}

#[tokio::test]
async fn rfc7208_what_each_sender_domain_publishes_is_judged_by_where_mail_leaves_from() {
    let lab = named()
        .domain("pass.test", |d| d.null_mx().record("pass.test", text("v=spf1 include:_spf.office.test ~all")))
        .domain("moved.test", |d| d.null_mx().record("moved.test", text("v=spf1 redirect=_spf.office.test")))
        .domain("fail.test", |d| d.null_mx().record("fail.test", text("v=spf1 ip4:192.0.2.0/24 -all")))
        .domain("soft.test", |d| d.null_mx().record("soft.test", text("v=spf1 mx ~all")))
        .domain("none.test", |d| d.null_mx().record("none.test", text("some other text")))
        .domain("loop.test", |d| d.null_mx().record("loop.test", text("v=spf1 include:loop.test -all")))
        .domain("macro.test", |d| d.null_mx().record("macro.test", text("v=spf1 exists:%{i}.macro.test -all")));
    let first = FirstStart::of(lab).await;
    let domains = ["pass", "moved", "fail", "soft", "none", "loop", "macro"].map(|name| format!("{name}.test"));
    let options: Vec<&str> = domains.iter().flat_map(|domain| ["--sender-domain", domain]).collect();
    let said = first.setup(&[&["--egress", EGRESS, "--listen", "127.0.0.1:0"], options.as_slice()].concat()).await;
    assert_eq!(said.code, 0, "what is wrong is said, and the file is written: {said:?}");
    for (domain, word) in [
        ("pass.test lets", "OK"),
        ("moved.test lets", "OK"),
        ("fail.test forbids", "FAULT"),
        ("soft.test does", "WARN"),
        ("none.test has no", "WARN"),
        ("loop.test has a faulty", "FAULT"),
        ("macro.test not known", "INCONCLUSIVE"),
    ] {
        assert!(line(&said, "spf", domain).starts_with(word), "{domain} is to be {word}:\n{}", said.stdout);
    }
    let records: Vec<Vec<&str>> = said.stdout.lines().map(|line| line.split_whitespace().collect()).collect();
    let published = |record: &[&str]| records.iter().any(|line| line == record);
    assert!(published(&["fail.test.", "TXT", "\"v=spf1", "ip4:203.0.113.5", "ip4:192.0.2.0/24", "-all\""]));
    assert!(published(&["none.test.", "TXT", "\"v=spf1", "ip4:203.0.113.5", "~all\""]), "{}", said.stdout);
}

#[tokio::test]
async fn who_holds_the_port_of_the_listener_is_named_from_the_tables_of_the_kernel() {
    let first = FirstStart::of(named()).await;
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = holder.local_addr().unwrap().to_string();
    let said = first.setup(&["--sender-domain", "office.test", "--egress", EGRESS, "--listen", &listen]).await;
    let found = line(&said, "port-here", &format!("(process {})", std::process::id()));
    assert!(found.starts_with("FAULT"), "{}", said.stdout);
    drop(holder);
}

#[tokio::test]
async fn a_file_that_is_there_is_left_alone_until_force_is_given() {
    let first = FirstStart::of(named()).await;
    let options = ["--sender-domain", "office.test", "--offline", "--listen", "127.0.0.1:0"];
    std::fs::write(first.output(), "hostname = \"mine.test\"\n").unwrap();
    let refused = first.setup(&options).await;
    assert_eq!((refused.code, refused.stdout.as_str()), (64, ""), "{refused:?}");
    assert!(refused.stderr.contains("--force"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(first.output()).unwrap(), "hostname = \"mine.test\"\n");
    let forced = first.setup(&[&options[..], &["--force"]].concat()).await;
    assert_eq!(forced.code, 0, "{forced:?}");
    let old = std::fs::read_to_string(first.folder.path().join("relay.toml.old")).unwrap();
    assert_eq!(old, "hostname = \"mine.test\"\n");
}

#[tokio::test]
async fn answers_that_make_no_configuration_write_nothing() {
    let first = FirstStart::of(named()).await;
    let missing = run(["setup", "--output", first.output().to_str().unwrap()]).await;
    assert_eq!(missing.code, 64, "{missing:?}");
    for option in ["--hostname", "--exchange", "--sender-domain"] {
        assert!(missing.stderr.contains(option), "{missing:?}");
    }
    let named = first.setup(&["--sender-domain", "office.test", "--exchange", "exchange.office.test"]).await;
    assert!(named.code == 64 && named.stderr.contains("is no address"), "{named:?}");
    let nowhere = first.folder.path().join("no.pem");
    let nowhere = nowhere.to_str().unwrap();
    let options = ["--sender-domain", "office.test", "--certificate", nowhere, "--key", nowhere];
    let unreadable = first.setup(&options).await;
    assert!(unreadable.code == 78 && unreadable.stderr.contains("no.pem"), "{unreadable:?}");
    assert!(!first.output().exists());
}

/// A relay that serves in front of a domain for each end.
async fn in_front_of(change: impl FnOnce(String) -> String) -> (Lab, TempDir, PathBuf) {
    let lab = lab()
        .domain("good.test", |d| d)
        .domain("null.test", |d| d.null_mx())
        .domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
    let (lab, folder) = (lab.start().await.unwrap(), tempfile::tempdir().unwrap());
    let config = configuration_file(&lab, folder.path());
    std::fs::write(&config, change(std::fs::read_to_string(&config).unwrap())).unwrap();
    (lab, folder, config)
}

async fn send_test(config: &std::path::Path, more: &[&str]) -> ProgramOutput {
    run([&["send-test", "--config", config.to_str().unwrap()], more].concat()).await
}

#[tokio::test]
async fn a_test_message_goes_the_way_of_all_mail_and_its_story_is_told() {
    let (lab, _folder, config) = in_front_of(|text| text).await;
    let none_runs = send_test(&config, &["--to", "bob@good.test"]).await;
    assert_eq!(none_runs.code, 69, "{none_runs:?}");
    let _relay = Serving::start(&config).await;

    let delivered = send_test(&config, &["--to", "bob@good.test", "--from", "alice@office.test"]).await;
    assert_eq!(delivered.code, 0, "{delivered:?}");
    assert!(delivered.stdout.contains("bob@good.test: delivered to mx.good.test"), "{}", delivered.stdout);
    let received = lab.mx("good.test").unwrap().messages().remove(0);
    assert_eq!(
        (received.mail_from.as_str(), received.rcpt_to.as_slice()),
        ("alice@office.test", &["bob@good.test".to_owned()][..])
    );
    let content = String::from_utf8(received.content).unwrap();
    assert!(content.contains("with ESMTPS id") && content.contains("Auto-Submitted: auto-generated"), "{content}");

    let refused = send_test(&config, &["--to", "bob@null.test", "--json"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    let story: Value = serde_json::from_str(&refused.stdout).unwrap();
    assert_eq!(story["stories"][0]["message"]["envelope"]["recipients"][0], "bob@null.test");

    let waits = send_test(&config, &["--to", "bob@busy.test", "--wait", "1s"]).await;
    assert_eq!(waits.code, 1, "{waits:?}");
    assert!(waits.stdout.contains("rejected-for-now") && waits.stderr.contains("relay why"), "{waits:?}");
}

#[tokio::test]
async fn a_test_message_that_the_relay_itself_refuses_says_so() {
    let only_office = |text: String| text.replace("[admin]", "sender_domains = [\"office.test\"]\n[admin]");
    let (_lab, _folder, config) = in_front_of(only_office).await;
    let _relay = Serving::start(&config).await;
    let refused = send_test(&config, &["--to", "bob@good.test", "--from", "eve@elsewhere.test"]).await;
    assert_eq!(refused.code, 2, "{refused:?}");
    assert!(refused.stderr.contains("the relay itself refused") && refused.stderr.contains("5.7.1"), "{refused:?}");
    let usual = send_test(&config, &["--to", "bob@good.test"]).await;
    assert_eq!(usual.code, 0, "without --from it is somebody who may send: {usual:?}");
}
