//! Nobody is left in the dark: notices of delay, reports that the sender asked for, and what
//! happens when a report itself is lost (RFC 3461 §5.2, RFC 8689 §5, RFC 5321 §6.1).

use crate::process::{Serving, run};
use crate::relay::{PATIENCE, SENDER, World, configuration, content, hand_in, heard, lab, metrics, says, until};
use crate::report::{Report, until_settled};
use dane_relay::config::Config;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{AnswerFault, Lab, LabBuilder, Tlsa, TroubleAt};
use hickory_proto::rr::RecordType;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tempfile::TempDir;

const AT_ONCE: Duration = Duration::from_millis(300);
const NEVER: Duration = Duration::from_secs(3600);

/// What stops mail now: a busy host, a certificate that does not fit, a DNS that does not answer.
fn stuck() -> LabBuilder {
    lab()
        .domain("busy.test", |d| d.host(|h| h.trouble(TroubleAt::Rcpt, says("451 4.3.0 later"))))
        .domain("bad.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
        .domain("mute.test", |d| d.fault("mx.mute.test", RecordType::TLSA, AnswerFault::ServFail))
        .domain("null.test", |d| d.null_mx())
        .domain("good.test", |d| d)
}

/// Notices at these ages.
async fn world(delay_after: Duration, policy_failure_after: Duration) -> World {
    let change = |_: &Lab, config: &mut Config| {
        config.notify.delay_after = delay_after;
        config.notify.policy_failure_after = policy_failure_after;
    };
    World::with(stuck(), change).await
}

/// Hands a message in whose recipients and sender carry parameters.
async fn asks(world: &World, mail: &str, rcpt: &[(&str, &str)]) {
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap();
    let with = |command: String, asked: &str| format!("{command} {asked}").trim_end().to_owned();
    let rcpt: Vec<_> = rcpt.iter().map(|(to, asked)| with(format!("RCPT TO:<{to}>"), asked)).collect();
    let mail = with(format!("MAIL FROM:<{SENDER}>"), mail);
    let handed = client.transact(&mail, &rcpt, content("somebody").as_bytes()).await.unwrap();
    assert!(handed.accepted(), "{}", handed.last());
}

#[tokio::test]
async fn rfc3461_5_2_5_a_message_that_waits_is_told_of_once() {
    let world = world(AT_ONCE, NEVER).await;
    let id = world.mail(&["bob@busy.test"]).await;
    let report = Report::read(&world.reports(1).await[0]);
    assert_eq!(report.recipients(), [["rfc822; bob@busy.test", "delayed", "4.3.0"]]);
    assert_eq!(report.header["Subject"], "Delayed: Hello");
    assert_eq!(report.groups[1]["Diagnostic-Code"], "smtp; 451 4.3.0 later");
    assert!(report.groups[1].contains_key("Will-Retry-Until"));
    assert!(report.text.contains("It is not lost, and you need not send it again."), "{}", report.text);
    world.deferred(id, "bob@busy.test", 6).await;
    world.mx("busy.test").trouble(TroubleAt::Rcpt, None);
    world.delivered(id, "bob@busy.test").await;
    until_settled(&world).await;
    assert_eq!(world.mx("office.test").messages().len(), 1);
}

#[tokio::test]
async fn mail_that_dns_tls_or_policy_stops_is_told_of_early_and_says_who_can_help() {
    let world = world(NEVER, AT_ONCE).await;
    let busy = world.mail(&["bob@busy.test"]).await;
    world.mail(&["bob@bad.test"]).await;
    let bad = Report::read(&world.reports(1).await[0]);
    assert_eq!(bad.recipients(), [["rfc822; bob@bad.test", "delayed", "4.7.323"]]);
    assert_eq!(bad.header["Subject"], "Held back for safety: Hello");
    for told in
        ["it is not your fault", "recipient's mail system must act", "keep trying until", "relay check bad.test"]
    {
        assert!(bad.text.contains(told), "no {told} in: {}", bad.text);
    }
    world.mail(&["bob@mute.test"]).await;
    let mute = Report::read(&world.reports(2).await[1]);
    assert_eq!(mute.recipients(), [["rfc822; bob@mute.test", "delayed", "4.4.3"]]);
    let flat = mute.text.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        flat.contains("not known yet whose fault this is") && !flat.contains("must look at their DNS resolver"),
        "nobody can tell: {flat}"
    );
    world.deferred(busy, "bob@busy.test", 6).await;
    assert_eq!(world.mx("office.test").messages().len(), 2, "a busy host is no matter of policy");
}

#[tokio::test]
async fn a_notice_does_not_wait_for_a_retry_that_is_hours_away() {
    let change = |_: &Lab, config: &mut Config| {
        config.retry.first = NEVER;
        config.retry.longest = NEVER;
        config.retry.expire_after = NEVER * 4;
        config.notify.policy_failure_after = AT_ONCE;
    };
    let world = World::with(stuck(), change).await;
    world.mail(&["bob@bad.test"]).await;
    assert_eq!(Report::read(&world.reports(1).await[0]).recipients()[0][1], "delayed");
}

#[tokio::test]
async fn rfc3461_4_1_who_asks_for_no_notice_gets_none() {
    let world = world(AT_ONCE, AT_ONCE).await;
    asks(&world, "", &[("a@bad.test", "NOTIFY=NEVER"), ("b@bad.test", "NOTIFY=FAILURE,SUCCESS")]).await;
    asks(&world, "", &[("c@null.test", "NOTIFY=NEVER"), ("d@null.test", "NOTIFY=DELAY")]).await;
    asks(&world, "", &[("e@null.test", "NOTIFY=NEVER"), ("f@null.test", "NOTIFY=FAILURE")]).await;
    let report = Report::read(&world.reports(1).await[0]);
    assert_eq!(report.recipients(), [["rfc822; f@null.test", "failed", "5.1.10"]]);
    assert!(!report.text.contains("e@null.test"), "{}", report.text);
    until(|| async { (heard(world.mx("bad.test"), "STARTTLS") >= 5).then_some(()) }, "five attempts").await;
    assert_eq!(world.mx("office.test").messages().len(), 1);
    assert_eq!(world.metrics().await["relay_recipients_suppressed_total"], 3.0);
}

#[tokio::test]
async fn rfc3461_5_2_2_success_is_told_where_the_next_host_cannot_tell_it() {
    let world = world(NEVER, NEVER).await;
    let rcpt = [("bob@good.test", "NOTIFY=SUCCESS ORCPT=rfc822;Bob+2B1@Good.test"), ("eve@good.test", "")];
    asks(&world, "ENVID=QQ+20314 RET=FULL", &rcpt).await;
    let report = Report::read(&world.reports(1).await[0]);
    assert_eq!(report.recipients(), [["rfc822; bob@good.test", "relayed", "2.0.0"]]);
    assert_eq!(report.groups[0]["Original-Envelope-Id"], "QQ 314");
    assert_eq!(report.groups[1]["Original-Recipient"], "rfc822; Bob+1@Good.test");
    assert_eq!(report.groups[1]["Remote-MTA"], "dns; mx.good.test");
    until_settled(&world).await;
}

#[tokio::test]
async fn rfc3461_4_3_a_failed_message_comes_back_whole_where_its_sender_wants_it() {
    let world = world(NEVER, NEVER).await;
    asks(&world, "RET=FULL", &[("bob@null.test", "")]).await;
    assert!(Report::read(&world.reports(1).await[0]).original.contains("\r\n\r\nHello somebody\r\n"));
    asks(&world, "RET=HDRS", &[("bob@null.test", "")]).await;
    assert!(!Report::read(&world.reports(2).await[1]).original.contains("Hello somebody"));
}

#[tokio::test]
async fn rfc8689_5_a_report_about_a_message_with_requiretls_tells_nothing_of_it() {
    let world = world(NEVER, NEVER).await;
    let mut client = SmtpClient::ready(world.smtp()).await.unwrap().starttls("relay.office.test").await.unwrap();
    let mail = format!("MAIL FROM:<{SENDER}> REQUIRETLS RET=FULL");
    let rcpt = ["RCPT TO:<bob@good.test>".to_owned()];
    assert!(client.transact(&mail, &rcpt, content("a@secret.test").as_bytes()).await.unwrap().accepted());
    let report = Report::read(&world.reports(1).await[0]);
    assert_eq!(report.recipients(), [["rfc822; bob@good.test", "failed", "5.7.30"]]);
    assert_eq!(report.original.trim_end(), "Message-ID: <1.a@secret.test>");
    assert_eq!(report.header["Subject"], "Undeliverable: your message");
}

#[tokio::test]
async fn rfc5321_6_1_a_report_travels_by_the_route_of_its_readers_domain() {
    let to_smart_host = |_: &Lab, config: &mut Config| {
        let route = "[[destination]]\ndomains = [\"office.test\"]\nnext_hop = \"mx.good.test\"\n";
        config.destination = Config::parse(route, Path::new("suite.toml")).unwrap().destination;
    };
    let world = World::with(stuck(), to_smart_host).await;
    world.fails("bob@null.test").await;
    let received = world.mx("good.test").wait_for_messages(1, PATIENCE).await.unwrap().remove(0);
    assert_eq!((received.mail_from.as_str(), received.rcpt_to.clone()), ("", vec![SENDER.to_owned()]));
    assert_eq!(world.mx("office.test").connections(), 0);
}

#[tokio::test]
async fn rfc5321_6_1_the_postmaster_is_told_of_a_report_that_was_lost() {
    let lab = Lab::builder()
        .domain("office.test", |d| d.host(|h| h.known(&["postmaster"])))
        .domain("null.test", |d| d.null_mx());
    let postmaster = |_: &Lab, config: &mut Config| config.postmaster = Some("postmaster@office.test".parse().unwrap());
    let world = World::with(lab, postmaster).await;
    world.fails("bob@null.test").await;
    let received = &world.reports(1).await[0];
    assert_eq!(received.rcpt_to, ["postmaster@office.test"]);
    let report = Report::read(received);
    assert_eq!(report.recipients(), [["rfc822; alice@office.test", "failed", "5.1.1"]]);
    for told in ["alice@office.test about a message of theirs", "was not delivered to bob@null.test", "null-mx"] {
        assert!(report.text.contains(told), "no {told} in: {}", report.text);
    }
    until_settled(&world).await;
    let metrics = world.metrics().await;
    assert_eq!((metrics["relay_reports_lost_total"], metrics["relay_reports_queued_total"]), (1.0, 2.0));
}

#[tokio::test]
async fn rfc5321_6_1_a_notice_that_is_lost_ends_the_matter() {
    let lab = Lab::builder().domain("office.test", |d| d.host(|h| h.known(&[]))).domain("null.test", |d| d.null_mx());
    let postmaster = |_: &Lab, config: &mut Config| config.postmaster = Some("postmaster@null.test".parse().unwrap());
    let world = World::with(lab, postmaster).await;
    world.fails("bob@null.test").await;
    until(|| async { (world.metrics().await["relay_reports_lost_total"] == 2.0).then_some(()) }, "two losses").await;
    until_settled(&world).await;
    let metrics = world.metrics().await;
    assert_eq!((metrics["relay_reports_lost_total"], metrics["relay_reports_queued_total"]), (2.0, 2.0));
    assert_eq!(metrics["relay_recipients_suppressed_total"], 1.0, "the postmaster's own notice");
}

/// A relay as a process, with lines before and after what its lab needs.
struct Kept {
    lab: Lab,
    folder: TempDir,
    config: PathBuf,
}

impl Kept {
    async fn new(before: &str, after: &str) -> Self {
        let lab = stuck().start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("relay.toml");
        std::fs::write(&config, format!("{before}\n{}{after}\n", configuration(&lab, folder.path()))).unwrap();
        Self { lab, folder, config }
    }

    fn office(&self) -> &dane_relay::lab::RunningMxHost {
        self.lab.mx("office.test").unwrap()
    }
}

#[tokio::test]
async fn what_a_sender_was_told_is_not_told_again_after_a_restart() {
    let kept = Kept::new("", "[notify]\npolicy_failure_after = \"100ms\"").await;
    let relay = Serving::start(&kept.config).await;
    hand_in(relay.smtp, SENDER, &["bob@bad.test"], content("bob@bad.test").as_bytes()).await;
    kept.office().wait_for_messages(1, PATIENCE).await.unwrap();
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    let bad = kept.lab.mx("bad.test").unwrap();
    let before = heard(bad, "STARTTLS");
    let _relay = Serving::start(&kept.config).await;
    until(|| async { (heard(bad, "STARTTLS") >= before + 4).then_some(()) }, "four more attempts").await;
    assert_eq!(kept.office().messages().len(), 1);
}

#[tokio::test]
async fn damage_in_the_spool_is_told_to_the_postmaster() {
    let kept = Kept::new("postmaster = \"postmaster@office.test\"", "").await;
    let relay = Serving::start(&kept.config).await;
    hand_in(relay.smtp, SENDER, &["bob@busy.test"], content("bob@busy.test").as_bytes()).await;
    relay.terminate();
    assert_eq!(relay.ended().await, 0);
    // Without the state the segments are read again, and one octet of the content has changed.
    let spool = kept.folder.path().join("spool");
    for name in ["state.sqlite", "state.sqlite-wal", "state.sqlite-shm"] {
        let _may_not_exist = std::fs::remove_file(spool.join(name));
    }
    let segments = std::fs::read_dir(spool.join("segments")).unwrap().map(|entry| entry.unwrap().path());
    for path in segments {
        let mut octets = std::fs::read(&path).unwrap();
        let place = octets.windows(9).position(|window| window == b"Hello bob");
        if let Some(place) = place {
            octets[place] = b'J';
            std::fs::write(&path, octets).unwrap();
        }
    }
    let _relay = Serving::start(&kept.config).await;
    let received = kept.office().wait_for_messages(1, PATIENCE).await.unwrap().remove(0);
    assert_eq!(
        (received.mail_from.as_str(), received.rcpt_to.clone()),
        ("", vec!["postmaster@office.test".to_owned()])
    );
    let text = String::from_utf8(received.content).unwrap();
    assert!(text.contains("at its start: 1."), "{text}");
}

#[tokio::test]
async fn the_operators_texts_are_used_and_a_broken_one_is_refused_at_the_start() {
    let dutch = Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/templates/nl");
    let kept = Kept::new("", &format!("[notify]\ntemplates = {dutch:?}")).await;
    let relay = Serving::start(&kept.config).await;
    hand_in(relay.smtp, SENDER, &["bob@null.test"], content("bob@null.test").as_bytes()).await;
    let report = Report::read(&kept.office().wait_for_messages(1, PATIENCE).await.unwrap()[0]);
    assert_eq!(report.header["Subject"], "Niet bezorgd: Hello");
    assert!(report.text.starts_with("Uw bericht is niet bezorgd bij bob@null.test. Het domein null.test geeft aan"));
    assert_eq!(metrics(relay.admin).await["relay_reports_queued_total"], 1.0);

    let own = kept.folder.path().join("own");
    std::fs::create_dir(&own).unwrap();
    let broken = Kept::new("", &format!("[notify]\ntemplates = {own:?}")).await;
    let config = broken.config.to_str().unwrap();
    for (text, expected) in [
        (Some("[failed]\none = \"{recipient} {sender}\"\n"), "reports.toml:2: failed.one: {sender} is not known here"),
        (Some("[failed]\n\noen = \"x\"\n"), "reports.toml:3: [failed] oen: there is no such text"),
        (None, "reports.toml: cannot be read: No such file"),
    ] {
        match text {
            Some(text) => std::fs::write(own.join("reports.toml"), text).unwrap(),
            None => std::fs::remove_file(own.join("reports.toml")).unwrap(),
        }
        for command in [&["serve"][..], &["config", "check"]] {
            let said = run([command, &["--config", config]].concat()).await;
            assert_eq!(said.code, 78, "{said:?}");
            assert!(said.stderr.contains(expected) && said.stderr.lines().count() == 1, "{}", said.stderr);
        }
    }
}
