//! A spool in memory for the tests of the listener: takes messages, gives none.

use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::envelope::{Envelope, QueueId};
use crate::spool::event::Event;
use crate::spool::incident::Incident;
use crate::spool::room::FullDisk;
use crate::spool::tls_session::{TlsReportId, TlsReportState};
use crate::spool::{
    BodyReader, BodyWriter, Claim, ContentCopy, Draft, Lease, Report, Settlement, Spool, SpoolError, SpoolStats,
    Unwritten,
};
use async_trait::async_trait;
use std::any::Any;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// Keeps what was enqueued.
#[derive(Default)]
pub(super) struct TestSpool {
    pub(super) messages: Mutex<Vec<(Envelope, Vec<u8>)>>,
    pub(super) full: AtomicBool,
    pub(super) broken: AtomicBool,
    next: AtomicU64,
}

#[derive(Default)]
struct MemorySpool(Vec<u8>);

#[async_trait]
impl BodyWriter for MemorySpool {
    async fn write(&mut self, piece: &[u8]) -> Result<(), SpoolError> {
        self.0.extend_from_slice(piece);
        Ok(())
    }

    fn size(&self) -> u64 {
        self.0.len() as u64
    }

    fn into_any(self: Box<Self>) -> Box<dyn Any + Send> {
        self
    }
}

#[async_trait]
impl Spool for TestSpool {
    fn set_limits(&self, _limits: &SpoolConfig) {}

    fn admit(&self, _size: u64) -> Result<(), SpoolError> {
        if self.full.load(Ordering::SeqCst) { Err(SpoolError::Full) } else { Ok(()) }
    }

    fn begin(&self, _now: Timestamp) -> Draft {
        let id = QueueId(self.next.fetch_add(1, Ordering::SeqCst));
        Draft { id, body: Box::new(MemorySpool::default()) }
    }

    async fn enqueue_with(
        &self,
        draft: Draft,
        envelope: Envelope,
        copies: Vec<ContentCopy>,
    ) -> Result<Vec<QueueId>, SpoolError> {
        if self.broken.load(Ordering::SeqCst) {
            return Err(SpoolError::Stopped);
        }
        let memory = draft.body.into_any().downcast::<MemorySpool>().unwrap();
        let mut messages = self.messages.lock().unwrap();
        let copied = |copy: ContentCopy| (copy.envelope, [&copy.before[..], &memory.0, &copy.after].concat());
        messages.extend(copies.into_iter().map(copied).collect::<Vec<_>>());
        messages.push((envelope, memory.0));
        Ok(Vec::new())
    }

    async fn claim_due(&self, _now: Timestamp, _most: usize) -> Result<Vec<Claim>, SpoolError> {
        Ok(Vec::new())
    }

    async fn claim_one(&self, _id: QueueId, _now: Timestamp) -> Result<Option<Claim>, SpoolError> {
        Ok(None)
    }

    fn lease(&self) -> Lease {
        Lease::Process
    }

    async fn renew(&self, _claim: &Claim) -> Result<(), SpoolError> {
        Err(SpoolError::Fenced)
    }

    async fn bring_forward(&self, _now: Timestamp, _horizon: Timestamp) -> Result<(), SpoolError> {
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, SpoolError> {
        Ok(None)
    }

    async fn changed(&self) {
        std::future::pending().await
    }

    async fn open_body(&self, _id: QueueId) -> Result<Box<dyn BodyReader>, SpoolError> {
        Err(SpoolError::Damaged)
    }

    async fn settle(&self, _claim: Claim, _settlement: Settlement) -> Result<(), SpoolError> {
        Err(SpoolError::Fenced)
    }

    async fn settle_part(&self, _claim: &mut Claim, _settlement: Settlement) -> Result<(), SpoolError> {
        Err(SpoolError::Fenced)
    }

    async fn settle_together(
        &self,
        _claim: Claim,
        _settlement: Settlement,
        _others: Vec<(Claim, Settlement)>,
    ) -> Result<(), SpoolError> {
        Ok(())
    }

    async fn release(&self, _claim: Claim) -> Result<(), SpoolError> {
        Ok(())
    }

    async fn postpone(&self, _claim: Claim, _until: Timestamp) -> Result<(), SpoolError> {
        Ok(())
    }

    async fn hasten(&self, _messages: &[(QueueId, Timestamp)], _now: Timestamp) -> Result<(), SpoolError> {
        Ok(())
    }

    async fn record_incident(&self, _incident: &Incident) -> Result<(), SpoolError> {
        Ok(())
    }

    async fn record_tls_report(
        &self,
        _report: &TlsReportId,
        _state: &TlsReportState,
        _mails: Vec<Report>,
    ) -> Result<(), SpoolError> {
        Ok(())
    }

    fn full_disk(&self, _now: Timestamp) -> Option<FullDisk> {
        None
    }

    fn unwritten(&self) -> Unwritten {
        Unwritten::default()
    }

    fn stats(&self) -> SpoolStats {
        SpoolStats::default()
    }

    async fn history(&self, _id: QueueId) -> Result<Vec<(Timestamp, Event)>, SpoolError> {
        Ok(Vec::new())
    }

    async fn failed(&self) -> String {
        std::future::pending().await
    }

    async fn close(&self) {}
}
