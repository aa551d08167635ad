//! Records of one name and type, which is what a signature covers (RFC 4034 §3, RFC 2181 §5), and
//! what can be wrong with it.

use hickory_proto::rr::{Name, RData, Record, RecordType};

/// Records of one name and type.
#[derive(Clone, Debug)]
pub struct ZoneRrSet {
    /// The name they belong to, in lower case.
    pub owner: Name,
    /// Their type.
    pub rtype: RecordType,
    /// Their TTL, in seconds.
    pub ttl_s: u32,
    /// Their data.
    pub data: Vec<RData>,
}

impl ZoneRrSet {
    /// The records, without signatures.
    pub fn records(&self) -> impl Iterator<Item = Record> + '_ {
        self.data.iter().map(|data| Record::from_rdata(self.owner.clone(), self.ttl_s, data.clone()))
    }
}

/// What is wrong with a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SignatureFault {
    /// The window ended three days ago.
    Expired,
    /// The window begins in three days.
    NotYetValid,
    /// One bit is flipped.
    Bogus,
    /// There is none.
    Missing,
    /// Sound in itself, in the name of the zone above.
    WrongSigner,
    /// Sound in itself, with one label less: as if a wildcard had been expanded.
    TooFewLabels,
    /// Sound in itself, with more labels than the owner has.
    TooManyLabels,
    /// The tag is that of no key.
    WrongTag,
    /// The algorithm is another one than the key's.
    WrongAlgorithm,
    /// The good one comes last, behind many bad ones of the same key.
    Flooded,
}
