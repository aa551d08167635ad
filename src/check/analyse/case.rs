//! The question that matters, the ways to it, and a filter found on one of them (pure).

use super::filter::{FilterKind, SubjectAnswer};
use super::line::{ServerProbes, vanished};
use super::{Certainty, CheckFinding, proof};
use crate::check::evidence::{Evidence, Whom};
use crate::outcome::Side;
use crate::resolve::probe::{ProbeReply, ProbeResult, ProbeTransport};

/// One question without a usable answer, and all that is known of the ways to it.
pub(super) struct DnsCase<'a> {
    pub(super) evidence: &'a Evidence,
    pub(super) truth: SubjectAnswer,
    pub(super) lines: &'a [ServerProbes<'a>],
}

impl DnsCase<'_> {
    /// A filter, by what becomes of answers.
    pub(super) fn filtered(&self, line: &ServerProbes<'_>, kind: FilterKind, certainty: Certainty) -> CheckFinding {
        let name = self.subject_name();
        let of_tlsa = line.probes.iter().filter(|probe| probe.seen.question.record_type == "TLSA");
        let says = of_tlsa.map(|probe| &probe.seen).find_map(error_code);
        let authority_says_so = self.lines.iter().any(|other| {
            other.whom == Whom::Authority && other.subject(ProbeTransport::Udp).and_then(error_code).is_some()
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

    /// Where on the way it must be.
    pub(super) fn place(&self, line: &ServerProbes<'_>) -> String {
        let authorities: Vec<_> = self
            .lines
            .iter()
            .filter(|l| l.whom == Whom::Authority)
            .filter_map(|l| l.subject(ProbeTransport::Udp))
            .collect();
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

    pub(super) fn subject_name(&self) -> String {
        self.evidence.subject.as_ref().map(ToString::to_string).unwrap_or_default()
    }

    /// A way that works, as the configuration writes it.
    pub(super) fn with_bridge(&self, finding: CheckFinding) -> CheckFinding {
        if finding.bridge.is_some() || finding.side == Side::Recipient {
            return finding;
        }
        let works = |line: &&ServerProbes<'_>| line.subject_records().is_some() && line.whom != Whom::Upstream;
        // What is configured already is no way round.
        let is_new = |line: &&ServerProbes<'_>| self.evidence.upstreams.iter().all(|upstream| *upstream != line.server);
        let encrypted = self.lines.iter().filter(works).filter(is_new).find(|line| !line.is_clear());
        let authority = self.lines.iter().filter(works).any(|line| line.whom == Whom::Authority);
        let is_configured = |is: fn(&str) -> bool| self.evidence.upstreams.iter().any(|upstream| is(upstream));
        let authority = authority && !is_configured(|upstream| upstream == "authoritative");
        if encrypted.is_none() && !authority && is_configured(is_encrypted) {
            return finding;
        }
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

/// Whether nobody on the way reads what is asked of an upstream.
pub(super) fn is_encrypted(upstream: &str) -> bool {
    upstream.starts_with("tls://") || upstream.starts_with("https://")
}

/// What a server says in place of an answer.
pub(super) fn error_code(seen: &ProbeResult) -> Option<&str> {
    if let ProbeReply::ErrorCode(code) = &seen.reply { Some(code) } else { None }
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
