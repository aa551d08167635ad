//! What a validated look-up comes to.

use super::dnssec::Validated;
use super::paths::PathName;
use crate::outcome::PathFailure;

/// What a look-up came to, and how.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// The answer, secure or insecure; or what every path said. From the cache it comes without
    /// its chain of trust.
    pub result: Result<Validated, LookupFailure>,
    /// The path that answered.
    pub path: Option<PathName>,
    /// The paths that were asked before it and did not.
    pub failed: Vec<PathFailure>,
}

/// No path gave a usable answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LookupFailure {
    /// Every path that was configured says that the answer is bogus.
    Bogus(String),
    /// We could not find out.
    Unavailable,
}
