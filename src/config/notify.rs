//! `[notify]`: when senders are told about their mail, and in which words (RFC 3461 §4, §5.2.5).

use super::duration;
use super::findings::ConfigFindings;
use crate::smtp::address::Domain;
use serde::Deserialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

/// `[notify]`: delays, size and texts of reports.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NotifyConfig {
    /// How old a message must be for the ordinary warning that it waits.
    #[serde(deserialize_with = "duration")]
    pub delay_after: Duration,
    /// How old a message must be for the notice that DNS, TLS or a policy stops it.
    #[serde(deserialize_with = "duration")]
    pub policy_failure_after: Duration,
    /// A message with RET=FULL comes back whole when it is smaller, in octets; others as header.
    pub return_full_below: u64,
    /// Whether people get a page (HTML) beside the text.
    pub html: bool,
    /// The languages of every report, the first one first; none means English.
    pub languages: Vec<Language>,
    /// Those of senders in these domains.
    pub sender_languages: BTreeMap<Domain, Vec<Language>>,
    /// A folder with `reports.toml`: texts that replace the built-in ones of the first language.
    pub templates: Option<PathBuf>,
}

/// A language that the texts of reports are built in for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Language {
    /// English.
    En,
    /// Dutch.
    Nl,
    /// German.
    De,
    /// French.
    Fr,
}

/// Each report says everything once in each language.
pub(super) fn check(config: &NotifyConfig, findings: &mut ConfigFindings<'_>) {
    let is_repeated = |languages: &[Language]| languages.iter().collect::<BTreeSet<_>>().len() < languages.len();
    if is_repeated(&config.languages) {
        findings.refuse(&["notify.languages"], "a language stands there twice");
    }
    for (domain, languages) in &config.sender_languages {
        if languages.is_empty() {
            findings.refuse(&["notify.sender_languages"], format!("{domain}: name at least one language"));
        } else if is_repeated(languages) {
            findings.refuse(&["notify.sender_languages"], format!("{domain}: a language stands there twice"));
        }
    }
}

impl Language {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::En, Self::Nl, Self::De, Self::Fr];

    /// Its tag (BCP 47).
    #[must_use]
    pub const fn tag(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Nl => "nl",
            Self::De => "de",
            Self::Fr => "fr",
        }
    }

    /// What those who speak it call it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::En => "English",
            Self::Nl => "Nederlands",
            Self::De => "Deutsch",
            Self::Fr => "Français",
        }
    }
}

impl Default for NotifyConfig {
    fn default() -> Self {
        Self {
            delay_after: Duration::from_secs(4 * 3600),
            policy_failure_after: Duration::from_secs(3600),
            return_full_below: 102_400,
            html: true,
            languages: Vec::new(),
            sender_languages: BTreeMap::new(),
            templates: None,
        }
    }
}
