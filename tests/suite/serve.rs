//! The relay as its operator meets it: started and stopped by signals, watched by Prometheus, on
//! a disk that fills up (RFC 5321 §3.8, §4.2.5, §6.1; RFC 1870 §4).

use crate::process::Serving;
use crate::relay::{
    PATIENCE, SENDER, World, configuration_file, content, get, hand_in, heard, lab, metrics, says, until,
};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{Tlsa, TroubleAt};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::time::Duration;

#[tokio::test]
async fn rfc5321_3_8_sigterm_dismisses_the_idle_and_lets_a_message_in_transfer_finish() {
    let lab = lab().domain("dane.test", |d| d).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = configuration_file(&lab, folder.path());
    let relay = Serving::start(&config).await;
    let mut idle = SmtpClient::ready(relay.smtp).await.unwrap();
    let mut busy = SmtpClient::ready(relay.smtp).await.unwrap();
    let begin = format!("MAIL FROM:<{SENDER}>\r\nRCPT TO:<bob@dane.test>\r\nDATA\r\nSubject: in transfer\r\n\r\n");
    busy.raw(begin.as_bytes()).await.unwrap();
    for code in [250, 250, 354] {
        assert_eq!(busy.reply().await.unwrap().code, code);
    }
    relay.terminate();
    assert_eq!(idle.reply().await.unwrap().code, 421);
    assert_eq!(idle.reply().await.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    busy.raw(b"the end\r\n.\r\n").await.unwrap();
    assert_eq!(busy.reply().await.unwrap().code, 250);
    assert_eq!(relay.ended().await, 0);
    // What was acknowledged goes out now or after the restart, and once.
    let relay = Serving::start(&config).await;
    let messages = lab.mx("dane.test").unwrap().wait_for_messages(1, PATIENCE).await.unwrap();
    assert!(messages[0].content.ends_with(b"Subject: in transfer\r\n\r\nthe end\r\n"));
    until_empty(&relay).await;
    assert_eq!(lab.mx("dane.test").unwrap().messages().len(), 1);
}

/// A journal that restarts closes the logs of its services.
#[tokio::test]
async fn rfc5321_4_2_5_a_log_that_nobody_reads_any_more_stops_neither_mail_nor_the_stop() {
    let lab = lab().domain("dane.test", |d| d).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let relay = Serving::start_unheard(&configuration_file(&lab, folder.path())).await;
    hand_in(relay.smtp, SENDER, &["bob@dane.test"], content("bob@dane.test").as_bytes()).await;
    lab.mx("dane.test").unwrap().wait_for_messages(1, PATIENCE).await.unwrap();
    until_empty(&relay).await;
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
}

async fn until_empty(relay: &Serving) {
    let empty = || async { (metrics(relay.admin).await["relay_queue_messages"] == 0.0).then_some(()) };
    until(empty, "an empty queue").await;
}

#[tokio::test]
async fn rfc5321_6_1_a_restart_goes_on_with_what_waited_and_forgets_no_recipient() {
    let lab = lab().domain("busy.test", |d| d).domain("dane.test", |d| d).start().await.unwrap();
    let (busy, dane) = (lab.mx("busy.test").unwrap(), lab.mx("dane.test").unwrap());
    busy.trouble(TroubleAt::Mail, says("451 4.3.0 later"));
    let folder = tempfile::tempdir().unwrap();
    let config = configuration_file(&lab, folder.path());
    let relay = Serving::start(&config).await;
    let sent = content("bob@busy.test");
    hand_in(relay.smtp, SENDER, &["bob@busy.test", "bob@dane.test", "carol@busy.test"], sent.as_bytes()).await;
    dane.wait_for_messages(1, PATIENCE).await.unwrap();
    until(|| async { (heard(busy, "MAIL") >= 2).then_some(()) }, "two attempts").await;
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    busy.trouble(TroubleAt::Mail, None);
    let relay = Serving::start(&config).await;
    let messages = busy.wait_for_messages(1, PATIENCE).await.unwrap();
    assert_eq!(messages[0].rcpt_to, ["bob@busy.test", "carol@busy.test"]);
    assert!(messages[0].content.ends_with(sent.as_bytes()));
    until_empty(&relay).await;
    assert_eq!((busy.messages().len(), dane.messages().len()), (1, 1), "nobody gets it twice");
}

/// The counters that moved between two scrapes, and by how much. Histograms and what only says
/// how large or how old something is are left out.
fn moved(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Vec<(String, f64)> {
    // How the DNS was asked, what the process needed and when a session was seen to end are other matters.
    let others = ["relay_dns_", "process_", "relay_smtp_sessions_closed_"];
    let of_mail = |name: &str| !others.iter().any(|other| name.starts_with(other));
    let counts = |name: &str| of_mail(name) && (name.contains("_total") || name == "relay_queue_messages");
    let difference = |(name, value): (&String, &f64)| (name.clone(), value - before.get(name).unwrap_or(&0.0));
    after.iter().filter(|(name, _)| counts(name)).map(difference).filter(|(_, by)| *by != 0.0).collect()
}

#[tokio::test]
async fn each_outcome_moves_its_counters_and_no_others() {
    let lab = lab()
        .domain("dane.test", |d| d)
        .domain("mismatch.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
        .domain("null.test", |d| d.null_mx());
    let world = World::with(lab, |_, config| {
        // One attempt and no more, however slow the machine is.
        config.retry.first = Duration::from_secs(3600);
        config.retry.longest = config.retry.first;
        config.retry.expire_after = Duration::from_secs(7200);
    });
    let world = world.await;
    let counted = |text: &str, by: f64| (text.to_owned(), by);
    let taken = || {
        vec![
            counted("relay_accepted_bytes_total", 0.0),
            counted("relay_messages_accepted_total", 1.0),
            counted("relay_recipients_accepted_total", 1.0),
            counted("relay_smtp_sessions_total", 1.0),
        ]
    };
    let expect = |before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>, more: &[(&str, f64)]| {
        let mut expected = taken();
        expected.extend(more.iter().map(|(name, by)| counted(name, *by)));
        expected.sort_by(|a, b| a.0.cmp(&b.0));
        let mut found = moved(before, after);
        for (name, by) in &mut found {
            if name == "relay_accepted_bytes_total" {
                assert!(*by > 100.0, "{by}");
                *by = 0.0;
            }
        }
        assert_eq!(found, expected);
    };

    let start = world.metrics().await;
    world.delivers("bob@dane.test").await;
    until_queued(&world, 0.0).await;
    let delivered = world.metrics().await;
    let by_dane = "relay_delivery_attempts_total{policy=\"dane\",tls=\"dane\"}";
    expect(&start, &delivered, &[(by_dane, 1.0), ("relay_recipients_delivered_total{tls=\"dane\"}", 1.0)]);

    let id = world.mail(&["bob@mismatch.test"]).await;
    world.deferred(id, "bob@mismatch.test", 1).await;
    until_queued(&world, 1.0).await;
    let deferred = world.metrics().await;
    let refused = "relay_delivery_attempts_total{policy=\"dane\",tls=\"none\"}";
    let waits = "relay_recipient_deferrals_total{cause=\"tlsa-invalid\",side=\"recipient\"}";
    expect(&delivered, &deferred, &[(refused, 1.0), (waits, 1.0), ("relay_queue_messages", 1.0)]);

    world.fails("bob@null.test").await;
    world.reports(1).await;
    until_queued(&world, 1.0).await;
    let failed = world.metrics().await;
    let skipped = "relay_delivery_attempts_total{policy=\"skipped\",tls=\"none\"}";
    let gone = "relay_recipients_failed_total{cause=\"null-mx\",side=\"sender\"}";
    // The report is a message of its own, and is delivered as one.
    let report =
        [("relay_reports_queued_total", 1.0), (by_dane, 1.0), ("relay_recipients_delivered_total{tls=\"dane\"}", 1.0)];
    expect(&deferred, &failed, &[&[(skipped, 1.0), (gone, 1.0)], report.as_slice()].concat());
}

async fn until_queued(world: &World, count: f64) {
    let there = || async {
        let metrics = world.metrics().await;
        (metrics["relay_queue_messages"] == count && metrics["relay_smtp_sessions_open"] == 0.0).then_some(())
    };
    until(there, "the queue to settle").await;
}

#[tokio::test]
async fn rfc1870_4_a_full_disk_is_told_to_clients_and_to_whoever_watches() {
    let world = World::with(lab(), |_, config| config.spool.min_free_bytes = u64::MAX / 2).await;
    let (status, text) = get(world.relay.admin, "/readyz").await;
    assert_eq!(status, 503, "{text}");
    assert_eq!(get(world.relay.admin, "/healthz").await.0, 200, "it lives, and needs no restart");
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let reply = client.command(&format!("MAIL FROM:<{SENDER}>")).await.unwrap();
    assert_eq!(reply.to_string().split(' ').take(2).collect::<Vec<_>>(), ["452", "4.3.1"], "{reply}");
    assert_eq!(world.metrics().await["relay_smtp_refusals_total{code=\"452\",status=\"4.3.1\"}"], 1.0);
}

#[tokio::test]
async fn a_relay_is_ready_until_it_stops_and_stops_in_good_order() {
    let world = World::start(lab()).await;
    assert_eq!(get(world.relay.admin, "/readyz").await, (200, "ready\n".to_owned()));
    assert_eq!(get(world.relay.admin, "/healthz").await.0, 200);
    assert_eq!(get(world.relay.admin, "/nothing").await.0, 404);
    let smtp = world.smtp();
    world.stop().await;
    let refused = SmtpClient::connect(smtp).await.err().map(|error| error.kind());
    assert_eq!(refused, Some(ErrorKind::ConnectionRefused));
}

#[tokio::test]
async fn rfc3848_mail_handed_in_over_tls_says_so_in_its_trace() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap().starttls("relay.office.test").await.unwrap();
    assert!(client.send(SENDER, &["bob@dane.test"], b"Subject: x\r\n\r\n").await.unwrap().accepted());
    let message = world.mx("dane.test").wait_for_messages(1, PATIENCE).await.unwrap().remove(0);
    let text = String::from_utf8(message.content).unwrap();
    assert!(text.contains("by relay.office.test with ESMTPS id "), "{text}");
}
