//! `relay audit`: whether every accepted recipient is accounted for.
//!
//! Exit codes: 0 when each of them is, 2 when not. The JSON form is stable.

use crate::spool::audit::{Audit, AuditFinding, Depth};
use crate::spool::ledger::{Ledger, LedgerError};
use crate::text::{counted, paragraph};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::ops::ControlFlow;

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
        ("+ nobody told", sum.suppressed, "failed, and a rule says that nobody is told".to_owned()),
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

fn words(finding: &AuditFinding) -> String {
    let AuditFinding { fault, recipients, addresses, .. } = finding;
    let named = addresses.iter().take(MOST_ADDRESSES).cloned().collect::<Vec<_>>().join(", ");
    let more = if addresses.len() > MOST_ADDRESSES { ", ..." } else { "" };
    let colon = if named.is_empty() { "" } else { ": " };
    format!("{} ({}{colon}{named}{more})", fault.words(), counted(*recipients, "recipient"))
}
