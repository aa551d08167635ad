//! A zone of the lab as a signed zone file, so that another name server can serve the same
//! records (RFC 1035 §5, RFC 3597 §5).
//!
//! All data is written in the generic form: no program needs to know a type, and none can read
//! one otherwise than it was signed. Faults of signatures are in the file, all others are not.

use super::plan::Denial;
use super::rrset::ZoneRrSet;
use super::signer::canonical;
use super::world::World;
use super::zone::{AnswerFault, Zone};
use crate::clock::Timestamp;
use crate::lab::{bad, locked};
use hickory_proto::rr::{Name, Record, RecordType};
use std::fmt::Write as _;
use std::io;

impl World {
    /// The zone file of a zone, signed as of now, with glue.
    ///
    /// # Errors
    /// When there is no such zone, or it denies compactly: that cannot be written down.
    pub fn zone_file(&self, origin: &str) -> io::Result<String> {
        let origin = super::world::name(origin)?;
        let now = self.now();
        let zones = locked(self.zones());
        let zone = zones.get(&origin).ok_or_else(|| bad("no such zone"))?;
        if zone.denial == Denial::Compact && !zone.keys().is_empty() {
            return Err(bad("a compact denial is made for each question"));
        }
        let mut text = String::new();
        for set in zone.sets() {
            // What lies at a cut is the child's, but for the DS records (RFC 4035 §2.2).
            let delegated = set.rtype == RecordType::NS && set.owner != origin;
            let signatures = if delegated { Vec::new() } else { signatures(zone, &set, now)? };
            write_all(&mut text, set.records().chain(signatures))?;
            if delegated {
                write_all(&mut text, super::world::glue(&zones, &set))?;
            }
        }
        for proof in zone.all_proofs()? {
            let signatures = zone.sign(&proof, now, None)?;
            write_all(&mut text, proof.records().chain(signatures))?;
        }
        Ok(text)
    }
}

fn signatures(zone: &Zone, set: &ZoneRrSet, now: Timestamp) -> io::Result<Vec<Record>> {
    let fault = zone.fault(&set.owner, set.rtype).and_then(AnswerFault::of_signature);
    zone.sign(set, now, fault)
}

fn write_all(text: &mut String, records: impl IntoIterator<Item = Record>) -> io::Result<()> {
    for record in records {
        let data = canonical(&record.data)?;
        let hex = data.iter().fold(String::with_capacity(data.len() * 2), |mut hex, byte| {
            let _never = write!(hex, "{byte:02x}");
            hex
        });
        let (owner, ttl, number) = (owner(&record.name), record.ttl, u16::from(record.record_type()));
        writeln!(text, "{owner} {ttl} IN TYPE{number} \\# {} {hex}", data.len()).map_err(bad)?;
    }
    Ok(())
}

/// A name with every octet that is not plain escaped (RFC 1035 §5.1).
fn owner(name: &Name) -> String {
    let mut text = String::new();
    for label in name.iter() {
        for &byte in label {
            let plain = byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'*');
            let _never = if plain { write!(text, "{}", char::from(byte)) } else { write!(text, "\\{byte:03}") };
        }
        text.push('.');
    }
    if text.is_empty() { ".".to_owned() } else { text }
}
