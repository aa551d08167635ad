//! Compaction: what is still alive in an old segment is copied forward, so that a few messages
//! that wait for days do not hold gigabytes.
//!
//! ```text
//! state writer: reads a bite ──► log writer: appends and syncs it ──► state writer: one
//! transaction names the new places ──► the old segment, once nothing in it is alive, is removed
//! ```
//! Guarantee (RFC 5321 §6.1): at every moment the place that the database names holds the record;
//! a copy that a crash left without its transaction is known by its kind and counts for nothing.
//! Envelope and content stay as they are, checksums included.

use super::index::Place;
use super::log::LogJob;
use super::shared::Shared;
use super::state::State;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::SpoolError;
use crate::spool::record::{NewRecord, Standing};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::mpsc::Sender;
use std::time::Duration;

/// A segment is sparse when less than one part in so many of it is alive: what is copied is then
/// a third at most of what is freed.
pub(super) const SPARSE: u64 = 4;

/// How long a segment is sparse before it is touched. Most mail is gone after seconds, and what
/// goes by itself is not worth a copy.
const PATIENCE: Duration = Duration::from_secs(300);

/// After a copy that found no room.
const REST: Duration = Duration::from_secs(60);

/// Records and octets in one bite: acceptance waits for it, for some milliseconds.
const BITE_RECORDS: u32 = 200;
const BITE_OCTETS: u64 = 1024 * 1024;

/// A record to be copied.
pub(super) struct Moving {
    pub(super) id: QueueId,
    pub(super) from: Place,
    pub(super) record: NewRecord,
}

/// A record whose copy is durable.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moved {
    pub(super) id: QueueId,
    pub(super) from: Place,
    pub(super) to: Place,
}

/// What the state writer knows of compaction.
pub(super) struct Forwarding {
    log: Sender<LogJob>,
    /// One bite at a time.
    under_way: bool,
    /// Since when a segment is sparse.
    sparse: BTreeMap<u32, Timestamp>,
    /// They hold a record that cannot be read, and stay until that message has its end.
    left_alone: BTreeSet<u32>,
    refused_at: Option<Timestamp>,
}

impl Forwarding {
    pub(super) const fn new(log: Sender<LogJob>) -> Self {
        Self { log, under_way: false, sparse: BTreeMap::new(), left_alone: BTreeSet::new(), refused_at: None }
    }

    /// Sends the next bite to the log writer, if there is one. True when it did.
    pub(super) fn begin(&mut self, shared: &Shared, state: &State) -> rusqlite::Result<bool> {
        let now = shared.latest_time();
        if self.under_way || shared.is_stopped() || shared.is_closing() {
            return Ok(false);
        }
        if self.refused_at.is_some_and(|refused_at| between(refused_at, now) < REST) {
            return Ok(false);
        }
        let Some(segment) = self.ripe(&shared.sparse_segments(), now) else { return Ok(false) };
        let bite = self.bite(shared, state, segment)?;
        self.under_way = !bite.is_empty() && self.log.send(LogJob::Forward(bite)).is_ok();
        Ok(self.under_way)
    }

    /// The log writer has answered: with nothing, when there was no room.
    pub(super) fn answered(&mut self, moved: &[Moved], now: Timestamp) {
        self.under_way = false;
        self.refused_at = moved.is_empty().then_some(now);
    }

    /// A segment that has been sparse for long enough.
    fn ripe(&mut self, sparse: &BTreeSet<u32>, now: Timestamp) -> Option<u32> {
        self.sparse.retain(|segment, _| sparse.contains(segment));
        for segment in sparse {
            self.sparse.entry(*segment).or_insert(now);
        }
        let ripe = |(segment, since): &(&u32, &Timestamp)| {
            !self.left_alone.contains(*segment) && between(**since, now) >= PATIENCE
        };
        self.sparse.iter().find(ripe).map(|(segment, _)| *segment)
    }

    /// Reads what is alive at the beginning of a segment.
    fn bite(&mut self, shared: &Shared, state: &State, segment: u32) -> rusqlite::Result<Vec<Moving>> {
        let mut bite = Vec::new();
        let mut octets = 0;
        for (id, from) in state.living(segment, BITE_RECORDS)? {
            if octets >= BITE_OCTETS {
                break;
            }
            octets += from.length;
            match copy(shared, id, from) {
                Ok(record) => bite.push(Moving { id, from, record }),
                Err(_counted_already) => {
                    self.left_alone.insert(segment);
                }
            }
        }
        Ok(bite)
    }
}

fn copy(shared: &Shared, id: QueueId, from: Place) -> Result<NewRecord, SpoolError> {
    let stored = shared.read_record(id, from)?;
    NewRecord::new(id, stored.envelope, stored.content, Standing::Forwarded).map_err(|_| SpoolError::Damaged)
}

/// A clock that was set back counts as one that went on.
fn between(one: Timestamp, other: Timestamp) -> Duration {
    one.since(other).max(other.since(one))
}
