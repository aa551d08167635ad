//! One link of the chain from the question to the data: what a message says about one name,
//! and whether that is proven (RFC 4035 §5, RFC 6672 §5.3).
//!
//! A signature or a proof says which zone it claims to be of; that is only a hint where to begin.
//! When it leads nowhere, the walk goes down to the name itself, and what is not proven in a
//! signed zone is bogus.

use super::delegation::{DelegationWalk, ZoneStatus};
use super::denial::DenialRecords;
use super::message::{RrSet, depth, has};
use super::question::{DenialQuestion, Denied, Why};
use super::serial::after_s;
use super::signature::{Signed, VerifyError, ZoneKeys, verify};
use super::{Halt, Reason, alias};
use crate::clock::Timestamp;
use crate::resolve::Security;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};

/// What is said about a name.
#[derive(Clone, Debug)]
pub(super) enum NameData {
    /// It is an alias.
    Alias(Name),
    /// The records.
    Found(Vec<Record>),
    /// It exists without such records.
    NoData,
    /// It does not exist.
    NoName,
    /// A DNAME makes a name of it that is too long.
    TooLong,
}

/// A link and its worth.
#[derive(Clone, Debug)]
pub(super) struct Link {
    pub(super) said: NameData,
    pub(super) standing: LinkVerdict,
}

/// What the validation of something came to, short of failing.
#[derive(Clone, Debug)]
pub(super) struct LinkVerdict {
    /// Secure or insecure.
    pub(super) security: Security,
    /// Why not secure.
    pub(super) reason: Option<Reason>,
    /// The end of all TTLs and signatures.
    pub(super) until: Timestamp,
}

/// The name and type in question, and what came for them.
pub(super) struct Query<'a> {
    pub(super) name: &'a Name,
    pub(super) rtype: RecordType,
    pub(super) message: &'a Message,
    /// Why the hint of the signatures led nowhere, once it did.
    pub(super) misled: &'a mut Option<Reason>,
}

/// Judges one link.
///
/// # Errors
/// [`Halt`]: a message is needed first, or the verdict is bogus or indeterminate.
pub(super) fn judge(subject: &mut Query<'_>, walk: &mut DelegationWalk<'_>) -> Result<Link, Halt> {
    let message = subject.message;
    if let Some(set) = RrSet::find(&message.answers, subject.name, subject.rtype) {
        let standing = authenticate(subject, &set, walk)?;
        return Ok(Link { said: NameData::Found(set.records.iter().copied().cloned().collect()), standing });
    }
    if let Some(dname) = alias::dname_above(&message.answers, subject.name) {
        return redirect(subject, &dname, walk);
    }
    if let Some(cname) = RrSet::find(&message.answers, subject.name, RecordType::CNAME) {
        let standing = authenticate(subject, &cname, walk)?;
        let Some(target) = alias::cname_target(&cname) else {
            return Err(bogus("RFC 2181 §10.1", subject.name, "more than one CNAME record".into()));
        };
        return Ok(Link { said: NameData::Alias(target), standing });
    }
    deny(subject, walk)
}

/// Whether the message says anything at all about the name, be it that there is nothing.
pub(super) fn speaks_of(message: &Message, name: &Name, rtype: RecordType) -> bool {
    let answers = &message.answers;
    let denial = |r: &Record| {
        [RecordType::SOA, RecordType::NSEC, RecordType::NSEC3].contains(&r.record_type())
            && r.name.base_name().zone_of(name)
    };
    has(answers, name, rtype)
        || has(answers, name, RecordType::CNAME)
        || alias::dname_above(answers, name).is_some()
        || message.metadata.response_code == ResponseCode::NXDomain
        || message.authorities.iter().any(denial)
}

fn redirect(subject: &mut Query<'_>, dname: &RrSet<'_>, walk: &mut DelegationWalk<'_>) -> Result<Link, Halt> {
    let standing = authenticate(subject, dname, walk)?;
    let made = match alias::dname_target(dname, subject.name) {
        Ok(made) => made,
        Err(alias::DnameFault::TooLong) => return Ok(Link { said: NameData::TooLong, standing }),
        Err(alias::DnameFault::Unreadable) => {
            return Err(bogus("RFC 6672 §2.1", dname.owner, "the DNAME record cannot be read".into()));
        }
    };
    if let Some(cname) = RrSet::find(&subject.message.answers, subject.name, RecordType::CNAME)
        && alias::cname_target(&cname).is_none_or(|target| target != made)
    {
        let said = format!("the CNAME record is not what the DNAME record at {} makes of the name", dname.owner);
        return Err(bogus("RFC 6672 §5.3.1", subject.name, said));
    }
    Ok(Link { said: NameData::Alias(made), standing })
}

/// Positive records: signed by their zone, or provably in none that signs.
fn authenticate(subject: &mut Query<'_>, set: &RrSet<'_>, walk: &mut DelegationWalk<'_>) -> Result<LinkVerdict, Halt> {
    let unsigned_until = after_s(walk.now, set.ttl_s);
    if subject.misled.is_none()
        && let Some(signer) = set.claimed_signer()
    {
        match walk.place(signer)? {
            ZoneStatus::Unsigned(known, reason) => return Ok(insecure(&reason, unsigned_until.min(known.until))),
            ZoneStatus::Signed(keys) if is_of(&keys, signer, set.owner, set.rtype, walk)? => {
                match verify(set, &keys, walk.now, &mut walk.memory.budget) {
                    Ok(signed) => return expanded(subject, set, signed, &keys, walk),
                    Err(VerifyError::Bogus(reason)) => *subject.misled = Some(reason),
                    Err(spent @ VerifyError::Spent(_)) => return Err(Halt::from(spent)),
                }
            }
            ZoneStatus::Signed(_) => {
                let said = format!("the signature is of {signer}, which is not the zone of the records");
                *subject.misled = Some(Reason::new("RFC 4035 §5.3.1", set.owner, said));
            }
        }
    }
    match walk.place_of(set.owner, set.rtype)? {
        ZoneStatus::Unsigned(known, reason) => Ok(insecure(&reason, unsigned_until.min(known.until))),
        ZoneStatus::Signed(keys) => {
            let said = || format!("the {} records are not signed, but the zone {} is", set.rtype, keys.zone);
            let reason = subject.misled.take().unwrap_or_else(|| Reason::new("RFC 4035 §5.2", set.owner, said()));
            Err(Halt::Stop(Security::Bogus, reason))
        }
    }
}

/// Whether the signer is a zone, and the zone of the records as far as we know.
fn is_of(
    keys: &ZoneKeys,
    signer: &Name,
    owner: &Name,
    rtype: RecordType,
    walk: &mut DelegationWalk<'_>,
) -> Result<bool, Halt> {
    Ok(keys.zone == *signer && !walk.is_cut_between(signer, owner, rtype)?)
}

/// A good signature; when it is a wildcard's, the name itself must not exist (RFC 4035 §5.3.4).
fn expanded(
    subject: &Query<'_>,
    set: &RrSet<'_>,
    signed: Signed,
    keys: &ZoneKeys,
    walk: &mut DelegationWalk<'_>,
) -> Result<LinkVerdict, Halt> {
    let until = signed.until.min(keys.signed_until);
    if signed.labels == set.owner.num_labels() {
        return Ok(LinkVerdict { security: Security::Secure, reason: None, until });
    }
    let budget = &mut walk.memory.budget;
    let evidence = DenialRecords::read(&subject.message.authorities, keys, walk.now, budget);
    let question = DenialQuestion { name: set.owner, rtype: set.rtype, zone: &keys.zone };
    let encloser = set.owner.trim_to(usize::from(signed.labels));
    let open = evidence.wildcard(&question, &encloser, budget)?;
    let until = until.min(evidence.until);
    Ok(match open {
        None => LinkVerdict { security: Security::Secure, reason: None, until },
        Some(why) => LinkVerdict { security: Security::Insecure, reason: Some(why.reason(set.owner)), until },
    })
}

/// Nothing in the answer: the authority section must prove it, unless the name is provably in no
/// zone that signs.
fn deny(subject: &mut Query<'_>, walk: &mut DelegationWalk<'_>) -> Result<Link, Halt> {
    if subject.misled.is_none()
        && let Some(signer) = claimed_zone(subject)
    {
        match walk.place(&signer)? {
            ZoneStatus::Unsigned(known, reason) => return unsigned_denial(subject, known.until, &reason, walk),
            ZoneStatus::Signed(keys) if is_of(&keys, &signer, subject.name, subject.rtype, walk)? => {
                match proven(subject, &keys, walk) {
                    Err(Halt::Stop(Security::Bogus, reason)) => *subject.misled = Some(reason),
                    other => return other,
                }
            }
            ZoneStatus::Signed(_) => {
                let said = format!("the proof is of {signer}, which is not the zone of the name");
                *subject.misled = Some(Reason::new("RFC 4035 §5.4", subject.name, said));
            }
        }
    }
    match walk.place_of(subject.name, subject.rtype)? {
        ZoneStatus::Unsigned(known, reason) => unsigned_denial(subject, known.until, &reason, walk),
        ZoneStatus::Signed(keys) => {
            let said = format!("no signed proof by the zone {} that there are no {} records", keys.zone, subject.rtype);
            let reason = subject.misled.take();
            let reason = reason.unwrap_or_else(|| Reason::new("RFC 4035 §5.4", subject.name, said));
            Err(Halt::Stop(Security::Bogus, reason))
        }
    }
}

/// The deepest zone at or above the name (for DS above it) that claims to have signed a part of
/// the denial.
fn claimed_zone(subject: &Query<'_>) -> Option<Name> {
    let of_denial = [RecordType::NSEC, RecordType::NSEC3, RecordType::SOA];
    let signer = |record: &Record| {
        let RData::DNSSEC(DNSSECRData::RRSIG(s)) = &record.data else { return None };
        of_denial.contains(&s.input().type_covered).then(|| s.input().signer_name.clone())
    };
    let possible = |signer: &Name| {
        signer.zone_of(subject.name) && (subject.rtype != RecordType::DS || signer != subject.name || signer.is_root())
    };
    let here = subject.message.authorities.iter().filter(|r| r.dns_class == DNSClass::IN);
    here.filter_map(signer).filter(possible).max_by_key(depth)
}

fn proven(subject: &Query<'_>, keys: &ZoneKeys, walk: &mut DelegationWalk<'_>) -> Result<Link, Halt> {
    let budget = &mut walk.memory.budget;
    let authorities = &subject.message.authorities;
    let evidence = DenialRecords::read(authorities, keys, walk.now, budget);
    let question = DenialQuestion { name: subject.name, rtype: subject.rtype, zone: &keys.zone };
    let denied = evidence.deny(&question, budget)?;
    let mut until = evidence.until.min(keys.signed_until);
    // The SOA is no part of the proof, but says how long the denial may be kept (RFC 2308 §5).
    if let Some(soa) = RrSet::find(authorities, &keys.zone, RecordType::SOA) {
        let signed = verify(&soa, keys, walk.now, budget)?;
        until = until.min(signed.until).min(after_s(walk.now, minimum_s(&soa)));
    }
    let (said, open) = match denied.what {
        Denied::NoData | Denied::UnsignedCut => (NameData::NoData, denied.open),
        Denied::NoName => (NameData::NoName, denied.open),
        Denied::OptOut => (by_code(subject.message), Some(Why::OptOut)),
    };
    let security = if open.is_some() { Security::Insecure } else { Security::Secure };
    let reason = open.map(|why| why.reason(subject.name));
    Ok(Link { said, standing: LinkVerdict { security, reason, until } })
}

fn unsigned_denial(
    subject: &Query<'_>,
    proven_until: Timestamp,
    reason: &Reason,
    walk: &DelegationWalk<'_>,
) -> Result<Link, Halt> {
    let authorities = &subject.message.authorities;
    let soa = authorities.iter().find(|r| r.record_type() == RecordType::SOA && r.name.zone_of(subject.name));
    let is_referral = soa.is_none() && authorities.iter().any(|r| r.record_type() == RecordType::NS);
    if is_referral && subject.message.metadata.response_code == ResponseCode::NoError {
        // RFC 2308 §2.2: NS records without SOA lead elsewhere and deny nothing.
        let said = "the server names other servers and gives no answer".into();
        return Err(Halt::Stop(Security::Indeterminate, Reason::new("RFC 2308 §2.2", subject.name, said)));
    }
    let life_s = soa.and_then(|soa| RrSet::find(authorities, &soa.name, RecordType::SOA));
    let life_s = life_s.map_or(0, |soa| soa.ttl_s.min(minimum_s(&soa)));
    let standing = insecure(reason, after_s(walk.now, life_s).min(proven_until));
    Ok(Link { said: by_code(subject.message), standing })
}

fn by_code(message: &Message) -> NameData {
    if message.metadata.response_code == ResponseCode::NXDomain { NameData::NoName } else { NameData::NoData }
}

fn minimum_s(soa: &RrSet<'_>) -> u32 {
    let minimum = |r: &&Record| if let RData::SOA(soa) = &r.data { Some(soa.minimum) } else { None };
    soa.records.iter().filter_map(minimum).min().unwrap_or(0)
}

fn insecure(reason: &Reason, until: Timestamp) -> LinkVerdict {
    LinkVerdict { security: Security::Insecure, reason: Some(reason.clone()), until }
}

fn bogus(rfc: &'static str, name: &Name, said: String) -> Halt {
    Halt::Stop(Security::Bogus, Reason::new(rfc, name, said))
}
