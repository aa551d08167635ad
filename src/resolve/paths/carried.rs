//! What a path has carried lately, by record type and by number of TLSA records (pure): boxes on the way
//! have been seen to lose all answers of one type, or all with more than a few records, while everything
//! else passes. Then the path is not healthy, whatever else it carries.
//!
//! One name counts once, with what became of it last: a zone that is dead is asked for again and again, and
//! says something about itself alone. Several names that fail side by side say something about the path.

use crate::clock::Timestamp;
use hickory_proto::rr::Name;
use std::collections::VecDeque;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash as _, Hasher as _};
use std::time::Duration;

/// What is older says nothing about now.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// Names that are remembered of one path.
const NAMES_LIMIT: usize = 512;
/// So many names of one type have to fail before it may be the path: fewer are those zones' own.
const NAMES_LOST: usize = 3;
/// Of the names that came, one lost for so many is more than dead zones explain.
const CAME_FOR_ONE_LOST: usize = 4;
/// Answers with more TLSA records than this are those that boxes have been seen to drop.
const USUAL_STEP: usize = 4;
/// Where none of those has come, one lost for so many that came is suspicious.
const SMALL_FOR_ONE_LOST: usize = 20;

/// What a path has carried of one record type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeCarried {
    /// The type: a word of a closed set.
    pub record_type: &'static str,
    /// Names whose answers came.
    pub came: usize,
    /// Names that had no usable answer.
    pub lost: usize,
    /// The most records that an answer had.
    pub most: usize,
    /// Whether as many are lost as a path in good order does not lose.
    pub loses: bool,
}

#[derive(Debug)]
struct NameLook {
    at: Timestamp,
    name: u64,
    record_type: &'static str,
    /// Records; none where no answer came.
    came: Option<usize>,
}

/// A name in eight octets.
fn mark(name: &Name) -> u64 {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    hasher.finish()
}

/// The last names that were asked for on a path.
#[derive(Debug, Default)]
pub(super) struct Carried(VecDeque<NameLook>);

impl Carried {
    /// Forgets what became of a question.
    pub(super) fn forget(&mut self, name: &Name, record_type: &'static str) {
        let name = mark(name);
        self.0.retain(|look| look.name != name || look.record_type != record_type);
    }

    /// Notes what became of a question.
    pub(super) fn note(&mut self, name: &Name, record_type: &'static str, came: Option<usize>, at: Timestamp) {
        self.forget(name, record_type);
        let name = mark(name);
        if self.0.len() >= NAMES_LIMIT {
            self.0.pop_front();
        }
        self.0.push_back(NameLook { at, name, record_type, came });
    }

    /// What came and what did not, by type.
    pub(super) fn by_type(&self, now: Timestamp) -> Vec<TypeCarried> {
        let mut types: Vec<TypeCarried> = Vec::new();
        let mut large = 0;
        for look in self.0.iter().filter(|look| now.since(look.at) <= WINDOW) {
            let known = types.iter().position(|known| known.record_type == look.record_type);
            let nth = known.unwrap_or_else(|| {
                let record_type = look.record_type;
                types.push(TypeCarried { record_type, came: 0, lost: 0, most: 0, loses: false });
                types.len() - 1
            });
            let Some(seen) = types.get_mut(nth) else { continue };
            match look.came {
                Some(records) => {
                    (seen.came, seen.most) = (seen.came + 1, seen.most.max(records));
                    large += usize::from(look.record_type == "TLSA" && records > USUAL_STEP);
                }
                None => seen.lost += 1,
            }
        }
        for seen in &mut types {
            let none_large = seen.record_type == "TLSA" && large == 0 && seen.lost * SMALL_FOR_ONE_LOST >= seen.came;
            seen.loses = seen.lost >= NAMES_LOST && (seen.lost * CAME_FOR_ONE_LOST >= seen.came || none_large);
        }
        types
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_800_000_000_000);

    fn carried(looks: &[(&'static str, &str, Option<usize>)]) -> Vec<TypeCarried> {
        let mut carried = Carried::default();
        for (record_type, name, came) in looks {
            carried.note(&Name::from_ascii(name).unwrap(), record_type, *came, NOW);
        }
        carried.by_type(NOW)
    }

    fn loses(looks: &[(&'static str, &str, Option<usize>)]) -> bool {
        carried(looks).iter().any(|seen| seen.loses)
    }

    #[test]
    fn a_path_that_loses_every_large_set_is_not_healthy_whatever_else_passes() {
        let lost = [("TLSA", "a.test.", None), ("TLSA", "b.test.", None), ("TLSA", "c.test.", None)];
        let mut looks = lost.to_vec();
        let names: Vec<String> = (0..30).map(|nth| format!("n{nth}.test.")).collect();
        looks.extend(names.iter().map(|name| ("TLSA", name.as_str(), Some(2))));
        looks.extend(names.iter().map(|name| ("A", name.as_str(), Some(1))));
        assert!(loses(&looks));
        looks.push(("TLSA", "large.test.", Some(5)));
        assert!(!loses(&looks), "one that is as large passes, and many others");
    }

    #[test]
    fn few_dead_zones_are_their_own_fault_however_often_they_are_asked_for() {
        let again = [("MX", "dead.test.", None); 20];
        assert!(!loses(&again));
        assert_eq!(carried(&again)[0].lost, 1);
        let names: Vec<String> = (0..60).map(|nth| format!("n{nth}.test.")).collect();
        let mut looks: Vec<_> = names.iter().map(|name| ("MX", name.as_str(), Some(1))).collect();
        looks.extend([("MX", "a.test.", None), ("MX", "b.test.", None), ("MX", "c.test.", None)]);
        assert!(!loses(&looks), "three dead ones among sixty");
    }

    #[test]
    fn what_comes_again_is_forgiven_and_what_is_old_forgotten() {
        let mut carried = Carried::default();
        let names = ["a.test.", "b.test.", "c.test."].map(|name| Name::from_ascii(name).unwrap());
        names.iter().for_each(|name| carried.note(name, "TLSA", None, NOW));
        assert!(carried.by_type(NOW)[0].loses);
        assert!(carried.by_type(NOW.plus(WINDOW + Duration::from_secs(1))).is_empty());
        names.iter().for_each(|name| carried.note(name, "TLSA", Some(6), NOW));
        let seen = carried.by_type(NOW);
        assert_eq!((seen[0].came, seen[0].lost, seen[0].most, seen[0].loses), (3, 0, 6, false));
    }

    #[test]
    fn the_names_that_are_remembered_are_bounded() {
        let mut carried = Carried::default();
        for nth in 0..2 * NAMES_LIMIT {
            carried.note(&Name::from_ascii(format!("n{nth}.test.")).unwrap(), "A", None, NOW);
        }
        assert_eq!(carried.0.len(), NAMES_LIMIT);
    }
}
