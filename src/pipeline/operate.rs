//! What the operator does with a message: under a claim as any delivery, and recorded as any.

use super::Pipeline;
use super::conclude::Progress;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::{Cause, DeliveryOutcome};
use crate::route;
use crate::spool::conclude::Conclusion;
use crate::spool::event::{Act, Actor, Event};
use crate::spool::{Claim, Hold, Pending, RecipientState, Settlement, SpoolError};
use std::collections::BTreeSet;

/// What the operator wants.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// What is done.
    pub act: Act,
    /// Who wants it.
    pub actor: Actor,
}

/// What came of an order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Acted {
    /// It is done and recorded.
    Done,
    /// The message is in delivery now, or has left the queue.
    Busy,
    /// It is held: it has to be released first.
    Held,
}

impl Pipeline {
    /// Does to some recipients of a message what the operator wants; `hold` and `release` concern
    /// all of it. `hold` says how it stands.
    ///
    /// # Errors
    /// When it cannot be recorded; then nothing has changed.
    pub async fn operate(
        &self,
        order: &Order,
        id: QueueId,
        recipients: &[usize],
        hold: Hold,
    ) -> Result<Acted, SpoolError> {
        let now = self.out.clock.now();
        if (order.act, hold) == (Act::Retry, Hold::Held) {
            return Ok(Acted::Held);
        }
        let Some(claim) = self.spool.claim_one(id, now).await? else { return Ok(Acted::Busy) };
        self.hosts.is_claimed(id);
        let whole = match order.act {
            Act::Hold | Act::Release | Act::Read => true,
            Act::Retry | Act::Bounce | Act::Delete => false,
        };
        let meant = |index: &usize| whole || recipients.contains(index);
        let waiting = claim.entry.recipients.iter().enumerate().filter(|(_, state)| state.pending().is_some());
        let recipients: Vec<usize> = waiting.map(|(index, _)| index).filter(meant).collect();
        if recipients.is_empty() {
            self.spool.release(claim).await?;
            return Ok(Acted::Busy);
        }
        let settlement = self.order(order, &claim, recipients, now).await;
        let hold = match order.act {
            Act::Hold => Hold::Held,
            Act::Release => Hold::Scheduled,
            Act::Retry | Act::Bounce | Act::Delete | Act::Read => hold,
        };
        let told = super::settle::told_by(&settlement);
        self.spool.settle(claim, Settlement { hold, ..settlement }).await?;
        self.observe_told(id, &told);
        Ok(Acted::Done)
    }

    async fn order(&self, order: &Order, claim: &Claim, recipients: Vec<usize>, now: Timestamp) -> Settlement {
        let entry = &claim.entry;
        let done = Event::Operator { act: order.act, recipients: recipients.clone(), actor: order.actor.clone() };
        let changed = |state: &dyn Fn(&Pending) -> RecipientState| {
            let change = |&index: &usize| Some((index, state(entry.recipients.get(index)?.pending()?)));
            recipients.iter().filter_map(change).collect::<Vec<_>>()
        };
        let conclusion = match order.act {
            Act::Hold | Act::Read => Conclusion::default(),
            // Released, it has an attempt before its time can be up, however long it was held.
            Act::Retry | Act::Release => {
                self.forget_backoff(claim, &recipients);
                let at_once = |pending: &Pending| RecipientState::Queued(Pending { due: None, ..pending.clone() });
                Conclusion { recipients: changed(&at_once), ..Conclusion::default() }
            }
            Act::Delete => Conclusion { recipients: changed(&|_| RecipientState::Removed), ..Conclusion::default() },
            Act::Bounce => {
                let cause = |pending: &Pending| Cause::BouncedByOperator { last: pending.last.clone().map(Box::new) };
                let ended = |pending: &Pending| {
                    let outcome = DeliveryOutcome::Failed { cause: cause(pending) };
                    RecipientState::Done { outcome }
                };
                let failure = |&index: &usize| Some((index, cause(entry.recipients.get(index)?.pending()?)));
                let failures = recipients.iter().filter_map(failure).collect();
                Conclusion { recipients: changed(&ended), failures }
            }
        };
        self.observe_states_at_end(entry, &conclusion);
        let progress = Progress { conclusion, events: vec![done], ..Progress::default() };
        let (mut settlement, next_report) = self.settlement(entry, progress, &BTreeSet::new()).await;
        let now = matches!(order.act, Act::Retry | Act::Release).then_some(now);
        let next = now.or_else(|| super::settle::next_due(entry, &settlement.recipients, &self.span(), None));
        settlement.next_due = next.into_iter().chain(next_report).min();
        settlement
    }

    /// The next hops of recipients are dialled again at once, whatever they were like.
    fn forget_backoff(&self, claim: &Claim, recipients: &[usize]) {
        let named = recipients.iter().filter_map(|&i| Some((i, claim.entry.envelope.recipients.get(i)?)));
        let config = &self.out.config;
        let routes = route::group(named, &claim.entry.envelope.reverse_path, &config.destination, config.delivery.port);
        for route in routes.keys() {
            self.backoff().forget(&route.hop);
            self.hosts.forgive(&route.hop);
        }
    }
}
