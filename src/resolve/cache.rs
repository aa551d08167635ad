//! Answers that still hold (pure): bounded, and nothing is served beyond its life.
//!
//! The life of an answer comes with it: the lowest TTL and the first expiry of a signature in
//! all that proves it (RFC 4035 §5.3.3), for denials the SOA's minimum (RFC 2308 §5). When the
//! cache is full, what would expire first goes first. There is no serving of stale answers.

use crate::clock::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// The longest life whatever the records say (RFC 8767 §4 advises a day to a week).
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

struct Entry<V> {
    value: V,
    stored: Timestamp,
    until: Timestamp,
    /// Tells apart entries that expire in the same moment.
    number: u64,
}

/// A bounded cache by question.
pub(super) struct Cache<K, V> {
    capacity: usize,
    entries: HashMap<Arc<K>, Entry<V>>,
    by_expiry: BTreeMap<(Timestamp, u64), Arc<K>>,
    stored: u64,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(capacity: usize) -> Self {
        Self { capacity, entries: HashMap::new(), by_expiry: BTreeMap::new(), stored: 0 }
    }

    /// The answer, while it holds. A clock that has gone back makes it void as well: how long
    /// the answer has been here cannot be said any more.
    pub(super) fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        let entry = self.entries.get(key)?;
        (entry.stored <= now && now < entry.until).then(|| entry.value.clone())
    }

    /// Keeps an answer until `until`, or not at all when that is past.
    pub(super) fn put(&mut self, key: K, value: V, until: Timestamp, now: Timestamp) {
        let until = until.min(now.plus(LONGEST_LIFE));
        if until <= now || self.capacity == 0 {
            return;
        }
        let key = Arc::new(key);
        if let Some(old) = self.entries.remove(&key) {
            self.by_expiry.remove(&(old.until, old.number));
        }
        while self.entries.len() >= self.capacity {
            let Some((_, first)) = self.by_expiry.pop_first() else { break };
            self.entries.remove(&first);
        }
        self.stored += 1;
        let number = self.stored;
        self.by_expiry.insert((until, number), Arc::clone(&key));
        self.entries.insert(key, Entry { value, stored: now, until, number });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_800_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn cache(capacity: usize) -> Cache<&'static str, u32> {
        Cache::new(capacity)
    }

    #[test]
    fn rfc2308_5_nothing_is_served_beyond_its_life() {
        let mut cache = cache(9);
        cache.put("a", 1, at(10), at(0));
        assert_eq!(cache.get(&"a", at(9)), Some(1));
        assert_eq!(cache.get(&"a", at(10)), None);
        cache.put("b", 2, at(5), at(5));
        assert_eq!(cache.get(&"b", at(5)), None, "a TTL of zero is for one use");
    }

    #[test]
    fn no_life_is_longer_than_a_day() {
        let mut cache = cache(9);
        cache.put("a", 1, at(1_000_000), at(0));
        assert_eq!(cache.get(&"a", at(86_399)), Some(1));
        assert_eq!(cache.get(&"a", at(86_400)), None);
    }

    #[test]
    fn a_clock_that_went_back_makes_answers_void() {
        let mut cache = cache(9);
        cache.put("a", 1, at(100), at(50));
        assert_eq!(cache.get(&"a", at(49)), None);
    }

    #[test]
    fn a_full_cache_lets_go_of_what_expires_first() {
        let mut cache = cache(2);
        cache.put("long", 1, at(100), at(0));
        cache.put("short", 2, at(10), at(0));
        cache.put("new", 3, at(50), at(0));
        assert_eq!(
            [cache.get(&"long", at(1)), cache.get(&"short", at(1)), cache.get(&"new", at(1))],
            [Some(1), None, Some(3)]
        );
        assert_eq!((cache.entries.len(), cache.by_expiry.len()), (2, 2));
    }

    #[test]
    fn a_new_answer_replaces_the_old_one() {
        let mut cache = cache(2);
        for round in 0..10 {
            cache.put("a", round, at(10 + u64::from(round)), at(0));
        }
        assert_eq!(cache.get(&"a", at(18)), Some(9));
        assert_eq!((cache.entries.len(), cache.by_expiry.len()), (1, 1));
    }
}
