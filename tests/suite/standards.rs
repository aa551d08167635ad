//! Rows of our table of standards that no section of an RFC names alone; each test has the number of its row.

use crate::process::Serving;
use crate::relay::{
    PATIENCE, SENDER, World, below_received, configuration_file, content, get, heard, lab, metrics, queue_id, says,
    until,
};
use dane_relay::config::Config;
use dane_relay::lab::TroubleAt;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::observe::Observer;
use serde_json::Value;
use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::path::Path;

/// RFC 5321 §4.5.3.1.6: lines of a text longer than 1000 octets pass unchanged, or are refused; never cut.
#[tokio::test]
async fn r20_lines_of_every_length_arrive_octet_by_octet() {
    let world = World::start(lab().domain("dane.test", |d| d)).await;
    for (nth, length) in [998, 999, 1000, 5000, 1_000_000].into_iter().enumerate() {
        let line: String = (0..length).map(|at| char::from(b'a' + u8::try_from(at % 26).unwrap())).collect();
        let sent = format!("Subject: {length}\r\n\r\nbefore\r\n{line}\r\n..dots\r\nafter\r\n");
        let id = world.send(SENDER, &["bob@dane.test"], sent.as_bytes()).await;
        world.delivered(id, "bob@dane.test").await;
        let received = world.mx("dane.test").wait_for_messages(nth + 1, PATIENCE).await.unwrap();
        assert!(below_received(&received[nth]) == sent.as_bytes(), "a line of {length} octets has changed");
    }
}

/// RFC 7505 §4.1, RFC 5321 §3.3: the DNS is not asked while the client waits; the report follows at once.
#[tokio::test]
async fn a02_a_null_mx_is_found_after_the_250_and_reported_at_once() {
    let world = World::start(lab().domain("null.test", |d| d.null_mx())).await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let handed = client.send(SENDER, &["bob@null.test"], content("bob@null.test").as_bytes()).await.unwrap();
    assert!(handed.accepted(), "{}", handed.last());
    world.failed(queue_id(&handed.last().text()), "bob@null.test").await;
    let report = String::from_utf8_lossy(&world.reports(1).await[0].content).into_owned();
    assert!(report.contains("Status: 5.1.10"), "{report}");
}

/// What is known without the DNS is refused while the client waits (RFC 1870 §6.2, RFC 5321 §4.1.3, §6.3).
#[tokio::test]
async fn a02_what_is_known_without_the_dns_is_refused_at_smtp_time() {
    let world = World::with(lab(), |_, config| config.listen.max_message_bytes = 10_000).await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let too_large = client.command(&format!("MAIL FROM:<{SENDER}> SIZE=10001")).await.unwrap();
    assert_eq!(too_large.code, 552, "{too_large}");
    assert_eq!(client.command(&format!("MAIL FROM:<{SENDER}>")).await.unwrap().code, 250);
    for (to, code) in [("bob@[192.0.2.1]", 550), ("bob@[127.0.0.1]", 550), ("bob@@x.test", 501), ("bob@x.test", 250)] {
        let reply = client.command(&format!("RCPT TO:<{to}>")).await.unwrap();
        assert_eq!(reply.code, code, "{to}: {reply}");
    }
}

#[tokio::test]
async fn a07_the_admin_port_is_on_loopback_unless_asked_and_names_nobody() {
    assert!(Config::default().admin.listen.ip().is_loopback());
    let lab = lab().domain("dane.test", |d| d).domain("busy.test", |d| d);
    let world = World::start(lab).await;
    world.lab.mx("busy.test").unwrap().trouble(TroubleAt::Mail, says("451 4.3.0 later"));
    world.delivers("secret-recipient@dane.test").await;
    let id = world.mail(&["secret-recipient@busy.test"]).await;
    world.deferred(id, "secret-recipient@busy.test", 1).await;
    for path in ["/metrics", "/readyz", "/healthz"] {
        let (_, said) = get(world.relay.admin, path).await;
        for word in ["secret-recipient", "dane.test", "busy.test", SENDER, "Hello"] {
            assert!(!said.contains(word), "{path} says {word}: {said}");
        }
    }
}

/// RFC 8689 §2: a demand of the sender, which the relay neither makes up nor drops.
#[tokio::test]
async fn g07_no_host_is_asked_for_requiretls_by_mail_that_came_without_it() {
    let able = lab().domain("able.test", |d| d.host(|h| h.keyword_in_tls("REQUIRETLS")));
    let world = World::start(able).await;
    assert_eq!(world.delivers("bob@able.test").await.tls, "dane");
    let received = world.mx("able.test").messages();
    assert!(!received[0].mail_params.contains("REQUIRETLS"), "{}", received[0].mail_params);
    let reference = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/relay.toml");
    let text = std::fs::read_to_string(reference).unwrap().to_lowercase();
    // Commented keys are keys, too.
    let keys =
        text.lines().filter_map(|line| line.trim_start_matches(['#', ' ']).split_once(" = ")).map(|(key, _)| key);
    let about_it = keys.filter(|key| key.contains("requiretls") || key.contains("require_tls")).collect::<Vec<_>>();
    // That of a listener says whether clients may ask for it.
    assert_eq!(about_it, ["requiretls"]);
    assert!(text.contains("# whether dsn and requiretls are offered"), "{text}");
}

async fn series(world: &World) -> BTreeSet<String> {
    // What the runtime of the process has and what the DNS was asked by is another matter.
    let metrics = world.metrics().await;
    metrics.into_keys().filter(|name| !name.starts_with("process_")).collect()
}

#[tokio::test]
async fn o02_five_thousand_domains_add_no_series() {
    let world = World::start(lab()).await;
    let failed = "relay_recipients_failed_total{cause=\"domain-not-found\",side=\"sender\"}";
    let mut after_the_first = BTreeSet::new();
    for (from, count) in [(0, 10), (10, 990), (1000, 1000), (2000, 1000), (3000, 1000), (4000, 1000)] {
        let to: Vec<String> = (from..from + count).map(|nth| format!("bob@d{nth}.test")).collect();
        let to: Vec<&str> = to.iter().map(String::as_str).collect();
        world.mail(&to).await;
        while world.metrics().await[failed] < f64::from(from + count) {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        if from == 0 {
            world.reports(1).await;
            until(async || (world.metrics().await["relay_queue_messages"] == 0.0).then_some(()), "its report").await;
            after_the_first = series(&world).await;
        }
    }
    let now = series(&world).await;
    // A slow moment may bring the first answer of its kind from a DNS path, and the first look at this host comes by
    // itself: those are of closed sets as well.
    let is_of_this_host = |name: &&String| name.starts_with("relay_dns_") || name.starts_with("relay_selfcheck_");
    let added: Vec<_> = now.difference(&after_the_first).filter(|name| !is_of_this_host(name)).collect();
    assert!(added.is_empty(), "{added:#?}");
    assert!(now.len() < after_the_first.len() + 40, "{} series", now.len());
    assert!(!now.iter().any(|name| name.contains(".test\"")), "{now:#?}");
}

#[test]
fn o03_what_an_operator_needs_to_see_has_a_metric() {
    let observer = Observer::new().unwrap();
    let names: BTreeSet<&str> = observer.catalogue().iter().map(|metric| metric.name.as_str()).collect();
    for name in [
        "relay_recipients_accepted_total",
        "relay_recipients_delivered_total",
        "relay_recipient_deferrals_total",
        "relay_recipients_failed_total",
        "relay_recipients_expired_total",
        "relay_recipients_suppressed_total",
        "relay_queue_messages",
        "relay_queue_oldest_seconds",
        "relay_queue_held_messages",
        "relay_delivery_attempts_total",
        "relay_mta_sts_fetches_total",
        "relay_dns_tlsa_answers_total",
        "relay_dns_path_healthy",
        "relay_reports_queued_total",
        "relay_reports_lost_total",
        "relay_smtp_certificate_expiry_timestamp_seconds",
        "relay_spool_bytes",
        "relay_recipients_unaccounted",
    ] {
        assert!(names.contains(name), "{name}");
    }
    for metric in observer.catalogue() {
        assert!(metric.help.ends_with('.') || metric.help.ends_with(';'), "{metric:?}");
        let bounded = metric.labels.iter().all(|label| label != "domain" && label != "recipient" && label != "host");
        assert!(bounded, "{metric:?}");
    }
}

/// What RFC 8460 §4.3 calls the result, and all else that tells one attempt from another, on one line.
#[tokio::test]
async fn o08_every_attempt_is_one_line_of_the_log_with_its_verdict() {
    let lab = lab().domain("dane.test", |d| d).domain("busy.test", |d| d).start().await.unwrap();
    lab.mx("busy.test").unwrap().trouble(TroubleAt::Mail, says("451 4.3.0 later"));
    let folder = tempfile::tempdir().unwrap();
    let config = configuration_file(&lab, folder.path());
    let text = std::fs::read_to_string(&config).unwrap();
    let text = text.replace("first = \"200ms\"\nlongest = \"400ms\"\nexpire_after = \"60s\"", "first = \"1h\"");
    std::fs::write(&config, text).unwrap();
    let relay = Serving::start_in(&[("RELAY_LOG", OsStr::new("json"))], &config).await;
    for to in ["bob@dane.test", "bob@busy.test"] {
        crate::relay::hand_in(relay.smtp, SENDER, &[to], content(to).as_bytes()).await;
    }
    let attempts = || -> Vec<Value> {
        let lines = relay.log().into_iter().filter_map(|line| serde_json::from_str::<Value>(&line).ok());
        lines.filter(|line| line["message"] == "attempt").collect()
    };
    until(async || (attempts().len() >= 2).then_some(()), "two attempts in the log").await;
    let idle = async || (metrics(relay.admin).await["relay_queue_messages"] == 1.0).then_some(());
    until(idle, "the end of the first").await;
    let attempts = attempts();
    assert_eq!(attempts.len(), 2, "{attempts:#?}");
    for attempt in &attempts {
        for field in
            ["id", "next_hop", "host", "address", "policy", "tls", "version", "matched", "took_ms", "delivered"]
        {
            assert!(!attempt[field].is_null(), "{field} in {attempt}");
        }
        assert_eq!((&attempt["policy"], &attempt["tls"]), (&"dane".into(), &"dane".into()), "{attempt}");
    }
    let of = |host: &str| attempts.iter().find(|attempt| attempt["host"] == host).unwrap();
    assert!(of("mx.dane.test")["cause"].is_null());
    let busy = of("mx.busy.test");
    assert_eq!((&busy["cause"], &busy["status"]), (&"rejected-for-now".into(), &"4.3.0".into()), "{busy}");
    assert!(busy["detail"].as_str().unwrap().contains("451 4.3.0 later"), "{busy}");
    // And one for each recipient, with the reply.
    let lines: Vec<Value> = relay.log().iter().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let delivered: Vec<&Value> = lines.iter().filter(|line| line["message"] == "delivered").collect();
    assert_eq!(delivered.len(), 1, "{delivered:#?}");
    assert_eq!((&delivered[0]["to"], &delivered[0]["tls"]), (&"bob@dane.test".into(), &"dane".into()));
    assert!(delivered[0]["reply"].as_str().unwrap().starts_with("250"), "{}", delivered[0]);
}

/// A smart host by two addresses, as Exchange has it: what one sends away the other takes, and nothing comes twice.
#[tokio::test]
async fn e01_when_one_of_two_relays_stops_its_clients_go_on_with_the_other() {
    let lab = lab().domain("dane.test", |d| d).start().await.unwrap();
    let folders = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let first = Serving::start(&configuration_file(&lab, folders[0].path())).await;
    let second = Serving::start(&configuration_file(&lab, folders[1].path())).await;
    let smart_hosts = [first.smtp, second.smtp];
    let mut client = SmtpClient::ready(smart_hosts[0]).await.unwrap();
    let handed = client.send(SENDER, &["bob@dane.test"], content("bob@dane.test").as_bytes()).await.unwrap();
    assert!(handed.accepted(), "{}", handed.last());
    first.terminate();
    // Between two messages it is told to go, and so knows that nothing of the next one was taken.
    assert_eq!(client.reply().await.unwrap().code, 421);
    assert_eq!(first.ended().await, 0);
    for nth in 0..5 {
        let to = format!("r{nth}@dane.test");
        let mut taken = None;
        for address in smart_hosts {
            let Ok(mut client) = SmtpClient::ready(address).await else { continue };
            let handed = client.send(SENDER, &[&to], content(&to).as_bytes()).await.unwrap();
            taken = handed.accepted().then_some(address);
            break;
        }
        assert_eq!(taken, Some(second.smtp), "{to}");
    }
    let host = lab.mx("dane.test").unwrap();
    let received = host.wait_for_messages(6, PATIENCE).await.unwrap();
    let to: BTreeSet<&String> = received.iter().flat_map(|message| &message.rcpt_to).collect();
    assert_eq!((to.len(), received.len(), heard(host, "MAIL")), (6, 6, 6), "each came, and once");
    drop(second);
}
