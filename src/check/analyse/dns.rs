//! Why a question to the DNS has no usable answer: this host's way to it, the resolver, or the
//! zone (pure) (RFC 7672 §2.1, RFC 8906).

use super::filter::{FilterKind, SubjectAnswer, fitting};
use super::line::{ServerProbes, lines, vanished};
use super::{Certainty, CheckFinding, proof, witness};
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
        // One that says it has failed may sit behind what cuts everybody off; the zone's own servers
        // show that nothing does. One that is silent may be cut off itself.
        let says_so = line.probes.iter().any(|probe| matches!(probe.seen.reply, Reply::ErrorCode(_)));
        let way_is_free = self.lines.iter().any(|other| other.whom == Whom::Authority && other.alive());
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
        let without_keys = matches!(root.seen.reply, Reply::NoData | Reply::NxDomain);
        let unsigned = root.seen.reply == Reply::Records && !root.seen.signed;
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
        let replies: Vec<&Reply> = [Transport::Udp, Transport::Tcp, Transport::Encrypted]
            .into_iter()
            .filter_map(|transport| line.subject(transport))
            .map(|seen| &seen.reply)
            .collect();
        let denied = replies.iter().any(|reply| matches!(reply, Reply::NoData | Reply::NxDomain));
        let canary_denied = line.probes.iter().any(|probe| {
            matches!(probe.seen.reply, Reply::NoData | Reply::NxDomain) && witness::is_false(probe)
        });
        if denied && (canary_denied || self.truth.records.is_some_and(|records| records > 0)) {
            let who = if canary_denied { "says so of the canary zone, too" } else { "other ways have them, signed" };
            return Some(self.forged(line, who));
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
    fn forged(&self, line: &ServerProbes<'_>, who: &str) -> CheckFinding {
        let sentence = format!(
            "{} says that {} has no records, and {who}: something on this way forges \"no data\".",
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
                    finding.also = fitting.iter().skip(1).map(|(kind, _)| kind.word()).chain(["resolver-side"]).collect();
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
        let fails = |over: &Transport| line.subject(*over).is_some_and(|seen| !seen.answered());
        let lost: Vec<_> = [Transport::Udp, Transport::Tcp].into_iter().filter(fails).collect();
        line.whom == Whom::Upstream
            && !lost.is_empty()
            && lost.into_iter().all(|over| witness::authority_has_it(self.lines, over))
    }

    /// A filter, by what becomes of answers.
    fn filtered(&self, line: &ServerProbes<'_>, kind: FilterKind, certainty: Certainty) -> CheckFinding {
        let name = self.subject_name();
        let says = line.probes.iter().find_map(|probe| match &probe.seen.reply {
            Reply::ErrorCode(code) if probe.seen.question.record_type == "TLSA" => Some(code.as_str()),
            _ => None,
        });
        let authority_says_so = self.lines.iter().any(|other| {
            other.whom == Whom::Authority
                && other.subject(Transport::Udp).is_some_and(|seen| matches!(seen.reply, Reply::ErrorCode(_)))
        });
        let place = match says {
            Some(code) if authority_says_so => {
                format!("{code} comes in their place, in the name of the zone's own servers as well.")
            }
            Some(code) => format!("It sits behind {}, which says {code} because it does not get them.", line.server),
            None => self.place(line),
        };
        let sentence = format!("{} {place}", what(kind, &name));
        let mut finding = CheckFinding::new(kind.word(), Side::Path, certainty, sentence);
        finding.proof = match kind {
            FilterKind::Count { .. } | FilterKind::Type => proof::counts(line, self.truth.records),
            FilterKind::Size { .. } => proof::ways(line),
        };
        finding.proof.extend(proof::elsewhere(self.evidence));
        finding
    }

    /// No usable answer on any way that was asked.
    fn nobody_has_it(&self, line: &ServerProbes<'_>, fitting: &[(FilterKind, Certainty)]) -> CheckFinding {
        let name = self.subject_name();
        let of_zone = self.lines.iter().find(|other| other.whom == Whom::Authority && other.alive());
        let Some(authority) = of_zone.filter(|other| other.subject_fails()) else {
            let sentence = format!("{} has no usable answer to {name}, and no other way could be compared.", line.server);
            let mut finding = CheckFinding::new("inconclusive", Side::Resolver, Certainty::Inconclusive, sentence);
            finding.also = vec!["resolver-side", "recipient-dns"];
            finding.proof = proof::ways(line);
            return finding;
        };
        let says = [Transport::Udp, Transport::Tcp].into_iter().find_map(|over| match &authority.subject(over)?.reply {
            Reply::ErrorCode(code) => Some(code.as_str()),
            _ => None,
        });
        // Two witnesses that have no part in the way to the zone's servers: who is asked encrypted,
        // and a canary in another zone.
        let certainty = match (witness::fails_encrypted(self.lines), witness::canary_clears(self.evidence), says) {
            (true, true, _) => Certainty::Proven,
            (true, false, _) | (false, true, _) | (false, false, Some(_)) => Certainty::Likely,
            (false, false, None) => Certainty::Inconclusive,
        };
        let (word, side) = match certainty {
            Certainty::Inconclusive => ("inconclusive", Side::Path),
            Certainty::Likely | Certainty::Proven => ("recipient-dns", Side::Recipient),
        };
        let how = says.map_or_else(|| "do not answer".to_owned(), |code| format!("say {code} to"));
        let sentence = match certainty {
            Certainty::Proven => {
                format!("The servers of the recipient's own zone {how} {name}, and answers of its kind pass: nobody can get it.")
            }
            Certainty::Likely => format!(
                "The servers of the recipient's own zone {how} {name}: a fault of theirs, unless a filter on the way out \
                 of this network does it in their name."
            ),
            Certainty::Inconclusive => format!(
                "Answers to {name} vanish, and nobody who could be asked has them: a filter on the way, or a fault of \
                 the recipient's DNS."
            ),
        };
        let mut finding = CheckFinding::new(word, side, certainty, sentence);
        if certainty != Certainty::Proven {
            finding.also = fitting.iter().map(|(kind, _)| kind.word()).collect();
            if certainty == Certainty::Inconclusive {
                finding.also.push("recipient-dns");
            } else if finding.also.is_empty() {
                finding.also = vec!["local-dns-size-filter"];
            }
        }
        finding.proof = proof::ways(authority);
        finding.hand_over = match certainty {
            Certainty::Proven => vec![format!("to the recipient's DNS administrators: {name} at {}", authority.server)],
            Certainty::Likely | Certainty::Inconclusive => proof::packets(authority),
        };
        finding
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

    /// No filter explains it: as many records, as large an answer, pass.
    fn silent_for_one(&self, line: &ServerProbes<'_>) -> CheckFinding {
        let name = self.subject_name();
        let server = line.server;
        let sentence = format!(
            "{server} does not answer {name}, though it answers larger questions, and other ways have the answer."
        );
        let mut finding = CheckFinding::new("resolver-side", Side::Resolver, Certainty::Likely, sentence);
        finding.also = vec!["recipient-dns"];
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
