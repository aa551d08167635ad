//! A world made from a seed: domains and how they are, submissions and when they are handed in, and
//! what happens meanwhile. It outlives the relay, which has several lives in it.

use crate::behaviour::DomainBehaviour::{
    Dead, DeadAtFirst, Fine, Greylisting, Mismatched, NeverReady, Refusing, Silent,
};
use crate::behaviour::{BEHAVIOURS, CHANGING, DomainBehaviour};
use crate::crash_snapshot::Crash;
use crate::dns_paths::{DnsPaths, TRAP};
use crate::invariants::Invariants;
use crate::network::SimulatedNetwork;
use crate::pruning_log::PruningLog;
use crate::random::SeededRandom;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::Config;
use dane_relay::lab::dns::boxes::PathFault;
use dane_relay::lab::dns::world::AnchorForm;
use dane_relay::lab::{Block, DomainSpec, Lab};
use dane_relay::spool::event::Act;
use futures_util::FutureExt as _;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;

pub(crate) const SENDER: &str = "alice@office.test";
/// RFC 3461 §4.1: nobody is told of anything, and somebody is told of everything.
pub(crate) const NEVER: &str = " NOTIFY=NEVER";
pub(crate) const ALWAYS: &str = " NOTIFY=SUCCESS,FAILURE,DELAY";
pub(crate) const BEGIN: Timestamp = Timestamp(1_795_261_468_000);
pub(crate) const HOUR: Duration = Duration::from_secs(3600);
/// Between two attempts, but for a tenth of jitter.
pub(crate) const LONGEST_WAIT: Duration = Duration::from_secs(4 * 3600);

/// A message that is handed in.
#[derive(Clone, Debug)]
pub(crate) struct Submission {
    pub(crate) number: usize,
    /// When it is handed in first.
    pub(crate) at: Timestamp,
    pub(crate) from: &'static str,
    /// What it asks for beside (RFC 3461 §4.3).
    pub(crate) ret: &'static str,
    pub(crate) to: Vec<String>,
    /// What the sender wants to be told.
    pub(crate) notify: &'static str,
    /// Octets of padding.
    pub(crate) padding: usize,
}

impl Submission {
    pub(crate) fn message_id(&self) -> String {
        format!("n{}@office.test", self.number)
    }

    pub(crate) fn content(&self) -> Vec<u8> {
        let line = "all work and no play makes jack a dull boy, again and again and again\r\n";
        let padding = line.repeat(self.padding.div_ceil(line.len()));
        format!("From: <{SENDER}>\r\nMessage-ID: <{}>\r\n\r\n{padding}x\r\n", self.message_id()).into_bytes()
    }
}

/// Something that happens.
#[derive(Clone, Debug)]
pub(crate) enum What {
    /// Somebody hands a submission in.
    Send(Submission),
    /// What was only at first is over, and what fits no longer begins.
    Heal,
    /// What has healed under an exception is as it was, and the exception is over.
    Break,
    /// The operator does something to a submission.
    Operate(Act, usize),
    /// The operator releases what is held.
    ReleaseAll,
    /// The clock is set on, or back.
    SetOn(Duration),
    SetBack(Duration),
    /// The relay is stopped in good order, and started again.
    Restart,
    /// The metrics are read, once the queue is empty.
    ReadMetrics,
}

/// How much there is in a world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Size {
    Usual,
    /// Of everything something, so that it can be lived through many times.
    Small,
    /// Mail comes for longer than its history is kept, and the relay starts often.
    Long,
}

/// See the module.
pub(crate) struct World {
    pub(crate) seed: u64,
    /// The crashes that it has had.
    pub(crate) crashes: Vec<Crash>,
    pub(crate) behaviours: BTreeMap<String, DomainBehaviour>,
    pub(crate) lab: Arc<Lab>,
    pub(crate) network: Arc<SimulatedNetwork>,
    /// To the DNS.
    pub(crate) paths: Arc<Mutex<DnsPaths>>,
    /// The time by which zones are signed.
    pub(crate) signing: Clock,
    pub(crate) config: Config,
    /// By the clock of the relay's machine, which may be set.
    pub(crate) now: Timestamp,
    /// By one that nobody sets.
    pub(crate) truth: Timestamp,
    pub(crate) to_come: VecDeque<(Timestamp, What)>,
    pub(crate) invariants: Invariants,
    pub(crate) size: Size,
    /// As they were read last.
    pub(crate) metrics: String,
    lives: usize,
    folder: TempDir,
}

impl World {
    pub(crate) fn new(seed: u64, size: Size) -> Self {
        let mut random = SeededRandom::new(seed);
        let behaviours = behaviours(&mut random, size);
        let to_come = happenings(&mut random, &behaviours, size);
        Self::made_of(seed, size, behaviours, to_come)
    }

    /// A world with these domains, in which this happens.
    pub(crate) fn made_of(
        seed: u64,
        size: Size,
        behaviours: BTreeMap<String, DomainBehaviour>,
        to_come: VecDeque<(Timestamp, What)>,
    ) -> Self {
        let as_they_are = |name: &str, behaviour: DomainBehaviour, domain| behaviour.describe(name, domain);
        Self::described(seed, size, behaviours, to_come, &as_they_are)
    }

    /// The same, where the domains have something of their own beside their behaviour.
    pub(crate) fn described(
        seed: u64,
        size: Size,
        behaviours: BTreeMap<String, DomainBehaviour>,
        to_come: VecDeque<(Timestamp, What)>,
        describe: &dyn Fn(&str, DomainBehaviour, DomainSpec) -> DomainSpec,
    ) -> Self {
        let signing = Clock::manual(BEGIN);
        let builder =
            Lab::builder().without_sockets().clock(signing.clone()).domain("office.test", |d| d).domain(TRAP, |d| d);
        let builder = behaviours
            .iter()
            .fold(builder, |lab, (name, behaviour)| lab.domain(name, |d| describe(name, *behaviour, d)));
        let lab = Arc::new(builder.start().now_or_never().unwrap().unwrap());
        let network = Arc::new(SimulatedNetwork::new(Arc::clone(&lab)));
        for (name, behaviour) in &behaviours {
            match behaviour {
                Dead | DeadAtFirst => network.block(name, Some(Block::Refused)),
                Silent => network.block(name, Some(Block::Silent)),
                _ => {}
            }
        }
        lab.dns().set_path([PathFault::DropTlsaOver(4)]);
        let folder = folder();
        let config = config(&lab, folder.path(), size, &behaviours);
        let invariants = Invariants::new(PruningLog::new(config.spool.keep_history, BEGIN));
        let mut world = Self {
            seed,
            crashes: Vec::new(),
            behaviours,
            lab,
            network,
            paths: Arc::new(Mutex::new(DnsPaths::new(seed, size))),
            signing,
            config,
            now: BEGIN,
            truth: BEGIN,
            to_come,
            invariants,
            size,
            metrics: String::new(),
            lives: 0,
            folder,
        };
        world.config.spool.path = world.spool_of(0);
        world
    }

    fn spool_of(&self, life: usize) -> PathBuf {
        self.folder.path().join(format!("spool-{life}"))
    }

    /// Where the snapshot of a crash goes.
    pub(crate) fn next_spool(&self) -> PathBuf {
        self.spool_of(self.lives + 1)
    }

    /// The next relay wakes up in what the crash left.
    pub(crate) fn move_on(&mut self) {
        self.lives += 1;
        self.config.spool.path = self.spool_of(self.lives);
    }
}

/// In memory where there is such a folder: a simulated disk need not be slow.
fn folder() -> TempDir {
    let in_memory = Path::new("/dev/shm");
    if in_memory.is_dir() { tempfile::tempdir_in(in_memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// Some domains that every world has, and others by chance.
fn behaviours(random: &mut SeededRandom, size: Size) -> BTreeMap<String, DomainBehaviour> {
    let (certain, changing, others) = match size {
        Size::Usual => (&[Fine, NeverReady][..], 0, 6),
        Size::Small => (&[Fine, Refusing, Greylisting, Mismatched][..], 0, 1),
        Size::Long => (&[Fine, NeverReady, Refusing][..], 3, 1),
    };
    let certain = certain.iter().copied();
    let mut behaviours: Vec<DomainBehaviour> = certain.collect();
    behaviours.extend((0..changing).map(|_| *random.pick(&CHANGING)));
    behaviours.extend((0..others).map(|_| *random.pick(BEHAVIOURS)));
    behaviours.into_iter().enumerate().map(|(n, behaviour)| (format!("d{n}.test"), behaviour)).collect()
}

fn happenings(
    random: &mut SeededRandom,
    behaviours: &BTreeMap<String, DomainBehaviour>,
    size: Size,
) -> VecDeque<(Timestamp, What)> {
    let domains: Vec<&String> = behaviours.keys().collect();
    let mut all = Vec::new();
    // Whoever looks every minute does so at another time.
    let at = |minutes: u64| BEGIN.plus(Duration::from_secs(60 * minutes + 17));
    let submissions = match size {
        Size::Usual => 4 + random.size(3),
        Size::Small => 3,
        Size::Long => 8,
    };
    // Minutes in which submissions are handed in, and those in which the relay is started again.
    let (days, restarts) = match size {
        Size::Usual | Size::Small => (30, 1),
        Size::Long => (1800, 4),
    };
    let heal = 60 + random.below(300);
    for number in 0..submissions {
        let to = (0..=random.below(4)).map(|n| format!("r{n}@{}", random.pick(&domains))).collect();
        let from = if random.one_in(6) { "" } else { SENDER };
        let notify = *random.pick(&["", "", "", NEVER, ALWAYS]);
        let padding = if random.one_in(4) { 300_000 } else { 0 };
        let minutes = if number % 2 == 0 { 60 } else { days };
        let at = at(random.below(minutes.min(days)));
        all.push((at, What::Send(Submission { number, at, from, ret: "", to, notify, padding })));
    }
    // Where something changes later, mail goes before that and after.
    let changing = behaviours.iter().filter(|(_, behaviour)| CHANGING.contains(behaviour));
    let to: Vec<String> = changing.map(|(domain, _)| format!("r9@{domain}")).collect();
    for (number, minute) in [(submissions, 20), (submissions + 1, heal + 60 * 25 / 2)] {
        if size == Size::Long {
            let submission =
                Submission { number, at: at(minute), from: SENDER, ret: "", to: to.clone(), notify: "", padding: 0 };
            all.push((submission.at, What::Send(submission)));
        }
    }
    all.extend([(at(heal), What::Heal), (at(heal + 120), What::Break)]);
    for _ in 0..restarts {
        all.push((at(random.below(570 + days)), What::Restart));
    }
    for _ in 0..random.below(3) {
        let act = *random.pick(&[Act::Hold, Act::Retry, Act::Bounce, Act::Delete]);
        let submission = random.size(submissions);
        all.push((at(5 + random.below(270 + days)), What::Operate(act, submission)));
    }
    for _ in 0..random.below(3) {
        let by = Duration::from_secs(random.below(50_000));
        let what = if random.one_in(2) { What::SetOn(by) } else { What::SetBack(by) };
        all.push((at(random.below(700)), what));
    }
    all.push((at(770 + days), What::ReleaseAll));
    all.sort_by_key(|(at, _)| *at);
    all.into()
}

/// The schedule of a relay that nobody has configured, but for the age at which mail is returned
/// and that at which it is forgotten.
fn config(lab: &Lab, folder: &Path, size: Size, behaviours: &BTreeMap<String, DomainBehaviour>) -> Config {
    let anchors = folder.join("root.key");
    std::fs::write(&anchors, lab.world().trust_anchor(AnchorForm::DnsKey).unwrap()).unwrap();
    let roots = folder.join("roots.pem");
    std::fs::write(&roots, lab.roots_pem()).unwrap();
    let keep = match size {
        Size::Usual => "30d",
        Size::Small | Size::Long => "2h",
    };
    let exceptions: String = behaviours.iter().filter_map(|(name, behaviour)| behaviour.exception(name)).collect();
    let text = format!(
        "hostname = \"relay.office.test\"\npostmaster = \"postmaster@office.test\"\n\
         [spool]\nkeep_history = {keep:?}\nmin_free_bytes = 0\nmin_free_inodes = 0\n\
         [dns]\nupstreams = [\"udp://127.0.0.1:53\"]\ntrust_anchors = {anchors:?}\n\
         [tls]\nroots = {roots:?}\n\
         [mta_sts]\nport = {policy_port}\n\
         [delivery]\nport = {port}\nallow_loopback = true\n\
         [retry]\nfirst = \"20m\"\nlongest = \"{longest}h\"\nexpire_after = \"12h\"\n\
         {exceptions}",
        longest = LONGEST_WAIT.as_secs() / 3600,
        port = lab.port(),
        policy_port = lab.policy_port(),
    );
    Config::parse(&text, Path::new("simulation.toml")).unwrap()
}
