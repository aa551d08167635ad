//! Every fault that must be told apart, found by `relay check`: the side and the word, the same
//! cause that delivery meets, and no message begun.

use dane_relay::check::evidence::Evidence;
use dane_relay::check::{CheckReport, Checker, Color, Detail, Verdict, analyse};
use dane_relay::clock::Clock;
use dane_relay::config::Config;
use dane_relay::lab::mx::host::RunningMxHost;
use dane_relay::lab::story::situation::MessageFate;
use dane_relay::lab::story::stage::{CANARY, DOMAIN};
use dane_relay::lab::{Situation, Stage};
use dane_relay::outcome::Side;
use futures_util::stream::{self, StreamExt as _};
use std::path::Path;

/// A host that has nothing to do with the domain.
const CONTROL: &str = "mx.neighbour.test";

/// Who is asked besides those that deliver mail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Help {
    /// Canary zone, an encrypted reference, a control.
    All,
    /// The canary zone alone.
    Canary,
    /// An encrypted reference and a control.
    Elsewhere,
    /// A check made elsewhere, and kept in a file.
    Outside,
    /// Nobody.
    None,
}

async fn configured(stage: &Stage, folder: &Path, help: Help) -> Config {
    let mut config = stage.config(folder).await.unwrap();
    if matches!(help, Help::All | Help::Canary) {
        config.check.canary = Some(CANARY.parse().unwrap());
    }
    if matches!(help, Help::All | Help::Elsewhere) {
        config.check.controls = vec![CONTROL.parse().unwrap()];
        config.check.references = vec![stage.encrypted_upstream().parse().unwrap()];
    }
    config
}

/// What somebody sees whose way is another one: what is wrong on this side is not there.
async fn seen_elsewhere(stage: &Stage) -> Evidence {
    let folder = tempfile::tempdir().unwrap();
    let mut config = stage.config(folder.path()).await.unwrap();
    config.dns.upstreams = vec![stage.encrypted_upstream().parse().unwrap()];
    let report = Checker::new(config, Clock::system()).unwrap().check(&DOMAIN.parse().unwrap()).await;
    // It comes from a file.
    serde_json::from_str(&serde_json::to_string(&report.evidence).unwrap()).unwrap()
}

async fn checked(situation: Situation, help: Help) -> (CheckReport, Stage) {
    let stage = Stage::calm(situation).await.unwrap();
    let is_here = matches!(situation.truth().side, Some(Side::Path | Side::Here | Side::Resolver));
    let before = if help == Help::Outside && is_here { Some(seen_elsewhere(&stage).await) } else { None };
    stage.strike().await.unwrap();
    let theirs = if help == Help::Outside && !is_here { Some(seen_elsewhere(&stage).await) } else { before };
    let folder = tempfile::tempdir().unwrap();
    let config = configured(&stage, folder.path(), help).await;
    let checker = Checker::new(config, Clock::system()).unwrap();
    let checker = match theirs {
        Some(theirs) => checker.beside(theirs),
        None => checker,
    };
    let report = checker.check(&DOMAIN.parse().unwrap()).await;
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
    // Names of hosts are there to be looked at; pages of libraries are not.
    let all = report.shown(Detail::Everything, Color::Plain);
    let foreign = all.replace("https://mta-sts.", "").replace("https://127.", "");
    assert!(!foreign.contains("http://") && !foreign.contains("https://") && !foreign.contains("www."), "{all}");
    let took_ms = report.evidence.took_ms;
    assert!(report.evidence.dns.len() <= 32, "{} probes", report.evidence.dns.len());
    assert!(took_ms < 60_000, "{took_ms} ms: every step has a limit");
    let json = serde_json::to_string(&report.evidence).unwrap();
    let read: Evidence = serde_json::from_str(&json).unwrap();
    assert_eq!(analyse::analyse(&read), report.diagnosis, "from a file it is the same");
}

fn nobody_was_sent_mail(stage: &Stage) {
    let hosts: Vec<&RunningMxHost> = stage.lab.hosts().chain([stage.proxy()]).collect();
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
        MessageFate::Delivered(_) => {
            assert!(matches!(report.verdict, Verdict::Ok | Verdict::Warning), "{situation:?}\n{all}")
        }
        MessageFate::Waits { cause, .. } | MessageFate::Returned { cause, .. } => {
            assert_eq!(report.verdict, Verdict::Fault, "{situation:?}\n{all}");
            assert_eq!(report.fault.as_ref().map(|fault| fault.cause), Some(cause), "{situation:?}\n{all}");
        }
    }
    assert_eq!(found.certainty, certainty(situation), "{situation:?}\n{all}");
    let is_good = report.verdict == Verdict::Ok;
    assert_eq!(is_good, truth.side.is_none(), "{situation:?}\n{all}");
}

/// What a server says of this host's address is its word alone, and who is slow may have been kept waiting.
const fn certainty(situation: Situation) -> analyse::Certainty {
    if matches!(situation, Situation::AddressListed | Situation::ResolverSlow) {
        analyse::Certainty::Likely
    } else {
        analyse::Certainty::Proven
    }
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
    an_ips_that_refuses_more_than_four_records_is_found: RefusedOverCount,
    an_ips_that_cuts_the_set_to_four_is_found: CutToFour,
    a_type_filter_is_found: TypeFilter,
    a_type_filter_behind_a_resolver_that_fails_is_found: TypeFilterBeyondServFail,
    a_count_filter_for_any_type_is_found: AnyCountFilter,
    a_size_filter_is_found: SizeFilter,
    an_edns_filter_is_found: EdnsFilter,
    an_edns_filter_over_udp_alone_is_found: EdnsFilterOverUdp,
    blocked_tcp_53_is_found: Tcp53Blocked,
    forged_denials_are_found: TlsaForged,
    a_resolver_that_strips_signatures_is_found: ResolverStrips,
    a_resolver_that_does_not_validate_is_found: ResolverNotValidating,
    a_resolver_that_fails_is_found: ResolverFails,
    a_resolver_that_has_no_keys_is_found: ResolverWithoutKeys,
    a_bogus_zone_is_the_recipients: ZoneBogus,
    an_expired_zone_is_the_recipients: ZoneExpired,
    failing_name_servers_are_the_recipients: RecipientServFail,
    name_servers_that_drop_tlsa_questions_are_the_recipients: RecipientDropsTlsa,
    name_servers_that_are_silent_for_one_name_are_the_recipients: RecipientSilent,
    dead_name_servers_are_the_recipients: NameServersDead,
    a_certificate_without_its_record_is_the_recipients: CertificateRolled,
    one_old_certificate_of_four_is_a_warning: OneOldCertificate,
    a_policy_that_misses_the_host_is_the_recipients: PolicyMissesHost,
    stripped_starttls_is_found: StartTlsStripped,
    a_masked_banner_is_found: BannerMasked,
    intercepted_tls_is_found: TlsIntercepted,
    a_proxy_for_everyone_is_found: ProxyForEveryone,
    a_gateway_for_everyone_is_found: GatewayForEveryone,
    a_firewall_that_cuts_every_handshake_is_found: HandshakesCut,
    an_address_on_a_block_list_is_ours_to_act_on: AddressListed,
    a_refused_port_25_is_found: Port25Refused,
    a_silent_port_25_is_found: Port25Silent,
    a_wrong_clock_is_found: WrongClock,
    a_count_filter_over_udp_alone_behind_a_resolver_that_fails_is_found: CountFilterOverUdpBeyondServFail,
    forged_denials_behind_a_resolver_that_fails_are_found: TlsaForgedBeyondServFail,
    wrong_trust_anchors_are_ours: WrongAnchors,
    a_public_certificate_without_its_record_is_the_recipients: PublicCertificateRolled,
    tls_intercepted_by_an_authority_that_is_trusted_here_is_found: InterceptedByTrusted,
    a_missing_intermediate_certificate_is_the_recipients: IntermediateMissing,
    a_policy_with_a_byte_order_mark_is_a_warning: PolicyWithMark,
    a_server_that_greets_after_six_seconds_is_ok: GreetsLate,
    a_server_whose_every_reply_is_late_is_ok: RepliesLate,
    a_slow_resolver_is_a_warning: ResolverSlow,
}

#[test]
fn every_situation_is_checked() {
    assert_eq!(TESTED, Situation::ALL);
}

/// Checks that run at once; they wait most of their time.
const SIDE_BY_SIDE: usize = 4;

/// Whoever is not at fault is never proven to be, whatever is missing for the proof.
async fn nobody_is_accused_wrongly(help: Help) {
    let checks = Situation::ALL.into_iter().map(|situation| async move {
        let (report, _stage) = Box::pin(checked(situation, help)).await;
        (situation, report)
    });
    let checked: Vec<_> = stream::iter(checks).buffered(SIDE_BY_SIDE).collect().await;
    golden::holds(help, &checked);
    let is_false = |(situation, report): &(Situation, CheckReport)| {
        let (found, truth) = (&report.diagnosis, situation.truth());
        let is_another = found.side != truth.side || truth.word.is_some_and(|word| found.word != word);
        found.certainty == analyse::Certainty::Proven && truth.side.is_some() && is_another
            || truth.side.is_none() && report.verdict != Verdict::Ok
    };
    let accused: Vec<_> = checked.iter().filter(|check| is_false(check)).map(|(s, r)| row(*s, r)).collect();
    assert!(accused.is_empty(), "{help:?}: proven, and false:\n{}", accused.join("\n"));
    // Where two causes fit, both are said, and what would decide.
    let undecided = |(_, report): &&(Situation, CheckReport)| {
        report.diagnosis.certainty != analyse::Certainty::Proven && report.diagnosis.also.is_empty()
    };
    let alone: Vec<_> = checked.iter().filter(undecided).map(|(s, r)| row(*s, r)).collect();
    assert!(alone.is_empty(), "{help:?}: not proven, and nothing else is said to fit:\n{}", alone.join("\n"));
}

/// What is said of every situation, word for word, in one file: a change of it is to be looked at.
mod golden {
    use super::{CheckReport, Help, Situation};
    use std::collections::BTreeMap;
    use std::path::{Path, PathBuf};
    use std::sync::Mutex;

    /// Set, the file is written again: `UPDATE_SITUATIONS=1 cargo test --test suite nobody_is_accused`.
    const UPDATE: &str = "UPDATE_SITUATIONS";
    const HEAD: &str = "# What relay check says of each situation of the lab (src/lab/story/situation.rs), by who helps it:\n\
                        # situation | who helps | level | side | certainty | word. Written by UPDATE_SITUATIONS=1; look at the\n\
                        # difference before it is committed.\n";
    /// Tests of one program write one after the other.
    static WRITING: Mutex<()> = Mutex::new(());

    fn file() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata/situations.txt")
    }

    fn row(help: Help, situation: Situation, report: &CheckReport) -> String {
        let found = &report.diagnosis;
        let side = found.side.map_or("nobody", |side| side.word());
        let (level, certainty, word) = (report.verdict.word(), found.certainty.word(), &found.word);
        format!("{situation:?} | {help:?} | {level} | {side} | {certainty} | {word}")
    }

    /// The rows by situation, in their order, and by who helps.
    fn ordered(rows: impl Iterator<Item = String>) -> Vec<String> {
        let place = |row: &str| {
            let name = row.split(" | ").next().unwrap_or_default();
            Situation::ALL.iter().position(|situation| format!("{situation:?}") == name)
        };
        let key = |row: String| ((place(&row), row.split(" | ").nth(1).map(str::to_owned)), row);
        rows.map(key).collect::<BTreeMap<_, _>>().into_values().collect()
    }

    /// Whether the file says the same.
    pub(super) fn holds(help: Help, checked: &[(Situation, CheckReport)]) {
        let _alone = WRITING.lock().unwrap();
        let found: Vec<String> = checked.iter().map(|(situation, report)| row(help, *situation, report)).collect();
        let text = std::fs::read_to_string(file()).unwrap_or_default();
        let (of_help, others): (Vec<&str>, Vec<&str>) = text
            .lines()
            .filter(|line| !line.starts_with('#'))
            .partition(|line| line.split(" | ").nth(1) == Some(format!("{help:?}").as_str()));
        if std::env::var_os(UPDATE).is_some() {
            let rows = others.into_iter().map(str::to_owned).chain(found);
            std::fs::write(file(), HEAD.to_owned() + &ordered(rows).join("\n") + "\n").unwrap();
            return;
        }
        let other: Vec<&String> = found.iter().filter(|row| !of_help.contains(&row.as_str())).collect();
        assert!(other.is_empty() && of_help.len() == found.len(), "not as in testdata/situations.txt:\n{other:#?}");
    }
}

fn row(situation: Situation, report: &CheckReport) -> String {
    let found = &report.diagnosis;
    let side = found.side.map_or("nobody", |side| side.word());
    let (certainty, word, also) = (found.certainty.word(), &found.word, found.also.join(" "));
    format!("{situation:?} | {} | {side} | {certainty} | {word} | {also}", report.verdict.word())
}

#[tokio::test]
async fn without_any_help_nobody_is_accused_wrongly() {
    nobody_is_accused_wrongly(Help::None).await;
}

#[tokio::test]
async fn with_a_canary_zone_alone_nobody_is_accused_wrongly() {
    nobody_is_accused_wrongly(Help::Canary).await;
}

#[tokio::test]
async fn with_a_reference_and_a_control_alone_nobody_is_accused_wrongly() {
    nobody_is_accused_wrongly(Help::Elsewhere).await;
}

#[tokio::test]
async fn with_a_check_from_elsewhere_alone_nobody_is_accused_wrongly() {
    nobody_is_accused_wrongly(Help::Outside).await;
}

/// Word, side and certainty of one check.
async fn found(situation: Situation, help: Help) -> (String, Option<Side>, analyse::Certainty) {
    let (report, _stage) = Box::pin(checked(situation, help)).await;
    (report.diagnosis.word, report.diagnosis.side, report.diagnosis.certainty)
}

#[tokio::test]
async fn a_check_from_elsewhere_is_a_witness() {
    let proven = |word: &str, side| (word.to_owned(), Some(side), analyse::Certainty::Proven);
    let likely = |word: &str, side| (word.to_owned(), Some(side), analyse::Certainty::Likely);
    // The same certificate, and the same answer that does not prove itself, are met there, too.
    let rolled = Box::pin(found(Situation::CertificateRolled, Help::Outside)).await;
    assert_eq!(rolled, proven("tlsa-invalid", Side::Recipient));
    let bogus = Box::pin(found(Situation::ZoneBogus, Help::Outside)).await;
    assert_eq!(bogus, proven("dnssec-invalid", Side::Recipient));
    // There it works: the recipient is not accused, though nobody else is asked.
    let filtered = Box::pin(found(Situation::CountFilter, Help::Outside)).await;
    assert_eq!((filtered.0.as_str(), filtered.1), ("local-dns-count-filter", Some(Side::Path)));
    let intercepted = Box::pin(found(Situation::TlsIntercepted, Help::Outside)).await;
    assert_eq!(intercepted, likely("local-tls-intercepted", Side::Path));
    let cut = Box::pin(found(Situation::HandshakesCut, Help::Outside)).await;
    assert_eq!(cut, likely("local-tls-blocked", Side::Path));
}

#[tokio::test]
async fn a_public_certificate_clears_the_way_and_one_that_is_only_trusted_here_does_not() {
    let public = Box::pin(found(Situation::PublicCertificateRolled, Help::None)).await;
    assert_eq!(public, ("tlsa-invalid".to_owned(), Some(Side::Recipient), analyse::Certainty::Proven));
    for situation in [Situation::CertificateRolled, Situation::InterceptedByTrusted] {
        let (.., certainty) = Box::pin(found(situation, Help::None)).await;
        assert_eq!(certainty, analyse::Certainty::Likely, "{situation:?}");
    }
}
