//! From text to a configuration, past every fault: what cannot be read is noted and taken out, and the
//! rest is read again, until all of it has been seen. Then the values are held against each other.

use super::document::{Document, SyntaxFault};
use super::findings::ConfigFindings;
use super::problem::Problem;
use super::{Config, borders, checks, invalid, together};
use crate::clock::Timestamp;
use serde::Deserialize;
use std::collections::BTreeMap;

/// What ends the list where the syntax is wrong.
const SYNTAX_FIRST: &str = "the values are looked at when the syntax above is right";

/// Reads a configuration, and where its keys stand. What ends too late is refused where it is told how late
/// it is.
///
/// # Errors
/// All that is wrong, in the order of the file.
pub(super) fn read(text: &str, now: Option<Timestamp>) -> Result<(Config, BTreeMap<String, usize>), Vec<Problem>> {
    let document = Document::parse(text).map_err(|faults| syntax(text, faults))?;
    let lines = document.lines();
    let mut findings = ConfigFindings::of(document);
    let config = values(text, &mut findings);
    borders::check(&mut findings);
    if let Some(config) = &config {
        checks::check(config, &mut findings);
        if let Some(now) = now {
            together::check_until(&config.destination, now, &mut findings);
        }
    }
    match (config, findings.into_problems()) {
        (Some(config), problems) if problems.is_empty() => Ok((config, lines)),
        (_, problems) => Err(problems),
    }
}

fn syntax(text: &str, faults: Vec<SyntaxFault>) -> Vec<Problem> {
    let told = |fault: SyntaxFault| {
        let line = text.lines().nth(fault.line.saturating_sub(1)).unwrap_or_default();
        let message = match invalid::habit(line) {
            Some(advice) => advice.to_owned(),
            None => format!("this is no TOML: {}", invalid::plain(&fault.message)),
        };
        Problem { line: Some(fault.line), key: String::new(), message }
    };
    let mut problems: Vec<Problem> = faults.into_iter().map(told).collect();
    problems.push(Problem { line: None, key: String::new(), message: SYNTAX_FIRST.to_owned() });
    problems
}

/// The values, those left out that cannot be read; none where that has no end.
fn values(text: &str, findings: &mut ConfigFindings<'_>) -> Option<Config> {
    while !findings.is_enough() {
        let root = findings.document()?.root();
        let error = match Config::deserialize(toml::de::Deserializer::from(root)) {
            Ok(config) => return Some(config),
            Err(error) => error,
        };
        let document = findings.document()?;
        let Some(path) = error.span().and_then(|span| document.path_at(span.start)) else {
            findings.note("", error.message().to_owned());
            return None;
        };
        let path = wrong_entry(document, &path, &error).unwrap_or(path);
        if !is_told(&path, &error, findings) {
            let value = findings.document().and_then(|document| document.value(&path)).map(borders::written);
            let message = match (borders::of(&path), value) {
                (Some(border), Some(value)) => border.refusal(&value),
                (Some(_) | None, _) => invalid::explain(text, &path, &error),
            };
            findings.note(&path, message);
            if let Some(meant) = invalid::meant(error.message()) {
                let table = path.rsplit_once('.').map(|(table, _)| format!("{table}.")).unwrap_or_default();
                findings.excuse(&format!("{table}{meant}"));
            }
        }
        findings.take_out(&path);
    }
    None
}

/// Of a list that cannot be read the first entry that alone is the reason.
fn wrong_entry(document: &Document<'_>, path: &str, error: &toml::de::Error) -> Option<String> {
    let is_it = |nth: &usize| {
        let alone = Config::deserialize(toml::de::Deserializer::from(document.with_one_entry(path, *nth)));
        alone.is_err_and(|alone| alone.message() == error.message())
    };
    (0..document.entries(path)).find(is_it).map(|nth| format!("{path}.{nth}"))
}

/// Whether this only follows from what was taken out.
fn is_told(path: &str, error: &toml::de::Error, findings: &ConfigFindings<'_>) -> bool {
    match invalid::missing(error.message()) {
        Some(key) => findings.is_faulty(&format!("{path}.{key}")),
        None => !Document::is_entry(path) && findings.is_faulty(path),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use std::path::Path;

    fn told(text: &str) -> Vec<String> {
        Config::parse(text, Path::new("r")).unwrap_err().to_string().lines().map(str::to_owned).collect()
    }

    #[test]
    fn all_that_is_wrong_is_told_at_once_in_the_order_of_the_file() {
        let text = "hostname = \"relay\"\n[listen]\nclients = [\n  \"x\",\n  \"10.0.0.0/8\",\n  \"y\",\n]\nsmpt = []\n\
                    [retry]\nfirst = \"2h\"\n\n[[destination]]\ntls = \"encrypt\"\n[[destination]]\n\
                    domains = [\"a.example\"]\ntls = \"off\"\nmax_connections = 0\n";
        let begins = [
            "r:1: hostname: \"relay\" has no dot",
            "r:4: [listen] clients: \"x\" is no address",
            "r:6: [listen] clients: \"y\" is no address",
            "r:8: [listen] smpt: there is no such key; did you mean `smtp`?",
            "r:10: [retry] first: ",
            "r:12: [[destination]]: `domains` is missing",
            "r:16: [[destination]] tls: it weakens security, so it needs a reason",
            "r:17: [[destination]] max_connections: 0: write a number from 1 to 100000 (connections)",
        ];
        let told = told(text);
        assert_eq!(told.len(), begins.len(), "{told:#?}");
        for (line, begin) in told.iter().zip(begins) {
            assert!(line.starts_with(begin), "{line} does not begin {begin}");
        }
    }

    #[test]
    fn what_follows_from_a_wrong_value_is_not_told() {
        for text in [
            "[listen]\nsmtp = [\"x\"]",
            "[[destination]]\ndomains = [\"a b\"]\ntls = \"encrypt\"",
            "[[destination]]\ndomains = [\"a.example\"]\ntls = \"encrpyt\"",
            "[[destination]]\ndomains = [\"a.example\"]\nnext_hop = [\"x:y\"]",
            "[retry]\nfirst = \"2h\"\nlongest = \"x\"",
            "[dns]\nupstreams = [\"x\"]\nmode = \"trust-ad\"",
        ] {
            assert_eq!(told(text).len(), 1, "{text}: {:#?}", told(text));
        }
    }

    #[test]
    fn the_list_has_an_end() {
        let many: String = (0..99).map(|n| format!("[[destination]]\nx{n} = 1\n")).collect();
        let told = told(&many);
        assert_eq!(told.len(), 51);
        assert!(told[50].contains("mend these first"), "{}", told[50]);
    }

    #[test]
    fn wrong_syntax_ends_the_list_and_says_so() {
        let told = told("hostname = relay.example.org\n[listen]\nsmtp = [\"x\"]\n");
        assert!(told[0].starts_with("r:1: this is no TOML: "), "{told:?}");
        assert!(told.last().unwrap().contains("the values are looked at when"), "{told:?}");
    }
}
