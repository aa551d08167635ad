//! A day of mixed mail and the reports on TLS about it (RFC 8460 §3, §4, §5): what the domains read is what the
//! ledger has, what the metrics have, and what happened at the mail hosts; and no crash loses a count or doubles one.
//!
//! `SIMULATION_DAY_MESSAGES` and `SIMULATION_DAY_DOMAINS` make the day as busy as that of a large relay.

mod domains;
mod tally;

use crate::behaviour::DomainBehaviour::{self, ByPolicy, Fine, Greylisting, Mismatched, Refusing};
use crate::crash_snapshot::{CRASH_KINDS, Crash};
use crate::invariants::{Invariants, message_id};
use crate::pruning_log::PruningLog;
use crate::random::SeededRandom;
use crate::world::{BEGIN, HOUR, NEVER, SENDER, Size, Submission, What, World};
use crate::{side_by_side, wanted};
use dane_relay::clock::Timestamp;
use dane_relay::lab::DomainSpec;
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::tls_session::{ReportDay, TlsCount, TlsReportId, TlsReportRow};
use domains::TlsSetup::Usual;
use domains::{AskedFor, CLOSED, REPORTS, ReportedDomain, TlsSetup, of_all_kinds};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;
use tally::{ReportCopy, Tally, arrived, connections, counted, in_history, in_ledger, reported, result};

/// Messages of the day; `SIMULATION_DAY_MESSAGES` asks for more.
const MESSAGES: u64 = 120;
/// Domains that they go to; `SIMULATION_DAY_DOMAINS` asks for more.
const DOMAINS: u64 = 60;
/// Of the durable steps of the evening one in so many is tried; `SIMULATION_EVENING_STRIDE=1` tries them all.
const STRIDE: u64 = 3;
const DAY: Duration = Duration::from_hours(24);

/// A world with these domains that lasts until the reports about its last mail have their end.
fn world(domains: &BTreeMap<String, ReportedDomain>, to_come: VecDeque<(Timestamp, What)>) -> World {
    let mut behaviours: BTreeMap<String, DomainBehaviour> =
        domains.iter().map(|(name, domain)| (name.clone(), domain.setup.behaviour())).collect();
    behaviours.extend([(REPORTS.to_owned(), Fine), (CLOSED.to_owned(), Refusing)]);
    let describe = |name: &str, behaviour: DomainBehaviour, domain: DomainSpec| match domains.get(name) {
        Some(described) => described.describe(name, domain),
        None => behaviour.describe(name, domain),
    };
    let mut world = World::described(0, Size::Small, behaviours, to_come, &describe);
    // Mail comes all the time, and nothing is forgotten.
    world.size = Size::Long;
    world.config.spool.keep_history = DAY * 60;
    world.invariants = Invariants::new(PruningLog::new(world.config.spool.keep_history, BEGIN));
    let reports = &mut world.config.tls_reports;
    reports.enabled = true;
    reports.organization = Some("Office Ltd".into());
    reports.contact = Some("tls@office.test".parse().unwrap());
    world
}

fn submission(number: usize, at: Timestamp, to: Vec<String>) -> (Timestamp, What) {
    let notify = if number.is_multiple_of(4) { "" } else { NEVER };
    (at, What::Send(Submission { number, at, from: SENDER, ret: " RET=HDRS", to, notify, padding: 0 }))
}

/// So many messages over a day, to one domain or a few.
fn a_day(messages: usize, domains: &BTreeMap<String, ReportedDomain>) -> VecDeque<(Timestamp, What)> {
    let mut random = SeededRandom::new(0);
    let names: Vec<&String> = domains.keys().collect();
    let mut at: Vec<Timestamp> =
        (0..messages).map(|_| BEGIN.plus(Duration::from_millis(random.below(86_400_000)))).collect();
    at.sort_unstable();
    let sent = at.into_iter().enumerate().map(|(number, at)| {
        let to = (0..=random.below(3)).map(|nth| format!("r{number}-{nth}@{}", random.pick(&names))).collect();
        submission(number, at, to)
    });
    let end = ReportDay::of(BEGIN.plus(DAY * 3)).begin().plus(HOUR * 5);
    sent.chain([(end, What::ReadMetrics)]).collect()
}

/// The day as it went.
struct ReportedWorld {
    world: World,
    domains: BTreeMap<String, ReportedDomain>,
    ledger: Vec<(TlsReportRow, Vec<TlsCount>)>,
}

impl ReportedWorld {
    fn after(world: World, domains: BTreeMap<String, ReportedDomain>) -> Self {
        let ledger = in_ledger(&world);
        Self { world, domains, ledger }
    }

    fn name(&self) -> String {
        self.world.name()
    }

    /// Those of the domains alone: the sender's own gets NDRs.
    fn asked(&self, domain: &str) -> AskedFor {
        self.domains.get(domain).map_or(AskedFor::Nothing, |known| known.asks)
    }

    /// The reports that are to be read, by whom, with what was counted.
    fn to_be_read(&self) -> BTreeMap<ReportCopy, Tally> {
        let over = self.ledger.iter().filter(|(row, _)| row.report.is_some());
        let copies = over.flat_map(|(row, counts)| {
            let readers = self.asked(&row.id.domain).readers().iter();
            readers.map(|reader| ((row.id.clone(), (*reader).to_owned()), counted(counts)))
        });
        copies.collect()
    }

    /// Every report has its end, and it is the one that its domain asked for.
    fn check_ends(&self, before: ReportDay) {
        for (row, _) in self.ledger.iter().filter(|(row, _)| row.id.day < before) {
            let end = row.report.as_ref().map_or("none", |state| state.word());
            assert_eq!(end, self.asked(&row.id.domain).end(), "{}: {row:?}", self.name());
        }
    }

    /// Whoever asks for a report reads what was counted, and nobody else reads anything.
    fn check_reports(&self) {
        let read: BTreeMap<ReportCopy, Tally> = arrived(self.world.lab.mx(REPORTS).unwrap())
            .into_iter()
            .map(|(copy, mails)| {
                assert!(mails.iter().all(|(mail, _)| mail.content == mails[0].0.content), "{}: {copy:?}", self.name());
                (copy, reported(&mails[0].1))
            })
            .collect();
        assert_eq!(read, self.to_be_read(), "{}", self.name());
        assert_eq!(self.world.lab.mx(CLOSED).unwrap().messages().len(), 0);
    }

    /// The value of a sample.
    fn metric(&self, name: &str) -> u64 {
        let sample = self.world.metrics.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        sample.unwrap_or_else(|| panic!("no {name}")).parse().unwrap()
    }

    /// By policy and result, over all domains and days.
    fn check_metrics(&self) {
        let mut sums: BTreeMap<(&str, &str), u64> = BTreeMap::new();
        for count in self.ledger.iter().flat_map(|(_, counts)| counts) {
            *sums.entry((count.policy.kind.word(), result(count))).or_default() += count.sessions;
        }
        let prefix = "relay_tls_sessions_total{policy=\"";
        for line in self.world.metrics.lines().filter_map(|line| line.strip_prefix(prefix)) {
            let (policy, rest) = line.split_once("\",result=\"").unwrap();
            let (result, value) = rest.split_once("\"} ").unwrap();
            let sum = sums.remove(&(policy, result)).unwrap_or(0);
            assert_eq!(value.parse::<u64>().unwrap(), sum, "{policy} {result}");
        }
        assert!(sums.is_empty(), "no metric has {sums:?}");
        for state in ["sent", "not-wanted", "given-up"] {
            let ended =
                |(row, _): &&(TlsReportRow, _)| row.report.as_ref().is_some_and(|report| report.word() == state);
            let ended = self.ledger.iter().filter(ended).count();
            assert_eq!(self.metric(&format!("relay_tls_reports_total{{state=\"{state}\"}}")), ended as u64, "{state}");
        }
        let at_closed = self.ledger.iter().filter(|(row, _)| self.asked(&row.id.domain) == AskedFor::AtClosed).count();
        assert_eq!(self.metric("relay_tls_report_mails_lost_total"), at_closed as u64);
    }

    /// At each host as many connections came so far that it said whether it has TLS, as were counted for the domains
    /// that it takes mail for; a host that was left alone has none.
    fn check_hosts(&self) -> u64 {
        let mut counted: BTreeMap<&str, u64> = BTreeMap::new();
        for (row, counts) in &self.ledger {
            let connected =
                |count: &&TlsCount| count.failure.as_ref().is_none_or(|failure| failure.mx_address.is_some());
            let sessions: u64 = counts.iter().filter(connected).map(|count| count.sessions).sum();
            let name = row.id.domain.as_str();
            let (hoster, policies) =
                self.domains.get(name).map_or((name, 1), |known| (known.hoster.as_str(), known.policies(name)));
            assert_eq!(sessions % policies, 0, "{name}");
            *counted.entry(hoster).or_default() += sessions / policies;
        }
        for (hoster, sessions) in &counted {
            let came = self.world.lab.mx(hoster).map_or(0, connections);
            assert_eq!(came, *sessions, "{hoster}: {:?}", self.domains.get(*hoster));
        }
        counted.values().sum()
    }

    /// The spool has each report once.
    fn check_names(&self) {
        let ledger = StateReader::open(&self.world.config.spool.path).unwrap();
        let readers = self.to_be_read();
        assert!(!readers.is_empty(), "{}", self.name());
        for (copy, mails) in arrived(self.world.lab.mx(REPORTS).unwrap()) {
            let named = ledger.find(&message_id(&mails[0].0), 10).unwrap().messages;
            assert_eq!(named.len(), 1, "{}: {copy:?}", self.name());
        }
    }

    /// Each event that counts has its count.
    fn check_history(&self) {
        let counted: BTreeMap<TlsReportId, u64> =
            self.ledger.iter().map(|(row, _)| (row.id.clone(), row.succeeded + row.failed)).collect();
        assert_eq!(counted, in_history(&self.world), "{}", self.name());
    }
}

#[test]
#[expect(clippy::print_stdout, reason = "how much there was in a day that somebody asked for")]
fn rfc8460_4_a_day_of_mixed_mail_adds_up_in_reports_ledger_metrics_and_at_the_hosts() {
    let [messages, count] = [("SIMULATION_DAY_MESSAGES", MESSAGES), ("SIMULATION_DAY_DOMAINS", DOMAINS)]
        .map(|(variable, usual)| usize::try_from(wanted(variable, usual)).unwrap());
    let domains = of_all_kinds(count);
    let mut world = world(&domains, a_day(messages, &domains));
    world.run(&[]);
    world.check_invariants();
    let day = ReportedWorld::after(world, domains);
    day.check_ends(ReportDay(i64::MAX));
    day.check_reports();
    day.check_metrics();
    let sessions = day.check_hosts();
    println!("{messages} messages, {count} domains, {} reports, {sessions} sessions", day.ledger.len());
    assert!(sessions > messages as u64 / 2, "{sessions} sessions");
}

/// When the small world begins: some minutes before the day is over.
const LATE: Timestamp = ReportDay(ReportDay::of(BEGIN).0 + 1).begin();

/// A few domains, two messages to all of them, and the end of the day; each message has connections of its own.
fn an_evening() -> (World, BTreeMap<String, ReportedDomain>) {
    let setups = [
        (Usual(Fine), AskedFor::ByMail),
        (Usual(ByPolicy), AskedFor::ByMail),
        (Usual(Greylisting), AskedFor::AtClosed),
        (Usual(Mismatched), AskedFor::ByMail),
        (TlsSetup::TlsaUnknown, AskedFor::Nothing),
        (TlsSetup::PlainWithoutTls, AskedFor::ByMail),
    ];
    let domains: BTreeMap<String, ReportedDomain> = (0..)
        .zip(setups)
        .map(|(nth, (setup, asks))| {
            let name = format!("d{nth}.test");
            (name.clone(), ReportedDomain { setup, asks, hoster: name })
        })
        .collect();
    let begin = Timestamp(LATE.0 - 60_000 * 60);
    let to = |number: usize| domains.keys().map(|domain| format!("r{number}@{domain}")).collect();
    let mut to_come: VecDeque<_> = (0..2_u32)
        .map(|nth| submission(nth as usize, begin.plus(Duration::from_secs(60) * nth), to(nth as usize)))
        .collect();
    to_come.push_back((LATE.plus(HOUR * 5), What::ReadMetrics));
    let mut world = world(&domains, to_come);
    (world.now, world.truth) = (begin, begin);
    world.config.delivery.max_messages_per_connection = 1;
    world.config.retry.first = HOUR / 2;
    world.config.retry.expire_after = HOUR * 2;
    (world, domains)
}

/// What is recorded is counted, and nothing else is: of each domain and day there are as many counts as events in the
/// history of all messages that count. An event is in the transaction of the outcome that it tells of; here every
/// message has connections of its own, so that each attempt that came as far as TLS or failed by it, and each host
/// that was left alone for a reason that RFC 8460 §4.3 has a result type for, counts once.
///
/// A report is one message: whatever came of it to its reader is one content, and the spool has one message of its
/// name, whatever crash came between its record in the queue and that of its state.
#[test]
fn rfc8460_4_a_crash_at_any_durable_step_loses_no_count_and_doubles_none_and_each_report_is_one_message() {
    let all = an_evening().0.run(&[]);
    let crashes = all.iter().enumerate().flat_map(|(nth, done)| done.crashes(nth + 1));
    let stride = usize::try_from(wanted("SIMULATION_EVENING_STRIDE", STRIDE)).unwrap().max(1);
    let crashes: Vec<Crash> = crashes.step_by(stride).collect();
    side_by_side(crashes.len() + 1, |nth| {
        let (mut world, domains) = an_evening();
        // And one more, perhaps while the spool is opened again.
        let again = Crash { step: 1 + nth % 40, kind: CRASH_KINDS[nth % CRASH_KINDS.len()] };
        let planned = crashes.get(nth).map_or(Vec::new(), |crash| vec![*crash, again]);
        world.run(&planned);
        world.check_invariants();
        let evening = ReportedWorld::after(world, domains);
        evening.check_history();
        evening.check_ends(ReportDay::of(LATE));
        evening.check_reports();
        evening.check_names();
    });
}
