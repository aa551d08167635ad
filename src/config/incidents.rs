//! `[incidents]`: when mail to many domains that fails alike is one fault and not many.

use serde::Deserialize;

/// `[incidents]`: the threshold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct IncidentsConfig {
    /// How many domains that begin to fail alike within ten minutes are looked at together.
    pub domains: usize,
}

impl Default for IncidentsConfig {
    fn default() -> Self {
        Self { domains: 5 }
    }
}
