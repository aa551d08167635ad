//! What holds for every session: limits, offers, and who may write to whom (RFC 5321 §3.3, §7.9).
//!
//! What is known to fail without a question to the DNS is refused at once: the client can then
//! tell its user better than a report of ours could.

use crate::config::Config;
use crate::smtp::address::{Domain, Host, Mailbox};
use std::net::IpAddr;

/// What the operator chose, as far as sessions have to know.
#[derive(Clone, Debug)]
pub struct Rules {
    /// Our name.
    pub hostname: Domain,
    /// Who gets mail for `<postmaster>`.
    pub postmaster: Option<Mailbox>,
    /// The largest message, in octets.
    pub max_message_bytes: u64,
    /// The most recipients of a message.
    pub max_recipients: usize,
    /// Whether a recipient may be at an address of this host.
    pub loopback: Loopback,
    /// Whether we have a certificate to offer STARTTLS with.
    pub tls: TlsOffer,
    /// Whether DSN stands in the answer to EHLO (RFC 3461 §3).
    pub dsn: Offer,
    /// Whether SMTPUTF8 stands there (RFC 6531 §3.1).
    pub smtp_utf8: Offer,
}

/// Whether an extension is offered. The parameters of one that is not are unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is.
    Yes,
    /// It is not.
    No,
}

/// Whether the listener has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsOffer {
    /// STARTTLS can be offered.
    Available,
    /// It cannot.
    Unavailable,
}

/// What `[delivery] allow_loopback` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// Mail may go to addresses of this host.
    Allowed,
    /// It may not.
    Refused,
}

impl Rules {
    /// From the configuration.
    #[must_use]
    pub fn new(config: &Config, tls: TlsOffer) -> Self {
        let listen = &config.listen;
        Self {
            hostname: config.hostname.clone(),
            postmaster: config.postmaster.clone(),
            max_message_bytes: listen.max_message_bytes,
            max_recipients: listen.max_recipients,
            loopback: if config.delivery.allow_loopback { Loopback::Allowed } else { Loopback::Refused },
            tls,
            dsn: Offer::No,
            smtp_utf8: Offer::No,
        }
    }

    /// Whether mail to that host can go out at all. Of an address literal that is known before
    /// any attempt (RFC 5321 §4.1.3): nothing is sent to this host itself or to no host.
    #[must_use]
    pub fn may_go_to(&self, host: &Host) -> bool {
        let Host::Literal(address) = host else { return true };
        let plain = address.to_canonical();
        let is_some_host = !plain.is_multicast() && plain != IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        let inward = plain.is_loopback() || plain.is_unspecified();
        is_some_host && (!inward || self.loopback == Loopback::Allowed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5321_4_1_3_a_literal_of_this_host_or_of_none_is_refused_before_any_attempt() {
        let mut config = Config::default();
        let mut rules = Rules::new(&config, TlsOffer::Available);
        let may = |rules: &Rules, host: &str| rules.may_go_to(&host.parse().unwrap());
        for host in ["d.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"] {
            assert!(may(&rules, host), "{host}");
        }
        let inward = ["[127.0.0.1]", "[127.9.9.9]", "[0.0.0.0]", "[IPv6:::1]", "[IPv6:::]", "[IPv6:::ffff:127.0.0.1]"];
        let nobody = ["[255.255.255.255]", "[224.0.0.1]", "[IPv6:ff02::1]"];
        for host in inward.iter().chain(&nobody) {
            assert!(!may(&rules, host), "{host}");
        }
        config.delivery.allow_loopback = true;
        rules = Rules::new(&config, TlsOffer::Available);
        assert!(inward.iter().all(|host| may(&rules, host)) && !nobody.iter().any(|host| may(&rules, host)));
    }

    #[test]
    fn what_exchange_needs_is_the_default() {
        let listen = Config::default().listen;
        assert!(listen.max_message_bytes >= 36_700_160, "its largest message by default");
        assert!(listen.max_recipients >= 100, "RFC 5321 §4.5.3.1.8");
        assert!(listen.idle_timeout.as_secs() >= 300, "RFC 5321 §4.5.3.2.7");
        assert!(listen.max_sessions >= 20, "its connections to one smart host");
    }
}
