//! The admin port's connections: few at once, and none for longer than it is used.
//!
//! Whoever reaches the port, on loopback every user of the machine, could otherwise open
//! connections until no file descriptor is left, and then no mail comes in and none goes out.

use super::gate::AdminGate;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep, sleep, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Connections at once: several monitoring systems, and somebody who looks.
const CONNECTIONS: usize = 32;
/// How long may pass to the first answer, and to each where places are scarce.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);
/// How long a connection may go on without an answer on it: longer than the minute that commonly
/// lies between two looks at the metrics.
const PATIENCE: Duration = Duration::from_secs(90);
/// The wait after the system could not give us a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A listener that counts its connections.
pub(in crate::service::admin) struct Bounded {
    listener: TcpListener,
    gate: Arc<AdminGate>,
    places: Arc<Semaphore>,
    deadlines: Deadlines,
    /// Connections whose handshake is made beside the others.
    shaken: (mpsc::Sender<AdminArrival>, mpsc::Receiver<AdminArrival>),
}

/// A connection whose handshake is done, and whence it came.
type AdminArrival = (AdminConnection, SocketAddr);

/// How long is waited for a client.
#[derive(Clone, Copy)]
struct Deadlines {
    request: Duration,
    idle: Duration,
}

impl Bounded {
    pub(in crate::service::admin) fn new(listener: TcpListener, gate: Arc<AdminGate>) -> Self {
        let deadlines = Deadlines { request: REQUEST_PATIENCE, idle: PATIENCE };
        let (places, shaken) = (Arc::new(Semaphore::new(CONNECTIONS)), mpsc::channel(CONNECTIONS));
        Self { listener, gate, places, deadlines, shaken }
    }

    /// A connection in clear is there at once; one in TLS comes after its handshake.
    fn begin(&self, stream: TcpStream, peer: SocketAddr, place: OwnedSemaphorePermit) -> Option<AdminArrival> {
        let deadlines = self.deadlines;
        let Some(tls) = self.gate.tls() else {
            return Some((AdminConnection::new(AdminStream::Clear(stream), deadlines, place), peer));
        };
        let sender = self.shaken.0.clone();
        tokio::spawn(async move {
            if let Ok(Ok(stream)) = timeout(deadlines.request, TlsAcceptor::from(tls).accept(stream)).await {
                let stream = AdminStream::Tls(Box::new(stream));
                let _nobody_serves = sender.send((AdminConnection::new(stream, deadlines, place), peer)).await;
            }
        });
        None
    }
}

impl Listener for Bounded {
    type Io = AdminConnection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (AdminConnection, SocketAddr) {
        loop {
            let places = Arc::clone(&self.places);
            let accepted = async {
                let Ok(place) = places.acquire_owned().await else { std::future::pending().await };
                (self.listener.accept().await, place)
            };
            tokio::select! {
                Some(shaken) = self.shaken.1.recv() => return shaken,
                (accepted, place) = accepted => match accepted {
                    Ok((stream, peer)) => {
                        if let Some(clear) = self.begin(stream, peer, place) {
                            return clear;
                        }
                    }
                    Err(_none_left) => sleep(ACCEPT_PAUSE).await,
                },
            }
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

/// A connection that ends when nothing has been answered on it for a while.
pub(in crate::service::admin) struct AdminConnection {
    stream: AdminStream,
    deadlines: Deadlines,
    end: Pin<Box<Sleep>>,
    /// Given back at the end.
    place: OwnedSemaphorePermit,
}

/// What is spoken over.
enum AdminStream {
    Clear(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

/// Whence a request came, and whether others could read it.
#[derive(Clone, Copy, Debug)]
pub(in crate::service) struct AdminPeer {
    /// The address of the client, or of a proxy.
    pub address: SocketAddr,
    /// How it came.
    pub transport: AdminTransport,
}

/// How a request came to the admin port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::service) enum AdminTransport {
    /// As it is.
    Clear,
    /// In TLS.
    Tls,
}

impl Connected<IncomingStream<'_, Bounded>> for AdminPeer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Self {
        let transport = match stream.io().stream {
            AdminStream::Clear(_) => AdminTransport::Clear,
            AdminStream::Tls(_) => AdminTransport::Tls,
        };
        Self { address: *stream.remote_addr(), transport }
    }
}

impl AdminConnection {
    fn new(stream: AdminStream, deadlines: Deadlines, place: OwnedSemaphorePermit) -> Self {
        Self { stream, deadlines, end: Box::pin(sleep(deadlines.request)), place }
    }

    /// Half of the places are for those who ask now.
    fn patience(&self) -> Duration {
        let are_scarce = self.place.semaphore().available_permits() < CONNECTIONS / 2;
        if are_scarce { self.deadlines.request } else { self.deadlines.idle }
    }

    fn in_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Pending => Ok(()),
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Octets sent are an answer; octets received may be a request that never ends.
    fn written(&mut self, written: Poll<io::Result<usize>>) -> Poll<io::Result<usize>> {
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.end = Box::pin(sleep_until(Instant::now() + self.patience()));
        }
        written
    }
}

impl AsyncRead for AdminConnection {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.in_time(cx)?;
        match &mut this.stream {
            AdminStream::Clear(stream) => Pin::new(stream).poll_read(cx, buffer),
            AdminStream::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for AdminConnection {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, octets: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        this.in_time(cx)?;
        let written = match &mut this.stream {
            AdminStream::Clear(stream) => Pin::new(stream).poll_write(cx, octets),
            AdminStream::Tls(stream) => Pin::new(stream).poll_write(cx, octets),
        };
        this.written(written)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        this.in_time(cx)?;
        match &mut this.stream {
            AdminStream::Clear(stream) => Pin::new(stream).poll_flush(cx),
            AdminStream::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.get_mut().stream {
            AdminStream::Clear(stream) => Pin::new(stream).poll_shutdown(cx),
            AdminStream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the tests are clients of a port of their own")]
mod tests {
    use super::*;
    use axum::Router;
    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    /// A port with so many places.
    async fn serve(places: usize, patience: Duration) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let deadlines = Deadlines { request: patience, idle: PATIENCE };
        let gate = Arc::new(AdminGate::new(crate::accept::tls::ListenerFiles::default()));
        let places = Arc::new(Semaphore::new(places));
        let bounded = Bounded { places, deadlines, ..Bounded::new(listener, gate) };
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(async move { axum::serve(bounded, router).await });
        address
    }

    async fn ask(stream: &mut TcpStream) -> String {
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"here") {
            assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0);
        }
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_client_that_never_ends_its_request_loses_its_place() {
        let address = serve(1, Duration::from_millis(200)).await;
        let mut slow = TcpStream::connect(address).await.unwrap();
        slow.write_all(b"GET / HTTP/1.1\r\nX: ").await.unwrap();
        let mut next = TcpStream::connect(address).await.unwrap();
        let drip = async {
            while slow.write_all(b"x").await.is_ok() {
                sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::select! {
            answer = ask(&mut next) => assert!(answer.starts_with("HTTP/1.1 200")),
            () = async { drip.await; std::future::pending().await } => {}
        }
    }

    #[tokio::test]
    async fn those_who_ask_nothing_do_not_hold_up_who_asks() {
        let address = serve(2, Duration::from_millis(200)).await;
        let _silent = TcpStream::connect(address).await.unwrap();
        let mut idle = TcpStream::connect(address).await.unwrap();
        ask(&mut idle).await;
        let mut next = TcpStream::connect(address).await.unwrap();
        assert!(ask(&mut next).await.starts_with("HTTP/1.1 200"));
    }

    #[tokio::test]
    async fn a_connection_carries_many_requests() {
        let address = serve(1, PATIENCE).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        for _ in 0..3 {
            assert!(ask(&mut stream).await.starts_with("HTTP/1.1 200"));
        }
    }
}
