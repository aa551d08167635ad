//! Answers that still hold (pure): bounded, and nothing is served beyond its life.
//!
//! The life of an answer comes with it: the lowest TTL and the first expiry of a signature in
//! all that proves it (RFC 4035 §5.3.3), for denials the SOA's minimum (RFC 2308 §5). When the
//! cache is full, what would expire first goes first. There is no serving of stale answers.
//!
//! Full is a number of answers, or of octets: whoever publishes answers of the largest size, under
//! as many names as it likes, must not choose how much memory the relay has.

use crate::clock::Timestamp;
use std::collections::{BTreeMap, HashMap};
use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

/// The longest life whatever the records say (RFC 8767 §4 advises a day to a week).
const LONGEST_LIFE: Duration = Duration::from_secs(86_400);

/// How much is kept.
#[derive(Clone, Copy, Debug)]
pub(super) struct Room {
    /// Answers.
    pub(super) entries: usize,
    /// Octets of all of them.
    pub(super) octets: usize,
}

/// An answer to be kept.
pub(super) struct Cached<V> {
    /// The answer.
    pub(super) value: V,
    /// The memory it takes.
    pub(super) octets: usize,
    /// How long it holds.
    pub(super) until: Timestamp,
}

struct Entry<V> {
    value: V,
    octets: usize,
    stored: Timestamp,
    until: Timestamp,
    /// Tells apart entries that expire in the same moment.
    number: u64,
}

/// A bounded cache by question.
pub(super) struct Cache<K, V> {
    room: Room,
    entries: HashMap<Arc<K>, Entry<V>>,
    by_expiry: BTreeMap<(Timestamp, u64), Arc<K>>,
    octets: usize,
    stored: u64,
}

impl<K: Eq + Hash, V: Clone> Cache<K, V> {
    pub(super) fn new(room: Room) -> Self {
        Self { room, entries: HashMap::new(), by_expiry: BTreeMap::new(), octets: 0, stored: 0 }
    }

    /// The answer, while it holds. A clock that has gone back makes it void as well: how long
    /// the answer has been here cannot be said any more.
    pub(super) fn get(&self, key: &K, now: Timestamp) -> Option<V> {
        let entry = self.entries.get(key)?;
        (entry.stored <= now && now < entry.until).then(|| entry.value.clone())
    }

    /// Keeps an answer until its end, or not at all when that is past.
    pub(super) fn put(&mut self, key: K, kept: Cached<V>, now: Timestamp) {
        let Cached { value, octets, until } = kept;
        let until = until.min(now.plus(LONGEST_LIFE));
        if until <= now || self.room.entries == 0 || octets > self.room.octets {
            return;
        }
        let key = Arc::new(key);
        if let Some(old) = self.entries.remove(&key) {
            self.octets -= old.octets;
            self.by_expiry.remove(&(old.until, old.number));
        }
        while self.entries.len() >= self.room.entries || self.octets > self.room.octets - octets {
            let Some((_, first)) = self.by_expiry.pop_first() else { break };
            self.octets -= self.entries.remove(&first).map_or(0, |gone| gone.octets);
        }
        self.stored += 1;
        self.octets += octets;
        let number = self.stored;
        self.by_expiry.insert((until, number), Arc::clone(&key));
        self.entries.insert(key, Entry { value, octets, stored: now, until, number });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_800_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn cache(entries: usize) -> Cache<&'static str, u32> {
        Cache::new(Room { entries, octets: 1000 })
    }

    fn one(value: u32, until: u64) -> Cached<u32> {
        Cached { value, octets: 1, until: at(until) }
    }

    #[test]
    fn rfc2308_5_nothing_is_served_beyond_its_life() {
        let mut cache = cache(9);
        cache.put("a", one(1, 10), at(0));
        assert_eq!(cache.get(&"a", at(9)), Some(1));
        assert_eq!(cache.get(&"a", at(10)), None);
        cache.put("b", one(2, 5), at(5));
        assert_eq!(cache.get(&"b", at(5)), None, "a TTL of zero is for one use");
    }

    #[test]
    fn no_life_is_longer_than_a_day() {
        let mut cache = cache(9);
        cache.put("a", one(1, 1_000_000), at(0));
        assert_eq!(cache.get(&"a", at(86_399)), Some(1));
        assert_eq!(cache.get(&"a", at(86_400)), None);
    }

    #[test]
    fn a_clock_that_went_back_makes_answers_void() {
        let mut cache = cache(9);
        cache.put("a", one(1, 100), at(50));
        assert_eq!(cache.get(&"a", at(49)), None);
    }

    #[test]
    fn a_full_cache_lets_go_of_what_expires_first() {
        let mut cache = cache(2);
        cache.put("long", one(1, 100), at(0));
        cache.put("short", one(2, 10), at(0));
        cache.put("new", one(3, 50), at(0));
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
            cache.put("a", one(round, 10 + u64::from(round)), at(0));
        }
        assert_eq!(cache.get(&"a", at(18)), Some(9));
        assert_eq!((cache.entries.len(), cache.by_expiry.len()), (1, 1));
    }

    #[test]
    fn what_is_large_takes_the_room_of_many() {
        let mut cache = cache(100);
        let large = |value, until| Cached { value, octets: 400, until: at(until) };
        cache.put("a", large(1, 10), at(0));
        cache.put("b", large(2, 20), at(0));
        cache.put("b", large(3, 30), at(0));
        cache.put("small", one(4, 5), at(0));
        assert_eq!((cache.get(&"a", at(1)), cache.octets), (Some(1), 801), "what is replaced is not counted twice");
        cache.put("c", large(5, 40), at(0));
        assert_eq!([cache.get(&"a", at(1)), cache.get(&"small", at(1))], [None, None], "it expires first");
        assert_eq!([cache.get(&"b", at(1)), cache.get(&"c", at(1))], [Some(3), Some(5)]);
        cache.put("d", Cached { value: 6, octets: 1001, until: at(50) }, at(0));
        assert_eq!((cache.get(&"d", at(1)), cache.entries.len()), (None, 2), "one that has no room drives nobody out");
        assert_eq!((cache.octets, cache.by_expiry.len()), (800, 2));
    }
}
