//! The engine on PostgreSQL for the suite: one server for the whole program, and a database for each test.
#![expect(clippy::disallowed_methods, reason = "a test writes the roots that it trusts")]

use crate::engine::Engine;
use crate::postgres_server::PostgresServer;
use crate::reading::audit;
use crate::sample::{self, LATER, NOW, become_so, body, claim, content, delivered, ended, envelope, store, store_one};
use crate::tls_counts::{about, ill, totals, try_once, well};
use async_trait::async_trait;
use bytes::Bytes;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::{SpoolConfig, SpoolEngine};
use dane_relay::envelope::{Envelope, Origin, QueueId};
use dane_relay::spool::audit::{AuditFault, Depth};
use dane_relay::spool::cluster::{SchemaState, UNCALLED};
use dane_relay::spool::ledger::Ledger;
use dane_relay::spool::tls_session::{DueTlsReport, MOST_FAILURES, TlsReportState, TlsSession};
use dane_relay::spool::{
    ContentCopy, Opened, Settlement, Spool, SpoolError, database_status, migrate, nodes, open, open_ledger,
};
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;
use tempfile::TempDir;

static SERVER: OnceLock<PostgresServer> = OnceLock::new();
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// Long enough for a slow machine, and waited for after every crash.
const LEASE: Duration = Duration::from_secs(2);

fn server() -> &'static PostgresServer {
    SERVER.get_or_init(PostgresServer::start)
}

fn new_name() -> String {
    format!("relay_{}", NUMBER.fetch_add(1, Ordering::Relaxed))
}

/// A database of its own.
pub(crate) struct Postgres {
    folder: TempDir,
    name: String,
}

impl Postgres {
    pub(crate) fn config(&self) -> SpoolConfig {
        SpoolConfig {
            engine: SpoolEngine::Postgresql,
            url: Some(server().url(&self.name)),
            node: Some("one.example".to_owned()),
            lease: LEASE,
            max_connections: 8,
            ..sample::config(self.folder.path())
        }
    }
}

#[async_trait]
impl Engine for Postgres {
    async fn new() -> Self {
        let new = Self { folder: TempDir::new().unwrap(), name: new_name() };
        server().answer("postgres", &format!("CREATE DATABASE {}", new.name));
        migrate(&new.config()).await.unwrap();
        new
    }

    /// A program that a test beside this one has just started holds the lock of the folder, too, until it is loaded.
    async fn open(&self, now: Timestamp) -> Result<Opened, SpoolError> {
        for _ in 0..50 {
            match open(&self.config(), now).await {
                Err(SpoolError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(20)).await,
                opened => return opened,
            }
        }
        open(&self.config(), now).await
    }

    async fn ledger(&self) -> Box<dyn Ledger> {
        open_ledger(&self.config()).await.unwrap()
    }

    /// The database goes on as another one, which the process that is killed cannot reach.
    async fn kill(&mut self, opened: Opened) {
        let (old, new) = (std::mem::replace(&mut self.name, new_name()), &self.name);
        let cut_off = format!(
            "ALTER DATABASE {old} ALLOW_CONNECTIONS false;
             SELECT count(pg_terminate_backend(pid, 5000)) FROM pg_stat_activity WHERE datname = '{old}';"
        );
        server().answer("postgres", &cut_off);
        server().answer("postgres", &format!("CREATE DATABASE {new} TEMPLATE {old}"));
        opened.spool.close().await;
    }

    fn damage_envelope(&self, id: QueueId) {
        self.sql(&format!("UPDATE messages SET envelope = 'gone' WHERE id = {}", id.0));
    }
}

impl Postgres {
    pub(crate) fn sql(&self, sql: &str) -> String {
        server().answer(&self.name, sql)
    }

    /// Another relay beside the one that [`Engine::open`] opens.
    pub(crate) async fn another(&self, node: &str, folder: &TempDir) -> Opened {
        let config = SpoolConfig { node: Some(node.to_owned()), path: folder.path().join("spool"), ..self.config() };
        open(&config, NOW).await.unwrap()
    }
}

#[tokio::test]
async fn a_message_and_its_copies_are_one_transaction_whatever_their_size() {
    let engine = Postgres::new().await;
    let spool = engine.open(NOW).await.unwrap().spool;
    for size in [0, 1000, 262_144, 262_145, 900_000] {
        let mut draft = spool.begin(NOW);
        let id = draft.id;
        draft.body.write(&content(1, size)).await.unwrap();
        let copy = |to: &str| {
            let envelope = Envelope { origin: Origin::Copy { of: id }, ..envelope("", &[to]) };
            let (before, after) = (Bytes::from_static(b"a cover\r\n\r\n"), Bytes::from_static(b"\r\nits end\r\n"));
            ContentCopy { envelope, before, after }
        };
        let copies = vec![copy("a@archive.example"), copy("b@archive.example")];
        let ids =
            spool.enqueue_with(draft, envelope("alice@office.example", &["c@one.example"]), copies).await.unwrap();
        assert!(body(spool.as_ref(), id).await.unwrap() == content(1, size), "{size}");
        for copy in &ids {
            let whole = [&b"a cover\r\n\r\n"[..], &content(1, size), b"\r\nits end\r\n"].concat();
            assert!(body(spool.as_ref(), *copy).await.unwrap() == whole, "{size}");
        }
        let ledger = engine.ledger().await;
        let found = ledger.find(&id.to_string(), 9).await.unwrap();
        assert_eq!(found.messages.iter().map(|message| message.id).collect::<Vec<_>>(), [ids[1], ids[0]]);
        assert!(ledger.content(id).await.unwrap().unwrap() == content(1, size), "{size}");
    }
    assert_eq!(engine.sql("SELECT count(*) FROM drafts"), "0");
    assert_eq!(engine.sql("SELECT max(length(octets)) <= 262144 FROM content"), "t");
}

#[tokio::test]
async fn content_that_was_changed_or_taken_away_is_damaged_and_named_by_the_audit() {
    let engine = Postgres::new().await;
    let spool = engine.open(NOW).await.unwrap().spool;
    let id = store_one(spool.as_ref(), &content(1, 700_000)).await;
    for (change, fault) in [
        ("UPDATE content SET octets = set_byte(octets, 7, 0) WHERE number = 1", AuditFault::ContentDamaged),
        ("DELETE FROM content WHERE number = 1", AuditFault::ContentMissing),
    ] {
        engine.sql(change);
        assert!(matches!(body(spool.as_ref(), id).await, Err(SpoolError::Damaged)), "{change}");
        let audit = audit(engine.ledger().await.as_ref(), Depth::Everything).await;
        assert_eq!(audit.findings.iter().map(|found| (found.id, found.fault)).collect::<Vec<_>>(), [(id, fault)]);
        engine.ledger().await.content(id).await.unwrap_err();
    }
    assert_eq!(spool.stats().damaged_records, 1, "a message counts once, however often it is read");
}

#[tokio::test]
async fn what_is_finished_leaves_nothing_but_history_and_that_is_pruned_after_its_time() {
    let engine = Postgres::new().await;
    let spool = engine.open(NOW).await.unwrap().spool;
    let id = store(spool.as_ref(), envelope("alice@office.example", &["a@x.example"]), &content(1, 300_000)).await;
    let held = claim(spool.as_ref(), id).await;
    spool.settle(held, Settlement { events: vec![ended(0)], ..become_so([(0, delivered())]) }).await.unwrap();
    assert_eq!(engine.sql("SELECT count(*) FROM content"), "0", "the content goes with the last recipient");
    let waits = store_one(spool.as_ref(), b"x").await;
    spool.claim_due(Timestamp(NOW.0 + 31 * 86_400_000), 0).await.unwrap();
    while engine.sql("SELECT count(*) FROM messages") != "1" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let left =
        "SELECT (SELECT count(*) FROM history) + (SELECT count(*) FROM recipients) + (SELECT count(*) FROM lookups)";
    assert_eq!(engine.sql(left), "3", "those of the message that waits: a recipient, its name and the sender's");
    let ledger = engine.ledger().await;
    assert!(ledger.message(waits).await.unwrap().is_some() && ledger.message(id).await.unwrap().is_none());
    assert_eq!(ledger.complete_since().await.unwrap(), Some(NOW));
}

#[tokio::test]
async fn two_nodes_share_the_work_and_no_message_and_no_id() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let one = engine.open(NOW).await.unwrap().spool;
    let two = engine.another("two.example", &folder).await.spool;
    let mut ids = BTreeSet::new();
    for _ in 0..20 {
        ids.insert(store_one(one.as_ref(), b"x").await);
        ids.insert(store_one(two.as_ref(), b"y").await);
    }
    assert_eq!(ids.len(), 40);
    let (first, second) = tokio::join!(one.claim_due(LATER, 25), two.claim_due(LATER, 25));
    let claims: Vec<_> = [first.unwrap(), second.unwrap()].into_iter().flatten().collect();
    let claimed: BTreeSet<_> = claims.iter().map(|claim| claim.entry.id).collect();
    assert_eq!((claims.len(), claimed), (40, ids));
    let carried = nodes(&engine.config()).await.unwrap().unwrap();
    assert_eq!(carried.iter().map(|node| node.carries).sum::<u64>(), 40);
    assert_eq!(carried.iter().map(|node| node.name.as_str()).collect::<Vec<_>>(), ["one.example", "two.example"]);
    // What one node lets go the other hears of.
    let id = claims[0].entry.id;
    two.changed().await;
    for held in claims {
        // Whoever does not have a claim gives nothing back.
        one.release(sample::copy_of(&held)).await.unwrap();
        two.release(held).await.unwrap();
    }
    two.changed().await;
    assert!(two.claim_one(id, NOW).await.unwrap().is_some());
}

/// Claims what is due by the clock of this machine, until there is something.
async fn due_by_now(spool: &dyn Spool) -> Vec<QueueId> {
    for _ in 0..600 {
        let claims = spool.claim_due(Clock::system().now(), 10).await.unwrap();
        if !claims.is_empty() {
            return claims.iter().map(|claim| claim.entry.id).collect();
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    panic!("nothing is due");
}

#[tokio::test]
async fn what_a_node_that_is_gone_would_have_called_is_taken_up_by_another_and_by_itself_when_it_comes_back() {
    for comes_back in [false, true] {
        let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
        let one = engine.open(NOW).await.unwrap().spool;
        let other = if comes_back { None } else { Some(engine.another("two.example", &folder).await.spool) };
        let (id, later) = (store_one(one.as_ref(), b"x").await, store_one(one.as_ref(), b"y").await);
        let now = Clock::system().now();
        for held in one.claim_due(now, 10).await.unwrap() {
            // For the one there is no room at its host: it stands outside. The other is to be tried again much later.
            let wait = if held.entry.id == id { UNCALLED } else { UNCALLED * 10 };
            one.postpone(held, now.plus(wait)).await.unwrap();
        }
        assert!(one.claim_due(now, 10).await.unwrap().is_empty());
        one.close().await;
        let next = match other {
            Some(other) => other,
            None => engine.open(now).await.unwrap().spool,
        };
        assert_eq!(due_by_now(next.as_ref()).await, [id], "{comes_back}");
        assert!(next.claim_one(later, now).await.unwrap().is_some(), "it waits");
    }
}

#[tokio::test]
async fn a_schema_is_made_once_and_one_that_is_newer_is_left_alone() {
    let engine = Postgres::new().await;
    assert_eq!(migrate(&engine.config()).await.unwrap(), Some(SchemaState::Current(2)));
    let status = database_status(&engine.config()).await.unwrap().unwrap();
    assert!(status.server.starts_with("PostgreSQL ") && status.waiting == 0, "{status:?}");
    engine.sql("UPDATE relay_meta SET value = 3");
    assert_eq!(migrate(&engine.config()).await.unwrap(), Some(SchemaState::Newer(3)));
    let refused = engine.open(NOW).await.err().unwrap().to_string();
    assert!(refused.contains("migrated by a newer relay"), "{refused}");
}

#[tokio::test]
async fn rfc6125_the_certificate_of_the_database_is_held_against_roots_and_name() {
    let engine = Postgres::new().await;
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    server().speak_tls(&made.cert.pem(), &made.signing_key.serialize_pem());
    let (right, wrong) = (engine.folder.path().join("right.pem"), engine.folder.path().join("wrong.pem"));
    std::fs::write(&right, made.cert.pem()).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    std::fs::write(&wrong, other.cert.pem()).unwrap();
    let url = |host: &str| format!("postgresql://relay@{host}:{}/{}?sslmode=verify-full", server().port(), engine.name);
    let config = |host: &str, roots: &std::path::Path| SpoolConfig {
        url: Some(url(host)),
        roots: dane_relay::config::RootsSource::File(roots.to_owned()),
        ..engine.config()
    };
    // The server takes its new settings a moment later.
    let connects = async || database_status(&config("localhost", &right)).await;
    let mut tried = connects().await;
    for _ in 0..100 {
        if tried.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
        tried = connects().await;
    }
    tried.unwrap();
    for (host, roots, why) in
        [("localhost", &wrong, "invalid peer certificate"), ("127.0.0.1", &right, "not valid for name")]
    {
        let refused = database_status(&config(host, roots)).await.unwrap_err().to_string();
        assert!(refused.contains(why), "{host}: {refused}");
    }
}

/// Stores messages until it is told to stop; gives those that were acknowledged.
async fn produce(spool: Arc<dyn Spool>, stop: Arc<AtomicBool>) -> Vec<QueueId> {
    let mut acknowledged = Vec::new();
    while !stop.load(Ordering::SeqCst) {
        let mut draft = spool.begin(NOW);
        let written = draft.body.write(b"x").await;
        match written.and(spool.enqueue(draft, envelope("", &["a@x.example"])).await) {
            Ok(id) => acknowledged.push(id),
            Err(_refused) => tokio::time::sleep(Duration::from_millis(20)).await,
        }
    }
    acknowledged
}

/// Finishes messages until it is told to stop and none is left; gives those whose end was recorded.
async fn finish(spool: Arc<dyn Spool>, stop: Arc<AtomicBool>) -> Vec<QueueId> {
    let mut recorded = Vec::new();
    loop {
        let claims = spool.claim_due(LATER, 5).await.unwrap_or_default();
        if claims.is_empty() {
            if stop.load(Ordering::SeqCst) {
                return recorded;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        for held in claims {
            let id = held.entry.id;
            spool.settle(held, become_so([(0, delivered())])).await.unwrap();
            recorded.push(id);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5321_4_2_5_a_database_that_dies_under_load_loses_nothing_and_nothing_ends_twice() {
    let mut server = tokio::task::spawn_blocking(PostgresServer::start).await.unwrap();
    server.answer("postgres", "CREATE DATABASE relay");
    let engine = Postgres::new().await;
    let config = SpoolConfig { url: Some(server.url("relay")), lease: Duration::from_secs(30), ..engine.config() };
    migrate(&config).await.unwrap();
    let spool = open(&config, NOW).await.unwrap().spool;
    let (stop_taking, stop) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (mut producers, mut consumers) = (tokio::task::JoinSet::new(), tokio::task::JoinSet::new());
    for _ in 0..6 {
        producers.spawn(produce(Arc::clone(&spool), Arc::clone(&stop_taking)));
    }
    for _ in 0..3 {
        consumers.spawn(finish(Arc::clone(&spool), Arc::clone(&stop)));
    }
    for _ in 0..3 {
        tokio::time::sleep(Duration::from_millis(700)).await;
        server.kill();
        assert!(
            spool.away(NOW).is_some() || spool.enqueue(spool.begin(NOW), envelope("", &["a@x.example"])).await.is_err()
        );
        server.run();
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    stop_taking.store(true, Ordering::SeqCst);
    let acknowledged: Vec<QueueId> = producers.join_all().await.into_iter().flatten().collect();
    let waiting = || server.answer("relay", "SELECT count(*) FROM messages WHERE finished_at IS NULL");
    while waiting() != "0" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    stop.store(true, Ordering::SeqCst);
    let recorded: Vec<QueueId> = consumers.join_all().await.into_iter().flatten().collect();
    let distinct: BTreeSet<QueueId> = recorded.iter().copied().collect();
    assert!(acknowledged.len() > 100, "{}", acknowledged.len());
    assert_eq!(distinct.len(), recorded.len(), "an end is recorded once");
    let lost: Vec<_> = acknowledged.iter().filter(|id| !distinct.contains(id)).collect();
    assert!(lost.is_empty(), "{lost:?}");
    assert_eq!(spool.unwritten(), dane_relay::spool::Unwritten::default());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_given_back_at_once_takes_few_statements_and_only_what_is_still_held() {
    let engine = Postgres::new().await;
    let spool = engine.open(NOW).await.unwrap().spool;
    for _ in 0..200 {
        store_one(spool.as_ref(), b"").await;
    }
    let claims = spool.claim_due(NOW, 200).await.unwrap();
    let lost = claims[7].entry.id;
    // Somebody else has it by now.
    engine.sql(&format!("UPDATE messages SET generation = generation + 1 WHERE id = {}", lost.0));
    let returns = claims.into_iter().map(|claim| spool.postpone(claim, LATER));
    futures_util::future::try_join_all(returns).await.unwrap();
    let held = "SELECT id FROM messages WHERE holder IS NOT NULL";
    assert_eq!(engine.sql(held), lost.0.to_string());
    let due = format!("SELECT count(*) FROM messages WHERE due_at = {}", LATER.0);
    assert_eq!(engine.sql(&due), "199");
    // All rows that one statement changed have the number of its transaction.
    let statements = "SELECT count(DISTINCT xmin::text) FROM messages WHERE holder IS NULL";
    let statements: u32 = engine.sql(statements).parse().unwrap();
    assert!(statements < 20, "{statements}");
}

#[tokio::test]
async fn of_several_hosts_the_one_that_takes_writes_is_used() {
    let engine = Postgres::new().await;
    // Nobody listens at the first.
    let url = format!("postgresql://relay@127.0.0.1:1,127.0.0.1:{}/{}", server().port(), engine.name);
    let config = SpoolConfig { url: Some(url), ..engine.config() };
    let spool = open(&config, NOW).await.unwrap().spool;
    store_one(spool.as_ref(), b"x").await;
    spool.close().await;
    let standby = format!("ALTER DATABASE {} SET default_transaction_read_only = on", engine.name);
    server().answer("postgres", &standby);
    let refused = open(&config, NOW).await.err().unwrap();
    assert!(matches!(refused, SpoolError::Unreachable(_)), "none takes writes: {refused}");
}

/// Tries that count for several domains, in any order, each with a failure that is new.
fn tries(nth: usize) -> Vec<TlsSession> {
    let mut sessions = Vec::new();
    for domain in ["a.example", "b.example", "c.example"] {
        sessions.extend([well(domain), ill(domain, &format!("mx{nth}.{domain}"), "expired")]);
    }
    sessions.rotate_left(nth % 6);
    sessions
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc8460_4_4_two_nodes_count_for_the_same_domains_at_the_same_time() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let nodes = [engine.open(NOW).await.unwrap().spool, engine.another("two.example", &folder).await.spool];
    let mut counting = tokio::task::JoinSet::new();
    for nth in 0..60 {
        let spool = Arc::clone(&nodes[nth % 2]);
        counting.spawn(async move { try_once(spool.as_ref(), tries(nth)).await.unwrap() });
    }
    counting.join_all().await;
    let ledger = engine.ledger().await;
    for domain in ["a.example", "b.example", "c.example"] {
        let counts = ledger.tls_counts(&about(domain, NOW)).await.unwrap();
        assert_eq!((counts.len(), totals(&counts)), (61, (60, 60)), "{domain}");
    }
    assert_eq!(engine.sql("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"), "0");
    // Longer than an index takes, and more than a domain has room for.
    let long = "\u{1}".repeat(512);
    let many: Vec<_> = (0..MOST_FAILURES).map(|n| ill("a.example", &format!("{n}{long}"), &long).bounded()).collect();
    try_once(nodes[0].as_ref(), many).await.unwrap();
    let counts = ledger.tls_counts(&about("a.example", NOW)).await.unwrap();
    assert_eq!((counts.len(), totals(&counts).1), (MOST_FAILURES + 2, 60 + MOST_FAILURES as u64), "one row for others");
}

#[tokio::test]
async fn rfc8460_5_5_of_two_nodes_one_at_a_time_makes_a_report_and_what_is_done_stays_done() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let one = engine.open(NOW).await.unwrap().spool;
    let two = engine.another("two.example", &folder).await.spool;
    try_once(one.as_ref(), vec![well("a.example")]).await.unwrap();
    let (id, new) = (about("a.example", NOW), DueTlsReport { id: about("a.example", NOW), state: None });
    assert!(one.claim_tls_report(&new).await.unwrap());
    assert!(!two.claim_tls_report(&new).await.unwrap(), "the other one makes it");
    assert!(one.claim_tls_report(&new).await.unwrap(), "it was interrupted, and begins again");
    let later = TlsReportState::Waiting { due: LATER, tries: 1, last: None };
    assert!(matches!(two.record_tls_report(&id, &later, Vec::new()).await, Err(SpoolError::Fenced)));
    one.record_tls_report(&id, &later, Vec::new()).await.unwrap();
    assert!(!two.claim_tls_report(&new).await.unwrap(), "it was tried since it was found due");
    let waits = DueTlsReport { state: Some(later.clone()), ..new };
    assert!(two.claim_tls_report(&waits).await.unwrap());
    engine.sql("UPDATE tls_reports SET lease_until = now() - interval '1 second'");
    assert!(one.claim_tls_report(&waits).await.unwrap(), "a node that stands still has it for a time");
    let mails = || vec![sample::report(QueueId(0))];
    let sent = TlsReportState::Sent { at: LATER, to: vec!["mailto:a@b.example".into()] };
    let late = two.record_tls_report(&id, &sent, mails()).await;
    assert!(matches!(late, Err(SpoolError::Fenced)), "{late:?}");
    assert_eq!(engine.sql("SELECT count(*) FROM messages"), "1", "the mail of what is not recorded is not there");
    one.close().await;
    assert!(two.claim_tls_report(&waits).await.unwrap(), "a node that ends gives it back");
    two.record_tls_report(&id, &sent, mails()).await.unwrap();
    assert_eq!(engine.sql("SELECT count(*) FROM messages"), "2");
    assert!(!two.claim_tls_report(&waits).await.unwrap(), "it is done");
    assert!(matches!(two.record_tls_report(&id, &later, Vec::new()).await, Err(SpoolError::Fenced)));
    let rows = engine.ledger().await.tls_reports(id.day, id.day, 10).await.unwrap();
    assert_eq!(rows[0].report, Some(sent));
}

#[tokio::test]
async fn what_was_counted_goes_with_the_history() {
    let engine = Postgres::new().await;
    let spool = engine.open(NOW).await.unwrap().spool;
    let day = 86_400_000;
    try_once(spool.as_ref(), vec![well("a.example")]).await.unwrap();
    let done = TlsReportState::NotWanted { at: LATER, because: "there is no TXT record".into() };
    spool.record_tls_report(&about("a.example", NOW), &done, Vec::new()).await.unwrap();
    let rows = "SELECT (SELECT count(*) FROM tls_sessions) + (SELECT count(*) FROM tls_policies)
                     + (SELECT count(*) FROM tls_reports)";
    assert_eq!(engine.sql(rows), "3");
    spool.claim_due(Timestamp(NOW.0 + 31 * day), 0).await.unwrap();
    while engine.sql(rows) != "0" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn all_mail_goes_from_files_into_the_database_and_back() {
    let (engine, files) = (Postgres::new().await, TempDir::new().unwrap());
    crate::carrying::all_goes(crate::carrying::files(&files), engine.config()).await;
    let (engine, files) = (Postgres::new().await, TempDir::new().unwrap());
    crate::carrying::all_goes(engine.config(), crate::carrying::files(&files)).await;
}

#[tokio::test]
async fn all_mail_goes_from_files_into_the_database_of_the_same_directory() {
    let engine = Postgres::new().await;
    let files = SpoolConfig { engine: SpoolEngine::Embedded, url: None, node: None, ..engine.config() };
    crate::carrying::all_goes(files, engine.config()).await;
}

#[tokio::test]
async fn all_mail_goes_from_one_database_to_another() {
    let (one, two) = (Postgres::new().await, Postgres::new().await);
    crate::carrying::all_goes(one.config(), two.config()).await;
}
