//! Weakenings by the operator end by themselves: on their day, and as soon as the domains they
//! were made for are found in good order without them.
//!
//! "In good order" is what delivery would do: every server of every domain the destination names takes mail,
//! under the policies that would hold without the weakening. That an answer is slow, or a certificate ends
//! soon, is worth a warning of `relay check` and keeps no weakening alive; where mail depends on a policy that
//! nobody could get hold of, the weakening stays. A destination
//! that names domains by a pattern, or address literals, or certain senders, ends on its day only.

use crate::check::Checker;
use crate::config::{Config, Destination, DomainPattern};
use crate::observe::Observer;
use crate::pipeline::Pipelines;
use crate::pipeline::outbound::Outbound;
use crate::policy::exceptions::Exception;
use crate::policy::exceptions::store;
use crate::smtp::address::Domain;
use crate::state_dir::{self, KeepFault};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether a day is over; also how soon after the start domains are tried.
const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Every how many looks the domains are tried without their weakening: hourly.
const LOOKS_PER_TRIAL: usize = 60;

/// Shows which weakenings are in force, and ends those that nothing needs any more, until `stop`.
pub async fn watch(pipelines: Pipelines, stop: CancellationToken) {
    let _stopped = stop.run_until_cancelled(look_after(pipelines)).await;
}

async fn look_after(mut pipelines: Pipelines) {
    let pipeline = Arc::clone(&pipelines.borrow());
    if let Err(fault) = store::load(state_dir::open(&pipeline.out.config.spool).as_ref()) {
        pipeline.observer.exceptions_unkept(&fault);
    }
    let mut before = BTreeSet::new();
    for look in 0_usize.. {
        let again = tokio::time::sleep(LOOK_EVERY);
        tokio::pin!(again);
        loop {
            let pipeline = Arc::clone(&pipelines.borrow_and_update());
            tell_changes(&pipeline.out, &pipeline.observer, &mut before);
            tokio::select! {
                biased;
                () = &mut again => break,
                reloaded = pipelines.changed() => if reloaded.is_err() {
                    again.await;
                    break;
                }
            }
        }
        if look % LOOKS_PER_TRIAL != 0 {
            continue;
        }
        let pipeline = Arc::clone(&pipelines.borrow());
        if let Err(fault) = Box::pin(end_needless(&pipeline.out)).await {
            pipeline.observer.exceptions_unkept(&fault);
        }
    }
}

fn tell_changes(out: &Outbound, observer: &Observer, before: &mut BTreeSet<Exception>) {
    let standing = out.exceptions_now();
    let now: BTreeSet<Exception> = standing.in_force.iter().cloned().collect();
    for exception in now.difference(before) {
        observer.exception_changed(exception, "is in force");
    }
    for exception in before.difference(&now) {
        observer.exception_changed(exception, "is over; remove it from the configuration");
    }
    observer.exceptions(&standing);
    *before = now;
}

/// Tries every weakened destination without its weakening, and ends the weakening where all of
/// its domains come out clean. That outlives the relay.
///
/// # Errors
/// `KeepFault`; then what has ended has ended until the relay stops.
pub async fn end_needless(out: &Outbound) -> Result<(), KeepFault> {
    let now = out.clock.now();
    let mut has_ended = false;
    for (index, destination) in out.config.destination.iter().enumerate() {
        if out.exceptions.rule(now, Some(index), &out.config.destination).exception.is_none() {
            continue;
        }
        let (Some(domains), Some(checker)) = (exact_domains(destination), strict(out, index)) else { continue };
        let mut all_clean = true;
        for domain in &domains {
            all_clean &= checker.check(domain).await.is_delivered_everywhere();
        }
        has_ended |= all_clean && out.exceptions.end(destination, now);
    }
    if !has_ended {
        return Ok(());
    }
    let (store, all) = (state_dir::open(&out.config.spool), out.exceptions.ended());
    let keeping = tokio::task::spawn_blocking(move || store::keep(store.as_ref(), &all)).await;
    keeping.unwrap_or_else(|bug| Err(KeepFault { path: "exceptions".into(), detail: bug.to_string() }))
}

/// The domains of a destination, when it names every one of them and is about everybody's mail.
fn exact_domains(destination: &Destination) -> Option<Vec<Domain>> {
    if !destination.senders.is_empty() {
        return None;
    }
    let exact = |pattern: &DomainPattern| match pattern {
        DomainPattern::Exactly(domain) => Some(domain.clone()),
        DomainPattern::Any | DomainPattern::Below(_) | DomainPattern::Literals(_) => None,
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
