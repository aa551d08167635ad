//! `[dns] private_zones`: zones with a view of their own inside the operator's network, where the
//! signatures of the world do not count: negative trust anchors (RFC 7646 §2).

use super::findings::ConfigFindings;
use super::upstream;
use crate::smtp::address::Domain;
use crate::smtp::special_use::{SpecialUse, is_at_or_below};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use std::fmt;
use std::net::SocketAddr;

/// A zone for which only the operator's own servers are asked, and nothing is validated at or
/// below it. `"corp.example"`, or `{ zone = "corp.example", servers = ["192.0.2.53"] }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrivateZone {
    /// The zone.
    pub zone: Domain,
    /// Who is asked; those that `system` stands for where none is named.
    pub servers: Vec<SocketAddr>,
}

/// The long form.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithServers {
    zone: Domain,
    #[serde(deserialize_with = "upstream::servers")]
    servers: Vec<SocketAddr>,
}

impl<'de> Deserialize<'de> for PrivateZone {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ZoneVisitor)
    }
}

struct ZoneVisitor;

impl<'de> Visitor<'de> for ZoneVisitor {
    type Value = PrivateZone;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a zone, \"corp.example\" or { zone = \"corp.example\", servers = [\"192.0.2.53\"] }")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<PrivateZone, E> {
        let zone = Domain::try_from(text.to_owned()).map_err(E::custom)?;
        Ok(PrivateZone { zone, servers: Vec::new() })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<PrivateZone, A::Error> {
        let WithServers { zone, servers } = WithServers::deserialize(MapAccessDeserializer::new(map))?;
        if servers.is_empty() {
            let message = format!("{zone}: servers must name at least 1; leave the key out for those of the system");
            return Err(A::Error::custom(message));
        }
        Ok(PrivateZone { zone, servers })
    }
}

/// `corp.example (asked at 192.0.2.53:53)`
impl fmt::Display for PrivateZone {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let servers = self.servers.iter().map(ToString::to_string).collect::<Vec<_>>();
        let asked = if servers.is_empty() { "the resolvers of the system".to_owned() } else { servers.join(", ") };
        write!(f, "{} (asked at {asked})", self.zone)
    }
}

/// Whether no zone is named twice.
pub(super) fn check(zones: &[PrivateZone], findings: &mut ConfigFindings<'_>) {
    let is_again = |nth: usize, zone: &PrivateZone| zones.iter().take(nth).any(|before| before.zone == zone.zone);
    if let Some((_, again)) = zones.iter().enumerate().find(|(nth, zone)| is_again(*nth, zone)) {
        findings.refuse(&["dns.private_zones"], format!("names {} twice", again.zone));
    }
}

/// What is probably not meant.
pub(super) fn doubts(zones: &[PrivateZone]) -> impl Iterator<Item = String> {
    let all_of_it = zones
        .iter()
        .filter(|PrivateZone { zone, .. }| !zone.as_str().contains('.') && SpecialUse::of_domain(zone).is_none());
    let all_of_it = all_of_it.map(|PrivateZone { zone, .. }| {
        format!(
            "[dns] private_zones: {zone} is a whole top-level domain; unless all of it is yours, mail to it loses DANE"
        )
    });
    let nowhere = zones.iter().filter(|zone| SpecialUse::of_domain(&zone.zone) == Some(SpecialUse::NoDns));
    let nowhere = nowhere.map(|PrivateZone { zone, .. }| format!("[dns] private_zones: no DNS has names below {zone}"));
    all_of_it.chain(nowhere)
}

impl PrivateZone {
    /// The closest zone that a name is in.
    #[must_use]
    pub fn around<'a>(name: &str, zones: &'a [Self]) -> Option<&'a Self> {
        let around = zones.iter().filter(|private| is_at_or_below(name, private.zone.as_str()));
        around.max_by_key(|private| private.zone.as_str().len())
    }
}

#[cfg(test)]
mod tests {
    use super::super::Config;
    use super::*;
    use std::path::Path;

    fn zones(value: &str) -> Result<Vec<PrivateZone>, String> {
        let text = format!("[dns]\nprivate_zones = [{value}]\n");
        Config::parse(&text, Path::new("relay.toml")).map(|c| c.dns.private_zones).map_err(|e| e.to_string())
    }

    #[test]
    fn rfc7646_a_zone_is_named_alone_or_with_its_servers() {
        let both = zones("\"corp.example\", { zone = \"10.in-addr.arpa.\", servers = [\"192.0.2.53\", \"[::1]:54\"] }");
        let shown: Vec<_> = both.unwrap().iter().map(ToString::to_string).collect();
        let system = "corp.example (asked at the resolvers of the system)";
        assert_eq!(shown, [system, "10.in-addr.arpa (asked at 192.0.2.53:53, [::1]:54)"]);
    }

    #[test]
    fn a_wrong_zone_is_named_with_its_line_and_what_would_be_right() {
        for (value, words) in [
            ("\"a b\"", "relay.toml:2: [dns] private_zones: \"a b\": write a domain name"),
            ("7", "{ zone = \"corp.example\", servers = "),
            ("{ zone = \"a.example\", server = [\"192.0.2.53\"] }", "did you mean `servers`?"),
            ("{ zone = \"a.example\", servers = [\"dc1.a.example\"] }", "no address of a server"),
            ("{ zone = \"a.example\", servers = [] }", "a.example: servers must name at least 1"),
            ("{ zone = \"a.example\" }", "`servers` is missing"),
            ("\"a.example\", \"A.example.\"", "[dns] private_zones: names a.example twice"),
        ] {
            let message = zones(value).unwrap_err();
            assert!(message.contains(words), "{words:?} is not in {message:?}");
            assert!(message.starts_with("relay.toml:2: [dns] private_zones"), "{message}");
        }
    }

    #[test]
    fn the_closest_zone_counts_and_labels_are_whole() {
        let zones = zones("\"corp.example\", \"lab.corp.example\"").unwrap();
        let found = |name: &str| PrivateZone::around(name, &zones).map(|private| private.zone.to_string());
        assert_eq!(found("_25._tcp.MX.lab.corp.example.").as_deref(), Some("lab.corp.example"));
        assert_eq!(found("corp.example").as_deref(), Some("corp.example"));
        assert_eq!(found("notcorp.example"), None);
    }

    #[test]
    fn a_zone_that_is_probably_not_meant_is_told() {
        let said: Vec<_> = doubts(&zones("\"com\", \"local\", \"corp.example\", \"alt\"").unwrap()).collect();
        assert!(said.len() == 2 && said[0].contains("com is a whole") && said[1].contains("below alt"), "{said:?}");
    }
}
