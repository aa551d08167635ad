//! What an attempt means for each recipient: done, waiting, or given up (RFC 5321 §4.5.4.1).

use super::{RecipientState, SpoolEntry, schedule};
use crate::clock::Timestamp;
use crate::config::Retry;
use crate::outcome::{Cause, Class, DeliveryOutcome};

/// The states after an attempt, and what follows from them.
#[derive(Debug, Default)]
pub struct Conclusion {
    /// New states by recipient index.
    pub recipients: Vec<(usize, RecipientState)>,
    /// The recipients that failed for good in this attempt, for the NDR.
    pub failures: Vec<(usize, Cause)>,
    /// When those that wait are due again.
    pub next_due: Option<Timestamp>,
}

/// Concludes an attempt at `now`. A transient failure after the message's time is up becomes
/// [`Cause::Expired`] and keeps the real cause.
#[must_use]
pub fn conclude(
    entry: &SpoolEntry,
    outcomes: Vec<(usize, DeliveryOutcome)>,
    retry: &Retry,
    now: Timestamp,
) -> Conclusion {
    let accepted_at = entry.envelope.accepted_at;
    let expires_at = schedule::expires_at(retry, accepted_at);
    let mut conclusion = Conclusion::default();
    for (index, outcome) in outcomes {
        let outcome = match outcome {
            DeliveryOutcome::Failed { cause } if cause.class() == Class::Transient && now < expires_at => {
                let told = entry.recipients.get(index).map(RecipientState::told).unwrap_or_default();
                conclusion.recipients.push((index, RecipientState::Queued { last: Some(cause), told }));
                continue;
            }
            DeliveryOutcome::Failed { cause } if cause.class() == Class::Transient => {
                let waited_s = now.since(accepted_at).as_secs();
                DeliveryOutcome::Failed { cause: Cause::Expired { waited_s, last: Some(Box::new(cause)) } }
            }
            done @ (DeliveryOutcome::Delivered { .. } | DeliveryOutcome::Failed { .. }) => done,
        };
        if let DeliveryOutcome::Failed { cause } = &outcome {
            conclusion.failures.push((index, cause.clone()));
        }
        conclusion.recipients.push((index, RecipientState::Done { outcome }));
    }
    if conclusion.recipients.iter().any(|(_, state)| matches!(state, RecipientState::Queued { .. })) {
        // The last attempt is made when the time is up, not long before it.
        let next = schedule::next_attempt(retry, entry.id, entry.attempts + 1, now);
        conclusion.next_due = Some(next.min(expires_at));
    }
    conclusion
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, Origin, QueueId};
    use crate::outcome::Peer;
    use crate::smtp::address::ReversePath;
    use crate::spool::Told;
    use std::sync::Arc;
    use std::time::Duration;

    fn entry() -> SpoolEntry {
        let recipients = ["a@x.example", "b@x.example"].map(|t| t.parse().unwrap()).into();
        let origin = Origin::Report { about: QueueId(1) };
        let envelope = Envelope::new(ReversePath::Null, recipients, Timestamp(0), origin);
        let recipients = vec![RecipientState::NEW; 2];
        SpoolEntry { id: QueueId(2), envelope: Arc::new(envelope), size: 0, attempts: 0, recipients }
    }

    fn transient() -> DeliveryOutcome {
        let peer = Peer { host: "mx".into(), address: "192.0.2.1:25".parse().unwrap() };
        DeliveryOutcome::Failed { cause: Cause::ConnectFailed { peer, detail: "refused".into() } }
    }

    fn permanent() -> DeliveryOutcome {
        DeliveryOutcome::Failed { cause: Cause::NullMx { domain: "x.example".parse().unwrap() } }
    }

    #[test]
    fn rfc5321_4_2_1_transient_failures_wait_and_permanent_ones_end() {
        let concluded =
            conclude(&entry(), vec![(0, transient()), (1, permanent())], &Retry::default(), Timestamp(1000));
        assert!(matches!(concluded.recipients[0].1, RecipientState::Queued { last: Some(_), .. }));
        assert_eq!(concluded.failures.iter().map(|(i, _)| *i).collect::<Vec<_>>(), vec![1]);
        assert!(concluded.next_due.unwrap() > Timestamp(1000));
    }

    #[test]
    fn what_the_sender_was_told_survives_further_attempts_and_storage() {
        let told = Told { delay: None, policy: Some(Timestamp(7)) };
        let mut entry = entry();
        entry.recipients[0] = RecipientState::Queued { last: None, told };
        let concluded = conclude(&entry, vec![(0, transient()), (1, transient())], &Retry::default(), Timestamp(1000));
        assert_eq!(concluded.recipients.iter().map(|(_, s)| s.told()).collect::<Vec<_>>(), [told, Told::NOTHING]);
        for (_, state) in concluded.recipients {
            let stored = serde_json::to_string(&state).unwrap();
            assert_eq!(serde_json::from_str::<RecipientState>(&stored).unwrap(), state);
        }
        let older: RecipientState = serde_json::from_str(r#"{"state":"queued","last":null}"#).unwrap();
        assert_eq!(older, RecipientState::NEW);
    }

    #[test]
    fn the_last_attempt_is_at_the_end_and_expiry_keeps_the_cause() {
        let retry = Retry { expire_after: Duration::from_secs(60), ..Retry::default() };
        let concluded = conclude(&entry(), vec![(0, transient())], &retry, Timestamp(1000));
        assert_eq!(concluded.next_due, Some(Timestamp(60_000)));
        let concluded = conclude(&entry(), vec![(0, transient())], &retry, Timestamp(60_000));
        assert!(matches!(&concluded.failures[0].1, Cause::Expired { waited_s: 60, last: Some(_) }));
        assert_eq!(concluded.next_due, None);
    }
}
