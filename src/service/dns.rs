//! The ways to the DNS of a relay that runs: made at the start and when their configuration changes, looked
//! at in the background, and doubted where the operator's own names cannot be found.

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DnsMode};
use crate::deliver::egress::store::EgressStore;
use crate::observe::Observer;
use crate::pipeline::Pipeline;
use crate::resolve::driver::Dns;
use crate::resolve::event::DnsEvent;
use crate::resolve::own_hop;
use crate::service::error::StartError;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use tokio_util::sync::CancellationToken;

/// The ways to the DNS, and whether they are those that count.
pub(super) struct DnsSide {
    /// The ways.
    pub dns: Arc<Dns>,
    speaks: Arc<AtomicBool>,
}

impl DnsSide {
    /// They count from now on.
    pub(super) fn speaks(&self) {
        self.speaks.store(true, Ordering::SeqCst);
    }

    /// Others count from now on. Look-ups that are under way end by these, and nobody hears any more how
    /// the paths are.
    pub(super) fn is_over(&self) {
        self.speaks.store(false, Ordering::SeqCst);
    }
}

/// The ways of the start. Where upstreams must validate, they show it before anything is accepted.
///
/// # Errors
/// When they cannot be set up, or do not validate.
pub(in crate::service) async fn open(
    config: &Config,
    clock: &Clock,
    observer: &Arc<Observer>,
) -> Result<DnsSide, StartError> {
    let side = made(config, clock, observer)?;
    side.speaks();
    validates(&side, config).await?;
    Ok(side)
}

/// Other ways, where a configuration wants others than those before.
///
/// # Errors
/// As [`open`].
pub(in crate::service) async fn succeeding(
    before: &DnsSide,
    pipeline: &Pipeline,
    config: &Config,
) -> Result<Option<DnsSide>, StartError> {
    if before.dns.is_alike(&pipeline.out.config, config)? {
        return Ok(None);
    }
    let side = made(config, &pipeline.out.clock, &pipeline.observer)?;
    validates(&side, config).await?;
    Ok(Some(side))
}

async fn validates(side: &DnsSide, config: &Config) -> Result<(), StartError> {
    match config.dns.mode {
        DnsMode::TrustAd => Ok(side.dns.probe().await?),
        DnsMode::Validate => Ok(()),
    }
}

fn made(config: &Config, clock: &Clock, observer: &Arc<Observer>) -> Result<DnsSide, StartError> {
    let (observer, speaks) = (Arc::clone(observer), Arc::new(AtomicBool::new(false)));
    let is_heard = Arc::clone(&speaks);
    let listener = move |event: &DnsEvent<'_>| {
        let is_of_paths =
            matches!(event, DnsEvent::PathChanged { .. } | DnsEvent::Probed { .. } | DnsEvent::SystemChanged { .. });
        if !is_of_paths || is_heard.load(Ordering::SeqCst) {
            observer.dns(event);
        }
    };
    Ok(DnsSide { dns: Arc::new(Dns::new(config, clock.clone(), Arc::new(listener))?), speaks })
}

/// Names bad upstreams, and says what is probably not meant like this. Nobody waits for that: upstreams and
/// the next hops that the operator names may be unreachable.
pub(in crate::service) async fn look_around(
    dns: Arc<Dns>,
    config: Arc<Config>,
    observer: Arc<Observer>,
    stop: CancellationToken,
) {
    let probing = Arc::clone(&dns);
    let until = stop.clone();
    tokio::spawn(async move { until.run_until_cancelled(probing.probe()).await });
    config.dns.private_zones.iter().for_each(|zone| observer.private_zone(zone));
    EgressStore::doubts(&config).iter().for_each(|doubt| observer.doubt(doubt));
    if let Some(doubts) = stop.run_until_cancelled(own_hop::doubts(&dns, &config)).await {
        doubts.iter().for_each(|doubt| observer.doubt(doubt));
    }
}

/// What is probably wrong with values, at this time.
pub(in crate::service) fn doubt_values(config: &Config, observer: &Observer, now: Timestamp) {
    config.doubts(now).iter().for_each(|doubt| observer.doubt(doubt));
}
