//! Small files that tell by themselves whether they are whole: a checksum in hexadecimal, a line
//! end, JSON. They are written aside and renamed, so that nobody ever reads half of one.
//!
//! JSON that is long and becomes shorter by it is compressed (zlib); what is read never becomes
//! larger than [`UNPACKED_LIMIT`].
#![expect(clippy::disallowed_methods, reason = "this is where such files meet the disk")]

use miniz_oxide::deflate::compress_to_vec_zlib;
use miniz_oxide::inflate::decompress_to_vec_zlib_with_limit;
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// Octets of the checksum and the line end behind it.
const SEAL_OCTETS: usize = 9;
/// JSON of fewer octets is left as it is, so that people can read it: it has its block on the disk anyway.
const PLAIN_OCTETS: usize = 1024;
/// The most octets that a file may unpack to.
pub(crate) const UNPACKED_LIMIT: usize = 1_048_576;
/// How zlib begins with a window of 32 KiB, which is ours; no JSON begins with an "x".
const ZLIB: u8 = b'x';
/// How hard to compress, of 0 to 10: the usual of zlib.
const EFFORT: u8 = 6;

/// A value as such a file holds it.
///
/// # Errors
/// When it cannot be JSON.
pub(crate) fn seal(value: &impl Serialize) -> io::Result<Vec<u8>> {
    let json = serde_json::to_vec(value)?;
    let packed = (json.len() > PLAIN_OCTETS).then(|| compress_to_vec_zlib(&json, EFFORT));
    let body = packed.filter(|packed| packed.len() < json.len()).unwrap_or(json);
    let mut file = sum(&body).into_bytes();
    file.extend(body);
    Ok(file)
}

/// The value in such a file.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn unseal<T: DeserializeOwned>(file: &[u8]) -> Result<T, String> {
    let (seal, body) = file.split_at_checked(SEAL_OCTETS).ok_or("it is too short")?;
    if seal != sum(body).as_bytes() {
        return Err("its checksum is wrong".into());
    }
    if body.first() != Some(&ZLIB) {
        return serde_json::from_slice(body).map_err(|error| error.to_string());
    }
    let json = decompress_to_vec_zlib_with_limit(body, UNPACKED_LIMIT).map_err(|error| error.to_string())?;
    serde_json::from_slice(&json).map_err(|error| error.to_string())
}

fn sum(body: &[u8]) -> String {
    format!("{:08x}\n", crc32fast::hash(body))
}

/// Whether a file must be durable when the call returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Durable {
    /// It is on the disk when the call returns.
    Now,
    /// It may be empty or the one before after a crash.
    Later,
}

/// Where a value is written first: in the same folder, and nobody else's.
pub(crate) struct WrittenAside {
    /// The file.
    pub(crate) path: PathBuf,
    /// Whether it must be durable under its name.
    pub(crate) durable: Durable,
}

/// Replaces the file at `path`, unless `stays` says otherwise at the last moment.
///
/// # Errors
/// What the disk says; then the file is as it was.
pub(crate) fn replace_unless(
    path: &Path,
    WrittenAside { path: aside, durable }: &WrittenAside,
    content: &[u8],
    stays: &mut dyn FnMut() -> bool,
) -> io::Result<Option<fs::Metadata>> {
    let mut replace = || {
        let folder = path.parent().unwrap_or_else(|| Path::new("."));
        let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(aside)?;
        belongs_with(aside, folder);
        file.write_all(content)?;
        if *durable == Durable::Now {
            file.sync_all()?;
        }
        if stays() {
            fs::remove_file(aside)?;
            return Ok(None);
        }
        fs::rename(aside, path)?;
        let metadata = file.metadata()?;
        if *durable == Durable::Now {
            fs::File::open(folder)?.sync_all()?;
        }
        Ok(Some(metadata))
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn value(text: &str) -> BTreeMap<String, String> {
        [("text".to_owned(), text.to_owned())].into()
    }

    #[test]
    fn long_files_are_compressed_and_short_ones_can_be_read_by_people() {
        let (short, long) = (seal(&value("short")).unwrap(), seal(&value(&"long ".repeat(20_000))).unwrap());
        assert!(short.ends_with(br#"{"text":"short"}"#));
        assert!(long.len() < 1000, "{}", long.len());
        assert_eq!(unseal(&short), Ok(value("short")));
        assert_eq!(unseal(&long), Ok(value(&"long ".repeat(20_000))));
    }

    #[test]
    fn whatever_json_a_value_begins_with_is_told_from_a_compressed_one() {
        let list = |octets: usize| (0..octets).map(|n| n % 10).collect::<Vec<_>>();
        for list in [list(0), list(1), list(100_000)] {
            assert_eq!(unseal(&seal(&list).unwrap()), Ok(list));
        }
        assert_eq!(unseal(&seal(&8).unwrap()), Ok(8));
        assert_eq!(unseal(&seal(&"x".repeat(2000)).unwrap()), Ok("x".repeat(2000)));
        assert_eq!(unseal(&seal(&None::<u32>).unwrap()), Ok(None::<u32>));
    }

    #[test]
    fn a_file_never_unpacks_to_more_than_the_limit() {
        let bomb = seal(&value(&"a".repeat(UNPACKED_LIMIT))).unwrap();
        assert!(bomb.len() < 10_000);
        assert!(unseal::<BTreeMap<String, String>>(&bomb).is_err());
    }
}
