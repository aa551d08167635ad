//! What is measured of the spool: the queue, the disk, and the sum that must hold.

use super::{Register, clamp};
use crate::clock::Timestamp;
use crate::spool::audit::AuditFinding;
use crate::spool::room::{AwayStore, DiskLack, FullDisk};
use crate::spool::{Recovery, SpoolStats, Unwritten};
use prometheus::{Error, IntGauge, IntGaugeVec};
use std::sync::{Mutex, PoisonError};

/// Messages that one audit names in the log; `relay audit` names all.
const FINDINGS_LOGGED: usize = 20;

pub(super) struct StoreMetrics {
    queue_messages: IntGauge,
    queue_held: IntGauge,
    queue_oldest: IntGauge,
    spool_bytes: IntGauge,
    damaged: IntGauge,
    unaccounted: IntGauge,
    disk_full: IntGaugeVec,
    disk: Mutex<Option<FullDisk>>,
    unreachable: IntGauge,
    away: Mutex<Option<AwayStore>>,
}

impl StoreMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            queue_messages: r.gauge("relay_queue_messages", "Messages that wait for at least one recipient.")?,
            queue_held: r.gauge("relay_queue_held_messages", "Messages that the operator holds: they wait and do not expire.")?,
            queue_oldest: r.gauge("relay_queue_oldest_seconds", "Age of the message that waits longest and is not held.")?,
            spool_bytes: r.gauge("relay_spool_bytes", "Octets in segments and content files.")?,
            damaged: r.gauge("relay_spool_damaged_records", "Damaged records met since the start.")?,
            unaccounted: r.gauge(
                "relay_recipients_unaccounted",
                "Accepted recipients that are neither delivered nor reported (where a report is due) nor removed nor waiting; must be 0.",
            )?,
            disk_full: r.gauges(
                "relay_spool_disk_full",
                "1 while the disk of the spool has no room for new mail, by what it lacks: blocks, inodes, or the floor of free space.",
                &["reason"],
            )?,
            disk: Mutex::default(),
            unreachable: r.gauge(
                "relay_spool_unreachable",
                "1 while the database of the spool cannot be used: new mail is told 451 4.3.0, and nothing is lost.",
            )?,
            away: Mutex::default(),
        })
    }

    pub(super) fn set(&self, stats: &SpoolStats, now: Timestamp) {
        self.queue_messages.set(clamp(stats.queued_messages));
        self.queue_held.set(clamp(stats.held_messages));
        self.queue_oldest.set(stats.oldest.map_or(0, |oldest| clamp(now.since(oldest).as_secs())));
        self.spool_bytes.set(clamp(stats.bytes));
        self.damaged.set(clamp(stats.damaged_records));
    }

    /// How the disk stands now; a change is told, both ways.
    pub(super) fn disk(&self, now: Option<FullDisk>) {
        for lack in DiskLack::ALL {
            let is_it = now.is_some_and(|full| full.lacks == lack);
            self.disk_full.with_label_values(&[lack.word()]).set(i64::from(is_it));
        }
        let mut known = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *known, now);
        match (before, now) {
            (before, Some(full)) if before != now => {
                tracing::error!(reason = full.lacks.word(), "{full}");
            }
            (Some(before), None) => {
                tracing::info!(since = %before.since.to_second(), "the disk of the spool has room again");
            }
            _ => {}
        }
    }

    /// Whether the database of the spool can be used; a change is told, both ways.
    pub(super) fn away(&self, now: Option<AwayStore>) {
        self.unreachable.set(i64::from(now.is_some()));
        let mut known = self.away.lock().unwrap_or_else(PoisonError::into_inner);
        match (known.as_ref(), now.as_ref()) {
            (None, Some(away)) => tracing::error!(why = %away.why, "{away}"),
            (Some(before), None) => {
                tracing::info!(since = %before.since.to_second(), "the database of the spool can be used again");
            }
            (Some(_), Some(_)) | (None, None) => {}
        }
        *known = now;
    }

    /// `counted` may be more than what the findings name.
    pub(super) fn audited(&self, findings: &[AuditFinding], counted: u64) {
        let named = findings.iter().map(|finding| finding.recipients).sum::<u64>();
        self.unaccounted.set(clamp(named.max(counted)));
        for finding in findings.iter().take(FINDINGS_LOGGED) {
            let AuditFinding { id, fault, recipients, .. } = finding;
            tracing::error!(%id, recipients, fault = fault.words(), "unaccounted; run `relay audit`");
        }
    }
}

/// The spool is open, with what it found.
pub(super) fn opened(recovery: &Recovery) {
    let Recovery { waiting, caught_up, discarded_reports, discarded_copies, damaged_records, torn_tails, .. } =
        recovery;
    tracing::info!(waiting, caught_up, discarded_reports, discarded_copies, torn_tails, "spool opened");
    if *damaged_records > 0 {
        tracing::error!(damaged_records, "damaged records; their octets are in the spool under damaged/");
    }
    if recovery.rebuilt > 0 && recovery.state_moved_to.is_none() {
        tracing::error!(
            messages = recovery.rebuilt,
            "the state database was gone and has been rebuilt from the messages; what it knew beyond them is gone, too"
        );
    }
    if let Some(moved_to) = &recovery.state_moved_to {
        tracing::error!(
            moved_to = %moved_to.display(),
            "the state database was damaged and has been rebuilt from the messages; what it knew beyond them is gone: the \
             story of messages that had ended, and incidents. One that goes on opens again by itself"
        );
    }
}

/// What a stop leaves to the next start. Nothing of it is lost: nobody was told 250 for such a message, and a delivery
/// without a record may be made again.
pub(super) fn left_undone(deliveries: usize, unwritten: Unwritten) {
    let Unwritten { messages, outcomes } = unwritten;
    if deliveries > 0 || messages > 0 || outcomes > 0 {
        tracing::error!(
            deliveries_under_way = deliveries,
            outcomes_not_recorded = outcomes,
            commits_not_answered = messages,
            "the stop leaves work undone; the next start tries those recipients again"
        );
    }
}
