//! How fast the embedded spool takes mail, and how fast mail lives in it.
//!
//! `cargo bench --bench spool [-- FOLDER]`: messages of 4 KiB, every one durable before the next
//! of the same producer. "Files" is what a spool with one file for each message makes of that: a file, its sync and that of
//! its folder, and its end. "Life" is enqueue, claim, read, settle. "Audit" is what the audit of
//! 100,000 waiting messages takes, as a share of the time it took to accept them. Nothing is
//! asserted: the numbers belong to the disk under FOLDER (the system's temporary folder without one).
#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::disallowed_methods,
    reason = "a measurement prints, reads its own figures, and ends at the first failure"
)]

use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::{ClientInfo, Envelope, Origin};
use dane_relay::outcome::{Cause, DeliveryOutcome};
use dane_relay::smtp::address::ReversePath;
use dane_relay::spool::audit::Depth;
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::embedded::audit::Auditor;
use dane_relay::spool::{RecipientState, Settlement, Spool};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CONTENT: [u8; 4096] = [b'x'; 4096];
const MEASURED_FOR: Duration = Duration::from_secs(3);
const CONSUMERS: u64 = 64;
/// Messages that are audited.
const AUDITED: u64 = 100_000;

/// Life is measured in balance: producers pause when consumers fall behind by this.
const LONGEST_QUEUE: u64 = 1000;

fn main() {
    let folder = std::env::args().skip(1).find(|argument| !argument.starts_with('-'));
    let folder = folder.map_or_else(std::env::temp_dir, PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    for producers in [1, 16, 128] {
        let per_second = runtime.block_on(enqueue(&folder, producers));
        println!("enqueue, {producers:>3} producers: {per_second:>8.0}/s");
    }
    let before = octets_written();
    let (per_second, lived) = runtime.block_on(life(&folder));
    println!("life, 64 producers and {CONSUMERS} consumers: {per_second:>8.0}/s");
    println!(
        "octets written for each octet taken: {:.2}",
        share(octets_written() - before, lived * CONTENT.len() as u64)
    );
    let files = runtime.block_on(files(&folder));
    println!("files, {CONSUMERS} producers:   {files:>8.0}/s");
    println!("life beside one file a message: {:.1} times", per_second / files);
    runtime.block_on(audit(&folder));
}

fn open(folder: &tempfile::TempDir) -> Arc<EmbeddedSpool> {
    let config = SpoolConfig { path: folder.path().join("spool"), ..SpoolConfig::default() };
    Arc::new(EmbeddedSpool::open(&config, Clock::system().now()).unwrap())
}

fn envelope(now: Timestamp) -> Envelope {
    let client =
        ClientInfo { address: [192, 0, 2, 1].into(), helo: "bench".into(), protocol: "ESMTP".into(), user: None };
    let recipient = "user@recipient.example".parse().unwrap();
    Envelope::new(ReversePath::Null, vec![recipient], now, Origin::Client(client))
}

async fn produce(spool: Arc<EmbeddedSpool>, longest_queue: u64, until: Instant, done: Arc<AtomicU64>) {
    let clock = Clock::system();
    while Instant::now() < until {
        if spool.stats().queued_messages > longest_queue {
            tokio::time::sleep(Duration::from_micros(200)).await;
            continue;
        }
        let now = clock.now();
        let mut draft = spool.begin(now);
        draft.body.write(&CONTENT).await.unwrap();
        spool.enqueue(draft, envelope(now)).await.unwrap();
        done.fetch_add(1, Ordering::Relaxed);
    }
}

async fn enqueue(folder: &std::path::Path, producers: u64) -> f64 {
    let folder = tempfile::TempDir::new_in(folder).unwrap();
    let spool = open(&folder);
    let (done, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..producers {
        tasks.spawn(produce(Arc::clone(&spool), u64::MAX, start + MEASURED_FOR, Arc::clone(&done)));
    }
    tasks.join_all().await;
    let rate = rate(&done, start);
    spool.close().await;
    rate
}

async fn audit(folder: &std::path::Path) {
    let folder = tempfile::TempDir::new_in(folder).unwrap();
    let spool = open(&folder);
    let start = Instant::now();
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..CONSUMERS {
        let spool = Arc::clone(&spool);
        tasks.spawn(async move {
            let clock = Clock::system();
            for _ in 0..AUDITED / CONSUMERS {
                let now = clock.now();
                let mut draft = spool.begin(now);
                draft.body.write(&CONTENT).await.unwrap();
                spool.enqueue(draft, envelope(now)).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
    let accepting = start.elapsed();
    spool.close().await;
    for (words, depth) in [("rows", Depth::Rows), ("everything", Depth::Everything)] {
        let start = Instant::now();
        let audit = Auditor::open(&folder.path().join("spool"), depth).unwrap().finish().unwrap();
        let took = start.elapsed();
        let (messages, each) = (audit.sum.messages, took / u32::try_from(audit.sum.messages).unwrap().max(1));
        let share = 100.0 * took.as_secs_f64() / accepting.as_secs_f64();
        println!("audit of {words}, {messages} messages: {each:?} each, {share:.0} % of accepting them");
    }
}

/// What this process made the disk write.
fn octets_written() -> u64 {
    let io = std::fs::read_to_string("/proc/self/io").unwrap();
    io.lines().find_map(|line| line.strip_prefix("write_bytes: ")).unwrap().parse().unwrap()
}

async fn files(folder: &std::path::Path) -> f64 {
    let folder = tempfile::TempDir::new_in(folder).unwrap();
    let (done, start) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for producer in 0..CONSUMERS {
        let (path, done) = (folder.path().to_owned(), Arc::clone(&done));
        tasks.spawn_blocking(move || {
            for number in 0.. {
                if start.elapsed() > MEASURED_FOR {
                    break;
                }
                let path = path.join(format!("{producer}-{number}"));
                let mut file = std::fs::File::create_new(&path).unwrap();
                std::io::Write::write_all(&mut file, &CONTENT).unwrap();
                file.sync_all().unwrap();
                std::fs::File::open(path.parent().unwrap()).unwrap().sync_all().unwrap();
                std::fs::read(&path).unwrap();
                std::fs::remove_file(&path).unwrap();
                done.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    tasks.join_all().await;
    rate(&done, start)
}

async fn life(folder: &std::path::Path) -> (f64, u64) {
    let folder = tempfile::TempDir::new_in(folder).unwrap();
    let spool = open(&folder);
    let (accepted, lived, start) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..64 {
        tasks.spawn(produce(Arc::clone(&spool), LONGEST_QUEUE, start + MEASURED_FOR, Arc::clone(&accepted)));
    }
    for _ in 0..CONSUMERS {
        tasks.spawn(consume(Arc::clone(&spool), start + MEASURED_FOR, Arc::clone(&lived)));
    }
    tasks.join_all().await;
    let rate = rate(&lived, start);
    spool.close().await;
    (rate, lived.load(Ordering::Relaxed))
}

async fn consume(spool: Arc<EmbeddedSpool>, until: Instant, lived: Arc<AtomicU64>) {
    let clock = Clock::system();
    while Instant::now() < until {
        let claims = spool.claim_due(clock.now(), 1).await.unwrap();
        if claims.is_empty() {
            tokio::time::sleep(Duration::from_micros(200)).await;
        }
        for claim in claims {
            let mut reader = spool.open_body(claim.entry.id).await.unwrap();
            while reader.next().await.unwrap().is_some() {}
            let cause = Cause::DomainNotFound { domain: "recipient.example".parse().unwrap() };
            let state = RecipientState::Done { outcome: DeliveryOutcome::Failed { cause } };
            spool.settle(claim, Settlement { recipients: vec![(0, state)], ..Settlement::default() }).await.unwrap();
            lived.fetch_add(1, Ordering::Relaxed);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a share is printed with two decimals")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

#[expect(clippy::cast_precision_loss, reason = "a rate is printed without decimals")]
fn rate(count: &AtomicU64, since: Instant) -> f64 {
    count.load(Ordering::Relaxed) as f64 / since.elapsed().as_secs_f64()
}
