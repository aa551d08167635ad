//! An incident that goes on: whom it affects, and which of the domains are tried again when (pure).

use super::failing::Failing;
use super::judge::Judgement;
use crate::clock::Timestamp;
use crate::spool::incident::{FailureKind, Incident, IncidentId, MOST_NAMED, OpenedBy};
use std::collections::BTreeSet;
use std::time::Duration;

/// Domains of one incident that are tried again at once.
const PROBED_AT_ONCE: usize = 3;
/// From one such try to the next: soon at first, later at leisure.
const PROBE_EVERY: Duration = Duration::from_secs(15);
const PROBE_EVERY_LATER: Duration = Duration::from_secs(45);
/// It doubles with each time that an incident came back.
const MOST_DOUBLINGS: u32 = 8;
const LATER: Duration = Duration::from_secs(3600);
/// How often a check that opened one is made again: others may be asked by it.
const CHECK_EVERY: Duration = Duration::from_secs(30);
const CHECK_EVERY_LATER: Duration = Duration::from_secs(300);
/// How often it is told that more domains or messages are affected.
const TELL_EVERY: Duration = Duration::from_secs(10);
/// Affected domains that are told apart.
const MOST_AFFECTED: usize = 10_000;

/// See the module.
#[derive(Debug)]
pub(super) struct OpenIncident {
    pub(super) incident: Incident,
    pub(super) affected: BTreeSet<String>,
    /// Those of them that mail went out to since it was last met.
    worked: BTreeSet<String>,
    pub(super) next_probe: Timestamp,
    /// When the check that opened it is to be made again.
    pub(super) next_check: Timestamp,
    /// The domain after which the next try goes on.
    pub(super) probed_last: String,
    /// Messages counted before a restart.
    pub(super) messages_before: u64,
    pub(super) judged: Judged,
    /// The numbers of domains and messages as they were last told, and when.
    pub(super) last_told: (u64, u64, Timestamp),
}

/// Whether domains that fail were looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Judged {
    Yes,
    /// A check of this host opened it.
    NotYet,
}

/// Until the next try. One that ended by such a try and came back is tried ever more seldom: what mail
/// meets there may lie beyond what is tried.
pub(super) fn pause(incident: &Incident, now: Timestamp) -> Duration {
    let late = now.since(incident.since) > LATER;
    let pause = if late { PROBE_EVERY_LATER } else { PROBE_EVERY };
    pause.saturating_mul(1 << incident.reopened.min(MOST_DOUBLINGS)).min(LATER)
}

/// What an incident opens with.
pub(super) struct IncidentOpening {
    pub(super) found: Judgement,
    pub(super) since: Timestamp,
    pub(super) opened_by: OpenedBy,
}

pub(super) fn fresh(id: IncidentId, kind: &FailureKind, opening: IncidentOpening) -> Incident {
    let IncidentOpening { found, since, opened_by } = opening;
    Incident {
        id,
        kind: kind.clone(),
        cause: found.cause,
        side: found.side,
        certainty: found.certainty,
        since,
        until: None,
        ended: None,
        opened_by,
        domains: Vec::new(),
        domain_count: 0,
        messages: 0,
        sentence: String::new(),
        evidence: Vec::new(),
        what_to_do: Vec::new(),
        reopened: 0,
        told: None,
        met_by_messages_alone: false,
    }
}

pub(super) fn reopened(ended: Incident) -> Incident {
    Incident { until: None, ended: None, reopened: ended.reopened.saturating_add(1), ..ended }
}

impl OpenIncident {
    /// As it is after a restart, or at its opening.
    pub(super) fn again(incident: Incident, now: Timestamp) -> Self {
        Self {
            affected: incident.domains.iter().cloned().collect(),
            worked: BTreeSet::new(),
            next_probe: now.plus(pause(&incident, now)),
            next_check: now.plus(CHECK_EVERY),
            probed_last: String::new(),
            messages_before: incident.messages,
            last_told: (incident.domain_count, incident.messages, now),
            judged: if incident.opened_by == OpenedBy::Domains { Judged::Yes } else { Judged::NotYet },
            incident,
        }
    }

    pub(super) fn affects(&mut self, domain: &str, failing: &Failing) {
        if self.affected.len() < MOST_AFFECTED && self.affected.insert(domain.to_owned()) {
            self.incident.domain_count = self.incident.domain_count.saturating_add(1);
            if self.incident.domains.len() < MOST_NAMED {
                self.incident.domains.push(domain.to_owned());
            }
        }
        self.worked.clear();
        self.incident.met_by_messages_alone |= failing.met_by_messages_alone;
        // After a restart those of before are met again.
        self.incident.messages = self.messages_before.max(failing.message_count());
    }

    /// Mail to a domain went out. Whether that is the end of what only messages meet: as many affected domains
    /// have worked since it was last met as would be tried again.
    pub(super) fn worked(&mut self, domain: &str) -> bool {
        if !self.incident.met_by_messages_alone || !self.affected.contains(domain) {
            return false;
        }
        self.worked.insert(domain.to_owned());
        self.worked.len() >= PROBED_AT_ONCE.min(self.affected.len())
    }

    /// More domains or messages than were told of, now and then.
    pub(super) fn news(&mut self, now: Timestamp) -> Option<Incident> {
        let (domains, messages, at) = self.last_told;
        let Incident { domain_count, messages: count, .. } = self.incident;
        if (domains, messages) == (domain_count, count) || now.since(at) < TELL_EVERY {
            return None;
        }
        self.last_told = (domain_count, count, now);
        Some(self.incident.clone())
    }

    /// Whether the check that opened it is to be made again now.
    pub(super) fn wants_check(&mut self, now: Timestamp) -> bool {
        if self.incident.opened_by == OpenedBy::Domains || self.next_check > now {
            return false;
        }
        let late = now.since(self.incident.since) > LATER;
        self.next_check = now.plus(if late { CHECK_EVERY_LATER } else { CHECK_EVERY });
        true
    }

    /// A few of the domains that fail, each in its turn; those known before a restart at first.
    pub(super) fn next_domains(&mut self, failing: Option<&Failing>) -> Vec<String> {
        let mut all: Vec<&str> = failing.map(|failing| failing.domains().collect()).unwrap_or_default();
        if all.is_empty() {
            all = self.affected.iter().map(String::as_str).collect();
        }
        let after = all.partition_point(|domain| *domain <= self.probed_last.as_str());
        all.rotate_left(after);
        let next: Vec<String> = all.into_iter().take(PROBED_AT_ONCE).map(str::to_owned).collect();
        if let Some(last) = next.last() {
            self.probed_last.clone_from(last);
        }
        next
    }
}
