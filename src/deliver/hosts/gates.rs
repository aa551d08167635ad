//! Who may go where now, and who waits for what (pure; RFC 5321 §4.5.4.1).
//!
//! A message passes the gate of its next hop, and then, for each server that it is offered to,
//! those of the address, of the host's name, of the operator's `[[host]]`, and of one of three shares:
//! hosts that answer, hosts that nobody knows yet, and hosts that did not answer when they were last tried.
//! A share is never lent, so that the silent cannot take the places of the others, nor keep a host that is
//! new from a first look: while others wait for theirs, whoever does not answer at once goes over to the
//! third share, where it has more time. Whoever cannot pass stands in the line of the gate that
//! stops it; where that is long enough the message goes back into the spool, and its number is kept
//! *outside*, to be called when the line moves. So a free place and a message that is due meet at
//! once, and memory holds few messages for any one host.
//!
//! A line stands only before a gate that is full: whatever makes room lets in whom it can. When
//! the relay backs off from a host, all who wait for it are told, and until when.

use super::feedback::Feedback;
use super::record::Record;
use super::{Away, Eagerness, Gate, Goal, HostBounds, Leaving};
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::outcome::Cause;
use crate::route::NextHop;
use crate::spool::cluster::UNCALLED;
use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

/// Messages known to wait outside. More come again by themselves.
const MOST_OUTSIDE: usize = 200_000;
/// Messages called at once: some are stopped elsewhere.
const CALLED_AT_ONCE: usize = 2;
/// For how long a server that nobody knows may keep us waiting at the first look while others want its place.
const FIRST_LOOK: Duration = Duration::from_secs(2);
/// The same for one that did not answer at the first look, or when it was last tried.
const PATIENCE_WITH_SLOW: Duration = Duration::from_secs(10);
/// The same for one that has.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who stands in a line, in the order of coming.
pub(super) type Ticket = u64;
/// The number of a seat that is taken.
pub(super) type SeatId = u64;

/// What comes of asking.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// There is a seat, and this is its number.
    Admitted(SeatId),
    /// Wait; where a rate holds, until about then.
    InLine(Ticket, Option<Timestamp>),
    /// Go away.
    Away(Away),
}

/// What others are told when something changes.
#[derive(Debug, Default)]
pub(super) struct News {
    /// Those who waited: a place, or that the host is left alone.
    pub(super) told: Vec<(Ticket, Result<SeatId, Away>)>,
    /// Messages outside that are called, and when they are due without that.
    pub(super) called: Vec<(QueueId, Timestamp)>,
}

/// One gate.
#[derive(Debug, Default)]
pub(super) struct GateState {
    pub(super) in_use: usize,
    pub(super) line: BTreeSet<Ticket>,
    /// Messages outside, in the order of coming.
    pub(super) outside: BTreeMap<Ticket, QueueId>,
    pub(super) record: Record,
    /// The most by the configuration.
    pub(super) ceiling: usize,
    /// Of an address: the last name it was reached by.
    pub(super) name: String,
    /// Of a next hop: where its mail went.
    pub(super) addresses: BTreeSet<SocketAddr>,
    pub(super) used: u64,
}

impl Gate {
    /// Whether hosts wait there of which one does not know whether they answer.
    pub(super) const fn is_for_strangers(&self) -> bool {
        matches!(self, Self::New | Self::Slow)
    }
}

impl HostBounds {
    /// Whether there are places enough for a share of first looks.
    pub(super) const fn has_first_looks(&self) -> bool {
        self.all >= super::FEW_PLACES
    }
}

impl GateState {
    pub(super) fn is_idle(&self) -> bool {
        self.in_use == 0 && self.line.is_empty() && self.outside.is_empty()
    }
}

#[derive(Debug)]
pub(super) struct StandingInLine {
    pub(super) goal: Goal,
    in_line_of: Gate,
}

#[derive(Debug)]
pub(super) struct SeatState {
    pub(super) gates: Vec<Gate>,
    share: Option<Gate>,
    began: Timestamp,
    /// Whether the server has greeted us.
    pub(super) greeted: Greeted,
    cut: Option<Timestamp>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Greeted {
    NotYet,
    Yes,
}

/// What stops a message.
pub(super) enum GateStop {
    Full(Gate),
    Paced(Gate, Timestamp),
    BackingOff(Timestamp, Cause),
}

/// All gates, and all who are in or wait.
#[derive(Debug)]
pub(super) struct Gates {
    pub(super) limits: HostBounds,
    pub(super) states: BTreeMap<Gate, GateState>,
    pub(super) seats: BTreeMap<SeatId, SeatState>,
    pub(super) waiting: BTreeMap<Ticket, StandingInLine>,
    /// Where each message outside is called from, and when it is due without that.
    outside: BTreeMap<QueueId, (Gate, Ticket, Timestamp)>,
    pub(super) next: u64,
    pub(super) sweep_at: usize,
}

impl Gates {
    pub(super) fn new(limits: HostBounds) -> Self {
        let share = |ceiling| GateState { ceiling, ..GateState::default() };
        let states = limits.shares().map(|(gate, ceiling)| (gate, share(ceiling))).into();
        let (seats, waiting, outside) = Default::default();
        Self { limits, states, seats, waiting, outside, next: 0, sweep_at: 0 }
    }

    /// Asks for a place.
    pub(super) fn ask(&mut self, goal: Goal, eagerness: Eagerness, now: Timestamp) -> Asked {
        self.prepare(&goal);
        let (gate, again) = match self.stop(&goal, now) {
            None => return Asked::Admitted(self.admit(&goal, now)),
            Some(GateStop::BackingOff(until, cause)) => {
                return Asked::Away(Away::BackingOff { until, cause: Box::new(cause) });
            }
            Some(GateStop::Full(gate)) => (gate, None),
            Some(GateStop::Paced(gate, at)) => (gate, Some(at)),
        };
        if self.limit(&gate, now) == 0 {
            return Asked::Away(Away::Elsewhere);
        }
        if eagerness == Eagerness::MayComeAgain && self.line(&gate) >= self.longest_line(&gate, now) {
            return Asked::Away(Away::Full { gate, until: now.plus(UNCALLED) });
        }
        self.next += 1;
        let ticket = self.next;
        self.stand(ticket, goal, gate);
        Asked::InLine(ticket, again)
    }

    /// Who waits for a rate may have waited long enough. Says until when it goes on.
    pub(super) fn ask_again(&mut self, ticket: Ticket, now: Timestamp, news: &mut News) -> Option<Timestamp> {
        let gate = self.waiting.get(&ticket)?.in_line_of.clone();
        self.move_up(vec![gate], now, news);
        match self.stop(&self.waiting.get(&ticket)?.goal, now)? {
            GateStop::Paced(_, at) => Some(at),
            GateStop::Full(_) | GateStop::BackingOff(..) => None,
        }
    }

    /// Who waits has waited for too long.
    pub(super) fn tired(&self, ticket: Ticket, now: Timestamp) -> Away {
        let gate = self.waiting.get(&ticket).map_or(Gate::Answering, |waiting| waiting.in_line_of.clone());
        Away::Full { gate, until: now.plus(UNCALLED) }
    }

    /// Who waited has gone.
    pub(super) fn leave_line(&mut self, ticket: Ticket) {
        if let Some(waiting) = self.waiting.remove(&ticket)
            && let Some(state) = self.states.get_mut(&waiting.in_line_of)
        {
            state.line.remove(&ticket);
        }
    }

    /// The server has greeted us.
    pub(super) fn greeted(&mut self, id: SeatId, now: Timestamp, news: &mut News) {
        let Some(seat) = self.seats.get_mut(&id) else { return };
        if std::mem::replace(&mut seat.greeted, Greeted::Yes) == Greeted::Yes {
            return;
        }
        let mut freed: Vec<Gate> = seat.gates.iter().filter(|gate| matches!(gate, Gate::Address(_))).cloned().collect();
        let left = seat.share.take_if(|share| matches!(share, Gate::New | Gate::Slow));
        if left.is_some() {
            seat.share = Some(Gate::Answering);
        }
        for gate in &freed {
            if let Some(state) = self.states.get_mut(gate) {
                state.record.answered(now);
            }
        }
        if let Some(left) = left {
            self.count(&left, |in_use| in_use.saturating_sub(1));
            self.count(&Gate::Answering, |in_use| in_use + 1);
            freed.push(left);
        }
        self.move_up(freed, now, news);
    }

    /// The server is left. The share is held until [`Gates::recorded`].
    pub(super) fn left(&mut self, id: SeatId, feedback: &Feedback, now: Timestamp, news: &mut News) -> Leaving {
        let Some(seat) = self.seats.get_mut(&id) else { return Leaving::Done };
        let (gates, began) = (std::mem::take(&mut seat.gates), seat.began);
        let had_a_look = seat.cut.is_some() && seat.share == Some(Gate::New) && self.limits.has_first_looks();
        if had_a_look && matches!(feedback, Feedback::Silent(_)) {
            self.leave_too_soon(gates, now, news);
            return Leaving::TooSoon;
        }
        let is_turned_away = matches!(feedback, Feedback::TurnedAway(_));
        let is_crowd = |gate: &Gate| matches!(gate, Gate::Address(_)) && self.served(gate) > 0;
        let leaving = if is_turned_away && gates.iter().any(is_crowd) { Leaving::OneTooMany } else { Leaving::Done };
        for gate in &gates {
            self.learn(gate, feedback, began, now);
            self.count(gate, |in_use| in_use.saturating_sub(1));
        }
        self.move_up(gates, now, news);
        leaving
    }

    /// Nothing is known of the server but that it did not answer at once.
    fn leave_too_soon(&mut self, gates: Vec<Gate>, now: Timestamp, news: &mut News) {
        for gate in &gates {
            self.count(gate, |in_use| in_use.saturating_sub(1));
            if let (Gate::Address(_), Some(state)) = (gate, self.states.get_mut(gate)) {
                state.record.is_slow();
            }
        }
        self.move_up(gates, now, news);
    }

    /// What came of it is recorded.
    pub(super) fn recorded(&mut self, id: SeatId, now: Timestamp, news: &mut News) {
        let _done = self.left(id, &Feedback::Unknown, now, news);
        if let Some(SeatState { share: Some(share), .. }) = self.seats.remove(&id) {
            self.count(&share, |in_use| in_use.saturating_sub(1));
            self.move_up(vec![share], now, news);
        }
        self.call_where_there_is_room(now, news);
    }

    /// A message that was called from a share may have gone another way, because its host turned out to
    /// answer: then nobody of that share calls the next. So whoever is done does.
    fn call_where_there_is_room(&mut self, now: Timestamp, news: &mut News) {
        for share in [Gate::New, Gate::Slow, Gate::Answering] {
            let has_room = |state: &GateState| !state.outside.is_empty() && state.in_use < state.ceiling;
            if self.states.get(&share).is_some_and(has_room) {
                self.call(&share, now, news);
            }
        }
    }

    /// A message that was sent away is in the spool, due `until` then.
    pub(super) fn put_outside(&mut self, id: QueueId, gate: Gate, until: Timestamp, now: Timestamp) -> News {
        let mut news = News::default();
        self.is_claimed(id);
        if self.outside.len() < MOST_OUTSIDE {
            self.next += 1;
            let ticket = self.next;
            let state = self.states.entry(gate.clone()).or_default();
            state.outside.insert(ticket, id);
            self.outside.insert(id, (gate.clone(), ticket, until));
            // There may have been room since.
            self.move_up(vec![gate], now, &mut news);
        }
        news
    }

    /// Somebody has the message: it is not to be called.
    pub(super) fn is_claimed(&mut self, id: QueueId) {
        if let Some((gate, ticket, _)) = self.outside.remove(&id)
            && let Some(state) = self.states.get_mut(&gate)
        {
            state.outside.remove(&ticket);
        }
    }

    /// The operator wants a next hop tried now.
    pub(super) fn forgive(&mut self, hop: &NextHop) {
        let addresses = self.states.get(&Gate::Hop(hop.clone())).map(|state| state.addresses.clone());
        for address in addresses.into_iter().flatten() {
            if let Some(state) = self.states.get_mut(&Gate::Address(address)) {
                state.record.forgive();
            }
        }
    }

    /// How many connections may wait for their next message at an address besides those at work.
    pub(super) fn spare(&self, address: SocketAddr, now: Timestamp) -> usize {
        let gate = Gate::Address(address);
        let in_use = self.states.get(&gate).map_or(0, |state| state.in_use);
        self.limit(&gate, now).saturating_sub(in_use)
    }

    /// Whose place in a share is taken away because others wait for it: whose server has kept us
    /// waiting for longest, if that is long. `kept_since` says since when a server does that.
    pub(super) fn cut(
        &mut self,
        ticket: Ticket,
        kept_since: impl Fn(SeatId) -> Option<Timestamp>,
        now: Timestamp,
    ) -> Option<SeatId> {
        let share = &self.waiting.get(&ticket)?.in_line_of;
        let patience = match share {
            Gate::New if self.limits.has_first_looks() => FIRST_LOOK,
            Gate::New | Gate::Slow => PATIENCE_WITH_SLOW,
            Gate::Answering => PATIENCE,
            Gate::Hop(_) | Gate::Name(_) | Gate::Address(_) | Gate::Group(_) => return None,
        };
        let alike = self.seats.iter().filter(|(_, seat)| seat.share.as_ref() == Some(share) && seat.cut.is_none());
        let (_, id) = alike.filter_map(|(id, _)| Some((kept_since(*id)?, *id))).min()?;
        let (since, seat) = (kept_since(id)?, self.seats.get_mut(&id)?);
        (now.since(since) >= patience).then(|| {
            seat.cut = Some(now);
            id
        })
    }

    fn stand(&mut self, ticket: Ticket, goal: Goal, gate: Gate) {
        self.states.entry(gate.clone()).or_default().line.insert(ticket);
        self.waiting.insert(ticket, StandingInLine { goal, in_line_of: gate });
    }

    fn admit(&mut self, goal: &Goal, now: Timestamp) -> SeatId {
        self.next += 1;
        let id = self.next;
        let (gates, share, pace) = match goal {
            Goal::Hop { hop, rate, .. } => {
                let gate = Gate::Hop(hop.clone());
                (vec![gate.clone()], None, (gate, self.limits.part(*rate)))
            }
            Goal::Server { name, address, group, .. } => {
                let host = [Gate::Address(*address), Gate::Name(name.clone())].into_iter();
                let gates = host.chain(group.map(Gate::Group)).collect();
                (gates, Some(self.share(*address)), self.limits.rate(name, *group))
            }
        };
        gates.iter().chain(&share).for_each(|gate| self.count(gate, |in_use| in_use + 1));
        if let Some(state) = self.states.get_mut(&pace.0) {
            state.record.goes(pace.1, now);
        }
        self.seats.insert(id, SeatState { gates, share, began: now, greeted: Greeted::NotYet, cut: None });
        id
    }

    fn count(&mut self, gate: &Gate, change: impl FnOnce(usize) -> usize) {
        if let Some(state) = self.states.get_mut(gate) {
            state.in_use = change(state.in_use);
        }
    }

    /// Lets in whom these gates let in, and tells those whose host is left alone.
    pub(super) fn move_up(&mut self, gates: Vec<Gate>, now: Timestamp, news: &mut News) {
        for gate in gates {
            while let Some(ticket) = self.next_in_line(&gate) {
                let Some(waiting) = self.waiting.get(&ticket) else { break };
                match self.stop(&waiting.goal, now) {
                    Some(GateStop::Full(other) | GateStop::Paced(other, _)) if other == gate => break,
                    Some(GateStop::Full(other) | GateStop::Paced(other, _)) => {
                        let goal = waiting.goal.clone();
                        self.leave_line(ticket);
                        self.stand(ticket, goal, other);
                    }
                    Some(GateStop::BackingOff(until, cause)) => {
                        self.leave_line(ticket);
                        news.told.push((ticket, Err(Away::BackingOff { until, cause: Box::new(cause) })));
                    }
                    None => {
                        let goal = waiting.goal.clone();
                        self.leave_line(ticket);
                        let seat = self.admit(&goal, now);
                        news.told.push((ticket, Ok(seat)));
                    }
                }
            }
            self.call(&gate, now, news);
        }
    }

    /// The first in line. Where hosts that have not answered wait, the first and the last in turn, so that a
    /// host which is new does not wait behind thousands that are silent.
    fn next_in_line(&self, gate: &Gate) -> Option<Ticket> {
        let line = &self.states.get(gate)?.line;
        let is_lasts_turn = gate.is_for_strangers() && self.next.is_multiple_of(2);
        if is_lasts_turn { line.last().copied() } else { line.first().copied() }
    }

    /// Calls messages from outside into the line.
    fn call(&mut self, gate: &Gate, now: Timestamp, news: &mut News) {
        let (limit, longest) = (self.limit(gate, now), self.longest_line(gate, now));
        let Some(state) = self.states.get_mut(gate) else { return };
        let mut most = match state.record.rest(now) {
            // They are told that the relay backs off.
            Some(_) => usize::MAX,
            None if state.line.len() >= longest => 0,
            None => limit.saturating_sub(state.in_use + state.line.len()).max(CALLED_AT_ONCE),
        };
        while most > 0
            && let Some(id) = next_outside(gate, most, &mut state.outside)
        {
            if let Some((.., until)) = self.outside.remove(&id) {
                news.called.push((id, until));
                most -= 1;
            }
        }
    }
}

/// As in a line: of those for hosts that have not answered the last and the first in turn.
fn next_outside(gate: &Gate, turn: usize, outside: &mut BTreeMap<Ticket, QueueId>) -> Option<QueueId> {
    let is_lasts_turn = gate.is_for_strangers() && turn.is_multiple_of(2);
    let next = if is_lasts_turn { outside.pop_last() } else { outside.pop_first() };
    next.map(|(_, id)| id)
}

#[cfg(test)]
#[path = "gates_tests.rs"]
mod tests;
