//! How full the spool is, by what is known here: counted in the database now and then, and kept up with what this
//! relay does in between.

use super::numbers::unsigned;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::SpoolStats;
use std::collections::BTreeSet;
use std::sync::{Mutex, MutexGuard, PoisonError};
use tokio_postgres::{Client, Error};

/// Counts in a row that are left out because something changed meanwhile.
const MOST_LEFT_OUT: u32 = 5;

/// Damaged messages that are remembered by their name.
const MOST_DAMAGED: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Counts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    queued: i64,
    held: i64,
    bytes: u64,
    oldest: Option<Timestamp>,
    damaged: BTreeSet<QueueId>,
    changes: u64,
    left_out: u32,
}

impl Counts {
    fn counted(&self) -> MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Messages came in.
    pub(super) fn came(&self, messages: usize, accepted_at: Timestamp) {
        let mut counted = self.counted();
        counted.queued = counted.queued.saturating_add_unsigned(messages as u64);
        counted.oldest = Some(counted.oldest.map_or(accepted_at, |oldest| oldest.min(accepted_at)));
        counted.changes += 1;
    }

    /// A message was finished.
    pub(super) fn ended(&self) {
        let mut counted = self.counted();
        counted.queued -= 1;
        counted.changes += 1;
    }

    /// The content of a message cannot be read. It is read at every attempt, and counts once.
    pub(super) fn damaged(&self, id: QueueId) {
        let mut counted = self.counted();
        if counted.damaged.len() < MOST_DAMAGED {
            counted.damaged.insert(id);
        }
    }

    /// As it is now, by what is known.
    pub(super) fn now(&self) -> SpoolStats {
        let counted = self.counted();
        let queued_messages = unsigned(counted.queued);
        SpoolStats {
            queued_messages,
            held_messages: unsigned(counted.held),
            bytes: counted.bytes,
            damaged_records: counted.damaged.len() as u64,
            oldest: counted.oldest.filter(|_| queued_messages > 0),
        }
    }

    /// Counts in the database.
    pub(super) async fn count(&self, client: &Client) -> Result<(), Error> {
        let before = self.counted().changes;
        let row = client
            .query_one(
                "SELECT count(*), count(*) FILTER (WHERE held), min(accepted_at) FILTER (WHERE NOT held),
                        (SELECT coalesce(sum(pg_total_relation_size(t::regclass)), 0)::bigint
                         FROM unnest(ARRAY['messages', 'recipients', 'content', 'lookups', 'history', 'tls_sessions',
                                           'tls_policies']) t)
                 FROM messages WHERE finished_at IS NULL",
                &[],
            )
            .await?;
        let mut counted = self.counted();
        counted.bytes = unsigned(row.get(3));
        if counted.changes != before && counted.left_out < MOST_LEFT_OUT {
            counted.left_out += 1;
            return Ok(());
        }
        counted.left_out = 0;
        (counted.queued, counted.held) = (row.get(0), row.get(1));
        counted.oldest = row.get::<_, Option<i64>>(2).map(Timestamp);
        Ok(())
    }
}
