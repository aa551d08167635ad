//! Why the DNS side cannot start: one line each, with the key to change.

use crate::config::RootsError;

/// Why the DNS side cannot start.
#[derive(Debug, thiserror::Error)]
pub enum DnsSetupError {
    /// The trust anchor file is unreadable, empty or not understood.
    #[error("[dns] trust_anchors: {path}: {message}")]
    TrustAnchors {
        /// The file.
        path: String,
        /// What is wrong with it.
        message: String,
    },
    /// An upstream cannot be used.
    #[error("[dns] upstreams: {upstream}: {message}")]
    Upstream {
        /// The upstream as configured.
        upstream: String,
        /// What is wrong with it.
        message: String,
    },
    /// There are no certificate authorities for the upstreams that need them.
    #[error(transparent)]
    Roots(#[from] RootsError),
}
