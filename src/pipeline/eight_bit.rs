//! A second round for 8-bit content that some server of a next hop did not take: after all of them were
//! asked, it is converted (RFC 6152 §3), or returned with the reason why that cannot be.

use super::Pipeline;
use super::attempt::DeliveryAttempt;
use super::outcomes::Outcomes;
use crate::deliver::driver::OpenBody;
use crate::deliver::eight_bit::Conversion;
use crate::envelope::QueueId;
use crate::outcome::{Cause, DeliveryOutcome};
use crate::smtp::eight_bit::Unconvertible;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// What a second round may do.
enum SecondRound {
    /// Offer the message again, converted.
    With(Arc<Conversion>),
    /// There is no second round.
    None,
}

impl Pipeline {
    /// Whether there is to be a second round with converted content. Where there cannot be one, the
    /// outcomes say why.
    pub(super) async fn may_convert(
        &self,
        attempt: &DeliveryAttempt<'_>,
        open: &[usize],
        so_far: &mut Outcomes,
    ) -> bool {
        let is_wanted = attempt.wants_seven_bits.load(Ordering::Relaxed) && attempt.conversion.get().is_none();
        if !is_wanted || open.is_empty() {
            return false;
        }
        match self.second_round(attempt.entry.id, &self.body_of(attempt.entry.id), so_far).await {
            SecondRound::With(conversion) => {
                match self.sign(attempt.entry.id, &attempt.signatures, Some(&conversion)).await {
                    Ok(()) => attempt.conversion.set(conversion).is_ok(),
                    Err(cause) => {
                        so_far.extend(self.none_tried(attempt, open, &cause, None));
                        false
                    }
                }
            }
            SecondRound::None => false,
        }
    }

    /// Finds out whether the message can be converted. Where it cannot, the outcomes of those whose
    /// servers wanted that say why.
    async fn second_round(&self, id: QueueId, body: &dyn OpenBody, outcomes: &mut Outcomes) -> SecondRound {
        let by = format!("{} id {id}", self.out.config.hostname);
        match Conversion::of(body, &by).await {
            Ok(Ok(conversion)) => SecondRound::With(conversion),
            Ok(Err(why_not)) => {
                explain(outcomes, why_not);
                SecondRound::None
            }
            Err(error) => {
                self.observer.spool_failed("read the message to convert it", &error);
                SecondRound::None
            }
        }
    }
}

fn explain(outcomes: &mut Outcomes, why_not: Unconvertible) {
    for outcome in outcomes.values_mut() {
        if let DeliveryOutcome::Failed { cause: Cause::EightBitNotOffered { unconvertible, .. } } = outcome {
            *unconvertible = Some(why_not);
        }
    }
}
