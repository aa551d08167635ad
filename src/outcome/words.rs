//! What is said about a cause: to whoever wrote the message, and to the administrators.
//!
//! The sentence names no internal name or path; the evidence may. The codes and classes beside
//! these words are in the table of `outcome/mod.rs` (RFC 3463, RFC 8460 §4.3).

use super::refusal::{OwnFault, fault_of_ours};
use super::{Cause, CertificateFailure, DaneFailure, DemandedBy, RequireTlsFailure, UNITS, span};
use crate::net::Reach;
use crate::smtp::dkim::Unsignable;

/// What follows from a server that may be the wrong one, where that is enforced.
const NOT_HANDED_OVER: &str = "It may be the wrong server, so the message was not handed over.";
/// And where the finding is only watched.
const HANDED_OVER: &str = "It may be the wrong server; the message is handed over all the same.";

impl Cause {
    /// What was found, for mail that goes out all the same: the policy is only watched, or the operator or the
    /// sender does without it.
    #[must_use]
    pub fn finding(&self) -> String {
        self.sentence().replace(NOT_HANDED_OVER, HANDED_OVER)
    }

    /// What happened, in words for whoever wrote the message.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: one row for each cause")]
    pub fn sentence(&self) -> String {
        match self {
            Self::DomainNotFound { domain } => format!("The domain {domain} does not exist."),
            Self::NullMx { domain } => format!("The domain {domain} says that it accepts no mail."),
            Self::NoMailHost { domain } => format!("The domain {domain} has no mail server."),
            Self::SpecialUseDomain { domain } => format!(
                "The domain {domain} ends in a name that the internet does not have: it is for private networks or for \
                 uses without mail. So no mail server can be found for it."
            ),
            Self::NextHopUnknown { .. } => {
                "The mail server that the configuration of this relay names for this domain could not be found."
                    .to_owned()
            }
            Self::DnsUnavailable { question, .. } => {
                format!(
                    "The DNS gave no usable answer to the question \"{question}\", so we could not find out how to deliver safely."
                )
            }
            Self::DnsBogus { question, .. } => {
                format!(
                    "The signed DNS answer to the question \"{question}\" is not valid, so it may be forged and we did not use it."
                )
            }
            Self::MailLoop { domain } => format!("Mail for {domain} leads back to this relay: a loop."),
            Self::AddressForbidden { host, address } => {
                format!("The mail server {host} has the address {address}, to which this relay must not deliver.")
            }
            Self::NoRoute { peer, .. } => {
                format!("This relay has no network route to the mail server {peer}.")
            }
            Self::ConnectFailed { peer, detail } => format!("No connection to the mail server {peer}: {detail}."),
            Self::TimedOut { peer, phase } => {
                format!("The mail server {peer} did not answer in time while we were {}.", phase.phrase())
            }
            Self::ConnectionLost { peer, phase, detail } => {
                format!("The connection to the mail server {peer} broke while we were {}: {detail}.", phase.phrase())
            }
            Self::ProtocolError { peer, phase, detail } => {
                format!("The mail server {peer} did not speak proper SMTP while we were {}: {detail}.", phase.phrase())
            }
            Self::PerhapsTaken { peer, detail } => format!(
                "The mail server {peer} got the whole message and did not say whether it took it: {detail}. The message \
                 may have arrived."
            ),
            Self::Rejected { peer, reply, .. } => format!("The mail server {peer} said: {reply}"),
            Self::StarttlsNotOffered { peer, demanded_by } => {
                format!("{} encryption, but the mail server {peer} does not offer it.", demanded_by.who())
            }
            Self::StarttlsRefused { peer, reply, demanded_by } => {
                format!("{} encryption, but the mail server {peer} refused it: {reply}", demanded_by.who())
            }
            Self::TlsHandshake { peer, detail } => {
                format!("No encrypted connection could be made to the mail server {peer}: {detail}.")
            }
            Self::DaneMismatch { peer, failure, base_domain, .. } => format!(
                "The certificate of the mail server {peer} does not fit what its domain publishes in signed DNS \
                 (DANE, TLSA records of {base_domain}): {failure}. {NOT_HANDED_OVER}"
            ),
            Self::CertificateRejected { peer, failure, demanded_by, .. } => format!(
                "{} a valid certificate, and that of the mail server {peer} is none: {failure}. {NOT_HANDED_OVER}",
                demanded_by.who()
            ),
            Self::StsMxNotListed { domain, host, .. } => format!(
                "The DNS names {host} as a mail server of {domain}, but the MTA-STS policy of {domain} does not list it. \
                 {NOT_HANDED_OVER}"
            ),
            Self::DaneRequired { host, because } => format!(
                "The configuration of this relay demands DANE here, and there is none for the mail server {host}: {because}."
            ),
            Self::StsRequired { domain, missing } => format!(
                "The configuration of this relay demands an MTA-STS policy here, and there is none for {domain}: {}.",
                missing.detail
            ),
            Self::StsPolicyLost { domain, .. } => format!(
                "The domain {domain} has or may have published how mail to it must be protected (MTA-STS); the copy \
                 that this relay kept cannot be read, and a new one could not be had, so we could not find out how to \
                 deliver safely."
            ),
            Self::RequireTlsUnmet { host, failure } => match failure {
                RequireTlsFailure::HostNotProven => format!(
                    "The message may only go over protected connections (REQUIRETLS), and nothing proves that {host} \
                     is the right mail server: its name comes from unsigned DNS, and there is no MTA-STS policy."
                ),
                RequireTlsFailure::NotOffered { peer } => format!(
                    "The message may only go over protected connections (REQUIRETLS), and the mail server {peer} \
                     does not promise to keep to that."
                ),
                RequireTlsFailure::Tls { cause } => format!(
                    "The message may only go over protected connections (REQUIRETLS), and there was none: {}",
                    cause.sentence()
                ),
            },
            Self::EgressFailed { host, failure } => failure.sentence(host),
            Self::NotSigned { failure, .. } => {
                format!(
                    "This relay has to sign the message for the domain of its author (DKIM), and could not: {failure}."
                )
            }
            Self::MessageTooLarge { peer, limit, size } => {
                format!("The message has {size} bytes, and the mail server {peer} takes at most {limit}.")
            }
            Self::EightBitNotOffered { peer, unconvertible } => {
                let refused = format!("The message has 8-bit content, which the mail server {peer} does not take");
                match unconvertible {
                    Some(why) => format!("{refused}, and it cannot be converted on the way: {why}."),
                    None => format!("{refused}."),
                }
            }
            Self::SmtpUtf8NotOffered { peer } => format!(
                "The message has addresses or a header outside ASCII (SMTPUTF8), which the mail server {peer} does not take."
            ),
            Self::ContentDamaged => "The stored copy of the message is damaged and could not be sent.".to_owned(),
            Self::BouncedByOperator { last } => {
                let done = "The administrators of the sending mail system have taken the message out of their queue.";
                match last {
                    Some(cause) => format!("{done} Until then it could not be delivered: {}", cause.sentence()),
                    None => done.to_owned(),
                }
            }
            Self::Expired { last: Some(last), .. } if last.may_be_delivered() => format!(
                "The message was handed over several times without a clear answer, and it is not sent again, so that it \
                 does not arrive even more often. The last try went like this: {}",
                last.sentence()
            ),
            Self::Expired { waited_s, last } => {
                let waited = span(*waited_s, &UNITS);
                let tried = format!("We tried for {waited} without success and have given up.");
                match last {
                    Some(cause) => format!("{tried} The last try failed like this: {}", cause.sentence()),
                    None => tried,
                }
            }
        }
    }

    /// What an administrator can do about it.
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: one row for each cause")]
    pub fn advice(&self) -> &'static str {
        match self {
            Self::DomainNotFound { .. } => "Check the spelling of the address.",
            Self::NullMx { .. } => "The address cannot receive mail; ask the recipient for another one.",
            Self::NoMailHost { .. } => {
                "The recipient's domain needs an MX record that leads to a host with an address."
            }
            Self::SpecialUseDomain { .. } => {
                "Check the spelling of the address. If the domain is yours, give it a [[destination]] with a next_hop, or \
                 name it in [dns] private_zones."
            }
            Self::NextHopUnknown { question: None, .. } => {
                "Let the resolvers of this host (/etc/resolv.conf) or its /etc/hosts know the name, or write an address as \
                 next_hop."
            }
            Self::NextHopUnknown { question: Some(_), .. } => {
                "If its zone looks different inside your network than to the world, name the zone in [dns] private_zones; \
                 otherwise see to the ways to the DNS: without them nobody can tell whether the host has TLSA records."
            }
            Self::DnsUnavailable { .. } => {
                "Ask the resolver the same question by hand, over UDP and TCP; if other names work, look for a firewall \
                 or IPS that discards large or unusual DNS answers."
            }
            Self::DnsBogus { .. } => {
                "Compare with a validating resolver elsewhere: if it agrees, the recipient's zone is broken; \
                 if not, something on the path changes DNS answers. Check the clock too."
            }
            Self::MailLoop { .. } => {
                "Correct the MX records, or add a [[destination]] with a next_hop for this domain. If they lead to \
                 another mail server of this host on purpose, set [delivery] allow_loopback."
            }
            Self::AddressForbidden { address, .. } => match Reach::of(*address) {
                Reach::ThisHost => {
                    "If this is intended, set [delivery] allow_loopback or a [[destination]] with a next_hop."
                }
                Reach::Private | Reach::Public => {
                    "If this is intended, name the network in [delivery] allow_private, or a [[destination]] with a next_hop."
                }
                Reach::Link | Reach::Nowhere => {
                    "Correct the MX records, or add a [[destination]] with a next_hop for this domain."
                }
            },
            Self::NoRoute { .. } => {
                "Look at the addresses and routes of this host (ip address, ip route): no packet left it."
            }
            Self::ConnectFailed { .. } => "Check that outgoing port 25 is open here, then whether the server is up.",
            Self::TimedOut { .. } | Self::ConnectionLost { .. } => {
                "If it happens with many servers, look for an inspecting firewall here; with one, ask its administrators."
            }
            Self::ProtocolError { .. } => {
                "Connect by hand to see what answers; an inspecting firewall here may be changing the conversation."
            }
            Self::Rejected { reply, .. } => match fault_of_ours(reply) {
                Some(OwnFault::Address) => {
                    "The other side refuses the address that this relay sends from. Look it up at the list that the reply \
                     names, find out why it is there, and have it taken off."
                }
                Some(OwnFault::Authentication) => {
                    "The other side cannot tell that this mail is from the sender's domain. See that the SPF record of the \
                     domain has the address that this relay sends from, and that its mail has a DKIM signature of the \
                     domain that is whole."
                }
                None => "The reply above is the other side's own reason.",
            },
            Self::PerhapsTaken { .. } => {
                "Ask the recipient whether it has arrived. It is offered again only an hour, six hours and a day later, \
                 because every time may make another copy; relay queue delete ends that."
            }
            Self::StarttlsNotOffered { demanded_by, .. } | Self::StarttlsRefused { demanded_by, .. } => {
                match demanded_by {
                    DemandedBy::Dane => {
                        "The TLSA records of the host demand TLS. If other networks see STARTTLS there, a firewall here strips it."
                    }
                    DemandedBy::MtaSts => {
                        "The domain's MTA-STS policy demands TLS. If other networks see STARTTLS there, a firewall here strips it."
                    }
                    DemandedBy::RequireTls | DemandedBy::Operator | DemandedBy::Server => {
                        "If other networks see STARTTLS there, a firewall here strips it; otherwise the server cannot do it."
                    }
                }
            }
            Self::TlsHandshake { .. } => {
                "If other networks can connect with TLS, an inspecting firewall here is in the way; \
                 otherwise the recipient's server must be repaired."
            }
            Self::DaneMismatch { .. } => {
                "The certificate was probably renewed without publishing its TLSA record first. If other networks see \
                 another certificate, TLS is being intercepted here."
            }
            Self::CertificateRejected { .. } => {
                "The recipient's server needs a certificate of a public authority for its own name. If other networks see \
                 another certificate, TLS is being intercepted here."
            }
            Self::StsMxNotListed { .. } => {
                "The recipient's domain must list the host in its MTA-STS policy, under a new id. If other networks see \
                 other MX records, somebody is forging them here."
            }
            Self::DaneRequired { .. } => {
                "Ask the recipient's administrators about their TLSA records and DNSSEC, or lower tls for this [[destination]]."
            }
            Self::StsRequired { .. } => {
                "Ask the recipient's administrators about their MTA-STS policy, or lower tls for this [[destination]]."
            }
            Self::StsPolicyLost { .. } => {
                "Run relay policy refresh for the domain, or repair what keeps the file from being read. Where the domain \
                 has given up MTA-STS, remove its file from the folder mta-sts of the spool."
            }
            Self::RequireTlsUnmet { .. } => {
                "Send the message without REQUIRETLS, or ask the recipient's administrators to support RFC 8689."
            }
            Self::EgressFailed { failure, .. } => failure.advice(),
            Self::NotSigned { failure, .. } => match failure {
                Unsignable::KeyUnusable => {
                    "Run relay dkim check for the domain, and give its [[dkim.key]] another key; relay reload then takes it."
                }
                Unsignable::Unreadable => "Check the disk of the relay: the message waits and is tried again.",
                Unsignable::HeaderTooLarge | Unsignable::TooManyFields => {
                    "Send the message with fewer or shorter header fields, with fewer recipients for instance."
                }
            },
            Self::MessageTooLarge { .. } => "Send a smaller message, or a link instead of the attachment.",
            Self::EightBitNotOffered { .. } => "Let the sending system encode the message as 7-bit MIME.",
            Self::SmtpUtf8NotOffered { .. } => {
                "Send the message with addresses and header in ASCII alone; the recipient's server knows no other (RFC 6531)."
            }
            Self::ContentDamaged => "Check the disk of the relay; ask the sender to send the message again.",
            Self::BouncedByOperator { .. } => "Whoever runs this relay has a reason; ask them before it is sent again.",
            Self::Expired { last, .. } => match last {
                Some(cause) => cause.advice(),
                None => "Look at the log of the relay for this message.",
            },
        }
    }

    /// What was seen, for administrators: labels and values, the most telling first. For an
    /// expired message ask its [`Cause::root`].
    #[must_use]
    #[expect(clippy::too_many_lines, reason = "a table: one row for each cause")]
    pub fn evidence(&self) -> Vec<(&'static str, String)> {
        match self {
            Self::DomainNotFound { domain }
            | Self::NullMx { domain }
            | Self::NoMailHost { domain }
            | Self::SpecialUseDomain { domain }
            | Self::MailLoop { domain } => vec![("Domain", domain.to_string())],
            Self::NextHopUnknown { name, detail, question, tried } => {
                let mut lines = vec![("Next hop", name.to_string()), ("Detail", detail.clone())];
                lines.extend(question.iter().map(|question| ("DNS question", question.to_string())));
                lines.extend(tried.iter().map(|path| ("DNS path", path.to_string())));
                lines
            }
            Self::DnsUnavailable { question, tried } => {
                let paths = tried.iter().map(|path| ("DNS path", path.to_string()));
                std::iter::once(("DNS question", question.to_string())).chain(paths).collect()
            }
            Self::DnsBogus { question, detail } => {
                vec![("DNS question", question.to_string()), ("Validator", detail.clone())]
            }
            Self::AddressForbidden { host, address } => {
                vec![("Mail server", host.clone()), ("Address", address.to_string())]
            }
            Self::NoRoute { peer, detail }
            | Self::ConnectFailed { peer, detail }
            | Self::PerhapsTaken { peer, detail }
            | Self::TlsHandshake { peer, detail } => {
                vec![("Mail server", peer.to_string()), ("Detail", detail.clone())]
            }
            Self::ConnectionLost { peer, phase, detail } | Self::ProtocolError { peer, phase, detail } => {
                vec![
                    ("Mail server", peer.to_string()),
                    ("While", phase.phrase().to_owned()),
                    ("Detail", detail.clone()),
                ]
            }
            Self::TimedOut { peer, phase } => {
                vec![("Mail server", peer.to_string()), ("While", phase.phrase().to_owned())]
            }
            Self::Rejected { peer, phase, reply } => {
                vec![
                    ("Mail server", peer.to_string()),
                    ("While", phase.phrase().to_owned()),
                    ("Reply", reply.to_string()),
                ]
            }
            Self::StarttlsRefused { peer, reply, .. } => {
                vec![("Mail server", peer.to_string()), ("Reply", reply.to_string())]
            }
            Self::StarttlsNotOffered { peer, .. }
            | Self::EightBitNotOffered { peer, .. }
            | Self::SmtpUtf8NotOffered { peer } => {
                vec![("Mail server", peer.to_string())]
            }
            Self::CertificateRejected { peer, failure, certificate_sha256, .. } => {
                let mut lines = vec![("Mail server", peer.to_string()), ("Cert. SHA-256", certificate_sha256.clone())];
                lines.push(match failure {
                    CertificateFailure::NameMismatch { presented } => ("Its names", presented.join(", ")),
                    CertificateFailure::NotTrusted { .. }
                    | CertificateFailure::Expired
                    | CertificateFailure::NotYetValid
                    | CertificateFailure::Unreadable { .. } => ("Detail", failure.to_string()),
                });
                lines
            }
            Self::StsMxNotListed { domain, host, listed, policy_id } => vec![
                ("Mail server", host.clone()),
                ("MTA-STS policy", format!("{domain}, id {}", policy_id.as_deref().unwrap_or("unknown"))),
                ("It lists", listed.join(", ")),
            ],
            Self::DaneRequired { host, because } => {
                vec![("Mail server", host.clone()), ("No DANE because", because.clone())]
            }
            Self::StsRequired { domain, missing } => {
                vec![("Domain", domain.clone()), ("No policy because", missing.detail.clone())]
            }
            Self::StsPolicyLost { domain, lost } => {
                let until = lost.until.map(|until| ("It may hold until", until.to_second()));
                let fetch = lost.fetch.clone().map(|fetch| ("Fetching it again", fetch));
                let first = [("Domain", domain.to_string()), ("Kept policy", lost.detail.clone())];
                first.into_iter().chain(until).chain(fetch).collect()
            }
            Self::RequireTlsUnmet { host, failure } => match failure {
                RequireTlsFailure::HostNotProven => vec![("Mail server", host.clone())],
                RequireTlsFailure::NotOffered { peer } => vec![("Mail server", peer.to_string())],
                RequireTlsFailure::Tls { cause } => cause.evidence(),
            },
            Self::DaneMismatch { peer, failure, base_domain, usable_records, certificate_sha256 } => {
                let mut lines = vec![
                    ("Mail server", peer.to_string()),
                    ("TLSA records", format!("{usable_records} usable at {base_domain}")),
                    ("Cert. SHA-256", certificate_sha256.clone()),
                ];
                lines.push(match failure {
                    DaneFailure::NameMismatch { presented } => ("Its names", presented.join(", ")),
                    DaneFailure::NoMatch
                    | DaneFailure::Expired
                    | DaneFailure::NotYetValid
                    | DaneFailure::Chain { .. }
                    | DaneFailure::Unreadable { .. } => ("Detail", failure.to_string()),
                });
                lines
            }
            Self::EgressFailed { host, failure } => failure.evidence(host),
            Self::NotSigned { domain, failure } => {
                let domain = domain.iter().map(|domain| ("Domain", domain.to_string()));
                domain.chain([("Not signed because", failure.to_string())]).collect()
            }
            Self::MessageTooLarge { peer, limit, size } => {
                vec![("Mail server", peer.to_string()), ("Size", format!("{size} octets, at most {limit}"))]
            }
            Self::ContentDamaged | Self::BouncedByOperator { .. } | Self::Expired { .. } => Vec::new(),
        }
    }
}
