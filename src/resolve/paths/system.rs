//! The servers of `/etc/resolv.conf`, for as long as it names them (resolv.conf(5)).
//!
//! Only its `nameserver` lines count. An address of a link keeps its scope (RFC 4007 §11). The file
//! is looked at again now and then, and read when it is another one; one that cannot be read or
//! names nobody, as while somebody writes it, leaves the servers as they are.

#![expect(clippy::disallowed_methods, reason = "this driver reads /etc/resolv.conf")]

use crate::config::files::open_regular;
use std::fs::{File, Metadata};
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// What is read of the file; a real one has some hundred octets.
const FILE_LIMIT: u64 = 65_536;
/// Servers that count; resolv.conf(5) knows three.
const SERVERS_LIMIT: usize = 8;
/// How often the file is looked at, at most.
const LOOK_EVERY: Duration = Duration::from_secs(2);
/// The interfaces with IPv6, and what is read of it.
const INTERFACES: &str = "/proc/net/if_inet6";
const TABLE_LIMIT: u64 = 1_048_576;
/// The port of DNS.
const PORT: u16 = 53;

/// The file, and how it was when it was looked at.
#[derive(Debug)]
pub(super) struct ResolvConf {
    path: PathBuf,
    looked: Mutex<Looked>,
}

#[derive(Debug)]
struct Looked {
    at: Instant,
    stamp: Option<Stamp>,
}

/// Two that are equal are of the same content.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    changed: (i64, i64),
}

impl From<Metadata> for Stamp {
    fn from(of: Metadata) -> Self {
        Self { device: of.dev(), inode: of.ino(), length: of.len(), changed: (of.ctime(), of.ctime_nsec()) }
    }
}

impl ResolvConf {
    pub(super) fn new(path: &Path) -> Self {
        let looked = Looked { at: Instant::now(), stamp: stamp(path) };
        Self { path: path.to_owned(), looked: Mutex::new(looked) }
    }

    /// Whether it is another file than before. Looks at most every other second, and reads nothing.
    pub(super) fn has_changed(&self) -> bool {
        let mut looked = self.looked.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if now.saturating_duration_since(looked.at) < LOOK_EVERY {
            return false;
        }
        let stamp = stamp(&self.path);
        let has_changed = stamp != looked.stamp;
        *looked = Looked { at: now, stamp };
        has_changed
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    std::fs::metadata(path).ok().map(Stamp::from)
}

/// The servers that a file names, in its order.
pub(super) fn read(path: &Path) -> io::Result<Vec<SocketAddr>> {
    Ok(servers(&String::from_utf8_lossy(&octets(path)?), index_of))
}

/// What there is in the file.
pub(super) fn octets(path: &Path) -> io::Result<Vec<u8>> {
    let mut octets = Vec::new();
    open_regular(path)?.take(FILE_LIMIT).read_to_end(&mut octets)?;
    Ok(octets)
}

fn servers(text: &str, index_of: impl Fn(&str) -> Option<u32>) -> Vec<SocketAddr> {
    let mut servers = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(server) = words.next().filter(|word| *word == "nameserver").and_then(|_| words.next()) else {
            continue;
        };
        if let Some(server) = server_at(server, &index_of)
            && !servers.contains(&server)
            && servers.len() < SERVERS_LIMIT
        {
            servers.push(server);
        }
    }
    servers
}

/// `192.0.2.1`, `2001:db8::1`, `fe80::1%eth0`, `fe80::1%2`. An interface that is not there leaves an
/// address that leads nowhere, and is named so.
fn server_at(text: &str, index_of: impl Fn(&str) -> Option<u32>) -> Option<SocketAddr> {
    let Some((address, zone)) = text.split_once('%') else {
        return text.parse().ok().map(|ip: IpAddr| SocketAddr::new(ip, PORT));
    };
    let address: Ipv6Addr = address.parse().ok()?;
    let scope = zone.parse().ok().or_else(|| index_of(zone)).unwrap_or(0);
    Some(SocketAddrV6::new(address, PORT, 0, scope).into())
}

/// The number of a network interface that has IPv6, by the table of this network namespace.
fn index_of(interface: &str) -> Option<u32> {
    let mut table = String::new();
    File::open(INTERFACES).ok()?.take(TABLE_LIMIT).read_to_string(&mut table).ok()?;
    index_in(&table, interface)
}

/// Each line: address, number, length of the prefix, scope, flags, name; numbers in hexadecimal.
fn index_in(table: &str, interface: &str) -> Option<u32> {
    table.lines().find_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let number = words.nth(1)?;
        (words.nth(3)? == interface).then(|| u32::from_str_radix(number, 16).ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> Vec<String> {
        let index_of = |interface: &str| (interface == "eth0").then_some(7);
        servers(text, index_of).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pipe_in_place_of_the_file_is_not_waited_for() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        rustix::fs::mknodat(rustix::fs::CWD, &path, rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
        let told = octets(&path).unwrap_err().to_string();
        assert!(told.contains("is a pipe"), "{told}");
    }

    #[test]
    fn rfc4007_11_an_address_of_a_link_keeps_its_scope() {
        let text = "nameserver fe80::1%eth0\nnameserver fe80::2%3\nnameserver fe80::3%gone\n";
        assert_eq!(shown(text), ["[fe80::1%7]:53", "[fe80::2%3]:53", "[fe80::3]:53"]);
        let table = "00000000000000000000000000000001 01 80 10 80       lo\n\
                     fe80000000000000508 1f 40 20 80     eth0\nbroken\n\n";
        assert_eq!(
            ["lo", "eth0", "eth", "", "broken"].map(|i| index_in(table, i)),
            [Some(1), Some(31), None, None, None]
        );
    }

    #[test]
    fn only_the_servers_of_the_file_count_and_each_once() {
        let text = "# nameserver 192.0.2.9\n; nameserver 192.0.2.8\nsearch a.test\noptions edns0 ndots:5\n\
                    nameserver 192.0.2.1 # first\n  nameserver\t2001:db8::1\nnameserver 192.0.2.1\nnameserver\n\
                    nameserver nobody\nnameservers 192.0.2.7\nsortlist 192.0.2.0/24\r\n";
        assert_eq!(shown(text), ["192.0.2.1:53", "[2001:db8::1]:53"]);
        let many: String = (0..100).map(|n| format!("nameserver 192.0.2.{n}\n")).collect();
        assert_eq!(shown(&many).len(), SERVERS_LIMIT);
    }

    #[tokio::test(start_paused = true)]
    async fn a_file_is_looked_at_now_and_then_and_has_changed_when_it_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("resolv.conf");
        std::fs::write(&path, "nameserver 192.0.2.1\n").unwrap();
        let file = ResolvConf::new(&path);
        let mut changes = Vec::new();
        let mut look = |change: &dyn Fn()| {
            change();
            changes.push(file.has_changed());
        };
        let replace = |text: &str| {
            let new = folder.path().join("new");
            std::fs::write(&new, text).unwrap();
            std::fs::rename(&new, &path).unwrap();
        };
        tokio::time::advance(LOOK_EVERY).await;
        look(&|| {});
        look(&|| replace("nameserver 192.0.2.2\n"));
        tokio::time::advance(LOOK_EVERY).await;
        look(&|| {});
        tokio::time::advance(LOOK_EVERY).await;
        look(&|| {});
        look(&|| std::fs::remove_file(&path).unwrap());
        tokio::time::advance(LOOK_EVERY).await;
        look(&|| {});
        assert_eq!(changes, [false, false, true, false, false, true]);
        assert!(read(&path).is_err());
    }
}
