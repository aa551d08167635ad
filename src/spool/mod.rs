//! The spool: every message between our 250 and its outcome.
//!
//! Two traits, [`Spool`] to write and [`ledger::Ledger`] to read, and the engines behind them, which [`open`] and
//! [`open_ledger`] choose.
//! `Ok` of [`Spool::enqueue`] means durable: the listener may say 250. `Ok` of
//! [`Spool::settle`] means that outcomes and the reports they cause are durable together.
//!
//! A claim is a lease with a generation: a settlement under an old generation is refused, so
//! that one recipient is never recorded by two workers. A lease that ends by time
//! ([`Spool::lease`]) is renewed while the work goes on ([`Spool::renew`]); who cannot renew it
//! gives the work up. What becomes of recipients is recorded
//! part by part under one claim ([`Spool::settle_part`]): those who have an end do not wait for
//! the others.
//!
//! An engine may keep its store on another machine, so whatever reads or changes the store waits
//! and can fail. Three things must not wait and are local in every engine: [`Spool::admit`], a
//! hint from what the engine saw last ([`Spool::enqueue`] decides); [`Spool::begin`], for an id
//! is unique by how it is made (time, and a number of the node where several share a store), and
//! nothing is stored yet; [`Spool::stats`], which is asked for when the store is in trouble.

use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::envelope::{Envelope, QueueId};
use crate::outcome::{Cause, DeliveryOutcome};
use async_trait::async_trait;
use bytes::Bytes;
use event::{Event, Silence};
use incident::Incident;
use owed::{Owed, Reported};
use room::{AwayStore, FullDisk};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tls_session::{DueTlsReport, TlsReportId, TlsReportState, TlsSession};

pub mod audit;
mod brief;
pub mod carrying;
pub mod cluster;
pub(crate) mod conclude;
pub mod embedded;
mod engine;
pub mod event;
pub mod findings;
pub mod incident;
pub mod ledger;
mod message_id;
pub mod owed;
mod postgres;
mod record;
pub mod room;
pub(crate) mod schedule;
mod stored;
pub mod tls_session;

use cluster::{ClusterState, NodeShare};
pub use engine::{Opened, database_status, migrate, nodes, open, open_carrying, open_carrying_alone, open_ledger};
use findings::{Finding, FindingMark, HeardFindings};

/// Incidents that are kept; the oldest go.
pub const MOST_INCIDENTS: usize = 1000;

/// Octets of a usual message. Without a floor a full disk has room for a message of none.
pub const USUAL_SIZE: u64 = 64 * 1024;

/// Why the spool could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum SpoolError {
    /// Space or inodes are below the floor: 452 4.3.1.
    #[error("the spool is low on disk space")]
    Full,
    /// The disk failed; what was being stored is not stored.
    #[error("{action}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// The engine's own store failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The store is on another machine, and cannot be reached or does not work: 451 4.3.0. It may come back.
    #[error("the database of the spool cannot be used at the moment: {0}")]
    Unreachable(String),
    /// Content or record does not match its checksum.
    #[error("the stored message is damaged")]
    Damaged,
    /// The claim is not held any more.
    #[error("the claim on this message has passed to another worker")]
    Fenced,
    /// The spool has met a disk failure and takes nothing more until a restart.
    #[error("the spool has stopped after a disk failure")]
    Stopped,
    /// Another process has the directory.
    #[error("{path} is used by another relay process (pid {holder})")]
    InUse {
        /// The directory.
        path: String,
        /// The process, as it named itself.
        holder: String,
    },
    /// The directory cannot be used: not writable, or made by another version.
    #[error("{0}")]
    Unusable(String),
}

/// What an engine's own store said, in its own words. The type of the source is the engine's: no
/// caller can depend on it.
#[derive(Debug, thiserror::Error)]
#[error("{store}: {source}")]
pub struct EngineError {
    /// What failed, by the name an operator knows it.
    pub store: &'static str,
    /// What it said.
    pub source: Box<dyn std::error::Error + Send + Sync>,
}

/// How a recipient stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum RecipientState {
    /// Waiting for its next attempt.
    Queued(Pending),
    /// Delivered, or failed for good, and the report about it is still to be written.
    Owed(Owed),
    /// Delivered, or failed for good; whoever has to be told is told.
    Done {
        /// How it ended.
        outcome: DeliveryOutcome,
    },
    /// Taken out of the queue by the operator; nobody is told.
    Removed,
}

impl RecipientState {
    /// What is known of a recipient that waits.
    #[must_use]
    pub const fn pending(&self) -> Option<&Pending> {
        match self {
            Self::Queued(pending) => Some(pending),
            Self::Owed(_) | Self::Done { .. } | Self::Removed => None,
        }
    }

    /// The end of a recipient of whom the sender is still to be told.
    #[must_use]
    pub const fn owed(&self) -> Option<&Owed> {
        match self {
            Self::Owed(owed) => Some(owed),
            Self::Queued(_) | Self::Done { .. } | Self::Removed => None,
        }
    }

    /// Whether anything is still to be done for this recipient.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        match self {
            Self::Queued(_) | Self::Owed(_) => true,
            Self::Done { .. } | Self::Removed => false,
        }
    }
}

/// A recipient that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pending {
    /// What stopped the last attempt.
    pub last: Option<Cause>,
    /// Attempts made for this recipient.
    pub tries: u32,
    /// Those among them after which the message may have arrived.
    #[serde(skip_serializing_if = "is_zero")]
    pub unclear: u32,
    /// When the next one is due; at once without it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub due: Option<Timestamp>,
    /// What its sender has been told meanwhile.
    #[serde(skip_serializing_if = "Told::is_nothing")]
    pub told: Told,
}

const fn is_zero(count: &u32) -> bool {
    *count == 0
}

impl Pending {
    /// Before the first attempt.
    pub const NEW: Self = Self { last: None, tries: 0, unclear: 0, due: None, told: Told::NOTHING };
}

impl RecipientState {
    /// A recipient before its first attempt.
    pub const NEW: Self = Self::Queued(Pending::NEW);

    /// What the sender has been told while this recipient waits.
    #[must_use]
    pub const fn told(&self) -> Told {
        match self {
            Self::Queued(pending) => pending.told,
            Self::Owed(_) | Self::Done { .. } | Self::Removed => Told::NOTHING,
        }
    }
}

/// When the sender was told that a recipient waits. Each notice is given once, also across
/// restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Told {
    /// The ordinary warning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay: Option<Timestamp>,
    /// The early notice: DNS, TLS or a policy is what stops the mail.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<Timestamp>,
}

impl Told {
    /// Nothing yet.
    pub const NOTHING: Self = Self { delay: None, policy: None };

    /// Whether nothing has been told.
    #[must_use]
    pub const fn is_nothing(&self) -> bool {
        self.delay.is_none() && self.policy.is_none()
    }
}

/// A message in the spool, without its content.
#[derive(Clone, Debug)]
pub struct SpoolEntry {
    /// Its name.
    pub id: QueueId,
    /// Sender, recipients, arrival.
    pub envelope: Arc<Envelope>,
    /// Octets of content as stored (with our Received line, before dot-stuffing).
    pub size: u64,
    /// Attempts made so far.
    pub attempts: u32,
    /// One state per recipient of the envelope, by index.
    pub recipients: Vec<RecipientState>,
    /// How often its sender was told of it.
    pub reported: Reported,
}

impl SpoolEntry {
    /// A message as it is before its first attempt.
    #[must_use]
    pub fn new(id: QueueId, envelope: Envelope, size: u64) -> Self {
        let recipients = vec![RecipientState::NEW; envelope.recipients.len()];
        Self { id, envelope: Arc::new(envelope), size, attempts: 0, recipients, reported: Reported::NOTHING }
    }
}

/// A message handed to one worker until it settles or releases it.
#[derive(Debug)]
pub struct Claim {
    /// The message.
    pub entry: SpoolEntry,
    /// The fencing number; opaque.
    pub generation: u64,
}

/// How long a claim holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lease {
    /// As long as this process: nobody else can have the store meanwhile.
    Process,
    /// For so long after it was claimed or renewed; after that another worker may have it.
    For(Duration),
}

/// A message being received; its content grows until [`Spool::enqueue`].
/// Dropping it removes whatever was written.
pub struct Draft {
    /// The id it will have; the Received line needs it before the content is complete.
    pub id: QueueId,
    /// Where the content goes.
    pub body: Box<dyn BodyWriter>,
}

/// Takes content as it arrives. Small content stays in memory, large content goes to disk.
#[async_trait]
pub trait BodyWriter: Send {
    /// Appends a piece.
    ///
    /// # Errors
    /// [`SpoolError::Io`] when the disk fails, [`SpoolError::Full`] when it is full.
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError>;

    /// Octets written so far.
    fn size(&self) -> u64;

    /// For the engine that made it: the concrete writer.
    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send>;
}

/// Gives content back piece by piece, verified against its checksum.
#[async_trait]
pub trait BodyReader: Send {
    /// The next piece; `None` once all of it was given and the checksum fits.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] when it does not, [`SpoolError::Io`] when the disk fails.
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError>;
}

/// A notification to be stored in the same durable step as the outcome that causes it.
#[derive(Clone, Debug)]
pub struct Report {
    /// From the null reverse-path to whoever is told.
    pub envelope: Envelope,
    /// The whole message; reports are small by construction.
    pub content: Bytes,
}

/// A copy of a message, stored in the same durable step: the content of the message as it came, with
/// something before and after it.
#[derive(Clone, Debug)]
pub struct ContentCopy {
    /// From whom and to whom the copy goes.
    pub envelope: Envelope,
    /// What stands before the content; small.
    pub before: Bytes,
    /// What stands after it; small.
    pub after: Bytes,
}

/// Who is told of a recipient.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Notification {
    /// That it failed: whoever gets this report, by its place in [`Settlement::reports`].
    ByReport(usize),
    /// That it waits, or has arrived: as above, and its end is another matter.
    Notice(usize),
    /// Nobody, by a rule.
    Nobody(Silence),
}

/// What a settlement records, in one durable step.
#[derive(Debug, Default)]
pub struct Settlement {
    /// New states by recipient index; recipients not named keep theirs.
    pub recipients: Vec<(usize, RecipientState)>,
    /// When the attempt ended, for the history; without it, when the message was claimed.
    pub at: Option<Timestamp>,
    /// When the message is looked at again; without it, when the first of the recipients that
    /// wait is due. Ignored when none waits.
    pub next_due: Option<Timestamp>,
    /// Notifications that these outcomes cause.
    pub reports: Vec<Report>,
    /// Who is told of which recipient, for every recipient whose failure is done with here.
    pub told: Vec<(usize, Notification)>,
    /// How often the sender has been told with this; without it, as before.
    pub reported: Option<Reported>,
    /// What happened, for the history.
    pub events: Vec<Event>,
    /// Tries to speak TLS, counted on the day of [`Settlement::at`].
    pub sessions: Vec<TlsSession>,
    /// Whether the message is due again by itself.
    pub hold: Hold,
}

/// Whether a message follows its schedule.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Hold {
    /// It is due when its time comes.
    #[default]
    Scheduled,
    /// It is never due: the operator holds it.
    Held,
}

/// How full the spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SpoolStats {
    /// Messages with at least one recipient waiting.
    pub queued_messages: u64,
    /// Those of them that the operator holds.
    pub held_messages: u64,
    /// Octets in segments and content files.
    pub bytes: u64,
    /// Damaged records met since the start.
    pub damaged_records: u64,
    /// When the longest-waiting message came that is not held, if any waits.
    pub oldest: Option<Timestamp>,
}

/// What is not on the disk yet.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Unwritten {
    /// Messages that nobody was told 250 for.
    pub messages: u64,
    /// Records of what became of recipients: those attempts may be made again.
    pub outcomes: u64,
}

/// What was found at opening, for the log.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Messages that wait.
    pub waiting: u64,
    /// Messages that were in the segments and not in the state database.
    pub caught_up: u64,
    /// Those of them that are there again because the state database was new, and was made from the segments.
    pub rebuilt: u64,
    /// Reports whose settlement was not committed; they are made again.
    pub discarded_reports: u64,
    /// Copies whose message is not there: nobody was told 250 for it.
    pub discarded_copies: u64,
    /// Records that failed their checksum, or whose content is gone. Their octets are in
    /// `damaged/`.
    pub damaged_records: u64,
    /// Segments that end in a write cut off; nobody was told 250 for it.
    pub torn_tails: u64,
    /// Content files without a message, removed.
    pub orphaned_files: u64,
    /// Segments without anything alive, removed.
    pub removed_segments: u64,
    /// Where a damaged state database was moved before it was rebuilt.
    pub state_moved_to: Option<PathBuf>,
}

/// The spool, whatever keeps it.
#[async_trait]
pub trait Spool: Send + Sync {
    /// Other limits from now on: floors of free space, and how much history is kept. Where the spool is
    /// does not change.
    fn set_limits(&self, limits: &SpoolConfig);

    /// Whether a message of about `size` octets may come in, by what is known here.
    ///
    /// # Errors
    /// [`SpoolError::Full`] below the floor, [`SpoolError::Stopped`] after a disk failure.
    fn admit(&self, size: u64) -> Result<(), SpoolError>;

    /// Starts a message under an id that no other has or will have.
    fn begin(&self, now: Timestamp) -> Draft;

    /// Stores a message. `Ok` means that it survives a crash.
    ///
    /// # Errors
    /// Any error means that the client must not be told 250.
    async fn enqueue(&self, draft: Draft, envelope: Envelope) -> Result<QueueId, SpoolError> {
        let id = draft.id;
        self.enqueue_with(draft, envelope, Vec::new()).await.map(|_no_copies| id)
    }

    /// Stores a message and copies of it. `Ok` means that all of them survive a crash; one that comes before
    /// leaves all of them or none. Gives the names of the copies, in their order.
    ///
    /// # Errors
    /// Any error means that nothing is stored, and that the client must not be told 250.
    async fn enqueue_with(
        &self,
        draft: Draft,
        envelope: Envelope,
        copies: Vec<ContentCopy>,
    ) -> Result<Vec<QueueId>, SpoolError>;

    /// Claims up to `most` messages that are due, oldest due first.
    ///
    /// # Errors
    /// When the state cannot be read.
    async fn claim_due(&self, now: Timestamp, most: usize) -> Result<Vec<Claim>, SpoolError>;

    /// Claims one message, due or not; `None` when it is not in the queue or somebody has it.
    ///
    /// # Errors
    /// When the state cannot be read.
    async fn claim_one(&self, id: QueueId, now: Timestamp) -> Result<Option<Claim>, SpoolError>;

    /// How long a claim holds without being renewed.
    fn lease(&self) -> Lease;

    /// Makes a claim hold for a whole [`Spool::lease`] from now.
    ///
    /// # Errors
    /// [`SpoolError::Fenced`] when the claim is not ours any more.
    async fn renew(&self, claim: &Claim) -> Result<(), SpoolError>;

    /// What is due after `horizon` was planned by a clock that has since been set back: it is due
    /// at `now`. While the spool is open it sees such a clock itself.
    ///
    /// # Errors
    /// When the state cannot be changed; then it waits as it was planned.
    async fn bring_forward(&self, now: Timestamp, horizon: Timestamp) -> Result<(), SpoolError>;

    /// When the next unclaimed message is due.
    ///
    /// # Errors
    /// When the state cannot be read.
    async fn next_due(&self) -> Result<Option<Timestamp>, SpoolError>;

    /// Waits until the set of due messages may have changed, also since the last call. For one
    /// caller at a time: a change wakes one.
    async fn changed(&self);

    /// Opens the content.
    ///
    /// # Errors
    /// [`SpoolError::Damaged`] or [`SpoolError::Io`].
    async fn open_body(&self, id: QueueId) -> Result<Box<dyn BodyReader>, SpoolError>;

    /// Records what became of some recipients and keeps the claim, which then knows it too. `Ok`
    /// means durable. After an error the claim is not held any more.
    ///
    /// # Errors
    /// [`SpoolError::Fenced`] when the claim is not ours any more.
    async fn settle_part(&self, claim: &mut Claim, settlement: Settlement) -> Result<(), SpoolError>;

    /// Records what an attempt brought and gives the claim back. `Ok` means durable.
    ///
    /// # Errors
    /// [`SpoolError::Fenced`] when the claim is not ours any more.
    async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<(), SpoolError>;

    /// As [`Spool::settle`], and in the same durable step what becomes of other messages: the
    /// reports of the first settlement tell of them, too, and their [`Notification`]s name those.
    ///
    /// # Errors
    /// When nothing of it is recorded; then all of these claims that are still ours are given back.
    async fn settle_together(
        &self,
        claim: Claim,
        settlement: Settlement,
        others: Vec<(Claim, Settlement)>,
    ) -> Result<(), SpoolError>;

    /// Gives a claim back untouched: the message is due again at once. A claim that is not ours any
    /// more is no error.
    ///
    /// # Errors
    /// When the state cannot be changed; then the claim ends with its lease.
    async fn release(&self, claim: Claim) -> Result<(), SpoolError>;

    /// Gives a claim back to the others that share the spool: the message is due when it was, and for a while at the others
    /// alone.
    ///
    /// # Errors
    /// When the state cannot be changed; then the claim ends with its lease.
    async fn pass_on(&self, claim: Claim) -> Result<(), SpoolError> {
        self.release(claim).await
    }

    /// Gives a claim back: the message is due at `until`, or when it was if there is a restart
    /// before. Nothing is recorded. A claim that is not ours any more is no error.
    ///
    /// # Errors
    /// When the state cannot be changed; then the claim ends with its lease.
    async fn postpone(&self, claim: Claim, until: Timestamp) -> Result<(), SpoolError>;

    /// Makes messages due at `now` that nobody has, that are not held, and that are due at the moment
    /// beside each of them or before. Others stay as they are. A hint: what is not hastened comes by itself.
    ///
    /// # Errors
    /// When the state cannot be changed.
    async fn hasten(&self, messages: &[(QueueId, Timestamp)], now: Timestamp) -> Result<(), SpoolError>;

    /// Keeps an incident: a new one, or what has become of one. `Ok` means durable. The newest are kept, at
    /// most [`MOST_INCIDENTS`]; they are no part of what is rebuilt from accepted messages.
    ///
    /// # Errors
    /// When it cannot be recorded.
    async fn record_incident(&self, incident: &Incident) -> Result<(), SpoolError>;

    /// Whether this relay is to make a report that is due, which is still as it was found: where several share the store,
    /// one of them makes it at a time.
    ///
    /// # Errors
    /// When it cannot be asked; then the report is another time's.
    async fn claim_tls_report(&self, _due: &DueTlsReport) -> Result<bool, SpoolError> {
        Ok(true)
    }

    /// Keeps what has become of the report on TLS to a domain about a day and, in the same durable step, puts the mails
    /// that carry it into the queue. The same mails are put there once, however often this is asked.
    ///
    /// # Errors
    /// When it cannot be recorded; then nothing of it is. [`SpoolError::Fenced`] when another relay has it by now, or is
    /// done with it.
    async fn record_tls_report(
        &self,
        report: &TlsReportId,
        state: &TlsReportState,
        mails: Vec<Report>,
    ) -> Result<(), SpoolError>;

    /// How the disk stands that it is on, where that has no room; `now` is remembered as the beginning.
    fn full_disk(&self, now: Timestamp) -> Option<FullDisk>;

    /// How a store on another machine stands that cannot be used; `now` is remembered as the beginning.
    fn away(&self, _now: Timestamp) -> Option<AwayStore> {
        None
    }

    /// What all that share the spool know under a name; nothing where nobody shares it.
    ///
    /// # Errors
    /// When it cannot be read.
    async fn shared_state(&self, _name: &str) -> Result<Option<ClusterState>, SpoolError> {
        Ok(None)
    }

    /// Lets all that share the spool know a value, in place of that with the revision `over`. `Ok` means durable.
    ///
    /// # Errors
    /// [`SpoolError::Fenced`] when another relay has changed it since.
    async fn share_state(&self, _name: &str, _value: &[u8], _over: Option<i64>) -> Result<(), SpoolError> {
        Ok(())
    }

    /// Lets all that share the spool know what was found out here. Nothing of it is durable.
    ///
    /// # Errors
    /// When it cannot be told now; then some of it may be.
    async fn tell_findings(&self, _findings: &[Finding]) -> Result<(), SpoolError> {
        Ok(())
    }

    /// What others that share the spool have told since, a piece at a time; nothing where there are no others to hear
    /// of. What this relay told before its last start is among the first.
    ///
    /// # Errors
    /// When it cannot be read now.
    async fn hear_findings(&self, _since: FindingMark) -> Result<Option<HeardFindings>, SpoolError> {
        Ok(None)
    }

    /// The part of this relay in what all that share the spool may do together.
    fn share(&self) -> NodeShare {
        NodeShare::ALONE
    }

    /// What was handed to it and has not been answered, or could not be recorded: what a stop leaves undone.
    fn unwritten(&self) -> Unwritten;

    /// How full it is, by what is known here.
    fn stats(&self) -> SpoolStats;

    /// What happened to a message, oldest first: `(when, event)`.
    ///
    /// # Errors
    /// When the state cannot be read.
    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, SpoolError>;

    /// Waits until the store behind it has failed and the spool has stopped; gives the reason. The
    /// relay must then end: only a restart finds out what is stored.
    async fn failed(&self) -> String;

    /// Ends all writing and closes; what was acknowledged is durable already.
    async fn close(&self);
}
