//! A small world for one test: signed zones, a validating resolver, and Postfix as the MX host
//! of every domain in it.

use crate::certificate::{Certificate, tlsa_that_fit_nothing};
use crate::postfix::{MxHost, Postfix};
use crate::relay::Relay;
use crate::resolver::Resolver;
use crate::zone::{Authority, ZoneText};
use std::ffi::OsStr;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use tempfile::TempDir;

/// The TLSA records of a domain's MX host.
#[derive(Clone, Copy)]
pub(crate) enum Tlsa {
    /// None at all.
    Absent,
    /// This many `3 1 1`, the last of which fits the certificate.
    OneFitsOf(usize),
    /// This many well-formed `3 1 1`, none of which fits.
    NoneFitsOf(usize),
    /// A `2 0 1` that names the CA; the host shows a leaf and that CA.
    TrustAnchor,
    /// A `3 1 1` for a host that does not offer STARTTLS.
    WithoutStarttls,
}

impl Tlsa {
    fn certificate(self, dir: &Path, host: &str) -> Certificate {
        if matches!(self, Self::TrustAnchor) {
            Certificate::below_a_ca(dir, host)
        } else {
            Certificate::self_signed(dir, host)
        }
    }

    fn records(self, certificate: &Certificate) -> Vec<String> {
        match self {
            Self::Absent => Vec::new(),
            Self::NoneFitsOf(count) => tlsa_that_fit_nothing(count),
            Self::TrustAnchor => vec![certificate.tlsa_2_0_1()],
            Self::WithoutStarttls => tlsa_that_fit_nothing(1),
            Self::OneFitsOf(count) => {
                let mut records = tlsa_that_fit_nothing(count - 1);
                records.push(certificate.tlsa_3_1_1());
                records
            }
        }
    }
}

/// Everything but the relay. Fields are dropped in this order.
pub(crate) struct World {
    /// The MX host of all domains.
    pub(crate) postfix: Postfix,
    /// The validating resolver.
    pub(crate) resolver: Resolver,
    /// The name server.
    pub(crate) authority: Authority,
    /// The port of all MX hosts.
    pub(crate) mx_port: u16,
    dir: TempDir,
}

impl World {
    /// Starts it with these domains; the MX host of `x.test` is `mx.x.test`.
    pub(crate) fn start(domains: &[(&str, Tlsa)]) -> Self {
        let dir = open_temp_dir();
        let addresses: Vec<Ipv4Addr> = (1..).map(|n| Ipv4Addr::new(127, 0, 1, n)).take(domains.len()).collect();
        let mx_port = crate::daemon::free_port(&addresses);

        let mut zone = ZoneText::default();
        let mut hosts = Vec::new();
        for ((domain, tlsa), ip) in domains.iter().zip(addresses) {
            let name = format!("mx.{domain}");
            let certificate = tlsa.certificate(dir.path(), &name);
            zone.mx(domain, &name, ip);
            zone.tlsa(&name, mx_port, &tlsa.records(&certificate));
            let address = SocketAddr::from((ip, mx_port));
            let certificate = Some(certificate).filter(|_| !matches!(tlsa, Tlsa::WithoutStarttls));
            hosts.push(MxHost { name, domain: (*domain).to_owned(), address, certificate });
        }
        let authority = Authority::start(dir.path(), &zone);
        let resolver = Resolver::start(dir.path(), &authority);
        let postfix = Postfix::start(dir.path(), &hosts);
        Self { postfix, resolver, authority, mx_port, dir }
    }

    /// The folder of this world.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Starts a relay that resolves and delivers in this world; `sections` go below.
    pub(crate) fn start_relay(&self, sections: &str) -> Relay {
        self.start_relay_in(&[], sections)
    }

    /// The same, in this environment.
    pub(crate) fn start_relay_in(&self, environment: &[(&str, &OsStr)], sections: &str) -> Relay {
        let Self { resolver, authority, mx_port, .. } = self;
        let (server, anchor) = (resolver.address, authority.anchor.display());
        let text = format!(
            "[dns]\nupstreams = [\"udp://{server}\"]\ntrust_anchors = \"{anchor}\"\n\
             [delivery]\nport = {mx_port}\nallow_loopback = true\n{sections}"
        );
        Relay::start_in(environment, self.dir(), &text)
    }
}

/// A temporary folder that daemons which give up root may pass through.
pub(crate) fn open_temp_dir() -> TempDir {
    let dir = tempfile::Builder::new().prefix("relay-interop-").tempdir().unwrap();
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
    dir
}
