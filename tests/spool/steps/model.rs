//! What was said to the spool and by it, and what must be there after a crash.
//!
//! A message goes through stages. What was acknowledged is sure; what was asked for and not
//! answered may have happened or not, but wholly.

use super::disk::{self, Files};
use bytes::Bytes;
use dane_relay::clock::Timestamp;
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::{Origin, QueueId};
use dane_relay::spool::audit::Depth;
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::embedded::audit::Auditor;
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::ledger::{Listed, MessageState};
use dane_relay::spool::tls_session::ReportDay;
use dane_relay::spool::{RecipientState, Recovery, Spool};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::time::Duration;

/// Ends with a fault unless something holds.
macro_rules! ensure {
    ($holds:expr, $fault:expr) => {
        if !$holds {
            return Err($fault);
        }
    };
}

/// How long finished messages are kept.
pub(crate) const KEEP_HISTORY: Duration = Duration::from_secs(86_400);

/// How a message may stand.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Stage {
    /// The spool does not know it: not yet, or because it was pruned.
    Absent,
    /// The spool knows it.
    There {
        recipients: Vec<RecipientState>,
        standing: MessageState,
        due_at: Timestamp,
        /// Reports that exist because of it.
        reports: usize,
        /// Tries to speak TLS that were counted with its settlements.
        sessions: u64,
    },
}

#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) content: Bytes,
    /// The message that it reports about.
    pub(crate) about: Option<QueueId>,
    /// As it was, is, and perhaps is.
    stages: Vec<Stage>,
    /// The last one that was acknowledged.
    sure: usize,
}

impl Message {
    /// How it is once all has happened that was asked for.
    pub(crate) fn last(&self) -> &Stage {
        self.stages.last().unwrap()
    }
}

/// What the spool may do to what is finished.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Memory {
    /// Nothing: it stays finished.
    Kept,
    /// The state database is lost: it may come back, as it was accepted.
    Lost,
}

/// All of it.
#[derive(Clone, Debug)]
pub(crate) struct Knowledge {
    pub(crate) messages: BTreeMap<QueueId, Message>,
    pub(crate) now: Timestamp,
    /// How often it has changed.
    pub(crate) version: u32,
}

impl Knowledge {
    /// Nothing yet.
    pub(crate) fn at(now: Timestamp) -> Self {
        Self { messages: BTreeMap::new(), now, version: 0 }
    }

    /// A message is handed in, or a report has come up.
    pub(crate) fn meet(&mut self, id: QueueId, content: Bytes, about: Option<QueueId>) {
        self.version += 1;
        let known = self.messages.insert(id, Message { content, about, stages: vec![Stage::Absent], sure: 0 });
        assert!(known.is_none(), "{id} was given out twice");
    }

    /// Something is asked for.
    pub(crate) fn ask(&mut self, id: QueueId, stage: Stage) {
        self.version += 1;
        self.messages.get_mut(&id).unwrap().stages.push(stage);
    }

    /// It was acknowledged.
    pub(crate) fn answered(&mut self, id: QueueId) {
        self.version += 1;
        let message = self.messages.get_mut(&id).unwrap();
        message.sure = message.stages.len() - 1;
    }

    /// Holds a copy of the spool to all of it.
    pub(crate) fn check(&self, files: &Files, memory: Memory) -> Result<Recovery, String> {
        let folder = tempfile::TempDir::new().unwrap();
        let path = folder.path().join("spool");
        disk::write(&path, files);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let spool = EmbeddedSpool::open(&config(&path), self.now).map_err(|e| format!("it does not open: {e}"))?;
            let recovery = spool.recovery().clone();
            let checked = self.check_spool(&spool, &path, memory).await;
            spool.close().await;
            checked.map(|()| recovery)
        })
    }

    async fn check_spool(&self, spool: &EmbeddedSpool, path: &Path, memory: Memory) -> Result<(), String> {
        let ledger = StateReader::open(path).unwrap();
        let seen: BTreeMap<QueueId, Stage> = self.messages.keys().map(|id| (*id, stage_of(&ledger, *id))).collect();
        let waiting = waiting(&ledger);
        for (id, message) in &self.messages {
            message.check(*id, &seen[id], memory)?;
            if waiting.contains_key(id) {
                let claim = spool.claim_one(*id, self.now).await.unwrap();
                ensure!(claim.is_some(), format!("{id} waits and cannot be claimed"));
                let octets = content(spool, *id).await.map_err(|e| format!("{id}: {e}"))?;
                ensure!(octets == message.content, format!("{id}: other octets"));
            }
        }
        for (id, origin) in &waiting {
            let known = match origin {
                Origin::Report { about } => self.messages.contains_key(about),
                Origin::Client(_) | Origin::TlsReport { .. } | Origin::Copy { .. } => self.messages.contains_key(id),
            };
            ensure!(known, format!("{id} waits, and nobody handed it in"));
        }
        if memory == Memory::Kept {
            self.check_reports(&seen, &waiting)?;
        }
        let audit = Auditor::open(path, Depth::Everything).unwrap().finish().unwrap();
        ensure!(audit.findings.is_empty(), format!("the audit finds {:?}", audit.findings));
        let given = self.messages.iter().filter(|(_, message)| message.about.is_none() && message.sure > 0);
        let newest = given.map(|(id, _)| *id).max();
        let next = spool.begin(self.now).id;
        ensure!(newest.is_none_or(|newest| newest < next), format!("{next} comes after {newest:?}"));
        Ok(())
    }

    /// A failure and its report are both there or both not; and no report is there twice.
    fn check_reports(
        &self,
        seen: &BTreeMap<QueueId, Stage>,
        waiting: &BTreeMap<QueueId, Origin>,
    ) -> Result<(), String> {
        let told_of = |id: &QueueId, origin: &Origin| match origin {
            Origin::Report { about } => Some((*about, *id)),
            Origin::Client(_) | Origin::TlsReport { .. } | Origin::Copy { .. } => None,
        };
        let mut reports: BTreeSet<_> = waiting.iter().filter_map(|(id, origin)| told_of(id, origin)).collect();
        reports.extend(self.messages.iter().filter_map(|(id, message)| message.about.map(|about| (about, *id))));
        for (id, stage) in seen {
            if let Some(expected) = self.messages[id].reports_at(stage) {
                let found = reports.range((*id, QueueId(0))..=(*id, QueueId(u64::MAX))).count();
                ensure!(found == expected, format!("{id}: {found} reports instead of {expected}"));
            }
        }
        Ok(())
    }
}

impl Message {
    fn check(&self, id: QueueId, seen: &Stage, memory: Memory) -> Result<(), String> {
        let possible = match memory {
            Memory::Kept => &self.stages[self.sure..],
            Memory::Lost => &self.stages[..],
        };
        let waits =
            |stage: &Stage| matches!(stage, Stage::There { standing: MessageState::Queued | MessageState::Held, .. });
        // The content of what is finished goes; a database without memory cannot say why.
        let lost = memory == Memory::Lost && *seen == Stage::Absent && self.stages[self.sure..].iter().all(waits);
        // What was counted is in the database alone.
        let counts_fit = |stage: &Stage| memory == Memory::Lost || stage.sessions() == seen.sessions();
        let fits = possible.iter().any(|stage| stage.looks_like(seen) && counts_fit(stage));
        ensure!(fits && !lost, format!("{id} is {seen:?} and not one of {possible:?}"));
        Ok(())
    }

    /// The reports that belong to the stage that was seen.
    fn reports_at(&self, seen: &Stage) -> Option<usize> {
        let of = |stage: &Stage| match stage {
            Stage::There { reports, .. } if stage.looks_like(seen) => Some(*reports),
            Stage::There { .. } | Stage::Absent => None,
        };
        self.stages[self.sure..].iter().find_map(of)
    }
}

impl Stage {
    fn sessions(&self) -> u64 {
        match self {
            Self::Absent => 0,
            Self::There { sessions, .. } => *sessions,
        }
    }

    /// What the database does not say is not compared.
    fn looks_like(&self, seen: &Self) -> bool {
        match (self, seen) {
            (Self::Absent, Self::Absent) => true,
            (
                Self::There { recipients, standing, due_at, .. },
                Self::There { recipients: r, standing: s, due_at: d, .. },
            ) => recipients == r && standing == s && (*standing == MessageState::Finished || due_at == d),
            (Self::Absent, Self::There { .. }) | (Self::There { .. }, Self::Absent) => false,
        }
    }
}

pub(crate) fn config(path: &Path) -> SpoolConfig {
    SpoolConfig {
        path: path.to_owned(),
        min_free_bytes: 0,
        min_free_inodes: 0,
        keep_history: KEEP_HISTORY,
        max_history_bytes: u64::MAX,
        ..SpoolConfig::default()
    }
}

fn stage_of(ledger: &StateReader, id: QueueId) -> Stage {
    let Some(message) = ledger.message(id).unwrap() else { return Stage::Absent };
    let recipients = message.recipients.into_iter().map(|recipient| recipient.unwrap().state).collect();
    let sessions = sessions(ledger, id);
    Stage::There { recipients, standing: message.standing, due_at: message.due_at, reports: 0, sessions }
}

/// Every message counts for a domain of its own.
pub(crate) fn domain_of(id: QueueId) -> String {
    format!("{id}.example").to_ascii_lowercase()
}

fn sessions(ledger: &StateReader, id: QueueId) -> u64 {
    let rows = ledger.tls_reports(ReportDay(0), ReportDay(i64::MAX), usize::MAX).unwrap();
    rows.iter().filter(|row| row.id.domain == domain_of(id)).map(|row| row.succeeded + row.failed).sum()
}

fn waiting(ledger: &StateReader) -> BTreeMap<QueueId, Origin> {
    let mut waiting = BTreeMap::new();
    let each = |listed: Listed| {
        if let Listed::Message(message) = listed {
            waiting.insert(message.id, message.envelope.origin);
        }
        ControlFlow::Continue(())
    };
    ledger.for_each_waiting(each).unwrap();
    waiting
}

pub(crate) async fn content(spool: &EmbeddedSpool, id: QueueId) -> Result<Vec<u8>, String> {
    let mut reader = spool.open_body(id).await.map_err(|e| e.to_string())?;
    let mut octets = Vec::new();
    while let Some(piece) = reader.next().await.map_err(|e| e.to_string())? {
        octets.extend_from_slice(&piece);
    }
    Ok(octets)
}
