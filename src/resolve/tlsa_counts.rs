//! Which names have had how many TLSA records: controls for whoever later wonders whether a box
//! drops answers by their number (pure).
//!
//! One name for each number, the latest; nothing else of the answers is kept.

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Different numbers that are kept; real sets have at most some dozens.
const COUNTS_LIMIT: usize = 32;

/// A name that had so many TLSA records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownCount {
    /// The number of its TLSA records.
    pub records: usize,
    /// The owner of the records.
    pub name: String,
    /// When they were validated.
    pub at: Timestamp,
}

/// What is known, by number.
#[derive(Clone, Debug, Default)]
pub struct TlsaCounts(BTreeMap<usize, KnownCount>);

impl TlsaCounts {
    /// Notes an answer that was validated; the latest name stands for its number.
    pub fn note(&mut self, known: KnownCount) {
        let is_full = self.0.len() >= COUNTS_LIMIT && !self.0.contains_key(&known.records);
        let is_older = self.0.get(&known.records).is_some_and(|kept| kept.at > known.at);
        if known.records > 0 && !is_full && !is_older {
            self.0.insert(known.records, known);
        }
    }

    /// All of it, the smallest number first.
    #[must_use]
    pub fn all(&self) -> Vec<KnownCount> {
        self.0.values().cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(records: usize, name: &str, at: i64) -> KnownCount {
        KnownCount { records, name: name.into(), at: Timestamp(at) }
    }

    #[test]
    fn the_latest_name_stands_for_its_number() {
        let mut counts = TlsaCounts::default();
        for one in [known(4, "old", 1), known(4, "new", 3), known(4, "late news", 2), known(0, "none", 9)] {
            counts.note(one);
        }
        assert_eq!(counts.all(), [known(4, "new", 3)]);
    }

    #[test]
    fn numbers_beyond_the_limit_are_left_out() {
        let mut counts = TlsaCounts::default();
        (1..=COUNTS_LIMIT + 1).for_each(|records| counts.note(known(records, "a", 1)));
        assert_eq!(counts.all().len(), COUNTS_LIMIT);
        counts.note(known(1, "b", 2));
        assert_eq!(counts.all()[0].name, "b");
    }
}
