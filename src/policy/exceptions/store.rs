//! Which weakenings are over before their day, over a restart: the state `exceptions`.
//!
//! Where it is damaged or cannot be read, the weakenings that the configuration still has are in
//! force again, until the next trial ends them again; the next write replaces it.

use crate::clock::Timestamp;
use crate::policy::exceptions::{Ended, Exception};
use crate::state_dir::{self, KeepFault, SmallStore};
use serde::{Deserialize, Serialize};

/// Its name among the small states.
const NAME: &str = "exceptions";
/// Its version.
const VERSION: u32 = 1;
/// The most that is read, in octets: some thousand weakenings.
const LIMIT: u64 = 1_048_576;

#[derive(Serialize, Deserialize)]
struct EndedFile {
    version: u32,
    ended: Vec<KeptOne>,
}

#[derive(Serialize, Deserialize)]
struct KeptOne {
    #[serde(flatten)]
    exception: Exception,
    at: Timestamp,
}

/// What is over; nothing where nothing was kept.
///
/// # Errors
/// [`KeepFault`]; then nothing is known.
pub(crate) fn load(store: &dyn SmallStore) -> Result<Ended, KeepFault> {
    let Some(kept) = state_dir::load::<EndedFile>(store, NAME, LIMIT)? else { return Ok(Ended::new()) };
    if kept.version != VERSION {
        return Err(state_dir::fault(store, NAME, format!("its version is {}", kept.version)));
    }
    Ok(kept.ended.into_iter().map(|one| (one.exception, one.at)).collect())
}

/// Keeps what is over instead of what was kept before; blocks.
///
/// # Errors
/// [`KeepFault`]; then it is known until the relay stops.
pub(crate) fn keep(store: &dyn SmallStore, ended: &Ended) -> Result<(), KeepFault> {
    let ended = ended.iter().map(|(exception, at)| KeptOne { exception: exception.clone(), at: *at }).collect();
    state_dir::keep(store, NAME, &EndedFile { version: VERSION, ended })
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests damage what is kept")]
mod tests {
    use super::*;
    use crate::state_dir::StateDir;
    use std::fs;

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
        let store = StateDir::new(spool.path());
        assert_eq!(load(&store), Ok(Ended::new()));
        let mut ended = ended();
        keep(&store, &ended).unwrap();
        assert_eq!(load(&store).unwrap(), ended);
        ended.pop_first();
        keep(&store, &ended).unwrap();
        assert_eq!(load(&store).unwrap(), ended);
        assert_eq!(fs::read_dir(spool.path()).unwrap().count(), 1, "nothing unfinished stays behind");
    }

    #[test]
    fn a_damaged_file_is_noticed_and_replaced_by_the_next_one() {
        let spool = tempfile::tempdir().unwrap();
        let store = StateDir::new(spool.path());
        keep(&store, &ended()).unwrap();
        let path = spool.path().join(NAME);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x20;
            fs::write(&path, &bad).unwrap();
            assert!(load(&store).is_err(), "octet {at}");
            fs::write(&path, &good[..at]).unwrap();
            assert!(load(&store).is_err(), "cut at {at}");
        }
        keep(&store, &ended()).unwrap();
        assert_eq!(load(&store), Ok(ended()));
    }

    #[test]
    fn without_a_spool_nothing_is_made() {
        let folder = tempfile::tempdir().unwrap();
        let spool = folder.path().join("none");
        assert!(keep(&StateDir::new(&spool), &ended()).is_err());
        assert!(!spool.exists());
    }
}
