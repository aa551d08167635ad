//! The spool and its embedded engine, on real directories.
//!
//! | module | holds |
//! |---|---|
//! | `embedded` | the directory of the embedded engine: damage, rebuilding, segments, a full disk |
//! | `audit` | the audit finds what somebody took away, and names it |
//! | `steps` | a crash at every step that changes the disk |
//! | `kill` | `kill -9` of a process that takes and settles mail |
//! | `relay_kill` | `kill -9` and SIGTERM of the whole relay |
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "what fails in a test is its result; the tests look into spool directories and damage them"
)]

mod audit;
mod embedded;
mod kill;
#[cfg(feature = "lab")]
mod relay_kill;
mod steps;
