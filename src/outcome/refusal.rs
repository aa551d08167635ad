//! Whether a refusal is about this side: the address that mail comes from, or what proves that it is ours to send
//! (RFC 7208, RFC 6376, RFC 7489, and the codes of RFC 7372 for them).
//!
//! Whether the other side is right is not for its reply to prove; that neither the writer of the message nor
//! the recipient can do anything about it is.

use crate::smtp::reply::Reply;

/// What of this side a refusal is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnFault {
    /// The address that this host sends from: a block list, its reputation, its name in the DNS.
    Address,
    /// SPF, DKIM or DMARC of the sender's domain.
    Authentication,
}

/// What block lists and reputation filters say about the host that connects, in lower case: one of
/// each pair of rows must be there.
const THIS_HOST: [&str; 9] = [
    "client host",
    "your ip",
    "ip address",
    "sending ip",
    "this ip",
    "your host",
    "your server",
    "sending host",
    "sending server",
];
const IS_LISTED: [&str; 11] = [
    "listed",
    "blocked",
    "block list",
    "blocklist",
    "blacklist",
    "banned",
    "dnsbl",
    "rbl",
    "reputation",
    "reverse dns",
    "ptr record",
];
/// Lists of addresses of hosts, and of nothing else, by what replies call them.
const LISTS_OF_HOSTS: [&str; 5] =
    ["zen.spamhaus", "spamhaus.org/query/ip", "bl.spamcop.net", "spamcop.net/bl.shtml", "b.barracudacentral"];

/// What proves who may send for a domain, as words of a reply.
const PROOFS: [&str; 4] = ["spf", "dkim", "dmarc", "unauthenticated"];
/// What stands beside them in a refusal without a code that says so.
const FAILED: [&str; 9] =
    ["fail", "reject", "not pass", "policy", "align", "unauthenticated", "required", "missing", "not allowed"];

/// RFC 7372 §3: X.7.20 to X.7.24 and X.7.26 are about DKIM, SPF and both, X.7.25 about the reverse DNS.
const DKIM_AND_SPF: std::ops::RangeInclusive<u16> = 20..=26;
const REVERSE_DNS: u16 = 25;
/// The subject "security or policy" of enhanced codes (RFC 3463 §3.8).
const POLICY: u16 = 7;

/// What a refusal is about, where it is about this side.
pub(super) fn fault_of_ours(reply: &Reply) -> Option<OwnFault> {
    let code = reply.enhanced.map(|code| (code.subject, code.detail));
    match code {
        Some((POLICY, REVERSE_DNS)) => return Some(OwnFault::Address),
        Some((POLICY, detail)) if DKIM_AND_SPF.contains(&detail) => return Some(OwnFault::Authentication),
        Some(_) | None => {}
    }
    let said = reply.lines.join(" ").to_ascii_lowercase();
    let any = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if any(&LISTS_OF_HOSTS) || any(&THIS_HOST) && any(&IS_LISTED) {
        return Some(OwnFault::Address);
    }
    let is_policy = code.map_or_else(|| any(&FAILED), |(subject, _)| subject == POLICY || subject == 0 && any(&FAILED));
    (is_policy && names_a_proof(&said)).then_some(OwnFault::Authentication)
}

/// As a word of its own, and not in an address or the name of a host.
fn names_a_proof(said: &str) -> bool {
    let words = said.split_ascii_whitespace().filter(|word| !word.contains(['@', '/']));
    let mut pieces =
        words.flat_map(|word| word.trim_end_matches('.').split(|c: char| !c.is_ascii_alphanumeric() && c != '.'));
    pieces.any(|piece| PROOFS.contains(&piece.trim_matches('.')))
}

#[cfg(test)]
mod tests {
    use super::super::every::reply;
    use super::*;

    #[test]
    fn rfc7372_3_a_refusal_of_our_address_or_of_our_proofs_is_ours_to_act_on() {
        for (said, fault) in [
            (
                "554 5.7.1 Service unavailable; Client host [192.0.2.7] blocked using zen.spamhaus.org",
                OwnFault::Address,
            ),
            ("550 5.7.606 Access denied, banned sending IP [192.0.2.7]", OwnFault::Address),
            ("550 rejected, see https://www.spamhaus.org/query/ip/192.0.2.7", OwnFault::Address),
            ("550 5.7.25 no", OwnFault::Address),
            ("421 4.7.0 your IP address has a poor reputation", OwnFault::Address),
            (
                "550 5.7.23 The message was rejected because of Sender Policy Framework violation",
                OwnFault::Authentication,
            ),
            ("550 5.7.26 This mail has been blocked because the sender is unauthenticated", OwnFault::Authentication),
            (
                "550 5.7.509 Access denied, sending domain corp.example does not pass DMARC verification",
                OwnFault::Authentication,
            ),
            ("550 5.7.1 SPF: 192.0.2.7 is not a permitted sender", OwnFault::Authentication),
            ("554 5.7.1 (DKIM) signature wanted", OwnFault::Authentication),
            ("550 SPF check failed", OwnFault::Authentication),
        ] {
            assert_eq!(fault_of_ours(&reply(&[said.as_bytes()])), Some(fault), "{said}");
        }
    }

    #[test]
    fn other_refusals_are_not() {
        for said in [
            "550 5.1.1 <dmarc@partner.example> no such user",
            "550 5.1.1 no such user here; see the spf page",
            "550 5.7.1 <spf-reports@partner.example>: access denied",
            "550 5.7.1 the message looks like spam, see https://partner.example/dkim",
            "552 5.2.2 mailbox full",
            "550 5.7.1 delivery not authorized, message refused",
            "550 5.7.1 a link in the message is on a list",
            "550 spf.partner.example takes no mail",
        ] {
            assert_eq!(fault_of_ours(&reply(&[said.as_bytes()])), None, "{said}");
        }
    }
}
