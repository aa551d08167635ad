//! Denial by NSEC3 (RFC 5155 §8, RFC 6840 §4, RFC 9276 §3.2).
//!
//! The records that come in here are authenticated and of one zone. A proof counts when it is
//! whole, whatever the zone's iterations; beyond [`ITERATIONS_LIMIT`] it is not secure. A single
//! signed record with many iterations proves nothing, or whoever may drop an answer could make
//! any name of such a zone unsigned. What would cost more than a look-up may is not found out. An
//! opt-out range leaves room for an unsigned delegation, so what it denies is not proven absent;
//! what exists with signed data has a record of its own and is never in such a range
//! (RFC 5155 §7.1). So the closest encloser and such a range are all it takes to leave open what is
//! there, and all that some servers have to say of a name that only unsigned delegations lie below.
//! Whoever uses the pair on the path gains nothing: it also proves that an unsigned zone may be there.

use super::message::depth;
use super::question::{DenialQuestion, Denied, ITERATIONS_LIMIT, ProvenDenial, Why, denies_at, star};
use super::work::{Spent, WorkBudget};
use data_encoding::BASE32_DNSSEC;
use hickory_proto::dnssec::rdata::NSEC3;
use hickory_proto::rr::Name;
use std::collections::BTreeMap;

/// Bytes of a SHA-1 hash.
const HASH_BYTES: usize = 20;

/// One authenticated NSEC3 record.
#[derive(Clone, Debug)]
pub(super) struct Nsec3<'a> {
    hash: Vec<u8>,
    data: &'a NSEC3,
}

impl<'a> Nsec3<'a> {
    /// The record, when its owner is a hash right below the apex (RFC 5155 §3).
    pub(super) fn new(owner: &Name, data: &'a NSEC3, zone: &Name) -> Option<Self> {
        if depth(owner) != depth(zone) + 1 || data.next_hashed_owner_name().len() != HASH_BYTES {
            return None;
        }
        Some(Self { hash: base32hex(owner.iter().next()?)?, data })
    }

    /// Whether both are of one chain.
    pub(super) fn is_of_chain(&self, other: &Self) -> bool {
        (self.data.salt(), self.data.iterations()) == (other.data.salt(), other.data.iterations())
    }

    fn covers(&self, hash: &[u8]) -> bool {
        let (owner, next) = (self.hash.as_slice(), self.data.next_hashed_owner_name());
        if owner < next { owner < hash && hash < next } else { owner < hash || hash < next }
    }
}

/// The records of one chain: same salt, same iterations (RFC 5155 §8.2).
struct Nsec3Chain<'a, 'r> {
    records: Vec<&'r Nsec3<'a>>,
    first: &'r Nsec3<'a>,
}

/// What the records prove about the question, if anything.
///
/// # Errors
/// [`Spent`] when the hashes would cost more than a look-up may.
pub(super) fn deny(
    records: &[Nsec3<'_>],
    question: &DenialQuestion<'_>,
    budget: &mut WorkBudget,
) -> Result<Option<ProvenDenial>, Spent> {
    for chain in chains(records) {
        if let Some(what) = chain.deny(question, budget)? {
            return Ok(Some(ProvenDenial { what, open: chain.too_costly() }));
        }
    }
    Ok(None)
}

/// Whether the name right below `encloser` on the way to the name asked does not exist, so that
/// the wildcard at `encloser` may stand for it (RFC 5155 §8.8); where that is not secure, why.
///
/// # Errors
/// [`Spent`] when the hashes would cost more than a look-up may.
pub(super) fn allows_wildcard(
    records: &[Nsec3<'_>],
    question: &DenialQuestion<'_>,
    encloser: &Name,
    budget: &mut WorkBudget,
) -> Result<Option<Option<Why>>, Spent> {
    let next_closer = question.name.trim_to(depth(encloser) + 1);
    for chain in chains(records) {
        let hash = chain.hash(&next_closer, budget)?;
        if let Some(range) = chain.range_of(&hash) {
            return Ok(Some(if range.data.opt_out() { Some(Why::OptOut) } else { chain.too_costly() }));
        }
    }
    Ok(None)
}

/// A zone that changes its salt has two chains for a while, and a proof is of one of them: the
/// one with the fewest iterations is tried first.
fn chains<'a, 'r>(records: &'r [Nsec3<'a>]) -> impl Iterator<Item = Nsec3Chain<'a, 'r>> {
    let mut chains: BTreeMap<(u16, &[u8]), Vec<&'r Nsec3<'a>>> = BTreeMap::new();
    for record in records {
        chains.entry((record.data.iterations(), record.data.salt())).or_default().push(record);
    }
    chains.into_values().filter_map(|records| Some(Nsec3Chain { first: *records.first()?, records }))
}

impl<'a, 'r> Nsec3Chain<'a, 'r> {
    fn too_costly(&self) -> Option<Why> {
        (self.first.data.iterations() > ITERATIONS_LIMIT).then_some(Why::Iterations)
    }

    fn deny(&self, question: &DenialQuestion<'_>, budget: &mut WorkBudget) -> Result<Option<Denied>, Spent> {
        let hash = self.hash(question.name, budget)?;
        if let Some(here) = self.at(&hash) {
            return Ok(denies_at(here.data.type_set(), question, question.name));
        }
        let Some((encloser, range)) = self.closest_encloser(question, hash, budget)? else { return Ok(None) };
        if range.data.opt_out() && question.is_ds() {
            // RFC 5155 §8.6: perhaps an unsigned delegation.
            return Ok(Some(Denied::OptOut));
        }
        let Some(star) = star(&encloser) else { return Ok(None) };
        let hash = self.hash(&star, budget)?;
        let denied = match self.at(&hash) {
            Some(wildcard) => denies_at(wildcard.data.type_set(), question, &star).filter(Denied::is_no_data),
            // What a wildcard has makes no difference then: nothing signed is at the name, and all else is open.
            None if range.data.opt_out() => Some(Denied::OptOut),
            None => self.range_of(&hash).map(|_| Denied::NoName),
        };
        // RFC 5155 §9.2: with opt-out the closest encloser proof is not a whole one.
        Ok(denied.map(|denied| if range.data.opt_out() { Denied::OptOut } else { denied }))
    }

    fn hash(&self, name: &Name, budget: &mut WorkBudget) -> Result<Vec<u8>, Spent> {
        let (salt, iterations) = (self.first.data.salt(), self.first.data.iterations());
        budget.hash(iterations, salt)?;
        let hashed = self.first.data.hash_algorithm().hash(salt, &name.to_lowercase(), iterations);
        Ok(hashed.map_err(|_| Spent)?.as_ref().to_vec())
    }

    fn at(&self, hash: &[u8]) -> Option<&'r Nsec3<'a>> {
        self.records.iter().copied().find(|r| r.hash == hash)
    }

    fn range_of(&self, hash: &[u8]) -> Option<&'r Nsec3<'a>> {
        self.records.iter().copied().find(|r| r.covers(hash))
    }

    /// RFC 5155 §8.3: the deepest name above the one asked that exists, and the range in which
    /// the next closer name would be. `hash` is the hash of the name asked.
    fn closest_encloser(
        &self,
        question: &DenialQuestion<'_>,
        hash: Vec<u8>,
        budget: &mut WorkBudget,
    ) -> Result<Option<(Name, &'r Nsec3<'a>)>, Spent> {
        let mut next_closer = hash;
        let mut labels = depth(question.name);
        while labels > depth(question.zone) {
            labels -= 1;
            let name = question.name.trim_to(labels);
            let hash = self.hash(&name, budget)?;
            if let Some(encloser) = self.at(&hash) {
                // A delegation or a DNAME denies nothing below it (RFC 5155 §8.3, RFC 6840 §4.1).
                let range = self.range_of(&next_closer).filter(|_| !encloser.data.is_ancestor_delegation());
                return Ok(range.map(|range| (name, range)));
            }
            next_closer = hash;
        }
        Ok(None)
    }
}

/// The hash in the owner of an NSEC3 record: RFC 4648 §7 without padding, in letters of either case
/// (RFC 5155 §3.3); only whole SHA-1 hashes.
fn base32hex(label: &[u8]) -> Option<Vec<u8>> {
    BASE32_DNSSEC.decode(label).ok().filter(|hash| hash.len() == HASH_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::dnssec::Nsec3HashAlgorithm;

    /// RFC 5155 Appendix A: salt aabbccdd, 12 iterations.
    #[test]
    fn rfc5155_appendix_a_hashes_and_their_spelling_agree() {
        for (name, label) in [
            ("example.", "0p9mhaveqvm6t7vbl5lop2u3t2rp3tom"),
            ("a.example.", "35mthgpgcu1qg68fab165klnsnk3dpvl"),
            ("*.w.example.", "r53bq7cc2uvmubfu5ocmm6pers9tk9en"),
        ] {
            let name = Name::from_ascii(name).unwrap();
            let hash = Nsec3HashAlgorithm::SHA1.hash(&[0xaa, 0xbb, 0xcc, 0xdd], &name, 12).unwrap();
            assert_eq!(base32hex(label.as_bytes()).unwrap(), hash.as_ref());
            assert_eq!(base32hex(label.to_uppercase().as_bytes()).unwrap(), hash.as_ref());
        }
        assert_eq!(base32hex(b"0p9mhaveqvm6t7vbl5lop2u3t2rp3tow"), None);
        assert_eq!(base32hex(b"0p9m"), None);
    }
}
