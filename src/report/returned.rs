//! What comes back of the message, as the third part of a report (RFC 6522 §3, RFC 3461 §4.3,
//! RFC 6533 §4).
//!
//! The header, unless the sender asked for the whole message, it failed, it is small, and this is the
//! first report of a failure: further ones say that it came back before. Content
//! that is not clean 7-bit cannot stand in a `message/rfc822` part on every way (RFC 2046 §5.2.1),
//! and a report must arrive on every way: then the header comes back, wrapped in quoted-printable.

use super::form::{field, is_clean, quoted_printable};
use super::{Due, Kind, ReportDraft, ReportForm};
use crate::envelope::{Charset, Origin, TlsRequest};
use crate::smtp::dsn::Ret;
use crate::smtp::header;
use crate::spool::SpoolEntry;
use mail_parser::{HeaderName, Message, MessageParser};

/// The most of the original's header that is read and returned, in octets. Exchange allows
/// headers of 128 KiB; the beginning with its Received lines is what an administrator needs.
pub const HEADER_LIMIT: usize = 64 * 1024;

/// More than our own Received line ever has, in octets.
const MOST_TRACE: u64 = 2048;

/// What the reader should know about the third part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Note {
    /// The header was longer than [`HEADER_LIMIT`].
    HeaderCut,
    /// The whole message was asked for and cannot come back.
    HeaderOnly,
    /// It came back whole with an earlier report.
    ReturnedBefore,
    /// Nothing but id and date comes back.
    Redacted,
}

/// The third part.
pub(super) struct Returned {
    pub(super) content_type: &'static str,
    pub(super) encoding: &'static str,
    pub(super) octets: Vec<u8>,
    pub(super) note: Option<Note>,
}

/// How much of the content the reports about a message need, in octets.
#[must_use]
pub fn content_wanted(entry: &SpoolEntry, reports: &[Due], return_full_below: u64) -> usize {
    let is_near = sent_at_least(entry) < return_full_below;
    let whole = is_near && reports.iter().any(|due| may_return_whole(entry, due.kind));
    let size = usize::try_from(entry.size).unwrap_or(HEADER_LIMIT);
    if whole { size.max(HEADER_LIMIT) } else { HEADER_LIMIT }
}

fn may_return_whole(entry: &SpoolEntry, kind: Kind) -> bool {
    // RFC 8689 §5: a message with REQUIRETLS is treated as with RET=HDRS at most.
    wants_whole(entry, kind) && entry.envelope.tls != TlsRequest::Required && !was_returned(entry)
}

/// The least size, in octets, that a message can have had when its sender handed it in.
fn sent_at_least(entry: &SpoolEntry) -> u64 {
    match entry.envelope.origin {
        Origin::Client(_) => entry.size.saturating_sub(MOST_TRACE),
        Origin::Report { .. } | Origin::TlsReport { .. } | Origin::Copy { .. } => entry.size,
    }
}

/// Its size when its sender handed it in: without the Received line that we have put on top.
fn sent_size(entry: &SpoolEntry, content: &[u8]) -> u64 {
    let trace = match entry.envelope.origin {
        Origin::Client(_) => trace_length(content),
        Origin::Report { .. } | Origin::TlsReport { .. } | Origin::Copy { .. } => 0,
    };
    entry.size.saturating_sub(trace)
}

/// The octets of a Received field at the beginning.
fn trace_length(content: &[u8]) -> u64 {
    if !content.starts_with(b"Received: ") {
        return 0;
    }
    let mut length = 0;
    for line in content.split_inclusive(|octet| *octet == b'\n') {
        if length > 0 && !line.starts_with(b"\t") && !line.starts_with(b" ") {
            break;
        }
        length += line.len() as u64;
    }
    length
}

/// RFC 3461 §4.3: only for failures.
fn wants_whole(entry: &SpoolEntry, kind: Kind) -> bool {
    kind == Kind::Failed && entry.envelope.dsn.ret == Some(Ret::Full)
}

/// Once is enough: every report of a failure names the message.
const fn was_returned(entry: &SpoolEntry) -> bool {
    entry.reported.failed.made > 0
}

/// The part for this report.
pub(super) fn part(draft: &ReportDraft<'_>) -> Returned {
    let (entry, content) = (draft.original.entry, draft.original.content);
    if entry.envelope.tls == TlsRequest::Required {
        let octets = redacted(content);
        return Returned { content_type: "text/rfc822-headers", encoding: "7bit", octets, note: Some(Note::Redacted) };
    }
    let is_whole = content.len() as u64 == entry.size;
    let is_small = sent_size(entry, content) < draft.context.return_full_below;
    let may = is_small && may_return_whole(entry, draft.due.kind);
    if may && is_whole && content.ends_with(b"\r\n") && is_clean(content) {
        return Returned { content_type: "message/rfc822", encoding: "7bit", octets: content.to_vec(), note: None };
    }
    let (header, header_note) = header_block(content);
    let is_new = !was_returned(entry) || !is_small;
    let why_not_whole = if is_new { Note::HeaderOnly } else { Note::ReturnedBefore };
    let note = header_note.or_else(|| wants_whole(entry, draft.due.kind).then_some(why_not_whole));
    let content_type = match (entry.envelope.charset, header.is_ascii()) {
        (Charset::Utf8, false) => "message/global-headers",
        (Charset::Utf8, true) | (Charset::Ascii, _) => "text/rfc822-headers",
    };
    match is_clean(header) {
        true => Returned { content_type, encoding: "7bit", octets: header.to_vec(), note },
        false => Returned { content_type, encoding: "quoted-printable", octets: quoted_printable(header), note },
    }
}

/// The header at the beginning of `content`, without the empty line. One that was cut ends with
/// its last whole line.
pub(super) fn header_block(content: &[u8]) -> (&[u8], Option<Note>) {
    let within = content.get(..HEADER_LIMIT).unwrap_or(content);
    if let Some(length) = header::length(within) {
        return (within.get(..length).unwrap_or(within), None);
    }
    if content.len() < HEADER_LIMIT {
        return (within, None);
    }
    let last_line_end = within.windows(2).rposition(|window| window == b"\r\n");
    let whole_lines = last_line_end.and_then(|end| within.get(..end + 2));
    (whole_lines.unwrap_or(within), Some(Note::HeaderCut))
}

/// Of a message with REQUIRETLS: what names it and nothing that tells of it.
///
/// RFC 8689 §5 leaves two ways: the report goes out with REQUIRETLS itself, or redacted and
/// without. The mail system that handed the message in seldom offers REQUIRETLS, and a report that
/// cannot arrive leaves its reader in the dark: so it is redacted, and goes as any other.
fn redacted(content: &[u8]) -> Vec<u8> {
    let parsed = MessageParser::default().parse_headers(header_block(content).0);
    let Some(message) = parsed else { return Vec::new() };
    let id = sane_message_id(&message).map(|id| field("Message-ID", &format!("<{id}>")));
    let date = raw_value(&message, &HeaderName::Date).map(|date| field("Date", &String::from_utf8_lossy(&date)));
    id.into_iter().chain(date).collect::<String>().into_bytes()
}

/// The longest Message-ID that is repeated, in octets; it must fit one line.
const MESSAGE_ID_LIMIT: usize = 400;

/// The id without brackets, when it is one and can stand in one line (RFC 5322 §3.6.4).
pub(super) fn sane_message_id<'m>(original: &'m Message<'_>) -> Option<&'m str> {
    let is_id_octet = |b: u8| b.is_ascii_graphic() && b != b'<' && b != b'>';
    original.message_id().filter(|id| id.len() <= MESSAGE_ID_LIMIT && id.contains('@') && id.bytes().all(is_id_octet))
}

/// The value of a field as it was written, unfolded by taking the line ends out.
pub(super) fn raw_value(message: &Message<'_>, name: &HeaderName<'_>) -> Option<Vec<u8>> {
    let header = message.headers().iter().find(|header| header.name == *name)?;
    let (from, to) = (usize::try_from(header.offset_start).ok()?, usize::try_from(header.offset_end).ok()?);
    let raw = message.raw_message().get(from..to)?;
    Some(raw.iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect())
}

impl ReportForm {
    /// The type of the second part (RFC 6533 §4).
    pub(super) const fn status_type(self) -> &'static str {
        match self {
            Self::SevenBit => "message/delivery-status",
            Self::Utf8 => "message/global-delivery-status",
        }
    }
}
