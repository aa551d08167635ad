//! Whether the disk has room: free octets and free inodes against the floors of the operator.
//!
//! RFC 1870 §6 and RFC 5321 §4.2.5: 452 before the client has sent its message rather than after.
//! Once below a floor, ten percent more than the floor is needed to take mail again, so that the
//! relay does not flap at the edge.

use crate::config::SpoolConfig;
use crate::spool::SpoolError;
use rustix::fs::StatVfsMountFlags;
use rustix::io::Errno;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long one look at the disk is good for.
const LOOK_VALID_FOR: Duration = Duration::from_millis(100);

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
}

impl Space {
    pub(super) fn new(config: &SpoolConfig) -> Self {
        Self { path: config.path.clone(), floor: Mutex::new(floor(config)), look: Mutex::default() }
    }

    /// Another floor from now on.
    pub(super) fn set_floor(&self, config: &SpoolConfig) {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner) = floor(config);
    }

    fn floor(&self) -> Free {
        *self.floor.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether so many octets are free. A disk that does not say has none.
    pub(super) fn has(&self, octets: u64) -> bool {
        measure(&self.path).is_ok_and(|free| free.bytes >= octets)
    }

    /// Whether so many octets are free above the floor and what is needed to take mail again.
    pub(super) fn has_above_floor(&self, octets: u64) -> bool {
        let floor = self.floor().bytes;
        let needed = floor.saturating_add(floor / 10).saturating_add(octets);
        self.has(needed)
    }

    /// Whether `size` more octets may come.
    pub(super) fn admit(&self, size: u64) -> Result<(), SpoolError> {
        let mut look = self.look.lock().unwrap_or_else(PoisonError::into_inner);
        let free = match look.at {
            Some((at, free)) if at.elapsed() < LOOK_VALID_FOR => free,
            Some(_) | None => {
                let free = measure(&self.path)?;
                look.at = Some((Instant::now(), free));
                look.admitted = 0;
                free
            }
        };
        let left = Free { bytes: free.bytes.saturating_sub(look.admitted), ..free };
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

fn floor(config: &SpoolConfig) -> Free {
    Free { bytes: config.min_free_bytes, inodes: config.min_free_inodes }
}

fn judge(before: Level, floor: Free, left: Free) -> Level {
    let needed = |floor: u64| match before {
        Level::Enough => floor,
        Level::Low => floor.saturating_add(floor / 10),
    };
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
    fn no_floor_is_no_limit_and_an_absurd_floor_refuses_everything() {
        assert_eq!(judge(Level::Low, Free { bytes: 0, inodes: 0 }, Free { bytes: 0, inodes: 0 }), Level::Enough);
        let floor = Free { bytes: u64::MAX, inodes: 0 };
        assert_eq!(judge(Level::Low, floor, Free { bytes: u64::MAX - 1, inodes: 1 }), Level::Low);
    }
}
