//! What is wrong in a configuration: every fault of a file at once, each in a line with its place.

use std::fmt;
use std::path::PathBuf;

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
#[derive(Clone, Debug, PartialEq, Eq)]
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

fn lines(path: &std::path::Path, problems: &[Problem]) -> String {
    let line = |problem: &Problem| {
        let colon = if problem.line.is_some() { ":" } else { ": " };
        format!("{}{colon}{problem}", path.display())
    };
    problems.iter().map(line).collect::<Vec<_>>().join("\n")
}

impl ConfigError {
    /// One that is about the whole file.
    pub(super) fn whole(path: PathBuf, message: String) -> Self {
        Self::Invalid { path, problems: vec![Problem { line: None, key: String::new(), message }] }
    }
}
