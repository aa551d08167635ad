//! A domain with its record and its policy host, for the tests of this folder: the DNS by hand,
//! the host with real TLS on loopback (RFC 8461 §3).
#![expect(clippy::disallowed_methods, reason = "a policy host listens, and authorities are read from a file")]

use super::driver::{StsClient, StsPaths};
use super::event::{StsEvent, StsListener};
use super::memory::Held;
use crate::clock::Clock;
use crate::config::{Config, RootsSource, TrustedRoots};
use crate::net::Tcp;
use crate::outcome::{Cause, Question};
use crate::policy::testing::{Made, NOW, root};
use crate::resolve::Security;
use crate::resolve::answer::{Answer, Ask, Data, Freshness, PositiveAnswer, RecordType};
use crate::smtp::address::Domain;
use async_trait::async_trait;
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

pub(super) const POLICY: &str = "version: STSv1\nmode: enforce\nmx: *.a.test\nmax_age: 604800\n";

pub(super) fn domain(name: &str) -> Domain {
    name.parse().unwrap()
}

/// An answer of the policy host.
#[derive(Clone)]
pub(super) enum HttpReply {
    /// These octets, then the end.
    Octets(Vec<u8>),
    /// One octet after the other, never ending.
    Drip,
    /// Chunks without end.
    Endless,
    /// Nothing at all.
    Silence,
}

/// 200 with a policy.
pub(super) fn ok(policy: &str) -> HttpReply {
    reply("200 OK", "Content-Type: text/plain\r\n", policy)
}

pub(super) fn reply(status: &str, fields: &str, body: &str) -> HttpReply {
    let head = format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\n\r\n", body.len());
    HttpReply::Octets([head.as_bytes(), body.as_bytes()].concat())
}

/// A policy host; it ends when it is dropped.
pub(super) struct StsHost {
    pub(super) port: u16,
    shared: Arc<HostState>,
    _serving: AbortOnDropHandle<()>,
}

struct HostState {
    reply: Mutex<HttpReply>,
    /// SNI and head of every request.
    requests: Mutex<Vec<(Option<String>, String)>>,
}

impl StsHost {
    /// On any port of this address.
    pub(super) async fn start(address: IpAddr, identity: &Made, reply: HttpReply) -> std::io::Result<Self> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(identity.key.serialize_der()));
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![identity.der.clone().into()], key)
            .unwrap();
        let listener = TcpListener::bind((address, 0)).await?;
        let port = listener.local_addr()?.port();
        let shared = Arc::new(HostState { reply: Mutex::new(reply), requests: Mutex::default() });
        let serving = tokio::spawn(accept(listener, TlsAcceptor::from(Arc::new(tls)), Arc::clone(&shared)));
        Ok(Self { port, shared, _serving: AbortOnDropHandle::new(serving) })
    }

    pub(super) fn say(&self, reply: HttpReply) {
        *self.shared.reply.lock().unwrap() = reply;
    }

    pub(super) fn requests(&self) -> Vec<(Option<String>, String)> {
        self.shared.requests.lock().unwrap().clone()
    }

    pub(super) fn gets(&self) -> usize {
        self.requests().len()
    }
}

async fn accept(listener: TcpListener, tls: TlsAcceptor, shared: Arc<HostState>) {
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((tcp, _from)) = listener.accept().await {
        let (tls, shared) = (tls.clone(), Arc::clone(&shared));
        // A client that does not like the certificate goes away.
        connections.spawn(async move { _ = serve(tcp, tls, shared).await });
    }
}

async fn serve(tcp: TcpStream, tls: TlsAcceptor, shared: Arc<HostState>) -> std::io::Result<()> {
    let mut stream = tls.accept(tcp).await?;
    let name = stream.get_ref().1.server_name().map(str::to_owned);
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    shared.requests.lock().unwrap().push((name, String::from_utf8(head).unwrap()));
    let reply = shared.reply.lock().unwrap().clone();
    match reply {
        HttpReply::Octets(octets) => {
            stream.write_all(&octets).await?;
            stream.shutdown().await
        }
        HttpReply::Drip => {
            stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 60000\r\n\r\n").await?;
            loop {
                stream.write_all(b"a").await?;
                stream.flush().await?;
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        HttpReply::Endless => {
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n")
                .await?;
            loop {
                stream.write_all(b"8\r\na: bcde\n\r\n").await?;
            }
        }
        HttpReply::Silence => std::future::pending().await,
    }
}

/// The DNS by hand, and what was asked.
#[derive(Default)]
pub(super) struct StsZone {
    answers: Mutex<BTreeMap<(String, &'static str), Answer>>,
    asked: Mutex<Vec<(String, Freshness)>>,
}

impl StsZone {
    pub(super) fn set(&self, name: &str, record_type: RecordType, answer: Answer) {
        self.answers.lock().unwrap().insert((name.to_owned(), record_type.word()), answer);
    }

    pub(super) fn announce(&self, domain: &str, record: &str) {
        let data = vec![Data::Txt(record.as_bytes().to_vec())];
        self.set(&format!("_mta-sts.{domain}"), RecordType::Txt, found(data));
    }

    pub(super) fn address(&self, host: &str, address: IpAddr) {
        let record_type = if address.is_ipv4() { RecordType::A } else { RecordType::Aaaa };
        self.set(host, record_type, found(vec![Data::Address(address)]));
    }

    pub(super) fn withdraw(&self, domain: &str) {
        self.set(&format!("_mta-sts.{domain}"), RecordType::Txt, Answer::NxDomain(Security::Secure));
    }

    pub(super) fn asked(&self) -> Vec<(String, Freshness)> {
        self.asked.lock().unwrap().clone()
    }
}

pub(super) fn found(data: Vec<Data>) -> Answer {
    Answer::Found(PositiveAnswer { security: Security::Insecure, expanded: None, first_alias: None, data })
}

pub(super) fn failed(name: &str, bogus: Option<&str>) -> Answer {
    let question = Question { name: name.to_owned(), record_type: "TXT".to_owned() };
    Answer::Failed(match bogus {
        Some(detail) => Cause::DnsBogus { question, detail: detail.to_owned() },
        None => Cause::DnsUnavailable { question, tried: Vec::new() },
    })
}

#[async_trait]
impl Ask for StsZone {
    async fn ask(&self, name: &str, record_type: RecordType, freshness: Freshness) -> Answer {
        self.asked.lock().unwrap().push((format!("{name} {}", record_type.word()), freshness));
        let answer = self.answers.lock().unwrap().get(&(name.to_owned(), record_type.word())).cloned();
        answer.unwrap_or(Answer::NxDomain(Security::Insecure))
    }
}

/// A domain `a.test` that announces a policy with the id 1 and serves it, and whoever asks.
pub(super) struct StsWorld {
    pub(super) zone: Arc<StsZone>,
    pub(super) host: StsHost,
    pub(super) clock: Clock,
    pub(super) config: Config,
    /// As long as the authorities are needed.
    _folder: TempDir,
    pub(super) events: Arc<Mutex<Vec<String>>>,
}

impl StsWorld {
    pub(super) async fn new() -> Self {
        Self::at([127, 0, 0, 1].into()).await.unwrap()
    }

    /// With a policy host at another address.
    pub(super) async fn at(address: IpAddr) -> std::io::Result<Self> {
        let ca = root("public authority");
        let identity = ca.leaf(&["mta-sts.a.test", "mta-sts.b.test"]);
        Ok(Self::of(StsHost::start(address, &identity, ok(POLICY)).await?, &ca, address))
    }

    /// With another certificate of the policy host.
    pub(super) async fn with(ca: &Made, identity: &Made) -> Self {
        let address = [127, 0, 0, 1].into();
        Self::of(StsHost::start(address, identity, ok(POLICY)).await.unwrap(), ca, address)
    }

    fn of(host: StsHost, ca: &Made, address: IpAddr) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = folder.path().join("roots.pem");
        std::fs::write(&roots, pem(&ca.der)).unwrap();
        let mut config = Config::default();
        config.spool.path = folder.path().join("spool");
        std::fs::create_dir(&config.spool.path).unwrap();
        config.tls.roots = RootsSource::File(roots);
        config.mta_sts.port = host.port;
        config.delivery.allow_loopback = true;
        let zone = Arc::new(StsZone::default());
        zone.announce("a.test", "v=STSv1; id=1;");
        zone.address("mta-sts.a.test", address);
        let clock = Clock::manual(NOW);
        Self { zone, host, clock, config, _folder: folder, events: Arc::default() }
    }

    /// A relay that has just started.
    pub(super) fn client(&self) -> StsClient {
        let events = Arc::clone(&self.events);
        let listener: StsListener = Arc::new(move |event| events.lock().unwrap().push(line(event)));
        let zone = Arc::clone(&self.zone) as Arc<dyn Ask>;
        let roots = TrustedRoots::read(&self.config.tls.roots).unwrap();
        let paths = StsPaths { dns: zone, network: Arc::new(Tcp), clock: self.clock.clone() };
        StsClient::new(&self.config, &roots, paths, listener)
    }

    pub(super) fn events(&self) -> Vec<String> {
        self.events.lock().unwrap().drain(..).collect()
    }
}

fn line(event: &StsEvent<'_>) -> String {
    match event {
        StsEvent::Fetched { policy } => format!("fetched {}", policy.domain),
        StsEvent::FetchFailed { domain, failure, kept } => {
            let kept = match kept {
                Held::Policy(policy) => policy.terms.mode.word(),
                Held::Lost(_) => "what is lost",
                Held::Nothing => "nothing",
            };
            format!("failed {domain} {} kept {kept}", failure.result_type())
        }
        StsEvent::StoreFailed { fault } => format!("store {fault}"),
    }
}

fn pem(der: &[u8]) -> String {
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let group = |three: &[u8]| {
        let bits = (0..3).fold(0_u32, |bits, n| bits << 8 | u32::from(three.get(n).copied().unwrap_or(0)));
        let sextet = |n: usize| char::from(alphabet[(bits >> (18 - 6 * n) & 63) as usize]);
        (0..4).map(|n| if n <= three.len() { sextet(n) } else { '=' }).collect::<String>()
    };
    let lines: Vec<String> = der.chunks(48).map(|line| line.chunks(3).map(group).collect()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}
