//! How much mail came in and went out: counts of the last day, minute by minute, in memory.

use crate::observe::traffic::Traffic;
use std::collections::VecDeque;

/// Minutes that are kept: a day.
const MOST: usize = 1_440;
/// Minutes of an hour.
const HOUR: usize = 60;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Rates {
    /// The newest last.
    minutes: VecDeque<Traffic>,
    last: Traffic,
}

impl Rates {
    /// A minute has passed, and so much there is since the start.
    pub(super) fn minute(&mut self, until_now: Traffic) {
        let gained = self.gained(until_now);
        if self.minutes.len() >= MOST {
            self.minutes.pop_front();
        }
        self.minutes.push_back(gained);
        self.last = until_now;
    }

    /// Each minute of the last hour, the newest last: the one that goes on.
    pub(super) fn hour(&self, until_now: Traffic) -> Vec<Traffic> {
        let mut newest_first: Vec<Traffic> = self.newest_first(until_now).take(HOUR).collect();
        newest_first.reverse();
        newest_first
    }

    /// Each hour of the last day, the newest last.
    pub(super) fn day(&self, until_now: Traffic) -> Vec<Traffic> {
        let newest_first: Vec<Traffic> = self.newest_first(until_now).take(MOST).collect();
        let mut hours: Vec<Traffic> = newest_first.chunks(HOUR).map(sum).collect();
        hours.reverse();
        hours
    }

    fn newest_first(&self, until_now: Traffic) -> impl Iterator<Item = Traffic> {
        std::iter::once(self.gained(until_now)).chain(self.minutes.iter().rev().copied())
    }

    /// Since the last minute.
    const fn gained(&self, until_now: Traffic) -> Traffic {
        Traffic {
            accepted: until_now.accepted.saturating_sub(self.last.accepted),
            delivered: until_now.delivered.saturating_sub(self.last.delivered),
        }
    }
}

/// All of them together.
pub(super) fn sum(parts: &[Traffic]) -> Traffic {
    parts.iter().fold(Traffic::default(), |all, part| Traffic {
        accepted: all.accepted + part.accepted,
        delivered: all.delivered + part.delivered,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn minutes_add_up_to_hours_and_a_day_is_kept() {
        let mut rates = Rates::default();
        for minute in 1..=2_000 {
            rates.minute(Traffic { accepted: minute * 3, delivered: minute * 2 });
        }
        // Within the minute that goes on there was as much as in any other.
        let now = Traffic { accepted: 2_001 * 3, delivered: 2_001 * 2 };
        let (hour, day) = (rates.hour(now), rates.day(now));
        assert_eq!((hour.len(), day.len(), rates.minutes.len()), (60, 24, MOST));
        assert_eq!(sum(&hour), Traffic { accepted: 180, delivered: 120 });
        assert!(day.iter().all(|hour| *hour == Traffic { accepted: 180, delivered: 120 }));
    }

    #[test]
    fn a_young_relay_has_a_short_line() {
        let mut rates = Rates::default();
        let first = Traffic { accepted: 5, delivered: 4 };
        assert_eq!(rates.hour(first), [first], "what came within the first minute is shown");
        rates.minute(first);
        let day = rates.day(Traffic { accepted: 7, delivered: 4 });
        assert_eq!((rates.hour(first).len(), day.len(), sum(&day).accepted), (2, 1, 7));
    }
}
