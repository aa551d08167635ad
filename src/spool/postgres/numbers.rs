//! Numbers as the columns of the database hold them.

use crate::envelope::QueueId;

/// Queue ids have 63 bits, so that a bigint holds them.
pub(super) const fn number(id: QueueId) -> i64 {
    id.0.cast_signed()
}

/// A count as the database keeps it.
pub(super) fn bigint(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// A count as it was kept.
pub(super) fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or(0)
}
