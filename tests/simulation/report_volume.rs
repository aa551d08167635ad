//! What one client can do with one message, or with many from nobody: how many reports it brings, and
//! how large they are (RFC 3461 §5.2, RFC 5321 §6.1). Crashes among them lose none and double none.

use crate::behaviour::DomainBehaviour::{self, Fine, Greylisting, NullMx, Refusing};
use crate::crash_snapshot::{CRASH_KINDS, Crash};
use crate::invariants::{SubmissionResult, message_id};
use crate::world::{ALWAYS, BEGIN, SENDER, Size, Submission, What, World};
use crate::{side_by_side, wanted};
use dane_relay::lab::mx::behaviour::Received;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of a host that has not got it: its first host refuses this sender, too.
const FALSE_SENDER: &str = "mallory@d0.test";
const POSTMASTER: &str = "postmaster@office.test";
/// Hosts that one message goes to, more than a usual world has; `SIMULATION_HOSTS` asks for more.
const HOSTS: u64 = 60;
/// Of the durable steps one in so many is tried; `SIMULATION_REPORTS_STRIDE=1` tries them all.
const STRIDE: u64 = 3;
/// How long it takes to connect to each host, where only one is taken at a time.
const CONNECT_DELAY: Duration = Duration::from_secs(25);

fn domains(behaviours: &[DomainBehaviour]) -> BTreeMap<String, DomainBehaviour> {
    behaviours.iter().enumerate().map(|(n, behaviour)| (format!("d{n}.test"), *behaviour)).collect()
}

fn hosts() -> usize {
    usize::try_from(wanted("SIMULATION_HOSTS", HOSTS)).unwrap()
}

fn submission(number: usize, from: &'static str, to: &BTreeMap<String, DomainBehaviour>) -> Submission {
    let to = to.keys().map(|domain| format!("r{number}@{domain}")).collect();
    Submission { number, at: BEGIN, from, ret: "", to, notify: "", padding: 0 }
}

/// These submissions, one after the other, to hosts that are reached one after the other.
fn world(behaviours: BTreeMap<String, DomainBehaviour>, submissions: Vec<Submission>, pause: Duration) -> World {
    let sent = (0_u32..).zip(submissions).map(|(nth, submission)| {
        let at = BEGIN.plus(pause * nth);
        (at, What::Send(Submission { at, ..submission }))
    });
    let size = if behaviours.len() > 20 { Size::Usual } else { Size::Small };
    let mut world = World::made_of(0, size, behaviours, sent.collect());
    for (domain, _) in world.behaviours.iter().filter(|(name, behaviour)| *name != "d0.test" && **behaviour != NullMx) {
        world.network.delay(domain, CONNECT_DELAY);
    }
    world.config.delivery.max_concurrent = 1;
    world
}

impl World {
    /// What came to this reader, each mail once.
    fn mail_to(&self, reader: &str) -> Vec<Received> {
        let mut known = BTreeSet::new();
        let mail = self.lab.mx("office.test").unwrap().messages();
        mail.into_iter().filter(|mail| mail.rcpt_to == [reader] && known.insert(message_id(mail))).collect()
    }

    /// The lost reports that the postmaster has read of, as often as he has.
    fn lost(&self) -> Vec<String> {
        let text = |mail: &Received| String::from_utf8(mail.content.clone()).unwrap();
        let id = |line: &str| {
            let shown = line.strip_prefix("  Report:   relay why ").or_else(|| line.strip_prefix("X-Relay-Queue-Id: "));
            shown.map(str::to_owned)
        };
        self.mail_to(POSTMASTER).iter().flat_map(|mail| text(mail).lines().filter_map(id).collect::<Vec<_>>()).collect()
    }
}

fn octets(mail: &[Received]) -> usize {
    mail.iter().map(|mail| mail.content.len()).sum()
}

#[test]
fn one_message_to_many_hosts_that_refuse_one_after_the_other_brings_few_reports_and_comes_back_once() {
    let behaviours = domains(&vec![Refusing; hosts()]);
    let sent = Submission { ret: " RET=FULL", padding: 94_000, ..submission(0, SENDER, &behaviours) };
    let mut world = world(behaviours, vec![sent], CONNECT_DELAY);
    world.run(&[]);
    world.check_invariants();
    let reports = world.mail_to(SENDER);
    assert!(reports.len() <= 6, "{} reports", reports.len());
    assert!(octets(&reports) < 400_000, "{} octets", octets(&reports));
    let whole = reports.iter().filter(|mail| mail.content.len() > 94_000 && contains(mail, "jack a dull boy")).count();
    let later = reports.iter().filter(|mail| contains(mail, "came back with the first report")).count();
    assert_eq!((whole, later), (1, reports.len() - 1));
}

fn contains(mail: &Received, text: &str) -> bool {
    String::from_utf8_lossy(&mail.content).split_ascii_whitespace().collect::<Vec<_>>().join(" ").contains(text)
}

#[test]
fn rfc3461_5_2_2_success_at_many_hosts_is_told_in_few_reports() {
    let behaviours = domains(&vec![Fine; hosts()]);
    let mut world = world(
        behaviours.clone(),
        vec![Submission { notify: ALWAYS, ..submission(0, SENDER, &behaviours) }],
        CONNECT_DELAY,
    );
    world.run(&[]);
    world.check_invariants();
    let reports = world.mail_to(SENDER).len();
    assert!(reports <= 5, "{reports} reports");
}

#[test]
fn rfc5321_6_1_of_many_lost_reports_the_postmaster_reads_in_few_mails_of_each_once() {
    let behaviours = domains(&[Refusing]);
    let submissions = (0..200).map(|number| submission(number, FALSE_SENDER, &behaviours)).collect();
    let mut world = world(behaviours, submissions, Duration::from_millis(200));
    world.run(&[]);
    world.check_invariants();
    let (lost, mails) = (world.lost(), world.mail_to(POSTMASTER).len());
    assert!(mails <= 3, "{mails} mails in the first hour");
    // One mail names a hundred, and counts the others; the sum of the audit has all of them.
    assert!(lost.len() >= 100, "{}", lost.len());
    assert_eq!(lost.iter().collect::<BTreeSet<_>>().len(), lost.len(), "none twice");
}

#[test]
fn rfc5321_6_1_a_crash_at_any_durable_step_costs_no_report_that_is_still_to_be_written() {
    let crowd = || {
        let behaviours = domains(&[Refusing, Refusing, Fine, NullMx, Greylisting, Refusing]);
        let few = domains(&[Refusing]);
        let mut submissions: Vec<Submission> = (1..3).map(|number| submission(number, FALSE_SENDER, &few)).collect();
        submissions.insert(0, Submission { notify: ALWAYS, ..submission(0, SENDER, &behaviours) });
        world(behaviours, submissions, CONNECT_DELAY * 3)
    };
    let all = crowd().run(&[]);
    let crashes = all.iter().enumerate().flat_map(|(nth, done)| done.crashes(nth + 1));
    let stride = usize::try_from(wanted("SIMULATION_REPORTS_STRIDE", STRIDE)).unwrap().max(1);
    let crashes: Vec<Crash> = crashes.step_by(stride).collect();
    side_by_side(crashes.len(), |nth| {
        let again = Crash { step: 1 + nth % 40, kind: CRASH_KINDS[nth % CRASH_KINDS.len()] };
        let mut world = crowd();
        world.run(&[crashes[nth], again]);
        world.check_invariants();
        let lost = world.lost();
        let answers = world.invariants.answers.lock().unwrap();
        let from_nobody = answers.values().filter(|(submission, _)| submission.from == FALSE_SENDER);
        let accepted = from_nobody.filter(|(_, answer)| *answer == SubmissionResult::Accepted).count();
        assert!((accepted..=2).contains(&lost.len()), "{}: {accepted} accepted, {lost:?}", world.name());
        assert_eq!(lost.iter().collect::<BTreeSet<_>>().len(), lost.len(), "{}: {lost:?}", world.name());
    });
}
