//! A world made by chance from a seed, with the questions worth asking of it: for validators that
//! shall agree about zones nobody thought of (RFC 4035, RFC 5155).
//!
//! The same seed gives the same tree, plans, records and questions; the keys are fresh each time.
//! All zones are truthful, and each is secure, insecure or bogus as a whole by its plan.

use super::plan::{Denial, DsOf, DsSpec, KeyAlgorithm, KeySpec, OptOut, Role, Signing, SigningPlan};
use super::world::{World, name};
use super::zone::dname;
use crate::clock::Clock;
use hickory_proto::dnssec::DigestType;
use hickory_proto::rr::rdata::{A, MX};
use hickory_proto::rr::{RData, RecordType};
use std::collections::BTreeSet;
use std::io;
use std::net::Ipv4Addr;

/// Zones below `test.` in one world.
const ZONES: usize = 6;
/// Names with records in one zone.
const NAMES: usize = 8;
/// Labels that names are made of: few, so that names meet, cover and enclose each other.
const LABELS: [&str; 6] = ["a", "b", "m", "z", "_tcp", "*"];

/// What a seed gives.
#[derive(Debug)]
pub struct RandomWorld {
    /// The zones.
    pub world: World,
    /// Existing names, absent ones, and names at and below cuts, each with a type.
    pub questions: Vec<(String, RecordType)>,
}

impl RandomWorld {
    /// The world of a seed.
    ///
    /// # Errors
    /// When keys cannot be made.
    pub fn new(seed: u64, clock: Clock) -> io::Result<Self> {
        let (world, mut chance) = (World::new(clock)?, Chance(seed));
        let mut origins = vec!["test".to_owned()];
        let mut owners = BTreeSet::new();
        for nth in 0..ZONES {
            // Mostly side by side: below a bogus zone everything is bogus, and says no more.
            let deep = chance.below(3) == 0;
            let above = if deep { chance.pick(&origins).cloned() } else { None };
            let above = above.unwrap_or_else(|| "test".to_owned());
            let origin = format!("zone{nth}.{above}");
            world.add_zone(&origin, plan(&mut chance))?;
            origins.push(origin);
        }
        for origin in origins.iter().skip(1) {
            for _ in 0..NAMES {
                let owner = owner(&mut chance, origin);
                let target = chance.pick(&origins).cloned().unwrap_or_default();
                fill(&world, &mut chance, &owner, &target)?;
                owners.insert(owner);
            }
        }
        let questions = questions(&mut chance, &origins, owners);
        Ok(Self { world, questions })
    }
}

fn plan(chance: &mut Chance) -> SigningPlan {
    let algorithms = [KeyAlgorithm::EcdsaP256, KeyAlgorithm::EcdsaP384, KeyAlgorithm::Ed25519];
    let mut pick = || chance.pick(&algorithms).copied().unwrap_or(KeyAlgorithm::Ed25519);
    let (first, second) = (pick(), pick());
    let plan = match chance.below(8) {
        0 => return Signing::Unsigned.into(),
        1 => return Signing::NoDs.into(),
        2 => SigningPlan::signed(KeyAlgorithm::Unknown(253)),
        3 => SigningPlan::signed(first).ds([DsSpec::new(DsOf::Damaged(0), DigestType::SHA256)]),
        4 => SigningPlan::signed(first).ds([
            DsSpec::new(DsOf::Stranger(first), DigestType::SHA256),
            DsSpec::new(DsOf::Key(0), DigestType::SHA384),
        ]),
        5 => SigningPlan::signed(first).key(KeySpec::new(first, Role::Standby).tag_of(0)),
        _ => SigningPlan::split(first, second),
    };
    let opt_out = if chance.below(2) == 0 { OptOut::No } else { OptOut::Yes };
    match chance.below(5) {
        0 | 1 => plan,
        2 => plan.compact(),
        3 => plan.nsec3(3),
        _ => plan.denial(Denial::Nsec3 { salt: Vec::new(), iterations: 0, opt_out }),
    }
}

fn owner(chance: &mut Chance, origin: &str) -> String {
    let depth = 1 + chance.below(3);
    let mut owner = origin.to_owned();
    for _ in 0..depth {
        let label = chance.pick(&LABELS).copied().unwrap_or("a");
        owner = format!("{label}.{owner}");
        // Below a wildcard there can be names, but nobody has them.
        if label == "*" {
            break;
        }
    }
    owner
}

/// A name is an alias and nothing else, or has records (RFC 1034 §3.6.2).
fn fill(world: &World, chance: &mut Chance, owner: &str, target: &str) -> io::Result<()> {
    let found = world.answer(&name(owner)?, RecordType::ANY)?;
    let alias = found.answers.iter().any(|r| matches!(r.record_type(), RecordType::CNAME | RecordType::DNAME));
    let exists = found.code == hickory_proto::op::ResponseCode::NoError;
    if alias {
        return Ok(());
    }
    match chance.below(6) {
        0 if !exists && !owner.starts_with('*') => world.add(owner, dname(&name(&format!("tree.{target}"))?)?),
        1 | 2 if !exists => world.add_cname(owner, &format!("a.{target}")),
        3 => world.add(owner, RData::MX(MX::new(10, name(target)?))),
        _ => world.add(owner, RData::A(A(Ipv4Addr::LOCALHOST))),
    }
}

fn questions(chance: &mut Chance, origins: &[String], owners: BTreeSet<String>) -> Vec<(String, RecordType)> {
    let types = [RecordType::A, RecordType::MX, RecordType::TLSA, RecordType::DS, RecordType::CNAME];
    let absent = origins.iter().flat_map(|origin| [format!("absent.{origin}"), format!("x.y.a.{origin}")]);
    let below: Vec<_> = owners.iter().map(|owner| format!("below.{}", owner.trim_start_matches("*."))).collect();
    let names: BTreeSet<_> = absent.chain(below).chain(owners.iter().cloned()).chain(origins.iter().cloned()).collect();
    let kinds = |name: String| {
        let rtype = chance.pick(&types).copied().unwrap_or(RecordType::A);
        [(name.clone(), rtype), (name, RecordType::TLSA)]
    };
    names.into_iter().flat_map(kinds).collect()
}

/// SplitMix64: small, and the same everywhere.
struct Chance(u64);

impl Chance {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let limit = u64::try_from(from.len().max(1)).unwrap_or(1);
        from.get(usize::try_from(self.below(limit)).unwrap_or(0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_world() {
        let (one, two) = (RandomWorld::new(7, Clock::system()).unwrap(), RandomWorld::new(7, Clock::system()).unwrap());
        assert!(one.questions == two.questions && one.questions.len() > 40);
        let mut codes = BTreeSet::new();
        for (owner, rtype) in &one.questions {
            let (a, b) = (one.world.message(owner, *rtype).unwrap(), two.world.message(owner, *rtype).unwrap());
            assert_eq!(a.metadata.response_code, b.metadata.response_code, "{owner} {rtype}");
            assert_eq!(a.answers.len(), b.answers.len(), "{owner} {rtype}");
            codes.insert(u16::from(a.metadata.response_code));
        }
        assert!(codes.contains(&0) && codes.contains(&3));
    }
}
