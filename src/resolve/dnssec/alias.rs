//! CNAME and DNAME: where a name leads (RFC 1034 §3.6.2, RFC 6672 §2 and §5.3).
//!
//! A CNAME that comes with a DNAME is made from it and not signed. It is never believed: the
//! target is computed here from the authenticated DNAME, and a CNAME that says otherwise is bogus.

use super::message::{RrSet, depth, is_below};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use hickory_proto::serialize::binary::BinDecodable as _;

/// The deepest DNAME RRset of the section whose owner is above `name`.
pub(super) fn dname_above<'a>(section: &'a [Record], name: &Name) -> Option<RrSet<'a>> {
    let above =
        |r: &&Record| r.dns_class == DNSClass::IN && r.record_type() == RecordType::DNAME && is_below(name, &r.name);
    let owner = section.iter().filter(above).map(|r| &r.name).max_by_key(|owner| depth(owner))?;
    RrSet::find(section, owner, RecordType::DNAME)
}

/// The target of a CNAME RRset; `None` unless there is exactly one (RFC 2181 §10.1).
pub(super) fn cname_target<'a>(set: &RrSet<'a>) -> Option<Name> {
    let target = |r: &&'a Record| if let RData::CNAME(target) = &r.data { Some(&target.0) } else { None };
    let mut targets = set.records.iter().filter_map(target);
    let target = targets.next()?;
    targets.all(|other| other == target).then(|| target.to_lowercase())
}

/// What a DNAME makes of a name below its owner (RFC 6672 §2.2).
pub(super) fn dname_target(set: &RrSet<'_>, name: &Name) -> Result<Name, DnameFault> {
    let target = |r: &&Record| {
        if let RData::Unknown { rdata, .. } = &r.data { Name::from_bytes(&rdata.anything).ok() } else { None }
    };
    let mut targets = set.records.iter().filter_map(target);
    let target = targets.next().ok_or(DnameFault::Unreadable)?;
    if targets.any(|other| other != target) {
        return Err(DnameFault::Unreadable);
    }
    let kept = depth(name).saturating_sub(depth(set.owner));
    let prefix = Name::from_labels(name.iter().take(kept)).map_err(|_| DnameFault::Unreadable)?;
    let mut made = prefix.append_domain(&target).map_err(|_| DnameFault::TooLong)?;
    made.set_fqdn(true);
    Ok(made.to_lowercase())
}

/// Why a DNAME leads nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum DnameFault {
    /// Its data is no name, or there is more than one.
    Unreadable,
    /// The new name would be too long (RFC 6672 §2.2).
    TooLong,
}
