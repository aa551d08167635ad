//! Why a policy could not be fetched, with the words for it (RFC 8461 §3.3, RFC 8460 §4.3).

use super::policy::PolicyError;
use super::record::RecordError;
use crate::outcome::{Cause, StsFault};
use crate::text::seconds;
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};

/// Why there is no policy although one should be fetched.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "kebab-case")]
pub enum FetchFailure {
    /// The domain announces none; only who fetches on demand meets this.
    #[error("the domain announces no policy: {0}")]
    NotAnnounced(RecordError),
    /// The record or the addresses of the policy host could not be looked up.
    #[error("{}", .0.sentence())]
    Dns(Box<Cause>),
    /// The policy host provably has no address.
    #[error("the policy host {host} has no address")]
    NoAddress {
        /// Its name.
        host: String,
    },
    /// The policy host leads to this machine, and the configuration does not allow that.
    #[error("the policy host leads to {address}, which is this machine")]
    Loopback {
        /// Where it leads.
        address: IpAddr,
    },
    /// There is nobody to trust.
    #[error("no certificate authorities are known here: {detail}")]
    NoRoots {
        /// What the TLS library or the system reports.
        detail: String,
    },
    /// No connection.
    #[error("no connection to the policy host at {address}: {detail}")]
    Connect {
        /// The address and port of the policy host.
        address: SocketAddr,
        /// What the system said.
        detail: String,
    },
    /// The certificate is not trusted, not valid now, or not for the policy host.
    #[error("the certificate of the policy host at {address} is not good: {detail}")]
    Certificate {
        /// The address and port of the policy host.
        address: SocketAddr,
        /// What is wrong.
        detail: String,
    },
    /// TLS failed for another reason.
    #[error("TLS with the policy host at {address} failed: {detail}")]
    Tls {
        /// The address and port of the policy host.
        address: SocketAddr,
        /// What the TLS library or the system reports.
        detail: String,
    },
    /// What came is no HTTP, or broke off.
    #[error("the policy host did not answer in HTTP: {detail}")]
    Http {
        /// What was wrong.
        detail: String,
    },
    /// Any status but 200. Redirects are not followed (RFC 8461 §3.3).
    #[error("the policy host answered with HTTP status {status}{}", if (300..400).contains(status) { ", and redirects are not followed" } else { "" })]
    Status {
        /// The status.
        status: u16,
    },
    /// Not text/plain (RFC 8461 §3.2).
    #[error("the policy is not text/plain but {media_type}")]
    MediaType {
        /// What it claims to be; `of no type` when it says nothing.
        media_type: String,
    },
    /// More than 64 kilobytes.
    #[error("the policy is longer than 65,536 octets")]
    TooLarge,
    /// The time was over.
    #[error("the policy host took too long")]
    TimedOut,
    /// It has not come yet, and whoever asked does not wait to the end; the fetch goes on.
    #[error("the policy host has not answered in {}; delivery waits up to {}", seconds(*waited_ms), seconds(*limit_ms))]
    Slow {
        /// How long was waited, in milliseconds.
        waited_ms: u64,
        /// How long the fetch may take, in milliseconds.
        limit_ms: u64,
    },
    /// What came is no policy.
    #[error("the policy is not valid: {0}")]
    Invalid(PolicyError),
    /// A bug.
    #[error("internal: {detail}")]
    Internal {
        /// What happened.
        detail: String,
    },
    /// MTA-STS is switched off here.
    #[error("MTA-STS is switched off here: [mta_sts] enabled = false")]
    SwitchedOff,
}

impl FetchFailure {
    /// The result type for reports (RFC 8460 §4.3.2.2).
    #[must_use]
    pub const fn result_type(&self) -> &'static str {
        self.fault().result_type()
    }

    /// What kind of failure it is for reports (RFC 8460 §4.3.2.2).
    #[must_use]
    pub const fn fault(&self) -> StsFault {
        match self {
            Self::Certificate { .. } | Self::NoRoots { .. } => StsFault::WebPkiInvalid,
            Self::Invalid(_) | Self::TooLarge => StsFault::Invalid,
            Self::NotAnnounced(_)
            | Self::Dns(_)
            | Self::NoAddress { .. }
            | Self::Loopback { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Http { .. }
            | Self::Status { .. }
            | Self::MediaType { .. }
            | Self::TimedOut
            | Self::Slow { .. }
            | Self::Internal { .. }
            | Self::SwitchedOff => StsFault::FetchError,
        }
    }

    /// Whether it stays open what the policy says: nobody has answered for the domain.
    #[must_use]
    pub const fn leaves_open(&self) -> bool {
        match self {
            Self::Dns(_)
            | Self::NoRoots { .. }
            | Self::Connect { .. }
            | Self::Tls { .. }
            | Self::Http { .. }
            | Self::TimedOut
            | Self::Slow { .. }
            | Self::Internal { .. } => true,
            Self::NotAnnounced(_)
            | Self::NoAddress { .. }
            | Self::Loopback { .. }
            | Self::Certificate { .. }
            | Self::Status { .. }
            | Self::MediaType { .. }
            | Self::TooLarge
            | Self::Invalid(_)
            | Self::SwitchedOff => false,
        }
    }
}
