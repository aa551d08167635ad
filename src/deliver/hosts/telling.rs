//! What relays that share a spool tell each other of receiving hosts (pure): how many connections a host takes, and that
//! a relay backs off from it.

use super::Gate;
use super::gates::{Gates, News};
use super::record::{HostExperience, OwnConnections};
use super::window::REMEMBERED_FOR;
use crate::clock::Timestamp;
use crate::spool::findings::{Finding, FindingTopic};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

/// What is told of one host at one time.
#[derive(Serialize, Deserialize)]
struct ToldHost {
    /// By the clock of whoever tells it, as are all times in the report.
    at: Timestamp,
    report: HostExperience,
}

impl Gates {
    /// What the other relays were not told yet.
    pub(super) fn tell(&mut self, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (gate, state) in &mut self.states {
            let Gate::Address(address) = gate else { continue };
            let report = state.record.report(now);
            let is_known = match &state.record.told {
                Some(told) => *told == report,
                None => report.is_blank(),
            };
            if is_known {
                continue;
            }
            let until = report.rest.as_ref().map_or(now, |rest| rest.until);
            let lives = until.since(now).max(REMEMBERED_FOR);
            let value = serde_json::to_vec(&ToldHost { at: now, report: report.clone() });
            state.record.told = Some(report);
            let (topic, name) = (FindingTopic::Host, address.to_string());
            findings.extend(value.ok().map(|value| Finding { topic, name, at: now, lives, value }));
        }
        findings
    }

    /// Another relay has told something, `by` its number.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn hear(&mut self, by: i16, finding: &Finding, now: Timestamp, news: &mut News) -> Result<(), String> {
        let address: SocketAddr = finding.name.parse().map_err(|_| format!("{} is no address", finding.name))?;
        let told: ToldHost = serde_json::from_slice(&finding.value).map_err(|error| error.to_string())?;
        let report = by_our_clock(told.report, finding.at.0.saturating_sub(told.at.0));
        let gate = Gate::Address(address);
        if !self.states.contains_key(&gate) && report.is_blank() {
            return Ok(());
        }
        self.forget_some();
        self.next += 1;
        let (next, served) = (self.next, self.served(&gate));
        let state = self.states.entry(gate.clone()).or_default();
        state.used = next;
        state.record.hear(by, report, OwnConnections { at_work: state.in_use, served });
        self.move_up(vec![gate], now, news);
        Ok(())
    }
}

fn by_our_clock(report: HostExperience, ahead_ms: i64) -> HostExperience {
    let ours = |at: Timestamp| Timestamp(at.0.saturating_add(ahead_ms));
    HostExperience {
        refused_above: report.refused_above.map(|(most, until)| (most, ours(until))),
        rest: report.rest.map(|mut rest| {
            (rest.since, rest.until) = (ours(rest.since), ours(rest.until));
            rest
        }),
        ..report
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::deliver::hosts::feedback::Feedback;
    use crate::deliver::hosts::gates::Asked;
    use crate::deliver::hosts::{Away, Eagerness, Goal, HostBounds};
    use crate::outcome::{Cause, Peer, Phase};
    use crate::route::NextHop;
    use crate::spool::cluster::NodeShare;
    use std::path::Path;

    const AT: fn(i64) -> Timestamp = |second| Timestamp(second * 1000);

    fn node(rank: usize) -> Gates {
        let bounds = HostBounds::of(&Config::parse("", Path::new("relay.toml")).unwrap());
        Gates::new(HostBounds { share: NodeShare::new(rank, 2), ..bounds })
    }

    fn address() -> SocketAddr {
        ([10, 0, 0, 1], 25).into()
    }

    fn ask(gates: &mut Gates, now: Timestamp) -> Asked {
        let hop = NextHop::Domain("d.example".parse().unwrap());
        let goal = Goal::Server { hop, name: "mx.example".into(), address: address(), group: None };
        gates.ask(goal, Eagerness::MustGoOn, now)
    }

    fn silent() -> Feedback {
        let peer = Peer { host: "mx.example".into(), address: address() };
        Feedback::Silent(Cause::TimedOut { peer, phase: Phase::Greeting })
    }

    /// One tries the host, which is silent.
    fn finds_it_silent(gates: &mut Gates, now: Timestamp) {
        let Asked::Admitted(seat) = ask(gates, now) else { panic!() };
        gates.left(seat, &silent(), now, &mut News::default());
        gates.recorded(seat, now, &mut News::default());
    }

    #[test]
    fn a_host_that_is_silent_to_one_relay_is_not_tried_by_the_other_and_whoever_waits_is_told() {
        let (mut one, mut two) = (node(0), node(1));
        assert!(one.tell(AT(0)).is_empty(), "nothing is known");
        finds_it_silent(&mut one, AT(10));
        let told = one.tell(AT(11));
        assert_eq!(told.len(), 1);
        assert!(one.tell(AT(12)).is_empty(), "it is told once");
        let waits = (0..9).map(|_| ask(&mut two, AT(12))).filter(|asked| matches!(asked, Asked::InLine(..))).count();
        assert!(waits > 0);
        // The other clock is a hundred seconds behind.
        let heard = Finding { at: AT(111), ..told[0].clone() };
        let mut news = News::default();
        two.hear(1, &heard, AT(112), &mut news).unwrap();
        assert_eq!(news.told.len(), waits);
        let Asked::Away(Away::BackingOff { until, .. }) = ask(&mut two, AT(112)) else { panic!() };
        let Asked::Away(Away::BackingOff { until: first, .. }) = ask(&mut one, AT(12)) else { panic!() };
        assert_eq!(until.0 - first.0, 100_000, "until the same moment");
        assert!(two.tell(AT(113)).iter().all(|finding| !String::from_utf8_lossy(&finding.value).contains("TimedOut")));
    }

    #[test]
    fn what_cannot_be_read_is_an_error_and_changes_nothing() {
        let (mut one, mut two) = (node(0), node(1));
        finds_it_silent(&mut one, AT(10));
        let told = one.tell(AT(11)).remove(0);
        for broken in [Finding { name: "x".into(), ..told.clone() }, Finding { value: b"{}".to_vec(), ..told }] {
            assert!(two.hear(1, &broken, AT(12), &mut News::default()).is_err());
        }
        assert!(matches!(ask(&mut two, AT(12)), Asked::Admitted(_)));
    }
}
