//! From one route to an outcome for each of its recipients: server by server, in the order of the
//! plan (RFC 5321 §5.1).

use super::Pipeline;
use super::journal::Journal;
use super::outbound::{PolicyDoubt, RouteFacts, Tried};
use crate::clock::Timestamp;
use crate::deliver::driver::OpenBody;
use crate::deliver::message::Message;
use crate::deliver::{Planned, Target};
use crate::envelope::{QueueId, TlsRequest};
use crate::outcome::{Cause, Class, DeliveryOutcome, Phase};
use crate::policy::decide::failed_under_require_tls;
use crate::route::Route;
use crate::spool::{BodyReader, Spool, SpoolEntry, SpoolError};
use async_trait::async_trait;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

/// Recipients offered in one transaction; RFC 5321 §4.5.3.1.8 makes every server take 100.
const RECIPIENTS_PER_TRANSACTION: usize = 100;

/// After this no further server is tried in one attempt, and no further transaction begun: a
/// domain whose dozen servers all draw things out must not hold one of the places of all domains
/// for hours. The next attempt shuffles them again (RFC 5321 §5.1).
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3600);

/// What became of recipients, by index in the envelope.
pub(super) type Outcomes = BTreeMap<usize, DeliveryOutcome>;

/// One message on one route.
pub(super) struct DeliveryAttempt<'a> {
    pub(super) entry: &'a SpoolEntry,
    pub(super) route: &'a Route,
    /// By index in the envelope.
    pub(super) recipients: &'a [usize],
    pub(super) journal: Journal,
    next_hop: String,
    began: Timestamp,
}

impl<'a> DeliveryAttempt<'a> {
    pub(super) fn begin(entry: &'a SpoolEntry, route: &'a Route, recipients: &'a [usize], now: Timestamp) -> Self {
        let (journal, next_hop) = (Journal::default(), route.hop.to_string());
        Self { entry, route, recipients, journal, next_hop, began: now }
    }

    /// Every attempt shuffles the servers again, and a log line is enough to tell how.
    pub(super) fn seed(&self) -> u64 {
        self.entry.id.0.wrapping_add(u64::from(self.entry.attempts))
    }
}

impl Pipeline {
    /// Delivers to those who have no final outcome so far, over the servers of a plan.
    pub(super) async fn deliver(
        &self,
        attempt: &DeliveryAttempt<'_>,
        facts: &RouteFacts,
        plan: Result<Vec<Planned>, Cause>,
        mut so_far: Outcomes,
    ) -> Tried<Outcomes> {
        let open = pending(attempt.recipients, &so_far);
        let Tried { outcomes, policy } = match plan {
            Ok(steps) => self.try_servers(attempt, facts, steps, &open).await,
            Err(cause) => {
                Tried { outcomes: self.none_tried(attempt, &open, &cause), policy: PolicyDoubt::over([&cause]) }
            }
        };
        so_far.extend(outcomes);
        let is_all_done = pending(attempt.recipients, &so_far).is_empty();
        Tried { outcomes: so_far, policy: if is_all_done { PolicyDoubt::None } else { policy } }
    }

    /// One cause stops all.
    pub(super) fn none_tried(&self, attempt: &DeliveryAttempt<'_>, recipients: &[usize], cause: &Cause) -> Outcomes {
        self.observer.no_attempt(attempt.entry.id, &attempt.next_hop, cause);
        attempt.journal.not_tried(&attempt.next_hop, recipients, cause);
        recipients.iter().map(|&index| (index, DeliveryOutcome::Failed { cause: cause.clone() })).collect()
    }

    async fn try_servers(
        &self,
        attempt: &DeliveryAttempt<'_>,
        facts: &RouteFacts,
        steps: Vec<Planned>,
        recipients: &[usize],
    ) -> Tried<Outcomes> {
        let (mut results, mut policy) = (Outcomes::new(), PolicyDoubt::None);
        for step in steps {
            let pending = pending(recipients, &results);
            // Whoever is left has an outcome: that of the servers before.
            if pending.is_empty() || (!results.is_empty() && self.is_late(attempt)) {
                break;
            }
            match step {
                Planned::Try(target) => {
                    for (index, outcome) in self.try_server(attempt, facts, &target, &pending).await {
                        policy = policy.max(PolicyDoubt::over(cause_of(&outcome)));
                        record(&mut results, index, outcome);
                    }
                }
                Planned::Skip { cause, .. } => {
                    let cause = self.under_request(attempt, cause);
                    policy = policy.max(PolicyDoubt::over([&cause]));
                    self.observer.no_attempt(attempt.entry.id, &attempt.next_hop, &cause);
                    attempt.journal.not_tried(&attempt.next_hop, &pending, &cause);
                    pending.into_iter().for_each(|index| record_unasked(&mut results, index, &cause));
                }
            }
        }
        Tried { outcomes: results, policy }
    }

    /// Offers the message to one server, in transactions of a size that it takes. What a
    /// transaction leaves over goes into the next one, on the same connection where that is kept.
    async fn try_server(
        &self,
        attempt: &DeliveryAttempt<'_>,
        facts: &RouteFacts,
        target: &Target,
        pending: &[usize],
    ) -> Vec<(usize, DeliveryOutcome)> {
        let entry = attempt.entry;
        let body = SpooledBody { spool: Arc::clone(&self.spool), id: entry.id };
        let mut outcomes = Vec::with_capacity(pending.len());
        let mut waiting: VecDeque<usize> = pending.iter().copied().collect();
        while !waiting.is_empty() {
            // A server may take one recipient at a time, and its time for each.
            if !outcomes.is_empty() && self.is_late(attempt) {
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
                    *cause = self.under_request(attempt, cause.clone());
                }
            }
            self.observer.attempt(entry.id, &attempt.next_hop, &report, facts.rule.exception.as_ref());
            attempt.journal.attempt(&attempt.next_hop, &report, facts);
            outcomes.extend(report.outcomes);
            // Each transaction settles at least one recipient, so this comes to an end.
            report.left.into_iter().rev().for_each(|index| waiting.push_front(index));
        }
        outcomes
    }

    /// Whether nothing further is to be begun. A clock that was set back makes nothing late.
    fn is_late(&self, attempt: &DeliveryAttempt<'_>) -> bool {
        self.out.clock.now().since(attempt.began) >= ATTEMPT_LIMIT
    }

    /// What a failure means for a message whose sender asked for REQUIRETLS.
    fn under_request(&self, attempt: &DeliveryAttempt<'_>, cause: Cause) -> Cause {
        match attempt.entry.envelope.tls {
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
