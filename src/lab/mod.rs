//! The lab: a signed mini-internet on loopback, for the demonstration and for all tests.
//!
//! It has a DNS that is really signed from the root down (RFC 4033–4035), MX hosts with really
//! working TLS, MTA-STS policy hosts, and a client that hands mail in. Nothing in it is a pretence that production code
//! would have to know of: the relay is pointed at it by configuration alone. It needs no rights,
//! no other program and no internet, and it ends when it is dropped.
//!
//! A zone can be signed, deny and be vouched for in any way ([`SigningPlan`]). It is asked without
//! sockets ([`World::message`], [`World::message_at`]), through a resolver ([`dns`]), through its
//! encrypted fronts ([`dns::fronts`]), or from the root down ([`dns::authority`]). Whoever forges takes
//! truthful messages apart and mends them with [`World::signed`] and [`World::proof`].
//!
//! A simulation starts it without any sockets ([`LabBuilder::without_sockets`]), finds the hosts
//! by their addresses ([`Lab::host_at`]) and gives them streams of its own.
//!
//! ```
//! use dane_relay::lab::{Certificate, Lab, Tlsa, mx::client::SmtpClient};
//! use hickory_proto::rr::RecordType;
//! use std::time::Duration;
//!
//! # fn main() -> std::io::Result<()> {
//! # let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
//! # runtime.block_on(async {
//! let lab = Lab::builder()
//!     // Signed, one MX with a 3 1 1 record that fits: nothing need be said.
//!     .domain("dane.test", |d| d)
//!     .domain("rollover.test", |d| d.host(|h| h.and_misfits(5).known(&["bob"])))
//!     .domain("mismatch.test", |d| d.host(|h| h.tlsa([Tlsa::Misfits(3, 1, 1, 0)])))
//!     .domain("plain.test", |d| d.plain())
//!     .domain("nullmx.test", |d| d.null_mx())
//!     .domain("sts.test", |d| d.plain().host(|h| h.certificate(Certificate::Issued)).mta_sts(|p| p.enforce()))
//!     .start()
//!     .await?;
//!
//! // What the relay's configuration gets: dns.upstreams, dns.trust_anchors, delivery.port, and for
//! // MTA-STS the port of the policy hosts and tls.roots.
//! let (_upstream, _anchor, _port) = (lab.dns().upstream(), lab.trust_anchor()?, lab.port());
//! let (_policy_port, _roots) = (lab.policy_port(), lab.roots_pem());
//!
//! let mx = lab.mx("dane.test")?;
//! let mut client = SmtpClient::ready(mx.address()).await?.starttls("mx.dane.test").await?;
//! let handed = client.send("alice@client.test", &["bob@dane.test"], b"Subject: hi\r\n\r\nhi\r\n").await?;
//! assert!(handed.accepted());
//! let messages = mx.wait_for_messages(1, Duration::from_secs(5)).await?;
//! assert_eq!(messages[0].mail_from, "alice@client.test");
//! assert_eq!(lab.dns().asked_type(RecordType::TLSA), 0);
//! # Ok(())
//! # })
//! # }
//! ```

pub mod dns;
pub mod domain;
#[cfg(test)]
mod lab_tests;
pub mod mx;
pub mod sockets;
pub mod story;
pub mod sts;
pub mod tls;

pub use crate::lab::dns::plan::{KeyAlgorithm, Signing, SigningPlan};
pub use crate::lab::dns::signer::SignatureFault;
pub use crate::lab::dns::zone::AnswerFault;
pub use crate::lab::mx::host::{Block, Dialect, MxHost, Phase, SessionOrigin, StartTls, Trouble};
pub use crate::lab::mx::mail_path::MailPath;
pub use crate::lab::story::situation::Situation;
pub use crate::lab::story::stage::Stage;
pub use crate::lab::sts::host::{PolicyHost, PolicyRequest};
pub use crate::lab::sts::spec::{Manner, PolicyAnswer, StsSpec};
pub use crate::lab::tls::ca::{Authority, Identity};
pub use crate::lab::tls::shape::{TlsShape, Versions};
pub use domain::{Certificate, DomainSpec, HostSpec, Tlsa};
pub use sockets::HostAt;

use crate::clock::Clock;
use crate::lab::dns::authority::Authorities;
use crate::lab::dns::fronts::{Front, FrontKind};
use crate::lab::dns::responder::View;
use crate::lab::dns::server::DnsServer;
use crate::lab::dns::world::{AnchorForm, World};
use crate::lab::mx::host::Behaviour;
use crate::lab::sts::policies::Policies;
use crate::lab::tls::shape::resuming;
use domain::{Exchange, Family, Presence};
use hickory_proto::rr::rdata::MX;
use hickory_proto::rr::{Name, RData, RecordType};
use sockets::{Sockets, hosts_without_sockets};
use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most MX hosts of one lab: one address each, from `127.0.x.1` on.
pub const HOST_LIMIT: usize = 250;
/// The port of MX hosts where nobody listens: that of SMTP.
const SMTP_PORT: u16 = 25;
/// How often a port is chosen anew when it is free on one address and taken on another.
const PORT_ATTEMPTS: usize = 16;

/// Any error as an [`io::Error`]: the lab has only callers who stop on it.
fn bad(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> io::Error {
    io::Error::other(error)
}

/// A lock that a panicking test may have left behind is still good: all changes are whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What a lab shall hold.
#[derive(Debug, Default)]
pub struct LabBuilder {
    domains: Vec<DomainSpec>,
    clock: Clock,
    root: Option<SigningPlan>,
    sockets: Sockets,
}

impl LabBuilder {
    /// Adds a domain, described by what makes it different from the happy path.
    #[must_use]
    pub fn domain(mut self, name: &str, describe: impl FnOnce(DomainSpec) -> DomainSpec) -> Self {
        self.domains.push(describe(DomainSpec::new(name)));
        self
    }

    /// The clock by which signatures are dated; the machine's unless told otherwise.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How the root is signed; with one key unless told otherwise.
    #[must_use]
    pub fn root(mut self, plan: impl Into<SigningPlan>) -> Self {
        self.root = Some(plan.into());
        self
    }

    /// Starts everything.
    ///
    /// # Errors
    /// When a name is no domain name, a domain comes twice, or no sockets can be had.
    pub async fn start(self) -> io::Result<Lab> {
        let authority = Authority::new("Lab Root CA")?;
        let hosts = prepare(&self.domains, &authority, free_block(self.sockets)?)?;
        let (port, running) = match self.sockets {
            Sockets::Bound => start_hosts(&hosts).await?,
            Sockets::None => (SMTP_PORT, hosts_without_sockets(&hosts)?),
        };
        let policies = Policies::start(&self.domains, &authority, self.sockets).await?;
        let world = Arc::new(match self.root {
            None => World::new(self.clock)?,
            Some(plan) => World::with_root(self.clock, plan)?,
        });
        // Parents first, so that a zone below another one is delegated from it.
        let mut zones: Vec<_> = self.domains.iter().collect();
        zones.sort_by_key(|spec| spec.name.split('.').count());
        for spec in zones {
            world.add_zone(&spec.name, spec.signing.clone())?;
        }
        for host in &hosts {
            world.add(&host.spec.name, host.address.into())?;
            for record in host.spec.tlsa.iter().filter(|_| host.place == AddressRank::First) {
                let owner = tlsa_owner(port, &host.spec.name);
                world.add(&owner, domain::rdata(&record.record(&host.identity)?))?;
            }
        }
        for (owner, data) in policies.records() {
            world.add(owner, data.clone())?;
        }
        for spec in &self.domains {
            fill(&world, spec, port)?;
        }
        let dns = match self.sockets {
            Sockets::Bound => DnsServer::start(Arc::clone(&world)).await?,
            Sockets::None => DnsServer::without_sockets(Arc::clone(&world)),
        };
        let identities = hosts.iter().map(|host| (host.key.clone(), host.shown())).collect();
        let first_hosts = self.domains.iter().filter_map(|spec| Some((spec.name.clone(), first_host(spec)?))).collect();
        let identities = Mutex::new(identities);
        Ok(Lab { world, dns, authority, port, hosts: running, first_hosts, identities, policies })
    }
}

/// A running lab. It ends when it is dropped.
#[derive(Debug)]
pub struct Lab {
    world: Arc<World>,
    dns: DnsServer,
    authority: Authority,
    port: u16,
    hosts: BTreeMap<String, MxHost>,
    first_hosts: BTreeMap<String, String>,
    identities: Mutex<BTreeMap<String, Shown>>,
    policies: Policies,
}

impl Lab {
    /// Describes a new lab.
    #[must_use]
    pub fn builder() -> LabBuilder {
        LabBuilder::default()
    }

    /// The DNS server: its address, the questions it was asked, the boxes on the path to it.
    #[must_use]
    pub fn dns(&self) -> &DnsServer {
        &self.dns
    }

    /// Another DNS server with the same contents, for tests with several upstreams.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn another_dns(&self) -> io::Result<DnsServer> {
        DnsServer::start(Arc::clone(&self.world)).await
    }

    /// As [`Lab::another_dns`], on `::1`.
    ///
    /// # Errors
    /// When no socket can be had.
    pub async fn another_dns_on_ipv6(&self) -> io::Result<DnsServer> {
        DnsServer::start_at((Ipv6Addr::LOCALHOST, 0).into(), Arc::clone(&self.world), View::Resolver).await
    }

    /// A DoT or DoH front of the DNS server, with a certificate of the lab's authority.
    ///
    /// # Errors
    /// When no socket or certificate can be had.
    pub async fn secure_dns(&self, kind: FrontKind) -> io::Result<Front> {
        Front::start(kind, &self.dns, &self.authority).await
    }

    /// Name servers for every zone, for a walk from the root. The zones name them from now on.
    ///
    /// # Errors
    /// When no sockets can be had.
    pub async fn authorities(&self) -> io::Result<Authorities> {
        Authorities::start(Arc::clone(&self.world)).await
    }

    /// The zones, which may be changed while they are served.
    #[must_use]
    pub fn world(&self) -> &World {
        &self.world
    }

    /// The trust anchor file: the root's key as a DS record. The DNSKEY form is in [`World`].
    ///
    /// # Errors
    /// Only when the root has no key, which no lab makes.
    pub fn trust_anchor(&self) -> io::Result<String> {
        self.world.trust_anchor(AnchorForm::Ds)
    }

    /// The zones, for servers that the lab does not start itself.
    #[must_use]
    pub fn shared_world(&self) -> Arc<World> {
        Arc::clone(&self.world)
    }

    /// The authority behind [`Certificate::Issued`].
    #[must_use]
    pub fn authority(&self) -> &Authority {
        &self.authority
    }

    /// The port of all MX hosts, for `delivery.port`.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// A host by its name, or the first host of a domain by the domain's.
    ///
    /// # Errors
    /// When there is no such host, or it is down.
    pub fn mx(&self, name: &str) -> io::Result<&MxHost> {
        let host = self.hosts.get(name).or_else(|| self.hosts.get(self.first_hosts.get(name)?));
        host.ok_or_else(|| bad(format!("the lab has no host {name}")))
    }

    /// All hosts that are up, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &MxHost> {
        self.hosts.values()
    }

    /// Where a host's TLSA records are: `_PORT._tcp.host` (RFC 7672 §2.2.3).
    #[must_use]
    pub fn tlsa_owner(&self, host: &str) -> String {
        tlsa_owner(self.port, host)
    }

    /// Replaces a host's TLSA records while it runs.
    ///
    /// # Errors
    /// When the lab has no such host.
    pub fn set_tlsa(&self, host: &str, records: &[Tlsa]) -> io::Result<()> {
        let identity = locked(&self.identities).get(host).cloned();
        let identity = identity.ok_or_else(|| bad(format!("the lab has no host {host}")))?;
        let made = records.iter().map(|record| Ok(domain::rdata(&record.record(&identity.identity)?)));
        let made = made.collect::<io::Result<Vec<_>>>()?;
        self.world.replace(&self.tlsa_owner(host), RecordType::TLSA, made)
    }

    /// Puts a box on the path to all hosts, or takes it away, from the next connection on.
    pub fn set_mail_path(&self, path: impl Into<Option<MailPath>>) {
        let path = path.into();
        self.hosts().for_each(|host| host.set_path(path.clone()));
    }

    /// Blocks the port of all hosts.
    ///
    /// # Errors
    /// When no sockets can be had.
    pub async fn block_mail(&self, block: Block) -> io::Result<()> {
        for host in self.hosts() {
            host.block(block).await?;
        }
        Ok(())
    }

    /// Gives a host another certificate while it runs; its TLSA records stay as they are, and so do
    /// its shape and the TLS sessions that clients may resume.
    ///
    /// # Errors
    /// When the lab has no such host, or rustls refuses the chain.
    pub fn set_certificate(&self, host: &str, certificate: &Certificate) -> io::Result<()> {
        // All addresses of a host bear its name.
        let name = host.split('#').next().unwrap_or(host);
        let identity = certificate.identity(name, &self.authority)?;
        let mx = self.mx(host)?;
        let mut identities = locked(&self.identities);
        let shown = identities.get_mut(host).ok_or_else(|| bad(format!("the lab has no host {host}")))?;
        let config = shown.shape.server_config(name, &identity)?;
        mx.behave(|behaviour| {
            let config = behaviour.starttls.config().map_or_else(|| Arc::clone(&config), |old| resuming(&config, old));
            behaviour.starttls = StartTls::Offered(config);
        });
        shown.identity = identity;
        Ok(())
    }
}

/// What a host shows in the handshake.
#[derive(Clone, Debug)]
struct Shown {
    identity: Arc<Identity>,
    shape: TlsShape,
}

/// Which of a host's addresses.
#[derive(Clone, Copy, PartialEq, Eq)]
enum AddressRank {
    First,
    Further,
}

/// A host with what must be known before it starts.
struct Prepared<'a> {
    /// What the lab calls it.
    key: String,
    place: AddressRank,
    spec: &'a HostSpec,
    identity: Arc<Identity>,
    address: IpAddr,
}

impl Prepared<'_> {
    fn shown(&self) -> Shown {
        Shown { identity: Arc::clone(&self.identity), shape: self.spec.tls_shape }
    }

    fn behaviour(&self) -> io::Result<Behaviour> {
        let mut behaviour = self.spec.behaviour.clone();
        behaviour.starttls = match &self.spec.starttls {
            Some(starttls) => starttls.clone(),
            None => StartTls::Offered(self.spec.tls_shape.server_config(&self.spec.name, &self.identity)?),
        };
        Ok(behaviour)
    }
}

/// The third octet of a lab's addresses. Labs of other tests run at the same time, in this process
/// and in others; without sockets none is in another's way.
fn free_block(sockets: Sockets) -> io::Result<u8> {
    static LABS: AtomicU32 = AtomicU32::new(0);
    match sockets {
        Sockets::None => Ok(1),
        Sockets::Bound => {
            let number = LABS.fetch_add(1, Ordering::SeqCst).wrapping_add(std::process::id());
            u8::try_from(number % 254 + 1).map_err(bad)
        }
    }
}

fn prepare<'a>(domains: &'a [DomainSpec], authority: &Authority, block: u8) -> io::Result<Vec<Prepared<'a>>> {
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
        Ok(Prepared { key, place, spec, identity, address })
    });
    let prepared = prepared.collect::<io::Result<Vec<_>>>()?;
    match prepared.iter().filter(|host| host.address.is_ipv6()).count() {
        0 | 1 => Ok(prepared),
        2.. => Err(bad("more hosts at ::1 than one lab can have")),
    }
}

/// All hosts listen on one port, as the real ones do; the first chooses it.
async fn start_hosts(hosts: &[Prepared<'_>]) -> io::Result<(u16, BTreeMap<String, MxHost>)> {
    let mut last = bad("no port");
    for _ in 0..PORT_ATTEMPTS {
        match start_on_one_port(hosts).await {
            Err(e) if e.kind() == io::ErrorKind::AddrInUse => last = e,
            done => return done,
        }
    }
    Err(last)
}

async fn start_on_one_port(hosts: &[Prepared<'_>]) -> io::Result<(u16, BTreeMap<String, MxHost>)> {
    let (mut port, mut running) = (0, BTreeMap::new());
    for host in hosts.iter().filter(|host| host.spec.presence == Presence::Up) {
        let started = MxHost::start(&host.spec.name, host.address, port, host.behaviour()?).await?;
        port = started.address().port();
        running.insert(host.key.clone(), started);
    }
    Ok((if port == 0 { SMTP_PORT } else { port }, running))
}

/// Puts the records and faults of a domain into the world.
fn fill(world: &World, spec: &DomainSpec, port: u16) -> io::Result<()> {
    let own = spec.hosts.iter().map(|host| (host.preference, host.name.as_str()));
    let others = spec.hosted_by.iter().map(|(preference, host)| (*preference, host.as_str()));
    match spec.exchange {
        Exchange::NullMx => world.add(&spec.name, RData::MX(MX::new(0, Name::root())))?,
        Exchange::Implicit => {}
        Exchange::Mx => {
            for (preference, host) in own.chain(others) {
                world.add(&spec.name, RData::MX(MX::new(preference, dns::world::name(host)?)))?;
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

fn tlsa_owner(port: u16, host: &str) -> String {
    format!("_{port}._tcp.{host}")
}

fn first_host(spec: &DomainSpec) -> Option<String> {
    let own = spec.hosts.first().map(|host| host.name.clone());
    own.or_else(|| spec.hosted_by.first().map(|(_, host)| host.clone()))
}
