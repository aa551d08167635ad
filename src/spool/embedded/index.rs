//! What the engine keeps in memory of every message that waits: when it is due, who holds it.
//!
//! Pure. A message costs two entries in ordered sets (about 50 octets); only the freshest
//! messages keep their envelope here, so that the way from acceptance to delivery reads no disk.
//! Leases live here alone: one process owns the directory, and a restart ends all of them.

use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::SpoolEntry;
use std::collections::{BTreeMap, BTreeSet};

/// Messages whose envelope stays in memory: a few seconds of acceptance at full speed, and a few
/// megabytes. Others are read from the state database when they are claimed.
const MOST_KEPT_ENTRIES: usize = 2000;

/// Where a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the segment.
    pub(super) segment: u32,
    /// Octets from its start.
    pub(super) offset: u64,
    /// Octets of the record.
    pub(super) length: u64,
    /// Where the content is.
    pub(super) content: ContentPlace,
}

/// Where the content of a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ContentPlace {
    /// In the record.
    Inline,
    /// In a file named after the message.
    OwnFile,
}

/// A message as it waits, with what is needed to deliver it.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// The message.
    pub(super) entry: SpoolEntry,
    /// Its record.
    pub(super) place: Place,
}

/// Who holds a message, and what to put back when the lease ends.
#[derive(Debug)]
struct Lease {
    generation: u64,
    due: Timestamp,
    claimed_at: Timestamp,
    waiting: Option<Waiting>,
}

/// A message taken by [`Index::claim`].
#[derive(Debug)]
pub(super) struct Taken {
    /// Which one.
    pub(super) id: QueueId,
    /// The fencing number of the lease.
    pub(super) generation: u64,
    /// The message, when memory still has it; otherwise it must be read and given to
    /// [`Index::loaded`].
    pub(super) entry: Option<SpoolEntry>,
}

/// All waiting messages.
#[derive(Debug, Default)]
pub(super) struct Index {
    due: BTreeSet<(Timestamp, QueueId)>,
    ages: BTreeSet<(Timestamp, QueueId)>,
    kept: BTreeMap<QueueId, Waiting>,
    leases: BTreeMap<QueueId, Lease>,
    /// Unfinished messages by segment; a segment without any can go.
    living: BTreeMap<u32, u64>,
    generation: u64,
}

impl Index {
    /// A message known from the state database at the start.
    pub(super) fn restore(&mut self, id: QueueId, due: Timestamp, accepted_at: Timestamp, segment: u32) {
        self.due.insert((due, id));
        self.ages.insert((accepted_at, id));
        self.count_record(segment);
    }

    /// A record was appended; its segment must stay until the message is finished.
    pub(super) fn count_record(&mut self, segment: u32) {
        *self.living.entry(segment).or_default() += 1;
    }

    /// A record counted before needs its segment no more.
    pub(super) fn forget_record(&mut self, segment: u32) {
        if let Some(count) = self.living.get_mut(&segment) {
            *count = count.saturating_sub(1);
        }
    }

    /// A new message, whose record is counted already, is due.
    pub(super) fn add(&mut self, waiting: Waiting, due: Timestamp) {
        self.ages.insert((waiting.entry.envelope.accepted_at, waiting.entry.id));
        self.wait(waiting, due);
    }

    /// Takes up to `most` messages due at `now`, the oldest due first.
    pub(super) fn claim(&mut self, now: Timestamp, most: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(&(due, id)) = self.due.first().filter(|(due, _)| *due <= now) else { break };
            self.due.pop_first();
            self.generation += 1;
            let waiting = self.kept.remove(&id);
            let entry = waiting.as_ref().map(|w| w.entry.clone());
            self.leases.insert(id, Lease { generation: self.generation, due, claimed_at: now, waiting });
            taken.push(Taken { id, generation: self.generation, entry });
        }
        taken
    }

    /// A claimed message was read from the state database.
    pub(super) fn loaded(&mut self, waiting: Waiting) {
        if let Some(lease) = self.leases.get_mut(&waiting.entry.id) {
            lease.waiting = Some(waiting);
        }
    }

    /// When the lease began, if `generation` still holds the message.
    pub(super) fn claimed_at(&self, id: QueueId, generation: u64) -> Option<Timestamp> {
        self.leases.get(&id).filter(|lease| lease.generation == generation).map(|lease| lease.claimed_at)
    }

    /// Makes `generation` useless for anyone else, so that it is settled once. Gives the new
    /// fencing number, or `None` when `generation` does not hold the message.
    pub(super) fn begin_settling(&mut self, id: QueueId, generation: u64) -> Option<u64> {
        let lease = self.leases.get_mut(&id).filter(|lease| lease.generation == generation)?;
        self.generation += 1;
        lease.generation = self.generation;
        Some(self.generation)
    }

    /// Ends a lease without a change: the message is due when it was.
    pub(super) fn release(&mut self, id: QueueId, generation: u64) {
        if self.claimed_at(id, generation).is_none() {
            return;
        }
        let Some(lease) = self.leases.remove(&id) else { return };
        match lease.waiting {
            Some(waiting) => self.wait(waiting, lease.due),
            None => {
                self.due.insert((lease.due, id));
            }
        }
    }

    /// Ends a lease: the message waits on until `due`. What is deferred is not kept in memory,
    /// so that a long queue of it does not push out what is fresh.
    pub(super) fn wait_again(&mut self, id: QueueId, due: Timestamp) {
        self.leases.remove(&id);
        self.due.insert((due, id));
    }

    /// Ends a lease and the message. Gives where its record was.
    pub(super) fn finish(&mut self, entry: &SpoolEntry) -> Option<Place> {
        let place = self.leases.remove(&entry.id).and_then(|lease| lease.waiting).map(|waiting| waiting.place)?;
        self.ages.remove(&(entry.envelope.accepted_at, entry.id));
        self.forget_record(place.segment);
        Some(place)
    }

    /// Where the record of a message is, when memory has it.
    pub(super) fn place(&self, id: QueueId) -> Option<Place> {
        let leased = self.leases.get(&id).and_then(|lease| lease.waiting.as_ref());
        leased.or_else(|| self.kept.get(&id)).map(|waiting| waiting.place)
    }

    /// Whether nothing in a segment is alive.
    pub(super) fn is_dead(&self, segment: u32) -> bool {
        self.living.get(&segment).is_none_or(|count| *count == 0)
    }

    /// A segment is gone.
    pub(super) fn drop_segment(&mut self, segment: u32) {
        self.living.remove(&segment);
    }

    /// When the next unclaimed message is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// When the longest-waiting message came.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.ages.first().map(|(accepted_at, _)| *accepted_at)
    }

    /// Messages that are not finished, claimed ones included.
    pub(super) fn len(&self) -> usize {
        self.ages.len()
    }

    fn wait(&mut self, waiting: Waiting, due: Timestamp) {
        self.due.insert((due, waiting.entry.id));
        if self.kept.len() < MOST_KEPT_ENTRIES {
            self.kept.insert(waiting.entry.id, waiting);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::{Envelope, Origin};
    use crate::smtp::address::ReversePath;

    fn waiting(id: u64) -> Waiting {
        let origin = Origin::Report { about: QueueId(0) };
        let envelope = Envelope::new(ReversePath::Null, Vec::new(), Timestamp(100), origin);
        let place = Place { segment: 1, offset: 0, length: 9, content: ContentPlace::Inline };
        Waiting { entry: SpoolEntry::new(QueueId(id), envelope, 1), place }
    }

    fn index(messages: u64) -> Index {
        let mut index = Index::default();
        for id in 0..messages {
            index.count_record(1);
            index.add(waiting(id), Timestamp(1000 - i64::try_from(id).unwrap()));
        }
        index
    }

    fn ids(taken: &[Taken]) -> Vec<u64> {
        taken.iter().map(|t| t.id.0).collect()
    }

    #[test]
    fn the_oldest_due_comes_first_and_nothing_before_its_time() {
        let mut index = index(4);
        assert_eq!(index.next_due(), Some(Timestamp(997)));
        assert!(index.claim(Timestamp(996), 9).is_empty());
        assert_eq!(ids(&index.claim(Timestamp(999), 9)), [3, 2, 1]);
        assert_eq!(index.len(), 4, "claimed messages are not finished");
        assert_eq!(index.next_due(), Some(Timestamp(1000)));
    }

    #[test]
    fn a_generation_is_good_for_one_settlement() {
        let mut index = index(1);
        let old = index.claim(Timestamp(1000), 1).remove(0);
        index.release(old.id, old.generation);
        let new = index.claim(Timestamp(1000), 1).remove(0);
        assert_eq!(index.begin_settling(old.id, old.generation), None);
        assert!(index.begin_settling(new.id, new.generation).is_some());
        assert_eq!(index.begin_settling(new.id, new.generation), None);
        index.release(new.id, new.generation);
        assert_eq!(index.next_due(), None, "nor can it be given back any more");
    }

    #[test]
    fn a_segment_is_dead_when_all_in_it_is_finished() {
        let mut index = index(2);
        for taken in index.claim(Timestamp(1000), 2) {
            assert!(!index.is_dead(1));
            assert_eq!(index.finish(&taken.entry.unwrap()).map(|place| place.segment), Some(1));
        }
        assert!(index.is_dead(1));
        assert_eq!((index.len(), index.oldest()), (0, None));
    }

    #[test]
    fn memory_keeps_a_bounded_number_of_envelopes_and_none_of_deferred_messages() {
        let most = u64::try_from(MOST_KEPT_ENTRIES).unwrap();
        let mut index = index(most + 1);
        let taken = index.claim(Timestamp(1000), MOST_KEPT_ENTRIES + 1);
        assert_eq!(taken.iter().filter(|t| t.entry.is_none()).count(), 1);
        index.wait_again(taken[1].id, Timestamp(2000));
        assert!(index.claim(Timestamp(2000), 1)[0].entry.is_none());
    }
}
