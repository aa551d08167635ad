//! Suspensions that all relays know which share a spool: whom the operator suspends at one of them gets in at none.

use crate::accept::suspended::{self, Resumption, Suspension, SuspensionRecord, Suspensions};
use crate::clock::Timestamp;
use crate::service::generation::Service;
use crate::spool::{Lease, SpoolError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// From one look at what the others have suspended to the next.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Tries of an order, where others change the same at the same time.
const MOST_TRIES: usize = 5;

/// What is to become of those who may hand nothing in.
#[derive(Clone)]
pub(super) enum SuspensionOrder {
    /// One more.
    Suspend(Suspension),
    /// One less.
    Resume(Resumption),
    /// They stay as they are.
    Look,
}

/// Who is suspended.
#[derive(Debug)]
pub(super) struct SuspendedNow {
    /// All of them.
    pub suspended: Vec<Suspension>,
    /// Who suspended and let in again, the newest first.
    pub records: Vec<SuspensionRecord>,
    /// Whether the order changed something.
    pub changed: bool,
}

/// What an order has brought here, and what the others are to know.
struct SuspensionsShared {
    now: SuspendedNow,
    of_all: Vec<u8>,
}

/// Takes over what others suspend, until the stop.
pub(super) async fn watch(service: Arc<Service>, seen: Option<i64>, stop: CancellationToken) {
    let spool = Arc::clone(&service.pipeline().spool);
    if spool.lease() == Lease::Process {
        return;
    }
    let mut seen = seen;
    while stop.run_until_cancelled(tokio::time::sleep(LOOK_EVERY)).await.is_some() {
        seen = look(&service, seen).await;
    }
}

/// Takes over what others have suspended since. Gives what is known then; what cannot be read now is read later.
pub(super) async fn look(service: &Service, seen: Option<i64>) -> Option<i64> {
    let (pipeline, suspensions) = (service.pipeline(), service.acceptor().suspensions());
    let state = match pipeline.spool.shared_state(suspended::NAME).await {
        Ok(Some(state)) if Some(state.revision) != seen => state,
        Ok(_) | Err(SpoolError::Unreachable(_) | SpoolError::Stopped) => return seen,
        Err(error) => {
            pipeline.observer.spool_failed("read what is suspended", &error);
            return seen;
        }
    };
    let revision = state.revision;
    let taken = tokio::task::spawn_blocking(move || suspensions.take_over(&state.value)).await;
    match taken {
        Ok(Ok(())) => {}
        Ok(Err(why)) => pipeline.observer.spool_failed("take over what is suspended", &why),
        Err(panicked) => pipeline.observer.spool_failed("take over what is suspended", &panicked),
    }
    Some(revision)
}

/// Carries out an order about suspensions, at all relays that share the spool.
///
/// # Errors
/// Why it is not so, or not so everywhere.
pub(super) async fn order(
    service: &Service,
    order: &SuspensionOrder,
    by: &str,
    now: Timestamp,
) -> Result<SuspendedNow, String> {
    let spool = Arc::clone(&service.pipeline().spool);
    for _ in 0..MOST_TRIES {
        let before = spool.shared_state(suspended::NAME).await.map_err(|error| error.to_string())?;
        let (revision, value) = before.map(|state| (state.revision, state.value)).unzip();
        let (suspensions, order, by) = (service.acceptor().suspensions(), order.clone(), by.to_owned());
        let done =
            tokio::task::spawn_blocking(move || carry_out(&suspensions, value, order, By { by: &by, now })).await;
        let SuspensionsShared { now, of_all } = done.map_err(|panicked| panicked.to_string())??;
        if !now.changed {
            return Ok(now);
        }
        match spool.share_state(suspended::NAME, &of_all, revision).await {
            Ok(()) => return Ok(now),
            Err(SpoolError::Fenced) => {}
            Err(error) => return Err(format!("it is so at this relay, and the others do not know it: {error}")),
        }
    }
    Err("other relays change what is suspended at the same time: say it again".to_owned())
}

/// Who gives an order, and when.
#[derive(Clone, Copy)]
struct By<'a> {
    by: &'a str,
    now: Timestamp,
}

fn carry_out(
    suspensions: &Suspensions,
    of_all: Option<Vec<u8>>,
    order: SuspensionOrder,
    By { by, now }: By<'_>,
) -> Result<SuspensionsShared, String> {
    if let Some(of_all) = of_all {
        suspensions.take_over(&of_all)?;
    }
    let changed = match order {
        SuspensionOrder::Suspend(suspension) => suspensions.suspend(suspension, by, now).map(|()| true)?,
        SuspensionOrder::Resume(wanted) => suspensions.resume(wanted, by, now)?,
        SuspensionOrder::Look => false,
    };
    let now = SuspendedNow { suspended: suspensions.now(now), records: suspensions.records(), changed };
    Ok(SuspensionsShared { now, of_all: suspensions.shared()? })
}
