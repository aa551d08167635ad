//! How much mail has come in and gone out since the start, for whoever draws a line through it.

use super::Observer;

/// Recipients since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Traffic {
    /// Of messages acknowledged with 250.
    pub(crate) accepted: u64,
    /// Taken over by a next hop.
    pub(crate) delivered: u64,
}

impl Observer {
    /// Until now.
    pub(crate) fn traffic(&self) -> Traffic {
        Traffic { accepted: self.recipients_accepted.get(), delivered: self.recipients.delivered_in_all() }
    }
}
