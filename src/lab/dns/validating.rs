//! The lab's resolver as one that validates: AD on what is secure, SERVFAIL instead of what is
//! bogus unless the client says CD (RFC 4035 §3.2.2–§3.2.3, RFC 6840 §5.7–§5.8).
//!
//! It judges with the relay's own validator, by what the world says: a resolver with a clean path
//! of its own.

use super::message::skeleton;
use super::world::{AnchorForm, World};
use crate::resolve::Security;
use crate::resolve::dnssec::{Anchors, Step, Validation, Zones};
use hickory_proto::op::{Message, ResponseCode};

/// Questions that one validation may ask; none of the lab needs a tenth of it.
const STEPS_LIMIT: usize = 200;
/// Zones remembered during one validation.
const ZONES_KEPT: usize = 16;

/// Whether a resolver validates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Validating {
    /// It passes on what it gets.
    #[default]
    No,
    /// It judges what it gets.
    Yes,
}

/// The reply as a validating resolver gives it.
pub(in crate::lab) fn vouch(world: &World, request: &Message, mut reply: Message) -> Message {
    match security(world, &reply) {
        // RFC 6840 §5.7: AD in the question, or DO, asks for it.
        Some(Security::Secure) => {
            let wants_dnssec = request.edns.as_ref().is_some_and(|edns| edns.flags().dnssec_ok);
            reply.metadata.authentic_data = request.metadata.authentic_data || wants_dnssec;
        }
        Some(Security::Insecure) => {}
        Some(Security::Bogus | Security::Indeterminate) | None if request.metadata.checking_disabled => {}
        Some(Security::Bogus | Security::Indeterminate) | None => {
            reply = skeleton(request);
            reply.metadata.response_code = ResponseCode::ServFail;
        }
    }
    reply
}

/// None when the message cannot be judged at all.
fn security(world: &World, reply: &Message) -> Option<Security> {
    let query = reply.queries.first()?;
    let anchors = Anchors::parse(&world.trust_anchor(AnchorForm::Ds).ok()?).ok()?;
    let zones = Zones::new(ZONES_KEPT);
    let mut validation = Validation::begin(query.name(), query.query_type(), reply.clone(), world.now());
    for _step in 0..STEPS_LIMIT {
        match validation.step(&anchors, &zones) {
            Step::Done(validated) => return Some(validated.security),
            Step::Ask(name, rtype) => {
                validation.feed(world.message(&name.to_ascii(), rtype).map_err(|error| error.to_string()));
            }
        }
    }
    None
}
