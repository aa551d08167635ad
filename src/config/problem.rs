//! What is wrong in a configuration: every fault of a file at once, each in a line with its place.

use serde::Serialize;
use std::fmt;
use std::path::{Path, PathBuf};

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: cannot be read: {source}")]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file is read, and says what cannot be: one line for each fault, in the order of the file.
    #[error("{}", lines(path, problems))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// All that is wrong in it; at least one.
        problems: Vec<Problem>,
    },
}

/// One fault of a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    /// The line, from 1; none where it is about what does not stand in the file.
    pub line: Option<usize>,
    /// The key as people write it, `[listen] smtp`; empty where it is about the whole file.
    pub key: String,
    /// What is wrong, and what to write.
    pub message: String,
}

/// `: 7: [listen] smtp: …`, behind the name of the file.
impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(line) = self.line {
            write!(f, "{line}: ")?;
        }
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.message)
    }
}

impl Problem {
    /// The same behind the name of its file: `relay.toml:7: [listen] smtp: …`.
    #[must_use]
    pub fn in_file(&self, path: &Path) -> String {
        let colon = if self.line.is_some() { ":" } else { ": " };
        format!("{}{colon}{self}", path.display())
    }
}

fn lines(path: &Path, problems: &[Problem]) -> String {
    problems.iter().map(|problem| problem.in_file(path)).collect::<Vec<_>>().join("\n")
}

impl ConfigError {
    /// The faults, each with its place; a file that cannot be read is one.
    #[must_use]
    pub fn problems(&self) -> Vec<Problem> {
        match self {
            Self::Unreadable { source, .. } => {
                vec![Problem { line: None, key: String::new(), message: format!("cannot be read: {source}") }]
            }
            Self::Invalid { problems, .. } => problems.clone(),
        }
    }

    /// One that is about the whole file.
    pub(super) fn whole(path: PathBuf, message: String) -> Self {
        Self::Invalid { path, problems: vec![Problem { line: None, key: String::new(), message }] }
    }
}
