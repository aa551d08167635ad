//! Whose fault it is that mail servers cannot be reached or do not protect the connection (pure).

use super::Finding;
use crate::check::evidence::Evidence;

/// The reason behind what the connections met.
pub(super) fn find(_evidence: &Evidence) -> Option<Finding> {
    None
}
