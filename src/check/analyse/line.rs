//! One way to the DNS, as its probes show it (pure).

use crate::check::evidence::{DnsProbe, Evidence, ORDINARY_PAYLOAD, ProbeRole, Whom};
use crate::resolve::probe::{ProbeReply, ProbeResult, ProbeTransport};

/// All probes of one server, in their order.
pub(super) struct ServerProbes<'a> {
    pub(super) server: &'a str,
    pub(super) whom: Whom,
    pub(super) probes: Vec<&'a DnsProbe>,
}

/// The servers that were probed, in the order they were first asked.
pub(super) fn lines(evidence: &Evidence) -> Vec<ServerProbes<'_>> {
    let mut lines: Vec<ServerProbes<'_>> = Vec::new();
    for probe in &evidence.dns {
        match lines.iter_mut().find(|line| line.server == probe.server && line.whom == probe.whom) {
            Some(line) => line.probes.push(probe),
            None => lines.push(ServerProbes { server: &probe.server, whom: probe.whom, probes: vec![probe] }),
        }
    }
    lines
}

/// Whether a probe vanished on the way: neither an answer nor a server's word that it failed.
pub(super) const fn vanished(seen: &ProbeResult) -> bool {
    matches!(seen.reply, ProbeReply::Silence | ProbeReply::NoConnection(_))
}

/// How many TLSA records the answer to this question has; none when it is no TLSA question, or
/// nobody knows.
pub(super) fn tlsa_count(probe: &DnsProbe, truth: Option<usize>) -> Option<usize> {
    if probe.seen.question.record_type != "TLSA" {
        return None;
    }
    match probe.role {
        ProbeRole::TlsaWithout => Some(0),
        ProbeRole::Control(records) => Some(records),
        // They may have become others since; what came counts.
        ProbeRole::Known(_) if matches!(probe.seen.reply, ProbeReply::Records) => Some(probe.seen.records),
        ProbeRole::Known(_) if probe.seen.answered() => None,
        ProbeRole::Known(records) => Some(records),
        ProbeRole::Subject => truth,
        ProbeRole::Root | ProbeRole::Harmless | ProbeRole::Addresses(_) | ProbeRole::Large | ProbeRole::Again => None,
    }
}

impl<'a> ServerProbes<'a> {
    pub(super) fn is_clear(&self) -> bool {
        self.probes.iter().any(|probe| probe.seen.transport != ProbeTransport::Encrypted)
    }

    pub(super) fn over(&self, transport: ProbeTransport) -> impl Iterator<Item = &'a DnsProbe> + '_ {
        self.probes.iter().copied().filter(move |probe| probe.seen.transport == transport)
    }

    pub(super) fn with_role(&self, role: ProbeRole) -> impl Iterator<Item = &'a DnsProbe> + '_ {
        self.probes.iter().copied().filter(move |probe| probe.role == role)
    }

    /// The subject as it is asked ordinarily over a transport.
    pub(super) fn subject(&self, transport: ProbeTransport) -> Option<&'a ProbeResult> {
        let ordinary = |probe: &&DnsProbe| {
            probe.seen.transport == transport
                && (transport != ProbeTransport::Udp || probe.seen.edns == Some(ORDINARY_PAYLOAD))
        };
        self.with_role(ProbeRole::Subject).find(ordinary).map(|probe| &probe.seen)
    }

    /// Whether anything harmless was answered.
    pub(super) fn alive(&self) -> bool {
        let harmless =
            |probe: &&&DnsProbe| matches!(probe.role, ProbeRole::Root | ProbeRole::Harmless | ProbeRole::TlsaWithout);
        self.probes.iter().filter(harmless).any(|probe| probe.seen.answered())
    }

    /// Whether harmless questions were answered at first and not at the end: an outage in the
    /// middle of the check, after which silence means nothing.
    pub(super) fn went_away(&self) -> bool {
        let mut again = self.with_role(ProbeRole::Again).peekable();
        self.alive() && again.peek().is_some() && again.all(|probe| vanished(&probe.seen))
    }

    /// Whether the subject has no usable answer here, over UDP, TCP or both.
    pub(super) fn subject_fails(&self) -> bool {
        let fails = |transport| self.subject(transport).is_some_and(|seen| !seen.answered());
        fails(ProbeTransport::Udp) || fails(ProbeTransport::Tcp) || fails(ProbeTransport::Encrypted)
    }

    /// The subject's records as this line brings them.
    pub(super) fn subject_records(&self) -> Option<&'a ProbeResult> {
        self.with_role(ProbeRole::Subject).map(|probe| &probe.seen).find(|seen| seen.reply == ProbeReply::Records)
    }
}
