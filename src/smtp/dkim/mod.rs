//! Signatures by the sender's domain over header and body of a message (DKIM, RFC 6376), with RSA and
//! SHA-256 (RFC 8301) and with Ed25519 (RFC 8463).
//!
//! Pure: content comes in pieces and is never whole in memory; the header is, within a bound, because
//! fields are signed from the bottom up (RFC 6376 §5.4.2). `canonical.rs` gives both the one form that
//! they are signed in, relaxed (§3.4.2, §3.4.4), and hashes the body; `content.rs` finds the header and
//! whose message it is; `key.rs` holds a private key, `signature.rs` makes the field of a signature,
//! `standing.rs` reads one that is there already and verifies it, and `record.rs` reads and writes the record
//! that the public key is published in (§3.6.1).

mod canonical;
mod content;
mod key;
mod record;
mod signature;
mod standing;

pub(crate) use content::{ReadContent, SigningContent, SigningRead};
pub use key::{DkimKey, DkimKeyError, DkimKeyType};
pub use record::{DkimRecord, DkimRecordFault, zone_file_strings};
pub(crate) use signature::{DkimSigner, SignedFields};
pub(crate) use standing::StandingSignature;

use std::fmt;

/// What stands before the domain in the name of a key record (RFC 6376 §3.6.2.1).
pub const DOMAIN_KEY: &str = "_domainkey";

/// The header of a message as long as is signed, in octets.
const HEADER_LIMIT: usize = 256 * 1024;
/// The most fields of one signature, so that the list of their names stays a field of sane length.
const FIELDS_LIMIT: usize = 500;

/// Why a message cannot be signed, though a key is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unsignable {
    /// The header is longer than anything honest.
    HeaderTooLarge,
    /// There are more fields to sign than one signature can name.
    TooManyFields,
    /// The key makes no signature.
    KeyUnusable,
    /// The content cannot be read from the spool.
    Unreadable,
}

impl fmt::Display for Unsignable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeaderTooLarge => write!(f, "its header is longer than {} KiB", HEADER_LIMIT / 1024),
            Self::TooManyFields => write!(f, "its header has more than {FIELDS_LIMIT} fields to sign"),
            Self::KeyUnusable => f.write_str("the key makes no signature"),
            Self::Unreadable => f.write_str("its content cannot be read from the spool"),
        }
    }
}
