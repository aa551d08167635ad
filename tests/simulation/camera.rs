//! Counts the durable steps of a life, and takes a picture of the spool's folder at the step where
//! the machine goes down. The next relay wakes up in the picture.

use crate::dice::Dice;
use crate::notary::Notary;
use dane_relay::spool::embedded::{CrashObserver, Step};
use std::collections::BTreeMap;
use std::fs::{self, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// How the machine goes down.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Blow {
    /// The process is killed: what it wrote is there.
    Kill,
    /// The power goes: what was written since the last sync is there in part, or not at all.
    PowerCut,
}

/// Both.
pub(crate) const BLOWS: [Blow; 2] = [Blow::Kill, Blow::PowerCut];

/// At which step the machine goes down, counted from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crash {
    pub(crate) step: usize,
    pub(crate) blow: Blow,
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
        let cut = self.loose.then_some(Blow::PowerCut);
        [Some(Blow::Kill), cut].into_iter().flatten().map(move |blow| Crash { step: nth, blow })
    }
}

/// See the module.
pub(crate) struct Camera {
    from: PathBuf,
    to: PathBuf,
    crash: Option<Crash>,
    notary: Arc<Mutex<Notary>>,
    film: Mutex<Film>,
}

#[derive(Default)]
struct Film {
    steps: Vec<Done>,
    taken: bool,
    /// What a power cut leaves of each file, in octets; of others it leaves all.
    durable: BTreeMap<PathBuf, u64>,
}

impl Camera {
    pub(crate) fn new(from: &Path, to: &Path, crash: Option<Crash>, notary: Arc<Mutex<Notary>>) -> Self {
        Self { from: from.to_owned(), to: to.to_owned(), crash, notary, film: Mutex::default() }
    }

    /// Whether the machine is down.
    pub(crate) fn taken(&self) -> bool {
        self.film.lock().unwrap().taken
    }

    pub(crate) fn steps(&self) -> Vec<Done> {
        self.film.lock().unwrap().steps.clone()
    }

    /// Notes what is durable from now on.
    fn note(&self, film: &mut Film, step: Step) {
        let now_durable = match step {
            Step::SegmentMade | Step::BatchSynced => newest(&self.from.join("segments")),
            Step::StateOpened | Step::Checkpointed => Some(self.from.join("state.sqlite-wal")),
            Step::Committed(work) if work.is_synced() => Some(self.from.join("state.sqlite-wal")),
            _ => None,
        };
        if let Some(path) = now_durable
            && let Ok(metadata) = fs::metadata(&path)
        {
            film.durable.insert(path, metadata.len());
        }
    }

    /// Whether a power cut would leave something else than a kill.
    fn is_loose(&self, film: &Film, step: Step) -> bool {
        let longer = |(path, durable): (&PathBuf, &u64)| fs::metadata(path).is_ok_and(|found| found.len() > *durable);
        unnamed(&self.from, step).is_some() || film.durable.iter().any(longer)
    }

    /// The picture as the power cut leaves it.
    fn cut(&self, film: &Film, step: Step) {
        let mut dice = Dice::new(film.steps.len() as u64);
        for (path, durable) in &film.durable {
            let copy = self.to.join(path.strip_prefix(&self.from).unwrap());
            let Ok(file) = OpenOptions::new().write(true).open(copy) else { continue };
            let written = file.metadata().unwrap().len();
            if written > *durable {
                file.set_len(durable + dice.roll(written - durable)).unwrap();
            }
        }
        // A file whose name is not durable may be gone, or what is in it.
        match unnamed(&self.to, step) {
            Some(path) if dice.one_in(2) => fs::remove_file(path).unwrap(),
            Some(path) if step == Step::ContentWritten => {
                OpenOptions::new().write(true).open(path).unwrap().set_len(dice.roll(1000)).unwrap();
            }
            Some(_) | None => {}
        }
    }
}

impl CrashObserver for Camera {
    fn at(&self, step: Step) {
        let mut film = self.film.lock().unwrap();
        if film.taken {
            return;
        }
        self.notary.lock().unwrap().at(step, &self.from);
        self.note(&mut film, step);
        let done = Done { step, loose: self.is_loose(&film, step) };
        film.steps.push(done);
        let Some(crash) = self.crash.filter(|crash| crash.step == film.steps.len()) else { return };
        film.taken = true;
        copy(&self.from, &self.to);
        match crash.blow {
            Blow::Kill => {}
            Blow::PowerCut => self.cut(&film, step),
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
