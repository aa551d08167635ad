//! RSA signatures by keys below 2048 bits, which the cryptographic library does not check
//! (RFC 8017 §8.1.2, §8.2.2, RFC 8446 §4.2.3).
//!
//! Only for the handshake of a server whose certificate is already settled: a domain that names
//! such a key in its TLSA records gets its mail, and harms nobody but itself with a key that can
//! be broken. Signatures of issuers go another way and must be by 2048 bits or more.
//!
//! Nothing here is secret: a public key, a public signature. So plain arithmetic will do.

use super::certificate::element;
use aws_lc_rs::digest::{self, Algorithm, SHA256, SHA384, SHA512, digest};
use num_bigint::BigUint;

/// The shortest modulus in bits; a shorter one has no room for PKCS#1 v1.5 with SHA-256.
pub(in crate::policy) const MODULUS_MIN_BITS: u64 = 512;
/// From this many bits on the library does the work.
pub(in crate::policy) const MODULUS_END_BITS: u64 = 2048;
/// The longest public exponent in bits, as in BoringSSL and its kin: a bound on our work.
const EXPONENT_LIMIT_BITS: u64 = 33;
/// The least padding of PKCS#1 v1.5 in octets (RFC 8017 §9.2).
const PADDING_MIN: usize = 8;

/// How the digest was padded before it was signed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Padding {
    /// RSASSA-PKCS1-v1_5.
    Pkcs1,
    /// RSASSA-PSS with MGF1 of the same digest, and a salt as long as it.
    Pss,
}

/// A digest that TLS signs with RSA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Hash {
    /// SHA-256.
    Sha256,
    /// SHA-384.
    Sha384,
    /// SHA-512.
    Sha512,
}

impl Hash {
    const fn algorithm(self) -> &'static Algorithm {
        match self {
            Self::Sha256 => &SHA256,
            Self::Sha384 => &SHA384,
            Self::Sha512 => &SHA512,
        }
    }

    /// What stands before the digest in a DigestInfo (RFC 8017 §9.2, note 1).
    const fn digest_info(self) -> &'static [u8] {
        match self {
            Self::Sha256 => b"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20",
            Self::Sha384 => b"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30",
            Self::Sha512 => b"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40",
        }
    }
}

/// A public key of [`MODULUS_MIN_BITS`] to below [`MODULUS_END_BITS`].
#[derive(Debug)]
pub(in crate::policy) struct SmallRsa {
    modulus: BigUint,
    exponent: BigUint,
}

impl SmallRsa {
    /// Reads an RSAPublicKey (RFC 8017 §A.1.1); `None` when it is malformed or of another size.
    pub(in crate::policy) fn read(bits: &[u8]) -> Option<Self> {
        let (key, after) = element(bits)?;
        let (modulus, rest) = element(key.content)?;
        let (exponent, end) = element(rest)?;
        let key = Self {
            modulus: BigUint::from_bytes_be(modulus.content),
            exponent: BigUint::from_bytes_be(exponent.content),
        };
        let is_sound = after.is_empty()
            && end.is_empty()
            && (MODULUS_MIN_BITS..MODULUS_END_BITS).contains(&key.modulus.bits())
            && (2..=EXPONENT_LIMIT_BITS).contains(&key.exponent.bits())
            && key.modulus.bit(0)
            && key.exponent.bit(0);
        is_sound.then_some(key)
    }

    /// Whether the key signed the message.
    pub(in crate::policy) fn signed(&self, padding: Padding, hash: Hash, message: &[u8], signature: &[u8]) -> bool {
        let octets = |bits: u64| usize::try_from(bits.div_ceil(8)).unwrap_or(0);
        let length = octets(self.modulus.bits());
        let signature_number = BigUint::from_bytes_be(signature);
        if signature.len() != length || signature_number >= self.modulus {
            return false;
        }
        let opened = signature_number.modpow(&self.exponent, &self.modulus).to_bytes_be();
        let digest = digest(hash.algorithm(), message);
        match padding {
            Padding::Pkcs1 => pkcs1(hash, digest.as_ref(), length).is_some_and(|encoded| encoded == opened),
            Padding::Pss => {
                let encoded_bits = self.modulus.bits() - 1;
                let zeros = octets(encoded_bits).checked_sub(opened.len());
                let encoded = zeros.map(|zeros| [vec![0; zeros], opened].concat());
                encoded.is_some_and(|encoded| is_pss(hash, digest.as_ref(), &encoded, encoded_bits))
            }
        }
    }
}

/// EMSA-PKCS1-v1_5 (RFC 8017 §9.2) without its leading zero, as a number comes out.
fn pkcs1(hash: Hash, digest: &[u8], length: usize) -> Option<Vec<u8>> {
    let info = hash.digest_info();
    let padding = length.checked_sub(3 + info.len() + digest.len()).filter(|&padding| padding >= PADDING_MIN)?;
    Some([&[1], vec![0xFF; padding].as_slice(), &[0], info, digest].concat())
}

/// EMSA-PSS-VERIFY (RFC 8017 §9.1.2).
fn is_pss(hash: Hash, message_digest: &[u8], encoded: &[u8], encoded_bits: u64) -> bool {
    let digest_length = hash.algorithm().output_len();
    let Some(([seed_end @ .., 0xBC], block_length)) = Some(encoded).zip(encoded.len().checked_sub(digest_length + 1))
    else {
        return false;
    };
    let Some((masked, seed)) = seed_end.split_at_checked(block_length) else { return false };
    let mut block: Vec<u8> = masked.iter().zip(mask(hash, seed, block_length)).map(|(a, b)| a ^ b).collect();
    // The bits above the number's own must be zero before unmasking and are made zero after it.
    let unused = u32::try_from(8 * encoded.len() as u64 - encoded_bits).unwrap_or(0);
    let kept = 0xFF_u8.checked_shr(unused).unwrap_or(0);
    let (Some(first), Some(masked_first)) = (block.first_mut(), masked.first()) else { return false };
    if masked_first & !kept != 0 {
        return false;
    }
    *first &= kept;
    let Some((before, salt)) = block.len().checked_sub(digest_length).and_then(|at| block.split_at_checked(at)) else {
        return false;
    };
    let [zeros @ .., 1] = before else { return false };
    let hashed = digest(hash.algorithm(), &[&[0; 8], message_digest, salt].concat());
    zeros.iter().all(|&octet| octet == 0) && hashed.as_ref() == seed
}

/// MGF1 (RFC 8017 §B.2.1).
fn mask(hash: Hash, seed: &[u8], length: usize) -> Vec<u8> {
    let blocks = (0_u32..).map(|counter| digest(hash.algorithm(), &[seed, &counter.to_be_bytes()].concat()));
    let mut mask = Vec::with_capacity(length + digest::MAX_OUTPUT_LEN);
    for block in blocks {
        if mask.len() >= length {
            break;
        }
        mask.extend_from_slice(block.as_ref());
    }
    mask.truncate(length);
    mask
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
        let number = |octets: &[u8]| {
            let length = u16::try_from(octets.len()).unwrap().to_be_bytes();
            [&[0x02, 0x82], length.as_slice(), octets].concat()
        };
        let content = [number(modulus), number(exponent)].concat();
        let length = u16::try_from(content.len()).unwrap().to_be_bytes();
        [&[0x30, 0x82], length.as_slice(), &content].concat()
    }

    fn modulus(octets: usize) -> Vec<u8> {
        [vec![0x80], vec![0xFF; octets - 1]].concat()
    }

    #[test]
    fn rfc8017_3_1_only_sound_keys_below_2048_bits_are_read() {
        let usual = [1, 0, 1];
        assert!(SmallRsa::read(&key(&modulus(64), &usual)).is_some());
        assert!(SmallRsa::read(&key(&modulus(255), &usual)).is_some());
        assert!(SmallRsa::read(&key(&modulus(63), &usual)).is_none(), "504 bits");
        assert!(SmallRsa::read(&key(&modulus(256), &usual)).is_none(), "2048 bits are the library's");
        for exponent in [&[0_u8] as &[u8], &[1], &[2], &[4, 0, 0, 0, 1], b""] {
            assert!(SmallRsa::read(&key(&modulus(128), exponent)).is_none(), "exponent {exponent:?}");
        }
        let mut even = modulus(128);
        even[127] = 0xFE;
        assert!(SmallRsa::read(&key(&even, &usual)).is_none());
        for junk in
            [b"".as_slice(), b"\x30\x00", b"\x30\x03\x02\x01\x05", &[&*key(&modulus(64), &usual), b"x"].concat()]
        {
            assert!(SmallRsa::read(junk).is_none());
        }
    }

    #[test]
    fn rfc8017_9_2_pkcs1_needs_room_for_its_padding() {
        let digest = [7; 64];
        assert!(pkcs1(Hash::Sha512, &digest, 94).is_some());
        assert!(pkcs1(Hash::Sha512, &digest, 93).is_none());
        assert!(pkcs1(Hash::Sha512, &digest, 2).is_none());
    }

    #[test]
    fn rfc8017_9_1_2_pss_of_any_length_never_panics() {
        for length in 0..140 {
            for last in [0, 0xBC] {
                let mut encoded = vec![0x11; length];
                if let Some(end) = encoded.last_mut() {
                    *end = last;
                }
                assert!(!is_pss(Hash::Sha256, &[7; 32], &encoded, (length as u64 * 8).saturating_sub(1)));
            }
        }
    }
}
