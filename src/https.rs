//! One request over HTTPS to a host by its name, and nothing else: how policies are fetched (RFC 8461 §3.3) and
//! reports are posted (RFC 8460 §5.4).
//!
//! The name is looked up, a few of its addresses are tried, one request goes out and its answer comes back. Nothing
//! is cached, kept open or followed elsewhere. How long all of it may take is the caller's to say, and so is where
//! the name may lead.

use crate::clock::Clock;
use crate::net::{Network, Stream};
use crate::outcome::Cause;
use crate::resolve::answer::{Answer, Ask, Data, Freshness, RecordType};
use crate::text::without_web_address;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme, version};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// The port that a URL need not name.
pub(crate) const HTTPS_PORT: u16 = 443;
/// The addresses of a host that are tried: two of each family, should it have both.
const ADDRESSES_TRIED: usize = 4;
/// How long TCP and TLS may take for one address, so that a silent one leaves time for others.
const OPENING_TIMEOUT: Duration = Duration::from_secs(15);
/// What is read at once, header included; the least that holds ordinary headers.
const BUFFER: usize = 65_536;

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum HttpsFailure {
    /// The addresses could not be looked up.
    #[error("{}", .0.sentence())]
    Dns(Box<Cause>),
    /// The host provably has no address.
    #[error("the host {host} has no address")]
    NoAddress {
        /// Its name.
        host: String,
    },
    /// The host leads where it may not.
    #[error("the host leads to {address}, which is not in the internet")]
    Forbidden {
        /// Where it leads.
        address: IpAddr,
    },
    /// No connection.
    #[error("no connection to the host at {address}: {detail}")]
    Connect {
        /// The address and port of the host.
        address: SocketAddr,
        /// What the system said.
        detail: String,
    },
    /// The certificate is not trusted, not valid now, or not for the host.
    #[error("the certificate of the host at {address} is not good: {detail}")]
    Certificate {
        /// The address and port of the host.
        address: SocketAddr,
        /// What is wrong.
        detail: String,
    },
    /// TLS failed for another reason.
    #[error("TLS with the host at {address} failed: {detail}")]
    Tls {
        /// The address and port of the host.
        address: SocketAddr,
        /// What the TLS library or the system reports.
        detail: String,
    },
    /// What came is no HTTP, or broke off.
    #[error("the host did not answer in HTTP: {detail}")]
    Http {
        /// What was wrong.
        detail: String,
    },
    /// The answer is longer than the caller reads.
    #[error("the answer is too long")]
    TooLarge,
}

/// Whose certificates are good enough.
pub(crate) enum HttpsTrust {
    /// Those that one of these authorities vouches for.
    Roots(Arc<RootCertStore>),
    /// Anybody's.
    Anybody,
}

/// A host by its name.
#[derive(Clone, Copy, Debug)]
pub(crate) struct HttpsHost<'a> {
    /// The name that is looked up, sent as SNI and asked for.
    pub(crate) name: &'a str,
    /// The port.
    pub(crate) port: u16,
}

impl HttpsHost<'_> {
    /// As the field `Host` has it (RFC 3986 §3.2).
    pub(crate) fn authority(&self) -> String {
        if self.port == HTTPS_PORT { self.name.to_owned() } else { format!("{}:{}", self.name, self.port) }
    }
}

/// Whoever asks.
pub(crate) struct HttpsClient {
    tls: Arc<ClientConfig>,
    network: Arc<dyn Network>,
}

/// TLS to a host.
pub(crate) struct HttpsConnection(TlsStream<Box<dyn Stream>>);

/// An answer, as long as its connection is there.
pub(crate) struct HttpsResponse {
    /// Status and header, with a body that has not been read.
    pub(crate) response: Response<Incoming>,
    /// It ends with the answer, also when a deadline ends that.
    _connection: AbortOnDropHandle<()>,
}

impl HttpsClient {
    /// TLS 1.2 and 1.3 (RFC 8461 §7.2, RFC 8996), names by DNS-ID alone, every certificate checked each time.
    ///
    /// # Errors
    /// What the TLS library says of its own defaults.
    pub(crate) fn new(trust: HttpsTrust, network: Arc<dyn Network>, clock: &Clock) -> Result<Self, String> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let algorithms = provider.signature_verification_algorithms;
        let builder = ClientConfig::builder_with_details(provider, Arc::new(HttpsTime(clock.clone())))
            .with_protocol_versions(&[&version::TLS13, &version::TLS12])
            .map_err(|error| error.to_string())?;
        let mut config = match trust {
            HttpsTrust::Roots(roots) => builder.with_root_certificates(roots),
            HttpsTrust::Anybody => {
                builder.dangerous().with_custom_certificate_verifier(Arc::new(AnyCertificate(algorithms)))
            }
        }
        .with_no_client_auth();
        config.resumption = Resumption::disabled();
        config.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self { tls: Arc::new(config), network })
    }

    /// Connects to one of the addresses of a host.
    ///
    /// # Errors
    /// What happened at the first of them.
    pub(crate) async fn connect(
        &self,
        dns: &dyn Ask,
        host: HttpsHost<'_>,
        may_lead_to: impl Fn(IpAddr) -> bool,
    ) -> Result<HttpsConnection, HttpsFailure> {
        let mut first_failure = None;
        for address in addresses(dns, host.name).await? {
            let opened = if may_lead_to(address) {
                self.open(host.name, SocketAddr::new(address, host.port)).await
            } else {
                Err(HttpsFailure::Forbidden { address })
            };
            match opened {
                Ok(stream) => return Ok(HttpsConnection(stream)),
                Err(failure) => _ = first_failure.get_or_insert(failure),
            }
        }
        Err(first_failure.unwrap_or_else(|| HttpsFailure::NoAddress { host: host.name.to_owned() }))
    }

    /// A connection and TLS. The name goes out as SNI (RFC 8461 §7.1, RFC 6066 §3).
    async fn open(&self, host: &str, address: SocketAddr) -> Result<TlsStream<Box<dyn Stream>>, HttpsFailure> {
        let connect = |detail: String| HttpsFailure::Connect { address, detail };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| connect(e.to_string()))?;
        let opening = async {
            let stream = self.network.connect(address).await.map_err(|e| connect(e.to_string()))?;
            let connector = TlsConnector::from(Arc::clone(&self.tls));
            connector.connect(name, stream).await.map_err(|e| handshake_failure(address, &e))
        };
        timeout(OPENING_TIMEOUT, opening).await.unwrap_or_else(|_| Err(connect("timeout".to_owned())))
    }
}

impl HttpsConnection {
    /// The one request of this connection.
    ///
    /// # Errors
    /// [`HttpsFailure::Http`]
    pub(crate) async fn send(self, request: Request<Full<Bytes>>) -> Result<HttpsResponse, HttpsFailure> {
        let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(self.0));
        let (mut sender, connection) = handshake.await.map_err(|error| broken(&error))?;
        // What becomes of the connection is told by the answer that does not come.
        let connection = AbortOnDropHandle::new(tokio::spawn(async { _ = connection.await }));
        let response = sender.send_request(request).await.map_err(|error| broken(&error))?;
        Ok(HttpsResponse { response, _connection: connection })
    }
}

impl HttpsResponse {
    /// The body, up to so many octets.
    ///
    /// # Errors
    /// [`HttpsFailure::Http`] where it breaks off, [`HttpsFailure::TooLarge`] where it goes on.
    pub(crate) async fn body(mut self, most: usize) -> Result<Vec<u8>, HttpsFailure> {
        let mut octets = Vec::new();
        while let Some(frame) = self.response.body_mut().frame().await {
            let frame = frame.map_err(|error| broken(&error))?;
            let Some(data) = frame.data_ref() else { continue };
            if octets.len() + data.len() > most {
                return Err(HttpsFailure::TooLarge);
            }
            octets.extend_from_slice(data);
        }
        Ok(octets)
    }
}

/// The addresses to try, the families in turn. A family that could not be found out, or whose
/// answer is bogus, is not connected to and costs the other one nothing (RFC 4035 §5): whoever
/// drops or forges the answers of one family must not switch a policy off. What the host is, its
/// certificate says.
async fn addresses(dns: &dyn Ask, host: &str) -> Result<Vec<IpAddr>, HttpsFailure> {
    let (v6, v4) =
        tokio::join!(dns.ask(host, RecordType::Aaaa, Freshness::Kept), dns.ask(host, RecordType::A, Freshness::Kept));
    let mut failure = None;
    let [mut v6, mut v4] = [v6, v4].map(|answer| match answer {
        Answer::Found(found) => found.data.into_iter().filter_map(address).collect::<Vec<_>>().into_iter(),
        Answer::NoData(_) | Answer::NxDomain(_) => Vec::new().into_iter(),
        Answer::Failed(cause) => {
            failure = Some(cause);
            Vec::new().into_iter()
        }
    });
    let in_turn = std::iter::from_fn(|| Some([v6.next(), v4.next()])).take(ADDRESSES_TRIED);
    let addresses: Vec<IpAddr> = in_turn.flatten().flatten().take(ADDRESSES_TRIED).collect();
    match failure {
        Some(cause) if addresses.is_empty() => Err(HttpsFailure::Dns(Box::new(cause))),
        Some(_) | None => Ok(addresses),
    }
}

fn address(data: Data) -> Option<IpAddr> {
    match data {
        Data::Address(address) => Some(address),
        Data::Mx(..) | Data::Tlsa(_) | Data::Txt(_) => None,
    }
}

fn handshake_failure(address: SocketAddr, error: &io::Error) -> HttpsFailure {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match reason {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            HttpsFailure::Certificate { address, detail: reason.to_string() }
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            HttpsFailure::Certificate { address, detail: "there is none".to_owned() }
        }
        _ => HttpsFailure::Tls { address, detail: without_web_address(&error.to_string()) },
    }
}

/// What went wrong, with what lies below it.
fn broken(error: &hyper::Error) -> HttpsFailure {
    let detail = match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    };
    HttpsFailure::Http { detail: without_web_address(&detail) }
}

/// Our clock, for the lives of certificates.
#[derive(Debug)]
struct HttpsTime(Clock);

impl TimeProvider for HttpsTime {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// Takes every certificate, and lets its holder prove that he has the key.
#[derive(Debug)]
struct AnyCertificate(WebPkiSupportedAlgorithms);

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
