//! When a message is tried again, and when it is given up (RFC 5321 §4.5.4.1).
//!
//! Pure: the same message and attempt always give the same moment, so a schedule can be
//! checked by hand and reproduced from a log line.

use crate::clock::Timestamp;
use crate::config::Retry;
use crate::envelope::{Envelope, Origin, QueueId};
use std::time::Duration;

/// Beyond this many doublings every wait is at its longest; it keeps the shift in range.
const MOST_DOUBLINGS: u32 = 32;

/// The waits after an attempt that may have delivered the message: few and long, because each of
/// them can make a copy (RFC 5321 §6.1, RFC 1047 §2). After the last of them the sender is told.
const WAITS_AFTER_PERHAPS_TAKEN: [Duration; 3] =
    [Duration::from_secs(3600), Duration::from_secs(6 * 3600), Duration::from_secs(24 * 3600)];

/// The jitter is at most the wait divided by this, and shortens it: no wait is ever longer than
/// the operator says.
const JITTER_DIVISOR: u64 = 5;

/// When a message is due again after its `attempts`-th attempt (from 1) failed at `now`.
///
/// The wait starts at `retry.first`, doubles with every attempt up to `retry.longest`, and comes up
/// to a fifth earlier, so that messages that failed together do not come back together.
#[must_use]
pub(crate) fn next_attempt(retry: &Retry, id: QueueId, attempts: u32, now: Timestamp) -> Timestamp {
    let doublings = attempts.saturating_sub(1).min(MOST_DOUBLINGS);
    let first_ms = milliseconds(retry.first);
    let wait_ms = first_ms.saturating_mul(1 << doublings).min(milliseconds(retry.longest));
    now.plus(spread(wait_ms, id, attempts))
}

/// When a message is due again after an attempt that may have delivered it, the `unclear`-th of that
/// kind (from 1); not at all after the last.
#[must_use]
pub(crate) fn after_perhaps_taken(id: QueueId, unclear: u32, now: Timestamp) -> Option<Timestamp> {
    let nth = usize::try_from(unclear.checked_sub(1)?).ok()?;
    let wait = WAITS_AFTER_PERHAPS_TAKEN.get(nth)?;
    Some(now.plus(spread(milliseconds(*wait), id, unclear)))
}

/// A wait with its jitter.
fn spread(wait_ms: u64, id: QueueId, nth: u32) -> Duration {
    let spread_ms = wait_ms / JITTER_DIVISOR;
    let random = mix(id.0 ^ mix(u64::from(nth)));
    let earlier_ms = random % spread_ms.saturating_add(1);
    Duration::from_millis(wait_ms.saturating_sub(earlier_ms))
}

/// The latest moment for which anything is planned at `now`; a quarter above the longest wait leaves
/// room for what older versions planned. What lies beyond was planned before the clock was set back,
/// and its time has come.
#[must_use]
pub(crate) fn horizon(retry: &Retry, now: Timestamp) -> Timestamp {
    now.plus(retry.longest.saturating_add(retry.longest / 4))
}

/// The same for a recipient that waits after an attempt that may have delivered.
#[must_use]
pub(crate) fn horizon_after_perhaps_taken(now: Timestamp) -> Timestamp {
    let longest = WAITS_AFTER_PERHAPS_TAKEN.iter().max().copied().unwrap_or_default();
    now.plus(longest.saturating_add(longest / 4))
}

/// How long a report on TLS is tried: tomorrow there is another one (RFC 8460 §5.5).
const TLS_REPORT_LIFE: Duration = Duration::from_secs(24 * 3600);

/// How long a message is tried.
#[must_use]
pub(crate) fn life(retry: &Retry, envelope: &Envelope) -> Duration {
    match envelope.origin {
        Origin::TlsReport { .. } => retry.expire_after.min(TLS_REPORT_LIFE),
        Origin::Client(_) | Origin::Report { .. } | Origin::Copy { .. } => retry.expire_after,
    }
}

/// When a message that still waits is returned to its sender (RFC 5321 §4.5.4.1: the give-up
/// time, generally at least four to five days).
#[must_use]
pub(crate) fn expires_at(retry: &Retry, envelope: &Envelope) -> Timestamp {
    envelope.accepted_at.plus(life(retry, envelope))
}

/// How long a message has waited after so many tries that failed, by the schedule alone: its age
/// where the clock cannot tell it.
#[must_use]
pub(crate) fn nominal_age(retry: &Retry, tries: u32) -> Duration {
    let mut wait = retry.first;
    let mut age = Duration::ZERO;
    for tried in 0..tries {
        if wait >= retry.longest {
            return age.saturating_add(retry.longest.saturating_mul(tries - tried));
        }
        age = age.saturating_add(wait);
        wait = wait.saturating_mul(2);
    }
    age
}

/// Spreads a number over 64 bits (the finaliser of `SplitMix64`); stable for ever, unlike the
/// hashers of the standard library.
pub(crate) const fn mix(seed: u64) -> u64 {
    let z = seed.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    z ^ (z >> 31)
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::testing::envelope;
    use crate::spool::tls_session::ReportDay;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn retry() -> Retry {
        Retry {
            first: Duration::from_secs(300),
            longest: Duration::from_secs(3600),
            expire_after: Duration::from_secs(4 * 86_400),
        }
    }

    fn wait_s(id: u64, attempts: u32) -> u64 {
        next_attempt(&retry(), QueueId(id), attempts, NOW).since(NOW).as_secs()
    }

    fn message(accepted_at: Timestamp) -> Envelope {
        Envelope { accepted_at, ..envelope("a@b.example", &["c@d.example"]) }
    }

    #[test]
    fn rfc5321_4_5_4_1_waits_double_up_to_the_longest() {
        for (attempts, expected_s) in [(1, 300), (2, 600), (3, 1200), (4, 2400), (5, 3600), (6, 3600), (u32::MAX, 3600)]
        {
            for id in 0..50 {
                let wait_s = wait_s(id, attempts);
                assert!((expected_s * 8 / 10..=expected_s).contains(&wait_s), "{attempts}: {wait_s}");
            }
        }
    }

    #[test]
    fn rfc5321_6_1_what_may_be_delivered_is_tried_three_times_more_and_far_apart() {
        let hours =
            |unclear| after_perhaps_taken(QueueId(7), unclear, NOW).map(|due| due.since(NOW).as_secs_f64() / 3600.0);
        for (unclear, expected) in [(1, 1.0), (2, 6.0), (3, 24.0)] {
            let hours = hours(unclear).unwrap();
            assert!((expected * 0.8..=expected).contains(&hours), "{unclear}: {hours}");
        }
        assert_eq!([hours(0), hours(4), hours(u32::MAX)], [None; 3]);
        let latest = (0..1000).filter_map(|id| after_perhaps_taken(QueueId(id), 3, NOW)).max().unwrap();
        assert!(latest < horizon_after_perhaps_taken(NOW));
    }

    #[test]
    fn the_same_message_and_attempt_give_the_same_moment_and_others_are_spread() {
        assert_eq!(wait_s(7, 1), wait_s(7, 1));
        let waits: std::collections::BTreeSet<_> = (0..100).map(|id| wait_s(id, 1)).collect();
        assert!(waits.len() > 30, "100 messages share {} moments", waits.len());
    }

    #[test]
    fn absurd_durations_stay_in_range() {
        let retry = Retry { first: Duration::MAX, longest: Duration::MAX, expire_after: Duration::MAX };
        assert!(next_attempt(&retry, QueueId(1), 40, NOW) > NOW);
        assert_eq!(expires_at(&retry, &message(NOW)), Timestamp(i64::MAX));
        assert_eq!(horizon(&retry, NOW), Timestamp(i64::MAX));
    }

    #[test]
    fn the_age_by_the_schedule_is_the_sum_of_its_waits() {
        let age_s = |tries| nominal_age(&retry(), tries).as_secs();
        assert_eq!([0, 1, 2, 3, 4, 5, 6].map(age_s), [0, 300, 900, 2100, 4500, 8100, 11_700]);
        assert!(nominal_age(&retry(), u32::MAX) > retry().expire_after);
        let absurd = Retry { first: Duration::MAX, longest: Duration::MAX, expire_after: Duration::MAX };
        assert_eq!(nominal_age(&absurd, 9), Duration::MAX);
    }

    #[test]
    fn no_wait_is_longer_than_the_longest_and_so_none_is_beyond_the_horizon() {
        let latest = (0..1000).map(|id| next_attempt(&retry(), QueueId(id), 40, NOW)).max().unwrap();
        assert!(latest <= NOW.plus(retry().longest) && latest < horizon(&retry(), NOW));
    }

    #[test]
    fn a_message_expires_at_its_age() {
        assert_eq!(expires_at(&retry(), &message(NOW)), Timestamp(NOW.0 + 4 * 86_400_000));
    }

    #[test]
    fn rfc8460_5_5_p16_a_report_on_tls_expires_after_a_day_at_most() {
        let origin = Origin::TlsReport { domain: "a.example".into(), day: ReportDay(20_000) };
        let report = Envelope { origin, ..message(NOW) };
        assert_eq!(expires_at(&retry(), &report), Timestamp(NOW.0 + 86_400_000));
        let hasty = Retry { expire_after: Duration::from_secs(3600), ..retry() };
        assert_eq!(expires_at(&hasty, &report), Timestamp(NOW.0 + 3_600_000));
    }
}
