//! Certificates against TLSA records: RFC 7671 §4-§9, RFC 7672 §3.
//!
//! Input, numbers big-endian:
//! ```text
//! 1  number of records; each: 1 usage, 1 selector, 1 matching type, 2 length, data
//!    entries to the end; each: 2 length, then
//!      `@` and a name: a reference identifier
//!      `!` and 8 octets: the time in milliseconds
//!      anything else: a certificate as DER, the server's own first
//! ```
//! Without names the reference identifier is `mail.example.test`, without a time it is January
//! 2027. A certificate begins with neither `@` nor `!`, so any chain can be said.

use dane_relay::clock::Timestamp;
use dane_relay::outcome::DaneFailure;
use dane_relay::policy::dane::{DaneMatch, usable, verify};
use dane_relay::policy::x509::certificate::{public_key_info, sha256_hex};
use dane_relay::policy::x509::signature::{offered_schemes, verify_handshake};
use dane_relay::policy::x509::webpki::WebPki;
use dane_relay::resolve::TlsaRecord;
use dane_relay::smtp::address::Domain;
use rustls::RootCertStore;
use std::sync::Arc;

const NOW: Timestamp = Timestamp(1_798_761_600_000);

/// Gives what DANE says.
pub(crate) fn check(input: &[u8]) -> Result<DaneMatch, DaneFailure> {
    let Question { records, chain, references, now } = read(input);
    let said = verify(&chain, &records, &references, now);
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
    // RFC 7672 §3.1.2: and what DANE-TA(2) matches needs a name.
    let nameless = verify(&chain, &records, &[], now);
    assert_eq!(nameless.is_ok(), by_leaf, "without a reference identifier only DANE-EE can match");
    order_does_not_matter(&records, &chain, &references, now);
    for scheme in offered_schemes() {
        let signed = leaf.is_some_and(|leaf| verify_handshake(input, leaf, scheme, input).is_ok());
        assert!(!signed, "nobody signed this");
    }
    public_pki(&chain, &references, now);
    said
}

/// The same question with the records turned round and a stranger at the end: the same answer.
fn order_does_not_matter(records: &[TlsaRecord], chain: &[&[u8]], references: &[Domain], now: Timestamp) {
    // Beyond the bounds what comes first does matter.
    if chain.len() >= 8 || records.len() > 4 {
        return;
    }
    let turned: Vec<TlsaRecord> = records.iter().rev().cloned().collect();
    let said = verify(chain, records, references, now).is_ok();
    assert_eq!(verify(chain, &turned, references, now).is_ok(), said, "the records turned round");
    if let Some((leaf, above)) = chain.split_first() {
        let longer: Vec<&[u8]> = std::iter::once(*leaf).chain(above.iter().rev().copied()).chain([&b"?"[..]]).collect();
        assert_eq!(verify(&longer, records, references, now).is_ok(), said, "the chain turned round");
    }
}

/// The rules of the public PKI on the same chain, its last certificate as the only root.
fn public_pki(chain: &[&[u8]], references: &[Domain], now: Timestamp) {
    let mut roots = RootCertStore::empty();
    let has_root = chain.last().is_some_and(|last| roots.add(last.to_vec().into()).is_ok());
    let pki = WebPki::new(Arc::new(roots));
    for host in references {
        let good = pki.check(chain, host, now);
        assert!(has_root || good.is_err(), "trusted without a root");
    }
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

struct Question<'i> {
    records: Vec<TlsaRecord>,
    chain: Vec<&'i [u8]>,
    references: Vec<Domain>,
    now: Timestamp,
}

fn read(input: &[u8]) -> Question<'_> {
    let mut question = Question { records: Vec::new(), chain: Vec::new(), references: Vec::new(), now: NOW };
    let (count, mut rest) = input.split_first().map_or((0, input), |(count, rest)| (*count, rest));
    for _ in 0..count {
        let [usage, selector, matching, after @ ..] = rest else { break };
        let (data, after) = counted(after);
        let data = data.to_vec();
        question.records.push(TlsaRecord { usage: *usage, selector: *selector, matching: *matching, data });
        rest = after;
    }
    while !rest.is_empty() {
        let (entry, after) = counted(rest);
        match entry {
            [b'@', name @ ..] => {
                question.references.extend(std::str::from_utf8(name).ok().and_then(|n| n.parse().ok()))
            }
            [b'!', a, b, c, d, e, f, g, h] => {
                question.now = Timestamp(i64::from_be_bytes([*a, *b, *c, *d, *e, *f, *g, *h]));
            }
            der => question.chain.push(der),
        }
        rest = after;
    }
    if question.references.is_empty() {
        question.references.extend("mail.example.test".parse());
    }
    question
}

/// Octets with their length in front; as many as there are.
fn counted(input: &[u8]) -> (&[u8], &[u8]) {
    let [high, low, rest @ ..] = input else { return (&[], &[]) };
    rest.split_at(usize::from(u16::from_be_bytes([*high, *low])).min(rest.len()))
}
