//! The sockets of hickory, with the messages that come out of them made readable: one odd record
//! shall not cost the whole message (see `dnssec/odd.rs`).
//!
//! hickory decodes what a socket gives and leaves no room between. Datagrams are messages; in a
//! stream in clear each message comes after its length (RFC 1035 §4.2.2). What is encrypted is
//! left alone: there the messages are out of reach.

use crate::resolve::dnssec::set_aside;
use hickory_resolver::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_resolver::net::runtime::{DnsUdpSocket, RuntimeProvider, TokioRuntimeProvider, TokioTime};
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UdpSocket};

type Soon<T> = Pin<Box<dyn Future<Output = io::Result<T>> + Send>>;

/// Makes the sockets of one server.
#[derive(Clone, Default)]
pub(super) struct Provider {
    sockets: TokioRuntimeProvider,
    is_encrypted: bool,
}

impl Provider {
    pub(super) fn new(is_encrypted: bool) -> Self {
        Self { sockets: TokioRuntimeProvider::default(), is_encrypted }
    }
}

impl RuntimeProvider for Provider {
    type Handle = <TokioRuntimeProvider as RuntimeProvider>::Handle;
    type Timer = TokioTime;
    type Udp = Datagrams;
    type Tcp = AsyncIoTokioAsStd<Stream>;

    fn create_handle(&self) -> Self::Handle {
        self.sockets.create_handle()
    }

    fn connect_tcp(&self, server: SocketAddr, bind: Option<SocketAddr>, wait: Option<Duration>) -> Soon<Self::Tcp> {
        let (connecting, is_encrypted) = (self.sockets.connect_tcp(server, bind, wait), self.is_encrypted);
        Box::pin(async move { Ok(AsyncIoTokioAsStd(Stream::new(connecting.await?.0, is_encrypted))) })
    }

    fn bind_udp(&self, local: SocketAddr, server: SocketAddr) -> Soon<Self::Udp> {
        let binding = self.sockets.bind_udp(local, server);
        Box::pin(async move { Ok(Datagrams(binding.await?)) })
    }
}

/// Each datagram is a message.
pub(super) struct Datagrams(UdpSocket);

impl DnsUdpSocket for Datagrams {
    type Time = TokioTime;

    fn poll_recv_from(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<(usize, SocketAddr)>> {
        let (length, from) = ready!(DnsUdpSocket::poll_recv_from(&self.0, cx, buffer))?;
        set_aside(buffer.get_mut(..length).unwrap_or_default());
        Poll::Ready(Ok((length, from)))
    }

    fn poll_send_to(&self, cx: &mut Context<'_>, buffer: &[u8], target: SocketAddr) -> Poll<io::Result<usize>> {
        DnsUdpSocket::poll_send_to(&self.0, cx, buffer, target)
    }
}

/// A stream of messages.
pub(super) struct Stream {
    inner: TcpStream,
    is_encrypted: bool,
    /// The beginning of a message that is not whole yet, its length in front; at most 64 KiB.
    coming: Vec<u8>,
    /// What is left to hand out of messages that are.
    ready: Vec<u8>,
}

impl Stream {
    fn new(inner: TcpStream, is_encrypted: bool) -> Self {
        Self { inner, is_encrypted, coming: Vec::new(), ready: Vec::new() }
    }

    /// Moves whole messages over, made readable.
    fn sort(&mut self) {
        while let [high, low, rest @ ..] = self.coming.as_slice() {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            if rest.len() < length {
                return;
            }
            let mut message: Vec<u8> = self.coming.drain(..length + 2).collect();
            set_aside(message.get_mut(2..).unwrap_or_default());
            self.ready.append(&mut message);
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.is_encrypted {
            return Pin::new(&mut self.inner).poll_read(cx, buffer);
        }
        while self.ready.is_empty() {
            let mut octets = [0; 4096];
            let mut came = ReadBuf::new(&mut octets);
            ready!(Pin::new(&mut self.inner).poll_read(cx, &mut came))?;
            if came.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            self.coming.extend_from_slice(came.filled());
            self.sort();
        }
        let length = buffer.remaining().min(self.ready.len());
        let taken: Vec<u8> = self.ready.drain(..length).collect();
        buffer.put_slice(&taken);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, octets)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
