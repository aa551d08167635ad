//! From the description of a lab to what runs: addresses, certificates, hosts, and the records that
//! tell of them (RFC 5321 §5.1, RFC 7672 §2.2.3).

use super::domain::{DomainSpec, Exchange, Family, HostSpec};
use super::{HOST_LIMIT, PORT_ATTEMPTS, SMTP_PORT, bad};
use crate::lab::dns::world::{World, name};
use crate::lab::mx::behaviour::{Behaviour, StartTls};
use crate::lab::mx::host::RunningMxHost;
use crate::lab::sockets::Presence;
use crate::lab::tls::ca::{Authority, Identity};
use crate::lab::tls::shape::TlsShape;
use hickory_proto::rr::rdata::MX;
use hickory_proto::rr::{Name, RData, RecordType};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

/// What a host shows in the handshake.
#[derive(Clone, Debug)]
pub(super) struct Shown {
    pub(super) identity: Arc<Identity>,
    pub(super) shape: TlsShape,
}

/// Which of a host's addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum AddressRank {
    First,
    Further,
}

/// A host with what must be known before it starts.
pub(super) struct PreparedHost<'a> {
    /// What the lab calls it.
    pub(super) key: String,
    pub(super) place: AddressRank,
    pub(super) spec: &'a HostSpec,
    pub(super) identity: Arc<Identity>,
    pub(super) address: IpAddr,
}

impl PreparedHost<'_> {
    pub(super) fn shown(&self) -> Shown {
        Shown { identity: Arc::clone(&self.identity), shape: self.spec.tls_shape }
    }

    pub(super) fn behaviour(&self) -> io::Result<Behaviour> {
        let mut behaviour = self.spec.behaviour.clone();
        behaviour.starttls = match &self.spec.starttls {
            Some(starttls) => starttls.clone(),
            None => StartTls::Offered(self.spec.tls_shape.server_config(&self.spec.name, &self.identity)?),
        };
        Ok(behaviour)
    }
}

pub(super) fn prepare<'a>(
    domains: &'a [DomainSpec],
    authority: &Authority,
    block: u8,
) -> io::Result<Vec<PreparedHost<'a>>> {
    let addresses = domains.iter().flat_map(|spec| &spec.hosts).flat_map(|spec| {
        let first = (spec.name.clone(), AddressRank::First, (spec.family, &spec.certificate));
        let more = spec.at_more_addresses.iter().zip(2..);
        let further = more.map(|((family, certificate), nth)| {
            (format!("{}#{nth}", spec.name), AddressRank::Further, (*family, certificate))
        });
        std::iter::once(first).chain(further).map(move |one| (spec, one))
    });
    let prepared = addresses.zip(1..).map(|((spec, (key, place, (family, certificate))), nth)| {
        if usize::from(nth) > HOST_LIMIT {
            return Err(bad("more MX hosts than one lab can have"));
        }
        let address = match family {
            Family::V4 => Ipv4Addr::new(127, 0, block, nth).into(),
            Family::V6 => Ipv6Addr::LOCALHOST.into(),
        };
        let identity = certificate.identity(&spec.name, authority)?;
        Ok(PreparedHost { key, place, spec, identity, address })
    });
    let prepared = prepared.collect::<io::Result<Vec<_>>>()?;
    match prepared.iter().filter(|host| host.address.is_ipv6()).count() {
        0 | 1 => Ok(prepared),
        2.. => Err(bad("more hosts at ::1 than one lab can have")),
    }
}

/// All hosts listen on one port, as the real ones do; the first chooses it.
pub(super) async fn start_hosts(hosts: &[PreparedHost<'_>]) -> io::Result<(u16, BTreeMap<String, RunningMxHost>)> {
    let mut last = bad("no port");
    for _ in 0..PORT_ATTEMPTS {
        match start_on_one_port(hosts).await {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
            done => return done,
        }
    }
    Err(last)
}

async fn start_on_one_port(hosts: &[PreparedHost<'_>]) -> io::Result<(u16, BTreeMap<String, RunningMxHost>)> {
    let (mut port, mut running) = (0, BTreeMap::new());
    for host in hosts.iter().filter(|host| host.spec.presence == Presence::Up) {
        let started = RunningMxHost::start(&host.spec.name, host.address, port, host.behaviour()?).await?;
        port = started.address().port();
        running.insert(host.key.clone(), started);
    }
    Ok((if port == 0 { SMTP_PORT } else { port }, running))
}

pub(super) fn hosts_without_sockets(hosts: &[PreparedHost<'_>]) -> io::Result<BTreeMap<String, RunningMxHost>> {
    let up = hosts.iter().filter(|host| host.spec.presence == Presence::Up);
    let made = up.map(|host| {
        let address = SocketAddr::from((host.address, SMTP_PORT));
        Ok((host.key.clone(), RunningMxHost::without_socket(&host.spec.name, address, host.behaviour()?)))
    });
    made.collect()
}

/// Puts the records and faults of a domain into the world.
pub(super) fn fill(world: &World, spec: &DomainSpec, port: u16) -> io::Result<()> {
    let own = spec.hosts.iter().map(|host| (host.preference, host.name.as_str()));
    let others = spec.hosted_by.iter().map(|(preference, host)| (*preference, host.as_str()));
    match spec.exchange {
        Exchange::NullMx => world.add(&spec.name, RData::MX(MX::new(0, Name::root())))?,
        Exchange::Implicit => {}
        Exchange::Mx => {
            for (preference, host) in own.chain(others) {
                world.add(&spec.name, RData::MX(MX::new(preference, name(host)?)))?;
            }
        }
    }
    for (owner, data) in &spec.records {
        world.add(owner, data.clone())?;
    }
    for (owner, target) in &spec.aliases {
        world.add_cname(owner, target)?;
    }
    for (owner, rtype, fault) in &spec.faults {
        let plain_host = *rtype == RecordType::TLSA && !owner.starts_with('_');
        let owner = if plain_host { tlsa_owner(port, owner) } else { owner.clone() };
        world.fault(&owner, *rtype, *fault)?;
    }
    world.zone_fault(&spec.name, spec.zone_fault)
}

pub(super) fn tlsa_owner(port: u16, host: &str) -> String {
    format!("_{port}._tcp.{host}")
}

pub(super) fn first_host(spec: &DomainSpec) -> Option<String> {
    let own = spec.hosts.first().map(|host| host.name.clone());
    own.or_else(|| spec.hosted_by.first().map(|(_, host)| host.clone()))
}
