//! The walk from the anchor down to the zone of a name (RFC 4035 §5.2, RFC 6840 §5).
//!
//! At each label the zone above is asked for DS. Signed records make a signed zone, a signed
//! denial says whether there is a cut at all. Nothing else begins or ends a zone: no NS record,
//! no missing signature, no signer's name.
//!
//! A zone is unsigned when the whole DS set has been authenticated and none of it is of use, or
//! when a whole proof says that there is none. DS and DNSKEY sets are read whole, each record
//! once: no number of them is enough, no order of them matters (see the rule in `mod.rs`).

use super::anchors::Anchors;
use super::denial::DenialRecords;
use super::digest::{algorithm, digests_of, is_known_digest};
use super::message::{RrSet, depth, is_too_large};
use super::question::{DenialQuestion, Denied, Why};
use super::signature::{Signed, VerifyError, ZoneKeys, is_supported, is_supported_key, verify};
use super::work::WorkBudget;
use super::zones::{Cut, CutVerdict, Zones};
use super::{Halt, Reason, alias};
use crate::clock::Timestamp;
use crate::resolve::Security;
use hickory_proto::dnssec::DigestType;
use hickory_proto::dnssec::rdata::{DNSKEY, DNSSECRData, DS};
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Where a name lives.
pub(super) enum ZoneStatus {
    /// In a signed zone.
    Signed(Arc<ZoneKeys>),
    /// At or below a point from which on nothing is signed.
    Unsigned(CutVerdict, Arc<Reason>),
}

/// What one validation has learned and has still to spend.
#[derive(Debug)]
pub(super) struct Memory {
    pub(super) replies: BTreeMap<(Name, RecordType), Result<Message, String>>,
    /// As in [`Zones`], but no one else's questions push it out.
    cuts: BTreeMap<Name, SeenCut>,
    delegations: BTreeMap<Name, Delegation>,
    /// Whether what others have proven counts, too.
    shares: bool,
    pub(super) budget: WorkBudget,
}

/// What is known of a name, and whether this validation has seen the proof itself.
#[derive(Debug)]
struct SeenCut {
    known: CutVerdict,
    is_own: bool,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            replies: BTreeMap::new(),
            cuts: BTreeMap::new(),
            delegations: BTreeMap::new(),
            shares: true,
            budget: WorkBudget::new(),
        }
    }

    /// What was proven on the way, in the order of the tree.
    pub(super) fn cuts(&self) -> impl Iterator<Item = (&Name, &CutVerdict)> {
        self.cuts.iter().map(|(name, found)| (name, &found.known))
    }

    /// Hands over what this validation has proven; what it took from there is there already.
    pub(super) fn share(&self, zones: &Zones) {
        for (name, found) in self.cuts.iter().filter(|(_, found)| found.is_own) {
            zones.insert(name.clone(), found.known.clone());
        }
    }

    /// Forgets all that others have proven; `false` when nothing of it was used.
    pub(super) fn start_alone(&mut self) -> bool {
        let used = self.cuts.values().any(|found| !found.is_own);
        if used {
            self.shares = false;
            self.cuts.clear();
            self.delegations.clear();
        }
        used
    }
}

/// Authenticated DS records of which at least one is of use.
#[derive(Clone, Debug)]
struct Delegation {
    usable: Vec<DS>,
    signed: Signed,
}

/// The keys of a zone.
struct Candidates {
    /// All of them, with their tags.
    keys: Vec<(u16, DNSKEY)>,
    /// Those that the zone above, or a trust anchor, vouches for.
    entries: Vec<(u16, DNSKEY)>,
}

/// The walk, with all that it may use.
pub(super) struct DelegationWalk<'a> {
    pub(super) anchors: &'a Anchors,
    pub(super) zones: &'a Zones,
    pub(super) memory: &'a mut Memory,
    pub(super) now: Timestamp,
}

impl DelegationWalk<'_> {
    /// The place of the records of a name: for DS it is the zone above (RFC 4035 §3.1.4.1).
    pub(super) fn place_of(&mut self, name: &Name, rtype: RecordType) -> Result<ZoneStatus, Halt> {
        if rtype == RecordType::DS { self.place(&name.base_name()) } else { self.place(name) }
    }

    /// Walks from the root to the zone that `name` belongs to.
    pub(super) fn place(&mut self, name: &Name) -> Result<ZoneStatus, Halt> {
        let root = self.known(&Name::root(), None)?;
        let mut zone = match root.cut.clone() {
            Cut::Secure(keys) => keys,
            Cut::Insecure(reason) => return Ok(ZoneStatus::Unsigned(root, reason)),
            Cut::Inside | Cut::Nothing => return Err(self.bogus("RFC 4035 §5", &Name::root(), "no root zone")),
        };
        for labels in 1..=depth(name) {
            let known = self.known(&name.trim_to(labels), Some(&zone))?;
            match known.cut.clone() {
                Cut::Secure(keys) => zone = keys,
                Cut::Insecure(reason) => return Ok(ZoneStatus::Unsigned(known, reason)),
                Cut::Inside => {}
                Cut::Nothing => break,
            }
        }
        Ok(ZoneStatus::Signed(zone))
    }

    /// Whether a cut is known to lie between a zone and the records of a name: then the zone is
    /// not theirs, however good its signature (RFC 4035 §5.3.1). What it signed before it delegated
    /// may still be about. Where others know of one, a validation that works alone asks itself.
    pub(super) fn is_cut_between(&mut self, zone: &Name, name: &Name, rtype: RecordType) -> Result<bool, Halt> {
        let deepest = if rtype == RecordType::DS { depth(name).saturating_sub(1) } else { depth(name) };
        let between: Vec<Name> = (depth(zone) + 1..=deepest).map(|labels| name.trim_to(labels)).collect();
        let is_cut = |known: &CutVerdict| matches!(known.cut, Cut::Secure(_) | Cut::Insecure(_));
        let own =
            |walk: &Self| between.iter().any(|at| walk.memory.cuts.get(at).is_some_and(|found| is_cut(&found.known)));
        if own(self) {
            return Ok(true);
        }
        let others = between.iter().any(|at| self.zones.get(at, self.now).is_some_and(|known| is_cut(&known)));
        if others && !self.memory.shares {
            self.place_of(name, rtype)?;
            return Ok(own(self));
        }
        Ok(others)
    }

    fn shared(&self, at: &Name) -> Option<CutVerdict> {
        if self.memory.shares { self.zones.get(at, self.now) } else { None }
    }

    fn known(&mut self, at: &Name, parent: Option<&ZoneKeys>) -> Result<CutVerdict, Halt> {
        if let Some(found) = self.memory.cuts.get(at) {
            return Ok(found.known.clone());
        }
        let found = match (self.shared(at), parent) {
            (Some(known), _) => SeenCut { known, is_own: false },
            (None, Some(parent)) => SeenCut { known: self.find_out(at, parent)?, is_own: true },
            (None, None) => SeenCut { known: self.root()?, is_own: true },
        };
        let known = found.known.clone();
        self.memory.cuts.insert(at.clone(), found);
        Ok(known)
    }

    fn find_out(&mut self, at: &Name, parent: &ZoneKeys) -> Result<CutVerdict, Halt> {
        if let Some(delegation) = self.memory.delegations.get(at).cloned() {
            return self.keys(at, &delegation);
        }
        let reply = self.reply(at, RecordType::DS)?;
        if let Some(set) = RrSet::find(&reply.answers, at, RecordType::DS) {
            let delegation = match self.delegation(&set, parent)? {
                Ok(delegation) => delegation,
                Err(unusable) => return Ok(unusable),
            };
            self.memory.delegations.insert(at.clone(), delegation.clone());
            return self.keys(at, &delegation);
        }
        self.no_ds(at, parent, &reply)
    }

    /// DS records: usable ones, or the verdict that there are none (RFC 4035 §5.2).
    fn delegation(&mut self, set: &RrSet<'_>, parent: &ZoneKeys) -> Result<Result<Delegation, CutVerdict>, Halt> {
        let signed = self.exactly(set, parent)?;
        let mut usable: Vec<DS> = set.records.iter().filter_map(|r| usable_ds(r)).collect();
        // RFC 4509 §3: SHA-1 counts only where nothing better is there.
        if usable.iter().any(|ds| ds.digest_type() != DigestType::SHA1) {
            usable.retain(|ds| ds.digest_type() != DigestType::SHA1);
        }
        if usable.is_empty() {
            let said = "the DS records name no algorithm and digest that we know";
            let reason = Arc::new(Reason::new("RFC 4035 §5.2", set.owner, said.into()));
            return Ok(Err(self.verdict(Cut::Insecure(reason), signed)));
        }
        Ok(Ok(Delegation { usable, signed }))
    }

    /// No DS records in the answer: an alias, or a denial by the zone above.
    fn no_ds(&mut self, at: &Name, parent: &ZoneKeys, reply: &Message) -> Result<CutVerdict, Halt> {
        if let Some(dname) = alias::dname_above(&reply.answers, at) {
            let signed = self.exactly(&dname, parent)?;
            return Ok(self.verdict(Cut::Nothing, signed));
        }
        let question = DenialQuestion { name: at, rtype: RecordType::DS, zone: &parent.zone };
        if let Some(cname) = RrSet::find(&reply.answers, at, RecordType::CNAME) {
            let signed = self.check(&cname, parent)?;
            if signed.labels == at.num_labels() {
                // Where a CNAME is there is no NS (RFC 1034 §3.6.2).
                return Ok(self.verdict(Cut::Inside, signed));
            }
            let evidence = DenialRecords::read(&reply.authorities, parent, self.now, &mut self.memory.budget);
            let encloser = at.trim_to(usize::from(signed.labels));
            let open = evidence.wildcard(&question, &encloser, &mut self.memory.budget).map_err(Halt::from)?;
            let cut = match open {
                Some(why @ Why::OptOut) => Cut::Insecure(Arc::new(why.reason(at))),
                // Costly or not, the proof is whole: the name does not exist.
                Some(Why::Iterations) | None => Cut::Nothing,
            };
            return Ok(CutVerdict { cut, until: evidence.until.min(signed.until) });
        }
        let evidence = DenialRecords::read(&reply.authorities, parent, self.now, &mut self.memory.budget);
        // That a proof is costly makes a denial insecure and no zone unsigned: what it says of
        // cuts is proven (see nsec3.rs).
        let cut = match evidence.deny(&question, &mut self.memory.budget).map_err(Halt::from)?.what {
            Denied::NoData => Cut::Inside,
            Denied::NoName => Cut::Nothing,
            Denied::UnsignedCut => {
                let said = format!("{} delegates without DS records", parent.zone);
                Cut::Insecure(Arc::new(Reason::new("RFC 4035 §5.2", at, said)))
            }
            Denied::OptOut => Cut::Insecure(Arc::new(Why::OptOut.reason(at))),
        };
        Ok(CutVerdict { cut, until: evidence.until })
    }

    /// The keys of a zone, by the digests its parent has of them (RFC 4035 §5.2).
    fn keys(&mut self, at: &Name, delegation: &Delegation) -> Result<CutVerdict, Halt> {
        let reply = self.reply(at, RecordType::DNSKEY)?;
        let Some(set) = RrSet::find(&reply.answers, at, RecordType::DNSKEY) else {
            return Err(self.bogus("RFC 4035 §5.2", at, "the zone has DS records and no DNSKEY records"));
        };
        let keys = keys_of(&set);
        let named: Vec<(&(u16, DNSKEY), Vec<&DS>)> =
            keys.iter().map(|key| (key, digests_of(&delegation.usable, key.0, &key.1, at))).collect();
        // A key of a size we do not check counts as an algorithm we do not know, but only when
        // every digest is of such a key.
        let unusable = |ds: &DS| {
            let is_of = |(key, digests): &(&(u16, DNSKEY), Vec<&DS>)| {
                !is_supported_key(key.1.public_key()) && digests.contains(&ds)
            };
            named.iter().any(is_of)
        };
        if delegation.usable.iter().all(unusable) {
            let said = "the zone's keys are of a size that proves nothing";
            let reason = Arc::new(Reason::new("RFC 4035 §5.2", at, said.into()));
            return Ok(self.verdict(Cut::Insecure(reason), delegation.signed));
        }
        let entries = named.iter().filter(|(_, digests)| !digests.is_empty()).map(|(key, _)| (*key).clone()).collect();
        let said = "no DNSKEY record fits the DS records of the zone above";
        self.key_set(&set, Candidates { keys, entries }, said, Some(delegation.signed))
    }

    fn root(&mut self) -> Result<CutVerdict, Halt> {
        let root = Name::root();
        let reply = self.reply(&root, RecordType::DNSKEY)?;
        let Some(set) = RrSet::find(&reply.answers, &root, RecordType::DNSKEY) else {
            return Err(self.bogus("RFC 4035 §5", &root, "the answer holds no keys of the root"));
        };
        let keys = keys_of(&set);
        let entries = keys.iter().filter(|(tag, key)| self.anchors.trust(*tag, key)).cloned().collect();
        self.key_set(&set, Candidates { keys, entries }, "no key of the root fits the trust anchors", None)
    }

    /// A DNSKEY RRset that one of its entries signs. All its keys are kept: were some left out, signatures they made would be bogus, on this path
    /// and on all others.
    fn key_set(
        &mut self,
        set: &RrSet<'_>,
        candidates: Candidates,
        misfit: &str,
        above: Option<Signed>,
    ) -> Result<CutVerdict, Halt> {
        let (zone, Candidates { mut keys, mut entries }) = (set.owner.to_lowercase(), candidates);
        let is_sound = |key: &DNSKEY| key.zone_key() && !key.revoke() && is_supported(algorithm(key));
        keys.retain(|(_, key)| is_sound(key));
        entries.retain(|(_, key)| is_sound(key));
        if entries.is_empty() {
            return Err(self.bogus("RFC 4035 §5.2", &zone, misfit));
        }
        let entrance = ZoneKeys { zone: zone.clone(), keys: entries, signed_until: self.now };
        let signed = self.exactly(set, &entrance)?;
        let until = above.map_or(signed.until, |above| above.until.min(signed.until));
        let signed_until = above.map_or(signed.signed_until, |above| above.signed_until.min(signed.signed_until));
        let cut = Cut::Secure(Arc::new(ZoneKeys { zone, keys, signed_until }));
        Ok(CutVerdict { cut, until })
    }

    fn verdict(&self, cut: Cut, signed: Signed) -> CutVerdict {
        CutVerdict { cut, until: signed.until.max(self.now) }
    }

    fn check(&mut self, set: &RrSet<'_>, zone: &ZoneKeys) -> Result<Signed, Halt> {
        verify(set, zone, self.now, &mut self.memory.budget).map_err(Halt::from)
    }

    /// Records that must not come from a wildcard.
    fn exactly(&mut self, set: &RrSet<'_>, zone: &ZoneKeys) -> Result<Signed, Halt> {
        let signed = self.check(set, zone)?;
        if signed.labels == set.owner.num_labels() {
            return Ok(signed);
        }
        let said = format!("the {} records are made from a wildcard", set.rtype);
        Err(Halt::from(VerifyError::Bogus(Reason::new("RFC 4035 §5.3.4", set.owner, said))))
    }

    /// The message that answers a question of ours, or the wish to have it.
    fn reply(&mut self, name: &Name, rtype: RecordType) -> Result<Message, Halt> {
        let reply = match self.memory.replies.remove(&(name.clone(), rtype)) {
            None => return Err(Halt::Ask(name.clone(), rtype)),
            Some(reply) => reply.and_then(usable),
        };
        reply.map_err(|why| {
            let said = format!("its {rtype} records, which prove the chain of trust, could not be fetched: {why}");
            Halt::Stop(Security::Indeterminate, Reason::new("RFC 4035 §4.3", name, said))
        })
    }

    fn bogus(&self, rfc: &'static str, name: &Name, said: &str) -> Halt {
        Halt::Stop(Security::Bogus, Reason::new(rfc, name, said.to_owned()))
    }
}

/// A message that can be judged at all.
pub(super) fn usable(message: Message) -> Result<Message, String> {
    let code = message.metadata.response_code;
    if code != ResponseCode::NoError && code != ResponseCode::NXDomain {
        return Err(code.to_str().to_owned());
    }
    if message.metadata.truncation {
        return Err("the answer is truncated".into());
    }
    if is_too_large(&message) {
        return Err("the answer holds too many records".into());
    }
    Ok(message)
}

fn usable_ds(record: &Record) -> Option<DS> {
    let RData::DNSSEC(DNSSECRData::DS(ds)) = &record.data else { return None };
    (is_supported(ds.algorithm()) && is_known_digest(ds)).then(|| ds.clone())
}

fn keys_of(set: &RrSet<'_>) -> Vec<(u16, DNSKEY)> {
    let key = |record: &&Record| {
        let RData::DNSSEC(DNSSECRData::DNSKEY(key)) = &record.data else { return None };
        Some((key.calculate_key_tag().ok()?, key.clone()))
    };
    set.records.iter().filter_map(key).collect()
}
