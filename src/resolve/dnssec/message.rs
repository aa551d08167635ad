//! A message as the validator reads it: RRsets with their signatures (RFC 2181 §5, RFC 4035 §5.3).
//!
//! Only the answer and authority sections count, only class IN, and only the records that are
//! asked for by name and type: nothing else in a message has any influence.

use hickory_proto::dnssec::rdata::{DNSSECRData, RRSIG};
use hickory_proto::op::Message;
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// Records in one message that are looked at; the largest honest answers hold a few hundred, a
/// message of 64 KiB could hold five thousand.
pub(super) const RECORDS_LIMIT: usize = 600;

/// Records of one name and type in one section, with the signatures over them.
#[derive(Clone, Debug)]
pub(super) struct RrSet<'a> {
    pub(super) owner: &'a Name,
    pub(super) rtype: RecordType,
    /// Never empty.
    pub(super) records: Vec<&'a Record>,
    /// RRSIG records that say they cover this type.
    pub(super) signatures: Vec<&'a RRSIG>,
}

impl<'a> RrSet<'a> {
    /// The RRset of a name and type, when the section has one.
    pub(super) fn find(section: &'a [Record], name: &Name, rtype: RecordType) -> Option<Self> {
        let here = || section.iter().filter(|r| r.dns_class == DNSClass::IN && r.name == *name);
        let records: Vec<&Record> = here().filter(|r| r.record_type() == rtype).collect();
        let owner = &records.first()?.name;
        let signatures = here().filter_map(rrsig).filter(|s| s.input().type_covered == rtype).collect();
        Some(Self { owner, rtype, records, signatures })
    }

    /// The shortest TTL of the set, in seconds (RFC 2181 §5.2).
    pub(super) fn ttl_s(&self) -> u32 {
        self.records.iter().map(|r| r.ttl).min().unwrap_or(0)
    }

    /// The deepest zone that claims to have signed the set and that could have: one at or above
    /// the owner, and for DS strictly above (RFC 4035 §5.3.1).
    pub(super) fn claimed_signer(&self) -> Option<&'a Name> {
        let possible =
            |signer: &&Name| signer.zone_of(self.owner) && (self.rtype != RecordType::DS || **signer != *self.owner);
        self.signatures.iter().map(|s| &s.input().signer_name).filter(possible).max_by_key(|s| depth(s))
    }
}

/// All RRsets of a type in a section, one for each owner, at most `limit`.
pub(super) fn sets_of_type(section: &[Record], rtype: RecordType, limit: usize) -> Vec<RrSet<'_>> {
    let mut owners: Vec<&Name> = Vec::new();
    for record in section.iter().filter(|r| r.dns_class == DNSClass::IN && r.record_type() == rtype) {
        if owners.len() < limit && !owners.contains(&&record.name) {
            owners.push(&record.name);
        }
    }
    owners.into_iter().filter_map(|owner| RrSet::find(section, owner, rtype)).collect()
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
