//! What an authoritative server's message says (pure): an answer, the way to a zone further
//! down, or nothing of use (RFC 1034 §5.3.3).
//!
//! A server is heard only about the names below the zone it was asked for: NS records that do not
//! lead down towards the question, glue outside that zone (RFC 2181 §5.4.1) and answers for other
//! names are left out. None of it is trusted: the validator judges what comes at the end. So no
//! answer is refused for its form; one that another server may well better is [`ReferralReading::Poor`]. Only
//! what sends back or away is no answer: it must never be taken for "there is none".

use super::exchange::WireQuestion;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::net::IpAddr;

/// Name servers of one zone that are kept; real zones have at most 13.
const SERVERS_LIMIT: usize = 16;
/// Addresses of one name server, of one answer about it, that are kept.
pub(super) const ADDRESSES_LIMIT: usize = 4;
/// The code for a version of EDNS that is not known; it is BADSIG as well (RFC 6891 §9).
const BADVERS: u16 = 16;
/// Aliases followed in one answer.
const ALIASES_LIMIT: usize = 16;

/// A name server of a zone, with the addresses that came with it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct NameServer {
    pub(super) name: Name,
    pub(super) glue: Vec<IpAddr>,
}

/// Whether the zone above says that a zone is signed. It is a hint, which decides only whether an
/// answer without signatures is worth having: the validator believes proofs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Delegated {
    /// With DS records.
    Signed,
    /// Without, or nobody said.
    Otherwise,
}

/// The way down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Referral {
    /// The zone it leads to.
    pub(super) zone: Name,
    /// Its servers.
    pub(super) servers: Vec<NameServer>,
    /// Whether it is signed.
    pub(super) delegated: Delegated,
    /// How long it holds, in seconds.
    pub(super) ttl_s: u32,
}

/// What a message says.
#[derive(Debug)]
pub(super) enum ReferralReading {
    /// It answers the question, with records or with a denial.
    Answer(Message),
    /// It answers, and any other server's answer is to be preferred.
    Poor(Message),
    /// Others know.
    Down(Referral),
    /// The server does not know EDNS (RFC 6891 §7).
    NotUnderstood(ResponseCode),
    /// The server failed, or will not.
    Refused(ResponseCode),
    /// The server does not serve the zone, or says nothing that leads on.
    Lame,
}

/// Reads the message of a server of `zone` to a question.
pub(super) fn read(
    mut message: Message,
    zone: &Name,
    delegated: Delegated,
    question: &WireQuestion,
) -> ReferralReading {
    let code = message.metadata.response_code;
    if code == ResponseCode::FormErr || code == ResponseCode::NotImp || u16::from(code) == BADVERS {
        return ReferralReading::NotUnderstood(code);
    }
    if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
        return ReferralReading::Refused(code);
    }
    let here = |record: &Record| zone.zone_of(&record.name);
    message.answers.retain(here);
    let sends_away = message.authorities.iter().any(|r| r.record_type() == RecordType::NS && !here(r));
    // Proofs for the end of an alias that leads elsewhere: without that end they prove nothing.
    message.authorities.retain(here);
    let is_authority = message.metadata.authoritative;
    if !message.answers.is_empty() {
        leave_out_what_lies_elsewhere(&mut message, zone, question);
        return graded(message, delegated);
    }
    let denies = |r: &Record| r.record_type() == RecordType::SOA && r.name.zone_of(&question.name);
    if code == ResponseCode::NXDomain || message.authorities.iter().any(denies) {
        return graded(message, delegated);
    }
    if question.record_type == RecordType::DS && refers_with_proof(&mut message, question) {
        return graded(message, delegated);
    }
    if let Some(referral) = referral(&message, zone, question) {
        return ReferralReading::Down(referral);
    }
    let sends_back = message.authorities.iter().any(|r| r.record_type() == RecordType::NS);
    if is_authority {
        // Some servers deny without a SOA record, some name the servers of the zone in its place.
        graded(message, delegated)
    } else if sends_away || sends_back {
        ReferralReading::Lame
    } else {
        ReferralReading::Poor(message)
    }
}

/// An answer, and whether another server's would be better: it is of a resolver's memory, or of a server
/// that passes no signatures on where there are some.
fn graded(mut message: Message, delegated: Delegated) -> ReferralReading {
    // The servers of the zone prove nothing and can be taken for a referral (RFC 2308 §2.2).
    message.authorities.retain(|record| record.record_type() != RecordType::NS);
    let is_resolver = message.metadata.recursion_available && !message.metadata.authoritative;
    if is_resolver || (delegated == Delegated::Signed && message.edns.is_none()) {
        return ReferralReading::Poor(message);
    }
    ReferralReading::Answer(message)
}

/// What a server says of the end of an alias outside of its zone is not its to say.
#[expect(clippy::wildcard_enum_match_arm, reason = "a foreign enum of all record types")]
fn leave_out_what_lies_elsewhere(message: &mut Message, zone: &Name, question: &WireQuestion) {
    let mut at = question.name.clone();
    for _hop in 0..ALIASES_LIMIT {
        let alias = message.answers.iter().find_map(|record| match &record.data {
            RData::CNAME(target) if record.name == at => Some(target.0.clone()),
            _ => None,
        });
        let Some(target) = alias.filter(|_| question.record_type != RecordType::CNAME) else { return };
        if !zone.zone_of(&target) {
            message.metadata.response_code = ResponseCode::NoError;
            return;
        }
        at = target;
    }
}

/// A question for DS that is answered by the referral to the zone in question: with its DS records, or with the
/// proof that it has none (RFC 4035 §3.1.4). Makes of it the answer it should have been.
fn refers_with_proof(message: &mut Message, question: &WireQuestion) -> bool {
    let at_cut = |r: &Record| r.name == question.name;
    if !message.authorities.iter().any(|r| r.record_type() == RecordType::NS && at_cut(r)) {
        return false;
    }
    let is_ds = |record: &Record| at_cut(record) && (record.record_type() == RecordType::DS || signs_ds(record));
    let (answers, authorities) = message.authorities.drain(..).partition(is_ds);
    (message.answers, message.authorities) = (answers, authorities);
    let proves = |r: &Record| [RecordType::NSEC, RecordType::NSEC3].contains(&r.record_type());
    let has_ds = message.answers.iter().any(|r| r.record_type() == RecordType::DS);
    has_ds || message.authorities.iter().any(proves)
}

fn signs_ds(record: &Record) -> bool {
    matches!(&record.data, RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) if rrsig.input().type_covered == RecordType::DS)
}

fn referral(message: &Message, zone: &Name, question: &WireQuestion) -> Option<Referral> {
    // A DS record belongs to the parent (RFC 4035 §3.1.4.1): nobody is sent below for it.
    let name = &question.name;
    let lowest =
        if question.record_type == RecordType::DS && !name.is_root() { name.base_name() } else { name.clone() };
    let leads_down =
        |record: &&Record| record.name != *zone && zone.zone_of(&record.name) && record.name.zone_of(&lowest);
    let mut cut: Option<&Name> = None;
    let (mut servers, mut ttl_s) = (Vec::new(), u32::MAX);
    for record in message.authorities.iter().filter(leads_down) {
        let RData::NS(ns) = &record.data else { continue };
        if **cut.get_or_insert(&record.name) != record.name || servers.len() >= SERVERS_LIMIT {
            continue;
        }
        ttl_s = ttl_s.min(record.ttl);
        servers.push(NameServer { name: ns.0.clone(), glue: glue(message, zone, &ns.0) });
    }
    let cut = cut?;
    let is_ds = |r: &Record| r.record_type() == RecordType::DS && r.name == *cut;
    let delegated = if message.authorities.iter().any(is_ds) { Delegated::Signed } else { Delegated::Otherwise };
    Some(Referral { zone: cut.to_lowercase(), servers, delegated, ttl_s })
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
    use hickory_proto::dnssec::rdata::{DS, NSEC};
    use hickory_proto::dnssec::{Algorithm, DigestType};
    use hickory_proto::op::{Edns, OpCode};
    use hickory_proto::rr::rdata::{A, CNAME, NS, SOA};

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

    fn question(record_type: RecordType) -> WireQuestion {
        WireQuestion { name: name("www.a.test."), record_type }
    }

    fn said(message: Message, record_type: RecordType) -> ReferralReading {
        read(message, &name("test."), Delegated::Otherwise, &question(record_type))
    }

    fn down(message: Message, record_type: RecordType) -> Option<Referral> {
        if let ReferralReading::Down(referral) = said(message, record_type) { Some(referral) } else { None }
    }

    fn answer(said: ReferralReading) -> Message {
        if let ReferralReading::Answer(message) = said { message } else { panic!("{said:?}") }
    }

    fn soa(owner: &str) -> Record {
        record(owner, RData::SOA(SOA::new(name("ns.test."), name("root.test."), 1, 2, 3, 4, 5)))
    }

    fn authoritative(authorities: Vec<Record>) -> Message {
        let mut message = message(authorities, vec![]);
        message.metadata.authoritative = true;
        message
    }

    #[test]
    fn rfc1034_5_3_3_a_referral_leads_down_with_its_glue() {
        let found = down(message(vec![ns("a.test.", "ns.a.test.")], vec![a("ns.a.test.", 1)]), RecordType::A).unwrap();
        assert_eq!(found.zone, name("a.test."));
        assert_eq!(found.servers, [NameServer { name: name("ns.a.test."), glue: vec!["192.0.2.1".parse().unwrap()] }]);
        assert_eq!((found.ttl_s, found.delegated), (300, Delegated::Otherwise));
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
        let mut both = authoritative(vec![soa("test."), soa("example.")]);
        both.add_answers([a("www.a.test.", 1), a("www.example.", 2)]);
        let message = answer(said(both, RecordType::A));
        assert_eq!((message.answers.len(), message.authorities.len()), (1, 1));
    }

    #[test]
    fn an_answer_without_aa_counts_and_a_resolver_s_only_when_nobody_has_a_better_one() {
        let mut without = message(vec![], vec![]);
        without.add_answers([a("www.a.test.", 1)]);
        answer(said(without.clone(), RecordType::A));
        without.metadata.recursion_available = true;
        assert!(matches!(said(without, RecordType::A), ReferralReading::Poor(_)));
        answer(said(message(vec![soa("test.")], vec![]), RecordType::A));
        assert!(
            matches!(said(message(vec![], vec![]), RecordType::A), ReferralReading::Poor(_)),
            "says nothing at all"
        );
    }

    #[test]
    fn rfc2308_2_2_who_is_sent_back_or_up_has_heard_no_denial() {
        for to in ["test.", "."] {
            let elsewhere = message(vec![ns(to, "ns.test.")], vec![]);
            assert!(matches!(said(elsewhere, RecordType::A), ReferralReading::Lame), "{to}");
        }
    }

    #[test]
    fn rfc2308_2_2_an_authority_may_deny_with_the_servers_of_its_zone_and_without_a_soa() {
        let message = answer(said(authoritative(vec![ns("test.", "ns.test.")]), RecordType::A));
        assert_eq!(message.authorities, [], "what could be taken for a referral is left out");
        answer(said(authoritative(vec![]), RecordType::A));
    }

    #[test]
    fn rfc6891_7_an_answer_without_edns_is_poor_where_there_must_be_signatures() {
        let without = || authoritative(vec![soa("test.")]);
        let read = |message| read(message, &name("test."), Delegated::Signed, &question(RecordType::A));
        assert!(matches!(read(without()), ReferralReading::Poor(_)));
        let mut with = without();
        with.set_edns(Edns::new());
        answer(read(with));
        answer(said(without(), RecordType::A));
    }

    #[test]
    fn rfc6891_7_the_three_ways_to_say_that_edns_is_not_known() {
        for code in [ResponseCode::FormErr, ResponseCode::NotImp, ResponseCode::BADVERS, ResponseCode::BADSIG] {
            let mut message = message(vec![], vec![]);
            message.metadata.response_code = code;
            assert!(matches!(said(message, RecordType::A), ReferralReading::NotUnderstood(_)), "{code}");
        }
        let mut message = message(vec![], vec![]);
        message.metadata.response_code = ResponseCode::ServFail;
        assert!(matches!(said(message, RecordType::A), ReferralReading::Refused(ResponseCode::ServFail)));
    }

    #[test]
    fn rfc4035_3_1_4_a_referral_with_its_proof_answers_the_question_for_ds() {
        let ds = record(
            "www.a.test.",
            RData::DNSSEC(DNSSECRData::DS(DS::new(1, Algorithm::ED25519, DigestType::SHA256, vec![0; 32]))),
        );
        let nsec = NSEC::new(name("x.a.test."), [RecordType::NS]);
        let nsec = record("www.a.test.", RData::DNSSEC(DNSSECRData::NSEC(nsec)));
        let referral = |proof: Vec<Record>| {
            let cut = ns("www.a.test.", "ns.www.a.test.");
            message(std::iter::once(cut).chain(proof).collect(), vec![])
        };
        let signed = answer(said(referral(vec![ds.clone()]), RecordType::DS));
        assert_eq!((signed.answers, signed.authorities), (vec![ds.clone()], vec![]));
        let unsigned = answer(said(referral(vec![nsec.clone()]), RecordType::DS));
        assert_eq!((unsigned.answers, unsigned.authorities), (vec![], vec![nsec]));
        assert!(
            !matches!(said(referral(vec![]), RecordType::DS), ReferralReading::Answer(_)),
            "without a proof it says nothing"
        );
        assert_eq!(down(referral(vec![ds]), RecordType::A).unwrap().delegated, Delegated::Signed);
    }

    #[test]
    fn a_server_does_not_say_whether_the_end_of_an_alias_elsewhere_exists() {
        let leads = |to: &str| {
            let mut message = authoritative(vec![]);
            message.metadata.response_code = ResponseCode::NXDomain;
            message.add_answer(record("www.a.test.", RData::CNAME(CNAME(name(to)))));
            answer(said(message, RecordType::A)).metadata.response_code
        };
        assert_eq!(leads("www.example."), ResponseCode::NoError);
        assert_eq!(leads("nowhere.a.test."), ResponseCode::NXDomain);
    }
}
