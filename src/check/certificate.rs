//! What a server's certificate says about itself, for people (pure) (RFC 5280 §4.1.2).

use super::evidence::{CertificateEnd, CertificateSeen};
use crate::clock::Timestamp;
use crate::policy::x509::certificate::sha256_hex;

/// Reads a certificate; none when it cannot be read.
pub(super) fn seen(der: &[u8], end: CertificateEnd) -> Option<CertificateSeen> {
    let (_rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(CertificateSeen {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_after: Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1000)),
        sha256: sha256_hex(der),
        end,
    })
}
