//! MTA-STS: the policy a recipient domain publishes over HTTPS (RFC 8461).
//!
//! A TXT record announces the policy and its id; a web server below the domain serves it; we keep
//! it on disk until it expires. This page holds the nouns and the rule what applies when.
//!
//! # What waits for what
//!
//! While an unexpired policy is known, mail goes on under it, and one with a new id is fetched
//! beside the delivery. Where none is known, deliveries to this domain wait for one shared fetch,
//! up to its deadline, and then go on without a policy (RFC 8461 §3.3). Nobody waits for a fetch
//! for another domain, and a fetch that failed is not tried again for five minutes. Before mail
//! is given up, `driver::StsClient::recheck` looks at the record again and does wait (RFC 8461 §5.1).
//!
//! A policy stays in force until it expires: neither a record that is gone, nor a DNS or a policy
//! host that fails, ends it earlier (RFC 8461 §5.1, §10.2). A policy with mode none does
//! (RFC 8461 §8.3). Nor does what befalls us: one that was kept and cannot be read, or had to be
//! let go, is [`StsAbsent::Lost`], and mail waits until it is fetched again or its time is over.
//!
//! "Could not find out" is never "there is none" where the domain's zone is signed: there a record
//! that cannot be looked up stops the mail, as it does with DANE. In an unsigned zone anybody on
//! the path could as well say that there is none, and RFC 8461 §3.3 lets the mail go
//! ([`StsAbsent::stops`]).

mod attempts;
pub(crate) mod driver;
#[cfg(test)]
mod driver_tests;
pub(crate) mod event;
pub(crate) mod failure;
mod fetch;
#[cfg(test)]
mod fetch_tests;
mod file;
pub(crate) mod kept;
pub(crate) mod lost;
pub(crate) mod memory;
pub mod policy;
pub mod record;
mod room;
mod shared;
pub(crate) mod store;
mod telling;
#[cfg(test)]
mod testing;

use crate::clock::Timestamp;
use crate::outcome::Cause;
use crate::resolve::Security;
use crate::smtp::address::Domain;
use attempts::BACK_OFF;
use failure::FetchFailure;
use lost::Lost;
use policy::{Mode, PolicyError, Terms};
use record::{PolicyId, RecordError};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;

/// A policy is refreshed at the latest after a day (RFC 8461 §3.3), whatever its life.
const REFRESH_AFTER: Duration = Duration::from_secs(86_400);
/// After a refresh that failed the next one comes at the latest after an hour.
const RETRY_AFTER: Duration = Duration::from_secs(3600);
/// How long a domain is a newcomer at least (`room.rs`).
const PROBATION: Duration = Duration::from_secs(86_400);

/// What MTA-STS says about a next-hop domain.
#[derive(Clone, Debug)]
pub enum StsState {
    /// Mail goes as without MTA-STS.
    Absent(StsAbsent),
    /// This policy is in force; its mode is enforce or testing.
    Policy(Arc<StsPolicy>),
}

/// Why no policy is in force.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StsAbsent {
    /// The domain announces none.
    NoRecord,
    /// The TXT record breaks the rules, so it announces none (RFC 8461 §3.1).
    UnusableRecord(RecordError),
    /// The TXT record could not be looked up.
    Unknown(Cause),
    /// A policy is announced and could not be fetched (RFC 8461 §3.3).
    FetchFailed(FetchFailure),
    /// The policy says that there is none any more (RFC 8461 §8.3).
    ModeNone,
    /// The next hop is an address, which has no policy.
    AddressLiteral,
    /// Nobody asked: no verdict depends on it.
    NotNeeded,
    /// `[mta_sts] enabled = false`
    SwitchedOff,
    /// A policy is or may be in force, and we cannot look into it.
    Lost {
        /// The policy.
        lost: Arc<Lost>,
        /// Why it could not be fetched again, when that was tried.
        fetch: Option<FetchFailure>,
    },
}

impl StsAbsent {
    /// The word for logs and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::NoRecord => "no-record",
            Self::UnusableRecord(_) => "unusable-record",
            Self::Unknown(_) => "unknown",
            Self::FetchFailed(_) => "fetch-failed",
            Self::ModeNone => "mode-none",
            Self::AddressLiteral => "address-literal",
            Self::NotNeeded => "not-needed",
            Self::SwitchedOff => "switched-off",
            Self::Lost { .. } => "lost",
        }
    }

    /// The phrase that fits after "no MTA-STS: ".
    #[must_use]
    pub fn phrase(&self) -> String {
        match self {
            Self::NoRecord => "the domain announces no policy".to_owned(),
            Self::UnusableRecord(error) => error.to_string(),
            Self::Unknown(cause) => format!("the record could not be looked up: {}", cause.sentence()),
            Self::FetchFailed(failure @ FetchFailure::Slow { .. }) => failure.to_string(),
            Self::FetchFailed(failure) => format!("the policy could not be fetched: {failure}"),
            Self::ModeNone => "the policy of the domain has mode none".to_owned(),
            Self::AddressLiteral => "the next hop is an address, not a name".to_owned(),
            Self::NotNeeded => "not asked for, because nothing depends on it".to_owned(),
            Self::SwitchedOff => "it is switched off here".to_owned(),
            Self::Lost { lost, fetch } => {
                let fetch = fetch.as_ref().map(|failure| format!("; fetching it again: {failure}")).unwrap_or_default();
                format!("a policy that was kept cannot be looked into: {}{fetch}", lost.because)
            }
        }
    }

    /// What stops the mail because nobody can say whether an enforced policy is in force: one that
    /// was known and is lost, or a record that cannot be looked up in a `zone` that is not proven to
    /// be unsigned. A bogus answer proves that it is signed; about any other, the MX records of the
    /// domain tell.
    #[must_use]
    pub fn stops(&self, zone: Security) -> Option<Cause> {
        match self {
            Self::Lost { lost, fetch } => Some(lost.cause(fetch.as_ref().map(ToString::to_string))),
            Self::Unknown(cause) => {
                (zone != Security::Insecure || matches!(cause, Cause::DnsBogus { .. })).then(|| cause.clone())
            }
            Self::NoRecord
            | Self::UnusableRecord(_)
            | Self::FetchFailed(_)
            | Self::ModeNone
            | Self::AddressLiteral
            | Self::NotNeeded
            | Self::SwitchedOff => None,
        }
    }
}

/// A policy that was fetched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StsPolicy {
    /// The domain whose mail it is about, and no other's (RFC 8461 §3.4).
    pub domain: Domain,
    /// The id the TXT record had then; none when it was fetched without a usable record.
    pub id: Option<PolicyId>,
    /// The text as it was fetched.
    pub text: String,
    /// What it says.
    pub terms: Terms,
    /// When it was fetched; its life counts from here.
    pub fetched_at: Timestamp,
    /// The last try to refresh it, when that failed.
    pub refresh_failure: Option<RefreshFailure>,
    /// How the domain stands among the others whose policies are kept.
    pub standing: Tenure,
}

/// How a domain stands among those whose policies are kept (`room.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tenure {
    /// When its first policy came.
    pub since: Timestamp,
    /// When it became established, if it did.
    pub established: Option<Timestamp>,
}

/// A refresh that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RefreshFailure {
    /// When it was tried.
    pub at: Timestamp,
    /// The result type of RFC 8460 §4.3.2.2.
    pub result_type: String,
    /// What happened.
    pub sentence: String,
}

impl StsPolicy {
    /// Reads a text that was fetched for `domain`.
    ///
    /// # Errors
    /// What is wrong with the text.
    pub fn read(
        domain: Domain,
        id: Option<PolicyId>,
        text: Vec<u8>,
        fetched_at: Timestamp,
    ) -> Result<Self, PolicyError> {
        let terms = policy::read(&text)?;
        let text = String::from_utf8(text).map_err(|_| PolicyError::NotUtf8)?;
        let standing = Tenure { since: fetched_at, established: None };
        Ok(Self { domain, id, text, terms, fetched_at, refresh_failure: None, standing })
    }

    /// Until when it holds. As a fetch is not repeated for five minutes, what it brought holds for
    /// as long, whatever it says of its life.
    #[must_use]
    pub fn expires_at(&self) -> Timestamp {
        self.fetched_at.plus(self.terms.max_age.max(BACK_OFF))
    }

    /// Whether mail that goes under it now makes the domain an established one.
    #[must_use]
    pub fn earns_its_place(&self, now: Timestamp) -> bool {
        let Tenure { since, established } = self.standing;
        self.terms.mode == Mode::Enforce && established.is_none() && since.plus(PROBATION) <= now
    }

    /// Whether it does not hold any more.
    #[must_use]
    pub fn has_expired(&self, now: Timestamp) -> bool {
        self.expires_at() <= now
    }

    /// Whether one of its patterns means this MX host (RFC 8461 §4.1).
    #[must_use]
    pub fn allows(&self, host: &str) -> bool {
        self.terms.mx.iter().any(|pattern| pattern.matches(host))
    }

    /// When it is to be fetched again without being asked for: after a day, and when half of its
    /// life is over (RFC 8461 §3.3, §10.2); after a failure ten times in its life, or hourly.
    #[must_use]
    pub fn refresh_due(&self) -> Timestamp {
        let due = self.fetched_at.plus(REFRESH_AFTER.min(self.terms.max_age / 2));
        let again = |failure: &RefreshFailure| failure.at.plus(RETRY_AFTER.min(self.terms.max_age / 10));
        self.refresh_failure.as_ref().map_or(due, |failure| due.max(again(failure)))
    }

    fn in_force(self: Arc<Self>) -> StsState {
        match self.terms.mode {
            Mode::Enforce | Mode::Testing => StsState::Policy(self),
            Mode::None => StsState::Absent(StsAbsent::ModeNone),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "version: STSv1\nmode: enforce\nmx: *.a.test\nmx: mx.b.test\nmax_age: 86400\n";

    fn policy(text: &str) -> StsPolicy {
        StsPolicy::read("a.test".parse().unwrap(), None, text.into(), Timestamp(1000)).unwrap()
    }

    #[test]
    fn rfc8461_3_2_a_policy_holds_for_max_age_and_no_longer() {
        let policy = policy(TEXT);
        assert!(!policy.has_expired(Timestamp(86_400_999)));
        assert!(policy.has_expired(Timestamp(86_401_000)));
    }

    #[test]
    fn rfc8461_3_2_a_policy_of_no_life_holds_while_no_other_may_be_fetched() {
        let policy = policy(&TEXT.replace("86400", "0"));
        assert_eq!([300_999, 301_000].map(|ms| policy.has_expired(Timestamp(ms))), [false, true]);
    }

    #[test]
    fn rfc8461_3_3_a_record_that_cannot_be_looked_up_stops_mail_where_the_zone_is_signed() {
        let question = || crate::outcome::Question { name: "_mta-sts.a.test".into(), record_type: "TXT".into() };
        let silent = StsAbsent::Unknown(Cause::DnsUnavailable { question: question(), tried: Vec::new() });
        let bogus = StsAbsent::Unknown(Cause::DnsBogus { question: question(), detail: "no signature".into() });
        let word = |absent: &StsAbsent, zone| absent.stops(zone).map(|cause| cause.row().word);
        assert_eq!(
            (word(&silent, Security::Secure), word(&silent, Security::Insecure)),
            (Some("dns-unavailable"), None)
        );
        assert_eq!(
            (word(&bogus, Security::Secure), word(&bogus, Security::Insecure)),
            (Some("dnssec-invalid"), Some("dnssec-invalid"))
        );
        for absent in [StsAbsent::NoRecord, StsAbsent::ModeNone, StsAbsent::FetchFailed(FetchFailure::TimedOut)] {
            assert_eq!(word(&absent, Security::Secure), None);
        }
    }

    #[test]
    fn a_domain_earns_its_place_by_mail_after_a_day() {
        let policy = policy(TEXT);
        assert_eq!([86_400_999, 86_401_000].map(|ms| policy.earns_its_place(Timestamp(ms))), [false, true]);
        let standing = Tenure { established: Some(Timestamp(5)), ..policy.standing };
        assert!(!StsPolicy { standing, ..policy.clone() }.earns_its_place(Timestamp(86_401_000)), "it has it");
        let tested = StsPolicy::read(policy.domain, None, TEXT.replace("enforce", "testing").into(), Timestamp(0));
        assert!(!tested.unwrap().earns_its_place(Timestamp(86_401_000)), "it would lose nothing");
    }

    #[test]
    fn rfc8461_10_2_a_refresh_is_due_daily_and_at_half_of_a_shorter_life() {
        let due = |max_age| policy(&TEXT.replace("86400", max_age)).refresh_due().since(Timestamp(1000)).as_secs();
        assert_eq!(
            [due("31557600"), due("172800"), due("86400"), due("60"), due("0")],
            [86_400, 86_400, 43_200, 30, 0]
        );
    }

    #[test]
    fn rfc8461_4_1_a_host_is_allowed_by_any_pattern() {
        let policy = policy(TEXT);
        assert_eq!(
            ["mx.a.test", "MX.B.test.", "mx2.b.test", "a.test"].map(|host| policy.allows(host)),
            [true, true, false, false]
        );
    }

    #[test]
    fn rfc8461_8_3_mode_none_is_as_no_policy() {
        let state = Arc::new(policy(&TEXT.replace("enforce", "none"))).in_force();
        assert!(matches!(state, StsState::Absent(StsAbsent::ModeNone)));
        assert!(matches!(Arc::new(policy(TEXT)).in_force(), StsState::Policy(_)));
    }
}
