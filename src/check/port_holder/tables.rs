//! The tables of the kernel as text: `/proc/net/tcp`, `/proc/net/tcp6`, `/proc/PID/cgroup` (proc(5)).

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

/// The state of a socket that listens.
const LISTENING: &str = "0A";

/// A socket that listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ListeningSocket {
    pub(super) at: SocketAddr,
    /// Its number among the files of the kernel.
    pub(super) inode: u64,
}

/// The sockets of a table that listen; what cannot be read is left out.
pub(super) fn listening(table: &str) -> impl Iterator<Item = ListeningSocket> {
    table.lines().skip(1).filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        let (local, _remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let inode = fields.nth(5)?.parse().ok()?;
        (state == LISTENING).then_some(())?;
        Some(ListeningSocket { at: address(local)?, inode })
    })
}

/// `0100007F:0019`: words of four octets as the machine holds them, and the port.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let port = u16::from_str_radix(port, 16).ok()?;
    let mut octets = Vec::new();
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        octets.extend(word.to_ne_bytes());
    }
    let address: IpAddr = match octets.len() {
        4 => Ipv4Addr::from(<[u8; 4]>::try_from(octets).ok()?).into(),
        16 => Ipv6Addr::from(<[u8; 16]>::try_from(octets).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(address, port))
}

/// Whether a socket at one address keeps another from the other one. The wildcard of IPv6 takes IPv4, too.
pub(super) fn in_the_way(theirs: SocketAddr, ours: SocketAddr) -> bool {
    let (there, here) = (theirs.ip(), ours.ip());
    let covers = |wide: IpAddr, other: IpAddr| wide.is_unspecified() && (wide.is_ipv6() || other.is_ipv4());
    theirs.port() == ours.port() && (there == here || covers(there, here) || covers(here, there))
}

/// The service in which a process runs, by `/proc/PID/cgroup`.
pub(super) fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.strip_prefix("0::"))?;
    path.rsplit('/').find(|part| part.ends_with(".service")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[cfg(target_endian = "little")]
    #[test]
    fn the_sockets_that_listen_are_read_from_the_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:0019 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 17171 1 0\n   \
                     1: 0100007F:0019 0100007F:C350 01 00000000:00000000 00:00000000 00000000     0        0 17172 1 0\n";
        let found: Vec<_> = listening(table).collect();
        assert_eq!(found, [ListeningSocket { at: "127.0.0.1:25".parse().unwrap(), inode: 17171 }]);
        assert_eq!(address("00000000000000000000000001000000:0019"), Some("[::1]:25".parse().unwrap()));
    }

    #[test]
    fn a_wildcard_is_in_the_way_of_every_address_of_its_port() {
        let blocks = |theirs: &str, ours: &str| in_the_way(theirs.parse().unwrap(), ours.parse().unwrap());
        assert!(blocks("127.0.0.1:25", "0.0.0.0:25") && blocks("0.0.0.0:25", "192.0.2.1:25"));
        assert!(blocks("[::]:25", "0.0.0.0:25") && blocks("[::1]:25", "[::]:25"));
        assert!(!blocks("127.0.0.1:25", "192.0.2.1:25") && !blocks("0.0.0.0:26", "0.0.0.0:25"));
        assert!(!blocks("[::1]:25", "0.0.0.0:25"));
    }

    #[test]
    fn the_service_of_a_process_stands_in_its_control_group() {
        assert_eq!(unit("0::/system.slice/exim4.service\n").as_deref(), Some("exim4.service"));
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope\n"), None);
    }
}
