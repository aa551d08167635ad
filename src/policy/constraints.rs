//! Name constraints of a CA against the names of a certificate below it (RFC 5280 §4.2.1.10).
//!
//! DNS names, addresses and directory names are compared. A constraint of another kind refuses
//! any certificate that has a name of that kind: what cannot be checked is not let through.

use super::certificate::Certificate;
use super::names;
use x509_parser::extensions::GeneralName;
use x509_parser::x509::X509Name;

/// Where the certificate under test stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// The server's own: its Common Name counts as a host name when it has no DNS-ID.
    Leaf,
    /// An issuer.
    Issuer,
}

/// The first name of `certificate` that the constraints of `ca` do not let through, in words.
pub(super) fn violation(ca: &Certificate<'_>, certificate: &Certificate<'_>, place: Place) -> Option<String> {
    let constraints = ca.name_constraints()?;
    let bases = |subtrees: &Option<Vec<_>>| -> Vec<_> {
        let subtrees: &Option<Vec<x509_parser::extensions::GeneralSubtree<'_>>> = subtrees;
        subtrees.iter().flatten().map(|subtree| subtree.base.clone()).collect()
    };
    let permitted = bases(&constraints.permitted_subtrees);
    let excluded = bases(&constraints.excluded_subtrees);
    names_of(certificate, place).iter().find_map(|name| refusal(name, &permitted, &excluded))
}

fn refusal(name: &GeneralName<'_>, permitted: &[GeneralName<'_>], excluded: &[GeneralName<'_>]) -> Option<String> {
    let same_kind = |base: &&GeneralName<'_>| kind(base) == kind(name);
    let mut has_permitted = false;
    let mut is_permitted = false;
    for base in permitted.iter().filter(same_kind) {
        has_permitted = true;
        match covers(base, name) {
            Some(covered) => is_permitted |= covered,
            None => return Some("a name constraint of a kind that is not checked".to_owned()),
        }
    }
    if has_permitted && !is_permitted {
        return Some("a name lies outside the name constraints of its issuer".to_owned());
    }
    for base in excluded.iter().filter(same_kind) {
        match covers(base, name) {
            Some(false) if !wildcard_reaches(base, name) => {}
            Some(_) => return Some("a name is excluded by the name constraints of its issuer".to_owned()),
            None => return Some("a name constraint of a kind that is not checked".to_owned()),
        }
    }
    None
}

/// Every name of a certificate as a GeneralName.
fn names_of<'n>(certificate: &'n Certificate<'_>, place: Place) -> Vec<GeneralName<'n>> {
    let subject = certificate.subject_name();
    let mut all: Vec<GeneralName<'n>> = certificate.alternative_names().to_vec();
    if place == Place::Leaf {
        all.extend(names::presented(certificate).into_iter().map(GeneralName::DNSName));
    }
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
    let (base, name) = (base.to_ascii_lowercase(), name.to_ascii_lowercase());
    match name.strip_suffix(&base) {
        Some(before) => base.is_empty() || before.is_empty() || before.ends_with('.') || base.starts_with('.'),
        None => false,
    }
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
    let parts = |name: &X509Name<'_>| name.iter_rdn().map(names::relative).collect::<Vec<_>>();
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

    #[test]
    fn rfc5280_4_2_1_10_a_wildcard_does_not_escape_an_exclusion() {
        let excluded = [GeneralName::DNSName("mx.example.org")];
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
    fn rfc5280_4_2_1_10_unchecked_kinds_refuse_only_names_of_that_kind() {
        let permitted = [GeneralName::URI(".example.org")];
        assert!(refusal(&GeneralName::URI("https://mx.example.org/"), &permitted, &[]).is_some());
        assert!(refusal(&GeneralName::DNSName("mx.example.org"), &permitted, &[]).is_none());
    }
}
