//! Encrypted fronts of the lab's DNS server: DoT (RFC 7858) and DoH over HTTP/2 (RFC 8484).
//!
//! They answer as the server behind them does and count their questions with its own. The
//! certificate is the lab authority's, for one name: a client must be told both.

#![expect(clippy::disallowed_methods, reason = "this file is a driver of the lab: it listens on loopback")]

use super::boxes::LabTransport;
use super::responder::Responder;
use crate::lab::bad;
use crate::lab::dns::server::{DnsServer, TCP_CONNECTION_LIMIT, converse};
use crate::lab::tls::ca::Authority;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// The name in the certificate of every front.
pub const SERVER_NAME: &str = "dns.lab.test";
/// The path of DoH (RFC 8484 §4.1 uses it in its examples).
pub const PATH: &str = "/dns-query";
/// The media type of a DNS message (RFC 8484 §6).
const MEDIA_TYPE: &str = "application/dns-message";
/// The largest question; a DNS message over TCP can be no larger.
const QUESTION_LIMIT: usize = 65_535;
/// How long a handshake, and a whole connection of DoH between two questions, may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a front speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FrontKind {
    /// DNS over TLS.
    Tls,
    /// DNS over HTTPS.
    Https,
}

impl FrontKind {
    fn transport(self) -> LabTransport {
        match self {
            Self::Tls => LabTransport::Tls,
            Self::Https => LabTransport::Https,
        }
    }

    /// The protocol's name in ALPN (RFC 7858 §3.1 names none; `dot` is IANA's).
    fn alpn(self) -> &'static [u8] {
        match self {
            Self::Tls => b"dot",
            Self::Https => b"h2",
        }
    }
}

/// A running front; it stops when it is dropped.
#[derive(Debug)]
pub struct Front {
    kind: FrontKind,
    address: SocketAddr,
    _task: AbortOnDropHandle<()>,
}

impl Front {
    /// Starts a front of `server` on 127.0.0.1 with a port that the system chooses.
    ///
    /// # Errors
    /// When no socket or certificate can be had.
    pub async fn start(kind: FrontKind, server: &DnsServer, authority: &Authority) -> io::Result<Self> {
        let mut config = rustls::ServerConfig::clone(&*authority.issue(&[SERVER_NAME])?.server_config()?);
        config.alpn_protocols = vec![kind.alpn().to_vec()];
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let task = tokio::spawn(serve(kind, listener, acceptor, server.responder()));
        Ok(Self { kind, address, _task: AbortOnDropHandle::new(task) })
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address as the configuration writes an upstream.
    #[must_use]
    pub fn upstream(&self) -> String {
        match self.kind {
            FrontKind::Tls => format!("tls://{}#{SERVER_NAME}", self.address),
            FrontKind::Https => format!("https://{}{PATH}#{SERVER_NAME}", self.address),
        }
    }
}

async fn serve(kind: FrontKind, listener: TcpListener, acceptor: TlsAcceptor, responder: Arc<Responder>) {
    let slots = Arc::new(Semaphore::new(TCP_CONNECTION_LIMIT));
    let mut connections = JoinSet::new();
    loop {
        let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
        let Ok((stream, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        let (acceptor, responder) = (acceptor.clone(), Arc::clone(&responder));
        connections.spawn(async move {
            let _closed = connection(kind, stream, acceptor, responder).await;
            drop(slot);
        });
    }
}

async fn connection(
    kind: FrontKind,
    stream: TcpStream,
    acceptor: TlsAcceptor,
    responder: Arc<Responder>,
) -> io::Result<()> {
    if crate::lab::locked(&responder.boxes).closes(kind.transport()) {
        return Ok(());
    }
    let stream = timeout(PATIENCE, acceptor.accept(stream)).await??;
    match kind {
        FrontKind::Tls => converse(stream, &responder, LabTransport::Tls).await,
        FrontKind::Https => requests(stream, responder).await,
    }
}

async fn requests(stream: TlsStream<TcpStream>, responder: Arc<Responder>) -> io::Result<()> {
    let mut connection = timeout(PATIENCE, h2::server::handshake(stream)).await?.map_err(bad)?;
    let mut exchanges = JoinSet::new();
    // The connection does its work while it waits for the next request.
    while let Some(accepted) = timeout(PATIENCE, connection.accept()).await? {
        let (request, respond) = accepted.map_err(bad)?;
        let responder = Arc::clone(&responder);
        exchanges.spawn(async move {
            let _reset = exchange(request, respond, &responder).await;
        });
    }
    Ok(())
}

/// RFC 8484 §4: the question is the body of a POST; nobody here needs GET.
async fn exchange(
    request: Request<h2::RecvStream>,
    mut respond: SendResponse<Bytes>,
    responder: &Responder,
) -> io::Result<()> {
    let mut response = Response::new(());
    if request.uri().path() != PATH || request.method() != Method::POST {
        *response.status_mut() = StatusCode::NOT_FOUND;
        respond.send_response(response, true).map_err(bad)?;
        return Ok(());
    }
    let question = body(request.into_body()).await?;
    let Some(answer) = responder.respond(&question, LabTransport::Https) else {
        // Silence means that the request stays open, as with a box that drops the answer.
        std::future::pending::<()>().await;
        return Ok(());
    };
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
    response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(answer.len()));
    let mut stream = respond.send_response(response, false).map_err(bad)?;
    stream.send_data(answer.into(), true).map_err(bad)
}

async fn body(mut stream: h2::RecvStream) -> io::Result<Bytes> {
    let mut question = BytesMut::new();
    while let Some(piece) = timeout(PATIENCE, stream.data()).await? {
        let piece = piece.map_err(bad)?;
        if question.len() + piece.len() > QUESTION_LIMIT {
            return Err(bad("the question is too long"));
        }
        stream.flow_control().release_capacity(piece.len()).map_err(bad)?;
        question.extend_from_slice(&piece);
    }
    Ok(question.freeze())
}
