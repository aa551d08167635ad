//! What became of a recipient, and why: one typed [`Cause`] for every failure.
//!
//! The log line, the metric label, the NDR and `relay check` take their words from here
//! ([`Cause::row`], [`Cause::sentence`], [`Cause::advice`], [`Cause::evidence`]) and from nowhere
//! else, so that a fault reads the same wherever somebody meets it.
//!
//! Enhanced status codes follow RFC 3463 and, for DANE, the numbers Exchange administrators
//! search for (X.7.321 to X.7.325); the result types beside them are those of RFC 8460 §4.3.

#[cfg(test)]
mod cause_tests;
mod certainty;
mod conversation;
mod egress;
#[cfg(test)]
pub(crate) mod every;
mod named;
mod refusal;
pub(crate) mod rows;
mod stored;
mod tls;
mod words;

pub use certainty::Certainty;
pub use egress::EgressFailure;
pub use named::{NAMES, Named, UNITS, Unit, span};
pub use tls::{
    CertificateFailure, DaneFailure, DaneScope, DemandedBy, ExceptionInForce, LostPolicy, MissingPolicy,
    RequireTlsFailure, StsFault, TlsVerdict, Unprotected,
};

use crate::smtp::address::Domain;
use crate::smtp::dkim::Unsignable;
use crate::smtp::eight_bit::Unconvertible;
use crate::smtp::reply::{EnhancedStatusCode, Reply, Severity};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};

/// Whether trying again can help (RFC 3463 §2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Class {
    /// 4.y.z: the message stays and is tried again.
    Transient,
    /// 5.y.z: the recipient has failed.
    Permanent,
}

impl Class {
    /// The first digit of the enhanced status code.
    #[must_use]
    pub const fn digit(self) -> u8 {
        match self {
            Self::Transient => 4,
            Self::Permanent => 5,
        }
    }
}

/// Who has to act.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// This relay or its host.
    Here,
    /// The DNS resolver this relay asks.
    Resolver,
    /// The network between us and the other side.
    Path,
    /// The recipient's domain or mail servers.
    Recipient,
    /// Whoever wrote the message.
    Sender,
}

impl Side {
    /// The word for logs, metrics and reports.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Here => "here",
            Self::Resolver => "resolver",
            Self::Path => "path",
            Self::Recipient => "recipient",
            Self::Sender => "sender",
        }
    }

    /// Whether those who run this relay have to look at it first, and no recipient.
    #[must_use]
    pub const fn is_ours(self) -> bool {
        match self {
            Self::Here | Self::Resolver | Self::Path => true,
            Self::Recipient | Self::Sender => false,
        }
    }

    /// Who must act, as the NDR says it.
    #[must_use]
    pub const fn who_must_act(self) -> &'static str {
        match self {
            Self::Here => "The administrators of the sending mail system (yours) must act.",
            Self::Resolver => "The administrators of the sending mail system (yours) must look at their DNS resolver.",
            Self::Path => {
                "The administrators of the sending mail system (yours) should look first: \
                 the fault lies on the network path or at the other end."
            }
            Self::Recipient => "The administrators of the recipient's mail system must act.",
            Self::Sender => "You can correct this yourself.",
        }
    }
}

/// A step of the conversation with a mail server; see [`Phase::phrase`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// Opening the TCP connection.
    Connect,
    /// The 220 greeting.
    Greeting,
    /// EHLO or HELO.
    Ehlo,
    /// The reply to STARTTLS.
    StartTls,
    /// The TLS handshake.
    Handshake,
    /// EHLO inside TLS.
    EhloInTls,
    /// AUTH (RFC 4954).
    Auth,
    /// MAIL FROM.
    MailFrom,
    /// RCPT TO.
    RcptTo,
    /// The reply to DATA.
    Data,
    /// Sending the content.
    Content,
    /// The reply to the final dot.
    EndOfData,
}

impl Phase {
    /// The phrase that fits after "while".
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::Connect => "opening the connection",
            Self::Greeting => "waiting for the greeting",
            Self::Ehlo => "waiting for the reply to EHLO",
            Self::StartTls => "waiting for the reply to STARTTLS",
            Self::Handshake => "setting up TLS",
            Self::EhloInTls => "waiting for the reply to EHLO inside TLS",
            Self::Auth => "logging in",
            Self::MailFrom => "waiting for the reply to MAIL FROM",
            Self::RcptTo => "waiting for the reply to RCPT TO",
            Self::Data => "waiting for the reply to DATA",
            Self::Content => "sending the message content",
            Self::EndOfData => "waiting for the reply to the end of the message (the other side may have accepted it)",
        }
    }
}

/// The mail server a failure happened with.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// The MX host, or the address where there is no name.
    pub host: String,
    /// The address and port that were tried.
    pub address: SocketAddr,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}]:{}", self.host, self.address.ip(), self.address.port())
    }
}

/// A question to the DNS.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Question {
    /// The name asked for.
    pub name: String,
    /// The record type: `MX`, `A`, `AAAA`, `TLSA`, `CNAME`.
    pub record_type: String,
}

impl fmt::Display for Question {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.record_type)
    }
}

/// One way to the DNS that gave no usable answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PathFailure {
    /// The upstream, in the words of the configuration: `udp://127.0.0.1:53`.
    pub upstream: String,
    /// What happened: `timeout`, `SERVFAIL`, an error of the system.
    pub detail: String,
}

impl fmt::Display for PathFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.upstream, self.detail)
    }
}

/// Why a delivery did not succeed. Every variant has one [`Row`] in the table below.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(remote = "Self", tag = "kind", rename_all = "kebab-case")]
pub enum Cause {
    /// NXDOMAIN for the recipient's domain.
    DomainNotFound {
        /// The domain.
        domain: Domain,
    },
    /// `MX 0 .` (RFC 7505).
    NullMx {
        /// The domain.
        domain: Domain,
    },
    /// The domain exists and has neither MX nor address, or MX hosts without addresses.
    NoMailHost {
        /// The domain.
        domain: Domain,
    },
    /// The domain belongs to private networks or to no network at all (RFC 6761), and the
    /// configuration says nothing about it.
    SpecialUseDomain {
        /// The domain.
        domain: Domain,
    },
    /// The host that the configuration names as next hop cannot be found: ours to set right, and
    /// never a reason to return mail before its time.
    NextHopUnknown {
        /// The host.
        name: Domain,
        /// Why its address could not be found.
        detail: String,
        /// The question to the public DNS that decides and had no usable answer, where one does.
        question: Option<Question>,
        /// The paths tried for it and how each failed.
        tried: Vec<PathFailure>,
    },
    /// A question to the DNS got no usable answer on any path.
    DnsUnavailable {
        /// What was asked.
        question: Question,
        /// The paths tried and how each failed.
        tried: Vec<PathFailure>,
    },
    /// An answer failed DNSSEC validation.
    DnsBogus {
        /// What was asked.
        question: Question,
        /// What the validator said.
        detail: String,
    },
    /// Every MX host is this relay itself or worse (RFC 5321 §5.1).
    MailLoop {
        /// The domain.
        domain: Domain,
    },
    /// The MX host leads to loopback or to an address of our own.
    AddressForbidden {
        /// The MX host.
        host: String,
        /// Where it leads.
        address: IpAddr,
    },
    /// This host has no route to the server: no packet left it.
    NoRoute {
        /// The server that was tried.
        peer: Peer,
        /// What the system said.
        detail: String,
    },
    /// No connection could be opened.
    ConnectFailed {
        /// The server.
        peer: Peer,
        /// What the system said.
        detail: String,
    },
    /// The other side was silent for too long.
    TimedOut {
        /// The server.
        peer: Peer,
        /// The step of the conversation in which it happened.
        phase: Phase,
    },
    /// The connection broke.
    ConnectionLost {
        /// The server.
        peer: Peer,
        /// The step of the conversation in which it happened.
        phase: Phase,
        /// What the system said.
        detail: String,
    },
    /// What the other side said is not SMTP.
    ProtocolError {
        /// The server.
        peer: Peer,
        /// The step of the conversation in which it happened.
        phase: Phase,
        /// What was wrong.
        detail: String,
    },
    /// The whole message went out with its end, and what came back is no reply, or nothing: the
    /// other side may have it (RFC 5321 §6.1).
    PerhapsTaken {
        /// The server that was tried.
        peer: Peer,
        /// What happened instead of a reply.
        detail: String,
    },
    /// The other side said no.
    Rejected {
        /// The server.
        peer: Peer,
        /// The step of the conversation in which it happened.
        phase: Phase,
        /// The reply of the server.
        reply: Reply,
    },
    /// TLS is demanded and the server does not offer it.
    StarttlsNotOffered {
        /// The server.
        peer: Peer,
        /// Who demands it.
        #[serde(default)]
        demanded_by: DemandedBy,
    },
    /// TLS is demanded and the server refused STARTTLS.
    StarttlsRefused {
        /// The server.
        peer: Peer,
        /// The reply of the server.
        reply: Reply,
        /// Who demands it.
        #[serde(default)]
        demanded_by: DemandedBy,
    },
    /// The TLS handshake failed.
    TlsHandshake {
        /// The server.
        peer: Peer,
        /// What the TLS library said.
        detail: String,
    },
    /// The server's certificate does not satisfy its TLSA records.
    DaneMismatch {
        /// The server.
        peer: Peer,
        /// In what the certificate differs from the records.
        failure: DaneFailure,
        /// The TLSA base domain.
        base_domain: String,
        /// How many usable TLSA records were compared.
        usable_records: usize,
        /// SHA-256 of the server's certificate, hexadecimal.
        certificate_sha256: String,
    },
    /// The server's certificate is not good by the public PKI, and has to be (RFC 8461 §4.2).
    CertificateRejected {
        /// The server.
        peer: Peer,
        /// What is wrong with the certificate.
        failure: CertificateFailure,
        /// Who demands it.
        demanded_by: DemandedBy,
        /// SHA-256 of the server's certificate, hexadecimal.
        certificate_sha256: String,
    },
    /// The MX host does not stand in the MTA-STS policy of its domain (RFC 8461 §4.1).
    StsMxNotListed {
        /// The policy domain.
        domain: Domain,
        /// The MX host.
        host: String,
        /// The `mx` patterns of the policy.
        listed: Vec<String>,
        /// The id of the policy, where it is known.
        policy_id: Option<String>,
    },
    /// The configuration demands DANE and the host has none (RFC 7672 §6).
    DaneRequired {
        /// The MX host.
        host: String,
        /// Why there is none.
        because: String,
    },
    /// The configuration demands an MTA-STS policy and the domain has none that can be used.
    StsRequired {
        /// The policy domain, or the next hop where there cannot be one.
        domain: String,
        /// Why there is none.
        missing: MissingPolicy,
    },
    /// An MTA-STS policy that may be in force was known here and cannot be looked into, and could
    /// not be fetched again (RFC 8461 §5.1).
    StsPolicyLost {
        /// The policy domain.
        domain: Domain,
        /// What became of it.
        lost: LostPolicy,
    },
    /// The sender asked for REQUIRETLS and this host cannot keep it (RFC 8689 §4.2.1).
    RequireTlsUnmet {
        /// The MX host.
        host: String,
        /// What is lacking.
        failure: RequireTlsFailure,
    },
    /// The way out that the configuration names cannot be gone.
    EgressFailed {
        /// The mail server.
        host: String,
        /// What the way out lacks.
        failure: EgressFailure,
    },
    /// The message is to be signed by the domain of its author (RFC 6376), and that cannot be done.
    NotSigned {
        /// The domain, where it is known.
        domain: Option<Domain>,
        /// What is in the way.
        failure: Unsignable,
    },
    /// The message is above the size the server takes.
    MessageTooLarge {
        /// The server.
        peer: Peer,
        /// Its limit in octets.
        limit: u64,
        /// The message in octets.
        size: u64,
    },
    /// 8-bit content for a server without 8BITMIME.
    EightBitNotOffered {
        /// The server.
        peer: Peer,
        /// Why the content could not be made 7-bit, once all servers wanted that.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        unconvertible: Option<Unconvertible>,
    },
    /// Addresses or header outside ASCII for a server without SMTPUTF8 (RFC 6531 §3.2).
    #[serde(rename = "smtputf8-not-offered")]
    SmtpUtf8NotOffered {
        /// The server.
        peer: Peer,
    },
    /// The content in our spool does not match its checksum.
    ContentDamaged,
    /// The operator has returned the message.
    BouncedByOperator {
        /// The last real cause.
        last: Option<Box<Self>>,
    },
    /// The message has waited for as long as it may.
    Expired {
        /// How long it waited, in seconds.
        waited_s: u64,
        /// The last real cause.
        last: Option<Box<Self>>,
    },
}

/// What the table says about a cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Row {
    /// The word for logs, metrics and JSON.
    pub word: &'static str,
    /// Whether trying again can help.
    pub class: Class,
    /// The enhanced status code.
    pub status: EnhancedStatusCode,
    /// The result type of RFC 8460 §4.3, where one exists.
    pub result_type: Option<&'static str>,
    /// Who has to act.
    pub side: Side,
}

const fn row(word: &'static str, class: Class, subject: u16, detail: u16, side: Side) -> Row {
    let status = EnhancedStatusCode::new(class.digit(), subject, detail);
    Row { word, class, status, result_type: None, side }
}

impl Row {
    const fn reported_as(self, result_type: &'static str) -> Self {
        Self { result_type: Some(result_type), ..self }
    }
}

impl Cause {
    /// The one table: word, class, enhanced status code, RFC 8460 result type, side.
    #[must_use]
    pub fn row(&self) -> Row {
        use Class::{Permanent, Transient};
        use Side::{Here, Path, Recipient, Resolver, Sender};
        match self {
            Self::DomainNotFound { .. } => row("domain-not-found", Permanent, 1, 2, Sender),
            Self::NullMx { .. } => row("null-mx", Permanent, 1, 10, Sender),
            Self::NoMailHost { .. } => row("no-mail-host", Permanent, 4, 4, Recipient),
            Self::SpecialUseDomain { .. } => row("special-use-domain", Permanent, 1, 2, Sender),
            Self::NextHopUnknown { .. } => row("next-hop-unknown", Transient, 4, 4, Here),
            Self::DnsUnavailable { question, .. } => {
                let found = row("dns-unavailable", Transient, 4, 3, Resolver);
                match question.record_type.as_str() {
                    "TLSA" => found.reported_as("dnssec-invalid"),
                    // The record that announces a policy of MTA-STS.
                    "TXT" => found.reported_as(StsFault::FetchError.result_type()),
                    _ => found,
                }
            }
            Self::DnsBogus { .. } => row("dnssec-invalid", Transient, 7, 324, Recipient).reported_as("dnssec-invalid"),
            Self::MailLoop { .. } => row("mail-loop", Permanent, 4, 6, Recipient),
            Self::AddressForbidden { .. } => row("address-forbidden", Permanent, 4, 4, Recipient),
            Self::NoRoute { .. } => row("no-route", Transient, 4, 1, Here),
            Self::ConnectFailed { .. } => row("connect-failed", Transient, 4, 1, Path),
            Self::TimedOut { .. } => row("timed-out", Transient, 4, 2, Path),
            Self::ConnectionLost { .. } => row("connection-lost", Transient, 4, 2, Path),
            Self::ProtocolError { .. } => row("protocol-error", Transient, 5, 0, Recipient),
            Self::PerhapsTaken { .. } => row("perhaps-taken", Transient, 4, 2, Recipient),
            Self::Rejected { reply, .. } => rejected_row(reply),
            Self::StarttlsNotOffered { .. } | Self::StarttlsRefused { .. } => {
                row("starttls-not-supported", Transient, 7, 321, Recipient).reported_as("starttls-not-supported")
            }
            Self::TlsHandshake { .. } => {
                row("tls-handshake-failed", Transient, 7, 321, Recipient).reported_as("validation-failure")
            }
            Self::DaneMismatch { failure, .. } => tls::dane_row(failure),
            Self::CertificateRejected { failure, .. } => tls::certificate_row(failure),
            Self::StsMxNotListed { .. } => {
                row("sts-mx-not-listed", Transient, 4, 8, Recipient).reported_as("validation-failure")
            }
            Self::DaneRequired { .. } => row("dane-required", Transient, 7, 10, Here).reported_as("dane-required"),
            Self::StsRequired { missing, .. } => {
                let result_type = missing.fault.map(StsFault::result_type);
                Row { result_type, ..row("sts-required", Transient, 7, 10, Here) }
            }
            Self::StsPolicyLost { .. } => {
                row("sts-policy-lost", Transient, 3, 0, Here).reported_as(StsFault::FetchError.result_type())
            }
            Self::RequireTlsUnmet { .. } => row("requiretls-unmet", Permanent, 7, 30, Recipient),
            Self::EgressFailed { failure, .. } => failure.row(),
            Self::NotSigned { failure, .. } => match failure {
                Unsignable::HeaderTooLarge | Unsignable::TooManyFields => {
                    row("dkim-unsignable", Permanent, 6, 0, Sender)
                }
                Unsignable::KeyUnusable | Unsignable::Unreadable => row("dkim-signing-failed", Transient, 7, 5, Here),
            },
            Self::MessageTooLarge { .. } => row("message-too-large", Permanent, 3, 4, Sender),
            Self::EightBitNotOffered { .. } => row("eight-bit-not-offered", Permanent, 6, 3, Recipient),
            Self::SmtpUtf8NotOffered { .. } => row("smtputf8-not-offered", Permanent, 6, 7, Recipient),
            Self::ContentDamaged => row("content-damaged", Permanent, 3, 0, Here),
            Self::BouncedByOperator { .. } => row("bounced-by-operator", Permanent, 3, 0, Here),
            Self::Expired { last, .. } => {
                let side = last.as_ref().map_or(Path, |cause| cause.row().side);
                row("expired", Permanent, 4, 7, side)
            }
        }
    }

    /// Whether trying again can help.
    #[must_use]
    pub fn class(&self) -> Class {
        self.row().class
    }

    /// Whether the other side may have the message, so that every further try can make a copy.
    #[must_use]
    pub const fn may_be_delivered(&self) -> bool {
        matches!(
            self,
            Self::PerhapsTaken { .. }
                // What earlier relays wrote.
                | Self::TimedOut { phase: Phase::EndOfData, .. }
                | Self::ConnectionLost { phase: Phase::EndOfData, .. }
        )
    }

    /// Who must act, as the NDR says it. Where the DNS is silent or says that it has failed, nobody can tell
    /// from that alone whose part of it has: a dead zone and a dead resolver look the same (RFC 8906 §2).
    #[must_use]
    pub fn who_must_act(&self) -> &'static str {
        let root = self.root();
        if matches!(root, Self::DnsUnavailable { .. }) {
            return "It is not known yet whose fault this is: the DNS of the recipient's domain does not answer, or the way \
                 to it from the sending mail system (yours) is disturbed. The administrators of the sending mail system \
                 can find out.";
        }
        root.row().side.who_must_act()
    }

    /// The cause that stopped the mail: for one that expired, or that the operator returned, the
    /// last one it met.
    #[must_use]
    pub fn root(&self) -> &Self {
        if let Self::Expired { last: Some(last), .. } | Self::BouncedByOperator { last: Some(last) } = self {
            return last.root();
        }
        self
    }
}

fn rejected_row(reply: &Reply) -> Row {
    let class = match reply.severity() {
        Severity::Permanent => Class::Permanent,
        // A 2yz or 3yz where it makes no sense is no acceptance; trying again is safe.
        Severity::Transient | Severity::Completed | Severity::Intermediate => Class::Transient,
    };
    let fits = reply.enhanced.filter(|code| code.class == class.digit());
    let status = fits.unwrap_or_else(|| mapped_status(class, reply.code));
    let word = match class {
        Class::Permanent => "rejected",
        Class::Transient => "rejected-for-now",
    };
    let side = if refusal::fault_of_ours(reply).is_some() { Side::Here } else { Side::Recipient };
    Row { word, class, status, result_type: None, side }
}

/// The enhanced code for a reply that brings none (RFC 3463 §3).
fn mapped_status(class: Class, code: u16) -> EnhancedStatusCode {
    let (subject, detail) = match code {
        421 => (4, 2),
        450 | 550 => (1, 1),
        452 => (3, 1),
        552 => (3, 4),
        551 => (1, 6),
        553 => (1, 3),
        500..=504 => (5, 2),
        _ => (0, 0), // no better code is known
    };
    EnhancedStatusCode::new(class.digit(), subject, detail)
}

/// How one recipient stands after an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum DeliveryOutcome {
    /// The next hop took responsibility.
    Delivered {
        /// Who took it.
        peer: Peer,
        /// How the connection was protected.
        tls: TlsVerdict,
        /// Its reply to the end of data.
        reply: Reply,
        /// Whether it also took over the sender's NOTIFY for this recipient, so that what becomes
        /// of the message is its to tell (RFC 3461 §5.2.1). False where the sender gave none.
        #[serde(default)]
        notify_passed_on: bool,
    },
    /// It did not; the class of the cause says whether trying again can help.
    Failed {
        /// The reason for which it was not delivered.
        cause: Cause,
    },
}
