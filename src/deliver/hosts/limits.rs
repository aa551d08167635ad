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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::deliver::hosts::gates::Asked;
    use crate::deliver::hosts::{Away, Eagerness, GroupId};
    use crate::route::NextHop;
    use crate::spool::cluster::NodeShare;
    use std::path::Path;

    const AT: fn(i64) -> Timestamp = |second| Timestamp(second * 1000);

    fn gates(more: &str, rank: usize, nodes: usize) -> Gates {
        let bounds = HostBounds::of(&Config::parse(more, Path::new("relay.toml")).unwrap());
        Gates::new(HostBounds { share: NodeShare::new(rank, nodes), ..bounds })
    }

    fn at_host(group: Option<GroupId>) -> Goal {
        let hop = NextHop::Domain("d.example".parse().unwrap());
        Goal::Server { hop, name: "mx.example".into(), address: ([10, 0, 0, 1], 25).into(), group }
    }

    #[test]
    fn of_connections_that_several_relays_keep_together_each_has_its_part() {
        let mut gates = gates("[delivery]\nmax_connections = 5\n", 4, 5);
        assert!(matches!(gates.ask(at_host(None), Eagerness::MustGoOn, AT(0)), Asked::Admitted(_)));
        assert!(matches!(gates.ask(at_host(None), Eagerness::MustGoOn, AT(0)), Asked::InLine(..)), "one of five");
        let alone = HostBounds { share: NodeShare::ALONE, ..gates.limits.clone() };
        let mut news = News::default();
        gates.set_limits(alone, AT(1), &mut news);
        assert_eq!(news.told.len(), 1, "the others are gone");
    }

    #[test]
    fn a_rate_that_several_relays_keep_together_is_as_much_slower_at_each() {
        let mut gates = gates("[delivery]\nrate = \"60/m\"\n", 0, 3);
        assert!(matches!(gates.ask(at_host(None), Eagerness::MustGoOn, AT(0)), Asked::Admitted(_)));
        let Asked::InLine(_, again) = gates.ask(at_host(None), Eagerness::MustGoOn, AT(0)) else { panic!() };
        assert_eq!(again, Some(AT(3)));
    }

    #[test]
    fn who_finds_that_all_places_are_those_of_another_relay_stands_in_no_line() {
        let rule = "[[host]]\nhosts = [\"mx.example\"]\nmax_connections = 1\n";
        let mut later = gates(rule, 1, 2);
        for eagerness in [Eagerness::MayComeAgain, Eagerness::MustGoOn] {
            let asked = later.ask(at_host(Some(0)), eagerness, AT(0));
            assert!(matches!(asked, Asked::Away(Away::Elsewhere)), "{asked:?}");
        }
        let mut first = gates(rule, 0, 2);
        assert!(matches!(first.ask(at_host(Some(0)), Eagerness::MustGoOn, AT(0)), Asked::Admitted(_)));
    }
}
