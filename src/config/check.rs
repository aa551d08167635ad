//! `[check]`: whom `relay check` may ask besides those that deliver mail, to compare.

use super::{Upstream, duration};
use crate::smtp::address::Domain;
use serde::Deserialize;
use std::time::Duration;

/// The least and the most between two looks at the canary zone: its servers are to notice nothing, and an
/// alarm is to come before the first user's call.
const CANARY_EVERY: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(3600)];

/// `[check]`: nobody is asked unless named here or on the command line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// The zone with names of known numbers of records (`relay canary zonefile`).
    pub canary: Option<Domain>,
    /// How often a running relay looks at it.
    #[serde(deserialize_with = "duration")]
    pub canary_every: Duration,
    /// Resolvers to compare with, best encrypted ones.
    pub references: Vec<Upstream>,
    /// Mail hosts of others, to tell whether port 25 is open and TLS is untouched.
    pub controls: Vec<Domain>,
}

impl Default for CheckConfig {
    fn default() -> Self {
        let (references, controls) = (Vec::new(), Vec::new());
        Self { canary: None, canary_every: Duration::from_secs(180), references, controls }
    }
}

impl CheckConfig {
    pub(super) fn check(&self) -> Result<(), String> {
        let [least, most] = CANARY_EVERY;
        if self.canary_every < least || self.canary_every > most {
            return Err("[check] canary_every must be from a minute to an hour".into());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::config::Config;
    use std::path::Path;

    #[test]
    fn the_canary_is_looked_at_neither_all_the_time_nor_never() {
        let read = |every: &str| Config::parse(&format!("[check]\ncanary_every = {every:?}"), Path::new("t"));
        assert_eq!(["59s", "61m", "0s"].map(|every| read(every).is_err()), [true; 3]);
        assert_eq!(["60s", "1h"].map(|every| read(every).is_ok()), [true; 2]);
        let error = read("1s").unwrap_err().to_string();
        assert!(error.contains("[check] canary_every must be from a minute to an hour"), "{error}");
    }
}
