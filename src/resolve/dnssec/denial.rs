//! That something does not exist: the proof, whoever claims it (RFC 4035 §5.4, RFC 5155 §8).
//!
//! Only NSEC and NSEC3 records count that the zone itself signed, for exactly the name they are
//! under: one made from a wildcard would deny names at will (CVE-2017-15105). The records decide,
//! not the response code, and not their order: all that the zone signed are read, and what bounds
//! them is the work of checking their signatures. A proof is whole or it is none; that a zone
//! denies in a way we need not believe makes a whole proof insecure and never an incomplete one
//! good.

use super::message::{RrSet, sets_of_type};
use super::nsec::Nsec;
use super::nsec3::Nsec3;
use super::question::{DenialQuestion, ProvenDenial, Why};
use super::signature::{Signed, VerifyError, ZoneKeys, verify};
use super::work::{Spent, WorkBudget};
use super::{Reason, nsec, nsec3};
use crate::clock::Timestamp;
use hickory_proto::dnssec::rdata::DNSSECRData;
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// The authenticated records of a denial.
pub(super) struct DenialRecords<'a> {
    nsec: Vec<Nsec<'a>>,
    nsec3: Vec<Nsec3<'a>>,
    /// Why others were not taken.
    fault: Option<VerifyError>,
    /// The end of the TTLs and signatures.
    pub(super) until: Timestamp,
}

impl<'a> DenialRecords<'a> {
    /// Reads the authority section, and believes what `zone` signed.
    pub(super) fn read(authorities: &'a [Record], zone: &ZoneKeys, now: Timestamp, budget: &mut WorkBudget) -> Self {
        let mut evidence = Self { nsec: Vec::new(), nsec3: Vec::new(), fault: None, until: Timestamp(i64::MAX) };
        for rtype in [RecordType::NSEC, RecordType::NSEC3] {
            for set in sets_of_type(authorities, rtype) {
                // Records of another zone are none of our business, here.
                if set.signatures.iter().any(|s| s.input().signer_name == zone.zone) {
                    evidence.take(&set, zone, verify(&set, zone, now, budget));
                }
            }
        }
        evidence
    }

    fn take(&mut self, set: &RrSet<'a>, zone: &ZoneKeys, verified: Result<Signed, VerifyError>) {
        let signed = match verified {
            Ok(signed) => signed,
            Err(fault) => {
                self.fault.get_or_insert(fault);
                return;
            }
        };
        if signed.labels != set.owner.num_labels() {
            let said = format!("the {} record is made from a wildcard", set.rtype);
            self.fault.get_or_insert_with(|| VerifyError::Bogus(Reason::new("RFC 4035 §5.3.4", set.owner, said)));
            return;
        }
        self.until = self.until.min(signed.until);
        let nsec = |r: &&'a Record| {
            let RData::DNSSEC(DNSSECRData::NSEC(data)) = &r.data else { return None };
            Some(Nsec { owner: set.owner, data })
        };
        let nsec3 = |r: &&'a Record| {
            let RData::DNSSEC(DNSSECRData::NSEC3(data)) = &r.data else { return None };
            Nsec3::new(set.owner, data, &zone.zone)
        };
        // A name has one NSEC record, and one NSEC3 record in each chain. Were there more, which
        // of them counts would be for the order of the message to say.
        self.nsec.extend(only(set.records.iter().filter_map(nsec)));
        let of_chain: Vec<Nsec3<'_>> = set.records.iter().filter_map(nsec3).collect();
        let is_alone = |r: &&Nsec3<'_>| of_chain.iter().filter(|other| r.is_of_chain(other)).count() == 1;
        self.nsec3.extend(of_chain.iter().filter(is_alone).cloned());
    }

    /// What the zone proves about the question.
    ///
    /// # Errors
    /// [`VerifyError`] when it proves nothing.
    pub(super) fn deny(
        &self,
        question: &DenialQuestion<'_>,
        budget: &mut WorkBudget,
    ) -> Result<ProvenDenial, VerifyError> {
        if let Some(what) = nsec::deny(&self.nsec, question) {
            return Ok(ProvenDenial { what, open: None });
        }
        let denied =
            nsec3::deny(&self.nsec3, question, budget).map_err(|Spent| VerifyError::Spent(question.name.clone()))?;
        denied.ok_or_else(|| self.unproven(question))
    }

    /// Whether the zone proves that the wildcard at `encloser` stands for the name; where that is
    /// not secure, why.
    ///
    /// # Errors
    /// [`VerifyError`] when it does not prove it.
    pub(super) fn wildcard(
        &self,
        question: &DenialQuestion<'_>,
        encloser: &Name,
        budget: &mut WorkBudget,
    ) -> Result<Option<Why>, VerifyError> {
        if nsec::allows_wildcard(&self.nsec, question, encloser) {
            return Ok(None);
        }
        let allowed = nsec3::allows_wildcard(&self.nsec3, question, encloser, budget)
            .map_err(|Spent| VerifyError::Spent(question.name.clone()))?;
        allowed.ok_or_else(|| self.unproven(question))
    }

    fn unproven(&self, question: &DenialQuestion<'_>) -> VerifyError {
        if let Some(fault) = &self.fault {
            return fault.clone();
        }
        let said = if self.nsec.is_empty() && self.nsec3.is_empty() {
            format!("no signed proof that there are no {} records", question.rtype)
        } else {
            format!("the proof does not show that there are no {} records", question.rtype)
        };
        VerifyError::Bogus(Reason::new("RFC 4035 §5.4", question.name, said))
    }
}

/// The one item, when there is one and no other.
fn only<T>(mut items: impl Iterator<Item = T>) -> Option<T> {
    let first = items.next()?;
    items.next().is_none().then_some(first)
}
