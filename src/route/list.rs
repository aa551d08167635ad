//! A list of next hops that the operator named: in which order one attempt goes through it.
//!
//! Hosts with a weight that stand next to each other are equals. Which of them comes first is drawn by
//! weight, as among hosts of one priority in RFC 2782, from a seed alone: the same seed gives the same
//! order. A host that has just failed comes last, and is not left out: all of them may have failed.

use super::NextHop;
use std::fmt;
use std::num::NonZeroU16;

/// Next hops in the operator's order; at least one.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct NextHopList {
    first: Box<Weighed>,
    others: Vec<Weighed>,
}

/// A next hop with its weight, if it has one.
type Weighed = (NextHop, Option<NonZeroU16>);

impl NextHopList {
    pub(super) fn new(first: Weighed, others: Vec<Weighed>) -> Self {
        Self { first: Box::new(first), others }
    }

    /// The one that is meant where one has to stand for all.
    #[must_use]
    pub fn first(&self) -> &NextHop {
        &self.first.0
    }

    fn all(&self) -> Vec<&Weighed> {
        std::iter::once(self.first.as_ref()).chain(&self.others).collect()
    }

    /// All of them in the order in which one attempt tries them.
    pub fn in_turn(&self, seed: u64, mut has_failed: impl FnMut(&NextHop) -> bool) -> Vec<NextHop> {
        let all = self.all();
        let equals = all.chunk_by(|(_, one), (_, next)| one.is_some() && next.is_some());
        let ordered = equals.zip(0..).flat_map(|(equals, group)| drawn(equals, seed.wrapping_add(group)));
        let (failed, standing): (Vec<_>, Vec<_>) = ordered.partition(|hop| has_failed(hop));
        standing.into_iter().chain(failed).collect()
    }
}

/// Draws one after the other, each by its part of the weight that is left.
fn drawn(equals: &[&Weighed], seed: u64) -> Vec<NextHop> {
    let mut left: Vec<(&NextHop, u64)> =
        equals.iter().map(|(hop, weight)| (hop, weight.map_or(1, |weight| weight.get().into()))).collect();
    let mut order = Vec::with_capacity(left.len());
    while !left.is_empty() {
        let all: u64 = left.iter().map(|(_, weight)| weight).sum();
        let round = u64::try_from(order.len()).unwrap_or(0);
        let mut point = scattered(seed.rotate_left(32) ^ round) % all.max(1);
        let place = left.iter().position(|(_, weight)| {
            let is_here = point < *weight;
            point = point.saturating_sub(*weight);
            is_here
        });
        let (hop, _) = left.remove(place.unwrap_or(0));
        order.push(hop.clone());
    }
    order
}

/// Spreads seeds that follow each other over all numbers (the finalizer of MurmurHash3).
const fn scattered(seed: u64) -> u64 {
    let z = (seed ^ (seed >> 33)).wrapping_mul(0xFF51_AFD7_ED55_8CCD);
    let z = (z ^ (z >> 33)).wrapping_mul(0xC4CE_B9FE_1A85_EC53);
    z ^ (z >> 33)
}

/// As the operator has it.
impl fmt::Display for NextHopList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (hop, _)) in self.all().into_iter().enumerate() {
            let comma = if place == 0 { "" } else { ", " };
            write!(f, "{comma}{hop}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;

    fn hop(name: &str) -> NextHop {
        NextHop::Host { name: name.parse().unwrap(), port: 25 }
    }

    fn list(hops: &[(&str, u16)]) -> NextHopList {
        let mut all = hops.iter().map(|(name, weight)| (hop(name), NonZeroU16::new(*weight)));
        NextHopList::new(all.next().unwrap(), all.collect())
    }

    fn turn(list: &NextHopList, seed: u64, failed: &[&str]) -> Vec<String> {
        let has_failed = |hop: &NextHop| failed.iter().any(|name| hop.to_string() == format!("{name}:25"));
        list.in_turn(seed, has_failed).iter().map(|hop| hop.to_string().replace(":25", "")).collect()
    }

    #[test]
    fn without_weights_the_order_is_the_operators() {
        let list = list(&[("a.test", 0), ("b.test", 0), ("c.test", 0)]);
        for seed in 0..50 {
            assert_eq!(turn(&list, seed, &[]), ["a.test", "b.test", "c.test"]);
        }
        assert_eq!(turn(&list, 1, &["a.test"]), ["b.test", "c.test", "a.test"], "last, and not left out");
        assert_eq!(turn(&list, 1, &["a.test", "b.test", "c.test"]), ["a.test", "b.test", "c.test"]);
        assert_eq!(list.to_string(), "a.test:25, b.test:25, c.test:25");
    }

    #[test]
    fn rfc2782_equals_share_by_their_weights_and_others_keep_their_place() {
        let list = list(&[("a.test", 0), ("b.test", 3), ("c.test", 1), ("d.test", 0)]);
        let mut second: BTreeMap<String, u32> = BTreeMap::new();
        for seed in 0..4000 {
            let order = turn(&list, seed, &[]);
            assert_eq!((order[0].as_str(), order[3].as_str(), order.len()), ("a.test", "d.test", 4));
            *second.entry(order[1].clone()).or_default() += 1;
        }
        let share = f64::from(second["b.test"]) / 4000.0;
        assert!((0.71..0.79).contains(&share), "{second:?}");
    }
}
