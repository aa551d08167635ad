//! The three situations that used to stop all mail, in a time that jumps to whatever comes next: a
//! crowded host, one that turns all away, and thousands of silent ones beside one that is alive.

use super::*;
use crate::config::Config;
use crate::deliver::hosts::feedback::Feedback;
use crate::outcome::{Cause, Phase};
use crate::smtp::reply::Reply;
use futures_util::future::join_all;
use std::path::Path;
use std::sync::atomic::AtomicUsize;
use tokio::time::sleep;

const SECOND: Duration = Duration::from_secs(1);

/// Receiving hosts, and the messages that go there as the pipeline sends them: through the gate of
/// their next hop, to their server; what is sent away waits until it is called, or comes by itself.
struct HostWorld {
    limits: HostLimits,
    clock: Clock,
    began: Instant,
    /// Wakes what is called.
    called: Mutex<BTreeMap<QueueId, Arc<Notify>>>,
    open: AtomicUsize,
    most_open: AtomicUsize,
    connections: AtomicUsize,
    in_memory: AtomicUsize,
    most_in_memory: AtomicUsize,
}

#[derive(Clone, Copy)]
enum Manner {
    /// Takes each message in so long.
    Takes(Duration),
    /// Takes so many connections, and each message in so long.
    TakesAtMost(usize, Duration),
    TurnsAllAway,
    /// Is alive, and slow.
    GreetsAfter(Duration),
    /// For as long as the relay waits for a greeting.
    Silent,
}

impl HostWorld {
    fn new(config: &str) -> Arc<Self> {
        let config = Config::parse(config, Path::new("relay.toml")).unwrap();
        let clock = Clock::with_runtime(Timestamp(0));
        let (limits, mut calls) = HostLimits::new(HostBounds::of(&config), clock.clone());
        let world = Arc::new(Self {
            limits,
            clock,
            began: Instant::now(),
            called: Mutex::default(),
            open: AtomicUsize::default(),
            most_open: AtomicUsize::default(),
            connections: AtomicUsize::default(),
            in_memory: AtomicUsize::default(),
            most_in_memory: AtomicUsize::default(),
        });
        let bell = Arc::clone(&world);
        tokio::spawn(async move {
            while let Some((id, _)) = calls.recv().await {
                if let Some(waiting) = bell.called.lock().unwrap().get(&id) {
                    waiting.notify_one();
                }
            }
        });
        world
    }

    fn at(&self) -> Duration {
        self.began.elapsed()
    }

    /// Carries a message until it is taken, or until the end of the test. Gives when it was taken.
    async fn carry(self: Arc<Self>, id: u64, hop: NextHop, peer: Peer, manner: Manner) -> Duration {
        loop {
            let now_in = self.in_memory.fetch_add(1, Ordering::SeqCst) + 1;
            self.most_in_memory.fetch_max(now_in, Ordering::SeqCst);
            let tried = self.attempt(&hop, &peer, manner).await;
            self.in_memory.fetch_sub(1, Ordering::SeqCst);
            match tried {
                Ok(()) => return self.at(),
                Err(None | Some(Away::Elsewhere)) => sleep(300 * SECOND).await,
                Err(Some(Away::BackingOff { until, .. })) => sleep(until.since(self.clock.now())).await,
                Err(Some(Away::Full { gate, until })) => {
                    let bell = Arc::new(Notify::new());
                    self.called.lock().unwrap().insert(QueueId(id), Arc::clone(&bell));
                    self.limits.put_outside(QueueId(id), gate, until);
                    let _called_or_not = timeout(until.since(self.clock.now()), bell.notified()).await;
                    self.limits.is_claimed(QueueId(id));
                }
            }
        }
    }

    /// How long a message to a host takes that is alive and that nobody knows yet.
    async fn strangers(self: Arc<Self>, id: u64) -> Duration {
        let (sent, manner) = (self.at(), Manner::Takes(Duration::from_millis(100)));
        let message = self.carry(id, hop("new.example"), peer("mx.new.example", [192, 0, 2, 2]), manner);
        timeout(60 * SECOND, message).await.unwrap() - sent
    }

    async fn attempt(&self, hop: &NextHop, peer: &Peer, manner: Manner) -> Result<(), Option<Away>> {
        let _place = self.limits.enter_hop(hop, 40, None).await.map_err(Some)?;
        loop {
            let seat = self.limits.enter(hop, peer, Eagerness::MayComeAgain).await.map_err(Some)?;
            let (feedback, result) = self.converse(&seat, peer, manner).await;
            if seat.leave(&feedback) == Leaving::Done {
                return result;
            }
        }
    }

    async fn converse(&self, seat: &HostSeat, peer: &Peer, manner: Manner) -> (Feedback, Result<(), Option<Away>>) {
        self.connections.fetch_add(1, Ordering::SeqCst);
        let open = self.open.fetch_add(1, Ordering::SeqCst) + 1;
        let listening = seat.listening();
        sleep(Duration::from_millis(10)).await;
        let (takes, length) = match manner {
            Manner::Takes(length) => (true, length),
            Manner::TakesAtMost(most, length) => (open <= most, length),
            Manner::TurnsAllAway => (false, Duration::ZERO),
            Manner::Silent | Manner::GreetsAfter(_) => {
                let (greets, silence) = match manner {
                    Manner::GreetsAfter(silence) => (true, silence),
                    Manner::Takes(_) | Manner::TakesAtMost(..) | Manner::TurnsAllAway | Manner::Silent => {
                        (false, 300 * SECOND)
                    }
                };
                let was_cut = tokio::select! {
                    () = sleep(silence) => false,
                    () = listening.cut() => true,
                };
                if was_cut || !greets {
                    self.open.fetch_sub(1, Ordering::SeqCst);
                    let cause = Cause::TimedOut { peer: peer.clone(), phase: Phase::Greeting };
                    return (Feedback::Silent(cause), Err(None));
                }
                (true, Duration::ZERO)
            }
        };
        drop(listening);
        if !takes {
            self.open.fetch_sub(1, Ordering::SeqCst);
            let reply = Reply { code: 421, enhanced: None, lines: vec!["too many connections".into()] };
            let cause = Cause::Rejected { peer: peer.clone(), phase: Phase::Greeting, reply };
            return (Feedback::TurnedAway(cause), Err(None));
        }
        if self.at() >= SECOND {
            self.most_open.fetch_max(open, Ordering::SeqCst);
        }
        seat.greeted();
        sleep(length).await;
        self.open.fetch_sub(1, Ordering::SeqCst);
        (Feedback::Took, Ok(()))
    }
}

fn hop(name: &str) -> NextHop {
    NextHop::Domain(name.parse().unwrap())
}

fn octet(n: u64) -> u8 {
    u8::try_from(n).unwrap()
}

fn peer(host: &str, address: [u8; 4]) -> Peer {
    Peer { host: host.into(), address: (address, 25).into() }
}

#[tokio::test(start_paused = true)]
async fn ten_domains_at_a_host_that_takes_five_connections_use_five_and_all_is_delivered() {
    let world = HostWorld::new("");
    let manner = Manner::TakesAtMost(5, Duration::from_millis(200));
    let messages = (0..200).map(|id| {
        let to = (hop(&format!("d{}.example", id % 10)), peer("mx.example", [192, 0, 2, 1]));
        tokio::spawn(Arc::clone(&world).carry(id, to.0, to.1, manner))
    });
    let taken: Vec<Duration> = join_all(messages).await.into_iter().map(Result::unwrap).collect();
    let last = taken.iter().max().unwrap();
    assert!(*last < 10 * SECOND, "{last:?}: forty rounds of five take a little over eight seconds");
    let most = world.most_open.load(Ordering::SeqCst);
    assert!(most <= 5, "{most} after the first second");
    let connections = world.connections.load(Ordering::SeqCst);
    assert!(connections <= 205, "{connections}: a number that was refused is not tried again and again");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_turns_all_away_sees_few_connections() {
    let world = HostWorld::new("");
    for id in 0..50 {
        let to = peer("mx.example", [192, 0, 2, 1]);
        tokio::spawn(Arc::clone(&world).carry(id, hop("d.example"), to, Manner::TurnsAllAway));
    }
    sleep(20 * SECOND).await;
    let connections = world.connections.load(Ordering::SeqCst);
    assert!(connections <= 5, "{connections}");
    sleep(3600 * SECOND).await;
    let connections = world.connections.load(Ordering::SeqCst);
    assert!((3..=20).contains(&connections), "{connections} in an hour: it is tried again, and seldom");
}

/// Twenty messages a second to a live host, and after two seconds three thousand silent domains. Gives the longest
/// time that a message took, and the most connections at work.
async fn beside_silent_ones(silent: impl Fn(u64) -> [u8; 4]) -> (Duration, Arc<HostWorld>) {
    let world = HostWorld::new("");
    let mut live = Vec::new();
    for id in 0..400 {
        let manner = Manner::Takes(Duration::from_millis(100));
        let message =
            Arc::clone(&world).carry(id, hop("live.example"), peer("mx.live.example", [192, 0, 2, 1]), manner);
        live.push((world.at(), tokio::spawn(message)));
        if id == 40 {
            for n in 0..3000 {
                let to = (hop(&format!("s{n}.example")), peer(&format!("mx.s{n}.example"), silent(n)));
                tokio::spawn(Arc::clone(&world).carry(1000 + n, to.0, to.1, Manner::Silent));
            }
        }
        sleep(Duration::from_millis(50)).await;
    }
    let mut longest = Duration::ZERO;
    for (sent, message) in live {
        longest = longest.max(message.await.unwrap().saturating_sub(sent));
    }
    (longest, world)
}

#[tokio::test(start_paused = true)]
async fn three_thousand_silent_domains_at_one_address_cost_a_live_one_nothing() {
    let (longest, world) = beside_silent_ones(|_| [198, 51, 100, 1]).await;
    assert!(longest < SECOND, "{longest:?}");
    let silent = world.connections.load(Ordering::SeqCst) - 400;
    assert_eq!(silent, 2, "connections to the silent address");
    let most = world.most_in_memory.load(Ordering::SeqCst);
    assert!(most < 3100, "{most}");
    let waiting = world.in_memory.load(Ordering::SeqCst);
    assert!(waiting < 20, "{waiting} messages in memory; the others are in the spool");
}

#[tokio::test(start_paused = true)]
async fn three_thousand_silent_domains_at_as_many_addresses_cost_a_live_one_nothing() {
    let (longest, world) = beside_silent_ones(|n| [10, 1, octet(n / 250), octet(n % 250)]).await;
    assert!(longest < SECOND, "{longest:?}");
    let open = world.open.load(Ordering::SeqCst);
    assert!(open <= 125, "{open} connections wait for hosts that have not answered");
    let took = Arc::clone(&world).strangers(9999).await;
    assert!(took < 8 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_host_that_nobody_knows_yet_gets_its_turn_at_any_time_among_silent_ones() {
    for after in [0, 1500, 20_000] {
        let world = HostWorld::new("");
        for n in 0..3000 {
            let to = (
                hop(&format!("s{n}.example")),
                peer(&format!("mx.s{n}.example"), [10, 1, octet(n / 250), octet(n % 250)]),
            );
            tokio::spawn(Arc::clone(&world).carry(1000 + n, to.0, to.1, Manner::Silent));
        }
        sleep(Duration::from_millis(after)).await;
        let took = Arc::clone(&world).strangers(9999).await;
        assert!(took < 8 * SECOND, "{took:?} for one that comes after {after} ms");
    }
}

#[tokio::test(start_paused = true)]
async fn a_host_that_is_slow_to_greet_gets_its_mail_among_silent_ones() {
    let world = HostWorld::new("");
    for n in 0..300 {
        let to =
            (hop(&format!("s{n}.example")), peer(&format!("mx.s{n}.example"), [10, 1, octet(n / 250), octet(n % 250)]));
        tokio::spawn(Arc::clone(&world).carry(1000 + n, to.0, to.1, Manner::Silent));
    }
    let manner = Manner::GreetsAfter(6 * SECOND);
    let message = Arc::clone(&world).carry(9999, hop("slow.example"), peer("mx.slow.example", [192, 0, 2, 2]), manner);
    let took = timeout(600 * SECOND, message).await.unwrap();
    assert!(took < 120 * SECOND, "{took:?}");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_is_free_and_a_message_that_is_due_meet_at_once() {
    let world = HostWorld::new("");
    let messages = (0..4000).map(|id| {
        let to = peer("mx.example", [192, 0, 2, 1]);
        tokio::spawn(Arc::clone(&world).carry(id, hop("d.example"), to, Manner::Takes(Duration::from_millis(20))))
    });
    let mut taken: Vec<Duration> = join_all(messages).await.into_iter().map(Result::unwrap).collect();
    taken.sort_unstable();
    let gaps = taken.windows(2).map(|two| two[1] - two[0]);
    let longest = gaps.max().unwrap();
    assert!(longest <= Duration::from_millis(50), "nothing was taken for {longest:?}");
    let last = taken.last().unwrap();
    assert!(
        *last < 5 * SECOND,
        "{last:?}: a hundred rounds of forty take three seconds, and some at first are smaller"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_outside_for_hosts_that_have_turned_out_to_answer() {
    let world = HostWorld::new("[delivery]\nmax_concurrent = 24\n");
    let messages = (0..400).map(|id| {
        let to =
            (hop(&format!("d{}.example", id % 3)), peer(&format!("mx{}.example", id % 3), [192, 0, 2, octet(id % 3)]));
        let manner = Manner::Takes(Duration::from_millis(20));
        tokio::spawn(Arc::clone(&world).carry(id, to.0, to.1, manner))
    });
    let taken: Vec<Duration> = join_all(messages).await.into_iter().map(Result::unwrap).collect();
    let last = taken.iter().max().unwrap();
    assert!(*last < 10 * SECOND, "{last:?}");
}
