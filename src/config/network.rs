//! Addresses and networks as the configuration writes them.

use ipnet::IpNet;
use serde::{Deserialize, Deserializer};
use std::net::{IpAddr, Ipv6Addr, SocketAddr};

/// An address to listen on, so that a wrong one of a list is told by itself.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct ListeningAddress(SocketAddr);

/// A network; an address alone is a network of one.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct WrittenNetwork(IpNet);

/// Addresses to listen on.
pub(super) fn sockets<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<SocketAddr>, D::Error> {
    Ok(Vec::<ListeningAddress>::deserialize(deserializer)?.into_iter().map(|ListeningAddress(one)| one).collect())
}

/// An address to listen on.
pub(super) fn socket<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SocketAddr, D::Error> {
    ListeningAddress::deserialize(deserializer).map(|ListeningAddress(address)| address)
}

/// Networks; an address alone is a network of one.
pub(super) fn networks<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<IpNet>, D::Error> {
    Ok(Vec::<WrittenNetwork>::deserialize(deserializer)?.into_iter().map(|WrittenNetwork(one)| one).collect())
}

impl TryFrom<String> for ListeningAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = |_| format!("\"{text}\" is no address to listen on: write \"IP:PORT\", such as \"0.0.0.0:25\"");
        text.parse().map(Self).map_err(wrong)
    }
}

impl TryFrom<String> for WrittenNetwork {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        network_of(&text).map(Self)
    }
}

fn network_of(text: &str) -> Result<IpNet, String> {
    let wrong = |_| {
        format!("\"{text}\" is no address and no network: write \"192.0.2.10\", or \"192.0.2.0/24\" for all of one")
    };
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map_err(wrong)
}

/// Under which address a client is counted: somebody with IPv6 has as many as they like of one /64.
#[must_use]
pub fn counted_client(client: IpAddr) -> IpAddr {
    match client.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & !u128::from(u64::MAX))),
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_a_network_of_one() {
        assert_eq!(network_of("192.0.2.10").unwrap(), "192.0.2.10/32".parse().unwrap());
        assert_eq!(network_of("2001:db8::1").unwrap(), "2001:db8::1/128".parse().unwrap());
        assert_eq!(network_of("10.0.0.0/8").unwrap(), "10.0.0.0/8".parse().unwrap());
        assert!(network_of("exchange.example.org").is_err());
    }
}
