//! What the system says of the way to an address, for a second: much mail for one host need not ask for each message.

use crate::clock::Timestamp;
use crate::net::Network;
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long an answer holds. Addresses and routes come and go; what is wrong for so long costs one more try.
const HOLDS_FOR: Duration = Duration::from_secs(1);
/// Addresses that are remembered; when they are more, all are forgotten.
const MOST_REMEMBERED: usize = 10_000;

/// The way to an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AddressRoute {
    asked_at: Timestamp,
    /// Whether packets can go there at all.
    pub(super) is_there: bool,
    /// Whether it is this host itself.
    pub(super) is_own: bool,
}

/// Ways that were asked for lately.
#[derive(Debug, Default)]
pub(super) struct KnownRoutes(Mutex<HashMap<IpAddr, AddressRoute>>);

impl KnownRoutes {
    /// The way to an address, asked for again where that was not done within the last second.
    pub(super) fn to(&self, address: IpAddr, network: &dyn Network, now: Timestamp) -> AddressRoute {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // A clock that went back must not make an answer last.
        let holds = |route: &&AddressRoute| now >= route.asked_at && now.since(route.asked_at) < HOLDS_FOR;
        if let Some(route) = known.get(&address).filter(holds) {
            return *route;
        }
        let route =
            AddressRoute { asked_at: now, is_there: network.has_way_to(address), is_own: network.is_own(address) };
        if known.len() >= MOST_REMEMBERED {
            known.clear();
        }
        known.insert(address, route);
        route
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::net::Stream;
    use std::io;
    use std::net::SocketAddr;
    use std::sync::atomic::{AtomicU32, Ordering};

    /// Every other time an address is its own.
    #[derive(Default)]
    struct Fickle(AtomicU32);

    #[async_trait::async_trait]
    impl Network for Fickle {
        async fn connect(&self, _address: SocketAddr) -> io::Result<Box<dyn Stream>> {
            Err(io::ErrorKind::Unsupported.into())
        }

        fn is_own(&self, _address: IpAddr) -> bool {
            self.0.fetch_add(1, Ordering::Relaxed).is_multiple_of(2)
        }
    }

    #[test]
    fn rfc5321_5_1_an_address_that_becomes_our_own_is_known_a_second_later() {
        let (network, routes, address) = (Fickle::default(), KnownRoutes::default(), IpAddr::from([192, 0, 2, 1]));
        let is_own = |at| routes.to(address, &network, Timestamp(at)).is_own;
        assert_eq!([10_000, 10_999, 11_000, 11_500, 12_000].map(is_own), [true, true, false, false, true]);
        assert!(!is_own(5_000), "the clock went back");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let (network, routes) = (Fickle::default(), KnownRoutes::default());
        for number in 0..=u32::try_from(MOST_REMEMBERED).unwrap() {
            routes.to(std::net::Ipv4Addr::from_bits(number).into(), &network, Timestamp(0));
        }
        assert_eq!(routes.0.lock().unwrap().len(), 1);
    }
}
