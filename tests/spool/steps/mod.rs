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
struct Picture {
    at: String,
    crash: Crash,
    step: Step,
    files: Files,
    knowledge: Arc<Knowledge>,
}

type Task = Pin<Box<dyn Future<Output = ()> + Send>>;

/// Takes pictures.
struct Watch {
    name: String,
    disk: Mutex<Disk>,
    knowledge: Arc<Mutex<Knowledge>>,
    /// What waits for the spool; an answer that comes too early is heard at the next step.
    tasks: Mutex<Vec<Task>>,
    pictures: Mutex<Vec<Picture>>,
    steps: AtomicUsize,
    /// Of the knowledge in the last picture.
    version: AtomicU32,
}

impl Watch {
    fn new(name: String, root: &Path, knowledge: Knowledge) -> Arc<Self> {
        Arc::new(Self {
            name,
            disk: Mutex::new(Disk::new(root)),
            knowledge: Arc::new(Mutex::new(knowledge)),
            tasks: Mutex::default(),
            pictures: Mutex::default(),
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

    /// Takes pictures of every crash that may come now.
    fn take(&self, moment: &str, step: Step, disk: &Disk, knowledge: &Arc<Knowledge>) {
        let picture = |crash| {
            let at = format!("{}{moment}, {crash:?}", self.name);
            Picture { at, crash, step, files: disk.after(crash), knowledge: Arc::clone(knowledge) }
        };
        self.pictures.lock().unwrap().extend(CRASHES.map(picture));
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

/// Opens every picture, several at a time.
fn check_all(pictures: &[Picture], memory: Memory) {
    let next = AtomicUsize::new(0);
    let failures = Mutex::new(Vec::new());
    let check = || {
        while let Some(picture) = pictures.get(next.fetch_add(1, Ordering::Relaxed)) {
            let fault = picture.knowledge.check(&picture.files, memory).err();
            failures.lock().unwrap().extend(fault.map(|fault| format!("{}: {fault}", picture.at)));
        }
    };
    std::thread::scope(|scope| (0..WORKERS).for_each(|_| drop(scope.spawn(check))));
    let failures = failures.into_inner().unwrap();
    let first: Vec<&String> = failures.iter().take(5).collect();
    assert!(failures.is_empty(), "{} of {} crashes:\n{first:#?}", failures.len(), pictures.len());
}

/// The pictures of opening a copy.
fn pictures_of_recovery(picture: &Picture) -> Vec<Picture> {
    let folder = tempfile::TempDir::new().unwrap();
    let root = folder.path().join("spool");
    disk::write(&root, &picture.files);
    let knowledge = Knowledge::clone(&picture.knowledge);
    let now = knowledge.now;
    let watch = Watch::new(format!("{}; then ", picture.at), &root, knowledge);
    let (_spool, hands) = EmbeddedSpool::open_by_hand(&model::config(&root), now, watch.clone()).unwrap();
    drop(hands);
    std::mem::take(&mut watch.pictures.lock().unwrap())
}

/// Those that differ in what is on the disk or in what was said.
fn distinct(pictures: Vec<Picture>, seen: &mut BTreeSet<(Vec<(PathBuf, u32)>, u32)>) -> Vec<Picture> {
    let print = |picture: &Picture| {
        let files = picture.files.iter().map(|(path, octets)| (path.clone(), crc32fast::hash(octets))).collect();
        (files, picture.knowledge.version)
    };
    pictures.into_iter().filter(|picture| seen.insert(print(picture))).collect()
}

#[test]
fn rfc5321_6_1_a_crash_at_any_step_loses_nothing_and_brings_nothing_back() {
    let pictures = Story::tell();
    let steps: BTreeSet<String> = pictures.iter().map(|picture| format!("{:?}", picture.step)).collect();
    for step in STORY_STEPS {
        assert!(steps.contains(step), "the story has no {step}: {steps:?}");
    }
    check_all(&distinct(pictures, &mut BTreeSet::new()), Memory::Kept);
}

#[test]
fn rfc5321_6_1_a_crash_of_the_recovery_is_recovered_from() {
    let mut seen = BTreeSet::new();
    let pictures = distinct(Story::tell(), &mut seen);
    let plain = |picture: &&Picture| !matches!(picture.crash, Crash::PowerTorn(2..));
    let again = pictures.iter().filter(plain).flat_map(pictures_of_recovery);
    let again = distinct(again.filter(|picture| plain(&picture)).collect(), &mut seen);
    assert!(again.len() > 100, "only {} crashes differ from those of the story", again.len());
    check_all(&again, Memory::Kept);
}

#[test]
fn rfc5321_6_1_a_crash_while_the_database_is_rebuilt_loses_nothing() {
    let pictures = Story::tell();
    let mut seen = BTreeSet::new();
    let last = pictures.iter().filter(|picture| picture.crash == Crash::Kill);
    let damaged = last.step_by(13).map(|picture| {
        let mut files = picture.files.clone();
        files.insert("state.sqlite".into(), vec![b'?'; 20_000].into());
        Picture { at: format!("{}, database damaged", picture.at), files, ..picture.clone() }
    });
    let again: Vec<Picture> = damaged.flat_map(|picture| pictures_of_recovery(&picture)).collect();
    assert!(again.iter().any(|picture| picture.step == Step::StateMovedAside));
    let again = distinct(again, &mut seen);
    check_all(&again, Memory::Lost);
}
