//! A settlement on its way: what an attempt changes, and the reports it causes.
//!
//! Reports go into the log first; then one transaction holds the outcomes, the rows of the
//! reports and the state of the message they tell of (RFC 5321 §6.1: the message is not
//! forgotten before its notification is durable). A crash between the two leaves a report that
//! no settlement vouches for: recovery drops it, the attempt is made again, and makes it again.
//!
//! The id of a report follows from the message, the attempt, the outcome and whom it tells, so
//! that a rebuild which brings back both message and report does not make a second one.

use super::index::ContentPlace;
use super::log::NewMessage;
use super::shared::Shared;
use super::state::{REPORT_IDS, Row, json};
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::record::{Content, NewRecord, Standing};
use crate::spool::schedule::mix;
use crate::spool::{Claim, RecipientState, Report, Settlement, SpoolEntry, SpoolError};
use bytes::Bytes;
use std::sync::Arc;
use tokio::sync::oneshot;

/// What becomes of the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// Every recipient is done.
    Finished,
    /// At least one waits.
    Waits {
        /// For the next attempt.
        due: Timestamp,
    },
}

/// A settlement with all that the writers need; the lease is theirs until it is answered.
pub(super) struct Settling {
    shared: Arc<Shared>,
    generation: u64,
    /// The message as it is afterwards.
    pub(super) entry: SpoolEntry,
    /// The changed recipients, with their states as JSON.
    pub(super) recipients: Vec<(usize, String)>,
    /// For the history, as JSON.
    pub(super) events: Vec<String>,
    pub(super) at: Timestamp,
    pub(super) ending: Ending,
    /// Filled in by the log writer once the reports are durable.
    pub(super) reports: Vec<Row>,
    answer: oneshot::Sender<Result<(), SpoolError>>,
}

/// A settlement ready to be handed to the writers.
pub(super) struct Prepared {
    pub(super) settling: Box<Settling>,
    pub(super) reports: Vec<NewMessage>,
    pub(super) answered: oneshot::Receiver<Result<(), SpoolError>>,
}

impl Settling {
    /// Takes the lease over and works out what changes. When that fails the claim is given back.
    pub(super) fn prepare(shared: &Arc<Shared>, claim: Claim, settlement: Settlement) -> Result<Prepared, SpoolError> {
        let Claim { mut entry, generation } = claim;
        let (claimed_at, generation) = {
            let mut index = shared.index();
            let claimed_at = index.claimed_at(entry.id, generation).ok_or(SpoolError::Fenced)?;
            (claimed_at, index.begin_settling(entry.id, generation).ok_or(SpoolError::Fenced)?)
        };
        entry.attempts = entry.attempts.saturating_add(1);
        let at = settlement.at.unwrap_or(claimed_at);
        let recipients = apply(&mut entry, settlement.recipients);
        let reports = recipients.and_then(|recipients| {
            let outcome = digest(&entry, &recipients);
            let make = |(place, report)| new_report(&entry, outcome, place, report);
            let reports = (0..).zip(settlement.reports).map(make).collect::<Result<Vec<_>, _>>()?;
            Ok((recipients, reports))
        });
        let (recipients, reports) = match reports {
            Ok(ready) => ready,
            Err(error) => {
                shared.index().release(entry.id, generation);
                return Err(error);
            }
        };
        let done = |state: &RecipientState| matches!(state, RecipientState::Done { .. });
        let ending = if entry.recipients.iter().all(done) {
            Ending::Finished
        } else {
            Ending::Waits { due: settlement.next_due.unwrap_or(at) }
        };
        let events = settlement.events.iter().map(ToString::to_string).collect();
        let (answer, answered) = oneshot::channel();
        let shared = Arc::clone(shared);
        let settling = Self { shared, generation, entry, recipients, events, at, ending, reports: Vec::new(), answer };
        Ok(Prepared { settling: Box::new(settling), reports, answered })
    }

    /// It is durable.
    pub(super) fn succeed(self) {
        let _ = self.answer.send(Ok(()));
    }

    /// It is not recorded: the message is due again.
    pub(super) fn give_up(self, error: SpoolError) {
        self.shared.index().release(self.entry.id, self.generation);
        let _ = self.answer.send(Err(error));
    }
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
    let content = Content::Inline { crc: crc32fast::hash(&content), bytes: content };
    let record = NewRecord::new(id, json.clone(), content, Standing::WithSettlement).map_err(|e| invalid(e.into()))?;
    let due = envelope.accepted_at;
    let entry = SpoolEntry::new(id, envelope, size);
    Ok(NewMessage { entry, envelope: json, record, content: ContentPlace::Inline, due })
}

/// A number that follows from attempt and outcome.
fn digest(entry: &SpoolEntry, recipients: &[(usize, String)]) -> u64 {
    let mut seed = mix(u64::from(entry.attempts));
    for (recipient, state) in recipients {
        seed = digest_octets(mix(seed ^ *recipient as u64), state.as_bytes());
    }
    seed
}

fn digest_octets(seed: u64, octets: &[u8]) -> u64 {
    octets.iter().fold(mix(seed), |seed, octet| mix(seed ^ u64::from(*octet)))
}

/// The envelope as it goes into record and database.
pub(super) fn encode_envelope(envelope: &crate::envelope::Envelope) -> Result<Bytes, SpoolError> {
    serde_json::to_vec(envelope).map(Bytes::from).map_err(|e| invalid(e.into()))
}

/// A message that cannot be put into a record.
pub(super) fn invalid(source: Box<dyn std::error::Error + Send + Sync>) -> SpoolError {
    let source = std::io::Error::new(std::io::ErrorKind::InvalidInput, source);
    SpoolError::Io { action: "putting a message into a spool record", source }
}
