//! Arbitrary bytes through the whole validator, for fuzzing (RFC 1035 §4.1).
//!
//! Nothing in them may make it panic, run on, or call anything secure.

use super::{Anchors, Step, Validated, Validation, Zones, decode};
use crate::clock::Timestamp;
use hickory_proto::op::Message;
use hickory_proto::rr::{Name, RecordType};

/// More steps than any validation may take.
const STEPS: usize = 1000;

/// Reads octets as the ways to the DNS do: an odd record does not cost the message.
#[must_use]
pub fn read(octets: &[u8]) -> Option<Message> {
    decode(octets).ok()
}

/// Reads `bytes` as a message and validates it as an answer to its own question; every further
/// question gets the same message, or none when `bytes` ends in an odd octet. `None` when the
/// bytes are no message.
///
/// # Errors
/// [`Endless`] inside when the validation does not end.
#[must_use]
pub fn validate_bytes(bytes: &[u8], now: Timestamp) -> Option<Result<Validated, Endless>> {
    let message = read(bytes)?;
    let question = message.queries.first();
    let (name, rtype) =
        question.map_or_else(|| (Name::root(), RecordType::TLSA), |q| (q.name().clone(), q.query_type()));
    let feed =
        if bytes.last().is_some_and(|last| last % 2 == 1) { Err("nothing came".into()) } else { Ok(message.clone()) };
    let (anchors, zones) = (Anchors::builtin(), Zones::new(8));
    let mut validation = Validation::begin(&name, rtype, message, now);
    for _ in 0..STEPS {
        match validation.step(&anchors, &zones) {
            Step::Done(verdict) => return Some(Ok(verdict)),
            Step::Ask(..) => validation.feed(feed.clone()),
        }
    }
    Some(Err(Endless))
}

/// The validation did not end: a bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Endless;
