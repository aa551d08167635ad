//! That something does not exist: the proof, whoever claims it (RFC 4035 §5.4, RFC 5155 §8).
//!
//! Only NSEC and NSEC3 records count that the zone itself signed, for exactly the name they are
//! under: one made from a wildcard would deny names at will (CVE-2017-15105). The records decide,
//! not the response code.

use super::message::{RrSet, sets_of_type};
use super::nsec::Nsec;
use super::nsec3::Nsec3;
use super::signature::{Fault, Signed, ZoneKeys, verify};
use super::work::{Budget, Spent};
use super::{Reason, nsec, nsec3};
use crate::clock::Timestamp;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{Name, RData, Record, RecordType, RecordTypeSet};

/// NSEC or NSEC3 records of one message that are looked at. A denial needs three, each alias
/// made from a wildcard one more.
const RECORDS_LIMIT: usize = 12;
/// The type by which compact denial says "no such name" (RFC 9824 §3.1).
const NXNAME: u16 = 128;

/// What is to be denied, and by which zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question<'a> {
    pub(super) name: &'a Name,
    pub(super) rtype: RecordType,
    pub(super) zone: &'a Name,
}

impl Question<'_> {
    pub(super) fn is_ds(&self) -> bool {
        self.rtype == RecordType::DS
    }
}

/// What is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The name exists, or a wildcard stands for it; it has no such records.
    NoData,
    /// The name does not exist.
    NoName,
    /// Asked for DS: a delegation without one.
    UnsignedCut,
    /// The zone's own choice leaves it open.
    Unprovable(Why),
}

impl Denied {
    pub(super) fn is_no_data(&self) -> bool {
        *self == Self::NoData
    }
}

/// Why a zone cannot prove.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The name lies in an opt-out range.
    OptOut,
    /// More NSEC3 iterations than we compute.
    Iterations,
}

impl Why {
    pub(super) fn reason(self, name: &Name) -> Reason {
        match self {
            Self::OptOut => {
                Reason::new("RFC 5155 §9.2", name, "the zone leaves open what exists here (opt-out)".into())
            }
            Self::Iterations => {
                let limit = nsec3::ITERATIONS_LIMIT;
                Reason::new("RFC 9276 §3.2", name, format!("the zone's denials take more than {limit} iterations"))
            }
        }
    }
}

/// The authenticated records of a denial.
pub(super) struct Evidence<'a> {
    nsec: Vec<Nsec<'a>>,
    nsec3: Vec<Nsec3<'a>>,
    /// Why others were not taken.
    fault: Option<Fault>,
    /// The end of the TTLs and signatures.
    pub(super) until: Timestamp,
    /// The end of the signatures.
    pub(super) signed_until: Timestamp,
}

impl<'a> Evidence<'a> {
    /// Reads the authority section, and believes what `zone` signed.
    pub(super) fn read(authorities: &'a [Record], zone: &ZoneKeys, now: Timestamp, budget: &mut Budget) -> Self {
        let mut evidence = Self {
            nsec: Vec::new(),
            nsec3: Vec::new(),
            fault: None,
            until: Timestamp(i64::MAX),
            signed_until: Timestamp(i64::MAX),
        };
        for rtype in [RecordType::NSEC, RecordType::NSEC3] {
            for set in sets_of_type(authorities, rtype, RECORDS_LIMIT) {
                // Records of another zone are none of our business, here.
                if set.signatures.iter().any(|s| s.input().signer_name == zone.zone) {
                    evidence.take(&set, zone, verify(&set, zone, now, budget));
                }
            }
        }
        evidence
    }

    fn take(&mut self, set: &RrSet<'a>, zone: &ZoneKeys, verified: Result<Signed, Fault>) {
        let signed = match verified {
            Ok(signed) => signed,
            Err(fault) => {
                self.fault.get_or_insert(fault);
                return;
            }
        };
        if signed.labels != set.owner.num_labels() {
            let said = format!("the {} record is made from a wildcard", set.rtype);
            self.fault.get_or_insert_with(|| Fault::Bogus(Reason::new("RFC 4035 §5.3.4", set.owner, said)));
            return;
        }
        self.until = self.until.min(signed.until);
        self.signed_until = self.signed_until.min(signed.signed_until);
        // A second record under the same name would be a fault of the zone; the first counts.
        if let Some(RData::DNSSEC(data)) = set.records.first().map(|r| &r.data) {
            if let DNSSECRData::NSEC(data) = data {
                self.nsec.push(Nsec { owner: set.owner, data });
            } else if let DNSSECRData::NSEC3(data) = data {
                self.nsec3.extend(Nsec3::new(set.owner, data, &zone.zone));
            }
        }
    }

    /// What the zone proves about the question.
    ///
    /// # Errors
    /// [`Fault`] when it proves nothing.
    pub(super) fn deny(&self, question: &Question<'_>, budget: &mut Budget) -> Result<Denied, Fault> {
        if let Some(denied) = nsec::deny(&self.nsec, question) {
            return Ok(denied);
        }
        let denied = nsec3::deny(&self.nsec3, question, budget).map_err(|Spent| Fault::Spent(question.name.clone()))?;
        denied.ok_or_else(|| self.unproven(question))
    }

    /// Whether the zone proves that the wildcard at `encloser` stands for the name; where it
    /// leaves that open, why.
    ///
    /// # Errors
    /// [`Fault`] when it does not prove it.
    pub(super) fn wildcard(
        &self,
        question: &Question<'_>,
        encloser: &Name,
        budget: &mut Budget,
    ) -> Result<Option<Why>, Fault> {
        if nsec::allows_wildcard(&self.nsec, question, encloser) {
            return Ok(None);
        }
        let allowed = nsec3::allows_wildcard(&self.nsec3, question, encloser, budget)
            .map_err(|Spent| Fault::Spent(question.name.clone()))?;
        allowed.ok_or_else(|| self.unproven(question))
    }

    fn unproven(&self, question: &Question<'_>) -> Fault {
        if let Some(fault) = &self.fault {
            return fault.clone();
        }
        let said = if self.nsec.is_empty() && self.nsec3.is_empty() {
            format!("no signed proof that there are no {} records", question.rtype)
        } else {
            format!("the proof does not show that there are no {} records", question.rtype)
        };
        Fault::Bogus(Reason::new("RFC 4035 §5.4", question.name, said))
    }
}

/// What the types listed at a name say about the question. `at` is the name asked, or the
/// wildcard that stands for it.
pub(super) fn denies_at(types: &RecordTypeSet, question: &Question<'_>, at: &Name) -> Option<Denied> {
    let (cut, apex) = (types.contains(RecordType::NS), types.contains(RecordType::SOA));
    // RFC 6840 §4.3: where there is a CNAME the answer would have been the CNAME.
    if types.contains(question.rtype) || types.contains(RecordType::CNAME) {
        return None;
    }
    if types.contains(RecordType::from(NXNAME)) {
        return Some(Denied::NoName);
    }
    if !question.is_ds() {
        // RFC 6840 §4.4: the parent's side of a cut denies nothing but DS.
        return (!cut || apex).then_some(Denied::NoData);
    }
    // RFC 4035 §5.2, RFC 5155 §8.6: the child's side of a cut does not deny DS.
    match (cut, apex) {
        (_, true) if !at.is_root() => None,
        (true, false) if *at == *question.name => Some(Denied::UnsignedCut),
        (true, false) => None,
        (false | true, _) => Some(Denied::NoData),
    }
}

/// The wildcard right below a name.
pub(super) fn star(encloser: &Name) -> Option<Name> {
    encloser.prepend_label("*").ok()
}
