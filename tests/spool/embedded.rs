//! The embedded engine on real directories, beyond what every engine promises: RFC 5321 §6.1 with a
//! database that is lost or behind, damage contained, segments and files that go, a full disk.
#![expect(clippy::disallowed_methods, reason = "the tests look into the spool directory and damage it")]
#![expect(clippy::unwrap_used, reason = "what fails in a test is the test's result")]

use crate::sample::{self, NOW, body, content, ended, failed};
use bytes::Bytes;
use dane_relay::clock::Timestamp;
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::{
    BodyType, Charset, ClientInfo, DsnRequest, Envelope, Origin, QueueId, RecipientDsn, TlsRequest,
};
use dane_relay::smtp::address::ReversePath;
use dane_relay::smtp::dsn::Ret;
use dane_relay::spool::embedded::EmbeddedSpool;
use dane_relay::spool::owed::Reported;
use dane_relay::spool::{Claim, Pending, RecipientState, Report, Settlement, Spool, SpoolError};
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

fn config(folder: &Path) -> SpoolConfig {
    let keep_history = Duration::from_secs(86_400);
    SpoolConfig { keep_history, max_history_bytes: u64::MAX, ..sample::config(folder) }
}

fn open(folder: &TempDir) -> EmbeddedSpool {
    EmbeddedSpool::open(&config(folder.path()), NOW).unwrap()
}

fn envelope(recipients: &[&str]) -> Envelope {
    let sender = ReversePath::Mailbox("sender@example.org".parse().unwrap());
    let recipients = recipients.iter().map(|r| r.parse().unwrap()).collect();
    let origin = Origin::Client(ClientInfo {
        address: [192, 0, 2, 1].into(),
        helo: "exchange.example.org".into(),
        protocol: "ESMTPS".into(),
        user: None,
    });
    let about_the_first = RecipientDsn {
        notify: Some("SUCCESS,delay".parse().unwrap()),
        original: Some("rfc822;A+2Bb@old.example".parse().unwrap()),
    };
    let dsn = DsnRequest {
        ret: Some(Ret::Headers),
        envelope_id: Some("QQ+20314159".parse().unwrap()),
        recipients: vec![about_the_first],
    };
    let (body, charset, tls) = (BodyType::EightBitMime, Charset::Utf8, TlsRequest::Required);
    Envelope { body, charset, tls, dsn, ..Envelope::new(sender, recipients, NOW, origin) }
}

fn report(about: QueueId) -> Report {
    let origin = Origin::Report { about };
    let envelope = Envelope { reverse_path: ReversePath::Null, origin, ..envelope(&["sender@example.org"]) };
    Report { envelope, content: Bytes::from_static(b"Subject: Undeliverable\r\n\r\nIt could not be delivered.\r\n") }
}

async fn store(spool: &EmbeddedSpool, content: &[u8]) -> QueueId {
    store_for(spool, content, &["a@one.example"]).await
}

async fn store_for(spool: &EmbeddedSpool, content: &[u8], recipients: &[&str]) -> QueueId {
    sample::store(spool, envelope(recipients), content).await
}

async fn claim_one(spool: &EmbeddedSpool, now: Timestamp) -> Claim {
    let mut claims = spool.claim_due(now, 1).await.unwrap();
    assert_eq!(claims.len(), 1, "a message is due");
    claims.remove(0)
}

fn state_files(folder: &TempDir) -> Vec<PathBuf> {
    files(folder, "").into_iter().filter(|p| p.to_string_lossy().contains("state.sqlite")).collect()
}

fn files(folder: &TempDir, inside: &str) -> Vec<PathBuf> {
    let items = std::fs::read_dir(folder.path().join("spool").join(inside)).unwrap();
    let mut paths: Vec<_> = items.map(|item| item.unwrap().path()).collect();
    paths.sort();
    paths
}

fn remove_state(folder: &TempDir) {
    state_files(folder).iter().for_each(|path| std::fs::remove_file(path).unwrap());
}

/// Puts the state database back to what it was when `keep` was called.
struct Rewind(Vec<(PathBuf, Vec<u8>)>);

impl Rewind {
    fn keep(folder: &TempDir) -> Self {
        Self(state_files(folder).into_iter().map(|path| (path.clone(), std::fs::read(path).unwrap())).collect())
    }

    fn restore(&self, folder: &TempDir) {
        remove_state(folder);
        self.0.iter().for_each(|(path, octets)| std::fs::write(path, octets).unwrap());
    }
}

#[tokio::test]
async fn a_database_of_the_version_before_is_read_and_brought_up_to_date() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let id = store(&spool, b"x").await;
    let waits = RecipientState::Queued(Pending { tries: 1, ..Pending::NEW });
    let settlement = Settlement { recipients: vec![(0, waits.clone())], ..Settlement::default() };
    spool.settle(claim_one(&spool, NOW).await, settlement).await.unwrap();
    spool.close().await;
    let state = rusqlite::Connection::open(config(folder.path()).path.join("state.sqlite")).unwrap();
    let older = "DROP INDEX waiting_messages; DROP INDEX queued_messages; \
                 CREATE INDEX queued_messages ON messages (segment, due_at, accepted_at) WHERE finished_at IS NULL; ALTER TABLE messages DROP COLUMN reported; DROP TABLE incidents; DROP TABLE tls_policies; \
                 DROP TABLE tls_sessions; DROP TABLE tls_reports; UPDATE meta SET value = 2 WHERE name = 'schema_version'";
    state.execute_batch(older).unwrap();
    drop(state);
    let spool = open(&folder);
    assert_eq!(spool.recovery().state_moved_to, None);
    let claim = claim_one(&spool, NOW).await;
    let known = (claim.entry.id, claim.entry.recipients[0].clone(), claim.entry.reported);
    assert_eq!(known, (id, waits, Reported::NOTHING));
}

#[tokio::test]
async fn the_history_of_one_message_is_bounded_and_keeps_its_beginning_and_its_end() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let id = store(&spool, b"x").await;
    for round in 0..6 {
        let claim = claim_one(&spool, NOW).await;
        let events = (0..250).map(|n| ended(round * 250 + n)).collect();
        spool.settle(claim, Settlement { events, ..Settlement::default() }).await.unwrap();
    }
    let history = spool.history(id).await.unwrap();
    assert_eq!(history.len(), 1000);
    assert_eq!((&history[0].1, &history[99].1, &history[999].1), (&ended(0), &ended(99), &ended(1499)));
}

#[tokio::test]
async fn an_envelope_with_every_extension_is_the_same_after_a_restart_and_a_rebuild() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    store_for(&spool, b"one\r\n", &["a@one.example", "b@two.example"]).await;
    spool.close().await;
    for caught_up in [0, 1] {
        let spool = open(&folder);
        assert_eq!(spool.recovery().caught_up, caught_up);
        let claim = claim_one(&spool, NOW).await;
        assert_eq!(*claim.entry.envelope, envelope(&["a@one.example", "b@two.example"]));
        spool.close().await;
        remove_state(&folder);
    }
}

#[tokio::test]
async fn rfc5321_6_1_a_report_without_its_settlement_is_made_again_once() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let id = store(&spool, b"x").await;
    spool.close().await;
    // The log has the report; the database is as it was before the settlement was committed.
    let before = Rewind::keep(&folder);
    let fail = |claim: Claim, spool: EmbeddedSpool| async move {
        let reports = vec![report(claim.entry.id)];
        let settlement = Settlement { recipients: vec![(0, failed())], reports, ..Settlement::default() };
        spool.settle(claim, settlement).await.unwrap();
        spool
    };
    let spool = open(&folder);
    let claim = claim_one(&spool, NOW).await;
    fail(claim, spool).await.close().await;
    before.restore(&folder);

    let spool = open(&folder);
    assert_eq!((spool.recovery().discarded_reports, spool.recovery().waiting), (1, 1));
    let claim = claim_one(&spool, NOW).await;
    assert_eq!(claim.entry.id, id, "the attempt is made again");
    let spool = fail(claim, spool).await;
    let claims = spool.claim_due(NOW, 10).await.unwrap();
    assert_eq!(claims.len(), 1, "and makes one report");
    spool.close().await;
    let spool = open(&folder);
    assert_eq!((spool.recovery().discarded_reports, spool.recovery().waiting), (0, 1));
}

#[tokio::test]
async fn a_lost_database_is_rebuilt_and_repeated_reports_collapse() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let first = store(&spool, b"one").await;
    let second = store(&spool, &content(1, 700_000)).await;
    let claim = claim_one(&spool, NOW).await;
    let fail = |id| Settlement { recipients: vec![(0, failed())], reports: vec![report(id)], ..Settlement::default() };
    spool.settle(claim, fail(first)).await.unwrap();
    spool.close().await;
    remove_state(&folder);

    let spool = open(&folder);
    assert_eq!(spool.recovery().waiting, 3, "both messages and the report");
    assert_eq!(body(&spool, second).await.unwrap(), content(1, 700_000));
    let claim = claim_one(&spool, NOW).await;
    assert_eq!(claim.entry.id, first, "a finished message comes again rather than being lost");
    spool.settle(claim, fail(first)).await.unwrap();
    assert_eq!(spool.stats().queued_messages, 2, "its report is there already");
}

#[tokio::test]
async fn a_damaged_database_is_moved_aside_and_rebuilt() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let id = store(&spool, b"one").await;
    spool.close().await;
    remove_state(&folder);
    let state = folder.path().join("spool/state.sqlite");
    std::fs::write(&state, b"this is no database, and long enough to be sure of it".repeat(100)).unwrap();

    let spool = open(&folder);
    let aside = spool.recovery().state_moved_to.clone().unwrap();
    assert_eq!(aside, folder.path().join("spool/state.sqlite.damaged-1"));
    assert!(std::fs::read(aside).unwrap().starts_with(b"this is no database"));
    assert_eq!(claim_one(&spool, NOW).await.entry.id, id);
}

/// Does something to a file.
type Damage = fn(&Path);

/// The ways in which the state database may be found damaged.
const DAMAGE: [(&str, Damage); 8] = [
    ("empty", |state| std::fs::write(state, b"").unwrap()),
    ("cut in its first page", |state| cut(state, |length| length.min(50))),
    ("cut in the middle", |state| cut(state, |length| length / 2)),
    ("a table gone", |state| change(state, "DROP TABLE recipients")),
    ("the table of versions gone", |state| change(state, "DROP TABLE meta")),
    ("a column gone", |state| change(state, "DROP VIEW queue; ALTER TABLE messages DROP COLUMN attempts")),
    ("the version gone", |state| change(state, "DELETE FROM meta WHERE name = 'schema_version'")),
    ("pages overwritten", |state| {
        let mut octets = std::fs::read(state).unwrap();
        octets[4096..].fill(0xA7);
        std::fs::write(state, octets).unwrap();
    }),
];

fn cut(state: &Path, to: impl Fn(u64) -> u64) {
    let file = std::fs::OpenOptions::new().write(true).open(state).unwrap();
    file.set_len(to(file.metadata().unwrap().len())).unwrap();
}

fn change(state: &Path, sql: &str) {
    rusqlite::Connection::open(state).unwrap().execute_batch(sql).unwrap();
}

#[tokio::test]
async fn rfc5321_6_1_a_database_with_damage_of_any_kind_is_rebuilt_and_nothing_that_waits_is_lost() {
    for (kind, damage) in DAMAGE {
        let folder = TempDir::new().unwrap();
        let spool = open(&folder);
        let mut waiting = Vec::new();
        for number in 0..40 {
            waiting.push(store(&spool, &content(number, 300)).await);
        }
        spool.close().await;
        damage(&folder.path().join("spool/state.sqlite"));
        let spool = open(&folder);
        let recovery = spool.recovery();
        assert!(recovery.rebuilt == 40 && recovery.waiting == 40, "{kind}: {recovery:?}");
        let mut found: Vec<QueueId> =
            spool.claim_due(NOW, 100).await.unwrap().iter().map(|claim| claim.entry.id).collect();
        found.sort_unstable();
        assert_eq!(found, waiting, "{kind}: each once");
    }
}

#[tokio::test]
async fn a_mark_that_is_nowhere_in_the_segment_keeps_nothing_from_starting() {
    for offset in [i64::MIN, -1, 0, 1, i64::MAX] {
        let folder = TempDir::new().unwrap();
        let spool = open(&folder);
        let first = store(&spool, b"one").await;
        spool.close().await;
        let state = folder.path().join("spool/state.sqlite");
        change(&state, &format!("UPDATE meta SET value = {offset} WHERE name = 'applied_offset'"));

        let spool = open(&folder);
        assert_eq!(spool.recovery().waiting, 1, "{offset}");
        assert_eq!(body(&spool, first).await.unwrap(), b"one", "{offset}");
        let second = store(&spool, b"two").await;
        spool.close().await;
        let spool = open(&folder);
        assert_eq!(spool.recovery().waiting, 2, "{offset}");
        assert_eq!(body(&spool, second).await.unwrap(), b"two", "{offset}");
    }
}

#[tokio::test]
async fn messages_that_the_database_missed_are_caught_up() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let first = store(&spool, b"one").await;
    spool.close().await;
    let before = Rewind::keep(&folder);
    let spool = open(&folder);
    let second = store(&spool, b"two").await;
    spool.close().await;
    before.restore(&folder);

    let spool = open(&folder);
    assert_eq!((spool.recovery().caught_up, spool.recovery().waiting), (1, 2));
    assert!(store(&spool, b"three").await > second);
    assert_eq!(body(&spool, first).await.unwrap(), b"one");
    assert_eq!(body(&spool, second).await.unwrap(), b"two");
}

#[tokio::test]
async fn rfc5321_6_1_a_damaged_record_is_counted_and_others_survive() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(store(&spool, format!("message {n} here").as_bytes()).await);
    }
    spool.close().await;
    let segment = files(&folder, "segments").remove(0);
    let mut octets = std::fs::read(&segment).unwrap();
    let at = octets.windows(14).position(|w| w == b"message 2 here").unwrap();
    octets[at] ^= 0x20;
    octets.extend(b"cut off");
    std::fs::write(&segment, octets).unwrap();

    // With the database: the damage shows when the message is read.
    let spool = open(&folder);
    assert_eq!(spool.recovery().waiting, 5);
    assert!(matches!(body(&spool, ids[2]).await, Err(SpoolError::Damaged)));
    assert!(matches!(body(&spool, ids[2]).await, Err(SpoolError::Damaged)), "its report reads it again");
    assert_eq!(spool.stats().damaged_records, 1);
    assert_eq!(files(&folder, "damaged").len(), 1);
    spool.close().await;

    // Without it: when the segments are read.
    remove_state(&folder);
    let spool = open(&folder);
    let recovery = spool.recovery();
    assert_eq!((recovery.waiting, recovery.damaged_records, recovery.torn_tails), (4, 1, 1));
    assert_eq!(body(&spool, ids[3]).await.unwrap(), b"message 3 here");
}

#[tokio::test]
async fn large_content_streams_through_a_file_of_its_own() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    for size in [262_144, 262_145, 3_000_000] {
        let id = store(&spool, &content(size, size)).await;
        assert_eq!(files(&folder, "content").len(), usize::from(size > 262_144), "{size}");
        assert_eq!(body(&spool, id).await.unwrap(), content(size, size));
        let claim = claim_one(&spool, NOW).await;
        spool.settle(claim, Settlement { recipients: vec![(0, failed())], ..Settlement::default() }).await.unwrap();
        assert_eq!(files(&folder, "content").len(), 0, "the file goes with the message");
    }
}

#[tokio::test]
async fn damaged_large_content_ends_with_damaged_instead_of_the_end() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let id = store(&spool, &content(3, 400_000)).await;
    let file = files(&folder, "content").remove(0);
    let good = std::fs::read(&file).unwrap();
    let mut flipped = good.clone();
    flipped[399_999] ^= 1;
    for bad in [flipped, good[..399_999].to_vec(), [&good[..], b"x"].concat()] {
        std::fs::write(&file, bad).unwrap();
        assert!(matches!(body(&spool, id).await, Err(SpoolError::Damaged)));
    }
    assert_eq!(spool.stats().damaged_records, 1, "a message counts once, however often it is read");
    std::fs::remove_file(&file).unwrap();
    assert!(matches!(body(&spool, id).await, Err(SpoolError::Damaged)));
}

#[tokio::test]
async fn a_draft_given_up_leaves_nothing_behind() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let mut draft = spool.begin(NOW);
    draft.body.write(&content(1, 600_000)).await.unwrap();
    assert_eq!(files(&folder, "content").len(), 1);
    drop(draft);
    assert_eq!(files(&folder, "content").len(), 0);
    spool.close().await;
    std::fs::write(folder.path().join("spool/content").join(QueueId(77).to_string()), b"orphan").unwrap();
    let spool = open(&folder);
    assert_eq!(spool.recovery().orphaned_files, 1);
    assert_eq!(files(&folder, "content").len(), 0);
    assert_eq!(spool.stats().queued_messages, 0);
}

#[tokio::test]
async fn segments_with_nothing_alive_are_removed() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    store(&spool, b"x").await;
    spool.close().await;
    let spool = open(&folder);
    let claim = claim_one(&spool, NOW).await;
    assert_eq!(files(&folder, "segments").len(), 2);
    spool.settle(claim, Settlement { recipients: vec![(0, failed())], ..Settlement::default() }).await.unwrap();
    spool.close().await;
    assert_eq!(files(&folder, "segments").len(), 1, "removed while running");
    let spool = open(&folder);
    assert_eq!(spool.recovery().removed_segments, 1, "and the empty one at the next start");
    assert_eq!(spool.stats().bytes, 0);
}

#[tokio::test]
async fn a_full_segment_is_followed_by_another_and_goes_when_it_is_dead() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let large = content(0, 262_144);
    for _ in 0..260 {
        store(&spool, &large).await;
    }
    assert_eq!(files(&folder, "segments").len(), 2, "65 MiB are two segments");
    let mut claims = spool.claim_due(NOW, 260).await.unwrap();
    assert_eq!(body(&spool, claims[259].entry.id).await.unwrap(), large);
    let last = claims.split_off(259);
    for claim in claims {
        spool.settle(claim, Settlement { recipients: vec![(0, failed())], ..Settlement::default() }).await.unwrap();
    }
    spool.close().await;
    assert_eq!(files(&folder, "segments").len(), 1, "nothing in the first one is alive");
    let spool = open(&folder);
    assert_eq!(body(&spool, last[0].entry.id).await.unwrap(), large);
}

#[tokio::test]
async fn a_second_process_is_refused_and_told_who_has_it() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let error = EmbeddedSpool::open(&config(folder.path()), NOW).err().unwrap().to_string();
    let expected = format!("is used by another relay process (pid {})", std::process::id());
    assert!(error.ends_with(&expected), "{error}");
    drop(spool);
    open(&folder);
}

#[tokio::test]
async fn rfc1870_6_a_low_disk_refuses_mail_and_not_outcomes() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    store(&spool, b"x").await;
    assert!(spool.admit(1000).is_ok());
    assert!(matches!(spool.admit(u64::MAX), Err(SpoolError::Full)), "larger than what is left");
    assert!(spool.admit(1000).is_ok(), "which says nothing about smaller ones");
    spool.close().await;

    let low = SpoolConfig { min_free_bytes: u64::MAX, ..config(folder.path()) };
    let spool = EmbeddedSpool::open(&low, NOW).unwrap();
    assert!(matches!(spool.admit(0), Err(SpoolError::Full)));
    let draft = spool.begin(NOW);
    assert!(matches!(spool.enqueue(draft, envelope(&["a@one.example"])).await, Err(SpoolError::Full)));
    let mut draft = spool.begin(NOW);
    assert!(matches!(draft.body.write(&content(1, 600_000)).await, Err(SpoolError::Full)));
    drop(draft);
    assert_eq!(files(&folder, "content").len(), 0);
    let claim = claim_one(&spool, NOW).await;
    let reports = vec![report(claim.entry.id)];
    let settlement = Settlement { recipients: vec![(0, failed())], reports, ..Settlement::default() };
    spool.settle(claim, settlement).await.unwrap();
}

#[tokio::test]
async fn more_messages_than_memory_keeps_are_read_from_the_database() {
    let folder = TempDir::new().unwrap();
    let spool = std::sync::Arc::new(open(&folder));
    let mut tasks = tokio::task::JoinSet::new();
    for worker in 0..50 {
        let spool = std::sync::Arc::clone(&spool);
        tasks.spawn(async move {
            for n in 0..50 {
                store(&spool, format!("{worker}/{n}").as_bytes()).await;
            }
        });
    }
    tasks.join_all().await;
    let claims = spool.claim_due(NOW, 10_000).await.unwrap();
    assert_eq!(claims.len(), 2500);
    let mut contents = std::collections::BTreeSet::new();
    for claim in claims {
        contents.insert(body(&*spool, claim.entry.id).await.unwrap());
        spool.release(claim).await.unwrap();
    }
    assert_eq!(contents.len(), 2500);
    assert_eq!(spool.claim_due(NOW, 10_000).await.unwrap().len(), 2500);
}

#[tokio::test]
async fn history_is_pruned_after_its_time() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let id = store(&spool, b"x").await;
    let claim = claim_one(&spool, NOW).await;
    let events = vec![ended(0)];
    spool.settle(claim, Settlement { recipients: vec![(0, failed())], events, ..Settlement::default() }).await.unwrap();
    let day = 86_400_000;
    for (now, events) in [(NOW.0 + day, 1), (NOW.0 + day + 61_000, 0)] {
        spool.claim_due(Timestamp(now), 1).await.unwrap();
        // Pruning follows a job, so the second question sees what the first one led to.
        spool.history(id).await.unwrap();
        assert_eq!(spool.history(id).await.unwrap().len(), events);
    }
}

#[tokio::test]
async fn an_idle_relay_prunes_all_that_is_over_without_another_job() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    for _ in 0..450 {
        store(&spool, b"x").await;
    }
    for claim in spool.claim_due(NOW, 1000).await.unwrap() {
        let events = vec![ended(0)];
        let settlement = Settlement { recipients: vec![(0, failed())], events, ..Settlement::default() };
        spool.settle(claim, settlement).await.unwrap();
    }
    let database = rusqlite::Connection::open(folder.path().join("spool/state.sqlite")).unwrap();
    let kept = || database.query_row("SELECT count(*) FROM messages", [], |row| row.get::<_, i64>(0)).unwrap();
    assert_eq!(kept(), 450);
    // What the service asks every minute, and nothing besides.
    assert!(spool.claim_due(Timestamp(NOW.0 + 86_400_000 + 61_000), 1).await.unwrap().is_empty());
    while kept() > 0 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn the_database_is_readable_for_an_operator() {
    let folder = TempDir::new().unwrap();
    let spool = open(&folder);
    let id = store(&spool, b"x").await;
    spool.close().await;
    let state = rusqlite::Connection::open(folder.path().join("spool/state.sqlite")).unwrap();
    let row: (String, String, String) = state
        .query_row("SELECT queue_id, state, accepted FROM queue", [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)))
        .unwrap();
    assert_eq!(row, (id.to_string(), "queued".into(), "2026-11-21T11:44:28Z".into()));
    let address: String = state.query_row("SELECT address FROM recipients", [], |r| r.get(0)).unwrap();
    assert_eq!(address, "a@one.example");
}
