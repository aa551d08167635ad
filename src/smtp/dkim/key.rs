//! The private key of a signer (RFC 8301 §3, RFC 8463 §3).

use super::Unsignable;
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::encoding::{AsDer as _, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{self, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256};
use data_encoding::BASE64;
use rustls::pki_types::PrivateKeyDer;
use rustls::pki_types::pem::PemObject as _;
use std::fmt;

/// Characters in a line of a PEM file.
const PEM_LINE: usize = 64;

/// What a signature is made with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DkimKeyType {
    /// RSA with SHA-256: every verifier knows it.
    Rsa,
    /// Ed25519 with SHA-256 (RFC 8463): small and fast, and unknown to some verifiers.
    Ed25519,
}

impl DkimKeyType {
    /// The word of `a=`.
    #[must_use]
    pub const fn algorithm(self) -> &'static str {
        match self {
            Self::Rsa => "rsa-sha256",
            Self::Ed25519 => "ed25519-sha256",
        }
    }

    /// The word of `k=`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

/// Why there is no key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DkimKeyError {
    /// There is no PEM in it.
    #[error("no private key in PEM form")]
    NoPem,
    /// The key is no signer's: of another kind, too short, or damaged.
    #[error(
        "no key to sign with: RSA from 2048 to 8192 bits or Ed25519, in PKCS #8 or, of RSA, PKCS #1, without a passphrase"
    )]
    Unusable,
    /// The library makes none.
    #[error("no key can be made")]
    NotMade,
}

enum SigningPair {
    Rsa(rsa::KeyPair),
    Ed25519(Ed25519KeyPair),
}

/// A private key. Shows nobody what it is.
pub struct DkimKey(SigningPair);

impl fmt::Debug for DkimKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DkimKey({}, ..)", self.key_type().word())
    }
}

impl DkimKey {
    /// Reads a key in PEM form.
    ///
    /// # Errors
    /// [`DkimKeyError::NoPem`], [`DkimKeyError::Unusable`]
    pub fn from_pem(pem: &[u8]) -> Result<Self, DkimKeyError> {
        let unusable = |_| DkimKeyError::Unusable;
        match PrivateKeyDer::from_pem_slice(pem).map_err(|_| DkimKeyError::NoPem)? {
            PrivateKeyDer::Pkcs1(der) => rsa::KeyPair::from_der(der.secret_pkcs1_der())
                .map(|pair| Self(SigningPair::Rsa(pair)))
                .map_err(unusable),
            PrivateKeyDer::Pkcs8(der) => {
                let der = der.secret_pkcs8_der();
                match Ed25519KeyPair::from_pkcs8_maybe_unchecked(der) {
                    Ok(pair) => Ok(Self(SigningPair::Ed25519(pair))),
                    Err(_) => rsa::KeyPair::from_pkcs8(der).map(|pair| Self(SigningPair::Rsa(pair))).map_err(unusable),
                }
            }
            PrivateKeyDer::Sec1(_) | _ => Err(DkimKeyError::Unusable),
        }
    }

    /// Makes a new key: RSA with 2048 bits, whose record fits into one answer over UDP, or Ed25519.
    ///
    /// # Errors
    /// [`DkimKeyError::NotMade`]
    pub fn generate(key_type: DkimKeyType) -> Result<Self, DkimKeyError> {
        let not_made = |_| DkimKeyError::NotMade;
        Ok(Self(match key_type {
            DkimKeyType::Rsa => SigningPair::Rsa(rsa::KeyPair::generate(KeySize::Rsa2048).map_err(not_made)?),
            DkimKeyType::Ed25519 => SigningPair::Ed25519(Ed25519KeyPair::generate().map_err(not_made)?),
        }))
    }

    /// The private key in PEM form (PKCS #8), for its file.
    ///
    /// # Errors
    /// [`DkimKeyError::NotMade`]
    pub fn to_pem(&self) -> Result<String, DkimKeyError> {
        let der: Pkcs8V1Der<'static> = match &self.0 {
            SigningPair::Rsa(pair) => pair.as_der(),
            SigningPair::Ed25519(pair) => pair.as_der(),
        }
        .map_err(|_| DkimKeyError::NotMade)?;
        let text = BASE64.encode(der.as_ref());
        let mut pem = String::from("-----BEGIN PRIVATE KEY-----\n");
        let mut rest = text.as_str();
        while let Some((line, behind)) = rest.split_at_checked(PEM_LINE.min(rest.len())).filter(|(l, _)| !l.is_empty())
        {
            pem.push_str(line);
            pem.push('\n');
            rest = behind;
        }
        pem.push_str("-----END PRIVATE KEY-----\n");
        Ok(pem)
    }

    /// What kind of key it is.
    #[must_use]
    pub const fn key_type(&self) -> DkimKeyType {
        match &self.0 {
            SigningPair::Rsa(_) => DkimKeyType::Rsa,
            SigningPair::Ed25519(_) => DkimKeyType::Ed25519,
        }
    }

    /// The public key as its record has it: of RSA a SubjectPublicKeyInfo (RFC 6376 §3.6.1), of Ed25519 the
    /// key alone (RFC 8463 §4.2).
    #[must_use]
    pub fn public(&self) -> Vec<u8> {
        match &self.0 {
            SigningPair::Rsa(pair) => {
                let der: Result<PublicKeyX509Der<'_>, _> = pair.public_key().as_der();
                der.map(|der| der.as_ref().to_vec()).unwrap_or_default()
            }
            SigningPair::Ed25519(pair) => pair.public_key().as_ref().to_vec(),
        }
    }

    /// Signs the hash of these octets (RFC 6376 §3.7; RFC 8463 §3).
    pub(super) fn sign(&self, data: &[u8]) -> Result<Vec<u8>, Unsignable> {
        let unusable = |_| Unsignable::KeyUnusable;
        match &self.0 {
            SigningPair::Rsa(pair) => {
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), data, &mut signature).map_err(unusable)?;
                Ok(signature)
            }
            SigningPair::Ed25519(pair) => {
                Ok(pair.try_sign(digest(&SHA256, data).as_ref()).map_err(unusable)?.as_ref().to_vec())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_that_was_made_is_read_again_from_its_file() {
        for key_type in [DkimKeyType::Rsa, DkimKeyType::Ed25519] {
            let key = DkimKey::generate(key_type).unwrap();
            let pem = key.to_pem().unwrap();
            assert!(pem.lines().all(|line| line.len() <= PEM_LINE), "{pem}");
            let again = DkimKey::from_pem(pem.as_bytes()).unwrap();
            assert_eq!((again.key_type(), again.public()), (key_type, key.public()));
            assert!(!format!("{again:?}").contains(&pem[40..60]));
        }
    }

    #[test]
    fn what_is_no_key_to_sign_with_is_refused() {
        let wrap = |label: &str, der: &[u8]| {
            format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", BASE64.encode(der)).into_bytes()
        };
        let ecdsa = rcgen::KeyPair::generate().unwrap().serialize_pem().into_bytes();
        for (pem, error) in [
            (Vec::new(), DkimKeyError::NoPem),
            (b"v=DKIM1; k=rsa; p=".to_vec(), DkimKeyError::NoPem),
            (wrap("PRIVATE KEY", b"damaged"), DkimKeyError::Unusable),
            (wrap("RSA PRIVATE KEY", b"damaged"), DkimKeyError::Unusable),
            (ecdsa, DkimKeyError::Unusable),
        ] {
            assert_eq!(DkimKey::from_pem(&pem).unwrap_err(), error);
        }
    }
}
