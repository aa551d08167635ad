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
//! truthful messages apart and repairs them with [`World::signed`] and [`World::proof`].
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
mod domain;
#[cfg(test)]
mod lab_tests;
pub mod mx;
pub mod simulated;
mod sockets;
mod start;
pub mod story;
pub mod sts;
pub mod tls;

pub use crate::lab::dns::plan::{KeyAlgorithm, Signing, SigningPlan};
pub use crate::lab::dns::rrset::SignatureFault;
pub use crate::lab::dns::zone::AnswerFault;
pub use crate::lab::mx::behaviour::{Dialect, SessionOrigin, StartTls, Trouble, TroubleAt};
pub use crate::lab::mx::host::{Block, RunningMxHost};
pub use crate::lab::mx::mail_path::MailPath;
pub use crate::lab::story::situation::Situation;
pub use crate::lab::story::stage::Stage;
pub use crate::lab::sts::host::{PolicyHost, PolicyRequest};
pub use crate::lab::sts::spec::{PolicyAnswer, PolicyHostManner, StsSpec};
pub use crate::lab::tls::ca::{Authority, Identity};
pub use crate::lab::tls::certificate::{Certificate, Tlsa};
pub use crate::lab::tls::shape::{TlsShape, Versions};
pub use domain::{DomainSpec, HostSpec};
pub use simulated::HostAt;

use crate::clock::Clock;
use crate::lab::dns::authority::Authorities;
use crate::lab::dns::fronts::{Front, FrontKind};
use crate::lab::dns::server::DnsServer;
use crate::lab::dns::view::View;
use crate::lab::dns::world::{AnchorForm, World};
use crate::lab::sts::policies::Policies;
use crate::lab::tls::certificate;
use crate::lab::tls::shape::resuming;
use hickory_proto::rr::RecordType;
use sockets::{Sockets, free_block};
use start::{AddressRank, Shown, fill, first_host, hosts_without_sockets, prepare, start_hosts, tlsa_owner};
use std::collections::BTreeMap;
use std::io;
use std::net::Ipv6Addr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The most MX hosts of one lab: one address each, from `127.0.x.1` on.
pub const HOST_LIMIT: usize = 250;
/// The port of MX hosts where nobody listens: that of SMTP.
const SMTP_PORT: u16 = 25;
/// How often a port is chosen again when it is free on one address and taken on another.
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
        let authority = Arc::new(Authority::new("Lab Root CA")?);
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
                world.add(&owner, certificate::rdata(&record.record(&host.identity)?))?;
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
    authority: Arc<Authority>,
    port: u16,
    hosts: BTreeMap<String, RunningMxHost>,
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
    pub fn authority(&self) -> &Arc<Authority> {
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
    pub fn mx(&self, name: &str) -> io::Result<&RunningMxHost> {
        let host = self.hosts.get(name).or_else(|| self.hosts.get(self.first_hosts.get(name)?));
        host.ok_or_else(|| bad(format!("the lab has no host {name}")))
    }

    /// All hosts that are up, by name.
    pub fn hosts(&self) -> impl Iterator<Item = &RunningMxHost> {
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
        let made = records.iter().map(|record| Ok(certificate::rdata(&record.record(&identity.identity)?)));
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
