//! `relay check DOMAIN`: the story of a delivery, stopped before MAIL FROM.
//!
//! It finds out, decides and plans with the functions that deliver mail ([`Outbound`]) and speaks
//! to the servers with the same mailer; so its verdict is what a message would meet now. Exit
//! codes: 0 ok, 1 warning, 2 fault, 3 inconclusive.

pub mod analyse;
pub mod canary;
#[cfg(test)]
mod cause_tests;
mod certificate;
pub mod compare;
mod controls;
mod details;
pub mod evidence;
mod history;
mod opinions;
pub mod probes;
mod queue;
mod report;
pub mod selfcheck;
mod smtp;
mod text;

pub use report::{AddressReport, CheckReport, Fault, HostReport, StsReport, TlsaReport, Verdict};
pub use text::{Color, Detail};

use crate::clock::{Clock, Timestamp};
use crate::config::{Config, DnsMode};
use crate::deliver::driver::Probe;
use crate::deliver::{Planned, Target};
use crate::envelope::TlsRequest;
use crate::outcome::{Cause, DaneScope, PathFailure, Question, TlsVerdict};
use crate::pipeline::outbound::{Known, Outbound, SetupError, Thoroughness};
use crate::policy::sts::StsState;
use crate::policy::{TlsPolicy, dane};
use crate::resolve::answer::{Answer, Data, RecordType, Trace};
use crate::resolve::probe::Reply;
use crate::resolve::{MxHost, TlsaLookup};
use crate::route::{self, Route};
use crate::smtp::address::{Domain, Host};
use evidence::{
    CertificateEnd, Delivery, DnsProbe, Evidence, Opinion, Queue, Role, ServerSeen, TlsaCount, Troubled, Whom,
};
use futures_util::stream::{self, StreamExt as _};
use std::time::Duration;
use tokio::time::Instant;

/// How much is looked into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depth {
    /// What delivery would do.
    Delivery,
    /// And why, by probes of its own.
    Diagnosis,
}

/// Checks domains.
pub struct Checker {
    out: Outbound,
    depth: Depth,
}

/// Mail servers are waited for no longer than this for anything; delivery is more patient
/// (RFC 5321 §4.5.3.2), an administrator is not.
const PATIENCE: Duration = Duration::from_secs(4);
/// How long one server may take for one question, and a look-up over all paths: enough to go
/// through three silent ones, and to leave time for the probes within ten seconds.
const DNS_PATIENCE: Duration = Duration::from_millis(1500);
const LOOK_UP_PATIENCE: Duration = Duration::from_millis(5000);

/// Domains of the queue that are checked at once; whoever has more has one cause for many.
const QUEUED_LIMIT: usize = 200;
/// Checks side by side: each holds a handful of connections.
const SIDE_BY_SIDE: usize = 16;

struct Probed {
    step: Planned,
    probe: Option<Probe>,
}

impl Probed {
    fn failure(&self) -> Option<&Cause> {
        match (&self.step, &self.probe) {
            (Planned::Skip { cause, .. }, _) => Some(cause),
            (Planned::Try(_), Some(probe)) => probe.failure.as_ref(),
            (Planned::Try(_), None) => None,
        }
    }

    fn watched_failure(&self) -> Option<&Cause> {
        self.probe.as_ref()?.watched.as_ref()?.failure.as_ref()
    }

    /// The attempt, when it is one to this host.
    fn at(&self, host: &MxHost) -> Option<(&Target, &Probe)> {
        match (&self.step, &self.probe) {
            (Planned::Try(target), Some(probe)) if target.peer.host == host.name => Some((target, probe)),
            (Planned::Try(_) | Planned::Skip { .. }, _) => None,
        }
    }
}

impl Checker {
    /// A checker with the configuration that delivers mail, and the patience of a human.
    ///
    /// # Errors
    /// When the DNS side or the trusted roots cannot be set up.
    pub fn new(mut config: Config, clock: Clock) -> Result<Self, SetupError> {
        config.delivery.connect_timeout = config.delivery.connect_timeout.min(PATIENCE);
        config.delivery.reply_timeout = config.delivery.reply_timeout.min(PATIENCE);
        config.mta_sts.fetch_timeout = config.mta_sts.fetch_timeout.min(PATIENCE);
        config.dns.timeout = config.dns.timeout.min(DNS_PATIENCE);
        config.dns.deadline = config.dns.deadline.min(LOOK_UP_PATIENCE);
        let out = Outbound::for_command(config, clock)?;
        Ok(Self { out, depth: Depth::Diagnosis })
    }

    /// A checker over what a running relay delivers with: it finds out what delivery would do,
    /// and asks nothing that delivery does not.
    #[must_use]
    pub const fn over(out: Outbound) -> Self {
        Self { out, depth: Depth::Delivery }
    }

    /// Checks one domain.
    pub async fn check(&self, domain: &Domain) -> CheckReport {
        let (at, started) = (self.out.clock.now(), Instant::now());
        let config = &self.out.config;
        let route = route::route(&Host::Domain(domain.clone()), &config.destination, config.delivery.port);
        let seed = u64::try_from(at.0).unwrap_or(0);
        let known = self.out.find_out(&route, seed, Thoroughness::Everything).await;
        let troubled = troubled(&known);
        let subject = subject(&troubled);
        let (met, dns, opinions, aside) = tokio::join!(
            Box::pin(self.meet(&route, known)),
            Box::pin(self.probe_dns(subject.as_ref())),
            Box::pin(self.second_opinions(&troubled)),
            Box::pin(self.look_aside(domain)),
        );
        let met = if met.lacks_answers() && dns.iter().any(comes_after_all) {
            // The resolver was only slow, and delivery is more patient: now it has the answer.
            let known = self.out.find_out(&route, seed, Thoroughness::Everything).await;
            Box::pin(self.meet(&route, known)).await
        } else {
            met
        };
        let servers = match self.depth {
            Depth::Diagnosis => Box::pin(controls::look_closer(&self.out, met.servers(at))).await,
            Depth::Delivery => met.servers(at),
        };
        let evidence = Evidence {
            version: evidence::VERSION,
            domain: domain.to_string(),
            at,
            delivery: self.delivery(domain, &met),
            trust_ad: config.dns.mode == DnsMode::TrustAd,
            troubled,
            subject,
            dns,
            opinions,
            servers,
            queue: aside.queue,
            tlsrpt: aside.tlsrpt,
            took_ms: milliseconds(started.elapsed()),
        };
        self.report(domain, &route, &met, evidence)
    }

    /// Looks at this host itself.
    pub async fn look_at_self(&self) -> Vec<selfcheck::SelfCheck> {
        selfcheck::look(&self.out).await
    }

    /// The domains that mail waits for, most messages first.
    pub async fn queued(&self) -> Vec<Domain> {
        queue::domains(&self.out.config.spool.path, QUEUED_LIMIT).await
    }

    /// Checks many domains side by side; the reports stand in the order of the domains.
    pub async fn check_all(&self, domains: &[Domain]) -> Vec<CheckReport> {
        stream::iter(domains).map(|domain| self.check(domain)).buffered(SIDE_BY_SIDE).collect().await
    }

    /// What the servers do with us, up to MAIL FROM.
    async fn meet(&self, route: &Route, known: Result<Known, Cause>) -> Met {
        let known = match known {
            Ok(known) => known,
            Err(cause) => return Met { known: None, probed: Vec::new(), stopped: Some(cause) },
        };
        let probed = match self.probe_all(route, &known).await {
            Ok(probed) => probed,
            Err(cause) => return Met { known: Some(known), probed: Vec::new(), stopped: Some(cause) },
        };
        // As delivery does before a policy makes mail fail.
        if probed.iter().filter_map(Probed::failure).any(crate::policy::decide::sts_may_have_changed)
            && let Some(anew) = self.out.known_anew(route, &known).await
            && let Ok(again) = self.probe_all(route, &anew).await
        {
            return Met { known: Some(anew), probed: again, stopped: None };
        }
        Met { known: Some(known), probed, stopped: None }
    }

    async fn probe_dns(&self, subject: Option<&Question>) -> Vec<DnsProbe> {
        let (Some(subject), Depth::Diagnosis) = (subject, self.depth) else { return Vec::new() };
        let config = &self.out.config;
        let (references, canary) = (config.check.references.as_slice(), config.check.canary.as_ref());
        let known = history::read(&config.spool.path);
        let plan = probes::Plan { config, references, canary, known: &known, subject };
        // Servers that cannot be set up have stopped the checker before.
        probes::collect(&plan, &self.out.clock).await.unwrap_or_default()
    }

    /// Only about an answer that did not prove itself.
    async fn second_opinions(&self, troubled: &[Troubled]) -> Vec<Opinion> {
        let bogus = |failed: &PathFailure| failed.detail.starts_with("bogus");
        let unproven = troubled.iter().find(|t| t.answered_by.is_none() && t.failed.iter().any(bogus));
        let (Some(unproven), Depth::Diagnosis) = (unproven, self.depth) else { return Vec::new() };
        opinions::ask(&self.out.config, &unproven.question, &self.out.clock).await
    }

    /// What has no bearing on delivery.
    async fn look_aside(&self, domain: &Domain) -> Aside {
        if self.depth == Depth::Delivery {
            return Aside { queue: None, tlsrpt: None };
        }
        let owner = format!("_smtp._tls.{domain}");
        let (queue, (tlsrpt, _trace)) = tokio::join!(
            queue::waiting(&self.out.config.spool.path, domain),
            self.out.dns.lookup(&owner, RecordType::Txt)
        );
        Aside { queue, tlsrpt: text_record(&tlsrpt) }
    }

    async fn probe_all(&self, route: &Route, known: &Known) -> Result<Vec<Probed>, Cause> {
        let steps = self.out.plan(&route.hop, known, TlsRequest::ByPolicy)?;
        Ok(futures_util::future::join_all(steps.into_iter().map(|step| self.probe(step))).await)
    }

    async fn probe(&self, step: Planned) -> Probed {
        let probe = match &step {
            Planned::Try(target) => Some(self.out.mailer.probe(target).await),
            Planned::Skip { .. } => None,
        };
        Probed { step, probe }
    }

    fn delivery(&self, domain: &Domain, met: &Met) -> Delivery {
        let tlsa = met.known.iter().flat_map(|known| &known.resolution.hosts).filter_map(|host| match &host.tlsa {
            TlsaLookup::Present { base_domain, records } => {
                let name = format!("_{}._tcp.{base_domain}", self.out.config.delivery.port);
                Some(TlsaCount { name, records: records.len() })
            }
            TlsaLookup::Absent(_) | TlsaLookup::Unavailable(_) => None,
        });
        let tlsa = tlsa.collect();
        match (&met.known, &met.stopped) {
            (Some(known), None) => Delivery { tlsa, ..conclude(domain, known, &met.probed) },
            (_, stopped) => Delivery {
                delivers: false,
                sentence: stopped.as_ref().map(Cause::sentence).unwrap_or_default(),
                cause: stopped.clone(),
                watched: None,
                exception: None,
                tlsa,
            },
        }
    }

    fn report(&self, domain: &Domain, route: &Route, met: &Met, evidence: Evidence) -> CheckReport {
        let diagnosis = analyse::analyse(&evidence);
        let cause = evidence.delivery.cause.as_ref().or(evidence.delivery.watched.as_ref());
        let known = met.known.as_ref();
        let hosts = match (known, &met.stopped) {
            (Some(known), None) => {
                known.resolution.hosts.iter().map(|host| self.host_report(host, known, &met.probed)).collect()
            }
            (_, _) => Vec::new(),
        };
        CheckReport {
            version: evidence::VERSION,
            domain: domain.clone(),
            verdict: diagnosis.level,
            summary: evidence.delivery.sentence.clone(),
            fault: cause.map(Fault::from),
            next_hop: route.hop.to_string(),
            hosts_from: known.map(|known| known.resolution.hosts_from),
            mx_security: known.map(|known| known.resolution.mx_security),
            mta_sts: known.map(|known| sts_report(&known.sts)),
            level: known.and_then(|known| known.rule.level).map(crate::config::TlsLevel::word),
            exception: known.and_then(|known| known.rule.exception.clone()),
            notes: known.map(|known| notes(known, &met.probed)).unwrap_or_default(),
            hosts,
            dns: known.map(|known| known.resolution.traces.clone()).unwrap_or_default(),
            diagnosis,
            evidence,
        }
    }

    fn host_report(&self, host: &MxHost, known: &Known, probed: &[Probed]) -> HostReport {
        let mut policy = "none";
        let mut because = None;
        let mut references: &[Domain] = &[];
        let mut certificates: &[Vec<u8>] = &[];
        let mut addresses = Vec::new();
        for (target, probe) in probed.iter().filter_map(|probed| probed.at(host)) {
            policy = target.policy.word();
            match &target.policy {
                TlsPolicy::Dane(dane) => references = &dane.references,
                TlsPolicy::Opportunistic { because: why } => because = Some(why.word()),
                TlsPolicy::Off | TlsPolicy::Encrypt { .. } | TlsPolicy::WebPki { .. } => {}
            }
            if certificates.is_empty() {
                certificates = &probe.certificates;
            }
            addresses.push(address_report(target, probe));
        }
        let (tlsa_base_domain, tlsa) = self.tlsa_report(&host.tlsa, certificates, references);
        let skipped = probed.iter().find_map(|probed| match &probed.step {
            Planned::Skip { host: name, cause } if *name == host.name => Some(Fault::from(cause)),
            Planned::Skip { .. } | Planned::Try(_) => None,
        });
        let no_dane = match &host.tlsa {
            TlsaLookup::Absent(because) => Some(because.phrase()),
            TlsaLookup::Unavailable(_) | TlsaLookup::Present { .. } => None,
        };
        let listed = match &known.sts {
            StsState::Policy(policy) => Some(policy.allows(&host.name)),
            StsState::Absent(_) => None,
        };
        HostReport {
            name: host.name.clone(),
            preference: host.preference,
            security: host.security,
            policy,
            because,
            listed,
            no_dane,
            tlsa_base_domain,
            tlsa,
            addresses,
            skipped,
        }
    }

    fn tlsa_report(
        &self,
        tlsa: &TlsaLookup,
        certificates: &[Vec<u8>],
        references: &[Domain],
    ) -> (Option<String>, Vec<TlsaReport>) {
        let TlsaLookup::Present { base_domain, records } = tlsa else { return (None, Vec::new()) };
        let usable = dane::usable(records);
        let chain: Vec<&[u8]> = certificates.iter().map(Vec::as_slice).collect();
        let now = self.out.clock.now();
        let report = |record: &crate::resolve::TlsaRecord| TlsaReport {
            record: record.to_string(),
            usable: usable.contains(record),
            matched: usable.contains(record)
                && dane::verify(&chain, std::slice::from_ref(record), references, now).is_ok(),
        };
        (Some(base_domain.to_string()), records.iter().map(report).collect())
    }
}

fn address_report(target: &Target, probe: &Probe) -> AddressReport {
    AddressReport {
        address: target.peer.address.to_string(),
        tls: probe.tls.clone(),
        fault: probe.failure.as_ref().map(Fault::from),
        watched: probe.watched.as_ref().and_then(|watched| watched.failure.as_ref()).map(Fault::from),
        took_ms: milliseconds(probe.took),
    }
}

/// What the servers did with us.
struct Met {
    known: Option<Known>,
    probed: Vec<Probed>,
    /// The cause that stops all mail before any server is asked.
    stopped: Option<Cause>,
}

/// What has no bearing on delivery.
struct Aside {
    queue: Option<Queue>,
    tlsrpt: Option<String>,
}

impl Met {
    /// Whether a look-up had no answer in the time that a check gives it.
    fn lacks_answers(&self) -> bool {
        let unavailable = |cause: &Cause| matches!(cause, Cause::DnsUnavailable { .. });
        self.stopped.iter().chain(self.probed.iter().filter_map(Probed::failure)).any(unavailable)
    }

    fn servers(&self, at: Timestamp) -> Vec<ServerSeen> {
        let seen = |probed: &Probed| match (&probed.step, &probed.probe) {
            (Planned::Try(target), Some(probe)) => Some(server_seen(target, probe, at)),
            (Planned::Try(_) | Planned::Skip { .. }, _) => None,
        };
        self.probed.iter().filter_map(seen).collect()
    }
}

fn server_seen(target: &Target, probe: &Probe, at: Timestamp) -> ServerSeen {
    let end = match &probe.tls {
        Some(TlsVerdict::WebPki { .. }) => CertificateEnd::Counts,
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
        tls: matches!(
            probe.tls,
            Some(TlsVerdict::WebPki { .. } | TlsVerdict::Dane { .. } | TlsVerdict::Unauthenticated { .. })
        ),
        certificate: probe.certificates.first().and_then(|der| certificate::seen(der, end)),
    }
}

/// The answer that was missing, whole and signed, from a resolver that delivery asks.
fn comes_after_all(probe: &DnsProbe) -> bool {
    let is_ours = probe.whom == Whom::Upstream && probe.role == Role::Subject;
    is_ours && probe.seen.reply == Reply::Records && probe.seen.signed
}

/// The look-ups that some path failed for, those without any answer first.
fn troubled(known: &Result<Known, Cause>) -> Vec<Troubled> {
    let of_trace = |trace: &Trace| Troubled {
        question: trace.question.clone(),
        answered_by: trace.path.clone(),
        failed: trace.failed.clone(),
    };
    let mut troubled: Vec<Troubled> = match known {
        Ok(known) => known.resolution.traces.iter().filter(|trace| !trace.failed.is_empty()).map(of_trace).collect(),
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

/// The question that the probes are about: of those without an answer, the one for TLSA records.
fn subject(troubled: &[Troubled]) -> Option<Question> {
    troubled.first().map(|troubled| troubled.question.clone())
}

fn text_record(answer: &Answer) -> Option<String> {
    let Answer::Found(found) = answer else { return None };
    found.data.iter().find_map(|data| match data {
        Data::Txt(text) => Some(String::from_utf8_lossy(text).into_owned()).filter(|t| t.starts_with("v=TLSRPTv1")),
        Data::Address(_) | Data::Mx(..) | Data::Tlsa(_) => None,
    })
}

fn milliseconds(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

fn sts_report(sts: &StsState) -> StsReport {
    match sts {
        StsState::Absent(absent) => StsReport {
            mode: "absent",
            absent: Some(absent.phrase()),
            id: None,
            mx: Vec::new(),
            expires: None,
            refresh_failure: None,
        },
        StsState::Policy(policy) => StsReport {
            mode: policy.terms.mode.word(),
            absent: None,
            id: policy.id.as_ref().map(ToString::to_string),
            mx: policy.terms.mx.iter().map(ToString::to_string).collect(),
            expires: Some(policy.expires_at().rfc3339()),
            refresh_failure: policy.refresh_failure.as_ref().map(|failure| failure.sentence.clone()),
        },
    }
}

/// What is odd and stops no mail.
fn notes(known: &Known, probed: &[Probed]) -> Vec<String> {
    let StsState::Policy(policy) = &known.sts else { return Vec::new() };
    let unlisted = known.resolution.hosts.iter().filter(|host| {
        let by_dane = |(_, probe): (&Target, &Probe)| matches!(probe.tls, Some(TlsVerdict::Dane { .. }));
        !policy.allows(&host.name) && probed.iter().filter_map(|probed| probed.at(host)).any(by_dane)
    });
    let note = |host: &MxHost| {
        format!(
            "The MTA-STS policy does not list {}, but its certificate is right by DANE: DANE wins, and mail goes there. \
             Senders without DANE will refuse it.",
            host.name
        )
    };
    unlisted.map(note).collect()
}

fn conclude(domain: &Domain, known: &Known, probed: &[Probed]) -> Delivery {
    let bad = probed.iter().find_map(Probed::failure);
    let good = probed.iter().filter(|probed| probed.failure().is_none()).find_map(|probed| probed.probe.as_ref());
    let watched = probed.iter().find_map(Probed::watched_failure);
    let delivered = |probe: &Probe| format!("Mail for {domain} is delivered {}", how(probe, known));
    let exception = known.rule.exception.as_ref();
    let sentence = match (good, bad, watched, exception) {
        (Some(probe), Some(cause), _, _) => {
            format!("{}, but not by every server: {}", delivered(probe), cause.sentence())
        }
        (Some(probe), None, Some(cause), _) => {
            let how = delivered(probe);
            format!("{how}, but only because a policy is not enforced. Otherwise: {}", cause.sentence())
        }
        (Some(probe), None, None, Some(exception)) => {
            format!("{}, under an exception of the configuration: {exception}.", delivered(probe))
        }
        (Some(probe), None, None, None) => format!("{}.", delivered(probe)),
        (None, Some(cause), _, _) => format!("Mail for {domain} is not delivered now. {}", cause.sentence()),
        (None, None, _, _) => format!("The domain {domain} has no mail server to try."),
    };
    Delivery {
        delivers: good.is_some(),
        cause: bad.cloned(),
        watched: watched.filter(|_| bad.is_none()).cloned(),
        exception: exception.cloned(),
        sentence,
        tlsa: Vec::new(),
    }
}

/// How the connection is protected; nothing is claimed for the domain where its MX records are
/// not signed (RFC 7672 §2.2.1).
fn how(probe: &Probe, known: &Known) -> String {
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
        Some(TlsVerdict::Unauthenticated { version }) => {
            format!("over {version}, without authentication of the server")
        }
        Some(TlsVerdict::ClearText) | None => "in clear text".to_owned(),
    }
}
