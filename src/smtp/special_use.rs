//! Names that the public DNS does not have and never will (RFC 6761): a look-up there can only be
//! answered with "does not exist", signed by the root, whatever a local network means by them.
//!
//! `test` and `example` are none of these: programs treat them as any other name (RFC 6761 §6.2
//! and §6.5).

use super::address::Domain;

/// What a special name is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpecialUse {
    /// This host: `localhost` (RFC 6761 §6.3).
    ThisHost,
    /// Private networks, whose own resolvers may know it: `local` (RFC 6762 §3; many internal
    /// domains are called so), `home.arpa` (RFC 8375 §4), `internal` (set aside by ICANN in 2024).
    Private,
    /// No DNS at all: `onion` (RFC 7686 §2), `alt` (RFC 9476 §2), `invalid` (RFC 6761 §6.4).
    NoDns,
}

const SUFFIXES: &[(&str, SpecialUse)] = &[
    ("localhost", SpecialUse::ThisHost),
    ("local", SpecialUse::Private),
    ("home.arpa", SpecialUse::Private),
    ("internal", SpecialUse::Private),
    ("onion", SpecialUse::NoDns),
    ("alt", SpecialUse::NoDns),
    ("invalid", SpecialUse::NoDns),
];

impl SpecialUse {
    /// What a name is for, if it is special. It may be written with or without the dot at the end,
    /// in any case, and have labels that no host has.
    #[must_use]
    pub(crate) fn of(name: &str) -> Option<Self> {
        SUFFIXES.iter().find(|(suffix, _)| is_at_or_below(name, suffix)).map(|(_, meaning)| *meaning)
    }

    /// As [`SpecialUse::of`].
    #[must_use]
    pub(crate) fn of_domain(domain: &Domain) -> Option<Self> {
        Self::of(domain.as_str())
    }
}

/// Whether a name is a zone's own or one below it, by whole labels.
#[must_use]
pub(crate) fn is_at_or_below(name: &str, zone: &str) -> bool {
    let name = name.strip_suffix('.').unwrap_or(name);
    let Some(at) = name.len().checked_sub(zone.len()) else { return false };
    let ends = name.get(at..).is_some_and(|end| end.eq_ignore_ascii_case(zone));
    ends && (at == 0 || name.get(..at).is_some_and(|above| above.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc6761_special_names_are_told_by_whole_labels() {
        for (name, meaning) in [
            ("exch.corp.local", Some(SpecialUse::Private)),
            ("LOCAL.", Some(SpecialUse::Private)),
            ("_mta-sts.Corp.Internal.", Some(SpecialUse::Private)),
            ("nas.home.arpa", Some(SpecialUse::Private)),
            ("mail.localhost", Some(SpecialUse::ThisHost)),
            ("a.onion", Some(SpecialUse::NoDns)),
            ("a.alt", Some(SpecialUse::NoDns)),
            ("a.invalid", Some(SpecialUse::NoDns)),
            ("notlocal", None),
            ("local.example", None),
            ("arpa", None),
            ("mx.office.test", None),
            ("mx.office.example", None),
            ("", None),
        ] {
            assert_eq!(SpecialUse::of(name), meaning, "{name}");
        }
    }
}
