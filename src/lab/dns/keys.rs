//! The keys of the lab's zones and the DS records that vouch for them
//! (RFC 4034 §2, §5 and appendix B).
//!
//! Keys are fresh each time. Tags can be made to collide: the reserved bits of a key's flags count
//! for its tag and for nothing else, so any sound key can be given nearly any tag.

use super::plan::{DsOf, DsSpec, KeyAlgorithm, KeyFlags, KeySpec, Role};
use crate::lab::bad;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rsa::{KeyPair, KeySize};
use hickory_proto::dnssec::crypto::{EcdsaSigningKey, Ed25519SigningKey, RsaSigningKey};
use hickory_proto::dnssec::rdata::{DNSKEY, DS};
use hickory_proto::dnssec::{Algorithm, DigestType, PublicKey as _, PublicKeyBuf, SigningKey, TBS};
use hickory_proto::rr::Name;
use hickory_proto::serialize::binary::BinEncodable as _;
use rustls::pki_types::PrivatePkcs8KeyDer;
use std::io;

/// The zone key bit of the flags (RFC 4034 §2.1.1).
const ZONE: u16 = 0x0100;
/// The secure entry point bit.
const ENTRY: u16 = 0x0001;
/// The revoke bit (RFC 5011 §2.1).
const REVOKED: u16 = 0x0080;
/// Keys tried for a given tag: one in four can have it, so this never runs out.
const TAG_ATTEMPTS: usize = 128;

/// A key of a zone.
pub struct ZoneKey {
    origin: Name,
    key: Box<dyn SigningKey>,
    algorithm: Algorithm,
    prefix: Vec<u8>,
    dnskey: DNSKEY,
    tag: u16,
    role: Role,
}

impl ZoneKey {
    /// A fresh key for the zone `origin`, with this tag if one is given.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn generate(origin: &Name, spec: KeySpec, tag: Option<u16>) -> io::Result<Self> {
        for _ in 0..TAG_ATTEMPTS {
            let (key, algorithm) = pair(spec.algorithm)?;
            // RFC 4034 appendix A.1.1: a private algorithm says by a name whose it is.
            let prefix = match spec.algorithm {
                KeyAlgorithm::Unknown(253) => Name::from_ascii("lab.test.").map_err(bad)?.to_bytes().map_err(bad)?,
                KeyAlgorithm::Unknown(_)
                | KeyAlgorithm::RsaSha1
                | KeyAlgorithm::RsaSha1Nsec3
                | KeyAlgorithm::RsaSha256
                | KeyAlgorithm::RsaSha512
                | KeyAlgorithm::EcdsaP256
                | KeyAlgorithm::EcdsaP384
                | KeyAlgorithm::Ed25519 => Vec::new(),
            };
            let bytes = [prefix.clone(), key.to_public_key().map_err(bad)?.into_inner()].concat();
            let public = PublicKeyBuf::new(bytes, algorithm);
            let Some(flags) = flags(spec, &public, tag)? else { continue };
            let dnskey = DNSKEY::with_flags(flags, public);
            let tag = dnskey.calculate_key_tag().map_err(bad)?;
            return Ok(Self { origin: origin.clone(), key, algorithm, prefix, dnskey, tag, role: spec.role });
        }
        Err(bad("no key can have that tag"))
    }

    /// The zone it belongs to.
    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The algorithm as its records name it.
    #[must_use]
    pub fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// What it is for.
    #[must_use]
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its tag (RFC 4034 appendix B).
    #[must_use]
    pub fn tag(&self) -> u16 {
        self.tag
    }

    /// The public half.
    #[must_use]
    pub fn dnskey(&self) -> &DNSKEY {
        &self.dnskey
    }

    /// The DS record for this key (RFC 4034 §5).
    ///
    /// # Errors
    /// Only when the digest cannot be made, which no key of ours causes.
    pub fn ds(&self, digest: DigestType) -> io::Result<DS> {
        let known = matches!(digest, DigestType::SHA1 | DigestType::SHA256 | DigestType::SHA384);
        let made = self.dnskey.to_digest(&self.origin, if known { digest } else { DigestType::SHA256 });
        Ok(DS::new(self.tag, self.algorithm, digest, made.map_err(bad)?.as_ref().to_vec()))
    }

    /// The bare signature over `data`.
    ///
    /// # Errors
    /// When the machine has no randomness.
    pub fn sign_bytes(&self, data: &[u8]) -> io::Result<Vec<u8>> {
        let signature = self.key.sign(&TBS::from(data)).map_err(bad)?;
        Ok([self.prefix.clone(), signature].concat())
    }
}

impl std::fmt::Debug for ZoneKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "ZoneKey({} tag {} {:?})", self.origin, self.tag, self.role)
    }
}

/// All keys of a plan.
///
/// # Errors
/// When the machine has no randomness, or a tag shall be that of a key not there.
pub(super) fn generate_all(origin: &Name, specs: &[KeySpec]) -> io::Result<Vec<ZoneKey>> {
    let mut keys: Vec<ZoneKey> = Vec::with_capacity(specs.len());
    for spec in specs {
        let tag = match spec.tag_of {
            Some(other) => Some(keys.get(other).ok_or_else(|| bad("a tag like that of a later key"))?.tag),
            None => None,
        };
        keys.push(ZoneKey::generate(origin, *spec, tag)?);
    }
    Ok(keys)
}

/// The DS record that a plan asks for.
///
/// # Errors
/// When the plan has no such key.
pub(super) fn ds(origin: &Name, keys: &[ZoneKey], spec: DsSpec) -> io::Result<DS> {
    let key = |place: usize| keys.get(place).ok_or_else(|| bad("a DS record for a key not in the plan"));
    match spec.of {
        DsOf::Key(place) => key(place)?.ds(spec.digest),
        DsOf::Damaged(place) => {
            let good = key(place)?.ds(spec.digest)?;
            let mut digest = good.digest().to_vec();
            if let Some(first) = digest.first_mut() {
                *first ^= 1;
            }
            Ok(DS::new(good.key_tag(), good.algorithm(), good.digest_type(), digest))
        }
        DsOf::Stranger(algorithm) => {
            ZoneKey::generate(origin, KeySpec::new(algorithm, Role::Combined), None)?.ds(spec.digest)
        }
    }
}

/// The flags that a key must have so that its role and its tag come out as wanted; none when this
/// key cannot have the tag.
fn flags(spec: KeySpec, public: &PublicKeyBuf, tag: Option<u16>) -> io::Result<Option<u16>> {
    let entry = match spec.role {
        Role::Combined | Role::KeySigning => ENTRY,
        Role::ZoneSigning | Role::Standby => 0,
    };
    let flags = match spec.flags {
        KeyFlags::Sound => ZONE | entry,
        KeyFlags::Revoked => ZONE | entry | REVOKED,
        KeyFlags::NotForZones => entry,
    };
    let Some(tag) = tag else { return Ok(Some(flags)) };
    let mut wire = vec![0, 0, 3, u8::from(public.algorithm())];
    wire.extend_from_slice(public.public_bytes());
    let rest: u32 = wire.chunks(2).map(word).sum();
    let reserved = !(ZONE | ENTRY | REVOKED);
    let fits = |candidate: &u16| {
        let sum = rest + u32::from(*candidate);
        candidate & !reserved == flags && (sum + (sum >> 16)) & 0xffff == u32::from(tag)
    };
    Ok((0..=u16::MAX).find(fits))
}

/// RFC 4034 appendix B: octets at even places count for the upper half.
fn word(pair: &[u8]) -> u32 {
    match pair {
        [high, low, ..] => u32::from(u16::from_be_bytes([*high, *low])),
        [high] => u32::from(*high) << 8,
        [] => 0,
    }
}

fn pair(algorithm: KeyAlgorithm) -> io::Result<(Box<dyn SigningKey>, Algorithm)> {
    #[expect(deprecated, reason = "zones of the lab may be signed as nobody should sign any more")]
    Ok(match algorithm {
        KeyAlgorithm::RsaSha1 => (rsa(Algorithm::RSASHA256)?, Algorithm::RSASHA1),
        KeyAlgorithm::RsaSha1Nsec3 => (rsa(Algorithm::RSASHA256)?, Algorithm::RSASHA1NSEC3SHA1),
        KeyAlgorithm::RsaSha256 => (rsa(Algorithm::RSASHA256)?, Algorithm::RSASHA256),
        KeyAlgorithm::RsaSha512 => (rsa(Algorithm::RSASHA512)?, Algorithm::RSASHA512),
        KeyAlgorithm::EcdsaP256 => (ecdsa(Algorithm::ECDSAP256SHA256)?, Algorithm::ECDSAP256SHA256),
        KeyAlgorithm::EcdsaP384 => (ecdsa(Algorithm::ECDSAP384SHA384)?, Algorithm::ECDSAP384SHA384),
        KeyAlgorithm::Ed25519 => (ed25519()?, Algorithm::ED25519),
        KeyAlgorithm::Unknown(number) => (ed25519()?, Algorithm::from_u8(number)),
    })
}

fn rsa(algorithm: Algorithm) -> io::Result<Box<dyn SigningKey>> {
    let pair = KeyPair::generate(KeySize::Rsa2048).map_err(bad)?;
    let pkcs8 = AsDer::<Pkcs8V1Der<'_>>::as_der(&pair).map_err(bad)?.as_ref().to_vec();
    Ok(Box::new(RsaSigningKey::from_pkcs8(&PrivatePkcs8KeyDer::from(pkcs8), algorithm).map_err(bad)?))
}

fn ecdsa(algorithm: Algorithm) -> io::Result<Box<dyn SigningKey>> {
    let pkcs8 = EcdsaSigningKey::generate_pkcs8(algorithm).map_err(bad)?;
    Ok(Box::new(EcdsaSigningKey::from_pkcs8(&pkcs8, algorithm).map_err(bad)?))
}

fn ed25519() -> io::Result<Box<dyn SigningKey>> {
    let pkcs8 = Ed25519SigningKey::generate_pkcs8().map_err(bad)?;
    Ok(Box::new(Ed25519SigningKey::from_pkcs8(&pkcs8).map_err(bad)?))
}
