//! The one Received line that we put on top (RFC 5321 §4.4, RFC 3848 §2).
//!
//! Nothing in it comes from the client unchecked: the EHLO name is reduced to the characters of
//! names, the recipient is a parsed mailbox.

use super::rules::ClientInTrace;
use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::smtp::address::{Domain, Host, Mailbox};
use std::net::IpAddr;

/// What the line tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct TraceLine<'a> {
    /// What the client called itself.
    pub helo: &'a str,
    /// Its address.
    pub client: IpAddr,
    /// Whether either may be seen.
    pub client_in_trace: ClientInTrace,
    /// Our name.
    pub by: &'a Domain,
    /// SMTP, ESMTP, ESMTPS, UTF8SMTP or UTF8SMTPS.
    pub protocol: &'a str,
    /// The message.
    pub id: QueueId,
    /// The recipient, when there is only one: several would tell each of the others.
    pub only_recipient: Option<&'a Mailbox>,
    /// When the content began to arrive.
    pub at: Timestamp,
}

/// The field with its CRLF, folded so that usual lines stay below 78 octets (RFC 5322 §2.1.1).
#[must_use]
pub(super) fn received(trace: &TraceLine<'_>) -> String {
    let from = match trace.client_in_trace {
        ClientInTrace::Shown => format!("from {} ({})", clean(trace.helo), Host::Literal(trace.client.to_canonical())),
        // The grammar wants a name; nobody can have this one.
        ClientInTrace::Hidden => "from hidden.invalid".to_owned(),
    };
    let by = format!("by {} with {} id {}", trace.by, trace.protocol, trace.id);
    let date = trace.at.rfc5322();
    match trace.only_recipient {
        // The trace must not be what makes the header one in UTF-8.
        Some(recipient) => {
            format!("Received: {from}\r\n\t{by}\r\n\tfor <{}>;\r\n\t{date}\r\n", recipient.on_the_wire())
        }
        None => format!("Received: {from}\r\n\t{by};\r\n\t{date}\r\n"),
    }
}

/// Names and address literals pass; anything that could end a token or open a comment does not.
fn clean(helo: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-._:[]".contains(c);
    helo.chars().map(|c| if allowed(c) { c } else { '?' }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(helo: &str, client: &str, only_recipient: Option<&Mailbox>) -> String {
        let by = "relay.example.org".parse().unwrap();
        let client = client.parse().unwrap();
        let at = Timestamp(1_795_261_468_000);
        let (client_in_trace, id) = (ClientInTrace::Shown, QueueId(32));
        received(&TraceLine { helo, client, client_in_trace, by: &by, protocol: "ESMTPS", id, only_recipient, at })
    }

    #[test]
    fn rfc5321_7_6_a_hidden_client_leaves_neither_name_nor_address() {
        let (by, client, at) = ("relay.example.org".parse().unwrap(), "10.1.2.3".parse().unwrap(), Timestamp(0));
        let (client_in_trace, only_recipient, id) = (ClientInTrace::Hidden, None, QueueId(1));
        let helo = "ex01.internal.corp.example";
        let line =
            received(&TraceLine { helo, client, client_in_trace, by: &by, protocol: "ESMTP", id, only_recipient, at });
        assert!(line.starts_with("Received: from hidden.invalid\r\n\tby relay.example.org with ESMTP id "), "{line}");
        assert!(!line.contains("internal") && !line.contains("10.1.2.3"));
    }

    #[test]
    fn rfc5321_4_4_the_line_names_both_sides_and_one_recipient() {
        let recipient = "u@d.example".parse().unwrap();
        assert_eq!(
            line("ex01.corp.example", "::ffff:192.0.2.1", Some(&recipient)),
            "Received: from ex01.corp.example ([192.0.2.1])\r\n\tby relay.example.org with ESMTPS id 0000000000010\r\n\
             \tfor <u@d.example>;\r\n\tSat, 21 Nov 2026 11:44:28 +0000\r\n"
        );
        let several = line("[IPv6:2001:db8::1]", "2001:db8::1", None);
        assert!(several.starts_with("Received: from [IPv6:2001:db8::1] ([IPv6:2001:db8::1])\r\n\tby "), "{several}");
        assert!(!several.contains("for "));
        assert!(several.split("\r\n").all(|l| l.len() < 78));
    }

    #[test]
    fn rfc5321_4_4_a_strange_ehlo_name_cannot_break_the_field() {
        let line = line("a(b)\"<c>;,\\=d", "192.0.2.1", None);
        assert!(line.starts_with("Received: from a?b???c?????d ([192.0.2.1])\r\n"), "{line}");
    }
}
