//! Why a question to the DNS has no usable answer: this host's way to it, the resolver, or the
//! zone (pure) (RFC 7672 §2.1, RFC 8906).

use super::case::DnsCase;
use super::filter::{SubjectAnswer, fitting};
use super::line::{ServerProbes, lines, vanished};
use super::{Certainty, CheckFinding, proof, witness};
use crate::check::evidence::{Evidence, ProbeRole, Whom};
use crate::outcome::Side;
use crate::resolve::probe::{ProbeReply, ProbeTransport};

/// The reason behind what the look-ups met; none when they met nothing.
pub(super) fn find(evidence: &Evidence) -> Option<CheckFinding> {
    if evidence.dns.is_empty() {
        return None;
    }
    let lines = lines(evidence);
    if !evidence.dns.iter().any(|probe| probe.seen.answered()) {
        return Some(outage(&lines));
    }
    let case = DnsCase { evidence, truth: truth(evidence, &lines), lines: &lines };
    let ours = lines.iter().filter(|line| line.whom == Whom::Upstream);
    let mut found: Vec<CheckFinding> = ours.filter_map(|line| case.explain(line)).collect();
    if found.is_empty() {
        let theirs = lines.iter().filter(|line| line.whom == Whom::Authority && line.alive());
        found.extend(theirs.filter_map(|line| case.explain(line)));
    }
    // The surest; of equals the one that is asked first.
    found.into_iter().rev().max_by_key(|finding| finding.certainty)
}

/// The TLSA records that exist, by whoever has them, here or elsewhere.
fn truth(evidence: &Evidence, lines: &[ServerProbes<'_>]) -> SubjectAnswer {
    let best = lines.iter().filter_map(ServerProbes::subject_records).max_by_key(|seen| seen.records);
    let is_subject = |name: &str| evidence.subject.as_ref().is_some_and(|subject| subject.name == name);
    let outside = witness::outside(evidence).into_iter().flat_map(|there| &there.tlsa);
    let delivered = evidence.delivery.tlsa.iter().chain(outside).find(|tlsa| is_subject(&tlsa.name));
    let delivered = delivered.map(|tlsa| tlsa.records);
    SubjectAnswer { records: best.map(|seen| seen.records).or(delivered), octets: best.map(|seen| seen.octets) }
}

fn outage(lines: &[ServerProbes<'_>]) -> CheckFinding {
    let asked = lines.iter().map(|line| line.server).collect::<Vec<_>>().join(", ");
    let sentence = format!(
        "No DNS server answers anything from this host ({asked}), not even harmless questions: an outage of the \
         network or of the resolver, and no filter of answers."
    );
    let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence);
    finding.also = vec!["inconclusive"];
    finding.hand_over = lines.iter().flat_map(proof::packets).take(3).collect();
    finding
}

impl DnsCase<'_> {
    /// What is wrong with one line, if anything is.
    fn explain(&self, line: &ServerProbes<'_>) -> Option<CheckFinding> {
        if !line.alive() {
            return Some(self.dead(line));
        }
        if line.went_away() {
            return Some(went_away(line));
        }
        let found = edns(line)
            .or_else(|| self.strips(line))
            .or_else(|| self.not_validating(line))
            .or_else(|| tcp53(line))
            .or_else(|| self.subject(line))?;
        let mut found = self.with_bridge(found);
        if found.hand_over.is_empty() {
            found.hand_over = proof::packets(line);
        }
        Some(found)
    }

    fn dead(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let sentence =
            format!("The resolver {} has no usable answer to anything, while other ways to the DNS work.", line.server);
        // One that says it has failed may sit behind what cuts everybody off; the zone's own servers, asked
        // the same over the same transport, show that nothing does. One that is silent may be cut off itself.
        let says_so = line.probes.iter().any(|probe| matches!(probe.seen.reply, ProbeReply::ErrorCode(_)));
        let way_is_free = self.authority_answers_what_fails(line);
        let certainty = if says_so && way_is_free { Certainty::Proven } else { Certainty::Likely };
        let mut finding = CheckFinding::new("resolver-side", Side::Resolver, certainty, sentence);
        if certainty != Certainty::Proven {
            finding.also = vec!["local-dns-blocked"];
        }
        finding.proof = line
            .probes
            .iter()
            .take(4)
            .map(|probe| format!("{}: {}", probe.seen.question, proof::said(&probe.seen)))
            .collect();
        finding.hand_over = proof::packets(line);
        self.with_bridge(finding)
    }

    /// No signatures, not even for the root.
    fn strips(&self, line: &ServerProbes<'_>) -> Option<CheckFinding> {
        let root = line.with_role(ProbeRole::Root).find(|probe| probe.seen.answered())?;
        let without_keys = matches!(root.seen.reply, ProbeReply::NoData | ProbeReply::NxDomain);
        let unsigned = root.seen.reply == ProbeReply::Records && !root.seen.signed;
        if root.seen.edns.is_none() || !(without_keys || unsigned) {
            return None;
        }
        let what = if without_keys { "says that the root has no keys" } else { "answers without DNSSEC signatures" };
        let sentence = format!(
            "{} {what}, and the root is always signed: it, or a box before it, takes away what DNSSEC needs.",
            line.server
        );
        // What comes from other servers in clear shows whether a box takes it away from everybody.
        let others = || self.lines.iter().filter(|other| other.whom == Whom::Authority && other.is_clear());
        let signed = others().flat_map(|other| &other.probes).any(|probe| probe.seen.signed);
        let certainty = if signed { Certainty::Proven } else { Certainty::Likely };
        let mut finding = CheckFinding::new("resolver-strips-dnssec", Side::Resolver, certainty, sentence);
        if !signed {
            finding.also = vec!["local-dns-type-filter"];
        }
        let seen = if without_keys { "no keys" } else { "no RRSIG" };
        finding.proof = vec![format!("root DNSKEY: {}, {seen}", proof::said(&root.seen))];
        Some(finding)
    }

    fn not_validating(&self, line: &ServerProbes<'_>) -> Option<CheckFinding> {
        let root = line.with_role(ProbeRole::Root).find(|probe| probe.seen.answered())?;
        if !self.evidence.trust_ad || root.seen.authentic {
            return None;
        }
        let sentence = format!(
            "The resolver {} does not validate: it answers for the signed root without the AD bit, and [dns] mode = \
             \"trust-ad\" relies on that bit.",
            line.server
        );
        let mut finding = CheckFinding::new("resolver-not-validating", Side::Resolver, Certainty::Proven, sentence);
        finding.proof = vec![format!("root DNSKEY: {}, AD bit not set", proof::said(&root.seen))];
        Some(finding.bridged("set mode = \"validate\" in [dns]: then the relay checks signatures itself".into()))
    }

    /// The question that matters, where everything else about the line is right.
    fn subject(&self, line: &ServerProbes<'_>) -> Option<CheckFinding> {
        let replies: Vec<&ProbeReply> = [ProbeTransport::Udp, ProbeTransport::Tcp, ProbeTransport::Encrypted]
            .into_iter()
            .filter_map(|transport| line.subject(transport))
            .map(|seen| &seen.reply)
            .collect();
        let denied = replies.iter().any(|reply| matches!(reply, ProbeReply::NoData | ProbeReply::NxDomain));
        let canary_denied = line.probes.iter().any(|probe| {
            matches!(probe.seen.reply, ProbeReply::NoData | ProbeReply::NxDomain) && witness::is_false(probe)
        });
        if denied && (canary_denied || self.truth.records.is_some_and(|records| records > 0)) {
            let who = if canary_denied { "says so of the canary zone, too" } else { "other ways have them, signed" };
            return Some(self.forged(line, who));
        }
        if !line.subject_fails() {
            return None;
        }
        if replies.iter().any(|reply| matches!(reply, ProbeReply::ErrorCode(_) | ProbeReply::Nonsense(_))) {
            return Some(self.refused(line));
        }
        Some(self.vanished(line))
    }

    /// "There is none", where there are records.
    fn forged(&self, line: &ServerProbes<'_>, who: &str) -> CheckFinding {
        let sentence = format!(
            "{} says that {} has no records, and {who}: something on this way forges \"no data\".",
            line.server,
            self.subject_name()
        );
        let authorities_too = self.lines.iter().filter(|other| other.whom == Whom::Authority).any(|other| {
            other
                .subject(ProbeTransport::Udp)
                .is_some_and(|seen| matches!(seen.reply, ProbeReply::NoData | ProbeReply::NxDomain))
        });
        let mut finding = if authorities_too {
            CheckFinding::new("local-dns-type-filter", Side::Path, Certainty::Proven, sentence)
        } else {
            let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence);
            finding.also = vec!["local-dns-type-filter"];
            finding
        };
        finding.proof = proof::ways(line);
        finding.proof.extend(proof::elsewhere(self.evidence));
        finding
    }

    /// An error code: whoever answers has heard the question. Who answers is not sure: an IPS says
    /// REFUSED in the name of the server, and a resolver SERVFAIL for what it does not get.
    fn refused(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        let fitting = fitting(line, self.truth);
        if let Some((kind, Certainty::Proven)) = fitting.first() {
            return self.filtered(line, *kind, Certainty::Proven);
        }
        let mut finding = match self.truth.records {
            Some(_) if self.authority_answers_what_fails(line) => {
                let sentence = format!("{} fails for {name}, and the zone's own servers answer it.", line.server);
                CheckFinding::new("resolver-side", Side::Resolver, Certainty::Proven, sentence)
            }
            Some(_) => match fitting.first() {
                Some((kind, _)) => {
                    let mut finding = self.filtered(line, *kind, Certainty::Likely);
                    finding.also =
                        fitting.iter().skip(1).map(|(kind, _)| kind.word()).chain(["resolver-side"]).collect();
                    finding
                }
                None => {
                    let sentence = format!("{} fails for {name}, and other ways have the answer.", line.server);
                    let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence);
                    finding.also = vec!["local-dns-count-filter"];
                    finding
                }
            },
            None => return self.nobody_has_it(line, &fitting),
        };
        if finding.proof.is_empty() {
            finding.proof = proof::ways(line);
            finding.proof.extend(proof::elsewhere(self.evidence));
        }
        finding
    }

    /// Over every transport that fails on a line the zone's own servers have it, in clear.
    fn authority_answers_what_fails(&self, line: &ServerProbes<'_>) -> bool {
        let fails = |over: &ProbeTransport| line.subject(*over).is_some_and(|seen| !seen.answered());
        let lost: Vec<_> = [ProbeTransport::Udp, ProbeTransport::Tcp].into_iter().filter(fails).collect();
        line.whom == Whom::Upstream
            && !lost.is_empty()
            && lost.into_iter().all(|over| witness::authority_has_it(self.lines, over))
    }

    /// Silence, where harmless questions are answered.
    fn vanished(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let fitting = fitting(line, self.truth);
        // A name of another zone that vanishes as well shows that it is not the recipient's servers.
        let control_vanishes = line
            .probes
            .iter()
            .any(|p| matches!(p.role, ProbeRole::Control(_) | ProbeRole::Known(_)) && vanished(&p.seen));
        if self.truth.records.is_none() && !control_vanishes {
            return self.nobody_has_it(line, &fitting);
        }
        let Some((best, sure)) = fitting.first().copied() else { return self.silent_for_one(line) };
        let also: Vec<&'static str> = fitting
            .iter()
            .skip(1)
            .filter(|(_, c)| *c == sure || sure < Certainty::Proven)
            .map(|(kind, _)| kind.word())
            .collect();
        let certainty = if also.is_empty() { sure.max(Certainty::Likely) } else { Certainty::Likely };
        let mut finding = self.filtered(line, best, certainty);
        finding.also = also;
        if certainty != Certainty::Proven && finding.also.is_empty() {
            finding.also = vec!["recipient-dns"];
        }
        finding
    }
}

fn went_away(line: &ServerProbes<'_>) -> CheckFinding {
    let sentence = format!(
        "{} stopped answering during the check, harmless questions too: an outage or a limit of rate, no filter that \
         could be named.",
        line.server
    );
    let mut finding = CheckFinding::new("inconclusive", Side::Resolver, Certainty::Inconclusive, sentence);
    finding.also = vec!["resolver-side"];
    finding
}

fn edns(line: &ServerProbes<'_>) -> Option<CheckFinding> {
    let over_udp = || line.over(ProbeTransport::Udp);
    let with: Vec<_> = over_udp().filter(|probe| probe.seen.edns.is_some()).collect();
    let passes_without = over_udp().any(|probe| probe.seen.edns.is_none() && probe.seen.answered());
    if with.is_empty() || !with.iter().all(|probe| vanished(&probe.seen)) || !passes_without {
        return None;
    }
    let sentence = format!(
        "Questions with EDNS to {} vanish, and the same without EDNS are answered. Without EDNS there is no DNSSEC.",
        line.server
    );
    let mut finding = CheckFinding::new("local-dns-edns-filter", Side::Path, Certainty::Proven, sentence);
    finding.proof = proof::ways(line);
    Some(finding)
}

fn tcp53(line: &ServerProbes<'_>) -> Option<CheckFinding> {
    let tcp: Vec<_> = line.over(ProbeTransport::Tcp).collect();
    let harmless_fails =
        tcp.iter().any(|p| matches!(p.role, ProbeRole::Root | ProbeRole::Harmless) && vanished(&p.seen));
    if !harmless_fails || !tcp.iter().all(|probe| vanished(&probe.seen)) {
        return None;
    }
    // A question that vanishes over UDP too has another cause, or one more.
    if !line.subject(ProbeTransport::Udp)?.answered() {
        return None;
    }
    let sentence = format!(
        "TCP port 53 to {} is blocked: answers that are too long for UDP cannot be fetched, and DNS needs both \
         (RFC 7766).",
        line.server
    );
    let mut finding = CheckFinding::new("local-tcp53-blocked", Side::Path, Certainty::Proven, sentence);
    finding.proof = proof::ways(line);
    Some(finding)
}
