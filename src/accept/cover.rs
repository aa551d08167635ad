//! What stands around the message in a copy for an archive: a small message with the other attached whole
//! (RFC 2046 §5.2.1, RFC 6532 §3.7).
//!
//! The journal form is the envelope journal report of Exchange 2007 and later, which its importers read: a text of
//! lines `Sender:`, `Subject:`, `Message-ID:`, then one line for each recipient of the envelope, named `To:` or
//! `Cc:` where the header of the message has the address there and `Recipient:` where it has not; and a field
//! `X-MS-Journal-Report` without a value. The line end before the last boundary belongs to the boundary (RFC 2046
//! §5.1.1), so that the attached message is octet by octet the one that was taken.

use crate::config::ArchiveForm;
use crate::envelope::{BodyType, Charset, Envelope, QueueId};
use crate::smtp::address::{Domain, Mailbox, ReversePath};
use data_encoding::BASE64;
use mail_parser::{Address, Message, MessageParser};
use std::hash::{BuildHasher as _, Hasher as _, RandomState};

/// The most octets in one encoded word, so that it stays below 75 characters as base64 (RFC 2047 §2).
const ENCODED_WORD_OCTETS: usize = 42;
/// Octets in a line of base64 (RFC 2045 §6.8).
const BASE64_OCTETS: usize = 57;
/// The longest line of text that goes as it is (RFC 5322 §2.1.1).
const LINE_LIMIT: usize = 998;
/// So much of a subject or a Message-ID is repeated, in octets.
const VALUE_LIMIT: usize = 500;

/// What a cover tells of.
#[derive(Clone, Copy, Debug)]
pub(super) struct Cover<'a> {
    /// The name of the relay.
    pub(super) hostname: &'a Domain,
    /// Whom to ask.
    pub(super) postmaster: Option<&'a Mailbox>,
    pub(super) form: ArchiveForm,
    /// The archive.
    pub(super) to: &'a Mailbox,
    /// Of the message.
    pub(super) envelope: &'a Envelope,
    /// The message.
    pub(super) id: QueueId,
    /// Which copy of it, from 1.
    pub(super) nth: usize,
    /// The beginning of the message.
    pub(super) head: &'a [u8],
}

/// What stands before the message, and what after it.
#[must_use]
pub(super) fn around(cover: &Cover<'_>) -> (Vec<u8>, Vec<u8>) {
    // A sender who could guess it could end the attachment, and put in its place what looks like another.
    let random = || RandomState::new().build_hasher().finish();
    let boundary = format!("=_{:016x}{:016x}", random(), random());
    let message = MessageParser::default().parse_headers(cover.head);
    let subject = value(message.as_ref().and_then(Message::subject));
    let text = match cover.form {
        ArchiveForm::Original => in_words(cover),
        ArchiveForm::Journal => journal(cover, message.as_ref(), &subject),
    };
    let (text_encoding, text) = encoded_text(text);
    let (attached, encoding) = attachment(cover.envelope);
    let mut before = header(cover, &subject);
    before.push_str("MIME-Version: 1.0\r\n");
    before.push_str(&format!("Content-Type: multipart/mixed; boundary=\"{boundary}\"\r\n"));
    before.push_str(&format!("Content-Transfer-Encoding: {encoding}\r\n\r\n--{boundary}\r\n"));
    before.push_str("Content-Type: text/plain; charset=utf-8\r\n");
    before.push_str(&format!("Content-Transfer-Encoding: {text_encoding}\r\n\r\n{text}\r\n--{boundary}\r\n"));
    before.push_str(&format!("Content-Type: {attached}\r\nContent-Disposition: attachment\r\n"));
    before.push_str(&format!("Content-Transfer-Encoding: {encoding}\r\n\r\n"));
    (before.into_bytes(), format!("\r\n--{boundary}--\r\n").into_bytes())
}

fn header(cover: &Cover<'_>, subject: &str) -> String {
    let Cover { hostname, postmaster, form, to, envelope, id, nth, .. } = *cover;
    let ours = format!("postmaster@{hostname}");
    let from = postmaster.map_or(ours.as_str(), Mailbox::as_str);
    let mut header = format!("Date: {}\r\n", envelope.accepted_at.rfc5322());
    // In a header in ASCII an address in UTF-8 cannot stand (RFC 6532 §3.1).
    let ascii = |address: &str| address.is_ascii().then(|| format!("<{address}>"));
    header.push_str(&format!("From: {}\r\n", ascii(from).unwrap_or_else(|| format!("<{ours}>"))));
    header.push_str(&format!("To: {}\r\n", ascii(to.as_str()).unwrap_or_else(|| "archive:;".to_owned())));
    header.push_str(&format!("Subject: {}\r\n", encoded_words(subject)));
    header.push_str(&format!("Message-ID: <{id}.copy{nth}@{hostname}>\r\n"));
    // RFC 3834 §5: nobody's request, so nobody's answer.
    header.push_str("Auto-Submitted: auto-generated\r\n");
    match form {
        ArchiveForm::Original => {}
        ArchiveForm::Journal => header.push_str("X-MS-Journal-Report:\r\n"),
    }
    header
}

fn in_words(cover: &Cover<'_>) -> String {
    let Cover { hostname, envelope, id, .. } = *cover;
    let mut text = format!("A copy of a message that {hostname} took on {}.\r\n\r\n", envelope.accepted_at.rfc5322());
    text.push_str(&format!("Queue id: {id}\r\nSender: {}\r\n", sender(envelope)));
    for recipient in &envelope.recipients {
        text.push_str(&format!("Recipient: {}\r\n", recipient.as_str()));
    }
    text
}

fn journal(cover: &Cover<'_>, message: Option<&Message<'_>>, subject: &str) -> String {
    let envelope = cover.envelope;
    let message_id = value(message.and_then(Message::message_id));
    let mut text = format!("Sender: {}\r\nSubject: {subject}\r\n", sender(envelope));
    text.push_str(&format!("Message-ID: <{message_id}>\r\n"));
    let named = |field: Option<&Address<'_>>, recipient: &Mailbox| {
        let is_it = |address: &str| address.eq_ignore_ascii_case(recipient.as_str());
        field.is_some_and(|field| field.iter().any(|named| named.address().is_some_and(is_it)))
    };
    for recipient in &envelope.recipients {
        let field = match message {
            Some(message) if named(message.to(), recipient) => "To",
            Some(message) if named(message.cc(), recipient) => "Cc",
            Some(_) | None => "Recipient",
        };
        text.push_str(&format!("{field}: {}\r\n", recipient.as_str()));
    }
    text
}

fn sender(envelope: &Envelope) -> &str {
    match &envelope.reverse_path {
        ReversePath::Mailbox(mailbox) => mailbox.as_str(),
        ReversePath::Null => "<>",
    }
}

/// A value of the message's header on one line.
fn value(found: Option<&str>) -> String {
    let found = found.unwrap_or_default();
    let within = found.get(..found.floor_char_boundary(VALUE_LIMIT)).unwrap_or_default();
    within.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().trim().to_owned()
}

/// As what the message is attached, and how its octets stand there.
const fn attachment(envelope: &Envelope) -> (&'static str, &'static str) {
    let attached = match envelope.charset {
        Charset::Ascii => "message/rfc822",
        Charset::Utf8 => "message/global",
    };
    match envelope.body {
        BodyType::SevenBit => (attached, "7bit"),
        BodyType::EightBitMime => (attached, "8bit"),
    }
}

fn encoded_text(text: String) -> (&'static str, String) {
    if text.is_ascii() && text.lines().all(|line| line.len() <= LINE_LIMIT) {
        return ("7bit", text);
    }
    let lines: Vec<String> = text.as_bytes().chunks(BASE64_OCTETS).map(|line| BASE64.encode(line)).collect();
    ("base64", lines.join("\r\n") + "\r\n")
}

/// A value of a header field in ASCII, folded.
fn encoded_words(text: &str) -> String {
    const FOLDED_AT: usize = 60;
    if text.is_ascii() && text.len() <= FOLDED_AT && !text.contains("=?") {
        return text.to_owned();
    }
    let mut words = vec![String::new()];
    for character in text.chars() {
        // A character must not be divided between two words (RFC 2047 §5).
        match words.last_mut() {
            Some(word) if word.len() + character.len_utf8() <= ENCODED_WORD_OCTETS => word.push(character),
            Some(_) | None => words.push(character.to_string()),
        }
    }
    let encoded = words.iter().map(|word| format!("=?UTF-8?B?{}?=", BASE64.encode(word.as_bytes())));
    encoded.collect::<Vec<_>>().join("\r\n ")
}

#[cfg(test)]
#[path = "cover_tests.rs"]
mod tests;
