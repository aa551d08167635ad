//! A policy host of the lab: `https://mta-sts.<domain>/.well-known/mta-sts.txt`
//! (RFC 8461 §3.3).
//!
//! It speaks HTTP/1.1 with one request a connection, answers what its [`PolicyAnswer`] says, and
//! remembers who asked for what. Answer and certificate may change while it runs, and it can be
//! switched off and on. It can be reached by its socket or by any stream.

#![expect(
    clippy::disallowed_methods,
    reason = "this file is the driver of the lab's policy hosts: it listens on loopback"
)]

use crate::lab::mx::wire::Wire;
use crate::lab::sockets::Sockets;
use crate::lab::sts::spec::{PolicyAnswer, PolicyHostManner};
use crate::lab::{bad, locked};
use crate::net::Stream;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

/// Where a policy lies (RFC 8461 §3.3).
pub(crate) const PATH: &str = "/.well-known/mta-sts.txt";
/// Connections at once: more than any relay opens to one host.
const CONNECTION_LIMIT: usize = 128;
/// Requests remembered; later ones are answered and not remembered.
const REQUEST_LIMIT: usize = 10_000;
/// The most lines of a request's head.
const HEAD_LINES_LIMIT: usize = 100;
/// How long a handshake and the reading of a request may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long a hanging host hangs; any client of a test has given up by then.
const HANG: Duration = Duration::from_secs(600);

/// A request as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyRequest {
    /// The name the client asked for in the handshake (RFC 6066 §3).
    pub sni: Option<String>,
    /// `GET`.
    pub method: String,
    /// What was asked for.
    pub path: String,
    /// All header fields in their order, names in lower case.
    pub headers: Vec<(String, String)>,
}

impl PolicyRequest {
    /// The value of the first header field of this name, which is given in lower case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }
}

#[derive(Debug)]
struct PolicyHostState {
    answer: Mutex<PolicyAnswer>,
    config: Mutex<Arc<ServerConfig>>,
    connections: AtomicUsize,
    requests: watch::Sender<Vec<PolicyRequest>>,
}

impl PolicyHostState {
    fn new(config: Arc<ServerConfig>, answer: PolicyAnswer) -> Self {
        Self {
            answer: Mutex::new(answer),
            config: Mutex::new(config),
            connections: AtomicUsize::new(0),
            requests: watch::Sender::new(Vec::new()),
        }
    }
}

/// Whether anyone answers.
#[derive(Debug)]
enum ListenerState {
    /// With the listener, where there is one.
    Open(Option<AbortOnDropHandle<()>>),
    Closed,
}

/// A running policy host; it stops when it is dropped.
#[derive(Debug)]
pub struct PolicyHost {
    name: String,
    address: SocketAddr,
    shared: Arc<PolicyHostState>,
    sockets: Sockets,
    door: Mutex<ListenerState>,
}

impl PolicyHost {
    /// Starts a host. Port 0 lets the system choose.
    ///
    /// # Errors
    /// When the address is taken.
    pub async fn start(
        name: &str,
        address: SocketAddr,
        config: Arc<ServerConfig>,
        answer: PolicyAnswer,
    ) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        let shared = Arc::new(PolicyHostState::new(config, answer));
        let address = listener.local_addr()?;
        let task = AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&shared))));
        let door = Mutex::new(ListenerState::Open(Some(task)));
        Ok(Self { name: name.to_owned(), address, shared, sockets: Sockets::Bound, door })
    }

    /// A host that nobody reaches but by [`PolicyHost::serve_stream`]. Its address is only a name.
    #[must_use]
    pub fn without_socket(name: &str, address: SocketAddr, config: Arc<ServerConfig>, answer: PolicyAnswer) -> Self {
        let shared = Arc::new(PolicyHostState::new(config, answer));
        let door = Mutex::new(ListenerState::Open(None));
        Self { name: name.to_owned(), address, shared, sockets: Sockets::None, door }
    }

    /// The host name, `mta-sts.<domain>`.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the answer, from the next request on.
    pub fn behave(&self, change: impl FnOnce(&mut PolicyAnswer)) {
        change(&mut locked(&self.shared.answer));
    }

    /// Changes what it shows in the handshake, from the next connection on.
    pub fn set_config(&self, config: Arc<ServerConfig>) {
        *locked(&self.shared.config) = config;
    }

    /// Stops listening: connections are refused from now on, and those that are open end, but not
    /// those by other streams.
    pub async fn switch_off(&self) {
        let door = std::mem::replace(&mut *locked(&self.door), ListenerState::Closed);
        if let ListenerState::Open(Some(task)) = door {
            task.abort();
            let _cancelled = task.await;
        }
    }

    /// Whether it is switched on, for whoever brings clients by other streams.
    #[must_use]
    pub fn is_on(&self) -> bool {
        matches!(&*locked(&self.door), ListenerState::Open(_))
    }

    /// Serves one connection to its end, past the socket and whether the host is switched on.
    ///
    /// # Errors
    /// What spoilt it.
    pub async fn serve_stream(&self, stream: impl Stream + 'static) -> io::Result<()> {
        self.shared.connections.fetch_add(1, Ordering::SeqCst);
        connection(stream, &self.shared).await
    }

    /// Listens again.
    ///
    /// # Errors
    /// When somebody else has taken the address.
    pub async fn switch_on(&self) -> io::Result<()> {
        self.switch_off().await;
        let task = match self.sockets {
            Sockets::None => None,
            Sockets::Bound => {
                let listener = TcpListener::bind(self.address).await?;
                Some(AbortOnDropHandle::new(tokio::spawn(serve(listener, Arc::clone(&self.shared)))))
            }
        };
        *locked(&self.door) = ListenerState::Open(task);
        Ok(())
    }

    /// How many connections were made so far, with and without a request.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.shared.connections.load(Ordering::SeqCst)
    }

    /// The requests so far, in their order.
    #[must_use]
    pub fn requests(&self) -> Vec<PolicyRequest> {
        self.shared.requests.borrow().clone()
    }

    /// Waits until `count` requests in all have come, and gives them.
    ///
    /// # Errors
    /// [`io::ErrorKind::TimedOut`], with the number there was, when `within` ends first.
    pub async fn wait_for_requests(&self, count: usize, within: Duration) -> io::Result<Vec<PolicyRequest>> {
        let mut requests = self.shared.requests.subscribe();
        let enough = timeout(within, requests.wait_for(|there| there.len() >= count)).await.is_ok();
        let there = self.requests();
        if enough {
            return Ok(there);
        }
        let text = format!("{} of {count} requests came to {}", there.len(), self.name);
        Err(io::Error::new(io::ErrorKind::TimedOut, text))
    }
}

async fn serve(listener: TcpListener, shared: Arc<PolicyHostState>) {
    let slots = Arc::new(Semaphore::new(CONNECTION_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        shared.connections.fetch_add(1, Ordering::SeqCst);
        let shared = Arc::clone(&shared);
        connections.spawn(async move {
            let _ended = connection(stream, &shared).await;
            drop(slot);
        });
    }
}

async fn connection(stream: impl Stream + 'static, shared: &PolicyHostState) -> io::Result<()> {
    let manner = locked(&shared.answer).manner.clone();
    match manner {
        PolicyHostManner::HangInHandshake => sleep(HANG).await,
        PolicyHostManner::NoHandshake => return Ok(()),
        PolicyHostManner::Whole
        | PolicyHostManner::Chunked
        | PolicyHostManner::Endless
        | PolicyHostManner::Drip(_)
        | PolicyHostManner::CutAfter(_)
        | PolicyHostManner::TruncatedAfter(_)
        | PolicyHostManner::Hang => {}
    }
    let acceptor = TlsAcceptor::from(Arc::clone(&*locked(&shared.config)));
    let stream = timeout(PATIENCE, acceptor.accept(stream)).await??;
    let sni = stream.get_ref().1.server_name().map(str::to_owned);
    let mut wire = Wire::new(stream);
    let request = timeout(PATIENCE, read_request(&mut wire, sni)).await??;
    let mut answer = locked(&shared.answer).clone();
    if request.method != "GET" || request.path != PATH {
        answer =
            PolicyAnswer { status: 404, body: b"not here\r\n".to_vec(), manner: PolicyHostManner::Whole, ..answer };
    }
    shared.requests.send_modify(|all| {
        if all.len() < REQUEST_LIMIT {
            all.push(request);
        }
    });
    sleep(answer.delay).await;
    respond(&mut wire, &answer).await
}

async fn read_request(wire: &mut Wire, sni: Option<String>) -> io::Result<PolicyRequest> {
    let first = text_line(wire).await?;
    let mut words = first.split(' ');
    let (method, path) = (words.next().unwrap_or_default().to_owned(), words.next().unwrap_or_default().to_owned());
    let mut headers = Vec::new();
    for _ in 0..HEAD_LINES_LIMIT {
        let line = text_line(wire).await?;
        if line.is_empty() {
            return Ok(PolicyRequest { sni, method, path, headers });
        }
        let (name, value) = line.split_once(':').ok_or_else(|| bad("a header field without a colon"))?;
        headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Err(bad("the head of the request is too long"))
}

async fn text_line(wire: &mut Wire) -> io::Result<String> {
    let line = wire.line().await?;
    if !line.ends_with(b"\n") {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(String::from_utf8(line).map_err(bad)?.trim_end().to_owned())
}

async fn respond(wire: &mut Wire, answer: &PolicyAnswer) -> io::Result<()> {
    let fields =
        answer.headers.iter().fold(String::new(), |fields, (name, value)| format!("{fields}{name}: {value}\r\n"));
    let head = |framing: &str| format!("HTTP/1.1 {} lab\r\nConnection: close\r\n{fields}{framing}\r\n", answer.status);
    let (body, with_length) = (&answer.body, head(&format!("Content-Length: {}\r\n", answer.body.len())));
    let chunked = head("Transfer-Encoding: chunked\r\n");
    match &answer.manner {
        PolicyHostManner::Whole => wire.write(&[with_length.as_bytes(), body].concat()).await?,
        PolicyHostManner::Chunked => wire.write(&[chunked.as_bytes(), &chunk(body), b"0\r\n\r\n"].concat()).await?,
        PolicyHostManner::Endless => {
            wire.write(chunked.as_bytes()).await?;
            let piece = if body.is_empty() { chunk(b"\r\n") } else { chunk(body) };
            // Ends with an error when the client leaves.
            loop {
                wire.write(&piece).await?;
            }
        }
        PolicyHostManner::Drip(pause) => {
            wire.write(with_length.as_bytes()).await?;
            for octet in body {
                sleep(*pause).await;
                wire.write(&[*octet]).await?;
            }
        }
        PolicyHostManner::CutAfter(octets) => {
            wire.write(&[with_length.as_bytes(), body.get(..*octets).unwrap_or(body)].concat()).await?;
        }
        PolicyHostManner::TruncatedAfter(octets) => {
            // Dropped and not closed: TLS says no farewell.
            return wire.write(&[head("").as_bytes(), body.get(..*octets).unwrap_or(body)].concat()).await;
        }
        PolicyHostManner::Hang | PolicyHostManner::HangInHandshake | PolicyHostManner::NoHandshake => sleep(HANG).await,
    }
    wire.close().await
}

fn chunk(body: &[u8]) -> Vec<u8> {
    if body.is_empty() {
        return Vec::new();
    }
    [format!("{:x}\r\n", body.len()).as_bytes(), body, b"\r\n"].concat()
}
