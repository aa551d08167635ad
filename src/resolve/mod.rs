//! From a next-hop domain to MX hosts, their addresses and their TLSA records, each with what
//! DNSSEC says about it (RFC 5321 §5.1, RFC 7672 §2).
//!
//! This page holds the nouns and the pure rules; `driver.rs` asks the questions.
//! "Could not find out" is never "there is none": see [`TlsaLookup`].

use crate::outcome::Cause;
use crate::smtp::address::Domain;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};

/// What DNSSEC says about an answer (RFC 4035 §4.3; RFC 7672 §2.1.1 for the fourth).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Signed, and the chain of trust from the anchor is whole.
    Secure,
    /// Provably not signed.
    Insecure,
    /// Should be signed and is not, or is signed wrongly.
    Bogus,
    /// We could not find out.
    Indeterminate,
}

impl Security {
    /// The word for output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Bogus => "bogus",
            Self::Indeterminate => "indeterminate",
        }
    }
}

/// A TLSA record (RFC 6698 §2.1), whatever its numbers mean to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TlsaRecord {
    /// Certificate usage: 2 DANE-TA, 3 DANE-EE; 0 and 1 do not apply to SMTP.
    pub usage: u8,
    /// Selector: 0 the certificate, 1 its SubjectPublicKeyInfo.
    pub selector: u8,
    /// Matching type: 0 full, 1 SHA-256, 2 SHA-512.
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// `3 1 1 0123…`, as zone files write it.
impl fmt::Display for TlsaRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.data.iter().fold(String::new(), |mut hex, byte| {
            let _infallible = write!(hex, "{byte:02x}");
            hex
        });
        write!(f, "{} {} {} {hex}", self.usage, self.selector, self.matching)
    }
}

/// What we know about the TLSA records of an MX host: the downgrade hinge.
/// Matches on it name every variant, so that "unavailable" is never taken for "absent".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsaLookup {
    /// DANE does not apply to this host.
    Absent(AbsentBecause),
    /// We could not find out; the host must not be used (RFC 7672 §2.1.2).
    Unavailable(Cause),
    /// A secure, non-empty RRset, usable or not.
    Present {
        /// The TLSA base domain: SNI and first reference identifier (RFC 7672 §2.2.3).
        base_domain: Domain,
        /// The records in the order of the answer.
        records: Vec<TlsaRecord>,
    },
}

/// Why DANE does not apply to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsentBecause {
    /// The addresses are not signed, so TLSA is not asked for (RFC 7672 §2.2.2).
    AddressesInsecure,
    /// A signed answer proves that there are no TLSA records.
    ProvenAbsent,
    /// The TLSA answer is provably not signed.
    TlsaInsecure,
    /// The MX records are not signed (RFC 7672 §2.2.1).
    MxInsecure,
    /// The next hop is an address, not a name.
    AddressLiteral,
}

impl AbsentBecause {
    /// The phrase that fits after "no DANE: ".
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::AddressesInsecure => "the host's addresses are not signed",
            Self::ProvenAbsent => "the signed zone has no TLSA records for the host",
            Self::TlsaInsecure => "the TLSA records are not signed",
            Self::MxInsecure => "the domain's MX records are not signed",
            Self::AddressLiteral => "the next hop is an address, not a name",
        }
    }
}
