//! The certificate verifier of the client side, one per connection (RFC 7672 §3, RFC 7435).
//!
//! Under DANE the TLSA records decide and nothing else does; under opportunistic TLS every
//! certificate is as good as none. Sessions are never resumed, because a resumed session skips
//! the verifier (RFC 9325 §3.4).

use crate::clock::Timestamp;
use crate::outcome::{Cause, Peer, TlsVerdict};
use crate::policy::{DanePolicy, Refusal, TlsPolicy};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, Error, OtherError, ProtocolVersion, SignatureScheme,
};
use std::fmt;
use std::sync::{Arc, OnceLock};

/// A TLS client set up for one connection.
pub struct Tls {
    /// The configuration with its verifier.
    pub config: Arc<ClientConfig>,
    /// SNI.
    pub server_name: ServerName<'static>,
    check: Arc<Check>,
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls").field("server_name", &self.server_name).finish_non_exhaustive()
    }
}

#[derive(Debug)]
struct Check {
    /// `None` accepts every certificate.
    dane: Option<DanePolicy>,
    now: Timestamp,
    matched: OnceLock<String>,
    presented: OnceLock<Vec<Vec<u8>>>,
    schemes: Vec<SignatureScheme>,
}

impl Tls {
    /// Sets up a connection under a policy. SNI is the TLSA base domain (RFC 7672 §8.1), or the
    /// host's name where DANE does not apply.
    ///
    /// # Errors
    /// A sentence when the TLS library refuses its own defaults or the name.
    pub fn new(provider: &Arc<CryptoProvider>, policy: &TlsPolicy, host: &str, now: Timestamp) -> Result<Self, String> {
        let (dane, name) = match policy {
            TlsPolicy::Opportunistic { .. } => (None, host.to_owned()),
            TlsPolicy::Encrypt { base_domain } => (None, base_domain.to_string()),
            TlsPolicy::Dane(policy) => (Some(policy.clone()), policy.base_domain.to_string()),
        };
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let check = Arc::new(Check { dane, now, matched: OnceLock::new(), presented: OnceLock::new(), schemes });
        let mut config = ClientConfig::builder_with_provider(Arc::clone(provider))
            .with_safe_default_protocol_versions()
            .map_err(|e| e.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&check) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        config.resumption = Resumption::disabled();
        let server_name = ServerName::try_from(name).map_err(|e| e.to_string())?;
        Ok(Self { config: Arc::new(config), server_name, check })
    }

    /// The certificates the server presented, leaf first, in DER; none before the handshake.
    #[must_use]
    pub fn presented(&self) -> Vec<Vec<u8>> {
        self.check.presented.get().cloned().unwrap_or_default()
    }

    /// What the finished handshake proved.
    #[must_use]
    pub fn verdict(&self, version: Option<ProtocolVersion>) -> TlsVerdict {
        let version = match version {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3".to_owned(),
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2".to_owned(),
            other => format!("{other:?}"),
        };
        match self.check.matched.get() {
            Some(matched) => TlsVerdict::Dane { version, matched: matched.clone() },
            None => TlsVerdict::Unauthenticated { version },
        }
    }

    /// The cause behind a failed handshake.
    #[must_use]
    pub fn cause(&self, error: &std::io::Error, peer: Peer) -> Cause {
        let rustls_error = error.get_ref().and_then(|e| e.downcast_ref::<Error>());
        let refusal = match rustls_error {
            Some(Error::InvalidCertificate(CertificateError::Other(other))) => other.0.downcast_ref::<Refusal>(),
            Some(_) | None => None,
        };
        match (refusal, &self.check.dane) {
            (Some(refusal), Some(policy)) => Cause::DaneMismatch {
                peer,
                failure: refusal.failure.clone(),
                base_domain: policy.base_domain.to_string(),
                usable_records: policy.records.len(),
                certificate_sha256: refusal.certificate_sha256.clone(),
            },
            _ => Cause::TlsHandshake { peer, detail: error.to_string() },
        }
    }
}

impl ServerCertVerifier for Check {
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
        let Some(policy) = &self.dane else { return Ok(ServerCertVerified::assertion()) };
        match policy.check_chain(&chain, self.now) {
            Ok(found) => {
                let _first_wins = self.matched.set(found.record.to_string());
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
        self.verify_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.verify_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

impl Check {
    /// Proves that the server holds the key of the certificate that was matched. Where no
    /// certificate is checked, the proof would prove nothing, and odd keys must not stop the mail.
    fn verify_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let Some(policy) = &self.dane else { return Ok(HandshakeSignatureValid::assertion()) };
        policy
            .check_signature(message, cert, dss.scheme, dss.signature())
            .map(|()| HandshakeSignatureValid::assertion())
            .map_err(Error::General)
    }
}
