//! Where the keys of a file stand, for what is found out about their values later: when the files that they
//! name are read, and ports are opened.

use super::findings::shown;
use super::problem::{ConfigError, Problem};
use super::{Config, DkimKeyRule};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The line of each key of a file.
#[derive(Clone, Debug, Default)]
pub struct KeyLines {
    file: PathBuf,
    by_path: BTreeMap<String, usize>,
    /// What tells one block of many from the others, by its path: `destination.0` has its domains.
    labels: BTreeMap<String, String>,
}

impl KeyLines {
    pub(super) fn new(file: PathBuf, by_path: BTreeMap<String, usize>, config: &Config) -> Self {
        let destinations = config.destination.iter().map(|block| block.label()).enumerate();
        let destinations = destinations.map(|(nth, label)| (format!("destination.{nth}"), label));
        let listeners = config.listener.iter().map(|block| block.name.clone()).enumerate();
        let listeners = listeners.map(|(nth, label)| (format!("listener.{nth}"), label));
        let keys = config.dkim.key.iter().map(DkimKeyRule::label).enumerate();
        let keys = keys.map(|(nth, label)| (format!("dkim.key.{nth}"), label));
        Self { file, by_path, labels: destinations.chain(listeners).chain(keys).collect() }
    }

    /// The file.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A fault of the value at a path.
    pub(super) fn problem(&self, path: &str, message: String) -> Problem {
        Problem { line: self.line(path), key: shown(path), message }
    }

    /// The error of these faults.
    pub(super) fn error(&self, problems: Vec<Problem>) -> ConfigError {
        ConfigError::Invalid { path: self.file.clone(), problems }
    }

    /// A message that begins with a key, `[listen] certificate: …` or `[[listener]] partner: certificate: …`, with
    /// the line where that key stands.
    #[must_use]
    pub fn placed(&self, message: &str) -> Problem {
        let about = self.by_path.iter().flat_map(|(path, line)| {
            let rest = |key: &str| message.strip_prefix(key)?.strip_prefix(": ");
            self.spellings(path).filter_map(move |key| Some((rest(&key)?.to_owned(), key, *line)))
        });
        // The closest is what leaves least to say.
        match about.min_by_key(|(rest, _, _)| rest.len()) {
            Some((message, key, line)) if self.file != Path::new("") => Problem { line: Some(line), key, message },
            Some(_) | None => Problem { line: None, key: String::new(), message: message.to_owned() },
        }
    }

    /// The same behind the name of the file.
    #[must_use]
    pub fn place(&self, message: &str) -> String {
        let problem = self.placed(message);
        match problem.line {
            Some(_) => format!("{}:{problem}", self.file.display()),
            None => message.to_owned(),
        }
    }

    /// How messages begin that are about the value at a path. A key of one block of many is told by the label of
    /// that block, or is the first.
    fn spellings(&self, path: &str) -> impl Iterator<Item = String> {
        let ends = path.match_indices('.').map(|(end, _)| end).chain([path.len()]);
        let mut blocks = ends.filter_map(|end| path.split_at_checked(end));
        let of_block = blocks.find_map(|(block, inside)| Some((block, inside, self.labels.get(block)?)));
        let labelled = of_block.map(|(block, inside, label)| {
            let inside = inside.trim_start_matches('.');
            let colon = if inside.is_empty() { "" } else { ": " };
            format!("{} {label}{colon}{inside}", shown(block))
        });
        labelled.into_iter().chain([shown(path)])
    }

    /// The line of a path, or of the closest around it.
    fn line(&self, path: &str) -> Option<usize> {
        let around = std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(outer, _)| outer));
        around.into_iter().find_map(|path| self.by_path.get(path)).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::show;

    #[test]
    fn a_message_about_one_block_of_many_has_its_line() {
        let text = "[retry]\nlongest = \"1h\"\n[[destination]]\ndomains = [\"a.example\"]\ntls = \"encrypt\"\n\
                    [[destination]]\ndomains = [\"b.example\", \"c.example\"]\n\
                    client_certificate = { chain = \"c\", key = \"k\" }\n";
        let lines = show::parsed(text, Path::new("relay.toml")).unwrap().lines;
        let of = |message: &str| (lines.placed(message).line, lines.placed(message).to_string());
        let told = of("[[destination]] b.example, c.example: client_certificate: x: no such file");
        let line = "8: [[destination]] b.example, c.example: client_certificate: x: no such file";
        assert_eq!(told, (Some(8), line.to_owned()));
        assert_eq!(of("[[destination]] b.example, c.example: the exception ended").0, Some(6));
        assert_eq!(of("[[destination]] a.example: tls: odd").0, Some(5));
        assert_eq!(of("[retry] longest: odd").0, Some(2));
        assert_eq!(of("no key: odd"), (None, "no key: odd".to_owned()));
    }
}
