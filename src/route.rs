//! Recipients to next hops: the operator's destinations first, the recipient's domain or address
//! literal otherwise.
//!
//! A literal is under the operator's rules as any domain is: with a destination for `*` nothing goes
//! past its next hop or its demands.

use crate::config::{Destination, NextHopAddress, closest};
use crate::smtp::address::{Domain, Host, Mailbox};
use std::collections::BTreeMap;
use std::net::IpAddr;

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
}

/// Who chose an address to deliver to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ChosenBy {
    /// A `[[destination]]` of the configuration.
    Operator,
    /// The recipient's address, `user@[192.0.2.1]`.
    Recipient,
}

impl std::fmt::Display for NextHop {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Domain(domain) => domain.fmt(f),
            Self::Host { name, port } => write!(f, "{name}:{port}"),
            Self::Address { address, port, .. } => write!(f, "[{address}]:{port}"),
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

/// The route of one recipient host.
#[must_use]
pub fn route(host: &Host, destinations: &[Destination], default_port: u16) -> Route {
    let rule = closest(host, destinations);
    let next_hop = rule.and_then(|index| destinations.get(index)).and_then(|d| d.next_hop.as_ref());
    let hop = match (next_hop, host) {
        (None, Host::Domain(domain)) => NextHop::Domain(domain.clone()),
        (None, Host::Literal(address)) => {
            NextHop::Address { address: address.to_canonical(), port: default_port, chosen_by: ChosenBy::Recipient }
        }
        (Some(NextHopAddress::Host { name, port }), _) => {
            NextHop::Host { name: name.clone(), port: port.unwrap_or(default_port) }
        }
        (Some(NextHopAddress::Address { ip, port }), _) => {
            NextHop::Address { address: *ip, port: port.unwrap_or(default_port), chosen_by: ChosenBy::Operator }
        }
    };
    Route { hop, rule }
}

/// Groups recipients (given by index) that share a route, in a stable order.
#[must_use]
pub fn group<'a>(
    recipients: impl Iterator<Item = (usize, &'a Mailbox)>,
    destinations: &[Destination],
    default_port: u16,
) -> BTreeMap<Route, Vec<usize>> {
    let mut groups: BTreeMap<Route, Vec<usize>> = BTreeMap::new();
    for (index, mailbox) in recipients {
        groups.entry(route(mailbox.host(), destinations, default_port)).or_default().push(index);
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
        route(address.parse::<Mailbox>().unwrap().host(), destinations, 25).hop.to_string()
    }

    #[test]
    fn a_named_domain_beats_the_wildcard() {
        assert_eq!(hop("a@Partner.example", &destinations()), "mx.partner.example:26");
        assert_eq!(hop("a@sub.partner.example", &destinations()), "[192.0.2.9]:25");
        assert_eq!(hop("a@other.example", &[]), "other.example");
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
                    [[destination]]\ndomains = [\"*.x.example\", \"[192.0.2.0/24]\"]\ntls = \"mta-sts\"\n\
                    [[destination]]\ndomains = [\"x.example\", \"[192.0.2.1]\", \"[2001:db8::1]\"]\ntls = \"dane-only\"";
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
            assert_eq!(route(&host.parse().unwrap(), &destinations, 25).rule, Some(rule), "{host}");
        }
    }

    #[test]
    fn recipients_of_one_next_hop_travel_together() {
        let mailboxes: Vec<Mailbox> = ["a@x.example", "b@y.example", "c@X.example"].map(|t| t.parse().unwrap()).into();
        let groups = group(mailboxes.iter().enumerate(), &[], 25);
        assert_eq!(groups.values().cloned().collect::<Vec<_>>(), vec![vec![0, 2], vec![1]]);
    }

    #[test]
    fn one_next_hop_under_two_rules_is_two_routes() {
        let text = "[[destination]]\ndomains = [\"*\"]\nnext_hop = \"192.0.2.9\"\n\
                    [[destination]]\ndomains = [\"*.x.example\"]\nnext_hop = \"192.0.2.9\"\ntls = \"encrypt\"";
        let destinations = Config::parse(text, Path::new("t")).unwrap().destination;
        let mailboxes: Vec<Mailbox> = ["a@x.example", "b@y.x.example"].map(|t| t.parse().unwrap()).into();
        let groups = group(mailboxes.iter().enumerate(), &destinations, 25);
        assert_eq!(groups.keys().map(|route| route.rule).collect::<Vec<_>>(), vec![Some(0), Some(1)]);
    }
}
