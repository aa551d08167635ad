//! What one client can do with one message, or with many from nobody: how many reports it brings, and
//! how large they are (RFC 3461 §5.2, RFC 5321 §6.1). Crashes among them lose none and double none.

use crate::camera::{BLOWS, Crash};
use crate::judge::{Answer, message_id};
use crate::nature::Nature::{self, Fine, Greylisting, NullMx, Refusing};
use crate::side_by_side;
use crate::world::{ALWAYS, BEGIN, Letter, SENDER, Size, What, World};
use dane_relay::lab::mx::behaviour::Received;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Of a host that has not got it: its first host refuses this sender, too.
const FALSE_SENDER: &str = "mallory@d0.test";
const POSTMASTER: &str = "postmaster@office.test";
/// How long the way to each host takes, where only one is taken at a time.
const WAY: Duration = Duration::from_secs(25);

fn domains(natures: &[Nature]) -> BTreeMap<String, Nature> {
    natures.iter().enumerate().map(|(n, nature)| (format!("d{n}.test"), *nature)).collect()
}

fn letter(number: usize, from: &'static str, to: &BTreeMap<String, Nature>) -> Letter {
    let to = to.keys().map(|domain| format!("r{number}@{domain}")).collect();
    Letter { number, at: BEGIN, from, ret: "", to, notify: "", padding: 0 }
}

/// These letters, one after the other, to hosts that are reached one after the other.
fn world(natures: BTreeMap<String, Nature>, letters: Vec<Letter>, pause: Duration) -> World {
    let sent = (0_u32..).zip(letters).map(|(nth, letter)| {
        let at = BEGIN.plus(pause * nth);
        (at, What::Send(Letter { at, ..letter }))
    });
    let size = if natures.len() > 20 { Size::Usual } else { Size::Small };
    let mut world = World::made_of((0, size), natures, sent.collect());
    for (domain, _) in world.natures.iter().filter(|(name, nature)| *name != "d0.test" && **nature != NullMx) {
        world.streets.lengthen(domain, WAY);
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
fn one_message_to_200_hosts_that_refuse_one_after_the_other_brings_few_reports_and_comes_back_once() {
    let natures = domains(&[Refusing; 200]);
    let sent = Letter { ret: " RET=FULL", padding: 94_000, ..letter(0, SENDER, &natures) };
    let mut world = world(natures, vec![sent], WAY);
    world.run(&[]);
    world.judge();
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
    let natures = domains(&[Fine; 100]);
    let mut world = world(natures.clone(), vec![Letter { notify: ALWAYS, ..letter(0, SENDER, &natures) }], WAY);
    world.run(&[]);
    world.judge();
    let reports = world.mail_to(SENDER).len();
    assert!(reports <= 5, "{reports} reports");
}

#[test]
fn rfc5321_6_1_of_many_lost_reports_the_postmaster_reads_in_few_mails_of_each_once() {
    let natures = domains(&[Refusing]);
    let letters = (0..200).map(|number| letter(number, FALSE_SENDER, &natures)).collect();
    let mut world = world(natures, letters, Duration::from_millis(200));
    world.run(&[]);
    world.judge();
    let (lost, mails) = (world.lost(), world.mail_to(POSTMASTER).len());
    assert!(mails <= 3, "{mails} mails in the first hour");
    // One mail names a hundred, and counts the others; the sum of the audit has all of them.
    assert!(lost.len() >= 100, "{}", lost.len());
    assert_eq!(lost.iter().collect::<BTreeSet<_>>().len(), lost.len(), "none twice");
}

#[test]
fn rfc5321_6_1_a_crash_at_any_durable_step_costs_no_report_that_is_still_to_be_written() {
    let crowd = || {
        let natures = domains(&[Refusing, Refusing, Fine, NullMx, Greylisting, Refusing]);
        let few = domains(&[Refusing]);
        let mut letters: Vec<Letter> = (1..3).map(|number| letter(number, FALSE_SENDER, &few)).collect();
        letters.insert(0, Letter { notify: ALWAYS, ..letter(0, SENDER, &natures) });
        world(natures, letters, WAY * 3)
    };
    let all = crowd().run(&[]);
    let crashes: Vec<Crash> = all.iter().enumerate().flat_map(|(nth, done)| done.crashes(nth + 1)).collect();
    side_by_side(crashes.len(), |nth| {
        let again = Crash { step: 1 + nth % 40, blow: BLOWS[nth % BLOWS.len()] };
        let mut world = crowd();
        world.run(&[crashes[nth], again]);
        world.judge();
        let lost = world.lost();
        let answers = world.judge.answers.lock().unwrap();
        let from_nobody = answers.values().filter(|(letter, _)| letter.from == FALSE_SENDER);
        let accepted = from_nobody.filter(|(_, answer)| *answer == Answer::Accepted).count();
        assert!((accepted..=2).contains(&lost.len()), "{}: {accepted} accepted, {lost:?}", world.name());
        assert_eq!(lost.iter().collect::<BTreeSet<_>>().len(), lost.len(), "{}: {lost:?}", world.name());
    });
}
