//! What of an attempt counts for the reports on TLS (pure) (RFC 8460 §4).
//!
//! A session is a connection on which it was settled how it is protected, or a host that was left alone for a reason
//! that RFC 8460 §4.3 has a result type for; messages that follow on the same connection are none. What fails for
//! another reason (a timeout, a refusal of the recipient) says nothing about TLS and is not counted (§4.3.4).
//!
//! A policy counts whether it is enforced or only looked at: in testing mode, by `report_only`, or because the sender
//! waives it. What the operator switches off is not looked at, and is not counted.

use super::outbound::RouteFacts;
use crate::deliver::{AttemptReport, Target};
use crate::outcome::{Cause, DeliveryOutcome, Question, RequireTlsFailure, StsFault, TlsVerdict};
use crate::policy::sts::{StsAbsent, StsState};
use crate::policy::{TlsPolicy, WhyOpportunistic};
use crate::resolve::{TlsaLookup, TlsaRecord};
use crate::smtp::address::Domain;
use crate::spool::tls_session::{AppliedPolicy, PolicyType, SessionFailure, TlsSession};

/// A conversation with a server that has ended.
pub(super) struct EndedTry<'a> {
    /// What was to hold for it.
    pub(super) target: &'a Target,
    /// What came of it.
    pub(super) report: &'a AttemptReport,
    /// What was known before.
    pub(super) facts: &'a RouteFacts,
}

/// What a conversation with a server counts as, for the domain that led to it: one for each policy.
pub(super) fn of_attempt(domain: &Domain, ended: &EndedTry<'_>) -> Vec<TlsSession> {
    let EndedTry { target, report, facts } = ended;
    let failure = report.outcomes.iter().find_map(|(_, outcome)| tls_failure(outcome));
    let is_new = report.nth_on_connection <= 1;
    if !is_new || (report.tls.is_none() && failure.is_none()) {
        return Vec::new();
    }
    let applied = match (&target.watched, &report.watched) {
        (Some(watched), Some(seen)) => match &watched.demand {
            Ok(policy) => judged(domain, facts, policy, seen.failure.as_ref()),
            Err(cause) => vec![(policy_of(domain, cause, Some(facts)), Some(FailedTry::by(cause)))],
        },
        (Some(_), None) => Vec::new(),
        (None, _) => judged(domain, facts, &report.policy, failure.or(report.tls_failure.as_ref())),
    };
    let in_clear = report.tls == Some(TlsVerdict::ClearText);
    let session = |(policy, failing): (AppliedPolicy, Option<FailedTry>)| {
        let failing = failing.or_else(|| in_clear.then(FailedTry::without_tls));
        let failure = failing.map(|failing| SessionFailure {
            result_type: failing.result_type,
            sending_address: None,
            mx_host: Some(report.peer.host.clone()),
            mx_address: Some(report.peer.address.ip()),
            reason: Some(failing.reason),
        });
        TlsSession { domain: domain.to_string(), policy, failure }.bounded()
    };
    applied.into_iter().map(session).collect()
}

/// What a host or a next hop counts as to which no connection was made; `None` where the reason has nothing to do
/// with TLS.
pub(super) fn of_untried(
    domain: &Domain,
    host: Option<&str>,
    cause: &Cause,
    facts: Option<&RouteFacts>,
) -> Option<TlsSession> {
    let cause = inner(cause);
    cause.row().result_type?;
    let FailedTry { result_type, reason } = FailedTry::by(cause);
    let (sending_address, mx_address) = (None, None);
    let failure = SessionFailure {
        result_type,
        sending_address,
        mx_host: host.map(str::to_owned),
        mx_address,
        reason: Some(reason),
    };
    let policy = policy_of(domain, cause, facts);
    Some(TlsSession { domain: domain.to_string(), policy, failure: Some(failure) }.bounded())
}

/// How a try failed, before it is known where.
struct FailedTry {
    result_type: String,
    reason: String,
}

impl FailedTry {
    fn by(cause: &Cause) -> Self {
        let row = inner(cause).row();
        // A demand of ours that fails for a reason without a result type failed to validate.
        let result_type = row.result_type.unwrap_or("validation-failure").to_owned();
        Self { result_type, reason: reason(inner(cause)) }
    }

    fn without_tls() -> Self {
        Self { result_type: "starttls-not-supported".to_owned(), reason: "starttls-not-supported".to_owned() }
    }
}

/// The word of the cause, and what says more to those who run the server; nothing of our own network.
fn reason(cause: &Cause) -> String {
    let word = cause.row().word;
    if let Cause::TlsHandshake { detail, .. } = cause {
        return format!("{word}: {detail}");
    }
    if let Cause::DaneMismatch { failure, .. } = cause {
        return format!("{word}: {failure}");
    }
    if let Cause::CertificateRejected { failure, .. } = cause {
        return format!("{word}: {failure}");
    }
    if let Cause::StarttlsRefused { reply, .. } = cause {
        return format!("{word}: STARTTLS was answered with {}", reply.code);
    }
    if let Cause::DnsBogus { question, .. } | Cause::DnsUnavailable { question, .. } = cause {
        return format!("{word}: {question}");
    }
    word.to_owned()
}

/// The failure of an outcome, where it is one of TLS.
fn tls_failure(outcome: &DeliveryOutcome) -> Option<&Cause> {
    match outcome {
        DeliveryOutcome::Delivered { .. } => None,
        DeliveryOutcome::Failed { cause } => Some(inner(cause)).filter(|cause| cause.row().result_type.is_some()),
    }
}

/// What lies below a demand of the sender.
fn inner(cause: &Cause) -> &Cause {
    if let Cause::RequireTlsUnmet { failure: RequireTlsFailure::Tls { cause }, .. } = cause {
        return inner(cause);
    }
    cause
}

/// The policies that were applied, each with its failure.
fn judged(
    domain: &Domain,
    facts: &RouteFacts,
    policy: &TlsPolicy,
    failure: Option<&Cause>,
) -> Vec<(AppliedPolicy, Option<FailedTry>)> {
    let failing = |kind| failure.filter(|cause| is_about(cause, kind)).map(FailedTry::by);
    match policy {
        TlsPolicy::Off | TlsPolicy::Opportunistic { because: WhyOpportunistic::Exception } => Vec::new(),
        TlsPolicy::Dane(dane) => {
            vec![(tlsa(&dane.base_domain, &dane.records), failure.map(FailedTry::by))]
        }
        TlsPolicy::WebPkiAndDane { dane, .. } => {
            let both = [
                (tlsa(&dane.base_domain, &dane.records), failing(PolicyType::Tlsa)),
                (sts(domain, facts), failing(PolicyType::Sts)),
            ];
            // Of the one that was not come to nothing is known.
            both.into_iter().filter(|(_, failing)| failure.is_none() || failing.is_some()).collect()
        }
        TlsPolicy::Encrypt { base_domain: Some(base_domain), .. } => {
            let unusable = || FailedTry {
                result_type: "tlsa-invalid".to_owned(),
                reason: "tlsa-invalid: no TLSA record is usable for SMTP".to_owned(),
            };
            let failing = failure.map_or_else(unusable, FailedTry::by);
            vec![(tlsa(base_domain, published(facts, base_domain)), Some(failing))]
        }
        TlsPolicy::WebPki { .. } if matches!(facts.sts, StsState::Policy(_)) => {
            vec![(sts(domain, facts), failure.map(FailedTry::by))]
        }
        TlsPolicy::Opportunistic { .. } | TlsPolicy::Encrypt { .. } | TlsPolicy::WebPki { .. } => {
            vec![without_policy(domain, facts, failure)]
        }
    }
}

/// Nothing was found that could be applied: because there is nothing, or because it could not be fetched.
fn without_policy(domain: &Domain, facts: &RouteFacts, failure: Option<&Cause>) -> (AppliedPolicy, Option<FailedTry>) {
    match &facts.sts {
        StsState::Absent(StsAbsent::FetchFailed(fetch)) => {
            let (result_type, reason) = (fetch.result_type().to_owned(), fetch.to_string());
            (bare(PolicyType::Sts, domain.as_str()), Some(FailedTry { result_type, reason }))
        }
        StsState::Absent(StsAbsent::Unknown(_)) => {
            let result_type = StsFault::FetchError.result_type().to_owned();
            let reason = "the TXT record at _mta-sts could not be looked up".to_owned();
            (bare(PolicyType::Sts, domain.as_str()), Some(FailedTry { result_type, reason }))
        }
        StsState::Absent(_) | StsState::Policy(_) => {
            (bare(PolicyType::NoPolicyFound, domain.as_str()), failure.map(FailedTry::by))
        }
    }
}

/// Whether a failure is one of this policy, where two are applied.
fn is_about(cause: &Cause, kind: PolicyType) -> bool {
    let other = match kind {
        PolicyType::Tlsa => matches!(inner(cause), Cause::CertificateRejected { .. } | Cause::StsMxNotListed { .. }),
        PolicyType::Sts => matches!(inner(cause), Cause::DaneMismatch { .. }),
        PolicyType::NoPolicyFound => false,
    };
    !other
}

/// The policy that a cause is about where it was not applied.
fn policy_of(domain: &Domain, cause: &Cause, facts: Option<&RouteFacts>) -> AppliedPolicy {
    if let Cause::DnsUnavailable { question, .. } | Cause::DnsBogus { question, .. } = cause {
        return of_question(domain, question);
    }
    if let Cause::DaneRequired { host, .. } = cause {
        return bare(PolicyType::Tlsa, host);
    }
    if matches!(cause, Cause::StsMxNotListed { .. } | Cause::StsRequired { .. } | Cause::StsPolicyLost { .. }) {
        return facts.map_or_else(|| bare(PolicyType::Sts, domain.as_str()), |facts| sts(domain, facts));
    }
    bare(PolicyType::NoPolicyFound, domain.as_str())
}

/// What a question of the DNS is asked for: the TLSA records of a base domain, the policy of a domain, or the hosts
/// that DANE needs to be signed (RFC 7672 §2.2).
fn of_question(domain: &Domain, question: &Question) -> AppliedPolicy {
    match question.record_type.as_str() {
        "TLSA" => {
            let base_domain = question.name.splitn(3, '.').nth(2).unwrap_or(&question.name);
            bare(PolicyType::Tlsa, base_domain)
        }
        "TXT" => bare(PolicyType::Sts, domain.as_str()),
        _ => bare(PolicyType::Tlsa, domain.as_str()),
    }
}

fn bare(kind: PolicyType, domain: &str) -> AppliedPolicy {
    AppliedPolicy { kind, domain: domain.to_owned(), strings: Vec::new(), mx_host: Vec::new() }
}

fn tlsa(base_domain: &Domain, records: &[TlsaRecord]) -> AppliedPolicy {
    let strings = records.iter().map(ToString::to_string).collect();
    AppliedPolicy { strings, ..bare(PolicyType::Tlsa, base_domain.as_str()) }
}

/// All TLSA records that a host has, usable or not.
fn published<'f>(facts: &'f RouteFacts, base_domain: &Domain) -> &'f [TlsaRecord] {
    let records = facts.resolution.hosts.iter().find_map(|host| match &host.tlsa {
        TlsaLookup::Present { base_domain: found, records } if found == base_domain => Some(records.as_slice()),
        TlsaLookup::Present { .. } | TlsaLookup::Absent(_) | TlsaLookup::Unavailable(_) => None,
    });
    records.unwrap_or_default()
}

fn sts(domain: &Domain, facts: &RouteFacts) -> AppliedPolicy {
    match &facts.sts {
        StsState::Policy(policy) => AppliedPolicy {
            strings: policy.text.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect(),
            mx_host: policy.terms.mx.iter().map(ToString::to_string).collect(),
            ..bare(PolicyType::Sts, policy.domain.as_str())
        },
        StsState::Absent(_) => bare(PolicyType::Sts, domain.as_str()),
    }
}

#[cfg(test)]
#[path = "tls_sessions_tests.rs"]
mod tests;
