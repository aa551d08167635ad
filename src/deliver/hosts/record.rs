//! What is remembered of one receiving host or next hop (pure): what it takes, whether it answers,
//! and when it may be sent the next message.

use super::feedback::Feedback;
use super::window::{RefusedAbove, Window};
use crate::clock::Timestamp;
use crate::config::{Rate, Retry};
use crate::outcome::Cause;
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Refused connections in a row after which the relay backs off: one may be chance.
const REFUSALS: u32 = 3;
/// The first wait for a host that turned us away: it answers, so it may have room soon.
const TURNED_AWAY_FIRST: Duration = Duration::from_secs(30);
/// What timers may be late.
const LATENESS: Duration = Duration::from_millis(100);
/// Beyond this many doublings every wait is at its longest; it keeps the shift in range.
const MOST_DOUBLINGS: u32 = 16;

/// The relay backs off from a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Rest {
    pub(super) cause: Cause,
    pub(super) since: Timestamp,
    pub(super) until: Timestamp,
}

/// What one relay tells the others of a host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct HostExperience {
    /// Connections that it is thought to take.
    pub(super) takes: usize,
    /// One more than so many was refused, which is remembered until then.
    pub(super) refused_above: Option<RefusedAbove>,
    /// The relay backs off from it.
    pub(super) rest: Option<Rest>,
    /// Failures in a row.
    pub(super) failures: u32,
}

impl HostExperience {
    /// Whether it says no more than what every relay begins with.
    pub(super) fn is_blank(&self) -> bool {
        *self == Record::default().report(Timestamp(0))
    }
}

/// Connections of this relay to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OwnConnections {
    pub(super) at_work: usize,
    /// Those past the greeting.
    pub(super) served: usize,
}

/// How a host stands towards us.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Acquaintance {
    /// It has never been met.
    New,
    /// It answers.
    Answers,
    /// It did not, when it was last tried.
    Failed,
}

/// An attempt at a host.
#[derive(Clone, Copy, Debug)]
pub(super) struct Trial {
    pub(super) began: Timestamp,
    /// Other connections of ours that were past the greeting when it ended.
    pub(super) served: usize,
}

/// What is remembered of one host.
#[derive(Clone, Debug)]
pub(super) struct Record {
    pub(super) window: Window,
    pub(super) acquaintance: Acquaintance,
    rest: Option<Rest>,
    /// Another relay, by its number, backs off from it, and has told.
    heard_rest: Option<(i16, Rest)>,
    answered_at: Timestamp,
    failures: u32,
    /// What the other relays were told last.
    pub(super) told: Option<HostExperience>,
    /// When the last message went, where a rate holds: at its time, or later.
    went_at: Timestamp,
}

impl Default for Record {
    fn default() -> Self {
        Self {
            window: Window::default(),
            acquaintance: Acquaintance::New,
            rest: None,
            heard_rest: None,
            answered_at: Timestamp(i64::MIN),
            failures: 0,
            told: None,
            went_at: Timestamp(i64::MIN),
        }
    }
}

impl Record {
    /// Why nobody may try now. A clock that was set back makes no wait longer.
    pub(super) fn rest(&self, now: Timestamp) -> Option<&Rest> {
        let all = self.rest.iter().chain(self.heard_rest.iter().map(|(_, rest)| rest));
        all.filter(|rest| rest.since <= now && now < rest.until).max_by_key(|rest| rest.until)
    }

    /// It has answered.
    pub(super) fn answered(&mut self, now: Timestamp) {
        self.acquaintance = Acquaintance::Answers;
        self.answered_at = now;
        self.rest_is_over();
    }

    fn rest_is_over(&mut self) {
        (self.rest, self.heard_rest, self.failures) = (None, None, 0);
    }

    /// What this relay has found out itself.
    pub(super) fn report(&self, now: Timestamp) -> HostExperience {
        HostExperience {
            takes: self.window.thought_to_take(),
            refused_above: self.window.refused_above(now),
            rest: self.rest.clone().filter(|rest| rest.since <= now && now < rest.until),
            failures: self.failures,
        }
    }

    /// What another relay has found out, while so many connections of this one are at work and so many are served. What
    /// is seen here counts more: a host that answers here since is not left.
    pub(super) fn hear(&mut self, by: i16, report: HostExperience, seen: OwnConnections) {
        let HostExperience { takes, refused_above, rest, failures } = report;
        if self.acquaintance == Acquaintance::New {
            self.window.begin_with(takes);
        }
        self.window.refused_elsewhere(by, refused_above, seen.at_work);
        match rest {
            None if self.heard_rest.as_ref().is_some_and(|(other, _)| *other == by) => self.heard_rest = None,
            None => {}
            Some(rest) if seen.served > 0 || self.answered_at >= rest.since => {}
            Some(rest) => {
                let ends_later = |(other, known): &(i16, Rest)| *other == by || known.until < rest.until;
                if self.heard_rest.as_ref().is_none_or(ends_later) {
                    self.heard_rest = Some((by, rest));
                }
                self.acquaintance = Acquaintance::Failed;
                self.failures = self.failures.max(failures);
            }
        }
    }

    /// It did not answer at once, and had no time for more.
    pub(super) fn is_slow(&mut self) {
        if self.acquaintance == Acquaintance::New {
            self.acquaintance = Acquaintance::Failed;
        }
    }

    /// The operator wants it tried now.
    pub(super) fn forgive(&mut self) {
        if self.acquaintance == Acquaintance::Failed {
            self.acquaintance = Acquaintance::New;
        }
        self.rest_is_over();
    }

    /// An attempt that failed before anything was said.
    pub(super) fn failed(&mut self, feedback: &Feedback, trial: Trial, retry: &Retry, now: Timestamp) {
        let Trial { began, served } = trial;
        let (cause, needed, first) = match feedback {
            Feedback::TurnedAway(cause) => (cause, 1, retry.first.min(TURNED_AWAY_FIRST)),
            Feedback::Silent(cause) => (cause, 1, retry.first),
            Feedback::Refused(cause) => (cause, REFUSALS, retry.first),
            Feedback::Took | Feedback::Answered | Feedback::WantsLess | Feedback::Unknown => return,
        };
        if served > 0 {
            // It is there for others of ours: one too many.
            if matches!(feedback, Feedback::TurnedAway(_)) {
                self.window.refused_one_more(served, now);
            } else {
                self.window.troubled(began, now);
            }
            return;
        }
        // A connection that was begun before the relay backed off says nothing new.
        if self.rest(now).is_some_and(|rest| began <= rest.since) {
            return;
        }
        self.window.troubled(began, now);
        self.acquaintance = Acquaintance::Failed;
        self.failures = self.failures.saturating_add(1);
        if self.failures >= needed {
            let doublings = (self.failures - needed).min(MOST_DOUBLINGS);
            let wait = first.saturating_mul(1 << doublings).min(retry.longest);
            self.rest = Some(Rest { cause: cause.clone(), since: now, until: now.plus(wait) });
        }
    }

    /// When the next message may go under a rate; at once where that is not later than `now`.
    pub(super) fn paced(&self, rate: Option<Rate>, now: Timestamp) -> Option<Timestamp> {
        let rate = rate?;
        // A clock that was set back makes no wait longer than the rate does.
        let at = self.next_at(rate).min(now.plus(rate.interval()));
        (at > now).then_some(at)
    }

    /// A message goes now.
    pub(super) fn goes(&mut self, rate: Option<Rate>, now: Timestamp) {
        if let Some(rate) = rate {
            let next_at = self.next_at(rate);
            // Who comes a little late, because timers do, does not slow the others down.
            let on_time = now >= next_at && now.since(next_at) < LATENESS;
            self.went_at = if on_time { next_at } else { now };
        }
    }

    /// By the rate of now, which may be another one than that of the last message.
    fn next_at(&self, rate: Rate) -> Timestamp {
        self.went_at.plus(rate.interval())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::deliver::hosts::window::Ceiling;
    use crate::outcome::{Peer, Phase};
    use crate::spool::cluster::NodeShare;

    fn retry() -> Retry {
        let (first, longest) = (Duration::from_secs(100), Duration::from_secs(350));
        Retry { first, longest, expire_after: Duration::from_secs(86_400) }
    }

    fn trial(began: Timestamp, served: usize) -> Trial {
        Trial { began, served }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp(second * 1000)
    }

    fn peer() -> Peer {
        Peer { host: "mx".into(), address: "192.0.2.1:25".parse().unwrap() }
    }

    fn silent() -> Feedback {
        Feedback::Silent(Cause::TimedOut { peer: peer(), phase: Phase::Greeting })
    }

    fn refused() -> Feedback {
        Feedback::Refused(Cause::ConnectFailed { peer: peer(), detail: "refused".into() })
    }

    fn until(record: &Record, now: i64) -> Option<i64> {
        record.rest(at(now)).map(|rest| rest.until.0 / 1000)
    }

    #[test]
    fn a_silent_host_is_known_after_the_first_silence_and_the_wait_grows() {
        let mut record = Record::default();
        let mut now = 0;
        for wait in [100, 200, 350, 350] {
            record.failed(&silent(), trial(at(now), 0), &retry(), at(now));
            assert_eq!(until(&record, now), Some(now + wait));
            now += wait;
            assert_eq!(until(&record, now), None, "one tries");
        }
        record.answered(at(now));
        record.failed(&silent(), trial(at(now), 0), &retry(), at(now));
        assert_eq!(until(&record, now), Some(now + 100), "it had answered");
    }

    const NONE: OwnConnections = OwnConnections { at_work: 0, served: 0 };

    #[test]
    fn a_host_that_is_silent_to_one_relay_is_left_by_the_others_for_as_long() {
        let (mut one, mut two) = (Record::default(), Record::default());
        one.failed(&silent(), trial(at(0), 0), &retry(), at(10));
        two.hear(1, one.report(at(11)), NONE);
        assert_eq!(until(&two, 12), Some(110));
        assert_eq!(two.report(at(12)).rest, None, "what was heard is not told again");
        // The next silence is the second for both.
        two.failed(&silent(), trial(at(110), 0), &retry(), at(110));
        assert_eq!(until(&two, 110), Some(310));
        one.answered(at(111));
        two.answered(at(112));
        assert_eq!(until(&two, 112), None);
        // What was said before the answer comes late.
        let rest = Some(Rest {
            cause: Cause::TimedOut { peer: peer(), phase: Phase::Greeting },
            since: at(100),
            until: at(900),
        });
        two.hear(1, HostExperience { rest: rest.clone(), ..one.report(at(113)) }, NONE);
        assert_eq!(until(&two, 113), None);
        let mut served = Record::default();
        served.hear(1, HostExperience { rest, ..one.report(at(113)) }, OwnConnections { at_work: 1, served: 1 });
        assert_eq!(until(&served, 113), None, "it serves this one");
    }

    #[test]
    fn one_that_answers_again_elsewhere_is_tried_here() {
        let (mut one, mut two, mut three) = (Record::default(), Record::default(), Record::default());
        one.failed(&silent(), trial(at(0), 0), &retry(), at(10));
        three.failed(&silent(), trial(at(0), 0), &retry(), at(20));
        two.hear(1, one.report(at(21)), NONE);
        two.hear(3, three.report(at(21)), NONE);
        assert_eq!(until(&two, 22), Some(120), "the longer one");
        one.answered(at(30));
        two.hear(1, one.report(at(30)), NONE);
        assert_eq!(until(&two, 31), Some(120), "it is another one that waits");
        three.answered(at(31));
        two.hear(3, three.report(at(32)), NONE);
        assert_eq!(until(&two, 33), None);
    }

    #[test]
    fn one_refusal_may_be_chance_and_three_are_none() {
        let mut record = Record::default();
        for now in 0..2 {
            record.failed(&refused(), trial(at(now), 0), &retry(), at(now));
            assert_eq!(until(&record, now), None);
        }
        record.failed(&refused(), trial(at(2), 0), &retry(), at(2));
        assert_eq!(until(&record, 2), Some(102));
    }

    #[test]
    fn connections_that_were_begun_before_say_nothing_new() {
        let mut record = Record::default();
        record.failed(&silent(), trial(at(0), 0), &retry(), at(30));
        for _ in 0..40 {
            record.failed(&silent(), trial(at(0), 0), &retry(), at(31));
        }
        assert_eq!(until(&record, 31), Some(130));
    }

    #[test]
    fn a_host_that_serves_others_of_ours_is_not_left_for_one_that_it_did_not() {
        let mut record = Record::default();
        record.answered(at(0));
        record.failed(&silent(), trial(at(0), 3), &retry(), at(30));
        assert_eq!(
            (until(&record, 30), record.window.limit(Ceiling { most: 40, share: NodeShare::ALONE }, at(30))),
            (None, 2)
        );
        assert_eq!(record.acquaintance, Acquaintance::Answers);
    }

    #[test]
    fn a_clock_that_was_set_back_makes_no_wait_longer() {
        let mut record = Record::default();
        record.failed(&silent(), trial(at(1000), 0), &retry(), at(1000));
        assert_eq!(until(&record, 10), None);
        let rate = Some(Rate::try_from("1/m".to_owned()).unwrap());
        record.goes(rate, at(1000));
        assert_eq!(record.paced(rate, at(1010)), Some(at(1060)));
        assert_eq!(record.paced(rate, at(10)), Some(at(70)));
    }

    #[test]
    fn a_rate_spreads_messages_evenly() {
        let (mut record, rate) = (Record::default(), Some(Rate::try_from("60/m".to_owned()).unwrap()));
        let mut gone = 0;
        for ms in (0..10_000).step_by(100) {
            if record.paced(rate, Timestamp(ms)).is_none() {
                record.goes(rate, Timestamp(ms));
                gone += 1;
            }
        }
        assert_eq!(gone, 10);
        assert_eq!(record.paced(None, at(0)), None);
    }
}
