//! What all commands share: exit codes, and how something is said.

use dane_relay::config::Config;
use std::io::Write as _;
use std::path::Path;
use std::process::ExitCode;

/// The command line is wrong (EX_USAGE of sysexits.h).
pub(crate) const EXIT_USAGE: u8 = 64;
/// The disk failed while the relay ran (EX_IOERR).
pub(crate) const EXIT_IO: u8 = 74;
/// The configuration, or something it names, cannot be used (EX_CONFIG).
pub(crate) const EXIT_CONFIG: u8 = 78;

/// Reads the configuration; without a file it is the default.
pub(crate) fn load(path: Option<&Path>) -> Result<Config, String> {
    path.map_or_else(|| Ok(Config::default()), |path| Config::load(path).map_err(|e| e.to_string()))
}

/// Prints to stdout.
pub(crate) fn say(text: &str) -> ExitCode {
    // Whoever closes the pipe early has read enough.
    let _broken_pipe = std::io::stdout().write_all(text.as_bytes());
    ExitCode::SUCCESS
}

/// Says on stderr what is wrong, and gives the exit code.
pub(crate) fn complain(code: u8, message: &str) -> ExitCode {
    let _nowhere_to_say_it = writeln!(std::io::stderr(), "relay: {message}");
    ExitCode::from(code)
}
