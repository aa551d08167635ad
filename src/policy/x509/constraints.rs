//! Name constraints of a CA against the names of a certificate below it (RFC 5280 §4.2.1.10).
//!
//! DNS names, addresses, mail addresses and directory names are compared. A constraint of another kind refuses
//! any certificate that has a name of that kind: what cannot be checked is not let through. So
//! does a minimum or maximum, which RFC 5280 forbids and nobody has implemented.

use super::certificate::{ParsedCertificate, element};
use super::{distinguished, names};
use x509_parser::extensions::{GeneralName, GeneralSubtree};
use x509_parser::x509::X509Name;

/// The most comparisons of names with subtrees for one certificate, as 500 names with 500 of
/// them: some milliseconds. OpenSSL has a bound of the same kind.
const NAME_CHECKS_LIMIT: usize = 1 << 18;

/// Where the certificate under test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::policy) enum CertificateRole {
    /// The server's own: its Common Name counts as a host name when it has no DNS-ID.
    Leaf,
    /// An issuer.
    Issuer,
}

/// One subtree of the constraints.
#[derive(Clone, Debug)]
struct Subtree<'c> {
    base: GeneralName<'c>,
    /// It has no bounds on its depth (RFC 5280 §4.2.1.10 allows none).
    is_whole: bool,
}

/// The first name of `certificate` that the constraints of `ca` do not let through, in words.
pub(in crate::policy) fn violation(
    ca: &ParsedCertificate<'_>,
    certificate: &ParsedCertificate<'_>,
    place: CertificateRole,
) -> Option<String> {
    let constraints = ca.name_constraints()?;
    let bounds = ca.name_constraints_value().map(bounds).unwrap_or_default();
    let permitted = subtrees(constraints.permitted_subtrees.as_deref(), &bounds, PERMITTED);
    let excluded = subtrees(constraints.excluded_subtrees.as_deref(), &bounds, EXCLUDED);
    let hosts = if place == CertificateRole::Leaf { names::presented(certificate) } else { Vec::new() };
    let names = names_of(certificate, &hosts);
    if names.len().saturating_mul(permitted.len() + excluded.len()) > NAME_CHECKS_LIMIT {
        return Some("there are too many names and name constraints to compare them".to_owned());
    }
    names.iter().find_map(|name| refusal(name, &permitted, &excluded))
}

/// One of the two lists, with what [`bounds`] has found out about its subtrees.
fn subtrees<'c>(parsed: Option<&[GeneralSubtree<'c>]>, bounds: &[(u8, bool)], list: u8) -> Vec<Subtree<'c>> {
    let mut bounds = bounds.iter().filter(|(tag, _)| *tag == list).map(|(_, is_whole)| *is_whole);
    let parsed = parsed.unwrap_or_default().iter().map(|subtree| subtree.base.clone());
    parsed.map(|base| Subtree { base, is_whole: bounds.next().unwrap_or(false) }).collect()
}

/// The tags of the two lists.
const PERMITTED: u8 = 0xA0;
const EXCLUDED: u8 = 0xA1;

/// For each subtree in its order: which list it is in, and whether it is without bounds. The
/// parser passes over minimum and maximum; a minimum of 0 is the default and says nothing.
fn bounds(extension: &[u8]) -> Vec<(u8, bool)> {
    let mut found = Vec::new();
    let mut lists = element(extension).map(|(lists, _)| lists.content);
    while let Some((list, rest)) = lists.and_then(element) {
        let tag = list.raw.first().copied().unwrap_or_default();
        let mut subtrees = list.content;
        while let Some((subtree, rest)) = element(subtrees) {
            let after_base = element(subtree.content).map(|(_base, rest)| rest);
            found.push((tag, matches!(after_base, Some(b"" | b"\x80\x01\x00"))));
            subtrees = rest;
        }
        lists = Some(rest);
    }
    found
}

fn refusal(name: &GeneralName<'_>, permitted: &[Subtree<'_>], excluded: &[Subtree<'_>]) -> Option<String> {
    let same_kind = |subtree: &&Subtree<'_>| kind(&subtree.base) == kind(name);
    if permitted.iter().chain(excluded).filter(same_kind).any(|subtree| !subtree.is_whole) {
        return Some("a name constraint has a minimum or maximum".to_owned());
    }
    let mut has_permitted = false;
    let mut is_permitted = false;
    for Subtree { base, .. } in permitted.iter().filter(same_kind) {
        has_permitted = true;
        match covers(base, name) {
            Some(covered) => is_permitted |= covered,
            None => return Some("a name constraint of a kind that is not checked".to_owned()),
        }
    }
    if has_permitted && !is_permitted {
        return Some("a name lies outside the name constraints of its issuer".to_owned());
    }
    for Subtree { base, .. } in excluded.iter().filter(same_kind) {
        match covers(base, name) {
            Some(false) if !wildcard_reaches(base, name) => {}
            Some(_) => return Some("a name is excluded by the name constraints of its issuer".to_owned()),
            None => return Some("a name constraint of a kind that is not checked".to_owned()),
        }
    }
    None
}

/// Every name of a certificate as a GeneralName, and the hosts it is for.
fn names_of<'n>(certificate: &'n ParsedCertificate<'_>, hosts: &'n [String]) -> Vec<GeneralName<'n>> {
    let subject = certificate.subject_name();
    let mut all: Vec<GeneralName<'n>> = certificate.alternative_names().to_vec();
    all.extend(hosts.iter().map(|host| GeneralName::DNSName(host)));
    all.extend(subject.iter_email().map(|email| GeneralName::RFC822Name(email.as_str().unwrap_or_default())));
    if subject.iter_rdn().next().is_some() {
        all.push(GeneralName::DirectoryName(subject.clone()));
    }
    all
}

/// The tag of the GeneralName choice (RFC 5280 §4.2.1.6).
fn kind(name: &GeneralName<'_>) -> u32 {
    match name {
        GeneralName::OtherName(..) => 0,
        GeneralName::RFC822Name(_) => 1,
        GeneralName::DNSName(_) => 2,
        GeneralName::X400Address(_) => 3,
        GeneralName::DirectoryName(_) => 4,
        GeneralName::EDIPartyName(_) => 5,
        GeneralName::URI(_) => 6,
        GeneralName::IPAddress(_) => 7,
        GeneralName::RegisteredID(_) => 8,
        GeneralName::Invalid(tag, _) => tag.0,
    }
}

/// Whether the subtree under `base` holds `name`; `None` when this kind is not checked.
fn covers(base: &GeneralName<'_>, name: &GeneralName<'_>) -> Option<bool> {
    if let (GeneralName::DNSName(base), GeneralName::DNSName(name)) = (base, name) {
        return Some(dns_covers(base, name));
    }
    if let (GeneralName::RFC822Name(base), GeneralName::RFC822Name(name)) = (base, name) {
        return mail_covers(base, name);
    }
    if let (GeneralName::IPAddress(base), GeneralName::IPAddress(name)) = (base, name) {
        return address_covers(base, name);
    }
    if let (GeneralName::DirectoryName(base), GeneralName::DirectoryName(name)) = (base, name) {
        return Some(directory_covers(base, name));
    }
    None
}

/// `example.org` holds itself and everything below; `.example.org` only what is below, as OpenSSL
/// reads the leading dot that RFC 5280 does not define for DNS names.
fn dns_covers(base: &str, name: &str) -> bool {
    let (base, name) = (base.as_bytes(), name.as_bytes());
    let parts = name.len().checked_sub(base.len()).and_then(|before| name.split_at_checked(before));
    parts.is_some_and(|(before, end)| {
        let at_a_label = base.is_empty() || before.is_empty() || before.ends_with(b".") || base.starts_with(b".");
        at_a_label && end.eq_ignore_ascii_case(base)
    })
}

/// A mailbox, a host, or with a leading dot everything below a domain. `None` for no mail address.
fn mail_covers(base: &str, name: &str) -> Option<bool> {
    let (local_part, host) = name.rsplit_once('@')?;
    Some(match base.rsplit_once('@') {
        Some((base_local_part, base_host)) => base_local_part == local_part && base_host.eq_ignore_ascii_case(host),
        None if base.starts_with('.') => dns_covers(base, host),
        None => base.eq_ignore_ascii_case(host),
    })
}

/// An excluded host one label below a wildcard is a host the wildcard is for.
fn wildcard_reaches(base: &GeneralName<'_>, name: &GeneralName<'_>) -> bool {
    let parent = names::dns_id(name).and_then(|name| name.strip_prefix("*."));
    let excluded = names::dns_id(base).and_then(|base| base.split_once('.')).map(|(_label, parent)| parent);
    parent.zip(excluded).is_some_and(|(parent, excluded)| parent.eq_ignore_ascii_case(excluded))
}

/// Address and mask, 8 or 32 octets.
fn address_covers(base: &[u8], name: &[u8]) -> Option<bool> {
    let (network, mask) = match base.len() {
        8 | 32 => base.split_at_checked(base.len() / 2)?,
        _ => return None,
    };
    let inside = || network.iter().zip(mask).zip(name).all(|((network, mask), octet)| network & mask == octet & mask);
    Some(network.len() == name.len() && inside())
}

/// The base's parts are the first parts of the name.
fn directory_covers(base: &X509Name<'_>, name: &X509Name<'_>) -> bool {
    let parts = |name: &X509Name<'_>| name.iter_rdn().map(distinguished::relative).collect::<Vec<_>>();
    parts(name).starts_with(&parts(base))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5280_4_2_1_10_dns_subtrees() {
        for (base, name) in [
            ("example.org", "example.org"),
            ("example.org", "MX.Example.org"),
            (".example.org", "mx.example.org"),
            ("", "anything.example"),
        ] {
            assert!(dns_covers(base, name), "{base:?} {name:?}");
        }
        for (base, name) in [
            ("example.org", "badexample.org"),
            (".example.org", "example.org"),
            ("mx.example.org", "example.org"),
            ("mx.example.org", "*.example.org"),
        ] {
            assert!(!dns_covers(base, name), "{base:?} {name:?}");
        }
    }

    fn whole(base: GeneralName<'_>) -> [Subtree<'_>; 1] {
        [Subtree { base, is_whole: true }]
    }

    #[test]
    fn rfc5280_4_2_1_10_a_wildcard_does_not_escape_an_exclusion() {
        let excluded = whole(GeneralName::DNSName("mx.example.org"));
        assert!(refusal(&GeneralName::DNSName("*.example.org"), &[], &excluded).is_some());
        assert!(refusal(&GeneralName::DNSName("*.example.com"), &[], &excluded).is_none());
    }

    #[test]
    fn rfc5280_4_2_1_10_address_subtrees() {
        let base = [192, 0, 2, 0, 255, 255, 255, 0];
        assert_eq!(address_covers(&base, &[192, 0, 2, 77]), Some(true));
        assert_eq!(address_covers(&base, &[192, 0, 3, 77]), Some(false));
        assert_eq!(address_covers(&base, &[0; 16]), Some(false));
        assert_eq!(address_covers(&[1, 2, 3], &[192, 0, 2, 77]), None);
    }

    #[test]
    fn rfc5280_4_2_1_10_mail_subtrees() {
        for (base, name, covered) in [
            ("example.org", "Root@EXAMPLE.org", true),
            ("example.org", "root@mx.example.org", false),
            (".example.org", "root@mx.example.org", true),
            (".example.org", "root@example.org", false),
            ("root@example.org", "root@Example.org", true),
            ("Root@example.org", "root@example.org", false),
        ] {
            assert_eq!(mail_covers(base, name), Some(covered), "{base} {name}");
        }
        assert_eq!(mail_covers("example.org", "example.org"), None, "no mail address cannot be let through");
    }

    #[test]
    fn rfc5280_4_2_1_10_unchecked_kinds_refuse_only_names_of_that_kind() {
        let permitted = whole(GeneralName::URI(".example.org"));
        assert!(refusal(&GeneralName::URI("https://mx.example.org/"), &permitted, &[]).is_some());
        assert!(refusal(&GeneralName::DNSName("mx.example.org"), &permitted, &[]).is_none());
    }

    #[test]
    fn rfc5280_4_2_1_10_a_minimum_or_maximum_refuses_names_of_that_kind() {
        let bounded = [Subtree { base: GeneralName::DNSName("example.org"), is_whole: false }];
        for (permitted, excluded) in [(bounded.as_slice(), [].as_slice()), (&[], &bounded)] {
            assert!(refusal(&GeneralName::DNSName("mx.example.org"), permitted, excluded).is_some());
            assert!(refusal(&GeneralName::RFC822Name("a@example.org"), permitted, excluded).is_none());
        }
        let subtree = |limits: &[u8]| {
            let subtree =
                [b"\x30".as_slice(), &[3 + u8::try_from(limits.len()).unwrap()], b"\x82\x01a", limits].concat();
            let list = [&[PERMITTED, u8::try_from(subtree.len()).unwrap()], subtree.as_slice()].concat();
            bounds(&[&[0x30, u8::try_from(list.len()).unwrap()], list.as_slice()].concat())
        };
        assert_eq!(subtree(b""), [(PERMITTED, true)]);
        assert_eq!(subtree(b"\x80\x01\x00"), [(PERMITTED, true)], "the default, spelt out");
        assert_eq!(subtree(b"\x80\x01\x01"), [(PERMITTED, false)]);
        assert_eq!(subtree(b"\x81\x01\x00"), [(PERMITTED, false)]);
        assert_eq!(bounds(b"junk"), []);
    }
}
