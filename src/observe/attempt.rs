//! One line in the log and one count for each attempt at a mail server, with the words of
//! RFC 8460 §4.3 for what went wrong with TLS.

use super::closed::{self, POLICIES, TLS};
use super::{Register, evidence, millis};
use crate::deliver::AttemptReport;
use crate::envelope::QueueId;
use crate::outcome::{Cause, DeliveryOutcome, ExceptionInForce, TlsVerdict};
use prometheus::{Error, Histogram, IntCounter, IntCounterVec};

pub(super) struct AttemptMetrics {
    total: IntCounterVec,
    seconds: Histogram,
    reused: IntCounter,
}

impl AttemptMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let total = r.counters(
            "relay_delivery_attempts_total",
            "Connections to mail servers, by TLS policy and by the protection that was reached; skipped where none was made.",
            &["policy", "tls"],
        )?;
        closed::from_zero(&total, &[POLICIES, TLS]);
        closed::from_zero(&total, &[&["skipped"], &["none"]]);
        Ok(Self {
            total,
            seconds: r.seconds("relay_delivery_attempt_seconds", "How long one attempt at a mail server took.")?,
            reused: r.counter(
                "relay_connections_reused_total",
                "Attempts on a connection that had carried a message before, under the same security identity.",
            )?,
        })
    }

    pub(super) fn ended(
        &self,
        id: QueueId,
        next_hop: &str,
        report: &AttemptReport,
        exception: Option<&ExceptionInForce>,
    ) {
        let tls = report.tls.as_ref().map_or("none", TlsVerdict::word);
        self.total.with_label_values(&[report.policy.word(), tls]).inc();
        self.seconds.observe(report.took.as_secs_f64());
        if report.nth_on_connection > 1 {
            self.reused.inc();
        }
        let version = report.tls.as_ref().and_then(TlsVerdict::version);
        let matched = report.tls.as_ref().and_then(TlsVerdict::matched);
        let delivered = report.outcomes.iter().filter(|(_, o)| matches!(o, DeliveryOutcome::Delivered { .. })).count();
        let causes = report.outcomes.iter().filter_map(|(_, outcome)| match outcome {
            DeliveryOutcome::Failed { cause } => Some(cause),
            DeliveryOutcome::Delivered { .. } => None,
        });
        let cause = causes.clone().next();
        tracing::info!(
            %id,
            next_hop,
            host = %report.peer.host,
            address = %report.peer.address,
            policy = report.policy.word(),
            tls,
            version,
            group = report.group,
            matched = matched.as_deref(),
            nth_on_connection = report.nth_on_connection,
            dkim = report.signatures.as_ref().map(ToString::to_string),
            delivered,
            not_delivered = causes.count(),
            cause = cause.map(|c| c.row().word),
            status = cause.map(|c| c.row().status.to_string()),
            result_type = cause.and_then(|c| c.row().result_type),
            detail = cause.map(Cause::sentence),
            evidence = cause.map(evidence),
            exception = exception.map(ToString::to_string),
            took_ms = millis(report.took),
            "attempt"
        );
    }

    pub(super) fn skipped(&self, id: QueueId, next_hop: &str, cause: &Cause) {
        self.total.with_label_values(&["skipped", "none"]).inc();
        let row = cause.row();
        tracing::info!(
            %id,
            next_hop,
            cause = row.word,
            status = %row.status,
            result_type = row.result_type,
            side = row.side.word(),
            detail = cause.sentence(),
            evidence = evidence(cause),
            "attempt"
        );
    }
}
