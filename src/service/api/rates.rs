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
        let gained = Traffic {
            accepted: until_now.accepted.saturating_sub(self.last.accepted),
            delivered: until_now.delivered.saturating_sub(self.last.delivered),
        };
        if self.minutes.len() >= MOST {
            self.minutes.pop_front();
        }
        self.minutes.push_back(gained);
        self.last = until_now;
    }

    /// Each minute of the last hour, the newest last.
    pub(super) fn hour(&self) -> Vec<Traffic> {
        self.minutes.iter().skip(self.minutes.len().saturating_sub(HOUR)).copied().collect()
    }

    /// Each hour of the last day, the newest last.
    pub(super) fn day(&self) -> Vec<Traffic> {
        let newest_first: Vec<Traffic> = self.minutes.iter().rev().copied().collect();
        let mut hours: Vec<Traffic> = newest_first.chunks(HOUR).map(sum).collect();
        hours.reverse();
        hours
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
        let (hour, day) = (rates.hour(), rates.day());
        assert_eq!((hour.len(), day.len(), rates.minutes.len()), (60, 24, MOST));
        assert_eq!(sum(&hour), Traffic { accepted: 180, delivered: 120 });
        assert!(day.iter().all(|hour| *hour == Traffic { accepted: 180, delivered: 120 }));
    }

    #[test]
    fn a_young_relay_has_a_short_line() {
        let mut rates = Rates::default();
        assert!(rates.hour().is_empty() && rates.day().is_empty());
        rates.minute(Traffic { accepted: 5, delivered: 4 });
        assert_eq!((rates.hour().len(), rates.day().len(), sum(&rates.day()).accepted), (1, 1, 5));
    }
}
