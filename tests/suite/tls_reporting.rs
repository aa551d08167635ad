//! A day of mail, and the reports on TLS about it: what domains that ask for it are told, by mail and by HTTPS, and
//! what becomes of reports that nobody takes (RFC 8460 §3, §4, §5).

use crate::http::http_here;
use crate::relay::{World, lab, says, until};
use crate::tls_report::document;
use dane_relay::clock::Clock;
use dane_relay::config::{Config, DomainPattern};
use dane_relay::lab::{AnswerFault, DomainSpec, Lab, LabBuilder, StartTls, Tlsa, TroubleAt};
use dane_relay::net::Tcp;
use dane_relay::spool::ledger::Ledger;
use dane_relay::spool::open_ledger;
use dane_relay::spool::tls_session::{ReportDay, TlsReportId, TlsReportState};
use hickory_proto::rr::rdata::TXT;
use hickory_proto::rr::{RData, RecordType};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

const A_DAY: Duration = Duration::from_hours(24);

/// The domain wants reports there.
fn reported_to(domain: DomainSpec, name: &str, rua: &str) -> DomainSpec {
    domain.record(&format!("_smtp._tls.{name}"), RData::TXT(TXT::new(vec![format!("v=TLSRPTv1; rua={rua}")])))
}

/// Domains of each kind, and one that takes reports.
fn domains() -> LabBuilder {
    let to_us = "mailto:tls@reports.test";
    lab()
        .domain("reports.test", |d| d)
        .domain("good.test", |d| reported_to(d, "good.test", to_us))
        .domain("plain.test", |d| {
            reported_to(d.host(|h| h.tlsa([]).starttls(StartTls::NotOffered)), "plain.test", to_us)
        })
        .domain("mute.test", |d| {
            reported_to(d.fault("mx.mute.test", RecordType::TLSA, AnswerFault::ServFail), "mute.test", to_us)
        })
        // Its own mail host is what its report is about.
        .domain("bad.test", |d| {
            reported_to(d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])), "bad.test", "mailto:tls@bad.test")
        })
        .domain("dead.test", |d| reported_to(d, "dead.test", "https://nowhere.dead.test/tls"))
        .domain("silent.test", |d| d)
}

fn reporting(config: &mut Config) {
    config.tls_reports.enabled = true;
    config.tls_reports.organization = Some("Office Ltd".into());
    config.tls_reports.contact = Some("postmaster@office.test".parse().unwrap());
    // What the readers' TLS is like, and what senders may ask, is no matter of a report.
    config.tls.tls_required_no = false;
}

async fn world(clock: &Clock, change: impl FnOnce(&mut Config)) -> World {
    let lab = domains().clock(clock.clone()).start().await.unwrap();
    World::in_time(clock.clone(), Arc::new(Tcp), lab, |_: &Lab, config| {
        reporting(config);
        change(config);
    })
    .await
}

/// Just after a midnight: at the same time of the next day the relay has not yet begun with the reports of that night, so
/// that only an order sends them, however long a test takes.
fn just_after_midnight() -> Clock {
    let tomorrow = ReportDay(ReportDay::of(Clock::system().now()).0 + 1);
    Clock::manual(tomorrow.begin().plus(Duration::from_mins(2)))
}

/// What the order to send at once brings.
async fn send_now(world: &World) -> BTreeMap<String, TlsReportState> {
    let sent = world.control().send_tls_reports(None).await.unwrap();
    sent.into_iter().map(|sent| (sent.report.domain, sent.state)).collect()
}

/// All that has happened is recorded, and so many messages wait.
async fn recorded(world: &World, waiting: u64) {
    let is_so = || async { (world.relay.spool.stats().queued_messages == waiting).then_some(()) };
    until(is_so, "the record of what has happened").await;
}

async fn ledger(world: &World) -> Box<dyn Ledger> {
    open_ledger(&world.spool_config()).await.unwrap()
}

/// A policy of a document: its type, its domain, what succeeded, and what failed by result type.
fn sections(document: &Value) -> Vec<String> {
    let section = |policy: &Value| {
        let failures = policy["failure-details"].as_array().into_iter().flatten();
        let failed: Vec<String> =
            failures.map(|f| format!("{} {}", f["failed-session-count"], f["result-type"].as_str().unwrap())).collect();
        format!(
            "{} {}: {} ok, {} failed [{}]",
            policy["policy"]["policy-type"].as_str().unwrap(),
            policy["policy"]["policy-domain"].as_str().unwrap(),
            policy["summary"]["total-successful-session-count"],
            policy["summary"]["total-failure-session-count"],
            failed.join(", ")
        )
    };
    document["policies"].as_array().unwrap().iter().map(section).collect()
}

/// The report that the interface gives to whoever asks.
async fn as_counted(world: &World, domain: &str, day: ReportDay) -> Value {
    let request = format!("GET /api/v1/tls-reports/{domain}/{day}");
    let said = http_here(&world.spool_config().path, &request, &[], "").await;
    let kept = format!("attachment; filename=\"{domain}_{day}.json\"");
    assert_eq!(said.fields("content-disposition"), [kept.as_str()], "{said:?}");
    said.json()
}

/// The sessions of both, those that succeeded and those that failed.
async fn metric_and_ledger_agree(world: &World, metrics: &BTreeMap<String, f64>, [from, to]: [ReportDay; 2]) {
    let rows = ledger(world).await.tls_reports(from, to, 100).await.unwrap();
    let (succeeded, failed) = rows.iter().fold((0, 0), |sum, row| (sum.0 + row.succeeded, sum.1 + row.failed));
    let of = |is_ok: bool| {
        let ours = metrics.iter().filter(|(name, _)| name.starts_with("relay_tls_sessions_total{"));
        ours.filter(|(name, _)| name.contains("result=\"ok\"") == is_ok).map(|(_, value)| value).sum::<f64>()
    };
    assert_eq!((of(true), of(false)), (succeeded as f64, failed as f64), "metric and ledger agree");
}

#[tokio::test]
async fn rfc8460_4_a_day_of_mail_is_reported_to_whom_it_concerns() {
    let clock = just_after_midnight();
    let world = world(&clock, |_| {}).await;
    for _ in 0..3 {
        world.delivers("bob@good.test").await;
    }
    world.delivers("bob@plain.test").await;
    world.delivers("bob@silent.test").await;
    for to in ["bob@bad.test", "bob@mute.test"] {
        let id = world.mail(&[to]).await;
        world.deferred(id, to, 1).await;
    }
    world.delivers("bob@dead.test").await;
    recorded(&world, 2).await;
    let day = ReportDay::of(clock.now());
    assert_eq!(send_now(&world).await, BTreeMap::new(), "the day is not over");
    clock.advance(A_DAY);
    let sent = send_now(&world).await;
    let words: Vec<(&str, &str)> = sent.iter().map(|(domain, state)| (domain.as_str(), state.word())).collect();
    let expected = [
        ("bad.test", "sent"),
        ("dead.test", "waiting"),
        ("good.test", "sent"),
        ("mute.test", "sent"),
        ("plain.test", "sent"),
        ("silent.test", "not-wanted"),
    ];
    assert_eq!(words, expected);
    let mails = world.mx("reports.test").wait_for_messages(3, crate::relay::PATIENCE).await.unwrap();
    let mut told: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for mail in &mails {
        let document = document(mail);
        let id = document["report-id"].as_str().unwrap();
        let head = String::from_utf8_lossy(&mail.content).into_owned();
        let domain = head.split("TLS-Report-Domain: ").nth(1).unwrap().split("\r\n").next().unwrap().to_owned();
        assert!(head.contains(id), "{head}");
        assert!(head.contains("TLS-Required: No\r\n"), "{head}");
        assert_eq!(as_counted(&world, &domain, day).await, document, "who looks later sees what went out");
        told.insert(domain, sections(&document));
    }
    assert_eq!(told["good.test"], ["tlsa mx.good.test: 3 ok, 0 failed []"]);
    assert_eq!(told["plain.test"], ["no-policy-found plain.test: 0 ok, 1 failed [1 starttls-not-supported]"]);
    let mute = &told["mute.test"][0];
    assert!(mute.starts_with("tlsa mx.mute.test: 0 ok, ") && mute.ends_with(" dnssec-invalid]"), "{mute}");
    // RFC 8460 §3: what the report is about does not keep it from arriving.
    let to_bad = world.mx("bad.test").wait_for_messages(1, crate::relay::PATIENCE).await.unwrap();
    let bad = &sections(&document(&to_bad[0]))[0];
    assert!(bad.starts_with("tlsa mx.bad.test: 0 ok, ") && bad.ends_with(" tlsa-invalid]"), "{bad}");
    assert_eq!(send_now(&world).await.keys().collect::<Vec<_>>(), ["dead.test"], "nobody is told twice");
    let today = ledger(&world).await.tls_reports(ReportDay::of(clock.now()), ReportDay::of(clock.now()), 100).await;
    let counted: Vec<String> = today.unwrap().into_iter().map(|row| row.id.domain).collect();
    assert!(!counted.contains(&"reports.test".to_owned()), "reports count for none: {counted:?}");
    let counts = ledger(&world).await.tls_counts(&TlsReportId { day, domain: "good.test".into() }).await.unwrap();
    assert_eq!(counts.iter().map(|count| count.sessions).sum::<u64>(), 3);
    let metrics = world.metrics().await;
    metric_and_ledger_agree(&world, &metrics, [day, ReportDay::of(clock.now())]).await;
    assert_eq!(metrics["relay_tls_reports_total{state=\"sent\"}"], 4.0);
    world.stop().await;
}

#[tokio::test]
async fn rfc8460_5_5_p16_a_report_that_nobody_takes_is_tried_for_a_day_and_its_mail_makes_no_ndr() {
    let clock = just_after_midnight();
    let world = world(&clock, |config| {
        config.tls_reports.domains_never = vec![DomainPattern::Exactly("plain.test".parse().unwrap())]
    })
    .await;
    world.delivers("bob@good.test").await;
    world.delivers("bob@plain.test").await;
    world.delivers("bob@dead.test").await;
    recorded(&world, 0).await;
    world.mx("reports.test").trouble(TroubleAt::Rcpt, Some(says("550 5.1.1 no such user")));
    clock.advance(A_DAY);
    let sent = send_now(&world).await;
    let TlsReportState::Waiting { tries: 1, last: Some(last), .. } = &sent["dead.test"] else { panic!("{sent:?}") };
    assert!(last.contains("https://nowhere.dead.test/tls"), "{last}");
    let TlsReportState::NotWanted { because, .. } = &sent["plain.test"] else { panic!("{sent:?}") };
    assert!(because.contains("domains_never"), "{because}");
    let lost = || async { (world.metrics().await["relay_tls_report_mails_lost_total"] == 1.0).then_some(()) };
    until(lost, "the mail that nobody takes").await;
    let day = ReportDay(ReportDay::of(clock.now()).0 - 1);
    clock.advance(Duration::from_hours(29));
    // The relay may have done so by itself by now.
    send_now(&world).await;
    let rows = ledger(&world).await.tls_reports(day, day, 100).await.unwrap();
    let dead = rows.iter().find(|row| row.id.domain == "dead.test").and_then(|row| row.report.as_ref());
    assert_eq!(dead.map(TlsReportState::word), Some("given-up"), "{rows:?}");
    recorded(&world, 0).await;
    assert_eq!(world.mx("office.test").messages().len(), 0, "no NDR of a report");
    world.stop().await;
}
