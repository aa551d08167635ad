//! What the servers of a domain did with us up to MAIL FROM, and what follows from it for mail
//! (pure).

use super::certificate;
use super::evidence::{
    CertificateEnd, DeliveryForecast, DnsProbe, ProbeRole, ServerSeen, ShortPatience, Troubled, Whom,
};
use super::negotiated;
use super::report::ShownChain;
use crate::clock::Timestamp;
use crate::deliver::driver::{Mailer, Probe};
use crate::deliver::{Planned, Target};
use crate::outcome::{Cause, DaneScope, PathFailure, Question, TlsVerdict};
use crate::pipeline::outbound::RouteFacts;
use crate::resolve::answer::Trace;
use crate::resolve::probe::ProbeReply;
use crate::resolve::{HostsFrom, MxHost, Resolution};
use crate::smtp::address::Domain;

pub(super) struct ProbedServer {
    pub(super) step: Planned,
    pub(super) probe: Option<Probe>,
}

impl ProbedServer {
    pub(super) fn failure(&self) -> Option<&Cause> {
        match (&self.step, &self.probe) {
            (Planned::Skip { cause, .. }, _) => Some(cause),
            (Planned::Try(_), Some(probe)) => probe.failure.as_ref(),
            (Planned::Try(_), None) => None,
        }
    }

    /// What it showed of certificates; nothing where it was not spoken to.
    pub(super) fn chain(&self) -> Option<ShownChain> {
        match (&self.step, &self.probe) {
            (Planned::Try(target), Some(probe)) => Some(ShownChain {
                host: target.peer.host.clone(),
                address: target.peer.address.to_string(),
                certificates: probe.certificates.clone(),
            }),
            (Planned::Try(_) | Planned::Skip { .. }, _) => None,
        }
    }

    pub(super) fn watched_failure(&self) -> Option<&Cause> {
        self.probe.as_ref()?.watched.as_ref()?.failure.as_ref()
    }

    /// The attempt, when it is one to this host.
    pub(super) fn at(&self, host: &MxHost) -> Option<(&Target, &Probe)> {
        match (&self.step, &self.probe) {
            (Planned::Try(target), Some(probe)) if target.peer.host == host.name => Some((target, probe)),
            (Planned::Try(_) | Planned::Skip { .. }, _) => None,
        }
    }
}

/// What the servers did with us.
pub(super) struct Observation {
    pub(super) known: Option<RouteFacts>,
    pub(super) probed: Vec<ProbedServer>,
    /// The cause that stops all mail before any server is asked.
    pub(super) stopped: Option<Cause>,
}

impl Observation {
    /// Whether a look-up had no answer in the time that a check gives it.
    pub(super) fn lacks_answers(&self) -> bool {
        let unavailable = |cause: &Cause| {
            matches!(cause, Cause::DnsUnavailable { .. } | Cause::NextHopUnknown { question: Some(_), .. })
        };
        self.stopped.iter().chain(self.probed.iter().filter_map(ProbedServer::failure)).any(unavailable)
    }

    pub(super) fn servers(&self, mailer: &Mailer, at: Timestamp) -> Vec<ServerSeen> {
        let seen = |probed: &ProbedServer| match (&probed.step, &probed.probe) {
            (Planned::Try(target), Some(probe)) => {
                let mut seen = server_seen(target, probe, at);
                if let Some(certificate) = &mut seen.certificate {
                    certificate.sent = probe.certificates.len();
                    certificate.public = certificate::is_public(mailer, &target.peer.host, &probe.certificates, at);
                }
                Some(seen)
            }
            (Planned::Try(_) | Planned::Skip { .. }, _) => None,
        };
        self.probed.iter().filter_map(seen).collect()
    }
}

fn server_seen(target: &Target, probe: &Probe, at: Timestamp) -> ServerSeen {
    let end = match &probe.tls {
        Some(TlsVerdict::WebPki { .. } | TlsVerdict::WebPkiAndDane { .. }) => CertificateEnd::Counts,
        Some(TlsVerdict::Dane { matched, .. }) if matched.starts_with('2') => CertificateEnd::Counts,
        Some(TlsVerdict::Dane { .. } | TlsVerdict::Unauthenticated { .. } | TlsVerdict::ClearText) | None => {
            CertificateEnd::Ignored
        }
    };
    ServerSeen {
        host: target.peer.host.clone(),
        address: target.peer.address.to_string(),
        control: false,
        at,
        greeting: None,
        ehlo: Vec::new(),
        cause: probe.failure.clone(),
        tls: probe.tls.as_ref().is_some_and(|tls| tls.version().is_some()),
        negotiated: negotiated::of(probe),
        certificate: probe.certificates.first().and_then(|der| certificate::seen(der, end)),
        took_ms: super::milliseconds(probe.took),
    }
}

/// The answer that was missing, whole, from a resolver that delivery asks: it comes, and it takes longer
/// than a check waits at first.
pub(super) fn comes_after_all(probe: &DnsProbe) -> bool {
    let is_ours = probe.whom == Whom::Upstream && probe.role == ProbeRole::Subject && probe.seen.edns.is_some();
    is_ours
        && matches!(probe.seen.reply, ProbeReply::Records | ProbeReply::NoData | ProbeReply::NxDomain)
        && probe.seen.signed
}

/// Whether it was only our patience that ended.
fn is_impatience(cause: &Cause, short: Option<ShortPatience>) -> bool {
    short.is_some_and(|short| short.ended_with(cause))
}

/// What was waited for in vain, and how long delivery would wait.
fn slow(cause: &Cause, short: ShortPatience) -> String {
    let (waited, delivery) = (short.waited(), short.limit());
    let Cause::TimedOut { peer, phase } = cause else { return cause.sentence() };
    format!(
        "The mail server {peer} is slow: nothing came in {waited} while we were {}; delivery waits up to {delivery}.",
        phase.phrase()
    )
}

/// The look-ups that some path failed for, those without any answer first.
pub(super) fn troubled(known: &Result<RouteFacts, Cause>) -> Vec<Troubled> {
    let of_trace = |trace: &Trace| Troubled {
        question: trace.question.clone(),
        answered_by: trace.path.clone(),
        failed: trace.failed.clone(),
    };
    let mut troubled: Vec<Troubled> = match known {
        Ok(known) => {
            let is_trouble = |trace: &&Trace| !trace.failed.is_empty() && !is_another_view(trace, &known.resolution);
            known.resolution.traces.iter().filter(is_trouble).map(of_trace).collect()
        }
        Err(Cause::NextHopUnknown { question: Some(question), tried, .. }) if !tried.is_empty() => {
            vec![Troubled { question: question.clone(), answered_by: None, failed: tried.clone() }]
        }
        Err(Cause::NextHopUnknown { question: Some(question), detail, .. }) => {
            let said = PathFailure { upstream: "every path".to_owned(), detail: format!("bogus: {detail}") };
            vec![Troubled { question: question.clone(), answered_by: None, failed: vec![said] }]
        }
        Err(Cause::DnsUnavailable { question, tried }) => {
            vec![Troubled { question: question.clone(), answered_by: None, failed: tried.clone() }]
        }
        Err(Cause::DnsBogus { question, detail }) => {
            let said = PathFailure { upstream: "every path".to_owned(), detail: format!("bogus: {detail}") };
            vec![Troubled { question: question.clone(), answered_by: None, failed: vec![said] }]
        }
        Err(_) => Vec::new(),
    };
    troubled.sort_by_key(|t| (t.answered_by.is_some(), t.question.record_type != "TLSA"));
    troubled
}

/// A resolver inside has a view of its own of what the operator names, and another way has the
/// signed one: that is how it is meant.
fn is_another_view(trace: &Trace, resolution: &Resolution) -> bool {
    let is_bogus = |failure: &PathFailure| failure.detail.starts_with("bogus");
    resolution.hosts_from == HostsFrom::Configuration && trace.path.is_some() && trace.failed.iter().all(is_bogus)
}

/// The question that the probes are about: of those without an answer, the one for TLSA records.
pub(super) fn subject(troubled: &[Troubled]) -> Option<Question> {
    troubled.first().map(|troubled| troubled.question.clone())
}

pub(super) fn conclude(
    domain: &Domain,
    known: &RouteFacts,
    probed: &[ProbedServer],
    short: Option<ShortPatience>,
) -> DeliveryForecast {
    let failures = || probed.iter().filter_map(ProbedServer::failure);
    // What was seen to its end says more than what was not waited for.
    let bad = failures().find(|cause| !is_impatience(cause, short)).or_else(|| failures().next());
    let unseen = short.filter(|_| failures().any(|cause| is_impatience(cause, short)));
    let told = |cause: &Cause| match unseen {
        Some(short) => slow(cause, short),
        None => cause.sentence(),
    };
    let good = probed.iter().filter(|probed| probed.failure().is_none()).find_map(|probed| probed.probe.as_ref());
    let watched = probed.iter().find_map(ProbedServer::watched_failure);
    let delivered = |probe: &Probe| format!("Mail for {domain} is delivered {}", how(probe, known));
    let exception = known.rule.exception.as_ref();
    let sentence = match (good, bad, watched, exception) {
        (Some(probe), Some(cause), _, _) => {
            let (good, all) = (addresses(probed, |probed| probed.failure().is_none()), addresses(probed, |_| true));
            let count = if all > 1 { format!(" ({good} of {all} addresses are good)") } else { String::new() };
            format!("{}, but not by every server{count}: {}", delivered(probe), told(cause))
        }
        (Some(probe), None, Some(cause), _) => {
            let how = delivered(probe);
            format!("{how}, but only because a policy is not enforced: {}", cause.finding())
        }
        (Some(probe), None, None, Some(exception)) => {
            format!("{}, under an exception of the configuration: {exception}.", delivered(probe))
        }
        (Some(probe), None, None, None) => format!("{}.", delivered(probe)),
        (None, Some(_), _, _) if let Some(slow_one) = unseen_one(probed, short) => {
            format!("Whether mail for {domain} is delivered was not seen to its end. {}", told(slow_one))
        }
        (None, Some(cause), _, _) => format!("Mail for {domain} is not delivered now. {}", cause.sentence()),
        (None, None, _, _) => format!("The domain {domain} has no mail server to try."),
    };
    DeliveryForecast {
        delivers: good.is_some(),
        cause: bad.cloned(),
        watched: watched.filter(|_| bad.is_none()).cloned(),
        exception: exception.cloned(),
        sentence,
        tlsa: Vec::new(),
    }
}

/// A server that may yet take mail: it was not waited for to the end.
fn unseen_one(probed: &[ProbedServer], short: Option<ShortPatience>) -> Option<&Cause> {
    probed.iter().filter_map(ProbedServer::failure).find(|cause| is_impatience(cause, short))
}

fn addresses(probed: &[ProbedServer], is: impl Fn(&ProbedServer) -> bool) -> usize {
    probed.iter().filter(|probed| probed.probe.is_some() && is(probed)).count()
}

/// How the connection is protected; nothing is claimed for the domain where its MX records are
/// not signed (RFC 7672 §2.2.1).
fn how(probe: &Probe, known: &RouteFacts) -> String {
    match &probe.tls {
        Some(TlsVerdict::Dane { version, scope: DaneScope::Domain, .. }) => {
            format!("over {version} with a certificate that DANE vouches for")
        }
        Some(TlsVerdict::Dane { version, scope: DaneScope::Host, .. }) => format!(
            "over {version} to a host that DANE vouches for (not that it serves the domain: the MX records are {})",
            known.resolution.mx_security.word()
        ),
        Some(TlsVerdict::WebPki { version, host }) => {
            format!("over {version} with a certificate of a public authority for {host}")
        }
        Some(TlsVerdict::WebPkiAndDane { version, host, .. }) => format!(
            "over {version} with a certificate of a public authority for {host}, which the MTA-STS policy lists, and \
             that DANE vouches for, too"
        ),
        Some(TlsVerdict::Unauthenticated { version }) => {
            format!("over {version}, without authentication of the server")
        }
        Some(TlsVerdict::ClearText) | None => "in clear text".to_owned(),
    }
}
