//! The boxes on the path between a client and the lab's DNS: what middleboxes, filters and broken
//! forwarders do to answers that pass them (RFC 8906 names many).
//!
//! A box stands on one transport. What is encrypted it cannot read, so the usual box stands
//! on UDP and TCP alone; one on DoT or DoH is one that ends the encryption.

use super::answer::OUR_PAYLOAD;
use super::message::skeleton;
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::{Record, RecordType};
use std::collections::BTreeMap;

/// The payload size without EDNS (RFC 1035 §4.2.1), and the least that EDNS may say.
const PLAIN_PAYLOAD: u16 = 512;
/// The largest UDP answer whatever the client says; above it answers would be fragmented.
pub(in crate::lab) const UDP_PAYLOAD_LIMIT: u16 = 4096;

/// The transport of a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum LabTransport {
    /// Datagrams.
    Udp,
    /// A connection in clear.
    Tcp,
    /// DNS over TLS (RFC 7858).
    Tls,
    /// DNS over HTTPS (RFC 8484).
    Https,
}

/// What a box on the path does to the answers that pass it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathFault {
    /// Drops answers that hold more TLSA records than this.
    DropTlsaOver(usize),
    /// Answers REFUSED in place of answers that hold more TLSA records than this.
    RefuseTlsaOver(usize),
    /// Leaves this many TLSA records in an answer and takes the others out; the signature stays.
    CutTlsaTo(usize),
    /// Drops answers that hold more records than this, whatever they are; signatures do not count.
    DropRecordsOver(usize),
    /// Drops answers to questions of this type.
    DropType(RecordType),
    /// Drops answers above this many octets.
    DropOver(usize),
    /// Answers questions of this type itself, and says that there are no such records.
    ForgeNoData(RecordType),
    /// Drops questions that come with EDNS.
    DropEdns,
    /// Takes signatures and proofs away, as a resolver does that knows no DNSSEC.
    StripDnssec,
    /// Closes TCP connections at once.
    BlockTcp,
    /// Lets no answer through.
    DropAll,
    /// Answers everything with SERVFAIL.
    ServFail,
}

/// All boxes on the way to one server, by transport.
#[derive(Debug, Default)]
pub(in crate::lab) struct Boxes(BTreeMap<LabTransport, Vec<PathFault>>);

impl Boxes {
    /// Replaces the boxes on the transports that can be read on the way.
    pub(in crate::lab) fn on_clear(&mut self, faults: Vec<PathFault>) {
        self.on(LabTransport::Udp, faults.clone());
        self.on(LabTransport::Tcp, faults);
    }

    /// Replaces the boxes on one transport.
    pub(in crate::lab) fn on(&mut self, transport: LabTransport, faults: Vec<PathFault>) {
        self.0.insert(transport, faults);
    }

    /// Whether a new connection is closed at once.
    pub(in crate::lab) fn closes(&self, transport: LabTransport) -> bool {
        self.of(transport).contains(&PathFault::BlockTcp)
    }

    fn of(&self, transport: LabTransport) -> &[PathFault] {
        self.0.get(&transport).map(Vec::as_slice).unwrap_or_default()
    }

    /// What is left of a reply behind the boxes; none when one of them drops it.
    pub(in crate::lab) fn pass(&self, transport: LabTransport, request: &Message, reply: Message) -> Option<Vec<u8>> {
        let path = self.of(transport);
        let strip = path.contains(&PathFault::StripDnssec);
        let wants_dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
        let mut reply = reply.maybe_strip_dnssec_records(wants_dnssec && !strip);
        if path.contains(&PathFault::ServFail) {
            reply = skeleton(request);
            reply.metadata.response_code = ResponseCode::ServFail;
        }
        let asked = request.queries.first().map(|query| query.query_type());
        if path.iter().any(|fault| matches!(fault, PathFault::ForgeNoData(what) if Some(*what) == asked)) {
            reply = skeleton(request);
        }
        path.iter().for_each(|fault| fault.rewrite(request, &mut reply));
        let mut wire = reply.to_vec().ok()?;
        let room = request.edns.as_ref().map_or(PLAIN_PAYLOAD, Edns::max_payload);
        let room = usize::from(room.clamp(PLAIN_PAYLOAD, UDP_PAYLOAD_LIMIT));
        let count = |counts: &dyn Fn(RecordType) -> bool| {
            reply.answers.iter().filter(|record| counts(record.record_type())).count()
        };
        let tlsa = count(&|rtype| rtype == RecordType::TLSA);
        let records = count(&|rtype| rtype != RecordType::RRSIG);
        if transport == LabTransport::Udp && wire.len() > room {
            wire = reply.truncate().to_vec().ok()?;
        }
        let dropped = path.iter().any(|fault| match fault {
            PathFault::DropTlsaOver(most) => tlsa > *most,
            PathFault::DropRecordsOver(most) => records > *most,
            PathFault::DropType(what) => Some(*what) == asked,
            PathFault::DropOver(most) => wire.len() > *most,
            PathFault::DropEdns => request.edns.is_some(),
            PathFault::DropAll => true,
            PathFault::StripDnssec
            | PathFault::BlockTcp
            | PathFault::ServFail
            | PathFault::ForgeNoData(_)
            | PathFault::RefuseTlsaOver(_)
            | PathFault::CutTlsaTo(_) => false,
        });
        if dropped { None } else { Some(wire) }
    }
}

impl PathFault {
    /// What becomes of an answer by how many TLSA records it holds.
    fn rewrite(self, request: &Message, reply: &mut Message) {
        let is_tlsa = |record: &Record| record.record_type() == RecordType::TLSA;
        match self {
            Self::RefuseTlsaOver(most) if reply.answers.iter().filter(|record| is_tlsa(record)).count() > most => {
                *reply = skeleton(request);
                reply.metadata.response_code = ResponseCode::Refused;
            }
            Self::CutTlsaTo(most) => {
                let mut left = 0;
                reply.answers.retain(|record| {
                    left += usize::from(is_tlsa(record));
                    !is_tlsa(record) || left <= most
                });
            }
            Self::RefuseTlsaOver(_)
            | Self::DropTlsaOver(_)
            | Self::DropRecordsOver(_)
            | Self::DropType(_)
            | Self::DropOver(_)
            | Self::ForgeNoData(_)
            | Self::DropEdns
            | Self::StripDnssec
            | Self::BlockTcp
            | Self::DropAll
            | Self::ServFail => {}
        }
    }
}

/// What a resolver does that gets no answer itself. Neither kind says why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Helpless {
    /// It stays silent for longer than anyone waits, as Unbound does.
    Silent,
    /// It answers SERVFAIL, as BIND does.
    ServFail,
}

/// The boxes between a resolver and the servers it asks.
#[derive(Debug)]
pub(in crate::lab) struct Beyond {
    boxes: Boxes,
    helpless: Helpless,
}

impl Beyond {
    pub(in crate::lab) fn new(helpless: Helpless, faults: Vec<PathFault>) -> Self {
        let mut boxes = Boxes::default();
        boxes.on_clear(faults);
        Self { boxes, helpless }
    }

    /// What the resolver answers when this is what the other servers said. It asks them by UDP
    /// first and by TCP when that is of no use (RFC 7766 §5).
    ///
    /// # Errors
    /// What it answers when the boxes let nothing through: nothing, or SERVFAIL.
    pub(in crate::lab) fn fetch(&self, request: &Message, reply: Message) -> Result<Message, Option<Message>> {
        let mut own = request.clone();
        let mut edns = Edns::new();
        edns.set_max_payload(OUR_PAYLOAD).set_version(0).set_dnssec_ok(true);
        own.set_edns(edns);
        let by = |transport| {
            let wire = self.boxes.pass(transport, &own, reply.clone())?;
            Message::from_vec(&wire).ok().filter(|message| !message.metadata.truncation)
        };
        let tcp = || if self.boxes.closes(LabTransport::Tcp) { None } else { by(LabTransport::Tcp) };
        let mut answer = skeleton(request);
        let Some(heard) = by(LabTransport::Udp).or_else(tcp) else {
            answer.metadata.response_code = ResponseCode::ServFail;
            return Err(Some(answer).filter(|_| self.helpless == Helpless::ServFail));
        };
        answer.metadata.response_code = heard.metadata.response_code;
        answer.add_answers(heard.answers);
        answer.add_authorities(heard.authorities);
        Ok(answer)
    }
}
