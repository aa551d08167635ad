//! The words for what TLS and the policies about it came to (RFC 7672 §3, RFC 8461 §4, RFC 8689).

use super::{Cause, Class, EgressFailure, Peer, Row, Side, row};
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::fmt;

/// Why a certificate does not satisfy the TLSA records (RFC 7672 §3).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DaneFailure {
    /// No usable record fits a certificate of the chain.
    NoMatch,
    /// A trust anchor fits, but a certificate below it has expired.
    Expired,
    /// A trust anchor fits, but a certificate below it is not valid yet.
    NotYetValid,
    /// A trust anchor fits, but the certificate is for other names.
    NameMismatch {
        /// The names in the certificate.
        presented: Vec<String>,
    },
    /// A trust anchor fits, but the chain to it breaks a rule of RFC 5280.
    Chain {
        /// The rule that is broken.
        detail: String,
    },
    /// The server's certificate cannot be read.
    Unreadable {
        /// What the parser said.
        detail: String,
    },
}

impl fmt::Display for DaneFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMatch => f.write_str("no TLSA record matches the server's certificate chain"),
            Self::Expired => f.write_str("the certificate below the trust anchor in the TLSA record has expired"),
            Self::NotYetValid => {
                f.write_str("the certificate below the trust anchor in the TLSA record is not valid yet")
            }
            Self::NameMismatch { presented } => {
                write!(f, "the certificate is not for this host; its names are: {}", presented.join(", "))
            }
            Self::Chain { detail } => write!(f, "the chain to the trust anchor is not valid: {detail}"),
            Self::Unreadable { detail } => write!(f, "the server's certificate cannot be read: {detail}"),
        }
    }
}

/// Why a certificate is not good by the rules of the public PKI.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CertificateFailure {
    /// No valid chain leads to a trusted root.
    NotTrusted {
        /// What is wrong with the chain.
        detail: String,
    },
    /// A certificate of the chain has expired.
    Expired,
    /// A certificate of the chain is not valid yet.
    NotYetValid,
    /// The chain is good, but the certificate is for other hosts.
    NameMismatch {
        /// The DNS names in the certificate, none where it has only a Common Name.
        presented: Vec<String>,
    },
    /// The server's certificate cannot be read, or there is none.
    Unreadable {
        /// What the parser said.
        detail: String,
    },
}

impl fmt::Display for CertificateFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotTrusted { detail } => write!(f, "the certificate is not trusted: {detail}"),
            Self::Expired => f.write_str("a certificate of the chain has expired"),
            Self::NotYetValid => f.write_str("a certificate of the chain is not valid yet"),
            Self::NameMismatch { presented } if presented.is_empty() => {
                f.write_str("the certificate is not for this host; it has no DNS name in its subjectAltName")
            }
            Self::NameMismatch { presented } => {
                write!(f, "the certificate is not for this host; its names are: {}", presented.join(", "))
            }
            Self::Unreadable { detail } => write!(f, "the server's certificate cannot be read: {detail}"),
        }
    }
}

/// Whose demand it is that TLS or a certificate be there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DemandedBy {
    /// The recipient's side, by TLSA records (RFC 7672).
    #[default]
    Dane,
    /// The recipient's side, by an MTA-STS policy (RFC 8461).
    MtaSts,
    /// The sender, by REQUIRETLS (RFC 8689).
    RequireTls,
    /// The operator, by a `[[destination]]` or by `clear_text_fallback = false`.
    Operator,
    /// The receiving server itself: it takes no mail without.
    Server,
}

impl DemandedBy {
    /// The clause that ends in what is demanded: "… encryption".
    #[must_use]
    pub const fn who(self) -> &'static str {
        match self {
            Self::Dane => "The domain demands (by DANE, signed TLSA records in its DNS)",
            Self::MtaSts => "The domain demands (by its MTA-STS policy)",
            Self::RequireTls => "The sender demands (by REQUIRETLS)",
            Self::Operator => "The configuration of this relay demands",
            Self::Server => "The receiving side itself takes no mail without",
        }
    }
}

/// Why there is no MTA-STS policy where one is demanded.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MissingPolicy {
    /// What was found instead.
    pub detail: String,
    /// What was wrong with fetching it, where it came to that.
    pub fault: Option<StsFault>,
}

/// An MTA-STS policy that was known here and cannot be looked into any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LostPolicy {
    /// What became of it.
    pub detail: String,
    /// Until when it may hold; open where that cannot be told.
    pub until: Option<Timestamp>,
    /// Why it could not be fetched again, when that was tried.
    pub fetch: Option<String>,
}

/// How fetching an MTA-STS policy failed, in the terms of RFC 8460 §4.3.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StsFault {
    /// It could not be fetched.
    FetchError,
    /// What was fetched is no policy.
    Invalid,
    /// The certificate of the policy host is not good.
    WebPkiInvalid,
}

impl StsFault {
    /// The result type of RFC 8460 §4.3.
    #[must_use]
    pub const fn result_type(self) -> &'static str {
        match self {
            Self::FetchError => "sts-policy-fetch-error",
            Self::Invalid => "sts-policy-invalid",
            Self::WebPkiInvalid => "sts-webpki-invalid",
        }
    }
}

/// What REQUIRETLS lacks at a host (RFC 8689 §4.2.1).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RequireTlsFailure {
    /// Neither DNSSEC nor an MTA-STS policy says that this is a host of the domain.
    HostNotProven,
    /// The server does not offer REQUIRETLS inside TLS.
    NotOffered {
        /// The server.
        peer: Peer,
    },
    /// TLS or the certificate was not as it must be.
    Tls {
        /// What was wrong with TLS or the certificate.
        cause: Box<Cause>,
    },
}

/// A weakening by the operator that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExceptionInForce {
    /// `report-only`, `opportunistic`, `dane` or `off`.
    pub kind: String,
    /// Why the operator wants it.
    pub reason: String,
    /// Its last day.
    pub until: String,
}

/// A failure to protect the connection as it has to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unprotected<'a> {
    /// The MX host.
    pub host: &'a str,
    /// Whose demand was not met; nobody's where TLS failed that nobody demanded.
    pub demanded_by: Option<DemandedBy>,
}

impl Cause {
    /// What was lacking, where the cause is about TLS, a certificate or a policy; `None` for all
    /// other causes.
    #[must_use]
    pub fn unprotected(&self) -> Option<Unprotected<'_>> {
        let (host, demanded_by) = match self {
            Self::StarttlsNotOffered { peer, demanded_by }
            | Self::StarttlsRefused { peer, demanded_by, .. }
            | Self::CertificateRejected { peer, demanded_by, .. } => (&peer.host, Some(*demanded_by)),
            Self::TlsHandshake { peer, .. } => (&peer.host, None),
            Self::DaneMismatch { peer, .. } => (&peer.host, Some(DemandedBy::Dane)),
            Self::StsMxNotListed { host, .. } => (host, Some(DemandedBy::MtaSts)),
            Self::DaneRequired { host, .. } => (host, Some(DemandedBy::Operator)),
            Self::RequireTlsUnmet { failure: RequireTlsFailure::Tls { cause }, .. } => return cause.unprotected(),
            Self::RequireTlsUnmet { host, .. } => (host, Some(DemandedBy::RequireTls)),
            Self::EgressFailed { failure: EgressFailure::LoginUnprotected { cause: Some(cause) }, .. } => {
                return cause.unprotected();
            }
            Self::Expired { last, .. } => return last.as_ref()?.unprotected(),
            Self::DomainNotFound { .. }
            | Self::NullMx { .. }
            | Self::NoMailHost { .. }
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
            | Self::Rejected { .. }
            | Self::StsRequired { .. }
            | Self::StsPolicyLost { .. }
            | Self::EgressFailed { .. }
            | Self::NotSigned { .. }
            | Self::MessageTooLarge { .. }
            | Self::EightBitNotOffered { .. }
            | Self::SmtpUtf8NotOffered { .. }
            | Self::BouncedByOperator { .. }
            | Self::SpecialUseDomain { .. }
            | Self::NextHopUnknown { .. }
            | Self::ContentDamaged => return None,
        };
        Some(Unprotected { host, demanded_by })
    }

    /// Whether it is DNS, TLS or a policy that stops the mail: it could go out if nobody cared
    /// where to and who reads it on the way.
    #[must_use]
    pub fn is_about_safety(&self) -> bool {
        let root = self.root();
        root.unprotected().is_some()
            || matches!(
                root,
                Self::DnsUnavailable { .. }
                    | Self::DnsBogus { .. }
                    | Self::NextHopUnknown { .. }
                    | Self::StsRequired { .. }
                    | Self::StsPolicyLost { .. }
            )
    }
}

impl fmt::Display for ExceptionInForce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} until {} ({})", self.kind, self.until, self.reason)
    }
}

/// How far the proof of a DANE connection reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum DaneScope {
    /// From the recipient's domain to the server: the MX records are signed too.
    #[default]
    Domain,
    /// The server is the named host; that it serves the domain is not proven, because the MX
    /// records are not signed (RFC 7672 §2.2.1).
    Host,
}

/// How the connection that a message went over was protected.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "tls", rename_all = "kebab-case")]
pub enum TlsVerdict {
    /// No TLS.
    ClearText,
    /// TLS, and nobody checked with whom.
    Unauthenticated {
        /// `TLSv1.3`, `TLSv1.2`.
        version: String,
    },
    /// TLS with a certificate that a TLSA record vouches for.
    Dane {
        /// `TLSv1.3`, `TLSv1.2`.
        version: String,
        /// The record that matched: `3 1 1 …`.
        matched: String,
        /// How far the proof reaches.
        #[serde(default)]
        scope: DaneScope,
    },
    /// TLS with a certificate for the host that the public PKI vouches for.
    WebPki {
        /// `TLSv1.3`, `TLSv1.2`.
        version: String,
        /// The host in the certificate.
        host: String,
    },
    /// TLS with a certificate for a host of the domain's MTA-STS policy that the public PKI vouches
    /// for, and a TLSA record of the host, too; the MX records are not signed.
    WebPkiAndDane {
        /// `TLSv1.3`, `TLSv1.2`.
        version: String,
        /// The host in the certificate.
        host: String,
        /// The record that matched.
        matched: String,
    },
}

impl TlsVerdict {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::ClearText => "clear-text",
            Self::Unauthenticated { .. } => "unauthenticated",
            Self::Dane { scope: DaneScope::Domain, .. } => "dane",
            Self::Dane { scope: DaneScope::Host, .. } => "dane-host-only",
            Self::WebPki { .. } => "webpki",
            Self::WebPkiAndDane { .. } => "webpki-and-dane",
        }
    }

    /// The TLS version; none in clear text.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        match self {
            Self::ClearText => None,
            Self::Unauthenticated { version }
            | Self::Dane { version, .. }
            | Self::WebPki { version, .. }
            | Self::WebPkiAndDane { version, .. } => Some(version),
        }
    }

    /// What the certificate was found right by: a TLSA record, a host name, or both.
    #[must_use]
    pub fn matched(&self) -> Option<Cow<'_, str>> {
        match self {
            Self::ClearText | Self::Unauthenticated { .. } => None,
            Self::Dane { matched, .. } | Self::WebPki { host: matched, .. } => Some(matched.into()),
            Self::WebPkiAndDane { host, matched, .. } => Some(format!("{host}, {matched}").into()),
        }
    }
}

pub(super) fn dane_row(failure: &DaneFailure) -> Row {
    let at = |detail, word: &'static str| row(word, Class::Transient, 7, detail, Side::Recipient).reported_as(word);
    match failure {
        DaneFailure::Expired => at(322, "certificate-expired"),
        DaneFailure::NameMismatch { .. } => at(325, "certificate-host-mismatch"),
        DaneFailure::NoMatch
        | DaneFailure::NotYetValid
        | DaneFailure::Chain { .. }
        | DaneFailure::Unreadable { .. } => at(323, "tlsa-invalid"),
    }
}

/// For a certificate that MTA-STS or REQUIRETLS refuses; 4.7.5 is what Exchange shows for it.
pub(super) fn certificate_row(failure: &CertificateFailure) -> Row {
    let at = |word: &'static str| row(word, Class::Transient, 7, 5, Side::Recipient).reported_as(word);
    match failure {
        CertificateFailure::Expired => at("certificate-expired"),
        CertificateFailure::NameMismatch { .. } => at("certificate-host-mismatch"),
        CertificateFailure::NotTrusted { .. } => at("certificate-not-trusted"),
        CertificateFailure::NotYetValid | CertificateFailure::Unreadable { .. } => at("validation-failure"),
    }
}
