//! The watch over the domains that mail goes to: what will go wrong is found before it does, without mail,
//! and the text for the contact says it.

use crate::relay::{World, config, heard, lab, until};
use dane_relay::check::Checker;
use dane_relay::check::posture::store::WatchedDomain;
use dane_relay::check::posture::view as watch;
use dane_relay::check::posture::{self, PostureKind};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::command::what_if;
use dane_relay::config::Config;
use dane_relay::lab::sts::spec::StsSpec;
use dane_relay::lab::{Certificate, LabBuilder};
use dane_relay::pipeline::outbound::Outbound;
use dane_relay::spool::open_ledger;
use dane_relay::text::table::TableView;
use std::time::Duration;

/// What is found of a domain when the clock shows `at`.
async fn found(lab: LabBuilder, domain: &str, at: impl FnOnce(Timestamp) -> Timestamp) -> WatchedDomain {
    let lab = lab.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let clock = Clock::system();
    let checker = Checker::new(config(&lab, folder.path()), clock.clone()).unwrap();
    let report = checker.check(&domain.parse().unwrap()).await;
    let signatures = checker.signatures(&report).await;
    assert_eq!(heard(lab.mx(domain).unwrap(), "MAIL"), 0, "no mail is sent");
    posture::watched(&report, &signatures, at(clock.now()))
}

fn kinds(watched: &WatchedDomain) -> Vec<PostureKind> {
    watched.findings.iter().map(|finding| finding.kind).collect()
}

fn sound() -> LabBuilder {
    lab().domain("partner.test", |d| d.host(|h| h.and_misfits(1)))
}

#[tokio::test]
async fn a_domain_in_good_order_has_nothing_to_say() {
    let watched = found(sound(), "partner.test", |now| now).await;
    assert_eq!((kinds(&watched), watched.contact.as_str()), (vec![], "postmaster@partner.test"));
}

#[tokio::test]
async fn rfc4035_5_3_1_a_signature_at_the_end_of_its_life_is_named_a_day_before() {
    let first_end = {
        let lab = sound().start().await.unwrap();
        let folder = tempfile::tempdir().unwrap();
        let checker = Checker::new(config(&lab, folder.path()), Clock::system()).unwrap();
        let report = checker.check(&"partner.test".parse().unwrap()).await;
        checker.signatures(&report).await[0].ends
    };
    let hours_before = |hours: i64| Timestamp(first_end.0 - hours * 3_600_000);
    let watched = found(sound(), "partner.test", |_now| hours_before(20)).await;
    assert!(kinds(&watched).contains(&PostureKind::SignatureEnds), "{watched:#?}");
    assert!(posture::letter(&watched).contains("the signature of"), "{}", posture::letter(&watched));
    let watched = found(sound(), "partner.test", |_now| hours_before(30)).await;
    assert!(!kinds(&watched).contains(&PostureKind::SignatureEnds), "{watched:#?}");
}

#[tokio::test]
async fn one_of_several_addresses_with_another_certificate_is_named() {
    let lab = lab().domain("partner.test", |d| d.host(|h| h.and_at_another_address(Certificate::SelfSigned)));
    let watched = found(lab, "partner.test", |now| now).await;
    assert_eq!(kinds(&watched), [PostureKind::AddressDiffers], "{watched:#?}");
    assert!(watched.findings[0].detail.contains("is good at another address"), "{watched:#?}");
}

/// The end of the lab's certificates: 2099-01-01.
const CERTIFICATES_END: Timestamp = Timestamp(4_070_908_800_000);

fn days_before_the_end(days: i64) -> Timestamp {
    Timestamp(CERTIFICATES_END.0 - days * 86_400_000)
}

fn with_policy(of: impl FnOnce(StsSpec) -> StsSpec) -> LabBuilder {
    lab().domain("partner.test", |d| d.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(of))
}

#[tokio::test]
async fn a_certificate_that_ends_is_named_two_weeks_before_where_somebody_looks_at_it() {
    for (days, expected) in [(13, true), (15, false)] {
        let watched = found(with_policy(|p| p), "partner.test", |_now| days_before_the_end(days)).await;
        assert_eq!(kinds(&watched).contains(&PostureKind::CertificateEnds), expected, "{days}: {watched:#?}");
    }
    // By DANE-EE nobody looks (RFC 7671 §5.1).
    let watched = found(sound(), "partner.test", |_now| days_before_the_end(13)).await;
    assert!(!kinds(&watched).contains(&PostureKind::CertificateEnds), "{watched:#?}");
}

#[tokio::test]
async fn rfc7671_8_1_records_that_fit_the_present_key_alone_are_named_before_the_next_one() {
    for (spare, expected) in [(0, true), (1, false)] {
        let lab = lab().domain("partner.test", |d| d.host(|h| h.and_misfits(spare)));
        let watched = found(lab, "partner.test", |_now| days_before_the_end(13)).await;
        assert_eq!(kinds(&watched).contains(&PostureKind::TlsaWithoutNextKey), expected, "{spare}: {watched:#?}");
    }
}

#[tokio::test]
async fn rfc8461_4_1_a_host_that_the_policy_does_not_list_is_named() {
    let watched = found(with_policy(|p| p.mx(&["old.partner.test"])), "partner.test", |now| now).await;
    assert_eq!(kinds(&watched), [PostureKind::HostNotInPolicy], "{watched:#?}");
    assert!(posture::letter(&watched).contains("mx.partner.test"), "{}", posture::letter(&watched));
}

#[tokio::test]
async fn rfc8461_3_3_a_policy_that_nobody_can_use_is_named_by_the_watch_of_a_running_relay() {
    let lab =
        with_policy(|p| p.raw("\u{feff}version: STSv1\r\nmode: enforce\r\nmx: mx.partner.test\r\nmax_age: 86400\r\n"));
    let lab = lab.start().await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    // As the watch does it: by what delivery finds out, and nothing besides.
    let out = Outbound::for_command(config(&lab, folder.path()), Clock::system()).unwrap();
    let report = Checker::over(out).check(&"partner.test".parse().unwrap()).await;
    let watched = posture::watched(&report, &[], Clock::system().now());
    assert_eq!(kinds(&watched), [PostureKind::PolicyUnusable], "{watched:#?}");
    assert!(!watched.findings[0].detail.contains("http"), "{watched:#?}");
}

#[tokio::test]
async fn a_relay_watches_the_domains_that_its_mail_went_to_and_the_ledger_answers_what_if() {
    let mut kept: Option<Config> = None;
    let world = World::with(sound().domain("plain.test", |d| d.plain()), |_lab, config| {
        config.watch.domains = 720;
        config.watch.every = Duration::from_secs(3600);
        kept = Some(config.clone());
    })
    .await;
    let config = kept.unwrap();
    for to in ["bob@partner.test", "bob@plain.test"] {
        world.delivers(to).await;
    }
    let known = until(
        || async {
            let known = watch::list(&config);
            (known.len() == 2).then_some(known)
        },
        "both domains in the list",
    )
    .await;
    assert!(known.iter().all(|one| one.verdict == "OK"), "{known:#?}");
    let text = watch::list_text(&known, &config, &TableView::WHOLE);
    assert!(text.starts_with("DOMAIN ") && text.contains("partner.test"), "{text}");
    assert_eq!(world.metrics().await["relay_watch_domains"], 2.0);

    let ledger = open_ledger(&config.spool).await.unwrap();
    let ask = async |level: &str, domain: &str| {
        let supposition = level.parse().unwrap();
        what_if::what_if(ledger.as_ref(), supposition, &domain.parse().unwrap()).await.unwrap()
    };
    let strict = ask("tls=dane-only", "plain.test").await;
    assert_eq!((strict.deliveries, strict.would_have_waited.len()), (1, 1), "{}", strict.text());
    assert!(strict.text().contains("nobody vouched for the certificate"), "{}", strict.text());
    let sound = ask("tls=dane-only", "partner.test").await;
    assert_eq!((sound.deliveries, sound.would_have_waited.len()), (1, 0), "{}", sound.text());
    world.stop().await;
}
