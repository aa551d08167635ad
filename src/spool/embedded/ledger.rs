//! The ledger of this engine: [`StateReader`] and [`Auditor`], which block, off the threads that
//! speak to servers.

use super::audit::Auditor;
use super::brief::BriefShare;
use super::reader::StateReader;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::smtp::address::Domain;
use crate::spool::EngineError;
use crate::spool::audit::{Audit, Depth};
use crate::spool::event::Event;
use crate::spool::incident::Incident;
use crate::spool::ledger::{
    AuditRun, BriefListing, BriefPart, DeliveriesWanted, Ledger, LedgerError, LedgerMessage, Listed, Listing, Matches,
    PastDelivery, WaitingFrom,
};
use crate::spool::tls_session::{DueTlsReport, DueTlsReports, ReportDay, TlsCount, TlsReportId, TlsReportRow};
use async_trait::async_trait;
use bytes::Bytes;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::sync::mpsc;

/// Messages read ahead of whoever goes through what waits: enough to keep both sides at work, and
/// few enough that a thousand recipients each are no burden.
const READ_AHEAD: usize = 64;

/// The same where they are read in brief, many at once.
const PARTS_AHEAD: usize = 4;

/// The state database of a spool directory, read only.
pub(crate) struct EmbeddedLedger {
    spool: PathBuf,
    reader: Arc<Mutex<StateReader>>,
}

impl EmbeddedLedger {
    /// Opens the ledger of a spool directory.
    ///
    /// # Errors
    /// When there is none or it cannot be read.
    pub(crate) async fn open(spool: &Path) -> Result<Self, LedgerError> {
        let spool = spool.to_owned();
        let reader = open(spool.clone()).await?;
        Ok(Self { spool, reader: Arc::new(Mutex::new(reader)) })
    }

    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&StateReader) -> Result<T, LedgerError> + Send + 'static,
    ) -> Result<T, LedgerError> {
        let reader = Arc::clone(&self.reader);
        blocking(move || question(&reader.lock().unwrap_or_else(PoisonError::into_inner))).await
    }

    /// With a connection of its own: it is one view of the database, however long it is looked at.
    async fn list(
        &self,
        walk: impl FnOnce(&StateReader, &mut dyn FnMut(Listed) -> ControlFlow<()>) -> Result<(), LedgerError>
        + Send
        + 'static,
    ) -> Result<Box<dyn Listing>, LedgerError> {
        let reader = open(self.spool.clone()).await?;
        let (sender, lines) = mpsc::channel(READ_AHEAD);
        tokio::task::spawn_blocking(move || {
            let gone = |_nobody_listens| ControlFlow::Break(());
            let mut each = |line| sender.blocking_send(Ok(line)).map_or_else(gone, ControlFlow::Continue);
            if let Err(error) = walk(&reader, &mut each) {
                let _nobody_listens = sender.blocking_send(Err(error));
            }
        });
        Ok(Box::new(Lines(lines)))
    }
}

#[async_trait]
impl Ledger for EmbeddedLedger {
    async fn message(&self, id: QueueId) -> Result<Option<LedgerMessage>, LedgerError> {
        self.ask(move |reader| reader.message(id)).await
    }

    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, LedgerError> {
        self.ask(move |reader| reader.history(id)).await
    }

    async fn content(&self, id: QueueId) -> Result<Option<Bytes>, LedgerError> {
        self.ask(move |reader| reader.content(id)).await
    }

    async fn find(&self, name: &str, most: usize) -> Result<Matches, LedgerError> {
        let name = name.to_owned();
        self.ask(move |reader| reader.find(&name, most)).await
    }

    async fn waiting(&self) -> Result<Box<dyn Listing>, LedgerError> {
        self.list(|reader, each| reader.for_each_waiting(each)).await
    }

    async fn waiting_in_brief(&self) -> Result<Box<dyn BriefListing>, LedgerError> {
        let (sender, parts) = mpsc::channel(PARTS_AHEAD);
        for share in BriefShare::all() {
            let (reader, sender) = (open(self.spool.clone()).await?, sender.clone());
            tokio::task::spawn_blocking(move || {
                let gone = |_nobody_listens| ControlFlow::Break(());
                let each = |part| sender.blocking_send(Ok(part)).map_or_else(gone, ControlFlow::Continue);
                if let Err(error) = reader.for_each_waiting_in_brief(share, each) {
                    let _nobody_listens = sender.blocking_send(Err(error));
                }
            });
        }
        Ok(Box::new(BriefParts(parts)))
    }

    async fn page(
        &self,
        after: Option<QueueId>,
        most: usize,
    ) -> Result<Vec<Result<LedgerMessage, QueueId>>, LedgerError> {
        self.ask(move |reader| reader.page(after, most)).await
    }

    async fn waiting_from(&self, from: WaitingFrom) -> Result<Box<dyn Listing>, LedgerError> {
        self.list(move |reader, each| reader.for_each_waiting_from(&from, each)).await
    }

    async fn accepted(&self, from: Timestamp, to: Timestamp) -> Result<Box<dyn Listing>, LedgerError> {
        self.list(move |reader, each| reader.for_each_accepted(from, to, each)).await
    }

    async fn complete_since(&self) -> Result<Option<Timestamp>, LedgerError> {
        self.ask(StateReader::complete_since).await
    }

    async fn incidents(&self, most: usize) -> Result<Vec<Incident>, LedgerError> {
        self.ask(move |reader| reader.incidents(most)).await
    }

    async fn tls_reports(&self, from: ReportDay, to: ReportDay, most: usize) -> Result<Vec<TlsReportRow>, LedgerError> {
        self.ask(move |reader| reader.tls_reports(from, to, most)).await
    }

    async fn tls_counts(&self, report: &TlsReportId) -> Result<Vec<TlsCount>, LedgerError> {
        let report = report.clone();
        self.ask(move |reader| reader.tls_counts(&report)).await
    }

    async fn tls_reports_due(&self, due: &DueTlsReports) -> Result<Vec<DueTlsReport>, LedgerError> {
        let due = *due;
        self.ask(move |reader| reader.tls_reports_due(&due)).await
    }

    async fn delivered(&self, wanted: &DeliveriesWanted) -> Result<Vec<PastDelivery>, LedgerError> {
        let wanted = wanted.clone();
        self.ask(move |reader| reader.delivered(&wanted)).await
    }

    async fn destinations(&self, most: usize) -> Result<Vec<Domain>, LedgerError> {
        self.ask(move |reader| reader.destinations(most)).await
    }

    async fn audit(&self, depth: Depth) -> Result<Box<dyn AuditRun>, LedgerError> {
        let spool = self.spool.clone();
        let auditor = blocking(move || Auditor::open(&spool, depth)).await?;
        Ok(Box::new(EmbeddedAudit(Some(auditor))))
    }
}

struct Lines(mpsc::Receiver<Result<Listed, LedgerError>>);

#[async_trait]
impl Listing for Lines {
    async fn next(&mut self) -> Result<Option<Listed>, LedgerError> {
        self.0.recv().await.transpose()
    }
}

struct BriefParts(mpsc::Receiver<Result<BriefPart, LedgerError>>);

#[async_trait]
impl BriefListing for BriefParts {
    async fn next(&mut self) -> Result<Option<BriefPart>, LedgerError> {
        self.0.recv().await.transpose()
    }
}

/// Nobody, once a step of it was given up half way.
struct EmbeddedAudit(Option<Auditor>);

#[async_trait]
impl AuditRun for EmbeddedAudit {
    async fn step(&mut self) -> Result<ControlFlow<Audit>, LedgerError> {
        let Some(mut auditor) = self.0.take() else { return Err(interrupted("a step of the audit was given up")) };
        let (auditor, step) = blocking(move || {
            let step = auditor.step()?;
            Ok((auditor, step))
        })
        .await?;
        self.0 = Some(auditor);
        Ok(step)
    }
}

async fn open(spool: PathBuf) -> Result<StateReader, LedgerError> {
    blocking(move || StateReader::open(&spool)).await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LedgerError> + Send + 'static,
) -> Result<T, LedgerError> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|ended| Err(interrupted(ended)))
}

fn interrupted(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> LedgerError {
    LedgerError::Engine(EngineError { store: "reading the state database", source: source.into() })
}
