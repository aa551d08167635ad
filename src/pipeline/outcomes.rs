//! What counts of the words of several servers about one recipient. Pure.

use super::outbound::PolicyDoubt;
use crate::outcome::{Cause, Class, DeliveryOutcome, Phase};
use std::collections::BTreeMap;

/// What became of recipients, by index in the envelope.
pub(super) type Outcomes = BTreeMap<usize, DeliveryOutcome>;

/// Those about whom another server may be asked.
pub(super) fn pending(indices: &[usize], results: &Outcomes) -> Vec<usize> {
    indices.iter().copied().filter(|index| results.get(index).is_none_or(may_try_elsewhere)).collect()
}

const fn cause_of(outcome: &DeliveryOutcome) -> Option<&Cause> {
    match outcome {
        DeliveryOutcome::Delivered { .. } => None,
        DeliveryOutcome::Failed { cause } => Some(cause),
    }
}

pub(super) fn record_all(results: &mut Outcomes, outcomes: Vec<(usize, DeliveryOutcome)>) -> PolicyDoubt {
    let mut doubt = PolicyDoubt::None;
    for (index, outcome) in outcomes {
        doubt = doubt.max(PolicyDoubt::over(cause_of(&outcome)));
        record(results, index, outcome);
    }
    doubt
}

/// The word of a later server counts more, except where it only says that this server is not the
/// one, and an earlier one may still be.
pub(super) fn record(results: &mut Outcomes, index: usize, outcome: DeliveryOutcome) {
    let earlier_may_recover = results.get(&index).and_then(cause_of).is_some_and(|c| c.class() == Class::Transient);
    if !(earlier_may_recover && cause_of(&outcome).is_some_and(is_about_this_server)) {
        results.insert(index, outcome);
    }
}

/// A reason found by talking to a server says more than a host left alone; but where the others only
/// said that they are not the one, this one may still be, once more is known about it.
pub(super) fn record_unasked(results: &mut Outcomes, index: usize, cause: &Cause) {
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
    is_about_this_server(cause) || (cause.class() == Class::Transient && !cause.may_be_delivered())
}
