//! What the code must keep to and no compiler watches: layers, headers, the RFC table, sizes.
//!
//! Reads the sources as text. It is deliberately simple: a path is `crate::…` or
//! `dane_relay::…`, comments and the tests at the end of a file do not count.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "the sources are files")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// A module names only modules with a smaller number. Equal numbers do not know each other.
const LAYERS: &[(&str, u8)] = &[
    ("smtp", 0),
    ("clock", 0),
    ("net", 0),
    ("text", 0),
    ("envelope", 1),
    ("outcome", 1),
    ("config", 2),
    ("state_dir", 3),
    // The spool stands before accept: its trait is the hinge between taking mail and sending it.
    ("spool", 10),
    ("accept", 11),
    ("route", 12),
    ("resolve", 13),
    ("policy", 14),
    ("deliver", 15),
    ("report", 16),
    ("observe", 20),
    ("admin", 21),
    ("pipeline", 21),
    ("check", 22),
    ("lookup", 22),
    ("policies", 22),
    ("why", 22),
    ("audit", 22),
    ("queue", 22),
    ("control", 23),
    ("exceptions", 23),
    ("serve", 24),
    ("terminal", 28),
    ("operator", 29),
    ("lab", 29),
    ("main", 30),
];
/// The stages among them: they use each other's types and nothing else.
const STAGES: std::ops::RangeInclusive<u8> = 10..=16;
/// Only this module (and tests) may name the lab.
const MAY_NAME_LAB: &str = "main";

/// The most lines of one file, its tests included.
const LINES_LIMIT: usize = 600;

#[test]
fn a_module_names_only_lower_layers() {
    let mut faults = Vec::new();
    for source in sources() {
        faults.extend(layer_faults(&source.name(), &source.text));
    }
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
}

#[test]
fn the_layer_watch_sees_what_it_is_for() {
    let seen = |name: &str, text: &str| !layer_faults(name, text).is_empty();
    assert!(seen("smtp/reply.rs", "use crate::outcome::Cause;"));
    assert!(seen("envelope.rs", "use crate::outcome::Cause;"), "equal layers");
    assert!(seen("spool/mod.rs", "use crate::report::Failure;"), "a stage to the right");
    assert!(seen("policy/dane.rs", "let x = crate::resolve::lookup(y);"), "a call into another stage");
    assert!(seen("policy/dane.rs", "use crate::{clock::Timestamp, resolve::{TlsaRecord, driver::Resolver}};"));
    assert!(seen("check.rs", "use crate::lab::Lab;"));
    assert!(seen("unheard_of.rs", "use crate::clock::Timestamp;"));
    assert!(seen("outcome.rs", "use super::config::Config;"), "the crate by another name");
    assert!(seen("policy/dane.rs", "use super::super::report::Failure;"));
    assert!(seen("clock.rs", "#[cfg(test)]\nmod tests {\n}\nuse crate::config::Config;"), "behind the tests");
    for (name, text) in [
        ("policy/dane.rs", "use crate::resolve::{TlsaRecord, TlsaLookup as Lookup};\nuse super::chain;"),
        ("report/mod.rs", "use crate::spool;\nfn f() -> spool::Report {}"),
        ("pipeline.rs", "use crate::resolve::driver::Resolver;\nuse crate::policy::decide;"),
        ("main.rs", "use dane_relay::{serve, lab};"),
        ("clock.rs", "//! See [`crate::pipeline`].\n#[cfg(test)]\nmod tests {\n    use crate::config::Config;\n}"),
    ] {
        assert_eq!(layer_faults(name, text), Vec::<String>::new());
    }
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<_> = sources().into_iter().filter(|source| !source.text.starts_with("//! ")).collect();
    let silent: Vec<_> = silent.iter().map(Source::name).collect();
    assert!(silent.is_empty(), "without a //! header: {}", silent.join(", "));
}

#[test]
fn the_rfc_table_is_whole_and_all_of_it_is_used() {
    let front_page = fs::read_to_string(root().join("lib.rs")).unwrap();
    let listed: BTreeSet<String> =
        front_page.lines().filter_map(|line| line.strip_prefix("//! | ")).flat_map(rfcs).collect();
    let mut cited: BTreeMap<String, String> = BTreeMap::new();
    for source in sources().into_iter().filter(|source| source.name() != "lib.rs") {
        for rfc in rfcs(&source.text) {
            cited.entry(rfc).or_insert_with(|| source.name());
        }
    }
    let missing: Vec<_> = cited.iter().filter(|(rfc, _)| !listed.contains(*rfc)).collect();
    assert!(missing.is_empty(), "cited but not in the table of src/lib.rs: {missing:?}");
    let idle: Vec<_> = listed.iter().filter(|rfc| !cited.contains_key(*rfc)).collect();
    assert!(idle.is_empty(), "in the table of src/lib.rs but cited nowhere: {idle:?}");
    assert!(!listed.is_empty(), "src/lib.rs has no rows like `//! | RFC 5321 | … |`");
}

#[test]
fn alerts_ask_for_metrics_that_there_are() {
    let sources = sources();
    let alerts = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/alerts.yml")).unwrap();
    let asked: Vec<&str> = alerts
        .lines()
        .filter(|line| !line.trim_start().starts_with('#'))
        .flat_map(|line| line.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_')))
        .filter(|word| word.starts_with("relay_"))
        .collect();
    assert!(asked.len() > 10, "{asked:?}");
    for name in asked {
        let literal = format!("\"{name}\"");
        assert!(sources.iter().any(|source| source.text.contains(&literal)), "no metric {name}");
    }
}

#[test]
fn files_stay_readable() {
    let lines = |source: &Source| source.text.lines().count();
    let long: Vec<_> = sources().into_iter().filter(|source| lines(source) > LINES_LIMIT).collect();
    let faults: Vec<_> = long.iter().map(|source| format!("{} has {} lines", source.name(), lines(source))).collect();
    assert!(faults.is_empty(), "{LINES_LIMIT} are allowed\n{}", faults.join("\n"));
}

struct Source {
    path: PathBuf,
    text: String,
}

impl Source {
    /// The path below `src`, with `/` between its parts.
    fn name(&self) -> String {
        let below = self.path.strip_prefix(root()).unwrap();
        below.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

/// Every Rust file below `src`, in the order of the names.
fn sources() -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![root()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                found.push(Source { text: fs::read_to_string(&path).unwrap(), path });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    found
}

/// `RFC 5321` and the like.
fn rfcs(text: &str) -> Vec<String> {
    let number = |rest: &str| rest.chars().take_while(char::is_ascii_digit).collect::<String>();
    text.split("RFC ").skip(1).map(number).filter(|number| !number.is_empty()).collect()
}

fn layer_of(module: &str) -> Option<u8> {
    LAYERS.iter().find(|(name, _)| *name == module).map(|(_, layer)| *layer)
}

/// What a file names and may not.
fn layer_faults(name: &str, text: &str) -> Vec<String> {
    let module = name.split('/').next().unwrap().trim_end_matches(".rs");
    if module == "lib" {
        return Vec::new();
    }
    let Some(own) = layer_of(module) else { return vec![format!("{name}: give the module {module} a layer")] };
    let code = without_comments_and_tests(text);
    let mut faults = Vec::new();
    let is_top = !name.contains('/') || name.ends_with("/mod.rs") && name.matches('/').count() == 1;
    if code.contains("super::super") || is_top && code.contains("super::") {
        faults.push(format!("{name}: names the crate as super, where nobody looks for it; say crate"));
    }
    for path in paths(&code) {
        let Some(other) = path.first().filter(|other| *other != module) else { continue };
        let shown = path.join("::");
        match layer_of(other) {
            None => faults.push(format!("{name}: {shown}: give the module {other} a layer")),
            Some(_) if other == "lab" && module != MAY_NAME_LAB => {
                faults.push(format!("{name}: {shown}: nobody but {MAY_NAME_LAB} names the lab"));
            }
            Some(layer) if layer >= own => faults.push(format!("{name}: {shown}: not a lower layer")),
            Some(layer) if STAGES.contains(&own) && STAGES.contains(&layer) && !is_type(&path) => {
                faults.push(format!("{name}: {shown}: a stage uses only types of another stage"));
            }
            Some(_) => {}
        }
    }
    faults
}

/// The stage itself, or something in it that is written like a type or a constant.
/// A driver is never for another stage.
fn is_type(path: &[String]) -> bool {
    let is_capital = |part: &String| part.starts_with(|c: char| c.is_ascii_uppercase());
    path.len() == 1 || (path.iter().any(is_capital) && !path.iter().any(|part| part == "driver"))
}

fn without_comments_and_tests(text: &str) -> String {
    let (before, rest) = text.split_once("#[cfg(test)]\nmod tests {").unwrap_or((text, ""));
    // A line that is only a brace ends the tests; what follows is code again.
    let after = rest.split_once("\n}\n").map_or("", |(_tests, after)| after);
    let code = [before, after].concat();
    code.lines().filter(|line| !line.trim_start().starts_with("//")).collect::<Vec<_>>().join("\n")
}

/// Every path from the root of the crate, braces expanded: `crate::{a::B, c}` ⇒ `a::B`, `c`.
fn paths(code: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for start in ["crate::", "dane_relay::"] {
        for (at, _) in code.match_indices(start) {
            // `$crate::`, `my_crate::` are other things.
            let before = code[..at].chars().next_back();
            if before.is_none_or(|c| !c.is_alphanumeric() && c != '_' && c != '$') {
                expand(&mut code[at + start.len()..].chars().peekable(), &[], &mut found);
            }
        }
    }
    found
}

fn expand(rest: &mut std::iter::Peekable<std::str::Chars<'_>>, before: &[String], found: &mut Vec<Vec<String>>) {
    let mut path = before.to_vec();
    loop {
        while rest.next_if(|c| c.is_whitespace()).is_some() {}
        if rest.next_if_eq(&'{').is_some() {
            while rest.peek().is_some_and(|c| *c != '}') {
                expand(rest, &path, found);
                // `as Name` and the comma.
                while rest.next_if(|c| *c != ',' && *c != '}').is_some() {}
                rest.next_if_eq(&',');
                while rest.next_if(|c| c.is_whitespace()).is_some() {}
            }
            rest.next();
            return;
        }
        let mut part = String::new();
        while let Some(c) = rest.next_if(|c| c.is_alphanumeric() || *c == '_' || *c == '*') {
            part.push(c);
        }
        if part == "self" {
            found.push(path);
            return;
        }
        path.push(part);
        if rest.next_if_eq(&':').is_none() || rest.next_if_eq(&':').is_none() {
            found.push(path);
            return;
        }
    }
}
