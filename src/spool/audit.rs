//! The sum of what was accepted, and what may be missing in it: the nouns of an audit
//! (RFC 5321 §6.1: nothing is lost in silence).
//!
//! accepted recipients = delivered + failed and told of + failed and silent by a rule + removed by
//! the operator + waiting, for an attempt or for the report about their failure.

use crate::envelope::QueueId;
use serde::Serialize;

/// How much is looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Every row of the ledger, and whether the files are long enough.
    Rows,
    /// All octets of the segments and of what waits, too.
    Everything,
}

/// The sum, in recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Sum {
    /// Messages looked at.
    pub messages: u64,
    /// Of all messages.
    pub accepted: u64,
    /// Taken over by a next hop.
    pub delivered: u64,
    /// Failed, and there is a report that says so.
    pub told: u64,
    /// Failed, and a rule says that nobody is told.
    pub suppressed: u64,
    /// Taken out by the operator.
    pub removed: u64,
    /// Waiting for an attempt, or failed and waiting for the report about it.
    pub queued: u64,
    /// None of these. It must be zero.
    pub unaccounted: u64,
}

/// What is wrong with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AuditFault {
    /// Its record is in a segment, or its recipients are in the ledger, and its row is not.
    RowMissing,
    /// A row of a recipient is missing or cannot be read.
    RecipientMissing,
    /// Its row cannot be read.
    RowUnreadable,
    /// It counts as finished, and a recipient waits.
    FinishedAndWaiting,
    /// A recipient failed, and the report that tells of it is not there.
    ReportMissing,
    /// A recipient failed, and nobody was told.
    NobodyTold,
    /// A recipient failed, nobody was told, and the rule that says so does not hold.
    NoSuchRule,
    /// It waits, and its content is gone.
    ContentMissing,
    /// It waits, and its content does not fit its checksum.
    ContentDamaged,
}

impl AuditFault {
    /// The fault in words for the operator.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::RowMissing => "was accepted, and its row in the state database is missing",
            Self::RecipientMissing => "a recipient is missing in the state database, or cannot be read",
            Self::RowUnreadable => "its row in the state database cannot be read",
            Self::FinishedAndWaiting => "it counts as finished, and a recipient has no end",
            Self::ReportMissing => "a recipient failed, and the report about it is missing",
            Self::NobodyTold => "a recipient failed, and nobody was told",
            Self::NoSuchRule => "a recipient failed, and nobody was told by a rule that does not hold here",
            Self::ContentMissing => "it waits, and its content is gone",
            Self::ContentDamaged => "it waits, and its content is damaged",
        }
    }

    /// What the operator can do.
    #[must_use]
    pub const fn advice(self) -> &'static str {
        match self {
            Self::RowUnreadable => {
                "a message that waits is tried on, from its copy in the segments, and may come twice. `relay why` \
                 cannot tell of it: the log does, by its id."
            }
            Self::RowMissing | Self::FinishedAndWaiting => {
                "the relay does not try it again by itself. Tell the sender to send it again (`relay why ID`, and the \
                 log, which has sender and recipients at \"accepted\"). Where there are many: stop the relay, move \
                 state.sqlite with its -wal and -shm out of the spool, and start it. Then the state is rebuilt \
                 from the segments: what waited is tried again, and what was sent since the oldest of them may be \
                 sent a second time. After that, large messages that had been delivered before are named like \
                 this until their segment goes."
            }
            Self::RecipientMissing => {
                "while the message waits, the next attempt includes the recipient and records what became of it: \
                 `relay queue retry --id ID`. When it has finished, look at `relay why ID`, and tell the sender of \
                 a recipient who was not delivered to."
            }
            Self::ReportMissing | Self::NobodyTold | Self::NoSuchRule => {
                "the relay makes no second report. `relay why ID` shows sender, recipients and the reason: tell the \
                 sender."
            }
            Self::ContentMissing | Self::ContentDamaged => {
                "the message cannot be sent. At the next attempt it goes back to its sender with a report: `relay \
                 queue retry --id ID`. Check the disk."
            }
        }
    }
}

/// A message whose recipients are not all accounted for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct AuditFinding {
    /// The message.
    pub id: QueueId,
    /// What is wrong.
    pub fault: AuditFault,
    /// How many recipients that concerns.
    pub recipients: u64,
    /// Which, as far as they are known.
    pub addresses: Vec<String>,
}

/// What an audit found.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Audit {
    /// The sum.
    pub sum: Sum,
    /// The worst of it, by message; at most a thousand.
    pub findings: Vec<AuditFinding>,
}
