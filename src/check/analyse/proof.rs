//! The smallest proof, and what to hand to another team (pure).

use super::line::{ServerProbes, tlsa_count, vanished};
use crate::check::evidence::{DnsProbe, Evidence, ProbeRole, Whom};
use crate::outcome::{Cause, Peer};
use crate::resolve::probe::{ProbeReply, ProbeResult, ProbeTransport};
use std::collections::BTreeMap;

/// Lines of a proof: what a reader takes in at a glance.
const LINES_LIMIT: usize = 8;
/// Single questions handed over: one for each transport, and one that passed.
const HAND_OVER_LIMIT: usize = 3;

/// What was seen of a failure, in the words of the table of causes.
pub(super) fn of_cause(cause: &Cause) -> Vec<String> {
    cause.evidence().into_iter().take(LINES_LIMIT).map(|(label, value)| format!("{label}: {value}")).collect()
}

/// TLSA records by transport, from none to the most, as one line saw them.
pub(super) fn counts(line: &ServerProbes<'_>, truth: Option<usize>) -> Vec<String> {
    let mut rows: BTreeMap<usize, [Option<&'static str>; 2]> = BTreeMap::new();
    for probe in &line.probes {
        let column = match probe.seen.transport {
            ProbeTransport::Udp if probe.seen.edns.is_some_and(|payload| payload > 512) => 0,
            ProbeTransport::Tcp => 1,
            ProbeTransport::Udp | ProbeTransport::Encrypted => continue,
        };
        let Some(count) = tlsa_count(probe, truth) else { continue };
        if let Some(cell) = rows.entry(count).or_default().get_mut(column) {
            *cell = Some(word(&probe.seen));
        }
    }
    let mut table = vec![format!("{:22}{:12}{}", "TLSA records", "UDP", "TCP")];
    let cell = |cell: Option<&'static str>| cell.unwrap_or("-");
    table.extend(rows.into_iter().map(|(count, [udp, tcp])| format!("{count:<22}{:12}{}", cell(udp), cell(tcp))));
    table.truncate(LINES_LIMIT);
    table
}

/// What became of a question, in a word.
pub(super) fn word(seen: &ProbeResult) -> &'static str {
    match &seen.reply {
        ProbeReply::Records | ProbeReply::NoData | ProbeReply::NxDomain => "answered",
        ProbeReply::Truncated => "truncated",
        ProbeReply::Silence => "vanished",
        ProbeReply::NoConnection(_) => "no connect",
        ProbeReply::ErrorCode(_) => "error",
        ProbeReply::Nonsense(_) => "nonsense",
    }
}

/// Every way the subject was asked on a line.
pub(super) fn ways(line: &ServerProbes<'_>) -> Vec<String> {
    line.with_role(ProbeRole::Subject).map(way).take(LINES_LIMIT).collect()
}

fn way(probe: &DnsProbe) -> String {
    let seen = &probe.seen;
    let how = match (seen.transport, seen.edns) {
        (ProbeTransport::Udp, Some(payload)) => format!("UDP, {payload} octets"),
        (ProbeTransport::Udp, None) => "UDP without EDNS".to_owned(),
        (ProbeTransport::Tcp, _) => "TCP".to_owned(),
        (ProbeTransport::Encrypted, _) => "encrypted".to_owned(),
    };
    format!("{how:22}{}", said(seen))
}

/// What was said, with its detail.
pub(in crate::check) fn said(seen: &ProbeResult) -> String {
    match &seen.reply {
        ProbeReply::Records => format!("{} records, {} octets", seen.records, seen.octets),
        ProbeReply::NoData => "no such record".to_owned(),
        ProbeReply::NxDomain => "no such name".to_owned(),
        ProbeReply::Truncated => "answered, truncated".to_owned(),
        ProbeReply::Silence => format!("no answer in {} ms", seen.took_ms),
        ProbeReply::NoConnection(detail) | ProbeReply::Nonsense(detail) => detail.clone(),
        ProbeReply::ErrorCode(code) => code.clone(),
    }
}

/// Who has the records, one line each.
pub(super) fn elsewhere(evidence: &Evidence) -> Vec<String> {
    let mut found: Vec<String> = Vec::new();
    let subject = evidence.dns.iter().filter(|probe| probe.role == ProbeRole::Subject);
    for probe in subject.filter(|probe| probe.seen.reply == ProbeReply::Records) {
        let by = match (probe.seen.transport, probe.whom) {
            (ProbeTransport::Encrypted, _) => "encrypted",
            (_, Whom::Authority) => "authoritative",
            (ProbeTransport::Udp | ProbeTransport::Tcp, Whom::Upstream | Whom::Reference) => "in clear",
        };
        let line = format!("{} records by {} ({by})", probe.seen.records, probe.server);
        if !found.contains(&line) {
            found.push(line);
        }
    }
    found.truncate(3);
    found
}

/// The questions that vanished, as a firewall's log has them.
pub(super) fn packets(line: &ServerProbes<'_>) -> Vec<String> {
    let mut told: Vec<ProbeTransport> = Vec::new();
    let mut lines = Vec::new();
    let of_interest = |probe: &&&DnsProbe| {
        !probe.seen.answered()
            && matches!(probe.role, ProbeRole::Subject | ProbeRole::Control(_) | ProbeRole::Known(_))
            && probe.seen.destination.is_some()
    };
    let mut probes: Vec<_> = line.probes.iter().filter(of_interest).collect();
    if probes.is_empty() {
        probes = line.probes.iter().filter(|probe| vanished(&probe.seen)).collect();
    }
    for probe in probes {
        if told.contains(&probe.seen.transport) || lines.len() >= HAND_OVER_LIMIT {
            continue;
        }
        told.push(probe.seen.transport);
        lines.push(packet(&probe.seen));
    }
    lines
}

fn packet(seen: &ProbeResult) -> String {
    let source = seen.source.map_or_else(|| "this host".to_owned(), |source| source.to_string());
    let destination = seen.destination.map(|to| to.to_string()).unwrap_or_default();
    let protocol = match seen.transport {
        ProbeTransport::Udp => "UDP",
        ProbeTransport::Tcp => "TCP",
        ProbeTransport::Encrypted => "TLS",
    };
    format!("{} {protocol} {source} -> {destination}, {}: {}", seconds(&seen.at.rfc3339()), seen.question, said(seen))
}

/// `2026-11-21T16:00:00Z`: milliseconds help nobody to find a line in a log.
pub(super) fn seconds(text: &str) -> String {
    text.split_once('.').map_or_else(|| text.to_owned(), |(seconds, _)| format!("{seconds}Z"))
}

/// The server a delivery failed at, with the time.
pub(super) fn peer(cause: &Cause, evidence: &Evidence) -> Vec<String> {
    let Some(peer) = peer_of(cause) else { return Vec::new() };
    let address = peer.address.to_string();
    let at = evidence.servers.iter().find(|server| server.address == address).map_or(evidence.at, |server| server.at);
    vec![format!("{} TCP this host -> {} ({})", seconds(&at.rfc3339()), peer.address, peer.host)]
}

/// With whom it went wrong, where it was with somebody.
fn peer_of(cause: &Cause) -> Option<&Peer> {
    if let Cause::NoRoute { peer, .. }
    | Cause::ConnectFailed { peer, .. }
    | Cause::TimedOut { peer, .. }
    | Cause::ConnectionLost { peer, .. }
    | Cause::ProtocolError { peer, .. }
    | Cause::PerhapsTaken { peer, .. }
    | Cause::Rejected { peer, .. }
    | Cause::StarttlsNotOffered { peer, .. }
    | Cause::StarttlsRefused { peer, .. }
    | Cause::TlsHandshake { peer, .. }
    | Cause::DaneMismatch { peer, .. }
    | Cause::CertificateRejected { peer, .. } = cause
    {
        return Some(peer);
    }
    None
}
