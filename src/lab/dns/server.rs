//! The lab's DNS server: answers from the [`World`] over UDP and TCP on loopback
//! (RFC 1035 §4.2, RFC 6891, RFC 7766).
//!
//! It plays a recursive resolver: RA is set, and AD only where it shall validate. The encrypted fronts
//! of the same server are in `fronts`, and the authoritative servers in `authority`. A
//! [`PathFault`] puts a box between it and the client.

#![expect(clippy::disallowed_methods, reason = "this file is the lab's DNS driver: it listens on loopback")]

use super::answer::OUR_PAYLOAD;
use super::boxes::{Beyond, UDP_PAYLOAD_LIMIT};
use super::manner::ServerManner;
use super::responder::Responder;
use super::view::View;
use super::world::World;
use crate::lab::{bad, locked};
use hickory_proto::op::{Edns, Message, Query};
use hickory_proto::rr::{Name, RecordType};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::task::AbortOnDropHandle;

pub use super::boxes::{Helpless, LabTransport, PathFault};
pub use super::validating::Validating;

/// TCP connections served at once; a test needs a handful.
pub(in crate::lab) const TCP_CONNECTION_LIMIT: usize = 64;
/// How long a TCP connection may be idle.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// The port of a server without sockets: that of DNS.
const NAMED_PORT: u16 = 53;
/// How often a port is chosen again when it is free for UDP but not for TCP.
const BIND_ATTEMPTS: usize = 16;

/// A running server; it stops when it is dropped.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Responder>,
    _tasks: Vec<AbortOnDropHandle<()>>,
}

impl DnsServer {
    /// Starts a server on 127.0.0.1 with a port that the system chooses.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn start(world: Arc<World>) -> io::Result<Self> {
        Self::start_at(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)), world, View::Resolver).await
    }

    /// Starts a server at an address; port 0 lets the system choose.
    pub(in crate::lab) async fn start_at(address: SocketAddr, world: Arc<World>, view: View) -> io::Result<Self> {
        let (udp, tcp) = bind(address).await?;
        let address = udp.local_addr()?;
        let shared = Arc::new(Responder::new(world, view));
        let tasks = vec![
            AbortOnDropHandle::new(tokio::spawn(serve_udp(udp, Arc::clone(&shared)))),
            AbortOnDropHandle::new(tokio::spawn(serve_tcp(tcp, Arc::clone(&shared)))),
        ];
        Ok(Self { address, shared, _tasks: tasks })
    }

    /// A server that nobody reaches but by [`DnsServer::fetch`]. Its address is only a name.
    pub(in crate::lab) fn without_sockets(world: Arc<World>) -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, NAMED_PORT));
        Self { address, shared: Arc::new(Responder::new(world, View::Resolver)), _tasks: Vec::new() }
    }

    /// The answer to a question with DO, past the sockets and through the boxes on the path: over
    /// UDP, and over TCP when it is truncated there (RFC 7766 §5). None when nothing comes back.
    ///
    /// # Errors
    /// When a message cannot be encoded or decoded: a fault in the lab itself.
    pub fn fetch(&self, name: &Name, rtype: RecordType) -> io::Result<Option<Message>> {
        let mut request = Message::query();
        request.metadata.recursion_desired = true;
        request.add_query(Query::query(name.clone(), rtype));
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD).set_version(0).set_dnssec_ok(true);
        request.set_edns(edns);
        let question = request.to_vec().map_err(bad)?;
        let over = |transport| {
            let answer = self.shared.respond(&question, transport);
            answer.map(|answer| Message::from_vec(&answer).map_err(bad)).transpose()
        };
        match over(LabTransport::Udp)? {
            Some(answer) if answer.metadata.truncation && !locked(&self.shared.boxes).closes(LabTransport::Tcp) => {
                over(LabTransport::Tcp)
            }
            answer => Ok(answer),
        }
    }

    /// Where it listens, for UDP and TCP alike.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as the configuration writes an upstream.
    #[must_use]
    pub fn upstream(&self) -> String {
        format!("udp://{}", self.address)
    }

    /// How often a question was asked here. The case of the name does not matter.
    #[must_use]
    pub fn asked(&self, owner: &str, rtype: RecordType) -> usize {
        let Ok(name) = super::world::name(owner) else { return 0 };
        locked(&self.shared.asked).get(&(name, rtype)).copied().unwrap_or(0)
    }

    /// How many questions of a type were asked here.
    #[must_use]
    pub fn asked_type(&self, rtype: RecordType) -> usize {
        locked(&self.shared.asked).iter().filter(|((_, t), _)| *t == rtype).map(|(_, n)| n).sum()
    }

    /// All questions asked here with their number, in canonical order.
    #[must_use]
    pub fn questions(&self) -> Vec<(String, RecordType, usize)> {
        locked(&self.shared.asked).iter().map(|((name, rtype), n)| (name.to_ascii(), *rtype, *n)).collect()
    }

    /// How many answers, or connections, the boxes on the path let not through.
    #[must_use]
    pub fn dropped(&self) -> usize {
        self.shared.dropped.load(Ordering::SeqCst)
    }

    /// Forgets the questions asked so far.
    pub fn forget_questions(&self) {
        locked(&self.shared.asked).clear();
    }

    /// Replaces the boxes on the path to this server, on UDP and TCP: they cannot read the rest.
    pub fn set_path(&self, faults: impl IntoIterator<Item = PathFault>) {
        locked(&self.shared.boxes).on_clear(faults.into_iter().collect());
    }

    /// Replaces the boxes on one transport to this server.
    pub fn set_path_on(&self, transport: LabTransport, faults: impl IntoIterator<Item = PathFault>) {
        locked(&self.shared.boxes).on(transport, faults.into_iter().collect());
    }

    /// Replaces the boxes between this resolver and the servers it asks, and says what it does
    /// when they let no answer through.
    pub fn set_path_beyond(&self, helpless: Helpless, faults: impl IntoIterator<Item = PathFault>) {
        *locked(&self.shared.beyond) = Some(Beyond::new(helpless, faults.into_iter().collect()));
    }

    /// Has the resolver validate, or stops it.
    pub fn set_validating(&self, validating: Validating) {
        *locked(&self.shared.validating) = validating;
    }

    /// Gives the server a manner of its own.
    pub fn set_manner(&self, manner: ServerManner) {
        *locked(&self.shared.manner) = manner;
    }

    /// Lets every answer over its own sockets take so long.
    pub fn set_delay(&self, delay: Duration) {
        *locked(&self.shared.delay) = delay;
    }

    /// The server without its sockets, for more of them.
    pub(in crate::lab) fn responder(&self) -> Arc<Responder> {
        Arc::clone(&self.shared)
    }
}

async fn bind(address: SocketAddr) -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = bad("no port");
    for _ in 0..BIND_ATTEMPTS {
        let udp = UdpSocket::bind(address).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(e) if address.port() != 0 => return Err(e),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Responder>) {
    let (socket, mut late) = (Arc::new(socket), JoinSet::new());
    let mut buffer = vec![0; usize::from(UDP_PAYLOAD_LIMIT)];
    loop {
        while late.try_join_next().is_some() {}
        // An error here is an ICMP message about an earlier answer; the socket is still good.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = shared.respond(buffer.get(..length).unwrap_or_default(), LabTransport::Udp);
        let Some(answer) = answer else { continue };
        let delay = *locked(&shared.delay);
        if delay.is_zero() {
            let _gone = socket.send_to(&answer, client).await;
            continue;
        }
        let socket = Arc::clone(&socket);
        late.spawn(async move {
            sleep(delay).await;
            let _gone = socket.send_to(&answer, client).await;
        });
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Responder>) {
    let slots = Arc::new(Semaphore::new(TCP_CONNECTION_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _closed = converse(stream, &shared, LabTransport::Tcp).await;
            drop(slot);
        });
    }
}

/// RFC 7766 §6.2.1: several questions may use one connection.
pub(in crate::lab) async fn converse<S>(mut stream: S, shared: &Responder, transport: LabTransport) -> io::Result<()>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    if locked(&shared.boxes).closes(transport) {
        shared.dropped.fetch_add(1, Ordering::SeqCst);
        return Ok(());
    }
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut question)).await??;
        if let Some(answer) = shared.respond(&question, transport) {
            let delay = *locked(&shared.delay);
            sleep(delay).await;
            let mut framed = u16::try_from(answer.len()).map_err(bad)?.to_be_bytes().to_vec();
            framed.extend_from_slice(&answer);
            stream.write_all(&framed).await?;
            stream.flush().await?;
        }
    }
}
