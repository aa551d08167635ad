//! The proofs that something is not there: NSEC, NSEC3 and compact denial
//! (RFC 4035 §3.1.3, RFC 5155 §7.2, RFC 9824 §3).
//!
//! A zone proves what is true of it and no more. The proofs come as plain record sets in the
//! order of the RFC; whoever sends them has them signed, and may leave one out.

use super::plan::{Denial, OptOut};
use super::rrset::ZoneRrSet;
use super::zone::{NEGATIVE_TTL_S, Nsec3Hashes, Zone};
use crate::lab::bad;
use data_encoding::BASE32_DNSSEC;
use hickory_proto::dnssec::Nsec3HashAlgorithm;
use hickory_proto::dnssec::rdata::{DNSSECRData, NSEC, NSEC3};
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::BTreeSet;
use std::io;

/// The type that says in a compact denial that the name does not exist (RFC 9824 §3.2).
const NXNAME: RecordType = RecordType::Unknown(128);

/// What is denied.
#[derive(Clone, Copy, Debug)]
pub enum Absence<'a> {
    /// The name exists and has no records of the type.
    NoData(&'a Name),
    /// The name does not exist, but the wildcard below its closest encloser answers for it.
    Expanded(&'a Name, &'a Name),
    /// As before, and the wildcard has no records of the type.
    NoWildcardData(&'a Name, &'a Name),
    /// The name does not exist, and no wildcard below its closest encloser.
    NoName(&'a Name, &'a Name),
}

impl Zone {
    /// The records that prove what is denied; none when the zone is not signed.
    ///
    /// # Errors
    /// When a name cannot be encoded.
    pub fn proofs(&self, denied: Absence<'_>) -> io::Result<Vec<ZoneRrSet>> {
        if self.keys().is_empty() {
            return Ok(Vec::new());
        }
        let proofs = match &self.denial {
            Denial::Nsec => self.nsec_proofs(denied)?,
            Denial::Nsec3 { .. } => self.nsec3_proofs(denied)?,
            Denial::Compact => self.compact_proofs(denied)?,
        };
        // One record may prove two things; it is sent once.
        let mut seen = BTreeSet::new();
        Ok(proofs.into_iter().filter(|proof| seen.insert(proof.owner.clone())).collect())
    }

    /// The NSEC or NSEC3 record that matches `name`, or else covers it; in a zone with compact
    /// denial the one made for the name.
    ///
    /// # Errors
    /// When the name cannot be encoded.
    pub fn proof_for(&self, name: &Name) -> io::Result<ZoneRrSet> {
        match &self.denial {
            Denial::Nsec => self.nsec(name),
            Denial::Nsec3 { .. } => self.nsec3(name),
            Denial::Compact => self.compact(name, self.types(name)),
        }
    }

    /// The whole chain; empty when the zone is not signed, or denies compactly.
    ///
    /// # Errors
    /// When a name cannot be encoded.
    pub fn all_proofs(&self) -> io::Result<Vec<ZoneRrSet>> {
        match &self.denial {
            Denial::Nsec if !self.keys().is_empty() => self.records.keys().map(|name| self.nsec(name)).collect(),
            Denial::Nsec3 { .. } if !self.keys().is_empty() => {
                self.chain()?.keys().map(|hash| self.nsec3_at(hash)).collect()
            }
            Denial::Nsec | Denial::Nsec3 { .. } | Denial::Compact => Ok(Vec::new()),
        }
    }

    fn nsec_proofs(&self, denied: Absence<'_>) -> io::Result<Vec<ZoneRrSet>> {
        match denied {
            Absence::NoData(name) | Absence::Expanded(name, _) => Ok(vec![self.nsec(name)?]),
            // RFC 4035 §3.1.3.2 and §3.1.3.4: the name does not exist, and the wildcard either
            // does not exist or has no such type.
            Absence::NoWildcardData(name, encloser) | Absence::NoName(name, encloser) => {
                Ok(vec![self.nsec(name)?, self.nsec(&star(encloser)?)?])
            }
        }
    }

    fn nsec(&self, name: &Name) -> io::Result<ZoneRrSet> {
        let found = self.records.range(..=name.clone()).next_back();
        let (owner, types) = found.ok_or_else(|| bad("the name is not in the zone"))?;
        let next = self.after(owner).unwrap_or(&self.origin).clone();
        Ok(proof(owner.clone(), DNSSECRData::NSEC(NSEC::new_cover_self(next, types.keys().copied()))))
    }

    /// RFC 9824 §3: the name itself, next to the first name that can follow it.
    fn compact_proofs(&self, denied: Absence<'_>) -> io::Result<Vec<ZoneRrSet>> {
        match denied {
            Absence::NoData(name) => Ok(vec![self.compact(name, self.types(name))?]),
            Absence::NoWildcardData(name, encloser) => Ok(vec![self.compact(name, self.types(&star(encloser)?))?]),
            Absence::NoName(name, _) => Ok(vec![self.compact(name, vec![NXNAME])?]),
            // The answer is signed for the name asked, as if it existed.
            Absence::Expanded(..) => Ok(Vec::new()),
        }
    }

    fn compact(&self, name: &Name, types: Vec<RecordType>) -> io::Result<ZoneRrSet> {
        let next = name.prepend_label([0_u8].as_slice()).map_err(bad)?;
        Ok(proof(name.clone(), DNSSECRData::NSEC(NSEC::new_cover_self(next, types))))
    }

    fn types(&self, name: &Name) -> Vec<RecordType> {
        self.records.get(name).map(|types| types.keys().copied().collect()).unwrap_or_default()
    }

    /// RFC 5155 §7.2: the closest encloser exists, the next closer name does not, and the wildcard
    /// below the closest encloser is as it is.
    fn nsec3_proofs(&self, denied: Absence<'_>) -> io::Result<Vec<ZoneRrSet>> {
        Ok(match denied {
            Absence::NoData(name) if self.in_chain(name)? => vec![self.nsec3(name)?],
            // §7.2.4: an unsigned delegation that was left out. The flag says that it may be there.
            Absence::NoData(name) => {
                let encloser = self.provable(name)?;
                vec![self.nsec3(&encloser)?, self.nsec3(&next_closer(name, &encloser))?]
            }
            Absence::Expanded(name, encloser) => vec![self.nsec3(&next_closer(name, encloser))?],
            Absence::NoWildcardData(name, encloser) | Absence::NoName(name, encloser) => {
                let encloser = self.provable(encloser)?;
                let next = next_closer(name, &encloser);
                vec![self.nsec3(&encloser)?, self.nsec3(&next)?, self.nsec3(&star(&encloser)?)?]
            }
        })
    }

    fn in_chain(&self, name: &Name) -> io::Result<bool> {
        Ok(self.chain()?.contains_key(&self.hash(name)?))
    }

    /// The nearest name at or above `name` that is in the chain; the apex always is.
    fn provable(&self, name: &Name) -> io::Result<Name> {
        let mut at = name.clone();
        while at != self.origin && !self.in_chain(&at)? {
            at = at.base_name();
        }
        Ok(at)
    }

    fn nsec3(&self, name: &Name) -> io::Result<ZoneRrSet> {
        self.nsec3_at(&self.hash(name)?)
    }

    fn nsec3_at(&self, hash: &[u8]) -> io::Result<ZoneRrSet> {
        let Denial::Nsec3 { salt, iterations, opt_out } = &self.denial else {
            return Err(bad("the zone has no NSEC3 chain"));
        };
        let chain = self.chain()?;
        // The last record closes the ring, and so covers what comes before the first.
        let at = chain.range(..=hash.to_vec()).next_back().or_else(|| chain.last_key_value());
        let (own, types) = at.ok_or_else(|| bad("the NSEC3 chain is empty"))?;
        let after = chain.range::<Vec<u8>, _>((std::ops::Bound::Excluded(own), std::ops::Bound::Unbounded)).next();
        let next = after.or_else(|| chain.first_key_value()).map(|(next, _)| next.clone()).unwrap_or_default();
        let flag = *opt_out == OptOut::Yes;
        let (algorithm, types) = (Nsec3HashAlgorithm::SHA1, types.iter().copied());
        let nsec3 = NSEC3::new(algorithm, flag, *iterations, salt.clone(), next, types);
        let owner = self.origin.prepend_label(BASE32_DNSSEC.encode(own).as_str()).map_err(bad)?;
        Ok(proof(owner, DNSSECRData::NSEC3(nsec3)))
    }

    fn hash(&self, name: &Name) -> io::Result<Vec<u8>> {
        let Denial::Nsec3 { salt, iterations, .. } = &self.denial else {
            return Err(bad("the zone has no NSEC3 chain"));
        };
        Ok(Nsec3HashAlgorithm::SHA1.hash(salt, name, *iterations).map_err(bad)?.as_ref().to_vec())
    }

    fn chain(&self) -> io::Result<&Nsec3Hashes> {
        if self.chain.get().is_none() {
            let _race = self.chain.set(self.build_chain()?);
        }
        self.chain.get().ok_or_else(|| bad("the NSEC3 chain is empty"))
    }

    /// RFC 5155 §7.1: every name with records and every empty non-terminal above one; with
    /// opt-out the unsigned delegations are left out, and what exists only because of them.
    fn build_chain(&self) -> io::Result<Nsec3Hashes> {
        let skips = matches!(self.denial, Denial::Nsec3 { opt_out: OptOut::Yes, .. });
        let mut chain = Nsec3Hashes::new();
        for (owner, types) in &self.records {
            let delegation = *owner != self.origin && types.contains_key(&RecordType::NS);
            let unsigned = delegation && !types.contains_key(&RecordType::DS);
            if unsigned && skips {
                continue;
            }
            let signatures = (!unsigned).then_some(RecordType::RRSIG);
            chain.insert(self.hash(owner)?, types.keys().copied().chain(signatures).collect());
            let mut above = owner.base_name();
            while *owner != self.origin && above != self.origin {
                chain.entry(self.hash(&above)?).or_default();
                above = above.base_name();
            }
        }
        Ok(chain)
    }
}

fn proof(owner: Name, data: DNSSECRData) -> ZoneRrSet {
    let data = RData::DNSSEC(data);
    ZoneRrSet { owner, rtype: data.record_type(), ttl_s: NEGATIVE_TTL_S, data: vec![data] }
}

fn star(encloser: &Name) -> io::Result<Name> {
    encloser.prepend_label("*").map_err(bad)
}

/// RFC 5155 §1.3: one label longer than the closest encloser.
fn next_closer(name: &Name, encloser: &Name) -> Name {
    name.trim_to(encloser.iter().len() + 1)
}
