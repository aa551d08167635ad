//! What the watch has found, a small state: a relay that runs writes it, `relay watch` reads it.

use super::PostureFinding;
use crate::clock::Timestamp;
use crate::state_dir::{KeepFault, SmallStore};
use serde::{Deserialize, Serialize};

/// Its name among the small states.
const NAME: &str = "watch.json";
/// The most that is read, in octets: a thousand domains with many findings each.
const LIMIT: u64 = 16 * 1024 * 1024;

/// A domain that is watched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WatchedDomain {
    /// The domain.
    pub domain: String,
    /// When it was looked at last.
    pub at: Timestamp,
    /// What `relay check` would say: `OK`, `WARN`, `FAULT`, `INCONCLUSIVE`.
    pub verdict: String,
    /// Whom to write to.
    pub contact: String,
    /// What was found.
    pub findings: Vec<PostureFinding>,
}

/// All that is known; nothing where nothing is kept, or nothing that is understood.
#[must_use]
pub(crate) fn read(store: &dyn SmallStore) -> Vec<WatchedDomain> {
    let kept = store.read(NAME, LIMIT).ok().flatten().unwrap_or_default();
    serde_json::from_slice(&kept).unwrap_or_default()
}

/// Keeps all of it in place of what was kept.
///
/// # Errors
/// When the disk fails.
pub(crate) fn keep(store: &dyn SmallStore, all: &[WatchedDomain]) -> Result<(), KeepFault> {
    let json = serde_json::to_string_pretty(all).unwrap_or_default() + "\n";
    store.replace(NAME, json.as_bytes()).map(|_kept| ())
}
