//! The files that a configuration is and names: what is no regular file is not opened for reading, because a
//! pipe lets whoever reads it wait for ever, and nobody's text is larger than its bound.

use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{Error, Read, Result};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The largest configuration, certificate, password or text, in octets.
const LARGEST: u64 = 16 * 1024 * 1024;

/// Where the service manager puts credentials.
const CREDENTIALS: &str = "CREDENTIALS_DIRECTORY";
/// Where it has put those of a relay that runs, for commands beside it.
const OF_THE_SERVICE: &str = "/run/credentials/relay.service";
/// Why a credential has no file.
pub(crate) const NO_CREDENTIALS: &str = "there are no credentials here: $CREDENTIALS_DIRECTORY is not set, and \
     /run/credentials/relay.service is not there; the service manager makes them for LoadCredential=";

/// Where a credential of the service manager is; none where it has put none here.
pub(crate) fn credential_file(name: &str) -> Option<PathBuf> {
    let folder = std::env::var_os(CREDENTIALS).map_or_else(|| PathBuf::from(OF_THE_SERVICE), PathBuf::from);
    folder.is_dir().then(|| folder.join(name))
}

/// What a regular file holds.
///
/// # Errors
/// What the system said; and where it is a folder, a pipe or a device, or larger than 16 MiB.
pub(crate) fn read_regular(path: &Path) -> Result<Vec<u8>> {
    let mut octets = Vec::new();
    open_regular(path)?.take(LARGEST).read_to_end(&mut octets)?;
    Ok(octets)
}

/// The same of text.
///
/// # Errors
/// As [`read_regular`], and where it is not UTF-8.
pub(crate) fn read_regular_text(path: &Path) -> Result<String> {
    text_of(read_regular(path)?).map_err(Error::other)
}

/// A regular file, opened.
///
/// # Errors
/// As [`read_regular`].
pub(crate) fn open_regular(path: &Path) -> Result<File> {
    // Without waiting for whoever writes to a pipe.
    let file = File::from(rustix::fs::open(path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC, Mode::empty())?);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Err(Error::other("is a folder, and a file is wanted"));
    }
    // /dev/null is a file without a letter, and no more.
    let is_null = metadata.file_type().is_char_device() && metadata.rdev() == rustix::fs::makedev(1, 3);
    if !metadata.is_file() && !is_null {
        return Err(Error::other("is a pipe, a socket or a device, and a file is wanted"));
    }
    if metadata.len() > LARGEST {
        return Err(Error::other(format!("has {} octets, and {LARGEST} is the most", metadata.len())));
    }
    Ok(file)
}

/// The text of octets, without the mark that some editors begin UTF-8 with.
///
/// # Errors
/// What it is instead, and what to do.
pub(super) fn text_of(octets: Vec<u8>) -> std::result::Result<String, String> {
    if octets.starts_with(&[0xff, 0xfe]) || octets.starts_with(&[0xfe, 0xff]) || octets.iter().take(64).any(|o| *o == 0)
    {
        return Err("is UTF-16 or no text: save it as UTF-8 (Notepad: Save as, Encoding UTF-8)".to_owned());
    }
    match String::from_utf8(octets) {
        Ok(text) => Ok(text.strip_prefix('\u{feff}').map_or_else(|| text.clone(), str::to_owned)),
        Err(error) => {
            let before = error.as_bytes().get(..error.utf8_error().valid_up_to()).unwrap_or_default();
            let line = before.iter().filter(|octet| **octet == b'\n').count() + 1;
            Err(format!("line {line} holds an octet that is not UTF-8, as Latin-1 has them: save the file as UTF-8"))
        }
    }
}
