//! One zone of the lab: its records, its key, its faults, and the look-ups a zone can do
//! (RFC 1034 §4.3.2, RFC 4035 §2–§3).
//!
//! Records are held in canonical order of their names (RFC 4034 §6.1), so the NSEC chain is not
//! stored: it is the order itself. A zone may change while it is served; the signatures are made
//! when a question comes and always fit what is there.

use super::bad;
use super::signer::{KeyAlgorithm, SignatureFault, ZoneKey};
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC};
use hickory_proto::rr::rdata::{NS, NULL, SOA};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::{BinDecodable, BinEncodable};
use std::collections::BTreeMap;
use std::io;
use std::ops::Bound;

/// TTL of every record, in seconds: short, since tests change zones while they are served.
pub const TTL_S: u32 = 60;
/// How long a denial may be kept, in seconds (the SOA's last field, RFC 2308 §4).
const NEGATIVE_TTL_S: u32 = 10;

/// How a zone is signed and what its parent says about it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signing {
    /// Signed, with its DS in the parent: secure.
    Signed(KeyAlgorithm),
    /// Not signed, and the parent proves that there is no DS: insecure.
    Unsigned,
    /// Signed, but the parent has no DS: insecure all the same (RFC 4035 §5.2).
    NoDs,
    /// Signed, and the parent's DS is of another key: bogus.
    WrongDs,
    /// Not signed although the parent has a DS: bogus.
    DsButUnsigned,
}

/// What goes wrong with the answer to a question.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
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
}

/// Records of one name and type.
#[derive(Clone, Debug)]
pub struct RrSet {
    /// The name they belong to, in lower case.
    pub owner: Name,
    /// Their type.
    pub rtype: RecordType,
    /// Their TTL, in seconds.
    pub ttl_s: u32,
    /// Their data.
    pub data: Vec<RData>,
}

impl RrSet {
    /// The records, without signatures.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.data.iter().map(|data| Record::from_rdata(self.owner.clone(), self.ttl_s, data.clone()))
    }
}

/// What a zone has for a name and a type.
#[derive(Debug)]
pub enum Found {
    /// The records.
    Records(RrSet),
    /// The records of the wildcard named first, which stands for the name asked.
    Wildcard(Name, RrSet),
    /// The name is an alias.
    Cname(RrSet, Name),
    /// A name above is an alias for a whole tree (RFC 6672); the new name comes last.
    Dname(RrSet, Name),
    /// The name exists, perhaps only because names below it do; it has no such records.
    NoData,
    /// The wildcard named stands for the name and has no such records.
    NoWildcardData(Name),
    /// The name does not exist. With it comes its closest encloser (RFC 4592 §3.3.1).
    NoName(Name),
}

/// A zone.
#[derive(Debug)]
pub struct Zone {
    origin: Name,
    signing: Signing,
    key: Option<ZoneKey>,
    records: BTreeMap<Name, BTreeMap<RecordType, Vec<RData>>>,
    faults: BTreeMap<(Name, RecordType), Fault>,
    fault: Option<Fault>,
}

impl Zone {
    /// A zone with SOA, NS and, when signed, DNSKEY; its name server is `server`.
    ///
    /// # Errors
    /// When the key cannot be made.
    pub fn new(origin: &Name, signing: Signing, server: &Name) -> io::Result<Self> {
        let key = match signing {
            Signing::Signed(algorithm) => Some(ZoneKey::generate(origin, algorithm)?),
            Signing::NoDs | Signing::WrongDs => Some(ZoneKey::generate(origin, KeyAlgorithm::EcdsaP256)?),
            Signing::Unsigned | Signing::DsButUnsigned => None,
        };
        let mut zone = Self {
            origin: origin.clone(),
            signing,
            key,
            records: BTreeMap::new(),
            faults: BTreeMap::new(),
            fault: None,
        };
        let hostmaster = server.prepend_label("hostmaster").map_err(bad)?;
        let soa = SOA::new(server.clone(), hostmaster, 1, 3600, 600, 86_400, NEGATIVE_TTL_S);
        zone.add(origin, RData::SOA(soa));
        zone.add(origin, RData::NS(NS(server.clone())));
        if let Some(dnskey) = zone.key.as_ref().map(|key| key.dnskey().clone()) {
            zone.add(origin, RData::DNSSEC(DNSSECRData::DNSKEY(dnskey)));
        }
        Ok(zone)
    }

    /// The name of the apex.
    #[must_use]
    pub fn origin(&self) -> &Name {
        &self.origin
    }

    /// The key, when there is one.
    #[must_use]
    pub fn key(&self) -> Option<&ZoneKey> {
        self.key.as_ref()
    }

    /// The DS records that belong into the parent.
    ///
    /// # Errors
    /// When the stand-in for a wrong key cannot be made.
    pub fn ds(&self) -> io::Result<Option<RData>> {
        let other = || ZoneKey::generate(&self.origin, KeyAlgorithm::EcdsaP256);
        let ds = match (self.signing, &self.key) {
            (Signing::Signed(_), Some(key)) => Some(key.ds()?),
            (Signing::WrongDs | Signing::DsButUnsigned, _) => Some(other()?.ds()?),
            (Signing::Signed(_), None) | (Signing::Unsigned | Signing::NoDs, _) => None,
        };
        Ok(ds.map(|ds| RData::DNSSEC(DNSSECRData::DS(ds))))
    }

    /// Adds one record; one that is there already is not doubled.
    pub fn add(&mut self, owner: &Name, data: RData) {
        let set = self.records.entry(owner.to_lowercase()).or_default().entry(data.record_type()).or_default();
        if !set.contains(&data) {
            set.push(data);
        }
    }

    /// Replaces all records of a name and type; an empty list takes them away.
    pub fn replace(&mut self, owner: &Name, rtype: RecordType, data: Vec<RData>) {
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
    pub fn set_fault(&mut self, owner: &Name, rtype: RecordType, fault: Option<Fault>) {
        let key = (owner.to_lowercase(), rtype);
        match fault {
            Some(fault) => self.faults.insert(key, fault),
            None => self.faults.remove(&key),
        };
    }

    /// Sets or heals a fault of everything in the zone, its keys included.
    pub fn set_zone_fault(&mut self, fault: Option<Fault>) {
        self.fault = fault;
    }

    /// The fault that meets a question; the more particular one counts.
    #[must_use]
    pub fn fault(&self, name: &Name, rtype: RecordType) -> Option<Fault> {
        self.faults.get(&(name.to_lowercase(), rtype)).copied().or(self.fault)
    }

    /// Looks a name up.
    ///
    /// # Errors
    /// When an alias leads to a name that is too long.
    pub fn find(&self, name: &Name, rtype: RecordType) -> io::Result<Found> {
        if let Some(types) = self.records.get(name) {
            return Ok(self.at_node(name, types, rtype));
        }
        if self.has_names_below(name) {
            return Ok(Found::NoData);
        }
        let encloser = self.closest_encloser(name);
        if let Some(found) = self.dname_above(name)? {
            return Ok(found);
        }
        let star = encloser.prepend_label("*").map_err(bad)?;
        let Some(types) = self.records.get(&star) else {
            return Ok(Found::NoName(encloser));
        };
        Ok(match types.get(&rtype) {
            Some(data) => Found::Wildcard(name.clone(), self.set(&star, rtype, data)),
            None => Found::NoWildcardData(star),
        })
    }

    fn at_node(&self, name: &Name, types: &BTreeMap<RecordType, Vec<RData>>, rtype: RecordType) -> Found {
        if let Some(data) = types.get(&rtype) {
            return Found::Records(self.set(name, rtype, data));
        }
        if let Some(data) = types.get(&RecordType::CNAME)
            && let Some(RData::CNAME(target)) = data.first()
        {
            return Found::Cname(self.set(name, RecordType::CNAME, data), target.0.to_lowercase());
        }
        Found::NoData
    }

    fn set(&self, owner: &Name, rtype: RecordType, data: &[RData]) -> RrSet {
        RrSet { owner: owner.clone(), rtype, ttl_s: TTL_S, data: data.to_vec() }
    }

    /// In canonical order the names below a name follow it at once.
    fn has_names_below(&self, name: &Name) -> bool {
        self.after(name).is_some_and(|next| name.zone_of(next))
    }

    fn after(&self, name: &Name) -> Option<&Name> {
        self.records.range((Bound::Excluded(name.clone()), Bound::Unbounded)).next().map(|(owner, _)| owner)
    }

    fn closest_encloser(&self, name: &Name) -> Name {
        let mut encloser = name.base_name();
        while encloser != self.origin && !self.records.contains_key(&encloser) && !self.has_names_below(&encloser) {
            encloser = encloser.base_name();
        }
        encloser
    }

    fn dname_above(&self, name: &Name) -> io::Result<Option<Found>> {
        let mut above = name.base_name();
        while self.origin.zone_of(&above) {
            if let Some(data) = self.records.get(&above).and_then(|types| types.get(&RecordType::DNAME))
                && let Some(target) = data.first().and_then(dname_target)
            {
                let kept = usize::from(name.num_labels().saturating_sub(above.num_labels()));
                let prefix = Name::from_labels(name.iter().take(kept)).map_err(bad)?;
                let new = prefix.append_domain(&target).map_err(bad)?;
                return Ok(Some(Found::Dname(self.set(&above, RecordType::DNAME, data), new)));
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
    pub fn soa(&self) -> Option<RrSet> {
        let data = self.records.get(&self.origin)?.get(&RecordType::SOA)?;
        Some(RrSet { ttl_s: NEGATIVE_TTL_S, ..self.set(&self.origin, RecordType::SOA, data) })
    }

    /// The NSEC record that matches `name`, or else covers it (RFC 4034 §4).
    #[must_use]
    pub fn nsec(&self, name: &Name) -> Option<RrSet> {
        let (owner, types) = self.records.range(..=name.clone()).next_back()?;
        let next = self.after(owner).unwrap_or(&self.origin).clone();
        let nsec = NSEC::new_cover_self(next, types.keys().copied());
        let data = vec![RData::DNSSEC(DNSSECRData::NSEC(nsec))];
        Some(RrSet { owner: owner.clone(), rtype: RecordType::NSEC, ttl_s: NEGATIVE_TTL_S, data })
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
