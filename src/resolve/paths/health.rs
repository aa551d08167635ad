//! What a path's past says about it (pure).
//!
//! A path that failed where another one succeeded is put back: it is asked last, until the
//! penalty has faded. Then it is asked in its turn again, so that a path that has been repaired
//! comes back by itself, and one that has not costs a wait only now and then.

use super::standing::PathStanding;
use crate::clock::Timestamp;
use std::time::Duration;

/// The penalty of a first failure.
const FIRST_PENALTY: Duration = Duration::from_secs(30);
/// The longest penalty: a repaired path is back in use after this at the latest.
const LONGEST_PENALTY: Duration = Duration::from_secs(600);

/// The past of a path.
#[derive(Debug, Default)]
pub(in crate::resolve) struct Health {
    penalty: Duration,
    until: Option<Timestamp>,
}

impl Health {
    /// It failed, and another path had the answer.
    pub(super) fn failed(&mut self, now: Timestamp) {
        if self.standing(now) == PathStanding::PutBack {
            return; // one outage meets many look-ups at once; it is still one
        }
        self.penalty = (self.penalty * 2).clamp(FIRST_PENALTY, LONGEST_PENALTY);
        self.until = Some(now.plus(self.penalty));
    }

    /// It had the answer. One success does not forget the past: a box that drops some answers
    /// lets others pass.
    pub(super) fn succeeded(&mut self, now: Timestamp) {
        if self.until.is_some_and(|until| now.since(until) > self.penalty) {
            *self = Self::default();
        }
    }

    pub(super) fn standing(&self, now: Timestamp) -> PathStanding {
        match self.until {
            Some(until) if now < until => PathStanding::PutBack,
            Some(_) | None => PathStanding::Good,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_800_000_000_000).plus(Duration::from_secs(seconds))
    }

    #[test]
    fn a_failure_puts_a_path_back_until_its_penalty_has_faded() {
        let mut health = Health::default();
        health.failed(at(0));
        assert_eq!(health.standing(at(29)), PathStanding::PutBack);
        assert_eq!(health.standing(at(30)), PathStanding::Good);
    }

    #[test]
    fn failures_in_a_row_double_the_penalty_up_to_a_limit() {
        let mut health = Health::default();
        let mut now = 0;
        for penalty in [30, 60, 120, 240, 480, 600, 600] {
            health.failed(at(now));
            assert_eq!(health.standing(at(now + penalty - 1)), PathStanding::PutBack);
            assert_eq!(health.standing(at(now + penalty)), PathStanding::Good);
            now += penalty;
        }
    }

    #[test]
    fn many_look_ups_in_one_outage_are_one_failure() {
        let mut health = Health::default();
        (0..10).for_each(|second| health.failed(at(second)));
        assert_eq!(health.standing(at(30)), PathStanding::Good);
    }

    #[test]
    fn success_forgives_only_after_as_long_as_the_penalty() {
        let mut health = Health::default();
        health.failed(at(0));
        health.succeeded(at(31));
        health.failed(at(32));
        assert_eq!(health.standing(at(32 + 59)), PathStanding::PutBack, "the second penalty is longer");
        health.succeeded(at(32 + 60 + 61));
        health.failed(at(200));
        assert_eq!(health.standing(at(230)), PathStanding::Good, "forgiven: the first penalty again");
    }
}
