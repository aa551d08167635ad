//! When reports go out (RFC 3461 §5.2 leaves open how many recipients one names).
//!
//! Invariant: what one message costs its sender in reports does not grow with the number of hosts that
//! it goes to, nor what lost reports cost the postmaster with their number. Of each kind a message
//! brings its first report soon, further ones after waits that grow, and one when the last
//! recipient has its end: a dozen in the longest life of a message. Pure.

use super::Kind;
use crate::clock::Timestamp;
use crate::spool::owed::{Reported, Rounds};
use std::time::Duration;

const MINUTE: Duration = Duration::from_secs(60);
const HOUR: Duration = Duration::from_secs(3600);

/// How long the first news of a message wait for more, while recipients of it are under way.
const FIRST: Duration = Duration::from_secs(2);

/// After the first report, after the second, and so on; the last one goes on.
const WAITS: [Duration; 5] = [MINUTE, MINUTE.saturating_mul(10), HOUR, HOUR.saturating_mul(6), HOUR.saturating_mul(24)];

/// Between mails to the postmaster about lost reports: at most four in an hour.
const DIGEST_WAITS: [Duration; 3] = [MINUTE.saturating_mul(5), MINUTE.saturating_mul(15), HOUR];

/// When the next report of a kind may go out, if one did.
pub(super) fn opens(reported: &Reported, kind: Kind, now: Timestamp) -> Option<Timestamp> {
    next(rounds(reported, kind), &WAITS, now)
}

/// Until when news that came at `since` wait for more.
pub(super) fn first(since: Timestamp) -> Timestamp {
    since.plus(FIRST)
}

/// The reports of a message with one more of this kind.
pub(super) const fn and_one(reported: Reported, kind: Kind, now: Timestamp) -> Reported {
    let one_more = rounds(&reported, kind).and_one(now);
    match kind {
        Kind::Failed => Reported { failed: one_more, ..reported },
        Kind::Delayed => Reported { delayed: one_more, ..reported },
        Kind::HeldBack => Reported { held_back: one_more, ..reported },
        Kind::Relayed => Reported { relayed: one_more, ..reported },
        Kind::ReportLost | Kind::CopyLost => reported,
    }
}

/// When the postmaster may be told next of reports that were lost.
#[must_use]
pub(crate) fn digest_opens(rounds: Rounds, now: Timestamp) -> Timestamp {
    next(rounds, &DIGEST_WAITS, now).unwrap_or(now)
}

/// The mails to the postmaster with one more. After an hour in which none was due it begins again.
#[must_use]
pub(crate) fn and_digest(rounds: Rounds, now: Timestamp) -> Rounds {
    let quiet = now.since(digest_opens(rounds, now)) >= HOUR;
    if quiet { Rounds::NONE.and_one(now) } else { rounds.and_one(now) }
}

const fn rounds(reported: &Reported, kind: Kind) -> Rounds {
    match kind {
        Kind::Failed => reported.failed,
        Kind::Delayed => reported.delayed,
        Kind::HeldBack => reported.held_back,
        Kind::Relayed => reported.relayed,
        // Not of one message: see `digest_opens`.
        Kind::ReportLost | Kind::CopyLost => Rounds::NONE,
    }
}

/// What was made after now was made before the clock was set back: nobody waits for that.
fn next(rounds: Rounds, waits: &[Duration], now: Timestamp) -> Option<Timestamp> {
    let after = rounds.made.checked_sub(1)?;
    let place = usize::try_from(after).unwrap_or(usize::MAX).min(waits.len().saturating_sub(1));
    let wait = waits.get(place).copied().unwrap_or(HOUR);
    Some(if rounds.last > now { now } else { rounds.last.plus(wait) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The minutes at which reports go out when there is news all the time.
    fn minutes(days: i64, mut tell: impl FnMut(Timestamp) -> bool) -> Vec<i64> {
        (0..days * 24 * 60).filter(|minute| tell(Timestamp(minute * 60_000))).collect()
    }

    #[test]
    fn reports_of_one_message_come_after_waits_that_grow_and_stay_few() {
        let mut reported = Reported::NOTHING;
        let told = minutes(5, |now| {
            let is_open = opens(&reported, Kind::Failed, now).is_none_or(|opens| opens <= now);
            if is_open {
                reported = and_one(reported, Kind::Failed, now);
            }
            is_open
        });
        assert_eq!(told, [0, 1, 11, 71, 431, 1871, 3311, 4751, 6191]);
        assert_eq!(opens(&reported, Kind::Relayed, Timestamp(0)), None, "each kind for itself");
    }

    #[test]
    fn the_postmaster_gets_at_most_four_mails_an_hour_and_after_a_quiet_while_the_first_at_once() {
        let mut rounds = Rounds::NONE;
        let mut tell = |now| {
            let is_open = digest_opens(rounds, now) <= now;
            if is_open {
                rounds = and_digest(rounds, now);
            }
            is_open
        };
        assert_eq!(minutes(1, &mut tell)[..6], [0, 5, 20, 80, 140, 200]);
        let later = Timestamp(2 * 86_400_000);
        assert!(tell(later) && !tell(later.plus(MINUTE * 4)) && tell(later.plus(MINUTE * 5)));
    }

    #[test]
    fn a_clock_set_back_holds_no_report_up() {
        let reported = and_one(Reported::NOTHING, Kind::Delayed, Timestamp(31_536_000_000));
        assert_eq!(opens(&reported, Kind::Delayed, Timestamp(7)), Some(Timestamp(7)));
    }
}
