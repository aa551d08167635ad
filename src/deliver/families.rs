//! In which order the addresses of one host are tried, IPv6 and IPv4 (RFC 5321 §5.1,
//! RFC 6724 §6; pure).
//!
//! The families take turns, IPv6 first, so that a host with many addresses of a family that leads
//! nowhere is still reached by the other. What cannot work from here is left out where something
//! else can (rule 1 of RFC 6724 §6). A family whose packets vanish costs one message its patience
//! and no others: it goes behind for a while.

use crate::clock::Timestamp;
use crate::config::FamilyChoice;
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How long a family goes behind the other after an address of it stayed silent. Being wrong costs
/// nothing, for both are tried in any case.
const BEHIND_FOR: Duration = Duration::from_secs(600);

/// The kind of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AddressFamily {
    /// IPv6.
    V6,
    /// IPv4, also where it is written as IPv6.
    V4,
}

impl AddressFamily {
    fn of(address: IpAddr) -> Self {
        if address.to_canonical().is_ipv4() { Self::V4 } else { Self::V6 }
    }

    const fn other(self) -> Self {
        match self {
            Self::V6 => Self::V4,
            Self::V4 => Self::V6,
        }
    }
}

/// What is known of the ways out of this host at one moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaysOut {
    /// Addresses that this host knows no way to.
    pub without_route: BTreeSet<IpAddr>,
    /// The family that stayed silent lately.
    pub silent: Option<AddressFamily>,
    /// What the operator wants.
    pub choice: Option<FamilyChoice>,
    /// Addresses of this host itself.
    pub own: BTreeSet<IpAddr>,
}

impl WaysOut {
    /// The addresses of one host in the order in which they are tried.
    #[must_use]
    pub fn in_turn(&self, addresses: &[IpAddr]) -> Vec<IpAddr> {
        let usual = match self.choice {
            Some(FamilyChoice::PreferIpv4) => AddressFamily::V4,
            Some(FamilyChoice::Ipv4 | FamilyChoice::Ipv6) | None => AddressFamily::V6,
        };
        let first = self.silent.map_or(usual, AddressFamily::other);
        let (mut leading, mut following) = (Vec::new(), Vec::new());
        let addresses: Vec<IpAddr> = addresses.iter().copied().filter(|address| self.allows(*address)).collect();
        for address in addresses.iter().filter(|address| !self.leaves_out(**address, &addresses)) {
            if AddressFamily::of(*address) == first { leading.push(*address) } else { following.push(*address) }
        }
        let (mut leading, mut following) = (leading.into_iter(), following.into_iter());
        let turns = std::iter::from_fn(|| Some([leading.next(), following.next()])).take(addresses.len());
        turns.flatten().flatten().collect()
    }

    /// The operator's choice, where it leaves no address of a host that has some.
    #[must_use]
    pub fn refused(&self, addresses: &[IpAddr]) -> Option<FamilyChoice> {
        let none_is_left = !addresses.is_empty() && !addresses.iter().any(|address| self.allows(*address));
        self.choice.filter(|_| none_is_left)
    }

    fn allows(&self, address: IpAddr) -> bool {
        match self.choice {
            Some(FamilyChoice::Ipv4) => AddressFamily::of(address) == AddressFamily::V4,
            Some(FamilyChoice::Ipv6) => AddressFamily::of(address) == AddressFamily::V6,
            Some(FamilyChoice::PreferIpv4) | None => true,
        }
    }

    /// Whether an address is not tried at all, since there is no way to it and one to another.
    #[must_use]
    pub fn leaves_out(&self, address: IpAddr, of: &[IpAddr]) -> bool {
        let has_way = |address: &IpAddr| !self.without_route.contains(address);
        !has_way(&address) && of.iter().any(has_way)
    }
}

/// Remembers which family stayed silent.
#[derive(Debug, Default)]
pub(crate) struct SilentFamily {
    last: Mutex<Option<(AddressFamily, Timestamp)>>,
}

impl SilentFamily {
    /// Nothing came back from an address.
    pub(crate) fn met(&self, address: IpAddr, now: Timestamp) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = Some((AddressFamily::of(address), now));
    }

    /// An address has answered, so its family works.
    pub(crate) fn broken(&self, address: IpAddr) {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = last.filter(|(family, _)| *family != AddressFamily::of(address));
    }

    /// The family that goes behind.
    #[must_use]
    pub(crate) fn family(&self, now: Timestamp) -> Option<AddressFamily> {
        let last = *self.last.lock().unwrap_or_else(PoisonError::into_inner);
        last.filter(|(_, at)| now.since(*at) < BEHIND_FOR).map(|(family, _)| family)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(texts: &[&str]) -> Vec<IpAddr> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn in_turn(ways: &WaysOut, texts: &[&str]) -> Vec<String> {
        ways.in_turn(&addresses(texts)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn rfc5321_5_1_the_families_take_turns_and_nothing_is_lost() {
        let ways = WaysOut::default();
        let all = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "192.0.2.1"];
        assert_eq!(in_turn(&ways, &all), ["2001:db8::1", "192.0.2.1", "2001:db8::2", "2001:db8::3", "2001:db8::4"]);
        assert_eq!(in_turn(&ways, &["192.0.2.1", "192.0.2.2"]), ["192.0.2.1", "192.0.2.2"]);
        assert_eq!(in_turn(&ways, &["192.0.2.1", "::ffff:192.0.2.2"]), ["192.0.2.1", "::ffff:192.0.2.2"]);
        assert!(in_turn(&ways, &[]).is_empty());
    }

    #[test]
    fn rfc6724_6_an_address_without_a_route_is_left_out_where_another_has_one() {
        let ways = WaysOut { without_route: addresses(&["2001:db8::1"]).into_iter().collect(), ..WaysOut::default() };
        assert_eq!(in_turn(&ways, &["2001:db8::1", "192.0.2.1"]), ["192.0.2.1"]);
        assert_eq!(in_turn(&ways, &["2001:db8::1"]), ["2001:db8::1"], "it says why it fails");
    }

    #[test]
    fn the_operator_chooses_the_families() {
        let ways = |choice| WaysOut { choice: Some(choice), ..WaysOut::default() };
        let all = ["2001:db8::1", "192.0.2.1", "::ffff:192.0.2.2"];
        let turn = |choice| in_turn(&ways(choice), &all);
        assert_eq!(turn(FamilyChoice::PreferIpv4), ["192.0.2.1", "2001:db8::1", "::ffff:192.0.2.2"]);
        assert_eq!(turn(FamilyChoice::Ipv4), ["192.0.2.1", "::ffff:192.0.2.2"]);
        assert_eq!(turn(FamilyChoice::Ipv6), ["2001:db8::1"]);
        let six = addresses(&["2001:db8::1"]);
        assert_eq!(ways(FamilyChoice::Ipv4).refused(&six), Some(FamilyChoice::Ipv4));
        assert_eq!(ways(FamilyChoice::PreferIpv4).refused(&six), None);
        assert_eq!(ways(FamilyChoice::Ipv4).refused(&[]), None, "a host without addresses is another matter");
    }

    #[test]
    fn a_silent_family_goes_behind_until_it_answers_or_for_a_while() {
        let (v6, v4) = ("2001:db8::1".parse().unwrap(), "192.0.2.1".parse().unwrap());
        let silence = SilentFamily::default();
        silence.met(v6, Timestamp(0));
        assert_eq!(silence.family(Timestamp(1000)), Some(AddressFamily::V6));
        let ways = WaysOut { silent: silence.family(Timestamp(1000)), ..WaysOut::default() };
        assert_eq!(ways.in_turn(&[v6, v4]), [v4, v6]);
        assert_eq!(silence.family(Timestamp(0).plus(BEHIND_FOR)), None);
        silence.broken(v4);
        assert_eq!(silence.family(Timestamp(1000)), Some(AddressFamily::V6));
        silence.broken(v6);
        assert_eq!(silence.family(Timestamp(1000)), None);
    }
}
