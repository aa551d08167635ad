//! Whether a server's certificates satisfy its TLSA records
//! (RFC 6698 §2.1, RFC 7671 §4-§9, RFC 7672 §3).
//!
//! One usable record that fits is enough. DANE-EE(3) compares bytes and nothing else: no names,
//! no dates, no chain. DANE-TA(2) wants a valid path to the anchor and one of the reference
//! identifiers in the server's certificate; see [`super::chain`].

use super::certificate::{Certificate, PublicKey, is_one_element, public_key_info};
use super::chain::{self, BareKey, Candidate, Pool, Source};
use crate::clock::Timestamp;
use crate::outcome::DaneFailure;
use crate::resolve::TlsaRecord;
use crate::smtp::address::Domain;
use aws_lc_rs::digest;

/// The most certificates of a server that are looked at, its own included, duplicates and
/// unreadable ones not counted. Real chains have up to five.
pub const CERTIFICATES_LIMIT: usize = 16;
/// The most certificates, and the most keys, taken in full from TLSA records. A domain that
/// publishes full anchors has one or two.
pub const FULL_ANCHORS_LIMIT: usize = 8;

const DANE_TA: u8 = 2;
const DANE_EE: u8 = 3;
const SELECT_CERTIFICATE: u8 = 0;
const SELECT_KEY: u8 = 1;
const FULL: u8 = 0;
const SHA_256: u8 = 1;
const SHA_512: u8 = 2;

/// The record that vouches for the server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaneMatch {
    /// The record.
    pub record: TlsaRecord,
    /// How many certificates stand below the one it fits: 0 for the server's own.
    pub depth: usize,
}

/// The records that count, in their order.
///
/// Malformed and unknown ones go first, usages 0 and 1 among them (RFC 7672 §3.1.3). Of what is
/// left, only the strongest digest of each usage and selector counts, while full data always
/// stays (RFC 7671 §9). Empty means: TLS is still demanded, authentication is not possible
/// (RFC 7672 §2.2).
#[must_use]
pub fn usable(records: &[TlsaRecord]) -> Vec<TlsaRecord> {
    let known: Vec<_> = records.iter().filter(|record| is_well_formed(record)).collect();
    let strongest = |record: &TlsaRecord| {
        let alike = known.iter().filter(|other| (other.usage, other.selector) == (record.usage, record.selector));
        alike.map(|other| other.matching).max().unwrap_or(record.matching)
    };
    // Matching types 1 and 2 happen to be in the order of their strength.
    let counts = |record: &TlsaRecord| record.matching == FULL || record.matching == strongest(record);
    known.iter().filter(|record| counts(record)).map(|&record| record.clone()).collect()
}

fn is_well_formed(record: &TlsaRecord) -> bool {
    let length_fits = match record.matching {
        FULL => is_one_element(&record.data),
        SHA_256 => record.data.len() == digest::SHA256_OUTPUT_LEN,
        SHA_512 => record.data.len() == digest::SHA512_OUTPUT_LEN,
        _ => false,
    };
    matches!(record.usage, DANE_TA | DANE_EE)
        && matches!(record.selector, SELECT_CERTIFICATE | SELECT_KEY)
        && length_fits
}

/// Holds the certificates a server presented against its TLSA records.
///
/// `chain` is DER, the server's own certificate first. Of `records` only the [`usable`] ones
/// count. `references` are the reference identifiers: TLSA base domain, next-hop domain and
/// what that was expanded to by secure CNAMEs (RFC 7672 §3.2.2).
///
/// # Errors
/// The most telling reason when no record fits: a trust anchor that fits while the name, the
/// dates or the chain do not is told rather than [`DaneFailure::NoMatch`].
pub fn verify(
    chain: &[&[u8]],
    records: &[TlsaRecord],
    references: &[Domain],
    now: Timestamp,
) -> Result<DaneMatch, DaneFailure> {
    let records = usable(records);
    let leaf = *chain.first().ok_or_else(|| unreadable("the server presented no certificate"))?;
    if let Some(record) = fitting(&records, DANE_EE, leaf) {
        return Ok(DaneMatch { record: record.clone(), depth: 0 });
    }
    if !records.iter().any(|record| record.usage == DANE_TA) {
        let wants_key = records.iter().any(|record| record.selector == SELECT_KEY);
        return Err(match public_key_info(leaf) {
            None if wants_key => unreadable("no public key can be found in it"),
            None | Some(_) => DaneFailure::NoMatch,
        });
    }
    let pool = gather(chain, &records)?;
    chain::verify(&pool, references, now)
}

fn unreadable(detail: impl Into<String>) -> DaneFailure {
    DaneFailure::Unreadable { detail: detail.into() }
}

/// The first record of a usage that fits a certificate.
fn fitting<'r>(records: &'r [TlsaRecord], usage: u8, der: &[u8]) -> Option<&'r TlsaRecord> {
    let certificate = Some((SELECT_CERTIFICATE, der));
    let key = public_key_info(der).map(|spki| (SELECT_KEY, spki));
    certificate.into_iter().chain(key).find_map(|(selector, selected)| {
        let wanted = |record: &&TlsaRecord| record.usage == usage && record.selector == selector;
        if !records.iter().any(|record| wanted(&record)) {
            return None;
        }
        let sha_256 = digest::digest(&digest::SHA256, selected);
        let sha_512 = digest::digest(&digest::SHA512, selected);
        records.iter().filter(wanted).find(|record| match record.matching {
            FULL => record.data == selected,
            SHA_256 => record.data == sha_256.as_ref(),
            SHA_512 => record.data == sha_512.as_ref(),
            _ => false,
        })
    })
}

/// Everything a path may be built from: what the server presented, then what the DNS holds in
/// full and the server left out (RFC 7671 §5.2.2, §5.2.3).
fn gather<'c>(chain: &[&'c [u8]], records: &'c [TlsaRecord]) -> Result<Pool<'c>, DaneFailure> {
    let mut candidates: Vec<Candidate<'c>> = Vec::new();
    for &der in chain {
        if candidates.len() == CERTIFICATES_LIMIT {
            break;
        }
        if candidates.iter().any(|known| known.certificate.der == der) {
            continue;
        }
        match Certificate::read(der) {
            Ok(certificate) => {
                let anchor = fitting(records, DANE_TA, der);
                candidates.push(Candidate { certificate, anchor, source: Source::Server });
            }
            Err(detail) if candidates.is_empty() => return Err(unreadable(detail)),
            // A stranger in the chain; if it was needed, no path will be found.
            Err(_) => {}
        }
    }
    let full = |selector| {
        move |record: &&TlsaRecord| (record.usage, record.selector, record.matching) == (DANE_TA, selector, FULL)
    };
    for record in records.iter().filter(full(SELECT_CERTIFICATE)).take(FULL_ANCHORS_LIMIT) {
        let is_known = candidates.iter().any(|known| known.certificate.der == record.data);
        if let (false, Ok(certificate)) = (is_known, Certificate::read(&record.data)) {
            candidates.push(Candidate { certificate, anchor: Some(record), source: Source::Dns });
        }
    }
    let mut keys = Vec::new();
    for record in records.iter().filter(full(SELECT_KEY)).take(FULL_ANCHORS_LIMIT) {
        // A certificate with this key brings its own dates and limits: those hold, and the
        // bare key must not be a way around them.
        let key = PublicKey::read(&record.data);
        let is_known = candidates.iter().any(|known| Some(known.certificate.key.bits) == key.map(|key| key.bits));
        if let (false, Some(key)) = (is_known, key) {
            keys.push(BareKey { key, record });
        }
    }
    Ok(Pool { candidates, keys })
}
