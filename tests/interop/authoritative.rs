//! The relay as its own resolver among name servers that we did not write, with the options that people
//! give them: terse, sparing of UDP, without EDNS, lame, dead, behind a filter; and on hosts that have
//! IPv4 or IPv6 only (RFC 1034 §5.3.3, RFC 6891 §6.2.2, RFC 7766 §5). All of it stands in two networks of
//! the test's own.

use crate::daemon::{Daemon, both, run};
use crate::namespace::Namespace;
use crate::verdicts::signer::{Ds, Shape};
use crate::world::open_temp_dir;
use std::fmt::Write as _;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// Where the servers are, by the last number of their addresses in both families.
const ROOT: u8 = 1;
const TOP: u8 = 2;
/// BIND: short answers, small datagrams, cookies demanded.
const BIND: u8 = 11;
/// NSD: short answers, small datagrams, and every second one says only that TCP is there.
const NSD: u8 = 12;
/// The same NSD where no datagram gets through.
const TCP_ONLY: u8 = 13;
/// ldnsd, which knows no EDNS, no TCP, no SOA record in a denial.
const OLD: u8 = 14;
/// Addresses of the host where nobody listens.
const DEAD: [u8; 3] = [21, 22, 23];
/// Addresses of no host.
const NOWHERE: [u8; 2] = [31, 32];
/// Where the relay asks from.
const RELAY: u8 = 200;

/// Records of a TLSA set that fits into no small datagram.
const MANY: usize = 13;

/// A zone below `test.`, who serves it, and over which families its servers have addresses.
struct Served {
    shape: Shape,
    servers: Vec<u8>,
    families: &'static [Family],
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Four,
    Six,
}
use Family::{Four, Six};

fn address(family: Family, last: u8) -> IpAddr {
    match family {
        Four => Ipv4Addr::new(192, 0, 2, last).into(),
        Six => Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into()).into(),
    }
}

fn zones() -> Vec<Served> {
    let lines = (1..=MANY).fold("mx 300 IN A 127.0.1.1\n@ 300 IN MX 10 mx\n".to_owned(), |mut lines, n| {
        writeln!(lines, "_25._tcp.mx 300 IN TLSA 3 1 1 {n:064x}").unwrap();
        lines
    });
    let both = |shape, servers: &[u8]| Served { shape, servers: servers.to_vec(), families: &[Four, Six] };
    let signed = |name: &str, servers: &[u8]| both(Shape::new(name, &lines), servers);
    vec![
        signed("bind.test.", &[BIND]),
        signed("nsd.test.", &[NSD]),
        signed("tcp.test.", &[TCP_ONLY]),
        // BIND refuses questions about what it does not have.
        signed("lame.test.", &[BIND, NSD]),
        signed("dead.test.", &[&DEAD[..], &NOWHERE, &[NSD]].concat()),
        Served { families: &[Four], ..signed("four.test.", &[NSD]) },
        Served { families: &[Six], ..signed("six.test.", &[NSD]) },
        Served { families: &[Four], ..both(Shape::unsigned("old.test.", Ds::Absent, &lines), &[OLD]) },
    ]
}

/// The names of a zone's servers, with their addresses.
fn name_servers(served: &Served) -> String {
    let zone = &served.shape.name;
    served.servers.iter().fold(String::new(), |mut text, last| {
        writeln!(text, "{zone} 300 IN NS ns{last}.{zone}").unwrap();
        for family in served.families {
            let record_type = if *family == Four { "A" } else { "AAAA" };
            writeln!(text, "ns{last}.{zone} 300 IN {record_type} {}", address(*family, *last)).unwrap();
        }
        text
    })
}

/// Signs everything; the anchor is `root.key`.
fn write_zones(dir: &Path, zones: &[Served]) {
    let at = |shape, last| Served { shape, servers: vec![last], families: &[Four, Six] };
    let (mut root, mut top) = (at(Shape::new(".", ""), ROOT), at(Shape::new("test.", ""), TOP));
    // Below the root there is no zone for the names of its servers.
    let root_servers = name_servers(&root).replace("ns1..", "ns1.root.");
    for served in zones {
        top.shape.lines += &(name_servers(served) + &sign(dir, &served.shape, &name_servers(served)).0);
    }
    let (ds, _) = sign(dir, &top.shape, &name_servers(&top));
    root.shape.lines = name_servers(&top) + &ds;
    let (_, keys) = sign(dir, &root.shape, &root_servers);
    let key = std::fs::read_to_string(dir.join(format!("{}.key", keys[0]))).unwrap();
    let key: String = key.lines().filter(|line| !line.starts_with(';')).map(|line| format!("{line}\n")).collect();
    std::fs::write(dir.join("root.key"), key).unwrap();
}

/// Writes and signs a zone; gives its DS records and its keys.
fn sign(dir: &Path, shape: &Shape, servers: &str) -> (String, Vec<String>) {
    let keys = shape.make_keys(dir);
    let zone = &shape.name;
    let text = format!("$ORIGIN {zone}\n@ 300 IN SOA ns.test. hostmaster.test. 1 3600 900 604800 300\n{servers}");
    std::fs::write(dir.join(format!("{}.zone", shape.file())), text + &shape.lines).unwrap();
    shape.sign(dir, &keys);
    (shape.delegation(dir, &keys), keys)
}

/// The servers, in a network that the relay's host is joined to.
struct World {
    host: Namespace,
    dir: tempfile::TempDir,
    zones: Vec<Served>,
    _servers: Namespace,
    _daemons: Vec<Daemon>,
}

impl World {
    fn start() -> Self {
        let (dir, zones) = (open_temp_dir(), zones());
        write_zones(dir.path(), &zones);
        let (servers, host) = (Namespace::new(dir.path(), "servers"), Namespace::new(dir.path(), "host"));
        servers.join("servers", &host, "host");
        for family in [Four, Six] {
            for last in [ROOT, TOP, BIND, NSD, TCP_ONLY, OLD].into_iter().chain(DEAD) {
                servers.add_address("servers", address(family, last), bits(family));
            }
            servers.lose_datagrams_from(address(family, TCP_ONLY));
            host.add_address("host", address(family, RELAY), bits(family));
        }
        let daemons = daemons(dir.path(), &servers, &host, &zones);
        for (last, zone, premise) in
            [(TCP_ONLY, "tcp.test.", "no datagram comes"), (BIND, "lame.test.", "it has no such zone")]
        {
            assert!(host.is_answered(address(Four, last), zone, &[]).is_none(), "{zone}: {premise}");
        }
        Self { host, dir, zones, _servers: servers, _daemons: daemons }
    }

    /// What the relay says of a name: status, code, and the number of records; for messages, all of it.
    fn ask(&self, name: &str, record_type: &str) -> (String, String) {
        let hints = [Four, Six].map(|family| format!("\"{}\"", std::net::SocketAddr::new(address(family, ROOT), 53)));
        let (anchor, file) = (self.dir.path().join("root.key"), self.dir.path().join("relay.toml"));
        let hints = hints.join(", ");
        let config =
            format!("[dns]\nupstreams = [\"authoritative\"]\nroot_hints = [{hints}]\ntrust_anchors = {anchor:?}\n");
        std::fs::write(&file, config).unwrap();
        let file = file.to_string_lossy();
        let arguments = ["dns", name, record_type, "--json", "--config", &file];
        let output = run(&mut self.host.within(env!("CARGO_BIN_EXE_relay"), &arguments));
        let json: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{name}: {e}: {}", both(&output)));
        let records = json["records"].as_array().map_or(0, Vec::len);
        let said = format!("{} {} {records}", json["status"].as_str().unwrap(), json["rcode"].as_str().unwrap_or("-"));
        (said, json.to_string())
    }

    /// Asks for all that there is in the zones that can be reached over one of these families.
    fn all_are_found_over(&self, families: &[Family]) {
        let mut wrong = Vec::new();
        let mut expect = |name: &str, record_type: &str, expected: &str| {
            let (said, all) = self.ask(name, record_type);
            if said != expected {
                wrong.push(format!("{name} {record_type}: {expected} is right: {all}"));
            }
        };
        for served in &self.zones {
            let zone = served.shape.name.trim_end_matches('.');
            let (host, tlsa) = (format!("mx.{zone}"), format!("_25._tcp.mx.{zone}"));
            if !served.families.iter().any(|family| families.contains(family)) {
                expect(&host, "A", "error - 0");
            } else if zone == "old.test" {
                expect(&host, "A", "insecure NOERROR 1");
                expect(&host, "AAAA", "insecure NOERROR 0");
            } else {
                expect(&host, "A", "secure NOERROR 1");
                expect(&tlsa, "TLSA", &format!("secure NOERROR {MANY}"));
                expect(&format!("none.{zone}"), "MX", "secure NXDOMAIN 0");
            }
        }
        assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    }
}

const fn bits(family: Family) -> u8 {
    match family {
        Four => 24,
        Six => 64,
    }
}

fn daemons(dir: &Path, servers: &Namespace, host: &Namespace, zones: &[Served]) -> Vec<Daemon> {
    let with = |last: u8| zones.iter().filter(move |s| s.servers.contains(&last)).map(|s| s.shape.name.as_str());
    let of_nsd: Vec<&str> = with(NSD).chain(with(TCP_ONLY)).collect();
    let sparing = "  minimal-responses: yes\n  refuse-any: yes\n  ipv4-edns-size: 512\n  ipv6-edns-size: 512\n  \
                   rrl-ratelimit: 1\n  rrl-slip: 2\n";
    let mut daemons = Vec::new();
    for (name, at, options, zones) in [
        ("root", &[ROOT][..], "", vec!["."]),
        ("top", &[TOP], "", vec!["test."]),
        ("hoster", &[NSD, TCP_ONLY], sparing, of_nsd),
    ] {
        let conf = dir.join(format!("{name}.conf"));
        std::fs::write(&conf, nsd_conf(dir, name, at, options) + &nsd_zones(&zones)).unwrap();
        let log = dir.join(format!("{name}.log"));
        let mut nsd = servers.start("nsd", &["-d", "-c", &conf.to_string_lossy()], &log);
        nsd.wait_until("answers", || host.is_answered(address(Four, at[0]), zones[0], &["+tcp"]));
        daemons.push(nsd);
    }
    let (conf, bind_zones) = (dir.join("named.conf"), with(BIND).filter(|zone| *zone != "lame.test."));
    std::fs::write(&conf, named_conf(dir, bind_zones)).unwrap();
    let mut named = servers.start("named", &["-g", "-c", &conf.to_string_lossy()], &dir.join("named.log"));
    named.wait_until("answers", || host.is_answered(address(Four, BIND), "bind.test.", &["+tcp"]));
    let (ip, file) = (address(Four, OLD).to_string(), dir.join("old-test.zone"));
    let mut ldnsd = servers.start("ldnsd", &[&ip, "53", "old.test.", &file.to_string_lossy()], &dir.join("ldnsd.log"));
    ldnsd.wait_until("answers", || host.is_answered(address(Four, OLD), "old.test.", &["+noedns"]));
    daemons.extend([named, ldnsd]);
    daemons
}

fn nsd_conf(dir: &Path, name: &str, at: &[u8], options: &str) -> String {
    let dir = dir.display();
    let addresses = at.iter().flat_map(|last| [Four, Six].map(|family| address(family, *last)));
    let addresses: String = addresses.map(|ip| format!("  ip-address: {ip}\n")).collect();
    format!(
        "server:\n{addresses}  port: 53\n  username: \"\"\n  chroot: \"\"\n  zonesdir: \"{dir}\"\n  database: \"\"\n  \
         zonelistfile: \"{dir}/{name}.list\"\n  xfrdfile: \"{dir}/{name}.xfrd\"\n  xfrdir: \"{dir}\"\n  \
         pidfile: \"{dir}/{name}.pid\"\n  server-count: 1\n{options}remote-control:\n  control-enable: no\n",
    )
}

fn nsd_zones(zones: &[&str]) -> String {
    let zone = |name: &&str| format!("zone:\n  name: \"{name}\"\n  zonefile: \"{}.zone.signed\"\n", file(name));
    zones.iter().map(zone).collect()
}

fn named_conf<'a>(dir: &Path, zones: impl Iterator<Item = &'a str>) -> String {
    let (four, six) = (address(Four, BIND), address(Six, BIND));
    let options = format!(
        "options {{\n directory \"{}\"; pid-file none; session-keyfile none;\n listen-on port 53 {{ {four}; }}; \
         listen-on-v6 port 53 {{ {six}; }};\n recursion no; notify no; allow-transfer {{ none; }}; \
         dnssec-validation no;\n minimal-responses yes; minimal-any yes; max-udp-size 512; require-server-cookie yes;\n}};\n\
         controls {{ }};\n",
        dir.display()
    );
    let zone = |name: &str| format!("zone \"{name}\" {{ type primary; file \"{}.zone.signed\"; }};\n", file(name));
    options + &zones.map(zone).collect::<String>()
}

/// As [`Shape::file`].
fn file(zone: &str) -> String {
    Shape::new(zone, "").file()
}

/// With validation deciding what is true, everything is found that a resolver finds, whatever the servers
/// are like; and the family that a host has is enough.
#[test]
fn rfc1034_5_3_3_what_real_servers_have_is_found_whatever_they_are_like() {
    let world = World::start();
    world.all_are_found_over(&[Four, Six]);
    world.host.flush("host", 4);
    world.all_are_found_over(&[Six]);
    world.host.add_address("host", address(Four, RELAY), bits(Four));
    world.host.flush("host", 6);
    world.all_are_found_over(&[Four]);
}
