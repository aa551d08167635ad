//! Every way to the DNS, in the signed mini-internet of the lab: which path an answer comes by,
//! what is said about the ones that failed, and what is asked again when.
//!
//! The box that started it all is here: it discards every answer with more than four TLSA
//! records, over UDP and TCP.

use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::{Config, DnsMode, RootsSource, TrustAnchorSource};
use dane_relay::lab::dns::fronts::FrontKind;
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::dns::world::AnchorForm;
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::lab::{AnswerFault, Lab, LabBuilder};
use dane_relay::outcome::{Cause, DeliveryOutcome, PathFailure};
use dane_relay::resolve::answer::{Answer, RecordType};
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::error::DnsSetupError;
use dane_relay::resolve::event::{self, DnsEvent, Listener, Probed};
use dane_relay::resolve::paths::standing::PathStanding;
use dane_relay::resolve::{Security, TlsaLookup, mail};
use dane_relay::service::start;
use hickory_proto::op::Message;
use hickory_proto::rr::RecordType as WireType;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tempfile::TempDir;
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long a silent path is waited for in these tests.
const TIMEOUT: Duration = Duration::from_millis(300);
/// The box of the seed story.
const BOX: PathFault = PathFault::DropTlsaOver(4);

/// Five records more than the one that fits, as a rollover has them.
fn rollover() -> LabBuilder {
    Lab::builder().domain("rollover.test", |d| d.host(|h| h.and_misfits(4))).domain("plain.test", |d| d.plain())
}

struct Setup {
    config: Config,
    folder: TempDir,
}

fn setup(lab: &Lab, upstreams: &[String]) -> Setup {
    let folder = tempfile::tempdir().unwrap();
    let anchors = folder.path().join("root.key");
    std::fs::write(&anchors, lab.world().trust_anchor(AnchorForm::Ds).unwrap()).unwrap();
    let mut config = Config::default();
    config.dns.upstreams = upstreams.iter().map(|u| u.parse().unwrap()).collect();
    config.dns.trust_anchors = TrustAnchorSource::File(anchors);
    config.dns.timeout = TIMEOUT;
    config.spool.path = folder.path().join("spool");
    config.spool.min_free_bytes = 0;
    config.spool.min_free_inodes = 0;
    config.listen.smtp = vec!["127.0.0.1:0".parse().unwrap()];
    config.admin.listen = "127.0.0.1:0".parse().unwrap();
    config.delivery.port = lab.port();
    config.delivery.allow_loopback = true;
    config.retry.first = Duration::from_millis(200);
    config.retry.longest = Duration::from_millis(400);
    Setup { config, folder }
}

impl Setup {
    fn trust_authority(&mut self, lab: &Lab) {
        let file = self.folder.path().join("ca.pem");
        std::fs::write(&file, lab.authority().pem()).unwrap();
        self.config.tls.roots = RootsSource::File(file);
    }
}

fn dns(setup: &Setup) -> Dns {
    Dns::new(&setup.config, Clock::system(), event::nobody()).unwrap()
}

fn upstreams(failed: &[PathFailure]) -> Vec<&str> {
    failed.iter().map(|failure| failure.upstream.as_str()).collect()
}

fn details(failed: &[PathFailure]) -> Vec<&str> {
    failed.iter().map(|failure| failure.detail.as_str()).collect()
}

fn count_of(answer: &Answer) -> (usize, Security) {
    match answer {
        Answer::Found(found) => (found.data.len(), found.security),
        Answer::NoData(security) | Answer::NxDomain(security) => (0, *security),
        Answer::Failed(cause) => panic!("{cause:?}"),
    }
}

async fn tlsa(lab: &Lab, dns: &Dns) -> (Answer, dane_relay::resolve::answer::Trace) {
    dns.lookup(&lab.tlsa_owner("mx.rollover.test"), RecordType::Tlsa).await
}

// The seed story.

#[tokio::test]
async fn rfc7672_2_1_2_a_box_that_drops_five_records_defers_the_mail_and_is_named() {
    let lab = rollover().start().await.unwrap();
    lab.dns().set_path([BOX]);
    let upstream = lab.dns().upstream();
    let setup = setup(&lab, std::slice::from_ref(&upstream));
    let resolution =
        mail::resolve_domain(&dns(&setup), &"rollover.test".parse().unwrap(), lab.port(), 0).await.unwrap();
    let TlsaLookup::Unavailable(Cause::DnsUnavailable { question, tried }) = &resolution.hosts[0].tlsa else {
        panic!("{:?}", resolution.hosts[0].tlsa)
    };
    assert_eq!((question.record_type.as_str(), &question.name), ("TLSA", &lab.tlsa_owner("mx.rollover.test")));
    assert_eq!(upstreams(tried), [upstream.clone(), format!("{upstream} over TCP")]);
    assert_eq!(details(tried), ["timeout", "timeout"]);
    let evidence = Cause::DnsUnavailable { question: question.clone(), tried: tried.clone() }.evidence();
    assert!(evidence.iter().any(|(_, value)| value.contains(&upstream)), "the NDR names the path: {evidence:?}");
}

/// Hands in a message behind the box; gives what its first attempt came to, and the metrics then.
async fn mail_behind_the_box(setup: &Setup) -> (DeliveryOutcome, String) {
    let relay = start::start(setup.config.clone(), Clock::system()).await.unwrap();
    let mut news = relay.observer.subscribe();
    let mut client = SmtpClient::ready(relay.smtp[0]).await.unwrap();
    let handed = client.send("alice@office.test", &["bob@rollover.test"], b"Subject: hi\r\n\r\nhi\r\n").await.unwrap();
    assert!(handed.accepted());
    let end = timeout(PATIENCE, news.recv()).await.unwrap().unwrap();
    let metrics = relay.observer.render(&relay.spool.stats(), Clock::system().now());
    relay.stop();
    relay.ended().await.unwrap();
    (end.outcome, metrics)
}

#[tokio::test]
async fn a_second_path_delivers_by_dane_and_the_metric_names_the_broken_one() {
    let lab = rollover().start().await.unwrap();
    lab.dns().set_path([BOX]);
    let broken = lab.dns().upstream();
    let (clean, servers) = (lab.another_dns().await.unwrap(), lab.authorities().await.unwrap());
    let (tls, https) = (lab.secure_dns(FrontKind::Tls).await.unwrap(), lab.secure_dns(FrontKind::Https).await.unwrap());
    for second in [clean.upstream(), tls.upstream(), https.upstream(), "authoritative".to_owned()] {
        let mut setup = setup(&lab, &[broken.clone(), second.clone()]);
        setup.trust_authority(&lab);
        setup.config.dns.root_hints = vec![servers.root()];
        let (outcome, metrics) = mail_behind_the_box(&setup).await;
        let DeliveryOutcome::Delivered { tls, .. } = outcome else { panic!("{second}: {outcome:?}") };
        assert_eq!(tls.word(), "dane", "{second}");
        for transport in ["udp", "tcp"] {
            let asked = format!(
                "relay_dns_queries_total{{result=\"timeout\",transport=\"{transport}\",type=\"TLSA\",upstream=\"{broken}\"}} 1"
            );
            assert!(metrics.contains(&asked), "{second}: {asked}\n{metrics}");
            let health = format!("relay_dns_path_healthy{{transport=\"{transport}\",upstream=\"{broken}\"}} 0");
            assert!(metrics.contains(&health), "{second}: {health}\n{metrics}");
        }
        assert!(metrics.contains("relay_dns_tlsa_answers_total{records=\"5\"} 1"), "{second}: {metrics}");
    }
}

#[tokio::test]
async fn without_a_second_path_the_mail_waits_and_nothing_is_sent() {
    let lab = rollover().start().await.unwrap();
    lab.dns().set_path([BOX]);
    let setup = setup(&lab, &[lab.dns().upstream()]);
    let (outcome, metrics) = mail_behind_the_box(&setup).await;
    let DeliveryOutcome::Failed { cause } = outcome else { panic!("{outcome:?}") };
    assert_eq!((cause.row().word, cause.row().status.to_string().as_str()), ("dns-unavailable", "4.4.3"));
    assert!(metrics.contains("relay_dns_tlsa_failures_total 1"), "{metrics}");
    assert_eq!(lab.mx("rollover.test").unwrap().connections(), 0);
}

#[tokio::test]
async fn the_answer_tells_its_path_and_those_that_failed() {
    let lab = rollover().start().await.unwrap();
    lab.dns().set_path([BOX]);
    let clean = lab.another_dns().await.unwrap();
    let dns = dns(&setup(&lab, &[lab.dns().upstream(), clean.upstream()]));
    let (answer, trace) = tlsa(&lab, &dns).await;
    assert_eq!(count_of(&answer), (5, Security::Secure));
    assert_eq!(trace.path, Some(clean.upstream()));
    assert_eq!(trace.failed.len(), 2, "UDP and TCP of the first upstream");
}

#[tokio::test]
async fn rfc7858_the_box_cannot_read_a_path_over_tls_or_https() {
    let lab = rollover().start().await.unwrap();
    lab.dns().set_path([BOX]);
    for kind in [FrontKind::Tls, FrontKind::Https] {
        let front = lab.secure_dns(kind).await.unwrap();
        let mut setup = setup(&lab, &[lab.dns().upstream(), front.upstream()]);
        setup.trust_authority(&lab);
        let (answer, trace) = tlsa(&lab, &dns(&setup)).await;
        assert_eq!(count_of(&answer), (5, Security::Secure));
        assert_eq!((trace.path, trace.failed.len()), (Some(front.upstream()), 2));
    }
}

#[tokio::test]
async fn rfc8310_8_1_a_front_that_cannot_show_its_name_is_not_spoken_to() {
    let lab = rollover().start().await.unwrap();
    let front = lab.secure_dns(FrontKind::Tls).await.unwrap();
    let mut setup = setup(&lab, &[front.upstream().replace("dns.lab.test", "other.lab.test")]);
    setup.trust_authority(&lab);
    let Answer::Failed(Cause::DnsUnavailable { tried, .. }) = tlsa(&lab, &dns(&setup)).await.0 else { panic!() };
    assert!(tried[0].detail.contains("certificate"), "{tried:?}");
    setup.config.tls.roots = RootsSource::File("/nonexistent.pem".into());
    let error = Dns::new(&setup.config, Clock::system(), event::nobody()).err().unwrap().to_string();
    assert!(error.starts_with("[tls] roots: /nonexistent.pem"), "{error}");
}

#[tokio::test]
async fn rfc1034_5_3_3_the_walk_from_the_root_goes_around_the_resolver() {
    let lab = rollover().start().await.unwrap();
    let servers = lab.authorities().await.unwrap();
    lab.dns().set_path([BOX]);
    let mut setup = setup(&lab, &[lab.dns().upstream(), "authoritative".into()]);
    setup.config.dns.root_hints = vec![servers.root()];
    let dns = dns(&setup);
    let (answer, trace) = tlsa(&lab, &dns).await;
    assert_eq!(count_of(&answer), (5, Security::Secure));
    assert_eq!((trace.path.as_deref(), trace.failed.len()), (Some("authoritative"), 2));
    let root = servers.server(".").unwrap();
    let before = root.questions().len();
    for (name, record_type, right) in [
        ("rollover.test", RecordType::Mx, (1, Security::Secure)),
        ("mx.plain.test", RecordType::A, (1, Security::Insecure)),
        ("nowhere.rollover.test", RecordType::A, (0, Security::Secure)),
        ("rollover.test", RecordType::A, (0, Security::Secure)),
    ] {
        assert_eq!(count_of(&dns.lookup(name, record_type).await.0), right, "{name}");
    }
    assert_eq!(root.questions().len(), before, "delegations are remembered");
}

#[tokio::test]
async fn rfc1034_5_3_3_a_walk_that_meets_silence_ends_and_says_where() {
    let lab = rollover().start().await.unwrap();
    let servers = lab.authorities().await.unwrap();
    servers.server("test").unwrap().set_path([PathFault::DropAll]);
    let mut setup = setup(&lab, &["authoritative".into()]);
    setup.config.dns.root_hints = vec![servers.root()];
    let Answer::Failed(Cause::DnsUnavailable { tried, .. }) = tlsa(&lab, &dns(&setup)).await.0 else { panic!() };
    assert!(tried[0].detail.contains("servers of test."), "{tried:?}");
}

// Which path is asked, and when the next one.

#[tokio::test]
async fn rfc7766_5_a_path_without_udp_answers_over_tcp() {
    let lab = rollover().start().await.unwrap();
    let owner = lab.tlsa_owner("mx.rollover.test");
    lab.world().fault(&owner, WireType::TLSA, AnswerFault::SilentOverUdp).unwrap();
    let (answer, trace) = tlsa(&lab, &dns(&setup(&lab, &[lab.dns().upstream()]))).await;
    assert_eq!(count_of(&answer), (5, Security::Secure));
    assert_eq!(trace.path, Some(format!("{} over TCP", lab.dns().upstream())));
    assert_eq!(details(&trace.failed), ["timeout"]);
}

#[tokio::test]
async fn rfc7766_5_what_is_truncated_is_fetched_over_tcp_and_is_no_failure() {
    let lab = rollover().start().await.unwrap();
    lab.world().fault(&lab.tlsa_owner("mx.rollover.test"), WireType::TLSA, AnswerFault::TruncatedOverUdp).unwrap();
    let (answer, trace) = tlsa(&lab, &dns(&setup(&lab, &[lab.dns().upstream()]))).await;
    assert_eq!(count_of(&answer), (5, Security::Secure));
    assert_eq!((trace.path, trace.failed), (Some(lab.dns().upstream()), Vec::new()));
}

#[tokio::test]
async fn rfc7766_5_truncated_without_tcp_leads_to_the_next_upstream() {
    let lab = rollover().start().await.unwrap();
    lab.world().fault(&lab.tlsa_owner("mx.rollover.test"), WireType::TLSA, AnswerFault::TruncatedOverUdp).unwrap();
    lab.dns().set_path([PathFault::BlockTcp]);
    let clean = lab.another_dns().await.unwrap();
    let (answer, trace) = tlsa(&lab, &dns(&setup(&lab, &[lab.dns().upstream(), clean.upstream()]))).await;
    assert_eq!(count_of(&answer), (5, Security::Secure));
    assert_eq!(trace.path, Some(clean.upstream()));
    assert!(trace.failed[0].detail.starts_with("truncated over UDP"), "{:?}", trace.failed);
}

#[tokio::test]
async fn servfail_refused_and_stripped_answers_lead_to_the_next_upstream() {
    let lab = rollover().start().await.unwrap();
    let clean = lab.another_dns().await.unwrap();
    for (fault, said) in [
        (PathFault::ServFail, "SERVFAIL"),
        (PathFault::StripDnssec, "DNSSEC signatures are stripped on this path"),
        (PathFault::DropAll, "timeout"),
        (PathFault::DropEdns, "timeout"),
    ] {
        lab.dns().set_path([fault]);
        let (answer, trace) = tlsa(&lab, &dns(&setup(&lab, &[lab.dns().upstream(), clean.upstream()]))).await;
        assert_eq!(count_of(&answer), (5, Security::Secure));
        assert_eq!(trace.path, Some(clean.upstream()));
        assert_eq!(details(&trace.failed), [said, said]);
    }
}

#[tokio::test]
async fn rfc4035_4_3_bogus_is_the_verdict_only_when_every_path_says_so() {
    let lab = rollover().start().await.unwrap();
    let owner = lab.tlsa_owner("mx.rollover.test");
    lab.world().fault(&owner, WireType::TLSA, AnswerFault::ForgedNoData).unwrap();
    let silent = lab.another_dns().await.unwrap();
    silent.set_path([PathFault::DropAll]);
    let alone = tlsa(&lab, &dns(&setup(&lab, &[lab.dns().upstream()]))).await.0;
    assert!(matches!(alone, Answer::Failed(Cause::DnsBogus { .. })), "{alone:?}");
    let beside_silence = tlsa(&lab, &dns(&setup(&lab, &[lab.dns().upstream(), silent.upstream()]))).await.0;
    assert!(matches!(beside_silence, Answer::Failed(Cause::DnsUnavailable { .. })), "{beside_silence:?}");
}

#[tokio::test]
async fn a_path_that_strips_everywhere_is_no_fault_of_the_zone() {
    let lab = rollover().start().await.unwrap();
    lab.dns().set_path([PathFault::StripDnssec]);
    let answer = tlsa(&lab, &dns(&setup(&lab, &[lab.dns().upstream()]))).await.0;
    let Answer::Failed(Cause::DnsUnavailable { tried, .. }) = answer else { panic!("{answer:?}") };
    assert!(tried.iter().all(|path| path.detail.contains("stripped")), "{tried:?}");
}

#[tokio::test]
async fn a_broken_path_is_put_back_and_asked_again_when_its_penalty_has_faded() {
    let lab = rollover().start().await.unwrap();
    let clean = lab.another_dns().await.unwrap();
    lab.dns().set_path([PathFault::ServFail]);
    let clock = Clock::manual(Clock::system().now());
    let setup = setup(&lab, &[lab.dns().upstream(), clean.upstream()]);
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    let listener: Listener = Arc::new(move |event| {
        if let DnsEvent::PathChanged { path, standing } = event {
            kept.lock().unwrap().push((path.transport.word(), *standing));
        }
    });
    let dns = Dns::new(&setup.config, clock.clone(), listener).unwrap();
    let path_of = async |name: &str| dns.lookup(name, RecordType::Mx).await.1;
    assert_eq!(path_of("rollover.test").await.failed.len(), 2);
    assert_eq!(path_of("plain.test").await.failed, [], "the broken path is not asked first any more");
    let put_back = dns.standings().filter(|(_, standing)| *standing == PathStanding::PutBack).count();
    assert_eq!(put_back, 2);
    lab.dns().set_path([]);
    clock.advance(Duration::from_secs(60));
    assert_eq!(path_of("again.test").await.path, Some(lab.dns().upstream()), "and it is healed");
    let (good, put_back) = (PathStanding::Good, PathStanding::PutBack);
    // What is told of every path when it is first asked is not the point here.
    let told: Vec<_> = told.lock().unwrap().iter().copied().skip_while(|(_, standing)| *standing == good).collect();
    assert_eq!(told, [("udp", put_back), ("tcp", put_back), ("udp", good), ("tcp", good)]);
}

#[tokio::test]
async fn a_look_up_ends_with_its_deadline_and_says_who_was_not_asked() {
    let lab = rollover().start().await.unwrap();
    lab.dns().set_path([PathFault::DropAll]);
    let mut setup =
        setup(&lab, &[lab.dns().upstream(), format!("tcp://{}", lab.dns().address()), "authoritative".into()]);
    setup.config.dns.deadline = TIMEOUT * 2;
    setup.config.dns.root_hints = vec![lab.dns().address()];
    let (answer, _) = tlsa(&lab, &dns(&setup)).await;
    let Answer::Failed(Cause::DnsUnavailable { tried, .. }) = answer else { panic!("{answer:?}") };
    assert_eq!(tried.len(), 4);
    assert!(tried.last().unwrap().detail.contains("not asked"), "{tried:?}");
}

/// Nobody is asked here: this is about whom they would be.
#[tokio::test(start_paused = true)]
async fn the_servers_of_the_system_are_those_that_resolv_conf_names_now() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("resolv.conf");
    let write = |text: &str| {
        let new = folder.path().join("new");
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, &file).unwrap();
    };
    write("nameserver 127.0.0.8\nsearch a.test\n");
    let mut config = Config::default();
    config.dns.resolv_conf.clone_from(&file);
    let told = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&told);
    let listener: Listener = Arc::new(move |event| {
        #[expect(clippy::wildcard_enum_match_arm, reason = "nothing else is told here")]
        let said = match event {
            DnsEvent::SystemChanged { added, gone } => format!("{} new, {} gone", added.len(), gone.len()),
            DnsEvent::SystemKept { why } => (*why).to_owned(),
            other => panic!("{other:?}"),
        };
        kept.lock().unwrap().push(said);
    });
    let dns = Dns::new(&config, Clock::system(), listener).unwrap();
    let names = || dns.standings().map(|(path, _)| path.to_string()).collect::<Vec<_>>();
    let of = |server: &str| [format!("system udp://{server}"), format!("system udp://{server} over TCP")];
    let with_walk = |servers: &[&str]| -> Vec<String> {
        servers.iter().flat_map(|server| of(server)).chain(["authoritative".to_owned()]).collect()
    };
    assert_eq!(names(), with_walk(&["127.0.0.8:53"]));
    for (text, wanted) in [
        ("nameserver 127.0.0.9\nnameserver fe80::1%1\n", &["127.0.0.9:53", "[fe80::1%1]:53"][..]),
        ("search a.test\n", &["127.0.0.9:53", "[fe80::1%1]:53"]),
        ("options edns0\nnameserver 127.0.0.9\n", &["127.0.0.9:53"]),
        ("nameserver 127.0.0.9\n", &["127.0.0.9:53"]),
    ] {
        write(text);
        tokio::time::advance(Duration::from_secs(5)).await;
        assert_eq!(names(), with_walk(wanted), "{text}");
    }
    std::fs::remove_file(&file).unwrap();
    tokio::time::advance(Duration::from_secs(5)).await;
    assert_eq!(names(), with_walk(&["127.0.0.9:53"]), "who was there is asked on");
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 4, "{told:?}");
    assert_eq!([told[0].as_str(), told[2].as_str()], ["4 new, 2 gone", "0 new, 2 gone"]);
    assert!(told[1].contains("names no server") && told[3].contains("No such file"), "{told:?}");
}

// The cache.

#[tokio::test]
async fn the_same_question_is_asked_once_and_then_answered_from_the_cache() {
    let lab = rollover().start().await.unwrap();
    let clock = Clock::manual(Clock::system().now());
    let setup = setup(&lab, &[lab.dns().upstream()]);
    let dns = Dns::new(&setup.config, clock.clone(), event::nobody()).unwrap();
    let owner = lab.tlsa_owner("mx.rollover.test");
    let asked = || lab.dns().asked(&owner, WireType::TLSA);
    let all = futures_util::future::join_all((0..50).map(|_| tlsa(&lab, &dns))).await;
    assert!(all.iter().all(|(answer, _)| count_of(answer) == (5, Security::Secure)));
    assert_eq!(asked(), 1, "all at once are one question");
    let upper = dns.lookup(&owner.to_uppercase(), RecordType::Tlsa).await.0;
    assert_eq!((count_of(&upper).0, asked()), (5, 1), "case means nothing");
    clock.advance(Duration::from_secs(7 * 86_400));
    let _signatures_have_expired = tlsa(&lab, &dns).await;
    assert!(asked() > 1, "nothing is served beyond its life");
}

#[tokio::test]
async fn rfc2308_5_denials_are_kept_and_failures_are_not() {
    let lab = rollover().start().await.unwrap();
    let dns = dns(&setup(&lab, &[lab.dns().upstream()]));
    for _ in 0..3 {
        assert_eq!(count_of(&dns.lookup("nowhere.rollover.test", RecordType::Mx).await.0), (0, Security::Secure));
    }
    assert_eq!(lab.dns().asked("nowhere.rollover.test", WireType::MX), 1);
    lab.world().fault("rollover.test", WireType::MX, AnswerFault::ServFail).unwrap();
    assert!(matches!(dns.lookup("rollover.test", RecordType::Mx).await.0, Answer::Failed(_)));
    lab.world().fault("rollover.test", WireType::MX, None).unwrap();
    assert_eq!(count_of(&dns.lookup("rollover.test", RecordType::Mx).await.0), (1, Security::Secure));
}

// The start.

#[tokio::test]
async fn rfc5011_an_empty_or_unreadable_anchor_file_stops_the_start() {
    let lab = rollover().start().await.unwrap();
    let mut setup = setup(&lab, &[lab.dns().upstream()]);
    let TrustAnchorSource::File(path) = setup.config.dns.trust_anchors.clone() else { panic!() };
    for text in ["", "; only a comment\n", "not a key\n"] {
        std::fs::write(&path, text).unwrap();
        let error = Dns::new(&setup.config, Clock::system(), event::nobody()).err().unwrap();
        assert!(matches!(error, DnsSetupError::TrustAnchors { .. }), "{text:?}: {error}");
        assert!(error.to_string().starts_with("[dns] trust_anchors: "), "{error}");
    }
    assert!(start::start(setup.config.clone(), Clock::system()).await.is_err());
    setup.config.dns.trust_anchors = TrustAnchorSource::File("/nonexistent/root.key".into());
    assert!(Dns::new(&setup.config, Clock::system(), event::nobody()).is_err());
}

#[tokio::test]
async fn anchors_in_both_forms_are_accepted() {
    let lab = rollover().start().await.unwrap();
    let setup = setup(&lab, &[lab.dns().upstream()]);
    let TrustAnchorSource::File(path) = &setup.config.dns.trust_anchors else { panic!() };
    for form in [AnchorForm::Ds, AnchorForm::DnsKey] {
        std::fs::write(path, lab.world().trust_anchor(form).unwrap()).unwrap();
        assert_eq!(count_of(&tlsa(&lab, &dns(&setup)).await.0), (5, Security::Secure));
    }
}

#[tokio::test]
async fn rfc4035_4_9_3_trust_ad_refuses_a_resolver_that_does_not_validate() {
    let lab = rollover().start().await.unwrap();
    let mut setup = setup(&lab, &[lab.dns().upstream()]);
    setup.config.dns.mode = DnsMode::TrustAd;
    let error = start::start(setup.config.clone(), Clock::system()).await.err().unwrap().to_string();
    assert!(error.contains(&lab.dns().upstream()) && error.contains("does not validate"), "{error}");
    let answer = tlsa(&lab, &dns(&setup)).await.0;
    assert!(matches!(answer, Answer::Failed(_)), "and later its answers do not count as unsigned: {answer:?}");
}

/// A resolver that validates: it says AD where the world is signed, for as long as it vouches.
async fn vouching_resolver(lab: Arc<Lab>, vouches: Arc<AtomicBool>) -> SocketAddr {
    let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let address = socket.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 4096];
        while let Ok((length, client)) = socket.recv_from(&mut buffer).await {
            let request = Message::from_vec(&buffer[..length]).unwrap();
            let query = &request.queries[0];
            let mut reply = lab.world().message(&query.name().to_ascii(), query.query_type()).unwrap();
            let signed = reply.all_sections().any(|record| record.record_type() == WireType::RRSIG);
            reply.metadata.id = request.metadata.id;
            reply.metadata.authentic_data = signed && vouches.load(Ordering::SeqCst) && request.metadata.authentic_data;
            let reply = reply.maybe_strip_dnssec_records(false);
            socket.send_to(&reply.to_vec().unwrap(), client).await.unwrap();
        }
    });
    address
}

#[tokio::test]
async fn rfc6840_5_7_trust_ad_believes_a_resolver_for_as_long_as_it_vouches() {
    let lab = Arc::new(rollover().domain("real.test", |d| d).start().await.unwrap());
    let vouches = Arc::new(AtomicBool::new(true));
    let resolver = vouching_resolver(Arc::clone(&lab), Arc::clone(&vouches)).await;
    let mut setup = setup(&lab, &[format!("udp://{resolver}")]);
    setup.config.dns.mode = DnsMode::TrustAd;
    let dns = dns(&setup);
    dns.probe().await.unwrap();
    assert_eq!(count_of(&tlsa(&lab, &dns).await.0), (5, Security::Secure));
    assert_eq!(count_of(&dns.lookup("mx.plain.test", RecordType::A).await.0), (1, Security::Insecure));
    assert_eq!(count_of(&dns.lookup("nowhere.test", RecordType::A).await.0), (0, Security::Secure));
    vouches.store(false, Ordering::SeqCst);
    let answer = dns.lookup("mx.real.test", RecordType::A).await.0;
    let Answer::Failed(Cause::DnsUnavailable { tried, .. }) = answer else { panic!("{answer:?}") };
    assert!(tried[0].detail.contains("does not validate"), "{tried:?}");
}

#[tokio::test]
async fn an_upstream_that_strips_dnssec_is_named_at_the_start() {
    let lab = rollover().start().await.unwrap();
    let clean = lab.another_dns().await.unwrap();
    lab.dns().set_path([PathFault::StripDnssec]);
    let setup = setup(&lab, &[lab.dns().upstream(), clean.upstream()]);
    let heard = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heard);
    let listener: Listener = Arc::new(move |event| {
        if let DnsEvent::Probed { path, found } = event {
            kept.lock().unwrap().push((path.upstream.clone(), (*found).clone()));
        }
    });
    Dns::new(&setup.config, Clock::system(), listener).unwrap().probe().await.unwrap();
    let (strips, passes) = ((lab.dns().upstream(), Probed::StripsDnssec), (clean.upstream(), Probed::PassesDnssec));
    assert_eq!(*heard.lock().unwrap(), [strips.clone(), strips, passes.clone(), passes]);
}

#[tokio::test]
async fn signatures_are_judged_by_our_clock() {
    let lab = rollover().start().await.unwrap();
    let setup = setup(&lab, &[lab.dns().upstream()]);
    let late = Clock::manual(Timestamp(Clock::system().now().0 + 400 * 86_400_000));
    let dns = Dns::new(&setup.config, late, event::nobody()).unwrap();
    assert!(matches!(tlsa(&lab, &dns).await.0, Answer::Failed(Cause::DnsBogus { .. })));
}
