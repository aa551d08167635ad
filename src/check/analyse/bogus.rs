//! Answers that do not prove themselves: the zone's fault, or our clock's (pure)
//! (RFC 4035 §5.3.1).

use super::{Certainty, CheckFinding};
use crate::check::evidence::{Evidence, LookupVerdict, ProbeRole, Whom};
use crate::clock::Timestamp;
use crate::outcome::{Cause, Side};

/// Whether our clock stands outside the time in which the root's own signatures hold. The root is
/// never late; so the clock is wrong.
pub(super) fn clock(evidence: &Evidence) -> Option<CheckFinding> {
    let mut roots = evidence.dns.iter().filter(|probe| probe.role == ProbeRole::Root);
    let outside = |probe: &&crate::check::evidence::DnsProbe| {
        probe.seen.signatures.is_some_and(|(from, until)| !holds(from, until, probe.seen.at))
    };
    let probe = roots.find(outside)?;
    let (from, until) = probe.seen.signatures?;
    let moment = |seconds: u32| Timestamp(i64::from(seconds) * 1000).rfc3339();
    let sentence = format!(
        "The clock of this host is wrong: it says {}, and the signatures of the DNS root hold from {} to {}.",
        probe.seen.at,
        moment(from),
        moment(until)
    );
    let mut finding = CheckFinding::new("local-clock-wrong", Side::Here, Certainty::Proven, sentence);
    finding.proof = vec![format!("the root's keys, by {}: not valid by this clock", probe.server)];
    Some(finding.bridged("set the clock, and keep it set by NTP; waiting mail goes out by itself".into()))
}

/// RFC 4034 §3.1.5; years beyond 2106 are not looked at here.
fn holds(from: u32, until: u32, at: Timestamp) -> bool {
    let now = at.unix_seconds();
    i64::from(from) <= now && now <= i64::from(until)
}

/// An answer that does not prove itself on our way, and does on another: somebody changes it.
pub(super) fn changed_here(evidence: &Evidence) -> Option<CheckFinding> {
    let Some(Cause::DnsBogus { question, detail }) = &evidence.delivery.cause else { return None };
    let other = evidence.opinions.iter().find(|opinion| opinion.said == LookupVerdict::Valid)?;
    let sentence = format!(
        "The answer to {question} does not prove itself the way it comes to this host, and by {} it does: the resolver, \
         or a box before it, changes it.",
        other.by
    );
    let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Proven, sentence);
    finding.proof = vec![format!("validator: {detail}"), format!("the same question by {}: valid", other.by)];
    Some(finding.bridged(format!("add \"{}\" to upstreams in [dns]: what proves itself may come by any way", other.by)))
}

/// What the servers of the zone themselves sign wrongly is proven to be theirs.
pub(super) fn certainty(evidence: &Evidence) -> Certainty {
    let failed = || evidence.troubled.iter().flat_map(|troubled| &troubled.failed);
    let by_authority = failed().any(|f| f.upstream == "authoritative" && f.detail.starts_with("bogus"));
    let expired = evidence
        .dns
        .iter()
        .filter(|probe| probe.whom == Whom::Authority && probe.role == ProbeRole::Subject)
        .any(|probe| probe.seen.signatures.is_some_and(|(from, until)| !holds(from, until, probe.seen.at)));
    let agreed = evidence.opinions.iter().any(|opinion| opinion.said == LookupVerdict::Bogus);
    if by_authority || expired || agreed { Certainty::Proven } else { Certainty::Likely }
}
