//! What a connection to a mail server came to: TLS, and what the server offers behind it (pure)
//! (RFC 3207 §4.2, RFC 8446 §4.2.7).

use super::evidence::NegotiatedTls;
use crate::deliver::driver::Probe;
use crate::smtp::reply::Capabilities;

/// TLS as it was negotiated, and the reply to EHLO inside it; none where it did not come about.
pub(super) fn of(probe: &Probe) -> Option<NegotiatedTls> {
    let version = probe.tls.as_ref()?.version()?.to_owned();
    Some(NegotiatedTls { version, group: probe.group.map(str::to_owned), offers: keywords(&probe.offered) })
}

/// The keywords of a reply to EHLO that mean something to delivery.
pub(super) fn keywords(offered: &Capabilities) -> Vec<String> {
    let size = offered.size.map(|limit| limit.map_or_else(|| "SIZE".to_owned(), |limit| format!("SIZE {limit}")));
    let auth = (!offered.auth.is_empty()).then(|| format!("AUTH {}", offered.auth.join(" ")));
    let plain = [
        ("STARTTLS", offered.starttls),
        ("REQUIRETLS", offered.require_tls),
        ("PIPELINING", offered.pipelining),
        ("8BITMIME", offered.eight_bit_mime),
        ("CHUNKING", offered.chunking),
        ("DSN", offered.dsn),
        ("SMTPUTF8", offered.smtp_utf8),
    ];
    let plain = plain.into_iter().filter(|(_, offered)| *offered).map(|(keyword, _)| keyword.to_owned());
    plain.chain(size).chain(auth).collect()
}
