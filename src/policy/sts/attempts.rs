//! What was tried lately, so that nothing is tried again too soon (pure): after a fetch the same
//! id of the same domain waits five minutes (RFC 8461 §3.3). Another id is fetched at once, as it
//! announces another policy; but a domain has a budget, whatever its record says each time.

use super::failure::FetchFailure;
use super::record::PolicyId;
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use std::collections::BTreeMap;
use std::time::Duration;

/// How long a fetch is not repeated (RFC 8461 §3.3: at least five minutes).
pub(super) const BACK_OFF: Duration = Duration::from_secs(300);
/// Fetches for one domain in that time: the one that is due, and two changes of mind.
const FETCHES: usize = 3;
/// Questions past the cache of the DNS for one domain in that time.
const QUESTIONS: usize = 10;
/// Domains remembered; who would need more than these in five minutes may try again sooner.
const DOMAINS_KEPT: usize = 10_000;
/// When there are more, so many of them are let go at once, those first that were tried longest ago.
const LET_GO: usize = DOMAINS_KEPT / 16;

/// How a fetch ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum FetchEnd {
    Fetched,
    Failed(FetchFailure),
}

/// Why a fetch is not repeated now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LastFetch {
    /// How the one before ended.
    pub(super) attempt: FetchEnd,
    /// Whether the domain has used its budget up.
    pub(super) spent: bool,
}

/// What was done for a domain in the last five minutes.
#[derive(Default)]
struct Lately {
    fetches: Vec<(Timestamp, Option<PolicyId>, FetchEnd)>,
    questions: Vec<Timestamp>,
}

impl Lately {
    /// A clock that has gone back makes an attempt one that never was.
    fn forget(&mut self, now: Timestamp) {
        let is_late = |at: &Timestamp| *at <= now && now < at.plus(BACK_OFF);
        self.fetches.retain(|(at, _, _)| is_late(at));
        self.questions.retain(is_late);
    }

    fn last(&self) -> Option<Timestamp> {
        self.fetches.iter().map(|(at, _, _)| *at).chain(self.questions.iter().copied()).max()
    }
}

/// The attempts of the last five minutes.
#[derive(Default)]
pub(super) struct Attempts {
    by_domain: BTreeMap<Domain, Lately>,
}

impl Attempts {
    /// How the last attempt ended, while it is too soon for another.
    pub(super) fn lately(&mut self, domain: &Domain, id: Option<&PolicyId>, now: Timestamp) -> Option<LastFetch> {
        let lately = self.by_domain.get_mut(domain)?;
        lately.forget(now);
        let spent = lately.fetches.len() >= FETCHES;
        let same = lately.fetches.iter().rev().find(|(_, tried, _)| tried.as_ref() == id);
        let other = || {
            let fetched = lately.fetches.iter().find(|(_, _, attempt)| *attempt == FetchEnd::Fetched);
            fetched.or_else(|| lately.fetches.last()).filter(|_| spent)
        };
        same.or_else(other).map(|(_, _, attempt)| LastFetch { attempt: attempt.clone(), spent })
    }

    pub(super) fn note(&mut self, domain: &Domain, id: Option<PolicyId>, attempt: FetchEnd, now: Timestamp) {
        let lately = self.of(domain, now);
        lately.fetches.push((now, id, attempt));
        // Whoever fetches without asking first (an operator) is counted as well.
        let more = lately.fetches.len().saturating_sub(FETCHES);
        lately.fetches.drain(..more);
    }

    /// Whether the DNS may be asked past its cache once more; counted when it may.
    pub(super) fn may_ask(&mut self, domain: &Domain, now: Timestamp) -> bool {
        let lately = self.of(domain, now);
        let may = lately.questions.len() < QUESTIONS;
        if may {
            lately.questions.push(now);
        }
        may
    }

    fn of(&mut self, domain: &Domain, now: Timestamp) -> &mut Lately {
        if self.by_domain.len() >= DOMAINS_KEPT && !self.by_domain.contains_key(domain) {
            self.make_room(now);
        }
        let lately = self.by_domain.entry(domain.clone()).or_default();
        lately.forget(now);
        lately
    }

    fn make_room(&mut self, now: Timestamp) {
        self.by_domain.retain(|_, lately| {
            lately.forget(now);
            lately.last().is_some()
        });
        if self.by_domain.len() > DOMAINS_KEPT - LET_GO {
            let mut by_age: Vec<_> =
                self.by_domain.iter().map(|(domain, lately)| (lately.last(), domain.clone())).collect();
            by_age.sort_unstable();
            let more = self.by_domain.len() - (DOMAINS_KEPT - LET_GO);
            by_age.iter().take(more).for_each(|(_, domain)| _ = self.by_domain.remove(domain));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp(1_795_261_468_000).plus(Duration::from_secs(seconds))
    }

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    fn id(id: &str) -> Option<PolicyId> {
        Some(id.to_owned().try_into().unwrap())
    }

    const fn failed() -> FetchEnd {
        FetchEnd::Failed(FetchFailure::TimedOut)
    }

    fn once(attempt: FetchEnd) -> Option<LastFetch> {
        Some(LastFetch { attempt, spent: false })
    }

    fn too_often(attempt: FetchEnd) -> Option<LastFetch> {
        Some(LastFetch { attempt, spent: true })
    }

    #[test]
    fn rfc8461_3_3_the_same_id_waits_five_minutes_and_another_does_not() {
        let mut attempts = Attempts::default();
        let (a, b) = (domain("a.test"), domain("b.test"));
        attempts.note(&a, id("1"), failed(), at(0));
        assert_eq!(attempts.lately(&a, id("1").as_ref(), at(299)), once(failed()));
        assert_eq!(attempts.lately(&a, id("2").as_ref(), at(1)), None);
        assert_eq!(attempts.lately(&b, id("1").as_ref(), at(1)), None);
        assert_eq!(attempts.lately(&a, id("1").as_ref(), at(300)), None);
    }

    #[test]
    fn rfc8461_3_3_a_domain_has_a_budget_whatever_its_record_says() {
        let mut attempts = Attempts::default();
        let a = domain("a.test");
        let mut fetches = 0;
        for message in 0..100 {
            let id = id(&message.to_string());
            if attempts.lately(&a, id.as_ref(), at(message)).is_none() {
                fetches += 1;
                attempts.note(&a, id, failed(), at(message));
            }
        }
        assert_eq!(fetches, 3);
        assert_eq!(attempts.lately(&a, id("x").as_ref(), at(99)), too_often(failed()));
        assert_eq!(attempts.lately(&a, id("x").as_ref(), at(300)), None, "then one more for each that is over");
    }

    #[test]
    fn a_policy_that_was_fetched_for_another_id_is_not_forgotten_when_the_budget_is_spent() {
        let mut attempts = Attempts::default();
        let a = domain("a.test");
        for (number, attempt) in [("1", failed()), ("2", FetchEnd::Fetched), ("3", failed())] {
            attempts.note(&a, id(number), attempt, at(0));
        }
        assert_eq!(attempts.lately(&a, id("4").as_ref(), at(1)), too_often(FetchEnd::Fetched));
    }

    #[test]
    fn a_clock_that_goes_back_allows_an_attempt() {
        let mut attempts = Attempts::default();
        attempts.note(&domain("a.test"), None, failed(), at(1000));
        assert_eq!(attempts.lately(&domain("a.test"), None, at(0)), None);
    }

    #[test]
    fn rfc8461_5_1_questions_past_the_cache_have_a_budget() {
        let mut attempts = Attempts::default();
        let asked = |attempts: &mut Attempts, seconds| {
            (0..100).filter(|_| attempts.may_ask(&domain("a.test"), at(seconds))).count()
        };
        assert_eq!(asked(&mut attempts, 0), QUESTIONS);
        assert!(attempts.may_ask(&domain("b.test"), at(0)));
        assert_eq!(asked(&mut attempts, 300), QUESTIONS);
    }

    #[test]
    fn attempts_are_bounded_and_the_oldest_go_first() {
        let mut attempts = Attempts::default();
        for n in 0..DOMAINS_KEPT as u64 {
            attempts.note(&domain(&format!("d{n}.test")), None, failed(), at(n / 100));
        }
        attempts.note(&domain("new.test"), None, failed(), at(100));
        assert_eq!(attempts.by_domain.len(), DOMAINS_KEPT - LET_GO + 1);
        assert_eq!(attempts.lately(&domain("d0.test"), None, at(100)), None);
        assert!(attempts.lately(&domain(&format!("d{}.test", DOMAINS_KEPT - 1)), None, at(100)).is_some());
    }
}
