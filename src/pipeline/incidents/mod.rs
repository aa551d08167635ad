//! Incidents: many domains that fail in the same way at once are one fault of one side.
//!
//! `tracker.rs` decides, from what attempts brought and from what was found out about one of the
//! domains (`judge.rs`); `failing.rs` is what it remembers of domains, `ongoing.rs` an incident that is open. This page is where the pipeline
//! tells it of attempts and asks it what is open. Whoever looks at domains, keeps the ledger and tells
//! the postmaster is `service/incidents.rs`.
//!
//! While an incident on our side is open no report and no notice about mail that fails in its way
//! blames a recipient. Mail still expires at its time: that is what was promised to its sender; the
//! report says then that the fault is here.

mod failing;
mod judge;
mod ongoing;
mod tracker;
#[cfg(test)]
mod tracker_tests;

pub(crate) use judge::Judgement;
pub(crate) use tracker::{DomainOutcome, IncidentChange, ProbeOrder, Suspicion, Tracker};

use super::Pipeline;
use super::outcomes::Outcomes;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::report;
use crate::smtp::address::Host;
use crate::spool::incident::Incident;
use crate::spool::{SpoolEntry, SpoolError};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Messages made due in one go, so that others get at the spool meanwhile.
const MOST_HASTENED: usize = 500;

/// The tracker behind its lock.
#[derive(Debug, Default)]
pub(crate) struct Incidents(Mutex<Tracker>);

impl Incidents {
    /// The tracker, for a moment.
    pub(crate) fn tracker(&self) -> MutexGuard<'_, Tracker> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The open incidents in which those who run this relay have to act.
    #[must_use]
    pub(crate) fn ours(&self) -> Vec<Incident> {
        self.tracker().open_incidents().filter(|incident| incident.side.is_ours()).cloned().collect()
    }
}

impl Pipeline {
    /// What an attempt brought, for the tracker.
    pub(super) fn note_outcomes(&self, entry: &SpoolEntry, outcomes: &Outcomes) {
        let now = self.out.clock.now();
        let mut tracker = self.incidents.tracker();
        for (index, outcome) in outcomes {
            let Some(recipient) = entry.envelope.recipients.get(*index) else { continue };
            let literal;
            let domain = match recipient.host() {
                Host::Domain(domain) => domain.as_str(),
                Host::Literal(_) => {
                    literal = recipient.host().to_string();
                    literal.as_str()
                }
            };
            tracker.note(&DomainOutcome { domain, message: entry.id, outcome }, now);
        }
    }

    /// An incident is over: what waited for its end is tried at once, whatever its next hops were like.
    pub(crate) async fn after_incident(&self, waiting: &[QueueId]) {
        self.backoff().forget_all();
        let whenever = |id: &QueueId| (*id, Timestamp(i64::MAX));
        for batch in waiting.chunks(MOST_HASTENED) {
            let batch: Vec<_> = batch.iter().map(whenever).collect();
            if let Err(error) = self.spool.hasten(&batch, self.out.clock.now()).await {
                self.observer.spool_failed("hasten", &error);
            }
        }
    }

    /// Tells the postmaster of an incident; without a postmaster the log has told alone.
    ///
    /// # Errors
    /// When the notice cannot be stored.
    pub(crate) async fn tell_of_incident(&self, incident: &Incident) -> Result<(), SpoolError> {
        let Some(postmaster) = &self.out.config.postmaster else { return Ok(()) };
        let now = self.out.clock.now();
        let notice = report::incident_notice(&self.report_context(), postmaster, incident, now);
        let mut draft = self.spool.begin(now);
        draft.body.write(&notice.content).await?;
        self.spool.enqueue(draft, notice.envelope).await.map(|_id| ())
    }
}
