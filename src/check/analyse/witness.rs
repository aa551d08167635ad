//! Who can vouch for a side by a way that has no part in what is suspected, and what to ask where
//! nobody can (pure).

use super::line::{ServerProbes, lines};
use super::{Certainty, Diagnosis};
use crate::check::canary::COUNTS;
use crate::check::evidence::{DnsProbe, Evidence, ProbeRole, ServerSeen, Whom};
use crate::outcome::Side;
use crate::resolve::probe::{ProbeReply, ProbeResult, ProbeTransport};

/// How sure it is that what a mail server said is its own: a control elsewhere speaks over the same
/// path and is well, or another address of the recipient does.
pub(super) fn of_mail_path(evidence: &Evidence) -> Certainty {
    let is_well = |server: &ServerSeen| server.cause.is_none() && server.tls;
    if evidence.servers.iter().any(is_well) { Certainty::Proven } else { Certainty::Likely }
}

/// How many TLSA records a name of the canary zone has.
pub(super) const fn expected(probe: &DnsProbe) -> Option<usize> {
    if let ProbeRole::Control(records) = probe.role { Some(records) } else { None }
}

/// Whether a name whose number of records is known came with fewer, or was denied.
pub(super) fn is_false(probe: &DnsProbe) -> bool {
    let denied = matches!(probe.seen.reply, ProbeReply::NoData | ProbeReply::NxDomain);
    let came =
        if denied { Some(0) } else { Some(probe.seen.records).filter(|_| probe.seen.reply == ProbeReply::Records) };
    expected(probe).zip(came).is_some_and(|(expected, came)| came < expected)
}

/// Whether the canary zone came through whole over a transport: every set there is, and over the
/// transports that only some are asked for, those.
pub(super) fn canary_is_whole(line: &ServerProbes<'_>) -> bool {
    let is_whole = |probe: &&&DnsProbe| {
        let seen = &probe.seen;
        seen.answered() && !is_false(probe)
    };
    let of_canary =
        |probe: &&&DnsProbe| matches!(probe.role, ProbeRole::Control(_) | ProbeRole::Addresses(_) | ProbeRole::Large);
    let complete = COUNTS.iter().all(|count| line.with_role(ProbeRole::Control(*count)).next().is_some());
    complete && line.probes.iter().filter(of_canary).all(|probe| is_whole(&probe))
}

/// Whether a canary in another zone came through whole by a resolver of ours: then no filter by
/// type, number or size stands on that way.
pub(super) fn canary_clears(evidence: &Evidence) -> bool {
    lines(evidence).iter().any(|line| line.whom == Whom::Upstream && canary_is_whole(line))
}

/// Whether somebody who is asked encrypted, and answers harmless questions, has no usable answer
/// to the question that matters either.
pub(super) fn fails_encrypted(lines: &[ServerProbes<'_>]) -> bool {
    let fails = |seen: Option<&ProbeResult>| seen.is_some_and(|seen| !seen.answered());
    // Another zone counts as well: this one may be dead as a whole.
    let again = |line: &ServerProbes<'_>| line.with_role(ProbeRole::Again).any(|probe| probe.seen.answered());
    let is_there = |line: &&ServerProbes<'_>| !line.is_clear() && (line.alive() || again(line));
    lines.iter().filter(is_there).any(|line| fails(line.subject(ProbeTransport::Encrypted)))
}

/// Whether the zone's own servers gave a usable answer in clear, over this transport.
pub(super) fn authority_has_it(lines: &[ServerProbes<'_>], over: ProbeTransport) -> bool {
    let has = |line: &ServerProbes<'_>| {
        line.whom == Whom::Authority && line.subject(over).is_some_and(|seen| seen.reply == ProbeReply::Records)
    };
    lines.iter().any(has)
}

/// The one command that would decide, by what is missing.
pub(super) fn decide(evidence: &Evidence, found: &Diagnosis) -> Option<String> {
    if found.certainty == Certainty::Proven {
        return None;
    }
    let domain = &evidence.domain;
    let words = || std::iter::once(&found.word).chain(&found.also);
    let is_of_dns = words().any(|word| word.contains("dns") || word.contains("tcp53") || word == "resolver-side");
    let has_canary = evidence.dns.iter().any(|probe| matches!(probe.role, ProbeRole::Control(_)));
    let has_reference = evidence.dns.iter().any(|probe| probe.whom == Whom::Reference);
    let has_control = evidence.servers.iter().any(|server| server.control);
    Some(match (is_of_dns, found.side) {
        (_, Some(Side::Here)) => return None,
        (true, _) if !has_canary => {
            format!("relay check {domain} --canary YOUR-ZONE (relay canary zonefile YOUR-ZONE)")
        }
        (true, _) if !has_reference => format!("relay check {domain} --reference tls://IP#NAME"),
        (false, _) if !has_control => format!("relay check {domain} --control MAIL-HOST-OF-OTHERS"),
        (_, _) => format!("relay check {domain} --save FILE on another network, then --compare FILE here"),
    })
}
