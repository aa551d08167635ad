//! What relays that share a database tell each other.

use crate::engine::Engine as _;
use crate::postgres::Postgres;
use crate::sample::NOW;
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::spool::Spool;
use dane_relay::spool::findings::{FINDING_NAME_LIMIT, Finding, FindingMark, FindingOwner, FindingTopic, HeardFinding};
use std::collections::BTreeSet;
use std::time::Duration;
use tempfile::TempDir;

fn finding(topic: FindingTopic, name: &str, at: Timestamp, value: &str) -> Finding {
    Finding { topic, name: name.to_owned(), at, lives: Duration::from_secs(3600), value: value.into() }
}

fn host(name: &str, value: &str) -> Finding {
    finding(FindingTopic::Host, name, Clock::system().now(), value)
}

/// All that is new, in pieces as they come.
async fn hear(spool: &dyn Spool, mark: &mut FindingMark) -> Vec<HeardFinding> {
    let mut all = Vec::new();
    loop {
        let heard = spool.hear_findings(mark.clone()).await.unwrap().unwrap();
        all.extend(heard.findings);
        *mark = heard.mark;
        if !mark.is_cut() {
            return all;
        }
    }
}

/// Each once: what was written while any transaction of the server was under way may be read again.
async fn values(spool: &dyn Spool, mark: &mut FindingMark) -> BTreeSet<String> {
    let heard = hear(spool, mark).await;
    heard.into_iter().map(|heard| String::from_utf8(heard.finding.value).unwrap()).collect()
}

fn all(values: &[&str]) -> BTreeSet<String> {
    values.iter().map(|value| (*value).to_owned()).collect()
}

/// Until nothing is new any more.
async fn all_is_heard(spool: &dyn Spool, mark: &mut FindingMark) {
    while !hear(spool, mark).await.is_empty() {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_finding_of_another_node_is_heard_and_again_when_it_changes() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let one = engine.open(NOW).await.unwrap().spool;
    let two = engine.another("two.example", &folder).await.spool;
    let (mut of_one, mut of_two) = (FindingMark::default(), FindingMark::default());
    assert!(hear(two.as_ref(), &mut of_two).await.is_empty());
    one.tell_findings(&[host("a", "1"), host("b", "1")]).await.unwrap();
    assert!(hear(one.as_ref(), &mut FindingMark::default()).await.iter().all(|heard| heard.owner == FindingOwner::Own));
    assert_eq!(hear(one.as_ref(), &mut of_one).await.len(), 2);
    all_is_heard(one.as_ref(), &mut of_one).await;
    let heard = hear(two.as_ref(), &mut of_two).await;
    assert!(heard.len() == 2 && heard.iter().all(|heard| matches!(heard.owner, FindingOwner::Other(_))), "{heard:?}");
    all_is_heard(two.as_ref(), &mut of_two).await;
    one.tell_findings(&[host("b", "2")]).await.unwrap();
    two.tell_findings(&[host("b", "of two")]).await.unwrap();
    assert_eq!(values(two.as_ref(), &mut of_two).await, all(&["2"]), "each has its own of a host");
    assert_eq!(values(one.as_ref(), &mut of_one).await, all(&["of two"]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_written_and_not_committed_when_a_node_reads_is_heard_later() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let one = engine.open(NOW).await.unwrap().spool;
    let two = engine.another("two.example", &folder).await.spool;
    one.tell_findings(&[host("a", "1")]).await.unwrap();
    let mut mark = FindingMark::default();
    // A transaction that began before others and ends after them.
    std::thread::scope(|scope| {
        let slow = scope.spawn(|| {
            engine.sql(
                "BEGIN; UPDATE findings SET value = 'late', written = pg_current_xact_id();
                 SELECT pg_sleep(3); COMMIT",
            )
        });
        while engine.sql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") != "1" {
            std::thread::sleep(Duration::from_millis(20));
        }
        let runtime = tokio::runtime::Handle::current();
        tokio::task::block_in_place(|| {
            runtime.block_on(async {
                one.tell_findings(&[host("b", "2")]).await.unwrap();
                assert_eq!(values(two.as_ref(), &mut mark).await, all(&["1", "2"]));
            });
        });
        slow.join().unwrap();
    });
    let later = values(two.as_ref(), &mut mark).await;
    assert!(later.contains("late"), "{later:?}");
    all_is_heard(two.as_ref(), &mut mark).await;
}

#[tokio::test]
async fn a_policy_is_one_for_all_and_only_a_younger_one_takes_its_place() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let one = engine.open(NOW).await.unwrap().spool;
    let two = engine.another("two.example", &folder).await.spool;
    let now = Clock::system().now();
    let policy = |before: i64, value| finding(FindingTopic::StsPolicy, "a.test", Timestamp(now.0 - before), value);
    let mut mark = FindingMark::default();
    one.tell_findings(&[policy(2000, "first")]).await.unwrap();
    two.tell_findings(&[policy(3000, "older")]).await.unwrap();
    assert_eq!(values(two.as_ref(), &mut mark).await, all(&["first"]));
    two.tell_findings(&[policy(1000, "younger")]).await.unwrap();
    assert_eq!(values(one.as_ref(), &mut FindingMark::default()).await, all(&["younger"]));
    // One that a wrong clock made stands in nobody's way.
    one.tell_findings(&[policy(-86_400_000, "of tomorrow")]).await.unwrap();
    two.tell_findings(&[policy(0, "of today")]).await.unwrap();
    assert_eq!(values(one.as_ref(), &mut FindingMark::default()).await, all(&["of today"]));
}

#[tokio::test]
async fn many_findings_come_in_pieces_and_what_is_too_long_is_left_out() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let one = engine.open(NOW).await.unwrap().spool;
    let two = engine.another("two.example", &folder).await.spool;
    let mut many: Vec<Finding> = (0..1234).map(|nth| host(&format!("h{nth}"), "x")).collect();
    many.push(host(&"n".repeat(FINDING_NAME_LIMIT + 1), "too long"));
    many.push(host("with\0nul", "no text"));
    one.tell_findings(&many).await.unwrap();
    let mut mark = FindingMark::default();
    assert_eq!(hear(two.as_ref(), &mut mark).await.len(), 1234);
    all_is_heard(two.as_ref(), &mut mark).await;
}

#[tokio::test]
async fn what_is_over_or_of_a_database_that_was_restored_is_not_read_for_ever() {
    let (engine, folder) = (Postgres::new().await, TempDir::new().unwrap());
    let one = engine.open(NOW).await.unwrap().spool;
    let two = engine.another("two.example", &folder).await.spool;
    one.tell_findings(&[host("over", "1"), host("restored", "2")]).await.unwrap();
    engine.sql("UPDATE findings SET expires_at = now() - interval '1 second' WHERE name = 'over'");
    engine.sql("UPDATE findings SET written = '99999999' WHERE name = 'restored'");
    let mut mark = FindingMark::default();
    assert_eq!(values(two.as_ref(), &mut mark).await, all(&["2"]));
    one.claim_due(Timestamp(NOW.0 + 120_000), 0).await.unwrap();
    let tidied = "SELECT string_agg(name, ',') FROM findings WHERE written < '99999999'";
    while engine.sql(tidied) != "restored" {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(values(two.as_ref(), &mut mark).await, all(&["2"]));
    all_is_heard(two.as_ref(), &mut mark).await;
}
