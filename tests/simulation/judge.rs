//! What must be true after a world (RFC 5321 §6.1): the sum holds, everyone who failed was told
//! of once, and nobody got a message twice unless a crash came between the dot and the record.

use crate::nature::Nature;
use crate::notary::Notary;
use crate::paths::TRAP;
use crate::world::{ALWAYS, HOUR, LONGEST_WAIT, Letter, NEVER, SENDER, Size, World};
use dane_relay::clock::Timestamp;
use dane_relay::lab::mx::behaviour::Received;
use dane_relay::outcome::DeliveryOutcome;
use dane_relay::spool::RecipientState;
use dane_relay::spool::audit::Depth;
use dane_relay::spool::embedded::audit::Auditor;
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::ledger::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// What is under way has come after it, and what the DNS said before is forgotten.
const MOMENT: Duration = Duration::from_secs(600);

/// A message and one of its recipients.
type Copy = (String, String);

/// Reports by letter and recipient.
type Told = BTreeMap<(usize, String), BTreeSet<String>>;

/// What came to the mail hosts.
struct Evidence {
    arrived: BTreeMap<Copy, usize>,
    failed: Told,
    delayed: Told,
    relayed: Told,
}

/// What the judge knows from before the end.
pub(crate) struct Judge {
    /// Keeps what the history of the spool forgets.
    pub(crate) notary: Arc<Mutex<Notary>>,
    /// Letters that were handed in, by their number, and what the client heard.
    pub(crate) answers: Arc<Mutex<BTreeMap<usize, (Letter, Answer)>>>,
    /// Letters that the operator ended.
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
pub(crate) enum Answer {
    Accepted,
    /// The crash came first.
    Nothing,
}

impl Judge {
    pub(crate) fn new(notary: Notary) -> Self {
        Self {
            notary: Arc::new(Mutex::new(notary)),
            answers: Arc::default(),
            ended_by_operator: BTreeSet::new(),
            held: false,
            set_backs: 0,
            set_on: false,
            passing: BTreeMap::new(),
            unrecorded: BTreeMap::new(),
        }
    }

    pub(crate) fn notary(&self) -> MutexGuard<'_, Notary> {
        self.notary.lock().unwrap()
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
                self.judge.unrecorded.insert(copy, times);
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

    fn message(&self, ledger: &StateReader, message_id: &str) -> Option<Message> {
        let mut found = ledger.find(message_id, 10).unwrap().messages;
        found.retain(|message| message.message_id.as_deref() == Some(message_id));
        found.extend(self.judge.notary().pruned(message_id).cloned());
        assert!(found.len() <= 1, "{}: {message_id} is there twice", self.name());
        found.pop()
    }

    /// The end of the world.
    pub(crate) fn judge(&self) {
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
        self.judge_copies(&evidence.arrived);
        self.judge_passing(&evidence.arrived);
        self.judge_lies();
        self.judge_patience();
        self.judge_rest();
        let ledger = StateReader::open(path).unwrap();
        for (letter, answer) in self.judge.answers.lock().unwrap().values() {
            match (self.message(&ledger, &letter.message_id()), answer) {
                (Some(message), _) => self.judge_letter(letter, &message, &evidence),
                (None, Answer::Accepted) => panic!("{name}: letter {} is lost", letter.number),
                (None, Answer::Nothing) => {
                    let known = evidence.arrived.keys().any(|(id, _)| *id == letter.message_id());
                    assert!(!known, "{name}: letter {} was delivered and forgotten", letter.number);
                }
            }
        }
    }

    /// Nobody got anything twice, but for crashes between the dot and the record, and servers
    /// that took it and did not say so.
    fn judge_copies(&self, arrived: &BTreeMap<Copy, usize>) {
        for ((id, to), times) in arrived {
            let unrecorded = self.judge.unrecorded.get(&(id.clone(), to.clone())).copied().unwrap_or(0);
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
        let now = self.streets.truth();
        let is_new = |passing: &Passing| passing.all.is_none() && passing.until.plus(passing.and_for) <= now;
        if !self.judge.passing.values().any(is_new) {
            return;
        }
        let arrived = self.arrived();
        for (domain, passing) in self.judge.passing.iter_mut().filter(|(_, passing)| is_new(passing)) {
            let to_it = arrived.iter().filter(|((_, to), _)| to.ends_with(&format!("@{domain}")));
            passing.all = Some(to_it.map(|(copy, times)| (copy.clone(), *times)).collect());
        }
    }

    /// Nothing has passed since.
    fn judge_passing(&self, arrived: &BTreeMap<Copy, usize>) {
        let nothing = BTreeMap::new();
        for (domain, passing) in self.judge.passing.iter().filter(|_| self.judge.set_backs == 0) {
            let all = passing.all.as_ref().unwrap_or(&nothing);
            let late = arrived.iter().filter(|((_, to), _)| to.ends_with(&format!("@{domain}")));
            let late: Vec<_> = late.filter(|(copy, times)| all.get(copy) != Some(times)).collect();
            let is_known = passing.all.is_some();
            assert!(!is_known || late.is_empty(), "{}: against the rules {late:?} came to {domain}", self.name());
        }
    }

    /// Whether a letter had all the time to pass.
    fn must_pass(&self, letter: &Letter, to: &str) -> bool {
        let undisturbed = self.is_never_lost() && !self.judge.set_on && !self.judge.held && self.judge.set_backs == 0;
        let passing = self.judge.passing.get(to.split_once('@').unwrap().1);
        undisturbed && passing.is_some_and(|passing| letter.at.plus(LONGEST_WAIT * 3 / 2) < passing.until)
    }

    /// Whether the DNS can be asked at any time.
    fn is_never_lost(&self) -> bool {
        self.ways.lock().unwrap().always_lead_somewhere()
    }

    /// Who lies about the way to a host that is signed leads nobody to another one (RFC 7672 §2.2).
    fn judge_lies(&self) {
        let trap = self.lab.mx(TRAP).unwrap();
        assert_eq!(trap.connections(), 0, "{}: somebody was led astray", self.name());
    }

    /// Where any way to the DNS is honest mail takes it, and at once: what needs nothing but the DNS
    /// is late only when a clock is set or the operator holds it.
    fn judge_delay(&self, whole: &str, to: &str, delayed: usize) {
        let undisturbed = self.is_never_lost() && !self.judge.set_on && !self.judge.held;
        let is_easy = matches!(self.nature(to), Nature::Fine | Nature::ByPolicy);
        assert!(delayed == 0 || !undisturbed || !is_easy, "{whole}: late for no reason");
    }

    /// Nobody waits longer than the schedule says (RFC 5321 §4.5.4.1). Where the clock is set back in
    /// the middle of a wait, another one may begin.
    fn judge_patience(&self) {
        let waits = |nature: &Nature| matches!(nature, Nature::NeverReady | Nature::Dead | Nature::WithoutTls);
        let most = (LONGEST_WAIT * 5 / 4) * (1 + self.judge.set_backs) + HOUR;
        // Where mail comes all the time, there are times when none waits.
        let all_wait_together = self.size != Size::Long;
        for (domain, _) in self.natures.iter().filter(|(_, nature)| waits(nature) && all_wait_together) {
            let silence = self.streets.longest_silence(domain);
            assert!(silence <= most || self.judge.held, "{}: {domain} was left alone for {silence:?}", self.name());
        }
    }

    /// Of what is over nothing stays but its history, for its days.
    fn judge_rest(&self) {
        let mut notary = self.judge.notary();
        notary.look_at_rest(&self.config.spool.path);
        assert_eq!(notary.faults, [""; 0], "{}", self.name());
    }

    fn judge_letter(&self, letter: &Letter, message: &Message, evidence: &Evidence) {
        for recipient in &message.recipients {
            let recipient = recipient.as_ref().unwrap();
            let to = &recipient.address;
            let whole = format!("{}: letter {} to {to}", self.name(), letter.number);
            let copies = evidence.arrived.get(&(letter.message_id(), to.clone())).copied().unwrap_or(0);
            let count = |told: &Told| told.get(&(letter.number, to.clone())).map_or(0, BTreeSet::len);
            let (failed, delayed, relayed) =
                (count(&evidence.failed), count(&evidence.delayed), count(&evidence.relayed));
            let ended = self.judge.ended_by_operator.contains(&letter.number);
            let wants_failure = letter.from == SENDER && letter.notify != NEVER;
            let wants_success = letter.from == SENDER && letter.notify == ALWAYS;
            assert!(delayed <= self.most_notices(to) * usize::from(wants_failure), "{whole}: {delayed} notices");
            self.judge_delay(&whole, to, delayed);
            match &recipient.state {
                RecipientState::Queued(_) | RecipientState::Owed(_) => panic!("{whole}: waits for ever"),
                RecipientState::Removed => assert!(ended && failed + relayed == 0, "{whole}"),
                RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } } => {
                    assert!(self.nature(to).delivers() != Some(false), "{whole}: delivered against the rules");
                    assert!(copies >= 1 && failed == 0, "{whole}: {copies} copies, {failed} reports");
                    assert_eq!(relayed, usize::from(wants_success), "{whole}: reports of success");
                }
                RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } } => {
                    // A clock that is set on brings the end of a message before its time.
                    let is_easy = self.nature(to) == Nature::Fine && self.is_never_lost();
                    let too_early = self.judge.set_on && !is_easy;
                    // What a crash kept from being recorded may be forbidden by the next attempt.
                    let copy = (letter.message_id(), to.clone());
                    let unrecorded = self.judge.unrecorded.get(&copy).copied().unwrap_or(0);
                    let must = self.nature(to).delivers() == Some(true) || self.must_pass(letter, to);
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

    /// The reports about each recipient of each letter, by their Message-ID.
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
        match self.nature(address) {
            Nature::Greylisting
            | Nature::NeverReady
            | Nature::Dead
            | Nature::Silent
            | Nature::DeadAtFirst
            | Nature::LosesRepliesAtFirst
                if self.is_never_lost() =>
            {
                1
            }
            _ => 2,
        }
    }

    fn nature(&self, address: &str) -> Nature {
        self.natures[address.split_once('@').unwrap().1]
    }

    fn loses_replies(&self, address: &str) -> bool {
        let (_, domain) = address.split_once('@').unwrap();
        self.natures.get(domain) == Some(&Nature::LosesRepliesAtFirst)
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

/// The letter that a report is about: the last Message-ID in it is that of the original.
fn number_in(report: &str) -> Option<usize> {
    let (_, rest) = report.rsplit_once("Message-ID: <n")?;
    rest.split_once('@')?.0.parse().ok()
}
