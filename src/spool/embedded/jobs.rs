//! What the threads of the engine and its callers say to each other: the jobs of both writers, and
//! what goes with them from one to the other.

use super::paths::TemporaryFile;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::carrying::CarriedMessage;
use crate::spool::event::Event;
use crate::spool::record::NewRecord;
use crate::spool::tls_session::{TlsCount, TlsReportId, TlsReportRow, TlsSession};
use crate::spool::{Hold, SpoolEntry, SpoolError};
use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct RecordPlace {
    /// The number of the segment.
    pub(super) segment: u32,
    /// Octets from its start.
    pub(super) offset: u64,
    /// Octets of the record.
    pub(super) length: u64,
    /// Where the content is.
    pub(super) content: ContentPlace,
}

/// Where the content of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentPlace {
    /// In the record.
    Inline,
    /// In a file named after the message.
    OwnFile,
}

/// A message as it waits, with what is needed to deliver it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The message.
    pub(super) entry: SpoolEntry,
    /// Its record.
    pub(super) place: RecordPlace,
}

/// A message as it is first stored.
#[derive(Clone, Debug)]
pub(super) struct MessageRow {
    pub(super) waiting: Waiting,
    /// The envelope as JSON.
    pub(super) envelope: Bytes,
    pub(super) due: Timestamp,
    /// Of the header field.
    pub(super) message_id: Option<String>,
}

/// A message as the index needs it at the start.
#[derive(Clone, Copy, Debug)]
pub(super) struct WaitingRow {
    pub(super) id: QueueId,
    pub(super) due: Timestamp,
    pub(super) accepted_at: Timestamp,
    pub(super) segment: u32,
    /// Octets of its record.
    pub(super) length: u64,
    pub(super) held: bool,
}

/// A place in the log: records before it are in the database.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct LogMark {
    pub(super) segment: u32,
    pub(super) offset: u64,
}

impl LogMark {
    /// In front of a record.
    pub(super) const fn before(place: RecordPlace) -> Self {
        Self { segment: place.segment, offset: place.offset }
    }

    /// Behind a record.
    pub(super) const fn after(place: RecordPlace) -> Self {
        Self { segment: place.segment, offset: place.offset.saturating_add(place.length) }
    }
}

/// A message on its way into the log.
pub(super) struct NewMessage {
    pub(super) entry: SpoolEntry,
    /// The envelope as JSON, as it is in the record.
    pub(super) envelope: Bytes,
    pub(super) record: NewRecord,
    pub(super) content: ContentPlace,
    pub(super) due: Timestamp,
    pub(super) message_id: Option<String>,
}

impl NewMessage {
    /// Its row, once its record is at this place.
    pub(super) fn row(&self, place: RecordPlace) -> MessageRow {
        let waiting = Waiting { entry: self.entry.clone(), place };
        let message_id = self.message_id.clone();
        MessageRow { waiting, envelope: self.envelope.clone(), due: self.due, message_id }
    }
}

/// A message with its content.
pub(super) struct Storing {
    pub(super) message: NewMessage,
    /// The content's own file, kept once the record is durable.
    pub(super) file: Option<TemporaryFile>,
}

/// A message from a client with its copies, and who waits for it.
pub(super) struct Accepting {
    /// The message is the last, its copies come before it.
    pub(super) messages: Vec<Storing>,
    /// A place for each in the backlog of the state database, given back once the last row is there.
    pub(super) permit: OwnedSemaphorePermit,
    pub(super) answer: oneshot::Sender<Result<(), SpoolError>>,
}

/// What the log writer is asked for.
pub(super) enum LogJob {
    /// Make a message durable.
    Accept(Box<Accepting>),
    /// Make reports durable, then hand the settlement that causes them to the state database.
    Settle(Box<Settling>, Vec<NewMessage>),
    /// Copy records of an old segment.
    Forward(Vec<Moving>),
    /// Nothing comes after this.
    Close,
}

/// A record to be copied.
pub(super) struct Moving {
    pub(super) id: QueueId,
    pub(super) from: RecordPlace,
    pub(super) record: NewRecord,
}

/// A record whose copy is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    pub(super) id: QueueId,
    pub(super) from: RecordPlace,
    pub(super) to: RecordPlace,
}

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every recipient is done.
    Finished,
    /// At least one waits.
    Waits {
        /// For the next attempt.
        due: Timestamp,
        /// Whether that ever comes by itself.
        held: Hold,
    },
    /// The claim is kept; more is to come.
    Continues,
}

/// A settlement with all that the writers need; the lease is theirs until it is answered.
pub(super) struct Settling {
    pub(super) generation: u64,
    /// The message as it is afterwards.
    pub(super) entry: SpoolEntry,
    /// The changed recipients, with their states as JSON.
    pub(super) recipients: Vec<(usize, String)>,
    /// Who is told of recipients: the number of the report, or a number below zero for nobody.
    pub(super) told: Vec<(usize, i64)>,
    /// For the history, as JSON.
    pub(super) events: Vec<String>,
    pub(super) at: Timestamp,
    pub(super) ending: Ending,
    /// How often the sender was told, as JSON, where that changes.
    pub(super) reported: Option<String>,
    /// Filled in by the log writer once the reports are durable.
    pub(super) reports: Vec<MessageRow>,
    /// Of other messages, to be recorded in the same transaction.
    pub(super) others: Vec<Self>,
    /// Tries to speak TLS.
    pub(super) sessions: Vec<TlsSession>,
    /// What has become of a report on TLS.
    pub(super) tls_report: Option<TlsReportUpdate>,
    pub(super) answer: oneshot::Sender<Result<(), SpoolError>>,
}

/// What has become of a report on TLS, as it is kept.
pub(super) struct TlsReportUpdate {
    pub(super) id: TlsReportId,
    /// As JSON.
    pub(super) state: String,
    pub(super) due: Option<Timestamp>,
}

/// An incident as it is kept.
pub(super) struct IncidentRow {
    pub(super) id: u64,
    /// As JSON.
    pub(super) incident: String,
}

/// What is written of another spool.
pub(super) enum AdoptedRows {
    /// What is known of a message beside its record, which is there where something is still to be done for it.
    Message(Box<CarriedMessage>),
    /// Counts for the reports on TLS.
    Counts(TlsReportRow, Vec<TlsCount>),
    /// History from before this may be missing.
    Horizon(Timestamp),
    /// Since when the mail here belongs to another spool.
    CarriedSince(Option<Timestamp>),
}

/// What is kept as it is, and changes nothing of what waits here.
pub(super) enum KeptRows {
    /// An incident.
    Incident(IncidentRow),
    /// What comes from another spool.
    Adopted(AdoptedRows),
}

/// An answer to come.
pub(super) type ReplyTo<T> = oneshot::Sender<Result<T, SpoolError>>;

/// What happened to a message: when, and what.
pub(super) type EventRows = Vec<(Timestamp, Event)>;

/// What the state writer is asked for.
pub(super) enum StateJob {
    /// A durable record needs its row. The permit is its place in the backlog, and that of those before it
    /// that came without one.
    Insert(Box<MessageRow>, Option<OwnedSemaphorePermit>),
    /// Outcomes, with reports that are durable already.
    Settle(Box<Settling>),
    /// Rows that are kept as they are.
    Keep(Box<KeptRows>, ReplyTo<()>),
    /// Messages that memory does not have.
    Load(Vec<QueueId>, ReplyTo<Vec<Waiting>>),
    /// Where a record is.
    Place(QueueId, ReplyTo<Option<RecordPlace>>),
    /// What happened to a message.
    History(QueueId, ReplyTo<EventRows>),
    /// Copies of records are durable, or there was no room for any.
    Forward(Vec<Moved>),
    /// A segment was closed: look whether old ones can go.
    Sweep,
    /// Time has gone on and nobody has asked for anything: do what is nobody's work.
    Tidy,
    /// Nothing comes after this.
    Close,
}
