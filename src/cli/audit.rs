//! `relay audit`: the ledger against itself, or against Exchange's message tracking log.

use super::place::{SpoolOptions, with_ledger};
use crate::cli::exit::Exit;
use crate::cli::terminal::{ProgressLine, complain, say, say_json};
use clap::Args;
use dane_relay::command::audit;
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::command::reconcile::reconcile;
use dane_relay::command::tracking::{TrackingError, TrackingLog};
use dane_relay::spool::audit::Depth;
use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;
use std::process::ExitCode;

/// `relay audit`
#[derive(Args)]
pub(crate) struct AuditOptions {
    /// Look at the state database alone; without this, all that waits is read and verified, too.
    #[arg(long)]
    quick: bool,
    /// Compare with these files of Exchange's message tracking log instead (MSGTRK*.LOG): which
    /// messages did Exchange hand over that the relay does not know, and the reverse.
    #[arg(long, value_name = "FILE", num_args = 1.., conflicts_with = "quick")]
    exchange_tracking: Vec<PathBuf>,
    /// The Send connector that leads to this relay, where Exchange has several; may be given again.
    /// Without it all count but Exchange's own between its servers.
    #[arg(long, value_name = "NAME", requires = "exchange_tracking")]
    connector: Vec<String>,
    #[command(flatten)]
    place: SpoolOptions,
}

pub(crate) async fn audit(options: AuditOptions) -> ExitCode {
    let AuditOptions { quick, exchange_tracking, connector, place } = options;
    if !exchange_tracking.is_empty() {
        return reconcile_with(&exchange_tracking, &connector, &place).await;
    }
    let depth = if quick { Depth::Rows } else { Depth::Everything };
    let answer = with_ledger(&place, async |ledger| {
        let progress = ProgressLine::begin("going through every recipient");
        let found = audit::audit(ledger, depth).await?;
        drop(progress);
        match place.form() {
            OutputForm::Text => say(&audit::text(&found)),
            OutputForm::Json => say_json(&json::object(&found)),
        };
        Ok(ExitCode::from(audit::exit_code(&found)))
    });
    answer.await
}

#[expect(clippy::disallowed_methods, reason = "a command reads the files that it was given")]
async fn reconcile_with(files: &[PathBuf], connectors: &[String], place: &SpoolOptions) -> ExitCode {
    let mut log = TrackingLog::default();
    for file in files {
        let name = file.display().to_string();
        let read = File::open(file)
            .map_err(TrackingError::from)
            .and_then(|opened| log.read(&name, BufReader::new(opened), connectors));
        if let Err(error) = read {
            return complain(Exit::Io, &format!("{name}: {error}"));
        }
    }
    let answer = with_ledger(place, async |ledger| {
        let progress = ProgressLine::begin("comparing");
        let found = reconcile(ledger, log).await?;
        drop(progress);
        match place.form() {
            OutputForm::Text => say(&found.text()),
            OutputForm::Json => say_json(&json::object(&found.json())),
        };
        Ok(ExitCode::from(found.exit_code()))
    });
    answer.await
}
