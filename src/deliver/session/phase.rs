//! Where a session stands, and the causes that say so (RFC 5321 §4.5.3.2).

use super::{Session, StartTlsUse, State};
use crate::outcome::{Cause, DemandedBy, Phase};

impl Session {
    /// Whether the next reply is the first one inside TLS.
    #[must_use]
    pub(crate) fn is_first_read_in_tls(&self) -> bool {
        match self.job.starttls {
            StartTlsUse::FromTheStart => self.state == State::Greeting,
            StartTlsUse::Required(_)
            | StartTlsUse::IfOffered
            | StartTlsUse::AsOffered
            | StartTlsUse::Never
            | StartTlsUse::NotAgain => self.state == State::EhloInTls,
        }
    }

    /// The phase the session is in, for faults.
    #[must_use]
    pub(crate) fn phase(&self) -> Phase {
        match self.state {
            State::Start => Phase::Connect,
            State::Greeting => Phase::Greeting,
            State::Ehlo | State::Helo => Phase::Ehlo,
            State::StartTls => Phase::StartTls,
            State::Handshake => Phase::Handshake,
            State::EhloInTls => Phase::EhloInTls,
            State::Auth => Phase::Auth,
            State::Ready | State::Mail => Phase::MailFrom,
            State::Rcpt(_) => Phase::RcptTo,
            State::Data => Phase::Data,
            State::Body => Phase::Content,
            State::Chunks(_) | State::EndOfData | State::Done => Phase::EndOfData,
        }
    }

    pub(super) fn not_offered(&self, demanded_by: DemandedBy) -> Cause {
        Cause::StarttlsNotOffered { peer: self.job.peer.clone(), demanded_by }
    }
}
