//! Signatures: of an issuer under a certificate, and of a server under its TLS handshake
//! (RFC 5280 §4.1.1.3, RFC 5246 §7.4.3, RFC 8446 §4.4.3).
//!
//! The key comes from our own reading of the certificate. The usual TLS verifiers read the whole
//! certificate first and refuse many that DANE-EE vouches for: version 1, odd extensions.

use super::certificate::{Certificate, PublicKey, public_key_info};
use rustls::SignatureScheme;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};

/// How what a TLS 1.3 server signs begins (RFC 8446 §4.4.3). In TLS 1.2 our own random number
/// stands there, so the two cannot be mistaken for each other.
const TLS13_PADDING: [u8; 64] = [b' '; 64];

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

/// Checks the signature of a TLS CertificateVerify (1.3) or ServerKeyExchange (1.2) against the
/// key in the server's certificate. Which version it is shows in the message itself.
///
/// In TLS 1.3 the scheme also fixes the curve, and PKCS#1 v1.5 is refused even where the list
/// we offer for TLS 1.2 names it (RFC 8446 §4.2.3).
///
/// # Errors
/// Why not, in words; the connection must then be given up.
pub fn verify_handshake(
    message: &[u8],
    leaf_der: &[u8],
    scheme: SignatureScheme,
    signature: &[u8],
) -> Result<(), String> {
    let is_tls13 = message.starts_with(&TLS13_PADDING);
    if is_tls13 && is_pkcs1(scheme) {
        return Err(format!("{scheme:?} is not allowed in TLS 1.3"));
    }
    let mapping = algorithms().mapping;
    let fitting = mapping.iter().find(|(listed, _)| *listed == scheme).map(|(_, fitting)| *fitting);
    let fitting = fitting.ok_or_else(|| format!("{scheme:?} was not offered"))?;
    // The first of the list is the curve that TLS 1.3 binds to the scheme; rustls does the same.
    let most = if is_tls13 { 1 } else { fitting.len() };
    let key = public_key_info(leaf_der).and_then(PublicKey::read);
    let key = key.ok_or("the server's certificate has no readable key")?;
    let algorithm = fitting.iter().take(most).find(|algorithm| *algorithm.public_key_alg_id() == *key.algorithm);
    let algorithm = algorithm.ok_or_else(|| format!("the server's key does not fit {scheme:?}"))?;
    algorithm
        .verify_signature(key.bits, message, signature)
        .map_err(|_| "the server's signature over the handshake is wrong".to_owned())
}

fn is_pkcs1(scheme: SignatureScheme) -> bool {
    [
        SignatureScheme::RSA_PKCS1_SHA1,
        SignatureScheme::RSA_PKCS1_SHA256,
        SignatureScheme::RSA_PKCS1_SHA384,
        SignatureScheme::RSA_PKCS1_SHA512,
    ]
    .contains(&scheme)
}

/// Whether a key signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signed {
    /// It did.
    Yes,
    /// It did not.
    No,
    /// The algorithm is weak or unknown: SHA-1, RSA below 2048 bits, DSA and the like.
    Unsupported,
}

/// Whether `issuer` signed `certificate`: at most one signature check.
pub(super) fn signed_by(certificate: &Certificate<'_>, issuer: PublicKey<'_>) -> Signed {
    let algorithm = algorithms().all.iter().find(|algorithm| {
        *algorithm.signature_alg_id() == *certificate.signature_algorithm
            && *algorithm.public_key_alg_id() == *issuer.algorithm
    });
    let Some(algorithm) = algorithm else { return Signed::Unsupported };
    match algorithm.verify_signature(issuer.bits, certificate.signed, certificate.signature()) {
        Ok(()) => Signed::Yes,
        Err(_) => Signed::No,
    }
}
