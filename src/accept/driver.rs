//! Serves clients, however they come (RFC 5321 §3.1).

use super::RefusalReason;
use super::acceptor::Stop;
pub use super::acceptor::{AcceptObserver, Acceptor};
use super::connection::{Arrival, BalancerConnection, ClientConnection};
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::sync::CancellationToken;

/// Somebody has connected to an address of the configuration.
///
/// # Errors
/// Why there is no place.
pub(super) fn arrival(
    acceptor: &Arc<Acceptor>,
    named: SocketAddr,
    peer: SocketAddr,
    stop: &Stop,
) -> Result<Arrival, RefusalReason> {
    let door = acceptor.door(Some(named)).ok_or(RefusalReason::TooManySessions)?;
    if !door.is_balancer(peer.ip()) {
        return ClientConnection::placed(acceptor, door, peer, stop).map(Arrival::Client);
    }
    let place = door.announced()?;
    let (acceptor, door, stop) = (Arc::clone(acceptor), Arc::clone(door), stop.clone());
    Ok(Arrival::Balancer(BalancerConnection { acceptor, door, peer, stop, place }))
}

/// Serves one client that came by another way than a listener's, to the end of its session. It
/// has the limits, the place among all and the rights of whoever comes from `peer` by TCP, and a
/// stop treats it alike.
pub async fn session<S>(acceptor: Arc<Acceptor>, stream: S, peer: SocketAddr, stop: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let stop = Stop::new(stop);
    let placed = match acceptor.door(None) {
        Some(door) => ClientConnection::placed(&acceptor, door, peer, &stop),
        None => Err(RefusalReason::TooManySessions),
    };
    match placed {
        Ok(connection) => tokio::select! {
            biased;
            () = connection.run(stream) => {}
            () = stop.press(acceptor.grace) => {}
        },
        Err(reason) => acceptor.refuse(stream, peer, reason),
    }
}
