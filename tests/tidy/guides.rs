//! What the guides in `deploy/` promise to each other: every alarm has its section, every link leads
//! somewhere, the short guide has no command that the long one has not, and what `relay setup` prints is
//! what the guide shows.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn deploy() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy")
}

fn read(name: &str) -> String {
    fs::read_to_string(deploy().join(name)).unwrap_or_else(|error| panic!("deploy/{name}: {error}"))
}

fn set<'a>(all: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    all.map(str::trim).collect()
}

#[test]
fn every_alert_has_its_section_in_the_operations_guide_and_no_other_is_there() {
    let (rules, guide) = (read("alerts.yml"), read("operations.md"));
    let alerts = set(rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")));
    let sections = set(guide.lines().filter_map(|line| line.strip_prefix("## ")));
    assert!(alerts.len() >= 10, "{alerts:?}");
    assert_eq!(alerts, sections);
}

#[test]
fn an_alarm_is_as_urgent_in_the_guide_as_in_its_rule() {
    let (rules, guide) = (read("alerts.yml"), read("operations.md"));
    for rule in rules.split("- alert: ").skip(1) {
        let name = rule.lines().next().unwrap_or_default();
        let severity = rule.split("severity: ").nth(1).and_then(|rest| rest.split('}').next()).unwrap_or_default();
        let section = guide.split(&format!("\n## {name}\n")).nth(1).unwrap_or_default();
        let said = section.trim_start().split("*").nth(1).unwrap_or_default();
        assert_eq!(said, format!("{severity}."), "{name}");
    }
}

/// Exchange warns its senders after four hours and gives up after two days: so long may the relay be away.
#[test]
fn e12_the_guides_say_for_how_long_exchange_keeps_what_the_relay_does_not_take() {
    let flat = |name: &str| read(name).split_ascii_whitespace().collect::<Vec<_>>().join(" ");
    let guide = flat("exchange.md");
    assert!(guide.contains("senders after four hours and gives up after two days"), "exchange.md");
    assert!(flat("operations.md").contains("waits in Exchange, for two days at least"), "operations.md");
    let rules = read("alerts.yml");
    let down =
        rules.split("- alert: RelayDown").nth(1).and_then(|rest| rest.split("- alert:").next()).unwrap_or_default();
    assert!(down.contains("for: 3m") && down.contains("severity: page"), "long before that somebody knows: {down}");
}

/// The lines of the fenced blocks of a kind: `sh`, `powershell`.
fn commands(text: &str, kind: &str) -> Vec<String> {
    let mut inside = false;
    let mut found = Vec::new();
    for line in text.lines() {
        match line.strip_prefix("```") {
            Some(info) => inside = !inside && info.split(' ').next() == Some(kind),
            None if inside => found.push(line.trim().to_owned()),
            None => {}
        }
    }
    found
}

#[test]
fn the_short_guide_has_no_command_that_the_long_one_has_not() {
    let (long, short) = (read("exchange.md"), read("exchange.nl.md"));
    for kind in ["sh", "powershell"] {
        let known: BTreeSet<String> = commands(&long, kind).into_iter().collect();
        let short = commands(&short, kind);
        assert!(short.len() > 4, "{short:?}");
        let is_own_word = |line: &&String| line.starts_with('#') || line.contains("NAAM VAN DE OUDE CONNECTOR");
        for line in short.iter().filter(|line| !is_own_word(line)) {
            assert!(known.contains(line), "not in exchange.md: {line}");
        }
    }
}

#[test]
fn links_between_the_guides_lead_somewhere() {
    for entry in fs::read_dir(deploy()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "md") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        for target in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or_default();
            let is_elsewhere = target.contains("://") || file.is_empty();
            assert!(is_elsewhere || deploy().join(file).exists(), "{}: {target}", path.display());
        }
    }
}
