//! How the paths to the DNS stand: who is put back, and what each has carried lately.

use super::driver::Dns;
use super::event::DnsEvent;
use super::paths::carried::TypeCarried;
use super::paths::standing::PathStanding;
use super::paths::{FetchError, Path, PathName};
use crate::clock::Timestamp;
use hickory_proto::rr::Name;

impl Dns {
    /// A failure counts against a path only when another one had the answer: what nobody knows
    /// is the zone's own fault.
    pub(super) fn note_health(&self, good: &Path, faults: &[(&Path, FetchError)]) {
        let now = self.clock.now();
        let notes = std::iter::once((good, Ok(()))).chain(faults.iter().map(|(path, _)| (*path, Err(()))));
        for (path, note) in notes {
            path.note(note, now);
            self.tell_news(path, now);
        }
    }

    /// What a path has carried counts whether or not another one had the answer.
    pub(super) fn note_carried(&self, path: &Path, name: &Name, record_type: &'static str, came: Option<usize>) {
        let now = self.clock.now();
        if let Some(carried) = path.carried(name, record_type, came, now) {
            (self.listener)(&DnsEvent::PathCarried { path: &path.name, carried });
        }
        self.tell_news(path, now);
    }

    pub(super) fn tell_news(&self, path: &Path, now: Timestamp) {
        if let Some(standing) = path.news(now) {
            (self.listener)(&DnsEvent::PathChanged { path: &path.name, standing });
        }
    }

    /// Tells how the paths stand now: penalties fade and what was lost grows old without a look-up.
    pub fn tell_standings(&self) {
        let now = self.clock.now();
        for path in self.paths_now().iter() {
            for carried in path.lately(now) {
                (self.listener)(&DnsEvent::PathCarried { path: &path.name, carried });
            }
            self.tell_news(path, now);
        }
    }

    /// What every path has carried lately, by type.
    pub fn lately(&self) -> Vec<(PathName, Vec<TypeCarried>)> {
        let now = self.clock.now();
        self.paths_now().iter().map(|path| (path.name.clone(), path.lately(now))).collect()
    }

    /// The present standing of every path.
    pub fn standings(&self) -> impl Iterator<Item = (PathName, PathStanding)> {
        let now: Timestamp = self.clock.now();
        let paths = self.paths_now();
        let standings: Vec<_> = paths.iter().map(|path| (path.name.clone(), path.standing(now))).collect();
        standings.into_iter()
    }
}
