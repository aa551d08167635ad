//! What stopped a session, in the words of all (RFC 5321 §4.2.1, §6.1).

use super::{Session, step_down};
use crate::outcome::Cause;
use crate::smtp::reply::{Reply, Severity};

impl Session {
    /// A refusal; a reply that is none, or does not fit here, is no word about the message.
    pub(super) fn rejected(&self, reply: Reply) -> Cause {
        match (reply.severity(), &self.tls_failure) {
            (Severity::Completed | Severity::Intermediate, _) => self.protocol(&format!("it answered {reply}")),
            (Severity::Transient | Severity::Permanent, Some(failure)) if step_down::is_about_tls(&reply) => {
                failure.clone()
            }
            (Severity::Transient | Severity::Permanent, _) => {
                Cause::Rejected { peer: self.job.peer.clone(), phase: self.phase(), reply }
            }
        }
    }

    pub(super) fn perhaps_taken(&self, detail: String) -> Cause {
        Cause::PerhapsTaken { peer: self.job.peer.clone(), detail }
    }

    pub(super) fn protocol(&self, detail: &str) -> Cause {
        Cause::ProtocolError { peer: self.job.peer.clone(), phase: self.phase(), detail: detail.to_owned() }
    }

    pub(super) fn lost(&self, detail: &str) -> Cause {
        Cause::ConnectionLost { peer: self.job.peer.clone(), phase: self.phase(), detail: detail.to_owned() }
    }
}
