//! A relay beside a lab, as the scenarios use it: hand a message in, and learn what became of it.
//!
//! Every wait is for an event and has a limit that only a failed test meets.

use dane_relay::clock::Clock;
use dane_relay::command::queue::Filter;
use dane_relay::config::{Config, SpoolConfig};
use dane_relay::envelope::QueueId;
use dane_relay::lab::dns::world::AnchorForm;
use dane_relay::lab::mx::behaviour::{Received, reply};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{Lab, LabBuilder, RunningMxHost, Trouble};
use dane_relay::net::{Network, Tcp};
use dane_relay::observe::RecipientNews;
use dane_relay::outcome::{Cause, Class, DeliveryOutcome};
use dane_relay::service::control::ControlClient;
use dane_relay::service::order::OrderEvent;
use dane_relay::service::start::{self, Relay};
use dane_relay::spool::event::Act;
use std::collections::BTreeMap;
use std::future::Future;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// Longer than anything takes on a machine that is busy with other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// The sender of all messages that say nothing else; NDRs come to the mail host of its domain.
pub(crate) const SENDER: &str = "alice@office.test";

/// A lab with the sender's domain in it.
pub(crate) fn lab() -> LabBuilder {
    Lab::builder().domain("office.test", |d| d)
}

/// A host that answers like this.
pub(crate) fn says(text: &str) -> Trouble {
    Trouble::Reply(reply(text).unwrap())
}

/// Waits for `event`; `what` says what is missing when it does not come.
pub(crate) async fn within<T>(event: impl Future<Output = T>, what: &str) -> T {
    match timeout(PATIENCE, event).await {
        Ok(value) => value,
        Err(_elapsed) => panic!("waited in vain for {what}"),
    }
}

/// Asks again until the answer is something. For facts that nobody announces.
pub(crate) async fn until<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F, what: &str) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    within(asking, what).await
}

/// The configuration for a lab, as its file says it; trust anchor and trusted roots are written
/// beside it. Retries come at once; what must expire in a scenario overrides `expire_after`.
/// Every message has a connection of its own, because hosts change between messages; `reuse.rs`
/// is about the others.
pub(crate) fn configuration(lab: &Lab, folder: &Path) -> String {
    let anchors = folder.join("root.key");
    std::fs::write(&anchors, lab.world().trust_anchor(AnchorForm::DnsKey).unwrap()).unwrap();
    let roots = folder.join("roots.pem");
    std::fs::write(&roots, lab.roots_pem()).unwrap();
    format!(
        "hostname = \"relay.office.test\"\n\
         [listen]\nsmtp = [\"127.0.0.1:0\"]\n\
         [admin]\nlisten = \"127.0.0.1:0\"\n\
         [spool]\npath = {spool:?}\nmin_free_bytes = 0\nmin_free_inodes = 0\n\
         [dns]\nupstreams = [{upstream:?}]\ntrust_anchors = {anchors:?}\ntimeout = \"5s\"\n\
         root_hints = [\"{root}\"]\nsystem_servers = [\"{root}\"]\nhosts = {hosts:?}\n\
         [tls]\nroots = {roots:?}\n\
         [mta_sts]\nport = {policy_port}\n\
         [delivery]\nport = {port}\nallow_loopback = true\nreply_timeout = \"20s\"\nconnect_timeout = \"20s\"\n\
         reuse_connections = false\n\
         [retry]\nfirst = \"200ms\"\nlongest = \"400ms\"\nexpire_after = \"60s\"\n",
        spool = folder.join("spool"),
        upstream = lab.dns().upstream(),
        hosts = folder.join("hosts"),
        // Neither the root servers of the world nor the resolvers of this machine.
        root = lab.dns().address(),
        port = lab.port(),
        policy_port = lab.policy_port(),
    )
}

/// The same in a file.
pub(crate) fn configuration_file(lab: &Lab, folder: &Path) -> PathBuf {
    let path = folder.join("relay.toml");
    std::fs::write(&path, configuration(lab, folder)).unwrap();
    path
}

/// The same, read.
pub(crate) fn config(lab: &Lab, folder: &Path) -> Config {
    Config::parse(&configuration(lab, folder), Path::new("suite.toml")).unwrap()
}

/// How a delivery ended: which host took the message, and the word for the protection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivered {
    pub(crate) host: String,
    pub(crate) tls: &'static str,
}

/// A relay and its lab.
pub(crate) struct World {
    pub(crate) lab: Lab,
    pub(crate) relay: Relay,
    folder: TempDir,
    news: watch::Receiver<Vec<RecipientNews>>,
}

impl World {
    /// Starts both.
    pub(crate) async fn start(lab: LabBuilder) -> Self {
        Self::with(lab, |_lab, _config| {}).await
    }

    /// Starts both; `change` has the last word about the configuration.
    pub(crate) async fn with(lab: LabBuilder, change: impl FnOnce(&Lab, &mut Config)) -> Self {
        Self::beside(lab.start().await.unwrap(), change).await
    }

    /// As [`World::with`], for a lab that runs already.
    pub(crate) async fn beside(lab: Lab, change: impl FnOnce(&Lab, &mut Config)) -> Self {
        Self::over(Arc::new(Tcp), lab, change).await
    }

    /// As [`World::beside`], by another way to mail servers than TCP.
    pub(crate) async fn over(network: Arc<dyn Network>, lab: Lab, change: impl FnOnce(&Lab, &mut Config)) -> Self {
        Self::in_time(Clock::system(), network, lab, change).await
    }

    /// As [`World::over`], by a clock of the test's.
    pub(crate) async fn in_time(
        clock: Clock,
        network: Arc<dyn Network>,
        lab: Lab,
        change: impl FnOnce(&Lab, &mut Config),
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&lab, folder.path());
        change(&lab, &mut config);
        let relay = start::start_over(network, config, clock).await.unwrap();
        let mut told = relay.observer.subscribe();
        let (sender, news) = watch::channel(Vec::new());
        tokio::spawn(async move {
            while let Ok(one) = told.recv().await {
                sender.send_modify(|all: &mut Vec<RecipientNews>| all.push(one));
            }
        });
        Self { lab, relay, folder, news }
    }

    /// The operator's order about a message.
    pub(crate) async fn order(&self, act: &str, id: QueueId) {
        let filter = Filter { id: vec![id], ..Filter::default() };
        let act: Act = serde_json::from_value(act.into()).unwrap();
        let mut told = Vec::new();
        self.control().act(act, &filter, None, |event| told.push(event)).await.unwrap();
        assert!(matches!(told.last(), Some(OrderEvent::Done { acted: 1, .. })), "{told:?}");
    }

    /// A client of the control socket.
    pub(crate) fn control(&self) -> ControlClient {
        ControlClient::of(&self.spool_config().path)
    }

    /// Where the spool is.
    pub(crate) fn spool_config(&self) -> SpoolConfig {
        SpoolConfig { path: self.folder.path().join("spool"), ..SpoolConfig::default() }
    }

    /// Where clients hand mail in.
    pub(crate) fn smtp(&self) -> SocketAddr {
        self.relay.smtp[0]
    }

    /// A host by its name or its domain's.
    pub(crate) fn mx(&self, name: &str) -> &RunningMxHost {
        self.lab.mx(name).unwrap()
    }

    /// Hands a message in and gives its name in the queue.
    pub(crate) async fn send(&self, from: &str, to: &[&str], content: &[u8]) -> QueueId {
        hand_in(self.smtp(), from, to, content).await
    }

    /// Hands a small message from [`SENDER`] in.
    pub(crate) async fn mail(&self, to: &[&str]) -> QueueId {
        self.send(SENDER, to, content(to[0]).as_bytes()).await
    }

    /// What is known of one recipient so far, oldest first, once `enough` of it is.
    pub(crate) async fn news(
        &self,
        id: QueueId,
        to: &str,
        enough: impl Fn(&[DeliveryOutcome]) -> bool,
    ) -> Vec<DeliveryOutcome> {
        let about = |all: &Vec<RecipientNews>| -> Vec<DeliveryOutcome> {
            let ours = all.iter().filter(|one| one.id == id && one.recipient.as_str() == to);
            ours.map(|one| one.outcome.clone()).collect()
        };
        let mut news = self.news.clone();
        let told = timeout(PATIENCE, news.wait_for(|all| enough(&about(all)))).await.is_ok();
        let known = about(&self.news.borrow());
        assert!(told, "waited in vain for news of {to}; {} so far, at last {:?}", known.len(), known.last());
        known
    }

    /// How one recipient ended.
    pub(crate) async fn end(&self, id: QueueId, to: &str) -> DeliveryOutcome {
        let ended = |known: &[DeliveryOutcome]| known.last().is_some_and(is_final);
        self.news(id, to, ended).await.pop().unwrap()
    }

    /// Mails to one recipient, who gets it at last.
    pub(crate) async fn delivers(&self, to: &str) -> Delivered {
        let id = self.mail(&[to]).await;
        self.delivered(id, to).await
    }

    /// A recipient gets the message at last.
    pub(crate) async fn delivered(&self, id: QueueId, to: &str) -> Delivered {
        match self.end(id, to).await {
            DeliveryOutcome::Delivered { peer, tls, .. } => Delivered { host: peer.host, tls: tls.word() },
            DeliveryOutcome::Failed { cause } => panic!("{to} failed: {cause:?}"),
        }
    }

    /// Mails to one recipient, who fails for good.
    pub(crate) async fn fails(&self, to: &str) -> Cause {
        let id = self.mail(&[to]).await;
        self.failed(id, to).await
    }

    /// A recipient fails for good.
    pub(crate) async fn failed(&self, id: QueueId, to: &str) -> Cause {
        match self.end(id, to).await {
            DeliveryOutcome::Failed { cause } => cause,
            delivered @ DeliveryOutcome::Delivered { .. } => panic!("{to} was delivered: {delivered:?}"),
        }
    }

    /// Mails to one recipient, who waits after the first attempt and after the second. Gives
    /// what stopped the second.
    pub(crate) async fn defers(&self, to: &str) -> Cause {
        let id = self.mail(&[to]).await;
        self.deferred(id, to, 2).await
    }

    /// A recipient waits after so many attempts. Gives what stopped the last of them.
    pub(crate) async fn deferred(&self, id: QueueId, to: &str, attempts: usize) -> Cause {
        let known = self.news(id, to, |known| known.len() >= attempts || known.last().is_some_and(is_final)).await;
        match known.last() {
            Some(DeliveryOutcome::Failed { cause }) if cause.class() == Class::Transient => cause.clone(),
            other => panic!("{to} does not wait: {other:?}"),
        }
    }

    /// The reports that came to the sender's mail host, once there are `count` of them.
    pub(crate) async fn reports(&self, count: usize) -> Vec<Received> {
        self.mx("office.test").wait_for_messages(count, PATIENCE).await.unwrap()
    }

    /// What `/metrics` says: values by name with labels.
    pub(crate) async fn metrics(&self) -> BTreeMap<String, f64> {
        metrics(self.relay.admin).await
    }

    /// What the admin port says under a path.
    pub(crate) async fn admin(&self, path: &str) -> String {
        get(self.relay.admin, path).await.1
    }

    /// Ends the relay in good order.
    pub(crate) async fn stop(self) {
        self.relay.stop();
        within(self.relay.ended(), "the end of the relay").await.unwrap();
    }
}

/// Hands a message in at a relay and gives its name in the queue.
pub(crate) async fn hand_in(smtp: SocketAddr, from: &str, to: &[&str], content: &[u8]) -> QueueId {
    let mut client = SmtpClient::ready(smtp).await.unwrap();
    let handed = client.send(from, to, content).await.unwrap();
    assert!(handed.accepted(), "the relay said: {}", handed.last());
    client.quit().await.unwrap();
    queue_id(&handed.last().text())
}

/// What `/metrics` says: values by name with labels.
pub(crate) async fn metrics(admin: SocketAddr) -> BTreeMap<String, f64> {
    let (status, text) = get(admin, "/metrics").await;
    assert_eq!(status, 200);
    let samples = text.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.rsplit_once(' '));
    samples.map(|(name, value)| (name.to_owned(), value.parse().unwrap())).collect()
}

/// A small message.
pub(crate) fn content(to: &str) -> String {
    format!("From: <{SENDER}>\r\nTo: <{to}>\r\nSubject: Hello\r\nMessage-ID: <1.{to}>\r\n\r\nHello {to}\r\n")
}

/// The name of a message, from the reply to its end.
pub(crate) fn queue_id(text: &str) -> QueueId {
    text.split_ascii_whitespace().last().and_then(|word| word.parse().ok()).unwrap_or_else(|| panic!("no id in {text}"))
}

/// The content without the one Received line that the relay puts on top (RFC 5321 §4.4).
pub(crate) fn below_received(message: &Received) -> &[u8] {
    let text = &message.content;
    assert!(text.starts_with(b"Received: from client.test ([127.0.0.1])\r\n\tby relay.office.test with ESMTP"));
    let ends = text.windows(3).position(|w| w.starts_with(b"\r\n") && w[2] != b'\t');
    &text[ends.map_or(text.len(), |end| end + 2)..]
}

/// How often a host heard a command, in upper case.
pub(crate) fn heard(host: &RunningMxHost, verb: &str) -> usize {
    host.seen().iter().filter(|seen| seen.line.to_ascii_uppercase().starts_with(verb)).count()
}

/// One HTTP request: status and body.
pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let asking = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = within(asking, path).await;
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The word and the enhanced status code of a cause.
pub(crate) fn expect(cause: &Cause, word: &str, status: &str) {
    let row = cause.row();
    assert_eq!((row.word, row.status.to_string()), (word, status.to_owned()), "{cause:?}");
}

/// A host that was tried saw no envelope, neither in clear text nor through TLS.
pub(crate) fn saw_no_mail(host: &RunningMxHost) {
    assert!(host.connections() > 0, "{} was not even tried", host.name());
    assert_eq!((heard(host, "MAIL"), heard(host, "RCPT"), host.messages().len()), (0, 0, 0), "{:?}", host.seen());
}

fn is_final(outcome: &DeliveryOutcome) -> bool {
    match outcome {
        DeliveryOutcome::Delivered { .. } => true,
        DeliveryOutcome::Failed { cause } => cause.class() == Class::Permanent,
    }
}
