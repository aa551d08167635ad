//! What would go out: reports as they stand, to whom, and in full. Nothing is sent, and nothing recorded.

use super::ReportingError;
use super::one::{Preparation, Reporter};
use crate::clock::Clock;
use crate::command::tls_reports::TlsReportPreview;
use crate::config::Config;
use crate::pipeline::outbound::Outbound;
use crate::report::tls::TlsReportDocument;
use crate::smtp::address::Domain;
use crate::spool::ledger::Ledger;
use crate::spool::open_ledger;
use crate::spool::tls_session::{ReportDay, TlsReportId};

/// Days that are looked back at.
const DAYS_BACK: i64 = 2;
/// Reports that are made for one look.
const MOST: usize = 10_000;

/// The report to a domain about a day, as it is made of what is counted, whether or not it has gone out; none where
/// nothing is counted any more, or nothing that such a report tells. Nobody is asked.
///
/// # Errors
/// When what was counted cannot be read, or the configuration does not say who reports.
pub(in crate::service) async fn of_day(
    out: &Outbound,
    ledger: &dyn Ledger,
    id: &TlsReportId,
) -> Result<Option<TlsReportDocument>, ReportingError> {
    Reporter::new(out)?.document(ledger, id).await
}

/// The reports about the last days, today among them, as they would go out now.
///
/// # Errors
/// When what was counted cannot be read, or the configuration does not say who reports.
pub async fn preview(
    config: Config,
    clock: Clock,
    domain: Option<&Domain>,
) -> Result<Vec<TlsReportPreview>, ReportingError> {
    let today = ReportDay::of(clock.now());
    let out = Outbound::for_command(config, clock).map_err(|error| ReportingError::Setup(error.to_string()))?;
    let reporter = Reporter::new(&out)?;
    let ledger = open_ledger(&out.config.spool).await?;
    let rows = ledger.tls_reports(ReportDay(today.0.saturating_sub(DAYS_BACK)), today, MOST).await?;
    let mut shown = Vec::new();
    for row in rows.into_iter().filter(|row| domain.is_none_or(|domain| domain.as_str() == row.id.domain)) {
        let (to, document, because) = match reporter.prepare(ledger.as_ref(), &row.id).await? {
            Preparation::NotWanted(because) | Preparation::NotNow(because) => (Vec::new(), None, Some(because)),
            Preparation::Ready(ready) => {
                let to = ready.record.rua.iter().map(ToString::to_string).collect();
                (to, Some(ready.document), None)
            }
        };
        shown.push(TlsReportPreview { report: row.id, to, document, because });
    }
    Ok(shown)
}
