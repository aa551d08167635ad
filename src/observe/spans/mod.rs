//! The way of a message as spans of one trace, for a collector that speaks OTLP. Built in with the feature
//! `otel` and on where `OTEL_EXPORTER_OTLP_ENDPOINT` says where the collector is; otherwise it costs nothing.
//!
//! The ids of a trace follow from the relay's name and the queue id, so that attempts before and after a
//! restart, hours apart, belong to the same trace. Spans name hosts, policies and causes: no address of a
//! person, no content.

#[cfg(not(feature = "otel"))]
mod off;
#[cfg(feature = "otel")]
mod otlp;

#[cfg(not(feature = "otel"))]
pub use off::{NoExport as SpanExport, NotBuiltIn as ExporterError};
#[cfg(feature = "otel")]
pub use otlp::{ExporterError, SpanExport};

use crate::clock::Timestamp;
use crate::deliver::AttemptReport;
use crate::envelope::QueueId;
use crate::outcome::{DeliveryOutcome, TlsVerdict};

/// Where the collector is; without it nothing is recorded.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"];

fn is_wanted() -> bool {
    ENDPOINTS.iter().any(|name| std::env::var_os(name).is_some_and(|value| !value.is_empty()))
}

/// A piece of work on a message, from its making until it is dropped.
#[must_use]
pub struct WorkSpan {
    #[cfg(feature = "otel")]
    recorded: Option<otlp::Recorded>,
}

impl WorkSpan {
    /// Work on a message begins.
    pub fn begin(id: QueueId, name: &'static str) -> Self {
        #[cfg(not(feature = "otel"))]
        let _ = (id, name);
        Self {
            #[cfg(feature = "otel")]
            recorded: otlp::Recorded::begin(id, name),
        }
    }

    /// A part of this work begins.
    pub fn part(&self, name: &'static str) -> Self {
        #[cfg(not(feature = "otel"))]
        let _ = name;
        Self {
            #[cfg(feature = "otel")]
            recorded: self.recorded.as_ref().map(|recorded| recorded.part(name)),
        }
    }

    /// Says something about it; `value` is asked for only where somebody listens.
    pub fn note(&self, key: &'static str, value: impl FnOnce() -> String) {
        #[cfg(not(feature = "otel"))]
        let _ = (key, value);
        #[cfg(feature = "otel")]
        if let Some(recorded) = &self.recorded {
            recorded.note(key, value());
        }
    }

    /// It did not succeed, by the word of the cause.
    pub fn failed(&self, cause: &'static str) {
        #[cfg(not(feature = "otel"))]
        let _ = cause;
        #[cfg(feature = "otel")]
        if let Some(recorded) = &self.recorded {
            recorded.failed(cause);
        }
    }

    /// What an attempt at a mail server has brought.
    pub fn note_attempt(&self, report: &AttemptReport) {
        self.note("server.address", || report.peer.host.clone());
        self.note("network.peer.address", || report.peer.address.to_string());
        self.note("relay.policy", || report.policy.word().to_owned());
        self.note("relay.tls", || report.tls.as_ref().map_or("none", TlsVerdict::word).to_owned());
        self.note("relay.recipients", || report.outcomes.len().to_string());
        let first_cause = report.outcomes.iter().find_map(|(_, outcome)| match outcome {
            DeliveryOutcome::Failed { cause } => Some(cause),
            DeliveryOutcome::Delivered { .. } => None,
        });
        if let Some(cause) = first_cause {
            self.failed(cause.row().word);
        }
    }
}

/// Nothing of a message is left to be done: its whole way, since it was accepted.
pub fn message_ended(id: QueueId, accepted_at: Timestamp) {
    #[cfg(not(feature = "otel"))]
    let _ = (id, accepted_at);
    #[cfg(feature = "otel")]
    otlp::message_ended(id, accepted_at);
}
