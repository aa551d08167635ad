//! From a validated answer to the nouns of mail: addresses, MX hosts, TLSA records.

use super::answer::{Answer, Data, PositiveAnswer, RecordType, TXT_LIMIT};
use super::dnssec::{Alias, Outcome, Validated};
use super::{Security, TlsaRecord};
use crate::outcome::{Cause, Question};
use crate::smtp::address::Domain;
use hickory_proto::rr::{Name, RData, RecordType as WireType};
use std::fmt::Write as _;

/// Reads a validated answer to `question`, which the look-up has checked to be secure or insecure.
pub(super) fn answer(validated: &Validated, question: &Question) -> Answer {
    match &validated.outcome {
        Outcome::Found { records, name, aliases } => Answer::Found(PositiveAnswer {
            security: validated.security,
            expanded: if aliases.is_empty() { None } else { domain_of(name) },
            first_alias: first_alias(aliases),
            data: records.iter().filter_map(|record| data_of(&record.data)).collect(),
        }),
        Outcome::NoData { .. } => Answer::NoData(validated.security),
        Outcome::NxDomain { .. } => Answer::NxDomain(validated.security),
        Outcome::ErrorCode(_) => {
            Answer::Failed(Cause::DnsUnavailable { question: question.clone(), tried: Vec::new() })
        }
    }
}

pub(super) fn wire_type(record_type: RecordType) -> WireType {
    match record_type {
        RecordType::A => WireType::A,
        RecordType::Aaaa => WireType::AAAA,
        RecordType::Mx => WireType::MX,
        RecordType::Tlsa => WireType::TLSA,
        RecordType::Txt => WireType::TXT,
    }
}

/// The label of a metric: the types we ask for, and one word for all others.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of all record types")]
pub(super) fn bounded(record_type: WireType) -> &'static str {
    match record_type {
        WireType::A => "A",
        WireType::AAAA => "AAAA",
        WireType::MX => "MX",
        WireType::TLSA => "TLSA",
        WireType::TXT => "TXT",
        _ => "other",
    }
}

fn first_alias(aliases: &[Alias]) -> Option<Security> {
    aliases.first().map(|alias| alias.security)
}

/// A name as it is asked for. Labels that are no host names, with a hyphen at an edge or with odd octets, are
/// labels all the same; `None` when it does not fit into the DNS.
pub(super) fn wire_name(name: &str) -> Option<Name> {
    let labels = || name.split('.').map(octets_of);
    if name.contains('\\') {
        return Name::from_labels(labels()).ok();
    }
    Name::from_ascii(format!("{name}.")).or_else(|_| Name::from_labels(labels())).ok()
}

fn domain_of(name: &Name) -> Option<Domain> {
    let labels: Vec<String> = name.iter().map(text_of).collect();
    Domain::published(&labels.join(".")).ok()
}

/// A label as text: an octet that no host name has, a dot among them, is a backslash and three decimal digits
/// (RFC 1035 §5.1).
fn text_of(label: &[u8]) -> String {
    let mut text = String::with_capacity(label.len());
    for &octet in label {
        if octet.is_ascii_alphanumeric() || matches!(octet, b'-' | b'_') {
            text.push(octet.into());
        } else {
            let _never_fails = write!(text, "\\{octet:03}");
        }
    }
    text
}

/// The octets of such a text.
fn octets_of(text: &str) -> Vec<u8> {
    let mut pieces = text.split('\\');
    let mut octets = pieces.next().unwrap_or_default().as_bytes().to_vec();
    for piece in pieces {
        let (digits, rest) = piece.split_at_checked(3).unwrap_or((piece, ""));
        octets.extend(digits.parse::<u8>().ok());
        octets.extend_from_slice(rest.as_bytes());
    }
    octets
}

#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of all record types")]
fn data_of(data: &RData) -> Option<Data> {
    match data {
        RData::A(a) => Some(Data::Address(a.0.into())),
        RData::AAAA(aaaa) => Some(Data::Address(aaaa.0.into())),
        RData::MX(mx) if mx.exchange.is_root() => Some(Data::Mx(mx.preference, None)),
        RData::MX(mx) => domain_of(&mx.exchange).map(|name| Data::Mx(mx.preference, Some(name))),
        RData::TLSA(tlsa) => Some(Data::Tlsa(TlsaRecord {
            usage: tlsa.cert_usage.into(),
            selector: tlsa.selector.into(),
            matching: tlsa.matching.into(),
            data: tlsa.cert_data.clone(),
        })),
        RData::TXT(txt) => Some(Data::Txt(txt.txt_data.iter().flatten().copied().take(TXT_LIMIT).collect())),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::rr::rdata::{MX, TXT};

    #[test]
    fn rfc5321_5_1_a_name_with_a_hyphen_at_an_edge_is_taken_as_it_stands() {
        for name in ["-mx.example.org", "mx-.example.org", "mx.-example-.org", "mx1.example.org"] {
            assert_eq!(domain_of(&wire_name(name).unwrap()).unwrap().as_str(), name);
            let exchange = Name::from_labels(name.split('.').map(str::as_bytes)).unwrap();
            let Some(Data::Mx(10, Some(read))) = data_of(&RData::MX(MX::new(10, exchange))) else { panic!("{name}") };
            assert_eq!(read.as_str(), name);
        }
    }

    #[test]
    fn rfc2181_11_a_name_with_odd_octets_is_asked_for_as_it_stands() {
        let odd: [(&[u8], &str); 8] = [
            (b"mx/1", "mx\\0471"),
            (b"*", "\\042"),
            (b"m x", "m\\032x"),
            (b"a@b", "a\\064b"),
            (b"m\\x", "m\\092x"),
            (b"a.b", "a\\046b"),
            ("m\u{fc}".as_bytes(), "m\\195\\188"),
            (&[0; 63], &"\\000".repeat(63)),
        ];
        for (label, text) in odd {
            let exchange = Name::from_labels([label, b"Example", b"org"]).unwrap();
            let Some(Data::Mx(_, Some(read))) = data_of(&RData::MX(MX::new(10, exchange.clone()))) else {
                panic!("{text}")
            };
            assert_eq!(read.as_str(), format!("{text}.example.org"));
            assert_eq!(wire_name(read.as_str()).unwrap(), exchange, "{text}");
        }
        assert!(wire_name(&format!("{}.example.org", "\\000".repeat(64))).is_none());
        assert!(wire_name("a\\").is_some() && wire_name("\\999\\\u{fc}.\\1").is_none(), "junk does no harm");
    }

    #[test]
    fn rfc8461_3_1_the_strings_of_a_txt_record_are_joined_without_a_space() {
        let txt = |strings: Vec<&[u8]>| data_of(&RData::TXT(TXT::from_bytes(strings)));
        assert_eq!(txt(vec![b"v=STSv1; i", b"", b"d=1;\xff"]), Some(Data::Txt(b"v=STSv1; id=1;\xff".to_vec())));
        let Some(Data::Txt(long)) = txt(vec![&[b'a'; 255]; 20]) else { panic!() };
        assert_eq!(long.len(), TXT_LIMIT);
    }
}
