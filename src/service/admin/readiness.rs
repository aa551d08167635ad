//! Whether a message handed in now would be taken, and carried out by a relay that works (RFC 5321 §4.2.5).
//!
//! What keeps mail from going out for a reason elsewhere stands in further lines below `ready`: no reason to
//! hand it in elsewhere, and one to look.

use super::AdminPort;
use crate::clock::Timestamp;
use crate::resolve::driver::Dns;
use crate::resolve::paths::standing::PathStanding;
use crate::spool::{Spool, USUAL_SIZE};

/// Attempts in a row that a fault of the relay itself ended, from which on it is no chance.
const MOST_BROKEN: u32 = 3;

/// How the relay stands.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Readiness {
    /// Why a message would not be taken, or not be carried. None: ready.
    pub obstacles: Vec<String>,
    /// What else is not as it should be.
    pub doubts: Vec<String>,
}

impl Readiness {
    pub(super) fn is_ready(&self) -> bool {
        self.obstacles.is_empty()
    }

    /// A line each.
    pub(super) fn text(&self) -> String {
        let obstacles = self.obstacles.iter().map(|why| format!("not ready: {why}\n"));
        let ready = self.is_ready().then(|| "ready\n".to_owned());
        obstacles.chain(ready).chain(self.doubts.iter().map(|doubt| format!("degraded: {doubt}\n"))).collect()
    }
}

/// How it stands now.
pub(super) fn of(admin: &AdminPort) -> Readiness {
    if admin.stop.is_cancelled() {
        return Readiness { obstacles: vec!["the relay is stopping".to_owned()], ..Readiness::default() };
    }
    let pipeline = admin.pipelines.borrow().clone();
    let spool = no_room(admin.spool.as_ref(), admin.clock.now());
    let deaf = admin.ports.deaf().into_iter().map(|port| format!("no connection is taken at {port}"));
    let sends_away = admin.acceptors.borrow().sends_away();
    let obstacles = spool.into_iter().chain(deaf).chain(sends_away).chain(broken(pipeline.broken_in_a_row()));
    Readiness { obstacles: obstacles.collect(), doubts: doubts(&pipeline.out.dns) }
}

/// Why the spool takes no message of usual size: how the disk or the database stands, or what has failed.
pub(in crate::service) fn no_room(spool: &dyn Spool, now: Timestamp) -> Option<String> {
    let full = spool.full_disk(now).map(|full| full.to_string());
    let away = || spool.away(now).map(|away| away.to_string());
    full.or_else(away).or_else(|| spool.admit(USUAL_SIZE).err().map(|error| error.to_string()))
}

fn broken(in_a_row: u32) -> Option<String> {
    let why = "a fault of the relay itself ended the last {} attempts to deliver, whose mail waits: see its log";
    (in_a_row >= MOST_BROKEN).then(|| why.replace("{}", &in_a_row.to_string()))
}

/// Paths to the DNS that have not carried lately what they were asked for.
fn doubts(dns: &Dns) -> Vec<String> {
    let troubled = dns.standings().filter(|(_, standing)| *standing != PathStanding::Good);
    troubled.map(|(path, standing)| format!("DNS by {path}: {}", standing.phrase())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_obstacle_has_its_line_and_doubts_alone_do_not_make_it_unready() {
        let doubts = vec!["DNS by udp://192.0.2.1:53: silent".to_owned()];
        let ready = Readiness { doubts: doubts.clone(), ..Readiness::default() };
        assert!(ready.is_ready());
        assert_eq!(ready.text(), "ready\ndegraded: DNS by udp://192.0.2.1:53: silent\n");
        let unready = Readiness { obstacles: vec!["one".to_owned(), "two".to_owned()], doubts };
        assert!(!unready.is_ready());
        assert_eq!(unready.text().lines().count(), 3);
        assert!(unready.text().starts_with("not ready: one\nnot ready: two\ndegraded: "));
    }

    #[test]
    fn one_broken_attempt_is_chance_and_three_in_a_row_are_not() {
        assert_eq!([0, 2].map(broken), [None, None]);
        assert!(broken(3).is_some_and(|why| why.contains("the last 3 attempts")));
    }
}
