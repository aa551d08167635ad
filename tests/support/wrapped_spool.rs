//! A spool around another one, for tests that watch what is asked of it or change what it says.

use async_trait::async_trait;
use dane_relay::clock::Timestamp;
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::{Envelope, QueueId};
use dane_relay::spool::cluster::NodeShare;
use dane_relay::spool::event::Event;
use dane_relay::spool::incident::Incident;
use dane_relay::spool::room::{AwayStore, FullDisk};
use dane_relay::spool::tls_session::{DueTlsReport, TlsReportId, TlsReportState};
use dane_relay::spool::{
    BodyReader, Claim, ContentCopy, Draft, Lease, Report, Settlement, Spool, SpoolError, SpoolStats, Unwritten,
};
use std::sync::Arc;

/// What is asked of the writers of a spool, which one waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    Enqueue,
    Claim,
    OpenBody,
    Settle,
    History,
}

/// What happens besides.
pub(crate) trait Around: Send + Sync {
    /// Dropped when the call is over.
    type During: Send;

    fn call(&self, call: Call) -> Self::During;

    fn lease(&self, inner: Lease) -> Lease {
        inner
    }

    /// Before the spool inside is asked to renew a claim.
    fn renew(&self) -> Result<(), SpoolError> {
        Ok(())
    }
}

/// See the module.
pub(crate) struct WrappedSpool<A> {
    pub(crate) inner: Arc<dyn Spool>,
    pub(crate) around: A,
}

#[async_trait]
impl<A: Around> Spool for WrappedSpool<A> {
    fn set_limits(&self, limits: &SpoolConfig) {
        self.inner.set_limits(limits);
    }

    fn admit(&self, size: u64) -> Result<(), SpoolError> {
        self.inner.admit(size)
    }

    fn begin(&self, now: Timestamp) -> Draft {
        self.inner.begin(now)
    }

    async fn enqueue_with(
        &self,
        draft: Draft,
        envelope: Envelope,
        copies: Vec<ContentCopy>,
    ) -> Result<Vec<QueueId>, SpoolError> {
        let _during = self.around.call(Call::Enqueue);
        self.inner.enqueue_with(draft, envelope, copies).await
    }

    async fn claim_due(&self, now: Timestamp, most: usize) -> Result<Vec<Claim>, SpoolError> {
        let _during = self.around.call(Call::Claim);
        self.inner.claim_due(now, most).await
    }

    async fn claim_one(&self, id: QueueId, now: Timestamp) -> Result<Option<Claim>, SpoolError> {
        let _during = self.around.call(Call::Claim);
        self.inner.claim_one(id, now).await
    }

    fn share(&self) -> NodeShare {
        self.inner.share()
    }

    fn lease(&self) -> Lease {
        self.around.lease(self.inner.lease())
    }

    async fn renew(&self, claim: &Claim) -> Result<(), SpoolError> {
        self.around.renew()?;
        self.inner.renew(claim).await
    }

    async fn bring_forward(&self, now: Timestamp, horizon: Timestamp) -> Result<(), SpoolError> {
        self.inner.bring_forward(now, horizon).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, SpoolError> {
        self.inner.next_due().await
    }

    async fn changed(&self) {
        self.inner.changed().await;
    }

    async fn open_body(&self, id: QueueId) -> Result<Box<dyn BodyReader>, SpoolError> {
        let _during = self.around.call(Call::OpenBody);
        self.inner.open_body(id).await
    }

    async fn settle_part(&self, claim: &mut Claim, settlement: Settlement) -> Result<(), SpoolError> {
        let _during = self.around.call(Call::Settle);
        self.inner.settle_part(claim, settlement).await
    }

    async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<(), SpoolError> {
        let _during = self.around.call(Call::Settle);
        self.inner.settle(claim, settlement).await
    }

    async fn settle_together(
        &self,
        claim: Claim,
        settlement: Settlement,
        others: Vec<(Claim, Settlement)>,
    ) -> Result<(), SpoolError> {
        let _during = self.around.call(Call::Settle);
        self.inner.settle_together(claim, settlement, others).await
    }

    async fn release(&self, claim: Claim) -> Result<(), SpoolError> {
        self.inner.release(claim).await
    }

    async fn postpone(&self, claim: Claim, until: Timestamp) -> Result<(), SpoolError> {
        self.inner.postpone(claim, until).await
    }

    async fn hasten(&self, messages: &[(QueueId, Timestamp)], now: Timestamp) -> Result<(), SpoolError> {
        self.inner.hasten(messages, now).await
    }

    async fn record_incident(&self, incident: &Incident) -> Result<(), SpoolError> {
        self.inner.record_incident(incident).await
    }

    async fn claim_tls_report(&self, due: &DueTlsReport) -> Result<bool, SpoolError> {
        self.inner.claim_tls_report(due).await
    }

    async fn record_tls_report(
        &self,
        report: &TlsReportId,
        state: &TlsReportState,
        mails: Vec<Report>,
    ) -> Result<(), SpoolError> {
        let _during = self.around.call(Call::Settle);
        self.inner.record_tls_report(report, state, mails).await
    }

    fn full_disk(&self, now: Timestamp) -> Option<FullDisk> {
        self.inner.full_disk(now)
    }

    fn away(&self, now: Timestamp) -> Option<AwayStore> {
        self.inner.away(now)
    }

    fn unwritten(&self) -> Unwritten {
        self.inner.unwritten()
    }

    fn stats(&self) -> SpoolStats {
        self.inner.stats()
    }

    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, SpoolError> {
        let _during = self.around.call(Call::History);
        self.inner.history(id).await
    }

    async fn failed(&self) -> String {
        self.inner.failed().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}
