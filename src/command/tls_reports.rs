//! `relay reports`: how TLS went with the domains that mail goes to, day by day, and what became of the reports
//! about it (RFC 8460). Read from the ledger, with a relay that runs or without one.
//!
//! For programs a row is a [`TlsReportRow`], and with `show` a [`TlsReportDetails`].

use crate::clock::Timestamp;
use crate::report::tls::TlsReportDocument;
use crate::spool::tls_session::{
    AppliedPolicy, PolicyType, SessionFailure, TlsCount, TlsReportId, TlsReportRow, TlsReportState,
};
use crate::text::table::{Column, TableView, TextTable};
use crate::text::{counted, paragraph};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The columns of the table.
pub const COLUMNS: &[Column] = &[
    Column::words("DAY"),
    Column::words("DOMAIN").at_least(16),
    Column::numbers("SUCCEEDED"),
    Column::numbers("FAILED"),
    Column::words("REPORT"),
    Column::words("DETAIL").at_least(16).rank(1),
];

/// Where the words begin in their line.
const COLUMN: usize = 13;

/// A domain on a day, with all that was counted.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TlsReportDetails {
    /// The day, the domain, the sums and the report.
    #[serde(flatten)]
    pub row: TlsReportRow,
    /// What they are the sums of.
    pub counts: Vec<TlsCount>,
}

/// The rows as they are wanted, and how many are left out.
#[must_use]
pub fn table<'a>(rows: &'a [TlsReportRow], view: &TableView) -> (TextTable<&'a TlsReportRow>, usize) {
    let mut table = TextTable::new(COLUMNS);
    for row in rows {
        let cells = vec![
            row.id.day.to_string().into(),
            row.id.domain.clone().into(),
            row.succeeded.into(),
            row.failed.into(),
            row.report.as_ref().map_or("counting", TlsReportState::word).into(),
            row.report.as_ref().map_or_else(|| "until the day is over".to_owned(), detail).into(),
        ];
        table.push(cells, row);
    }
    let left_out = table.arrange(view);
    (table, left_out)
}

/// A report that was made when it was asked for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentReport {
    /// The report.
    #[serde(flatten)]
    pub report: TlsReportId,
    /// What has become of it.
    pub state: TlsReportState,
}

/// A report that would go out, or why none does.
#[derive(Debug, Serialize)]
pub struct TlsReportPreview {
    /// The report.
    #[serde(flatten)]
    pub report: TlsReportId,
    /// The places that the domain wants it at.
    pub to: Vec<String>,
    /// The report itself; `None` where none goes out.
    pub document: Option<TlsReportDocument>,
    /// Why none goes out.
    pub because: Option<String>,
}

/// `relay reports send --now` for people, a line each.
#[must_use]
pub fn sent_text(sent: &SentReport) -> String {
    let SentReport { report, state } = sent;
    format!("{}  {}  {}  {}\n", report.day, report.domain, state.word(), detail(state))
}

/// `relay reports send --dry-run` for people: to whom, and the report as it would be.
#[must_use]
pub fn preview_text(preview: &TlsReportPreview) -> String {
    let TlsReportPreview { report, to, document, because } = preview;
    let head = format!("{}  {} (UTC)\n", report.domain, report.day);
    match document {
        Some(document) => {
            let json = serde_json::to_string_pretty(document).unwrap_or_default();
            format!("{head}{}{json}\n", paragraph("  to", &to.join(", "), COLUMN))
        }
        None => head + &paragraph("  no report", because.as_deref().unwrap_or_default(), COLUMN),
    }
}

/// `relay reports list` for people.
#[must_use]
pub fn list_text(rows: &[TlsReportRow], view: &TableView) -> String {
    if rows.is_empty() {
        return "Nothing is counted: [tls_reports] enabled is false, or no mail has gone out since.\n".to_owned();
    }
    let (table, left_out) = table(rows, view);
    let mut text = table.text(view.width);
    if left_out > 0 {
        let more = counted(u64::try_from(left_out).unwrap_or(u64::MAX), "more row");
        text.push_str(&format!("{more}; --limit says how many are shown.\n"));
    }
    text
}

/// `relay reports show` for people, day by day.
#[must_use]
pub fn show_text(days: &[TlsReportDetails]) -> String {
    days.iter().map(one_day).collect::<Vec<_>>().join("\n")
}

/// How a report stands, in a line.
fn detail(state: &TlsReportState) -> String {
    let second = |at: &Timestamp| at.to_second();
    match state {
        TlsReportState::Waiting { due, tries: 0, .. } => format!("due {}", second(due)),
        TlsReportState::Waiting { due, tries, last } => {
            let last = last.as_ref().map(|last| format!(": {last}")).unwrap_or_default();
            format!("tried {}, again {}{last}", counted((*tries).into(), "time"), second(due))
        }
        TlsReportState::Sent { at, to } => format!("{} to {}", second(at), to.join(", ")),
        TlsReportState::NotWanted { at, because } | TlsReportState::GivenUp { at, because } => {
            format!("{}: {because}", second(at))
        }
    }
}

fn one_day(day: &TlsReportDetails) -> String {
    let TlsReportDetails { row, counts } = day;
    let mut text = format!("{}  {} (UTC)\n", row.id.domain, row.id.day);
    let mut line = |label: &str, words: &str| text.push_str(&paragraph(&format!("  {label}"), words, COLUMN));
    line("tries", &format!("{} succeeded, {} failed", row.succeeded, row.failed));
    match &row.report {
        None => line("report", "none yet: the day is not over"),
        Some(state) => line("report", &format!("{}, {}", state.word(), detail(state))),
    }
    let mut by_policy: BTreeMap<&AppliedPolicy, Vec<&TlsCount>> = BTreeMap::new();
    for count in counts {
        by_policy.entry(&count.policy).or_default().push(count);
    }
    for (policy, counts) in by_policy {
        line("policy", &policy_words(policy));
        policy.strings.iter().for_each(|string| line("", string));
        for count in counts {
            match &count.failure {
                None => line("succeeded", &count.sessions.to_string()),
                Some(failure) => line("failed", &format!("{} by {}", count.sessions, failure_words(failure))),
            }
        }
    }
    text
}

fn policy_words(policy: &AppliedPolicy) -> String {
    match policy.kind {
        PolicyType::Tlsa => format!("TLSA records of {}", policy.domain),
        PolicyType::Sts => format!("MTA-STS policy of {}", policy.domain),
        PolicyType::NoPolicyFound => format!("none was found for {}", policy.domain),
    }
}

fn failure_words(failure: &SessionFailure) -> String {
    let mut words = failure.result_type.clone();
    if let Some(host) = &failure.mx_host {
        words.push_str(&format!(" at {host}"));
    }
    if let Some(address) = failure.mx_address {
        words.push_str(&format!(" [{address}]"));
    }
    if let Some(address) = failure.sending_address {
        words.push_str(&format!(" from [{address}]"));
    }
    if let Some(reason) = &failure.reason {
        words.push_str(&format!(": {reason}"));
    }
    words
}
