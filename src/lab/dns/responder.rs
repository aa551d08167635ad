//! From a question's bytes to the answer's, for every transport and both roles of a server
//! (RFC 1035 §4.1, RFC 6891 §6.2).
//!
//! It keeps to the client's payload size and truncates what does not fit. It counts the questions,
//! so that a test can say which were never asked. Sockets are elsewhere.

use super::boxes::{Beyond, Boxes, LabTransport};
use super::manner::{First, ServerManner};
use super::message::skeleton;
use super::validating::{self, Validating};
use super::view::View;
use super::world::{Delivery, ServerAnswer, ServerRole, World};
use crate::lab::locked;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::{Name, RecordType};
use std::collections::BTreeMap;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One server without its sockets.
#[derive(Debug)]
pub(in crate::lab) struct Responder {
    pub(in crate::lab) world: Arc<World>,
    pub(in crate::lab) view: View,
    pub(in crate::lab) asked: Mutex<BTreeMap<(Name, RecordType), usize>>,
    pub(in crate::lab) boxes: Mutex<Boxes>,
    /// What stands between a resolver and the servers it asks.
    pub(in crate::lab) beyond: Mutex<Option<Beyond>>,
    pub(in crate::lab) validating: Mutex<Validating>,
    pub(in crate::lab) manner: Mutex<ServerManner>,
    /// How long every answer takes.
    pub(in crate::lab) delay: Mutex<Duration>,
    /// How often a box has let nothing through.
    pub(in crate::lab) dropped: AtomicUsize,
}

impl Responder {
    pub(in crate::lab) fn new(world: Arc<World>, view: View) -> Self {
        Self {
            world,
            view,
            asked: Mutex::default(),
            boxes: Mutex::default(),
            beyond: Mutex::default(),
            validating: Mutex::default(),
            manner: Mutex::default(),
            delay: Mutex::default(),
            dropped: AtomicUsize::new(0),
        }
    }

    /// The bytes of the answer; none when there shall be silence or the question is no question.
    pub(in crate::lab) fn respond(&self, question: &[u8], transport: LabTransport) -> Option<Vec<u8>> {
        let request = Message::from_vec(question).ok()?;
        if request.metadata.message_type != MessageType::Query {
            return None;
        }
        let mut reply = skeleton(&request);
        let [query] = request.queries.as_slice() else {
            reply.metadata.response_code = ResponseCode::FormErr;
            return reply.to_vec().ok();
        };
        let (name, rtype) = (query.name().to_lowercase(), query.query_type());
        *locked(&self.asked).entry((name.clone(), rtype)).or_insert(0) += 1;
        let manner = *locked(&self.manner);
        if let First::Say(said) = manner.first(&request, transport, &self.world, &self.view) {
            return said;
        }
        if manner == ServerManner::IgnoresEdns {
            reply.edns = None;
        }
        let answer = if request.metadata.op_code == OpCode::Query { self.answer(&name, rtype).ok() } else { None };
        let answer = manner.shape(
            answer.unwrap_or_else(|| ServerAnswer::failure(ResponseCode::ServFail)),
            &name,
            &self.world,
            &self.view,
        );
        match (answer.delivery, transport) {
            (Delivery::Silent, _) | (Delivery::SilentOverUdp, LabTransport::Udp) => return None,
            (Delivery::TruncatedOverUdp, LabTransport::Udp) => return reply.truncate().to_vec().ok(),
            (Delivery::Normal, _)
            | (
                Delivery::SilentOverUdp | Delivery::TruncatedOverUdp,
                LabTransport::Tcp | LabTransport::Tls | LabTransport::Https,
            ) => {}
        }
        answer.fill(&mut reply);
        if let Some(beyond) = &*locked(&self.beyond) {
            reply = match beyond.fetch(&request, reply) {
                Ok(heard) => heard,
                Err(helpless) => {
                    self.dropped.fetch_add(1, Ordering::SeqCst);
                    helpless?
                }
            };
        }
        let validating = *locked(&self.validating);
        match validating {
            Validating::No => {}
            Validating::Yes => reply = validating::vouch(&self.world, &request, reply),
        }
        let mut seen = request;
        if manner == ServerManner::IgnoresEdns {
            seen.edns = None;
        }
        let passed = locked(&self.boxes).pass(transport, &seen, reply);
        self.dropped.fetch_add(usize::from(passed.is_none()), Ordering::SeqCst);
        passed
    }

    /// A name server answers from the zone that is nearest above the name; a DS question goes to
    /// the parent's side when it has both (RFC 4035 §3.1.4.1).
    fn answer(&self, name: &Name, rtype: RecordType) -> io::Result<ServerAnswer> {
        let View::Zones(zones) = &self.view else { return self.world.answer(name, rtype) };
        let above = |zone: &&Name| zone.zone_of(name) && !(rtype == RecordType::DS && *zone == name);
        let nearest = |deep: &dyn Fn(&&Name) -> bool| zones.iter().filter(|z| deep(z)).max_by_key(|z| z.iter().len());
        match nearest(&above).or_else(|| nearest(&|zone| zone.zone_of(name))) {
            Some(zone) if rtype == RecordType::DS && *locked(&self.manner) == ServerManner::RefersForDs => {
                self.world.answer_at(zone, name, RecordType::A)
            }
            Some(zone) => self.world.answer_at(zone, name, rtype),
            None => Ok(ServerAnswer { standing: ServerRole::Referral, ..ServerAnswer::failure(ResponseCode::Refused) }),
        }
    }
}
