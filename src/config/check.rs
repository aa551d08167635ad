//! `[check]`: whom `relay check` may ask besides those that deliver mail, to compare.

use super::Upstream;
use crate::smtp::address::Domain;
use serde::Deserialize;

/// `[check]`: nobody is asked unless named here or on the command line.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CheckConfig {
    /// The zone with names of known numbers of records (`relay canary zonefile`).
    pub canary: Option<Domain>,
    /// Resolvers to compare with, best encrypted ones.
    pub references: Vec<Upstream>,
    /// Mail hosts of others, to tell whether port 25 is open and TLS is untouched.
    pub controls: Vec<Domain>,
}
