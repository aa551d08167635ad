//! The report as a message: header, three parts, a boundary that is in none of them
//! (RFC 6522 §3, RFC 3834 §3.1, RFC 5322 §3.6).
//!
//! All of it is 7-bit: a report must reach its reader over any path, and it comes from the null
//! reverse-path, so nobody would learn that it did not. The header of the original is returned
//! octet for octet; one that is not clean 7-bit is wrapped in quoted-printable, which RFC 6522
//! §4 provides for.

use super::form::{encoded_words, field, is_clean, quoted_printable};
use super::words::Returned;
use super::{HEADER_LIMIT, Ndr, status, words};
use mail_parser::{HeaderName, Message, MessageParser};

/// The longest part of the original's subject that is repeated, in octets.
const SUBJECT_LIMIT: usize = 200;
/// The longest Message-ID that is repeated, in octets; it must fit one line.
const MESSAGE_ID_LIMIT: usize = 400;

/// The whole report.
pub(super) fn message(ndr: &Ndr<'_>) -> Vec<u8> {
    let (header, returned) = header_block(ndr.original.header);
    let (encoding, attached) =
        if is_clean(header) { ("7bit", header.to_vec()) } else { ("quoted-printable", quoted_printable(header)) };
    let parts = [
        ("text/plain; charset=us-ascii", "7bit", words::part(ndr, returned).into_bytes()),
        ("message/delivery-status", "7bit", status::part(ndr).into_bytes()),
        ("text/rfc822-headers", encoding, attached),
    ];
    let boundary = boundary(ndr, &parts);
    let mut message = message_header(ndr, header, &boundary).into_bytes();
    message.extend_from_slice(b"\r\nThis is a report about a message, in the form of RFC 3464.\r\n");
    for (content_type, encoding, content) in &parts {
        message.extend_from_slice(format!("\r\n--{boundary}\r\n").as_bytes());
        message.extend_from_slice(field("Content-Type", content_type).as_bytes());
        if *encoding != "7bit" {
            message.extend_from_slice(field("Content-Transfer-Encoding", encoding).as_bytes());
        }
        message.extend_from_slice(b"\r\n");
        message.extend_from_slice(content);
    }
    message.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
    message
}

/// The header at the beginning of `content`, without the empty line, and whether it is whole.
/// A header that was cut ends with its last whole line.
fn header_block(content: &[u8]) -> (&[u8], Returned) {
    let within = content.get(..HEADER_LIMIT).unwrap_or(content);
    if within.starts_with(b"\r\n") {
        return (&[], Returned::Whole);
    }
    let end_of = |pattern: &[u8]| within.windows(pattern.len()).position(|window| window == pattern);
    if let Some(end) = end_of(b"\r\n\r\n") {
        return (within.get(..end + 2).unwrap_or(within), Returned::Whole);
    }
    if content.len() < HEADER_LIMIT {
        return (within, Returned::Whole);
    }
    let last_line_end = within.windows(2).rposition(|window| window == b"\r\n");
    let whole_lines = last_line_end.and_then(|end| within.get(..end + 2));
    (whole_lines.unwrap_or(within), Returned::Cut)
}

/// RFC 2046 §5.1.1. `=_` cannot occur in quoted-printable, and the number is raised until the
/// boundary is in no other part either, whatever the original holds.
fn boundary(ndr: &Ndr<'_>, parts: &[(&str, &str, Vec<u8>)]) -> String {
    let named = |number: usize| format!("=_{}.{}.{number}", ndr.original.id, ndr.now.0);
    let is_free = |boundary: &String| {
        let pattern = boundary.as_bytes();
        parts.iter().all(|(_, _, content)| content.windows(pattern.len()).all(|window| window != pattern))
    };
    // The parts are shorter than this many boundaries, so that one is always free.
    let most = parts.iter().map(|(_, _, content)| content.len()).sum::<usize>();
    (0..=most).map(named).find(is_free).unwrap_or_else(|| named(most + 1))
}

fn message_header(ndr: &Ndr<'_>, original: &[u8], boundary: &str) -> String {
    let hostname = ndr.hostname;
    let original = MessageParser::default().parse_headers(original);
    let mut header = field("From", &format!("Mail Delivery System <mailer-daemon@{hostname}>"));
    header.push_str(&field("To", &format!("<{}>", ndr.sender)));
    header.push_str(&field("Subject", &subject(original.as_ref())));
    header.push_str(&field("Date", &ndr.now.rfc5322()));
    header.push_str(&field("Message-ID", &format!("<{}.{}.report@{hostname}>", ndr.original.id, ndr.now.0)));
    if let Some(id) = original.as_ref().and_then(sane_message_id) {
        header.push_str(&field("In-Reply-To", &format!("<{id}>")));
        header.push_str(&field("References", &format!("<{id}>")));
    }
    // RFC 3834 §5: so that vacation programs and the like do not answer.
    header.push_str(&field("Auto-Submitted", "auto-replied"));
    header.push_str(&field("MIME-Version", "1.0"));
    let content_type = format!("multipart/report; report-type=delivery-status; boundary=\"{boundary}\"");
    header.push_str(&field("Content-Type", &content_type));
    header
}

/// The id without brackets, when it is one and can stand in one line (RFC 5322 §3.6.4).
fn sane_message_id<'m>(original: &'m Message<'_>) -> Option<&'m str> {
    let is_id_octet = |b: u8| b.is_ascii_graphic() && b != b'<' && b != b'>';
    original.message_id().filter(|id| id.len() <= MESSAGE_ID_LIMIT && id.contains('@') && id.bytes().all(is_id_octet))
}

/// `Undeliverable: …` with the subject of the original. Clean ASCII is repeated as it is, its
/// encoded words included; anything else is read as UTF-8 and encoded anew.
fn subject(original: Option<&Message<'_>>) -> String {
    let raw = original.and_then(|message| {
        let header = message.headers().iter().find(|header| header.name == HeaderName::Subject)?;
        let (from, to) = (usize::try_from(header.offset_start).ok()?, usize::try_from(header.offset_end).ok()?);
        message.raw_message().get(from..to)
    });
    // Folding is undone by taking the line ends out and leaving the spaces.
    let unfolded: Vec<u8> = raw.unwrap_or_default().iter().copied().filter(|b| !matches!(b, b'\r' | b'\n')).collect();
    let text = String::from_utf8_lossy(&unfolded).trim().replace('\t', " ");
    if text.is_empty() {
        return "Undeliverable: your message".to_owned();
    }
    let shown = shortened(&text);
    if shown.bytes().all(|b| (32..127).contains(&b)) {
        return format!("Undeliverable: {shown}");
    }
    let harmless: String = shown.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    format!("Undeliverable: {}", encoded_words(&harmless))
}

/// At most [`SUBJECT_LIMIT`] octets, cut at a space so that no encoded word is torn.
fn shortened(text: &str) -> String {
    if text.len() <= SUBJECT_LIMIT {
        return text.to_owned();
    }
    let end = text.char_indices().map(|(i, _)| i).take_while(|&i| i <= SUBJECT_LIMIT).last().unwrap_or(0);
    let head = text.get(..end).unwrap_or_default();
    let has_encoded_words = text.contains("=?");
    let kept = match head.rsplit_once(' ') {
        Some((kept, _torn)) => kept,
        None if has_encoded_words => "",
        None => head,
    };
    format!("{kept}...")
}
