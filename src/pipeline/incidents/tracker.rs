//! From the outcomes of attempts to incidents that open and close by themselves (pure).
//!
//! Distinct domains that begin to fail in the same way within a window are suspicious; what stands
//! behind it is found out elsewhere, once, and said here ([`Tracker::judged`]). An open incident is
//! tried again for some of its domains ([`Tracker::take_probes`]); it ends when they work, when mail to
//! all of them went out, when the check that failed passes, or after a long quiet. What is met only behind
//! MAIL FROM no such try can see: there it takes mail that goes out. Everything that is remembered is
//! bounded; what counts over a restart is in the ledger.

use super::failing::Failing;
use super::judge::{FailureExtent, Judgement, judge};
use super::ongoing::{IncidentOpening, Judged, OpenIncident, fresh, pause, reopened};
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::{Certainty, DeliveryOutcome, Side};
use crate::spool::incident::{FailureKind, Incident, IncidentEnd, IncidentId, OpenedBy, bounded};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Domains that begin to fail alike within it are looked at together.
const WINDOW: Duration = Duration::from_secs(600);
/// So many are, where mail was tried to no other domain.
const SUSPICIOUS_IF_ALL: usize = 3;
/// Domains of which it is remembered that mail was tried to them.
const MOST_TRIED: usize = 20_000;
/// How long a suspicion that came to nothing is not raised again, unless twice as many fail.
const DISMISSED: Duration = Duration::from_secs(600);
/// An incident of the same kind and cause so soon after its end is the same one.
const SAME_AGAIN: Duration = Duration::from_secs(1800);
/// Ended incidents of which that is remembered.
const MOST_ENDED: usize = 16;
/// Nothing has failed for so long: more than two of the longest pauses between attempts.
const QUIET: Duration = Duration::from_secs(9000);
/// How often room is made where there is none.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Checks of this host, with the word for the fault and its side.
const CHECKS: &[(&str, &str, Side)] = &[
    ("canary", "inconclusive", Side::Path),
    ("resolver", "resolver-side", Side::Resolver),
    ("validation", "resolver-side", Side::Resolver),
    ("port-25", "local-port25-blocked", Side::Path),
    ("clock", "local-clock-wrong", Side::Here),
];
/// What `relay check --self` says of a check that finds a fault.
const FAULT: u8 = 2;
/// And of one that finds none; a warning is none.
const NO_FAULT: u8 = 1;

/// What has become of an incident.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum IncidentChange {
    /// It has opened, or is open again.
    Opened(Incident),
    /// More is known of it.
    Updated(Incident),
    /// It has ended; these messages waited for that.
    Closed(Incident, Vec<QueueId>),
}

/// Many domains fail alike: one of them is to be looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Suspicion {
    /// In what way.
    pub(crate) kind: FailureKind,
    /// One of the domains.
    pub(crate) domain: String,
}

/// Domains of an open incident that are to be tried again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ProbeOrder {
    /// In what way they fail.
    pub(crate) kind: FailureKind,
    /// The domains.
    pub(crate) domains: Vec<String>,
}

/// What became of mail to a domain in one attempt.
#[derive(Clone, Copy, Debug)]
pub(crate) struct DomainOutcome<'a> {
    /// The domain of the recipient.
    pub(crate) domain: &'a str,
    /// The message.
    pub(crate) message: QueueId,
    /// How it ended.
    pub(crate) outcome: &'a DeliveryOutcome,
}

/// What is known of failures and incidents.
#[derive(Debug, Default)]
pub(crate) struct Tracker {
    failing: BTreeMap<FailureKind, Failing>,
    tried: BTreeMap<String, Timestamp>,
    /// When room was made there last.
    swept: Option<Timestamp>,
    /// Somebody looks at one of the domains.
    looking: BTreeSet<FailureKind>,
    dismissed: BTreeMap<FailureKind, Dismissal>,
    open: BTreeMap<FailureKind, OpenIncident>,
    ended: Vec<Incident>,
    changes: Vec<IncidentChange>,
    last_id: u64,
}

#[derive(Debug)]
struct Dismissal {
    at: Timestamp,
    failing: usize,
}

impl Tracker {
    /// Takes up incidents that were open when the relay stopped.
    pub(crate) fn restore(&mut self, known: Vec<Incident>, now: Timestamp) {
        for incident in known {
            self.last_id = self.last_id.max(incident.id.0);
            if incident.is_open() {
                self.open.insert(incident.kind.clone(), OpenIncident::again(incident, now));
            } else if self.ended.len() < MOST_ENDED {
                self.ended.push(incident);
            }
        }
    }

    /// Mail was tried.
    pub(crate) fn note(&mut self, seen: &DomainOutcome<'_>, now: Timestamp) {
        self.tried(seen.domain, now);
        match seen.outcome {
            DeliveryOutcome::Delivered { .. } => self.recovered(seen.domain, now),
            DeliveryOutcome::Failed { cause } => {
                let Some(kind) = FailureKind::of(cause) else { return };
                let failing = self.failing.entry(kind.clone()).or_insert_with(|| Failing::new(cause, now));
                failing.failed(seen.domain, cause, now);
                failing.message(seen.message);
                if let Some(open) = self.open.get_mut(&kind) {
                    open.affects(seen.domain, failing);
                }
            }
        }
    }

    fn tried(&mut self, domain: &str, now: Timestamp) {
        if let Some(known) = self.tried.get_mut(domain) {
            *known = now;
            return;
        }
        // Not for each of a million: that would cost more than the mail.
        if self.tried.len() >= MOST_TRIED && self.swept.is_none_or(|at| now.since(at) > SWEEP_EVERY) {
            self.swept = Some(now);
            self.tried.retain(|_, at| now.since(*at) <= WINDOW);
        }
        if self.tried.len() < MOST_TRIED {
            self.tried.insert(domain.to_owned(), now);
        }
    }

    fn recovered(&mut self, domain: &str, now: Timestamp) {
        let worked = self.open.iter_mut().filter_map(|(kind, open)| open.worked(domain).then(|| kind.clone()));
        for kind in worked.collect::<Vec<_>>() {
            self.close(&kind, IncidentEnd::Recovered, now);
        }
        let had_failed = |failing: &mut Failing| failing.recovered(domain) && failing.is_over();
        let over = self.failing.iter_mut().filter_map(|(kind, failing)| had_failed(failing).then(|| kind.clone()));
        for kind in over.collect::<Vec<_>>() {
            if self.open.get(&kind).is_some_and(|open| open.incident.opened_by == OpenedBy::Domains) {
                self.close(&kind, IncidentEnd::Delivered, now);
            }
        }
    }

    /// The next suspicion, where so many domains fail alike; whoever takes it says what was found out
    /// ([`Tracker::judged`]).
    pub(crate) fn suspicion(&mut self, suspicious: usize, now: Timestamp) -> Option<Suspicion> {
        let kinds: Vec<FailureKind> = self.failing.keys().cloned().collect();
        let found = kinds.into_iter().find_map(|kind| {
            let extent = self.extent(&kind, now);
            let is_settled = self.open.get(&kind).is_some_and(|open| open.judged == Judged::Yes);
            let was_dismissed = self.dismissed.get(&kind).is_some_and(|dismissal| dismissal.holds(extent, now));
            if is_settled || was_dismissed || self.looking.contains(&kind) || !extent.is_suspicious(suspicious) {
                return None;
            }
            let domain = self.failing.get(&kind)?.news(WINDOW, now).first()?.to_string();
            Some(Suspicion { kind, domain })
        })?;
        self.looking.insert(found.kind.clone());
        Some(found)
    }

    fn extent(&self, kind: &FailureKind, now: Timestamp) -> FailureExtent {
        let tried = self.tried.values().filter(|at| now.since(**at) <= WINDOW).count();
        let none = FailureExtent { failing: 0, tried, servers: 0 };
        let extent =
            |known: &Failing| FailureExtent { failing: known.news(WINDOW, now).len(), tried, servers: known.servers() };
        self.failing.get(kind).map_or(none, extent)
    }

    /// What was found out about the domain of a suspicion; `None` where that could not be done.
    pub(crate) fn judged(&mut self, kind: &FailureKind, found: Option<Judgement>, now: Timestamp) {
        self.looking.remove(kind);
        let extent = self.extent(kind, now);
        let Some(failing) = self.failing.get(kind) else { return };
        let found = found.unwrap_or_else(|| Judgement::by_cause(&failing.sample));
        let since = failing.since(WINDOW, now);
        match judge(found, extent) {
            None => {
                self.dismissed.insert(kind.clone(), Dismissal { at: now, failing: extent.failing });
            }
            Some(found) if self.open.contains_key(kind) => self.learn(kind, found),
            Some(found) => self.open(kind, IncidentOpening { found, since, opened_by: OpenedBy::Domains }, now),
        }
    }

    /// The domain of a suspicion is in good order as far as one can look without a message. It does not count
    /// any more, unless only messages meet the fault.
    pub(crate) fn is_well(&mut self, suspicion: &Suspicion, now: Timestamp) {
        let Some(failing) = self.failing.get_mut(&suspicion.kind) else {
            self.looking.remove(&suspicion.kind);
            return;
        };
        if failing.met_by_messages_alone {
            self.judged(&suspicion.kind, None, now);
        } else {
            failing.recovered(&suspicion.domain);
            self.looking.remove(&suspicion.kind);
        }
    }

    /// What a check of this host opened has a better explanation.
    fn learn(&mut self, kind: &FailureKind, found: Judgement) {
        let Some(open) = self.open.get_mut(kind) else { return };
        open.judged = Judged::Yes;
        if found.certainty >= open.incident.certainty {
            found.tell(&mut open.incident);
        }
        self.changes.push(IncidentChange::Updated(open.incident.clone()));
    }

    fn open(&mut self, kind: &FailureKind, opening: IncidentOpening, now: Timestamp) {
        let IncidentOpening { found, since, opened_by } = opening;
        let is_same = |old: &Incident| {
            old.kind == *kind && old.cause == found.cause && old.until.is_some_and(|end| now.since(end) <= SAME_AGAIN)
        };
        let judged = if opened_by == OpenedBy::Domains { Judged::Yes } else { Judged::NotYet };
        let mut incident = match self.ended.iter().position(is_same) {
            Some(place) => reopened(self.ended.remove(place)),
            None => fresh(self.next_id(now), kind, IncidentOpening { since, opened_by, found: found.clone() }),
        };
        found.tell(&mut incident);
        let mut open = OpenIncident::again(incident, now);
        open.judged = judged;
        if let Some(failing) = self.failing.get(kind) {
            let domains: Vec<&str> = failing.news(WINDOW, now);
            domains.into_iter().for_each(|domain| open.affects(domain, failing));
        }
        open.last_told = (open.incident.domain_count, open.incident.messages, now);
        self.changes.push(IncidentChange::Opened(open.incident.clone()));
        self.open.insert(kind.clone(), open);
    }

    fn next_id(&mut self, now: Timestamp) -> IncidentId {
        self.last_id = u64::try_from(now.0).unwrap_or(0).max(self.last_id.saturating_add(1));
        IncidentId(self.last_id)
    }

    /// A check of this host has said how it stands, in the numbers of `relay check`.
    pub(crate) fn checked(&mut self, check: &str, status: u8, detail: &str, now: Timestamp) {
        let Some(kind) = FailureKind::of_check(check) else { return };
        let opened_by = OpenedBy::Check(check.to_owned());
        let open = self.open.get(&kind).map(|open| open.incident.opened_by == opened_by);
        match (status, open) {
            (FAULT, None) => {
                let Some((_, cause, side)) = CHECKS.iter().find(|(known, ..)| *known == check) else { return };
                let found = Judgement {
                    cause: (*cause).to_owned(),
                    also: Vec::new(),
                    side: *side,
                    certainty: Certainty::Likely,
                    sentence: format!("The check \"{check}\" of this host has found a fault: {detail}"),
                    evidence: bounded([format!("{check}: {detail}")]),
                    what_to_do: vec!["run: relay check --self".to_owned()],
                };
                self.open(&kind, IncidentOpening { found, since: now, opened_by }, now);
            }
            (0..=NO_FAULT, Some(true)) => self.close(&kind, IncidentEnd::CheckPassed, now),
            _ => {}
        }
    }

    /// Whether this host is to be looked at again now: a check of it has opened an incident.
    pub(crate) fn wants_check(&mut self, now: Timestamp) -> bool {
        // Each has its time, so each is asked.
        self.open.values_mut().filter_map(|open| open.wants_check(now).then_some(())).count() > 0
    }

    /// The domains that are to be tried again now, of every open incident whose time has come.
    pub(crate) fn take_probes(&mut self, now: Timestamp) -> Vec<ProbeOrder> {
        let failing = &self.failing;
        let by_trying = |open: &OpenIncident| !open.incident.met_by_messages_alone && open.next_probe <= now;
        let due = self.open.iter_mut().filter(|(_, open)| by_trying(open));
        let order = |(kind, open): (&FailureKind, &mut OpenIncident)| {
            open.next_probe = now.plus(pause(&open.incident, now));
            let domains = open.next_domains(failing.get(kind));
            (!domains.is_empty()).then(|| ProbeOrder { kind: kind.clone(), domains })
        };
        due.filter_map(order).collect()
    }

    /// What came of such a try: which of the domains still fail in the same way.
    pub(crate) fn probed(&mut self, order: &ProbeOrder, still_failing: &[String], now: Timestamp) {
        let shows_the_end =
            |open: &OpenIncident| open.incident.opened_by == OpenedBy::Domains && !open.incident.met_by_messages_alone;
        if still_failing.is_empty() && self.open.get(&order.kind).is_some_and(shows_the_end) {
            self.close(&order.kind, IncidentEnd::Recovered, now);
        }
    }

    /// What has become of incidents since this was last asked.
    pub(crate) fn take_changes(&mut self, now: Timestamp) -> Vec<IncidentChange> {
        let is_quiet = |(kind, open): (&FailureKind, &OpenIncident)| {
            let last = self.failing.get(kind).map_or(open.incident.since, |failing| failing.last);
            let by_domains = open.incident.opened_by == OpenedBy::Domains;
            (by_domains && now.since(last) > QUIET).then(|| kind.clone())
        };
        let quiet: Vec<FailureKind> = self.open.iter().filter_map(is_quiet).collect();
        quiet.iter().for_each(|kind| self.close(kind, IncidentEnd::Quiet, now));
        let news = self.open.values_mut().filter_map(|open| open.news(now));
        self.changes.extend(news.map(IncidentChange::Updated));
        self.failing.retain(|kind, failing| self.open.contains_key(kind) || !failing.is_stale(now));
        self.dismissed.retain(|_, dismissal| now.since(dismissal.at) <= DISMISSED);
        std::mem::take(&mut self.changes)
    }

    /// The postmaster knows of it.
    pub(crate) fn told(&mut self, id: IncidentId, now: Timestamp) -> Option<Incident> {
        let open = self.open.values_mut().find(|open| open.incident.id == id)?;
        open.incident.told = Some(now);
        Some(open.incident.clone())
    }

    /// The incidents that are open.
    pub(crate) fn open_incidents(&self) -> impl Iterator<Item = &Incident> {
        self.open.values().map(|open| &open.incident)
    }

    fn close(&mut self, kind: &FailureKind, ended: IncidentEnd, now: Timestamp) {
        let Some(OpenIncident { incident, .. }) = self.open.remove(kind) else { return };
        let waited = self.failing.remove(kind).map(|mut failing| failing.take_messages()).unwrap_or_default();
        let incident = Incident { until: Some(now), ended: Some(ended), ..incident };
        self.ended.insert(0, incident.clone());
        self.ended.truncate(MOST_ENDED);
        self.changes.push(IncidentChange::Closed(incident, waited));
    }
}

impl FailureExtent {
    const fn is_suspicious(self, suspicious: usize) -> bool {
        self.failing >= suspicious || (self.failing >= SUSPICIOUS_IF_ALL && self.failing == self.tried)
    }
}

impl Dismissal {
    fn holds(&self, extent: FailureExtent, now: Timestamp) -> bool {
        now.since(self.at) <= DISMISSED && extent.failing < self.failing.saturating_mul(2)
    }
}
