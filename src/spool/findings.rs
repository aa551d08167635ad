//! What relays that share a spool tell each other: what one has found out, the others need not find out again.
//!
//! All of it can be had again at the source: policies, how hosts stand, what was counted. So nothing of it is
//! durable, none of it waits for a disk, and a relay without it works on with what it has.

use crate::clock::Timestamp;
use std::time::Duration;

/// The longest name, in octets; what has a longer one is not told.
pub const FINDING_NAME_LIMIT: usize = 1000;
/// The longest value, in octets; a longer one is not told.
pub const FINDING_VALUE_LIMIT: usize = 128 * 1024;

/// What a finding is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingTopic {
    /// The MTA-STS policy of a domain, whose last fetch counts for all.
    StsPolicy,
    /// How a receiving host stands towards one relay.
    Host,
    /// What somebody has handed in at one relay, held against a limit.
    Limit,
}

impl FindingTopic {
    /// Its name in the store.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::StsPolicy => "mta-sts",
            Self::Host => "hosts",
            Self::Limit => "limits",
        }
    }

    /// By its name; none for what a newer relay tells.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        [Self::StsPolicy, Self::Host, Self::Limit].into_iter().find(|topic| topic.name() == name)
    }

    /// Whether each relay has findings of its own beside those of the others.
    #[must_use]
    pub const fn is_of_each(self) -> bool {
        match self {
            Self::StsPolicy => false,
            Self::Host | Self::Limit => true,
        }
    }
}

/// Something that was found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What it is about.
    pub topic: FindingTopic,
    /// Of which domain or host, or of whom.
    pub name: String,
    /// When it was found out, by the clock of this relay.
    pub at: Timestamp,
    /// For how long anybody needs to know it.
    pub lives: Duration,
    /// As the topic writes it.
    pub value: Vec<u8>,
}

/// Whose finding it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum FindingOwner {
    /// That of all relays.
    All,
    /// Of this relay, from before its last start.
    Own,
    /// Of another one, by its number.
    Other(i16),
}

/// A finding that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HeardFinding {
    /// Whose it is.
    pub owner: FindingOwner,
    /// The finding.
    pub finding: Finding,
}

/// Up to where the findings were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FindingMark {
    /// How often the store was away before: afterwards it may be another one.
    pub(in crate::spool) outage: u64,
    /// What this pass began with; nothing yet for the first one.
    pub(in crate::spool) from: Option<i64>,
    /// Where the next pass begins, once that is known.
    pub(in crate::spool) next: Option<i64>,
    /// The last one read of this pass.
    pub(in crate::spool) after: Option<FindingPlace>,
}

impl FindingMark {
    /// Whether there are more to be read at once.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.after.is_some()
    }
}

/// A finding in the order of reading.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::spool) struct FindingPlace {
    /// By which transaction it was written.
    pub(in crate::spool) written: i64,
    /// Its topic.
    pub(in crate::spool) topic: String,
    /// Its name.
    pub(in crate::spool) name: String,
    /// Its owner.
    pub(in crate::spool) owner: i16,
}

/// Some of the findings that are new.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HeardFindings {
    /// In the order in which they were written.
    pub findings: Vec<HeardFinding>,
    /// From where to go on.
    pub mark: FindingMark,
}
