//! What all commands keep to: one form of JSON, tables, the content of a message, the log of a relay that runs
//! and its signals.

use crate::operator::{QueueScene, finished};
use crate::process::{ProgramOutput, Serving, run, run_with};
use crate::relay::{SENDER, content, hand_in, queue_id, until};
use dane_relay::clock::Timestamp;
use dane_relay::envelope::QueueId;
use dane_relay::lab::mx::client::SmtpClient;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Configuration files of two spools, of which the first has been opened once.
async fn idle_spools(folder: &Path) -> [String; 2] {
    let files = ["old", "new"].map(|name| {
        let file = folder.join(format!("{name}.toml"));
        std::fs::write(&file, format!("[spool]\npath = {:?}\n", folder.join(name))).unwrap();
        file
    });
    let config = dane_relay::config::Config::load(&files[0]).unwrap();
    dane_relay::spool::open(&config.spool, Timestamp(0)).await.unwrap().spool.close().await;
    files.map(|file| file.to_str().unwrap().to_owned())
}

/// The section of each command in the reference.
fn reference() -> Vec<(String, String)> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/deploy/commands.md");
    let text = std::fs::read_to_string(path).unwrap();
    let sections = text.split("\n### relay ").skip(1).map(|section| {
        let (name, rest) = section.split_once('\n').unwrap();
        (name.to_owned(), rest.to_owned())
    });
    sections.collect()
}

/// What is wrong with a value that a command printed, by the rules in `deploy/commands.md`.
fn faults(path: &str, value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let is_snake = name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
                if !is_snake {
                    found.push(format!("{path}.{name}: no snake_case"));
                }
                faults(&format!("{path}.{name}"), value, found);
            }
        }
        Value::Array(items) => items.iter().for_each(|item| faults(&format!("{path}[]"), item, found)),
        // Milliseconds since 1970 have thirteen digits; nothing else of ours has.
        Value::Number(number) if number.as_f64().unwrap() >= 1e12 => found.push(format!("{path}: a time as {number}")),
        Value::String(text) if is_time(text) => {
            let read = OffsetDateTime::parse(text, &Rfc3339);
            if !read.is_ok_and(|at| at.offset().is_utc()) || !text.contains('T') {
                found.push(format!("{path}: {text} is no time of RFC 3339 in UTC"));
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether it begins as a time does, and is no longer.
fn is_time(text: &str) -> bool {
    let shape: String = text.chars().take(10).map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    // A day alone is one in the configuration.
    shape == "0000-00-00" && (11..32).contains(&text.len())
}

fn objects(said: &ProgramOutput) -> Vec<Value> {
    if let Ok(one) = serde_json::from_str(&said.stdout) {
        return vec![one];
    }
    said.stdout.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {said:?}"))).collect()
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "the list of all commands")]
async fn every_command_with_json_keeps_to_one_form() {
    let scene = QueueScene::busy_and_good().await;
    let counting = "[tls_reports]\nenabled = true\norganization = \"Office Ltd\"\ncontact = \"tls@office.test\"\n";
    let config = std::fs::read_to_string(&scene.config).unwrap() + counting;
    std::fs::write(&scene.config, config).unwrap();
    let relay = scene.serve().await;
    let done = scene.waits(&relay, "bob@busy.test").await.to_string();
    let (id, other) = (scene.waits(&relay, "carol@busy.test").await, scene.waits(&relay, "dave@busy.test").await);
    let report = hand_in(relay.smtp, SENDER, &["bob@null.test"], content("bob@null.test").as_bytes()).await;
    scene.story(&report.to_string(), finished).await;
    std::fs::write(
        scene.folder.path().join("spool/watch.json"),
        r#"[{"domain":"busy.test","at":1795261468123,"verdict":"OK","contact":"postmaster@busy.test","findings":[]}]"#,
    )
    .unwrap();
    let (id, other) = (id.to_string(), other.to_string());
    let typed: Vec<Vec<&str>> = vec![
        vec!["send-test", "--to", "bob@good.test", "--from", SENDER],
        vec!["check", "busy.test"],
        vec!["check", "--self"],
        vec!["check", "--all-queued"],
        vec!["dns", "good.test", "MX"],
        vec!["dkim", "new", "good.test"],
        vec!["dkim", "check", "good.test"],
        vec!["policy", "show", "good.test"],
        vec!["policy", "refresh", "good.test"],
        vec!["policy", "list"],
        vec!["queue", "summary"],
        vec!["queue", "list"],
        vec!["queue", "list", "--sort", "-age", "--limit", "1"],
        vec!["queue", "show", &id],
        vec!["queue", "hold", &id, &other],
        vec!["queue", "release", &id],
        vec!["queue", "release", &other],
        vec!["queue", "retry", &id],
        vec!["queue", "bounce", "--id", &done],
        vec!["queue", "delete", "--yes", "--all"],
        vec!["why", SENDER],
        vec!["why", "--what-if", "tls=dane-only", "--domain", "good.test"],
        vec!["incidents"],
        vec!["watch", "list"],
        vec!["watch", "show", "busy.test"],
        vec!["reports", "list"],
        vec!["reports", "show", "busy.test"],
        vec!["reports", "send", "--dry-run"],
        vec!["audit"],
        vec!["spool", "status"],
        vec!["spool", "move"],
        vec!["cluster", "status"],
        vec!["status"],
        vec!["log-level", "debug", "--for", "10m"],
        vec!["suspend", "user", "printer"],
        vec!["resume", "user", "printer"],
        vec!["config", "check"],
        vec!["config", "show"],
        vec!["config", "diff"],
        vec!["reload"],
        vec!["drain"],
    ];
    let (mut seen, mut wrong) = (BTreeSet::new(), Vec::new());
    for arguments in &typed {
        let all = [arguments.as_slice(), &["--json"]].concat();
        let said = match arguments.as_slice() {
            // It takes the file by its place.
            ["config", "diff"] => run([all.as_slice(), &[scene.config.to_str().unwrap()]].concat()).await,
            // Of spools that no relay works on.
            ["spool", "move"] => {
                let [from, to] = idle_spools(scene.folder.path()).await;
                run([all.as_slice(), &["--from", from.as_str(), "--to", to.as_str()]].concat()).await
            }
            _ => scene.run(&all).await,
        };
        let all = objects(&said);
        let may_be_empty = arguments == &["policy", "list"];
        assert!(may_be_empty || !all.is_empty(), "{arguments:?}: {said:?}");
        for object in &all {
            assert_eq!(object["version"], 1, "{arguments:?}: {object}");
            faults(&arguments.join(" "), object, &mut wrong);
        }
        let is_story = arguments == &["why", SENDER];
        assert!(!is_story || said.stdout.contains("\"accepted_at\": \"20"), "a story has times: {said:?}");
        seen.insert(arguments.iter().copied().take(2).collect::<Vec<_>>().join(" "));
        seen.insert(arguments[0].to_owned());
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    for (name, section) in reference() {
        let has_json = section.contains("`--json`");
        assert!(!has_json || seen.contains(&name), "relay {name} --json is not tried here");
    }
}

#[test]
fn the_watch_over_json_sees_what_it_is_for() {
    let wrong = |text: &str| {
        let mut found = Vec::new();
        faults("x", &serde_json::from_str(text).unwrap(), &mut found);
        found.len()
    };
    assert_eq!(wrong(r#"{"at":1795261468123,"since":"2026-11-21 11:44:28Z","Not-Snake":0}"#), 3);
    assert_eq!(wrong(r#"{"at":"2026-11-21T11:44:28.123+01:00"}"#), 1);
    assert_eq!(wrong(r#"{"at":"2026-11-21T11:44:28.123Z","size":2000000000,"named":{"a_b":[null,true]}}"#), 0);
}

#[tokio::test]
async fn a_check_and_a_story_call_a_failure_by_the_same_word() {
    let scene = QueueScene::busy_and_good().await;
    let relay = scene.serve().await;
    let id = scene.waits(&relay, "bob@busy.test").await.to_string();
    let json = async |arguments: &[&str]| objects(&scene.run(arguments).await).remove(0);
    let listed = json(&["queue", "list", "--json"]).await["recipients"][0]["cause"].clone();
    let summed = json(&["queue", "summary", "--json"]).await["domains"][0]["causes"][0]["cause"].clone();
    let told = json(&["why", &id, "--json"]).await["stories"][0]["message"]["recipients"][0]["last"]["cause"].clone();
    let checked = json(&["check", "null.test", "--json"]).await;
    let null = scene.run(&["check", "null.test"]).await.stdout;
    let word = checked["evidence"]["delivery"]["cause"]["cause"].as_str().unwrap().to_owned();
    assert_eq!([listed, summed, told], ["rejected-for-now"; 3].map(Value::from));
    assert!(word == "null-mx" && null.contains(&word), "{word} in {null}");
}

#[tokio::test]
async fn a_table_fits_the_terminal_and_is_whole_where_there_is_none() {
    let scene = QueueScene::busy_and_good().await;
    let relay = scene.serve().await;
    let to = "somebody.with-a-rather-long-name.in-the-sales-department@busy.test";
    for to in [to, "bob@busy.test", "carol@busy.test"] {
        scene.waits(&relay, to).await;
    }
    let config = scene.config.to_str().unwrap();
    let narrow = async |arguments: &[&str]| {
        let variables = [("COLUMNS", OsStr::new("80"))];
        run_with(&variables, [arguments, &["--config", config]].concat()).await.stdout
    };
    let list = narrow(&["queue", "list"]).await;
    assert!(list.starts_with("ID ") && list.lines().all(|line| line.chars().count() <= 80), "{list}");
    assert!(list.contains('…') && !list.contains(to), "{list}");
    for whole in [scene.run(&["queue", "list"]).await.stdout, narrow(&["queue", "list", "--wide"]).await] {
        assert!(whole.contains(to) && whole.contains("alice@office.test"), "{whole}");
    }
    let last = scene.run(&["queue", "list", "--sort", "-age", "--limit", "2"]).await;
    assert!(last.stdout.lines().nth(1).unwrap().contains(to), "{}", last.stdout);
    assert!(last.stdout.lines().count() == 4 && last.stdout.contains("There are more"), "{}", last.stdout);
    let odd = scene.run(&["queue", "list", "--sort", "colour"]).await;
    assert!(odd.code == 64 && odd.stderr.contains("there are id, age, size"), "{odd:?}");

    let many = scene.run(&["why", SENDER]).await;
    let lines: Vec<&str> = many.stdout.lines().collect();
    assert!(lines[0].starts_with("ID ") && lines[4].is_empty(), "{}", many.stdout);
    assert!(many.stdout.contains("Another: relay why ") && many.stdout.matches("Accepted ").count() == 1, "{many:?}");
    let all = scene.run(&["why", SENDER, "--stories", "--limit", "2"]).await;
    assert!(
        all.stdout.matches("  Accepted ").count() == 2 && all.stdout.contains("There are older messages"),
        "{all:?}"
    );
}

#[tokio::test]
async fn the_content_of_a_message_is_read_and_its_history_says_by_whom() {
    let scene = QueueScene::busy_and_good().await;
    let relay = scene.serve().await;
    let small = scene.waits(&relay, "bob@busy.test").await;
    let long = content("carol@busy.test") + &"A line of a long message, which has a file of its own.\r\n".repeat(6_000);
    let large = hand_in(relay.smtp, SENDER, &["carol@busy.test"], long.as_bytes()).await;
    let tried = |story: &Value| story["message"]["recipients"][0]["tries"] == 1;
    scene.story(&large.to_string(), tried).await;
    for (id, sent) in [(small, content("bob@busy.test")), (large, long)] {
        let id = id.to_string();
        let said = scene.run(&["queue", "export", &id]).await;
        assert!(said.code == 0 && said.stderr.is_empty() && said.stdout.ends_with(&sent), "{said:?}");
        let header = scene.run(&["queue", "show", &id, "--header"]).await.stdout;
        assert!(
            header.starts_with("Received: ") && header.ends_with("\r\n") && !header.contains("\r\n\r\n"),
            "{header}"
        );
        let shown = scene.run(&["queue", "show", &id, "--content"]).await.stdout;
        assert_eq!((shown.starts_with(&header), shown), (true, said.stdout));
    }
    let story = scene.story(&small.to_string(), |_| true).await;
    let acts: Vec<_> = story["history"].as_array().unwrap().iter().filter_map(|h| h["act"].as_str()).collect();
    assert_eq!((acts, &story["message"]["recipients"][0]["tries"]), (vec!["read"; 3], &1.into()));

    let file = scene.folder.path().join("message.eml");
    let file = file.to_str().unwrap();
    assert_eq!(scene.run(&["queue", "export", &small.to_string(), "-o", file]).await.code, 0);
    let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(file).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);
    assert_eq!(scene.run(&["queue", "export", &small.to_string(), "-o", file]).await.code, 74, "it is there already");
    assert_eq!(scene.run(&["queue", "export", &QueueId(5).to_string()]).await.code, 1);
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    let alone = scene.run(&["queue", "export", &small.to_string()]).await;
    assert!(alone.code == 0 && alone.stderr.contains("is not in its history: no relay runs"), "{alone:?}");
}

#[tokio::test]
async fn a_damaged_message_is_not_exported() {
    let scene = QueueScene::busy_and_good().await;
    let relay = scene.serve().await;
    let id = scene.waits(&relay, "bob@busy.test").await.to_string();
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    let segments = std::fs::read_dir(scene.folder.path().join("spool/segments")).unwrap();
    for segment in segments.map(|entry| entry.unwrap().path()) {
        let mut octets = std::fs::read(&segment).unwrap();
        let subject = octets.windows(8).position(|w| w == b"Subject:");
        subject.into_iter().for_each(|at| octets[at] = b'X');
        std::fs::write(&segment, octets).unwrap();
    }
    let said = scene.run(&["queue", "export", &id]).await;
    assert!(said.code == 74 && said.stdout.is_empty() && said.stderr.contains("checksum"), "{said:?}");
}

/// A relay whose log goes to a file.
struct Logged {
    child: std::process::Child,
    log: std::path::PathBuf,
}

impl Logged {
    async fn start(scene: &QueueScene) -> Self {
        let log = scene.folder.path().join("log");
        let mut command = Command::new(env!("CARGO_BIN_EXE_relay"));
        command.args(["serve", "--config"]).arg(&scene.config).env_remove("RUST_LOG").env_remove("RELAY_LOG");
        let child = command.stdin(Stdio::null()).stderr(std::fs::File::create(&log).unwrap()).spawn().unwrap();
        let logged = Self { child, log };
        logged.says("relay serves").await;
        logged
    }

    fn text(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    async fn says(&self, words: &str) {
        until(|| async { self.text().contains(words).then_some(()) }, words).await;
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -s {name} {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
    }
}

impl Drop for Logged {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[tokio::test]
async fn the_log_of_a_running_relay_says_more_and_less_when_it_is_told_to() {
    let scene = QueueScene::busy_and_good().await;
    let relay = Logged::start(&scene).await;
    let level = async |arguments: &[&str]| scene.run(&[&["log-level"], arguments].concat()).await;
    assert!(!relay.text().contains("DEBUG") && !relay.text().contains("TRACE"));
    let said = level(&["trace", "--for", "1h"]).await;
    assert!(said.code == 0 && said.stdout.starts_with("The log is at trace until 20"), "{said:?}");
    assert!(scene.run(&["status"]).await.stdout.contains("at trace until "), "status names it");
    let status = scene.run(&["status", "--json"]).await;
    let smtp = objects(&status)[0]["smtp"][0].as_str().unwrap().parse().unwrap();
    hand_in(smtp, SENDER, &["bob@good.test"], content("bob@good.test").as_bytes()).await;
    relay.says("session opened").await;
    let said = level(&["default"]).await;
    assert_eq!((said.code, said.stdout.as_str()), (0, "The log is at info.\n"));
    let odd = level(&["loud"]).await;
    assert!(odd.code == 64 && odd.stderr.contains("error, warn, info, debug, trace, off"), "{odd:?}");
    let brief = level(&["debug", "--for", "1s"]).await;
    assert_eq!(brief.code, 0);
    relay.says("again as at the start").await;
    assert!(!scene.run(&["status"]).await.stdout.contains("at debug until"));
}

#[tokio::test]
async fn sigusr1_goes_to_debug_and_back_and_neither_it_nor_sigusr2_ends_the_relay() {
    let scene = QueueScene::busy_and_good().await;
    let mut relay = Logged::start(&scene).await;
    relay.signal("USR1");
    relay.says("SIGUSR1: how much is logged has changed level=debug").await;
    relay.signal("USR2");
    relay.says("SIGUSR2 means nothing").await;
    relay.signal("USR1");
    relay.says("SIGUSR1: how much is logged has changed level=info").await;
    assert_eq!(scene.run(&["status"]).await.code, 0);
    assert!(relay.child.try_wait().unwrap().is_none(), "it runs on");
}

#[tokio::test]
async fn top_needs_a_terminal_and_on_one_it_shows_the_queue_until_q() {
    let scene = QueueScene::busy_and_good().await;
    let relay = Serving::start(&scene.config).await;
    scene.waits(&relay, "bob@busy.test").await;
    let refused = scene.run(&["top"]).await;
    assert!(refused.code == 64 && refused.stderr.contains("relay queue summary"), "{refused:?}");
    // script(1) of util-linux makes the terminal.
    let typed = format!("stty cols 80 rows 24; {} top --config {:?}", env!("CARGO_BIN_EXE_relay"), scene.config);
    let seen = scene.folder.path().join("seen");
    let mut command = Command::new("script");
    command.args(["-qfec", &typed]).arg(&seen).stdin(Stdio::piped()).stdout(Stdio::null());
    let mut child = command.spawn().unwrap();
    let shown = || async { std::fs::read_to_string(&seen).ok().filter(|text| text.contains("q ends")) };
    let screen = until(shown, "the screen").await;
    std::io::Write::write_all(child.stdin.as_mut().unwrap(), b"q").unwrap();
    let code = until(|| std::future::ready(child.try_wait().unwrap()), "the end of top").await.code();
    assert_eq!(code, Some(0));
    assert!(screen.contains("1 message waits") && screen.contains("busy.test"), "{screen}");
    let whole = std::fs::read_to_string(&seen).unwrap();
    assert!(whole.contains("\u{1b}[?1049l") && whole.contains("\u{1b}[?25h"), "the terminal is as before: {whole}");
}

#[tokio::test]
async fn what_strangers_say_is_shown_and_not_obeyed() {
    let scene = QueueScene::busy_and_good().await;
    let relay = Logged::start(&scene).await;
    let status = scene.run(&["status", "--json"]).await;
    let smtp = objects(&status)[0]["smtp"][0].as_str().unwrap().parse().unwrap();
    let message = "Message-ID: <\u{202e}1@x\u{2028}>\r\nSubject: x\r\n\r\nx\r\n";
    let id = hand_in(smtp, SENDER, &["bob@busy.test"], message.as_bytes()).await.to_string();
    let tried = |story: &Value| story["message"]["recipients"][0]["tries"] == 1;
    let story = scene.story(&id, tried).await;
    assert_eq!(story["message"]["message_id"], "\u{202e}1@x\u{2028}", "programs read what was sent");
    let mut client = SmtpClient::ready(smtp).await.unwrap();
    let to = "RCPT TO:<b\u{202e}o\u{2066}b@busy.test>".to_owned();
    for line in [format!("MAIL FROM:<{SENDER}> SMTPUTF8"), to, "DATA".to_owned()] {
        assert!(client.command(&line).await.unwrap().code < 400);
    }
    let taken = client.command("Subject: x\r\n\r\nx\r\n.").await.unwrap();
    let other = queue_id(&taken.text()).to_string();
    scene.story(&other, |story| story["history"].as_array().is_some_and(|happened| !happened.is_empty())).await;
    let outputs = [
        scene.run(&["why", &id]).await.stdout,
        scene.run(&["why", &id, "--json"]).await.stdout,
        scene.run(&["queue", "list", "--json"]).await.stdout,
        scene.run(&["queue", "show", "--header", &id]).await.stdout,
        relay.text(),
        scene.run(&["why", &other]).await.stdout,
    ];
    assert!(outputs[4].contains("b\\u{202e}o\\u{2066}b@busy.test"), "{}", outputs[4]);
    for (nth, text) in outputs.iter().enumerate() {
        // Octets go out as they came where no terminal is.
        let is_deceptive = text.contains(['\u{202e}', '\u{2028}', '\u{2066}']);
        assert_eq!(is_deceptive, nth == 3, "{nth}: {text}");
    }
    assert!(outputs[0].contains("<\\u{202e}1@x\\u{2028}>"), "{}", outputs[0]);
}

#[tokio::test]
async fn help_is_as_wide_as_the_terminal_and_has_examples_and_codes() {
    let help = run(["queue", "list", "--help"]).await.stdout;
    for part in ["Examples:\n  relay queue list --domain example.org", "Exit codes: 0 done; 1 no message fits", "78 "] {
        assert!(help.contains(part), "no {part} in {help}");
    }
    for columns in [60, 90] {
        let text = columns.to_string();
        let help = run_with(&[("COLUMNS", OsStr::new(&text))], ["queue", "list", "--help"]).await.stdout;
        let widest = help.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= columns && widest > columns - 12, "{widest} of {columns}: {help}");
    }
}
