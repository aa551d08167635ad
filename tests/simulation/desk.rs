//! The spool of a simulated relay: the real one, whose writers are turned by hand.

use async_trait::async_trait;
use dane_relay::clock::Timestamp;
use dane_relay::envelope::{Envelope, QueueId};
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::event::Event;
use dane_relay::spool::{BodyReader, Claim, Draft, Lease, Settlement, Spool, SpoolError, SpoolStats};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;
use tokio::sync::Notify;

/// What one turn of the writers takes: whoever comes within it shares their sync.
pub(crate) const TURN: Duration = Duration::from_millis(2);

/// The spool as the relay sees it. It tells when somebody waits for the writers.
pub(crate) struct Desk {
    spool: EmbeddedSpool,
    waiting: AtomicUsize,
    work: Notify,
}

/// Somebody who waits.
struct Waiting<'a>(&'a Desk);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Desk {
    pub(crate) fn new(spool: EmbeddedSpool) -> Self {
        Self { spool, waiting: AtomicUsize::new(0), work: Notify::new() }
    }

    /// Waits until the writers have something to do.
    pub(crate) async fn work(&self) {
        if self.waiting.load(Ordering::SeqCst) == 0 {
            self.work.notified().await;
        }
    }

    fn waiting(&self) -> Waiting<'_> {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        self.work.notify_one();
        Waiting(self)
    }
}

#[async_trait]
impl Spool for Desk {
    fn admit(&self, size: u64) -> Result<(), SpoolError> {
        self.spool.admit(size)
    }

    fn begin(&self, now: Timestamp) -> Draft {
        self.spool.begin(now)
    }

    async fn enqueue(&self, draft: Draft, envelope: Envelope) -> Result<QueueId, SpoolError> {
        let _waiting = self.waiting();
        self.spool.enqueue(draft, envelope).await
    }

    async fn claim_due(&self, now: Timestamp, most: usize) -> Result<Vec<Claim>, SpoolError> {
        let _waiting = self.waiting();
        self.spool.claim_due(now, most).await
    }

    async fn claim_one(&self, id: QueueId, now: Timestamp) -> Result<Option<Claim>, SpoolError> {
        let _waiting = self.waiting();
        self.spool.claim_one(id, now).await
    }

    fn lease(&self) -> Lease {
        self.spool.lease()
    }

    async fn renew(&self, claim: &Claim) -> Result<(), SpoolError> {
        self.spool.renew(claim).await
    }

    async fn bring_forward(&self, now: Timestamp, horizon: Timestamp) -> Result<(), SpoolError> {
        self.spool.bring_forward(now, horizon).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, SpoolError> {
        self.spool.next_due().await
    }

    async fn changed(&self) {
        self.spool.changed().await;
    }

    async fn open_body(&self, id: QueueId) -> Result<Box<dyn BodyReader>, SpoolError> {
        let _waiting = self.waiting();
        self.spool.open_body(id).await
    }

    async fn settle_part(&self, claim: &mut Claim, settlement: Settlement) -> Result<(), SpoolError> {
        let _waiting = self.waiting();
        self.spool.settle_part(claim, settlement).await
    }

    async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<(), SpoolError> {
        let _waiting = self.waiting();
        self.spool.settle(claim, settlement).await
    }

    async fn settle_together(
        &self,
        claim: Claim,
        settlement: Settlement,
        others: Vec<(Claim, Settlement)>,
    ) -> Result<(), SpoolError> {
        let _waiting = self.waiting();
        self.spool.settle_together(claim, settlement, others).await
    }

    async fn release(&self, claim: Claim) -> Result<(), SpoolError> {
        self.spool.release(claim).await
    }

    async fn postpone(&self, claim: Claim, until: Timestamp) -> Result<(), SpoolError> {
        self.spool.postpone(claim, until).await
    }

    async fn hasten(&self, messages: &[(QueueId, Timestamp)], now: Timestamp) -> Result<(), SpoolError> {
        self.spool.hasten(messages, now).await
    }

    fn stats(&self) -> SpoolStats {
        self.spool.stats()
    }

    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, SpoolError> {
        let _waiting = self.waiting();
        self.spool.history(id).await
    }

    async fn failed(&self) -> String {
        self.spool.failed().await
    }

    async fn close(&self) {
        self.spool.close().await;
    }
}
