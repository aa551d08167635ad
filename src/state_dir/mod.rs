//! Small states that outlive a restart and belong to no message: kept whole, under a name each.
//!
//! Guarantee: who reads a name gets a value that was kept whole, the last one or, after a crash
//! while it was replaced, the one before; never a part of one. What `replace` has confirmed is
//! durable, unless it was asked for without that. Every call blocks for a moment.
//!
//! Where they live is chosen in one place, [`open`] and [`open_collection`]: today a file each in the
//! directory of the spool or in one below it; an engine whose spool several nodes share brings its own
//! [`SmallStore`].
#![expect(clippy::disallowed_methods, reason = "this is where small states meet the disk")]

pub(crate) mod sealed;

use crate::clock::Timestamp;
use crate::config::SpoolConfig;
pub(crate) use sealed::Durable;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// A state could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct KeepFault {
    /// Where it is kept.
    pub path: String,
    /// What is wrong.
    pub detail: String,
}

/// How a value stands that is kept: where anything here is different, so may the value be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct KeptStamp {
    /// Which of the values that were kept under the name it is.
    pub revision: u64,
    /// When it was kept: seconds since 1970, and nanoseconds.
    pub modified: (i64, i64),
    /// Octets.
    pub length: u64,
}

impl KeptStamp {
    /// When the value was kept.
    #[must_use]
    pub(crate) const fn kept_at(&self) -> Timestamp {
        Timestamp(self.modified.0.saturating_mul(1000))
    }
}

impl From<&fs::Metadata> for KeptStamp {
    fn from(of: &fs::Metadata) -> Self {
        Self { revision: of.ino(), modified: (of.mtime(), of.mtime_nsec()), length: of.len() }
    }
}

/// Keeps small values under names. A name is one that a file can have, and begins with no dot.
pub(crate) trait SmallStore: Send + Sync {
    /// Where a name is kept, for people.
    fn place(&self, name: &str) -> String;

    /// What is kept under a name, of at most so many octets; `None` when that is nothing.
    ///
    /// # Errors
    /// [`KeepFault`]; then nothing is known.
    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, KeepFault>;

    /// How what is kept under a name stands; `None` when that is nothing.
    ///
    /// # Errors
    /// [`KeepFault`]; then nothing is known.
    fn stamp(&self, name: &str) -> Result<Option<KeptStamp>, KeepFault>;

    /// Keeps a value in place of what was kept under the name, unless `stays` says at the last moment
    /// that this is to stay; then there is no stamp.
    ///
    /// # Errors
    /// [`KeepFault`]; then what was kept before is kept still.
    fn replace_unless(
        &self,
        name: &str,
        value: &[u8],
        durable: Durable,
        stays: &mut dyn FnMut() -> bool,
    ) -> Result<Option<KeptStamp>, KeepFault>;

    /// Keeps a value in place of what was kept under the name. Durable when it returns.
    ///
    /// # Errors
    /// As [`SmallStore::replace_unless`].
    fn replace(&self, name: &str, value: &[u8]) -> Result<(), KeepFault> {
        self.replace_unless(name, value, Durable::Now, &mut || false).map(|_stamp| ())
    }

    /// Forgets what is kept under a name. It may come back after a crash.
    ///
    /// # Errors
    /// [`KeepFault`]; then it is kept still.
    fn remove(&self, name: &str) -> Result<(), KeepFault>;

    /// All names, with the octets kept under each; none where nothing was ever kept.
    ///
    /// # Errors
    /// [`KeepFault`]; then nothing is known.
    fn names(&self) -> Result<Vec<(String, u64)>, KeepFault>;
}

/// The store that goes with a spool.
#[must_use]
pub(crate) fn open(config: &SpoolConfig) -> Box<dyn SmallStore> {
    Box::new(StateDir::new(&config.path))
}

/// A store of its own for many values of one kind, beside the spool.
#[must_use]
pub(crate) fn open_collection(config: &SpoolConfig, kind: &str) -> Box<dyn SmallStore> {
    Box::new(StateDir::collection(&config.path.join(kind)))
}

/// What is wrong with what a store keeps under a name.
#[must_use]
pub(crate) fn fault(store: &dyn SmallStore, name: &str, detail: impl Into<String>) -> KeepFault {
    KeepFault { path: store.place(name), detail: detail.into() }
}

/// A value that tells by itself whether it is whole, kept by [`keep`].
///
/// # Errors
/// [`KeepFault`]; then nothing is known.
pub(crate) fn load<T: DeserializeOwned>(
    store: &dyn SmallStore,
    name: &str,
    limit: u64,
) -> Result<Option<T>, KeepFault> {
    let Some(octets) = store.read(name, limit)? else { return Ok(None) };
    sealed::unseal(&octets).map(Some).map_err(|detail| fault(store, name, detail))
}

/// Keeps a value with its checksum.
///
/// # Errors
/// [`KeepFault`]; then what was kept before is kept still.
pub(crate) fn keep(store: &dyn SmallStore, name: &str, value: &impl Serialize) -> Result<(), KeepFault> {
    let octets = sealed::seal(value).map_err(|error| fault(store, name, error.to_string()))?;
    store.replace(name, &octets)
}

/// A file for each name in one directory.
#[derive(Debug)]
pub(crate) struct StateDir {
    folder: PathBuf,
    shared: Sharing,
    written: AtomicU64,
}

/// With what the files share their directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sharing {
    /// With the spool, which makes it. One process writes each name, and a crash leaves one unfinished
    /// file for it at most.
    Spool,
    /// With nothing; it is made when it is needed. Several processes may write the same name.
    Nothing,
}

impl StateDir {
    /// The states in a directory, which is not made here.
    #[must_use]
    pub(crate) fn new(folder: &Path) -> Self {
        Self { folder: folder.to_owned(), shared: Sharing::Spool, written: AtomicU64::default() }
    }

    /// Many states in a directory of their own. The one above it is not made here: an operator, who may be
    /// another user, must not be the first to make it.
    #[must_use]
    pub(crate) fn collection(folder: &Path) -> Self {
        Self { shared: Sharing::Nothing, ..Self::new(folder) }
    }

    /// Where a value is written before it takes its name.
    fn aside(&self, name: &str) -> PathBuf {
        self.folder.join(match self.shared {
            Sharing::Spool => format!(".{name}.new"),
            Sharing::Nothing => {
                format!(".new-{}-{}", std::process::id(), self.written.fetch_add(1, Ordering::Relaxed))
            }
        })
    }

    fn make_folder(&self) -> io::Result<()> {
        if self.shared == Sharing::Spool || self.folder.is_dir() {
            return Ok(());
        }
        fs::DirBuilder::new().mode(0o700).create(&self.folder)?;
        if let Some(above) = self.folder.parent() {
            sealed::belongs_with(&self.folder, above);
        }
        Ok(())
    }

    fn failed(&self, name: &str) -> impl FnOnce(io::Error) -> KeepFault {
        let path = self.place(name);
        move |error| KeepFault { path, detail: error.to_string() }
    }
}

impl SmallStore for StateDir {
    fn place(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn read(&self, name: &str, limit: u64) -> Result<Option<Vec<u8>>, KeepFault> {
        match self.stamp(name)? {
            None => return Ok(None),
            Some(stamp) if stamp.length > limit => return Err(fault(self, name, "it is too long")),
            Some(_) => {}
        }
        found(fs::read(self.folder.join(name))).map_err(self.failed(name))
    }

    fn stamp(&self, name: &str) -> Result<Option<KeptStamp>, KeepFault> {
        let metadata = found(fs::metadata(self.folder.join(name))).map_err(self.failed(name))?;
        Ok(metadata.as_ref().map(KeptStamp::from))
    }

    fn replace_unless(
        &self,
        name: &str,
        value: &[u8],
        durable: Durable,
        stays: &mut dyn FnMut() -> bool,
    ) -> Result<Option<KeptStamp>, KeepFault> {
        let aside = sealed::WrittenAside { path: self.aside(name), durable };
        let written =
            self.make_folder().and_then(|()| sealed::replace_unless(&self.folder.join(name), &aside, value, stays));
        Ok(written.map_err(self.failed(name))?.as_ref().map(KeptStamp::from))
    }

    fn remove(&self, name: &str) -> Result<(), KeepFault> {
        found(fs::remove_file(self.folder.join(name))).map(|_gone| ()).map_err(self.failed(name))
    }

    fn names(&self) -> Result<Vec<(String, u64)>, KeepFault> {
        let failed =
            |error: io::Error| KeepFault { path: self.folder.display().to_string(), detail: error.to_string() };
        let Some(entries) = found(fs::read_dir(&self.folder)).map_err(failed)? else { return Ok(Vec::new()) };
        let named = |entry: fs::DirEntry| {
            let name = entry.file_name().into_string().ok().filter(|name| !name.starts_with('.'))?;
            Some((name, entry.metadata().ok().filter(fs::Metadata::is_file)?.len()))
        };
        Ok(entries.flatten().filter_map(named).collect())
    }
}

/// Nothing where there is none.
fn found<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
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
    fn a_collection_makes_its_folder_and_names_what_is_whole() {
        let spool = tempfile::tempdir().unwrap();
        let folder = spool.path().join("kind");
        let store = StateDir::collection(&folder);
        assert_eq!((store.names(), store.stamp("a"), store.read("a", LIMIT)), (Ok(vec![]), Ok(None), Ok(None)));
        assert!(!folder.exists(), "looking makes nothing");
        store.replace("a", b"first").unwrap();
        fs::write(folder.join(".new-1-1"), b"unfinished").unwrap();
        let first = store.stamp("a").unwrap().unwrap();
        assert_eq!((store.names().unwrap(), first.length), (vec![("a".to_owned(), 5)], 5));
        let second = store.replace_unless("a", b"other", Durable::Later, &mut || false).unwrap().unwrap();
        assert_ne!(first, second);
        assert_eq!(store.stamp("a"), Ok(Some(second)));
        assert_eq!(store.replace_unless("a", b"late", Durable::Now, &mut || true), Ok(None));
        assert_eq!(store.read("a", LIMIT).unwrap().as_deref(), Some(&b"other"[..]));
        store.remove("a").unwrap();
        store.remove("a").unwrap();
        assert_eq!(store.names(), Ok(vec![]));
    }

    #[test]
    fn a_collection_whose_spool_is_not_there_is_a_fault_and_makes_none() {
        let spool = tempfile::tempdir().unwrap();
        let missing = spool.path().join("spool");
        StateDir::collection(&missing.join("kind")).replace("a", b"value").unwrap_err();
        assert!(!missing.exists());
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
