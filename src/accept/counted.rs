//! What relays that share a spool tell each other of their meters (pure), so that a limit is one for all of them.
//!
//! Each tells what it has counted itself, a few seconds later. The meter of somebody began when the first of the relays
//! counted; the others take over that moment, so it ends at the same time at all of them. What comes in elsewhere
//! before it is told is not held against a limit here: that is the price of asking nobody for each message.

use super::meters::{Meter, MeterKey, MeterTold, MeteredUnit, Meters, runs};
use super::remembered::make_room;
use crate::clock::Timestamp;
use crate::config::{LimitRule, Rate};
use crate::spool::findings::{Finding, FindingOwner, FindingTopic, HeardFinding};
use serde::{Deserialize, Serialize};

/// What one relay has counted.
#[derive(Serialize, Deserialize)]
struct ToldMeter {
    rule: String,
    unit: MeteredUnit,
    rate: String,
    who: String,
    /// How long it ran when it was told.
    runs_ms: i64,
    counted: u64,
    /// What the operator was told of it.
    told: MeterTold,
}

impl Meters {
    /// What the other relays were not told yet.
    pub(super) fn tell(&mut self, now: Timestamp) -> Vec<Finding> {
        let mut findings = Vec::new();
        for (rule, meters) in &mut self.0 {
            for (key, meter) in meters {
                let state = (meter.from, meter.counted);
                if meter.counted > 0 && meter.others_know != Some(state) {
                    meter.others_know = Some(state);
                    findings.extend(finding(rule, key, meter, now));
                }
            }
        }
        findings
    }

    /// Another relay has told something, or this one had before its last start.
    ///
    /// # Errors
    /// When it cannot be read.
    pub(super) fn hear(&mut self, rules: &[LimitRule], heard: &HeardFinding, now: Timestamp) -> Result<(), String> {
        let told: ToldMeter = serde_json::from_slice(&heard.finding.value).map_err(|error| error.to_string())?;
        let rate = Rate::try_from(told.rate.clone())?;
        let from = Timestamp(heard.finding.at.0.saturating_sub(told.runs_ms.max(0)).min(now.0));
        let fresh = Meter::new(from);
        let is_ours = rules.iter().any(|rule| rule.name == told.rule);
        if !is_ours || !runs(&fresh, rate, now) {
            return Ok(());
        }
        let key = (told.unit, told.rate, told.who);
        let meters = self.0.entry(told.rule).or_default();
        if !meters.contains_key(&key) {
            make_room(meters, super::meters::MOST_METERS, |meter| meter.from);
        }
        let meter = meters.entry(key).or_insert_with(|| fresh.clone());
        if !runs(meter, rate, now) {
            *meter = fresh;
        }
        meter.from = meter.from.min(from);
        meter.told = meter.told.max(told.told);
        match heard.owner {
            FindingOwner::Other(by) => _ = meter.elsewhere.insert(by, told.counted),
            FindingOwner::Own => meter.counted = meter.counted.max(told.counted),
            FindingOwner::All => {}
        }
        Ok(())
    }
}

/// None where it cannot be written, or is for nobody.
fn finding(rule: &str, (unit, rate, who): &MeterKey, meter: &Meter, now: Timestamp) -> Option<Finding> {
    let time = Rate::try_from(rate.clone()).ok()?.time();
    let lives = meter.from.plus(time).since(now);
    let name = serde_json::to_string(&(rule, unit, rate, who)).ok()?;
    let told = ToldMeter {
        rule: rule.to_owned(),
        unit: *unit,
        rate: rate.clone(),
        who: who.clone(),
        runs_ms: now.0.saturating_sub(meter.from.0),
        counted: meter.counted,
        told: meter.told,
    };
    Some(Finding { topic: FindingTopic::Limit, name, at: now, lives, value: serde_json::to_vec(&told).ok()? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Config, LimitSubject};
    use crate::smtp::address::ReversePath;
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn rules() -> Vec<LimitRule> {
        let text = "[[limit]]\nname = \"users\"\nper = \"user\"\nmessages = [\"10/h\"]\nrecipients = [\"100/h\"]\n";
        Config::parse(text, Path::new("t")).unwrap().limit
    }

    const BOB: LimitSubject<'_> = LimitSubject {
        user: Some("bob"),
        sender: &ReversePath::Null,
        client: std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)),
    };

    fn at(seconds: i64) -> Timestamp {
        Timestamp(NOW.0 + seconds * 1000)
    }

    fn tells(from: &mut Meters, to: &mut Meters, owner: FindingOwner, now: Timestamp) {
        for finding in from.tell(now) {
            to.hear(&rules(), &HeardFinding { owner, finding }, now).unwrap();
        }
    }

    fn may_hand_in(meters: &Meters, now: Timestamp) -> bool {
        meters.allowance(&rules(), &BOB, now).is_ok()
    }

    #[test]
    fn what_two_relays_have_counted_is_one_limit_and_ends_at_the_same_time() {
        let (mut one, mut two) = (Meters::default(), Meters::default());
        let news = (0..6).flat_map(|_| one.count(&rules(), &BOB, 1, at(0))).count();
        (0..3).for_each(|_| assert!(two.count(&rules(), &BOB, 1, at(1)).is_empty()));
        tells(&mut two, &mut one, FindingOwner::Other(2), at(2));
        tells(&mut one, &mut two, FindingOwner::Other(1), at(2));
        assert_eq!((news, one.tell(at(3)).len(), two.tell(at(3)).len()), (0, 0, 2), "its beginning is another one now");
        assert!(may_hand_in(&one, at(3)) && may_hand_in(&two, at(3)));
        let news = two.count(&rules(), &BOB, 1, at(4));
        assert_eq!(news.len(), 1, "the operator is told once: {news:?}");
        tells(&mut two, &mut one, FindingOwner::Other(2), at(5));
        assert!(!may_hand_in(&one, at(5)) && !may_hand_in(&two, at(5)));
        assert!(!may_hand_in(&two, at(3599)) && may_hand_in(&one, at(3600)) && may_hand_in(&two, at(3600)));
        // What is heard late, of an hour that is over, counts for nothing.
        let told = two.tell(at(3601));
        assert!(told.is_empty());
        one.count(&rules(), &BOB, 1, at(3602));
        assert!((0..9).all(|_| may_hand_in(&one, at(3603)) && one.count(&rules(), &BOB, 1, at(3603)).len() < 2));
        assert!(!may_hand_in(&one, at(3603)));
    }

    #[test]
    fn a_relay_that_comes_back_counts_on() {
        let mut before = Meters::default();
        (0..10).for_each(|_| _ = before.count(&rules(), &BOB, 1, at(0)));
        let mut after = Meters::default();
        tells(&mut before, &mut after, FindingOwner::Own, at(10));
        assert!(!may_hand_in(&after, at(11)) && may_hand_in(&after, at(3600)));
    }

    #[test]
    fn counts_under_a_rule_that_is_not_here_are_not_remembered() {
        let (mut one, mut two) = (Meters::default(), Meters::default());
        one.count(&rules(), &BOB, 1, at(0));
        for finding in one.tell(at(1)) {
            let heard = HeardFinding { owner: FindingOwner::Other(1), finding };
            two.hear(&[], &heard, at(1)).unwrap();
            let broken = Finding { value: b"[]".to_vec(), ..heard.finding };
            assert!(two.hear(&rules(), &HeardFinding { owner: heard.owner, finding: broken }, at(1)).is_err());
        }
        assert!(two.0.is_empty());
    }
}
