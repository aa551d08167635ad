//! How many connections each client begins in a minute (RFC 5321 §7.8).
//!
//! A minute runs from the first of them on, and then another one begins. Refused ones are counted as well: a
//! client in a loop costs as much.

use super::remembered::make_room;
use crate::clock::Timestamp;
use crate::config::counted_client;
use std::collections::BTreeMap;
use std::net::IpAddr;

const MINUTE_MS: i64 = 60_000;
/// The most clients that are remembered; the oldest go.
const MOST_REMEMBERED: usize = 10_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Arrivals(BTreeMap<IpAddr, ArrivalCount>);

#[derive(Clone, Copy, Debug)]
struct ArrivalCount {
    from: Timestamp,
    number: u32,
}

impl Arrivals {
    /// Counts a connection of a client; whether it is within `most` of its minute.
    pub(super) fn count(&mut self, client: IpAddr, most: u32, now: Timestamp) -> bool {
        let client = counted_client(client);
        let runs = |count: &ArrivalCount| (0..MINUTE_MS).contains(&now.0.saturating_sub(count.from.0));
        let so_far = self.0.get(&client).copied().filter(runs).unwrap_or(ArrivalCount { from: now, number: 0 });
        let counted = ArrivalCount { number: so_far.number.saturating_add(1), ..so_far };
        if !self.0.contains_key(&client) {
            make_room(&mut self.0, MOST_REMEMBERED, |count| count.from);
        }
        self.0.insert(client, counted);
        counted.number <= most
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    #[test]
    fn each_client_has_so_many_connections_a_minute_and_ipv6_by_its_network() {
        let mut arrivals = Arrivals::default();
        let mut comes = |client: &str, now| arrivals.count(client.parse().unwrap(), 3, now);
        let later = Timestamp(NOW.0 + MINUTE_MS);
        assert_eq!([0; 5].map(|_| comes("192.0.2.1", NOW)), [true, true, true, false, false]);
        assert!(!comes("::ffff:192.0.2.1", Timestamp(later.0 - 1)), "the same client, still the same minute");
        assert!(comes("192.0.2.2", NOW), "another one");
        assert!(comes("192.0.2.1", later), "another minute");
        let one_network = ["2001:db8::1", "2001:db8::2", "2001:db8::3:0", "2001:db8::4"];
        assert_eq!(one_network.map(|client| comes(client, NOW)), [true, true, true, false]);
        assert!(comes("2001:db8:0:1::1", NOW));
        assert!(comes("192.0.2.1", Timestamp(NOW.0 - 5)), "a clock that was put back closes nobody out");
    }

    #[test]
    fn memory_is_bounded() {
        let mut arrivals = Arrivals::default();
        for n in 0..30_000_u32 {
            assert!(arrivals.count(IpAddr::from(n.to_be_bytes()), 1, NOW));
        }
        assert!(arrivals.0.len() <= MOST_REMEMBERED);
    }
}
