//! How a disk without room stands: since when, what it lacks, what stops for it and what goes on.
//!
//! One state, said in the same words by the log, by `/readyz` and by `relay status` (RFC 5321 §4.2.5: what is
//! refused for lack of room is refused for now).

use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::fmt::{Display, Formatter};

/// A disk without room for new mail, or for anything.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FullDisk {
    /// When that was first seen.
    pub since: Timestamp,
    /// What it lacks.
    pub lacks: DiskLack,
    /// What waits for room.
    pub stops: StoppedWork,
}

/// What a disk lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskLack {
    /// There are next to no free blocks.
    Blocks,
    /// There are fewer free inodes than new mail needs.
    Inodes,
    /// There are free blocks, and fewer of them than `[spool] min_free_bytes` asks for.
    Floor,
}

/// A store on another machine that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AwayStore {
    /// When that was first seen.
    pub since: Timestamp,
    /// What it or the system said last.
    pub why: String,
}

impl Display for AwayStore {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { since, why } = self;
        let since = since.to_second();
        write!(
            f,
            "the database of the spool cannot be used since {since}: {why}; new mail is told 451 4.3.0, and what was \
             delivered is recorded when it is back; nothing is lost"
        )
    }
}

/// What waits until there is room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StoppedWork {
    /// New mail alone.
    NewMail,
    /// Outcomes and reports, too.
    Everything,
}

impl DiskLack {
    /// All there are.
    pub const ALL: [Self; 3] = [Self::Blocks, Self::Inodes, Self::Floor];

    /// As metrics and scripts know it.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Blocks => "blocks",
            Self::Inodes => "inodes",
            Self::Floor => "floor",
        }
    }

    const fn phrase(self) -> &'static str {
        match self {
            Self::Blocks => "it has no free blocks",
            Self::Inodes => "it is low on free inodes",
            Self::Floor => "less is free than [spool] min_free_bytes",
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Self::Blocks | Self::Floor => "remove or move files that are not in the spool, or enlarge the disk",
            Self::Inodes => "remove small files that are not in the spool (df -i shows the inodes)",
        }
    }
}

impl StoppedWork {
    const fn phrase(self) -> &'static str {
        match self {
            Self::NewMail => "new mail is told 452 4.3.1; the mail in the queue goes out, and its reports are written",
            Self::Everything => {
                "new mail is told 452 4.3.1, and what was delivered waits to be recorded; nothing is lost"
            }
        }
    }
}

impl Display for FullDisk {
    fn fmt(&self, f: &mut Formatter<'_>) -> std::fmt::Result {
        let Self { since, lacks, stops } = self;
        let since = since.to_second();
        write!(
            f,
            "the disk of the spool is full since {since}: {}; {}; {}",
            lacks.phrase(),
            stops.phrase(),
            lacks.advice()
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_says_since_when_what_goes_on_and_what_to_do() {
        for (lacks, advice) in DiskLack::ALL.into_iter().zip(["enlarge the disk", "df -i", "enlarge the disk"]) {
            let text = FullDisk { since: Timestamp(1_795_261_468_000), lacks, stops: StoppedWork::NewMail }.to_string();
            assert!(text.contains("since 2026-11-21") && text.contains("452") && text.contains("goes out"), "{text}");
            assert!(text.ends_with(&format!("{advice} shows the inodes)")) || text.ends_with(advice), "{text}");
        }
    }
}
