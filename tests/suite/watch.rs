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
use dane_relay::lab::{Certificate, LabBuilder};
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
    assert!(!signatures.is_empty(), "the lab signs its zones");
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
