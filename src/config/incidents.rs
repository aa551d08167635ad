//! `[incidents]`: when mail to many domains that fails alike is one fault and not many.

use serde::Deserialize;
use std::ops::RangeInclusive;

/// How many domains may be asked for. Two that break at once are chance; more than a relay of an
/// organisation sends mail to within minutes never come together.
const DOMAINS: RangeInclusive<usize> = 3..=1000;

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

impl IncidentsConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        if DOMAINS.contains(&self.domains) {
            return Ok(());
        }
        Err(format!("[incidents] domains must be from {} to {}", DOMAINS.start(), DOMAINS.end()))
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn the_threshold_of_incidents_has_limits() {
        let read = |domains: u32| Config::parse(&format!("[incidents]\ndomains = {domains}"), Path::new("t"));
        assert_eq!([2, 1001].map(|domains| read(domains).is_err()), [true, true]);
        assert_eq!([3, 1000].map(|domains| read(domains).is_ok()), [true, true]);
        let error = read(2).unwrap_err().to_string();
        assert!(error.contains("[incidents] domains must be from 3 to 1000"), "{error}");
    }
}
