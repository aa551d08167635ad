//! A port that answers nobody, as behind a firewall that drops and says nothing (RFC 5321 §4.5.3.2
//! is about clients that wait).
//!
//! Without the rights to drop packets there is one way: a listener whose queue is full, since the
//! kernel drops what asks to join it. To a client this is silence: no connection, no refusal.

#![expect(clippy::disallowed_methods, reason = "this file is a driver of the lab: it listens on loopback")]

use crate::lab::bad;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

/// Clients that join the queue before it is full; Linux lets in one.
const QUEUE_LIMIT: usize = 8;
/// A queue that lets nobody in for so long is full: on loopback joining takes microseconds.
const FULL_AFTER: Duration = Duration::from_millis(200);

/// A silent port; it is free again when this is dropped.
#[derive(Debug)]
pub(in crate::lab) struct SilentPort {
    _listener: TcpListener,
    _queue: Vec<TcpStream>,
}

impl SilentPort {
    /// Takes an address and falls silent there.
    ///
    /// # Errors
    /// When the address is taken, or the system has no end of room in its queues.
    pub(in crate::lab) async fn start(address: SocketAddr) -> io::Result<Self> {
        let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
        // The sessions of whoever listened here before may still linger.
        socket.set_reuseaddr(true)?;
        socket.bind(address)?;
        let listener = socket.listen(0)?;
        let mut queue = Vec::new();
        while queue.len() < QUEUE_LIMIT {
            match timeout(FULL_AFTER, TcpStream::connect(address)).await {
                Ok(joined) => queue.push(joined?),
                Err(_silent) => return Ok(Self { _listener: listener, _queue: queue }),
            }
        }
        Err(bad("this system lets everybody into a queue without room"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[tokio::test]
    async fn a_silent_port_neither_accepts_nor_refuses() {
        let free = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap().local_addr().unwrap();
        let port = SilentPort::start(free).await.unwrap();
        assert!(timeout(FULL_AFTER, TcpStream::connect(free)).await.is_err(), "it is silent");
        drop(port);
        assert!(TcpStream::connect(free).await.is_err(), "and ends with its holder");
    }
}
