//! What is told of the reports on TLS (RFC 8460): what they count, and what becomes of them.

use super::Register;
use super::closed::from_zero;
use crate::envelope::QueueId;
use crate::report::tls::RESULT_TYPES;
use crate::spool::tls_session::{PolicyType, TlsReportId, TlsReportState, TlsSession};
use prometheus::{Error, IntCounter, IntCounterVec};

/// The kinds of policies.
const POLICY_TYPES: &[&str] = &[PolicyType::Tlsa.word(), PolicyType::Sts.word(), PolicyType::NoPolicyFound.word()];
/// What becomes of a report.
const STATES: &[&str] = &["sent", "waiting", "not-wanted", "given-up"];

pub(crate) struct TlsReportMetrics {
    sessions: IntCounterVec,
    reports: IntCounterVec,
    lost: IntCounter,
}

impl TlsReportMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let sessions = r.counters(
            "relay_tls_sessions_total",
            "Sessions counted for the reports on TLS, by the kind of policy and the result: ok or a result type of RFC 8460.",
            &["policy", "result"],
        )?;
        let reports = r.counters(
            "relay_tls_reports_total",
            "Reports on TLS, by what a try brought: sent, waiting for another try, not wanted, or given up.",
            &["state"],
        )?;
        let results: Vec<&str> = std::iter::once("ok").chain(RESULT_TYPES).collect();
        from_zero(&sessions, &[POLICY_TYPES, &results]);
        from_zero(&reports, &[STATES]);
        let lost = "Mails with reports on TLS that no server took within a day.";
        Ok(Self { sessions, reports, lost: r.counter("relay_tls_report_mails_lost_total", lost)? })
    }

    /// Sessions are counted, and durable.
    pub(crate) fn counted(&self, sessions: &[TlsSession]) {
        for session in sessions {
            let result = session.failure.as_ref().map_or("ok", |failure| &failure.result_type);
            self.sessions.with_label_values(&[session.policy.kind.word(), result]).inc();
        }
    }

    /// A report has come so far.
    pub(crate) fn became(&self, report: &TlsReportId, state: &TlsReportState) {
        self.reports.with_label_values(&[state.word()]).inc();
        let (domain, day) = (&report.domain, report.day);
        match state {
            TlsReportState::Sent { to, .. } => {
                tracing::info!(domain, %day, to = to.join(", "), "report on TLS sent");
            }
            TlsReportState::Waiting { due, tries, last } => {
                let last = last.as_deref().unwrap_or_default();
                tracing::info!(domain, %day, %due, tries, last, "report on TLS waits for another try");
            }
            TlsReportState::NotWanted { because, .. } => {
                tracing::debug!(domain, %day, because, "report on TLS not wanted");
            }
            TlsReportState::GivenUp { because, .. } => {
                tracing::warn!(domain, %day, because, "report on TLS given up");
            }
        }
    }

    /// No server has taken the mail with a report.
    pub(crate) fn lost(&self, id: QueueId, domain: &str) {
        self.lost.inc();
        tracing::warn!(%id, domain, "the mail with a report on TLS could not be delivered");
    }

    /// Reports cannot be made for now.
    #[expect(clippy::unused_self, reason = "the log is told by whoever knows the metrics")]
    pub(crate) fn failed(&self, error: &str) {
        tracing::error!(error, "reports on TLS cannot be made");
    }
}
