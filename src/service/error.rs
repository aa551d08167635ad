//! Why the relay does not start, or does not take over a configuration, or stopped by itself.

use crate::accept::ports::PortError;
use crate::accept::tls::ListenerError;
use crate::config::{Config, ConfigError};
use crate::pipeline::outbound::OutboundError;
use crate::report::TextsError;
use crate::resolve::error::DnsSetupError;
use crate::spool::SpoolError;
use std::io;
use std::net::SocketAddr;

/// Why the relay does not start: one line, with the key to change.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Files that the configuration names cannot be read.
    #[error(transparent)]
    Files(#[from] ConfigError),
    /// The DNS side cannot be set up.
    #[error(transparent)]
    Dns(#[from] DnsSetupError),
    /// A file that delivery needs cannot be used: trusted roots, a password, a certificate.
    #[error(transparent)]
    Outbound(#[from] OutboundError),
    /// The texts of reports cannot be used.
    #[error(transparent)]
    Texts(#[from] TextsError),
    /// The spool cannot be opened.
    #[error("[spool] path: {path}: {source}")]
    Spool {
        /// The directory.
        path: String,
        /// What the spool reports.
        source: SpoolError,
    },
    /// The spool cannot be opened for want of room, and what is kept for that is used up.
    #[error(
        "[spool] path: {path}: the disk is full to the last block or inode, and what the relay keeps for that is used \
         up: free 1 MiB and 20 inodes on it (df and df -i show them), by files that are not in the spool"
    )]
    NoRoom {
        /// The directory.
        path: String,
    },
    /// A certificate or the users of a listener cannot be used.
    #[error(transparent)]
    Listener(#[from] ListenerError),
    /// A port cannot be opened.
    #[error("{key}: cannot listen on {address}: {source}{}", bind_advice(source))]
    Bind {
        /// The key that names the address.
        key: String,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The control socket cannot be opened.
    #[error("{path}: cannot open the control socket: {source}")]
    Control {
        /// Where it would be.
        path: String,
        /// What the system said.
        source: io::Error,
    },
    /// A bug.
    #[error("internal: {0}")]
    Internal(String),
}

/// What a relay that does not start is waiting for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Remedy {
    /// Somebody has to change the configuration, or what it names.
    Configuration,
    /// It may go by itself: a port or a spool that the process before has not left yet, an address or
    /// a resolver that comes up later than the relay when the machine starts.
    Time,
}

impl StartError {
    /// A port of the listener cannot be opened.
    pub(in crate::service) fn smtp(config: &Config, error: PortError) -> Self {
        let named = config.listener.iter().find(|listener| listener.addresses.contains(&error.address));
        let key = named.map(|listener| format!("[[listener]] {}: addresses", listener.name));
        let key = key.unwrap_or_else(|| "[listen] smtp".to_owned());
        Self::Bind { key, address: error.address, source: error.source }
    }

    /// The port for watching the relay cannot be opened.
    pub(in crate::service) fn admin(address: SocketAddr, source: io::Error) -> Self {
        Self::Bind { key: "[admin] listen".to_owned(), address, source }
    }

    /// Whether starting again can help.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Bind { source, .. }
                if matches!(source.kind(), io::ErrorKind::AddrInUse | io::ErrorKind::AddrNotAvailable) =>
            {
                Remedy::Time
            }
            Self::Spool {
                source: SpoolError::InUse { .. } | SpoolError::Io { .. } | SpoolError::Full | SpoolError::Unreachable(_),
                ..
            }
            | Self::NoRoom { .. }
            | Self::Dns(DnsSetupError::Upstream { .. }) => Remedy::Time,
            Self::Dns(DnsSetupError::TrustAnchors { .. } | DnsSetupError::Roots(_))
            | Self::Files(_)
            | Self::Outbound(_)
            | Self::Texts(_)
            | Self::Spool { .. }
            | Self::Bind { .. }
            | Self::Listener(_)
            | Self::Control { .. }
            | Self::Internal(_) => Remedy::Configuration,
        }
    }
}

/// What to do about a port that cannot be opened.
fn bind_advice(error: &io::Error) -> &'static str {
    let advice = [
        (io::ErrorKind::AddrInUse, "; `ss -ltnp` shows which program has it"),
        (io::ErrorKind::AddrNotAvailable, "; this machine has no such address"),
        (
            io::ErrorKind::PermissionDenied,
            "; ports below 1024 want root or CAP_NET_BIND_SERVICE, as deploy/relay.service gives it",
        ),
    ];
    advice.iter().find(|(kind, _)| *kind == error.kind()).map_or("", |(_, words)| words)
}

/// Why a running relay stopped by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The disk failed; what was acknowledged is on it, and a restart recovers it.
    #[error("the spool failed and nothing more can be accepted: {0}")]
    Spool(String),
    /// A bug.
    #[error("internal: {0}")]
    Internal(String),
}
