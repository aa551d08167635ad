//! An incident: many domains that fail in the same way at once are one fault of one side, and not
//! many faults of many recipients.
//!
//! The noun alone, as the ledger keeps it and as reports, commands and pages read it. What opens
//! and closes one is decided in `pipeline/incidents/`.

use crate::clock::Timestamp;
use crate::outcome::{Cause, Certainty, Side};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// Domains that an incident names; more are counted.
pub const MOST_NAMED: usize = 50;

/// Lines of evidence that are kept of a diagnosis.
pub const MOST_EVIDENCE: usize = 40;

/// The longest line of them, in octets.
const LONGEST_LINE: usize = 1000;

/// Failures so long after the end still belong to an incident: attempts that had begun before.
const AFTERMATH: Duration = Duration::from_secs(60);

/// The name of an incident: `I` and the millisecond of its opening.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct IncidentId(pub u64);

impl fmt::Display for IncidentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "I{}", self.0)
    }
}

/// A text that names no incident.
#[derive(Debug, thiserror::Error)]
#[error("the name of an incident is I and a number")]
pub struct NoIncidentId;

impl FromStr for IncidentId {
    type Err = NoIncidentId;

    fn from_str(text: &str) -> Result<Self, NoIncidentId> {
        let number = text.strip_prefix('I').and_then(|number| number.parse().ok());
        number.map(Self).ok_or(NoIncidentId)
    }
}

impl From<IncidentId> for String {
    fn from(id: IncidentId) -> Self {
        id.to_string()
    }
}

impl TryFrom<String> for IncidentId {
    type Error = NoIncidentId;

    fn try_from(text: String) -> Result<Self, NoIncidentId> {
        text.parse()
    }
}

/// The way in which mail fails: the word of the cause that the attempts have in common.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FailureKind(String);

/// The words that many domains can have in common by a fault that is none of theirs. What a
/// recipient's server says about a recipient, or what is wrong with one message, is never one.
const SHARED: &[&str] = &[
    "dns-unavailable",
    "dnssec-invalid",
    "next-hop-unknown",
    "no-route",
    "connect-failed",
    "timed-out",
    "connection-lost",
    "protocol-error",
    "starttls-not-supported",
    "tls-handshake-failed",
    "tlsa-invalid",
    "certificate-expired",
    "certificate-host-mismatch",
    "certificate-not-trusted",
    "sts-policy-lost",
    "login-failed",
    "login-unprotected",
    "source-unavailable",
];

/// Checks of this host, and the kind of failure that mail meets when they fail.
const CHECKS: &[(&str, &str)] = &[
    ("canary", "dns-unavailable"),
    ("resolver", "dns-unavailable"),
    ("validation", "dns-unavailable"),
    ("port-25", "connect-failed"),
    ("clock", "dnssec-invalid"),
];

impl FailureKind {
    /// The kind of a failure, where many domains can share it. A refusal counts where it speaks of
    /// the address of this host.
    #[must_use]
    pub fn of(cause: &Cause) -> Option<Self> {
        let row = cause.root().row();
        let is_shared = SHARED.contains(&row.word) || (row.side == Side::Here && row.word.starts_with("rejected"));
        is_shared.then(|| Self(row.word.to_owned()))
    }

    /// The kind of failure that mail meets when a check of this host fails.
    #[must_use]
    pub fn of_check(check: &str) -> Option<Self> {
        CHECKS.iter().find(|(known, _)| *known == check).map(|(_, word)| Self((*word).to_owned()))
    }

    /// The word of the cause.
    #[must_use]
    pub fn word(&self) -> &str {
        &self.0
    }
}

/// What opened an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum OpenedBy {
    /// Mail to many domains failed.
    Domains,
    /// This check of the host failed.
    Check(String),
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum IncidentEnd {
    /// What delivery does was tried again for affected domains, and works.
    Recovered,
    /// Mail to every affected domain went out.
    Delivered,
    /// The check that failed is well again.
    CheckPassed,
    /// Nothing has failed in this way for long.
    Quiet,
}

impl IncidentEnd {
    /// The end in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Recovered => "what failed works again",
            Self::Delivered => "mail to the affected domains went out",
            Self::CheckPassed => "the check of this host is well again",
            Self::Quiet => "nothing has failed in this way for a long time",
        }
    }
}

/// An incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// Its name.
    pub id: IncidentId,
    /// The way in which mail fails.
    pub kind: FailureKind,
    /// The word for the fault behind it, as `relay check` says it.
    pub cause: String,
    /// Who has to act.
    pub side: Side,
    /// How sure that is.
    pub certainty: Certainty,
    /// When mail began to fail so.
    pub since: Timestamp,
    /// When it ended; none while it is open.
    pub until: Option<Timestamp>,
    /// How it ended.
    pub ended: Option<IncidentEnd>,
    /// What opened it.
    pub opened_by: OpenedBy,
    /// Affected domains, the first ones; at most [`MOST_NAMED`].
    pub domains: Vec<String>,
    /// How many domains are affected, at least.
    pub domain_count: u64,
    /// How many messages met it, at least.
    pub messages: u64,
    /// What is wrong, in a sentence or two.
    pub sentence: String,
    /// What was seen, line by line.
    pub evidence: Vec<String>,
    /// What to do, line by line.
    pub what_to_do: Vec<String>,
    /// How often it came back soon after its end.
    #[serde(default)]
    pub reopened: u32,
    /// When the postmaster was told.
    #[serde(default)]
    pub told: Option<Timestamp>,
    /// Whether only messages meet it, behind MAIL FROM: then trying a server without one says nothing of its end.
    #[serde(default)]
    pub met_by_messages_alone: bool,
}

impl Incident {
    /// Whether it goes on.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.until.is_none()
    }

    /// Whether mail is known to have met it: a check of this host may have come first.
    #[must_use]
    pub const fn has_met_mail(&self) -> bool {
        self.domain_count > 0 || self.messages > 0
    }

    /// Whether a failure at this moment belongs to it.
    #[must_use]
    pub fn covers(&self, cause: &Cause, at: Timestamp) -> bool {
        let in_time = at >= self.since && self.until.is_none_or(|until| at <= until.plus(AFTERMATH));
        in_time && FailureKind::of(cause).as_ref() == Some(&self.kind)
    }

    /// The first of several that a failure belongs to.
    #[must_use]
    pub fn behind<'a>(all: &'a [Self], cause: &Cause, at: Timestamp) -> Option<&'a Self> {
        all.iter().find(|incident| incident.covers(cause, at))
    }
}

/// Lines of bounded number and length.
#[must_use]
pub fn bounded(lines: impl IntoIterator<Item = String>) -> Vec<String> {
    let cut = |line: String| match line.char_indices().find(|(at, c)| at + c.len_utf8() > LONGEST_LINE) {
        Some((at, _)) => format!("{}…", line.get(..at).unwrap_or_default()),
        None => line,
    };
    lines.into_iter().take(MOST_EVIDENCE).map(cut).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::every;

    #[test]
    fn the_name_of_an_incident_is_read_as_it_is_written() {
        let id = IncidentId(1_796_046_391_123);
        assert_eq!(id.to_string().parse::<IncidentId>().unwrap(), id);
        assert_eq!(serde_json::to_string(&id).unwrap(), "\"I1796046391123\"");
        for odd in ["", "I", "1", "I-1", "i1", "I1x"] {
            assert!(odd.parse::<IncidentId>().is_err(), "{odd}");
        }
    }

    #[test]
    fn every_shared_word_is_the_word_of_a_cause_and_what_concerns_one_recipient_is_none() {
        let words: Vec<&str> = every::cause().iter().map(|cause| cause.row().word).collect();
        for shared in SHARED.iter().chain(CHECKS.iter().map(|(_, word)| word)) {
            assert!(words.contains(shared), "{shared}");
        }
        for cause in every::cause() {
            let kind = FailureKind::of(&cause);
            let of_one = ["domain-not-found", "null-mx", "message-too-large", "content-damaged", "mail-loop"];
            assert!(kind.is_none() || !of_one.contains(&cause.root().row().word), "{cause:?}");
        }
    }

    #[test]
    fn lines_are_bounded_at_a_character() {
        let lines = bounded((0..100).map(|_| "é".repeat(600)));
        assert_eq!(lines.len(), MOST_EVIDENCE);
        assert!(lines.iter().all(|line| line.len() <= LONGEST_LINE + '…'.len_utf8() && line.ends_with("é…")));
    }
}
