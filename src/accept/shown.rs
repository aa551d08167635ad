//! Certificates that clients show: asked for in the handshake, judged after it (RFC 8446 §4.3.2).
//!
//! Whoever shows none, or one that nobody here knows, still gets its session: Exchange shows its certificate to
//! every server that asks. Only a certificate of a named authority, or a named one, opens the way. That the
//! client has its key is proven by the handshake.

use super::certificate::TlsError;
use crate::clock::Timestamp;
use crate::config::{ClientCertificates, Fingerprint};
use aws_lc_rs::digest::{SHA256, digest};
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, UnixTime};
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{DigitallySignedStruct, DistinguishedName, RootCertStore, SignatureScheme};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

/// Which certificates open the way.
#[derive(Debug)]
pub struct ShownCertificates {
    fingerprints: Vec<Fingerprint>,
    /// The certificates of the authorities, as they were read.
    authorities: Vec<CertificateDer<'static>>,
    by_authority: Option<Arc<dyn ClientCertVerifier>>,
    provider: Arc<CryptoProvider>,
}

impl PartialEq for ShownCertificates {
    fn eq(&self, other: &Self) -> bool {
        self.fingerprints == other.fingerprints && self.authorities == other.authorities
    }
}

impl ShownCertificates {
    /// By the configuration.
    ///
    /// # Errors
    /// [`TlsError`] when the authorities cannot be read.
    pub(super) fn load(wanted: &ClientCertificates, provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let (mut authorities, mut by_authority) = (Vec::new(), None);
        if let Some(path) = &wanted.ca {
            authorities = authorities_of(path)?;
            by_authority = Some(verifier(path, &authorities, Arc::clone(&provider))?);
        }
        Ok(Self { fingerprints: wanted.fingerprints.clone(), authorities, by_authority, provider })
    }

    /// Whether these certificates, the client's own first, open the way.
    #[must_use]
    pub(super) fn open_the_way(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> bool {
        let Some((own, others)) = chain.split_first() else { return false };
        let is_named = |named: &Fingerprint| digest(&SHA256, own).as_ref() == named.0;
        let now = UnixTime::since_unix_epoch(Duration::from_millis(u64::try_from(now.0).unwrap_or(0)));
        self.fingerprints.iter().any(is_named)
            || self.by_authority.as_ref().is_some_and(|by| by.verify_client_cert(own, others, now).is_ok())
    }
}

fn authorities_of(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    read.map_err(|source| TlsError::Pem { path: path.to_owned(), what: "certificate", source })
}

fn verifier(
    path: &Path,
    authorities: &[CertificateDer<'static>],
    provider: Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, TlsError> {
    let unusable = |source| TlsError::Unusable { path: path.to_owned(), source };
    let mut roots = RootCertStore::empty();
    for authority in authorities {
        roots.add(authority.clone()).map_err(unusable)?;
    }
    let built = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build();
    built.map_err(|error| unusable(rustls::Error::General(error.to_string())))
}

/// Takes any certificate: what it is worth is asked after the handshake.
impl ClientCertVerifier for ShownCertificates {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// Clients with several certificates choose by this. With named ones any may be it.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        match &self.by_authority {
            Some(by) if self.fingerprints.is_empty() => by.root_hint_subjects(),
            Some(_) | None => &[],
        }
    }

    fn verify_client_cert(
        &self,
        _own: &CertificateDer<'_>,
        _others: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, own, signature, &self.provider.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        own: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, own, signature, &self.provider.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
