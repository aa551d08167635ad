//! What is in force when: records, kept policies and fetches together (RFC 8461 §3, §5.1, §8.3,
//! §10.2), over a real policy host and a store on disk.
#![expect(clippy::disallowed_methods, reason = "kept policies are damaged and copied by hand")]

use super::driver::{StsClient, keep_fresh};
use super::failure::FetchFailure;
use super::memory::Held;
use super::policy::Mode;
use super::record::RecordError;
use super::testing::{HttpReply, POLICY, StsWorld, domain, failed, ok, reply};
use super::{StsAbsent, StsState};
use crate::resolve::answer::{Freshness, RecordType};
use std::sync::Arc;
use std::time::Duration;
use tokio_util::sync::CancellationToken;

const DAY: Duration = Duration::from_secs(86_400);
const MINUTE: Duration = Duration::from_secs(60);

/// The id of the policy in force, or why there is none.
async fn state(client: &StsClient) -> Result<String, StsAbsent> {
    id(client.policy_for(&domain("a.test")).await)
}

async fn recheck(client: &StsClient) -> Result<String, StsAbsent> {
    id(client.recheck(&domain("a.test")).await)
}

fn id(state: StsState) -> Result<String, StsAbsent> {
    match state {
        StsState::Policy(policy) => Ok(policy.id.as_ref().map_or_else(String::new, ToString::to_string)),
        StsState::Absent(absent) => Err(absent),
    }
}

fn is(id: &str) -> Result<String, StsAbsent> {
    Ok(id.to_owned())
}

const UNAVAILABLE: FetchFailure = FetchFailure::Status { status: 503 };

fn down() -> HttpReply {
    reply("503 Service Unavailable", "", "")
}

/// Waits until something that goes on beside the test has come true.
async fn until(mut holds: impl FnMut() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(MINUTE, waiting).await.unwrap();
}

#[tokio::test]
async fn rfc8461_3_a_policy_is_fetched_once_for_its_id() {
    let world = StsWorld::new().await;
    let client = world.client();
    for _message in 0..3 {
        assert_eq!(state(&client).await, is("1"));
    }
    assert_eq!((world.host.gets(), world.events()), (1, vec!["fetched a.test".to_owned()]));
    let kept = client.cached(&domain("a.test")).unwrap();
    assert_eq!((kept.text.as_str(), kept.terms.mode, kept.fetched_at), (POLICY, Mode::Enforce, world.clock.now()));
}

#[tokio::test]
async fn rfc8461_3_1_without_a_usable_record_nothing_is_fetched() {
    let world = StsWorld::new().await;
    let client = world.client();
    world.zone.withdraw("a.test");
    assert_eq!(state(&client).await, Err(StsAbsent::NoRecord));
    world.zone.announce("a.test", "v=spf1 -all");
    assert_eq!(state(&client).await, Err(StsAbsent::NoRecord));
    world.zone.announce("a.test", "v=STSv1; id=1-2;");
    assert_eq!(state(&client).await, Err(StsAbsent::UnusableRecord(RecordError::BadId)));
    world.zone.set("_mta-sts.a.test", RecordType::Txt, failed("_mta-sts.a.test", None));
    assert!(matches!(state(&client).await, Err(StsAbsent::Unknown(_))));
    assert_eq!(world.host.gets(), 0);
}

#[tokio::test]
async fn rfc8461_3_1_a_record_that_breaks_the_rules_leaves_the_kept_policy_in_force() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.zone.announce("a.test", "v=STSv1; id=;");
    assert_eq!(state(&client).await, is("1"));
}

#[tokio::test]
async fn rfc8461_3_3_without_a_fetchable_policy_mail_goes_as_without_and_five_minutes_pass() {
    let world = StsWorld::new().await;
    let client = world.client();
    world.host.say(down());
    for _message in 0..3 {
        assert_eq!(state(&client).await, Err(StsAbsent::FetchFailed(UNAVAILABLE)));
        assert_eq!(recheck(&client).await, Err(StsAbsent::FetchFailed(UNAVAILABLE)));
    }
    assert_eq!(world.host.gets(), 1);
    assert_eq!(world.events(), ["failed a.test sts-policy-fetch-error kept nothing"]);
    world.host.say(ok(POLICY));
    world.clock.advance(5 * MINUTE - Duration::from_millis(1));
    assert_eq!(state(&client).await, Err(StsAbsent::FetchFailed(UNAVAILABLE)));
    world.clock.advance(Duration::from_millis(1));
    assert_eq!(state(&client).await, is("1"));
    assert_eq!(world.host.gets(), 2);
}

#[tokio::test]
async fn rfc8461_3_3_another_id_is_tried_at_once() {
    let world = StsWorld::new().await;
    let client = world.client();
    world.host.say(down());
    assert!(state(&client).await.is_err());
    world.host.say(ok(POLICY));
    world.zone.announce("a.test", "v=STSv1; id=2;");
    assert_eq!(state(&client).await, is("2"));
}

#[tokio::test]
async fn rfc8461_5_1_an_unexpired_policy_outlasts_record_host_and_restart() {
    let world = StsWorld::new().await;
    assert_eq!(state(&world.client()).await, is("1"));
    world.host.say(down());
    for gone in [None, Some(failed("_mta-sts.a.test", None)), Some(failed("_mta-sts.a.test", Some("no signature")))] {
        match gone {
            None => world.zone.withdraw("a.test"),
            Some(answer) => world.zone.set("_mta-sts.a.test", RecordType::Txt, answer),
        }
        let restarted = world.client();
        assert_eq!(state(&restarted).await, is("1"));
        assert_eq!(recheck(&restarted).await, is("1"));
    }
    world.clock.advance(7 * DAY - Duration::from_millis(1));
    assert_eq!(state(&world.client()).await, is("1"));
    world.clock.advance(Duration::from_millis(1));
    assert!(matches!(state(&world.client()).await, Err(StsAbsent::Unknown(_))));
}

#[tokio::test]
async fn rfc8461_3_3_a_policy_is_refreshed_daily_without_mail() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.zone.withdraw("a.test");
    world.clock.advance(DAY - Duration::from_millis(1));
    client.refresh_those_due().await;
    assert_eq!(world.host.gets(), 1);
    world.clock.advance(Duration::from_millis(1));
    client.refresh_those_due().await;
    assert_eq!(world.host.gets(), 2, "also without its record");
    let kept = client.cached(&domain("a.test")).unwrap();
    assert_eq!(kept.fetched_at, world.clock.now(), "and holds from then on");
    assert_eq!(kept.id.as_ref().unwrap().as_str(), "1");
}

#[tokio::test]
async fn rfc8461_3_3_a_refresh_that_fails_is_told_kept_and_tried_hourly() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.events();
    world.host.say(down());
    world.clock.advance(DAY);
    client.refresh_those_due().await;
    client.refresh_those_due().await;
    assert_eq!(world.events(), ["failed a.test sts-policy-fetch-error kept enforce"]);
    let failure = world.client().cached(&domain("a.test")).unwrap().refresh_failure.clone().unwrap();
    assert_eq!((failure.at, failure.result_type.as_str()), (world.clock.now(), "sts-policy-fetch-error"));
    assert_eq!(failure.sentence, "the policy host answered with HTTP status 503");
    world.clock.advance(60 * MINUTE);
    client.refresh_those_due().await;
    assert_eq!(world.host.gets(), 3);
    world.host.say(ok(POLICY));
    world.clock.advance(60 * MINUTE);
    client.refresh_those_due().await;
    assert_eq!(client.cached(&domain("a.test")).unwrap().refresh_failure, None);
}

#[tokio::test]
async fn an_expired_policy_is_forgotten_on_disk_as_well() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.clock.advance(14 * DAY - Duration::from_millis(1));
    client.refresh_those_due().await;
    assert!(matches!(world.client().kept(&domain("a.test")), Held::Policy(_)), "the clock may be wrong");
    world.clock.advance(Duration::from_millis(1));
    client.refresh_those_due().await;
    assert_eq!(world.client().kept(&domain("a.test")), Held::Nothing);
}

#[tokio::test]
async fn rfc8461_5_1_a_clock_that_is_wrong_for_a_while_costs_no_policy() {
    let world = StsWorld::new().await;
    assert_eq!(state(&world.client()).await, is("1"));
    world.zone.withdraw("a.test");
    world.host.say(down());
    for (advance, back) in [(10 * DAY, 10 * DAY), (Duration::ZERO, 9000 * DAY)] {
        world.clock.advance(advance);
        world.client().refresh_those_due().await;
        world.clock.set_back(back);
        let restarted = world.client();
        assert_eq!(state(&restarted).await, is("1"));
        restarted.refresh_those_due().await;
        assert_eq!(state(&world.client()).await, is("1"));
    }
    // It was fetched in a time to come: it lives from when that was noticed, and no longer.
    world.clock.advance(7 * DAY);
    assert_eq!(state(&world.client()).await, Err(StsAbsent::NoRecord));
}

#[tokio::test]
async fn keeping_fresh_begins_at_the_start_and_ends_with_the_stop() {
    let world = StsWorld::new().await;
    assert_eq!(state(&world.client()).await, is("1"));
    world.clock.advance(2 * DAY);
    let stop = CancellationToken::new();
    let keeping = tokio::spawn(keep_fresh(Arc::new(world.client()), stop.clone()));
    until(|| world.host.gets() == 2).await;
    stop.cancel();
    keeping.await.unwrap();
}

#[tokio::test]
async fn rfc8461_3_1_a_new_id_is_fetched_beside_the_delivery() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.zone.announce("a.test", "v=STSv1; id=2;");
    world.host.say(ok(&POLICY.replace("enforce", "testing")));
    assert_eq!(state(&client).await, is("1"), "this mail does not wait");
    until(|| client.cached(&domain("a.test")).unwrap().terms.mode == Mode::Testing).await;
    assert_eq!(state(&client).await, is("2"));
    assert_eq!(world.host.gets(), 2);
}

#[tokio::test]
async fn rfc8461_5_1_a_new_id_that_cannot_be_fetched_leaves_the_old_policy() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.zone.announce("a.test", "v=STSv1; id=2;");
    world.host.say(ok("nonsense"));
    for _message in 0..3 {
        assert_eq!(recheck(&client).await, is("1"));
        assert_eq!(state(&client).await, is("1"));
    }
    assert_eq!(world.host.gets(), 2);
}

#[tokio::test]
async fn rfc8461_5_1_before_mail_is_given_up_the_record_is_asked_for_again() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    assert_eq!(recheck(&client).await, is("1"));
    let txt = "_mta-sts.a.test TXT".to_owned();
    let asked: Vec<_> = world.zone.asked().into_iter().filter(|(question, _)| *question == txt).collect();
    assert_eq!(asked, [(txt.clone(), Freshness::Kept), (txt, Freshness::Asked)]);
    assert_eq!(world.host.gets(), 1, "the id is the same");
    world.zone.announce("a.test", "v=STSv1; id=2;");
    assert_eq!(recheck(&client).await, is("2"), "this one waits");
}

#[tokio::test]
async fn rfc8461_3_3_an_id_that_changes_with_every_question_makes_no_fetch_for_each_message() {
    let world = StsWorld::new().await;
    let client = world.client();
    for fetchable in [true, false] {
        let before = world.host.gets();
        world.host.say(if fetchable { ok(POLICY) } else { down() });
        for message in 0..50 {
            world.zone.announce("a.test", &format!("v=STSv1; id={message};"));
            assert!(recheck(&client).await.is_ok());
            assert!(state(&client).await.is_ok());
        }
        assert_eq!(world.host.gets() - before, if fetchable { 3 } else { 0 });
    }
    let fresh = world.zone.asked().iter().filter(|(_, freshness)| *freshness == Freshness::Asked).count();
    assert_eq!(fresh, 10, "nor a question past the cache");
    world.clock.advance(5 * MINUTE);
    world.host.say(ok(POLICY));
    world.zone.announce("a.test", "v=STSv1; id=new;");
    assert_eq!(recheck(&client).await, is("new"));
}

#[tokio::test]
async fn rfc8461_3_3_records_that_differ_from_server_to_server_do_not_fetch_for_ever() {
    let world = StsWorld::new().await;
    let client = world.client();
    for round in 0..10 {
        world.zone.announce("a.test", &format!("v=STSv1; id={};", round % 2 + 1));
        assert!(recheck(&client).await.is_ok());
    }
    assert_eq!(world.host.gets(), 2);
}

#[tokio::test]
async fn rfc8461_3_4_a_domain_has_its_own_policy_and_not_its_parents() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    let before = world.zone.asked().len();
    let came = client.policy_for(&domain("sub.a.test")).await;
    assert!(matches!(came, StsState::Absent(StsAbsent::NoRecord)));
    assert_eq!(world.zone.asked()[before..], [("_mta-sts.sub.a.test TXT".to_owned(), Freshness::Kept)]);
}

#[tokio::test]
async fn rfc8461_8_3_mode_none_ends_a_policy_and_the_next_one_is_waited_for() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.zone.announce("a.test", "v=STSv1; id=2;");
    world.host.say(ok("version: STSv1\nmode: none\nmax_age: 86400\n"));
    assert_eq!(recheck(&client).await, Err(StsAbsent::ModeNone));
    world.zone.withdraw("a.test");
    assert_eq!(state(&client).await, Err(StsAbsent::ModeNone));
    world.zone.announce("a.test", "v=STSv1; id=3;");
    world.host.say(ok(POLICY));
    assert_eq!(state(&client).await, is("3"));
}

#[tokio::test]
async fn rfc8461_3_3_who_is_in_a_hurry_goes_without_and_puts_nothing_down_as_failed() {
    let world = StsWorld::new().await;
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.host.say(HttpReply::Silence);
    world.zone.announce("b.test", "v=STSv1; id=b;");
    world.zone.address("mta-sts.b.test", [127, 0, 0, 1].into());
    world.zone.announce("a.test", "v=STSv1; id=2;");
    let hurried = client.waiting_at_most(Duration::from_millis(50));
    let slow = FetchFailure::Slow { waited_ms: 50, limit_ms: 60_000 };
    assert_eq!(id(hurried.policy_for(&domain("b.test")).await), Err(StsAbsent::FetchFailed(slow)));
    assert_eq!(recheck(&hurried).await, is("1"), "the kept one holds");
    assert_eq!(client.cached(&domain("a.test")).unwrap().refresh_failure, None);
    assert_eq!(world.events(), ["fetched a.test"]);
}

#[tokio::test]
async fn rfc8461_5_1_a_policy_host_that_hangs_delays_nobody_else() {
    let world = StsWorld::new().await;
    let client = Arc::new(world.client());
    world.host.say(HttpReply::Silence);
    let waiting: Vec<_> = (0..10)
        .map(|_| {
            let client = Arc::clone(&client);
            tokio::spawn(async move { state(&client).await })
        })
        .collect();
    until(|| world.host.gets() == 1).await;
    // The host hangs for a.test; b.test has the same host, which answers by now.
    world.host.say(ok(POLICY));
    world.zone.announce("b.test", "v=STSv1; id=b;");
    world.zone.address("mta-sts.b.test", [127, 0, 0, 1].into());
    assert_eq!(id(client.policy_for(&domain("b.test")).await), is("b"));
    assert!(waiting.iter().all(|waiter| !waiter.is_finished()));
    assert_eq!(world.host.gets(), 2, "ten messages wait for one fetch");
    waiting.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_policy_of_no_life_serves_the_mail_that_fetched_it() {
    let world = StsWorld::new().await;
    world.host.say(ok(&POLICY.replace("604800", "0")));
    let client = world.client();
    for _message in 0..3 {
        assert_eq!(state(&client).await, is("1"));
    }
    assert_eq!(world.host.gets(), 1);
    world.clock.advance(5 * MINUTE);
    assert_eq!(client.cached(&domain("a.test")), None);
    assert_eq!(state(&client).await, is("1"));
    assert_eq!(world.host.gets(), 2);
}

#[tokio::test]
async fn the_operator_fetches_when_he_wants_and_the_running_relay_notices() {
    let world = StsWorld::new().await;
    let (running, operator) = (world.client(), world.client());
    assert_eq!(state(&running).await, is("1"));
    world.host.say(ok(&POLICY.replace("enforce", "testing")));
    world.clock.advance(MINUTE);
    assert_eq!(operator.refresh(&domain("a.test")).await.unwrap().terms.mode, Mode::Testing);
    assert_eq!(running.cached(&domain("a.test")).unwrap().terms.mode, Mode::Testing);
    world.host.say(down());
    assert_eq!(operator.refresh(&domain("a.test")).await, Err(UNAVAILABLE));
    assert_eq!(running.cached(&domain("a.test")).unwrap().terms.mode, Mode::Testing);
    world.zone.withdraw("b.test");
    let came = operator.refresh(&domain("b.test")).await;
    assert_eq!(came, Err(FetchFailure::NotAnnounced(RecordError::None)));
}

/// Spoils the kept policy of a.test.
fn flip_a_bit(world: &StsWorld) {
    let file = world.config.spool.path.join("mta-sts/a.test");
    let mut octets = std::fs::read(&file).unwrap();
    *octets.last_mut().unwrap() ^= 1;
    std::fs::write(&file, octets).unwrap();
}

fn is_lost(state: &Result<String, StsAbsent>) -> bool {
    matches!(state, Err(StsAbsent::Lost { .. }))
}

#[tokio::test]
async fn rfc8461_5_1_a_damaged_policy_is_fetched_again_with_or_without_its_record() {
    let world = StsWorld::new().await;
    for announced in [true, false] {
        world.zone.announce("a.test", "v=STSv1; id=1;");
        assert_eq!(state(&world.client()).await, is("1"));
        flip_a_bit(&world);
        if !announced {
            world.zone.withdraw("a.test");
        }
        world.events();
        assert!(state(&world.client()).await.is_ok());
        let events = world.events();
        assert!(events[0].contains("a.test is lost: the file"), "{events:?}");
        assert!(events[0].contains("is damaged: its checksum is wrong"), "{events:?}");
        assert_eq!(events[1..], ["fetched a.test"]);
        assert!(matches!(world.client().kept(&domain("a.test")), Held::Policy(_)));
    }
}

#[tokio::test]
async fn rfc8461_5_1_a_damaged_policy_is_no_reason_to_go_without_when_record_and_host_are_hidden() {
    let world = StsWorld::new().await;
    assert_eq!(state(&world.client()).await, is("1"));
    flip_a_bit(&world);
    world.zone.withdraw("a.test");
    world.host.say(down());
    for _restart in 0..3 {
        let client = world.client();
        assert!(is_lost(&state(&client).await));
        assert!(is_lost(&recheck(&client).await));
        assert_eq!(client.cached(&domain("a.test")), None);
    }
    assert_eq!(world.host.gets(), 4, "one fetch in five minutes for each start");
    let came = world.client().refresh(&domain("a.test")).await;
    assert_eq!(came, Err(UNAVAILABLE), "the operator is told what the host says, not that nothing is announced");
    // The relay itself keeps trying, and mail goes on when it has the policy.
    world.host.say(ok(POLICY));
    world.client().refresh_those_due().await;
    assert_eq!(state(&world.client()).await, is(""));
}

#[tokio::test]
async fn rfc8461_3_2_nothing_is_left_of_a_damaged_policy_after_a_year() {
    let world = StsWorld::new().await;
    assert_eq!(state(&world.client()).await, is("1"));
    flip_a_bit(&world);
    let file = std::fs::File::open(world.config.spool.path.join("mta-sts/a.test")).unwrap();
    let now = u64::try_from(world.clock.now().unix_seconds()).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(now)).unwrap();
    world.zone.withdraw("a.test");
    world.host.say(down());
    world.clock.advance(Duration::from_secs(31_557_599));
    assert!(is_lost(&state(&world.client()).await));
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(state(&world.client()).await, Err(StsAbsent::NoRecord));
    world.clock.advance(7 * DAY);
    world.client().refresh_those_due().await;
    assert_eq!(world.client().kept(&domain("a.test")), Held::Nothing);
}

#[tokio::test]
async fn rfc8461_8_3_mode_none_ends_a_damaged_policy() {
    let world = StsWorld::new().await;
    assert_eq!(state(&world.client()).await, is("1"));
    flip_a_bit(&world);
    world.host.say(ok("version: STSv1\nmode: none\nmax_age: 86400\n"));
    assert_eq!(state(&world.client()).await, Err(StsAbsent::ModeNone));
    world.zone.withdraw("a.test");
    world.host.say(down());
    assert_eq!(state(&world.client()).await, Err(StsAbsent::ModeNone));
}

#[tokio::test]
async fn rfc8461_10_3_a_policy_kept_under_another_name_is_refused() {
    let world = StsWorld::new().await;
    assert_eq!(state(&world.client()).await, is("1"));
    let folder = world.config.spool.path.join("mta-sts");
    std::fs::copy(folder.join("a.test"), folder.join("b.test")).unwrap();
    assert_eq!(world.client().cached(&domain("b.test")), None);
    assert!(world.events().iter().any(|event| event.contains("it is the policy of a.test")));
}

#[tokio::test]
async fn a_domain_that_gets_mail_again_after_a_day_is_established() {
    let world = StsWorld::new().await;
    let client = world.client();
    let established = || match world.client().kept(&domain("a.test")) {
        Held::Policy(policy) => policy.standing.established.is_some(),
        Held::Lost(_) | Held::Nothing => panic!("it is kept"),
    };
    assert_eq!(state(&client).await, is("1"));
    world.clock.advance(DAY);
    client.refresh_those_due().await;
    assert_eq!((world.host.gets(), established()), (2, false), "a refresh is no mail");
    assert_eq!(state(&client).await, is("1"));
    assert!(established());
    world.clock.advance(DAY);
    client.refresh_those_due().await;
    assert_eq!((world.host.gets(), established()), (3, true), "and stays so");
}

#[tokio::test]
async fn rfc8461_5_1_what_was_fetched_and_found_no_place_is_still_no_reason_to_go_without() {
    let world = StsWorld::new().await;
    let client = world.client();
    let spool = &world.config.spool.path;
    for number in 1..=3 {
        world.zone.announce("a.test", &format!("v=STSv1; id={number};"));
        assert_eq!(state(&client).await, is(&number.to_string()), "fetched, so in force now");
        std::fs::remove_file(spool.join("mta-sts/a.test")).unwrap();
    }
    world.zone.announce("a.test", "v=STSv1; id=4;");
    assert!(is_lost(&state(&client).await), "fetched within five minutes, and too often");
}

#[tokio::test]
async fn where_the_disk_refuses_a_policy_holds_in_memory() {
    let world = StsWorld::new().await;
    std::fs::remove_dir(&world.config.spool.path).unwrap();
    let client = world.client();
    assert_eq!(state(&client).await, is("1"));
    world.host.say(down());
    world.zone.withdraw("a.test");
    assert_eq!(state(&client).await, is("1"));
    assert!(world.events()[0].starts_with("store MTA-STS policies cannot be kept"));
}

#[tokio::test]
async fn switched_off_nothing_is_asked() {
    let mut world = StsWorld::new().await;
    world.config.mta_sts.enabled = false;
    let client = world.client();
    assert_eq!(state(&client).await, Err(StsAbsent::SwitchedOff));
    assert_eq!(recheck(&client).await, Err(StsAbsent::SwitchedOff));
    assert_eq!(client.refresh(&domain("a.test")).await, Err(FetchFailure::SwitchedOff));
    assert_eq!((world.zone.asked(), world.host.gets()), (vec![], 0));
}
