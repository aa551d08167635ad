//! 8-bit content made fit for a server that knows only seven (RFC 6152 §3): text becomes
//! quoted-printable and everything else base64 (RFC 2045 §6), part by part, while the content streams
//! by. What is 7-bit already stays as it is, octet for octet.
//!
//! The content is read twice. The first reading ([`Survey`]) finds the parts that need it and whether
//! they may be changed at all: never one that is signed or encrypted (RFC 1847 §2.1). The second
//! ([`Converter`]) changes them. Memory is bounded by a header and a line.
//!
//! A signature over the whole message in its header (DKIM) does not keep it from being converted: who
//! cannot check it treats the message as one without (RFC 6376 §6.1), and RFC 6376 §5.3 asks whoever
//! signs to reckon with this. That the message arrives counts for more.

mod encode;
mod part;
mod walk;

use encode::Encoder;
use part::{Encoding, PartHeader, PartKind};
use serde::{Deserialize, Serialize};
use std::fmt;
use walk::{MimePiece, MimeWalk};

/// Why content cannot be converted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Unconvertible {
    /// The 8-bit part is signed.
    Signed,
    /// The 8-bit part is encrypted.
    Encrypted,
    /// It is of a kind that has to stay as it is (RFC 2046 §5.2).
    Fixed,
    /// The 8-bit octets stand in a header.
    Header,
    /// Its structure cannot be relied on, or is larger than anything honest.
    Malformed,
}

impl fmt::Display for Unconvertible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Signed => "it is signed, and the signature would break",
            Self::Encrypted => "it is encrypted",
            Self::Fixed => "it is in a part that has to stay as it is",
            Self::Header => "it stands in a header",
            Self::Malformed => "the structure of the message is not sound",
        })
    }
}

/// What happens to a part.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Change {
    /// It stays as it is.
    #[default]
    None,
    /// It is said to be 8-bit; what is in it is 7-bit after all, or will be.
    Label,
    /// Its content becomes quoted-printable; whether all of it is UTF-8.
    QuotedPrintable(TextCharset),
    /// Its content becomes base64.
    Base64,
}

/// What the text of a part is that does not say it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum TextCharset {
    #[default]
    Utf8,
    Unknown,
}

/// What happens to the parts of one message, in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct ConversionPlan {
    changes: Vec<Change>,
}

/// The first reading.
#[derive(Debug, Default)]
pub(crate) struct Survey {
    walk: MimeWalk,
    findings: Findings,
}

#[derive(Debug, Default)]
struct Findings {
    plan: ConversionPlan,
    current: Option<Current>,
    fault: Option<Unconvertible>,
}

/// The part that is read.
#[derive(Debug)]
struct Current {
    kind: PartKind,
    encoding: Encoding,
    is_protected: Option<Unconvertible>,
    is_eight_bit: bool,
    text: Utf8Check,
}

impl Survey {
    /// Takes the next piece of content.
    pub(crate) fn feed(&mut self, piece: &[u8]) {
        let findings = &mut self.findings;
        self.walk.feed(piece, &mut |piece| findings.see(&piece));
    }

    /// What is to be done, after the last piece.
    ///
    /// # Errors
    /// Why nothing can be.
    pub(crate) fn finish(mut self) -> Result<ConversionPlan, Unconvertible> {
        let findings = &mut self.findings;
        let is_sound = self.walk.finish(&mut |piece| findings.see(&piece));
        self.findings.part_ends();
        match self.findings.fault {
            Some(fault) => Err(fault),
            None if !is_sound => Err(Unconvertible::Malformed),
            None => Ok(self.findings.plan),
        }
    }
}

impl Findings {
    fn see(&mut self, piece: &MimePiece<'_>) {
        match piece {
            MimePiece::Header { raw, part, protected } => {
                self.part_ends();
                if !raw.is_ascii() {
                    self.fail(Unconvertible::Header);
                }
                self.plan.changes.push(Change::None);
                self.current = Some(Current {
                    kind: part.kind.clone(),
                    encoding: part.encoding,
                    is_protected: *protected,
                    is_eight_bit: false,
                    text: Utf8Check::default(),
                });
            }
            MimePiece::Content(octets) => {
                if let Some(current) = &mut self.current {
                    current.is_eight_bit |= !octets.is_ascii();
                    current.text.feed(octets);
                }
            }
            MimePiece::LineEnd => {
                if let Some(current) = &mut self.current {
                    current.text.feed(b"\r\n");
                }
            }
            MimePiece::Boundary { .. } => self.part_ends(),
            // Nobody reads what stands between parts; but a signature may reach over it.
            MimePiece::Between { octets, protected } => {
                if let (false, Some(protected)) = (octets.is_ascii(), protected) {
                    self.fail(*protected);
                }
            }
        }
    }

    fn part_ends(&mut self) {
        let Some(current) = self.current.take() else { return };
        let change = match current.change() {
            Ok(change) => change,
            Err(fault) => return self.fail(fault),
        };
        if let Some(last) = self.plan.changes.last_mut() {
            *last = change;
        }
    }

    fn fail(&mut self, fault: Unconvertible) {
        self.fault.get_or_insert(fault);
    }
}

impl Current {
    fn change(&self) -> Result<Change, Unconvertible> {
        if !self.is_eight_bit {
            let is_mislabelled = self.encoding == Encoding::Eight && self.is_protected.is_none();
            return Ok(if is_mislabelled { Change::Label } else { Change::None });
        }
        if let Some(protected) = self.is_protected {
            return Err(protected);
        }
        match (&self.kind, self.encoding) {
            (PartKind::Fixed(why), _) => Err(*why),
            (_, Encoding::Encoded) | (PartKind::Multipart { .. } | PartKind::Message, _) => {
                Err(Unconvertible::Malformed)
            }
            (PartKind::Text, Encoding::Seven | Encoding::Eight) => Ok(Change::QuotedPrintable(self.text.charset())),
            (PartKind::Other, Encoding::Seven | Encoding::Eight) => Ok(Change::Base64),
        }
    }
}

/// Whether octets that come in pieces are UTF-8.
#[derive(Debug, Default)]
struct Utf8Check {
    /// The beginning of a character that is not whole.
    open: Vec<u8>,
    is_broken: bool,
}

impl Utf8Check {
    fn feed(&mut self, octets: &[u8]) {
        if self.is_broken || (self.open.is_empty() && octets.is_ascii()) {
            return;
        }
        self.open.extend_from_slice(octets);
        match std::str::from_utf8(&self.open) {
            Ok(_) => self.open.clear(),
            Err(error) if error.error_len().is_none() => {
                let whole = error.valid_up_to();
                self.open.drain(..whole);
            }
            Err(_) => {
                self.is_broken = true;
                self.open.clear();
            }
        }
    }

    fn charset(&self) -> TextCharset {
        if self.is_broken || !self.open.is_empty() { TextCharset::Unknown } else { TextCharset::Utf8 }
    }
}

/// The second reading.
#[derive(Debug)]
pub(crate) struct Converter {
    walk: MimeWalk,
    writer: ConversionWriter,
}

#[derive(Debug)]
struct ConversionWriter {
    plan: std::vec::IntoIter<Change>,
    /// A field that stands on top of the message, with its CRLF.
    note: Option<String>,
    parts: usize,
    encoder: Encoder,
    wire: Vec<u8>,
}

impl Converter {
    /// Changes what the plan says; `note` is a header field that says who did so.
    #[must_use]
    pub(crate) fn new(plan: &ConversionPlan, note: String) -> Self {
        let (plan, encoder) = (plan.changes.clone().into_iter(), Encoder::None);
        Self {
            walk: MimeWalk::default(),
            writer: ConversionWriter { plan, note: Some(note), parts: 0, encoder, wire: Vec::new() },
        }
    }

    /// Takes the next piece of content; gives what it has become.
    pub(crate) fn feed(&mut self, piece: &[u8]) -> Vec<u8> {
        let writer = &mut self.writer;
        self.walk.feed(piece, &mut |piece| writer.write(&piece));
        std::mem::take(&mut self.writer.wire)
    }

    /// The rest, after the last piece.
    #[must_use]
    pub(crate) fn finish(mut self) -> Vec<u8> {
        let writer = &mut self.writer;
        let _the_survey_has_judged = self.walk.finish(&mut |piece| writer.write(&piece));
        self.writer.part_ends();
        self.writer.wire
    }
}

impl ConversionWriter {
    fn write(&mut self, piece: &MimePiece<'_>) {
        match piece {
            MimePiece::Header { raw, part, .. } => {
                self.part_ends();
                self.wire.extend(self.note.take().into_iter().flat_map(String::into_bytes));
                let change = self.plan.next().unwrap_or_default();
                self.parts += 1;
                self.header(raw, part, change);
                self.encoder = match change {
                    Change::None | Change::Label => Encoder::None,
                    Change::QuotedPrintable(_) => Encoder::quoted_printable(),
                    Change::Base64 => Encoder::base64(),
                };
            }
            MimePiece::Content(octets) => self.encoder.text(octets, &mut self.wire),
            MimePiece::LineEnd => self.encoder.line_end(&mut self.wire),
            MimePiece::Boundary { raw, after_line_end } => {
                self.part_ends();
                if *after_line_end {
                    self.wire.extend_from_slice(b"\r\n");
                }
                self.wire.extend_from_slice(raw);
            }
            MimePiece::Between { octets, .. } => {
                self.wire.extend(octets.iter().map(|&octet| if octet.is_ascii() { octet } else { b'?' }));
            }
        }
    }

    fn part_ends(&mut self) {
        std::mem::replace(&mut self.encoder, Encoder::None).finish(&mut self.wire);
    }

    fn header(&mut self, raw: &[u8], part: &PartHeader, change: Change) {
        let (encoding, charset) = match change {
            Change::None => return self.wire.extend_from_slice(raw),
            Change::Label => (None, None),
            Change::QuotedPrintable(charset) => (Some("quoted-printable"), Some(charset)),
            Change::Base64 => (Some("base64"), None),
        };
        let (lines, end) = part::without_encoding(raw);
        self.wire.extend(lines);
        let mut add = |field: &str| self.wire.extend_from_slice(field.as_bytes());
        // RFC 2045 §4: at the top nothing of this counts without it.
        if self.parts == 1 && !part.has_version {
            add("MIME-Version: 1.0\r\n");
        }
        match charset.filter(|_| !part.has_type) {
            Some(TextCharset::Utf8) => add("Content-Type: text/plain; charset=utf-8\r\n"),
            Some(TextCharset::Unknown) => add("Content-Type: text/plain; charset=unknown-8bit\r\n"),
            None => {}
        }
        if let Some(encoding) = encoding {
            add(&format!("Content-Transfer-Encoding: {encoding}\r\n"));
        }
        self.wire.extend_from_slice(end);
    }
}

#[cfg(test)]
mod tests;
