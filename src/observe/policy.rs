//! What the policies about TLS tell: MTA-STS policies fetched, weakenings in force, and what is
//! only watched (RFC 8461 §3.3, §5).

use super::closed::{self, STS_RESULTS, WATCHED_BECAUSE};
use super::{Register, evidence};
use crate::deliver::WatchReport;
use crate::envelope::QueueId;
use crate::outcome::rows::ROWS;
use crate::outcome::{Class, Peer};
use crate::policy::exceptions::ExceptionsStatus;
use crate::policy::sts::event::StsEvent;
use crate::policy::sts::memory::Held;
use crate::policy::sts::store::StoreFault;
use prometheus::{Error, IntCounterVec, IntGaugeVec};

pub(super) struct PolicyMetrics {
    watched: IntCounterVec,
    exceptions: IntGaugeVec,
    exceptions_over: IntGaugeVec,
    sts_fetches: IntCounterVec,
}

impl PolicyMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let of = Self {
            watched: r.counters(
                "relay_policy_watched_total",
                "Connections under a policy that is evaluated and not enforced, by why it is not, and by what it \
                 would have refused for; ok where for nothing.",
                &["because", "result"],
            )?,
            exceptions: r.gauges(
                "relay_exceptions",
                "Destinations whose security the configuration weakens now, by kind.",
                &["kind"],
            )?,
            exceptions_over: r.gauges(
                "relay_exceptions_over",
                "Destinations whose weakening is over, by its day or because nothing needs it, and still in the \
                 configuration, by kind.",
                &["kind"],
            )?,
            sts_fetches: r.counters(
                "relay_mta_sts_fetches_total",
                "MTA-STS policies fetched, by result: ok or a result type of RFC 8460; and what failed about keeping \
                 them: policy-lost, store-failed, store-full.",
                &["result"],
            )?,
        };
        closed::from_zero(&of.sts_fetches, &[STS_RESULTS]);
        closed::from_zero(&of.watched, &[WATCHED_BECAUSE, &["ok"]]);
        for row in ROWS.iter().filter(|row| row.class == Class::Transient) {
            closed::from_zero(&of.watched, &[WATCHED_BECAUSE, &[row.word]]);
        }
        Ok(of)
    }

    pub(super) fn watched(&self, id: QueueId, peer: &Peer, watched: &WatchReport) {
        let because = watched.because.word();
        let result = watched.failure.as_ref().map_or("ok", |cause| cause.row().word);
        self.watched.with_label_values(&[because, result]).inc();
        if let Some(cause) = &watched.failure {
            tracing::warn!(
                %id,
                host = %peer.host,
                address = %peer.address,
                because,
                cause = result,
                detail = cause.finding(),
                evidence = evidence(cause),
                "would have been refused"
            );
        }
    }

    /// Every kind that is not named has none.
    pub(super) fn exceptions(&self, now: &ExceptionsStatus) {
        for (gauges, exceptions) in [(&self.exceptions, &now.in_force), (&self.exceptions_over, &now.over)] {
            gauges.reset();
            exceptions.iter().for_each(|exception| gauges.with_label_values(&[exception.kind.as_str()]).inc());
        }
    }

    pub(super) fn sts(&self, event: &StsEvent<'_>) {
        let result = match event {
            StsEvent::Fetched { policy } => {
                let (domain, mode, until) = (&policy.domain, policy.terms.mode.word(), policy.expires_at());
                let policy_id = policy.id.as_ref().map(ToString::to_string);
                tracing::info!(%domain, mode, policy_id, %until, "MTA-STS policy fetched");
                "ok"
            }
            StsEvent::FetchFailed { domain, failure, kept } => {
                let result = failure.result_type();
                let kept_until = match kept {
                    Held::Policy(policy) => Some(policy.expires_at().to_string()),
                    Held::Lost(_) | Held::Nothing => None,
                };
                tracing::warn!(%domain, result, detail = %failure, kept_until, "MTA-STS policy could not be fetched");
                result
            }
            StsEvent::StoreFailed { fault } => {
                tracing::error!(%fault, "the store of MTA-STS policies failed");
                match fault {
                    StoreFault::Lost { .. } | StoreFault::Unreadable { .. } => "policy-lost",
                    StoreFault::Disk { .. } => "store-failed",
                    StoreFault::Full { .. } => "store-full",
                }
            }
        };
        self.sts_fetches.with_label_values(&[result]).inc();
    }
}
