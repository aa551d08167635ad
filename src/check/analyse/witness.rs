//! Who can vouch for a side by a way that has no part in what is suspected, and what to ask where
//! nobody can (pure).

use super::line::{ServerProbes, lines};
use super::{Certainty, Diagnosis};
use crate::check::canary::COUNTS;
use crate::check::evidence::{DnsProbe, Evidence, OutsideCheck, ProbeRole, ServerSeen, Whom};
use crate::outcome::Side;
use crate::resolve::probe::{ProbeReply, ProbeResult, ProbeTransport};

/// How long what was seen elsewhere says anything about now, in milliseconds: a day.
const OUTSIDE_COUNTS_MS: i64 = 86_400_000;

/// What a check elsewhere has seen, while it is fresh.
pub(super) fn outside(evidence: &Evidence) -> Option<&OutsideCheck> {
    evidence.outside.as_ref().filter(|outside| (evidence.at.0 - outside.at.0).abs() <= OUTSIDE_COUNTS_MS)
}

/// The server at the same address as it was seen from elsewhere.
pub(super) fn from_outside<'a>(evidence: &'a Evidence, server: &ServerSeen) -> Option<&'a ServerSeen> {
    outside(evidence)?.servers.iter().find(|other| other.address == server.address)
}

/// How sure it is that what a mail server said is its own: a control elsewhere speaks over the same
/// path and is well, or another address of the recipient does; it shows a certificate of the public PKI,
/// which no box has; or it says the same to somebody elsewhere. It is not where it does otherwise there.
pub(super) fn of_mail_path(evidence: &Evidence) -> Certainty {
    let is_well = |server: &ServerSeen| server.cause.is_none() && server.tls;
    let failing = || evidence.servers.iter().filter(|server| !server.control && server.cause.is_some());
    let word = |server: &ServerSeen| server.cause.as_ref().map(|cause| cause.row().word);
    let certificate = |server: &ServerSeen| server.certificate.as_ref().map(|certificate| certificate.sha256.clone());
    let there = || failing().filter_map(|server| Some((server, from_outside(evidence, server)?)));
    let same = |(here, there): (&ServerSeen, &ServerSeen)| {
        word(here) == word(there) && certificate(here) == certificate(there)
    };
    if there().any(|(_, there)| is_well(there)) {
        return Certainty::Likely;
    }
    let public = failing().any(|server| server.certificate.as_ref().is_some_and(|certificate| certificate.public));
    let vouched = evidence.servers.iter().any(is_well) || public || there().any(same);
    if vouched { Certainty::Proven } else { Certainty::Likely }
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

/// Whether somebody whose way is not ours has no usable answer to the question that matters either:
/// who is asked encrypted and answers harmless questions, or a check elsewhere.
pub(super) fn fails_elsewhere(evidence: &Evidence, lines: &[ServerProbes<'_>]) -> bool {
    let subject = evidence.subject.as_ref();
    let outside = outside(evidence).is_some_and(|there| there.unanswered.iter().any(|asked| Some(asked) == subject));
    outside || fails_encrypted(lines)
}

fn fails_encrypted(lines: &[ServerProbes<'_>]) -> bool {
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
    if found.word == super::slow::WORD {
        return Some(format!("relay check {domain} --patient"));
    }
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
