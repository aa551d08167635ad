//! A try to speak TLS with a mail server, as it is counted for the reports of RFC 8460 §4.
//!
//! The nouns alone, as the spool keeps them and as reports and commands read them. What counts as one is
//! decided in `pipeline/tls_sessions.rs`. Everything here is bounded: what a stranger can vary (hosts, addresses,
//! texts) is cut in [`TlsSession::bounded`], and what is left over a domain's share of a day is counted in one row
//! that names no host.

pub use crate::clock::ReportDay;
use crate::clock::Timestamp;
use serde::{Deserialize, Serialize};
use std::net::IpAddr;

/// Policies that are told apart for one domain in one day; of more only the type is kept.
pub const MOST_POLICIES: usize = 16;

/// Failures that are told apart for one domain in one day; of more only the result type is kept.
pub const MOST_FAILURES: usize = 200;

/// The longest text of a policy that is kept, in octets: a TLSA record may hold a whole certificate, and a policy
/// file name a hundred hosts. A line that does not fit is left out whole.
const LONGEST_POLICY: usize = 32 * 1024;

/// The longest name or reason that is kept, in octets.
const LONGEST_TEXT: usize = 512;

/// What kind of policy was applied (RFC 8460 §4.2, §4.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PolicyType {
    /// TLSA records (RFC 7672).
    Tlsa,
    /// A policy of MTA-STS (RFC 8461).
    Sts,
    /// Neither.
    NoPolicyFound,
}

impl PolicyType {
    /// The word of RFC 8460 §4.4.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Tlsa => "tlsa",
            Self::Sts => "sts",
            Self::NoPolicyFound => "no-policy-found",
        }
    }
}

/// A policy as it was applied (RFC 8460 §4.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AppliedPolicy {
    /// Its kind.
    pub kind: PolicyType,
    /// The domain it is about (RFC 8460 §1.1): the recipient's for MTA-STS and where there is none, the TLSA base
    /// domain for DANE.
    pub domain: String,
    /// Its text (RFC 8460 §4.5): a TLSA record or a line of the policy file each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strings: Vec<String>,
    /// The MX patterns of a policy of MTA-STS.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mx_host: Vec<String>,
}

/// How a try failed (RFC 8460 §4.3, §4.4).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SessionFailure {
    /// One of the result types of RFC 8460 §4.3.
    pub result_type: String,
    /// The address we came from, where a connection was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sending_address: Option<IpAddr>,
    /// The MX host, where it came as far as one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mx_host: Option<String>,
    /// Its address, where a connection was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mx_address: Option<IpAddr>,
    /// What exactly went wrong: our word for the cause, and what the library said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A try that is to be counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSession {
    /// The domain that may want to be told, in A-labels: the next hop's, which has the record at `_smtp._tls`.
    pub domain: String,
    /// What was applied.
    pub policy: AppliedPolicy,
    /// How it failed; `None` when it did not.
    pub failure: Option<SessionFailure>,
}

/// How often the same happened in a day.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsCount {
    /// What was applied.
    pub policy: AppliedPolicy,
    /// How it failed; `None` when it did not.
    pub failure: Option<SessionFailure>,
    /// How many tries.
    pub sessions: u64,
}

impl TlsSession {
    /// With nothing in it that a stranger can make arbitrarily long.
    #[must_use]
    pub fn bounded(self) -> Self {
        let AppliedPolicy { kind, domain, mut strings, mut mx_host } = self.policy;
        let mut room = LONGEST_POLICY;
        let mut fits = |text: &String| {
            // Quotes and a comma count, so that many empty lines do not fit either.
            let left = room.checked_sub(text.len() + 3);
            room = left.unwrap_or(room);
            left.is_some()
        };
        strings.retain(&mut fits);
        mx_host.retain(&mut fits);
        let policy = AppliedPolicy { kind, domain: cut(domain), strings, mx_host };
        let failure = self.failure.map(|failure| SessionFailure {
            mx_host: failure.mx_host.map(cut),
            reason: failure.reason.map(cut),
            ..failure
        });
        Self { domain: cut(self.domain), policy, failure }
    }
}

impl AppliedPolicy {
    /// The one that stands for those of its kind that are too many, in the report to `domain`.
    #[must_use]
    pub fn other(&self, domain: &str) -> Self {
        Self { kind: self.kind, domain: domain.to_owned(), strings: Vec::new(), mx_host: Vec::new() }
    }
}

impl SessionFailure {
    /// The one that stands for those that are too many.
    #[must_use]
    pub fn other(&self) -> Self {
        let result_type = self.result_type.clone();
        Self { result_type, sending_address: None, mx_host: None, mx_address: None, reason: None }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > LONGEST_TEXT {
        text.truncate(text.floor_char_boundary(LONGEST_TEXT));
    }
    text
}

/// Which report: to whom, and about what day.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TlsReportId {
    /// The day.
    pub day: ReportDay,
    /// The domain, in A-labels.
    pub domain: String,
}

/// Which reports are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DueTlsReports {
    /// About this day at the earliest.
    pub from: ReportDay,
    /// And before this one.
    pub before: ReportDay,
    /// Those whose next try is due by then.
    pub now: Timestamp,
    /// At most so many.
    pub most: usize,
}

/// A report that is due.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DueTlsReport {
    /// The report.
    pub id: TlsReportId,
    /// How it stands, where it was tried before.
    pub state: Option<TlsReportState>,
}

/// How the report of a domain about a day stands.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "kebab-case")]
pub enum TlsReportState {
    /// It has not gone out.
    Waiting {
        /// When it is tried, in milliseconds since 1970.
        due: Timestamp,
        /// Tries made.
        tries: u32,
        /// What the last one brought.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<String>,
    },
    /// Somebody has it.
    Sent {
        /// When it went out.
        at: Timestamp,
        /// Who: the URIs that took it.
        to: Vec<String>,
    },
    /// Nobody wants one: the domain has no usable record, or the operator sends it none.
    NotWanted {
        /// When that was found out.
        at: Timestamp,
        /// The reason, in words.
        because: String,
    },
    /// It was tried for as long as it is worth it (RFC 8460 §5.5).
    GivenUp {
        /// When it was given up.
        at: Timestamp,
        /// What the last try brought.
        because: String,
    },
}

impl TlsReportState {
    /// When it is tried again; `None` when there is nothing left to do.
    #[must_use]
    pub const fn due(&self) -> Option<Timestamp> {
        match self {
            Self::Waiting { due, .. } => Some(*due),
            Self::Sent { .. } | Self::NotWanted { .. } | Self::GivenUp { .. } => None,
        }
    }

    /// The word for commands and metrics.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Waiting { .. } => "waiting",
            Self::Sent { .. } => "sent",
            Self::NotWanted { .. } => "not-wanted",
            Self::GivenUp { .. } => "given-up",
        }
    }
}

/// A domain that was tried on a day, with its report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TlsReportRow {
    /// The domain and the day.
    #[serde(flatten)]
    pub id: TlsReportId,
    /// Tries that succeeded.
    pub succeeded: u64,
    /// Tries that failed.
    pub failed: u64,
    /// Its report; `None` before the day is over.
    pub report: Option<TlsReportState>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc8460_4_5_a_record_with_a_whole_certificate_is_told_whole_beside_its_neighbours() {
        let strings = vec!["3 1 1 00".repeat(8), format!("3 0 0 {}", "ab".repeat(4000)), "2 1 1 ff".into()];
        let policy = AppliedPolicy { kind: PolicyType::Tlsa, domain: "mx.a.test".into(), strings, mx_host: Vec::new() };
        let session = TlsSession { domain: "a.test".into(), policy: policy.clone(), failure: None }.bounded();
        assert_eq!(session.policy, policy);
    }

    #[test]
    fn what_a_stranger_varies_is_cut() {
        let long = "é".repeat(2000);
        let policy = AppliedPolicy {
            kind: PolicyType::Sts,
            domain: "a.test".into(),
            strings: vec![long.clone(); 5000],
            mx_host: vec![long.clone(); 5000],
        };
        let failure = SessionFailure {
            result_type: "validation-failure".into(),
            sending_address: None,
            mx_host: Some(long.clone()),
            mx_address: None,
            reason: Some(long),
        };
        let session = TlsSession { domain: "a.test".into(), policy, failure: Some(failure) }.bounded();
        assert!(serde_json::to_string(&session.policy).unwrap().len() < LONGEST_POLICY + 200);
        assert!(session.policy.strings.iter().all(|line| *line == "é".repeat(2000)));
        assert!(serde_json::to_string(&session.failure).unwrap().len() < 1200);
    }
}
