//! How much the log of this process says, and how that is changed while it runs.
//!
//! There is one log for a process, so there is one filter: whoever begins the log puts [`begin`] between
//! events and what writes them; `relay log-level` and SIGUSR1 change it.

use crate::clock::{Clock, Timestamp};
use serde::{Deserialize, Serialize};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, OnceLock, PoisonError};
use std::time::Duration;
use tracing_subscriber::Registry;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::reload;

/// The word for what was set at the start.
const DEFAULT: &str = "default";

/// The longest time for which another level may hold.
const LONGEST: Duration = Duration::from_secs(30 * 86_400);

/// What was said about the log that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLevel {
    /// The level, or parts of the program with a level each.
    pub level: String,
    /// When it becomes again what it was at the start; none when that is not foreseen.
    pub until: Option<Timestamp>,
}

/// The filter of this process.
struct LogFilter {
    handle: reload::Handle<Targets, Registry>,
    at_start: LevelFilter,
    in_force: Mutex<LogLevel>,
    /// Counts changes, so that what was to end by itself ends no later one.
    changes: AtomicU64,
}

static FILTER: OnceLock<LogFilter> = OnceLock::new();

/// What lets through events of this level, until it is changed.
#[must_use]
pub fn begin(level: LevelFilter) -> reload::Layer<Targets, Registry> {
    let (layer, handle) = reload::Layer::new(Targets::new().with_default(level));
    let in_force = Mutex::new(LogLevel { level: level.to_string(), until: None });
    // A second log in one process is one that nobody changes.
    let _first = FILTER.set(LogFilter { handle, at_start: level, in_force, changes: AtomicU64::new(0) });
    layer
}

/// Reads a level, or a list of `module=level`, of which one may be a level alone.
///
/// # Errors
/// A sentence that says what would be right.
pub fn parse(text: &str) -> Result<Targets, String> {
    let wrong = |part: &str| {
        format!(
            "\"{part}\" is no level: write error, warn, info, debug, trace, off or default, or a list such as \
             info,dane_relay::deliver=debug"
        )
    };
    let is_module =
        |name: &str| !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':');
    let mut targets = Targets::new().with_default(LevelFilter::OFF);
    for part in text.split(',').map(str::trim) {
        let level = |level: &str| level.parse::<LevelFilter>().map_err(|_odd| wrong(part));
        targets = match part.split_once('=') {
            None if part.is_empty() || part.parse::<u8>().is_ok() => return Err(wrong(part)),
            None => targets.with_default(level(part)?),
            Some((module, of_it)) if is_module(module) => targets.with_target(module, level(of_it)?),
            Some(_) => return Err(wrong(part)),
        };
    }
    Ok(targets)
}

/// Changes how much is said, for a time or until it is changed again. Gives what is in force then.
///
/// # Errors
/// A sentence for the operator.
pub fn set(text: &str, lasts: Option<Duration>, clock: &Clock) -> Result<LogLevel, String> {
    let filter = FILTER.get().ok_or("this relay has no log of its own")?;
    if lasts.is_some_and(|lasts| lasts.is_zero() || lasts > LONGEST) {
        return Err("--for: write a time from 1s to 30days".to_owned());
    }
    let targets = if text == DEFAULT { filter.targets_at_start() } else { parse(text)? };
    let level = if text == DEFAULT { filter.at_start.to_string() } else { text.to_owned() };
    let until = lasts.filter(|_| text != DEFAULT).map(|lasts| clock.now().plus(lasts));
    let in_force = LogLevel { level, until };
    let change = filter.put(targets, in_force.clone())?;
    if let Some(lasts) = lasts.filter(|_| text != DEFAULT) {
        tokio::spawn(async move {
            tokio::time::sleep(lasts).await;
            filter.end(change);
        });
    }
    Ok(in_force)
}

/// What is in force; none where this process has no log of its own.
#[must_use]
pub fn in_force() -> Option<LogLevel> {
    FILTER.get().map(|filter| filter.in_force.lock().unwrap_or_else(PoisonError::into_inner).clone())
}

/// Goes to debug, or back from whatever was set to what was set at the start (SIGUSR1).
pub fn toggle(clock: &Clock) {
    let Some(filter) = FILTER.get() else { return };
    let is_changed = in_force().is_some_and(|level| level.level != filter.at_start.to_string());
    match set(if is_changed { DEFAULT } else { "debug" }, None, clock) {
        Ok(LogLevel { level, .. }) => tracing::warn!(%level, "SIGUSR1: how much is logged has changed"),
        Err(error) => tracing::warn!(%error, "SIGUSR1: how much is logged cannot be changed"),
    }
}

impl LogFilter {
    fn targets_at_start(&self) -> Targets {
        Targets::new().with_default(self.at_start)
    }

    /// Gives the number of the change.
    fn put(&self, targets: Targets, level: LogLevel) -> Result<u64, String> {
        let mut in_force = self.in_force.lock().unwrap_or_else(PoisonError::into_inner);
        self.handle.reload(targets).map_err(|gone| gone.to_string())?;
        *in_force = level;
        Ok(self.changes.fetch_add(1, Ordering::SeqCst) + 1)
    }

    /// Its time is over, unless another change came.
    fn end(&self, change: u64) {
        if self.changes.load(Ordering::SeqCst) != change {
            return;
        }
        let level = LogLevel { level: self.at_start.to_string(), until: None };
        if self.put(self.targets_at_start(), level).is_ok() {
            tracing::info!(level = %self.at_start, "how much is logged is again as at the start");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn a_level_or_a_list_is_read_and_all_else_refused_with_what_to_write() {
        let debug = parse("debug").unwrap();
        assert!(debug.would_enable("dane_relay::deliver", &Level::DEBUG) && !debug.would_enable("x", &Level::TRACE));
        let list = parse("warn, dane_relay::deliver=trace,rustls=off").unwrap();
        assert!(list.would_enable("dane_relay::deliver::session", &Level::TRACE));
        assert!(!list.would_enable("rustls", &Level::ERROR) && !list.would_enable("dane_relay", &Level::INFO));
        assert!(!parse("dane_relay::deliver=debug").unwrap().would_enable("other", &Level::ERROR));
        for odd in ["", "loud", "3", "debug,", "a b=debug", "=debug", "dane_relay=loud"] {
            assert!(parse(odd).unwrap_err().contains("error, warn, info, debug, trace, off"), "{odd}");
        }
    }
}
