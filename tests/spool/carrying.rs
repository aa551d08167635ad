//! Mail that is carried from one spool to another: all of it, as it was, once.
#![expect(clippy::disallowed_methods, reason = "a test damages files, and writes the configuration of a program")]

use crate::reading::{audit, of_every_kind};
use crate::sample::{LATER, NOW, become_so, body, claim, config, content, delivered, ended, store_one, waits};
use crate::tls_counts::{ill, well};
use dane_relay::clock::Timestamp;
use dane_relay::command::spool_move::{MoveError, carry_all, give_up};
use dane_relay::config::{SpoolConfig, SpoolEngine};
use dane_relay::envelope::QueueId;
use dane_relay::spool::audit::Depth;
use dane_relay::spool::carrying::CarryReport;
use dane_relay::spool::ledger::{Ledger, LedgerMessage};
use dane_relay::spool::tls_session::ReportDay;
use dane_relay::spool::{Hold, Settlement, Spool, SpoolError, open, open_ledger};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;
use tempfile::TempDir;

/// Moves that are killed, each later than the one before; the last have a hundred times what a whole move takes.
const MOST_KILLS: u32 = 60;

async fn carry(from: &SpoolConfig, to: &SpoolConfig) -> CarryReport {
    carry_all(from, to, |_| {}).await.unwrap()
}

/// Everything that a ledger tells, but when something is due.
async fn all(ledger: &dyn Ledger) -> BTreeMap<QueueId, String> {
    let mut all = BTreeMap::new();
    loop {
        let after = all.keys().next_back().copied();
        let page = ledger.page(after, 3).await.unwrap();
        if page.is_empty() {
            return all;
        }
        for message in page {
            let message = LedgerMessage { due_at: Timestamp(0), ..message.unwrap() };
            let history = ledger.history(message.id).await.unwrap();
            all.insert(message.id, format!("{message:?}\n{history:?}"));
        }
    }
}

async fn counts(ledger: &dyn Ledger) -> String {
    let rows = ledger.tls_reports(ReportDay(0), ReportDay(i64::MAX), 100).await.unwrap();
    let mut text = format!("{rows:?}");
    for row in rows {
        let mut counts: Vec<String> =
            ledger.tls_counts(&row.id).await.unwrap().iter().map(|count| format!("{count:?}")).collect();
        counts.sort();
        text += &counts.join("\n");
    }
    text
}

/// A spool with messages of every kind, small and large, held and tried, and what is counted beside.
async fn fill(spool: &dyn Spool) -> Vec<(QueueId, Vec<u8>)> {
    of_every_kind(spool).await;
    let mut waiting = Vec::new();
    for (seed, size) in [(1, 0), (2, 5_000), (3, 262_144), (4, 262_145), (5, 1_500_000)] {
        let content = content(seed, size);
        waiting.push((store_one(spool, &content).await, content));
    }
    let held = claim(spool, waiting[1].0).await;
    let settlement = Settlement { hold: Hold::Held, events: vec![ended(0)], ..become_so([(0, waits())]) };
    spool.settle(held, settlement).await.unwrap();
    let tried = claim(spool, waiting[2].0).await;
    let sessions = vec![well("one.example"), ill("one.example", "mx.one.example", "it is over")];
    let settlement =
        Settlement { sessions, events: vec![ended(0)], next_due: Some(LATER), ..become_so([(0, waits())]) };
    spool.settle(tried, settlement).await.unwrap();
    waiting
}

/// Everything goes from the one to the other, and nothing twice.
pub(crate) async fn all_goes(from: SpoolConfig, to: SpoolConfig) {
    let opened = open(&from, NOW).await.unwrap();
    let waiting = fill(opened.spool.as_ref()).await;
    opened.spool.close().await;
    drop(opened);
    let before = all(open_ledger(&from).await.unwrap().as_ref()).await;
    let report = carry(&from, &to).await;
    assert!(report.is_whole() && report.known == 0, "{report:?}");
    assert_eq!(report.messages, before.len() as u64);
    // The old one is nobody's any more.
    let Err(SpoolError::Unusable(why)) = open(&from, NOW).await.map(|_| ()) else { panic!("it opens") };
    assert!(why.contains("belongs to another one"), "{why}");
    let ledger = open_ledger(&to).await.unwrap();
    assert_eq!(all(ledger.as_ref()).await, before);
    assert_eq!(counts(ledger.as_ref()).await, counts(open_ledger(&from).await.unwrap().as_ref()).await);
    assert_eq!(audit(ledger.as_ref(), Depth::Everything).await.findings, []);
    // What was cut off is gone on with: a second run finds everything there.
    let again = carry(&from, &to).await;
    assert!(again.is_whole() && again.known == again.messages, "{again:?}");
    let spool = open(&to, NOW).await.unwrap().spool;
    for (id, content) in &waiting {
        assert!(body(spool.as_ref(), *id).await.unwrap() == *content, "{id}");
    }
    // It is worked on as if it had always been there, and what came of it is not undone by another run.
    let done = claim(spool.as_ref(), waiting[0].0).await;
    spool.settle(done, Settlement { events: vec![ended(0)], ..become_so([(0, delivered())]) }).await.unwrap();
    let new = store_one(spool.as_ref(), b"new").await;
    assert!(!before.contains_key(&new));
    spool.close().await;
    drop(spool);
    assert!(carry(&from, &to).await.is_whole());
    let ledger = open_ledger(&to).await.unwrap();
    assert!(ledger.message(waiting[0].0).await.unwrap().unwrap().finished_at.is_some());
    assert_eq!(audit(ledger.as_ref(), Depth::Everything).await.findings, []);
}

/// A spool of files.
pub(crate) fn files(folder: &TempDir) -> SpoolConfig {
    config(folder.path())
}

#[tokio::test]
async fn all_goes_from_one_directory_to_another() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    all_goes(files(&from), files(&to)).await;
}

#[tokio::test]
async fn a_move_that_is_given_up_leaves_the_old_spool_to_its_relay() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (from, to) = (files(&from), files(&to));
    let opened = open(&from, NOW).await.unwrap();
    let id = store_one(opened.spool.as_ref(), b"one").await;
    let Err(MoveError::Open(SpoolError::InUse { .. })) = carry_all(&from, &to, |_| {}).await else {
        panic!("a relay is at work on it");
    };
    opened.spool.close().await;
    drop(opened);
    assert!(carry(&from, &to).await.is_whole());
    assert!(open(&from, NOW).await.is_err());
    // The new one may be out of reach for good.
    let (engine, url) = (SpoolEngine::Postgresql, Some("postgresql://relay@127.0.0.1:1/relay".to_owned()));
    let gone = SpoolConfig { engine, url, ..to.clone() };
    give_up(&from, &gone).await.unwrap();
    assert!(carry(&from, &to).await.is_whole());
    let at_work = open(&to, NOW).await.unwrap();
    let Err(MoveError::Open(SpoolError::InUse { .. })) = give_up(&from, &to).await else { panic!("both would send") };
    at_work.spool.close().await;
    drop(at_work);
    give_up(&from, &to).await.unwrap();
    let spool = open(&from, NOW).await.unwrap().spool;
    assert_eq!(body(spool.as_ref(), id).await.unwrap(), b"one");
}

#[tokio::test]
async fn damaged_content_stays_where_it_is_and_is_named() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let (from, to) = (files(&from), files(&to));
    let spool = open(&from, NOW).await.unwrap().spool;
    let (good, bad) = (store_one(spool.as_ref(), b"good").await, store_one(spool.as_ref(), &content(1, 900_000)).await);
    spool.close().await;
    drop(spool);
    let file = std::fs::read_dir(from.path.join("content")).unwrap().next().unwrap().unwrap().path();
    let mut octets = std::fs::read(&file).unwrap();
    octets[500_000] ^= 1;
    std::fs::write(&file, octets).unwrap();
    let report = carry(&from, &to).await;
    assert!(!report.is_whole() && report.damaged == [bad] && report.differing.is_empty(), "{report:?}");
    let there = open_ledger(&to).await.unwrap();
    assert!(there.message(good).await.unwrap().is_some() && there.message(bad).await.unwrap().is_none());
}

/// A configuration file that names a spool of files.
fn file_of(spool: &SpoolConfig, folder: &Path, name: &str) -> PathBuf {
    let file = folder.join(name);
    std::fs::write(&file, format!("[spool]\npath = {:?}\nmin_free_inodes = 0\n", spool.path)).unwrap();
    file
}

/// A move that is killed after a while, if it has not ended by then.
fn move_for([from, to]: &[PathBuf; 2], patience: Duration) -> ExitStatus {
    let mut mover = Command::new(env!("CARGO_BIN_EXE_relay"));
    mover.args(["spool", "move", "--from"]).arg(from).arg("--to").arg(to);
    let mut mover = mover.stdout(Stdio::null()).spawn().unwrap();
    std::thread::sleep(patience);
    let _ended_already = mover.kill();
    mover.wait().unwrap()
}

#[tokio::test]
async fn a_move_that_is_killed_again_and_again_goes_on_to_its_end() {
    let (from, to, files) = (TempDir::new().unwrap(), TempDir::new().unwrap(), TempDir::new().unwrap());
    let (from, to) = (config(from.path()), config(to.path()));
    let spool = open(&from, NOW).await.unwrap().spool;
    fill(spool.as_ref()).await;
    for nth in 0..400 {
        let id = store_one(spool.as_ref(), &content(nth, 3000)).await;
        let settlement = Settlement { events: vec![ended(0)], ..become_so([(0, waits())]) };
        spool.settle(claim(spool.as_ref(), id).await, settlement).await.unwrap();
    }
    spool.close().await;
    drop(spool);
    let before = all(open_ledger(&from).await.unwrap().as_ref()).await;
    let files = [file_of(&from, files.path(), "old.toml"), file_of(&to, files.path(), "new.toml")];
    let mut patience = Duration::from_millis(20);
    let ended = (0..MOST_KILLS).find(|_| {
        patience += patience / 8;
        move_for(&files, patience).success()
    });
    assert!(ended.is_some_and(|kills| kills > 0), "it never ended, or was never killed: {ended:?}");
    let ledger = open_ledger(&to).await.unwrap();
    assert_eq!(all(ledger.as_ref()).await, before);
    assert_eq!(audit(ledger.as_ref(), Depth::Everything).await.findings, []);
}

#[tokio::test]
async fn nothing_is_carried_from_nowhere_or_to_the_same_place() {
    let (from, to) = (TempDir::new().unwrap(), TempDir::new().unwrap());
    let Err(MoveError::From(_)) = carry_all(&files(&from), &files(&to), |_| {}).await else { panic!("no spool") };
    assert!(!files(&from).path.exists());
    let Err(MoveError::Same) = carry_all(&files(&from), &files(&from), |_| {}).await else { panic!("the same") };
}
