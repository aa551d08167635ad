//! What a session came to: the result of each recipient, who is left for a further transaction,
//! and what the connection is good for afterwards (RFC 5321 §4.1.1.4, §4.5.3.1.10; RFC 9422 §4).
//!
//! Every recipient has one result, or is left while others have one.

use super::{Session, StartTlsUse};
use crate::deliver::message::{Recipient, means_too_many};
use crate::outcome::{Cause, DeliveryOutcome, Phase, TlsVerdict};
use crate::smtp::reply::{Capabilities, Reply};

/// What a session knows of its connection, for the next one.
#[derive(Clone, Debug)]
pub struct Learned {
    /// What the server offered last.
    pub offered: Capabilities,
    /// How the connection is protected.
    pub tls: TlsVerdict,
}

impl Session {
    /// The result of every recipient of the job but those [`left`](Self::left).
    #[must_use]
    pub fn outcomes(&self) -> Vec<(usize, DeliveryOutcome)> {
        let settled = self.recipients().filter(|(place, _)| !self.is_left(*place));
        settled.map(|(place, recipient)| (recipient.index, self.outcome(place, recipient))).collect()
    }

    /// Recipients for a further transaction, by index in the envelope: those above the limits of
    /// the server (RFC 9422 §4), and those that it refused for their number (RFC 5321
    /// §4.5.3.1.10). Whenever there are any, others have a result, so that an end is near.
    #[must_use]
    pub fn left(&self) -> Vec<usize> {
        self.recipients().filter(|(place, _)| self.is_left(*place)).map(|(_, recipient)| recipient.index).collect()
    }

    pub(super) fn recipients(&self) -> impl Iterator<Item = (usize, &Recipient)> {
        self.job.message.iter().flat_map(|message| message.recipients.iter().enumerate())
    }

    fn is_left(&self, place: usize) -> bool {
        if place >= self.allowed {
            return self.ended.is_none();
        }
        // Without a recipient that was accepted, it was not their number.
        self.accepted_reply.is_some()
            && matches!(self.refused.get(place), Some(Some(Cause::Rejected { reply, .. })) if means_too_many(reply))
    }

    fn outcome(&self, place: usize, recipient: &Recipient) -> DeliveryOutcome {
        let refused = self.refused.get(place).and_then(Option::as_ref);
        match (refused, &self.accepted_reply, &self.ended) {
            (Some(cause), _, _) | (None, None, Some(cause)) => DeliveryOutcome::Failed { cause: cause.clone() },
            (None, Some(reply), _) => DeliveryOutcome::Delivered {
                peer: self.job.peer.clone(),
                tls: self.tls.clone().unwrap_or(TlsVerdict::ClearText),
                reply: reply.clone(),
                notify_passed_on: self.offered.dsn && recipient.dsn.notify.is_some(),
            },
            (None, None, None) => DeliveryOutcome::Failed { cause: self.lost("the session ended early") },
        }
    }

    /// What a further session on the same connection may begin with: only after a clean end, the
    /// reply that accepts the message (RFC 5321 §4.1.1.4). A connection that fell back to clear
    /// text has none: the next message tries TLS again.
    #[must_use]
    pub fn learned(&self) -> Option<Learned> {
        self.accepted_reply.as_ref()?;
        let tls = self.tls.clone()?;
        let fell_back = match self.job.starttls {
            StartTlsUse::Required(_) | StartTlsUse::Never => false,
            StartTlsUse::IfOffered => tls == TlsVerdict::ClearText && self.offered.starttls,
            StartTlsUse::NotAgain => true,
        };
        (!fell_back).then(|| Learned { offered: self.offered.clone(), tls })
    }

    /// Whether the session met only the end of its connection: nothing of the message was
    /// answered, and it may go on another one as if this had not been.
    #[must_use]
    pub fn met_a_closed_door(&self) -> bool {
        matches!(
            &self.ended,
            Some(
                Cause::ConnectionLost { phase: Phase::MailFrom, .. }
                    | Cause::TimedOut { phase: Phase::MailFrom, .. }
                    | Cause::ProtocolError { phase: Phase::MailFrom, .. }
                    // RFC 5321 §3.8: the server says that it closes.
                    | Cause::Rejected { phase: Phase::MailFrom, reply: Reply { code: 421, .. }, .. }
            )
        )
    }
}
