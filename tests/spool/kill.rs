//! The spool under `kill -9`: RFC 5321 §4.2.5 and §6.1.
//!
//! A child (this same program) takes mail from sixteen tasks, settles some of it, and says on a
//! pipe what it was told. The parent kills it at some moment, opens the directory, and holds it
//! to every word: what was acknowledged is there with the same octets or was settled, what was
//! settled does not come back, a failed message and its report are never both there or both gone.
#![expect(clippy::unwrap_used, clippy::panic, reason = "what fails in a test is the test's result")]

use crate::sample::NOW;
use bytes::Bytes;
use dane_relay::clock::Timestamp;
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::{ClientInfo, Envelope, Origin, QueueId};
use dane_relay::outcome::{Cause, DeliveryOutcome};
use dane_relay::smtp::address::ReversePath;
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::{Claim, Pending, RecipientState, Report, Settlement, Spool};
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

const FOLDER: &str = "SPOOL_CRASH_TEST_FOLDER";
const ROUNDS: u64 = 16;
const PRODUCERS: u64 = 16;
const CONSUMERS: u64 = 6;
const FAR: Timestamp = Timestamp(NOW.0 + 1_000_000_000);

fn config(folder: &Path) -> SpoolConfig {
    SpoolConfig {
        path: folder.to_owned(),
        min_free_bytes: 0,
        min_free_inodes: 0,
        keep_history: Duration::from_secs(9),
        max_history_bytes: u64::MAX,
        ..SpoolConfig::default()
    }
}

/// The recipient says what the content must be.
fn envelope(seed: u64, size: usize, origin: Origin) -> Envelope {
    let recipient = format!("m.{seed}.{size}@crash.example").parse().unwrap();
    Envelope::new(ReversePath::Null, vec![recipient], NOW, origin)
}

fn client() -> Origin {
    let address = [192, 0, 2, 1].into();
    Origin::Client(ClientInfo { address, helo: "exchange".into(), protocol: "ESMTP".into(), user: None })
}

fn expected_content(envelope: &Envelope) -> Vec<u8> {
    let recipient = envelope.recipients.first().unwrap().to_string();
    let mut parts = recipient.split('@').next().unwrap().split('.').skip(1);
    let seed = parts.next().unwrap().parse().unwrap();
    content(seed, parts.next().unwrap().parse().unwrap())
}

fn content(seed: u64, size: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()
    };
    let mut octets: Vec<u8> = (0..size.div_ceil(8)).flat_map(|_| next()).collect();
    octets.truncate(size);
    octets
}

fn say(line: &str) {
    // One write of less than a pipe's atomic size: a line is there wholly or not at all.
    std::io::stdout().lock().write_all(format!("\n@{line}\n").as_bytes()).unwrap();
}

// ---- the child ----

#[test]
fn the_child_that_is_killed() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    runtime.block_on(async {
        let spool = Arc::new(EmbeddedSpool::open(&config(Path::new(&folder)), NOW).unwrap());
        let mut tasks = tokio::task::JoinSet::new();
        for producer in 0..PRODUCERS {
            tasks.spawn(produce(Arc::clone(&spool), producer));
        }
        for _ in 0..CONSUMERS {
            tasks.spawn(consume(Arc::clone(&spool)));
        }
        tasks.join_all().await;
    });
}

async fn produce(spool: Arc<EmbeddedSpool>, producer: u64) {
    loop {
        let mut draft = spool.begin(NOW);
        let seed = draft.id.0;
        // Every fortieth message has a file of its own.
        let random = usize::try_from(seed.wrapping_mul(31).wrapping_add(producer) % 7000).unwrap();
        let size = if random % 40 == 0 { 300_000 } else { 500 + random };
        for piece in content(seed, size).chunks(50_000) {
            draft.body.write(piece).await.unwrap();
        }
        let id = spool.enqueue(draft, envelope(seed, size, client())).await.unwrap();
        say(&format!("accepted {}", id.0));
    }
}

async fn consume(spool: Arc<EmbeddedSpool>) {
    loop {
        let Some(claim) = spool.claim_due(NOW, 1).await.unwrap().pop() else {
            tokio::time::sleep(Duration::from_millis(1)).await;
            continue;
        };
        let id = claim.entry.id;
        let plan = Plan::of(&claim);
        let about = match claim.entry.envelope.origin {
            Origin::Report { about } => about,
            Origin::Client(_) | Origin::TlsReport { .. } | Origin::Copy { .. } => id,
        };
        say(&format!("begin {} {} {}", id.0, plan.word(), about.0));
        spool.settle(claim, plan.settlement(id)).await.unwrap();
        say(&format!("settled {}", id.0));
    }
}

/// What the child does with a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Plan {
    Finish,
    FinishWithReport,
    Defer,
}

impl Plan {
    /// Reports are only finished: one report leads to no other.
    fn of(claim: &Claim) -> Self {
        match (&claim.entry.envelope.origin, claim.entry.id.0 % 4) {
            (Origin::Report { .. } | Origin::Copy { .. }, _) | (Origin::Client(_), 0) => Self::Finish,
            (Origin::Client(_), 1) => Self::FinishWithReport,
            (Origin::Client(_) | Origin::TlsReport { .. }, _) => Self::Defer,
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Finish => "finish",
            Self::FinishWithReport => "report",
            Self::Defer => "defer",
        }
    }

    fn settlement(self, id: QueueId) -> Settlement {
        let cause = Cause::DomainNotFound { domain: "crash.example".parse().unwrap() };
        let done = RecipientState::Done { outcome: DeliveryOutcome::Failed { cause: cause.clone() } };
        let told = Report {
            envelope: envelope(id.0, 700, Origin::Report { about: id }),
            content: Bytes::from(content(id.0, 700)),
        };
        let (state, reports) = match self {
            Self::Finish => (done, vec![]),
            Self::FinishWithReport => (done, vec![told]),
            Self::Defer => (RecipientState::Queued(Pending { last: Some(cause), tries: 1, ..Pending::NEW }), vec![]),
        };
        Settlement { recipients: vec![(0, state)], next_due: Some(FAR), reports, ..Settlement::default() }
    }
}

// ---- the parent ----

/// How far a message has come, by what the child said.
#[derive(Clone, Copy, Debug, Default)]
struct Progress {
    accepted: bool,
    begun: Option<Plan>,
    settled: bool,
}

#[derive(Default)]
struct Ledger {
    messages: BTreeMap<u64, Progress>,
    /// By the message they tell of: the report itself.
    reports_of: BTreeMap<u64, u64>,
    accepted: u64,
    settled: u64,
}

impl Ledger {
    fn hear(&mut self, line: &str) {
        let Some(line) = line.strip_prefix('@') else { return };
        let mut words = line.split(' ');
        let (verb, id) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        let said = self.messages.entry(id).or_default();
        if let ("begin", Some(about)) = (verb, line.split(' ').nth(3)) {
            let about: u64 = about.parse().unwrap();
            if about != id {
                self.reports_of.insert(about, id);
            }
        }
        match (verb, words.next()) {
            ("accepted", None) => (said.accepted, self.accepted) = (true, self.accepted + 1),
            ("begin", Some("finish")) => said.begun = Some(Plan::Finish),
            ("begin", Some("report")) => said.begun = Some(Plan::FinishWithReport),
            ("begin", Some("defer")) => said.begun = Some(Plan::Defer),
            ("settled", None) => (said.settled, self.settled) = (true, self.settled + 1),
            other => panic!("the child said {other:?}"),
        }
    }

    /// Holds what is in the spool to what the child said.
    fn check(&mut self, round: u64, claims: &BTreeMap<u64, Claim>) {
        for claim in claims.values() {
            if let Origin::Report { about } = claim.entry.envelope.origin {
                let known = self.reports_of.insert(about.0, claim.entry.id.0);
                assert!(
                    known.is_none_or(|known| known == claim.entry.id.0),
                    "round {round}: two reports about {about}"
                );
            }
        }
        for (id, said) in &self.messages {
            let there = claims.get(id);
            let whole = format!("round {round}, message {id}: {said:?}, there: {}", there.is_some());
            match (said.begun, said.settled) {
                (None, _) => assert!(there.is_some() || !said.accepted, "lost: {whole}"),
                (Some(Plan::Defer), settled) => {
                    let claim = there.unwrap_or_else(|| panic!("lost: {whole}"));
                    assert!(!settled || claim.entry.attempts > 0, "forgotten: {whole}");
                }
                (Some(Plan::Finish | Plan::FinishWithReport), true) => assert!(there.is_none(), "came back: {whole}"),
                (Some(Plan::Finish | Plan::FinishWithReport), false) => {}
            }
            if said.begun == Some(Plan::FinishWithReport) {
                // Gone and reported, or there and not reported.
                assert_ne!(there.is_some(), self.reports_of.contains_key(id), "torn: {whole}");
            }
        }
    }
}

/// Opens the spool after the kill, reads everything and compares every octet.
fn look(folder: &Path) -> (BTreeMap<u64, Claim>, u64) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let spool = EmbeddedSpool::open(&config(folder), NOW).unwrap();
        assert_eq!(spool.recovery().damaged_records, 0);
        let mut found = BTreeMap::new();
        for claim in spool.claim_due(Timestamp(FAR.0 + 1), usize::MAX).await.unwrap() {
            let mut reader = spool.open_body(claim.entry.id).await.unwrap();
            let mut octets = Vec::new();
            while let Some(piece) = reader.next().await.unwrap() {
                octets.extend_from_slice(&piece);
            }
            assert!(octets == expected_content(&claim.entry.envelope), "{}: other octets", claim.entry.id);
            found.insert(claim.entry.id.0, claim);
        }
        assert_eq!(found.len() as u64, spool.stats().queued_messages);
        (found, spool.recovery().caught_up)
    })
}

fn run_and_kill(folder: &Path, after: Duration, ledger: &mut Ledger) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "kill::the_child_that_is_killed", "--nocapture"])
        .env(FOLDER, folder)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let reader = std::thread::spawn(move || lines.map_while(Result::ok).collect::<Vec<_>>());
    std::thread::sleep(after);
    child.kill().unwrap();
    let status = child.wait().unwrap();
    assert_eq!(status.code(), None, "the child ended by itself, which it does only by a panic");
    reader.join().unwrap().iter().for_each(|line| ledger.hear(line));
}

#[test]
fn rfc5321_6_1_a_kill_at_any_moment_loses_nothing_that_was_acknowledged() {
    let folder = tempfile::TempDir::new().unwrap();
    let spool = folder.path().join("spool");
    let mut ledger = Ledger::default();
    let mut caught_up = 0;
    for round in 0..ROUNDS {
        run_and_kill(&spool, Duration::from_millis(10 + round * 37 % 190), &mut ledger);
        let (claims, more) = look(&spool);
        caught_up += more;
        ledger.check(round, &claims);
    }
    assert!(ledger.accepted > 0 && ledger.settled > 0, "the child got to work");
    let (accepted, settled, reports) = (ledger.accepted, ledger.settled, ledger.reports_of.len());
    let line = format!(
        "{ROUNDS} kills: {accepted} acknowledged, {settled} settled, {reports} reports, {caught_up} caught up; 0 lost\n"
    );
    std::io::stdout().lock().write_all(line.as_bytes()).unwrap();
}
