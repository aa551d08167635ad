//! The engine on PostgreSQL: one database that several relays may share.
//!
//! ```text
//! enqueue ──► those that wait, in one transaction ──► commit ──► Ok (250)
//! claim   ──► FOR UPDATE SKIP LOCKED: a lease and a generation
//! settle  ──► states, reports, history: one transaction under that generation ──► Ok
//! ```
//! Guarantee (RFC 5321 §4.2.5, §6.1): after `Ok` of [`Spool::enqueue`] the message is committed, with
//! `synchronous_commit` at least `on`; after `Ok` of [`Spool::settle`] outcomes and reports are. While the database is
//! away nothing is acknowledged, and outcomes of deliveries are kept until they are recorded.

mod address;
mod adopting;
mod audit;
mod brief;
mod claiming;
mod content;
mod counts;
mod findings;
pub(super) mod ledger;
mod listing;
mod migrations;
mod numbers;
mod prune;
mod reader;
mod recording;
mod renewing;
mod returning;
mod rows;
mod session;
mod shared;
mod states;
pub(super) mod status;
mod store;
mod storing;
mod tls_counts;
mod tls_reports;

use super::cluster::{ClusterState, NodeShare, SchemaState};
use super::event::Event;
use super::findings::{Finding, FindingMark, HeardFindings};
use super::incident::Incident;
use super::room::{AwayStore, FullDisk};
use super::tls_session::{DueTlsReport, TlsReportId, TlsReportState};
use super::{
    BodyReader, Claim, ContentCopy, Draft, Lease, MOST_INCIDENTS, Recovery, Report, Settlement, Spool, SpoolError,
    SpoolStats, Unwritten,
};
use crate::clock::Timestamp;
use crate::config::SpoolConfig;
use crate::envelope::{Envelope, QueueId};
use async_trait::async_trait;
use content::{RowReader, RowWriter};
use numbers::{bigint, number};
use recording::{Recording, Scope, record};
use renewing::RenewalQueue;
use returning::ReturnQueue;
use rows::json;
use session::Session;
use shared::SharedStore;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use store::{Database, FolderLock};
use storing::StoreQueue;
use tokio::task::JoinHandle;

/// How often finished messages are looked at for pruning, by the clock of the caller.
const TIDY_EVERY: Duration = Duration::from_secs(60);

/// For the last words to the database.
const CLOSE_PATIENCE: Duration = Duration::from_secs(10);

/// The engine.
pub(super) struct PostgresSpool {
    shared: Arc<SharedStore>,
    arrivals: StoreQueue,
    renewals: RenewalQueue,
    returns: ReturnQueue,
    session: Mutex<Option<JoinHandle<()>>>,
    /// The lock of the directory, until the end.
    folder: Mutex<Option<FolderLock>>,
    /// Since when the mail here belongs to another spool.
    carried_since: Mutex<Option<Timestamp>>,
}

impl PostgresSpool {
    /// Opens the spool as one of its nodes.
    pub(super) async fn open(config: &SpoolConfig, now: Timestamp) -> Result<(Self, Recovery), SpoolError> {
        let folder = FolderLock::take(&config.path)?;
        Self::open_in(Some(folder), config, now).await
    }

    /// The same where the caller has the directory already.
    pub(super) async fn open_beside(config: &SpoolConfig, now: Timestamp) -> Result<Self, SpoolError> {
        Ok(Self::open_in(None, config, now).await?.0)
    }

    async fn open_in(
        folder: Option<FolderLock>,
        config: &SpoolConfig,
        now: Timestamp,
    ) -> Result<(Self, Recovery), SpoolError> {
        let database = Database::new(config)?;
        let folder = Mutex::new(folder);
        let session = Session::open(&database).await?;
        let name = config.node.clone().unwrap_or_else(session::host);
        let node = session.register(&database, &name).await?;
        let failed = |error| database.failed(error);
        session::clear(session.client(), &node).await.map_err(failed)?;
        let carried_since = Mutex::new(adopting::carried_since(session.client()).await.map_err(failed)?);
        let last_id = session::last_id(session.client()).await.map_err(failed)?;
        let shared = Arc::new(SharedStore::new(database, node, config, now));
        shared.begin_ids_after(last_id);
        session.heartbeat(&shared).await.map_err(|error| shared.database.failed(error))?;
        shared.counts.count(session.client()).await.map_err(|error| shared.database.failed(error))?;
        let waiting = shared.counts.now().queued_messages;
        let (arrivals, renewals) = (storing::start(&shared), renewing::start(&shared));
        let returns = returning::start(&shared);
        session::take_over_later(&shared);
        let session = Mutex::new(Some(tokio::spawn(session::keep(Arc::clone(&shared), session))));
        Ok((
            Self { shared, arrivals, renewals, returns, session, folder, carried_since },
            Recovery { waiting, ..Recovery::default() },
        ))
    }

    fn is_time_to_tidy(&self, now: Timestamp) -> bool {
        let last = Timestamp(self.shared.tidied.load(Ordering::Relaxed));
        let is_time = now.since(last).max(last.since(now)) >= TIDY_EVERY;
        if is_time {
            self.shared.tidied.store(now.0, Ordering::Relaxed);
        }
        is_time
    }

    fn tidy(&self, now: Timestamp) {
        let (shared, before) = (Arc::clone(&self.shared), self.shared.history_until(now));
        tokio::spawn(async move {
            // Nobody waits for it, and it is tried again a minute later.
            let _later = shared.prune(before, now).await;
            let _later = shared.sweep().await;
            let _later = findings::prune(&shared).await;
        });
    }
}

/// Makes an empty database a spool, or brings one to the version of this program. Gives what it was.
pub(super) async fn migrate(config: &SpoolConfig) -> Result<SchemaState, SpoolError> {
    migrations::migrate(&Database::new(config)?).await
}

impl Drop for PostgresSpool {
    fn drop(&mut self) {
        self.shared.closing.cancel();
    }
}

#[async_trait]
impl Spool for PostgresSpool {
    fn set_limits(&self, limits: &SpoolConfig) {
        self.shared.set_limits(limits);
    }

    /// The size does not matter: how much room the database has, only the database knows.
    fn admit(&self, _size: u64) -> Result<(), SpoolError> {
        self.shared.running()?;
        self.shared.reached()?;
        if self.shared.database.is_full() { Err(SpoolError::Full) } else { Ok(()) }
    }

    fn begin(&self, now: Timestamp) -> Draft {
        let id = self.shared.next_id(now);
        Draft { id, body: Box::new(RowWriter::new(Arc::clone(&self.shared), id)) }
    }

    async fn enqueue_with(
        &self,
        draft: Draft,
        envelope: Envelope,
        copies: Vec<ContentCopy>,
    ) -> Result<Vec<QueueId>, SpoolError> {
        storing::store(&self.shared, &self.arrivals, draft, envelope, copies).await
    }

    async fn claim_due(&self, now: Timestamp, most: usize) -> Result<Vec<Claim>, SpoolError> {
        self.shared.running()?;
        if self.is_time_to_tidy(now) {
            self.tidy(now);
        }
        self.shared.claim_due(now, most).await
    }

    async fn claim_one(&self, id: QueueId, _now: Timestamp) -> Result<Option<Claim>, SpoolError> {
        self.shared.running()?;
        self.shared.claim_one(id).await
    }

    fn lease(&self) -> Lease {
        Lease::For(self.shared.lease)
    }

    async fn renew(&self, claim: &Claim) -> Result<(), SpoolError> {
        renewing::renew(&self.renewals, claim).await
    }

    async fn bring_forward(&self, now: Timestamp, horizon: Timestamp) -> Result<(), SpoolError> {
        self.shared.bring_forward(now, horizon).await
    }

    async fn next_due(&self) -> Result<Option<Timestamp>, SpoolError> {
        self.shared.next_due().await
    }

    async fn changed(&self) {
        self.shared.changed.notified().await;
    }

    async fn open_body(&self, id: QueueId) -> Result<Box<dyn BodyReader>, SpoolError> {
        Ok(Box::new(RowReader::open(Arc::clone(&self.shared), id).await?))
    }

    async fn settle_part(&self, claim: &mut Claim, settlement: Settlement) -> Result<(), SpoolError> {
        let held = Claim { entry: claim.entry.clone(), generation: claim.generation };
        let recording = Recording::new(&self.shared, held, settlement, Scope::Part, &[])?;
        let recorded = record(&self.shared, vec![recording]).await?;
        if let Some(known) = recorded.into_iter().next() {
            *claim = known;
        }
        Ok(())
    }

    async fn settle(&self, claim: Claim, settlement: Settlement) -> Result<(), SpoolError> {
        let recording = Recording::new(&self.shared, claim, settlement, Scope::Whole, &[])?;
        record(&self.shared, vec![recording]).await.map(drop)
    }

    async fn settle_together(
        &self,
        claim: Claim,
        settlement: Settlement,
        others: Vec<(Claim, Settlement)>,
    ) -> Result<(), SpoolError> {
        let mut recordings = vec![Recording::new(&self.shared, claim, settlement, Scope::Whole, &[])?];
        for (claim, settlement) in others {
            let reports = recordings.first().map(Recording::reports).unwrap_or_default();
            let beside = Recording::new(&self.shared, claim, settlement, Scope::Whole, reports)?;
            recordings.push(beside);
        }
        record(&self.shared, recordings).await.map(drop)
    }

    async fn release(&self, claim: Claim) -> Result<(), SpoolError> {
        returning::give_back(&self.returns, self.shared.returned(&claim, None)).await
    }

    async fn pass_on(&self, claim: Claim) -> Result<(), SpoolError> {
        self.shared.pass_on(&claim).await
    }

    async fn postpone(&self, claim: Claim, until: Timestamp) -> Result<(), SpoolError> {
        returning::give_back(&self.returns, self.shared.returned(&claim, Some(until))).await
    }

    async fn hasten(&self, messages: &[(QueueId, Timestamp)], now: Timestamp) -> Result<(), SpoolError> {
        self.shared.hasten(messages, now).await
    }

    async fn record_incident(&self, incident: &Incident) -> Result<(), SpoolError> {
        self.shared.running()?;
        let (id, incident) = (bigint(incident.id.0), json(incident)?);
        let most = i64::try_from(MOST_INCIDENTS).unwrap_or(i64::MAX);
        let client = self.shared.database.client().await?;
        let failed = |error| self.shared.database.failed(error);
        let keep = "INSERT INTO incidents (id, incident) VALUES ($1, $2)
                    ON CONFLICT (id) DO UPDATE SET incident = excluded.incident";
        client.execute(keep, &[&id, &incident]).await.map_err(failed)?;
        let forget = "DELETE FROM incidents WHERE id < (SELECT min(id) FROM
                      (SELECT id FROM incidents ORDER BY id DESC LIMIT $1) newest)";
        client.execute(forget, &[&most]).await.map(drop).map_err(failed)
    }

    async fn claim_tls_report(&self, due: &DueTlsReport) -> Result<bool, SpoolError> {
        self.shared.running()?;
        tls_reports::claim(&self.shared, due).await
    }

    async fn record_tls_report(
        &self,
        report: &TlsReportId,
        state: &TlsReportState,
        mails: Vec<Report>,
    ) -> Result<(), SpoolError> {
        self.shared.running()?;
        tls_reports::record(&self.shared, report, state, mails).await
    }

    fn full_disk(&self, now: Timestamp) -> Option<FullDisk> {
        self.shared.database.full_disk(now)
    }

    fn away(&self, now: Timestamp) -> Option<AwayStore> {
        self.shared.database.away_since(now)
    }

    async fn shared_state(&self, name: &str) -> Result<Option<ClusterState>, SpoolError> {
        self.shared.running()?;
        states::read(&self.shared.database, name).await
    }

    async fn share_state(&self, name: &str, value: &[u8], over: Option<i64>) -> Result<(), SpoolError> {
        self.shared.running()?;
        states::replace(&self.shared.database, name, value, over).await
    }

    async fn tell_findings(&self, findings: &[Finding]) -> Result<(), SpoolError> {
        self.shared.running()?;
        self.shared.reached()?;
        findings::tell(&self.shared, findings).await
    }

    async fn hear_findings(&self, since: FindingMark) -> Result<Option<HeardFindings>, SpoolError> {
        self.shared.running()?;
        self.shared.reached()?;
        findings::hear(&self.shared, since).await
    }

    fn share(&self) -> NodeShare {
        self.shared.share()
    }

    fn unwritten(&self) -> Unwritten {
        self.shared.unwritten()
    }

    fn stats(&self) -> SpoolStats {
        self.shared.counts.now()
    }

    async fn history(&self, id: QueueId) -> Result<Vec<(Timestamp, Event)>, SpoolError> {
        let client = self.shared.database.client().await?;
        let history = "SELECT at, event FROM history WHERE message = $1 ORDER BY number";
        let rows = client.query(history, &[&number(id)]).await.map_err(|error| self.shared.database.failed(error))?;
        Ok(rows.iter().map(|row| (Timestamp(row.get(0)), Event::from_json(row.get(1)))).collect())
    }

    async fn failed(&self) -> String {
        let mut failure = self.shared.failure();
        match failure.wait_for(Option::is_some).await.map(|reason| reason.clone()) {
            Ok(reason) => reason.unwrap_or_default(),
            Err(_) => std::future::pending().await,
        }
    }

    async fn close(&self) {
        self.shared.closing.cancel();
        let session = self.session.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(session) = session {
            let _ended_or_not = tokio::time::timeout(CLOSE_PATIENCE, session).await;
        }
        self.shared.database.close();
        drop(self.folder.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
