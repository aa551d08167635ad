//! The network between a node and its database.

use std::net::SocketAddr;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// How it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NetworkState {
    /// What is sent arrives.
    Whole,
    /// Connections are closed, and none is made.
    Cut,
    /// Connections stay open and nothing arrives; later it does.
    Silent,
}

/// A way to a server that can be disturbed.
pub(super) struct Proxy {
    port: u16,
    state: watch::Sender<NetworkState>,
}

impl Proxy {
    /// To that port of loopback.
    pub(super) async fn to(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, state) = (listener.local_addr().unwrap(), watch::Sender::new(NetworkState::Whole));
        let (server, seen) = (SocketAddr::from(([127, 0, 0, 1], port)), state.subscribe());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *seen.borrow() != NetworkState::Cut {
                    tokio::spawn(connect(client, server, seen.clone()));
                }
            }
        });
        Self { port: address.port(), state }
    }

    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn is(&self, state: NetworkState) {
        self.state.send_replace(state);
    }
}

async fn connect(client: TcpStream, server: SocketAddr, mut state: watch::Receiver<NetworkState>) {
    let Ok(server) = TcpStream::connect(server).await else { return };
    let ((from_client, to_client), (from_server, to_server)) = (client.into_split(), server.into_split());
    let seen = state.clone();
    tokio::select! {
        _cut = state.wait_for(|state| *state == NetworkState::Cut) => {}
        ((), ()) = async { tokio::join!(carry(from_client, to_server, seen.clone()), carry(from_server, to_client, seen.clone())) } => {}
    }
}

async fn carry(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, mut state: watch::Receiver<NetworkState>) {
    let mut octets = vec![0; 65_536];
    while let Ok(read) = from.read(&mut octets).await {
        // Held until the network is whole again.
        let arrives = state.wait_for(|state| *state == NetworkState::Whole).await.is_ok();
        if read == 0 || !arrives || to.write_all(&octets[..read]).await.is_err() {
            return;
        }
    }
}
