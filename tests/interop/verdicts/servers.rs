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
const NAME_SERVERS: [Ipv4Addr; 3] =
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
        let anchor = write_zones(dir, shapes);
        let port = free_port(&NAME_SERVERS);
        let mut daemons = Vec::new();
        for (level, ip) in NAME_SERVERS.into_iter().enumerate() {
            let address = SocketAddr::from((ip, port));
            let served = shapes.iter().filter(|shape| level_of(&shape.name) == level);
            let conf = dir.join(format!("nsd{level}.conf"));
            std::fs::write(&conf, nsd_conf(dir, address, served)).unwrap();
            let log = dir.join(format!("nsd{level}.log"));
            let mut nsd = Daemon::start("nsd", &command("nsd", &["-d", "-c"], &conf), &log);
            nsd.wait_until_it_listens(address);
            daemons.push(nsd);
        }
        let mut unbound = |name: &str, modules: &str| {
            let address = SocketAddr::from((RESOLVER_IP, free_port(&[RESOLVER_IP])));
            let conf = dir.join(format!("{name}.conf"));
            let text = unbound_conf(dir, address, modules, &anchor) + &stubs(shapes, port);
            std::fs::write(&conf, text).unwrap();
            let log = dir.join(format!("{name}.log"));
            let mut unbound = Daemon::start(name, &command("unbound", &["-d", "-c"], &conf), &log);
            unbound.wait_until_it_listens(address);
            daemons.push(unbound);
            address
        };
        let validating = unbound("unbound-validating", "validator iterator");
        let forwarding = unbound("unbound-forwarding", "iterator");
        let root = SocketAddr::from((NAME_SERVERS[0], port));
        Self { validating, forwarding, root, anchor, _daemons: daemons }
    }

    /// `dig`'s view of an answer of the validating resolver.
    pub(crate) fn dig(&self, name: &str, record_type: &str, flags: &[&str]) -> String {
        let server = format!("@{}", self.validating.ip());
        let port = self.validating.port().to_string();
        let mut dig = Command::new("dig");
        dig.args([&server, "-p", &port, "+dnssec", "+tries=2"]).args(flags).args([name, record_type]);
        String::from_utf8_lossy(&run(&mut dig).stdout).into_owned()
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

fn nsd_conf<'a>(dir: &Path, address: SocketAddr, shapes: impl Iterator<Item = &'a Shape>) -> String {
    let (dir, ip, port) = (dir.display(), address.ip(), address.port());
    let mut conf = format!(
        "server:\n  ip-address: {ip}@{port}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  database: \"\"\n  \
         zonelistfile: \"{dir}/{ip}.list\"\n  xfrdfile: \"{dir}/{ip}.xfrd\"\n  xfrdir: \"{dir}\"\n  \
         pidfile: \"{dir}/{ip}.pid\"\n  server-count: 1\nremote-control:\n  control-enable: no\n",
    );
    for shape in shapes {
        write!(conf, "zone:\n  name: \"{}\"\n  zonefile: \"{}.zone.signed\"\n", shape.name, shape.file()).unwrap();
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
