//! `relay audit`, and the audit that a running relay makes of itself.
//!
//! Exit codes: 0 when every accepted recipient is accounted for, 2 when not. The JSON form is
//! stable. Beside a relay that serves, the rows are looked at every minute and everything every
//! hour, and every minute too while something is wrong; it works for a small part of the time and
//! rests for the rest.

use crate::config::SpoolConfig;
use crate::observe::Observer;
use crate::spool::audit::{Audit, Depth, Finding};
use crate::spool::ledger::{Ledger, LedgerError};
use crate::spool::open_ledger;
use crate::text::{counted, paragraph};
use std::collections::BTreeSet;
use std::fmt::Write as _;
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

/// Addresses printed for one finding.
const MOST_ADDRESSES: usize = 5;

/// Where the words of the sum begin.
const COLUMN: usize = 16;

/// Audits a spool as fast as it goes.
///
/// # Errors
/// When the ledger cannot be read.
pub async fn audit(ledger: &dyn Ledger, depth: Depth) -> Result<Audit, LedgerError> {
    let mut run = ledger.audit(depth).await?;
    loop {
        if let ControlFlow::Break(audit) = run.step().await? {
            return Ok(audit);
        }
    }
}

/// The exit code.
#[must_use]
pub const fn exit_code(audit: &Audit) -> u8 {
    if audit.sum.unaccounted == 0 { 0 } else { 2 }
}

/// For people.
#[must_use]
pub fn text(audit: &Audit) -> String {
    let sum = &audit.sum;
    let mut text = String::new();
    for (label, count, words) in [
        ("accepted", sum.accepted, format!("recipients of {}", counted(sum.messages, "message"))),
        ("= delivered", sum.delivered, "taken over by a next hop".to_owned()),
        ("+ told", sum.told, "failed, and a report says so".to_owned()),
        ("+ suppressed", sum.suppressed, "failed, and a rule says that nobody is told".to_owned()),
        ("+ removed", sum.removed, "by the operator".to_owned()),
        ("+ queued", sum.queued, "waiting".to_owned()),
        ("+ unaccounted", sum.unaccounted, "must be 0".to_owned()),
    ] {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{label:COLUMN$}{count:>10}  {words}");
    }
    for finding in &audit.findings {
        text.push('\n');
        text.push_str(&paragraph(&finding.id.to_string(), &words(finding), COLUMN));
    }
    let faults: BTreeSet<_> = audit.findings.iter().map(|finding| finding.fault).collect();
    if !faults.is_empty() {
        text.push_str("\nWhat to do\n");
    }
    for fault in faults {
        text.push('\n');
        text.push_str(&paragraph("", &format!("Where {}: {}", fault.words(), fault.advice()), 2));
    }
    text
}

fn words(finding: &Finding) -> String {
    let Finding { fault, recipients, addresses, .. } = finding;
    let named = addresses.iter().take(MOST_ADDRESSES).cloned().collect::<Vec<_>>().join(", ");
    let more = if addresses.len() > MOST_ADDRESSES { ", ..." } else { "" };
    let colon = if named.is_empty() { "" } else { ": " };
    format!("{} ({}{colon}{named}{more})", fault.words(), counted(*recipients, "recipient"))
}

/// Audits the spool of a running relay until it stops, and tells the observer.
pub async fn watch(spool: SpoolConfig, observer: Arc<Observer>, stop: CancellationToken) {
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
