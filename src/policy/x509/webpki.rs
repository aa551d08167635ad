//! Whether a certificate is good by the rules of the public PKI, as MTA-STS asks of an MX host
//! (RFC 8461 §4.2, RFC 6125 §6.4).
//!
//! A chain to a root that the operator trusts, valid now, and the host in the subjectAltName:
//! the Common Name never counts here, unlike under DANE-TA. A wildcard is the whole left-most
//! label. Revocation is not asked for, which RFC 8461 §4.2 allows.
//!
//! The library follows at most six certificates between the server's own and a root, and that cannot be set.
//! Public authorities stay below it; a longer chain is refused with that reason.

use super::certificate::ParsedCertificate;
use super::names;
use crate::clock::Timestamp;
use crate::outcome::CertificateFailure;
use crate::smtp::address::Domain;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::{CertificateDer, DnsName, ServerName, UnixTime};
use rustls::{CertificateError, Error, RootCertStore};
use std::sync::Arc;

/// The most certificates above the server's own that are looked at; real chains have up to four.
/// The library bounds its own search.
pub const INTERMEDIATES_LIMIT: usize = 256;

/// So much of an issuer's name is shown, in characters.
const ISSUER_SHOWN: usize = 120;

/// A set of trusted roots, ready to check certificates against.
#[derive(Clone, Debug)]
pub struct WebPki {
    /// `None` when there are no roots, and then nothing is trusted.
    verifier: Option<Arc<WebPkiServerVerifier>>,
}

impl WebPki {
    /// Takes the roots. An empty set is no error; it trusts nobody.
    #[must_use]
    pub fn new(roots: Arc<RootCertStore>) -> Self {
        let provider = Arc::new(aws_lc_rs::default_provider());
        Self { verifier: WebPkiServerVerifier::builder_with_provider(roots, provider).build().ok() }
    }

    /// Checks the certificates a server presented, DER, its own first, for a host.
    ///
    /// # Errors
    /// The first thing that is wrong: the chain comes before the name.
    pub fn check(&self, chain: &[&[u8]], host: &Domain, now: Timestamp) -> Result<(), CertificateFailure> {
        let Some((&leaf, above)) = chain.split_first() else {
            return Err(CertificateFailure::Unreadable { detail: "the server presented no certificate".to_owned() });
        };
        let Some(verifier) = &self.verifier else {
            return Err(not_trusted("no root certificates are configured"));
        };
        // Not every domain name can be a host in a certificate, `192.0.2.1` for one.
        let Ok(name) = DnsName::try_from(host.as_str()) else {
            return Err(CertificateFailure::NameMismatch { presented: presented(leaf) });
        };
        let above: Vec<_> = above.iter().take(INTERMEDIATES_LIMIT).map(|&der| CertificateDer::from(der)).collect();
        let now = UnixTime::since_unix_epoch(now.since(Timestamp(0)));
        verifier
            .verify_server_cert(&CertificateDer::from(leaf), &above, &ServerName::DnsName(name), &[], now)
            .map(|_assertion| ())
            .map_err(|error| match (&error, above.is_empty()) {
                (Error::InvalidCertificate(CertificateError::UnknownIssuer), true) => no_issuer(leaf),
                _ => failure(&error, leaf),
            })
    }
}

/// A certificate that came alone and leads to no root: the most common mistake in setting a server up.
fn no_issuer(leaf: &[u8]) -> CertificateFailure {
    let unknown = "no chain leads to a trusted root";
    let Ok((_rest, certificate)) = x509_parser::parse_x509_certificate(leaf) else { return not_trusted(unknown) };
    if certificate.subject() == certificate.issuer() {
        return not_trusted(unknown);
    }
    let issuer =
        crate::text::harmless(&certificate.issuer().to_string()).chars().take(ISSUER_SHOWN).collect::<String>();
    not_trusted(format!(
        "{unknown}: the server sends no intermediate certificate with its own, whose issuer is \"{issuer}\""
    ))
}

fn not_trusted(detail: impl Into<String>) -> CertificateFailure {
    CertificateFailure::NotTrusted { detail: detail.into() }
}

/// The DNS names of a certificate, bounded and printable.
fn presented(leaf: &[u8]) -> Vec<String> {
    ParsedCertificate::read(leaf).map(|leaf| names::shown_dns_ids(&leaf)).unwrap_or_default()
}

fn failure(error: &Error, leaf: &[u8]) -> CertificateFailure {
    use CertificateError as E;
    let Error::InvalidCertificate(error) = error else { return not_trusted(error.to_string()) };
    if matches!(error, E::Expired | E::ExpiredContext { .. }) {
        return CertificateFailure::Expired;
    }
    if matches!(error, E::NotValidYet | E::NotValidYetContext { .. }) {
        return CertificateFailure::NotYetValid;
    }
    if matches!(error, E::NotValidForName | E::NotValidForNameContext { .. }) {
        return CertificateFailure::NameMismatch { presented: presented(leaf) };
    }
    if matches!(error, E::BadEncoding) {
        return CertificateFailure::Unreadable { detail: "its encoding is broken".to_owned() };
    }
    if let E::Other(reason) = error {
        return not_trusted(in_a_sentence(reason.to_string()));
    }
    not_trusted(in_words(error).map_or_else(|| error.to_string(), str::to_owned))
}

/// The reasons that have no name in the TLS library; its word for them is all there is.
fn in_a_sentence(reason: String) -> String {
    match reason.as_str() {
        // What most self-signed certificates of mail servers come to.
        "CaUsedAsEndEntity" => "it is that of an authority, often self-signed".to_owned(),
        "MaximumPathDepthExceeded" => "more than six certificates stand between it and a root".to_owned(),
        _ => reason,
    }
}

/// The common reasons in words an operator knows; the rest as the library says them.
fn in_words(error: &CertificateError) -> Option<&'static str> {
    use CertificateError as E;
    [
        (matches!(error, E::UnknownIssuer), "no chain leads to a trusted root"),
        (matches!(error, E::BadSignature), "a signature in the chain is wrong"),
        (matches!(error, E::UnhandledCriticalExtension), "a certificate has an unknown critical extension"),
        (matches!(error, E::InvalidPurpose | E::InvalidPurposeContext { .. }), "it is not meant for TLS servers"),
        (
            matches!(
                error,
                E::UnsupportedSignatureAlgorithmContext { .. }
                    | E::UnsupportedSignatureAlgorithmForPublicKeyContext { .. }
            ),
            "a signature uses an algorithm that is weak or unknown",
        ),
    ]
    .into_iter()
    .find_map(|(fits, words)| fits.then_some(words))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::testing::{Made, NOW, leaf_params, root, self_signed};
    use rcgen::{DnType, ExtendedKeyUsagePurpose, date_time_ymd};

    const HOST: &str = "mx.example.org";

    fn trusting(roots: &[&Made]) -> WebPki {
        let mut store = RootCertStore::empty();
        for root in roots {
            store.add(root.der.clone().into()).unwrap();
        }
        WebPki::new(Arc::new(store))
    }

    fn check(root: &Made, chain: &[&Made]) -> Result<(), CertificateFailure> {
        let chain: Vec<&[u8]> = chain.iter().map(|made| made.der.as_slice()).collect();
        trusting(&[root]).check(&chain, &HOST.parse().unwrap(), NOW)
    }

    fn is_not_trusted(result: &Result<(), CertificateFailure>) -> bool {
        matches!(result, Err(CertificateFailure::NotTrusted { .. }))
    }

    fn mismatch(presented: &[&str]) -> Result<(), CertificateFailure> {
        let presented = presented.iter().map(|&name| name.to_owned()).collect();
        Err(CertificateFailure::NameMismatch { presented })
    }

    #[test]
    fn rfc8461_4_2_a_certificate_issued_below_a_trusted_root_is_good() {
        let root = root("Root");
        assert_eq!(check(&root, &[&root.leaf(&[HOST])]), Ok(()));
        let middle = root.ca("Middle");
        let leaf = middle.leaf(&["other.example", HOST]);
        assert_eq!(check(&root, &[&leaf, &middle]), Ok(()));
        assert_eq!(check(&root, &[&leaf, &middle, &root]), Ok(()), "the root may be sent too");
        assert!(is_not_trusted(&check(&root, &[&leaf])), "the intermediate is missing");
    }

    #[test]
    fn rfc8461_4_2_the_common_name_does_not_count() {
        let root = root("Root");
        let leaf = root.issue(leaf_params(&[]), |params| params.distinguished_name.push(DnType::CommonName, HOST));
        assert_eq!(check(&root, &[&leaf]), mismatch(&[]));
        let sentence = check(&root, &[&leaf]).unwrap_err().to_string();
        assert!(sentence.ends_with("it has no DNS name in its subjectAltName"), "{sentence}");
    }

    #[test]
    fn rfc8461_4_2_dates_count() {
        let root = root("Root");
        let expired = root.issue(leaf_params(&[HOST]), |params| params.not_after = date_time_ymd(2020, 1, 1));
        assert_eq!(check(&root, &[&expired]), Err(CertificateFailure::Expired));
        let early = root.issue(leaf_params(&[HOST]), |params| params.not_before = date_time_ymd(2090, 1, 1));
        assert_eq!(check(&root, &[&early]), Err(CertificateFailure::NotYetValid));
        let leaf = root.leaf(&[HOST]);
        let before_all_time = trusting(&[&root]).check(&[&leaf.der], &HOST.parse().unwrap(), Timestamp(-1));
        assert_eq!(before_all_time, Err(CertificateFailure::NotYetValid));
    }

    #[test]
    fn rfc8461_4_2_the_host_must_be_named() {
        let root = root("Root");
        assert_eq!(check(&root, &[&root.leaf(&["mx.example.com"])]), mismatch(&["mx.example.com"]));
        assert_eq!(check(&root, &[&root.leaf(&["example.org"])]), mismatch(&["example.org"]), "the mail domain only");
        assert_eq!(check(&root, &[&root.leaf(&["MX.Example.org"])]), Ok(()));
        let many: Vec<String> = (0..50).map(|n| format!("h{n}.example")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert_eq!(check(&root, &[&root.leaf(&many)]), mismatch(&many[..10]), "the failure stays short");
    }

    #[test]
    fn rfc8461_4_2_a_wildcard_stands_for_one_left_most_label() {
        let root = root("Root");
        assert_eq!(check(&root, &[&root.leaf(&["*.example.org"])]), Ok(()));
        for name in ["*.mx.example.org", "*.org", "*.*.org"] {
            assert!(check(&root, &[&root.leaf(&[name])]).is_err(), "{name}");
        }
    }

    #[test]
    fn rfc8461_4_2_self_signed_and_strange_certificates_are_not_trusted() {
        let root = root("Root");
        assert!(is_not_trusted(&check(&root, &[&self_signed(leaf_params(&[HOST]))])));
        let sentence = check(&root, &[&root]).unwrap_err().to_string();
        assert_eq!(sentence, "the certificate is not trusted: it is that of an authority, often self-signed");
        let stranger = crate::policy::testing::root("Root");
        assert!(is_not_trusted(&check(&root, &[&stranger.leaf(&[HOST]), &stranger])), "the same name, another key");
        let client = root.issue(leaf_params(&[HOST]), |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        });
        assert!(is_not_trusted(&check(&root, &[&client])));
    }

    #[test]
    fn a_chain_of_six_intermediates_is_good_and_a_longer_one_is_refused_with_that_reason() {
        let root = root("Root");
        let chain = |intermediates: usize| {
            let mut above = vec![root.ca("Middle 0")];
            for n in 1..intermediates {
                above.push(above[n - 1].ca(&format!("Middle {n}")));
            }
            above.push(above[intermediates - 1].leaf(&[HOST]));
            let chain: Vec<&Made> = above.iter().rev().collect();
            check(&root, &chain)
        };
        assert_eq!(chain(6), Ok(()));
        let sentence = chain(7).unwrap_err().to_string();
        assert!(sentence.ends_with("more than six certificates stand between it and a root"), "{sentence}");
    }

    #[test]
    fn no_roots_trust_nobody_and_junk_never_panics() {
        let root = root("Root");
        let leaf = root.leaf(&[HOST]);
        let host: Domain = HOST.parse().unwrap();
        assert!(is_not_trusted(&trusting(&[]).check(&[&leaf.der, &root.der], &host, NOW)));
        let pki = trusting(&[&root]);
        let unreadable = |chain: &[&[u8]]| {
            let result = pki.check(chain, &host, NOW);
            assert!(matches!(result, Err(CertificateFailure::Unreadable { .. })), "{result:?}");
        };
        unreadable(&[]);
        unreadable(&[b""]);
        unreadable(&[b"junk", &root.der]);
        assert_eq!(pki.check(&[&leaf.der, b"junk"], &host, NOW), Ok(()), "a stranger in the chain");
        for end in 0..leaf.der.len() {
            assert!(pki.check(&[&leaf.der[..end]], &host, NOW).is_err());
        }
        let address: Domain = "192.0.2.1".parse().unwrap();
        let for_address = root.leaf(&["192.0.2.1"]);
        assert_eq!(pki.check(&[&for_address.der], &address, NOW), mismatch(&[]), "an address is no host name");
    }

    #[test]
    fn failures_keep_their_form_on_disk() {
        let failure = CertificateFailure::NameMismatch { presented: vec![HOST.to_owned()] };
        let text = serde_json::to_string(&failure).unwrap();
        assert_eq!(text, r#"{"name_mismatch":{"presented":["mx.example.org"]}}"#);
        assert_eq!(serde_json::from_str::<CertificateFailure>(&text).unwrap(), failure);
    }
}
