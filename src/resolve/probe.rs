//! Single raw questions over one way to the DNS, to find out what that way lets pass: `relay
//! check` asks them, delivery never does.
//!
//! Each states its transport and its EDNS payload (RFC 6891 §6.2.3), is sent again once over UDP,
//! and comes to a [`ProbeResult`] whatever happens. Nothing is validated here and nothing kept: that an
//! answer came is the fact, and how many records it had.

#![expect(clippy::disallowed_methods, reason = "this driver asks servers past the paths of delivery")]

use super::dnssec::decode;
use super::error::DnsSetupError;
use super::paths::channel::Flags;
use super::paths::walk::Walk;
use super::paths::{FetchError, Path, setup};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DnsMode, Upstream};
use crate::outcome::Question;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData};
use hickory_proto::op::{Edns, Message, MessageType, Query, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};
use tokio::time::{Instant, timeout};

/// How long an answer is waited for where nothing depends on slower ones.
pub const BRIEF: Duration = Duration::from_millis(1300);
/// When a UDP question without an answer is sent again: one lost packet is no filter.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
/// How long the way from the root to a zone's servers may take to find.
const WALK_PATIENCE: Duration = Duration::from_secs(2);
/// The largest datagram that can come.
const DATAGRAM_BYTES: usize = 65_535;

/// How a question travels.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ProbeTransport {
    /// Datagrams.
    Udp,
    /// A connection in clear.
    Tcp,
    /// DNS over TLS or HTTPS: nobody on the way can read it.
    Encrypted,
}

/// What came of a question.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "result", content = "detail", rename_all = "kebab-case")]
pub enum ProbeReply {
    /// Records of the type.
    Records,
    /// The name has none.
    NoData,
    /// There is no such name.
    NxDomain,
    /// Too long for UDP; it has to be fetched over TCP.
    Truncated,
    /// Nothing came in time.
    Silence,
    /// No connection, or it was cut.
    NoConnection(String),
    /// The server says that it failed, or will not.
    ErrorCode(String),
    /// Something that is no answer.
    Nonsense(String),
}

/// One question and what came of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProbeResult {
    /// When it was sent.
    pub at: Timestamp,
    /// What was asked.
    pub question: Question,
    /// How the question travels.
    pub transport: ProbeTransport,
    /// The UDP payload that was offered; none without EDNS.
    pub edns: Option<u16>,
    /// The address and port it came from, where that is known.
    pub source: Option<SocketAddr>,
    /// Whom it went to.
    pub destination: Option<SocketAddr>,
    /// What came back.
    #[serde(flatten)]
    pub reply: ProbeReply,
    /// Records of the type asked for.
    pub records: usize,
    /// The whole answer, in octets.
    pub octets: usize,
    /// Whether signatures came with it.
    pub signed: bool,
    /// Whether the AD bit is set.
    pub authentic: bool,
    /// The tags of the keys that sign the keys of a zone (RFC 4034 §2.1.1), in an answer that has keys.
    #[serde(default)]
    pub key_tags: Vec<u16>,
    /// When the first of its signatures begins to hold and the first ends, in seconds since 1970.
    pub signatures: Option<(u32, u32)>,
    /// How long it took, in milliseconds.
    pub took_ms: u64,
}

/// What to ask.
#[derive(Clone, Debug)]
pub struct ProbeQuestion {
    /// The name.
    pub name: Name,
    /// The type.
    pub record_type: RecordType,
    /// How the question travels.
    pub transport: ProbeTransport,
    /// The UDP payload to offer; none for no EDNS, and then no DNSSEC records come either.
    pub edns: Option<u16>,
    /// How long the answer is waited for.
    pub within: Duration,
}

/// One server that can be asked.
pub struct Server {
    /// It in the words of the configuration: `udp://192.0.2.1:53`.
    pub name: String,
    way: ProbeWay,
    flags: Flags,
}

enum ProbeWay {
    Clear(SocketAddr),
    Encrypted(Arc<Path>, SocketAddr),
}

impl Server {
    /// Whether the questions travel encrypted.
    #[must_use]
    pub fn is_encrypted(&self) -> bool {
        matches!(self.way, ProbeWay::Encrypted(..))
    }

    /// How it is asked ordinarily.
    #[must_use]
    pub fn transport(&self) -> ProbeTransport {
        match self.way {
            ProbeWay::Clear(_) if self.name.starts_with("tcp://") => ProbeTransport::Tcp,
            ProbeWay::Clear(_) => ProbeTransport::Udp,
            ProbeWay::Encrypted(..) => ProbeTransport::Encrypted,
        }
    }

    /// Asks one question.
    pub async fn ask(&self, ask: &ProbeQuestion, clock: &Clock) -> ProbeResult {
        let started = Instant::now();
        let mut seen = ProbeResult::of(ask, clock.now());
        let request = request(ask, self.flags);
        let came = match &self.way {
            ProbeWay::Clear(server) => {
                seen.destination = Some(*server);
                clear(*server, ask, &request, &mut seen.source).await
            }
            ProbeWay::Encrypted(path, server) => {
                (seen.destination, seen.transport) = (Some(*server), ProbeTransport::Encrypted);
                let fetched = timeout(ask.within, path.fetch(&ask.name, ask.record_type, self.flags)).await;
                fetched.unwrap_or(Err(FetchError::TimedOut)).map_err(ProbeReply::from)
            }
        };
        match came {
            Ok(message) => seen.note(&message, ask.record_type),
            Err(reply) => seen.reply = reply,
        }
        seen.took_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
        seen
    }
}

/// The servers that the configuration asks; of `authoritative` none, see [`authorities`].
///
/// # Errors
/// When an upstream cannot be used.
pub fn servers(config: &Config, upstreams: &[Upstream]) -> Result<Vec<Server>, DnsSetupError> {
    let flags = match config.dns.mode {
        DnsMode::Validate => Flags::Validate,
        DnsMode::TrustAd => Flags::TrustAd,
    };
    let mut servers = Vec::new();
    for upstream in upstreams {
        let clear = |name: String, server| Server { name, way: ProbeWay::Clear(server), flags };
        match upstream {
            Upstream::System => {
                let system = setup::system_servers(&config.dns)?;
                servers.extend(system.into_iter().map(|server| clear(format!("system udp://{server}"), server)));
            }
            Upstream::Udp(server) | Upstream::Tcp(server) => servers.push(clear(upstream.to_string(), *server)),
            Upstream::Tls { server, .. } | Upstream::Https { server, .. } => {
                let mut alone = config.clone();
                alone.dns.upstreams = vec![upstream.clone()];
                for path in setup::Setup::new(&alone)?.paths()? {
                    let way = ProbeWay::Encrypted(path, *server);
                    servers.push(Server { name: upstream.to_string(), way, flags });
                }
            }
            Upstream::Authoritative => {}
        }
    }
    Ok(servers)
}

/// The name servers of the zone that `name` is in, found from the root down; at most `most`.
pub async fn authorities(config: &Config, name: &Name, most: usize) -> Vec<Server> {
    let walk = Walk::new(config.dns.root_hints.clone());
    // An address of the host: nothing that anybody filters.
    let _found = timeout(WALK_PATIENCE, walk.fetch(name, RecordType::A, &[])).await;
    let (zone, servers) = walk.servers_above(name);
    if zone.is_root() {
        return Vec::new();
    }
    let named = |server: &SocketAddr| Server {
        name: format!("server {server} of {}", zone.to_ascii().trim_end_matches('.')),
        way: ProbeWay::Clear(*server),
        flags: Flags::Authority,
    };
    servers.iter().take(most).map(named).collect()
}

fn request(ask: &ProbeQuestion, flags: Flags) -> Message {
    let mut message = Message::query();
    message.add_query(Query::query(ask.name.clone(), ask.record_type));
    message.metadata.recursion_desired = flags != Flags::Authority;
    message.metadata.checking_disabled = flags == Flags::Validate;
    message.metadata.authentic_data = flags == Flags::TrustAd;
    if let Some(payload) = ask.edns {
        let mut edns = Edns::new();
        edns.set_max_payload(payload).set_version(0).set_dnssec_ok(true);
        message.set_edns(edns);
    }
    message
}

async fn clear(
    server: SocketAddr,
    ask: &ProbeQuestion,
    request: &Message,
    source: &mut Option<SocketAddr>,
) -> Result<Message, ProbeReply> {
    let octets = request.to_vec().map_err(|error| ProbeReply::Nonsense(error.to_string()))?;
    let talk = async {
        match ask.transport {
            ProbeTransport::Udp => datagram(server, request, &octets, source).await,
            ProbeTransport::Tcp | ProbeTransport::Encrypted => stream(server, request, &octets, source).await,
        }
    };
    match timeout(ask.within, talk).await {
        Err(_elapsed) => Err(ProbeReply::Silence),
        Ok(Err(error)) => Err(ProbeReply::NoConnection(error.to_string())),
        Ok(Ok(answer)) => answer,
    }
}

type ProbeAnswer = Result<Message, ProbeReply>;

async fn datagram(
    server: SocketAddr,
    request: &Message,
    octets: &[u8],
    source: &mut Option<SocketAddr>,
) -> io::Result<ProbeAnswer> {
    let any: IpAddr = if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    // The system chooses a port nobody can guess (RFC 5452 §9.2).
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    *source = socket.local_addr().ok();
    socket.send(octets).await?;
    let mut sends_left = 1;
    let mut buffer = vec![0; DATAGRAM_BYTES];
    loop {
        let Ok(received) = timeout(AGAIN_AFTER, socket.recv(&mut buffer)).await else {
            if sends_left > 0 {
                sends_left -= 1;
                socket.send(octets).await?;
            }
            continue;
        };
        let came = buffer.get(..received?).unwrap_or_default();
        // Anything else may be forged, and the real answer may yet come.
        if let Ok(message) = decode(came)
            && answers(&message, request)
        {
            return Ok(Ok(message));
        }
    }
}

async fn stream(
    server: SocketAddr,
    request: &Message,
    octets: &[u8],
    source: &mut Option<SocketAddr>,
) -> io::Result<ProbeAnswer> {
    let mut stream = TcpStream::connect(server).await?;
    *source = stream.local_addr().ok();
    let mut framed = u16::try_from(octets.len()).unwrap_or(u16::MAX).to_be_bytes().to_vec();
    framed.extend_from_slice(octets);
    stream.write_all(&framed).await?;
    let length = stream.read_u16().await?;
    let mut came = vec![0; usize::from(length)];
    stream.read_exact(&mut came).await?;
    match decode(&came) {
        Ok(message) if answers(&message, request) => Ok(Ok(message)),
        Ok(_) => Ok(Err(ProbeReply::Nonsense("an answer to another question".into()))),
        Err(error) => Ok(Err(ProbeReply::Nonsense(error.to_string()))),
    }
}

/// RFC 5452 §9.1.
fn answers(message: &Message, request: &Message) -> bool {
    message.metadata.message_type == MessageType::Response
        && message.metadata.id == request.metadata.id
        && message.queries == request.queries
}

impl ProbeResult {
    fn of(ask: &ProbeQuestion, at: Timestamp) -> Self {
        let name = ask.name.to_ascii();
        let name = if name == "." { name } else { name.trim_end_matches('.').to_owned() };
        Self {
            at,
            question: Question { name, record_type: ask.record_type.to_string() },
            transport: ask.transport,
            edns: ask.edns,
            source: None,
            destination: None,
            reply: ProbeReply::Silence,
            records: 0,
            octets: 0,
            signed: false,
            authentic: false,
            key_tags: Vec::new(),
            signatures: None,
            took_ms: 0,
        }
    }

    fn note(&mut self, message: &Message, record_type: RecordType) {
        let windows: Vec<(u32, u32)> = message.all_sections().filter_map(|record| window(&record.data)).collect();
        self.records = message.answers.iter().filter(|record| record.record_type() == record_type).count();
        self.octets = message.to_vec().map_or(0, |octets| octets.len());
        self.signed = !windows.is_empty();
        self.signatures = windows.into_iter().reduce(|a, b| (a.0.max(b.0), a.1.min(b.1)));
        self.authentic = message.metadata.authentic_data;
        self.key_tags = message.answers.iter().filter_map(key_signing_tag).collect();
        let referral = !message.metadata.authoritative
            && message.answers.is_empty()
            && message.authorities.iter().any(|record| record.record_type() == RecordType::NS);
        let code = message.metadata.response_code;
        self.reply = if message.metadata.truncation {
            ProbeReply::Truncated
        } else if code == ResponseCode::NXDomain {
            ProbeReply::NxDomain
        } else if code != ResponseCode::NoError {
            ProbeReply::ErrorCode(code_word(code))
        } else if self.records > 0 {
            ProbeReply::Records
        } else if referral {
            ProbeReply::Nonsense("a referral instead of an answer".into())
        } else {
            ProbeReply::NoData
        };
    }

    /// Whether an answer came that answers.
    #[must_use]
    pub const fn answered(&self) -> bool {
        matches!(self.reply, ProbeReply::Records | ProbeReply::NoData | ProbeReply::NxDomain | ProbeReply::Truncated)
    }
}

/// The tag of a key that signs the keys of its zone, and is not revoked (RFC 4034 §2.1.1, RFC 5011 §2.1).
pub(crate) fn key_signing_tag(record: &Record) -> Option<u16> {
    let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &record.data else { return None };
    if key.secure_entry_point() && !key.revoke() { DNSKEY::calculate_key_tag(key).ok() } else { None }
}

fn window(data: &RData) -> Option<(u32, u32)> {
    if let RData::DNSSEC(DNSSECRData::RRSIG(signature)) = data {
        let input = signature.input();
        return Some((input.sig_inception.get(), input.sig_expiration.get()));
    }
    None
}

/// The short words that everybody knows for the two that are common.
fn code_word(code: ResponseCode) -> String {
    if code == ResponseCode::ServFail {
        "SERVFAIL".to_owned()
    } else if code == ResponseCode::Refused {
        "REFUSED".to_owned()
    } else {
        code.to_str().to_owned()
    }
}

impl From<FetchError> for ProbeReply {
    fn from(fault: FetchError) -> Self {
        match fault {
            FetchError::TimedOut => Self::Silence,
            FetchError::Code(code) => Self::ErrorCode(code_word(code)),
            other @ (FetchError::Truncated(_)
            | FetchError::Stripped
            | FetchError::Bogus(_)
            | FetchError::Incomplete(_)
            | FetchError::NotValidating
            | FetchError::Broken(_)) => Self::NoConnection(other.to_string()),
        }
    }
}
