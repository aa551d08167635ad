//! The ports that are open, and who serves whoever comes by them: the acceptor of the configuration that
//! counts now (RFC 5321 §3.1).
//!
//! Another configuration may name other addresses. New ports are opened before anything is changed, so
//! that one in use is a reason to leave all as it is; then those that are not named any more are closed.
//! Sessions that came by them go on.
#![expect(clippy::disallowed_methods, reason = "opens the ports")]

use super::AcceptEvent;
use super::acceptor::{Acceptor, GRACE, Stop};
use super::driver;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// The wait after the system could not give us a connection (too many open files).
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// The acceptor by the configuration that counts now: the latest one serves whoever comes next.
pub(crate) type Acceptors = watch::Receiver<Arc<Acceptor>>;

/// Why a port cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}: {source}")]
pub(crate) struct PortError {
    /// Its address and port.
    pub address: SocketAddr,
    /// What the system said.
    pub source: io::Error,
}

/// See the module.
pub(crate) struct Ports {
    acceptors: Acceptors,
    open: Mutex<Vec<OpenPort>>,
    tasks: TaskTracker,
    stop: Stop,
    grace: Duration,
}

struct OpenPort {
    /// As the configuration says it; the port may be 0 there.
    named: SocketAddr,
    bound: SocketAddr,
    close: CancellationToken,
    /// Why no connection could be taken, at the last one.
    trouble: ListenTrouble,
    /// Ends before the stop only by a fault.
    listening: JoinHandle<()>,
}

type ListenTrouble = Arc<Mutex<Option<String>>>;

/// Ports that are open already and may be served from.
pub(crate) struct PreparedPorts {
    named: Vec<SocketAddr>,
    fresh: Vec<(SocketAddr, TcpListener)>,
}

impl Ports {
    /// None is open yet.
    #[must_use]
    pub(crate) fn new(acceptors: Acceptors, stop: CancellationToken) -> Self {
        Self { acceptors, open: Mutex::default(), tasks: TaskTracker::new(), stop: Stop::new(stop), grace: GRACE }
    }

    /// Another time than the usual half minute for messages on their way in after a stop.
    #[cfg(test)]
    #[must_use]
    pub(crate) fn with_grace(self, grace: Duration) -> Self {
        Self { grace, ..self }
    }

    /// Opens those of these addresses that are not open. Nobody is served from them yet.
    ///
    /// # Errors
    /// The first that cannot be had; then all is as it was.
    pub(crate) async fn prepare(&self, addresses: &[SocketAddr]) -> Result<PreparedPorts, PortError> {
        let mut open: Vec<SocketAddr> = self.open().iter().map(|port| port.named).collect();
        let mut fresh = Vec::new();
        for &address in addresses {
            match open.iter().position(|named| *named == address) {
                Some(index) => drop(open.remove(index)),
                None => fresh.push((address, bind(address).await?)),
            }
        }
        Ok(PreparedPorts { named: addresses.to_owned(), fresh })
    }

    /// Serves whoever comes by these ports, and closes all others.
    pub(crate) fn open_and_close(&self, prepared: PreparedPorts) {
        let PreparedPorts { named, fresh } = prepared;
        let mut open = self.open();
        let mut fresh: Vec<OpenPort> = fresh.into_iter().map(|(named, listener)| self.serve(named, listener)).collect();
        let mut take = |address: SocketAddr| {
            let from = if open.iter().any(|port| port.named == address) { &mut *open } else { &mut fresh };
            let index = from.iter().position(|port| port.named == address)?;
            Some(from.remove(index))
        };
        let now: Vec<OpenPort> = named.into_iter().filter_map(&mut take).collect();
        for port in std::mem::replace(&mut *open, now) {
            port.close.cancel();
        }
    }

    /// An open port that overlaps with an address, so that both cannot be open at once.
    #[must_use]
    pub(crate) fn overlapping(&self, address: SocketAddr) -> Option<SocketAddr> {
        let is_in_the_way = |port: &&OpenPort| {
            let any = port.bound.ip().is_unspecified() || address.ip().is_unspecified();
            port.named != address && port.bound.port() == address.port() && any
        };
        self.open().iter().find(is_in_the_way).map(|port| port.bound)
    }

    /// The addresses that are open, in the order of the configuration.
    #[must_use]
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.open().iter().map(|port| port.bound).collect()
    }

    /// Waits for the stop, and then until every session has ended.
    pub(crate) async fn all_end(&self) {
        let all_end = async {
            self.stop.begun.cancelled().await;
            self.tasks.close();
            self.tasks.wait().await;
        };
        tokio::select! {
            biased;
            () = all_end => {}
            () = self.stop.press(self.grace) => {}
        }
    }

    /// Ports that are open and take no connection now, each with the reason.
    #[must_use]
    pub(crate) fn deaf(&self) -> Vec<String> {
        let why = |port: &OpenPort| {
            let trouble = port.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone();
            if port.listening.is_finished() { Some("nobody listens any more".to_owned()) } else { trouble }
        };
        let open = self.open();
        open.iter().filter_map(|port| Some(format!("{}: {}", port.bound, why(port)?))).collect()
    }

    fn open(&self) -> MutexGuard<'_, Vec<OpenPort>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn serve(&self, named: SocketAddr, listener: TcpListener) -> OpenPort {
        let (bound, close) = (listener.local_addr().unwrap_or(named), CancellationToken::new());
        let (acceptors, tasks) = (self.acceptors.clone(), self.tasks.clone());
        let trouble = ListenTrouble::default();
        let (stop, told) = (self.stop.clone(), Arc::clone(&trouble));
        let port = PortListener { named, acceptors, tasks, stop, close: close.clone(), trouble: told };
        let listening = self.tasks.spawn(port.listen(listener));
        OpenPort { named, bound, close, trouble, listening }
    }
}

/// Opens these addresses, where none is open yet.
///
/// # Errors
/// The first that cannot be had.
pub(crate) async fn open(addresses: &[SocketAddr]) -> Result<PreparedPorts, PortError> {
    let mut fresh = Vec::with_capacity(addresses.len());
    for &address in addresses {
        fresh.push((address, bind(address).await?));
    }
    Ok(PreparedPorts { named: addresses.to_owned(), fresh })
}

async fn bind(address: SocketAddr) -> Result<TcpListener, PortError> {
    TcpListener::bind(address).await.map_err(|source| PortError { address, source })
}

/// One open port.
struct PortListener {
    named: SocketAddr,
    acceptors: Acceptors,
    tasks: TaskTracker,
    stop: Stop,
    close: CancellationToken,
    trouble: ListenTrouble,
}

impl PortListener {
    async fn listen(self, listener: TcpListener) {
        loop {
            let accepted = tokio::select! {
                biased;
                () = self.stop.begun.cancelled() => return,
                () = self.close.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let acceptor = Arc::clone(&self.acceptors.borrow());
            let trouble = accepted.as_ref().err().map(ToString::to_string);
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
            match accepted {
                Ok((socket, peer)) => match driver::arrival(&acceptor, self.named, peer, &self.stop) {
                    Ok(arrival) => {
                        // Replies are written in whole groups; waiting for more to send would only delay them.
                        let _ = socket.set_nodelay(true);
                        self.tasks.spawn(arrival.run(socket));
                    }
                    Err(reason) => acceptor.refuse(socket, peer, reason),
                },
                Err(error) => {
                    let (listener, error) = (listener.local_addr().ok(), error.to_string());
                    acceptor.tell(AcceptEvent::ListenerFailed { listener, error });
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }
}
