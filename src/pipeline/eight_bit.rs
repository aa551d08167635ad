//! A second round for 8-bit content that some server of a next hop did not take: after all of them were
//! asked, it is converted (RFC 6152 §3), or returned with the reason why that cannot be.

use super::Pipeline;
use crate::deliver::driver::OpenBody;
use crate::deliver::eight_bit::Conversion;
use crate::envelope::QueueId;
use crate::outcome::{Cause, DeliveryOutcome};
use crate::smtp::eight_bit::Unconvertible;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a second round may do.
pub(super) enum SecondRound {
    /// Offer the message again, converted.
    With(Arc<Conversion>),
    /// There is no second round.
    None,
}

impl Pipeline {
    /// Finds out whether the message can be converted. Where it cannot, the outcomes of those whose
    /// servers wanted that say why.
    pub(super) async fn second_round(
        &self,
        id: QueueId,
        body: &dyn OpenBody,
        outcomes: &mut BTreeMap<usize, DeliveryOutcome>,
    ) -> SecondRound {
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

fn explain(outcomes: &mut BTreeMap<usize, DeliveryOutcome>, why_not: Unconvertible) {
    for outcome in outcomes.values_mut() {
        if let DeliveryOutcome::Failed { cause: Cause::EightBitNotOffered { unconvertible, .. } } = outcome {
            *unconvertible = Some(why_not);
        }
    }
}
