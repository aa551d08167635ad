//! What all commands share: how something is said, and how wide the terminal is.

use dane_relay::config::Config;
use dane_relay::text::table::Width;
use dane_relay::text::{harmless, harmless_json};
use std::io::{IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// Names the configuration file for all commands that are given none.
const VARIABLE: &str = "RELAY_CONFIG";

/// Where packages and the README put the configuration: `relay why` finds the spool of the service.
const USUAL_PLACE: &str = "/etc/relay/relay.toml";

/// Reads the configuration; where there is no file it is the default.
pub(crate) fn load(path: Option<&Path>) -> Result<Config, String> {
    match path.map(Path::to_owned).or_else(usual_file) {
        Some(path) => Config::load(&path).map_err(|e| e.to_string()),
        None => Ok(Config::default()),
    }
}

/// The file that counts when none is given.
pub(crate) fn usual_file() -> Option<PathBuf> {
    let named = std::env::var_os(VARIABLE).filter(|name| !name.is_empty()).map(PathBuf::from);
    named.or_else(|| Some(PathBuf::from(USUAL_PLACE)).filter(|place| place.exists()))
}

/// Prints to stdout, for people.
pub(crate) fn say(text: &str) -> ExitCode {
    let _enough = print(text);
    ExitCode::SUCCESS
}

/// Prints what `command/json.rs` made to stdout.
pub(crate) fn say_json(json: &str) -> ExitCode {
    let _enough = print_json(json);
    ExitCode::SUCCESS
}

/// Prints to stdout; stops when whoever reads has read enough.
pub(crate) fn print(text: &str) -> ControlFlow<()> {
    write_out(harmless(text).as_bytes())
}

/// The same for JSON.
pub(crate) fn print_json(json: &str) -> ControlFlow<()> {
    write_out(harmless_json(json).as_bytes())
}

fn write_out(octets: &[u8]) -> ControlFlow<()> {
    match std::io::stdout().write_all(octets) {
        Ok(()) => ControlFlow::Continue(()),
        Err(_closed) => ControlFlow::Break(()),
    }
}

/// Says on stderr what is wrong, in one line or several, and gives the exit code.
pub(crate) fn complain(code: impl Into<ExitCode>, message: &str) -> ExitCode {
    let lines: String = harmless(message).lines().map(|line| format!("relay: {line}\n")).collect();
    let _nowhere_to_say_it = std::io::stderr().write_all(lines.as_bytes());
    code.into()
}

/// How wide a table may be: as $COLUMNS says, or the terminal; whole where there is none.
pub(crate) fn width() -> Width {
    let said = std::env::var("COLUMNS").ok().and_then(|columns| columns.parse().ok()).filter(|columns| *columns > 0);
    let seen = || std::io::stdout().is_terminal().then(|| size().map(|size| size.columns)).flatten();
    said.or_else(seen).map_or(Width::Whole, Width::Columns)
}

/// The size of a terminal, in characters.
#[derive(Clone, Copy)]
pub(crate) struct TerminalSize {
    pub(crate) columns: usize,
    pub(crate) lines: usize,
}

/// That of standard output, where it is a terminal and says it.
pub(crate) fn size() -> Option<TerminalSize> {
    let size = rustix::termios::tcgetwinsize(std::io::stdout()).ok()?;
    let known = size.ws_col > 0 && size.ws_row > 0;
    known.then(|| TerminalSize { columns: size.ws_col.into(), lines: size.ws_row.into() })
}

/// A line on the terminal while something takes longer than a second, with the seconds that have passed; gone
/// when it is dropped.
pub(crate) struct ProgressLine(Option<AbortOnDropHandle<()>>);

impl ProgressLine {
    pub(crate) fn begin(what: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let what = what.to_owned();
        Self(Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut every_second = tokio::time::interval(Duration::from_secs(1));
            // What is over within a second needs no line.
            every_second.tick().await;
            for seconds in 1_u64.. {
                every_second.tick().await;
                let _nowhere_to_say_it = write!(std::io::stderr(), "\r\x1b[Krelay: {what} … ({seconds} s)");
            }
        }))))
    }
}

impl Drop for ProgressLine {
    fn drop(&mut self) {
        if let Some(line) = self.0.take() {
            line.abort();
            let _nowhere_to_say_it = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
