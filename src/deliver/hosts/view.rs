//! How receiving hosts stand, for the operator: what is in force, what was learnt, who waits and
//! until when (pure).

use super::Gate;
use super::gates::{GateState, Gates};
use super::record::Acquaintance;
use crate::clock::Timestamp;
use crate::text::counted;
use serde::{Deserialize, Serialize};
use std::cmp::Reverse;

/// Hosts that are shown one by one.
const MOST_SHOWN: usize = 20;

/// How all of them stand.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostsView {
    /// Attempts at hosts that answer, and the most of them.
    pub answering: Share,
    /// Attempts at hosts that have not answered, and the most of them.
    pub new: Share,
    /// Messages in memory that wait for a place.
    pub in_line: usize,
    /// Messages in the spool that are due and wait for a place.
    pub outside: usize,
    /// Hosts that the relay backs off from.
    pub backing_off: usize,
    /// Hosts that get fewer connections than the configuration allows, while messages wait.
    pub held_back: usize,
    /// Those worth a look: messages wait for them, or the relay backs off. At most twenty.
    pub hosts: Vec<HostView>,
    /// Such hosts that are not listed.
    pub further: usize,
}

impl HostsView {
    /// Connections at work.
    #[must_use]
    pub const fn at_work(&self) -> usize {
        self.answering.used.saturating_add(self.new.used)
    }
}

/// Places of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Share {
    /// In use.
    pub used: usize,
    /// The most.
    pub most: usize,
}

/// One receiving host, next hop or `[[host]]`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostView {
    /// Name and address, or the next hop, or the patterns of the `[[host]]`.
    pub host: String,
    /// Connections at work, and how many it gets at the moment.
    pub connections: Share,
    /// Messages that wait for it, in memory and in the spool.
    pub waiting: usize,
    /// Why it gets no more.
    pub why: String,
    /// Until when the relay backs off.
    pub until: Option<Timestamp>,
}

impl HostView {
    /// One line for people.
    #[must_use]
    pub fn sentence(&self) -> String {
        let Share { used, most } = self.connections;
        let until = self.until.map_or_else(String::new, |until| format!(" until {}", until.to_second()));
        let waiting = counted(self.waiting as u64, "message");
        format!("{}: {waiting} waiting, {used} of {most} connections at work, {}{until}", self.host, self.why)
    }
}

impl Gates {
    /// How all stands.
    pub(super) fn view(&self, now: Timestamp) -> HostsView {
        let share = |gate: &Gate| {
            self.states.get(gate).map_or_else(Share::default, |state| Share { used: state.in_use, most: state.ceiling })
        };
        let (new, slow) = (share(&Gate::New), share(&Gate::Slow));
        let new = Share { used: new.used + slow.used, most: new.most + slow.most };
        let mut view = HostsView { answering: share(&Gate::Answering), new, ..HostsView::default() };
        let mut hosts = Vec::new();
        for (gate, state) in &self.states {
            view.in_line += state.line.len();
            view.outside += state.outside.len();
            let is_backing_off = state.record.rest(now).is_some();
            view.backing_off += usize::from(is_backing_off);
            let waits = !state.line.is_empty() || !state.outside.is_empty();
            view.held_back += usize::from(waits && !is_backing_off && self.limit(gate, now) < state.ceiling);
            if (waits || is_backing_off) && !matches!(gate, Gate::New | Gate::Slow | Gate::Answering) {
                hosts.push((Reverse(state.line.len() + state.outside.len()), gate));
            }
        }
        hosts.sort_unstable();
        view.further = hosts.len().saturating_sub(MOST_SHOWN);
        let shown = hosts.into_iter().take(MOST_SHOWN).filter_map(|(_, gate)| Some((gate, self.states.get(gate)?)));
        view.hosts = shown.map(|(gate, state)| self.host_view(gate, state, now)).collect();
        view
    }

    fn host_view(&self, gate: &Gate, state: &GateState, now: Timestamp) -> HostView {
        let rest = state.record.rest(now);
        let limit = self.limit(gate, now);
        let why = match (rest, gate, state.record.acquaintance) {
            (Some(rest), ..) => format!("backing off ({})", rest.cause.sentence()),
            (None, Gate::Address(_), Acquaintance::New) => "it has not answered yet".to_owned(),
            (None, Gate::Address(_), Acquaintance::Failed) => "one message tries for all".to_owned(),
            (None, Gate::Address(_) | Gate::Name(_), _) if limit < state.ceiling => {
                "as many as it was seen to take".to_owned()
            }
            (None, ..) if state.in_use < limit => "at its rate".to_owned(),
            (None, ..) => "as many as the configuration allows".to_owned(),
        };
        HostView {
            host: self.name_of(gate, state),
            connections: Share { used: state.in_use, most: limit },
            waiting: state.line.len() + state.outside.len(),
            why,
            until: rest.map(|rest| rest.until),
        }
    }

    fn name_of(&self, gate: &Gate, state: &GateState) -> String {
        match gate {
            Gate::Hop(hop) => format!("mail for {hop}"),
            Gate::Name(name) => name.clone(),
            Gate::Address(address) => format!("{} [{}]:{}", state.name, address.ip(), address.port()),
            Gate::Group(group) => {
                let patterns = self.limits.rule(Some(*group)).map(|rule| rule.hosts.iter().map(ToString::to_string));
                patterns.map_or_else(String::new, |patterns| patterns.collect::<Vec<_>>().join(", "))
            }
            Gate::New => "hosts that nobody knows yet".to_owned(),
            Gate::Slow => "hosts that have not answered".to_owned(),
            Gate::Answering => "hosts that answer".to_owned(),
        }
    }
}
