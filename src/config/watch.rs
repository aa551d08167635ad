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

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn values_of_the_watch_that_cannot_be_meant_are_refused_with_their_key() {
        let refused = |lines: &str| match Config::parse(&format!("[watch]\n{lines}\n"), Path::new("t")) {
            Ok(_) => "accepted".to_owned(),
            Err(error) => error.to_string(),
        };
        for (lines, words) in [
            ("domains = 1001", "from 0 to 1000"),
            ("every = \"59m\"", "from 1h to 30d"),
            ("every = \"0s\"", "from 1h to 30d"),
            ("domains = -1", "domains"),
            ("every = \"often\"", "every"),
            ("sometimes = true", "sometimes"),
        ] {
            let error = refused(lines);
            assert!(error.contains(words), "{lines}: {error}");
        }
        assert_eq!(refused("domains = 1000\nevery = \"1h\""), "accepted");
    }
}
