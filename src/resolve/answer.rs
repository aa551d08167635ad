//! What one look-up in the DNS came to, in our words, whoever carried and validated it.

use super::Security;
use crate::outcome::{Cause, PathFailure, Question};
use crate::resolve::TlsaRecord;
use crate::smtp::address::Domain;
use async_trait::async_trait;
use serde::Serialize;
use std::net::IpAddr;

/// The most octets of one TXT record that are kept; what is longer is cut to this length. The
/// records that mail asks for have some hundred octets; whoever parses one takes a text of this
/// length for damaged.
pub const TXT_LIMIT: usize = 4096;

/// The types we ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RecordType {
    /// IPv4 address.
    A,
    /// IPv6 address.
    Aaaa,
    /// Mail exchange.
    Mx,
    /// TLSA certificate association.
    Tlsa,
    /// Text.
    Txt,
}

impl RecordType {
    /// The name of the type.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::A => "A",
            Self::Aaaa => "AAAA",
            Self::Mx => "MX",
            Self::Tlsa => "TLSA",
            Self::Txt => "TXT",
        }
    }
}

/// The data of a record we asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Data {
    /// A or AAAA.
    Address(IpAddr),
    /// MX: preference and exchange; `None` is the root, as in `0 .` (RFC 7505), and names that
    /// no host can have are left out before they come here.
    Mx(u16, Option<Domain>),
    /// TLSA.
    Tlsa(TlsaRecord),
    /// TXT: the character-strings of one record joined without a space between them
    /// (RFC 8461 §3.1), at most [`TXT_LIMIT`] octets.
    Txt(Vec<u8>),
}

/// A positive answer, followed along its CNAMEs.
#[derive(Clone, Debug)]
pub struct PositiveAnswer {
    /// The weakest link of the chain from the question to the data (RFC 7672 §2.1.3).
    pub security: Security,
    /// The name at the end of the CNAMEs, when there are any.
    pub expanded: Option<Domain>,
    /// What DNSSEC says about the first CNAME, when there is one (RFC 7672 §2.2.2).
    pub first_alias: Option<Security>,
    /// The data, in the order of the answer.
    pub data: Vec<Data>,
}

/// What a look-up came to.
#[derive(Clone, Debug)]
pub enum Answer {
    /// Records.
    Found(PositiveAnswer),
    /// The name exists and has no such record.
    NoData(Security),
    /// The name does not exist.
    NxDomain(Security),
    /// We could not find out, or what came was bogus.
    Failed(Cause),
}

/// Whether an answer that is kept will do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Freshness {
    /// Any answer whose TTL has not run out.
    Kept,
    /// Only one that is asked for now; it replaces the one that is kept.
    Asked,
}

/// Somebody who knows the DNS: how later stages ask, and the seam for their tests.
#[async_trait]
pub trait Ask: Send + Sync {
    /// One validated look-up.
    async fn ask(&self, name: &str, record_type: RecordType, freshness: Freshness) -> Answer;
}

/// How an answer was come by.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Trace {
    /// What was asked.
    pub question: Question,
    /// The path that answered, in the words of the configuration; none when no path did.
    pub path: Option<String>,
    /// The paths that were asked before it and gave no usable answer.
    pub failed: Vec<PathFailure>,
}

/// The weaker of two: bogus below indeterminate below insecure below secure.
#[must_use]
pub fn weakest(a: Security, b: Security) -> Security {
    let rank = |security| match security {
        Security::Bogus => 0,
        Security::Indeterminate => 1,
        Security::Insecure => 2,
        Security::Secure => 3,
    };
    if rank(a) <= rank(b) { a } else { b }
}
