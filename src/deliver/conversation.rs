//! How far one conversation with a server came, and what it says of the policy that is only watched.

use super::connection::SmtpConnection;
use super::hello::{HelloSize, LargeHello};
use super::pool::History;
use super::session::Session;
use super::{Target, WatchReport};
use crate::outcome::{Cause, DeliveryOutcome, DemandedBy, TlsVerdict};

/// How far one conversation came.
pub(super) struct MailConversation {
    pub(super) session: Session,
    /// Still open, for the next message or for QUIT.
    pub(super) connection: Option<SmtpConnection>,
    pub(super) history: History,
    pub(super) certificates: Vec<Vec<u8>>,
    /// What the watched policy disliked inside TLS, or the handshake that failed.
    pub(super) watched_failure: Option<Cause>,
    /// The key exchange of TLS.
    pub(super) group: Option<&'static str>,
    pub(super) hello: HelloSize,
    /// Whether the ClientHello met silence or the end of the connection, and not a word of TLS.
    pub(super) unheard: bool,
    pub(super) large_hello: LargeHello,
    /// What came of it before, on a connection that carried other messages.
    pub(super) before: Before,
}

/// What a conversation on a reused connection has settled, before the rest went on a fresh one.
#[derive(Default)]
pub(super) struct Before {
    pub(super) outcomes: Vec<(usize, DeliveryOutcome)>,
    pub(super) left: Vec<usize>,
}

impl MailConversation {
    pub(super) fn beginning(session: Session, history: History) -> Self {
        Self {
            session,
            connection: None,
            history,
            certificates: Vec::new(),
            watched_failure: None,
            before: Before::default(),
            group: None,
            hello: HelloSize::Large,
            unheard: false,
            large_hello: LargeHello::Fine,
        }
    }

    /// The judgement of the watched policy, once the way the connection is protected is settled.
    pub(super) fn watch_report(&self, target: &Target) -> Option<WatchReport> {
        let watched = target.watched.as_ref()?;
        let because = watched.because;
        let failure = match (&watched.demand, self.session.tls()?) {
            (Err(cause), _) => Some(cause.clone()),
            (Ok(policy), TlsVerdict::ClearText) => Some(self.watched_failure.clone().unwrap_or_else(|| {
                let demanded_by = policy.demanded_by().unwrap_or(DemandedBy::Operator);
                Cause::StarttlsNotOffered { peer: target.peer.clone(), demanded_by }
            })),
            (
                Ok(_),
                TlsVerdict::Unauthenticated { .. }
                | TlsVerdict::Dane { .. }
                | TlsVerdict::WebPki { .. }
                | TlsVerdict::WebPkiAndDane { .. },
            ) => self.watched_failure.clone(),
        };
        Some(WatchReport { because, failure })
    }
}
