//! The whole name space of the lab, and the answer a recursive resolver would give from it
//! (RFC 1034 §5.3.3, RFC 4035 §3.2).
//!
//! The tree is `.` → the top-level zones → what the test describes. Answers carry every link of
//! an alias chain with its signature, and every denial its proof; AD is never set, so whoever
//! asks must validate. Nothing here touches the network.

use super::answer::{Next, Step};
use super::plan::{KeyAlgorithm, Role, SigningPlan};
use super::rrset::{SignatureFault, ZoneRrSet};
use super::zone::{AnswerFault, TTL_S, Zone};
use crate::clock::{Clock, Timestamp};
use crate::lab::{bad, locked};
use hickory_proto::dnssec::DigestType;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::rdata::{A, CNAME, NS};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv4Addr;
use std::sync::Mutex;

pub use super::answer::{Delivery, ServerAnswer, ServerRole};

/// The most aliases followed in one answer; resolvers stop between 8 and 16.
const ALIAS_LIMIT: usize = 12;
/// The name server that all zones name. Nobody needs to reach it: the lab answers for all.
const SERVER: &str = "ns.test.";

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
        Self::with_root(clock, KeyAlgorithm::EcdsaP256)
    }

    /// As [`World::new`], with the root signed by this plan; its DS records are of no use.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn with_root(clock: Clock, plan: impl Into<SigningPlan>) -> io::Result<Self> {
        let world = Self { zones: Mutex::new(BTreeMap::new()), clock };
        world.add_zone(".", plan)?;
        world.add_zone("test", KeyAlgorithm::EcdsaP256)?;
        world.add(SERVER, RData::A(A(Ipv4Addr::LOCALHOST)))?;
        Ok(world)
    }

    /// Adds a zone and delegates to it from the nearest zone above; a top-level zone that is
    /// missing in between is made, and is signed. The plan may be a [`Signing`](crate::lab::Signing), a
    /// [`KeyAlgorithm`] or a [`SigningPlan`].
    ///
    /// # Errors
    /// When the name is no domain name, the zone is there already, or keys cannot be made.
    pub fn add_zone(&self, origin: &str, plan: impl Into<SigningPlan>) -> io::Result<()> {
        let (origin, server) = (name(origin)?, name(SERVER)?);
        let top = origin.trim_to(1);
        if top != origin && !locked(&self.zones).contains_key(&top) {
            self.add_zone(&top.to_ascii(), KeyAlgorithm::EcdsaP256)?;
        }
        let zone = Zone::new(&origin, &plan.into(), &server)?;
        let mut zones = locked(&self.zones);
        if zones.contains_key(&origin) {
            return Err(bad(format!("the lab has a zone {origin} already")));
        }
        if let Some(parent) = parent_of(&zones, &origin).and_then(|parent| zones.get_mut(&parent)) {
            parent.add(&origin, RData::NS(NS(server)));
            zone.ds().iter().for_each(|ds| parent.add(&origin, ds.clone()));
        }
        zones.insert(origin, zone);
        Ok(())
    }

    /// The names of all zones, in canonical order.
    #[must_use]
    pub fn origins(&self) -> Vec<Name> {
        locked(&self.zones).keys().cloned().collect()
    }

    /// Makes `server` the one name server of a zone, on both sides of the cut, at this address.
    ///
    /// # Errors
    /// When there is no such zone.
    pub fn serve(&self, origin: &Name, server: &Name, address: Ipv4Addr) -> io::Result<()> {
        let mut zones = locked(&self.zones);
        let parent = parent_of(&zones, origin);
        let ns = RData::NS(NS(server.clone()));
        for side in [Some(origin.clone()), parent].into_iter().flatten() {
            let zone = zones.get_mut(&side).ok_or_else(|| bad("no such zone"))?;
            zone.replace(origin, RecordType::NS, vec![ns.clone()]);
        }
        let home = nearest(&zones, server.clone()).map(|zone| zone.origin().clone());
        let home = home.and_then(|home| zones.get_mut(&home)).ok_or_else(|| bad("no zone for the server"))?;
        home.replace(server, RecordType::A, vec![RData::A(A(address))]);
        Ok(())
    }

    /// Makes `server` one more name server of a zone, on both sides of the cut.
    ///
    /// # Errors
    /// When there is no such zone, or a name is none.
    pub fn serve_also(&self, origin: &str, server: &str) -> io::Result<()> {
        let (origin, ns) = (name(origin)?, RData::NS(NS(name(server)?)));
        let mut zones = locked(&self.zones);
        let parent = parent_of(&zones, &origin);
        for side in [Some(origin.clone()), parent].into_iter().flatten() {
            zones.get_mut(&side).ok_or_else(|| bad("no such zone"))?.add(&origin, ns.clone());
        }
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
    pub fn fault(&self, owner: &str, rtype: RecordType, fault: impl Into<Option<AnswerFault>>) -> io::Result<()> {
        let owner = name(owner)?;
        let fault = fault.into();
        self.with_zone(&owner, rtype, |zone| zone.set_fault(&owner, rtype, fault))
    }

    /// Sets a fault of everything in the zone that `owner` belongs to, or heals it with none.
    ///
    /// # Errors
    /// When `owner` is no domain name.
    pub fn zone_fault(&self, owner: &str, fault: impl Into<Option<AnswerFault>>) -> io::Result<()> {
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
        let keys = zones.get(&Name::root()).map(Zone::keys).unwrap_or_default();
        let entry = |role: Role| matches!(role, Role::Combined | Role::KeySigning);
        let lines = keys.iter().filter(|key| entry(key.role())).map(|key| {
            Ok(match form {
                AnchorForm::DnsKey => format!(". {TTL_S} IN DNSKEY {}\n", key.dnskey()),
                AnchorForm::Ds => format!(". {TTL_S} IN DS {}\n", key.ds(DigestType::SHA256)?),
            })
        });
        let text = lines.collect::<io::Result<String>>()?;
        if text.is_empty() { Err(bad("the root is not signed")) } else { Ok(text) }
    }

    /// The answer to a question, as a resolver gives it that fetched everything and validated
    /// nothing.
    ///
    /// # Errors
    /// When a record cannot be encoded or signed: a fault in the lab itself.
    pub fn answer(&self, question: &Name, rtype: RecordType) -> io::Result<ServerAnswer> {
        let mut answer = ServerAnswer::failure(ResponseCode::NoError);
        let mut at = question.to_lowercase();
        let zones = locked(&self.zones);
        for _ in 0..ALIAS_LIMIT {
            let Some(zone) = zone_for(&zones, &at, rtype) else {
                return Ok(ServerAnswer::failure(ResponseCode::ServFail));
            };
            let step = Step { zone, now: self.clock.now(), fault: zone.fault(&at, rtype) };
            match step.take(&at, rtype, &mut answer)? {
                Next::Done => return Ok(answer),
                Next::Follow(target) => at = target,
            }
        }
        Ok(ServerAnswer::failure(ResponseCode::ServFail))
    }

    /// The answer as a message, as a client gets it that asked with DO.
    ///
    /// # Errors
    /// When a name is no domain name, or as [`World::answer`].
    pub fn message(&self, question: &str, rtype: RecordType) -> io::Result<Message> {
        let question = name(question)?;
        self.answer(&question, rtype)?.into_message(&question, rtype)
    }

    /// The answer of a zone's own name server, which knows nothing of other zones: a referral for
    /// what is below a cut, and no alias followed out of the zone (RFC 4035 §3.1).
    ///
    /// # Errors
    /// When there is no such zone, or as [`World::answer`].
    pub fn answer_at(&self, origin: &Name, question: &Name, rtype: RecordType) -> io::Result<ServerAnswer> {
        let zones = locked(&self.zones);
        let zone = zones.get(&origin.to_lowercase()).ok_or_else(|| bad("no such zone"))?;
        let mut answer =
            ServerAnswer { standing: ServerRole::Authoritative, ..ServerAnswer::failure(ResponseCode::NoError) };
        let mut at = question.to_lowercase();
        for _ in 0..ALIAS_LIMIT {
            let step = Step { zone, now: self.clock.now(), fault: zone.fault(&at, rtype) };
            if let Some(cut) = zone.cut_above(&at, rtype) {
                // Behind an alias the client finds the way by itself.
                if answer.answers.is_empty() {
                    step.refer(&cut, &mut answer)?;
                    answer.additionals = glue(&zones, &cut);
                }
                return Ok(answer);
            }
            match step.take(&at, rtype, &mut answer)? {
                Next::Follow(target) if zone.origin().zone_of(&target) => at = target,
                Next::Follow(_) | Next::Done => return Ok(answer),
            }
        }
        Ok(ServerAnswer::failure(ResponseCode::ServFail))
    }

    /// [`World::answer_at`] as a message: for denials from the wrong side of a cut.
    ///
    /// # Errors
    /// As [`World::answer_at`].
    pub fn message_at(&self, origin: &str, question: &str, rtype: RecordType) -> io::Result<Message> {
        let question = name(question)?;
        self.answer_at(&name(origin)?, &question, rtype)?.into_message(&question, rtype)
    }

    /// A set with signatures by the keys of a zone, whether or not the zone has such records:
    /// for what only the owner of a zone, or one who replays, can send.
    ///
    /// # Errors
    /// When there is no such zone, or a record cannot be encoded.
    pub fn signed(&self, origin: &str, set: &ZoneRrSet, fault: Option<SignatureFault>) -> io::Result<Vec<Record>> {
        let zones = locked(&self.zones);
        let zone = zones.get(&name(origin)?).ok_or_else(|| bad("no such zone"))?;
        Ok(set.records().chain(zone.sign(set, self.clock.now(), fault)?).collect())
    }

    /// The NSEC or NSEC3 record of a zone that matches or else covers `owner`, with signatures.
    ///
    /// # Errors
    /// When there is no such zone, or a record cannot be encoded.
    pub fn proof(&self, origin: &str, owner: &str) -> io::Result<Vec<Record>> {
        let zones = locked(&self.zones);
        let zone = zones.get(&name(origin)?).ok_or_else(|| bad("no such zone"))?;
        let proof = zone.proof_for(&name(owner)?)?;
        Ok(proof.records().chain(zone.sign(&proof, self.clock.now(), None)?).collect())
    }

    pub(in crate::lab) fn zones(&self) -> &Mutex<BTreeMap<Name, Zone>> {
        &self.zones
    }

    /// The time by which signatures are dated.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.clock.now()
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
pub(in crate::lab) fn name(text: &str) -> io::Result<Name> {
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

/// The addresses of the name servers of a cut that lie below it (RFC 1034 §4.2.1); without them
/// nobody could reach it.
pub(in crate::lab) fn glue(zones: &BTreeMap<Name, Zone>, cut: &ZoneRrSet) -> Vec<Record> {
    let servers = cut.data.iter().filter_map(|data| if let RData::NS(server) = data { Some(&server.0) } else { None });
    let below = servers.filter(|server| cut.owner.zone_of(server));
    let of_type = |server: &Name, rtype| nearest(zones, server.clone()).and_then(|zone| zone.get(server, rtype));
    let addresses = below.flat_map(|server| [RecordType::A, RecordType::AAAA].map(|rtype| of_type(server, rtype)));
    addresses.flatten().flat_map(|set| set.records().collect::<Vec<_>>()).collect()
}
