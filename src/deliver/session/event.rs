//! What happens to a session, and what it wants done about it.

use crate::deliver::auth::SecretLine;
use crate::outcome::{Cause, Phase, TlsVerdict};
use crate::smtp::reply::{Reply, ReplyError};

/// What happens to a session.
#[derive(Debug)]
pub(crate) enum Event {
    /// The TCP connection is open.
    Connected,
    /// A whole reply came.
    Reply(Reply),
    /// The handshake ended well.
    Secured(TlsVerdict),
    /// The content with its final dot is sent.
    BodySent,
    /// The content is sent in chunks, the last of them named so; the replies to so many before it have
    /// not been read.
    ChunksSent(usize),
    /// Something broke; the driver says what.
    Broken(TransportFault),
}

/// What can break a session from outside.
#[derive(Debug)]
pub(crate) enum TransportFault {
    /// The other side took too long.
    TimedOut,
    /// The connection ended or failed.
    Lost(String),
    /// What came is no SMTP reply.
    NotSmtp(ReplyError),
    /// The TLS handshake failed; a verifier's own cause when it refused the certificate.
    Handshake(Cause),
    /// There was no way out from here.
    Ours(Cause),
    /// Our stored content is damaged; the dot must not be sent.
    ContentDamaged,
}

impl TransportFault {
    /// What happened, for whoever reads that a reply is missing.
    pub(super) fn told(self) -> String {
        match self {
            Self::TimedOut => "it did not answer in time".to_owned(),
            Self::Lost(detail) => format!("the connection broke: {detail}"),
            Self::NotSmtp(error) => error.to_string(),
            Self::Handshake(cause) | Self::Ours(cause) => cause.sentence(),
            Self::ContentDamaged => Cause::ContentDamaged.sentence(),
        }
    }
}

/// What the driver is to do next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Send this, then wait for one reply.
    Send(Vec<u8>, Phase),
    /// Send this, which nobody may see, then wait for one reply.
    SendSecret(SecretLine),
    /// Wait for one more reply.
    Await(Phase),
    /// Forget all that was received and start TLS (RFC 3207 §4.2).
    StartTls,
    /// Send the content, dot-stuffed, with its final dot.
    SendBody,
    /// Send the content in chunks (RFC 3030 §2). A reply before the last of them that is no success is
    /// an event at once.
    SendChunks,
    /// Send QUIT if the connection still stands, and end.
    Finish,
}
