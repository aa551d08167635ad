//! What is told of reports: those that go out, those that nobody wants, those that are lost
//! (RFC 3461 §4.1, RFC 5321 §4.5.5, §6.1).

use super::Register;
use crate::envelope::QueueId;
use crate::smtp::address::Mailbox;
use prometheus::{Error, IntCounter};

pub(super) struct ReportMetrics {
    queued: IntCounter,
    suppressed: IntCounter,
    lost: IntCounter,
}

impl ReportMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            queued: r.counter("relay_reports_queued_total", "Reports about mail put into the queue.")?,
            suppressed: r.counter(
                "relay_recipients_suppressed_total",
                "Failed recipients nobody is told of: the reverse-path is null, or the sender wants no report.",
            )?,
            lost: r.counter("relay_reports_lost_total", "Reports that could not be delivered.")?,
        })
    }

    pub(super) fn queued(&self, about: QueueId, to: &str) {
        self.queued.inc();
        tracing::info!(id = %about, %to, "report queued");
    }

    pub(super) fn suppressed(&self, about: QueueId, recipients: usize) {
        self.suppressed.inc_by(u64::try_from(recipients).unwrap_or(0));
        tracing::warn!(id = %about, recipients, "failed, and nobody is told: the reverse-path is null, or the sender wants no report");
    }

    pub(super) fn lost(&self, id: QueueId, told: Option<&Mailbox>) {
        self.lost.inc();
        match told {
            Some(postmaster) => tracing::warn!(%id, told = %postmaster, "a report could not be delivered"),
            None => tracing::error!(%id, "a report could not be delivered, and there is nobody else to tell"),
        }
    }
}
