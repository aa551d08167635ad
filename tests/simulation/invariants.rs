//! What must be true after a world (RFC 5321 §6.1): the sum holds, everyone who failed was told
//! of once, and nobody got a message twice unless a crash came between the dot and the record.

use crate::behaviour::DomainBehaviour;
use crate::dns_paths::TRAP;
use crate::pruning_log::PruningLog;
use crate::world::{ALWAYS, HOUR, LONGEST_WAIT, NEVER, SENDER, Size, Submission, World};
use dane_relay::clock::Timestamp;
use dane_relay::lab::mx::behaviour::Received;
use dane_relay::outcome::DeliveryOutcome;
use dane_relay::spool::RecipientState;
use dane_relay::spool::audit::Depth;
use dane_relay::spool::embedded::audit::Auditor;
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::ledger::LedgerMessage;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What is under way has come after it, and what the DNS said before is forgotten.
const MOMENT: Duration = Duration::from_secs(600);

/// A message and one of its recipients.
type Copy = (String, String);

/// Reports by submission and recipient.
type Told = BTreeMap<(usize, String), BTreeSet<String>>;

/// What came to the mail hosts.
struct Evidence {
    arrived: BTreeMap<Copy, usize>,
    failed: Told,
    delayed: Told,
    relayed: Told,
}

/// What the invariants need to know from before the end.
pub(crate) struct Invariants {
    /// Keeps what the history of the spool forgets.
    pub(crate) pruning_log: Arc<Mutex<PruningLog>>,
    /// Submissions that were handed in, by their number, and what the client heard.
    pub(crate) answers: Arc<Mutex<BTreeMap<usize, (Submission, SubmissionResult)>>>,
    /// Submissions that the operator ended.
    pub(crate) ended_by_operator: BTreeSet<usize>,
    /// Whether the operator held any.
    pub(crate) held: bool,
    /// How often the clock was set back.
    pub(crate) set_backs: u32,
    /// Whether it was ever set on.
    pub(crate) set_on: bool,
    /// Domains to which mail passes for a time, and how long it does.
    pub(crate) passing: BTreeMap<String, Passing>,
    /// Deliveries that a crash kept from being recorded.
    unrecorded: BTreeMap<Copy, usize>,
}

/// Mail passes until then, and no more.
pub(crate) struct Passing {
    until: Timestamp,
    /// After this none passes for sure.
    and_for: Duration,
    /// All that has come, and will.
    all: Option<BTreeMap<Copy, usize>>,
}

impl Passing {
    pub(crate) const fn until(until: Timestamp) -> Self {
        Self { until, and_for: MOMENT, all: None }
    }

    /// For so long it may still pass.
    pub(crate) fn and_for(self, time: Duration) -> Self {
        Self { and_for: time.saturating_add(MOMENT), ..self }
    }
}

/// What the client heard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SubmissionResult {
    Accepted,
    /// The crash came first.
    Nothing,
}

impl Invariants {
    pub(crate) fn new(pruning_log: PruningLog) -> Self {
        Self {
            pruning_log: Arc::new(Mutex::new(pruning_log)),
            answers: Arc::default(),
            ended_by_operator: BTreeSet::new(),
            held: false,
            set_backs: 0,
            set_on: false,
            passing: BTreeMap::new(),
            unrecorded: BTreeMap::new(),
        }
    }

    pub(crate) fn pruning_log(&self) -> MutexGuard<'_, PruningLog> {
        self.pruning_log.lock().unwrap()
    }
}

impl World {
    /// Right after a crash: who has got a message that the spool thinks is still to be delivered.
    pub(crate) fn note_unrecorded(&mut self) {
        let ledger = StateReader::open(&self.config.spool.path).unwrap();
        for (copy, times) in self.arrived() {
            let waits = self
                .message(&ledger, &copy.0)
                .is_some_and(|message| message.waiting().any(|recipient| recipient.address == copy.1));
            if waits {
                self.invariants.unrecorded.insert(copy, times);
            }
        }
    }

    /// How often each message came to each recipient, NDRs among them.
    fn arrived(&self) -> BTreeMap<Copy, usize> {
        let mut arrived = BTreeMap::new();
        for received in self.lab.hosts().flat_map(|host| host.messages()) {
            let id = message_id(&received);
            for to in &received.rcpt_to {
                *arrived.entry((id.clone(), to.clone())).or_default() += 1;
            }
        }
        arrived
    }

    fn message(&self, ledger: &StateReader, message_id: &str) -> Option<LedgerMessage> {
        let mut found = ledger.find(message_id, 10).unwrap().messages;
        found.retain(|message| message.message_id.as_deref() == Some(message_id));
        found.extend(self.invariants.pruning_log().pruned(message_id).cloned());
        assert!(found.len() <= 1, "{}: {message_id} is there twice", self.name());
        found.pop()
    }

    /// The end of the world.
    pub(crate) fn check_invariants(&self) {
        let name = self.name();
        let path = &self.config.spool.path;
        let audit = Auditor::open(path, Depth::Everything).unwrap().finish().unwrap();
        assert_eq!(audit.findings, [], "{name}");
        assert_eq!((audit.sum.queued, audit.sum.unaccounted), (0, 0), "{name}");
        let sum = audit.sum;
        assert_eq!(sum.accepted, sum.delivered + sum.told + sum.suppressed + sum.removed, "{name}");
        let evidence = Evidence {
            arrived: self.arrived(),
            failed: self.told("failed"),
            delayed: self.told("delayed"),
            relayed: self.told("relayed"),
        };
        self.check_duplicates(&evidence.arrived);
        self.check_policies(&evidence.arrived);
        self.check_forgeries();
        self.check_schedule();
        self.check_leftovers();
        let ledger = StateReader::open(path).unwrap();
        for (submission, answer) in self.invariants.answers.lock().unwrap().values() {
            match (self.message(&ledger, &submission.message_id()), answer) {
                (Some(message), _) => self.check_message(submission, &message, &evidence),
                (None, SubmissionResult::Accepted) => panic!("{name}: submission {} is lost", submission.number),
                (None, SubmissionResult::Nothing) => {
                    let known = evidence.arrived.keys().any(|(id, _)| *id == submission.message_id());
                    assert!(!known, "{name}: submission {} was delivered and forgotten", submission.number);
                }
            }
        }
    }

    /// Nobody got anything twice, but for crashes between the dot and the record, and servers
    /// that took it and did not say so.
    fn check_duplicates(&self, arrived: &BTreeMap<Copy, usize>) {
        for ((id, to), times) in arrived {
            let unrecorded = self.invariants.unrecorded.get(&(id.clone(), to.clone())).copied().unwrap_or(0);
            let loses_replies = self.loses_replies(to);
            assert!(
                *times <= 1 + unrecorded || loses_replies,
                "{}: {id} came to {to} {times} times, {unrecorded} of them unrecorded",
                self.name()
            );
        }
    }

    /// Where mail has not passed for a moment, all has come that will.
    pub(crate) fn count(&mut self) {
        let now = self.network.truth();
        let is_new = |passing: &Passing| passing.all.is_none() && passing.until.plus(passing.and_for) <= now;
        if !self.invariants.passing.values().any(is_new) {
            return;
        }
        let arrived = self.arrived();
        for (domain, passing) in self.invariants.passing.iter_mut().filter(|(_, passing)| is_new(passing)) {
            let to_it = arrived.iter().filter(|((_, to), _)| to.ends_with(&format!("@{domain}")));
            passing.all = Some(to_it.map(|(copy, times)| (copy.clone(), *times)).collect());
        }
    }

    /// Nothing has passed since.
    fn check_policies(&self, arrived: &BTreeMap<Copy, usize>) {
        let nothing = BTreeMap::new();
        for (domain, passing) in self.invariants.passing.iter().filter(|_| self.invariants.set_backs == 0) {
            let all = passing.all.as_ref().unwrap_or(&nothing);
            let late = arrived.iter().filter(|((_, to), _)| to.ends_with(&format!("@{domain}")));
            let late: Vec<_> = late.filter(|(copy, times)| all.get(copy) != Some(times)).collect();
            let is_known = passing.all.is_some();
            assert!(!is_known || late.is_empty(), "{}: against the rules {late:?} came to {domain}", self.name());
        }
    }

    /// Whether a submission had all the time to pass.
    fn must_pass(&self, submission: &Submission, to: &str) -> bool {
        let undisturbed =
            self.is_never_lost() && !self.invariants.set_on && !self.invariants.held && self.invariants.set_backs == 0;
        let passing = self.invariants.passing.get(to.split_once('@').unwrap().1);
        undisturbed && passing.is_some_and(|passing| submission.at.plus(LONGEST_WAIT * 3 / 2) < passing.until)
    }

    /// Whether the DNS can be asked at any time.
    fn is_never_lost(&self) -> bool {
        self.paths.lock().unwrap().always_lead_somewhere()
    }

    /// Who lies about a host that is signed leads nobody to another one (RFC 7672 §2.2).
    fn check_forgeries(&self) {
        let trap = self.lab.mx(TRAP).unwrap();
        assert_eq!(trap.connections(), 0, "{}: somebody was led astray", self.name());
    }

    /// Where any path to the DNS is honest mail takes it, and at once: what needs nothing but the DNS
    /// is late only when a clock is set or the operator holds it.
    fn check_delay(&self, whole: &str, to: &str, delayed: usize) {
        let undisturbed = self.is_never_lost() && !self.invariants.set_on && !self.invariants.held;
        let is_easy = matches!(self.behaviour(to), DomainBehaviour::Fine | DomainBehaviour::ByPolicy);
        assert!(delayed == 0 || !undisturbed || !is_easy, "{whole}: late for no reason");
    }

    /// Nobody waits longer than the schedule says (RFC 5321 §4.5.4.1). Where the clock is set back in
    /// the middle of a wait, another one may begin.
    fn check_schedule(&self) {
        let waits = |behaviour: &DomainBehaviour| {
            matches!(behaviour, DomainBehaviour::NeverReady | DomainBehaviour::Dead | DomainBehaviour::WithoutTls)
        };
        let most = (LONGEST_WAIT * 5 / 4) * (1 + self.invariants.set_backs) + HOUR;
        // Where mail comes all the time, there are times when none waits.
        let all_wait_together = self.size != Size::Long;
        for (domain, _) in self.behaviours.iter().filter(|(_, behaviour)| waits(behaviour) && all_wait_together) {
            let silence = self.network.longest_silence(domain, Timestamp(i64::MAX));
            assert!(silence <= most || self.invariants.held, "{}: {domain} was not tried for {silence:?}", self.name());
        }
    }

    /// Of what is over nothing stays but its history, for its days.
    fn check_leftovers(&self) {
        let mut pruning_log = self.invariants.pruning_log();
        pruning_log.look_at_rest(&self.config.spool.path);
        assert_eq!(pruning_log.faults, [""; 0], "{}", self.name());
    }

    fn check_message(&self, submission: &Submission, message: &LedgerMessage, evidence: &Evidence) {
        for recipient in &message.recipients {
            let recipient = recipient.as_ref().unwrap();
            let to = &recipient.address;
            let whole = format!("{}: submission {} to {to}", self.name(), submission.number);
            let copies = evidence.arrived.get(&(submission.message_id(), to.clone())).copied().unwrap_or(0);
            let count = |told: &Told| told.get(&(submission.number, to.clone())).map_or(0, BTreeSet::len);
            let (failed, delayed, relayed) =
                (count(&evidence.failed), count(&evidence.delayed), count(&evidence.relayed));
            let ended = self.invariants.ended_by_operator.contains(&submission.number);
            let wants_failure = submission.from == SENDER && submission.notify != NEVER;
            let wants_success = submission.from == SENDER && submission.notify == ALWAYS;
            assert!(delayed <= self.most_notices(to) * usize::from(wants_failure), "{whole}: {delayed} notices");
            self.check_delay(&whole, to, delayed);
            match &recipient.state {
                RecipientState::Queued(_) | RecipientState::Owed(_) => panic!("{whole}: waits for ever"),
                RecipientState::Removed => assert!(ended && failed + relayed == 0, "{whole}"),
                RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } } => {
                    assert!(self.behaviour(to).delivers() != Some(false), "{whole}: delivered against the rules");
                    assert!(copies >= 1 && failed == 0, "{whole}: {copies} copies, {failed} reports");
                    assert_eq!(relayed, usize::from(wants_success), "{whole}: reports of success");
                }
                RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } } => {
                    // A clock that is set on brings the end of a message before its time.
                    let is_easy = self.behaviour(to) == DomainBehaviour::Fine && self.is_never_lost();
                    let too_early = self.invariants.set_on && !is_easy;
                    // What a crash kept from being recorded may be forbidden by the next attempt.
                    let copy = (submission.message_id(), to.clone());
                    let unrecorded = self.invariants.unrecorded.get(&copy).copied().unwrap_or(0);
                    let must = self.behaviour(to).delivers() == Some(true) || self.must_pass(submission, to);
                    assert!(ended || too_early || !must, "{whole}: {cause:?}");
                    assert_eq!((failed, relayed), (usize::from(wants_failure), 0), "{whole}: reports");
                    assert!(
                        copies <= unrecorded || ended || self.loses_replies(to),
                        "{whole}: told of a failure, and {copies} copies came"
                    );
                }
            }
        }
    }

    /// The reports about each recipient of each submission, by their Message-ID.
    fn told(&self, action: &str) -> Told {
        let mut told = Told::new();
        for received in self.lab.mx("office.test").unwrap().messages() {
            if received.rcpt_to != [SENDER] {
                continue;
            }
            let text = String::from_utf8_lossy(&received.content).into_owned();
            let Some(number) = number_in(&text) else { continue };
            for group in text.split("\r\n\r\n").filter(|group| group.contains(&format!("\r\nAction: {action}\r\n"))) {
                let to = group.lines().find_map(|line| line.strip_prefix("Final-Recipient: rfc822; ")).unwrap();
                told.entry((number, to.to_owned())).or_default().insert(message_id(&received));
            }
        }
        told
    }

    /// The ordinary warning; and the early notice, where DNS, TLS or a policy stops the mail.
    fn most_notices(&self, address: &str) -> usize {
        match self.behaviour(address) {
            DomainBehaviour::Greylisting
            | DomainBehaviour::NeverReady
            | DomainBehaviour::Dead
            | DomainBehaviour::Silent
            | DomainBehaviour::DeadAtFirst
            | DomainBehaviour::LosesRepliesAtFirst
                if self.is_never_lost() =>
            {
                1
            }
            _ => 2,
        }
    }

    fn behaviour(&self, address: &str) -> DomainBehaviour {
        self.behaviours[address.split_once('@').unwrap().1]
    }

    fn loses_replies(&self, address: &str) -> bool {
        let (_, domain) = address.split_once('@').unwrap();
        self.behaviours.get(domain) == Some(&DomainBehaviour::LosesRepliesAtFirst)
    }

    pub(crate) fn name(&self) -> String {
        format!("world {} with {:?}", self.seed, self.crashes)
    }
}

/// The Message-ID of a message, which the first header of that name holds.
pub(crate) fn message_id(received: &Received) -> String {
    let text = String::from_utf8_lossy(&received.content).into_owned();
    let (_, rest) = text.split_once("Message-ID: <").unwrap();
    rest.split_once('>').unwrap().0.to_owned()
}

/// The submission that a report is about: the last Message-ID in it is that of the original.
fn number_in(report: &str) -> Option<usize> {
    let (_, rest) = report.rsplit_once("Message-ID: <n")?;
    rest.split_once('@')?.0.parse().ok()
}
