//! A running relay looks at its own host, as `relay check --self` does.

use crate::check::{history, selfcheck};
use crate::observe::Observer;
use crate::pipeline::outbound::Outbound;
use crate::state_dir;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How soon after the start of a relay its host is looked at: mail that has waited goes first.
const FIRST_AFTER: Duration = Duration::from_secs(10);
/// How often it is looked at from then on.
const EVERY: Duration = Duration::from_secs(3600);
/// How often it is told how the ways to the DNS stand: what was lost grows old without a look-up.
const STANDINGS_EVERY: Duration = Duration::from_secs(60);

/// Looks at this host until `stop`, so that the alarm comes before the first user's call.
pub async fn watch(out: Outbound, observer: Arc<Observer>, stop: CancellationToken) {
    tokio::join!(watch_standings(&out, &stop), watch_host(&out, &observer, &stop));
}

async fn watch_standings(out: &Outbound, stop: &CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(STANDINGS_EVERY)).await.is_some() {
        out.dns.tell_standings();
    }
}

async fn watch_host(out: &Outbound, observer: &Observer, stop: &CancellationToken) {
    let mut wait = FIRST_AFTER;
    while stop.run_until_cancelled(tokio::time::sleep(wait)).await.is_some() {
        let Some(seen) = stop.run_until_cancelled(Box::pin(selfcheck::look(out))).await else { return };
        for one in &seen {
            observer.self_check(one.check, one.number(), &one.detail);
        }
        history::add(state_dir::open(&out.config.spool).as_ref(), out.dns.tlsa_counts());
        wait = EVERY;
    }
}
