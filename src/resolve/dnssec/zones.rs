//! What is proven about zone cuts, kept between look-ups (RFC 4035 §4.7, §5.3.3).
//!
//! Only verdicts that a chain from the anchors proves come in here, so they may be shared between
//! all paths to the DNS; nothing outlives its TTL or its signature. Two generations bound the
//! memory: when the young one is full it becomes the old one, and what is used moves back.

use super::Reason;
use super::signature::ZoneKeys;
use crate::clock::Timestamp;
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
pub(super) struct Known {
    pub(super) cut: Cut,
    /// The end of the TTLs and signatures it rests on.
    pub(super) until: Timestamp,
    /// The end of the signatures alone.
    pub(super) signed_until: Timestamp,
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
    young: BTreeMap<Name, Known>,
    old: BTreeMap<Name, Known>,
}

impl Zones {
    /// Room for `capacity` names; about 1 KiB each.
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

    pub(super) fn get(&self, name: &Name, now: Timestamp) -> Option<Known> {
        let mut generations = self.generations();
        if let Some(known) = generations.young.get(name) {
            return (now < known.until).then(|| known.clone());
        }
        let known = generations.old.remove(name).filter(|known| now < known.until)?;
        generations.insert(name.clone(), known.clone(), self.half);
        Some(known)
    }

    pub(super) fn insert(&self, name: Name, known: Known) {
        self.generations().insert(name, known, self.half);
    }

    /// A map is whole after every change, also when a thread died near it.
    fn generations(&self) -> MutexGuard<'_, Generations> {
        self.generations.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    fn insert(&mut self, name: Name, known: Known, half: usize) {
        if half == 0 {
            return;
        }
        if self.young.len() >= half && !self.young.contains_key(&name) {
            self.old = std::mem::take(&mut self.young);
        }
        self.old.remove(&name);
        self.young.insert(name, known);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn inside(until: i64) -> Known {
        Known { cut: Cut::Inside, until: Timestamp(until), signed_until: Timestamp(until) }
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
}
