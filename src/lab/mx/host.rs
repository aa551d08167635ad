//! An MX host of the lab: a small SMTP server that tells the truth about what it was given
//! (RFC 5321, RFC 3207).
//!
//! It keeps what it accepted, byte for byte after unstuffing, and what it was asked. Its
//! [`Behaviour`] may change while it runs. It can be reached by its socket or by any stream. The
//! session itself is in `session.rs`.

#![expect(clippy::disallowed_methods, reason = "this file is the driver of the lab's MX hosts: it listens on loopback")]

use super::mail_path::{self, MailPath};
use super::silent_port::SilentPort;
use crate::lab::mx::session;
use crate::lab::sockets::Sockets;
use crate::lab::{bad, locked};
use crate::net::Stream;
use crate::smtp::reply::Reply;
use rustls::{AlertDescription, ServerConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// Sessions at once: more than any relay opens to one host.
const SESSION_LIMIT: usize = 128;
/// Commands remembered of all sessions together; later ones are obeyed and not remembered.
const SEEN_LIMIT: usize = 100_000;
/// Messages kept; above it the host says 452, as a full disk would.
pub(in crate::lab) const INBOX_LIMIT: usize = 100_000;

/// What the host does about TLS.
#[derive(Clone, Debug)]
pub enum StartTls {
    /// Offers it and shows what the settings hold.
    Offered(Arc<ServerConfig>),
    /// Does not offer it: a host without TLS, or a box on the path that strips the keyword.
    NotOffered,
    /// Offers it and answers the command with this reply, such as 454.
    Refused(Reply),
    /// Answers 220 and then speaks no TLS.
    BrokenHandshake,
    /// Answers 220 and closes the connection.
    DropAfter,
    /// Answers 220, reads the ClientHello, and answers it with this fatal alert
    /// (RFC 8446 §6.2): `ProtocolVersion` as a server that knows only TLS 1.0 does,
    /// `HandshakeFailure` as one that shares no cipher suite.
    Alert(AlertDescription),
    /// Answers 220 and says nothing any more.
    Hang,
    /// As [`StartTls::Offered`], behind a box on the path that loses a ClientHello above one
    /// TCP segment: to the client the host falls silent.
    LosesLargeHello(Arc<ServerConfig>),
}

impl StartTls {
    /// A host that knows no TLS above 1.0 (RFC 8996).
    #[must_use]
    pub const fn tls10_only() -> Self {
        Self::Alert(AlertDescription::ProtocolVersion)
    }

    /// The settings, where there can be a session.
    pub(in crate::lab) fn config(&self) -> Option<&Arc<ServerConfig>> {
        match self {
            Self::Offered(config) | Self::LosesLargeHello(config) => Some(config),
            Self::NotOffered
            | Self::Refused(_)
            | Self::BrokenHandshake
            | Self::DropAfter
            | Self::Alert(_)
            | Self::Hang => None,
        }
    }
}

/// Which SMTP the host speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// EHLO and HELO (RFC 5321 §3.2).
    Extended,
    /// HELO alone: EHLO gets 500, and nothing that needs it is there, such as STARTTLS.
    HeloOnly,
}

/// Who has a mailbox here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Mailboxes {
    /// Every local-part.
    Everyone,
    /// These local-parts, in lower case, in every domain. Others get 550 5.1.1.
    Only(BTreeSet<String>),
}

/// Where in a session trouble begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Phase {
    /// In place of the greeting.
    Connect,
    /// At EHLO or HELO.
    Ehlo,
    /// At STARTTLS.
    StartTls,
    /// At MAIL.
    Mail,
    /// At RCPT.
    Rcpt,
    /// At DATA.
    Data,
    /// After the lone dot.
    EndOfData,
    /// At QUIT.
    Quit,
}

/// What happens instead of the right reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// This reply. A refusing one after the dot means that the message is not kept.
    Reply(Reply),
    /// No reply, and the connection stays open.
    Hang,
    /// No reply, and the connection is closed. After the dot: the message is not kept.
    Drop,
    /// After the dot: the message is kept, and then the connection is closed without a reply.
    /// Anywhere else as [`Trouble::Drop`].
    KeepThenDrop,
    /// The right reply, and then TCP ends without the close_notify of TLS (RFC 8446 §6.1). After
    /// the dot: the message is kept.
    ReplyThenDrop,
}

/// How a host behaves. The default takes everything from everyone, without TLS.
#[derive(Clone, Debug)]
pub struct Behaviour {
    /// TLS.
    pub starttls: StartTls,
    /// The mailboxes.
    pub known: Mailboxes,
    /// Whether a sender and recipient that come the first time get 451 4.7.1.
    pub greylist: bool,
    /// What goes wrong, and when.
    pub troubles: BTreeMap<Phase, Trouble>,
    /// The keywords of the reply to EHLO. STARTTLS comes by itself.
    pub keywords: Vec<String>,
    /// More of them before TLS.
    pub keywords_in_clear: Vec<String>,
    /// More of them inside TLS.
    pub keywords_in_tls: Vec<String>,
    /// What comes in clear behind the 220 to STARTTLS, in the same write: the work of somebody on
    /// the path (RFC 3207 §6).
    pub behind_220: Vec<u8>,
    /// Whether it knows EHLO.
    pub dialect: Dialect,
}

impl Default for Behaviour {
    fn default() -> Self {
        let keywords = ["PIPELINING", "SIZE 36700160", "8BITMIME", "ENHANCEDSTATUSCODES"];
        Self {
            starttls: StartTls::NotOffered,
            known: Mailboxes::Everyone,
            greylist: false,
            troubles: BTreeMap::new(),
            keywords: keywords.map(String::from).into(),
            keywords_in_clear: Vec::new(),
            keywords_in_tls: Vec::new(),
            behind_220: Vec::new(),
            dialect: Dialect::Extended,
        }
    }
}

/// Where the keys of a TLS session come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionOrigin {
    /// A whole handshake, in which the client saw the certificate.
    Fresh,
    /// An earlier session; the client saw no certificate (RFC 8446 §2.2).
    Resumed,
}

/// What a TLS handshake agreed on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFacts {
    /// `TLSv1_2` or `TLSv1_3`.
    pub version: String,
    /// The cipher suite.
    pub cipher: String,
    /// The name the client asked for (RFC 6066 §3).
    pub sni: Option<String>,
    /// Whether the session was resumed.
    pub origin: SessionOrigin,
}

/// A message as the host accepted it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// Which connection brought it, counted from 1.
    pub connection: usize,
    /// The argument of the last EHLO or HELO.
    pub helo: String,
    /// The reverse-path without brackets; empty for the null one.
    pub mail_from: String,
    /// What stood behind it (`SIZE=… BODY=…`).
    pub mail_params: String,
    /// The accepted forward-paths without brackets.
    pub rcpt_to: Vec<String>,
    /// What stood behind each of them.
    pub rcpt_params: Vec<String>,
    /// The content, unstuffed, with the line end before the lone dot.
    pub content: Vec<u8>,
    /// TLS, or none when it came in clear.
    pub tls: Option<TlsFacts>,
}

/// A command as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Which connection, counted from 1.
    pub connection: usize,
    /// Whether it came through TLS.
    pub secured: bool,
    /// The line without its end.
    pub line: String,
}

/// What the sessions of a host share.
#[derive(Debug)]
pub(in crate::lab) struct Shared {
    pub(in crate::lab) name: String,
    pub(in crate::lab) behaviour: Mutex<Behaviour>,
    pub(in crate::lab) greylisted: Mutex<BTreeSet<(String, String)>>,
    /// The box on the path to this host.
    path: Mutex<Option<MailPath>>,
    connections: AtomicUsize,
    handshakes_failed: AtomicUsize,
    inbox: Mutex<Vec<Received>>,
    arrivals: watch::Sender<usize>,
    seen: Mutex<Vec<Seen>>,
}

impl Shared {
    fn new(name: &str, behaviour: Behaviour) -> Self {
        Self {
            name: name.to_owned(),
            behaviour: Mutex::new(behaviour),
            greylisted: Mutex::default(),
            path: Mutex::default(),
            connections: AtomicUsize::new(0),
            handshakes_failed: AtomicUsize::new(0),
            inbox: Mutex::default(),
            arrivals: watch::Sender::new(0),
            seen: Mutex::default(),
        }
    }

    /// The number of a new connection.
    fn next_number(&self) -> usize {
        self.connections.fetch_add(1, Ordering::SeqCst) + 1
    }

    pub(in crate::lab) fn saw(&self, seen: Seen) {
        let mut all = locked(&self.seen);
        if all.len() < SEEN_LIMIT {
            all.push(seen);
        }
    }

    pub(in crate::lab) fn handshake_failed(&self) {
        self.handshakes_failed.fetch_add(1, Ordering::SeqCst);
    }

    pub(in crate::lab) fn is_full(&self) -> bool {
        locked(&self.inbox).len() >= INBOX_LIMIT
    }

    pub(in crate::lab) fn keep(&self, message: Received) {
        let count = {
            let mut inbox = locked(&self.inbox);
            inbox.push(message);
            inbox.len()
        };
        self.arrivals.send_replace(count);
    }
}

/// What keeps clients from a host's port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Block {
    /// Connections are refused.
    Refused,
    /// Nothing comes back at all, not even a refusal.
    Silent,
}

/// What is at a host's address.
#[derive(Debug)]
enum Door {
    /// With the listener, where there is one.
    Open(Option<AbortOnDropHandle<()>>),
    Closed,
    Silent {
        _port: Option<SilentPort>,
    },
}

/// A running MX host; it stops when it is dropped.
#[derive(Debug)]
pub struct MxHost {
    address: SocketAddr,
    shared: Arc<Shared>,
    sockets: Sockets,
    door: Mutex<Door>,
}

impl MxHost {
    /// Starts a host that greets as `name`. Port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(name: &str, address: impl Into<IpAddr>, port: u16, behaviour: Behaviour) -> io::Result<Self> {
        let listener = TcpListener::bind((address.into(), port)).await?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared::new(name, behaviour));
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&shared))));
        Ok(Self { address, shared, sockets: Sockets::Bound, door: Mutex::new(Door::Open(Some(task))) })
    }

    /// A host that nobody reaches but by [`MxHost::serve_stream`]. Its address is only a name.
    #[must_use]
    pub fn without_socket(name: &str, address: SocketAddr, behaviour: Behaviour) -> Self {
        let shared = Arc::new(Shared::new(name, behaviour));
        Self { address, shared, sockets: Sockets::None, door: Mutex::new(Door::Open(None)) }
    }

    /// The host name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Puts a box on the path to this host, or takes it away, from the next connection on.
    pub fn set_path(&self, path: impl Into<Option<MailPath>>) {
        *locked(&self.shared.path) = path.into();
    }

    /// Blocks the host's port; connections that are open end, but not those by other streams.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn block(&self, block: Block) -> io::Result<()> {
        let door = std::mem::replace(&mut *locked(&self.door), Door::Closed);
        if let Door::Open(Some(task)) = door {
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
                *locked(&self.door) = Door::Silent { _port: port };
            }
        }
        Ok(())
    }

    /// What keeps clients out, for whoever brings them by other streams.
    #[must_use]
    pub fn blocked(&self) -> Option<Block> {
        match &*locked(&self.door) {
            Door::Open(_) => None,
            Door::Closed => Some(Block::Refused),
            Door::Silent { .. } => Some(Block::Silent),
        }
    }

    /// Serves one connection to its end, past the socket and whatever blocks it, through the box
    /// on the path.
    ///
    /// # Errors
    /// What ended the connection otherwise than by QUIT.
    pub async fn serve_stream(&self, stream: impl Stream + 'static) -> io::Result<()> {
        connection(stream, self.shared.next_number(), &self.shared).await
    }

    /// Serves one connection that was meant for somebody else.
    pub(in crate::lab) async fn serve_here(&self, stream: impl Stream + 'static) -> io::Result<()> {
        session::run(stream, self.shared.next_number(), &self.shared).await
    }

    /// Changes how it behaves, from the next command on.
    pub fn behave(&self, change: impl FnOnce(&mut Behaviour)) {
        change(&mut locked(&self.shared.behaviour));
    }

    /// Sets the trouble of one phase, or heals it with none.
    pub fn trouble(&self, phase: Phase, trouble: impl Into<Option<Trouble>>) {
        let trouble = trouble.into();
        self.behave(|behaviour| {
            match trouble {
                Some(trouble) => behaviour.troubles.insert(phase, trouble),
                None => behaviour.troubles.remove(&phase),
            };
        });
    }

    /// The messages accepted so far.
    #[must_use]
    pub fn messages(&self) -> Vec<Received> {
        locked(&self.shared.inbox).clone()
    }

    /// Waits until `count` messages in all were accepted, and gives them.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], with the number there was, when `within` ends first.
    pub async fn wait_for_messages(&self, count: usize, within: Duration) -> io::Result<Vec<Received>> {
        let mut arrivals = self.shared.arrivals.subscribe();
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
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// How many TLS handshakes the client gave up or spoilt.
    #[must_use]
    pub fn handshakes_failed(&self) -> usize {
        self.shared.handshakes_failed.load(Ordering::SeqCst)
    }

    /// The commands of all sessions in the order they came.
    #[must_use]
    pub fn seen(&self) -> Vec<Seen> {
        locked(&self.shared.seen).clone()
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(SESSION_LIMIT));
    let mut sessions = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while sessions.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        let number = shared.next_number();
        sessions.spawn(async move {
            let _ended = connection(stream, number, &shared).await;
            drop(slot);
        });
    }
}

/// Whether this machine has IPv6 at all, if only on loopback: some containers have none.
pub async fn has_ipv6() -> bool {
    TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).await.is_ok()
}

/// One connection, through the box on the path.
async fn connection(stream: impl Stream + 'static, number: usize, shared: &Shared) -> io::Result<()> {
    let path = locked(&shared.path).clone();
    match path {
        None => session::run(stream, number, shared).await,
        Some(path) => mail_path::carry(path, stream, number, shared).await,
    }
}

/// Parses the text form of a reply (`550 5.1.1 no such user`) for use in a [`Trouble`].
///
/// # Errors
/// When the text is no reply of one line.
pub fn reply(text: &str) -> io::Result<Reply> {
    let parsed = crate::smtp::reply::ReplyParser::default().line(text.as_bytes()).map_err(bad)?;
    parsed.ok_or_else(|| bad("the reply has more than one line"))
}
