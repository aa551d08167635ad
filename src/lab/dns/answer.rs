//! One answer of the lab, put together link by link from its zones
//! (RFC 1034 §4.3.2, RFC 4035 §3.1–§3.2, RFC 6672 §3).
//!
//! Every link of an alias chain comes with its signature, every wildcard and every denial with its
//! proof. The faults of a zone strike here and nowhere else, so what is not at fault is truthful.

use super::denial::Absence;
use super::plan::Denial;
use super::rrset::ZoneRrSet;
use super::zone::{AnswerFault, TTL_S, Zone, ZoneData};
use crate::clock::Timestamp;
use crate::lab::bad;
use crate::resolve::dnssec::fuzz;
use hickory_proto::op::{Edns, Message, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::CNAME;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::io;

/// The payload size the lab's servers name: the value of the DNS flag day 2020.
pub(in crate::lab) const OUR_PAYLOAD: u16 = 1232;

/// How an answer leaves the server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Delivery {
    /// As it should.
    #[default]
    Normal,
    /// Never.
    Silent,
    /// Over TCP only.
    SilentOverUdp,
    /// Truncated over UDP, whole over TCP.
    TruncatedOverUdp,
}

/// In which role a server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerRole {
    /// As a resolver: RA is set.
    #[default]
    Recursive,
    /// As an authority for the name: AA is set.
    Authoritative,
    /// As an authority that points elsewhere: neither is set.
    Referral,
}

/// An answer before it becomes a message.
#[derive(Clone, Debug)]
pub struct ServerAnswer {
    /// The response code.
    pub code: ResponseCode,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section: SOA and proofs of absence, or a referral.
    pub authorities: Vec<Record>,
    /// The additional section: addresses of the name servers in a referral.
    pub additionals: Vec<Record>,
    /// How it is sent.
    pub delivery: Delivery,
    /// In which role the server answers.
    pub standing: ServerRole,
}

impl ServerAnswer {
    /// An answer without records.
    #[must_use]
    pub fn failure(code: ResponseCode) -> Self {
        Self {
            code,
            answers: Vec::new(),
            authorities: Vec::new(),
            additionals: Vec::new(),
            delivery: Delivery::Normal,
            standing: ServerRole::Recursive,
        }
    }

    /// Fills a reply that has its header and question already.
    pub(in crate::lab) fn fill(self, reply: &mut Message) {
        reply.metadata.response_code = self.code;
        reply.metadata.recursion_available = self.standing == ServerRole::Recursive;
        reply.metadata.authoritative = self.standing == ServerRole::Authoritative;
        reply.add_answers(self.answers);
        reply.add_authorities(self.authorities);
        reply.add_additionals(self.additionals);
    }

    /// The message as a client gets it that asked with DO, read back from its bytes.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn into_message(self, question: &Name, rtype: RecordType) -> io::Result<Message> {
        let mut reply = Message::response(0, OpCode::Query);
        reply.metadata.recursion_desired = true;
        reply.add_query(Query::query(question.clone(), rtype));
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD).set_version(0).set_dnssec_ok(true);
        reply.set_edns(edns);
        self.fill(&mut reply);
        fuzz::read(&reply.to_vec().map_err(bad)?).ok_or_else(|| bad("the lab made a message that nobody can read"))
    }
}

/// What comes after a link of a chain.
pub(in crate::lab) enum Next {
    Done,
    Follow(Name),
}

/// One link of an alias chain: a name in one zone, with the fault that meets it.
pub(in crate::lab) struct Step<'a> {
    pub(in crate::lab) zone: &'a Zone,
    pub(in crate::lab) now: Timestamp,
    pub(in crate::lab) fault: Option<AnswerFault>,
}

impl Step<'_> {
    pub(in crate::lab) fn take(&self, at: &Name, rtype: RecordType, answer: &mut ServerAnswer) -> io::Result<Next> {
        let refuse = |answer: &mut ServerAnswer, code| {
            *answer = ServerAnswer { standing: answer.standing, ..ServerAnswer::failure(code) };
            Ok(Next::Done)
        };
        match self.fault {
            Some(AnswerFault::ServFail) => return refuse(answer, ResponseCode::ServFail),
            Some(AnswerFault::Refused) => return refuse(answer, ResponseCode::Refused),
            Some(AnswerFault::NotImplemented) => return refuse(answer, ResponseCode::NotImp),
            Some(AnswerFault::ForgedNxDomain) => return self.forge(answer, ResponseCode::NXDomain),
            Some(AnswerFault::ForgedNoData) => return self.forge(answer, ResponseCode::NoError),
            Some(AnswerFault::Silent) => answer.delivery = Delivery::Silent,
            Some(AnswerFault::SilentOverUdp) => answer.delivery = Delivery::SilentOverUdp,
            Some(AnswerFault::TruncatedOverUdp) => answer.delivery = Delivery::TruncatedOverUdp,
            Some(AnswerFault::Signature(_) | AnswerFault::OmitProof(_) | AnswerFault::OmitSoa) | None => {}
        }
        self.look_up(at, rtype, answer)
    }

    /// RFC 4035 §3.1.4: the name servers of a zone below, with its DS records or the proof that
    /// there are none. The name servers are not signed here: they are the child's.
    pub(in crate::lab) fn refer(&self, cut: &ZoneRrSet, answer: &mut ServerAnswer) -> io::Result<()> {
        answer.standing = ServerRole::Referral;
        answer.authorities.extend(cut.records());
        match self.zone.get(&cut.owner, RecordType::DS) {
            Some(ds) => self.push(&ds, &mut answer.authorities),
            None => self.prove(Absence::NoData(&cut.owner), answer),
        }
    }

    fn look_up(&self, at: &Name, rtype: RecordType, answer: &mut ServerAnswer) -> io::Result<Next> {
        match self.zone.find(at, rtype)? {
            ZoneData::Records(set) => self.show(at, &set, answer)?,
            ZoneData::Cname(set, target) => {
                self.show(at, &set, answer)?;
                return Ok(Next::Follow(target));
            }
            ZoneData::Dname(set, target) => {
                self.push(&set, &mut answer.answers)?;
                let Some(target) = target else {
                    answer.code = ResponseCode::YXDomain;
                    return Ok(Next::Done);
                };
                // The CNAME is made from the DNAME and is not signed (RFC 6672 §5.3.1).
                let cname = RData::CNAME(CNAME(target.clone()));
                answer.answers.push(Record::from_rdata(at.clone(), TTL_S, cname));
                return Ok(if rtype == RecordType::CNAME { Next::Done } else { Next::Follow(target) });
            }
            ZoneData::NoData => self.deny(Absence::NoData(at), answer)?,
            ZoneData::NoWildcardData(encloser) => self.deny(Absence::NoWildcardData(at, &encloser), answer)?,
            ZoneData::NoName(encloser) => {
                // RFC 9824 §3.4: a compact denial speaks of a name that exists and has nothing.
                let compact = self.zone.denial == Denial::Compact && !self.zone.keys().is_empty();
                answer.code = if compact { ResponseCode::NoError } else { ResponseCode::NXDomain };
                self.deny(Absence::NoName(at, &encloser), answer)?;
            }
        }
        Ok(Next::Done)
    }

    fn push(&self, set: &ZoneRrSet, section: &mut Vec<Record>) -> io::Result<()> {
        section.extend(set.records());
        section.extend(self.zone.sign(set, self.now, self.fault.and_then(AnswerFault::of_signature))?);
        Ok(())
    }

    /// Records under the name asked. Those of a wildcard keep its signature, and the proof comes
    /// with them that the name itself does not exist (RFC 4035 §3.1.3.3).
    fn show(&self, at: &Name, set: &ZoneRrSet, answer: &mut ServerAnswer) -> io::Result<()> {
        if set.owner == *at {
            return self.push(set, &mut answer.answers);
        }
        let shown = ZoneRrSet { owner: at.clone(), ..set.clone() };
        if self.zone.denial == Denial::Compact {
            return self.push(&shown, &mut answer.answers);
        }
        answer.answers.extend(shown.records());
        for mut signature in self.zone.sign(set, self.now, self.fault.and_then(AnswerFault::of_signature))? {
            signature.name = at.clone();
            answer.answers.push(signature);
        }
        self.prove(Absence::Expanded(at, &set.owner.base_name()), answer)
    }

    /// RFC 2308 §3 and RFC 4035 §3.1.3: the SOA, and the proofs.
    fn deny(&self, denied: Absence<'_>, answer: &mut ServerAnswer) -> io::Result<()> {
        self.start_of_authority(answer)?;
        self.prove(denied, answer)
    }

    fn start_of_authority(&self, answer: &mut ServerAnswer) -> io::Result<()> {
        match self.zone.soa() {
            Some(soa) if self.fault != Some(AnswerFault::OmitSoa) => self.push(&soa, &mut answer.authorities),
            Some(_) | None => Ok(()),
        }
    }

    fn prove(&self, denied: Absence<'_>, answer: &mut ServerAnswer) -> io::Result<()> {
        for (place, proof) in self.zone.proofs(denied)?.iter().enumerate() {
            if self.fault != Some(AnswerFault::OmitProof(place)) {
                self.push(proof, &mut answer.authorities)?;
            }
        }
        Ok(())
    }

    fn forge(&self, answer: &mut ServerAnswer, code: ResponseCode) -> io::Result<Next> {
        answer.code = code;
        self.start_of_authority(answer)?;
        Ok(Next::Done)
    }
}
