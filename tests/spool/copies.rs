//! A message and the copies that are stored with it: after a crash all of them are there or none
//! (RFC 5321 §4.2.5).
#![expect(clippy::disallowed_methods, reason = "the tests cut the segment where a crash may have torn it")]
#![expect(clippy::unwrap_used, reason = "what fails in a test is the test's result")]

use crate::sample::{NOW, body, config, content, envelope};
use bytes::Bytes;
use dane_relay::envelope::{Envelope, Origin, QueueId};
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::{ContentCopy, Spool, open_ledger};
use std::path::{Path, PathBuf};
use tempfile::TempDir;

const BEFORE: &[u8] = b"a cover\r\n\r\n";
const AFTER: &[u8] = b"\r\nits end\r\n";

fn open(folder: &Path) -> EmbeddedSpool {
    EmbeddedSpool::open(&config(folder), NOW).unwrap()
}

fn copy(of: QueueId, to: &str) -> ContentCopy {
    let envelope = Envelope { origin: Origin::Copy { of }, ..envelope("", &[to]) };
    ContentCopy { envelope, before: Bytes::from_static(BEFORE), after: Bytes::from_static(AFTER) }
}

/// Stores a message with two copies; gives its name and theirs.
async fn store(spool: &EmbeddedSpool, content: &[u8]) -> Vec<QueueId> {
    let mut draft = spool.begin(NOW);
    draft.body.write(content).await.unwrap();
    let id = draft.id;
    let copies = vec![copy(id, "a@archive.example"), copy(id, "b@archive.example")];
    let ids = spool.enqueue_with(draft, envelope("alice@office.example", &["c@one.example"]), copies).await.unwrap();
    [vec![id], ids].concat()
}

fn segments(folder: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> =
        std::fs::read_dir(folder.join("spool/segments")).unwrap().map(|f| f.unwrap().path()).collect();
    paths.sort();
    paths
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for item in std::fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(item.file_name());
        if item.file_type().unwrap().is_dir() {
            copy_folder(&item.path(), &target);
        } else {
            std::fs::copy(item.path(), target).unwrap();
        }
    }
}

#[tokio::test]
async fn copies_hold_the_content_and_are_there_after_a_restart() {
    for size in [0, 1000, 262_144, 262_145, 900_000] {
        let folder = TempDir::new().unwrap();
        let spool = open(folder.path());
        let ids = store(&spool, &content(1, size)).await;
        spool.close().await;
        let spool = open(folder.path());
        assert_eq!(spool.recovery().waiting, 3);
        assert!(body(&spool, ids[0]).await.unwrap() == content(1, size), "{size}");
        for id in &ids[1..] {
            assert!(body(&spool, *id).await.unwrap() == [BEFORE, &content(1, size), AFTER].concat(), "{size}");
            let claim = spool.claim_one(*id, NOW).await.unwrap().unwrap();
            assert_eq!(claim.entry.envelope.origin, Origin::Copy { of: ids[0] });
        }
        let ledger = open_ledger(&config(folder.path())).await.unwrap();
        let found = ledger.find(&ids[0].to_string(), 9).await.unwrap();
        let found: Vec<QueueId> = found.messages.iter().map(|message| message.id).collect();
        assert_eq!(found, [ids[2], ids[1]], "whoever looks for the original finds them");
    }
}

#[tokio::test]
async fn wherever_a_crash_tears_the_log_message_and_copies_are_all_there_or_none() {
    let folder = TempDir::new().unwrap();
    // The database knows nothing of what comes: it is as it was before.
    open(folder.path()).close().await;
    let before = TempDir::new().unwrap();
    copy_folder(folder.path(), before.path());
    let spool = open(folder.path());
    store(&spool, &content(1, 300)).await;
    spool.close().await;
    let written = segments(folder.path()).pop().unwrap();
    let octets = std::fs::read(&written).unwrap();
    let mut seen = std::collections::BTreeSet::new();
    for length in (0..=octets.len()).rev().step_by(19).chain([0]) {
        let crashed = TempDir::new().unwrap();
        copy_folder(before.path(), crashed.path());
        let target = crashed.path().join("spool/segments").join(written.file_name().unwrap());
        std::fs::write(target, &octets[..length]).unwrap();
        let spool = open(crashed.path());
        let (waiting, dropped) = (spool.recovery().waiting, spool.recovery().discarded_copies);
        assert!(waiting == 0 || waiting == 3, "{waiting} of 3 after {length} octets");
        seen.insert((waiting, dropped));
        spool.close().await;
        let again = open(crashed.path());
        assert_eq!(again.recovery().waiting, waiting, "the next start finds the same");
        again.close().await;
    }
    assert_eq!(seen.into_iter().collect::<Vec<_>>(), [(0, 0), (0, 1), (0, 2), (3, 0)]);
}
