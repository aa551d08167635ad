//! The next hop that the operator names: where it is, this machine says; what it must prove, the
//! signed DNS says.
//!
//! The name is the operator's, so it is found as this machine finds it: by `/etc/hosts`, then by the
//! servers of the system, or those of a private zone. Beside that, the validated look-up is made
//! for every name that the world can have, and its word on TLSA records holds wherever the
//! addresses come from: nobody on the way to an unsigned resolver can take DANE away (RFC 7672 §2).
//!
//! | the name | addresses | TLSA records |
//! |---|---|---|
//! | private zone, special-use name, a single label | the hosts file, else its own servers | none can be |
//! | in the hosts file | the file's | as validated |
//! | signed, with TLSA records | the signed ones, else the system's | as validated |
//! | signed, without TLSA records | the signed ones, unless the system knows the name inside private networks only: then that view is what the operator means | none, proven |
//! | unsigned, or proven not to be there | the system's, else the validated look-up's | none, proven |
//! | the validated look-up fails | the system's | unknown: the host is not used |
//!
//! What cannot be found is [`Cause::NextHopUnknown`]: ours, and temporary.

use super::answer::{Answer, RecordType};
use super::driver::Dns;
use super::mail::{Asker, combine, of_named_host, resolve_host, tlsa};
use super::own::Way;
use super::{AbsentBecause, HostAddresses, MxHost, Resolution, Security, TlsaLookup};
use crate::config::{Config, Destination, NextHopAddress, NextHops};
use crate::outcome::{Cause, PathFailure};
use crate::smtp::address::Domain;
use crate::smtp::special_use::SpecialUse;
use futures_util::future::join_all;
use hickory_proto::rr::{Name, RecordType as WireType};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;
use tokio::time::timeout;

/// How long all of the operator's names are looked for when somebody only wants to know.
const PATIENCE: Duration = Duration::from_secs(10);
/// Next hops that are looked for then.
const NEXT_HOPS_LIMIT: usize = 200;

/// Looks up a next hop that the operator named: its addresses and TLSA records, no MX.
///
/// # Errors
/// [`Cause::NextHopUnknown`] when nobody knows where it is.
pub(crate) async fn resolve_next_hop(dns: &Dns, name: &Domain, port: u16) -> Result<Resolution, Cause> {
    let asker = Asker::new(dns);
    let host = choose(name, Box::pin(views(&asker, name, port)).await)?;
    Ok(of_named_host(name, port, host, asker.traces()))
}

/// What each of those who may know a name says.
struct Views {
    /// The hosts file.
    pinned: Vec<IpAddr>,
    /// The operator's own servers; none when they say that there is no such host.
    inside: Result<Vec<IpAddr>, Vec<PathFailure>>,
    /// The validated look-up; none for a name that only the operator's own servers can have.
    public: Option<MxHost>,
}

/// Who can know a name.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    /// The world, and the system.
    Everybodys,
    /// The system alone.
    Systems,
    /// The servers of a private zone.
    Zones,
    /// This machine is meant.
    ThisHost,
    /// No DNS.
    Nobodys,
}

fn whose(dns: &Dns, name: &Domain) -> Whose {
    match SpecialUse::of_domain(name) {
        _ if dns.own.is_in_private_zone(name.as_str()) => Whose::Zones,
        Some(SpecialUse::ThisHost) => Whose::ThisHost,
        Some(SpecialUse::Private) => Whose::Systems,
        Some(SpecialUse::NoDns) => Whose::Nobodys,
        None if name.as_str().contains('.') => Whose::Everybodys,
        None => Whose::Systems,
    }
}

async fn views(asker: &Asker<'_>, name: &Domain, port: u16) -> Views {
    let pinned = match Name::from_ascii(format!("{name}.")) {
        Ok(wire_name) => asker.dns.own.pinned(&wire_name).await,
        Err(_) => Vec::new(),
    };
    let nobody = || Ok(Vec::new());
    match whose(asker.dns, name) {
        Whose::Everybodys => {
            let (inside, public) =
                tokio::join!(inside(asker, Way::System, name.as_str()), Box::pin(public(asker, name, port)));
            Views { pinned, inside, public: Some(public) }
        }
        _ if !pinned.is_empty() => Views { pinned, inside: nobody(), public: None },
        Whose::Systems => Views { pinned, inside: searched(asker, name).await, public: None },
        Whose::Zones => Views { pinned, inside: inside(asker, Way::Configured, name.as_str()).await, public: None },
        Whose::ThisHost => {
            let both = vec![Ipv6Addr::LOCALHOST.into(), Ipv4Addr::LOCALHOST.into()];
            Views { pinned, inside: Ok(both), public: None }
        }
        Whose::Nobodys => Views { pinned, inside: nobody(), public: None },
    }
}

/// The host as the validated look-up has it. Where it provably has no address there may still be
/// TLSA records, for an address that only the inside knows.
async fn public(asker: &Asker<'_>, name: &Domain, port: u16) -> MxHost {
    let mut host = resolve_host(asker, name, 0, port).await;
    if host.addresses == HostAddresses::Known(Vec::new()) && host.security == Security::Secure {
        host.tlsa = tlsa(asker, name, port).await;
    }
    host
}

/// A name of one label is tried with each domain of the search list first, as the system does it.
async fn searched(asker: &Asker<'_>, name: &Domain) -> Result<Vec<IpAddr>, Vec<PathFailure>> {
    if !name.as_str().contains('.') {
        for domain in &asker.dns.own.search {
            let longer = format!("{name}.{}", domain.to_ascii().trim_end_matches('.'));
            let found = inside(asker, Way::System, &longer).await;
            if found.as_ref().is_ok_and(|addresses| !addresses.is_empty()) {
                return found;
            }
        }
    }
    inside(asker, Way::System, name.as_str()).await
}

async fn inside(asker: &Asker<'_>, way: Way, name: &str) -> Result<Vec<IpAddr>, Vec<PathFailure>> {
    let (v6, v4) =
        tokio::join!(asker.lookup_by(way, name, RecordType::Aaaa), asker.lookup_by(way, name, RecordType::A));
    let failed = [&v6, &v4].into_iter().find_map(|answer| match answer {
        Answer::Failed(Cause::DnsUnavailable { tried, .. }) => Some(tried.clone()),
        Answer::Failed(_) | Answer::Found(_) | Answer::NoData(_) | Answer::NxDomain(_) => None,
    });
    match combine(v6, v4).addresses {
        HostAddresses::Known(addresses) => Ok(addresses),
        HostAddresses::Unavailable(_) => Err(failed.unwrap_or_default()),
    }
}

/// Puts the views together, by the table above.
fn choose(name: &Domain, views: Views) -> Result<MxHost, Cause> {
    let none: &[IpAddr] = &[];
    let inside = views.inside.as_deref().unwrap_or(none);
    let (security, tlsa, proven) = match &views.public {
        None => (Security::Insecure, TlsaLookup::Absent(AbsentBecause::PrivateName), none),
        Some(public) => (public.security, demand(name, public), addresses_of(public)),
    };
    let can_demand = match &tlsa {
        TlsaLookup::Present { .. } | TlsaLookup::Unavailable(_) => true,
        TlsaLookup::Absent(_) => false,
    };
    let signed_first = can_demand || (security == Security::Secure && !is_internal_view(inside));
    let in_turn = if signed_first { [&views.pinned, proven, inside] } else { [&views.pinned, inside, proven] };
    match (in_turn.into_iter().find(|addresses| !addresses.is_empty()), tlsa) {
        (Some(addresses), tlsa) => Ok(MxHost {
            name: name.to_string(),
            preference: 0,
            addresses: HostAddresses::Known(addresses.to_vec()),
            security,
            tlsa,
        }),
        (None, TlsaLookup::Unavailable(cause)) => Err(cause),
        (None, TlsaLookup::Absent(_) | TlsaLookup::Present { .. }) => Err(unknown(name, &views)),
    }
}

fn addresses_of(host: &MxHost) -> &[IpAddr] {
    match &host.addresses {
        HostAddresses::Known(addresses) => addresses,
        HostAddresses::Unavailable(_) => &[],
    }
}

/// What the validated look-up says of TLSA records. Where it fails nobody knows, and that is no
/// fault of any recipient.
fn demand(name: &Domain, public: &MxHost) -> TlsaLookup {
    let cause = match (&public.addresses, &public.tlsa) {
        (HostAddresses::Unavailable(cause), _) | (HostAddresses::Known(_), TlsaLookup::Unavailable(cause)) => cause,
        (HostAddresses::Known(_), known @ (TlsaLookup::Absent(_) | TlsaLookup::Present { .. })) => {
            return known.clone();
        }
    };
    TlsaLookup::Unavailable(ours(name, cause))
}

/// A failure of the validated look-up, told of the name that the operator gave.
#[expect(
    clippy::wildcard_enum_match_arm,
    reason = "look-ups fail with the two causes named, and others stay as they are"
)]
fn ours(name: &Domain, cause: &Cause) -> Cause {
    match cause {
        Cause::DnsBogus { question, detail } => Cause::NextHopUnknown {
            name: name.clone(),
            detail: format!("the answers to \"{question}\" should be signed and are not, or wrongly: {detail}"),
            question: Some(question.clone()),
            tried: Vec::new(),
        },
        Cause::DnsUnavailable { question, tried } => Cause::NextHopUnknown {
            name: name.clone(),
            detail: format!("nobody gave a usable answer to \"{question}\""),
            question: Some(question.clone()),
            tried: tried.clone(),
        },
        other => other.clone(),
    }
}

/// Whether what the own servers say lies inside private networks only. Whoever forges such an
/// answer reaches no host of his own on the internet.
fn is_internal_view(addresses: &[IpAddr]) -> bool {
    let is_internal = |address: &IpAddr| match address {
        IpAddr::V4(v4) => {
            let shared = matches!(v4.octets(), [100, 64..=127, ..]);
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || shared
        }
        IpAddr::V6(v6) => v6.is_unique_local() || v6.is_loopback() || v6.is_unicast_link_local(),
    };
    !addresses.is_empty() && addresses.iter().all(is_internal)
}

fn unknown(name: &Domain, views: &Views) -> Cause {
    let (detail, tried) = match (&views.inside, &views.public) {
        (Err(tried), _) => ("the servers that this host asks about it gave no usable answer", tried.clone()),
        (Ok(_), Some(_)) => ("neither the hosts file nor the servers of the system nor the public DNS know it", vec![]),
        (Ok(_), None) => ("neither the hosts file nor the servers that this host asks about it know it", vec![]),
    };
    Cause::NextHopUnknown { name: name.clone(), detail: detail.to_owned(), question: None, tried }
}

/// What is probably wrong with the names that the operator gave, each in a line with the key to
/// change. All are asked at once, and for a bounded time.
pub(crate) async fn doubts(dns: &Dns, config: &Config) -> Vec<String> {
    let next_hops = named(&config.destination, config.delivery.port).into_iter().take(NEXT_HOPS_LIMIT);
    let next_hops = join_all(next_hops.map(async |((name, port), domains)| {
        let said = timeout(PATIENCE, Box::pin(doubt(dns, &name, port))).await;
        let said = said.unwrap_or_else(|_| Some(format!("not found within {} seconds", PATIENCE.as_secs())))?;
        Some(format!("[[destination]] {}: next_hop {name}: {said}", domains.join(", ")))
    }));
    let zones = join_all(config.dns.private_zones.iter().map(async |private| {
        let name = Name::from_ascii(format!("{}.", private.zone)).ok()?;
        let found = timeout(PATIENCE, dns.find(&name, WireType::SOA)).await;
        let is_answered = found.is_ok_and(|lookup| lookup.result.is_ok());
        (!is_answered)
            .then(|| format!("[dns] private_zones: {private} has no server that answers; its names are not found"))
    }));
    let (next_hops, zones) = tokio::join!(next_hops, zones);
    next_hops.into_iter().chain(zones).flatten().collect()
}

/// The names of next hops, with the domains whose mail they take.
fn named(destinations: &[Destination], default_port: u16) -> BTreeMap<(Domain, u16), Vec<String>> {
    let mut named: BTreeMap<(Domain, u16), Vec<String>> = BTreeMap::new();
    for destination in destinations {
        let hosts = destination.next_hop.iter().flat_map(NextHops::iter).filter_map(|listed| match &listed.address {
            NextHopAddress::Host { name, port } => Some((name.clone(), port.unwrap_or(default_port))),
            NextHopAddress::Address { .. } => None,
        });
        for host in hosts {
            let domains = named.entry(host).or_default();
            domains.extend(destination.domains.iter().map(ToString::to_string));
        }
    }
    named
}

async fn doubt(dns: &Dns, name: &Domain, port: u16) -> Option<String> {
    let views = Box::pin(views(&Asker::new(dns), name, port)).await;
    let inside = views.inside.clone().unwrap_or_default();
    let cause = match choose(name, views) {
        Err(cause) => cause,
        Ok(MxHost { tlsa: TlsaLookup::Unavailable(cause), .. }) => cause,
        Ok(host) => return another_view(&inside, &host),
    };
    let detail = if let Cause::NextHopUnknown { detail, .. } = &cause { detail.clone() } else { cause.sentence() };
    Some(format!("{detail}. Mail to it waits. {}", cause.advice()))
}

/// The signed DNS and the servers of the system name different hosts.
fn another_view(inside: &[IpAddr], chosen: &MxHost) -> Option<String> {
    let used = addresses_of(chosen);
    let is_signed = chosen.security == Security::Secure;
    if !is_signed || inside.is_empty() || used.iter().any(|address| inside.contains(address)) {
        return None;
    }
    let list = |addresses: &[IpAddr]| addresses.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    Some(format!(
        "mail goes to {} (signed, or from the hosts file), while the servers of the system say {}; if that is where it \
         should go, name the zone in [dns] private_zones",
        list(used),
        list(inside)
    ))
}

#[cfg(test)]
#[path = "own_hop_tests.rs"]
mod tests;
