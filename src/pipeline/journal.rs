//! What happens while a message is on its way, put into events for its history.

use crate::deliver::AttemptReport;
use crate::outcome::{Cause, ExceptionInForce};
use crate::spool::event::{Attempt, Event, Group, grouped};
use std::sync::{Mutex, PoisonError};

/// Events of one attempt, in the order they happened.
#[derive(Default)]
pub(super) struct Journal {
    events: Mutex<Vec<Event>>,
}

impl Journal {
    /// A conversation with a server has ended.
    pub(super) fn attempt(&self, next_hop: &str, report: &AttemptReport, exception: Option<&ExceptionInForce>) {
        let outcomes = report.outcomes.iter().map(|(index, outcome)| (*index, outcome));
        let group = |(recipients, outcome): (Vec<usize>, &crate::outcome::DeliveryOutcome)| Group {
            recipients,
            outcome: outcome.clone(),
        };
        self.push(Event::Attempt(Box::new(Attempt {
            next_hop: next_hop.to_owned(),
            peer: report.peer.clone(),
            policy: report.policy.word().to_owned(),
            tls: report.tls.clone(),
            exception: exception.map(ToString::to_string),
            took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            results: grouped(outcomes).into_iter().map(group).collect(),
        })));
    }

    /// No connection was made.
    pub(super) fn not_tried(&self, next_hop: &str, cause: &Cause) {
        self.push(Event::NotTried { next_hop: next_hop.to_owned(), cause: cause.clone() });
    }

    pub(super) fn into_events(self) -> Vec<Event> {
        self.events.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}
