//! What is known about authoritative servers, and in which order they are asked (pure).
//!
//! A server that stayed silent, or does not serve a zone, is asked behind all others for a while
//! that grows with each failure (RFC 9520 §3.2: no longer than five minutes), so that the next
//! look-up does not wait for it again. It is never left out: where all have failed, those are asked
//! whose while ends first.
//!
//! What is known holds for one zone alone: whoever names somebody else's server as his own must
//! not bring it into disrepute with its own zones. What decides is the order, never an answer.

use super::exchange::Means;
use hickory_proto::rr::Name;
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;
use tokio::time::Instant;

/// Servers known at once.
const SERVERS_LIMIT: usize = 20_000;
/// How long a first failure counts.
const FIRST_WHILE: Duration = Duration::from_secs(10);
/// RFC 9520 §3.2: a failure counts no longer than this.
const LONGEST_WHILE: Duration = Duration::from_secs(300);
/// How long it is remembered how a server wants to be asked.
const MEANS_KEPT: Duration = Duration::from_secs(900);
/// Servers asked of a zone whose servers have all failed lately.
const FAILED_ASKED: usize = 3;
/// Failures in a row after which a family is asked behind the other.
const FAMILY_FAILURES: u32 = 4;
/// How long an unknown server may take before the next one is asked, too.
const PATIENCE: Duration = Duration::from_millis(400);
/// The same for known ones, which may take about twice as long as before.
const PATIENCE_BETWEEN: [Duration; 2] = [Duration::from_millis(300), Duration::from_millis(1000)];

/// One server of one zone.
type ServerKey = (Name, SocketAddr);

/// What is known about a server.
#[derive(Clone, Copy, Debug)]
struct ServerHistory {
    /// How long it is asked behind the others, and how long that was the last time.
    behind: Option<(Instant, Duration)>,
    /// How long its answers took of late.
    takes: Option<Duration>,
    /// How it answers, where that is not by UDP with EDNS.
    means: Option<(Means, Instant)>,
}

/// All that is known.
#[derive(Debug, Default)]
pub(super) struct Servers {
    known: BTreeMap<ServerKey, ServerHistory>,
    /// Failures in a row of IPv4 and of IPv6.
    failures: [u32; 2],
}

/// How a server failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fails {
    /// It said nothing: perhaps nothing of its family can be reached from here.
    Silent,
    /// It is there and of no use.
    Useless,
}

/// One server, to be asked like this.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Turn {
    pub(super) server: SocketAddr,
    pub(super) means: Means,
    /// After this long the next one is asked as well.
    pub(super) patience: Duration,
}

/// The servers of a zone in the order in which they are asked.
#[derive(Debug, Default)]
pub(super) struct Turns {
    pub(super) good: Vec<Turn>,
    /// Those that failed lately.
    pub(super) failed: Vec<Turn>,
}

impl Servers {
    /// The order: known good ones first, the quick ones before the slow, and the families in turns.
    pub(super) fn in_order(&self, zone: &Name, servers: &[SocketAddr], now: Instant) -> Turns {
        let known = |server: &SocketAddr| self.known.get(&(zone.clone(), *server));
        let behind = |server: &SocketAddr| known(server).and_then(|known| known.behind);
        let is_failed = |server: &SocketAddr| behind(server).is_some_and(|(until, _)| now < until);
        let (mut failed, good): (Vec<_>, Vec<_>) = servers.iter().copied().partition(is_failed);
        let mut good = self.families_in_turns(good);
        // Stable: unknown servers stay in turns, behind those that have answered.
        good.sort_by_key(|server| {
            let takes = known(server).and_then(|known| known.takes).map(|takes| takes.as_millis() / 50);
            (behind(server).is_some(), takes.is_none(), takes)
        });
        failed.sort_by_key(|server| behind(server).map(|(until, _)| until));
        if good.is_empty() {
            failed.truncate(FAILED_ASKED);
        }
        let turn = |server: SocketAddr| {
            let known = known(&server);
            let means = known.and_then(|known| known.means).filter(|(_, until)| now < *until);
            Turn {
                server,
                means: means.map_or(Means::Datagram, |(means, _)| means),
                patience: patience(known.and_then(|known| known.takes)),
            }
        };
        Turns { good: good.into_iter().map(turn).collect(), failed: failed.into_iter().map(turn).collect() }
    }

    /// IPv4 begins, unless it has been failing and IPv6 has not.
    fn families_in_turns(&self, servers: Vec<SocketAddr>) -> Vec<SocketAddr> {
        let (four, six): (Vec<_>, Vec<_>) = servers.into_iter().partition(SocketAddr::is_ipv4);
        let [fails_four, fails_six] = self.failures.map(|failures| failures >= FAMILY_FAILURES);
        match (fails_four, fails_six) {
            (true, false) => six.into_iter().chain(four).collect(),
            (false, true) => four.into_iter().chain(six).collect(),
            (true, true) | (false, false) => in_turns(four, six),
        }
    }

    /// It answered, be it with an error: then it is there.
    pub(super) fn answered(&mut self, zone: &Name, turn: &Turn, took: Duration, now: Instant) {
        if let Some(failures) = self.failures_of(turn.server.ip()) {
            *failures = 0;
        }
        let takes = |before: Option<Duration>| before.map_or(took, |before| (before * 3 + took) / 4);
        let means = (turn.means != Means::Datagram).then(|| (turn.means, now + MEANS_KEPT));
        let known = self.entry(zone, turn.server, now);
        // How it wants to be asked is found out again from time to time, not at every answer.
        let kept = known.means.filter(|(kept, until)| *kept == turn.means && now < *until);
        *known = ServerHistory { behind: None, takes: Some(takes(known.takes)), means: kept.or(means) };
    }

    /// It stayed silent, failed, or does not serve the zone.
    pub(super) fn failed(&mut self, zone: &Name, server: SocketAddr, fails: Fails, now: Instant) {
        if fails == Fails::Silent
            && let Some(failures) = self.failures_of(server.ip())
        {
            *failures = failures.saturating_add(1);
        }
        let known = self.entry(zone, server, now);
        // Many look-ups meet one outage at once; it is still one.
        if known.behind.is_some_and(|(until, length)| until.saturating_duration_since(now) > length / 2) {
            return;
        }
        let length = known.behind.map_or(FIRST_WHILE, |(_, length)| (length * 2).min(LONGEST_WHILE));
        *known = ServerHistory { behind: Some((now + length, length)), takes: None, means: None };
    }

    fn failures_of(&mut self, ip: IpAddr) -> Option<&mut u32> {
        self.failures.get_mut(usize::from(ip.is_ipv6()))
    }

    /// Makes room where there is none: first goes what has not failed, then what is over soonest.
    fn entry(&mut self, zone: &Name, server: SocketAddr, now: Instant) -> &mut ServerHistory {
        let key = (zone.clone(), server);
        if self.known.len() >= SERVERS_LIMIT && !self.known.contains_key(&key) {
            self.known.retain(|_, known| known.behind.is_some_and(|(until, _)| now < until));
            let last = self.known.iter().min_by_key(|(_, known)| known.behind.map(|(until, _)| until));
            if self.known.len() >= SERVERS_LIMIT
                && let Some(last) = last.map(|(key, _)| key.clone())
            {
                self.known.remove(&last);
            }
        }
        self.known.entry(key).or_insert(ServerHistory { behind: None, takes: None, means: None })
    }
}

fn in_turns(four: Vec<SocketAddr>, six: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let count = four.len() + six.len();
    let (mut four, mut six) = (four.into_iter(), six.into_iter());
    std::iter::from_fn(|| Some([four.next(), six.next()])).take(count).flatten().flatten().collect()
}

fn patience(takes: Option<Duration>) -> Duration {
    let [least, most] = PATIENCE_BETWEEN;
    takes.map_or(PATIENCE, |takes| (takes * 2).clamp(least, most))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn zone() -> Name {
        Name::from_ascii("a.test.").unwrap()
    }

    fn server(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 53))
    }

    fn six(last: u16) -> SocketAddr {
        SocketAddr::from(([0x2001, 0xdb8, 0, 0, 0, 0, 0, last], 53))
    }

    fn turn(server: SocketAddr, means: Means) -> Turn {
        Turn { server, means, patience: PATIENCE }
    }

    fn order(servers: &Servers, of: &[SocketAddr], now: Instant) -> (Vec<SocketAddr>, Vec<SocketAddr>) {
        let turns = servers.in_order(&zone(), of, now);
        let addresses = |turns: Vec<Turn>| turns.into_iter().map(|turn| turn.server).collect();
        (addresses(turns.good), addresses(turns.failed))
    }

    #[test]
    fn rfc9520_3_2_a_failure_is_remembered_for_a_while_that_grows_up_to_five_minutes() {
        let (mut servers, mut now) = (Servers::default(), Instant::now());
        for seconds in [10, 20, 40, 80, 160, 300, 300] {
            servers.failed(&zone(), server(1), Fails::Silent, now);
            let until = now + Duration::from_secs(seconds);
            let just_before = until - Duration::from_secs(1);
            assert_eq!(order(&servers, &[server(1), server(2)], just_before), (vec![server(2)], vec![server(1)]));
            assert_eq!(order(&servers, &[server(1), server(2)], until).0, [server(2), server(1)], "good ones first");
            now = until;
        }
        servers.answered(&zone(), &turn(server(1), Means::Datagram), Duration::from_millis(9), now);
        servers.failed(&zone(), server(1), Fails::Silent, now);
        assert!(order(&servers, &[server(1)], now + FIRST_WHILE).1.is_empty(), "an answer forgets the past");
    }

    #[test]
    fn rfc9520_3_2_many_look_ups_in_one_outage_are_one_failure() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        (0..50).for_each(|_| servers.failed(&zone(), server(1), Fails::Silent, now));
        assert!(order(&servers, &[server(1)], now + FIRST_WHILE).1.is_empty());
    }

    #[test]
    fn where_all_have_failed_some_are_asked_and_not_always_the_same() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        let all: Vec<_> = (1..=6).map(server).collect();
        for (server, nth) in all.iter().zip(0..) {
            servers.failed(&zone(), *server, Fails::Silent, now + Duration::from_millis(nth));
        }
        let later = now + Duration::from_secs(8);
        let (good, first) = order(&servers, &all, later);
        assert_eq!((good, first.clone()), (vec![], all[..3].to_vec()));
        first.iter().for_each(|server| servers.failed(&zone(), *server, Fails::Silent, later));
        assert_eq!(order(&servers, &all, later).1, all[3..]);
    }

    #[test]
    fn who_has_answered_comes_first_and_the_quick_before_the_slow() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        for (server, milliseconds) in [(server(2), 210), (server(3), 12)] {
            servers.answered(&zone(), &turn(server, Means::Datagram), Duration::from_millis(milliseconds), now);
        }
        assert_eq!(order(&servers, &[server(1), server(2), server(3)], now).0, [server(3), server(2), server(1)]);
    }

    #[test]
    fn what_one_zone_says_of_a_server_is_not_held_against_it_in_another() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        servers.failed(&Name::from_ascii("hostile.test.").unwrap(), server(1), Fails::Silent, now);
        assert_eq!(order(&servers, &[server(1)], now).0, [server(1)]);
    }

    #[test]
    fn the_families_take_turns_until_one_of_them_does_not_work_here() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        let all = [server(1), server(2), server(3), six(1), six(2)];
        assert_eq!(order(&servers, &all, now).0, [server(1), six(1), server(2), six(2), server(3)]);
        for nth in 10..14 {
            servers.failed(&zone(), server(nth), Fails::Silent, now);
        }
        assert_eq!(order(&servers, &all, now).0, [six(1), six(2), server(1), server(2), server(3)]);
        servers.answered(&zone(), &turn(server(20), Means::Stream), Duration::from_millis(9), now);
        assert_eq!(order(&servers, &all, now).0[0], server(1));
    }

    #[test]
    fn rfc6891_6_2_2_how_a_server_wants_to_be_asked_is_remembered_for_a_while() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        servers.answered(&zone(), &turn(server(1), Means::Plain), Duration::from_millis(9), now);
        let means = |servers: &Servers, at| servers.in_order(&zone(), &[server(1)], at).good[0].means;
        assert_eq!(means(&servers, now), Means::Plain);
        let later = now + MEANS_KEPT / 2;
        servers.answered(&zone(), &turn(server(1), Means::Plain), Duration::from_millis(9), later);
        assert_eq!(means(&servers, now + MEANS_KEPT), Means::Datagram, "and then found out again");
    }

    #[test]
    fn memory_is_bounded_and_what_is_good_is_forgotten_first() {
        let (mut servers, now) = (Servers::default(), Instant::now());
        servers.failed(&zone(), server(1), Fails::Silent, now);
        for nth in 0..u32::try_from(SERVERS_LIMIT).unwrap() + 10 {
            let other = SocketAddr::from((std::net::Ipv4Addr::from(nth), 53));
            servers.answered(&zone(), &turn(other, Means::Datagram), Duration::from_millis(9), now);
        }
        assert!(servers.known.len() <= SERVERS_LIMIT);
        assert_eq!(order(&servers, &[server(1), server(2)], now).1, [server(1)]);
    }
}
