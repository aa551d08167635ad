//! Whom the operator suspends: the words of `relay suspend`.

pub use crate::accept::suspended::{Resumption, SuspendedKind, Suspension, SuspensionChange, SuspensionRecord};
