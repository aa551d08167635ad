//! What an attempt means for each recipient: done, waiting, or given up (RFC 5321 §4.5.4.1).

use super::{Pending, RecipientState, SpoolEntry, schedule};
use crate::clock::Timestamp;
use crate::config::Retry;
use crate::outcome::{Cause, Class, DeliveryOutcome};
use std::time::Duration;

/// A message that came in less than this after now came in now: clocks are corrected a little.
const CLOCK_SLACK: Duration = Duration::from_secs(3600);

/// Tries that do not wait for the schedule: one for the early notice and one for the warning.
const EARLY_TRIES: u32 = 2;

/// The states after an attempt, and what follows from them.
#[derive(Debug, Default)]
pub(crate) struct Conclusion {
    /// New states by recipient index.
    pub recipients: Vec<(usize, RecipientState)>,
    /// The recipients that failed for good in this attempt, for the NDR.
    pub failures: Vec<(usize, Cause)>,
}

/// Concludes an attempt at `now`. A transient failure after the message's time is up becomes
/// [`Cause::Expired`] and keeps the real cause.
#[must_use]
pub(crate) fn conclude(
    entry: &SpoolEntry,
    outcomes: impl IntoIterator<Item = (usize, DeliveryOutcome)>,
    retry: &Retry,
    now: Timestamp,
) -> Conclusion {
    let time = MessageTime { entry, retry, now };
    let mut conclusion = Conclusion::default();
    for (index, outcome) in outcomes {
        match outcome {
            DeliveryOutcome::Failed { cause } if cause.may_be_delivered() => {
                let pending = time.pending(index);
                let (tries, unclear) = (pending.tries.saturating_add(1), pending.unclear.saturating_add(1));
                let due = schedule::after_perhaps_taken(entry.id, unclear, now);
                let next = Pending { last: Some(cause), tries, unclear, due, ..pending };
                match due {
                    Some(_) => conclusion.wait_or_expire(index, time, next),
                    None => conclusion.expire(index, time, next),
                }
            }
            DeliveryOutcome::Failed { cause } if cause.class() == Class::Transient => {
                let pending = time.pending(index);
                let tries = pending.tries.saturating_add(1);
                let due = Some(schedule::next_attempt(retry, entry.id, tries, now));
                conclusion.wait_or_expire(index, time, Pending { last: Some(cause), tries, due, ..pending });
            }
            done @ (DeliveryOutcome::Delivered { .. } | DeliveryOutcome::Failed { .. }) => conclusion.end(index, done),
        }
    }
    conclusion
}

/// Concludes that no attempt is made before `until`, because the next hop could not be reached for
/// others. That is no try of this message's recipients; their time runs on.
#[must_use]
pub(crate) fn wait(time: MessageTime<'_>, recipients: &[usize], cause: &Cause, until: Timestamp) -> Conclusion {
    let mut conclusion = Conclusion::default();
    for &index in recipients {
        let (last, due) = (Some(cause.clone()), Some(until));
        conclusion.wait_or_expire(index, time, Pending { last, due, ..time.pending(index) });
    }
    conclusion
}

impl Conclusion {
    fn wait_or_expire(&mut self, index: usize, time: MessageTime<'_>, mut next: Pending) {
        let expires_at = time.expires_at();
        if time.is_up(index) {
            return self.expire(index, time, next);
        }
        if time.now < expires_at {
            // The last attempt is made when the time is up, not long before it.
            next.due = next.due.map(|due| due.min(expires_at));
        }
        self.recipients.push((index, RecipientState::Queued(next)));
    }

    fn expire(&mut self, index: usize, time: MessageTime<'_>, waited: Pending) {
        let waited_s = time.waited(waited.tries).as_secs();
        let last = waited.last.map(Box::new);
        self.end(index, DeliveryOutcome::Failed { cause: Cause::Expired { waited_s, last } });
    }

    fn end(&mut self, index: usize, outcome: DeliveryOutcome) {
        if let DeliveryOutcome::Failed { cause } = &outcome {
            self.failures.push((index, cause.clone()));
        }
        self.recipients.push((index, RecipientState::Done { outcome }));
    }
}

/// A message at a moment, under the operator's rules of how long and how often it is tried.
#[derive(Clone, Copy)]
pub(crate) struct MessageTime<'a> {
    pub(crate) entry: &'a SpoolEntry,
    pub(crate) retry: &'a Retry,
    pub(crate) now: Timestamp,
}

impl MessageTime<'_> {
    fn pending(&self, index: usize) -> Pending {
        self.entry.recipients.get(index).and_then(RecipientState::pending).cloned().unwrap_or_default()
    }

    fn expires_at(&self) -> Timestamp {
        schedule::expires_at(self.retry, &self.entry.envelope)
    }

    /// Whether a recipient has had its last attempt: one that was planned for the end of its time
    /// or later. When the clock has jumped forward, or the relay was down for days, nothing was
    /// planned so, and there is one more attempt after a wait. When it was set back to before the
    /// acceptance, the tries tell the age.
    fn is_up(&self, index: usize) -> bool {
        let pending = self.pending(index);
        let expires_at = self.expires_at();
        let planned_last = pending.due.is_some_and(|due| due >= expires_at);
        let tried_enough = self.age_by_tries(pending.tries) >= schedule::life(self.retry, &self.entry.envelope);
        (self.now >= expires_at && planned_last) || (self.is_before_acceptance() && tried_enough)
    }

    /// The clock was set back.
    fn is_before_acceptance(&self) -> bool {
        self.entry.envelope.accepted_at.since(self.now) > CLOCK_SLACK
    }

    fn age_by_tries(&self, tries: u32) -> Duration {
        schedule::nominal_age(self.retry, tries.saturating_sub(EARLY_TRIES))
    }

    /// For how long it was tried, after so many tries.
    fn waited(&self, tries: u32) -> Duration {
        if self.is_before_acceptance() {
            self.age_by_tries(tries)
        } else {
            self.now.since(self.entry.envelope.accepted_at)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, QueueId, testing};
    use crate::outcome::Peer;
    use crate::spool::Told;
    use std::sync::Arc;

    fn entry() -> SpoolEntry {
        SpoolEntry::new(QueueId(2), testing::report(&["a@x.example", "b@x.example"]), 0)
    }

    fn cause() -> Cause {
        let peer = Peer { host: "mx".into(), address: "192.0.2.1:25".parse().unwrap() };
        Cause::ConnectFailed { peer, detail: "refused".into() }
    }

    fn transient() -> DeliveryOutcome {
        DeliveryOutcome::Failed { cause: cause() }
    }

    fn permanent() -> DeliveryOutcome {
        DeliveryOutcome::Failed { cause: Cause::NullMx { domain: "x.example".parse().unwrap() } }
    }

    fn retry() -> Retry {
        let (first, longest) = (Duration::from_secs(10), Duration::from_secs(20));
        Retry { first, longest, expire_after: Duration::from_secs(60) }
    }

    /// Fails at `at` for as long as it waits; gives the moments of the attempts.
    fn attempts(entry: &mut SpoolEntry, mut at: Timestamp, clock: impl Fn(Timestamp) -> Timestamp) -> Vec<i64> {
        let mut moments = Vec::new();
        loop {
            moments.push(at.0);
            let concluded = conclude(entry, [(0, transient())], &retry(), at);
            entry.recipients[0] = concluded.recipients[0].1.clone();
            let Some(pending) = entry.recipients[0].pending() else { return moments };
            assert_eq!(pending.tries as usize, moments.len());
            at = clock(pending.due.unwrap());
        }
    }

    #[test]
    fn rfc5321_4_2_1_transient_failures_wait_and_permanent_ones_end() {
        let concluded = conclude(&entry(), [(0, transient()), (1, permanent())], &retry(), Timestamp(1000));
        let pending = concluded.recipients[0].1.pending().unwrap();
        assert!(pending.last.is_some() && pending.due > Some(Timestamp(1000)));
        assert_eq!(concluded.failures.iter().map(|(i, _)| *i).collect::<Vec<_>>(), vec![1]);
    }

    #[test]
    fn rfc5321_6_1_what_may_be_delivered_is_offered_four_times_in_all_and_then_told() {
        let peer = Peer { host: "mx".into(), address: "192.0.2.1:25".parse().unwrap() };
        let unclear = || DeliveryOutcome::Failed {
            cause: Cause::PerhapsTaken { peer: peer.clone(), detail: "it did not answer in time".into() },
        };
        let (mut entry, mut at) = (entry(), Timestamp(0));
        let retry = Retry { expire_after: Duration::from_secs(4 * 86_400), ..retry() };
        let mut hours = Vec::new();
        loop {
            let concluded = conclude(&entry, [(0, unclear())], &retry, at);
            entry.recipients[0] = concluded.recipients[0].1.clone();
            let Some(pending) = entry.recipients[0].pending() else {
                let Cause::Expired { last, .. } = &concluded.failures[0].1 else { panic!("{concluded:?}") };
                assert!(last.as_ref().unwrap().may_be_delivered());
                break;
            };
            hours.push(pending.due.unwrap().since(at).as_secs() / 2800);
            // Other trouble in between makes no copy and has the usual schedule.
            let other = conclude(&entry, [(0, transient())], &retry, pending.due.unwrap());
            entry.recipients[0] = other.recipients[0].1.clone();
            at = entry.recipients[0].pending().unwrap().due.unwrap();
        }
        assert_eq!(hours.len(), 3, "{hours:?}");
        assert!(hours[0] >= 1 && hours[1] >= 6 && hours[2] >= 24, "{hours:?}");
    }

    #[test]
    fn what_the_sender_was_told_survives_further_attempts_and_storage() {
        let told = Told { delay: None, policy: Some(Timestamp(7)) };
        let mut entry = entry();
        entry.recipients[0] = RecipientState::Queued(Pending { told, ..Pending::NEW });
        let concluded = conclude(&entry, [(0, transient()), (1, transient())], &retry(), Timestamp(1000));
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
        let mut entry = entry();
        let moments = attempts(&mut entry, Timestamp(0), |due| due);
        assert_eq!((moments.len(), moments.last()), (5, Some(&60_000)), "{moments:?}");
        let RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } } = &entry.recipients[0] else {
            panic!()
        };
        assert!(matches!(cause, Cause::Expired { waited_s: 60, last: Some(_) }));
    }

    #[test]
    fn a_jump_forward_or_a_long_stop_leaves_one_more_attempt_after_a_wait() {
        let year = 31_536_000_000;
        let moments = attempts(&mut entry(), Timestamp(year), |due| due);
        assert_eq!(moments.len(), 2, "{moments:?}");
        assert!(moments[1] - moments[0] >= 8000);
    }

    #[test]
    fn a_clock_set_back_to_before_the_acceptance_does_not_keep_a_message_for_ever() {
        let mut entry = entry();
        let year = Timestamp(31_536_000_000);
        let envelope = Envelope { accepted_at: year, ..(*entry.envelope).clone() };
        entry.envelope = Arc::new(envelope);
        let moments = attempts(&mut entry, Timestamp(0), |due| due);
        assert!((4..9).contains(&moments.len()) && *moments.last().unwrap() < 140_000, "{moments:?}");
        let RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } } = &entry.recipients[0] else {
            panic!()
        };
        let Cause::Expired { waited_s, .. } = cause else { panic!("{cause:?}") };
        assert!(*waited_s >= 60, "{waited_s}: nobody is told that it was tried for no time at all");
    }

    #[test]
    fn rfc5321_4_5_4_1_waiting_for_a_next_hop_is_no_try_and_its_time_runs_on() {
        let mut entry = entry();
        let cause = cause();
        let until = Timestamp(50_000);
        let retry = retry();
        let waiting = wait(MessageTime { entry: &entry, retry: &retry, now: Timestamp(1000) }, &[0], &cause, until);
        assert_eq!(
            waiting.recipients[0].1.pending(),
            Some(&Pending { last: Some(cause.clone()), due: Some(until), ..Pending::NEW })
        );
        let waiting =
            wait(MessageTime { entry: &entry, retry: &retry, now: Timestamp(1000) }, &[0], &cause, Timestamp(90_000));
        entry.recipients[0] = waiting.recipients[0].1.clone();
        assert_eq!(entry.recipients[0].pending().unwrap().due, Some(Timestamp(60_000)), "no longer than its time");
        let ended =
            wait(MessageTime { entry: &entry, retry: &retry, now: Timestamp(60_000) }, &[0], &cause, Timestamp(90_000));
        assert!(matches!(&ended.failures[0].1, Cause::Expired { last: Some(_), .. }));
    }
}
