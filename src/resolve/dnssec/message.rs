//! A message as the validator reads it: RRsets with their signatures (RFC 2181 §5, RFC 4035 §5.3).
//!
//! Only the answer and authority sections count, only class IN, and only the records that are
//! asked for by name and type: nothing else in a message has any influence. Nor has the order of
//! the records, or how often each of them stands there: a set is read whole or not at all.

use super::odd::type_of;
use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use std::collections::{BTreeMap, HashSet};

/// Records in one message, repeated ones included, above which nothing in it is looked at and the
/// verdict is "could not find out"; the largest honest answers hold a few hundred, a message of
/// 64 KiB could hold five thousand.
pub(super) const RECORDS_LIMIT: usize = 600;

/// Records of a set that are compared with each other.
const COMPARED_AT_MOST: usize = 8;

/// Records of one name and type in one section, with the signatures over them. Each once: a
/// signature stays good when a record is repeated, so repeating must change nothing else either.
#[derive(Clone, Debug)]
pub(super) struct RrSet<'a> {
    pub(super) owner: &'a Name,
    pub(super) rtype: RecordType,
    /// Never empty.
    pub(super) records: Vec<&'a Record>,
    /// RRSIG records that say they cover this type.
    pub(super) signatures: Vec<&'a RRSIG>,
    /// The shortest TTL of the set, in seconds, repeated records included (RFC 2181 §5.2).
    pub(super) ttl_s: u32,
}

impl<'a> RrSet<'a> {
    /// The RRset of a name and type, when the section has one.
    pub(super) fn find(section: &'a [Record], name: &Name, rtype: RecordType) -> Option<Self> {
        Self::of(section.iter().filter(|r| r.dns_class == DNSClass::IN && r.name == *name), rtype)
    }

    /// The RRset of a type among records that all have one owner.
    fn of(here: impl Iterator<Item = &'a Record> + Clone, rtype: RecordType) -> Option<Self> {
        let of_type = here.clone().filter(|r| type_of(r) == rtype);
        let ttl_s = of_type.clone().map(|r| r.ttl).min()?;
        let records = each_once(of_type);
        let owner = &records.first()?.name;
        let signatures = here.filter(|r| rrsig(r).is_some_and(|s| s.input().type_covered == rtype));
        let signatures = each_once(signatures).into_iter().filter_map(rrsig).collect();
        Some(Self { owner, rtype, records, signatures, ttl_s })
    }

    /// The deepest zone that claims to have signed the set and that could have: one at or above
    /// the owner, and for DS strictly above (RFC 4035 §5.3.1).
    pub(super) fn claimed_signer(&self) -> Option<&'a Name> {
        let possible =
            |signer: &&Name| signer.zone_of(self.owner) && (self.rtype != RecordType::DS || **signer != *self.owner);
        self.signatures.iter().map(|s| &s.input().signer_name).filter(possible).max_by_key(|s| depth(s))
    }
}

/// Whether the section has a record of a name and type.
pub(super) fn has(section: &[Record], name: &Name, rtype: RecordType) -> bool {
    section.iter().any(|r| r.dns_class == DNSClass::IN && type_of(r) == rtype && r.name == *name)
}

/// All RRsets of a type in a section, one for each owner, in the order of the names and not of
/// the message, which anybody on the way may change.
pub(super) fn sets_of_type(section: &[Record], rtype: RecordType) -> Vec<RrSet<'_>> {
    let mut owners: BTreeMap<&Name, Vec<&Record>> = BTreeMap::new();
    for record in section.iter().filter(|r| r.dns_class == DNSClass::IN) {
        if type_of(record) == rtype || rrsig(record).is_some_and(|s| s.input().type_covered == rtype) {
            owners.entry(&record.name).or_default().push(record);
        }
    }
    owners.into_values().filter_map(|here| RrSet::of(here.iter().copied(), rtype)).collect()
}

/// Records without those whose data came before. Honest sets are small, hostile ones may not be.
fn each_once<'a>(records: impl Iterator<Item = &'a Record>) -> Vec<&'a Record> {
    let mut once: Vec<&Record> = Vec::new();
    let mut seen = HashSet::new();
    for record in records {
        // Up to here it is quicker to compare than to hash.
        let is_new = if once.len() < COMPARED_AT_MOST {
            once.iter().all(|other| other.data != record.data)
        } else {
            if seen.is_empty() {
                seen.extend(once.iter().map(|other| &other.data));
            }
            seen.insert(&record.data)
        };
        if is_new {
            once.push(record);
        }
    }
    once
}

/// Labels of a name without the root, a leading `*` included.
pub(super) fn depth(name: &Name) -> usize {
    name.iter().count()
}

/// Whether `name` lies below `above`.
pub(super) fn is_below(name: &Name, above: &Name) -> bool {
    depth(name) > depth(above) && above.zone_of(name)
}

/// A message without its additional section, which has no influence and no limit: it is held for
/// as long as the questions about the chain of trust take.
pub(super) fn of_interest(mut message: Message) -> Message {
    message.additionals = Vec::new();
    message
}

/// Whether a message is too large to be looked at.
pub(super) fn is_too_large(message: &Message) -> bool {
    message.answers.len().saturating_add(message.authorities.len()) > RECORDS_LIMIT
}

fn rrsig(record: &Record) -> Option<&RRSIG> {
    if let RData::DNSSEC(DNSSECRData::RRSIG(rrsig)) = &record.data { Some(rrsig) } else { None }
}
