//! Which filter explains that answers vanish: by the number of records, by type, by size
//! (pure).
//!
//! Each hypothesis is held against every probe over the transports the subject vanished on. An
//! answer that should have vanished contradicts it; that a control is missing says nothing.

use super::Certainty;
use super::line::{ServerProbes, tlsa_count};
use crate::check::canary;
use crate::check::evidence::{DnsProbe, ProbeRole};
use crate::resolve::probe::{ProbeReply, ProbeResult, ProbeTransport};

/// What the subject's answer is like, where somebody had it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct SubjectAnswer {
    /// Records of the type asked for.
    pub(super) records: Option<usize>,
    /// Octets of the answer.
    pub(super) octets: Option<usize>,
}

/// What kind of filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FilterKind {
    /// By the number of records.
    Count {
        /// The most TLSA records that passed.
        passed: Option<usize>,
        /// The fewest that vanished.
        vanished: Option<usize>,
        /// Whether as many addresses vanish as well.
        every_type: bool,
    },
    /// Every answer to a question for this type.
    Type,
    /// Above a number of octets.
    Size {
        /// The largest answer that passed.
        passed: usize,
        /// The smallest that vanished.
        vanished: Option<usize>,
    },
}

impl FilterKind {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Count { .. } => "local-dns-count-filter",
            Self::Type => "local-dns-type-filter",
            Self::Size { .. } => "local-dns-size-filter",
        }
    }
}

/// The filters that fit, the best supported first, each with how sure it is if it is the only one.
pub(super) fn fitting(line: &ServerProbes<'_>, truth: SubjectAnswer) -> Vec<(FilterKind, Certainty)> {
    let lost: Vec<ProbeTransport> = [ProbeTransport::Udp, ProbeTransport::Tcp]
        .into_iter()
        .filter(|transport| line.subject(*transport).is_some_and(lacking))
        .collect();
    let probes: Vec<&DnsProbe> = line
        .probes
        .iter()
        .copied()
        .filter(|p| lost.contains(&p.seen.transport) && p.role != ProbeRole::Again)
        .collect();
    let is_tlsa = line.with_role(ProbeRole::Subject).any(|probe| probe.seen.question.record_type == "TLSA");
    // Of equals the first: cut to 512 octets the answer passes, which speaks for the size.
    let mut fitting: Vec<(FilterKind, Certainty)> = size(line, &probes, &lost, truth).into_iter().collect();
    if is_tlsa {
        fitting.extend(count(&probes, truth));
        fitting.extend(by_type(&probes, truth));
    }
    fitting.sort_by_key(|(_, certainty)| std::cmp::Reverse(*certainty));
    fitting
}

/// No usable answer: silence, or the word of a resolver that it got none itself.
const fn lacking(seen: &ProbeResult) -> bool {
    !seen.answered()
}

fn count(probes: &[&DnsProbe], truth: SubjectAnswer) -> Option<(FilterKind, Certainty)> {
    let counted = |probe: &&DnsProbe| Some((tlsa_count(probe, truth.records)?, probe.seen.clone()));
    let counted: Vec<_> = probes.iter().filter_map(counted).collect();
    let complete = |seen: &ProbeResult| seen.answered() && seen.reply != ProbeReply::Truncated;
    let passed = counted.iter().filter(|(_, seen)| complete(seen)).map(|(n, _)| *n).max();
    let gone = counted.iter().filter(|(_, seen)| lacking(seen)).map(|(n, _)| *n).min();
    // What has no records cannot vanish for having too many.
    let one_large_vanishes = probes.iter().any(|probe| probe.role == ProbeRole::Large && lacking(&probe.seen));
    // As many as anybody has pass, and none is known to be lost: there is no such filter.
    let most = canary::COUNTS.into_iter().max();
    let all_pass = gone.is_none() && passed >= most;
    let contradicted =
        all_pass || one_large_vanishes || gone == Some(0) || matches!((passed, gone), (Some(p), Some(g)) if p >= g);
    if contradicted {
        return None;
    }
    let addresses = |probe: &&&DnsProbe| matches!(probe.role, ProbeRole::Addresses(_));
    let every_type = probes.iter().filter(addresses).any(|probe| lacking(&probe.seen));
    let certainty = match (passed, gone) {
        (Some(passed), Some(gone)) if passed > 0 && passed + 1 == gone => Certainty::Proven,
        (Some(_), Some(_)) => Certainty::Likely,
        (Some(_) | None, _) => Certainty::Inconclusive,
    };
    Some((FilterKind::Count { passed, vanished: gone, every_type }, certainty))
}

fn by_type(probes: &[&DnsProbe], truth: SubjectAnswer) -> Option<(FilterKind, Certainty)> {
    let tlsa: Vec<_> = probes.iter().filter(|probe| probe.seen.question.record_type == "TLSA").collect();
    if !tlsa.iter().all(|probe| lacking(&probe.seen)) {
        return None;
    }
    // A question whose answer is nearly empty vanishes as well: that leaves nothing but the type.
    // One about the recipient's own zone says so only where somebody has its records.
    let is_empty = |probe: &&&DnsProbe| {
        probe.role == ProbeRole::Control(1) || truth.records.is_some() && probe.role == ProbeRole::TlsaWithout
    };
    let empty = tlsa.iter().any(is_empty);
    Some((FilterKind::Type, if empty { Certainty::Proven } else { Certainty::Inconclusive }))
}

fn size(
    line: &ServerProbes<'_>,
    probes: &[&DnsProbe],
    lost: &[ProbeTransport],
    truth: SubjectAnswer,
) -> Option<(FilterKind, Certainty)> {
    let is_ordinary = |probe: &&&DnsProbe| probe.seen.transport != ProbeTransport::Udp || probe.seen.edns.is_some();
    let passed = probes.iter().filter(is_ordinary).filter(|p| p.seen.answered()).map(|p| p.seen.octets).max()?;
    let small_ones_vanish = probes.iter().any(|probe| {
        lacking(&probe.seen) && matches!(probe.role, ProbeRole::TlsaWithout | ProbeRole::Root | ProbeRole::Harmless)
    });
    // Unknown is only what is larger than anything that a canary has.
    let large_passes = probes.iter().any(|p| p.role == ProbeRole::Large && p.seen.reply == ProbeReply::Records);
    let exonerated = truth.octets.is_none() && large_passes;
    if small_ones_vanish || exonerated || larger_passes(probes) || truth.octets.is_some_and(|octets| passed >= octets) {
        return None;
    }
    // Cut to 512 octets it passes, whole it vanishes, and TCP has it.
    let cut = |probe: &DnsProbe| probe.seen.edns == Some(512) && probe.seen.reply == ProbeReply::Truncated;
    let cut_passes = line.with_role(ProbeRole::Subject).any(cut);
    let tcp_has_it =
        !lost.contains(&ProbeTransport::Tcp) && line.subject(ProbeTransport::Tcp).is_some_and(|s| s.answered());
    let one_large_vanishes = probes.iter().any(|p| p.role == ProbeRole::Large && lacking(&p.seen));
    let certainty = match (one_large_vanishes, cut_passes && tcp_has_it) {
        (true, _) => Certainty::Proven,
        (false, true) => Certainty::Likely,
        (false, false) => Certainty::Inconclusive,
    };
    Some((FilterKind::Size { passed, vanished: truth.octets }, certainty))
}

/// The large record of a canary zone is larger than any of its sets, and its five TLSA records
/// are smaller than its four: when the larger passes and the smaller vanishes, it is not the size.
fn larger_passes(probes: &[&DnsProbe]) -> bool {
    let any = |role: ProbeRole, is: fn(&ProbeResult) -> bool| {
        probes.iter().any(|probe| probe.role == role && is(&probe.seen))
    };
    let passes = |seen: &ProbeResult| seen.reply == ProbeReply::Records;
    let control_vanishes = probes.iter().any(|p| matches!(p.role, ProbeRole::Control(_)) && lacking(&p.seen));
    any(ProbeRole::Large, passes) && control_vanishes
        || any(ProbeRole::Control(4), passes) && any(ProbeRole::Control(5), lacking)
}
