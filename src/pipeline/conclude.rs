//! What the outcomes of an attempt mean: for the recipients, for the history, and for the next hop.

use super::attempt::DeliveryAttempt;
use super::backoff::is_unreachable;
use super::outcomes::Outcomes;
use super::{Pipeline, Unrecorded};
use crate::clock::Timestamp;
use crate::deliver::hosts::{Away, Gate};
use crate::outcome::{Cause, DeliveryOutcome};
use crate::route::Route;
use crate::spool::conclude::{Conclusion, conclude};
use crate::spool::event::{Event, grouped};
use crate::spool::tls_session::TlsSession;
use crate::spool::{Pending, RecipientState, SpoolEntry, schedule};
use std::sync::atomic::Ordering;

/// What a route brought.
#[derive(Default)]
pub(super) struct Progress {
    pub(super) conclusion: Conclusion,
    pub(super) events: Vec<Event>,
    /// What counts for the reports on TLS.
    pub(super) sessions: Vec<TlsSession>,
    /// When to come again, where nothing is recorded.
    pub(super) again: Option<Timestamp>,
    /// Where there was no place, so that it is called when there is one.
    pub(super) outside_of: Option<Gate>,
    /// Whether another relay is to take it.
    pub(super) is_elsewhere: bool,
    /// Why nobody was asked.
    pub(super) away: Option<Away>,
    /// Places that are held until this is recorded.
    pub(super) seats: Unrecorded,
}

impl Progress {
    pub(super) fn is_empty(&self) -> bool {
        self.conclusion.recipients.is_empty()
    }
}

impl Pipeline {
    pub(super) fn conclude(&self, attempt: &mut DeliveryAttempt<'_>) -> Progress {
        let is_left_unbegun = attempt.is_left_unbegun();
        let outcomes = std::mem::take(&mut attempt.outcomes);
        let (seats, away) = attempt.stay();
        if outcomes.is_empty() && away.is_some() {
            return Progress { away, ..Progress::default() };
        }
        if is_left_unbegun {
            self.backoff().not_tried(&attempt.route.hop);
            return self.given_back();
        }
        self.broken.store(0, Ordering::Relaxed);
        self.note_outcomes(attempt.entry, &outcomes);
        let (hop, retry, now) = (&attempt.route.hop, &self.out.config.retry, self.out.clock.now());
        match unreachable(&outcomes) {
            Some(cause) => self.backoff().failed(hop, cause.clone(), retry, now),
            None => self.backoff().reached(hop),
        }
        let conclusion = conclude(attempt.entry, outcomes, retry, now);
        self.observe_states(attempt.entry, &conclusion);
        let mut events = attempt.journal.take_events();
        events.extend(conclusion_events(&conclusion, None));
        let sessions = attempt.journal.take_sessions();
        Progress { conclusion, events, sessions, seats, ..Progress::default() }
    }

    /// An attempt in which the relay itself failed.
    pub(super) fn broken(&self, entry: &SpoolEntry, route: &Route, recipients: &[usize]) -> Progress {
        self.broken.fetch_add(1, Ordering::Relaxed);
        let now = self.out.clock.now();
        let waits = |&index: &usize| {
            let pending = entry.recipients.get(index)?.pending()?;
            let tries = pending.tries.saturating_add(1);
            let due = schedule::next_attempt(&self.out.config.retry, entry.id, tries, now);
            Some((index, RecipientState::Queued(Pending { tries, due: Some(due), ..pending.clone() })))
        };
        let recipients = recipients.iter().filter_map(waits).collect();
        let conclusion = Conclusion { recipients, ..Conclusion::default() };
        let events = vec![Event::Broken { next_hop: route.hop.to_string() }];
        Progress { conclusion, events, ..Progress::default() }
    }

    /// Of recipients that have an end; who waits has waited before.
    pub(super) fn observe_states_at_end(&self, entry: &SpoolEntry, conclusion: &Conclusion) {
        for (index, state) in &conclusion.recipients {
            if let (Some(recipient), RecipientState::Done { outcome }) = (entry.envelope.recipients.get(*index), state)
            {
                self.observer.recipient(entry.id, recipient, outcome);
            }
        }
    }

    fn observe_states(&self, entry: &SpoolEntry, conclusion: &Conclusion) {
        for (index, state) in &conclusion.recipients {
            let Some(recipient) = entry.envelope.recipients.get(*index) else { continue };
            match state {
                RecipientState::Done { outcome } => self.observer.recipient(entry.id, recipient, outcome),
                RecipientState::Queued(Pending { last: Some(cause), .. }) => {
                    let outcome = DeliveryOutcome::Failed { cause: cause.clone() };
                    self.observer.recipient(entry.id, recipient, &outcome);
                }
                RecipientState::Queued(Pending { last: None, .. })
                | RecipientState::Owed(_)
                | RecipientState::Removed => {}
            }
        }
    }
}

/// The cause, when nothing at all came back from any server.
fn unreachable(outcomes: &Outcomes) -> Option<&Cause> {
    let mut causes = outcomes.values().map(|outcome| match outcome {
        DeliveryOutcome::Failed { cause } if is_unreachable(cause) => Some(cause),
        DeliveryOutcome::Failed { .. } | DeliveryOutcome::Delivered { .. } => None,
    });
    let first = causes.next()??;
    causes.all(|cause| cause.is_some()).then_some(first)
}

/// What a conclusion adds to the history: who waits until when, and who has an end.
pub(super) fn conclusion_events(conclusion: &Conclusion, backing_off: Option<&Cause>) -> Vec<Event> {
    let known = conclusion.recipients.iter().map(|(index, state)| {
        let end = match state {
            RecipientState::Queued(pending) => Err(pending.due),
            RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } } => Ok(Some(cause)),
            RecipientState::Owed(_)
            | RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } }
            | RecipientState::Removed => Ok(None),
        };
        (*index, end)
    });
    let event = |(recipients, end): (Vec<usize>, Result<Option<&Cause>, Option<Timestamp>>)| match end {
        Ok(cause) => Event::Ended { recipients, cause: cause.cloned() },
        Err(due) => Event::Waits { recipients, due: due.unwrap_or(Timestamp(0)), backing_off: backing_off.cloned() },
    };
    grouped(known).into_iter().map(event).collect()
}
