//! `relay config check` and `relay config show`: whether a file can be used, and what counts of it.

use super::exit::Exit;
use super::terminal::{complain, say, say_json};
use dane_relay::clock::Clock;
use dane_relay::command::json;
use dane_relay::command::queue::OutputForm;
use dane_relay::config::{self, ConfigSource, KeyLines, Problem};
use dane_relay::service::start::{self, StartError};
use serde::Serialize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// What was found of a file.
#[derive(Serialize)]
struct LookedAt {
    file: PathBuf,
    /// Whether the relay would start with it.
    usable: bool,
    /// What has to be put right first.
    problems: Vec<Problem>,
    /// What is probably not meant.
    warnings: Vec<Problem>,
}

/// `relay config check`
pub(crate) async fn check(path: Option<PathBuf>, form: OutputForm) -> ExitCode {
    let Some(path) = path else { return complain(Exit::Usage, "which file? Give --config FILE") };
    let looked_at = match look_at(&path).await {
        Ok(warnings) => LookedAt { file: path, usable: true, problems: Vec::new(), warnings },
        Err(problems) => LookedAt { file: path, usable: false, problems, warnings: Vec::new() },
    };
    let code = if looked_at.usable { Exit::Done } else { Exit::Config };
    match form {
        OutputForm::Json => {
            say_json(&json::object(&looked_at));
        }
        OutputForm::Text => {
            let of_file = |problem: &Problem| problem.in_file(&looked_at.file);
            if !looked_at.usable {
                complain(Exit::Config, &looked_at.problems.iter().map(of_file).collect::<Vec<_>>().join("\n"));
            }
            for warning in &looked_at.warnings {
                let place = if warning.line.is_some() { of_file(warning) } else { warning.to_string() };
                complain(Exit::Config, &format!("warning: {place}"));
            }
            if looked_at.usable {
                say(&format!("{}: ok\n", looked_at.file.display()));
            }
        }
    }
    code.into()
}

/// What is probably not meant in a file that can be used; or why it cannot.
async fn look_at(path: &Path) -> Result<Vec<Problem>, Vec<Problem>> {
    let loaded = ConfigSource::File(path.to_owned()).load().map_err(|error| error.problems())?;
    loaded.look_at_files().map_err(|error| error.problems())?;
    start::check(&loaded.config).map_err(|error| problems(&error, &loaded.lines))?;
    let more = start::doubts(&loaded.config).await.map_err(|error| problems(&error, &loaded.lines))?;
    let closed = start::closed_ports(&loaded.config).await;
    let doubts = loaded.config.doubts(Clock::system().now()).into_iter().chain(more).chain(closed);
    let doubts = doubts.chain(loaded.unreadable_for_service(Some(path)));
    Ok(doubts.map(|doubt| loaded.lines.placed(&doubt)).collect())
}

fn problems(error: &StartError, lines: &KeyLines) -> Vec<Problem> {
    if let StartError::Files(error) = error { error.problems() } else { vec![lines.placed(&error.to_string())] }
}

/// `relay config show`
pub(crate) fn show(path: Option<&Path>, form: OutputForm) -> ExitCode {
    let shown = match form {
        OutputForm::Text => config::shown(path).map(|text| say(&text)),
        OutputForm::Json => config::shown_values(path)
            .map(|values| say_json(&json::object(&serde_json::json!({ "file": path, "values": values })))),
    };
    shown.unwrap_or_else(|error| complain(Exit::Config, &error.to_string()))
}
