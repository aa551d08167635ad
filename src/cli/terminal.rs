//! What all commands share: exit codes, and how something is said.

use dane_relay::config::Config;
use dane_relay::text::harmless;
use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;
use tokio_util::task::AbortOnDropHandle;

/// The command line is wrong (EX_USAGE of sysexits.h).
pub(crate) const EXIT_USAGE: u8 = 64;
/// The system does not give what is needed: a port, an address, the spool. It may give it later, so
/// the service manager may start the relay again (EX_OSERR).
pub(crate) const EXIT_SYSTEM: u8 = 71;
/// The disk failed while the relay ran (EX_IOERR).
pub(crate) const EXIT_IO: u8 = 74;
/// The configuration, or something it names, cannot be used (EX_CONFIG).
pub(crate) const EXIT_CONFIG: u8 = 78;

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

/// Prints to stdout.
pub(crate) fn say(text: &str) -> ExitCode {
    // Whoever closes the pipe early has read enough.
    let _broken_pipe = std::io::stdout().write_all(harmless(text).as_bytes());
    ExitCode::SUCCESS
}

/// Says on stderr what is wrong, in one line or several, and gives the exit code.
pub(crate) fn complain(code: u8, message: &str) -> ExitCode {
    let lines: String = harmless(message).lines().map(|line| format!("relay: {line}\n")).collect();
    let _nowhere_to_say_it = std::io::stderr().write_all(lines.as_bytes());
    ExitCode::from(code)
}

/// A line on the terminal while something takes time, with the seconds that have passed; gone when it is
/// dropped.
pub(crate) struct ProgressLine(Option<AbortOnDropHandle<()>>);

impl ProgressLine {
    pub(crate) fn begin(what: &str) -> Self {
        if !std::io::stderr().is_terminal() {
            return Self(None);
        }
        let what = what.to_owned();
        Self(Some(AbortOnDropHandle::new(tokio::spawn(async move {
            let mut every_second = tokio::time::interval(Duration::from_secs(1));
            for seconds in 0_u64.. {
                every_second.tick().await;
                let passed = if seconds == 0 { String::new() } else { format!(" ({seconds} s)") };
                let _nowhere_to_say_it = write!(std::io::stderr(), "\r\x1b[Krelay: {what} …{passed}");
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
