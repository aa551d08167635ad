//! Every fault that must be told apart, found by `relay check`: the side and the word, the same
//! cause that delivery meets, and no message begun.

use dane_relay::check::evidence::Evidence;
use dane_relay::check::{CheckReport, Checker, Color, Detail, Verdict, analyse};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::mx::host::MxHost;
use dane_relay::lab::story::situation::Mail;
use dane_relay::lab::story::stage::{CANARY, DOMAIN};
use dane_relay::lab::{Situation, Stage};
use std::path::Path;

/// A host that has nothing to do with the domain.
const CONTROL: &str = "mx.neighbour.test";

/// Who is asked besides those that deliver mail.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Help {
    /// Canary zone, an encrypted reference, a control.
    All,
    /// Nobody.
    None,
}

async fn configured(stage: &Stage, folder: &Path, help: Help) -> Config {
    let mut config = stage.config(folder).await.unwrap();
    if help == Help::All {
        config.check.canary = Some(CANARY.parse().unwrap());
        config.check.controls = vec![CONTROL.parse().unwrap()];
        config.check.references = vec![stage.encrypted_upstream().parse().unwrap()];
    }
    config
}

async fn checked(situation: Situation, help: Help) -> (CheckReport, Stage) {
    let stage = Stage::set(situation).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = configured(&stage, folder.path(), help).await;
    let report = Checker::new(config, Clock::system()).unwrap().check(&DOMAIN.parse().unwrap()).await;
    shape(&report);
    nobody_was_sent_mail(&stage);
    (report, stage)
}

/// What holds for every report.
fn shape(report: &CheckReport) {
    let text = report.text();
    let limit = if report.verdict == Verdict::Ok { 8 } else { 30 };
    assert!(text.lines().count() <= limit, "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 80), "{text}");
    let took_ms = report.evidence.took_ms;
    assert!(report.evidence.dns.len() <= 32, "{} probes", report.evidence.dns.len());
    assert!(took_ms < 60_000, "{took_ms} ms: every step has a limit");
    let json = serde_json::to_string(&report.evidence).unwrap();
    let read: Evidence = serde_json::from_str(&json).unwrap();
    assert_eq!(analyse::analyse(&read), report.diagnosis, "from a file it is the same");
}

fn nobody_was_sent_mail(stage: &Stage) {
    let hosts: Vec<&MxHost> = stage.lab.hosts().chain([stage.proxy()]).collect();
    for host in hosts {
        for verb in ["MAIL", "RCPT", "DATA", "BDAT"] {
            let begun = host.seen().iter().any(|seen| format!("{seen:?}").contains(&format!("\"{verb} ")));
            assert!(!begun, "{}: {:?}", host.name(), host.seen());
        }
    }
}

/// With `RELAY_KEEP_EVIDENCE` set to a folder, the evidence of every situation is written there:
/// so the files of `testdata/check` were made.
fn keep(situation: Situation, report: &CheckReport) {
    if let Ok(folder) = std::env::var("RELAY_KEEP_EVIDENCE") {
        let json = serde_json::to_string_pretty(&report.evidence).unwrap() + "\n";
        std::fs::write(Path::new(&folder).join(format!("{situation:?}.json")), json).unwrap();
        std::fs::write(Path::new(&folder).join(format!("{situation:?}.txt")), report.text()).unwrap();
    }
}

/// With canary zone, reference and control at hand nothing is left to guess.
async fn is_diagnosed(situation: Situation) {
    let (report, _stage) = checked(situation, Help::All).await;
    keep(situation, &report);
    let (truth, found) = (situation.truth(), &report.diagnosis);
    let all = report.shown(Detail::Everything, Color::Plain);
    assert_eq!(found.side, truth.side, "{situation:?}\n{all}");
    if let Some(word) = truth.word {
        assert_eq!(found.word, word, "{situation:?}\n{all}");
    }
    match truth.mail {
        Mail::Delivered(_) => assert!(matches!(report.verdict, Verdict::Ok | Verdict::Warning), "{situation:?}\n{all}"),
        Mail::Waits { cause, .. } => {
            assert_eq!(report.verdict, Verdict::Fault, "{situation:?}\n{all}");
            assert_eq!(report.fault.as_ref().map(|fault| fault.cause), Some(cause), "{situation:?}\n{all}");
        }
    }
    assert_eq!(found.certainty, analyse::Certainty::Proven, "{situation:?}\n{all}");
    let is_good = report.verdict == Verdict::Ok;
    assert_eq!(is_good, truth.side.is_none(), "{situation:?}\n{all}");
}

/// Without any help the recipient must not be accused of what is none of its doing.
async fn is_not_blamed_on_the_recipient(situation: Situation) {
    let (report, _stage) = checked(situation, Help::None).await;
    let side = report.diagnosis.side.map(|side| side.word());
    let all = report.shown(Detail::Everything, Color::Plain);
    let proven = report.diagnosis.certainty == analyse::Certainty::Proven;
    assert!(!(side == Some("recipient") && proven), "{situation:?}\n{all}");
}

macro_rules! situations {
    ($($name:ident: $situation:ident,)*) => {
        const TESTED: &[Situation] = &[$(Situation::$situation),*];
        $(#[tokio::test]
        async fn $name() {
            is_diagnosed(Situation::$situation).await;
        })*
    };
}

situations! {
    a_healthy_domain_is_ok: Healthy,
    a_healthy_domain_without_dane_is_neutral_and_not_red: HealthyWithoutDane,
    a_count_filter_is_found: CountFilter,
    a_count_filter_over_udp_alone_is_found: CountFilterOverUdp,
    a_count_filter_behind_a_silent_resolver_is_found: CountFilterBeyondSilence,
    a_count_filter_behind_a_resolver_that_fails_is_found: CountFilterBeyondServFail,
    a_type_filter_is_found: TypeFilter,
    a_count_filter_for_any_type_is_found: AnyCountFilter,
    a_size_filter_is_found: SizeFilter,
    an_edns_filter_is_found: EdnsFilter,
    an_edns_filter_over_udp_alone_is_found: EdnsFilterOverUdp,
    blocked_tcp_53_is_found: Tcp53Blocked,
    forged_denials_are_found: TlsaForged,
    a_resolver_that_strips_signatures_is_found: ResolverStrips,
    a_resolver_that_does_not_validate_is_found: ResolverNotValidating,
    a_resolver_that_fails_is_found: ResolverFails,
    a_bogus_zone_is_the_recipients: ZoneBogus,
    an_expired_zone_is_the_recipients: ZoneExpired,
    failing_name_servers_are_the_recipients: RecipientServFail,
    a_certificate_without_its_record_is_the_recipients: CertificateRolled,
    one_old_certificate_of_four_is_a_warning: OneOldCertificate,
    a_policy_that_misses_the_host_is_the_recipients: PolicyMissesHost,
    stripped_starttls_is_found: StartTlsStripped,
    a_masked_banner_is_found: BannerMasked,
    intercepted_tls_is_found: TlsIntercepted,
    a_proxy_for_everyone_is_found: ProxyForEveryone,
    a_refused_port_25_is_found: Port25Refused,
    a_silent_port_25_is_found: Port25Silent,
    a_wrong_clock_is_found: WrongClock,
}

#[test]
fn every_situation_is_checked() {
    assert_eq!(TESTED, Situation::ALL);
}

#[tokio::test]
async fn without_any_help_no_fault_on_the_way_is_proven_to_be_the_recipients() {
    let on_the_way = [
        Situation::CountFilter,
        Situation::CountFilterBeyondServFail,
        Situation::TypeFilter,
        Situation::StartTlsStripped,
        Situation::Port25Refused,
    ];
    for situation in on_the_way {
        is_not_blamed_on_the_recipient(situation).await;
    }
}
