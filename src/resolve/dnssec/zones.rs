//! What is proven about zone cuts, kept between look-ups (RFC 4035 §4.7, §5.3.3).
//!
//! Only what a chain from the anchors proves comes in here, over whole sets, and only with a
//! verdict that stands: a look-up that failed leaves nothing behind. So it may be shared between
//! all paths to the DNS, and each path may still put it aside (see the rule in `mod.rs`). Nothing
//! outlives its TTL or its signature. Two generations bound the
//! memory: when the young one is full it becomes the old one, and what is used moves back.

use super::Reason;
use super::signature::ZoneKeys;
use crate::clock::Timestamp;
use hickory_proto::dnssec::PublicKey as _;
use hickory_proto::dnssec::rdata::DNSKEY;
use hickory_proto::rr::Name;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What is proven about a name, seen from the zone above it.
#[derive(Clone, Debug)]
pub(super) enum Cut {
    /// A signed zone begins here.
    Secure(Arc<ZoneKeys>),
    /// From here on nothing is signed, or nothing that we can check.
    Insecure(Arc<Reason>),
    /// The name belongs to the zone above; a zone may begin further down.
    Inside,
    /// The name does not exist in the zone above, so no zone begins at it or below it.
    Nothing,
}

/// A verdict and its life.
#[derive(Clone, Debug)]
pub(super) struct CutVerdict {
    pub(super) cut: Cut,
    /// The end of the TTLs and signatures it rests on.
    pub(super) until: Timestamp,
}

/// Zones whose keys are validated, names that are proven insecure or no zone cut.
/// It belongs to one set of trust anchors. Look-ups share it: it is locked for as long as one
/// verdict is read or kept, never while a signature is checked.
#[derive(Debug)]
pub struct Zones {
    generations: Mutex<Generations>,
    half: usize,
}

#[derive(Debug, Default)]
struct Generations {
    young: BTreeMap<Name, CutVerdict>,
    /// The memory of the young ones.
    octets: usize,
    old: BTreeMap<Name, CutVerdict>,
}

/// The memory of a name and what is known of it, its keys apart.
const NAME_OCTETS: usize = 512;
/// The memory that names take on average before they take the place of others: keys of ordinary
/// zones fit, while the largest key sets, of which anybody can publish any number, have 32 KiB.
const AVERAGE_OCTETS: usize = 2048;

impl CutVerdict {
    fn octets(&self) -> usize {
        match &self.cut {
            Cut::Secure(keys) => {
                let each = |(_tag, key): &(u16, DNSKEY)| size_of::<DNSKEY>() + key.public_key().public_bytes().len();
                NAME_OCTETS + keys.keys.iter().map(each).sum::<usize>()
            }
            Cut::Insecure(_) | Cut::Inside | Cut::Nothing => NAME_OCTETS,
        }
    }
}

impl Zones {
    /// Room for `capacity` names, or fewer where they take more than 2 KiB each.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { generations: Mutex::default(), half: capacity.div_ceil(2) }
    }

    /// The names that are known at the moment, expired ones included.
    #[must_use]
    pub fn len(&self) -> usize {
        let generations = self.generations();
        generations.young.len() + generations.old.len()
    }

    /// Whether nothing is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(super) fn get(&self, name: &Name, now: Timestamp) -> Option<CutVerdict> {
        let mut generations = self.generations();
        if let Some(known) = generations.young.get(name) {
            return (now < known.until).then(|| known.clone());
        }
        let known = generations.old.remove(name).filter(|known| now < known.until)?;
        generations.insert(name.clone(), known.clone(), self.half);
        Some(known)
    }

    pub(super) fn insert(&self, name: Name, known: CutVerdict) {
        self.generations().insert(name, known, self.half);
    }

    /// A map is whole after every change, also when a thread died near it.
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, name: Name, known: CutVerdict, half: usize) {
        if half == 0 {
            return;
        }
        let is_full = self.young.len() >= half || self.octets >= half * AVERAGE_OCTETS;
        if is_full && !self.young.contains_key(&name) {
            self.old = std::mem::take(&mut self.young);
            self.octets = 0;
        }
        self.old.remove(&name);
        self.octets += known.octets();
        self.octets -= self.young.insert(name, known).map_or(0, |replaced| replaced.octets());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::dnssec::{Algorithm, PublicKeyBuf};

    fn inside(until: i64) -> CutVerdict {
        CutVerdict { cut: Cut::Inside, until: Timestamp(until) }
    }

    fn name(number: usize) -> Name {
        Name::from_ascii(format!("n{number}.test.")).unwrap()
    }

    #[test]
    fn zones_are_bounded_and_keep_what_is_used() {
        let zones = Zones::new(10);
        for number in 0..1000 {
            zones.insert(name(number), inside(100));
            assert!(zones.get(&name(0), Timestamp(1)).is_some(), "used every time");
            assert!(zones.len() <= 10);
        }
        assert!(zones.get(&name(500), Timestamp(1)).is_none());
    }

    #[test]
    fn rfc4035_5_3_3_a_verdict_does_not_outlive_its_end() {
        let zones = Zones::new(10);
        zones.insert(name(1), inside(100));
        assert!(zones.get(&name(1), Timestamp(99)).is_some());
        assert!(zones.get(&name(1), Timestamp(100)).is_none());
    }

    #[test]
    fn zones_with_huge_keys_take_the_places_of_many() {
        let key = PublicKeyBuf::new(vec![7; 8192], Algorithm::RSASHA256);
        let keys = vec![(1, DNSKEY::new(true, true, false, key))];
        let known = |number| {
            let zone = ZoneKeys { zone: name(number), keys: keys.clone(), signed_until: Timestamp(100) };
            CutVerdict { cut: Cut::Secure(Arc::new(zone)), ..inside(100) }
        };
        let zones = Zones::new(100);
        (0..1000).for_each(|number| zones.insert(name(number), known(number)));
        // Each is as much as four ordinary ones, and the young and the old ones are half of them each.
        assert!((10..=25).contains(&zones.len()), "{}", zones.len());
        (0..10).for_each(|_again| zones.insert(name(999), known(999)));
        assert!(zones.get(&name(990), Timestamp(1)).is_some(), "what is learned again takes no more room");
    }
}
