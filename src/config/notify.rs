//! `[notify]`: when senders are told about their mail, and in which words (RFC 3461 §4, §5.2.5).

use super::duration;
use serde::Deserialize;
use std::path::PathBuf;
use std::time::Duration;

/// `[notify]`: delays, size and texts of reports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// How old a message must be for the ordinary warning that it waits.
    #[serde(deserialize_with = "duration")]
    pub delay_after: Duration,
    /// How old a message must be for the notice that DNS, TLS or a policy stops it.
    #[serde(deserialize_with = "duration")]
    pub policy_failure_after: Duration,
    /// A message with RET=FULL comes back whole when it is smaller, in octets; others as header.
    pub return_full_below: u64,
    /// A folder with `reports.toml`: texts that replace the built-in English ones.
    pub templates: Option<PathBuf>,
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            delay_after: Duration::from_secs(4 * 3600),
            policy_failure_after: Duration::from_secs(3600),
            return_full_below: 102_400,
            templates: None,
        }
    }
}
