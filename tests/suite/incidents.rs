//! Many domains that fail alike are one incident of one side: it opens and closes by itself, with the
//! timers of service, and everybody is told once.

use crate::relay::{PATIENCE, SENDER, World, content, hand_in, heard, lab, metrics, says, within};
use dane_relay::command::incidents;
use dane_relay::command::why;
use dane_relay::config::SpoolConfig;
use dane_relay::envelope::QueueId;
use dane_relay::lab::dns::server::PathFault;
use dane_relay::lab::mx::behaviour::Received;
use dane_relay::lab::story::stage::canary_zone;
use dane_relay::lab::{LabBuilder, TroubleAt};
use dane_relay::outcome::{Certainty, Side};
use dane_relay::service::start::Relay;
use dane_relay::spool::incident::{Incident, IncidentEnd, OpenedBy};
use dane_relay::spool::open_ledger;
use dane_relay::text::table::TableView;
use std::future::Future;
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// The box of the seed story.
const BOX: PathFault = PathFault::DropTlsaOver(4);
const CANARY: &str = "canary.test";
/// In so much time somebody has to know, and mail has to go on.
const MINUTE: Duration = Duration::from_secs(60);

fn partner(nth: usize) -> String {
    format!("partner{nth}.test")
}

/// Partners with more TLSA records than the box lets pass.
fn partners(count: usize) -> LabBuilder {
    (0..count)
        .fold(lab().domain(CANARY, canary_zone), |lab, nth| lab.domain(&partner(nth), |d| d.host(|h| h.and_misfits(5))))
}

async fn known(spool: &SpoolConfig) -> Vec<Incident> {
    incidents::incidents(open_ledger(spool).await.unwrap().as_ref()).await.unwrap()
}

async fn within_a_minute<T, F: Future<Output = Option<T>>>(mut ask: impl FnMut() -> F, what: &str) -> T {
    let asking = async {
        loop {
            if let Some(answer) = ask().await {
                return answer;
            }
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(MINUTE, asking).await.unwrap_or_else(|_elapsed| panic!("not within a minute: {what}"))
}

/// How many incidents `/metrics` says are open, by series.
async fn firing(relay: &Relay) -> Vec<(String, f64)> {
    let all = metrics(relay.admin).await;
    all.into_iter().filter(|(name, value)| name.starts_with("relay_incidents_open") && *value > 0.0).collect()
}

fn text_of(message: &Received) -> String {
    // Lines of quoted-printable end in =; reports in English need none.
    String::from_utf8_lossy(&message.content).replace("\r\n", "\n")
}

/// Every message tells of the incident that it met.
async fn why_names_it(spool: &SpoolConfig, ids: &[QueueId], opened: &Incident) {
    let ledger = open_ledger(spool).await.unwrap();
    for id in ids {
        let why = why::look_up(ledger.as_ref(), &id.to_string(), 1).await.unwrap();
        assert_eq!(why.stories[0].incidents.iter().map(|met| met.id).collect::<Vec<_>>(), [opened.id]);
        let text = why.text(&TableView::WHOLE, why::Stories::Newest);
        assert!(text.contains(&format!("{}: local-dns-count-filter, side: path", opened.id)), "{text}");
    }
}

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one story from the first lost answer to the last message")]
async fn a_box_before_twelve_domains_is_one_incident_with_one_mail_and_ends_by_itself() {
    let lab = partners(12).start().await.unwrap();
    let servers = lab.authorities().await.unwrap();
    lab.dns().set_path([BOX]);
    let mut spool = None;
    let world = World::beside(lab, |_lab, config| {
        config.dns.root_hints = vec![servers.root()];
        config.dns.timeout = Duration::from_secs(3);
        config.check.canary = Some(CANARY.parse().unwrap());
        config.postmaster = Some("postmaster@office.test".parse().unwrap());
        // As in service: nothing is tried again for minutes, unless somebody knows better.
        config.retry = dane_relay::config::Retry::default();
        config.notify.policy_failure_after = Duration::from_millis(1);
        spool = Some(config.spool.clone());
    })
    .await;
    let spool = spool.unwrap();
    let mut ids: Vec<QueueId> = Vec::new();
    for nth in 0..12 {
        let to = format!("bob@{}", partner(nth));
        ids.push(hand_in(world.smtp(), SENDER, &[&to], content(&to).as_bytes()).await);
    }

    let opened = within_a_minute(
        || async {
            let known = known(&spool).await;
            known.into_iter().find(|incident| incident.is_open() && incident.domain_count == 12)
        },
        "an incident with twelve domains",
    )
    .await;
    assert_eq!((opened.cause.as_str(), opened.side), ("local-dns-count-filter", Side::Path), "{opened:#?}");
    assert!(opened.certainty >= Certainty::Likely && opened.messages == 12, "{opened:#?}");
    assert!(!opened.evidence.is_empty() && !opened.what_to_do.is_empty(), "{opened:#?}");
    assert_eq!(known(&spool).await.len(), 1);
    let series = r#"relay_incidents_open{cause="local-dns-count-filter",side="path"}"#.to_owned();
    assert_eq!(firing(&world.relay).await, [(series, 1.0)]);

    // Mail that meets it now is told of with the right side, and no recipient is blamed.
    let to = "carol@partner3.test";
    ids.push(hand_in(world.smtp(), SENDER, &[to], content(to).as_bytes()).await);
    let inbox = world.mx("office.test");
    let notice = within_a_minute(
        || async { inbox.messages().iter().map(text_of).find(|text| text.contains(to)) },
        "a notice about mail in the incident",
    )
    .await;
    assert!(notice.contains("The fault is on our side") && notice.contains(&opened.id.to_string()), "{notice}");
    assert!(!notice.contains("administrators of the recipient's"), "{notice}");

    lab_is_clean(&world);
    let closed = within_a_minute(
        || async { known(&spool).await.into_iter().find(|incident| !incident.is_open()) },
        "the end of the incident",
    )
    .await;
    // The canary may have been looked at before the domains had failed: then it is what has to pass.
    let by_itself = [Some(IncidentEnd::Recovered), Some(IncidentEnd::CheckPassed)].contains(&closed.ended);
    assert!(closed.id == opened.id && by_itself, "{closed:#?}");
    for (nth, id) in ids.iter().enumerate() {
        let to = if nth < 12 { format!("bob@{}", partner(nth)) } else { to.to_owned() };
        assert_eq!(world.delivered(*id, &to).await.tls, "dane");
    }
    within_a_minute(|| async { firing(&world.relay).await.is_empty().then_some(()) }, "the end of the alert").await;
    let told = |text: &String| text.contains("Mail to many domains stops");
    let mails = inbox.messages().iter().map(text_of).filter(told).count();
    assert_eq!(mails, 1, "the postmaster has one mail");

    why_names_it(&spool, &ids, &opened).await;
    world.stop().await;
}

fn lab_is_clean(world: &World) {
    world.lab.dns().set_path([]);
}

#[tokio::test]
async fn an_incident_that_only_messages_meet_stays_open_until_mail_goes_out() {
    let listed = "451 4.7.1 Service unavailable; client host [127.0.0.1] blocked using a blocklist";
    let lab = (0..5)
        .fold(lab(), |lab, nth| lab.domain(&partner(nth), |d| d.host(|h| h.trouble(TroubleAt::Rcpt, says(listed)))));
    let mut spool = None;
    let world = World::with(lab, |_lab, config| spool = Some(config.spool.clone())).await;
    let spool = spool.unwrap();
    for nth in 0..5 {
        let to = format!("bob@{}", partner(nth));
        hand_in(world.smtp(), SENDER, &[&to], content(&to).as_bytes()).await;
    }
    let opened = within_a_minute(|| async { known(&spool).await.pop() }, "an incident").await;
    assert_eq!((opened.side, opened.met_by_messages_alone), (Side::Here, true), "{opened:#?}");
    // Up to MAIL FROM all is well, and that for longer than it takes to try it twice.
    let one_of_them = partner(0);
    within_a_minute(|| async { (heard(world.mx(&one_of_them), "RCPT") > 60).then_some(()) }, "more attempts").await;
    let ongoing = known(&spool).await;
    assert!(ongoing.len() == 1 && ongoing[0].is_open() && ongoing[0].reopened == 0, "{ongoing:#?}");
    (0..5).for_each(|nth| world.mx(&partner(nth)).trouble(TroubleAt::Rcpt, None));
    let closed = within_a_minute(
        || async { known(&spool).await.into_iter().find(|incident| !incident.is_open()) },
        "the end of the incident",
    )
    .await;
    let by_mail = [Some(IncidentEnd::Recovered), Some(IncidentEnd::Delivered)].contains(&closed.ended);
    assert!(closed.id == opened.id && by_mail && closed.reopened == 0, "{closed:#?}");
}

#[tokio::test]
async fn an_incident_survives_a_restart_and_closes_after_it() {
    let lab = partners(3).start().await.unwrap();
    lab.dns().set_path([BOX]);
    let folder = tempfile::tempdir().unwrap();
    let mut config = crate::relay::config(&lab, folder.path());
    config.dns.timeout = Duration::from_secs(1);
    config.check.canary = Some(CANARY.parse().unwrap());
    config.retry = dane_relay::config::Retry::default();
    let clock = dane_relay::clock::Clock::system();
    let relay = dane_relay::service::start::start(config.clone(), clock.clone()).await.unwrap();
    for nth in 0..3 {
        let to = format!("bob@{}", partner(nth));
        hand_in(relay.smtp[0], SENDER, &[&to], content(&to).as_bytes()).await;
    }
    let opened = within_a_minute(|| async { known(&config.spool).await.pop() }, "an incident").await;
    relay.stop();
    within(relay.ended(), "the end of the relay").await.unwrap();
    assert_eq!(known(&config.spool).await[0].until, None);
    lab.dns().set_path([]);
    let relay = dane_relay::service::start::start(config.clone(), clock).await.unwrap();
    let closed = within_a_minute(
        || async { known(&config.spool).await.into_iter().find(|incident| !incident.is_open()) },
        "the end of the incident",
    )
    .await;
    assert_eq!((closed.id, closed.since), (opened.id, opened.since));
    relay.stop();
    timeout(PATIENCE, relay.ended()).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_check_of_this_host_that_fails_opens_one_without_any_mail_and_it_ends_when_it_passes() {
    let lab = lab().start().await.unwrap();
    lab.dns().set_path([PathFault::ServFail]);
    let mut spool = None;
    let world = World::beside(lab, |_lab, config| spool = Some(config.spool.clone())).await;
    let spool = spool.unwrap();
    let opened = within_a_minute(|| async { known(&spool).await.pop() }, "an incident").await;
    assert_eq!((opened.opened_by, opened.side), (OpenedBy::Check("validation".into()), Side::Resolver));
    lab_is_clean(&world);
    let closed = within_a_minute(
        || async { known(&spool).await.into_iter().find(|incident| !incident.is_open()) },
        "the end of the incident",
    )
    .await;
    assert_eq!((closed.id, closed.ended), (opened.id, Some(IncidentEnd::CheckPassed)));
    world.stop().await;
}

#[tokio::test]
async fn a_box_that_the_canary_meets_is_an_incident_long_before_the_next_look_at_this_host() {
    let lab = lab().domain(CANARY, canary_zone).start().await.unwrap();
    let mut spool = None;
    let world = World::beside(lab, |_lab, config| {
        config.dns.timeout = Duration::from_millis(500);
        config.check.canary = Some(CANARY.parse().unwrap());
        config.check.canary_every = Duration::from_millis(500);
        config.postmaster = Some("postmaster@office.test".parse().unwrap());
        spool = Some(config.spool.clone());
    })
    .await;
    let spool = spool.unwrap();
    // The look at the host is over, and the next one is an hour away.
    let looked = || async { world.metrics().await.contains_key("relay_selfcheck_status{check=\"spf\"}").then_some(()) };
    within_a_minute(looked, "the first look at this host").await;
    assert_eq!(known(&spool).await, []);
    world.lab.dns().set_path([BOX]);
    let opened = within_a_minute(|| async { known(&spool).await.pop() }, "an incident").await;
    assert_eq!((&opened.opened_by, opened.side), (&OpenedBy::Check("canary".into()), Side::Path), "{opened:#?}");
    assert!(incidents::text(&[opened], &TableView::WHOLE).contains("no mail is known to have met it"));
    let inbox = world.mx("office.test");
    let mail = within_a_minute(|| async { inbox.messages().first().map(text_of) }, "the mail to the postmaster").await;
    assert!(mail.contains("The check \"canary\"") && !mail.contains("0 domains"), "{mail}");
    lab_is_clean(&world);
    within_a_minute(
        || async { known(&spool).await.into_iter().find(|incident| !incident.is_open()) },
        "the end of the incident",
    )
    .await;
}
