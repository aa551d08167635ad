//! From the configuration to paths: reads `/etc/resolv.conf` and has the certificate authorities
//! read, once, at the start. Nothing is asked yet.

use super::channel::Channel;
use super::walk::Walk;
use super::{Carrier, Path, PathName, Transport};
use crate::config::{Config, Dns as DnsConfig, DnsMode, RootsError, Upstream};
use crate::resolve::driver::DnsSetupError;
use hickory_resolver::config::{ConnectionConfig, ResolverOpts};
use hickory_resolver::{PoolContext, TlsConfig, system_conf};
use rustls::crypto::aws_lc_rs;
use rustls::{ClientConfig, RootCertStore};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

/// Questions in flight on one connection; more fail as busy. A busy relay has 500 messages on
/// their way at once.
const QUESTIONS_IN_FLIGHT: usize = 1000;

/// Who is asked where `/etc/resolv.conf` names nobody (resolv.conf(5)).
const LOCAL_SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 53);

/// All paths of the configuration, in its order.
pub(in crate::resolve) fn paths(config: &Config) -> Result<Vec<Path>, DnsSetupError> {
    let context = Arc::new(context(config)?);
    let mut paths = Vec::new();
    for upstream in &config.dns.upstreams {
        match upstream {
            Upstream::System => {
                for server in system_servers(&config.dns)? {
                    paths.extend(udp_and_tcp(format!("system udp://{server}"), server, &context));
                }
            }
            Upstream::Udp(server) => paths.extend(udp_and_tcp(upstream.to_string(), *server, &context)),
            Upstream::Tcp(server) => {
                paths.push(stream(upstream, Transport::Tcp, *server, ConnectionConfig::tcp(), &context));
            }
            Upstream::Tls { server, name } => {
                let connection = ConnectionConfig::tls(Arc::from(name.as_str()));
                paths.push(stream(upstream, Transport::Tls, *server, connection, &context));
            }
            Upstream::Https { server, path, name } => {
                let connection = ConnectionConfig::https(Arc::from(name.as_str()), Some(Arc::from(path.as_str())));
                paths.push(stream(upstream, Transport::Https, *server, connection, &context));
            }
            Upstream::Authoritative => {
                let walk = Walk::new(config.dns.root_hints.clone());
                paths.push(Path::new(named(upstream.to_string(), Transport::Walk), Carrier::Walk(walk)));
            }
        }
    }
    Ok(paths)
}

/// What all connections share.
fn context(config: &Config) -> Result<PoolContext, DnsSetupError> {
    Ok(PoolContext::new(options(config.dns.timeout), tls(config)?))
}

fn named(upstream: String, transport: Transport) -> PathName {
    PathName { upstream, transport }
}

/// Two paths: a box that discards what it does not like over UDP may let it pass over TCP.
fn udp_and_tcp(upstream: String, server: SocketAddr, context: &Arc<PoolContext>) -> [Path; 2] {
    let (udp, tcp) = Channel::udp(server.ip(), server.port(), context);
    [
        Path::new(named(upstream.clone(), Transport::Udp), Carrier::Server(Arc::new(udp))),
        Path::new(named(upstream, Transport::Tcp), Carrier::Server(tcp)),
    ]
}

fn stream(
    upstream: &Upstream,
    transport: Transport,
    server: SocketAddr,
    mut connection: ConnectionConfig,
    context: &Arc<PoolContext>,
) -> Path {
    connection.port = server.port();
    let channel = Channel::new(server.ip(), connection, context);
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
    let error = |message: String| DnsSetupError::Upstream { upstream: "system".into(), message };
    let read = system_conf::read_system_conf().map(|(config, _options)| config);
    let mut servers: Vec<SocketAddr> = Vec::new();
    for server in read.iter().flat_map(|config| config.name_servers()) {
        let port = server.connections.first().map_or(53, |connection| connection.port);
        let address = SocketAddr::new(server.ip, port);
        if !servers.contains(&address) {
            servers.push(address);
        }
    }
    if servers.is_empty() && dns.upstreams.iter().any(|upstream| *upstream != Upstream::System) {
        servers.push(LOCAL_SERVER);
    }
    if servers.is_empty() {
        return Err(error("/etc/resolv.conf names no server; write upstreams = [\"udp://IP:PORT\"]".into()));
    }
    match (dns.mode, servers.iter().find(|server| !server.ip().is_loopback())) {
        (DnsMode::TrustAd, Some(remote)) => Err(error(format!(
            "mode = \"trust-ad\" needs resolvers on loopback, and /etc/resolv.conf names {}; set mode = \"validate\"",
            remote.ip()
        ))),
        (DnsMode::TrustAd, None) | (DnsMode::Validate, _) => Ok(servers),
    }
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
