//! A running relay looks at its own host, as `relay check --self` does.

use super::successive::by_each;
use crate::check::{history, selfcheck};
use crate::pipeline::{Pipeline, Pipelines};
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

/// Looks at this host until `stop`, so that the alarm comes before the first user's call: soon after the
/// start and after each reload, and every hour.
pub(in crate::service) async fn watch(pipelines: Pipelines, stop: CancellationToken) {
    tokio::join!(
        watch_standings(pipelines.clone(), &stop),
        by_each(pipelines.clone(), stop.clone(), watch_canary),
        by_each(pipelines, stop.clone(), watch_host)
    );
}

/// Five questions now and then: a box on the way to the DNS shows before mail meets it.
async fn watch_canary(pipeline: Arc<Pipeline>) {
    let config = &pipeline.out.config.check;
    if config.canary.is_none() {
        return;
    }
    loop {
        tokio::time::sleep(config.canary_every).await;
        let seen = Box::pin(selfcheck::look_at_canary(&pipeline.out)).await;
        pipeline.observer.self_check(seen.check, seen.number(), &seen.detail);
    }
}

async fn watch_standings(pipelines: Pipelines, stop: &CancellationToken) {
    while stop.run_until_cancelled(tokio::time::sleep(STANDINGS_EVERY)).await.is_some() {
        let pipeline = Arc::clone(&pipelines.borrow());
        pipeline.out.dns.tell_standings();
    }
}

async fn watch_host(pipeline: Arc<Pipeline>) {
    let (out, observer) = (&pipeline.out, &pipeline.observer);
    let mut wait = FIRST_AFTER;
    loop {
        tokio::time::sleep(wait).await;
        let seen = Box::pin(selfcheck::look(out)).await;
        for one in &seen {
            observer.self_check(one.check, one.number(), &one.detail);
        }
        history::add(state_dir::open(&out.config.spool).as_ref(), out.dns.tlsa_counts());
        wait = EVERY;
    }
}
