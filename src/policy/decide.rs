//! From facts to a verdict about one MX host: the one place where it is decided what security a
//! message gets (RFC 7672 §2.2, RFC 8461 §2 and §5, RFC 8689 §4.2).
//!
//! What the recipient's domain publishes comes first, DANE before MTA-STS; then what the operator
//! and the sender demand on top; last what the operator or the sender forgives. Forgiving never
//! touches a message that REQUIRETLS protects, and never what the operator demands.

use super::local::LocalRule;
use super::sts::policy::Mode;
use super::sts::{StsAbsent, StsPolicy, StsState};
use super::{DanePolicy, Decision, TlsPolicy, Verdict, Watched, WhyOpportunistic, dane};
use crate::config::TlsLevel;
use crate::envelope::TlsRequest;
use crate::outcome::{Cause, DaneScope, DemandedBy, MissingPolicy, RequireTlsFailure};
use crate::resolve::{AbsentBecause, HostsFrom, MxHost, Resolution, Security, TlsaLookup};
use crate::smtp::address::Domain;

/// Patterns of a policy that a failure repeats: it is kept for every recipient, and told to each.
const LISTED_SHOWN: usize = 16;

/// All that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// What the DNS says about the next hop.
    pub resolution: &'a Resolution,
    /// What MTA-STS says about it.
    pub sts: &'a StsState,
    /// What the operator says about it.
    pub rule: &'a LocalRule,
    /// What the sender of the message says.
    pub request: TlsRequest,
    /// Whether TLSA records of a host count though the MX records that lead to it are not signed
    /// (RFC 7672 §2.2.1).
    pub dane_behind_insecure_mx: bool,
}

/// Decides about one host of the resolution.
#[must_use]
pub fn decide(facts: &Facts<'_>, host: &MxHost) -> Verdict {
    if facts.request == TlsRequest::Required {
        return match require_tls(facts, host) {
            Ok(policy) => Verdict::Use(Decision { policy, watched: None, require_tls: true }),
            Err(cause) => Verdict::Skip(cause),
        };
    }
    let rule = facts.rule;
    let operators = match rule.level {
        Some(TlsLevel::Off) if !rule.report_only => Ok(TlsPolicy::Off),
        Some(TlsLevel::Opportunistic) if !rule.report_only => Ok(opportunistic(WhyOpportunistic::Exception)),
        Some(_) | None => demanded(facts, host),
    };
    let is_free = matches!(operators, Ok(TlsPolicy::Off | TlsPolicy::Opportunistic { .. }));
    let forgiven = if rule.report_only {
        Some(WhyOpportunistic::ReportOnly)
    } else if facts.request == TlsRequest::Optional && !operator_demands(rule) {
        Some(WhyOpportunistic::SenderWaives)
    } else {
        None
    };
    match (forgiven, tested_policy(facts)) {
        (Some(because), _) if !is_free => watched(because, operators),
        // A policy in testing mode has nothing to say about a host with DANE.
        (_, Some(policy)) if is_free => watched(WhyOpportunistic::StsTesting, sts_demand(policy, host)),
        (_, _) => enforced(operators),
    }
}

/// Whether the answer to "what does MTA-STS say" can make a difference: not where every host has
/// usable TLSA records, and so nobody has to wait for a policy host there.
#[must_use]
pub fn sts_matters(resolution: &Resolution) -> bool {
    let has_dane = |host: &MxHost| match &host.tlsa {
        TlsaLookup::Present { records, .. } => !dane::usable(records).is_empty(),
        TlsaLookup::Absent(_) | TlsaLookup::Unavailable(_) => false,
    };
    !resolution.hosts.iter().all(has_dane)
}

/// Whether an answer of MTA-STS has something to do with a failure, so that a fresh look at the
/// policy may change it (RFC 8461 §5.1).
#[must_use]
pub fn sts_may_have_changed(cause: &Cause) -> bool {
    cause.unprotected().is_some_and(|unprotected| unprotected.demanded_by == Some(DemandedBy::MtaSts))
}

/// What a failure means for a message with REQUIRETLS: what protects it is not to be had, and
/// waiting in a weaker form is no way out (RFC 8689 §4.2.1). Other failures stay what they are.
#[must_use]
pub fn failed_under_require_tls(cause: Cause) -> Cause {
    if matches!(cause, Cause::RequireTlsUnmet { .. }) {
        return cause;
    }
    let Some(host) = cause.unprotected().map(|unprotected| unprotected.host.to_owned()) else { return cause };
    Cause::RequireTlsUnmet { host, failure: RequireTlsFailure::Tls { cause: Box::new(cause) } }
}

fn watched(because: WhyOpportunistic, demand: Result<TlsPolicy, Cause>) -> Verdict {
    let watched = Some(Watched { because, demand });
    Verdict::Use(Decision { policy: opportunistic(because), watched, require_tls: false })
}

fn enforced(strict: Result<TlsPolicy, Cause>) -> Verdict {
    match strict {
        Ok(policy) => Verdict::Use(Decision { policy, watched: None, require_tls: false }),
        Err(cause) => Verdict::Skip(cause),
    }
}

const fn opportunistic(because: WhyOpportunistic) -> TlsPolicy {
    TlsPolicy::Opportunistic { because }
}

/// `TLS-Required: No` waives what the recipient's side demands, not what our own side does
/// (RFC 8689 §4.2.2).
const fn operator_demands(rule: &LocalRule) -> bool {
    match rule.level {
        Some(TlsLevel::Encrypt | TlsLevel::DaneOnly | TlsLevel::MtaSts) => true,
        Some(TlsLevel::Opportunistic | TlsLevel::Dane | TlsLevel::Off) | None => false,
    }
}

/// What the domain publishes and the operator demands on top of it.
fn demanded(facts: &Facts<'_>, host: &MxHost) -> Result<TlsPolicy, Cause> {
    let published = published(facts, host)?;
    match (facts.rule.level, &published) {
        // Mandatory DANE starts at the domain: its MX records are signed (RFC 7672 §6).
        (Some(TlsLevel::DaneOnly), TlsPolicy::Dane(DanePolicy { scope: DaneScope::Domain, .. })) => Ok(published),
        (Some(TlsLevel::DaneOnly), _) => {
            Err(Cause::DaneRequired { host: host.name.clone(), because: no_dane(facts, host) })
        }
        (Some(TlsLevel::MtaSts), TlsPolicy::Dane(_) | TlsPolicy::WebPki { .. }) => Ok(published),
        (Some(TlsLevel::MtaSts), _) => sts_in_any_mode(facts, host),
        (Some(TlsLevel::Encrypt), TlsPolicy::Opportunistic { .. }) => {
            Ok(TlsPolicy::Encrypt { base_domain: None, demanded_by: DemandedBy::Operator })
        }
        (Some(TlsLevel::Encrypt | TlsLevel::Dane | TlsLevel::Opportunistic | TlsLevel::Off) | None, _) => Ok(published),
    }
}

/// What the recipient's domain publishes: DANE where it applies, else an enforced MTA-STS policy.
/// Neither a good nor a testing policy may stand in for a DANE that failed (RFC 8461 §2); but
/// where no TLSA record is usable, an enforced policy authenticates what DANE cannot.
fn published(facts: &Facts<'_>, host: &MxHost) -> Result<TlsPolicy, Cause> {
    let dane = dane_demand(facts, host)?;
    if matches!(dane, TlsPolicy::Dane(_)) {
        return Ok(dane);
    }
    if let Some(cause) = sts_unknown(facts, host) {
        return Err(cause);
    }
    match sts_policy(facts) {
        Some(policy) if policy.terms.mode == Mode::Enforce => sts_demand(policy, host),
        Some(_) | None => Ok(dane),
    }
}

/// What stops mail because nobody can say whether a policy is in force, where the operator lets
/// one count. Where he named the next hop, its addresses tell whether its zone is signed.
fn sts_unknown(facts: &Facts<'_>, host: &MxHost) -> Option<Cause> {
    let (StsState::Absent(absent), true) = (facts.sts, sts_counts(facts.rule)) else { return None };
    let zone = match facts.resolution.hosts_from {
        HostsFrom::Mx | HostsFrom::ImplicitMx => facts.resolution.mx_security,
        HostsFrom::Configuration => host.security,
    };
    absent.stops(zone != Security::Insecure)
}

/// What the TLSA records of the host demand (RFC 7672 §2.2).
fn dane_demand(facts: &Facts<'_>, host: &MxHost) -> Result<TlsPolicy, Cause> {
    if mx_is_too_weak(facts) {
        return Ok(opportunistic(WhyOpportunistic::NoPolicy(AbsentBecause::MxInsecure)));
    }
    let (base_domain, records) = match &host.tlsa {
        TlsaLookup::Unavailable(cause) => return Err(cause.clone()),
        TlsaLookup::Absent(because) => return Ok(opportunistic(WhyOpportunistic::NoPolicy(*because))),
        TlsaLookup::Present { base_domain, records } => (base_domain, dane::usable(records)),
    };
    if records.is_empty() {
        return Ok(TlsPolicy::Encrypt { base_domain: Some(base_domain.clone()), demanded_by: DemandedBy::Dane });
    }
    let mut references = vec![base_domain.clone()];
    references.extend(facts.resolution.references.iter().filter(|r| *r != base_domain).cloned());
    let scope = match facts.resolution.mx_security {
        Security::Secure => DaneScope::Domain,
        Security::Insecure | Security::Bogus | Security::Indeterminate => DaneScope::Host,
    };
    Ok(TlsPolicy::Dane(DanePolicy { base_domain: base_domain.clone(), records, references, scope }))
}

fn mx_is_too_weak(facts: &Facts<'_>) -> bool {
    !facts.dane_behind_insecure_mx && facts.resolution.mx_security != Security::Secure
}

/// Why there is no DANE, as a phrase.
fn no_dane(facts: &Facts<'_>, host: &MxHost) -> String {
    match &host.tlsa {
        _ if facts.resolution.mx_security != Security::Secure => AbsentBecause::MxInsecure.phrase().to_owned(),
        TlsaLookup::Absent(because) => because.phrase().to_owned(),
        TlsaLookup::Unavailable(cause) => cause.sentence(),
        TlsaLookup::Present { records, .. } => format!("none of its {} TLSA records is usable", records.len()),
    }
}

/// The policy of the domain, where the operator lets it count.
fn sts_policy<'f>(facts: &Facts<'f>) -> Option<&'f StsPolicy> {
    match (sts_counts(facts.rule), facts.sts) {
        (false, _) | (_, StsState::Absent(_)) => None,
        (true, StsState::Policy(policy)) => Some(policy),
    }
}

const fn sts_counts(rule: &LocalRule) -> bool {
    match rule.level {
        Some(TlsLevel::Dane | TlsLevel::Opportunistic | TlsLevel::Off) => false,
        Some(TlsLevel::Encrypt | TlsLevel::DaneOnly | TlsLevel::MtaSts) | None => true,
    }
}

fn tested_policy<'f>(facts: &Facts<'f>) -> Option<&'f StsPolicy> {
    sts_policy(facts).filter(|policy| policy.terms.mode == Mode::Testing)
}

/// What the policy demands of the host when it is taken at its word, whatever its mode
/// (RFC 8461 §4.1, §4.2).
fn sts_demand(policy: &StsPolicy, host: &MxHost) -> Result<TlsPolicy, Cause> {
    match (policy.allows(&host.name), host.name.parse()) {
        (true, Ok(host)) => Ok(TlsPolicy::WebPki { host, demanded_by: DemandedBy::MtaSts }),
        (true, Err(_)) | (false, _) => Err(Cause::StsMxNotListed {
            domain: policy.domain.clone(),
            host: host.name.clone(),
            listed: listed(policy),
            policy_id: policy.id.as_ref().map(ToString::to_string),
        }),
    }
}

/// The patterns of a policy as a failure repeats them.
fn listed(policy: &StsPolicy) -> Vec<String> {
    let (all, shown) = (policy.terms.mx.len(), policy.terms.mx.iter().take(LISTED_SHOWN));
    let more = all.checked_sub(LISTED_SHOWN).filter(|more| *more > 0).map(|more| format!("and {more} more"));
    shown.map(ToString::to_string).chain(more).collect()
}

/// `tls = "mta-sts"` takes a policy in testing mode at its word, too.
fn sts_in_any_mode(facts: &Facts<'_>, host: &MxHost) -> Result<TlsPolicy, Cause> {
    let absent = match facts.sts {
        StsState::Policy(policy) => return sts_demand(policy, host),
        StsState::Absent(absent) => absent,
    };
    let fault = match absent {
        StsAbsent::FetchFailed(failure) => Some(failure.fault()),
        StsAbsent::NoRecord
        | StsAbsent::UnusableRecord(_)
        | StsAbsent::Unknown(_)
        | StsAbsent::ModeNone
        | StsAbsent::AddressLiteral
        | StsAbsent::DaneInstead
        | StsAbsent::SwitchedOff
        | StsAbsent::Lost { .. } => None,
    };
    let missing = MissingPolicy { detail: absent.phrase(), fault };
    Err(Cause::StsRequired { domain: facts.resolution.next_hop.clone(), missing })
}

/// REQUIRETLS: the host is the right one by DNSSEC or MTA-STS, and shows a certificate that
/// proves it (RFC 8689 §4.2.1).
fn require_tls(facts: &Facts<'_>, host: &MxHost) -> Result<TlsPolicy, Cause> {
    let policy = demanded(facts, host)?;
    let by_dns = facts.resolution.mx_security == Security::Secure;
    let by_sts = matches!(policy, TlsPolicy::WebPki { .. });
    let name: Option<Domain> = host.name.parse().ok();
    match (policy, name) {
        (policy @ (TlsPolicy::Dane(_) | TlsPolicy::WebPki { .. }), _) if by_dns || by_sts => Ok(policy),
        (_, Some(host)) if by_dns => Ok(TlsPolicy::WebPki { host, demanded_by: DemandedBy::RequireTls }),
        (_, _) => Err(Cause::RequireTlsUnmet { host: host.name.clone(), failure: RequireTlsFailure::HostNotProven }),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
