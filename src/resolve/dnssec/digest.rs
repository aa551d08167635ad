//! What ties a key to the digest of it that the zone above, or an anchor, has (RFC 4034 §5.1.4).

use hickory_proto::dnssec::rdata::{DNSKEY, DS};
use hickory_proto::dnssec::{Algorithm, DigestType, PublicKey as _};
use hickory_proto::rr::Name;
use std::collections::BTreeMap;

/// SHA-256, SHA-384 and, where none of them is there, SHA-1, each of the right length. Who wants
/// to own a zone by its SHA-1 digest must find a second key for the one that is published, which
/// nobody can; two keys with one digest, which can be made, help nobody who does not own it.
pub(super) fn is_supported_digest(ds: &DS) -> bool {
    (ds.digest_type() == DigestType::SHA256 && ds.digest().len() == 32)
        || (ds.digest_type() == DigestType::SHA384 && ds.digest().len() == 48)
        || (ds.digest_type() == DigestType::SHA1 && ds.digest().len() == 20)
}

/// Those of the digests that are of the key (RFC 4034 §5.1.4 and RFC 4035 §5.2: tag, algorithm
/// and digest fit, and it is a zone key). However many there are, each kind is made once.
pub(super) fn digests_of<'d>(digests: &'d [DS], tag: u16, key: &DNSKEY, zone: &Name) -> Vec<&'d DS> {
    if !key.zone_key() || key.revoke() {
        return Vec::new();
    }
    let mut made = BTreeMap::new();
    let mut is_of_key = |ds: &&DS| {
        if ds.key_tag() != tag || ds.algorithm() != algorithm(key) || !is_supported_digest(ds) {
            return false;
        }
        let kind = ds.digest_type();
        let digest = made.entry(u8::from(kind)).or_insert_with(|| key.to_digest(zone, kind).ok());
        digest.as_ref().is_some_and(|digest| digest.as_ref() == ds.digest())
    };
    digests.iter().filter(|ds| is_of_key(ds)).collect()
}

pub(super) fn algorithm(key: &DNSKEY) -> Algorithm {
    key.public_key().algorithm()
}

/// By type alone: a digest of the wrong length is a broken delegation, not an unknown one.
pub(super) fn is_known_digest(ds: &DS) -> bool {
    [DigestType::SHA256, DigestType::SHA384, DigestType::SHA1].contains(&ds.digest_type())
}
