//! The moments at which a crash leaves something else on the disk than a moment before.
//!
//! RFC 5321 §6.1 wants nothing lost by a crash, at whatever moment it comes. The engine tells a
//! [`CrashObserver`] of each such moment, right after the change and in the thread that made it. An
//! observer that copies the directory has what a crash at this moment would leave, and can open
//! the copy. In service the observer is nobody.
//!
//! Guarantee: between two calls the directory changes in one way only, that which the second call
//! names; what SQLite does within one commit or checkpoint is its own.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A moment at which a crash leaves something else on the disk than a moment before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// The folders of the spool are there.
    FoldersMade,
    /// The names of the folders are durable.
    FoldersSynced,
    /// The lock file has our pid.
    LockWritten,
    /// One of the files of a damaged state database has another name.
    StateMovedAside,
    /// A file that belonged to a state database that is gone, or the note of damage, is removed.
    StateRestRemoved,
    /// The file of the state database is there, without octets.
    StateMade,
    /// The state database is open and has a log of its own (WAL).
    StateOpened,
    /// A transaction of the state database is complete but for its commit.
    Committing(Work),
    /// It is committed; [`Work::is_synced`] says whether it is durable.
    Committed(Work),
    /// The log of the state database was moved into the database; both are durable.
    Checkpointed,
    /// The state database is closed, and its log is gone.
    StateClosed,
    /// The names in the folder of the spool are durable.
    SpoolFolderSynced,
    /// Octets that failed their checksum, or the note of a damaged database, were put aside.
    PutAside,
    /// The file of a new segment is there, without octets.
    SegmentMade,
    /// The names of the segments are durable.
    SegmentFolderSynced,
    /// A batch of records is in the segment, and not yet durable.
    BatchWritten,
    /// It is durable.
    BatchSynced,
    /// The disk was full: the segment was cut back to where it was before the batch.
    BatchCutBack,
    /// The file for the content of a large message is there, without octets.
    ContentMade,
    /// A piece of content is in its file, and not yet durable.
    ContentWritten,
    /// All the content of a message is durable.
    ContentSynced,
    /// The names of the content files are durable.
    ContentFolderSynced,
    /// The reserve is there, octets that nobody has.
    ReserveMade,
    /// Its octets are free.
    ReserveGivenFree,
    /// A segment without anything alive is removed.
    SegmentRemoved,
    /// The content file of a finished message, or of one that nobody was told 250 for, is removed.
    ContentRemoved,
}

/// What a transaction of the state database holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// The tables.
    Schema,
    /// Rows of messages that a segment has caught up with at opening.
    CatchingUp,
    /// That a rebuilt database is complete.
    Complete,
    /// Rows of new messages, which the segments hold too.
    Messages,
    /// Outcomes with the reports they cause, incidents, and perhaps rows of new messages.
    Outcomes,
    /// New places of records that were copied forward.
    Forwarding,
    /// History removed for its age.
    Pruning,
}

impl Work {
    /// Whether its commit is durable when it returns. The rows of new messages are in the
    /// segments anyway and become durable with the next commit that is.
    #[must_use]
    pub const fn is_synced(self) -> bool {
        match self {
            Self::Messages => false,
            Self::Schema | Self::CatchingUp | Self::Complete | Self::Outcomes | Self::Forwarding | Self::Pruning => {
                true
            }
        }
    }
}

/// Whoever wants to know of every step.
pub trait CrashObserver: Send + Sync {
    /// Called at the moment itself, in the thread that does the work, which waits. The spool
    /// directory may be copied meanwhile; the spool itself must not be asked for anything.
    fn at(&self, step: Step);

    /// Whether the disk takes so many octets more, about. An observer that says no makes the disk
    /// full: what was to be written is not, and nothing is changed.
    fn has_room(&self, octets: u64) -> bool {
        let _ = octets;
        true
    }
}

/// Who does the work that blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Workers {
    /// Threads.
    Threads,
    /// Whoever asks, at once; see [`super::manual::ManualWriters`].
    ByHand,
}

/// The seam between the engine and its observer.
#[derive(Clone)]
pub(super) struct Steps {
    observer: Arc<dyn CrashObserver>,
    workers: Workers,
    over: Arc<AtomicBool>,
}

impl Steps {
    /// As in service: nobody looks on.
    pub(super) fn unobserved() -> Self {
        Self { observer: Arc::new(Nobody), workers: Workers::Threads, over: Arc::default() }
    }

    /// By hand, under an observer.
    pub(super) fn by_hand(observer: Arc<dyn CrashObserver>) -> Self {
        Self { observer, workers: Workers::ByHand, over: Arc::default() }
    }

    pub(super) fn at(&self, step: Step) {
        self.observer.at(step);
    }

    /// The error of a full disk, when the observer makes it one.
    pub(super) fn room(&self, octets: u64) -> std::io::Result<()> {
        if self.observer.has_room(octets) { Ok(()) } else { Err(std::io::ErrorKind::StorageFull.into()) }
    }

    pub(super) const fn workers(&self) -> Workers {
        self.workers
    }

    /// It is as if the process had been killed: nothing more is written or removed.
    pub(super) fn end(&self) {
        self.over.store(true, Ordering::SeqCst);
    }

    pub(super) fn are_over(&self) -> bool {
        self.over.load(Ordering::SeqCst)
    }
}

impl std::fmt::Debug for Steps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Steps").field("workers", &self.workers).finish_non_exhaustive()
    }
}

struct Nobody;

impl CrashObserver for Nobody {
    fn at(&self, _: Step) {}
}
