//! Unbound as validating resolver with our own trust anchor (RFC 4035 §5), as it stands in front
//! of a relay in the field; and `unbound-host`'s and `dig`'s view of it.

use crate::daemon::{Daemon, free_address, run_ok};
use crate::zone::{Authority, command, stub_zones};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;

/// A running Unbound.
pub(crate) struct Resolver {
    /// Where it answers.
    pub(crate) address: SocketAddr,
    _unbound: Daemon,
}

impl Resolver {
    /// Starts it in front of our name server.
    pub(crate) fn start(dir: &Path, authority: &Authority) -> Self {
        Self::start_at(dir, authority, free_address())
    }

    /// The same at an address of the caller's choice.
    pub(crate) fn start_at(dir: &Path, authority: &Authority, address: SocketAddr) -> Self {
        let conf = dir.join("unbound.conf");
        std::fs::write(&conf, unbound_conf(dir, address, authority)).unwrap();
        let mut unbound = Daemon::start("unbound", &command("unbound", &["-d", "-c"], &conf), &dir.join("unbound.log"));
        unbound.wait_until_it_listens(address);
        Self { address, _unbound: unbound }
    }

    /// `dig`'s answer with DNSSEC records, header flags included.
    pub(crate) fn dig(&self, name: &str, record_type: &str) -> String {
        let server = format!("@{}", self.address.ip());
        let port = self.address.port().to_string();
        run_ok(Command::new("dig").args([&server, "-p", &port, "+dnssec", "+tries=2", name, record_type]))
    }
}

fn unbound_conf(dir: &Path, address: SocketAddr, authority: &Authority) -> String {
    let (ip, port) = (address.ip(), address.port());
    format!(
        "server:\n  interface: {ip}@{port}\n  port: {port}\n  username: \"\"\n  chroot: \"\"\n  directory: \"{}\"\n  \
         pidfile: \"\"\n  use-syslog: no\n  do-daemonize: no\n  do-ip6: no\n  num-threads: 1\n  \
         do-not-query-localhost: no\n  access-control: 127.0.0.0/8 allow\n  module-config: \"validator iterator\"\n  \
         local-zone: \"test.\" nodefault\n  trust-anchor-file: \"{}\"\nremote-control:\n  control-enable: no\n{}",
        dir.display(),
        authority.anchor.display(),
        stub_zones(authority.address),
    )
}
