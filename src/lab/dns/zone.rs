//! One zone of the lab: its records, its key, its faults, and the look-ups a zone can do
//! (RFC 1034 §4.3.2, RFC 4035 §2–§3).
//!
//! Records are held in canonical order of their names (RFC 4034 §6.1), so the NSEC chain is not
//! stored: it is the order itself. A zone may change while it is served; the signatures are made
//! when a question comes and always fit what is there. Proofs of absence are in `denial`.

use super::keys::{self, ZoneKey};
use super::plan::{Denial, Role, SigningPlan};
use super::rrset::{SignatureFault, ZoneRrSet};
use crate::clock::Timestamp;
use crate::lab::bad;
use hickory_proto::dnssec::Nsec3HashAlgorithm;
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC3PARAM};
use hickory_proto::rr::rdata::{NS, NULL, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;
use std::sync::OnceLock;

/// TTL of every record, in seconds: short, since tests change zones while they are served.
pub const TTL_S: u32 = 60;
/// How long a denial may be kept, in seconds (the SOA's last field, RFC 2308 §4).
pub(in crate::lab) const NEGATIVE_TTL_S: u32 = 10;

/// What goes wrong with the answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AnswerFault {
    /// The records, or the proof that there are none, carry a faulty signature.
    Signature(SignatureFault),
    /// SERVFAIL.
    ServFail,
    /// REFUSED.
    Refused,
    /// NOTIMP, as some providers answer TLSA questions for unsigned hosts.
    NotImplemented,
    /// No answer at all.
    Silent,
    /// No answer over UDP; TCP works.
    SilentOverUdp,
    /// An empty, truncated answer over UDP; TCP works.
    TruncatedOverUdp,
    /// NXDOMAIN with a signed SOA and no proof: a downgrade attack when the zone is signed.
    ForgedNxDomain,
    /// No records, with a signed SOA and no proof: a downgrade attack when the zone is signed.
    ForgedNoData,
    /// Of the proofs of absence the one in this place, counted from 0, is left out.
    OmitProof(usize),
    /// A denial comes without its SOA.
    OmitSoa,
}

impl AnswerFault {
    /// What is wrong with the signature, where that is what is wrong.
    pub(in crate::lab) fn of_signature(self) -> Option<SignatureFault> {
        match self {
            Self::Signature(fault) => Some(fault),
            Self::ServFail
            | Self::Refused
            | Self::NotImplemented
            | Self::Silent
            | Self::SilentOverUdp
            | Self::TruncatedOverUdp
            | Self::ForgedNxDomain
            | Self::ForgedNoData
            | Self::OmitProof(_)
            | Self::OmitSoa => None,
        }
    }
}

/// What a zone has for a name and a type. Records whose owner is not the name asked are those of
/// the wildcard that stands for it.
#[derive(Debug)]
pub enum ZoneData {
    /// The records.
    Records(ZoneRrSet),
    /// The name is an alias.
    Cname(ZoneRrSet, Name),
    /// A name above is an alias for a whole tree (RFC 6672); the new name comes last, and none
    /// when it would be too long.
    Dname(ZoneRrSet, Option<Name>),
    /// The name exists, perhaps only because names below it do; it has no such records.
    NoData,
    /// The wildcard below this closest encloser stands for the name and has no such records.
    NoWildcardData(Name),
    /// The name does not exist. With it comes its closest encloser (RFC 4592 §3.3.1).
    NoName(Name),
}

/// The hashes of all names in the NSEC3 chain, and the types that each has.
pub type Nsec3Hashes = BTreeMap<Vec<u8>, Vec<RecordType>>;

/// A zone.
#[derive(Debug)]
pub struct Zone {
    pub(in crate::lab) origin: Name,
    pub(in crate::lab) denial: Denial,
    pub(in crate::lab) records: BTreeMap<Name, BTreeMap<RecordType, Vec<RData>>>,
    /// The NSEC3 chain, once it was needed; a change throws it away.
    pub(in crate::lab) chain: OnceLock<Nsec3Hashes>,
    keys: Vec<ZoneKey>,
    ds: Vec<RData>,
    faults: BTreeMap<(Name, RecordType), AnswerFault>,
    fault: Option<AnswerFault>,
}

impl Zone {
    /// A zone with SOA, NS and, when signed, DNSKEY and NSEC3PARAM; its name server is `server`.
    ///
    /// # Errors
    /// When the keys cannot be made, or the plan speaks of a key it has not.
    pub fn new(origin: &Name, plan: &SigningPlan, server: &Name) -> io::Result<Self> {
        let keys = keys::generate_all(origin, &plan.keys)?;
        let ds = plan.ds.iter().map(|spec| Ok(RData::DNSSEC(DNSSECRData::DS(keys::ds(origin, &keys, *spec)?))));
        let ds = ds.collect::<io::Result<Vec<_>>>()?;
        let mut zone = Self {
            origin: origin.clone(),
            denial: plan.denial.clone(),
            records: BTreeMap::new(),
            chain: OnceLock::new(),
            keys,
            ds,
            faults: BTreeMap::new(),
            fault: None,
        };
        let hostmaster = server.prepend_label("hostmaster").map_err(bad)?;
        let soa = SOA::new(server.clone(), hostmaster, 1, 3600, 600, 86_400, NEGATIVE_TTL_S);
        zone.add(origin, RData::SOA(soa));
        zone.add(origin, RData::NS(NS(server.clone())));
        let dnskeys: Vec<_> = zone.keys.iter().map(|key| key.dnskey().clone()).collect();
        for dnskey in dnskeys {
            zone.add(origin, RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)));
        }
        if let (Denial::Nsec3 { salt, iterations, .. }, [_, ..]) = (&plan.denial, plan.keys.as_slice()) {
            let param = NSEC3PARAM::new(Nsec3HashAlgorithm::SHA1, false, *iterations, salt.clone());
            zone.add(origin, RData::DNSSEC(DNSSECRData::NSEC3PARAM(param)));
        }
        Ok(zone)
    }

    /// The name of the apex.
    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The keys, as the plan orders them.
    #[must_use]
    pub fn keys(&self) -> &[ZoneKey] {
        &self.keys
    }

    /// The DS records that belong into the parent.
    #[must_use]
    pub fn ds(&self) -> &[RData] {
        &self.ds
    }

    /// The RRSIGs over a set, by every key whose role it is; none in an unsigned zone.
    ///
    /// # Errors
    /// When a record cannot be encoded.
    pub fn sign(&self, set: &ZoneRrSet, now: Timestamp, fault: Option<SignatureFault>) -> io::Result<Vec<Record>> {
        let apex = set.rtype == RecordType::DNSKEY && set.owner == self.origin;
        let signs = |role: Role| match role {
            Role::Combined => true,
            Role::KeySigning => apex,
            Role::ZoneSigning => !apex,
            Role::Standby => false,
        };
        let signers = self.keys.iter().filter(|key| signs(key.role()));
        let signatures = signers.map(|key| key.sign(set, now, fault)).collect::<io::Result<Vec<_>>>()?;
        Ok(signatures.concat())
    }

    /// Adds one record; one that is there already is not doubled.
    pub fn add(&mut self, owner: &Name, data: RData) {
        self.chain.take();
        let set = self.records.entry(owner.to_lowercase()).or_default().entry(data.record_type()).or_default();
        if !set.contains(&data) {
            set.push(data);
        }
    }

    /// Replaces all records of a name and type; an empty list takes them away.
    pub fn replace(&mut self, owner: &Name, rtype: RecordType, data: Vec<RData>) {
        self.chain.take();
        let owner = owner.to_lowercase();
        let types = self.records.entry(owner.clone()).or_default();
        types.remove(&rtype);
        if !data.is_empty() {
            types.insert(rtype, data);
        }
        if types.is_empty() {
            self.records.remove(&owner);
        }
    }

    /// Sets or heals the fault of one question.
    pub fn set_fault(&mut self, owner: &Name, rtype: RecordType, fault: Option<AnswerFault>) {
        let key = (owner.to_lowercase(), rtype);
        match fault {
            Some(fault) => self.faults.insert(key, fault),
            None => self.faults.remove(&key),
        };
    }

    /// Sets or heals a fault of everything in the zone, its keys included.
    pub fn set_zone_fault(&mut self, fault: Option<AnswerFault>) {
        self.fault = fault;
    }

    /// The fault that meets a question; the more particular one counts.
    #[must_use]
    pub fn fault(&self, name: &Name, rtype: RecordType) -> Option<AnswerFault> {
        self.faults.get(&(name.to_lowercase(), rtype)).copied().or(self.fault)
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// When there can be no wildcard below a name, which is too long for it.
    pub fn find(&self, name: &Name, rtype: RecordType) -> io::Result<ZoneData> {
        if let Some(types) = self.records.get(name) {
            return Ok(self.at_node(name, types, rtype).unwrap_or(ZoneData::NoData));
        }
        if self.has_names_below(name) {
            return Ok(ZoneData::NoData);
        }
        let encloser = self.closest_encloser(name);
        if let Some(found) = self.dname_above(name)? {
            return Ok(found);
        }
        let star = encloser.prepend_label("*").map_err(bad)?;
        Ok(match self.records.get(&star) {
            None if self.has_names_below(&star) => ZoneData::NoWildcardData(encloser),
            None => ZoneData::NoName(encloser),
            Some(types) => self.at_node(&star, types, rtype).unwrap_or(ZoneData::NoWildcardData(encloser)),
        })
    }

    /// The zone cut at or above a name, seen from the apex; none when the zone itself is
    /// authoritative for the question. A DS question at the cut is for the parent
    /// (RFC 4035 §3.1.4.1).
    #[must_use]
    pub fn cut_above(&self, name: &Name, rtype: RecordType) -> Option<ZoneRrSet> {
        let deepest = name.iter().len();
        (self.origin.iter().len() + 1..=deepest).find_map(|labels| {
            let cut = name.trim_to(labels);
            let servers = self.records.get(&cut)?.get(&RecordType::NS)?;
            let parental = rtype == RecordType::DS && labels == deepest;
            if parental { None } else { Some(self.set(&cut, RecordType::NS, servers)) }
        })
    }

    /// The records of a name and type, without any rule of look-ups.
    #[must_use]
    pub fn get(&self, owner: &Name, rtype: RecordType) -> Option<ZoneRrSet> {
        let data = self.records.get(owner)?.get(&rtype)?;
        Some(self.set(owner, rtype, data))
    }

    /// What a name with records has; none when that is nothing of the type.
    fn at_node(&self, name: &Name, types: &BTreeMap<RecordType, Vec<RData>>, rtype: RecordType) -> Option<ZoneData> {
        if let Some(data) = types.get(&rtype) {
            return Some(ZoneData::Records(self.set(name, rtype, data)));
        }
        if let Some(data) = types.get(&RecordType::CNAME)
            && let Some(RData::CNAME(target)) = data.first()
        {
            return Some(ZoneData::Cname(self.set(name, RecordType::CNAME, data), target.0.to_lowercase()));
        }
        None
    }

    /// All records, set by set, in canonical order.
    pub fn sets(&self) -> impl Iterator<Item = ZoneRrSet> + '_ {
        let node = |(owner, types): (&'_ Name, &'_ BTreeMap<RecordType, Vec<RData>>)| {
            types.iter().map(|(rtype, data)| self.set(owner, *rtype, data)).collect::<Vec<_>>()
        };
        self.records.iter().flat_map(node)
    }

    fn set(&self, owner: &Name, rtype: RecordType, data: &[RData]) -> ZoneRrSet {
        ZoneRrSet { owner: owner.clone(), rtype, ttl_s: TTL_S, data: data.to_vec() }
    }

    /// In canonical order the names below a name follow it at once.
    pub(in crate::lab) fn has_names_below(&self, name: &Name) -> bool {
        self.after(name).is_some_and(|next| name.zone_of(next))
    }

    pub(in crate::lab) fn after(&self, name: &Name) -> Option<&Name> {
        self.records.range((Bound::Excluded(name.clone()), Bound::Unbounded)).next().map(|(owner, _)| owner)
    }

    fn closest_encloser(&self, name: &Name) -> Name {
        let mut encloser = name.base_name();
        while encloser != self.origin && !self.records.contains_key(&encloser) && !self.has_names_below(&encloser) {
            encloser = encloser.base_name();
        }
        encloser
    }

    fn dname_above(&self, name: &Name) -> io::Result<Option<ZoneData>> {
        let mut above = name.base_name();
        while self.origin.zone_of(&above) {
            if let Some(data) = self.records.get(&above).and_then(|types| types.get(&RecordType::DNAME))
                && let Some(target) = data.first().and_then(dname_target)
            {
                // The `*` of a name counts here, unlike in `num_labels`.
                let kept = name.iter().count().saturating_sub(above.iter().count());
                let prefix = Name::from_labels(name.iter().take(kept)).map_err(bad)?;
                let new = prefix.append_domain(&target).ok();
                return Ok(Some(ZoneData::Dname(self.set(&above, RecordType::DNAME, data), new)));
            }
            if above.is_root() {
                break;
            }
            above = above.base_name();
        }
        Ok(None)
    }

    /// The SOA, which every denial carries (RFC 2308 §3).
    #[must_use]
    pub fn soa(&self) -> Option<ZoneRrSet> {
        let data = self.records.get(&self.origin)?.get(&RecordType::SOA)?;
        Some(ZoneRrSet { ttl_s: NEGATIVE_TTL_S, ..self.set(&self.origin, RecordType::SOA, data) })
    }
}

/// DNAME data (RFC 6672 §2.1). Hickory has no type of its own for it.
///
/// # Errors
/// When the name cannot be encoded.
pub fn dname(target: &Name) -> io::Result<RData> {
    let wire = target.to_lowercase().to_bytes().map_err(bad)?;
    Ok(RData::Unknown { code: RecordType::DNAME, rdata: NULL::with(wire) })
}

fn dname_target(data: &RData) -> Option<Name> {
    if let RData::Unknown { rdata, .. } = data { Name::from_bytes(&rdata.anything).ok() } else { None }
}
