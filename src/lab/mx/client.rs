//! A small SMTP client for stories and tests (RFC 5321 §3.3, RFC 2920, RFC 3207).
//!
//! It plays the mail server behind the relay, or anyone who tries something. It gives back every
//! reply as it came and judges none; its TLS accepts any certificate.

#![expect(clippy::disallowed_methods, reason = "this file is the lab's SMTP client: it connects to loopback")]

use super::wire::Wire;
use crate::lab::bad;
use crate::net::Stream;
use crate::smtp::reply::{Capabilities, Reply, ReplyParser, Severity};
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// How long the client waits for anything; a test that is this slow has failed.
const PATIENCE: Duration = Duration::from_secs(30);

/// Whether commands go out together (RFC 2920) or one by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pipelining {
    /// MAIL, all RCPT and DATA in one go, when the server offers it.
    WhenOffered,
    /// Each command waits for the reply to the one before.
    Off,
}

/// The replies to one message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Handed {
    /// To MAIL.
    pub mail: Reply,
    /// To each RCPT, in order.
    pub rcpt: Vec<Reply>,
    /// To DATA, when it was sent.
    pub data: Option<Reply>,
    /// To the dot, when the content was sent.
    pub end: Option<Reply>,
}

impl Handed {
    /// Whether the server took responsibility for the message.
    #[must_use]
    pub fn accepted(&self) -> bool {
        self.end.as_ref().is_some_and(|reply| reply.severity() == Severity::Completed)
    }

    /// The reply that decided: to the dot, else to DATA, else the first refusal.
    #[must_use]
    pub fn last(&self) -> &Reply {
        let refused = || self.rcpt.iter().find(|reply| reply.severity() != Severity::Completed);
        self.end.as_ref().or(self.data.as_ref()).or_else(refused).unwrap_or(&self.mail)
    }
}

/// A connection to an SMTP server.
pub struct SmtpClient {
    wire: Wire,
    greeting: Reply,
    offered: Capabilities,
    pipelining: Pipelining,
}

impl SmtpClient {
    /// Connects and reads the greeting. Nothing is said yet.
    ///
    /// # Errors
    /// When nobody listens, or what comes is no reply.
    pub async fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = timeout(PATIENCE, TcpStream::connect(address)).await??;
        stream.set_nodelay(true)?;
        Self::over(stream).await
    }

    /// Reads the greeting on a connection that is there already.
    ///
    /// # Errors
    /// When what comes is no reply.
    pub async fn over(stream: impl Stream + 'static) -> io::Result<Self> {
        let mut wire = Wire::new(stream);
        let greeting = read_reply(&mut wire).await?;
        let (offered, pipelining) = (Capabilities::default(), Pipelining::WhenOffered);
        Ok(Self { wire, greeting, offered, pipelining })
    }

    /// Connects, says EHLO, and is ready for messages.
    ///
    /// # Errors
    /// As [`SmtpClient::connect`].
    pub async fn ready(address: SocketAddr) -> io::Result<Self> {
        let mut client = Self::connect(address).await?;
        client.ehlo("client.test").await?;
        Ok(client)
    }

    /// The greeting.
    #[must_use]
    pub fn greeting(&self) -> &Reply {
        &self.greeting
    }

    /// What the last EHLO brought.
    #[must_use]
    pub fn offered(&self) -> &Capabilities {
        &self.offered
    }

    /// Chooses how commands go out.
    pub fn set_pipelining(&mut self, pipelining: Pipelining) {
        self.pipelining = pipelining;
    }

    /// EHLO.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn ehlo(&mut self, name: &str) -> io::Result<Reply> {
        let reply = self.command(&format!("EHLO {name}")).await?;
        self.offered = Capabilities::from_ehlo(&reply);
        Ok(reply)
    }

    /// STARTTLS, the handshake with this server name, and EHLO again. Any certificate will do.
    ///
    /// # Errors
    /// When the server refuses or the handshake fails.
    pub async fn starttls(self, server_name: &str) -> io::Result<Self> {
        self.starttls_by(&TlsConnector::from(Arc::new(anything(default_provider())?)), server_name).await
    }

    /// As [`SmtpClient::starttls`], with the caller's own settings.
    ///
    /// # Errors
    /// As [`SmtpClient::starttls`].
    pub async fn starttls_by(mut self, connector: &TlsConnector, server_name: &str) -> io::Result<Self> {
        let reply = self.command("STARTTLS").await?;
        if reply.code != 220 {
            return Err(bad(format!("STARTTLS was answered {reply}")));
        }
        let name = ServerName::try_from(server_name.to_owned()).map_err(bad)?;
        let stream = timeout(PATIENCE, connector.connect(name, self.wire.into_inner())).await??;
        self.wire = Wire::new(stream);
        self.ehlo("client.test").await?;
        Ok(self)
    }

    /// Sends one line and reads one reply.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn command(&mut self, line: &str) -> io::Result<Reply> {
        self.raw(format!("{line}\r\n").as_bytes()).await?;
        self.reply().await
    }

    /// Sends these bytes and nothing else.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn raw(&mut self, bytes: &[u8]) -> io::Result<()> {
        timeout(PATIENCE, self.wire.write(bytes)).await?
    }

    /// Reads one reply.
    ///
    /// # Errors
    /// [`io::ErrorKind::UnexpectedEof`] when the server has closed.
    pub async fn reply(&mut self) -> io::Result<Reply> {
        read_reply(&mut self.wire).await
    }

    /// Hands one message in. `from` and `to` stand without brackets; an empty `from` is the null
    /// reverse-path. Dots are stuffed and a missing last line end is added; all else goes as it is.
    /// Content goes out only when a recipient was accepted.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn send(&mut self, from: &str, to: &[&str], content: &[u8]) -> io::Result<Handed> {
        let mail = format!("MAIL FROM:<{from}>");
        let rcpt: Vec<String> = to.iter().map(|to| format!("RCPT TO:<{to}>")).collect();
        self.transact(&mail, &rcpt, content).await
    }

    /// As [`SmtpClient::send`], with the commands given whole, so that they may carry parameters.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn transact(&mut self, mail: &str, rcpt: &[String], content: &[u8]) -> io::Result<Handed> {
        let pipelined = self.offered.pipelining && self.pipelining == Pipelining::WhenOffered;
        if pipelined {
            let lines = rcpt.iter().fold(format!("{mail}\r\n"), |lines, rcpt| lines + rcpt + "\r\n");
            self.raw(format!("{lines}DATA\r\n").as_bytes()).await?;
        } else {
            self.raw(format!("{mail}\r\n").as_bytes()).await?;
        }
        let mut handed = Handed { mail: self.reply().await?, rcpt: Vec::new(), data: None, end: None };
        for line in rcpt {
            if !pipelined {
                self.raw(format!("{line}\r\n").as_bytes()).await?;
            }
            handed.rcpt.push(self.reply().await?);
        }
        let any = handed.rcpt.iter().any(|reply| reply.severity() == Severity::Completed);
        if !pipelined {
            if !any {
                return Ok(handed);
            }
            self.raw(b"DATA\r\n").await?;
        }
        let data = self.reply().await?;
        let go_on = data.severity() == Severity::Intermediate;
        handed.data = Some(data);
        if go_on {
            // RFC 2920 §3.1: a 354 that came although nobody was accepted gets an empty message.
            let wire = if any { stuffed(content) } else { b".\r\n".to_vec() };
            self.raw(&wire).await?;
            handed.end = Some(self.reply().await?);
        }
        Ok(handed)
    }

    /// QUIT, and its reply.
    ///
    /// # Errors
    /// When the connection breaks.
    pub async fn quit(mut self) -> io::Result<Reply> {
        self.command("QUIT").await
    }
}

async fn read_reply(wire: &mut Wire) -> io::Result<Reply> {
    let mut parser = ReplyParser::default();
    loop {
        let line = timeout(PATIENCE, wire.line()).await??;
        if line.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(reply) = parser.line(&line).map_err(bad)? {
            return Ok(reply);
        }
    }
}

/// RFC 5321 §4.5.2, with the lone dot at the end.
fn stuffed(content: &[u8]) -> Vec<u8> {
    let mut wire = Vec::with_capacity(content.len() + 8);
    for line in content.split_inclusive(|&b| b == b'\n') {
        // Only CRLF begins a new line; a dot behind a bare LF stays alone.
        if line.starts_with(b".") && (wire.is_empty() || wire.ends_with(b"\r\n")) {
            wire.push(b'.');
        }
        wire.extend_from_slice(line);
    }
    if !wire.is_empty() && !wire.ends_with(b"\r\n") {
        wire.extend_from_slice(b"\r\n");
    }
    wire.extend_from_slice(b".\r\n");
    wire
}

/// The settings of a client that accepts any certificate and resumes sessions.
pub(in crate::lab) fn anything(provider: CryptoProvider) -> io::Result<ClientConfig> {
    let provider = Arc::new(provider);
    Ok(ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(bad)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AcceptAnything(provider)))
        .with_no_client_auth())
}

/// The lab's client looks at no certificate: it talks to servers the test itself has started.
#[derive(Debug)]
struct AcceptAnything(Arc<CryptoProvider>);

impl ServerCertVerifier for AcceptAnything {
    fn verify_server_cert(
        &self,
        _leaf: &CertificateDer<'_>,
        _issuers: &[CertificateDer<'_>],
        _name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _message: &[u8],
        _leaf: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
