//! A client of the admin port that says exactly what a test wants, header fields and all.

use crate::relay::within;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use serde_json::Value;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct HttpAnswer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl HttpAnswer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The values of a header field.
    pub(crate) fn fields(&self, name: &str) -> Vec<&str> {
        let fields = self.head.lines().skip(1).filter_map(|line| line.split_once(": "));
        fields.filter(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }
}

/// One request: `POST /path`, further header fields, and a body.
pub(crate) async fn http(admin: SocketAddr, request: &str, fields: &[(&str, &str)], body: &str) -> HttpAnswer {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!(
        "{request} HTTP/1.1\r\nHost: {admin}\r\nConnection: close\r\n{fields}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    said(admin, text.as_bytes(), request).await
}

/// One request over the control socket of a spool, as the user of this process.
pub(crate) async fn http_here(spool: &Path, request: &str, fields: &[(&str, &str)], body: &str) -> HttpAnswer {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let text = format!("{request} HTTP/1.1\r\nHost: relay\r\n{fields}Content-Length: {}\r\n\r\n{body}", body.len());
    let asking = async {
        let mut stream = UnixStream::connect(spool.join("control")).await.unwrap();
        stream.write_all(text.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    answered(&within(asking, request).await, request)
}

/// The answer to these octets.
pub(crate) async fn said(admin: SocketAddr, octets: &[u8], what: &str) -> HttpAnswer {
    let asking = async {
        let mut stream = TcpStream::connect(admin).await.unwrap();
        stream.write_all(octets).await.unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    };
    answered(&within(asking, what).await, what)
}

fn answered(answer: &str, what: &str) -> HttpAnswer {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{what}: {answer:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let body =
        if head.to_lowercase().contains("transfer-encoding: chunked") { unchunked(body) } else { body.to_owned() };
    HttpAnswer { status, head: head.to_owned(), body }
}

/// The answer to these octets in TLS, from a server that shows the name of the lab's relay and this certificate.
pub(crate) async fn said_in_tls(admin: SocketAddr, pem: &str, octets: &[u8]) -> std::io::Result<HttpAnswer> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    let config = ClientConfig::builder_with_provider(Arc::new(default_provider()));
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let connector = TlsConnector::from(Arc::new(config.with_no_client_auth()));
    let name = ServerName::try_from("relay.office.test").unwrap();
    let mut stream = connector.connect(name, TcpStream::connect(admin).await?).await?;
    stream.write_all(octets).await?;
    let mut answer = Vec::new();
    // Whoever closes without saying so has said all.
    let _end = stream.read_to_end(&mut answer).await;
    Ok(answered(&String::from_utf8_lossy(&answer), "in TLS"))
}

fn unchunked(mut rest: &str) -> String {
    let mut whole = String::new();
    while let Some((size, behind)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        whole.push_str(&behind[..size]);
        rest = behind[size..].trim_start_matches("\r\n");
    }
    whole
}
