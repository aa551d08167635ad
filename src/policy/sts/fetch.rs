//! Fetching a policy (RFC 8461 §3.3): one GET over HTTPS to the policy host, and nothing else.
//!
//! Its certificate must be trusted, valid now, and name the policy host as a DNS-ID (RFC 8461
//! §3.3, RFC 6125 §6.4). Redirects are not followed and nothing is cached; only status 200 with
//! text/plain counts. Everything together has one deadline and one limit of octets.

use super::failure::FetchFailure;
use super::policy::POLICY_LIMIT;
use crate::clock::Clock;
use crate::config::{Config, RootsError, TrustedRoots};
use crate::https::{HttpsClient, HttpsFailure, HttpsHost, HttpsTrust};
use crate::net::Network;
use crate::resolve::answer::Ask;
use crate::smtp::address::Domain;
use crate::smtp::reply::printable;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::{Request, Response, StatusCode, header};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// The only path (RFC 8461 §3.3).
const PATH: &str = "/.well-known/mta-sts.txt";
/// The most octets of a media type that a failure repeats.
const MEDIA_TYPE_SHOWN: usize = 100;

/// Whoever fetches policies.
pub(super) struct Fetcher {
    port: u16,
    deadline: Duration,
    here: Here,
    client: Result<HttpsClient, RootsError>,
}

/// Whether a policy host may be this machine.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Here {
    Allowed,
    Refused,
}

impl Here {
    /// Whoever publishes a name must not make the relay talk to what listens on this machine alone.
    fn allows(self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self == Self::Allowed || !(address.is_loopback() || address.is_unspecified())
    }
}

impl Fetcher {
    /// Where there are no certificate authorities, every fetch will fail and say so.
    pub(super) fn new(config: &Config, roots: &TrustedRoots, network: Arc<dyn Network>, clock: &Clock) -> Self {
        let client = if config.mta_sts.enabled { client(roots, network, clock) } else { Err(not_needed()) };
        let here = if config.delivery.allow_loopback { Here::Allowed } else { Here::Refused };
        Self { port: config.mta_sts.port, deadline: config.mta_sts.fetch_timeout, here, client }
    }

    /// How long everything together may take.
    pub(super) const fn deadline(&self) -> Duration {
        self.deadline
    }

    /// Fetches the text of a policy; whether it is one is for others to say.
    pub(super) async fn fetch(&self, dns: &dyn Ask, domain: &Domain) -> Result<Vec<u8>, FetchFailure> {
        let fetch = Box::pin(self.get(dns, format!("mta-sts.{domain}")));
        timeout(self.deadline, fetch).await.unwrap_or(Err(FetchFailure::TimedOut))
    }

    /// One request and its answer.
    async fn get(&self, dns: &dyn Ask, name: String) -> Result<Vec<u8>, FetchFailure> {
        let client = self.client.as_ref().map_err(|error| FetchFailure::NoRoots { detail: error.to_string() })?;
        let host = HttpsHost { name: &name, port: self.port };
        let connection = client.connect(dns, host, |address| self.here.allows(address)).await?;
        let request = Request::get(PATH)
            .header(header::HOST, host.authority())
            .header(header::USER_AGENT, "relay")
            .header(header::ACCEPT, "text/plain")
            .header(header::CONNECTION, "close")
            .body(Full::<Bytes>::default())
            .map_err(|e| FetchFailure::Internal { detail: e.to_string() })?;
        let answer = connection.send(request).await?;
        judge(&answer.response)?;
        Ok(answer.body(POLICY_LIMIT).await?)
    }
}

fn not_needed() -> RootsError {
    RootsError { source_name: "system".into(), message: "not needed, as MTA-STS is switched off".into() }
}

fn client(roots: &TrustedRoots, network: Arc<dyn Network>, clock: &Clock) -> Result<HttpsClient, RootsError> {
    HttpsClient::new(HttpsTrust::Roots(roots.found()?), network, clock)
        .map_err(|message| RootsError { source_name: "TLS".into(), message })
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

impl From<HttpsFailure> for FetchFailure {
    fn from(failure: HttpsFailure) -> Self {
        match failure {
            HttpsFailure::Dns(cause) => Self::Dns(cause),
            HttpsFailure::NoAddress { host } => Self::NoAddress { host },
            HttpsFailure::Forbidden { address } => Self::Loopback { address },
            HttpsFailure::Connect { address, detail } => Self::Connect { address, detail },
            HttpsFailure::Certificate { address, detail } => Self::Certificate { address, detail },
            HttpsFailure::Tls { address, detail } => Self::Tls { address, detail },
            HttpsFailure::Http { detail } => Self::Http { detail },
            HttpsFailure::TooLarge => Self::TooLarge,
        }
    }
}
