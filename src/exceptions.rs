//! Weakenings by the operator end by themselves: on their day, and as soon as the domains they
//! were made for are found in good order without them.
//!
//! What "in good order" means is what `relay check` means by OK: every server of every domain the
//! destination names, under the policies that would hold without the weakening. A destination
//! that names domains by a pattern ends on its day only.

use crate::check::{Checker, Verdict};
use crate::config::{Config, Destination, DomainPattern};
use crate::observe::Observer;
use crate::outcome::ExceptionInForce;
use crate::pipeline::outbound::Outbound;
use crate::smtp::address::Domain;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether a day is over; also how soon after the start domains are tried.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Every how many looks the domains are tried without their weakening: hourly.
const LOOKS_PER_TRIAL: usize = 60;

/// Shows which weakenings are in force, and ends those that nothing needs any more, until `stop`.
pub async fn watch(out: Outbound, observer: Arc<Observer>, stop: CancellationToken) {
    let mut before = BTreeMap::new();
    for look in 0_usize.. {
        tell_changes(&out, &observer, &mut before);
        if stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_none() {
            return;
        }
        if look % LOOKS_PER_TRIAL == 0 && stop.run_until_cancelled(Box::pin(end_needless(&out))).await.is_none() {
            return;
        }
    }
}

/// The weakenings in force now, by the place of their destination.
fn in_force(out: &Outbound) -> BTreeMap<usize, ExceptionInForce> {
    let destinations = &out.config.destination;
    let now = out.clock.now();
    let exception = |index| Some((index, out.exceptions.rule(now, Some(index), destinations).exception?));
    (0..destinations.len()).filter_map(exception).collect()
}

fn tell_changes(out: &Outbound, observer: &Observer, before: &mut BTreeMap<usize, ExceptionInForce>) {
    let now = in_force(out);
    let domains = |index: &usize| out.config.destination.get(*index).map(named).unwrap_or_default();
    for (index, exception) in &now {
        if !before.contains_key(index) {
            observer.exception_changed(&domains(index), exception, "is in force");
        }
    }
    for (index, exception) in before.iter() {
        if !now.contains_key(index) {
            observer.exception_changed(&domains(index), exception, "is over; remove it from the configuration");
        }
    }
    observer.exceptions(&now.values().cloned().collect::<Vec<_>>());
    *before = now;
}

fn named(destination: &Destination) -> String {
    destination.domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Tries every weakened destination without its weakening, and ends the weakening where all of
/// its domains come out clean.
pub async fn end_needless(out: &Outbound) {
    for index in in_force(out).into_keys() {
        let Some(domains) = out.config.destination.get(index).and_then(exact_domains) else { continue };
        let Some(checker) = strict(out, index) else { continue };
        let mut all_clean = true;
        for domain in &domains {
            all_clean &= checker.check(domain).await.verdict == Verdict::Ok;
        }
        if all_clean {
            out.exceptions.end(index);
        }
    }
}

/// The domains of a destination, when it names every one of them.
fn exact_domains(destination: &Destination) -> Option<Vec<Domain>> {
    let exact = |pattern: &DomainPattern| match pattern {
        DomainPattern::Exactly(domain) => Some(domain.clone()),
        DomainPattern::Any | DomainPattern::Below(_) => None,
    };
    destination.domains.iter().map(exact).collect()
}

/// A checker for which one destination weakens nothing.
fn strict(out: &Outbound, index: usize) -> Option<Checker> {
    let mut config = Config::clone(&out.config);
    let destination = config.destination.get_mut(index)?;
    destination.report_only = false;
    destination.tls = destination.tls.filter(|level| !level.weakens());
    Some(Checker::over(Outbound { config: Arc::new(config), ..out.clone() }))
}
