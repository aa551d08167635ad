//! The read side of the spool: what an operator may ask of it, beside a relay that runs or
//! without one.
//!
//! The nouns belong to no engine, and every question is asynchronous: the answer may come from
//! another machine. Answers are bounded by their caller: what waits comes message by message
//! ([`Listing`]), an audit piece by piece ([`AuditRun`]), and nobody else is held up by either.

use super::audit::{Audit, Depth};
use super::event::{Event, Silence};
use super::incident::Incident;
use super::tls_session::{DueTlsReport, DueTlsReports, ReportDay, TlsCount, TlsReportId, TlsReportRow};
use super::{EngineError, Hold, RecipientState, Reported};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, QueueId};
use crate::outcome::{Peer, TlsVerdict};
use crate::smtp::address::{Domain, Host};
use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use std::ops::ControlFlow;
use std::sync::Arc;

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

/// What the spool knows, open for reading.
#[async_trait]
pub trait Ledger: Send + Sync {
    /// One message.
    ///
    /// # Errors
    /// When the ledger cannot be read, or [`LedgerError::Row`] when this message cannot.
    async fn message(&self, id: QueueId) -> Result<Option<LedgerMessage>, LedgerError>;

    /// What happened to a message, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, LedgerError>;

    /// The whole content of a message, whose checksum fits; `None` when nothing is known of it, or its content
    /// is gone with the last of its recipients. It is in memory at once: a message has a largest size.
    ///
    /// # Errors
    /// When the spool cannot be read, or what is found is damaged.
    async fn content(&self, id: QueueId) -> Result<Option<Bytes>, LedgerError>;

    /// Messages with this Message-ID, sender or recipient, and copies of the message with this queue id, the newest
    /// first; at most `most`.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn find(&self, name: &str, most: usize) -> Result<Matches, LedgerError>;

    /// Everything that waits, oldest first, as it is when this is asked.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn waiting(&self) -> Result<Box<dyn Listing>, LedgerError>;

    /// The same in brief and in no order, for whoever counts all of it.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn waiting_in_brief(&self) -> Result<Box<dyn BriefListing>, LedgerError>;

    /// All messages, finished ones and reports among them, in the order of their ids, behind `after`; at most `most`. In
    /// place of one that cannot be read stands its id.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn page(
        &self,
        after: Option<QueueId>,
        most: usize,
    ) -> Result<Vec<Result<LedgerMessage, QueueId>>, LedgerError>;

    /// What waits, from a place in that list on, as it is when this is asked: the first message comes at once, however
    /// many there are.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn waiting_from(&self, from: WaitingFrom) -> Result<Box<dyn Listing>, LedgerError>;

    /// What clients handed in from the one moment to the other, both included, oldest first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn accepted(&self, from: Timestamp, to: Timestamp) -> Result<Box<dyn Listing>, LedgerError>;

    /// Whatever was accepted after this is known here; of what is older, some was removed with the
    /// history. `None` while nothing was.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn complete_since(&self) -> Result<Option<Timestamp>, LedgerError>;

    /// The incidents that are kept, the newest first; at most `most`.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn incidents(&self, most: usize) -> Result<Vec<Incident>, LedgerError>;

    /// The domains that TLS was spoken with from one day to another, both included, with their reports: the newest
    /// day first; at most `most`.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn tls_reports(&self, from: ReportDay, to: ReportDay, most: usize) -> Result<Vec<TlsReportRow>, LedgerError>;

    /// What was counted for the report to a domain about a day.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn tls_counts(&self, report: &TlsReportId) -> Result<Vec<TlsCount>, LedgerError>;

    /// Reports that are to be made or tried again, those never tried among them, the oldest day first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn tls_reports_due(&self, due: &DueTlsReports) -> Result<Vec<DueTlsReport>, LedgerError>;

    /// Deliveries to recipients of a domain, the newest messages first.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn delivered(&self, wanted: &DeliveriesWanted) -> Result<Vec<PastDelivery>, LedgerError>;

    /// The domains that mail was accepted for, those with most recipients first; at most `most`. Goes
    /// through all recipients that the ledger has.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn destinations(&self, most: usize) -> Result<Vec<Domain>, LedgerError>;

    /// Begins an audit: whether every accepted recipient is accounted for.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn audit(&self, depth: Depth) -> Result<Box<dyn AuditRun>, LedgerError>;
}

/// Messages that are handed out one by one.
#[async_trait]
pub trait Listing: Send {
    /// The next one; `None` after the last.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn next(&mut self) -> Result<Option<Listed>, LedgerError>;
}

/// A message that waits, in brief: for whoever counts all of them.
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

/// Messages that are handed out many at once.
#[async_trait]
pub trait BriefListing: Send {
    /// The next ones, oldest first; `None` after the last.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn next(&mut self) -> Result<Option<BriefPart>, LedgerError>;
}

/// Where a list of what waits begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WaitingFrom {
    /// Which message comes first.
    pub order: WaitingOrder,
    /// The message before the first; none at the begin of the list.
    pub after: Option<WaitingPlace>,
}

/// In which order what waits is listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitingOrder {
    /// The oldest first.
    Oldest,
    /// The newest first.
    Newest,
}

/// The place of a message in the list of what waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WaitingPlace {
    /// When it was accepted.
    pub accepted_at: Timestamp,
    /// Its name.
    pub id: QueueId,
}

/// A line of a [`Listing`].
#[derive(Debug)]
pub enum Listed {
    /// A message.
    Message(Box<LedgerMessage>),
    /// One that cannot be read; it hides no other.
    Unreadable,
}

/// An audit under way.
#[async_trait]
pub trait AuditRun: Send {
    /// Does a bounded piece of work.
    ///
    /// # Errors
    /// When the ledger cannot be read.
    async fn step(&mut self) -> Result<ControlFlow<Audit>, LedgerError>;
}

/// A message as the ledger has it.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerMessage {
    /// Its name in the queue.
    pub id: QueueId,
    /// The Message-ID of its header, without brackets.
    pub message_id: Option<String>,
    /// Sender, recipients, where it came from.
    pub envelope: Envelope,
    /// Octets of content.
    pub size: u64,
    /// Whether a recipient waits, and whether the operator holds it.
    pub standing: MessageState,
    /// When it is due.
    pub due_at: Timestamp,
    /// When the last recipient had its end.
    pub finished_at: Option<Timestamp>,
    /// Attempts made.
    pub attempts: u32,
    /// By the index in the envelope; one that is missing in the database is `None`.
    pub recipients: Vec<Option<LedgerRecipient>>,
    /// How often its sender was told of it: for the relay alone.
    #[serde(skip)]
    pub reported: Reported,
}

/// How a message stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum MessageState {
    /// Somebody waits.
    Queued,
    /// Somebody waits, and the operator holds it.
    Held,
    /// Nobody waits.
    Finished,
}

/// A recipient as the ledger has it.
#[derive(Clone, Debug, Serialize)]
pub struct LedgerRecipient {
    /// The address.
    pub address: String,
    /// Whether the recipient waits or has ended, and how.
    #[serde(flatten)]
    pub state: RecipientState,
    /// Who was told, when it failed.
    pub told: Option<ToldBy>,
}

/// Which deliveries are asked for.
#[derive(Clone, Debug)]
pub struct DeliveriesWanted {
    /// To recipients of this domain.
    pub domain: Domain,
    /// At most so many.
    pub most: usize,
    /// Among how many recipients of the newest messages that clients handed in; none: among all there are, which takes
    /// its time.
    pub among: Option<u32>,
}

/// A recipient whose message was taken by a mail server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct PastDelivery {
    /// The message.
    pub id: QueueId,
    /// The recipient.
    pub recipient: String,
    /// When the message came in.
    pub accepted_at: Timestamp,
    /// Who took it.
    pub peer: Peer,
    /// How the connection was protected.
    pub tls: TlsVerdict,
}

/// Who was told of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ToldBy {
    /// This report tells.
    Report(QueueId),
    /// Nobody, by a rule.
    Nobody(Silence),
}

/// Messages found, the newest first.
#[derive(Debug)]
pub struct Matches {
    /// At most as many as were asked for.
    pub messages: Vec<LedgerMessage>,
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

impl LedgerMessage {
    /// What counts of it.
    #[must_use]
    pub fn in_brief(&self) -> WaitingBrief {
        let hold = if self.standing == MessageState::Held { Hold::Held } else { Hold::Scheduled };
        let known = self.recipients.iter().zip(&self.envelope.recipients);
        let open = known.filter_map(|(known, mailbox)| {
            let state = &known.as_ref()?.state;
            let recipient =
                || BriefRecipient { host: Arc::new(mailbox.host().clone()), state: Arc::new(state.clone()) };
            state.is_open().then(recipient)
        });
        WaitingBrief { accepted_at: self.envelope.accepted_at, hold, recipients: open.collect() }
    }

    /// Whether it has this Message-ID, sender or recipient, or is a copy of the message with this queue id.
    pub(in crate::spool) fn is_named(&self, name: &str) -> bool {
        let is = |text: &str| text.eq_ignore_ascii_case(name);
        self.message_id.as_deref().is_some_and(is)
            || self.envelope.recipients.iter().any(|recipient| is(recipient.as_str()))
            || self.envelope.copy_of().is_some_and(|original| is(&original.to_string()))
            || is(&self.envelope.reverse_path.to_string())
            || is(self.envelope.reverse_path.to_string().trim_matches(['<', '>']))
    }

    /// The recipients that wait, with their addresses.
    pub fn waiting(&self) -> impl Iterator<Item = &LedgerRecipient> {
        self.recipients.iter().flatten().filter(|recipient| recipient.state.pending().is_some())
    }

    /// The recipients that wait for an attempt or for the report about their end.
    pub fn open(&self) -> impl Iterator<Item = &LedgerRecipient> {
        self.recipients.iter().flatten().filter(|recipient| recipient.state.is_open())
    }
}
