//! `[mta_sts]`: the policies that recipient domains publish over HTTPS (RFC 8461).

use super::duration;
use serde::Deserialize;
use std::time::Duration;

/// `[mta_sts]`: whether and how policies are fetched.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct MtaSts {
    /// Whether policies are looked for and kept to.
    pub enabled: bool,
    /// The port of policy hosts.
    pub port: u16,
    /// How long fetching a policy may take, from the first connection to the last octet
    /// (RFC 8461 §3.3 advises a minute).
    #[serde(deserialize_with = "duration")]
    pub fetch_timeout: Duration,
}

impl Default for MtaSts {
    fn default() -> Self {
        Self { enabled: true, port: 443, fetch_timeout: Duration::from_secs(60) }
    }
}
