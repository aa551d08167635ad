//! The tries of a message that expired, as a report shows them to administrators (RFC 3464 §2.3.6
//! tells of the last one alone).
//!
//! Tries that failed alike are one line, whatever came between them, so that four days of waiting can be
//! read at a glance: a domain with two mail servers has two lines, and not two for each attempt.

use super::{Due, Fate};
use crate::clock::Timestamp;
use crate::outcome::{Cause, DeliveryOutcome};
use crate::spool::event::Event;
use std::ops::RangeInclusive;

/// The most lines; the newest are the ones that tell.
const MOST_LINES: usize = 10;

/// Tries that failed alike.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tries {
    /// The first and the last of them.
    pub(super) when: RangeInclusive<Timestamp>,
    /// The number of tries.
    pub(super) count: usize,
    /// The word of the cause and, where there was one, the server.
    pub(super) what: String,
}

/// How many tries ended with the end of a recipient: what the operator does is no attempt, and time may
/// be up without one. `None` is a delivery.
pub(super) const fn ended_now(cause: Option<&Cause>, tries_now: u32) -> u32 {
    match cause {
        Some(Cause::BouncedByOperator { .. }) => 0,
        Some(Cause::Expired { .. }) => tries_now,
        Some(_) | None => 1,
    }
}

/// Whether a report tells of a message that waited and has come to its end without the word of a
/// server: it expired, or the operator returned it.
#[must_use]
pub fn history_wanted(reports: &[Due]) -> bool {
    let expired = |fate: &Fate| matches!(fate, Fate::Stopped(Cause::Expired { .. } | Cause::BouncedByOperator { .. }));
    reports.iter().any(|due| due.recipients.iter().any(|(_, fate)| expired(fate)))
}

/// The tries of these recipients, those that ended last at the end.
pub(super) fn of(history: &[(Timestamp, Event)], recipients: &[usize]) -> Vec<Tries> {
    let mut all: Vec<Tries> = Vec::new();
    for (at, what) in history.iter().flat_map(|(at, event)| failures(event, recipients).map(move |what| (*at, what))) {
        let known = all.iter().position(|tries| tries.what == what).map(|place| all.remove(place));
        let (start, before) = known.map_or((at, 0), |tries| (*tries.when.start(), tries.count));
        all.push(Tries { when: start..=at, count: before + 1, what });
    }
    all.split_off(all.len().saturating_sub(MOST_LINES))
}

/// What failed for one of the recipients, in the words of the cause.
fn failures<'a>(event: &'a Event, recipients: &'a [usize]) -> Box<dyn Iterator<Item = String> + 'a> {
    let ours = move |named: &[usize]| named.iter().any(|index| recipients.contains(index));
    match event {
        Event::Attempt(attempt) => {
            Box::new(attempt.results.iter().filter(move |group| ours(&group.recipients)).filter_map(|group| {
                match &group.outcome {
                    DeliveryOutcome::Failed { cause } => Some(format!("{} at {}", cause.row().word, attempt.peer)),
                    DeliveryOutcome::Delivered { .. } => None,
                }
            }))
        }
        Event::NotTried { recipients: named, cause, .. } => {
            Box::new((named.is_empty() || ours(named)).then(|| cause.row().word.to_owned()).into_iter())
        }
        Event::Waits { .. }
        | Event::Ended { .. }
        | Event::Told { .. }
        | Event::NotTold { .. }
        | Event::Operator { .. }
        | Event::Broken { .. }
        | Event::Unreadable { .. } => Box::new(std::iter::empty()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::DaneFailure;
    use crate::outcome::every::{self, peer};
    use crate::spool::event::{Attempt, Group};

    fn attempt(recipients: &[usize], cause: Cause) -> Event {
        let outcome = DeliveryOutcome::Failed { cause };
        let results = vec![Group { recipients: recipients.to_vec(), outcome }];
        let (next_hop, policy) = ("partner.example".to_owned(), "dane".to_owned());
        Event::Attempt(Box::new(Attempt {
            next_hop,
            peer: peer(),
            policy,
            tls: None,
            exception: None,
            took_ms: 1,
            results,
            group: None,
            dns: Vec::new(),
        }))
    }

    #[test]
    fn tries_that_failed_alike_are_one_line_each_and_the_newest_are_kept() {
        let bad = || every::dane(DaneFailure::NoMatch);
        let busy = || Cause::ConnectFailed { peer: peer(), detail: "refused".into() };
        let not_tried = |recipients: &[usize]| {
            let (next_hop, recipients) = ("partner.example".to_owned(), recipients.to_vec());
            Event::NotTried { next_hop, recipients, cause: bad() }
        };
        let events = [
            attempt(&[0], bad()),
            attempt(&[0, 1], bad()),
            attempt(&[1], busy()),
            attempt(&[0], busy()),
            not_tried(&[0, 2]),
            // Another recipient's host is none of this one's business.
            not_tried(&[1]),
            attempt(&[0], busy()),
            // An older relay did not say whom it meant.
            not_tried(&[]),
        ];
        let history: Vec<_> = (1..).map(Timestamp).zip(events).collect();
        let shown: Vec<_> =
            of(&history, &[0]).into_iter().map(|t| (t.when.start().0, t.when.end().0, t.count, t.what)).collect();
        let server = "mx1.partner.example [192.0.2.25]:25";
        let expected = [
            (1, 2, 2, format!("tlsa-invalid at {server}")),
            (4, 7, 2, format!("connect-failed at {server}")),
            (5, 8, 2, "tlsa-invalid".to_owned()),
        ];
        assert_eq!(shown, expected);
        let at = |n: u16| crate::outcome::Peer { host: format!("mx{n}.partner.example"), ..peer() };
        let changing = (0..100).map(|n| {
            let Event::Attempt(attempt) = attempt(&[0], busy()) else { unreachable!() };
            (Timestamp(n.into()), Event::Attempt(Box::new(Attempt { peer: at(n), ..*attempt })))
        });
        let shown = of(&changing.collect::<Vec<_>>(), &[0]);
        assert_eq!((shown.len(), shown.last().map(|tries| *tries.when.end())), (MOST_LINES, Some(Timestamp(99))));
    }
}
