//! Our own signed DNS: a root zone and `test.`, written as zone files, signed by
//! `ldns-signzone` (RFC 4035; NSEC in the root, NSEC3 below, RFC 5155), served by NSD.
//!
//! `plain.test.` is delegated without a DS record: everything below it is provably unsigned.

use crate::daemon::{Daemon, free_address, run_ok};
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The zones we serve: (name, file).
const ZONES: [(&str, &str); 3] = [(".", "root"), ("test.", "test"), ("plain.test.", "plain")];

/// What the zones say beyond their own SOA and NS records.
#[derive(Default)]
pub(crate) struct ZoneText {
    test: String,
    plain: String,
}

impl ZoneText {
    /// One MX host for a domain, and its address.
    pub(crate) fn mx(&mut self, domain: &str, host: &str, address: Ipv4Addr) {
        let zone = if is_below_plain(domain) { &mut self.plain } else { &mut self.test };
        writeln!(zone, "{domain}. 300 IN MX 10 {host}.\n{host}. 300 IN A {address}").unwrap();
    }

    /// An address of a name.
    pub(crate) fn address(&mut self, name: &str, address: Ipv4Addr) {
        self.record(name, &format!("A {address}"));
    }

    /// A text at a name.
    pub(crate) fn txt(&mut self, name: &str, text: &str) {
        self.record(name, &format!("TXT \"{text}\""));
    }

    fn record(&mut self, name: &str, record: &str) {
        let zone = if is_below_plain(name) { &mut self.plain } else { &mut self.test };
        writeln!(zone, "{name}. 300 IN {record}").unwrap();
    }

    /// TLSA records (`3 1 1 …`) of an MX host on its port.
    pub(crate) fn tlsa(&mut self, host: &str, port: u16, records: &[String]) {
        let zone = if is_below_plain(host) { &mut self.plain } else { &mut self.test };
        for record in records {
            writeln!(zone, "_{port}._tcp.{host}. 300 IN TLSA {record}").unwrap();
        }
    }

    /// The text of a zone file.
    fn file(&self, zone: &str, delegations: &str) -> String {
        let records = match zone {
            "." => "",
            "test." => &self.test,
            _ => &self.plain,
        };
        format!(
            "{zone} 300 IN SOA ns.test. hostmaster.test. 1 3600 900 604800 300\n\
             {zone} 300 IN NS ns.test.\n{delegations}{records}"
        )
    }
}

fn is_below_plain(name: &str) -> bool {
    name == "plain.test" || name.ends_with(".plain.test")
}

/// A running name server with signed zones.
pub(crate) struct Authority {
    /// Where NSD answers.
    pub(crate) address: SocketAddr,
    /// The root's DNSKEY in the format of Unbound's `root.key`.
    pub(crate) anchor: PathBuf,
    _nsd: Daemon,
}

impl Authority {
    /// Signs the zones with fresh keys and serves them.
    pub(crate) fn start(dir: &Path, text: &ZoneText) -> Self {
        let root_key = keygen(dir, ".");
        let test_key = keygen(dir, "test.");
        let glue = format!("ns.test. 300 IN A {}\n", crate::daemon::DAEMON_IP);
        let ds = std::fs::read_to_string(dir.join(format!("{test_key}.ds"))).unwrap();
        let in_root = format!("test. 300 IN NS ns.test.\n{ds}{glue}");
        let in_test = format!("plain.test. 300 IN NS ns.test.\n{glue}");

        std::fs::write(dir.join("root.zone"), text.file(".", &in_root)).unwrap();
        std::fs::write(dir.join("test.zone"), text.file("test.", &in_test)).unwrap();
        std::fs::write(dir.join("plain.zone.signed"), text.file("plain.test.", "")).unwrap();
        run_ok(Command::new("ldns-signzone").current_dir(dir).args(["root.zone", &root_key]));
        run_ok(Command::new("ldns-signzone").current_dir(dir).args(["-n", "-t", "0", "test.zone", &test_key]));

        let anchor = dir.join("root.key");
        let key = std::fs::read_to_string(dir.join(format!("{root_key}.key"))).unwrap();
        std::fs::write(&anchor, key.split(';').next().unwrap().trim_end().to_owned() + "\n").unwrap();

        let address = free_address();
        std::fs::write(dir.join("nsd.conf"), nsd_conf(dir, address)).unwrap();
        let command = command("nsd", &["-d", "-c"], &dir.join("nsd.conf"));
        let mut nsd = Daemon::start("nsd", &command, &dir.join("nsd.log"));
        nsd.wait_until_it_listens(address);
        Self { address, anchor, _nsd: nsd }
    }
}

/// A key pair for a zone; gives the base name of its files.
fn keygen(dir: &Path, zone: &str) -> String {
    let name = run_ok(Command::new("ldns-keygen").current_dir(dir).args(["-a", "ECDSAP256SHA256", "-k", zone]));
    name.trim().to_owned()
}

fn nsd_conf(dir: &Path, address: SocketAddr) -> String {
    let dir = dir.display();
    let mut conf = format!(
        "server:\n  ip-address: {}@{}\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  database: \"\"\n  \
         zonelistfile: \"{dir}/zone.list\"\n  xfrdfile: \"{dir}/xfrd.state\"\n  xfrdir: \"{dir}\"\n  \
         pidfile: \"{dir}/nsd.pid\"\n  server-count: 1\nremote-control:\n  control-enable: no\n",
        address.ip(),
        address.port(),
    );
    for (name, file) in ZONES {
        write!(conf, "zone:\n  name: \"{name}\"\n  zonefile: \"{file}.zone.signed\"\n").unwrap();
    }
    conf
}

/// `program args… path`.
pub(crate) fn command(program: &str, args: &[&str], path: &Path) -> Command {
    let mut command = Command::new(program);
    command.args(args).arg(path);
    command
}

/// The zones with where they are served, for the resolver in front.
pub(crate) fn stub_zones(authority: SocketAddr) -> String {
    ZONES.iter().fold(String::new(), |mut text, (name, _)| {
        let (ip, port) = (authority.ip(), authority.port());
        write!(text, "stub-zone:\n  name: \"{name}\"\n  stub-addr: {ip}@{port}\n").unwrap();
        text
    })
}
