//! Whom the operator suspends: the words of `relay suspend`.

pub use crate::accept::suspended::{SuspendedKind, Suspension};
