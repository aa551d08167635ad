//! One life of the relay in a world: from the opening of its spool to a crash, a stop, or an
//! empty queue. On one thread, in the runtime's own time, which jumps to whatever comes next.

use crate::behaviour::FORGIVEN_UNTIL_END;
use crate::crash_snapshot::{Crash, CrashSnapshot, Done};
use crate::invariants::SubmissionResult;
use crate::manual_spool::{ManualSpool, TURN};
use crate::world::{HOUR, Submission, What, World};
use dane_relay::accept::driver::{self as listener, Acceptor};
use dane_relay::clock::{Clock, Timestamp};
use dane_relay::lab::mx::client::SmtpClient;
use dane_relay::observe::Observer;
use dane_relay::pipeline::Pipeline;
use dane_relay::pipeline::operate::Order;
use dane_relay::pipeline::outbound::OutboundPaths;
use dane_relay::policy::exceptions::ExceptionsStatus as Exceptions;
use dane_relay::report::driver::load_texts;
use dane_relay::resolve::driver::Dns;
use dane_relay::resolve::event::DnsEvent;
use dane_relay::service::start::{self, Service};
use dane_relay::spool::embedded::reader::StateReader;
use dane_relay::spool::embedded::{EmbeddedSpool, ManualWriters};
use dane_relay::spool::event::{Act, Actor};
use dane_relay::spool::ledger::{LedgerMessage, Listed, MessageState};
use dane_relay::spool::{Hold, Spool};
use std::ops::ControlFlow;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::io::duplex;
use tokio::runtime::Builder;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// No world lasts longer.
const MOST_DAYS: u32 = 30;
/// Between two looks whether the queue is empty.
const LOOK: Duration = HOUR;
/// How soon a relay has tried once whether its exceptions are needed.
const WATCHED: Duration = Duration::from_secs(120);
/// How soon it tells how they stand: one try takes its time where the DNS is silent.
const TOLD: Duration = Duration::from_secs(1800);
/// How long a machine that crashed stays down.
const DOWN: Duration = Duration::from_secs(600);

/// How a life ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    Crashed,
    Stopped,
    /// Nothing more will happen.
    Empty,
}

/// What one life needs.
struct Life<'a> {
    world: &'a mut World,
    clock: Clock,
    since: Timestamp,
    /// When the clock was last set, by itself.
    set_at: Timestamp,
    snapshot: Arc<CrashSnapshot>,
    spool: Arc<ManualSpool>,
    writers: ManualWriters,
    acceptor: Arc<Acceptor>,
    pipeline: Arc<Pipeline>,
    /// Until it runs.
    service: Option<Arc<Service>>,
    stop: CancellationToken,
    /// Clients and operators at work.
    clients: TaskTracker,
    /// Submissions that the relay refused for now.
    again: Arc<Mutex<Vec<Submission>>>,
}

impl World {
    /// Lives until the world is at its end, with these crashes: the steps of each are counted from
    /// the one before. Gives the steps of all lives, in their order.
    pub(crate) fn run(&mut self, crashes: &[Crash]) -> Vec<Done> {
        let (mut steps, mut since) = (Vec::new(), 0);
        let mut crashes = crashes.iter().copied().peekable();
        loop {
            let next = crashes.peek().map(|crash| Crash { step: crash.step - since, ..*crash });
            let (end, more) = self.live(next);
            since += more.len();
            steps.extend(more);
            match end {
                End::Crashed => {
                    since = 0;
                    self.crashes.extend(crashes.next());
                    self.move_on();
                    self.now = self.now.plus(DOWN);
                    self.truth = self.truth.plus(DOWN);
                }
                End::Stopped => {}
                End::Empty => return steps,
            }
        }
    }

    fn live(&mut self, crash: Option<Crash>) -> (End, Vec<Done>) {
        let mut builder = Builder::new_current_thread();
        // One helper for what blocks, so that the order is always the same.
        let runtime = builder.enable_all().start_paused(true).max_blocking_threads(1).build().unwrap();
        let pruning_log = Arc::clone(&self.invariants.pruning_log);
        let snapshot = Arc::new(CrashSnapshot::new(&self.config.spool.path, &self.next_spool(), crash, pruning_log));
        let end = runtime.block_on(async {
            self.network.begin_life(self.truth);
            let Some(mut life) = Life::begin(self, Arc::clone(&snapshot)) else { return End::Crashed };
            let end = life.last().await;
            let now = life.clock.now();
            if end != End::Crashed {
                life.writers.finish();
            }
            self.now = now;
            self.truth = self.network.truth();
            if snapshot.taken() { End::Crashed } else { end }
        });
        (end, snapshot.steps())
    }
}

impl<'a> Life<'a> {
    /// Opens the spool and puts the relay together; none when the crash comes meanwhile.
    fn begin(world: &'a mut World, snapshot: Arc<CrashSnapshot>) -> Option<Self> {
        let opened = EmbeddedSpool::open_by_hand(&world.config.spool, world.now, Arc::clone(&snapshot) as _);
        if snapshot.taken() {
            return None;
        }
        let (spool, writers) = opened.unwrap();
        world.note_unrecorded();
        let clock = Clock::with_runtime(world.now);
        world.invariants.pruning_log().begin_life(&world.config.spool.path, &clock);
        let spool = Arc::new(ManualSpool::new(spool));
        let service = service(world, clock.clone(), Arc::clone(&spool) as _);
        Some(Self {
            since: world.truth,
            set_at: world.now,
            world,
            clock,
            snapshot,
            spool,
            writers,
            acceptor: service.acceptor(),
            pipeline: service.pipeline(),
            service: Some(Arc::new(service)),
            stop: CancellationToken::new(),
            clients: TaskTracker::new(),
            again: Arc::default(),
        })
    }

    /// Everything between the opening and the end.
    async fn last(&mut self) -> End {
        let Some(service) = self.service.take() else { return End::Empty };
        let stopped = self.stop.clone();
        let accepting = async move { stopped.cancelled().await };
        service.watch(&self.stop);
        let mut running = tokio::spawn(service.run(accepting, std::future::pending(), self.stop.clone()));
        let mut ends = None;
        let (limit, mut look) = (self.truth().plus(24 * HOUR * MOST_DAYS), self.truth());
        loop {
            let next = self.world.to_come.front().map_or(look, |(at, _)| *at.min(&look));
            tokio::select! {
                biased;
                () = self.spool.work() => sleep(TURN).await,
                () = sleep(next.since(self.truth())), if ends.is_none() => {
                    ends = self.go_on();
                    look = self.truth().plus(LOOK);
                }
                _ended = &mut running, if ends.is_some() => {
                    let is_down = self.turn().is_break();
                    return if is_down { End::Crashed } else { ends.unwrap_or(End::Empty) };
                }
            }
            if self.snapshot.taken() || self.turn().is_break() {
                return End::Crashed;
            }
            assert!(self.truth() < limit, "{}: something waits for ever", self.world.name());
        }
    }

    /// The time that nobody sets: by it the world goes.
    fn truth(&self) -> Timestamp {
        self.world.network.truth()
    }

    fn age(&self) -> Duration {
        self.truth().since(self.since)
    }

    /// The writers do all that waits.
    fn turn(&mut self) -> ControlFlow<()> {
        while self.writers.turn() {
            if self.snapshot.taken() {
                return ControlFlow::Break(());
            }
        }
        ControlFlow::Continue(())
    }

    /// What is due happens; and the life ends when nothing more can.
    fn go_on(&mut self) -> Option<End> {
        self.world.invariants.pruning_log().look_at_segments(&self.world.config.spool.path);
        self.look_at_exceptions();
        self.world.count();
        let back = std::mem::take(&mut *self.again.lock().unwrap());
        for submission in back {
            self.world.to_come.push_front((self.truth().plus(HOUR / 4), What::Send(submission)));
        }
        while let Some((at, _)) = self.world.to_come.front()
            && *at <= self.truth()
        {
            let (_, what) = self.world.to_come.pop_front().unwrap();
            if let Some(end) = self.happen(what) {
                return self.end(end);
            }
        }
        let nothing_waits = self.spool.stats().queued_messages == 0 && self.clients.is_empty();
        let is_over = nothing_waits && self.world.to_come.is_empty() && self.again.lock().unwrap().is_empty();
        if is_over { self.end(End::Empty) } else { None }
    }

    /// They end on their day, and when nothing needs them any more.
    fn look_at_exceptions(&mut self) {
        let now = self.clock.now();
        if self.age() < WATCHED {
            return;
        }
        self.world.end_forgiveness(now);
        let (name, standing) = (self.world.name(), self.pipeline.out.exceptions_now());
        let in_force = |domain: &String| standing.in_force.iter().any(|one| one.domains == **domain);
        let for_ever: Vec<&String> = self.world.invariants.passing.keys().filter(|domain| in_force(domain)).collect();
        assert!(for_ever.is_empty() || self.world.invariants.set_backs > 0, "{name}: {for_ever:?} forgiven for ever");
        let day_is_just_over = now >= FORGIVEN_UNTIL_END && now.since(FORGIVEN_UNTIL_END) < TOLD;
        if self.age() >= TOLD && now.since(self.set_at) >= TOLD && !day_is_just_over {
            self.look_at_metrics(&name, &standing);
        }
    }

    /// The watchers tell of what they see.
    fn look_at_metrics(&self, name: &str, standing: &Exceptions) {
        let metrics = self.pipeline.observer.render(&self.spool.stats(), self.clock.now());
        for (metric, exceptions) in
            [("relay_exceptions", &standing.in_force), ("relay_exceptions_over", &standing.over)]
        {
            let told = format!("{metric}{{kind=\"opportunistic\"}} {}\n", exceptions.len());
            assert!(exceptions.is_empty() || metrics.contains(&told), "{name}: not told of {exceptions:?}");
        }
        assert!(metrics.contains("relay_selfcheck_status"), "{name}: nobody looks at this host");
    }

    fn end(&self, end: End) -> Option<End> {
        self.stop.cancel();
        Some(end)
    }

    fn happen(&mut self, what: What) -> Option<End> {
        self.world.invariants.pruning_log().note_time();
        match what {
            What::Send(submission) => self.send(submission),
            What::Heal => {
                self.world.paths.lock().unwrap().change();
                let sts = &self.pipeline.out.sts;
                self.world.heal(|domain| sts.cached(&domain.parse().unwrap()).is_some());
            }
            What::Break if self.age() >= WATCHED => {
                self.world.paths.lock().unwrap().change();
                self.world.break_again();
            }
            // What the last life did not get to, this one does first.
            What::Break => self.world.to_come.push_front((self.truth().plus(WATCHED), What::Break)),
            What::Operate(act, number) => self.operate(act, number),
            What::ReleaseAll => self.release_all(),
            What::SetOn(by) => {
                self.world.invariants.set_on = true;
                self.clock.advance(by);
                self.set_at = self.clock.now();
            }
            What::SetBack(by) => {
                self.world.invariants.set_backs += 1;
                self.clock.set_back(by);
                self.set_at = self.clock.now();
            }
            What::Restart => return Some(End::Stopped),
            What::ReadMetrics if self.spool.stats().queued_messages == 0 => {
                self.world.metrics = self.pipeline.observer.render(&self.spool.stats(), self.clock.now());
            }
            What::ReadMetrics => self.world.to_come.push_back((self.truth().plus(HOUR), What::ReadMetrics)),
        }
        None
    }

    fn send(&mut self, submission: Submission) {
        let answers = Arc::clone(&self.world.invariants.answers);
        answers.lock().unwrap().insert(submission.number, (submission.clone(), SubmissionResult::Nothing));
        let (ours, theirs) = duplex(64 * 1024);
        let peer = ([127, 0, 0, 1], 40_000).into();
        tokio::spawn(listener::session(Arc::clone(&self.acceptor), theirs, peer, self.stop.clone()));
        let again = Arc::clone(&self.again);
        self.clients.spawn(async move {
            let mail = format!("MAIL FROM:<{}>{}", submission.from, submission.ret);
            let rcpt: Vec<String> =
                submission.to.iter().map(|to| format!("RCPT TO:<{to}>{}", submission.notify)).collect();
            let mut client = SmtpClient::over(ours).await?;
            client.ehlo("exchange.office.test").await?;
            let handed = client.transact(&mail, &rcpt, &submission.content()).await?;
            if handed.accepted() {
                answers.lock().unwrap().insert(submission.number, (submission, SubmissionResult::Accepted));
            } else {
                again.lock().unwrap().push(submission);
            }
            std::io::Result::Ok(())
        });
    }

    fn operate(&mut self, act: Act, number: usize) {
        if matches!(act, Act::Bounce | Act::Delete) {
            self.world.invariants.ended_by_operator.insert(number);
        }
        self.world.invariants.held |= act == Act::Hold;
        let message_id = format!("n{number}@office.test");
        let ledger = StateReader::open(&self.world.config.spool.path).unwrap();
        for message in ledger.find(&message_id, 1).unwrap().messages {
            self.order(act, message);
        }
    }

    /// Now, and again as long as somebody waits: a crash may have come in between.
    fn release_all(&mut self) {
        let ledger = StateReader::open(&self.world.config.spool.path).unwrap();
        let mut held = Vec::new();
        let look = |listed: Listed| {
            if let Listed::Message(message) = listed
                && message.standing == MessageState::Held
            {
                held.push(*message);
            }
            ControlFlow::Continue(())
        };
        ledger.for_each_waiting(look).unwrap();
        held.into_iter().for_each(|message| self.order(Act::Release, message));
        if self.spool.stats().queued_messages > 0 {
            self.world.to_come.push_back((self.truth().plus(12 * HOUR), What::ReleaseAll));
        }
    }

    fn order(&self, act: Act, message: LedgerMessage) {
        let hold = if message.standing == MessageState::Held { Hold::Held } else { Hold::Scheduled };
        let pipeline = Arc::clone(&self.pipeline);
        let all: Vec<usize> = (0..message.recipients.len()).collect();
        self.clients.spawn(async move {
            pipeline.operate(&Order { act, actor: Actor::default() }, message.id, &all, hold).await
        });
    }
}

/// The relay, put together as in service, with the world's own paths.
fn service(world: &World, clock: Clock, spool: Arc<dyn Spool>) -> Service {
    let config = Arc::new(world.config.clone());
    let observer = Arc::new(Observer::new().unwrap());
    let told = Arc::clone(&observer);
    let told = Arc::new(move |event: &DnsEvent<'_>| told.dns(event));
    let dns = Arc::new(Dns::over(&config, world.dns_paths(&clock), clock.clone(), told).unwrap());
    let paths = OutboundPaths { dns, network: Arc::clone(&world.network) as _, clock };
    let out = start::outbound(config, paths, &observer).unwrap();
    Service::new(out, spool, observer, load_texts(&dane_relay::config::NotifyConfig::default()).unwrap()).unwrap()
}
