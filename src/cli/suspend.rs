//! `relay suspend` and `relay resume`: mail still to come from somebody, or to somewhere, waits with whoever sends it.

use super::exit::Exit;
use super::place::{SpoolOptions, cannot_ask};
use super::terminal::{complain, say, say_json, usual_file};
use clap::{Args, ValueEnum};
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::command::suspend::{Resumption, SuspendedKind, Suspension, SuspensionChange, SuspensionRecord};
use dane_relay::config::spool_of;
use dane_relay::service::control::{AskError, ControlClient, SuspendedAnswer};
use std::process::ExitCode;
use std::time::Duration;

/// Records of who suspended and let in again that the text shows; JSON has all of them.
const MOST_RECORDS: usize = 20;

/// What kind of name is suspended.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum KindWord {
    /// An address, or @example.org for all of a domain.
    Sender,
    /// A user, after AUTH.
    User,
    /// A recipient domain, as destinations name them.
    Destination,
}

impl KindWord {
    const fn kind(self) -> SuspendedKind {
        match self {
            Self::Sender => SuspendedKind::Sender,
            Self::User => SuspendedKind::User,
            Self::Destination => SuspendedKind::Destination,
        }
    }
}

/// `relay suspend …`
#[derive(Args)]
pub(crate) struct SuspendArguments {
    /// Without kind and name: who is suspended now, and who suspended and let in again, when and why.
    #[arg(value_enum, requires = "name")]
    kind: Option<KindWord>,
    /// The address, user or domain.
    name: Option<String>,
    /// Why, for whoever looks.
    #[arg(long, default_value = "")]
    reason: String,
    /// When it ends by itself, from now on: 4h, 7d. Without it when `relay resume` is said.
    #[arg(long = "for", value_name = "TIME", value_parser = humantime::parse_duration)]
    lasts: Option<Duration>,
    #[command(flatten)]
    place: SpoolOptions,
}

/// `relay resume …`
#[derive(Args)]
pub(crate) struct ResumeArguments {
    /// What kind of name it is.
    #[arg(value_enum)]
    kind: KindWord,
    /// The address, user or domain.
    name: String,
    /// Why, for whoever looks.
    #[arg(long, default_value = "")]
    reason: String,
    #[command(flatten)]
    place: SpoolOptions,
}

/// `relay suspend`
pub(crate) async fn suspend(arguments: SuspendArguments) -> ExitCode {
    let SuspendArguments { kind, name, reason, lasts, place } = arguments;
    let client = client(&place);
    let (Some(kind), Some(name)) = (kind, name) else { return told(&place, client.suspended().await, MOST_RECORDS) };
    match Suspension::new(kind.kind(), &name, reason, None) {
        Ok(wanted) => told(&place, client.suspend(&wanted, lasts).await, 0),
        Err(why) => complain(Exit::Usage, &why),
    }
}

/// `relay resume`
pub(crate) async fn resume(arguments: ResumeArguments) -> ExitCode {
    let ResumeArguments { kind, name, reason, place } = arguments;
    match client(&place).resume(&Resumption { kind: kind.kind(), name, reason }).await {
        Err(AskError::NotThere(_)) => complain(Exit::Nothing, "that is not suspended: `relay suspend` shows who is"),
        answered => told(&place, answered, 0),
    }
}

fn client(place: &SpoolOptions) -> ControlClient {
    ControlClient::of(&spool_of(place.config.clone().or_else(usual_file).as_deref()))
}

fn told(place: &SpoolOptions, answered: Result<SuspendedAnswer, AskError>, most_records: usize) -> ExitCode {
    match answered {
        Err(error) => cannot_ask(&error),
        Ok(answer) if place.form() == OutputForm::Json => say_json(&json::object(&answer)),
        Ok(answer) => say(&text(&answer, most_records)),
    }
}

fn text(answer: &SuspendedAnswer, most_records: usize) -> String {
    let mut text: String = answer.suspended.iter().map(line).collect();
    if text.is_empty() {
        text += "Nobody is suspended.\n";
    }
    let records: String = answer.records.iter().take(most_records).map(record_line).collect();
    if !records.is_empty() {
        text += "\nWho suspended and let in again, the newest first:\n";
        text += &records;
    }
    text
}

fn record_line(one: &SuspensionRecord) -> String {
    let done = match one.change {
        SuspensionChange::Suspended => "suspended",
        SuspensionChange::Resumed => "let in again",
    };
    let reason = if one.reason.is_empty() { String::new() } else { format!(": {}", one.reason) };
    format!("{}  {} {} {done}, by {}{reason}\n", one.at, one.kind, one.name, one.by)
}

fn line(one: &Suspension) -> String {
    let until = one.until.map(|until| format!(", until {until}")).unwrap_or_default();
    let reason = if one.reason.is_empty() { String::new() } else { format!(": {}", one.reason) };
    format!("{} {}{until}{reason}\n", one.kind, one.name)
}
