//! The operator's rules: what `[[destination]]` demands, what it forgives, and that forgiving ends
//! by itself (RFC 7672 §6, §9.1).

use crate::process::{Serving, run};
use crate::relay::{
    PATIENCE, SENDER, World, config, configuration_file, content, expect, hand_in, heard, lab, metrics, saw_no_mail,
    says,
};
use dane_relay::check::{Checker, Verdict};
use dane_relay::clock::Clock;
use dane_relay::config::{Config, Destination};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::sts::spec::{PolicyAnswer, PolicyHostManner};
use dane_relay::lab::{Certificate, HostSpec, LabBuilder, StartTls, Tlsa, TroubleAt};
use dane_relay::outcome::DeliveryOutcome;
use dane_relay::pipeline::outbound::Outbound;
use dane_relay::service::exceptions;
use dane_relay::service::start;
use dane_relay::smtp::reply::Reply;
use std::path::Path;
use std::time::Duration;

fn destinations(text: &str) -> Vec<Destination> {
    Config::parse(text, Path::new("suite.toml")).unwrap().destination
}

/// A day within the year in which an exception has to end.
fn last_day() -> time::Date {
    time::OffsetDateTime::now_utc().date() + time::Duration::days(300)
}

/// A destination that weakens security far into the future.
fn weakened(domain: &str, how: &str) -> String {
    format!("[[destination]]\ndomains = [\"{domain}\"]\n{how}\nreason = \"ticket 4711\"\nuntil = {}\n", last_day())
}

async fn world(lab: LabBuilder, rules: &str) -> (World, Config) {
    let mut shared: Option<Config> = None;
    let world = World::with(lab, |_lab, config| {
        config.destination = destinations(rules);
        shared = Some(config.clone());
    });
    (world.await, shared.unwrap())
}

fn misfit(host: HostSpec) -> HostSpec {
    host.tlsa([Tlsa::Misfits(3, 1, 1, 0)])
}

fn without_tls(host: HostSpec) -> HostSpec {
    host.starttls(StartTls::NotOffered)
}

#[tokio::test]
async fn rfc7672_6_demands_of_the_operator_hold_where_the_domain_publishes_less() {
    let lab = lab()
        .domain("encrypted.test", |d| d.plain())
        .domain("clear.test", |d| d.plain().host(without_tls))
        .domain("dane.test", |d| d)
        .domain("nodane.test", |d| d.plain())
        .domain("sts.test", |d| d.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.testing()))
        .domain("nosts.test", |d| d.plain());
    let rules = "[[destination]]\ndomains = [\"encrypted.test\", \"clear.test\"]\ntls = \"encrypt\"\n\
                 [[destination]]\ndomains = [\"dane.test\", \"nodane.test\"]\ntls = \"dane-only\"\n\
                 [[destination]]\ndomains = [\"sts.test\", \"nosts.test\"]\ntls = \"mta-sts\"\n";
    let (world, _) = world(lab, rules).await;
    assert_eq!(world.delivers("bob@encrypted.test").await.tls, "unauthenticated");
    assert_eq!(world.delivers("bob@dane.test").await.tls, "dane");
    assert_eq!(world.delivers("bob@sts.test").await.tls, "webpki", "a testing policy is taken at its word");
    for (domain, word, status) in [
        ("clear.test", "starttls-not-supported", "4.7.321"),
        ("nodane.test", "dane-required", "4.7.10"),
        ("nosts.test", "sts-required", "4.7.10"),
    ] {
        expect(&world.defers(&format!("bob@{domain}")).await, word, status);
        assert_eq!(heard(world.mx(domain), "MAIL"), 0);
    }
}

#[tokio::test]
async fn rfc7672_9_1_an_exception_delivers_and_is_seen_in_metrics_and_check() {
    let lab = lab()
        .domain("broken.test", |d| d.host(misfit))
        .domain("off.test", |d| d)
        .domain("strict.test", |d| d.host(misfit));
    let rules = weakened("broken.test", "tls = \"opportunistic\"") + &weakened("off.test", "tls = \"off\"");
    let (world, config) = world(lab, &rules).await;
    assert_eq!(world.delivers("bob@broken.test").await.tls, "unauthenticated");
    assert_eq!(world.delivers("bob@off.test").await.tls, "clear-text");
    expect(&world.defers("bob@strict.test").await, "tlsa-invalid", "4.7.323");
    let metrics = world.metrics().await;
    assert_eq!(metrics["relay_exceptions{kind=\"opportunistic\"}"], 1.0);
    assert_eq!(metrics["relay_exceptions{kind=\"off\"}"], 1.0);
    let report = Checker::new(config, Clock::system()).unwrap().check(&"broken.test".parse().unwrap()).await;
    assert_eq!(report.verdict, Verdict::Warning);
    let exception = report.exception.as_ref().unwrap();
    assert_eq!((exception.kind.as_str(), exception.until.clone()), ("opportunistic", last_day().to_string()));
    assert!(report.text().contains("ticket 4711"), "{}", report.text());
}

#[tokio::test]
async fn report_only_delivers_everything_and_counts_what_would_have_failed() {
    let lab = lab()
        .domain("misfit.test", |d| d.host(misfit))
        .domain("clear.test", |d| d.host(without_tls))
        .domain("good.test", |d| d);
    let rules = ["misfit.test", "clear.test", "good.test"].map(|d| weakened(d, "report_only = true")).concat();
    let (world, config) = world(lab, &rules).await;
    assert_eq!(world.delivers("bob@misfit.test").await.tls, "unauthenticated");
    assert_eq!(world.delivers("bob@clear.test").await.tls, "clear-text");
    assert_eq!(world.delivers("bob@good.test").await.tls, "unauthenticated");
    let metrics = world.metrics().await;
    for result in ["tlsa-invalid", "starttls-not-supported", "ok"] {
        let name = format!("relay_policy_watched_total{{because=\"report-only\",result=\"{result}\"}}");
        assert_eq!(metrics.get(&name), Some(&1.0), "{result}");
    }
    let report = Checker::new(config, Clock::system()).unwrap().check(&"misfit.test".parse().unwrap()).await;
    assert_eq!(report.verdict, Verdict::Warning);
    assert_eq!(report.fault.as_ref().map(|fault| fault.cause), Some("tlsa-invalid"), "{}", report.text());
    let said = report.text().split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("handed over all the same") && !said.contains("was not handed over"), "{said}");
}

#[tokio::test]
async fn an_exception_ends_when_the_domain_is_found_clean_and_not_before() {
    let lab = lab().domain("broken.test", |d| d.host(misfit)).domain("repaired.test", |d| d);
    let rules = weakened("broken.test", "tls = \"opportunistic\"") + &weakened("repaired.test", "report_only = true");
    let (_world, config) = world(lab, &rules).await;
    let out = Outbound::for_command(config, Clock::system()).unwrap();
    exceptions::end_needless(&out).await.unwrap();
    let checker = Checker::over(out);
    let broken = checker.check(&"broken.test".parse().unwrap()).await;
    assert!(broken.exception.is_some(), "{}", broken.text());
    let repaired = checker.check(&"repaired.test".parse().unwrap()).await;
    assert_eq!((repaired.exception, repaired.verdict), (None, Verdict::Ok));
}

/// Slowness decides nothing about an exception: what comes in the time of delivery counts, and what has
/// not come by then leaves open what the policy demands.
#[tokio::test]
async fn rfc8461_3_3_slowness_neither_ends_an_exception_nor_keeps_it_alive() {
    let issued = |h: HostSpec| h.certificate(Certificate::Issued);
    let hangs = |answer: PolicyAnswer| answer.manner(PolicyHostManner::Hang);
    let lab = lab()
        .domain("slow.test", |d| d.plain().host(issued).mta_sts(|p| p.answer(|a| a.delay(Duration::from_secs(1)))))
        .domain("hangs.test", |d| d.plain().host(issued).mta_sts(|p| p.mx(&["another.test"]).answer(hangs)))
        .domain("dane.test", |d| d.mta_sts(|p| p.answer(hangs)));
    let rules = ["slow.test", "hangs.test", "dane.test"].map(|domain| weakened(domain, "report_only = true")).concat();
    let (world, mut config) = world(lab, &rules).await;
    config.mta_sts.fetch_timeout = Duration::from_secs(3);
    world.mx("slow.test").delay(TroubleAt::Connect, Duration::from_secs(1));
    let out = Outbound::for_command(config, Clock::system()).unwrap();
    exceptions::end_needless(&out).await.unwrap();
    let over = out.exceptions_now().over.into_iter().map(|exception| exception.domains).collect::<Vec<_>>();
    assert_eq!(over, ["slow.test", "dane.test"], "and where DANE decides the policy is not waited for");
}

#[tokio::test]
async fn an_exception_that_is_over_stays_so_over_a_restart_and_status_names_both_kinds() {
    let lab = lab().domain("broken.test", |d| d.host(misfit)).domain("repaired.test", |d| d).start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = configuration_file(&lab, folder.path());
    let rules = weakened("broken.test", "tls = \"opportunistic\"") + &weakened("repaired.test", "tls = \"off\"");
    let text = std::fs::read_to_string(&path).unwrap() + &rules;
    std::fs::write(&path, &text).unwrap();
    let status = ["status", "--config", path.to_str().unwrap()];

    let relay = Serving::start(&path).await;
    let out = Outbound::for_command(Config::parse(&text, &path).unwrap(), Clock::system()).unwrap();
    exceptions::end_needless(&out).await.unwrap();
    relay.terminate();
    assert_eq!(relay.ended().await, 0);

    let relay = Serving::start(&path).await;
    hand_in(relay.smtp, SENDER, &["bob@repaired.test"], content("bob@repaired.test").as_bytes()).await;
    let received = lab.mx("repaired.test").unwrap().wait_for_messages(1, PATIENCE).await.unwrap();
    assert!(received[0].tls.is_some(), "what was allowed in clear text is over");
    let shown = run(status).await.stdout;
    let flat = shown.split_whitespace().collect::<Vec<_>>().join(" ");
    for words in [
        &format!("exceptions in force: opportunistic for broken.test until {}: ticket 4711", last_day()),
        &format!("over: off for repaired.test until {}; remove it from the configuration", last_day()),
    ] {
        assert!(flat.contains(words), "{shown}");
    }
    let json: serde_json::Value = serde_json::from_str(&run([&status[..], &["--json"]].concat()).await.stdout).unwrap();
    let named = |of: &str| json["exceptions"][of][0]["domains"].as_str().unwrap().to_owned();
    assert_eq!((named("in_force"), named("over")), ("broken.test".into(), "repaired.test".into()));
    let metrics = metrics(relay.admin).await;
    assert_eq!(metrics["relay_exceptions{kind=\"opportunistic\"}"], 1.0);
    assert_eq!(metrics["relay_exceptions_over{kind=\"off\"}"], 1.0);
}

#[tokio::test]
async fn an_exception_ends_with_its_last_day() {
    let lab = lab().domain("broken.test", |d| d.host(misfit));
    let past =
        "[[destination]]\ndomains = [\"broken.test\"]\ntls = \"opportunistic\"\nreason = \"x\"\nuntil = 2020-01-31\n";
    let (world, _) = world(lab, past).await;
    expect(&world.defers("bob@broken.test").await, "tlsa-invalid", "4.7.323");
    assert!(!world.metrics().await.contains_key("relay_exceptions{kind=\"opportunistic\"}"));
}

#[tokio::test]
async fn rfc5321_4_1_3_a_literal_is_refused_until_it_is_opened_and_never_goes_past_a_rule() {
    let lab = lab().domain("clear.test", |d| d.plain().host(without_tls)).start().await.unwrap();
    let address = lab.mx("clear.test").unwrap().address();
    let (to, folder) = (format!("bob@[{}]", address.ip()), tempfile::tempdir().unwrap());
    let mut config = config(&lab, folder.path());
    config.destination = destinations("[[destination]]\ndomains = [\"*\"]\ntls = \"encrypt\"\n");
    let closed = start::start(config.clone(), Clock::system()).await.unwrap();
    let mut client = SmtpClient::ready(closed.smtp[0]).await.unwrap();
    let handed = client.send(SENDER, &[&to], content(&to).as_bytes()).await.unwrap();
    let refusal = &handed.rcpt[0];
    assert_eq!((refusal.code, refusal.enhanced.unwrap().to_string()), (550, "5.1.2".to_owned()));
    assert!(refusal.text().contains("address literals are not accepted"), "{refusal}");
    closed.stop();
    closed.ended().await.unwrap();

    // Whoever names it opens it, and the closest rule counts.
    let name = format!("[[destination]]\ndomains = [\"[{}/32]\"]\ntls = \"encrypt\"\n", address.ip());
    let open = Config { destination: destinations(&name), ..config.clone() };
    let open = start::start(open, Clock::system()).await.unwrap();
    let mut told = open.observer.subscribe();
    let id = hand_in(open.smtp[0], SENDER, &[&to], content(&to).as_bytes()).await;
    let news = told.recv().await.unwrap();
    let DeliveryOutcome::Failed { cause } = news.outcome else { panic!("in clear text, past the rule") };
    assert_eq!(news.id, id);
    expect(&cause, "starttls-not-supported", "4.7.321");
    open.stop();
    open.ended().await.unwrap();

    // What was taken while it was open goes out when it is closed, under the rules of then.
    config.destination.clear();
    let after = start::start(config, Clock::system()).await.unwrap();
    let received = lab.mx("clear.test").unwrap().wait_for_messages(1, PATIENCE).await.unwrap();
    assert_eq!(received[0].rcpt_to, [to]);
    after.stop();
    after.ended().await.unwrap();
}

#[tokio::test]
async fn rfc5321_4_1_3_a_literal_goes_to_the_next_hop_that_is_for_all() {
    let lab = lab().domain("past.test", |d| d).domain("hop.test", |d| d);
    let world = World::with(lab, |lab, config| {
        config.listen.address_literals = true;
        let hop = lab.mx("hop.test").unwrap().address();
        config.destination = destinations(&format!("[[destination]]\ndomains = [\"*\"]\nnext_hop = \"{hop}\"\n"));
    })
    .await;
    let to = format!("bob@[{}]", world.mx("past.test").address().ip());
    world.delivers(&to).await;
    assert_eq!(world.mx("hop.test").messages()[0].rcpt_to, [to]);
    assert_eq!(world.mx("past.test").connections(), 0);
}

#[tokio::test]
async fn clear_text_after_a_failed_handshake_is_a_setting() {
    let lab = || lab().domain("broken.test", |d| d.plain().host(|h| h.starttls(StartTls::BrokenHandshake)));
    let fallen_back = World::start(lab()).await;
    assert_eq!(fallen_back.delivers("bob@broken.test").await.tls, "clear-text");
    let strict = World::with(lab(), |_, config| config.tls.clear_text_fallback = false).await;
    expect(&strict.defers("bob@broken.test").await, "tls-handshake-failed", "4.7.321");
    saw_no_mail(strict.mx("broken.test"));
}

#[tokio::test]
async fn clear_text_after_a_refused_starttls_is_a_setting() {
    let refused = || StartTls::Refused(Reply::new(454, 7, 0, "TLS not available now"));
    let lab = || lab().domain("refusing.test", |d| d.plain().host(|h| h.starttls(refused())));
    let fallen_back = World::start(lab()).await;
    assert_eq!(fallen_back.delivers("bob@refusing.test").await.tls, "clear-text");
    let strict = World::with(lab(), |_, config| config.tls.clear_text_fallback = false).await;
    let cause = strict.defers("bob@refusing.test").await;
    expect(&cause, "starttls-not-supported", "4.7.321");
    assert!(cause.sentence().contains("The configuration of this relay demands"), "{}", cause.sentence());
    saw_no_mail(strict.mx("refusing.test"));
}

#[tokio::test]
async fn rfc3207_4_what_a_host_says_for_want_of_the_tls_that_it_refused_is_no_verdict() {
    let host = |h: HostSpec| {
        h.starttls(StartTls::Refused(Reply::new(454, 7, 0, "TLS not available now")))
            .trouble(TroubleAt::Mail, says("530 5.7.0 Must issue a STARTTLS command first"))
    };
    let world = World::start(lab().domain("strict.test", |d| d.plain().host(host))).await;
    let cause = world.defers("bob@strict.test").await;
    expect(&cause, "starttls-not-supported", "4.7.321");
    assert!(cause.sentence().contains("454 4.7.0"), "{}", cause.sentence());
}

#[tokio::test]
async fn rfc7672_2_2_1_dane_behind_unsigned_mx_records_is_a_setting() {
    let lab = || {
        lab()
            .domain("badly.test", |d| d.host(misfit))
            .domain("tenant.test", |d| d.plain().hosted_by(10, "mx.badly.test"))
    };
    let strict = World::start(lab()).await;
    expect(&strict.defers("bob@tenant.test").await, "tlsa-invalid", "4.7.323");
    let lax = World::with(lab(), |_, config| config.tls.dane_behind_insecure_mx = false).await;
    assert_eq!(lax.delivers("bob@tenant.test").await.tls, "unauthenticated");
}
