//! The certificate verifier of the client side, one per connection (RFC 7672 §3, RFC 8461 §4.2,
//! RFC 7435).
//!
//! It obeys one [`TlsPolicy`] and nothing else: under DANE the TLSA records decide, under MTA-STS
//! the public PKI, under both of them both, under opportunistic TLS every certificate is as good as none. A second policy
//! may be watched: it is evaluated, and says no to nobody. Sessions are never resumed, because a
//! resumed session skips the verifier (RFC 9325 §3.4).
//!
//! Which key exchange is offered, `hello.rs` says.

use super::Target;
use super::hello::{HelloSize, Providers};
use crate::clock::Timestamp;
use crate::outcome::{Cause, Peer, TlsVerdict};
use crate::policy::x509::webpki::WebPki;
use crate::policy::{CertificateRefusal, DanePolicy, Proof, TlsPolicy};
use crate::text::without_web_address;
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, ProtocolVersion, SignatureScheme,
};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A TLS client set up for one connection.
pub(super) struct Tls {
    /// The configuration with its verifier.
    pub config: Arc<ClientConfig>,
    /// SNI.
    pub server_name: ServerName<'static>,
    check: Arc<ServerVerifier>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

/// What every connection shares: cryptography and trusted roots.
#[derive(Clone, Debug)]
pub(super) struct Trust {
    /// The cryptography.
    pub providers: Providers,
    /// Who vouches for certificates where DANE does not.
    pub roots: WebPki,
}

#[derive(Debug)]
struct ServerVerifier {
    trust: Trust,
    policy: TlsPolicy,
    watched: Option<TlsPolicy>,
    now: Timestamp,
    proof: OnceLock<Proof>,
    watched_failure: OnceLock<WatchedFailure>,
    presented: OnceLock<Vec<Vec<u8>>>,
    schemes: Vec<SignatureScheme>,
}

/// Why a watched policy would have refused.
#[derive(Debug)]
enum WatchedFailure {
    Certificate(CertificateRefusal),
    Signature(String),
}

impl Tls {
    /// Sets up a connection under the policies of a target. SNI is the TLSA base domain
    /// (RFC 7672 §8.1), or the host's name where DANE does not apply or does not speak for the domain
    /// (RFC 8461 §7.1). They differ only for a host that is an alias.
    ///
    /// # Errors
    /// A sentence when the TLS library refuses its own defaults.
    pub(super) fn new(trust: &Trust, target: &Target, hello: HelloSize, now: Timestamp) -> Result<Self, String> {
        let watched = target.watched.as_ref().and_then(|watched| watched.demand.clone().ok());
        let name = server_name(&target.policy)
            .or_else(|| watched.as_ref().and_then(server_name))
            .unwrap_or_else(|| target.peer.host.clone());
        let check = Arc::new(ServerVerifier {
            trust: trust.clone(),
            policy: target.policy.clone(),
            watched,
            now,
            proof: OnceLock::new(),
            watched_failure: OnceLock::new(),
            presented: OnceLock::new(),
            schemes: DanePolicy::offered_schemes(),
        });
        let config = ClientConfig::builder_with_provider(Arc::clone(trust.providers.of(hello)))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&check) as Arc<dyn ServerCertVerifier>);
        let mut config = match &target.egress.client_certificate {
            Some(identity) => config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.pair()))),
            None => config.with_no_client_auth(),
        };
        config.resumption = Resumption::disabled();
        // A name that no certificate can hold, such as one with a hyphen at an edge, is not sent; what
        // has to hold is checked by the name itself.
        let server_name = ServerName::try_from(name).unwrap_or_else(|_| target.peer.address.ip().into());
        Ok(Self { config: Arc::new(config), server_name, check })
    }

    /// The certificates the server presented, leaf first, in DER; none before the handshake.
    #[must_use]
    pub(super) fn presented(&self) -> Vec<Vec<u8>> {
        self.check.presented.get().cloned().unwrap_or_default()
    }

    /// What the finished handshake proved.
    #[must_use]
    pub(super) fn verdict(&self, version: Option<ProtocolVersion>) -> TlsVerdict {
        let version = match version {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
            other => format!("{other:?}"),
        };
        match self.check.proof.get() {
            Some(Proof::Dane(record, scope)) => {
                TlsVerdict::Dane { version, matched: record.to_string(), scope: *scope }
            }
            Some(Proof::WebPki(host)) => TlsVerdict::WebPki { version, host: host.to_string() },
            Some(Proof::WebPkiAndDane(host, record)) => {
                TlsVerdict::WebPkiAndDane { version, host: host.to_string(), matched: record.to_string() }
            }
            Some(Proof::Nothing) | None => TlsVerdict::Unauthenticated { version },
        }
    }

    /// The cause behind a failed handshake.
    #[must_use]
    pub(super) fn cause(&self, error: &std::io::Error, peer: Peer) -> Cause {
        let rustls_error = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        let refusal = match rustls_error {
            Some(Error::InvalidCertificate(CertificateError::Other(other))) => {
                other.0.downcast_ref::<CertificateRefusal>()
            }
            Some(_) | None => None,
        };
        match refusal {
            Some(refusal) => self.check.policy.cause(refusal, peer),
            None => Cause::TlsHandshake { peer, detail: without_web_address(&error.to_string()) },
        }
    }

    /// Why the watched policy would have refused the server; `None` when it would not have.
    #[must_use]
    pub(super) fn watched_failure(&self, peer: Peer) -> Option<Cause> {
        let policy = self.check.watched.as_ref()?;
        match self.check.watched_failure.get()? {
            WatchedFailure::Certificate(refusal) => Some(policy.cause(refusal, peer)),
            WatchedFailure::Signature(detail) => Some(Cause::TlsHandshake { peer, detail: detail.clone() }),
        }
    }
}

/// The name that a policy wants the server to answer for.
fn server_name(policy: &TlsPolicy) -> Option<String> {
    match policy {
        TlsPolicy::Off | TlsPolicy::Opportunistic { .. } | TlsPolicy::Encrypt { base_domain: None, .. } => None,
        TlsPolicy::Encrypt { base_domain: Some(name), .. }
        | TlsPolicy::WebPki { host: name, .. }
        | TlsPolicy::WebPkiAndDane { host: name, .. } => Some(name.to_string()),
        TlsPolicy::Dane(policy) => Some(policy.base_domain.to_string()),
    }
}

impl ServerCertVerifier for ServerVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let chain: Vec<&[u8]> = std::iter::once(end_entity).chain(intermediates).map(AsRef::as_ref).collect();
        let _only_once = self.presented.set(chain.iter().map(|der| der.to_vec()).collect());
        let watched = self.watched.as_ref().map(|policy| policy.check_chain(&chain, &self.trust.roots, self.now));
        if let Some(Err(refusal)) = watched {
            let _only_once = self.watched_failure.set(WatchedFailure::Certificate(refusal));
        }
        match self.policy.check_chain(&chain, &self.trust.roots, self.now) {
            Ok(proof) => {
                let _only_once = self.proof.set(proof);
                Ok(ServerCertVerified::assertion())
            }
            Err(refusal) => Err(Error::InvalidCertificate(CertificateError::Other(OtherError(Arc::new(refusal))))),
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let by_library = || verify_tls12_signature(message, cert, dss, self.algorithms());
        self.verify_signature(&HandshakeSignature { message, cert, dss }, &by_library)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let by_library = || verify_tls13_signature(message, cert, dss, self.algorithms());
        self.verify_signature(&HandshakeSignature { message, cert, dss }, &by_library)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// What the server signed to prove that it holds its key.
struct HandshakeSignature<'a> {
    message: &'a [u8],
    cert: &'a CertificateDer<'a>,
    dss: &'a DigitallySignedStruct,
}

/// The check that the TLS library itself would make.
type ByLibrary<'a> = dyn Fn() -> Result<HandshakeSignatureValid, Error> + 'a;

impl ServerVerifier {
    fn algorithms(&self) -> &WebPkiSupportedAlgorithms {
        &self.trust.providers.of(HelloSize::Small).signature_verification_algorithms
    }

    fn verify_signature(
        &self,
        signed: &HandshakeSignature<'_>,
        by_library: &ByLibrary<'_>,
    ) -> Result<HandshakeSignatureValid, Error> {
        let watched = self.watched.as_ref().map(|policy| verify_under(policy, signed, by_library));
        if let Some(Err(error)) = watched {
            let _the_certificate_came_first = self.watched_failure.set(WatchedFailure::Signature(error.to_string()));
        }
        verify_under(&self.policy, signed, by_library)
    }
}

/// Proves that the server holds the key of its certificate. Where no certificate is checked, the
/// proof would prove nothing, and odd keys must not stop the mail. Under DANE any leaf will do
/// that can be read; the TLS library reads fewer.
fn verify_under(
    policy: &TlsPolicy,
    signed: &HandshakeSignature<'_>,
    by_library: &ByLibrary<'_>,
) -> Result<HandshakeSignatureValid, Error> {
    match policy {
        TlsPolicy::Off | TlsPolicy::Opportunistic { .. } | TlsPolicy::Encrypt { .. } => {
            Ok(HandshakeSignatureValid::assertion())
        }
        TlsPolicy::Dane(policy) => signature_under_dane(policy, signed),
        TlsPolicy::WebPki { .. } => by_library(),
        TlsPolicy::WebPkiAndDane { dane, .. } => signature_under_dane(dane, signed).and_then(|_valid| by_library()),
    }
}

fn signature_under_dane(
    policy: &DanePolicy,
    signed: &HandshakeSignature<'_>,
) -> Result<HandshakeSignatureValid, Error> {
    let dss = signed.dss;
    policy
        .check_signature(signed.message, signed.cert, dss.scheme, dss.signature())
        .map(|()| HandshakeSignatureValid::assertion())
        .map_err(Error::General)
}
