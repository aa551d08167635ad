//! What MTA-STS tells about itself: facts for log and metrics, which `observe.rs` names
//! (RFC 8461 §3.3 wants failed refreshes noticed).

use super::failure::FetchFailure;
use super::{StsPolicy, memory::Held, store::StoreFault};
use crate::smtp::address::Domain;
use std::sync::Arc;

/// Something happened.
#[derive(Debug)]
pub enum StsEvent<'a> {
    /// A policy was fetched.
    Fetched {
        /// The policy.
        policy: &'a StsPolicy,
    },
    /// A policy could not be fetched.
    FetchFailed {
        /// The domain of the policy.
        domain: &'a Domain,
        /// How fetching it failed.
        failure: &'a FetchFailure,
        /// What stays in force. Worth a warning unless its mode is none.
        kept: &'a Held,
    },
    /// A policy could not be kept or read. The fault says what follows.
    StoreFailed {
        /// The file, and what is wrong with it.
        fault: &'a StoreFault,
    },
}

/// Where the facts go.
pub(crate) type StsListener = Arc<dyn Fn(&StsEvent<'_>) + Send + Sync>;

/// For tools that only want answers.
#[must_use]
pub(crate) fn nobody() -> StsListener {
    Arc::new(|_event| {})
}
