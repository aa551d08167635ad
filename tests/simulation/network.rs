//! The network under the relay, without sockets: to the lab's mail and policy hosts by pipes.

use async_trait::async_trait;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::lab::simulated::HostAt;
use dane_relay::lab::{Block, Lab};
use dane_relay::net::{Network, Stream};
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::duplex;

/// Octets under way in one direction.
const PIPE: usize = 64 * 1024;

/// The network of a world; it outlives the relay.
pub(crate) struct SimulatedNetwork {
    lab: Arc<Lab>,
    /// What keeps the relay from mail hosts.
    blocks: Mutex<BTreeMap<SocketAddr, Block>>,
    /// When the relay connected, by a clock that nobody sets.
    attempts: Mutex<BTreeMap<SocketAddr, Vec<Timestamp>>>,
    truth: Mutex<Clock>,
    /// How long it takes to connect to a mail host.
    delays: Mutex<BTreeMap<SocketAddr, Duration>>,
}

impl SimulatedNetwork {
    pub(crate) fn new(lab: Arc<Lab>) -> Self {
        Self {
            lab,
            blocks: Mutex::default(),
            attempts: Mutex::default(),
            truth: Mutex::default(),
            delays: Mutex::default(),
        }
    }

    /// A life begins, at this time.
    pub(crate) fn begin_life(&self, truth: Timestamp) {
        *self.truth.lock().unwrap() = Clock::with_runtime(truth);
    }

    /// The true time, which nobody sets.
    pub(crate) fn truth(&self) -> Timestamp {
        self.truth.lock().unwrap().now()
    }

    /// The longest time in which the relay did not connect to the first host of a domain, between the
    /// first time and the last of those up to a moment.
    pub(crate) fn longest_silence(&self, domain: &str, until: Timestamp) -> Duration {
        let attempts = self.attempts.lock().unwrap();
        let at_host = attempts.get(&self.lab.mx(domain).unwrap().address()).map(Vec::as_slice).unwrap_or_default();
        let meant = at_host.iter().take_while(|at| **at <= until).count();
        at_host[..meant].windows(2).map(|two| two[1].since(two[0])).max().unwrap_or_default()
    }

    /// Makes connections to the first host of a domain slow.
    pub(crate) fn delay(&self, domain: &str, way: Duration) {
        self.delays.lock().unwrap().insert(self.lab.mx(domain).unwrap().address(), way);
    }

    /// Blocks the first host of a domain, or lets the relay through again.
    pub(crate) fn block(&self, domain: &str, block: Option<Block>) {
        let address = self.lab.mx(domain).unwrap().address();
        let mut blocks = self.blocks.lock().unwrap();
        match block {
            Some(block) => blocks.insert(address, block),
            None => blocks.remove(&address),
        };
    }
}

#[async_trait]
impl Network for SimulatedNetwork {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let now = self.truth();
        self.attempts.lock().unwrap().entry(address).or_default().push(now);
        let delay = self.delays.lock().unwrap().get(&address).copied().unwrap_or_default();
        tokio::time::sleep(delay).await;
        let block = self.blocks.lock().unwrap().get(&address).copied();
        match block {
            None => {}
            Some(Block::Refused) => return Err(io::ErrorKind::ConnectionRefused.into()),
            Some(Block::Silent) => std::future::pending().await,
        }
        pipe_to(&self.lab, address)
    }
}

/// A pipe to a host of the lab.
pub(crate) fn pipe_to(lab: &Arc<Lab>, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
    if let Some(HostAt::Policy(host)) = lab.host_at(address)
        && !host.is_on()
    {
        return Err(io::ErrorKind::ConnectionRefused.into());
    }
    let (ours, theirs) = duplex(PIPE);
    let lab = Arc::clone(lab);
    tokio::spawn(async move {
        match lab.host_at(address) {
            Some(HostAt::Mx(host)) => host.serve_stream(theirs).await,
            Some(HostAt::Policy(host)) => host.serve_stream(theirs).await,
            None => Ok(()),
        }
    });
    Ok(Box::new(ours))
}
