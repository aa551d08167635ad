//! What a server's certificate says about itself, for people (pure) (RFC 5280 §4.1.2).

use super::evidence::{CertificateEnd, CertificateSeen};
use crate::clock::Timestamp;
use crate::deliver::driver::Mailer;
use crate::policy::x509::certificate::sha256_hex;
use crate::smtp::address::Domain;
use x509_parser::prelude::ParsedExtension;

/// Reads a certificate; none when it cannot be read.
pub(super) fn seen(der: &[u8], end: CertificateEnd) -> Option<CertificateSeen> {
    let (_rest, certificate) = x509_parser::parse_x509_certificate(der).ok()?;
    Some(CertificateSeen {
        subject: certificate.subject().to_string(),
        issuer: certificate.issuer().to_string(),
        not_after: Timestamp(certificate.validity().not_after.timestamp().saturating_mul(1000)),
        sha256: sha256_hex(der),
        end,
        sent: 1,
        public: false,
    })
}

/// Whether what a server showed is a certificate of the public PKI for it, which no box on the way has.
pub(super) fn is_public(mailer: &Mailer, host: &str, chain: &[Vec<u8>], at: Timestamp) -> bool {
    let Some(leaf) = chain.first() else { return false };
    let Ok(host) = host.parse::<Domain>() else { return false };
    is_logged(leaf) && mailer.trusts(chain, &host, at)
}

/// Whether the certificate bears receipts of public logs (RFC 6962 §3.3). What they say is not verified: they
/// only tell a public authority from one that somebody made for a firewall.
fn is_logged(der: &[u8]) -> bool {
    let Ok((_rest, certificate)) = x509_parser::parse_x509_certificate(der) else { return false };
    let receipts =
        |extension: &ParsedExtension<'_>| matches!(extension, ParsedExtension::SCT(list) if !list.is_empty());
    certificate.extensions().iter().any(|extension| receipts(extension.parsed_extension()))
}
