//! The servers of the comparison: three NSD, as the root, a top-level domain and a hoster have
//! them, and before them a validating Unbound and one that only forwards.

use super::signer::Shape;
use super::zones::WITH_CAPITALS;
use crate::daemon::{Daemon, free_port, run};
use crate::zone::command;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The name servers of the root, of the top-level domains and of all others, on one port.
pub(crate) const NAME_SERVERS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(127, 0, 3, 1), Ipv4Addr::new(127, 0, 3, 2), Ipv4Addr::new(127, 0, 3, 3)];
/// Where the resolvers listen.
const RESOLVER_IP: Ipv4Addr = Ipv4Addr::new(127, 0, 3, 9);

/// Everything that answers.
pub(crate) struct Servers {
    /// Unbound that validates.
    pub(crate) validating: SocketAddr,
    /// Unbound that does not.
    pub(crate) forwarding: SocketAddr,
    /// The root's name server.
    pub(crate) root: SocketAddr,
    /// The root's keys.
    pub(crate) anchor: PathBuf,
    _daemons: Vec<Daemon>,
}

impl Servers {
    /// Makes the keys, signs the zones and serves them.
    pub(crate) fn start(dir: &Path, shapes: &[Shape]) -> Self {
        let world = World::write(dir, shapes);
        let mut daemons: Vec<Daemon> = (0..NAME_SERVERS.len()).map(|level| world.nsd(level, "")).collect();
        let mut unbound = |name: &str, modules: &str| {
            let (daemon, address) = world.unbound(name, modules);
            daemons.push(daemon);
            address
        };
        let validating = unbound("unbound-validating", "validator iterator");
        let forwarding = unbound("unbound-forwarding", "iterator");
        Self { validating, forwarding, root: world.address(0), anchor: world.anchor, _daemons: daemons }
    }
}

/// `dig`'s view of an answer of a server.
pub(crate) fn dig(server: SocketAddr, name: &str, record_type: &str, flags: &[&str]) -> String {
    let (at, port) = (format!("@{}", server.ip()), server.port().to_string());
    let mut dig = Command::new("dig");
    dig.args([&at, "-p", &port, "+dnssec", "+tries=2", "+timeout=30"]).args(flags).args([name, record_type]);
    String::from_utf8_lossy(&run(&mut dig).stdout).into_owned()
}

/// Signed zones in a folder, and where each level of them is served.
pub(crate) struct World<'a> {
    dir: &'a Path,
    shapes: &'a [Shape],
    /// The root's keys.
    pub(crate) anchor: PathBuf,
    port: u16,
}

impl<'a> World<'a> {
    /// Makes the keys and signs the zones.
    pub(crate) fn write(dir: &'a Path, shapes: &'a [Shape]) -> Self {
        Self { dir, shapes, anchor: write_zones(dir, shapes), port: free_port(&NAME_SERVERS) }
    }

    /// Where the zones of a level are served: the root, the top-level domains, all others.
    pub(crate) fn address(&self, level: usize) -> SocketAddr {
        (NAME_SERVERS[level], self.port).into()
    }

    /// The zones of a level with their files.
    pub(crate) fn zones(&self, level: usize) -> impl Iterator<Item = (&str, String)> {
        let served = self.shapes.iter().filter(move |shape| level_of(&shape.name) == level);
        served.map(|shape| (shape.name.as_str(), format!("{}.zone.signed", shape.file())))
    }

    /// NSD with a level of zones, and perhaps options of its own.
    pub(crate) fn nsd(&self, level: usize, options: &str) -> Daemon {
        self.nsd_at(self.address(level), level, options)
    }

    /// The same at another address.
    pub(crate) fn nsd_at(&self, address: SocketAddr, level: usize, options: &str) -> Daemon {
        let conf = self.nsd_conf(address, level, options);
        let log = self.dir.join(format!("nsd{level}.log"));
        let mut nsd = Daemon::start("nsd", &command("nsd", &["-d", "-c"], &conf), &log);
        nsd.wait_until_it_listens(address);
        nsd
    }

    /// The configuration of that NSD.
    pub(crate) fn nsd_conf(&self, address: SocketAddr, level: usize, options: &str) -> PathBuf {
        let conf = self.dir.join(format!("nsd{level}.conf"));
        std::fs::write(&conf, nsd_conf(self.dir, address, options, self.zones(level))).unwrap();
        conf
    }

    /// Unbound that knows where each zone is served.
    pub(crate) fn unbound(&self, name: &str, modules: &str) -> (Daemon, SocketAddr) {
        let address = SocketAddr::from((RESOLVER_IP, free_port(&[RESOLVER_IP])));
        let conf = self.dir.join(format!("{name}.conf"));
        let text = unbound_conf(self.dir, address, modules, &self.anchor) + &stubs(self.shapes, self.port);
        std::fs::write(&conf, text).unwrap();
        let log = self.dir.join(format!("{name}.log"));
        let mut unbound = Daemon::start(name, &command("unbound", &["-d", "-c"], &conf), &log);
        unbound.wait_until_it_listens(address);
        (unbound, address)
    }
}

/// Which server has a zone.
fn level_of(zone: &str) -> usize {
    match zone {
        "." => 0,
        _ => zone.matches('.').count().min(2),
    }
}

/// The name of the server of a zone.
fn server_of(zone: &str) -> String {
    format!("ns{}.test.", level_of(zone))
}

/// The nearest zone above.
fn parent<'a>(shapes: &'a [Shape], zone: &str) -> Option<&'a Shape> {
    let above = |shape: &&Shape| shape.name == "." || zone.ends_with(&format!(".{}", shape.name));
    shapes.iter().filter(|shape| shape.name != zone).filter(above).max_by_key(|shape| shape.name.len())
}

/// Writes and signs all zone files; gives the anchor.
fn write_zones(dir: &Path, shapes: &[Shape]) -> PathBuf {
    let keys: Vec<Vec<String>> = shapes.iter().map(|shape| shape.make_keys(dir)).collect();
    for shape in shapes {
        let (zone, server) = (&shape.name, server_of(&shape.name));
        let mut text = format!(
            "$ORIGIN {zone}\n@ 300 IN SOA {server} hostmaster.test. 1 3600 900 604800 300\n@ 300 IN NS {server}\n"
        );
        text += &shape.lines;
        for (child, keys) in shapes.iter().zip(&keys) {
            if child.name != "." && parent(shapes, &child.name).is_some_and(|parent| parent.name == *zone) {
                text += &delegation(dir, shape, child, keys);
            }
        }
        std::fs::write(dir.join(format!("{}.zone", shape.file())), text).unwrap();
    }
    for (shape, keys) in shapes.iter().zip(&keys) {
        shape.sign(dir, keys);
    }
    let anchor = dir.join("root.key");
    let key = std::fs::read_to_string(dir.join(format!("{}.key", keys[0][0]))).unwrap();
    let key: Vec<&str> = key.lines().filter(|line| !line.starts_with(';')).collect();
    std::fs::write(&anchor, key.join("\n") + "\n").unwrap();
    anchor
}

/// NS and DS records of a child, and the glue that the root needs.
fn delegation(dir: &Path, zone: &Shape, child: &Shape, keys: &[String]) -> String {
    let (name, server) = (&child.name, server_of(&child.name));
    let mut text = format!("{name} 300 IN NS {server}\n");
    text += &child.delegation(dir, keys);
    if zone.name == "." {
        writeln!(text, "{server} 300 IN A {}", NAME_SERVERS[1]).unwrap();
    }
    text
}

fn nsd_conf<'a>(
    dir: &Path,
    address: SocketAddr,
    options: &str,
    zones: impl Iterator<Item = (&'a str, String)>,
) -> String {
    let (dir, ip, port) = (dir.display(), address.ip(), address.port());
    let mut conf = format!(
        "server:\n  ip-address: {ip}@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  database: \"\"\n  \
         zonelistfile: \"{dir}/{ip}.list\"\n  xfrdfile: \"{dir}/{ip}.xfrd\"\n  xfrdir: \"{dir}\"\n  \
         pidfile: \"{dir}/{ip}.pid\"\n  server-count: 1\n{options}remote-control:\n  control-enable: no\n",
    );
    for (name, file) in zones {
        write!(conf, "zone:\n  name: \"{name}\"\n  zonefile: \"{file}\"\n").unwrap();
    }
    conf
}

fn unbound_conf(dir: &Path, address: SocketAddr, modules: &str, anchor: &Path) -> String {
    let (ip, port, dir, anchor) = (address.ip(), address.port(), dir.display(), anchor.display());
    format!(
        "server:\n  interface: {ip}@{port}\n  port: {port}\n  username: \"\"\n  chroot: \"\"\n  directory: \"{dir}\"\n  \
         pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  do-ip6: no\n  num-threads: 1\n  val-log-level: 2\n  \
         do-not-query-localhost: no\n  access-control: 127.0.0.0/8 allow\n  module-config: \"{modules}\"\n  \
         local-zone: \"test.\" nodefault\n  trust-anchor-file: \"{anchor}\"\nremote-control:\n  control-enable: no\n",
    )
}

/// Where Unbound finds each zone: a delegation cannot name the port. The zone whose data keeps its
/// capitals is read by Unbound itself, because NSD would serve it in small letters.
fn stubs(shapes: &[Shape], port: u16) -> String {
    shapes.iter().fold(String::new(), |mut text, shape| {
        let (ip, file) = (NAME_SERVERS[level_of(&shape.name)], shape.file());
        if shape.name == WITH_CAPITALS {
            let read = "for-upstream: yes\n  for-downstream: no\n  fallback-enabled: no";
            write!(text, "auth-zone:\n  name: \"{}\"\n  {read}\n  zonefile: \"{file}.zone.signed\"\n", shape.name)
                .unwrap();
            return text;
        }
        write!(text, "stub-zone:\n  name: \"{}\"\n  stub-addr: {ip}@{port}\n", shape.name).unwrap();
        text
    })
}
