//! Denial by NSEC (RFC 4034 §4, RFC 4035 §5.4, RFC 6840 §4, RFC 9824 §3 for compact denial).
//!
//! The records that come in here are authenticated and of one zone. A record from the parent's
//! side of a zone cut says nothing about the child, and one at a DNAME nothing about names below.

use super::message::{depth, is_below};
use super::question::{DenialQuestion, Denied, denies_at, star};
use hickory_proto::dnssec::rdata::NSEC;
use hickory_proto::rr::Name;

/// One authenticated NSEC record.
#[derive(Clone, Copy, Debug)]
pub(super) struct Nsec<'a> {
    pub(super) owner: &'a Name,
    pub(super) data: &'a NSEC,
}

/// What the records prove about the question, if anything.
pub(super) fn deny(records: &[Nsec<'_>], question: &DenialQuestion<'_>) -> Option<Denied> {
    if let Some(here) = records.iter().find(|r| *r.owner == *question.name) {
        return denies_at(here.data.type_set(), question, question.name);
    }
    let covering = records.iter().filter(|r| r.covers(question.name, question.zone));
    covering.filter_map(|covering| covered(covering, records, question)).next()
}

/// What they prove about a name that is in the gap of one of them.
fn covered(covering: &Nsec<'_>, records: &[Nsec<'_>], question: &DenialQuestion<'_>) -> Option<Denied> {
    if is_below(covering.data.next_domain_name(), question.name) {
        // An empty non-terminal: it exists because names below it do (RFC 4592 §2.2.2).
        return Some(Denied::NoData);
    }
    let star = star(&covering.closest_encloser(question.name))?;
    if let Some(wildcard) = records.iter().find(|r| *r.owner == star) {
        return denies_at(wildcard.data.type_set(), question, &star).filter(Denied::is_no_data);
    }
    let denies_star = |r: &Nsec<'_>| r.covers(&star, question.zone) && !is_below(r.data.next_domain_name(), &star);
    records.iter().any(denies_star).then_some(Denied::NoName)
}

/// Whether the name itself does not exist and `encloser` is its closest encloser, so that the
/// wildcard there may stand for it (RFC 4035 §5.3.4).
pub(super) fn allows_wildcard(records: &[Nsec<'_>], question: &DenialQuestion<'_>, encloser: &Name) -> bool {
    records.iter().any(|r| {
        r.covers(question.name, question.zone)
            && !is_below(r.data.next_domain_name(), question.name)
            && r.closest_encloser(question.name) == *encloser
    })
}

impl Nsec<'_> {
    /// Whether `name` lies between this record and the next, in the zone and not below a cut.
    fn covers(&self, name: &Name, zone: &Name) -> bool {
        let next = self.data.next_domain_name();
        if !zone.zone_of(self.owner) || !zone.zone_of(name) || !zone.zone_of(next) {
            return false;
        }
        // RFC 6840 §4.1: neither a delegation nor a DNAME denies what is below it.
        if is_below(name, self.owner) && self.data.is_ancestor_delegation() {
            return false;
        }
        // The last record of a zone points back to its apex.
        self.owner < name && (name < next || (next == zone && *self.owner >= *next))
    }

    /// The deepest existing name above `name`: both ends of the gap exist, so what `name` shares
    /// with them does too.
    fn closest_encloser(&self, name: &Name) -> Name {
        let labels = shared(name, self.owner).max(shared(name, self.data.next_domain_name()));
        name.trim_to(labels.min(depth(name)))
    }
}

/// How many labels two names share, from the root.
fn shared(a: &Name, b: &Name) -> usize {
    a.iter().rev().zip(b.iter().rev()).take_while(|(a, b)| a.eq_ignore_ascii_case(b)).count()
}
