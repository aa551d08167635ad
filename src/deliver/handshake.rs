//! The handshake: from STARTTLS, or from the first octet, to what the connection is worth.
//!
//! RFC 3207 §4.2, RFC 8314 §3; how long it may take and what a failure means to the session. The
//! verifier is in `tls.rs`.

use super::Target;
use super::connection::SmtpConnection;
use super::conversation::MailConversation;
use super::hello::{HelloSize, LARGE_PATIENCE};
use super::session::{Event, Session, TransportFault};
use super::tls::{Tls, Trust};
use crate::clock::Timestamp;
use crate::outcome::{Cause, TlsVerdict};
use std::io;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

/// What one handshake goes by.
pub(super) struct TlsStart<'a> {
    pub(super) trust: &'a Trust,
    /// The longest it may take.
    pub(super) limit: Duration,
    /// Against which certificates are valid.
    pub(super) now: Timestamp,
}

impl TlsStart<'_> {
    /// Makes a connection a secured one, and notes what was seen on the way.
    ///
    /// # Errors
    /// How the handshake failed; the connection is gone then.
    pub(super) async fn secure(
        self,
        connection: SmtpConnection,
        target: &Target,
        talk: &mut MailConversation,
    ) -> Result<(SmtpConnection, TlsVerdict), TransportFault> {
        let peer = || target.peer.clone();
        let tls = Tls::new(self.trust, target, talk.hello, self.now)
            .map_err(|detail| TransportFault::Handshake(Cause::TlsHandshake { peer: peer(), detail }))?;
        // What came in clear text behind the reply to STARTTLS dies with the old buffer
        // (RFC 3207 §4.2).
        let handshake =
            TlsConnector::from(Arc::clone(&tls.config)).connect(tls.server_name.clone(), connection.into_stream());
        let patience = match talk.hello {
            HelloSize::Large => LARGE_PATIENCE,
            HelloSize::Small => Duration::MAX,
        };
        let shaken = timeout(self.limit.min(patience), handshake).await;
        talk.certificates.extend(tls.presented());
        talk.watched_failure = tls.watched_failure(peer());
        match shaken {
            Err(_elapsed) => {
                talk.unheard = talk.certificates.is_empty();
                Err(TransportFault::TimedOut)
            }
            Ok(Err(error)) => {
                talk.unheard = talk.certificates.is_empty() && is_cut_off(&error);
                Err(TransportFault::Handshake(tls.cause(&error, peer())))
            }
            Ok(Ok(stream)) => {
                let connection = stream.get_ref().1;
                let verdict = tls.verdict(connection.protocol_version());
                talk.group = connection.negotiated_key_exchange_group().and_then(|group| group.name().as_str());
                Ok((SmtpConnection::new(Box::new(stream)), verdict))
            }
        }
    }
}

/// Whether a handshake ended without a word of TLS: the connection was closed or reset.
fn is_cut_off(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::UnexpectedEof
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionAborted
            | io::ErrorKind::BrokenPipe
    )
}

/// In TLS 1.3 a server that insists on a client certificate, or dislikes something else, says so
/// only at the first read after the handshake: that is still a failure of TLS.
pub(super) fn tls_failure(event: Event, session: &Session, target: &Target) -> Event {
    match event {
        Event::Broken(TransportFault::Lost(detail)) if session.is_first_read_in_tls() => {
            Event::Broken(TransportFault::Handshake(Cause::TlsHandshake { peer: target.peer.clone(), detail }))
        }
        other @ (Event::Broken(_)
        | Event::Reply(_)
        | Event::Connected
        | Event::Secured(_)
        | Event::BodySent
        | Event::ChunksSent(_)) => other,
    }
}
