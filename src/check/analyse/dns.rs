//! Why a question to the DNS has no usable answer: this host's way to it, the resolver, or the
//! zone (pure) (RFC 7672 §2.1, RFC 8906).

use super::filter::{FilterKind, SubjectAnswer, fitting};
use super::line::{ServerProbes, lines, vanished};
use super::{Certainty, CheckFinding, proof};
use crate::check::evidence::{Evidence, ProbeRole, Whom};
use crate::outcome::Side;
use crate::resolve::probe::{Reply, Transport};

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

/// The TLSA records that exist, by whoever has them.
fn truth(evidence: &Evidence, lines: &[ServerProbes<'_>]) -> SubjectAnswer {
    let best = lines.iter().filter_map(ServerProbes::subject_records).max_by_key(|seen| seen.records);
    let is_subject = |name: &str| evidence.subject.as_ref().is_some_and(|subject| subject.name == name);
    let delivered = evidence.delivery.tlsa.iter().find(|tlsa| is_subject(&tlsa.name)).map(|tlsa| tlsa.records);
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

struct DnsCase<'a> {
    evidence: &'a Evidence,
    truth: SubjectAnswer,
    lines: &'a [ServerProbes<'a>],
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
            .or_else(|| strips(line))
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
        let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Proven, sentence);
        finding.proof = line
            .probes
            .iter()
            .take(4)
            .map(|probe| format!("{}: {}", probe.seen.question, proof::said(&probe.seen)))
            .collect();
        finding.hand_over = proof::packets(line);
        self.with_bridge(finding)
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
        let replies: Vec<&Reply> = [Transport::Udp, Transport::Tcp, Transport::Encrypted]
            .into_iter()
            .filter_map(|transport| line.subject(transport))
            .map(|seen| &seen.reply)
            .collect();
        let denied = replies.iter().any(|reply| matches!(reply, Reply::NoData | Reply::NxDomain));
        if denied && self.truth.records.is_some_and(|records| records > 0) {
            return Some(self.forged(line));
        }
        if !line.subject_fails() {
            return None;
        }
        if replies.iter().any(|reply| matches!(reply, Reply::ErrorCode(_) | Reply::Nonsense(_))) {
            return Some(self.refused(line));
        }
        Some(self.vanished(line))
    }

    /// "There is none", where there are records.
    fn forged(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let sentence = format!(
            "{} says that {} has no records, and other ways have them, signed: something on this way forges \"no data\".",
            line.server,
            self.subject_name()
        );
        let authorities_too = self.lines.iter().filter(|other| other.whom == Whom::Authority).any(|other| {
            other.subject(Transport::Udp).is_some_and(|seen| matches!(seen.reply, Reply::NoData | Reply::NxDomain))
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

    /// An error code: whoever answers has heard the question.
    fn refused(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        if let Some(finding) = self.count_behind(line) {
            return finding;
        }
        let mut finding = match (line.whom, self.truth.records) {
            (Whom::Authority, None) => {
                let sentence = format!("The servers of the recipient's own zone fail for {name}: nobody can get it.");
                let mut finding = CheckFinding::new("recipient-dns", Side::Recipient, Certainty::Proven, sentence);
                finding.hand_over = vec![format!("to the recipient's DNS administrators: {name} at {}", line.server)];
                finding
            }
            (_, Some(_)) => {
                let sentence = format!("{} fails for {name}, and other ways have the answer.", line.server);
                CheckFinding::new("resolver-side", Side::Resolver, Certainty::Proven, sentence)
            }
            (Whom::Upstream | Whom::Reference, None) => return self.refused_unseen(line),
        };
        finding.proof = proof::ways(line);
        finding.proof.extend(proof::elsewhere(self.evidence));
        finding
    }

    /// A resolver that fails for many records and has few: the filter is on its own way out.
    fn count_behind(&self, line: &ServerProbes<'_>) -> Option<CheckFinding> {
        let (kind, Certainty::Proven) = fitting(line, self.truth).into_iter().next()? else { return None };
        let FilterKind::Count { .. } = kind else { return None };
        let sentence = format!(
            "{} It sits behind {}, which fails for them because it does not get them either.",
            what(kind, &self.subject_name()),
            line.server
        );
        let mut finding = CheckFinding::new(kind.word(), Side::Path, Certainty::Proven, sentence);
        finding.proof = proof::counts(line, self.truth.records);
        finding.proof.extend(proof::elsewhere(self.evidence));
        Some(finding)
    }

    /// A resolver fails, and nobody else has the answer either.
    fn refused_unseen(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        let authority = self.lines.iter().find(|other| other.whom == Whom::Authority && other.subject_fails());
        if let Some(authority) = authority
            && authority.alive()
        {
            let says_so =
                |transport| authority.subject(transport).is_some_and(|seen| matches!(seen.reply, Reply::ErrorCode(_)));
            let (certainty, also) = if says_so(Transport::Udp) || says_so(Transport::Tcp) {
                (Certainty::Proven, vec![])
            } else {
                (Certainty::Inconclusive, vec!["local-dns-count-filter", "recipient-dns"])
            };
            let sentence = match certainty {
                Certainty::Proven => {
                    format!("The servers of the recipient's own zone fail for {name}: nobody can get it.")
                }
                Certainty::Likely | Certainty::Inconclusive => format!(
                    "{} fails for {name}, and the zone's own servers stay silent: a filter on the way out of this \
                     network, or a fault of the recipient's DNS.",
                    line.server
                ),
            };
            let (word, side) = if certainty == Certainty::Proven {
                ("recipient-dns", Side::Recipient)
            } else {
                ("inconclusive", Side::Path)
            };
            let mut finding = CheckFinding::new(word, side, certainty, sentence);
            finding.also = also;
            finding.proof = proof::ways(authority);
            finding.hand_over = proof::packets(authority);
            return finding;
        }
        let sentence = format!("{} fails for {name}, and no other way to the DNS could be compared.", line.server);
        let mut finding = CheckFinding::new("inconclusive", Side::Resolver, Certainty::Inconclusive, sentence);
        finding.also = vec!["resolver-side", "recipient-dns"];
        finding.proof = proof::ways(line);
        finding
    }

    /// Silence, where harmless questions are answered.
    fn vanished(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        let fitting = fitting(line, self.truth);
        let seen_elsewhere = self.truth.records.is_some();
        let Some((best, sure)) = fitting.first().copied() else {
            return self.silent_for_one(line);
        };
        let mut also: Vec<&'static str> = fitting
            .iter()
            .skip(1)
            .filter(|(_, c)| *c == sure || sure < Certainty::Proven)
            .map(|(kind, _)| kind.word())
            .collect();
        // Without anybody who has the records, their own servers may be what is silent; controls
        // that vanish as well show that they are not.
        let control_vanishes = line.probes.iter().any(|p| {
            matches!(p.role, ProbeRole::Control(_) | ProbeRole::Known(_) | ProbeRole::TlsaWithout) && vanished(&p.seen)
        });
        let certainty = match (seen_elsewhere || control_vanishes, also.is_empty()) {
            (false, _) => Certainty::Inconclusive,
            (true, true) => sure.max(Certainty::Likely),
            (true, false) => sure.min(Certainty::Likely).max(Certainty::Likely),
        };
        if certainty == Certainty::Inconclusive {
            also = fitting.iter().map(|(kind, _)| kind.word()).chain(["recipient-dns"]).collect();
            let sentence = format!(
                "Answers to {name} vanish, and nobody who could be asked has them: a filter on the way, or a fault of \
                 the recipient's DNS. A canary zone (--canary) or an encrypted resolver (--reference) tells."
            );
            let mut finding = CheckFinding::new("inconclusive", Side::Path, certainty, sentence);
            finding.also = also;
            finding.proof = proof::ways(line);
            return finding;
        }
        let sentence = format!("{} {}", what(best, &name), self.place(line));
        let mut finding = CheckFinding::new(best.word(), Side::Path, certainty, sentence);
        finding.also = also;
        finding.proof = match best {
            FilterKind::Count { .. } | FilterKind::Type => proof::counts(line, self.truth.records),
            FilterKind::Size { .. } => proof::ways(line),
        };
        finding.proof.extend(proof::elsewhere(self.evidence));
        finding
    }

    /// No filter explains it: as many records, as large an answer, pass.
    fn silent_for_one(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        let mut finding = if self.truth.records.is_some() {
            let server = line.server;
            let sentence = format!(
                "{server} does not answer {name}, though it answers larger questions, and other ways have the answer."
            );
            CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence)
        } else {
            let sentence = format!("Nobody answers {name}, and answers of its kind pass: the recipient's DNS fails.");
            CheckFinding::new("recipient-dns", Side::Recipient, Certainty::Likely, sentence)
        };
        finding.proof = proof::ways(line);
        finding.proof.extend(proof::elsewhere(self.evidence));
        finding
    }

    /// Where on the way it must be.
    fn place(&self, line: &ServerProbes<'_>) -> String {
        let authorities: Vec<_> =
            self.lines.iter().filter(|l| l.whom == Whom::Authority).filter_map(|l| l.subject(Transport::Udp)).collect();
        if line.whom == Whom::Authority || authorities.iter().any(|seen| vanished(seen)) {
            "The recipient's own servers are cut off in the same way, so it sits where traffic leaves this network."
                .to_owned()
        } else if authorities.iter().any(|seen| seen.answered()) {
            format!(
                "The way to the recipient's own servers is free, so it sits between this host and {} or behind that resolver.",
                line.server
            )
        } else {
            format!("It sits between this host and {}, or behind that resolver.", line.server)
        }
    }

    fn subject_name(&self) -> String {
        self.evidence.subject.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// A way that works, as the configuration writes it.
    fn with_bridge(&self, finding: CheckFinding) -> CheckFinding {
        if finding.bridge.is_some() || finding.side == Side::Recipient {
            return finding;
        }
        let works = |line: &&ServerProbes<'_>| line.subject_records().is_some();
        let encrypted = self.lines.iter().filter(works).find(|line| !line.is_clear());
        let authority = self.lines.iter().filter(works).any(|line| line.whom == Whom::Authority);
        let bridge = match (encrypted, authority) {
            (Some(line), _) => {
                format!("upstreams = [\"{}\", …] in [dns]: encrypted, and it has the answer", line.server)
            }
            (None, true) => {
                "add \"authoritative\" to upstreams in [dns]: the zone's own servers have the answer".to_owned()
            }
            (None, false) => {
                "add a resolver over TLS to upstreams in [dns], as \"tls://IP#NAME\": what is encrypted no box can \
                 filter by content"
                    .to_owned()
            }
        };
        finding.bridged(bridge)
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
    let over_udp = || line.over(Transport::Udp);
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

fn strips(line: &ServerProbes<'_>) -> Option<CheckFinding> {
    let root = line.with_role(ProbeRole::Root).find(|probe| probe.seen.reply == Reply::Records)?;
    if root.seen.signed || root.seen.edns.is_none() {
        return None;
    }
    let sentence = format!(
        "{} answers without DNSSEC signatures, even for the root, which is always signed: it, or a box before it, \
         takes them away.",
        line.server
    );
    let mut finding = CheckFinding::new("resolver-strips-dnssec", Side::Resolver, Certainty::Proven, sentence);
    finding.proof = vec![format!("root DNSKEY: {}, no RRSIG", proof::said(&root.seen))];
    Some(finding)
}

fn tcp53(line: &ServerProbes<'_>) -> Option<CheckFinding> {
    let tcp: Vec<_> = line.over(Transport::Tcp).collect();
    let harmless_fails =
        tcp.iter().any(|p| matches!(p.role, ProbeRole::Root | ProbeRole::Harmless) && vanished(&p.seen));
    if !harmless_fails || !tcp.iter().all(|probe| vanished(&probe.seen)) {
        return None;
    }
    // A question that vanishes over UDP too has another cause, or one more.
    if !line.subject(Transport::Udp)?.answered() {
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

fn what(kind: FilterKind, name: &str) -> String {
    match kind {
        FilterKind::Count { passed, vanished, every_type } => {
            let of = if every_type { "records of any type" } else { "TLSA records" };
            match (passed, vanished) {
                (Some(passed), Some(gone)) if passed + 1 == gone => {
                    format!("DNS answers with more than {passed} {of} vanish on their way to this host.")
                }
                (Some(passed), Some(gone)) => {
                    format!("DNS answers with {gone} {of} vanish on their way to this host; up to {passed} pass.")
                }
                (_, gone) => format!(
                    "DNS answers with {} {of} vanish on their way to this host.",
                    gone.map_or_else(|| "several".to_owned(), |gone| gone.to_string())
                ),
            }
        }
        FilterKind::Type => format!("Every answer to a TLSA question vanishes on its way to this host, as {name}."),
        FilterKind::Size { passed, vanished } => {
            let large = vanished
                .map_or_else(|| "large DNS answers".to_owned(), |octets| format!("DNS answers of {octets} octets"));
            format!("Over UDP {large} vanish on their way to this host; up to {passed} octets pass.")
        }
    }
}
