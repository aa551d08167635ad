//! Other limits while mail is under way (pure): nobody who is in has to leave, and whoever may come in by them
//! does at once.

use super::gates::{GateState, Gates, News};
use super::{Gate, Goal, HostBounds};
use crate::clock::Timestamp;

impl Gates {
    /// Other limits from now on. Nobody who is in has to leave; whoever may come in by them does.
    pub(super) fn set_limits(&mut self, limits: HostBounds, now: Timestamp, news: &mut News) {
        let groups = self.states.keys().filter_map(|gate| match gate {
            Gate::Group(group) => Some((gate.clone(), limits.together(*group))),
            Gate::Hop(_) | Gate::Name(_) | Gate::Address(_) | Gate::New | Gate::Slow | Gate::Answering => None,
        });
        let ceilings: Vec<(Gate, usize)> = groups.chain(limits.shares()).collect();
        self.limits = limits;
        let limits = &self.limits;
        let is_over = |gate: &Gate| matches!(gate, Gate::Group(group) if limits.rule(Some(*group)).is_none());
        self.states.retain(|gate, state| !is_over(gate) || !state.is_idle());
        for (gate, ceiling) in ceilings {
            if let Some(state) = self.states.get_mut(&gate) {
                state.ceiling = ceiling;
            }
        }
        let goals: Vec<Goal> = self.waiting.values().map(|waiting| waiting.goal.clone()).collect();
        goals.iter().for_each(|goal| self.prepare(goal));
        let has_any = |state: &GateState| !state.line.is_empty() || !state.outside.is_empty();
        let waited_at = self.states.iter().filter(|(_, state)| has_any(state)).map(|(gate, _)| gate.clone()).collect();
        self.move_up(waited_at, now, news);
    }
}
