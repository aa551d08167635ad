//! The mail that tells the postmaster of many lost reports at once (RFC 5321 §6.1, RFC 3834 §5).
//!
//! A single lost report is told of in the form of RFC 3464, with its words. Several come as a list for
//! people: they are about different messages, and such a form holds one.

use super::form::{field, line, utf8_item, utf8_paragraph};
use super::mime::{MimePart, text_part};
use super::ndr::{addressed, dated};
use super::{ReportContext, notable_domain};
use crate::clock::Timestamp;
use crate::envelope::{Envelope, Origin, QueueId};
use crate::outcome::Cause;
use crate::smtp::address::{Mailbox, ReversePath};
use crate::spool::{self, RecipientState, SpoolEntry};
use bytes::Bytes;

/// Lost reports that are named; more are counted. Some 50 kB.
const MOST_NAMED: usize = 100;

/// Where the words begin in their line.
const COLUMN: usize = 12;

/// A report that could not be delivered.
#[derive(Clone, Copy, Debug)]
pub struct LostReport<'a>(pub &'a SpoolEntry);

impl<'a> LostReport<'a> {
    /// Whom it did not reach, and why.
    fn failures(self) -> impl Iterator<Item = (&'a Mailbox, &'a Cause)> {
        let Self(entry) = self;
        let cause = |state: &'a RecipientState| state.owed().and_then(|owed| owed.cause());
        let known = entry.envelope.recipients.iter().zip(&entry.recipients);
        known.filter_map(move |(recipient, state)| Some((recipient, cause(state)?)))
    }
}

/// Tells the postmaster of these reports.
#[must_use]
pub fn digest(context: &ReportContext<'_>, to: &Mailbox, lost: &[LostReport<'_>], now: Timestamp) -> spool::Report {
    let count = lost.len().to_string();
    let texts = &context.texts.of(to).first;
    let is_copy = |lost: &LostReport<'_>| matches!(lost.0.envelope.origin, Origin::Copy { .. });
    let (subject, said) = if lost.iter().any(is_copy) {
        ("digest.copies_subject", "digest.copies_text")
    } else {
        ("digest.subject", "digest.text")
    };
    let mut text = utf8_paragraph(&texts.say(said, &[("count", &count)]), 0);
    for lost in lost.iter().take(MOST_NAMED) {
        text.push_str("\r\n");
        text.push_str(&named(*lost));
    }
    if let Some(more @ 1..) = lost.len().checked_sub(MOST_NAMED) {
        text.push_str("\r\n");
        text.push_str(&utf8_paragraph(&texts.say("digest.more", &[("count", &more.to_string())]), 0));
    }
    let MimePart { encoding, octets: text, .. } = text_part(text);
    let first = lost.first().map_or(QueueId(0), |LostReport(entry)| entry.id);
    let mut message = addressed(context.hostname, to, &texts.say(subject, &[("count", &count)]));
    message.push_str(&dated(&format!("{first}.{}.digest@{}", now.0, context.hostname), now));
    // RFC 3834 §5: nobody's request, so nobody's answer.
    message.push_str(&field("Auto-Submitted", "auto-generated"));
    message.push_str(&field("MIME-Version", "1.0"));
    message.push_str(&field("Content-Type", "text/plain; charset=utf-8"));
    message.push_str(&field("Content-Transfer-Encoding", encoding));
    message.push_str("\r\n");
    let content = Bytes::from([message.into_bytes(), text].concat());
    let origin = Origin::Report { about: first };
    spool::Report { envelope: Envelope::new(ReversePath::Null, vec![to.clone()], now, origin), content }
}

/// In the words of the log, so that they are found there.
fn named(lost: LostReport<'_>) -> String {
    let LostReport(entry) = lost;
    let mut text = String::new();
    for (recipient, cause) in lost.failures() {
        text.push_str(&line(recipient.as_str(), 0));
        let row = cause.root().row();
        text.push_str(&utf8_item("  Cause:", &format!("{}, status {}", row.word, cause.row().status), COLUMN));
        text.push_str(&utf8_item("", &cause.sentence(), COLUMN));
        if let Some(domain) = notable_domain(recipient) {
            text.push_str(&utf8_item("  Run:", &format!("relay check {domain}"), COLUMN));
        }
    }
    let (message, label) = match &entry.envelope.origin {
        Origin::Report { about } => (Some(about), "  Report:"),
        Origin::Copy { of } => (Some(of), "  Copy:"),
        Origin::Client(_) | Origin::TlsReport { .. } => (None, "  Report:"),
    };
    if let Some(message) = message {
        text.push_str(&utf8_item("  Message:", &format!("relay why {message}"), COLUMN));
    }
    text.push_str(&utf8_item(label, &format!("relay why {}", entry.id), COLUMN));
    text
}
