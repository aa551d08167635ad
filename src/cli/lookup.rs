//! `relay dns` and `relay policy`: one question each, and its answer.

use super::arguments::{Output, Overrides};
use super::exit::Exit;
use super::place::SpoolOptions;
use super::shown::TableArguments;
use super::terminal::{complain, say, say_json};
use dane_relay::clock::Clock;
use dane_relay::command::dns::{self, DnsDetail};
use dane_relay::command::json;
use dane_relay::command::policy::{PolicyReport, PolicySetupError};
use dane_relay::command::policy_list;
use dane_relay::command::queue::OutputForm;
use dane_relay::config::Config;
use dane_relay::text::counted;
use hickory_proto::rr::{Name, RecordType};
use std::process::ExitCode;

/// How the answer of a look-up is printed.
pub(crate) struct DnsOutput {
    pub(crate) detail: DnsDetail,
    pub(crate) output: Output,
}

pub(crate) async fn dns(name: &Name, record_type: RecordType, shown: &DnsOutput, over: Overrides) -> ExitCode {
    let config = match over.config() {
        Ok(config) => config,
        Err(message) => return complain(Exit::Config, &message),
    };
    let report = match dns::look_up(&config, Clock::system(), name, record_type).await {
        Ok(report) => report,
        Err(error) => return complain(Exit::Config, &error.to_string()),
    };
    match shown.output.form() {
        OutputForm::Json => say_json(&json::object(&report)),
        OutputForm::Text => say(&report.text(shown.detail)),
    };
    ExitCode::from(report.status.exit_code())
}

pub(crate) async fn policy(
    ask: impl AsyncFnOnce(&Config) -> Result<PolicyReport, PolicySetupError>,
    config: Result<Config, String>,
    output: Output,
) -> ExitCode {
    let config = match config {
        Ok(config) => config,
        Err(message) => return complain(Exit::Config, &message),
    };
    let report = match ask(&config).await {
        Ok(report) => report,
        Err(error) => return complain(Exit::Config, &error.to_string()),
    };
    match output.form() {
        OutputForm::Json => say_json(&json::object(&report)),
        OutputForm::Text => say(&report.text()),
    };
    ExitCode::from(report.status.exit_code())
}

pub(crate) fn policies(table: &TableArguments, place: &SpoolOptions) -> ExitCode {
    let (config, view) = match place.config().and_then(|config| Ok((config, table.view(policy_list::COLUMNS)?))) {
        Ok(both) => both,
        Err(code) => return code,
    };
    let all = match policy_list::list(&config, Clock::system().now()) {
        Ok(all) => all,
        Err(error) => return complain(Exit::Io, &error.to_string()),
    };
    let (table, left_out) = policy_list::table(&all, &view);
    match place.form() {
        OutputForm::Json => say_json(&table.values().map(json::line).collect::<String>()),
        OutputForm::Text if all.is_empty() => say("No policy is kept.\n"),
        OutputForm::Text => {
            let further = match left_out {
                0 => String::new(),
                more => format!("{} more; --limit says how many are shown.\n", counted(more as u64, "domain")),
            };
            say(&(table.text(view.width) + &further))
        }
    }
}
