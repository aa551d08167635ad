//! From the configuration to paths: reads `/etc/resolv.conf` and has the certificate authorities
//! read at the start. Nothing is asked yet. When the servers of the system are others later on, their
//! paths are made new and all others stay as they are, with what is known about them.

use super::channel::Channel;
use super::system::{self, ResolvConf};
use super::walk::Walk;
use super::{Carrier, Path, PathName, Transport};
use crate::config::{Config, DnsConfig, DnsMode, RootsError, Upstream};
use crate::resolve::error::DnsSetupError;
use hickory_proto::rr::Name;
use hickory_resolver::config::{ConnectionConfig, ResolverOpts};
use hickory_resolver::{PoolContext, TlsConfig, system_conf};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Questions in flight on one connection; more fail as busy. A busy relay has 500 messages on
/// their way at once.
const QUESTIONS_IN_FLIGHT: usize = 1000;

/// Domains of a search list that are tried (resolv.conf(5)).
const SEARCH_LIMIT: usize = 6;

/// Who is asked where `/etc/resolv.conf` names nobody (resolv.conf(5)).
const LOCAL_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// What paths are made from.
pub(in crate::resolve) struct Setup {
    dns: DnsConfig,
    context: Arc<PoolContext>,
    /// Where servers of the system are among the upstreams.
    resolv_conf: Option<ResolvConf>,
}

impl Setup {
    pub(in crate::resolve) fn new(config: &Config) -> Result<Self, DnsSetupError> {
        let context = PoolContext::new(options(config.dns.timeout), tls(config)?);
        let follows = config.dns.upstreams.contains(&Upstream::System) && config.dns.system_servers.is_empty();
        let resolv_conf = follows.then(|| ResolvConf::new(&config.dns.resolv_conf));
        Ok(Self { dns: config.dns.clone(), context: Arc::new(context), resolv_conf })
    }

    /// All paths of the configuration, in its order.
    pub(in crate::resolve) fn paths(&self) -> Result<Vec<Arc<Path>>, DnsSetupError> {
        let uses_system = self.dns.upstreams.contains(&Upstream::System);
        let system = if uses_system { system_servers(&self.dns)? } else { Vec::new() };
        Ok(self.with_system(&system, &[]))
    }

    /// The servers of the system alone, which vouch for nothing. Where nobody is named it is the one
    /// on this machine (resolv.conf(5)).
    pub(in crate::resolve) fn of_system(config: &Config) -> Result<Self, DnsSetupError> {
        let dns = DnsConfig { upstreams: vec![Upstream::System], mode: DnsMode::Validate, ..config.dns.clone() };
        Self::new(&Config { dns, ..config.clone() })
    }

    /// As [`Setup::paths`], for [`Setup::of_system`].
    pub(in crate::resolve) fn system_paths(&self) -> Vec<Arc<Path>> {
        let named = system_servers(&self.dns).unwrap_or_else(|_nobody| vec![LOCAL_SERVER]);
        self.with_system(&named, &[])
    }

    /// The paths in the place of `before`, when the system has other servers now.
    ///
    /// # Errors
    /// Why its servers stay as they were, though the file has changed.
    pub(in crate::resolve) fn changed(&self, before: &[Arc<Path>]) -> Result<Option<Vec<Arc<Path>>>, String> {
        if !self.resolv_conf.as_ref().is_some_and(ResolvConf::has_changed) {
            return Ok(None);
        }
        let file = &self.dns.resolv_conf;
        let servers = system::read(file).map_err(|error| format!("{}: {error}", file.display()))?;
        if servers.is_empty() {
            return Err(format!("{} names no server", file.display()));
        }
        may_vouch(&self.dns, &servers).map_err(|error| error.to_string())?;
        let paths = self.with_system(&servers, before);
        let same = paths.len() == before.len() && paths.iter().zip(before).all(|(new, old)| Arc::ptr_eq(new, old));
        Ok((!same).then_some(paths))
    }

    fn with_system(&self, system: &[SocketAddr], before: &[Arc<Path>]) -> Vec<Arc<Path>> {
        let mut paths = Vec::new();
        for upstream in &self.dns.upstreams {
            paths.extend(self.paths_of(upstream, system));
        }
        let kept = |new: Path| before.iter().find(|old| old.name == new.name).cloned().unwrap_or_else(|| Arc::new(new));
        paths.into_iter().map(kept).collect()
    }

    fn paths_of(&self, upstream: &Upstream, system: &[SocketAddr]) -> Vec<Path> {
        let context = &self.context;
        match upstream {
            Upstream::System => {
                let paths = |server: &SocketAddr| udp_and_tcp(format!("system udp://{server}"), *server, context);
                system.iter().flat_map(paths).collect()
            }
            Upstream::Udp(server) => udp_and_tcp(upstream.to_string(), *server, context).into(),
            Upstream::Tcp(server) => {
                vec![stream(upstream, Transport::Tcp, *server, ConnectionConfig::tcp(), context)]
            }
            Upstream::Tls { server, name } => {
                let connection = ConnectionConfig::tls(Arc::from(name.as_str()));
                vec![stream(upstream, Transport::Tls, *server, connection, context)]
            }
            Upstream::Https { server, path, name } => {
                let connection = ConnectionConfig::https(Arc::from(name.as_str()), Some(Arc::from(path.as_str())));
                vec![stream(upstream, Transport::Https, *server, connection, context)]
            }
            Upstream::Authoritative => {
                let walk = Walk::new(self.dns.root_hints.clone());
                vec![Path::new(named(upstream.to_string(), Transport::Walk), Carrier::Walk(walk))]
            }
        }
    }

    /// The paths to these servers, in their order, named with a label.
    pub(in crate::resolve) fn to_servers(&self, label: &str, servers: &[SocketAddr]) -> Vec<Arc<Path>> {
        let paths = |server: &SocketAddr| udp_and_tcp(format!("{label} udp://{server}"), *server, &self.context);
        servers.iter().flat_map(paths).map(Arc::new).collect()
    }
}

/// Those that the configuration names in place of the file, or those of the file.
fn named_servers(dns: &DnsConfig) -> io::Result<Vec<SocketAddr>> {
    if dns.system_servers.is_empty() { system::read(&dns.resolv_conf) } else { Ok(dns.system_servers.clone()) }
}

/// The domains that the system tries behind a name of one label.
pub(in crate::resolve) fn search_list(dns: &DnsConfig) -> Vec<Name> {
    let read = system::octets(&dns.resolv_conf).ok().and_then(|octets| system_conf::parse_resolv_conf(octets).ok());
    let read = read.iter().flat_map(|(config, _options)| config.search().iter().chain(config.domain()).cloned());
    read.filter(|domain| !domain.is_root()).take(SEARCH_LIMIT).collect()
}

fn named(upstream: String, transport: Transport) -> PathName {
    PathName { upstream, transport }
}

/// Two paths: a box that discards what it does not like over UDP may let it pass over TCP.
fn udp_and_tcp(upstream: String, server: SocketAddr, context: &Arc<PoolContext>) -> [Path; 2] {
    let (udp, tcp) = Channel::udp(server, context);
    [
        Path::new(named(upstream.clone(), Transport::Udp), Carrier::Server(Arc::new(udp))),
        Path::new(named(upstream, Transport::Tcp), Carrier::Server(tcp)),
    ]
}

fn stream(
    upstream: &Upstream,
    transport: Transport,
    server: SocketAddr,
    connection: ConnectionConfig,
    context: &Arc<PoolContext>,
) -> Path {
    let channel = Channel::new(server, connection, context);
    Path::new(named(upstream.to_string(), transport), Carrier::Server(Arc::new(channel)))
}

fn options(timeout: Duration) -> ResolverOpts {
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.max_active_requests = QUESTIONS_IN_FLIGHT;
    options
}

/// The servers of `/etc/resolv.conf`. Where it is missing or names none while other upstreams are
/// there, it is the one on this machine, as in resolv.conf(5): a path that fails and is named so,
/// and mail goes out by the others.
pub(in crate::resolve) fn system_servers(dns: &DnsConfig) -> Result<Vec<SocketAddr>, DnsSetupError> {
    // A file that is missing names nobody.
    let mut servers = named_servers(dns).unwrap_or_default();
    if servers.is_empty() && dns.upstreams.iter().any(|upstream| *upstream != Upstream::System) {
        servers.push(LOCAL_SERVER);
    }
    if servers.is_empty() {
        let file = dns.resolv_conf.display();
        return Err(system_error(format!("{file} names no server; write upstreams = [\"udp://IP:PORT\"]")));
    }
    may_vouch(dns, &servers)?;
    Ok(servers)
}

fn may_vouch(dns: &DnsConfig, servers: &[SocketAddr]) -> Result<(), DnsSetupError> {
    match (dns.mode, servers.iter().find(|server| !server.ip().is_loopback())) {
        (DnsMode::TrustAd, Some(remote)) => Err(system_error(format!(
            "mode = \"trust-ad\" needs resolvers on loopback, and {} names {}; set mode = \"validate\"",
            dns.resolv_conf.display(),
            remote.ip()
        ))),
        (DnsMode::TrustAd, None) | (DnsMode::Validate, _) => Ok(()),
    }
}

fn system_error(message: String) -> DnsSetupError {
    DnsSetupError::Upstream { upstream: "system".into(), message }
}

/// The certificate authorities are read only when an upstream needs them.
fn tls(config: &Config) -> Result<TlsConfig, DnsSetupError> {
    let needed = config.dns.upstreams.iter().any(|u| matches!(u, Upstream::Tls { .. } | Upstream::Https { .. }));
    let roots = if needed { config.tls.roots.load()? } else { RootCertStore::empty() };
    let builder = ClientConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|e| RootsError { source_name: "TLS".into(), message: e.to_string() })?;
    Ok(TlsConfig { config: builder.with_root_certificates(roots).with_no_client_auth() })
}
