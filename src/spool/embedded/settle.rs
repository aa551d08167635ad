//! A settlement on its way: what an attempt changes, and the reports it causes.
//!
//! Reports go into the log first; then one transaction holds the outcomes, the rows of the
//! reports and the state of the message they tell of (RFC 5321 §6.1: the message is not
//! forgotten before its notification is durable). A crash between the two leaves a report that
//! no settlement vouches for: recovery drops it, the attempt is made again, and makes it again.
//!
//! The id of a report follows from the message, the attempt, the outcome and whom it tells, so
//! that a rebuild which brings back both message and report does not make a second one.

use super::jobs::{ContentPlace, Ending, NewMessage, Settling, TlsReportUpdate};
use super::schema::{REPORT_IDS, json};
use super::shared::SharedState;
use crate::clock::Timestamp;
use crate::envelope::{Envelope, Origin, QueueId};
use crate::smtp::address::ReversePath;
use crate::spool::event::Event;
use crate::spool::message_id::message_id;
use crate::spool::owed::Reported;
use crate::spool::record::{NewRecord, RecordContent, RecordKind};
use crate::spool::schedule::mix;
use crate::spool::stored::{digest_octets, first_due, tell};
use crate::spool::tls_session::{TlsReportId, TlsReportState};
use crate::spool::{Claim, RecipientState, Report, Settlement, SpoolEntry, SpoolError};
use bytes::Bytes;
use tokio::sync::oneshot;

/// The id that is never given to a message.
const NO_MESSAGE: QueueId = QueueId(0);

/// Whether a settlement gives the claim back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Extent {
    /// No: more is to come.
    Part,
    /// The claim ends with it.
    Whole,
}

/// A settlement ready to be handed to the writers.
pub(super) struct PreparedSettlement {
    pub(super) settling: Box<Settling>,
    pub(super) reports: Vec<NewMessage>,
    /// The claim as it is once this is recorded.
    pub(super) claim: Claim,
    pub(super) answered: oneshot::Receiver<Result<(), SpoolError>>,
}

impl PreparedSettlement {
    /// Takes the lease over and works out what changes. When that fails the claim is given back.
    pub(super) fn new(
        shared: &SharedState,
        claim: Claim,
        settlement: Settlement,
        extent: Extent,
    ) -> Result<Self, SpoolError> {
        Self::beside(shared, claim, settlement, extent, &[])
    }

    /// Of another message, of which these reports tell.
    pub(super) fn beside(
        shared: &SharedState,
        claim: Claim,
        settlement: Settlement,
        extent: Extent,
        shared_reports: &[NewMessage],
    ) -> Result<Self, SpoolError> {
        let Claim { mut entry, generation } = claim;
        let (claimed_at, generation) = {
            let mut index = shared.index();
            let claimed_at = index.claimed_at(entry.id, generation).ok_or(SpoolError::Fenced)?;
            (claimed_at, index.begin_settling(entry.id, generation).ok_or(SpoolError::Fenced)?)
        };
        let attempt = entry.attempts.saturating_add(1);
        let at = settlement.at.unwrap_or(claimed_at);
        let recipients = apply(&mut entry, settlement.recipients);
        let reported = settlement.reported.map(|reported| reported_json(&mut entry, reported)).transpose();
        let reports = recipients.and_then(|recipients| {
            let outcome = digest(attempt, &recipients);
            let make = |(place, report)| new_report(&entry, outcome, place, report);
            let reports = (0..).zip(settlement.reports).map(make).collect::<Result<Vec<_>, _>>()?;
            Ok((recipients, reports, reported?))
        });
        let (recipients, reports, reported) = match reports {
            Ok(ready) => ready,
            Err(error) => {
                shared.index().release(entry.id, generation);
                return Err(error);
            }
        };
        let ending = match extent {
            Extent::Part => Ending::Continues,
            Extent::Whole if !entry.recipients.iter().any(RecipientState::is_open) => Ending::Finished,
            Extent::Whole => {
                let due = settlement.next_due.unwrap_or_else(|| first_due(&entry).unwrap_or(at));
                Ending::Waits { due, held: settlement.hold }
            }
        };
        if extent == Extent::Whole {
            entry.attempts = attempt;
        }
        let told_by = if reports.is_empty() { shared_reports } else { &reports };
        let told_by: Vec<_> = told_by.iter().map(|report| (report.entry.id, &*report.entry.envelope)).collect();
        let (told, notification) = tell(&settlement.told, &told_by);
        let events = settlement.events.iter().chain(&notification).map(Event::to_json).collect();
        let (answer, answered) = oneshot::channel();
        let claim = Claim { entry: entry.clone(), generation };
        let settling = Settling {
            generation,
            entry,
            recipients,
            told,
            events,
            at,
            ending,
            reported,
            reports: Vec::new(),
            others: Vec::new(),
            sessions: settlement.sessions,
            tls_report: None,
            answer,
        };
        Ok(Self { settling: Box::new(settling), reports, claim, answered })
    }

    /// Of no message: what has become of a report on TLS, and the mails that carry it. Their ids follow from the report,
    /// so that they are put into the queue once.
    pub(super) fn of_tls_report(
        report: &TlsReportId,
        state: &TlsReportState,
        mails: Vec<Report>,
        at: Timestamp,
    ) -> Result<Self, SpoolError> {
        let outcome = digest_octets(mix(report.day.0.cast_unsigned()), report.domain.as_bytes());
        let nobodys = Envelope::new(ReversePath::Null, Vec::new(), at, Origin::Report { about: NO_MESSAGE });
        let entry = SpoolEntry::new(NO_MESSAGE, nobodys, 0);
        let make = |(place, mail)| new_report(&entry, outcome, place, mail);
        let reports = (0..).zip(mails).map(make).collect::<Result<Vec<_>, _>>()?;
        let (answer, answered) = oneshot::channel();
        let json = serde_json::to_string(state).map_err(|e| invalid(e.into()))?;
        let claim = Claim { entry: entry.clone(), generation: 0 };
        let settling = Settling {
            generation: 0,
            entry,
            recipients: Vec::new(),
            told: Vec::new(),
            events: Vec::new(),
            at,
            ending: Ending::Continues,
            reported: None,
            reports: Vec::new(),
            others: Vec::new(),
            sessions: Vec::new(),
            tls_report: Some(TlsReportUpdate { id: report.clone(), state: json, due: state.due() }),
            answer,
        };
        Ok(Self { settling: Box::new(settling), reports, claim, answered })
    }
}

fn reported_json(entry: &mut SpoolEntry, reported: Reported) -> Result<String, SpoolError> {
    entry.reported = reported;
    serde_json::to_string(&reported).map_err(|e| invalid(e.into()))
}

/// Applies new states; those for recipients that do not exist are dropped.
fn apply(entry: &mut SpoolEntry, changes: Vec<(usize, RecipientState)>) -> Result<Vec<(usize, String)>, SpoolError> {
    let mut changed = Vec::new();
    for (recipient, state) in changes {
        if let Some(place) = entry.recipients.get_mut(recipient) {
            changed.push((recipient, json(&state)?));
            *place = state;
        }
    }
    Ok(changed)
}

fn new_report(about: &SpoolEntry, outcome: u64, place: u64, report: Report) -> Result<NewMessage, SpoolError> {
    let Report { envelope, content } = report;
    let mut seed = mix(outcome ^ mix(place));
    for recipient in &envelope.recipients {
        seed = digest_octets(seed, recipient.to_string().as_bytes());
    }
    let id = QueueId((mix(seed ^ mix(about.id.0)) & (REPORT_IDS - 1)) | REPORT_IDS);
    let json = encode_envelope(&envelope)?;
    let size = content.len() as u64;
    let message_id = message_id(&content);
    let content = RecordContent::Inline { crc: crc32fast::hash(&content), bytes: content };
    let record =
        NewRecord::new(id, json.clone(), content, RecordKind::WithSettlement).map_err(|e| invalid(e.into()))?;
    let due = envelope.accepted_at;
    let entry = SpoolEntry::new(id, envelope, size);
    Ok(NewMessage { entry, envelope: json, record, content: ContentPlace::Inline, due, message_id })
}

/// A number that follows from attempt and outcome.
fn digest(attempt: u32, recipients: &[(usize, String)]) -> u64 {
    let mut seed = mix(u64::from(attempt));
    for (recipient, state) in recipients {
        seed = digest_octets(mix(seed ^ *recipient as u64), state.as_bytes());
    }
    seed
}

/// The envelope as it goes into record and database.
pub(super) fn encode_envelope(envelope: &Envelope) -> Result<Bytes, SpoolError> {
    serde_json::to_vec(envelope).map(Bytes::from).map_err(|e| invalid(e.into()))
}

/// A message that cannot be put into a record.
pub(super) fn invalid(source: Box<dyn std::error::Error + Send + Sync>) -> SpoolError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, source);
    SpoolError::Io { action: "putting a message into a spool record", source }
}
