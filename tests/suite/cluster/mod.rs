//! Relays that share a spool in a PostgreSQL database: real servers and processes, which are killed, stopped, cut off and
//! filled up as they would be in service. Nothing that was acknowledged is lost, and nothing is sent twice but what was
//! under way when a node lost its process or its claim.

mod database;
mod findings;
mod handing_over;
mod load;
mod network;
mod nodes;
mod proxy;
mod standbys;
mod upgrade;

use crate::postgres_server::PostgresServer;
use crate::process::{ProgramOutput, Serving, run};
use crate::relay::{SENDER, configuration, content, hand_in, heard, lab, until};
use dane_relay::lab::{Lab, LabBuilder, Trouble, TroubleAt};
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
    /// By which the nodes reach the database.
    url: String,
    /// More of `[delivery]`.
    delivery: &'static str,
    /// More sections.
    sections: &'static str,
    /// The first and the longest wait of `[retry]`.
    retry: [&'static str; 2],
}

impl ClusterScene {
    async fn new() -> Self {
        Self::on(tokio::task::spawn_blocking(PostgresServer::start).await.unwrap()).await
    }

    /// On that server.
    async fn on(server: PostgresServer) -> Self {
        Self::made(server, lab().domain("good.test", |d| d)).await
    }

    /// With that lab.
    async fn with(lab: LabBuilder) -> Self {
        Self::made(tokio::task::spawn_blocking(PostgresServer::start).await.unwrap(), lab).await
    }

    async fn made(server: PostgresServer, lab: LabBuilder) -> Self {
        let lab = lab.start().await.unwrap();
        server.answer("postgres", "CREATE DATABASE relay");
        let (url, folder) = (server.url("relay"), tempfile::tempdir().unwrap());
        let scene = Self { server, lab, folder, url, delivery: "", sections: "", retry: ["200ms", "400ms"] };
        let made = scene.run("one", &["spool", "init"]).await;
        assert_eq!((made.code, made.stdout.as_str()), (0, "the spool is made\n"), "{made:?}");
        scene
    }

    /// The configuration of a node.
    fn config(&self, node: &str) -> PathBuf {
        let folder = self.folder.path().join(node);
        if !folder.exists() {
            std::fs::create_dir(&folder).unwrap();
            self.write(&folder, node, &format!("url = {:?}", self.url));
        }
        folder.join("relay.toml")
    }

    /// Of a node that reaches the database by that line.
    fn write(&self, folder: &Path, node: &str, url: &str) {
        let lease = LEASE.as_secs();
        let spool = format!("[spool]\nengine = \"postgresql\"\n{url}\nnode = \"{node}\"\nlease = \"{lease}s\"\n");
        let delivery = format!("[delivery]\n{}", self.delivery);
        let [first, longest] = self.retry;
        let text =
            configuration(&self.lab, folder).replace("[spool]\n", &spool).replace("[delivery]\n", &delivery).replace(
                "first = \"200ms\"\nlongest = \"400ms\"",
                &format!("first = \"{first}\"\nlongest = \"{longest}\""),
            );
        std::fs::write(folder.join("relay.toml"), text + self.sections).unwrap();
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

    async fn carries(&self, name: &str, messages: usize) {
        let held = format!("SELECT count(*) FROM messages JOIN nodes ON holder = slot WHERE name = '{name}'");
        let carries = || async { (self.server.answer("relay", &held) == messages.to_string()).then_some(()) };
        until(carries, &format!("{messages} messages to be claimed by {name}")).await;
    }

    /// Mail to the domain hangs, or goes on.
    fn hang(&self, trouble: Option<Trouble>) {
        self.lab.mx("good.test").unwrap().trouble(TroubleAt::Mail, trouble);
    }

    /// How long its server takes to say that it has a message.
    fn takes(&self, time: Duration) {
        self.lab.mx("good.test").unwrap().delay(TroubleAt::EndOfData, time);
    }

    /// Messages that its server is at work on.
    fn under_way(&self) -> usize {
        let host = self.lab.mx("good.test").unwrap();
        let arrived = host.messages().len();
        (heard(host, "DATA") + heard(host, "BDAT")).saturating_sub(arrived)
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
            // Asking stops the lab for a moment.
            tokio::time::sleep(Duration::from_millis(200)).await;
            (self.waiting() == "0").then_some(())
        };
        until(ends, "the end of all messages").await;
    }

    fn waiting(&self) -> String {
        self.server.answer("relay", "SELECT count(*) FROM messages WHERE finished_at IS NULL")
    }

    /// Every recipient is accounted for.
    async fn is_whole(&self, messages: usize) {
        let audit = self.run("one", &["audit", "--json"]).await;
        let sum: Value = serde_json::from_str(&audit.stdout).unwrap();
        let delivered = sum["sum"]["delivered"].as_u64();
        assert_eq!((audit.code, delivered), (0, Some(messages as u64)), "{audit:?}");
    }
}
