//! A policy that is in force and whose text is not at hand: damaged, unreadable, let go of for
//! want of room, or never kept (RFC 8461 §5.1: it holds until it expires, whatever happens to us).
//!
//! The third answer beside "this policy" and "none": mail waits until the policy is fetched again
//! or its time is over.

use super::policy::MAX_AGE_LIMIT;
use crate::clock::Timestamp;
use crate::outcome::{Cause, LostPolicy};
use crate::smtp::address::Domain;
use std::fmt;

/// The policy of a domain that we cannot look into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// The domain of the policy.
    pub domain: Domain,
    /// Until when it may hold; open where that cannot be told either.
    pub until: Option<Timestamp>,
    /// Why we cannot look into it.
    pub because: LostBecause,
}

/// Why a policy cannot be looked into.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LostBecause {
    /// Its file is damaged.
    Damaged {
        /// The file.
        path: String,
        /// What is wrong.
        detail: String,
    },
    /// The disk does not give it, or does not say whether there is one.
    Unreadable {
        /// The file.
        path: String,
        /// What the system said.
        detail: String,
    },
    /// There was no room for its text among those of other newcomers.
    LetGo,
    /// It was fetched within the last minutes and found no place, neither on disk nor in memory.
    NotKept,
}

impl fmt::Display for LostBecause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Damaged { path, detail } => write!(f, "the file {path} is damaged: {detail}"),
            Self::Unreadable { path, detail } => write!(f, "the file {path} cannot be read: {detail}"),
            Self::LetGo => f.write_str("its text was let go of to make room; only its end is kept"),
            Self::NotKept => f.write_str("it was fetched and could not be kept"),
        }
    }
}

impl Lost {
    /// Whether nothing can be left of it. A clock that was set back does not make it younger.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| until <= now)
    }

    /// The longest that a policy can hold of which only the time of its file is known
    /// (RFC 8461 §3.2).
    pub(super) fn bound(written: Timestamp) -> Timestamp {
        written.plus(MAX_AGE_LIMIT)
    }

    /// What stops mail while it is not fetched again.
    #[must_use]
    pub fn cause(&self, fetch: Option<String>) -> Cause {
        let lost = LostPolicy { detail: self.because.to_string(), until: self.until, fetch };
        Cause::StsPolicyLost { domain: self.domain.clone(), lost }
    }
}
