//! From a resolution to an outcome for every recipient.
//!
//! This page holds the plan (pure): which addresses are tried in which order under which TLS
//! policy. `message.rs` is what one server gets, `eight_bit.rs` what becomes of its
//! content at one that takes only seven bits, `dkim/` how it is signed, `session.rs` the conversation with it, `tls.rs`
//! the certificate verifier, `pool.rs` the choice among connections that are open already,
//! `families.rs` the order of IPv6 and IPv4, `routes.rs` the ways of this host, `crowd.rs` how many recipients a host bears, `egress/` who we
//! are there and where we come from, `auth.rs` the login, `hello.rs` the key exchange, `handshake.rs` the way
//! into TLS, `driver.rs` (with `connection.rs`, `conversation.rs`, `content.rs` and `parking.rs`) the connections.

mod auth;
mod body;
mod connection;
mod content;
mod conversation;
mod crowd;
pub(crate) mod dkim;
pub mod driver;
pub(crate) mod egress;
pub(crate) mod eight_bit;
pub(crate) mod families;
mod handshake;
pub(crate) mod hello;
pub(crate) mod hosts;
pub mod message;
mod parking;
mod pool;
mod routes;
mod session;
mod tls;

use crate::net::Reach;
use crate::outcome::{Cause, DeliveryOutcome, EgressFailure, Peer, Phase, TlsVerdict};
use crate::policy::{Decision, HostVerdict, TlsPolicy, Watched, WhyOpportunistic};
use crate::resolve::{HostAddresses, MxHost, Resolution};
use crate::smtp::address::Domain;
use egress::Egress;
use families::WaysOut;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Addresses tried for one host; RFC 5321 §5.1 asks for at least two.
const ADDRESSES_PER_HOST: usize = 4;
/// Addresses tried in one attempt over all hosts; the rest has its turn at the next attempt
/// only if these become unusable. Bounds the time one dead domain can take.
const ADDRESSES_PER_ATTEMPT: usize = 12;
/// Hosts and addresses of which an attempt says why they are left out. They take no time, and hide
/// none that can be tried.
const SKIPPED_PER_ATTEMPT: usize = 50;

/// One server to try.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Its name and address.
    pub peer: Peer,
    /// What must hold for the connection.
    pub policy: TlsPolicy,
    /// What is only looked at and counted.
    pub watched: Option<Watched>,
    /// Whether the server must offer REQUIRETLS (RFC 8689 §4.2.1).
    pub require_tls: bool,
    /// How the connection leaves.
    pub egress: Arc<Egress>,
}

/// A step of the plan, in the order of the MX hosts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Planned {
    /// Try this server.
    Try(Target),
    /// This host cannot be used.
    Skip {
        /// Its name.
        host: String,
        /// Why it cannot be used.
        cause: Cause,
    },
}

impl Planned {
    /// The same step, by this way out.
    #[must_use]
    pub fn leaving_by(self, egress: &Arc<Egress>) -> Self {
        match self {
            Self::Try(target) => Self::Try(Target { egress: Arc::clone(egress), ..target }),
            Self::Skip { .. } => self,
        }
    }
}

/// Whether mail may go to this host itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Loopback {
    /// The operator allows it.
    Allowed,
    /// A foreign MX record must not lead back into this host.
    Refused,
}

/// Where names and addresses may lead (RFC 5321 §7.8).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPolicy {
    /// Anywhere: the operator named the next hop.
    Anywhere,
    /// Out of this host and its networks: whoever writes MX records is a stranger.
    Outward {
        /// To this host itself.
        this_host: Loopback,
        /// Private networks that the operator opens.
        private: Vec<IpNet>,
    },
}

impl AddressPolicy {
    pub(crate) fn allows(&self, address: IpAddr) -> bool {
        let Self::Outward { this_host, private } = self else { return true };
        match Reach::of(address) {
            Reach::Public => true,
            Reach::ThisHost => *this_host == Loopback::Allowed,
            Reach::Private => private.iter().any(|network| network.contains(&address.to_canonical())),
            Reach::Link | Reach::Nowhere => false,
        }
    }

    /// Whether a host at an address of our own is ourselves, so that mail to it would come back.
    const fn knows_loops(&self) -> bool {
        matches!(self, Self::Outward { this_host: Loopback::Refused, .. })
    }
}

/// Puts the attempts for one next hop in order. `verdicts` stand beside `resolution.hosts`;
/// `own_name` is ours: a host of that name, or at an address of ours, and all that are no better are no
/// way forward. `ways` says which addresses are ours, and which of a host come first.
///
/// # Errors
/// [`Cause::MailLoop`] when we are the best host ourselves (RFC 5321 §5.1).
pub fn plan(
    resolution: &Resolution,
    verdicts: Vec<HostVerdict>,
    own_name: &Domain,
    allowed: &AddressPolicy,
    ways: &WaysOut,
) -> Result<Vec<Planned>, Cause> {
    let is_own = |address: &IpAddr| Reach::of(*address) != Reach::ThisHost && ways.own.contains(address);
    let is_us = |host: &&MxHost| match &host.addresses {
        _ if host.name == own_name.as_str() => true,
        HostAddresses::Known(addresses) => allowed.knows_loops() && addresses.iter().any(is_own),
        HostAddresses::Unavailable(_) => false,
    };
    let own_preference = resolution.hosts.iter().filter(is_us).map(|host| host.preference).min();
    let mut steps = Vec::new();
    for (host, verdict) in resolution.hosts.iter().zip(verdicts) {
        if own_preference.is_some_and(|own| host.preference >= own) {
            continue;
        }
        match (&host.addresses, verdict) {
            (HostAddresses::Unavailable(cause), _) => steps.push(skip(host, cause.clone())),
            (HostAddresses::Known(_), HostVerdict::Skip(cause)) => steps.push(skip(host, cause)),
            (HostAddresses::Known(addresses), HostVerdict::Use(decision)) => {
                let step = |address: &IpAddr| planned(&host.name, *address, resolution.port, &decision, allowed);
                steps.extend(ways.refused(addresses).map(|choice| {
                    let failure = EgressFailure::NoAddressOfFamily { family: choice.to_string() };
                    skip(host, Cause::EgressFailed { host: host.name.clone(), failure })
                }));
                steps.extend(ways.in_turn(addresses).iter().take(ADDRESSES_PER_HOST).map(step));
            }
        }
    }
    if steps.is_empty() && own_preference.is_some() {
        // An address that is ours and nobody's domain is told by our name.
        let domain = resolution.next_hop.parse().unwrap_or_else(|_| own_name.clone());
        return Err(Cause::MailLoop { domain });
    }
    let (mut tried, mut skipped) = (0, 0);
    steps.retain(|step| {
        let (count, most) = match step {
            Planned::Try(_) => (&mut tried, ADDRESSES_PER_ATTEMPT),
            Planned::Skip { .. } => (&mut skipped, SKIPPED_PER_ATTEMPT),
        };
        *count += 1;
        *count <= most
    });
    Ok(steps)
}

fn skip(host: &MxHost, cause: Cause) -> Planned {
    Planned::Skip { host: host.name.clone(), cause }
}

fn planned(host: &str, address: IpAddr, port: u16, decision: &Decision, allowed: &AddressPolicy) -> Planned {
    if !allowed.allows(address) {
        let cause = Cause::AddressForbidden { host: host.to_owned(), address };
        return Planned::Skip { host: host.to_owned(), cause };
    }
    let peer = Peer { host: host.to_owned(), address: SocketAddr::new(address, port) };
    let Decision { policy, watched, require_tls } = decision.clone();
    Planned::Try(Target { peer, policy, watched, require_tls, egress: Arc::default() })
}

/// How long each step of the conversation may take (RFC 5321 §4.5.3.2); the largest of them is
/// the reply to the end of data, because a server that is cut off there may have taken the
/// message.
#[must_use]
pub fn time_limit(phase: Phase, connect: Duration, reply: Duration) -> Duration {
    match phase {
        Phase::Connect => connect,
        Phase::Greeting
        | Phase::Ehlo
        | Phase::StartTls
        | Phase::EhloInTls
        | Phase::Auth
        | Phase::MailFrom
        | Phase::RcptTo => reply,
        Phase::Handshake => reply.min(Duration::from_secs(60)),
        Phase::Data => reply.min(Duration::from_secs(120)),
        Phase::Content => reply.min(Duration::from_secs(180)),
        Phase::EndOfData => reply.saturating_mul(2),
    }
}

/// What one connection to one server came to: the line in the log, the count in the metrics.
#[derive(Clone, Debug)]
pub struct AttemptReport {
    /// The server.
    pub peer: Peer,
    /// The policy it was held to.
    pub policy: TlsPolicy,
    /// How the connection was protected; `None` when it did not come that far.
    pub tls: Option<TlsVerdict>,
    /// Why it went in clear text where TLS would have been welcome.
    pub tls_failure: Option<Cause>,
    /// The key exchange of TLS, by the name of its group.
    pub group: Option<&'static str>,
    /// What the watched policy says to what was seen; `None` when nothing was watched, or the
    /// conversation did not come far enough to tell.
    pub watched: Option<WatchReport>,
    /// What became of the recipients that were offered, by index in the envelope.
    pub outcomes: Vec<(usize, DeliveryOutcome)>,
    /// Recipients for a further transaction at the same server, by index in the envelope. There
    /// are none where no recipient has an outcome.
    pub left: Vec<usize>,
    /// Which message of its connection this was, from 1: above it the connection was reused.
    pub nth_on_connection: u32,
    /// The signatures that the content has for this server.
    pub signatures: Option<Arc<dkim::Signatures>>,
    /// How long it took.
    pub took: Duration,
}

/// What a policy that is only watched would have done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WatchReport {
    /// Why it is only watched.
    pub because: WhyOpportunistic,
    /// Why it would have refused the server; `None` when it would not have.
    pub failure: Option<Cause>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::envelope::TlsRequest;
    use crate::policy::decide::{Facts, decide};
    use crate::policy::exceptions::LocalRule;
    use crate::policy::sts::{StsAbsent, StsState};
    use crate::resolve::{AbsentBecause, HostsFrom, Security, TlsaLookup};

    #[test]
    fn rfc5321_4_5_3_2_every_phase_waits_at_least_as_long_as_a_server_may_take() {
        let delivery = crate::config::Config::default().delivery;
        let waits = |phase, minutes: u64| {
            let limit = time_limit(phase, delivery.connect_timeout, delivery.reply_timeout);
            assert_eq!(limit, Duration::from_secs(minutes * 60), "{phase:?}");
        };
        // The greeting, MAIL, RCPT: 5 minutes; the rest of the dialogue has no number of its own.
        for phase in [Phase::Greeting, Phase::Ehlo, Phase::StartTls, Phase::EhloInTls, Phase::MailFrom, Phase::RcptTo] {
            waits(phase, 5);
        }
        waits(Phase::Data, 2);
        waits(Phase::Content, 3);
        // Whoever gives up too early here makes duplicates.
        waits(Phase::EndOfData, 10);
    }

    #[test]
    fn a_shorter_reply_timeout_shortens_every_phase_but_not_the_way_to_the_server() {
        let (connect, reply) = (Duration::from_secs(7), Duration::from_secs(10));
        let limit = |phase| time_limit(phase, connect, reply).as_secs();
        assert_eq!(limit(Phase::Connect), 7);
        for phase in [Phase::Greeting, Phase::Handshake, Phase::Data, Phase::Content] {
            assert_eq!(limit(phase), 10, "{phase:?}");
        }
        assert_eq!(limit(Phase::EndOfData), 20);
    }

    fn host(name: &str, preference: u16, addresses: &[&str]) -> MxHost {
        MxHost {
            name: name.into(),
            preference,
            addresses: HostAddresses::Known(addresses.iter().map(|a| a.parse().unwrap()).collect()),
            security: Security::Secure,
            tlsa: TlsaLookup::Absent(AbsentBecause::ProvenAbsent),
        }
    }

    fn resolution(hosts: Vec<MxHost>) -> Resolution {
        Resolution {
            next_hop: "example.org".into(),
            port: 25,
            hosts_from: HostsFrom::Mx,
            mx_security: Security::Secure,
            references: Vec::new(),
            hosts,
            traces: Vec::new(),
        }
    }

    fn plan_of(hosts: Vec<MxHost>, this_host: Loopback) -> Result<Vec<String>, Cause> {
        plan_with(hosts, &AddressPolicy::Outward { this_host, private: Vec::new() }, &WaysOut::default())
    }

    fn plan_with(hosts: Vec<MxHost>, allowed: &AddressPolicy, ways: &WaysOut) -> Result<Vec<String>, Cause> {
        let resolution = resolution(hosts);
        let facts = Facts {
            resolution: &resolution,
            sts: &StsState::Absent(StsAbsent::NoRecord),
            rule: &LocalRule::default(),
            request: TlsRequest::ByPolicy,
            dane_behind_insecure_mx: true,
        };
        let verdicts = resolution.hosts.iter().map(|h| decide(&facts, h)).collect();
        let own = "relay.example.net".parse().unwrap();
        let steps = plan(&resolution, verdicts, &own, allowed, ways)?;
        Ok(steps
            .into_iter()
            .map(|step| match step {
                Planned::Try(target) => target.peer.address.ip().to_string(),
                Planned::Skip { cause, .. } => cause.row().word.to_owned(),
            })
            .collect())
    }

    #[test]
    fn rfc5321_5_1_our_own_name_and_worse_hosts_are_no_way_forward() {
        let hosts = || vec![host("a.example", 10, &["192.0.2.1"]), host("relay.example.net", 20, &["192.0.2.2"])];
        assert_eq!(plan_of(hosts(), Loopback::Refused).unwrap(), ["192.0.2.1"]);
        let mut reversed = hosts();
        reversed[0].preference = 20;
        let looping = Cause::MailLoop { domain: "example.org".parse().unwrap() };
        assert_eq!(plan_of(reversed, Loopback::Refused).unwrap_err(), looping, "it names the recipient's domain");
    }

    #[test]
    fn rfc5321_5_1_a_host_with_many_ipv6_addresses_is_tried_over_ipv4_too() {
        let six = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8::4", "192.0.2.1", "192.0.2.2"];
        let tried = plan_of(vec![host("a.example", 10, &six)], Loopback::Refused).unwrap();
        assert_eq!(tried, ["2001:db8::1", "192.0.2.1", "2001:db8::2", "192.0.2.2"]);
    }

    #[test]
    fn loopback_is_refused_unless_allowed() {
        let hosts = || vec![host("a.example", 10, &["127.0.0.1", "192.0.2.1"])];
        assert_eq!(plan_of(hosts(), Loopback::Refused).unwrap(), ["address-forbidden", "192.0.2.1"]);
        assert_eq!(plan_of(hosts(), Loopback::Allowed).unwrap(), ["127.0.0.1", "192.0.2.1"]);
        let spellings = vec![host("a.example", 10, &["::ffff:127.0.0.1", "::1", "::ffff:0.0.0.0", "::"])];
        assert_eq!(plan_of(spellings, Loopback::Refused).unwrap(), ["address-forbidden"; 4]);
    }

    #[test]
    fn rfc5321_5_1_a_host_at_an_address_of_ours_is_a_loop_at_the_first_look() {
        let ways = WaysOut { own: ["198.51.100.7".parse().unwrap()].into(), ..WaysOut::default() };
        let closed = AddressPolicy::Outward { this_host: Loopback::Refused, private: Vec::new() };
        let open = AddressPolicy::Outward { this_host: Loopback::Allowed, private: Vec::new() };
        let us = || host("mx.other.example", 10, &["192.0.2.9", "198.51.100.7"]);
        let looping = Cause::MailLoop { domain: "example.org".parse().unwrap() };
        let worse = || host("b.example", 20, &["192.0.2.1"]);
        assert_eq!(plan_with(vec![us(), worse()], &closed, &ways).unwrap_err(), looping, "nor does a worse one help");
        let better = || host("a.example", 5, &["192.0.2.2"]);
        assert_eq!(plan_with(vec![better(), us()], &closed, &ways).unwrap(), ["192.0.2.2"]);
        assert_eq!(plan_with(vec![us()], &open, &ways).unwrap(), ["192.0.2.9", "198.51.100.7"]);
        assert_eq!(plan_with(vec![us()], &AddressPolicy::Anywhere, &ways).unwrap(), ["192.0.2.9", "198.51.100.7"]);
    }

    #[test]
    fn rfc5321_7_8_foreign_records_lead_into_no_network_of_ours_unless_it_is_opened() {
        let addresses = ["10.1.2.3", "169.254.169.254", "fd00:ec2::254", "224.0.0.1", "192.168.0.1", "100.64.0.1"];
        let at = |address: &&str| host("a.example", 10, &[address]);
        let closed = AddressPolicy::Outward { this_host: Loopback::Allowed, private: Vec::new() };
        let networks = ["10.0.0.0/8", "169.254.0.0/16", "fd00::/8"].map(|network| network.parse().unwrap());
        let opened = AddressPolicy::Outward { this_host: Loopback::Refused, private: networks.into() };
        for (n, address) in addresses.iter().enumerate() {
            let plan = |allowed| plan_with(vec![at(address)], allowed, &WaysOut::default()).unwrap();
            assert_eq!(plan(&closed), ["address-forbidden"]);
            assert_eq!(plan(&opened) == ["address-forbidden"], n != 0, "{address}: metadata is never opened");
            assert_eq!(plan(&AddressPolicy::Anywhere), [*address], "the operator's next hop is his");
        }
    }

    #[test]
    fn rfc5321_5_1_hosts_that_are_left_out_hide_none_that_can_be_tried() {
        let mut hosts: Vec<MxHost> = (0..60).map(|n| host(&format!("a{n}.example"), 10, &["10.0.0.1"])).collect();
        hosts.push(host("b.example", 20, &["192.0.2.1"]));
        let steps = plan_of(hosts, Loopback::Refused).unwrap();
        assert_eq!((steps.len(), steps.last().map(String::as_str)), (SKIPPED_PER_ATTEMPT + 1, Some("192.0.2.1")));
    }

    #[test]
    fn rfc7672_2_1_2_a_failed_tlsa_look_up_skips_the_host() {
        let cause = Cause::DnsUnavailable {
            question: crate::outcome::Question { name: "_25._tcp.a.example".into(), record_type: "TLSA".into() },
            tried: Vec::new(),
        };
        let mut first = host("a.example", 10, &["192.0.2.1"]);
        first.tlsa = TlsaLookup::Unavailable(cause);
        let steps = plan_of(vec![first, host("b.example", 20, &["192.0.2.2"])], Loopback::Refused);
        assert_eq!(steps.unwrap(), ["dns-unavailable", "192.0.2.2"]);
    }
}
