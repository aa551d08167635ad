//! What lets a message pass a gate, and what a gate learns from those that come back (pure).

use super::feedback::Feedback;
use super::gates::{GateState, GateStop, Gates, Greeted};
use super::record::{Acquaintance, Trial};
use super::window::Ceiling;
use super::{Gate, Goal};
use crate::clock::Timestamp;
use std::net::SocketAddr;

/// Connections to a host that has not answered yet.
const MOST_TO_NEW: usize = 2;
/// Messages in a line, for each that may be at work.
const LINE_PER_PLACE: usize = 2;
/// The longest line.
pub(super) const LONGEST_LINE: usize = 1000;
/// Hosts and next hops known at once; of more the longest unused are forgotten.
pub(super) const MOST_GATES: usize = 20_000;
/// Addresses of one next hop that are remembered.
const MOST_ADDRESSES: usize = 12;
/// The longest line of hosts that have not answered: its middle has to wait for long.
const LONGEST_LINE_OF_NEW: usize = 20;

impl Gates {
    /// Makes sure that the gates are there, with the limits that hold.
    pub(super) fn prepare(&mut self, goal: &Goal) {
        self.forget_some();
        match goal {
            Goal::Hop { hop, most, .. } => {
                let part = self.limits.share.of(*most);
                self.touch(Gate::Hop(hop.clone()), part);
            }
            Goal::Server { hop, name, address, group } => {
                let ceiling = self.limits.connections(*group);
                self.touch(Gate::Name(name.clone()), ceiling);
                self.touch(Gate::Address(*address), ceiling).name.clone_from(name);
                if let Some(index) = group {
                    self.touch(Gate::Group(*index), self.limits.together(*index));
                }
                if let Some(state) = self.states.get_mut(&Gate::Hop(hop.clone()))
                    && state.addresses.len() < MOST_ADDRESSES
                {
                    state.addresses.insert(*address);
                }
            }
        }
    }

    fn touch(&mut self, gate: Gate, ceiling: usize) -> &mut GateState {
        self.next += 1;
        let state = self.states.entry(gate).or_default();
        (state.ceiling, state.used) = (ceiling, self.next);
        state
    }

    pub(super) fn stop(&self, goal: &Goal, now: Timestamp) -> Option<GateStop> {
        let full = |gate: Gate| {
            let in_use = self.states.get(&gate).map_or(0, |state| state.in_use);
            (in_use >= self.limit(&gate, now)).then_some(GateStop::Full(gate))
        };
        let paced = |(gate, rate): (Gate, _)| {
            let at = self.states.get(&gate)?.record.paced(rate, now)?;
            Some(GateStop::Paced(gate, at))
        };
        match goal {
            Goal::Hop { hop, rate, .. } => {
                let gate = Gate::Hop(hop.clone());
                full(gate.clone()).or_else(|| paced((gate, self.limits.part(*rate))))
            }
            Goal::Server { name, address, group, .. } => {
                let record = self.states.get(&Gate::Address(*address)).map(|state| &state.record);
                if let Some(rest) = record.and_then(|record| record.rest(now)) {
                    return Some(GateStop::BackingOff(rest.until, rest.cause.clone()));
                }
                full(Gate::Address(*address))
                    .or_else(|| full(Gate::Name(name.clone())))
                    .or_else(|| group.and_then(|index| full(Gate::Group(index))))
                    .or_else(|| paced(self.limits.rate(name, *group)))
                    .or_else(|| full(self.share(*address)))
            }
        }
    }

    pub(super) fn share(&self, address: SocketAddr) -> Gate {
        let known = self.states.get(&Gate::Address(address)).map(|state| state.record.acquaintance);
        match known {
            // With a single place there is nothing to share.
            _ if self.limits.all == 1 => Gate::Answering,
            Some(Acquaintance::Answers) => Gate::Answering,
            Some(Acquaintance::Failed) if self.limits.has_first_looks() => Gate::Slow,
            Some(Acquaintance::Failed | Acquaintance::New) | None => Gate::New,
        }
    }

    /// The most that may be in now.
    pub(super) fn limit(&self, gate: &Gate, now: Timestamp) -> usize {
        let Some(state) = self.states.get(gate) else { return usize::MAX };
        match (gate, state.record.acquaintance) {
            (Gate::Address(_), Acquaintance::New) => MOST_TO_NEW.min(state.ceiling),
            // One tries for all.
            (Gate::Address(_), Acquaintance::Failed) => 1.min(state.ceiling),
            (Gate::Address(_), Acquaintance::Answers) | (Gate::Name(_), _) => {
                state.record.window.limit(self.ceiling(state), now)
            }
            (Gate::Hop(_) | Gate::Group(_) | Gate::New | Gate::Slow | Gate::Answering, _) => state.ceiling,
        }
    }

    const fn ceiling(&self, state: &GateState) -> Ceiling {
        Ceiling { most: state.ceiling, share: self.limits.share }
    }

    pub(super) fn line(&self, gate: &Gate) -> usize {
        self.states.get(gate).map_or(0, |state| state.line.len())
    }

    pub(super) fn longest_line(&self, gate: &Gate, now: Timestamp) -> usize {
        let most = if gate.is_for_strangers() { LONGEST_LINE_OF_NEW } else { LONGEST_LINE };
        self.limit(gate, now).saturating_mul(LINE_PER_PLACE).min(most)
    }

    pub(super) fn learn(&mut self, gate: &Gate, feedback: &Feedback, began: Timestamp, now: Timestamp) {
        let served = self.served(gate);
        let retry = self.limits.retry.clone();
        let Some(state) = self.states.get_mut(gate) else { return };
        let ceiling = Ceiling { most: state.ceiling, share: self.limits.share };
        let (in_use, record) = (state.in_use, &mut state.record);
        match (gate, feedback) {
            (Gate::Address(_) | Gate::Name(_), Feedback::Took) => {
                record.answered(now);
                record.window.succeeded(in_use, ceiling, now);
            }
            (Gate::Address(_) | Gate::Name(_), Feedback::WantsLess) => record.window.troubled(began, now),
            (Gate::Address(_), Feedback::Answered) => record.answered(now),
            (Gate::Address(_), _) => record.failed(feedback, Trial { began, served }, &retry, now),
            // Another address of the host may be well.
            (Gate::Name(_), Feedback::TurnedAway(_)) if served > 0 => record.window.refused_one_more(served, now),
            (Gate::Name(_) | Gate::Hop(_) | Gate::Group(_) | Gate::New | Gate::Slow | Gate::Answering, _) => {}
        }
    }

    /// Others of ours that are past the greeting.
    pub(super) fn served(&self, gate: &Gate) -> usize {
        self.seats.values().filter(|seat| seat.greeted == Greeted::Yes && seat.gates.contains(gate)).count()
    }

    /// Forgets what was not used for longest, so that memory does not grow with the names of strangers.
    pub(super) fn forget_some(&mut self) {
        if self.states.len() < self.sweep_at.max(MOST_GATES) {
            return;
        }
        let is_lasting = |gate: &Gate| matches!(gate, Gate::New | Gate::Slow | Gate::Answering | Gate::Group(_));
        let idle = self.states.iter().filter(|(gate, state)| state.is_idle() && !is_lasting(gate));
        let mut used: Vec<u64> = idle.map(|(_, state)| state.used).collect();
        used.sort_unstable();
        if let Some(&last) = used.get(used.len() / 2) {
            self.states.retain(|gate, state| !state.is_idle() || is_lasting(gate) || state.used > last);
        }
        self.sweep_at = MOST_GATES.max(self.states.len() + MOST_GATES / 4);
    }
}
