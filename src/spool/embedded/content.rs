//! Content on its way in and out.
//!
//! In: up to 256 KiB stay in memory and go into the record; more goes to a file of its own,
//! which is durable (RFC 5321 §4.2.5) before the record that names it is written.
//! Out: pieces of at most 64 KiB. A reader ends with [`SpoolError::Damaged`] in place of its last
//! `None` when the checksum does not fit, so that a damaged message is never completed.
#![expect(clippy::disallowed_methods, reason = "this file is one of the engine's doors to the disk")]

use super::paths::{TemporaryFile, create_new, full_or_io, io, missing_or_io, sync_folder};
use super::shared::SharedState;
use super::steps::{Step, Workers};
use crate::envelope::QueueId;
use crate::spool::message_id::message_id;
use crate::spool::record::RecordContent;
use crate::spool::{BodyReader, BodyWriter, SpoolError};
use async_trait::async_trait;
use bytes::Bytes;
use std::fs::File;
use std::io::{Read, Write};
use std::sync::Arc;

/// Content up to this size goes into the record: one write instead of a file, its sync and its
/// folder's sync. It is also the most memory a message being received takes, and the unit of
/// writing above it.
pub(super) const MOST_IN_MEMORY: usize = 256 * 1024;

/// What a reader hands out at once.
const PIECE_SIZE: usize = 64 * 1024;

/// Content being received.
pub(super) struct ContentWriter {
    shared: Arc<SharedState>,
    id: QueueId,
    memory: Vec<u8>,
    crc: crc32fast::Hasher,
    size: u64,
    spill: Spill,
    /// Of the header, once that has left the memory.
    message_id: Option<String>,
}

/// Where the content above [`MOST_IN_MEMORY`] is.
enum Spill {
    /// All is in memory.
    None,
    /// All but `memory` is in this file.
    File(File, TemporaryFile),
    /// A write failed or was given up half way.
    Broken,
}

/// Content that is complete, and durable if it has a file of its own.
pub(super) struct Finished {
    pub(super) content: RecordContent,
    /// The file, removed again unless the record becomes durable.
    pub(super) file: Option<TemporaryFile>,
    /// Of its header.
    pub(super) message_id: Option<String>,
}

impl ContentWriter {
    pub(super) fn new(shared: Arc<SharedState>, id: QueueId) -> Self {
        let crc = crc32fast::Hasher::new();
        Self { shared, id, memory: Vec::new(), crc, size: 0, spill: Spill::None, message_id: None }
    }

    pub(super) const fn id(&self) -> QueueId {
        self.id
    }

    /// Octets that are not on the disk yet.
    pub(super) fn in_memory(&self) -> u64 {
        self.memory.len() as u64
    }

    /// Ends the content; what has a file of its own is durable then.
    pub(super) async fn finish(mut self) -> Result<Finished, SpoolError> {
        if matches!(self.spill, Spill::None) {
            let message_id = message_id(&self.memory);
            let content = RecordContent::Inline { bytes: Bytes::from(self.memory), crc: self.crc.finalize() };
            return Ok(Finished { content, file: None, message_id });
        }
        self.spill_memory().await?;
        let Spill::File(file, guard) = self.spill else { return Err(interrupted()) };
        let paths = self.shared.paths.clone();
        let guard = blocking(paths.steps().workers(), move || {
            file.sync_all().map_err(io("syncing message content"))?;
            paths.at(Step::ContentSynced);
            sync_folder(&paths.contents()).map_err(io("syncing the content folder"))?;
            paths.at(Step::ContentFolderSynced);
            Ok(guard)
        })
        .await?;
        let content = RecordContent::External { size: self.size, crc: self.crc.finalize() };
        Ok(Finished { content, file: Some(guard), message_id: self.message_id })
    }

    /// Writes what is in memory to the file, which is made when there is none yet.
    async fn spill_memory(&mut self) -> Result<(), SpoolError> {
        self.shared.space.admit(self.memory.len() as u64)?;
        let paths = self.shared.paths.clone();
        if paths.steps().are_over() {
            return Err(SpoolError::Stopped);
        }
        if matches!(self.spill, Spill::None) {
            self.message_id = message_id(&self.memory);
        }
        let memory = std::mem::take(&mut self.memory);
        // If this future is dropped half way, the file must not be written to again.
        let spill = std::mem::replace(&mut self.spill, Spill::Broken);
        let id = self.id;
        let (spill, memory) = blocking(paths.steps().workers(), move || {
            let (mut file, guard) = match spill {
                Spill::None => {
                    let path = paths.content(id);
                    let file = create_new(&path).map_err(|e| full_or_io("making a file for message content", e))?;
                    let guard = TemporaryFile::new(path, paths.steps().clone());
                    paths.at(Step::ContentMade);
                    (file, guard)
                }
                Spill::File(file, guard) => (file, guard),
                Spill::Broken => return Err(interrupted()),
            };
            let room = paths.steps().room(memory.len() as u64);
            room.and_then(|()| file.write_all(&memory)).map_err(|e| full_or_io("writing message content", e))?;
            paths.at(Step::ContentWritten);
            Ok((Spill::File(file, guard), memory))
        })
        .await?;
        self.spill = spill;
        self.memory = memory;
        self.memory.clear();
        Ok(())
    }
}

#[async_trait]
impl BodyWriter for ContentWriter {
    async fn write(&mut self, mut piece: &[u8]) -> Result<(), SpoolError> {
        self.crc.update(piece);
        self.size += piece.len() as u64;
        while self.memory.len() + piece.len() > MOST_IN_MEMORY {
            let (now, later) = piece.split_at_checked(MOST_IN_MEMORY - self.memory.len()).unwrap_or((piece, &[]));
            self.memory.extend_from_slice(now);
            piece = later;
            self.spill_memory().await?;
        }
        self.memory.extend_from_slice(piece);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.size
    }

    fn into_any(self: Box<Self>) -> Box<dyn std::any::Any + Send> {
        self
    }
}

/// Gives out content that was read with its record and verified as a whole.
pub(super) struct InlineReader {
    pub(super) rest: Bytes,
}

#[async_trait]
impl BodyReader for InlineReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        let piece = self.rest.split_to(self.rest.len().min(PIECE_SIZE));
        Ok((!piece.is_empty()).then_some(piece))
    }
}

/// Gives out the content of a file, verified while it streams.
pub(super) struct FileReader {
    shared: Arc<SharedState>,
    id: QueueId,
    /// `None` once it ended, well or badly.
    file: Option<File>,
    crc: crc32fast::Hasher,
    left: u64,
    expected_crc: u32,
}

impl FileReader {
    /// Opens the file of a message whose record gives size and checksum.
    pub(super) fn open(shared: Arc<SharedState>, id: QueueId, size: u64, crc: u32) -> Result<Self, SpoolError> {
        let path = shared.paths.content(id);
        let opened = File::open(path).and_then(|file| Ok((file.metadata()?.len(), file)));
        let file = match opened.map_err(|e| missing_or_io("opening message content", e)) {
            Ok((found, file)) if found == size => file,
            Err(error @ SpoolError::Io { .. }) => return Err(error),
            Ok(_) | Err(_) => {
                shared.count_damage(id);
                return Err(SpoolError::Damaged);
            }
        };
        Ok(Self { shared, id, file: Some(file), crc: crc32fast::Hasher::new(), left: size, expected_crc: crc })
    }

    fn damaged(&mut self) -> SpoolError {
        self.file = None;
        self.shared.count_damage(self.id);
        SpoolError::Damaged
    }
}

#[async_trait]
impl BodyReader for FileReader {
    async fn next(&mut self) -> Result<Option<Bytes>, SpoolError> {
        if self.left == 0 {
            return if self.crc.clone().finalize() == self.expected_crc { Ok(None) } else { Err(self.damaged()) };
        }
        let Some(mut file) = self.file.take() else { return Err(SpoolError::Damaged) };
        let size = usize::try_from(self.left).unwrap_or(PIECE_SIZE).min(PIECE_SIZE);
        let (file, piece, result) = blocking(self.shared.paths.steps().workers(), move || {
            let mut piece = vec![0; size];
            let result = file.read_exact(&mut piece);
            Ok((file, piece, result))
        })
        .await?;
        self.file = Some(file);
        match result {
            Ok(()) => {}
            Err(e) if e.kind() == std::io::ErrorKind::UnexpectedEof => return Err(self.damaged()),
            Err(source) => return Err(SpoolError::Io { action: "reading message content", source }),
        }
        self.crc.update(&piece);
        self.left -= piece.len() as u64;
        Ok(Some(Bytes::from(piece)))
    }
}

/// Does disk work where it may block.
pub(super) async fn blocking<T, F>(workers: Workers, work: F) -> Result<T, SpoolError>
where
    T: Send + 'static,
    F: FnOnce() -> Result<T, SpoolError> + Send + 'static,
{
    match workers {
        Workers::Threads => tokio::task::spawn_blocking(work).await.unwrap_or_else(|_| Err(interrupted())),
        Workers::ByHand => work(),
    }
}

fn interrupted() -> SpoolError {
    SpoolError::Io { action: "handling message content", source: std::io::ErrorKind::Interrupted.into() }
}
