//! The relay's own history of TLSA answers by count, a small state: a relay that runs writes it, a
//! check reads it for its controls.

use crate::resolve::tlsa_counts::{KnownCount, TlsaCounts};
use crate::state_dir::SmallStore;

/// Its name among the small states.
const NAME: &str = "tlsa-counts.json";

/// The most that is read, in octets: far more than all counts there can be.
const LIMIT: u64 = 1_048_576;

/// What earlier answers have shown; nothing where nothing is kept, or nothing that is understood.
#[must_use]
pub(super) fn read(store: &dyn SmallStore) -> Vec<KnownCount> {
    let kept = store.read(NAME, LIMIT).ok().flatten().unwrap_or_default();
    serde_json::from_slice(&kept).unwrap_or_default()
}

/// Adds what is new to what is kept. A disk that fails costs a control and nothing else.
pub(crate) fn add(store: &dyn SmallStore, new: Vec<KnownCount>) {
    if new.is_empty() {
        return;
    }
    let mut counts = TlsaCounts::default();
    read(store).into_iter().chain(new).for_each(|known| counts.note(known));
    if let Ok(json) = serde_json::to_string_pretty(&counts.all()) {
        let _only_a_control = store.replace(NAME, (json + "\n").as_bytes());
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the test damages what is kept")]
mod tests {
    use super::*;
    use crate::clock::Timestamp;
    use crate::state_dir::StateDir;

    #[test]
    fn what_is_kept_grows_and_damage_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let store = StateDir::new(folder.path());
        let known = |records| KnownCount { records, name: format!("n{records}"), at: Timestamp(1) };
        add(&store, vec![known(4)]);
        add(&store, vec![known(5)]);
        assert_eq!(read(&store), [known(4), known(5)]);
        std::fs::write(folder.path().join(NAME), "{").unwrap();
        assert_eq!(read(&store), []);
    }
}
