//! Counts the durable steps of a life, and takes a snapshot of the spool's folder at the step where
//! the machine goes down. The next relay starts with the snapshot.

use crate::pruning_log::PruningLog;
use crate::random::SeededRandom;
use dane_relay::spool::embedded::{CrashObserver, Step};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CrashKind {
    /// The process is killed: what it wrote is there.
    Kill,
    /// The power goes: what was written since the last sync is there in part, or not at all.
    PowerCut,
}

/// Both.
pub(crate) const CRASH_KINDS: [CrashKind; 2] = [CrashKind::Kill, CrashKind::PowerCut];

/// At which step the machine goes down, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    pub(crate) step: usize,
    pub(crate) kind: CrashKind,
}

/// A step that was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Done {
    step: Step,
    /// Whether something that is written was not durable then.
    loose: bool,
}

impl Done {
    /// The crashes that can come at this step, which is the `nth`.
    pub(crate) fn crashes(self, nth: usize) -> impl Iterator<Item = Crash> {
        let cut = self.loose.then_some(CrashKind::PowerCut);
        [Some(CrashKind::Kill), cut].into_iter().flatten().map(move |kind| Crash { step: nth, kind })
    }
}

/// See the module.
pub(crate) struct CrashSnapshot {
    from: PathBuf,
    to: PathBuf,
    crash: Option<Crash>,
    pruning_log: Arc<Mutex<PruningLog>>,
    recording: Mutex<Recording>,
}

#[derive(Default)]
struct Recording {
    steps: Vec<Done>,
    taken: bool,
    /// What a power cut leaves of each file, in octets; of others it leaves all.
    durable: BTreeMap<PathBuf, u64>,
}

impl CrashSnapshot {
    pub(crate) fn new(from: &Path, to: &Path, crash: Option<Crash>, pruning_log: Arc<Mutex<PruningLog>>) -> Self {
        Self { from: from.to_owned(), to: to.to_owned(), crash, pruning_log, recording: Mutex::default() }
    }

    /// Whether the machine is down.
    pub(crate) fn taken(&self) -> bool {
        self.recording.lock().unwrap().taken
    }

    pub(crate) fn steps(&self) -> Vec<Done> {
        self.recording.lock().unwrap().steps.clone()
    }

    /// Notes what is durable from now on.
    fn note(&self, recording: &mut Recording, step: Step) {
        let now_durable = match step {
            Step::SegmentMade | Step::BatchSynced => newest(&self.from.join("segments")),
            Step::StateOpened | Step::Checkpointed => Some(self.from.join("state.sqlite-wal")),
            Step::Committed(work) if work.is_synced() => Some(self.from.join("state.sqlite-wal")),
            _ => None,
        };
        if let Some(path) = now_durable
            && let Ok(metadata) = fs::metadata(&path)
        {
            recording.durable.insert(path, metadata.len());
        }
    }

    /// Whether a power cut would leave something else than a kill.
    fn is_loose(&self, recording: &Recording, step: Step) -> bool {
        let longer = |(path, durable): (&PathBuf, &u64)| fs::metadata(path).is_ok_and(|found| found.len() > *durable);
        unnamed(&self.from, step).is_some() || recording.durable.iter().any(longer)
    }

    /// The snapshot as the power cut leaves it.
    fn cut(&self, recording: &Recording, step: Step) {
        let mut random = SeededRandom::new(recording.steps.len() as u64);
        for (path, durable) in &recording.durable {
            let copy = self.to.join(path.strip_prefix(&self.from).unwrap());
            let Ok(file) = OpenOptions::new().write(true).open(copy) else { continue };
            let written = file.metadata().unwrap().len();
            if written > *durable {
                file.set_len(durable + random.below(written - durable)).unwrap();
            }
        }
        // A file whose name is not durable may be gone, or what is in it.
        match unnamed(&self.to, step) {
            Some(path) if random.one_in(2) => fs::remove_file(path).unwrap(),
            Some(path) if step == Step::ContentWritten => {
                OpenOptions::new().write(true).open(path).unwrap().set_len(random.below(1000)).unwrap();
            }
            Some(_) | None => {}
        }
    }
}

impl CrashObserver for CrashSnapshot {
    fn at(&self, step: Step) {
        let mut recording = self.recording.lock().unwrap();
        if recording.taken {
            return;
        }
        self.pruning_log.lock().unwrap().at(step, &self.from);
        self.note(&mut recording, step);
        let done = Done { step, loose: self.is_loose(&recording, step) };
        recording.steps.push(done);
        let Some(crash) = self.crash.filter(|crash| crash.step == recording.steps.len()) else { return };
        recording.taken = true;
        copy(&self.from, &self.to);
        match crash.kind {
            CrashKind::Kill => {}
            CrashKind::PowerCut => self.cut(&recording, step),
        }
    }
}

/// The file whose name is not durable yet.
fn unnamed(spool: &Path, step: Step) -> Option<PathBuf> {
    match step {
        Step::SegmentMade => newest(&spool.join("segments")),
        Step::ContentMade | Step::ContentWritten | Step::ContentSynced => newest(&spool.join("content")),
        _ => None,
    }
}

/// The last file of a folder, by its name.
fn newest(folder: &Path) -> Option<PathBuf> {
    fs::read_dir(folder).ok()?.map(|entry| entry.unwrap().path()).max()
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().unwrap().is_dir() {
            copy(&source, &target);
        } else if let Err(error) = fs::copy(source, target) {
            // Beside the spool's writers others keep small files, which they write aside and rename.
            assert_eq!(error.kind(), ErrorKind::NotFound);
        }
    }
}
