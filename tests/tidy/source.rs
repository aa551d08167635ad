//! The sources as text.

use std::fs;
use std::path::{Path, PathBuf};

pub(crate) struct Source {
    /// The path below `src`, or of a test from `tests` on, with `/` between its parts.
    pub(crate) name: String,
    pub(crate) text: String,
}

pub(crate) fn package() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

pub(crate) fn root() -> PathBuf {
    package().join("src")
}

/// Every Rust file below `src`, in the order of the names.
pub(crate) fn sources() -> Vec<Source> {
    below(&root(), &root())
}

/// Every Rust file of the tests and measurements.
pub(crate) fn test_sources() -> Vec<Source> {
    ["benches", "tests"].iter().flat_map(|folder| below(&package().join(folder), package())).collect()
}

/// Every Rust file of the fuzzing package.
pub(crate) fn fuzz_sources() -> Vec<Source> {
    below(&package().join("fuzz/fuzz_targets"), package())
}

fn below(folder: &Path, base: &Path) -> Vec<Source> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let parts = path.strip_prefix(base).unwrap().iter().map(|part| part.to_string_lossy());
                let name = parts.collect::<Vec<_>>().join("/");
                found.push(Source { text: fs::read_to_string(&path).unwrap(), name });
            }
        }
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    found
}

/// A module of tests begins behind its `#[cfg(test)]` and further attributes, and ends with a line
/// that is only a brace; what follows is code again.
pub(crate) fn without_tests(text: &str) -> Vec<&str> {
    let lines: Vec<&str> = text.lines().collect();
    let mut code = Vec::new();
    let mut at = 0;
    while let Some(line) = lines.get(at) {
        if *line == "#[cfg(test)]" {
            let item = lines[at..].iter().position(|line| !line.starts_with("#["));
            let opens = item.is_some_and(|item| lines[at + item].contains("mod ") && lines[at + item].ends_with('{'));
            if opens {
                at += lines[at..].iter().position(|line| *line == "}").unwrap_or(lines.len());
            }
        } else {
            code.push(*line);
        }
        at += 1;
    }
    code
}

pub(crate) fn without_comments_and_tests(text: &str) -> String {
    let code = without_tests(text).into_iter().filter(|line| !line.trim_start().starts_with("//"));
    code.collect::<Vec<_>>().join("\n")
}
