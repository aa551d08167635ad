//! Small files that tell by themselves whether they are whole: a checksum in hexadecimal, a line
//! end, JSON. They are written aside and renamed, so that nobody ever reads half of one.
#![expect(clippy::disallowed_methods, reason = "this is where such files meet the disk")]

use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

/// Octets of the checksum and the line end behind it.
const SEAL_OCTETS: usize = 9;

/// A value as such a file holds it.
///
/// # Errors
/// When it cannot be JSON.
pub(crate) fn seal(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let mut file = sum(&json).into_bytes();
    file.extend(json);
    Ok(file)
}

/// The value in such a file.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn unseal<T: DeserializeOwned>(file: &[u8]) -> Result<T, String> {
    let (seal, json) = file.split_at_checked(SEAL_OCTETS).ok_or("it is too short")?;
    if seal != sum(json).as_bytes() {
        return Err("its checksum is wrong".into());
    }
    serde_json::from_slice(json).map_err(|error| error.to_string())
}

fn sum(json: &[u8]) -> String {
    format!("{:08x}\n", crc32fast::hash(json))
}

/// Replaces the file at `path`; `aside` is in the same folder, and nobody else's. Durable when it
/// returns.
///
/// # Errors
/// What the disk says; then the file is as it was.
pub(crate) fn replace(path: &Path, aside: &Path, content: &[u8]) -> io::Result<fs::Metadata> {
    let replace = || {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
        belongs_with(aside, folder);
        file.write_all(content)?;
        file.sync_all()?;
        fs::rename(aside, path)?;
        let metadata = file.metadata()?;
        fs::File::open(folder)?.sync_all()?;
        Ok(metadata)
    };
    replace().inspect_err(|_| {
        let _never_made = fs::remove_file(aside);
    })
}

/// An operator may be another user than the relay, which must still be able to read the file.
pub(crate) fn belongs_with(path: &Path, neighbour: &Path) {
    if let (Ok(own), Ok(theirs)) = (fs::metadata(path), fs::metadata(neighbour))
        && (own.uid(), own.gid()) != (theirs.uid(), theirs.gid())
    {
        // Only root may; anybody else is the relay's own user.
        let _refused = std::os::unix::fs::chown(path, Some(theirs.uid()), Some(theirs.gid()));
    }
}
