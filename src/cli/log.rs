//! Where the log goes and how it looks: lines or JSON on standard error, with its priority in front of
//! each line where that is the journal (sd-daemon(3)).

use dane_relay::observe::log_level;
use dane_relay::text::{harmless_json, in_one_line};
use std::fmt;
use std::os::fd::AsFd;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::filter::LevelFilter;
use tracing_subscriber::fmt::FmtContext;
use tracing_subscriber::fmt::format::{FormatEvent, FormatFields, Writer};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

/// How much is said: `error`, `warn`, `info`, `debug`, `trace` or `off`.
const LEVEL: &str = "RUST_LOG";
/// The form of a line: `text` or `json`.
const FORM: &str = "RELAY_LOG";
/// Where systemd says which stream is the journal, as `device:inode` (systemd.exec(5)).
const JOURNAL: &str = "JOURNAL_STREAM";

/// The form of a log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogForm {
    Text,
    Json,
}

/// How the log is to be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct LogSettings {
    level: LevelFilter,
    form: LogForm,
}

/// Begins to log on standard error.
///
/// # Errors
/// What is wrong with the environment variables that choose level and form.
pub(crate) fn begin() -> Result<(), String> {
    let LogSettings { level, form } = settings(variable(LEVEL).as_deref(), variable(FORM).as_deref())?;
    let prefix = if stderr_is_journal() { Prefix::Priority } else { Prefix::Nothing };
    // A journal that restarts closes our log. The library would complain about that on the same
    // closed stream, and panic in whoever logs: a session after its message is stored, a delivery.
    let lines =
        tracing_subscriber::fmt::layer().with_writer(std::io::stderr).with_target(false).log_internal_errors(false);
    let filtered = tracing_subscriber::registry().with(log_level::begin(level));
    match form {
        LogForm::Json => {
            let lines = lines.json().flatten_event(true);
            filtered.with(lines.map_event_format(|format| Prioritised { prefix, form, format })).init();
        }
        LogForm::Text => {
            let lines = lines.with_ansi(false);
            filtered.with(lines.map_event_format(|format| Prioritised { prefix, form, format })).init();
        }
    }
    Ok(())
}

fn variable(name: &str) -> Option<String> {
    std::env::var_os(name).map(|value| value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
}

fn settings(level: Option<&str>, form: Option<&str>) -> Result<LogSettings, String> {
    let level = match level {
        None => LevelFilter::INFO,
        Some(level) => level
            .parse()
            .map_err(|_| format!("{LEVEL}: \"{level}\" is no level; write error, warn, info, debug, trace or off"))?,
    };
    let form = match form {
        None | Some("text") => LogForm::Text,
        Some("json") => LogForm::Json,
        Some(other) => return Err(format!("{FORM}: \"{other}\" is no form of a log; write text or json")),
    };
    Ok(LogSettings { level, form })
}

/// Standard error may have been sent elsewhere since systemd set the variable; then it is no journal.
fn stderr_is_journal() -> bool {
    let Some(journal) = variable(JOURNAL) else { return false };
    rustix::fs::fstat(std::io::stderr().as_fd()).is_ok_and(|stream| is_stream(&journal, stream.st_dev, stream.st_ino))
}

fn is_stream(journal: &str, device: u64, inode: u64) -> bool {
    journal.split_once(':').is_some_and(|(d, i)| d.parse() == Ok(device) && i.parse() == Ok(inode))
}

/// What stands in front of a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Prefix {
    Nothing,
    /// The priority of syslog(3), as `<6>`: the journal takes it off and files the line by it.
    Priority,
}

/// Lines as `format` writes them, behind a prefix; what strangers said steers no terminal and begins no line.
struct Prioritised<F> {
    prefix: Prefix,
    form: LogForm,
    format: F,
}

impl<S, N, F> FormatEvent<S, N> for Prioritised<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, mut line: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        match self.prefix {
            Prefix::Nothing => {}
            Prefix::Priority => write!(line, "<{}>", priority(*event.metadata().level()))?,
        }
        let mut written = String::new();
        self.format.format_event(context, Writer::new(&mut written), event)?;
        let written = written.trim_end_matches('\n');
        line.write_str(&match self.form {
            LogForm::Text => in_one_line(written),
            LogForm::Json => harmless_json(written),
        })?;
        line.write_char('\n')
    }
}

/// The priority of syslog(3).
const fn priority(level: Level) -> u8 {
    match level {
        Level::ERROR => 3,
        Level::WARN => 4,
        Level::INFO => 6,
        Level::DEBUG | Level::TRACE => 7,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_or_form_that_nobody_knows_is_refused_with_what_to_write() {
        for (level, form, named) in [
            (Some("loud"), None, "RUST_LOG: \"loud\" is no level; write error, warn, info, debug, trace or off"),
            (Some("relay=debug"), None, "RUST_LOG: \"relay=debug\" is no level"),
            (None, Some("xml"), "RELAY_LOG: \"xml\" is no form of a log; write text or json"),
        ] {
            let error = settings(level, form).unwrap_err();
            assert!(error.starts_with(named), "{error}");
        }
        assert_eq!(settings(None, None), Ok(LogSettings { level: LevelFilter::INFO, form: LogForm::Text }));
        assert_eq!(
            settings(Some("DEBUG"), Some("json")),
            Ok(LogSettings { level: LevelFilter::DEBUG, form: LogForm::Json })
        );
    }

    #[test]
    fn the_journal_is_known_by_device_and_inode() {
        assert!(is_stream("8:1234", 8, 1234));
        for other in ["8:1235", "9:1234", "8", "", ":", "8:1234:5", "x:y"] {
            assert!(!is_stream(other, 8, 1234), "{other}");
        }
    }

    #[test]
    fn warnings_and_errors_have_their_priority() {
        let levels = [Level::ERROR, Level::WARN, Level::INFO, Level::DEBUG, Level::TRACE];
        assert_eq!(levels.map(priority), [3, 4, 6, 7, 7]);
    }
}
