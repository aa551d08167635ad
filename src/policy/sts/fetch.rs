//! Fetching a policy (RFC 8461 §3.3): one GET over HTTPS to the policy host, and nothing else.
//!
//! Its certificate must be trusted, valid now, and name the policy host as a DNS-ID (RFC 8461
//! §3.3, RFC 6125 §6.4). Redirects are not followed and nothing is cached; only status 200 with
//! text/plain counts. Everything together has one deadline and one limit of octets.

use super::failure::FetchFailure;
use super::policy::POLICY_LIMIT;
use crate::clock::Clock;
use crate::config::{Config, RootsError, RootsSource};
use crate::net::{Network, Stream};
use crate::resolve::answer::{Answer, Ask, Data, Freshness, RecordType};
use crate::smtp::address::Domain;
use crate::smtp::reply::printable;
use crate::text::without_web_address;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper::{Request, Response, StatusCode, header};
use hyper_util::rt::TokioIo;
use rustls::client::Resumption;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{ServerName, UnixTime};
use rustls::time_provider::TimeProvider;
use rustls::{ClientConfig, version};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_util::task::AbortOnDropHandle;

/// The addresses of a policy host that are tried: two of each family, should it have both.
const ADDRESSES_TRIED: usize = 4;
/// How long TCP and TLS may take for one address, so that a silent one leaves time for others.
const OPENING_TIMEOUT: Duration = Duration::from_secs(15);
/// The only path (RFC 8461 §3.3).
const PATH: &str = "/.well-known/mta-sts.txt";
/// The port that a URL need not name.
const HTTPS: u16 = 443;
/// The most octets of a media type that a failure repeats.
const MEDIA_TYPE_SHOWN: usize = 100;
/// What is read at once, header included; the least that holds ordinary headers.
const BUFFER: usize = 65_536;

/// Whoever fetches policies.
pub(super) struct Fetcher {
    port: u16,
    deadline: Duration,
    here: Here,
    tls: Result<Arc<ClientConfig>, RootsError>,
    network: Arc<dyn Network>,
}

/// TLS to a policy host.
type Secured = TlsStream<Box<dyn Stream>>;

/// Whether a policy host may be this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Here {
    Allowed,
    Refused,
}

impl Fetcher {
    /// Reads the certificate authorities. Where the machine has none, every fetch will fail and
    /// say so; a file that was named must be there.
    pub(super) fn new(config: &Config, network: Arc<dyn Network>, clock: &Clock) -> Result<Self, RootsError> {
        let tls = if config.mta_sts.enabled { tls(&config.tls.roots, clock) } else { Err(not_needed()) };
        match (&config.tls.roots, &tls) {
            (RootsSource::File(_), Err(error)) if config.mta_sts.enabled => return Err(error.clone()),
            (RootsSource::File(_) | RootsSource::System, _) => {}
        }
        let here = if config.delivery.allow_loopback { Here::Allowed } else { Here::Refused };
        Ok(Self { port: config.mta_sts.port, deadline: config.mta_sts.fetch_timeout, here, tls, network })
    }

    /// How long everything together may take.
    pub(super) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Fetches the text of a policy; whether it is one is for others to say.
    pub(super) async fn fetch(&self, dns: &dyn Ask, domain: &Domain) -> Result<Vec<u8>, FetchFailure> {
        let fetch = Box::pin(self.fetch_from_any(dns, format!("mta-sts.{domain}")));
        timeout(self.deadline, fetch).await.unwrap_or(Err(FetchFailure::TimedOut))
    }

    async fn fetch_from_any(&self, dns: &dyn Ask, host: String) -> Result<Vec<u8>, FetchFailure> {
        let tls = self.tls.as_ref().map_err(|error| FetchFailure::NoRoots { detail: error.to_string() })?;
        let mut first_failure = None;
        for address in addresses(dns, &host).await? {
            let opened = match self.here {
                Here::Refused if is_here(address) => Err(FetchFailure::Loopback { address }),
                Here::Refused | Here::Allowed => self.open(tls, &host, SocketAddr::new(address, self.port)).await,
            };
            match opened {
                Ok(stream) => return get(stream, &host, self.port).await,
                Err(failure) => _ = first_failure.get_or_insert(failure),
            }
        }
        Err(first_failure.unwrap_or(FetchFailure::NoAddress { host }))
    }

    /// A connection and TLS. The name goes out as SNI (RFC 8461 §7.1, RFC 6066 §3).
    async fn open(&self, tls: &Arc<ClientConfig>, host: &str, address: SocketAddr) -> Result<Secured, FetchFailure> {
        let connect = |detail: String| FetchFailure::Connect { address, detail };
        let name = ServerName::try_from(host.to_owned()).map_err(|e| connect(e.to_string()))?;
        let opening = async {
            let stream = self.network.connect(address).await.map_err(|e| connect(e.to_string()))?;
            TlsConnector::from(Arc::clone(tls)).connect(name, stream).await.map_err(|e| handshake_failure(address, &e))
        };
        timeout(OPENING_TIMEOUT, opening).await.unwrap_or_else(|_| Err(connect("timeout".to_owned())))
    }
}

fn not_needed() -> RootsError {
    RootsError { source_name: "system".into(), message: "not read, as MTA-STS is switched off".into() }
}

/// TLS 1.2 and 1.3 (RFC 8461 §7.2, RFC 8996), names by DNS-ID alone, every certificate checked each time.
fn tls(roots: &RootsSource, clock: &Clock) -> Result<Arc<ClientConfig>, RootsError> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_details(provider, Arc::new(Now(clock.clone())))
        .with_protocol_versions(&[&version::TLS13, &version::TLS12])
        .map_err(|e| RootsError { source_name: "TLS".into(), message: e.to_string() })?
        .with_root_certificates(roots.load()?)
        .with_no_client_auth();
    config.resumption = Resumption::disabled();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

/// Our clock, for the lives of certificates.
#[derive(Debug)]
struct Now(Clock);

impl TimeProvider for Now {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().unix_seconds()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

/// The addresses to try, the families in turn. A family that could not be found out, or whose
/// answer is bogus, is not connected to and costs the other one nothing (RFC 4035 §5): whoever
/// drops or forges the answers of one family must not switch a policy off. What the host is, its
/// certificate says.
async fn addresses(dns: &dyn Ask, host: &str) -> Result<Vec<IpAddr>, FetchFailure> {
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
        Some(cause) if addresses.is_empty() => Err(FetchFailure::Dns(Box::new(cause))),
        Some(_) | None => Ok(addresses),
    }
}

fn address(data: Data) -> Option<IpAddr> {
    match data {
        Data::Address(address) => Some(address),
        Data::Mx(..) | Data::Tlsa(_) | Data::Txt(_) => None,
    }
}

/// Whoever publishes a name must not make the relay talk to what listens on this machine alone.
fn is_here(address: IpAddr) -> bool {
    let address = address.to_canonical();
    address.is_loopback() || address.is_unspecified()
}

fn handshake_failure(address: SocketAddr, error: &io::Error) -> FetchFailure {
    let reason = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    match reason {
        Some(rustls::Error::InvalidCertificate(reason)) => {
            FetchFailure::Certificate { address, detail: reason.to_string() }
        }
        Some(rustls::Error::NoCertificatesPresented) => {
            FetchFailure::Certificate { address, detail: "there is none".to_owned() }
        }
        _ => FetchFailure::Tls { address, detail: without_web_address(&error.to_string()) },
    }
}

/// One request and its answer.
async fn get(stream: Secured, host: &str, port: u16) -> Result<Vec<u8>, FetchFailure> {
    let http = |error: hyper::Error| FetchFailure::Http { detail: said(&error) };
    let authority = if port == HTTPS { host.to_owned() } else { format!("{host}:{port}") };
    let request = Request::get(PATH)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, "relay")
        .header(header::ACCEPT, "text/plain")
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .map_err(|e| FetchFailure::Internal { detail: e.to_string() })?;
    let handshake = http1::Builder::new().max_buf_size(BUFFER).handshake(TokioIo::new(stream));
    let (mut sender, connection) = handshake.await.map_err(http)?;
    // It ends with this fetch, also when the deadline ends that.
    let _connection = AbortOnDropHandle::new(tokio::spawn(connection));
    let response = sender.send_request(request).await.map_err(http)?;
    judge(&response)?;
    body(response.into_body()).await
}

fn judge(response: &Response<Incoming>) -> Result<(), FetchFailure> {
    if response.status() != StatusCode::OK {
        return Err(FetchFailure::Status { status: response.status().as_u16() });
    }
    let given = response.headers().get(header::CONTENT_TYPE).map(header::HeaderValue::as_bytes);
    let essence = given.and_then(|given| given.split(|&b| b == b';').next()).map(<[u8]>::trim_ascii);
    if essence.is_some_and(|essence| essence.eq_ignore_ascii_case(b"text/plain")) {
        return Ok(());
    }
    let media_type = given.map_or_else(|| "of no type".to_owned(), |given| printable(given, MEDIA_TYPE_SHOWN));
    Err(FetchFailure::MediaType { media_type })
}

async fn body(mut body: Incoming) -> Result<Vec<u8>, FetchFailure> {
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| FetchFailure::Http { detail: said(&error) })?;
        let Some(data) = frame.data_ref() else { continue };
        if text.len() + data.len() > POLICY_LIMIT {
            return Err(FetchFailure::TooLarge);
        }
        text.extend_from_slice(data);
    }
    Ok(text)
}

/// What went wrong, with what lies below it.
fn said(error: &hyper::Error) -> String {
    without_web_address(&match std::error::Error::source(error) {
        Some(source) => format!("{error}: {source}"),
        None => error.to_string(),
    })
}
