//! What the DNS stage tells about itself: facts for log and metrics, which `observe.rs` names.

use super::paths::PathName;
use super::paths::carried::TypeCarried;
use super::paths::standing::PathStanding;
use crate::outcome::{PathFailure, Question};
use std::sync::Arc;

/// Something happened.
#[derive(Debug)]
pub enum DnsEvent<'a> {
    /// One path was asked; the result is `secure`, `insecure`, or the word of a fault.
    Asked {
        /// The path to the DNS.
        path: &'a PathName,
        /// For what: the name of a type, or `other`.
        record_type: &'static str,
        /// The word of the verdict or the fault.
        result: &'static str,
    },
    /// A path is put back, or asked in its turn again.
    PathChanged {
        /// The path to the DNS.
        path: &'a PathName,
        /// Its standing from now on.
        standing: PathStanding,
    },
    /// What a path has carried of one type lately.
    PathCarried {
        /// The path to the DNS.
        path: &'a PathName,
        /// The type, and how its questions fared.
        carried: TypeCarried,
    },
    /// A look-up has an answer, and some paths did not.
    AnsweredDespite {
        /// What was asked.
        question: &'a Question,
        /// Who answered.
        path: &'a PathName,
        /// The paths that had no answer, and why.
        failed: &'a [PathFailure],
    },
    /// No path gave a usable answer.
    Unanswered {
        /// What was asked.
        question: &'a Question,
        /// Who was asked.
        failed: &'a [PathFailure],
    },
    /// A validated answer to a question for TLSA records; 0 when they are proven absent or the
    /// zone is not signed.
    TlsaRecords {
        /// The number of records, 0 where there are none.
        count: usize,
    },
    /// `/etc/resolv.conf` names other servers than before.
    SystemChanged {
        /// Paths that are new.
        added: &'a [PathName],
        /// Paths that are no more.
        gone: &'a [PathName],
    },
    /// `/etc/resolv.conf` has changed and is of no use: the servers stay as they were.
    SystemKept {
        /// What is wrong with it.
        why: &'a str,
    },
    /// What a path was found to do with DNSSEC at the start.
    Probed {
        /// The path to the DNS.
        path: &'a PathName,
        /// How it was found.
        found: &'a Probed,
    },
}

/// What a path does with DNSSEC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probed {
    /// It passes signatures on.
    PassesDnssec,
    /// It takes them away.
    StripsDnssec,
    /// It gave no answer.
    Silent(String),
}

/// Where the facts go.
pub type Listener = Arc<dyn Fn(&DnsEvent<'_>) + Send + Sync>;

/// For tools that only want answers.
#[must_use]
pub fn nobody() -> Listener {
    Arc::new(|_event| {})
}
