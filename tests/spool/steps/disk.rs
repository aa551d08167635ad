//! What is on a disk, and what of it would outlive the power.
//!
//! A process that is killed leaves the files as they are. When the power goes, only that is sure
//! which was synced: octets by a sync of their file, names by a sync of their folder. Of the rest,
//! any sector may be old, new or garbage, and any name there or not. Octets that were not written
//! to stay as they were, which SQLite relies on too (its "powersafe overwrite").

use crate::random::SeededRandom;
use dane_relay::spool::embedded::Step;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a disk writes wholly or not at all.
const SECTOR: usize = 512;

/// Octets by their path inside the spool directory.
pub(crate) type Files = BTreeMap<PathBuf, Arc<[u8]>>;

/// What became of the disk in the crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Crash {
    /// The process was killed.
    Kill,
    /// The power went, and nothing is there that is not sure.
    PowerLost,
    /// The power went, and of what is not sure chance decides.
    PowerTorn(u64),
}

/// A spool directory, watched.
pub(crate) struct Disk {
    root: PathBuf,
    now: Files,
    sure_names: BTreeSet<PathBuf>,
    sure_octets: Files,
}

impl Disk {
    pub(crate) fn new(root: &Path) -> Self {
        let now = if root.exists() { read(root, &Files::new()) } else { Files::new() };
        let sure_names = now.keys().cloned().collect();
        Self { root: root.to_owned(), sure_octets: now.clone(), sure_names, now }
    }

    /// A step was taken.
    pub(crate) fn at(&mut self, step: Step) {
        self.now = read(&self.root, &self.now);
        match step {
            Step::BatchSynced => {
                let newest = self.now.keys().rfind(|path| path.starts_with("segments")).cloned();
                self.sync_octets(|path| Some(path) == newest.as_deref());
            }
            Step::ContentSynced => self.sync_octets(|path| path.starts_with("content")),
            Step::SegmentFolderSynced => self.sync_names("segments"),
            Step::ContentFolderSynced => self.sync_names("content"),
            Step::FoldersSynced | Step::SpoolFolderSynced => self.sync_names(""),
            // SQLite syncs the folder when it makes its log.
            Step::Committed(work) if work.is_synced() => {
                self.sync_octets(is_state_log);
                self.sync_names("");
            }
            Step::StateOpened | Step::Checkpointed | Step::StateClosed => {
                self.sync_octets(|path| is_state_log(path) || path == Path::new("state.sqlite"));
            }
            _ => {}
        }
    }

    /// What is there after a crash at this moment.
    pub(crate) fn after(&self, crash: Crash) -> Files {
        match crash {
            Crash::Kill => self.now.clone(),
            Crash::PowerLost => {
                let sure = |path: &PathBuf| (path.clone(), self.sure_octets.get(path).cloned().unwrap_or_default());
                self.sure_names.iter().map(sure).collect()
            }
            Crash::PowerTorn(seed) => self.torn(&mut SeededRandom::new(seed)),
        }
    }

    fn torn(&self, random: &mut SeededRandom) -> Files {
        let mut files = Files::new();
        // A file is renamed or not: names of the state database come all old or all new.
        let old_names = random.one_in(2);
        for path in self.sure_names.iter().chain(self.now.keys()).collect::<BTreeSet<_>>() {
            let (old, new) = (self.sure_names.contains(path), self.now.contains_key(path));
            let in_root = path.parent() == Some(Path::new(""));
            let is_there = if in_root { if old_names { old } else { new } } else { old && new || random.one_in(2) };
            if is_there {
                let old = self.sure_octets.get(path).cloned().unwrap_or_default();
                let new = self.now.get(path).unwrap_or(&old);
                files.insert(path.clone(), mix(&old, new, random));
            }
        }
        files
    }

    fn sync_octets(&mut self, which: impl Fn(&Path) -> bool) {
        let synced =
            self.now.iter().filter(|(path, _)| which(path)).map(|(path, octets)| (path.clone(), octets.clone()));
        self.sure_octets.extend(synced);
    }

    fn sync_names(&mut self, folder: &str) {
        let is_in = |path: &Path| path.parent() == Some(Path::new(folder));
        self.sure_names.retain(|path| !is_in(path));
        self.sure_names.extend(self.now.keys().filter(|path| is_in(path)).cloned());
    }
}

fn is_state_log(path: &Path) -> bool {
    path == Path::new("state.sqlite-wal")
}

/// Any mixture of two versions of a file.
fn mix(old: &Arc<[u8]>, new: &Arc<[u8]>, random: &mut SeededRandom) -> Arc<[u8]> {
    if old == new {
        return Arc::clone(new);
    }
    let (shorter, longer) = (old.len().min(new.len()), old.len().max(new.len()));
    let length = shorter + random.size(longer - shorter + 1);
    let sector = |of: &[u8], start: usize, end: usize| {
        let mut octets = of.get(start..end.min(of.len())).unwrap_or_default().to_vec();
        octets.resize(end - start, 0);
        octets
    };
    let mut mixed = Vec::with_capacity(length);
    for start in (0..length).step_by(SECTOR) {
        let end = (start + SECTOR).min(length);
        let (old, new) = (sector(old, start, end), sector(new, start, end));
        match random.below(4) {
            0 => mixed.extend(old),
            // Octets that were not written to stay, also in a sector that was.
            1 => mixed.extend(
                old.iter()
                    .zip(&new)
                    .map(|(old, new)| if old == new { *old } else { random.below(256).try_into().unwrap() }),
            ),
            _ => mixed.extend(new),
        }
    }
    mixed.into()
}

/// The files of a spool directory. The lock and SQLite's shared memory say nothing after a crash.
fn read(root: &Path, before: &Files) -> Files {
    let mut files = Files::new();
    for folder in ["", "segments", "content", "damaged"] {
        let Ok(items) = std::fs::read_dir(root.join(folder)) else { continue };
        for item in items.map(Result::unwrap).filter(|item| item.file_type().unwrap().is_file()) {
            let path = Path::new(folder).join(item.file_name());
            if path != Path::new("lock") && !path.to_string_lossy().ends_with("-shm") {
                let octets = std::fs::read(item.path()).unwrap();
                let known = before.get(&path).filter(|known| known[..] == octets[..]);
                files.insert(path, known.cloned().unwrap_or_else(|| octets.into()));
            }
        }
    }
    files
}

/// Puts files into a new spool directory.
pub(crate) fn write(root: &Path, files: &Files) {
    for folder in ["segments", "content", "damaged"] {
        std::fs::create_dir_all(root.join(folder)).unwrap();
    }
    for (path, octets) in files {
        std::fs::write(root.join(path), octets).unwrap();
    }
}
