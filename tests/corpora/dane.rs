//! Certificates against TLSA records: RFC 7671 §4-§9, RFC 7672 §3.
//!
//! Input, numbers big-endian:
//! ```text
//! 1  number of records; each: 1 usage, 1 selector, 1 matching type, 2 length, data
//!    certificates to the end, the server's own first; each: 2 length, DER
//! ```
//! The reference identifier is `mail.example.test`, the time is January 2027.

use dane_relay::clock::Timestamp;
use dane_relay::outcome::DaneFailure;
use dane_relay::policy::certificate::{public_key_info, sha256_hex};
use dane_relay::policy::dane::{DaneMatch, usable, verify};
use dane_relay::policy::signature::verify_handshake;
use dane_relay::resolve::TlsaRecord;
use rustls::SignatureScheme;

const NOW: Timestamp = Timestamp(1_798_761_600_000);

/// Gives what DANE says.
pub(crate) fn check(input: &[u8]) -> Result<DaneMatch, DaneFailure> {
    let (records, chain) = read(input);
    let references = ["mail.example.test".parse().unwrap()];
    let said = verify(&chain, &records, &references, NOW);
    let counting = usable(&records);
    assert!(counting.iter().all(|record| records.contains(record) && matches!(record.usage, 2 | 3)));
    if let Ok(DaneMatch { record, depth }) = &said {
        assert!(counting.contains(record), "a record that does not count has matched: {record}");
        assert!(record.usage == 2 || *depth == 0, "{record} at depth {depth}");
    }
    // RFC 7672 §3.1.1: what DANE-EE(3) matches needs nothing else, whatever the rest looks like.
    let leaf = chain.first().copied();
    let vouched = leaf.is_some_and(|leaf| counting.iter().any(|record| matches_leaf(record, leaf)));
    let by_leaf = said.as_ref().is_ok_and(|matched| matched.record.usage == 3);
    assert!(vouched == by_leaf || counting.iter().any(|record| record.usage == 3 && record.matching == 2));
    if let Some(leaf) = leaf {
        let scheme = SignatureScheme::ECDSA_NISTP256_SHA256;
        assert!(verify_handshake(input, leaf, scheme, input).is_err(), "nobody signed this");
    }
    said
}

/// DANE-EE in full or by SHA-256, worked out once more. SHA-512 is left to the code alone.
fn matches_leaf(record: &TlsaRecord, leaf: &[u8]) -> bool {
    let selected = if record.selector == 0 { Some(leaf) } else { public_key_info(leaf) };
    let hex = |data: &[u8]| data.iter().map(|octet| format!("{octet:02x}")).collect::<String>();
    record.usage == 3
        && selected.is_some_and(|selected| match record.matching {
            0 => record.data == selected,
            1 => hex(&record.data) == sha256_hex(selected).to_lowercase(),
            _ => false,
        })
}

fn read(input: &[u8]) -> (Vec<TlsaRecord>, Vec<&[u8]>) {
    let (mut records, mut chain) = (Vec::new(), Vec::new());
    let (count, mut rest) = input.split_first().map_or((0, input), |(count, rest)| (*count, rest));
    for _ in 0..count {
        let [usage, selector, matching, after @ ..] = rest else { break };
        let (data, after) = counted(after);
        records.push(TlsaRecord { usage: *usage, selector: *selector, matching: *matching, data: data.to_vec() });
        rest = after;
    }
    while !rest.is_empty() {
        let (der, after) = counted(rest);
        chain.push(der);
        rest = after;
    }
    (records, chain)
}

/// Octets with their length in front; as many as there are.
fn counted(input: &[u8]) -> (&[u8], &[u8]) {
    let [high, low, rest @ ..] = input else { return (&[], &[]) };
    rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()))
}
