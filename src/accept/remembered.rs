//! What is remembered of clients has a bound: they are as many as they like.

use crate::clock::Timestamp;
use std::collections::BTreeMap;

/// Where as many as `most` are remembered, the oldest quarter goes: looking for one alone each time would be
/// work that strangers give us.
pub(super) fn make_room<K: Ord, V>(remembered: &mut BTreeMap<K, V>, most: usize, last: impl Fn(&V) -> Timestamp) {
    if remembered.len() < most {
        return;
    }
    let mut ages: Vec<Timestamp> = remembered.values().map(&last).collect();
    ages.sort_unstable();
    if let Some(oldest_to_stay) = ages.get(most / 4).copied() {
        let mut may_go = most / 4;
        remembered.retain(|_, value| {
            let goes = may_go > 0 && last(value) <= oldest_to_stay;
            may_go -= usize::from(goes);
            !goes
        });
    }
}
