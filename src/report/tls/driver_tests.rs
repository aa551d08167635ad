//! What a host that takes reports may and may not do (RFC 8460 §3, §5.4), over real sockets and real TLS.
#![expect(clippy::disallowed_methods, reason = "a host that takes reports listens")]

use super::*;
use crate::config::DeliveryConfig;
use crate::net::{Stream, Tcp};
use crate::report::tls::ReportUri;
use crate::resolve::Security;
use crate::resolve::answer::{Answer, Data, Freshness, PositiveAnswer, RecordType};
use async_trait::async_trait;
use rcgen::{CertificateParams, KeyPair};
use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::PrivateKeyDer;
use std::io;
use std::net::SocketAddr;
use std::sync::Mutex;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;
use tokio_util::task::AbortOnDropHandle;

const PACKED: &[u8] = b"\x1f\x8b packed";

/// Knows one address for every name.
struct OneAddress(IpAddr);

#[async_trait]
impl Ask for OneAddress {
    async fn ask(&self, _name: &str, record_type: RecordType, _freshness: Freshness) -> Answer {
        let fits = matches!((record_type, self.0), (RecordType::A, IpAddr::V4(_)) | (RecordType::Aaaa, IpAddr::V6(_)));
        let data = vec![Data::Address(self.0)];
        match fits {
            true => {
                Answer::Found(PositiveAnswer { security: Security::Insecure, expanded: None, first_alias: None, data })
            }
            false => Answer::NoData(Security::Insecure),
        }
    }
}

/// A request that came, its head in small letters.
struct TakenReport {
    head: String,
    body: Vec<u8>,
}

/// A host that takes reports, with a certificate that nobody vouches for, of another name and long expired.
struct Taker {
    port: u16,
    requests: Arc<Mutex<Vec<TakenReport>>>,
    _serving: AbortOnDropHandle<()>,
}

impl Taker {
    /// Says this after each request; nothing at all where it is empty.
    async fn says(reply: &'static str) -> Self {
        let mut params = CertificateParams::new(vec!["other.test".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2001, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let tls = ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], PrivateKeyDer::Pkcs8(key.serialize_der().into()))
            .unwrap();
        let (acceptor, listener) = (TlsAcceptor::from(Arc::new(tls)), TcpListener::bind("127.0.0.1:0").await.unwrap());
        let port = listener.local_addr().unwrap().port();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&requests);
        let serving = tokio::spawn(async move {
            while let Ok((tcp, _from)) = listener.accept().await {
                let Ok(stream) = acceptor.accept(tcp).await else { continue };
                let _goes_away = serve(stream, reply, &kept).await;
            }
        });
        Self { port, requests, _serving: AbortOnDropHandle::new(serving) }
    }

    async fn gets(&self, config: &DeliveryConfig, deadline: Duration) -> Result<(), PostError> {
        post(config, [127, 0, 0, 1].into(), self.port, deadline).await
    }
}

async fn serve(mut stream: impl Stream, reply: &'static str, kept: &Mutex<Vec<TakenReport>>) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
    let length = head.split("content-length: ").nth(1).and_then(|rest| rest.lines().next()).unwrap().parse().unwrap();
    let mut body = vec![0; length];
    stream.read_exact(&mut body).await?;
    kept.lock().unwrap().push(TakenReport { head, body });
    if reply.is_empty() {
        return std::future::pending().await;
    }
    stream.write_all(reply.as_bytes()).await?;
    stream.shutdown().await
}

/// To a host at an address.
async fn post(config: &DeliveryConfig, at: IpAddr, port: u16, deadline: Duration) -> Result<(), PostError> {
    let mut poster = ReportPoster::new(config, Arc::new(Tcp), &Clock::system()).unwrap();
    poster.deadline = deadline;
    let uri: ReportUri = format!("https://reports.a.test:{port}/v1/tls?x=y").parse().unwrap();
    let ReportUri::Https(url) = uri else { panic!("{uri}") };
    poster.post(&OneAddress(at), &url, Bytes::from_static(PACKED)).await
}

fn here() -> DeliveryConfig {
    DeliveryConfig { allow_loopback: true, ..DeliveryConfig::default() }
}

const PATIENT: Duration = Duration::from_secs(20);

#[tokio::test]
async fn rfc8460_5_4_p15_a_report_is_posted_and_any_success_is_one_under_any_certificate() {
    for reply in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n",
        "HTTP/1.1 202 Accepted\r\nContent-Length: 100000000\r\n\r\nthat never comes",
        "HTTP/1.1 204 No Content\r\n\r\n",
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
    ] {
        let taker = Taker::says(reply).await;
        assert_eq!(taker.gets(&here(), PATIENT).await, Ok(()), "{reply}");
        let TakenReport { head, body } = taker.requests.lock().unwrap().remove(0);
        assert!(head.starts_with("post /v1/tls?x=y http/1.1\r\n"), "{head}");
        assert!(head.contains(&format!("\r\nhost: reports.a.test:{}\r\n", taker.port)), "{head}");
        assert!(head.contains("\r\ncontent-type: application/tlsrpt+gzip\r\n"), "{head}");
        assert_eq!(body, PACKED);
    }
}

#[tokio::test]
async fn rfc8460_5_4_p15_any_other_status_is_none_and_redirects_are_not_followed() {
    for (reply, status) in [
        ("HTTP/1.1 301 Moved Permanently\r\nLocation: https://reports.a.test/\r\n\r\n", 301),
        ("HTTP/1.1 307 Temporary Redirect\r\nLocation: /\r\n\r\n", 307),
        ("HTTP/1.1 400 Bad Request\r\n\r\n", 400),
        ("HTTP/1.1 404 Not Found\r\n\r\n", 404),
        ("HTTP/1.1 500 Internal Server Error\r\n\r\n", 500),
        ("HTTP/1.1 503 Service Unavailable\r\n\r\n", 503),
    ] {
        let taker = Taker::says(reply).await;
        assert_eq!(taker.gets(&here(), PATIENT).await, Err(PostError::Status { status }));
        assert_eq!(taker.requests.lock().unwrap().len(), 1);
    }
}

#[tokio::test]
async fn what_is_silent_or_no_http_has_no_report() {
    let silent = Taker::says("").await;
    let late = silent.gets(&here(), Duration::from_millis(300)).await;
    assert_eq!(late, Err(PostError::TimedOut { seconds: 0 }));
    let odd = Taker::says("220 mx.a.test ESMTP\r\n").await;
    assert!(matches!(odd.gets(&here(), PATIENT).await, Err(PostError::Http { .. })));
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let refused = post(&here(), closed.ip(), closed.port(), PATIENT).await;
    assert!(matches!(refused, Err(PostError::Unreachable { .. })), "{refused:?}");
}

/// Counts who is connected to; nobody answers.
struct NobodyThere(Mutex<Vec<SocketAddr>>);

#[async_trait]
impl Network for NobodyThere {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        self.0.lock().unwrap().push(address);
        Err(io::ErrorKind::ConnectionRefused.into())
    }

    fn is_own(&self, address: IpAddr) -> bool {
        address == IpAddr::from([203, 0, 113, 9])
    }
}

#[tokio::test]
async fn a_stranger_leads_reports_neither_to_this_machine_nor_into_private_networks() {
    let network = Arc::new(NobodyThere(Mutex::default()));
    let url = "https://reports.a.test/".parse().unwrap();
    let ReportUri::Https(url) = url else { panic!() };
    let allow_private = vec!["10.1.0.0/16".parse().unwrap()];
    let config = DeliveryConfig { allow_private, ..DeliveryConfig::default() };
    let poster = ReportPoster::new(&config, Arc::clone(&network) as Arc<dyn Network>, &Clock::system()).unwrap();
    for address in ["127.0.0.1", "::1", "0.0.0.0", "10.2.0.1", "192.168.1.1", "169.254.169.254", "203.0.113.9"] {
        let address: IpAddr = address.parse().unwrap();
        let came = poster.post(&OneAddress(address), &url, Bytes::new()).await;
        assert_eq!(came, Err(PostError::Forbidden { address }));
    }
    assert_eq!(network.0.lock().unwrap().len(), 0);
    for address in ["198.51.100.1", "10.1.0.1"] {
        let came = poster.post(&OneAddress(address.parse().unwrap()), &url, Bytes::new()).await;
        assert!(matches!(came, Err(PostError::Unreachable { .. })), "{came:?}");
    }
    assert_eq!(network.0.lock().unwrap().len(), 2);
}
