//! What every engine keeps alike, whatever its store: how ids, names and notifications become numbers,
//! and what follows from a settlement before anything is stored. Pure.

use super::event::{Event, Silence, grouped};
use super::ledger::ToldBy;
use super::schedule::mix;
use super::{Notification, RecipientState, Reported, SpoolEntry};
use crate::clock::{ReportDay, Timestamp};
use crate::envelope::{Envelope, QueueId};
use crate::smtp::address::{Mailbox, ReversePath};
use std::borrow::Cow;

/// Ids above this are those of reports; below are microseconds since the epoch, for 146,000 years.
pub(crate) const REPORT_IDS: u64 = 1 << 62;

/// Of an id, in a millisecond.
pub(crate) const MICROSECONDS: u64 = 1000;

/// Days of tries to speak TLS that are kept however little the history may take: the one that goes on, and those whose
/// reports may still be tried.
const DAYS_KEPT: i64 = 3;

/// How the database says that nobody is told.
pub(crate) const fn told_number(because: Silence) -> i64 {
    match because {
        Silence::NullReversePath => -1,
        Silence::NotAsked => -2,
    }
}

/// What `told` in the database means.
pub(crate) fn told_of(number: i64) -> Option<ToldBy> {
    match number {
        -1 => Some(ToldBy::Nobody(Silence::NullReversePath)),
        -2 => Some(ToldBy::Nobody(Silence::NotAsked)),
        report => u64::try_from(report).ok().map(|report| ToldBy::Report(QueueId(report))),
    }
}

/// How often the sender was told, as the database keeps it. One that cannot be read costs a report more.
pub(crate) fn reported_of(text: Option<&str>) -> Reported {
    text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// The hash of a name in `lookups`: of Message-ID or address, without regard to case.
pub(crate) fn lookup_hash(name: &str) -> i64 {
    let octets = name.bytes().map(|octet| u64::from(octet.to_ascii_lowercase()));
    octets.fold(0_u64, |hash, octet| mix(hash ^ octet)).cast_signed()
}

/// A number that follows from a text, and stands for it in the keys of a table.
pub(crate) fn text_number(text: &str) -> i64 {
    text.bytes().fold(0_u64, |hash, octet| mix(hash ^ u64::from(octet))).cast_signed()
}

/// A number that follows from a text and the one before it.
pub(crate) fn digest_octets(seed: u64, octets: &[u8]) -> u64 {
    octets.iter().fold(mix(seed), |seed, octet| mix(seed ^ u64::from(*octet)))
}

/// The first day whose tries to speak TLS are kept where the history goes back to `before`.
pub(crate) fn first_day_kept(before: Timestamp, now: Timestamp) -> ReportDay {
    ReportDay(ReportDay::of(before).0.min(ReportDay::of(now).0.saturating_sub(DAYS_KEPT)))
}

/// All that a message is found by.
pub(crate) fn names<'a>(envelope: &'a Envelope, message_id: Option<&'a str>) -> impl Iterator<Item = Cow<'a, str>> {
    let sender = match &envelope.reverse_path {
        ReversePath::Mailbox(sender) => Some(sender.as_str()),
        ReversePath::Null => None,
    };
    let of = envelope.copy_of().map(|original| Cow::Owned(original.to_string()));
    let addresses = envelope.recipients.iter().map(Mailbox::as_str);
    message_id.into_iter().chain(sender).chain(addresses).map(Cow::Borrowed).chain(of)
}

/// When the first of the recipients that wait, or the report about one, is due; `None` when one of them
/// is due at once.
pub(crate) fn first_due(entry: &SpoolEntry) -> Option<Timestamp> {
    let due = |state: &RecipientState| match state {
        RecipientState::Queued(pending) => Some(pending.due),
        RecipientState::Owed(owed) => Some(Some(owed.due)),
        RecipientState::Done { .. } | RecipientState::Removed => None,
    };
    entry.recipients.iter().filter_map(due).min().flatten()
}

/// Who is told, as the database keeps it, and the events that say so.
pub(crate) fn tell(
    told: &[(usize, Notification)],
    reports: &[(QueueId, &Envelope)],
) -> (Vec<(usize, i64)>, Vec<Event>) {
    let mut rows = Vec::new();
    let mut events = Vec::new();
    for (recipients, told) in grouped(told.iter().copied()) {
        let by_report = |place: usize, notice| {
            let (report, envelope) = *reports.get(place)?;
            let to = envelope.recipients.iter().map(ToString::to_string).collect();
            Some((report, Event::Told { recipients: recipients.clone(), report, to, notice }))
        };
        let (row, event) = match told {
            Notification::ByReport(place) => {
                let Some((report, event)) = by_report(place, false) else { continue };
                (Some(report.0.cast_signed()), event)
            }
            Notification::Notice(place) => {
                let Some((_, event)) = by_report(place, true) else { continue };
                (None, event)
            }
            Notification::Nobody(because) => {
                let event = Event::NotTold { recipients: recipients.clone(), because };
                (Some(told_number(because)), event)
            }
        };
        rows.extend(row.into_iter().flat_map(|row| recipients.iter().map(move |recipient| (*recipient, row))));
        events.push(event);
    }
    (rows, events)
}
