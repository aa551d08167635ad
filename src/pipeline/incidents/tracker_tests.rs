//! Incidents open and close by themselves, by what attempts bring.

use super::*;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::{Cause, Certainty, DeliveryOutcome, Phase, Question, Side, TlsVerdict, every};
use crate::smtp::reply::Reply;
use crate::spool::incident::{FailureKind, IncidentEnd, MOST_NAMED, OpenedBy};
use std::time::Duration;

const MINUTE: i64 = 60_000;
/// As in service.
const SUSPICIOUS: usize = 5;

struct Course {
    tracker: Tracker,
    now: Timestamp,
    messages: u64,
}

impl Course {
    fn new() -> Self {
        Self { tracker: Tracker::default(), now: Timestamp(1_000 * MINUTE), messages: 0 }
    }

    fn later(&mut self, by: Duration) -> &mut Self {
        self.now = self.now.plus(by);
        self
    }

    fn tried(&mut self, domain: &str, outcome: &DeliveryOutcome) {
        self.messages += 1;
        let message = QueueId(self.messages);
        self.tracker.note(&DomainOutcome { domain, message, outcome }, self.now);
    }

    fn fails(&mut self, domains: std::ops::Range<u32>) -> &mut Self {
        domains.for_each(|nth| self.tried(&name(nth), &failed(&vanished(nth))));
        self
    }

    fn arrives(&mut self, domains: std::ops::Range<u32>) -> &mut Self {
        domains.for_each(|nth| self.tried(&name(nth), &delivered()));
        self
    }

    /// A suspicion is looked at, and this is found.
    fn judged(&mut self, found: Option<Judgement>) -> Vec<IncidentChange> {
        let suspicion = self.tracker.suspicion(SUSPICIOUS, self.now).expect("a suspicion");
        assert_eq!(self.tracker.suspicion(SUSPICIOUS, self.now), None, "nobody looks twice");
        self.tracker.judged(&suspicion.kind, found, self.now);
        self.tracker.take_changes(self.now)
    }

    fn opened(&mut self) -> Incident {
        let changes = self.judged(Some(filter()));
        let [IncidentChange::Opened(incident)] = changes.as_slice() else { panic!("{changes:?}") };
        incident.clone()
    }

    fn changes(&mut self) -> Vec<IncidentChange> {
        self.tracker.take_changes(self.now)
    }

    fn closed(&mut self) -> (IncidentEnd, usize) {
        let changes = self.changes();
        let [IncidentChange::Closed(incident, waiting)] = changes.as_slice() else { panic!("{changes:?}") };
        assert_eq!(incident.until, Some(self.now));
        (incident.ended.unwrap(), waiting.len())
    }
}

fn name(nth: u32) -> String {
    format!("d{nth:06}.example")
}

fn vanished(nth: u32) -> Cause {
    let question = Question { name: format!("_25._tcp.mx{nth}.example"), record_type: "TLSA".into() };
    Cause::DnsUnavailable { question, tried: Vec::new() }
}

fn failed(cause: &Cause) -> DeliveryOutcome {
    DeliveryOutcome::Failed { cause: cause.clone() }
}

fn delivered() -> DeliveryOutcome {
    let reply = Reply { code: 250, enhanced: None, lines: vec!["ok".into()] };
    DeliveryOutcome::Delivered { peer: every::peer(), tls: TlsVerdict::ClearText, reply, notify_passed_on: false }
}

fn filter() -> Judgement {
    Judgement {
        cause: "local-dns-count-filter".into(),
        also: Vec::new(),
        side: Side::Path,
        certainty: Certainty::Likely,
        sentence: "Answers with more than four TLSA records vanish.".into(),
        evidence: vec!["four pass, five do not".into()],
        what_to_do: Vec::new(),
    }
}

fn kind() -> FailureKind {
    FailureKind::of(&vanished(0)).unwrap()
}

#[test]
fn domains_that_begin_to_fail_alike_are_one_incident_of_the_side_that_was_found() {
    let mut course = Course::new();
    let first = course.now;
    course.arrives(100..200).fails(0..4).later(Duration::from_secs(60));
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None, "four may be chance");
    let incident = course.fails(4..12).opened();
    assert_eq!((incident.cause.as_str(), incident.side), ("local-dns-count-filter", Side::Path));
    assert_eq!((incident.since, incident.until, incident.domain_count, incident.messages), (first, None, 12, 12));
    assert!(incident.covers(&vanished(77), course.now) && !incident.covers(&every::cause()[0], course.now));
    course.fails(12..20);
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None, "it is known");
    assert_eq!(course.changes(), [], "not for each message");
    course.later(Duration::from_secs(10));
    let changes = course.changes();
    let [IncidentChange::Updated(incident)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((incident.domain_count, incident.messages), (20, 20));
}

#[test]
fn how_many_domains_are_suspicious_is_the_operators_choice() {
    let mut course = Course::new();
    course.arrives(100..200).fails(0..8);
    assert_eq!(course.tracker.suspicion(9, course.now), None);
    assert!(course.tracker.suspicion(8, course.now).is_some());
}

#[test]
fn a_few_domains_are_suspicious_where_there_are_no_others() {
    let mut course = Course::new();
    course.fails(0..3).opened();
    let mut course = Course::new();
    course.arrives(10..11).fails(0..3);
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None);
}

#[test]
fn domains_that_are_broken_for_days_and_messages_that_are_refused_are_no_incident() {
    let mut course = Course::new();
    for nth in 0..10 {
        course.later(Duration::from_secs(700)).fails(nth..nth + 1);
    }
    course.fails(0..10);
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None, "each broke in its own time");
    for nth in 20..40 {
        let cause = Cause::NullMx { domain: name(nth).parse().unwrap() };
        course.tried(&name(nth), &failed(&cause));
    }
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None);
}

#[test]
fn what_names_no_fault_of_ours_needs_most_of_the_domains_and_is_not_looked_at_again_at_once() {
    let mut course = Course::new();
    course.arrives(100..200).fails(0..6);
    assert_eq!(course.judged(None), [], "six of a hundred");
    course.fails(6..8);
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None);
    course.fails(8..13);
    assert!(course.tracker.suspicion(SUSPICIOUS, course.now).is_some(), "twice as many");
    let mut course = Course::new();
    let changes = course.arrives(100..103).fails(0..6).judged(None);
    let [IncidentChange::Opened(incident)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((incident.cause.as_str(), incident.certainty), ("dns-unavailable", Certainty::Inconclusive));
}

#[test]
fn a_domain_that_is_well_when_it_is_looked_at_does_not_count() {
    let mut course = Course::new();
    course.arrives(100..200).fails(0..5);
    let suspicion = course.tracker.suspicion(SUSPICIOUS, course.now).unwrap();
    course.tracker.is_well(&suspicion, course.now);
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None, "four are left");
    course.fails(5..6);
    assert!(course.tracker.suspicion(SUSPICIOUS, course.now).is_some());
}

#[test]
fn it_ends_when_affected_domains_work_again_and_what_waited_is_handed_over() {
    let mut course = Course::new();
    course.fails(0..12).opened();
    assert_eq!(course.tracker.take_probes(course.now), []);
    course.later(Duration::from_secs(15));
    let order = course.tracker.take_probes(course.now).remove(0);
    assert_eq!((order.kind.clone(), order.domains.len()), (kind(), 3));
    course.tracker.probed(&order, &order.domains[..1], course.now);
    assert_eq!((course.changes(), course.tracker.take_probes(course.now)), (vec![], vec![]));
    course.later(Duration::from_secs(15));
    let next = course.tracker.take_probes(course.now).remove(0);
    assert!(next.domains.iter().all(|domain| !order.domains.contains(domain)), "each in its turn");
    course.tracker.probed(&next, &[], course.now);
    assert_eq!(course.closed(), (IncidentEnd::Recovered, 12));
    assert_eq!(course.tracker.open_incidents().count(), 0);
}

/// "Your address is listed", as it is said to recipients.
fn listed() -> Cause {
    let reply = Reply {
        code: 451,
        enhanced: None,
        lines: vec!["Service unavailable; client host [192.0.2.7] blocked using a blocklist".into()],
    };
    Cause::Rejected { peer: every::peer(), phase: Phase::RcptTo, reply }
}

#[test]
fn what_only_messages_meet_is_not_over_before_mail_goes_out() {
    let mut course = Course::new();
    let kind = FailureKind::of(&listed()).expect("it speaks of this host");
    let fails = |course: &mut Course, domains: std::ops::Range<u32>| {
        domains.for_each(|nth| course.tried(&name(nth), &failed(&listed())));
    };
    fails(&mut course, 0..6);
    // The domain is well up to MAIL FROM, and that says nothing.
    let suspicion = course.tracker.suspicion(SUSPICIOUS, course.now).unwrap();
    course.tracker.is_well(&suspicion, course.now);
    let changes = course.changes();
    let [IncidentChange::Opened(opened)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((opened.side, opened.domain_count, opened.met_by_messages_alone), (Side::Here, 6, true));
    course.later(Duration::from_secs(60));
    assert_eq!(course.tracker.take_probes(course.now), [], "nobody is tried in vain");
    let order = ProbeOrder { kind, domains: vec![name(0)] };
    course.tracker.probed(&order, &[], course.now);
    assert_eq!(course.changes(), [], "nor would it count");
    // As after a restart.
    course.tracker = Tracker::default();
    course.tracker.restore(vec![opened.clone()], course.now);
    course.arrives(0..2);
    fails(&mut course, 3..4);
    course.arrives(0..2);
    assert_eq!(course.tracker.open_incidents().count(), 1, "it was met in between");
    course.arrives(2..3);
    assert_eq!(course.closed().0, IncidentEnd::Recovered);
}

#[test]
fn it_ends_when_mail_to_every_affected_domain_went_out() {
    let mut course = Course::new();
    course.fails(0..6).opened();
    course.arrives(0..5);
    assert_eq!(course.changes(), []);
    course.arrives(5..6);
    assert_eq!(course.closed(), (IncidentEnd::Delivered, 6));
}

#[test]
fn it_ends_after_a_long_quiet() {
    let mut course = Course::new();
    course.fails(0..6).opened();
    course.later(Duration::from_secs(3 * 3600));
    assert_eq!(course.closed().0, IncidentEnd::Quiet);
}

#[test]
fn one_that_comes_back_soon_is_the_same_one() {
    let mut course = Course::new();
    let first = course.fails(0..6).opened();
    course.arrives(0..6).changes();
    let again = course.later(Duration::from_secs(600)).fails(0..6).opened();
    assert_eq!((again.id, again.reopened, again.since, again.until), (first.id, 1, first.since, None));
    course.later(Duration::from_secs(16));
    assert_eq!(course.tracker.take_probes(course.now), [], "it is tried at leisure");
    course.arrives(0..6).changes();
    let other = course.later(Duration::from_secs(7200)).fails(0..6).opened();
    assert!(other.id > first.id && other.reopened == 0);
}

#[test]
fn a_check_that_fails_opens_one_that_ends_when_it_passes() {
    let mut course = Course::new();
    course.tracker.checked("spool", 2, "full", course.now);
    course.tracker.checked("validation", 1, "not by one of two", course.now);
    assert_eq!(course.changes(), []);
    course.tracker.checked("validation", 2, "no answer", course.now);
    let changes = course.changes();
    let [IncidentChange::Opened(incident)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((incident.side, &incident.opened_by), (Side::Resolver, &OpenedBy::Check("validation".into())));
    course.tracker.checked("validation", 2, "no answer", course.now);
    assert_eq!(course.changes(), [], "it is known");
    // Domains that fail say more of it, and their recovery does not end it.
    let changes = course.fails(0..6).judged(Some(filter()));
    let [IncidentChange::Updated(better)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((better.id, better.cause.as_str()), (incident.id, "local-dns-count-filter"));
    course.arrives(0..6);
    assert_eq!(course.changes(), []);
    assert!(!course.tracker.wants_check(course.now));
    course.later(Duration::from_secs(45));
    assert!(course.tracker.wants_check(course.now) && !course.tracker.wants_check(course.now));
    course.tracker.checked("validation", 0, "well", course.now);
    assert_eq!(course.closed().0, IncidentEnd::CheckPassed);
}

#[test]
fn what_was_open_at_the_stop_is_open_after_the_start_and_tried_again() {
    let mut course = Course::new();
    let before = course.fails(0..6).opened();
    let mut course = Course { tracker: Tracker::default(), ..course };
    course.tracker.restore(vec![before.clone()], course.now);
    assert_eq!(course.tracker.open_incidents().cloned().collect::<Vec<_>>(), std::slice::from_ref(&before));
    course.fails(0..7);
    assert_eq!(course.tracker.suspicion(SUSPICIOUS, course.now), None, "it is known");
    course.later(Duration::from_secs(15));
    let order = course.tracker.take_probes(course.now).remove(0);
    assert_eq!(order.domains, before.domains[..3]);
    let changes = course.changes();
    let [IncidentChange::Updated(incident)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((incident.domain_count, incident.messages), (7, 7), "nobody is counted twice");
}

#[test]
fn memory_is_bounded_whatever_fails() {
    let mut course = Course::new();
    course.fails(0..6).opened();
    course.fails(0..30_000).later(Duration::from_secs(10));
    let changes = course.changes();
    let [IncidentChange::Updated(incident)] = changes.as_slice() else { panic!("{changes:?}") };
    assert_eq!((incident.domains.len(), incident.domain_count, incident.messages), (MOST_NAMED, 10_000, 30_006));
    course.later(Duration::from_secs(15));
    assert_eq!(course.tracker.take_probes(course.now)[0].domains.len(), 3);
}
