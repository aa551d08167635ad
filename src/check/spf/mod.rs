//! Whether the SPF record of a domain lets an address send its mail (RFC 7208), as far as that can
//! be said beforehand.
//!
//! For the operator's own domains, before the first message: what a record decides by the name of the
//! sender or of the client (`exists`, `ptr`, macros) is said to be unknown, not guessed.

mod driver;
mod record;

pub(super) use driver::evaluate;
pub use record::suggestion;

use serde::Serialize;

/// What a record says of an address (RFC 7208 §2.6).
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum SpfResult {
    /// It may send.
    Pass,
    /// It is not among those that may: `-all`.
    Fail,
    /// Probably not among those that may: `~all`.
    SoftFail,
    /// Nothing is said of it.
    Neutral,
    /// There is no record.
    NoRecord,
    /// The record is faulty: receivers may refuse all mail (RFC 7208 §2.6.7).
    Invalid(String),
    /// The DNS gives no answer.
    Unavailable(String),
    /// It depends on more than the address.
    Depends(String),
}

/// What was found of a domain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SpfSeen {
    /// The record, where there is one.
    pub record: Option<String>,
    /// What it says.
    pub result: SpfResult,
}
