//! Where the keys of a file stand, for what is found out about their values later: when the files that they
//! name are read, and ports are opened.

use super::findings::shown;
use super::problem::{ConfigError, Problem};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// The line of each key of a file.
#[derive(Clone, Debug, Default)]
pub struct KeyLines {
    file: PathBuf,
    by_path: BTreeMap<String, usize>,
}

impl KeyLines {
    pub(super) const fn new(file: PathBuf, by_path: BTreeMap<String, usize>) -> Self {
        Self { file, by_path }
    }

    /// A fault of the value at a path.
    pub(super) fn problem(&self, path: &str, message: String) -> Problem {
        Problem { line: self.line(path), key: shown(path), message }
    }

    /// The error of these faults.
    pub(super) fn error(&self, problems: Vec<Problem>) -> ConfigError {
        ConfigError::Invalid { path: self.file.clone(), problems }
    }

    /// A message that begins with a key, `[listen] certificate: …`, behind the place where that key stands.
    #[must_use]
    pub fn place(&self, message: &str) -> String {
        let begins = |path: &str| message.strip_prefix(&shown(path)).is_some_and(|rest| rest.starts_with(':'));
        match self.by_path.iter().find(|(path, _)| begins(path)) {
            Some((_, line)) if self.file != Path::new("") => format!("{}:{line}: {message}", self.file.display()),
            Some(_) | None => message.to_owned(),
        }
    }

    /// The line of a path, or of the closest around it.
    fn line(&self, path: &str) -> Option<usize> {
        let around = std::iter::successors(Some(path), |path| path.rsplit_once('.').map(|(outer, _)| outer));
        around.into_iter().find_map(|path| self.by_path.get(path)).copied()
    }
}
