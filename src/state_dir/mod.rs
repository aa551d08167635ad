//! Small states that outlive a restart and belong to no message: kept whole, under a name each.
//!
//! Guarantee: who reads a name gets a value that was kept whole, the last one or, after a crash
//! while it was replaced, the one before; never a part of one. What `replace` has confirmed is
//! durable. Every call blocks for a moment.
//!
//! Where they live is chosen in one place, [`open`]: today a file each in the directory of the
//! spool; an engine whose spool several nodes share brings its own [`SmallStore`].
#![expect(clippy::disallowed_methods, reason = "this is where small states meet the disk")]

pub(crate) mod sealed;

use crate::config::SpoolConfig;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// A state could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct KeepFault {
    /// Where it is kept.
    pub path: String,
    /// What is wrong.
    pub detail: String,
}

/// Keeps small values under names. A name is one that a file can have.
pub trait SmallStore: Send + Sync {
    /// Where a name is kept, for people.
    fn place(&self, name: &str) -> String;

    /// What is kept under a name, of at most so many octets; `None` when that is nothing.
    ///
    /// # Errors
    /// [`KeepFault`]; then nothing is known.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, KeepFault>;

    /// Keeps a value in place of what was kept under the name. Durable when it returns.
    ///
    /// # Errors
    /// [`KeepFault`]; then what was kept before is kept still.
    fn replace(&self, name: &str, value: &[u8]) -> Result<(), KeepFault>;
}

/// The store that goes with a spool.
#[must_use]
pub fn open(config: &SpoolConfig) -> Box<dyn SmallStore> {
    Box::new(StateDir::new(&config.path))
}

/// What is wrong with what a store keeps under a name.
#[must_use]
pub fn fault(store: &dyn SmallStore, name: &str, detail: impl Into<String>) -> KeepFault {
    KeepFault { path: store.place(name), detail: detail.into() }
}

/// A value that tells by itself whether it is whole, kept by [`keep`].
///
/// # Errors
/// [`KeepFault`]; then nothing is known.
pub fn load<T: DeserializeOwned>(store: &dyn SmallStore, name: &str, limit: u64) -> Result<Option<T>, KeepFault> {
    let Some(octets) = store.read(name, limit)? else { return Ok(None) };
    sealed::unseal(&octets).map(Some).map_err(|detail| fault(store, name, detail))
}

/// Keeps a value with its checksum.
///
/// # Errors
/// [`KeepFault`]; then what was kept before is kept still.
pub fn keep(store: &dyn SmallStore, name: &str, value: &impl Serialize) -> Result<(), KeepFault> {
    let octets = sealed::seal(value).map_err(|error| fault(store, name, error.to_string()))?;
    store.replace(name, &octets)
}

/// A file for each name in one directory.
#[derive(Clone, Debug)]
pub struct StateDir {
    folder: PathBuf,
}

impl StateDir {
    /// The states in a directory, which is not made here.
    #[must_use]
    pub fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned() }
    }
}

impl SmallStore for StateDir {
    fn place(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, KeepFault> {
        let path = self.folder.join(name);
        let length = match fs::metadata(&path) {
            Ok(found) => found.len(),
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fault(self, name, error.to_string())),
        };
        if length > limit {
            return Err(fault(self, name, "it is too long"));
        }
        fs::read(&path).map(Some).map_err(|error| fault(self, name, error.to_string()))
    }

    fn replace(&self, name: &str, value: &[u8]) -> Result<(), KeepFault> {
        let aside = self.folder.join(format!(".{name}.new"));
        sealed::replace(&self.folder.join(name), &aside, value).map_err(|error| fault(self, name, error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: u64 = 1000;

    #[test]
    fn a_value_is_replaced_as_a_whole_and_nothing_unfinished_stays_behind() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateDir::new(folder.path());
        assert_eq!(store.read("counts", LIMIT), Ok(None));
        // As a crash in the middle of a replacement leaves it.
        fs::write(folder.path().join(".counts.new"), b"hal").unwrap();
        assert_eq!(store.read("counts", LIMIT), Ok(None));
        for value in [&b"first"[..], b"the second, which is longer", b"3"] {
            store.replace("counts", value).unwrap();
            assert_eq!(store.read("counts", LIMIT).unwrap().as_deref(), Some(value));
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_is_too_long_or_not_whole_is_a_fault_that_names_the_place() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateDir::new(folder.path());
        keep(&store, "numbers", &[1, 2, 3]).unwrap();
        assert_eq!(load(&store, "numbers", LIMIT), Ok(Some([1, 2, 3])));
        assert!(load::<Vec<u32>>(&store, "numbers", 3).unwrap_err().to_string().contains("too long"));
        let path = folder.path().join("numbers");
        let mut octets = fs::read(&path).unwrap();
        *octets.last_mut().unwrap() ^= 1;
        fs::write(&path, octets).unwrap();
        let fault = load::<Vec<u32>>(&store, "numbers", LIMIT).unwrap_err();
        assert!(fault.path.ends_with("/numbers") && fault.detail.contains("checksum"), "{fault}");
    }

    #[test]
    fn what_cannot_be_replaced_is_kept_still() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateDir::new(folder.path());
        store.replace("state", b"before").unwrap();
        fs::create_dir(folder.path().join(".state.new")).unwrap();
        store.replace("state", b"after").unwrap_err();
        assert_eq!(store.read("state", LIMIT).unwrap().as_deref(), Some(&b"before"[..]));
    }
}
