//! Times of signatures: 32 bits that wrap around in 2106 (RFC 4034 §3.1.5, RFC 1982 §3.2).

use crate::clock::Timestamp;
use std::time::Duration;

/// No verdict is kept longer, in seconds, whatever TTL it came with (RFC 8767 §4 caps at days;
/// a day is what a zone's owner expects to wait for at most).
const LIFE_LIMIT_S: u32 = 86_400;

/// Seconds since 1970, modulo 2^32.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Time(pub(super) u32);

impl Time {
    /// The clock's time in this form.
    pub(super) fn of(now: Timestamp) -> Self {
        // Within 0..2^32 by the remainder.
        Self(u32::try_from(now.unix_seconds().rem_euclid(1 << 32)).unwrap_or(0))
    }

    /// Whether this is before `other`: less than half a circle behind it.
    pub(super) fn is_before(self, other: u32) -> bool {
        self.0 != other && other.wrapping_sub(self.0) < 1 << 31
    }

    /// Whether this is after `other`. What is exactly opposite is neither before nor after by
    /// RFC 1982 §3.2; as the end of a window it counts as passed.
    pub(super) fn is_after(self, other: u32) -> bool {
        self.0 != other && !self.is_before(other)
    }

    /// The moment nearest to `now` that is written so.
    pub(super) fn near(self, now: Timestamp) -> Timestamp {
        let here = Self::of(now);
        if here.is_after(self.0) {
            return now;
        }
        now.plus(Duration::from_secs(u64::from(self.0.wrapping_sub(here.0))))
    }
}

/// The moment `ttl_s` seconds from now, or the limit of all lives.
pub(super) fn after_s(now: Timestamp, ttl_s: u32) -> Timestamp {
    // A TTL with the highest bit set counts as zero (RFC 2181 §8).
    let ttl_s = if ttl_s > u32::MAX >> 1 { 0 } else { ttl_s.min(LIFE_LIMIT_S) };
    now.plus(Duration::from_secs(u64::from(ttl_s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc4034_3_1_5_times_wrap_around() {
        assert!(Time(u32::MAX).is_before(5));
        assert!(Time(5).is_after(u32::MAX));
        assert!(!Time(5).is_before(5) && !Time(5).is_after(5));
        let now = Timestamp(i64::from(u32::MAX) * 1000);
        assert_eq!(Time(9).near(now), now.plus(Duration::from_secs(10)));
        assert_eq!(Time(u32::MAX - 9).near(now), now);
    }

    #[test]
    fn rfc2181_8_a_ttl_that_is_too_long_or_negative_is_cut() {
        assert_eq!(after_s(Timestamp(0), u32::MAX), Timestamp(0));
        assert_eq!(after_s(Timestamp(0), u32::MAX >> 1), Timestamp(86_400_000));
        assert_eq!(after_s(Timestamp(0), 60), Timestamp(60_000));
    }
}
