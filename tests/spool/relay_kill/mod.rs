//! The whole relay under `kill -9` and under SIGTERM: RFC 5321 §4.2.5 and §6.1.
//!
//! The real program on a real spool, sixteen sessions that hand mail in, sinks that take it. It is
//! killed again and again, in its start as well as under load, and started again on what it left.
//! In the end every message whose 250 was read has arrived with the same octets, or its sender has
//! the NDR; nothing is damaged or invented; and every duplicate has a kill to blame.
#![cfg(feature = "lab")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what fails in a test is its result")]
#![expect(clippy::indexing_slicing, reason = "what fails in a test is its result")]
#![expect(clippy::disallowed_methods, reason = "the test writes a configuration and asks for metrics")]

mod ledger;
mod load;
mod mail;
mod relay;

use dane_relay::lab::mx::behaviour::{Behaviour, Mailboxes};
use dane_relay::lab::{Lab, RunningMxHost};
use ledger::{Arrived, Watched};
use load::Load;
use mail::mix;
use relay::{Home, MOST_IN_DELIVERY, Relay, metric, wait_for_empty_queue};
use std::collections::BTreeSet;
use std::io::Write;
use std::net::Ipv4Addr;
use std::time::Duration;
use tempfile::TempDir;
use tokio::time::sleep;

/// How often the relay is killed, and at most where a busy machine lets little be done in a life.
const KILLS: u64 = 25;
const MOST_KILLS: u64 = 150;
/// Messages after which the kills have met enough work.
const ENOUGH: usize = 500;
/// How often it is asked to stop.
const STOPS: u64 = 8;
/// Messages that may be begun in one life of the relay: usually more than it takes in before its end, so
/// that it ends under load, and few enough to be delivered in the end.
const MESSAGES_PER_LIFE: usize = 400;
/// The moments of all kills and stops follow from this number.
const SEED: u64 = 20_261_121;

/// The sinks, and the relay's home between them.
struct World {
    home: Home,
    sink: Watched,
    back: Watched,
    _refusing: RunningMxHost,
    _folder: TempDir,
    _lab: Lab,
}

impl World {
    async fn new() -> Self {
        let nobody = Behaviour { known: Mailboxes::Only(BTreeSet::new()), ..Behaviour::default() };
        let start = |name, behaviour| RunningMxHost::start(name, Ipv4Addr::LOCALHOST, 0, behaviour);
        let sink = start("mx.sink.test", Behaviour::default()).await.unwrap();
        let back = start("mx.back.test", Behaviour::default()).await.unwrap();
        let refusing = start("mx.refused.test", nobody).await.unwrap();
        let folder = TempDir::new().unwrap();
        let destinations =
            [(mail::SINK, sink.address()), (mail::SENDERS, back.address()), (mail::REFUSING, refusing.address())];
        let lab = Lab::builder().start().await.unwrap();
        let home = Home::new(folder.path(), &lab, &destinations);
        let (sink, back) = (Watched::new(sink), Watched::new(back));
        Self { home, sink, back, _refusing: refusing, _folder: folder, _lab: lab }
    }

    /// A life of the relay has ended.
    fn mark(&mut self) {
        self.sink.mark();
        self.back.mark();
    }

    /// The last life: everything goes out, and nothing has gone wrong on the way.
    async fn empty_the_queue(&self) {
        let mut relay = self.home.start();
        let admin = relay.serves().await.admin;
        wait_for_empty_queue(admin).await;
        assert_eq!(metric(admin, "relay_spool_damaged_records").await, 0);
        ends_well(&mut relay).await;
    }
}

/// A relay that complains has met something that a kill must not lead to.
async fn ends_well(relay: &mut Relay) {
    let (status, complaints) = relay.terminate().await;
    assert_eq!((status.code(), complaints), (Some(0), Vec::<String>::new()));
}

/// Lets the relay live for a while that depends on the round: a quarter of all lives end in the
/// start or shortly after it, the first on an empty spool; the others under load.
async fn live(relay: &mut Relay, round: u64) {
    let random = mix(SEED ^ round);
    if round.is_multiple_of(4) {
        sleep(Duration::from_millis(random % 60)).await;
    } else {
        relay.serves().await;
        sleep(Duration::from_millis(10 + random % 400)).await;
    }
}

fn say(line: &str) {
    std::io::stdout().lock().write_all(format!("{line}\n").as_bytes()).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5321_6_1_kills_of_the_relay_lose_and_damage_nothing_that_was_acknowledged() {
    let mut world = World::new().await;
    let load = Load::start(&world.home.serving());
    let (mut in_start, mut kills) = (0, 0);
    for round in 0..MOST_KILLS {
        if round >= KILLS && load.acknowledged() > ENOUGH {
            break;
        }
        kills += 1;
        load.allow(MESSAGES_PER_LIFE);
        let mut relay = world.home.start();
        live(&mut relay, round).await;
        in_start += u64::from(world.home.serving().borrow().is_none());
        assert_eq!(relay.kill(), Vec::<String>::new(), "round {round}");
        world.mark();
    }
    let said = load.finish().await;
    world.empty_the_queue().await;

    let arrived = Arrived::collect(&said, &world.sink, &world.back);
    let (lost, (mail_again, reports_again)) = (arrived.lost(&said.acknowledged), arrived.duplicates());
    say(&format!(
        "{kills} kills, {in_start} of them in the start: {} sent, {} acknowledged, {} delivered and \
         {mail_again} duplicates, {} NDRs and {reports_again} duplicates; {} lost",
        said.sent.len(),
        said.acknowledged.len(),
        arrived.mail.len(),
        arrived.reports.len(),
        lost.len()
    ));
    assert_eq!(lost, Vec::<u64>::new());
    arrived.assert_duplicates_come_from_kills(MOST_IN_DELIVERY);
    assert!(said.acknowledged.len() > ENOUGH && arrived.reports.len() > 50, "the relay got to work");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rfc5321_4_2_5_stops_of_the_relay_lose_nothing_and_repeat_nothing() {
    let mut world = World::new().await;
    let load = Load::start(&world.home.serving());
    for round in 0..STOPS {
        load.allow(MESSAGES_PER_LIFE);
        let mut relay = world.home.start();
        relay.serves().await;
        sleep(Duration::from_millis(mix(SEED ^ round) % 500)).await;
        ends_well(&mut relay).await;
        world.mark();
    }
    let said = load.finish().await;
    world.empty_the_queue().await;

    let arrived = Arrived::collect(&said, &world.sink, &world.back);
    let (lost, (mail_again, reports_again)) = (arrived.lost(&said.acknowledged), arrived.duplicates());
    say(&format!(
        "{STOPS} stops: {} sent, {} acknowledged, {} delivered, {} NDRs, {} duplicates; {} lost",
        said.sent.len(),
        said.acknowledged.len(),
        arrived.mail.len(),
        arrived.reports.len(),
        mail_again + reports_again,
        lost.len()
    ));
    assert_eq!(lost, Vec::<u64>::new());
    assert_eq!((mail_again, reports_again), (0, 0));
    // Who stops in order answers what it has stored: nothing arrives that was not acknowledged.
    let unasked: Vec<_> =
        arrived.mail.keys().chain(arrived.reports.keys()).filter(|id| !said.acknowledged.contains(id)).collect();
    assert!(unasked.is_empty(), "arrived, and the client was not told so: {unasked:?}");
    assert!(said.acknowledged.len() > 200 && arrived.reports.len() > 20, "the relay got to work");
}
