//! Incidents in metrics and log: how many are open by cause and side, and a line at each opening and
//! end.

use super::Register;
use crate::spool::incident::Incident;
use prometheus::{Error, IntCounterVec, IntGaugeVec};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// Causes that have a series of their own: more than there are words. A word of a later relay that the
/// ledger has kept counts as another one beyond that.
const MOST_CAUSES: usize = 64;

pub(crate) struct IncidentMetrics {
    open: IntGaugeVec,
    total: IntCounterVec,
    causes: Mutex<BTreeSet<String>>,
    checks: Mutex<BTreeMap<&'static str, CheckSeen>>,
}

/// What a check of this host came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct CheckSeen {
    /// In the numbers of `relay check`.
    pub(crate) status: u8,
    /// What it found, in a sentence.
    pub(crate) detail: String,
}

impl IncidentMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            open: r.gauges(
                "relay_incidents_open",
                "Incidents that go on: many domains fail in the same way, or a check of this host fails.",
                &["cause", "side"],
            )?,
            total: r.counters("relay_incidents_total", "Incidents that have opened.", &["cause", "side"])?,
            causes: Mutex::default(),
            checks: Mutex::default(),
        })
    }

    /// Sets how many are open.
    pub(crate) fn set_open<'a>(&self, open: impl Iterator<Item = &'a Incident>) {
        self.open.reset();
        for incident in open {
            self.open.with_label_values(&[self.label(&incident.cause).as_str(), incident.side.word()]).inc();
        }
    }

    pub(crate) fn opened(&self, incident: &Incident) {
        let Incident { id, cause, side, certainty, since, domain_count, messages, reopened, .. } = incident;
        self.total.with_label_values(&[self.label(cause).as_str(), side.word()]).inc();
        let what = if incident.has_met_mail() {
            "mail to many domains fails in the same way"
        } else {
            "a check of this host fails, and no mail is known to have met it"
        };
        tracing::error!(
            incident = %id,
            cause,
            side = side.word(),
            certainty = certainty.word(),
            %since,
            domains = domain_count,
            messages,
            reopened,
            detail = incident.sentence,
            "incident opened: {what}; `relay incidents` says what to do"
        );
    }

    pub(crate) fn closed(&self, incident: &Incident) {
        let Incident { id, cause, side, since, domain_count, messages, ended, .. } = incident;
        let (side, ended) = (side.word(), ended.map(crate::spool::incident::IncidentEnd::words));
        tracing::warn!(incident = %id, cause, side, %since, domains = domain_count, messages, ended, "incident closed");
    }

    pub(super) fn checked(&self, check: &'static str, status: u8, detail: &str) {
        let seen = CheckSeen { status, detail: detail.to_owned() };
        self.checks.lock().unwrap_or_else(PoisonError::into_inner).insert(check, seen);
    }

    /// What checks have come to since this was last asked: what one found an hour ago says nothing of now.
    pub(crate) fn take_checks(&self) -> BTreeMap<&'static str, CheckSeen> {
        std::mem::take(&mut *self.checks.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// A word of a bounded set.
    fn label(&self, cause: &str) -> String {
        let mut causes = self.causes.lock().unwrap_or_else(PoisonError::into_inner);
        if !causes.contains(cause) && causes.len() >= MOST_CAUSES {
            return "other".to_owned();
        }
        causes.insert(cause.to_owned());
        cause.to_owned()
    }
}
