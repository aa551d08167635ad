//! The only door to the network on the way out: connections to mail servers and policy hosts
//! (RFC 5321 §4.5.4.1, RFC 8461 §3.3).
//!
//! What is spoken on a connection does not ask who carries it: TCP in a running relay, a pipe in
//! memory in a simulation.

#![expect(clippy::disallowed_methods, reason = "this is the door: it connects")]

use async_trait::async_trait;
use rustix::io::Errno;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpSocket, TcpStream};

/// For asking for the way; the port makes no difference to it.
const ANY_PORT: u16 = 25;
/// What the system says where there is none.
const NO_WAY: [Errno; 6] =
    [Errno::NETUNREACH, Errno::HOSTUNREACH, Errno::ADDRNOTAVAIL, Errno::AFNOSUPPORT, Errno::ACCESS, Errno::INVAL];

/// Octets in both directions: TCP, TLS over it, or what a simulation has in its place.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Whoever opens connections. How long that may take is the caller's to say.
#[async_trait]
pub trait Network: Send + Sync {
    /// Opens a connection.
    ///
    /// # Errors
    /// What the system said.
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>>;

    /// Opens a connection from one of our own addresses.
    ///
    /// # Errors
    /// What the system said; [`SourceUnavailable`] where it does not give us that address.
    async fn connect_from(&self, source: Option<IpAddr>, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        // Whoever has no addresses of its own has them all.
        let _any = source;
        self.connect(address).await
    }

    /// Whether packets can go to an address at all (RFC 6724 §6, rule 1). Nothing is sent.
    fn has_way_to(&self, _address: IpAddr) -> bool {
        true
    }

    /// From which of our own addresses packets go to an address; `None` where that is not known. Nothing is sent.
    fn source_to(&self, _address: IpAddr) -> Option<IpAddr> {
        None
    }

    /// Whether an address is one of this machine's own. Nothing is sent.
    fn is_own(&self, _address: IpAddr) -> bool {
        false
    }
}

/// Where an address leads, by the registry of special addresses (RFC 6890).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    /// To some host of the internet.
    Public,
    /// To this machine: loopback, or no address at all.
    ThisHost,
    /// Into a private network, or one behind a provider's address translation.
    Private,
    /// To the neighbours on a link, and to the metadata of clouds.
    Link,
    /// To no single host: multicast, broadcast, reserved.
    Nowhere,
}

/// The address by which some clouds give their metadata over IPv6; it lies in a private range.
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

impl Reach {
    /// Where an address leads. One of IPv4 is the same in the spellings of IPv6, that of NAT64 among them
    /// (RFC 6052 §2.1).
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(address) => Self::of_v4(address),
            IpAddr::V6(address) => match address.segments() {
                [0x64, 0xff9b, 0, 0, 0, 0, high, low] => {
                    Self::of_v4(Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low)))
                }
                _ if address.is_loopback() || address.is_unspecified() => Self::ThisHost,
                _ if address.is_unicast_link_local() || address == METADATA_V6 => Self::Link,
                _ if address.is_unique_local() => Self::Private,
                _ if address.is_multicast() => Self::Nowhere,
                _ => Self::Public,
            },
        }
    }

    const fn of_v4(address: Ipv4Addr) -> Self {
        match address.octets() {
            [0 | 127, ..] => Self::ThisHost,
            [169, 254, ..] => Self::Link,
            [10, ..] | [172, 16..=31, ..] | [192, 168, ..] | [100, 64..=127, ..] => Self::Private,
            [224..=255, ..] => Self::Nowhere,
            _ => Self::Public,
        }
    }
}

/// The system does not give us the address that we are to send from.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct SourceUnavailable(String);

impl SourceUnavailable {
    /// What the system said, where an error is one of these.
    #[must_use]
    pub fn behind(error: &io::Error) -> Option<String> {
        error.get_ref()?.downcast_ref::<Self>().map(|Self(detail)| detail.clone())
    }
}

/// The machine's own network.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tcp;

#[async_trait]
impl Network for Tcp {
    async fn connect(&self, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let stream = TcpStream::connect(address).await?;
        // Commands are small and each waits for its reply: never hold them back.
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    async fn connect_from(&self, source: Option<IpAddr>, address: SocketAddr) -> io::Result<Box<dyn Stream>> {
        let Some(source) = source else { return self.connect(address).await };
        let socket = if source.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
        socket
            .bind(SocketAddr::new(source, 0))
            .map_err(|error| io::Error::new(error.kind(), SourceUnavailable(error.to_string())))?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Box::new(stream))
    }

    /// A datagram socket that is connected has looked for the way and sent nothing. A failure that
    /// is not about the way says nothing about it.
    fn has_way_to(&self, address: IpAddr) -> bool {
        let Err(error) = way_to(address) else { return true };
        !Errno::from_io_error(&error).is_some_and(|errno| NO_WAY.contains(&errno))
    }

    fn source_to(&self, address: IpAddr) -> Option<IpAddr> {
        way_to(address).and_then(|socket| socket.local_addr()).ok().map(|from| from.ip())
    }

    /// A packet from this machine to itself has the same address at both ends, and no other has. The
    /// system is asked, so that addresses which come and go are followed.
    fn is_own(&self, address: IpAddr) -> bool {
        let plain = address.to_canonical();
        self.source_to(plain).is_some_and(|from| from.to_canonical() == plain)
    }
}

/// A socket that has looked for the way to an address.
fn way_to(address: IpAddr) -> io::Result<UdpSocket> {
    let own: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((own, 0))?;
    socket.connect((address, ANY_PORT))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    use tokio::net::TcpListener;

    #[tokio::test]
    async fn tcp_brings_octets_both_ways_or_says_what_the_system_said() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(Tcp.connect(address), listener.accept());
        let (mut ours, (mut theirs, _)) = (ours.unwrap(), theirs.unwrap());
        ours.write_all(b"EHLO").await.unwrap();
        theirs.write_all(b"250").await.unwrap();
        let (mut here, mut there) = ([0; 3], [0; 4]);
        ours.read_exact(&mut here).await.unwrap();
        theirs.read_exact(&mut there).await.unwrap();
        assert_eq!((&here, &there), (b"250", b"EHLO"));
        drop(listener);
        let refused = Tcp.connect(address).await.err().map(|error| error.kind());
        assert_eq!(refused, Some(io::ErrorKind::ConnectionRefused));
    }

    #[tokio::test]
    async fn a_connection_comes_from_the_address_that_is_asked_for_or_says_that_it_is_not_ours() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (ours, theirs) = tokio::join!(Tcp.connect_from(Some([127, 0, 0, 9].into()), address), listener.accept());
        ours.unwrap();
        assert_eq!(theirs.unwrap().1.ip(), IpAddr::from([127, 0, 0, 9]));
        let error = Tcp.connect_from(Some([192, 0, 2, 77].into()), address).await.err().unwrap();
        assert!(SourceUnavailable::behind(&error).is_some(), "{error}");
        drop(listener);
        let error = Tcp.connect_from(Some([127, 0, 0, 9].into()), address).await.err().unwrap();
        assert_eq!(SourceUnavailable::behind(&error), None, "{error}");
    }

    #[test]
    fn rfc6890_2_2_special_addresses_are_known_in_every_spelling() {
        for (reach, addresses) in [
            (Reach::ThisHost, &["127.0.0.1", "127.9.9.9", "0.0.0.0", "0.1.2.3", "::1", "::", "::ffff:127.0.0.1"][..]),
            (Reach::Link, &["169.254.169.254", "fe80::1", "fd00:ec2::254", "64:ff9b::a9fe:a9fe"]),
            (Reach::Private, &["10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd12::1"]),
            (Reach::Private, &["::ffff:10.0.0.1", "64:ff9b::10.0.0.1"]),
            (Reach::Nowhere, &["224.0.0.1", "255.255.255.255", "240.0.0.1", "ff02::1"]),
            (Reach::Public, &["192.0.2.1", "172.32.0.1", "100.128.0.1", "2001:db8::1", "64:ff9b::198.51.100.1"]),
        ] {
            for address in addresses {
                assert_eq!(Reach::of(address.parse().unwrap()), reach, "{address}");
            }
        }
    }

    #[test]
    fn rfc5321_5_1_own_addresses_are_known_without_a_list() {
        assert!(Tcp.is_own([127, 0, 0, 1].into()));
        assert!(Tcp.is_own("::ffff:127.0.0.1".parse().unwrap()));
        assert!(!Tcp.is_own([192, 0, 2, 1].into()));
        assert!(!Tcp.is_own("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn rfc6724_6_there_is_no_way_to_an_address_of_a_link_that_is_not_named() {
        assert!(Tcp.has_way_to([127, 0, 0, 1].into()));
        assert!(!Tcp.has_way_to("fe80::1".parse().unwrap()));
    }
}
