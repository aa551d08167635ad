//! What a server of the lab answers for: everything, or its zones (RFC 1034 §4.3.2).

use hickory_proto::rr::Name;

/// What a server answers for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::lab) enum View {
    /// For everything, as a resolver.
    Resolver,
    /// For these zones, as their authority (RFC 1034 §4.3.2).
    Zones(Vec<Name>),
}

impl View {
    /// The zone of this server that is nearest above a name.
    pub(in crate::lab) fn zone_above(&self, name: &Name) -> Option<Name> {
        let Self::Zones(zones) = self else { return None };
        zones.iter().filter(|zone| zone.zone_of(name)).max_by_key(|zone| zone.iter().len()).cloned()
    }
}
