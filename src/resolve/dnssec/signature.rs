//! One signature over one RRset (RFC 4034 §3 and §6, RFC 4035 §5.3, RFC 6840 §5).
//!
//! The bytes that were signed are built here; only the bare check of them is hickory's. A
//! signature counts when its signer is the zone we ask about, its labels fit, our clock lies in
//! its window, and a key of the zone made it. One good signature is enough.
//!
//! What is counted is cryptographic work, paid from the [`WorkBudget`], and neither signatures nor
//! keys: a signature of a key that is gone costs nothing, and zones in the middle of a roll-over
//! have many. Many keys with one tag, the KeyTrap attack (CVE-2023-50387), cost a check each, and of
//! checks that fail there are fewer.

use super::Reason;
use super::message::{RrSet, depth};
use super::serial::{Time, after_s};
use super::work::{Spent, WorkBudget};
use crate::clock::Timestamp;
use hickory_proto::dnssec::rdata::{DNSKEY, RRSIG};
use hickory_proto::dnssec::{Algorithm, PublicKey as _, PublicKeyBuf};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable as _, BinDecoder, BinEncodable, BinEncoder, NameEncoding};

/// RSA moduli that are checked, in bits; others count as an algorithm we do not know. Below,
/// a key proves little; above, it costs too much.
const RSA_BITS: std::ops::RangeInclusive<usize> = 1024..=8192;

/// The keys of a zone whose chain from the anchor is whole.
#[derive(Debug)]
pub(super) struct ZoneKeys {
    pub(super) zone: Name,
    /// With their tags.
    pub(super) keys: Vec<(u16, DNSKEY)>,
    /// The first end among the signatures that lead here.
    pub(super) signed_until: Timestamp,
}

/// A good signature.
#[derive(Clone, Copy, Debug)]
pub(super) struct Signed {
    /// Labels of the name that was signed; fewer than the owner has means a wildcard.
    pub(super) labels: u8,
    /// The end of the signature.
    pub(super) signed_until: Timestamp,
    /// The end of signature and TTL, whichever is first.
    pub(super) until: Timestamp,
}

/// Why a set is not authenticated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum VerifyError {
    /// It is bogus.
    Bogus(Reason),
    /// The work for this look-up is spent.
    Spent(Name),
}

/// Whether we can check signatures of this algorithm: 8, 10, 13, 14 and 15. Those with SHA-1 (5
/// and 7) count as unknown (RFC 9905 §2), and zones with nothing else as insecure (RFC 4035 §5.2).
pub(super) fn is_supported(algorithm: Algorithm) -> bool {
    [
        Algorithm::RSASHA256,
        Algorithm::RSASHA512,
        Algorithm::ECDSAP256SHA256,
        Algorithm::ECDSAP384SHA384,
        Algorithm::ED25519,
    ]
    .contains(&algorithm)
}

/// Whether a key is of a size we check.
pub(super) fn is_supported_key(key: &PublicKeyBuf) -> bool {
    let algorithm = key.algorithm();
    if algorithm == Algorithm::RSASHA256 || algorithm == Algorithm::RSASHA512 {
        return RSA_BITS.contains(&modulus_bits(key.public_bytes()));
    }
    is_supported(algorithm)
}

/// RFC 3110 §2: the length of the exponent in one or three octets, the exponent, the modulus.
fn modulus_bits(bytes: &[u8]) -> usize {
    let (head, exponent) = match bytes {
        [0, high, low, ..] => (3, usize::from(*high) << 8 | usize::from(*low)),
        [length, ..] => (1, usize::from(*length)),
        [] => return 0,
    };
    let modulus = bytes.get(head + exponent..).unwrap_or_default();
    let zeros = modulus.first().map_or(0, |first| first.leading_zeros() as usize);
    modulus.len() * 8 - zeros
}

/// Checks the set against the keys of `zone`.
///
/// # Errors
/// [`VerifyError`]: no signature of the zone is good, or the work is spent.
pub(super) fn verify(
    set: &RrSet<'_>,
    zone: &ZoneKeys,
    now: Timestamp,
    budget: &mut WorkBudget,
) -> Result<Signed, VerifyError> {
    let mut why = ("RFC 4035 §2.2", format!("the {} records are not signed by the zone {}", set.rtype, zone.zone));
    for signature in set.signatures.iter().filter(|s| s.input().signer_name == zone.zone) {
        if let Err(fault) = acceptable(signature, set, zone, now) {
            why = fault;
            continue;
        }
        match made_by_zone(signature, set, zone, budget) {
            Ok(true) => return Ok(signed(signature, set, now)),
            Ok(false) => {
                let tag = signature.input().key_tag;
                let said =
                    format!("no key of {} made the signature with tag {tag} over the {} records", zone.zone, set.rtype);
                why = ("RFC 4035 §5.3.3", said);
            }
            Err(Spent) => return Err(VerifyError::Spent(set.owner.clone())),
        }
    }
    Err(VerifyError::Bogus(Reason::new(why.0, set.owner, why.1)))
}

/// RFC 4035 §5.3.1, all that can be said without a key.
fn acceptable(
    signature: &RRSIG,
    set: &RrSet<'_>,
    zone: &ZoneKeys,
    now: Timestamp,
) -> Result<(), (&'static str, String)> {
    let input = signature.input();
    let labels = input.labels_in(set.owner, &zone.zone);
    if !labels {
        return Err((
            "RFC 4035 §5.3.1",
            format!("the signature over the {} records counts labels that cannot be", set.rtype),
        ));
    }
    if !is_supported(input.algorithm) {
        return Err((
            "RFC 4035 §5.2",
            format!("the {} records are signed with an algorithm the zone does not use", set.rtype),
        ));
    }
    let (inception, expiration) = (input.sig_inception.get(), input.sig_expiration.get());
    if Time::of(now).is_before(inception) {
        return Err(("RFC 4035 §5.3.1", format!("the signature over the {} records begins in the future", set.rtype)));
    }
    if Time::of(now).is_after(expiration) || Time(inception).is_after(expiration) {
        return Err(("RFC 4035 §5.3.1", format!("the signature over the {} records has expired", set.rtype)));
    }
    Ok(())
}

trait Labels {
    fn labels_in(&self, owner: &Name, zone: &Name) -> bool;
}

impl Labels for hickory_proto::dnssec::rdata::SigInput {
    /// RFC 4034 §3.1.3: not more labels than the owner has, and not fewer than its zone.
    fn labels_in(&self, owner: &Name, zone: &Name) -> bool {
        zone.zone_of(owner) && self.num_labels <= owner.num_labels() && usize::from(self.num_labels) >= depth(zone)
    }
}

fn made_by_zone(signature: &RRSIG, set: &RrSet<'_>, zone: &ZoneKeys, budget: &mut WorkBudget) -> Result<bool, Spent> {
    let input = signature.input();
    let fits = |key: &&(u16, DNSKEY)| key.0 == input.key_tag && key.1.public_key().algorithm() == input.algorithm;
    let mut bytes = None;
    for (_tag, key) in zone.keys.iter().filter(fits) {
        budget.signature(key.public_key())?;
        let bytes = bytes.get_or_insert_with(|| signed_bytes(signature, set));
        let Some(bytes) = bytes else { return Ok(false) };
        if key.public_key().verify(bytes, signature.sig()).is_ok() {
            return Ok(true);
        }
        budget.failed(key.public_key())?;
    }
    Ok(false)
}

/// RFC 4035 §5.3.3: neither the TTL received nor the signed one nor the signature is outlived.
fn signed(signature: &RRSIG, set: &RrSet<'_>, now: Timestamp) -> Signed {
    let input = signature.input();
    let signed_until = Time(input.sig_expiration.get()).near(now);
    let ttl_s = set.ttl_s.min(input.original_ttl);
    let until = after_s(now, ttl_s).min(signed_until);
    Signed { labels: input.num_labels, signed_until, until }
}

/// RFC 4034 §3.1.8.1 with §6.2 and §6.3: the signature's own fields, then the records in
/// canonical form and order, each once.
fn signed_bytes(signature: &RRSIG, set: &RrSet<'_>) -> Option<Vec<u8>> {
    let input = signature.input();
    let mut bytes = canonical(input)?;
    let owner = canonical(&signed_name(set.owner, input.num_labels)?)?;
    let mut data: Vec<Vec<u8>> = set.records.iter().map(|r| canonical_data(r)).collect::<Option<_>>()?;
    data.sort();
    data.dedup();
    for data in data {
        bytes.extend_from_slice(&owner);
        bytes.extend_from_slice(&u16::from(set.rtype).to_be_bytes());
        bytes.extend_from_slice(&u16::from(DNSClass::IN).to_be_bytes());
        bytes.extend_from_slice(&input.original_ttl.to_be_bytes());
        bytes.extend_from_slice(&u16::try_from(data.len()).ok()?.to_be_bytes());
        bytes.extend_from_slice(&data);
    }
    Some(bytes)
}

/// RFC 4035 §5.3.2: the owner, or the wildcard it was made from.
fn signed_name(owner: &Name, labels: u8) -> Option<Name> {
    if labels == owner.num_labels() {
        return Some(owner.clone());
    }
    owner.trim_to(usize::from(labels)).prepend_label("*").ok()
}

/// RFC 4034 §6.2. Hickory keeps the names in types that it does not know as they were written.
fn canonical_data(record: &Record) -> Option<Vec<u8>> {
    if let RData::Unknown { rdata, .. } = &record.data
        && let Some((octets_before, names)) = names_inside(record.record_type())
        && let Some(data) = with_small_names(&rdata.anything, octets_before, names)
    {
        return Some(data);
    }
    canonical(&record.data)
}

/// The types of RFC 4034 §6.2 that hickory does not know: how many octets come before the names,
/// and how many names there are. Types that came later keep their capitals (RFC 3597 §7).
fn names_inside(record_type: RecordType) -> Option<(usize, usize)> {
    match u16::from(record_type) {
        // MD, MF, MB, MG, MR, DNAME
        3 | 4 | 7 | 8 | 9 | 39 => Some((0, 1)),
        // MINFO, RP
        14 | 17 => Some((0, 2)),
        // AFSDB, RT, KX
        18 | 21 | 36 => Some((2, 1)),
        // PX
        26 => Some((2, 2)),
        _ => None,
    }
}

fn with_small_names(data: &[u8], octets_before: usize, names: usize) -> Option<Vec<u8>> {
    let mut small = data.get(..octets_before)?.to_vec();
    let mut decoder = BinDecoder::new(data.get(octets_before..)?);
    for _name in 0..names {
        small.extend(canonical(&Name::read(&mut decoder).ok()?)?);
    }
    decoder.is_empty().then_some(small)
}

fn canonical(item: &impl BinEncodable) -> Option<Vec<u8>> {
    let mut bytes = Vec::with_capacity(128);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    item.emit(&mut encoder).ok()?;
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::NULL;

    fn canonical_of(record_type: u16, data: &[u8]) -> Vec<u8> {
        let rdata = RData::Unknown { code: RecordType::from(record_type), rdata: NULL::with(data.to_vec()) };
        canonical_data(&Record::from_rdata(Name::root(), 300, rdata)).unwrap()
    }

    #[test]
    fn rfc4034_6_2_names_in_the_types_of_old_are_signed_in_small_letters() {
        assert_eq!(canonical_of(39, b"\x01A\x01B\0"), b"\x01a\x01b\0", "DNAME");
        assert_eq!(canonical_of(17, b"\x01A\0\x01B\0"), b"\x01a\0\x01b\0", "RP");
        assert_eq!(canonical_of(18, b"AB\x01A\0"), b"AB\x01a\0", "AFSDB");
        assert_eq!(canonical_of(26, b"AB\x01A\0\x01B\0"), b"AB\x01a\0\x01b\0", "PX");
    }

    #[test]
    fn rfc3597_7_data_of_other_types_and_broken_data_stay_as_they_are() {
        for (record_type, data) in [(65280, b"\x01A\0".as_slice()), (39, b"\x09A\0"), (17, b"\x01A\0"), (18, b"A")] {
            assert_eq!(canonical_of(record_type, data), data, "TYPE{record_type}");
        }
    }
}
