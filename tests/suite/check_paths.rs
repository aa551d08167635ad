//! `relay check` tells what stands between this host and the DNS: every test puts a box on the way
//! or breaks a server, and holds the diagnosis to it.

use crate::relay::{config, until};
use dane_relay::check::evidence::{Evidence, ProbeRole};
use dane_relay::check::{CheckReport, Checker, Verdict, analyse};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::config::Config;
use dane_relay::lab::dns::authority::Authorities;
use dane_relay::lab::dns::fronts::{Front, FrontKind};
use dane_relay::lab::dns::server::{LabTransport, PathFault};
use dane_relay::lab::story::stage::canary_zone;
use dane_relay::lab::{AnswerFault, Lab, LabBuilder};
use dane_relay::resolve::tlsa_counts::KnownCount;
use hickory_proto::rr::RecordType;
use std::time::Duration;
use tempfile::TempDir;

const CANARY: &str = "canary.test";
/// The box of the seed story.
const BOX: PathFault = PathFault::DropTlsaOver(4);
/// Single questions that a check may ask.
const PROBES_LIMIT: usize = 32;

fn rollover() -> LabBuilder {
    Lab::builder().domain("rollover.test", |d| d.host(|h| h.and_misfits(4))).domain(CANARY, canary_zone)
}

/// A lab with servers for its zones, and the configuration of a relay that asks its resolver.
struct Scene {
    lab: Lab,
    servers: Authorities,
    front: Front,
    config: Config,
    _folder: TempDir,
}

impl Scene {
    async fn of(lab: LabBuilder) -> Self {
        let lab = lab.start().await.unwrap();
        let servers = lab.authorities().await.unwrap();
        let front = lab.secure_dns(FrontKind::Tls).await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&lab, folder.path());
        config.dns.root_hints = vec![servers.root()];
        // What is silent here stays silent.
        config.dns.timeout = Duration::from_millis(700);
        std::fs::write(folder.path().join("both.pem"), lab.roots_pem() + &lab.authority().pem()).unwrap();
        config.tls.roots = dane_relay::config::RootsSource::File(folder.path().join("both.pem"));
        Self { lab, servers, front, config, _folder: folder }
    }

    async fn new() -> Self {
        Self::of(rollover()).await
    }

    /// Boxes before the resolver; the authoritative servers are reached freely.
    fn boxes(self, faults: &[PathFault]) -> Self {
        self.lab.dns().set_path(faults.to_vec());
        self
    }

    /// The same boxes on every way that can be read.
    fn boxes_everywhere(self, faults: &[PathFault]) -> Self {
        for (_, server) in self.servers.servers() {
            server.set_path(faults.to_vec());
        }
        self.boxes(faults)
    }

    fn canary(mut self) -> Self {
        self.config.check.canary = Some(CANARY.parse().unwrap());
        self
    }

    fn reference(mut self) -> Self {
        self.config.check.references = vec![self.front.upstream().parse().unwrap()];
        self
    }

    async fn check(&self, domain: &str) -> CheckReport {
        let checker = Checker::new(self.config.clone(), Clock::system()).unwrap();
        let report = checker.check(&domain.parse().unwrap()).await;
        assert!(report.evidence.dns.len() <= PROBES_LIMIT, "{} probes", report.evidence.dns.len());
        for line in report.text().lines() {
            assert!(line.chars().count() <= 80, "{line}\n{}", report.text());
        }
        assert!(report.text().lines().count() <= 30, "{}", report.text());
        report
    }

    /// Checks the domain of the story and holds the verdict to it.
    async fn says(&self, level: Verdict, side: &str, certainty: &str, word: &str) -> CheckReport {
        let report = self.check("rollover.test").await;
        let found = &report.diagnosis;
        let text = report.shown(dane_relay::check::Detail::Everything, dane_relay::check::Color::Plain);
        let seen = (report.verdict, found.side.unwrap().word(), found.certainty.word(), found.word.as_str());
        assert_eq!(seen, (level, side, certainty, word), "{text}");
        keep_evidence(word, &report);
        report
    }
}

/// With `RELAY_KEEP_EVIDENCE=folder` the evidence of every situation is written there: that is how
/// the files in `testdata/check` were made.
fn keep_evidence(word: &str, report: &CheckReport) {
    if let Ok(folder) = std::env::var("RELAY_KEEP_EVIDENCE") {
        let name = std::thread::current().name().unwrap_or(word).rsplit("::").next().unwrap_or(word).to_owned();
        let json = serde_json::to_string_pretty(&report.evidence).unwrap() + "\n";
        std::fs::write(std::path::Path::new(&folder).join(format!("{name}.json")), json).unwrap();
    }
}

// The seed story.

#[tokio::test]
async fn the_box_that_drops_five_records_is_found_and_proven() {
    let scene = Scene::new().await.boxes(&[BOX]).canary();
    let report = scene.says(Verdict::Fault, "path", "proven", "local-dns-count-filter").await;
    let text = report.text();
    assert!(text.starts_with("FAULT  path  proven  local-dns-count-filter  rollover.test  ("), "{text}");
    assert!(report.diagnosis.sentence.contains("more than 4 TLSA records"), "{text}");
    assert!(text.contains("4                     answered    answered"), "{text}");
    assert!(text.contains("5                     vanished    vanished"), "{text}");
    assert!(text.contains("5 records by server"), "the zone's own servers have them: {text}");
    assert!(text.contains("authoritative") && text.contains("do not switch DANE off"), "{text}");
    assert!(text.contains("nothing is lost"), "{text}");
    assert_eq!(scene.lab.mx("rollover.test").unwrap().connections(), 0);
}

#[tokio::test]
async fn the_box_on_every_way_out_is_told_by_the_canary_and_an_encrypted_reference() {
    let scene = Scene::new().await.boxes_everywhere(&[BOX]).canary().reference();
    let report = scene.says(Verdict::Fault, "path", "proven", "local-dns-count-filter").await;
    assert!(report.diagnosis.sentence.contains("leaves this network"), "{}", report.text());
    assert!(report.diagnosis.bridge.as_ref().unwrap().contains("tls://"), "{}", report.text());
}

#[tokio::test]
async fn the_canary_alone_proves_the_box_though_nobody_has_the_records() {
    let scene = Scene::new().await.boxes_everywhere(&[BOX]).canary();
    scene.says(Verdict::Fault, "path", "proven", "local-dns-count-filter").await;
}

#[tokio::test]
async fn the_relays_own_history_stands_in_for_a_canary_zone() {
    let earlier =
        |lab: LabBuilder, count: usize| lab.domain(&format!("n{count}.test"), |d| d.host(|h| h.and_misfits(count - 1)));
    let scene = Scene::of([1, 4, 5].into_iter().fold(rollover(), earlier)).await.boxes(&[BOX]);
    let known = |count: usize| KnownCount {
        records: count,
        name: scene.lab.tlsa_owner(&format!("mx.n{count}.test")),
        at: Timestamp(1),
    };
    std::fs::create_dir_all(&scene.config.spool.path).unwrap();
    let file = serde_json::to_string(&[known(1), known(4), known(5)]).unwrap();
    std::fs::write(scene.config.spool.path.join("tlsa-counts.json"), file).unwrap();
    let report = scene.says(Verdict::Fault, "path", "proven", "local-dns-count-filter").await;
    assert!(report.diagnosis.sentence.contains("more than 4 TLSA records"), "{}", report.text());
}

#[tokio::test]
async fn without_canary_and_reference_the_box_everywhere_is_not_blamed_on_the_recipient() {
    let scene = Scene::new().await.boxes_everywhere(&[BOX]);
    let report = scene.says(Verdict::Inconclusive, "path", "inconclusive", "inconclusive").await;
    for word in ["local-dns-count-filter", "recipient-dns"] {
        assert!(report.diagnosis.also.iter().any(|also| also == word), "{:?}", report.diagnosis.also);
    }
    assert!(report.diagnosis.decide.as_ref().unwrap().contains("--canary"), "{}", report.text());
}

#[tokio::test]
async fn the_box_on_udp_alone_is_a_warning_because_tcp_brings_the_answer() {
    let scene = Scene::new().await.canary();
    scene.lab.dns().set_path_on(LabTransport::Udp, [BOX]);
    let report = scene.says(Verdict::Warning, "path", "proven", "local-dns-count-filter").await;
    assert!(report.text().contains("Mail for rollover.test is delivered"), "{}", report.text());
}

#[tokio::test]
async fn a_second_path_turns_the_fault_into_a_warning() {
    let mut scene = Scene::new().await.boxes(&[BOX]).canary();
    scene.config.dns.upstreams.push("authoritative".parse().unwrap());
    scene.says(Verdict::Warning, "path", "proven", "local-dns-count-filter").await;
}

// The other boxes.

#[tokio::test]
async fn a_box_that_drops_every_tlsa_answer_is_a_filter_by_type() {
    let scene = Scene::new().await.boxes(&[PathFault::DropType(RecordType::TLSA)]);
    scene.says(Verdict::Fault, "path", "proven", "local-dns-type-filter").await;
}

#[tokio::test]
async fn a_box_that_drops_edns_is_told_by_the_questions_without() {
    let scene = Scene::new().await.boxes(&[PathFault::DropEdns]);
    scene.says(Verdict::Fault, "path", "proven", "local-dns-edns-filter").await;
}

#[tokio::test]
async fn a_box_that_drops_large_datagrams_is_a_filter_by_size() {
    let lab = Lab::builder().domain("rollover.test", |d| d.host(|h| h.and_misfits(15))).domain(CANARY, canary_zone);
    let scene = Scene::of(lab).await.canary();
    scene.lab.dns().set_path_on(LabTransport::Udp, [PathFault::DropOver(600)]);
    scene.says(Verdict::Warning, "path", "proven", "local-dns-size-filter").await;
}

#[tokio::test]
async fn blocked_tcp_53_is_named_where_an_answer_needs_it() {
    let scene = Scene::new().await.boxes(&[PathFault::BlockTcp]);
    let owner = scene.lab.tlsa_owner("mx.rollover.test");
    scene.lab.world().fault(&owner, RecordType::TLSA, AnswerFault::TruncatedOverUdp).unwrap();
    scene.says(Verdict::Fault, "path", "proven", "local-tcp53-blocked").await;
}

#[tokio::test]
async fn a_resolver_that_strips_signatures_is_named() {
    let scene = Scene::new().await.boxes(&[PathFault::StripDnssec]);
    scene.says(Verdict::Fault, "resolver", "proven", "resolver-strips-dnssec").await;
}

#[tokio::test]
async fn a_resolver_that_must_validate_and_does_not_is_named() {
    let mut scene = Scene::new().await;
    scene.config.dns.mode = dane_relay::config::DnsMode::TrustAd;
    scene.says(Verdict::Fault, "resolver", "proven", "resolver-not-validating").await;
}

#[tokio::test]
async fn a_resolver_that_fails_where_the_zone_answers_is_the_resolvers_fault() {
    let scene = Scene::new().await.boxes(&[PathFault::ServFail]);
    let report = scene.check("rollover.test").await;
    let found = &report.diagnosis;
    assert_eq!(found.side.unwrap().word(), "resolver", "{}", report.text());
    assert_eq!(found.word, "resolver-side", "{}", report.text());
}

#[tokio::test]
async fn a_dead_resolver_beside_a_living_one_is_named() {
    let mut scene = Scene::new().await.boxes(&[PathFault::DropAll]);
    let second = scene.lab.another_dns().await.unwrap();
    scene.config.dns.upstreams.push(second.upstream().parse().unwrap());
    // Silence may be a box before it as well.
    scene.says(Verdict::Warning, "resolver", "likely", "resolver-side").await;
}

// The recipient's own faults.

#[tokio::test]
async fn servers_of_the_zone_that_fail_for_tlsa_are_the_recipients_fault() {
    let scene = Scene::new().await.canary();
    scene
        .lab
        .world()
        .fault(&scene.lab.tlsa_owner("mx.rollover.test"), RecordType::TLSA, AnswerFault::ServFail)
        .unwrap();
    scene.says(Verdict::Fault, "recipient", "proven", "recipient-dns").await;
}

#[tokio::test]
async fn a_bogus_zone_is_the_recipients_fault() {
    let mut scene = Scene::new().await.canary();
    let bogus = AnswerFault::Signature(dane_relay::lab::SignatureFault::Bogus);
    scene.lab.world().fault(&scene.lab.tlsa_owner("mx.rollover.test"), RecordType::TLSA, bogus).unwrap();
    scene.config.dns.upstreams.push("authoritative".parse().unwrap());
    scene.says(Verdict::Fault, "recipient", "proven", "dnssec-invalid").await;
}

#[tokio::test]
async fn a_bogus_zone_is_proven_by_its_own_servers_though_delivery_does_not_ask_them() {
    let scene = Scene::new().await.canary();
    let bogus = AnswerFault::Signature(dane_relay::lab::SignatureFault::Bogus);
    scene.lab.world().fault("rollover.test", RecordType::MX, bogus).unwrap();
    let report = scene.says(Verdict::Fault, "recipient", "proven", "dnssec-invalid").await;
    assert_eq!(report.evidence.opinions.len(), 1, "{:?}", report.evidence.opinions);
}

// The shape of the report.

#[tokio::test]
async fn a_domain_in_good_order_is_eight_lines_and_asks_nobody_else() {
    let scene = Scene::new().await.canary().reference();
    let report = scene.check("rollover.test").await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert!(report.text().lines().count() <= 8, "{}", report.text());
    assert!(report.text().starts_with("OK  rollover.test  ("), "{}", report.text());
    assert_eq!(report.evidence.dns, []);
    for (_, server) in scene.servers.servers() {
        assert!(server.questions().is_empty(), "no harm is done by questions that nobody needs");
    }
}

#[tokio::test]
async fn evidence_from_a_file_leads_to_the_same_diagnosis() {
    let scene = Scene::new().await.boxes(&[BOX]).canary();
    let report = scene.check("rollover.test").await;
    let json = serde_json::to_string(&report.evidence).unwrap();
    let read: Evidence = serde_json::from_str(&json).unwrap();
    assert_eq!(read, report.evidence);
    assert_eq!(analyse::analyse(&read), report.diagnosis);
}

#[tokio::test]
async fn harmless_questions_come_first_and_one_of_them_again_at_the_end() {
    let scene = Scene::new().await.boxes(&[BOX]).canary();
    let report = scene.check("rollover.test").await;
    let roles: Vec<ProbeRole> = report.evidence.dns.iter().map(|probe| probe.role).collect();
    let first = |role: ProbeRole| roles.iter().position(|r| *r == role).unwrap();
    assert!(
        first(ProbeRole::Harmless) < first(ProbeRole::Control(5))
            && first(ProbeRole::Control(5)) < first(ProbeRole::Subject)
    );
    assert_eq!(roles.last(), Some(&ProbeRole::Again));
}

// Silence.

#[tokio::test]
async fn silence_is_waited_for_once_and_not_question_after_question() {
    let scene = Scene::new().await.boxes_everywhere(&[PathFault::DropType(RecordType::MX)]);
    let announced = || scene.lab.dns().asked("_mta-sts.rollover.test", RecordType::TXT);
    let reports = || scene.lab.dns().asked("_smtp._tls.rollover.test", RecordType::TXT);
    let lift = async {
        let asked = || async { (announced() > 0 && reports() > 0).then_some(()) };
        until(asked, "the questions that do not depend on the MX records").await;
        scene.lab.dns().set_path([]);
    };
    let (report, ()) = tokio::join!(scene.check("rollover.test"), lift);
    // So the question for the MX records was still open when the others were asked.
    let mx = report.dns.iter().find(|trace| trace.question.record_type == "MX").unwrap();
    assert!(mx.path.is_some(), "{:?}", report.evidence.troubled);
    assert_ne!(report.verdict, Verdict::Fault, "{}", report.text());
}

#[tokio::test]
async fn rfc8460_3_what_has_no_bearing_on_delivery_may_stay_silent() {
    let mut scene = Scene::new().await.boxes_everywhere(&[PathFault::DropType(RecordType::TXT)]);
    scene.config.dns.deadline = Duration::from_millis(1500);
    let report = scene.check("rollover.test").await;
    assert_eq!(report.verdict, Verdict::Ok, "{}", report.text());
    assert_eq!((report.evidence.tlsrpt, report.evidence.sts_announced), (None, None));
}
