//! The watch of a running relay over the domains that mail goes to: one after the other, at the operator's
//! pace, by what delivery does up to MAIL FROM. No mail is sent, and none is waited for.

use super::successive::by_each;
use crate::check::Checker;
use crate::check::posture::store::{self, WatchedDomain};
use crate::check::posture::{self, PostureKind};
use crate::pipeline::{Pipeline, Pipelines};
use crate::smtp::address::Domain;
use crate::spool::open_ledger;
use crate::state_dir::{self, SmallStore};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

/// How long one domain may take.
const DOMAIN_LIMIT: Duration = Duration::from_secs(120);
/// From one domain to the next at least: nobody is pestered, and mail goes first.
const LEAST_PAUSE: Duration = Duration::from_secs(5);

/// Watches until the stop.
pub(crate) async fn watch(pipelines: Pipelines, stop: CancellationToken) {
    by_each(pipelines, stop, watch_by).await;
}

/// Watches by one configuration; ends only where nothing is to be watched.
async fn watch_by(pipeline: Arc<Pipeline>) {
    let config = &pipeline.out.config.watch;
    if config.domains == 0 {
        return tell(&pipeline, &[]);
    }
    tell(&pipeline, &store::read(keeper(&pipeline).as_ref()));
    let most = u32::try_from(config.domains).unwrap_or(u32::MAX).max(1);
    let pause = (config.every / most).max(LEAST_PAUSE);
    loop {
        tokio::time::sleep(pause).await;
        Box::pin(next(&pipeline)).await;
    }
}

fn keeper(pipeline: &Pipeline) -> Box<dyn SmallStore> {
    state_dir::open(&pipeline.out.config.spool)
}

/// Looks at the domain that was not looked at for longest.
async fn next(pipeline: &Pipeline) {
    let config = &pipeline.out.config;
    let wanted = async { open_ledger(&config.spool).await?.destinations(config.watch.domains).await };
    let wanted = match wanted.await {
        Ok(wanted) => wanted,
        Err(error) => return pipeline.observer.spool_failed("read the domains to watch", &error),
    };
    let keeper = keeper(pipeline);
    let mut all = store::read(keeper.as_ref());
    // Where no mail goes any more nobody is watched.
    all.retain(|known| wanted.iter().any(|domain| domain.as_str() == known.domain));
    let last = |domain: &Domain| all.iter().find(|known| known.domain == domain.as_str()).map(|known| known.at);
    let Some(domain) = wanted.iter().min_by_key(|domain| last(domain)) else { return };
    let Ok(seen) = timeout(DOMAIN_LIMIT, Box::pin(look(pipeline, domain))).await else { return };
    note_news(pipeline, all.iter().find(|known| known.domain == seen.domain), &seen);
    all.retain(|known| known.domain != seen.domain);
    all.push(seen);
    if let Err(error) = store::keep(keeper.as_ref(), &all) {
        pipeline.observer.spool_failed("keep what the watch found", &error);
    }
    tell(pipeline, &all);
}

async fn look(pipeline: &Pipeline, domain: &Domain) -> WatchedDomain {
    let checker = Checker::over(pipeline.out.clone());
    let report = checker.check(domain).await;
    let signatures = checker.signatures(&report).await;
    posture::watched(&report, &signatures, pipeline.out.clock.now())
}

fn note_news(pipeline: &Pipeline, before: Option<&WatchedDomain>, seen: &WatchedDomain) {
    for finding in &seen.findings {
        let is_known = before.is_some_and(|before| before.findings.iter().any(|known| known.kind == finding.kind));
        if !is_known {
            pipeline.observer.watch.found(&seen.domain, finding.kind.word(), &finding.detail);
        }
    }
}

fn tell(pipeline: &Pipeline, all: &[WatchedDomain]) {
    let has = |kind: PostureKind| {
        let domains = all.iter().filter(|known| known.findings.iter().any(|finding| finding.kind == kind));
        (kind.word(), domains.count())
    };
    pipeline.observer.watch.set(all.len(), PostureKind::ALL.into_iter().map(has));
}
