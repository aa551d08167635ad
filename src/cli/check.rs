//! `relay check`: one domain, all that mail waits for, or this host itself.

use super::arguments::{CheckArguments, Compared, Output, Overrides};
use super::exit::Exit;
use super::terminal::{ProgressLine, complain, say, say_json};
use dane_relay::check::bundle;
use dane_relay::check::compare::compare;
use dane_relay::check::evidence::Evidence;
use dane_relay::check::selfcheck::sender;
use dane_relay::check::{CheckReport, Checker, Color, Detail, Verdict, selfcheck};
use dane_relay::clock::Clock;
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::resolve::driver::trusted;
use std::fmt::Display;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;
use tokio::io::AsyncReadExt as _;

pub(crate) async fn check(arguments: CheckArguments) -> ExitCode {
    let patient = arguments.patient;
    let CheckArguments { domain, from, myself, verbose, color, mut compared, output, over, bundle, verify, .. } =
        arguments;
    if let Some(path) = verify {
        return verify_bundle(&path, over).await;
    }
    let config = over.config().map(|config| compared.on_top_of(config));
    let waits = config.as_ref().map_or(Duration::ZERO, |config| config.delivery.reply_timeout);
    let make = if patient { Checker::patient } else { Checker::new };
    let checker = match config.and_then(|c| make(c, Clock::system()).map_err(|e| e.to_string())) {
        Ok(checker) => checker,
        Err(message) => return complain(Exit::Config, &message),
    };
    let theirs = match outside(&compared).await {
        Ok(theirs) => theirs,
        Err(message) => return complain(Exit::Io, &message),
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
    match output.form() {
        OutputForm::Json => say_json(&json::object(&report)),
        OutputForm::Text => say(&report.shown(detail, color.color())),
    };
    if let Some(path) = &bundle
        && let Err(message) = write_bundle(&checker, &report, path).await
    {
        return complain(Exit::Io, &message);
    }
    match kept(&report, &compared, theirs.as_ref()).await {
        Ok(text) if !output.json => say(&text),
        Ok(_) => ExitCode::SUCCESS,
        Err(message) => return complain(Exit::Io, &message),
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

async fn write_bundle(checker: &Checker, report: &CheckReport, path: &Path) -> Result<(), String> {
    let failed = |error: &dyn Display| format!("{}: {error}", path.display());
    let progress = ProgressLine::begin("collecting the evidence");
    let bundle = Box::pin(checker.bundle(report)).await;
    drop(progress);
    let file = bundle.to_file().map_err(|error| failed(&error))?;
    tokio::fs::write(path, file).await.map_err(|error| failed(&error))
}

/// Needs the trust anchors alone, and no network.
async fn verify_bundle(path: &Path, over: Overrides) -> ExitCode {
    let anchors =
        match over.config().and_then(|config| trusted(&config.dns.trust_anchors).map_err(|error| error.to_string())) {
            Ok(anchors) => anchors,
            Err(message) => return complain(Exit::Config, &message),
        };
    let octets = match read_bundle(path).await {
        Ok(octets) => octets,
        Err(error) => return complain(Exit::Io, &format!("{}: {error}", path.display())),
    };
    match bundle::verify(&octets, &anchors, Clock::system().now()) {
        Ok(verified) => say(&verified.text()),
        Err(error) => complain(Verdict::Fault.exit_code(), &format!("REFUSED  {}: {error}", path.display())),
    }
}

/// No more than a bundle can have.
async fn read_bundle(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    let most = u64::try_from(bundle::MOST_OCTETS).unwrap_or(u64::MAX).saturating_add(1);
    tokio::fs::File::open(path).await?.take(most).read_to_end(&mut octets).await?;
    Ok(octets)
}

async fn check_self(checker: &Checker, output: &Output) -> ExitCode {
    let progress = ProgressLine::begin("looking at this host");
    let seen = checker.look_at_self().await;
    let senders = checker.look_at_senders().await;
    drop(progress);
    match output.form() {
        OutputForm::Json => {
            let (checks, senders) = (json::value(&seen), json::value(&senders));
            say_json(&json::object(&serde_json::json!({ "checks": checks, "sender_domains": senders })))
        }
        OutputForm::Text => say(&(selfcheck::text(&seen) + &sender::text(&senders))),
    };
    ExitCode::from(selfcheck::worst(&seen).exit_code())
}

async fn check_queued(checker: &Checker, output: &Output, color: Color) -> ExitCode {
    let domains = checker.queued().await;
    let progress = ProgressLine::begin(&format!("checking {} domains", domains.len()));
    let reports = checker.check_all(&domains).await;
    drop(progress);
    let lines = || reports.iter().map(|report| report.headline(color) + "\n").collect::<String>();
    match output.form() {
        OutputForm::Json => say_json(&reports.iter().map(json::line).collect::<String>()),
        OutputForm::Text if reports.is_empty() => say("OK  no mail waits\n"),
        OutputForm::Text => say(&lines()),
    };
    let worst = reports.iter().map(|report| report.verdict).max_by_key(|verdict| verdict.weight());
    ExitCode::from(worst.map_or(0, Verdict::exit_code))
}
