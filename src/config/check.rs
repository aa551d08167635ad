//! `[check]`: whom `relay check` may ask besides those that deliver mail, to compare.

use super::{Upstream, duration};
use crate::smtp::address::Domain;
use serde::Deserialize;
use std::time::Duration;

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
