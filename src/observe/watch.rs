//! What the watch of other domains has found: how many domains have which finding. The kinds are few,
//! whatever is watched.

use super::Register;
use prometheus::{Error, IntGauge, IntGaugeVec};

pub(crate) struct WatchMetrics {
    domains: IntGauge,
    findings: IntGaugeVec,
}

impl WatchMetrics {
    pub(super) fn new(r: &Register<'_>) -> Result<Self, Error> {
        Ok(Self {
            domains: r.gauge("relay_watch_domains", "Domains whose posture is known: see `relay watch list`.")?,
            findings: r.gauges("relay_watch_findings", "Domains with a finding, by what it is.", &["finding"])?,
        })
    }

    /// Sets how many domains are known, and how many have each finding.
    pub(crate) fn set(&self, domains: usize, findings: impl Iterator<Item = (&'static str, usize)>) {
        let number = |count: usize| i64::try_from(count).unwrap_or(i64::MAX);
        self.domains.set(number(domains));
        findings.for_each(|(word, count)| self.findings.with_label_values(&[word]).set(number(count)));
    }

    /// A domain has a finding that it had not before.
    pub(crate) fn found(&self, domain: &str, finding: &'static str, detail: &str) {
        tracing::warn!(
            domain,
            finding,
            detail,
            "watch: the domain needs attention; `relay watch show` has a text for it"
        );
    }
}
