//! The lock, the waiting and the clock around the gates.

use super::feedback::Feedback;
use super::gates::{Asked, Gates, News, SeatId, Ticket};
use super::view::HostsView;
use super::{Away, Eagerness, Gate, Goal, HostBounds, Leaving};
use crate::clock::{Clock, Timestamp};
use crate::config::{Config, Rate};
use crate::envelope::QueueId;
use crate::outcome::Peer;
use crate::route::NextHop;
use crate::spool::cluster::NodeShare;
use crate::spool::findings::Finding;
use futures_util::FutureExt as _;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::{Instant, timeout};

/// The longest wait in a line, so that what was found out about the way does not grow old.
const LONGEST_WAIT: Duration = Duration::from_secs(60);
/// Between two looks whether a place is held for nothing.
const LOOK: Duration = Duration::from_secs(1);
/// The shortest wait for a rate.
const TICK: Duration = Duration::from_millis(1);
/// No server keeps us waiting.
const NOBODY_WAITS: i64 = i64::MIN;

/// A message outside is called: it is in the spool, due then or before.
pub(crate) type Call = (QueueId, Timestamp);

/// The gates of all receiving hosts. All copies are one.
#[derive(Clone)]
pub(crate) struct HostLimits {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    clock: Clock,
    calls: mpsc::UnboundedSender<Call>,
}

struct State {
    gates: Gates,
    waiting: BTreeMap<Ticket, oneshot::Sender<Result<HostSeat, Away>>>,
    signals: BTreeMap<SeatId, Arc<Signals>>,
}

/// What whoever speaks to a server and whoever wants its place tell each other.
struct Signals {
    kept_since: AtomicI64,
    cut: Notify,
}

/// A place at a gate, given back when it is dropped.
pub struct HostSeat {
    shared: Arc<Shared>,
    id: SeatId,
    signals: Arc<Signals>,
    address: Option<SocketAddr>,
    messages: u32,
}

/// While it lives, a server keeps us waiting.
pub struct Listening<'a> {
    seat: &'a HostSeat,
}

/// Waits in a line; leaves it when dropped.
struct InLine<'a> {
    shared: &'a Shared,
    ticket: Ticket,
}

impl HostLimits {
    /// Gates with these limits, and the messages that will be called.
    #[must_use]
    pub(crate) fn new(limits: HostBounds, clock: Clock) -> (Self, mpsc::UnboundedReceiver<Call>) {
        let (calls, called) = mpsc::unbounded_channel();
        let state = State { gates: Gates::new(limits), waiting: BTreeMap::new(), signals: BTreeMap::new() };
        (Self { shared: Arc::new(Shared { state: Mutex::new(state), clock, calls }) }, called)
    }

    /// The limits of another configuration from now on. Whoever is at work goes on.
    pub(crate) fn set_limits(&self, config: &Config) {
        let (mut state, mut news) = (self.shared.state(), News::default());
        let limits = state.gates.limits.succeeded_by(config);
        state.gates.set_limits(limits, self.shared.clock.now(), &mut news);
        Shared::tell(&self.shared, state, news);
    }

    /// Another part of what all relays may do together from now on. Whoever is at work goes on.
    pub(crate) fn set_share(&self, share: NodeShare) {
        let (mut state, mut news) = (self.shared.state(), News::default());
        if state.gates.limits.share == share {
            return;
        }
        let limits = HostBounds { share, ..state.gates.limits.clone() };
        state.gates.set_limits(limits, self.shared.clock.now(), &mut news);
        Shared::tell(&self.shared, state, news);
    }

    /// What the relays that share the spool were not told yet.
    pub(crate) fn tell(&self) -> Vec<Finding> {
        let now = self.shared.clock.now();
        self.shared.state().gates.tell(now)
    }

    /// Another of them, `by` its number, has told something.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(crate) fn hear(&self, by: i16, finding: &Finding) -> Result<(), String> {
        let (mut state, mut news) = (self.shared.state(), News::default());
        let heard = state.gates.hear(by, finding, self.shared.clock.now(), &mut news);
        Shared::tell(&self.shared, state, news);
        heard
    }

    /// Whoever waits goes back into the spool, for this relay ends.
    pub(crate) fn send_away(&self) {
        // Dropped outside of the lock, for each of them leaves its line.
        let waiting = std::mem::take(&mut self.shared.state().waiting);
        drop(waiting);
    }

    /// Waits for a place for a message to a next hop, unless the line is long.
    ///
    /// # Errors
    /// What to do instead.
    pub(crate) async fn enter_hop(&self, hop: &NextHop, most: usize, rate: Option<Rate>) -> Result<HostSeat, Away> {
        self.wait(Goal::Hop { hop: hop.clone(), most, rate }, Eagerness::MayComeAgain).await
    }

    /// Waits for a place for a message at a server.
    ///
    /// # Errors
    /// What to do instead.
    pub(crate) async fn enter(&self, hop: &NextHop, peer: &Peer, eagerness: Eagerness) -> Result<HostSeat, Away> {
        let (group, address) = (self.shared.state().gates.limits.group_of(peer), peer.address);
        let goal = Goal::Server { hop: hop.clone(), name: peer.host.clone(), address, group };
        let mut seat = self.wait(goal, eagerness).await?;
        (seat.address, seat.messages) = (Some(address), self.shared.state().gates.limits.messages(group));
        Ok(seat)
    }

    async fn wait(&self, goal: Goal, eagerness: Eagerness) -> Result<HostSeat, Away> {
        let (ticket, mut told, mut again) = {
            let mut state = self.shared.state();
            match state.gates.ask(goal, eagerness, self.shared.clock.now()) {
                Asked::Admitted(id) => return Ok(HostSeat::new(&self.shared, &mut state, id)),
                Asked::Away(away) => return Err(away),
                Asked::InLine(ticket, again) => {
                    let (tell, told) = oneshot::channel();
                    state.waiting.insert(ticket, tell);
                    (ticket, told, again)
                }
            }
        };
        let in_line = InLine { shared: &self.shared, ticket };
        let end = Instant::now() + LONGEST_WAIT;
        loop {
            let pause = again.map_or(LOOK, |at| at.since(self.shared.clock.now()).clamp(TICK, LOOK));
            match timeout(pause, &mut told).await {
                Ok(Ok(told)) => return told,
                Ok(Err(_never_dropped)) => {
                    return Err(self.shared.state().gates.tired(in_line.ticket, self.shared.clock.now()));
                }
                Err(_elapsed) => {}
            }
            if eagerness == Eagerness::MayComeAgain && Instant::now() >= end {
                return Err(self.shared.state().gates.tired(in_line.ticket, self.shared.clock.now()));
            }
            again = self.look(ticket);
        }
    }

    /// Whether somebody in line may go now, or a place is held for nothing. Gives when a rate lets the
    /// next one go.
    fn look(&self, ticket: Ticket) -> Option<Timestamp> {
        let (now, mut news) = (self.shared.clock.now(), News::default());
        let mut state = self.shared.state();
        let again = state.gates.ask_again(ticket, now, &mut news);
        let State { gates, signals, .. } = &mut *state;
        if let Some(seat) = gates.cut(ticket, |seat| signals.get(&seat)?.kept_since(), now)
            && let Some(signals) = signals.get(&seat)
        {
            signals.cut.notify_one();
        }
        Shared::tell(&self.shared, state, news);
        again
    }

    /// A message that was sent away from a gate is in the spool, due `until` then: it is called before,
    /// when the line moves.
    pub(crate) fn put_outside(&self, id: QueueId, gate: Gate, until: Timestamp) {
        let mut state = self.shared.state();
        let news = state.gates.put_outside(id, gate, until, self.shared.clock.now());
        Shared::tell(&self.shared, state, news);
    }

    /// Somebody has the message, so it is not to be called.
    pub(crate) fn is_claimed(&self, id: QueueId) {
        self.shared.state().gates.is_claimed(id);
    }

    /// The operator wants a next hop tried now, whatever its servers were like.
    pub(crate) fn forgive(&self, hop: &NextHop) {
        self.shared.state().gates.forgive(hop);
    }

    /// How all hosts stand.
    #[must_use]
    pub(crate) fn view(&self) -> HostsView {
        self.shared.state().gates.view(self.shared.clock.now())
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells the news, with the lock open again: whoever has gone gives its place back at once.
    fn tell(shared: &Arc<Self>, mut state: MutexGuard<'_, State>, news: News) {
        let seated = |(ticket, told): (Ticket, Result<SeatId, Away>)| {
            let told = told.map(|id| HostSeat::new(shared, &mut state, id));
            (state.waiting.remove(&ticket), told)
        };
        let told: Vec<_> = news.told.into_iter().map(seated).collect();
        drop(state);
        for (tell, told) in told {
            if let Some(tell) = tell {
                let _gone = tell.send(told);
            }
        }
        for call in news.called {
            // Without a pipeline they come by themselves.
            let _nobody_listens = shared.calls.send(call);
        }
    }
}

impl Signals {
    fn kept_since(&self) -> Option<Timestamp> {
        Some(self.kept_since.load(Ordering::Relaxed)).filter(|since| *since != NOBODY_WAITS).map(Timestamp)
    }
}

impl HostSeat {
    fn new(shared: &Arc<Shared>, state: &mut State, id: SeatId) -> Self {
        let signals = Arc::new(Signals { kept_since: AtomicI64::new(NOBODY_WAITS), cut: Notify::new() });
        state.signals.insert(id, Arc::clone(&signals));
        let messages = state.gates.limits.messages;
        Self { shared: Arc::clone(shared), id, signals, address: None, messages }
    }

    /// The server has greeted us.
    pub fn greeted(&self) {
        let (mut state, mut news) = (self.shared.state(), News::default());
        state.gates.greeted(self.id, self.shared.clock.now(), &mut news);
        Shared::tell(&self.shared, state, news);
    }

    /// Leaves the server. The place among all is held until this is dropped: when what was delivered is
    /// recorded. That bounds what a crash can deliver twice.
    pub fn leave(&self, feedback: &Feedback) -> Leaving {
        let (mut state, mut news) = (self.shared.state(), News::default());
        let leaving = state.gates.left(self.id, feedback, self.shared.clock.now(), &mut news);
        Shared::tell(&self.shared, state, news);
        leaving
    }

    /// Waits for the server from now on.
    #[must_use]
    pub fn listening(&self) -> Listening<'_> {
        // What was meant for an earlier wait comes too late.
        let _too_late = self.signals.cut.notified().now_or_never();
        self.signals.kept_since.store(self.shared.clock.now().0, Ordering::Relaxed);
        Listening { seat: self }
    }

    /// How many connections may wait for their next message at this address.
    #[must_use]
    pub fn spare(&self) -> usize {
        let now = self.shared.clock.now();
        self.address.map_or(usize::MAX, |address| self.shared.state().gates.spare(address, now))
    }

    /// The most messages of one connection to this server.
    #[must_use]
    pub const fn messages(&self) -> u32 {
        self.messages
    }
}

impl Drop for HostSeat {
    fn drop(&mut self) {
        let (mut state, mut news) = (self.shared.state(), News::default());
        state.signals.remove(&self.id);
        state.gates.recorded(self.id, self.shared.clock.now(), &mut news);
        Shared::tell(&self.shared, state, news);
    }
}

impl Listening<'_> {
    /// Others want the place of this server, which has kept us waiting for long.
    pub async fn cut(&self) {
        self.seat.signals.cut.notified().await;
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        self.seat.signals.kept_since.store(NOBODY_WAITS, Ordering::Relaxed);
    }
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        let mut state = self.shared.state();
        state.waiting.remove(&self.ticket);
        state.gates.leave_line(self.ticket);
    }
}

#[cfg(test)]
#[path = "driver_tests.rs"]
mod tests;
