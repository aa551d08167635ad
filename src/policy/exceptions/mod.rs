//! The operator's rule for a destination, as it holds at one moment.
//!
//! A weakening ends by itself: after its last day, or once the destination has been found clean
//! without it ([`Exceptions`]). Then the route stays and the weakening is gone, also over a restart
//! (`store.rs`).

pub(crate) mod store;

use crate::clock::Timestamp;
use crate::config::{Destination, TlsLevel, Weakening};
use crate::outcome::ExceptionInForce;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// What the operator demands of, or forgives, one destination now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LocalRule {
    /// The level; without one DANE and MTA-STS decide.
    pub level: Option<TlsLevel>,
    /// Whether policies are only counted.
    pub report_only: bool,
    /// The weakening among these, if there is one.
    pub exception: Option<ExceptionInForce>,
}

impl LocalRule {
    /// What a destination says while `weakening` is in force, or while none is.
    fn under(destination: &Destination, weakening: Option<Weakening<'_>>) -> Self {
        match weakening {
            // A level that demands something outlives the end of a report-only phase.
            None => Self { level: destination.tls.filter(|level| !level.weakens()), ..Self::default() },
            Some(Weakening { kind, reason, until }) => Self {
                level: destination.tls,
                report_only: destination.report_only,
                exception: Some(ExceptionInForce {
                    kind: kind.to_owned(),
                    reason: reason.to_owned(),
                    until: until.to_string(),
                }),
            },
        }
    }
}

/// A weakening as the configuration has it. Whoever changes any of this has made another one, which
/// is in force again.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Exception {
    /// The domains of its destination.
    pub domains: String,
    /// As [`ExceptionInForce::kind`].
    pub kind: String,
    /// Why the operator wants it.
    pub reason: String,
    /// Its last day.
    pub until: String,
}

impl Exception {
    fn of(destination: &Destination) -> Option<Self> {
        let Weakening { kind, reason, until } = destination.weakening()?;
        let domains = destination.domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Some(Self { domains, kind: kind.to_owned(), reason: reason.to_owned(), until: until.to_string() })
    }
}

/// How the weakenings of a configuration stand, in its order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionsStatus {
    /// Those in force.
    pub in_force: Vec<Exception>,
    /// Those that are over, by their day or because nothing needs them.
    pub over: Vec<Exception>,
}

/// The weakenings that nothing needs any more, and since when.
pub type Ended = BTreeMap<Exception, Timestamp>;

/// Which weakenings ended before their day, because nothing needs them any more.
#[derive(Debug, Default)]
pub struct Exceptions {
    ended: Mutex<Ended>,
}

impl Exceptions {
    /// Goes on from what was over before. What the configuration does not have any more is
    /// forgotten: whoever writes it again means it.
    #[must_use]
    pub fn resumed(mut ended: Ended, destinations: &[Destination]) -> Self {
        let configured: BTreeSet<Exception> = destinations.iter().filter_map(Exception::of).collect();
        ended.retain(|exception, _| configured.contains(exception));
        Self { ended: Mutex::new(ended) }
    }

    /// Ends the weakening of a destination; whether it had not ended before.
    pub fn end(&self, destination: &Destination, now: Timestamp) -> bool {
        Exception::of(destination).is_some_and(|exception| {
            let mut ended = self.locked();
            let is_new = !ended.contains_key(&exception);
            ended.entry(exception).or_insert(now);
            is_new
        })
    }

    /// All that ended before their day and are still in the configuration.
    #[must_use]
    pub fn ended(&self) -> Ended {
        self.locked().clone()
    }

    /// How all of them stand at `now`.
    #[must_use]
    pub fn standing(&self, now: Timestamp, destinations: &[Destination]) -> ExceptionsStatus {
        let mut standing = ExceptionsStatus::default();
        for destination in destinations {
            let Some(exception) = Exception::of(destination) else { continue };
            match self.weakening(now, destination) {
                Some(_) => standing.in_force.push(exception),
                None => standing.over.push(exception),
            }
        }
        standing
    }

    /// The rule of a destination at `now`; the default one where there is no destination.
    #[must_use]
    pub fn rule(&self, now: Timestamp, index: Option<usize>, destinations: &[Destination]) -> LocalRule {
        let Some(destination) = index.and_then(|index| destinations.get(index)) else { return LocalRule::default() };
        LocalRule::under(destination, self.weakening(now, destination))
    }

    fn weakening<'a>(&self, now: Timestamp, destination: &'a Destination) -> Option<Weakening<'a>> {
        let exception = Exception::of(destination)?;
        let has_ended = self.locked().contains_key(&exception);
        destination.weakening().filter(|weakening| !has_ended && now < weakening.until.end())
    }

    fn locked(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;
    use std::time::Duration;

    fn destinations(lines: &str) -> Vec<Destination> {
        let text = format!("[[destination]]\ndomains = [\"x.example\"]\n{lines}");
        Config::parse(&text, Path::new("t")).unwrap().destination
    }

    #[test]
    fn a_weakening_ends_with_its_last_day() {
        let destinations = destinations("tls = \"opportunistic\"\nreason = \"old MX\"\nuntil = 2027-01-31");
        let exceptions = Exceptions::default();
        let end = Timestamp(1_801_440_000_000);
        let before = exceptions.rule(Timestamp(end.0 - 1), Some(0), &destinations);
        assert_eq!(before.level, Some(TlsLevel::Opportunistic));
        assert_eq!(before.exception.unwrap().until, "2027-01-31");
        assert_eq!(exceptions.rule(end, Some(0), &destinations), LocalRule::default());
        assert_eq!(exceptions.rule(end.plus(Duration::from_secs(1)), Some(0), &destinations), LocalRule::default());
    }

    #[test]
    fn a_weakening_that_nothing_needs_ends_at_once_and_once() {
        let destinations = destinations("tls = \"off\"\nreason = \"broken STARTTLS\"\nuntil = 2027-01-31");
        let exceptions = Exceptions::default();
        assert!(exceptions.end(&destinations[0], Timestamp(0)));
        assert!(!exceptions.end(&destinations[0], Timestamp(1)));
        assert_eq!(exceptions.ended().into_values().collect::<Vec<_>>(), [Timestamp(0)]);
        let standing = exceptions.standing(Timestamp(0), &destinations);
        assert_eq!((standing.in_force.len(), standing.over.len()), (0, 1));
        assert_eq!(exceptions.rule(Timestamp(0), Some(0), &destinations), LocalRule::default());
    }

    #[test]
    fn what_is_over_stays_so_after_a_restart_until_the_operator_means_it_again() {
        let lines = |until: &str| format!("tls = \"off\"\nreason = \"broken STARTTLS\"\nuntil = {until}");
        let before = destinations(&lines("2027-01-31"));
        let exceptions = Exceptions::default();
        exceptions.end(&before[0], Timestamp(0));
        let restarted = |destinations: &[Destination]| {
            let exceptions = Exceptions::resumed(exceptions.ended(), destinations);
            (exceptions.standing(Timestamp(1), destinations).in_force.len(), exceptions.ended().len())
        };
        assert_eq!(restarted(&before), (0, 1));
        assert_eq!(restarted(&destinations(&lines("2027-02-28"))), (1, 0));
        assert_eq!(restarted(&[]), (0, 0));
    }

    #[test]
    fn after_a_report_only_phase_the_demand_holds() {
        let lines = "tls = \"dane-only\"\nreport_only = true\nreason = \"trial\"\nuntil = 2027-01-31";
        let destinations = destinations(lines);
        let exceptions = Exceptions::default();
        assert!(exceptions.rule(Timestamp(0), Some(0), &destinations).report_only);
        let after = exceptions.rule(Timestamp(i64::MAX), Some(0), &destinations);
        assert_eq!(after, LocalRule { level: Some(TlsLevel::DaneOnly), report_only: false, exception: None });
    }
}
