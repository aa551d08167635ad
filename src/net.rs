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
use tokio::net::TcpStream;

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

    /// Whether packets can go to an address at all (RFC 6724 §6, rule 1). Nothing is sent.
    fn has_way_to(&self, _address: IpAddr) -> bool {
        true
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

    /// A datagram socket that is connected has looked for the way and sent nothing. A failure that
    /// is not about the way says nothing about it.
    fn has_way_to(&self, address: IpAddr) -> bool {
        let own: IpAddr = if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
        let connected = UdpSocket::bind((own, 0)).and_then(|socket| socket.connect((address, ANY_PORT)));
        let Err(error) = connected else { return true };
        !Errno::from_io_error(&error).is_some_and(|errno| NO_WAY.contains(&errno))
    }
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

    #[test]
    fn rfc6724_6_there_is_no_way_to_an_address_of_a_link_that_is_not_named() {
        assert!(Tcp.has_way_to([127, 0, 0, 1].into()));
        assert!(!Tcp.has_way_to("fe80::1".parse().unwrap()));
    }
}
