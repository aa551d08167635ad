//! The spool under a crash at every step it takes (RFC 5321 §4.2.5, §6.1).
//!
//! A story that uses everything is told to an engine worked by hand. At every step that changes
//! the disk the directory is copied as a crash there would leave it: as it is, and with what is
//! not synced lost or torn. Every copy is opened and held to what was said until then. Crashes of
//! the recovery itself are tried in the same way, and so is the loss of the state database.
#![expect(clippy::disallowed_methods, reason = "the tests copy spool directories")]
#![expect(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "what fails in a test is its result")]
#![expect(clippy::wildcard_enum_match_arm, reason = "most steps make nothing durable")]

mod disk;
mod model;
mod story;

use dane_relay::spool::embedded::{CrashObserver, EmbeddedSpool, Step};
use disk::{Crash, Disk, Files};
use model::{Knowledge, Memory};
use std::collections::BTreeSet;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Waker};
use story::Story;

/// The checks wait for the disk most of the time.
const WORKERS: usize = 6;

const CRASHES: [Crash; 6] =
    [Crash::Kill, Crash::PowerLost, Crash::PowerTorn(1), Crash::PowerTorn(2), Crash::PowerTorn(3), Crash::PowerTorn(4)];

/// What the story must lead to.
const STORY_STEPS: [&str; 18] = [
    "FoldersMade",
    "FoldersSynced",
    "LockWritten",
    "StateMade",
    "StateOpened",
    "Committing(Schema)",
    "Committed(CatchingUp)",
    "Committed(Messages)",
    "Committed(Outcomes)",
    "Committed(Forwarding)",
    "Committed(Pruning)",
    "Checkpointed",
    "StateClosed",
    "BatchWritten",
    "BatchSynced",
    "ContentFolderSynced",
    "SegmentRemoved",
    "ContentRemoved",
];

/// What a crash leaves, and what was known when it came.
#[derive(Clone)]
struct Snapshot {
    at: String,
    crash: Crash,
    step: Step,
    files: Files,
    knowledge: Arc<Knowledge>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes snapshots.
struct Watch {
    name: String,
    disk: Mutex<Disk>,
    knowledge: Arc<Mutex<Knowledge>>,
    /// What waits for the spool; an answer that comes too early is heard at the next step.
    tasks: Mutex<Vec<Task>>,
    snapshots: Mutex<Vec<Snapshot>>,
    steps: AtomicUsize,
    /// Of the knowledge in the last snapshot.
    version: AtomicU32,
}

impl Watch {
    fn new(name: String, root: &Path, knowledge: Knowledge) -> Arc<Self> {
        Arc::new(Self {
            name,
            disk: Mutex::new(Disk::new(root)),
            knowledge: Arc::new(Mutex::new(knowledge)),
            tasks: Mutex::default(),
            snapshots: Mutex::default(),
            steps: AtomicUsize::new(0),
            version: AtomicU32::new(0),
        })
    }

    /// Lets the tasks go on. Says whether all are done.
    fn poll(&self) -> bool {
        // The step may have been taken by one of them.
        let Ok(mut tasks) = self.tasks.try_lock() else { return false };
        tasks.retain_mut(|task| task.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending());
        tasks.is_empty()
    }

    /// Takes snapshots of every crash that may come now.
    fn take(&self, moment: &str, step: Step, disk: &Disk, knowledge: &Arc<Knowledge>) {
        let snapshot = |crash| {
            let at = format!("{}{moment}, {crash:?}", self.name);
            Snapshot { at, crash, step, files: disk.after(crash), knowledge: Arc::clone(knowledge) }
        };
        self.snapshots.lock().unwrap().extend(CRASHES.map(snapshot));
    }
}

impl CrashObserver for Watch {
    fn at(&self, step: Step) {
        self.poll();
        let knowledge = Arc::new(self.knowledge.lock().unwrap().clone());
        let mut disk = self.disk.lock().unwrap();
        let number = self.steps.fetch_add(1, Ordering::Relaxed);
        // What was answered before this step must not need it.
        if self.version.swap(knowledge.version, Ordering::Relaxed) != knowledge.version {
            self.take(&format!("before step {number}, {step:?}"), step, &disk, &knowledge);
        }
        disk.at(step);
        self.take(&format!("step {number}, {step:?}"), step, &disk, &knowledge);
    }
}

/// Opens every snapshot, several at a time.
fn check_all(snapshots: &[Snapshot], memory: Memory) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let check = || {
        while let Some(snapshot) = snapshots.get(next.fetch_add(1, Ordering::Relaxed)) {
            let fault = snapshot.knowledge.check(&snapshot.files, memory).err();
            failures.lock().unwrap().extend(fault.map(|fault| format!("{}: {fault}", snapshot.at)));
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(check))));
    let failures = failures.into_inner().unwrap();
    let first: Vec<&String> = failures.iter().take(5).collect();
    assert!(failures.is_empty(), "{} of {} crashes:\n{first:#?}", failures.len(), snapshots.len());
}

/// The snapshots of opening a copy.
fn snapshots_of_recovery(snapshot: &Snapshot) -> Vec<Snapshot> {
    let folder = tempfile::TempDir::new().unwrap();
    let root = folder.path().join("spool");
    disk::write(&root, &snapshot.files);
    let knowledge = Knowledge::clone(&snapshot.knowledge);
    let now = knowledge.now;
    let watch = Watch::new(format!("{}; then ", snapshot.at), &root, knowledge);
    let (_spool, writers) = EmbeddedSpool::open_by_hand(&model::config(&root), now, watch.clone()).unwrap();
    drop(writers);
    std::mem::take(&mut watch.snapshots.lock().unwrap())
}

/// Those that differ in what is on the disk or in what was said.
fn distinct(snapshots: Vec<Snapshot>, seen: &mut BTreeSet<(Vec<(PathBuf, u32)>, u32)>) -> Vec<Snapshot> {
    let print = |snapshot: &Snapshot| {
        let files = snapshot.files.iter().map(|(path, octets)| (path.clone(), crc32fast::hash(octets))).collect();
        (files, snapshot.knowledge.version)
    };
    snapshots.into_iter().filter(|snapshot| seen.insert(print(snapshot))).collect()
}

#[test]
fn rfc5321_6_1_a_crash_at_any_step_loses_nothing_and_brings_nothing_back() {
    let snapshots = Story::tell();
    let steps: BTreeSet<String> = snapshots.iter().map(|snapshot| format!("{:?}", snapshot.step)).collect();
    for step in STORY_STEPS {
        assert!(steps.contains(step), "the story has no {step}: {steps:?}");
    }
    check_all(&distinct(snapshots, &mut BTreeSet::new()), Memory::Kept);
}

#[test]
fn rfc5321_6_1_a_crash_of_the_recovery_is_recovered_from() {
    let mut seen = BTreeSet::new();
    let snapshots = distinct(Story::tell(), &mut seen);
    let plain = |snapshot: &&Snapshot| !matches!(snapshot.crash, Crash::PowerTorn(2..));
    let again = snapshots.iter().filter(plain).flat_map(snapshots_of_recovery);
    let again = distinct(again.filter(|snapshot| plain(&snapshot)).collect(), &mut seen);
    assert!(again.len() > 100, "only {} crashes differ from those of the story", again.len());
    let catches_up = |snapshot: &Snapshot| format!("{:?}", snapshot.step) == "Committed(CatchingUp)";
    assert!(again.iter().any(catches_up), "no crash comes while the database catches up with the segments");
    check_all(&again, Memory::Kept);
}

#[test]
fn rfc5321_6_1_a_crash_while_the_database_is_rebuilt_loses_nothing() {
    let snapshots = Story::tell();
    let mut seen = BTreeSet::new();
    let last = snapshots.iter().filter(|snapshot| snapshot.crash == Crash::Kill);
    let damaged = last.step_by(13).map(|snapshot| {
        let mut files = snapshot.files.clone();
        files.insert("state.sqlite".into(), vec![b'?'; 20_000].into());
        Snapshot { at: format!("{}, database damaged", snapshot.at), files, ..snapshot.clone() }
    });
    let again: Vec<Snapshot> = damaged.flat_map(|snapshot| snapshots_of_recovery(&snapshot)).collect();
    assert!(again.iter().any(|snapshot| snapshot.step == Step::StateMovedAside));
    let again = distinct(again, &mut seen);
    check_all(&again, Memory::Lost);
}
