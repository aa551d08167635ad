//! The keys of the lab's zones and the signatures made with them (RFC 4034 §3, §6).
//!
//! The bytes to be signed are built here, and only the bare signature comes from hickory's
//! primitives: a validator that shares hickory's canonical form would not see an error in it.
//! Every fault of a signature that a test may ask for is made here, in [`SignatureFault`].

use super::{bad, zone::RrSet};
use crate::clock::Timestamp;
use hickory_proto::dnssec::crypto::{EcdsaSigningKey, Ed25519SigningKey};
use hickory_proto::dnssec::rdata::sig::SigInput;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS, RRSIG};
use hickory_proto::dnssec::{Algorithm, DigestType, PublicKey, SigningKey, TBS};
use hickory_proto::rr::{DNSClass, Name, RData, Record, SerialNumber};
use hickory_proto::serialize::binary::{BinEncodable, BinEncoder, NameEncoding};
use std::io;
use std::time::Duration;

/// How long before the question a signature begins: room for a clock that is behind.
const INCEPTION_BEFORE: Duration = Duration::from_secs(3600);
/// How long a signature lasts, as signers of real zones choose it.
const LIFETIME: Duration = Duration::from_secs(14 * 24 * 3600);
/// How far outside its window a faulty signature lies: beyond the day of clock skew that some
/// validators forgive.
const OUTSIDE: Duration = Duration::from_secs(3 * 24 * 3600);

/// The algorithm of a zone's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyAlgorithm {
    /// Algorithm 13, ECDSA P-256 with SHA-256 (RFC 6605).
    EcdsaP256,
    /// Algorithm 15, Ed25519 (RFC 8080).
    Ed25519,
}

/// What is wrong with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    /// The window ended three days ago.
    Expired,
    /// The window begins in three days.
    NotYetValid,
    /// One bit is flipped.
    Bogus,
    /// There is none.
    Missing,
}

/// The one key of a zone: it signs the DNSKEY RRset and everything else.
pub struct ZoneKey {
    origin: Name,
    key: Box<dyn SigningKey>,
    dnskey: DNSKEY,
    tag: u16,
}

impl ZoneKey {
    /// A fresh key for the zone `origin`.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn generate(origin: &Name, algorithm: KeyAlgorithm) -> io::Result<Self> {
        let key: Box<dyn SigningKey> = match algorithm {
            KeyAlgorithm::EcdsaP256 => {
                let pkcs8 = EcdsaSigningKey::generate_pkcs8(Algorithm::ECDSAP256SHA256).map_err(bad)?;
                Box::new(EcdsaSigningKey::from_pkcs8(&pkcs8, Algorithm::ECDSAP256SHA256).map_err(bad)?)
            }
            KeyAlgorithm::Ed25519 => {
                let pkcs8 = Ed25519SigningKey::generate_pkcs8().map_err(bad)?;
                Box::new(Ed25519SigningKey::from_pkcs8(&pkcs8).map_err(bad)?)
            }
        };
        // Flags 257: a zone key and the entry point that the parent's DS names (RFC 4034 §2.1.1).
        let dnskey = DNSKEY::new(true, true, false, key.to_public_key().map_err(bad)?);
        let tag = dnskey.calculate_key_tag().map_err(bad)?;
        Ok(Self { origin: origin.clone(), key, dnskey, tag })
    }

    /// The public half.
    #[must_use]
    pub fn dnskey(&self) -> &DNSKEY {
        &self.dnskey
    }

    /// The DS record (SHA-256) that the parent signs (RFC 4034 §5).
    ///
    /// # Errors
    /// Only when the digest cannot be made, which no key of ours causes.
    pub fn ds(&self) -> io::Result<DS> {
        let digest = self.dnskey.to_digest(&self.origin, DigestType::SHA256).map_err(bad)?;
        let algorithm = self.dnskey.public_key().algorithm();
        Ok(DS::new(self.tag, algorithm, DigestType::SHA256, digest.as_ref().to_vec()))
    }

    /// The RRSIG over `set` as it is at `now`; none when it shall be missing.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn sign(&self, set: &RrSet, now: Timestamp, fault: Option<SignatureFault>) -> io::Result<Option<Record>> {
        if fault == Some(SignatureFault::Missing) {
            return Ok(None);
        }
        let (inception, expiration) = window(now, fault);
        let input = SigInput {
            type_covered: set.rtype,
            algorithm: self.key.algorithm(),
            // A leading `*` is not counted: that is how a validator sees the expansion (§3.1.3).
            num_labels: set.owner.num_labels(),
            original_ttl: set.ttl_s,
            sig_expiration: serial(expiration),
            sig_inception: serial(inception),
            key_tag: self.tag,
            signer_name: self.origin.clone(),
        };
        let message = signed_data(set, &input)?;
        let mut signature = self.key.sign(&TBS::from(message.as_slice())).map_err(bad)?;
        if fault == Some(SignatureFault::Bogus)
            && let Some(byte) = signature.get_mut(10)
        {
            *byte ^= 1;
        }
        let rrsig = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input, signature)));
        Ok(Some(Record::from_rdata(set.owner.clone(), set.ttl_s, rrsig)))
    }
}

impl std::fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZoneKey({} tag {})", self.origin, self.tag)
    }
}

fn window(now: Timestamp, fault: Option<SignatureFault>) -> (Timestamp, Timestamp) {
    let before = |moment: Timestamp, by: Duration| {
        Timestamp(moment.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    };
    match fault {
        Some(SignatureFault::Expired) => (before(now, LIFETIME), before(now, OUTSIDE)),
        Some(SignatureFault::NotYetValid) => (now.plus(OUTSIDE), now.plus(LIFETIME)),
        Some(SignatureFault::Bogus | SignatureFault::Missing) | None => {
            (before(now, INCEPTION_BEFORE), now.plus(LIFETIME))
        }
    }
}

/// RFC 4034 §3.1.5: seconds since 1970 in serial arithmetic, so only the low 32 bits count.
fn serial(moment: Timestamp) -> SerialNumber {
    let [_, _, _, _, a, b, c, d] = moment.unix_seconds().to_be_bytes();
    SerialNumber::new(u32::from_be_bytes([a, b, c, d]))
}

/// RFC 4034 §3.1.8.1: the RRSIG without its signature, then every record in canonical form,
/// sorted by its RDATA as bytes (§6.3).
fn signed_data(set: &RrSet, input: &SigInput) -> io::Result<Vec<u8>> {
    let mut message = canonical(input)?;
    let owner = canonical(&set.owner)?;
    let mut rdata = set.data.iter().map(canonical).collect::<io::Result<Vec<_>>>()?;
    rdata.sort();
    rdata.dedup();
    for data in rdata {
        message.extend_from_slice(&owner);
        message.extend_from_slice(&u16::from(set.rtype).to_be_bytes());
        message.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
        message.extend_from_slice(&input.original_ttl.to_be_bytes());
        message.extend_from_slice(&u16::try_from(data.len()).map_err(bad)?.to_be_bytes());
        message.extend_from_slice(&data);
    }
    Ok(message)
}

/// RFC 4034 §6.2: names uncompressed and in lower case.
fn canonical(item: &impl BinEncodable) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    item.emit(&mut encoder).map_err(bad)?;
    Ok(bytes)
}
