//! Mail carried from one spool to another, whatever keeps either (`relay spool move`).
//!
//! Everything is carried: what waits with its content, what is held, whom a report is owed, and the history. The old
//! spool is marked before the first message goes, and no relay works on it from then on: mail is never in two queues
//! that both send it. What was interrupted is gone on with, and at the end both spools are compared, content and all.

use super::event::Event;
use super::ledger::{Ledger, LedgerError, LedgerMessage};
use super::tls_session::{ReportDay, TlsCount, TlsReportRow};
use super::{BodyReader, MOST_INCIDENTS, Spool, SpoolError};
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use async_trait::async_trait;
use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
use serde::Serialize;

/// Messages that are read at once.
const PAGE: usize = 200;
/// Messages that are carried at the same time: those that wait for a sync of the disk share it.
const AT_ONCE: usize = 32;
/// Reports on TLS that are read of one day.
const MOST_DOMAINS: usize = 1_000_000;

/// A message as it is carried, without its content.
#[derive(Clone, Debug)]
pub struct CarriedMessage {
    /// The message.
    pub message: LedgerMessage,
    /// What happened to it, oldest first.
    pub history: Vec<(Timestamp, Event)>,
}

/// What became of a message at its new place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Adoption {
    /// It is there now.
    New,
    /// It was there, whole.
    Known,
}

/// A spool that mail can be carried from and to, with no relay at work on it.
#[async_trait]
pub trait CarryingSpool: Spool {
    /// Since when its mail belongs to another spool; no relay works on it then.
    fn carried_since(&self) -> Option<Timestamp>;

    /// Keeps since when its mail belongs to another spool, or that it does not. `Ok` means durable.
    ///
    /// # Errors
    /// When it cannot be recorded.
    async fn set_carried_since(&self, since: Option<Timestamp>) -> Result<(), SpoolError>;

    /// Stores a message under its own id, with all that is known of it; with its content where something is still to
    /// be done for it. `Ok` means durable. What is there, whole, stays as it is.
    ///
    /// # Errors
    /// When it cannot be stored, or the content is damaged.
    async fn adopt(
        &self,
        carried: CarriedMessage,
        content: Option<Box<dyn BodyReader>>,
    ) -> Result<Adoption, SpoolError>;

    /// Stores what was counted of one domain and day for the reports on TLS, and how its report stands. What is there
    /// of them stays.
    ///
    /// # Errors
    /// When it cannot be stored.
    async fn adopt_counts(&self, report: &TlsReportRow, counts: Vec<TlsCount>) -> Result<(), SpoolError>;

    /// Keeps that history from before this moment may be missing.
    ///
    /// # Errors
    /// When it cannot be recorded.
    async fn adopt_horizon(&self, complete_since: Timestamp) -> Result<(), SpoolError>;
}

/// One side of a move.
pub struct CarryingSide<'a> {
    /// The spool.
    pub spool: &'a dyn CarryingSpool,
    /// What it knows.
    pub ledger: &'a dyn Ledger,
}

/// Why mail is not carried on; what was begun can be gone on with.
#[derive(Debug, thiserror::Error)]
pub enum CarryError {
    /// What is to be carried cannot be read.
    #[error("the old spool cannot be read: {0}")]
    Read(#[source] LedgerError),
    /// What was carried cannot be read back.
    #[error("the new spool cannot be read: {0}")]
    ReadBack(#[source] LedgerError),
    /// The old spool cannot be marked.
    #[error("the old spool cannot be marked: {0}")]
    Mark(#[source] SpoolError),
    /// A message cannot be stored.
    #[error("{0} cannot be stored in the new spool: {1}")]
    Store(QueueId, #[source] SpoolError),
    /// Something that is no message cannot be stored.
    #[error("the new spool cannot be written: {0}")]
    Write(#[source] SpoolError),
}

/// What was carried, and what the comparison of both sides has found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CarryReport {
    /// Messages of the old spool, finished ones among them.
    pub messages: u64,
    /// Those of them for which something is still to be done.
    pub waiting: u64,
    /// Octets of their content.
    pub octets: u64,
    /// Messages that an earlier run had carried.
    pub known: u64,
    /// Messages whose record or content cannot be read in the old spool; they stay there alone.
    pub damaged: Vec<QueueId>,
    /// Messages that are not the same on both sides.
    pub differing: Vec<QueueId>,
}

impl CarryReport {
    /// Whether all mail is at its new place, and was found there as it was.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.damaged.is_empty() && self.differing.is_empty()
    }

    fn add(&mut self, one: CarriedOne) {
        let CarriedOne { id, open, octets, end } = one;
        self.messages += 1;
        self.waiting += u64::from(open);
        self.octets += octets;
        match end {
            CarriedEnd::Stored(Adoption::New) => {}
            CarriedEnd::Stored(Adoption::Known) => self.known += 1,
            CarriedEnd::Damaged => self.damaged.push(id),
        }
    }
}

struct CarriedOne {
    id: QueueId,
    open: bool,
    octets: u64,
    end: CarriedEnd,
}

enum CarriedEnd {
    Stored(Adoption),
    Damaged,
}

/// Carries everything from one side to the other and compares the two. `told` hears how many messages are behind it.
///
/// # Errors
/// When a side fails. The old spool stays marked: no relay works on it before this was run to its end, or given up.
pub async fn carry(
    from: &CarryingSide<'_>,
    to: &CarryingSide<'_>,
    now: Timestamp,
    mut told: impl FnMut(u64),
) -> Result<CarryReport, CarryError> {
    if from.spool.carried_since().is_none() {
        from.spool.set_carried_since(Some(now)).await.map_err(CarryError::Mark)?;
    }
    carry_what_is_no_message(from, to).await?;
    let (mut report, mut after) = (CarryReport::default(), None);
    loop {
        let page = from.ledger.page(after, PAGE).await.map_err(CarryError::Read)?;
        let Some(last) = page.last() else { break };
        after = Some(id_of(last));
        let carried: Vec<CarriedOne> =
            stream::iter(page).map(|line| carry_one(from, to, line)).buffer_unordered(AT_ONCE).try_collect().await?;
        carried.into_iter().for_each(|one| report.add(one));
        told(report.messages);
    }
    report.differing = differing(from, to, &report.damaged).await?;
    report.damaged.sort_unstable();
    Ok(report)
}

fn id_of(line: &Result<LedgerMessage, QueueId>) -> QueueId {
    match line {
        Ok(message) => message.id,
        Err(id) => *id,
    }
}

async fn carry_what_is_no_message(from: &CarryingSide<'_>, to: &CarryingSide<'_>) -> Result<(), CarryError> {
    let incidents = from.ledger.incidents(MOST_INCIDENTS).await.map_err(CarryError::Read)?;
    for incident in incidents.iter().rev() {
        to.spool.record_incident(incident).await.map_err(CarryError::Write)?;
    }
    if let Some(since) = from.ledger.complete_since().await.map_err(CarryError::Read)? {
        to.spool.adopt_horizon(since).await.map_err(CarryError::Write)?;
    }
    let (first, last) = (ReportDay(i64::MIN), ReportDay(i64::MAX));
    for row in from.ledger.tls_reports(first, last, MOST_DOMAINS).await.map_err(CarryError::Read)? {
        let counts = from.ledger.tls_counts(&row.id).await.map_err(CarryError::Read)?;
        to.spool.adopt_counts(&row, counts).await.map_err(CarryError::Write)?;
    }
    Ok(())
}

async fn carry_one(
    from: &CarryingSide<'_>,
    to: &CarryingSide<'_>,
    line: Result<LedgerMessage, QueueId>,
) -> Result<CarriedOne, CarryError> {
    let damaged = |id, open| CarriedOne { id, open, octets: 0, end: CarriedEnd::Damaged };
    let message = match line {
        Ok(message) => message,
        Err(id) => return Ok(damaged(id, false)),
    };
    let (id, open) = (message.id, message.finished_at.is_none());
    let octets = if open { message.size } else { 0 };
    let content = match open {
        true => match from.spool.open_body(id).await {
            Ok(content) => Some(content),
            Err(SpoolError::Damaged) => return Ok(damaged(id, open)),
            Err(error) => return Err(CarryError::Store(id, error)),
        },
        false => None,
    };
    let history = from.ledger.history(id).await.map_err(CarryError::Read)?;
    match to.spool.adopt(CarriedMessage { message, history }, content).await {
        Ok(adoption) => Ok(CarriedOne { id, open, octets, end: CarriedEnd::Stored(adoption) }),
        Err(SpoolError::Damaged) => Ok(damaged(id, open)),
        Err(error) => Err(CarryError::Store(id, error)),
    }
}

/// The messages of the old side that are not as they were on the new one.
async fn differing(
    from: &CarryingSide<'_>,
    to: &CarryingSide<'_>,
    damaged: &[QueueId],
) -> Result<Vec<QueueId>, CarryError> {
    let (mut differing, mut after) = (Vec::new(), None);
    loop {
        let page = from.ledger.page(after, PAGE).await.map_err(CarryError::Read)?;
        let Some(last) = page.last() else { break };
        after = Some(id_of(last));
        let readable = page.into_iter().flatten().filter(|message| !damaged.contains(&message.id));
        for message in readable {
            if !is_as_it_was(from, to, &message).await? {
                differing.push(message.id);
            }
        }
    }
    Ok(differing)
}

async fn is_as_it_was(
    from: &CarryingSide<'_>,
    to: &CarryingSide<'_>,
    message: &LedgerMessage,
) -> Result<bool, CarryError> {
    let Some(there) = to.ledger.message(message.id).await.map_err(CarryError::ReadBack)? else { return Ok(false) };
    let before = from.ledger.history(message.id).await.map_err(CarryError::Read)?;
    let after = to.ledger.history(message.id).await.map_err(CarryError::ReadBack)?;
    // A relay that was started on the new side before the end has gone on with it.
    if after.len() > before.len() {
        return Ok(true);
    }
    Ok(before == after && told_of(message) == told_of(&there) && has_its_content(to.spool, &there).await)
}

/// All that both sides must say alike. When a message is due is not among it: each side has a clock of its own.
fn told_of(message: &LedgerMessage) -> Option<String> {
    let due_at = Timestamp(0);
    let alike = LedgerMessage { due_at, ..message.clone() };
    Some(serde_json::to_string(&alike).ok()? + &serde_json::to_string(&alike.reported).ok()?)
}

/// Reads all of it: its checksum is known at the end alone.
async fn has_its_content(spool: &dyn CarryingSpool, message: &LedgerMessage) -> bool {
    if message.finished_at.is_some() {
        return true;
    }
    let Ok(mut content) = spool.open_body(message.id).await else { return false };
    let mut octets = 0;
    loop {
        match content.next().await {
            Ok(Some(piece)) => octets += piece.len() as u64,
            Ok(None) => return octets == message.size,
            Err(_) => return false,
        }
    }
}
