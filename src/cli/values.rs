//! Values of the command line, and what is said when one makes no sense.

use dane_relay::smtp::address::{Domain, Mailbox, ReversePath, parse_reverse_path};
use ipnet::IpNet;
use std::net::IpAddr;

/// A domain.
pub(crate) fn domain(text: &str) -> Result<Domain, String> {
    text.parse().map_err(|e| format!("{e}; write a domain such as example.org"))
}

/// A sender, with brackets or without.
pub(crate) fn sender(text: &str) -> Result<ReversePath, String> {
    let path = if text.starts_with('<') { text.to_owned() } else { format!("<{text}>") };
    parse_reverse_path(&path).map_err(|e| format!("{e}; write an address such as alice@example.org, or <>"))
}

/// An address of mail.
pub(crate) fn mailbox(text: &str) -> Result<Mailbox, String> {
    text.parse().map_err(|e| format!("{e}; write an address such as alice@example.org"))
}

/// An address of a host, or a network.
pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let wrong = |_| format!("\"{text}\" is no address: write 192.0.2.10, or 192.0.2.0/24 for a network, but no name");
    text.parse::<IpAddr>().map(IpNet::from).or_else(|_| text.parse()).map_err(wrong)
}
