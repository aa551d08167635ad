//! Clients that hand mail in at any of the nodes, as Exchange does with two smart hosts, while something goes wrong.

use super::ClusterScene;
use crate::relay::{SENDER, content};
use dane_relay::lab::mx::client::SmtpClient;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// At the same time.
const CLIENTS: usize = 4;
/// For one message.
const PATIENCE: Duration = Duration::from_secs(20);
/// After a node that did not take one.
const PAUSE: Duration = Duration::from_millis(50);
/// Messages that one node has under way to one server at the most: what of them is delivered and not recorded when it dies
/// is delivered again.
pub(super) const UNDER_WAY: usize = 40;

/// How often the faults of this folder come: more for a longer run.
const ROUNDS: &str = "RELAY_CLUSTER_ROUNDS";

/// How often.
pub(super) fn rounds() -> usize {
    std::env::var(ROUNDS).ok().and_then(|rounds| rounds.parse().ok()).unwrap_or(1)
}

/// Mail that comes in.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    nodes: Arc<Mutex<Vec<SocketAddr>>>,
    acknowledged: Arc<AtomicUsize>,
    clients: JoinSet<Vec<String>>,
}

impl Load {
    /// Begins; every message has a recipient of its own, also after a refusal.
    pub(super) fn on(nodes: &[SocketAddr]) -> Self {
        let (stop, nodes) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(nodes.to_vec())));
        let (acknowledged, mut clients) = (Arc::default(), JoinSet::new());
        for client in 0..CLIENTS {
            clients.spawn(hand_in(client, Arc::clone(&stop), Arc::clone(&nodes), Arc::clone(&acknowledged)));
        }
        Self { stop, nodes, acknowledged, clients }
    }

    /// These are the nodes from now on.
    pub(super) fn goes_to(&self, nodes: &[SocketAddr]) {
        *self.nodes.lock().unwrap() = nodes.to_vec();
    }

    /// Goes on until so many more are acknowledged.
    pub(super) async fn more(&self, messages: usize) {
        let wanted = self.acknowledged.load(Ordering::SeqCst) + messages;
        let taken = || async { (self.acknowledged.load(Ordering::SeqCst) >= wanted).then_some(()) };
        crate::relay::until(taken, "mail to be taken").await;
    }

    /// Ends; gives the recipients whose messages were acknowledged.
    pub(super) async fn end(self) -> BTreeSet<String> {
        self.stop.store(true, Ordering::SeqCst);
        self.clients.join_all().await.into_iter().flatten().collect()
    }
}

async fn hand_in(
    client: usize,
    stop: Arc<AtomicBool>,
    nodes: Arc<Mutex<Vec<SocketAddr>>>,
    count: Arc<AtomicUsize>,
) -> Vec<String> {
    let (mut acknowledged, mut nth) = (Vec::new(), 0);
    while !stop.load(Ordering::SeqCst) {
        nth += 1;
        let (node, to) = {
            let nodes = nodes.lock().unwrap();
            (nodes[(client + nth) % nodes.len()], format!("to-{client}-{nth}@good.test"))
        };
        let handing = async {
            let mut client = SmtpClient::ready(node).await.ok()?;
            client.send(SENDER, &[&to], content(&to).as_bytes()).await.ok()
        };
        if timeout(PATIENCE, handing).await.ok().flatten().is_some_and(|handed| handed.accepted()) {
            count.fetch_add(1, Ordering::SeqCst);
            acknowledged.push(to);
        } else {
            sleep(PAUSE).await;
        }
    }
    acknowledged
}

impl ClusterScene {
    /// All that was acknowledged has arrived, once but for so many; and the sum of the audit holds.
    pub(super) async fn nothing_is_lost(&self, acknowledged: &BTreeSet<String>, most_twice: usize) {
        let mut arrived: BTreeMap<String, usize> = BTreeMap::new();
        for message in self.lab.mx("good.test").unwrap().messages() {
            message.rcpt_to.into_iter().for_each(|to| *arrived.entry(to).or_default() += 1);
        }
        let lost: Vec<_> = acknowledged.iter().filter(|to| !arrived.contains_key(*to)).collect();
        assert!(lost.is_empty(), "of {}: {lost:?}", acknowledged.len());
        let again: usize = arrived.values().map(|times| times - 1).sum();
        assert!(again <= most_twice, "{again} came again, of {}", arrived.len());
        self.is_whole(arrived.len()).await;
    }
}
