//! The signatures over the lab's records (RFC 4034 §3, §6).
//!
//! The bytes to be signed are built here, and only the bare signature comes from hickory's
//! primitives: a validator that shares hickory's canonical form would not see an error in it.
//! Every fault of a signature that a test may ask for ([`SignatureFault`]) is made here.

use super::keys::ZoneKey;
use super::rrset::{SignatureFault, ZoneRrSet};
use crate::clock::Timestamp;
use crate::lab::bad;
use hickory_proto::dnssec::Algorithm;
use hickory_proto::dnssec::rdata::sig::SigInput;
use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_proto::rr::{DNSClass, RData, Record, SerialNumber};
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

/// Bad signatures before the good one in a flood (CVE-2023-50387 used hundreds).
const FLOOD: u8 = 40;

impl ZoneKey {
    /// The RRSIGs over `set` as they are at `now`: one, unless the fault says otherwise.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn sign(&self, set: &ZoneRrSet, now: Timestamp, fault: Option<SignatureFault>) -> io::Result<Vec<Record>> {
        if fault == Some(SignatureFault::Missing) {
            return Ok(Vec::new());
        }
        let input = self.input(set, now, fault);
        let signature = self.sign_bytes(&signed_data(set, &input)?)?;
        let record = |mask: u8| {
            let mut signature = signature.clone();
            if let Some(byte) = signature.get_mut(10) {
                *byte ^= mask;
            }
            let rrsig = RData::DNSSEC(DNSSECRData::RRSIG(RRSIG::from_sig(input.clone(), signature)));
            Record::from_rdata(set.owner.clone(), set.ttl_s, rrsig)
        };
        Ok(match fault {
            Some(SignatureFault::Bogus) => vec![record(1)],
            Some(SignatureFault::Flooded) => (0..=FLOOD).rev().map(record).collect(),
            Some(
                SignatureFault::Expired
                | SignatureFault::NotYetValid
                | SignatureFault::Missing
                | SignatureFault::WrongSigner
                | SignatureFault::TooFewLabels
                | SignatureFault::TooManyLabels
                | SignatureFault::WrongTag
                | SignatureFault::WrongAlgorithm,
            )
            | None => vec![record(0)],
        })
    }

    fn input(&self, set: &ZoneRrSet, now: Timestamp, fault: Option<SignatureFault>) -> SigInput {
        let (inception, expiration) = window(now, fault);
        let mut input = SigInput {
            type_covered: set.rtype,
            algorithm: self.algorithm(),
            // A leading `*` is not counted: that is how a validator sees the expansion (§3.1.3).
            num_labels: set.owner.num_labels(),
            original_ttl: set.ttl_s,
            sig_expiration: serial(expiration),
            sig_inception: serial(inception),
            key_tag: self.tag(),
            signer_name: self.origin().clone(),
        };
        match fault {
            Some(SignatureFault::WrongSigner) => input.signer_name = self.origin().base_name(),
            Some(SignatureFault::TooFewLabels) => input.num_labels = input.num_labels.saturating_sub(1),
            Some(SignatureFault::TooManyLabels) => input.num_labels += 1,
            Some(SignatureFault::WrongTag) => input.key_tag = !input.key_tag,
            Some(SignatureFault::WrongAlgorithm) => {
                let other = input.algorithm == Algorithm::ED25519;
                input.algorithm = if other { Algorithm::ECDSAP256SHA256 } else { Algorithm::ED25519 };
            }
            Some(
                SignatureFault::Expired
                | SignatureFault::NotYetValid
                | SignatureFault::Bogus
                | SignatureFault::Missing
                | SignatureFault::Flooded,
            )
            | None => {}
        }
        input
    }
}

fn window(now: Timestamp, fault: Option<SignatureFault>) -> (Timestamp, Timestamp) {
    let before = |moment: Timestamp, by: Duration| {
        Timestamp(moment.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)))
    };
    match fault {
        Some(SignatureFault::Expired) => (before(now, LIFETIME), before(now, OUTSIDE)),
        Some(SignatureFault::NotYetValid) => (now.plus(OUTSIDE), now.plus(LIFETIME)),
        Some(
            SignatureFault::Bogus
            | SignatureFault::Missing
            | SignatureFault::WrongSigner
            | SignatureFault::TooFewLabels
            | SignatureFault::TooManyLabels
            | SignatureFault::WrongTag
            | SignatureFault::WrongAlgorithm
            | SignatureFault::Flooded,
        )
        | None => (before(now, INCEPTION_BEFORE), now.plus(LIFETIME)),
    }
}

/// RFC 4034 §3.1.5: seconds since 1970 in serial arithmetic, so only the low 32 bits count.
fn serial(moment: Timestamp) -> SerialNumber {
    let [_, _, _, _, a, b, c, d] = moment.unix_seconds().to_be_bytes();
    SerialNumber::new(u32::from_be_bytes([a, b, c, d]))
}

/// RFC 4034 §3.1.8.1: the RRSIG without its signature, then every record in canonical form,
/// sorted by its RDATA as bytes (§6.3).
fn signed_data(set: &ZoneRrSet, input: &SigInput) -> io::Result<Vec<u8>> {
    let mut message = canonical(input)?;
    // §5.3.2 of RFC 4035: with fewer labels than the owner has, a wildcard is what was signed.
    let expanded = input.num_labels < set.owner.num_labels();
    let signed = set.owner.trim_to(usize::from(input.num_labels));
    let owner = canonical(&if expanded { signed.prepend_label("*").map_err(bad)? } else { set.owner.clone() })?;
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
pub(in crate::lab) fn canonical(item: &impl BinEncodable) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(64);
    let mut encoder = BinEncoder::new(&mut bytes);
    encoder.set_canonical_form(true);
    encoder.set_name_encoding(NameEncoding::UncompressedLowercase);
    item.emit(&mut encoder).map_err(bad)?;
    Ok(bytes)
}
