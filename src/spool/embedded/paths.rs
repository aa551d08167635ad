//! The spool directory: names, creation, the lock, and putting damaged octets aside.
//!
//! ```text
//! lock                      held by the process that owns the spool; holds its pid
//! segments/00000001-….seg   the truth of what was accepted; the second part is the mark of its records
//! content/<queue id>        content above 256 KiB
//! state.sqlite              the working state, for anyone to read
//! reserve                   octets to be given free when the disk is full
//! reserve-1 …               inodes to be given free with them
//! damaged/                  octets that failed their checksum, for whoever wants to look
//! ```
//! Only the owner may read any of it: it is other people's mail.
#![expect(clippy::disallowed_methods, reason = "this file is one of the engine's doors to the disk")]

use super::steps::{Step, Steps};
use crate::envelope::QueueId;
use crate::spool::SpoolError;
use crate::spool::record::Mark;
use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{Read, Seek, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Nobody but the owner reads other people's mail.
const PRIVATE_FOLDER: u32 = 0o700;
const PRIVATE_FILE: u32 = 0o600;
const WRITABLE_BY_ALL: u32 = 0o002;

/// Files of the reserve that have an inode each: for the log of the state database and its index, the control
/// socket, and a segment.
const SPARE_FILES: u8 = 4;

/// Turns an error of the system into ours.
pub(super) const fn io(action: &'static str) -> impl FnOnce(std::io::Error) -> SpoolError {
    move |source| SpoolError::Io { action, source }
}

/// What is not there any more is as good as damaged: the message cannot be delivered.
pub(super) fn missing_or_io(action: &'static str, source: std::io::Error) -> SpoolError {
    if source.kind() == std::io::ErrorKind::NotFound { SpoolError::Damaged } else { SpoolError::Io { action, source } }
}

/// A full disk is a state of its own (452 4.3.1), not a fault.
pub(super) fn full_or_io(action: &'static str, source: std::io::Error) -> SpoolError {
    if matches!(source.kind(), std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded) {
        SpoolError::Full
    } else {
        SpoolError::Io { action, source }
    }
}

/// The places inside one spool directory.
#[derive(Clone, Debug)]
pub(super) struct SpoolPaths {
    root: PathBuf,
    steps: Steps,
}

impl SpoolPaths {
    /// Makes the folders that are missing, durably.
    pub(super) fn create(root: &Path, steps: Steps) -> Result<Self, SpoolError> {
        let paths = Self { root: root.to_owned(), steps };
        let unusable =
            |e: std::io::Error| SpoolError::Unusable(format!("the spool {} cannot be used: {e}", root.display()));
        for folder in [paths.root.clone(), paths.segments(), paths.contents(), paths.damaged()] {
            DirBuilder::new().recursive(true).mode(PRIVATE_FOLDER).create(&folder).map_err(unusable)?;
            not_anybodys(root, &folder)?;
        }
        paths.at(Step::FoldersMade);
        sync_folder(&paths.root).map_err(unusable)?;
        if let Some(parent) = root.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            sync_folder(parent).map_err(unusable)?;
        }
        paths.at(Step::FoldersSynced);
        Ok(paths)
    }

    /// Those of a directory that is there.
    pub(super) fn of(root: &Path) -> Self {
        Self { root: root.to_owned(), steps: Steps::unobserved() }
    }

    /// Something has changed here.
    pub(super) fn at(&self, step: Step) {
        self.steps.at(step);
    }

    pub(super) const fn steps(&self) -> &Steps {
        &self.steps
    }

    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn segments(&self) -> PathBuf {
        self.root.join("segments")
    }

    pub(super) fn contents(&self) -> PathBuf {
        self.root.join("content")
    }

    pub(super) fn content(&self, id: QueueId) -> PathBuf {
        self.contents().join(id.to_string())
    }

    pub(super) fn state(&self) -> PathBuf {
        self.root.join("state.sqlite")
    }

    /// Makes the file of the state database where there is none: SQLite would let others read it, and
    /// gives its further files the rights of this one.
    pub(super) fn make_state(&self) -> std::io::Result<()> {
        OpenOptions::new().append(true).create(true).mode(PRIVATE_FILE).open(self.state()).map(drop)
    }

    /// Left behind by a process that met damage in the state database.
    pub(super) fn state_suspect(&self) -> PathBuf {
        self.root.join("state.sqlite.suspect")
    }

    pub(super) fn damaged(&self) -> PathBuf {
        self.root.join("damaged")
    }

    /// Takes the lock; it is held as long as the file is open.
    pub(super) fn lock(&self) -> Result<File, SpoolError> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(PRIVATE_FILE)
            .open(self.root.join("lock"))
            .map_err(|e| self.not_ours("lock", e))?;
        if rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive).is_err() {
            let mut holder = String::new();
            // The pid only makes the message better; a lock file that cannot be read is still a lock.
            let _ = file.read_to_string(&mut holder);
            let path = self.root.display().to_string();
            return Err(SpoolError::InUse { path, holder: holder.trim().to_owned() });
        }
        let write_pid = |file: &mut File| {
            file.set_len(0)?;
            file.rewind()?;
            writeln!(file, "{}", std::process::id())
        };
        // The pid only makes a message better: a full disk must not keep the spool from opening.
        let _ = write_pid(&mut file);
        self.at(Step::LockWritten);
        Ok(file)
    }

    /// A file of the spool cannot be opened: whose it is, and what to do.
    fn not_ours(&self, name: &str, error: std::io::Error) -> SpoolError {
        if error.kind() != std::io::ErrorKind::PermissionDenied {
            return io("opening the spool's lock file")(error);
        }
        let (path, own) = (self.root.join(name), rustix::process::geteuid().as_raw());
        let whose = std::fs::metadata(&path).map_or_else(|_| "unknown".to_owned(), |found| found.uid().to_string());
        SpoolError::Unusable(format!(
            "{}: {error}; it belongs to uid {whose}, and the relay runs as uid {own}: chown -R {own} {}",
            path.display(),
            self.root.display()
        ))
    }

    fn reserve(&self) -> PathBuf {
        self.root.join("reserve")
    }

    fn spare_files(&self) -> impl Iterator<Item = PathBuf> {
        (1..=SPARE_FILES).map(|number| self.root.join(format!("reserve-{number}")))
    }

    /// Octets in the reserve.
    pub(super) fn reserved(&self) -> u64 {
        std::fs::metadata(self.reserve()).map_or(0, |found| found.len())
    }

    /// Makes the reserve. When the disk has no room for it, nothing of it stays.
    pub(super) fn make_reserve(&self, octets: u64) -> std::io::Result<()> {
        let file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(PRIVATE_FILE).open(self.reserve())?;
        let made = rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, octets);
        if made.is_err() {
            file.set_len(0)?;
        }
        made?;
        for spare in self.spare_files() {
            OpenOptions::new().append(true).create(true).mode(PRIVATE_FILE).open(spare)?;
        }
        Ok(())
    }

    /// Gives the octets and the inodes of the reserve free. Its first file stays.
    pub(super) fn give_reserve_free(&self) -> std::io::Result<()> {
        for spare in self.spare_files() {
            // One that is not there any more is free already.
            let _ = std::fs::remove_file(spare);
        }
        let file = OpenOptions::new().write(true).open(self.reserve())?;
        file.set_len(0)?;
        // Some file systems use the octets again only when it is durable that they are free.
        file.sync_all()
    }

    /// Takes room for what is written on a full disk, behind the end of the files it goes to: the segment, for
    /// reports, the log of the state database, and the database. Nobody else can have it then. Where there is not as
    /// much, less is taken. Best effort: some file systems know no such room.
    pub(super) fn claim_room(&self, octets: u64) {
        if self.steps.are_over() {
            return;
        }
        let segment = list_segments(&self.segments()).ok().and_then(|all| all.into_iter().next_back());
        let log = self.root.join("state.sqlite-wal");
        for path in segment.map(|(_, _, path)| path).into_iter().chain([log, self.state()]) {
            let Ok(file) = OpenOptions::new().write(true).open(path) else { continue };
            let end = file.metadata().map_or(0, |found| found.len());
            let claim =
                |octets| rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::KEEP_SIZE, end, octets).is_ok();
            let _claimed = [octets, octets / 2, octets / 4].into_iter().any(claim);
        }
    }

    /// Keeps damaged octets for whoever wants to look. Best effort: that it fails must not keep
    /// the spool from opening, the damage is counted anyway.
    pub(super) fn put_aside(&self, name: &str, octets: &[u8]) {
        if self.steps.are_over() {
            return;
        }
        let path = self.damaged().join(name);
        if let Ok(mut file) = OpenOptions::new().write(true).create_new(true).mode(PRIVATE_FILE).open(path) {
            let _ = file.write_all(octets);
            self.at(Step::PutAside);
        }
    }
}

/// A folder that was there may be a trap: where everybody can write, as in /tmp, somebody else can
/// make it first, read the mail in it, and put links in the place of files. What is root's was
/// given to us: the volume of a container can be root's and open to all who are in there.
fn not_anybodys(spool: &Path, folder: &Path) -> Result<(), SpoolError> {
    let unusable = |what: String| Err(SpoolError::Unusable(format!("the spool {} {what}", spool.display())));
    let found = match std::fs::metadata(folder) {
        Ok(found) => found,
        Err(error) => return unusable(format!("cannot be used: {error}")),
    };
    let own = rustix::process::geteuid();
    if own.is_root() && found.uid() != 0 {
        let (what, whose) = (folder.display(), found.uid());
        return unusable(format!(
            "belongs to another user: {what} is of uid {whose}, who could not read what root writes there; start the relay \
             as that user (`systemctl start relay`, or `setpriv --reuid={whose} --clear-groups relay serve`), or give the \
             spool to root (chown -R root)"
        ));
    }
    if !own.is_root() && ![own.as_raw(), 0].contains(&found.uid()) {
        let (what, whose) = (folder.display(), found.uid());
        return unusable(format!("cannot be used: {what} belongs to another user (uid {whose}); give it to this one"));
    }
    if found.uid() == own.as_raw() && found.mode() & WRITABLE_BY_ALL != 0 {
        return unusable("can be changed by every user of this machine: take that right away (chmod 700)".to_owned());
    }
    Ok(())
}

/// Makes a file that must not exist yet.
pub(super) fn create_new(path: &Path) -> std::io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).mode(PRIVATE_FILE).open(path)
}

/// Makes the names in a folder durable.
pub(super) fn sync_folder(path: &Path) -> std::io::Result<()> {
    File::open(path)?.sync_all()
}

/// A file that is removed when this is dropped, unless it is kept.
#[derive(Debug)]
pub(super) struct TemporaryFile {
    path: Option<PathBuf>,
    steps: Steps,
}

impl TemporaryFile {
    pub(super) const fn new(path: PathBuf, steps: Steps) -> Self {
        Self { path: Some(path), steps }
    }

    /// The file stays.
    pub(super) fn keep(mut self) {
        self.path = None;
    }
}

impl Drop for TemporaryFile {
    fn drop(&mut self) {
        if let Some(path) = self.path.as_ref().filter(|_| !self.steps.are_over()) {
            // What cannot be removed now is removed as an orphan at the next start.
            let _ = std::fs::remove_file(path);
            self.steps.at(Step::ContentRemoved);
        }
    }
}

/// The name of a segment: `00000001-9f3c2a61d2b41c07.seg`.
pub(super) fn segment_name(number: u32, mark: Mark) -> String {
    format!("{number:08}-{:016x}.seg", u64::from_be_bytes(mark.0))
}

/// The number and the mark in the name of a segment.
pub(super) fn parse_segment_name(name: &str) -> Option<(u32, Mark)> {
    let (number, mark) = name.strip_suffix(".seg")?.split_once('-')?;
    let mark = u64::from_str_radix(mark, 16).ok().filter(|_| mark.len() == 16)?;
    Some((number.parse().ok()?, Mark(mark.to_be_bytes())))
}

/// The segment files, oldest first.
pub(super) fn list_segments(folder: &Path) -> std::io::Result<Vec<(u32, Mark, PathBuf)>> {
    let mut found = Vec::new();
    for item in std::fs::read_dir(folder)? {
        let item = item?;
        if let Some((number, mark)) = item.file_name().to_str().and_then(parse_segment_name) {
            found.push((number, mark, item.path()));
        }
    }
    found.sort_by_key(|(number, _, _)| *number);
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn create(root: &Path, mode: u32) -> Result<SpoolPaths, SpoolError> {
        std::fs::set_permissions(root, std::fs::Permissions::from_mode(mode)).unwrap();
        SpoolPaths::create(root, Steps::unobserved())
    }

    #[test]
    fn a_folder_that_everybody_can_change_is_no_spool() {
        let folder = tempfile::tempdir().unwrap();
        let error = create(folder.path(), 0o1777).unwrap_err();
        assert!(error.to_string().contains("chmod 700"), "{error}");
        for mode in [0o700, 0o755, 0o770] {
            create(folder.path(), mode).unwrap();
        }
    }

    #[test]
    fn root_does_not_write_into_the_spool_of_another_user() {
        let folder = tempfile::tempdir().unwrap();
        if !rustix::process::geteuid().is_root() {
            return;
        }
        std::os::unix::fs::chown(folder.path(), Some(12345), None).unwrap();
        let error = create(folder.path(), 0o700).unwrap_err().to_string();
        assert!(error.contains("uid 12345") && error.contains("setpriv --reuid=12345"), "{error}");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left of root");
    }

    #[test]
    fn nobody_else_reads_the_state_database() {
        let folder = tempfile::tempdir().unwrap();
        let paths = create(folder.path(), 0o755).unwrap();
        let state = super::super::state::State::open(&paths).unwrap();
        let files = std::fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap());
        let files: Vec<_> = files.filter(|f| f.file_name().to_string_lossy().starts_with("state")).collect();
        assert!(!files.is_empty());
        for file in files {
            assert_eq!(file.metadata().unwrap().mode() & 0o077, 0, "{:?}", file.file_name());
        }
        drop(state);
    }

    #[test]
    fn a_segment_name_holds_its_number_and_mark() {
        let mark = Mark([0, 1, 2, 3, 0xF0, 5, 6, 7]);
        assert_eq!(segment_name(12, mark), "00000012-00010203f0050607.seg");
        assert_eq!(parse_segment_name(&segment_name(12, mark)), Some((12, mark)));
        for other in ["00000012.seg", "x-00010203f0050607.seg", "00000012-00.seg", "00000012-00010203f0050607"] {
            assert_eq!(parse_segment_name(other), None, "{other}");
        }
    }
}
