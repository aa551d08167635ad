//! How a test describes the certificate of a host and the TLSA records beside it, before either
//! exists (RFC 6698 §2.1, RFC 6125 §6.4.4).

use super::ca::{Authority, Identity, misfit};
use crate::resolve::TlsaRecord;
use hickory_proto::rr::{RData, rdata};
use std::io;
use std::sync::Arc;

/// A TLSA record that is made when the certificate is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tlsa {
    /// Fits the host's chain; the three numbers are usage, selector and matching type.
    Fits(u8, u8, u8),
    /// Has the right form and fits nothing; the last number keeps several apart.
    Misfits(u8, u8, u8, usize),
    /// Exactly this one, perhaps unusable or malformed.
    Exactly(TlsaRecord),
}

impl Tlsa {
    pub(in crate::lab) fn record(&self, identity: &Identity) -> io::Result<TlsaRecord> {
        match self {
            Self::Fits(usage, selector, matching) => identity.tlsa(*usage, *selector, *matching),
            Self::Misfits(usage, selector, matching, nth) => Ok(misfit(*usage, *selector, *matching, *nth)),
            Self::Exactly(record) => Ok(record.clone()),
        }
    }
}

/// A TLSA record in the form of the DNS library.
#[must_use]
pub fn rdata(record: &TlsaRecord) -> RData {
    let TlsaRecord { usage, selector, matching, data } = record;
    RData::TLSA(rdata::TLSA::new((*usage).into(), (*selector).into(), (*matching).into(), data.clone()))
}

/// The certificate that a host shows.
#[derive(Clone, Debug)]
pub enum Certificate {
    /// Self-signed, for the host's name.
    SelfSigned,
    /// Self-signed, for the host's name, expired.
    SelfSignedExpired,
    /// Self-signed, for another name.
    SelfSignedFor(String),
    /// Issued by the lab's authority for the host's name.
    Issued,
    /// Issued by the lab's authority for the host's name, with receipts of public logs.
    IssuedPublicly,
    /// Issued by the lab's authority for the host's name, expired.
    IssuedExpired,
    /// Issued by the lab's authority for another name.
    IssuedFor(String),
    /// Issued by the lab's authority for the host's name, which stands in the common name alone:
    /// PKIX looks only at alternative names, of which there are none (RFC 6125 §6.4.4).
    IssuedCommonName,
    /// This one.
    Given(Arc<Identity>),
}

impl Certificate {
    pub(in crate::lab) fn identity(&self, host: &str, authority: &Authority) -> io::Result<Arc<Identity>> {
        Ok(match self {
            Self::SelfSigned => Identity::self_signed(&[host])?.into(),
            Self::SelfSignedExpired => Identity::self_signed_expired(&[host])?.into(),
            Self::SelfSignedFor(name) => Identity::self_signed(&[name])?.into(),
            Self::Issued => authority.issue(&[host])?.into(),
            Self::IssuedPublicly => authority.issue_publicly(&[host])?.into(),
            Self::IssuedExpired => authority.issue_expired(&[host])?.into(),
            Self::IssuedFor(name) => authority.issue(&[name])?.into(),
            Self::IssuedCommonName => authority.issue_common_name(host)?.into(),
            Self::Given(identity) => Arc::clone(identity),
        })
    }
}
