//! What proves an answer, kept so that somebody else can validate it again without the network
//! (RFC 4035 §5): the answer and every message that its chain of trust took, as octets.
//!
//! [`Dns::prove`] collects them, with an empty memory, so that the chain is whole down from the trust
//! anchors. [`DnsProof::validate`] is pure: the same validator over the octets, at the time stated.

use super::dnssec::{Anchors, Step, Validated, Validation, Zones, decode};
use super::driver::Dns;
use super::paths::channel::Flags;
use super::paths::{Path, in_order};
use crate::clock::Timestamp;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::time::Duration;
use tokio::time::timeout;

/// Messages of one proof: a chain through every label, with room for aliases.
const MOST_MESSAGES: usize = 100;

/// Zones that one proof passes.
const MOST_ZONES: usize = 200;

/// Labels of a zone that is neither the root nor a top-level one.
const ZONE_OF_SOMEBODY: u8 = 2;

/// How long one path may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// A message that was asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProofMessage {
    /// The name asked for.
    pub name: Name,
    /// The type.
    pub record_type: RecordType,
    /// When it came.
    pub at: Timestamp,
    /// The answer, as on the wire (RFC 1035 §4.1).
    pub octets: Vec<u8>,
}

/// An answer and all that proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DnsProof {
    /// When it is judged.
    pub at: Timestamp,
    /// By which path it came, in the words of the configuration.
    pub path: String,
    /// The answer first, then what the chain of trust took, in the order it was asked for.
    pub messages: Vec<ProofMessage>,
}

/// Why a proof proves nothing.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ProofError {
    /// Not a single message.
    #[error("the proof is empty")]
    Empty,
    /// Octets that are no DNS message.
    #[error("the answer for {0} is no DNS message")]
    Unreadable(String),
    /// The chain takes more than there is.
    #[error("the chain of trust needs {0}, which is not there")]
    Missing(String),
    /// Something that nothing asks for.
    #[error("{0} is there and belongs to no chain of trust")]
    Superfluous(String),
}

impl Dns {
    /// What every chain of trust starts from.
    #[must_use]
    pub const fn anchors(&self) -> &Anchors {
        &self.anchors
    }

    /// Asks again, path after path, and keeps every message. Nothing where no path has an answer that can
    /// be judged.
    pub async fn prove(&self, name: &Name, record_type: RecordType) -> Option<DnsProof> {
        for path in in_order(&self.paths_now(), self.clock.now()) {
            let asked = timeout(PATIENCE, Box::pin(self.collect(path, name, record_type))).await;
            if let Ok(Some(proof)) = asked {
                return Some(proof);
            }
        }
        None
    }

    async fn collect(&self, path: &Path, name: &Name, record_type: RecordType) -> Option<DnsProof> {
        let (zones, at) = (Zones::new(MOST_ZONES), self.clock.now());
        let first = path.fetch(name, record_type, Flags::Validate).await.ok()?;
        let kept = |name: &Name, record_type, octets| ProofMessage {
            name: name.clone(),
            record_type,
            at: self.clock.now(),
            octets,
        };
        let mut messages = vec![kept(name, record_type, first.to_vec().ok()?)];
        let mut validation = Validation::begin(name, record_type, first, at);
        while messages.len() < MOST_MESSAGES {
            match validation.step(&self.anchors, &zones) {
                Step::Done(_verdict) => return Some(DnsProof { at, path: path.name.to_string(), messages }),
                Step::Ask(name, record_type) => {
                    // What does not come is missing in the proof as well.
                    let message = path.fetch(&name, record_type, Flags::Validate).await.ok()?;
                    messages.push(kept(&name, record_type, message.to_vec().ok()?));
                    validation.feed(Ok(message));
                }
            }
        }
        None
    }
}

impl DnsProof {
    /// Validates it again from its octets alone.
    ///
    /// # Errors
    /// When it is not whole, or holds more than its chain takes: what nobody looks at could be anything.
    pub fn validate(&self, anchors: &Anchors) -> Result<Validated, ProofError> {
        let zones = Zones::new(MOST_ZONES);
        let mut left = self.messages.iter();
        let first = left.next().ok_or(ProofError::Empty)?;
        let mut validation = Validation::begin(&first.name, first.record_type, first.message()?, self.at);
        loop {
            match validation.step(anchors, &zones) {
                Step::Done(verdict) => {
                    return match left.next() {
                        Some(more) => Err(ProofError::Superfluous(more.question())),
                        None => Ok(verdict),
                    };
                }
                Step::Ask(name, record_type) => {
                    let missing = || ProofError::Missing(question(&name, record_type));
                    let next = left.next().ok_or_else(missing)?;
                    if (&next.name, next.record_type) != (&name, record_type) {
                        return Err(missing());
                    }
                    validation.feed(Ok(next.message()?));
                }
            }
        }
    }
}

/// When a signature of a proof begins and ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignatureEnd {
    /// Whose records it signs.
    pub name: String,
    /// Which of them.
    pub record_type: String,
    /// When it begins.
    pub begins: Timestamp,
    /// When it ends.
    pub ends: Timestamp,
}

impl DnsProof {
    /// The signatures of zones below the top-level ones: of the domain, and of who serves it.
    #[must_use]
    pub fn signatures(&self) -> Vec<SignatureEnd> {
        let messages = self.messages.iter().filter_map(|message| message.message().ok());
        let signatures = messages.flat_map(|message| {
            let records = message.answers.iter().chain(&message.authorities);
            records.filter_map(|record| signature_end(record, self.at)).collect::<Vec<_>>()
        });
        signatures.collect()
    }
}

/// RFC 4034 §3.1.5: the times of a signature count modulo 2^32, so they are those nearest to now.
fn signature_end(record: &Record, now: Timestamp) -> Option<SignatureEnd> {
    let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data else { return None };
    let input = rrsig.input();
    if input.signer_name.num_labels() < ZONE_OF_SOMEBODY {
        return None;
    }
    let seconds = now.unix_seconds();
    let near = |time: u32| {
        let ahead = time.wrapping_sub(u32::try_from(seconds.rem_euclid(1 << 32)).unwrap_or(0)).cast_signed();
        Timestamp(seconds.saturating_add(i64::from(ahead)).saturating_mul(1000))
    };
    let (begins, ends) = (near(input.sig_inception.get()), near(input.sig_expiration.get()));
    let (name, record_type) = (record.name.to_ascii(), input.type_covered.to_string());
    Some(SignatureEnd { name, record_type, begins, ends })
}

impl ProofMessage {
    fn question(&self) -> String {
        question(&self.name, self.record_type)
    }

    fn message(&self) -> Result<hickory_proto::op::Message, ProofError> {
        decode(&self.octets).map_err(|_no_message| ProofError::Unreadable(self.question()))
    }
}

fn question(name: &Name, record_type: RecordType) -> String {
    format!("{name} {record_type}")
}
