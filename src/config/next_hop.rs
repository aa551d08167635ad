//! `next_hop` of a `[[destination]]`: one host, or a list of them in the order in which they are tried.
//!
//! Hosts with a `weight` that stand next to each other are equals and share the mail by their
//! weights, as hosts of one priority do in RFC 2782; one without a weight has its place to itself.

use crate::smtp::address::Domain;
use serde::de::value::{MapAccessDeserializer, StrDeserializer};
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU16;

/// The most hosts of one list: who needs more has a name with many addresses for them.
const MOST_LISTED: usize = 16;

/// The next hops of a destination; at least one, none twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NextHops {
    first: ListedNextHop,
    others: Vec<ListedNextHop>,
}

/// One next hop of a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ListedNextHop {
    /// Where it is.
    #[serde(rename = "host")]
    pub address: NextHopAddress,
    /// Its part of the mail among its neighbours that have a weight, too.
    #[serde(default, deserialize_with = "weight")]
    pub weight: Option<NonZeroU16>,
}

impl NextHops {
    /// All of them, in their order.
    pub fn iter(&self) -> impl Iterator<Item = &ListedNextHop> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The first one.
    #[must_use]
    pub const fn first(&self) -> &ListedNextHop {
        &self.first
    }

    const fn one(first: ListedNextHop) -> Self {
        Self { first, others: Vec::new() }
    }

    fn new(listed: Vec<ListedNextHop>) -> Result<Self, String> {
        let twice = listed
            .iter()
            .enumerate()
            .find(|(place, one)| listed.iter().take(*place).any(|other| other.address == one.address));
        match twice {
            Some((_, one)) => Err(format!("next_hop names {} twice; give it a larger weight instead", one.address)),
            None => {
                let (number, mut listed) = (listed.len(), listed.into_iter());
                match listed.next().filter(|_| number <= MOST_LISTED) {
                    Some(first) => Ok(Self { first, others: listed.collect() }),
                    None => Err(format!("next_hop has from 1 to {MOST_LISTED} hosts, not {number}")),
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for NextHops {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneOrMany)
    }
}

struct OneOrMany;

impl<'de> Visitor<'de> for OneOrMany {
    type Value = NextHops;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"HOST:PORT\", or a list of such: [\"HOST:PORT\", { host = \"HOST:PORT\", weight = 2 }]")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<NextHops, E> {
        ListedVisitor.visit_str(text).map(NextHops::one)
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<NextHops, A::Error> {
        ListedVisitor.visit_map(map).map(NextHops::one)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<NextHops, A::Error> {
        let mut listed = Vec::new();
        while let Some(ListEntry(one)) = items.next_element()? {
            listed.push(one);
        }
        NextHops::new(listed).map_err(A::Error::custom)
    }
}

/// An entry of a list in either of its forms.
struct ListEntry(ListedNextHop);

impl<'de> Deserialize<'de> for ListEntry {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ListedVisitor).map(Self)
    }
}

struct ListedVisitor;

impl<'de> Visitor<'de> for ListedVisitor {
    type Value = ListedNextHop;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("\"HOST:PORT\" or { host = \"HOST:PORT\", weight = 2 }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<ListedNextHop, E> {
        let address = NextHopAddress::deserialize(StrDeserializer::new(text))?;
        Ok(ListedNextHop { address, weight: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ListedNextHop, A::Error> {
        ListedNextHop::deserialize(MapAccessDeserializer::new(map))
    }
}

fn weight<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<NonZeroU16>, D::Error> {
    let wrong = || D::Error::custom("weight is a number from 1 to 65535");
    let given = i64::deserialize(deserializer).map_err(|_| wrong())?;
    let weight = u16::try_from(given).ok().and_then(NonZeroU16::new);
    weight.map(Some).ok_or_else(wrong)
}

/// `host`, `host:port`, `192.0.2.1`, `192.0.2.1:2525` or `[2001:db8::1]:25`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum NextHopAddress {
    /// A host whose addresses and TLSA records are looked up; no MX look-up.
    Host {
        /// Its name.
        name: Domain,
        /// Its port; `[delivery] port` when not given.
        port: Option<u16>,
    },
    /// An address; DANE cannot apply.
    Address {
        /// The address.
        ip: IpAddr,
        /// Its port; `[delivery] port` when not given.
        port: Option<u16>,
    },
}

impl TryFrom<String> for NextHopAddress {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Ok(Self::Address { ip: address.ip(), port: Some(address.port()) });
        }
        let bare = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')).unwrap_or(&text);
        if let Ok(ip) = bare.parse() {
            return Ok(Self::Address { ip, port: None });
        }
        let (name, port) = match text.rsplit_once(':') {
            Some((name, port)) => {
                let port = port.parse().map_err(|_| format!("\"{text}\": {port} is no port"))?;
                (name, Some(port))
            }
            None => (text.as_str(), None),
        };
        let name = name.parse().map_err(|e| format!("\"{text}\" is no next hop: {e}"))?;
        Ok(Self::Host { name, port })
    }
}

/// As the configuration has it.
impl fmt::Display for NextHopAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port: Some(port) } => write!(f, "{name}:{port}"),
            Self::Host { name, port: None } => name.fmt(f),
            Self::Address { ip, port: Some(port) } => SocketAddr::new(*ip, *port).fmt(f),
            Self::Address { ip, port: None } => ip.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    #[test]
    fn next_hops_take_a_default_port() {
        let next_hop = |text: &str| NextHopAddress::try_from(text.to_owned());
        let name: Domain = "mx.example".parse().unwrap();
        assert_eq!(next_hop("mx.example:26"), Ok(NextHopAddress::Host { name, port: Some(26) }));
        assert_eq!(next_hop("192.0.2.1"), Ok(NextHopAddress::Address { ip: "192.0.2.1".parse().unwrap(), port: None }));
        assert!(next_hop("mx.example:x").is_err());
    }

    fn listed(value: &str) -> Result<Vec<(String, Option<u16>)>, String> {
        let text = format!("[[destination]]\ndomains = [\"x.example\"]\nnext_hop = {value}\n");
        let config = Config::parse(&text, Path::new("relay.toml")).map_err(|e| e.to_string())?;
        let hops = config.destination[0].next_hop.clone().unwrap();
        Ok(hops.iter().map(|one| (one.address.to_string(), one.weight.map(NonZeroU16::get))).collect())
    }

    #[test]
    fn a_next_hop_is_one_host_or_a_list_of_them_with_weights() {
        let plain = |text: &str| (text.to_owned(), None);
        assert_eq!(listed("\"a.example:26\"").unwrap(), [plain("a.example:26")]);
        assert_eq!(
            listed("[\"a.example:26\", \"[2001:db8::1]:25\"]").unwrap(),
            [plain("a.example:26"), plain("[2001:db8::1]:25")]
        );
        let weighed = listed("[{ host = \"a.example\", weight = 2 }, { host = \"192.0.2.1\" }]").unwrap();
        assert_eq!(weighed, [("a.example".to_owned(), Some(2)), plain("192.0.2.1")]);
    }

    #[test]
    fn a_wrong_list_is_named_with_its_line_and_what_would_be_right() {
        for (value, words) in [
            ("[]", "relay.toml:3: [[destination]] next_hop: []: next_hop has from 1 to 16 hosts, not 0"),
            ("[\"a.example\", \"A.example\"]", "next_hop names a.example twice"),
            ("[\"a.example:x\"]", ": x is no port"),
            ("[{ host = \"a.example\", wieght = 2 }]", "did you mean `weight`?"),
            ("[{ host = \"a.example\", weight = 0 }]", "weight is a number from 1 to 65535"),
            ("[{ weight = 2 }]", "`host` is missing"),
            ("25", "a list of such"),
        ] {
            let error = listed(value).unwrap_err();
            assert!(
                error.starts_with("relay.toml:3: [[destination]] next_hop") && error.contains(words),
                "{value}: {error}"
            );
        }
    }
}
