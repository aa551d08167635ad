//! Asks the system which addresses it knows a way to. Nothing is sent.

use rustix::io::Errno;
use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};

/// Any port: it makes no difference to the way.
const ANY_PORT: u16 = 25;

/// Those of the addresses that packets from this host cannot go to.
pub(super) fn without_route(addresses: impl Iterator<Item = IpAddr>) -> BTreeSet<IpAddr> {
    addresses.filter(|address| !has_route(*address)).collect()
}

/// A datagram socket that is connected has looked for the way and sent nothing. A failure that is
/// not about the way says nothing about it.
fn has_route(address: IpAddr) -> bool {
    let own: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let connected = UdpSocket::bind((own, 0)).and_then(|socket| socket.connect((address, ANY_PORT)));
    let no_way =
        [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT, Errno::ACCESS, Errno::INVAL];
    match connected {
        Ok(()) => true,
        Err(error) => !Errno::from_io_error(&error).is_some_and(|errno| no_way.contains(&errno)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6724_6_an_address_of_a_link_that_is_not_named_cannot_be_reached() {
        let (here, nowhere) = (IpAddr::from([127, 0, 0, 1]), "fe80::1".parse().unwrap());
        assert_eq!(without_route([here, nowhere].into_iter()), [nowhere].into());
    }
}
