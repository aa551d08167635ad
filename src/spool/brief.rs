//! What waits, in brief: for whoever counts all of it and looks at nothing closely. A million messages are gone through
//! in about the time that it takes to read their rows.

use super::{Hold, RecipientState};
use crate::clock::Timestamp;
use crate::smtp::address::Host;
use std::sync::Arc;

/// A message that waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WaitingBrief {
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Whether the operator holds it.
    pub hold: Hold,
    /// Its recipients that wait for an attempt, or for the report about their end.
    pub recipients: Vec<BriefRecipient>,
}

/// One of its recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BriefRecipient {
    /// What stands right of the `@`.
    pub host: Arc<Host>,
    /// How it stands. Of recipients with the same cause only one may be read: when they are due is not told.
    pub state: Arc<RecipientState>,
}

/// Some of the messages.
#[derive(Debug, Default)]
pub struct BriefPart {
    /// Those that can be read.
    pub messages: Vec<WaitingBrief>,
    /// How many others.
    pub unreadable: u64,
}
