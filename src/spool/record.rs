//! The segment record: one accepted message as bytes, and the scanner that finds records again.
//!
//! ```text
//!   0  mark          8   random, one for each segment, kept in the name of its file
//!   8  version       1   1
//!   9  kind          1   1 message; 2 message copied forward from an older segment
//!  10  flags         2   bit 0: the content is in a file of its own; bit 1: counts only with its settlement
//!  12  envelope size 4
//!  16  content size  8
//!  24  queue id      8
//!  32  envelope CRC  4
//!  36  content CRC   4
//!  40  header CRC    4   of the forty octets above
//!  44  envelope (JSON), then the content unless it is in a file of its own
//! ```
//! Numbers are little-endian, checksums CRC-32.
//!
//! Guarantee (RFC 5321 §6.1): damage costs the records it touches and no other. After damage the
//! scanner looks for the next mark. A sender cannot forge a record inside a message, because the
//! mark is not known outside this host. Nothing here panics, and nothing that fails its checksum
//! is ever given out.

use crate::envelope::QueueId;
use bytes::Bytes;

/// Octets before the envelope.
pub(crate) const HEADER_SIZE: usize = 44;

/// A thousand recipients of the longest addresses stay well below this.
pub(crate) const MAX_ENVELOPE_SIZE: usize = 16 * 1024 * 1024;

/// Larger content belongs into a file of its own; reports alone may come near to this.
pub(crate) const MAX_INLINE_SIZE: u64 = 16 * 1024 * 1024;

const VERSION: u8 = 1;
const KIND_MESSAGE: u8 = 1;
const KIND_FORWARDED: u8 = 2;
const FLAG_EXTERNAL: u16 = 1;
const FLAG_WITH_SETTLEMENT: u16 = 2;

/// Whether a record counts by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordKind {
    /// Somebody was told 250 for it, or will be.
    OnItsOwn,
    /// A report: it counts once the settlement that causes it is committed.
    WithSettlement,
    /// A copy of an older record: it counts for a message that the database knows, and in a
    /// rebuild.
    Forwarded,
}

/// What the records of one segment begin with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Mark(pub(crate) [u8; 8]);

/// The content of a record about to be written.
#[derive(Clone, Debug)]
pub(crate) enum RecordContent {
    /// In the record itself.
    Inline {
        /// All of it.
        bytes: Bytes,
        /// Its checksum.
        crc: u32,
    },
    /// In a file of its own.
    External {
        /// Its size in octets.
        size: u64,
        /// Its checksum.
        crc: u32,
    },
}

impl RecordContent {
    /// Its size in octets, wherever it is.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Inline { bytes, .. } => bytes.len() as u64,
            Self::External { size, .. } => *size,
        }
    }
}

/// A record about to be written; checksums are made by whoever hands it over, not by the writer.
#[derive(Clone, Debug)]
pub(crate) struct NewRecord {
    id: QueueId,
    envelope: Bytes,
    envelope_crc: u32,
    content: RecordContent,
    kind: RecordKind,
}

/// The envelope or the content does not fit into a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the message does not fit into a spool record")]
pub(crate) struct TooLarge;

impl NewRecord {
    /// Puts a record together.
    pub(crate) fn new(
        id: QueueId,
        envelope: Bytes,
        content: RecordContent,
        kind: RecordKind,
    ) -> Result<Self, TooLarge> {
        let inline_size = match &content {
            RecordContent::Inline { bytes, .. } => bytes.len() as u64,
            RecordContent::External { .. } => 0,
        };
        if envelope.len() > MAX_ENVELOPE_SIZE || inline_size > MAX_INLINE_SIZE {
            return Err(TooLarge);
        }
        Ok(Self { id, envelope_crc: crc32fast::hash(&envelope), envelope, content, kind })
    }

    /// Its content, or where that is.
    pub(crate) const fn content(&self) -> &RecordContent {
        &self.content
    }

    /// Appends the record to `out` and says how many octets that were.
    pub(crate) fn encode(&self, mark: Mark, out: &mut Vec<u8>) -> u64 {
        let start = out.len();
        let (external, content_crc) = match &self.content {
            RecordContent::Inline { crc, .. } => (0, *crc),
            RecordContent::External { crc, .. } => (FLAG_EXTERNAL, *crc),
        };
        let (kind, flags) = match self.kind {
            RecordKind::OnItsOwn => (KIND_MESSAGE, external),
            RecordKind::WithSettlement => (KIND_MESSAGE, external | FLAG_WITH_SETTLEMENT),
            RecordKind::Forwarded => (KIND_FORWARDED, external),
        };
        let mut header = Vec::with_capacity(HEADER_SIZE);
        header.extend_from_slice(&mark.0);
        header.extend_from_slice(&[VERSION, kind]);
        header.extend_from_slice(&flags.to_le_bytes());
        header.extend_from_slice(&u32::try_from(self.envelope.len()).unwrap_or(u32::MAX).to_le_bytes());
        header.extend_from_slice(&self.content.size().to_le_bytes());
        header.extend_from_slice(&self.id.0.to_le_bytes());
        header.extend_from_slice(&self.envelope_crc.to_le_bytes());
        header.extend_from_slice(&content_crc.to_le_bytes());
        let crc = crc32fast::hash(&header);
        out.extend_from_slice(&header);
        out.extend_from_slice(&crc.to_le_bytes());
        out.extend_from_slice(&self.envelope);
        match &self.content {
            RecordContent::Inline { bytes, .. } => out.extend_from_slice(bytes),
            RecordContent::External { .. } => {}
        }
        (out.len() - start) as u64
    }
}

/// Where the content of a record found is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stored<'a> {
    /// Here, and its checksum fits.
    Inline(&'a [u8]),
    /// In a file of its own, which must have this size and checksum.
    External {
        /// In octets.
        size: u64,
        /// CRC-32.
        crc: u32,
    },
}

/// A record whose checksums fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FoundRecord<'a> {
    /// Where it begins, in octets from the start of the segment.
    pub(crate) offset: usize,
    /// How long it is, in octets.
    pub(crate) length: usize,
    /// Whose record it is.
    pub(crate) id: QueueId,
    /// The envelope as JSON.
    pub(crate) envelope: &'a [u8],
    /// The content.
    pub(crate) content: Stored<'a>,
    /// Whether it counts by itself.
    pub(crate) kind: RecordKind,
}

/// A part of a segment, as the scanner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordPart<'a> {
    /// A whole record.
    Record(FoundRecord<'a>),
    /// Octets that are no record, up to where the next record seems to begin.
    Damaged {
        /// First octet.
        from: usize,
        /// One past the last octet.
        to: usize,
    },
    /// The end of a segment whose last write was cut off: nobody was told 250 for it.
    TornTail {
        /// First octet.
        from: usize,
    },
}

/// Why there is no record at a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RecordFault {
    /// The segment ends before the record does, or there is no header.
    Unfinished,
    /// The record is all there, and a checksum does not fit.
    Damaged,
}

/// Reads the record that begins at `offset`.
pub(crate) fn read_at(segment: &[u8], offset: usize, mark: Mark) -> Result<FoundRecord<'_>, RecordFault> {
    let rest = segment.get(offset..).unwrap_or_default();
    let header = Header::read(rest, mark).ok_or(RecordFault::Unfinished)?;
    let inline_size = if header.is_external() { 0 } else { header.content_size };
    if inline_size > MAX_INLINE_SIZE || header.envelope_size > MAX_ENVELOPE_SIZE {
        return Err(RecordFault::Damaged);
    }
    let inline_size = usize::try_from(inline_size).map_err(|_| RecordFault::Damaged)?;
    let length = HEADER_SIZE + header.envelope_size + inline_size;
    let body = rest.get(HEADER_SIZE..length).ok_or(RecordFault::Unfinished)?;
    let (envelope, content) = body.split_at_checked(header.envelope_size).ok_or(RecordFault::Unfinished)?;
    let content_fits = header.is_external() || crc32fast::hash(content) == header.content_crc;
    if crc32fast::hash(envelope) != header.envelope_crc || !content_fits {
        return Err(RecordFault::Damaged);
    }
    let content = if header.is_external() {
        Stored::External { size: header.content_size, crc: header.content_crc }
    } else {
        Stored::Inline(content)
    };
    Ok(FoundRecord { offset, length, id: header.id, envelope, content, kind: header.kind() })
}

/// Walks over a segment, or the rest of one from the begin of a record on.
pub(crate) const fn scan(segment: &[u8], mark: Mark) -> Scan<'_> {
    Scan { segment, at: 0, mark }
}

/// See [`scan`].
#[derive(Debug)]
pub(crate) struct Scan<'a> {
    segment: &'a [u8],
    at: usize,
    mark: Mark,
}

impl<'a> Iterator for Scan<'a> {
    type Item = RecordPart<'a>;

    fn next(&mut self) -> Option<RecordPart<'a>> {
        let from = self.at;
        if from >= self.segment.len() {
            return None;
        }
        let fault = match read_at(self.segment, from, self.mark) {
            Ok(found) => {
                self.at = from + found.length;
                return Some(RecordPart::Record(found));
            }
            Err(fault) => fault,
        };
        let next = self.find_mark(from + 1);
        self.at = next.unwrap_or(self.segment.len());
        Some(match (next, fault) {
            (None, RecordFault::Unfinished) => RecordPart::TornTail { from },
            (Some(_), RecordFault::Unfinished | RecordFault::Damaged) | (None, RecordFault::Damaged) => {
                RecordPart::Damaged { from, to: self.at }
            }
        })
    }
}

impl Scan<'_> {
    fn find_mark(&self, from: usize) -> Option<usize> {
        let rest = self.segment.get(from..)?;
        rest.windows(self.mark.0.len()).position(|window| window == self.mark.0).map(|found| from + found)
    }
}

struct Header {
    kind: u8,
    flags: u16,
    envelope_size: usize,
    content_size: u64,
    id: QueueId,
    envelope_crc: u32,
    content_crc: u32,
}

impl Header {
    /// `None` unless a header of this version and of a kind we know stands at the front.
    fn read(bytes: &[u8], mark: Mark) -> Option<Self> {
        let summed = bytes.get(..HEADER_SIZE - 4)?;
        let crc = u32::from_le_bytes(field(bytes, HEADER_SIZE - 4)?);
        let [version, kind] = field(bytes, 8)?;
        let known = summed.starts_with(&mark.0) && version == VERSION && matches!(kind, KIND_MESSAGE | KIND_FORWARDED);
        if !known || crc32fast::hash(summed) != crc {
            return None;
        }
        Some(Self {
            kind,
            flags: u16::from_le_bytes(field(bytes, 10)?),
            envelope_size: usize::try_from(u32::from_le_bytes(field(bytes, 12)?)).ok()?,
            content_size: u64::from_le_bytes(field(bytes, 16)?),
            id: QueueId(u64::from_le_bytes(field(bytes, 24)?)),
            envelope_crc: u32::from_le_bytes(field(bytes, 32)?),
            content_crc: u32::from_le_bytes(field(bytes, 36)?),
        })
    }

    const fn kind(&self) -> RecordKind {
        match (self.kind, self.flags & FLAG_WITH_SETTLEMENT) {
            (KIND_FORWARDED, _) => RecordKind::Forwarded,
            (_, 0) => RecordKind::OnItsOwn,
            _ => RecordKind::WithSettlement,
        }
    }

    const fn is_external(&self) -> bool {
        self.flags & FLAG_EXTERNAL != 0
    }
}

fn field<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    const MARK: Mark = Mark([7, 1, 200, 33, 0, 255, 9, 80]);

    fn kind(i: usize) -> RecordKind {
        match i {
            1 => RecordKind::Forwarded,
            3 => RecordKind::WithSettlement,
            _ => RecordKind::OnItsOwn,
        }
    }

    /// Five records; the third has its content elsewhere, the last has none.
    fn records() -> Vec<NewRecord> {
        let inline = |text: &'static str| RecordContent::Inline {
            bytes: Bytes::from_static(text.as_bytes()),
            crc: crc32fast::hash(text.as_bytes()),
        };
        let contents =
            [inline("one\r\n"), inline("two"), RecordContent::External { size: 9, crc: 5 }, inline("four"), inline("")];
        let make = |(i, content): (usize, RecordContent)| {
            NewRecord::new(QueueId(i as u64), Bytes::from(format!("{{\"n\":{i}}}")), content, kind(i)).unwrap()
        };
        contents.into_iter().enumerate().map(make).collect()
    }

    fn segment(records: &[NewRecord]) -> (Vec<u8>, Vec<usize>) {
        let mut bytes = Vec::new();
        let mut ends = Vec::new();
        for record in records {
            record.encode(MARK, &mut bytes);
            ends.push(bytes.len());
        }
        (bytes, ends)
    }

    fn found(bytes: &[u8]) -> Vec<FoundRecord<'_>> {
        let only_records = |part| match part {
            RecordPart::Record(found) => Some(found),
            RecordPart::Damaged { .. } | RecordPart::TornTail { .. } => None,
        };
        scan(bytes, MARK).filter_map(only_records).collect()
    }

    fn same(found: &FoundRecord<'_>, written: &NewRecord) -> bool {
        let content = match (&found.content, &written.content) {
            (Stored::Inline(a), RecordContent::Inline { bytes, .. }) => a == bytes,
            (Stored::External { size, crc }, RecordContent::External { size: s, crc: c }) => size == s && crc == c,
            (Stored::Inline(_), RecordContent::External { .. })
            | (Stored::External { .. }, RecordContent::Inline { .. }) => false,
        };
        found.id == written.id && found.envelope == written.envelope && found.kind == written.kind && content
    }

    #[test]
    fn what_was_written_is_found() {
        let records = records();
        let (bytes, _) = segment(&records);
        let found = found(&bytes);
        assert_eq!(found.len(), records.len());
        assert!(found.iter().zip(&records).all(|(f, r)| same(f, r)));
        assert_eq!(read_at(&bytes, found[2].offset, MARK), Ok(found[2]));
    }

    #[test]
    fn rfc5321_6_1_a_cut_at_any_octet_is_a_torn_tail_and_costs_no_whole_record() {
        let records = records();
        let (bytes, ends) = segment(&records);
        for cut in 0..bytes.len() {
            let whole = ends.iter().filter(|&&end| end <= cut).count();
            let parts: Vec<_> = scan(&bytes[..cut], MARK).collect();
            assert_eq!(found(&bytes[..cut]).len(), whole, "cut at {cut}");
            assert!(!parts.iter().any(|p| matches!(p, RecordPart::Damaged { .. })), "cut at {cut}");
        }
    }

    #[test]
    fn rfc5321_6_1_a_flipped_octet_costs_only_the_record_it_is_in() {
        let records = records();
        let (bytes, ends) = segment(&records);
        for at in 0..bytes.len() {
            for flip in [0x01, 0x80, 0xFF] {
                let mut damaged = bytes.clone();
                damaged[at] ^= flip;
                let hit = ends.iter().filter(|&&end| end <= at).count();
                let expected: Vec<_> = records.iter().enumerate().filter(|(i, _)| *i != hit).map(|(_, r)| r).collect();
                let found = found(&damaged);
                assert_eq!(found.len(), expected.len(), "flip at {at}");
                assert!(found.iter().zip(expected).all(|(f, r)| same(f, r)), "flip at {at}");
                let lost = scan(&damaged, MARK).filter(|p| !matches!(p, RecordPart::Record(_))).count();
                assert_eq!(lost, 1, "flip at {at}");
            }
        }
    }

    #[test]
    fn a_hole_of_zeros_is_one_damaged_part_and_a_tail_of_zeros_is_torn() {
        let (mut bytes, ends) = segment(&records());
        bytes[ends[0]..ends[1]].fill(0);
        bytes.extend([0; 100]);
        let lost: Vec<_> = scan(&bytes, MARK).filter(|p| !matches!(p, RecordPart::Record(_))).collect();
        assert_eq!(lost, [RecordPart::Damaged { from: ends[0], to: ends[1] }, RecordPart::TornTail { from: ends[4] }]);
    }

    #[test]
    fn a_record_inside_a_message_is_not_taken_for_one_without_the_mark() {
        let mut forged = Vec::new();
        records()[0].encode(Mark(*b"guessed!"), &mut forged);
        let crc = crc32fast::hash(&forged);
        let content = RecordContent::Inline { bytes: Bytes::from(forged), crc };
        let carrier = NewRecord::new(QueueId(9), Bytes::from_static(b"{}"), content, RecordKind::OnItsOwn).unwrap();
        let (mut bytes, _) = segment(&[carrier]);
        bytes[0] ^= 1;
        assert_eq!(found(&bytes), []);
    }

    #[test]
    fn sizes_at_the_limit_fit_and_one_more_does_not() {
        let envelope = |size: usize| Bytes::from(vec![b' '; size]);
        let external = RecordContent::External { size: u64::MAX, crc: 0 };
        let record = |size| NewRecord::new(QueueId(1), envelope(size), external.clone(), RecordKind::OnItsOwn);
        assert!(record(MAX_ENVELOPE_SIZE).is_ok());
        assert_eq!(record(MAX_ENVELOPE_SIZE + 1).err(), Some(TooLarge));
    }
}
