//! Sends the reports on TLS: each day those about the day before, to the domains that ask for them (RFC 8460 §3, §5).
//!
//! `one.rs` is what becomes of one report. What is counted is in the spool, and so is how far each report has come:
//! a restart goes on where the relay stopped. A mail goes into the queue in the step that records it; a report that
//! is posted may be posted once more after a crash, under the same id.
//! `preview.rs` is for whoever wants to see what would go out.

mod one;
pub mod preview;

use super::successive::by_each;
use crate::clock::Timestamp;
use crate::pipeline::{Pipeline, Pipelines};
use crate::smtp::address::Domain;
use crate::spool::SpoolError;
use crate::spool::ledger::{Ledger, LedgerError};
use crate::spool::open_ledger;
use crate::spool::tls_session::{DueTlsReport, DueTlsReports, ReportDay, TlsReportId, TlsReportState};
use aws_lc_rs::digest::{SHA256, digest};
use futures_util::FutureExt as _;
use futures_util::future::try_join_all;
use one::Reporter;
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

/// How often it is looked whether a report is due.
const ROUND: Duration = Duration::from_secs(60);
/// Reports that are made at the same time: mail goes first.
const AT_ONCE: usize = 4;
/// Reports that are read at once of those that are due.
const BATCH: usize = 64;
/// Reports that one order makes; whoever has more gives another.
const MOST_AT_ONCE: usize = 10_000;
/// Reports go out at some minute of these after midnight (RFC 8460 §4.1).
const MINUTES: u64 = 235;
/// But not before this one: what ended before midnight is recorded by then.
const FIRST_MINUTE: u64 = 5;
/// A relay that stood still for longer than this sends nothing of the days before.
const DAYS_BACK: i64 = 2;

/// Why reports cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum ReportingError {
    /// What was counted cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// What has become of one cannot be recorded.
    #[error(transparent)]
    Spool(#[from] SpoolError),
    /// The ways out cannot be set up.
    #[error("{0}")]
    Setup(String),
}

/// Sends reports until the stop.
pub(super) async fn watch(pipelines: Pipelines, stop: CancellationToken) {
    by_each(pipelines, stop, report_by).await;
}

/// Sends reports by one configuration; ends only where none are wanted.
async fn report_by(pipeline: Arc<Pipeline>) {
    let config = &pipeline.out.config;
    if !config.tls_reports.enabled {
        return;
    }
    loop {
        let before = told_before(&config.hostname, pipeline.out.clock.now());
        if let Err(error) = Box::pin(send_due(&pipeline, before)).await {
            pipeline.observer.tls_reports.failed(&error.to_string());
        }
        tokio::time::sleep(ROUND).await;
    }
}

/// The first day that is not told of yet: today's reports begin at a minute after midnight that is this relay's own
/// for the day, also after a restart.
fn told_before(hostname: &Domain, now: Timestamp) -> ReportDay {
    let today = ReportDay::of(now);
    let hash = digest(&SHA256, format!("{hostname}\n{today}").as_bytes());
    let number = hash.as_ref().iter().take(8).fold(0_u64, |number, octet| number << 8 | u64::from(*octet));
    let minute = Duration::from_secs((FIRST_MINUTE + number % MINUTES) * 60);
    if now >= today.begin().plus(minute) { today } else { ReportDay(today.0.saturating_sub(1)) }
}

/// Makes all reports that are due about days before `before`.
///
/// # Errors
/// When what was counted cannot be read, or what becomes of a report cannot be recorded.
async fn send_due(pipeline: &Pipeline, before: ReportDay) -> Result<(), ReportingError> {
    let _alone = pipeline.tls_reporting.lock().await;
    let ledger = open_ledger(&pipeline.out.config.spool).await?;
    let reporter = Reporter::new(&pipeline.out)?;
    loop {
        let now = pipeline.out.clock.now();
        let due = ledger.tls_reports_due(&DueTlsReports { now, most: BATCH, ..over(now, before) }).await?;
        if due.is_empty() {
            return Ok(());
        }
        make_all(pipeline, ledger.as_ref(), &reporter, &due).await?;
    }
}

/// Makes the reports about days that are over, also those that wait for another try. Gives what has become of each.
///
/// # Errors
/// As the reports that go out by themselves: when something cannot be read or recorded.
pub(super) async fn send_now(
    pipeline: &Pipeline,
    domain: Option<&Domain>,
) -> Result<Vec<(TlsReportId, TlsReportState)>, ReportingError> {
    let _alone = pipeline.tls_reporting.lock().await;
    let ledger = open_ledger(&pipeline.out.config.spool).await?;
    let reporter = Reporter::new(&pipeline.out)?;
    let now = pipeline.out.clock.now();
    let mut due = ledger.tls_reports_due(&over(now, ReportDay::of(now))).await?;
    due.retain(|due| domain.is_none_or(|domain| domain.as_str() == due.id.domain));
    make_all(pipeline, ledger.as_ref(), &reporter, &due).await
}

/// All reports that are not done with about days before `before`.
fn over(now: Timestamp, before: ReportDay) -> DueTlsReports {
    let from = ReportDay(ReportDay::of(now).0.saturating_sub(DAYS_BACK));
    DueTlsReports { from, before, now: Timestamp(i64::MAX), most: MOST_AT_ONCE }
}

async fn make_all(
    pipeline: &Pipeline,
    ledger: &dyn Ledger,
    reporter: &Reporter<'_>,
    due: &[DueTlsReport],
) -> Result<Vec<(TlsReportId, TlsReportState)>, ReportingError> {
    let mut all = Vec::with_capacity(due.len());
    for some in due.chunks(AT_ONCE) {
        let making = some.iter().map(|due| make_one(pipeline, ledger, reporter, due).boxed());
        all.extend(try_join_all(making).await?);
    }
    Ok(all)
}

async fn make_one(
    pipeline: &Pipeline,
    ledger: &dyn Ledger,
    reporter: &Reporter<'_>,
    due: &DueTlsReport,
) -> Result<(TlsReportId, TlsReportState), ReportingError> {
    let (state, mails) = reporter.report(ledger, due).await?;
    pipeline.spool.record_tls_report(&due.id, &state, mails).await?;
    pipeline.observer.tls_reports.became(&due.id, &state);
    Ok((due.id.clone(), state))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn minute_of(hostname: &str, day: i64) -> i64 {
        let (hostname, today) = (hostname.parse().unwrap(), ReportDay(day));
        let begun = |minute: &i64| told_before(&hostname, Timestamp(today.begin().0 + minute * 60_000)) == today;
        (0..1440).find(begun).unwrap()
    }

    #[test]
    fn rfc8460_4_1_p09_reports_begin_at_a_minute_of_the_first_four_hours_and_at_no_other_after_a_restart() {
        let minutes: Vec<i64> = (20_000..20_060).map(|day| minute_of("relay.example", day)).collect();
        assert!(minutes.iter().all(|minute| (5..240).contains(minute)), "{minutes:?}");
        assert!(minutes.iter().collect::<BTreeSet<_>>().len() > 30, "spread over days: {minutes:?}");
        assert_eq!(minute_of("relay.example", 20_000), minutes[0]);
        let hosts = (0..60).map(|n| minute_of(&format!("relay{n}.example"), 20_000));
        assert!(hosts.collect::<BTreeSet<_>>().len() > 30, "spread over relays");
    }
}
