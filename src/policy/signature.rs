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

#[cfg(test)]
mod tests {
    use super::super::testing::{leaf_params, self_signed};
    use super::*;
    use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
    use rustls::sign::SigningKey;
    use std::sync::Arc;

    fn tls13_message() -> Vec<u8> {
        [TLS13_PADDING.as_slice(), b"TLS 1.3, server CertificateVerify\0", &[7; 32]].concat()
    }

    fn tls12_message() -> Vec<u8> {
        vec![7; 100]
    }

    fn loaded(pkcs8: Vec<u8>) -> Arc<dyn SigningKey> {
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        aws_lc_rs::default_provider().key_provider.load_private_key(key).unwrap()
    }

    fn sign(key: &dyn SigningKey, scheme: SignatureScheme, message: &[u8]) -> Vec<u8> {
        key.choose_scheme(&[scheme]).unwrap().sign(message).unwrap()
    }

    #[test]
    fn rfc8446_4_4_3_a_true_signature_is_taken_and_a_false_one_is_not() {
        let leaf = self_signed(leaf_params(&[]));
        let key = loaded(leaf.key.serialize_der());
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        for message in [tls12_message(), tls13_message()] {
            let signature = sign(&*key, scheme, &message);
            assert_eq!(verify_handshake(&message, &leaf.der, scheme, &signature), Ok(()));
            let other = self_signed(leaf_params(&[]));
            assert!(verify_handshake(&message, &other.der, scheme, &signature).is_err(), "another's key");
            let changed = [message.as_slice(), b"x"].concat();
            assert!(verify_handshake(&changed, &leaf.der, scheme, &signature).is_err(), "another message");
            assert!(verify_handshake(&message, b"junk", scheme, &signature).is_err());
            assert!(verify_handshake(&message, &leaf.der, SignatureScheme::ED25519, &signature).is_err());
            assert!(verify_handshake(&message, &leaf.der, SignatureScheme::Unknown(1), &signature).is_err());
        }
    }

    #[test]
    fn rfc8446_4_2_3_tls13_refuses_pkcs1_and_binds_the_curve() {
        let rsa_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
        let rsa = leaf_params(&[]).self_signed(&rsa_key).unwrap();
        let key = loaded(rsa_key.serialize_der());
        let check = |scheme, message: &[u8]| {
            let signature = sign(&*key, scheme, message);
            verify_handshake(message, rsa.der(), scheme, &signature).is_ok()
        };
        assert!(check(SignatureScheme::RSA_PKCS1_SHA256, &tls12_message()));
        assert!(!check(SignatureScheme::RSA_PKCS1_SHA256, &tls13_message()));
        assert!(check(SignatureScheme::RSA_PSS_SHA256, &tls12_message()));
        assert!(check(SignatureScheme::RSA_PSS_SHA256, &tls13_message()));

        // A P-521 key with SHA-256: fine in TLS 1.2, no such scheme in TLS 1.3.
        let p521_key = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
        let p521 = leaf_params(&[]).self_signed(&p521_key).unwrap();
        let signer = ::aws_lc_rs::signature::EcdsaKeyPair::from_pkcs8(P521_SHA256, &p521_key.serialize_der()).unwrap();
        let random = ::aws_lc_rs::rand::SystemRandom::new();
        for (message, expected) in [(tls12_message(), true), (tls13_message(), false)] {
            let signature = signer.sign(&random, &message).unwrap();
            let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
            assert_eq!(verify_handshake(&message, p521.der(), scheme, signature.as_ref()).is_ok(), expected);
        }
    }

    const P521_SHA256: &::aws_lc_rs::signature::EcdsaSigningAlgorithm =
        &::aws_lc_rs::signature::ECDSA_P521_SHA256_ASN1_SIGNING;
}
