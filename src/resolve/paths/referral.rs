//! What an authoritative server's message says (pure): an answer, the way to a zone further
//! down, or nothing of use (RFC 1034 §5.3.3).
//!
//! A server is heard only about the names below the zone it was asked for: NS records that do not
//! lead down towards the question, glue outside that zone (RFC 2181 §5.4.1) and answers for other
//! names are left out. None of it is trusted: the validator judges what comes at the end.

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::IpAddr;

/// Name servers of one zone that are kept; real zones have at most 13.
const SERVERS_LIMIT: usize = 16;
/// Addresses of one name server, of one answer about it, that are kept.
pub(super) const ADDRESSES_LIMIT: usize = 4;

/// A name server of a zone, with the addresses that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameServer {
    pub(super) name: Name,
    pub(super) glue: Vec<IpAddr>,
}

/// The way down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Referral {
    /// The zone it leads to.
    pub(super) zone: Name,
    /// Its servers.
    pub(super) servers: Vec<NameServer>,
    /// How long it holds, in seconds.
    pub(super) ttl_s: u32,
}

/// What a message says.
#[derive(Debug)]
pub(super) enum Said {
    /// It answers the question, with records or with a denial.
    Answer(Message),
    /// Others know.
    Down(Referral),
    /// The server does not serve the zone, or says nothing that leads on.
    Lame,
}

/// Reads the message of a server of `zone` to a question.
pub(super) fn read(mut message: Message, zone: &Name, question: &Name, record_type: RecordType) -> Said {
    let code = message.metadata.response_code;
    if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
        return Said::Lame;
    }
    let here = |record: &Record| zone.zone_of(&record.name);
    message.answers.retain(here);
    // Proofs for the end of an alias that leads elsewhere: without that end they prove nothing.
    message.authorities.retain(here);
    if !message.answers.is_empty() {
        return if message.metadata.authoritative { Said::Answer(message) } else { Said::Lame };
    }
    let has_soa = message.authorities.iter().any(|r| r.record_type() == RecordType::SOA && here(r));
    if message.metadata.authoritative && (has_soa || code == ResponseCode::NXDomain) {
        return Said::Answer(message);
    }
    match referral(&message, zone, question, record_type) {
        Some(referral) => Said::Down(referral),
        // Some servers deny without a SOA record.
        None if message.metadata.authoritative => Said::Answer(message),
        None => Said::Lame,
    }
}

fn referral(message: &Message, zone: &Name, question: &Name, record_type: RecordType) -> Option<Referral> {
    // A DS record belongs to the parent (RFC 4035 §3.1.4.1): nobody is sent below for it.
    let lowest =
        if record_type == RecordType::DS && !question.is_root() { question.base_name() } else { question.clone() };
    let leads_down =
        |record: &&Record| record.name != *zone && zone.zone_of(&record.name) && record.name.zone_of(&lowest);
    let mut cut: Option<&Name> = None;
    let mut referral = Referral { zone: Name::root(), servers: Vec::new(), ttl_s: u32::MAX };
    for record in message.authorities.iter().filter(leads_down) {
        let RData::NS(ns) = &record.data else { continue };
        if **cut.get_or_insert(&record.name) != record.name || referral.servers.len() >= SERVERS_LIMIT {
            continue;
        }
        referral.ttl_s = referral.ttl_s.min(record.ttl);
        referral.servers.push(NameServer { name: ns.0.clone(), glue: glue(message, zone, &ns.0) });
    }
    referral.zone = cut?.to_lowercase();
    Some(referral)
}

fn glue(message: &Message, zone: &Name, server: &Name) -> Vec<IpAddr> {
    let of_server = message.additionals.iter().filter(|r| r.name == *server && zone.zone_of(&r.name));
    of_server.filter_map(address).take(ADDRESSES_LIMIT).collect()
}

/// The address in an A or AAAA record.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of all record types")]
pub(super) fn address(record: &Record) -> Option<IpAddr> {
    match &record.data {
        RData::A(a) => Some(a.0.into()),
        RData::AAAA(aaaa) => Some(aaaa.0.into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::OpCode;
    use hickory_proto::rr::rdata::{A, NS};

    fn name(text: &str) -> Name {
        Name::from_ascii(text).unwrap()
    }

    fn record(owner: &str, data: RData) -> Record {
        Record::from_rdata(name(owner), 300, data)
    }

    fn ns(owner: &str, server: &str) -> Record {
        record(owner, RData::NS(NS(name(server))))
    }

    fn a(owner: &str, last: u8) -> Record {
        record(owner, RData::A(A::new(192, 0, 2, last)))
    }

    fn message(authorities: Vec<Record>, additionals: Vec<Record>) -> Message {
        let mut message = Message::response(1, OpCode::Query);
        message.add_authorities(authorities);
        message.add_additionals(additionals);
        message
    }

    fn down(message: Message, record_type: RecordType) -> Option<Referral> {
        match read(message, &name("test."), &name("www.a.test."), record_type) {
            Said::Down(referral) => Some(referral),
            Said::Answer(_) | Said::Lame => None,
        }
    }

    #[test]
    fn rfc1034_5_3_3_a_referral_leads_down_with_its_glue() {
        let found = down(message(vec![ns("a.test.", "ns.a.test.")], vec![a("ns.a.test.", 1)]), RecordType::A).unwrap();
        assert_eq!(found.zone, name("a.test."));
        assert_eq!(found.servers, [NameServer { name: name("ns.a.test."), glue: vec!["192.0.2.1".parse().unwrap()] }]);
        assert_eq!(found.ttl_s, 300);
    }

    #[test]
    fn a_referral_that_does_not_lead_towards_the_question_is_none() {
        for elsewhere in [".", "test.", "b.test.", "example.", "below.www.a.test."] {
            let found = down(message(vec![ns(elsewhere, "ns.a.test.")], vec![]), RecordType::A);
            assert_eq!(found, None, "{elsewhere}");
        }
    }

    #[test]
    fn rfc2181_5_4_1_glue_from_outside_the_zone_is_ignored() {
        let found = message(vec![ns("a.test.", "ns.example.")], vec![a("ns.example.", 1), a("ns.a.test.", 2)]);
        assert_eq!(down(found, RecordType::A).unwrap().servers[0].glue, Vec::<IpAddr>::new());
    }

    #[test]
    fn rfc4035_3_1_4_1_nobody_is_sent_below_a_cut_for_its_ds() {
        let at_cut = message(vec![ns("www.a.test.", "ns.a.test.")], vec![]);
        assert_eq!(down(at_cut.clone(), RecordType::DS), None);
        assert!(down(at_cut, RecordType::A).is_some());
    }

    #[test]
    fn records_of_names_outside_the_zone_are_left_out() {
        let mut both = message(vec![ns("test.", "ns.test."), ns("example.", "ns.example.")], vec![]);
        both.metadata.authoritative = true;
        both.add_answers([a("www.a.test.", 1), a("www.example.", 2)]);
        match read(both, &name("test."), &name("www.a.test."), RecordType::A) {
            Said::Answer(message) => assert_eq!((message.answers.len(), message.authorities.len()), (1, 1)),
            other @ (Said::Down(_) | Said::Lame) => panic!("{other:?}"),
        }
    }

    #[test]
    fn an_answer_without_authority_is_lame() {
        let mut recursive = message(vec![], vec![]);
        recursive.add_answers([a("www.a.test.", 1)]);
        assert!(matches!(read(recursive, &name("test."), &name("www.a.test."), RecordType::A), Said::Lame));
        assert!(matches!(
            read(message(vec![], vec![]), &name("test."), &name("www.a.test."), RecordType::A),
            Said::Lame
        ));
    }
}
