//! Seeded worlds for the whole relay: hosts that greylist, refuse, stall or are gone, DNS that lies
//! or is silent for a while, and a relay that is stopped and started again in the middle. After
//! each world the audit holds, everyone who failed was told of once, and nobody got a message
//! twice (RFC 5321 §4.5.4.1, §6.1).

use crate::random::SeededRandom;
use crate::relay::{SENDER, config, hand_in, lab, says, until};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::{AnswerFault, DomainSpec, Lab, SignatureFault, StartTls, Tlsa, TroubleAt};
use dane_relay::service::start::{self, Relay};
use dane_relay::spool::audit::Depth;
use dane_relay::spool::embedded::audit::Auditor;
use futures_util::future::join_all;
use hickory_proto::rr::RecordType;
use std::collections::BTreeMap;
use std::time::Duration;

const WORLDS: u64 = 6;
const MESSAGES: u64 = 12;

/// What a domain is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DomainBehaviour {
    Fine,
    Greylisting,
    /// Its DNS is silent until the middle of the world.
    SilentAtFirst,
    Dead,
    Refusing,
    NeverReady,
    Mismatched,
    Forged,
    WithoutTls,
}

use DomainBehaviour::{Dead, Fine, Forged, Greylisting, Mismatched, NeverReady, Refusing, SilentAtFirst, WithoutTls};

const BEHAVIOURS: [DomainBehaviour; 9] =
    [Fine, Greylisting, SilentAtFirst, Dead, Refusing, NeverReady, Mismatched, Forged, WithoutTls];

impl DomainBehaviour {
    fn delivers(self) -> bool {
        matches!(self, Fine | Greylisting | SilentAtFirst)
    }

    fn describe(self, name: &str, domain: DomainSpec) -> DomainSpec {
        let host = format!("mx.{name}");
        match self {
            Fine => domain,
            Greylisting => domain.host(|h| h.greylisting()),
            SilentAtFirst => domain.fault(name, RecordType::MX, AnswerFault::ServFail),
            Dead => domain.host(|h| h.down()),
            Refusing => domain.host(|h| h.known(&["nobody"])),
            NeverReady => domain.host(|h| h.trouble(TroubleAt::Rcpt, says("451 4.3.0 later"))),
            Mismatched => domain.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])),
            Forged => domain.fault(&host, RecordType::TLSA, AnswerFault::Signature(SignatureFault::Bogus)),
            WithoutTls => domain.host(|h| h.starttls(StartTls::NotOffered)),
        }
    }
}

struct World {
    seed: u64,
    random: SeededRandom,
    lab: Lab,
    config: Config,
    behaviours: BTreeMap<String, DomainBehaviour>,
    /// The recipients of each message, by its number.
    sent: Vec<Vec<String>>,
    _folder: tempfile::TempDir,
}

impl World {
    async fn new(seed: u64) -> Self {
        let mut random = SeededRandom::new(seed);
        let mut behaviours = BTreeMap::from([("d0.test".to_owned(), Fine), ("d1.test".to_owned(), SilentAtFirst)]);
        behaviours.extend((2..7).map(|n| (format!("d{n}.test"), *random.pick(&BEHAVIOURS))));
        let described =
            behaviours.iter().fold(lab(), |lab, (name, behaviour)| lab.domain(name, |d| behaviour.describe(name, d)));
        let (lab, folder) = (described.start().await.unwrap(), tempfile::tempdir().unwrap());
        let mut config = config(&lab, folder.path());
        config.retry.first = Duration::from_millis(100);
        config.retry.longest = Duration::from_millis(300);
        config.retry.expire_after = Duration::from_secs(6);
        config.delivery.reuse_connections = random.one_in(2);
        Self { seed, random, lab, config, behaviours, sent: Vec::new(), _folder: folder }
    }

    async fn relay(&self) -> Relay {
        start::start(self.config.clone(), Clock::system()).await.unwrap()
    }

    async fn send_some(&mut self, relay: &Relay) {
        for _ in 0..MESSAGES / 3 {
            let domains: Vec<String> = self.behaviours.keys().cloned().collect();
            let some = (0..=self.random.below(3)).map(|n| format!("r{n}@{}", self.random.pick(&domains)));
            let to: Vec<String> = some.collect();
            let number = self.sent.len();
            let content = format!("From: <{SENDER}>\r\nMessage-ID: <n{number}@office.test>\r\n\r\nx\r\n");
            let recipients: Vec<&str> = to.iter().map(String::as_str).collect();
            hand_in(relay.smtp[0], SENDER, &recipients, content.as_bytes()).await;
            self.sent.push(to);
        }
    }

    /// Three lives of the relay; the DNS heals in the second, and the last sees everything to its end.
    async fn run(&mut self) {
        for life in 0..3 {
            let relay = self.relay().await;
            self.send_some(&relay).await;
            if life == 1 {
                for (name, _) in self.behaviours.iter().filter(|(_, behaviour)| **behaviour == SilentAtFirst) {
                    self.lab.world().fault(name, RecordType::MX, None).unwrap();
                }
            }
            if life == 2 {
                let empty = || async { (relay.spool.stats().queued_messages == 0).then_some(()) };
                until(empty, "an empty queue").await;
            }
            relay.stop();
            relay.ended().await.unwrap();
        }
    }

    /// How often each message came to each recipient.
    fn arrived(&self) -> BTreeMap<(usize, String), usize> {
        let mut arrived = BTreeMap::new();
        for name in self.behaviours.keys() {
            // A host that is gone has nothing to show.
            for message in self.lab.mx(name).map(|mx| mx.messages()).unwrap_or_default() {
                let number = number_in(&String::from_utf8_lossy(&message.content));
                for to in message.rcpt_to {
                    *arrived.entry((number, to)).or_default() += 1;
                }
            }
        }
        arrived
    }

    /// How often each sender was told of each recipient.
    fn told(&self) -> BTreeMap<(usize, String), usize> {
        let mut told = BTreeMap::new();
        for report in self.lab.mx("office.test").unwrap().messages() {
            let text = String::from_utf8_lossy(&report.content).into_owned();
            let (_, original) = text.split_once("Content-Type: text/rfc822-headers").unwrap();
            let number = number_in(original);
            for line in text.lines().filter_map(|line| line.strip_prefix("Final-Recipient: rfc822; ")) {
                *told.entry((number, line.to_owned())).or_default() += 1;
            }
        }
        told
    }

    fn check(&self) {
        let seed = self.seed;
        let audit = Auditor::open(&self.config.spool.path, Depth::Everything).unwrap().finish().unwrap();
        assert_eq!(audit.findings, [], "world {seed}");
        assert_eq!(audit.sum.queued, 0, "world {seed}");
        let (mut good, mut bad) = (BTreeMap::new(), BTreeMap::new());
        for (number, recipients) in self.sent.iter().enumerate() {
            for to in recipients {
                let (_, domain) = to.split_once('@').unwrap();
                let ends = if self.behaviours[domain].delivers() { &mut good } else { &mut bad };
                ends.insert((number, to.clone()), 1);
            }
        }
        assert_eq!(self.arrived(), good, "world {seed}: {:?}", self.behaviours);
        assert_eq!(self.told(), bad, "world {seed}: {:?}", self.behaviours);
    }
}

fn number_in(text: &str) -> usize {
    let (_, rest) = text.split_once("Message-ID: <n").unwrap();
    rest.split_once('@').unwrap().0.parse().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5321_6_1_in_every_world_each_recipient_gets_the_message_or_its_sender_is_told_once() {
    join_all((1..=WORLDS).map(|seed| async move {
        let mut world = World::new(seed).await;
        world.run().await;
        world.check();
    }))
    .await;
}
