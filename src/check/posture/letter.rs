//! A text for whoever runs the mail of a domain, ready to be sent by a human; it is never sent by itself
//! (pure).

use super::PostureFinding;
use super::store::WatchedDomain;
use crate::smtp::address::Mailbox;
use crate::text::paragraph;

/// Whom to write to: who asks for TLS reports reads them (RFC 8460 §3); everybody else has a postmaster
/// (RFC 5321 §4.5.1).
#[must_use]
pub(super) fn contact(domain: &str, tlsrpt: Option<&str>) -> String {
    let addresses = tlsrpt.into_iter().flat_map(|record| record.split([';', ','])).map(str::trim);
    let mailto = addresses.filter_map(|part| part.trim_start_matches("rua=").trim().strip_prefix("mailto:"));
    let readable = mailto.filter_map(|address| address.split(['!', '?']).next()?.parse::<Mailbox>().ok());
    readable.map(|address| address.to_string()).next().unwrap_or_else(|| format!("postmaster@{domain}"))
}

/// The text, with whom it is for.
#[must_use]
pub fn letter(watched: &WatchedDomain) -> String {
    let WatchedDomain { domain, contact, findings, at, .. } = watched;
    let mut text = format!("To: {contact}\nSubject: Mail to {domain}\n\n");
    text += &paragraph("", &format!("Our mail server looked at how mail to {domain} is protected, and found:"), 0);
    text.push('\n');
    for PostureFinding { detail, .. } in findings {
        text += &paragraph("  - ", detail, 4);
    }
    text.push('\n');
    let seen = format!("Seen at {}, from outside and without sending mail.", at.to_second());
    text += &paragraph("", &seen, 0);
    text + &paragraph("", "Mail to you may wait or come back if this stays so. Thank you for looking at it.", 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8460_3_who_asks_for_reports_is_written_to_and_otherwise_the_postmaster() {
        let told = |record: &str| contact("a.example", Some(record));
        assert_eq!(told("v=TLSRPTv1; rua=mailto:tls@a.example"), "tls@a.example");
        assert_eq!(told("v=TLSRPTv1;rua=https://x.example/r,mailto:r@b.example!10m"), "r@b.example");
        for odd in ["v=TLSRPTv1; rua=https://x.example", "v=TLSRPTv1; rua=mailto:not an address", ""] {
            assert_eq!(told(odd), "postmaster@a.example", "{odd}");
        }
        assert_eq!(contact("a.example", None), "postmaster@a.example");
    }
}
