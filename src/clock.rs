//! The only door to time.
//!
//! Everything below takes a [`Timestamp`] as an argument; a [`Clock`] is held only by the
//! drivers and the pipeline. A manual clock drives tests without waiting, and one that goes with
//! the runtime agrees with all its timers when their time is a simulated one.

use serde::de::{Error, Unexpected, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use time::OffsetDateTime;
use time::format_description::well_known::{Rfc2822, Rfc3339};
use tokio::time::Instant;

/// A moment, in milliseconds since 1970-01-01T00:00:00Z. Stored as that number; commands print it as RFC 3339
/// (`command/json.rs`), and both are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(pub i64);

/// The name by which who writes JSON for commands knows a moment among other numbers.
pub(crate) const TIMESTAMP_NAME: &str = "Timestamp";

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_newtype_struct(TIMESTAMP_NAME, &self.0)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(EitherForm)
    }
}

/// Reads a moment as it is stored and as it is printed.
struct EitherForm;

impl Visitor<'_> for EitherForm {
    type Value = Timestamp;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("milliseconds since 1970, or a time such as 2026-11-21T11:44:28Z")
    }

    fn visit_i64<E: Error>(self, ms: i64) -> Result<Timestamp, E> {
        Ok(Timestamp(ms))
    }

    fn visit_u64<E: Error>(self, ms: u64) -> Result<Timestamp, E> {
        i64::try_from(ms).map(Timestamp).map_err(E::custom)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Timestamp, E> {
        Timestamp::from_rfc3339(text).ok_or_else(|| E::invalid_value(Unexpected::Str(text), &self))
    }
}

impl Timestamp {
    /// Reads the form of RFC 3339: `2026-11-21T11:44:28Z`; `None` for anything else.
    #[must_use]
    pub fn from_rfc3339(text: &str) -> Option<Self> {
        let at = OffsetDateTime::parse(text, &Rfc3339).ok()?;
        i64::try_from(at.unix_timestamp_nanos() / 1_000_000).ok().map(Self)
    }

    /// This moment plus a duration; the far end of time when that would overflow.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let ms = i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
        Self(self.0.saturating_add(ms))
    }

    /// The time from `earlier` to this moment; zero when `earlier` is later.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_millis(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Whole seconds since the epoch.
    #[must_use]
    pub fn unix_seconds(self) -> i64 {
        self.0.div_euclid(1000)
    }

    /// The form mail headers use: `Sat, 21 Nov 2026 11:44:28 +0000` (RFC 5322 §3.3).
    #[must_use]
    pub fn rfc5322(self) -> String {
        self.date_time().format(&Rfc2822).unwrap_or_default()
    }

    /// The form logs use: `2026-11-21T11:44:28.123Z` (RFC 3339).
    #[must_use]
    pub fn rfc3339(self) -> String {
        self.date_time().format(&Rfc3339).unwrap_or_default()
    }

    /// The form for people, to the second: `2026-11-21 11:44:28Z`.
    #[must_use]
    pub fn to_second(self) -> String {
        Self(self.0.div_euclid(1000) * 1000).rfc3339().replacen('T', " ", 1)
    }

    fn date_time(self) -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000).unwrap_or(OffsetDateTime::UNIX_EPOCH)
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.rfc3339())
    }
}

/// A day in UTC, as reports have it (RFC 8460 §4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ReportDay(pub i64);

/// Milliseconds of a day.
const DAY: i64 = 86_400_000;

impl ReportDay {
    /// The day of a moment.
    #[must_use]
    pub const fn of(at: Timestamp) -> Self {
        Self(at.0.div_euclid(DAY))
    }

    /// Its first moment.
    #[must_use]
    pub const fn begin(self) -> Timestamp {
        Timestamp(self.0.saturating_mul(DAY))
    }

    /// The first moment of the next one.
    #[must_use]
    pub const fn end(self) -> Timestamp {
        Timestamp(self.0.saturating_add(1).saturating_mul(DAY))
    }
}

impl fmt::Display for ReportDay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.begin().to_string();
        f.write_str(text.split('T').next().unwrap_or_default())
    }
}

/// A text that is no day.
#[derive(Debug, thiserror::Error)]
#[error("a day is written like 2026-11-30")]
pub struct NoReportDay;

impl FromStr for ReportDay {
    type Err = NoReportDay;

    fn from_str(text: &str) -> Result<Self, NoReportDay> {
        let day = Timestamp::from_rfc3339(&format!("{text}T00:00:00Z")).ok_or(NoReportDay)?;
        Ok(Self::of(day))
    }
}

impl From<ReportDay> for String {
    fn from(day: ReportDay) -> Self {
        day.to_string()
    }
}

impl TryFrom<String> for ReportDay {
    type Error = NoReportDay;

    fn try_from(text: String) -> Result<Self, NoReportDay> {
        text.parse()
    }
}

/// Where the time comes from: the machine, a hand-set value, or the timers of the runtime.
#[derive(Clone, Debug, Default)]
pub struct Clock {
    hand: Option<Hand>,
}

/// A clock that is not the machine's. All copies show the same time.
#[derive(Clone, Debug)]
struct Hand {
    /// What it shows, or showed at the beginning where it goes by itself.
    at: Arc<AtomicI64>,
    /// Since when it goes by itself.
    goes_since: Option<Instant>,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self { hand: None }
    }

    /// A clock that stands still until [`Clock::advance`] moves it.
    #[must_use]
    pub fn manual(start: Timestamp) -> Self {
        Self::by_hand(start, None)
    }

    /// A clock that shows `start` now and goes with the timers of the runtime: where its time is
    /// paused and moved, this clock moves with it. To be asked on the threads of that runtime.
    #[must_use]
    pub fn with_runtime(start: Timestamp) -> Self {
        Self::by_hand(start, Some(Instant::now()))
    }

    fn by_hand(start: Timestamp, goes_since: Option<Instant>) -> Self {
        Self { hand: Some(Hand { at: Arc::new(AtomicI64::new(start.0)), goes_since }) }
    }

    /// The present moment.
    #[must_use]
    #[expect(clippy::disallowed_methods, reason = "this is the one place that asks the machine")]
    pub fn now(&self) -> Timestamp {
        if let Some(hand) = &self.hand {
            let gone = hand.goes_since.map_or(Duration::ZERO, |since| since.elapsed());
            return Timestamp(hand.at.load(Ordering::SeqCst)).plus(gone);
        }
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Timestamp(i64::try_from(since_epoch.as_millis()).unwrap_or(i64::MAX))
    }

    /// Sets the clock forward, and no timer with it; the machine's is left alone.
    pub fn advance(&self, by: Duration) {
        self.set(i64::try_from(by.as_millis()).unwrap_or(i64::MAX));
    }

    /// Sets the clock back, as a machine's may be; the machine's own is left alone.
    pub fn set_back(&self, by: Duration) {
        self.set(i64::try_from(by.as_millis()).map_or(i64::MIN, |ms| -ms));
    }

    fn set(&self, by_ms: i64) {
        if let Some(hand) = &self.hand {
            let moved = |at: i64| Some(at.saturating_add(by_ms));
            let _always_moved = hand.at.fetch_update(Ordering::SeqCst, Ordering::SeqCst, moved);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8460_4_1_a_day_begins_and_ends_at_midnight_utc() {
        let day: ReportDay = "2026-11-30".parse().unwrap();
        assert_eq!(day.begin().to_string(), "2026-11-30T00:00:00Z");
        assert_eq!(ReportDay::of(Timestamp(day.end().0 - 1)), day);
        assert_eq!(ReportDay::of(day.end()).to_string(), "2026-12-01");
        assert!("2026-13-01".parse::<ReportDay>().is_err());
        assert!("tomorrow".parse::<ReportDay>().is_err());
    }

    #[test]
    fn rfc5322_date_has_a_numeric_zone() {
        assert_eq!(Timestamp(1_795_261_468_000).rfc5322(), "Sat, 21 Nov 2026 11:44:28 +0000");
    }

    #[test]
    fn people_read_times_to_the_second() {
        assert_eq!(Timestamp(1_795_261_468_123).to_second(), "2026-11-21 11:44:28Z");
    }

    #[test]
    fn a_manual_clock_moves_only_by_hand() {
        let clock = Clock::manual(Timestamp(5));
        assert_eq!(clock.now(), Timestamp(5));
        clock.advance(Duration::from_secs(1));
        assert_eq!(clock.now(), Timestamp(1005));
        assert_eq!(clock.now().since(Timestamp(2000)), Duration::ZERO);
    }

    #[test]
    fn a_manual_clock_can_be_set_back_as_a_machine_is() {
        let clock = Clock::manual(Timestamp(5000));
        clock.set_back(Duration::from_secs(2));
        assert_eq!(clock.clone().now(), Timestamp(3000));
        clock.advance(Duration::MAX);
        assert_eq!(clock.now(), Timestamp(i64::MAX), "and never runs over");
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_with_the_runtime_goes_as_far_as_its_timers() {
        let clock = Clock::with_runtime(Timestamp(5000));
        assert_eq!(clock.now(), Timestamp(5000));
        tokio::time::sleep(Duration::from_hours(24)).await;
        assert_eq!(clock.now(), Timestamp(5000).plus(Duration::from_hours(24)));
        clock.set_back(Duration::from_hours(23));
        clock.advance(Duration::from_secs(1));
        tokio::time::sleep(Duration::from_millis(7)).await;
        assert_eq!(clock.now(), Timestamp(5000 + 3_600_000 + 1000 + 7), "set, and gone on from there");
    }
}
