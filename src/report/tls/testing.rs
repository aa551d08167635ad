//! Counts and a sender, for the tests of this folder.

use super::{ReportSubject, ReportSubmitter};
use crate::smtp::address::{Domain, Mailbox};
use crate::spool::tls_session::{AppliedPolicy, PolicyType, ReportDay, SessionFailure, TlsCount};

/// What a subject borrows.
pub(super) struct Parts {
    contact: Mailbox,
    hostname: Domain,
    domain: Domain,
    day: ReportDay,
}

impl Parts {
    pub(super) fn of(domain: &str, day: &str, hostname: &str) -> Self {
        Self {
            contact: "tls@sender.example".parse().unwrap(),
            hostname: hostname.parse().unwrap(),
            domain: domain.parse().unwrap(),
            day: day.parse().unwrap(),
        }
    }

    pub(super) fn subject(&self) -> ReportSubject<'_> {
        let submitter =
            ReportSubmitter { organization: "Sender Ltd", contact: &self.contact, hostname: &self.hostname };
        ReportSubject { submitter, domain: &self.domain, day: self.day }
    }
}

pub(super) fn sts() -> AppliedPolicy {
    let lines = ["version: STSv1", "mode: enforce", "mx: *.a.example", "max_age: 86400"];
    AppliedPolicy {
        kind: PolicyType::Sts,
        domain: "a.example".into(),
        strings: lines.map(str::to_owned).to_vec(),
        mx_host: vec!["*.a.example".into()],
    }
}

pub(super) fn tlsa() -> AppliedPolicy {
    let strings = vec![format!("3 1 1 {}", "AB".repeat(32)), "2 1 1 00".to_owned()];
    AppliedPolicy { kind: PolicyType::Tlsa, domain: "mx.a.example".into(), strings, mx_host: Vec::new() }
}

pub(super) fn no_policy(domain: &str) -> AppliedPolicy {
    let (strings, mx_host) = (Vec::new(), Vec::new());
    AppliedPolicy { kind: PolicyType::NoPolicyFound, domain: domain.to_owned(), strings, mx_host }
}

pub(super) fn failed(result_type: &str) -> SessionFailure {
    let result_type = result_type.to_owned();
    SessionFailure { result_type, sending_address: None, mx_host: None, mx_address: None, reason: None }
}

pub(super) fn count(policy: AppliedPolicy, failure: Option<SessionFailure>, sessions: u64) -> TlsCount {
    TlsCount { policy, failure, sessions }
}
