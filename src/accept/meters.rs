//! How much everybody has handed in, held against the limits of the operator.
//!
//! A meter runs from the first message on for as long as its limit says, and then begins again. What was handed
//! in is counted when it is durable: a client that is refused may come again and again. A relay that has its spool
//! for itself remembers nothing over a restart; of relays that share one each tells the others what it has counted
//! (`counted.rs`), and all of it is held against the limit. Each rule has a bound of its own: whoever makes many meters under one pushes out none of another.

use super::remembered::make_room;
use crate::clock::Timestamp;
use crate::config::{DomainPattern, LimitRule, LimitSubject, Rate};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The most meters of one rule that run at once; the oldest go.
pub(super) const MOST_METERS: usize = 50_000;
/// Rules whose meters are kept, those of earlier configurations among them.
const MOST_RULES: usize = 1_000;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Meters(pub(super) BTreeMap<String, RuleMeters>);

/// Those of one rule.
pub(super) type RuleMeters = BTreeMap<MeterKey, Meter>;

/// Which of its limits, and of whom.
pub(super) type MeterKey = (MeteredUnit, String, String);

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum MeteredUnit {
    Messages,
    Recipients,
}

/// What was counted under one limit of one rule, of one of those it is about.
#[derive(Clone, Debug)]
pub(super) struct Meter {
    pub(super) from: Timestamp,
    /// By this relay.
    pub(super) counted: u64,
    /// By each of the others, by its number.
    pub(super) elsewhere: BTreeMap<i16, u64>,
    pub(super) told: MeterTold,
    /// What the other relays know of it: how much this one had counted, and since when.
    pub(super) others_know: Option<(Timestamp, u64)>,
}

impl Meter {
    pub(super) const fn new(from: Timestamp) -> Self {
        Self { from, counted: 0, elsewhere: BTreeMap::new(), told: MeterTold::Nothing, others_know: None }
    }

    /// By all relays, as far as that is known here.
    fn total(&self) -> u64 {
        self.elsewhere.values().fold(self.counted, |total, other| total.saturating_add(*other))
    }
}

/// What the operator has been told of a meter since it began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(super) enum MeterTold {
    Nothing,
    Near,
    Reached,
}

/// Something to tell the operator, once for each run of a meter.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LimitNews {
    /// The name of the rule.
    pub rule: String,
    /// Who is counted.
    pub who: String,
    /// The limit, as it is written, with what it counts.
    pub limit: String,
    /// How near it is.
    pub level: LimitLevel,
}

/// How near a limit is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LimitLevel {
    /// `warn_at` of it.
    Near,
    /// All of it: what comes further is refused for now.
    Reached,
}

/// What somebody may still hand in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Allowance {
    /// So many recipients of one message.
    pub(super) recipients: usize,
    /// Not to these destinations.
    pub(super) closed: Vec<DomainPattern>,
}

impl Allowance {
    /// Whoever no limit is about.
    pub(super) const ALL: Self = Self { recipients: usize::MAX, closed: Vec::new() };
}

impl Meters {
    /// What may still come of somebody; none where a limit is reached, which is then named.
    ///
    /// # Errors
    /// The name of the rule.
    pub(super) fn allowance(
        &self,
        rules: &[LimitRule],
        subject: &LimitSubject<'_>,
        now: Timestamp,
    ) -> Result<Allowance, String> {
        let mut allowance = Allowance::ALL;
        for (rule, key, rate) in limits(rules, subject) {
            let meter = self.0.get(&rule.name).and_then(|meters| meters.get(&key));
            let counted = meter.filter(|meter| runs(meter, rate, now)).map_or(0, Meter::total);
            let left = u64::from(rate.messages()).saturating_sub(counted);
            if left == 0 {
                return Err(rule.name.clone());
            }
            if key.0 == MeteredUnit::Recipients {
                allowance.recipients = allowance.recipients.min(usize::try_from(left).unwrap_or(usize::MAX));
            }
        }
        Ok(allowance)
    }

    /// A message with so many recipients is in. Gives what the operator should know now.
    pub(super) fn count(
        &mut self,
        rules: &[LimitRule],
        subject: &LimitSubject<'_>,
        recipients: usize,
        now: Timestamp,
    ) -> Vec<LimitNews> {
        let mut news = Vec::new();
        for (rule, key, rate) in limits(rules, subject) {
            let more = match key.0 {
                MeteredUnit::Messages => 1,
                MeteredUnit::Recipients => u64::try_from(recipients).unwrap_or(u64::MAX),
            };
            if self.0.len() >= MOST_RULES && !self.0.contains_key(&rule.name) {
                // What reloads took away counts nobody any more.
                self.0.retain(|name, _| rules.iter().any(|rule| rule.name == *name));
            }
            let meters = self.0.entry(rule.name.clone()).or_default();
            let running = meters.get(&key).filter(|meter| runs(meter, rate, now)).cloned();
            let mut meter = running.unwrap_or_else(|| Meter::new(now));
            meter.counted = meter.counted.saturating_add(more);
            let most = u64::from(rate.messages());
            let stands = match meter.total() {
                counted if counted >= most => MeterTold::Reached,
                counted if counted.saturating_mul(100) >= most.saturating_mul(u64::from(rule.warn_at)) => {
                    MeterTold::Near
                }
                _ => MeterTold::Nothing,
            };
            if stands > meter.told {
                meter.told = stands;
                news.extend(told(rule, &key, rate, stands));
            }
            if !meters.contains_key(&key) {
                make_room(meters, MOST_METERS, |meter| meter.from);
            }
            meters.insert(key, meter);
        }
        news
    }
}

fn told(rule: &LimitRule, key: &MeterKey, rate: Rate, stands: MeterTold) -> Option<LimitNews> {
    let level = match stands {
        MeterTold::Nothing => return None,
        MeterTold::Near => LimitLevel::Near,
        MeterTold::Reached => LimitLevel::Reached,
    };
    let what = match key.0 {
        MeteredUnit::Messages => "messages",
        MeteredUnit::Recipients => "recipients",
    };
    Some(LimitNews { rule: rule.name.clone(), who: key.2.clone(), limit: format!("{what} {rate}"), level })
}

pub(super) fn runs(meter: &Meter, rate: Rate, now: Timestamp) -> bool {
    let past_ms = now.0.saturating_sub(meter.from.0);
    u128::try_from(past_ms).is_ok_and(|past_ms| past_ms < rate.time().as_millis())
}

/// All limits that are about somebody, with the key of their meters.
fn limits<'a>(
    rules: &'a [LimitRule],
    subject: &LimitSubject<'_>,
) -> impl Iterator<Item = (&'a LimitRule, MeterKey, Rate)> {
    rules.iter().filter_map(|rule| Some((rule, rule.counted_as(subject)?))).flat_map(|(rule, who)| {
        let messages = rule.messages.iter().map(|rate| (MeteredUnit::Messages, *rate));
        let recipients = rule.recipients.iter().map(|rate| (MeteredUnit::Recipients, *rate));
        messages
            .chain(recipients)
            .map(move |(unit, rate)| (rule, (unit, rate.to_string(), who.clone()), rate))
            .collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;
    use crate::smtp::address::ReversePath;
    use std::path::Path;

    const NOW: Timestamp = Timestamp(1_795_261_468_000);

    fn rules(text: &str) -> Vec<LimitRule> {
        Config::parse(text, Path::new("t")).unwrap().limit
    }

    fn subject(user: &str) -> LimitSubject<'_> {
        LimitSubject { user: Some(user), sender: &ReversePath::Null, client: "192.0.2.1".parse().unwrap() }
    }

    #[test]
    fn a_limit_is_warned_of_once_then_reached_and_begins_again_after_its_time() {
        let rules = rules("[[limit]]\nname = \"users\"\nper = \"user\"\nmessages = [\"10/h\"]\n");
        let mut meters = Meters::default();
        let levels = |news: Vec<LimitNews>| news.into_iter().map(|one| one.level).collect::<Vec<_>>();
        for n in 1..=10 {
            assert!(meters.allowance(&rules, &subject("bob"), NOW).is_ok(), "{n}");
            let expected = match n {
                8 => vec![LimitLevel::Near],
                10 => vec![LimitLevel::Reached],
                _ => vec![],
            };
            assert_eq!(levels(meters.count(&rules, &subject("bob"), 1, NOW)), expected, "{n}");
        }
        assert_eq!(meters.allowance(&rules, &subject("bob"), NOW), Err("users".to_owned()));
        assert!(meters.allowance(&rules, &subject("alice"), NOW).is_ok(), "each alone");
        let later = Timestamp(NOW.0 + 3_600_000);
        assert!(meters.allowance(&rules, &subject("bob"), later).is_ok());
        assert_eq!(levels(meters.count(&rules, &subject("bob"), 1, later)), []);
    }

    #[test]
    fn recipients_are_counted_and_the_allowance_is_what_is_left() {
        let text = "[[limit]]\nname = \"a\"\nper = \"network\"\nrecipients = [\"5/m\", \"100/d\"]\n";
        let rules = rules(text);
        let mut meters = Meters::default();
        assert_eq!(meters.allowance(&rules, &subject("x"), NOW), Ok(Allowance { recipients: 5, ..Allowance::ALL }));
        let news = meters.count(&rules, &subject("x"), 4, NOW);
        assert_eq!(news[0].limit, "recipients 5/m");
        assert_eq!(
            meters.allowance(&rules, &subject("y"), NOW),
            Ok(Allowance { recipients: 1, ..Allowance::ALL }),
            "one network"
        );
        let later = Timestamp(NOW.0 + 60_000);
        assert_eq!(meters.allowance(&rules, &subject("x"), later), Ok(Allowance { recipients: 5, ..Allowance::ALL }));
        assert_eq!(meters.allowance(&[], &subject("x"), NOW), Ok(Allowance::ALL));
    }

    #[test]
    fn many_meters_of_one_rule_push_out_none_of_another() {
        let text = "[[limit]]\nname = \"users\"\nper = \"user\"\nmessages = [\"2/h\"]\n\
                    [[limit]]\nname = \"all\"\nper = \"network\"\nmessages = [\"1/h\"]\n";
        let rules = rules(text);
        let mut meters = Meters::default();
        meters.count(&rules[1..], &subject("somebody"), 1, NOW);
        for nth in 0..=MOST_METERS {
            meters.count(&rules[..1], &subject(&format!("user{nth}")), 1, Timestamp(NOW.0 + 1));
        }
        assert_eq!(meters.allowance(&rules[1..], &subject("somebody"), NOW), Err("all".to_owned()));
        assert!(meters.0["users"].len() <= MOST_METERS);
    }
}
