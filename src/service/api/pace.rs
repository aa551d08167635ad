//! How much one visitor may ask in a while, so that a script that runs wild leaves room for people.

use crate::clock::Timestamp;
use std::collections::BTreeMap;

/// Requests that may come at once.
const BURST: u32 = 120;
/// Milliseconds after which one more may come: ten in a second.
const ONE_MORE_MS: i64 = 100;
/// The most visitors that are remembered.
const MOST: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct VisitorPace(BTreeMap<String, PaceOfOne>);

#[derive(Debug)]
struct PaceOfOne {
    left: u32,
    at: Timestamp,
}

/// Whether a request may come now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PaceVerdict {
    /// It may.
    Come,
    /// It has to wait.
    Wait,
}

impl VisitorPace {
    /// One more request of that visitor.
    pub(super) fn one_more(&mut self, visitor: &str, now: Timestamp) -> PaceVerdict {
        if self.0.len() >= MOST && !self.0.contains_key(visitor) {
            self.0.clear();
        }
        let known = self.0.entry(visitor.to_owned()).or_insert(PaceOfOne { left: BURST, at: now });
        let gained = now.0.saturating_sub(known.at.0).max(0) / ONE_MORE_MS;
        known.left = known.left.saturating_add(u32::try_from(gained).unwrap_or(BURST)).min(BURST);
        known.at = Timestamp(known.at.0.saturating_add(gained.saturating_mul(ONE_MORE_MS)));
        match known.left.checked_sub(1) {
            Some(left) => {
                known.left = left;
                PaceVerdict::Come
            }
            None => PaceVerdict::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_much_waits_and_nobody_else_does() {
        let (mut pace, now) = (VisitorPace::default(), Timestamp(1_795_261_468_000));
        let came = (0..500).filter(|_| pace.one_more("script", now) == PaceVerdict::Come).count();
        assert_eq!(came, BURST as usize);
        assert_eq!(pace.one_more("anna", now), PaceVerdict::Come);
        let soon = Timestamp(now.0 + 3 * ONE_MORE_MS);
        let came = (0..500).filter(|_| pace.one_more("script", soon) == PaceVerdict::Come).count();
        assert_eq!(came, 3);
    }
}
