//! The audit that a running relay makes of itself: the rows every minute and everything every hour,
//! and every minute too while something is wrong. It works for a small part of the time and rests for
//! the rest.

use crate::config::SpoolConfig;
use crate::observe::Observer;
use crate::spool::audit::{Audit, Depth};
use crate::spool::ledger::LedgerError;
use crate::spool::open_ledger;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// From the end of one look at the rows to the begin of the next.
const EVERY: Duration = Duration::from_secs(60);

/// After so many looks at the rows comes one at everything.
const ROWS_BEFORE_EVERYTHING: u32 = 60;

/// A rest after each piece of work, as a multiple of it: a tenth of one core, and of the disk.
const REST: u32 = 9;

/// Audits the spool of a running relay until it stops, and tells the observer.
pub(super) async fn watch(spool: SpoolConfig, observer: Arc<Observer>, stop: CancellationToken) {
    let _stopped = stop.run_until_cancelled(keep_auditing(spool, observer)).await;
}

async fn keep_auditing(spool: SpoolConfig, observer: Arc<Observer>) {
    let mut all_well = true;
    for round in 0_u32.. {
        // What only a look at everything finds must neither be forgotten by the next look at the
        // rows nor be told of for an hour after it was put right.
        let full = round % ROWS_BEFORE_EVERYTHING == 0 || !all_well;
        let depth = if full { Depth::Everything } else { Depth::Rows };
        match at_leisure(&spool, depth).await {
            Ok(audit) => {
                observer.audited(&audit.findings, audit.sum.unaccounted);
                all_well = audit.sum.unaccounted == 0;
            }
            Err(error) => observer.spool_failed("audit", &error),
        }
        tokio::time::sleep(EVERY).await;
    }
}

async fn at_leisure(spool: &SpoolConfig, depth: Depth) -> Result<Audit, LedgerError> {
    let mut run = open_ledger(spool).await?.audit(depth).await?;
    loop {
        let began = Instant::now();
        if let ControlFlow::Break(audit) = run.step().await? {
            return Ok(audit);
        }
        tokio::time::sleep(began.elapsed().saturating_mul(REST)).await;
    }
}
