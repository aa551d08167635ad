//! `relay check`: one domain, all that mail waits for, or this host itself.

use super::arguments::{CheckArguments, Compared, Output};
use super::terminal::{EXIT_CONFIG, EXIT_IO, ProgressLine, complain, say};
use dane_relay::check::compare::compare;
use dane_relay::check::evidence::Evidence;
use dane_relay::check::{CheckReport, Checker, Color, Detail, Verdict, selfcheck};
use dane_relay::clock::Clock;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

pub(crate) async fn check(arguments: CheckArguments) -> ExitCode {
    let CheckArguments { domain, from, myself, patient, verbose, color, mut compared, output, over, .. } = arguments;
    let config = over.config().map(|config| compared.on_top_of(config));
    let waits = config.as_ref().map_or(Duration::ZERO, |config| config.delivery.reply_timeout);
    let make = if patient { Checker::patient } else { Checker::new };
    let checker = match config.and_then(|c| make(c, Clock::system()).map_err(|e| e.to_string())) {
        Ok(checker) => checker,
        Err(message) => return complain(EXIT_CONFIG, &message),
    };
    let theirs = match outside(&compared).await {
        Ok(theirs) => theirs,
        Err(message) => return complain(EXIT_IO, &message),
    };
    let checker = match theirs.clone() {
        Some(theirs) => checker.beside(theirs),
        None => checker,
    };
    if myself {
        return check_self(&checker, &output).await;
    }
    let Some(domain) = domain else { return check_queued(&checker, &output, color.color()).await };
    let asking = format!("asking the DNS and the mail servers about {domain}");
    let progress = ProgressLine::begin(&if patient {
        format!("{asking}, up to {} s for a reply", waits.as_secs())
    } else {
        asking
    });
    let report = checker.check_from(from.as_ref(), &domain).await;
    drop(progress);
    let detail = if verbose { Detail::Everything } else { Detail::Verdict };
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    match if output.json { json() } else { Ok(report.shown(detail, color.color())) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    match kept(&report, &compared, theirs.as_ref()).await {
        Ok(text) if !output.json => say(&text),
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => return complain(EXIT_IO, &message),
    };
    ExitCode::from(report.verdict.exit_code())
}

/// Writes what was seen, and compares it with what was seen elsewhere.
async fn kept(report: &CheckReport, compared: &Compared, theirs: Option<&Evidence>) -> Result<String, String> {
    if let Some(path) = &compared.save {
        let json = serde_json::to_string_pretty(&report.evidence).map_err(|e| failed(path, &e))?;
        tokio::fs::write(path, json + "\n").await.map_err(|e| failed(path, &e))?;
    }
    Ok(theirs.map(|theirs| compare(&report.evidence, theirs)).unwrap_or_default())
}

/// What was seen elsewhere: a witness whose way is not ours.
async fn outside(compared: &Compared) -> Result<Option<Evidence>, String> {
    let Some(path) = &compared.compare else { return Ok(None) };
    let text = tokio::fs::read_to_string(path).await.map_err(|e| failed(path, &e))?;
    serde_json::from_str(&text).map(Some).map_err(|e| failed(path, &format!("no file of --save: {e}")))
}

fn failed(path: &Path, error: &dyn Display) -> String {
    format!("{}: {error}", path.display())
}

async fn check_self(checker: &Checker, output: &Output) -> ExitCode {
    let progress = ProgressLine::begin("looking at this host");
    let seen = checker.look_at_self().await;
    drop(progress);
    let json = || serde_json::to_string_pretty(&seen).map(|json| json + "\n");
    match if output.json { json() } else { Ok(selfcheck::text(&seen)) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    ExitCode::from(selfcheck::worst(&seen).exit_code())
}

async fn check_queued(checker: &Checker, output: &Output, color: Color) -> ExitCode {
    let domains = checker.queued().await;
    let progress = ProgressLine::begin(&format!("checking {} domains", domains.len()));
    let reports = checker.check_all(&domains).await;
    drop(progress);
    let json = || serde_json::to_string_pretty(&reports).map(|json| json + "\n");
    let lines = || reports.iter().map(|report| report.headline(color) + "\n").collect::<String>();
    let text = if reports.is_empty() { "OK  no mail waits\n".to_owned() } else { lines() };
    match if output.json { json() } else { Ok(text) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    let worst = reports.iter().map(|report| report.verdict).max_by_key(|verdict| verdict.weight());
    ExitCode::from(worst.map_or(0, Verdict::exit_code))
}
