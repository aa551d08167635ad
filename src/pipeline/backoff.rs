//! Next hops that the relay is backing off from, because they could not be reached (RFC 5321 §4.5.4.1).
//!
//! Pure; the pipeline holds one behind a lock. After a few failures in a row nobody dials the
//! next hop until a wait is over, which grows with every further failure; then one message tries
//! for all. Lives in memory alone: after a restart everything may be tried.

use crate::clock::Timestamp;
use crate::config::Retry;
use crate::outcome::{Cause, Phase};
use crate::route::NextHop;
use std::collections::BTreeMap;
use std::time::Duration;

/// Failures in a row after which the relay backs off: one may be chance.
const FAILURES: u32 = 3;

/// How long others wait for the one that tries.
const PROBE_WAIT: Duration = Duration::from_secs(30);

/// After this, whoever tried is thought to be lost, and another one tries. Longer than any
/// conversation may take to the greeting.
const PROBE_LIMIT: Duration = Duration::from_secs(900);

/// Next hops known at once. More are not remembered: each is then dialled for every message, as
/// if there were no memory.
const MOST_HOPS: usize = 100_000;

/// Beyond this many doublings every wait is at its longest; it keeps the shift in range.
const MOST_DOUBLINGS: u32 = 16;

/// What is remembered of next hops that failed.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    hops: BTreeMap<NextHop, HopTrouble>,
}

#[derive(Debug)]
struct HopTrouble {
    failures: u32,
    /// The last real one.
    cause: Cause,
    since: Timestamp,
    until: Timestamp,
    probing_since: Option<Timestamp>,
}

/// Whether a next hop may be dialled.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Leave {
    /// The next hop may be dialled.
    Go,
    /// Not before this moment.
    Wait {
        /// When to ask again.
        until: Timestamp,
        /// The cause of the last failure there.
        cause: Cause,
    },
}

impl Backoff {
    /// Asks for leave to dial; whoever gets it says what came of it.
    pub(super) fn ask(&mut self, hop: &NextHop, now: Timestamp) -> Leave {
        let leave = self.look(hop, now);
        if let (Leave::Go, Some(trouble)) = (&leave, self.hops.get_mut(hop)) {
            trouble.probing_since = Some(now);
        }
        leave
    }

    /// Whether there would be leave now.
    pub(super) fn look(&self, hop: &NextHop, now: Timestamp) -> Leave {
        let Some(trouble) = self.hops.get(hop) else { return Leave::Go };
        // A clock that was set back must not make a wait longer.
        let set_back = now < trouble.since;
        if trouble.failures < FAILURES || set_back {
            return Leave::Go;
        }
        let probed = trouble.probing_since.is_some_and(|since| now >= since && now.since(since) < PROBE_LIMIT);
        let wait = |until| Leave::Wait { until, cause: trouble.cause.clone() };
        if now < trouble.until {
            return wait(trouble.until);
        }
        if probed { wait(now.plus(PROBE_WAIT)) } else { Leave::Go }
    }

    /// The next hop answered, whatever it said.
    pub(super) fn reached(&mut self, hop: &NextHop) {
        self.hops.remove(hop);
    }

    /// The next hop could not be reached.
    pub(super) fn failed(&mut self, hop: &NextHop, cause: Cause, retry: &Retry, now: Timestamp) {
        if self.hops.len() >= MOST_HOPS && !self.hops.contains_key(hop) {
            // What is over for long is of no more use to anybody.
            self.hops.retain(|_, trouble| now.since(trouble.until) < retry.longest);
            if self.hops.len() >= MOST_HOPS {
                return;
            }
        }
        let fresh = HopTrouble { failures: 0, cause: cause.clone(), since: now, until: now, probing_since: None };
        let trouble = self.hops.entry(hop.clone()).or_insert(fresh);
        // Connections that were opened before the wait began say nothing new.
        if trouble.failures < FAILURES || now >= trouble.until || trouble.probing_since.is_some() {
            trouble.failures = trouble.failures.saturating_add(1);
            let doublings = trouble.failures.saturating_sub(FAILURES).min(MOST_DOUBLINGS);
            trouble.until = now.plus(retry.first.saturating_mul(1 << doublings).min(longest(retry)));
            trouble.since = now;
            trouble.probing_since = None;
        }
        trouble.cause = cause;
    }

    /// Whoever had leave to dial did not.
    pub(super) fn not_tried(&mut self, hop: &NextHop) {
        if let Some(trouble) = self.hops.get_mut(hop) {
            trouble.probing_since = None;
        }
    }

    /// The operator wants a next hop dialled now.
    pub(super) fn forget(&mut self, hop: &NextHop) {
        self.hops.remove(hop);
    }

    /// What stopped them all is gone.
    pub(super) fn forget_all(&mut self) {
        self.hops.clear();
    }

    /// Next hops that nobody dials now.
    pub(super) fn count(&self, now: Timestamp) -> usize {
        self.hops.values().filter(|trouble| trouble.failures >= FAILURES && now < trouble.until).count()
    }
}

/// The longest time to back off: those who wait for it come back over a tenth of it, and the last of them
/// still within the longest wait that the operator wants.
fn longest(retry: &Retry) -> Duration {
    retry.longest - retry.longest / 11
}

/// Whether a cause says that a server could not be reached: nothing came back from it.
pub(super) const fn is_unreachable(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::NoRoute { .. }
            | Cause::ConnectFailed { .. }
            // Ours to set right; asking again and again may lock the account.
            | Cause::EgressFailed { .. }
            | Cause::TimedOut { phase: Phase::Connect | Phase::Greeting, .. }
            | Cause::ConnectionLost { phase: Phase::Connect | Phase::Greeting, .. }
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::Peer;

    fn hop(name: &str) -> NextHop {
        NextHop::Domain(name.parse().unwrap())
    }

    fn cause(detail: &str) -> Cause {
        let peer = Peer { host: "mx".into(), address: "192.0.2.1:25".parse().unwrap() };
        Cause::ConnectFailed { peer, detail: detail.into() }
    }

    fn retry() -> Retry {
        let (first, longest) = (Duration::from_secs(100), Duration::from_secs(385));
        Retry { first, longest, expire_after: Duration::from_secs(86_400) }
    }

    fn at(s: i64) -> Timestamp {
        Timestamp(s * 1000)
    }

    fn dead(now: Timestamp) -> Backoff {
        let mut backoff = Backoff::default();
        for detail in ["one", "two", "three"] {
            assert_eq!(backoff.ask(&hop("a.example"), now), Leave::Go);
            backoff.failed(&hop("a.example"), cause(detail), &retry(), now);
        }
        backoff
    }

    #[test]
    fn rfc5321_4_5_4_1_a_dead_next_hop_is_not_dialled_for_each_message() {
        let mut backoff = dead(at(0));
        assert_eq!(backoff.ask(&hop("a.example"), at(99)), Leave::Wait { until: at(100), cause: cause("three") });
        assert_eq!(backoff.ask(&hop("b.example"), at(99)), Leave::Go, "others are not held up");
        assert_eq!((backoff.count(at(99)), backoff.count(at(100))), (1, 0));
        // One tries for all, and the wait grows until those who come back last do so after the longest, 385 s.
        for (now, wait) in [(100, 200), (300, 350), (650, 350)] {
            assert_eq!(backoff.ask(&hop("a.example"), at(now)), Leave::Go);
            assert_eq!(
                backoff.ask(&hop("a.example"), at(now)),
                Leave::Wait { until: at(now + 30), cause: cause("three") }
            );
            backoff.failed(&hop("a.example"), cause("three"), &retry(), at(now));
            assert!(
                matches!(backoff.ask(&hop("a.example"), at(now)), Leave::Wait { until, .. } if until == at(now + wait))
            );
        }
    }

    #[test]
    fn a_next_hop_that_answers_or_that_the_operator_names_is_free_at_once() {
        let mut backoff = dead(at(0));
        backoff.reached(&hop("a.example"));
        assert_eq!(backoff.ask(&hop("a.example"), at(1)), Leave::Go);
        let mut backoff = dead(at(0));
        backoff.forget(&hop("a.example"));
        assert_eq!(backoff.ask(&hop("a.example"), at(1)), Leave::Go);
    }

    #[test]
    fn connections_that_were_open_already_do_not_make_the_wait_longer() {
        let mut backoff = dead(at(0));
        for _ in 0..40 {
            backoff.failed(&hop("a.example"), cause("late"), &retry(), at(1));
        }
        assert_eq!(backoff.ask(&hop("a.example"), at(2)), Leave::Wait { until: at(100), cause: cause("late") });
    }

    #[test]
    fn a_clock_set_back_and_a_lost_probe_do_not_stop_a_next_hop() {
        let mut backoff = dead(at(1000));
        assert_eq!(backoff.ask(&hop("a.example"), at(10)), Leave::Go);
        assert_eq!(backoff.ask(&hop("a.example"), at(1100)), Leave::Go);
        assert!(matches!(backoff.ask(&hop("a.example"), at(1101)), Leave::Wait { .. }));
        assert_eq!(backoff.ask(&hop("a.example"), at(1100 + 901)), Leave::Go);
    }
}
