//! From one route to an outcome for each of its recipients: server by server, in the order of the
//! plan (RFC 5321 §5.1).

use super::Pipeline;
use super::journal::Journal;
use super::outbound::{FactsWanted, RouteFacts};
use crate::clock::Timestamp;
use crate::deliver::driver::OpenBody;
use crate::deliver::message::Message;
use crate::deliver::{Planned, Target};
use crate::envelope::{QueueId, TlsRequest};
use crate::outcome::{Cause, Class, DeliveryOutcome, Phase};
use crate::policy::decide::{failed_under_require_tls, sts_may_have_changed};
use crate::route::Route;
use crate::spool::event::Event;
use crate::spool::{BodyReader, Spool, SpoolEntry, SpoolError};
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Recipients offered in one transaction; RFC 5321 §4.5.3.1.8 makes every server take 100.
const RECIPIENTS_PER_TRANSACTION: usize = 100;

/// After this no further server is tried in one attempt, and no further transaction begun: a
/// domain whose dozen servers all draw things out must not hold one of the places of all domains
/// for hours. The next attempt shuffles them anew (RFC 5321 §5.1).
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3600);

/// What became of recipients, by index in the envelope.
type Outcomes = BTreeMap<usize, DeliveryOutcome>;

/// What came of all servers of a plan.
#[derive(Default)]
struct Tried {
    outcomes: Outcomes,
    /// Whether a server was left out or failed over a policy that may have changed since. It need not
    /// be the one whose word the recipients have in the end.
    policy_may_have_changed: bool,
}

/// One message on one route.
struct DeliveryAttempt<'a> {
    entry: &'a SpoolEntry,
    route: &'a Route,
    next_hop: String,
    journal: &'a Journal,
    began: Timestamp,
}

impl Pipeline {
    /// Delivers to the recipients that share a route, and tells how. A list of next hops is gone through
    /// within the same attempt, each of them held to the same rule.
    pub(super) async fn deliver(&self, entry: &SpoolEntry, route: &Route, indices: &[usize]) -> (Outcomes, Vec<Event>) {
        let (journal, began) = (Journal::default(), self.out.clock.now());
        // Every attempt shuffles anew, and a log line is enough to tell how.
        let seed = entry.id.0.wrapping_add(u64::from(entry.attempts));
        let in_turn = route.in_turn(seed, |hop| self.failover().has_failed(hop, began));
        let mut results = Outcomes::new();
        for single in &in_turn {
            let pending = pending(indices, &results);
            let next_hop = single.hop.to_string();
            let errand = DeliveryAttempt { entry, route: single, next_hop, journal: &journal, began };
            if pending.is_empty() || (!results.is_empty() && self.is_late(&errand)) {
                break;
            }
            let outcomes = self.run_errand(&errand, &pending, seed).await;
            if in_turn.len() > 1 {
                self.failover().tried(&single.hop, outcomes.values(), self.out.clock.now());
            }
            outcomes.into_iter().for_each(|(index, outcome)| record(&mut results, index, outcome));
        }
        (results, journal.into_events())
    }

    async fn run_errand(&self, errand: &DeliveryAttempt<'_>, indices: &[usize], seed: u64) -> Outcomes {
        let DeliveryAttempt { entry, route, .. } = *errand;
        let known = match self.out.find_out(route, entry.envelope.tls, seed, FactsWanted::WhatDecides).await {
            Ok(known) => known,
            Err(cause) => return self.all_failed(errand, indices, cause),
        };
        let Tried { outcomes: mut results, policy_may_have_changed } = self.try_servers(errand, &known, indices).await;
        let again = pending(indices, &results);
        // A policy that has changed must not make mail fail (RFC 8461 §5.1).
        if policy_may_have_changed
            && !again.is_empty()
            && let Some(known) = self.out.known_anew(route, &known).await
        {
            results.extend(self.try_servers(errand, &known, &again).await.outcomes);
        }
        results
    }

    fn all_failed(&self, errand: &DeliveryAttempt<'_>, indices: &[usize], cause: Cause) -> Outcomes {
        self.observer.no_attempt(errand.entry.id, &errand.next_hop, &cause);
        errand.journal.not_tried(&errand.next_hop, indices, &cause);
        indices.iter().map(|&index| (index, DeliveryOutcome::Failed { cause: cause.clone() })).collect()
    }

    async fn try_servers(&self, errand: &DeliveryAttempt<'_>, known: &RouteFacts, indices: &[usize]) -> Tried {
        let steps = match self.out.plan(&errand.route.hop, known) {
            Ok(steps) => steps,
            Err(cause) => {
                let policy_may_have_changed = sts_may_have_changed(&cause);
                return Tried { outcomes: self.all_failed(errand, indices, cause), policy_may_have_changed };
            }
        };
        let Tried { outcomes: mut results, mut policy_may_have_changed } = Tried::default();
        for step in steps {
            let pending = pending(indices, &results);
            // Whoever is left has an outcome: that of the servers before.
            if pending.is_empty() || (!results.is_empty() && self.is_late(errand)) {
                break;
            }
            match step {
                Planned::Try(target) => {
                    for (index, outcome) in self.try_server(errand, known, &target, &pending).await {
                        policy_may_have_changed |= cause_of(&outcome).is_some_and(sts_may_have_changed);
                        record(&mut results, index, outcome);
                    }
                }
                Planned::Skip { cause, .. } => {
                    let cause = self.under_request(errand, cause);
                    policy_may_have_changed |= sts_may_have_changed(&cause);
                    self.observer.no_attempt(errand.entry.id, &errand.next_hop, &cause);
                    errand.journal.not_tried(&errand.next_hop, &pending, &cause);
                    pending.into_iter().for_each(|index| record_unasked(&mut results, index, &cause));
                }
            }
        }
        Tried { outcomes: results, policy_may_have_changed }
    }

    /// Offers the message to one server, in transactions of a size that it takes. What a
    /// transaction leaves over goes into the next one, on the same connection where that is kept.
    async fn try_server(
        &self,
        errand: &DeliveryAttempt<'_>,
        known: &RouteFacts,
        target: &Target,
        pending: &[usize],
    ) -> Vec<(usize, DeliveryOutcome)> {
        let entry = errand.entry;
        let body = SpooledBody { spool: Arc::clone(&self.spool), id: entry.id };
        let mut outcomes = Vec::with_capacity(pending.len());
        let mut waiting: VecDeque<usize> = pending.iter().copied().collect();
        while !waiting.is_empty() {
            // A server may take one recipient at a time, and its time for each.
            if !outcomes.is_empty() && self.is_late(errand) {
                let cause = Cause::TimedOut { peer: target.peer.clone(), phase: Phase::MailFrom };
                let late = |index| (index, DeliveryOutcome::Failed { cause: cause.clone() });
                outcomes.extend(waiting.drain(..).map(late));
                break;
            }
            let some: Vec<usize> = waiting.drain(..waiting.len().min(RECIPIENTS_PER_TRANSACTION)).collect();
            let message = Message::of(&entry.envelope, entry.size, &some);
            let mut report = self.out.mailer.attempt(target, message, &body).await;
            for (_, outcome) in &mut report.outcomes {
                if let DeliveryOutcome::Failed { cause } = outcome {
                    *cause = self.under_request(errand, cause.clone());
                }
            }
            self.observer.attempt(entry.id, &errand.next_hop, &report, known.rule.exception.as_ref());
            errand.journal.attempt(&errand.next_hop, &report, known);
            outcomes.extend(report.outcomes);
            // Each transaction settles at least one recipient, so this comes to an end.
            report.left.into_iter().rev().for_each(|index| waiting.push_front(index));
        }
        outcomes
    }

    /// Whether nothing further is to be begun. A clock that was set back makes nothing late.
    fn is_late(&self, errand: &DeliveryAttempt<'_>) -> bool {
        self.out.clock.now().since(errand.began) >= ATTEMPT_LIMIT
    }

    /// What a failure means for a message whose sender asked for REQUIRETLS.
    fn under_request(&self, errand: &DeliveryAttempt<'_>, cause: Cause) -> Cause {
        match errand.entry.envelope.tls {
            TlsRequest::Required => failed_under_require_tls(cause),
            TlsRequest::ByPolicy | TlsRequest::Optional => cause,
        }
    }
}

fn pending(indices: &[usize], results: &Outcomes) -> Vec<usize> {
    indices.iter().copied().filter(|index| results.get(index).is_none_or(may_try_elsewhere)).collect()
}

const fn cause_of(outcome: &DeliveryOutcome) -> Option<&Cause> {
    match outcome {
        DeliveryOutcome::Delivered { .. } => None,
        DeliveryOutcome::Failed { cause } => Some(cause),
    }
}

/// The word of a later server counts more, except where it only says that this server is not the
/// one, and an earlier one may still be.
fn record(results: &mut Outcomes, index: usize, outcome: DeliveryOutcome) {
    let earlier_may_recover = results.get(&index).and_then(cause_of).is_some_and(|c| c.class() == Class::Transient);
    if !(earlier_may_recover && cause_of(&outcome).is_some_and(is_about_this_server)) {
        results.insert(index, outcome);
    }
}

/// A reason found by talking to a server says more than a host left alone; but where the others only
/// said that they are not the one, this one may still be, once more is known about it.
fn record_unasked(results: &mut Outcomes, index: usize, cause: &Cause) {
    let is_no_end = |earlier: &Cause| {
        is_about_this_server(earlier) && earlier.class() == Class::Permanent && cause.class() == Class::Transient
    };
    let says_more = match results.get(&index) {
        None => true,
        Some(earlier) => cause_of(earlier).is_some_and(is_no_end),
    };
    if says_more {
        results.insert(index, DeliveryOutcome::Failed { cause: cause.clone() });
    }
}

/// A permanent failure of this server alone, not of the recipient.
const fn is_about_this_server(cause: &Cause) -> bool {
    matches!(
        cause,
        Cause::Rejected { phase: Phase::Greeting | Phase::Ehlo | Phase::EhloInTls, .. }
            | Cause::MessageTooLarge { .. }
            | Cause::EightBitNotOffered { .. }
            | Cause::SmtpUtf8NotOffered { .. }
            | Cause::AddressForbidden { .. }
            | Cause::RequireTlsUnmet { .. }
    )
}

/// Whether the next server may be asked about a recipient. A refusal of the recipient is final;
/// a server that refuses us as such is not. After the dot the message may be theirs already, and
/// another server would make a duplicate certain.
fn may_try_elsewhere(outcome: &DeliveryOutcome) -> bool {
    let Some(cause) = cause_of(outcome) else { return false };
    let perhaps_taken = matches!(
        cause,
        Cause::TimedOut { phase: Phase::EndOfData, .. } | Cause::ConnectionLost { phase: Phase::EndOfData, .. }
    );
    is_about_this_server(cause) || (cause.class() == Class::Transient && !perhaps_taken)
}

struct SpooledBody {
    spool: Arc<dyn Spool>,
    id: QueueId,
}

#[async_trait]
impl OpenBody for SpooledBody {
    async fn open(&self) -> Result<Box<dyn BodyReader>, SpoolError> {
        self.spool.open_body(self.id).await
    }
}
