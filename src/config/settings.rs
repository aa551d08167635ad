//! The keys of a configuration with the values that count, as text: what `relay config diff` compares, and
//! what a running relay says of itself.
//!
//! A key is named as messages name it, `[listen] clients`; one of many by what it is about,
//! `[[destination]] a.example: tls`. Values that are secrets are not shown.

use super::{Config, KeyLines};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use toml::{Table, Value};

/// Keys that only a restart changes, and why.
pub const AT_RESTART: &[(&str, &str)] = &[
    ("[spool] path", "the mail that waits is there"),
    ("[spool] engine", "the mail that waits is there"),
    ("[spool] url", "the mail that waits is there"),
    ("[spool] url_file", "the mail that waits is there"),
    ("[spool] url_credential", "the mail that waits is there"),
    ("[spool] roots", "the connections to the database are made by it"),
    ("[spool] max_connections", "the connections to the database are counted from the start"),
    ("[spool] lease", "claims are renewed by it"),
    ("[spool] node", "what this relay carries is under its name"),
];

/// Keys whose values are shown to nobody, wherever they stand.
const SECRET: [&str; 4] = ["password", "passphrase", "secret", "token"];
/// What stands in their place.
const HIDDEN: &str = "(hidden)";
/// What says which one of many it is.
const NAMES: [&str; 4] = ["name", "domains", "hosts", "domain"];
/// What says it besides.
const NAMES_MORE: &str = "senders";

/// All keys with the values that count.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings(BTreeMap<String, String>);

/// A configuration that can be used.
#[derive(Clone, Debug)]
pub struct LoadedConfig {
    /// Its values.
    pub config: Config,
    /// The same as text; nothing where it was given by whoever started the relay.
    pub settings: Settings,
    /// Where its keys stand.
    pub lines: KeyLines,
}

impl LoadedConfig {
    /// What counts of it while a relay runs that was started with `before`: what needs a restart stays.
    pub fn keep_until_restart(&mut self, before: &Self) {
        self.config.spool.keep_place(&before.config.spool);
        for (key, _) in AT_RESTART {
            match before.settings.0.get(*key) {
                Some(value) => drop(self.settings.0.insert((*key).to_owned(), value.clone())),
                None => drop(self.settings.0.remove(*key)),
            }
        }
    }
}

/// When a change comes into force.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum TakesEffect {
    /// With the reload.
    AtReload,
    /// With the next start.
    AtRestart,
}

/// A key with another value than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChange {
    /// The key.
    pub key: String,
    /// Its value before; none where it was not there.
    pub from: Option<String>,
    /// Its value now.
    pub to: Option<String>,
    /// When that comes into force.
    pub takes_effect: TakesEffect,
}

impl KeyChange {
    /// For people, in a line.
    #[must_use]
    pub fn line(&self) -> String {
        let value = |value: &Option<String>| value.clone().unwrap_or_else(|| "not set".to_owned());
        let why = AT_RESTART.iter().find(|(key, _)| *key == self.key).map(|(_, why)| *why);
        let restart = match self.takes_effect {
            TakesEffect::AtReload => String::new(),
            TakesEffect::AtRestart => format!(" (needs a restart: {})", why.unwrap_or_default()),
        };
        format!("{}: {} -> {}{restart}", self.key, value(&self.from), value(&self.to))
    }
}

impl Settings {
    /// Those of a file in which every key stands.
    #[must_use]
    pub fn of(table: &Table) -> Self {
        let mut all = BTreeMap::new();
        for (key, value) in table {
            match value {
                Value::Table(section) => put(&mut all, &format!("[{key}] "), section),
                Value::Array(many) if !many.is_empty() && many.iter().all(Value::is_table) => {
                    for (one, name) in many.iter().filter_map(Value::as_table).zip(names(many)) {
                        put(&mut all, &format!("[[{key}]] {name}: "), one);
                    }
                }
                Value::String(_)
                | Value::Integer(_)
                | Value::Float(_)
                | Value::Boolean(_)
                | Value::Datetime(_)
                | Value::Array(_) => drop(all.insert(key.clone(), shown(key, value))),
            }
        }
        Self(all)
    }

    /// The keys.
    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// What is different in `new`, in the order of the keys.
    #[must_use]
    pub fn changes_to(&self, new: &Self) -> Vec<KeyChange> {
        let keys: BTreeSet<&String> = self.0.keys().chain(new.0.keys()).collect();
        let change = |key: &String| {
            let (from, to) = (self.0.get(key), new.0.get(key));
            (from != to).then(|| KeyChange {
                key: key.clone(),
                from: from.cloned(),
                to: to.cloned(),
                takes_effect: takes_effect(key),
            })
        };
        keys.into_iter().filter_map(change).collect()
    }
}

/// When a change of this key comes into force.
#[must_use]
pub fn takes_effect(key: &str) -> TakesEffect {
    let needs_restart = AT_RESTART.iter().any(|(one, _)| *one == key);
    if needs_restart { TakesEffect::AtRestart } else { TakesEffect::AtReload }
}

fn put(all: &mut BTreeMap<String, String>, prefix: &str, section: &Table) {
    for (key, value) in section {
        all.insert(format!("{prefix}{key}"), shown(key, value));
    }
}

fn shown(key: &str, value: &Value) -> String {
    hidden(key, value.clone()).to_string()
}

fn hidden(key: &str, value: Value) -> Value {
    match value {
        _ if SECRET.contains(&key) => Value::String(HIDDEN.to_owned()),
        Value::Table(table) => {
            Value::Table(table.into_iter().map(|(key, value)| (key.clone(), hidden(&key, value))).collect())
        }
        Value::Array(many) => Value::Array(many.into_iter().map(|one| hidden(key, one)).collect()),
        Value::String(_) | Value::Integer(_) | Value::Float(_) | Value::Boolean(_) | Value::Datetime(_) => value,
    }
}

/// What each of many is about; where that does not tell them apart, which one it is, too.
fn names(many: &[Value]) -> Vec<String> {
    let words = |value: &Value| {
        let several =
            value.as_array().map(|words| words.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(", "));
        several.unwrap_or_else(|| value.as_str().unwrap_or_default().to_owned())
    };
    let mut met: BTreeMap<String, usize> = BTreeMap::new();
    let name = |one: &Value| {
        let name = NAMES.iter().find_map(|key| one.get(key)).map(words).unwrap_or_default();
        let senders = one.get(NAMES_MORE).map(|senders| format!(" from {}", words(senders))).unwrap_or_default();
        let name = name + &senders;
        let nth = met.entry(name.clone()).and_modify(|nth| *nth += 1).or_insert(1);
        if *nth == 1 { name } else { format!("{name} #{nth}") }
    };
    many.iter().map(name).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(text: &str) -> Settings {
        Settings::of(&text.parse().unwrap())
    }

    fn lines(from: &str, to: &str) -> Vec<String> {
        settings(from).changes_to(&settings(to)).iter().map(KeyChange::line).collect()
    }

    #[test]
    fn each_key_that_differs_is_named_as_messages_name_it() {
        let from = "hostname = \"a.example\"\n[listen]\nclients = [\"10.0.0.0/8\"]\nmax_sessions = 5\n";
        let to = "hostname = \"a.example\"\n[listen]\nclients = [\"10.0.0.0/8\", \"::1\"]\n[spool]\npath = \"/x\"\n";
        assert_eq!(
            lines(from, to),
            [
                "[listen] clients: [\"10.0.0.0/8\"] -> [\"10.0.0.0/8\", \"::1\"]",
                "[listen] max_sessions: 5 -> not set",
                "[spool] path: not set -> \"/x\" (needs a restart: the mail that waits is there)",
            ]
        );
        assert!(lines(to, to).is_empty());
    }

    #[test]
    fn one_of_many_is_named_by_what_it_is_about_wherever_it_stands() {
        let one = "[[destination]]\ndomains = [\"a.example\", \"b.example\"]\ntls = \"encrypt\"\n";
        let other = "[[destination]]\ndomains = [\"a.example\", \"b.example\"]\nsenders = [\"<>\"]\ntls = \"dane\"\n";
        assert!(lines(&format!("{one}{other}"), &format!("{other}{one}")).is_empty());
        let changed = one.replace("encrypt", "dane-only");
        let told = lines(&format!("{one}{other}"), &format!("{other}{changed}"));
        assert_eq!(told, ["[[destination]] a.example, b.example: tls: \"encrypt\" -> \"dane-only\""]);
        assert_eq!(lines("", one).len(), 2);
        let twice = "[[host]]\nhosts = [\"x\"]\nrate = \"1/s\"\n".repeat(2);
        assert_eq!(settings(&twice).keys().filter(|key| key.starts_with("[[host]] x #2: ")).count(), 2);
    }

    #[test]
    fn secrets_are_not_shown_and_their_change_neither() {
        let with =
            |secret: &str| format!("[x]\nlogin = [{{ user = \"u\", password = \"{secret}\" }}]\ntoken = \"{secret}\"");
        let shown = format!("{:?}", settings(&with("hunter2")));
        assert!(!shown.contains("hunter2") && shown.contains("user = \\\"u\\\""), "{shown}");
        assert!(lines(&with("one"), &with("two")).is_empty());
    }
}
