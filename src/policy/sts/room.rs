//! Who must go when there is not room for all policies (pure) (RFC 8461 §10.2).
//!
//! The invariant: strangers take nothing from a domain that has its place. An enforced policy
//! that was used for mail after a day of probation is *established*: it goes when it expires, and
//! for nobody before. The others are *newcomers* and compete among themselves. One that enforces
//! leaves its end behind, so that mail to its domain waits where the policy cannot be fetched
//! again, and never goes without one.
//!
//! Whoever can send mail to his own domains can also do so twice. So the established have a
//! budget of their own too, first come, first served, and each a limit: when it is used up, later
//! domains stay newcomers. The ends are some hundred octets each; when even those have no room,
//! the newest go, and that is told.

use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use std::cmp::Reverse;

/// A full part lets go of this share of it at once. To find out which, all are looked at, and
/// the next to come shall not have to do so again.
const ROOM_MADE: usize = 16;
/// What a file takes at least; sizes are compared in these.
const BLOCK: u64 = 4096;

/// How much is kept, or may be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Size {
    /// Files.
    pub entries: usize,
    /// Octets of all of them.
    pub bytes: u64,
}

impl Size {
    const fn holds(self, size: Self) -> bool {
        size.entries <= self.entries && size.bytes <= self.bytes
    }

    const fn with(self, bytes: u64) -> Self {
        Self { entries: self.entries + 1, bytes: self.bytes + bytes }
    }

    const fn without(self, bytes: u64) -> Self {
        Self { entries: self.entries.saturating_sub(1), bytes: self.bytes.saturating_sub(bytes) }
    }

    const fn with_room(self) -> Self {
        Self { entries: self.entries - self.entries / ROOM_MADE, bytes: self.bytes - self.bytes / ROOM_MADE as u64 }
    }

    /// What is left of it behind `size`.
    pub(super) const fn left(self, size: Self) -> Self {
        Self { entries: self.entries.saturating_sub(size.entries), bytes: self.bytes.saturating_sub(size.bytes) }
    }

    /// The same after one more file; nothing when it does not fit.
    pub(super) const fn spend(self, bytes: u64) -> Option<Self> {
        if self.entries == 0 || self.bytes < bytes { None } else { Some(self.without(bytes)) }
    }
}

/// The bounds of a store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StoreLimits {
    /// For established policies.
    pub established: Size,
    /// The longest file of one of them, in octets.
    pub established_each: u64,
    /// For newcomers, and all policies that enforce nothing.
    pub newcomers: Size,
    /// Ends of newcomers that were let go.
    pub ends: usize,
}

/// Together some ten times what a busy relay meets; ordinary policies have 300 octets.
pub(super) const LIMITS: StoreLimits = StoreLimits {
    established: Size { entries: 15_000, bytes: 48 * 1_048_576 },
    established_each: 16_384,
    newcomers: Size { entries: 5000, bytes: 16 * 1_048_576 },
    ends: 50_000,
};

/// What a file is, for the question who goes first: in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum FileKind {
    /// Its time is over; it stays for a while in case that the clock is wrong.
    Expired,
    /// A policy that stops no mail: mode none or testing.
    Harmless,
    /// An enforced policy.
    Enforced,
    /// The end of one that was let go.
    End,
}

/// A file of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StoredFile {
    pub(super) domain: Domain,
    pub(super) octets: u64,
    pub(super) kind: FileKind,
    /// When the domain came.
    pub(super) since: Timestamp,
    /// When it became established, if it did.
    pub(super) established: Option<Timestamp>,
}

/// The policies that are removed so that the rest has room.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Choice {
    /// These leave their end behind.
    pub(super) to_end: Vec<Domain>,
    /// These are forgotten; nobody's safety depends on them.
    pub(super) to_remove: Vec<Domain>,
    /// The ends of these have no room either.
    pub(super) to_lose: Vec<Domain>,
    /// What newcomers may still bring before it has to be chosen again.
    pub(super) left: Size,
}

/// Chooses which policies are removed, the least useful first.
pub(super) fn choose(mut entries: Vec<StoredFile>, limits: &StoreLimits) -> Choice {
    let mut choice = Choice::default();
    let mut established = Size::default();
    // First come, first served; who did not become established comes behind them.
    entries.sort_by_key(|entry| (entry.established.is_none(), entry.established));
    entries.retain(|entry| {
        let may =
            entry.established.is_some() && entry.kind == FileKind::Enforced && entry.octets <= limits.established_each;
        let stays = may && limits.established.holds(established.with(entry.octets));
        if stays {
            established = established.with(entry.octets);
        }
        !stays
    });
    let (mut ends, newcomers): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| entry.kind == FileKind::End);
    choice.left = let_newcomers_go(newcomers, limits, &mut choice, &mut ends);
    if ends.len() > limits.ends {
        ends.sort_by_key(|entry| entry.since);
        let room = Size { entries: limits.ends, bytes: 0 }.with_room().entries;
        choice.to_lose = ends.split_off(room.min(ends.len())).into_iter().map(|entry| entry.domain).collect();
        choice.to_end.retain(|domain| !choice.to_lose.contains(domain));
    }
    choice
}

/// Those go first that are nobody's loss, then the largest, then the newest: a flood of newcomers
/// drowns itself.
fn let_newcomers_go(
    mut newcomers: Vec<StoredFile>,
    limits: &StoreLimits,
    choice: &mut Choice,
    ends: &mut Vec<StoredFile>,
) -> Size {
    let mut size = newcomers.iter().fold(Size::default(), |size, entry| size.with(entry.octets));
    if limits.newcomers.holds(size) {
        return limits.newcomers.left(size);
    }
    newcomers.sort_by_key(|entry| (entry.kind, Reverse(entry.octets.div_ceil(BLOCK)), Reverse(entry.since)));
    for entry in newcomers {
        if limits.newcomers.with_room().holds(size) {
            break;
        }
        size = size.without(entry.octets);
        match entry.kind {
            FileKind::Expired | FileKind::Harmless => choice.to_remove.push(entry.domain),
            FileKind::Enforced | FileKind::End => {
                choice.to_end.push(entry.domain.clone());
                ends.push(entry);
            }
        }
    }
    limits.newcomers.left(size)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: StoreLimits = StoreLimits {
        established: Size { entries: 3, bytes: 10_000 },
        established_each: 4000,
        newcomers: Size { entries: 4, bytes: 100_000 },
        ends: 3,
    };

    fn entry(domain: &str, kind: FileKind, octets: u64, since: i64) -> StoredFile {
        StoredFile { domain: domain.parse().unwrap(), octets, kind, since: Timestamp(since), established: None }
    }

    fn established(domain: &str, octets: u64, at: i64) -> StoredFile {
        StoredFile { established: Some(Timestamp(at)), ..entry(domain, FileKind::Enforced, octets, 0) }
    }

    fn names(domains: &[Domain]) -> Vec<&str> {
        domains.iter().map(Domain::as_str).collect()
    }

    #[test]
    fn rfc8461_10_2_newcomers_take_nothing_from_the_established_whatever_they_bring() {
        let mut entries = vec![established("old.test", 300, 1)];
        entries.extend((0..700).map(|n| entry(&format!("d{n}.evil.test"), FileKind::Enforced, 65_536, n)));
        let choice = choose(entries, &LIMITS);
        let gone = [&choice.to_end[..], &choice.to_remove, &choice.to_lose].concat();
        assert!(!names(&gone).contains(&"old.test"));
        assert_eq!(gone.len(), 699, "the oldest of them has room");
        assert!(choice.left.entries > 0);
    }

    #[test]
    fn rfc8461_10_2_of_newcomers_the_useless_go_first_then_the_largest_then_the_newest() {
        let entries = vec![
            entry("first.test", FileKind::Enforced, 300, 1),
            entry("none.test", FileKind::Harmless, 300, 0),
            entry("later.test", FileKind::Enforced, 310, 5),
            entry("over.test", FileKind::Expired, 300, 0),
            entry("large.test", FileKind::Enforced, 60_000, 0),
            entry("latest.test", FileKind::Enforced, 290, 6),
        ];
        let choice = choose(entries.clone(), &StoreLimits { newcomers: Size { entries: 4, bytes: 1 << 20 }, ..LIMITS });
        assert_eq!((names(&choice.to_remove), names(&choice.to_end)), (vec!["over.test", "none.test"], vec![]));
        let choice = choose(entries, &StoreLimits { newcomers: Size { entries: 2, bytes: 1 << 20 }, ..LIMITS });
        assert_eq!(names(&choice.to_end), ["large.test", "latest.test"]);
        assert!(choice.to_lose.is_empty());
    }

    #[test]
    fn rfc8461_10_2_the_established_have_a_budget_and_who_comes_later_stays_a_newcomer() {
        let entries = vec![
            established("third.test", 3000, 30),
            established("first.test", 3000, 10),
            established("fat.test", 4001, 1),
            established("second.test", 3000, 20),
            established("fourth.test", 3000, 40),
        ];
        let limits = StoreLimits { newcomers: Size::default(), ends: 10, ..LIMITS };
        assert_eq!(names(&choose(entries, &limits).to_end), ["fat.test", "fourth.test"]);
    }

    #[test]
    fn an_established_domain_that_enforces_nothing_any_more_has_no_place_of_its_own() {
        let entries = vec![StoredFile { kind: FileKind::Harmless, ..established("a.test", 300, 1) }];
        let limits = StoreLimits { newcomers: Size::default(), ..LIMITS };
        assert_eq!(names(&choose(entries, &limits).to_remove), ["a.test"]);
    }

    #[test]
    fn when_even_ends_have_no_room_the_newest_are_lost() {
        let entries = (0..4).map(|n| entry(&format!("d{n}.test"), FileKind::End, 200, n)).collect();
        let choice = choose(entries, &LIMITS);
        assert_eq!((names(&choice.to_lose), choice.to_end.len()), (vec!["d3.test"], 0));
        let entries = vec![
            entry("a.test", FileKind::End, 200, 0),
            entry("b.test", FileKind::End, 200, 1),
            entry("c.test", FileKind::End, 200, 2),
            entry("new.test", FileKind::Enforced, 300, 9),
        ];
        let choice = choose(entries, &StoreLimits { newcomers: Size::default(), ..LIMITS });
        assert_eq!((names(&choice.to_lose), choice.to_end.len()), (vec!["new.test"], 0));
    }

    #[test]
    fn a_store_within_its_limits_loses_nothing() {
        let entries = vec![entry("a.test", FileKind::Expired, 300, 0), entry("b.test", FileKind::Enforced, 300, 0)];
        let left = Size { entries: 2, bytes: 100_000 - 600 };
        assert_eq!(choose(entries, &LIMITS), Choice { left, ..Choice::default() });
    }
}
