//! `[watch]`: the posture of the domains that mail goes to, looked at without sending any.

use super::duration;
use serde::Deserialize;
use std::time::Duration;

/// `[watch]`: how many domains, at which pace.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WatchConfig {
    /// How many domains, those with most mail first; 0 watches none.
    pub domains: usize,
    /// In what time all of them are looked at once.
    #[serde(deserialize_with = "duration")]
    pub every: Duration,
}

impl Default for WatchConfig {
    fn default() -> Self {
        Self { domains: 0, every: Duration::from_secs(86_400) }
    }
}
