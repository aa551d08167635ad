//! From a validated answer to the nouns of mail: addresses, MX hosts, TLSA records.

use super::answer::{Answer, Data, PositiveAnswer, RecordType, TXT_LIMIT};
use super::dnssec::{Alias, Outcome, Validated};
use super::{Security, TlsaRecord};
use crate::outcome::{Cause, Question};
use crate::smtp::address::Domain;
use hickory_proto::rr::{Name, RData, RecordType as WireType};

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

/// A name as it is asked for. Labels that are no host names, with a hyphen at an edge, are labels all
/// the same; `None` when it does not fit into the DNS.
pub(super) fn wire_name(name: &str) -> Option<Name> {
    let labels = || name.split('.').map(str::as_bytes);
    Name::from_ascii(format!("{name}.")).or_else(|_| Name::from_labels(labels())).ok()
}

fn domain_of(name: &Name) -> Option<Domain> {
    // By its labels: as text it may have escapes, and a dot within a label would look like two.
    let label = |label: &[u8]| std::str::from_utf8(label).ok().filter(|text| !text.contains('.')).map(str::to_owned);
    let labels: Option<Vec<String>> = name.iter().map(label).collect();
    Domain::published(&labels?.join(".")).ok()
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
    fn rfc8461_3_1_the_strings_of_a_txt_record_are_joined_without_a_space() {
        let txt = |strings: Vec<&[u8]>| data_of(&RData::TXT(TXT::from_bytes(strings)));
        assert_eq!(txt(vec![b"v=STSv1; i", b"", b"d=1;\xff"]), Some(Data::Txt(b"v=STSv1; id=1;\xff".to_vec())));
        let Some(Data::Txt(long)) = txt(vec![&[b'a'; 255]; 20]) else { panic!() };
        assert_eq!(long.len(), TXT_LIMIT);
    }
}
