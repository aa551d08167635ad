//! `relay dns` and `relay policy`: one question each, and its answer.

use super::arguments::{Output, Overrides};
use super::terminal::{EXIT_CONFIG, EXIT_IO, complain, say};
use dane_relay::clock::Clock;
use dane_relay::command::dns::{self, DnsDetail};
use dane_relay::command::policy::{PolicyReport, PolicySetupError};
use dane_relay::config::Config;
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
        Err(message) => return complain(EXIT_CONFIG, &message),
    };
    let report = match dns::look_up(&config, Clock::system(), name, record_type).await {
        Ok(report) => report,
        Err(error) => return complain(EXIT_CONFIG, &error.to_string()),
    };
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    match if shown.output.json { json() } else { Ok(report.text(shown.detail)) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
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
        Err(message) => return complain(EXIT_CONFIG, &message),
    };
    let report = match ask(&config).await {
        Ok(report) => report,
        Err(error) => return complain(EXIT_CONFIG, &error.to_string()),
    };
    let json = || serde_json::to_string_pretty(&report).map(|json| json + "\n");
    match if output.json { json() } else { Ok(report.text()) } {
        Ok(text) => say(&text),
        Err(error) => return complain(EXIT_IO, &error.to_string()),
    };
    ExitCode::from(report.status.exit_code())
}
