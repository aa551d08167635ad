//! What the code must keep to and no compiler watches: layers, headers, the RFC table, sizes.
//!
//! Reads the sources as text. It is deliberately simple: a path is `crate::…` or
//! `dane_relay::…`, comments and the tests at the end of a file do not count.

#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "the sources are files")]

mod claims;
mod guides;
mod imports;
mod names;
mod shape;
mod source;
mod visibility;
mod watching;
mod words;

use imports::{circles, paths};
use source::{root, sources, without_comments_and_tests};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;

/// A module names only modules with a smaller number. Equal numbers do not know each other.
const LAYERS: &[(&str, u8)] = &[
    ("smtp", 0),
    ("clock", 0),
    ("flight", 0),
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
    ("https", 14),
    ("policy", 15),
    ("deliver", 16),
    ("report", 17),
    ("observe", 20),
    ("pipeline", 21),
    ("check", 22),
    ("command", 22),
    ("service", 24),
    ("cli", 28),
    ("lab", 29),
    ("main", 30),
];
/// The stages among them: they use each other's types and nothing else.
const STAGES: std::ops::RangeInclusive<u8> = 10..=17;
/// Only this module (and tests) may name the lab.
const MAY_NAME_LAB: &str = "main";

/// Only this file names an engine of the spool.
const MAY_NAME_ENGINE: &str = "spool/engine.rs";
/// The engines, and the libraries that they alone may name.
const ENGINES: [(&str, &[&str]); 2] =
    [("embedded", &["rusqlite"]), ("postgres", &["tokio_postgres", "deadpool_postgres", "tokio_postgres_rustls"])];

/// Type names that say nothing. One of them has a home.
const EMPTY_NAMES: [&str; 9] = ["Place", "Said", "Known", "Found", "Kept", "Met", "Standing", "Fault", "Answer"];
const HOME_OF_ANSWER: &str = "resolve/answer.rs";

#[test]
fn a_module_names_only_lower_layers() {
    let mut faults = Vec::new();
    for source in sources() {
        faults.extend(layer_faults(&source.name, &source.text));
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
        ("main.rs", "use dane_relay::{service, lab};"),
        ("clock.rs", "//! See [`crate::pipeline`].\n#[cfg(test)]\nmod tests {\n    use crate::config::Config;\n}"),
    ] {
        assert_eq!(layer_faults(name, text), Vec::<String>::new());
    }
}

#[test]
fn files_do_not_import_each_other_in_circles() {
    let files: Vec<(String, String)> = sources().into_iter().map(|source| (source.name, source.text)).collect();
    let found = circles(&files);
    assert!(found.is_empty(), "these import each other: {found:#?}");
}

#[test]
fn the_watch_for_circles_sees_what_it_is_for() {
    let groups = |files: &[(&str, &str)]| {
        let files: Vec<_> = files.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
        let names = |group: BTreeSet<String>| group.into_iter().collect::<Vec<_>>().join(" ");
        circles(&files).into_iter().map(names).collect::<Vec<_>>()
    };
    let three = [
        ("a/mod.rs", "mod b;\nmod c;\nuse b::B;\npub struct A;"),
        ("a/b.rs", "use super::{A, c::C};"),
        ("a/c.rs", "use crate::d::deep::D;"),
        ("d/deep.rs", "fn f() { crate::a::b::g(); }"),
    ];
    assert_eq!(groups(&three), ["a/b a/c d/deep"]);
    assert_eq!(groups(&[("x.rs", "use super::y::Y;"), ("y.rs", "use crate::{z::Z, x as other};")]), ["x y"]);
    assert_eq!(groups(&[("x.rs", "mod y;\nuse y::Y;"), ("x/y.rs", "use super::X;")]), Vec::<String>::new(), "a child");
    assert_eq!(groups(&[("x.rs", "use crate::y::Y;"), ("y.rs", "//! See [`crate::x`].")]), Vec::<String>::new());
    let tests = "#[cfg(test)]\n#[expect(x)]\npub(super) mod tests {\n    use crate::x::X;\n}\n";
    assert_eq!(groups(&[("x.rs", "use crate::y::Y;"), ("y.rs", tests)]), Vec::<String>::new());
    assert_eq!(groups(&[("x.rs", "use crate::y::Y;"), ("y.rs", &format!("{tests}use super::x;"))]), ["x y"]);
}

#[test]
fn one_file_names_the_engines_of_the_spool_and_none_outside_of_them_their_stores() {
    let faults: Vec<_> = sources().iter().flat_map(|source| engine_faults(&source.name, &source.text)).collect();
    assert!(faults.is_empty(), "\n{}", faults.join("\n"));
    for (name, text) in [
        ("service/start.rs", "use crate::spool::embedded::EmbeddedSpool;"),
        ("command/queue.rs", "use crate::spool::{embedded, ledger::Ledger};"),
        ("spool/mod.rs", "pub use embedded::EmbeddedSpool;"),
        ("main.rs", "use dane_relay::spool::embedded as engine;"),
        ("spool/mod.rs", "State(#[from] rusqlite::Error),"),
        ("spool/embedded/log.rs", "use tokio_postgres::Client;"),
        ("spool/postgres/rows.rs", "use crate::spool::embedded::jobs;"),
    ] {
        assert!(!engine_faults(name, text).is_empty(), "{name}: {text}");
    }
    for (name, text) in [
        (MAY_NAME_ENGINE, "use super::embedded::EmbeddedSpool;"),
        ("spool/mod.rs", "pub mod embedded;"),
        ("serve.rs", "// spool::embedded is\nlet embedded_in = 1;"),
        ("spool/embedded/log.rs", "use crate::spool::embedded::jobs;\nuse rusqlite::Connection;"),
    ] {
        assert!(engine_faults(name, text).is_empty(), "{name}: {text}");
    }
}

#[test]
fn a_type_is_named_for_what_it_holds() {
    let faults = |name: &str, text: &str| {
        let is_at_home = |found: &str| name == HOME_OF_ANSWER && found == "Answer";
        let words: Vec<&str> = text.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
        let is_type = |pair: &&[&str]| matches!(pair[0], "struct" | "enum" | "trait" | "type");
        let types: Vec<String> = words.windows(2).filter(is_type).map(|pair| pair[1].to_owned()).collect();
        types
            .into_iter()
            .filter(|found| EMPTY_NAMES.contains(&found.as_str()) && !is_at_home(found))
            .collect::<Vec<_>>()
    };
    assert_eq!(
        faults("spool/x.rs", "pub(super) struct Place {\nenum Known<T> { A }\nstruct RecordPlace;"),
        ["Place", "Known"]
    );
    assert_eq!(faults("resolve/probe.rs", "type Answer = u8;"), ["Answer"]);
    assert_eq!(faults(HOME_OF_ANSWER, "pub enum Answer {}"), Vec::<String>::new());
    for source in sources() {
        assert_eq!(faults(&source.name, &source.text), Vec::<String>::new(), "{}", source.name);
    }
}

#[test]
fn every_file_says_first_what_it_is_for() {
    let silent: Vec<_> = sources().into_iter().filter(|source| !source.text.starts_with("//! ")).collect();
    let silent: Vec<_> = silent.iter().map(|source| source.name.as_str()).collect();
    assert!(silent.is_empty(), "without a //! header: {}", silent.join(", "));
}

#[test]
fn the_rfc_table_is_whole_and_all_of_it_is_used() {
    let front_page = fs::read_to_string(root().join("lib.rs")).unwrap();
    let listed: BTreeSet<String> =
        front_page.lines().filter_map(|line| line.strip_prefix("//! | ")).flat_map(rfcs).collect();
    let mut cited: BTreeMap<String, String> = BTreeMap::new();
    for source in sources().into_iter().filter(|source| source.name != "lib.rs") {
        for rfc in rfcs(&source.text) {
            cited.entry(rfc).or_insert_with(|| source.name.clone());
        }
    }
    let missing: Vec<_> = cited.iter().filter(|(rfc, _)| !listed.contains(*rfc)).collect();
    assert!(missing.is_empty(), "cited but not in the table of src/lib.rs: {missing:?}");
    let idle: Vec<_> = listed.iter().filter(|rfc| !cited.contains_key(*rfc)).collect();
    assert!(idle.is_empty(), "in the table of src/lib.rs but cited nowhere: {idle:?}");
    assert!(!listed.is_empty(), "src/lib.rs has no rows like `//! | RFC 5321 | … |`");
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

/// What a file names of engines and their stores, and may not.
fn engine_faults(name: &str, text: &str) -> Vec<String> {
    let code = without_comments_and_tests(text);
    ENGINES.iter().flat_map(|(engine, libraries)| faults_of_engine(name, &code, engine, libraries)).collect()
}

fn faults_of_engine(name: &str, code: &str, engine: &str, libraries: &[&str]) -> Vec<String> {
    let home = format!("spool/{engine}/");
    if name.starts_with(&home) {
        return Vec::new();
    }
    let declared = format!("mod {engine};");
    let code: Vec<&str> = code.lines().filter(|line| !line.trim().ends_with(&declared)).collect();
    let words: Vec<&str> =
        code.iter().flat_map(|line| line.split(|c: char| !(c.is_alphanumeric() || c == '_'))).collect();
    let mut faults = Vec::new();
    if name != MAY_NAME_ENGINE && words.contains(&engine) {
        faults.push(format!("{name}: {MAY_NAME_ENGINE} alone names an engine"));
    }
    let named = libraries.iter().filter(|library| words.contains(library));
    faults.extend(named.map(|library| format!("{name}: {library} is known in {home} alone")));
    faults
}
