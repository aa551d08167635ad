//! The disk under the spool: what is free now, and when it will not be if it goes on like this.

use super::SelfCheck;
use crate::check::verdict::Verdict;
use crate::clock::Timestamp;
use crate::config::{SpoolConfig, SpoolEngine};
use crate::state_dir::{self, SmallStore};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Its name among the small states.
const NAME: &str = "disk-room.json";
/// The most that is read, in octets.
const LIMIT: u64 = 65_536;
/// Looks that are kept: two days of hourly ones.
const LOOKS_LIMIT: usize = 48;
/// Two looks closer than this show no trend.
const TREND_OVER: Duration = Duration::from_secs(2 * 3600);
/// What will be full sooner than this is worth a warning.
const SOON: Duration = Duration::from_secs(48 * 3600);

/// What was free at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct DiskRoom {
    at: Timestamp,
    octets: u64,
    inodes: u64,
}

/// Looks at the disk, and keeps what it sees for the next look.
pub(super) fn look(config: &SpoolConfig, now: Timestamp) -> SelfCheck {
    const CHECK: &str = "spool";
    let path = &config.path;
    if !path.exists() {
        let detail = format!("{} is not there yet; it is made at the first start", path.display());
        return SelfCheck::new(CHECK, Verdict::Ok, detail);
    }
    let found = match rustix::fs::statvfs(path) {
        Ok(found) => found,
        Err(error) => return SelfCheck::new(CHECK, Verdict::Fault, format!("{}: {error}", path.display())),
    };
    let room = DiskRoom { at: now, octets: found.f_bavail.saturating_mul(found.f_frsize), inodes: found.f_favail };
    // A file system that makes its inodes as it goes says 0 of 0.
    let has_inodes = found.f_files > 0;
    // With a database the mail is elsewhere, and the floors are not asked for.
    let is_elsewhere = config.engine != SpoolEngine::Embedded;
    let enough =
        is_elsewhere || room.octets >= config.min_free_bytes && (!has_inodes || room.inodes >= config.min_free_inodes);
    let inodes = if has_inodes { format!(" and {} inodes", room.inodes) } else { String::new() };
    let state = format!("{}: {} MiB free{inodes}", path.display(), room.octets / 1_048_576);
    let before = noted(state_dir::open(config).as_ref(), room);
    let full = before.and_then(|before| full_in(before, room));
    match (enough, full) {
        (false, _) => SelfCheck::new(CHECK, Verdict::Fault, state),
        (true, Some(hours)) => {
            SelfCheck::new(CHECK, Verdict::Warning, format!("{state}; if it goes on like this, full in {hours} hours"))
        }
        (true, None) => SelfCheck::new(CHECK, Verdict::Ok, state),
    }
}

/// Keeps a look; gives the oldest of those that are kept. A disk that fails costs the trend and nothing else.
fn noted(store: &dyn SmallStore, room: DiskRoom) -> Option<DiskRoom> {
    let kept = store.read(NAME, LIMIT).ok().flatten().unwrap_or_default();
    let mut looks: Vec<DiskRoom> = serde_json::from_slice(&kept).unwrap_or_default();
    looks.retain(|look| look.at < room.at);
    let oldest = looks.first().copied();
    looks.push(room);
    let surplus = looks.len().saturating_sub(LOOKS_LIMIT);
    looks.drain(..surplus);
    if let Ok(json) = serde_json::to_vec(&looks) {
        let _only_a_trend = store.replace(NAME, &json);
    }
    oldest
}

/// In how many hours nothing is free, if that is soon. A file system without inodes has none at any time.
fn full_in(before: DiskRoom, now: DiskRoom) -> Option<u64> {
    let passed = now.at.since(before.at);
    if passed < TREND_OVER {
        return None;
    }
    let left = |before: u64, now: u64| {
        let used = before.checked_sub(now).filter(|used| *used > 0)?;
        let seconds = u128::from(passed.as_secs()) * u128::from(now) / u128::from(used);
        u64::try_from(seconds).ok().filter(|seconds| *seconds < SOON.as_secs())
    };
    let inodes = left(before.inodes, now.inodes);
    left(before.octets, now.octets).into_iter().chain(inodes).min().map(|seconds| seconds / 3600)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn room(hour: i64, octets: u64, inodes: u64) -> DiskRoom {
        DiskRoom { at: Timestamp(hour * 3_600_000), octets, inodes }
    }

    #[test]
    fn a_disk_that_fills_is_said_before_it_is_full() {
        assert_eq!(full_in(room(0, 1000, 90), room(10, 900, 90)), None, "in ninety hours");
        assert_eq!(full_in(room(0, 1000, 90), room(10, 500, 90)), Some(10));
        assert_eq!(full_in(room(0, 1000, 90), room(10, 1000, 30)), Some(5), "inodes run out as well");
        assert_eq!(full_in(room(0, 1000, 0), room(10, 1000, 0)), None, "it has no inodes");
        assert_eq!(full_in(room(0, 1000, 90), room(1, 10, 90)), None, "an hour is no trend");
        assert_eq!(full_in(room(0, 500, 90), room(10, 1000, 90)), None, "it empties");
    }

    #[test]
    fn looks_are_kept_and_bounded() {
        let folder = tempfile::tempdir().unwrap();
        let store = state_dir::StateDir::new(folder.path());
        assert_eq!(noted(&store, room(0, 9, 9)), None);
        assert_eq!(noted(&store, room(1, 8, 9)), Some(room(0, 9, 9)));
        (2..100).for_each(|hour| _ = noted(&store, room(hour, 8, 9)));
        assert_eq!(noted(&store, room(100, 8, 9)), Some(room(52, 8, 9)));
    }
}
