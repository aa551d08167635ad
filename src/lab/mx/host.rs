//! An MX host of the lab: a small SMTP server that tells the truth about what it was given
//! (RFC 5321, RFC 3207).
//!
//! It keeps what it accepted, byte for byte after unstuffing, and what it was asked. Its
//! [`Behaviour`] may change while it runs. It can be reached by its socket or by any stream. The
//! session itself is in `session.rs`.

#![expect(clippy::disallowed_methods, reason = "this file is the driver of the lab's MX hosts: it listens on loopback")]

use super::behaviour::{Behaviour, Received, SeenCommand, Trouble, TroubleAt};
use super::mail_path::{self, MailPath, Proxy};
use super::shared::MxHostState;
use super::silent_port::SilentPort;
use crate::lab::locked;
use crate::lab::mx::session;
use crate::lab::sockets::Sockets;
use crate::net::Stream;
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Sessions at once: more than any relay opens to one host.
const SESSION_LIMIT: usize = 128;

/// What keeps clients from a host's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Connections are refused.
    Refused,
    /// Nothing comes back at all, not even a refusal.
    Silent,
}

/// What a new connection meets: the box on the path, and then a session.
#[derive(Debug)]
struct ConnectionHandler {
    path: Mutex<Option<MailPath>>,
    shared: Arc<MxHostState>,
}

impl ConnectionHandler {
    fn new(name: &str, behaviour: Behaviour) -> Self {
        Self { path: Mutex::default(), shared: Arc::new(MxHostState::new(name, behaviour)) }
    }

    async fn connection(&self, stream: impl Stream + 'static, number: usize) -> io::Result<()> {
        let path = locked(&self.path).clone();
        match path {
            None => session::run(stream, number, &self.shared).await,
            Some(path) => mail_path::carry(path, stream, number, &self.shared).await,
        }
    }
}

/// What is at a host's address.
#[derive(Debug)]
enum AddressState {
    /// With the listener, where there is one.
    Open(Option<AbortOnDropHandle<()>>),
    Closed,
    Silent {
        _port: Option<SilentPort>,
    },
}

/// A running MX host; it stops when it is dropped.
#[derive(Debug)]
pub struct RunningMxHost {
    address: SocketAddr,
    front: Arc<ConnectionHandler>,
    sockets: Sockets,
    door: Mutex<AddressState>,
}

impl RunningMxHost {
    /// Starts a host that greets as `name`. Port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(name: &str, address: impl Into<IpAddr>, port: u16, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((address.into(), port)).await?;
        let address = listener.local_addr()?;
        let front = Arc::new(ConnectionHandler::new(name, behaviour));
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&front))));
        Ok(Self { address, front, sockets: Sockets::Bound, door: Mutex::new(AddressState::Open(Some(task))) })
    }

    /// A host that nobody reaches but by [`RunningMxHost::serve_stream`]. Its address is only a name.
    #[must_use]
    pub fn without_socket(name: &str, address: SocketAddr, behaviour: Behaviour) -> Self {
        let front = Arc::new(ConnectionHandler::new(name, behaviour));
        Self { address, front, sockets: Sockets::None, door: Mutex::new(AddressState::Open(None)) }
    }

    /// The host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.front.shared.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a box on the path to this host, or takes it away, from the next connection on.
    pub fn set_path(&self, path: impl Into<Option<MailPath>>) {
        *locked(&self.front.path) = path.into();
    }

    /// Blocks the host's port; connections that are open end, but not those by other streams.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn block(&self, block: Block) -> io::Result<()> {
        let door = std::mem::replace(&mut *locked(&self.door), AddressState::Closed);
        if let AddressState::Open(Some(task)) = door {
            task.abort();
            let _cancelled = task.await;
        }
        match block {
            Block::Refused => {}
            Block::Silent => {
                let port = match self.sockets {
                    Sockets::Bound => Some(SilentPort::start(self.address).await?),
                    Sockets::None => None,
                };
                *locked(&self.door) = AddressState::Silent { _port: port };
            }
        }
        Ok(())
    }

    /// What keeps clients out, for whoever brings them by other streams.
    #[must_use]
    pub fn blocked(&self) -> Option<Block> {
        match &*locked(&self.door) {
            AddressState::Open(_) => None,
            AddressState::Closed => Some(Block::Refused),
            AddressState::Silent { .. } => Some(Block::Silent),
        }
    }

    /// Serves one connection to its end, past the socket and whatever blocks it, through the box
    /// on the path.
    ///
    /// # Errors
    /// What ended the connection otherwise than by QUIT.
    pub async fn serve_stream(&self, stream: impl Stream + 'static) -> io::Result<()> {
        self.front.connection(stream, self.front.shared.next_number()).await
    }

    /// A box that has this host answer for every other one. It goes on when the host is dropped.
    #[must_use]
    pub fn as_proxy(&self) -> MailPath {
        MailPath::Proxy(Proxy::new(Arc::clone(&self.front.shared)))
    }

    /// Changes how it behaves, from the next command on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut locked(&self.front.shared.behaviour));
    }

    /// Sets the trouble of one phase, or heals it with none.
    pub fn trouble(&self, phase: TroubleAt, trouble: impl Into<Option<Trouble>>) {
        let trouble = trouble.into();
        self.behave(|behaviour| {
            match trouble {
                Some(trouble) => behaviour.troubles.insert(phase, trouble),
                None => behaviour.troubles.remove(&phase),
            };
        });
    }

    /// Lets the reply of a phase take so long.
    pub fn delay(&self, phase: TroubleAt, delay: Duration) {
        self.behave(|behaviour| {
            behaviour.delays.insert(phase, delay);
        });
    }

    /// The messages accepted so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Received> {
        self.front.shared.messages()
    }

    /// Waits until `count` messages in all were accepted, and gives them.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], with the number there was, when `within` ends first.
    pub async fn wait_for_messages(&self, count: usize, within: Duration) -> io::Result<Vec<Received>> {
        let mut arrivals = self.front.shared.arrivals();
        let enough = timeout(within, arrivals.wait_for(|&there| there >= count)).await;
        let there = self.messages();
        match enough {
            Ok(_) => Ok(there),
            Err(_) => {
                let text = format!("{} of {count} messages came to {}", there.len(), self.name());
                Err(io::Error::new(io::ErrorKind::TimedOut, text))
            }
        }
    }

    /// How many connections were made so far.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.front.shared.connections()
    }

    /// How many TLS handshakes the client gave up or spoilt.
    #[must_use]
    pub fn handshakes_failed(&self) -> usize {
        self.front.shared.handshakes_failed()
    }

    /// The commands of all sessions in the order they came.
    #[must_use]
    pub fn seen(&self) -> Vec<SeenCommand> {
        self.front.shared.seen()
    }
}

async fn serve(listener: TcpListener, front: Arc<ConnectionHandler>) {
    let slots = Arc::new(Semaphore::new(SESSION_LIMIT));
    let mut sessions = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while sessions.try_join_next().is_some() {}
        let front = Arc::clone(&front);
        let number = front.shared.next_number();
        sessions.spawn(async move {
            let _ended = front.connection(stream, number).await;
            drop(slot);
        });
    }
}

/// Whether this machine has IPv6 at all, if only on loopback: some containers have none.
pub async fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok()
}
