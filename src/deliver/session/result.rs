//! What a session came to: the result of each recipient, who is left for a further transaction,
//! and what the connection is good for afterwards (RFC 5321 §4.1.1.4, §4.5.3.1.10; RFC 9422 §4).
//!
//! Every recipient has one result, or is left while others have one.

use super::{CLOSING, ConnectionUse, Session, StartTlsUse};
use crate::deliver::message::{Recipient, means_too_many};
use crate::outcome::{Cause, DeliveryOutcome, Phase, TlsVerdict};
use crate::smtp::reply::{Capabilities, Reply};

/// What a session knows of its connection, for the next one.
#[derive(Clone, Debug)]
pub(crate) struct Learned {
    /// What the server offered last.
    pub offered: Capabilities,
    /// How the connection is protected.
    pub tls: TlsVerdict,
}

impl Session {
    /// The result of every recipient of the job but those [`left`](Self::left).
    #[must_use]
    pub(crate) fn outcomes(&self) -> Vec<(usize, DeliveryOutcome)> {
        let settled = self.recipients().filter(|(place, _)| !self.is_left(*place));
        settled.map(|(place, recipient)| (recipient.index, self.outcome(place, recipient))).collect()
    }

    /// Recipients for a further transaction, by index in the envelope: those above the limits of
    /// the server (RFC 9422 §4), and those that it refused for their number (RFC 5321
    /// §4.5.3.1.10). Whenever there are any, others have a result, so that an end is near.
    #[must_use]
    pub(crate) fn left(&self) -> Vec<usize> {
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
    pub(crate) fn learned(&self) -> Option<Learned> {
        self.accepted_reply.as_ref()?;
        let tls = self.tls.clone()?;
        let fell_back = match self.job.starttls {
            StartTlsUse::Required(_) | StartTlsUse::Never | StartTlsUse::FromTheStart => false,
            StartTlsUse::IfOffered | StartTlsUse::AsOffered => tls == TlsVerdict::ClearText && self.offered.starttls,
            StartTlsUse::NotAgain => true,
        };
        (!fell_back).then(|| Learned { offered: self.offered.clone(), tls })
    }

    /// Recipients, by index, that are to be asked about again on a fresh connection before what was
    /// said counts: on a connection that has brought a message, a refusal may be about the
    /// connection ("too many in this session"), and so may its end. What the server says of an
    /// address or a mailbox (RFC 3463 §3.2, §3.3) it would say again.
    #[must_use]
    pub(crate) fn to_ask_again(&self) -> Vec<usize> {
        if self.use_of_connection == ConnectionUse::Fresh {
            return Vec::new();
        }
        let has_no_end = |place: &usize| self.refused.get(*place).is_some_and(Option::is_none);
        if self.knows_no_chunks() {
            let open = self.recipients().filter(|(place, _)| has_no_end(place));
            return open.map(|(_, recipient)| recipient.index).collect();
        }
        let never_began = matches!(
            &self.ended,
            Some(
                Cause::ConnectionLost { phase: Phase::MailFrom, .. }
                    | Cause::TimedOut { phase: Phase::MailFrom, .. }
                    | Cause::ProtocolError { phase: Phase::MailFrom, .. }
                    | Cause::Rejected { phase: Phase::MailFrom, .. }
            )
        );
        let may_be_about_the_connection = |place: usize| match self.refused.get(place).and_then(Option::as_ref) {
            Some(Cause::Rejected { reply, .. }) => !is_about_address(reply),
            Some(_) | None => false,
        };
        let all = self.recipients().filter(|(place, _)| !self.is_left(*place));
        let again = all.filter(|(place, _)| never_began || may_be_about_the_connection(*place));
        again.map(|(_, recipient)| recipient.index).collect()
    }

    /// How many recipients the server took before it closed the connection over one more
    /// (RFC 5321 §3.8): as many it may have at a time.
    #[must_use]
    pub(crate) fn bore(&self) -> Option<u32> {
        let is_farewell = |cause: &Option<Cause>| cause.as_ref().is_some_and(is_closing);
        let first = self.refused.iter().position(is_farewell).filter(|_| self.accepted_reply.is_none())?;
        u32::try_from(first).ok().filter(|count| *count > 0)
    }

    /// Whether the server offered chunks and does not know them after all, as behind a box that lets
    /// the keyword pass and not the command: the message is for it by DATA.
    #[must_use]
    pub(crate) fn knows_no_chunks(&self) -> bool {
        let unknown = |cause: &Cause| {
            matches!(
                cause,
                Cause::Rejected { phase: Phase::Content | Phase::EndOfData, reply, .. }
                    if (500..=504).contains(&reply.code)
            )
        };
        self.in_chunks() && self.ended.as_ref().is_some_and(unknown)
    }

    /// With which words the server closed the connection, where it did so at a recipient.
    pub(super) fn farewell(&self) -> Option<&Cause> {
        self.refused.iter().flatten().find(|cause| is_closing(cause))
    }
}

const fn is_closing(cause: &Cause) -> bool {
    matches!(cause, Cause::Rejected { reply: Reply { code: CLOSING, .. }, .. })
}

fn is_about_address(reply: &Reply) -> bool {
    reply.enhanced.is_some_and(|code| matches!(code.subject, 1 | 2))
}
