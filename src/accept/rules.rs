//! What holds for every session: limits, offers, and who may write to whom (RFC 5321 §3.3, §7.9).
//!
//! What is known to fail without a question to the DNS is refused at once: the client can then
//! tell its user better than a report of ours could.

use super::intake::MessageLimits;
use crate::config::users::User;
use crate::config::{ClientTls, Config, Destination, DomainPattern, ListenerConfig, NextHopAddress, closest};
use crate::smtp::address::{Domain, Host, Mailbox, ReversePath};
use std::net::IpAddr;

/// What the operator chose, as far as sessions have to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Rules {
    /// Our name.
    pub hostname: Domain,
    /// Who gets mail for `<postmaster>`.
    pub postmaster: Option<Mailbox>,
    /// The largest message, in octets.
    pub max_message_bytes: u64,
    /// The most Received fields of a message; more is a mail loop (RFC 5321 §6.3).
    pub max_received: u32,
    /// The domains that senders must be of; any when there is none.
    pub sender_domains: Vec<Domain>,
    /// Whether our Received line names the client.
    pub client_in_trace: ClientInTrace,
    /// The most recipients of a message.
    pub max_recipients: usize,
    /// The most commands of a session.
    pub max_commands: u32,
    /// Which recipients at address literals are taken.
    pub literals: Literals,
    /// Whether a recipient may be at an address of this host.
    pub loopback: LiteralLoopback,
    /// Whether we have a certificate to offer STARTTLS with.
    pub tls: TlsOffer,
    /// What is served without TLS.
    pub in_clear: InClear,
    /// Whether users may log in within TLS (RFC 4954).
    pub auth: Offer,
    /// Whether REQUIRETLS stands in the answer to EHLO within TLS (RFC 8689 §2).
    pub require_tls: Offer,
    /// Whom a user may be in MAIL.
    pub senders: SendersOfUser,
    /// Whom mail may go to; anybody when there is none.
    pub recipients: Vec<DomainPattern>,
    /// Which ways it may go; any when there is none.
    pub ways: Option<Ways>,
    /// Whether DSN stands in the answer to EHLO (RFC 3461 §3).
    pub dsn: Offer,
    /// Whether SMTPUTF8 stands there (RFC 6531 §3.1).
    pub smtp_utf8: Offer,
}

/// Whether an extension is offered. The parameters of one that is not are unknown ones.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Offer {
    /// The extension is offered.
    Yes,
    /// The extension is not offered.
    No,
}

/// Whether the listener has a certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum TlsOffer {
    /// STARTTLS can be offered.
    Available,
    /// There is no certificate that can be used, so STARTTLS is not offered, for now.
    Unavailable,
    /// The operator wants none.
    Off,
}

/// What is served without TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum InClear {
    /// Mail.
    Mail,
    /// Nothing but the way into TLS (RFC 3207 §4).
    Nothing,
}

/// What `senders_of_user` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum SendersOfUser {
    /// A user may write in any name that the listener takes.
    Any,
    /// Only in the user's own.
    Own,
}

/// The next hops that mail may go to, and where it would go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Ways {
    allowed: Vec<NextHopAddress>,
    destinations: Vec<Destination>,
}

/// What `[delivery] allow_loopback` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LiteralLoopback {
    /// Mail may go to addresses of this host.
    Allowed,
    /// Literals that lead to this host are refused.
    Refused,
}

/// Which recipients at address literals are taken (RFC 5321 §4.1.3).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Literals {
    /// All: `[listen] address_literals`.
    All,
    /// Those that a destination names; one for `*` names none.
    Named(Vec<DomainPattern>),
}

/// Why no mail goes to a recipient's host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoWay {
    /// It is an address literal, and the operator has not opened those.
    Literal,
    /// It is this host itself, or no host.
    Inward,
    /// This listener is not for mail to there.
    Elsewhere,
}

/// What `[listen] hide_client` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ClientInTrace {
    /// Its name and its address stand in our Received line.
    Shown,
    /// Neither does (RFC 5321 §7.6).
    Hidden,
}

impl Rules {
    /// Those of one listener; `tls` is whether it has a certificate, `auth` whether it has users.
    #[must_use]
    pub(super) fn new(config: &Config, listener: &ListenerConfig, tls: TlsOffer, auth: Offer) -> Self {
        let (listen, offered) = (&config.listen, |wanted| if wanted { Offer::Yes } else { Offer::No });
        Self {
            hostname: config.hostname.clone(),
            postmaster: config.postmaster.clone(),
            max_message_bytes: listener.max_message_bytes.unwrap_or(listen.max_message_bytes),
            max_received: listen.max_received,
            sender_domains: listener.sender_domains.clone().unwrap_or_default(),
            client_in_trace: if listen.hide_client { ClientInTrace::Hidden } else { ClientInTrace::Shown },
            max_recipients: listen.max_recipients,
            max_commands: listen.max_commands,
            literals: Literals::new(config),
            loopback: if config.delivery.allow_loopback { LiteralLoopback::Allowed } else { LiteralLoopback::Refused },
            tls,
            in_clear: match listener.tls {
                ClientTls::Starttls | ClientTls::Off => InClear::Mail,
                ClientTls::Required | ClientTls::Implicit => InClear::Nothing,
            },
            auth,
            require_tls: offered(listener.requiretls),
            senders: if listener.senders_of_user { SendersOfUser::Own } else { SendersOfUser::Any },
            recipients: listener.recipients.clone(),
            ways: Ways::new(config, listener),
            dsn: offered(listener.dsn),
            smtp_utf8: Offer::Yes,
        }
    }

    /// Those of `[listen]`.
    #[cfg(test)]
    #[must_use]
    pub(super) fn of_listen(config: &Config, tls: TlsOffer) -> Self {
        Self::new(config, &config.listeners()[0], tls, Offer::No)
    }

    /// What the content has to keep.
    #[must_use]
    pub(super) fn content_limits(&self) -> MessageLimits {
        MessageLimits { octets: self.max_message_bytes, received: self.max_received }
    }

    /// Whether a sender may be one of ours. A client gone wild could otherwise make us send
    /// reports to strangers. Reports themselves have no sender and always may.
    #[must_use]
    pub(super) fn may_come_from(&self, sender: &ReversePath) -> bool {
        match sender {
            ReversePath::Null => true,
            ReversePath::Mailbox(mailbox) => match mailbox.host() {
                Host::Domain(domain) => self.sender_domains.is_empty() || self.sender_domains.contains(domain),
                Host::Literal(_) => self.sender_domains.is_empty(),
            },
        }
    }

    /// Whether a user may write in that name. Whoever is no user is not asked here.
    #[must_use]
    pub(super) fn may_be_written_by(&self, user: Option<&User>, sender: &ReversePath) -> bool {
        match (self.senders, user) {
            (SendersOfUser::Any, _) | (SendersOfUser::Own, None) => true,
            (SendersOfUser::Own, Some(user)) => user.owns(sender),
        }
    }

    /// Whether mail of that sender to that host may go out by this listener, and at all.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_go(&self, sender: &ReversePath, host: &Host) -> Result<(), NoWay> {
        let is_meant = |pattern: &DomainPattern| pattern.fit(host).is_some();
        let named = self.recipients.is_empty() || self.recipients.iter().any(is_meant);
        let by_a_way = self.ways.as_ref().is_none_or(|ways| ways.lead_to(sender, host));
        if named && by_a_way { self.may_go_to(host) } else { Err(NoWay::Elsewhere) }
    }

    /// Whether mail to that host can go out at all. Of an address literal that is known before
    /// any attempt (RFC 5321 §4.1.3): without leave of the operator nothing is sent, and never to
    /// this host itself or to no host.
    ///
    /// # Errors
    /// Why not.
    pub(super) fn may_go_to(&self, host: &Host) -> Result<(), NoWay> {
        let Host::Literal(address) = host else { return Ok(()) };
        let plain = address.to_canonical();
        let is_some_host = !plain.is_multicast() && plain != IpAddr::V4(std::net::Ipv4Addr::BROADCAST);
        let inward = plain.is_loopback() || plain.is_unspecified();
        if !self.literals.open(host) {
            return Err(NoWay::Literal);
        }
        if !is_some_host || (inward && self.loopback == LiteralLoopback::Refused) { Err(NoWay::Inward) } else { Ok(()) }
    }
}

impl Ways {
    fn new(config: &Config, listener: &ListenerConfig) -> Option<Self> {
        let allowed = listener.next_hops.clone();
        (!allowed.is_empty()).then(|| Self { allowed, destinations: config.destination.clone() })
    }

    /// All next hops of the destination must be allowed: whichever of them takes the mail.
    fn lead_to(&self, sender: &ReversePath, host: &Host) -> bool {
        let destination = closest(host, Some(sender), &self.destinations).and_then(|at| self.destinations.get(at));
        let hops = destination.and_then(|destination| destination.next_hop.as_ref());
        hops.is_some_and(|hops| hops.iter().all(|hop| self.allowed.contains(&hop.address)))
    }
}

impl Literals {
    fn new(config: &Config) -> Self {
        if config.listen.address_literals {
            return Self::All;
        }
        let patterns = config.destination.iter().flat_map(|destination| &destination.domains);
        Self::Named(patterns.filter(|pattern| matches!(pattern, DomainPattern::Literals(_))).cloned().collect())
    }

    fn open(&self, host: &Host) -> bool {
        match self {
            Self::All => true,
            Self::Named(patterns) => patterns.iter().any(|pattern| pattern.fit(host).is_some()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5321_4_1_3_a_literal_of_this_host_or_of_none_is_refused_before_any_attempt() {
        let mut config = Config::default();
        config.listen.address_literals = true;
        let mut rules = Rules::of_listen(&config, TlsOffer::Available);
        let may = |rules: &Rules, host: &str| rules.may_go_to(&host.parse().unwrap()).is_ok();
        for host in ["d.example", "[192.0.2.1]", "[IPv6:2001:db8::1]"] {
            assert!(may(&rules, host), "{host}");
        }
        let inward = ["[127.0.0.1]", "[127.9.9.9]", "[0.0.0.0]", "[IPv6:::1]", "[IPv6:::]", "[IPv6:::ffff:127.0.0.1]"];
        let nobody = ["[255.255.255.255]", "[224.0.0.1]", "[IPv6:ff02::1]"];
        for host in inward.iter().chain(&nobody) {
            assert!(!may(&rules, host), "{host}");
        }
        config.delivery.allow_loopback = true;
        rules = Rules::of_listen(&config, TlsOffer::Available);
        assert!(inward.iter().all(|host| may(&rules, host)) && !nobody.iter().any(|host| may(&rules, host)));
    }

    #[test]
    fn rfc5321_4_1_3_literals_are_closed_until_the_operator_opens_or_names_them() {
        let mut config = Config::default();
        let may = |config: &Config, host: &str| {
            Rules::of_listen(config, TlsOffer::Available).may_go_to(&host.parse().unwrap())
        };
        let literals = ["[192.0.2.1]", "[IPv6:::ffff:192.0.2.1]", "[198.51.100.7]", "[IPv6:2001:db8::1]"];
        let answers = |config: &Config| literals.map(|host| may(config, host).is_ok());
        assert_eq!(answers(&config), [false; 4]);
        assert_eq!(may(&config, literals[0]), Err(NoWay::Literal));
        assert_eq!(may(&config, "d.example"), Ok(()));
        let destination = |domains: &str| {
            let text = format!("[[destination]]\ndomains = {domains}\ntls = \"encrypt\"");
            Config::parse(&text, std::path::Path::new("t")).unwrap()
        };
        assert_eq!(answers(&destination("[\"*\"]")), [false; 4], "a rule for all opens none");
        assert_eq!(answers(&destination("[\"[192.0.2.0/24]\"]")), [true, true, false, false]);
        assert_eq!(answers(&destination("[\"*\", \"[2001:db8::1]\"]")), [false, false, false, true]);
        config.listen.address_literals = true;
        assert_eq!(answers(&config), [true; 4]);
        assert_eq!(may(&destination("[\"[127.0.0.1]\"]"), "[127.0.0.1]"), Err(NoWay::Inward));
    }

    #[test]
    fn rfc5321_6_2_only_senders_of_named_domains_may_when_there_are_any() {
        let mut config = Config::default();
        let may = |config: &Config, sender: &str| {
            let sender = crate::smtp::address::parse_reverse_path(sender).unwrap();
            Rules::of_listen(config, TlsOffer::Available).may_come_from(&sender)
        };
        let senders = ["<>", "<a@Corp.Example>", "<a@sub.corp.example>", "<a@evil.example>", "<a@[192.0.2.1]>"];
        assert_eq!(senders.map(|sender| may(&config, sender)), [true; 5]);
        config.listen.sender_domains = vec!["corp.example".parse().unwrap()];
        assert_eq!(senders.map(|sender| may(&config, sender)), [true, true, false, false, false]);
    }

    #[test]
    fn what_the_operator_chose_holds_for_sessions() {
        let mut config = Config::default();
        let shown = Rules::of_listen(&config, TlsOffer::Available);
        assert_eq!((shown.client_in_trace, shown.content_limits().received), (ClientInTrace::Shown, 100));
        config.listen.hide_client = true;
        (config.listen.max_received, config.listen.max_recipients) = (30, 7);
        config.listen.max_message_bytes = 99;
        let rules = Rules::of_listen(&config, TlsOffer::Available);
        assert_eq!(rules.client_in_trace, ClientInTrace::Hidden);
        assert_eq!((rules.content_limits().received, rules.max_recipients), (30, 7));
        assert_eq!((rules.content_limits().octets, rules.max_message_bytes), (99, 99));
    }

    #[test]
    fn what_exchange_needs_is_the_default() {
        let listen = Config::default().listen;
        assert!(listen.max_message_bytes >= 36_700_160, "its largest message by default");
        assert!(listen.max_recipients >= 100, "RFC 5321 §4.5.3.1.8");
        assert!(listen.idle_timeout.as_secs() >= 300, "RFC 5321 §4.5.3.2.7");
        assert!(listen.max_sessions >= 20, "its connections to one smart host");
        assert!(listen.max_received >= 100, "RFC 5321 §6.3");
        assert!(listen.max_commands >= 20 * (2 + 1000), "20 messages of 1000 recipients over one connection");
        assert!(listen.max_new_connections >= 60 * 50, "1000 messages a second, 20 over each");
    }

    #[test]
    fn a_listener_may_be_for_certain_recipients_and_ways_alone() {
        let text = "[[listener]]\nname = \"in\"\naddresses = [\"127.0.0.1:1\"]\nclients = [\"::1\"]\n\
                    recipients = [\"a.example\", \"*.a.example\", \"b.example\"]\n\
                    next_hops = [\"one.example:25\", \"two.example\"]\n\
                    [[destination]]\ndomains = [\"a.example\", \"c.example\"]\nnext_hop = [\"two.example\", \"one.example:25\"]\n\
                    [[destination]]\ndomains = [\"*.a.example\"]\nnext_hop = [\"one.example:25\", \"one.example\"]\n";
        let config = Config::parse(text, std::path::Path::new("t")).unwrap();
        let rules = Rules::new(&config, &config.listeners()[1], TlsOffer::Available, Offer::No);
        let may = |host: &str| rules.may_go(&ReversePath::Null, &host.parse().unwrap());
        assert_eq!(may("a.example"), Ok(()));
        for (host, why) in [
            ("sub.a.example", "one of its next hops is none of these"),
            ("b.example", "it goes to its MX hosts"),
            ("c.example", "it is no recipient"),
        ] {
            assert_eq!(may(host), Err(NoWay::Elsewhere), "{host}: {why}");
        }
        let open = Rules::of_listen(&config, TlsOffer::Available);
        assert_eq!(open.may_go(&ReversePath::Null, &"c.example".parse().unwrap()), Ok(()));
    }
}
