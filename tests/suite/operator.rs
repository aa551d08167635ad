//! The operator's hand on the queue, the story of a message, and the audit: the commands as they
//! are typed, beside a relay that serves and without one.

use crate::process::{ProgramOutput, Serving, run, run_with};
use crate::relay::{PATIENCE, SENDER, World, configuration_file, content, hand_in, heard, lab, metrics, says, until};
use dane_relay::clock::Clock;
use dane_relay::envelope::QueueId;
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::{Lab, LabBuilder, TroubleAt};
use dane_relay::net::Tcp;
use hickory_proto::rr::RecordType;
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;

/// A lab, and a configuration whose retries come by themselves only after an hour.
pub(crate) struct QueueScene {
    pub(crate) lab: Lab,
    pub(crate) folder: TempDir,
    pub(crate) config: PathBuf,
}

impl QueueScene {
    pub(crate) async fn new(lab: LabBuilder) -> Self {
        let lab = lab.start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = configuration_file(&lab, folder.path());
        let text = std::fs::read_to_string(&config).unwrap();
        let text = text.replace("first = \"200ms\"\nlongest = \"400ms\"\nexpire_after = \"60s\"", "first = \"1h\"");
        std::fs::write(&config, text).unwrap();
        Self { lab, folder, config }
    }

    pub(crate) async fn busy_and_good() -> Self {
        let busy = says("451 4.3.0 later");
        let lab = lab()
            .domain("good.test", |d| d)
            .domain("null.test", |d| d.null_mx())
            .domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, busy)));
        Self::new(lab).await
    }

    pub(crate) async fn serve(&self) -> Serving {
        Serving::start(&self.config).await
    }

    pub(crate) async fn run(&self, arguments: &[&str]) -> ProgramOutput {
        run([arguments, &["--config", self.config.to_str().unwrap()]].concat()).await
    }

    /// What the ledger says of a message, once `ready` holds.
    pub(crate) async fn story(&self, subject: &str, ready: impl Fn(&Value) -> bool) -> Value {
        let story = || async {
            let said = self.run(&["why", subject, "--json"]).await;
            let why: Value = serde_json::from_str(&said.stdout).ok()?;
            let story = why["stories"][0].clone();
            ready(&story).then_some(story)
        };
        until(story, "the story of the message").await
    }

    /// A message with this recipient waits after an attempt.
    pub(crate) async fn waits(&self, relay: &Serving, to: &str) -> QueueId {
        let id = hand_in(relay.smtp, SENDER, &[to], content(to).as_bytes()).await;
        let waits = |story: &Value| story["message"]["recipients"][0]["tries"] == 1;
        self.story(&id.to_string(), waits).await;
        id
    }
}

pub(crate) fn finished(story: &Value) -> bool {
    story["message"]["standing"] == "finished"
}

#[tokio::test]
async fn why_tells_the_story_of_a_message_with_a_relay_that_runs_and_without() {
    let scene = QueueScene::busy_and_good().await;
    let relay = scene.serve().await;
    let to = ["bob@good.test", "bob@null.test", "bob@busy.test"];
    let id = hand_in(relay.smtp, SENDER, &to, content(to[0]).as_bytes()).await;
    let told = |story: &Value| {
        let states = story["message"]["recipients"].as_array().unwrap();
        states[0]["state"] == "done" && states[1]["state"] == "done" && states[2]["tries"] == 1
    };
    let story = scene.story(&id.to_string(), told).await;
    let events: Vec<_> = story["history"].as_array().unwrap().iter().map(|h| h["event"].as_str().unwrap()).collect();
    for event in ["attempt", "not-tried", "ended", "told", "waits"] {
        assert!(events.contains(&event), "{event} is not in {events:?}");
    }
    let report = story["message"]["recipients"][1]["told"]["report"].as_str().unwrap().to_owned();
    let text = scene.run(&["why", &id.to_string()]).await;
    assert_eq!(text.code, 0);
    let flat = text.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    for part in [
        &format!("{id} in the queue, next attempt "),
        "From <alice@office.test>",
        "Message-ID <1.bob@good.test>",
        "tried mx.good.test [127.0.",
        "policy dane, dane TLSv1.3 X25519MLKEM768 (3 1 1 ",
        "bob@good.test: delivered",
        "null.test not tried: null-mx, status 5.1.10: The domain null.test says that it accepts no mail.",
        "bob@busy.test: rejected-for-now, status 4.3.0",
        "451 4.3.0 later",
        &format!("report {report} about bob@null.test is in the queue, to {SENDER}"),
    ] {
        assert!(flat.contains(part), "{part:?} is not in\n{}", text.stdout);
    }
    assert!(text.stdout.lines().all(|line| line.len() <= 80 || !line.trim().contains(' ')), "{}", text.stdout);
    scene.story(&report, finished).await;

    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    for subject in ["<1.bob@good.test>", "bob@BUSY.test"] {
        let said = scene.run(&["why", subject]).await;
        assert!(said.code == 0 && said.stdout.starts_with(&id.to_string()), "{subject}: {said:?}");
    }
    let said = scene.run(&["why", SENDER, "--json"]).await;
    let why: Value = serde_json::from_str(&said.stdout).unwrap();
    assert_eq!(why["stories"].as_array().unwrap().len(), 2, "the report to her, and what she sent");
    let said = scene.run(&["why", "nobody@good.test"]).await;
    assert_eq!((said.code, said.stdout.starts_with("Nothing is known of nobody@good.test.")), (1, true), "{said:?}");
    let said = scene.run(&["why", "busy.test"]).await;
    let flat = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.code == 1 && flat.contains("`relay queue list --domain busy.test`"), "{said:?}");
}

#[tokio::test]
async fn why_names_the_path_of_each_answer_and_those_that_failed_before_it() {
    let scene = QueueScene::busy_and_good().await;
    let second = scene.lab.another_dns().await.unwrap();
    let (first, second) = (scene.lab.dns().upstream(), second);
    let text = std::fs::read_to_string(&scene.config).unwrap();
    let both = format!("upstreams = {:?}", [&first, &second.upstream()]);
    std::fs::write(&scene.config, text.replace(&format!("upstreams = [{first:?}]"), &both)).unwrap();
    scene.lab.dns().set_path([PathFault::ForgeNoData(RecordType::TLSA)]);
    let relay = scene.serve().await;
    let id = hand_in(relay.smtp, SENDER, &["bob@good.test"], content("bob@good.test").as_bytes()).await;
    let story = scene.story(&id.to_string(), finished).await;
    let attempt = story["history"].as_array().unwrap().iter().find(|h| h["event"] == "attempt").unwrap().clone();
    let dns: Vec<_> = attempt["dns"].as_array().unwrap().iter().map(|d| (&d["path"], &d["question"])).collect();
    assert_eq!((dns[0].0.as_str(), dns[0].1["record_type"].as_str()), (Some(&*first), Some("MX")), "{dns:?}");
    assert_eq!(dns[1].0.as_str(), Some(&*second.upstream()), "{dns:?}");
    let said = scene.run(&["why", &id.to_string()]).await;
    let flat = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    let owner = scene.lab.tlsa_owner("mx.good.test");
    for words in [
        format!("DNS: good.test MX by {first} DNS:"),
        format!("DNS: {owner} TLSA by {}, despite {first}: bogus", second.upstream()),
    ] {
        assert!(flat.contains(&words), "{words:?} is not in\n{}", said.stdout);
    }
}

#[tokio::test]
async fn rfc5321_6_1_the_audit_holds_and_finds_what_somebody_took_away() {
    let scene = QueueScene::busy_and_good().await;
    let relay = scene.serve().await;
    let to = ["bob@good.test", "bob@null.test", "bob@busy.test"];
    let id = hand_in(relay.smtp, SENDER, &to, content(to[0]).as_bytes()).await;
    let settled = |story: &Value| {
        let recipients = &story["message"]["recipients"];
        recipients[1]["told"]["report"].is_string() && recipients[2]["tries"] == 1
    };
    let story = scene.story(&id.to_string(), settled).await;
    scene.story(story["message"]["recipients"][1]["told"]["report"].as_str().unwrap(), finished).await;
    assert_eq!(metrics(relay.admin).await["relay_recipients_unaccounted"], 0.0);
    let said = scene.run(&["audit", "--json"]).await;
    let audit: Value = serde_json::from_str(&said.stdout).unwrap();
    let sum = &audit["sum"];
    let counts = ["accepted", "delivered", "told", "suppressed", "removed", "queued", "unaccounted"];
    let counts = counts.map(|name| sum[name].as_u64().unwrap());
    assert_eq!((said.code, counts), (0, [4, 2, 1, 0, 0, 1, 0]), "{audit}");
    let state = rusqlite::Connection::open(scene.folder.path().join("spool/state.sqlite")).unwrap();
    state.execute("DELETE FROM messages WHERE id > 1 << 62", []).unwrap();
    let said = scene.run(&["audit"]).await;
    assert_eq!(said.code, 2);
    assert!(said.stdout.contains(&id.to_string()) && said.stdout.contains("bob@null.test"), "{}", said.stdout);
    assert!(said.stdout.contains("the report about it is missing"), "{}", said.stdout);
    let flat = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("What to do") && flat.contains("tell the sender"), "{}", said.stdout);
    // The relay finds it by itself, and whoever watches its metrics hears of it.
    let said = scene.run(&["audit", "--json"]).await;
    let audit: Value = serde_json::from_str(&said.stdout).unwrap();
    let unaccounted = audit["sum"]["unaccounted"].as_f64().filter(|count| *count > 0.0).unwrap();
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    let relay = scene.serve().await;
    let told = async || (metrics(relay.admin).await["relay_recipients_unaccounted"] == unaccounted).then_some(());
    until(told, "the fault in the metrics").await;
}

#[tokio::test]
async fn what_is_held_waits_over_a_restart_and_goes_when_it_is_released() {
    let scene = QueueScene::busy_and_good().await;
    let busy = scene.lab.mx("busy.test").unwrap();
    let relay = scene.serve().await;
    let (held, other) = (scene.waits(&relay, "bob@busy.test").await, scene.waits(&relay, "carol@busy.test").await);
    let said = scene.run(&["queue", "hold", &held.to_string()]).await;
    assert_eq!(said.code, 0, "{said:?}");
    busy.trouble(TroubleAt::Mail, None);
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    let relay = scene.serve().await;
    let said = scene.run(&["queue", "retry", "--domain", "busy.test"]).await;
    assert!(said.stdout.contains(&other.to_string()), "{said:?}");
    assert!(said.code == 1 && said.stdout.contains(&format!("{held}: held; release it first")), "{said:?}");
    let messages = busy.wait_for_messages(1, PATIENCE).await.unwrap();
    assert_eq!(messages[0].rcpt_to, ["carol@busy.test"]);
    // Until its record is there, the order below would find it busy.
    scene.story(&other.to_string(), finished).await;
    let said = scene.run(&["queue", "list"]).await;
    let row = said.stdout.lines().nth(1).unwrap();
    assert!(row.starts_with(&held.to_string()) && row.contains("held"), "{said:?}");
    let said = scene.run(&["queue", "release", "--all"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    busy.wait_for_messages(2, PATIENCE).await.unwrap();
    let story = scene.story(&held.to_string(), finished).await;
    let acts: Vec<_> = story["history"].as_array().unwrap().iter().filter_map(|h| h["act"].as_str()).collect();
    assert_eq!(acts, ["hold", "release"]);
    drop(relay);
}

#[tokio::test]
async fn rfc5321_4_5_4_1_what_is_held_does_not_expire_and_is_tried_when_it_is_released() {
    let minutes = |count: u64| Duration::from_secs(60 * count);
    let busy = lab().domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later"))));
    let (clock, lab) = (Clock::manual(Clock::system().now()), busy.start().await.unwrap());
    let world = World::in_time(clock.clone(), Arc::new(Tcp), lab, |_, config| {
        config.retry.first = minutes(10);
        config.retry.longest = minutes(10);
        config.retry.expire_after = minutes(60);
        config.notify.delay_after = minutes(100 * 24 * 60);
    });
    let world = world.await;
    let host = world.lab.mx("busy.test").unwrap();
    // No timer goes with the clock: whoever waits is told to look at it.
    let advance = async |by: Duration| {
        clock.advance(by);
        world.relay.spool.hasten(&[], clock.now()).await.unwrap();
    };
    let id = world.mail(&["bob@busy.test"]).await;
    world.deferred(id, "bob@busy.test", 1).await;
    advance(minutes(59)).await;
    // The next attempt is the last one by the schedule.
    world.deferred(id, "bob@busy.test", 2).await;
    until(async || (world.metrics().await["relay_attempts_at_work{hosts=\"answering\"}"] == 0.0).then_some(()), "rest")
        .await;
    world.order("hold", id).await;
    advance(minutes(3 * 24 * 60)).await;
    let metrics = world.metrics().await;
    let (held, oldest) = (metrics["relay_queue_held_messages"], metrics["relay_queue_oldest_seconds"]);
    assert_eq!((held, oldest, heard(host, "MAIL")), (1.0, 0.0, 2));
    world.order("release", id).await;
    world.deferred(id, "bob@busy.test", 3).await;
    assert!(world.lab.mx("office.test").unwrap().messages().is_empty(), "it did not go back at once");
    advance(minutes(10)).await;
    let reports = world.reports(1).await;
    let report = String::from_utf8_lossy(&reports[0].content);
    let report = report.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(report.contains("Cause: expired, status 5.4.7"), "{report}");
    assert_eq!(
        world.metrics().await["relay_recipients_expired_total{cause=\"rejected-for-now\",side=\"recipient\"}"],
        1.0
    );
}

#[tokio::test]
async fn the_operator_returns_and_removes_messages_and_both_are_recorded() {
    let scene = QueueScene::busy_and_good().await;
    let relay = scene.serve().await;
    let (bounced, removed) = (scene.waits(&relay, "bob@busy.test").await, scene.waits(&relay, "carol@busy.test").await);
    let said = scene.run(&["queue", "summary"]).await;
    assert!(
        said.stdout.starts_with("2 messages wait, with 2 recipients in 1 domain\n")
            && said.stdout.contains("2 rejected-for-now"),
        "{said:?}"
    );

    let said = scene.run(&["queue", "bounce", "--id", &bounced.to_string(), "--cause", "null-mx"]).await;
    assert_eq!(said.code, 1, "nothing fits: {said:?}");
    let said = scene.run(&["queue", "bounce", "--id", &bounced.to_string(), "--cause", "rejected-for-now"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let reports = scene.lab.mx("office.test").unwrap().wait_for_messages(1, PATIENCE).await.unwrap();
    let report = String::from_utf8_lossy(&reports[0].content).into_owned();
    assert!(report.contains("Status: 5.3.0") && report.contains("bob@busy.test"), "{report}");
    assert!(report.contains("bounced-by-operator") && report.contains("451 4.3.0 later"), "{report}");
    assert!(report.contains("Attempts:           1\r\n"), "the order is no attempt: {report}");

    let said = scene.run(&["queue", "release", "--all"]).await;
    assert!(said.code == 1 && said.stdout.starts_with("No message that is held fits"), "none is held: {said:?}");
    let said = scene.run(&["queue", "delete", "--id", &removed.to_string()]).await;
    assert!(said.code == 64 && said.stderr.contains("--yes"), "{said:?}");
    let said = scene.run(&["queue", "delete", "--id", &removed.to_string(), "--yes"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    let story = scene.story(&removed.to_string(), finished).await;
    assert_eq!(story["message"]["recipients"][0]["state"], "removed");
    assert_eq!(story["history"].as_array().unwrap().last().unwrap()["act"], "delete");
    let said = scene.run(&["audit"]).await;
    assert_eq!(said.code, 0, "{said:?}");
    assert_eq!(scene.lab.mx("office.test").unwrap().messages().len(), 1, "nobody is told of what was removed");
}

#[tokio::test]
async fn a_hold_concerns_the_whole_message_whichever_recipient_led_to_it() {
    let lab = ["busy.test", "late.test"]
        .into_iter()
        .fold(lab(), |lab, name| lab.domain(name, |d| d.host(|h| h.trouble(TroubleAt::Mail, says("451 4.3.0 later")))));
    let scene = QueueScene::new(lab).await;
    let relay = scene.serve().await;
    let to = ["bob@busy.test", "carol@late.test"];
    let id = hand_in(relay.smtp, SENDER, &to, content(to[0]).as_bytes()).await;
    let tried = |story: &Value| (0..2).all(|index| story["message"]["recipients"][index]["tries"] == 1);
    scene.story(&id.to_string(), tried).await;
    assert_eq!(scene.run(&["queue", "hold", "--domain", "busy.test"]).await.code, 0);
    let said = scene.run(&["queue", "hold", "--domain", "busy.test"]).await;
    assert_eq!(said.code, 1, "it is held already: {said:?}");
    let story = scene.story(&id.to_string(), |story| story["message"]["standing"] == "held").await;
    let held = story["history"].as_array().unwrap().last().unwrap();
    assert_eq!((held["act"].as_str(), &held["recipients"]), (Some("hold"), &serde_json::json!([0, 1])));
    let said = scene.run(&["why", &id.to_string()]).await;
    let flat = said.stdout.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(flat.contains("by the operator (user id "), "{}", said.stdout);
    assert!(flat.contains("bob@busy.test, carol@late.test held"), "{}", said.stdout);
}

#[tokio::test]
async fn orders_need_a_relay_that_runs_and_say_so() {
    let scene = QueueScene::busy_and_good().await;
    let said = scene.run(&["queue", "list"]).await;
    assert!(said.code == 78 && said.stderr.contains("there is no spool here"), "{said:?}");
    let relay = scene.serve().await;
    let id = scene.waits(&relay, "bob@busy.test").await;
    let said = scene.run(&["status"]).await;
    assert!(said.code == 0 && said.stdout.contains("1 message, the oldest for "), "{said:?}");
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(scene.folder.path().join("spool/control")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600);
    for act in ["retry", "delete"] {
        let said = scene.run(&["queue", act]).await;
        assert!(said.code == 64 && said.stderr.contains("--all"), "{said:?}");
    }
    let said = scene.run(&["queue", "bounce", "--cause", "rejected-fornow"]).await;
    assert!(said.code == 64 && said.stderr.contains("rejected-for-now"), "{said:?}");
    let said = scene.run(&["queue", "list", "--domain", "good.test"]).await;
    assert_eq!((said.code, &*said.stdout), (1, "No message that waits fits.\n"));
    let said = run_with(&[("RELAY_CONFIG", scene.config.as_os_str())], ["queue", "list", "--json"]).await;
    assert!(said.code == 0 && said.stdout.contains(&id.to_string()), "the file is found by its variable: {said:?}");
    // SIGKILL leaves a socket that nobody answers; a stop in good order leaves none.
    drop(relay);
    for _ in 0..2 {
        for arguments in [&["status"][..], &["queue", "retry", "--all"]] {
            let said = scene.run(arguments).await;
            assert!(said.code == 69 && said.stderr.contains("no relay runs on the spool"), "{said:?}");
        }
        let said = scene.run(&["queue", "list", "--json"]).await;
        let line: Value = serde_json::from_str(said.stdout.trim()).unwrap();
        assert_eq!(
            (line["id"].as_str(), &line["recipients"][0]["cause"]),
            (Some(&*id.to_string()), &"rejected-for-now".into())
        );
        let relay = scene.serve().await;
        relay.terminate();
        assert_eq!(relay.ended().await, 0);
    }
}
