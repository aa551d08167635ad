//! Suspensions that all relays know which share a spool: whom the operator suspends at one of them gets in at none.

use crate::accept::suspended::{self, Suspensions};
use crate::clock::Timestamp;
use crate::service::generation::Service;
use crate::service::order::{ControlReply, Request};
use crate::spool::{Lease, SpoolError};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// From one look at what the others have suspended to the next.
const LOOK_EVERY: Duration = Duration::from_secs(3);

/// Tries of an order, where others change the same at the same time.
const MOST_TRIES: usize = 5;

/// What an order has brought.
struct SuspensionOrder {
    answer: ControlReply,
    changed: bool,
    /// All of them afterwards, for the others.
    shared: Vec<u8>,
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
pub(super) async fn order(service: &Service, request: &Request, now: Timestamp) -> ControlReply {
    let failed = |error: String| ControlReply::Failed { error };
    let spool = Arc::clone(&service.pipeline().spool);
    for _ in 0..MOST_TRIES {
        let before = match spool.shared_state(suspended::NAME).await {
            Ok(state) => state,
            Err(error) => return failed(error.to_string()),
        };
        let (revision, value) = before.map(|state| (state.revision, state.value)).unzip();
        let (suspensions, request) = (service.acceptor().suspensions(), request.clone());
        let done = tokio::task::spawn_blocking(move || carry_out(&suspensions, value, request, now)).await;
        let SuspensionOrder { answer, changed, shared } = match done {
            Ok(Ok(order)) => order,
            Ok(Err(why)) => return failed(why),
            Err(panicked) => return failed(panicked.to_string()),
        };
        if !changed {
            return answer;
        }
        match spool.share_state(suspended::NAME, &shared, revision).await {
            Ok(()) => return answer,
            Err(SpoolError::Fenced) => {}
            Err(error) => return failed(format!("it is so at this relay, and the others do not know it: {error}")),
        }
    }
    failed("other relays change what is suspended at the same time: say it again".to_owned())
}

fn carry_out(
    suspensions: &Suspensions,
    of_all: Option<Vec<u8>>,
    request: Request,
    now: Timestamp,
) -> Result<SuspensionOrder, String> {
    if let Some(of_all) = of_all {
        suspensions.take_over(&of_all)?;
    }
    let changed = match request {
        Request::Suspend { suspension } => suspensions.suspend(suspension, now).map(|()| true)?,
        Request::Resume { kind, name } => suspensions.resume(kind, &name, now)?,
        Request::Status
        | Request::Reload
        | Request::Settings
        | Request::Suspended
        | Request::Drain
        | Request::LogLevel { .. }
        | Request::SendTlsReports { .. }
        | Request::Act { .. } => false,
    };
    let answer = ControlReply::Suspended { suspended: suspensions.now(now), changed };
    Ok(SuspensionOrder { answer, changed, shared: suspensions.shared()? })
}
