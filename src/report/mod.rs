//! Who is told what becomes of a message, and in which words
//! (RFC 3461 §5.2, RFC 3464, RFC 6522, RFC 6533, RFC 3834, RFC 5321 §6.1).
//!
//! This page holds the nouns. `due.rs` is the one decision: from a message and what an attempt
//! brought, the reports that are due; `gather.rs` says when, and `digest.rs` tells the postmaster of many lost ones
//! at once. `ndr.rs` puts a report together: `words.rs` is what
//! people read (`readable.rs` shows it the names they know), which `plain.rs` makes text of and `html.rs` a page;
//! `status.rs` is the part that machines read, `returned.rs` what comes back of the
//! message; `form.rs` keeps all of them within mail's rules. The words themselves are in
//! `texts.rs`, which the operator can replace (`driver.rs` reads the file); `languages.rs` says who reads which.

mod digest;
pub mod driver;
pub mod due;
mod form;
pub(crate) mod gather;
mod html;
mod languages;
mod mime;
mod ndr;
mod notice;
mod plain;
mod readable;
mod returned;
mod status;
mod template;
#[cfg(test)]
mod tests;
mod texts;
pub mod tls;
mod tries;
mod words;

pub use digest::{LostReport, digest};
pub(crate) use languages::dutch_sentence;
pub use languages::{LanguageChoice, Texts};
pub use returned::{HEADER_LIMIT, content_wanted};
pub use texts::TextsError;
pub use tries::history_wanted;

use crate::accept::LimitNews;
use crate::clock::Timestamp;
use crate::envelope::{BodyType, Charset, Envelope, Origin, QueueId};
use crate::outcome::{Cause, Peer};
use crate::smtp::address::{Domain, Host, Mailbox, ReversePath};
use crate::smtp::reply::Reply;
use crate::spool::event::Event;
use crate::spool::incident::Incident;
use crate::spool::{self, SpoolEntry};
use bytes::Bytes;
use languages::ReaderLanguages;
use std::collections::BTreeSet;

/// What a report tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Recipients failed for good.
    Failed,
    /// Recipients wait: the ordinary warning.
    Delayed,
    /// Recipients wait because DNS, TLS or a policy stops the mail.
    HeldBack,
    /// The next host took the message, and will not tell of its success (RFC 3461 §5.2.2).
    Relayed,
    /// To the postmaster: a report could not be delivered (RFC 5321 §6.1).
    ReportLost,
    /// A copy for an archive could not be delivered: for the postmaster.
    CopyLost,
}

impl Kind {
    /// The section of the texts, and the word in the Message-ID.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::Delayed => "delayed",
            Self::HeldBack => "held-back",
            Self::Relayed => "relayed",
            Self::ReportLost => "report-lost",
            Self::CopyLost => "copy-lost",
        }
    }

    /// Whether the recipients wait for a further attempt.
    const fn waits(self) -> bool {
        match self {
            Self::Delayed | Self::HeldBack => true,
            Self::Failed | Self::Relayed | Self::ReportLost | Self::CopyLost => false,
        }
    }
}

/// How a recipient stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fate {
    /// This stops the message, for now or for good.
    Stopped(Cause),
    /// A host took it.
    Relayed {
        /// The next hop that took the message.
        peer: Peer,
        /// Its reply.
        reply: Reply,
    },
}

/// One report: whom to tell what about which recipients.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Due {
    /// Who is told.
    pub to: Mailbox,
    /// What the report says.
    pub kind: Kind,
    /// About whom, by index in the envelope.
    pub recipients: Vec<(usize, Fate)>,
}

/// Who writes reports, and how.
#[derive(Clone, Copy, Debug)]
pub struct ReportContext<'a> {
    /// The name of the relay.
    pub hostname: &'a Domain,
    /// The texts of the reports.
    pub texts: &'a Texts,
    /// Messages smaller than this come back whole where the sender wants it, in octets.
    pub return_full_below: u64,
    /// Whether people get a page (HTML) beside the text.
    pub html: bool,
}

/// The message that a report is about.
#[derive(Clone, Copy, Debug)]
pub struct Original<'a> {
    /// What the spool knows of it, before the attempt.
    pub entry: &'a SpoolEntry,
    /// The beginning of its content, [`content_wanted`] octets where there are so many.
    pub content: &'a [u8],
    /// Until when it is tried.
    pub until: Timestamp,
    /// What happened to it, where [`history_wanted`].
    pub history: &'a [(Timestamp, Event)],
    /// Tries that end with this: none when its time was up, or the relay backing off, without one.
    pub tries_now: u32,
    /// The recipients of whom what is told was known before: none of these tries was theirs.
    pub earlier: &'a BTreeSet<usize>,
    /// What goes on on our side.
    pub incidents: &'a [Incident],
}

/// Writes a report.
#[must_use]
pub fn compose(context: &ReportContext<'_>, original: &Original<'_>, due: &Due, now: Timestamp) -> spool::Report {
    let content = Bytes::from(ndr::message(&ReportDraft { context, original, due, now }));
    let origin = Origin::Report { about: original.entry.id };
    let envelope = Envelope::new(ReversePath::Null, vec![due.to.clone()], now, origin);
    let envelope = match ReportForm::of(due) {
        ReportForm::SevenBit => envelope,
        // Whoever has such an address reads UTF-8, and nobody else could deliver to it
        // (RFC 6533 §1).
        ReportForm::Utf8 => Envelope { body: BodyType::EightBitMime, charset: Charset::Utf8, ..envelope },
    };
    spool::Report { envelope, content }
}

/// A plain notice to the postmaster that damaged records were found in the spool.
#[must_use]
pub fn damage_notice(context: &ReportContext<'_>, to: &Mailbox, records: u64, now: Timestamp) -> spool::Report {
    // It is about no message; the number is never given to one.
    let origin = Origin::Report { about: QueueId(0) };
    let content = Bytes::from(notice::damage_message(context, to, records, now));
    spool::Report { envelope: Envelope::new(ReversePath::Null, vec![to.clone()], now, origin), content }
}

/// A plain notice to the postmaster that sending limits were reached.
#[must_use]
pub fn limit_notice(context: &ReportContext<'_>, to: &Mailbox, news: &[LimitNews], now: Timestamp) -> spool::Report {
    let origin = Origin::Report { about: QueueId(0) };
    let content = Bytes::from(notice::limit_message(context, to, news, now));
    spool::Report { envelope: Envelope::new(ReversePath::Null, vec![to.clone()], now, origin), content }
}

/// A notice to the postmaster that many domains fail alike, and whose fault that is.
#[must_use]
pub fn incident_notice(
    context: &ReportContext<'_>,
    to: &Mailbox,
    incident: &Incident,
    now: Timestamp,
) -> spool::Report {
    // It is about no message.
    let origin = Origin::Report { about: QueueId(0) };
    let content = Bytes::from(notice::incident_message(context, to, incident, now));
    spool::Report { envelope: Envelope::new(ReversePath::Null, vec![to.clone()], now, origin), content }
}

/// The domain to name in `relay check DOMAIN`; `None` for an address literal, which has no
/// MX records to check.
#[must_use]
pub fn notable_domain(recipient: &Mailbox) -> Option<&Domain> {
    match recipient.host() {
        Host::Domain(domain) => Some(domain),
        Host::Literal(_) => None,
    }
}

/// All that a report is made of.
struct ReportDraft<'a> {
    context: &'a ReportContext<'a>,
    original: &'a Original<'a>,
    due: &'a Due,
    now: Timestamp,
}

impl<'a> ReportDraft<'a> {
    /// Those of whoever reads it.
    fn languages(&self) -> &'a ReaderLanguages {
        self.context.texts.of(&self.due.to)
    }

    /// Whether what is told of a recipient was known before.
    fn is_earlier(&self, index: usize) -> bool {
        let is_owed = self.original.entry.recipients.get(index).is_some_and(|state| state.owed().is_some());
        is_owed || self.original.earlier.contains(&index)
    }

    /// The incident on our side that a failure belongs to.
    fn incident(&self, cause: &Cause) -> Option<&'a Incident> {
        Incident::behind(self.original.incidents, cause, self.now)
    }

    /// The recipients it is about, with their index.
    fn recipients(&self) -> impl Iterator<Item = (usize, &'a Mailbox, &'a Fate)> {
        let (all, due) = (&self.original.entry.envelope.recipients, self.due);
        due.recipients.iter().filter_map(|(index, fate)| all.get(*index).map(|recipient| (*index, recipient, fate)))
    }
}

/// What the way to the reader can carry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ReportForm {
    /// ASCII alone: any way.
    SevenBit,
    /// SMTPUTF8, without which the reader cannot be reached (RFC 6533 §4).
    Utf8,
}

impl ReportForm {
    fn of(due: &Due) -> Self {
        if due.to.is_ascii() { Self::SevenBit } else { Self::Utf8 }
    }
}
