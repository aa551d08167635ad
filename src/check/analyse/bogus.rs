//! Answers that do not prove themselves: the zone's fault, or our clock's (pure)
//! (RFC 4035 §5.3.1).

use super::{Certainty, CheckFinding, proof, witness};
use crate::check::evidence::{DnsProbe, Evidence, LookupVerdict, ProbeRole, Whom};
use crate::clock::Timestamp;
use crate::outcome::{Cause, Question, Side};
use crate::resolve::probe::{ProbeReply, ProbeTransport};

/// The zone's own servers, in the words of the configuration.
const AUTHORITATIVE: &str = "authoritative";

/// Whether our clock stands outside the time in which the root's own signatures hold. The root is
/// never late; so the clock is wrong.
pub(super) fn clock(evidence: &Evidence) -> Option<CheckFinding> {
    let mut roots = evidence.dns.iter().filter(|probe| probe.role == ProbeRole::Root);
    let outside =
        |probe: &&DnsProbe| probe.seen.signatures.is_some_and(|(from, until)| !holds(from, until, probe.seen.at));
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

/// Whether the root signs with keys of which none is among those that are trusted here. Nobody but the root
/// has its keys: so either ours are not the root's, or whoever answers plays a root of its own.
pub(super) fn anchors(evidence: &Evidence) -> Option<CheckFinding> {
    let failed = || evidence.troubled.iter().flat_map(|troubled| &troubled.failed);
    let is_bogus = failed().any(|failure| failure.detail.contains("bogus"));
    let foreign = |probe: &&DnsProbe| {
        !probe.seen.key_tags.is_empty() && !probe.seen.key_tags.iter().any(|tag| evidence.anchors.contains(tag))
    };
    let all: Vec<&DnsProbe> = evidence.dns.iter().filter(|probe| !probe.seen.key_tags.is_empty()).collect();
    if !is_bogus || evidence.anchors.is_empty() || all.is_empty() || !all.iter().all(foreign) {
        return None;
    }
    let tags = |tags: &[u16]| tags.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let root = all.first().map(|probe| tags(&probe.seen.key_tags)).unwrap_or_default();
    let sentence = format!(
        "The trust anchors of this host are not the keys of the root: it trusts {}, and the root signs with {root}.",
        tags(&evidence.anchors)
    );
    // Who is asked encrypted is nobody that a box could play.
    let elsewhere = all.iter().any(|probe| probe.seen.transport == ProbeTransport::Encrypted);
    let certainty = if elsewhere { Certainty::Proven } else { Certainty::Likely };
    let mut finding = CheckFinding::new("local-trust-anchor", Side::Here, certainty, sentence);
    if !elsewhere {
        finding.also = vec!["resolver-side"];
    }
    finding.proof =
        all.iter().map(|p| format!("the root's keys by {}: {}", p.server, tags(&p.seen.key_tags))).collect();
    finding.proof.dedup();
    finding.proof.extend(failed().take(1).map(|failure| format!("validator: {}", failure.detail)));
    Some(finding.bridged("renew the file that trust_anchors in [dns] names, or set it to \"builtin\"".into()))
}

/// An answer that does not prove itself on our way, and does on another or is not the zone's:
/// somebody changes it.
pub(super) fn changed_here(evidence: &Evidence) -> Option<CheckFinding> {
    let Some(Cause::DnsBogus { question, detail }) = &evidence.delivery.cause else { return None };
    let mut finding = if let Some(cut) = cut(evidence) {
        cut
    } else if let Some(sound) = evidence.opinions.iter().find(|opinion| opinion.said == LookupVerdict::Valid) {
        changed(evidence, question, &sound.by)
    } else if is_valid_outside(evidence, question) {
        changed(evidence, question, OUTSIDE)
    } else if breaks_above(evidence, detail) {
        let sentence = format!(
            "The chain of trust of {question} breaks above the recipient's zone: that is none of the recipient's doing."
        );
        let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence);
        finding.also = vec!["local-dns-type-filter"];
        finding
    } else {
        return None;
    };
    finding.proof.push(format!("validator: {detail}"));
    Some(finding)
}

/// A check elsewhere, in words.
const OUTSIDE: &str = "the check elsewhere";

/// Whether a check elsewhere had a valid answer: mail went on from there, or it has these TLSA records.
fn is_valid_outside(evidence: &Evidence, question: &Question) -> bool {
    let Some(there) = witness::outside(evidence) else { return false };
    let has_it = there.tlsa.iter().any(|tlsa| tlsa.name == question.name && question.record_type == "TLSA");
    has_it || there.delivers && there.cause.is_none()
}

/// Whether a check elsewhere met the same answer that does not prove itself.
fn is_bogus_outside(evidence: &Evidence) -> bool {
    let Some(Cause::DnsBogus { question, .. }) = &evidence.delivery.cause else { return false };
    let there = witness::outside(evidence).and_then(|there| there.cause.as_ref());
    matches!(there, Some(Cause::DnsBogus { question: asked, .. }) if asked == question)
}

/// The same question has a valid answer by another way.
fn changed(evidence: &Evidence, question: &Question, by: &str) -> CheckFinding {
    let authority = evidence.opinions.iter().find(|opinion| opinion.by == AUTHORITATIVE).map(|opinion| opinion.said);
    let who =
        format!("The answer to {question} does not prove itself the way it comes to this host, and by {by} it does");
    let mut finding = match authority {
        // The zone's own servers, too, are heard in clear: then it is no matter of the resolver.
        Some(LookupVerdict::Bogus) => {
            let sentence =
                format!("{who}: a box changes what comes in clear, or some of the zone's servers are wrong.");
            let mut finding = CheckFinding::new(disguise(evidence), Side::Path, Certainty::Likely, sentence);
            finding.also = vec!["dnssec-invalid"];
            finding
        }
        Some(LookupVerdict::Valid) => {
            let sentence = format!("{who}: the resolver, or a box before it, changes it.");
            CheckFinding::new("resolver-side", Side::Resolver, Certainty::Proven, sentence)
        }
        Some(LookupVerdict::Nothing) | None => {
            let sentence = format!("{who}: the resolver, or a box before it, changes it.");
            let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence);
            finding.also = vec![disguise(evidence)];
            finding
        }
    };
    finding.proof = vec![format!("the same question by {by}: valid")];
    if by == OUTSIDE || evidence.upstreams.iter().any(|upstream| upstream == by) {
        return finding;
    }
    finding.bridged(format!("add \"{by}\" to upstreams in [dns]: what proves itself may come by any way"))
}

/// Sets come with fewer records than they have: those of the canary zone, or the one in question
/// by every way in clear, while it is whole where nobody can read it.
fn cut(evidence: &Evidence) -> Option<CheckFinding> {
    let control = evidence.dns.iter().find(|probe| probe.seen.reply == ProbeReply::Records && witness::is_false(probe));
    let by = |is: fn(&DnsProbe) -> bool| {
        let subject = evidence.dns.iter().filter(move |probe| probe.role == ProbeRole::Subject && is(probe));
        subject.filter(|probe| probe.seen.reply == ProbeReply::Records).map(|probe| probe.seen.records)
    };
    let whole = by(|probe| probe.seen.transport == ProbeTransport::Encrypted).max();
    let left = by(|probe| probe.whom == Whom::Authority && probe.seen.transport != ProbeTransport::Encrypted).max();
    let (all, left) = match (control, whole, left) {
        (Some(probe), _, _) => (witness::expected(probe)?, probe.seen.records),
        (None, Some(all), Some(left)) if left < all => (all, left),
        (None, _, _) => return None,
    };
    let sentence = format!(
        "A box on the way cuts sets of TLSA records: of {all} records {left} come, so that the signature does not hold."
    );
    let mut finding = CheckFinding::new("local-dns-count-filter", Side::Path, Certainty::Proven, sentence);
    finding.proof = proof::elsewhere(evidence);
    if let Some(probe) = control {
        finding.proof.push(format!("{}: {left} of {all} records by {}", probe.seen.question, probe.server));
    }
    if evidence.upstreams.iter().any(|upstream| super::case::is_encrypted(upstream)) {
        return Some(finding);
    }
    Some(finding.bridged(
        "add a resolver over TLS to upstreams in [dns], as \"tls://IP#NAME\": what is encrypted no box can cut".into(),
    ))
}

/// What else may lie behind an answer that does not prove itself.
pub(super) fn disguise(evidence: &Evidence) -> &'static str {
    let subject = evidence.dns.iter().filter(|probe| probe.role == ProbeRole::Subject);
    let mut tlsa = subject.filter(|probe| probe.seen.question.record_type == "TLSA").peekable();
    match tlsa.peek().map(|probe| &probe.seen.reply) {
        Some(ProbeReply::NoData | ProbeReply::NxDomain) => "local-dns-type-filter",
        Some(_) => "local-dns-count-filter",
        None => "resolver-side",
    }
}

/// Whether the name at which the validator stopped is above the recipient's zone. Nobody but the
/// keepers of the root and of a registry sign there, and they are not wrong for long.
fn breaks_above(evidence: &Evidence, detail: &str) -> bool {
    let zone = evidence.dns.iter().filter(|probe| probe.whom == Whom::Authority).find_map(|probe| {
        let (_, zone) = probe.server.rsplit_once(" of ")?;
        Some(zone.trim_end_matches('.').to_owned())
    });
    let zone = zone.unwrap_or_else(|| evidence.domain.clone());
    let is_above = |reason: &str| {
        let name = reason.split_once(": ").map_or(reason, |(name, _)| name).trim_end_matches('.');
        name.is_empty() || zone.strip_suffix(name).is_some_and(|rest| rest.ends_with('.'))
    };
    detail.split("; ").all(is_above)
}

/// What the servers of the zone themselves sign wrongly is theirs. In clear it is proven where the
/// signature has expired, which nobody on the way can bring about, where an encrypted way brings
/// the same, or where a canary in another zone comes through whole.
pub(super) fn certainty(evidence: &Evidence) -> Certainty {
    let failed = || evidence.troubled.iter().flat_map(|troubled| &troubled.failed);
    let by_authority = failed().any(|f| f.upstream == AUTHORITATIVE && f.detail.starts_with("bogus"));
    let expired = evidence
        .dns
        .iter()
        .filter(|probe| probe.whom == Whom::Authority && probe.role == ProbeRole::Subject)
        .any(|probe| probe.seen.signatures.is_some_and(|(from, until)| !holds(from, until, probe.seen.at)));
    let agree = |is: fn(&str) -> bool| {
        evidence.opinions.iter().any(|opinion| opinion.said == LookupVerdict::Bogus && is(&opinion.by))
    };
    let encrypted = agree(super::case::is_encrypted);
    let in_clear = by_authority || agree(|by| by == AUTHORITATIVE);
    if expired || encrypted || is_bogus_outside(evidence) || in_clear && witness::canary_clears(evidence) {
        Certainty::Proven
    } else {
        Certainty::Likely
    }
}
