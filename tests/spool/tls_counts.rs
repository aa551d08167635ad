//! What every engine promises of the reports on TLS: counts are durable with the outcome that they belong to, a domain
//! has a bounded share of a day, and a report goes out once (RFC 8460 §4.2, §5.5).

use crate::engine::Engine;
use crate::sample::{LATER, NOW, become_so, claim, copy_of, delivered, report, store_one, waits};
use dane_relay::clock::Timestamp;
use dane_relay::envelope::{Origin, QueueId};
use dane_relay::spool::ledger::Ledger;
use dane_relay::spool::tls_session::{
    AppliedPolicy, DueTlsReports, MOST_FAILURES, MOST_POLICIES, PolicyType, ReportDay, SessionFailure, TlsCount,
    TlsReportId, TlsReportState, TlsSession,
};
use dane_relay::spool::{Opened, Report, Settlement, Spool, SpoolError};

fn policy(kind: PolicyType, domain: &str) -> AppliedPolicy {
    AppliedPolicy { kind, domain: domain.into(), strings: vec![format!("of {domain}")], mx_host: Vec::new() }
}

pub(crate) fn well(domain: &str) -> TlsSession {
    TlsSession { domain: domain.into(), policy: policy(PolicyType::Sts, domain), failure: None }
}

pub(crate) fn ill(domain: &str, host: &str, reason: &str) -> TlsSession {
    let failure = SessionFailure {
        result_type: "certificate-expired".into(),
        sending_address: None,
        mx_host: Some(host.into()),
        mx_address: Some([192, 0, 2, 1].into()),
        reason: Some(reason.into()),
    };
    TlsSession { failure: Some(failure), ..well(domain) }
}

pub(crate) fn about(domain: &str, at: Timestamp) -> TlsReportId {
    TlsReportId { day: ReportDay::of(at), domain: domain.into() }
}

/// A message that is tried and waits again, with what that counts.
pub(crate) async fn try_once(spool: &dyn Spool, sessions: Vec<TlsSession>) -> Result<(), SpoolError> {
    let id = store_one(spool, b"x").await;
    let settlement = Settlement { sessions, ..become_so([(0, waits())]) };
    spool.settle(claim(spool, id).await, settlement).await
}

pub(crate) fn totals(counts: &[TlsCount]) -> (u64, u64) {
    let sum = |failed: bool| counts.iter().filter(|c| c.failure.is_some() == failed).map(|c| c.sessions).sum();
    (sum(false), sum(true))
}

async fn due(ledger: &dyn Ledger, now: Timestamp) -> Vec<String> {
    let today = ReportDay::of(LATER.plus(std::time::Duration::from_hours(24)));
    let asked = DueTlsReports { from: ReportDay(0), before: today, now, most: 10 };
    ledger.tls_reports_due(&asked).await.unwrap().into_iter().map(|due| due.id.domain).collect()
}

pub(crate) async fn rfc8460_4_2_sessions_count_with_the_outcome_or_not_at_all<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    let spool = opened.spool.as_ref();
    try_once(spool, vec![well("a.example"), ill("a.example", "mx", "it has expired")]).await.unwrap();
    try_once(spool, vec![well("a.example"), well("b.example")]).await.unwrap();
    let id = store_one(spool, b"x").await;
    let held = claim(spool, id).await;
    let old = copy_of(&held);
    spool.settle(held, become_so([(0, delivered())])).await.unwrap();
    let fenced = Settlement { sessions: vec![well("a.example")], ..become_so([(0, delivered())]) };
    assert!(matches!(spool.settle(old, fenced).await, Err(SpoolError::Fenced)));
    engine.kill(opened).await;
    let _reopened = engine.open(LATER).await.unwrap();
    let ledger = engine.ledger().await;
    let counts = ledger.tls_counts(&about("a.example", NOW)).await.unwrap();
    assert_eq!((counts.len(), totals(&counts)), (2, (2, 1)), "{counts:?}");
    let day = ReportDay::of(NOW);
    let rows = ledger.tls_reports(day, day, 10).await.unwrap();
    let told: Vec<_> = rows.iter().map(|row| (row.id.domain.as_str(), row.succeeded, row.failed)).collect();
    assert_eq!(told, [("a.example", 2, 1), ("b.example", 1, 0)]);
    assert_eq!(counts.iter().find_map(|count| count.failure.clone()), ill("a.example", "mx", "it has expired").failure);
}

pub(crate) async fn rfc8460_4_4_a_domain_has_a_bounded_share_of_a_day<E: Engine>(engine: E) {
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    let hosts = |n: usize| ill("a.example", &format!("mx{n}.a.example"), &format!("reason {n}"));
    try_once(spool.as_ref(), (0..MOST_FAILURES + 300).map(hosts).collect()).await.unwrap();
    let policies =
        |n: usize| TlsSession { policy: policy(PolicyType::Tlsa, &format!("mx{n}.example")), ..well("a.example") };
    try_once(spool.as_ref(), (0..MOST_POLICIES + 300).map(policies).collect()).await.unwrap();
    let ledger = engine.ledger().await;
    let counts = ledger.tls_counts(&about("a.example", NOW)).await.unwrap();
    let (most_policies, most_failures) = (MOST_POLICIES as u64 + 300, MOST_FAILURES as u64 + 300);
    assert_eq!(totals(&counts), (most_policies, most_failures), "nothing is left out");
    assert!(counts.len() <= MOST_FAILURES + 1 + MOST_POLICIES + 1, "{}", counts.len());
    let others = counts.iter().find(|count| count.failure.as_ref().is_some_and(|failure| failure.mx_host.is_none()));
    assert_eq!(others.map(|count| count.sessions), Some(300));
}

pub(crate) async fn rfc8460_5_5_a_report_goes_out_once<E: Engine>(mut engine: E) {
    let opened = engine.open(NOW).await.unwrap();
    try_once(opened.spool.as_ref(), vec![well("a.example")]).await.unwrap();
    let mail = || {
        let Report { envelope, content } = report(QueueId(0));
        let origin = Origin::TlsReport { domain: "a.example".into(), day: ReportDay::of(NOW) };
        vec![Report { envelope: dane_relay::envelope::Envelope { origin, ..envelope }, content }]
    };
    let (id, waiting) = (about("a.example", NOW), opened.spool.stats().queued_messages);
    assert_eq!(due(engine.ledger().await.as_ref(), LATER).await, ["a.example"], "it was never tried");
    let later = TlsReportState::Waiting { due: LATER, tries: 1, last: Some("no answer".into()) };
    opened.spool.record_tls_report(&id, &later, mail()).await.unwrap();
    assert_eq!(due(engine.ledger().await.as_ref(), NOW).await, [""; 0], "its time has not come");
    assert_eq!(due(engine.ledger().await.as_ref(), LATER).await, ["a.example"]);
    engine.kill(opened).await;
    let Opened { spool, .. } = engine.open(NOW).await.unwrap();
    assert_eq!(spool.stats().queued_messages, waiting + 1);
    let sent = TlsReportState::Sent { at: LATER, to: vec!["mailto:a@b.example".into()] };
    spool.record_tls_report(&id, &sent, mail()).await.unwrap();
    assert_eq!(spool.stats().queued_messages, waiting + 1, "the same mail a second time");
    let ledger = engine.ledger().await;
    assert_eq!(due(ledger.as_ref(), LATER).await, [""; 0], "it is done");
    let day = ReportDay::of(NOW);
    assert_eq!(ledger.tls_reports(day, day, 10).await.unwrap()[0].report, Some(sent));
}
