//! From one route to an outcome for each of its recipients: server by server, in the order of the
//! plan (RFC 5321 §5.1).

use super::body::SpooledBody;
use super::failover::HopStanding;
use super::journal::{Journal, Untried};
use super::lease::ClaimHold;
use super::outbound::{PolicyDoubt, RouteFacts, Tried};
use super::outcomes::{Outcomes, pending, record, record_all, record_unasked};
use super::signing::{AttemptSignatures, MessageSigning};
use super::tls_sessions::EndedTry;
use super::{Pipeline, Unrecorded};
use crate::clock::Timestamp;
use crate::deliver::driver::Mailer;
use crate::deliver::egress::refused_by_own_hop;
use crate::deliver::eight_bit::Conversion;
use crate::deliver::hosts::driver::HostSeat;
use crate::deliver::hosts::feedback::{Feedback, feedback};
use crate::deliver::hosts::{Away, Eagerness, Leaving};
use crate::deliver::message::Message;
use crate::deliver::{Planned, Target};
use crate::envelope::{QueueId, TlsRequest};
use crate::observe::spans::WorkSpan;
use crate::outcome::{Cause, DeliveryOutcome, Phase};
use crate::policy::decide::failed_under_require_tls;
use crate::route::{ChosenBy, Route};
use crate::smtp::address::Domain;
use crate::spool::SpoolEntry;
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

/// Recipients offered in one transaction; RFC 5321 §4.5.3.1.8 makes every server take 100.
const RECIPIENTS_PER_TRANSACTION: usize = 100;

/// After this no further server is tried in one attempt, and no further transaction begun: a
/// domain whose dozen servers all draw things out must not hold one of the places of all domains
/// for hours. The next attempt shuffles them again (RFC 5321 §5.1).
const ATTEMPT_LIMIT: Duration = Duration::from_secs(3600);

/// How often one attempt is turned away by a server that has no room for one more of us.
const TURNED_AWAY_LIMIT: u32 = 5;

/// What all routes of a message share.
#[derive(Default)]
pub(super) struct RouteCommons {
    pub(super) signing: MessageSigning,
    pub(super) hold: ClaimHold,
}

/// One message on one route.
pub(super) struct DeliveryAttempt<'a> {
    pub(super) entry: &'a SpoolEntry,
    pub(super) route: &'a Route,
    pub(super) journal: Journal,
    /// What has come of it so far.
    pub(super) outcomes: Outcomes,
    /// All of them, by index in the envelope.
    all: &'a [usize],
    /// The next hops that have not had their turn.
    to_come: VecDeque<Route>,
    /// The one whose turn it is, and for whom.
    next_hop: String,
    /// Whom the reports on TLS go to.
    pub(super) counted_for: Option<Domain>,
    recipients: Vec<usize>,
    began: Timestamp,
    /// Whether a server would have had the message if it were 7-bit.
    pub(super) wants_seven_bits: AtomicBool,
    /// How 8-bit content is converted, once all servers were asked.
    pub(super) conversion: OnceLock<Arc<Conversion>>,
    pub(super) signatures: AttemptSignatures<'a>,
    /// Of the claim that it is made under.
    hold: &'a ClaimHold,
    /// Whether something was not begun because the spool could not be asked.
    left_unbegun: AtomicBool,
    stay: Mutex<(Unrecorded, Option<Away>)>,
    span: WorkSpan,
}

/// What is offered to one server.
struct ServerOffer<'a> {
    target: &'a Target,
    recipients: &'a [usize],
    eagerness: Eagerness,
}

impl DeliveryAttempt<'_> {
    /// The places that are still held, and why no server was asked.
    pub(super) fn stay(&self) -> (Unrecorded, Option<Away>) {
        std::mem::take(&mut *self.stay.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The place of the server before is free for others; what it took is bounded by the new one.
    fn holds(&self, seat: Arc<HostSeat>) {
        self.stay.lock().unwrap_or_else(PoisonError::into_inner).0 = vec![seat];
    }

    /// Of several waits the shortest counts. Gives why the server is left alone, where another one may
    /// be tried instead.
    fn is_sent_away(&self, away: Away) -> Option<Cause> {
        let cause = match &away {
            Away::Full { .. } | Away::Elsewhere => None,
            Away::BackingOff { cause, .. } => Some(Cause::clone(cause)),
        };
        let mut stay = self.stay.lock().unwrap_or_else(PoisonError::into_inner);
        if stay.1.as_ref().is_none_or(|other| until(&away) < until(other)) {
            stay.1 = Some(away);
        }
        cause
    }

    /// Whether recipients have an outcome from elsewhere: another next hop, or a round before the content
    /// was converted. Then this one is not left for want of a place.
    fn has_outcomes(&self) -> bool {
        !self.outcomes.is_empty() || self.conversion.get().is_some()
    }

    /// Whether the recipients come again without a trace.
    pub(super) fn is_left_unbegun(&self) -> bool {
        self.outcomes.is_empty() && self.left_unbegun.load(Ordering::Relaxed)
    }

    /// Every attempt shuffles the servers again, and a log line is enough to tell how.
    pub(super) fn seed(&self) -> u64 {
        seed(self.entry)
    }

    /// A part of the attempt begins.
    pub(super) fn part(&self, name: &'static str) -> WorkSpan {
        self.span.part(name)
    }
}

fn seed(entry: &SpoolEntry) -> u64 {
    entry.id.0.wrapping_add(u64::from(entry.attempts))
}

impl Pipeline {
    pub(super) fn begin<'a>(
        &self,
        entry: &'a SpoolEntry,
        route: &'a Route,
        recipients: &'a [usize],
        commons: &'a RouteCommons,
    ) -> DeliveryAttempt<'a> {
        let began = self.out.clock.now();
        let mut tries_for_all = false;
        let to_come = route.in_turn(seed(entry), |hop| {
            let standing = self.failover().standing(hop, began);
            tries_for_all |= standing == HopStanding::TriedForAll;
            standing == HopStanding::AskedLast
        });
        if tries_for_all {
            // The relay may back off from its servers for longer than the list does.
            self.hosts.forgive(&route.hop);
        }
        let span = WorkSpan::begin(entry.id, "attempt");
        span.note("relay.next_hop", || route.hop.to_string());
        let to_come = to_come.into();
        let (journal, outcomes) = (Journal::default(), Outcomes::new());
        DeliveryAttempt {
            entry,
            route,
            journal,
            outcomes,
            all: recipients,
            to_come,
            next_hop: String::new(),
            counted_for: None,
            recipients: Vec::new(),
            began,
            wants_seven_bits: AtomicBool::new(false),
            conversion: OnceLock::new(),
            signatures: AttemptSignatures::of(&commons.signing),
            hold: &commons.hold,
            left_unbegun: AtomicBool::new(false),
            stay: Mutex::default(),
            span,
        }
    }

    /// The next hop whose turn it is: the only one, or the next of a list while somebody may be taken there.
    pub(super) fn turn(&self, attempt: &mut DeliveryAttempt<'_>) -> Option<Route> {
        let open = pending(attempt.all, &attempt.outcomes);
        if open.is_empty() || !self.may_begin(attempt) || (!attempt.outcomes.is_empty() && self.is_late(attempt)) {
            return None;
        }
        let route = attempt.to_come.pop_front()?;
        (attempt.recipients, attempt.next_hop) = (open, route.hop.to_string());
        attempt.counted_for = self.counted_for(attempt.entry, &route);
        Some(route)
    }

    /// What one next hop has brought.
    pub(super) fn took_turn(&self, attempt: &mut DeliveryAttempt<'_>, route: &Route, brought: Outcomes) {
        if route.hop != attempt.route.hop {
            self.failover().tried(&route.hop, brought.values(), self.out.clock.now());
        }
        brought.into_iter().for_each(|(index, outcome)| record(&mut attempt.outcomes, index, outcome));
    }

    /// Delivers to those who have no final outcome so far, over the servers of a plan.
    pub(super) async fn deliver(
        &self,
        attempt: &DeliveryAttempt<'_>,
        facts: &RouteFacts,
        plan: Result<Vec<Planned>, Cause>,
        mut so_far: Outcomes,
    ) -> Tried<Outcomes> {
        let open = pending(&attempt.recipients, &so_far);
        let policy = match plan {
            Ok(steps) => {
                let Tried { outcomes, policy } = self.try_servers(attempt, facts, steps.clone(), &open).await;
                so_far.extend(outcomes);
                let open = pending(&attempt.recipients, &so_far);
                if self.may_convert(attempt, &open, &mut so_far).await {
                    let Tried { outcomes, policy: again } = self.try_servers(attempt, facts, steps, &open).await;
                    so_far.extend(outcomes);
                    policy.max(again)
                } else {
                    policy
                }
            }
            Err(cause) => {
                so_far.extend(self.none_tried(attempt, &open, &cause, Some(facts)));
                PolicyDoubt::over([&cause])
            }
        };
        let is_all_done = pending(&attempt.recipients, &so_far).is_empty();
        Tried { outcomes: so_far, policy: if is_all_done { PolicyDoubt::None } else { policy } }
    }

    pub(super) fn body_of(&self, id: QueueId) -> SpooledBody {
        SpooledBody { spool: Arc::clone(&self.spool), id }
    }

    /// One cause stops all.
    pub(super) fn none_found(&self, attempt: &DeliveryAttempt<'_>, cause: &Cause) -> Outcomes {
        self.none_tried(attempt, &attempt.recipients, cause, None)
    }

    pub(super) fn none_tried(
        &self,
        attempt: &DeliveryAttempt<'_>,
        recipients: &[usize],
        cause: &Cause,
        facts: Option<&RouteFacts>,
    ) -> Outcomes {
        self.not_tried(attempt, &Untried { next_hop: &attempt.next_hop, host: None, recipients, facts }, cause);
        attempt.span.failed(cause.row().word);
        recipients.iter().map(|&index| (index, DeliveryOutcome::Failed { cause: cause.clone() })).collect()
    }

    async fn try_servers(
        &self,
        attempt: &DeliveryAttempt<'_>,
        facts: &RouteFacts,
        steps: Vec<Planned>,
        recipients: &[usize],
    ) -> Tried<Outcomes> {
        let (mut results, mut policy, mut avoided) = (Outcomes::new(), PolicyDoubt::None, Vec::new());
        for step in steps {
            let pending = pending(recipients, &results);
            // Whoever is left has an outcome: that of the servers before.
            let is_late = !results.is_empty() && self.is_late(attempt);
            if pending.is_empty() || is_late || !self.may_begin(attempt) {
                break;
            }
            match step {
                Planned::Try(target) => {
                    let may_come_again = results.is_empty() && !attempt.has_outcomes();
                    let eagerness = if may_come_again { Eagerness::MayComeAgain } else { Eagerness::MustGoOn };
                    let offer = ServerOffer { target: &target, recipients: &pending, eagerness };
                    match self.try_at_its_place(attempt, facts, &offer).await {
                        Ok(outcomes) => policy = policy.max(record_all(&mut results, outcomes)),
                        Err(away) => match attempt.is_sent_away(away) {
                            Some(cause) => avoided.push(cause),
                            None => break,
                        },
                    }
                }
                Planned::Skip { cause, host } => {
                    let cause = self.under_request(attempt, cause);
                    policy = policy.max(PolicyDoubt::over([&cause]));
                    let (next_hop, host, facts) = (attempt.next_hop.as_str(), Some(host.as_str()), Some(facts));
                    self.not_tried(attempt, &Untried { next_hop, host, recipients: &pending, facts }, &cause);
                    pending.into_iter().for_each(|index| record_unasked(&mut results, index, &cause));
                }
            }
        }
        if !results.is_empty() || attempt.has_outcomes() {
            // A server that was left alone may still be the one.
            for (cause, index) in avoided.iter().flat_map(|cause| recipients.iter().map(move |index| (cause, *index))) {
                record_unasked(&mut results, index, cause);
            }
        }
        Tried { outcomes: results, policy }
    }

    /// Offers the message to one server from a place there. Where the server has no room for one more of
    /// us, the message waits for the place of one of ours.
    async fn try_at_its_place(
        &self,
        attempt: &DeliveryAttempt<'_>,
        facts: &RouteFacts,
        offer: &ServerOffer<'_>,
    ) -> Result<Vec<(usize, DeliveryOutcome)>, Away> {
        let rule = attempt.route.rule.and_then(|index| self.out.config.destination.get(index));
        let mut again = 0;
        loop {
            let seat = Arc::new(self.hosts.enter(&attempt.route.hop, &offer.target.peer, offer.eagerness).await?);
            if !self.may_begin(attempt) {
                let _was_not_asked = seat.leave(&Feedback::Unknown);
                return Ok(Vec::new());
            }
            // Not before there is a place: whoever is sent away comes again, and would be signed again.
            if let Err(cause) = self.sign(attempt.entry.id, &attempt.signatures, None).await {
                let _was_not_asked = seat.leave(&Feedback::Unknown);
                return Ok(self.none_tried(attempt, offer.recipients, &cause, None).into_iter().collect());
            }
            let most = rule.and_then(|rule| rule.max_messages_per_connection).unwrap_or_else(|| seat.messages());
            let mailer = self.out.mailer.seated(&seat, most);
            // In a box, so that those who wait for a place are small.
            let outcomes = Box::pin(self.try_server(attempt, facts, offer, &mailer)).await;
            again += 1;
            match seat.leave(&feedback(outcomes.iter().map(|(_, outcome)| outcome))) {
                Leaving::OneTooMany | Leaving::TooSoon if again < TURNED_AWAY_LIMIT => {}
                Leaving::OneTooMany | Leaving::TooSoon | Leaving::Done => {
                    attempt.holds(seat);
                    return Ok(outcomes);
                }
            }
        }
    }

    /// Offers the message to one server, in transactions of a size that it takes. What a
    /// transaction leaves over goes into the next one, on the same connection where that is kept.
    async fn try_server(
        &self,
        attempt: &DeliveryAttempt<'_>,
        facts: &RouteFacts,
        offer: &ServerOffer<'_>,
        mailer: &Mailer,
    ) -> Vec<(usize, DeliveryOutcome)> {
        let (entry, target, pending) = (attempt.entry, offer.target, offer.recipients);
        let body = self.body_of(entry.id);
        let mut outcomes = Vec::with_capacity(pending.len());
        let mut waiting: VecDeque<usize> = pending.iter().copied().collect();
        while !waiting.is_empty() {
            // Whoever is left has no outcome, and comes again.
            if !outcomes.is_empty() && !self.may_begin(attempt) {
                break;
            }
            // A server may take one recipient at a time, and its time for each.
            if !outcomes.is_empty() && self.is_late(attempt) {
                let cause = Cause::TimedOut { peer: target.peer.clone(), phase: Phase::MailFrom };
                let late = |index| (index, DeliveryOutcome::Failed { cause: cause.clone() });
                outcomes.extend(waiting.drain(..).map(late));
                break;
            }
            let some: Vec<usize> = waiting.drain(..waiting.len().min(RECIPIENTS_PER_TRANSACTION)).collect();
            let conversion = attempt.conversion.get().cloned();
            let message = Message { conversion, ..Message::of(&entry.envelope, entry.size, &some) };
            let message = attempt.signatures.on(message);
            let span = attempt.part("conversation");
            let mut report = mailer.attempt(target, message, &body).await;
            for (_, outcome) in &mut report.outcomes {
                if let DeliveryOutcome::Failed { cause } = outcome {
                    let wants_seven_bits = matches!(cause, Cause::EightBitNotOffered { .. });
                    attempt.wants_seven_bits.fetch_or(wants_seven_bits, Ordering::Relaxed);
                    *cause = self.under_request(attempt, cause.clone());
                }
            }
            self.observer.attempt(entry.id, &attempt.next_hop, &report, facts.rule.exception.as_ref());
            attempt.journal.attempt(&attempt.next_hop, &report, facts);
            self.count(attempt, &EndedTry { target, report: &report, facts });
            span.note_attempt(&report);
            outcomes.extend(report.outcomes);
            // Each transaction settles at least one recipient, so this comes to an end.
            report.left.into_iter().rev().for_each(|index| waiting.push_front(index));
        }
        outcomes
    }

    /// Whether a transaction may be begun: not while the claim may be another worker's, nor while its content cannot be
    /// read and its end not be recorded, nor once the relay ends.
    fn may_begin(&self, attempt: &DeliveryAttempt<'_>) -> bool {
        let may = !attempt.hold.is_in_doubt() && self.goes_on();
        attempt.left_unbegun.fetch_or(!may, Ordering::Relaxed);
        may
    }

    /// Whether nothing further is to be begun. A clock that was set back makes nothing late.
    fn is_late(&self, attempt: &DeliveryAttempt<'_>) -> bool {
        self.out.clock.now().since(attempt.began) >= ATTEMPT_LIMIT
    }

    /// What a failure means for a message whose sender asked for REQUIRETLS, and at a next hop that the
    /// operator named.
    fn under_request(&self, attempt: &DeliveryAttempt<'_>, cause: Cause) -> Cause {
        let cause = match attempt.route.hop.chosen_by() {
            ChosenBy::Operator => refused_by_own_hop(cause),
            ChosenBy::Recipient => cause,
        };
        match attempt.entry.envelope.tls {
            TlsRequest::Required => failed_under_require_tls(cause),
            TlsRequest::ByPolicy | TlsRequest::Optional => cause,
        }
    }
}

/// When what sends a message away is over.
const fn until(away: &Away) -> Timestamp {
    match away {
        // Another relay may take it at once.
        Away::Elsewhere => Timestamp(i64::MIN),
        Away::Full { until, .. } | Away::BackingOff { until, .. } => *until,
    }
}
