//! The sum of what was accepted, from the store itself (RFC 5321 §6.1: nothing is lost in silence).
//!
//! accepted recipients = delivered + failed and told of + failed and silent by a rule + removed by
//! the operator + waiting, for an attempt or for the report about their failure. Counters could drift together with what they count; here every
//! recipient is looked at. A report that tells of a failure must exist, and is itself a message
//! that is accounted for. What the segments hold must be in the database, and what waits must be
//! in the segments with its content.
//!
//! Cost: a sixth of the time it took to accept the messages; [`Depth::Everything`], which reads all
//! segments too, takes two fifths (`cargo bench --bench spool`). It goes in batches, each a
//! read transaction of its own, so that the writer is never held up.
#![expect(clippy::disallowed_methods, reason = "this file is one of the engine's doors to the disk")]

use super::jobs::{ContentPlace, RecordPlace};
use super::paths::list_segments;
use super::reader::StateReader;
use super::schema::{MESSAGE_COLUMNS, is_of_the_row, message_columns, message_of, place_columns, place_of, unsigned};
use crate::envelope::{Envelope, QueueId};
use crate::outcome::DeliveryOutcome;
use crate::smtp::address::ReversePath;
use crate::spool::RecipientState;
use crate::spool::audit::{Audit, AuditFault, AuditFinding, Depth, Sum};
use crate::spool::event::Silence;
use crate::spool::ledger::{LedgerError, LedgerMessage, LedgerRecipient, MessageState, ToldBy};
use crate::spool::record::{self, Mark, RecordPart, Stored};
use rusqlite::{OptionalExtension, params};
use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

/// Messages looked at in one read transaction: a tenth of a second.
const BATCH: u32 = 2000;

/// Faults that are listed; more are only counted.
const MOST_LISTED: usize = 1000;

/// Octets read of a file at once.
const PIECE: usize = 256 * 1024;

/// An audit under way.
pub struct Auditor {
    ledger: StateReader,
    depth: Depth,
    next: NextStep,
    sum: Sum,
    findings: BTreeMap<QueueId, AuditFinding>,
}

enum NextStep {
    Messages { after: i64 },
    Orphans,
    Segments(Vec<(u32, Mark, PathBuf)>),
}

/// The segments by number.
type SegmentFiles = BTreeMap<u32, (Mark, PathBuf)>;

impl Auditor {
    /// Begins an audit of a spool directory, beside a relay that runs or without one.
    ///
    /// # Errors
    /// As [`StateReader::open`].
    pub fn open(spool: &Path, depth: Depth) -> Result<Self, LedgerError> {
        let ledger = StateReader::open(spool)?;
        let next = NextStep::Messages { after: -1 };
        Ok(Self { ledger, depth, next, sum: Sum::default(), findings: BTreeMap::new() })
    }

    /// Does all that is left; blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn finish(mut self) -> Result<Audit, LedgerError> {
        loop {
            if let ControlFlow::Break(audit) = self.step()? {
                return Ok(audit);
            }
        }
    }

    /// Does a bounded piece of work; blocks.
    ///
    /// # Errors
    /// When the database cannot be read.
    pub fn step(&mut self) -> Result<ControlFlow<Audit>, LedgerError> {
        match std::mem::replace(&mut self.next, NextStep::Orphans) {
            NextStep::Messages { after } => {
                let last = self.in_one_view(|auditor| auditor.messages(after))?;
                self.next = last.map_or(NextStep::Orphans, |after| NextStep::Messages { after });
            }
            NextStep::Orphans => {
                self.in_one_view(Self::orphans)?;
                let segments = match self.depth {
                    Depth::Rows => Vec::new(),
                    Depth::Everything => list_segments(&self.ledger.paths.segments()).unwrap_or_default(),
                };
                self.next = NextStep::Segments(segments);
            }
            NextStep::Segments(mut left) => {
                let Some((number, mark, path)) = left.pop() else { return Ok(ControlFlow::Break(self.audit())) };
                self.segment(number, mark, &path)?;
                self.next = NextStep::Segments(left);
            }
        }
        Ok(ControlFlow::Continue(()))
    }

    fn audit(&mut self) -> Audit {
        let findings: Vec<AuditFinding> = std::mem::take(&mut self.findings).into_values().collect();
        let unaccounted = findings.iter().map(|finding| finding.recipients).sum();
        Audit { sum: Sum { unaccounted, ..self.sum }, findings: findings.into_iter().take(MOST_LISTED).collect() }
    }

    /// What is read in one view of the database fits together.
    fn in_one_view<T>(&mut self, work: impl FnOnce(&mut Self) -> Result<T, LedgerError>) -> Result<T, LedgerError> {
        self.ledger.connection.execute_batch("BEGIN")?;
        let result = work(self);
        self.ledger.connection.execute_batch("COMMIT")?;
        result
    }

    /// Looks at a batch of messages. Gives the last one, unless there are no more.
    fn messages(&mut self, after: i64) -> Result<Option<i64>, LedgerError> {
        let ids: Vec<i64> = {
            let mut select =
                self.ledger.connection.prepare_cached("SELECT id FROM messages WHERE id > ?1 ORDER BY id LIMIT ?2")?;
            select.query_map(params![after, BATCH], |row| row.get(0))?.collect::<Result<_, _>>()?
        };
        let segments = self.segment_files();
        for &id in &ids {
            self.message(id, &segments)?;
        }
        Ok(ids.last().copied())
    }

    fn segment_files(&self) -> SegmentFiles {
        let segments = list_segments(&self.ledger.paths.segments()).unwrap_or_default();
        segments.into_iter().map(|(number, mark, path)| (number, (mark, path))).collect()
    }

    fn message(&mut self, id: i64, segments: &SegmentFiles) -> Result<(), LedgerError> {
        self.sum.messages += 1;
        let queue_id = QueueId(id.cast_unsigned());
        let read = self
            .ledger
            .connection
            .prepare_cached(concat!(
                "SELECT ",
                message_columns!(),
                ", ",
                place_columns!(),
                " FROM messages WHERE id = ?1"
            ))?
            .query_row([id], |row| Ok((message_of(row)?, place_of(row, MESSAGE_COLUMNS)?)));
        let (message, place) = match read {
            Ok((message, place)) => (self.ledger.with_recipients(message)?, place),
            Err(error) if !is_of_the_row(&error) => return Err(error.into()),
            Err(_unreadable) => {
                let recipients = self.recipient_rows(id)?;
                self.sum.accepted += recipients;
                self.find(queue_id, AuditFault::RowUnreadable, recipients, Vec::new());
                return Ok(());
            }
        };
        self.sum.accepted += message.recipients.len() as u64;
        let before = self.sum.queued;
        for (index, recipient) in message.recipients.iter().enumerate() {
            let address = || message.envelope.recipients.get(index).map(ToString::to_string).unwrap_or_default();
            match recipient {
                None => self.find(queue_id, AuditFault::RecipientMissing, 1, vec![address()]),
                Some(recipient) => {
                    if let Some(fault) = self.recipient(&message, recipient)? {
                        self.find(queue_id, fault, 1, vec![address()]);
                    }
                }
            }
        }
        let waiting = self.sum.queued - before;
        if waiting > 0
            && let Some(fault) = self.content_fault(&message, &place, segments)
        {
            self.sum.queued = before;
            let addresses = message.open().map(|recipient| recipient.address.clone()).collect();
            self.find(queue_id, fault, waiting, addresses);
        }
        Ok(())
    }

    /// Counts a recipient where it belongs, or says why it belongs nowhere.
    fn recipient(
        &mut self,
        message: &LedgerMessage,
        recipient: &LedgerRecipient,
    ) -> Result<Option<AuditFault>, LedgerError> {
        let column = match &recipient.state {
            RecipientState::Queued(_) | RecipientState::Owed(_) if message.standing == MessageState::Finished => {
                return Ok(Some(AuditFault::FinishedAndWaiting));
            }
            // Whoever failed and has to be told of waits for the report.
            RecipientState::Queued(_) => &mut self.sum.queued,
            RecipientState::Owed(owed) if owed.cause().is_some() => &mut self.sum.queued,
            RecipientState::Owed(_) => &mut self.sum.delivered,
            RecipientState::Removed => &mut self.sum.removed,
            RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } } => &mut self.sum.delivered,
            RecipientState::Done { outcome: DeliveryOutcome::Failed { .. } } => match recipient.told {
                None => return Ok(Some(AuditFault::NobodyTold)),
                Some(ToldBy::Nobody(because)) => {
                    let holds = match because {
                        Silence::NullReversePath => message.envelope.reverse_path == ReversePath::Null,
                        Silence::NotAsked => true,
                    };
                    if !holds {
                        return Ok(Some(AuditFault::NoSuchRule));
                    }
                    &mut self.sum.suppressed
                }
                Some(ToldBy::Report(report)) => {
                    let mut select = self.ledger.connection.prepare_cached("SELECT 1 FROM messages WHERE id = ?1")?;
                    if !select.exists([report.0.cast_signed()])? {
                        return Ok(Some(AuditFault::ReportMissing));
                    }
                    &mut self.sum.told
                }
            },
        };
        *column += 1;
        Ok(None)
    }

    /// Whether what waits could be delivered.
    fn content_fault(
        &self,
        message: &LedgerMessage,
        place: &RecordPlace,
        segments: &SegmentFiles,
    ) -> Option<AuditFault> {
        let fault = match segments.get(&place.segment) {
            None => Some(AuditFault::ContentMissing),
            Some((mark, path)) => self.record_fault(message, place, *mark, path),
        }?;
        // Since this view of the database began it may have been finished, or copied forward by
        // compaction, and its segment removed.
        let now = StateReader::open(self.ledger.paths.root()).ok()?;
        let (finished, place_now) = now
            .connection
            .query_row(
                concat!("SELECT finished_at IS NOT NULL, ", place_columns!(), " FROM messages WHERE id = ?1"),
                [message.id.0.cast_signed()],
                |row| Ok((row.get(0)?, place_of(row, 1)?)),
            )
            .optional()
            .ok()??;
        match (finished, place_now == *place) {
            (true, _) => None,
            (false, true) => Some(fault),
            (false, false) => self.content_fault(message, &place_now, &self.segment_files()),
        }
    }

    fn record_fault(
        &self,
        message: &LedgerMessage,
        place: &RecordPlace,
        mark: Mark,
        path: &Path,
    ) -> Option<AuditFault> {
        let Ok(file) = File::open(path) else { return Some(AuditFault::ContentMissing) };
        let own = self.ledger.paths.content(message.id);
        if file.metadata().map_or(0, |found| found.len()) < place.offset.saturating_add(place.length)
            || place.content == ContentPlace::OwnFile
                && std::fs::metadata(&own).map_or(0, |found| found.len()) != message.size
        {
            return Some(AuditFault::ContentMissing);
        }
        if self.depth == Depth::Rows {
            return None;
        }
        let longest = record::HEADER_SIZE as u64 + record::MAX_ENVELOPE_SIZE as u64 + record::MAX_INLINE_SIZE;
        let mut octets = vec![0; usize::try_from(place.length.min(longest)).unwrap_or(0)];
        if file.read_exact_at(&mut octets, place.offset).is_err() {
            return Some(AuditFault::ContentMissing);
        }
        match record::read_at(&octets, 0, mark) {
            Ok(found) if found.id == message.id => match found.content {
                Stored::Inline(_) => None,
                Stored::External { crc, .. } => (checksum(&own) != Some(crc)).then_some(AuditFault::ContentDamaged),
            },
            Ok(_) | Err(_) => Some(AuditFault::ContentDamaged),
        }
    }

    /// Recipients and histories whose message is gone.
    fn orphans(&mut self) -> Result<(), LedgerError> {
        let orphans: Vec<(i64, u64)> = {
            let mut select = self.ledger.connection.prepare_cached(
                "SELECT message, count(*) FROM recipients WHERE NOT EXISTS (SELECT 1 FROM messages WHERE id = message) \
                 GROUP BY message LIMIT ?1",
            )?;
            select.query_map([BATCH], |row| Ok((row.get(0)?, unsigned(row.get(1)?))))?.collect::<Result<_, _>>()?
        };
        for (id, recipients) in orphans {
            self.sum.accepted += recipients;
            self.find(QueueId(id.cast_unsigned()), AuditFault::RowMissing, recipients, Vec::new());
        }
        Ok(())
    }

    /// Whether the database knows what a segment holds. Records behind the mark are on their way
    /// into it; reports count with their settlement; what was pruned was finished.
    fn segment(&mut self, number: u32, mark: Mark, path: &Path) -> Result<(), LedgerError> {
        let applied = (self.meta("applied_segment")?.unwrap_or(0), self.meta("applied_offset")?.unwrap_or(0));
        // Dead segments are removed at any time.
        let Ok(octets) = std::fs::read(path) else { return Ok(()) };
        for part in record::scan(&octets, mark) {
            let RecordPart::Record(found) = part else { continue };
            let end = i64::try_from(found.offset + found.length).unwrap_or(i64::MAX);
            let on_its_way = (i64::from(number), end) > applied;
            if on_its_way || found.kind == record::RecordKind::WithSettlement {
                continue;
            }
            let id = found.id.0.cast_signed();
            let known = self.ledger.connection.prepare_cached("SELECT 1 FROM messages WHERE id = ?1")?.exists([id])?;
            let Ok(envelope) = serde_json::from_slice::<Envelope>(found.envelope) else { continue };
            // Asked after the row, which may be pruned at this very moment.
            if !known && self.meta("pruned_accepted_at")?.is_none_or(|pruned| envelope.accepted_at.0 > pruned) {
                let addresses: Vec<String> = envelope.recipients.iter().map(ToString::to_string).collect();
                if !self.findings.contains_key(&found.id) {
                    self.sum.accepted += addresses.len() as u64;
                }
                self.findings.remove(&found.id);
                self.find(found.id, AuditFault::RowMissing, addresses.len() as u64, addresses);
            }
        }
        Ok(())
    }

    fn meta(&self, name: &str) -> Result<Option<i64>, LedgerError> {
        let mut select = self.ledger.connection.prepare_cached("SELECT value FROM meta WHERE name = ?1")?;
        Ok(select.query_row([name], |row| row.get(0)).optional()?)
    }

    fn recipient_rows(&self, id: i64) -> Result<u64, LedgerError> {
        let mut select = self.ledger.connection.prepare_cached("SELECT count(*) FROM recipients WHERE message = ?1")?;
        Ok(select.query_row([id], |row| row.get(0).map(unsigned))?)
    }

    fn find(&mut self, id: QueueId, fault: AuditFault, recipients: u64, addresses: Vec<String>) {
        let fresh = AuditFinding { id, fault, recipients: 0, addresses: Vec::new() };
        let finding = self.findings.entry(id).or_insert(fresh);
        finding.recipients += recipients;
        finding.addresses.extend(addresses);
    }
}

/// The CRC-32 of a file; `None` when it cannot be read.
fn checksum(path: &Path) -> Option<u32> {
    let mut file = File::open(path).ok()?;
    let mut crc = crc32fast::Hasher::new();
    let mut piece = vec![0; PIECE];
    loop {
        match file.read(&mut piece).ok()? {
            0 => return Some(crc.finalize()),
            read => crc.update(piece.get(..read)?),
        }
    }
}
