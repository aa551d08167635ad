//! Whether a server's certificates satisfy its TLSA records
//! (RFC 6698 §2.1, RFC 7671 §4-§9, RFC 7672 §3).
//!
//! One usable record that fits is enough. DANE-EE(3) compares bytes and nothing else: no names,
//! no dates, no chain. DANE-TA(2) wants a valid path to the anchor and one of the reference
//! identifiers in the server's certificate; see `super::x509::path`.

use crate::clock::Timestamp;
use crate::outcome::DaneFailure;
use crate::policy::x509::certificate::{ParsedCertificate, PublicKey, is_one_element, public_key_info};
use crate::policy::x509::path::{self, BareKey, Candidate, CandidatePool, CertificateSource};
use crate::resolve::TlsaRecord;
use crate::smtp::address::Domain;
use aws_lc_rs::digest;

/// The most certificates of a server that are looked at, its own included, duplicates and
/// unreadable ones not counted. Real chains have up to five; what fits into the TLS handshake is
/// below this, so that the work is what bounds the search (`path::SIGNATURE_CHECKS_LIMIT`).
pub const CERTIFICATES_LIMIT: usize = 256;
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
        FULL => is_what_it_selects(record),
        SHA_256 => record.data.len() == digest::SHA256_OUTPUT_LEN,
        SHA_512 => record.data.len() == digest::SHA512_OUTPUT_LEN,
        _ => false,
    };
    matches!(record.usage, DANE_TA | DANE_EE)
        && matches!(record.selector, SELECT_CERTIFICATE | SELECT_KEY)
        && length_fits
}

/// Whether full data is a certificate or a key. What is neither can fit nothing that a server might
/// present, so it says nothing: it is not usable (RFC 7672 §2.2), and no mismatch. Only the frame
/// is asked for, since DANE-EE takes certificates that hardly anybody can read.
fn is_what_it_selects(record: &TlsaRecord) -> bool {
    let data = record.data.as_slice();
    match record.selector {
        SELECT_CERTIFICATE => is_one_element(data) && public_key_info(data).and_then(PublicKey::read).is_some(),
        _ => PublicKey::read(data).is_some(),
    }
}

/// Holds the certificates a server presented against its TLSA records.
///
/// `chain` is DER, the server's own certificate first. Of `records` only the [`usable`] ones
/// count. `references` are the reference identifiers: TLSA base domain, next-hop domain and
/// what that was expanded to by secure CNAMEs (RFC 7672 §3.2.2).
///
/// The whole question is in the arguments: nothing is read, asked or remembered, the same
/// arguments give the same answer, and hostile ones cost a bounded number of signature checks
/// (`path::SIGNATURE_CHECKS_LIMIT`).
///
/// ```
/// use dane_relay::clock::Timestamp;
/// use dane_relay::outcome::DaneFailure;
/// use dane_relay::policy::dane::verify;
/// use dane_relay::resolve::TlsaRecord;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // A private CA and a server's certificate below it; the domain publishes `2 0 0` for the CA.
/// use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
/// let (ca_key, server_key) = (KeyPair::generate()?, KeyPair::generate()?);
/// let mut ca = CertificateParams::default();
/// ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
/// let anchor = ca.self_signed(&ca_key)?.der().to_vec();
/// let server = CertificateParams::new(vec!["mx.example.org".to_owned()])?;
/// let leaf = server.signed_by(&server_key, &Issuer::new(ca, ca_key))?.der().to_vec();
///
/// let records = [TlsaRecord { usage: 2, selector: 0, matching: 0, data: anchor }];
/// let now = Timestamp(1_795_261_468_000);
/// let found = verify(&[&leaf], &records, &["mx.example.org".parse()?], now).map_err(|failure| failure.to_string())?;
/// assert_eq!((found.record.usage, found.depth), (2, 1));
///
/// let elsewhere = verify(&[&leaf], &records, &["mx.example.com".parse()?], now);
/// assert_eq!(elsewhere, Err(DaneFailure::NameMismatch { presented: vec!["mx.example.org".to_owned()] }));
/// # Ok(())
/// # }
/// ```
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
    let (record, depth) = path::verify(&pool, references, now)?;
    Ok(DaneMatch { record: record.clone(), depth })
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
pub(super) fn gather<'c>(chain: &[&'c [u8]], records: &'c [TlsaRecord]) -> Result<CandidatePool<'c>, DaneFailure> {
    let mut candidates: Vec<Candidate<'c>> = Vec::new();
    for &der in chain {
        if candidates.len() == CERTIFICATES_LIMIT {
            break;
        }
        if candidates.iter().any(|known| known.certificate.der == der) {
            continue;
        }
        match ParsedCertificate::read(der) {
            Ok(certificate) => {
                let anchor = fitting(records, DANE_TA, der);
                candidates.push(Candidate { certificate, anchor, source: CertificateSource::Server });
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
        if let (false, Ok(certificate)) = (is_known, ParsedCertificate::read(&record.data)) {
            candidates.push(Candidate { certificate, anchor: Some(record), source: CertificateSource::Dns });
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
    Ok(CandidatePool { candidates, keys })
}

#[cfg(test)]
mod tests {
    use super::super::testing::{NOW, domains, leaf_params, root, self_signed, tlsa};
    use super::*;

    fn record(usage: u8, selector: u8, matching: u8, hex: &str) -> TlsaRecord {
        let octet = |i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap();
        TlsaRecord { usage, selector, matching, data: (0..hex.len()).step_by(2).map(octet).collect() }
    }

    fn damaged(mut record: TlsaRecord) -> TlsaRecord {
        record.data[0] ^= 1;
        record
    }

    fn shortened(mut record: TlsaRecord) -> TlsaRecord {
        record.data.pop();
        record
    }

    /// A certificate of version 1, self-signed; its digests were taken with openssl.
    const VERSION_1: &[u8] = include_bytes!("../../testdata/dane/version1.der");

    fn version_1_records() -> [TlsaRecord; 4] {
        [
            record(3, 0, 1, "d42192a5e1ca3655ab1d1afc3c799ad4a3c8a9251904deee33dacfe54ffc2418"),
            record(3, 1, 1, "14075b7242124f47ca2e48307cede4bcfeeae6260454d39cb056c2a7d0bd869e"),
            record(
                3,
                0,
                2,
                "b8411e8985cfa8efa8bcd462b5903b89e8c298aec505149962512c71609261af\
                 c852603d6124cb2348ad597fd3830c7f27bc1399c706dbcaffec3cff7013fd37",
            ),
            record(
                3,
                1,
                2,
                "7079fde903232a68aa39b4d39ebcc8130cf370e78c77761375c948c3e5fd8475\
                 2c60f909a371b19567e65d9f9cc36f0404043bd8a20d6ab4f7961c4fddbd561f",
            ),
        ]
    }

    #[test]
    fn rfc7672_3_1_1_dane_ee_takes_a_version_1_certificate_for_another_name() {
        for record in version_1_records() {
            let found = verify(&[VERSION_1], std::slice::from_ref(&record), &domains(&["mx.example.org"]), NOW);
            assert_eq!(found, Ok(DaneMatch { record, depth: 0 }));
        }
    }

    #[test]
    fn rfc7672_3_1_1_dane_ee_ignores_dates_names_and_strangers_in_the_chain() {
        let mut params = leaf_params(&["other.example"]);
        params.not_after = rcgen::date_time_ymd(1999, 1, 1);
        let leaf = self_signed(params);
        for (selector, matching) in [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)] {
            let record = tlsa(3, selector, matching, &leaf);
            let chain = [leaf.der.as_slice(), b"junk"];
            let found = verify(&chain, std::slice::from_ref(&record), &domains(&["mx.example.org"]), NOW);
            assert_eq!(found, Ok(DaneMatch { record, depth: 0 }), "3 {selector} {matching}");
        }
    }

    #[test]
    fn rfc7671_5_1_dane_ee_looks_at_the_servers_own_certificate_only() {
        let ca = root("CA");
        let leaf = ca.leaf(&["mx.example.org"]);
        let found = verify(&[&leaf.der, &ca.der], &[tlsa(3, 1, 1, &ca)], &domains(&["mx.example.org"]), NOW);
        assert_eq!(found, Err(DaneFailure::NoMatch));
    }

    #[test]
    fn rfc7671_5_1_an_unreadable_certificate_still_matches_in_full() {
        let junk: &[u8] = b"\x30\x03\x02\x01\x05";
        let digest = digest::digest(&digest::SHA256, junk).as_ref().to_vec();
        let by_certificate = TlsaRecord { usage: 3, selector: 0, matching: 1, data: digest.clone() };
        let by_key = TlsaRecord { usage: 3, selector: 1, matching: 1, data: digest };
        assert!(verify(&[junk], &[by_certificate], &[], NOW).is_ok());
        assert!(matches!(verify(&[junk], &[by_key], &[], NOW), Err(DaneFailure::Unreadable { .. })));
        assert!(matches!(verify(&[], &version_1_records(), &[], NOW), Err(DaneFailure::Unreadable { .. })));
    }

    #[test]
    fn rfc7672_3_1_3_usages_0_and_1_are_unusable() {
        let leaf = self_signed(leaf_params(&["mx.example.org"]));
        assert!(usable(&[tlsa(0, 0, 1, &leaf), tlsa(1, 1, 1, &leaf)]).is_empty());
    }

    #[test]
    fn rfc6698_4_1_malformed_and_unknown_records_are_skipped() {
        let leaf = self_signed(leaf_params(&["mx.example.org"]));
        let good = tlsa(3, 1, 1, &leaf);
        let unknown = |usage, selector, matching| TlsaRecord { usage, selector, matching, data: vec![0; 32] };
        let mut longer = good.clone();
        longer.data.push(0);
        let empty = TlsaRecord { data: Vec::new(), ..tlsa(3, 0, 0, &leaf) };
        let all = [
            shortened(good.clone()),
            longer,
            empty,
            shortened(tlsa(3, 0, 0, &leaf)),
            unknown(4, 1, 1),
            unknown(3, 2, 1),
            unknown(3, 1, 3),
            unknown(255, 255, 255),
            good.clone(),
        ];
        assert_eq!(usable(&all), [good]);
        assert!(verify(&[&leaf.der], &all, &[], NOW).is_ok());
    }

    #[test]
    fn rfc7672_2_2_full_data_that_is_no_certificate_or_key_is_unusable_and_no_mismatch() {
        let leaf = self_signed(leaf_params(&["mx.example.org"]));
        let certificate = tlsa(3, 0, 0, &leaf).data;
        let key = tlsa(3, 1, 0, &leaf).data;
        let junk = [b"\x30\x03\x02\x01\x05".to_vec(), b"\x30\x82\x01".to_vec(), vec![0; 32], b"hello".to_vec()];
        for usage in [2, 3] {
            let full = |selector, data: &[u8]| TlsaRecord { usage, selector, matching: 0, data: data.to_vec() };
            for data in &junk {
                assert!(usable(&[full(0, data), full(1, data)]).is_empty(), "{data:?}");
            }
            assert!(usable(&[full(0, &key), full(1, &certificate)]).is_empty(), "each in the place of the other");
            assert_eq!(usable(&[full(0, &certificate), full(1, &key), full(0, VERSION_1)]).len(), 3);
            let beside = [full(0, &junk[0]), damaged(tlsa(3, 1, 1, &leaf))];
            assert_eq!(verify(&[&leaf.der], &beside, &[], NOW), Err(DaneFailure::NoMatch), "the good ones count");
        }
    }

    #[test]
    fn rfc7671_9_only_the_strongest_digest_of_a_usage_and_selector_counts() {
        let leaf = self_signed(leaf_params(&["mx.example.org"]));
        let (sha_256, sha_512) = (tlsa(3, 1, 1, &leaf), tlsa(3, 1, 2, &leaf));
        let check = |records: &[TlsaRecord]| verify(&[&leaf.der], records, &[], NOW).is_ok();
        assert!(!check(&[damaged(sha_512.clone()), sha_256.clone()]), "a weaker digest must not stand in");
        assert!(check(&[sha_512.clone(), damaged(sha_256.clone())]));
        assert!(check(&[shortened(sha_512.clone()), sha_256.clone()]), "a malformed one is no competitor");
        assert!(check(&[damaged(sha_512.clone()), tlsa(3, 0, 1, &leaf)]), "another selector is another matter");
        assert!(check(&[damaged(sha_512), tlsa(3, 1, 0, &leaf)]), "full data always stays");
    }

    #[test]
    fn rfc6698_4_1_one_fitting_record_among_a_hundred_is_enough() {
        let ca = root("CA");
        let leaf = ca.leaf(&["mx.example.org"]);
        let mut records = vec![damaged(tlsa(3, 1, 1, &leaf)); 99];
        records.push(tlsa(2, 0, 1, &ca));
        let found = verify(&[&leaf.der, &ca.der], &records, &domains(&["mx.example.org"]), NOW).unwrap();
        assert_eq!((found.record.usage, found.depth), (2, 1));
    }

    #[test]
    fn rfc7672_3_nothing_fits() {
        let leaf = self_signed(leaf_params(&["mx.example.org"]));
        let records = [damaged(tlsa(3, 1, 1, &leaf)), damaged(tlsa(2, 0, 1, &leaf))];
        assert_eq!(verify(&[&leaf.der], &records, &domains(&["mx.example.org"]), NOW), Err(DaneFailure::NoMatch));
        assert_eq!(verify(&[&leaf.der], &[], &domains(&["mx.example.org"]), NOW), Err(DaneFailure::NoMatch));
    }
}
