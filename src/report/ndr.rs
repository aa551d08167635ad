//! The report as a message: header, three parts, a boundary that is in none of them
//! (RFC 6522 §3, RFC 3834 §3.1, RFC 5322 §3.6).
//!
//! All of it is 7-bit: a report must reach its reader over any path, and it comes from the null
//! reverse-path, so nobody would learn that it did not. The one exception is a reader whose
//! address is outside ASCII (RFC 6533 §4): such a path takes UTF-8.

use super::form::{encoded_words, field, utf8_field};
use super::mime::{MimePart, text_part};
use super::returned::{self, Note, header_block, raw_value, sane_message_id};
use super::{ReportDraft, ReportForm, html, mime, plain, status, words};
use crate::clock::Timestamp;
use crate::envelope::TlsRequest;
use crate::smtp::address::{Domain, Mailbox};
use mail_parser::{HeaderName, Message, MessageParser};

/// The longest part of the original's subject that is repeated, in octets.
const SUBJECT_LIMIT: usize = 200;

/// The whole report.
pub(super) fn message(draft: &ReportDraft<'_>) -> Vec<u8> {
    let returned = returned::part(draft);
    let form = ReportForm::of(draft.due);
    let status = status::part(draft).into_bytes();
    let status_encoding = if status.is_ascii() { "7bit" } else { "8bit" };
    let name = format!("{}.{}", draft.original.entry.id, draft.now.0);
    let parts = [
        words_part(draft, returned.note, &name),
        MimePart {
            content_type: form.status_type().to_owned(),
            encoding: status_encoding,
            file_name: None,
            octets: status,
        },
        MimePart {
            content_type: returned.content_type.to_owned(),
            encoding: returned.encoding,
            file_name: None,
            octets: returned.octets,
        },
    ];
    let boundary = mime::boundary(&name, &parts);
    let mut message = message_header(draft, &boundary).into_bytes();
    message.extend_from_slice(b"\r\nThis is a report about a message, in the form of RFC 3464.\r\n");
    mime::join(&mut message, &boundary, &parts);
    message
}

/// What people read: text, and beside it a page where the operator wants one.
fn words_part(draft: &ReportDraft<'_>, note: Option<Note>, name: &str) -> MimePart {
    let words = words::words(draft, note);
    let text = text_part(plain::text(&words));
    let page = draft.context.html.then(|| html::page(&words, draft.due.kind)).flatten();
    match page {
        Some(page) => mime::alternative(text, &page, name),
        None => text,
    }
}

fn message_header(draft: &ReportDraft<'_>, boundary: &str) -> String {
    let ReportDraft { context, original, due, now } = draft;
    let (id, hostname) = (original.entry.id, context.hostname);
    let parsed = MessageParser::default().parse_headers(header_block(original.content).0);
    let mut header = addressed(hostname, &due.to, &subject(draft, parsed.as_ref()));
    // Two routes may end in the same millisecond; nobody is told twice of one recipient and kind.
    let first = due.recipients.first().map_or(0, |(index, _)| *index);
    header.push_str(&dated(&format!("{id}.{}.{}.{first}@{hostname}", now.0, due.kind.word()), *now));
    if let Some(id) = parsed.as_ref().and_then(sane_message_id) {
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

pub(super) fn addressed(hostname: &Domain, to: &Mailbox, subject: &str) -> String {
    let mut header = field("From", &format!("Mail Delivery System <mailer-daemon@{hostname}>"));
    header.push_str(&utf8_field("To", &format!("<{to}>")));
    header.push_str(&field("Subject", subject));
    header
}

pub(super) fn dated(id: &str, now: Timestamp) -> String {
    field("Date", &now.rfc5322()) + &field("Message-ID", &format!("<{id}>"))
}

/// The words of the report around the subject of the original. Clean ASCII is repeated as it is,
/// its encoded words included; anything else is read as UTF-8 and encoded again.
fn subject(draft: &ReportDraft<'_>, original: Option<&Message<'_>>) -> String {
    let (texts, slot) = (&draft.languages().first, format!("{}.subject", draft.due.kind.word()));
    let around = |subject: &str| texts.say(&slot, &[("subject", subject)]);
    // RFC 8689 §5: the subject of a message with REQUIRETLS is its own affair.
    let shown = original.filter(|_| draft.original.entry.envelope.tls != TlsRequest::Required);
    let raw = shown.and_then(|message| raw_value(message, &HeaderName::Subject)).unwrap_or_default();
    let text = String::from_utf8_lossy(&raw).trim().replace('\t', " ");
    if text.is_empty() {
        return in_header(&around(&texts.say("notes.no_subject", &[])));
    }
    let whole = around(&shortened(&text));
    if whole.bytes().all(|b| (32..127).contains(&b)) {
        return whole;
    }
    // An encoded word inside another one would be shown as it is.
    let decoded = shown.and_then(Message::subject).map_or(text, str::to_owned);
    in_header(&around(&shortened(&decoded)))
}

/// Text as it may stand in a field.
fn in_header(text: &str) -> String {
    if text.bytes().all(|b| (32..127).contains(&b)) {
        return text.to_owned();
    }
    let harmless: String = text.chars().map(|c| if c.is_control() { '?' } else { c }).collect();
    encoded_words(&harmless)
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
