//! The relay's own history of TLSA answers by count, in a small file of the spool: a relay that
//! runs writes it, a check reads it for its controls.
#![expect(clippy::disallowed_methods, reason = "this file is the door to the history of counts")]

use crate::resolve::tlsa_counts::{KnownCount, TlsaCounts};
use std::path::Path;

/// Beside the state of the spool.
const FILE: &str = "tlsa-counts.json";

/// What earlier answers have shown; nothing where there is no file, or none that is understood.
#[must_use]
pub(super) fn read(spool: &Path) -> Vec<KnownCount> {
    let text = std::fs::read_to_string(spool.join(FILE)).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

/// Adds what is new to what is kept. A disk that fails costs a control and nothing else.
pub(super) fn add(spool: &Path, new: Vec<KnownCount>) {
    if new.is_empty() || !spool.exists() {
        return;
    }
    let mut counts = TlsaCounts::default();
    read(spool).into_iter().chain(new).for_each(|known| counts.note(known));
    if let Ok(json) = serde_json::to_string_pretty(&counts.all()) {
        let _only_a_control = std::fs::write(spool.join(FILE), json + "\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Timestamp;

    #[test]
    fn what_is_kept_grows_and_damage_counts_as_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let known = |records| KnownCount { records, name: format!("n{records}"), at: Timestamp(1) };
        add(folder.path(), vec![known(4)]);
        add(folder.path(), vec![known(5)]);
        assert_eq!(read(folder.path()), [known(4), known(5)]);
        std::fs::write(folder.path().join(FILE), "{").unwrap();
        assert_eq!(read(folder.path()), []);
    }
}
