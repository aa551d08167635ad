//! The lab's DNS server: answers from the [`World`] over UDP and TCP on loopback
//! (RFC 1035 §4.2, RFC 6891, RFC 7766).
//!
//! It plays a recursive resolver that does not validate: RA is set, AD never. It keeps to the
//! client's payload size and truncates what does not fit. It counts the questions, so that a
//! test can say which were never asked. A [`PathFault`] puts a box between it and the client.

#![expect(clippy::disallowed_methods, reason = "this file is the lab's DNS driver: it listens on loopback")]

use super::answer::OUR_PAYLOAD;
use super::world::{Answer, Delivery, World};
use super::{bad, locked};
use hickory_proto::op::{Edns, Message, MessageType, Metadata, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::collections::BTreeMap;
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::task::AbortOnDropHandle;

/// The payload size without EDNS (RFC 1035 §4.2.1), and the least that EDNS may say.
const PLAIN_PAYLOAD: u16 = 512;
/// The largest UDP answer whatever the client says; above it answers would be fragmented.
const UDP_PAYLOAD_LIMIT: u16 = 4096;
/// TCP connections served at once; a test needs a handful.
const TCP_CONNECTION_LIMIT: usize = 64;
/// How long a TCP connection may be idle.
const TCP_IDLE: Duration = Duration::from_secs(10);
/// How often a port is chosen anew when it is free for UDP but not for TCP.
const BIND_ATTEMPTS: usize = 16;

/// What a box on the path does to the answers that pass it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// Drops answers that hold more TLSA records than this.
    DropTlsaOver(usize),
    /// Drops answers to questions of this type.
    DropType(RecordType),
    /// Drops answers above this many octets.
    DropOver(usize),
    /// Drops questions that come with EDNS.
    DropEdns,
    /// Takes signatures and proofs away, as a resolver does that knows no DNSSEC.
    StripDnssec,
    /// Closes TCP connections at once.
    BlockTcp,
    /// Lets no answer through.
    DropAll,
    /// Answers everything with SERVFAIL.
    ServFail,
}

/// The transport of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Transport {
    Udp,
    Tcp,
}

#[derive(Debug)]
struct Shared {
    world: Arc<World>,
    asked: Mutex<BTreeMap<(Name, RecordType), usize>>,
    path: Mutex<Vec<PathFault>>,
}

/// A running server; it stops when it is dropped.
#[derive(Debug)]
pub struct DnsServer {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: [AbortOnDropHandle<()>; 2],
}

impl DnsServer {
    /// Starts a server on 127.0.0.1 with a port that the system chooses.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn start(world: Arc<World>) -> io::Result<Self> {
        let (udp, tcp) = bind().await?;
        let address = udp.local_addr()?;
        let shared = Arc::new(Shared { world, asked: Mutex::default(), path: Mutex::default() });
        let tasks = [
            AbortOnDropHandle::new(tokio::spawn(serve_udp(udp, Arc::clone(&shared)))),
            AbortOnDropHandle::new(tokio::spawn(serve_tcp(tcp, Arc::clone(&shared)))),
        ];
        Ok(Self { address, shared, _tasks: tasks })
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

    /// Forgets the questions asked so far.
    pub fn forget_questions(&self) {
        locked(&self.shared.asked).clear();
    }

    /// Replaces the boxes on the path to this server.
    pub fn set_path(&self, faults: impl IntoIterator<Item = PathFault>) {
        *locked(&self.shared.path) = faults.into_iter().collect();
    }
}

async fn bind() -> io::Result<(UdpSocket, TcpListener)> {
    let mut last = bad("no port");
    for _ in 0..BIND_ATTEMPTS {
        let udp = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        match TcpListener::bind(udp.local_addr()?).await {
            Ok(tcp) => return Ok((udp, tcp)),
            Err(e) => last = e,
        }
    }
    Err(last)
}

async fn serve_udp(socket: UdpSocket, shared: Arc<Shared>) {
    let mut buffer = vec![0; usize::from(UDP_PAYLOAD_LIMIT)];
    loop {
        // An error here is an ICMP message about an earlier answer; the socket is still good.
        let Ok((length, client)) = socket.recv_from(&mut buffer).await else { continue };
        let answer = shared.respond(buffer.get(..length).unwrap_or_default(), Transport::Udp);
        if let Some(answer) = answer {
            let _gone = socket.send_to(&answer, client).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, shared: Arc<Shared>) {
    let slots = Arc::new(Semaphore::new(TCP_CONNECTION_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _closed = converse(stream, &shared).await;
            drop(slot);
        });
    }
}

/// RFC 7766 §6.2.1: several questions may use one connection.
async fn converse(mut stream: TcpStream, shared: &Shared) -> io::Result<()> {
    if locked(&shared.path).contains(&PathFault::BlockTcp) {
        return Ok(());
    }
    loop {
        let length = timeout(TCP_IDLE, stream.read_u16()).await??;
        let mut question = vec![0; usize::from(length)];
        timeout(TCP_IDLE, stream.read_exact(&mut question)).await??;
        if let Some(answer) = shared.respond(&question, Transport::Tcp) {
            let mut framed = u16::try_from(answer.len()).map_err(bad)?.to_be_bytes().to_vec();
            framed.extend_from_slice(&answer);
            stream.write_all(&framed).await?;
        }
    }
}

impl Shared {
    /// The bytes of the answer; none when there shall be silence or the question is no question.
    fn respond(&self, question: &[u8], transport: Transport) -> Option<Vec<u8>> {
        let request = Message::from_vec(question).ok()?;
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut reply = skeleton(&request);
        let [query] = request.queries.as_slice() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return reply.to_vec().ok();
        };
        let (name, rtype) = (query.name().to_lowercase(), query.query_type());
        *locked(&self.asked).entry((name.clone(), rtype)).or_insert(0) += 1;
        let answer =
            if request.metadata.op_code == OpCode::Query { self.world.answer(&name, rtype).ok() } else { None };
        let answer = answer.unwrap_or_else(|| Answer::failure(ResponseCode::ServFail));
        match (answer.delivery, transport) {
            (Delivery::Silent, _) | (Delivery::SilentOverUdp, Transport::Udp) => return None,
            (Delivery::TruncatedOverUdp, Transport::Udp) => return reply.truncate().to_vec().ok(),
            (Delivery::Normal, _) | (Delivery::SilentOverUdp | Delivery::TruncatedOverUdp, Transport::Tcp) => {}
        }
        answer.fill(&mut reply);
        self.through_path(&request, reply, rtype, transport)
    }

    fn through_path(
        &self,
        request: &Message,
        reply: Message,
        rtype: RecordType,
        transport: Transport,
    ) -> Option<Vec<u8>> {
        let path = locked(&self.path).clone();
        let strip = path.contains(&PathFault::StripDnssec);
        let wants_dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let mut reply = reply.maybe_strip_dnssec_records(wants_dnssec && !strip);
        if path.contains(&PathFault::ServFail) {
            reply = skeleton(request);
            reply.metadata.response_code = ResponseCode::ServFail;
        }
        let mut wire = reply.to_vec().ok()?;
        let room = request.edns.as_ref().map_or(PLAIN_PAYLOAD, Edns::max_payload);
        let room = usize::from(room.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD_LIMIT));
        let tlsa = reply.answers.iter().filter(|record| record.record_type() == RecordType::TLSA).count();
        if transport == Transport::Udp && wire.len() > room {
            wire = reply.truncate().to_vec().ok()?;
        }
        let dropped = path.iter().any(|fault| match fault {
            PathFault::DropTlsaOver(most) => tlsa > *most,
            PathFault::DropType(what) => *what == rtype,
            PathFault::DropOver(most) => wire.len() > *most,
            PathFault::DropEdns => request.edns.is_some(),
            PathFault::DropAll => true,
            PathFault::StripDnssec | PathFault::BlockTcp | PathFault::ServFail => false,
        });
        if dropped { None } else { Some(wire) }
    }
}

/// The answer's header, question and OPT record, as the request wants them.
fn skeleton(request: &Message) -> Message {
    let mut reply = Message::response(request.metadata.id, request.metadata.op_code);
    reply.metadata = Metadata::response_from_request(&request.metadata);
    reply.metadata.recursion_available = true;
    reply.add_queries(request.queries.iter().cloned());
    if let Some(asked) = &request.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD).set_version(0).set_dnssec_ok(asked.flags().dnssec_ok);
        reply.set_edns(edns);
    }
    reply
}
