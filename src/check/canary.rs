//! The canary zone: names with a known number of records, to tell a filter from a fault (pure).
//!
//! Whoever runs relays publishes it once, in a signed zone of their own, and names it with
//! `[check] canary` or `--canary`. The sets of up to four records have longer data than those of
//! five and more: when four pass and five vanish, it is not the size that does it.

use crate::smtp::address::Domain;
use std::fmt::Write as _;

/// How many TLSA records the names have.
pub const COUNTS: [usize; 5] = [1, 4, 5, 8, 16];
/// How many addresses the name for other types has.
pub const ADDRESSES: usize = 5;
/// Octets of the one large record: more than any set of TLSA records here, and still within a
/// datagram with its signature.
pub const LARGE_OCTETS: usize = 860;
/// Octets of one character-string (RFC 1035 §3.3).
const STRING_OCTETS: usize = 215;
/// Sets of up to so many records have SHA-512 data, the others SHA-256.
const LONG_UP_TO: usize = 4;

/// Where a set of TLSA records is: `_25._tcp.n5.ZONE`.
#[must_use]
pub fn tlsa_owner(zone: &Domain, count: usize) -> String {
    format!("_25._tcp.n{count}.{zone}")
}

/// Where the addresses are: `a5.ZONE`.
#[must_use]
pub fn addresses_owner(zone: &Domain) -> String {
    format!("a{ADDRESSES}.{zone}")
}

/// Where the one large record is: `large.ZONE`.
#[must_use]
pub fn large_owner(zone: &Domain) -> String {
    format!("large.{zone}")
}

/// The strings of the one large TXT record.
#[must_use]
pub fn large_strings() -> Vec<String> {
    vec!["x".repeat(STRING_OCTETS); LARGE_OCTETS / STRING_OCTETS]
}

/// The records of one set: matching type and data, never those of a real certificate.
#[must_use]
pub fn tlsa_data(count: usize) -> Vec<(u8, Vec<u8>)> {
    let (matching, octets) = if count <= LONG_UP_TO { (2, 64) } else { (1, 32) };
    (0..count).map(|nth| (matching, vec![u8::try_from(nth + 1).unwrap_or(u8::MAX); octets])).collect()
}

/// The records to publish. With name servers it is a zone of its own that loads as it is, and wants signing
/// and a delegation; without any it is for the file of a signed zone that has its own (RFC 1035 §5.2).
#[must_use]
pub fn zone_file(zone: &Domain, name_servers: &[Domain]) -> String {
    let mut out = format!(
        "; Canary names of relay: records that mean nothing, in known numbers. Publish them in a signed\n\
         ; zone, and name the zone with [check] canary = \"{zone}\". Nothing is ever sent to these names.\n"
    );
    match name_servers.first() {
        None => out.push_str(
            "; No zone of its own: it has no SOA and no NS records. Include it in the file of a zone that is signed\n\
             ; (\"$INCLUDE this-file\"), or print a whole zone with --ns NAME, once for each name server.\n",
        ),
        Some(_) => out.push_str("; A whole zone: sign it, serve it, and delegate it with a DS record.\n"),
    }
    let _infallible = write!(out, "$ORIGIN {zone}.\n$TTL 3600\n");
    if let Some(first) = name_servers.first() {
        let _infallible = writeln!(out, "{:14} IN SOA {first}. hostmaster.{zone}. 1 86400 7200 2592000 3600", "@");
    }
    for name_server in name_servers {
        let _infallible = writeln!(out, "{:14} IN NS {name_server}.", "@");
    }
    for count in COUNTS {
        for (matching, data) in tlsa_data(count) {
            let hex: String = data.iter().map(|octet| format!("{octet:02x}")).collect();
            let _infallible = writeln!(out, "{:14} IN TLSA 3 1 {matching} {hex}", format!("_25._tcp.n{count}"));
        }
    }
    for nth in 1..=ADDRESSES {
        // The addresses for documentation belong to nobody.
        let _infallible = writeln!(out, "{:14} IN A 192.0.2.{nth}", format!("a{ADDRESSES}"));
    }
    let strings: Vec<String> = large_strings().iter().map(|string| format!("\"{string}\"")).collect();
    let _infallible = writeln!(out, "{:14} IN TXT {}", "large", strings.join(" "));
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_records_are_smaller_than_four() {
        let octets = |count| tlsa_data(count).iter().map(|(_, data)| 15 + data.len()).sum::<usize>();
        assert!(octets(5) < octets(4));
        assert!(COUNTS.iter().all(|count| octets(*count) < LARGE_OCTETS));
    }

    #[test]
    fn the_zone_file_has_every_set_whole() {
        let file = zone_file(&"canary.example.org".parse().unwrap(), &[]);
        assert!(file.contains("No zone of its own") && !file.contains("IN SOA"), "{file}");
        for count in COUNTS {
            let owner = format!("_25._tcp.n{count} ");
            assert_eq!(file.lines().filter(|line| line.starts_with(&owner)).count(), count);
        }
        assert_eq!(file.lines().filter(|line| line.starts_with("a5 ")).count(), ADDRESSES);
    }
}
