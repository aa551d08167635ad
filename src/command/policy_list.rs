//! `relay policy list`: the MTA-STS policies that are kept (RFC 8461 §5.1), without asking anybody.

use crate::clock::Timestamp;
use crate::config::Config;
use crate::policy::sts::kept::{self, KeptState};
use crate::policy::sts::store::StoreFault;
use crate::text::table::{Column, TableView, TextTable};
use serde::Serialize;

/// The columns of the table.
pub const COLUMNS: &[Column] = &[
    Column::words("DOMAIN").at_least(20),
    Column::words("MODE"),
    Column::words("STATE"),
    Column::words("UNTIL"),
    Column::words("FETCHED").rank(1),
    Column::words("MX").at_least(16).rank(2),
];

/// A policy that is kept.
#[derive(Clone, Debug, Serialize)]
pub struct KeptPolicy {
    /// The domain.
    pub domain: String,
    /// `enforce`, `testing` or `none`; none where the policy cannot be looked into.
    pub mode: Option<&'static str>,
    /// Whether it is in force, expired, not refreshed, or lost.
    pub state: &'static str,
    /// Until when it holds.
    pub until: Option<Timestamp>,
    /// When it was fetched.
    pub fetched: Option<Timestamp>,
    /// The MX hosts it allows.
    pub mx: Vec<String>,
    /// Why it is lost, or why the last refresh failed.
    pub detail: Option<String>,
}

/// All policies that are kept, by domain.
///
/// # Errors
/// When the folder cannot be read.
pub fn list(config: &Config, now: Timestamp) -> Result<Vec<KeptPolicy>, StoreFault> {
    let mut all: Vec<KeptPolicy> = kept::all(&config.spool)?.iter().map(|state| KeptPolicy::new(state, now)).collect();
    all.sort_by(|a, b| a.domain.cmp(&b.domain));
    Ok(all)
}

impl KeptPolicy {
    fn new(state: &KeptState, now: Timestamp) -> Self {
        match state {
            KeptState::Policy(policy) => Self {
                domain: policy.domain.to_string(),
                mode: Some(policy.terms.mode.word()),
                state: match &policy.refresh_failure {
                    _ if policy.has_expired(now) => "expired",
                    Some(_) => "not refreshed",
                    None => "in force",
                },
                until: Some(policy.expires_at()),
                fetched: Some(policy.fetched_at),
                mx: policy.terms.mx.iter().map(ToString::to_string).collect(),
                detail: policy.refresh_failure.as_ref().map(|failure| failure.sentence.clone()),
            },
            KeptState::Lost(lost) => Self {
                domain: lost.domain.to_string(),
                mode: None,
                state: if lost.is_over(now) { "expired" } else { "lost" },
                until: lost.until,
                fetched: None,
                mx: Vec::new(),
                detail: Some(lost.because.to_string()),
            },
        }
    }
}

/// The rows as they are wanted, and how many are left out.
#[must_use]
pub fn table<'a>(all: &'a [KeptPolicy], view: &TableView) -> (TextTable<&'a KeptPolicy>, usize) {
    let mut table = TextTable::new(COLUMNS);
    let time = |at: Option<Timestamp>| at.map_or_else(|| "-".to_owned(), Timestamp::to_second);
    for policy in all {
        let row = vec![
            policy.domain.clone().into(),
            policy.mode.unwrap_or("-").into(),
            policy.state.into(),
            time(policy.until).into(),
            time(policy.fetched).into(),
            policy.mx.join(" ").into(),
        ];
        table.push(row, policy);
    }
    let left_out = table.arrange(view);
    (table, left_out)
}
