//! From facts to a verdict about one MX host: the one place where it is decided what security a
//! message gets (RFC 7672 §2.2, RFC 8461 §2 and §5, RFC 8689 §4.2).
//!
//! # The rules
//!
//! What the recipient's side publishes comes first, then what the operator and the sender demand on
//! top; last what the operator or the sender forgives. Forgiving never touches a message that
//! REQUIRETLS protects, and never what the operator demands.
//!
//! | MX records | TLSA records of the host | demanded of it |
//! |---|---|---|
//! | signed | usable | DANE, and nothing else: it comes before MTA-STS |
//! | signed or not | none, or none usable | an enforced policy: listed, with a certificate that is valid for it |
//! | not signed | usable | DANE *and* an enforced policy where there is one |
//! | signed or not | could not be found out | nothing goes there |
//!
//! Nothing goes anywhere, either, where MTA-STS would decide and nobody can say whether a policy is in
//! force ([`StsAbsent::stops`]).
//!
//! Without a policy, DANE behind unsigned MX records stands alone. `dane_behind_insecure_mx = false`
//! takes TLSA records behind unsigned MX records as none.
//!
//! # A proof stands for nothing larger than itself
//!
//! DANE behind unsigned MX records proves a host, and whoever forges the MX records chooses the host:
//! RFC 7672 §2.2.1 allows it and claims nothing for the domain. So it adds to what the domain, the
//! operator or the sender demands, and never stands in for it:
//!
//! - An enforced policy holds beside it. A TLSA match could be argued to prove more about a *listed*
//!   host than a public authority does; but RFC 8461 §4.2 asks for a certificate that is valid by
//!   PKIX, and §2 only forbids that a good policy makes up for a failed DANE. Both must hold: that a domain
//!   is not less safe for its policy is certain then, however its host is run.
//! - `tls = "mta-sts"` wants a policy, `tls = "dane-only"` signed MX records, REQUIRETLS one of both;
//!   `tls = "encrypt"` demands no proof, and what is published is demanded beside it.
//!
//! # REQUIRETLS gives back what is known not to be had
//!
//! Mail with REQUIRETLS returns where a host is known not to keep it. What could not be found out lets
//! it wait, and so does a level of the operator that a host does not meet: this is no fault of the path,
//! and other mail to the domain waits for the same.
//!
//! # What decides is asked for, and what is asked for decides
//!
//! [`sts_matters`] is the decision itself, run without an answer of MTA-STS: it matters where the
//! decision cannot do without. So what is never asked for is never looked at.

use super::sts::policy::Mode;
use super::sts::{StsAbsent, StsPolicy, StsState};
use super::{DanePolicy, Decision, HostVerdict, TlsPolicy, Watched, WhyOpportunistic, dane};
use crate::config::TlsLevel;
use crate::envelope::TlsRequest;
use crate::outcome::{Cause, DaneScope, DemandedBy, MissingPolicy, RequireTlsFailure};
use crate::policy::exceptions::LocalRule;
use crate::resolve::{AbsentBecause, HostsFrom, MxHost, Resolution, Security, TlsaLookup};
use crate::smtp::address::Domain;
use std::convert::Infallible;

/// Patterns of a policy that a failure repeats: it is kept for every recipient, and told to each.
const LISTED_SHOWN: usize = 16;

/// All that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Facts<'a> {
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
pub(crate) fn decide(facts: &Facts<'_>, host: &MxHost) -> HostVerdict {
    let Ok(verdict) = Judge { facts, host, sts: &|| Ok::<_, Infallible>(facts.sts) }.verdict();
    verdict
}

/// Whether the verdict on some host depends on what MTA-STS says, which is not looked at here.
/// Where it does not, nobody has to wait for a policy host.
#[must_use]
pub(crate) fn sts_matters(facts: &Facts<'_>) -> bool {
    let undecided = |host| Judge { facts, host, sts: &|| Err(NotKnown) }.verdict().is_err();
    facts.resolution.hosts.iter().any(undecided)
}

/// Whether an answer of MTA-STS has something to do with a failure, so that a fresh look at the
/// policy may change it (RFC 8461 §5.1). A host that nothing names may be named by a policy that is
/// new.
#[must_use]
pub(crate) fn sts_may_have_changed(cause: &Cause) -> bool {
    let is_unnamed = matches!(cause, Cause::RequireTlsUnmet { failure: RequireTlsFailure::HostNotProven, .. });
    is_unnamed || cause.unprotected().is_some_and(|unprotected| unprotected.demanded_by == Some(DemandedBy::MtaSts))
}

/// What a failure means for a message with REQUIRETLS: what protects it is not to be had, and
/// waiting in a weaker form is no way out (RFC 8689 §4.2.1). Other failures stay what they are, and
/// so do demands of the operator, who asks for more than REQUIRETLS does.
#[must_use]
pub(crate) fn failed_under_require_tls(cause: Cause) -> Cause {
    if matches!(cause, Cause::RequireTlsUnmet { .. }) {
        return cause;
    }
    let lacking = cause.unprotected().filter(|lacking| lacking.demanded_by != Some(DemandedBy::Operator));
    let Some(host) = lacking.map(|lacking| lacking.host.to_owned()) else { return cause };
    Cause::RequireTlsUnmet { host, failure: RequireTlsFailure::Tls { cause: Box::new(cause) } }
}

fn watched(because: WhyOpportunistic, demand: Result<TlsPolicy, Cause>) -> HostVerdict {
    let watched = Some(Watched { because, demand });
    HostVerdict::Use(Decision { policy: opportunistic(because), watched, require_tls: false })
}

fn enforced(strict: Result<TlsPolicy, Cause>) -> HostVerdict {
    match strict {
        Ok(policy) => HostVerdict::Use(Decision { policy, watched: None, require_tls: false }),
        Err(cause) => HostVerdict::Skip(cause),
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

/// What must hold for the connection, or why there can be none.
type Demand = Result<TlsPolicy, Cause>;

/// What MTA-STS says is not known yet.
#[derive(Clone, Copy, Debug)]
struct NotKnown;

/// The decision about one host. Every step that needs what MTA-STS says asks `sts` for it, and
/// fails with `Unknown` where that has no answer.
struct Judge<'f, Unknown> {
    facts: &'f Facts<'f>,
    host: &'f MxHost,
    sts: &'f dyn Fn() -> Result<&'f StsState, Unknown>,
}

impl<'f, Unknown> Judge<'f, Unknown> {
    fn verdict(&self) -> Result<HostVerdict, Unknown> {
        let rule = self.facts.rule;
        if self.facts.request == TlsRequest::Required {
            let decision = |policy| Decision { policy, watched: None, require_tls: true };
            return Ok(self.require_tls()?.map_or_else(HostVerdict::Skip, |policy| HostVerdict::Use(decision(policy))));
        }
        let operators = match self.level() {
            Some(TlsLevel::Off) if !rule.report_only => Ok(TlsPolicy::Off),
            Some(TlsLevel::Opportunistic) if !rule.report_only => Ok(opportunistic(WhyOpportunistic::Exception)),
            Some(_) | None => self.demanded()?,
        };
        if !matches!(operators, Ok(TlsPolicy::Off | TlsPolicy::Opportunistic { .. })) {
            return Ok(match self.forgiven() {
                Some(because) => watched(because, operators),
                None => enforced(operators),
            });
        }
        // A policy in testing mode has nothing to say about a host of which something is demanded.
        Ok(match self.tested()? {
            Some(policy) => watched(WhyOpportunistic::StsTesting, by_policy(policy, self.host, operators)),
            None => enforced(operators),
        })
    }

    /// The operator's level. A weakening weakens nothing for REQUIRETLS (RFC 8689 §4.1).
    fn level(&self) -> Option<TlsLevel> {
        let is_protected = self.facts.request == TlsRequest::Required;
        self.facts.rule.level.filter(|level| !(is_protected && level.weakens()))
    }

    /// Who lets go of what is demanded.
    fn forgiven(&self) -> Option<WhyOpportunistic> {
        let Facts { rule, request, .. } = self.facts;
        if rule.report_only {
            return Some(WhyOpportunistic::ReportOnly);
        }
        let waives = *request == TlsRequest::Optional && !operator_demands(rule);
        waives.then_some(WhyOpportunistic::SenderWaives)
    }

    /// What the recipient's domain publishes and the operator demands on top of it.
    fn demanded(&self) -> Result<Demand, Unknown> {
        match self.level() {
            Some(TlsLevel::DaneOnly) => Ok(self.dane_only()),
            Some(TlsLevel::MtaSts) => self.named_by_the_domain(),
            Some(TlsLevel::Encrypt) => Ok(self.published()?.map(encrypted)),
            Some(TlsLevel::Dane | TlsLevel::Opportunistic | TlsLevel::Off) => Ok(self.dane()),
            None => self.published(),
        }
    }

    /// Mandatory DANE starts at the domain: its MX records are signed (RFC 7672 §6).
    fn dane_only(&self) -> Demand {
        let policy = self.dane()?;
        if matches!(policy, TlsPolicy::Dane(DanePolicy { scope: DaneScope::Domain, .. })) {
            return Ok(policy);
        }
        Err(Cause::DaneRequired { host: self.host.name.clone(), because: no_dane(self.facts, self.host) })
    }

    /// What the recipient's side publishes. Neither a good nor a testing policy may stand in for a
    /// DANE that failed (RFC 8461 §2); but where no TLSA record is usable, an enforced policy
    /// authenticates what DANE cannot.
    fn published(&self) -> Result<Demand, Unknown> {
        let dane = self.dane();
        if self.settles(&dane) {
            return Ok(dane);
        }
        Ok(match (self.sts)()? {
            StsState::Policy(policy) if policy.terms.mode == Mode::Enforce => by_policy(policy, self.host, dane),
            StsState::Policy(_) => dane,
            StsState::Absent(absent) => self.unsure(absent).map_or(dane, Err),
        })
    }

    /// What stops mail because nobody can say whether a policy is in force. Where the operator
    /// named the next hop, its addresses tell whether its zone is signed.
    fn unsure(&self, absent: &StsAbsent) -> Option<Cause> {
        let zone = match self.facts.resolution.hosts_from {
            HostsFrom::Mx | HostsFrom::ImplicitMx => self.facts.resolution.mx_security,
            HostsFrom::Configuration => self.host.security,
        };
        absent.stops(zone)
    }

    /// `tls = "mta-sts"` takes a policy in testing mode at its word, too.
    fn named_by_the_domain(&self) -> Result<Demand, Unknown> {
        let dane = self.dane();
        if self.settles(&dane) {
            return Ok(dane);
        }
        Ok(match (self.sts)()? {
            StsState::Policy(policy) => by_policy(policy, self.host, dane),
            StsState::Absent(absent) => Err(self.unsure(absent).unwrap_or_else(|| missing(self.facts, absent))),
        })
    }

    /// Whether DANE has said all there is to say: it speaks for the domain.
    fn settles(&self, dane: &Demand) -> bool {
        mx_is_signed(self.facts) && matches!(dane, Err(_) | Ok(TlsPolicy::Dane(_)))
    }

    /// A policy in testing mode, where the operator lets it count.
    fn tested(&self) -> Result<Option<&'f StsPolicy>, Unknown> {
        match self.level() {
            Some(TlsLevel::Dane | TlsLevel::Opportunistic | TlsLevel::Off) => Ok(None),
            Some(TlsLevel::Encrypt | TlsLevel::DaneOnly | TlsLevel::MtaSts) | None => Ok(match (self.sts)()? {
                StsState::Policy(policy) => Some(&**policy).filter(|policy| policy.terms.mode == Mode::Testing),
                StsState::Absent(_) => None,
            }),
        }
    }

    /// What the TLSA records of the host demand (RFC 7672 §2.2).
    fn dane(&self) -> Demand {
        let Facts { resolution, dane_behind_insecure_mx, .. } = self.facts;
        if !mx_is_signed(self.facts) && !dane_behind_insecure_mx {
            return Ok(opportunistic(WhyOpportunistic::NoPolicy(AbsentBecause::MxInsecure)));
        }
        let (base_domain, records) = match &self.host.tlsa {
            TlsaLookup::Unavailable(cause) => return Err(cause.clone()),
            TlsaLookup::Absent(because) => return Ok(opportunistic(WhyOpportunistic::NoPolicy(*because))),
            TlsaLookup::Present { base_domain, records } => (base_domain, dane::usable(records)),
        };
        if records.is_empty() {
            return Ok(TlsPolicy::Encrypt { base_domain: Some(base_domain.clone()), demanded_by: DemandedBy::Dane });
        }
        let mut references = vec![base_domain.clone()];
        references.extend(resolution.references.iter().filter(|r| *r != base_domain).cloned());
        let scope = if mx_is_signed(self.facts) { DaneScope::Domain } else { DaneScope::Host };
        Ok(TlsPolicy::Dane(DanePolicy { base_domain: base_domain.clone(), records, references, scope }))
    }

    /// REQUIRETLS: the host is the right one by DNSSEC or MTA-STS, and shows a certificate that
    /// proves it (RFC 8689 §4.2.1).
    fn require_tls(&self) -> Result<Demand, Unknown> {
        let policy = match self.demanded()? {
            Ok(policy) => policy,
            Err(cause @ (Cause::DaneRequired { .. } | Cause::StsRequired { .. })) => {
                return Ok(Err(self.unnamed()?.unwrap_or(cause)));
            }
            Err(cause) => return Ok(Err(cause)),
        };
        match (&policy, mx_is_signed(self.facts), self.host.name.parse()) {
            (TlsPolicy::WebPki { .. } | TlsPolicy::WebPkiAndDane { .. }, _, _) | (TlsPolicy::Dane(_), true, _) => {
                Ok(Ok(policy))
            }
            (_, true, Ok(host)) => Ok(Ok(TlsPolicy::WebPki { host, demanded_by: DemandedBy::RequireTls })),
            (_, true, Err(_)) => Ok(Err(self.not_proven())),
            (_, false, _) => Ok(Err(self.not_named((self.sts)()?))),
        }
    }

    /// Why REQUIRETLS could not be kept at this host even if the operator demanded nothing.
    fn unnamed(&self) -> Result<Option<Cause>, Unknown> {
        if mx_is_signed(self.facts) {
            return Ok(None);
        }
        let sts = (self.sts)()?;
        let is_named = match sts {
            StsState::Policy(policy) => policy.terms.mode == Mode::Enforce && listed(policy, self.host).is_ok(),
            StsState::Absent(_) => false,
        };
        Ok((!is_named).then(|| self.not_named(sts)))
    }

    /// Why nobody says that this is a host of the domain. That we could not find out is no reason
    /// to give the message back.
    fn not_named(&self, sts: &StsState) -> Cause {
        match sts {
            StsState::Absent(absent @ StsAbsent::FetchFailed(_)) => missing(self.facts, absent),
            StsState::Absent(absent) => absent.stops(Security::Secure).unwrap_or_else(|| self.not_proven()),
            StsState::Policy(_) => self.not_proven(),
        }
    }

    fn not_proven(&self) -> Cause {
        let (host, failure) = (self.host.name.clone(), RequireTlsFailure::HostNotProven);
        Cause::RequireTlsUnmet { host, failure }
    }
}

/// At least TLS, because the operator says so.
fn encrypted(published: TlsPolicy) -> TlsPolicy {
    match published {
        TlsPolicy::Off | TlsPolicy::Opportunistic { .. } => {
            TlsPolicy::Encrypt { base_domain: None, demanded_by: DemandedBy::Operator }
        }
        TlsPolicy::Encrypt { .. } | TlsPolicy::Dane(_) | TlsPolicy::WebPki { .. } | TlsPolicy::WebPkiAndDane { .. } => {
            published
        }
    }
}

/// What a policy demands of the host when it is taken at its word, whatever its mode (RFC 8461 §4.1,
/// §4.2), and what DANE demands beside it. To a host that is not listed nothing goes, and nothing
/// else about it matters.
fn by_policy(policy: &StsPolicy, host: &MxHost, dane: Demand) -> Demand {
    let listed = listed(policy, host)?;
    Ok(match dane? {
        TlsPolicy::Dane(dane) => TlsPolicy::WebPkiAndDane { host: listed, dane },
        TlsPolicy::Off
        | TlsPolicy::Opportunistic { .. }
        | TlsPolicy::Encrypt { .. }
        | TlsPolicy::WebPki { .. }
        | TlsPolicy::WebPkiAndDane { .. } => TlsPolicy::WebPki { host: listed, demanded_by: DemandedBy::MtaSts },
    })
}

/// The name of a host that the policy lists.
fn listed(policy: &StsPolicy, host: &MxHost) -> Result<Domain, Cause> {
    match (policy.allows(&host.name), host.name.parse()) {
        (true, Ok(host)) => Ok(host),
        (true, Err(_)) | (false, _) => Err(Cause::StsMxNotListed {
            domain: policy.domain.clone(),
            host: host.name.clone(),
            listed: patterns(policy),
            policy_id: policy.id.as_ref().map(ToString::to_string),
        }),
    }
}

/// The patterns of a policy as a failure repeats them.
fn patterns(policy: &StsPolicy) -> Vec<String> {
    let (all, shown) = (policy.terms.mx.len(), policy.terms.mx.iter().take(LISTED_SHOWN));
    let more = all.checked_sub(LISTED_SHOWN).filter(|more| *more > 0).map(|more| format!("and {more} more"));
    shown.map(ToString::to_string).chain(more).collect()
}

/// A policy is demanded and there is none.
fn missing(facts: &Facts<'_>, absent: &StsAbsent) -> Cause {
    let fault = match absent {
        StsAbsent::FetchFailed(failure) => Some(failure.fault()),
        StsAbsent::NoRecord
        | StsAbsent::UnusableRecord(_)
        | StsAbsent::Unknown(_)
        | StsAbsent::ModeNone
        | StsAbsent::AddressLiteral
        | StsAbsent::NotNeeded
        | StsAbsent::SwitchedOff
        | StsAbsent::Lost { .. } => None,
    };
    let missing = MissingPolicy { detail: absent.phrase(), fault };
    Cause::StsRequired { domain: facts.resolution.next_hop.clone(), missing }
}

fn mx_is_signed(facts: &Facts<'_>) -> bool {
    match facts.resolution.mx_security {
        Security::Secure => true,
        Security::Insecure | Security::Bogus | Security::Indeterminate => false,
    }
}

/// Why there is no DANE, as a phrase.
fn no_dane(facts: &Facts<'_>, host: &MxHost) -> String {
    match &host.tlsa {
        _ if !mx_is_signed(facts) => AbsentBecause::MxInsecure.phrase().to_owned(),
        TlsaLookup::Absent(because) => because.phrase().to_owned(),
        TlsaLookup::Unavailable(cause) => cause.sentence(),
        TlsaLookup::Present { records, .. } => format!("none of its {} TLSA records is usable", records.len()),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
