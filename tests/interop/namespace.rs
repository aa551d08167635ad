//! Networks of a test's own: Linux network namespaces, joined by a pair of virtual interfaces. Nothing in
//! them reaches the machine's network, and they end with the test.

use crate::daemon::{Daemon, run, run_ok};
use std::net::IpAddr;
use std::path::Path;
use std::process::Command;

/// A network namespace, for as long as this is kept.
pub(crate) struct Namespace {
    holder: Daemon,
}

impl Namespace {
    /// A namespace with nothing but a loopback interface.
    pub(crate) fn new(dir: &Path, name: &str) -> Self {
        let mut unshare = Command::new("unshare");
        unshare.args(["--net", "sleep", "infinity"]);
        let name = format!("network namespace {name} (making one needs root)");
        let mut holder = Daemon::start(&name, &unshare, &dir.join("namespace.log"));
        let network = |process: &str| std::fs::read_link(format!("/proc/{process}/ns/net")).ok();
        let process = holder.process().to_string();
        holder.wait_until("is there", || (network(&process)? != network("self")?).then_some(()));
        let namespace = Self { holder };
        namespace.ip("link set lo up");
        namespace
    }

    /// A link to another one, under a name on each side.
    pub(crate) fn join(&self, own: &str, other: &Self, others: &str) {
        self.ip(&format!("link add {own} type veth peer name {others} netns {}", other.holder.process()));
        self.ip(&format!("link set {own} up"));
        other.ip(&format!("link set {others} up"));
    }

    /// An address on one of its interfaces, in a network of that many bits.
    pub(crate) fn add_address(&self, interface: &str, address: IpAddr, bits: u8) {
        let at_once = if address.is_ipv6() { " nodad" } else { "" };
        self.ip(&format!("address add {address}/{bits} dev {interface}{at_once}"));
    }

    /// Takes all addresses of a family from an interface: `4` or `6`.
    pub(crate) fn flush(&self, interface: &str, family: u8) {
        self.ip(&format!("-{family} address flush dev {interface}"));
    }

    /// What a server sends from port 53 of an address by UDP is lost; TCP is not touched.
    pub(crate) fn lose_datagrams_from(&self, address: IpAddr) {
        let family = if address.is_ipv6() { 6 } else { 4 };
        self.ip(&format!("-{family} rule add pref 1 from {address} ipproto udp sport 53 blackhole"));
        // The table of own addresses stands before all rules; it has to stand behind this one.
        self.ip(&format!("-{family} rule add pref 5 lookup local"));
        self.ip(&format!("-{family} rule del pref 0"));
    }

    fn ip(&self, arguments: &str) {
        run_ok(&mut self.within("ip", &arguments.split(' ').collect::<Vec<_>>()));
    }

    /// A command that runs in it.
    pub(crate) fn within(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new("nsenter");
        command.args(["--net", "--target", &self.holder.process().to_string(), "--", program]).args(arguments);
        command
    }

    /// A daemon in it.
    pub(crate) fn start(&self, program: &str, arguments: &[&str], log: &Path) -> Daemon {
        Daemon::start(program, &self.within(program, arguments), log)
    }

    /// Whether a name server answers a question from here.
    pub(crate) fn is_answered(&self, server: IpAddr, zone: &str, flags: &[&str]) -> Option<()> {
        let at = format!("@{server}");
        let mut dig = self.within("dig", &[&at, "+norec", "+tries=1", "+timeout=1", zone, "SOA"]);
        String::from_utf8_lossy(&run(dig.args(flags)).stdout).contains("status: NOERROR").then_some(())
    }
}
