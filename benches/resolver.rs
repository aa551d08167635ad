//! How many validated look-ups a second, and what an answer that is kept costs in memory.
//!
//! `cargo bench --bench resolver`: the lab's zones in process, without sockets; the path hands
//! over messages that were signed before the measurement, so it is validation, cache and what
//! lies between that is measured. Nothing is asserted: the numbers belong to the machine.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints, reads its own memory, and ends at the first failure"
)]

use async_trait::async_trait;
use dane_relay::clock::Clock;
use dane_relay::config::{Config, TrustAnchorSource};
use dane_relay::lab::dns::plan::SigningPlan;
use dane_relay::lab::dns::world::{AnchorForm, World};
use dane_relay::lab::{AnswerFault as ZoneFault, KeyAlgorithm, SignatureFault, Signing};
use dane_relay::resolve::dnssec::{Anchors, Step, Validation, Zones, fuzz};
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::paths::{FetchError, PathName, Source, Transport};
use dane_relay::resolve::{Security, event};
use hickory_proto::op::Message;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Instant;
use tempfile::TempDir;

/// Zones of the measurement, all below `test.`, each with keys of its own.
const ZONES: usize = 400;
/// Names asked for in each of them.
const NAMES: usize = 20;
/// Names kept when memory is measured.
const KEPT: usize = 100_000;
/// Rounds over all names from the cache.
const CACHED_ROUNDS: usize = 100;
/// Look-ups at once.
const TASKS: usize = 8;

/// A path that remembers what the world has signed.
struct Path {
    world: World,
    /// None where memory is measured.
    recorded: Option<Recorded>,
}

type Recorded = Mutex<HashMap<(Name, RecordType), Message>>;

#[async_trait]
impl Source for Path {
    async fn fetch(&self, name: &Name, record_type: RecordType) -> Result<Message, FetchError> {
        let key = (name.to_lowercase(), record_type);
        let signed = || self.world.message(&name.to_ascii(), record_type).unwrap();
        let Some(recorded) = &self.recorded else { return Ok(signed()) };
        Ok(recorded.lock().unwrap().entry(key).or_insert_with(signed).clone())
    }
}

fn main() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let folder = tempfile::tempdir().unwrap();
    for (word, algorithm) in [("ECDSA P-256", KeyAlgorithm::EcdsaP256), ("Ed25519", KeyAlgorithm::Ed25519)] {
        runtime.block_on(speed(word, algorithm, &folder));
    }
    runtime.block_on(memory(&folder));
    hostile();
    hostile_octets();
}

fn path(algorithm: KeyAlgorithm, zones: usize, names: usize, recorded: Option<Recorded>) -> (Arc<Path>, Vec<Name>) {
    let world = World::new(Clock::system()).unwrap();
    let mut all = Vec::new();
    for zone in 0..zones {
        world.add_zone(&format!("zone{zone}.test"), Signing::Signed(algorithm)).unwrap();
        for host in 0..names {
            let name = format!("host{host}.zone{zone}.test.");
            world.add(&name, RData::A(A::new(192, 0, 2, 1))).unwrap();
            all.push(Name::from_ascii(name).unwrap());
        }
    }
    (Arc::new(Path { world, recorded }), all)
}

fn dns(path: &Arc<Path>, folder: &TempDir) -> Arc<Dns> {
    let anchors = folder.path().join("root.key");
    std::fs::write(&anchors, path.world.trust_anchor(AnchorForm::Ds).unwrap()).unwrap();
    let mut config = Config::default();
    config.dns.trust_anchors = TrustAnchorSource::File(anchors);
    let name = PathName { upstream: "world".into(), transport: Transport::Udp };
    let source = Arc::clone(path) as Arc<dyn Source>;
    Arc::new(Dns::over(&config, vec![(name, source)], Clock::system(), event::nobody()).unwrap())
}

/// Asks for all names, several at once; what it took.
async fn ask(dns: &Arc<Dns>, names: &[Name], rounds: usize) -> Took {
    let (started, worked_before) = (Instant::now(), processor_seconds());
    let share = names.len().div_ceil(TASKS);
    let tasks = names.chunks(share).map(|some| {
        let (dns, some) = (Arc::clone(dns), some.to_vec());
        tokio::spawn(async move {
            for _ in 0..rounds {
                for name in &some {
                    let found = dns.find(name, RecordType::A).await;
                    let security = found.result.as_ref().unwrap().security;
                    assert_eq!(security, Security::Secure);
                }
            }
        })
    });
    for task in tasks.collect::<Vec<_>>() {
        task.await.unwrap();
    }
    Took { seconds: started.elapsed().as_secs_f64(), worked: processor_seconds() - worked_before }
}

/// The time that something took, and how much of it all processors worked for us: the second holds on a
/// machine that is busy with other things, too.
struct Took {
    seconds: f64,
    worked: f64,
}

impl Took {
    fn tell(&self, word: &str, count: usize) {
        let count = f64::from(u32::try_from(count).unwrap());
        let (each_second, us_each) = (count / self.seconds, self.worked * 1e6 / count);
        println!("{word:42} {each_second:>9.0}/s {us_each:>8.2} us of a processor each");
    }
}

/// The time that processors have worked for the threads there are.
fn processor_seconds() -> f64 {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    let worked_ns = |thread: std::io::Result<std::fs::DirEntry>| {
        let text = std::fs::read_to_string(thread.unwrap().path().join("schedstat")).unwrap();
        text.split(' ').next().unwrap().parse::<f64>().unwrap()
    };
    threads.map(worked_ns).sum::<f64>() / 1e9
}

async fn speed(word: &str, algorithm: KeyAlgorithm, folder: &TempDir) {
    let (path, names) = path(algorithm, ZONES, NAMES, Some(Mutex::default()));
    ask(&dns(&path, folder), &names, 1).await;
    let fresh = dns(&path, folder);
    let firsts: Vec<Name> = names.iter().step_by(NAMES).cloned().collect();
    let new_zone = ask(&fresh, &firsts, 1).await;
    new_zone.tell(&format!("{word}: cold, a new zone each time"), firsts.len());
    let others: Vec<Name> = names.iter().filter(|name| !firsts.contains(name)).cloned().collect();
    ask(&fresh, &others, 1).await.tell(&format!("{word}: cold, in a known zone"), others.len());
    ask(&fresh, &names, CACHED_ROUNDS).await.tell(&format!("{word}: cached"), names.len() * CACHED_ROUNDS);
}

async fn memory(folder: &TempDir) {
    let (path, names) = path(KeyAlgorithm::EcdsaP256, 100, KEPT / 100, None);
    let dns = dns(&path, folder);
    // What the world itself takes for a first answer is no part of the cache.
    ask(&dns, names.get(..100).unwrap(), 1).await;
    let before = resident_bytes();
    ask(&dns, &names, 1).await;
    let megabytes = (resident_bytes() - before) / 1_000_000;
    println!("memory for {} names kept: {megabytes} MB", names.len());
}

/// What zones made to be costly take of the processor: the validator alone, nothing known before.
fn hostile() {
    let world = World::new(Clock::system()).unwrap();
    let anchors = Anchors::parse(&world.trust_anchor(AnchorForm::Ds).unwrap()).unwrap();
    let flooded = |zone: &str, plan: SigningPlan| {
        world.add_zone(zone, plan).unwrap();
        world.zone_fault(zone, ZoneFault::Signature(SignatureFault::Flooded)).unwrap();
    };
    for (zone, algorithm) in [
        ("p256.test", KeyAlgorithm::EcdsaP256),
        ("p384.test", KeyAlgorithm::EcdsaP384),
        ("rsa.test", KeyAlgorithm::RsaSha512),
        ("ed25519.test", KeyAlgorithm::Ed25519),
    ] {
        flooded(zone, SigningPlan::signed(algorithm).colliding(40));
    }
    world.add_zone("hashes.test", SigningPlan::signed(KeyAlgorithm::EcdsaP256).nsec3(150)).unwrap();
    let deep = format!("{}hashes.test", "a.".repeat(50));
    let questions = ["p256.test", "p384.test", "rsa.test", "ed25519.test", deep.as_str()];
    for question in questions {
        let took = (0..20).map(|_| validator_ms(&world, &anchors, question)).fold(f64::MAX, f64::min);
        println!("hostile zone {:12} least of 20: {took:.2} ms", question.trim_start_matches("a."));
    }
}

/// What messages made to be costly take, each 64 KiB: as hickory alone decodes them, as the relay does, and
/// until there is a verdict.
fn hostile_octets() {
    let long = [[1, b'a'].repeat(126), vec![0]].concat();
    let messages = [
        ("chained pointers", full_of(&chain(8000, &[]), usize::MAX)),
        ("names of 126 labels", full_of(&from_start(long.clone()), usize::MAX)),
        ("labels and pointers", full_of(&chain(125, &[1, b'a']), usize::MAX)),
        ("chained pointers, as many as are read", full_of(&chain(8000, &[]), 2)),
        ("names of 126 labels, as many as are read", full_of(&from_start(long), 210)),
        ("labels and pointers, as many as are read", full_of(&chain(125, &[1, b'a']), 105)),
        ("plain records", full_of(&from_start(vec![0]), usize::MAX)),
    ];
    for (word, octets) in messages {
        let by_hickory = least_ms(|| Message::from_vec(&octets).is_ok());
        let by_relay = least_ms(|| fuzz::read(&octets).is_some());
        let judged = least_ms(|| fuzz::validate_bytes(&octets, Clock::system().now()).is_some());
        println!("{word:42} hickory {by_hickory:.2} ms, relay {by_relay:.2} ms, judged {judged:.2} ms");
    }
}

/// Names in wire form, and where the one begins that is read.
struct Names {
    octets: Vec<u8>,
    start: usize,
}

/// Pointers, each to the one before it, perhaps behind a label; and where the last one begins.
fn chain(pointers: u16, label: &[u8]) -> Names {
    let (mut octets, mut last) = (vec![0], 0);
    for _ in 0..pointers {
        let to = NAMES_AT + u16::try_from(last).unwrap();
        last = octets.len();
        octets.extend_from_slice(label);
        octets.extend_from_slice(&(0xc000 | to).to_be_bytes());
    }
    Names { octets, start: last }
}

/// One name, read from its start.
fn from_start(octets: Vec<u8>) -> Names {
    Names { octets, start: 0 }
}

/// Where the data of the first record begins: behind header, question and the record's own fields.
const NAMES_AT: u16 = 12 + 5 + 11;

/// A message with these octets in its first record, and NS records whose owner and data are the name that
/// begins in them, as many as a message can have or fewer.
fn full_of(names: &Names, most: usize) -> Vec<u8> {
    let pointer = (0xc000 | (NAMES_AT + u16::try_from(names.start).unwrap())).to_be_bytes();
    let mut octets = vec![0, 7, 0x84, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1];
    octets.extend_from_slice(&[0, 0xff, 0x10, 0, 1, 0, 0, 0, 60]);
    octets.extend_from_slice(&u16::try_from(names.octets.len()).unwrap().to_be_bytes());
    octets.extend_from_slice(&names.octets);
    let mut records = 1_u16;
    while octets.len() <= 65_535 - 14 && usize::from(records) <= most {
        octets.extend_from_slice(&pointer);
        octets.extend_from_slice(&[0, 2, 0, 1, 0, 0, 0, 60, 0, 2]);
        octets.extend_from_slice(&pointer);
        records += 1;
    }
    octets.get_mut(6..8).unwrap().copy_from_slice(&records.to_be_bytes());
    octets
}

/// The least time of some rounds, in milliseconds: that of a round nothing else got in the way of.
fn least_ms(work: impl Fn() -> bool) -> f64 {
    let once = || {
        let started = Instant::now();
        assert!(work(), "the octets are a message");
        started.elapsed().as_secs_f64() * 1000.0
    };
    std::iter::repeat_with(once).take(20).fold(f64::MAX, f64::min)
}

/// The time spent in the validator for one look-up, in milliseconds.
fn validator_ms(world: &World, anchors: &Anchors, question: &str) -> f64 {
    let (name, record_type) = (Name::from_ascii(format!("{question}.")).unwrap(), RecordType::MX);
    let message = |name: &Name, record_type| world.message(&name.to_ascii(), record_type).unwrap();
    let zones = Zones::new(100);
    let mut validation = Validation::begin(&name, record_type, message(&name, record_type), Clock::system().now());
    let mut spent = std::time::Duration::ZERO;
    loop {
        let started = Instant::now();
        let step = validation.step(anchors, &zones);
        spent += started.elapsed();
        match step {
            Step::Ask(name, record_type) => validation.feed(Ok(message(&name, record_type))),
            Step::Done(_) => return spent.as_secs_f64() * 1000.0,
        }
    }
}

/// The resident set, from `/proc`.
fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}
