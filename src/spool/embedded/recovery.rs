//! Opening: what the segments hold and the state database does not is caught up
//! (RFC 5321 §6.1: what was accepted is not lost by a crash).
//!
//! - A message after the mark is inserted, unless the database has it.
//! - A report of a settlement that the database does not have is dropped when the database is complete: the
//!   settlement that caused it was not committed, so the attempt is made again and makes the
//!   report again. In a rebuild it is kept, because the settlement may have been committed.
//! - A copy of a message comes before it in the log. It is inserted together with it, and dropped where the
//!   message is not there: nobody was told 250 for either. Where a record beside it is damaged, that may be the
//!   message, so the copy is kept.
//! - A database that is damaged is moved aside and rebuilt from all segments: what was finished
//!   may come again, nothing that waited is lost.
//! - A copy by compaction counts for nothing when the database is complete: it names the place
//!   that counts. In a rebuild it is as good as what it was copied from.
//! - Damaged records are put aside and counted; a torn tail was never acknowledged.
//! - Segments without anything alive and content files without a message are removed.
#![expect(clippy::disallowed_methods, reason = "this file is one of the engine's doors to the disk")]

use super::index::Index;
use super::jobs::{ContentPlace, LogMark, MessageRow, RecordPlace, Waiting};
use super::paths::{SpoolPaths, create_new, io, list_segments, segment_name, sync_folder};
use super::schema::{REPORT_IDS, is_damaged_database, is_full, is_full_database};
use super::segments::{Segment, Segments};
use super::state::{Completeness, State, damaged};
use super::steps::{Step, Work};
use crate::envelope::{Envelope, Origin, QueueId};
use crate::spool::message_id::{HEAD_LIMIT, message_id};
use crate::spool::record::{self, FoundRecord, RecordKind, RecordPart, Stored};
use crate::spool::{Recovery, SpoolEntry, SpoolError};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// What the engine starts from.
pub(super) struct Recovered {
    pub(super) state: State,
    pub(super) mark: LogMark,
    pub(super) index: Index,
    pub(super) segments: Segments,
    pub(super) last_segment: u32,
    pub(super) last_time_id: u64,
    pub(super) bytes: u64,
    pub(super) summary: Recovery,
}

/// Recovers; when the state database turns out to be damaged, once more without it.
pub(super) fn recover(paths: &SpoolPaths) -> Result<Recovered, SpoolError> {
    match Opening::new(paths)?.run(paths) {
        Err(error) if is_damaged_database(&error) => {}
        Err(error) if is_full_database(&error) => return Err(SpoolError::Full),
        other => return other,
    }
    let moved_to = move_state_aside(paths).map_err(io("moving the damaged state database aside"))?;
    let mut recovered = Opening::new(paths)?.run(paths)?;
    recovered.summary.state_moved_to = Some(moved_to);
    Ok(recovered)
}

struct Opening {
    files: BTreeMap<u32, Segment>,
    last_time_id: u64,
    /// Copies whose message has not come yet.
    copies: Vec<CopyRow>,
    summary: Recovery,
}

impl Opening {
    fn new(paths: &SpoolPaths) -> Result<Self, SpoolError> {
        let mut files = BTreeMap::new();
        for (number, mark, path) in list_segments(&paths.segments()).map_err(io("listing the segments"))? {
            let bytes = std::fs::metadata(&path).map_err(io("looking at a segment"))?.len();
            files.insert(number, Segment { mark, path, bytes });
        }
        Ok(Self { files, last_time_id: 0, copies: Vec::new(), summary: Recovery::default() })
    }

    fn run(mut self, paths: &SpoolPaths) -> Result<Recovered, SpoolError> {
        let state = open_state(paths)?;
        let highest = self.files.keys().next_back().copied().unwrap_or(0);
        match self.read_all(paths, &state) {
            Ok((mark, index, bytes)) => {
                let last_segment = highest.max(mark.segment);
                let last_time_id = self.last_time_id.max(state.last_time_id()?);
                let segments = Segments::new(self.files);
                let summary = self.summary;
                Ok(Recovered { state, mark, index, segments, last_segment, last_time_id, bytes, summary })
            }
            Err(error) => {
                // Closed properly, the log of the database would go, and the next try would find no room for another.
                if is_full_database(&error) {
                    state.abandon();
                }
                Err(error)
            }
        }
    }

    /// Gives the mark after all segments, the index, and the octets of what is kept.
    fn read_all(&mut self, paths: &SpoolPaths, state: &State) -> Result<(LogMark, Index, u64), SpoolError> {
        let completeness = state.completeness()?;
        let start = state.mark()?;
        let mut mark = start;
        for (number, segment) in self.files.clone() {
            if number >= start.segment {
                let from = if number == start.segment { start.offset } else { 0 };
                mark = self.catch_up(paths, state, Piece { number, segment: &segment, from, completeness })?;
            }
        }
        if completeness == Completeness::Rebuilding {
            self.summary.rebuilt = self.summary.caught_up;
            state.begin()?;
            state.set_complete()?;
            state.commit(paths, Work::Complete)?;
        }
        let mut index = Index::default();
        state.for_each_waiting(|known| index.restore(&known))?;
        self.summary.waiting = index.len() as u64;
        self.remove_dead(paths, state, &index)?;
        let content_bytes = self.remove_orphans(paths, state)?;
        let bytes = content_bytes + self.files.values().map(|segment| segment.bytes).sum::<u64>();
        // The database is made durable by its own syncs, its name by this one.
        sync_folder(paths.root()).map_err(io("syncing the spool folder"))?;
        paths.at(Step::SpoolFolderSynced);
        Ok((mark, index, bytes))
    }

    /// Applies one segment in one transaction. Gives the mark after it.
    fn catch_up(&mut self, paths: &SpoolPaths, state: &State, piece: Piece<'_>) -> Result<LogMark, SpoolError> {
        let octets = read_from(&piece.segment.path, piece.from).map_err(io("reading a segment"))?;
        let mark = LogMark { segment: piece.number, offset: piece.from + octets.len() as u64 };
        let damaged_before = self.summary.damaged_records;
        state.begin()?;
        for part in record::scan(&octets, piece.segment.mark) {
            match part {
                RecordPart::Record(found) => {
                    if self.apply(paths, state, &found, piece)? == Applied::Damaged {
                        self.set_aside(paths, piece, &octets, found.offset..found.offset + found.length);
                    }
                }
                RecordPart::Damaged { from, to } => self.set_aside(paths, piece, &octets, from..to),
                RecordPart::TornTail { .. } => self.summary.torn_tails += 1,
            }
        }
        if self.summary.damaged_records > damaged_before {
            self.keep_copies(state)?;
        } else {
            self.discard_copies();
        }
        let kept = state.set_mark(mark).and_then(|()| state.commit(paths, Work::CatchingUp));
        match kept {
            // Nothing was new, and there is no room to write that down: the mark comes with the next commit.
            Err(error) if octets.is_empty() && is_full(&error) => state.roll_back(),
            kept => kept?,
        }
        Ok(mark)
    }

    fn apply(
        &mut self,
        paths: &SpoolPaths,
        state: &State,
        found: &FoundRecord<'_>,
        piece: Piece<'_>,
    ) -> Result<Applied, SpoolError> {
        if found.id.0 < REPORT_IDS {
            self.last_time_id = self.last_time_id.max(found.id.0);
        }
        self.insert_copies(state, found.id)?;
        if state.knows(found.id)? {
            return Ok(Applied::Done);
        }
        let Ok(envelope) = serde_json::from_slice::<Envelope>(found.envelope) else { return Ok(Applied::Damaged) };
        match (found.kind, piece.completeness) {
            (RecordKind::OnItsOwn, _) | (_, Completeness::Rebuilding) => {}
            (RecordKind::WithSettlement, Completeness::Complete) => {
                self.summary.discarded_reports += 1;
                return Ok(Applied::Done);
            }
            // What it is a copy of was finished, and is forgotten.
            (RecordKind::Forwarded, Completeness::Complete) => return Ok(Applied::Done),
        }
        let (size, content) = match found.content {
            Stored::Inline(content) => (content.len() as u64, ContentPlace::Inline),
            Stored::External { size, .. } => (size, ContentPlace::OwnFile),
        };
        if content == ContentPlace::OwnFile && !paths.content(found.id).exists() {
            // The file of a finished message is removed; a rebuild does not know who was finished.
            return match piece.completeness {
                Completeness::Rebuilding => {
                    state.forget_until(envelope.accepted_at)?;
                    Ok(Applied::Done)
                }
                Completeness::Complete => Ok(Applied::Damaged),
            };
        }
        let place =
            RecordPlace { segment: piece.number, offset: piece.at(found.offset), length: found.length as u64, content };
        let due = envelope.accepted_at;
        let entry = SpoolEntry::new(found.id, envelope, size);
        let envelope = Bytes::copy_from_slice(found.envelope);
        let message_id = match found.content {
            Stored::Inline(content) => message_id(content),
            Stored::External { .. } => message_id(&head_of(&paths.content(found.id))),
        };
        let of = copied_from(&entry);
        let row = MessageRow { waiting: Waiting { entry, place }, envelope, due, message_id };
        match (of, piece.completeness) {
            (Some(of), Completeness::Complete) => self.copies.push(CopyRow { of, row }),
            (Some(_) | None, _) => self.insert(state, &row)?,
        }
        Ok(Applied::Done)
    }

    fn insert(&mut self, state: &State, row: &MessageRow) -> rusqlite::Result<()> {
        self.summary.caught_up += 1;
        state.insert(row).map(|_is_new| ())
    }

    /// The message that they are copies of is there.
    fn insert_copies(&mut self, state: &State, of: QueueId) -> rusqlite::Result<()> {
        let (whole, waiting) = std::mem::take(&mut self.copies).into_iter().partition(|copy| copy.of == of);
        self.copies = waiting;
        let whole: Vec<CopyRow> = whole;
        whole.iter().try_for_each(|copy| self.insert(state, &copy.row))
    }

    /// What they are copies of may be in the damaged part.
    fn keep_copies(&mut self, state: &State) -> rusqlite::Result<()> {
        let left = std::mem::take(&mut self.copies);
        left.iter().try_for_each(|copy| self.insert(state, &copy.row))
    }

    /// No message comes any more in this segment, and a batch is never in two.
    fn discard_copies(&mut self) {
        self.summary.discarded_copies += std::mem::take(&mut self.copies).len() as u64;
    }

    fn set_aside(&mut self, paths: &SpoolPaths, piece: Piece<'_>, octets: &[u8], range: std::ops::Range<usize>) {
        self.summary.damaged_records += 1;
        let name = format!("{}-{}", segment_name(piece.number, piece.segment.mark), piece.at(range.start));
        paths.put_aside(&name, octets.get(range).unwrap_or_default());
    }

    fn remove_dead(&mut self, paths: &SpoolPaths, state: &State, index: &Index) -> Result<(), SpoolError> {
        let dead: Vec<u32> = self.files.keys().copied().filter(|number| index.is_dead(*number)).collect();
        if dead.is_empty() {
            return Ok(());
        }
        state.checkpoint()?;
        paths.at(Step::Checkpointed);
        for number in dead {
            if let Some(segment) = self.files.remove(&number) {
                std::fs::remove_file(&segment.path).map_err(io("removing a segment"))?;
                paths.at(Step::SegmentRemoved);
                self.summary.removed_segments += 1;
            }
        }
        Ok(())
    }

    /// Gives the octets of the content files that stay.
    fn remove_orphans(&mut self, paths: &SpoolPaths, state: &State) -> Result<u64, SpoolError> {
        let mut bytes = 0;
        for item in std::fs::read_dir(paths.contents()).map_err(io("listing the content files"))? {
            let item = item.map_err(io("listing the content files"))?;
            let Some(id) = item.file_name().to_str().and_then(|name| name.parse::<QueueId>().ok()) else { continue };
            if state.needs_file(id)? {
                bytes += item.metadata().map_err(io("looking at a content file"))?.len();
            } else {
                std::fs::remove_file(item.path()).map_err(io("removing a content file"))?;
                paths.at(Step::ContentRemoved);
                self.summary.orphaned_files += 1;
            }
        }
        Ok(bytes)
    }
}

/// The beginning of a content file, with its header. Best effort: without it, a message is found
/// by its queue id and addresses alone.
fn head_of(path: &Path) -> Vec<u8> {
    let mut head = Vec::new();
    if let Ok(file) = std::fs::File::open(path) {
        let _ = file.take(HEAD_LIMIT as u64).read_to_end(&mut head);
    }
    head
}

/// The segment being caught up.
#[derive(Clone, Copy)]
struct Piece<'a> {
    number: u32,
    segment: &'a Segment,
    from: u64,
    completeness: Completeness,
}

impl Piece<'_> {
    /// Where in the segment it is what stands there in what was read of it.
    const fn at(&self, place: usize) -> u64 {
        self.from + place as u64
    }
}

/// What a segment holds from there on.
fn read_from(path: &Path, from: u64) -> std::io::Result<Vec<u8>> {
    let mut file = std::fs::File::open(path)?;
    let mut octets = Vec::new();
    // A mark behind the end is no reason not to start, however far behind.
    if from >= file.metadata()?.len() {
        return Ok(octets);
    }
    file.seek(SeekFrom::Start(from))?;
    file.read_to_end(&mut octets)?;
    Ok(octets)
}

/// A copy that waits for its message.
struct CopyRow {
    of: QueueId,
    row: MessageRow,
}

fn copied_from(entry: &SpoolEntry) -> Option<QueueId> {
    match entry.envelope.origin {
        Origin::Copy { of } => Some(of),
        Origin::Client(_) | Origin::Report { .. } | Origin::TlsReport { .. } => None,
    }
}

#[derive(PartialEq, Eq)]
enum Applied {
    Done,
    Damaged,
}

fn open_state(paths: &SpoolPaths) -> Result<State, SpoolError> {
    if !paths.state().exists() {
        // A log of the database without the database belongs to something that is gone.
        for rest in ["-wal", "-shm"] {
            remove_rest(paths, &beside(&paths.state(), rest));
        }
        // SQLite would let everybody read it; its log takes the permissions of the database.
        create_new(&paths.state()).map_err(io("making the state database"))?;
        paths.at(Step::StateMade);
    }
    let state = State::open(paths)?;
    if !state.is_understood()? {
        let path = paths.state();
        return Err(SpoolError::Unusable(format!(
            "{} was made by another version of the relay, most likely a newer one: install that one again",
            path.display()
        )));
    }
    if !state.is_whole()? {
        return Err(damaged().into());
    }
    if paths.state_suspect().exists() {
        if !state.is_sound()? {
            return Err(damaged().into());
        }
        remove_rest(paths, &paths.state_suspect());
    }
    Ok(state)
}

/// Removes what may be left of a database that is not there any more.
fn remove_rest(paths: &SpoolPaths, file: &Path) {
    if std::fs::remove_file(file).is_ok() {
        paths.at(Step::StateRestRemoved);
    }
}

/// Renames the database and its log to the first free `state.sqlite.damaged-<n>`.
fn move_state_aside(paths: &SpoolPaths) -> std::io::Result<PathBuf> {
    let state = paths.state();
    let free = (1_u32..).map(|n| beside(&state, &format!(".damaged-{n}"))).find(|path| !path.exists());
    let target = free.unwrap_or_else(|| beside(&state, ".damaged"));
    for rest in ["", "-wal", "-shm"] {
        match std::fs::rename(beside(&state, rest), beside(&target, rest)) {
            Ok(()) => paths.at(Step::StateMovedAside),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
            Err(e) => return Err(e),
        }
    }
    remove_rest(paths, &paths.state_suspect());
    sync_folder(paths.root())?;
    paths.at(Step::SpoolFolderSynced);
    Ok(target)
}

/// A path with something appended to its last name.
fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}
