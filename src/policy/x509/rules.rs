//! The rules that a complete path from the server's certificate to a trust anchor must keep
//! (RFC 5280 §4.2, §6.1). They are those of OpenSSL, which is what the senders of today apply:
//!
//! - every certificate of the path is valid now, a self-signed anchor included. An anchor that
//!   somebody else signed is a name and a key and its dates do not count (RFC 5280 §6.1.1), nor
//!   has an anchor dates that is only a key in the DNS;
//! - the anchor's own constraints hold: CA flag, path length, key usage, purpose, names;
//! - only the anchor may lack basicConstraints: self-signed and of version 1, as old roots are,
//!   or with a key usage that lets it sign certificates (RFC 5280 §6.1.4 (k) is for the others).
//!
//! Policies are not evaluated and revocation is not asked for.

use super::certificate::ParsedCertificate;
use super::constraints::{self, CertificateRole};
use crate::outcome::DaneFailure;

/// How a path ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum Anchoring {
    /// Its last certificate is the anchor.
    Certificate,
    /// A key above its last certificate is.
    Key,
}

/// The first rule that a path breaks, in words; dates and host names are not looked at here.
pub(in crate::policy) fn broken_rule(path: &[&ParsedCertificate<'_>], end: Anchoring) -> Option<String> {
    let mut issuers_below = 0;
    for (depth, certificate) in path.iter().enumerate() {
        if let Some(detail) = certificate.broken_extension() {
            return Some(detail);
        }
        if certificate.extended_key_usage().is_some_and(|usage| !usage.server_auth) {
            return Some("a certificate is not meant for TLS servers".to_owned());
        }
        if depth == 0 {
            if !may_serve_tls(certificate) {
                return Some("the key usage of the server's certificate does not fit TLS".to_owned());
            }
            continue;
        }
        let is_anchor = end == Anchoring::Certificate && depth + 1 == path.len();
        if !(may_issue(certificate) || is_anchor && may_anchor(certificate)) {
            return Some("an issuer in the chain is not a certification authority".to_owned());
        }
        let limit = certificate.basic_constraints().and_then(|constraints| constraints.path_len_constraint);
        if limit.is_some_and(|limit| issuers_below > limit) {
            return Some("the chain is longer than an issuer in it allows".to_owned());
        }
        if !certificate.is_self_issued() {
            issuers_below += 1;
        }
        if let Some(detail) = forbidden_name(certificate, path.get(..depth).unwrap_or_default()) {
            return Some(detail);
        }
    }
    None
}

/// RFC 5280 §4.1.2.5: valid from notBefore through notAfter, both included.
pub(in crate::policy) fn outside_validity(
    path: &[&ParsedCertificate<'_>],
    end: Anchoring,
    now: i64,
) -> Option<DaneFailure> {
    let dated = match path.split_last() {
        Some((anchor, below)) if end == Anchoring::Certificate && !anchor.is_self_issued() => below,
        Some(_) | None => path,
    };
    dated.iter().find_map(|certificate| {
        let (from, until) = certificate.validity();
        match now {
            _ if now < from => Some(DaneFailure::NotYetValid),
            _ if now > until => Some(DaneFailure::Expired),
            _ => None,
        }
    })
}

fn may_serve_tls(leaf: &ParsedCertificate<'_>) -> bool {
    leaf.key_usage().is_none_or(|usage| usage.digital_signature() || usage.key_encipherment() || usage.key_agreement())
}

/// RFC 5280 §4.2.1.3, §4.2.1.9.
fn may_issue(issuer: &ParsedCertificate<'_>) -> bool {
    issuer.key_usage().is_none_or(|usage| usage.key_cert_sign())
        && issuer.basic_constraints().is_some_and(|constraints| constraints.ca)
}

/// An anchor that does not say whether it is a CA: a self-signed certificate from before version
/// 3, which had no way to say it, or one whose key usage says as much.
fn may_anchor(certificate: &ParsedCertificate<'_>) -> bool {
    let is_old_root = certificate.is_self_issued() && certificate.has_no_extensions_by_version();
    let signs_certificates = certificate.key_usage().is_some_and(|usage| usage.key_cert_sign());
    is_old_root || signs_certificates && certificate.basic_constraints().is_none()
}

/// The constraints of an issuer hold for everything below it except self-issued issuers.
fn forbidden_name(issuer: &ParsedCertificate<'_>, below: &[&ParsedCertificate<'_>]) -> Option<String> {
    below.iter().enumerate().find_map(|(depth, certificate)| {
        let place = if depth == 0 { CertificateRole::Leaf } else { CertificateRole::Issuer };
        if place == CertificateRole::Issuer && certificate.is_self_issued() {
            return None;
        }
        constraints::violation(issuer, certificate, place)
    })
}
