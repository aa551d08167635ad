//! Recipients that have their end and of whom the sender is still to be told, and how often a
//! sender was told of one message.
//!
//! A report names many recipients, so that an end may be known long before the report is written.
//! Until then the recipient is *owed*: nothing more is tried for it, its message stays in the spool with
//! its content, and the audit counts it as waiting. Guarantee (RFC 5321 §6.1): the report and the
//! recipient's passage from owed to done are one transaction, so that no crash loses the report or makes
//! a second one.

use crate::clock::Timestamp;
use crate::outcome::{Cause, DeliveryOutcome};
use serde::{Deserialize, Serialize};

/// A recipient that has its end, and a report about it that is still to be written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owed {
    /// How it ended.
    pub outcome: DeliveryOutcome,
    /// Attempts made for this recipient.
    #[serde(default)]
    pub tries: u32,
    /// When the last of them ended, where one brought the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tried_at: Option<Timestamp>,
    /// When the report goes out; sooner when the last recipient of the message has its end before.
    pub due: Timestamp,
}

impl Owed {
    /// Why it failed; `None` when it was delivered.
    #[must_use]
    pub const fn cause(&self) -> Option<&Cause> {
        match &self.outcome {
            DeliveryOutcome::Failed { cause } => Some(cause),
            DeliveryOutcome::Delivered { .. } => None,
        }
    }
}

/// Reports of one kind about one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rounds {
    /// How many were made.
    pub made: u32,
    /// When the last one was.
    pub last: Timestamp,
}

impl Default for Rounds {
    fn default() -> Self {
        Self::NONE
    }
}

impl Rounds {
    /// None yet.
    pub const NONE: Self = Self { made: 0, last: Timestamp(0) };

    /// Counts one more report.
    #[must_use]
    pub const fn and_one(self, now: Timestamp) -> Self {
        Self { made: self.made.saturating_add(1), last: now }
    }
}

/// How often the sender was told of one message, by what was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Reported {
    /// That recipients failed.
    pub failed: Rounds,
    /// That recipients wait: the ordinary warning.
    pub delayed: Rounds,
    /// That recipients wait because DNS, TLS or a policy stops the mail.
    pub held_back: Rounds,
    /// That a host took the message.
    pub relayed: Rounds,
}

impl Reported {
    /// Nothing yet.
    pub const NOTHING: Self =
        Self { failed: Rounds::NONE, delayed: Rounds::NONE, held_back: Rounds::NONE, relayed: Rounds::NONE };
}
