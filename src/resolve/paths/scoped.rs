//! hickory's sockets, towards one server whose address keeps its scope (RFC 4007 §11): hickory
//! knows servers by their address alone, and without its link nobody reaches `fe80::1`. What comes out
//! of them in clear is made readable (`tolerant.rs`).

use super::tolerant::{MessageStream, WirePrivacy};
use crate::resolve::dnssec::make_readable;
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider, TokioTime};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;

type Inner = TokioRuntimeProvider;
type Connecting<T> = Pin<Box<dyn Send + Future<Output = io::Result<T>>>>;

/// Opens sockets to one server.
#[derive(Clone)]
pub(super) struct Scoped {
    inner: Inner,
    server: SocketAddr,
    wire: WirePrivacy,
}

impl Scoped {
    pub(super) fn to(server: SocketAddr, wire: WirePrivacy) -> Self {
        Self { inner: Inner::default(), server, wire }
    }
}

/// A socket whose datagrams go to that server.
pub(super) struct ScopedUdp {
    inner: <Inner as RuntimeProvider>::Udp,
    server: SocketAddr,
}

impl RuntimeProvider for Scoped {
    type Handle = <Inner as RuntimeProvider>::Handle;
    type Timer = TokioTime;
    type Udp = ScopedUdp;
    type Tcp = AsyncIoTokioAsStd<MessageStream>;

    fn create_handle(&self) -> Self::Handle {
        self.inner.create_handle()
    }

    fn connect_tcp(
        &self,
        _without_scope: SocketAddr,
        bind_addr: Option<SocketAddr>,
        timeout: Option<Duration>,
    ) -> Connecting<Self::Tcp> {
        let (connected, wire) = (self.inner.connect_tcp(self.server, bind_addr, timeout), self.wire);
        Box::pin(async move { Ok(AsyncIoTokioAsStd(MessageStream::new(connected.await?.0, wire))) })
    }

    fn bind_udp(&self, local_addr: SocketAddr, _without_scope: SocketAddr) -> Connecting<Self::Udp> {
        let server = self.server;
        let bound = self.inner.bind_udp(local_addr, server);
        Box::pin(async move { Ok(ScopedUdp { inner: bound.await?, server }) })
    }
}

impl DnsUdpSocket for ScopedUdp {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buf: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let (length, from) = ready!(DnsUdpSocket::poll_recv_from(&self.inner, cx, buf))?;
        // Each datagram is a message; those of encrypted protocols come another way.
        make_readable(buf.get_mut(..length).unwrap_or_default());
        Poll::Ready(Ok((length, from)))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buf: &[u8], _without_scope: SocketAddr) -> Poll<io::Result<usize>> {
        DnsUdpSocket::poll_send_to(&self.inner, cx, buf, self.server)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::net::UdpSocket;

    /// What stands for the scope here is the address itself: it comes from the provider alone.
    #[tokio::test]
    async fn rfc4007_11_datagrams_and_connections_go_to_the_whole_address() {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let address = server.local_addr().unwrap();
        let elsewhere: SocketAddr = ([127, 0, 0, 1], 1).into();
        let scoped = Scoped::to(address, WirePrivacy::Clear);
        let socket = scoped.bind_udp(([127, 0, 0, 1], 0).into(), elsewhere).await.unwrap();
        socket.send_to(b"question", elsewhere).await.unwrap();
        let mut buffer = [0; 16];
        let (length, client) = server.recv_from(&mut buffer).await.unwrap();
        assert_eq!(&buffer[..length], b"question");
        server.send_to(b"answer", client).await.unwrap();
        assert_eq!(socket.recv_from(&mut buffer).await.unwrap(), (6, address));
    }
}
