//! What the store remembers of its files, and policies that no file would take (pure).
//!
//! All of it is bounded in octets. What is on disk may be forgotten at any time and is read
//! again; what the disk refused lives here alone, and there too newcomers compete among
//! themselves before an established domain loses anything (`room.rs`).

use super::lost::Lost;
use super::{StsPolicy, Tenure};
use crate::smtp::address::Domain;
use crate::state_dir::KeptStamp;
use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Octets of all that is remembered.
const OCTETS_LIMIT: usize = 48 * 1_048_576;
/// Octets of those that are nowhere else.
const UNWRITTEN_LIMIT: usize = 8 * 1_048_576;
/// What is above is forgotten first, as it is read again just as quickly.
const LARGE: usize = 8192;
/// What an entry takes beside its texts, roughly.
const OVERHEAD: usize = 400;
/// The same for a pattern.
const PATTERN_OVERHEAD: usize = 64;

/// What is held for a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Held {
    /// No policy.
    Nothing,
    /// This one, expired or not.
    Policy(Arc<StsPolicy>),
    /// One that cannot be looked into.
    Lost(Arc<Lost>),
}

/// A domain as it was read or written last.
#[derive(Clone, Debug)]
pub(super) struct Remembered {
    pub(super) held: Held,
    pub(super) standing: Option<Tenure>,
    /// The file it is from; none when it could not be written.
    pub(super) stamp: Option<KeptStamp>,
}

impl Remembered {
    fn octets(&self) -> usize {
        OVERHEAD
            + match &self.held {
                Held::Nothing | Held::Lost(_) => 0,
                // A pattern is about as long as its line in the text.
                Held::Policy(policy) => 2 * policy.text.len() + policy.terms.mx.len() * PATTERN_OVERHEAD,
            }
    }

    pub(super) fn policy(&self) -> Option<&Arc<StsPolicy>> {
        match &self.held {
            Held::Policy(policy) => Some(policy),
            Held::Nothing | Held::Lost(_) => None,
        }
    }
}

/// The domains that are remembered.
#[derive(Default)]
pub(super) struct PolicyMemory {
    known: BTreeMap<Domain, Remembered>,
    octets: usize,
    unwritten: usize,
}

impl PolicyMemory {
    pub(super) fn get(&self, domain: &Domain) -> Option<&Remembered> {
        self.known.get(domain)
    }

    pub(super) fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.known.keys()
    }

    pub(super) fn remove(&mut self, domain: &Domain) {
        if let Some(known) = self.known.remove(domain) {
            self.octets -= known.octets();
            if known.stamp.is_none() {
                self.unwritten -= known.octets();
            }
        }
    }

    /// Remembers; says whether there was room for one that is nowhere else.
    pub(super) fn insert(&mut self, domain: Domain, known: Remembered) -> bool {
        self.remove(&domain);
        self.octets += known.octets();
        if known.stamp.is_none() {
            self.unwritten += known.octets();
        }
        self.known.insert(domain.clone(), known);
        if self.unwritten > UNWRITTEN_LIMIT {
            self.forget_unwritten();
        }
        if self.octets > OCTETS_LIMIT {
            self.forget_written(&domain);
        }
        self.known.contains_key(&domain)
    }

    /// Newcomers before the established, the largest and then the newest before others.
    fn forget_unwritten(&mut self) {
        let unwritten = self.known.iter().filter(|(_, known)| known.stamp.is_none());
        let mut order: Vec<_> = unwritten
            .map(|(domain, known)| {
                let established = known.standing.is_some_and(|standing| standing.established.is_some());
                (established, Reverse(known.octets() / LARGE), Reverse(known.standing.map(|s| s.since)), domain.clone())
            })
            .collect();
        order.sort_unstable();
        for (_, _, _, domain) in order {
            if self.unwritten <= UNWRITTEN_LIMIT - UNWRITTEN_LIMIT / 16 {
                break;
            }
            self.remove(&domain);
        }
    }

    fn forget_written(&mut self, but: &Domain) {
        for least in [LARGE, 0] {
            if self.octets <= OCTETS_LIMIT / 2 {
                break;
            }
            let forgettable = |(domain, known): &(&Domain, &Remembered)| {
                *domain != but && known.stamp.is_some() && known.octets() >= least
            };
            let forgotten: Vec<Domain> =
                self.known.iter().filter(forgettable).map(|(domain, _)| domain.clone()).collect();
            forgotten.iter().for_each(|domain| self.remove(domain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[derive(PartialEq)]
    enum DomainClass {
        Established,
        Newcomer,
    }

    fn insert(memory: &mut PolicyMemory, name: &str, known: Remembered) -> bool {
        memory.insert(name.parse().unwrap(), known)
    }

    fn known(octets: usize, since: i64, class: DomainClass, stamp: Option<KeptStamp>) -> Remembered {
        let text = format!("version: STSv1\nmode: enforce\nmx: *.a.test\nmax_age: 86400\na: {}\n", "x".repeat(octets));
        let policy = StsPolicy::read("a.test".parse().unwrap(), None, text.into_bytes(), Timestamp(0)).unwrap();
        let established = (class == DomainClass::Established).then_some(Timestamp(since));
        let standing = Some(Tenure { since: Timestamp(since), established });
        Remembered { held: Held::Policy(Arc::new(policy)), standing, stamp }
    }

    #[test]
    fn rfc8461_10_2_what_the_disk_refused_is_bounded_and_newcomers_displace_no_established_domain() {
        let mut memory = PolicyMemory::default();
        assert!(insert(&mut memory, "old.test", known(300, 0, DomainClass::Established, None)));
        assert!(insert(&mut memory, "small.test", known(300, 1, DomainClass::Newcomer, None)));
        let came = (0..700)
            .filter(|n| insert(&mut memory, &format!("d{n}.test"), known(60_000, 2 + n, DomainClass::Newcomer, None)));
        assert!((50..700).contains(&came.count()));
        assert!(memory.octets <= UNWRITTEN_LIMIT && memory.octets == memory.unwritten);
        for domain in ["old.test", "small.test"] {
            assert!(memory.get(&domain.parse().unwrap()).is_some(), "{domain}");
        }
    }

    #[test]
    fn what_is_on_disk_is_forgotten_when_there_is_too_much_of_it() {
        let mut memory = PolicyMemory::default();
        let stamp = Some(KeptStamp { revision: 1, modified: (0, 0), length: 1 });
        insert(&mut memory, "small.test", known(300, 1, DomainClass::Newcomer, stamp));
        insert(&mut memory, "unwritten.test", known(300, 1, DomainClass::Newcomer, None));
        for n in 0..700 {
            assert!(insert(&mut memory, &format!("d{n}.test"), known(60_000, n, DomainClass::Newcomer, stamp)));
            assert!(memory.octets <= OCTETS_LIMIT);
        }
        for domain in ["small.test", "unwritten.test"] {
            assert!(memory.get(&domain.parse().unwrap()).is_some(), "{domain}");
        }
        let all: Vec<Domain> = memory.domains().cloned().collect();
        all.iter().for_each(|domain| memory.remove(domain));
        assert_eq!((memory.octets, memory.unwritten), (0, 0));
    }
}
