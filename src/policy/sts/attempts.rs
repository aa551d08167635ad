//! What was tried lately, so that nothing is tried again too soon (pure): after a failed fetch
//! the same id of the same domain waits five minutes (RFC 8461 §3.3).

use super::failure::FetchFailure;
use super::record::PolicyId;
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a fetch is not repeated (RFC 8461 §3.3: at least five minutes).
pub(super) const BACK_OFF: Duration = Duration::from_secs(300);
/// Attempts remembered; who would need more than these in five minutes may try again sooner.
const ATTEMPTS_KEPT: usize = 10_000;

/// What a fetch is for: a domain, and the id that was announced.
pub(super) type Key = (Domain, Option<PolicyId>);

/// How a fetch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    Fetched,
    Failed(FetchFailure),
}

/// The attempts of the last five minutes.
#[derive(Default)]
pub(super) struct Attempts {
    last: BTreeMap<Key, (Timestamp, Attempt)>,
}

impl Attempts {
    /// How the last attempt ended, while it is too soon for another. A clock that has gone back
    /// allows one.
    pub(super) fn lately(&self, key: &Key, now: Timestamp) -> Option<&Attempt> {
        self.last.get(key).filter(|(at, _)| *at <= now && now < at.plus(BACK_OFF)).map(|(_, attempt)| attempt)
    }

    pub(super) fn note(&mut self, key: Key, attempt: Attempt, now: Timestamp) {
        if self.last.len() >= ATTEMPTS_KEPT {
            self.last.retain(|_, (at, _)| now < at.plus(BACK_OFF));
        }
        while self.last.len() >= ATTEMPTS_KEPT {
            self.last.pop_first();
        }
        self.last.insert(key, (now, attempt));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_795_261_468_000).plus(Duration::from_secs(seconds))
    }

    fn key(domain: &str, id: &str) -> Key {
        (domain.parse().unwrap(), Some(id.to_owned().try_into().unwrap()))
    }

    #[test]
    fn rfc8461_3_3_the_same_id_waits_five_minutes_and_another_does_not() {
        let mut attempts = Attempts::default();
        let failed = Attempt::Failed(FetchFailure::TimedOut);
        attempts.note(key("a.test", "1"), failed.clone(), at(0));
        assert_eq!(attempts.lately(&key("a.test", "1"), at(299)), Some(&failed));
        assert_eq!(attempts.lately(&key("a.test", "1"), at(300)), None);
        assert_eq!(attempts.lately(&key("a.test", "2"), at(1)), None);
        assert_eq!(attempts.lately(&key("b.test", "1"), at(1)), None);
    }

    #[test]
    fn attempts_are_bounded_and_old_ones_go_first() {
        let mut attempts = Attempts::default();
        for n in 0..ATTEMPTS_KEPT {
            attempts.note(key(&format!("d{n}.test"), "1"), Attempt::Fetched, at(u64::from(n > 0) * 400));
        }
        attempts.note(key("new.test", "1"), Attempt::Fetched, at(401));
        assert_eq!(attempts.last.len(), ATTEMPTS_KEPT);
        assert!(attempts.lately(&key("d1.test", "1"), at(401)).is_some());
        attempts.note(key("newer.test", "1"), Attempt::Fetched, at(401));
        assert_eq!(attempts.last.len(), ATTEMPTS_KEPT);
    }
}
