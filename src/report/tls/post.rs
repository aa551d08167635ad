//! A report as a request over HTTPS, and what the answer to it means (pure) (RFC 8460 §5.4).

use super::mail::MEDIA_TYPE;
use super::uri::HttpsUrl;
use crate::https::HttpsFailure;
use bytes::Bytes;
use http_body_util::Full;
use hyper::{Request, StatusCode, header};
use std::net::IpAddr;

/// Why nobody has the report.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PostError {
    /// The addresses of the host could not be had.
    #[error("{detail}")]
    Dns {
        /// What happened, in a sentence.
        detail: String,
    },
    /// The host leads to this machine or into a private network, and the configuration does not allow that.
    #[error("the host leads to {address}, where reports to strangers do not go")]
    Forbidden {
        /// Where it leads.
        address: IpAddr,
    },
    /// No connection, or no TLS.
    #[error("{detail}")]
    Unreachable {
        /// What happened, in a sentence.
        detail: String,
    },
    /// What came is no HTTP, or broke off.
    #[error("{detail}")]
    Http {
        /// What happened, in a sentence.
        detail: String,
    },
    /// Any status but those of success. Redirects are not followed: they would lead where nobody was asked for.
    #[error("the host answered with HTTP status {status}{}", if (300..400).contains(status) { ", and redirects are not followed" } else { "" })]
    Status {
        /// The status.
        status: u16,
    },
    /// The time was over.
    #[error("the host took longer than {seconds} seconds")]
    TimedOut {
        /// How long it had.
        seconds: u64,
    },
    /// A URL that HTTP has no words for.
    #[error("the URL cannot be asked for: {detail}")]
    Url {
        /// What the library said.
        detail: String,
    },
}

impl From<HttpsFailure> for PostError {
    fn from(failure: HttpsFailure) -> Self {
        let detail = failure.to_string();
        match failure {
            HttpsFailure::Forbidden { address } => Self::Forbidden { address },
            HttpsFailure::Dns(_) | HttpsFailure::NoAddress { .. } => Self::Dns { detail },
            HttpsFailure::Connect { .. } | HttpsFailure::Certificate { .. } | HttpsFailure::Tls { .. } => {
                Self::Unreachable { detail }
            }
            HttpsFailure::Http { .. } | HttpsFailure::TooLarge => Self::Http { detail },
        }
    }
}

/// The request that hands a packed report in.
pub(super) fn request(url: &HttpsUrl, packed: Bytes) -> Result<Request<Full<Bytes>>, PostError> {
    Request::post(url.path())
        .header(header::HOST, url.authority())
        .header(header::USER_AGENT, "relay")
        .header(header::CONTENT_TYPE, MEDIA_TYPE)
        .header(header::CONNECTION, "close")
        .body(Full::new(packed))
        .map_err(|error| PostError::Url { detail: error.to_string() })
}

/// Whether the report has been taken (RFC 8460 §5.4).
pub(super) fn judge(status: StatusCode) -> Result<(), PostError> {
    if status.is_success() { Ok(()) } else { Err(PostError::Status { status: status.as_u16() }) }
}
