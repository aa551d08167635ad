//! From a next-hop domain to MX hosts, their addresses and their TLSA records, each with what
//! DNSSEC says about it (RFC 5321 §5.1, RFC 7672 §2).
//!
//! This page holds the nouns and the pure rules; `driver.rs` asks the questions, and
//! `proof.rs` says which answers are believed.
//! "Could not find out" is never "there is none": see [`TlsaLookup`].

pub mod answer;
mod cache;
mod condition;
mod convert;
pub mod dnssec;
pub mod driver;
pub mod error;
pub mod event;
mod judging;
mod lookup;
pub mod mail;
mod own;
pub(crate) mod own_hop;
pub mod paths;
pub mod probe;
pub(crate) mod proof;
pub mod tlsa_counts;
mod trust_ad;

use crate::outcome::Cause;
use crate::smtp::address::Domain;
use serde::{Deserialize, Serialize};
use std::fmt::{self, Write as _};
use std::net::IpAddr;

/// What DNSSEC says about an answer (RFC 4035 §4.3; RFC 7672 §2.1.1 for the fourth).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Security {
    /// Signed, and the chain of trust from the anchor is whole.
    Secure,
    /// Provably not signed.
    Insecure,
    /// Should be signed and is not, or is signed wrongly.
    Bogus,
    /// We could not find out.
    Indeterminate,
}

impl Security {
    /// The word for output.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Secure => "secure",
            Self::Insecure => "insecure",
            Self::Bogus => "bogus",
            Self::Indeterminate => "indeterminate",
        }
    }
}

/// A TLSA record (RFC 6698 §2.1), whatever its numbers mean to us.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct TlsaRecord {
    /// Certificate usage: 2 DANE-TA, 3 DANE-EE; 0 and 1 do not apply to SMTP.
    pub usage: u8,
    /// Selector: 0 the certificate, 1 its SubjectPublicKeyInfo.
    pub selector: u8,
    /// Matching type: 0 full, 1 SHA-256, 2 SHA-512.
    pub matching: u8,
    /// Certificate association data.
    pub data: Vec<u8>,
}

/// `3 1 1 0123…`, as zone files write it.
impl fmt::Display for TlsaRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = self.data.iter().fold(String::new(), |mut hex, byte| {
            let _infallible = write!(hex, "{byte:02x}");
            hex
        });
        write!(f, "{} {} {} {hex}", self.usage, self.selector, self.matching)
    }
}

/// What we know about the TLSA records of an MX host: the downgrade hinge.
/// Matches on it name every variant, so that "unavailable" is never taken for "absent".
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TlsaLookup {
    /// DANE does not apply to this host.
    Absent(AbsentBecause),
    /// We could not find out; the host must not be used (RFC 7672 §2.1.2).
    Unavailable(Cause),
    /// A secure, non-empty RRset, usable or not.
    Present {
        /// The TLSA base domain: SNI and first reference identifier (RFC 7672 §2.2.3).
        base_domain: Domain,
        /// The records in the order of the answer.
        records: Vec<TlsaRecord>,
    },
}

/// Why DANE does not apply to a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AbsentBecause {
    /// The addresses are not signed, so TLSA is not asked for (RFC 7672 §2.2.2).
    AddressesInsecure,
    /// A signed answer proves that there are no TLSA records.
    ProvenAbsent,
    /// The TLSA answer is provably not signed.
    TlsaInsecure,
    /// The MX records are not signed, and the operator wants no DANE then (RFC 7672 §2.2.1).
    MxInsecure,
    /// The next hop is an address, not a name.
    AddressLiteral,
    /// The name is private: the signed DNS of the world says nothing about it (RFC 7646).
    PrivateName,
}

impl AbsentBecause {
    /// The phrase that fits after "no DANE: ".
    #[must_use]
    pub const fn phrase(self) -> &'static str {
        match self {
            Self::AddressesInsecure => "the host's addresses are not signed",
            Self::ProvenAbsent => "the signed zone has no TLSA records for the host",
            Self::TlsaInsecure => "the TLSA records are not signed",
            Self::MxInsecure => "the MX records that lead to the host are not signed",
            Self::AddressLiteral => "the next hop is an address, not a name",
            Self::PrivateName => {
                "the name is a private one, outside of the signed DNS, and nothing about it is validated"
            }
        }
    }
}

/// One MX host, with what is known about it before anyone connects.
#[derive(Clone, Debug)]
pub struct MxHost {
    /// Its name, or the address where the next hop is one.
    pub name: String,
    /// Its MX preference; lower is tried first.
    pub preference: u16,
    /// Where it is.
    pub addresses: HostAddresses,
    /// What DNSSEC says about the addresses.
    pub security: Security,
    /// Its TLSA records.
    pub tlsa: TlsaLookup,
}

/// The addresses of an MX host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HostAddresses {
    /// These; none when the host provably has none.
    Known(Vec<IpAddr>),
    /// We could not find out.
    Unavailable(Cause),
}

/// How the MX hosts of a next hop were found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostsFrom {
    /// From MX records.
    Mx,
    /// No MX records: the domain is its own host (RFC 5321 §5.1).
    ImplicitMx,
    /// The operator named the next hop.
    Configuration,
}

/// All that the DNS says about a next hop.
#[derive(Clone, Debug)]
pub struct Resolution {
    /// The domain or host that was resolved.
    pub next_hop: String,
    /// The port of its hosts.
    pub port: u16,
    /// Where the hosts come from.
    pub hosts_from: HostsFrom,
    /// What DNSSEC says about the MX records, or about their absence.
    pub mx_security: Security,
    /// Names a DANE-TA certificate may carry besides the TLSA base domain: the next hop and its
    /// secure CNAME expansion; none when the MX records are not secure (RFC 7672 §3.2.2).
    pub references: Vec<Domain>,
    /// The hosts in the order they are to be tried.
    pub hosts: Vec<MxHost>,
    /// How each answer was come by, in the order of the questions.
    pub traces: Vec<answer::Trace>,
}

/// Orders hosts by preference; equal ones by a hash of their name and `seed`, so that load
/// spreads over them (RFC 5321 §5.1) and a given seed always gives the same order.
pub fn order_hosts(hosts: &mut [(u16, Domain)], seed: u64) {
    hosts.sort_by_cached_key(|(preference, name)| (*preference, mix(seed, name.as_str())));
}

/// FNV-1a with the seed as start: enough to shuffle, and the same on every machine.
fn mix(seed: u64, text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    let hash = seed.to_le_bytes().into_iter().fold(0xcbf2_9ce4_8422_2325, step);
    // FNV leaves the high bits poorly mixed for short texts; the final fold spreads them.
    let hash = text.bytes().fold(hash, step);
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn domain(name: &str) -> Domain {
        name.parse().unwrap()
    }

    #[test]
    fn rfc5321_5_1_equal_preferences_are_shuffled_and_others_are_not() {
        let mut first = [0_u32; 2];
        for seed in 0..200 {
            let mut hosts = vec![(20, domain("c.example")), (10, domain("a.example")), (10, domain("b.example"))];
            order_hosts(&mut hosts, seed);
            assert_eq!(hosts[2].1, domain("c.example"));
            first[usize::from(hosts[0].1 == domain("b.example"))] += 1;
        }
        assert!(first.iter().all(|&n| n > 60), "{first:?}");
    }

    #[test]
    fn tlsa_records_print_as_zone_files_write_them() {
        let record = TlsaRecord { usage: 3, selector: 1, matching: 1, data: vec![0, 0xab] };
        assert_eq!(record.to_string(), "3 1 1 00ab");
    }
}
