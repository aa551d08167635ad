//! The lab's hosts that publish MTA-STS policies.

pub(crate) mod host;
#[cfg(test)]
pub(in crate::lab) mod host_tests;
pub(in crate::lab) mod policies;
pub mod spec;
