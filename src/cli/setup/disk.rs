//! Writes the configuration: whole or not at all, for root and the group of the service.
#![expect(clippy::disallowed_methods, reason = "the configuration is written here")]

use crate::cli::exit::Exit;
use dane_relay::config::REFERENCE;
use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _, chown};
use std::path::{Path, PathBuf};

/// The owner may write, the group of the service may read.
const MODE: u32 = 0o640;
/// The group of the service.
const GROUP: &str = "relay";

/// What becomes of a file that is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Existing {
    /// It stays, unless it is the example as the package brings it.
    Keep,
    /// It gives way.
    Replace,
}

/// What was done.
#[derive(Debug)]
pub(super) struct WrittenFile {
    path: PathBuf,
    old: Option<PathBuf>,
}

impl WrittenFile {
    /// For people.
    pub(super) fn sentence(&self) -> String {
        let old = self.old.as_ref().map_or_else(String::new, |old| format!(" (what was there: {})", old.display()));
        format!("written to {}{old}\n", self.path.display())
    }
}

/// Why nothing was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum WriteError {
    /// It is there.
    #[error("{0} is there already and is left alone: --force replaces it, --output FILE writes another one")]
    Exists(String),
    /// The disk failed.
    #[error("{path}: {source}")]
    Io { path: String, source: io::Error },
}

impl WriteError {
    pub(super) const fn exit_code(&self) -> Exit {
        match self {
            Self::Exists(_) => Exit::Usage,
            Self::Io { .. } => Exit::Io,
        }
    }
}

/// Whether the file may be written, before anybody is asked anything.
pub(super) fn may_write(path: &Path, existing: Existing) -> Result<(), WriteError> {
    match fs::read_to_string(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        _ if existing == Existing::Replace => Ok(()),
        Ok(text) if is_example(&text) => Ok(()),
        Ok(_) | Err(_) => Err(WriteError::Exists(path.display().to_string())),
    }
}

/// The example, with the spool of the package or without.
fn is_example(text: &str) -> bool {
    text.replace("path = \"/var/lib/relay\"", "path = \"relay-spool\"") == REFERENCE
}

/// Writes it beside, and puts it in its place when it is on the disk.
pub(super) fn write(path: &Path, text: &str, existing: Existing) -> Result<WrittenFile, WriteError> {
    may_write(path, existing)?;
    let written = replace(path, text);
    written.map_err(|source| WriteError::Io { path: path.display().to_string(), source })
}

fn replace(path: &Path, text: &str) -> io::Result<WrittenFile> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or_else(|| Path::new("."));
    fs::create_dir_all(folder)?;
    let new = beside(path, "new");
    let result = put(&new, path, text);
    if result.is_err() {
        // It is in nobody's way.
        let _left_behind = fs::remove_file(&new);
    }
    let old = result?;
    File::open(folder)?.sync_all()?;
    Ok(WrittenFile { path: path.to_owned(), old })
}

fn put(new: &Path, path: &Path, text: &str) -> io::Result<Option<PathBuf>> {
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(new)?;
    file.set_permissions(fs::Permissions::from_mode(MODE))?;
    file.write_all(text.as_bytes())?;
    let before = fs::metadata(path).ok();
    let (owner, group) = before.as_ref().map_or_else(|| (None, group()), |m| (Some(m.uid()), Some(m.gid())));
    if rustix::process::geteuid().is_root() {
        chown(new, owner, group)?;
    }
    file.sync_all()?;
    let old = before.map(|_| beside(path, "old"));
    if let Some(old) = &old {
        fs::copy(path, old)?;
    }
    fs::rename(new, path)?;
    Ok(old)
}

fn beside(path: &Path, ending: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".");
    name.push(ending);
    PathBuf::from(name)
}

/// The number of the group of the service, where the package has made it.
fn group() -> Option<u32> {
    let groups = fs::read_to_string("/etc/group").ok()?;
    let line = groups.lines().find(|line| line.split(':').next() == Some(GROUP))?;
    line.split(':').nth(2)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn a_new_file_is_written_whole_and_for_the_group_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("etc/relay.toml");
        let written = write(&path, "hostname = \"a.example\"\n", Existing::Keep).unwrap();
        assert!(written.old.is_none());
        assert_eq!((fs::read_to_string(&path).unwrap().as_str(), mode(&path)), ("hostname = \"a.example\"\n", MODE));
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 1, "nothing is left beside it");
    }

    #[test]
    fn a_file_of_the_operator_stays_and_the_example_gives_way() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("relay.toml");
        fs::write(&path, "hostname = \"mine.example\"\n").unwrap();
        let refused = write(&path, "x", Existing::Keep).unwrap_err();
        assert_eq!(refused.exit_code(), Exit::Usage);
        assert_eq!(fs::read_to_string(&path).unwrap(), "hostname = \"mine.example\"\n");
        let written = write(&path, "new", Existing::Replace).unwrap();
        assert_eq!(fs::read_to_string(written.old.unwrap()).unwrap(), "hostname = \"mine.example\"\n");
        fs::write(&path, REFERENCE.replace("\"relay-spool\"", "\"/var/lib/relay\"")).unwrap();
        write(&path, "of setup", Existing::Keep).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "of setup");
    }
}
