//! How many connections a receiving host is thought to take (pure): few at first, one more after
//! each round of success, half as many after trouble, never none.
//!
//! A host that counts connections says so by refusing one of them. How many it had taken then is
//! remembered, and is not tried to be exceeded for a while; else each round would cost a refusal. Of relays that share the
//! spool each tells the others how many it had then: the sum is what the host takes, and each has its part of it.

use crate::clock::Timestamp;
use crate::spool::cluster::NodeShare;
use std::collections::BTreeMap;
use std::time::Duration;

/// What a host that has answered gets at first.
const FIRST: usize = 5;

/// For how long the number is kept at which a host refused one more.
pub(super) const REMEMBERED_FOR: Duration = Duration::from_secs(3600);

/// So many connections, until then.
pub(super) type RefusedAbove = (usize, Timestamp);

/// What holds for a host by the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Ceiling {
    /// The most connections of this relay.
    pub(super) most: usize,
    /// The part of this relay in what the host takes.
    pub(super) share: NodeShare,
}

/// What was learnt of one host.
#[derive(Clone, Debug)]
pub(super) struct Window {
    limit: usize,
    /// Messages taken since the limit last changed, while all of it was used.
    round: usize,
    /// Connections that were opened before this say nothing new by their trouble.
    halved_at: Option<Timestamp>,
    /// It refused one more than so many, and this holds until then.
    refused_above: Option<RefusedAbove>,
    /// How many other relays had at that time, each by its number.
    elsewhere: BTreeMap<i16, RefusedAbove>,
}

impl Default for Window {
    fn default() -> Self {
        Self { limit: FIRST, round: 0, halved_at: None, refused_above: None, elsewhere: BTreeMap::new() }
    }
}

impl Window {
    /// The most connections now, under the limit of the configuration; none where that is none.
    pub(super) fn limit(&self, ceiling: Ceiling, now: Timestamp) -> usize {
        let told = self.refused_above.iter().chain(self.elsewhere.values()).filter(|(_, until)| now < *until);
        let takes = told.map(|(most, _)| *most).reduce(usize::saturating_add);
        let refused = takes.map_or(usize::MAX, |takes| ceiling.share.of(takes));
        self.limit.min(refused).max(1).min(ceiling.most)
    }

    /// How many it is thought to take, whatever it has refused.
    pub(super) const fn thought_to_take(&self) -> usize {
        self.limit
    }

    /// One more than so many of this relay was refused, as long as that is remembered.
    pub(super) fn refused_above(&self, now: Timestamp) -> Option<RefusedAbove> {
        self.refused_above.filter(|(_, until)| now < *until)
    }

    /// Another relay has tried before this one ever did: it begins with that.
    pub(super) fn begin_with(&mut self, limit: usize) {
        self.limit = limit.max(1);
    }

    /// Another relay had so many when one more was refused, while this one had `at_work`; it says no such thing any more
    /// where there is none.
    pub(super) fn refused_elsewhere(&mut self, by: i16, refused: Option<RefusedAbove>, at_work: usize) {
        let Some((most, until)) = refused else {
            self.elsewhere.remove(&by);
            return;
        };
        let is_new = self.elsewhere.insert(by, (most, until)).is_none_or(|(_, before)| before < until);
        if is_new && at_work > 0 && self.refused_above.is_none_or(|(_, before)| before < until) {
            self.refused_above = Some((at_work, until));
        }
    }

    /// A message was taken while so many connections were at work.
    pub(super) fn succeeded(&mut self, at_work: usize, ceiling: Ceiling, now: Timestamp) {
        let limit = self.limit(ceiling, now);
        if at_work < limit {
            // What is not used is not known to be good.
            return;
        }
        self.round += 1;
        if self.round >= limit && limit < ceiling.most {
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

    const CEILING: Ceiling = Ceiling { most: 40, share: NodeShare::ALONE };

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
        assert_eq!(grown(100).limit(CEILING, at(0)), CEILING.most, "the configuration is the ceiling");
        assert_eq!(grown(100).limit(Ceiling { most: 2, ..CEILING }, at(0)), 2);
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
    fn what_a_host_takes_of_several_relays_is_the_sum_of_what_they_had_and_each_has_its_part() {
        let of = |rank| Ceiling { share: NodeShare::new(rank, 2), ..CEILING };
        let (mut one, mut two) = (grown(5), grown(5));
        one.refused_one_more(3, at(10));
        // The other one had two at that time, and tells it.
        two.refused_elsewhere(1, one.refused_above(at(11)), 2);
        one.refused_elsewhere(2, two.refused_above(at(11)), 3);
        assert_eq!((one.limit(of(0), at(12)), two.limit(of(1), at(12))), (3, 2), "five together");
        one.refused_elsewhere(2, None, 3);
        assert_eq!(one.limit(of(0), at(12)), 2, "one that is told to have none");
        let later = at(10).plus(REMEMBERED_FOR);
        assert!(two.limit(of(1), later) > 2, "the host may have grown");
        // One that has nothing to do there begins with one, and tells of none.
        let mut new = Window::default();
        new.refused_elsewhere(1, Some((3, at(1000))), 0);
        assert_eq!((new.limit(of(1), at(12)), new.refused_above(at(12))), (1, None));
    }

    #[test]
    fn a_clock_that_was_set_back_does_not_shield_a_host_from_trouble() {
        let mut window = grown(15);
        window.troubled(at(1000), at(1000));
        window.troubled(at(10), at(10));
        assert_eq!(window.limit(CEILING, at(10)), 5);
    }
}
