//! The segments there are, and reading a record from one.
//!
//! A segment goes when nothing in it is alive. Every read verifies all checksums; what does not
//! fit is put aside and reported as damaged, never given out.
#![expect(clippy::disallowed_methods, reason = "this file is one of the engine's doors to the disk")]

use super::jobs::RecordPlace;
use super::paths::{SpoolPaths, missing_or_io, segment_name};
use crate::envelope::QueueId;
use crate::spool::SpoolError;
use crate::spool::record::{self, HEADER_SIZE, MAX_ENVELOPE_SIZE, MAX_INLINE_SIZE, Mark, RecordContent, Stored};
use bytes::Bytes;
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// One segment file.
#[derive(Clone, Debug)]
pub(super) struct Segment {
    pub(super) mark: Mark,
    pub(super) path: PathBuf,
    /// Its size in octets.
    pub(super) bytes: u64,
}

/// All segment files.
#[derive(Debug, Default)]
pub(super) struct Segments {
    inner: Mutex<SegmentState>,
}

#[derive(Debug, Default)]
struct SegmentState {
    files: BTreeMap<u32, Segment>,
    /// The one being written.
    active: u32,
}

/// A record as it was read.
pub(super) struct StoredRecord {
    /// JSON.
    pub(super) envelope: Bytes,
    pub(super) content: RecordContent,
}

impl Segments {
    pub(super) fn new(files: BTreeMap<u32, Segment>) -> Self {
        Self { inner: Mutex::new(SegmentState { files, active: 0 }) }
    }

    /// A new segment is written to from now on.
    pub(super) fn begin(&self, number: u32, segment: Segment) {
        let mut inner = self.lock();
        inner.files.insert(number, segment);
        inner.active = number;
    }

    /// A segment has become longer.
    pub(super) fn grow(&self, number: u32, by: u64) {
        if let Some(segment) = self.lock().files.get_mut(&number) {
            segment.bytes += by;
        }
    }

    /// The segments that are not written to any more.
    pub(super) fn closed(&self) -> Vec<u32> {
        let inner = self.lock();
        inner.files.keys().copied().filter(|number| *number != inner.active).collect()
    }

    /// The same, with their sizes in octets.
    pub(super) fn closed_sizes(&self) -> Vec<(u32, u64)> {
        let inner = self.lock();
        let closed = inner.files.iter().filter(|(number, _)| **number != inner.active);
        closed.map(|(number, segment)| (*number, segment.bytes)).collect()
    }

    /// Removes a segment file. Gives its size.
    pub(super) fn remove(&self, number: u32) -> u64 {
        let Some(segment) = self.lock().files.remove(&number) else { return 0 };
        // What cannot be removed now is found dead at the next start.
        let _ = std::fs::remove_file(segment.path);
        segment.bytes
    }

    /// Reads the record of a message; blocks.
    pub(super) fn read(&self, paths: &SpoolPaths, id: QueueId, place: RecordPlace) -> Result<StoredRecord, SpoolError> {
        let segment = self.lock().files.get(&place.segment).cloned().ok_or(SpoolError::Damaged)?;
        let most = MAX_INLINE_SIZE + (HEADER_SIZE + MAX_ENVELOPE_SIZE) as u64;
        let length = usize::try_from(place.length.min(most)).unwrap_or(HEADER_SIZE);
        let file = File::open(&segment.path).map_err(|e| missing_or_io("opening a segment", e))?;
        let mut octets = vec![0; length];
        match file.read_exact_at(&mut octets, place.offset) {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(SpoolError::Damaged),
            Err(source) => return Err(SpoolError::Io { action: "reading a segment", source }),
        }
        let octets = Bytes::from(octets);
        match record::read_at(&octets, 0, segment.mark).ok().filter(|found| found.id == id) {
            Some(found) => {
                let content = match found.content {
                    Stored::Inline(content) => {
                        RecordContent::Inline { bytes: octets.slice_ref(content), crc: crc32fast::hash(content) }
                    }
                    Stored::External { size, crc } => RecordContent::External { size, crc },
                };
                Ok(StoredRecord { envelope: octets.slice_ref(found.envelope), content })
            }
            None => {
                let name = segment_name(place.segment, segment.mark);
                paths.put_aside(&format!("{name}-{}", place.offset), &octets);
                Err(SpoolError::Damaged)
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, SegmentState> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
