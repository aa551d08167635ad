//! Since when a path to the DNS does not carry what it is asked for: looked at again and again, in memory.

use crate::clock::Timestamp;
use crate::resolve::driver::Dns;
use crate::resolve::paths::standing::PathStanding;
use std::collections::BTreeMap;
use std::time::Duration;

/// From one look to the next: so exact a moment is.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Paths that are remembered; a configuration has a handful.
const MOST: usize = 100;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct BrokenPaths(BTreeMap<String, Timestamp>);

/// A path that is in trouble.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct BrokenPath {
    /// Its name, as the configuration has it.
    pub(super) path: String,
    /// When that was first seen; not later than the start of the trouble by more than [`LOOK_EVERY`].
    pub(super) since: Timestamp,
}

/// The paths that are in trouble now.
pub(super) fn troubled(dns: &Dns) -> Vec<String> {
    let troubled = dns.standings().filter(|(_, standing)| *standing != PathStanding::Good);
    troubled.map(|(path, _)| path.to_string()).collect()
}

impl BrokenPaths {
    /// These are in trouble now, and no other is.
    pub(super) fn seen(&mut self, troubled: Vec<String>, now: Timestamp) -> Vec<BrokenPath> {
        self.0.retain(|path, _| troubled.contains(path));
        for path in troubled.into_iter().take(MOST) {
            self.0.entry(path).or_insert(now);
        }
        self.0.iter().map(|(path, since)| BrokenPath { path: path.clone(), since: *since }).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_broken_since_it_was_first_seen_so_and_begins_again_after_it_was_well() {
        let (mut broken, at) = (BrokenPaths::default(), |s: i64| Timestamp(1_795_261_468_000 + s * 1_000));
        let mut seen = |paths: &[&str], s: i64| {
            let found = broken.seen(paths.iter().map(ToString::to_string).collect(), at(s));
            found.into_iter().map(|one| (one.path, one.since)).collect::<Vec<_>>()
        };
        assert_eq!(seen(&["a"], 0), [("a".to_owned(), at(0))]);
        assert_eq!(seen(&["a", "b"], 5), [("a".to_owned(), at(0)), ("b".to_owned(), at(5))]);
        assert_eq!(seen(&["b"], 10), [("b".to_owned(), at(5))]);
        assert_eq!(seen(&["a", "b"], 15), [("a".to_owned(), at(15)), ("b".to_owned(), at(5))]);
        assert_eq!(seen(&[], 20), []);
    }
}
