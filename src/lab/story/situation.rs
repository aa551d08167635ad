//! The faults that must be told apart, one by one, with what is the truth about each: who is at
//! fault, the word for it, and what becomes of mail (RFC 7672 §2.1.2, RFC 8460 §4.3).
//!
//! This is the table alone; [`super::stage`] builds what it speaks of. A word is given where it is
//! settled which one it is.

use crate::outcome::Side;

/// A situation of the domain [`super::stage::DOMAIN`] or of the way to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Situation {
    /// DANE, and nothing is wrong.
    Healthy,
    /// No DANE, and nothing is wrong.
    HealthyWithoutDane,
    /// A box between relay and resolver drops answers with more than four TLSA records.
    CountFilter,
    /// As [`Situation::CountFilter`], over UDP alone.
    CountFilterOverUdp,
    /// The box is behind the resolver, which falls silent.
    CountFilterBeyondSilence,
    /// The box is behind the resolver, which answers SERVFAIL.
    CountFilterBeyondServFail,
    /// An IPS answers REFUSED itself in place of answers with more than four TLSA records.
    RefusedOverCount,
    /// An IPS leaves four TLSA records in an answer that has more.
    CutToFour,
    /// A box drops answers to every TLSA question.
    TypeFilter,
    /// The box is behind the resolver, which answers SERVFAIL.
    TypeFilterBeyondServFail,
    /// A box drops answers with more than four records of whatever type.
    AnyCountFilter,
    /// A box drops UDP answers above 512 octets.
    SizeFilter,
    /// A box drops questions with EDNS.
    EdnsFilter,
    /// As [`Situation::EdnsFilter`], over UDP alone.
    EdnsFilterOverUdp,
    /// A box closes TCP port 53, and the answer does not fit into UDP.
    Tcp53Blocked,
    /// A box answers TLSA questions itself: there are none.
    TlsaForged,
    /// The resolver takes the signatures away.
    ResolverStrips,
    /// The resolver is trusted to validate and has ceased to.
    ResolverNotValidating,
    /// The resolver answers SERVFAIL for everything; the servers it should ask are well.
    ResolverFails,
    /// The resolver answers every question for keys with nothing, those of the root too.
    ResolverWithoutKeys,
    /// The signatures of the recipient's zone are wrong.
    ZoneBogus,
    /// The signatures of the recipient's zone have expired.
    ZoneExpired,
    /// The recipient's name servers answer SERVFAIL for TLSA.
    RecipientServFail,
    /// The recipient's name servers do not answer questions for TLSA.
    RecipientDropsTlsa,
    /// The recipient's name servers do not answer the one question for the TLSA records, which are
    /// more than four.
    RecipientSilent,
    /// None of the recipient's name servers answers anything.
    NameServersDead,
    /// The recipient has a new certificate and published no TLSA record for it.
    CertificateRolled,
    /// One of four addresses of the recipient's host has an old certificate.
    OneOldCertificate,
    /// The recipient's MTA-STS policy does not list the new MX host.
    PolicyMissesHost,
    /// A box takes STARTTLS out of the conversation.
    StartTlsStripped,
    /// A box masks banner and keywords.
    BannerMasked,
    /// A box ends TLS with a certificate of its own.
    TlsIntercepted,
    /// A proxy answers in place of every mail server.
    ProxyForEveryone,
    /// A gateway answers in place of every mail server, with a certificate of its own.
    GatewayForEveryone,
    /// A firewall ends every connection at the first octet of a TLS handshake.
    HandshakesCut,
    /// The recipient's server turns this host away because its address is on a block list.
    AddressListed,
    /// Port 25 is blocked here: connections are refused.
    Port25Refused,
    /// Port 25 is blocked here: nothing comes back.
    Port25Silent,
    /// The clock of this host is thirty days behind.
    WrongClock,
    /// As [`Situation::CountFilterOverUdp`]; the box is behind the resolver, which answers SERVFAIL.
    CountFilterOverUdpBeyondServFail,
    /// As [`Situation::TlsaForged`]; the box is behind the resolver, which answers SERVFAIL.
    TlsaForgedBeyondServFail,
    /// The trust anchors of this host are those of another root.
    WrongAnchors,
    /// As [`Situation::CertificateRolled`]; the new certificate is one of a public authority.
    PublicCertificateRolled,
    /// As [`Situation::TlsIntercepted`]; this host trusts the authority of the box.
    InterceptedByTrusted,
    /// The recipient's policy demands a public certificate, and its server shows one without the
    /// intermediate certificate.
    IntermediateMissing,
    /// The recipient's policy begins with a byte order mark.
    PolicyWithMark,
    /// The recipient's server greets after six seconds, as servers do that wait for who speaks too early.
    GreetsLate,
    /// Every reply of the recipient's server takes long.
    RepliesLate,
    /// Every answer of the resolver takes long.
    ResolverSlow,
}

/// What becomes of a message that is queued for the domain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MessageFate {
    /// It is delivered; the word for its protection.
    Delivered(&'static str),
    /// It waits.
    Waits {
        /// The word for the cause.
        cause: &'static str,
        /// The enhanced status code.
        status: &'static str,
    },
    /// It goes back to its sender.
    Returned {
        /// The word for the cause.
        cause: &'static str,
        /// The enhanced status code.
        status: &'static str,
    },
}

/// The truth about a situation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truth {
    /// Who is at fault, if anybody is.
    pub side: Option<Side>,
    /// The word for the fault, where it is settled.
    pub word: Option<&'static str>,
    /// What becomes of mail.
    pub mail: MessageFate,
}

/// The DNS gave no usable answer (RFC 7672 §2.1.2: then mail waits).
const NO_ANSWER: MessageFate = MessageFate::Waits { cause: "dns-unavailable", status: "4.4.3" };
/// All answers fail validation.
const BOGUS: MessageFate = MessageFate::Waits { cause: "dnssec-invalid", status: "4.7.324" };
/// No certificate fits.
const MISFIT: MessageFate = MessageFate::Waits { cause: "tlsa-invalid", status: "4.7.323" };
/// TLSA records demand TLS, and there is none.
const NO_TLS: MessageFate = MessageFate::Waits { cause: "starttls-not-supported", status: "4.7.321" };
/// Delivered by DANE.
const BY_DANE: MessageFate = MessageFate::Delivered("dane");

impl Situation {
    /// All of them, the healthy ones first.
    pub const ALL: [Self; 49] = [
        Self::Healthy,
        Self::HealthyWithoutDane,
        Self::CountFilter,
        Self::CountFilterOverUdp,
        Self::CountFilterBeyondSilence,
        Self::CountFilterBeyondServFail,
        Self::RefusedOverCount,
        Self::CutToFour,
        Self::TypeFilter,
        Self::TypeFilterBeyondServFail,
        Self::AnyCountFilter,
        Self::SizeFilter,
        Self::EdnsFilter,
        Self::EdnsFilterOverUdp,
        Self::Tcp53Blocked,
        Self::TlsaForged,
        Self::ResolverStrips,
        Self::ResolverNotValidating,
        Self::ResolverFails,
        Self::ResolverWithoutKeys,
        Self::ZoneBogus,
        Self::ZoneExpired,
        Self::RecipientServFail,
        Self::RecipientDropsTlsa,
        Self::RecipientSilent,
        Self::NameServersDead,
        Self::CertificateRolled,
        Self::OneOldCertificate,
        Self::PolicyMissesHost,
        Self::StartTlsStripped,
        Self::BannerMasked,
        Self::TlsIntercepted,
        Self::ProxyForEveryone,
        Self::GatewayForEveryone,
        Self::HandshakesCut,
        Self::AddressListed,
        Self::Port25Refused,
        Self::Port25Silent,
        Self::WrongClock,
        Self::CountFilterOverUdpBeyondServFail,
        Self::TlsaForgedBeyondServFail,
        Self::WrongAnchors,
        Self::PublicCertificateRolled,
        Self::InterceptedByTrusted,
        Self::IntermediateMissing,
        Self::PolicyWithMark,
        Self::GreetsLate,
        Self::RepliesLate,
        Self::ResolverSlow,
    ];

    /// The truth about it.
    #[must_use]
    pub const fn truth(self) -> Truth {
        match self {
            Self::Healthy | Self::GreetsLate | Self::RepliesLate => Truth { side: None, word: None, mail: BY_DANE },
            Self::HealthyWithoutDane => {
                Truth { side: None, word: None, mail: MessageFate::Delivered("unauthenticated") }
            }
            Self::CountFilter
            | Self::CountFilterBeyondSilence
            | Self::CountFilterBeyondServFail
            | Self::CountFilterOverUdpBeyondServFail
            | Self::RefusedOverCount
            | Self::AnyCountFilter => path("local-dns-count-filter", NO_ANSWER),
            Self::CutToFour => path("local-dns-count-filter", BOGUS),
            Self::CountFilterOverUdp => path("local-dns-count-filter", BY_DANE),
            Self::TypeFilter | Self::TypeFilterBeyondServFail => path("local-dns-type-filter", NO_ANSWER),
            Self::SizeFilter => path("local-dns-size-filter", BY_DANE),
            Self::EdnsFilter => path("local-dns-edns-filter", NO_ANSWER),
            Self::EdnsFilterOverUdp => path("local-dns-edns-filter", BY_DANE),
            Self::Tcp53Blocked => path("local-tcp53-blocked", NO_ANSWER),
            Self::TlsaForged | Self::TlsaForgedBeyondServFail => Truth { word: None, ..path("", BOGUS) },
            Self::ResolverStrips => resolver("resolver-strips-dnssec"),
            Self::ResolverNotValidating => resolver("resolver-not-validating"),
            Self::ResolverWithoutKeys => Truth { mail: BOGUS, ..resolver("resolver-strips-dnssec") },
            Self::ResolverFails => resolver("resolver-side"),
            Self::ZoneBogus | Self::ZoneExpired => recipient("dnssec-invalid", BOGUS),
            Self::RecipientServFail | Self::RecipientDropsTlsa | Self::RecipientSilent | Self::NameServersDead => {
                recipient("recipient-dns", NO_ANSWER)
            }
            Self::CertificateRolled | Self::PublicCertificateRolled => recipient("tlsa-invalid", MISFIT),
            Self::IntermediateMissing => recipient(
                "certificate-not-trusted",
                MessageFate::Waits { cause: "certificate-not-trusted", status: "4.7.5" },
            ),
            Self::PolicyWithMark => recipient("sts-policy-invalid", MessageFate::Delivered("unauthenticated")),
            Self::ResolverSlow => Truth { word: Some("slow"), mail: BY_DANE, ..resolver("slow") },
            Self::OneOldCertificate => recipient("tlsa-invalid", BY_DANE),
            Self::PolicyMissesHost => {
                recipient("sts-mx-not-listed", MessageFate::Waits { cause: "sts-mx-not-listed", status: "4.4.8" })
            }
            Self::StartTlsStripped | Self::BannerMasked | Self::ProxyForEveryone => {
                path("local-smtp-rewritten", NO_TLS)
            }
            Self::GatewayForEveryone => path("local-smtp-rewritten", MISFIT),
            Self::TlsIntercepted | Self::InterceptedByTrusted => path("local-tls-intercepted", MISFIT),
            Self::HandshakesCut => {
                path("local-tls-blocked", MessageFate::Waits { cause: "tls-handshake-failed", status: "4.7.321" })
            }
            Self::AddressListed => Truth {
                side: Some(Side::Here),
                word: Some("rejected"),
                mail: MessageFate::Returned { cause: "rejected", status: "5.7.1" },
            },
            Self::Port25Refused => {
                path("local-port25-blocked", MessageFate::Waits { cause: "connect-failed", status: "4.4.1" })
            }
            Self::Port25Silent => {
                path("local-port25-blocked", MessageFate::Waits { cause: "timed-out", status: "4.4.2" })
            }
            Self::WrongAnchors => Truth { side: Some(Side::Here), word: Some("local-trust-anchor"), mail: BOGUS },
            Self::WrongClock => Truth { side: Some(Side::Here), word: Some("local-clock-wrong"), mail: BOGUS },
        }
    }
}

const fn path(word: &'static str, mail: MessageFate) -> Truth {
    Truth { side: Some(Side::Path), word: Some(word), mail }
}

const fn resolver(word: &'static str) -> Truth {
    Truth { side: Some(Side::Resolver), word: Some(word), mail: NO_ANSWER }
}

const fn recipient(word: &'static str, mail: MessageFate) -> Truth {
    Truth { side: Some(Side::Recipient), word: Some(word), mail }
}
