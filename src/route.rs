//! Recipients to next hops: the operator's destinations first, the recipient's domain or address
//! literal otherwise.
//!
//! A literal is under the operator's rules as any domain is: with a destination for `*` nothing goes
//! past its next hop or its demands.

mod list;

pub(crate) use list::NextHopList;

use crate::config::{Destination, ListedNextHop, NextHopAddress, NextHops, TlsMode, closest};
use crate::smtp::address::{Domain, Host, Mailbox, ReversePath};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The port of a server that speaks TLS from the first octet (RFC 8314 §7.3).
const SUBMISSIONS: u16 = 465;

/// Where a message goes next.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum NextHop {
    /// The MX hosts of this domain.
    Domain(Domain),
    /// This host, named by the operator; no MX look-up.
    Host {
        /// Its name.
        name: Domain,
        /// Its port.
        port: u16,
    },
    /// This address, named by the operator or by an address literal (RFC 5321 §4.1.3).
    Address {
        /// The address.
        address: IpAddr,
        /// Its port.
        port: u16,
        /// Whether the operator named it: then loopback is what was meant.
        chosen_by: ChosenBy,
    },
    /// One of these, named by the operator: one attempt goes through them ([`Route::in_turn`]).
    OneOf(NextHopList),
}

/// Who chose an address to deliver to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChosenBy {
    /// A `[[destination]]` of the configuration.
    Operator,
    /// The recipient's address, `user@[192.0.2.1]`.
    Recipient,
}

impl NextHop {
    /// Who chose it.
    #[must_use]
    pub const fn chosen_by(&self) -> ChosenBy {
        match self {
            Self::Domain(_) | Self::Address { chosen_by: ChosenBy::Recipient, .. } => ChosenBy::Recipient,
            Self::Host { .. } | Self::Address { chosen_by: ChosenBy::Operator, .. } | Self::OneOf(_) => {
                ChosenBy::Operator
            }
        }
    }
}

impl std::fmt::Display for NextHop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Address { address, port, .. } => write!(f, "[{address}]:{port}"),
            Self::OneOf(list) => list.fmt(f),
        }
    }
}

/// Where a message goes next, and under which of the operator's rules.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Route {
    /// Where it goes.
    pub hop: NextHop,
    /// The `[[destination]]` that holds, by its place in the configuration.
    pub rule: Option<usize>,
}

impl Route {
    /// The routes to single next hops that one attempt tries, in their order. `has_failed` says which
    /// ones are better asked last.
    pub fn in_turn(&self, seed: u64, has_failed: impl FnMut(&NextHop) -> bool) -> Vec<Self> {
        match &self.hop {
            NextHop::OneOf(list) => {
                let single = |hop| Self { hop, rule: self.rule };
                list.in_turn(seed, has_failed).into_iter().map(single).collect()
            }
            NextHop::Domain(_) | NextHop::Host { .. } | NextHop::Address { .. } => vec![self.clone()],
        }
    }
}

/// The route of mail of a sender to one recipient host; of any sender where none is given.
#[must_use]
pub(crate) fn route(
    host: &Host,
    sender: Option<&ReversePath>,
    destinations: &[Destination],
    default_port: u16,
) -> Route {
    let rule = closest(host, sender, destinations);
    let destination = rule.and_then(|index| destinations.get(index));
    let next_hop = destination.and_then(|d| d.next_hop.as_ref());
    let named_port = match destination.and_then(|d| d.tls_mode) {
        Some(TlsMode::Implicit) => SUBMISSIONS,
        Some(TlsMode::Starttls) | None => default_port,
    };
    let hop = match (next_hop, host) {
        (None, Host::Domain(domain)) => NextHop::Domain(domain.clone()),
        (None, Host::Literal(address)) => {
            NextHop::Address { address: address.to_canonical(), port: default_port, chosen_by: ChosenBy::Recipient }
        }
        (Some(hops), _) => named(hops, named_port),
    };
    Route { hop, rule }
}

/// What the operator names.
pub(crate) fn named(hops: &NextHops, default_port: u16) -> NextHop {
    let one = |listed: &ListedNextHop| match &listed.address {
        NextHopAddress::Host { name, port } => NextHop::Host { name: name.clone(), port: port.unwrap_or(default_port) },
        NextHopAddress::Address { ip, port } => {
            NextHop::Address { address: *ip, port: port.unwrap_or(default_port), chosen_by: ChosenBy::Operator }
        }
    };
    let first = hops.first();
    let others: Vec<_> = hops.iter().skip(1).map(|listed| (one(listed), listed.weight)).collect();
    if others.is_empty() { one(first) } else { NextHop::OneOf(NextHopList::new((one(first), first.weight), others)) }
}

/// Groups recipients of a sender (given by index) that share a route, in a stable order.
#[must_use]
pub(crate) fn group<'a>(
    recipients: impl Iterator<Item = (usize, &'a Mailbox)>,
    sender: &ReversePath,
    destinations: &[Destination],
    default_port: u16,
) -> BTreeMap<Route, Vec<usize>> {
    let mut groups: BTreeMap<Route, Vec<usize>> = BTreeMap::new();
    for (index, mailbox) in recipients {
        groups.entry(route(mailbox.host(), Some(sender), destinations, default_port)).or_default().push(index);
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use std::path::Path;

    fn destinations() -> Vec<Destination> {
        let text = "[[destination]]\ndomains = [\"*\"]\nnext_hop = \"192.0.2.9\"\n\
                    [[destination]]\ndomains = [\"partner.example\"]\nnext_hop = \"mx.partner.example:26\"";
        Config::parse(text, Path::new("t")).unwrap().destination
    }

    fn hop(address: &str, destinations: &[Destination]) -> String {
        route(address.parse::<Mailbox>().unwrap().host(), None, destinations, 25).hop.to_string()
    }

    #[test]
    fn a_named_domain_beats_the_wildcard() {
        assert_eq!(hop("a@Partner.example", &destinations()), "mx.partner.example:26");
        assert_eq!(hop("a@sub.partner.example", &destinations()), "[192.0.2.9]:25");
        assert_eq!(hop("a@other.example", &[]), "other.example");
    }

    #[test]
    fn the_closest_domain_comes_first_and_then_the_closest_sender() {
        let rule = |domains: &str, senders: &str| {
            format!("[[destination]]\ndomains = [{domains:?}]\nsenders = [{senders}]\ntls = \"encrypt\"\n")
        };
        let text = rule("*", "")
            + &rule("*", "\"@a.example\"")
            + &rule("*", "\"Bob@a.example\"")
            + &rule("x.example", "")
            + &rule("x.example", "\"@b.example\", \"<>\"");
        let destinations = Config::parse(&text, Path::new("t")).unwrap().destination;
        let rule = |sender: &str, host: &str| {
            let sender = match sender {
                "<>" => ReversePath::Null,
                mailbox => ReversePath::Mailbox(mailbox.parse().unwrap()),
            };
            route(&host.parse().unwrap(), Some(&sender), &destinations, 25).rule.unwrap()
        };
        for (sender, host, expected) in [
            ("eve@c.example", "y.example", 0),
            ("eve@sub.a.example", "y.example", 0),
            ("<>", "y.example", 0),
            ("eve@A.example", "y.example", 1),
            ("bob@A.EXAMPLE", "y.example", 2),
            ("bob@a.example", "x.example", 3),
            ("eve@b.example", "x.example", 4),
            ("<>", "x.example", 4),
        ] {
            assert_eq!(rule(sender, host), expected, "{sender} to {host}");
        }
        assert_eq!(
            route(&"x.example".parse().unwrap(), None, &destinations, 25).rule,
            Some(3),
            "of nobody in particular"
        );
    }

    #[test]
    fn rfc8314_7_3_a_next_hop_with_tls_from_the_start_has_its_own_port() {
        let text =
            "[[destination]]\ndomains = [\"*\"]\nnext_hop = [\"a.example\", \"b.example:26\"]\ntls_mode = \"implicit\"";
        let destinations = Config::parse(text, Path::new("t")).unwrap().destination;
        assert_eq!(hop("a@x.example", &destinations), "a.example:465, b.example:26");
    }

    #[test]
    fn a_list_of_next_hops_is_one_route_that_is_tried_in_turn() {
        let text = "[[destination]]\ndomains = [\"x.example\"]\nnext_hop = [\"a.example:26\", \"192.0.2.9\"]";
        let destinations = Config::parse(text, Path::new("t")).unwrap().destination;
        let whole = route(&"x.example".parse().unwrap(), None, &destinations, 25);
        assert_eq!(whole.hop.to_string(), "a.example:26, [192.0.2.9]:25");
        let turn = |failed: &str| {
            let single = whole.in_turn(7, |hop| hop.to_string() == failed);
            assert!(single.iter().all(|route| route.rule == Some(0)), "the same rule holds for each");
            single.iter().map(|route| route.hop.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(turn(""), ["a.example:26", "[192.0.2.9]:25"]);
        assert_eq!(turn("a.example:26"), ["[192.0.2.9]:25", "a.example:26"]);
    }

    #[test]
    fn rfc5321_4_1_3_an_address_literal_is_its_own_next_hop_where_no_rule_names_another() {
        assert_eq!(hop("a@[192.0.2.1]", &[]), "[192.0.2.1]:25");
        assert_eq!(hop("a@[IPv6:::ffff:192.0.2.1]", &[]), "[192.0.2.1]:25", "one host, however it is written");
        assert_eq!(hop("a@[192.0.2.1]", &destinations()), "[192.0.2.9]:25");
        assert_eq!(hop("a@[IPv6:2001:db8::1]", &destinations()), "[192.0.2.9]:25");
    }

    #[test]
    fn every_recipient_is_under_exactly_one_rule_where_one_is_for_all() {
        let text = "[[destination]]\ndomains = [\"*\"]\ntls = \"encrypt\"\n\
                    [[destination]]\ndomains = [\"*.x.example\", \"[192.0.2.0/24]\"]\ntls = \"encrypt\"\n\
                    [[destination]]\ndomains = [\"x.example\", \"[192.0.2.1]\", \"[2001:db8::1]\"]\ntls = \"encrypt\"";
        let destinations = Config::parse(text, Path::new("t")).unwrap().destination;
        for (host, rule) in [
            ("y.example", 0),
            ("a.x.example", 1),
            ("X.example.", 2),
            ("[198.51.100.7]", 0),
            ("[192.0.2.2]", 1),
            ("[192.0.2.1]", 2),
            ("[IPv6:::ffff:c000:201]", 2),
            ("[IPv6:2001:db8::1]", 2),
            ("[IPv6:2001:db8::2]", 0),
        ] {
            assert_eq!(route(&host.parse().unwrap(), None, &destinations, 25).rule, Some(rule), "{host}");
        }
    }

    #[test]
    fn recipients_of_one_next_hop_travel_together() {
        let mailboxes: Vec<Mailbox> = ["a@x.example", "b@y.example", "c@X.example"].map(|t| t.parse().unwrap()).into();
        let groups = group(mailboxes.iter().enumerate(), &ReversePath::Null, &[], 25);
        assert_eq!(groups.values().cloned().collect::<Vec<_>>(), vec![vec![0, 2], vec![1]]);
    }

    #[test]
    fn one_next_hop_under_two_rules_is_two_routes() {
        let text = "[[destination]]\ndomains = [\"*\"]\nnext_hop = \"192.0.2.9\"\n\
                    [[destination]]\ndomains = [\"*.x.example\"]\nnext_hop = \"192.0.2.9\"\ntls = \"encrypt\"";
        let destinations = Config::parse(text, Path::new("t")).unwrap().destination;
        let mailboxes: Vec<Mailbox> = ["a@x.example", "b@y.x.example"].map(|t| t.parse().unwrap()).into();
        let groups = group(mailboxes.iter().enumerate(), &ReversePath::Null, &destinations, 25);
        assert_eq!(groups.keys().map(|route| route.rule).collect::<Vec<_>>(), vec![Some(0), Some(1)]);
    }
}
