//! Each rule of the gates.

use super::*;
use crate::config::Config;
use crate::deliver::hosts::passing::{LONGEST_LINE, MOST_GATES};
use crate::outcome::{Peer, Phase};
use std::collections::VecDeque;
use std::path::Path;

fn gates(more: &str) -> Gates {
    let config = Config::parse(more, Path::new("relay.toml")).unwrap();
    Gates::new(HostBounds::of(&config))
}

fn at(second: i64) -> Timestamp {
    Timestamp(second * 1000)
}

fn hop(n: usize) -> NextHop {
    NextHop::Domain(format!("d{n}.example").parse().unwrap())
}

fn address(n: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, u8::try_from(n / 256).unwrap(), u8::try_from(n % 256).unwrap()], 25))
}

/// For the n-th domain, at its own host.
fn to(n: usize) -> Goal {
    Goal::Server { hop: hop(n), name: format!("mx{n}.example"), address: address(n), group: None }
}

/// For the n-th domain, at the host of all.
fn shared(n: usize) -> Goal {
    Goal::Server { hop: hop(n), name: "mx.example".into(), address: address(0), group: None }
}

fn silence() -> Feedback {
    let peer = Peer { host: "mx".into(), address: address(0) };
    Feedback::Silent(Cause::TimedOut { peer, phase: Phase::Greeting })
}

fn turned_away() -> Feedback {
    let peer = Peer { host: "mx".into(), address: address(0) };
    let reply = crate::smtp::reply::Reply { code: 421, enhanced: None, lines: vec!["too many connections".into()] };
    Feedback::TurnedAway(Cause::Rejected { peer, phase: Phase::Greeting, reply })
}

fn enter(gates: &mut Gates, goal: Goal, now: Timestamp) -> SeatId {
    match gates.ask(goal, Eagerness::MayComeAgain, now) {
        Asked::Admitted(seat) => seat,
        other @ (Asked::InLine(..) | Asked::Away(_)) => panic!("{other:?}"),
    }
}

fn wait(gates: &mut Gates, goal: Goal, now: Timestamp) -> Ticket {
    match gates.ask(goal, Eagerness::MustGoOn, now) {
        Asked::InLine(ticket, _) => ticket,
        other @ (Asked::Admitted(_) | Asked::Away(_)) => panic!("{other:?}"),
    }
}

fn is_away(asked: &Asked) -> bool {
    matches!(asked, Asked::Away(Away::BackingOff { .. }))
}

/// The host has answered once, and nobody is there.
fn met(gates: &mut Gates, goal: &Goal, now: Timestamp) {
    let seat = enter(gates, goal.clone(), now);
    gates.greeted(seat, now, &mut News::default());
    leave(gates, seat, &Feedback::Took, now);
}

fn leave(gates: &mut Gates, seat: SeatId, feedback: &Feedback, now: Timestamp) -> News {
    let mut news = News::default();
    let _leaving = gates.left(seat, feedback, now, &mut news);
    gates.recorded(seat, now, &mut news);
    news
}

fn admitted(news: &News) -> Vec<Ticket> {
    news.told.iter().filter(|(_, told)| told.is_ok()).map(|(ticket, _)| *ticket).collect()
}

#[test]
fn a_host_that_has_not_answered_gets_two_connections_and_then_five() {
    let mut gates = gates("");
    let first = enter(&mut gates, shared(1), at(0));
    enter(&mut gates, shared(2), at(0));
    let tickets: Vec<Ticket> = (3..9).map(|n| wait(&mut gates, shared(n), at(0))).collect();
    let mut news = News::default();
    gates.greeted(first, at(1), &mut news);
    assert_eq!(admitted(&news), tickets[..3], "in their order, whatever their domains");
}

#[test]
fn a_silent_host_is_known_after_the_first_silence_and_all_leave_its_line() {
    let mut gates = gates("");
    let seat = enter(&mut gates, shared(1), at(0));
    enter(&mut gates, shared(2), at(0));
    let tickets: Vec<Ticket> = (3..9).map(|n| wait(&mut gates, shared(n), at(0))).collect();
    let news = leave(&mut gates, seat, &silence(), at(30));
    let told: Vec<Ticket> = news.told.iter().map(|(ticket, _)| *ticket).collect();
    assert_eq!(told, tickets);
    for (_, told) in &news.told {
        assert!(matches!(told, Err(Away::BackingOff { until, .. }) if *until == at(330)), "{told:?}");
    }
    assert!(is_away(&gates.ask(shared(9), Eagerness::MustGoOn, at(31))));
    enter(&mut gates, to(7), at(31));
}

#[test]
fn after_the_wait_one_tries_for_all() {
    let mut gates = gates("");
    let seat = enter(&mut gates, shared(1), at(0));
    leave(&mut gates, seat, &silence(), at(30));
    let probe = enter(&mut gates, shared(1), at(330));
    let waiting = wait(&mut gates, shared(2), at(330));
    let mut news = News::default();
    gates.greeted(probe, at(331), &mut news);
    assert_eq!(admitted(&news), [waiting]);
}

#[test]
fn what_waits_outside_of_a_silent_host_is_called_to_hear_of_it() {
    let mut gates = gates("");
    let seat = enter(&mut gates, shared(1), at(0));
    enter(&mut gates, shared(2), at(0));
    let mut outside = 0;
    for n in 0..3000 {
        if let Asked::Away(Away::Full { gate, until }) = gates.ask(shared(n), Eagerness::MayComeAgain, at(0)) {
            outside += 1;
            assert!(gates.put_outside(QueueId(n as u64), gate, until, at(0)).called.is_empty());
        }
    }
    assert!(outside > 2990, "{outside}: the line of a host that has not answered is short");
    assert_eq!(leave(&mut gates, seat, &silence(), at(30)).called.len(), outside);
}

#[test]
fn places_of_hosts_that_answer_are_never_taken_by_those_that_do_not() {
    let mut gates = gates("");
    met(&mut gates, &shared(0), at(0));
    let silent: Vec<Asked> = (1..3001).map(|n| gates.ask(to(n), Eagerness::MayComeAgain, at(1))).collect();
    let at_work = silent.iter().filter(|asked| matches!(asked, Asked::Admitted(_))).count();
    assert_eq!(at_work, 62, "an eighth of all places");
    for _ in 0..5 {
        enter(&mut gates, shared(0), at(2));
    }
    let in_line = silent.iter().filter(|asked| matches!(asked, Asked::InLine(..))).count();
    assert!(in_line <= LONGEST_LINE, "{in_line} in memory");
}

#[test]
fn a_host_that_greets_moves_to_the_share_of_those_that_answer() {
    let mut gates = gates("[delivery]\nmax_concurrent = 4\n");
    let first = enter(&mut gates, to(1), at(0));
    let next = wait(&mut gates, to(2), at(0));
    let mut news = News::default();
    gates.greeted(first, at(0), &mut news);
    assert_eq!(admitted(&news), [next]);
}

#[test]
fn a_new_host_does_not_wait_behind_all_the_silent_ones() {
    let mut gates = gates("[delivery]\nmax_concurrent = 4\n");
    let mut seat = enter(&mut gates, to(0), at(0));
    let tickets: Vec<Ticket> = (1..100).map(|n| wait(&mut gates, to(n), at(0))).collect();
    let mut turn = Vec::new();
    for _ in 0..20 {
        let news = leave(&mut gates, seat, &silence(), at(1));
        let (ticket, told) = &news.told[0];
        turn.push(*ticket);
        seat = *told.as_ref().unwrap();
    }
    assert!(turn.contains(&tickets[0]), "nor do the first wait for ever: {turn:?}");
    assert!(turn.contains(tickets.last().unwrap()), "{turn:?}");
}

#[test]
fn who_is_kept_waiting_for_long_gives_way_when_others_wait_for_the_share() {
    let mut gates = gates("[delivery]\nmax_concurrent = 7\n");
    let mut since = BTreeMap::from([(enter(&mut gates, to(1), at(0)), at(0))]);
    let old = *since.keys().next().unwrap();
    let waiting = wait(&mut gates, to(3), at(6));
    assert_eq!(gates.cut(waiting, |seat| since.get(&seat).copied(), at(9)), None, "it may be slow");
    assert_eq!(gates.cut(waiting, |seat| since.get(&seat).copied(), at(10)), Some(old));
    assert_eq!(gates.cut(waiting, |seat| since.get(&seat).copied(), at(11)), None, "once");
    since.clear();
    assert_eq!(gates.cut(waiting, |_| None, at(100)), None, "who speaks is not cut off");
    assert_eq!(gates.left(old, &silence(), at(10), &mut News::default()), Leaving::Done);
    assert!(is_away(&gates.ask(to(1), Eagerness::MustGoOn, at(11))), "it had its time");
}

#[test]
fn a_first_look_is_short_while_others_wait_for_theirs_and_says_nothing_against_a_slow_host() {
    let mut gates = gates("[delivery]\nmax_concurrent = 16\n");
    let since = |seats: &[(SeatId, i64)]| {
        let seats: BTreeMap<SeatId, i64> = seats.iter().copied().collect();
        move |seat| seats.get(&seat).map(|second| at(*second))
    };
    let (slow, other) = (enter(&mut gates, to(1), at(0)), enter(&mut gates, to(2), at(1)));
    let waiting = wait(&mut gates, to(3), at(1));
    assert_eq!(gates.cut(waiting, since(&[(slow, 0), (other, 1)]), at(1)), None);
    assert_eq!(gates.cut(waiting, since(&[(slow, 0), (other, 1)]), at(2)), Some(slow));
    let mut news = News::default();
    assert_eq!(gates.left(slow, &silence(), at(2), &mut news), Leaving::TooSoon);
    gates.recorded(slow, at(2), &mut news);
    assert_eq!(admitted(&news), [waiting]);
    // It comes again where there is more time, while all places of first looks are taken.
    let again = enter(&mut gates, to(1), at(3));
    wait(&mut gates, to(4), at(3));
    gates.greeted(again, at(9), &mut News::default());
    enter(&mut gates, to(1), at(9));
}

#[test]
fn a_host_that_is_silent_for_as_long_as_a_slow_one_may_be_is_left_alone() {
    let mut gates = gates("[delivery]\nmax_concurrent = 8\n");
    let mut seat = enter(&mut gates, to(1), at(0));
    let waiting = wait(&mut gates, to(2), at(0));
    assert_eq!(gates.cut(waiting, |id| (id == seat).then_some(at(0)), at(2)), Some(seat));
    leave(&mut gates, seat, &silence(), at(2));
    seat = enter(&mut gates, to(1), at(3));
    let mut news = News::default();
    let second = gates.seats.keys().copied().find(|id| *id != seat).unwrap();
    leave(&mut gates, second, &silence(), at(5));
    let behind = wait(&mut gates, to(2), at(400));
    assert_eq!(gates.cut(behind, |id| (id == seat).then_some(at(3)), at(12)), None);
    assert_eq!(gates.cut(behind, |id| (id == seat).then_some(at(3)), at(13)), Some(seat));
    assert_eq!(gates.left(seat, &silence(), at(13), &mut news), Leaving::Done);
    assert!(is_away(&gates.ask(to(1), Eagerness::MustGoOn, at(14))));
}

#[test]
fn ten_domains_at_one_host_share_its_connections() {
    let mut gates = gates("");
    met(&mut gates, &shared(0), at(0));
    let asked: Vec<Asked> = (0..200).map(|n| gates.ask(shared(n % 10), Eagerness::MayComeAgain, at(1))).collect();
    assert_eq!(asked.iter().filter(|asked| matches!(asked, Asked::Admitted(_))).count(), 5);
}

#[test]
fn a_host_that_refuses_one_more_keeps_those_that_it_has() {
    let mut gates = gates("");
    met(&mut gates, &shared(0), at(0));
    let mut seats: Vec<SeatId> = (0..5).map(|n| enter(&mut gates, shared(n), at(1))).collect();
    for seat in &seats[..3] {
        gates.greeted(*seat, at(1), &mut News::default());
    }
    let refused = seats.split_off(3);
    for seat in refused {
        let news = leave(&mut gates, seat, &turned_away(), at(1));
        assert!(news.told.is_empty());
    }
    wait(&mut gates, shared(9), at(2));
    assert_eq!(gates.limit(&Gate::Address(address(0)), at(2)), 3);
    assert_eq!(gates.limit(&Gate::Name("mx.example".into()), at(2)), 3);
}

#[test]
fn a_host_that_turns_all_away_is_tried_by_one_at_a_time_and_seldom() {
    let mut gates = gates("");
    let mut connections = 0;
    for now in 0..20 {
        let mut seats = Vec::new();
        for n in 0..50 {
            if let Asked::Admitted(seat) = gates.ask(shared(n), Eagerness::MayComeAgain, at(now)) {
                seats.push(seat);
            }
        }
        connections += seats.len();
        for seat in seats {
            leave(&mut gates, seat, &turned_away(), at(now));
        }
    }
    assert_eq!(connections, 2);
}

#[test]
fn a_rule_counts_all_hosts_of_a_provider_together() {
    let mut gates = gates("[[host]]\nhosts = [\"*.provider.example\"]\nmax_connections = 3\n");
    let at_provider = |n: usize| Goal::Server {
        hop: hop(n),
        name: format!("mx{n}.provider.example"),
        address: address(n),
        group: Some(0),
    };
    let seats: Vec<SeatId> = (0..3).map(|n| enter(&mut gates, at_provider(n), at(0))).collect();
    let waiting = wait(&mut gates, at_provider(4), at(0));
    enter(&mut gates, to(9), at(0));
    assert_eq!(admitted(&leave(&mut gates, seats[0], &Feedback::Took, at(1))), [waiting]);
}

#[test]
fn other_limits_let_in_at_once_whom_they_let_in_and_send_nobody_out() {
    let rule = |hosts: &str, most: usize| format!("[[host]]\nhosts = [\"{hosts}\"]\nmax_connections = {most}\n");
    let at_provider = |group: usize| {
        move |n: usize| Goal::Server {
            hop: hop(n),
            name: format!("mx{n}.provider.example"),
            address: address(n),
            group: Some(group),
        }
    };
    let mut gates = gates(&rule("*.provider.example", 1));
    let change = |gates: &mut Gates, text: &str| {
        let config = Config::parse(text, Path::new("relay.toml")).unwrap();
        let (limits, mut news) = (gates.limits.succeeded_by(&config), News::default());
        gates.set_limits(limits, at(1), &mut news);
        admitted(&news)
    };
    let group = gates.limits.group_of(&peer("mx1.provider.example")).unwrap();
    let seat = enter(&mut gates, at_provider(group)(1), at(0));
    let waiting: Vec<Ticket> = (2..5).map(|n| wait(&mut gates, at_provider(group)(n), at(0))).collect();
    // Another rule in front of it, and more connections.
    let two = rule("other.example", 9) + &rule("*.provider.example", 2);
    assert_eq!(change(&mut gates, &two), waiting[..1]);
    assert_eq!(gates.limits.group_of(&peer("mx1.provider.example")), Some(group), "it is the same rule");
    assert_ne!(gates.limits.group_of(&peer("other.example")), Some(group));
    assert!(change(&mut gates, &rule("*.provider.example", 1)).is_empty());
    assert!(admitted(&leave(&mut gates, seat, &Feedback::Took, at(1))).is_empty(), "one is in, and one may be");
    assert_eq!(change(&mut gates, ""), waiting[1..], "without the rule nothing stops them");
    assert_eq!(gates.limits.rule(Some(group)), None);
    assert_ne!(change(&mut gates, &rule("*.provider.example", 1)), waiting);
    assert_ne!(gates.limits.group_of(&peer("mx1.provider.example")), Some(group), "it is another one");
}

fn peer(host: &str) -> Peer {
    Peer { host: host.to_owned(), address: address(1) }
}

#[test]
fn a_rate_holds_for_a_host_and_the_line_keeps_its_order() {
    let mut gates = gates("[delivery]\nrate = \"60/m\"\n");
    met(&mut gates, &shared(0), at(0));
    let Asked::InLine(first, Some(again)) = gates.ask(shared(1), Eagerness::MustGoOn, at(0)) else { panic!() };
    let second = wait(&mut gates, shared(2), at(0));
    assert_eq!(again, at(1));
    let mut news = News::default();
    assert_eq!(gates.ask_again(second, at(1), &mut news), Some(at(2)));
    assert_eq!(admitted(&news), [first]);
}

#[test]
fn a_free_place_and_a_message_that_is_due_meet_at_once() {
    let mut gates = gates("[delivery]\nmax_per_next_hop = 1\n");
    let to_hop = || Goal::Hop { hop: hop(1), most: 1, rate: None };
    let mut seat = enter(&mut gates, to_hop(), at(0));
    let mut outside: VecDeque<QueueId> = (0..100).map(QueueId).collect();
    for id in &outside {
        match gates.ask(to_hop(), Eagerness::MayComeAgain, at(0)) {
            Asked::Away(Away::Full { gate, until }) => drop(gates.put_outside(*id, gate, until, at(0))),
            Asked::InLine(..) => {}
            other @ (Asked::Admitted(_) | Asked::Away(Away::BackingOff { .. } | Away::Elsewhere)) => {
                panic!("{other:?}")
            }
        }
    }
    outside.drain(..2);
    let mut done = 0;
    // Nobody ever waits for a time to pass: whoever leaves lets in the next, and calls others.
    loop {
        let news = leave(&mut gates, seat, &Feedback::Took, at(0));
        for (id, _) in news.called {
            assert_eq!(outside.pop_front(), Some(id));
            match gates.ask(to_hop(), Eagerness::MayComeAgain, at(0)) {
                Asked::InLine(..) => {}
                Asked::Away(Away::Full { gate, until }) => {
                    outside.push_back(id);
                    drop(gates.put_outside(id, gate, until, at(0)));
                }
                other @ (Asked::Admitted(_) | Asked::Away(Away::BackingOff { .. } | Away::Elsewhere)) => {
                    panic!("{other:?}")
                }
            }
        }
        done += 1;
        match news.told.first() {
            Some((_, Ok(next))) => seat = *next,
            _ => break,
        }
    }
    assert_eq!((done, outside.len()), (101, 0));
}

#[test]
fn a_message_that_somebody_has_is_not_called() {
    let mut gates = gates("");
    let to_hop = || Goal::Hop { hop: hop(1), most: 1, rate: None };
    let seat = enter(&mut gates, to_hop(), at(0));
    for _ in 0..2 {
        wait(&mut gates, to_hop(), at(0));
    }
    for id in [1, 2, 3].map(QueueId) {
        let Asked::Away(Away::Full { gate, until }) = gates.ask(to_hop(), Eagerness::MayComeAgain, at(0)) else {
            panic!()
        };
        gates.put_outside(id, gate, until, at(0));
    }
    gates.is_claimed(QueueId(1));
    assert_eq!(gates.view(at(0)).outside, 2);
    let called: Vec<QueueId> =
        leave(&mut gates, seat, &Feedback::Took, at(0)).called.into_iter().map(|(id, _)| id).collect();
    assert_eq!(called, [2, 3].map(QueueId));
}

#[test]
fn a_host_that_the_operator_names_is_tried_at_once() {
    let mut gates = gates("");
    let pass = Goal::Hop { hop: hop(1), most: 40, rate: None };
    enter(&mut gates, pass, at(0));
    let seat = enter(&mut gates, shared(1), at(0));
    leave(&mut gates, seat, &silence(), at(30));
    assert!(is_away(&gates.ask(shared(1), Eagerness::MayComeAgain, at(31))));
    gates.forgive(&hop(1));
    enter(&mut gates, shared(1), at(31));
}

#[test]
fn the_names_of_strangers_do_not_fill_memory() {
    let mut gates = gates("");
    let resting = enter(&mut gates, to(1), at(0));
    for n in 0..30_000 {
        let goal = Goal::Server { hop: hop(n), name: format!("mx{n}.example"), address: address(n), group: None };
        let seat = enter(&mut gates, goal, at(1));
        leave(&mut gates, seat, &Feedback::Took, at(1));
    }
    assert!(gates.states.len() <= MOST_GATES + MOST_GATES / 4, "{}", gates.states.len());
    assert!(gates.states.contains_key(&Gate::Address(address(1))), "who is at work is known");
    leave(&mut gates, resting, &Feedback::Took, at(2));
}

#[test]
fn what_is_in_force_and_what_was_learnt_is_shown() {
    let mut gates = gates("");
    let seat = enter(&mut gates, shared(1), at(0));
    enter(&mut gates, shared(2), at(0));
    for n in 3..5 {
        wait(&mut gates, shared(n), at(0));
    }
    let view = gates.view(at(0));
    assert_eq!((view.new.used, view.new.most, view.answering.most, view.in_line), (2, 124, 376, 2));
    let sentence = view.hosts[0].sentence();
    assert_eq!(
        sentence,
        "mx.example [10.0.0.0]:25: 2 messages waiting, 2 of 2 connections at work, it has not answered yet"
    );
    leave(&mut gates, seat, &silence(), at(30));
    let view = gates.view(at(30));
    assert_eq!(view.backing_off, 1);
    assert!(view.hosts[0].sentence().ends_with(" until 1970-01-01 00:05:30Z"), "{:?}", view.hosts[0]);
}
