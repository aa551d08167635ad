//! `deploy/reference.md`: every metric, every line of the log and every cause, written from the code. A test holds
//! the file against the code; `RELAY_WRITE_REFERENCE=1` before it writes the file.
#![expect(clippy::disallowed_methods, reason = "the reference and the sources are files")]

use super::Observer;
use crate::outcome::rows::ROWS;
use crate::outcome::{Cause, Class, every};
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

const HEAD: &str = "# Reference\n\n\
    Written from the program itself, so that it is neither more nor less than what there is. What to do when an\n\
    alarm comes is in [operations.md](operations.md), what decides about TLS in [tls-decisions.md](tls-decisions.md).\n";

fn row(out: &mut String, cells: &[&str]) {
    let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
    let _infallible = writeln!(out, "| {} |", cells.join(" | "));
}

fn metrics() -> String {
    let mut out = "\n## Metrics\n\nLabels have words of closed sets: no domains and no addresses but those of the \
                   configuration.\n\n| name | type | labels | what it says |\n|---|---|---|---|\n"
        .to_owned();
    let observer = Observer::new().unwrap();
    let mut all = observer.catalogue().to_vec();
    all.sort_by(|a, b| a.name.cmp(&b.name));
    for metric in all {
        row(&mut out, &[&format!("`{}`", metric.name), metric.kind, &metric.labels.join(", "), &metric.help]);
    }
    out
}

fn causes() -> String {
    let mut out = "\n## Causes\n\nThe word is the same in log, metrics, reports, `relay why` and `relay check`. \
                   Waits: it is tried again. Fails: it goes back to its sender at once.\n\n\
                   | word | side | | code | what to do |\n|---|---|---|---|---|\n"
        .to_owned();
    let all = every::cause();
    for known in ROWS {
        // An expired or returned message has the advice of the cause that held it; alone it has its own.
        let is_alone = |cause: &&Cause| std::ptr::eq(cause.root(), *cause);
        let ours: Vec<&Cause> = all.iter().filter(|cause| cause.row().word == known.word).filter(is_alone).collect();
        let of = |tell: &dyn Fn(&Cause) -> String| {
            let told: BTreeSet<String> = ours.iter().map(|cause| tell(cause)).collect();
            told.into_iter().collect::<Vec<_>>()
        };
        let codes = of(&|cause| {
            // A refusal has the code of the server.
            if matches!(cause, Cause::Rejected { .. }) {
                "that of the server".into()
            } else {
                cause.row().status.to_string()
            }
        });
        let advice = of(&|cause| cause.advice().to_owned()).join(" Or: ");
        let sides: Vec<&str> = known.sides.iter().map(|side| side.word()).collect();
        let class = if known.class == Class::Transient { "waits" } else { "fails" };
        row(&mut out, &[&format!("`{}`", known.word), &sides.join(", "), class, &codes.join(", "), &advice]);
    }
    out
}

/// A call of a log macro, from its name on: level, message, fields.
fn line_of(call: &str) -> Option<(&str, String, Vec<String>)> {
    let (level, rest) = call.split_once("!(")?;
    let (mut depth, mut quoted, mut escaped, mut from) = (0_u32, false, false, 0);
    let mut parts = Vec::new();
    for (at, c) in rest.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            _ if quoted => {}
            '(' | '{' | '[' => depth += 1,
            ',' if depth == 0 => {
                parts.push(rest[from..at].trim());
                from = at + 1;
            }
            ')' | '}' | ']' if depth > 0 => depth -= 1,
            ')' => {
                parts.push(rest[from..at].trim());
                break;
            }
            _ => {}
        }
    }
    parts.retain(|part| !part.is_empty());
    let message = parts.iter().rfind(|part| part.starts_with('"'))?;
    let message =
        message.strip_prefix('"')?.strip_suffix('"')?.split("\\\n").map(str::trim_start).collect::<Vec<_>>().concat();
    let name = |part: &&str| {
        let name = part.split('=').next().unwrap_or_default().trim().trim_start_matches(['%', '?']);
        (!part.starts_with('"')).then(|| name.to_owned())
    };
    Some((level, message, parts.iter().filter_map(name).collect()))
}

fn log_lines() -> String {
    let mut out = "\n## Log\n\nOn standard error; with `RELAY_LOG=json` one object a line, with the fields as members \
                   beside `timestamp`, `level` and `message`. A field that does not apply is left out.\n\n\
                   | level | line | fields |\n|---|---|---|\n"
        .to_owned();
    let mut lines = BTreeSet::new();
    for file in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = std::fs::read_to_string(&file).unwrap();
        let code = text.split("#[cfg(test)]\nmod tests").next().unwrap_or_default();
        for call in code.split("tracing::").skip(1) {
            if ["info!(", "warn!(", "error!("].iter().any(|level| call.starts_with(level))
                && let Some((level, message, fields)) = line_of(call)
            {
                lines.insert((message, level.to_owned(), fields.join(", ")));
            }
        }
    }
    for (message, level, fields) in lines {
        row(&mut out, &[&level, &message, &fields]);
    }
    out
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> = entries
        .flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] })
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
        .filter(|path| !path.ends_with("observe/reference_tests.rs"))
        .collect();
    files.sort();
    files
}

#[test]
fn the_reference_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/reference.md");
    let text = [HEAD.to_owned(), metrics(), log_lines(), causes()].concat();
    if std::env::var_os("RELAY_WRITE_REFERENCE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let other = text.lines().find(|line| !written.lines().any(|known| known == *line));
    assert!(
        written == text,
        "deploy/reference.md is not current, first at {other:?}: run \
         `RELAY_WRITE_REFERENCE=1 cargo test --lib the_reference_is`"
    );
}

#[test]
fn a_call_of_a_log_macro_is_read_with_its_fields() {
    let call = "info!(\n %id,\n to = %f(a, b),\n host = ?x[1],\n \"took, or \\\"not\\\"\"\n); more";
    let (level, message, fields) = line_of(call).unwrap();
    assert_eq!((level, message.as_str()), ("info", "took, or \\\"not\\\""));
    assert_eq!(fields, ["id", "to", "host"]);
}
