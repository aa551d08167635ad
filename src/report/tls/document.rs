//! A day with a domain as a document (pure) (RFC 8460 §4.4).
//!
//! JSON as every program reads it alike (RFC 7493): each key once, in the order of the standard, whole numbers that
//! a double holds, and no character that Unicode has for inside use alone. Names are in A-labels.

use super::ReportSubject;
use crate::clock::Timestamp;
use crate::smtp::address::Domain;
use crate::spool::tls_session::{AppliedPolicy, PolicyType, ReportDay, SessionFailure, TlsCount};
use serde::Serialize;
use std::collections::BTreeMap;
use std::net::IpAddr;

/// The result types of RFC 8460 §4.3, and the one that was registered with them (§6.6).
pub const RESULT_TYPES: [&str; 11] = [
    "starttls-not-supported",
    "certificate-host-mismatch",
    "certificate-expired",
    "certificate-not-trusted",
    "validation-failure",
    "tlsa-invalid",
    "dnssec-invalid",
    "dane-required",
    "sts-policy-fetch-error",
    "sts-policy-invalid",
    "sts-webpki-invalid",
];
/// What stands for a result that no type is for (RFC 8460 §4.3.3).
const ANY_OTHER: &str = "validation-failure";
/// The largest whole number that every reader of JSON has exactly (RFC 7493 §2.2).
const LARGEST_NUMBER: u64 = (1 << 53) - 1;

/// How much of a day is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReportExtent {
    /// All: a domain also learns that all is well (RFC 8460 §4.2.1).
    Everything,
    /// The policies under which something failed.
    FailuresOnly,
}

/// A report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct TlsReportDocument {
    organization_name: String,
    date_range: DateRange,
    contact_info: String,
    report_id: String,
    policies: Vec<PolicySection>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct DateRange {
    start_datetime: String,
    end_datetime: String,
}

/// What happened under one policy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct PolicySection {
    policy: ReportedPolicy,
    summary: SessionSums,
    failure_details: Vec<FailureDetails>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct ReportedPolicy {
    policy_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    policy_string: Option<Vec<String>>,
    policy_domain: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mx_host: Option<Vec<String>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct SessionSums {
    total_successful_session_count: u64,
    total_failure_session_count: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
struct FailureDetails {
    result_type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sending_mta_ip: Option<IpAddr>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_mx_hostname: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receiving_ip: Option<IpAddr>,
    failed_session_count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure_reason_code: Option<String>,
}

impl TlsReportDocument {
    /// The report of a day; `None` when there is nothing to tell.
    #[must_use]
    pub fn of(subject: &ReportSubject<'_>, counts: &[TlsCount], extent: ReportExtent) -> Option<Self> {
        let policies: Vec<PolicySection> = by_policy(counts)
            .into_iter()
            .map(|(policy, tally)| tally.report(policy))
            .filter(|report| extent == ReportExtent::Everything || report.summary.total_failure_session_count > 0)
            .collect();
        let submitter = subject.submitter;
        (!policies.is_empty()).then(|| Self {
            organization_name: interchangeable(submitter.organization),
            date_range: DateRange {
                start_datetime: subject.day.begin().rfc3339(),
                end_datetime: last_second(subject.day).rfc3339(),
            },
            contact_info: submitter.contact.on_the_wire().into_owned(),
            report_id: subject.report_id(),
            policies,
        })
    }

    /// The text of the document.
    #[must_use]
    pub fn json(&self) -> String {
        // Strings and numbers alone: there is nothing in it that could fail.
        serde_json::to_string(self).unwrap_or_default()
    }

    /// Sessions that went well.
    #[must_use]
    pub fn succeeded(&self) -> u64 {
        self.policies.iter().fold(0, |sum, report| sum.saturating_add(report.summary.total_successful_session_count))
    }

    /// Sessions that failed, by their result types.
    #[must_use]
    pub fn failed(&self) -> BTreeMap<&'static str, u64> {
        let mut sums: BTreeMap<&'static str, u64> = BTreeMap::new();
        for details in self.policies.iter().flat_map(|report| &report.failure_details) {
            let sum = sums.entry(details.result_type).or_default();
            *sum = sum.saturating_add(details.failed_session_count);
        }
        sums
    }
}

/// The end of a day as reports give it: within the day, as in the example of RFC 8460 (appendix B).
#[must_use]
pub(super) fn last_second(day: ReportDay) -> Timestamp {
    Timestamp(day.end().0.saturating_sub(1000))
}

/// What was counted under one policy.
#[derive(Default)]
struct PolicyTally<'a> {
    succeeded: u64,
    failures: BTreeMap<&'a SessionFailure, u64>,
}

fn by_policy(counts: &[TlsCount]) -> BTreeMap<&AppliedPolicy, PolicyTally<'_>> {
    let mut policies: BTreeMap<&AppliedPolicy, PolicyTally<'_>> = BTreeMap::new();
    for count in counts.iter().filter(|count| count.sessions > 0) {
        let tally = policies.entry(&count.policy).or_default();
        let sum = match &count.failure {
            None => &mut tally.succeeded,
            Some(failure) => tally.failures.entry(failure).or_default(),
        };
        *sum = sum.saturating_add(count.sessions);
    }
    policies
}

impl PolicyTally<'_> {
    fn report(&self, policy: &AppliedPolicy) -> PolicySection {
        let failure_details: Vec<_> =
            self.failures.iter().map(|(failure, sessions)| details(failure, *sessions)).collect();
        let failed = failure_details.iter().fold(0_u64, |sum, one| sum.saturating_add(one.failed_session_count));
        PolicySection {
            policy: reported(policy),
            summary: SessionSums {
                total_successful_session_count: self.succeeded.min(LARGEST_NUMBER),
                total_failure_session_count: failed.min(LARGEST_NUMBER),
            },
            failure_details,
        }
    }
}

fn reported(policy: &AppliedPolicy) -> ReportedPolicy {
    let strings = || policy.strings.iter().map(|text| interchangeable(text)).collect();
    let (policy_string, mx_host) = match policy.kind {
        PolicyType::Tlsa => (Some(strings()), None),
        PolicyType::Sts => (Some(strings()), Some(policy.mx_host.iter().map(|name| a_labels(name)).collect())),
        PolicyType::NoPolicyFound => (None, None),
    };
    ReportedPolicy { policy_type: policy.kind.word(), policy_string, policy_domain: a_labels(&policy.domain), mx_host }
}

fn details(failure: &SessionFailure, sessions: u64) -> FailureDetails {
    let known = RESULT_TYPES.into_iter().find(|known| *known == failure.result_type);
    let reason = match (known, &failure.reason) {
        (Some(_), reason) => reason.clone(),
        (None, None) => Some(failure.result_type.clone()),
        (None, Some(reason)) => Some(format!("{}: {reason}", failure.result_type)),
    };
    FailureDetails {
        result_type: known.unwrap_or(ANY_OTHER),
        sending_mta_ip: failure.sending_address.map(|address| address.to_canonical()),
        receiving_mx_hostname: failure.mx_host.as_deref().map(a_labels),
        receiving_ip: failure.mx_address.map(|address| address.to_canonical()),
        failed_session_count: sessions.min(LARGEST_NUMBER),
        failure_reason_code: reason.as_deref().map(interchangeable),
    }
}

/// A name, or a pattern such as `*.example.org`, in A-labels (RFC 8460 §4.4); what is none stays as it is.
fn a_labels(name: &str) -> String {
    let (wildcard, rest) = name.strip_prefix("*.").map_or(("", name), |rest| ("*.", rest));
    match rest.parse::<Domain>() {
        Ok(domain) => format!("{wildcard}{domain}"),
        Err(_) => interchangeable(name),
    }
}

/// Text without the code points that are for no interchange (RFC 7493 §2.1).
fn interchangeable(text: &str) -> String {
    let is_none = |c: char| matches!(c, '\u{fdd0}'..='\u{fdef}') || u32::from(c) & 0xfffe == 0xfffe;
    text.chars().map(|c| if is_none(c) { char::REPLACEMENT_CHARACTER } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Parts, count, failed, no_policy, sts, tlsa};
    use super::*;
    use serde_json::{Value, json};

    fn document(counts: &[TlsCount]) -> Value {
        let parts = Parts::of("a.example", "2026-11-29", "relay.sender.example");
        let document = TlsReportDocument::of(&parts.subject(), counts, ReportExtent::Everything).unwrap();
        serde_json::from_str(&document.json()).unwrap()
    }

    #[test]
    fn rfc8460_4_4_p03_a_report_is_the_document_of_the_standard() {
        let parts = Parts::of("a.example", "2026-11-29", "relay.sender.example");
        let mut failure = failed("certificate-expired");
        failure.sending_address = Some([192, 0, 2, 7].into());
        failure.mx_host = Some("mx.a.example".into());
        failure.mx_address = Some("2001:db8::25".parse().unwrap());
        failure.reason = Some("cert-expired".into());
        let counts = [count(sts(), None, 5326), count(sts(), Some(failure), 303)];
        let document = TlsReportDocument::of(&parts.subject(), &counts, ReportExtent::Everything).unwrap();
        let text = format!(
            "{{\"organization-name\":\"Sender Ltd\",\"date-range\":{{\"start-datetime\":\"2026-11-29T00:00:00Z\",\
             \"end-datetime\":\"2026-11-29T23:59:59Z\"}},\"contact-info\":\"tls@sender.example\",\"report-id\":\"{}\",\
             \"policies\":[{{\"policy\":{{\"policy-type\":\"sts\",\"policy-string\":[\"version: STSv1\",\
             \"mode: enforce\",\"mx: *.a.example\",\"max_age: 86400\"],\"policy-domain\":\"a.example\",\
             \"mx-host\":[\"*.a.example\"]}},\"summary\":{{\"total-successful-session-count\":5326,\
             \"total-failure-session-count\":303}},\"failure-details\":[{{\"result-type\":\"certificate-expired\",\
             \"sending-mta-ip\":\"192.0.2.7\",\"receiving-mx-hostname\":\"mx.a.example\",\
             \"receiving-ip\":\"2001:db8::25\",\"failed-session-count\":303,\
             \"failure-reason-code\":\"cert-expired\"}}]}}]}}",
            parts.subject().report_id()
        );
        assert_eq!(document.json(), text);
    }

    #[test]
    fn rfc8460_4_4_p04_each_policy_stands_once_with_its_sums() {
        let told = document(&[
            count(no_policy("a.example"), None, 1),
            count(tlsa(), None, 2),
            count(tlsa(), Some(failed("tlsa-invalid")), 3),
            count(tlsa(), None, 4),
            count(tlsa(), Some(failed("tlsa-invalid")), 5),
            count(tlsa(), Some(failed("certificate-expired")), 6),
            count(sts(), Some(failed("sts-policy-invalid")), 0),
        ]);
        let policies = told["policies"].as_array().unwrap();
        let types: Vec<_> = policies.iter().map(|report| &report["policy"]["policy-type"]).collect();
        assert_eq!(types, ["tlsa", "no-policy-found"]);
        let sums = json!({ "total-successful-session-count": 6, "total-failure-session-count": 14 });
        assert_eq!(policies[0]["summary"], sums);
        let details = policies[0]["failure-details"].as_array().unwrap();
        assert_eq!(details.iter().map(|one| one["failed-session-count"].as_u64().unwrap()).collect::<Vec<_>>(), [6, 8]);
        assert_eq!(policies[1]["failure-details"], json!([]));
        assert_eq!(policies[1]["policy"], json!({ "policy-type": "no-policy-found", "policy-domain": "a.example" }));
    }

    #[test]
    fn rfc8460_4_3_p05_result_types_are_those_of_the_registry() {
        for known in RESULT_TYPES {
            let told = document(&[count(tlsa(), Some(failed(known)), 1)]);
            let details = &told["policies"][0]["failure-details"][0];
            assert_eq!((&details["result-type"], &details["failure-reason-code"]), (&json!(known), &Value::Null));
        }
        let mut odd = failed("moon-phase");
        let reason = |failure: &SessionFailure| {
            let told = document(&[count(tlsa(), Some(failure.clone()), 1)]);
            let details = &told["policies"][0]["failure-details"][0];
            assert_eq!(details["result-type"], "validation-failure");
            details["failure-reason-code"].as_str().unwrap().to_owned()
        };
        assert_eq!(reason(&odd), "moon-phase");
        odd.reason = Some("full".into());
        assert_eq!(reason(&odd), "moon-phase: full");
    }

    #[test]
    fn rfc8460_4_4_p08_names_are_in_a_labels() {
        let mut policy = AppliedPolicy { mx_host: vec!["*.B\u{fc}cher.example".into()], ..sts() };
        policy.domain = "b\u{fc}cher.example.".into();
        let mut failure = failed("certificate-expired");
        failure.mx_host = Some("mx.b\u{fc}cher.example.".into());
        let told = document(&[count(policy, Some(failure), 1)]);
        let report = &told["policies"][0];
        assert_eq!(report["policy"]["policy-domain"], "xn--bcher-kva.example");
        assert_eq!(report["policy"]["mx-host"], json!(["*.xn--bcher-kva.example"]));
        assert_eq!(report["failure-details"][0]["receiving-mx-hostname"], "mx.xn--bcher-kva.example");
    }

    #[test]
    fn rfc8460_4_5_p17_policies_are_told_a_record_or_a_line_each() {
        let told = document(&[count(tlsa(), None, 1)]);
        let policy = &told["policies"][0]["policy"];
        let record = format!("3 1 1 {}", "AB".repeat(32));
        assert_eq!(policy["policy-string"], json!([record, "2 1 1 00"]));
        assert_eq!(policy["mx-host"], Value::Null);
    }

    #[test]
    fn rfc8460_4_2_1_p18_a_day_on_which_all_went_well_is_told_unless_failures_alone_are_wanted() {
        let parts = Parts::of("a.example", "2026-11-29", "relay.sender.example");
        let of = |counts: &[TlsCount], extent| TlsReportDocument::of(&parts.subject(), counts, extent);
        let good = count(no_policy("a.example"), None, 1);
        let bad = count(tlsa(), Some(failed("tlsa-invalid")), 1);
        assert_eq!(of(std::slice::from_ref(&good), ReportExtent::Everything).unwrap().succeeded(), 1);
        assert_eq!(of(std::slice::from_ref(&good), ReportExtent::FailuresOnly), None);
        assert_eq!(of(&[], ReportExtent::Everything), None);
        let told = of(&[good, bad], ReportExtent::FailuresOnly).unwrap();
        assert_eq!((told.policies.len(), told.succeeded()), (1, 0));
        assert_eq!(told.failed(), BTreeMap::from([("tlsa-invalid", 1)]));
    }

    #[test]
    fn rfc7493_2_p03_every_reader_has_the_same_text_and_numbers() {
        let mut failure = failed("validation-failure");
        failure.reason = Some("\u{fffe}\u{fdd0}\u{1ffff}\u{fffd}\0\u{e9}".into());
        let counts = [count(tlsa(), Some(failure.clone()), u64::MAX), count(tlsa(), Some(failure), u64::MAX)];
        let told = document(&counts);
        let details = &told["policies"][0]["failure-details"][0];
        assert_eq!(details["failure-reason-code"], "\u{fffd}\u{fffd}\u{fffd}\u{fffd}\0\u{e9}");
        assert_eq!(details["failed-session-count"], json!(9_007_199_254_740_991_u64));
        assert_eq!(told["policies"][0]["summary"]["total-failure-session-count"], json!(9_007_199_254_740_991_u64));
    }
}
