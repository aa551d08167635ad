//! How many connections a receiving host is thought to take (pure): few at first, one more after
//! each round of success, half as many after trouble, never none.
//!
//! A host that counts connections says so by refusing one of them. How many it had taken then is
//! remembered, and is not tried to be exceeded for a while; else each round would cost a refusal.

use crate::clock::Timestamp;
use std::time::Duration;

/// What a host that has answered gets at first.
const FIRST: usize = 5;

/// For how long the number is kept at which a host refused one more.
const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// What was learnt of one host.
#[derive(Clone, Debug)]
pub(super) struct Window {
    limit: usize,
    /// Messages taken since the limit last changed, while all of it was used.
    round: usize,
    /// Connections that were opened before this say nothing new by their trouble.
    halved_at: Option<Timestamp>,
    /// It refused one more than so many, and this holds until then.
    refused_above: Option<(usize, Timestamp)>,
}

impl Default for Window {
    fn default() -> Self {
        Self { limit: FIRST, round: 0, halved_at: None, refused_above: None }
    }
}

impl Window {
    /// The most connections now, under the limit of the configuration; none where that is none.
    pub(super) fn limit(&self, ceiling: usize, now: Timestamp) -> usize {
        let refused = self.refused_above.filter(|(_, until)| now < *until).map_or(usize::MAX, |(most, _)| most);
        self.limit.min(refused).max(1).min(ceiling)
    }

    /// A message was taken while so many connections were at work.
    pub(super) fn succeeded(&mut self, at_work: usize, ceiling: usize, now: Timestamp) {
        let limit = self.limit(ceiling, now);
        if at_work < limit {
            // What is not used is not known to be good.
            return;
        }
        self.round += 1;
        if self.round >= limit && limit < ceiling {
            self.round = 0;
            self.limit = limit + 1;
        }
    }

    /// A connection opened at `began` met trouble.
    pub(super) fn troubled(&mut self, began: Timestamp, now: Timestamp) {
        if self.halved_at.is_some_and(|halved| began <= halved && halved <= now) {
            return;
        }
        self.limit = (self.limit / 2).max(1);
        self.round = 0;
        self.halved_at = Some(now);
    }

    /// One more was refused while so many were being served.
    pub(super) fn refused_one_more(&mut self, served: usize, now: Timestamp) {
        let most = served.max(1);
        self.limit = self.limit.min(most);
        self.round = 0;
        self.refused_above = Some((most, now.plus(REMEMBERED_FOR)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CEILING: usize = 40;

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1000)
    }

    fn grown(rounds: usize) -> Window {
        let mut window = Window::default();
        for _ in 0..rounds {
            let limit = window.limit(CEILING, at(0));
            (0..limit).for_each(|_| window.succeeded(limit, CEILING, at(0)));
        }
        window
    }

    #[test]
    fn a_host_starts_with_few_and_earns_one_more_with_each_round() {
        assert_eq!(grown(0).limit(CEILING, at(0)), FIRST);
        assert_eq!(grown(3).limit(CEILING, at(0)), FIRST + 3);
        assert_eq!(grown(100).limit(CEILING, at(0)), CEILING, "the configuration is the ceiling");
        assert_eq!(grown(100).limit(2, at(0)), 2);
    }

    #[test]
    fn what_is_not_used_is_not_earned() {
        let mut window = Window::default();
        (0..1000).for_each(|_| window.succeeded(FIRST - 1, CEILING, at(0)));
        assert_eq!(window.limit(CEILING, at(0)), FIRST);
    }

    #[test]
    fn trouble_takes_half_once_for_all_that_were_open_and_leaves_one() {
        let mut window = grown(15);
        assert_eq!(window.limit(CEILING, at(0)), 20);
        (0..20).for_each(|_| window.troubled(at(1), at(2)));
        assert_eq!(window.limit(CEILING, at(2)), 10);
        (3..20).for_each(|now| window.troubled(at(now), at(now)));
        assert_eq!(window.limit(CEILING, at(20)), 1);
    }

    #[test]
    fn a_number_that_was_refused_is_not_tried_again_for_a_while() {
        let mut window = grown(5);
        window.refused_one_more(7, at(10));
        assert_eq!(window.limit(CEILING, at(10)), 7);
        (0..1000).for_each(|_| window.succeeded(7, CEILING, at(20)));
        assert_eq!(window.limit(CEILING, at(20)), 7);
        let later = at(10).plus(REMEMBERED_FOR);
        (0..8).for_each(|_| window.succeeded(8, CEILING, later));
        assert!(window.limit(CEILING, later) > 7, "the host may have grown");
        window.refused_one_more(0, later);
        assert_eq!(window.limit(CEILING, later), 1);
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_shield_a_host_from_trouble() {
        let mut window = grown(15);
        window.troubled(at(1000), at(1000));
        window.troubled(at(10), at(10));
        assert_eq!(window.limit(CEILING, at(10)), 5);
    }
}
