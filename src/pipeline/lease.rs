//! Keeping the claim on a message while it is under way.
//!
//! Guarantee (RFC 5321 §6.1): work that outlives its lease has renewed it, or is given up before
//! anything of it is recorded: another worker may have the message by then. A store that cannot be
//! reached ends nothing before the lease has run out.

use crate::spool::{Lease, SpoolError};
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// Renewals in the time of one lease: one of them may fail without harm.
const RENEWALS: u32 = 3;

/// How long after one renewal the next is due; `None` where a lease needs none.
pub(super) fn pause(lease: Lease) -> Option<Duration> {
    match lease {
        Lease::Process => None,
        Lease::For(length) => Some(length / RENEWALS),
    }
}

/// Renews a lease again and again. Ends when it is lost, and says why; never while it holds.
pub(super) async fn keep<F, R>(lease: Lease, renew: F) -> SpoolError
where
    F: Fn() -> R + Send,
    R: Future<Output = Result<(), SpoolError>> + Send,
{
    let (Lease::For(length), Some(pause)) = (lease, pause(lease)) else { return std::future::pending().await };
    let mut end = later(Instant::now(), length);
    loop {
        sleep(pause.min(end.saturating_duration_since(Instant::now()))).await;
        let asked = Instant::now();
        match timeout_at(end, renew()).await {
            Ok(Ok(())) => end = later(asked, length),
            Ok(Err(error)) if is_final(&error) || Instant::now() >= end => return error,
            Ok(Err(_it_may_work_again)) => {}
            Err(_elapsed) => return SpoolError::Fenced,
        }
    }
}

/// Whether a further try is in vain.
const fn is_final(error: &SpoolError) -> bool {
    matches!(error, SpoolError::Fenced | SpoolError::Stopped)
}

/// A lease too long to be counted never ends.
fn later(from: Instant, by: Duration) -> Instant {
    from.checked_add(by).unwrap_or_else(|| from + Duration::from_secs(u32::MAX.into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};
    use tokio::time::timeout;

    const LEASE: Duration = Duration::from_secs(30);

    fn unreachable() -> SpoolError {
        SpoolError::Io { action: "asking the store", source: std::io::ErrorKind::ConnectionReset.into() }
    }

    /// How often a lease was renewed within ten of its lengths, and why it was lost and when.
    async fn kept(
        answer: impl Fn(u32) -> Result<(), SpoolError> + Send + Sync,
    ) -> (u32, Option<(SpoolError, Duration)>) {
        let (asked, began) = (AtomicU32::new(0), Instant::now());
        let renew = || {
            let answer = answer(asked.fetch_add(1, Ordering::SeqCst));
            async { answer }
        };
        let lost = timeout(LEASE * 10, keep(Lease::For(LEASE), renew)).await.ok();
        (asked.into_inner(), lost.map(|error| (error, began.elapsed())))
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_is_renewed_for_as_long_as_the_work_goes_on() {
        let (asked, lost) = kept(|_| Ok(())).await;
        assert!(asked >= 10 * RENEWALS - 1, "{asked}");
        assert!(lost.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn rfc5321_6_1_a_claim_that_another_worker_has_ends_the_work_at_once() {
        let (asked, lost) = kept(|n| if n == 1 { Err(SpoolError::Fenced) } else { Ok(()) }).await;
        let (error, after) = lost.unwrap();
        assert!(matches!(error, SpoolError::Fenced) && asked == 2, "{error} {asked}");
        assert!(after < LEASE, "{after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_unreachable_store_ends_the_work_with_the_lease_and_not_before() {
        let (_, lost) = kept(|n| if n < 3 { Ok(()) } else { Err(unreachable()) }).await;
        let (_, after) = lost.unwrap();
        assert_eq!(after, LEASE * 2, "a lease after the last renewal");
        let (asked, lost) = kept(|n| if n % 2 == 0 { Err(unreachable()) } else { Ok(()) }).await;
        assert!(lost.is_none(), "every other renewal works, of {asked}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_ends_the_work_with_the_lease() {
        let silent = keep(Lease::For(LEASE), std::future::pending);
        let began = Instant::now();
        assert!(matches!(silent.await, SpoolError::Fenced));
        assert_eq!(began.elapsed(), LEASE);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_as_long_as_the_process_asks_nobody() {
        let renew = || async { Err(SpoolError::Fenced) };
        assert!(timeout(LEASE * 100, keep(Lease::Process, renew)).await.is_err());
    }
}
