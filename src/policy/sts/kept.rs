//! All policies that are kept beside a spool, for its operator; nothing is written and nobody is asked.

use super::StsPolicy;
use super::lost::Lost;
use super::memory::Held;
use super::room::LIMITS;
use super::store::{COLLECTION, Store, StoreFault};
use crate::config::SpoolConfig;
use crate::state_dir;
use std::sync::Arc;

/// What is kept for a domain.
#[derive(Clone, Debug)]
pub(crate) enum KeptState {
    /// A policy, expired or not.
    Policy(Arc<StsPolicy>),
    /// One that cannot be looked into.
    Lost(Arc<Lost>),
}

/// Everything that is kept, in no order.
///
/// # Errors
/// When the folder cannot be read.
pub(crate) fn all(spool: &SpoolConfig) -> Result<Vec<KeptState>, StoreFault> {
    let store = Store::new(state_dir::open_collection(spool, COLLECTION), LIMITS);
    let state = |held: Held| match held {
        Held::Policy(policy) => Some(KeptState::Policy(policy)),
        Held::Lost(lost) => Some(KeptState::Lost(lost)),
        // Gone since its name was read.
        Held::Nothing => None,
    };
    Ok(store.domains()?.iter().filter_map(|domain| state(store.get(domain).held)).collect())
}
