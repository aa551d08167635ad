//! The records to publish: the name of the relay, its way back, and who may send for the sender domains.

use super::SetupAnswers;
use crate::smtp::address::Domain;
use hickory_proto::rr::Name;
use std::net::IpAddr;

/// Stands where an address is not known.
const UNKNOWN: &str = "YOUR-PUBLIC-ADDRESS";

/// What a sender domain should have as its SPF record (RFC 7208).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SpfToPublish {
    /// The domain.
    pub domain: Domain,
    /// The record; `None` where the one that is there does.
    pub record: Option<String>,
}

/// The records in the form of a zone file, with comments. `egress` are the addresses that mail leaves from.
#[must_use]
pub fn text(answers: &SetupAnswers, egress: &[IpAddr], spf: &[SpfToPublish]) -> String {
    let mut text = String::new();
    let hostname = answers.hostname.fqdn();
    for address in egress {
        let kind = if address.is_ipv4() { "A" } else { "AAAA" };
        text += &format!("{hostname:36} {kind:5} {address}\n");
    }
    if egress.is_empty() {
        text += &format!("{hostname:36} A     {UNKNOWN}\n");
    }
    text += "; The way back is published by whoever the address belongs to, usually your provider:\n";
    for address in egress {
        text += &format!("{:36} PTR   {hostname}\n", Name::from(*address).to_string());
    }
    if egress.is_empty() {
        text += &format!("; (the PTR record of {UNKNOWN}: {hostname})\n");
    }
    text += "; Who may send for your domains (SPF), beside what sends for them already:\n";
    for SpfToPublish { domain, record } in spf {
        let owner = domain.fqdn();
        text += &match record {
            Some(record) => format!("{owner:36} TXT   \"{record}\"\n"),
            None => format!("; {owner} has a record that will do\n"),
        };
    }
    if spf.is_empty() {
        let own: Vec<String> = egress.iter().map(ToString::to_string).collect();
        let own = if own.is_empty() { UNKNOWN.to_owned() } else { own.join(", ") };
        let domains = answers.sender_domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        text += &format!("; (not looked at: the TXT record of {domains} must allow {own})\n");
    }
    text += "; DKIM: keep the signature of whatever signs today, or let the relay sign (relay dkim new). DMARC: no change.\n";
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::command::setup::tests::answers;

    #[test]
    fn name_way_back_and_spf_are_there_for_every_address() {
        let egress = ["203.0.113.5".parse().unwrap(), "2001:db8::5".parse().unwrap()];
        let spf = [
            SpfToPublish { domain: "example.org".parse().unwrap(), record: Some("v=spf1 ip4:203.0.113.5 ~all".into()) },
            SpfToPublish { domain: "example.net".parse().unwrap(), record: None },
        ];
        let text = text(&answers(), &egress, &spf);
        let words: Vec<Vec<&str>> = text.lines().map(|line| line.split_whitespace().collect()).collect();
        for expected in [
            &["relay.example.org.", "A", "203.0.113.5"][..],
            &["relay.example.org.", "AAAA", "2001:db8::5"],
            &["5.113.0.203.in-addr.arpa.", "PTR", "relay.example.org."],
            &["example.org.", "TXT", "\"v=spf1", "ip4:203.0.113.5", "~all\""],
        ] {
            assert!(words.iter().any(|line| line == expected), "{expected:?} is not in:\n{text}");
        }
        assert!(text.contains("; example.net. has a record that will do"), "{text}");
    }

    #[test]
    fn an_address_that_is_not_known_is_left_for_the_operator() {
        let text = text(&answers(), &[], &[]);
        assert!(text.matches(UNKNOWN).count() == 3, "{text}");
    }
}
