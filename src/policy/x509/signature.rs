//! Signatures: of an issuer under a certificate, and of a server under its TLS handshake
//! (RFC 5280 §4.1.1.3, RFC 5246 §7.4.3, RFC 8446 §4.4.3).
//!
//! The key comes from our own reading of the certificate. The usual TLS verifiers read the whole
//! certificate first and refuse many that DANE-EE vouches for: version 1, odd extensions. And
//! they refuse keys: here every key is taken that a server can sign a handshake with, RSA from
//! 512 to 8192 bits, RSASSA-PSS keys, P-256, P-384, P-521, Ed25519 and ML-DSA. Not taken are
//! Ed448 and Brainpool curves, which the cryptographic library does not know, and signatures
//! with SHA-1, which a TLS 1.2 client must not accept (RFC 9155 §5).

use super::certificate::{ParsedCertificate, PublicKey, public_key_info};
use super::small_rsa::{Hash, Padding, SmallRsa};
use rustls::SignatureScheme;
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs};
use rustls::pki_types::{SignatureVerificationAlgorithm, alg_id};

/// How what a TLS 1.3 server signs begins (RFC 8446 §4.4.3). In TLS 1.2 our own random number
/// stands there, so the two cannot be mistaken for each other.
const TLS13_PADDING: [u8; 64] = [b' '; 64];

/// The OIDs rsaEncryption and id-RSASSA-PSS as they stand in a key, without parameters
/// (RFC 4055 §1.2).
const RSA_ENCRYPTION: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01";
const RSASSA_PSS: &[u8] = b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x0a";

/// `rsa_pss_pss_sha256`, `_sha384` and `_sha512`, for keys that are bound to RSASSA-PSS, and
/// the schemes for ordinary RSA keys that are signed the same way (RFC 8446 §4.2.3).
const PSS_KEY_SCHEMES: [(SignatureScheme, SignatureScheme); 3] = [
    (SignatureScheme::Unknown(0x0809), SignatureScheme::RSA_PSS_SHA256),
    (SignatureScheme::Unknown(0x080A), SignatureScheme::RSA_PSS_SHA384),
    (SignatureScheme::Unknown(0x080B), SignatureScheme::RSA_PSS_SHA512),
];

fn algorithms() -> WebPkiSupportedAlgorithms {
    aws_lc_rs::default_provider().signature_verification_algorithms
}

/// The schemes to offer to a server, the preferred ones first: exactly those that
/// [`verify_handshake`] takes.
///
/// SHA-256 comes first, because a server may take the first one whether or not its key is long
/// enough for it: 512 bits of RSA have no room for SHA-512. More than the library offers by itself: servers with an RSASSA-PSS key have nothing to sign
/// with unless its schemes are offered. TLS 1.2 leaves them out (the library refuses them there).
#[must_use]
pub fn offered_schemes() -> Vec<SignatureScheme> {
    let mut schemes = algorithms().supported_schemes();
    schemes.extend(PSS_KEY_SCHEMES.map(|(for_pss_keys, _)| for_pss_keys));
    let with_sha_256 = |scheme: &SignatureScheme| {
        *scheme == SignatureScheme::ECDSA_NISTP256_SHA256
            || rsa_way(*scheme).is_some_and(|(_, hash)| hash == Hash::Sha256)
    };
    schemes.sort_by_key(|scheme| !with_sha_256(scheme));
    schemes
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
    let for_pss_key = PSS_KEY_SCHEMES.iter().find(|(listed, _)| *listed == scheme);
    let way = for_pss_key.map_or(scheme, |(_, way)| *way);
    let mapping = algorithms().mapping;
    let fitting = mapping.iter().find(|(listed, _)| *listed == way).map(|(_, fitting)| *fitting);
    let fitting = fitting.ok_or_else(|| format!("{scheme:?} was not offered"))?;
    // The first of the list is the curve that TLS 1.3 binds to the scheme; rustls does the same.
    let most = if is_tls13 { 1 } else { fitting.len() };
    let key = public_key_info(leaf_der).and_then(PublicKey::read);
    let key = key.ok_or("the server's certificate has no readable key")?;
    let algorithm = fitting.iter().take(most).find(|algorithm| match for_pss_key {
        Some(_) => fits_pss_key(**algorithm, key),
        None => fits(**algorithm, key),
    });
    let algorithm = algorithm.ok_or_else(|| format!("the server's key does not fit {scheme:?}"))?;
    let small = rsa_way(way).zip(SmallRsa::read(key.bits));
    let is_signed = match small {
        Some(((padding, hash), small)) => small.signed(padding, hash, message, signature),
        None => algorithm.verify_signature(key.bits, message, signature).is_ok(),
    };
    is_signed.then_some(()).ok_or_else(|| "the server's signature over the handshake is wrong".to_owned())
}

/// Padding and digest of an RSA scheme.
fn rsa_way(scheme: SignatureScheme) -> Option<(Padding, Hash)> {
    [
        (SignatureScheme::RSA_PKCS1_SHA256, (Padding::Pkcs1, Hash::Sha256)),
        (SignatureScheme::RSA_PKCS1_SHA384, (Padding::Pkcs1, Hash::Sha384)),
        (SignatureScheme::RSA_PKCS1_SHA512, (Padding::Pkcs1, Hash::Sha512)),
        (SignatureScheme::RSA_PSS_SHA256, (Padding::Pss, Hash::Sha256)),
        (SignatureScheme::RSA_PSS_SHA384, (Padding::Pss, Hash::Sha384)),
        (SignatureScheme::RSA_PSS_SHA512, (Padding::Pss, Hash::Sha512)),
    ]
    .into_iter()
    .find_map(|(listed, way)| (listed == scheme).then_some(way))
}

fn is_pkcs1(scheme: SignatureScheme) -> bool {
    scheme == SignatureScheme::RSA_PKCS1_SHA1 || rsa_way(scheme).is_some_and(|(padding, _)| padding == Padding::Pkcs1)
}

/// Whether an algorithm is for keys of this kind. The parameters of an RSA key should be NULL
/// and are sometimes left out (RFC 4055 §1.2).
fn fits(algorithm: &dyn SignatureVerificationAlgorithm, key: PublicKey<'_>) -> bool {
    let wanted = algorithm.public_key_alg_id();
    *wanted == *key.algorithm || wanted == alg_id::RSA_ENCRYPTION && key.algorithm == RSA_ENCRYPTION
}

/// Whether a PSS algorithm suits a key that is bound to RSASSA-PSS. Without parameters it takes
/// any digest; with them they must be those of the signature (RFC 4055 §3.3).
fn fits_pss_key(algorithm: &dyn SignatureVerificationAlgorithm, key: PublicKey<'_>) -> bool {
    let signature = algorithm.signature_alg_id();
    signature.starts_with(RSASSA_PSS) && (key.algorithm == RSASSA_PSS || *signature == *key.algorithm)
}

/// Whether a key signed a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum SignatureVerdict {
    /// The signature is by this key.
    Yes,
    /// The signature is not by this key.
    No,
    /// The algorithm is weak or unknown: SHA-1, RSA below 2048 bits, DSA and the like.
    Unsupported,
}

/// Whether `issuer` signed `certificate`: at most one signature check.
pub(in crate::policy) fn signed_by(certificate: &ParsedCertificate<'_>, issuer: PublicKey<'_>) -> SignatureVerdict {
    let algorithm = algorithms().all.iter().find(|algorithm| {
        *algorithm.signature_alg_id() == *certificate.signature_algorithm
            && (fits(**algorithm, issuer) || fits_pss_key(**algorithm, issuer))
    });
    let Some(algorithm) = algorithm.filter(|_| SmallRsa::read(issuer.bits).is_none()) else {
        return SignatureVerdict::Unsupported;
    };
    match algorithm.verify_signature(issuer.bits, certificate.signed, certificate.signature()) {
        Ok(()) => SignatureVerdict::Yes,
        Err(_) => SignatureVerdict::No,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{leaf_params, self_signed};
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

    /// A certificate and a signature by its key, both made by OpenSSL.
    macro_rules! vector {
        ($key:literal, $version:literal, $scheme:literal) => {
            (
                concat!($key, " ", $version, " ", $scheme),
                include_bytes!(concat!("../../../testdata/dane/keys/", $key, ".der")).as_slice(),
                include_bytes!(concat!("../../../testdata/dane/keys/", $key, ".", $version, ".", $scheme)).as_slice(),
            )
        };
    }

    const GOOD: &[(&str, &[u8], &[u8])] = &[
        vector!("rsa512", "1.2", "rsa_pkcs1_sha256"),
        vector!("rsa1024", "1.2", "rsa_pkcs1_sha256"),
        vector!("rsa1024", "1.2", "rsa_pkcs1_sha384"),
        vector!("rsa1024", "1.2", "rsa_pkcs1_sha512"),
        vector!("rsa1024", "1.2", "rsa_pss_rsae_sha256"),
        vector!("rsa1024", "1.3", "rsa_pss_rsae_sha256"),
        vector!("rsa1024", "1.3", "rsa_pss_rsae_sha384"),
        vector!("rsa1025", "1.2", "rsa_pkcs1_sha256"),
        vector!("rsa1025", "1.3", "rsa_pss_rsae_sha256"),
        vector!("rsa1025", "1.3", "rsa_pss_rsae_sha384"),
        vector!("rsa2047", "1.2", "rsa_pkcs1_sha256"),
        vector!("rsa2047", "1.2", "rsa_pkcs1_sha384"),
        vector!("rsa2047", "1.2", "rsa_pkcs1_sha512"),
        vector!("rsa2047", "1.3", "rsa_pss_rsae_sha256"),
        vector!("rsa2047", "1.3", "rsa_pss_rsae_sha384"),
        vector!("rsa2047", "1.3", "rsa_pss_rsae_sha512"),
        vector!("pss1024", "1.3", "rsa_pss_pss_sha256"),
        vector!("pss2048", "1.3", "rsa_pss_pss_sha256"),
        vector!("pss2048", "1.3", "rsa_pss_pss_sha384"),
        vector!("pss2048", "1.3", "rsa_pss_pss_sha512"),
        vector!("pss2048-bound", "1.3", "rsa_pss_pss_sha384"),
        vector!("p521", "1.2", "ecdsa_secp521r1_sha512"),
        vector!("p521", "1.3", "ecdsa_secp521r1_sha512"),
        vector!("p256-compressed", "1.3", "ecdsa_secp256r1_sha256"),
        vector!("ed25519", "1.3", "ed25519"),
    ];

    /// The numbers of RFC 8446 §4.2.3.
    fn scheme(name: &str) -> SignatureScheme {
        let numbers = [
            ("rsa_pkcs1_sha1", 0x0201),
            ("rsa_pkcs1_sha256", 0x0401),
            ("rsa_pkcs1_sha384", 0x0501),
            ("rsa_pkcs1_sha512", 0x0601),
            ("ecdsa_secp256r1_sha256", 0x0403),
            ("ecdsa_secp521r1_sha512", 0x0603),
            ("rsa_pss_rsae_sha256", 0x0804),
            ("rsa_pss_rsae_sha384", 0x0805),
            ("rsa_pss_rsae_sha512", 0x0806),
            ("ed25519", 0x0807),
            ("ed448", 0x0808),
            ("rsa_pss_pss_sha256", 0x0809),
            ("rsa_pss_pss_sha384", 0x080A),
            ("rsa_pss_pss_sha512", 0x080B),
        ];
        SignatureScheme::from(numbers.iter().find(|(known, _)| *known == name).unwrap().1)
    }

    fn parts(name: &str) -> (Vec<u8>, SignatureScheme) {
        let words: Vec<&str> = name.split(' ').collect();
        let message = if words[1] == "1.3" { tls13_message() } else { tls12_message() };
        (message, scheme(words[2]))
    }

    #[test]
    fn rfc7672_3_1_1_a_server_may_have_any_key_that_tls_can_sign_with() {
        for (name, leaf, signature) in GOOD {
            let (message, scheme) = parts(name);
            assert_eq!(verify_handshake(&message, leaf, scheme, signature), Ok(()), "{name}");
            assert!(offered_schemes().contains(&scheme), "{name}");
        }
    }

    #[test]
    fn rfc8446_4_2_3_the_offer_is_the_librarys_and_more_with_sha_256_first() {
        let offered = offered_schemes();
        assert!(algorithms().supported_schemes().iter().all(|scheme| offered.contains(scheme)));
        assert_eq!(offered.len(), algorithms().supported_schemes().len() + PSS_KEY_SCHEMES.len());
        let place = |wanted| offered.iter().position(|scheme| *scheme == wanted).unwrap();
        assert!(place(SignatureScheme::RSA_PKCS1_SHA256) < place(SignatureScheme::RSA_PKCS1_SHA512));
        assert!(place(SignatureScheme::RSA_PSS_SHA256) < place(SignatureScheme::RSA_PKCS1_SHA256), "PSS first");
    }

    #[test]
    fn rfc8017_8_a_changed_signature_or_message_is_refused_for_every_kind_of_key() {
        for (name, leaf, signature) in GOOD {
            let (message, scheme) = parts(name);
            let refused = |message: &[u8], signature: &[u8], what: &str| {
                assert!(verify_handshake(message, leaf, scheme, signature).is_err(), "{name}: {what}");
            };
            for place in 0..signature.len() {
                let mut changed = signature.to_vec();
                changed[place] ^= 1 << (place % 8);
                refused(&message, &changed, "changed");
            }
            refused(&[message.as_slice(), b"x"].concat(), signature, "another message");
            refused(&message, &signature[1..], "shorter");
            refused(&message, &[&[0], *signature].concat(), "longer");
            refused(&message, &vec![0; signature.len()], "zero");
            refused(&message, &vec![0xFF; signature.len()], "beyond the modulus");
            refused(&message, b"", "empty");
        }
    }

    #[test]
    fn rfc8446_4_2_3_keys_and_schemes_that_do_not_belong_together_are_refused() {
        for (name, leaf, signature) in GOOD {
            let (message, right) = parts(name);
            for other in offered_schemes().into_iter().filter(|other| *other != right) {
                assert!(verify_handshake(&message, leaf, other, signature).is_err(), "{name} as {other:?}");
            }
        }
        let (_, bound, signature) = vector!("pss2048-bound", "1.3", "rsa_pss_pss_sha384");
        let another_digest = verify_handshake(&tls13_message(), bound, scheme("rsa_pss_pss_sha256"), signature);
        assert!(another_digest.unwrap_err().contains("does not fit"), "the key is for SHA-384 alone");
    }

    #[test]
    fn rfc9155_5_sha_1_is_neither_offered_nor_taken_and_ed448_is_unknown() {
        for (name, leaf, signature) in [vector!("rsa1024", "1.2", "rsa_pkcs1_sha1"), vector!("ed448", "1.3", "ed448")] {
            let (message, scheme) = parts(name);
            let refusal = verify_handshake(&message, leaf, scheme, signature).unwrap_err();
            assert!(refusal.ends_with("was not offered"), "{refusal}");
            assert!(!offered_schemes().contains(&scheme), "{name}");
        }
    }
}
