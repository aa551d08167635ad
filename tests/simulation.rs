//! Seeded worlds in virtual time: senders, hosts that deliver, defer and refuse, next hops that
//! hang, workers that die, restarts and a clock that jumps. After each world every recipient is
//! accounted for, nobody was told twice of one failure, and nobody got a message twice without a
//! worker that died between the delivery and its record (RFC 5321 §6.1, §4.5.4.1).
//!
//! The spool, its audit and the rules of retry are the real ones; hosts are dice.
#![expect(clippy::unwrap_used, reason = "what fails in a test is the test's result")]

use bytes::Bytes;
use dane_relay::clock::Timestamp;
use dane_relay::config::{Retry, SpoolConfig};
use dane_relay::envelope::{ClientInfo, Envelope, Origin, QueueId};
use dane_relay::outcome::{Cause, DeliveryOutcome, Peer};
use dane_relay::smtp::address::ReversePath;
use dane_relay::spool::conclude::{Conclusion, conclude, wait};
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::embedded::audit::{Auditor, Depth};
use dane_relay::spool::embedded::ledger::Ledger;
use dane_relay::spool::event::{Event, Silence};
use dane_relay::spool::{Claim, RecipientState, Report, Settlement, Spool, SpoolEntry, Telling};
use std::collections::BTreeMap;
use std::time::Duration;
use tempfile::TempDir;

const WORLDS: u64 = 10;
const MESSAGES: u64 = 12;
const BEGIN: Timestamp = Timestamp(1_795_261_468_000);
/// Longer than any schedule of these worlds.
const MOST_ROUNDS: usize = 5000;

struct Dice(u64);

impl Dice {
    /// Below `sides`.
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn one_in(&mut self, n: u64) -> bool {
        self.roll(n) == 0
    }
}

struct World {
    seed: u64,
    dice: Dice,
    folder: TempDir,
    spool: Option<EmbeddedSpool>,
    now: Timestamp,
    /// Deliveries by message and recipient, and those whose worker died before the record.
    delivered: BTreeMap<(QueueId, usize), u32>,
    unrecorded: BTreeMap<(QueueId, usize), u32>,
}

impl World {
    fn new(seed: u64) -> Self {
        let (folder, dice) = (TempDir::new().unwrap(), Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1));
        let (delivered, unrecorded) = (BTreeMap::new(), BTreeMap::new());
        let mut world = Self { seed, dice, folder, spool: None, now: BEGIN, delivered, unrecorded };
        world.open();
        world
    }

    fn config(&self) -> SpoolConfig {
        let path = self.folder.path().join("spool");
        SpoolConfig { path, min_free_bytes: 0, min_free_inodes: 0, ..SpoolConfig::default() }
    }

    fn open(&mut self) {
        self.spool = Some(EmbeddedSpool::open(&self.config(), self.now).unwrap());
    }

    fn spool(&self) -> &EmbeddedSpool {
        self.spool.as_ref().unwrap()
    }

    async fn accept(&mut self) {
        let recipients = (0..=self.dice.roll(4)).map(|n| format!("r{n}@d{}.example", self.dice.roll(5)));
        let recipients = recipients.map(|address| address.parse().unwrap()).collect();
        let null = self.dice.one_in(6);
        let sender =
            if null { ReversePath::Null } else { ReversePath::Mailbox("alice@office.example".parse().unwrap()) };
        let client = ClientInfo { address: [192, 0, 2, 1].into(), helo: "ex".into(), protocol: "ESMTP".into() };
        let envelope = Envelope::new(sender, recipients, self.now, Origin::Client(client));
        let mut draft = self.spool().begin(self.now);
        draft.body.write(b"Message-ID: <1@office.example>\r\n\r\nx\r\n").await.unwrap();
        self.spool().enqueue(draft, envelope).await.unwrap();
    }

    /// What the hosts say to one recipient.
    fn outcome(&mut self, id: QueueId, index: usize) -> DeliveryOutcome {
        match self.dice.roll(10) {
            0..3 => {
                *self.delivered.entry((id, index)).or_default() += 1;
                delivered()
            }
            3 => DeliveryOutcome::Failed { cause: Cause::NullMx { domain: "d.example".parse().unwrap() } },
            _ => DeliveryOutcome::Failed { cause: refused() },
        }
    }

    /// One message: its recipients one by one, as routes that end in their own time.
    async fn carry(&mut self, mut claim: Claim) {
        let retry = retry();
        let due: Vec<usize> = due(&claim.entry, self.now);
        let mut left = due.len();
        for index in due {
            left -= 1;
            let conclusion = if self.dice.one_in(8) {
                let until = self.now.plus(Duration::from_secs(60));
                wait(&claim.entry, &[index], (&refused(), until), (&retry, self.now))
            } else {
                let outcome = self.outcome(claim.entry.id, index);
                conclude(&claim.entry, [(index, outcome)], &retry, self.now)
            };
            if self.dice.one_in(15) {
                // The worker dies before the record.
                if is_delivered(&conclusion) {
                    *self.unrecorded.entry((claim.entry.id, index)).or_default() += 1;
                }
                return self.spool().release(claim);
            }
            let settlement = settlement(&claim.entry, conclusion, self.now);
            if left == 0 {
                return self.spool().settle(claim, settlement).await.unwrap();
            }
            self.spool().settle_part(&mut claim, settlement).await.unwrap();
        }
        self.spool().settle(claim, Settlement::default()).await.unwrap();
    }

    async fn run(&mut self) {
        let mut to_come = MESSAGES;
        for _ in 0..MOST_ROUNDS {
            if to_come > 0 && self.dice.one_in(2) {
                to_come -= 1;
                self.accept().await;
            }
            match self.dice.roll(40) {
                0 => {
                    self.spool().close().await;
                    self.spool = None;
                    self.open();
                }
                1 => self.now = self.now.plus(Duration::from_secs(self.dice.roll(100_000))),
                2 => self.now = Timestamp(self.now.0 - i64::try_from(self.dice.roll(100_000_000)).unwrap()),
                _ => {}
            }
            for claim in self.spool().claim_due(self.now, 3).await.unwrap() {
                self.carry(claim).await;
            }
            match self.spool().next_due() {
                Some(due) => self.now = self.now.max(due),
                None if to_come == 0 => return,
                None => self.now = self.now.plus(Duration::from_secs(30)),
            }
        }
        assert_eq!(self.spool().stats().queued_messages, 0, "world {}: something waits for ever", self.seed);
    }

    fn check(&self) {
        let seed = self.seed;
        let path = self.config().path;
        let audit = Auditor::open(&path, Depth::Everything).unwrap().finish().unwrap();
        assert_eq!(audit.findings, [], "world {seed}");
        assert_eq!(audit.sum.queued, 0, "world {seed}");
        for ((id, index), times) in &self.delivered {
            let unrecorded = self.unrecorded.get(&(*id, *index)).copied().unwrap_or(0);
            assert!(*times <= 1 + unrecorded, "world {seed}: {id} to recipient {index} {times} times");
        }
        let ledger = Ledger::open(&path).unwrap();
        let reports = ledger.find("alice@office.example", 10_000).unwrap().messages;
        let mut told: BTreeMap<(QueueId, usize), u32> = BTreeMap::new();
        for message in &reports {
            for (_, event) in ledger.history(message.id).unwrap() {
                let Event::Told { recipients, .. } = event else { continue };
                recipients.into_iter().for_each(|index| *told.entry((message.id, index)).or_default() += 1);
            }
        }
        assert!(told.values().all(|times| *times == 1), "world {seed}: told twice: {told:?}");
        assert_eq!(audit.sum.told, told.len() as u64, "world {seed}");
        let about =
            |m: &&dane_relay::spool::embedded::ledger::Message| matches!(m.envelope.origin, Origin::Report { .. });
        assert_eq!(reports.iter().filter(about).count(), told.len(), "world {seed}: a report for each failure");
    }
}

fn due(entry: &SpoolEntry, now: Timestamp) -> Vec<usize> {
    let waiting = entry.recipients.iter().enumerate();
    let waiting: Vec<_> = waiting.filter_map(|(index, state)| Some((index, state.pending()?.due))).collect();
    let by = waiting.iter().map(|(_, due)| *due).min().flatten().map_or(now, |first| first.max(now));
    waiting.into_iter().filter(|(_, due)| due.is_none_or(|due| due <= by)).map(|(index, _)| index).collect()
}

fn settlement(entry: &SpoolEntry, conclusion: Conclusion, now: Timestamp) -> Settlement {
    let null = entry.envelope.reverse_path == ReversePath::Null;
    let telling = if null { Telling::Nobody(Silence::NullReversePath) } else { Telling::ByReport(0) };
    let told: Vec<_> = conclusion.failures.iter().map(|(index, _)| (*index, telling)).collect();
    let reports = if null || told.is_empty() { Vec::new() } else { vec![report(entry.id, now)] };
    Settlement { recipients: conclusion.recipients, at: Some(now), reports, told, ..Settlement::default() }
}

fn report(about: QueueId, now: Timestamp) -> Report {
    let recipients = vec!["alice@office.example".parse().unwrap()];
    let envelope = Envelope::new(ReversePath::Null, recipients, now, Origin::Report { about });
    Report { envelope, content: Bytes::from_static(b"Subject: Undeliverable\r\n\r\n") }
}

fn is_delivered(conclusion: &Conclusion) -> bool {
    let delivered =
        |state: &RecipientState| matches!(state, RecipientState::Done { outcome: DeliveryOutcome::Delivered { .. } });
    conclusion.recipients.iter().any(|(_, state)| delivered(state))
}

fn refused() -> Cause {
    let peer = Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
    Cause::ConnectFailed { peer, detail: "refused".into() }
}

fn delivered() -> DeliveryOutcome {
    let json = r#"{"state":"delivered","peer":{"host":"mx.example","address":"192.0.2.1:25"},
        "tls":{"tls":"clear-text"},"reply":{"code":250,"enhanced":null,"lines":["ok"]}}"#;
    serde_json::from_str(json).unwrap()
}

fn retry() -> Retry {
    let (first, longest) = (Duration::from_secs(300), Duration::from_secs(3600));
    Retry { first, longest, expire_after: Duration::from_secs(86_400) }
}

#[tokio::test]
async fn rfc5321_6_1_in_every_world_everyone_is_accounted_for_and_told_once() {
    for seed in 1..=WORLDS {
        let mut world = World::new(seed);
        world.run().await;
        world.check();
    }
}
