//! The real relay as a child: started on a spool that may hold anything, killed or asked to stop.
//!
//! It chooses its ports itself and says on stderr which, so that no port is ever taken twice.
//! It ends when it is dropped, also when the test panics.

use dane_relay::lab::Lab;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// The most deliveries at once: so many messages, and no more, can be between their delivery and
/// its record when the relay is killed.
pub(crate) const MOST_IN_DELIVERY: usize = 24;
/// How long it may take to start, to stop, to empty its queue: far above what a full machine needs.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a condition is looked at.
const POLL: Duration = Duration::from_millis(10);

/// Where a running relay listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Addresses {
    pub(crate) smtp: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// What does not change between two lives of the relay: configuration, spool, and a place where
/// whoever waits for the relay finds out where it listens now.
pub(crate) struct Home {
    config: PathBuf,
    serving: watch::Sender<Option<Addresses>>,
}

impl Home {
    /// A spool and a configuration in `folder`, with these `(domain, next hop)` pairs. The DNS of
    /// `lab` is only there so that the relay has none to complain of.
    pub(crate) fn new(folder: &Path, lab: &Lab, destinations: &[(&str, SocketAddr)]) -> Self {
        let anchors = folder.join("root.key");
        std::fs::write(&anchors, lab.trust_anchor().unwrap()).unwrap();
        let config = folder.join("relay.toml");
        let mut text = format!(
            "hostname = \"relay.test\"\npostmaster = \"postmaster@relay.test\"\n[listen]\nsmtp = [\"127.0.0.1:0\"]\n[admin]\nlisten = \"127.0.0.1:0\"\n\
             [spool]\npath = \"{}\"\nmin_free_bytes = 0\nmin_free_inodes = 0\n\
             [delivery]\nmax_concurrent = {MOST_IN_DELIVERY}\n[retry]\nfirst = \"1s\"\nlongest = \"1s\"\n\
             [dns]\nupstreams = [\"{}\"]\ntrust_anchors = \"{}\"\n",
            folder.join("spool").display(),
            lab.dns().upstream(),
            anchors.display()
        );
        for (domain, next_hop) in destinations {
            text.push_str(&format!("[[destination]]\ndomains = [\"{domain}\"]\nnext_hop = \"{next_hop}\"\n"));
        }
        std::fs::write(&config, text).unwrap();
        Self { config, serving: watch::Sender::new(None) }
    }

    /// Tells where the relay listens, and `None` while it does not.
    pub(crate) fn serving(&self) -> watch::Receiver<Option<Addresses>> {
        self.serving.subscribe()
    }

    /// Starts the relay without waiting for it.
    pub(crate) fn start(&self) -> Relay {
        let mut child = Command::new(env!("CARGO_BIN_EXE_relay"))
            .args(["serve", "--config"])
            .arg(&self.config)
            .env_remove("RUST_LOG")
            .env_remove("RELAY_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (stderr, serving) = (child.stderr.take().unwrap(), self.serving.clone());
        let log = std::thread::spawn(move || read_log(stderr, &serving));
        Relay { child, log: Some(log), serving: self.serving.clone() }
    }
}

/// Announces the addresses, keeps what is worse than information, ends with the process. What the
/// relay finds odd about the machine it runs on is not its own trouble.
fn read_log(stderr: ChildStderr, serving: &watch::Sender<Option<Addresses>>) -> Vec<String> {
    let mut complaints = Vec::new();
    for line in BufReader::new(stderr).lines().map_while(Result::ok) {
        if line.contains(" INFO ") {
            if let Some((_, said)) = line.split_once("relay serves ") {
                serving.send_replace(addresses(said));
            }
        } else if !line.contains(" self-check ") && !line.contains(" port 0 is another free port ") {
            complaints.push(line);
        }
    }
    complaints
}

/// `smtp=[127.0.0.1:4711] admin=127.0.0.1:4712`
fn addresses(said: &str) -> Option<Addresses> {
    let (smtp, admin) = said.strip_prefix("smtp=[")?.split_once("] admin=")?;
    Some(Addresses { smtp: smtp.parse().ok()?, admin: admin.trim().parse().ok()? })
}

/// One life of the relay.
pub(crate) struct Relay {
    child: Child,
    log: Option<std::thread::JoinHandle<Vec<String>>>,
    serving: watch::Sender<Option<Addresses>>,
}

impl Relay {
    /// Waits until it serves.
    pub(crate) async fn serves(&mut self) -> Addresses {
        let mut serving = self.serving.subscribe();
        let told = timeout(PATIENCE, async { *serving.wait_for(Option::is_some).await.unwrap() }).await;
        match told {
            Ok(Some(addresses)) => addresses,
            Ok(None) | Err(_) => {
                let ended = self.child.try_wait().unwrap();
                panic!("the relay does not come up; ended: {ended:?}; it says {:?}", self.kill());
            }
        }
    }

    /// SIGKILL. Gives what it had complained about.
    pub(crate) fn kill(&mut self) -> Vec<String> {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.buried()
    }

    /// SIGTERM, and waits for the end. Gives what it had complained about.
    pub(crate) async fn terminate(&mut self) -> (ExitStatus, Vec<String>) {
        let kill = format!("kill -s TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let ended = timeout(PATIENCE, async {
            loop {
                if let Some(status) = self.child.try_wait().unwrap() {
                    return status;
                }
                sleep(POLL).await;
            }
        });
        let status = ended.await.expect("the relay stops when it is asked to");
        (status, self.buried())
    }

    /// The reader of the log ends first, so that a late announcement cannot outlive the process.
    fn buried(&mut self) -> Vec<String> {
        let complaints = self.log.take().map(|log| log.join().unwrap()).unwrap_or_default();
        self.serving.send_replace(None);
        complaints
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        // Gone already unless the test panicked.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The value of a metric without labels.
pub(crate) async fn metric(admin: SocketAddr, name: &str) -> u64 {
    let mut stream = TcpStream::connect(admin).await.unwrap();
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: relay\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut page = String::new();
    stream.read_to_string(&mut page).await.unwrap();
    let value = page.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {name} in {page}")).parse().unwrap()
}

/// Waits until no message waits any more.
pub(crate) async fn wait_for_empty_queue(admin: SocketAddr) {
    let empty = async {
        while metric(admin, "relay_queue_messages").await > 0 {
            sleep(POLL).await;
        }
    };
    if timeout(PATIENCE, empty).await.is_err() {
        panic!("{} messages still wait", metric(admin, "relay_queue_messages").await);
    }
}
