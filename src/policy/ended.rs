//! Which weakenings are over before their day, over a restart: the file `exceptions` in the spool.
//!
//! Where it is damaged or cannot be read, the weakenings that the configuration still has are in
//! force again, until the next trial ends them anew; the next write replaces the file.
#![expect(clippy::disallowed_methods, reason = "this is where ended weakenings meet the disk")]

use super::kept;
use super::local::{Ended, Exception};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io::{self, ErrorKind};
use std::path::Path;

/// The file in the spool.
const NAME: &str = "exceptions";
/// The same, begun and not finished.
const UNFINISHED: &str = ".exceptions.new";
/// Version of the file.
const VERSION: u32 = 1;
/// The longest file that is read, in octets: some thousand weakenings.
const FILE_LIMIT: u64 = 1_048_576;

/// What is over could not be kept or read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {detail}")]
pub struct KeepFault {
    /// The file.
    pub path: String,
    /// What is wrong.
    pub detail: String,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    ended: Vec<KeptOne>,
}

#[derive(Serialize, Deserialize)]
struct KeptOne {
    #[serde(flatten)]
    exception: Exception,
    at: Timestamp,
}

/// What is over, by the file of a spool; nothing where there is no file.
///
/// # Errors
/// [`KeepFault`]; then nothing is known.
pub fn load(spool: &Path) -> Result<Ended, KeepFault> {
    let path = spool.join(NAME);
    let length = match fs::metadata(&path) {
        Ok(found) => found.len(),
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Ended::new()),
        Err(error) => return Err(fault(&path, error.to_string())),
    };
    if length > FILE_LIMIT {
        return Err(fault(&path, "it is too long".into()));
    }
    let file = fs::read(&path).map_err(|error| fault(&path, error.to_string()))?;
    let kept: Kept = kept::unseal(&file).map_err(|detail| fault(&path, detail))?;
    if kept.version != VERSION {
        return Err(fault(&path, format!("its version is {}", kept.version)));
    }
    Ok(kept.ended.into_iter().map(|one| (one.exception, one.at)).collect())
}

/// Keeps what is over instead of what was kept before; blocks on the disk.
///
/// # Errors
/// [`KeepFault`]; then it is known until the relay stops.
pub fn keep(spool: &Path, ended: &Ended) -> Result<(), KeepFault> {
    let path = spool.join(NAME);
    let ended = ended.iter().map(|(exception, at)| KeptOne { exception: exception.clone(), at: *at }).collect();
    let written: io::Result<_> = kept::seal(&Kept { version: VERSION, ended })
        .and_then(|content| kept::replace(&path, &spool.join(UNFINISHED), &content));
    written.map_err(|error| fault(&path, error.to_string()))
}

fn fault(path: &Path, detail: String) -> KeepFault {
    KeepFault { path: path.display().to_string(), detail }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ended() -> Ended {
        let exception = |domains: &str| Exception {
            domains: domains.into(),
            kind: "opportunistic".into(),
            reason: "old MX, \"ticket\" 4711".into(),
            until: "2027-01-31".into(),
        };
        [(exception("a.example"), Timestamp(1)), (exception("b.example, c.example"), Timestamp(2))].into()
    }

    #[test]
    fn what_is_over_stays_over_as_it_was_kept_last() {
        let spool = tempfile::tempdir().unwrap();
        assert_eq!(load(spool.path()), Ok(Ended::new()));
        let mut ended = ended();
        keep(spool.path(), &ended).unwrap();
        assert_eq!(load(spool.path()).unwrap(), ended);
        ended.pop_first();
        keep(spool.path(), &ended).unwrap();
        assert_eq!(load(spool.path()).unwrap(), ended);
        assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 1, "nothing unfinished stays behind");
    }

    #[test]
    fn a_damaged_file_is_noticed_and_replaced_by_the_next_one() {
        let spool = tempfile::tempdir().unwrap();
        keep(spool.path(), &ended()).unwrap();
        let path = spool.path().join(NAME);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            assert!(load(spool.path()).is_err(), "octet {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(load(spool.path()).is_err(), "cut at {at}");
        }
        keep(spool.path(), &ended()).unwrap();
        assert_eq!(load(spool.path()), Ok(ended()));
    }

    #[test]
    fn without_a_spool_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("none");
        assert!(keep(&spool, &ended()).is_err());
        assert!(!spool.exists());
    }
}
