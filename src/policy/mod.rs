//! What a connection to an MX host must look like, decided from what the DNS says
//! (RFC 7672 §2.2, §3).
//!
//! The files below answer the parts of that question; all of them are pure. What a server
//! presents never makes them panic, and no amount of it costs more than their named bounds.

pub mod certificate;
pub mod chain;
#[cfg(test)]
mod conformance;
mod constraints;
pub mod dane;
mod names;
mod rules;
pub mod signature;
mod small_rsa;
#[cfg(test)]
mod testing;
pub mod webpki;

use crate::clock::Timestamp;
use crate::outcome::{Cause, DaneFailure};
use crate::resolve::{AbsentBecause, MxHost, Resolution, TlsaLookup, TlsaRecord};
use crate::smtp::address::Domain;
use dane::DaneMatch;
use rustls::SignatureScheme;

/// What must hold for the connection to one MX host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsPolicy {
    /// TLS when it is offered, with whatever certificate; clear text otherwise (RFC 7435).
    Opportunistic {
        /// Why nothing stronger applies.
        because: AbsentBecause,
    },
    /// TLS is a must, the certificate is not checked: the host has TLSA records and none of them
    /// is usable (RFC 7672 §2.2).
    Encrypt {
        /// SNI.
        base_domain: Domain,
    },
    /// TLS with a certificate that a TLSA record vouches for (RFC 7672 §3).
    Dane(DanePolicy),
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
}

/// A certificate that the TLSA records do not vouch for; what the TLS verifier says no with.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{failure}")]
pub struct Refusal {
    /// Why not.
    pub failure: DaneFailure,
    /// SHA-256 of the server's certificate, hexadecimal.
    pub certificate_sha256: String,
}

impl DanePolicy {
    /// Compares the presented chain, leaf first, with the records.
    ///
    /// # Errors
    /// [`Refusal`] when none of them vouches for it.
    pub fn check_chain(&self, chain: &[&[u8]], now: Timestamp) -> Result<DaneMatch, Refusal> {
        dane::verify(chain, &self.records, &self.references, now).map_err(|failure| {
            let leaf = chain.first().copied().unwrap_or_default();
            Refusal { failure, certificate_sha256: certificate::sha256_hex(leaf) }
        })
    }

    /// Checks that the server holds the key of its certificate, for any leaf that can be read.
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
        signature::verify_handshake(message, leaf, scheme, signature)
    }
}

impl TlsPolicy {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Opportunistic { .. } => "opportunistic",
            Self::Encrypt { .. } => "encrypt",
            Self::Dane(_) => "dane",
        }
    }

    /// Whether clear text is out of the question.
    #[must_use]
    pub const fn demands_tls(&self) -> bool {
        match self {
            Self::Opportunistic { .. } => false,
            Self::Encrypt { .. } | Self::Dane(_) => true,
        }
    }
}

/// The decision about one host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Speak to it like this.
    Use(TlsPolicy),
    /// Leave it alone: we could not find out how to speak to it safely (RFC 7672 §2.1.2).
    Skip(Cause),
}

/// Decides for one host of a resolution.
#[must_use]
pub fn decide(resolution: &Resolution, host: &MxHost) -> Verdict {
    match &host.tlsa {
        TlsaLookup::Unavailable(cause) => Verdict::Skip(cause.clone()),
        TlsaLookup::Absent(because) => Verdict::Use(TlsPolicy::Opportunistic { because: *because }),
        TlsaLookup::Present { base_domain, records } => {
            let usable = dane::usable(records);
            if usable.is_empty() {
                return Verdict::Use(TlsPolicy::Encrypt { base_domain: base_domain.clone() });
            }
            let mut references = vec![base_domain.clone()];
            references.extend(resolution.references.iter().filter(|r| *r != base_domain).cloned());
            Verdict::Use(TlsPolicy::Dane(DanePolicy { base_domain: base_domain.clone(), records: usable, references }))
        }
    }
}
