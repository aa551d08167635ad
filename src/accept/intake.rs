//! What content must be before it may enter the spool (RFC 5321 §2.3.8, §4.5.2, §6.3;
//! RFC 1870 §6; RFC 3030 §2), and what it asks (RFC 8689 §3).
//!
//! The first fault decides. From then on the rest is taken from the wire and dropped, so that the
//! next command is found where it really is. NUL and 8-bit octets pass unchanged. Content that
//! comes by BDAT and does not end in CRLF is stored as it is; the encoder for DATA completes it.

use super::tls_required::TlsRequired;
use crate::envelope::{BodyType, TlsRequest};
use crate::smtp::data::{DataDecoder, LineEndCheck};
use crate::smtp::header::{Line, Scanner};

/// Why the spool does not take a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpoolFault {
    /// Space is short: 452 4.3.1.
    Full,
    /// The disk failed: 451 4.3.0.
    Failed,
}

/// Why content is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ContentFault {
    /// A bare CR or LF.
    BareLineEnd,
    /// More octets than `[listen] max_message_bytes`.
    TooLarge,
    /// More Received fields than `[listen] max_received`.
    Loop,
    /// The spool did not take it.
    Spool(SpoolFault),
}

/// What content turned out to be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ContentTraits {
    /// What its header asks of TLS.
    pub tls: TlsRequest,
    /// Whether it needs `BODY=8BITMIME`.
    pub body: BodyType,
}

/// How much a message may have.
#[derive(Clone, Copy, Debug)]
pub struct MessageLimits {
    /// Octets of content.
    pub octets: u64,
    /// Received fields; more is a mail loop (RFC 5321 §6.3 asks for at least 100).
    pub received: u32,
}

/// Follows one message from the wire towards the spool.
#[derive(Debug)]
pub struct Intake {
    limits: MessageLimits,
    size: u64,
    data: DataDecoder,
    line_ends: LineEndCheck,
    header: Scanner,
    /// Received fields so far.
    hops: u32,
    tls_required: TlsRequired,
    body: BodyType,
    fault: Option<ContentFault>,
}

impl Intake {
    /// For one message.
    #[must_use]
    pub fn new(limits: MessageLimits) -> Self {
        Self {
            limits,
            size: 0,
            data: DataDecoder::default(),
            line_ends: LineEndCheck::default(),
            header: Scanner::default(),
            hops: 0,
            tls_required: TlsRequired::default(),
            body: BodyType::SevenBit,
            fault: None,
        }
    }

    /// Takes what follows DATA. Appends content to `piece`; gives the octets used and whether
    /// the end was met.
    pub fn data(&mut self, input: &[u8], piece: &mut Vec<u8>) -> (usize, bool) {
        let before = piece.len();
        let fed = self.data.feed(input, piece);
        if self.data.bare_line_end() {
            self.fail(ContentFault::BareLineEnd);
        }
        self.inspect(piece, before);
        (fed.consumed, fed.ended)
    }

    /// Takes octets of a BDAT chunk and appends them to `piece`.
    pub fn chunk(&mut self, input: &[u8], piece: &mut Vec<u8>) {
        let before = piece.len();
        self.line_ends.feed(input);
        if self.line_ends.bare_line_end() {
            self.fail(ContentFault::BareLineEnd);
        }
        piece.extend_from_slice(input);
        self.inspect(piece, before);
    }

    /// Says that the last chunk is through: a CR at its end stays bare.
    pub fn chunks_ended(&mut self) {
        if self.line_ends.ends_in_cr() {
            self.fail(ContentFault::BareLineEnd);
        }
    }

    /// Says that the spool did not take a piece.
    pub fn spool_failed(&mut self, fault: SpoolFault) {
        self.fail(ContentFault::Spool(fault));
    }

    /// How the content stands.
    ///
    /// # Errors
    /// The first fault.
    pub fn verdict(&self) -> Result<(), ContentFault> {
        self.fault.map_or(Ok(()), Err)
    }

    /// What the content is, as far as it has come.
    #[must_use]
    pub fn content(&self) -> ContentTraits {
        let mut tls_required = self.tls_required.clone();
        self.header.clone().end(|read| tls_required.line(read));
        ContentTraits { tls: tls_required.request(), body: self.body }
    }

    fn fail(&mut self, fault: ContentFault) {
        self.fault.get_or_insert(fault);
    }

    /// Looks at what was appended behind `before`; takes it back once the content is refused.
    fn inspect(&mut self, piece: &mut Vec<u8>, before: usize) {
        let added = piece.get(before..).unwrap_or_default();
        self.size = self.size.saturating_add(added.len() as u64);
        if self.size > self.limits.octets {
            self.fail(ContentFault::TooLarge);
        }
        if self.fault.is_none() {
            let Self { header, hops, tls_required, .. } = self;
            header.feed(added, |read| {
                *hops = hops.saturating_add(u32::from(is_received(read.line)));
                tls_required.line(read);
            });
        }
        if self.hops > self.limits.received {
            self.fail(ContentFault::Loop);
        }
        if self.fault.is_some() {
            piece.truncate(before);
        } else {
            if !added.is_ascii() {
                self.body = BodyType::EightBitMime;
            }
        }
    }
}

/// A field that each host on the way has put on top (RFC 5321 §4.4).
const fn is_received(line: Line<'_>) -> bool {
    match line {
        Line::Field { name, .. } => name.eq_ignore_ascii_case(b"Received"),
        Line::Folded(_) | Line::Odd(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(pieces: &[&[u8]]) -> u32 {
        let mut intake = Intake::new(MessageLimits { octets: 1000, received: 100 });
        pieces.iter().for_each(|piece| intake.chunk(piece, &mut Vec::new()));
        intake.hops
    }

    #[test]
    fn rfc5321_6_3_received_fields_are_counted_in_the_header_alone() {
        let content = b"Received: a\r\n b\r\nRECEIVED : c\r\nReceived-SPF: d\r\nX: Received: e\r\n Received: f\r\n\r\nReceived: g\r\n";
        assert_eq!(count(&[content]), 2);
        for cut in 0..=content.len() {
            let (a, b) = content.split_at(cut);
            assert_eq!(count(&[a, b]), 2, "cut at {cut}");
        }
        assert_eq!(count(&[b"\r\nReceived: x\r\n"]), 0);
        assert_eq!(count(&[b"no header line\r\nReceived: x\r\n"]), 1, "a loop is no less one for a broken header");
    }

    #[test]
    fn rfc8689_3_the_last_line_counts_without_its_end() {
        let mut intake = Intake::new(MessageLimits { octets: 1000, received: 100 });
        intake.chunk(b"TLS-Required: No", &mut Vec::new());
        assert_eq!(intake.content().tls, TlsRequest::Optional);
        intake.chunk(b"t\r\n\r\n", &mut Vec::new());
        assert_eq!(intake.content().tls, TlsRequest::ByPolicy, "it had not ended");
    }

    #[test]
    fn rfc6152_3_one_octet_anywhere_makes_content_8_bit() {
        let limits = MessageLimits { octets: 100, received: 100 };
        for (chunks, body) in [
            ([b"a: b\r\n\r\n", b"gr\xc3\xbc\xc3\x9f\r\n", b"hello\r\n\r\n"], BodyType::EightBitMime),
            ([b"a: b\r\n\r\n", b"hello\r\n\x7f", b"hello\r\n\r\n"], BodyType::SevenBit),
        ] as [([&[u8]; 3], BodyType); 2]
        {
            let mut intake = Intake::new(limits);
            chunks.iter().for_each(|chunk| intake.chunk(chunk, &mut Vec::new()));
            assert_eq!(intake.content(), ContentTraits { tls: TlsRequest::ByPolicy, body });
        }
    }

    fn verdict(limit: u64, wire: &str) -> (Result<(), ContentFault>, Vec<u8>) {
        let (mut intake, mut piece) = (Intake::new(MessageLimits { octets: limit, received: 100 }), Vec::new());
        let (_, ended) = intake.data(wire.as_bytes(), &mut piece);
        assert!(ended);
        (intake.verdict(), piece)
    }

    #[test]
    fn rfc5321_6_3_a_loop_is_noticed_above_one_hundred_hops() {
        let wire = |n: usize| format!("{}\r\nbody\r\n.\r\n", "Received: x\r\n".repeat(n));
        assert_eq!(verdict(1 << 20, &wire(100)).0, Ok(()));
        assert_eq!(verdict(1 << 20, &wire(101)).0, Err(ContentFault::Loop));
    }

    #[test]
    fn rfc1870_6_the_size_is_content_without_stuffed_dots() {
        assert_eq!(verdict(5, "..ab\r\n.\r\n"), (Ok(()), b".ab\r\n".to_vec()));
        assert_eq!(verdict(4, "..ab\r\n.\r\n"), (Err(ContentFault::TooLarge), vec![]));
    }

    #[test]
    fn rfc3030_2_a_cr_at_the_end_of_the_last_chunk_is_bare() {
        let (mut intake, mut piece) = (Intake::new(MessageLimits { octets: 100, received: 100 }), Vec::new());
        intake.chunk(b"a\r", &mut piece);
        assert_eq!(intake.verdict(), Ok(()), "an LF may follow in the next chunk");
        intake.chunks_ended();
        assert_eq!(intake.verdict(), Err(ContentFault::BareLineEnd));
        intake.spool_failed(SpoolFault::Full);
        assert_eq!(intake.verdict(), Err(ContentFault::BareLineEnd), "the first fault decides");
    }
}
