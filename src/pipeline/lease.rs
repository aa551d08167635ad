//! Keeping the claim on a message while it is under way.
//!
//! Guarantee (RFC 5321 §6.1): work that outlives its lease has renewed it, or is given up before
//! anything of it is recorded: another worker may have the message by then. Where the lease ran out
//! because the store could not be reached, the claim is in doubt: whether another worker has it only the
//! store can tell. What was begun by then is brought to its end, for to break off a transaction makes a second copy likely;
//! nothing further is begun, and the store decides whether the end is recorded.

use crate::spool::{Lease, SpoolError};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// Renewals in the time of one lease: one of them may fail without harm.
const RENEWALS: u32 = 3;

/// Whether a claim is known to hold, for whoever is about to begin something under it.
#[derive(Debug, Default)]
pub(super) struct ClaimHold {
    in_doubt: AtomicBool,
}

impl ClaimHold {
    /// The lease ran out, and the store cannot be asked.
    pub(super) fn is_in_doubt(&self) -> bool {
        self.in_doubt.load(Ordering::SeqCst)
    }

    fn is_certain(&self) {
        self.in_doubt.store(false, Ordering::SeqCst);
    }

    fn is_doubtful(&self) {
        self.in_doubt.store(true, Ordering::SeqCst);
    }
}

/// How long after one renewal the next is due; `None` where a lease needs none.
pub(super) fn pause(lease: Lease) -> Option<Duration> {
    match lease {
        Lease::Process => None,
        Lease::For(length) => Some(length / RENEWALS),
    }
}

/// Renews a lease again and again. Ends when it is lost, and says why; never while it holds or is in doubt.
pub(super) async fn keep<F, R>(lease: Lease, hold: &ClaimHold, renew: F) -> SpoolError
where
    F: Fn() -> R + Send,
    R: Future<Output = Result<(), SpoolError>> + Send,
{
    let (Lease::For(length), Some(pause)) = (lease, pause(lease)) else { return std::future::pending().await };
    let mut end = later(Instant::now(), length);
    loop {
        let next = later(Instant::now(), pause);
        let next = if Instant::now() < end { next.min(end) } else { next };
        sleep_until(next).await;
        let asked = Instant::now();
        if asked >= end && asked.saturating_duration_since(next) > pause {
            // This process stood still, and not the store.
            return SpoolError::Fenced;
        }
        let patience = if asked < end { end } else { later(asked, pause) };
        match timeout_at(patience, renew()).await {
            Ok(Ok(())) => {
                end = later(asked, length);
                hold.is_certain();
            }
            Ok(Err(error)) if is_final(&error) => return error,
            Ok(Err(_)) | Err(_) if Instant::now() >= end => hold.is_doubtful(),
            Ok(Err(_)) | Err(_) => {}
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
        kept_by(&ClaimHold::default(), answer).await
    }

    async fn kept_by(
        hold: &ClaimHold,
        answer: impl Fn(u32) -> Result<(), SpoolError> + Send + Sync,
    ) -> (u32, Option<(SpoolError, Duration)>) {
        let (asked, began) = (AtomicU32::new(0), Instant::now());
        let renew = || {
            let answer = answer(asked.fetch_add(1, Ordering::SeqCst));
            async { answer }
        };
        let lost = timeout(LEASE * 10, keep(Lease::For(LEASE), hold, renew)).await.ok();
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

    /// In doubt from when on, where the store answers so.
    async fn doubtful_after(answer: impl Fn(u32) -> Result<(), SpoolError> + Send + Sync) -> Option<Duration> {
        let (hold, began) = (ClaimHold::default(), Instant::now());
        let doubt = async {
            while !hold.is_in_doubt() {
                sleep_until(Instant::now() + LEASE / 100).await;
            }
            began.elapsed()
        };
        tokio::select! {
            biased;
            _whatever = kept_by(&hold, answer) => None,
            after = doubt => Some(after),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn rfc5321_6_1_an_unreachable_store_makes_a_claim_doubtful_with_the_lease_and_not_before() {
        let after = doubtful_after(|n| if n < 3 { Ok(()) } else { Err(unreachable()) }).await.unwrap();
        assert!(after >= LEASE * 2 && after < LEASE * 2 + LEASE / 10, "a lease after the last renewal: {after:?}");
        let every_other = doubtful_after(|n| if n % 2 == 0 { Err(unreachable()) } else { Ok(()) }).await;
        assert_eq!(every_other, None);
    }

    #[tokio::test(start_paused = true)]
    async fn rfc5321_6_1_only_the_store_says_what_became_of_a_claim_in_doubt() {
        let hold = ClaimHold::default();
        let (_, lost) = kept_by(&hold, |n| if n < 12 { Err(unreachable()) } else { Ok(()) }).await;
        assert!(lost.is_none() && !hold.is_in_doubt(), "nobody else has taken it");
        let (_, lost) = kept_by(&hold, |n| Err(if n < 12 { unreachable() } else { SpoolError::Fenced })).await;
        let (error, after) = lost.unwrap();
        assert!(matches!(error, SpoolError::Fenced) && after > LEASE * 3 && hold.is_in_doubt(), "{error} {after:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_does_not_answer_makes_a_claim_doubtful_with_the_lease() {
        let hold = ClaimHold::default();
        let silent = keep(Lease::For(LEASE), &hold, std::future::pending);
        assert!(timeout(LEASE, silent).await.is_err() || hold.is_in_doubt());
        let silent = keep(Lease::For(LEASE), &hold, std::future::pending);
        assert!(timeout(LEASE * 2, silent).await.is_err(), "it may answer yet");
        assert!(hold.is_in_doubt());
    }

    #[tokio::test(start_paused = true)]
    async fn rfc5321_6_1_a_process_that_stood_still_past_its_lease_gives_up_before_it_asks() {
        let (hold, asked) = (ClaimHold::default(), AtomicU32::new(0));
        let renew = || {
            asked.fetch_add(1, Ordering::SeqCst);
            async { Ok(()) }
        };
        let keeping = keep(Lease::For(LEASE), &hold, renew);
        tokio::pin!(keeping);
        assert!(timeout(Duration::ZERO, &mut keeping).await.is_err());
        tokio::time::advance(LEASE * 2).await;
        assert!(matches!(keeping.await, SpoolError::Fenced));
        assert_eq!(asked.load(Ordering::SeqCst), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_as_long_as_the_process_asks_nobody() {
        let renew = || async { Err(SpoolError::Fenced) };
        assert!(timeout(LEASE * 100, keep(Lease::Process, &ClaimHold::default(), renew)).await.is_err());
    }
}
