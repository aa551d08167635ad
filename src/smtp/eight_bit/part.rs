//! What the header of a message or of one of its parts says about its content (RFC 2045 §5, §6).

use super::Unconvertible;
use crate::smtp::header::{Line, lines};
use mail_parser::{MessageParser, MimeHeaders as _};

/// What a part is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum PartKind {
    /// Lines of text.
    Text,
    /// Anything else without parts.
    Other,
    /// Parts, each behind this line.
    Multipart {
        boundary: Vec<u8>,
        /// What its parts are when they do not say.
        is_digest: bool,
        /// Why its parts must stay as they are.
        protected: Option<Unconvertible>,
    },
    /// A whole message.
    Message,
    /// Something that must stay as it is.
    Fixed(Unconvertible),
}

/// How the content is said to be encoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Encoding {
    /// As it is, in 7 bits; the default.
    Seven,
    /// As it is, in 8 bits.
    Eight,
    /// In another way already.
    Encoded,
}

/// What a header says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct PartHeader {
    pub(super) kind: PartKind,
    pub(super) encoding: Encoding,
    pub(super) has_version: bool,
    pub(super) has_type: bool,
}

impl PartHeader {
    /// Reads a header, with its empty line. `in_digest`: a part that does not say what it is, is a
    /// message (RFC 2046 §5.1.5).
    pub(super) fn read(raw: &[u8], in_digest: Digest) -> Self {
        let named = |wanted: &[u8]| {
            let is_it = |line: &Line<'_>| matches!(line, Line::Field { name, .. } if name.eq_ignore_ascii_case(wanted));
            lines(raw).filter(is_it).count()
        };
        let (types, encodings) = (named(b"Content-Type"), named(b"Content-Transfer-Encoding"));
        let message = MessageParser::default().parse_headers(raw);
        let said = message.as_ref().and_then(|message| message.content_transfer_encoding());
        let encoding = match said.map(|said| said.trim().to_ascii_lowercase()).as_deref() {
            None | Some("7bit") => Encoding::Seven,
            Some("8bit" | "binary") => Encoding::Eight,
            Some(_) => Encoding::Encoded,
        };
        let content_type = message.as_ref().and_then(|message| message.content_type());
        let kind = match content_type {
            // Who reads which of them, nobody knows.
            _ if types > 1 || encodings > 1 => PartKind::Fixed(Unconvertible::Malformed),
            None if types > 0 => PartKind::Fixed(Unconvertible::Malformed),
            None if in_digest == Digest::Yes => PartKind::Message,
            None => PartKind::Text,
            Some(content_type) => {
                let subtype = content_type.subtype().unwrap_or_default().to_ascii_lowercase();
                let boundary = content_type.attribute("boundary").map(|boundary| boundary.as_bytes().to_vec());
                kind(&content_type.ctype().to_ascii_lowercase(), &subtype, boundary)
            }
        };
        // RFC 2045 §6.4: whatever has parts is not encoded as a whole.
        let has_parts = matches!(kind, PartKind::Multipart { .. } | PartKind::Message);
        let kind = if has_parts && encoding == Encoding::Encoded { PartKind::Other } else { kind };
        Self { kind, encoding, has_version: named(b"MIME-Version") > 0, has_type: types > 0 }
    }
}

/// Whether a part stands in a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Digest {
    Yes,
    No,
}

fn kind(main: &str, subtype: &str, boundary: Option<Vec<u8>>) -> PartKind {
    match (main, subtype, boundary) {
        ("text", ..) => PartKind::Text,
        ("multipart", _, None) => PartKind::Fixed(Unconvertible::Malformed),
        ("multipart", subtype, Some(boundary)) => {
            // RFC 1847 §2.1, §2.2: what is signed must not be changed on its way.
            let protected = match subtype {
                "signed" => Some(Unconvertible::Signed),
                "encrypted" => Some(Unconvertible::Encrypted),
                _ => None,
            };
            PartKind::Multipart { boundary, is_digest: subtype == "digest", protected }
        }
        ("message", "rfc822", _) => PartKind::Message,
        // RFC 6532 §3.7: these may be encoded in any way.
        ("message", subtype, _) if subtype.starts_with("global") => PartKind::Other,
        ("message", ..) => PartKind::Fixed(Unconvertible::Fixed),
        ("application", "pkcs7-mime" | "x-pkcs7-mime", _) => PartKind::Fixed(Unconvertible::Signed),
        _ => PartKind::Other,
    }
}

/// The lines of a header without its Content-Transfer-Encoding, and its end.
pub(super) fn without_encoding(raw: &[u8]) -> (Vec<u8>, &[u8]) {
    let (mut kept, mut rest, mut drops) = (Vec::with_capacity(raw.len()), raw, false);
    for line in lines(raw) {
        let length = rest.iter().position(|&octet| octet == b'\n').map_or(rest.len(), |at| at + 1);
        let (whole, after) = rest.split_at(length);
        rest = after;
        drops = match line {
            Line::Field { name, .. } => name.eq_ignore_ascii_case(b"Content-Transfer-Encoding"),
            Line::Folded(_) => drops,
            Line::Odd(_) => false,
        };
        if !drops {
            kept.extend_from_slice(whole);
        }
    }
    (kept, rest)
}
