//! `relay config show`: every key with the value that counts.
//!
//! The reference file holds every key with its default, which a test holds against the code; what
//! the operator wrote is laid over it.

use super::settings::{LoadedConfig, Settings};
use super::{Config, ConfigError, KeyLines, invalid, read, reading, system_hostname};
use crate::clock::Clock;
use std::path::Path;
use toml::{Table, Value};

/// The tables of which there may be many, and none.
const LISTS: [&str; 2] = ["destination", "host"];

/// Every key with its default and its explanation.
pub const REFERENCE: &str = include_str!("../../deploy/relay.toml");

/// The configuration of a file, or the default one, as a file with every key.
///
/// # Errors
/// As [`Config::load`].
pub fn shown(path: Option<&Path>) -> Result<String, ConfigError> {
    let text = text(path)?;
    effective(&text, path.unwrap_or_else(|| Path::new("default")))
}

/// The same as values, without the comments.
///
/// # Errors
/// As [`Config::load`].
pub fn shown_values(path: Option<&Path>) -> Result<Table, ConfigError> {
    let text = text(path)?;
    Config::parse(&text, path.unwrap_or_else(|| Path::new("default")))?;
    Ok(every_key(&text))
}

fn text(path: Option<&Path>) -> Result<String, ConfigError> {
    match path {
        Some(path) => read(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source }),
        None => Ok(String::new()),
    }
}

/// The configuration of a file, or the default one.
pub(super) fn loaded(path: Option<&Path>) -> Result<LoadedConfig, ConfigError> {
    parsed(&text(path)?, path.unwrap_or_else(|| Path::new("default")))
}

/// The same of a file that is in use already. One without a letter is one that somebody is writing at this
/// moment, and no wish for the defaults.
pub(super) fn loaded_again(path: &Path) -> Result<LoadedConfig, ConfigError> {
    let text = text(Some(path))?;
    if text.trim().is_empty() {
        let message = "the file is empty: is it being written? Reload again when it is whole".to_owned();
        return Err(ConfigError::whole(path.to_owned(), message));
    }
    parsed(&text, path)
}

pub(super) fn parsed(text: &str, path: &Path) -> Result<LoadedConfig, ConfigError> {
    let invalid = |problems| ConfigError::Invalid { path: path.to_owned(), problems };
    let (config, lines) = reading::read(text, Some(Clock::system().now())).map_err(invalid)?;
    let lines = KeyLines::new(path.to_owned(), lines, &config);
    Ok(LoadedConfig { config, settings: Settings::of(&every_key(text)), lines })
}

fn effective(text: &str, path: &Path) -> Result<String, ConfigError> {
    Config::parse(text, path)?;
    let shown = every_key(text);
    Ok(with_unset_keys(&shown, &shown.to_string()))
}

/// Keys without a default that the file does not set stand as comments below their headers.
fn with_unset_keys(shown: &Table, text: &str) -> String {
    let unset = |head: &str, table: &Table| {
        let keys = invalid::keys_of(head).into_iter().filter(|key| !table.contains_key(key));
        keys.map(|key| format!("# {key} is not set\n")).collect::<String>()
    };
    // The tables that may stand many times are no keys.
    let top = unset("", shown)
        .lines()
        .filter(|line| !LISTS.iter().any(|list| line.starts_with(&format!("# {list} "))))
        .fold(String::new(), |all, line| all + line + "\n");
    let with = |line: &str| {
        let name = line.strip_prefix('[').and_then(|line| line.strip_suffix(']'));
        let below = name.and_then(|name| Some(unset(line, shown.get(name)?.as_table()?))).unwrap_or_default();
        format!("{line}\n{below}")
    };
    text.lines().map(with).fold(top, |all, line| all + &line)
}

/// What a good file says, laid over the defaults.
pub(super) fn every_key(text: &str) -> Table {
    let mut all: Table = REFERENCE.parse().unwrap_or_default();
    all.remove("postmaster");
    all.insert("hostname".to_owned(), Value::String(system_hostname().to_string()));
    lay_over(&mut all, text.parse().unwrap_or_default());
    all
}

fn lay_over(below: &mut Table, above: Table) {
    for (key, value) in above {
        match (below.get_mut(&key), value) {
            (Some(Value::Table(below)), Value::Table(above)) => lay_over(below, above),
            (_, value) => {
                below.insert(key, value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_shown_and_what_the_file_says_counts() {
        let path = Path::new("relay.toml");
        let text = "hostname = \"a.example\"\n[retry]\nfirst = \"7m\"\n[[destination]]\ndomains = [\"b.example\"]\n\
                    next_hop = \"192.0.2.1:25\"\n";
        let shown = effective(text, path).unwrap();
        let again = Config::parse(&shown, path).unwrap();
        assert_eq!(format!("{again:?}"), format!("{:?}", Config::parse(text, path).unwrap()), "{shown}");
        // `[listen]` and `[admin]` have a certificate each.
        let once = ["postmaster", "rate", "templates", "canary", "users"].map(|key| (key, 1));
        for (key, times) in once.into_iter().chain([("certificate", 2), ("private_key", 2)]) {
            assert_eq!(shown.matches(&format!("# {key} is not set\n")).count(), times, "{key}: {shown}");
        }
        assert!(shown.contains("first = \"7m\"") && shown.contains("longest = \"1h\""), "{shown}");
    }

    #[test]
    fn without_a_file_the_defaults_are_shown() {
        // The name of a machine may have no dot, and a file may not say so.
        let ours = format!("hostname = \"{}\"", system_hostname());
        let shown = shown(None).unwrap().replace(&ours, "hostname = \"a.example\"");
        let again = Config::parse(&shown, Path::new("default")).unwrap();
        let default = Config { hostname: again.hostname.clone(), ..Config::default() };
        assert_eq!(format!("{again:?}"), format!("{default:?}"));
    }
}
