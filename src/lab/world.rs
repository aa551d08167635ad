//! The whole name space of the lab, and the answer a recursive resolver would give from it
//! (RFC 1034 §5.3.3, RFC 4035 §3.2).
//!
//! The tree is `.` → the top-level zones → what the test describes. Answers carry every link of
//! an alias chain with its signature, and every denial its proof; AD is never set, so whoever
//! asks must validate. Nothing here touches the network.

use super::signer::SignatureFault;
use super::zone::{Fault, Found, RrSet, Signing, TTL_S, Zone};
use super::{bad, locked};
use crate::clock::Clock;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, CNAME, NS};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Mutex;

/// The most aliases followed in one answer; resolvers stop between 8 and 16.
const ALIAS_LIMIT: usize = 12;
/// The name server that all zones name. Nobody needs to reach it: the lab answers for all.
const SERVER: &str = "ns.test.";

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

/// An answer before it becomes a message.
#[derive(Clone, Debug)]
pub struct Answer {
    /// The response code.
    pub code: ResponseCode,
    /// The answer section.
    pub answers: Vec<Record>,
    /// The authority section: SOA and proofs of absence.
    pub authorities: Vec<Record>,
    /// How it is sent.
    pub delivery: Delivery,
}

impl Answer {
    /// An answer without records.
    #[must_use]
    pub fn failure(code: ResponseCode) -> Self {
        Self { code, answers: Vec::new(), authorities: Vec::new(), delivery: Delivery::Normal }
    }
}

/// All zones of a lab. They may be changed while they are served.
#[derive(Debug)]
pub struct World {
    zones: Mutex<BTreeMap<Name, Zone>>,
    clock: Clock,
}

impl World {
    /// A world with the root and the zone `test`, where the name server lives.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn new(clock: Clock) -> io::Result<Self> {
        let world = Self { zones: Mutex::new(BTreeMap::new()), clock };
        let signed = Signing::Signed(super::signer::KeyAlgorithm::EcdsaP256);
        world.add_zone(".", signed)?;
        world.add_zone("test", signed)?;
        world.add(SERVER, RData::A(A(Ipv4Addr::LOCALHOST)))?;
        Ok(world)
    }

    /// Adds a zone and delegates to it from the nearest zone above; a top-level zone that is
    /// missing in between is made, and is signed.
    ///
    /// # Errors
    /// When the name is no domain name, the zone is there already, or keys cannot be made.
    pub fn add_zone(&self, origin: &str, signing: Signing) -> io::Result<()> {
        let origin = name(origin)?;
        let server = name(SERVER)?;
        let top = origin.trim_to(1);
        if top != origin && !locked(&self.zones).contains_key(&top) {
            self.add_zone(&top.to_ascii(), Signing::Signed(super::signer::KeyAlgorithm::EcdsaP256))?;
        }
        let zone = Zone::new(&origin, signing, &server)?;
        let ds = zone.ds()?;
        let mut zones = locked(&self.zones);
        if zones.contains_key(&origin) {
            return Err(bad(format!("the lab has a zone {origin} already")));
        }
        if let Some(parent) = parent_of(&zones, &origin).and_then(|parent| zones.get_mut(&parent)) {
            parent.add(&origin, RData::NS(NS(server)));
            if let Some(ds) = ds {
                parent.add(&origin, ds);
            }
        }
        zones.insert(origin, zone);
        Ok(())
    }

    /// Adds one record to the zone its name belongs to.
    ///
    /// # Errors
    /// When `owner` is no domain name.
    pub fn add(&self, owner: &str, data: RData) -> io::Result<()> {
        let owner = name(owner)?;
        self.with_zone(&owner, data.record_type(), |zone| zone.add(&owner, data))
    }

    /// Adds a CNAME record.
    ///
    /// # Errors
    /// When one of the two is no domain name.
    pub fn add_cname(&self, owner: &str, target: &str) -> io::Result<()> {
        self.add(owner, RData::CNAME(CNAME(name(target)?)))
    }

    /// Replaces all records of a name and type; an empty list takes them away.
    ///
    /// # Errors
    /// When `owner` is no domain name.
    pub fn replace(&self, owner: &str, rtype: RecordType, data: Vec<RData>) -> io::Result<()> {
        let owner = name(owner)?;
        self.with_zone(&owner, rtype, |zone| zone.replace(&owner, rtype, data))
    }

    /// Sets the fault of one question, or heals it with none.
    ///
    /// # Errors
    /// When `owner` is no domain name.
    pub fn fault(&self, owner: &str, rtype: RecordType, fault: impl Into<Option<Fault>>) -> io::Result<()> {
        let owner = name(owner)?;
        let fault = fault.into();
        self.with_zone(&owner, rtype, |zone| zone.set_fault(&owner, rtype, fault))
    }

    /// Sets a fault of everything in the zone that `owner` belongs to, or heals it with none.
    ///
    /// # Errors
    /// When `owner` is no domain name.
    pub fn zone_fault(&self, owner: &str, fault: impl Into<Option<Fault>>) -> io::Result<()> {
        let owner = name(owner)?;
        let fault = fault.into();
        self.with_zone(&owner, RecordType::SOA, |zone| zone.set_zone_fault(fault))
    }

    /// The trust anchor as a file: the root's DNSKEY and DS, as Unbound's root.key holds them.
    ///
    /// # Errors
    /// Only when the root has no key, which no lab makes.
    pub fn trust_anchor(&self, form: AnchorForm) -> io::Result<String> {
        let zones = locked(&self.zones);
        let key = zones.get(&Name::root()).and_then(Zone::key).ok_or_else(|| bad("the root is not signed"))?;
        Ok(match form {
            AnchorForm::DnsKey => format!(". {TTL_S} IN DNSKEY {}\n", key.dnskey()),
            AnchorForm::Ds => format!(". {TTL_S} IN DS {}\n", key.ds()?),
        })
    }

    /// The answer to a question, as a resolver gives it that fetched everything and validated
    /// nothing.
    ///
    /// # Errors
    /// When a record cannot be encoded or signed: a fault in the lab itself.
    pub fn answer(&self, question: &Name, rtype: RecordType) -> io::Result<Answer> {
        let mut answer = Answer::failure(ResponseCode::NoError);
        let mut at = question.to_lowercase();
        let zones = locked(&self.zones);
        for _ in 0..ALIAS_LIMIT {
            let Some(zone) = zone_for(&zones, &at, rtype) else {
                return Ok(Answer::failure(ResponseCode::ServFail));
            };
            let step = Step { zone, clock: &self.clock, fault: zone.fault(&at, rtype) };
            match step.take(&at, rtype, &mut answer)? {
                Next::Done => return Ok(answer),
                Next::Follow(target) => at = target,
            }
        }
        Ok(Answer::failure(ResponseCode::ServFail))
    }

    fn with_zone(&self, owner: &Name, rtype: RecordType, change: impl FnOnce(&mut Zone)) -> io::Result<()> {
        let mut zones = locked(&self.zones);
        let origin = zone_for(&zones, owner, rtype).map(|zone| zone.origin().clone());
        let zone = origin.and_then(|origin| zones.get_mut(&origin)).ok_or_else(|| bad("no zone for the name"))?;
        change(zone);
        Ok(())
    }
}

/// The two ways to write a trust anchor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnchorForm {
    /// The key itself.
    DnsKey,
    /// Its SHA-256 digest.
    Ds,
}

/// A name as the lab writes it: absolute and in lower case.
pub(super) fn name(text: &str) -> io::Result<Name> {
    let mut name = Name::from_ascii(text).map_err(bad)?.to_lowercase();
    name.set_fqdn(true);
    Ok(name)
}

fn parent_of(zones: &BTreeMap<Name, Zone>, origin: &Name) -> Option<Name> {
    if origin.is_root() { None } else { nearest(zones, origin.base_name()).map(|zone| zone.origin().clone()) }
}

/// A DS record belongs to the parent's side of the cut (RFC 4035 §3.1.4.1); all else to the zone
/// that is nearest above the name.
fn zone_for<'a>(zones: &'a BTreeMap<Name, Zone>, name: &Name, rtype: RecordType) -> Option<&'a Zone> {
    let above = if rtype == RecordType::DS { name.base_name() } else { name.clone() };
    nearest(zones, above)
}

fn nearest(zones: &BTreeMap<Name, Zone>, mut name: Name) -> Option<&Zone> {
    loop {
        if let Some(zone) = zones.get(&name) {
            return Some(zone);
        }
        if name.is_root() {
            return None;
        }
        name = name.base_name();
    }
}

enum Next {
    Done,
    Follow(Name),
}

/// One link of an alias chain: a name in one zone, with the fault that meets it.
struct Step<'a> {
    zone: &'a Zone,
    clock: &'a Clock,
    fault: Option<Fault>,
}

impl Step<'_> {
    fn take(&self, at: &Name, rtype: RecordType, answer: &mut Answer) -> io::Result<Next> {
        let refuse = |answer: &mut Answer, code| {
            *answer = Answer::failure(code);
            Ok(Next::Done)
        };
        match self.fault {
            Some(Fault::ServFail) => return refuse(answer, ResponseCode::ServFail),
            Some(Fault::Refused) => return refuse(answer, ResponseCode::Refused),
            Some(Fault::NotImplemented) => return refuse(answer, ResponseCode::NotImp),
            Some(Fault::ForgedNxDomain) => return self.forge(answer, ResponseCode::NXDomain),
            Some(Fault::ForgedNoData) => return self.forge(answer, ResponseCode::NoError),
            Some(Fault::Silent) => answer.delivery = Delivery::Silent,
            Some(Fault::SilentOverUdp) => answer.delivery = Delivery::SilentOverUdp,
            Some(Fault::TruncatedOverUdp) => answer.delivery = Delivery::TruncatedOverUdp,
            Some(Fault::Signature(_)) | None => {}
        }
        self.look_up(at, rtype, answer)
    }

    fn look_up(&self, at: &Name, rtype: RecordType, answer: &mut Answer) -> io::Result<Next> {
        match self.zone.find(at, rtype)? {
            Found::Records(set) => self.push(&set, &mut answer.answers)?,
            Found::Wildcard(owner, set) => self.expand(&owner, &set, answer)?,
            Found::Cname(set, target) => {
                self.push(&set, &mut answer.answers)?;
                return Ok(Next::Follow(target));
            }
            Found::Dname(set, target) => {
                self.push(&set, &mut answer.answers)?;
                // The CNAME is made from the DNAME and is not signed (RFC 6672 §5.3.1).
                let cname = RData::CNAME(CNAME(target.clone()));
                answer.answers.push(Record::from_rdata(at.clone(), TTL_S, cname));
                return Ok(Next::Follow(target));
            }
            Found::NoData => self.deny(std::slice::from_ref(at), answer)?,
            // RFC 4035 §3.1.3.4: the name does not exist, and the wildcard has no such type.
            Found::NoWildcardData(star) => self.deny(&[at.clone(), star], answer)?,
            Found::NoName(encloser) => {
                answer.code = ResponseCode::NXDomain;
                let star = encloser.prepend_label("*").map_err(bad)?;
                self.deny(&[at.clone(), star], answer)?;
            }
        }
        Ok(Next::Done)
    }

    fn signature(&self, set: &RrSet) -> io::Result<Option<Record>> {
        let fault = match self.fault {
            Some(Fault::Signature(fault)) => Some(fault),
            Some(
                Fault::ServFail
                | Fault::Refused
                | Fault::NotImplemented
                | Fault::Silent
                | Fault::SilentOverUdp
                | Fault::TruncatedOverUdp
                | Fault::ForgedNxDomain
                | Fault::ForgedNoData,
            )
            | None => None::<SignatureFault>,
        };
        self.zone.key().map_or(Ok(None), |key| key.sign(set, self.clock.now(), fault))
    }

    fn push(&self, set: &RrSet, section: &mut Vec<Record>) -> io::Result<()> {
        section.extend(set.records());
        section.extend(self.signature(set)?);
        Ok(())
    }

    /// RFC 4035 §3.1.3.3: the records under the name asked, the wildcard's signature, and the
    /// proof that the name itself does not exist.
    fn expand(&self, owner: &Name, set: &RrSet, answer: &mut Answer) -> io::Result<()> {
        let shown = RrSet { owner: owner.clone(), ..set.clone() };
        answer.answers.extend(shown.records());
        if let Some(mut signature) = self.signature(set)? {
            signature.name = owner.clone();
            answer.answers.push(signature);
        }
        self.prove(std::slice::from_ref(owner), answer)
    }

    /// RFC 2308 §3 and RFC 4035 §3.1.3: the SOA, and the NSEC records for the names given.
    fn deny(&self, names: &[Name], answer: &mut Answer) -> io::Result<()> {
        if let Some(soa) = self.zone.soa() {
            self.push(&soa, &mut answer.authorities)?;
        }
        self.prove(names, answer)
    }

    fn prove(&self, names: &[Name], answer: &mut Answer) -> io::Result<()> {
        if self.zone.key().is_none() {
            return Ok(());
        }
        let mut proofs: Vec<RrSet> = Vec::new();
        for proof in names.iter().filter_map(|name| self.zone.nsec(name)) {
            if proofs.iter().all(|seen| seen.owner != proof.owner) {
                proofs.push(proof);
            }
        }
        proofs.iter().try_for_each(|proof| self.push(proof, &mut answer.authorities))
    }

    fn forge(&self, answer: &mut Answer, code: ResponseCode) -> io::Result<Next> {
        answer.code = code;
        self.deny(&[], answer)?;
        Ok(Next::Done)
    }
}
