//! Which host a certificate is for (RFC 7672 §3.2.3, RFC 6125 §6.4).

use super::certificate::ParsedCertificate;
use super::distinguished::text;
use crate::smtp::address::Domain;
use crate::smtp::reply::printable;
use x509_parser::asn1_rs::Tag;
use x509_parser::extensions::GeneralName;

/// The most names of a certificate that a failure repeats: a shared certificate has hundreds,
/// and the first few show well enough whose it is.
const NAMES_SHOWN: usize = 10;
/// The longest name a failure repeats, in octets: the longest the DNS has.
const NAME_SHOWN_LIMIT: usize = 253;

/// The names that count: the DNS-IDs when there is any, and only otherwise the Common Names
/// (RFC 7672 §3.2.3).
pub(in crate::policy) fn presented(certificate: &ParsedCertificate<'_>) -> Vec<String> {
    if certificate.alternative_names().iter().any(is_dns_id) {
        return dns_ids(certificate);
    }
    certificate.subject_name().iter_common_name().filter_map(|name| text(name.attr_value())).collect()
}

/// The same names, bounded and printable, for a failure.
pub(in crate::policy) fn shown(certificate: &ParsedCertificate<'_>) -> Vec<String> {
    bounded(presented(certificate))
}

/// The DNS-IDs alone, bounded and printable, for a failure where the Common Name never counts.
pub(in crate::policy) fn shown_dns_ids(certificate: &ParsedCertificate<'_>) -> Vec<String> {
    bounded(dns_ids(certificate))
}

fn bounded(names: Vec<String>) -> Vec<String> {
    names.into_iter().take(NAMES_SHOWN).map(|name| printable(name.as_bytes(), NAME_SHOWN_LIMIT)).collect()
}

fn dns_ids(certificate: &ParsedCertificate<'_>) -> Vec<String> {
    certificate.alternative_names().iter().filter_map(dns_id).map(str::to_owned).collect()
}

/// Whether a DNS-ID, readable or not: even a damaged one forbids the Common Name.
fn is_dns_id(name: &GeneralName<'_>) -> bool {
    dns_id(name).is_some() || matches!(name, GeneralName::Invalid(Tag(2), _))
}

/// The text of a DNS-ID.
pub(in crate::policy) fn dns_id<'n>(name: &'n GeneralName<'_>) -> Option<&'n str> {
    if let GeneralName::DNSName(text) = name { Some(text) } else { None }
}

/// Whether the certificate is for one of the reference identifiers.
pub(in crate::policy) fn fits(certificate: &ParsedCertificate<'_>, references: &[Domain]) -> bool {
    presented(certificate).iter().any(|name| references.iter().any(|reference| matches(name, reference)))
}

/// RFC 6125 §6.4.3: a wildcard is the whole left-most label and stands for exactly one label.
/// As in OpenSSL, at least two labels must follow it, so that no certificate is for all of `.org`.
fn matches(presented: &str, reference: &Domain) -> bool {
    let reference = reference.as_str();
    if presented.eq_ignore_ascii_case(reference) {
        return true;
    }
    let Some(parent) = presented.strip_prefix("*.") else { return false };
    let covered = reference.split_once('.').map(|(_label, parent)| parent);
    parent.contains('.') && covered.is_some_and(|covered| covered.eq_ignore_ascii_case(parent))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fit(presented: &str, reference: &str) -> bool {
        matches(presented, &reference.parse().unwrap())
    }

    #[test]
    fn rfc7672_3_2_3_wildcard_is_one_whole_left_label() {
        assert!(fit("*.example.org", "mx.example.org"));
        assert!(fit("*.Example.ORG", "mx.example.org"));
        for (presented, reference) in [
            ("*.example.org", "example.org"),
            ("*.example.org", "a.b.example.org"),
            ("m*.example.org", "mx.example.org"),
            ("*x.example.org", "mx.example.org"),
            ("*.*.org", "mx.example.org"),
            ("mx.*.org", "mx.example.org"),
            ("*", "org"),
            ("*.org", "example.org"),
            ("*.", "example"),
            ("", "example.org"),
            ("mx.example.org\0.evil.example", "mx.example.org"),
        ] {
            assert!(!fit(presented, reference), "{presented:?} was taken for {reference}");
        }
    }

    #[test]
    fn rfc7672_3_2_3_names_compare_without_case() {
        assert!(fit("MX.Example.Org", "mx.example.org"));
        assert!(!fit("mx.example.org.evil.example", "mx.example.org"));
    }
}
