//! The only door to the network on the way out: connections to mail servers and policy hosts
//! (RFC 5321 §4.5.4.1, RFC 8461 §3.3).
//!
//! What is spoken on a connection does not ask who carries it: TCP in a running relay, a pipe in
//! memory in a simulation.

#![expect(clippy::disallowed_methods, reason = "this is the door: it connects")]

use async_trait::async_trait;
use std::io;
use std::net::SocketAddr;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

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
}
