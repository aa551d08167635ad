//! The read side of the spool: what an operator may ask of it, beside a relay that runs or
//! without one. The nouns belong to no engine.

use super::event::Silence;
use super::{EngineError, RecipientState};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use serde::Serialize;

/// Why the ledger cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// There is no spool.
    #[error(
        "{0}: there is no spool here: give --config FILE, whose [spool] path names the directory; `relay serve` makes \
         it, and rebuilds a state database that is gone"
    )]
    NoSpool(String),
    /// It belongs to somebody else.
    #[error("{0}: the spool can be read by the user of the relay and by root alone (permission denied)")]
    Denied(String),
    /// It is of another version.
    #[error("{0}: the state database was made by another version of the relay")]
    OtherVersion(String),
    /// The row of this message cannot be read.
    #[error("{0}: its row in the state database cannot be read; `relay audit` says more")]
    Row(QueueId),
    /// It cannot be read.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// A message as the ledger has it.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    /// Its name in the queue.
    pub id: QueueId,
    /// The Message-ID of its header, without brackets.
    pub message_id: Option<String>,
    /// Sender, recipients, where it came from.
    pub envelope: Envelope,
    /// Octets of content.
    pub size: u64,
    /// How it stands.
    pub standing: Standing,
    /// When it is due.
    pub due_at: Timestamp,
    /// When the last recipient had its end.
    pub finished_at: Option<Timestamp>,
    /// Attempts made.
    pub attempts: u32,
    /// By the index in the envelope; one that is missing in the database is `None`.
    pub recipients: Vec<Option<Recipient>>,
}

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// Somebody waits.
    Queued,
    /// Somebody waits, and the operator holds it.
    Held,
    /// Nobody waits.
    Finished,
}

/// A recipient as the ledger has it.
#[derive(Clone, Debug, Serialize)]
pub struct Recipient {
    /// The address.
    pub address: String,
    /// How it stands.
    #[serde(flatten)]
    pub state: RecipientState,
    /// Who was told, when it failed.
    pub told: Option<TellingOf>,
}

/// Who was told of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TellingOf {
    /// This report tells.
    Report(QueueId),
    /// Nobody, by a rule.
    Nobody(Silence),
}

/// Messages found, the newest first.
#[derive(Debug)]
pub struct Found {
    /// At most as many as were asked for.
    pub messages: Vec<Message>,
    /// Whether there are more.
    pub more: More,
    /// Messages that may be meant, and whose row cannot be read.
    pub unreadable: Vec<QueueId>,
}

/// Whether there is more than was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum More {
    /// This is all.
    No,
    /// There is.
    Yes,
}

impl Message {
    /// Whether it has this Message-ID, sender or recipient.
    pub(in crate::spool) fn is_named(&self, name: &str) -> bool {
        let is = |text: &str| text.eq_ignore_ascii_case(name);
        self.message_id.as_deref().is_some_and(is)
            || self.envelope.recipients.iter().any(|recipient| is(recipient.as_str()))
            || is(&self.envelope.reverse_path.to_string())
            || is(self.envelope.reverse_path.to_string().trim_matches(['<', '>']))
    }

    /// The recipients that wait, with their addresses.
    pub fn waiting(&self) -> impl Iterator<Item = &Recipient> {
        self.recipients.iter().flatten().filter(|recipient| recipient.state.pending().is_some())
    }
}
