//! The operator's rule for a destination, as it holds at one moment.
//!
//! A weakening ends by itself: after its last day, or once the destination has been found clean
//! without it ([`Exceptions`]). Then the route stays and the weakening is gone.

use crate::clock::Timestamp;
use crate::config::{Destination, TlsLevel, Weakening};
use crate::outcome::ExceptionInForce;
use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

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

/// Which weakenings ended before their day, because nothing needs them any more.
#[derive(Debug, Default)]
pub struct Exceptions {
    ended: Mutex<BTreeSet<usize>>,
}

impl Exceptions {
    /// Ends the weakening of a destination, given by its place in the configuration; whether it
    /// had not ended before.
    pub fn end(&self, index: usize) -> bool {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner).insert(index)
    }

    /// The rule of a destination at `now`; the default one where there is no destination.
    #[must_use]
    pub fn rule(&self, now: Timestamp, index: Option<usize>, destinations: &[Destination]) -> LocalRule {
        let destination = index.and_then(|index| Some((index, destinations.get(index)?)));
        let Some((index, destination)) = destination else { return LocalRule::default() };
        let has_ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner).contains(&index);
        let weakening = destination.weakening().filter(|weakening| !has_ended && now < weakening.until.end());
        LocalRule::under(destination, weakening)
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
        assert!(exceptions.end(0));
        assert!(!exceptions.end(0));
        assert_eq!(exceptions.rule(Timestamp(0), Some(0), &destinations), LocalRule::default());
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
