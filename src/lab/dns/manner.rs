//! The odd ways in which the name servers of the world answer, and every resolver has learned to
//! live with (RFC 8906, RFC 6891 §7). A [`ServerManner`] is a server's own, and a
//! [`super::boxes::PathFault`] somebody else's on the way to it.

use super::answer::{OUR_PAYLOAD, ServerAnswer, ServerRole};
use super::boxes::LabTransport;
use super::message::skeleton;
use super::view::View;
use super::world::World;
use hickory_proto::op::{Edns, Message, ResponseCode};
use hickory_proto::rr::rdata::NS;
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Octets of a header.
const HEADER_BYTES: usize = 12;
/// The life of the NS records that send clients away.
const TTL_S: u32 = 300;

/// How a name server answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ServerManner {
    /// As it should.
    #[default]
    Proper,
    /// Never with AA.
    WithoutAa,
    /// It does not know EDNS, and says so like this.
    KnowsNoEdns(Reproach),
    /// It does not know EDNS and answers as though it had not been there.
    IgnoresEdns,
    /// It denies with the servers of its zone in the place of the SOA record.
    DeniesWithServers,
    /// It answers a question for DS with the referral to the zone in question.
    RefersForDs,
    /// It does not serve its zone and sends everybody to the root.
    SendsUp,
    /// It does not serve its zone and names the servers of the zone.
    SendsBack,
    /// It does not serve its zone.
    Refuses,
    /// It speaks TCP alone.
    TcpAlone,
}

/// What a server says that does not know EDNS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reproach {
    /// FORMERR with the question.
    FormErr,
    /// FORMERR with the question and an OPT record.
    FormErrWithOpt,
    /// FORMERR, and the header is all there is.
    BareHeader,
    /// NOTIMP with the question.
    NotImp,
    /// That it does not know this version of EDNS.
    BadVers,
    /// No answer comes.
    Silence,
}

impl Reproach {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::FormErr, Self::FormErrWithOpt, Self::BareHeader, Self::NotImp, Self::BadVers, Self::Silence];
}

/// What a server does with a question before it looks for an answer.
pub(in crate::lab) enum First {
    /// It looks for the answer in its zones.
    Look,
    /// It answers this, or nothing.
    Say(Option<Vec<u8>>),
}

impl ServerManner {
    pub(in crate::lab) fn first(self, request: &Message, transport: LabTransport, world: &World, view: &View) -> First {
        match self {
            Self::KnowsNoEdns(reproach) if request.edns.is_some() => First::Say(reproach.words(request)),
            Self::TcpAlone if transport == LabTransport::Udp => First::Say(None),
            Self::Refuses => First::Say(with_code(request, ResponseCode::Refused).to_vec().ok()),
            Self::SendsUp => First::Say(sends(request, &Name::root(), &[root_server()])),
            Self::SendsBack => {
                let zone = request.queries.first().and_then(|query| view.zone_above(query.name()));
                First::Say(zone.and_then(|zone| sends(request, &zone, &servers_of(world, &zone))))
            }
            Self::Proper
            | Self::WithoutAa
            | Self::KnowsNoEdns(_)
            | Self::IgnoresEdns
            | Self::DeniesWithServers
            | Self::RefersForDs
            | Self::TcpAlone => First::Look,
        }
    }

    /// What the answer becomes.
    pub(in crate::lab) fn shape(
        self,
        mut answer: ServerAnswer,
        name: &Name,
        world: &World,
        view: &View,
    ) -> ServerAnswer {
        let denies = answer.answers.is_empty() && answer.standing == ServerRole::Authoritative;
        match self {
            Self::WithoutAa => answer.standing = ServerRole::Referral,
            Self::DeniesWithServers if denies => {
                let zone = view.zone_above(name);
                answer.authorities.retain(|record| record.record_type() != RecordType::SOA && !signs_soa(record));
                answer.authorities.extend(zone.iter().flat_map(|zone| servers_of(world, zone)));
            }
            Self::Proper
            | Self::KnowsNoEdns(_)
            | Self::IgnoresEdns
            | Self::DeniesWithServers
            | Self::RefersForDs
            | Self::SendsUp
            | Self::SendsBack
            | Self::Refuses
            | Self::TcpAlone => {}
        }
        answer
    }
}

impl Reproach {
    fn words(self, request: &Message) -> Option<Vec<u8>> {
        match self {
            Self::FormErr => with_code(request, ResponseCode::FormErr).to_vec().ok(),
            Self::FormErrWithOpt => and_opt(with_code(request, ResponseCode::FormErr)).to_vec().ok(),
            Self::NotImp => with_code(request, ResponseCode::NotImp).to_vec().ok(),
            Self::BadVers => and_opt(with_code(request, ResponseCode::BADVERS)).to_vec().ok(),
            Self::BareHeader => {
                let mut octets = with_code(request, ResponseCode::FormErr).to_vec().ok()?;
                octets.truncate(HEADER_BYTES);
                // No question either.
                octets.get_mut(4..)?.fill(0);
                Some(octets)
            }
            Self::Silence => None,
        }
    }
}

/// An answer without records, and without an OPT record.
fn with_code(request: &Message, code: ResponseCode) -> Message {
    let mut reply = skeleton(request);
    reply.metadata.recursion_available = false;
    reply.metadata.response_code = code;
    reply.edns = None;
    reply
}

fn and_opt(mut reply: Message) -> Message {
    let mut edns = Edns::new();
    edns.set_max_payload(OUR_PAYLOAD).set_version(0);
    reply.set_edns(edns);
    reply
}

fn sends(request: &Message, zone: &Name, servers: &[Record]) -> Option<Vec<u8>> {
    let mut reply = with_code(request, ResponseCode::NoError);
    if request.edns.is_some() {
        reply = and_opt(reply);
    }
    let to_zone = servers.iter().map(|record| Record::from_rdata(zone.clone(), TTL_S, record.data.clone()));
    reply.add_authorities(to_zone.collect::<Vec<_>>());
    reply.to_vec().ok()
}

fn root_server() -> Record {
    let name = Name::from_labels([b"a".as_slice(), b"root-servers"]).unwrap_or_default();
    Record::from_rdata(Name::root(), TTL_S, RData::NS(NS(name)))
}

fn servers_of(world: &World, zone: &Name) -> Vec<Record> {
    crate::lab::locked(world.zones())
        .get(zone)
        .and_then(|found| found.get(zone, RecordType::NS))
        .map(|set| set.records().collect())
        .unwrap_or_default()
}

fn signs_soa(record: &Record) -> bool {
    use hickory_proto::dnssec::rdata::DNSSECRData;
    matches!(&record.data, RData::DNSSEC(DNSSECRData::RRSIG(s)) if s.input().type_covered == RecordType::SOA)
}
