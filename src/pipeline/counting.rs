//! Counts what attempts come to for the reports on TLS (RFC 8460 §4), beside their history.

use super::Pipeline;
use super::attempt::DeliveryAttempt;
use super::journal::Untried;
use super::outbound::policy_domain;
use super::tls_sessions::{EndedTry, of_attempt, of_untried};
use crate::deliver::Target;
use crate::envelope::Origin;
use crate::net::Reach;
use crate::outcome::Cause;
use crate::route::Route;
use crate::smtp::address::Domain;
use crate::spool::SpoolEntry;
use std::net::IpAddr;

impl Pipeline {
    /// The domain for whose report a message counts; that of the next hop (RFC 8460 §1.1). Reports on TLS themselves
    /// count for none (RFC 8460 §3), and where none are sent nothing is counted.
    pub(super) fn counted_for(&self, entry: &SpoolEntry, route: &Route) -> Option<Domain> {
        let is_report = matches!(entry.envelope.origin, Origin::TlsReport { .. });
        let counts = self.out.config.tls_reports.enabled && !is_report;
        policy_domain(&route.hop).filter(|_| counts).cloned()
    }

    /// A conversation with a server has ended.
    pub(super) fn count(&self, attempt: &DeliveryAttempt<'_>, ended: &EndedTry<'_>) {
        let Some(domain) = &attempt.counted_for else { return };
        let mut sessions = of_attempt(domain, ended);
        if sessions.iter().any(|session| session.failure.is_some()) {
            let source = self.shown_source(ended.target);
            let failures = sessions.iter_mut().filter_map(|session| session.failure.as_mut());
            failures.for_each(|failure| failure.sending_address = source);
        }
        attempt.journal.count(sessions);
    }

    /// No connection was made.
    pub(super) fn not_tried(&self, attempt: &DeliveryAttempt<'_>, untried: &Untried<'_>, cause: &Cause) {
        self.observer.no_attempt(attempt.entry.id, untried.next_hop, cause);
        attempt.journal.not_tried(untried, cause);
        if let Some(domain) = &attempt.counted_for {
            attempt.journal.count(of_untried(domain, untried.host, cause, untried.facts));
        }
    }

    /// The address we came from, where it is one that others can see.
    fn shown_source(&self, target: &Target) -> Option<IpAddr> {
        let peer = target.peer.address.ip();
        let source = target.egress.source.towards(peer).or_else(|| self.out.network.source_to(peer))?;
        let is_seen = Reach::of(source) == Reach::Public || self.out.config.delivery.allow_loopback;
        is_seen.then_some(source)
    }
}
