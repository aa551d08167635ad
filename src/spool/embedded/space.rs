//! Whether the disk has room: free octets and free inodes against the floors of the operator.
//!
//! RFC 1870 §6 and RFC 5321 §4.2.5: 452 before the client has sent its message rather than after.
//! Once below a floor, ten percent more than the floor is needed to take mail again, so that the
//! relay does not flap at the edge.

use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::spool::room::{DiskLack, FullDisk, StoppedWork};
use crate::spool::{SpoolError, USUAL_SIZE};
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one look at the disk is good for.
const LOOK_VALID_FOR: Duration = Duration::from_millis(100);

/// The least floor, whatever the operator chose: less is for outcomes and their reports, and none for new mail.
pub(super) const LEAST_FLOOR: u64 = 512 * 1024;
const LEAST_FLOOR_INODES: u64 = 16;

/// Free space of one file system.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Free {
    bytes: u64,
    inodes: u64,
}

/// Whether mail was taken at the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Level {
    #[default]
    Enough,
    Low,
}

/// The last look and what it led to.
#[derive(Debug, Default)]
struct Look {
    at: Option<(Instant, Free)>,
    /// Octets admitted since: they may not be on the disk yet.
    admitted: u64,
    level: Level,
}

/// The judge of free space.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    floor: Mutex<Free>,
    look: Mutex<Look>,
    full_since: Mutex<Option<Timestamp>>,
}

impl Space {
    pub(super) fn new(config: &SpoolConfig) -> Self {
        Self {
            path: config.path.clone(),
            floor: Mutex::new(floor(config)),
            look: Mutex::default(),
            full_since: Mutex::default(),
        }
    }

    /// Another floor from now on.
    pub(super) fn set_floor(&self, config: &SpoolConfig) {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner) = floor(config);
    }

    fn floor(&self) -> Free {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many octets and inodes are free. A disk that does not say has none.
    pub(super) fn has(&self, octets: u64, inodes: u64) -> bool {
        measure(&self.path).is_ok_and(|free| free.bytes >= octets && free.inodes >= inodes)
    }

    /// Whether so many octets are free above the floor and what is needed to take mail again.
    pub(super) fn has_above_floor(&self, octets: u64, inodes: u64) -> bool {
        let Free { bytes: floor, inodes: inode_floor } = self.floor();
        let needed = |floor: u64, more: u64| floor.saturating_add(floor / 10).saturating_add(more);
        self.has(needed(floor, octets), needed(inode_floor, inodes))
    }

    /// Since when there is no room, and of what; none while new mail of usual size is taken. `waiting` says
    /// that somebody has met a full disk with what is not new mail.
    pub(super) fn full(&self, now: Timestamp, waiting: Option<StoppedWork>) -> Option<FullDisk> {
        let met = waiting.map(|_met_by_a_write| DiskLack::Blocks);
        let lacks = self.lack().or(met);
        let mut since = self.full_since.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(lacks) = lacks else {
            *since = None;
            return None;
        };
        let since = *since.get_or_insert(now);
        Some(FullDisk { since, lacks, stops: waiting.unwrap_or(StoppedWork::NewMail) })
    }

    /// What a message of usual size would lack. A disk that does not answer is no full one.
    fn lack(&self) -> Option<DiskLack> {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let left = look.left(&self.path).ok()?;
        let floor = self.floor();
        look.level = judge(look.level, floor, left);
        let with_it = Free { bytes: left.bytes.saturating_sub(USUAL_SIZE), ..left };
        (judge(look.level, floor, with_it) == Level::Low).then(|| lack_of(look.level, floor, with_it))
    }

    /// Whether `size` more octets may come.
    pub(super) fn admit(&self, size: u64) -> Result<(), SpoolError> {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let left = look.left(&self.path)?;
        let floor = self.floor();
        look.level = judge(look.level, floor, left);
        // One message too large for what is left says nothing about smaller ones.
        let with_it = left.bytes.checked_sub(size).map(|bytes| Free { bytes, ..left });
        if with_it.is_none_or(|with_it| judge(look.level, floor, with_it) == Level::Low) {
            return Err(SpoolError::Full);
        }
        look.admitted = look.admitted.saturating_add(size);
        Ok(())
    }
}

impl Look {
    /// What is left, by this look or, where it is too old, by another.
    fn left(&mut self, path: &Path) -> Result<Free, SpoolError> {
        let free = match self.at {
            Some((at, free)) if at.elapsed() < LOOK_VALID_FOR => free,
            Some(_) | None => {
                let free = measure(path)?;
                self.at = Some((Instant::now(), free));
                self.admitted = 0;
                free
            }
        };
        Ok(Free { bytes: free.bytes.saturating_sub(self.admitted), ..free })
    }
}

fn floor(config: &SpoolConfig) -> Free {
    Free { bytes: config.min_free_bytes.max(LEAST_FLOOR), inodes: config.min_free_inodes.max(LEAST_FLOOR_INODES) }
}

/// What somebody needs of what is there to be let in.
fn needed(before: Level, floor: u64) -> u64 {
    match before {
        Level::Enough => floor,
        Level::Low => floor.saturating_add(floor / 10),
    }
}

/// Which of the floors is not kept; the disk is known to be low.
fn lack_of(before: Level, floor: Free, left: Free) -> DiskLack {
    if left.inodes < needed(before, floor.inodes) {
        DiskLack::Inodes
    } else if left.bytes < LEAST_FLOOR {
        DiskLack::Blocks
    } else {
        DiskLack::Floor
    }
}

fn judge(before: Level, floor: Free, left: Free) -> Level {
    let needed = |floor: u64| needed(before, floor);
    if left.bytes < needed(floor.bytes) || left.inodes < needed(floor.inodes) { Level::Low } else { Level::Enough }
}

fn measure(path: &Path) -> Result<Free, SpoolError> {
    let found = rustix::fs::statvfs(path)
        .map_err(|e| SpoolError::Io { action: "asking for the free space of the spool", source: e.into() })?;
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        return Err(SpoolError::Io { action: "writing to the spool", source: Errno::ROFS.into() });
    }
    // Some file systems have no fixed number of inodes and say 0 of 0.
    let inodes = if found.f_files == 0 { u64::MAX } else { found.f_favail };
    Ok(Free { bytes: found.f_bavail.saturating_mul(found.f_frsize), inodes })
}

#[cfg(test)]
mod tests {
    use super::*;

    const FLOOR: Free = Free { bytes: 1000, inodes: 100 };

    #[test]
    fn rfc1870_6_below_a_floor_is_low_and_at_it_is_enough() {
        let level = |bytes, inodes| judge(Level::Enough, FLOOR, Free { bytes, inodes });
        assert_eq!(level(1000, 100), Level::Enough);
        assert_eq!(level(999, 100), Level::Low);
        assert_eq!(level(1000, 99), Level::Low);
    }

    #[test]
    fn once_low_ten_percent_more_than_the_floor_is_needed() {
        let level = |bytes, inodes| judge(Level::Low, FLOOR, Free { bytes, inodes });
        assert_eq!(level(1099, 200), Level::Low);
        assert_eq!(level(2000, 109), Level::Low);
        assert_eq!(level(1100, 110), Level::Enough);
    }

    #[test]
    fn what_is_lacking_has_a_name() {
        let named = |bytes, inodes| {
            lack_of(Level::Enough, Free { bytes: 2 * LEAST_FLOOR, inodes: 100 }, Free { bytes, inodes })
        };
        assert_eq!(named(0, 99), DiskLack::Inodes, "nothing else helps then");
        assert_eq!(named(0, 100), DiskLack::Blocks);
        assert_eq!(named(LEAST_FLOOR, 100), DiskLack::Floor);
    }

    #[test]
    fn no_floor_is_no_limit_and_an_absurd_floor_refuses_everything() {
        assert_eq!(judge(Level::Low, Free { bytes: 0, inodes: 0 }, Free { bytes: 0, inodes: 0 }), Level::Enough);
        let floor = Free { bytes: u64::MAX, inodes: 0 };
        assert_eq!(judge(Level::Low, floor, Free { bytes: u64::MAX - 1, inodes: 1 }), Level::Low);
    }
}
