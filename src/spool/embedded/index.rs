//! What the engine keeps in memory of every message that waits: when it is due, who holds it.
//!
//! Pure. A message costs three entries in ordered sets (about 80 octets); only the freshest
//! messages keep their envelope here, so that the way from acceptance to delivery reads no disk.
//! Leases live here alone: one process owns the directory, and a restart ends all of them.

use super::fresh::FreshContents;
use super::jobs::{Moved, RecordPlace, Waiting, WaitingRow};
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::spool::SpoolEntry;
use bytes::Bytes;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Messages whose envelope stays in memory: a few seconds of acceptance at full speed, and a few
/// megabytes. Others are read from the state database when they are claimed.
const MOST_KEPT_ENTRIES: usize = 2000;

/// Who holds a message, and what to put back when the lease ends.
#[derive(Debug)]
struct ClaimLease {
    generation: u64,
    /// When it was due; never when it is held.
    due: Option<Timestamp>,
    claimed_at: Timestamp,
    waiting: Option<Waiting>,
}

/// A message taken by [`Index::claim`].
#[derive(Debug)]
pub(super) struct Taken {
    /// Its queue id.
    pub(super) id: QueueId,
    /// The fencing number of the lease.
    pub(super) generation: u64,
    /// The message, when memory still has it; otherwise it must be read and given to
    /// [`Index::loaded`].
    pub(super) entry: Option<SpoolEntry>,
}

/// The records of unfinished messages in a segment.
#[derive(Clone, Copy, Debug, Default)]
struct Living {
    records: u64,
    octets: u64,
}

/// All waiting messages.
#[derive(Debug, Default)]
pub(super) struct Index {
    due: BTreeSet<(Timestamp, QueueId)>,
    /// When each message of `due` is due; held ones are never.
    unclaimed: BTreeMap<QueueId, Option<Timestamp>>,
    /// Those of `unclaimed` that the operator holds.
    held: BTreeSet<QueueId>,
    ages: BTreeSet<(Timestamp, QueueId)>,
    kept: BTreeMap<QueueId, Waiting>,
    fresh: FreshContents,
    leases: BTreeMap<QueueId, ClaimLease>,
    /// By segment; one without any can go.
    living: BTreeMap<u32, Living>,
    generation: u64,
}

impl Index {
    /// A message known from the state database at the start.
    pub(super) fn restore(&mut self, known: &WaitingRow) {
        self.put(known.id, (!known.held).then_some(known.due));
        self.ages.insert((known.accepted_at, known.id));
        self.count(known.segment, known.length);
    }

    /// A record was appended; its segment must stay until the message is finished.
    pub(super) fn count_record(&mut self, place: RecordPlace) {
        self.count(place.segment, place.length);
    }

    fn count(&mut self, segment: u32, length: u64) {
        let living = self.living.entry(segment).or_default();
        living.records += 1;
        living.octets = living.octets.saturating_add(length);
    }

    /// A record counted before needs its segment no more.
    pub(super) fn forget_record(&mut self, place: RecordPlace) {
        if let Some(living) = self.living.get_mut(&place.segment) {
            living.records = living.records.saturating_sub(1);
            living.octets = living.octets.saturating_sub(place.length);
        }
    }

    /// The record of a message is at another place, which is counted already.
    pub(super) fn move_record(&mut self, moved: &Moved) {
        self.forget_record(moved.from);
        let leased = self.leases.get_mut(&moved.id).and_then(|lease| lease.waiting.as_mut());
        if let Some(waiting) = leased.or_else(|| self.kept.get_mut(&moved.id)) {
            waiting.place = moved.to;
        }
    }

    /// A new message, whose record is counted already, is due.
    pub(super) fn add(&mut self, waiting: Waiting, due: Timestamp) {
        self.ages.insert((waiting.entry.envelope.accepted_at, waiting.entry.id));
        self.wait(waiting, Some(due));
    }

    /// Keeps the content of a message just added, if there is room.
    pub(super) fn keep_content(&mut self, id: QueueId, content: &Bytes) {
        if self.kept.contains_key(&id) {
            self.fresh.keep(id, content);
        }
    }

    /// The content of a message, when memory has it.
    pub(super) fn content(&self, id: QueueId) -> Option<Bytes> {
        self.fresh.get(id)
    }

    /// How many messages somebody holds.
    pub(super) fn claimed(&self) -> usize {
        self.leases.len()
    }

    /// Takes up to `most` messages due at `now`, the oldest due first.
    pub(super) fn claim(&mut self, now: Timestamp, most: usize) -> Vec<Taken> {
        let mut taken = Vec::new();
        while taken.len() < most {
            let Some(&(_, id)) = self.due.first().filter(|(due, _)| *due <= now) else { break };
            taken.extend(self.claim_one(id, now));
        }
        taken
    }

    /// Takes one message, due or not, unless somebody has it or it is not known.
    pub(super) fn claim_one(&mut self, id: QueueId, now: Timestamp) -> Option<Taken> {
        let due = self.unclaimed.remove(&id)?;
        self.held.remove(&id);
        if let Some(due) = due {
            self.due.remove(&(due, id));
        }
        self.generation += 1;
        let waiting = self.kept.remove(&id);
        let entry = waiting.as_ref().map(|w| w.entry.clone());
        self.leases.insert(id, ClaimLease { generation: self.generation, due, claimed_at: now, waiting });
        Some(Taken { id, generation: self.generation, entry })
    }

    /// Moves all due times, after the clock was set back by so much: every wait stays as long
    /// as it was.
    pub(super) fn set_back(&mut self, by: Duration) {
        let earlier =
            |due: Timestamp| Timestamp(due.0.saturating_sub(i64::try_from(by.as_millis()).unwrap_or(i64::MAX)));
        self.due = std::mem::take(&mut self.due).into_iter().map(|(due, id)| (earlier(due), id)).collect();
        for due in self.unclaimed.values_mut() {
            *due = due.map(earlier);
        }
    }

    /// Makes due at `now` what is due after `horizon`.
    pub(super) fn bring_forward(&mut self, now: Timestamp, horizon: Timestamp) {
        for (_, id) in self.due.split_off(&(Timestamp(horizon.0.saturating_add(1)), QueueId(0))) {
            self.due.insert((now, id));
            self.unclaimed.insert(id, Some(now));
        }
    }

    /// Makes due at `now` what is due at the moment beside it or before.
    pub(super) fn hasten(&mut self, messages: &[(QueueId, Timestamp)], now: Timestamp) {
        for (id, until) in messages {
            if let Some(Some(due)) =
                self.unclaimed.get_mut(id).filter(|due| due.is_some_and(|due| due > now && due <= *until))
            {
                self.due.remove(&(*due, *id));
                *due = now;
                self.due.insert((now, *id));
            }
        }
    }

    /// A message has changed while its lease goes on.
    pub(super) fn update(&mut self, entry: &SpoolEntry) {
        if let Some(waiting) = self.leases.get_mut(&entry.id).and_then(|lease| lease.waiting.as_mut()) {
            waiting.entry = entry.clone();
        }
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
            None => self.put(id, lease.due),
        }
    }

    /// Ends a lease without a change; the message is due at `until`.
    pub(super) fn postpone(&mut self, id: QueueId, generation: u64, until: Timestamp) {
        if self.claimed_at(id, generation).is_some() {
            self.leases.remove(&id);
            self.fresh.forget(id);
            self.put(id, Some(until));
        }
    }

    /// Ends a lease: the message waits on until `due`, or is held. What is deferred is not kept in
    /// memory, so that a long queue of it does not push out what is fresh.
    pub(super) fn wait_again(&mut self, id: QueueId, due: Option<Timestamp>) {
        self.leases.remove(&id);
        self.fresh.forget(id);
        self.put(id, due);
    }

    /// Ends a lease and the message. Gives where its record was.
    pub(super) fn finish(&mut self, entry: &SpoolEntry) -> Option<RecordPlace> {
        self.fresh.forget(entry.id);
        let place = self.leases.remove(&entry.id).and_then(|lease| lease.waiting).map(|waiting| waiting.place)?;
        self.ages.remove(&(entry.envelope.accepted_at, entry.id));
        self.forget_record(place);
        Some(place)
    }

    /// Where the record of a message is, when memory has it.
    pub(super) fn place(&self, id: QueueId) -> Option<RecordPlace> {
        let leased = self.leases.get(&id).and_then(|lease| lease.waiting.as_ref());
        leased.or_else(|| self.kept.get(&id)).map(|waiting| waiting.place)
    }

    /// Whether nothing in a segment is alive.
    pub(super) fn is_dead(&self, segment: u32) -> bool {
        self.living.get(&segment).is_none_or(|living| living.records == 0)
    }

    /// Octets in a segment that are alive.
    pub(super) fn living_octets(&self, segment: u32) -> u64 {
        self.living.get(&segment).map_or(0, |living| living.octets)
    }

    /// A segment is gone.
    pub(super) fn drop_segment(&mut self, segment: u32) {
        self.living.remove(&segment);
    }

    /// When the next unclaimed message is due.
    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.due.first().map(|(due, _)| *due)
    }

    /// When the longest-waiting message came. What is held waits for the operator, and not for any server.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.ages.iter().find(|(_, id)| !self.held.contains(id)).map(|(accepted_at, _)| *accepted_at)
    }

    /// Messages that the operator holds.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    /// Messages that are not finished, claimed ones included.
    pub(super) fn len(&self) -> usize {
        self.ages.len()
    }

    fn put(&mut self, id: QueueId, due: Option<Timestamp>) {
        self.unclaimed.insert(id, due);
        match due {
            Some(due) => self.due.insert((due, id)),
            None => self.held.insert(id),
        };
    }

    fn wait(&mut self, waiting: Waiting, due: Option<Timestamp>) {
        self.put(waiting.entry.id, due);
        if self.kept.len() < MOST_KEPT_ENTRIES {
            self.kept.insert(waiting.entry.id, waiting);
        } else {
            self.fresh.forget(waiting.entry.id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::jobs::ContentPlace;
    use super::*;
    use crate::envelope::{Envelope, testing};

    fn waiting(id: u64) -> Waiting {
        let envelope = Envelope { accepted_at: Timestamp(100), ..testing::report(&[]) };
        let place = RecordPlace { segment: 1, offset: 0, length: 9, content: ContentPlace::Inline };
        Waiting { entry: SpoolEntry::new(QueueId(id), envelope, 1), place }
    }

    fn index(messages: u64) -> Index {
        let mut index = Index::default();
        for id in 0..messages {
            index.count_record(waiting(id).place);
            index.add(waiting(id), Timestamp(1000 - i64::try_from(id).unwrap()));
        }
        index
    }

    fn ids(taken: &[Taken]) -> Vec<u64> {
        taken.iter().map(|t| t.id.0).collect()
    }

    #[test]
    fn what_is_held_counts_apart_and_has_no_age() {
        let mut index = index(2);
        assert_eq!((index.oldest(), index.held()), (Some(Timestamp(100)), 0));
        for id in [0, 1] {
            let taken = index.claim_one(QueueId(id), Timestamp(0)).unwrap();
            index.wait_again(taken.id, None);
        }
        assert_eq!((index.len(), index.oldest(), index.held()), (2, None, 2));
        let released = index.claim_one(QueueId(1), Timestamp(0)).unwrap();
        index.wait_again(released.id, Some(Timestamp(5)));
        assert_eq!((index.oldest(), index.held()), (Some(Timestamp(100)), 1));
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
    fn what_is_due_after_the_horizon_is_due_now() {
        let mut index = index(4);
        index.bring_forward(Timestamp(990), Timestamp(998));
        assert_eq!(ids(&index.claim(Timestamp(990), 9)), [0, 1]);
        assert_eq!(ids(&index.claim(Timestamp(998), 9)), [3, 2]);
    }

    #[test]
    fn a_message_is_hastened_that_waits_until_then_and_no_other() {
        let mut index = index(4);
        let held = index.claim_one(QueueId(0), Timestamp(0)).unwrap();
        index.wait_again(held.id, None);
        let _claimed = index.claim_one(QueueId(1), Timestamp(0));
        let all = [(QueueId(0), 2000), (QueueId(1), 2000), (QueueId(2), 998), (QueueId(3), 996), (QueueId(9), 2000)];
        index.hasten(&all.map(|(id, until)| (id, Timestamp(until))), Timestamp(500));
        assert_eq!(ids(&index.claim(Timestamp(500), 9)), [2]);
        assert_eq!(index.next_due(), Some(Timestamp(997)), "it is not due when it was thought to be");
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
    fn a_record_moved_is_alive_where_it_is_now_for_whoever_holds_it() {
        let mut index = index(2);
        let taken = index.claim(Timestamp(1000), 1).remove(0);
        let from = waiting(0).place;
        let to = RecordPlace { segment: 2, offset: 50, ..from };
        for id in [0, 1].map(QueueId) {
            index.count_record(to);
            index.move_record(&Moved { id, from, to });
            assert_eq!(index.place(id), Some(to));
        }
        assert!(index.is_dead(1) && index.living_octets(1) == 0);
        assert_eq!(index.living_octets(2), 18);
        assert_eq!(index.finish(&taken.entry.unwrap()), Some(to));
        assert_eq!(index.living_octets(2), 9);
    }

    #[test]
    fn memory_keeps_a_bounded_number_of_envelopes_and_none_of_deferred_messages() {
        let most = u64::try_from(MOST_KEPT_ENTRIES).unwrap();
        let mut index = index(most + 1);
        let taken = index.claim(Timestamp(1000), MOST_KEPT_ENTRIES + 1);
        assert_eq!(taken.iter().filter(|t| t.entry.is_none()).count(), 1);
        index.wait_again(taken[1].id, Some(Timestamp(2000)));
        assert!(index.claim(Timestamp(2000), 1)[0].entry.is_none());
    }
}
