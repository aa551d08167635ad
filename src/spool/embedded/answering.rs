//! What the state writer reads for those who ask it: behind all that was to be written before, or beside what
//! a full disk does not take.

use super::jobs::{RecordPlace, StateJob, Waiting};
use super::writer::Writer;
use crate::envelope::{Envelope, QueueId};
use crate::spool::{SpoolEntry, SpoolError};

impl Writer {
    /// Reads while writes wait. Gives back what asks for a row that may be among them.
    pub(super) fn read_meanwhile(&self, read: StateJob) -> Option<StateJob> {
        let is_there = |id: &QueueId| matches!(self.state.place(*id), Ok(Some(_)));
        let can_be_read = match &read {
            StateJob::Load(ids, _) => ids.iter().all(is_there),
            StateJob::Place(id, _) => is_there(id),
            StateJob::History(..) => true,
            StateJob::Insert(..)
            | StateJob::Settle(..)
            | StateJob::Forward(_)
            | StateJob::Keep(..)
            | StateJob::Sweep
            | StateJob::Tidy
            | StateJob::Close => false,
        };
        if !can_be_read {
            return Some(read);
        }
        self.read(read);
        None
    }

    /// Answers one who reads.
    pub(super) fn read(&self, job: StateJob) {
        match job {
            StateJob::Load(ids, answer) => {
                let loaded = ids.into_iter().map(|id| self.load(id)).collect::<rusqlite::Result<Vec<_>>>();
                let _ = answer.send(match loaded {
                    Ok(loaded) => Ok(self.hand_to_leases(loaded.into_iter().flatten().collect())),
                    Err(error) => {
                        self.fail(error);
                        Err(SpoolError::Stopped)
                    }
                });
            }
            StateJob::Place(id, answer) => {
                let _ = answer.send(self.state.place(id).map_err(SpoolError::from));
            }
            StateJob::History(id, answer) => {
                let _ = answer.send(self.state.history(id).map_err(SpoolError::from));
            }
            StateJob::Sweep => self.sweep(),
            // It follows every batch.
            StateJob::Tidy => {}
            StateJob::Insert(..)
            | StateJob::Settle(..)
            | StateJob::Forward(_)
            | StateJob::Keep(..)
            | StateJob::Close => {}
        }
    }

    /// Memory has them before anything else can happen to their records.
    fn hand_to_leases(&self, loaded: Vec<Waiting>) -> Vec<Waiting> {
        let mut index = self.shared.index();
        loaded.iter().for_each(|waiting| index.loaded(waiting.clone()));
        drop(index);
        loaded
    }

    /// Reads a message; if its row makes no sense, from its record, which errs towards a
    /// duplicate. `None` when neither can be read: it is counted, and stays claimed until a restart.
    fn load(&self, id: QueueId) -> rusqlite::Result<Option<Waiting>> {
        let Some(place) = self.state.place(id)? else {
            self.shared.count_damage(id);
            return Ok(None);
        };
        match self.state.load(id, place) {
            Ok(waiting) => Ok(Some(waiting)),
            Err(error) if error.sqlite_error_code().is_some() => Err(error),
            Err(_) => Ok(self.load_from_record(id, place)),
        }
    }

    fn load_from_record(&self, id: QueueId, place: RecordPlace) -> Option<Waiting> {
        let record = self.shared.read_record(id, place).ok()?;
        let envelope: Envelope = serde_json::from_slice(&record.envelope).ok()?;
        let mut entry = SpoolEntry::new(id, envelope, record.content.size());
        if let Ok(states) = self.state.recipients(id, entry.recipients.len()) {
            entry.recipients = states;
        }
        Some(Waiting { entry, place })
    }
}
