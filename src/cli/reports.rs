//! `relay reports`: how TLS went with the domains that mail goes to, and the reports about it (RFC 8460).

use super::exit::{Exit, found};
use super::place::{SpoolOptions, cannot_ask, with_ledger};
use super::shown::TableArguments;
use super::terminal::{complain, say, say_json};
use super::values::domain;
use clap::Subcommand;
use dane_relay::clock::Clock;
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::command::tls_reports::{self, COLUMNS, TlsReportDetails};
use dane_relay::service::control::ControlClient;
use dane_relay::service::tls_reports::preview::preview;
use dane_relay::smtp::address::Domain;
use dane_relay::spool::ledger::{Ledger, LedgerError};
use dane_relay::spool::tls_session::ReportDay;
use std::process::ExitCode;

/// Rows that are read for a list.
const MOST_ROWS: usize = 100_000;

/// `relay reports …`
#[derive(Subcommand)]
pub(crate) enum ReportsAction {
    /// The domains that TLS was spoken with, day by day, and how their reports stand.
    List {
        #[command(flatten)]
        table: TableArguments,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// What was counted of a domain, and what became of its report.
    Show {
        /// The domain.
        #[arg(value_parser = domain)]
        domain: Domain,
        /// Only this day, in UTC, such as 2026-11-30; without it all that are known.
        #[arg(long, value_name = "DAY")]
        day: Option<ReportDay>,
        #[command(flatten)]
        place: SpoolOptions,
    },
    /// Send the reports about days that are over without waiting for their time; or show what would go out.
    Send {
        /// Only to this domain.
        #[arg(value_parser = domain)]
        domain: Option<Domain>,
        /// Let the running relay send them.
        #[arg(long, conflicts_with = "dry_run", required_unless_present = "dry_run")]
        now: bool,
        /// Send nothing: print the reports as they stand, today's among them.
        #[arg(long)]
        dry_run: bool,
        #[command(flatten)]
        place: SpoolOptions,
    },
}

pub(crate) async fn reports(action: ReportsAction) -> ExitCode {
    match action {
        ReportsAction::List { table, place } => list(&table, &place).await,
        ReportsAction::Show { domain, day, place } => show(&domain, day, &place).await,
        ReportsAction::Send { domain, dry_run: true, place, .. } => dry_run(domain.as_ref(), &place).await,
        ReportsAction::Send { domain, place, .. } => send(domain, &place).await,
    }
}

async fn list(table: &TableArguments, place: &SpoolOptions) -> ExitCode {
    let view = match table.view(COLUMNS) {
        Ok(view) => view,
        Err(code) => return code,
    };
    let (first, last) = (ReportDay(0), ReportDay::of(Clock::system().now()));
    let answer = with_ledger(place, async |ledger| {
        let rows = ledger.tls_reports(first, last, MOST_ROWS).await?;
        Ok(match place.form() {
            OutputForm::Json => {
                let (table, _left_out) = tls_reports::table(&rows, &view);
                say_json(&table.values().map(json::line).collect::<String>())
            }
            OutputForm::Text => say(&tls_reports::list_text(&rows, &view)),
        })
    });
    answer.await
}

async fn show(domain: &Domain, day: Option<ReportDay>, place: &SpoolOptions) -> ExitCode {
    let answer = with_ledger(place, async |ledger| {
        let days = details(ledger, domain, day).await?;
        if days.is_empty() {
            let when = day.map(|day| format!(" on {day}")).unwrap_or_default();
            return Ok(complain(Exit::Nothing, &format!("nothing was counted of {domain}{when}")));
        }
        Ok(match place.form() {
            OutputForm::Json => say_json(&days.iter().map(json::line).collect::<String>()),
            OutputForm::Text => say(&tls_reports::show_text(&days)),
        })
    });
    answer.await
}

async fn details(
    ledger: &dyn Ledger,
    domain: &Domain,
    day: Option<ReportDay>,
) -> Result<Vec<TlsReportDetails>, LedgerError> {
    let (first, last) = day.map_or_else(|| (ReportDay(0), ReportDay::of(Clock::system().now())), |day| (day, day));
    let rows = ledger.tls_reports(first, last, MOST_ROWS).await?;
    let mut days = Vec::new();
    for row in rows.into_iter().filter(|row| row.id.domain == domain.as_str()) {
        let counts = ledger.tls_counts(&row.id).await?;
        days.push(TlsReportDetails { row, counts });
    }
    Ok(days)
}

async fn dry_run(domain: Option<&Domain>, place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let shown = match preview(config, Clock::system(), domain).await {
        Ok(shown) => shown,
        Err(error) => return complain(Exit::Config, &error.to_string()),
    };
    match place.form() {
        OutputForm::Json => say_json(&shown.iter().map(json::line).collect::<String>()),
        OutputForm::Text if shown.is_empty() => say("Nothing was counted in the last days.\n"),
        OutputForm::Text => say(&shown.iter().map(tls_reports::preview_text).collect::<Vec<_>>().join("\n")),
    }
}

async fn send(domain: Option<Domain>, place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    let lines = match ControlClient::of(&config.spool.path).send_tls_reports(domain.as_ref()).await {
        Ok(lines) => lines,
        Err(error) => return cannot_ask(&error),
    };
    let code = found(lines.len());
    match place.form() {
        OutputForm::Json => say_json(&lines.iter().map(json::line).collect::<String>()),
        OutputForm::Text if lines.is_empty() => say("No report about a day that is over is left to be sent.\n"),
        OutputForm::Text => say(&lines.iter().map(tls_reports::sent_text).collect::<String>()),
    };
    code
}
