//! The listener: takes mail from permitted clients and puts it into the spool
//! (RFC 5321 §3, RFC 1870, RFC 2920, RFC 3030, RFC 3207, RFC 4954, RFC 8689).
//!
//! ```text
//!   octets ─▶ conversation ─▶ session ─▶ replies        pure: no socket, disk or clock inside
//!                  │             │
//!               intake        received                  content rules, our one Received line
//!                  │
//!            tls_required                               what the header asks of TLS
//!                  ▼
//!               driver ─▶ socket, TLS, spool            the only part that touches the world
//! ```
//!
//! Guarantees: 250 after the content means that [`Spool::enqueue`] returned `Ok`. A client that
//! disconnects earlier leaves nothing behind. Content goes to the spool as it came, with one
//! Received line on top. What happens is told to an observer as an [`AcceptEvent`]; nothing here
//! logs or counts, and no event holds content.
//!
//! There may be several listeners, each with a policy of its own: a `door`. Who may relay is this stage's
//! one decision: [`standing`] for networks, `logins` for users, `shown` for certificates. What else holds for
//! those who may is in `rules`.
//!
//! [`Spool::enqueue`]: crate::spool::Spool::enqueue

mod acceptor;
mod arrivals;
mod certificate;
mod connection;
mod conversation;
mod copies;
mod counted;
mod cover;
mod door;
pub mod driver;
mod guessing;
mod header_charset;
pub mod intake;
pub(crate) mod logins;
mod meters;
mod places;
pub(crate) mod ports;
mod proxied;
mod received;
mod remembered;
mod replies;
mod rules;
mod session;
mod shown;
mod step;
pub(crate) mod suspended;
pub(crate) mod tls;
mod tls_required;
mod transaction;

#[cfg(test)]
mod dialogue_tests;
#[cfg(test)]
mod driver_tests;
#[cfg(test)]
mod session_tests;
#[cfg(test)]
mod test_spool;

pub use driver::Acceptor;
pub use meters::{LimitLevel, LimitNews};

use crate::clock::Timestamp;
use crate::envelope::QueueId;
use crate::smtp::address::{Mailbox, ReversePath};
use crate::smtp::reply::EnhancedStatusCode;
use ipnet::IpNet;
use std::net::{IpAddr, SocketAddr};

/// Whether a client may hand mail in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAccess {
    /// Its address is in `clients` of the listener, or it has proven who it is.
    Permitted,
    /// It may once it has logged in; until then it gets 530.
    MayLogIn,
    /// It may once it has shown a certificate in the handshake.
    MayShowCertificate,
    /// It gets a greeting, and 550 5.7.1 for every MAIL and RCPT.
    Denied,
}

/// Decides who may relay. An IPv4 client that reaches an IPv6 socket is judged by its IPv4
/// address.
#[must_use]
pub fn standing(clients: &[IpNet], address: IpAddr) -> ClientAccess {
    let plain = address.to_canonical();
    if clients.iter().any(|net| net.contains(&plain) || net.contains(&address)) {
        ClientAccess::Permitted
    } else {
        ClientAccess::Denied
    }
}

/// What happened at the listener.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AcceptEvent {
    /// A client was greeted.
    SessionOpened {
        /// The address and port of the client.
        peer: SocketAddr,
        /// Whether it may relay.
        standing: ClientAccess,
    },
    /// A connection was answered with 421 instead of a greeting.
    SessionRefused {
        /// The address and port of the client.
        peer: SocketAddr,
        /// What stood in the way of a session.
        reason: RefusalReason,
    },
    /// A session ended.
    SessionClosed {
        /// The address and port of the client.
        peer: SocketAddr,
        /// How it ended.
        reason: CloseReason,
    },
    /// A connection could not be taken from the system; the listener goes on.
    ListenerFailed {
        /// The listening address, when it is known.
        listener: Option<SocketAddr>,
        /// What the system said.
        error: String,
    },
    /// A message is durable and was acknowledged, or is about to be.
    MessageAccepted(Accepted),
    /// MAIL, RCPT, DATA or the content was answered with 4yz or 5yz by a rule of ours. Errors of
    /// syntax and order are not told.
    MessageRefused {
        /// The address and port of the client.
        peer: SocketAddr,
        /// What was answered.
        refusal: Refusal,
    },
    /// The spool failed; the client got 451 4.3.0.
    SpoolFailed {
        /// The address and port of the client.
        peer: SocketAddr,
        /// What failed, for the operator.
        error: String,
    },
    /// The certificate that handshakes are made with: at the start, and when its files changed.
    CertificateInUse {
        /// When it expires; `None` when that cannot be read from it.
        expires_at: Option<Timestamp>,
    },
    /// The files of the certificate changed, and what they hold cannot be used; the old one stays.
    CertificateRefused {
        /// What is wrong.
        error: String,
    },
    /// A copy for an archive is durable together with the message.
    MessageCopied {
        /// The copy.
        id: QueueId,
        /// The message.
        of: QueueId,
        /// The archive.
        to: Mailbox,
    },
    /// Somebody comes near a limit, or has reached it.
    Limit(LimitNews),
    /// A client said that it is a user.
    Login {
        /// The address and port of the client.
        peer: SocketAddr,
        /// The user, where there is one of that name.
        user: Option<String>,
        /// Whether it is.
        result: LoginResult,
    },
    /// The file of users was read again, because it changed.
    UsersInUse {
        /// How many there are.
        users: usize,
    },
    /// The file of users changed, and cannot be used; the users before stay.
    UsersRefused {
        /// What is wrong.
        error: String,
    },
    /// A balancer that must say for whom it connects did not; the connection was closed.
    ProxyHeaderFailed {
        /// The balancer.
        peer: SocketAddr,
        /// What went wrong.
        error: String,
    },
    /// A handshake failed; the connection was closed.
    TlsFailed {
        /// The address and port of the client.
        peer: SocketAddr,
        /// What went wrong.
        error: String,
    },
}

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LoginResult {
    /// Name and password are right.
    Right,
    /// They are not.
    Wrong,
    /// Too many have failed from that address or for that name; nothing was looked at.
    LockedOut,
    /// Too many asked at once; nothing was looked at.
    Busy,
}

/// A message we answer for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    /// Its name.
    pub id: QueueId,
    /// The client.
    pub client: IpAddr,
    /// The protocol word of the Received line: SMTP, ESMTP, ESMTPS, ESMTPSA, UTF8SMTP, UTF8SMTPS, UTF8SMTPSA.
    pub protocol: &'static str,
    /// The user, after AUTH.
    pub user: Option<String>,
    /// Whom to tell of failure.
    pub reverse_path: ReversePath,
    /// How many recipients it has.
    pub recipients: usize,
    /// Octets of content with our Received line.
    pub size: u64,
}

/// Why a connection got no session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusalReason {
    /// `[listen] max_sessions` are open.
    TooManySessions,
    /// `max_sessions` of that listener are open.
    TooManySessionsHere,
    /// The client has begun `[listen] max_new_connections` within a minute.
    TooManyNewConnections,
    /// The client may not relay, and as many such clients as we bear are connected.
    TooManyDenied,
}

/// How a session ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CloseReason {
    /// QUIT.
    Quit,
    /// The client went away without QUIT.
    Disconnected,
    /// `[listen] idle_timeout` without a sign of the client.
    TimedOut,
    /// The relay stops.
    Stopped,
    /// Other rules hold now, so the client is to come again.
    Reconfigured,
    /// Too many bad commands.
    TooManyBadCommands,
    /// `[listen] max_commands` of one session.
    TooManyCommands,
    /// Too many wrong passwords.
    TooManyFailedLogins,
    /// BDAT with an unreadable size: where the next command begins is unknown.
    LostFraming,
    /// The TLS handshake failed.
    TlsFailed,
    /// The listener lost track of itself: a fault in this program.
    InternalFault,
}

/// Every refusal by rule: its reply code and its enhanced code.
pub const REFUSALS: &[(u16, &str)] = &[
    (451, "4.3.0"),
    (452, "4.3.1"),
    (452, "4.5.3"),
    (530, "5.7.0"),
    (550, "5.1.1"),
    (550, "5.1.2"),
    (550, "5.4.4"),
    (550, "5.6.11"),
    (550, "5.7.1"),
    (552, "5.3.4"),
    (554, "5.4.6"),
];

/// A refusal by rule.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Where in the transaction.
    pub at: RefusedAt,
    /// The reply code.
    pub code: u16,
    /// The enhanced code.
    pub enhanced: Option<EnhancedStatusCode>,
}

/// The command that was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefusedAt {
    /// MAIL.
    Mail,
    /// RCPT.
    Rcpt,
    /// The end of DATA, or a BDAT chunk.
    Content,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_configured_networks_may_relay_also_as_mapped_addresses() {
        let clients: Vec<IpNet> = ["127.0.0.0/8", "2001:db8::/32"].map(|n| n.parse().unwrap()).to_vec();
        for address in ["127.0.0.1", "127.9.9.9", "::ffff:127.0.0.1", "2001:db8::7"] {
            assert_eq!(standing(&clients, address.parse().unwrap()), ClientAccess::Permitted, "{address}");
        }
        for address in ["128.0.0.1", "::1", "::ffff:10.0.0.1", "::127.0.0.1"] {
            assert_eq!(standing(&clients, address.parse().unwrap()), ClientAccess::Denied, "{address}");
        }
        assert_eq!(standing(&[], "127.0.0.1".parse().unwrap()), ClientAccess::Denied);
    }
}
