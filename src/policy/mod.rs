//! What a connection to an MX host must look like, decided from what the DNS, the domain's
//! MTA-STS policy, the operator and the sender say (RFC 7672 §2.2, §3; RFC 8461; RFC 8689).
//!
//! `decide::decide` is the decision. The files below answer the parts of that question; all but
//! the fetching of MTA-STS policies are pure. What a server
//! presents never makes them panic, and no amount of it costs more than their named bounds.

#[cfg(test)]
mod conformance;
pub mod dane;
pub(crate) mod decide;
pub mod exceptions;
pub mod sts;
#[cfg(test)]
mod testing;
pub mod x509;

use crate::clock::Timestamp;
use crate::outcome::{Cause, CertificateFailure, DaneFailure, DaneScope, DemandedBy, Peer};
use crate::policy::x509::webpki::WebPki;
use crate::resolve::{AbsentBecause, TlsaRecord};
use crate::smtp::address::Domain;
use rustls::SignatureScheme;

/// What must hold for the connection to one MX host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// No TLS, because the operator says so.
    Off,
    /// TLS when it is offered, with whatever certificate; clear text otherwise (RFC 7435).
    Opportunistic {
        /// Why nothing stronger applies.
        because: WhyOpportunistic,
    },
    /// TLS is a must, the certificate is not checked: the host has TLSA records and none of them
    /// is usable (RFC 7672 §2.2), or the operator demands it.
    Encrypt {
        /// SNI where it is not the host's name: the TLSA base domain.
        base_domain: Option<Domain>,
        /// Whose demand it is.
        demanded_by: DemandedBy,
    },
    /// TLS with a certificate that a TLSA record vouches for (RFC 7672 §3).
    Dane(DanePolicy),
    /// TLS with a certificate for the host that the public PKI vouches for (RFC 8461 §4.2).
    WebPki {
        /// The MX host: SNI and reference identifier.
        host: Domain,
        /// Whose demand it is.
        demanded_by: DemandedBy,
    },
    /// Both at once: the MTA-STS policy of a domain whose MX records are not signed, and the TLSA
    /// records of its host, which prove nothing about the domain (RFC 8461 §4, RFC 7672 §2.2.1).
    WebPkiAndDane {
        /// The MX host: SNI and reference identifier of the public PKI.
        host: Domain,
        /// What DANE demands beside it.
        dane: DanePolicy,
    },
}

/// Why a host is spoken to opportunistically.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhyOpportunistic {
    /// DANE does not apply, for this reason, and no MTA-STS policy is enforced.
    NoPolicy(AbsentBecause),
    /// The MTA-STS policy is in testing mode: what it would refuse is only counted
    /// (RFC 8461 §5).
    StsTesting,
    /// The operator only wants to know (`report_only`).
    ReportOnly,
    /// The operator wants no more for now (`tls = "opportunistic"`).
    Exception,
    /// The sender says that arriving matters more (`TLS-Required: No`, RFC 8689 §4.2.2).
    SenderWaives,
}

impl WhyOpportunistic {
    /// The word for logs and JSON.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::NoPolicy(_) => "no-policy",
            Self::StsTesting => "mta-sts-testing",
            Self::ReportOnly => "report-only",
            Self::Exception => "exception",
            Self::SenderWaives => "tls-required-no",
        }
    }
}

/// What a DANE connection is checked against.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DanePolicy {
    /// The TLSA base domain: SNI and first reference identifier.
    pub base_domain: Domain,
    /// The usable records, at least one.
    pub records: Vec<TlsaRecord>,
    /// The reference identifiers for DANE-TA, the base domain first (RFC 7672 §3.2.2).
    pub references: Vec<Domain>,
    /// How far a match proves.
    pub scope: DaneScope,
}

/// What a certificate proved.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing: it was not checked.
    Nothing,
    /// This TLSA record vouches for it.
    Dane(TlsaRecord, DaneScope),
    /// The public PKI says that it is this host's.
    WebPki(Domain),
    /// The public PKI vouches for the name, and a TLSA record fits.
    WebPkiAndDane(Domain, TlsaRecord),
}

/// A certificate that a policy refuses; what the TLS verifier says no with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct CertificateRefusal {
    /// What it is refused for.
    pub failure: RefusedBecause,
    /// SHA-256 of the server's certificate, hexadecimal.
    pub certificate_sha256: String,
}

/// Why a certificate is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RefusedBecause {
    /// No TLSA record vouches for it.
    #[error("{0}")]
    Dane(DaneFailure),
    /// It is not good by the public PKI.
    #[error("{0}")]
    WebPki(CertificateFailure),
}

impl DanePolicy {
    /// The TLSA record that vouches for the chain.
    fn matching(&self, chain: &[&[u8]], now: Timestamp) -> Result<TlsaRecord, RefusedBecause> {
        let found = dane::verify(chain, &self.records, &self.references, now);
        found.map(|found| found.record).map_err(RefusedBecause::Dane)
    }

    /// The signature schemes to offer, so that every key that can be checked can be used.
    #[must_use]
    pub fn offered_schemes() -> Vec<SignatureScheme> {
        x509::signature::offered_schemes()
    }

    /// Checks that the server holds the key of its certificate, for any leaf that can be read;
    /// the TLS library reads fewer.
    ///
    /// # Errors
    /// What is wrong with the signature.
    pub fn check_signature(
        &self,
        message: &[u8],
        leaf: &[u8],
        scheme: SignatureScheme,
        signature: &[u8],
    ) -> Result<(), String> {
        x509::signature::verify_handshake(message, leaf, scheme, signature)
    }
}

fn by_web_pki(chain: &[&[u8]], host: &Domain, roots: &WebPki, now: Timestamp) -> Result<(), RefusedBecause> {
    roots.check(chain, host, now).map_err(RefusedBecause::WebPki)
}

impl TlsPolicy {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Opportunistic { .. } => "opportunistic",
            Self::Encrypt { .. } => "encrypt",
            Self::Dane(_) => "dane",
            Self::WebPki { .. } => "webpki",
            Self::WebPkiAndDane { .. } => "webpki-and-dane",
        }
    }

    /// Whose demand makes clear text impossible; nobody's where it is possible.
    #[must_use]
    pub const fn demanded_by(&self) -> Option<DemandedBy> {
        match self {
            Self::Off | Self::Opportunistic { .. } => None,
            Self::Dane(_) => Some(DemandedBy::Dane),
            Self::Encrypt { demanded_by, .. } | Self::WebPki { demanded_by, .. } => Some(*demanded_by),
            Self::WebPkiAndDane { .. } => Some(DemandedBy::MtaSts),
        }
    }

    /// Checks the presented chain, leaf first.
    ///
    /// # Errors
    /// [`CertificateRefusal`] when the policy demands more than the chain proves.
    pub fn check_chain(&self, chain: &[&[u8]], roots: &WebPki, now: Timestamp) -> Result<Proof, CertificateRefusal> {
        let proof = match self {
            Self::Off | Self::Opportunistic { .. } | Self::Encrypt { .. } => Ok(Proof::Nothing),
            Self::Dane(policy) => policy.matching(chain, now).map(|record| Proof::Dane(record, policy.scope)),
            Self::WebPki { host, .. } => by_web_pki(chain, host, roots, now).map(|()| Proof::WebPki(host.clone())),
            // A failure of DANE comes first: no change of the policy can help then.
            Self::WebPkiAndDane { host, dane } => dane.matching(chain, now).and_then(|record| {
                by_web_pki(chain, host, roots, now).map(|()| Proof::WebPkiAndDane(host.clone(), record))
            }),
        };
        let leaf = chain.first().copied().unwrap_or_default();
        proof.map_err(|failure| CertificateRefusal { failure, certificate_sha256: x509::certificate::sha256_hex(leaf) })
    }

    /// The cause that a refusal under this policy is.
    #[must_use]
    pub fn cause(&self, refusal: &CertificateRefusal, peer: Peer) -> Cause {
        let certificate_sha256 = refusal.certificate_sha256.clone();
        match (&refusal.failure, self) {
            (RefusedBecause::Dane(failure), Self::Dane(policy) | Self::WebPkiAndDane { dane: policy, .. }) => {
                Cause::DaneMismatch {
                    peer,
                    failure: failure.clone(),
                    base_domain: policy.base_domain.to_string(),
                    usable_records: policy.records.len(),
                    certificate_sha256,
                }
            }
            (RefusedBecause::WebPki(failure), _) => Cause::CertificateRejected {
                peer,
                failure: failure.clone(),
                demanded_by: self.demanded_by().unwrap_or_default(),
                certificate_sha256,
            },
            (RefusedBecause::Dane(failure), _) => Cause::TlsHandshake { peer, detail: failure.to_string() },
        }
    }
}

/// How to speak to one MX host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// What is enforced.
    pub policy: TlsPolicy,
    /// What is only looked at and counted, where something is.
    pub watched: Option<Watched>,
    /// Whether the server must offer REQUIRETLS (RFC 8689 §4.2.1).
    pub require_tls: bool,
}

/// A demand that is evaluated and does not stop the mail.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Watched {
    /// Why it does not stop the mail.
    pub because: WhyOpportunistic,
    /// What would be enforced; the cause where the host would be left alone.
    pub demand: Result<TlsPolicy, Cause>,
}

/// The decision about one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostVerdict {
    /// Speak to it like this.
    Use(Decision),
    /// Leave it alone: we could not find out how to speak to it safely (RFC 7672 §2.1.2), or we
    /// know that we must not.
    Skip(Cause),
}
