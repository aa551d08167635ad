//! Relays that share a spool in a PostgreSQL database: processes that are killed, stopped for longer than their lease,
//! or lose their database, as they would in service. Nothing is lost, and nothing is sent twice but what a process
//! took with it.

use crate::postgres_server::PostgresServer;
use crate::process::{ProgramOutput, Serving, run};
use crate::relay::{SENDER, configuration, content, get, hand_in, heard, lab, metrics, until, within};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{Lab, Trouble, TroubleAt};
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

/// The shortest that there is.
const LEASE: Duration = Duration::from_secs(5);

/// A database, a lab, and a configuration for each node.
struct ClusterScene {
    server: PostgresServer,
    lab: Lab,
    folder: TempDir,
}

impl ClusterScene {
    async fn new() -> Self {
        let server = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap();
        server.answer("postgres", "CREATE DATABASE relay");
        let lab = lab().domain("good.test", |d| d).start().await.unwrap();
        let scene = Self { server, lab, folder: tempfile::tempdir().unwrap() };
        let made = scene.run("one", &["spool", "init"]).await;
        assert_eq!((made.code, made.stdout.as_str()), (0, "the spool is made\n"), "{made:?}");
        scene
    }

    /// The configuration of a node.
    fn config(&self, node: &str) -> PathBuf {
        let folder = self.folder.path().join(node);
        if !folder.exists() {
            std::fs::create_dir(&folder).unwrap();
            self.write(&folder, node);
        }
        folder.join("relay.toml")
    }

    fn write(&self, folder: &Path, node: &str) {
        let spool = format!(
            "[spool]\nengine = \"postgresql\"\nurl = \"{}\"\nnode = \"{node}\"\nlease = \"{}s\"\n",
            self.server.url("relay"),
            LEASE.as_secs()
        );
        let text = configuration(&self.lab, folder).replace("[spool]\n", &spool);
        std::fs::write(folder.join("relay.toml"), text).unwrap();
    }

    async fn run(&self, node: &str, arguments: &[&str]) -> ProgramOutput {
        let config = self.config(node);
        run([arguments, &["--config", config.to_str().unwrap()]].concat()).await
    }

    async fn serve(&self, node: &str) -> Serving {
        Serving::start(&self.config(node)).await
    }

    /// What `relay cluster status` says of a node.
    async fn node(&self, name: &str) -> Value {
        let said = self.run("one", &["cluster", "status", "--json"]).await;
        let all: Value = serde_json::from_str(&said.stdout).unwrap();
        let node = all["nodes"].as_array().unwrap().iter().find(|node| node["name"] == name);
        node.unwrap_or_else(|| panic!("{said:?}")).clone()
    }

    async fn carries(&self, name: &str, messages: u64) {
        let carries = || async { (self.node(name).await["carries"] == messages).then_some(()) };
        until(carries, "the messages to be claimed").await;
    }

    /// Mail to the domain hangs, or goes on.
    fn hang(&self, trouble: Option<Trouble>) {
        self.lab.mx("good.test").unwrap().trouble(TroubleAt::Mail, trouble);
    }

    async fn mail(&self, relay: &Serving, many: usize) -> Vec<String> {
        let mut ids = Vec::new();
        for nth in 0..many {
            let to = format!("bob{nth}@good.test");
            ids.push(hand_in(relay.smtp, SENDER, &[&to], content(&to).as_bytes()).await.to_string());
        }
        ids
    }

    fn arrived(&self) -> usize {
        self.lab.mx("good.test").unwrap().messages().len()
    }

    /// Until nothing waits any more.
    async fn all_ends(&self) {
        let ends = || async {
            let waiting = "SELECT count(*) FROM messages WHERE finished_at IS NULL";
            (self.server.answer("relay", waiting) == "0").then_some(())
        };
        until(ends, "the end of all messages").await;
    }

    /// Every recipient is accounted for.
    async fn is_whole(&self, messages: usize) {
        let audit = self.run("one", &["audit", "--json"]).await;
        let sum: Value = serde_json::from_str(&audit.stdout).unwrap();
        let delivered = sum["sum"]["delivered"].as_u64();
        assert_eq!((audit.code, delivered), (0, Some(messages as u64)), "{audit:?}");
    }
}

#[tokio::test]
async fn what_a_killed_node_had_goes_out_by_the_other() {
    let scene = ClusterScene::new().await;
    let one = scene.serve("one").await;
    scene.hang(Some(Trouble::Hang));
    let ids = scene.mail(&one, 5).await;
    scene.carries("one", 5).await;
    let two = scene.serve("two").await;
    let listed = scene.run("two", &["queue", "list", "--json"]).await;
    assert_eq!(listed.stdout.lines().count(), 5, "each node sees the whole queue: {listed:?}");
    one.signal("KILL");
    scene.hang(None);
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 5, "each of them once");
    let story = scene.run("two", &["why", &ids[0]]).await;
    assert!(story.code == 0 && story.stdout.contains("bob0@good.test: delivered"), "{story:?}");
    scene.is_whole(5).await;
    assert_eq!(scene.node("two").await["state"], "running");
    // A node that comes back has its name again at once, and what it takes in goes out.
    let one = scene.serve("one").await;
    scene.mail(&one, 2).await;
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 7);
    two.terminate();
    assert_eq!(two.ended().await, 0);
    assert_eq!(scene.node("two").await["state"], "stopped");
    scene.is_whole(7).await;
}

#[tokio::test]
async fn a_node_that_was_stopped_past_its_lease_records_nothing() {
    let scene = ClusterScene::new().await;
    let one = scene.serve("one").await;
    scene.hang(Some(Trouble::Hang));
    let ids = scene.mail(&one, 3).await;
    scene.carries("one", 3).await;
    let two = scene.serve("two").await;
    one.signal("STOP");
    scene.hang(None);
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 3);
    one.signal("CONT");
    let gives_up = || async { (metrics(one.admin).await["relay_spool_failures_total"] >= 3.0).then_some(()) };
    until(gives_up, "the node to find its claims gone").await;
    assert!(one.log().iter().any(|line| line.contains("left to others")), "{:#?}", one.log());
    assert_eq!(scene.arrived(), 3, "and nothing comes twice");
    for id in &ids {
        let story = scene.run("one", &["why", id, "--json"]).await;
        let why: Value = serde_json::from_str(&story.stdout).unwrap();
        let attempts = why["stories"][0]["history"].as_array().unwrap().iter().filter(|e| e["event"] == "attempt");
        assert_eq!(attempts.count(), 1, "{story:?}");
    }
    scene.is_whole(3).await;
    assert_eq!(scene.node("one").await["state"], "running");
    drop(two);
}

#[tokio::test]
async fn a_database_that_is_killed_costs_time_and_no_mail() {
    let mut scene = ClusterScene::new().await;
    let relay = scene.serve("one").await;
    let host = || scene.lab.mx("good.test").unwrap();
    host().delay(TroubleAt::EndOfData, Duration::from_secs(3));
    scene.mail(&relay, 1).await;
    let under_way = || async { (heard(host(), "DATA") + heard(host(), "BDAT") > 0).then_some(()) };
    until(under_way, "the delivery to begin").await;
    scene.server.kill();
    let not_ready = || async {
        let (status, text) = get(relay.admin, "/readyz").await;
        (status == 503).then_some(text)
    };
    let why = until(not_ready, "the relay to notice").await;
    assert!(why.contains("the database of the spool cannot be used since"), "{why}");
    let mut client = SmtpClient::ready(relay.smtp).await.unwrap();
    let reply = client.command(&format!("MAIL FROM:<{SENDER}>")).await.unwrap().to_string();
    assert!(reply.starts_with("451") && reply.contains("4.3.0"), "{reply}");
    assert_eq!(metrics(relay.admin).await["relay_spool_unreachable"], 1.0);
    let is_logged =
        |log: &[String]| log.iter().any(|line| line.contains("ERROR") && line.contains("cannot be used since"));
    assert!(is_logged(&relay.log()), "{:#?}", relay.log());
    // The delivery ends while nothing can be recorded.
    until(|| async { (scene.lab.mx("good.test").unwrap().messages().len() == 1).then_some(()) }, "the delivery").await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    scene.server.run();
    scene.all_ends().await;
    assert_eq!(scene.arrived(), 1, "it is recorded, and not sent again");
    let ready = || async { (get(relay.admin, "/readyz").await.0 == 200).then_some(()) };
    until(ready, "the relay to be ready again").await;
    assert_eq!(metrics(relay.admin).await["relay_spool_unreachable"], 0.0);
    host_without_delay(&scene);
    scene.mail(&relay, 2).await;
    scene.all_ends().await;
    scene.is_whole(3).await;
    relay.terminate();
    within(relay.ended(), "the end").await;
}

fn host_without_delay(scene: &ClusterScene) {
    scene.lab.mx("good.test").unwrap().delay(TroubleAt::EndOfData, Duration::ZERO);
}

#[tokio::test]
async fn a_name_that_is_taken_and_a_database_without_a_spool_are_refused_with_what_to_do() {
    let scene = ClusterScene::new().await;
    let one = scene.serve("one").await;
    let folder = scene.folder.path().join("twin");
    std::fs::create_dir(&folder).unwrap();
    scene.write(&folder, "one");
    let refused = run(["serve", "--config", folder.join("relay.toml").to_str().unwrap()]).await;
    assert!(refused.code != 0 && refused.stderr.contains("has the node name one"), "{refused:?}");
    scene.server.answer("postgres", "CREATE DATABASE empty");
    let text = std::fs::read_to_string(folder.join("relay.toml")).unwrap();
    std::fs::write(folder.join("relay.toml"), text.replace("/relay\"", "/empty\"")).unwrap();
    let refused = run(["serve", "--config", folder.join("relay.toml").to_str().unwrap()]).await;
    assert!(refused.code == 78 && refused.stderr.contains("relay spool init"), "{refused:?}");
    let status = run(["spool", "status", "--config", folder.join("relay.toml").to_str().unwrap()]).await;
    assert!(status.code == 2 && status.stdout.contains("none: run `relay spool init`"), "{status:?}");
    drop(one);
}
