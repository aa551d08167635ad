//! What a denial is asked to deny, and what it can say (RFC 4035 §5.4, RFC 5155 §8).

use super::Reason;
use hickory_proto::rr::{Name, RecordType, RecordTypeSet};

/// The type by which compact denial says "no such name" (RFC 9824 §3.1).
const NXNAME: u16 = 128;

/// Extra iterations of a denial that is secure. RFC 9276 §3.2 lets validators treat more as
/// insecure; 150 is where Unbound and BIND do.
pub(super) const ITERATIONS_LIMIT: u16 = 150;

/// What is to be denied, and by which zone.
#[derive(Clone, Copy, Debug)]
pub(super) struct DenialQuestion<'a> {
    pub(super) name: &'a Name,
    pub(super) rtype: RecordType,
    pub(super) zone: &'a Name,
}

impl DenialQuestion<'_> {
    pub(super) fn is_ds(&self) -> bool {
        self.rtype == RecordType::DS
    }
}

/// What is proven.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ProvenDenial {
    pub(super) what: Denied,
    /// Why it does not count as secure all the same.
    pub(super) open: Option<Why>,
}

/// What a proof says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Denied {
    /// The name exists, or a wildcard stands for it; it has no such records.
    NoData,
    /// The name does not exist.
    NoName,
    /// Asked for DS: a delegation without one.
    UnsignedCut,
    /// Nothing with signed data is there; the zone leaves open whether an unsigned delegation is.
    OptOut,
}

impl Denied {
    pub(super) fn is_no_data(&self) -> bool {
        *self == Self::NoData
    }
}

/// Why a proof is not secure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// The name lies in an opt-out range.
    OptOut,
    /// More NSEC3 iterations than a zone may ask of us.
    Iterations,
}

impl Why {
    pub(super) fn reason(self, name: &Name) -> Reason {
        match self {
            Self::OptOut => {
                Reason::new("RFC 5155 §9.2", name, "the zone leaves open what exists here (opt-out)".into())
            }
            Self::Iterations => {
                let said = format!("the zone's denials take more than {ITERATIONS_LIMIT} iterations");
                Reason::new("RFC 9276 §3.2", name, said)
            }
        }
    }
}

/// What the types listed at a name say about the question. `at` is the name asked, or the
/// wildcard that stands for it.
pub(super) fn denies_at(types: &RecordTypeSet, question: &DenialQuestion<'_>, at: &Name) -> Option<Denied> {
    let (cut, apex) = (types.contains(RecordType::NS), types.contains(RecordType::SOA));
    // RFC 6840 §4.3: where there is a CNAME the answer would have been the CNAME.
    if types.contains(question.rtype) || types.contains(RecordType::CNAME) {
        return None;
    }
    if types.contains(RecordType::from(NXNAME)) {
        return Some(Denied::NoName);
    }
    if !question.is_ds() {
        // RFC 6840 §4.4: the parent's side of a cut denies nothing but DS.
        return (!cut || apex).then_some(Denied::NoData);
    }
    // RFC 4035 §5.2, RFC 5155 §8.6: the child's side of a cut does not deny DS.
    match (cut, apex) {
        (_, true) if !at.is_root() => None,
        (true, false) if *at == *question.name => Some(Denied::UnsignedCut),
        (true, false) => None,
        (false | true, _) => Some(Denied::NoData),
    }
}

/// The wildcard right below a name.
pub(super) fn star(encloser: &Name) -> Option<Name> {
    encloser.prepend_label("*").ok()
}
