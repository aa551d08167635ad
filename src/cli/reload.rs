//! `relay reload`, and `relay config diff`: what a running relay has of its configuration file.
//!
//! Exit codes of `reload`: 0 taken over, 69 no relay runs, 78 refused. Of `config diff`: 0 no difference,
//! 1 differences, 69 no relay runs, 78 the file cannot be used.

use super::operator::{SpoolOptions, cannot_ask};
use super::terminal::{EXIT_CONFIG, EXIT_IO, complain, say, usual_file};
use dane_relay::command::queue::OutputForm;
use dane_relay::config::settings::{KeyChange, Settings};
use dane_relay::config::{ConfigSource, spool_of};
use dane_relay::service::control::{self, AskError, ControlReply, Request};
use dane_relay::text::counted;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// For the help of `reload`.
pub(crate) const RELOAD_CODES: &str = "Exit codes: 0 taken over, 69 no relay runs or it does not answer, 77 the spool \
    belongs to another user, 78 refused: the configuration before stays in force.";

/// For the help of `config diff`.
pub(crate) const DIFF_CODES: &str = "Exit codes: 0 no difference, 1 differences, 69 no relay runs or it does not answer, \
    77 the spool belongs to another user, 78 the file cannot be used.";

/// `relay reload`
pub(crate) async fn reload(place: &SpoolOptions) -> ExitCode {
    let path = place.config.clone().or_else(usual_file);
    let mut answered = None;
    let asked = control::ask(&spool_of(path.as_deref()), &Request::Reload, |answer| answered = Some(answer)).await;
    match (asked, answered) {
        (Ok(()), Some(ControlReply::Reloaded { changes })) => {
            told(&changes, place.form(), ExitCode::SUCCESS, |lines| match changes.len() as u64 {
                0 => "Taken over; no key has another value. Files that it names were read again.\n".to_owned(),
                some => format!("Taken over, with {} changed:\n{lines}", counted(some, "key")),
            })
        }
        (Ok(()), Some(ControlReply::Refused { why })) => {
            complain(EXIT_CONFIG, &format!("{why}\nrefused; the configuration before stays in force"))
        }
        (Err(AskError::NotRunning(spool)), _) => match path.map(|path| ConfigSource::File(path).load()) {
            // A file that names no spool leads to no relay.
            Some(Err(fault)) => complain(EXIT_CONFIG, &fault.to_string()),
            Some(Ok(_)) | None => cannot_ask(&AskError::NotRunning(spool)),
        },
        (Err(error), _) => cannot_ask(&error),
        (Ok(()), _) => complain(EXIT_IO, "the relay gave no answer"),
    }
}

/// `relay config diff`
pub(crate) async fn diff(file: Option<PathBuf>, form: OutputForm) -> ExitCode {
    let path = file.or_else(usual_file);
    let loaded = match path.clone().map_or(ConfigSource::Default, ConfigSource::File).load() {
        Ok(loaded) => loaded,
        Err(fault) => return complain(EXIT_CONFIG, &fault.to_string()),
    };
    match in_force(path.as_deref()).await {
        Err(error) => cannot_ask(&error),
        Ok(None) => complain(EXIT_IO, "the relay gave no answer"),
        Ok(Some(settings)) => {
            let changes = settings.changes_to(&loaded.settings);
            let code = ExitCode::from(u8::from(!changes.is_empty()));
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
async fn in_force(path: Option<&Path>) -> Result<Option<Settings>, AskError> {
    match ask(path).await {
        Err(AskError::NotRunning(spool)) => ask(usual_file().as_deref()).await.map_err(|error| {
            if matches!(error, AskError::NotRunning(_)) { AskError::NotRunning(spool) } else { error }
        }),
        answered => answered,
    }
}

async fn ask(path: Option<&Path>) -> Result<Option<Settings>, AskError> {
    let mut in_force = None;
    let each = |answer| {
        if let ControlReply::Settings { settings } = answer {
            in_force = Some(settings);
        }
    };
    control::ask(&spool_of(path), &Request::Settings, each).await?;
    Ok(in_force)
}

fn told(changes: &[KeyChange], form: OutputForm, code: ExitCode, text: impl FnOnce(&str) -> String) -> ExitCode {
    let lines: String = changes.iter().map(|change| change.line() + "\n").collect();
    match form {
        OutputForm::Json => say(&(serde_json::to_string_pretty(changes).unwrap_or_default() + "\n")),
        OutputForm::Text => say(&text(&lines)),
    };
    code
}
