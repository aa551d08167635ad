//! DANE, MTA-STS and REQUIRETLS among mail servers and a policy host that are not ours.
//!
//! A test drafts what its domains publish, starts name server, resolver and policy host from it,
//! and then the mail server that it is about.

mod mx_hosts;
mod nginx;
mod policy_host;

use crate::certificate::{Ca, Certificate};
use crate::daemon::free_port;
use crate::postfix::MxHost;
use crate::relay::Relay;
use crate::resolver::Resolver;
use crate::world::open_temp_dir;
use crate::zone::{Authority, ZoneText};
use nginx::{Nginx, Site};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use tempfile::TempDir;

/// The most domains of a test: each has its address for mail and one for its policy.
const MOST_DOMAINS: u8 = 20;

/// What the domains of a test publish, before anything runs.
struct Draft {
    dir: TempDir,
    /// The CA that the relay trusts.
    ca: Ca,
    zone: ZoneText,
    hosts: Vec<MxHost>,
    sites: Vec<Site>,
    mx_port: u16,
    policy_port: u16,
}

impl Draft {
    fn new() -> Self {
        let dir = open_temp_dir();
        let ca = Ca::new(dir.path(), "trusted");
        let (mx_port, policy_port) = (free_port(&addresses(1)), free_port(&addresses(3)));
        Self { dir, ca, zone: ZoneText::default(), hosts: Vec::new(), sites: Vec::new(), mx_port, policy_port }
    }

    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The MX host of a domain; without a certificate it offers no STARTTLS.
    fn mx(&mut self, domain: &str, certificate: Option<Certificate>, tlsa: &[String]) {
        let name = mx_of(domain);
        let ip = addresses(1)[self.hosts.len()];
        self.zone.mx(domain, &name, ip);
        self.zone.tlsa(&name, self.mx_port, tlsa);
        let address = SocketAddr::from((ip, self.mx_port));
        self.hosts.push(MxHost { name, domain: domain.to_owned(), address, certificate });
    }

    /// A policy of a domain that enforces its MX host, behind a good policy host that `change`
    /// may spoil.
    fn policy(&mut self, domain: &str, change: impl FnOnce(&mut Site, &Ca)) {
        let ip = addresses(3)[self.sites.len()];
        let name = format!("mta-sts.{domain}");
        self.zone.address(&name, ip);
        self.zone.txt(&format!("_mta-sts.{domain}"), "v=STSv1; id=20261121;");
        let policy = format!("version: STSv1\nmode: enforce\nmx: {}\nmax_age: 604800\n", mx_of(domain));
        let certificate = self.ca.issue(&name);
        let server = "ssl_protocols TLSv1.2 TLSv1.3;\n".to_owned();
        let place = "default_type text/plain;\n".to_owned();
        let mut site =
            Site { domain: domain.to_owned(), ip, certificate, policy: Some(policy), listen: "", server, place };
        change(&mut site, &self.ca);
        self.sites.push(site);
    }

    fn start(self) -> Ground {
        let Self { dir, ca, zone, hosts, sites, mx_port, policy_port } = self;
        let authority = Authority::start(dir.path(), &zone);
        let resolver = Resolver::start(dir.path(), &authority);
        let nginx = Nginx::start(dir.path(), policy_port, &sites);
        Ground { hosts, nginx, resolver, authority, ca, mx_port, policy_port, dir }
    }
}

/// `mx.` below a domain.
fn mx_of(domain: &str) -> String {
    format!("mx.{domain}")
}

/// The addresses of one kind of server.
fn addresses(third_octet: u8) -> Vec<Ipv4Addr> {
    (1..=MOST_DOMAINS).map(|n| Ipv4Addr::new(127, 0, third_octet, n)).collect()
}

/// Everything but the mail server and the relay. Fields are dropped in this order.
struct Ground {
    hosts: Vec<MxHost>,
    nginx: Nginx,
    resolver: Resolver,
    authority: Authority,
    ca: Ca,
    mx_port: u16,
    policy_port: u16,
    dir: TempDir,
}

impl Ground {
    fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a relay here; `sections` go below.
    fn start_relay(&self, sections: &str) -> Relay {
        let Self { resolver, authority, ca, mx_port, policy_port, .. } = self;
        let (server, anchor, roots) = (resolver.address, authority.anchor.display(), ca.pem());
        let text = format!(
            "[dns]\nupstreams = [\"udp://{server}\"]\ntrust_anchors = \"{anchor}\"\n[tls]\nroots = {roots:?}\n\
             [mta_sts]\nport = {policy_port}\n[delivery]\nport = {mx_port}\nallow_loopback = true\n{sections}"
        );
        Relay::start(self.dir(), &text)
    }
}
