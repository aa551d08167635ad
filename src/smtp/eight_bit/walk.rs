//! The parts of a message, found while its content streams by (RFC 2046 §5.1).
//!
//! Of the content one line is kept, or its beginning, and the header of the current part. The line
//! end before a boundary belongs to the boundary.

use super::Unconvertible;
use super::part::{Digest, PartHeader, PartKind};

/// So much of a line is looked at together, in octets; a boundary is shorter.
const LINE_LIMIT: usize = 4096;
/// The longest header of a part.
const HEADER_LIMIT: usize = 256 * 1024;
/// How deep parts may lie in each other.
const DEPTH_LIMIT: usize = 100;
/// The most parts of a message.
const PARTS_LIMIT: usize = 10_000;

/// A piece of a message.
#[derive(Debug)]
pub(super) enum MimePiece<'a> {
    /// The header of the message, or of a part, with its empty line.
    Header {
        raw: &'a [u8],
        part: &'a PartHeader,
        /// Why nothing in it may be changed.
        protected: Option<Unconvertible>,
    },
    /// Content of the current part, without a line end.
    Content(&'a [u8]),
    /// A line end in the content.
    LineEnd,
    /// A line that parts are divided by.
    Boundary {
        raw: &'a [u8],
        /// Whether a line end before it was held back.
        after_line_end: bool,
    },
    /// What stands between parts, and is none.
    Between { octets: &'a [u8], protected: Option<Unconvertible> },
}

#[derive(Debug, Default)]
enum MimeSection {
    #[default]
    Header,
    Content,
    Between,
}

#[derive(Debug)]
struct Container {
    boundary: Vec<u8>,
    is_digest: bool,
    protected: Option<Unconvertible>,
}

/// Where a reading stands.
#[derive(Debug, Default)]
pub(super) struct MimeWalk {
    section: MimeSection,
    line: Vec<u8>,
    /// Whether `line` goes on a line that was looked at before.
    goes_on: bool,
    header: Vec<u8>,
    containers: Vec<Container>,
    /// A line end that may belong to a boundary.
    held: bool,
    parts: usize,
    is_too_much: bool,
}

impl MimeWalk {
    /// Takes the next octets; `see` is shown what is known of them.
    pub(super) fn feed(&mut self, octets: &[u8], see: &mut dyn FnMut(MimePiece<'_>)) {
        for part in octets.split_inclusive(|&octet| octet == b'\n') {
            for piece in part.chunks(LINE_LIMIT) {
                self.line.extend_from_slice(piece);
                // A CR waits for its LF.
                let is_whole = self.line.ends_with(b"\n");
                if is_whole || (self.line.len() >= LINE_LIMIT && !self.line.ends_with(b"\r")) {
                    self.look(see);
                }
            }
        }
    }

    /// Says that there is no more; whether the structure was within bounds.
    pub(super) fn finish(&mut self, see: &mut dyn FnMut(MimePiece<'_>)) -> bool {
        if !self.line.is_empty() {
            self.look(see);
        }
        if matches!(self.section, MimeSection::Header) && !self.header.is_empty() {
            // A message that is all header.
            self.header_ends(see);
        }
        if std::mem::take(&mut self.held) {
            see(MimePiece::LineEnd);
        }
        !self.is_too_much
    }

    fn look(&mut self, see: &mut dyn FnMut(MimePiece<'_>)) {
        let line = std::mem::take(&mut self.line);
        let begins = !self.goes_on;
        self.goes_on = !line.ends_with(b"\n");
        if begins && let Some(delimiter) = self.delimiter(&line) {
            return self.boundary(&line, delimiter, see);
        }
        match self.section {
            MimeSection::Header => {
                self.header.extend_from_slice(&line);
                self.is_too_much |= self.header.len() > HEADER_LIMIT;
                if self.is_too_much {
                    self.header.clear();
                }
                if begins && line.trim_ascii().is_empty() && matches!(line.as_slice(), b"\r\n" | b"\n") {
                    self.header_ends(see);
                }
            }
            MimeSection::Content => {
                if std::mem::take(&mut self.held) {
                    see(MimePiece::LineEnd);
                }
                let text = line.strip_suffix(b"\r\n").unwrap_or(&line);
                self.held = text.len() < line.len();
                if !text.is_empty() {
                    see(MimePiece::Content(text));
                }
            }
            MimeSection::Between => see(MimePiece::Between { octets: &line, protected: self.protected() }),
        }
        self.line = line;
        self.line.clear();
    }

    fn header_ends(&mut self, see: &mut dyn FnMut(MimePiece<'_>)) {
        let raw = std::mem::take(&mut self.header);
        let in_digest = self.containers.last().is_some_and(|container| container.is_digest);
        let part = PartHeader::read(&raw, if in_digest { Digest::Yes } else { Digest::No });
        self.parts += 1;
        self.is_too_much |= self.parts > PARTS_LIMIT;
        see(MimePiece::Header { raw: &raw, part: &part, protected: self.protected() });
        self.section = match part.kind {
            PartKind::Message => MimeSection::Header,
            PartKind::Multipart { boundary, is_digest, protected } => {
                self.is_too_much |= self.containers.len() >= DEPTH_LIMIT;
                if !self.is_too_much {
                    self.containers.push(Container { boundary, is_digest, protected });
                }
                MimeSection::Between
            }
            PartKind::Text | PartKind::Other | PartKind::Fixed(_) => MimeSection::Content,
        };
    }

    fn protected(&self) -> Option<Unconvertible> {
        self.containers.iter().find_map(|container| container.protected)
    }

    /// The container that a line is a boundary of, the innermost first, and whether it ends there.
    fn delimiter(&self, line: &[u8]) -> Option<Delimiter> {
        let text = line.trim_ascii_end().strip_prefix(b"--")?;
        let found = |(depth, container): (usize, &Container)| match text.strip_prefix(container.boundary.as_slice())? {
            b"" => Some(Delimiter { depth, ends: BoundaryEnds::PartHeader }),
            b"--" => Some(Delimiter { depth, ends: BoundaryEnds::Container }),
            _ => None,
        };
        self.containers.iter().enumerate().rev().find_map(found)
    }

    fn boundary(&mut self, line: &[u8], Delimiter { depth, ends }: Delimiter, see: &mut dyn FnMut(MimePiece<'_>)) {
        if !self.header.is_empty() {
            // A part that is all header.
            self.header_ends(see);
        }
        see(MimePiece::Boundary { raw: line, after_line_end: std::mem::take(&mut self.held) });
        match ends {
            BoundaryEnds::PartHeader => {
                self.containers.truncate(depth + 1);
                self.section = MimeSection::Header;
            }
            BoundaryEnds::Container => {
                self.containers.truncate(depth);
                self.section = MimeSection::Between;
            }
        }
    }
}

/// A boundary: of the container at this depth.
#[derive(Clone, Copy, Debug)]
struct Delimiter {
    depth: usize,
    ends: BoundaryEnds,
}

/// What a boundary ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BoundaryEnds {
    PartHeader,
    Container,
}
