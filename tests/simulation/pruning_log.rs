//! Writes down what the history of the spool forgets, at the moment when it does: what has its
//! end is pruned when its days are over, and nothing else ever is. Also looks whether what nobody
//! needs any more leaves the disk.

use dane_relay::clock::{Clock, Timestamp};
use dane_relay::envelope::QueueId;
use dane_relay::spool::audit::Depth;
use dane_relay::spool::embedded::audit::Auditor;
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::embedded::{Step, Work};
use dane_relay::spool::ledger::{LedgerMessage, LedgerRecipient, MessageState, ToldBy};
use rusqlite::{Connection, OpenFlags};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::time::Duration;

/// How long a closed segment may hold little that is alive: longer than between two attempts, as
/// the spool hears of the time from whoever asks it for work.
const PATIENCE: Duration = Duration::from_secs(10 * 3600);
/// How much longer than its days history may stay, for the same reason.
const SLACK: Duration = Duration::from_secs(6 * 3600);
/// A segment of which less than one part in so many is alive is compacted.
const SPARSE: u64 = 4;

/// See the module. It outlives the relay.
pub(crate) struct PruningLog {
    keep: Duration,
    /// That of the relay.
    clock: Clock,
    /// The latest time that the relay has had.
    latest: Timestamp,
    /// What there was before the pruning that is under way.
    before: BTreeMap<QueueId, LedgerMessage>,
    pruned: BTreeMap<QueueId, LedgerMessage>,
    sparse_since: BTreeMap<u32, Timestamp>,
    steps: BTreeSet<String>,
    /// What is wrong.
    pub(crate) faults: Vec<String>,
}

impl PruningLog {
    pub(crate) fn new(keep: Duration, begin: Timestamp) -> Self {
        Self {
            keep,
            clock: Clock::manual(begin),
            latest: begin,
            before: BTreeMap::new(),
            pruned: BTreeMap::new(),
            sparse_since: BTreeMap::new(),
            steps: BTreeSet::new(),
            faults: Vec::new(),
        }
    }

    /// A life begins in this spool. What was pruned before does not come back in it.
    pub(crate) fn begin_life(&mut self, spool: &Path, clock: &Clock) {
        self.note_time();
        self.clock = clock.clone();
        self.sparse_since.clear();
        let there = messages(spool);
        let back =
            self.pruned.keys().filter(|id| there.contains_key(id)).map(|id| format!("{id} was pruned and is back"));
        self.faults.extend(back);
    }

    /// Before the clock is set.
    pub(crate) fn note_time(&mut self) {
        self.latest = self.latest.max(self.clock.now());
    }

    /// The spool has done something.
    pub(crate) fn at(&mut self, step: Step, spool: &Path) {
        self.steps.insert(format!("{step:?}"));
        match step {
            Step::Committing(Work::Pruning) => self.before = messages(spool),
            Step::Committed(Work::Pruning) => self.pruning(spool),
            _ => {}
        }
    }

    fn pruning(&mut self, spool: &Path) {
        self.note_time();
        let left = messages(spool);
        for (id, message) in std::mem::take(&mut self.before).into_iter().filter(|(id, _)| !left.contains_key(id)) {
            if message.standing != MessageState::Finished || message.waiting().next().is_some() {
                self.faults.push(format!("{id} was pruned and had no end: {:?}", message.recipients));
            }
            if message.finished_at.is_none_or(|end| end.plus(self.keep) > self.latest) {
                self.faults.push(format!("{id} was pruned before its time: {:?}", message.finished_at));
            }
            self.pruned.insert(id, message);
        }
        // A report stays for as long as what it tells of.
        let audit = Auditor::open(spool, Depth::Rows).unwrap().finish().unwrap();
        self.faults.extend(audit.findings.iter().map(|finding| format!("after a pruning: {finding:?}")));
    }

    /// A message that is not in the ledger any more.
    pub(crate) fn pruned(&self, message_id: &str) -> impl Iterator<Item = &LedgerMessage> {
        self.pruned.values().filter(move |message| message.message_id.as_deref() == Some(message_id))
    }

    /// What the spool has done, by the words of its steps.
    pub(crate) fn steps(&self) -> &BTreeSet<String> {
        &self.steps
    }

    /// Looks at the segments, when nobody writes.
    pub(crate) fn look_at_segments(&mut self, spool: &Path) {
        let now = self.clock.now();
        let living = living(spool);
        let mut segments = segments(spool);
        // Into the newest one it is written still.
        segments.pop_last();
        for (number, octets) in segments {
            match living.get(&number) {
                None => self.faults.push(format!("segment {number} is there with nothing alive in it")),
                Some(alive) if alive * SPARSE < octets => {
                    let since = *self.sparse_since.entry(number).or_insert(now);
                    if now.since(since) > PATIENCE {
                        self.faults.push(format!("segment {number} has {alive} of {octets} alive since {since:?}"));
                    }
                }
                Some(_) => {}
            }
        }
    }

    /// Looks at what is left when everything has its end and the relay has stopped.
    pub(crate) fn look_at_rest(&mut self, spool: &Path) {
        let content = fs::read_dir(spool.join("content")).unwrap().count();
        if content > 0 || segments(spool).len() > 1 {
            self.faults.push(format!("{content} files and {:?} are left, and nobody needs them", segments(spool)));
        }
        let there = messages(spool);
        let reports: BTreeSet<QueueId> =
            there.values().flat_map(|m| &m.recipients).flatten().filter_map(told_by).collect();
        let now = self.clock.now();
        for (id, message) in there.iter().filter(|(id, _)| !reports.contains(id)) {
            if message.finished_at.is_some_and(|end| end.plus(self.keep + SLACK) < now) {
                self.faults.push(format!("{id} is never pruned: {:?}", message.finished_at));
            }
        }
    }
}

/// The report about a recipient.
fn told_by(recipient: &LedgerRecipient) -> Option<QueueId> {
    match recipient.told {
        Some(ToldBy::Report(report)) => Some(report),
        Some(ToldBy::Nobody(_)) | None => None,
    }
}

/// All that the ledger has.
pub(crate) fn messages(spool: &Path) -> BTreeMap<QueueId, LedgerMessage> {
    let ledger = StateReader::open(spool).unwrap();
    let all: Vec<i64> = column(spool, "SELECT id, 0 FROM messages").into_iter().map(|(id, _)| id).collect();
    let message = |id: i64| Some((QueueId(id.cast_unsigned()), ledger.message(QueueId(id.cast_unsigned())).unwrap()?));
    all.into_iter().filter_map(message).collect()
}

/// Octets that are alive, by segment.
fn living(spool: &Path) -> BTreeMap<u32, u64> {
    let sums = column(spool, "SELECT segment, sum(length) FROM messages WHERE finished_at IS NULL GROUP BY segment");
    sums.into_iter().map(|(segment, sum)| (segment.try_into().unwrap(), sum.cast_unsigned())).collect()
}

/// The first two columns.
fn column(spool: &Path, query: &str) -> Vec<(i64, i64)> {
    let state = Connection::open_with_flags(spool.join("state.sqlite"), OpenFlags::SQLITE_OPEN_READ_ONLY).unwrap();
    let mut select = state.prepare(query).unwrap();
    select.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).unwrap().map(Result::unwrap).collect()
}

/// The octets of each segment.
fn segments(spool: &Path) -> BTreeMap<u32, u64> {
    let files = fs::read_dir(spool.join("segments")).unwrap().map(Result::unwrap);
    let segment = |file: fs::DirEntry| {
        let name = file.file_name().into_string().unwrap();
        (name[..8].parse().unwrap(), file.metadata().unwrap().len())
    };
    files.map(segment).collect()
}
