//! Which parked connection may carry which message (RFC 7672 §3.2.2, RFC 8461 §4, RFC 5321
//! §4.5.4.1).
//!
//! Pure: what is parked is any `C`, and time is what has passed since the start. A connection is
//! given out only for the identity it was opened under, so that nothing proven for one policy is
//! taken for another; and only while it is young, because what the DNS said about it grows old.
//!
//! How many connections stand open: whoever needs one takes a parked one first, so those parked
//! for an identity and those at work for it are together no more than were at work at once within
//! [`IDLE_LIMIT`]. Over identities the sum is bounded by [`PARKED_LIMIT`].

use super::Target;
use super::egress::Egress;
use crate::outcome::Peer;
use crate::policy::{DanePolicy, TlsPolicy, Watched};
use crate::resolve::TlsaRecord;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// How long a connection waits for its next message. Long enough for the next one in a queue,
/// short enough not to hold a place at a server for nothing; servers close idle ones themselves
/// after minutes.
pub(super) const IDLE_LIMIT: Duration = Duration::from_secs(5);
/// How old a connection may become. TLSA records and MTA-STS policies are looked up for every
/// message and are part of the identity, so a change of them is obeyed at once; a certificate is
/// looked at only in the handshake, and this bounds for how long that counts.
pub(super) const LIFE_LIMIT: Duration = Duration::from_secs(300);
/// Connections parked at once, to all servers together: sockets and memory for nothing yet.
pub(super) const PARKED_LIMIT: usize = 200;

/// What a connection was held to: two messages may share one exactly when this is equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ReuseKey {
    peer: Peer,
    policy: TlsPolicy,
    watched: Option<Watched>,
    requires_tls_onward: bool,
    /// Who we are there and where we come from.
    egress: Arc<Egress>,
}

impl ReuseKey {
    /// The identity of connections to that target.
    #[must_use]
    pub(super) fn of(target: &Target) -> Self {
        let watched = target.watched.as_ref().map(|watched| Watched {
            because: watched.because,
            demand: watched.demand.as_ref().map(proven).map_err(Clone::clone),
        });
        Self {
            peer: target.peer.clone(),
            policy: proven(&target.policy),
            watched,
            requires_tls_onward: target.require_tls,
            egress: Arc::clone(&target.egress),
        }
    }
}

/// A policy as far as it decides what a handshake proves: TLSA records are a set (RFC 6698 §4.1),
/// and under DANE-EE(3) alone names count for nothing (RFC 7672 §3.1.1).
fn proven(policy: &TlsPolicy) -> TlsPolicy {
    match policy {
        TlsPolicy::Dane(dane) => TlsPolicy::Dane(proven_by_dane(dane)),
        TlsPolicy::WebPkiAndDane { host, dane } => {
            TlsPolicy::WebPkiAndDane { host: host.clone(), dane: proven_by_dane(dane) }
        }
        TlsPolicy::Off | TlsPolicy::Opportunistic { .. } | TlsPolicy::Encrypt { .. } | TlsPolicy::WebPki { .. } => {
            policy.clone()
        }
    }
}

fn proven_by_dane(dane: &DanePolicy) -> DanePolicy {
    let DanePolicy { base_domain, mut records, mut references, scope } = dane.clone();
    let order = |record: &TlsaRecord| (record.usage, record.selector, record.matching, record.data.clone());
    records.sort_by_cached_key(order);
    records.dedup();
    if records.iter().all(|record| record.usage == 3) {
        references.clear();
    }
    references.sort();
    references.dedup();
    DanePolicy { base_domain, records, references, scope }
}

/// What a connection has behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct History {
    /// When it was opened.
    pub opened: Duration,
    /// The messages that were offered on it.
    pub messages: u32,
}

impl History {
    /// Whether it may carry one more of at most so many, for a server that says how many MAIL commands
    /// it takes (RFC 9422 §4).
    #[must_use]
    pub(super) fn has_room(&self, most: u32, mail_max: Option<u32>, now: Duration) -> bool {
        let most = mail_max.map_or(most, |max| max.min(most));
        self.messages < most && now.saturating_sub(self.opened) < LIFE_LIMIT
    }
}

/// A connection that waits.
#[derive(Debug)]
struct Parked<C> {
    connection: C,
    identity: ReuseKey,
    expires: Duration,
}

/// The parked connections, the longest waiting first.
#[derive(Debug)]
pub(super) struct Pool<C> {
    parked: VecDeque<Parked<C>>,
    per_identity: usize,
    all: usize,
}

impl<C> Pool<C> {
    /// An empty pool for at most so many connections of one identity, and so many in all; never
    /// more than [`PARKED_LIMIT`].
    #[must_use]
    pub(super) fn new(per_identity: usize, all: usize) -> Self {
        Self { parked: VecDeque::new(), per_identity, all: all.min(PARKED_LIMIT) }
    }

    /// A connection for that identity: the one parked last, so that those not needed grow old.
    pub(super) fn take(&mut self, identity: &ReuseKey, now: Duration) -> Option<C> {
        let place = self.parked.iter().rposition(|parked| parked.identity == *identity && now < parked.expires)?;
        self.parked.remove(place).map(|parked| parked.connection)
    }

    /// Parks a connection. Gives back what has no place: the one of its identity that has waited
    /// longest, or of all.
    pub(super) fn park(&mut self, identity: &ReuseKey, connection: C, history: History, now: Duration) -> Option<C> {
        let expires = (now + IDLE_LIMIT).min(history.opened + LIFE_LIMIT);
        self.parked.push_back(Parked { connection, identity: identity.clone(), expires });
        let mut alike = self.parked.iter().enumerate().filter(|(_, parked)| parked.identity == *identity);
        let first_alike = alike.next().map(|(place, _)| place);
        let surplus = if 1 + alike.count() > self.per_identity {
            first_alike
        } else {
            (self.parked.len() > self.all).then_some(0)
        };
        surplus.and_then(|place| self.parked.remove(place)).map(|parked| parked.connection)
    }

    /// The one that waits longest for a message to that address, where more than `most` wait there.
    pub(super) fn above(&mut self, most: usize, address: SocketAddr) -> Option<C> {
        let mut there = self.parked.iter().enumerate().filter(|(_, parked)| parked.identity.peer.address == address);
        let first = there.next().map(|(place, _)| place).filter(|_| there.count() >= most);
        first.and_then(|place| self.parked.remove(place)).map(|parked| parked.connection)
    }

    /// Takes out those whose time is over.
    pub(super) fn expired(&mut self, now: Duration) -> Vec<C> {
        let (gone, kept) = self.parked.drain(..).partition::<VecDeque<_>, _>(|parked| parked.expires <= now);
        self.parked = kept;
        gone.into_iter().map(|parked| parked.connection).collect()
    }

    /// When the next one's time is over.
    #[must_use]
    pub(super) fn next_expiry(&self) -> Option<Duration> {
        self.parked.iter().map(|parked| parked.expires).min()
    }

    /// Takes out all, and has no place for any other.
    pub(super) fn close(&mut self) -> Vec<C> {
        self.per_identity = 0;
        self.all = 0;
        self.parked.drain(..).map(|parked| parked.connection).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::egress::Login;
    use super::*;
    use crate::config::{SourceAddresses, TlsMode};
    use crate::outcome::{DaneScope, DemandedBy};
    use crate::policy::WhyOpportunistic;
    use crate::resolve::AbsentBecause;

    fn second(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn target(policy: TlsPolicy) -> Target {
        let peer = Peer { host: "mx.example".into(), address: "192.0.2.1:25".parse().unwrap() };
        Target { peer, policy, watched: None, require_tls: false, egress: Arc::default() }
    }

    fn opportunistic() -> TlsPolicy {
        TlsPolicy::Opportunistic { because: WhyOpportunistic::NoPolicy(AbsentBecause::ProvenAbsent) }
    }

    /// DANE for a domain, with records of these usages in this order.
    fn dane(domain: &str, usages: &[u8]) -> TlsPolicy {
        let record = |&usage: &u8| TlsaRecord { usage, selector: 1, matching: 1, data: vec![usage; 32] };
        TlsPolicy::Dane(DanePolicy {
            base_domain: "mx.example".parse().unwrap(),
            records: usages.iter().map(record).collect(),
            references: vec!["mx.example".parse().unwrap(), domain.parse().unwrap()],
            scope: DaneScope::Domain,
        })
    }

    fn share(a: &Target, b: &Target) -> bool {
        ReuseKey::of(a) == ReuseKey::of(b)
    }

    /// A pool with `n` connections of that policy, parked in their order at second 0.
    fn pool(n: u32, policy: &TlsPolicy) -> Pool<u32> {
        let mut pool = Pool::new(10, 100);
        for connection in 0..n {
            assert_eq!(park(&mut pool, policy, connection), None);
        }
        pool
    }

    fn park(pool: &mut Pool<u32>, policy: &TlsPolicy, connection: u32) -> Option<u32> {
        let history = History { opened: second(0), messages: 1 };
        pool.park(&ReuseKey::of(&target(policy.clone())), connection, history, second(0))
    }

    fn take(pool: &mut Pool<u32>, policy: &TlsPolicy, now: u64) -> Option<u32> {
        pool.take(&ReuseKey::of(&target(policy.clone())), second(now))
    }

    #[test]
    fn rfc7672_3_2_2_names_of_one_domain_prove_nothing_for_another() {
        assert!(!share(&target(dane("a.example", &[2])), &target(dane("b.example", &[2]))));
        assert!(!share(&target(dane("a.example", &[3, 2])), &target(dane("b.example", &[3, 2]))));
        assert!(share(&target(dane("a.example", &[2])), &target(dane("a.example", &[2]))));
    }

    #[test]
    fn rfc7672_3_1_1_domains_with_the_same_end_entity_records_share_a_host() {
        assert!(share(&target(dane("a.example", &[3])), &target(dane("b.example", &[3, 3]))));
        assert!(share(&target(dane("a.example", &[3, 2])), &target(dane("a.example", &[2, 3]))), "a set has no order");
        assert!(!share(&target(dane("a.example", &[3])), &target(dane("a.example", &[3, 2]))), "records have changed");
    }

    #[test]
    fn rfc8461_4_a_connection_serves_only_the_policy_it_was_opened_under() {
        let webpki = |by| TlsPolicy::WebPki { host: "mx.example".parse().unwrap(), demanded_by: by };
        let encrypt = |name: Option<&str>| TlsPolicy::Encrypt {
            base_domain: name.map(|n| n.parse().unwrap()),
            demanded_by: DemandedBy::Dane,
        };
        let both = |host: &str, policy| {
            let TlsPolicy::Dane(dane) = policy else { panic!("made above") };
            TlsPolicy::WebPkiAndDane { host: host.parse().unwrap(), dane }
        };
        let all = [
            opportunistic(),
            TlsPolicy::Off,
            webpki(DemandedBy::MtaSts),
            webpki(DemandedBy::RequireTls),
            encrypt(None),
            encrypt(Some("other.example")),
            dane("a.example", &[3]),
            dane("a.example", &[2]),
            both("mx.example", dane("a.example", &[3])),
            both("mx2.example", dane("a.example", &[3])),
            both("mx.example", dane("a.example", &[2])),
        ];
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(share(&target(one.clone()), &target(other.clone())), i == j, "{one:?} {other:?}");
            }
        }
        let plain = target(opportunistic());
        let watched = Watched { because: WhyOpportunistic::StsTesting, demand: Ok(webpki(DemandedBy::MtaSts)) };
        let elsewhere = Peer { address: "192.0.2.2:25".parse().unwrap(), ..plain.peer.clone() };
        let by_another_name = Peer { host: "mx2.example".into(), ..plain.peer.clone() };
        for other in [
            Target { watched: Some(watched), ..plain.clone() },
            Target { require_tls: true, ..plain.clone() },
            Target { egress: by("relay", "secret", [192, 0, 2, 7]), ..plain.clone() },
            Target { peer: elsewhere, ..plain.clone() },
            Target { peer: by_another_name, ..plain.clone() },
        ] {
            assert!(!share(&plain, &other), "{other:?}");
        }
    }

    /// A way out with this login, from this address.
    fn by(user: &str, password: &str, source: [u8; 4]) -> Arc<Egress> {
        let source = SourceAddresses { ipv4: Some(source.into()), ..SourceAddresses::default() };
        Arc::new(Egress { login: Some(Login::new(user, password)), source, ..Egress::default() })
    }

    #[test]
    fn a_connection_serves_only_the_login_and_the_source_it_was_opened_under() {
        let all = [
            Arc::default(),
            by("a", "one", [192, 0, 2, 7]),
            by("b", "one", [192, 0, 2, 7]),
            by("a", "two", [192, 0, 2, 7]),
            by("a", "one", [192, 0, 2, 8]),
            Arc::new(Egress { tls_mode: TlsMode::Implicit, ..Egress::default() }),
        ];
        let to = |egress: &Arc<Egress>| Target { egress: Arc::clone(egress), ..target(opportunistic()) };
        for (i, one) in all.iter().enumerate() {
            for (j, other) in all.iter().enumerate() {
                assert_eq!(share(&to(one), &to(other)), i == j, "{one:?} {other:?}");
            }
        }
        assert!(share(&to(&by("a", "one", [192, 0, 2, 7])), &to(&all[1])));
    }

    #[test]
    fn a_connection_is_given_out_once_and_the_youngest_first() {
        let mut pool = pool(2, &opportunistic());
        assert_eq!(take(&mut pool, &TlsPolicy::Off, 1), None);
        assert_eq!(take(&mut pool, &opportunistic(), 1), Some(1));
        assert_eq!(take(&mut pool, &opportunistic(), 1), Some(0));
        assert_eq!(take(&mut pool, &opportunistic(), 1), None);
    }

    #[test]
    fn a_connection_that_waits_too_long_is_not_given_out() {
        let mut pool = pool(1, &opportunistic());
        assert_eq!(pool.next_expiry(), Some(IDLE_LIMIT));
        assert_eq!(take(&mut pool, &opportunistic(), IDLE_LIMIT.as_secs()), None);
        assert_eq!(pool.expired(IDLE_LIMIT - second(1)), Vec::<u32>::new());
        assert_eq!(pool.expired(IDLE_LIMIT), vec![0]);
        assert_eq!(pool.next_expiry(), None);
    }

    #[test]
    fn an_old_connection_takes_no_further_message() {
        let history = History { opened: second(0), messages: 1 };
        assert!(history.has_room(100, None, LIFE_LIMIT - second(1)));
        assert!(!history.has_room(100, None, LIFE_LIMIT));
        let mut pool = Pool::new(1, 1);
        let late = LIFE_LIMIT - second(1);
        pool.park(&ReuseKey::of(&target(opportunistic())), 7, history, late);
        assert_eq!(pool.next_expiry(), Some(LIFE_LIMIT), "it waits no longer than it may live");
    }

    #[test]
    fn rfc9422_4_1_no_more_messages_than_we_or_the_server_allow() {
        let after = |messages| History { opened: second(0), messages };
        assert!(after(99).has_room(100, None, second(1)));
        assert!(!after(100).has_room(100, None, second(1)));
        assert!(!after(100).has_room(100, Some(1_000_000), second(1)));
        assert!(after(1).has_room(100, Some(2), second(1)) && !after(2).has_room(100, Some(2), second(1)));
    }

    #[test]
    fn the_pool_is_bounded_for_each_identity_and_in_all() {
        let mut pool = pool(10, &opportunistic());
        assert_eq!(park(&mut pool, &opportunistic(), 10), Some(0), "the longest waiting makes room");
        let mut small = Pool::new(10, 2);
        assert_eq!(
            [1, 2, 3].map(|n| park(&mut small, &dane(&format!("d{n}.example"), &[2]), n)),
            [None, None, Some(1)]
        );
        let mut large = Pool::new(usize::MAX, usize::MAX);
        let displaced =
            (0..=u32::try_from(PARKED_LIMIT).unwrap()).filter_map(|n| park(&mut large, &opportunistic(), n));
        assert_eq!(displaced.collect::<Vec<_>>(), [0]);
    }

    #[test]
    fn a_connection_of_another_identity_makes_room_at_a_host_that_takes_no_more() {
        let address = "192.0.2.1:25".parse().unwrap();
        let mut pool = pool(3, &opportunistic());
        assert_eq!(pool.above(3, address), None);
        assert_eq!(pool.above(2, address), Some(0));
        assert_eq!(pool.above(0, "192.0.2.2:25".parse().unwrap()), None);
        assert_eq!((pool.above(0, address), pool.above(0, address), pool.above(0, address)), (Some(1), Some(2), None));
    }

    #[test]
    fn a_closed_pool_gives_all_back_and_takes_none() {
        let mut pool = pool(2, &opportunistic());
        assert_eq!(pool.close(), [0, 1]);
        assert_eq!(park(&mut pool, &opportunistic(), 3), Some(3));
        assert_eq!(take(&mut pool, &opportunistic(), 0), None);
    }
}
