//! `relay reload`, `relay config diff` and `relay log-level`: what a running relay has of its configuration file,
//! and how much it logs.

use super::exit::Exit;
use super::place::{SpoolOptions, cannot_ask};
use super::terminal::{complain, say, say_json, usual_file};
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::config::settings::{KeyChange, Settings};
use dane_relay::config::{ConfigSource, spool_of};
use dane_relay::service::control::{AskError, ControlClient};
use dane_relay::text::counted;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// `relay reload`
pub(crate) async fn reload(place: &SpoolOptions) -> ExitCode {
    let path = place.config.clone().or_else(usual_file);
    match ControlClient::of(&spool_of(path.as_deref())).reload().await {
        Ok(changes) => told(&changes, place.form(), ExitCode::SUCCESS, |lines| match changes.len() as u64 {
            0 => "Taken over; no key has another value. Files that it names were read again.\n".to_owned(),
            some => format!("Taken over, with {} changed:\n{lines}", counted(some, "key")),
        }),
        Err(AskError::Refused(why)) => {
            complain(Exit::Config, &format!("{why}\nrefused; the configuration before stays in force"))
        }
        Err(AskError::NotRunning(spool)) => match path.map(|path| ConfigSource::File(path).load()) {
            // A file that names no spool leads to no relay.
            Some(Err(fault)) => complain(Exit::Config, &fault.to_string()),
            Some(Ok(_)) | None => cannot_ask(&AskError::NotRunning(spool)),
        },
        Err(error) => cannot_ask(&error),
    }
}

/// `relay config diff`
pub(crate) async fn diff(file: Option<PathBuf>, form: OutputForm) -> ExitCode {
    let path = file.or_else(usual_file);
    let loaded = match path.clone().map_or(ConfigSource::Default, ConfigSource::File).load() {
        Ok(loaded) => loaded,
        Err(fault) => return complain(Exit::Config, &fault.to_string()),
    };
    match in_force(path.as_deref()).await {
        Err(error) => cannot_ask(&error),
        Ok(settings) => {
            let changes = settings.changes_to(&loaded.settings);
            let code = if changes.is_empty() { Exit::Done } else { Exit::Nothing };
            told(
                &changes,
                form,
                code,
                |lines| {
                    if lines.is_empty() { "No difference.\n".to_owned() } else { lines.to_owned() }
                },
            )
        }
    }
}

/// What the relay has that runs on the spool of this file, or else on that of the usual one: a file may be
/// about to name another spool.
async fn in_force(path: Option<&Path>) -> Result<Settings, AskError> {
    match ask(path).await {
        Err(AskError::NotRunning(spool)) => ask(usual_file().as_deref()).await.map_err(|error| {
            if matches!(error, AskError::NotRunning(_)) { AskError::NotRunning(spool) } else { error }
        }),
        answered => answered,
    }
}

async fn ask(path: Option<&Path>) -> Result<Settings, AskError> {
    ControlClient::of(&spool_of(path)).settings().await
}

fn told(
    changes: &[KeyChange],
    form: OutputForm,
    code: impl Into<ExitCode>,
    text: impl FnOnce(&str) -> String,
) -> ExitCode {
    let lines: String = changes.iter().map(|change| change.line() + "\n").collect();
    match form {
        OutputForm::Json => say_json(&json::list("changes", &changes)),
        OutputForm::Text => say(&text(&lines)),
    };
    code.into()
}

/// `relay log-level`
pub(crate) async fn log_level(level: &str, lasts: Option<Duration>, place: &SpoolOptions) -> ExitCode {
    let config = match place.config() {
        Ok(config) => config,
        Err(code) => return code,
    };
    match ControlClient::of(&config.spool.path).log_level(level, lasts).await {
        Ok(now) => match place.form() {
            OutputForm::Json => say_json(&json::object(&now)),
            OutputForm::Text => {
                let until = now.until.map_or_else(String::new, |until| format!(" until {}", until.to_second()));
                say(&format!("The log is at {}{until}.\n", now.level))
            }
        },
        Err(AskError::Refused(why)) => complain(Exit::Usage, &why),
        Err(error) => cannot_ask(&error),
    }
}
