//! The content of a message for its operator: read beside a relay that runs, and held against its checksum.
#![expect(clippy::disallowed_methods, reason = "this file is one of the engine's doors to the disk")]

use super::jobs::RecordPlace;
use super::paths::list_segments;
use super::reader::StateReader;
use super::schema::{place_columns, place_of};
use crate::envelope::QueueId;
use crate::spool::EngineError;
use crate::spool::ledger::LedgerError;
use crate::spool::record::{self, Stored};
use bytes::Bytes;
use rusqlite::OptionalExtension as _;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;

impl StateReader {
    /// The whole content of a message; `None` when it is not known, or its content is gone with the last of
    /// its recipients.
    ///
    /// # Errors
    /// When the database cannot be read, or what is found does not fit its checksum.
    pub fn content(&self, id: QueueId) -> Result<Option<Bytes>, LedgerError> {
        let found = self.content_once(id);
        // Compaction may have moved the record between the question and the answer.
        if matches!(found, Ok(Some(_))) { found } else { self.content_once(id) }
    }

    fn content_once(&self, id: QueueId) -> Result<Option<Bytes>, LedgerError> {
        let place: Option<RecordPlace> = self
            .connection
            .prepare_cached(concat!("SELECT ", place_columns!(), " FROM messages WHERE id = ?1"))?
            .query_row([id.0.cast_signed()], |row| place_of(row, 0))
            .optional()?;
        let Some(place) = place else { return Ok(None) };
        let segments = list_segments(&self.paths.segments()).unwrap_or_default();
        let Some((_, mark, path)) = segments.into_iter().find(|(number, ..)| *number == place.segment) else {
            return Ok(None);
        };
        let mut octets = vec![0; usize::try_from(place.length).unwrap_or(0)];
        match File::open(path).and_then(|file| file.read_exact_at(&mut octets, place.offset)) {
            Ok(()) => {}
            Err(error) if is_gone(&error) => return Ok(None),
            Err(error) => return Err(broken(error)),
        }
        let record = record::read_at(&octets, 0, mark).ok().filter(|found| found.id == id);
        match record.map(|found| found.content) {
            Some(Stored::Inline(content)) => Ok(Some(Bytes::copy_from_slice(content))),
            Some(Stored::External { size, crc }) => self.own_file(id, size, crc),
            None => Err(broken(damaged())),
        }
    }

    fn own_file(&self, id: QueueId, size: u64, crc: u32) -> Result<Option<Bytes>, LedgerError> {
        match std::fs::read(self.paths.content(id)) {
            Ok(content) if content.len() as u64 == size && crc32fast::hash(&content) == crc => Ok(Some(content.into())),
            Ok(_) => Err(broken(damaged())),
            Err(error) if is_gone(&error) => Ok(None),
            Err(error) => Err(broken(error)),
        }
    }
}

fn is_gone(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::NotFound
}

fn damaged() -> io::Error {
    io::Error::other("it does not fit its checksum; `relay audit` says more")
}

fn broken(error: io::Error) -> LedgerError {
    LedgerError::Engine(EngineError { store: "reading the content", source: Box::new(error) })
}
