//! What happens while a message is on its way, put into events for its history.

use super::outbound::RouteFacts;
use crate::deliver::AttemptReport;
use crate::outcome::Cause;
use crate::resolve::answer::Trace;
use crate::resolve::{Resolution, TlsaLookup};
use crate::spool::event::{Answered, Attempt, Event, Group, grouped};
use crate::spool::tls_session::TlsSession;
use std::sync::{Mutex, PoisonError};

/// Failed paths that are kept of one question: more than anybody configures.
const FAILURES_KEPT: usize = 8;

/// Events of one attempt, in the order they happened, and what of it counts for the reports on TLS.
#[derive(Default)]
pub(super) struct Journal {
    events: Mutex<Vec<Event>>,
    sessions: Mutex<Vec<TlsSession>>,
}

/// A host or a next hop to which no connection was made.
pub(super) struct Untried<'a> {
    /// The next hop.
    pub(super) next_hop: &'a str,
    /// The host, where it came as far as one.
    pub(super) host: Option<&'a str>,
    /// Whom it would have been for.
    pub(super) recipients: &'a [usize],
    /// What was known, where anything was.
    pub(super) facts: Option<&'a RouteFacts>,
}

impl Journal {
    /// What counts for the reports on TLS.
    pub(super) fn count(&self, sessions: impl IntoIterator<Item = TlsSession>) {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner).extend(sessions);
    }

    /// A conversation with a server has ended.
    pub(super) fn attempt(&self, next_hop: &str, report: &AttemptReport, known: &RouteFacts) {
        let exception = known.rule.exception.as_ref();
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
            group: report.group.map(str::to_owned),
            exception: exception.map(ToString::to_string),
            took_ms: u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
            results: grouped(outcomes).into_iter().map(group).collect(),
            dns: ways_to(&known.resolution, &report.peer.host),
        })));
    }

    /// No connection was made.
    pub(super) fn not_tried(&self, untried: &Untried<'_>, cause: &Cause) {
        let (next_hop, recipients) = (untried.next_hop.to_owned(), untried.recipients.to_vec());
        self.push(Event::NotTried { next_hop, recipients, cause: cause.clone() });
    }

    pub(super) fn take_sessions(&self) -> Vec<TlsSession> {
        std::mem::take(&mut *self.sessions.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(super) fn take_events(&self) -> Vec<Event> {
        std::mem::take(&mut *self.events.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn push(&self, event: Event) {
        self.events.lock().unwrap_or_else(PoisonError::into_inner).push(event);
    }
}

/// By which ways the DNS led to a host: the MX records and the host's TLSA records always, its
/// addresses where some path failed.
fn ways_to(resolution: &Resolution, host: &str) -> Vec<Answered> {
    let base_domain = resolution.hosts.iter().filter(|known| known.name == host).find_map(|known| match &known.tlsa {
        TlsaLookup::Present { base_domain, .. } => Some(base_domain.as_str()),
        TlsaLookup::Absent(_) | TlsaLookup::Unavailable(_) => None,
    });
    let owner = |name: &str| format!("_{}._tcp.{name}", resolution.port);
    let tlsa_owners = [owner(host), owner(base_domain.unwrap_or(host))];
    let leads_here = |trace: &&Trace| match trace.question.record_type.as_str() {
        "MX" => true,
        "TLSA" => tlsa_owners.contains(&trace.question.name),
        _ => trace.question.name == host && !trace.failed.is_empty(),
    };
    let answered = |trace: &Trace| {
        let despite = trace.failed.iter().take(FAILURES_KEPT).cloned().collect();
        Some(Answered { question: trace.question.clone(), path: trace.path.clone()?, despite })
    };
    resolution.traces.iter().filter(leads_here).filter_map(answered).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{PathFailure, Question};
    use crate::resolve::mail::literal;

    fn trace(name: &str, record_type: &str, failures: usize) -> Trace {
        let failed = PathFailure { upstream: "udp://192.0.2.53:53".into(), detail: "timeout".into() };
        Trace {
            question: Question { name: name.into(), record_type: record_type.into() },
            path: Some("authoritative".into()),
            failed: vec![failed; failures],
        }
    }

    #[test]
    fn an_attempt_names_the_ways_to_its_own_host_and_no_more_than_fits() {
        let traces = vec![
            trace("mx.test", "A", 0),
            trace("mx.test", "AAAA", 1),
            trace("other.test", "A", 1),
            trace("a.test", "MX", FAILURES_KEPT + 1),
            trace("_25._tcp.mx.test", "TLSA", 0),
            trace("_25._tcp.other.test", "TLSA", 0),
            Trace { path: None, ..trace("_25._tcp.mx.test", "TLSA", 1) },
        ];
        let resolution = Resolution { traces, ..literal([192, 0, 2, 1].into(), 25) };
        let told: Vec<_> = ways_to(&resolution, "mx.test")
            .into_iter()
            .map(|answered| (answered.question.to_string(), answered.despite.len()))
            .collect();
        let expected = [("mx.test AAAA", 1), ("a.test MX", FAILURES_KEPT), ("_25._tcp.mx.test TLSA", 0)];
        assert_eq!(told, expected.map(|(question, failures)| (question.to_owned(), failures)));
    }
}
