//! Policies that relays which share a spool tell each other: fetched by one, used by all.
//!
//! What was fetched elsewhere is kept as if it had been fetched here at that moment: its life, its refresh and all that
//! decides about mail are the same (RFC 8461 §3.2, §5.1). Nothing is taken over that is not younger than what is here.

use super::StsPolicy;
use super::file::{self, FileContent};
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use crate::spool::findings::{Finding, FindingTopic};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Policies that wait to be told; of more the others find out themselves.
const MOST_UNTOLD: usize = 10_000;
/// Two clocks that are compared again are not the same to the millisecond.
const SAME_FETCH: Duration = Duration::from_secs(60);

/// Policies that the others have not heard of, the last one of each domain; none while nobody has ever asked for them.
#[derive(Debug, Default)]
pub(super) struct UntoldPolicies(Option<BTreeMap<Domain, Arc<StsPolicy>>>);

impl UntoldPolicies {
    /// One was fetched.
    pub(super) fn add(&mut self, policy: &Arc<StsPolicy>) {
        let Some(untold) = &mut self.0 else { return };
        if untold.len() < MOST_UNTOLD || untold.contains_key(&policy.domain) {
            untold.insert(policy.domain.clone(), Arc::clone(policy));
        }
    }

    /// All of them, to be told now.
    pub(super) fn take(&mut self) -> Vec<Finding> {
        let untold = self.0.replace(BTreeMap::new()).unwrap_or_default();
        untold.values().filter_map(|policy| finding(policy)).collect()
    }
}

/// A policy as the others read it; none where it cannot be written.
pub(super) fn finding(policy: &StsPolicy) -> Option<Finding> {
    Some(Finding {
        topic: FindingTopic::StsPolicy,
        name: policy.domain.to_string(),
        at: policy.fetched_at,
        lives: policy.expires_at().since(policy.fetched_at),
        value: file::encode(policy).ok()?,
    })
}

/// The policy of a finding. One that seems to be of a time still to come was fetched now at the latest.
///
/// # Errors
/// What is wrong with it.
pub(super) fn policy(finding: &Finding, now: Timestamp) -> Result<StsPolicy, String> {
    let domain: Domain = finding.name.parse().map_err(|_| format!("{} is no domain", finding.name))?;
    match file::decode(&domain, &finding.value)? {
        FileContent::Policy(mut policy) => {
            policy.fetched_at = finding.at.min(now);
            policy.standing.since = policy.standing.since.min(now);
            policy.standing.established = policy.standing.established.map(|at| at.min(now));
            policy.refresh_failure = None;
            Ok(policy)
        }
        FileContent::End(..) => Err(format!("of {domain} nothing is known but the end")),
    }
}

/// Whether a policy that is heard of takes the place of the one that is here.
pub(super) fn is_news(here: &StsPolicy, heard: &StsPolicy) -> bool {
    let differs = here.text != heard.text || here.id != heard.id;
    heard.fetched_at > if differs { here.fetched_at } else { here.fetched_at.plus(SAME_FETCH) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version: STSv1\nmode: enforce\nmx: mx.a.test\nmax_age: 86400\n";

    fn fetched(text: &str, at: i64) -> StsPolicy {
        StsPolicy::read("a.test".parse().unwrap(), None, text.as_bytes().to_vec(), Timestamp(at)).unwrap()
    }

    #[test]
    fn rfc8461_3_2_a_policy_of_another_relay_holds_for_as_long_as_at_the_one_that_fetched_it() {
        let (mine, now) = (fetched(TEXT, 1_000_000), Timestamp(5_000_000));
        let told = finding(&mine).unwrap();
        assert_eq!((told.name.as_str(), told.lives), ("a.test", Duration::from_secs(86_400)));
        assert_eq!(policy(&told, now), Ok(mine.clone()));
        // By the clock of whoever hears of it.
        let behind = Finding { at: Timestamp(400_000), ..told.clone() };
        assert_eq!(policy(&behind, now).unwrap().expires_at(), Timestamp(400_000 + 86_400_000));
        let ahead = Finding { at: Timestamp(9_000_000), ..told.clone() };
        assert_eq!(policy(&ahead, now).unwrap().fetched_at, now);
        let other = Finding { name: "b.test".to_owned(), ..told.clone() };
        assert!(policy(&other, now).is_err(), "whose policy it is stands in it");
        let torn = Finding { value: told.value[..told.value.len() - 1].to_vec(), ..told };
        assert!(policy(&torn, now).is_err());
    }

    #[test]
    fn rfc8461_5_1_only_what_was_fetched_later_takes_the_place_of_a_policy() {
        let here = fetched(TEXT, 1_000_000);
        let other = TEXT.replace("enforce", "none");
        for (heard, takes) in [
            (fetched(&other, 999_999), false),
            (fetched(&other, 1_000_001), true),
            (fetched(TEXT, 1_000_500), false),
            (fetched(TEXT, 1_060_001), true),
        ] {
            assert_eq!(is_news(&here, &heard), takes, "{heard:?}");
        }
    }

    #[test]
    fn of_the_policies_of_one_domain_the_last_one_is_told() {
        let mut untold = UntoldPolicies::default();
        untold.add(&Arc::new(fetched(TEXT, 500)));
        assert!(untold.take().is_empty(), "a relay that has its spool for itself gathers none");
        [1000, 2000].into_iter().for_each(|at| untold.add(&Arc::new(fetched(TEXT, at))));
        let told: Vec<i64> = untold.take().iter().map(|finding| finding.at.0).collect();
        assert_eq!(told, [2000]);
        assert!(untold.take().is_empty());
    }
}
