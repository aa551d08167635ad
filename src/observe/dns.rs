//! Metrics and log of the DNS stage: which path was asked and what came, how many TLSA records
//! answers hold, which path is broken.
//!
//! TLSA answers are counted by their number of records because boxes on the path have been seen
//! to discard those with more than a few; such a fault shows here as a step in the distribution.

use super::Register;
use super::closed;
use crate::outcome::{PathFailure, Question};
use crate::resolve::event::{DnsEvent, Probed};
use crate::resolve::paths::PathName;
use crate::resolve::paths::carried::TypeCarried;
use crate::resolve::paths::standing::PathStanding;
use prometheus::{Error, IntCounter, IntCounterVec, IntGaugeVec};

/// The metrics of the DNS stage. Upstreams are labels in the words of the configuration, which
/// has few of them.
pub(super) struct DnsMetrics {
    queries: IntCounterVec,
    tlsa_answers: IntCounterVec,
    tlsa_failures: IntCounter,
    failures: IntCounterVec,
    path_healthy: IntGaugeVec,
    lately: IntGaugeVec,
    tlsa_most: IntGaugeVec,
    strips: IntGaugeVec,
}

impl DnsMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        let path = &["upstream", "transport"];
        let of = Self {
            queries: r.counters(
                "relay_dns_queries_total",
                "Attempts of look-ups on one path, by record type and by result.",
                &["type", "result", "upstream", "transport"],
            )?,
            tlsa_answers: r.counters(
                "relay_dns_tlsa_answers_total",
                "Validated answers to TLSA questions, by the number of records.",
                &["records"],
            )?,
            tlsa_failures: r
                .counter("relay_dns_tlsa_failures_total", "TLSA look-ups without a usable answer on any path.")?,
            failures: r.counters(
                "relay_dns_failures_total",
                "Look-ups without a usable answer on any path, by record type.",
                &["type"],
            )?,
            path_healthy: r.gauges(
                "relay_dns_path_healthy",
                "1 when the path has carried what it was asked for lately; 0 when it failed where another path had the \
                 answer, or lost the answers for several names that nobody had, or was silent or stripping at the start. \
                 Absent until it was asked.",
                path,
            )?,
            lately: r.gauges(
                "relay_dns_path_names_lately",
                "Names looked up on the path in the last quarter of an hour, by record type, and whether an answer came.",
                &["upstream", "transport", "type", "result"],
            )?,
            tlsa_most: r.gauges(
                "relay_dns_path_tlsa_records_lately",
                "The most TLSA records that an answer on the path had in the last quarter of an hour.",
                path,
            )?,
            strips: r.gauges(
                "relay_dns_path_strips_dnssec",
                "1 when the path was found at the start to take DNSSEC signatures away.",
                path,
            )?,
        };
        closed::from_zero(&of.tlsa_answers, &[BUCKETS]);
        closed::from_zero(&of.failures, &[TYPES]);
        closed::from_zero(&of.failures, &[&["other"]]);
        Ok(of)
    }

    pub(super) fn note(&self, event: &DnsEvent<'_>) {
        match event {
            DnsEvent::Asked { path, record_type, result } => {
                let labels = [*record_type, *result, path.upstream.as_str(), path.transport.word()];
                self.queries.with_label_values(&labels).inc();
            }
            DnsEvent::PathChanged { path, standing } => {
                self.path_healthy.with_label_values(&labels(path)).set(i64::from(*standing == PathStanding::Good));
                match standing {
                    PathStanding::Good => tracing::info!(%path, "DNS path carries what it is asked for"),
                    PathStanding::Loses => {
                        tracing::warn!(%path, "DNS path has lost the answers for several names lately, and no other had them");
                    }
                    PathStanding::PutBack => {
                        tracing::warn!(%path, "DNS path failed where another one had the answer; it is asked last for now");
                    }
                }
            }
            DnsEvent::PathCarried { path, carried } => self.carried(path, carried),
            DnsEvent::AnsweredDespite { question, path, failed } => {
                tracing::warn!(%question, %path, failed = said(failed), "DNS answer found on another path");
            }
            DnsEvent::Unanswered { question, failed } => {
                if question.record_type == "TLSA" {
                    self.tlsa_failures.inc();
                }
                self.failures.with_label_values(&[label(question)]).inc();
                tracing::warn!(%question, failed = said(failed), "no usable DNS answer on any path");
            }
            DnsEvent::TlsaRecords { count } => self.tlsa_answers.with_label_values(&[bucket(*count)]).inc(),
            DnsEvent::Probed { path, found } => self.probed(path, found),
            DnsEvent::SystemChanged { added, gone } => self.system_changed(added, gone),
            DnsEvent::SystemKept { why } => {
                tracing::warn!(
                    why,
                    "the servers of the system have changed and cannot be used; those of before are asked"
                );
            }
        }
    }

    /// Other paths are asked from now on.
    pub(super) fn forget_paths(&self) {
        self.path_healthy.reset();
        self.strips.reset();
        self.tlsa_most.reset();
        self.lately.reset();
    }

    fn carried(&self, path: &PathName, carried: &TypeCarried) {
        let [upstream, transport] = labels(path);
        for (result, names) in [("came", carried.came), ("lost", carried.lost)] {
            let labels = [upstream, transport, carried.record_type, result];
            self.lately.with_label_values(&labels).set(i64::try_from(names).unwrap_or(i64::MAX));
        }
        if carried.record_type == "TLSA" && carried.came > 0 {
            let most = i64::try_from(carried.most).unwrap_or(i64::MAX);
            self.tlsa_most.with_label_values(&labels(path)).set(most);
        }
    }

    fn system_changed(&self, added: &[PathName], gone: &[PathName]) {
        for path in gone {
            for gauge in [&self.path_healthy, &self.strips, &self.tlsa_most] {
                let _never_set = gauge.remove_label_values(&labels(path));
            }
            let [upstream, transport] = labels(path);
            for (record_type, result) in TYPES.iter().chain(&["other"]).flat_map(|t| [(*t, "came"), (*t, "lost")]) {
                let _never_set = self.lately.remove_label_values(&[upstream, transport, record_type, result]);
            }
        }
        let names = |paths: &[PathName]| paths.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        tracing::info!(added = names(added), gone = names(gone), "the system has other DNS servers now");
    }

    fn probed(&self, path: &PathName, found: &Probed) {
        let passes = *found == Probed::PassesDnssec;
        self.path_healthy.with_label_values(&labels(path)).set(i64::from(passes));
        match found {
            Probed::PassesDnssec => self.strips.with_label_values(&labels(path)).set(0),
            Probed::StripsDnssec => {
                self.strips.with_label_values(&labels(path)).set(1);
                tracing::warn!(
                    %path,
                    "this DNS path strips DNSSEC signatures, so its answers cannot be used: \
                     enable DNSSEC there, or take it out of [dns] upstreams"
                );
            }
            Probed::Silent(detail) => tracing::warn!(%path, detail, "this DNS path gives no answer"),
        }
    }
}

fn labels(path: &PathName) -> [&str; 2] {
    [path.upstream.as_str(), path.transport.word()]
}

fn said(failed: &[PathFailure]) -> String {
    failed.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
}

/// The types that have a word of their own.
const TYPES: &[&str] = &["A", "AAAA", "MX", "TLSA", "TXT"];

/// A closed set, whatever was asked.
fn label(question: &Question) -> &'static str {
    TYPES.iter().find(|known| **known == question.record_type).copied().unwrap_or("other")
}

/// What [`bucket`] gives.
const BUCKETS: &[&str] = &["0", "1", "2", "3", "4", "5", "6-8", "9+"];

fn bucket(count: usize) -> &'static str {
    match count {
        0 => "0",
        1 => "1",
        2 => "2",
        3 => "3",
        4 => "4",
        5 => "5",
        6..=8 => "6-8",
        _ => "9+",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tlsa_answers_fall_into_eight_buckets() {
        let buckets: std::collections::BTreeSet<_> = (0..70).map(bucket).collect();
        assert_eq!(buckets.into_iter().collect::<Vec<_>>(), BUCKETS);
        assert_eq!([bucket(5), bucket(6), bucket(8), bucket(9)], ["5", "6-8", "6-8", "9+"]);
    }
}
