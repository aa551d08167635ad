//! What a cause says of the conversation with a server: the reply behind it, and how far it came.

use super::{Cause, EgressFailure, Peer, Phase, RequireTlsFailure};
use crate::smtp::reply::Reply;

impl Cause {
    /// The reply behind it, and who gave it.
    #[must_use]
    pub fn reply(&self) -> Option<(&Peer, &Reply)> {
        match self {
            Self::RequireTlsUnmet { failure: RequireTlsFailure::Tls { cause }, .. } => cause.reply(),
            Self::Rejected { peer, reply, .. }
            | Self::StarttlsRefused { peer, reply, .. }
            | Self::EgressFailed {
                failure: EgressFailure::LoginRefused { peer, reply } | EgressFailure::LoginWanted { peer, reply },
                ..
            } => Some((peer, reply)),
            Self::DomainNotFound { .. }
            | Self::NullMx { .. }
            | Self::NoMailHost { .. }
            | Self::SpecialUseDomain { .. }
            | Self::NextHopUnknown { .. }
            | Self::DnsUnavailable { .. }
            | Self::DnsBogus { .. }
            | Self::MailLoop { .. }
            | Self::AddressForbidden { .. }
            | Self::NoRoute { .. }
            | Self::ConnectFailed { .. }
            | Self::TimedOut { .. }
            | Self::ConnectionLost { .. }
            | Self::ProtocolError { .. }
            | Self::PerhapsTaken { .. }
            | Self::StarttlsNotOffered { .. }
            | Self::TlsHandshake { .. }
            | Self::DaneMismatch { .. }
            | Self::CertificateRejected { .. }
            | Self::StsMxNotListed { .. }
            | Self::DaneRequired { .. }
            | Self::StsRequired { .. }
            | Self::StsPolicyLost { .. }
            | Self::EgressFailed { .. }
            | Self::RequireTlsUnmet { .. }
            | Self::NotSigned { .. }
            | Self::MessageTooLarge { .. }
            | Self::EightBitNotOffered { .. }
            | Self::SmtpUtf8NotOffered { .. }
            | Self::ContentDamaged
            | Self::BouncedByOperator { .. }
            | Self::Expired { .. } => None,
        }
    }

    /// Whether nobody came as far as the message: no word of it says anything about a recipient.
    #[must_use]
    pub fn is_of_the_host(&self) -> bool {
        match self {
            Self::TimedOut { phase, .. }
            | Self::ConnectionLost { phase, .. }
            | Self::ProtocolError { phase, .. }
            | Self::Rejected { phase, .. } => matches!(
                phase,
                Phase::Connect
                    | Phase::Greeting
                    | Phase::Ehlo
                    | Phase::StartTls
                    | Phase::Handshake
                    | Phase::EhloInTls
                    | Phase::Auth
            ),
            Self::NoRoute { .. }
            | Self::ConnectFailed { .. }
            | Self::NextHopUnknown { .. }
            | Self::NoMailHost { .. }
            | Self::DnsUnavailable { .. }
            | Self::DnsBogus { .. }
            | Self::AddressForbidden { .. }
            | Self::StarttlsNotOffered { .. }
            | Self::StarttlsRefused { .. }
            | Self::TlsHandshake { .. }
            | Self::DaneMismatch { .. }
            | Self::CertificateRejected { .. }
            | Self::StsMxNotListed { .. }
            | Self::DaneRequired { .. }
            | Self::StsRequired { .. }
            | Self::StsPolicyLost { .. }
            | Self::EgressFailed { .. } => true,
            Self::DomainNotFound { .. }
            | Self::NullMx { .. }
            | Self::SpecialUseDomain { .. }
            | Self::MailLoop { .. }
            | Self::PerhapsTaken { .. }
            | Self::RequireTlsUnmet { .. }
            | Self::NotSigned { .. }
            | Self::MessageTooLarge { .. }
            | Self::EightBitNotOffered { .. }
            | Self::SmtpUtf8NotOffered { .. }
            | Self::ContentDamaged
            | Self::BouncedByOperator { .. }
            | Self::Expired { .. } => false,
        }
    }

    /// Whether a message had begun when it happened: whoever tries a server without one does not meet it.
    #[must_use]
    pub fn is_met_by_messages_alone(&self) -> bool {
        matches!(
            self.root(),
            Self::TimedOut { phase, .. }
            | Self::ConnectionLost { phase, .. }
            | Self::ProtocolError { phase, .. }
            | Self::Rejected { phase, .. }
                if matches!(phase, Phase::MailFrom | Phase::RcptTo | Phase::Data | Phase::Content | Phase::EndOfData)
        )
    }
}
