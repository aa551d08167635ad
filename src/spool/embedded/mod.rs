//! The embedded engine: segments are the truth of what was accepted, SQLite is the working state.
//!
//! ```text
//! enqueue ──► log writer: one write, one sync ──► Ok (250) ──► state writer: the row
//! settle  ──► log writer: the reports, if any ────────────────► state writer: one transaction ──► Ok
//! claim   ──► memory, or a row
//! ```
//! Guarantee (RFC 5321 §4.2.5, §6.1): after `Ok` of [`Spool::enqueue`] no crash loses the message;
//! after `Ok` of [`Spool::settle`] outcomes and reports are durable together. At worst something
//! is delivered twice. After a failure of the disk nothing more is taken ([`Spool::failed`]).

mod adopting;
mod answering;
pub mod audit;
mod batch;
mod brief;
mod claiming;
mod content;
mod forward;
mod fresh;
mod index;
mod jobs;
pub(crate) mod ledger;
mod log;
mod manual;
mod paths;
pub mod reader;
mod reading;
mod recovery;
mod reserve;
mod schema;
mod segments;
mod settle;
mod shared;
mod space;
mod state;
mod steps;
mod storing;
mod threads;
mod tls_counts;
mod unwritten;
mod writer;

pub use manual::ManualWriters;
pub use steps::{CrashObserver, Step, Work};

use super::{
    BodyReader, Claim, ContentCopy, Draft, Lease, Recovery, Report, Settlement, Spool, SpoolError, SpoolStats,
    Unwritten,
};
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::envelope::{Envelope, QueueId};
use crate::spool::event::Event;
use crate::spool::incident::Incident;
use crate::spool::record::RecordContent;
use crate::spool::room::FullDisk;
use crate::spool::tls_session::{TlsReportId, TlsReportState};
use async_trait::async_trait;
use claiming::Claiming;
use content::{ContentWriter, FileReader, InlineReader, blocking};
use index::Taken;
use jobs::{IncidentRow, KeptRows, LogJob, RecordPlace, ReplyTo, StateJob};
use log::Log;
use manual::Writers;
use segments::StoredRecord;
use settle::{Extent, PreparedSettlement, invalid};
use shared::{HistoryLimits, SharedState, Start};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use steps::{Steps, Workers};
use threads::spawn;
use tokio::sync::oneshot;
use writer::Writer;

/// The engine. Dropping it closes it, which blocks until what was taken is written;
/// [`Spool::close`] does the same without blocking.
pub struct EmbeddedSpool {
    shared: Arc<SharedState>,
    log: Sender<LogJob>,
    state: Sender<StateJob>,
    /// None while the writers are worked by hand, and after the end.
    threads: Arc<Mutex<Option<Threads>>>,
    last_id: AtomicU64,
    recovery: Recovery,
    /// Since when the mail here belongs to another spool.
    carried_since: Option<Timestamp>,
}

struct Threads {
    log: JoinHandle<()>,
    state: JoinHandle<()>,
}

impl EmbeddedSpool {
    /// Opens the spool directory, makes it when there is none, and recovers what a crash left.
    /// Blocks.
    ///
    /// # Errors
    /// [`SpoolError::InUse`] when another process has it, [`SpoolError::Unusable`] when it cannot be written,
    /// [`SpoolError::Io`] and [`SpoolError::Engine`] when the disk fails.
    pub fn open(config: &SpoolConfig, now: Timestamp) -> Result<Self, SpoolError> {
        let (spool, writers) = Self::prepare(config, now, Steps::unobserved())?;
        let Writers { log, log_jobs, state, state_jobs } = writers;
        let threads = Threads {
            log: spawn("spool-log", &spool.shared, move || log.run(&log_jobs))?,
            state: spawn("spool-state", &spool.shared, move || state.run(&state_jobs))?,
        };
        spool.threads.lock().unwrap_or_else(PoisonError::into_inner).replace(threads);
        Ok(spool)
    }

    /// All but somebody who does the writers' work.
    fn prepare(config: &SpoolConfig, now: Timestamp, steps: Steps) -> Result<(Self, Writers), SpoolError> {
        let paths = paths::SpoolPaths::create(&config.path, steps)?;
        let lock = paths.lock()?;
        let (space, reserve) = (space::Space::new(config), reserve::Reserve::new(paths.clone(), config));
        reserve.give_free_if_full(&space);
        let recovered = match recovery::recover(&paths) {
            // Others may have taken the last block meanwhile, or a quota is full where the disk is not.
            Err(SpoolError::Full) if reserve.give_free() => recovery::recover(&paths)?,
            other => other?,
        };
        let recovery = recovered.summary;
        let shared = Arc::new(SharedState::new(Start {
            paths,
            space,
            reserve,
            history: HistoryLimits::new(config),
            segments: recovered.segments,
            index: recovered.index,
            bytes: recovered.bytes,
            damaged: recovery.damaged_records,
            now,
            lock,
        }));
        let (log, log_jobs) = channel();
        let (state, state_jobs) = channel();
        let log_writer = Log::start(Arc::clone(&shared), state.clone(), recovered.last_segment)?;
        shared.reserve.opened(&shared.space, now);
        let carried_since = recovered.state.carried_since()?;
        let state_writer = Writer::new(Arc::clone(&shared), recovered.state, recovered.mark, log.clone());
        let writers = Writers { log: log_writer, log_jobs, state: state_writer, state_jobs };
        let last_id = AtomicU64::new(recovered.last_time_id);
        Ok((Self { shared, log, state, threads: Arc::default(), last_id, recovery, carried_since }, writers))
    }

    /// What was found at opening.
    #[must_use]
    pub const fn recovery(&self) -> &Recovery {
        &self.recovery
    }

    fn running(&self) -> Result<(), SpoolError> {
        if self.shared.is_stopped() { Err(SpoolError::Stopped) } else { Ok(()) }
    }

    /// Strictly increasing, also across restarts; microseconds unless the clock is behind.
    fn next_id(&self, now: Timestamp) -> QueueId {
        let time = u64::try_from(now.0).unwrap_or(0).saturating_mul(schema::MICROSECONDS).min(schema::REPORT_IDS - 1);
        let next = |last: u64| time.max(last.saturating_add(1));
        let before = self.last_id.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |last| Some(next(last)));
        QueueId(next(before.unwrap_or_else(|last| last)))
    }

    /// Asks the state writer. Its silence means that it has ended.
    async fn ask<T>(&self, job: impl FnOnce(ReplyTo<T>) -> StateJob) -> Result<T, SpoolError> {
        let (answer, answered) = oneshot::channel();
        self.state.send(job(answer)).map_err(|_| SpoolError::Stopped)?;
        answered.await.unwrap_or(Err(SpoolError::Stopped))
    }

    /// Reads what memory does not have of messages that were taken.
    async fn hand_out(&self, taken: Vec<Taken>) -> Result<Vec<Claim>, SpoolError> {
        let missing: Vec<QueueId> = taken.iter().filter(|t| t.entry.is_none()).map(|t| t.id).collect();
        let mut claiming = Claiming { shared: &self.shared, taken };
        if !missing.is_empty() {
            let loaded = self.ask(|answer| StateJob::Load(missing, answer)).await?;
            for waiting in loaded {
                claiming.fill(waiting.entry);
            }
        }
        Ok(claiming.claims())
    }

    /// Where the record of a message is.
    async fn place(&self, id: QueueId) -> Result<RecordPlace, SpoolError> {
        let in_memory = self.shared.index().place(id);
        match in_memory {
            Some(place) => Ok(place),
            None => self.ask(|answer| StateJob::Place(id, answer)).await?.ok_or(SpoolError::Damaged),
        }
    }

    /// Reads a record, also while compaction moves it.
    async fn read_record(&self, id: QueueId) -> Result<StoredRecord, SpoolError> {
        let mut place = self.place(id).await?;
        loop {
            let shared = Arc::clone(&self.shared);
            let read = blocking(shared.paths.steps().workers(), move || shared.try_record(id, place)).await;
            if !matches!(read, Err(SpoolError::Damaged)) {
                return read;
            }
            let before = std::mem::replace(&mut place, self.place(id).await?);
            if place == before {
                self.shared.count_damage(id);
                return read;
            }
        }
    }

    /// Gives the claim as it is afterwards; after [`Extent::Whole`] it is of no use.
    async fn record(&self, claim: Claim, settlement: Settlement, extent: Extent) -> Result<Claim, SpoolError> {
        self.running()?;
        let prepared = PreparedSettlement::new(&self.shared, claim, settlement, extent)?;
        self.hand_over(prepared).await
    }

    async fn hand_over(&self, prepared: PreparedSettlement) -> Result<Claim, SpoolError> {
        let PreparedSettlement { settling, reports, claim, answered } = prepared;
        self.shared.unwritten.outcomes_begin(1 + settling.others.len());
        if reports.is_empty() {
            self.state.send(StateJob::Settle(settling)).map_err(|_| SpoolError::Stopped)?;
        } else {
            self.log.send(LogJob::Settle(settling, reports)).map_err(|_| SpoolError::Stopped)?;
        }
        answered.await.unwrap_or(Err(SpoolError::Stopped))?;
        Ok(claim)
    }

    fn closer(&self) -> impl FnOnce() + Send + 'static {
        let (shared, threads) = (Arc::clone(&self.shared), Arc::clone(&self.threads));
        let (log, state) = (self.log.clone(), self.state.clone());
        move || {
            let Some(threads) = threads.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
            shared.begin_closing();
            // A thread that has ended already cannot be told, and need not be.
            let _ = log.send(LogJob::Close);
            let _ = threads.log.join();
            let _ = state.send(StateJob::Close);
            let _ = threads.state.join();
            shared.reserve.keep_for_the_next_start(&shared.space);
            shared.unlock();
        }
    }
}

impl Drop for EmbeddedSpool {
    fn drop(&mut self) {
        self.closer()();
    }
}

#[async_trait]
impl Spool for EmbeddedSpool {
    fn set_limits(&self, limits: &SpoolConfig) {
        self.shared.set_limits(limits);
    }

    fn admit(&self, size: u64) -> Result<(), SpoolError> {
        self.running()?;
        self.shared.space.admit(size)
    }

    fn begin(&self, now: Timestamp) -> Draft {
        self.shared.see_time(now);
        let id = self.next_id(now);
        Draft { id, body: Box::new(ContentWriter::new(Arc::clone(&self.shared), id)) }
    }

    async fn enqueue_with(
        &self,
        draft: Draft,
        envelope: Envelope,
        copies: Vec<ContentCopy>,
    ) -> Result<Vec<QueueId>, SpoolError> {
        self.store(draft, envelope, copies).await
    }

    async fn claim_due(&self, now: Timestamp, most: usize) -> Result<Vec<Claim>, SpoolError> {
        self.running()?;
        self.shared.see_time(now);
        if self.shared.is_time_to_tidy(now) {
            // Nobody waits for it; an engine that has ended says so elsewhere.
            let _ = self.state.send(StateJob::Tidy);
        }
        let taken = self.shared.index().claim(now, most);
        self.hand_out(taken).await
    }

    async fn claim_one(&self, id: QueueId, now: Timestamp) -> Result<Option<Claim>, SpoolError> {
        self.running()?;
        let taken: Vec<Taken> = self.shared.index().claim_one(id, now).into_iter().collect();
        Ok(self.hand_out(taken).await?.pop())
    }

    /// One process owns the directory, and a restart ends all claims.
    fn lease(&self) -> Lease {
        Lease::Process
    }

    async fn renew(&self, claim: &Claim) -> Result<(), SpoolError> {
        let held = self.shared.index().claimed_at(claim.entry.id, claim.generation);
        held.map(|_since| ()).ok_or(SpoolError::Fenced)
    }

    async fn bring_forward(&self, now: Timestamp, horizon: Timestamp) -> Result<(), SpoolError> {
        self.shared.index().bring_forward(now, horizon);
        self.shared.changed.notify_one();
        Ok(())
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, SpoolError> {
        Ok(self.shared.index().next_due())
    }

    async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    async fn open_body(&self, id: QueueId) -> Result<Box<dyn BodyReader>, SpoolError> {
        let fresh = self.shared.index().content(id);
        if let Some(rest) = fresh {
            return Ok(Box::new(InlineReader { rest }));
        }
        let content = self.read_record(id).await?.content;
        let shared = Arc::clone(&self.shared);
        match content {
            RecordContent::Inline { bytes, .. } => Ok(Box::new(InlineReader { rest: bytes })),
            RecordContent::External { size, crc } => {
                let open = move || FileReader::open(shared, id, size, crc);
                Ok(Box::new(blocking(self.shared.paths.steps().workers(), open).await?))
            }
        }
    }

    async fn settle_part(&self, claim: &mut Claim, settlement: Settlement) -> Result<(), SpoolError> {
        let held = Claim { entry: claim.entry.clone(), generation: claim.generation };
        *claim = self.record(held, settlement, Extent::Part).await?;
        Ok(())
    }

    async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<(), SpoolError> {
        self.record(claim, settlement, Extent::Whole).await.map(|_given_back| ())
    }

    async fn settle_together(
        &self,
        claim: Claim,
        settlement: Settlement,
        others: Vec<(Claim, Settlement)>,
    ) -> Result<(), SpoolError> {
        self.running()?;
        let mut prepared = PreparedSettlement::new(&self.shared, claim, settlement, Extent::Whole)?;
        let mut others = others.into_iter();
        for (claim, settlement) in others.by_ref() {
            match PreparedSettlement::beside(&self.shared, claim, settlement, Extent::Whole, &prepared.reports) {
                Ok(other) => prepared.settling.others.push(*other.settling),
                Err(error) => {
                    self.shared.give_up(*prepared.settling, SpoolError::Stopped);
                    for (claim, _) in others {
                        self.release(claim).await?;
                    }
                    return Err(error);
                }
            }
        }
        self.hand_over(prepared).await.map(|_given_back| ())
    }

    async fn release(&self, claim: Claim) -> Result<(), SpoolError> {
        self.shared.index().release(claim.entry.id, claim.generation);
        self.shared.changed.notify_one();
        Ok(())
    }

    async fn postpone(&self, claim: Claim, until: Timestamp) -> Result<(), SpoolError> {
        self.shared.index().postpone(claim.entry.id, claim.generation, until);
        self.shared.changed.notify_one();
        Ok(())
    }

    async fn hasten(&self, messages: &[(QueueId, Timestamp)], now: Timestamp) -> Result<(), SpoolError> {
        self.shared.index().hasten(messages, now);
        self.shared.changed.notify_one();
        Ok(())
    }

    fn full_disk(&self, now: Timestamp) -> Option<FullDisk> {
        self.shared.space.full(now, self.shared.waits_for_room())
    }

    fn unwritten(&self) -> Unwritten {
        self.shared.unwritten.now()
    }

    fn stats(&self) -> SpoolStats {
        let index = self.shared.index();
        SpoolStats {
            queued_messages: index.len() as u64,
            held_messages: index.held() as u64,
            bytes: self.shared.bytes(),
            damaged_records: self.shared.damaged(),
            oldest: index.oldest(),
        }
    }

    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, SpoolError> {
        self.ask(|answer| StateJob::History(id, answer)).await
    }

    async fn record_incident(&self, incident: &Incident) -> Result<(), SpoolError> {
        self.running()?;
        let id = incident.id.0;
        let incident = serde_json::to_string(incident).map_err(|e| invalid(e.into()))?;
        self.ask(|answer| StateJob::Keep(Box::new(KeptRows::Incident(IncidentRow { id, incident })), answer)).await
    }

    async fn record_tls_report(
        &self,
        report: &TlsReportId,
        state: &TlsReportState,
        mails: Vec<Report>,
    ) -> Result<(), SpoolError> {
        self.running()?;
        let at = self.shared.latest_time();
        self.hand_over(PreparedSettlement::of_tls_report(report, state, mails, at)?).await.map(|_nobodys| ())
    }

    async fn failed(&self) -> String {
        let mut failure = self.shared.failure();
        match failure.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(reason) => reason.unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    async fn close(&self) {
        if self.shared.paths.steps().workers() == Workers::ByHand {
            return;
        }
        // It fails only if the thread panicked or the runtime is ending; the drop closes then.
        let _ = tokio::task::spawn_blocking(self.closer()).await;
    }
}
